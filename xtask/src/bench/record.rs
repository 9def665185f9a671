//! The record: entries a second with fifty writers beside raw one-row
//! transactions, and the verification of a million entries.

use std::time::{Duration, Instant};

use anyhow::Result;
use farol_coordinator::{
    record::{RecordKey, verify},
    store::{
        Store,
        seal::{Sealed, Sealer},
    },
};
use farol_protocol::Timestamp;
use tokio::task::JoinSet;

use super::{Figure, Lengths, raw};

const ENTRIES: usize = 1_000_000;
const WRITERS: usize = 50;
/// Raw transactions that are measured.
const RAW: usize = 2000;

pub(super) async fn measure(lengths: Lengths) -> Result<Vec<Figure>> {
    let raw = raw::commits(RAW).await?;
    let raw_rate = per_second(raw.len(), raw.iter().sum());
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path()).await?;
    let sealer = Sealer::new(RecordKey::open_or_create(folder.path())?);
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, until) = (store.clone(), begun + lengths.saturated);
        writers.spawn(async move {
            let mut written = 0;
            while Instant::now() < until {
                store.record_one(&format!("writer {writer}, entry {written}"), Timestamp::now()).await?;
                written += 1;
            }
            anyhow::Ok(written)
        });
    }
    // Beside them what the coordinator's own job does.
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut written = 0;
    loop {
        tokio::select! {
            done = writers.join_next() => match done {
                Some(done) => written += done??,
                None => break,
            },
            _ = tick.tick() => seal(&store, &sealer).await?,
        }
    }
    let rate = per_second(written, begun.elapsed());
    let ratio = rate / raw_rate;
    let mut figures = vec![
        Figure::new("record, entries a second with 50 writers", format!("{rate:.0}"), ">= 0.60 of raw", ratio >= 0.6)
            .beside(format!("{raw_rate:.0} one-row transactions a second"), ratio),
    ];

    store.record_many(ENTRIES.saturating_sub(written), Timestamp::now()).await?;
    let begun = Instant::now();
    seal(&store, &sealer).await?;
    figures.push(Figure::told("record, sealing a million entries", format!("{:.2} s", begun.elapsed().as_secs_f64())));
    let begun = Instant::now();
    let verdict = verify(&store, Some(&sealer.key), &[], |_| {}).await?;
    let spent = begun.elapsed();
    anyhow::ensure!(verdict.ok && verdict.unsealed == 0, "the record does not verify: {:?}", verdict.faults);
    figures.push(Figure::new(
        &format!("record, verification of {} entries", verdict.entries),
        format!("{:.2} s", spent.as_secs_f64()),
        "<= 10 s",
        spent <= Duration::from_secs(10),
    ));
    store.close().await;
    Ok(figures)
}

async fn seal(store: &Store, sealer: &Sealer) -> Result<()> {
    while let Sealed::Batch(..) = store.seal(sealer, Timestamp::now()).await? {}
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 53 bits")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
