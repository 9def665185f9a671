//! Packages that wait for an update, by a simulated upgrade of APT.
//!
//! The simulation reads the whole package database, which costs seconds of
//! CPU on a small machine. So what it said stands for half a day, unless the
//! set of installed packages or the package lists changed since.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

pub(super) use farol_protocol::report::UpdatesProbe;
use farol_protocol::{Status, Timestamp};

use super::{Probing, Seen, crossed, program, text::Text};

/// How long one answer stands, in ms.
const STANDS_MS: i64 = 12 * 3_600_000;
/// How long it stands when packages changed, in ms.
const CHANGED_MS: i64 = 10 * 60_000;
/// Package lists older than this tell nothing about today, in days.
const STALE_DAYS: f64 = 14.0;
/// Packages that are named in a text.
const MOST_NAMED: usize = 5;
const INSTALLED: &str = "/var/lib/dpkg/status";
/// What changes when package lists are fetched.
const LISTS: [&str; 5] = [
    "/var/lib/apt/lists",
    "/var/lib/apt/lists/partial",
    "/var/lib/apt/periodic/update-success-stamp",
    "/var/lib/apt/periodic/update-stamp",
    "/var/cache/apt/pkgcache.bin",
];

/// What the last simulation said.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<(i64, Packages, Waiting)>>);

/// When what an answer depends on last changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Packages {
    installed: Option<SystemTime>,
    lists: Option<SystemTime>,
}

impl Packages {
    fn under(root: &Path) -> Self {
        let modified = |path: &str| modified(root.join(path.trim_start_matches('/')));
        // The simulation itself may write APT's cache.
        let lists = LISTS.iter().filter(|path| !path.starts_with("/var/cache"));
        Self { installed: modified(INSTALLED), lists: lists.filter_map(|path| modified(path)).max() }
    }
}

/// Packages that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Waiting {
    all: usize,
    /// Those that close a security hole.
    security: Vec<String>,
}

pub(super) async fn run(probing: Probing, known: &Known, probe: &UpdatesProbe, now: Timestamp) -> Seen {
    let changed = Packages::under(Path::new("/"));
    let standing = known.standing(now.as_ms(), changed);
    let waiting = match standing {
        Some(waiting) => waiting,
        None => {
            // Simulating takes no lock and no rights.
            let arguments = [
                "--simulate",
                "--with-new-pkgs",
                "-o",
                "Debug::NoLocking=true",
                "-o",
                "APT::Get::Show-User-Simulation-Note=false",
                "upgrade",
            ];
            let output = match program::run(probing, "apt-get", &arguments).await {
                Ok(output) if output.succeeded() && !output.cut => output,
                Ok(output) => {
                    let why = output.complaint();
                    return probing.unknown(Text::ProgramFailed, &[("program", "apt-get"), ("why", &why)]);
                }
                Err(seen) => return *seen,
            };
            let waiting = waiting(&output.stdout);
            *known.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now.as_ms(), changed, waiting.clone()));
            waiting
        }
    };
    judge(probing, probe, &waiting, age_of_lists())
}

impl Known {
    fn standing(&self, now: i64, changed: Packages) -> Option<Waiting> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, then, waiting) = known.as_ref()?;
        let stands = if *then == changed { STANDS_MS } else { CHANGED_MS };
        (0..stands).contains(&(now - at)).then(|| waiting.clone())
    }
}

fn modified(path: impl AsRef<Path>) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// In days; none where no list was ever fetched.
fn age_of_lists() -> Option<f64> {
    let fetched = |entry: fs::DirEntry| {
        entry.file_name().to_string_lossy().ends_with("Packages")
            || entry.file_name().to_string_lossy().contains("_Packages")
    };
    fs::read_dir(LISTS[0]).ok()?.flatten().any(fetched).then_some(())?;
    let newest = LISTS.iter().filter_map(modified).max()?;
    Some(newest.elapsed().unwrap_or_default().as_secs_f64() / 86_400.0)
}

/// `Inst NAME [OLD] (NEW ORIGIN [ARCH])`; other lines say nothing.
fn waiting(text: &str) -> Waiting {
    let mut waiting = Waiting::default();
    for line in text.lines().filter_map(|line| line.strip_prefix("Inst ")) {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        let Some((_, origin)) = rest.split_once('(') else { continue };
        waiting.all += 1;
        if origin.to_ascii_lowercase().contains("security") {
            waiting.security.push(name.to_owned());
        }
    }
    waiting
}

#[expect(clippy::cast_precision_loss, reason = "far fewer packages than that")]
fn judge(probing: Probing, probe: &UpdatesProbe, waiting: &Waiting, age_days: Option<f64>) -> Seen {
    let (all, security) = (waiting.all as f64, waiting.security.len() as f64);
    let mut names = waiting.security.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if waiting.security.len() > MOST_NAMED {
        names.push('…');
    }
    let number = probing.number(security);
    let values = [("security", number.as_str()), ("names", &names)];
    let seen = probing.judged(&probe.limits, all, "count", [Text::UpdatesOk, Text::UpdatesOver], &values);
    let by_security = probe.security.judge(security);
    let worse = by_security == Status::Critical && seen.status != Status::Critical
        || by_security == Status::Warning && seen.status == Status::Ok;
    if worse {
        let limit = crossed(&probe.security, security).map(|limit| probing.number(limit)).unwrap_or_default();
        let total = probing.number(all);
        let values = [("security", &*number), ("names", &*names), ("limit", &*limit), ("value", &*total)];
        return Seen { status: by_security, text: probing.say(Text::UpdatesSecurity, &values), ..seen };
    }
    // Old lists that name no update do not say that there is none.
    match age_days {
        _ if seen.status != Status::Ok => seen,
        None => probing.unknown(Text::UpdatesNoLists, &[]),
        Some(days) if days > STALE_DAYS => {
            probing.unknown(Text::UpdatesStale, &[("days", &probing.number(days.floor()))])
        }
        Some(_) => seen,
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::{Limits, UnknownCause};

    use super::{super::tests::probing, *};

    const SIMULATED: &str = "\
Reading package lists...
Calculating upgrade...
The following packages will be upgraded:
  curl libssl3 tzdata
3 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst tzdata [2024a-0] (2026b-0+deb12u1 Debian:12.15/stable [all])
Inst libssl3 [3.0.1] (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64]) []
Inst curl [7.88.1-10+deb12u5] (7.88.1-10+deb12u7 Ubuntu:22.04/jammy-security [amd64])
Inst linux-image-new (6.1.0 Debian:12.15/stable [amd64])
Inst
Inst broken
Conf tzdata (2026b-0+deb12u1 Debian:12.15/stable [all])
";

    fn seen(waiting: &Waiting, limits: Limits, security: Limits, age: Option<f64>) -> Seen {
        judge(probing(), &UpdatesProbe { limits, security }, waiting, age)
    }

    #[test]
    fn packages_are_counted_and_those_of_a_security_archive_apart() {
        let waiting = waiting(SIMULATED);
        assert_eq!((waiting.all, waiting.security.as_slice()), (4, &["libssl3".to_owned(), "curl".to_owned()][..]));
        let one = Limits { warning: Some(1.0), critical: Some(10.0), ..Limits::default() };
        let report = seen(&waiting, Limits::default(), one, Some(1.0));
        assert_eq!((report.status, report.value), (Status::Warning, Some(4.0)), "{}", report.text);
        assert!(report.text.contains("libssl3, curl"), "{}", report.text);
        assert_eq!(seen(&waiting, Limits::default(), Limits::default(), Some(1.0)).status, Status::Ok);
        let many = Limits { critical: Some(3.0), ..Limits::default() };
        assert_eq!(seen(&waiting, many, one, Some(1.0)).status, Status::Critical);
    }

    #[test]
    fn lists_that_are_old_or_missing_do_not_say_that_nothing_waits() {
        let none = Waiting::default();
        for age in [None, Some(15.0)] {
            let report = seen(&none, Limits::default(), Limits::default(), age);
            assert_eq!((report.status, report.value), (Status::Unknown, None), "{}", report.text);
        }
        let fresh = seen(&none, Limits::default(), Limits::default(), Some(0.5));
        assert_eq!((fresh.status, fresh.value), (Status::Ok, Some(0.0)), "{}", fresh.text);
    }

    #[test]
    fn an_answer_stands_for_half_a_day_and_shorter_when_packages_changed() {
        let known = Known::default();
        let none = Packages::default();
        assert_eq!(known.standing(0, none), None);
        *known.0.lock().expect("whole") = Some((1_000, none, Waiting::default()));
        assert!(known.standing(STANDS_MS, none).is_some());
        assert!(known.standing(STANDS_MS + 1_000, none).is_none());
        assert!(known.standing(0, none).is_none(), "the clock was set back");
        let changed = Packages { installed: Some(SystemTime::now()), ..none };
        assert!(known.standing(CHANGED_MS, changed).is_some());
        assert!(known.standing(CHANGED_MS + 1_000, changed).is_none());
    }

    #[test]
    fn an_answer_stands_shorter_when_package_lists_were_fetched() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["var/lib/dpkg", "var/lib/apt/lists/partial"] {
            fs::create_dir_all(root.path().join(folder)).expect("made");
        }
        let fetched = |path: &str, seconds| {
            let file = fs::File::open(root.path().join(path)).expect("opens");
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("dated");
        };
        fs::write(root.path().join("var/lib/dpkg/status"), "").expect("written");
        fetched("var/lib/apt/lists/partial", 100);
        fetched("var/lib/apt/lists", 200);
        let known = Known::default();
        let before = Packages::under(root.path());
        *known.0.lock().expect("whole") = Some((0, before, Waiting::default()));
        assert!(known.standing(CHANGED_MS, Packages::under(root.path())).is_some());
        fetched("var/lib/apt/lists", 300);
        let after = Packages::under(root.path());
        assert!(known.standing(CHANGED_MS - 1, after).is_some(), "too soon");
        assert!(known.standing(CHANGED_MS, after).is_none());
    }

    #[tokio::test]
    async fn a_host_without_apt_is_not_configured_and_one_with_it_counts() {
        let probe = UpdatesProbe { limits: Limits::default(), security: Limits::default() };
        let probing = Probing { limit: std::time::Duration::from_secs(120), ..probing() };
        let seen = run(probing, &Known::default(), &probe, Timestamp::from_ms(7)).await;
        if crate::exec::resolve("apt-get").is_none() {
            assert_eq!(seen.cause, Some(UnknownCause::NotConfigured), "{}", seen.text);
        } else {
            assert!(seen.value.is_some() || seen.status == Status::Unknown, "{}", seen.text);
        }
    }
}
