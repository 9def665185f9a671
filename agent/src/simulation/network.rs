//! Connections that delay, stall, break and swallow.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::World;
use crate::Error;

/// What the network does with the frames of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries them.
    Open,
    /// Holds them back until it carries again, old connections included.
    Stalled,
    /// Swallows them; a connection that lost one never carries another.
    Hole,
}

/// Frames on their way from one side.
#[derive(Clone)]
pub struct Frames(mpsc::UnboundedSender<(Instant, String)>);

impl Frames {
    /// False when the connection is over.
    pub fn send(&self, text: String) -> bool {
        self.0.send((Instant::now(), text)).is_ok()
    }
}

/// One side of a connection. Dropping it closes the connection.
pub struct LinkEnd {
    /// What arrives; none is the end.
    pub incoming: mpsc::UnboundedReceiver<String>,
    /// What leaves.
    pub outgoing: Frames,
}

/// A connection at the coordinator's door.
pub struct Dialled {
    /// Whose certificate it showed.
    pub host: String,
    /// The coordinator's side.
    pub end: LinkEnd,
}

/// Weak, so that it keeps no closed side open.
type Way = mpsc::WeakUnboundedSender<(Instant, String)>;

struct Host {
    mode: watch::Sender<Mode>,
    reset: CancellationToken,
    random: fastrand::Rng,
    /// Ways into the newest connection: to the coordinator, to the agent.
    ways: Option<(Way, Way)>,
}

/// What connects the nodes of a world.
pub struct Network {
    seed: u64,
    calm: watch::Sender<bool>,
    door: Mutex<Option<mpsc::UnboundedSender<Dialled>>>,
    hosts: Mutex<HashMap<String, Host>>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, calm: watch::Sender::new(false), door: Mutex::default(), hosts: Mutex::default() }
    }

    /// Opens the coordinator's door, or closes it.
    pub fn set_door(&self, door: Option<mpsc::UnboundedSender<Dialled>>) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = door;
    }

    /// From now on nothing is slow.
    pub fn calm(&self) {
        self.calm.send_replace(true);
    }

    /// Changes what happens to the frames of a host.
    pub fn set_mode(&self, host: &str, mode: Mode) {
        self.with(host, |host| host.mode.send_replace(mode));
    }

    /// Breaks the connections of a host; what is on its way is lost.
    pub fn reset(&self, host: &str) {
        self.with(host, |host| std::mem::take(&mut host.reset).cancel());
    }

    /// Slips a frame into the newest connection of a host. False without one.
    pub fn inject(&self, host: &str, to_agent: bool, text: &str) -> bool {
        self.with(host, |host| {
            host.ways.as_ref().is_some_and(|(up, down)| {
                let way = if to_agent { down } else { up };
                way.upgrade().is_some_and(|way| way.send((Instant::now(), text.to_owned())).is_ok())
            })
        })
    }

    fn with<T>(&self, name: &str, look: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = name.bytes().fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        look(hosts.entry(name.to_owned()).or_insert_with(|| Host {
            mode: watch::Sender::new(Mode::Open),
            reset: CancellationToken::new(),
            random: fastrand::Rng::with_seed(seed),
            ways: None,
        }))
    }

    pub(crate) async fn connect(world: &Arc<World>, name: &str) -> Result<LinkEnd, Error> {
        let failed = |kind| Error::Connect { address: "the simulation".to_owned(), source: io::Error::from(kind) };
        let network = &world.network;
        let (mode, pause) = network.with(name, |host| (*host.mode.borrow(), host.random.u64(1..40)));
        if mode != Mode::Open {
            sleep(Duration::from_secs(10)).await;
            return Err(failed(io::ErrorKind::TimedOut));
        }
        sleep(Duration::from_millis(pause)).await;
        let door = network.door.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(door) = door else { return Err(failed(io::ErrorKind::ConnectionRefused)) };
        let (agent_out, up) = mpsc::unbounded_channel();
        let (coordinator_out, down) = mpsc::unbounded_channel();
        let (to_coordinator, coordinator_in) = mpsc::unbounded_channel();
        let (to_agent, agent_in) = mpsc::unbounded_channel();
        let pipe = |from, to, random, label: &str| {
            let label = format!("{name} {label}");
            network.with(name, |host| {
                let pipe = Pipe { mode: host.mode.subscribe(), reset: host.reset.clone(), random, label };
                tokio::spawn(pipe.run(from, to, Arc::clone(world)));
            });
        };
        let (first, second) = network.with(name, |host| {
            host.ways = Some((agent_out.downgrade(), coordinator_out.downgrade()));
            (host.random.fork(), host.random.fork())
        });
        let (agent_out, coordinator_out) = (Frames(agent_out), Frames(coordinator_out));
        pipe(up, to_coordinator, first, "->");
        pipe(down, to_agent, second, "<-");
        let dialled =
            Dialled { host: name.to_owned(), end: LinkEnd { incoming: coordinator_in, outgoing: coordinator_out } };
        if door.send(dialled).is_err() {
            return Err(failed(io::ErrorKind::ConnectionReset));
        }
        Ok(LinkEnd { incoming: agent_in, outgoing: agent_out })
    }
}

/// One direction of one connection.
struct Pipe {
    mode: watch::Receiver<Mode>,
    reset: CancellationToken,
    random: fastrand::Rng,
    label: String,
}

impl Pipe {
    async fn run(
        mut self,
        mut from: mpsc::UnboundedReceiver<(Instant, String)>,
        to: mpsc::UnboundedSender<String>,
        world: Arc<World>,
    ) {
        let reset = self.reset.clone();
        let carry = async {
            let mut last = Instant::now();
            let mut lost = false;
            loop {
                let next = tokio::select! {
                    biased;
                    next = from.recv() => next,
                    // The reading side is gone.
                    () = to.closed() => return,
                };
                let (sent, text) = match next {
                    // The end of the connection travels like a frame.
                    None => (Instant::now(), None),
                    Some((sent, text)) => (sent, Some(text)),
                };
                let calm = *world.network.calm.borrow();
                let ms = if self.random.u8(0..40) == 0 && !calm {
                    self.random.u64(500..4000)
                } else {
                    self.random.u64(1..30)
                };
                last = last.max(sent + Duration::from_millis(ms));
                sleep_until(last).await;
                // Fails only when the world ends.
                let _ = self.mode.wait_for(|mode| *mode != Mode::Stalled).await;
                lost |= *self.mode.borrow() == Mode::Hole;
                match text {
                    _ if lost => {
                        if text.is_none() {
                            std::future::pending::<()>().await;
                        }
                    }
                    Some(text) => {
                        world.say(&self.label, text.get(..text.floor_char_boundary(150)).unwrap_or_default());
                        if to.send(text).is_err() {
                            return;
                        }
                    }
                    None => return,
                }
            }
        };
        tokio::select! {
            biased;
            () = reset.cancelled() => {}
            () = carry => {}
        }
    }
}
