//! `/metrics`: what happened, counted, and what is so, read at each scrape.

use std::sync::atomic::AtomicU64;

use farol_protocol::{Timestamp, registry::Severity};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use crate::{
    advice::Source,
    app::Shared,
    correlate::Transition,
    error::{Error, Result},
    store::{hosts::Enrolment, outbox::Delivery},
};

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics, for who asks for it.
    OpenMetrics,
    /// What every Prometheus reads.
    Text,
}

impl Format {
    /// What the `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    transition: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Beat {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notified {
    channel: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabel {
    host: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabel {
    severity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: String,
    status: u16,
}

type Histograms = Family<Request, Histogram, fn() -> Histogram>;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    batches: Counter<u64, AtomicU64>,
    reports: Counter<u64, AtomicU64>,
    refused: Counter<u64, AtomicU64>,
    malformed_inventories: Counter<u64, AtomicU64>,
    transitions: Family<Changed, Counter>,
    notifications: Family<Notified, Counter>,
    heartbeats: Family<Beat, Counter>,
    advice: Family<SourceLabel, Counter>,
    requests: Histograms,
    hosts: Family<State, Gauge>,
    dropped: Family<HostLabel, Gauge>,
    findings: Family<SeverityLabel, Gauge>,
    outbox: Family<State, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("farol");
        let batches = Counter::default();
        let reports = Counter::default();
        let refused = Counter::default();
        let malformed_inventories = Counter::default();
        let transitions = Family::default();
        let notifications = Family::default();
        let heartbeats = Family::default();
        let advice = Family::default();
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let requests = Histograms::new_with_constructor(buckets);
        let hosts = Family::default();
        let dropped = Family::<HostLabel, Gauge>::default();
        let findings = Family::default();
        let outbox = Family::default();
        registry.register(
            "build",
            "Version of the coordinator",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("batches", "Batches received from agents", batches.clone());
        registry.register("reports", "Reports received from agents", reports.clone());
        registry.register("refused_reports", "Reports about checks that were not the agent's", refused.clone());
        registry.register(
            "malformed_inventories",
            "Inventories that were not understood",
            malformed_inventories.clone(),
        );
        registry.register("finding_transitions", "Findings opened, changed, resolved", transitions.clone());
        registry.register("notifications", "Tries to deliver messages", notifications.clone());
        registry.register("heartbeats", "Heartbeats to FAROL_HEARTBEAT_URL by result", heartbeats.clone());
        registry.register("advice", "Advice given by source", advice.clone());
        registry.register("http_request_duration_seconds", "Requests to the API", requests.clone());
        registry.register("hosts", "Hosts by state", hosts.clone());
        registry.register(
            "history_dropped_metrics",
            "Metrics of hosts with too many, which are not kept",
            dropped.clone(),
        );
        registry.register("findings", "Unresolved findings by severity", findings.clone());
        registry.register("outbox", "Messages by state", outbox.clone());
        Self {
            registry,
            batches,
            reports,
            refused,
            malformed_inventories,
            transitions,
            notifications,
            heartbeats,
            advice,
            requests,
            hosts,
            dropped,
            findings,
            outbox,
        }
    }
}

impl Metrics {
    /// A batch came in.
    pub fn batch(&self, reports: usize) {
        self.batches.inc();
        self.reports.inc_by(reports as u64);
    }

    /// Reports that were not the agent's to make.
    pub fn refused(&self, reports: usize) {
        self.refused.inc_by(reports as u64);
    }

    /// An inventory was not understood.
    pub fn malformed_inventory(&self) {
        self.malformed_inventories.inc();
    }

    /// A finding changed.
    pub fn transition(&self, transition: Transition, severity: Severity) {
        let transition = match transition {
            Transition::Opened => "opened",
            Transition::Changed(_) => "changed",
            Transition::Acknowledged => "acknowledged",
            Transition::Hidden(_) => "hidden",
            Transition::Shown(_) => "shown",
            Transition::Told => "told",
            Transition::Grew(_) => "grew",
            Transition::Resolved => "resolved",
            Transition::AllResolved => "all_resolved",
        };
        self.transitions.get_or_create(&Changed { transition, severity: severity.as_str() }).inc();
    }

    /// A message was tried on a kind of channel.
    pub fn notification(&self, channel: &'static str, delivery: &Delivery) {
        let result = match delivery {
            Delivery::Sent { .. } => "sent",
            Delivery::Later { .. } => "retried",
            Delivery::Dead { .. } => "dead",
        };
        self.notifications.get_or_create(&Notified { channel, result }).inc();
    }

    /// A heartbeat arrived outside, or did not.
    pub fn heartbeat(&self, arrived: bool) {
        let result = if arrived { "sent" } else { "failed" };
        self.heartbeats.get_or_create(&Beat { result }).inc();
    }

    /// Advice was given.
    pub fn advice(&self, source: Source) {
        self.advice.get_or_create(&SourceLabel { source: source.as_str() }).inc();
    }

    /// A request was answered.
    pub fn http_request(&self, route: &str, method: &str, status: u16, seconds: f64) {
        let labels = Request { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&labels).observe(seconds);
    }

    /// Everything as text.
    ///
    /// # Errors
    /// The store failed.
    pub async fn encode(&self, app: &Shared, format: Format) -> Result<String> {
        self.hosts.clear();
        self.dropped.clear();
        for host in app.store.hosts().await? {
            let state = match host.enrolment {
                Enrolment::Pending => "pending",
                Enrolment::Revoked => "revoked",
                Enrolment::Enrolled if app.present(&host, Timestamp::now()) => "online",
                Enrolment::Enrolled => "silent",
            };
            self.hosts.get_or_create(&State { state: state.to_owned() }).inc();
            if let Ok(names @ 1..) = i64::try_from(app.store.dropped.of(host.key)) {
                self.dropped.get_or_create(&HostLabel { host: host.name }).set(names);
            }
        }
        self.findings.clear();
        for (severity, count) in app.store.finding_counts().await? {
            self.findings.get_or_create(&SeverityLabel { severity }).set(count);
        }
        self.outbox.clear();
        for (state, count) in app.store.outbox_counts().await? {
            self.outbox.get_or_create(&State { state }).set(count);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|error| Error::Refused(format!("the metrics cannot be written: {error}")))?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Text => plain_text(&text),
        })
    }
}

/// OpenMetrics in the older format: there a counter's name ends in `_total` in
/// its comments too, there is no type `info`, and nothing marks the end.
fn plain_text(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), Some(words)) => help = Some(words),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some(help) = help.take() {
                    text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            (Some("#"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_becomes_what_every_prometheus_reads() {
        let open = "# HELP farol_build Version of it.\n# TYPE farol_build info\nfarol_build_info{version=\"1\"} 1\n\
            # HELP farol_batches Batches.\n# TYPE farol_batches counter\nfarol_batches_total 3\n\
            # HELP farol_s Time.\n# TYPE farol_s histogram\n# UNIT farol_s seconds\nfarol_s_sum 1.0\n# EOF\n";
        assert_eq!(
            plain_text(open),
            "# HELP farol_build_info Version of it.\n# TYPE farol_build_info gauge\nfarol_build_info{version=\"1\"} 1\n\
             # HELP farol_batches_total Batches.\n# TYPE farol_batches_total counter\nfarol_batches_total 3\n\
             # HELP farol_s Time.\n# TYPE farol_s histogram\nfarol_s_sum 1.0\n"
        );
    }

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Text);
        assert_eq!(Format::accepted(""), Format::Text);
    }
}
