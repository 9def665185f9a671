//! Age and size of a file, or of the newest of several: backups above all.

use std::{
    fs::{self, Metadata},
    io,
    path::PathBuf,
    time::UNIX_EPOCH,
};

pub(super) use farol_protocol::report::FileAgeProbe;
use farol_protocol::{Status, Timestamp};

use super::{
    Access, Probing, Seen,
    path::{find, matches},
    text::{Text, io_words},
};

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 100_000;

pub(super) async fn run(probing: Probing, access: &Access, probe: &FileAgeProbe, now: Timestamp) -> Seen {
    let (access, wanted) = (access.clone(), probe.clone());
    let looking =
        probing.blocking_on(&probe.path, Text::WhatFiles, move || Ok::<_, io::Error>(look(probing, &access, &wanted)));
    match looking.await {
        Ok(Ok(file)) => judge(probing, probe, &file, now),
        Ok(Err(seen)) => *seen,
        Err(seen) => seen,
    }
}

/// The file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    path: PathBuf,
    /// In ms since 1970.
    modified: i64,
    bytes: u64,
}

fn look(probing: Probing, access: &Access, probe: &FileAgeProbe) -> Result<File, Box<Seen>> {
    let path = probe.path.as_str();
    let missing = || Box::new(probing.critical(Text::FileMissing, &[("path", path)]));
    let unreadable = |error: &io::Error| {
        let why = io_words(probing.language, error);
        Box::new(probing.unknown(Text::PathMissing, &[("path", path), ("why", &why)]))
    };
    let sort = |error: &io::Error| if error.kind() == io::ErrorKind::NotFound { missing() } else { unreadable(error) };
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    if !name.contains(['*', '?']) {
        let found = find(probing, access, path)?.map_err(|error| sort(&error))?;
        let metadata = fs::metadata(&found).map_err(|error| sort(&error))?;
        return file(found, &metadata).map_err(|error| unreadable(&error));
    }
    let folder = if folder.is_empty() { "/" } else { folder };
    // A folder that is not there holds no backup.
    let found = find(probing, access, folder)?.map_err(|error| sort(&error))?;
    let mut newest: Option<File> = None;
    for entry in fs::read_dir(&found).map_err(|error| sort(&error))?.take(MOST_ENTRIES) {
        let entry = entry.map_err(|error| unreadable(&error))?;
        if !entry.file_name().to_str().is_some_and(|text| matches(name, text)) {
            continue;
        }
        // As it is: a link may lead to where the policy does not.
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&error)),
        };
        let one = file(entry.path(), &metadata).map_err(|error| unreadable(&error))?;
        if newest.as_ref().is_none_or(|newest| newest.modified < one.modified) {
            newest = Some(one);
        }
    }
    newest.ok_or_else(missing)
}

fn file(path: PathBuf, metadata: &Metadata) -> io::Result<File> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Ok(File { path, modified, bytes: metadata.len() })
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals at most")]
fn judge(probing: Probing, probe: &FileAgeProbe, file: &File, now: Timestamp) -> Seen {
    let hours = now.since(Timestamp::from_ms(file.modified)).max(0) as f64 / 3_600_000.0;
    let hours = (hours * 100.0).round() / 100.0;
    let bytes = size(probing, file.bytes);
    let values = [("file", &*file.path.display().to_string()), ("size", &bytes)];
    let mut seen = probing.judged(&probe.limits, hours, "h", [Text::FileOk, Text::FileOver], &values);
    if let Some(least) = probe.min_bytes.filter(|least| file.bytes < *least) {
        let least = size(probing, least);
        let hours = probing.number(hours);
        let values = [values[0], values[1], ("least", &*least), ("value", &*hours)];
        seen.status = Status::Critical;
        seen.text = probing.say(Text::FileSmall, &values);
    }
    seen
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals at most")]
fn size(probing: Probing, bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..units.len() - 1).find(|step| bytes >> (10 * (step + 1)) == 0).unwrap_or(units.len() - 1);
    let scaled = bytes as f64 / (1_u64 << (10 * step)) as f64;
    format!("{} {}", probing.number((scaled * 10.0).round() / 10.0), units[step])
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, SystemTime},
    };

    use farol_protocol::report::{Limits, UnknownCause};

    use super::{
        super::tests::{probing, reading},
        *,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn write(path: &Path, bytes: usize, age: Duration) {
        let file = fs::File::create(path).expect("created");
        file.set_len(bytes as u64).expect("sized");
        file.set_modified(SystemTime::now() - age).expect("dated");
    }

    async fn look_at(access: &Access, path: &Path, min_bytes: Option<u64>) -> Seen {
        let limits = Limits { warning: Some(26.0), critical: Some(50.0), ..Limits::default() };
        let probe = FileAgeProbe { path: path.to_string_lossy().into_owned(), min_bytes, limits };
        run(probing(), access, &probe, Timestamp::now()).await
    }

    #[tokio::test]
    async fn the_newest_of_several_counts_by_age_and_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = reading(folder.path());
        write(&folder.path().join("db-1.dump"), 5_000, HOUR * 60);
        let pattern = folder.path().join("db-*.dump");
        let old = look_at(&access, &pattern, None).await;
        assert_eq!((old.status, old.unit.as_deref()), (Status::Critical, Some("h")), "{}", old.text);
        write(&folder.path().join("db-2.dump"), 3_000_000, HOUR * 2);
        write(&folder.path().join("db-3.dump.part"), 1, Duration::ZERO);
        let seen = look_at(&access, &pattern, Some(1_000_000)).await;
        assert_eq!((seen.status, seen.value), (Status::Ok, Some(2.0)), "{}", seen.text);
        assert!(seen.text.contains("db-2.dump") && seen.text.contains("2.9 MiB"), "{}", seen.text);
        let small = look_at(&access, &pattern, Some(4_000_000)).await;
        assert_eq!(small.status, Status::Critical, "{}", small.text);
        write(&folder.path().join("db-4.dump"), 3_000_000, HOUR * 30);
        assert_eq!(look_at(&access, &folder.path().join("db-4.dump"), None).await.status, Status::Warning);
    }

    #[tokio::test]
    async fn a_backup_that_is_not_there_is_critical_and_one_that_may_not_be_read_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = reading(folder.path());
        for name in ["none.dump", "none-*.dump", "no-folder/x.dump", "no-folder/*.dump"] {
            let seen = look_at(&access, &folder.path().join(name), None).await;
            assert_eq!((seen.status, seen.value), (Status::Critical, None), "{name}: {}", seen.text);
        }
        write(&folder.path().join("plain"), 1, HOUR);
        let through = look_at(&access, &folder.path().join("plain/x"), None).await;
        assert_eq!((through.status, through.cause), (Status::Unknown, None), "{}", through.text);
        for (access, path) in [(Access::NoPolicy, folder.path().join("x")), (access, "/etc/pass*".into())] {
            let seen = look_at(&access, &path, None).await;
            assert_eq!(
                (seen.status, seen.cause),
                (Status::Unknown, Some(UnknownCause::NotConfigured)),
                "{}",
                seen.text
            );
        }
    }

    #[tokio::test]
    async fn a_link_out_of_the_policy_is_not_followed() {
        let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        write(&outside.path().join("secret"), 1, HOUR);
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("a.dump")).expect("linked");
        let access = reading(folder.path());
        assert_eq!(look_at(&access, &folder.path().join("a.dump"), None).await.status, Status::Unknown);
        assert_eq!(look_at(&access, &folder.path().join("*.dump"), None).await.status, Status::Critical);
    }
}
