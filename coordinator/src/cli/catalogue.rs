//! `farol catalogue` and `farol plan`: what may be done, and planning it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Connection,
    client::Client,
    lists::{show, text},
    output,
};
use crate::{
    config,
    error::{Error, Result},
    text::plain,
};

/// A remediation to plan.
#[derive(Debug, Args)]
pub struct PlanFlags {
    /// The entry of the catalogue, such as service.restart
    pub entry: String,
    /// The host's name or id
    #[arg(long)]
    pub host: String,
    /// A parameter; may be given again
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub params: Vec<(String, String)>,
    /// A parameter whose value is a file's content; may be given again
    #[arg(long = "param-file", value_name = "NAME=FILE", value_parser = pair)]
    pub files: Vec<(String, String)>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The finding it is to mend
    #[arg(long, value_name = "FINDING")]
    pub finding: Option<String>,
    /// How to reach the coordinator.
    #[command(flatten)]
    pub to: Connection,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is needed".to_owned()),
    }
}

/// Lists the catalogue.
pub(super) async fn list(to: &Connection) -> Result<()> {
    let answer: Value = Client::new(to)?.get(&["catalogue"], &[]).await?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    show(
        to,
        items,
        &[
            ("ENTRY", |entry| text(entry, "id")),
            ("CLASS", |entry| text(entry, "class")),
            ("WHAT", |entry| text(&entry["title"], "pt-BR")),
            ("PARAMETERS", params),
        ],
    )
}

/// What has to be given, and in brackets what may be.
fn params(entry: &Value) -> String {
    let params = entry["params"].as_object().into_iter().flatten();
    let one = |(name, param): (&String, &Value)| match &param["default"] {
        Value::Null => format!("{name}={}", text(param, "type")),
        Value::String(default) => format!("[{name}={default}]"),
        default => format!("[{name}={default}]"),
    };
    params.map(one).collect::<Vec<_>>().join(" ")
}

/// Plans a remediation.
pub(super) async fn plan(flags: &PlanFlags) -> Result<()> {
    let mut params = Map::new();
    for (name, value) in &flags.params {
        params.insert(name.clone(), Value::from(value.as_str()));
    }
    for (name, file) in &flags.files {
        if params.insert(name.clone(), Value::from(config::read(&PathBuf::from(file))?)).is_some() {
            return Err(Error::Config(format!("`{name}` is given twice")));
        }
    }
    let body = json!({"host": flags.host, "params": params, "reason": flags.reason, "finding_id": flags.finding});
    let client = Client::new(&flags.to)?;
    let (_, action) = client.post(&["catalogue", &flags.entry, "plan"], &body).await?;
    if flags.to.json {
        return output::json(&action);
    }
    let id = plain(&text(&action, "action_id"), 64);
    output::line(&format!(
        "Planned: {} on {}, class {}. Read and approve it with: farol approve {id}",
        plain(&text(&action, "what"), 300),
        plain(&text(&action, "host"), 128),
        plain(&text(&action, "risk_class"), 8)
    ))
}
