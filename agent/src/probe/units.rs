//! All units of the service manager: what failed, and what keeps failing.

use std::{collections::HashMap, path::Path};

pub(super) use farol_protocol::report::UnitsProbe;
use tokio::time::timeout;

use super::{Probing, Seen, counters::Counters, path::matches, text::Text};
use crate::{effect::Bus, text::cut};

/// Units that are named in a text.
const MOST_NAMED: usize = 8;

pub(super) async fn run(probing: Probing, counters: &Counters, check: &str, probe: &UnitsProbe) -> Seen {
    let look = async {
        match Bus::connect().await {
            Some(bus) => Some(look(&bus).await),
            None => None,
        }
    };
    match timeout(probing.limit, look).await {
        Ok(Some(Ok(found))) => judge(probing, counters, check, probe, found),
        Ok(Some(Err(error))) => probing.unknown(Text::UnitsUnknown, &[("why", &cut(&error.to_string(), 200))]),
        Ok(None) if Path::new("/run/systemd/system").exists() => {
            probing.unknown(Text::UnitsUnknown, &[("why", "D-Bus")])
        }
        Ok(None) => probing.not_configured(Text::UnitsNone, &[]),
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

/// What the service manager said.
#[derive(Debug, Default)]
struct Found {
    failed: Vec<String>,
    /// Automatic restarts of each service that runs or is about to.
    restarts: HashMap<String, u32>,
}

async fn look(bus: &Bus) -> zbus::Result<Found> {
    let mut found = Found::default();
    found.failed.extend(bus.list(&["failed"], &[]).await?.into_iter().map(|unit| unit.name));
    for unit in bus.list(&["active", "activating", "reloading"], &["*.service"]).await? {
        // One that is gone since the list was made costs only itself.
        if unit.load == "loaded"
            && (unit.sub == "running" || unit.active == "activating")
            && let Ok(restarts) = bus.restarts(&unit).await
        {
            found.restarts.insert(unit.name, restarts);
        }
    }
    found.failed.sort_unstable();
    Ok(found)
}

#[expect(clippy::needless_pass_by_value, reason = "the counters are kept")]
fn judge(probing: Probing, counters: &Counters, check: &str, probe: &UnitsProbe, found: Found) -> Seen {
    let counts = |name: &str| !probe.ignore.iter().any(|pattern| matches(pattern, name));
    let grown = counters.grown(check, found.restarts.clone());
    let mut restarting: Vec<(&str, u32)> = grown
        .iter()
        .filter(|(name, by)| **by >= probe.restarts.max(1) && counts(name))
        .map(|(name, by)| (name.as_str(), *by))
        .collect();
    restarting.sort_unstable();
    let mut names: Vec<String> = found.failed.iter().filter(|name| counts(name)).cloned().collect();
    let failed = names.len();
    names.extend(restarting.iter().map(|(name, by)| format!("{name} (+{by})")));
    let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let more = names.len().saturating_sub(MOST_NAMED);
    let mut shown = names.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" … (+{more})"));
    }
    let values =
        [("names", shown.as_str()), ("failed", &failed.to_string()), ("restarting", &restarting.len().to_string())];
    // A unit within the limits is named all the same.
    let fine = if names.is_empty() { Text::UnitsOk } else { Text::UnitsBad };
    probing.judged(&probe.limits, f64::from(number), "count", [fine, Text::UnitsBad], &values)
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::Limits};

    use super::{super::tests::probing, *};
    use crate::effect::systemd_for_tests::Systemd;

    fn probe(ignore: &[&str]) -> UnitsProbe {
        let limits = Limits { critical: Some(1.0), ..Limits::default() };
        UnitsProbe { ignore: ignore.iter().map(|name| (*name).to_owned()).collect(), restarts: 3, limits }
    }

    fn found(failed: &[&str], restarts: &[(&str, u32)]) -> Found {
        Found {
            failed: failed.iter().map(|name| (*name).to_owned()).collect(),
            restarts: restarts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        }
    }

    #[test]
    fn failed_and_restarting_units_are_counted_and_named_unless_ignored() {
        let counters = Counters::default();
        let look = |probe: &UnitsProbe, found: Found| judge(probing(), &counters, "c", probe, found);
        let all = probe(&[]);
        let first = look(&all, found(&[], &[("a.service", 500), ("b.service", 0)]));
        assert_eq!((first.status, first.value), (Status::Ok, Some(0.0)), "long ago: {}", first.text);
        let second = look(&all, found(&["x.mount"], &[("a.service", 502), ("b.service", 3)]));
        assert_eq!((second.status, second.value), (Status::Critical, Some(2.0)));
        assert!(
            second.text.contains("x.mount, b.service (+3)") && !second.text.contains("a.service"),
            "{}",
            second.text
        );
        let ignoring = probe(&["x.*", "b.service"]);
        let third = look(&ignoring, found(&["x.mount"], &[("b.service", 90)]));
        assert_eq!((third.status, third.value), (Status::Ok, Some(0.0)), "{}", third.text);
        let many: Vec<String> = (0..60).map(|n| format!("a-unit-with-a-name-{n}.service")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        let seen = look(&all, found(&names, &[]));
        assert!(seen.text.contains("(+52)"), "{}", seen.text);
    }

    #[tokio::test]
    async fn units_are_listed_over_the_bus() {
        let units = [("fine.service", true), ("gone.service", false)];
        let Some(systemd) = Systemd::start(&units).await else { return };
        systemd.fail("broken.service");
        let bus = systemd.bus().await;
        let found = look(&bus).await.expect("answered");
        assert_eq!(found.failed, ["broken.service"]);
        assert_eq!(found.restarts, HashMap::from([("fine.service".to_owned(), 3)]));
    }
}
