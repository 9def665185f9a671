//! Names of metrics, their units, and how one reading becomes values.
//!
//! A name is a noun, with the thing it is of behind a colon:
//! `disk.used_percent:/var`. Names are stable: people keep them in dashboards.

use std::collections::HashMap;

use farol_protocol::{Report, Status, telemetry::Metrics};

use super::{MINUTE, pack::Grain};
use crate::topology::is_inner;

/// What a check's values are called: this and the check's id.
pub const CHECK: &str = "check:";
/// Longest name in characters.
const LONGEST_NAME: usize = 200;
/// A rate over more than this says nothing about any of its minutes.
const LONGEST_RATE: i64 = 5 * MINUTE;

/// The unit and the grain of each metric, by the part of its name before the colon.
const KNOWN: [(&str, &str, Grain); 13] = [
    ("cpu", "%", Grain::Part(10)),
    ("load1", "load", Grain::Part(100)),
    ("load5", "load", Grain::Part(100)),
    ("load15", "load", Grain::Part(100)),
    ("memory.used_percent", "%", Grain::Part(10)),
    ("memory.used_bytes", "bytes", Grain::Multiple(1 << 20)),
    ("swap.used_percent", "%", Grain::Part(10)),
    ("swap.used_bytes", "bytes", Grain::Multiple(1 << 20)),
    ("disk.used_percent", "%", Grain::Part(100)),
    ("disk.used_bytes", "bytes", Grain::Multiple(1 << 20)),
    ("net.received_per_second", "bytes/s", Grain::Relative),
    ("net.sent_per_second", "bytes/s", Grain::Relative),
    ("uptime", "s", Grain::Multiple(1)),
];

/// The unit of a metric that is no check's.
#[must_use]
pub fn unit(name: &str) -> Option<&'static str> {
    let noun = name.split_once(':').map_or(name, |(noun, _)| noun);
    KNOWN.iter().find(|(known, ..)| *known == noun).map(|(_, unit, _)| *unit)
}

/// How finely a metric is kept. Values of checks have units of their own, so
/// theirs are kept relative to their size.
#[must_use]
pub fn grain(name: &str) -> Grain {
    let noun = name.split_once(':').map_or(name, |(noun, _)| noun);
    KNOWN.iter().find(|(known, ..)| *known == noun).map_or(Grain::Relative, |(.., grain)| *grain)
}

/// The name and value of a report; none where it has none, or is unknown.
#[must_use]
pub fn value(report: &Report) -> Option<f64> {
    report.value.filter(|_| report.status != Status::Unknown)
}

/// What one reading says by itself; rates need the one before ([`Counters`]).
#[must_use]
pub fn values(metrics: &Metrics) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = Vec::with_capacity(9 + 2 * metrics.disks.len());
    let mut say = |name: &str, value: Option<f64>| all.extend(value.map(|value| (name.to_owned(), value)));
    say("cpu", metrics.cpu_percent);
    for (name, place) in [("load1", 0), ("load5", 1), ("load15", 2)] {
        say(name, metrics.load.map(|load| load[place]));
    }
    for (noun, usage) in [("memory", metrics.memory), ("swap", metrics.swap)] {
        // A host without swap has no value of it, rather than 0.
        let usage = usage.filter(|usage| usage.total > 0);
        say(&format!("{noun}.used_percent"), usage.and_then(farol_protocol::telemetry::Usage::percent));
        say(&format!("{noun}.used_bytes"), usage.map(|usage| number(usage.used)));
    }
    say("uptime", metrics.uptime_seconds.map(number));
    for disk in metrics.disks.iter().filter(|disk| disk.space.total > 0) {
        say(&format!("disk.used_percent:{}", disk.mount), disk.space.percent());
        say(&format!("disk.used_bytes:{}", disk.mount), Some(number(disk.space.used)));
    }
    all.retain(|(name, _)| is_name(name));
    all
}

/// Whether a name can be asked for.
fn is_name(name: &str) -> bool {
    name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control)
}

#[expect(clippy::cast_precision_loss, reason = "no more than 53 bits are kept of any value")]
const fn number(value: u64) -> f64 {
    value as f64
}

/// The counters of a reading, from which the next one's rates are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    at: i64,
    uptime: Option<u64>,
    /// Bytes received and sent, by interface.
    interfaces: HashMap<String, (u64, u64)>,
}

impl Counters {
    /// Those of a reading that was taken at `at`, in ms. Interfaces of
    /// containers and guests are left out: each new one has a new name, and a
    /// host has room for so many.
    #[must_use]
    pub fn of(metrics: &Metrics, at: i64) -> Self {
        let interfaces = metrics.networks.iter().filter(|network| !is_inner(&network.interface));
        Self {
            at,
            uptime: metrics.uptime_seconds,
            interfaces: interfaces
                .map(|network| (network.interface.clone(), (network.received, network.sent)))
                .collect(),
        }
    }

    /// Bytes a second from the reading `before` to this one. None across a
    /// reboot or after a pause; of an interface, none where a counter went back.
    #[must_use]
    pub fn rates(&self, before: &Self) -> Vec<(String, f64)> {
        let elapsed = self.at.saturating_sub(before.at);
        if !(1..=LONGEST_RATE).contains(&elapsed) || self.rebooted(before) {
            return Vec::new();
        }
        let mut rates = Vec::with_capacity(2 * self.interfaces.len());
        for (interface, now) in &self.interfaces {
            let Some(then) = before.interfaces.get(interface) else { continue };
            // Both start again when an interface is made anew.
            if now.0 < then.0 || now.1 < then.1 {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "at most five minutes")]
            let seconds = elapsed as f64 / 1000.0;
            rates.push((format!("net.received_per_second:{interface}"), number(now.0 - then.0) / seconds));
            rates.push((format!("net.sent_per_second:{interface}"), number(now.1 - then.1) / seconds));
        }
        rates.retain(|(name, _)| is_name(name));
        rates
    }

    fn rebooted(&self, before: &Self) -> bool {
        match (before.uptime, self.uptime) {
            (Some(then), Some(now)) => now < then,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::telemetry::{Disk, Network, Usage};

    use super::*;

    fn reading(received: u64, sent: u64, uptime: u64) -> Metrics {
        Metrics {
            networks: vec![Network { interface: "eth0".to_owned(), received, sent }],
            uptime_seconds: Some(uptime),
            ..Metrics::default()
        }
    }

    fn rates(before: (i64, &Metrics), now: (i64, &Metrics)) -> Vec<(String, f64)> {
        Counters::of(now.1, now.0).rates(&Counters::of(before.1, before.0))
    }

    #[test]
    fn every_value_has_a_unit_and_what_is_absent_has_no_name() {
        let whole = Metrics {
            cpu_percent: Some(12.5),
            cpus: Some(4),
            load: Some([1.0, 2.0, 3.0]),
            memory: Some(Usage { used: 1, total: 4 }),
            swap: Some(Usage { used: 0, total: 0 }),
            disks: vec![Disk { mount: "/var".to_owned(), space: Usage { used: 3, total: 4 } }],
            networks: Vec::new(),
            uptime_seconds: Some(60),
        };
        let all = values(&whole);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "cpu",
                "load1",
                "load5",
                "load15",
                "memory.used_percent",
                "memory.used_bytes",
                "uptime",
                "disk.used_percent:/var",
                "disk.used_bytes:/var"
            ],
            "a host without swap has no value of it"
        );
        assert!(all.iter().all(|(name, _)| unit(name).is_some()));
        assert_eq!(all[7].1, 75.0);
        assert_eq!(values(&Metrics::default()), []);
        assert_eq!(unit("check:disk.root"), None);
        let odd = Metrics {
            disks: vec![Disk { mount: "/a\nb".to_owned(), space: Usage { used: 1, total: 2 } }],
            ..Metrics::default()
        };
        assert_eq!(values(&odd), [], "a name that nobody can ask for");
    }

    #[test]
    fn a_rate_is_what_was_counted_between_two_readings() {
        let all = rates((0, &reading(1_000, 50, 100)), (10_000, &reading(11_000, 50, 110)));
        assert_eq!(
            all,
            [("net.received_per_second:eth0".to_owned(), 1_000.0), ("net.sent_per_second:eth0".to_owned(), 0.0)]
        );
    }

    #[test]
    fn interfaces_of_containers_and_guests_have_no_rates() {
        let names =
            ["eth0", "veth12ab", "br-0a1b2c3d4e5f", "docker0", "cali77", "flannel.1", "tap104i0", "tap0", "wg0"];
        let reading = |received: u64| Metrics {
            networks: names.map(|name| Network { interface: name.to_owned(), received, sent: 0 }).into(),
            ..Metrics::default()
        };
        let mut all: Vec<String> =
            rates((0, &reading(0)), (1_000, &reading(9))).into_iter().map(|(name, _)| name).collect();
        all.retain(|name| name.starts_with("net.received"));
        all.sort_unstable();
        assert_eq!(all, ["eth0", "tap0", "wg0"].map(|name| format!("net.received_per_second:{name}")));
    }

    #[test]
    fn there_is_no_rate_across_a_reboot_a_reset_or_a_pause_and_never_a_negative_one() {
        let before = reading(1_000, 50, 100);
        for (why, at, now) in [
            ("a counter went back", 10_000, reading(10, 60, 110)),
            ("the other one did", 10_000, reading(2_000, 5, 110)),
            ("a reboot after which more was counted", 10_000, reading(9_000, 900, 3)),
            ("a pause", 6 * MINUTE, reading(9_000, 900, 460)),
            ("the same time", 0, reading(9_000, 900, 100)),
            ("an earlier time", -10_000, reading(9_000, 900, 100)),
        ] {
            assert_eq!(rates((0, &before), (at, &now)), [], "{why}");
        }
        let other = Metrics {
            networks: vec![Network { interface: "wg0".to_owned(), received: 5, sent: 5 }],
            ..Metrics::default()
        };
        assert_eq!(rates((0, &before), (10_000, &other)), [], "an interface that was not there before");
    }
}
