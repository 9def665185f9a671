//! `file.diff`, `file.apply` and `file.rollback`.
//!
//! A file is replaced as a whole: the new content goes into a file beside it,
//! is flushed, and takes its name in one step. After a crash the file is
//! wholly old or wholly new, and where it is new its former content is kept.

mod keep;
mod spot;

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use farol_protocol::{
    ActionId,
    action::{FileOutcome, PreState, ReasonCode},
};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, Uid, openat, renameat, unlinkat},
    io::Errno,
};
use tokio::time::Instant;

pub(crate) use self::keep::{Kept, Record};
use self::spot::{Found, MOST, Spot, failed, sha256, too_large};
use super::{Course, Gate, Over, Stuck, Why, done};
use crate::{
    fault,
    patch::{self, Refusal},
    text::Detail,
};

/// Permissions of a file that is new.
const NEW_MODE: u32 = 0o644;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// `file.diff`.
#[derive(Clone)]
pub(crate) struct Diff {
    pub(crate) path: String,
    pub(crate) want: String,
}

/// `file.apply`.
#[derive(Clone)]
pub(crate) struct Apply {
    pub(crate) path: String,
    pub(crate) patch: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) expected_sha256: Option<String>,
    /// What the approver saw, where the plan says so too.
    pub(crate) seen_sha256: Option<Option<String>>,
    pub(crate) mode: Option<u32>,
    /// Whether the policy lets the file be read, so that a look may tell what is in it.
    pub(crate) readable: bool,
    pub(crate) action_id: ActionId,
    pub(crate) files: PathBuf,
}

/// `file.rollback`.
#[derive(Debug, Clone)]
pub(crate) struct Rollback {
    pub(crate) of: ActionId,
    pub(crate) record: Record,
    pub(crate) action_id: ActionId,
    pub(crate) files: PathBuf,
}

impl Diff {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let diff = self.clone();
        run(course, move |_| Ok(diff.compare()?)).await
    }

    fn compare(self) -> Result<FileOutcome, Why> {
        let found = Spot::of(&self.path)?.read()?;
        let before = found.as_ref().map_or(&[][..], |found| &found.content);
        Ok(FileOutcome {
            patch: patch::between(&self.path, before, self.want.as_bytes()),
            before_sha256: found.as_ref().map(|found| found.sha256.clone()),
            after_sha256: Some(sha256(self.want.as_bytes())),
            path: self.path,
            applied: false,
        })
    }
}

impl Apply {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let apply = self.clone();
        run(course, move |gate| apply.apply(gate)).await
    }

    /// What is there, and what would change, for whoever plans to change it.
    pub(crate) async fn look(&self, course: &mut Course<'_>) -> (Option<PreState>, Over) {
        let apply = self.clone();
        let over = run(course, move |_| {
            let found = Spot::of(&apply.path)?.read()?;
            let old = found.as_ref().map_or(&[][..], |found| &found.content);
            let new = apply.content(old)?;
            Ok(FileOutcome {
                patch: if apply.readable { patch::between(&apply.path, old, &new) } else { None },
                before_sha256: found.as_ref().map(|found| found.sha256.clone()),
                after_sha256: Some(sha256(&new)),
                path: apply.path,
                applied: false,
            })
        })
        .await;
        let file = over.ending.outcome.as_ref().and_then(|outcome| outcome.file.as_ref());
        (file.map(|file| PreState::FileSha256(file.before_sha256.clone())), over)
    }

    fn apply(self, gate: &Gate) -> Result<FileOutcome, Stuck> {
        let spot = Spot::of(&self.path)?;
        let found = spot.read()?;
        let before = found.as_ref().map(|found| found.sha256.clone());
        self.compare(before.as_ref())?;
        let old = found.as_ref().map_or(&[][..], |found| &found.content);
        let new = self.content(old)?;
        if new.len() as u64 > MOST {
            return Err(too_large(&self.path).into());
        }
        let outcome = FileOutcome {
            patch: patch::between(&self.path, old, &new),
            before_sha256: before.clone(),
            after_sha256: Some(sha256(&new)),
            path: self.path.clone(),
            applied: true,
        };
        if outcome.before_sha256 == outcome.after_sha256 {
            return Ok(FileOutcome { applied: false, ..outcome });
        }
        let change = Change { spot: &spot, found: found.as_ref(), action_id: self.action_id };
        change.may_replace()?;
        let kept = Kept::new(&self.files);
        let record = Record {
            path: self.path.clone(),
            before_sha256: before,
            after_sha256: outcome.after_sha256.clone(),
            rollback: false,
        };
        let keep = kept.keep(self.action_id, &record, found.as_ref().map(|found| &found.content[..]));
        keep.map_err(|error| Why::failed(Detail::FileNotKept, vec![("error", error.sentence())]))?;
        fault::point("agent.file.kept");
        // Kept for nothing, unless the replace happened.
        change.replace(&new, self.mode.unwrap_or(NEW_MODE), gate).inspect_err(|stuck| {
            if !matches!(stuck, Stuck::Because(Why { detail: Detail::FileUnsynced, .. })) {
                kept.forget(self.action_id);
            }
        })?;
        Ok(outcome)
    }

    /// Whether the file is as the plan says.
    fn compare(&self, before: Option<&String>) -> Result<(), Why> {
        if self.expected_sha256.as_ref() == before
            && self.seen_sha256.as_ref().is_none_or(|seen| seen.as_ref() == before)
        {
            return Ok(());
        }
        Err(changed(&self.path))
    }

    fn content(&self, old: &[u8]) -> Result<Vec<u8>, Why> {
        let Some(text) = &self.patch else {
            return Ok(self.content.clone().unwrap_or_default().into_bytes());
        };
        patch::apply(old, text).map_err(|error| {
            let words = vec![("error", error.to_string())];
            match error {
                Refusal::Unreadable(_) => Why::failed(Detail::PatchBroken, words),
                Refusal::DoesNotFit(_) => {
                    Why::failed(Detail::PatchNotApplied, [vec![("path", self.path.clone())], words].concat())
                }
            }
        })
    }
}

impl Rollback {
    pub(crate) async fn go(&self, course: &mut Course<'_>) -> Over {
        let rollback = self.clone();
        run(course, move |gate| rollback.roll_back(gate)).await
    }

    fn roll_back(self, gate: &Gate) -> Result<FileOutcome, Stuck> {
        let Self { of, record, action_id, files } = self;
        let kept = Kept::new(&files);
        let spot = Spot::of(&record.path)?;
        let Some(found) = spot.read()?.filter(|found| Some(&found.sha256) == record.after_sha256.as_ref()) else {
            return Err(changed(&record.path).into());
        };
        let change = Change { spot: &spot, found: Some(&found), action_id };
        let old = match &record.before_sha256 {
            None => None,
            Some(sha) => {
                let unusable = |error: String| Why::failed(Detail::KeptDamaged, vec![("error", error)]);
                let content = kept.content(of).map_err(|error| unusable(error.to_string()))?;
                if sha256(&content) != *sha {
                    return Err(unusable("SHA-256".to_owned()).into());
                }
                Some(content)
            }
        };
        match &old {
            None => change.remove(gate)?,
            Some(old) => {
                change.may_replace()?;
                // So that a crash leaves nothing beside the file. What undoes its own change has a record already.
                if action_id != of {
                    let own = Record {
                        path: record.path.clone(),
                        before_sha256: Some(found.sha256.clone()),
                        after_sha256: record.before_sha256.clone(),
                        rollback: true,
                    };
                    let keep = kept.keep(action_id, &own, None);
                    keep.map_err(|error| Why::failed(Detail::FileNotKept, vec![("error", error.sentence())]))?;
                }
                let replaced = change.replace(old, NEW_MODE, gate);
                if action_id != of {
                    kept.forget(action_id);
                }
                replaced?;
            }
        }
        Ok(FileOutcome {
            patch: patch::between(&record.path, &found.content, old.as_deref().unwrap_or_default()),
            before_sha256: Some(found.sha256),
            after_sha256: record.before_sha256,
            path: record.path,
            applied: true,
        })
    }
}

async fn run(course: &mut Course<'_>, work: impl FnOnce(&Gate) -> Result<FileOutcome, Stuck> + Send + 'static) -> Over {
    let began = Instant::now();
    match course.blocking(work).await {
        Ok(file) => done(String::new(), Some(file), began).into(),
        Err(over) => *over,
    }
}

fn changed(path: &str) -> Why {
    Why::refused(ReasonCode::PreStateChanged, Detail::FileChanged, vec![("path", path.to_owned())])
}

fn not_written(path: &str, error: &io::Error) -> Why {
    Why::failed(Detail::FileNotWritten, vec![("path", path.to_owned()), ("error", error.to_string())])
}

/// One step from a file as it was found to what it is to be.
struct Change<'a> {
    spot: &'a Spot,
    found: Option<&'a Found>,
    action_id: ActionId,
}

impl Change<'_> {
    fn temp(&self) -> String {
        temp_name(self.action_id)
    }

    /// What cannot be kept as it is, is not touched.
    fn may_replace(&self) -> Result<(), Why> {
        match self.found {
            Some(found) if found.metadata.mode() & SET_ID != 0 => Err(self.spot.refused(Detail::FileSetId)),
            _ => Ok(()),
        }
    }

    /// Puts `content` in the file's place.
    fn replace(&self, content: &[u8], new_mode: u32, gate: &Gate) -> Result<(), Stuck> {
        let spot = self.spot;
        let folder = self.folder()?;
        let temp = self.temp();
        let replaced = self.write(&temp, content, new_mode).map_err(Stuck::from).and_then(|()| {
            self.unchanged()?;
            gate.pass()?;
            fault::point("agent.file.replace.before");
            let renamed = match self.found {
                Some(_) => renameat(&spot.folder, temp.as_str(), &spot.folder, spot.name.as_str()),
                None => rename_new(spot, &temp),
            };
            fault::point("agent.file.replace.after");
            renamed.map_err(|error| match error {
                Errno::EXIST => changed(&spot.path).into(),
                error => not_written(&spot.path, &error.into()).into(),
            })
        });
        if replaced.is_err() {
            remove_temp(spot, &temp);
        }
        replaced?;
        self.sync(&folder)
    }

    /// Removes the file.
    fn remove(&self, gate: &Gate) -> Result<(), Stuck> {
        let spot = self.spot;
        let folder = self.folder()?;
        self.unchanged()?;
        gate.pass()?;
        unlinkat(&spot.folder, spot.name.as_str(), AtFlags::empty())
            .map_err(|error| not_written(&spot.path, &error.into()))?;
        self.sync(&folder)
    }

    /// The folder, opened so that it can be flushed: known before anything is
    /// changed.
    fn folder(&self) -> Result<File, Why> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.spot.folder, ".", flags, Mode::empty())
            .map(File::from)
            .map_err(|error| not_written(&self.spot.path, &error.into()))
    }

    fn sync(&self, folder: &File) -> Result<(), Stuck> {
        folder.sync_all().map_err(|error| {
            let values = vec![("path", self.spot.path.clone()), ("error", error.to_string())];
            Why::failed(Detail::FileUnsynced, values).into()
        })
    }

    /// The content with owner, permissions and time of access of the file it
    /// replaces, flushed, under another name.
    fn write(&self, temp: &str, content: &[u8], new_mode: u32) -> Result<(), Why> {
        let path = &self.spot.path;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = openat(&self.spot.folder, temp, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| not_written(path, &error.into()))?
            .into();
        file.write_all(content).map_err(|error| not_written(path, &error))?;
        match self.found {
            None => set_mode(&file, new_mode).map_err(|error| not_written(path, &error))?,
            Some(found) => keep_attributes(found, &file).map_err(|error| {
                Why::failed(Detail::FileOwner, vec![("path", path.clone()), ("error", error.to_string())])
            })?,
        }
        file.sync_all().map_err(|error| not_written(path, &error))
    }

    /// Looks once more, in the last moment: the same file with the same
    /// content, or still none.
    fn unchanged(&self) -> Result<(), Why> {
        let same = match (self.found, self.spot.read()?) {
            (None, None) => true,
            (Some(before), Some(now)) => {
                let place = |found: &Found| (found.metadata.dev(), found.metadata.ino());
                place(before) == place(&now) && before.sha256 == now.sha256
            }
            _ => false,
        };
        if same { Ok(()) } else { Err(changed(&self.spot.path)) }
    }
}

fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    file.set_permissions(Permissions::from_mode(mode & 0o1777))
}

fn keep_attributes(found: &Found, new: &File) -> io::Result<()> {
    let (before, own) = (&found.metadata, new.metadata()?);
    let uid = (before.uid() != own.uid()).then(|| Uid::from_raw(before.uid()));
    let gid = (before.gid() != own.gid()).then(|| Gid::from_raw(before.gid()));
    if uid.is_some() || gid.is_some() {
        rustix::fs::fchown(new, uid, gid)?;
    }
    copy_extended(&found.file, new)?;
    set_mode(new, before.mode())?;
    let read = Timespec { tv_sec: before.atime(), tv_nsec: before.atime_nsec() };
    let written = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(new, &Timestamps { last_access: read, last_modification: written })?)
}

/// Access lists and labels. One that cannot be set is fine only where the new
/// file has it already.
#[cfg(target_os = "linux")]
fn copy_extended(old: &File, new: &File) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};

    let mut names = vec![0_u8; 64 * 1024];
    let length = match flistxattr(old, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 64 * 1024];
        let length = fgetxattr(old, name, &mut value[..])?;
        let value = &value[..length];
        if let Err(error) = fsetxattr(new, name, value, XattrFlags::empty()) {
            let mut own = vec![0_u8; 64 * 1024];
            let same = fgetxattr(new, name, &mut own[..]).is_ok_and(|length| own[..length] == *value);
            if !same {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the same shape as where there are extended attributes")]
fn copy_extended(_old: &File, _new: &File) -> io::Result<()> {
    Ok(())
}

/// Gives the new file its name, unless somebody took it.
#[cfg(target_os = "linux")]
fn rename_new(spot: &Spot, temp: &str) -> rustix::io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};

    let folder = &spot.folder;
    match renameat_with(folder, temp, folder, spot.name.as_str(), RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => link_new(spot, temp),
        done => done,
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(spot: &Spot, temp: &str) -> rustix::io::Result<()> {
    link_new(spot, temp)
}

fn link_new(spot: &Spot, temp: &str) -> rustix::io::Result<()> {
    rustix::fs::linkat(&spot.folder, temp, &spot.folder, spot.name.as_str(), AtFlags::empty())?;
    unlinkat(&spot.folder, temp, AtFlags::empty())
}

fn temp_name(action_id: ActionId) -> String {
    format!(".farol-{action_id}")
}

fn remove_temp(spot: &Spot, temp: &str) {
    match unlinkat(&spot.folder, temp, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => tracing::warn!("{temp} beside {} could not be removed: {error}", spot.path),
    }
}

/// Removes what a crash in the middle of an action left beside its file.
pub(crate) fn clean_up(files: &Path, action_id: ActionId) {
    let kept = Kept::new(files);
    if let Ok(Some(record)) = kept.record(action_id)
        && let Ok(spot) = Spot::of(&record.path)
    {
        remove_temp(&spot, &temp_name(action_id));
        if record.rollback {
            kept.forget(action_id);
        }
    }
}

/// The end of a file that a policy covers: at most `limit` bytes of it, and
/// whether that is all.
pub(crate) fn read_end(path: &str, limit: u64) -> Result<(Vec<u8>, bool), Why> {
    let Some((mut file, metadata)) = Spot::of(path)?.open()? else {
        return Err(failed(path, &io::Error::from(io::ErrorKind::NotFound)));
    };
    let from = metadata.len().saturating_sub(limit);
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(limit).read_to_end(&mut content))
        .map_err(|error| failed(path, &error))?;
    Ok((content, from == 0))
}

#[cfg(test)]
mod tests;
