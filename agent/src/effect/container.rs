//! `container.control`, and how a container is: through the engine's own API
//! on its local socket.

use std::{
    error::Error as StdError,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as BollardError, models::HealthStatusEnum};
use farol_protocol::{
    action::{FinalState, ReasonCode},
    effect::{MAX_TIMEOUT_MS, ServiceVerb},
};
use tokio::time::Instant;

use super::{Course, Over, Why, done};
use crate::{fault, journal::Ending, text::Detail};

/// Starts, stops or restarts a container that the policy lists.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) verb: ServiceVerb,
    pub(crate) socket: PathBuf,
    /// Whether it ran when the plan was approved, where the plan says so.
    pub(crate) seen_running: Option<bool>,
}

/// A container's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// `running`, `exited` and so on.
    pub(crate) status: String,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    pub(crate) restarting: bool,
    /// By its own health check: `healthy`, `unhealthy`, `starting`.
    pub(crate) health: Option<String>,
    /// Restarts by the engine.
    pub(crate) restarts: u32,
}

/// What looking at a container gave.
#[derive(Debug)]
pub(crate) enum Seen {
    State(State),
    /// The engine knows no such container.
    Missing,
    /// There is no engine that this agent may use.
    NoEngine(String),
    Failed(String),
}

/// Whether the engine could have a container of this name. It becomes part of
/// an address.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (1..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}

/// How a container is.
pub(crate) async fn look(socket: &Path, name: &str) -> Seen {
    match Engine::connect(socket).await {
        Ok(engine) => engine.look(name).await,
        Err(seen) => seen,
    }
}

struct Engine(Docker);

impl Engine {
    async fn connect(socket: &Path) -> Result<Self, Seen> {
        let socket = socket.to_string_lossy();
        // Whoever asks sets the limit that counts.
        let docker = Docker::connect_with_unix(&socket, MAX_TIMEOUT_MS / 1000, API_DEFAULT_VERSION).map_err(sort)?;
        docker.negotiate_version().await.map(Self).map_err(sort)
    }

    async fn look(&self, name: &str) -> Seen {
        let found = match self.0.inspect_container(name, None).await {
            Ok(found) => found,
            Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => return Seen::Missing,
            Err(error) => return sort(error),
        };
        let Some(state) = found.state else {
            return Seen::Failed("the engine tells no state".to_owned());
        };
        let health = state.health.and_then(|health| health.status).and_then(|status| match status {
            HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
            other => Some(other.to_string()),
        });
        Seen::State(State {
            status: state.status.map(|status| status.to_string()).unwrap_or_default(),
            running: state.running.unwrap_or_default(),
            paused: state.paused.unwrap_or_default(),
            restarting: state.restarting.unwrap_or_default(),
            health,
            restarts: found.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        })
    }

    async fn control(&self, name: &str, verb: ServiceVerb) -> Result<(), BollardError> {
        let done = match verb {
            ServiceVerb::Start => self.0.start_container(name, None).await,
            ServiceVerb::Stop => self.0.stop_container(name, None).await,
            ServiceVerb::Restart => self.0.restart_container(name, None).await,
        };
        match done {
            // It is so already.
            Err(BollardError::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
            done => done,
        }
    }
}

/// An engine that cannot be reached is another matter than one that fails.
fn sort(error: BollardError) -> Seen {
    use io::ErrorKind as Kind;

    let mut words = error.to_string();
    let mut absent = matches!(error, BollardError::SocketNotFoundError(_));
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            absent |= matches!(io.kind(), Kind::NotFound | Kind::PermissionDenied | Kind::ConnectionRefused);
            // Writing to a String cannot fail.
            let _ = write!(words, ": {io}");
        }
        cause = error.source();
    }
    if absent { Seen::NoEngine(words) } else { Seen::Failed(words) }
}

impl Container {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let began = Instant::now();
        let engine = match course.within(Engine::connect(&self.socket)).await {
            Ok(Ok(engine)) => engine,
            Ok(Err(seen)) => return course.because(&self.unseen(&seen)).into(),
            Err(halt) => return course.halted(halt).into(),
        };
        match course.within(engine.look(&self.name)).await {
            Ok(Seen::State(state)) if self.seen_running.is_some_and(|seen| seen != state.running) => {
                let values = vec![("container", self.name.clone()), ("state", state.status)];
                let why = Why::refused(ReasonCode::PreStateChanged, Detail::ContainerChanged, values);
                return course.because(&why).into();
            }
            Ok(Seen::State(_)) => {}
            Ok(seen) => return course.because(&self.unseen(&seen)).into(),
            Err(halt) => return course.halted(halt).into(),
        }
        fault::point("agent.engine.before");
        let asked = course.within(engine.control(&self.name, self.verb)).await;
        fault::point("agent.engine.after");
        match asked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let seen = sort(error);
                return course.because(&Why { state: FinalState::Failed, ..self.unseen(&seen) }).into();
            }
            Err(halt) => {
                // What was asked of the engine cannot be asked back.
                let detail = course.say(Detail::EngineGoesOn, &[("container", &self.name)]);
                return Ending { detail: Some(detail), ..course.halted(halt) }.into();
            }
        }
        let state = match course.within(engine.look(&self.name)).await {
            Ok(Seen::State(state)) => state,
            Ok(seen) => return course.because(&Why { state: FinalState::Failed, ..self.unseen(&seen) }).into(),
            Err(halt) => return course.halted(halt).into(),
        };
        let ending = done(format!("{}\n", state.status), None, began);
        if state.running == (self.verb != ServiceVerb::Stop) {
            return ending.into();
        }
        let values = [("container", self.name.as_str()), ("state", &state.status), ("verb", self.verb.as_str())];
        let detail = Some(course.say(Detail::ContainerIs, &values));
        Ending { state: FinalState::Failed, detail, ..ending }.into()
    }

    fn unseen(&self, seen: &Seen) -> Why {
        let container = ("container", self.name.clone());
        match seen {
            Seen::NoEngine(error) => {
                let socket = self.socket.display().to_string();
                let values = vec![("socket", socket), ("error", error.clone())];
                Why::refused(ReasonCode::Unavailable, Detail::NoEngine, values)
            }
            Seen::Missing => Why::failed(Detail::NoContainer, vec![container]),
            Seen::Failed(error) => Why::failed(Detail::EngineFailed, vec![container, ("error", error.clone())]),
            Seen::State(state) => Why::failed(Detail::EngineFailed, vec![container, ("error", state.status.clone())]),
        }
    }
}
