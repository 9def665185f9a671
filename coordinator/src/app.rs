//! What the API, the jobs and the agents' connections share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use farol_protocol::{Language, Report, Timestamp, registry::RunsOn};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    advice::{Advice, Ollama},
    auth::Operator,
    catalogue,
    checks::Schedule,
    config::Config,
    correlate::{CheckKey, Dependencies, Quiet, Rule},
    error::{Error, Result},
    events::Events,
    fleet::{Fleet, Trust},
    http_keys::HttpKeys,
    integrations::Integrations,
    metrics::Metrics,
    notify::{Heartbeat, Mailer},
    output::Outputs,
    people::People,
    quiet,
    record::Sealing,
    remediation::Switch,
    store::{
        Store,
        bulk::Bulk,
        findings::{Decision, FindingRow},
        hosts::{HostKey, HostRow},
        inbox::{Message, Note},
        runs::Run,
    },
    text,
    topology::Live as Topology,
    watched::{Watched, Watching},
};

/// Handle to everything; cheap to clone.
pub type App = Arc<Shared>;

/// See [`App`].
pub struct Shared {
    /// How it runs.
    pub config: Config,
    /// What is known.
    pub store: Store,
    /// What is watched, and how reports become findings.
    pub watching: Watching,
    /// Whether orders leave at all.
    pub switch: Switch,
    /// What may be done.
    pub catalogue: catalogue::Live,
    /// Systems that checks ask with credentials.
    pub integrations: Integrations,
    /// Who signs in, and how.
    pub people: People,
    /// Who is connected.
    pub fleet: Fleet,
    /// Secrets of hosts that sign their requests.
    pub http_keys: HttpKeys,
    /// Who signs certificates.
    pub trust: Trust,
    /// The newest report of each check.
    pub board: Board,
    /// What the graph is drawn from, beside what is stored.
    pub topology: Topology,
    /// What keeps problems from being told.
    pub quiet: quiet::Live,
    /// What changed.
    pub events: Events,
    /// What running actions write.
    pub outputs: Outputs,
    /// What is counted.
    pub metrics: Metrics,
    /// How telling that the coordinator is alive goes.
    pub heartbeat: Heartbeat,
    /// How sealing the record goes.
    pub sealing: Sealing,
    /// The model, where one is configured.
    pub llm: Option<Ollama>,
    /// How mail leaves, where that is configured.
    pub mailer: Option<Mailer>,
    /// When scenarios are due.
    pub schedule: Schedule,
    /// Work that can be woken.
    pub wake: Wake,
    /// Telemetry goes to its one writer.
    pub bulk: mpsc::Sender<Bulk>,
    /// Room for what waits there.
    pub(crate) room: crate::fleet::limits::Room,
    /// What people and windows say goes to the correlator, beside the reports.
    pub correlator: mpsc::Sender<Input>,
    /// When this process began to listen.
    pub started_at: Timestamp,
    /// Ends everything that would go on for ever.
    pub stop: CancellationToken,
}

/// Wakes jobs before their timers do.
#[derive(Debug, Default)]
pub struct Wake {
    /// An action waits for its host.
    pub dispatch: Dispatch,
    /// A scenario is to run now.
    pub checks: Notify,
    /// A message waits to leave.
    pub mail: Notify,
    /// A finding wants advice.
    pub advice: Notify,
    /// A person asked in a thread.
    pub answers: Notify,
}

/// The hosts for which something may be done at once.
#[derive(Debug, Default)]
pub struct Dispatch {
    hosts: Mutex<BTreeSet<HostKey>>,
    /// When all of them were last looked at.
    all: Mutex<Option<Instant>>,
    pub(crate) wake: Notify,
}

impl Dispatch {
    /// Looks at a host soon.
    pub fn look_at(&self, host: HostKey) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        self.wake.notify_one();
    }

    /// Which hosts to look at now; none for all of them, which comes round
    /// every `period`.
    pub(crate) fn due(&self, now: Instant, period: Duration) -> Option<Vec<HostKey>> {
        let hosts = std::mem::take(&mut *self.hosts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.is_empty() || all.is_none_or(|at| now - at >= period) {
            *all = Some(now);
            return None;
        }
        Some(hosts.into_iter().collect())
    }
}

/// What the correlator takes in beside reports.
#[derive(Debug)]
pub enum Input {
    /// A person decides on a finding.
    Decide(Box<Decide>),
    /// What is kept quiet from now on, all of it.
    Quiet(Vec<Quiet>),
    /// What needs what from now on, all of it.
    Dependencies(Dependencies),
}

/// A person decides on a finding.
#[derive(Debug)]
pub struct Decide {
    /// Which.
    pub finding: FindingRow,
    /// What.
    pub decision: Decision,
    /// Who.
    pub by: String,
    /// What they said.
    pub comment: Option<String>,
    /// Told once it is stored.
    pub done: oneshot::Sender<()>,
}

/// The newest report of each check, in memory.
#[derive(Debug, Default)]
pub struct Board {
    reports: RwLock<HashMap<CheckKey, Report>>,
}

impl Board {
    /// Puts a report up, unless a newer one is there.
    pub fn put(&self, key: CheckKey, report: Report) {
        let mut reports = self.reports.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        match reports.entry(key) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                if known.get().observed_at <= report.observed_at {
                    known.insert(report);
                }
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(report);
            }
        }
    }

    /// The newest report of a check.
    #[must_use]
    pub fn get(&self, key: &CheckKey) -> Option<Report> {
        self.reports.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    /// The newest reports of a host, by check.
    #[must_use]
    pub fn of(&self, host: HostKey) -> Vec<Report> {
        let reports = self.reports.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut list: Vec<Report> =
            reports.iter().filter(|(key, _)| key.0 == host).map(|(_, report)| report.clone()).collect();
        list.sort_by(|a, b| a.check.cmp(&b.check));
        list
    }
}

impl Shared {
    /// Language of what operators read.
    #[must_use]
    pub fn language(&self) -> Language {
        self.watched().registry.language
    }

    /// What is watched at present.
    #[must_use]
    pub fn watched(&self) -> Arc<Watched> {
        self.watching.get()
    }

    /// Whether a host is connected, or one without a certificate posts its
    /// telemetry: until its silence would be told. A certificate's host has an
    /// agent, whose silence no other program's posts may hide.
    #[must_use]
    pub fn present(&self, host: &HostRow, now: Timestamp) -> bool {
        let limit = i64::try_from(self.watched().registry.silence.after.as_millis()).unwrap_or(i64::MAX);
        self.fleet.online(host.key)
            || host.cert_not_after.is_none() && self.fleet.last_post(host.key).is_some_and(|at| now.since(at) <= limit)
    }

    /// Marks a finding as seen. One that is acknowledged stays so until it
    /// resolves; doing it again changes nothing.
    ///
    /// # Errors
    /// No such finding, it is resolved, or the store failed.
    pub async fn acknowledge(&self, by: &Operator, finding: &str, comment: Option<&str>) -> Result<FindingRow> {
        let row = self.store.finding(finding).await?;
        if row.state == "resolved" {
            return Err(Error::Refused("the finding is resolved already".to_owned()));
        }
        if row.acknowledged_at().is_none() {
            self.decide(by, row, Decision::Acknowledge, comment).await?;
        }
        self.store.finding(finding).await
    }

    /// Ends a finding that no report will end: its check is watched no more, or
    /// it is what others send and nobody sends its end.
    ///
    /// # Errors
    /// No such finding, its check still reports, or the store failed.
    pub async fn close(&self, by: &Operator, finding: &str, comment: &str) -> Result<FindingRow> {
        let row = self.store.finding(finding).await?;
        if row.state == "resolved" {
            return Ok(row);
        }
        let is_regular = row.check_id.parse().is_ok_and(|check| {
            let watched = self.watched();
            watched.rules.of(&(row.host(), check)).is_some_and(Rule::is_regular)
        });
        if is_regular {
            return Err(Error::Refused(
                "its check still reports and ends it when it is healthy; acknowledge it, or silence it for a while"
                    .to_owned(),
            ));
        }
        self.decide(by, row, Decision::Close, Some(comment)).await?;
        self.store.finding(finding).await
    }

    async fn decide(&self, by: &Operator, row: FindingRow, decision: Decision, comment: Option<&str>) -> Result<()> {
        let (done, told) = oneshot::channel();
        let (by, comment) = (by.name().to_owned(), comment.map(str::to_owned));
        let request = Box::new(Decide { finding: row, decision, by, comment, done });
        let gone = || Error::Refused("the coordinator is stopping; try again in a moment".to_owned());
        self.correlator.send(Input::Decide(request)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())
    }

    /// A person answers in a thread.
    ///
    /// # Errors
    /// No such thread, or the store failed.
    pub async fn reply(&self, by: &Operator, thread: &str, text: &str) -> Result<Vec<Message>> {
        let note = Note {
            author: by.name().to_owned(),
            by_person: true,
            kind: "reply",
            body: text::plain(text, 8000),
            effect_key: format!("reply/{}", uuid::Uuid::now_v7()),
        };
        self.store.say(thread, &note, Timestamp::now()).await?;
        self.events.publish(crate::events::Noun::Thread, thread, "reply");
        if let Some(finding) = self.store.thread(thread).await?.finding_id {
            let state = self.store.finding(&finding).await?.state;
            self.events.publish(crate::events::Noun::Finding, finding, state);
        }
        self.wake.answers.notify_one();
        self.store.messages(thread).await
    }

    /// Asks for a scenario to run now.
    ///
    /// # Errors
    /// No such scenario, or the store failed.
    pub async fn run_scenario(&self, by: &Operator, scenario: &str) -> Result<Run> {
        let watched = self.watched();
        let known = watched.registry.scenarios.iter().find(|known| known.id == scenario);
        let known = known.ok_or_else(|| Error::NotFound { what: "scenario", id: scenario.to_owned() })?;
        if known.runs_on == RunsOn::Agent {
            return Err(Error::Refused(format!(
                "the agents run `{scenario}` by themselves; on a host, `farol-agent check NAME` runs one of its checks now"
            )));
        }
        let run = self.store.request_run(by, scenario, Timestamp::now()).await?;
        self.wake.checks.notify_one();
        Ok(run)
    }

    /// The copilot answers, with the evidence of a finding where one is meant.
    /// It speaks; it never acts.
    ///
    /// # Errors
    /// No such finding or thread, or the store failed.
    pub async fn chat(&self, message: &str, finding: Option<&str>, thread: Option<&str>) -> Result<Advice> {
        let finding = match (finding, thread) {
            (Some(finding), _) => Some(finding.to_owned()),
            (None, Some(thread)) => self.store.thread(thread).await?.finding_id,
            (None, None) => None,
        };
        let context = match finding {
            None => None,
            Some(id) => {
                let row = self.store.finding(&id).await?;
                Some(crate::jobs::advise::context(self, &row).await?)
            }
        };
        tokio::select! {
            answer = crate::advice::chat(self.llm.as_ref(), context.as_ref(), self.language(), message) => Ok(answer),
            () = self.stop.cancelled() => Err(Error::Refused("the coordinator is stopping; ask again in a moment".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_looked_at_when_asked_for_and_all_of_them_every_period() {
        const PERIOD: Duration = Duration::from_secs(1);
        let (dispatch, now) = (Dispatch::default(), Instant::now());
        dispatch.look_at(HostKey(7));
        assert_eq!(dispatch.due(now, PERIOD), None, "all of them at first");
        for key in [7, 3, 7] {
            dispatch.look_at(HostKey(key));
        }
        assert_eq!(dispatch.due(now, PERIOD), Some(vec![HostKey(3), HostKey(7)]));
        assert_eq!(dispatch.due(now, PERIOD), None, "nobody in particular");
        // However often it is asked for one of them.
        dispatch.look_at(HostKey(3));
        assert_eq!(dispatch.due(now + PERIOD, PERIOD), None);
    }
}
