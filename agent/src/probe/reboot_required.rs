//! Whether the host must be restarted: because its packages say so, or because
//! a newer kernel is installed than the one that runs.

use std::{
    cmp::Ordering,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

pub(super) use farol_protocol::report::RebootRequiredProbe;

use super::{Probing, Seen, text::Text};
use crate::text::cut;

/// Packages that are named in a text.
const MOST_NAMED: usize = 5;

/// Where a system tells.
#[derive(Debug, Clone)]
struct Places {
    flag: PathBuf,
    modules: PathBuf,
    release: PathBuf,
}

pub(super) async fn run(probing: Probing, probe: &RebootRequiredProbe) -> Seen {
    let places = Places {
        flag: "/run/reboot-required".into(),
        modules: "/lib/modules".into(),
        release: "/proc/sys/kernel/osrelease".into(),
    };
    look_and_judge(probing, probe, places).await
}

async fn look_and_judge(probing: Probing, probe: &RebootRequiredProbe, places: Places) -> Seen {
    match probing.blocking(Text::WhatKernels, move || look(&places)).await {
        Ok(found) => judge(probing, probe, &found, SystemTime::now()),
        Err(seen) => seen,
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Packages asked for it, since then.
    Asked(SystemTime, Vec<String>),
    /// A newer kernel is there, since then.
    Kernel(SystemTime, String, String),
    Not,
    /// The kernel is another system's, as in a container.
    NoKernel,
}

fn look(places: &Places) -> io::Result<Found> {
    match fs::metadata(&places.flag) {
        Ok(flag) => {
            let packages = fs::read_to_string(places.flag.with_extension("pkgs"))
                .or_else(|_| fs::read_to_string(format!("{}.pkgs", places.flag.display())))
                .unwrap_or_default();
            let mut names: Vec<String> =
                packages.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            names.dedup();
            return Ok(Found::Asked(flag.modified()?, names));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let running = match fs::read_to_string(&places.release) {
        Ok(release) => release.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoKernel),
        Err(error) => return Err(error),
    };
    let installed = kernels(&places.modules)?;
    let newest = newest(&running, installed.iter().map(String::as_str));
    match newest {
        Some(name) if compare(name, &running) == Ordering::Greater => {
            let since = fs::metadata(places.modules.join(name))?.modified()?;
            Ok(Found::Kernel(since, running.clone(), name.to_owned()))
        }
        _ if installed.contains(&running) => Ok(Found::Not),
        _ => Ok(Found::NoKernel),
    }
}

/// Kernels with their modules; what a removed one leaves behind has none.
fn kernels(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries
        .flatten()
        .filter(|entry| entry.path().join("kernel").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

/// The newest of the same flavour: `-amd64` does not stand against `-rt-amd64`.
fn newest<'a>(running: &str, installed: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    installed.filter(|name| flavour(name) == flavour(running)).max_by(|a, b| compare(a, b))
}

/// `pve` of `6.8.12-4-pve`; nothing where the end is part of the version.
fn flavour(release: &str) -> &str {
    let start = release
        .match_indices('-')
        .map(|(at, _)| at + 1)
        .find(|at| release[*at..].starts_with(|c: char| c.is_ascii_alphabetic()));
    start.map_or("", |at| &release[at..])
}

/// Numbers as numbers, the rest as text.
fn compare(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Text(&'a str),
    Number(u64),
}

fn parts(release: &str) -> Vec<Part<'_>> {
    release.split(['.', '-', '+', '_', '~']).map(|part| part.parse().map_or(Part::Text(part), Part::Number)).collect()
}

fn judge(probing: Probing, probe: &RebootRequiredProbe, found: &Found, now: SystemTime) -> Seen {
    let days = |since: &SystemTime| {
        let days = now.duration_since(*since).unwrap_or_default().as_secs_f64() / 86_400.0;
        (days * 10.0).floor() / 10.0
    };
    let both = |text| [text, text];
    match found {
        Found::Not => probing.without_value(farol_protocol::Status::Ok, Text::RebootNot, &[]),
        Found::NoKernel => probing.not_configured(Text::RebootNoKernel, &[]),
        Found::Asked(since, names) => {
            let shown = names.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let values = [("names", &*cut(&shown, 200))];
            probing.judged(&probe.limits, days(since), "d", both(Text::RebootAsked), &values)
        }
        Found::Kernel(since, running, newest) => {
            let values = [("running", running.as_str()), ("newest", newest)];
            probing.judged(&probe.limits, days(since), "d", both(Text::RebootKernel), &values)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::{
        Status,
        report::{Limits, UnknownCause},
    };

    use super::{super::tests::probing, *};

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(running: &str, installed: &[&str]) -> Self {
            let host = Self(tempfile::tempdir().expect("a folder"));
            fs::write(host.0.path().join("osrelease"), format!("{running}\n")).expect("written");
            for name in installed {
                fs::create_dir_all(host.0.path().join("modules").join(name).join("kernel")).expect("made");
            }
            host
        }

        async fn look(&self, limits: Limits) -> Seen {
            let at = |name: &str| self.0.path().join(name);
            let places = Places { flag: at("reboot-required"), modules: at("modules"), release: at("osrelease") };
            look_and_judge(probing(), &RebootRequiredProbe { limits }, places).await
        }
    }

    fn at_once() -> Limits {
        Limits { warning: Some(0.0), critical: Some(14.0), ..Limits::default() }
    }

    #[tokio::test]
    async fn a_newer_kernel_of_the_same_flavour_asks_for_a_restart() {
        for (running, installed, status) in [
            ("6.1.0-18-amd64", &["6.1.0-18-amd64", "6.1.0-9-amd64"][..], Status::Ok),
            ("6.1.0-18-amd64", &["6.1.0-18-amd64", "6.1.0-22-amd64"], Status::Warning),
            ("6.1.0-18-amd64", &["6.1.0-18-amd64", "6.1.0-22-rt-amd64"], Status::Ok),
            ("6.8.12-4-pve", &["6.8.4-3-pve", "6.8.12-4-pve", "6.8.12-11-pve"], Status::Warning),
            (
                "5.14.0-427.9.1.el9.x86_64",
                &["5.14.0-427.9.1.el9.x86_64", "5.14.0-427.13.1.el9.x86_64"],
                Status::Warning,
            ),
        ] {
            let seen = Host::new(running, installed).look(at_once()).await;
            assert_eq!((seen.status, seen.cause), (status, None), "{running}: {}", seen.text);
        }
        let host = Host::new("6.1.0-18-amd64", &["6.1.0-18-amd64"]);
        fs::create_dir_all(host.0.path().join("modules/6.1.0-99-amd64")).expect("made");
        assert_eq!(host.look(at_once()).await.status, Status::Ok, "what a removed kernel left behind");
    }

    #[tokio::test]
    async fn packages_that_ask_for_it_are_named_and_it_grows_worse_with_the_days() {
        let host = Host::new("6.1.0-18-amd64", &["6.1.0-18-amd64"]);
        let flag = host.0.path().join("reboot-required");
        let file = fs::File::create(&flag).expect("created");
        fs::write(host.0.path().join("reboot-required.pkgs"), "libc6\nlibc6\ndbus\n").expect("written");
        let seen = host.look(at_once()).await;
        assert_eq!((seen.status, seen.value, seen.unit.as_deref()), (Status::Warning, Some(0.0), Some("d")));
        assert!(seen.text.contains("libc6, dbus"), "{}", seen.text);
        file.set_modified(SystemTime::now() - Duration::from_secs(20 * 86_400)).expect("dated");
        let seen = host.look(at_once()).await;
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(20.0)), "{}", seen.text);
        fs::remove_file(&flag).expect("removed");
        assert_eq!(host.look(at_once()).await.status, Status::Ok);
    }

    #[tokio::test]
    async fn a_container_does_not_know() {
        let seen = Host::new("6.1.0-18-amd64", &[]).look(at_once()).await;
        assert_eq!((seen.status, seen.cause, seen.value), (Status::Unknown, Some(UnknownCause::NotConfigured), None));
    }
}
