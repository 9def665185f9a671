//! Ten thousand checks a minute, one of whose targets never answers.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use farol_tests::Site;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Figure, Lengths, agent::cpu_seconds};

const TARGETS: usize = 100;
const CHECKS: usize = 10_000;
/// Of them, those that ask a target which never answers.
const HANGING: usize = 20;

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let answered = Arc::new(AtomicU64::new(0));
    let hanging = listen(None).await?;
    let mut ports = Vec::with_capacity(TARGETS);
    for _ in 0..TARGETS {
        ports.push(listen(Some(Arc::clone(&answered))).await?);
    }
    let mut registry = "version: 1\nhosts: [{name: bench}]\nscenarios:\n".to_owned();
    for (n, port) in ports.iter().enumerate() {
        writeln!(
            registry,
            "  - {{id: s{n}, title: S, persona: A1, severity: low, hosts: [bench], every: 1m, timeout: 10s, checks: ["
        )?;
        for check in 0..CHECKS / TARGETS {
            let port = if n == 0 && check < HANGING { hanging } else { *port };
            writeln!(
                registry,
                "    {{name: c{check}, probe: {{http: {{url: 'http://127.0.0.1:{port}/health', contains: '\"ok\"'}}}}}},"
            )?;
        }
        writeln!(registry, "  ]}}")?;
    }
    let site = Site::start(&registry, &[]).await?;
    let pid = site.coordinator().and_then(farol_tests::process::Process::id).context("the coordinator does not run")?;
    // The first runs are spread over as long as they take at this rate.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let window = if lengths.footprint < Duration::from_secs(300) { 60 } else { 180 };
    let (begun, before, cpu) = (Instant::now(), answered.load(Ordering::Relaxed), cpu_seconds(pid)?);
    tokio::time::sleep(Duration::from_secs(window)).await;
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let rate = (answered.load(Ordering::Relaxed) - before) as f64 * 60.0 / seconds;
    let share = (cpu_seconds(pid)? - cpu) * 100.0 / seconds;
    #[expect(clippy::cast_precision_loss, reason = "a count of checks")]
    let wanted = (CHECKS - HANGING) as f64;
    Ok(vec![
        Figure::new(
            "checks a minute beside a target that hangs",
            format!("{rate:.0} of {wanted:.0}"),
            "all",
            rate >= wanted * 0.99,
        ),
        Figure::new("CPU of the coordinator meanwhile", format!("{share:.0} % of a core"), "<= 100 %", share <= 100.0),
    ])
}

/// A server that says it is well, or with no counter one that says nothing.
async fn listen(answered: Option<Arc<AtomicU64>>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(answered) = answered.clone() else {
                kept.push(stream);
                continue;
            };
            tokio::spawn(async move {
                let mut request = [0_u8; 1024];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\
                                  connection: close\r\n\r\n{\"status\":\"ok\"}";
                    if stream.write_all(answer.as_bytes()).await.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Ok(port)
}
