//! Frames of peers that speak the older contract.

use farol_protocol::legacy::{ExecAnswer, FromAgent, Hello, TelemetryPush};

use crate::frames::{refusal, same_again};

/// As with the frames of version 1.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match FromAgent::parse(text) {
        Ok(FromAgent::TelemetryPush(push)) => {
            assert_eq!(push.method, "telemetry.push");
            same_again::<TelemetryPush>(&push, |text| serde_json::from_str(text).ok());
        }
        Ok(FromAgent::ExecAnswer(answer)) => {
            same_again::<ExecAnswer>(&answer, |text| serde_json::from_str(text).ok());
        }
        Err(error) => refusal(&error),
    }
    if let Ok(hello) = serde_json::from_str::<Hello>(text) {
        same_again(&hello, |text| serde_json::from_str(text).ok());
    }
}
