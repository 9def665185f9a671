//! Deciding on actions, and running scenarios.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use farol_protocol::{
    ActionId, Effect, Language, Plan, PlanHash, Timestamp,
    remediation::{Step, Work},
};
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{text, time},
    output, signing_keys,
};
use crate::{
    error::{Error, Result},
    text::plain,
};

/// Shows an action and agrees to exactly what it showed, with a signature
/// where `key` names the file of a private key.
pub(super) async fn approve(to: &Connection, id: ActionId, comment: &str, key: Option<&Path>, yes: bool) -> Result<()> {
    let client = Client::new(to)?;
    let id = id.to_string();
    let action: Value = client.get(&["actions", &id], &[]).await?;
    let hash = check_plan(&action, &id)?;
    if !to.json {
        output::line(&summary(&action)?)?;
    }
    if !yes {
        if !io::stdin().is_terminal() {
            return Err(Error::Refused(
                "there is no terminal to ask on; give --yes to approve what is shown".to_owned(),
            ));
        }
        if !confirmed()? {
            return Err(Error::Refused("not approved".to_owned()));
        }
    }
    let mut body = json!({"plan_hash": hash.as_str(), "comment": comment});
    if let Some(file) = key {
        check_dates(action["plan"].as_str().unwrap_or_default())?;
        body["signatures"] = json!([signing_keys::sign(&client, file, &hash).await?]);
    }
    let (status, answer) = client.post(&["actions", &id, "approve"], &body).await?;
    if to.json {
        return output::json(&answer);
    }
    output::line(if status == 202 {
        "Your approval is kept; another person must approve too."
    } else {
        "Approved: the action leaves as soon as its host is connected."
    })
}

/// Declines an action.
pub(super) async fn reject(to: &Connection, id: ActionId, comment: &str) -> Result<()> {
    let client = Client::new(to)?;
    let id = id.to_string();
    let action: Value = client.get(&["actions", &id], &[]).await?;
    let hash = check_plan(&action, &id)?;
    let body = json!({"plan_hash": hash.as_str(), "comment": comment});
    let (_, answer) = client.post(&["actions", &id, "reject"], &body).await?;
    if to.json { output::json(&answer) } else { output::line("Rejected.") }
}

/// Runs a scenario now.
pub(super) async fn run(to: &Connection, scenario: &str) -> Result<()> {
    let (_, answer) = Client::new(to)?.post(&["agents", "runs", scenario], &json!({})).await?;
    if to.json {
        return output::json(&answer);
    }
    output::line(&format!("{} will run now (run {}).", plain(scenario, 128), plain(&text(&answer, "run_id"), 64)))
}

/// The hash of the bytes that are shown, which must be the one that is approved.
fn check_plan(action: &Value, id: &str) -> Result<PlanHash> {
    let bytes = action["plan"].as_str().unwrap_or_default();
    let hash = PlanHash::of(bytes);
    let plan = Plan::parse(bytes).map(|(plan, _)| plan);
    if action["plan_hash"] == hash.as_str() && plan.is_ok_and(|plan| plan.action_id.to_string() == id) {
        Ok(hash)
    } else {
        Err(Error::Refused(format!("the plan of action {id} does not match its hash; do not decide on it")))
    }
}

/// A signature is for now: a plan laid by for later is not signed.
fn check_dates(plan: &str) -> Result<()> {
    let (plan, _) = Plan::parse(plan)?;
    let now = Timestamp::now();
    let longest = farol_agent::journal::MAX_PLAN_LIFE;
    if plan.issued_at > now.plus(Duration::from_secs(300)) || plan.expires_at > now.plus(longest) {
        return Err(Error::Refused(format!(
            "the plan is dated {} and expires {}, which is too far in the future to be signed now; check this machine's \
             clock, and do not trust the coordinator if it is right",
            plan.issued_at, plan.expires_at
        )));
    }
    Ok(())
}

fn summary(action: &Value) -> Result<String> {
    let bytes = action["plan"].as_str().unwrap_or_default();
    let (plan, effect) = Plan::parse(bytes)?;
    // From the bytes that are approved, not from what is said about them.
    let expires = json!({"at": plan.expires_at});
    let fields = [
        // The plan names the host by its id; its name is the coordinator's word.
        ("Host", format!("{} (the coordinator calls it {})", plan.host_id, text(action, "host"))),
        ("What", crate::text::effect(&effect, Language::En)),
        ("Params", visible(&plan.params.to_string())),
        ("Seen", visible(&plan.pre_state.to_string())),
        ("Class", plan.risk_class.to_string()),
        ("Asked by", plan.requested_by),
        ("Reason", text(action, "reason")),
        ("Expires", time(&expires, "at")),
        ("Plan", PlanHash::of(bytes).to_string()),
    ];
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| match *name {
            "Params" | "Seen" => format!("{name:<8}  {value}"),
            _ => format!("{name:<8}  {}", plain(value, 2000)),
        })
        .chain(steps(&effect))
        .chain(differences(action))
        .collect();
    Ok(lines.join("\n"))
}

/// The steps of a remediation, in their order.
fn steps(effect: &Effect) -> Vec<String> {
    let Effect::RemediationRun(remediation) = effect else { return Vec::new() };
    let line = |step: &Step| {
        let what = match &step.work {
            Work::Effect(work) => Effect::parse(work.kind, &work.params)
                .map_or_else(|error| error.to_string(), |effect| crate::text::effect(&effect, Language::En)),
            Work::Check(work) => {
                format!("check {}", visible(&serde_json::to_string(&work.probe).unwrap_or_default()))
            }
            Work::RestoreFile {} => "put back what the file was".to_owned(),
        };
        format!("{:<8}  {}: {what}", step.phase.as_str(), step.id)
    };
    remediation.steps.iter().map(line).collect()
}

/// What the look at the host found would change in files.
fn differences(action: &Value) -> Vec<String> {
    let steps = action["look"]["steps"].as_array().into_iter().flatten();
    let patches = steps.filter_map(|step| step["file"]["patch"].as_str());
    let mut lines: Vec<String> = patches.flat_map(str::lines).map(visible).collect();
    if !lines.is_empty() {
        // What is signed is the content among the params; this is how the coordinator shows it.
        lines.insert(0, "Changes   as the coordinator tells it:".to_owned());
    }
    lines
}

/// What is approved is seen whole: nothing is cut, nothing hides.
fn visible(text: &str) -> String {
    let shown = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

fn confirmed() -> Result<bool> {
    let failed = |error: io::Error| Error::Refused(format!("cannot ask on this terminal: {error}; give --yes"));
    let mut out = io::stderr().lock();
    write!(out, "Approve? [y/N] ").and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes" | "s" | "sim"))
}

#[cfg(test)]
mod tests {
    use farol_protocol::{ActionKind, RiskClass, Timestamp};

    use super::*;

    fn action() -> (String, Value) {
        let plan = Plan {
            v: 1,
            action_id: ActionId::new(),
            host_id: "vm112".parse().expect("valid"),
            kind: ActionKind::CommandExec,
            params: json!({"command": "rm", "args": ["-r", "/tmp/a\u{1b}[2J", "a  b\u{202e}", &"x".repeat(300)]}),
            pre_state: Value::Null,
            risk_class: RiskClass::R2,
            requested_by: "ana".to_owned(),
            issued_at: Timestamp::from_ms(0),
            expires_at: Timestamp::from_ms(3_600_000),
        };
        let bytes = plan.to_text().expect("serializable");
        let view = json!({
            "host": "vm112", "what": "remove", "reason": "full\ndisk", "expires_at": plan.expires_at,
            "plan_hash": PlanHash::of(&bytes), "plan": bytes,
        });
        (plan.action_id.to_string(), view)
    }

    #[test]
    fn only_a_plan_that_matches_its_hash_and_its_action_is_decided_on() {
        let (id, view) = action();
        assert!(check_plan(&view, &id).is_ok());
        assert!(check_plan(&view, &ActionId::new().to_string()).is_err(), "another action's plan");
        let mut changed = view.clone();
        changed["plan"] = json!(view["plan"].as_str().expect("text").replace("/tmp", "/srv"));
        assert!(check_plan(&changed, &id).is_err(), "other bytes");
    }

    #[test]
    fn what_is_approved_is_shown_whole_and_without_escapes() {
        let (_, view) = action();
        let shown = summary(&view).expect("a plan");
        assert_eq!(shown.lines().count(), 9);
        assert!(shown.contains(&"x".repeat(300)), "{shown}");
        assert!(shown.contains(r#""a  b\u{202e}""#), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        for words in [
            "vm112 (the coordinator calls it vm112)",
            "run `rm -r /tmp/a",
            "R2",
            "ana",
            "full disk",
            "1970-01-01 01:00:00Z",
        ] {
            assert!(shown.contains(words), "{words}");
        }
    }
}
