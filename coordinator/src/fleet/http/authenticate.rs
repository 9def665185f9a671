//! Who signed a request: everything that is checked before its body is read
//! as JSON.

use farol_protocol::{
    Timestamp,
    http_signing::{Refusal, Request, Signed},
};

use crate::{
    app::Shared,
    store::{hosts::HostKey, http_keys::live_name},
};

/// A host that proved itself.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Which.
    pub(crate) key: HostKey,
    /// Its id, for the log.
    pub(crate) id: String,
    /// Its signing key as the live set has it.
    pub(crate) live_name: String,
}

/// Why a request is not taken.
#[derive(Debug)]
pub(crate) enum Denied {
    /// It does not prove who sent it, or was sent before.
    Refused(Refusal),
    /// The key asks for too much.
    TooMany,
    /// The store failed.
    Failed,
}

impl Denied {
    /// Status, stable code and one sentence.
    pub(crate) fn parts(&self) -> (u16, &'static str, String) {
        match self {
            Self::Refused(refusal) => (401, refusal.code(), refusal.to_string()),
            Self::TooMany => (429, "too_many_requests", "this key asks too often; wait a second".to_owned()),
            Self::Failed => {
                (503, "unavailable", "the coordinator could not note the request; sign it again".to_owned())
            }
        }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whether a key is live, looked at before the body is waited for.
pub(crate) fn known(app: &Shared, signed: &Signed) -> Result<Host, Denied> {
    let live_name = live_name(&signed.key);
    let (key, id) = app.fleet.host_of(&live_name).ok_or(Refusal::UnknownKey)?;
    Ok(Host { key, id: id.to_string(), live_name })
}

/// Verifies the signature, the time and that the request comes for the first
/// time, in this order: only the holder of a secret makes the store write.
pub(crate) async fn verify(
    app: &Shared,
    host: &Host,
    signed: &Signed,
    request: Request<'_>,
    now: Timestamp,
) -> Result<(), Denied> {
    signed.verify(&app.http_keys.secret(&host.id, &signed.key), request)?;
    signed.in_time(now)?;
    if !app.http_keys.admit(&signed.key, now) {
        return Err(Denied::TooMany);
    }
    match app.store.take_nonce(&signed.key, &signed.nonce, now).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::Replayed.into()),
        Err(error) => {
            tracing::error!("a signed request could not be noted: {error}");
            Err(Denied::Failed)
        }
    }
}
