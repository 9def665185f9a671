//! Probes against real TLS with certificates of our own, and against the
//! programs that operators watch with them.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use farol_protocol::report::{CertificateProbe, DaysLeft, HttpProbe, JsonMatch, TcpProbe};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::probe::tests::run_with;

/// A server whose certificate nobody signed but itself.
struct Server {
    address: SocketAddr,
    pin: String,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers every request with `body`; its certificate ends in `days`.
    async fn start(body: &str, days: i64) -> Self {
        let mut params = CertificateParams::new(vec!["node.invalid".to_owned()]).expect("a name");
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(400);
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let pin = trust::fingerprint(&chain[0]);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(farol_pki::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, pin, task }
    }

    fn http(&self, pin: Option<&str>) -> HttpProbe {
        HttpProbe { pin: pin.map(str::to_owned), ..http(&format!("https://{}/", self.address)) }
    }

    fn certificate(&self, pin: Option<&str>) -> CertificateProbe {
        let limits = Limits { warning: Some(21.0), critical: Some(7.0), worse: Worse::Below };
        CertificateProbe { address: self.address.to_string(), server_name: None, pin: pin.map(str::to_owned), limits }
    }

    /// Ends it: nothing listens there any more.
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn http(url: &str) -> HttpProbe {
    HttpProbe {
        url: url.to_owned(),
        expect: Vec::new(),
        contains: None,
        json: Vec::new(),
        pin: None,
        certificate: None,
        limits: Limits::default(),
    }
}

async fn run(probe: Probe) -> Report {
    // The certificates are of this time, so the report is, too.
    let spec = CheckSpec { id: "some.check".parse().expect("valid"), every_ms: 60_000, timeout_ms: 20_000, probe };
    Prober::new(Language::En, Access::NoPolicy).run(&spec, Timestamp::now()).await
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_by_its_pin_and_by_nothing_else() {
    let server = Server::start("fine", 100).await;
    let pinned = run(Probe::Http(server.http(Some(&server.pin)))).await;
    assert_eq!(pinned.status, Status::Ok, "{}", pinned.text);
    let upper = server.pin.to_uppercase().replace("SHA256", "sha256");
    assert_eq!(run(Probe::Http(server.http(Some(&upper)))).await.status, Status::Ok);

    let without = run(Probe::Http(server.http(None))).await;
    assert_eq!(without.status, Status::Critical);
    assert!(without.text.contains("TLS failed"), "{}", without.text);

    let other = Server::start("fine", 100).await;
    let changed = run(Probe::Http(server.http(Some(&other.pin)))).await;
    assert_eq!((changed.status, changed.value), (Status::Critical, None));
    assert!(changed.text.contains("has changed") && changed.text.contains(&server.pin), "{}", changed.text);

    let probe = server.http(Some(&server.pin));
    server.stop().await;
    let stopped = run(Probe::Http(probe)).await;
    assert_eq!(stopped.status, Status::Critical);
    assert!(stopped.text.contains("connection refused"), "{}", stopped.text);
}

#[tokio::test]
async fn the_days_of_a_certificate_are_judged_on_the_connection_itself() {
    for (days, status) in [(100, Status::Ok), (20, Status::Warning), (3, Status::Critical), (-2, Status::Critical)] {
        let server = Server::start("fine", days).await;
        let mut probe = server.http(Some(&server.pin));
        probe.certificate = Some(DaysLeft { warning: Some(21.0), critical: Some(7.0) });
        let report = run(Probe::Http(probe)).await;
        assert_eq!(report.status, status, "{days}: {}", report.text);
        assert!(status == Status::Ok || report.text.contains(&format!("{days} days")), "{}", report.text);

        let report = run(Probe::Certificate(server.certificate(Some(&server.pin)))).await;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let expected = (status, Some(days as f64), Some("d"));
        assert_eq!((report.status, report.value, report.unit.as_deref()), expected, "{}", report.text);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_critical_and_its_days_are_told_all_the_same() {
    let server = Server::start("fine", 100).await;
    let refused = run(Probe::Certificate(server.certificate(None))).await;
    assert_eq!((refused.status, refused.value), (Status::Critical, Some(100.0)), "{}", refused.text);
    assert!(refused.text.contains("not trusted"), "{}", refused.text);

    let other = Server::start("fine", 100).await;
    let changed = run(Probe::Certificate(server.certificate(Some(&other.pin)))).await;
    assert!(changed.text.contains(&server.pin), "{}", changed.text);
    assert_eq!(changed.status, Status::Critical);

    let probe = server.certificate(Some(&server.pin));
    server.stop().await;
    let stopped = run(Probe::Certificate(probe)).await;
    assert_eq!((stopped.status, stopped.value), (Status::Critical, None), "{}", stopped.text);
}

#[tokio::test]
async fn values_of_a_document_are_compared_one_by_one() {
    let body = json!({"status": "ok", "db": {"up": true, "lag": 0, "none": null}, "list": [1, 2.5]}).to_string();
    let server = Server::start(&body, 100).await;
    let ask = async |wanted: &[(&str, serde_json::Value)]| {
        let json = wanted.iter().map(|(at, is)| JsonMatch { at: (*at).to_owned(), is: is.clone() }).collect();
        run(Probe::Http(HttpProbe { json, ..server.http(Some(&server.pin)) })).await
    };
    let all = [
        ("/status", json!("ok")),
        ("/db/up", json!(true)),
        ("/db/lag", json!(0.0)),
        ("/list/1", json!(2.5)),
        ("/db/none", json!(null)),
    ];
    let report = ask(&all).await;
    assert_eq!(report.status, Status::Ok, "{}", report.text);
    for (at, is, says) in [
        ("/status", json!("down"), "`/status` is \"ok\" (expected \"down\")"),
        ("/gone", json!(1), "`/gone` is — (expected 1)"),
        ("/db", json!(1), "`/db` is {…}"),
        ("/db/up", json!("true"), "is true (expected \"true\")"),
    ] {
        let report = ask(&[all[0].clone(), (at, is)]).await;
        assert_eq!(report.status, Status::Critical, "{}", report.text);
        assert!(report.text.contains(says), "{}", report.text);
    }
    let text = Server::start("<html>", 100).await;
    let json = vec![JsonMatch { at: String::new(), is: json!(1) }];
    let report = run(Probe::Http(HttpProbe { json, ..text.http(Some(&text.pin)) })).await;
    assert!(report.status == Status::Critical && report.text.contains("JSON"), "{}", report.text);
}

fn tcp(address: SocketAddr, banner: &str) -> Probe {
    let banner = Some(banner.to_owned());
    Probe::Tcp(TcpProbe { address: address.to_string(), banner, limits: Limits::default() })
}

#[tokio::test]
async fn the_first_line_must_begin_as_expected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail").await;
            let _ = stream.write_all(b".example\x07 ESMTP\r\nmore").await;
        }
    });
    assert_eq!(run(tcp(address, "220 mail.example")).await.status, Status::Ok);
    let report = run(tcp(address, "SSH-2.0-")).await;
    assert_eq!(report.status, Status::Critical);
    assert!(report.text.contains("`220 mail.example? ESMTP` (expected `SSH-2.0-`)"), "{}", report.text);

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound");
    let report = run_with(Access::NoPolicy, Language::En, tcp(address, "SSH-"), 200).await;
    assert_eq!(report.status, Status::Critical, "{}", report.text);
}

/// A program that a test started; it ends with the test.
struct Service(Child);

impl Service {
    /// None where the program is not installed.
    async fn start(program: &str, args: &[&str], address: SocketAddr) -> Option<Self> {
        let Some(path) = crate::exec::resolve(program) else {
            eprintln!("{program} is not installed: nothing was looked at");
            return None;
        };
        let child = Command::new(path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let began = std::time::Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "{program} does not listen");
            tokio::task::yield_now().await;
        }
        Some(Self(child))
    }

    async fn stop(mut self) {
        self.0.kill().await.expect("killed");
    }
}

async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound")
}

#[tokio::test]
async fn a_real_ssh_server_is_known_by_its_banner() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(keygen) = crate::exec::resolve("ssh-keygen") else {
        eprintln!("ssh-keygen is not installed: nothing was looked at");
        return;
    };
    let key = folder.path().join("key");
    let made = Command::new(keygen).args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).status().await;
    assert!(made.expect("runs").success());
    // sshd drops its rights in this folder, and refuses to start without it.
    let _ = std::fs::create_dir_all("/run/sshd");
    let address = free_port().await;
    let config = folder.path().join("sshd_config");
    let text = format!("ListenAddress {address}\nHostKey {}\nPidFile none\n", key.display());
    std::fs::write(&config, text).expect("written");
    let args = ["-D", "-e", "-f", config.to_str().expect("a path")];
    let Some(sshd) = Service::start("sshd", &args, address).await else { return };
    let report = run(tcp(address, "SSH-2.0-")).await;
    assert_eq!(report.status, Status::Ok, "{}", report.text);
    assert_eq!(run(tcp(address, "SSH-1.")).await.status, Status::Critical);
    sshd.stop().await;
    assert_eq!(run(tcp(address, "SSH-2.0-")).await.status, Status::Critical);
}

#[tokio::test]
async fn a_real_web_server_is_checked_by_content_and_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut params = CertificateParams::new(vec!["node.invalid".to_owned()]).expect("a name");
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(10) + time::Duration::hours(1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(at("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(at("key.pem"), key.serialize_pem()).expect("written");
    std::fs::write(at("health"), json!({"status": "ok", "workers": 4}).to_string()).expect("written");
    let address = free_port().await;
    let text = format!(
        "daemon off; master_process off; pid {pid}; error_log {log};
         events {{}}
         http {{ access_log off; client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};
           uwsgi_temp_path {tmp}; scgi_temp_path {tmp};
           server {{ listen {address} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {root}; }} }}",
        pid = at("pid"),
        log = at("log"),
        tmp = at("tmp"),
        cert = at("cert.pem"),
        key = at("key.pem"),
        root = folder.path().display(),
    );
    std::fs::write(at("nginx.conf"), text).expect("written");
    let args = ["-p", folder.path().to_str().expect("a path"), "-c", &at("nginx.conf")];
    let Some(nginx) = Service::start("nginx", &args, address).await else { return };
    let probe = |json: serde_json::Value| HttpProbe {
        json: vec![JsonMatch { at: "/status".to_owned(), is: json }],
        pin: Some(trust::fingerprint(certificate.der())),
        contains: Some("workers".to_owned()),
        ..http(&format!("https://{address}/health"))
    };
    let report = run(Probe::Http(probe(json!("ok")))).await;
    assert_eq!(report.status, Status::Ok, "{}", report.text);
    assert_eq!(run(Probe::Http(probe(json!("down")))).await.status, Status::Critical);
    let mut soon = probe(json!("ok"));
    soon.certificate = Some(DaysLeft { warning: Some(21.0), critical: Some(7.0) });
    let report = run(Probe::Http(soon)).await;
    assert_eq!(report.status, Status::Warning, "{}", report.text);
    assert!(report.text.contains("10 days"), "{}", report.text);
    std::fs::remove_file(Path::new(&at("health"))).expect("removed");
    assert_eq!(run(Probe::Http(probe(json!("ok")))).await.status, Status::Critical);
    nginx.stop().await;
    assert_eq!(run(Probe::Http(probe(json!("ok")))).await.status, Status::Critical);
}
