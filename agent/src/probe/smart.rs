//! Drives by their own reckoning, through `smartctl`, which only root may ask.

use std::sync::Arc;

use farol_protocol::Status;
pub(super) use farol_protocol::report::SmartProbe;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{Probing, Seen, aside, program, text::Text};
use crate::{exec::resolve, text::cut};

/// Drives that are asked.
const MOST: usize = 64;
/// Attributes of an ATA drive whose raw value counts sectors that went bad.
const BAD_SECTORS: [u64; 4] = [5, 187, 197, 198];

pub(super) async fn run(probing: Probing, probe: &SmartProbe) -> Seen {
    // A drive that hangs holds its smartctl, which cannot be killed then.
    let deadline = Instant::now() + probing.limit;
    let Ok(held) = timeout_at(deadline, aside::hold("smartctl")).await else {
        return probing.unknown(Text::StillBusy, &[("what", "smartctl")]);
    };
    let held = Some(Arc::new(held));
    let Some(smartctl) = resolve("smartctl") else {
        return probing.not_configured(Text::NoProgram, &[("program", "smartctl")]);
    };
    let smartctl = smartctl.to_string_lossy().into_owned();
    let scan = ["--json=c", "--scan"];
    let scanned = match program::run_until(probing, deadline, held.clone(), "smartctl", &scan).await {
        Ok(output) => serde_json::from_str::<Value>(&output.stdout).ok().map(|document| devices(&document)),
        Err(seen) => return *seen,
    };
    let Some((devices, odd)) = scanned else {
        return probing.unknown(Text::ProgramOdd, &[("program", "smartctl"), ("why", "--scan")]);
    };
    if devices.is_empty() && odd == 0 {
        return probing.not_configured(Text::SmartNone, &[]);
    }
    let mut drives = Vec::new();
    for (name, kind) in devices.iter().take(MOST) {
        let arguments = ["--json=c", "-H", "-A", "-d", kind, name];
        let asked = if rustix::process::geteuid().is_root() {
            program::run_until(probing, deadline, held.clone(), "smartctl", &arguments).await
        } else {
            let arguments = [&["-n", "--", &smartctl][..], &arguments].concat();
            program::run_until(probing, deadline, held.clone(), "sudo", &arguments).await
        };
        match asked {
            Ok(output) => match serde_json::from_str::<Value>(&output.stdout) {
                Ok(document) => drives.push(drive(name, &document)),
                Err(_) => drives.push(Drive::unread(name, &output.complaint())),
            },
            Err(seen) => return *seen,
        }
    }
    judge(probing, probe, &drives, odd + devices.len().saturating_sub(MOST))
}

/// What `--scan` found: names and types, which become arguments, and how many
/// rows have none that may.
fn devices(document: &Value) -> (Vec<(String, String)>, usize) {
    let safe = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let list = document.get("devices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found: Vec<_> = list
        .iter()
        .filter_map(|device| {
            let text = |key: &str| device.get(key).and_then(Value::as_str);
            let (name, kind) = (text("name")?, text("type")?);
            (name.starts_with("/dev/") && !name.contains("..") && safe(name, "/_-") && safe(kind, ",+_/"))
                .then(|| (name.to_owned(), kind.to_owned()))
        })
        .collect();
    let odd = list.len() - found.len();
    (found, odd)
}

/// One drive.
#[derive(Debug, Clone, Default, PartialEq)]
struct Drive {
    name: String,
    /// Its own verdict; none where it was not told.
    passed: Option<bool>,
    /// Sectors that went bad.
    bad: u64,
    /// Per cent of its life that is used.
    worn: Option<u64>,
    /// Why it could not be asked.
    unread: Option<String>,
    temperature: Option<f64>,
    /// NVMe's own warning flags.
    warning: u64,
}

impl Drive {
    fn unread(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), unread: Some(cut(why, 120)), ..Self::default() }
    }
}

fn drive(name: &str, document: &Value) -> Drive {
    let number = |pointer: &str| document.pointer(pointer).and_then(Value::as_u64);
    let passed = document.pointer("/smart_status/passed").and_then(Value::as_bool);
    if passed.is_none() {
        let messages = document.pointer("/smartctl/messages/0/string").and_then(Value::as_str);
        return Drive::unread(name, messages.unwrap_or("no verdict"));
    }
    let table = document.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    let bad = table.into_iter().flatten().filter_map(|row| {
        let id = row.get("id").and_then(Value::as_u64)?;
        // Some makers pack other numbers into the upper bytes.
        let raw = row.pointer("/raw/value").and_then(Value::as_u64)? & 0xffff_ffff;
        BAD_SECTORS.contains(&id).then_some(raw)
    });
    Drive {
        name: name.to_owned(),
        passed,
        bad: bad.max().unwrap_or_default() + number("/nvme_smart_health_information_log/media_errors").unwrap_or(0),
        worn: number("/nvme_smart_health_information_log/percentage_used"),
        unread: None,
        temperature: document.pointer("/temperature/current").and_then(Value::as_f64).filter(|degrees| *degrees > 0.0),
        warning: number("/nvme_smart_health_information_log/critical_warning").unwrap_or(0),
    }
}

/// `left` drives were not asked.
fn judge(probing: Probing, probe: &SmartProbe, drives: &[Drive], left: usize) -> Seen {
    let hottest = drives.iter().filter_map(|drive| drive.temperature).max_by(f64::total_cmp);
    let list = |chosen: &dyn Fn(&Drive) -> Option<String>| {
        drives
            .iter()
            .filter_map(|drive| Some(format!("{}: {}", drive.name, chosen(drive)?)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let failing = list(&|drive| {
        (drive.passed == Some(false) || drive.warning != 0).then(|| format!("FAILED ({:#04x})", drive.warning))
    });
    let worn = list(&|drive| {
        let worn = drive.worn.filter(|worn| *worn >= 100).map(|worn| format!("{worn}%"));
        worn.or_else(|| (drive.bad > 0).then(|| drive.bad.to_string()))
    });
    let unread = list(&|drive| drive.unread.clone());
    let state = |status, text, names: &str| Seen {
        status,
        value: hottest,
        unit: Some("°C".to_owned()),
        text: probing.say(text, &[("names", names)]),
        cause: None,
    };
    if !failing.is_empty() {
        return state(Status::Critical, Text::SmartFails, &failing);
    }
    let by_heat = hottest.map_or(Status::Ok, |degrees| probe.limits.judge(degrees));
    if !worn.is_empty() && by_heat != Status::Critical {
        return state(Status::Warning, Text::SmartWorn, &worn);
    }
    if !unread.is_empty() && by_heat == Status::Ok {
        return state(Status::Unknown, Text::SmartUnread, &unread);
    }
    let total = drives.len().to_string();
    if left > 0 && by_heat == Status::Ok {
        let (left, most) = (left.to_string(), MOST.to_string());
        let values = [("total", &*total), ("left", &*left), ("most", &*most)];
        return Seen { text: probing.say(Text::SmartLeft, &values), ..state(Status::Unknown, Text::SmartUnread, "") };
    }
    match hottest {
        Some(degrees) => {
            probing.judged(&probe.limits, degrees, "°C", [Text::SmartOk, Text::SmartHot], &[("total", &total)])
        }
        None => probing.without_value(Status::Ok, Text::SmartCool, &[("total", &total)]),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::Limits;
    use serde_json::json;

    use super::{super::tests::probing, *};

    fn ata(passed: bool, pending: u64) -> Value {
        json!({
            "smartctl": {"exit_status": 0}, "smart_status": {"passed": passed}, "temperature": {"current": 38},
            "ata_smart_attributes": {"table": [
                {"id": 5, "name": "Reallocated_Sector_Ct", "value": 100, "raw": {"value": 0, "string": "0"}},
                {"id": 194, "name": "Temperature_Celsius", "raw": {"value": 38}},
                {"id": 197, "name": "Current_Pending_Sector", "raw": {"value": pending}}, "no row", {"id": "x"}]}})
    }

    fn nvme(used: u64, warning: u64) -> Value {
        json!({"smart_status": {"passed": warning == 0, "nvme": {"value": warning}}, "temperature": {"current": 61},
            "nvme_smart_health_information_log": {"critical_warning": warning, "percentage_used": used, "media_errors": 0}})
    }

    fn seen(documents: &[Value]) -> Seen {
        seen_without(documents, 0)
    }

    fn seen_without(documents: &[Value], left: usize) -> Seen {
        let drives: Vec<Drive> = documents.iter().map(|document| drive("/dev/sda", document)).collect();
        let limits = Limits { warning: Some(60.0), critical: Some(70.0), ..Limits::default() };
        judge(probing(), &SmartProbe { limits }, &drives, left)
    }

    #[test]
    fn drives_that_were_not_asked_are_never_fine_and_hide_no_fault() {
        let report = seen_without(&[ata(true, 0)], 3);
        assert_eq!(report.status, Status::Unknown, "{}", report.text);
        assert!(report.text.contains("3 were not asked"), "{}", report.text);
        assert_eq!(seen_without(&[], 1).status, Status::Unknown);
        assert_eq!(seen_without(&[ata(true, 8)], 3).status, Status::Warning);
        assert_eq!(seen_without(&[nvme(3, 0)], 3).status, Status::Warning);
        assert_eq!(seen_without(&[ata(false, 0)], 3).status, Status::Critical);
    }

    #[test]
    fn a_drive_is_judged_by_its_verdict_its_sectors_its_wear_and_its_heat() {
        for (documents, status, value) in [
            (vec![ata(true, 0)], Status::Ok, Some(38.0)),
            (vec![ata(true, 8)], Status::Warning, Some(38.0)),
            (vec![ata(false, 0)], Status::Critical, Some(38.0)),
            (vec![ata(true, 0), nvme(3, 0)], Status::Warning, Some(61.0)),
            (vec![nvme(100, 0)], Status::Warning, Some(61.0)),
            (vec![nvme(3, 4)], Status::Critical, Some(61.0)),
        ] {
            let seen = seen(&documents);
            assert_eq!((seen.status, seen.value, seen.cause), (status, value, None), "{}", seen.text);
        }
    }

    #[test]
    fn a_drive_that_could_not_be_asked_is_unknown_and_never_fine() {
        let denied = json!({"smartctl": {"exit_status": 2, "messages":
            [{"string": "Smartctl open device: /dev/sda failed: Permission denied", "severity": "error"}]}});
        let report = seen(&[denied.clone(), ata(true, 0)]);
        assert_eq!(report.status, Status::Unknown, "{}", report.text);
        assert!(report.text.contains("Permission denied") && report.text.contains("sudo"), "{}", report.text);
        assert_eq!(seen(&[denied, ata(false, 0)]).status, Status::Critical);
        assert_eq!(seen(&[json!({})]).status, Status::Unknown);
    }

    #[test]
    fn only_devices_become_arguments() {
        let document = json!({"devices": [
            {"name": "/dev/sda", "type": "scsi"}, {"name": "/dev/bus/0", "type": "megaraid,4"},
            {"name": "/dev/../etc/shadow", "type": "sat"}, {"name": "/dev/sdb", "type": "-a"}, {"name": "-x", "type": "a"},
            {"name": "/dev/sd c", "type": "a"}, {"name": 7}, 9]});
        let (found, odd) = devices(&document);
        assert_eq!(odd, 6);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["/dev/sda", "/dev/bus/0"]);
        assert_eq!(devices(&json!({})), (vec![], 0));
    }

    #[tokio::test]
    async fn a_host_without_drives_or_the_program_is_not_configured() {
        let seen = run(probing(), &SmartProbe { limits: Limits::default() }).await;
        assert!(seen.status == Status::Unknown || seen.value.is_some(), "{}", seen.text);
    }
}
