//! Sections of a telemetry batch.

use serde::{Deserialize, Serialize};

use crate::{
    Report, Timestamp,
    inventory::{Inventory, Section},
};

/// What one batch carries. Open: sections that a newer agent adds are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Telemetry {
    /// Readings of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Outcomes of checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Report>,
    /// What the host is made of, when that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Box<Section<Inventory>>>,
    /// What the spool had to drop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// One reading of a host. Sizes in bytes, percentages 0 to 100, counters since boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Metrics {
    /// CPU time in use since the last reading, per cent of all CPUs.
    pub cpu_percent: Option<f64>,
    /// Number of logical CPUs.
    pub cpus: Option<u32>,
    /// Load averages of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Physical memory.
    pub memory: Option<Usage>,
    /// Swap; total 0 where there is none.
    pub swap: Option<Usage>,
    /// Mounted file systems.
    pub disks: Vec<Disk>,
    /// Interfaces.
    pub networks: Vec<Network>,
    /// Seconds since boot.
    pub uptime_seconds: Option<u64>,
}

/// Part of a whole, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// The whole.
    pub total: u64,
}

impl Usage {
    /// Per cent in use; none when the whole is 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage of a byte count needs no more than 53 bits")]
    pub fn percent(self) -> Option<f64> {
        (self.total > 0).then(|| self.used as f64 * 100.0 / self.total as f64)
    }
}

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disk {
    /// Mount point.
    pub mount: String,
    /// Space.
    #[serde(flatten)]
    pub space: Usage,
}

/// One network interface; counters since boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Network {
    /// Name.
    pub interface: String,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// Batches that an agent's bounded spool dropped before they were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// First sequence number lost.
    pub first_seq: u64,
    /// Last sequence number lost.
    pub last_seq: u64,
    /// Observed time of the first batch lost.
    pub from: Timestamp,
    /// Observed time of the last batch lost.
    pub to: Timestamp,
}
