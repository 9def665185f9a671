//! `deploy/agent.sh` under the shells that hosts have, against a coordinator
//! over TLS. What only FreeBSD has is played by scripts that come first in
//! PATH.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use farol_tests::{Site, signed::Client};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::QUIET;

/// A shell and its first arguments.
type Shell = &'static [&'static str];
const SHELLS: [Shell; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"]];

fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The shells that are here; it is printed which are not.
fn shells() -> Vec<Shell> {
    let (here, absent): (Vec<Shell>, Vec<Shell>) = SHELLS.into_iter().partition(|shell| which(shell[0]).is_some());
    for shell in absent {
        eprintln!("skipped: {} is not installed", shell[0]);
    }
    assert!(!here.is_empty(), "no shell to test with");
    here
}

/// An installed agent.
struct Installed {
    folder: PathBuf,
    stand_ins: PathBuf,
}

impl Installed {
    fn new(site: &Site, client: &Client, name: &str, more: &str) -> Self {
        let folder = site.folder().join(name);
        let stand_ins = folder.join("bin");
        std::fs::create_dir_all(&stand_ins).unwrap();
        let installed = Self { folder, stand_ins };
        installed.write("ca.pem", &client.ca, 0o644);
        installed.write("secret", &format!("{}\n", client.secret), 0o600);
        let configuration = format!(
            "# written by the test\nurl=https://{}\nkey={}\nsecret_file={}\nca_file={}\nhostname=vm112\nspool_dir={}\n{more}",
            site.southbound(),
            client.key,
            installed.folder.join("secret").display(),
            installed.folder.join("ca.pem").display(),
            installed.spool().display(),
        );
        installed.write("agent.conf", &configuration, 0o600);
        installed
    }

    fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    fn waiting(&self) -> usize {
        let entries = std::fs::read_dir(self.spool()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "json")).count()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A script that is found instead of a program.
    fn stand_in(&self, program: &str, script: &str) {
        self.write(&format!("bin/{program}"), &format!("#!/bin/sh\n{script}\n"), 0o755);
    }

    fn command(&self, shell: Shell, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/agent.sh");
        let mut command = Command::new(which(shell[0]).unwrap());
        let path = std::env::var("PATH").unwrap();
        command
            .args(&shell[1..])
            .arg(script)
            .arg("--config")
            .arg(self.folder.join("agent.conf"))
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.stand_ins.display()))
            .kill_on_drop(true);
        command
    }

    async fn run(&self, shell: Shell, arguments: &[&str]) -> Output {
        self.command(shell, arguments).output().await.unwrap()
    }

    async fn succeeds(&self, shell: Shell, arguments: &[&str]) -> String {
        let output = self.run(shell, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell:?} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn fails(&self, shell: Shell, arguments: &[&str], code: i32) -> String {
        let output = self.run(shell, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{shell:?} {arguments:?}: {said}");
        said
    }
}

async fn host(site: &Site) -> Value {
    site.api().get("/api/v1/hosts/vm112").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_checks_posts_and_shows_its_secret_to_no_other_program() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    for (n, shell) in shells().into_iter().enumerate() {
        let agent = Installed::new(&site, &client, &format!("agent{n}"), "");
        let seen = agent.folder.join("arguments");
        for program in ["openssl", "curl", "awk", "sed", "cat", "tr", "head"] {
            let real = which(program).unwrap();
            let script =
                format!("echo \"$0 $*\" >> '{0}'; env >> '{0}'; exec '{1}' \"$@\"", seen.display(), real.display());
            agent.stand_in(program, &script);
        }
        let said = agent.succeeds(shell, &["--check"]).await;
        assert!(said.contains("knows this key; 0 readings wait"), "{said}");
        agent.succeeds(shell, &["--once"]).await;
        assert_eq!(agent.waiting(), 0);

        let arguments = std::fs::read_to_string(&seen).unwrap();
        assert!(arguments.contains("dgst -sha256"), "the stand-ins were not used");
        assert!(!arguments.contains(&client.secret), "the secret is an argument or in the environment");

        let host = host(&site).await;
        assert_eq!(host["received"], n + 1, "{shell:?}");
        assert!(host["metrics"]["load"][0].is_number(), "{host}");
        assert!(host["metrics"]["memory"]["total"].as_u64().unwrap() > 1 << 20);
        assert!(host["metrics"]["uptime_seconds"].as_u64().unwrap() > 0);
        assert_ne!(host["metrics"]["texts"]["processes"], "");
        assert_eq!(host["state"], "online");
        // The next reading has another second, and so another identity.
        tokio::time::timeout(std::time::Duration::from_secs(5), another_second()).await.unwrap();
    }
}

/// Readings carry whole seconds.
async fn another_second() {
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    farol_tests::wait_until("the next second", std::time::Duration::from_secs(5), async || {
        Ok((second() > now).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_took_while_the_coordinator_was_away_comes_later_with_its_own_times() {
    for shell in shells() {
        let mut site = Site::start(QUIET, &[]).await.unwrap();
        let client = Client::new(&site, "vm112").await.unwrap();
        let agent = Installed::new(&site, &client, "agent", "spool_max=3\nburst=2\n");
        site.stop_coordinator().await.unwrap();
        // A clock that the test moves, an hour ago to begin with.
        let clock = agent.folder.join("clock");
        let real = which("date").unwrap();
        agent.stand_in("date", &format!("exec '{}' -d \"@$(cat '{}')\" \"$@\"", real.display(), clock.display()));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let at = |seconds: u64| std::fs::write(&clock, (now - 200 + seconds).to_string()).unwrap();
        for n in 0..5 {
            at(n * 30);
            let said = agent.fails(shell, &["--once"], 1).await;
            assert!(said.contains("a reading waits: no answer (000)"), "{said}");
            assert_eq!(said.contains("the spool is full: 1 readings"), n >= 3, "{said}");
        }
        assert_eq!(agent.waiting(), 3);

        site.start_coordinator().await.unwrap();
        at(200);
        agent.succeeds(shell, &["--once"]).await;
        assert_eq!(agent.waiting(), 1, "more than the burst was sent, or the newest was not kept");
        assert_eq!(host(&site).await["received"], 2);
        let oldest_first = host(&site).await["metrics_at"].clone();
        let seconds = |value: &Value| value.as_str().unwrap().to_owned();
        at(230);
        agent.succeeds(shell, &["--once"]).await;
        let newest = host(&site).await;
        assert_eq!(newest["received"], 4);
        assert!(seconds(&newest["metrics_at"]) > seconds(&oldest_first));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_an_hour_off_is_told_and_the_reading_is_taken() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    for (n, shell) in shells().into_iter().enumerate() {
        let agent = Installed::new(&site, &client, &format!("agent{n}"), "");
        let real = which("date").unwrap();
        agent.stand_in("date", &format!("exec '{}' -d '-{} seconds' \"$@\"", real.display(), 3600 + n * 10));
        let said = agent.fails(shell, &["--check"], 1).await;
        assert!(said.contains("this clock is wrong"), "{said}");
        let output = agent.run(shell, &["--once"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("behind the coordinator's; correct it"), "{said}");
        assert_eq!(host(&site).await["received"], n + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn freebsd_is_read_through_its_own_programs() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    for (n, shell) in shells().into_iter().enumerate() {
        let north = site.api().base();
        let more = format!("url={north}\nca_file=\ntransport=curl\n");
        let agent = Installed::new(&site, &client, &format!("agent{n}"), &more);
        agent.stand_in("uname", "echo FreeBSD");
        agent.stand_in(
            "sysctl",
            r#"shift
for name; do case $name in
    vm.loadavg) echo "{ 0.31 0.27 0.25 }" ;;
    hw.physmem) echo 4294967296 ;;
    hw.pagesize) echo 4096 ;;
    vm.stats.vm.v_free_count) echo 1000 ;;
    vm.stats.vm.v_inactive_count) echo 24 ;;
    kern.boottime) echo "{ sec = 1700000000, usec = 1 } Tue Nov 14 22:13:20 2023" ;;
    *) exit 1 ;;
esac; done"#,
        );
        // `ss` is not FreeBSD's: found, it would be asked before `netstat`.
        agent.stand_in("ss", "echo 'tcp:\t\"4\" connections \\o/'");
        agent.stand_in(
            "df",
            "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'
             echo 'zroot/ROOT/default 1000 400 600 40% /'; echo 'devfs 1 1 0 100% /dev'",
        );
        agent.succeeds(shell, &["--once"]).await;
        let metrics = host(&site).await["metrics"].clone();
        assert_eq!(metrics["load"], json!([0.31, 0.27, 0.25]), "{shell:?}: {metrics}");
        assert_eq!(metrics["memory"], json!({"total": 4_294_967_296_u64, "used": 4_294_967_296_u64 - 1024 * 4096}));
        assert_eq!(metrics["disks"], json!([{"mount": "/", "total": 1_024_000, "used": 409_600}]));
        assert_eq!(metrics["texts"]["netstat"], "tcp:\t\"4\" connections \\o/");
        assert!(metrics["uptime_seconds"].as_u64().unwrap() > 1_000_000);
        another_second().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_named_and_nothing_is_sent_to_a_stranger() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let stranger = Site::start(QUIET, &[]).await.unwrap();
    let other = Client::new(&stranger, "vm112").await.unwrap();
    for (n, shell) in shells().into_iter().enumerate() {
        let agent = Installed::new(&site, &client, &format!("agent{n}"), "");
        let said = agent.fails(shell, &["--onec"], 2).await;
        assert!(said.contains("--once"), "{said}");
        agent.write("ca.pem", &other.ca, 0o644);
        let said = agent.fails(shell, &["--check"], 1).await;
        assert!(said.contains("no answer") && said.contains("verif"), "{said}");
        agent.write("ca.pem", &client.ca, 0o644);
        agent.write("secret", &other.secret, 0o600);
        assert!(agent.fails(shell, &["--check"], 1).await.contains("bad_signature"));
        agent.write("secret", &client.secret, 0o644);
        assert!(agent.fails(shell, &["--check"], 2).await.contains("chmod 600"));
        agent.write("secret", "short", 0o600);
        let said = agent.fails(shell, &["--check"], 2).await;
        assert!(said.contains("64 hexadecimal digits"), "{said}");
        agent.write("secret", &client.secret, 0o600);
        for (line, wanted) in [
            ("intervall=5", "`intervall` is not a setting"),
            ("interval=0", "`interval` is not a number"),
            ("url=http://10.0.0.1", "without TLS only this machine"),
            ("url=https://h$(id)", "`url` is https"),
            ("key=a b", "`key` is the id"),
            ("nonsense", "is not name=value"),
        ] {
            let configuration = std::fs::read_to_string(agent.folder.join("agent.conf")).unwrap();
            agent.write("agent.conf", &format!("{configuration}{line}\n"), 0o600);
            let said = agent.fails(shell, &["--check"], 2).await;
            assert!(said.contains(wanted), "{line}: {said}");
            agent.write("agent.conf", &configuration, 0o600);
        }
        agent.succeeds(shell, &["--check"]).await;
    }
    assert_eq!(host(&site).await["received"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_poses_as_the_coordinator_is_told_nothing() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let captured = site.enrol("vm123", None).await.unwrap();
    let identity = |name: &str| captured.state_dir().join("identity").join(name);
    let address = farol_tests::site::free_address().await.unwrap();
    let mut poser = Command::new(which("openssl").unwrap());
    poser.args(["s_server", "-quiet", "-accept", &address.to_string()]);
    poser.arg("-cert").arg(identity("cert.pem")).arg("-cert_chain").arg(identity("cert.pem"));
    poser.arg("-key").arg(identity("key.pem"));
    let _poser = poser
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    farol_tests::wait_until("it to listen", farol_tests::site::PATIENCE, async || {
        Ok(tokio::net::TcpStream::connect(address).await.ok())
    })
    .await
    .unwrap();
    for (n, shell) in shells().into_iter().enumerate() {
        let agent = Installed::new(&site, &client, &format!("agent{n}"), &format!("url=https://{address}\n"));
        let said = agent.fails(shell, &["--check"], 1).await;
        assert!(said.contains("no answer") && said.contains("purpose"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_a_daemon_it_posts_at_its_interval_and_ends_when_it_is_told_to() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let client = Client::new(&site, "vm112").await.unwrap();
    let shell = shells()[0];
    let agent = Installed::new(&site, &client, "agent", "interval=1\n");
    let mut daemon = farol_tests::process::Process::spawn("agent.sh", &mut agent.command(shell, &[])).unwrap();
    farol_tests::wait_until("three readings", farol_tests::site::PATIENCE, async || {
        Ok((host(&site).await["received"].as_i64() >= Some(3)).then_some(()))
    })
    .await
    .unwrap();
    let said = agent.fails(shell, &["--once"], 1).await;
    assert!(said.contains("another one"), "{said}");
    daemon.stop(std::time::Duration::from_secs(10)).await.unwrap();
    agent.succeeds(shell, &["--once"]).await;
}
