//! Files that only their owner may read, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::Error;
use crate::encoding::{hex, random};

/// Replaces `path` with `bytes`, mode 0600.
///
/// After a crash the file holds either all of the old bytes or all of the new
/// ones.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = folder.join(format!(".{name}.{}{TEMP}", hex(&random::<8>()?)));
    let written = write_new(&temp, bytes).and_then(|()| fs::rename(&temp, path));
    if let Err(source) = written {
        // Best effort: the first failure is the one worth telling.
        let _ = fs::remove_file(&temp);
        return Err(io_error("write", path)(source));
    }
    sync_folder(folder)
}

/// Reads a file that must be closed to group and others.
pub fn read_private(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    refuse_exposed(&file, path)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io_error("read", path))?;
    Ok(text)
}

/// Makes sure that `path` is a folder; it and the parents it lacks are created
/// with mode 0700, folders that exist keep theirs.
pub fn private_dir(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(Error::SymlinkedFolder { path: path.to_owned() }),
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::NotAFolder { path: path.to_owned() }),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(path).map_err(io_error("create", path))?;
            sync_folder(folder_of(path))
        }
        Err(source) => Err(io_error("inspect", path)(source)),
    }
}

/// Removes a file that is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(source)),
        _ => sync_folder(folder_of(path)),
    }
}

/// Waits for sole use of `dir`, until the returned file is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(".lock");
    let file = private_options().truncate(false).create(true).open(&path).map_err(io_error("open", &path))?;
    file.lock().map_err(io_error("lock", &path))?;
    Ok(file)
}

/// Removes what a crashed [`write_private`] left in `dir`. The caller holds the
/// folder's [`lock`].
pub(crate) fn remove_leftovers(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMP) {
            let path = entry.path();
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Reads a file that may be open to all, such as a certificate.
pub(crate) fn read_public(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(io_error("read", path))
}

pub(crate) fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(io_error("inspect", path))
}

const TEMP: &str = ".tmp";

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_options().create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = file.metadata().map_err(io_error("inspect", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::Exposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn refuse_exposed(_file: &File, _path: &Path) -> Result<(), Error> {
    Ok(())
}

/// Makes a rename or a new entry survive a power cut.
fn sync_folder(folder: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        File::open(folder).and_then(|handle| handle.sync_all()).map_err(io_error("flush", folder))?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}
