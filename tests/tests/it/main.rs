//! Farol as its users meet it: real processes, real TLS, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disk;
mod doctor;
mod enrolment;
mod faults;
mod frames;
mod ingest;
mod line;
mod northbound;
mod partition;
mod shell_agent;
mod signed_http;
mod support;
mod trust;
mod wire_client;
