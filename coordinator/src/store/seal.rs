//! Sealing: entries of the record become links of its chain.
//!
//! **Invariant.** One sealer at a time, by a lease in the head's row; and
//! whoever came second anyway would find the number taken. What a batch ends
//! at is signed, and the next begins only where a signed one ended.

use std::time::Duration;

use farol_protocol::Timestamp;
use sqlx::{Any, AnyConnection, FromRow, QueryBuilder};
use uuid::Uuid;

use super::{Store, audit};
use crate::{
    auth::Operator,
    error::{Error, Result, StoreContext as _},
    record::{Hash, Head, Place, RecordKey},
};

/// Entries of one batch.
const BATCH: usize = 1000;
/// Rows of one statement.
const ROWS: usize = 50;
/// A sealer that was not heard for so long is gone.
pub const LEASE: Duration = Duration::from_secs(10);

/// Who seals.
pub struct Sealer {
    /// What it signs with.
    pub key: RecordKey,
    holder: String,
}

impl Sealer {
    /// Another one than any before.
    #[must_use]
    pub fn new(key: RecordKey) -> Self {
        Self { key, holder: Uuid::now_v7().to_string() }
    }
}

/// What came of an attempt to seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// All entries were sealed already.
    Nothing,
    /// Somebody else does it.
    Elsewhere,
    /// So many were, up to this head.
    Batch(usize, Head),
}

/// How much of the record is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// Entries.
    pub count: u64,
    /// When the oldest of them was written.
    pub since: Option<Timestamp>,
}

/// The row of the head.
#[derive(FromRow)]
struct Row {
    seq: i64,
    chain_hash: String,
    sealed_ms: i64,
    public_key: String,
    signature: String,
    holder: String,
    until_ms: i64,
}

impl Row {
    /// None where it holds no place: then nobody signed it either.
    fn head(&self) -> Option<Head> {
        Some(Head {
            place: Place { seq: u64::try_from(self.seq).ok()?, hash: self.chain_hash.parse().ok()? },
            sealed_at: Timestamp::from_ms(self.sealed_ms),
            public_key: self.public_key.clone(),
            signature: self.signature.clone(),
        })
    }

    /// A lease that ends later than any can is of a clock that was put back.
    fn is_held_by_another(&self, sealer: &Sealer, now: Timestamp) -> bool {
        let until = Timestamp::from_ms(self.until_ms);
        self.holder != sealer.holder && until > now && until <= now.plus(LEASE)
    }
}

impl Store {
    /// Chains entries that are not sealed, a batch of them at most.
    ///
    /// # Errors
    /// The chain does not end where its last batch did, so that going on would
    /// hide it; or the store failed.
    pub async fn seal(&self, sealer: &Sealer, now: Timestamp) -> Result<Sealed> {
        let seen = sealer.key.seen()?;
        let is_idle = {
            let mut read = self.state().read().await?;
            let waiting: Option<(String,)> = sqlx::query_as("select id from audit where sealed = 0 limit 1")
                .fetch_optional(&mut *read)
                .await
                .context("look for entries to seal")?;
            let before = row(&mut read).await?;
            // An end that was moved is told although there is nothing to seal.
            // Read in steps, it may look so while another seals: then the
            // change below looks again.
            if waiting.is_none() && end(&mut read, before.as_ref(), sealer, seen).await.is_ok() {
                return Ok(Sealed::Nothing);
            }
            if before.is_some_and(|row| row.is_held_by_another(sealer, now)) {
                return Ok(Sealed::Elsewhere);
            }
            waiting.is_none()
        };
        let mut write = self.state().write().await?;
        let before = row(&mut write).await?;
        if before.as_ref().is_some_and(|row| row.is_held_by_another(sealer, now)) {
            write.commit().await?;
            return Ok(Sealed::Elsewhere);
        }
        let start = match end(&mut write, before.as_ref(), sealer, seen).await {
            Ok(start) => start,
            Err(error) => {
                // Nothing was changed; the connection stays.
                write.commit().await?;
                return Err(error);
            }
        };
        if is_idle {
            write.commit().await?;
            return Ok(Sealed::Nothing);
        }
        let (count, place) = links(&mut write, start).await?;
        let head = sealer.key.head(place, now);
        put(&mut write, &head, sealer, now).await?;
        farol_agent::fault::point("coordinator.seal.before");
        write.commit().await?;
        farol_agent::fault::point("coordinator.seal.after");
        Ok(Sealed::Batch(count, head))
    }

    /// Lets another seal at once.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stop_sealing(&self, sealer: &Sealer) -> Result<()> {
        let mut write = self.state().write().await?;
        sqlx::query("update audit_head set until_ms = 0 where holder = $1")
            .bind(&sealer.holder)
            .execute(&mut *write)
            .await
            .context("give the lease back")?;
        write.commit().await
    }

    /// Where the chain ends; none before the first batch, or where the row
    /// holds nothing that could be read.
    ///
    /// # Errors
    /// The store failed.
    pub async fn head(&self) -> Result<Option<Head>> {
        head(&mut *self.state().read().await?).await
    }

    /// How much waits to be sealed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unsealed(&self) -> Result<Unsealed> {
        let mut read = self.state().read().await?;
        let (count, since): (i64, Option<i64>) =
            sqlx::query_as("select count(*), min(at_ms) from audit where sealed = 0")
                .fetch_one(&mut *read)
                .await
                .context("count the entries that are not sealed")?;
        Ok(Unsealed { count: u64::try_from(count).unwrap_or(0), since: since.map(Timestamp::from_ms) })
    }

    /// The chain's hash at a place, if it goes that far.
    ///
    /// # Errors
    /// The store failed.
    pub async fn chain_at(&self, seq: u64) -> Result<Option<String>> {
        let mut read = self.state().read().await?;
        chain_at(&mut read, seq).await
    }

    /// A person takes the chain as it is, although its end is not where it was:
    /// the next batch begins behind its last link, with an entry that says so.
    ///
    /// # Errors
    /// It is where it was, or the store failed.
    pub async fn resume_record(&self, by: &Operator, sealer: &Sealer, why: &str, now: Timestamp) -> Result<Place> {
        let seen = sealer.key.seen().ok().flatten();
        let mut write = self.state().write().await?;
        let before = row(&mut write).await?;
        let Err(Error::Refused(broken)) = end(&mut write, before.as_ref(), sealer, seen).await else {
            write.commit().await?;
            return Err(Error::Refused("the record ends where it should; there is nothing to resume".to_owned()));
        };
        let last: Option<(i64, String)> =
            sqlx::query_as("select seq, chain_hash from audit_seal order by seq desc limit 1")
                .fetch_optional(&mut *write)
                .await
                .context("read the chain")?;
        let place = match last {
            None => Place::START,
            Some((seq, hash)) => {
                let corrupt = || Error::Corrupt { what: "link of the record", value: format!("{seq}:{hash}") };
                Place { seq: u64::try_from(seq).map_err(|_| corrupt())?, hash: hash.parse().map_err(|_| corrupt())? }
            }
        };
        let place_text = place.to_string();
        let detail = format!("{why} ({broken})");
        let entry = audit::NewEntry {
            at: now,
            actor: by.name(),
            verb: "record.resumed",
            object: ("record", &place_text),
            detail: &detail,
        };
        audit::insert(&mut write, entry).await?;
        put(&mut write, &sealer.key.head(place, now), sealer, Timestamp::from_ms(0)).await?;
        write.commit().await?;
        sealer.key.see(&place)?;
        Ok(place)
    }
}

/// The place at which the next link begins: the signed end of the last batch,
/// behind everything that this machine has seen.
async fn end(connection: &mut AnyConnection, row: Option<&Row>, sealer: &Sealer, seen: Option<Place>) -> Result<Place> {
    let broken = |what: &str| {
        Err(Error::Refused(format!(
            "the record was changed from outside: {what}; nothing more is sealed. `farol audit verify` says what is \
             broken, `farol audit resume` goes on behind it"
        )))
    };
    let place = match row.map(|row| row.head()) {
        None => Place::START,
        Some(None) => return broken("its head holds no place"),
        Some(Some(head)) if head.public_key != sealer.key.public() => {
            return broken("its head is signed by another key than record.key");
        }
        Some(Some(head)) if !head.is_signed() => return broken("its head is not what record.key signed"),
        Some(Some(head)) => head.place,
    };
    let last: (i64,) = sqlx::query_as("select coalesce(max(seq), 0) from audit_seal")
        .fetch_one(&mut *connection)
        .await
        .context("read the chain")?;
    if u64::try_from(last.0).ok() != Some(place.seq) {
        return broken(&format!("its head says {} links, and {} are there", place.seq, last.0));
    }
    for known in [Some(place), seen].into_iter().flatten().filter(|known| known.seq > 0) {
        if chain_at(connection, known.seq).await?.as_deref() != Some(known.hash.to_string().as_str()) {
            return broken(&format!("link {} is not the one that was there", known.seq));
        }
    }
    Ok(place)
}

pub(super) async fn head(connection: &mut AnyConnection) -> Result<Option<Head>> {
    Ok(row(connection).await?.and_then(|row| row.head()))
}

async fn row(connection: &mut AnyConnection) -> Result<Option<Row>> {
    sqlx::query_as(
        "select seq, chain_hash, sealed_ms, public_key, signature, holder, until_ms from audit_head where id = 1",
    )
    .fetch_optional(connection)
    .await
    .context("read the head of the record")
}

async fn chain_at(connection: &mut AnyConnection, seq: u64) -> Result<Option<String>> {
    let row: Option<(String,)> = sqlx::query_as("select chain_hash from audit_seal where seq = $1")
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .fetch_optional(connection)
        .await
        .context("read the chain")?;
    Ok(row.map(|(hash,)| hash))
}

/// Seals what waits, up to a bound, in the order of the entries' ids. Answers
/// how many and where the chain ends then.
async fn links(connection: &mut AnyConnection, start: Place) -> Result<(usize, Place)> {
    // One that somebody marked as not sealed is not sealed twice.
    let waiting: Vec<(String, String, Option<i64>)> = sqlx::query_as(
        "select a.id, a.hash, s.seq from audit a left join audit_seal s on s.entry_id = a.id
         where a.sealed = 0 order by a.id limit $1",
    )
    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .context("read the entries to seal")?;
    let mut place = start;
    let mut links = Vec::with_capacity(waiting.len());
    for (id, hash, sealed) in &waiting {
        if sealed.is_some() {
            tracing::error!(entry = id, "an entry that was sealed was marked as if it was not");
            continue;
        }
        // One that holds no hash has none: it is sealed as it stands, and the
        // verification names it.
        place = place.then(&hash.parse().unwrap_or(Hash::GENESIS));
        links.push((id, hash, place));
    }
    for chunk in links.chunks(ROWS) {
        let mut insert = QueryBuilder::<Any>::new("insert into audit_seal (seq, entry_id, entry_hash, chain_hash) ");
        insert.push_values(chunk, |mut row, (id, hash, place)| {
            row.push_bind(i64::try_from(place.seq).unwrap_or(i64::MAX))
                .push_bind((*id).clone())
                .push_bind((*hash).clone())
                .push_bind(place.hash.to_string());
        });
        insert.build().execute(&mut *connection).await.context("seal entries")?;
    }
    for chunk in waiting.chunks(ROWS * 4) {
        let mut update = QueryBuilder::<Any>::new("update audit set sealed = 1 where id in (");
        let mut list = update.separated(", ");
        for (id, ..) in chunk {
            list.push_bind(id.clone());
        }
        update.push(")");
        update.build().execute(&mut *connection).await.context("mark entries as sealed")?;
    }
    Ok((links.len(), place))
}

async fn put(connection: &mut AnyConnection, head: &Head, sealer: &Sealer, now: Timestamp) -> Result<()> {
    sqlx::query(
        "insert into audit_head (id, seq, chain_hash, sealed_ms, public_key, signature, holder, until_ms)
         values (1, $1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do update set seq = $1, chain_hash = $2, sealed_ms = $3, public_key = $4, signature = $5,
             holder = $6, until_ms = $7",
    )
    .bind(i64::try_from(head.place.seq).unwrap_or(i64::MAX))
    .bind(head.place.hash.to_string())
    .bind(head.sealed_at.as_ms())
    .bind(&head.public_key)
    .bind(&head.signature)
    .bind(&sealer.holder)
    .bind(now.plus(LEASE).as_ms())
    .execute(connection)
    .await
    .context("write the head of the record")?;
    Ok(())
}

#[cfg(test)]
mod tests;
