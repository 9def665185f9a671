//! systemd, over the system's D-Bus: units and jobs on them.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use farol_protocol::effect::ServiceVerb;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, message::Type};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// A bus on the same machine answers within this, or is none.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Signals that may wait to be looked at.
const QUEUE: usize = 256;

/// The system's bus with systemd on it.
pub(crate) struct Bus(Connection);

/// A unit as systemd describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `loaded`, `not-found`, `masked`.
    pub(crate) load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub(crate) active: String,
    /// Finer, by the type of unit.
    pub(crate) sub: String,
    /// How it ended last; empty where the type has none.
    pub(crate) result: String,
    /// Automatic restarts; none where the type has none.
    pub(crate) restarts: Option<u32>,
}

impl Unit {
    /// Whether `systemctl is-active` would say so.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// From the lines of `systemctl show`.
    pub(crate) fn from_show(text: &str) -> Self {
        let mut unit = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "LoadState" => unit.load = value.to_owned(),
                "ActiveState" => unit.active = value.to_owned(),
                "SubState" => unit.sub = value.to_owned(),
                "Result" => unit.result = value.to_owned(),
                "NRestarts" => unit.restarts = value.parse().ok(),
                _ => {}
            }
        }
        unit
    }

    /// In the words of `systemctl show`.
    pub(crate) fn show(&self) -> String {
        format!("ActiveState={}\nSubState={}\nResult={}\n", self.active, self.sub, self.result)
    }
}

/// A unit in a list of them.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// `loaded`, `not-found`.
    pub(crate) load: String,
    pub(crate) active: String,
    pub(crate) sub: String,
    path: OwnedObjectPath,
}

/// The full name of a unit: a service, unless its type is given.
pub(crate) fn unit_name(name: &str) -> String {
    const TYPES: [&str; 11] =
        ["service", "socket", "target", "timer", "mount", "automount", "swap", "path", "slice", "scope", "device"];
    if name.rsplit_once('.').is_some_and(|(_, kind)| TYPES.contains(&kind)) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}

/// A job that systemd works on.
pub(crate) struct Job<'a> {
    bus: &'a Bus,
    path: OwnedObjectPath,
    removed: MessageStream,
}

impl Bus {
    /// None where this host has no system bus, or no systemd on it.
    pub(crate) async fn connect() -> Option<Self> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        Self::over(Connection::system()).await
    }

    async fn over(connecting: impl Future<Output = zbus::Result<Connection>>) -> Option<Self> {
        let connect = async {
            let bus = Self(connecting.await?);
            // Whoever has the name but does not answer is no systemd.
            bus.property(ROOT, MANAGER, "Version").await?;
            Ok::<_, zbus::Error>(bus)
        };
        match timeout(CONNECT_WAIT, connect).await {
            Ok(Ok(bus)) => Some(bus),
            Ok(Err(error)) => {
                tracing::debug!("no systemd on the bus: {error}");
                None
            }
            Err(_) => None,
        }
    }

    async fn call<B>(&self, path: &str, interface: &str, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.0.call_method(Some(SYSTEMD), path, Some(interface), method, body).await
    }

    async fn property(&self, path: &str, interface: &str, name: &str) -> zbus::Result<OwnedVariant> {
        self.call(path, PROPERTIES, "Get", &(interface, name)).await?.body().deserialize()
    }

    /// How a unit is; loaded if it was not.
    pub(crate) async fn unit(&self, name: &str) -> zbus::Result<Unit> {
        let path: OwnedObjectPath = self.call(ROOT, MANAGER, "LoadUnit", &(name,)).await?.body().deserialize()?;
        // All interfaces at once: an empty name stands for every one of them.
        let answer = self.call(path.as_str(), PROPERTIES, "GetAll", &("",)).await?;
        let all: HashMap<String, OwnedVariant> = answer.body().deserialize()?;
        let text = |name: &str| all.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or("").to_owned();
        Ok(Unit {
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
            result: text("Result"),
            restarts: all.get("NRestarts").and_then(|value| u32::try_from(value).ok()),
        })
    }

    /// Services that are active or failed, with which of the two.
    pub(crate) async fn services(&self) -> zbus::Result<Vec<(String, String)>> {
        let all = self.list(&["active", "failed"], &["*.service"]).await?;
        Ok(all.into_iter().filter(|unit| unit.load == "loaded").map(|unit| (unit.name, unit.active)).collect())
    }

    /// Loaded units in one of `states` whose name is one of `patterns`, or any.
    pub(crate) async fn list(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>> {
        // Name, description, load, active and sub state, followed unit, path, job.
        type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let answer = self.call(ROOT, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
        let rows: Vec<Row> = answer.body().deserialize()?;
        Ok(rows
            .into_iter()
            .map(|(name, _, load, active, sub, _, path, ..)| Listed { name, load, active, sub, path })
            .collect())
    }

    /// Automatic restarts of a service.
    pub(crate) async fn restarts(&self, service: &Listed) -> zbus::Result<u32> {
        let value = self.property(service.path.as_str(), "org.freedesktop.systemd1.Service", "NRestarts").await?;
        u32::try_from(&*value)
    }

    /// Asks for a job on a unit.
    pub(crate) async fn control(&self, unit: &str, verb: ServiceVerb) -> zbus::Result<Job<'_>> {
        let method = match verb {
            ServiceVerb::Start => "StartUnit",
            ServiceVerb::Stop => "StopUnit",
            ServiceVerb::Restart => "RestartUnit",
        };
        // Listening comes first: a job can end before its answer is read.
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .path(ROOT)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let removed = MessageStream::for_match_rule(rule, &self.0, NonZeroUsize::new(QUEUE)).await?;
        self.call(ROOT, MANAGER, "Subscribe", &()).await?;
        let path = self.call(ROOT, MANAGER, method, &(unit, "replace")).await?.body().deserialize()?;
        Ok(Job { bus: self, path, removed })
    }
}

impl Job<'_> {
    /// Waits until systemd is done with it: `done`, `failed`, `timeout` and so
    /// on.
    pub(crate) async fn ended(&mut self) -> zbus::Result<String> {
        while let Some(message) = self.removed.next().await {
            let message = message?;
            let body = message.body();
            let (_, job, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            if job == self.path {
                return Ok(result);
            }
        }
        Err(zbus::Error::Failure("the bus went away".to_owned()))
    }

    /// Asks systemd to give it up.
    pub(crate) async fn cancel(&self) -> zbus::Result<()> {
        self.bus.call(self.path.as_str(), "org.freedesktop.systemd1.Job", "Cancel", &()).await.map(drop)
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A systemd on a private bus: the real D-Bus, with as much behind it as
    //! jobs on a few units need.

    use std::{
        process::Stdio,
        sync::{Arc, Mutex},
    };

    use tokio::{
        io::{AsyncBufReadExt as _, BufReader},
        process::{Child, Command},
    };
    use zbus::{Variant, connection::Builder};

    use super::*;

    const JOB: &str = "/org/freedesktop/systemd1/job/7";

    pub(crate) struct Systemd {
        address: String,
        active: Arc<Mutex<HashMap<String, bool>>>,
        failed: Arc<Mutex<Vec<String>>>,
        calls: Arc<Mutex<Vec<String>>>,
        _daemon: Child,
    }

    impl Systemd {
        /// Units and whether they are active. The job of one called
        /// `stuck.service` never ends by itself, that of `weak.service` fails,
        /// and `denied.service` may not be touched. None without a dbus-daemon.
        pub(crate) async fn start(units: &[(&str, bool)]) -> Option<Self> {
            let program = crate::exec::resolve("dbus-daemon")?;
            let mut daemon = Command::new(program)
                .args(["--session", "--nofork", "--print-address"])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("starts");
            let mut lines = BufReader::new(daemon.stdout.take().expect("a pipe")).lines();
            let address = lines.next_line().await.expect("readable").expect("an address");
            let active = units.iter().map(|(name, active)| ((*name).to_owned(), *active)).collect();
            let (active, calls, failed) = (Arc::new(Mutex::new(active)), Arc::default(), Arc::default());
            let systemd = Self { address, active, failed, calls, _daemon: daemon };
            let connection = systemd.connection().await;
            let messages = MessageStream::from(&connection);
            connection.request_name(SYSTEMD).await.expect("free");
            let (active, calls) = (Arc::clone(&systemd.active), Arc::clone(&systemd.calls));
            let failed = Arc::clone(&systemd.failed);
            tokio::spawn(async move {
                let mut messages = messages;
                while let Some(Ok(message)) = messages.next().await {
                    if message.message_type() == Type::MethodCall {
                        answer(&connection, &message, &active, &failed, &calls).await;
                    }
                }
            });
            Some(systemd)
        }

        /// A unit that failed.
        pub(crate) fn fail(&self, unit: &str) {
            self.failed.lock().expect("whole").push(unit.to_owned());
        }

        async fn connection(&self) -> Connection {
            Builder::address(self.address.as_str()).build().await.expect("connects")
        }

        pub(crate) async fn bus(&self) -> Bus {
            Bus::over(async { Ok(self.connection().await) }).await.expect("systemd is there")
        }

        pub(crate) fn calls(&self) -> Vec<String> {
            self.calls.lock().expect("whole").clone()
        }
    }

    async fn answer(
        connection: &Connection,
        message: &Message,
        active: &Mutex<HashMap<String, bool>>,
        failed: &Mutex<Vec<String>>,
        calls: &Mutex<Vec<String>>,
    ) {
        let header = message.header();
        let method = header.member().expect("a method").to_string();
        let path = header.path().expect("a path").to_string();
        let object = |path: &str| OwnedObjectPath::try_from(path.to_owned()).expect("valid");
        let removed = async |unit: &str, result: &str| {
            let body = (7_u32, object(JOB), unit, result);
            connection.emit_signal(None::<&str>, ROOT, MANAGER, "JobRemoved", &body).await.expect("sent");
        };
        let body = message.body();
        match method.as_str() {
            "ListUnitsByPatterns" => {
                let (states, patterns): (Vec<String>, Vec<String>) = body.deserialize().expect("two lists");
                let row = |name: &str, load: &str, active: &str, sub: &str| {
                    let path = object(&format!("{ROOT}/unit/{}", name.trim_end_matches(".service")));
                    let text = |text: &str| text.to_owned();
                    (
                        text(name),
                        text("d"),
                        text(load),
                        text(active),
                        text(sub),
                        text(""),
                        path,
                        0_u32,
                        text(""),
                        object("/"),
                    )
                };
                let rows: Vec<_> = if states == ["failed"] {
                    failed.lock().expect("whole").iter().map(|name| row(name, "loaded", "failed", "failed")).collect()
                } else {
                    assert_eq!(patterns, ["*.service"]);
                    let active = active.lock().expect("whole");
                    let runs = active.iter().filter(|(_, runs)| **runs);
                    let removed = row("gone.service", "not-found", "active", "running");
                    runs.map(|(name, _)| row(name, "loaded", "active", "running")).chain([removed]).collect()
                };
                connection.reply(&header, &rows).await.expect("sent");
            }
            "Get" if path.contains("/unit/") => {
                connection.reply(&header, &Variant::from(3_u32)).await.expect("sent");
            }
            "Get" => connection.reply(&header, &Variant::from("255")).await.expect("sent"),
            "Subscribe" => connection.reply(&header, &()).await.expect("sent"),
            "LoadUnit" => {
                let (name,): (String,) = body.deserialize().expect("a name");
                let name = name.strip_suffix(".service").unwrap_or(&name).replace('-', "_2d");
                connection.reply(&header, &object(&format!("{ROOT}/unit/{name}"))).await.expect("sent");
            }
            "GetAll" => {
                let name = path.rsplit('/').next().expect("a name").replace("_2d", "-") + ".service";
                let known = active.lock().expect("whole").get(&name).copied();
                let state = if known == Some(true) { "active" } else { "inactive" };
                let load = if known.is_some() { "loaded" } else { "not-found" };
                let all: HashMap<&str, Variant<'_>> = HashMap::from([
                    ("LoadState", Variant::from(load)),
                    ("ActiveState", Variant::from(state)),
                    ("SubState", Variant::from("some")),
                    ("Result", Variant::from("success")),
                    ("NRestarts", Variant::from(3_u32)),
                ]);
                connection.reply(&header, &all).await.expect("sent");
            }
            "StartUnit" | "StopUnit" | "RestartUnit" => {
                let (unit, mode): (String, String) = body.deserialize().expect("two words");
                calls.lock().expect("whole").push(format!("{method} {unit} {mode}"));
                if unit == "denied.service" {
                    let name = "org.freedesktop.DBus.Error.AccessDenied";
                    return connection.reply_error(&header, name, &("not for you",)).await.expect("sent");
                }
                if unit == "fine.service" {
                    active.lock().expect("whole").insert(unit.clone(), method != "StopUnit");
                    // Before the answer, which must not lose it.
                    removed(&unit, "done").await;
                }
                connection.reply(&header, &object(JOB)).await.expect("sent");
                if unit == "weak.service" {
                    removed(&unit, "failed").await;
                }
            }
            "Cancel" => {
                calls.lock().expect("whole").push(format!("Cancel {path}"));
                connection.reply(&header, &()).await.expect("sent");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_type_is_a_service() {
        for (name, unit) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("backup.timer", "backup.timer"),
            ("getty@tty1", "getty@tty1.service"),
            ("app-1.2", "app-1.2.service"),
        ] {
            assert_eq!(unit_name(name), unit);
        }
    }

    #[test]
    fn the_words_of_systemctl_show_are_read() {
        let unit = Unit::from_show(
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7\n",
        );
        assert_eq!((unit.restarts, unit.is_active()), (Some(7), false));
        assert_eq!(unit.show(), "ActiveState=activating\nSubState=auto-restart\nResult=exit-code\n");
        assert_eq!(Unit::from_show("NRestarts=\n").restarts, None);
    }

    #[tokio::test]
    async fn services_that_are_loaded_and_active_or_failed_are_listed() {
        let Some(systemd) = fake::Systemd::start(&[("fine.service", true), ("off.service", false)]).await else {
            return eprintln!("skipped: there is no dbus-daemon");
        };
        let services = systemd.bus().await.services().await.expect("listed");
        assert_eq!(services, [("fine.service".to_owned(), "active".to_owned())]);
    }

    #[tokio::test]
    async fn a_unit_is_read_from_the_bus() {
        let Some(systemd) = fake::Systemd::start(&[("fine.service", true)]).await else { return };
        let bus = systemd.bus().await;
        let unit = bus.unit("fine.service").await.expect("known");
        assert!(unit.is_active() && unit.load == "loaded" && unit.restarts == Some(3), "{unit:?}");
        assert_eq!(bus.unit("none.service").await.expect("answered").load, "not-found");
    }
}
