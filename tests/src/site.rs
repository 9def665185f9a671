//! One coordinator and its agents, each a process with its own folder.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

use crate::{
    api::Api,
    process::{self, Process, binary, text},
    wait::wait_until,
};

/// Longest wait for a process to begin or end its work.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A coordinator with a folder of its own.
pub struct Site {
    folder: TempDir,
    environment: Vec<(String, String)>,
    http: SocketAddr,
    southbound: SocketAddr,
    coordinator: Option<Process>,
    api: Api,
}

impl Site {
    /// Starts a coordinator with `registry` and makes a token of role
    /// `super_admin`. `environment` is added to an environment that is empty
    /// but for PATH.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(registry: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("farol-").tempdir()?;
        std::fs::write(folder.path().join("registry.yaml"), registry)?;
        let (http, southbound) = (free_address().await?, free_address().await?);
        let mut site = Self {
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            api: Api::new(&format!("http://{http}"), None)?,
            coordinator: None,
            folder,
            http,
            southbound,
        };
        site.start_coordinator().await?;
        let token = site.token("tests", "super_admin", None).await?;
        site.api = site.api.with_token(Some(&token));
        Ok(site)
    }

    /// Everything of this site.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The coordinator's data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The API as `super_admin`.
    #[must_use]
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// Where agents connect.
    #[must_use]
    pub const fn southbound(&self) -> SocketAddr {
        self.southbound
    }

    /// The coordinator's process while it runs.
    #[must_use]
    pub const fn coordinator(&self) -> Option<&Process> {
        self.coordinator.as_ref()
    }

    /// The program `farol` with this site's environment.
    ///
    /// # Errors
    /// It is not built.
    pub fn farol(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("farol")?);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("FAROL_DATA_DIR", self.data_dir())
            .env("FAROL_REGISTRY", self.folder.path().join("registry.yaml"))
            .env("FAROL_HTTP_ADDR", self.http.to_string())
            .env("FAROL_SOUTHBOUND_ADDR", self.southbound.to_string())
            // Tests of the hold ask for one.
            .env("FAROL_APPROVAL_HOLD", "0s")
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        Ok(command)
    }

    /// Starts the coordinator and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_coordinator(&mut self) -> Result<()> {
        self.start_coordinator_with(&[]).await
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start_coordinator_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.farol(&["serve"])?;
        command.envs(environment.iter().copied());
        let mut process = Process::spawn("farol", &mut command)?;
        process
            .wait_log("that it listens", PATIENCE, |line| {
                line.to_string().contains("the coordinator listens").then_some(())
            })
            .await?;
        self.coordinator = Some(process);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn kill_coordinator(&mut self) -> Result<()> {
        match self.coordinator.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until the coordinator dies of SIGKILL by its own hand.
    ///
    /// # Errors
    /// It lives on, or ends in another way.
    pub async fn coordinator_died(&mut self) -> Result<()> {
        let mut process = self.coordinator.take().context("no coordinator runs")?;
        process.died(PATIENCE).await
    }

    /// SIGTERM, and everything it had is on disk.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop_coordinator(&mut self) -> Result<()> {
        match self.coordinator.take() {
            Some(mut process) => process.stop(PATIENCE).await,
            None => Ok(()),
        }
    }

    /// Makes an API token.
    ///
    /// # Errors
    /// The command failed.
    pub async fn token(&self, name: &str, role: &str, ttl: Option<&str>) -> Result<String> {
        let mut command = self.farol(&["token", "create", "--name", name, "--role", role, "--json"])?;
        if let Some(ttl) = ttl {
            command.args(["--ttl", ttl]);
        }
        let token = process::json(&mut command).await?;
        Ok(token["token"].as_str().context("no token")?.to_owned())
    }

    /// Prepares an enrolment: what `farol host add --json` prints.
    ///
    /// # Errors
    /// The command failed.
    pub async fn add_host(&self, name: &str) -> Result<Value> {
        process::json(&mut self.farol(&["host", "add", name, "--json"])?).await
    }

    /// Enrols an agent, whose policy is `policy`; it does not run yet.
    ///
    /// # Errors
    /// The enrolment failed.
    pub async fn enrol(&self, name: &str, policy: Option<&str>) -> Result<Agent> {
        self.enrol_at(name, policy, None).await
    }

    /// The same by another address, such as that of a proxy.
    ///
    /// # Errors
    /// The enrolment failed.
    pub async fn enrol_at(&self, name: &str, policy: Option<&str>, at: Option<SocketAddr>) -> Result<Agent> {
        let agent = Agent::new(name, &self.folder.path().join(name), policy)?;
        let enrolment = self.add_host(name).await?;
        let field = |key: &str| enrolment[key].as_str().with_context(|| format!("no {key}")).map(str::to_owned);
        process::output(agent.command(&["enroll"])?.args([
            "--url",
            &at.map_or_else(|| field("url"), |at| Ok(format!("wss://{at}")))?,
            "--token",
            &field("token")?,
            "--ca-fingerprint",
            &field("ca_fingerprint")?,
        ]))
        .await?;
        Ok(agent)
    }

    /// Enrols an agent, runs it and waits until it is online.
    ///
    /// # Errors
    /// It does not come online.
    pub async fn agent(&self, name: &str, policy: Option<&str>) -> Result<Agent> {
        let mut agent = self.enrol(name, policy).await?;
        agent.start()?;
        self.wait_host(name, "online").await?;
        Ok(agent)
    }

    /// Waits until a host is in a state.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn wait_host(&self, name: &str, state: &str) -> Result<Value> {
        wait_until(&format!("{name} to be {state}"), PATIENCE, async || {
            let hosts = self.api.items("/api/v1/hosts").await?;
            Ok(hosts.into_iter().find(|host| host["name"] == name && host["state"] == state))
        })
        .await
    }

    /// Waits until an action is in one of `states`.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn wait_action(&self, id: &str, states: &[&str]) -> Result<Value> {
        wait_until(&format!("action {id} to be one of {states:?}"), PATIENCE, async || {
            let action = self.api.get(&format!("/api/v1/actions/{id}")).await?;
            Ok(states.iter().any(|state| action["state"] == *state).then_some(action))
        })
        .await
    }

    /// Waits for a finding that `wanted` takes, resolved ones included.
    ///
    /// # Errors
    /// There is none.
    pub async fn wait_finding(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_until(what, PATIENCE, async || {
            let findings = self.api.items("/api/v1/findings?state=all").await?;
            Ok(findings.into_iter().find(|finding| wanted(finding)))
        })
        .await
    }
}

/// A host's agent with its own folder.
pub struct Agent {
    name: String,
    state_dir: PathBuf,
    policy: PathBuf,
    config: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// One that is not enrolled yet.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn new(name: &str, folder: &Path, policy: Option<&str>) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let agent = Self {
            name: name.to_owned(),
            state_dir: folder.join("state"),
            policy: folder.join("policy.yaml"),
            config: folder.join("agent.yaml"),
            process: None,
        };
        if let Some(policy) = policy {
            std::fs::write(&agent.policy, policy)?;
        }
        // Short, so that a test sees several batches.
        std::fs::write(&agent.config, "interval: 1s\n")?;
        Ok(agent)
    }

    /// Its state folder.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Its policy file.
    #[must_use]
    pub fn policy(&self) -> &Path {
        &self.policy
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its process while it runs, to wait for what it logs.
    #[must_use]
    pub const fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Its process while it runs.
    #[must_use]
    pub const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Replaces `agent.yaml`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, yaml: &str) -> Result<()> {
        std::fs::write(&self.config, yaml).context("write agent.yaml")
    }

    /// The program `farol-agent` with this agent's folder.
    ///
    /// # Errors
    /// It is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("farol-agent")?);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(&self.state_dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Ok(command)
    }

    /// Runs the daemon.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command(&["run"])?;
        command.envs(environment.iter().copied());
        command.args(["--policy", &text(&self.policy), "--config", &text(&self.config)]);
        self.process = Some(Process::spawn(&self.name, &mut command)?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until the agent dies of SIGKILL by its own hand.
    ///
    /// # Errors
    /// It lives on, or ends in another way.
    pub async fn died(&mut self) -> Result<()> {
        let mut process = self.process.take().context("no agent runs")?;
        process.died(PATIENCE).await
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(PATIENCE).await,
            None => Ok(()),
        }
    }
}

/// An address of loopback that nothing listens on now.
///
/// # Errors
/// No port is free.
pub async fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
