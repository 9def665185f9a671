//! A place in the file system, reached without following any link.
//!
//! **Invariant.** Every component is opened by itself with `O_NOFOLLOW`, and
//! everything later happens relative to the folder that was reached: nobody
//! who swaps a folder for a link meanwhile leads the agent elsewhere.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
};

use farol_protocol::action::{ReasonCode, hex};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use super::super::Why;
use crate::text::Detail;

/// Largest file that is read or written, in bytes.
pub(super) const MOST: u64 = 1 << 20;

/// Folders are only walked through; where the system has a way to do that
/// without the right to list them, it is used.
#[cfg(target_os = "linux")]
const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const WALK: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name in a folder that is held open.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) folder: OwnedFd,
    pub(super) name: String,
    pub(super) path: String,
}

/// A file as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) metadata: Metadata,
    pub(super) content: Vec<u8>,
    pub(super) sha256: String,
}

impl Spot {
    /// Walks to the folder of a plain absolute path.
    pub(super) fn of(path: &str) -> Result<Self, Why> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let plain = path.starts_with('/') && !parts.iter().any(|part| matches!(*part, "" | "." | ".."));
        let Some((name, folders)) = parts.split_last().filter(|_| plain) else {
            return Err(failed(path, &io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let mut folder = rustix::fs::open("/", WALK, Mode::empty()).map_err(|error| failed("/", &error.into()))?;
        let mut walked = String::new();
        for part in folders {
            walked = format!("{walked}/{part}");
            folder = openat(&folder, *part, WALK, Mode::empty()).map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR | Errno::MLINK if is_link(&folder, part) => link(&walked),
                error => failed(&walked, &error.into()),
            })?;
        }
        Ok(Self { folder, name: (*name).to_owned(), path: path.to_owned() })
    }

    /// The open file, if there is one and it is a plain file of its own.
    pub(super) fn open(&self) -> Result<Option<(File, Metadata)>, Why> {
        // Looked at first: opening some devices does something.
        let kind = match statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode as rustix::fs::RawMode),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(&self.path, &error.into())),
        };
        match kind {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(link(&self.path)),
            _ => return Err(self.refused(Detail::FileNotRegular)),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.folder, self.name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::MLINK) => return Err(link(&self.path)),
            Err(error) => return Err(failed(&self.path, &error.into())),
        };
        let metadata = file.metadata().map_err(|error| failed(&self.path, &error))?;
        let kind = metadata.file_type();
        if !kind.is_file() || kind.is_fifo() || kind.is_char_device() {
            return Err(self.refused(Detail::FileNotRegular));
        }
        if metadata.nlink() > 1 {
            return Err(self.refused(Detail::FileHardLinked));
        }
        Ok(Some((file, metadata)))
    }

    /// The file with its content, which is bounded.
    pub(super) fn read(&self) -> Result<Option<Found>, Why> {
        let Some((mut file, metadata)) = self.open()? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        (&mut file).take(MOST + 1).read_to_end(&mut content).map_err(|error| failed(&self.path, &error))?;
        if content.len() as u64 > MOST {
            return Err(too_large(&self.path));
        }
        let sha256 = sha256(&content);
        Ok(Some(Found { file, metadata, content, sha256 }))
    }

    pub(super) fn refused(&self, detail: Detail) -> Why {
        Why::refused(ReasonCode::NotAllowed, detail, vec![("path", self.path.clone())])
    }
}

pub(super) fn too_large(path: &str) -> Why {
    let values = vec![("path", path.to_owned()), ("limit", (MOST / 1024).to_string())];
    Why::refused(ReasonCode::NotAllowed, Detail::FileTooLarge, values)
}

pub(super) fn failed(path: &str, error: &io::Error) -> Why {
    Why::failed(Detail::FileFailed, vec![("path", path.to_owned()), ("error", error.to_string())])
}

fn link(path: &str) -> Why {
    Why::refused(ReasonCode::NotAllowed, Detail::FileLink, vec![("path", path.to_owned())])
}

fn is_link(folder: &OwnedFd, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode as rustix::fs::RawMode) == FileType::Symlink)
}

pub(super) fn sha256(content: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref())
}
