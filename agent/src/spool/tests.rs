use farol_protocol::{Report, Status};

use super::*;

fn at(second: u64) -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000).plus(Duration::from_secs(second))
}

fn telemetry(text: &str) -> Telemetry {
    let report = Report {
        check: "disk.root".parse().expect("valid"),
        status: Status::Ok,
        value: None,
        unit: None,
        text: text.to_owned(),
        observed_at: at(0),
        cause: None,
    };
    Telemetry { reports: vec![report], ..Telemetry::default() }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("spool.db")
    }

    async fn open(&self, max_bytes: u64) -> Spool {
        Spool::open(&self.file(), max_bytes).await.expect("opens")
    }

    async fn sql(&self, sql: &'static str) -> i64 {
        let options = SqliteConnectOptions::new().filename(self.file());
        let mut other = SqliteConnection::connect_with(&options).await.expect("opens");
        sqlx::query_scalar(sql).fetch_optional(&mut other).await.expect("runs").unwrap_or(0)
    }
}

async fn push(spool: &mut Spool, second: u64) -> u64 {
    spool.push(at(second), telemetry("x")).await.expect("kept").seq
}

async fn pending(spool: &mut Spool) -> Vec<u64> {
    let acked = spool.live.acked;
    spool.after(Lane::Live, acked, 1000).await.expect("readable").iter().map(|batch| batch.seq).collect()
}

#[tokio::test]
async fn unacknowledged_batches_survive_a_reopen_and_numbers_go_on() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    let stream = spool.stream();
    assert_eq!((push(&mut spool, 1).await, push(&mut spool, 2).await), (1, 2));
    drop(spool);

    let mut spool = folder.open(1 << 20).await;
    assert_eq!(spool.stream(), stream);
    assert_eq!(push(&mut spool, 3).await, 3);
    let batches = spool.after(Lane::Live, 0, 10).await.expect("readable");
    assert_eq!(batches[0], Batch { seq: 1, ts: at(1), payload: telemetry("x") });
    assert_eq!(batches.len(), 3);
}

#[tokio::test]
async fn acknowledged_batches_go_with_the_next_insert_and_the_number_stays() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    push(&mut spool, 1).await;
    push(&mut spool, 2).await;

    spool.ack(Lane::Live, 2);
    assert_eq!(folder.sql("select count(*) from batch").await, 2);
    assert_eq!(pending(&mut spool).await, [] as [u64; 0]);
    push(&mut spool, 3).await;
    assert_eq!(folder.sql("select count(*) from batch").await, 1);

    spool.ack(Lane::Live, 3);
    spool.close().await;
    let mut spool = folder.open(1 << 20).await;
    assert_eq!(push(&mut spool, 4).await, 4);
}

#[tokio::test]
async fn an_acknowledgement_beyond_what_exists_frees_no_future_batch() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    push(&mut spool, 1).await;
    spool.ack(Lane::Live, 90);
    push(&mut spool, 2).await;
    push(&mut spool, 3).await;
    assert_eq!(pending(&mut spool).await, [2, 3]);
}

#[tokio::test]
async fn hello_trims_what_is_committed() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    push(&mut spool, 1).await;
    push(&mut spool, 2).await;
    assert!(spool.resume(1, None).await.expect("kept"));
    assert_eq!(pending(&mut spool).await, [2]);
}

#[tokio::test]
async fn a_spool_that_went_backward_sends_what_it_holds_in_a_new_stream() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    for second in 1..=5 {
        push(&mut spool, second).await;
    }
    spool.ack(Lane::Live, 3);
    push(&mut spool, 6).await;
    let before = spool.stream();
    assert!(!spool.resume(40, None).await.expect("kept"), "the old numbers went on");
    assert_ne!(spool.stream(), before);
    assert_eq!(pending(&mut spool).await, [1, 2, 3], "4, 5 and 6 under their new numbers");

    let stream = spool.stream();
    drop(spool);
    let mut spool = folder.open(1 << 20).await;
    assert_eq!(spool.stream(), stream);
    assert_eq!(push(&mut spool, 7).await, 4);
    assert!(spool.resume(0, None).await.expect("kept"));
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_remembers_exactly_what() {
    let folder = Folder::new();
    let mut spool = folder.open(2_000).await;
    for second in 1..=50 {
        push(&mut spool, second).await;
    }
    let kept = pending(&mut spool).await;
    let first = kept[0];
    assert!(first > 1 && *kept.last().expect("some") == 50, "{kept:?}");
    let expected = [Gap { first_seq: 1, last_seq: first - 1, from: at(1), to: at(first - 1) }];
    assert_eq!(spool.gaps(Lane::Live, 1, first - 1, at(99)), expected);

    drop(spool);
    let mut spool = folder.open(2_000).await;
    assert_eq!(spool.gaps(Lane::Live, 1, first - 1, at(99)), expected);
    spool.ack(Lane::Live, first);
    push(&mut spool, 51).await;
    assert_eq!(folder.sql("select count(*) from gap").await, 0);
}

#[tokio::test]
async fn a_write_failure_is_a_gap_as_soon_as_writing_works_again() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    push(&mut spool, 1).await;

    folder.sql("create trigger full before insert on batch begin select raise(abort, 'disk full'); end").await;
    for second in [2, 3, 4] {
        spool.push(at(second), telemetry("lost")).await.expect_err("cannot be kept");
    }
    assert!(spool.is_failing());
    folder.sql("drop trigger full").await;

    assert_eq!(push(&mut spool, 5).await, 5);
    assert!(!spool.is_failing());
    assert_eq!(pending(&mut spool).await, [1, 5]);
    assert_eq!(spool.gaps(Lane::Live, 2, 4, at(99)), [Gap { first_seq: 2, last_seq: 4, from: at(2), to: at(4) }]);
}

#[tokio::test]
async fn a_full_disk_is_survived_and_space_freed_by_an_acknowledgement_is_used() {
    let folder = Folder::new();
    folder.open(1 << 30).await.close().await;
    let limited = options(&folder.file()).pragma("max_page_count", "12");
    let mut spool = Spool::open_with(&folder.file(), 1 << 30, limited).await.expect("opens");
    let big = "y".repeat(3_000);
    let mut kept = 0;
    while spool.push(at(kept + 1), telemetry(&big)).await.is_ok() {
        kept += 1;
        assert!(kept < 100, "the page limit does not hold");
    }

    spool.ack(Lane::Live, kept);
    let batch = spool.push(at(90), telemetry("small")).await.expect("space was freed");
    assert_eq!(batch.seq, kept + 2);
    assert_eq!(spool.gaps(Lane::Live, kept + 1, kept + 1, at(0))[0].from, at(kept + 1));
}

#[tokio::test]
async fn gaps_cover_exactly_the_asked_range() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    spool.live.gaps = vec![
        Gap { first_seq: 2, last_seq: 5, from: at(2), to: at(5) },
        Gap { first_seq: 8, last_seq: 9, from: at(8), to: at(9) },
    ];
    let ranges: Vec<(u64, u64)> =
        spool.gaps(Lane::Live, 4, 10, at(99)).iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
    assert_eq!(ranges, [(4, 5), (6, 7), (8, 9), (10, 10)]);
    assert!(spool.gaps(Lane::Live, 11, 10, at(0)).is_empty());
}

#[tokio::test]
async fn a_damaged_spool_is_set_aside_and_a_new_stream_begins() {
    let folder = Folder::new();
    std::fs::write(folder.file(), "not a database, but long enough to look at".repeat(100)).expect("writable");
    let mut spool = folder.open(1 << 20).await;
    assert_eq!(push(&mut spool, 1).await, 1);
    let aside = std::fs::read_dir(folder.0.path()).expect("listable").flatten();
    assert!(aside.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("damaged")));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_day_of_acknowledged_batches_writes_less_than_its_budget() {
    fn written() -> u64 {
        let io = std::fs::read_to_string("/proc/self/io").expect("own counters");
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a counter");
        line.parse().expect("a number")
    }
    let folder = Folder::new();
    let mut spool = folder.open(64 << 20).await;
    let body = "m".repeat(2_500);
    let (batches, before) = (1_000, written());
    for second in 1..=batches {
        let seq = spool.push(at(second), telemetry(&body)).await.expect("kept").seq;
        spool.ack(Lane::Live, seq);
    }
    let a_day = (written() - before) / batches * (24 * 3600 / 30);
    eprintln!("{a_day} bytes a day");
    assert!(a_day < 50_000_000, "{a_day} bytes a day");
}

/// The numbers of a lane above what is acknowledged, and what was observed under them.
async fn lane(spool: &mut Spool, lane: Lane) -> Vec<(u64, Timestamp)> {
    spool.after(lane, 0, 10_000).await.expect("readable").iter().map(|batch| (batch.seq, batch.ts)).collect()
}

#[tokio::test]
async fn only_what_was_never_sent_becomes_the_backlog_and_the_live_numbers_go_on() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    for second in 1..=10 {
        push(&mut spool, second).await;
    }
    assert!(spool.resume(0, None).await.expect("resumes"));
    spool.ack(Lane::Live, 4);
    // Five and six may have arrived.
    spool.ended(6);
    for second in 11..=100 {
        push(&mut spool, second).await;
    }
    drop(spool);

    let mut spool = folder.open(1 << 20).await;
    spool.set_apart().await.expect("set apart");
    let backlog = spool.backlog().expect("a backlog");
    assert_eq!((backlog.last_seq, spool.last_seq()), (94, 6));
    assert_ne!(backlog.stream, spool.stream());
    assert_eq!(lane(&mut spool, Lane::Live).await, [(5, at(5)), (6, at(6))]);
    let moved = lane(&mut spool, Lane::Backlog).await;
    assert_eq!((moved[0], moved[93]), ((1, at(7)), (94, at(100))));
    assert_eq!(push(&mut spool, 101).await, 7);

    // What waits again goes behind it.
    drop(spool);
    let mut spool = folder.open(1 << 20).await;
    assert!(spool.resume(6, Some(50)).await.expect("resumes"));
    spool.ended(7);
    for second in 102..=180 {
        push(&mut spool, second).await;
    }
    spool.set_apart().await.expect("set apart");
    let again = spool.backlog().expect("a backlog");
    assert_eq!((again.stream, again.last_seq), (backlog.stream, 94 + 79));
    assert!(spool.resume(7, Some(173)).await.expect("resumes"));
    assert_eq!(spool.backlog(), None, "it is through");
}

#[tokio::test]
async fn a_few_batches_and_those_that_may_have_been_sent_stay_in_the_live_stream() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    for second in 1..=CATCH_UP {
        push(&mut spool, second).await;
    }
    spool.set_apart().await.expect("set apart");
    assert_eq!(spool.backlog(), None);
    assert!(spool.resume(0, None).await.expect("resumes"));
    for second in 100..300 {
        push(&mut spool, second).await;
    }
    // A crash: how far the session came is not known.
    drop(spool);
    let mut spool = folder.open(1 << 20).await;
    spool.set_apart().await.expect("set apart");
    assert_eq!((spool.backlog(), spool.last_seq()), (None, CATCH_UP + 200));
}

#[tokio::test]
async fn a_session_that_could_not_begin_changes_nothing_of_what_was_sent() {
    let folder = Folder::new();
    let mut spool = folder.open(1 << 20).await;
    for second in 1..=10 {
        push(&mut spool, second).await;
    }
    assert!(spool.resume(0, None).await.expect("resumes"));
    spool.ended(10);
    for second in 11..=100 {
        push(&mut spool, second).await;
    }
    folder.sql("create trigger full before delete on sent begin select raise(abort, 'disk full'); end").await;
    spool.resume(3, None).await.expect_err("what was sent cannot be cleared");
    spool.ended(3);
    folder.sql("drop trigger full").await;
    spool.set_apart().await.expect("set apart");
    assert_eq!((spool.last_seq(), spool.backlog().map(|backlog| backlog.last_seq)), (10, Some(90)));

    // A file that went backward begins anew, and nothing of that was sent.
    assert!(!spool.resume(500, Some(0)).await.expect("restarts"));
    spool.ended(500);
    assert_eq!(push(&mut spool, 101).await, 11);
    assert!(spool.resume(0, Some(0)).await.expect("resumes"));
}
