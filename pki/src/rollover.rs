//! New authorities for old: announced beside each other, then finished.
//!
//! Keys and certificates are written first and the list last, so that a crash
//! leaves the authority as it was, with files that nothing names.

use std::path::Path;

use time::OffsetDateTime;

use crate::authority::{Pair, issuer};
use crate::manifest::Manifest;
use crate::{Authority, Error, files, identity, issue};

impl Authority {
    /// Puts a new issuing authority below the present root. Leaves of the old
    /// one stay valid.
    pub fn rotate_issuing(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        change(dir, now, |manifest| {
            manifest.issuing = manifest.take_name(dir, "issuing")?;
            Ok(())
        })
    }

    /// Makes a new root, certified by the present one, and a new issuing
    /// authority below it. Both roots are trusted until
    /// [`Authority::finish_root`]; hosts that know only one of them verify the
    /// coordinator by either.
    pub fn announce_root(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        change(dir, now, |manifest| {
            if manifest.roots.len() > 1 {
                return Err(Error::RolloverOpen);
            }
            let old = Pair::open(dir, manifest.root(), |key| issue::root(key, now))?;
            let name = manifest.take_name(dir, "root")?;
            let new = Pair::open(dir, &name, |key| issue::root(key, now))?;
            let ends =
                [&old, &new].map(|root| identity::parse(&root.certificate).map(|parsed| parsed.validity().not_after));
            let [old_end, new_end] = ends;
            let end = old_end?.to_datetime().min(new_end?.to_datetime());
            let cross = issue::cross(&new.key, &issuer(&old.certificate, &old.key)?, now - issue::BACKDATE, end)?;
            let cross_name = format!("{name}.cross");
            files::write_private(&dir.join(format!("{cross_name}.pem")), cross.pem().as_bytes())?;
            manifest.cross.push(cross_name);
            manifest.roots.push(name);
            manifest.issuing = manifest.take_name(dir, "issuing")?;
            Ok(())
        })
    }

    /// Retires every root but the newest: hosts whose certificate comes from an
    /// older one are refused from here on, and its key is removed. The
    /// coordinator goes on showing how the new root follows from the old, so
    /// that a host that was away can still verify it.
    pub fn finish_root(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        let mut retired = Vec::new();
        let authority = change(dir, now, |manifest| {
            if manifest.roots.len() < 2 {
                return Err(Error::NoRollover);
            }
            retired = manifest.roots.drain(..manifest.roots.len() - 1).collect();
            Ok(())
        })?;
        for name in retired {
            files::remove(&dir.join(format!("{name}.key")))?;
        }
        Ok(authority)
    }
}

fn change(
    dir: &Path,
    now: OffsetDateTime,
    edit: impl FnOnce(&mut Manifest) -> Result<(), Error>,
) -> Result<Authority, Error> {
    files::private_dir(dir)?;
    let _lock = files::lock(dir)?;
    files::remove_leftovers(dir)?;
    // Sound before it is changed.
    Authority::open_locked(dir, now)?;
    let mut manifest = Manifest::read(dir)?.unwrap_or_else(Manifest::first);
    edit(&mut manifest)?;
    // Made before the list names it, so that whoever reads the list finds it.
    let root = Pair::open(dir, manifest.root(), |key| issue::root(key, now))?;
    let root_issuer = issuer(&root.certificate, &root.key)?;
    Pair::open(dir, &manifest.issuing, |key| issue::issuing(key, &root_issuer, now))?;
    manifest.write(dir)?;
    Authority::open_locked(dir, now)
}
