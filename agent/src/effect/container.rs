//! `container.control`, and how a container is: through the engine's own API
//! on its local socket.

use std::{
    error::Error as StdError,
    fmt::Write as _,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as BollardError,
    models::{ContainerSummary, HealthStatusEnum, PortSummaryTypeEnum},
    query_parameters::ListContainersOptionsBuilder,
};
use farol_protocol::{
    action::{FinalState, PreState, ReasonCode},
    effect::{MAX_TIMEOUT_MS, ServiceVerb},
    inventory::{ContainerItem, Published, Transport},
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

/// The containers that the engine has, running or not; none where there is no
/// engine that answers this agent.
pub(crate) async fn list(socket: &Path) -> Option<Vec<ContainerItem>> {
    let engine = Engine::connect(socket).await.ok()?;
    match engine.list().await {
        Ok(list) => Some(list),
        Err(error) => {
            tracing::debug!("the engine does not list its containers: {error}");
            None
        }
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

    async fn list(&self) -> Result<Vec<ContainerItem>, BollardError> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let list = self.0.list_containers(Some(options)).await?;
        Ok(list.into_iter().filter_map(item).collect())
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

/// A container of the engine's list; none for one without a name.
fn item(container: ContainerSummary) -> Option<ContainerItem> {
    let name = container.names.unwrap_or_default().into_iter().next()?.trim_start_matches('/').to_owned();
    let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let addresses = networks.into_values().flat_map(|network| [network.ip_address, network.global_ipv6_address]);
    let addresses = addresses.flatten().filter_map(|address| address.parse().ok()).collect();
    let published = container.ports.unwrap_or_default().into_iter().filter_map(|port| {
        let address: Option<IpAddr> = port.ip.and_then(|address| address.parse().ok());
        Some(Published {
            transport: match port.typ {
                Some(PortSummaryTypeEnum::TCP) => Transport::Tcp,
                Some(PortSummaryTypeEnum::UDP) => Transport::Udp,
                _ => Transport::Other,
            },
            address: address.filter(|address| !address.is_unspecified()),
            port: port.public_port?,
            inside: port.private_port,
        })
    });
    Some(ContainerItem {
        name,
        image: container.image,
        state: container.state.map(|state| state.to_string()).unwrap_or_default(),
        addresses,
        published: published.collect(),
    })
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
    /// Whether it runs, for whoever plans to change that.
    pub(crate) async fn look(&self, course: &mut Course<'_>) -> (Option<PreState>, Over) {
        let began = Instant::now();
        match course.within(look(&self.socket, &self.name)).await {
            Ok(Seen::State(state)) => {
                let shown = format!("{}\n", state.status);
                (Some(PreState::ContainerRunning(state.running)), done(shown, None, began).into())
            }
            Ok(seen) => (None, course.because(&self.unseen(&seen)).into()),
            Err(halt) => (None, course.halted(halt).into()),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::docker;

    #[tokio::test]
    async fn the_engines_containers_are_listed_and_no_engine_is_no_empty_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let _docker = docker::Docker::start(folder.path(), &[("portal", true)]);
        let list = list(&folder.path().join("docker.sock")).await.expect("an engine");
        let [portal] = &list[..] else { panic!("one container: {list:?}") };
        assert_eq!((portal.name.as_str(), portal.state.as_str()), ("portal", "running"));
        assert_eq!((portal.image.as_deref(), portal.addresses.len()), (Some("portal:3"), 1));
        let address = Some("127.0.0.1".parse().expect("valid"));
        assert_eq!(portal.published, [Published { transport: Transport::Tcp, address, port: 8080, inside: 80 }]);
        assert_eq!(super::list(&folder.path().join("none.sock")).await, None);
    }
}
