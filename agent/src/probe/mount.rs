//! A mounted file system by its mount point.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::fs::{StatVfs, statvfs};

use super::{Probing, Seen, text::Text};

/// Asks a file system about itself. A folder that is no mount point is refused:
/// what it lies on would answer in its place.
pub(super) async fn look(probing: Probing, mount: &str) -> Result<StatVfs, Seen> {
    let path = mount.to_owned();
    let found = probing.blocking_on(mount, Text::WhatDisks, move || {
        if !is_mounted(Path::new(&path))? {
            return Ok(None);
        }
        Ok::<_, io::Error>(Some(statvfs(path.as_str())?))
    });
    found.await?.ok_or_else(|| probing.unknown(Text::NoMount, &[("mount", mount)]))
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    if !path.is_absolute() {
        return Ok(false);
    }
    if let Ok(table) = fs::read_to_string("/proc/self/mounts") {
        return Ok(mount_points(&table).any(|point| Path::new(&point) == path));
    }
    let Some(parent) = path.parent() else { return Ok(true) };
    match fs::metadata(path) {
        Ok(own) => Ok(own.dev() != fs::metadata(parent)?.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The second column, in which blanks and the like stand as octal numbers.
fn mount_points(table: &str) -> impl Iterator<Item = String> {
    table.lines().filter_map(|line| line.split(' ').nth(1)).map(unescaped)
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                whole.push(char::from(byte));
                whole.push_str(&part[3..]);
            }
            _ => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let table = "/dev/sda1 / ext4 rw 0 0\nserver:/x /mnt/two\\040words nfs4 rw 0 0\nshort\n\\ \\09 x\n";
        assert_eq!(mount_points(table).collect::<Vec<_>>(), ["/", "/mnt/two words", "\\09"]);
    }

    #[test]
    fn a_folder_on_a_file_system_is_no_mount_point() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(is_mounted(Path::new("/")).expect("told"));
        assert!(!is_mounted(folder.path()).expect("told"));
        assert!(!is_mounted(Path::new("relative")).expect("told"));
    }
}
