use std::fs;

use farol_pki::Error;
use farol_pki::files::{private_dir, read_private, write_private};

#[test]
fn a_private_file_is_replaced_whole_and_leaves_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");

    write_private(&path, b"a longer first text").unwrap();
    write_private(&path, b"second").unwrap();

    assert_eq!(read_private(&path).unwrap(), "second");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_write_that_fails_keeps_the_old_file_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken");
    fs::create_dir(&path).unwrap();

    let refusal = write_private(&path, b"text").unwrap_err();

    assert!(matches!(refusal, Error::Io { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("taken"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_private_folder_is_not_made_where_a_file_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();

    assert!(matches!(private_dir(&path), Err(Error::NotAFolder { .. })));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn private_files_and_folders_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/identity");
        let path = folder.join("key.pem");

        private_dir(&folder).unwrap();
        write_private(&path, b"text").unwrap();

        assert_eq!(mode(&dir.path().join("state")), 0o700);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn writing_over_an_open_file_closes_it_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        write_private(&path, b"new").unwrap();

        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn an_existing_folder_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();

        private_dir(dir.path()).unwrap();

        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn a_link_is_not_a_private_folder_even_when_it_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (good, dangling) = (dir.path().join("good"), dir.path().join("dangling"));
        symlink(dir.path(), &good).unwrap();
        symlink(dir.path().join("nowhere"), &dangling).unwrap();

        for link in [good, dangling] {
            let refusal = private_dir(&link);
            assert!(matches!(refusal, Err(Error::SymlinkedFolder { .. })));
        }
    }

    fn mode(path: &std::path::Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
