//! One look at a time at the same thing.
//!
//! Who looks at a dead file system hangs in the kernel, and the thread is lost
//! until the file system answers; a program in the same state cannot be killed.
//! So the next look waits for the last, within its own time limit, and never
//! starts another thread or program. Threads are the process's, whoever asked,
//! and so is this list.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

static LOOKS: LazyLock<Mutex<HashMap<String, Arc<Turn<()>>>>> = LazyLock::new(Mutex::default);

/// The right to look; it goes to whatever may hang.
pub(super) type Held = OwnedMutexGuard<()>;

/// Waits until nobody looks at `what` any more.
pub(super) async fn hold(what: &str) -> Held {
    let turn = {
        let mut looks = LOOKS.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds a turn or waits for one has a share in it.
        looks.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(looks.entry(what.to_owned()).or_default())
    };
    turn.lock_owned().await
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use farol_protocol::{
        Status, Timestamp,
        report::{
            DiskForecastProbe, DiskProbe, FileAgeProbe, InodesProbe, Limits, Probe, SmartProbe, SqliteIntegrityProbe,
            SqliteProbe,
        },
    };

    use super::{
        super::{Probing, Text, tests::probing},
        *,
    };

    fn shortly() -> Probing {
        Probing { limit: Duration::from_millis(50), ..probing() }
    }

    #[tokio::test]
    async fn what_hangs_costs_one_thread_and_is_asked_again_when_it_answers() {
        let (path, begun) = ("/aside/one-thread", Arc::new(AtomicUsize::new(0)));
        let (answer, answered) = mpsc::channel::<()>();
        let count = Arc::clone(&begun);
        let hung = shortly().blocking_on(path, Text::WhatDisks, move || {
            count.fetch_add(1, Ordering::SeqCst);
            answered.recv().map_err(io::Error::other)
        });
        assert!(hung.await.is_err_and(|seen| seen.text.contains("did not finish")));
        for _ in 0..3 {
            let count = Arc::clone(&begun);
            let next = shortly().blocking_on(path, Text::WhatDisks, move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok::<_, io::Error>(())
            });
            let seen = next.await.expect_err("nobody looks");
            assert_eq!(seen.status, Status::Unknown);
            assert!(seen.text.contains("has not ended"), "{}", seen.text);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        answer.send(()).expect("somebody waits");
        let again = probing().blocking_on(path, Text::WhatDisks, || Ok::<_, io::Error>(7));
        assert!(again.await.is_ok_and(|seen| seen == 7));
    }

    /// A path that nobody may look at stands for one that hangs: a probe that
    /// answers anything else has looked at it on its own.
    #[tokio::test]
    async fn no_probe_looks_at_a_path_or_at_drives_while_an_earlier_look_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db").to_string_lossy().into_owned();
        let mount = folder.path().to_string_lossy().into_owned();
        let _hung =
            (hold(&file).await, hold(&mount).await, hold("smartctl").await, hold(super::super::disk::ALL).await);
        let limits = Limits::default();
        let sqlite = SqliteProbe { path: file.clone(), query: "select 1".into(), unit: "rows".into(), limits };
        for probe in [
            Probe::Sqlite(sqlite),
            Probe::SqliteIntegrity(SqliteIntegrityProbe { path: file.clone() }),
            Probe::FileAge(FileAgeProbe { path: file, min_bytes: None, limits }),
            Probe::Inodes(InodesProbe { mount: mount.clone(), limits }),
            Probe::DiskForecast(DiskForecastProbe { mount: mount.clone(), limits }),
            Probe::Disk(DiskProbe { mount, limits }),
            Probe::Smart(SmartProbe { limits }),
        ] {
            let kind = probe.kind();
            let spec = farol_protocol::report::CheckSpec {
                id: "a".parse().expect("valid"),
                every_ms: 60_000,
                timeout_ms: 50,
                probe,
            };
            let prober = super::super::Prober::new(farol_protocol::Language::En, super::super::Access::All);
            let report = prober.run(&spec, Timestamp::from_ms(7)).await;
            assert_eq!(report.status, Status::Unknown, "{kind}: {}", report.text);
            assert!(report.text.contains("has not ended"), "{kind}: {}", report.text);
        }
    }
}
