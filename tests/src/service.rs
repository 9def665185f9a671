//! Real services as Debian packages them, each in a folder and on a port of
//! loopback of its own, that end with their owner.
//!
//! A function answers none, and says so on standard error, where its program
//! is not installed: `cargo xtask test` installs them all.

use std::{
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    process::{self, text},
    site::free_address,
    wait::wait_until,
};

/// Longest wait for a service to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(45);

/// A running service.
pub struct Service {
    name: &'static str,
    folder: TempDir,
    address: SocketAddr,
    child: Child,
    /// Where it writes its process id, if it is another than the child's.
    pid_file: Option<PathBuf>,
    /// How it ends soonest without losing anything.
    signal: Signal,
}

impl Service {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.ask_to_end()?;
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            bail!("{} did not end by itself", self.name);
        }
        let address = self.address;
        wait_until(&format!("{} to leave its port", self.name), PATIENCE, async || {
            Ok(TcpStream::connect(address).await.is_err().then_some(()))
        })
        .await
    }

    fn ask_to_end(&self) -> Result<()> {
        let of_file = self.pid_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let id = match of_file {
            Some(text) => Some(text.trim().parse()?),
            None => self.child.id().map(i32::try_from).transpose()?,
        };
        if let Some(pid) = id.and_then(Pid::from_raw) {
            kill_process(pid, self.signal).with_context(|| format!("end {}", self.name))?;
        }
        Ok(())
    }

    /// Starts `command` and waits until `answers` says yes.
    async fn start(
        name: &'static str,
        folder: TempDir,
        address: SocketAddr,
        command: &mut Command,
        answers: impl AsyncFn() -> bool,
    ) -> Result<Self> {
        let log = std::fs::File::create(folder.path().join("service.log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let service = Self { name, folder, address, child, pid_file: None, signal: Signal::TERM };
        let up = wait_until(&format!("{name} to answer"), PATIENCE, async || Ok(answers().await.then_some(()))).await;
        if let Err(error) = up {
            let log = std::fs::read_to_string(service.folder().join("service.log")).unwrap_or_default();
            return Err(error.context(log));
        }
        Ok(service)
    }
}

/// Its children end with it only if it is asked, not killed.
impl Drop for Service {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            // Nobody is left who could be told.
            let _ended = self.ask_to_end();
        }
    }
}

fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("farol-service-").tempdir()?;
    // Services run as users of their own.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Finds a program; says loudly that it is missing.
fn found(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {program} is not installed, so nothing is tried with it; `cargo xtask test` installs it");
    }
    found
}

async fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

async fn is_200(url: &str) -> bool {
    farol_pki::install_default_provider();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy().build();
    match client {
        Ok(client) => client.get(url).send().await.is_ok_and(|answer| answer.status() == 200),
        Err(_) => false,
    }
}

/// A certificate that signs itself, with its key.
#[derive(Debug, Clone)]
pub struct SelfSigned {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// `sha256:` and 64 hexadecimal digits.
    pub pin: String,
}

/// Makes a certificate for loopback that is valid for `days`.
///
/// # Errors
/// openssl failed.
pub async fn self_signed(folder: &Path, days: u32) -> Result<SelfSigned> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    process::output(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-days",
        &days.to_string(),
        "-keyout",
        &text(&key),
        "-out",
        &text(&certificate),
    ]))
    .await?;
    let printed = process::output(Command::new("openssl").args([
        "x509",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-in",
        &text(&certificate),
    ]))
    .await?;
    let digits = printed.trim().split_once('=').context("no fingerprint")?.1.replace(':', "").to_ascii_lowercase();
    Ok(SelfSigned { certificate, key, pin: format!("sha256:{digits}") })
}

/// PostgreSQL with the superuser `postgres`, whose password is `password`. With
/// TLS where `tls` is set, in files `cert.pem` and `key.pem` of its folder.
///
/// # Errors
/// It does not come up.
pub async fn postgres(password: &str, tls: bool) -> Result<Option<(Service, Option<SelfSigned>)>> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin")).filter(|path| path.join("initdb").exists()).max();
    let Some(bin) = newest else {
        eprintln!("SKIPPED: PostgreSQL is not installed, so nothing is tried with it; `cargo xtask test` installs it");
        return Ok(None);
    };
    let folder = folder()?;
    let address = free_address().await?;
    std::fs::write(folder.path().join("password"), password)?;
    let certificate = if tls { Some(self_signed(folder.path(), 30).await?) } else { None };
    let owner = owner("postgres").await?;
    for entry in std::fs::read_dir(folder.path())? {
        own(&entry?.path(), owner)?;
    }
    own(folder.path(), owner)?;
    let data = folder.path().join("data");
    let mut initdb = as_user("postgres", &bin.join("initdb"));
    process::output(
        initdb
            .args(["--no-sync", "--auth", "scram-sha-256", "--username", "postgres", "--pgdata", &text(&data)])
            .arg("--pwfile")
            .arg(folder.path().join("password"))
            .current_dir(folder.path()),
    )
    .await?;
    let mut server = as_user("postgres", &bin.join("postgres"));
    server.current_dir(folder.path()).args([
        "-D",
        &text(&data),
        "-p",
        &address.port().to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        &format!("unix_socket_directories={}", folder.path().display()),
        "-c",
        "fsync=off",
        "-c",
        "max_connections=20",
    ]);
    if let Some(certificate) = &certificate {
        server.args(["-c", "ssl=on"]);
        server.arg("-c").arg(format!("ssl_cert_file={}", certificate.certificate.display()));
        server.arg("-c").arg(format!("ssl_key_file={}", certificate.key.display()));
    }
    let is_ready = bin.join("pg_isready");
    let port = address.port().to_string();
    let mut service = Service::start("PostgreSQL", folder, address, &mut server, async || {
        let mut ready = Command::new(&is_ready);
        process::output(ready.args(["-h", "127.0.0.1", "-p", &port, "-q"])).await.is_ok()
    })
    .await?;
    // Fast: without waiting for those who are still connected.
    service.signal = Signal::INT;
    Ok(Some((service, certificate)))
}

/// Runs SQL as the superuser of [`postgres`].
///
/// # Errors
/// It fails.
pub async fn psql(service: &Service, password: &str, sql: &str) -> Result<String> {
    process::output(psql_command(service, password, sql)?.env("PGCONNECT_TIMEOUT", "10")).await
}

/// The same, to be run beside something else.
///
/// # Errors
/// There is no `psql`.
pub fn psql_command_of(service: &Service, password: &str, sql: &str) -> Result<Command> {
    let mut command = Command::new("");
    std::mem::swap(&mut command, psql_command(service, password, sql)?.kill_on_drop(true));
    Ok(command)
}

fn psql_command(service: &Service, password: &str, sql: &str) -> Result<Command> {
    let mut command = Command::new(found("psql").context("psql")?);
    command
        .args(["-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .args(["-p", &service.address().port().to_string(), "-c", sql])
        .env("PGPASSWORD", password);
    Ok(command)
}

/// Redis with a password.
///
/// # Errors
/// It does not come up.
pub async fn redis(password: &str) -> Result<Option<Service>> {
    let Some(program) = found("redis-server") else { return Ok(None) };
    let (folder, address) = (folder()?, free_address().await?);
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--dir", &text(folder.path())]);
    command.args(["--requirepass", password, "--daemonize", "no"]);
    Service::start("Redis", folder, address, &mut command, async || accepts(address).await).await.map(Some)
}

/// Postfix that speaks SMTP with STARTTLS, by a certificate valid for `days`.
///
/// # Errors
/// It does not come up.
pub async fn postfix(days: u32) -> Result<Option<(Service, SelfSigned)>> {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: Postfix starts as root only, so nothing is tried with it");
        return Ok(None);
    }
    let Some(program) = found("postfix") else { return Ok(None) };
    let (folder, address) = (folder()?, free_address().await?);
    let root = folder.path();
    for name in ["conf", "queue", "data"] {
        std::fs::create_dir(root.join(name))?;
    }
    own(&root.join("data"), owner("postfix").await?)?;
    let certificate = self_signed(&root.join("conf"), days).await?;
    let shown = root.display();
    std::fs::write(
        root.join("conf/main.cf"),
        format!(
            "compatibility_level = 3.6
queue_directory = {shown}/queue
data_directory = {shown}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.farol.test
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_tls_security_level = may
smtpd_tls_cert_file = {}
smtpd_tls_key_file = {}
maillog_file = {shown}/mail.log
maillog_file_prefixes = {shown}
",
            certificate.certificate.display(),
            certificate.key.display()
        ),
    )?;
    std::fs::write(
        root.join("conf/master.cf"),
        format!(
            "{address} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-c").arg(root.join("conf")).arg("start-fg");
    let pid_file = root.join("queue/pid/master.pid");
    let mut service = Service::start("Postfix", folder, address, &mut command, async || accepts(address).await).await?;
    service.pid_file = Some(pid_file);
    Ok(Some((service, certificate)))
}

/// Docker's engine over TCP, with an image `tiny` of busybox alone.
///
/// # Errors
/// It does not come up.
pub async fn docker() -> Result<Option<Service>> {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: dockerd starts as root only, so nothing is tried with it");
        return Ok(None);
    }
    let (Some(program), Some(_), Some(busybox)) = (found("dockerd"), found("docker"), found("busybox")) else {
        return Ok(None);
    };
    let (folder, address) = (folder()?, free_address().await?);
    let root = folder.path().to_owned();
    let mut command = Command::new(program);
    command.arg("--data-root").arg(root.join("data")).arg("--exec-root").arg(root.join("exec"));
    command.arg("--pidfile").arg(root.join("pid")).args(["-H", &format!("tcp://{address}"), "--tls=false"]);
    // Nothing of the machine's network is touched.
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
    let url = format!("http://{address}/version");
    let started = Service::start("dockerd", folder, address, &mut command, async || is_200(&url).await).await;
    let service = match started {
        Ok(service) => service,
        Err(error) => {
            eprintln!("SKIPPED: dockerd cannot start here, so nothing is tried with it: {error:#}");
            return Ok(None);
        }
    };
    image(&service, &busybox).await?;
    Ok(Some(service))
}

/// Runs the command line of Docker against [`docker`].
///
/// # Errors
/// It fails.
pub async fn docker_cli(service: &Service, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    process::output(command.args(["-H", &format!("tcp://{}", service.address())]).args(arguments)).await
}

/// busybox with the libraries that it wants, if it wants any.
async fn image(service: &Service, busybox: &Path) -> Result<()> {
    let (image, archive) = (service.folder().join("image"), service.folder().join("image.tar"));
    let mut files = vec![std::fs::canonicalize(busybox)?];
    let needs = Command::new("ldd").arg(busybox).stderr(Stdio::null()).output().await?;
    let needs = String::from_utf8_lossy(&needs.stdout).into_owned();
    files.extend(needs.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    for file in files {
        let at = image.join(file.strip_prefix("/")?);
        std::fs::create_dir_all(at.parent().context("no folder")?)?;
        std::fs::copy(&file, &at)?;
    }
    std::fs::create_dir_all(image.join("bin"))?;
    std::fs::copy(busybox, image.join("bin/busybox"))?;
    process::output(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&archive).arg(".")).await?;
    docker_cli(service, &["import", &text(&archive), "tiny"]).await?;
    Ok(())
}

/// Prometheus that watches itself and `targets`.
///
/// # Errors
/// It does not come up.
pub async fn prometheus(targets: &[SocketAddr]) -> Result<Option<Service>> {
    let Some(program) = found("prometheus") else { return Ok(None) };
    let (folder, address) = (folder()?, free_address().await?);
    let mut jobs = format!("  - {{job_name: itself, static_configs: [{{targets: ['{address}']}}]}}\n");
    for (index, target) in targets.iter().enumerate() {
        jobs.push_str(&format!("  - {{job_name: other{index}, static_configs: [{{targets: ['{target}']}}]}}\n"));
    }
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}"))?;
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={address}"));
    let url = format!("http://{address}/-/ready");
    Service::start("Prometheus", folder, address, &mut command, async || is_200(&url).await).await.map(Some)
}

/// Alertmanager, alone.
///
/// # Errors
/// It does not come up.
pub async fn alertmanager() -> Result<Option<Service>> {
    let Some(program) = found("prometheus-alertmanager") else { return Ok(None) };
    let (folder, address) = (folder()?, free_address().await?);
    let config = folder.path().join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", folder.path().join("data").display()));
    command.args([&format!("--web.listen-address={address}"), "--cluster.listen-address="]);
    let url = format!("http://{address}/-/ready");
    Service::start("Alertmanager", folder, address, &mut command, async || is_200(&url).await).await.map(Some)
}

/// sshd with a host key of its own; nobody can log in.
///
/// # Errors
/// It does not come up.
pub async fn sshd() -> Result<Option<Service>> {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: sshd starts as root only, so nothing is tried with it");
        return Ok(None);
    }
    let Some(program) = found("sshd") else { return Ok(None) };
    // Where it leaves its privileges; Debian's unit makes it.
    std::fs::create_dir_all("/run/sshd")?;
    let (folder, address) = (folder()?, free_address().await?);
    let key = folder.path().join("host_key");
    process::output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &text(&key)])).await?;
    let config = folder.path().join("sshd_config");
    std::fs::write(
        &config,
        format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {}\nPidFile none\nAllowUsers nobody-at-all\nUsePAM no\n",
            address.port(),
            key.display()
        ),
    )?;
    let mut command = Command::new(program);
    command.args(["-D", "-e", "-f", &text(&config)]);
    Service::start("sshd", folder, address, &mut command, async || accepts(address).await).await.map(Some)
}

/// nginx: `locations` is what stands inside its one server. With a certificate
/// that signs itself where `tls` is set.
///
/// # Errors
/// It does not come up.
pub async fn nginx(locations: &str, tls: bool) -> Result<Option<(Service, Option<SelfSigned>)>> {
    let Some(program) = found("nginx") else { return Ok(None) };
    let (folder, address) = (folder()?, free_address().await?);
    let certificate = if tls { Some(self_signed(folder.path(), 30).await?) } else { None };
    let root = folder.path().display();
    let (listen, secrets) = match &certificate {
        None => (String::new(), String::new()),
        Some(made) => (
            " ssl".to_owned(),
            format!("ssl_certificate {}; ssl_certificate_key {};", made.certificate.display(), made.key.display()),
        ),
    };
    std::fs::write(
        folder.path().join("nginx.conf"),
        format!(
            "daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
    server {{ listen {address}{listen}; {secrets} {locations} }}
}}
"
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    let service = Service::start("nginx", folder, address, &mut command, async || accepts(address).await).await?;
    Ok(Some((service, certificate)))
}

/// A program under another user, where this process may choose.
fn as_user(user: &str, program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

/// The user's and group's numbers; none where nothing can be given away.
async fn owner(user: &str) -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let number =
        async |flag: &str| anyhow::Ok(process::output(Command::new("id").args([flag, user])).await?.trim().parse()?);
    Ok(Some((number("-u").await?, number("-g").await?)))
}

fn own(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    match owner {
        Some((user, group)) => chown(path, Some(user), Some(group)).context("give a file to a service's user"),
        None => Ok(()),
    }
}
