//! `POST /southbound/v1/renew`: a host whose certificate is no longer accepted
//! proves its pinned key and gets the next one. What it gets is of no use to
//! whoever does not hold that key, so a request that is repeated does no harm.

use std::collections::HashMap;

use farol_pki::{Asked, admit, proven_key_sha256};
use farol_protocol::{
    Timestamp,
    frame::{RenewAnswer, RenewRequest},
};
use hyper::{Request, StatusCode, body::Incoming, header};
use time::OffsetDateTime;

use super::{
    enrol::{json, read},
    listener::{Answer, Southbound, problem},
};
use crate::{
    error::{Error, Result},
    events::Noun,
    store::{
        hosts::HostKey,
        trust::{Attention, Revision, Shown, TrustRow},
    },
};

/// Certificates a second, of all hosts: each costs a signature and a write.
const PER_SECOND: u32 = 200;
/// Least time between two requests of a host.
const PER_HOST_MS: i64 = 2_000;
/// A host that keeps asking is noted again after this.
const ASKED_AGAIN_MS: i64 = 3600 * 1000;

/// Bounds the requests of hosts whose key is live. Whoever has no such key is
/// bounded by the places without certificate, and takes no host's turn.
#[derive(Debug, Default)]
pub(super) struct Gate {
    second: i64,
    count: u32,
    last: HashMap<HostKey, Timestamp>,
}

impl Gate {
    /// Whether a host may ask now. Only known hosts get here.
    fn turn(&mut self, host: HostKey, now: Timestamp) -> bool {
        if self.last.get(&host).is_some_and(|last| now.since(*last) < PER_HOST_MS && now >= *last) {
            return false;
        }
        let second = now.as_ms() / 1000;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        if self.count == PER_SECOND {
            return false;
        }
        self.count += 1;
        self.last.insert(host, now);
        true
    }
}

pub(super) async fn answer(south: &Southbound, request: Request<Incoming>) -> Answer {
    let now = Timestamp::now();
    let request: RenewRequest = match read(request, "a renewal").await {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    let key = match proven_key_sha256(&request.csr) {
        Ok(key) => key,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, "csr_invalid", &error.to_string()),
    };
    let host = match south.app.fleet.host_of(&key) {
        Some((host, id)) if id == request.host_id => host,
        _ => {
            tracing::warn!(agent_id = request.host_id.as_str(), "a renewal was refused: the key is not live");
            return problem(
                StatusCode::FORBIDDEN,
                "key_not_live",
                "the key of this request is not live: the host was revoked or enrolled again; enrol it with a new token",
            );
        }
    };
    if !south.app.fleet.renewals(|gate| gate.turn(host, now)) {
        return too_many();
    }
    match renew(south, host, &key, &request, now).await {
        Ok(Some(answer)) => json(&answer),
        Ok(None) => problem(
            StatusCode::FORBIDDEN,
            "consent_required",
            "this host's certificate ended more than 90 days ago, so a person has to agree: run `farol host consent \
             NAME` on the coordinator; the agent goes on by itself then",
        ),
        Err(Error::NotFound { .. }) => {
            problem(StatusCode::FORBIDDEN, "key_not_live", "the host was revoked or enrolled again in this moment")
        }
        Err(error) => {
            tracing::error!(agent_id = request.host_id.as_str(), "a renewal failed: {error}");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the coordinator could not renew the certificate; its log says why",
            )
        }
    }
}

/// None: a person has to consent first.
async fn renew(
    south: &Southbound,
    host: HostKey,
    key: &str,
    request: &RenewRequest,
    now: Timestamp,
) -> Result<Option<RenewAnswer>> {
    let store = &south.app.store;
    let row = store.host_by_key(host).await?;
    let trust = store.trust_of(host).await?;
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_ms() / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let not_after = row.cert_not_after.map_or(OffsetDateTime::UNIX_EPOCH, at);
    let clock = at(now);
    if admit(not_after, trust.consent_until.map(at), clock) == Asked::ConsentRequired {
        if trust.asked_at.is_none_or(|asked| now.since(asked) >= ASKED_AGAIN_MS) {
            tracing::warn!(
                agent_id = request.host_id.as_str(),
                "a host that was away for too long asks for a certificate; `farol host consent {}` lets it in",
                row.name
            );
            store
                .revise_trust(host, |row| {
                    let row = TrustRow { asked_at: Some(now), ..row };
                    ((), Some(Revision { row, shown: None, attention: Attention::Report }))
                })
                .await?;
            south.app.events.publish(Noun::Host, &row.name, "consent_required");
        }
        return Ok(None);
    }
    let present = south.app.trust.present();
    let issued = present.authority.issue_host(&request.csr, request.host_id.as_str(), clock)?;
    let shown = Shown { serial: issued.serial, not_after: issued.not_after.into() };
    store.renewed(host, key, &shown, now).await?;
    south.app.events.publish(Noun::Host, &row.name, "renewed");
    tracing::info!(agent_id = request.host_id.as_str(), host.name = row.name, "a host was given a new certificate");
    Ok(Some(RenewAnswer {
        cert: issued.cert_pem,
        ca: present.authority.ca_pem(),
        cross: present.authority.cross_pem(),
        timestamp: now,
    }))
}

fn too_many() -> Answer {
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "ask again in a few seconds");
    answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_by_second_and_by_host() {
        let mut gate = Gate::default();
        let now = Timestamp::from_ms(1_800_000_000_000);
        let (one, other) = (HostKey(1), HostKey(2));
        assert!((0..i64::from(PER_SECOND)).all(|n| gate.turn(HostKey(100 + n), now)));
        assert!(!gate.turn(one, now), "more in a second than there may be");
        let now = now.plus_ms(1000);
        assert!(gate.turn(one, now) && !gate.turn(HostKey(100), now));

        let mut gate = Gate::default();
        assert!(gate.turn(one, now) && gate.turn(other, now));
        assert!(!gate.turn(one, now.plus_ms(PER_HOST_MS - 1)));
        assert!(gate.turn(one, now.plus_ms(PER_HOST_MS)));
        assert!(gate.turn(one, now), "a clock that was put back locks nobody out");
    }
}
