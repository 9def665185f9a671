//! `cargo xtask demo`: the main job on real processes, told as it happens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use farol_tests::{
    Agent, Api, Site,
    process::text,
    site::{PATIENCE, free_address},
    smtp::Smtp,
    wait_until,
};
use serde_json::Value;

use crate::{portal::Keeper, test::cargo};

const REGISTRY: &str = include_str!("../demo.registry.yaml");
const HOSTS: [&str; 4] = ["vm112", "vm123", "proxmox", "pfsense"];

/// Tells what happens, with the time since the portal was killed.
struct Story {
    begun: Instant,
    steps: Vec<(Duration, &'static str)>,
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
fn say(line: &str) {
    println!("{line}");
}

impl Story {
    fn tell(&mut self, step: &'static str, detail: &str) {
        let at = self.begun.elapsed();
        self.steps.push((at, step));
        say(&format!("{:>8.3} s  {step:<22} {detail}", at.as_secs_f64()));
    }
}

/// Runs the demonstration.
///
/// # Errors
/// A step did not happen; the message names it.
pub(crate) async fn run(exit_after_check: bool) -> Result<()> {
    say("Building farol and farol-agent …");
    cargo(&["build", "--quiet", "--package", "farol-coordinator", "--package", "farol-agent", "--bins"])?;

    let portal_address = free_address().await?;
    let keeper = Keeper::start(portal_address).await.context("step: start the portal")?;
    let smtp = Smtp::start().await?;
    let (portal_url, smtp_url) = (format!("http://{portal_address}"), smtp.url());
    let portal_at = portal_address.to_string();
    let environment = [
        ("PORTAL_URL", portal_url.as_str()),
        ("PORTAL_ADDRESS", portal_at.as_str()),
        ("FAROL_SMTP_URL", smtp_url.as_str()),
        ("DESK_ROOT_NOTIFY_EMAIL", "operacao@demo.example"),
    ];
    let mut site = Site::start(REGISTRY, &environment).await.context("step: start the coordinator")?;
    say(&format!("Coordinator on {} and wss://{}", site.api().base(), site.southbound()));
    let mut agents = Vec::new();
    for host in HOSTS {
        let policy = (host == "vm112").then(|| policy(&keeper)).transpose()?;
        let agent = site.agent(host, policy.as_deref()).await.with_context(|| format!("step: enrol {host}"))?;
        say(&format!("Agent {host} enrolled and online (process {})", id(&agent)));
        agents.push(agent);
    }
    let token = site.token("demo", "agentic_operator", None).await?;
    let told = tell(&site, &token, &keeper, &smtp, exit_after_check).await;

    say("Stopping every process …");
    for agent in &mut agents {
        agent.stop().await?;
    }
    site.stop_coordinator().await?;
    // A portal that is down already is no failure of the demonstration.
    let _down = keeper.kill().await;
    told
}

fn id(agent: &Agent) -> String {
    agent.process().and_then(farol_tests::process::Process::id).map_or_else(String::new, |id| id.to_string())
}

fn policy(keeper: &Keeper) -> Result<String> {
    let own = text(&std::env::current_exe()?);
    let control = keeper.control;
    Ok(format!(
        "version: 1
services:
  - name: portal
    verbs: [restart]
    class: R1
    run:
      restart: ['{own}', portal, restart, '{control}']
      status: ['{own}', portal, status, '{control}']
"
    ))
}

async fn tell(site: &Site, token: &str, keeper: &Keeper, smtp: &Smtp, exit_after_check: bool) -> Result<()> {
    let api = Api::new(site.api().base(), Some(token))?;
    portal_is(&api, "ok").await.context("step: the portal is healthy")?;
    say("The portal is healthy. Killing it now.");
    keeper.kill().await?;
    let mut story = Story { begun: Instant::now(), steps: Vec::new() };

    let report = portal_is(&api, "critical").await.context("step: report")?;
    story.tell("report", report["text"].as_str().unwrap_or_default());
    let finding = site
        .wait_finding("the finding", |finding| finding["scenario"] == "wizard.vm112.bundle")
        .await
        .context("step: finding")?;
    story.tell("finding", &format!("{} [{}] {}", finding["title"], finding["severity"], finding["id"]));
    let opened = message(&api, &finding, "finding").await.context("step: thread")?;
    story.tell("thread", &body(&opened));
    let advice = message(&api, &finding, "advice").await.context("step: advice")?;
    story.tell("advice", &body(&advice));
    let mail = wait_until("the mail", PATIENCE, async || Ok(smtp.received().first().cloned()))
        .await
        .context("step: e-mail")?;
    story.tell("e-mail", &format!("to {}", mail.to));
    let proposal = message(&api, &finding, "proposal").await.context("step: proposal")?;
    story.tell("proposed restart", &body(&proposal));
    let actions = api.items("/api/v1/actions?state=proposed").await?;
    let action = actions
        .iter()
        .find(|action| action["finding_id"] == finding["id"])
        .context("step: proposal: no action waits for approval")?;
    let action_id = action["action_id"].as_str().context("no action_id")?;
    story.tell("waiting for approval", &format!("{} [{}]", action_id, action["risk_class"]));

    say("");
    say(&format!("API:     {}   (documents at /api/docs)", api.base()));
    say(&format!("Token:   {token}   (role agentic_operator)"));
    say("Approve: ");
    let farol = text(&farol_tests::process::binary("farol")?);
    say(&format!("  FAROL_URL={} FAROL_TOKEN={token} {farol} approve {action_id} --yes", api.base()));
    say("");
    if exit_after_check {
        api.approve(action_id).await.context("step: approval")?;
        story.tell("approved", "through the API");
    } else {
        say("Waiting for the approval; Ctrl-C stops everything.");
    }
    tokio::select! {
        repaired = repaired(site, &api, &finding, action_id, &mut story, exit_after_check) => repaired?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            say("Interrupted.");
            return Ok(());
        }
    }
    timeline(&api, action_id, &story).await?;
    if !exit_after_check {
        say("The finding has resolved. Ctrl-C stops everything.");
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

async fn repaired(
    site: &Site,
    api: &Api,
    finding: &Value,
    action_id: &str,
    story: &mut Story,
    bounded: bool,
) -> Result<()> {
    let limit = if bounded { PATIENCE } else { Duration::from_secs(24 * 3600) };
    let ended = wait_until("the action to end", limit, async || {
        let action = api.get(&format!("/api/v1/actions/{action_id}")).await?;
        let open = ["proposed", "approved", "queued", "sent", "accepted"];
        Ok((!open.iter().any(|state| action["state"] == *state)).then_some(action))
    })
    .await
    .context("step: repair")?;
    if ended["state"] != "done" {
        bail!("step: repair: the action ended as {}: {}", ended["state"], ended["detail"]);
    }
    story.tell("restarted", &format!("exit code {}", ended["outcome"]["exit_code"]));
    site.wait_finding("the finding to resolve", |now| now["id"] == finding["id"] && now["state"] == "resolved")
        .await
        .context("step: resolution")?;
    let resolved = message(api, finding, "resolved").await.context("step: resolution")?;
    story.tell("resolved", &body(&resolved));
    Ok(())
}

async fn timeline(api: &Api, action_id: &str, story: &Story) -> Result<()> {
    say("\nTimeline");
    for (at, step) in &story.steps {
        say(&format!("{:>8.3} s  {step}", at.as_secs_f64()));
    }
    let action = api.get(&format!("/api/v1/actions/{action_id}")).await?;
    for step in action["transitions"].as_array().into_iter().flatten() {
        say(&format!(
            "  action {:<10} {} by {}",
            text_of(&step["state"]),
            text_of(&step["at"]),
            text_of(&step["actor"])
        ));
    }
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn body(message: &Value) -> String {
    let text = text_of(&message["body"]).replace('\n', " ");
    format!("{}: {}", text_of(&message["author"]), text.chars().take(160).collect::<String>())
}

async fn portal_is(api: &Api, status: &str) -> Result<Value> {
    wait_until(&format!("the portal's check to be {status}"), PATIENCE, async || {
        let host = api.get("/api/v1/hosts/vm112").await?;
        let checks = host["checks"].as_array().cloned().unwrap_or_default();
        Ok(checks.into_iter().find(|check| check["check"] == "wizard.vm112.bundle" && check["status"] == status))
    })
    .await
}

async fn message(api: &Api, finding: &Value, kind: &str) -> Result<Value> {
    let path = format!("/api/v1/agents/threads/{}/messages", text_of(&finding["thread_id"]));
    wait_until(&format!("a message of kind {kind}"), PATIENCE, async || {
        Ok(api.items(&path).await?.into_iter().find(|message| message["kind"] == kind))
    })
    .await
}
