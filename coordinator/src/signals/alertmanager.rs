//! What Alertmanager's webhook sends, version 4 of its payload.

use farol_protocol::{Status, Timestamp, action::hex};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Draft, check_size, judge};
use crate::{store::signals::Alert, text::plain};

/// An alert that was not taken. The others of its group were.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// Its place in the group, from 0.
    pub index: usize,
    /// As it was sent.
    pub fingerprint: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// A group that was understood.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) refused: Vec<Refused>,
    /// Alerts that Alertmanager left out by itself.
    pub(crate) truncated: u64,
}

impl Group {
    /// Reads a body. `site` is where alerts belong that do not say it.
    ///
    /// # Errors
    /// It is no group of version 4.
    pub(crate) fn parse(body: &Map<String, Value>, site: &str, now: Timestamp) -> Result<Self, String> {
        match body.get("version").and_then(Value::as_str) {
            Some("4") => {}
            Some(other) => return Err(format!("`version` is `{}`; only 4 is known", plain(other, 16))),
            None => return Err("`version` is missing; this is not what Alertmanager's webhook sends".to_owned()),
        }
        let alerts = body.get("alerts").and_then(Value::as_array).ok_or("`alerts` is not a list")?;
        let mut group = Self {
            drafts: Vec::with_capacity(alerts.len()),
            refused: Vec::new(),
            truncated: body.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or(0),
        };
        for (index, alert) in alerts.iter().enumerate() {
            match draft(alert, site, now) {
                Ok(draft) => group.drafts.push(draft),
                Err(why) => {
                    let fingerprint = alert["fingerprint"].as_str().map(|text| plain(text, 64));
                    group.refused.push(Refused { index, fingerprint, why });
                }
            }
        }
        Ok(group)
    }
}

fn draft(alert: &Value, site: &str, now: Timestamp) -> Result<Draft, String> {
    let alert = alert.as_object().ok_or("it is not an object")?;
    let firing = match alert.get("status").and_then(Value::as_str) {
        Some("firing") => true,
        Some("resolved") => false,
        _ => return Err("`status` is neither firing nor resolved".to_owned()),
    };
    let labels = texts(alert, "labels")?.ok_or("`labels` is missing")?;
    let annotations = texts(alert, "annotations")?.unwrap_or_default();
    let started_at = time(alert, "startsAt")?.ok_or("`startsAt` is missing")?;
    // The zero time stands for none.
    let ended_at = time(alert, "endsAt")?.filter(|at| at.as_ms() > 0);
    let label = |name: &str| labels.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = label("alertname").unwrap_or("alert").to_owned();
    let summary = ["summary", "description", "message"].iter().find_map(|key| annotations.get(*key)?.as_str());
    let summary = summary.map_or_else(|| name.clone(), |summary| format!("{name}: {summary}"));
    let severity = label("severity").unwrap_or("warning");
    let fingerprint = alert
        .get("fingerprint")
        .and_then(Value::as_str)
        .filter(|text| (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric()))
        .map_or_else(|| of_labels(&labels), str::to_owned);
    let hosts = ["host", "hostname", "instance", "nodename", "node"];
    let hosts: Map<String, Value> =
        hosts.iter().filter_map(|key| Some(((*key).to_owned(), labels.get(*key)?.clone()))).collect();
    let hosts = judge::hosts_in(&hosts).into_iter().map(str::to_owned).collect();
    let site_id = plain(label("site").or_else(|| label("site_id")).unwrap_or(site), 64);
    let detail = judge::tidy(Map::from_iter([
        ("status".to_owned(), json!(if firing { "firing" } else { "resolved" })),
        ("startsAt".to_owned(), json!(started_at)),
        ("endsAt".to_owned(), json!(ended_at)),
        ("fingerprint".to_owned(), json!(fingerprint)),
        ("generatorURL".to_owned(), json!(alert.get("generatorURL").and_then(Value::as_str))),
        ("labels".to_owned(), Value::Object(labels.clone())),
        ("annotations".to_owned(), Value::Object(annotations)),
    ]));
    check_size(&detail)?;
    Ok(Draft {
        site_id,
        kind: plain(&format!("alert.{name}"), 64),
        summary: plain(&summary, super::SUMMARY),
        detail,
        severity: if firing { plain(severity, 32) } else { "info".to_owned() },
        source: "alertmanager".to_owned(),
        observed_at: Some(if firing { started_at } else { ended_at.unwrap_or(now) }),
        status: if firing { judge::status(severity) } else { Status::Ok },
        hosts,
        alert: Some((name, Alert { fingerprint, started_at, firing })),
    })
}

/// A map whose values are texts. Numbers and flags are taken as they are written.
fn texts(alert: &Map<String, Value>, name: &str) -> Result<Option<Map<String, Value>>, String> {
    let fields = match alert.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(format!("`{name}` is not an object")),
    };
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(_) => Ok((key.clone(), value.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((key.clone(), Value::String(value.to_string()))),
        _ => Err(format!("`{name}` holds `{}`, which is not a text", plain(key, 64))),
    };
    fields.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn time(alert: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, String> {
    match alert.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let at = value.as_str().and_then(|text| text.parse().ok());
            at.map(Some).ok_or_else(|| format!("`{name}` is not a time such as 2026-11-20T12:00:00Z"))
        }
    }
}

/// For senders that give no fingerprint: the labels, which are in order.
fn of_labels(labels: &Map<String, Value>) -> String {
    let mut sorted: Vec<(&String, &Value)> = labels.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let text = serde_json::to_string(&sorted).unwrap_or_default();
    hex(&ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T13:00:00Z".parse().expect("valid")
    }

    fn alert() -> Value {
        json!({
            "status": "firing",
            "labels": {"alertname": "DiskFull", "instance": "vm112:9100", "severity": "critical"},
            "annotations": {"summary": "/ is 97 % full"},
            "startsAt": "2026-11-20T12:00:00.5Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph", "fingerprint": "c0ffee0123456789"
        })
    }

    fn parse(alerts: &[Value]) -> Group {
        let body = json!({"version": "4", "status": "firing", "alerts": alerts, "truncatedAlerts": 2});
        Group::parse(body.as_object().expect("an object"), "lab", now()).expect("a group")
    }

    #[test]
    fn a_firing_alert_says_its_severity_and_its_own_time() {
        let group = parse(&[alert()]);
        let draft = &group.drafts[0];
        assert_eq!((draft.status, draft.severity.as_str()), (Status::Critical, "critical"));
        assert_eq!(draft.observed_at, Some("2026-11-20T12:00:00.500Z".parse().expect("valid")));
        assert_eq!((draft.kind.as_str(), draft.summary.as_str()), ("alert.DiskFull", "DiskFull: / is 97 % full"));
        assert_eq!((draft.hosts.as_slice(), draft.site_id.as_str()), (&["vm112".to_owned()][..], "lab"));
        assert_eq!(draft.detail["endsAt"], Value::Null, "the zero time is none");
        assert_eq!(group.truncated, 2);
    }

    #[test]
    fn a_resolved_alert_is_healthy_from_its_end_on_or_from_now() {
        let mut resolved = alert();
        resolved["status"] = json!("resolved");
        let without_end = resolved.clone();
        resolved["endsAt"] = json!("2026-11-20T12:30:00Z");
        let group = parse(&[resolved, without_end]);
        assert_eq!(group.drafts.iter().map(|draft| draft.status).collect::<Vec<_>>(), [Status::Ok; 2]);
        assert_eq!(group.drafts[0].observed_at, Some("2026-11-20T12:30:00Z".parse().expect("valid")));
        assert_eq!(group.drafts[1].observed_at, Some(now()));
    }

    #[test]
    fn a_bad_alert_costs_itself_and_is_named() {
        let bad = |path: &str, value: Value| {
            let mut alert = alert();
            *alert.pointer_mut(path).expect("a field") = value;
            alert
        };
        let group = parse(&[
            json!(5),
            bad("/status", json!("burning")),
            bad("/labels", json!([])),
            bad("/labels/instance", json!({"a": 1})),
            bad("/startsAt", json!("noon")),
            bad("/annotations/summary", json!("x".repeat(50_000))),
            alert(),
        ]);
        assert_eq!(group.drafts.len(), 2, "a long text is cut");
        assert_eq!(group.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(group.refused[1].fingerprint.as_deref(), Some("c0ffee0123456789"));
        assert!(group.refused[3].why.contains("`instance`"), "{:?}", group.refused);
    }

    #[test]
    fn a_body_of_another_version_is_refused() {
        for (body, says) in [
            (json!({"alerts": []}), "`version` is missing"),
            (json!({"version": "5", "alerts": []}), "`version` is `5`"),
            (json!({"version": "4", "alerts": {}}), "`alerts` is not a list"),
        ] {
            let said = Group::parse(body.as_object().expect("an object"), "lab", now()).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn without_a_fingerprint_the_labels_are_the_identity() {
        let mut one = alert();
        one.as_object_mut().expect("an object").remove("fingerprint");
        let mut two = one.clone();
        two["annotations"] = json!({});
        let mut three = one.clone();
        three["labels"]["instance"] = json!("vm113:9100");
        let group = parse(&[one, two, three]);
        let key = |n: usize| &group.drafts[n].alert.as_ref().expect("an alert").1.fingerprint;
        assert_eq!(key(0), key(1));
        assert_ne!(key(0), key(2));
    }
}
