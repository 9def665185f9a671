//! The agent of Farol: watches one host, keeps what it saw until the
//! coordinator has it, and carries out what a person agreed to and the host's
//! own policy allows.
//!
//! [`run`] is the daemon. [`probe`] stands alone, for the coordinator's own
//! checks.

#![cfg_attr(farol_simulation, expect(dead_code, unused_imports, reason = "stand-ins leave parts without use"))]

mod agent;
pub mod cli;
pub mod config;
pub mod doctor;
mod effect;
pub mod endpoint;
pub mod enrol;
mod error;
pub mod exec;
pub mod fault;
mod inventory;
pub mod journal;
pub mod log;
pub mod orders;
pub mod patch;
pub mod policy;
pub mod probe;
pub mod schedule;
pub mod session;
#[cfg(farol_simulation)]
pub mod simulation;
#[cfg_attr(farol_simulation, path = "simulation/socket.rs")]
pub mod socket;
pub mod spool;
pub mod state;
pub mod systemd;
pub mod task;
#[cfg(test)]
mod testing;
mod text;
mod tls;
mod trust;
mod yaml;

pub use agent::run;
pub use config::Config;
pub use error::Error;
