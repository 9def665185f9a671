//! What travels between an agent and the coordinator, and the rules both
//! sides must agree on. No I/O: everything here is a value or a pure function.
//!
//! `docs/SPEC.md` is the specification in prose; `fixtures/v1/` holds one
//! frozen JSON file per message variant.

pub mod action;
pub mod effect;
pub mod frame;
pub mod http_signing;
pub mod id;
pub mod inventory;
pub mod legacy;
pub mod registry;
pub mod remediation;
pub mod report;
#[cfg(feature = "schema")]
pub mod schema;
pub mod signing;
#[cfg(farol_simulation)]
pub mod simulation;
pub mod site;
pub mod system;
pub mod telemetry;
pub mod timestamp;
pub mod version;
pub mod yaml;

pub use action::{ActionKind, Plan, PlanHash, PreState, RiskClass};
pub use effect::Effect;
pub use frame::{FromAgent, ToAgent};
pub use id::{ActionId, CheckId, HostId, JournalId, SessionId, StreamId};
pub use report::{Report, Status};
pub use timestamp::Timestamp;

/// Path of the WebSocket on the southbound port.
pub const SOUTHBOUND_PATH: &str = "/southbound/v1";
/// Path that takes a [`frame::EnrolRequest`] without a client certificate.
pub const ENROL_PATH: &str = "/southbound/v1/enroll";
/// Path that takes a [`frame::RenewRequest`] without a client certificate.
pub const RENEW_PATH: &str = "/southbound/v1/renew";
/// Largest frame either side accepts, in bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Language of the texts that operators read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Language {
    /// Brazilian Portuguese, the default.
    #[default]
    #[serde(rename = "pt-BR")]
    PtBr,
    /// English.
    #[serde(rename = "en")]
    En,
}
