//! What the firewall says about its own subsystems: since 25.1 under
//! `subsystems`, before that in one flat map.

use farol_protocol::{Language, Status, system::OpnsenseProbe};
use serde_json::{Map, Value};

use crate::{
    checks::system::{
        Seen,
        phrase::{Said, count, listed, quoted},
    },
    integrations::lenient::{integer, text},
    text::say,
};

/// The word, in whatever case; where it is missing, the code.
fn status(row: &Map<String, Value>) -> Option<Status> {
    let code = |code: i64| match code {
        -1 => Some(Status::Critical),
        0 => Some(Status::Warning),
        1 | 2 => Some(Status::Ok),
        _ => None,
    };
    match row.get("status") {
        Some(Value::String(word)) => match word.to_ascii_lowercase().as_str() {
            "error" => Some(Status::Critical),
            "warning" => Some(Status::Warning),
            "notice" | "ok" => Some(Status::Ok),
            other => code(other.parse().ok()?),
        },
        Some(Value::Number(_)) => row.get("status").and_then(integer).and_then(code),
        _ => row.get("statusCode").and_then(integer).and_then(code),
    }
}

pub(super) fn look(language: Language, probe: &OpnsenseProbe, body: &Value) -> Option<Seen> {
    let body = body.as_object()?;
    let overall = body
        .get("metadata")
        .and_then(|metadata| metadata.get("system"))
        .or_else(|| body.get("System"))
        .and_then(Value::as_object)
        .and_then(status);
    let nothing = Map::new();
    let rows: Vec<(&String, &Value)> = match (body.get("subsystems"), body.contains_key("metadata")) {
        (Some(Value::Object(rows)), _) => rows.iter().collect(),
        // An empty list stands where there is no subsystem to name.
        (Some(Value::Array(rows)), _) if rows.is_empty() => nothing.iter().collect(),
        (Some(_), _) | (None, true) => return None,
        (None, false) => body.iter().filter(|(name, _)| *name != "System").collect(),
    };
    let (mut bad, mut calm) = (0, 0);
    let (mut grave, mut light) = (Vec::new(), Vec::new());
    for (name, row) in rows {
        let Some((status, row)) = row.as_object().and_then(|row| Some((status(row)?, row))) else {
            bad += 1;
            continue;
        };
        let what = match row.get("message").and_then(text) {
            Some(message) => format!("{} ({})", quoted(name), quoted(message)),
            None => quoted(name),
        };
        match status {
            Status::Critical => grave.push(what),
            Status::Warning => light.push(what),
            _ => calm += 1,
        }
    }
    let mut said = Said::new(language);
    let trouble = grave.len() + light.len();
    for (status, items, what) in [
        (Status::Critical, &grave, say!(language, "erro", "error")),
        (Status::Warning, &light, say!(language, "aviso", "warning")),
    ] {
        if !items.is_empty() {
            said.say(status, format!("{what}: {}", listed(language, items)));
        }
    }
    // Rows that cannot be read may be those in trouble, unless the whole tells of one already.
    if trouble + calm == 0 && (overall.is_none() || (bad > 0 && overall == Some(Status::Ok))) {
        said.say(
            Status::Unknown,
            say!(language, "o firewall não diz como está", "the firewall does not say how it is"),
        );
    } else {
        let text = if trouble == 0 {
            say!(language, "o firewall não tem avisos", "the firewall has no notices")
        } else {
            say!(language, "{trouble} subsistemas com problema", "{trouble} subsystems in trouble")
        };
        said.judge(&probe.limits, count(trouble), "count", &text);
        // What the key may not see is left out of the list, and still counts in the whole.
        if let Some(status @ (Status::Critical | Status::Warning)) = overall.filter(|_| trouble == 0) {
            said.say(
                status,
                say!(
                    language,
                    "o estado geral acusa um problema que a chave não pode ver",
                    "the overall status tells of a trouble that the key may not see"
                ),
            );
        }
    }
    said.lost(bad);
    Some(said.seen())
}
