//! ZFS pools, by `zpool`.

use farol_protocol::Status;
pub(super) use farol_protocol::report::ZfsProbe;

use super::{Probing, Seen, program, text::Text};
use crate::text::cut;

pub(super) async fn run(probing: Probing, probe: &ZfsProbe) -> Seen {
    let listed = match program::run(probing, "zpool", &["list", "-Hp", "-o", "name,health,cap,frag"]).await {
        Ok(output) if output.succeeded() => output,
        Ok(output) => {
            let why = output.complaint();
            return probing.unknown(Text::ProgramFailed, &[("program", "zpool"), ("why", &why)]);
        }
        Err(seen) => return *seen,
    };
    // Only what is in trouble; it tells of errors in a pool that is online.
    let troubled = match program::run(probing, "zpool", &["status", "-x"]).await {
        Ok(output) if output.succeeded() => troubled(&output.stdout),
        Ok(output) => {
            let why = output.complaint();
            return probing.unknown(Text::ProgramFailed, &[("program", "zpool"), ("why", &why)]);
        }
        Err(seen) => return *seen,
    };
    let (pools, unread) = pools(&listed.stdout);
    judge(probing, probe, &pools, unread, &troubled)
}

/// One pool of the list.
#[derive(Debug, Clone, PartialEq)]
struct Pool {
    name: String,
    health: String,
    /// Per cent used; none where the pool does not tell.
    used: Option<f64>,
}

/// The pools, and how many lines could not be read: those that are no pool are
/// left out.
fn pools(text: &str) -> (Vec<Pool>, usize) {
    let mut unread = 0;
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [name, health, used, ..] = columns[..] else {
            unread += 1;
            continue;
        };
        if name.is_empty() || health.is_empty() {
            unread += 1;
            continue;
        }
        let number: Option<f64> = used.trim_end_matches('%').parse().ok();
        unread += usize::from(number.is_none() && used != "-");
        all.push(Pool { name: name.to_owned(), health: health.to_owned(), used: number });
    }
    (all, unread)
}

/// Pools that `zpool status -x` lists, each with what it says of data errors.
fn troubled(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.trim().split_once(": ") {
            Some(("pool", name)) => all.push((name.trim().to_owned(), String::new())),
            Some(("errors", said)) => {
                if let Some((_, errors)) = all.last_mut() {
                    said.trim().clone_into(errors);
                }
            }
            _ => {}
        }
    }
    all
}

fn judge(probing: Probing, probe: &ZfsProbe, pools: &[Pool], unread: usize, troubled: &[(String, String)]) -> Seen {
    let lines = unread.to_string();
    let partly = || probing.unknown(Text::ZfsUnread, &[("unread", &lines)]);
    let chosen: Vec<&Pool> =
        pools.iter().filter(|pool| probe.pool.as_deref().is_none_or(|name| name == pool.name)).collect();
    if chosen.is_empty() {
        return match probe.pool.as_deref() {
            // It may be what could not be read.
            _ if unread > 0 => partly(),
            Some(name) => probing.critical(Text::ZfsMissing, &[("pool", name)]),
            None => probing.not_configured(Text::ZfsNone, &[]),
        };
    }
    let fullest =
        chosen.iter().filter_map(|pool| Some((pool.used?, pool.name.as_str()))).max_by(|a, b| a.0.total_cmp(&b.0));
    let value = fullest.map(|(used, _)| used);
    let state = |status, names: String| Seen {
        status,
        value,
        unit: Some("%".to_owned()),
        text: probing.say(Text::ZfsBad, &[("names", &names)]),
        cause: None,
    };
    let offline: Vec<String> = chosen
        .iter()
        .filter(|pool| pool.health != "ONLINE")
        .map(|pool| format!("{} {}", pool.name, pool.health))
        .collect();
    if !offline.is_empty() {
        return state(Status::Critical, offline.join(", "));
    }
    let errors: Vec<_> = troubled.iter().filter(|(name, _)| chosen.iter().any(|pool| pool.name == *name)).collect();
    if !errors.is_empty() {
        let lost = errors.iter().any(|(_, said)| !said.is_empty() && !said.starts_with("No known data errors"));
        let names: Vec<String> = errors.iter().map(|(name, said)| cut(&format!("{name}: {said}"), 120)).collect();
        return state(if lost { Status::Critical } else { Status::Warning }, names.join(", "));
    }
    // A pool that was asked for by name and was read is not in doubt.
    let doubtful = unread > 0 && (probe.pool.is_none() || fullest.is_none());
    if doubtful && value.is_none_or(|used| probe.limits.judge(used) == Status::Ok) {
        return partly();
    }
    let Some((used, name)) = fullest else {
        return probing.unknown(Text::ZfsNoNumber, &[]);
    };
    probing.judged(&probe.limits, used, "%", [Text::ZfsOk, Text::ZfsOver], &[("pool", name)])
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::{Limits, UnknownCause};

    use super::{super::tests::probing, *};

    const STATUS: &str = "  pool: tank
 state: ONLINE
status: One or more devices has experienced an unrecoverable error.
config:

\tNAME        STATE     READ WRITE CKSUM
\ttank        ONLINE       0     0     0
\t  sda       ONLINE       0     0     2

errors: No known data errors
";

    fn seen(pool: Option<&str>, list: &str, status: &str) -> Seen {
        let limits = Limits { warning: Some(80.0), critical: Some(90.0), ..Limits::default() };
        let probe = ZfsProbe { pool: pool.map(str::to_owned), limits };
        let (pools, unread) = pools(list);
        judge(probing(), &probe, &pools, unread, &troubled(status))
    }

    #[test]
    fn the_fullest_pool_is_judged_and_a_pool_that_is_not_online_is_critical() {
        let healthy = "all pools are healthy\n";
        let list = "rpool\tONLINE\t12\t3\ntank\tONLINE\t85\t-\n";
        let report = seen(None, list, healthy);
        assert_eq!((report.status, report.value, report.unit.as_deref()), (Status::Warning, Some(85.0), Some("%")));
        assert!(report.text.contains("tank"), "{}", report.text);
        assert_eq!(seen(Some("rpool"), list, healthy).status, Status::Ok);
        let degraded = seen(None, "rpool\tONLINE\t12\t3\ntank\tDEGRADED\t20\t-\n", healthy);
        assert_eq!((degraded.status, degraded.value), (Status::Critical, Some(20.0)));
        assert!(degraded.text.contains("tank DEGRADED"), "{}", degraded.text);
        assert_eq!(seen(Some("gone"), list, healthy).status, Status::Critical);
    }

    #[test]
    fn errors_of_a_pool_that_is_online_are_a_warning_and_lost_data_is_critical() {
        let list = "tank\tONLINE\t20\t1\n";
        let warned = seen(None, list, STATUS);
        assert_eq!(warned.status, Status::Warning, "{}", warned.text);
        let lost = seen(None, list, &STATUS.replace("No known data errors", "3 data errors, use '-v' for a list"));
        assert_eq!(lost.status, Status::Critical, "{}", lost.text);
        assert_eq!(seen(Some("other"), "other\tONLINE\t1\t1\n", STATUS).status, Status::Ok);
    }

    #[test]
    fn no_pool_is_not_configured_and_a_malformed_line_is_never_fine() {
        for list in ["", "\n"] {
            assert_eq!(seen(None, list, "").cause, Some(UnknownCause::NotConfigured), "{list:?}");
        }
        let (read, unread) = pools("bad\n\tx\ty\nrpool\tONLINE\t-\t-\n");
        assert_eq!((read.len(), unread), (1, 2));
        for list in ["no tabs at all\n", "rpool\tONLINE\t12\t3\ntank\n", "rpool\tONLINE\t12\t3\ntank\tONLINE\t?\t1\n"] {
            let report = seen(None, list, "");
            assert_eq!((report.status, report.cause), (Status::Unknown, None), "{list:?}: {}", report.text);
        }
        let list = "rpool\tONLINE\t95\t3\ntank\n";
        assert_eq!(seen(None, list, "").status, Status::Critical, "what was read is in trouble");
        assert_eq!(seen(Some("rpool"), "rpool\tONLINE\t12\t3\ntank\n", "").status, Status::Ok);
        assert_eq!(seen(Some("tank"), list, "").status, Status::Unknown, "its line may be the one");
        let silent = seen(None, "rpool\tONLINE\t-\t-\n", "no pools available\n");
        assert_eq!((silent.status, silent.value), (Status::Unknown, None));
    }

    #[tokio::test]
    async fn a_host_without_zpool_is_not_configured() {
        if crate::exec::resolve("zpool").is_none() {
            let seen = run(probing(), &ZfsProbe { pool: None, limits: Limits::default() }).await;
            assert_eq!(
                (seen.status, seen.cause),
                (Status::Unknown, Some(UnknownCause::NotConfigured)),
                "{}",
                seen.text
            );
        }
    }
}
