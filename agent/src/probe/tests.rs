use std::{net::SocketAddr, path::Path};

use farol_protocol::report::{DiskProbe, HttpProbe, ProcessProbe, SqliteProbe, TcpProbe};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};

use super::*;

pub(super) async fn run_with(access: Access, language: Language, probe: Probe, timeout_ms: u64) -> Report {
    let spec = CheckSpec { id: "some.check".parse().expect("valid"), every_ms: 60_000, timeout_ms, probe };
    Prober::new(language, access).run(&spec, Timestamp::from_ms(7)).await
}

/// What a policy with one folder in `paths.read` lets be read.
pub(super) fn reading(folder: &Path) -> Access {
    let text = format!("version: 1\npaths: {{read: [{}]}}\n", folder.display());
    Access::from(Some(Policy::parse(Path::new("policy.yaml"), &text).expect("valid")))
}

async fn run(probe: Probe) -> Report {
    run_with(Access::NoPolicy, Language::PtBr, probe, 5_000).await
}

/// Answers every request with the same bytes; an empty answer means silence.
async fn server(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if answer.is_empty() {
                silent.push(stream);
                continue;
            }
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound")
}

fn http(address: SocketAddr) -> HttpProbe {
    HttpProbe {
        url: format!("http://ann:s3cret@{address}/health?token=s3cret#x"),
        expect: Vec::new(),
        contains: None,
        json: Vec::new(),
        pin: None,
        certificate: None,
        limits: Limits::default(),
    }
}

pub(super) fn probing() -> Probing {
    Probing { language: Language::En, limit: Duration::from_secs(20) }
}

fn above(warning: f64, critical: f64) -> Limits {
    Limits { warning: Some(warning), critical: Some(critical), worse: Worse::Above }
}

#[tokio::test]
async fn a_healthy_page_is_ok_with_its_time_and_without_secrets() {
    let report = run(Probe::Http(http(server(response("200 OK", "fine")).await))).await;
    assert_eq!((report.status, report.unit.as_deref()), (Status::Ok, Some("ms")));
    assert!(report.value.is_some_and(|ms| ms < 5_000.0));
    assert!(report.text.contains("/health respondeu 200 em "), "{}", report.text);
    assert!(!report.text.contains("s3cret") && !report.text.contains("ann"), "{}", report.text);
    assert_eq!(report.observed_at, Timestamp::from_ms(7));
}

#[tokio::test]
async fn an_unexpected_status_is_critical_and_says_what_was_expected() {
    let probe = HttpProbe { expect: vec![200], ..http(server(response("502 Bad Gateway", "")).await) };
    let report = run(Probe::Http(probe.clone())).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.contains("respondeu 502 em ") && report.text.ends_with("(esperado 200)"), "{}", report.text);
    let report = run_with(Access::NoPolicy, Language::En, Probe::Http(probe), 5_000).await;
    assert!(report.text.ends_with("(expected 200)"), "{}", report.text);
}

#[tokio::test]
async fn a_redirect_is_judged_and_not_followed() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let address = server(redirect).await;
    assert_eq!(run(Probe::Http(http(address))).await.status, Status::Critical);
    let expected = HttpProbe { expect: vec![302], ..http(address) };
    assert_eq!(run(Probe::Http(expected)).await.status, Status::Ok);
}

#[tokio::test]
async fn the_body_must_contain_the_text_within_its_first_mebibyte() {
    let contains = |text: &str| Some(text.to_owned());
    let far = format!("{}needle", "x".repeat(1 << 20));
    let near = format!("{}needle", "x".repeat(100_000));
    for (body, text, status) in [
        (near.as_str(), "needle", Status::Ok),
        (near.as_str(), "thread", Status::Critical),
        (far.as_str(), "needle", Status::Critical),
    ] {
        let address = server(response("200 OK", body)).await;
        let report = run(Probe::Http(HttpProbe { contains: contains(text), ..http(address) })).await;
        assert_eq!(report.status, status, "{}", report.text);
    }
}

#[tokio::test]
async fn a_slow_answer_crosses_its_threshold() {
    let probe = HttpProbe { limits: above(0.0, 60_000.0), ..http(server(response("200 OK", "")).await) };
    let report = run(Probe::Http(probe)).await;
    assert_eq!(report.status, Status::Warning);
    assert!(report.text.ends_with("(limite 0 ms)"), "{}", report.text);
}

#[tokio::test]
async fn no_answer_within_the_limit_is_critical() {
    let silent = server("").await;
    let report = run_with(Access::NoPolicy, Language::PtBr, Probe::Http(http(silent)), 200).await;
    assert_eq!((report.status, report.value), (Status::Critical, None));
    assert!(report.text.ends_with("não respondeu em 0,2 s"), "{}", report.text);
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_have_words() {
    let address = closed_port().await;
    let report = run(Probe::Http(http(address))).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.ends_with("não pôde ser alcançado: conexão recusada"), "{}", report.text);

    let tcp = TcpProbe { address: address.to_string(), banner: None, limits: Limits::default() };
    let report = run(Probe::Tcp(tcp)).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.ends_with("conexão recusada"), "{}", report.text);

    let tcp = TcpProbe { address: "no-such-host.invalid:80".to_owned(), banner: None, limits: Limits::default() };
    let report = run_with(Access::NoPolicy, Language::En, Probe::Tcp(tcp), 10_000).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.contains("name was not resolved") || report.text.contains("did not answer"), "{}", report.text);
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_a_tls_failure() {
    let address = server("this is not TLS\r\n").await;
    let probe = HttpProbe { url: format!("https://{address}/"), ..http(address) };
    let report = run(Probe::Http(probe)).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.contains("falha de TLS"), "{}", report.text);
}

#[tokio::test]
async fn a_wrong_address_is_a_matter_of_configuration() {
    let bad = HttpProbe { url: "ftp://user:s3cret@x/".to_owned(), ..http(closed_port().await) };
    let report = run(Probe::Http(bad)).await;
    assert_eq!((report.status, report.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
    assert!(!report.text.contains("s3cret"), "{}", report.text);
    let bad = TcpProbe { address: "portal".to_owned(), banner: None, limits: Limits::default() };
    assert_eq!(run(Probe::Tcp(bad)).await.cause, Some(UnknownCause::NotConfigured));
}

#[tokio::test]
async fn an_open_port_is_ok() {
    let address = server("").await;
    let report =
        run(Probe::Tcp(TcpProbe { address: address.to_string(), banner: None, limits: Limits::default() })).await;
    assert_eq!((report.status, report.unit.as_deref()), (Status::Ok, Some("ms")), "{}", report.text);
}

#[tokio::test]
async fn a_mount_that_does_not_exist_is_unknown() {
    let report = run(Probe::Disk(DiskProbe { mount: "/no/such/mount".to_owned(), limits: Limits::default() })).await;
    assert_eq!((report.status, report.cause), (Status::Unknown, None));
    assert_eq!(report.text, "nada está montado em /no/such/mount");
}

#[tokio::test]
async fn memory_and_load_have_values() {
    let report = run(Probe::Memory(Limits::default())).await;
    assert_eq!((report.status, report.unit.as_deref()), (Status::Ok, Some("%")), "{}", report.text);
    assert!(report.value.is_some_and(|percent| (0.0..=100.0).contains(&percent)));
    let report = run(Probe::Load(above(-2.0, -1.0))).await;
    assert_eq!((report.status, report.unit.as_deref()), (Status::Critical, Some("load/core")));
    assert!(report.text.ends_with("(limite -1)"), "{}", report.text);
}

#[tokio::test]
async fn processes_are_counted_by_the_name_of_their_executable() {
    let name = "farol-probe-test-with-a-long-name";
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join(name);
    std::fs::copy("/bin/sleep", &program).expect("copied");
    let mut child = tokio::process::Command::new(&program).arg("300").kill_on_drop(true).spawn().expect("starts");
    let probe = |min, max| Probe::Process(ProcessProbe { name: name.to_owned(), min, max });

    let report = run(probe(1, Some(1))).await;
    assert_eq!((report.status, report.value), (Status::Ok, Some(1.0)), "{}", report.text);
    assert_eq!(run(probe(2, None)).await.status, Status::Critical);
    assert_eq!(run(probe(0, Some(0))).await.status, Status::Critical);
    child.kill().await.expect("killed");
    let report = run(probe(1, None)).await;
    assert_eq!((report.status, report.value), (Status::Critical, Some(0.0)), "{}", report.text);
}

#[tokio::test]
async fn contradicting_limits_are_a_matter_of_configuration() {
    let report = run(Probe::Memory(above(90.0, 80.0))).await;
    assert_eq!((report.status, report.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
}

struct Database(tempfile::TempDir);

impl Database {
    async fn new() -> Self {
        let database = Self(tempfile::tempdir().expect("a folder"));
        let options = SqliteConnectOptions::new().filename(database.file()).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("opens");
        sqlx::raw_sql("create table job (state text); insert into job values ('failed'), ('failed'), ('done')")
            .execute(&mut connection)
            .await
            .expect("runs");
        connection.close().await.expect("closed");
        database
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("jobs.db")
    }

    fn access(&self) -> Access {
        reading(self.0.path())
    }

    async fn ask(&self, query: &str, limits: Limits) -> Report {
        self.ask_at(&self.file(), self.access(), query, limits).await
    }

    async fn ask_at(&self, path: &Path, access: Access, query: &str, limits: Limits) -> Report {
        let probe = SqliteProbe {
            path: path.to_string_lossy().into_owned(),
            query: query.to_owned(),
            unit: "jobs".to_owned(),
            limits,
        };
        run_with(access, Language::En, Probe::Sqlite(probe), 1_000).await
    }
}

#[tokio::test]
async fn the_first_column_is_the_value_and_the_second_the_text() {
    let database = Database::new().await;
    let query = "select count(*) from job where state = 'failed'";
    let report = database.ask(query, above(1.0, 5.0)).await;
    assert_eq!((report.status, report.value, report.unit.as_deref()), (Status::Warning, Some(2.0), Some("jobs")));
    assert!(report.text.ends_with("2 jobs (limit 1)"), "{}", report.text);

    let report = database.ask("select 0.5, 'half a job';", Limits::default()).await;
    assert_eq!((report.status, report.value, report.text.as_str()), (Status::Ok, Some(0.5), "half a job (0.5)"));
}

#[tokio::test]
async fn no_value_is_unknown_and_never_zero() {
    let database = Database::new().await;
    for query in [
        "select null",
        "select 1 where 0",
        "select 'many'",
        "select nothing from job",
        "select sum(1) from job where 0",
    ] {
        let report = database.ask(query, Limits::default()).await;
        assert_eq!(
            (report.status, report.value, report.cause),
            (Status::Unknown, None, None),
            "{query}: {}",
            report.text
        );
    }
}

#[tokio::test]
async fn only_paths_of_the_policy_are_read_and_links_do_not_lead_out() {
    let database = Database::new().await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(database.file(), &link).expect("linked");
    let outside = reading(elsewhere.path());
    for (path, access) in [
        (database.file(), Access::NoPolicy),
        (database.file(), outside.clone()),
        (link, outside),
        (database.0.path().join("../../etc/passwd"), database.access()),
        ("jobs.db".into(), Access::All),
    ] {
        let report = database.ask_at(&path, access, "select 1", Limits::default()).await;
        assert_eq!((report.status, report.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)), "{path:?}");
    }
    let report = database.ask_at(&database.file(), Access::All, "select 1", Limits::default()).await;
    assert_eq!(report.status, Status::Ok, "{}", report.text);
}

#[tokio::test]
async fn the_file_is_neither_changed_nor_created() {
    let database = Database::new().await;
    let before = std::fs::read(database.file()).expect("read");
    for query in [
        "delete from job",
        "with a as (select 1) delete from job",
        "select 1; delete from job",
        "pragma user_version = 7",
    ] {
        assert_eq!(database.ask(query, Limits::default()).await.status, Status::Unknown, "{query}");
    }
    assert_eq!(std::fs::read(database.file()).expect("read"), before);

    let missing = database.0.path().join("missing.db");
    let report = database.ask_at(&missing, database.access(), "select 1", Limits::default()).await;
    assert_eq!((report.status, report.cause), (Status::Unknown, None));
    assert!(report.text.ends_with("it does not exist") && !missing.exists(), "{}", report.text);
}

#[tokio::test]
async fn a_heavy_query_is_stopped_at_its_limit() {
    let database = Database::new().await;
    let began = Instant::now();
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let report = database.ask(endless, Limits::default()).await;
    assert_eq!(report.status, Status::Unknown);
    assert_eq!(report.text, "the check did not finish within 1 s");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_container_is_looked_at_through_the_engine_and_no_engine_is_not_unhealthy() {
    use crate::effect::docker::Docker;

    let folder = tempfile::tempdir().expect("a folder");
    let _docker = Docker::start(folder.path(), &[("db", true), ("web", false)]);
    let look = async |folder: &Path, name: &str| {
        let probe = Probe::Container(farol_protocol::report::ContainerProbe { name: name.to_owned(), restarts: None });
        let spec = CheckSpec { id: "c".parse().expect("valid"), every_ms: 60_000, timeout_ms: 5_000, probe };
        let prober = Prober::new(Language::En, Access::NoPolicy).with_docker_socket(folder.join("docker.sock"));
        prober.run(&spec, Timestamp::from_ms(7)).await
    };
    let report = look(folder.path(), "db").await;
    assert_eq!((report.status, report.value), (Status::Ok, Some(2.0)), "{}", report.text);
    for name in ["web", "gone"] {
        let report = look(folder.path(), name).await;
        assert_eq!((report.status, report.cause), (Status::Critical, None), "{}", report.text);
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    for (folder, name) in [(elsewhere.path(), "db"), (folder.path(), "../../images")] {
        let report = look(folder, name).await;
        assert_eq!(
            (report.status, report.cause),
            (Status::Unknown, Some(UnknownCause::NotConfigured)),
            "{}",
            report.text
        );
    }
}

#[tokio::test]
async fn units_and_the_journal_of_a_host_without_systemd_are_not_configured() {
    let unit =
        Probe::Unit(farol_protocol::report::UnitProbe { name: "farol-none".to_owned(), limits: Limits::default() });
    let report = run(unit).await;
    if Path::new("/run/systemd/system").exists() {
        assert_eq!(report.status, Status::Critical, "{}", report.text);
    } else {
        let unknown = (Status::Unknown, Some(UnknownCause::NotConfigured));
        assert_eq!((report.status, report.cause), unknown, "{}", report.text);
    }
}
