//! One simulated process and its tasks.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::ThreadId,
};

use farol_protocol::Status;
use tokio::task::unconstrained;

use super::{World, quiet};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Node>>> = const { RefCell::new(None) };
}

/// Whose task is being polled.
#[must_use]
pub fn current() -> Option<Arc<Node>> {
    CURRENT.with_borrow(Clone::clone)
}

/// How a task unwinds whose node dies.
#[derive(Debug)]
pub struct Crash;

/// What a host keeps when its process dies.
#[derive(Debug, Default)]
pub struct Host {
    /// Its clock minus the true time, in ms.
    pub offset_ms: AtomicI64,
    /// Reports that its checks have made.
    pub reports: AtomicU32,
    /// How often it was started anew.
    pub boots: AtomicU32,
}

/// One simulated process.
pub struct Node {
    /// A host's name, or `coordinator`.
    pub name: String,
    /// Where it lives.
    pub world: Arc<World>,
    host: Arc<Host>,
    fate: Mutex<Fate>,
    dead: AtomicBool,
    tasks: Mutex<Vec<Weak<dyn Task>>>,
}

struct Fate {
    /// Dies when so many places have been passed.
    dies_after: Option<u64>,
    /// How many of a hundred writes the disk refuses.
    refuses: u8,
    random: fastrand::Rng,
}

trait Task: Send + Sync {
    fn end(&self);
}

type Slot<T> = Mutex<Option<Pin<Box<dyn Future<Output = T> + Send>>>>;

impl<T: Send> Task for Slot<T> {
    fn end(&self) {
        // The one that is being polled ends by unwinding.
        if let Ok(mut slot) = self.try_lock() {
            let future = slot.take();
            drop(slot);
            drop(future);
        }
    }
}

impl Node {
    /// A process that starts.
    #[must_use]
    pub fn new(name: &str, world: &Arc<World>, host: &Arc<Host>, seed: u64) -> Arc<Self> {
        farol_protocol::simulation::set_clock(clock);
        Arc::new(Self {
            name: name.to_owned(),
            world: Arc::clone(world),
            host: Arc::clone(host),
            fate: Mutex::new(Fate { dies_after: None, refuses: 0, random: fastrand::Rng::with_seed(seed) }),
            dead: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Lets it die when it passes the `places`-th place from now; 0 lets it live.
    pub fn dies_after(&self, places: u64) {
        self.fate().dies_after = (places > 0).then_some(places);
    }

    /// Lets its disk refuse so many of a hundred writes.
    pub fn refuses(&self, percent: u8) {
        self.fate().refuses = percent;
    }

    /// Names the present run of its machine, at the length of a real boot id.
    pub(crate) fn boot(&self) -> String {
        format!("{:->24}-boot-{:06}", self.name, self.host.boots.load(Ordering::Relaxed))
    }

    /// Whether it is no more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// SIGKILL: every task is dropped where it stands; what it had not
    /// committed is gone, what the operating system holds for it is released.
    pub fn kill(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks.iter().filter_map(Weak::upgrade) {
            task.end();
        }
        quiet::wait();
    }

    fn fate(&self) -> std::sync::MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_report(&self) -> (u32, Status) {
        let status = match self.fate().random.u8(0..8) {
            0 => Status::Critical,
            1 => Status::Warning,
            2 => Status::Unknown,
            _ => Status::Ok,
        };
        (self.host.reports.fetch_add(1, Ordering::Relaxed) + 1, status)
    }

    pub(super) fn passed(&self, place: &str) {
        let mut fate = self.fate();
        if let Some(left) = &mut fate.dies_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                fate.dies_after = None;
                drop(fate);
                self.world.say(&self.name, &format!("dies at {place}"));
                panic_any(Crash);
            }
        }
    }

    pub(super) fn check(&self, place: &str) -> io::Result<()> {
        let mut fate = self.fate();
        let refuses = fate.refuses;
        if refuses > 0 && fate.random.u8(0..100) < refuses {
            drop(fate);
            self.world.say(&self.name, &format!("its disk refuses {place}"));
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full"));
        }
        Ok(())
    }
}

/// A thread's time: that of the node whose task runs, or the true one.
fn clock() -> i64 {
    CURRENT.with_borrow(|node| {
        node.as_ref().map_or(0, |node| node.world.now_ms() + node.host.offset_ms.load(Ordering::Relaxed))
    })
}

/// Makes a task part of the node that makes it.
pub fn scoped<F>(future: F) -> Pin<Box<dyn Future<Output = F::Output> + Send>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match current() {
        Some(node) => Box::pin(scoped_in(&node, future)),
        None => Box::pin(future),
    }
}

/// Makes a task part of `node`.
pub fn scoped_in<F>(node: &Arc<Node>, future: F) -> Scoped<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let slot: Arc<Slot<F::Output>> = Arc::new(Mutex::new(Some(Box::pin(unconstrained(future)))));
    let task: Arc<dyn Task> = slot.clone();
    let mut tasks = node.tasks.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.retain(|task| task.strong_count() > 0);
    tasks.push(Arc::downgrade(&task));
    drop(tasks);
    Scoped { node: Arc::clone(node), slot }
}

/// A task of a node. It never ends if the node dies.
pub struct Scoped<T> {
    node: Arc<Node>,
    slot: Arc<Slot<T>>,
}

impl<T: Send> Future for Scoped<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Ok(mut slot) = self.slot.try_lock() else { return Poll::Pending };
        if self.node.is_dead() {
            *slot = None;
            return Poll::Pending;
        }
        let Some(future) = slot.as_mut() else { return Poll::Pending };
        let bell = Arc::new(Bell {
            inner: context.waker().clone(),
            home: std::thread::current().id(),
            polling: AtomicBool::new(true),
            rung: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let before = CURRENT.replace(Some(Arc::clone(&self.node)));
        let polled = loop {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
            if !matches!(polled, Ok(Poll::Pending)) {
                break polled;
            }
            quiet::wait();
            if !bell.rung.swap(false, Ordering::SeqCst) {
                bell.polling.store(false, Ordering::SeqCst);
                if bell.rung.load(Ordering::SeqCst) {
                    context.waker().wake_by_ref();
                }
                break polled;
            }
        };
        let ended = match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(value)) => Some(Ok(value)),
            Err(cause) => Some(Err(cause)),
        };
        let result = match ended {
            None => Poll::Pending,
            Some(ended) => {
                // What it held is released while its node is still known.
                let future = slot.take();
                drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
                drop(slot);
                match ended {
                    Ok(value) => Poll::Ready(value),
                    Err(cause) => {
                        died(&self.node, cause);
                        Poll::Pending
                    }
                }
            }
        };
        CURRENT.set(before);
        result
    }
}

fn died(node: &Node, cause: Box<dyn Any + Send>) {
    if !cause.is::<Crash>() {
        node.world.say(&node.name, "panics");
        resume_unwind(cause);
    }
    node.kill();
}

/// Knows whether an answer came from another thread while the task was polled.
struct Bell {
    inner: Waker,
    home: ThreadId,
    polling: AtomicBool,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if std::thread::current().id() == self.home || !self.polling.load(Ordering::SeqCst) {
            self.inner.wake_by_ref();
        } else {
            self.rung.store(true, Ordering::SeqCst);
        }
    }
}
