//! Hosts and tokens in the data folder: who there is, and what people decide
//! about them.

use farol_protocol::{HostId, Timestamp};
use serde_json::json;

use super::{Data, admin, output};
use crate::{
    auth::Operator,
    error::Result,
    fleet::identity::{Choice, Conflict},
    store::hosts::HostRow,
};

/// Lists hosts with their certificates and machines.
pub(super) async fn hosts(data: &Data, as_json: bool) -> Result<()> {
    let (_, store) = admin::open(data).await?;
    let hosts = store.hosts().await?;
    let mut trust = store.trust().await?;
    store.close().await;
    let rows: Vec<_> = hosts
        .into_iter()
        .map(|host| {
            let row = trust.remove(&host.key).unwrap_or_default();
            let waits = waits(&host, row.known.conflict.as_ref(), row.asked_at.is_some());
            (host, row, waits)
        })
        .collect();
    if as_json {
        let items: Vec<_> = rows
            .iter()
            .map(|(host, row, waits)| {
                json!({
                    "id": host.id, "name": host.name, "state": host.enrolment, "certificate_ends": host.cert_not_after,
                    "reported_name": row.known.name, "machine": row.known.machine, "boots": row.known.boots,
                    "conflict": row.known.conflict, "consent_asked_at": row.asked_at,
                    "consent_until": row.consent_until, "waits": waits,
                })
            })
            .collect();
        return output::json(&json!({"items": items, "next_cursor": null}));
    }
    let cell = |text: Option<String>| text.unwrap_or_default();
    let short = |id: &String| id.chars().take(12).collect::<String>();
    let rows = rows
        .into_iter()
        .map(|(host, row, waits)| {
            vec![
                host.name,
                format!("{:?}", host.enrolment).to_lowercase(),
                cell(host.cert_not_after.map(|end| end.to_string())),
                cell(row.known.name),
                cell(row.known.machine.as_ref().map(short)),
                cell(row.known.boots.last().map(short)),
                cell(waits),
            ]
        })
        .collect();
    output::table(&["HOST", "STATE", "CERTIFICATE ENDS", "CALLS ITSELF", "MACHINE", "BOOT", "WAITS FOR"], rows)
}

/// What a person has to decide, as the command that does.
fn waits(host: &HostRow, conflict: Option<&Conflict>, asks: bool) -> Option<String> {
    let name = &host.name;
    match conflict {
        Some(Conflict::Machine { machine, .. }) => {
            Some(format!("farol host accept {name} --machine {}", machine.chars().take(12).collect::<String>()))
        }
        Some(Conflict::Clones { .. }) => Some(format!("farol host accept {name} --boot ID")),
        None => asks.then(|| format!("farol host consent {name}")),
    }
}

/// Lets a host renew its certificate after a long absence.
pub(super) async fn consent(data: &Data, name: &str) -> Result<()> {
    let (_, store) = admin::open(data).await?;
    let now = Timestamp::now();
    let hours = farol_pki::CONSENT.whole_hours();
    let until = now.plus_ms(hours * 3600 * 1000);
    store.consent(&Operator::local_administrator(), name, until, now).await?;
    store.close().await;
    output::line(&format!("{name} may renew its certificate until {until}; its agent asks by itself"))
}

/// Decides which machine a host is.
pub(super) async fn accept(data: &Data, name: &str, machine: Option<&str>, boot: Option<&str>) -> Result<()> {
    let choice = match (machine, boot) {
        (Some(machine), _) => Choice::Machine(machine),
        (None, boot) => Choice::Boot(boot.unwrap_or_default()),
    };
    let (_, store) = admin::open(data).await?;
    store.accept_machine(&Operator::local_administrator(), name, choice, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!("decided; {name} connects again within a minute, and any other machine is refused"))
}

/// Gives a host another name.
pub(super) async fn rename(data: &Data, old: &str, new: &HostId) -> Result<()> {
    let (_, store) = admin::open(data).await?;
    store.rename_host(&Operator::local_administrator(), old, new, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!(
        "{old} is {new} now; where registry.yaml names it, change it there too and restart the coordinator"
    ))
}

/// Lists API tokens.
pub(super) async fn tokens(data: &Data, as_json: bool) -> Result<()> {
    let (_, store) = admin::open(data).await?;
    let tokens = store.tokens().await?;
    store.close().await;
    if as_json {
        return output::json(&json!({"items": tokens, "next_cursor": null}));
    }
    let rows = tokens
        .into_iter()
        .map(|token| {
            let end = token.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            let revoked = token.revoked_at.map(|at| at.to_string()).unwrap_or_default();
            let used = token.used_at.map(|at| at.to_string()).unwrap_or_default();
            let owner = token.owner.unwrap_or_default();
            vec![token.name, owner, token.role.to_string(), token.created_at.to_string(), used, end, revoked]
        })
        .collect();
    output::table(&["TOKEN", "OWNER", "ROLE", "MADE", "USED", "ENDS", "REVOKED"], rows)
}

/// Ends an API token.
pub(super) async fn revoke_token(data: &Data, name: &str) -> Result<()> {
    let (_, store) = admin::open(data).await?;
    store.revoke_token(&Operator::local_administrator(), name, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!("{name} is revoked"))
}
