//! What there is to suspect.

use farol_protocol::{Plan, Timestamp};

use super::{Kind, REACH_MS, Suspect, Verdict, rank};
use crate::{
    action::State,
    app::Shared,
    error::Result,
    store::{
        Cursor,
        findings::{FindingRow, Which},
    },
    text,
    topology::drawn,
};

/// Findings and actions that are looked at, the newest first.
const LOOKED_AT: i64 = 500;

/// What probably caused a finding, as far as it is known here.
///
/// # Errors
/// The store failed.
pub async fn of(app: &Shared, row: &FindingRow) -> Result<Verdict> {
    let near = drawn::dependencies(app).await?.distances(row.host());
    let names = app.store.host_names().await?;
    let place = |host| Some((names.get(&host).cloned()?, *near.get(&host)?));
    let mut suspects = Vec::new();
    let mut dependency = None;
    if let (Some("cause"), Some(id)) = (row.hidden_kind.as_deref(), row.hidden_by.as_deref()) {
        let cause = app.store.finding(id).await?;
        let (host, distance) = place(cause.host()).unwrap_or_default();
        suspects.push(of_finding(Kind::Dependency, &cause, host, distance));
        dependency = Some(cause.id);
    }
    let end = row.opened_at().plus_ms(REACH_MS);
    let from = Cursor { ms: end.as_ms(), id: String::new() };
    for other in app.store.findings(Which::All, &from, LOOKED_AT).await?.items {
        if other.id == row.id || Some(&other.id) == dependency.as_ref() || other.hidden_kind.is_some() {
            continue;
        }
        if let Some((host, distance)) = place(other.host()) {
            suspects.push(of_finding(Kind::Finding, &other, host, distance));
        }
    }
    for action in app.store.actions(None, &Cursor::start(), LOOKED_AT).await?.items {
        let ran = matches!(
            action.state,
            State::Accepted | State::Done | State::Failed | State::TimedOut | State::Interrupted
        );
        // What mends a finding did not cause it.
        if !ran || action.finding_id.as_ref() == Some(&row.id) {
            continue;
        }
        let at = action.updated_at;
        let (Some((host, distance)), Ok((_, effect))) = (place(action.host), Plan::parse(&action.plan)) else {
            continue;
        };
        let text = text::effect(&effect, app.language());
        suspects.push(Suspect { kind: Kind::Change, id: action.id.to_string(), host, text, at, distance });
    }
    Ok(rank(row.opened_at(), suspects))
}

fn of_finding(kind: Kind, row: &FindingRow, host: String, distance: u32) -> Suspect {
    let at: Timestamp = row.opened_at();
    Suspect { kind, id: row.id.clone(), host, text: row.title.clone(), at, distance }
}
