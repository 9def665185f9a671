//! `farol integration`: systems that the coordinator talks to with credentials.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
};

use farol_protocol::Timestamp;

use super::{Data, IntegrationCommand, IntegrationFlags, admin::open, output};
use crate::{
    auth::Operator,
    checks::ByHand,
    config,
    error::{Error, Result},
    integrations::{Integrations, Kind, Secret, Tls, Vault},
    store::integrations::{Integration, Wanted},
};

/// A secret is not longer.
const MAX_SECRET: u64 = 64 * 1024;

pub(super) async fn run(command: IntegrationCommand) -> Result<()> {
    match command {
        IntegrationCommand::Add { name, kind, flags } => save(name, Some(kind), flags, false).await,
        IntegrationCommand::Set { name, flags } => save(name, None, flags, true).await,
        IntegrationCommand::List { json, data } => list(&data, json).await,
        IntegrationCommand::Test { name, json, data } => test(&data, &name, json).await,
        IntegrationCommand::Remove { name, data } => {
            let (_, store) = open(&data).await?;
            store.remove_integration(&Operator::local_administrator(), &name, Timestamp::now()).await?;
            store.close().await;
            output::line(&format!("{name} is removed, with its secret"))
        }
    }
}

async fn save(name: String, kind: Option<Kind>, flags: IntegrationFlags, replace: bool) -> Result<()> {
    let (config, store) = open(&flags.data).await?;
    let before = if replace { Some(store.integration(&name).await?) } else { None };
    let Some(kind) = kind.or(before.as_ref().map(|known| known.kind)) else {
        return Err(Error::NotFound { what: "integration", id: name });
    };
    let vault = Vault::open_or_create(&config.data_dir)?;
    let wanted = Wanted {
        tls: tls(&flags)?.or_else(|| before.as_ref().map(|known| known.tls.clone())).unwrap_or_default(),
        secret: secret(flags.secret_file.as_deref(), replace, kind)?,
        name,
        kind,
        site: flags.site.or_else(|| before.as_ref().and_then(|known| known.site.clone())),
        endpoints: keep(flags.urls, before.as_ref().map(|known| known.endpoints.clone())),
        tags: keep(flags.tags, before.as_ref().map(|known| known.tags.clone())),
        options: if flags.options.is_empty() {
            before.as_ref().map(|known| known.options.clone()).unwrap_or_default()
        } else {
            flags.options.into_iter().collect::<BTreeMap<_, _>>()
        },
        user: flags.user.or_else(|| before.as_ref().and_then(|known| known.user.clone())),
    }
    .checked()?;
    let by = Operator::local_administrator();
    let saved = store.save_integration(&by, &wanted, replace, &vault, Timestamp::now()).await?;
    store.close().await;
    if flags.json {
        return output::json(&saved);
    }
    let warning = if saved.tls == Tls::Insecure {
        "; its certificate is NOT verified: anyone in between can read the secret"
    } else {
        ""
    };
    output::line(&format!("{} is saved{warning}; try it with: farol integration test {}", saved.name, saved.name))
}

fn keep(new: Vec<String>, old: Option<Vec<String>>) -> Vec<String> {
    if new.is_empty() { old.unwrap_or_default() } else { new }
}

fn tls(flags: &IntegrationFlags) -> Result<Option<Tls>> {
    Ok(match (&flags.pin, &flags.ca, flags.insecure, flags.verify) {
        (Some(pin), ..) => Some(Tls::Pin(pin.clone())),
        (_, Some(path), ..) => Some(Tls::Ca(config::read(path)?)),
        (_, _, true, _) => Some(Tls::Insecure),
        (_, _, _, true) => Some(Tls::Verify),
        _ => None,
    })
}

/// From the file, from standard input where it is `-`, else asked for where a
/// person is at the terminal. Never an argument: those stand in the list of processes.
fn secret(file: Option<&Path>, replace: bool, kind: Kind) -> Result<Option<Secret>> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin().take(MAX_SECRET).read_to_string(&mut text).map_err(|source| Error::File {
                what: "read",
                path: "standard input".into(),
                source,
            })?;
            text
        }
        Some(path) => config::read(path)?,
        None if replace || kind.may_be_open() => return Ok(None),
        None if io::stdin().is_terminal() => {
            eprintln!("Type or paste the secret, then Enter (nothing but Enter for none). It shows on this screen.");
            let mut text = String::new();
            io::stdin().read_line(&mut text).map_err(|source| Error::File {
                what: "read",
                path: "standard input".into(),
                source,
            })?;
            text
        }
        None => {
            return Err(Error::Config(
                "the secret is missing: give `--secret-file FILE`, or `--secret-file -` to read it from standard input"
                    .to_owned(),
            ));
        }
    };
    let text = text.trim_end_matches(['\r', '\n']);
    Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
}

async fn list(data: &Data, as_json: bool) -> Result<()> {
    let (_, store) = open(data).await?;
    let all = store.integrations().await?;
    store.close().await;
    if as_json {
        return output::json(&all);
    }
    let rows = all.iter().map(row).collect();
    output::table(&["NAME", "KIND", "ADDRESS", "TLS", "LAST ANSWER", "LAST ERROR"], rows)
}

fn row(integration: &Integration) -> Vec<String> {
    let tls = match &integration.tls {
        Tls::Verify => "verified",
        Tls::Ca(_) => "own authority",
        Tls::Pin(_) => "pinned",
        Tls::Insecure => "NOT VERIFIED",
    };
    vec![
        integration.name.clone(),
        integration.kind.as_str().to_owned(),
        integration.endpoints.join(" "),
        tls.to_owned(),
        integration.last_success.map(|at| at.to_string()).unwrap_or_default(),
        integration.last_error.clone().unwrap_or_default(),
    ]
}

async fn test(data: &Data, name: &str, as_json: bool) -> Result<()> {
    let (config, store) = open(data).await?;
    let integrations = Integrations::new(Vault::open_or_create(&config.data_dir)?);
    integrations.refresh(&store).await?;
    let language = config::read(&config.registry)
        .ok()
        .and_then(|text| crate::jobs::registry::parse(&config.registry, &text).ok())
        .map(|registry| registry.language)
        .unwrap_or_default();
    let tested = ByHand::test(&integrations, &store, language, name).await;
    store.close().await;
    let report = tested?;
    if as_json {
        return output::json(&report);
    }
    output::line(&format!("{:<8} {}", report.status.as_str(), report.text))
}
