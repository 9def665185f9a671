//! What lies on the host itself.

use std::{fs, path::Path, process::Stdio, time::Duration};

use farol_protocol::Timestamp;
use tokio::{process::Command, time::timeout};

use super::{Level, Line, Voice, text::Say};
use crate::{
    Error, journal,
    policy::Policy,
    spool,
    state::{Identity, StateDir, certificate_end},
};

/// From this long before its end on, a certificate is warned about.
const CERTIFICATE_WARNING_MS: i64 = 10 * 24 * 3600 * 1000;
/// Below this nothing can be written for long.
const LEAST_FREE: u64 = 16 << 20;
/// From this share of its bound on, a spool counts as full, in per cent.
const FULL: u64 = 90;
const SYSTEMCTL_WAIT: Duration = Duration::from_secs(5);

/// Who this host is, and whether its key and certificate can be used.
pub(super) fn identity(voice: Voice, state: &StateDir, now: Timestamp) -> (Vec<Line>, Option<Identity>) {
    let mode = exposed(&state.key());
    let mut lines = Vec::new();
    if let Some(mode) = mode {
        let path = state.key().display().to_string();
        let said = (Say::KeyExposed, Say::KeyExposedDo);
        lines.push(voice.bad("key", Level::Problem, said, &[("mode", &mode), ("path", &path)]));
    }
    let identity = match state.identity() {
        Ok(identity) => identity,
        Err(error) => {
            // A key that others can read is refused for that alone, said above.
            if lines.is_empty() {
                let advice = if is_denied(&error) { Say::RunAsOwner } else { Say::EnrolAgain };
                let said = (Say::IdentityBad, advice);
                lines.push(voice.bad("identity", Level::Problem, said, &[("error", &error.sentence())]));
            }
            return (lines, None);
        }
    };
    let id = identity.enrolment.host_id.to_string();
    lines.insert(0, voice.ok("identity", Say::IdentityOk, &[("name", &identity.enrolment.name), ("id", &id)]));
    match farol_pki::client_config(&identity.ca, &identity.cert, &identity.key) {
        Ok(_) if lines.len() == 1 => lines.push(voice.ok("key", Say::KeyOk, &[])),
        Ok(_) => {}
        Err(error) => {
            let error = Error::from(error).sentence();
            let said = (Say::IdentityBad, Say::EnrolAgain);
            lines.push(voice.bad("key", Level::Problem, said, &[("error", &error)]));
            return (lines, None);
        }
    }
    lines.push(certificate(voice, certificate_end(&identity.cert), now));
    (lines, Some(identity))
}

fn certificate(voice: Voice, end: Option<Timestamp>, now: Timestamp) -> Line {
    let Some(end) = end else {
        let said = (Say::IdentityBad, Say::EnrolAgain);
        return voice.bad("certificate", Level::Problem, said, &[("error", "cert.pem")]);
    };
    let (left, end) = (end.since(now), end.to_string());
    let values = [("end", end.as_str())];
    if left <= 0 {
        return voice.bad("certificate", Level::Problem, (Say::CertificateEnded, Say::CertificateDo), &values);
    }
    if left < CERTIFICATE_WARNING_MS {
        return voice.bad("certificate", Level::Warning, (Say::CertificateSoon, Say::CertificateDo), &values);
    }
    voice.ok("certificate", Say::CertificateOk, &values)
}

fn is_denied(error: &Error) -> bool {
    crate::tls::causes(error)
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The mode of a file that others than its owner may use.
#[cfg(unix)]
fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| format!("{mode:04o}"))
}

#[cfg(not(unix))]
fn exposed(_path: &Path) -> Option<String> {
    None
}

/// The state folder: private, and everything in it the folder's owner's.
pub(super) fn folder(voice: Voice, folder: &Path) -> Line {
    let path = folder.display().to_string();
    if !folder.is_dir() {
        return voice.bad("state", Level::Problem, (Say::StateMissing, Say::StateMissingDo), &[("path", &path)]);
    }
    if let Some(mode) = exposed(folder) {
        let values = [("path", path.as_str()), ("mode", mode.as_str())];
        return voice.bad("state", Level::Problem, (Say::StateExposed, Say::StateExposedDo), &values);
    }
    if let Some(foreign) = foreign(folder) {
        let values = [("path", foreign.as_str()), ("folder", path.as_str())];
        return voice.bad("state", Level::Problem, (Say::StateForeign, Say::StateForeignDo), &values);
    }
    voice.ok("state", Say::StateOk, &[("path", &path)])
}

/// A file under `folder` that belongs to somebody else, as after a start as root.
#[cfg(unix)]
fn foreign(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(folder).ok()?.uid();
    let entries = [folder.to_owned(), folder.join("identity")];
    entries
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .find(|entry| entry.metadata().is_ok_and(|found| found.uid() != owner))
        .map(|entry| entry.path().display().to_string())
}

#[cfg(not(unix))]
fn foreign(_folder: &Path) -> Option<String> {
    None
}

/// Room for what the spool may still grow by.
#[cfg(unix)]
pub(super) fn space(voice: Voice, folder: &Path, wanted: u64) -> Line {
    let free = match rustix::fs::statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            let said = (Say::SpaceUnknown, Say::StateMissingDo);
            return voice.bad("space", Level::Warning, said, &[("error", &error.to_string())]);
        }
    };
    let (free_text, wanted_text) = ((free >> 20).to_string(), (wanted >> 20).to_string());
    let values = [("free", free_text.as_str()), ("wanted", wanted_text.as_str())];
    if free >= wanted.saturating_add(LEAST_FREE) {
        return voice.ok("space", Say::SpaceOk, &values);
    }
    let level = if free < LEAST_FREE { Level::Problem } else { Level::Warning };
    voice.bad("space", level, (Say::SpaceLow, Say::SpaceDo), &values)
}

#[cfg(not(unix))]
pub(super) fn space(voice: Voice, _folder: &Path, _wanted: u64) -> Line {
    voice.bad("space", Level::Warning, (Say::SpaceUnknown, Say::SpaceDo), &[("error", "-")])
}

/// What waits, and how many bytes it takes.
pub(super) async fn spool(voice: Voice, path: &Path, max_bytes: u64) -> (Line, u64) {
    if !path.exists() {
        return (voice.ok("spool", Say::SpoolNone, &[]), 0);
    }
    let found = match spool::summary(path).await {
        Ok(found) => found,
        Err(error) => {
            let said = (Say::SpoolBad, Say::SpoolBadDo);
            return (voice.bad("spool", Level::Problem, said, &[("error", &error.sentence())]), 0);
        }
    };
    let percent = found.bytes.saturating_mul(100) / max_bytes.max(1);
    let oldest = found.oldest.map(|at| at.to_string()).unwrap_or_default();
    let (batches, lost, share) = (found.batches.to_string(), found.lost.to_string(), percent.to_string());
    let values = [
        ("batches", batches.as_str()),
        ("percent", share.as_str()),
        ("oldest", oldest.as_str()),
        ("lost", lost.as_str()),
    ];
    let line = if found.lost > 0 {
        voice.bad("spool", Level::Warning, (Say::SpoolLost, Say::SpoolDo), &values)
    } else if percent >= FULL {
        voice.bad("spool", Level::Warning, (Say::SpoolFull, Say::SpoolDo), &values)
    } else if found.batches == 0 {
        voice.ok("spool", Say::SpoolEmpty, &[])
    } else {
        voice.ok("spool", Say::SpoolOk, &values)
    };
    (line, found.bytes)
}

/// The action journal.
pub(super) async fn journal(voice: Voice, path: &Path) -> Line {
    if !path.exists() {
        return voice.ok("journal", Say::JournalNone, &[]);
    }
    match journal::lines(path).await {
        Ok(lines) => {
            let running = lines.iter().filter(|line| line.state == "started").count().to_string();
            let waiting = lines.iter().filter(|line| line.result.is_some() && !line.acked).count().to_string();
            let entries = lines.len().to_string();
            let values = [("entries", entries.as_str()), ("running", running.as_str()), ("waiting", waiting.as_str())];
            voice.ok("journal", Say::JournalOk, &values)
        }
        Err(error) => {
            let said = (Say::JournalBad, Say::JournalBadDo);
            voice.bad("journal", Level::Problem, said, &[("error", &error.sentence())])
        }
    }
}

/// What the host allows.
pub(super) fn policy(voice: Voice, path: &Path) -> Line {
    let shown = path.display().to_string();
    match Policy::load(path) {
        Ok(Some(policy)) if policy.read_only => voice.ok("policy", Say::PolicyReadOnly, &[]),
        Ok(Some(policy)) => voice.ok("policy", Say::PolicyOk, &[("class", policy.max_unsigned_class.as_str())]),
        Ok(None) => voice.bad("policy", Level::Warning, (Say::PolicyNone, Say::PolicyNoneDo), &[("path", &shown)]),
        Err(error) => {
            let values = [("error", error.sentence()), ("path", shown)];
            let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
            voice.bad("policy", Level::Problem, (Say::PolicyBad, Say::PolicyBadDo), &values)
        }
    }
}

/// Whether an agent runs on the folder and how its connection is.
pub(super) fn running(voice: Voice, state: &StateDir) -> Line {
    if !state.is_in_use() {
        return voice.bad("agent", Level::Warning, (Say::AgentDown, Say::AgentDownDo), &[]);
    }
    let Ok(Some(connection)) = state.connection() else {
        return voice.ok("agent", Say::AgentStarting, &[]);
    };
    let since = connection.since.to_string();
    if connection.state == "connected" {
        return voice.ok("agent", Say::AgentConnected, &[("since", &since)]);
    }
    let reason = connection.reason.unwrap_or_default();
    let values = [("since", since.as_str()), ("reason", reason.as_str())];
    voice.bad("agent", Level::Warning, (Say::AgentApart, Say::AgentApartDo), &values)
}

/// The unit, as systemd sees it.
pub(super) async fn unit(voice: Voice) -> Line {
    let asking = Command::new("/usr/bin/systemctl")
        .args(["show", "farol-agent.service", "--property=LoadState,ActiveState,SubState,UnitFileState"])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = match timeout(SYSTEMCTL_WAIT, asking).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    };
    judge_unit(voice, &said)
}

fn judge_unit(voice: Voice, said: &str) -> Line {
    let field = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    let state = format!("{} ({})", field("ActiveState"), field("SubState"));
    let values = [("state", state.as_str())];
    if field("LoadState") != "loaded" {
        return voice.bad("unit", Level::Warning, (Say::UnitNone, Say::UnitNoneDo), &values);
    }
    match field("ActiveState").as_str() {
        "active" | "activating" | "reloading" if field("UnitFileState") == "disabled" => {
            voice.bad("unit", Level::Warning, (Say::UnitDisabled, Say::AgentDownDo), &values)
        }
        "active" | "activating" | "reloading" => voice.ok("unit", Say::UnitOk, &values),
        "failed" => voice.bad("unit", Level::Problem, (Say::UnitDown, Say::UnitDownDo), &values),
        _ => voice.bad("unit", Level::Warning, (Say::UnitDown, Say::AgentDownDo), &values),
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Language;

    use super::*;

    const VOICE: Voice = Voice(Language::En);

    #[test]
    fn a_unit_is_judged_by_what_systemd_says() {
        let level = |said: &str| judge_unit(VOICE, said).level;
        let said = |active, file| format!("LoadState=loaded\nActiveState={active}\nSubState=x\nUnitFileState={file}\n");
        assert_eq!(level(&said("active", "enabled")), Level::Ok);
        assert_eq!(level(&said("active", "disabled")), Level::Warning);
        assert_eq!(level(&said("inactive", "enabled")), Level::Warning);
        assert_eq!(level(&said("failed", "enabled")), Level::Problem);
        assert_eq!(level("LoadState=not-found\nActiveState=inactive\n"), Level::Warning);
        assert_eq!(level(""), Level::Warning);
    }

    #[test]
    fn a_certificate_is_a_problem_only_after_its_end() {
        let now = Timestamp::now();
        let level = |days: i64| certificate(VOICE, Some(now.plus_ms(days * 86_400_000)), now).level;
        assert_eq!((level(20), level(5), level(-1)), (Level::Ok, Level::Warning, Level::Problem));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_read_is_a_problem_with_its_remedy() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path();
        assert_eq!(folder(VOICE, &path.join("none")).level, Level::Problem);
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("set");
        assert_eq!(folder(VOICE, path).level, Level::Ok);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
        let line = folder(VOICE, path);
        assert_eq!(line.level, Level::Problem);
        assert!(line.advice.expect("advice").contains("chmod 700"));
    }
}
