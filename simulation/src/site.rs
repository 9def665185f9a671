//! One seed's coordinator and agents: nodes, folders, restarts.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use farol_agent::simulation::{Host, Mode, Node, World, scoped_in};
use farol_coordinator::{auth::Operator, simulation::Wish, store::Store};
use farol_pki::{Authority, files, new_host_key};
use farol_protocol::{ActionKind, Timestamp, registry::Registry};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::script::{Act, Event, Kind, Script};

/// Most agents of a seed.
pub(crate) const AGENTS: usize = 4;
/// Before any simulated time.
const ENROLLED_MS: i64 = 1_767_220_000_000;

/// Name of an agent's host.
pub(crate) fn name(agent: usize) -> String {
    format!("h{agent}")
}

/// Databases with enrolled hosts, and the hosts' identities: made once, copied
/// for each seed.
pub(crate) struct Template(TempDir);

impl Template {
    pub(crate) fn make() -> Result<Self> {
        // Memory, where there is such a folder: what a process leaves there
        // outlives it, and that is all a simulated crash asks.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("farol-simulation-").tempdir_in(parent)?;
        let template = Self(folder);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(template.enrol())?;
        Ok(template)
    }

    async fn enrol(&self) -> Result<()> {
        let data = self.0.path().join("coordinator");
        let at = Timestamp::from_ms(ENROLLED_MS);
        // Clocks of hosts are set back by hours.
        let made = OffsetDateTime::from_unix_timestamp(ENROLLED_MS / 1000 - 86_400)?;
        files::private_dir(&data)?;
        let authority = Authority::open_or_create(&data.join("pki"), made)?;
        let store = Store::open(&data).await?;
        let registry = Registry::parse(&registry(), &|_| None).map_err(|mistake| anyhow::anyhow!("{mistake:?}"))?;
        store.sync_hosts(&registry, at).await?;
        for agent in 0..AGENTS {
            let person = Operator::local_administrator();
            let token = store.add_host(&person, &name(agent), Duration::from_secs(60), at).await?.token;
            let key = new_host_key()?;
            let certify = |id: &farol_protocol::HostId| Ok(authority.issue_host(&key.csr_pem, id.as_str(), made)?);
            let (host, certificate) = store.enrol(&token, at, certify).await?;
            let identity = self.0.path().join(name(agent)).join("identity");
            files::private_dir(&self.0.path().join(name(agent)))?;
            files::private_dir(&identity)?;
            files::write_private(&identity.join("key.pem"), key.key_pem.as_bytes())?;
            files::write_private(&identity.join("cert.pem"), certificate.cert_pem.as_bytes())?;
            files::write_private(&identity.join("ca.pem"), authority.ca_pem().as_bytes())?;
            let enrolment = json!({"url": "wss://simulation:1", "host_id": host.name, "name": host.name});
            files::write_private(&identity.join("enrolment.json"), enrolment.to_string().as_bytes())?;
        }
        store.close().await;
        // A host's id decides when its checks run, so it must not be random.
        let options = SqliteConnectOptions::new().filename(data.join("state.db")).foreign_keys(false);
        let mut state = SqliteConnection::connect_with(&options).await?;
        sqlx::raw_sql("delete from enrolment_token; update host set id = name").execute(&mut state).await?;
        state.close().await?;
        Ok(())
    }
}

fn registry() -> String {
    let names: Vec<String> = (0..AGENTS).map(name).collect();
    let hosts: Vec<String> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
    format!(
        "version: 1
hosts: [{}]
silence: {{after: 30s, persona: A1, severity: high}}
scenarios:
  - id: memory
    title: Memory
    persona: A1
    severity: high
    hosts: [{}]
    runs_on: agent
    every: 4s
    timeout: 2s
    attempts: 2
    recover: 2
    checks: [{{name: used, probe: {{memory: {{critical: 90}}}}}}]
",
        hosts.join(", "),
        names.join(", ")
    )
}

/// What may run on a host: each act has its own service, whose program says
/// what the record is to hold.
fn policy(acts: &[Act]) -> String {
    let services: Vec<String> = acts
        .iter()
        .map(|act| {
            let run = json!({"restart": words(act), "status": ["/sim/status"]});
            format!("  - {{name: {}, verbs: [restart], class: R1, run: {run}}}\n", act.label)
        })
        .collect();
    format!(
        "version: 1
max_unsigned_class: R2
commands:
  - {{command: /sim/run, args: ['**'], class: R2}}
  - {{command: /sim/high, args: ['**'], class: R3}}
services:
{}",
        services.concat()
    )
}

fn words(act: &Act) -> Vec<String> {
    let program = match act.kind {
        Kind::Command | Kind::Service => "/sim/run",
        Kind::Unlisted => "/sim/unlisted",
        Kind::TooHigh => "/sim/high",
    };
    let obeys = if act.obeys { "obeys" } else { "stubborn" };
    [program, &act.label, &act.ms.to_string(), &act.exit.to_string(), obeys].map(str::to_owned).to_vec()
}

struct Process {
    node: Arc<Node>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    fn is_alive(&self) -> bool {
        !self.node.is_dead() && !self.task.is_finished()
    }
}

/// Everything of one seed.
pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    folder: TempDir,
    seed: u64,
    starts: u64,
    script: Script,
    hosts: Vec<Arc<Host>>,
    agents: Vec<Option<Process>>,
    coordinator: Option<Process>,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Asked for while the coordinator was down: people ask again.
    waiting: Vec<Wish>,
}

impl Site {
    pub(crate) fn new(template: &Template, world: &Arc<World>, seed: u64, script: Script) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("seed-").tempdir_in(template.0.path())?;
        copy(&template.0.path().join("coordinator"), &folder.path().join("coordinator"))?;
        for agent in 0..script.agents {
            let state = folder.path().join(name(agent));
            copy(&template.0.path().join(name(agent)), &state)?;
            std::fs::write(folder.path().join(format!("{}.policy.yaml", name(agent))), policy(&script.acts))?;
        }
        let mut site = Self {
            world: Arc::clone(world),
            folder,
            seed,
            starts: 0,
            hosts: (0..=script.agents).map(|_| Arc::default()).collect(),
            agents: (0..script.agents).map(|_| None).collect(),
            coordinator: None,
            wishes: mpsc::unbounded_channel().0,
            waiting: Vec::new(),
            script,
        };
        site.start(None);
        for agent in 0..site.agents.len() {
            site.start(Some(agent));
        }
        Ok(site)
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    pub(crate) fn coordinator_folder(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }

    pub(crate) fn agent_folder(&self, agent: usize) -> PathBuf {
        self.folder.path().join(name(agent))
    }

    fn process(&self, who: Option<usize>) -> Option<&Process> {
        let process = match who {
            Some(agent) => self.agents[agent].as_ref(),
            None => self.coordinator.as_ref(),
        };
        process.filter(|process| process.is_alive())
    }

    fn node(&mut self, who: Option<usize>) -> Arc<Node> {
        self.starts += 1;
        let (name, host) = match who {
            Some(agent) => (name(agent), &self.hosts[agent]),
            None => ("coordinator".to_owned(), &self.hosts[self.script.agents]),
        };
        Node::new(&name, &self.world, host, self.seed.wrapping_mul(1000) + self.starts)
    }

    /// Starts an agent, or the coordinator, unless it runs.
    pub(crate) fn start(&mut self, who: Option<usize>) {
        if self.process(who).is_some() {
            return;
        }
        // One that dies when it is asked to stop may still hold its folder.
        let old = match who {
            Some(agent) => self.agents[agent].take(),
            None => self.coordinator.take(),
        };
        if let Some(old) = old {
            old.node.kill();
        }
        let node = self.node(who);
        let (stop, world) = (CancellationToken::new(), Arc::clone(&self.world));
        self.world.say(&node.name, "starts");
        let task = match who {
            Some(agent) => {
                let mut config = farol_agent::Config::new(self.agent_folder(agent));
                config.policy = self.folder.path().join(format!("{}.policy.yaml", name(agent)));
                config.interval = self.script.interval;
                config.reconnect_max = Duration::from_secs(3);
                config.spool_max_bytes = self.script.spool_bytes;
                let shutdown = stop.clone();
                let who = node.name.clone();
                scoped_in(&node, async move {
                    match farol_agent::run(config, shutdown).await {
                        Ok(()) => world.say(&who, "has stopped"),
                        Err(error) => world.say(&who, &format!("ends: {}", error.sentence())),
                    }
                })
            }
            None => {
                let (door, dialled) = mpsc::unbounded_channel();
                let (wishes, wished) = mpsc::unbounded_channel();
                self.wishes = wishes;
                for wish in self.waiting.drain(..) {
                    // The receiver is in the task below.
                    let _ = self.wishes.send(wish);
                }
                world.network.set_door(Some(door));
                let (folder, stop) = (self.coordinator_folder(), stop.clone());
                let heartbeat = self.script.heartbeat_ms;
                scoped_in(&node, async move {
                    let registry = registry();
                    let served = farol_coordinator::simulation::serve(
                        Arc::clone(&world),
                        &folder,
                        &registry,
                        Duration::from_millis(heartbeat),
                        dialled,
                        wished,
                        stop,
                    );
                    match served.await {
                        Ok(()) => world.say("coordinator", "has stopped"),
                        Err(error) => world.say("coordinator", &format!("ends: {error}")),
                    }
                })
            }
        };
        let task = tokio::spawn(task);
        let process = Process { node, stop, task };
        match who {
            Some(agent) => self.agents[agent] = Some(process),
            None => self.coordinator = Some(process),
        }
    }

    /// Kills it where it stands.
    pub(crate) fn kill(&mut self, who: Option<usize>) {
        if let Some(process) = self.process(who) {
            self.world.say(&process.node.name, "is killed");
            process.node.kill();
        }
    }

    /// A wish that waits for the coordinator if need be.
    pub(crate) fn wish(&mut self, wish: Wish) {
        if self.process(None).is_none() {
            self.waiting.push(wish);
        } else {
            // Lost with the coordinator, as a request is.
            let _ = self.wishes.send(wish);
        }
    }

    /// All actions, when the coordinator is there to tell.
    pub(crate) async fn look(&mut self) -> Option<Vec<farol_coordinator::store::actions::ActionRow>> {
        let (answer, rows) = oneshot::channel();
        self.process(None)?;
        self.wishes.send(Wish::Look(answer)).ok()?;
        tokio::time::timeout(Duration::from_secs(5), rows).await.ok()?.ok()
    }

    /// Everything works again.
    pub(crate) fn heal(&mut self) {
        self.world.say("-", "the faults end");
        self.world.network.calm();
        for agent in 0..self.agents.len() {
            self.world.network.set_mode(&name(agent), Mode::Open);
        }
        for process in self.agents.iter().flatten().chain(&self.coordinator) {
            process.node.refuses(0);
            process.node.dies_after(0);
        }
        self.start_all();
    }

    pub(crate) fn start_all(&mut self) {
        self.start(None);
        for agent in 0..self.agents.len() {
            self.start(Some(agent));
        }
    }

    pub(crate) fn stop_all(&mut self) {
        for agent in 0..self.agents.len() {
            self.kill(Some(agent));
        }
        self.kill(None);
    }

    pub(crate) fn apply(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Act(act) => {
                let (kind, params) = if act.kind == Kind::Service {
                    let params = json!({"service": act.label, "verb": "restart", "timeout": act.timeout});
                    (ActionKind::ServiceControl, params)
                } else {
                    let words = words(&act);
                    let params = json!({"command": words[0], "args": &words[1..], "timeout": act.timeout});
                    (ActionKind::CommandExec, params)
                };
                self.wish(Wish::Act { host: name(act.agent), kind, params, label: act.label });
            }
            Event::Cancel(label) => self.wish(Wish::Cancel(label)),
            Event::Network(agent, mode) => {
                self.world.say(&name(agent), &format!("network: {mode:?}"));
                self.world.network.set_mode(&name(agent), mode);
            }
            Event::Reset(agent) => {
                self.world.say(&name(agent), "network: connections break");
                self.world.network.reset(&name(agent));
            }
            Event::Kill { agent, places: 0 } => self.kill(agent),
            Event::Kill { agent, places } => {
                if let Some(process) = self.process(agent) {
                    process.node.dies_after(places);
                }
            }
            Event::Stop(who) => {
                if let Some(process) = self.process(who) {
                    self.world.say(&process.node.name, "is asked to stop");
                    process.stop.cancel();
                }
            }
            Event::Start(who) => self.start(who),
            Event::Disk { agent, refuses } => {
                if let Some(process) = self.process(agent) {
                    self.world.say(&process.node.name, &format!("disk: refuses {refuses}%"));
                    process.node.refuses(refuses);
                }
            }
            Event::Clock(agent, ms) => {
                self.world.say(&name(agent), &format!("clock: {ms} ms"));
                self.hosts[agent].offset_ms.fetch_add(ms, Ordering::Relaxed);
            }
            Event::Snapshot(agent) => {
                self.world.say(&name(agent), "is copied");
                let copy_to = self.folder.path().join(format!("{}.copy", name(agent)));
                if copy_to.exists() {
                    std::fs::remove_dir_all(&copy_to)?;
                }
                copy(&self.agent_folder(agent), &copy_to)?;
            }
            Event::Restore(agent) => {
                let from = self.folder.path().join(format!("{}.copy", name(agent)));
                if from.exists() {
                    self.kill(Some(agent));
                    self.world.say(&name(agent), "is set back to its copy");
                    self.world.effects.end_all(&name(agent));
                    self.hosts[agent].boots.fetch_add(1, Ordering::Relaxed);
                    std::fs::remove_dir_all(self.agent_folder(agent))?;
                    copy(&from, &self.agent_folder(agent))?;
                }
            }
            Event::Unknown { agent, to_agent } => {
                self.world.network.inject(&name(agent), to_agent, UNKNOWN);
            }
        }
        Ok(())
    }
}

/// A frame of a later version.
pub(crate) const UNKNOWN: &str = r#"{"method":"of.tomorrow","x":1}"#;

/// A folder as a crash would leave it: databases and their logs.
fn copy(from: &Path, to: &Path) -> Result<()> {
    files::private_dir(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(name))?;
        } else if !name.to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
