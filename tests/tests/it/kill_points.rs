//! SIGKILL at every place where something is journalled or sent, for every
//! kind of action: each ends in a named state by itself, none has two effects.
//!
//! The places are compiled into builds with debug assertions only; see the
//! module `fault` of the agent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use farol_tests::{Agent, Site};
use serde_json::{Value, json};

use crate::{
    kill_kinds::{Kind, Scene},
    support::QUIET,
};

const FINAL: &[&str] = &["done", "failed", "timed_out", "cancelled", "refused", "interrupted", "expired"];
/// Sites at work at the same time.
const SITES: usize = 4;

/// How an action gets to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Proposed, approved, run.
    Run,
    /// The host's policy does not allow it.
    Refuse,
    /// Cancelled after it was sent and before its host has seen it.
    Bury,
    /// No order is on its way; the action comes after the restart.
    Idle,
}

/// Places in the agent, beside those of a kind.
const AGENT: &[(&str, Way)] = &[
    ("agent.journal.begin.before", Way::Run),
    ("agent.journal.begin.after", Way::Run),
    ("agent.send.action.accepted.before", Way::Run),
    ("agent.send.action.accepted.after", Way::Run),
    ("agent.journal.finish.before", Way::Run),
    ("agent.journal.finish.after", Way::Run),
    ("agent.send.action.result.before", Way::Run),
    ("agent.send.action.result.after", Way::Run),
    ("agent.journal.ack.before", Way::Run),
    ("agent.journal.ack.after", Way::Run),
    ("agent.journal.refuse.before", Way::Refuse),
    ("agent.journal.refuse.after", Way::Refuse),
    ("agent.journal.bury.before", Way::Bury),
    ("agent.journal.bury.after", Way::Bury),
    ("agent.send.hello.before", Way::Idle),
    ("agent.send.hello.after", Way::Idle),
    ("agent.spool.push.before", Way::Idle),
    ("agent.spool.push.after", Way::Idle),
    ("agent.send.telemetry.push.before", Way::Idle),
    ("agent.send.telemetry.push.after", Way::Idle),
    ("agent.spool.ack", Way::Idle),
];

/// Places in the coordinator. `{kind}` stands for the method of the order.
const COORDINATOR: &[(&str, Way)] = &[
    ("coordinator.propose.before", Way::Run),
    ("coordinator.propose.after", Way::Run),
    ("coordinator.approve.before", Way::Run),
    ("coordinator.approve.after", Way::Run),
    ("coordinator.step.sent.before", Way::Run),
    ("coordinator.step.sent.after", Way::Run),
    ("coordinator.hand.before", Way::Run),
    ("coordinator.hand.after", Way::Run),
    ("coordinator.send.{kind}.before", Way::Run),
    ("coordinator.send.{kind}.after", Way::Run),
    ("coordinator.step.accepted.before", Way::Run),
    ("coordinator.step.accepted.after", Way::Run),
    ("coordinator.step.done.before", Way::Run),
    ("coordinator.step.done.after", Way::Run),
    ("coordinator.send.action.ack.before", Way::Run),
    ("coordinator.send.action.ack.after", Way::Run),
    ("coordinator.bulk.before", Way::Idle),
    ("coordinator.bulk.after", Way::Idle),
    ("coordinator.send.telemetry.ack.before", Way::Idle),
    ("coordinator.send.telemetry.ack.after", Way::Idle),
    ("coordinator.send.answer.after", Way::Idle),
];

struct Case {
    kind: Kind,
    place: String,
    way: Way,
    agent: bool,
    word: String,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind, place: String, way, agent| {
        let word = format!("case-{}", cases.len());
        cases.push(Case { kind, place, way, agent, word });
    };
    for kind in Kind::ALL {
        for place in kind.places() {
            add(kind, (*place).to_owned(), Way::Run, true);
        }
        for (place, way) in AGENT {
            // Without an order on its way the kind says nothing.
            if *way != Way::Idle || kind == Kind::Exec {
                add(kind, (*place).to_owned(), *way, true);
            }
        }
        for (place, way) in COORDINATOR {
            // The coordinator makes a difference between kinds only where it sends.
            if kind == Kind::Exec || place.contains("{kind}") || (kind == Kind::Service && *way != Way::Idle) {
                add(kind, place.replace("{kind}", kind.name()), *way, false);
            }
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_journal_or_send_point_every_action_ends_by_itself_with_at_most_one_effect() {
    let (cases, next) = (Arc::new(cases()), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let workers: Vec<_> = (0..SITES)
        .map(|_| {
            let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
            tokio::spawn(async move {
                let mut place = Place::new().await?;
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let named = || format!("{} of {} ({:?}, {})", case.place, case.kind.name(), case.way, case.word);
                    place.run(case).await.with_context(named)?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    // For whoever looks at the output; the runner has its own limit.
    eprintln!("{} kill points in {:.1} s", cases.len(), begun.elapsed().as_secs_f64());
}

/// A site with one host, at which one case runs after another.
struct Place {
    site: Site,
    agent: Agent,
    scene: Scene,
}

impl Place {
    async fn new() -> Result<Self> {
        let site = Site::start(QUIET, &[]).await?;
        let agent = site.enrol("vm112", Some("version: 1\nmax_unsigned_class: R2\n")).await?;
        let scene = Scene::new(site.folder())?;
        agent.configure(&format!("interval: 100ms\nreconnect_max: 100ms\n{}", scene.settings()))?;
        let mut place = Self { site, agent, scene };
        place.agent.start()?;
        place.site.wait_host("vm112", "online").await?;
        Ok(place)
    }

    async fn run(&mut self, case: &Case) -> Result<()> {
        let params = self.prepare(case).await?;
        let allowed = if case.way == Way::Refuse { String::new() } else { self.scene.policy(case.kind, &case.word) };
        self.allow(&allowed)?;
        let fault = [("FAROL_FAULT", case.place.as_str())];
        let id = match case.way {
            Way::Bury => {
                // The agent dies with the order in its hand; then it is cancelled.
                self.arm(true, &[("FAROL_FAULT", "agent.journal.begin.before")]).await?;
                let id = self.approved(case, &params, None).await?;
                self.agent.died().await?;
                self.site.api().post(&format!("/api/v1/actions/{id}/cancel"), json!({})).await?;
                self.agent.start_with(&fault)?;
                Some(id)
            }
            Way::Run | Way::Refuse => {
                self.arm(case.agent, &fault).await?;
                self.try_to_approve(case, &params).await
            }
            Way::Idle => {
                self.arm(case.agent, &fault).await?;
                None
            }
        };
        if case.agent {
            self.agent.died().await.context("the place was not passed")?;
            self.agent.start()?;
        } else {
            self.site.coordinator_died().await.context("the place was not passed")?;
            self.site.start_coordinator().await?;
        }
        let id = self.approved(case, &params, id).await?;
        let action = self.site.wait_action(&id, FINAL).await?;
        self.judge(case, &action)
    }

    /// What the case needs to be there; answers the action's parameters.
    async fn prepare(&self, case: &Case) -> Result<Value> {
        let (scene, word) = (&self.scene, &case.word);
        scene.prepare(word)?;
        if case.kind != Kind::Rollback {
            return Ok(scene.params(case.kind, word, None));
        }
        self.allow(&scene.policy(Kind::Apply, word))?;
        let params = scene.params(Kind::Apply, word, None);
        let body = json!({"host": "vm112", "kind": "file.apply", "params": params, "reason": "before"});
        let apply = self.site.api().post("/api/v1/actions", body).await?;
        let id = apply["action_id"].as_str().context("no action_id")?;
        self.site.api().approve(id).await?;
        let applied = self.site.wait_action(id, FINAL).await?;
        ensure!(applied["state"] == "done", "nothing to take back: {applied}");
        Ok(scene.params(case.kind, word, Some(id)))
    }

    fn allow(&self, lines: &str) -> Result<()> {
        let policy = format!("version: 1\nmax_unsigned_class: R2\n{lines}");
        std::fs::write(self.agent.policy(), policy).context("write the policy")
    }

    /// Starts one side again with a fault in it.
    async fn arm(&mut self, agent: bool, fault: &[(&str, &str)]) -> Result<()> {
        if agent {
            // It may have started a moment ago, too early to be asked to stop.
            self.agent.kill().await?;
            self.agent.start_with(fault)
        } else {
            self.site.stop_coordinator().await?;
            self.site.start_coordinator_with(fault).await
        }
    }

    /// The coordinator may die meanwhile.
    async fn try_to_approve(&self, case: &Case, params: &Value) -> Option<String> {
        let id = self.propose(case, params).await.ok()?;
        let _may_have_died = self.site.api().approve(&id).await;
        Some(id)
    }

    async fn propose(&self, case: &Case, params: &Value) -> Result<String> {
        let body = json!({
            "host": "vm112", "kind": case.kind.name(), "params": params, "reason": case.word,
        });
        let action = self.site.api().post("/api/v1/actions", body).await?;
        Ok(action["action_id"].as_str().context("no action_id")?.to_owned())
    }

    /// The action of a case, approved: what a person whose request was cut
    /// off does is to look and ask again.
    async fn approved(&self, case: &Case, params: &Value, id: Option<String>) -> Result<String> {
        let known = match id {
            Some(id) => Some(id),
            None => {
                let actions = self.site.api().items("/api/v1/actions").await?;
                let own = actions.iter().find(|action| action["reason"] == case.word);
                own.and_then(|action| action["action_id"].as_str()).map(str::to_owned)
            }
        };
        let id = match known {
            Some(id) => id,
            None => self.propose(case, params).await?,
        };
        let action = self.site.api().get(&format!("/api/v1/actions/{id}")).await?;
        if action["state"] == "proposed" {
            self.site.api().approve(&id).await?;
        }
        Ok(id)
    }

    fn judge(&self, case: &Case, action: &Value) -> Result<()> {
        let state = action["state"].as_str().unwrap_or_default();
        let times = self.scene.times(case.kind, &case.word, action)?;
        ensure!(times <= 1, "the effect happened {times} times: {action}");
        match state {
            "done" => ensure!(times == 1, "done without its effect: {action}"),
            "refused" => ensure!(case.way == Way::Refuse && times == 0, "refused: {action}"),
            "cancelled" => ensure!(case.way == Way::Bury && times == 0, "cancelled: {action}"),
            // Only an agent that died with the action begun does not know.
            "interrupted" => ensure!(case.agent && case.way == Way::Run, "interrupted: {action}"),
            other => anyhow::bail!("{other}: {action}"),
        }
        if case.way == Way::Idle {
            ensure!(state == "done", "an action after the restart: {action}");
        }
        Ok(())
    }
}
