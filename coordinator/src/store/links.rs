//! Links by which whoever got a message acknowledges without a login. Only
//! their hashes are kept; each acts once, and ends by itself.

use farol_protocol::Timestamp;
use ring::rand::SecureRandom as _;
use sqlx::FromRow;

use super::{Store, tokens::hash};
use crate::error::{Error, Result, StoreContext as _};

/// How long a link lasts, in ms.
pub const LASTS_MS: i64 = 24 * 3_600_000;
/// How long it is known that there was one, in ms.
const REMEMBERED_MS: i64 = 30 * 24 * 3_600_000;
/// Characters of a token.
const LENGTH: usize = 43;

/// A link without its secret.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Link {
    /// What it acknowledges.
    pub finding_id: String,
    /// The channel that it was sent to.
    pub channel: String,
    /// Address, topic, room.
    pub recipient: String,
    expires_ms: i64,
    used_ms: Option<i64>,
}

impl Link {
    /// When it ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_ms(self.expires_ms)
    }

    /// When it was used.
    #[must_use]
    pub fn used_at(&self) -> Option<Timestamp> {
        self.used_ms.map(Timestamp::from_ms)
    }
}

impl Store {
    /// Makes a link; answers its secret, which is not kept.
    ///
    /// # Errors
    /// No such finding, or the store failed.
    pub async fn new_link(&self, finding: &str, channel: &str, recipient: &str, now: Timestamp) -> Result<String> {
        let mut bytes = [0_u8; 32];
        ring::rand::SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
        let token = data_encoding::BASE64URL_NOPAD.encode(&bytes);
        let mut write = self.state().write().await?;
        sqlx::query(
            "insert into ack_link (hash, finding_id, channel, recipient, created_ms, expires_ms)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(hash(&token))
        .bind(finding)
        .bind(channel)
        .bind(recipient)
        .bind(now.as_ms())
        .bind(now.plus_ms(LASTS_MS).as_ms())
        .execute(&mut *write)
        .await
        .context("store the link")?;
        write.commit().await?;
        Ok(token)
    }

    /// The link with this secret.
    ///
    /// # Errors
    /// The store failed.
    pub async fn link(&self, token: &str) -> Result<Option<Link>> {
        if token.len() != LENGTH {
            return Ok(None);
        }
        let mut read = self.state().read().await?;
        sqlx::query_as("select finding_id, channel, recipient, expires_ms, used_ms from ack_link where hash = $1")
            .bind(hash(token))
            .fetch_optional(&mut *read)
            .await
            .context("read the link")
    }

    /// Uses a link up; answers whether it was there to be used.
    ///
    /// # Errors
    /// The store failed.
    pub async fn use_link(&self, token: &str, now: Timestamp) -> Result<bool> {
        let mut write = self.state().write().await?;
        let used =
            sqlx::query("update ack_link set used_ms = $2 where hash = $1 and used_ms is null and expires_ms > $2")
                .bind(hash(token))
                .bind(now.as_ms())
                .execute(&mut *write)
                .await
                .context("use the link")?
                .rows_affected();
        write.commit().await?;
        Ok(used > 0)
    }

    /// Gives a link back whose use came to nothing.
    ///
    /// # Errors
    /// The store failed.
    pub async fn give_link_back(&self, token: &str) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update ack_link set used_ms = null where hash = $1")
            .bind(hash(token))
            .execute(&mut *write)
            .await
            .context("give the link back")?;
        write.commit().await
    }

    /// Forgets links that ended long ago.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_links(&self, now: Timestamp) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("delete from ack_link where expires_ms < $1")
            .bind(now.plus_ms(-REMEMBERED_MS).as_ms())
            .execute(&mut *write)
            .await
            .context("forget old links")?;
        write.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_is_used_once_and_not_after_its_end_and_its_secret_is_not_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a store");
        let finding = super::super::outbox::tests::finding(&store, "vm112", "web").await;
        let now = Timestamp::from_ms(1_000);
        let token = store.new_link(&finding, "ntfy", "ops", now).await.expect("made");
        assert_eq!(token.len(), LENGTH);
        assert_eq!(store.link("x").await.expect("read"), None);
        assert_eq!(store.link(&"x".repeat(LENGTH)).await.expect("read"), None);
        let link = store.link(&token).await.expect("read").expect("there");
        assert_eq!((link.finding_id.as_str(), link.used_at()), (finding.as_str(), None));
        assert!(store.use_link(&token, now.plus_ms(1)).await.expect("used"));
        assert!(!store.use_link(&token, now.plus_ms(2)).await.expect("used before"));
        store.give_link_back(&token).await.expect("given back");
        assert!(!store.use_link(&token, now.plus_ms(LASTS_MS)).await.expect("over"));
        store.forget_links(now.plus_ms(LASTS_MS + REMEMBERED_MS + 1)).await.expect("forgotten");
        assert_eq!(store.link(&token).await.expect("read"), None);
        store.close().await;
        for entry in std::fs::read_dir(folder.path()).expect("a folder") {
            let bytes = std::fs::read(entry.expect("an entry").path()).unwrap_or_default();
            assert!(!bytes.windows(LENGTH).any(|window| window == token.as_bytes()), "the secret is on the disk");
        }
    }
}
