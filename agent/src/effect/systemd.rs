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
        let connect = async {
            let bus = Self(Connection::system().await?);
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
}
