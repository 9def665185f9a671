//! Farol as its users meet it: real processes, real TLS, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alertmanager;
mod asked;
mod atlas;
mod captured;
mod checks;
mod daily;
mod disk;
mod doctor;
mod enrolment;
mod faults;
mod frames;
mod frozen;
mod history;
mod ingest;
mod kill_kinds;
mod kill_points;
mod line;
mod northbound;
mod notify;
mod orders;
mod outage;
mod partition;
mod quiet;
mod reload;
mod remediation;
mod replay;
mod scenarios;
mod services;
mod shell_agent;
mod signed_http;
mod signing;
mod support;
mod topology;
mod trust;
mod wire_client;
