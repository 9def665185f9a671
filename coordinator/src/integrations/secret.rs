//! Secrets at rest: sealed with the installation's own key.

use std::{io, path::Path};

use data_encoding::BASE64;
use farol_pki::files;
use farol_protocol::action::hex;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::error::{Error, Result};

/// File in the data folder, or name of the systemd credential, that holds the key.
const FILE: &str = "secrets.key";
/// Where systemd puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// How a sealed text begins: the format's version.
const VERSION: &str = "v1:";

/// A text that no log, debug output or answer shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Seals and opens secrets. Not `Debug`: it is one.
pub struct Vault {
    key: LessSafeKey,
}

impl Vault {
    /// Takes the key from systemd's credential `secrets.key` where there is
    /// one, else from the file of that name in the data folder, which is made
    /// where it is missing.
    ///
    /// # Errors
    /// It cannot be read or written, others can read it, or it holds something
    /// else than 64 hexadecimal digits.
    pub fn open_or_create(data_dir: &Path) -> Result<Self> {
        if let Some(folder) = std::env::var_os(CREDENTIALS) {
            let path = Path::new(&folder).join(FILE);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::of(&text, &path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { what: "read", path, source }),
            }
        }
        let path = data_dir.join(FILE);
        if !path.try_exists().map_err(|source| Error::File { what: "inspect", path: path.clone(), source })? {
            create(data_dir, &path)?;
        }
        Self::of(&files::read_private(&path)?, &path)
    }

    fn of(text: &str, path: &Path) -> Result<Self> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).unwrap_or_default();
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| {
            Error::Config(format!(
                "{} does not hold 64 hexadecimal digits; restore it from the backup, or remove it and enter the secrets \
                 of the integrations again",
                path.display()
            ))
        })?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals a secret for the integration `id`; it opens for no other.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal(&self, id: &str, secret: &Secret) -> Result<String> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
        let mut bytes = secret.0.clone().into_bytes();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id.as_bytes()), &mut bytes)
            .map_err(|_| Error::Refused("the secret is too long".to_owned()))?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut bytes);
        Ok(format!("{VERSION}{}", BASE64.encode(&sealed)))
    }

    /// Opens what [`Vault::seal`] made for `id`; none where the key is another
    /// one or the text was changed.
    #[must_use]
    pub fn open(&self, id: &str, sealed: &str) -> Option<Secret> {
        let mut bytes = BASE64.decode(sealed.strip_prefix(VERSION)?.as_bytes()).ok()?;
        if bytes.len() < NONCE_LEN {
            return None;
        }
        let mut body = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let text = self.key.open_in_place(nonce, Aad::from(id.as_bytes()), &mut body).ok()?;
        String::from_utf8(text.to_vec()).ok().map(Secret)
    }
}

/// Never over a file that another process has made meanwhile.
fn create(data_dir: &Path, path: &Path) -> Result<()> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    let new = data_dir.join(format!("{FILE}.{}", std::process::id()));
    files::write_private(&new, hex(&bytes).as_bytes())?;
    let linked = std::fs::hard_link(&new, path);
    let removed = std::fs::remove_file(&new);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.and(removed).map_err(|source| Error::File { what: "create", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::open_or_create(folder.path()).expect("a vault");
        (folder, vault)
    }

    #[test]
    fn a_secret_opens_for_its_integration_and_with_its_key_only() {
        let (folder, vault) = vault();
        let secret = Secret::new("s3cret".to_owned());
        let sealed = vault.seal("a", &secret).expect("sealed");
        assert!(!sealed.contains("s3cret"));
        assert_ne!(sealed, vault.seal("a", &secret).expect("sealed"), "the nonce repeats");
        let again = Vault::open_or_create(folder.path()).expect("the same key");
        assert_eq!(again.open("a", &sealed), Some(secret));
        assert_eq!(again.open("b", &sealed), None);
        let (_other, stranger) = self::vault();
        assert_eq!(stranger.open("a", &sealed), None);
        for broken in ["", "v1:", "v1:AAAA", "v2:AAAA", &sealed[..sealed.len() - 4]] {
            assert_eq!(again.open("a", broken), None, "{broken}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let (folder, _) = vault();
        let path = folder.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Vault::open_or_create(folder.path()).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::write(&path, "not a key").expect("written");
        let Err(error) = Vault::open_or_create(folder.path()) else { panic!("taken") };
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn a_secret_is_not_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("s3cret".to_owned())), "Secret");
    }
}
