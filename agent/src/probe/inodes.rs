//! Used inodes of a mounted file system.

pub(super) use farol_protocol::report::InodesProbe;

use super::{Probing, Seen, mount, text::Text};

pub(super) async fn run(probing: Probing, probe: &InodesProbe) -> Seen {
    match mount::look(probing, &probe.mount).await {
        Ok(stat) => judge(probing, probe, stat.f_files, stat.f_favail),
        Err(seen) => seen,
    }
}

/// Some file systems (btrfs, ZFS in part) make inodes as they need them and
/// tell none.
#[expect(clippy::cast_precision_loss, reason = "the share is shown with two decimals")]
fn judge(probing: Probing, probe: &InodesProbe, total: u64, available: u64) -> Seen {
    let mount = ("mount", probe.mount.as_str());
    if total == 0 {
        return probing.not_configured(Text::InodesNone, &[mount]);
    }
    let percent = total.saturating_sub(available) as f64 / total as f64 * 100.0;
    probing.judged(&probe.limits, percent, "%", [Text::InodesOk, Text::InodesOver], &[mount])
}

#[cfg(test)]
mod tests {
    use farol_protocol::{
        Status,
        report::{Limits, UnknownCause},
    };

    use super::{super::tests::probing, *};

    fn probe(mount: &str) -> InodesProbe {
        InodesProbe { mount: mount.to_owned(), limits: Limits { critical: Some(90.0), ..Limits::default() } }
    }

    #[test]
    fn a_file_system_without_a_fixed_number_is_not_full() {
        let seen = judge(probing(), &probe("/srv"), 0, 0);
        assert_eq!((seen.status, seen.cause, seen.value), (Status::Unknown, Some(UnknownCause::NotConfigured), None));
        let seen = judge(probing(), &probe("/srv"), 1000, 50);
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(95.0)));
        assert_eq!(seen.text, "/srv has 95% of its inodes in use (limit 90%)");
    }

    #[tokio::test]
    async fn the_root_tells_its_inodes_and_a_folder_does_not_stand_for_it() {
        let root = run(probing(), &probe("/")).await;
        assert!(root.value.is_some() || root.cause.is_some(), "{}", root.text);
        let folder = tempfile::tempdir().expect("a folder");
        let seen = run(probing(), &probe(&folder.path().to_string_lossy())).await;
        assert_eq!((seen.status, seen.value), (Status::Unknown, None), "{}", seen.text);
    }
}
