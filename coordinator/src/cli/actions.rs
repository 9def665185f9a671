//! Asking for actions, and looking at one.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use farol_protocol::{ActionId, ActionKind};
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{show as show_list, text, time},
    output,
};
use crate::{
    action::State,
    config,
    error::{Error, Result},
    text::plain,
};

/// How often a running action is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// What a person can write in one document.
const MOST_PARAMS: u64 = 4 << 20;

/// Asks for an action.
pub(super) async fn propose(to: &Connection, host: &str, kind: ActionKind, params: &str, reason: &str) -> Result<()> {
    let document = match params.strip_prefix('@') {
        Some(path) => config::read(path.as_ref())?,
        None if params == "-" => {
            let mut text = String::new();
            let read = io::stdin().lock().take(MOST_PARAMS).read_to_string(&mut text);
            read.map_err(|error| Error::Config(format!("cannot read the params from standard input: {error}")))?;
            text
        }
        None => params.to_owned(),
    };
    let params: Value =
        serde_json::from_str(&document).map_err(|error| Error::Config(format!("the params are no JSON: {error}")))?;
    let body = json!({"host": host, "kind": kind, "params": params, "reason": reason});
    let (_, action) = Client::new(to)?.post(&["actions"], &body).await?;
    if to.json {
        return output::json(&action);
    }
    let id = plain(&text(&action, "action_id"), 64);
    output::line(&format!(
        "Proposed: {} on {}, class {}. Read and approve it with: farol approve {id}",
        plain(&text(&action, "what"), 300),
        plain(&text(&action, "host"), 128),
        plain(&text(&action, "risk_class"), 8)
    ))
}

/// Shows an action; with `follow` until it has ended.
pub(super) async fn show(to: &Connection, id: ActionId, follow: bool) -> Result<()> {
    let client = Client::new(to)?;
    let id = id.to_string();
    let mut action: Value = client.get(&["actions", &id], &[]).await?;
    let mut seen = Seen::default();
    if !to.json {
        output::line(&head(&action))?;
        print(&seen.news(&action["output"]))?;
    }
    while follow && !is_final(&action) {
        tokio::time::sleep(LOOK_EVERY).await;
        action = client.get(&["actions", &id], &[]).await?;
        if !to.json {
            print(&seen.news(&action["output"]))?;
        }
    }
    if to.json {
        return output::json(&action);
    }
    print(&seen.rest(&action["outcome"]))?;
    output::line(&foot(&action))
}

/// Lists what an action left; with `out` writes each into a file of that folder.
pub(super) async fn evidence(to: &Connection, id: ActionId, out: Option<&Path>) -> Result<()> {
    let client = Client::new(to)?;
    let list: Value = client.get(&["actions", &id.to_string(), "evidence"], &[]).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    if let Some(folder) = out {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { what: "write", path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        for item in &items {
            let (artifact, name) = (text(item, "id"), text(item, "name"));
            let content = client.bytes(&["evidence", &artifact, "content"]).await?;
            // What a coordinator names must not lead out of the folder.
            let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
            let path = folder.join(format!("{}-{name}", plain(&text(item, "step"), 64).replace('/', "_")));
            std::fs::write(&path, content).map_err(failed(&path))?;
        }
    }
    show_list(
        to,
        items,
        &[
            ("STEP", |item| text(item, "step")),
            ("NAME", |item| text(item, "name")),
            ("BYTES", |item| item["bytes"].to_string()),
            ("SHA-256", |item| text(item, "sha256")),
            ("AT", |item| time(item, "at")),
            ("ID", |item| text(item, "id")),
        ],
    )
}

fn is_final(action: &Value) -> bool {
    // A state of a newer coordinator is not waited for.
    action["state"].as_str().and_then(|state| state.parse::<State>().ok()).is_none_or(State::is_final)
}

fn head(action: &Value) -> String {
    let fields = [
        ("Action", text(action, "action_id")),
        ("Host", text(action, "host")),
        ("What", text(action, "what")),
        ("Class", text(action, "risk_class")),
        ("Asked by", text(action, "requested_by")),
        ("Reason", text(action, "reason")),
        ("Asked at", time(action, "issued_at")),
    ];
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name:<8}  {}", plain(value, 2000))).collect();
    lines.join("\n")
}

fn foot(action: &Value) -> String {
    let mut lines = vec![format!("State     {}", plain(&text(action, "state"), 64))];
    let detail = [text(action, "reason_code"), text(action, "detail")].map(|part| plain(&part, 1000));
    if detail.iter().any(|part| part != "-") {
        lines.push(format!("Because   {}", detail.join(": ")));
    }
    let outcome = &action["outcome"];
    if let Some(code) = outcome["exit_code"].as_i64() {
        lines.push(format!("Exit      {code}"));
    }
    if let Some(ms) = outcome["duration_ms"].as_u64() {
        lines.push(format!("Took      {ms} ms"));
    }
    if let Some(result) = outcome["result"].as_str() {
        lines.push(format!("Result    {}", plain(result, 64)));
    }
    for step in outcome["steps"].as_array().into_iter().flatten() {
        let [phase, id, state] = ["phase", "id", "state"].map(|field| plain(&text(step, field), 64));
        lines.push(format!("{phase:<8}  {id}: {state}"));
        let said = ["detail", "stdout", "stderr"].map(|field| harmless(step[field].as_str().unwrap_or_default()));
        lines.extend(said.iter().flat_map(|text| text.lines()).map(|line| format!("          {line}")));
        if let Some(patch) = step["file"]["patch"].as_str().filter(|patch| !patch.is_empty()) {
            lines.push(harmless(patch).trim_end().to_owned());
        }
    }
    if let Some(path) = outcome["file"]["path"].as_str() {
        let changed = if outcome["file"]["applied"] == true { "changed" } else { "not changed" };
        lines.push(format!("File      {} ({changed})", plain(path, 4096)));
        lines.push(format!("Before    {}", plain(&text(&outcome["file"], "before_sha256"), 64)));
        lines.push(format!("After     {}", plain(&text(&outcome["file"], "after_sha256"), 64)));
        if let Some(patch) = outcome["file"]["patch"].as_str().filter(|patch| !patch.is_empty()) {
            lines.push(harmless(patch).trim_end().to_owned());
        }
    }
    lines.join("\n")
}

/// What a program wrote, with its lines, and with nothing that steers a
/// terminal or hides.
fn harmless(text: &str) -> String {
    let shown = |c: char| matches!(c, '\n' | '\t') || plain(&format!("x{c}x"), 9).contains(c) || c == ' ';
    let one = |c: char| if c == '\r' { String::new() } else { c.escape_unicode().to_string() };
    text.chars().map(|c| if shown(c) { c.to_string() } else { one(c) }).collect()
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(harmless(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Refused(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// What was printed of an action.
#[derive(Default)]
struct Seen {
    last_n: u64,
    hole: bool,
    stdout: String,
    stderr: String,
}

impl Seen {
    /// What is new in the `output` of an action.
    fn news(&mut self, output: &Value) -> String {
        let mut news = String::new();
        for chunk in output.as_array().into_iter().flatten() {
            let (Some(n), Some(text)) = (chunk["n"].as_u64(), chunk["text"].as_str()) else { continue };
            if n <= self.last_n {
                continue;
            }
            self.hole |= n != self.last_n + 1;
            self.last_n = n;
            let stream = if chunk["stream"] == "stderr" { &mut self.stderr } else { &mut self.stdout };
            stream.push_str(text);
            news.push_str(text);
        }
        news
    }

    /// What the outcome has beyond that; all of it where something was missed.
    fn rest(&self, outcome: &Value) -> String {
        let whole = |name: &str| outcome[name].as_str().unwrap_or_default();
        let (stdout, stderr) = (whole("stdout"), whole("stderr"));
        let rest = match (stdout.strip_prefix(&self.stdout), stderr.strip_prefix(&self.stderr)) {
            (Some(out), Some(err)) if !self.hole => format!("{out}{err}"),
            _ if outcome.is_null() => String::new(),
            _ => format!("\n[some output was missed; this is what was kept]\n{stdout}{stderr}"),
        };
        let printed = !rest.is_empty() || !self.stdout.is_empty() || !self.stderr.is_empty();
        let ends = if rest.is_empty() { &self.stdout } else { &rest };
        if printed && !ends.ends_with('\n') { format!("{rest}\n") } else { rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(list: &[(u64, &str, &str)]) -> Value {
        list.iter().map(|(n, stream, text)| json!({"n": n, "stream": stream, "text": text})).collect()
    }

    #[test]
    fn what_is_followed_is_printed_once_and_the_outcome_adds_the_rest() {
        let mut seen = Seen::default();
        assert_eq!(seen.news(&chunks(&[(1, "stdout", "a\n"), (2, "stderr", "e\n")])), "a\ne\n");
        assert_eq!(seen.news(&chunks(&[(2, "stderr", "e\n"), (3, "stdout", "b\n")])), "b\n");
        assert_eq!(seen.rest(&json!({"stdout": "a\nb\nc\n", "stderr": "e\n"})), "c\n");
        assert_eq!(seen.rest(&Value::Null), "");
    }

    #[test]
    fn where_something_was_missed_the_outcome_is_printed_whole() {
        let mut seen = Seen::default();
        seen.news(&chunks(&[(4, "stdout", "late\n")]));
        let rest = seen.rest(&json!({"stdout": "early\nlate\n", "stderr": ""}));
        assert!(rest.contains("was missed") && rest.ends_with("early\nlate\n"), "{rest}");
    }

    #[test]
    fn output_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\r\n\u{1b}[2Jç\u{202e}"), "a\tb\n\\u{1b}[2Jç\\u{202e}");
    }

    #[test]
    fn an_unfinished_action_is_waited_for() {
        assert!(!is_final(&json!({"state": "accepted"})));
        assert!(is_final(&json!({"state": "failed"})) && is_final(&json!({"state": "verified"})));
    }
}
