//! What a signal says: how bad it is, which check of which host it is about,
//! and the report that this makes. Pure.

use farol_protocol::{CheckId, Report, Status, Timestamp, action::hex};
use serde_json::{Map, Value};

use crate::{
    correlate::{ALERT_PREFIX, SIGNAL_PREFIX},
    store::{hosts::SITE_PREFIX, signals::SignalRow},
    text::plain,
};

/// Longest text of a report.
const TEXT: usize = 500;
/// Longest readable part of a check's name.
const PART: usize = 48;

/// How bad a word for severity is. A word that nobody knows is a warning: what
/// was sent as a problem must not look calm.
#[must_use]
pub fn status(severity: &str) -> Status {
    match severity.trim().to_ascii_lowercase().as_str() {
        "ok" | "info" | "informational" | "information" | "none" | "debug" | "notice" | "resolved" | "success" => {
            Status::Ok
        }
        "high" | "critical" | "crit" | "error" | "err" | "fatal" | "alert" | "emergency" | "emerg" | "page"
        | "disaster" => Status::Critical,
        _ => Status::Warning,
    }
}

/// Names under which a detail or the labels of an alert say their host, the
/// surest first.
#[must_use]
pub fn hosts_in(detail: &Map<String, Value>) -> Vec<&str> {
    let facts = detail.get("facts").and_then(Value::as_object);
    let of_facts = facts.and_then(|facts| facts.get("hostname"));
    let names = ["hostname", "host", "nodename", "node", "instance"];
    of_facts
        .into_iter()
        .chain(names.iter().filter_map(|name| detail.get(*name)))
        .filter_map(Value::as_str)
        .map(without_port)
        .filter(|name| !name.is_empty())
        .collect()
}

/// `web-1:9100` is about `web-1`.
fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => name,
    }
}

/// The check that a signal of this kind reports on. Signals about different
/// things have different checks, so that one does not answer for another:
/// about another container, or one of another engine, or, where what stands for
/// a site takes them all, of another sender (`elsewhere`).
#[must_use]
pub fn check_of_signal(kind: &str, detail: &Map<String, Value>, elsewhere: Option<&str>) -> CheckId {
    let thing = ["container", "service", "unit", "device", "mount", "gateway", "name"]
        .iter()
        .find_map(|name| detail.get(*name).and_then(Value::as_str))
        .filter(|thing| !thing.trim().is_empty());
    let endpoint = detail.get("endpoint").and_then(Value::as_str);
    let mut id = format!("{SIGNAL_PREFIX}{}", part(kind));
    if let Some(thing) = thing {
        id.push('/');
        id.push_str(&part(thing));
    }
    if endpoint.is_some() || elsewhere.is_some() {
        id.push('/');
        id.push_str(&short_hash(&format!("{}\n{}", endpoint.unwrap_or_default(), elsewhere.unwrap_or_default())));
    }
    check(&id)
}

/// Names by which a host may be known here, the surest first, each with whether
/// it leaves the domain out. What stands for a site is no host.
pub fn names_of(name: &str) -> impl Iterator<Item = (String, bool)> {
    let short = name.split('.').next().unwrap_or(name);
    let is_short = short != name;
    [
        (name.to_owned(), false),
        (name.to_lowercase(), false),
        (short.to_owned(), is_short),
        (short.to_lowercase(), is_short),
    ]
    .into_iter()
    .filter(|(name, _)| !name.is_empty() && !name.starts_with(SITE_PREFIX))
}

/// Whether a name is good for a host of `host_site` in a signal of `site`:
/// without its domain it is not for a host of another site.
#[must_use]
pub fn may_be(is_short: bool, host_site: Option<&str>, site: &str) -> bool {
    !is_short || host_site.is_none_or(|known| known == site)
}

/// The check that an alert reports on: one for each set of labels.
#[must_use]
pub fn check_of_alert(name: &str, fingerprint: &str) -> CheckId {
    check(&format!("{ALERT_PREFIX}{}/{}", part(name), part(fingerprint)))
}

fn check(id: &str) -> CheckId {
    id.parse().unwrap_or_else(|error| unreachable!("parts of a check id make one: {error}"))
}

/// `text` as a part of a check's name. What cannot stand there is replaced, and
/// a hash of the whole is added so that two texts never become one.
fn part(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut kept: String = text.trim().chars().take(PART).map(|c| if allowed(c) { c } else { '-' }).collect();
    if kept != text {
        kept.truncate(PART - 9);
        kept = format!("{}-{}", kept.trim_matches('-'), short_hash(text));
    }
    kept
}

fn short_hash(text: &str) -> String {
    hex(&ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()[..4])
}

/// The report that a stored signal makes.
#[must_use]
pub fn report(row: &SignalRow) -> Report {
    let (value, unit) = measure(&row.detail).unzip();
    Report {
        check: row.check.clone(),
        status: row.status,
        value,
        unit: unit.map(str::to_owned),
        text: plain(&row.summary, TEXT),
        observed_at: row.observed_at,
        cause: None,
    }
}

/// A number that the detail is known to hold, and its unit.
fn measure(detail: &Map<String, Value>) -> Option<(f64, &'static str)> {
    [("gateway_latency_ms", "ms"), ("restart_count", "count")].into_iter().find_map(|(name, unit)| {
        detail.get(name)?.as_f64().filter(|value| value.is_finite()).map(|value| (value, unit))
    })
}

/// When it was observed: as the sender says, but not in the future.
#[must_use]
pub fn observed(said: Option<Timestamp>, now: Timestamp) -> Timestamp {
    said.map_or(now, |said| said.min(now))
}

/// An ISO 8601 time; one without an offset is in UTC.
#[must_use]
pub fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim().replacen(' ', "T", 1);
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

/// `detail` with every text one bounded line without control characters.
#[must_use]
pub fn tidy(detail: Map<String, Value>) -> Map<String, Value> {
    fn tidied(value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(plain(&text, 2000)),
            Value::Array(list) => Value::Array(list.into_iter().map(tidied).collect()),
            Value::Object(fields) => Value::Object(tidy(fields)),
            other => other,
        }
    }
    detail.into_iter().map(|(name, field)| (plain(&name, 128), tidied(field))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detail(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_word_for_severity_that_nobody_knows_is_a_warning() {
        assert_eq!([" INFO ", "ok", "none"].map(status), [Status::Ok; 3]);
        assert_eq!(["warning", "low", "medium", "banana", ""].map(status), [Status::Warning; 5]);
        assert_eq!(["high", "critical", "Error", "page"].map(status), [Status::Critical; 4]);
    }

    #[test]
    fn different_things_have_different_checks_and_the_same_thing_the_same() {
        let of = |kind: &str, value: Value| check_of_signal(kind, &detail(value), None);
        assert_eq!(of("agent_facts", json!({})).as_str(), "signal.agent_facts");
        let web = of("container_down", json!({"container": "web", "endpoint": "tcp://10.0.0.5:2375"}));
        assert!(web.as_str().starts_with("signal.container_down/web/"), "{web}");
        let others = [
            of("container_down", json!({"container": "web", "endpoint": "tcp://10.0.0.6:2375"})),
            of("container_down", json!({"container": "db", "endpoint": "tcp://10.0.0.5:2375"})),
            of("container_down", json!({"container": "we b", "endpoint": "tcp://10.0.0.5:2375"})),
            of("container_down", json!({"container": "we/b", "endpoint": "tcp://10.0.0.5:2375"})),
            of("container_restart_count_high", json!({"container": "web", "endpoint": "tcp://10.0.0.5:2375"})),
            check_of_signal("container_down", &detail(json!({"container": "web"})), Some("moon")),
            check_of_signal("container_down", &detail(json!({"container": "web"})), Some("mars")),
        ];
        for (n, other) in others.iter().enumerate() {
            assert_ne!(*other, web);
            assert!(!others[n + 1..].contains(other), "{other}");
        }
        let facts = json!({"container": "web", "endpoint": "tcp://10.0.0.5:2375", "restart_count": 9});
        assert_eq!(of("container_down", facts), web, "what changes from one signal to the next is no identity");
    }

    #[test]
    fn whatever_a_sender_writes_makes_a_check() {
        for text in ["", " ", "../../etc/passwd", "ação", "\u{0}", "a b", ".."] {
            let id =
                check_of_signal(text, &detail(json!({"container": text.repeat(500), "endpoint": text})), Some(text));
            assert!(id.as_str().len() <= 128, "{id}");
            assert!(check_of_alert(&text.repeat(900), text).as_str().len() <= 128);
        }
        assert_ne!(check_of_alert(&"x".repeat(80), "1"), check_of_alert(&"x".repeat(81), "1"));
    }

    #[test]
    fn a_host_is_named_by_facts_then_by_a_name_then_by_an_instance_without_its_port() {
        let facts = json!({"facts": {"hostname": "vm112.lan"}, "host": "other", "instance": "vm9:9100"});
        assert_eq!(hosts_in(&detail(facts)), ["vm112.lan", "other", "vm9"]);
        let odd = json!({"hostname": 5, "host": "", "instance": "[fd00::1]:9100"});
        assert_eq!(hosts_in(&detail(odd)), ["[fd00::1]:9100"]);
    }

    #[test]
    fn a_name_without_its_domain_is_for_no_host_of_another_site_and_a_site_is_no_host() {
        let names: Vec<_> = names_of("VM112.b.example").collect();
        let name = |text: &str, is_short| (text.to_owned(), is_short);
        let expected =
            [name("VM112.b.example", false), name("vm112.b.example", false), name("VM112", true), name("vm112", true)];
        assert_eq!(names, expected);
        assert!(!may_be(true, Some("a"), "b"));
        assert!(may_be(true, Some("b"), "b") && may_be(true, None, "b") && may_be(false, Some("a"), "b"));
        assert!(names_of("vm112").all(|(_, is_short)| !is_short));
        assert_eq!(names_of("site:lab").count() + names_of("site:lab.b.example").count(), 0);
        assert!(names_of("SITE:lab").all(|(name, _)| name == "SITE:lab"));
    }

    #[test]
    fn a_time_without_an_offset_is_utc_and_none_lies_in_the_future() {
        let at = time("2026-11-20T12:00:00.123456+00:00").expect("a time");
        assert_eq!(time("2026-11-20T12:00:00.123456"), Some(at));
        assert_eq!(time("2026-11-20 09:00:00.123456-03:00"), Some(at));
        assert_eq!(time("yesterday"), None);
        assert_eq!(observed(Some(at), at.plus_ms(5)), at);
        assert_eq!(observed(Some(at.plus_ms(9)), at.plus_ms(5)), at.plus_ms(5));
        assert_eq!(observed(None, at), at);
    }

    #[test]
    fn texts_of_a_detail_lose_what_is_no_text() {
        let tidied = tidy(detail(json!({"a\u{7}": ["x\u{1b}[31m\u{202e}y", 5, {"b": "z\n"}], "n": null})));
        assert_eq!(Value::Object(tidied), json!({"a": ["x [31my", 5, {"b": "z"}], "n": null}));
    }
}
