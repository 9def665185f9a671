//! What happens in a seed: decided before it begins, by the seed alone.

use std::time::Duration;

use farol_agent::simulation::Mode;
use fastrand::Rng;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A person wants an action.
    Act(Act),
    /// A person wants an action back.
    Cancel(String),
    /// The network of a host changes; the end of it is an event of its own.
    Network(usize, Mode),
    /// The connections of a host break.
    Reset(usize),
    /// An agent (or none: the coordinator) is killed, now or at a place that
    /// it passes, and starts again after a while.
    Kill { agent: Option<usize>, places: u64 },
    /// It is asked to stop, and starts again after a while.
    Stop(Option<usize>),
    /// A dead one starts.
    Start(Option<usize>),
    /// Its disk refuses so many of a hundred writes from now on.
    Disk { agent: Option<usize>, refuses: u8 },
    /// A host's clock jumps by so many ms.
    Clock(usize, i64),
    /// A copy of an agent's folder is made.
    Snapshot(usize),
    /// The machine of an agent is set back to the copy.
    Restore(usize),
    /// A frame that the other side does not know.
    Unknown { agent: usize, to_agent: bool },
}

/// An action somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(crate) label: String,
    pub(crate) agent: usize,
    pub(crate) kind: Kind,
    /// How long its effect takes.
    pub(crate) ms: u64,
    pub(crate) exit: u8,
    pub(crate) obeys: bool,
    pub(crate) timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `command.exec` that the policy allows.
    Command,
    /// `service.control` that the policy allows.
    Service,
    /// `command.exec` that the policy does not list.
    Unlisted,
    /// `command.exec` whose class on this host is above what runs unsigned.
    TooHigh,
}

impl Kind {
    /// Whether the host may let it run.
    pub(crate) const fn allowed(self) -> bool {
        matches!(self, Self::Command | Self::Service)
    }
}

/// A whole seed.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) agents: usize,
    pub(crate) spool_bytes: u64,
    pub(crate) interval: Duration,
    pub(crate) heartbeat_ms: u64,
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) acts: Vec<Act>,
    /// Hosts that are set back, and so may say the same twice.
    pub(crate) restored: Vec<usize>,
    pub(crate) length: Duration,
    /// Whether nobody decides about proposals that want a signature, so that
    /// they expire: an hour of simulated time, and dear.
    pub(crate) patient: bool,
}

impl Script {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let agents = random.usize(2..=4);
        let length_ms = random.u64(40_000..150_000);
        let mut script = Self {
            agents,
            spool_bytes: if random.u8(0..4) == 0 { 1500 } else { 1 << 20 },
            interval: Duration::from_millis(random.u64(1500..12_000)),
            heartbeat_ms: *random.choice(&[2_000, 5_000, 15_000]).unwrap_or(&5_000),
            events: Vec::new(),
            acts: Vec::new(),
            restored: Vec::new(),
            length: Duration::from_millis(length_ms),
            patient: random.u8(..) == 0,
        };
        for number in 0..random.usize(3..10) {
            script.act(&mut random, number, length_ms);
        }
        for _ in 0..random.usize(2..14) {
            script.fault(&mut random, length_ms);
        }
        // Equal times keep the order in which they were made.
        script.events.sort_by_key(|(at, _)| *at);
        script
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.events.push((Duration::from_millis(ms), event));
    }

    fn act(&mut self, random: &mut Rng, number: usize, length_ms: u64) {
        let kind = match random.u8(0..10) {
            0 => Kind::Unlisted,
            1 => Kind::TooHigh,
            2..=4 => Kind::Service,
            _ => Kind::Command,
        };
        let act = Act {
            label: format!("a{number}"),
            agent: random.usize(0..self.agents),
            kind,
            ms: if random.bool() { random.u64(0..50) } else { random.u64(50..20_000) },
            exit: u8::from(random.u8(0..6) == 0),
            obeys: random.u8(0..4) != 0,
            timeout: random.u64(2..25) * 1000,
        };
        let at = random.u64(500..length_ms);
        if random.u8(0..4) == 0 {
            self.at(at + random.u64(0..8_000), Event::Cancel(act.label.clone()));
        }
        self.acts.push(act.clone());
        self.at(at, Event::Act(act));
    }

    fn fault(&mut self, random: &mut Rng, length_ms: u64) {
        let at = random.u64(0..length_ms);
        let agent = random.usize(0..self.agents);
        let who = (random.u8(0..3) != 0).then_some(agent);
        match random.u8(0..14) {
            0 | 1 => {
                let mode = if random.bool() { Mode::Stalled } else { Mode::Hole };
                self.at(at, Event::Network(agent, mode));
                self.at(at + random.u64(500..40_000), Event::Network(agent, Mode::Open));
            }
            2 | 3 => self.at(at, Event::Reset(agent)),
            4..=8 => {
                let places = if random.u8(0..4) == 0 { 0 } else { random.u64(1..60) };
                self.at(at, Event::Kill { agent: who, places });
                self.at(at + random.u64(100..20_000), Event::Start(who));
            }
            9 => {
                self.at(at, Event::Stop(who));
                self.at(at + random.u64(100..20_000), Event::Start(who));
            }
            10 => {
                self.at(at, Event::Disk { agent: who, refuses: random.u8(10..100) });
                self.at(at + random.u64(100..20_000), Event::Disk { agent: who, refuses: 0 });
            }
            11 => {
                let ms = random.i64(-40_000_000..40_000_000) >> random.u8(0..16);
                self.at(at, Event::Clock(agent, ms));
            }
            12 => {
                self.restored.push(agent);
                self.at(at, Event::Snapshot(agent));
                let back = at + random.u64(1000..40_000);
                self.at(back, Event::Restore(agent));
                self.at(back + random.u64(100..5_000), Event::Start(Some(agent)));
            }
            _ => self.at(at, Event::Unknown { agent, to_agent: random.bool() }),
        }
    }
}
