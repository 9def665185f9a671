//! Many random histories of one spool against a model of the coordinator:
//! appended, sent, acknowledged, cut off, crashed, overflowed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use farol_protocol::{Report, Status};

use super::*;

/// What the coordinator knows of one stream.
#[derive(Default)]
struct Stream {
    committed: u64,
    got: Vec<u64>,
    gaps: Vec<Gap>,
}

/// A batch on its way, with the gaps it tells.
struct Sent {
    stream: StreamId,
    /// What the session sent before it.
    after: u64,
    seq: u64,
    id: u64,
    gaps: Vec<Gap>,
}

#[derive(Default)]
struct Coordinator {
    streams: HashMap<StreamId, Stream>,
}

impl Coordinator {
    fn committed(&self, stream: StreamId) -> u64 {
        self.streams.get(&stream).map_or(0, |stream| stream.committed)
    }

    /// As the coordinator commits: a repeat changes nothing, and what does not
    /// follow ends its session.
    fn take(&mut self, sent: &Sent) -> bool {
        let stream = self.streams.entry(sent.stream).or_default();
        if sent.seq <= stream.committed {
            return true;
        }
        if sent.after != stream.committed {
            return false;
        }
        stream.committed = sent.seq;
        stream.got.push(sent.id);
        stream.gaps.extend(&sent.gaps);
        true
    }
}

/// A connection as the agent sees it.
struct Session {
    cursor: u64,
    backlog: Option<(StreamId, u64)>,
    under_way: VecDeque<Sent>,
}

struct World {
    random: fastrand::Rng,
    folder: tempfile::TempDir,
    max_bytes: u64,
    spool: Option<Spool>,
    coordinator: Coordinator,
    session: Option<Session>,
    /// What a cut connection left in the coordinator's queue.
    late: VecDeque<Sent>,
    /// When each batch was closed, by its id.
    pushed: BTreeMap<u64, Timestamp>,
    connections: u64,
    moved: bool,
}

fn at(id: u64) -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000).plus(Duration::from_secs(id))
}

fn payload(id: u64) -> Telemetry {
    let report = Report {
        check: "c".parse().expect("valid"),
        status: Status::Ok,
        value: None,
        unit: None,
        text: id.to_string(),
        observed_at: at(id),
        cause: None,
    };
    Telemetry { reports: vec![report], ..Telemetry::default() }
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // A batch is about 150 bytes: from never full to always full.
        let max_bytes = random.choice([1 << 20, 40_000, 8_000, 600]).unwrap_or(1 << 20);
        let mut world = Self {
            random,
            folder: tempfile::tempdir().expect("a folder"),
            max_bytes,
            spool: None,
            coordinator: Coordinator::default(),
            session: None,
            late: VecDeque::new(),
            pushed: BTreeMap::new(),
            connections: 0,
            moved: false,
        };
        world.open().await;
        world
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().expect("open")
    }

    async fn open(&mut self) {
        let path = self.folder.path().join("spool.db");
        // Not synced: it is the process that crashes here, not the machine.
        let options = options(&path).synchronous(SqliteSynchronous::Off);
        self.spool = Some(Spool::open_with(&path, self.max_bytes, options).await.expect("opens"));
    }

    async fn push(&mut self) {
        let id = self.pushed.len() as u64 + 1;
        let batch = self.spool().push(at(id), payload(id)).await.expect("kept");
        self.pushed.insert(id, at(id));
        // As the agent does when everything before it has left.
        let next = self.session.as_ref().is_some_and(|session| session.cursor + 1 == batch.seq);
        if next && self.random.bool() {
            self.send(Lane::Live, batch);
        }
    }

    fn send(&mut self, lane: Lane, batch: Batch) {
        let session = self.session.as_mut().expect("connected");
        let spool = self.spool.as_ref().expect("open");
        let (stream, cursor) = match (lane, &mut session.backlog) {
            (Lane::Live, _) => (spool.stream(), &mut session.cursor),
            (Lane::Backlog, Some((stream, cursor))) => (*stream, cursor),
            (Lane::Backlog, None) => panic!("no backlog was announced"),
        };
        let first = *cursor + 1;
        let gaps = if batch.seq > first { spool.gaps(lane, first, batch.seq - 1, batch.ts) } else { Vec::new() };
        let mut due = first;
        for gap in &gaps {
            assert_eq!(gap.first_seq, due, "a gap does not begin where it must");
            due = gap.last_seq + 1;
        }
        assert_eq!(due, batch.seq, "a hole without a gap");
        *cursor = batch.seq;
        let id = batch.payload.reports[0].text.parse().expect("a number");
        session.under_way.push_back(Sent { stream, after: first - 1, seq: batch.seq, id, gaps });
    }

    async fn connect(&mut self) {
        if self.session.is_some() {
            return;
        }
        self.connections += 1;
        self.spool().set_apart().await.expect("set apart");
        let (stream, backlog) = (self.spool().stream(), self.spool().backlog());
        self.moved |= backlog.is_some();
        if self.random.u8(0..8) == 0 {
            // Cut before the answer: nothing was sent.
            return;
        }
        let committed = self.coordinator.committed(stream);
        let backlog = backlog.map(|backlog| (backlog.stream, self.coordinator.committed(backlog.stream)));
        let going_on = self.spool().resume(committed, backlog.map(|(_, committed)| committed)).await;
        assert!(going_on.expect("resumes"), "this spool never goes backward");
        self.session = Some(Session { cursor: committed, backlog, under_way: VecDeque::new() });
    }

    async fn drain(&mut self, most: usize) {
        let Some(session) = &self.session else { return };
        let (cursor, backlog) = (session.cursor, session.backlog);
        let mut lanes = vec![(Lane::Live, cursor)];
        lanes.extend(backlog.map(|(_, cursor)| (Lane::Backlog, cursor)));
        for (lane, cursor) in lanes {
            for batch in self.spool().after(lane, cursor, most).await.expect("readable") {
                self.send(lane, batch);
            }
        }
    }

    /// Some of what is under way arrives, and some of that is acknowledged.
    fn deliver(&mut self, most: usize) {
        let Some(session) = &mut self.session else { return };
        let mut arrived = Vec::new();
        for _ in 0..most {
            let Some(sent) = session.under_way.pop_front() else { break };
            if !self.coordinator.take(&sent) {
                return self.disconnect();
            }
            arrived.push(sent.stream);
        }
        for stream in arrived {
            if self.random.u8(0..4) > 0 {
                let committed = self.coordinator.committed(stream);
                let lane = if stream == self.spool().stream() { Lane::Live } else { Lane::Backlog };
                self.spool().ack(lane, committed);
            }
        }
    }

    /// The coordinator's queue of a connection that is gone is committed, up to
    /// the first batch that does not follow.
    fn deliver_late(&mut self) {
        while let Some(sent) = self.late.pop_front() {
            self.coordinator.take(&sent);
        }
    }

    fn cut(&mut self) {
        if let Some(session) = self.session.take() {
            self.late = session.under_way;
            let arrived = self.random.usize(0..=self.late.len());
            self.late.truncate(arrived);
        }
    }

    fn disconnect(&mut self) {
        if let Some(session) = &self.session {
            let cursor = session.cursor;
            self.spool().ended(cursor);
        }
        self.cut();
    }

    async fn crash(&mut self) {
        self.cut();
        self.spool = None;
        self.open().await;
    }

    async fn stop(&mut self) {
        self.disconnect();
        self.spool.take().expect("open").close().await;
        self.open().await;
    }

    async fn step(&mut self) {
        match self.random.u8(0..100) {
            0..40 => self.push().await,
            40..44 => {
                // A partition.
                self.disconnect();
                for _ in 0..self.random.u8(60..120) {
                    self.push().await;
                }
            }
            44..60 => self.connect().await,
            60..75 => {
                let most = self.random.usize(1..20);
                self.drain(most).await;
            }
            75..88 => {
                let most = self.random.usize(1..20);
                self.deliver(most);
            }
            88..91 => self.deliver_late(),
            91..95 => self.disconnect(),
            95..98 => self.crash().await,
            _ => self.stop().await,
        }
    }

    /// A last quiet connection, in which everything leaves.
    async fn settle(&mut self) {
        self.deliver_late();
        self.disconnect();
        self.deliver_late();
        self.push().await;
        while self.session.is_none() {
            self.connect().await;
        }
        loop {
            self.drain(1000).await;
            let left = self.session.as_ref().map_or(0, |session| session.under_way.len());
            if left == 0 {
                break;
            }
            self.deliver(left);
        }
    }

    fn judge(&self, seed: u64) {
        let mut delivered: Vec<u64> = self.coordinator.streams.values().flat_map(|stream| stream.got.clone()).collect();
        delivered.sort_unstable();
        let repeated = delivered.windows(2).find(|pair| pair[0] == pair[1]);
        assert!(repeated.is_none(), "seed {seed}: batch {repeated:?} arrived twice");
        let gaps: Vec<&Gap> = self.coordinator.streams.values().flat_map(|stream| &stream.gaps).collect();
        let lost: u64 = gaps.iter().map(|gap| gap.last_seq - gap.first_seq + 1).sum();
        let pushed = self.pushed.len() as u64;
        assert_eq!(delivered.len() as u64 + lost, pushed, "seed {seed}: {} arrived, {lost} lost", delivered.len());
        for (id, ts) in self.pushed.iter().filter(|(id, _)| delivered.binary_search(id).is_err()) {
            let told = gaps.iter().any(|gap| gap.from <= *ts && *ts <= gap.to);
            assert!(told, "seed {seed}: batch {id} is missing and no gap has its time");
        }
    }
}

#[tokio::test]
async fn in_any_history_each_batch_arrives_once_or_is_counted_lost() {
    const CASES: u64 = 100;
    let first = std::env::var("FAROL_SEED").ok().and_then(|seed| seed.parse().ok());
    let (mut moved, mut lossy) = (0, 0);
    for seed in first.map_or(0..CASES, |seed| seed..seed + 1) {
        let mut world = World::new(seed).await;
        for _ in 0..world.random.u8(20..120) {
            world.step().await;
        }
        world.settle().await;
        world.judge(seed);
        moved += u64::from(world.moved);
        lossy += u64::from(world.coordinator.streams.values().any(|stream| !stream.gaps.is_empty()));
    }
    if first.is_none() {
        assert!(moved > CASES / 5 && lossy > CASES / 5, "too tame: {moved} with a backlog, {lossy} with a loss");
    }
}
