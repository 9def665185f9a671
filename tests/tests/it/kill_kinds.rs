//! The kinds of action that run through the kill points, and how what each
//! did is counted.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use farol_tests::engine::Engine;
use serde_json::{Value, json};

use crate::support::{append, count};

/// [`OLD`]'s SHA-256, by another program than the one under test.
const OLD_SHA256: &str = "a824aa8edb39b15bc361a8675ce0576e9f6412e1288a4a685aaf42f62f3df51c";
const OLD: &str = "listen 80\nname old\n";
const NEW: &str = "listen 80\nname new\n";

/// A new kind of action takes a variant, and an arm in each `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Service,
    Container,
    Apply,
    Rollback,
    Diff,
    Logs,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Exec, Self::Service, Self::Container, Self::Apply, Self::Rollback, Self::Diff, Self::Logs];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "command.exec",
            Self::Service => "service.control",
            Self::Container => "container.control",
            Self::Apply => "file.apply",
            Self::Rollback => "file.rollback",
            Self::Diff => "file.diff",
            Self::Logs => "logs.read",
        }
    }

    /// Places in the agent that only this kind passes.
    pub(crate) const fn places(self) -> &'static [&'static str] {
        match self {
            Self::Exec | Self::Service => &["agent.exec.spawned", "agent.exec.recorded"],
            Self::Container => &["agent.engine.before", "agent.engine.after"],
            Self::Apply => &["agent.file.kept", "agent.file.replace.before", "agent.file.replace.after"],
            Self::Rollback => &["agent.file.replace.before", "agent.file.replace.after"],
            Self::Diff | Self::Logs => &[],
        }
    }
}

/// Where the effects of one site's actions are seen.
pub(crate) struct Scene {
    folder: PathBuf,
    engine: Engine,
}

impl Scene {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        // As the agent names it.
        let folder = std::fs::canonicalize(folder)?.join("scene");
        std::fs::create_dir(&folder)?;
        let engine = Engine::start(&folder.join("docker.sock"))?;
        Ok(Self { folder, engine })
    }

    /// The agent's settings.
    pub(crate) fn settings(&self) -> String {
        format!("docker_socket: {}\n", self.folder.join("docker.sock").display())
    }

    fn effects(&self) -> PathBuf {
        self.folder.join("effects")
    }

    /// A case's own folder, with nothing in it but the file.
    fn own(&self, word: &str) -> PathBuf {
        self.folder.join(word)
    }

    fn file(&self, word: &str) -> PathBuf {
        self.own(word).join("app.conf")
    }

    fn shell(&self, word: &str) -> String {
        // Longer than what the coordinator gives a beginning to be written with its end.
        format!("{}; sleep 0.1", append(word, &self.effects()))
    }

    /// What is there before the action.
    pub(crate) fn prepare(&self, word: &str) -> Result<()> {
        std::fs::create_dir(self.own(word))?;
        Ok(std::fs::write(self.file(word), OLD)?)
    }

    /// The lines of the policy that allow it.
    pub(crate) fn policy(&self, kind: Kind, word: &str) -> String {
        match kind {
            Kind::Exec => "commands: [{command: /bin/sh, args: [-c, '*'], class: R2}]\n".to_owned(),
            Kind::Service => {
                let run = json!({"restart": ["/bin/sh", "-c", self.shell(word)], "status": ["/bin/true"]});
                format!("services: [{{name: portal, verbs: [restart], class: R1, run: {run}}}]\n")
            }
            Kind::Container => format!("containers: [{{name: {word}, verbs: [restart], class: R1}}]\n"),
            Kind::Apply | Kind::Rollback | Kind::Diff | Kind::Logs => {
                let shown = self.own(word);
                format!("paths: {{read: [{0}], write: [{0}]}}\n", shown.display())
            }
        }
    }

    /// `applied` is the action that a rollback takes back.
    pub(crate) fn params(&self, kind: Kind, word: &str, applied: Option<&str>) -> Value {
        let path = self.file(word);
        match kind {
            Kind::Exec => json!({"command": "/bin/sh", "args": ["-c", self.shell(word)], "timeout": 30_000}),
            Kind::Service => json!({"service": "portal", "verb": "restart", "timeout": 30_000}),
            Kind::Container => json!({"container": word, "verb": "restart", "timeout": 30_000}),
            Kind::Apply => json!({"path": path, "content": NEW, "expected_sha256": OLD_SHA256}),
            Kind::Rollback => json!({"action_id": applied}),
            Kind::Diff => json!({"path": path, "want": NEW}),
            Kind::Logs => json!({"source": {"path": path}}),
        }
    }

    /// How often it happened. A file is wholly old or wholly new, with nothing
    /// beside it; reading happened when what was read is told.
    pub(crate) fn times(&self, kind: Kind, word: &str, action: &Value) -> Result<usize> {
        match kind {
            Kind::Exec | Kind::Service => return Ok(count(word, &self.effects())),
            Kind::Container => return Ok(self.engine.restarts(word)),
            _ => {}
        }
        let content = std::fs::read_to_string(self.file(word)).context("the file is gone")?;
        let names: Vec<_> = std::fs::read_dir(self.own(word))?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(names.len() == 1, "beside the file is something: {names:?}");
        ensure!(content == OLD || content == NEW, "neither old nor new: {content}");
        let is_new = content == NEW;
        let outcome = &action["outcome"];
        Ok(match kind {
            Kind::Apply => usize::from(is_new),
            Kind::Rollback => usize::from(!is_new),
            _ => {
                ensure!(!is_new, "reading changed the file");
                let patch = outcome["file"]["patch"].as_str().unwrap_or_default();
                usize::from(outcome["stdout"] == OLD || patch.contains("-name old\n+name new\n"))
            }
        })
    }
}
