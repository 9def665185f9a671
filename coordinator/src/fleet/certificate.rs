//! The certificate of a connected host: whether it is the present machine's,
//! when it gets the next one, and what it says of that.

use std::time::Duration;

use farol_pki::{Held, PeerIdentity, Present, due};
use farol_protocol::{
    Timestamp, ToAgent,
    frame::{self, CertificateInstalled, CertificateUpdate, ErrorCode, ErrorFrame, Hello},
};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{identity::Refusal, session::Connection};
use crate::{
    app::App,
    error::Result,
    store::{
        hosts::{HostKey, HostRow},
        trust::{Attention, Revision, Shown, TrustRow},
    },
    text,
};

/// How often a long connection is looked at.
const EVERY: Duration = Duration::from_secs(3600);
/// Over so many heartbeats the hosts spread when the authority has changed.
const SPREAD: i64 = 8;
/// Most roots that a host may name.
const ROOTS: usize = 8;
/// Kept of a host's reason.
const LONGEST_REASON: usize = 400;
/// The method that an agent takes certificates with.
const METHOD: &str = "certificate.update";

/// What the coordinator knows of a connected host's certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    issuer: String,
    public_key: Vec<u8>,
    host_id: String,
    roots: Option<Vec<String>>,
    takes: bool,
    offered: Option<PeerIdentity>,
    generation: u64,
    next: Instant,
}

impl Certificate {
    /// Of a connection that said hello; an older peer says none.
    pub(super) fn new(peer: PeerIdentity, hello: Option<&Hello>) -> Box<Self> {
        Box::new(Self {
            not_before: peer.not_before,
            not_after: peer.not_after,
            issuer: peer.issuer,
            public_key: peer.public_key,
            host_id: peer.host_id,
            roots: hello.and_then(|hello| hello.roots.as_deref()).map(proper_roots),
            takes: hello.is_some_and(|hello| hello.capabilities.iter().any(|method| method == METHOD)),
            offered: None,
            generation: 0,
            next: Instant::now(),
        })
    }

    /// Whether to look at it now. A change of the authority is spread over a
    /// few heartbeats, by host.
    fn wants_look(&mut self, generation: u64, host: HostKey, heartbeat: Duration) -> bool {
        let now = Instant::now();
        if self.generation != generation {
            self.generation = generation;
            let turns = u32::try_from(host.0.rem_euclid(SPREAD)).unwrap_or(0);
            self.next = self.next.min(now + heartbeat * turns);
        }
        self.takes && now >= self.next
    }
}

/// Judges and remembers what a hello shows of the machine and its certificate.
/// A machine that is not the host's is refused with what to answer.
pub(super) async fn recognise(
    app: &App,
    host: &HostRow,
    peer: Option<&PeerIdentity>,
    hello: &Hello,
    now: Timestamp,
) -> Result<Recognised> {
    let decide = |before: TrustRow| {
        let (known, refusal) = before.known.after_hello(hello.machine.as_ref(), &hello.name, now);
        let rebooted = !before.known.boots.is_empty() && before.known.boots.last() != known.boots.last();
        let mut row = TrustRow { known, ..before.clone() };
        let mut shown = None;
        if refusal.is_none()
            && let Some(peer) = peer
        {
            row.issuer = Some(peer.issuer.clone());
            row.roots = hello.roots.as_deref().map(proper_roots);
            let held = Shown { serial: peer.serial.clone(), not_after: peer.not_after.into() };
            shown = (host.cert_not_after != Some(held.not_after)).then_some(held);
            // It is here, so it has what it asked for.
            (row.asked_at, row.consent_until) = (None, None);
        }
        let revision = (row != before || shown.is_some()).then(|| {
            let told = |row: &TrustRow| (row.known.conflict.clone(), row.asked_at, row.known.name_before.clone());
            let attention = if told(&row) == told(&before) { Attention::None } else { Attention::Report };
            Revision { row, shown, attention }
        });
        ((refusal, rebooted), revision)
    };
    let (refusal, rebooted) = app.store.revise_trust(host.key, decide).await?;
    Ok(match refusal {
        None => Recognised::Welcome { rebooted },
        Some(refusal) => Recognised::Conflict(ErrorFrame {
            code: ErrorCode::IdentityConflict,
            message: explain(refusal, host, hello),
            action_id: None,
        }),
    })
}

/// Whether a machine is the host's.
pub(super) enum Recognised {
    /// It is.
    Welcome {
        /// Whether it has been started anew since its last hello.
        rebooted: bool,
    },
    /// It is not, or a person has to say.
    Conflict(ErrorFrame),
}

fn explain(refusal: Refusal, host: &HostRow, hello: &Hello) -> String {
    let name = &host.name;
    let machine = hello.machine.as_ref();
    let short = |id: Option<&String>| id.map(|id| text::beginning(id)).unwrap_or_default();
    match refusal {
        Refusal::OtherMachine => format!(
            "another machine has the identity of `{name}`; if this one is `{name}` now, run `farol host accept {name} \
             --machine {}` on the coordinator; if it is a copy, enrol it under a name of its own with `farol host add \
             NAME` there and `farol-agent enroll … --force` here",
            short(machine.and_then(|machine| machine.id.as_ref()))
        ),
        Refusal::Barred => format!(
            "a person decided that a copy of this machine is `{name}`; enrol this one under a name of its own with \
             `farol host add NAME` on the coordinator and `farol-agent enroll … --force` here, or run `farol host \
             accept {name} --boot {}` there",
            short(machine.and_then(|machine| machine.boot.as_ref()))
        ),
    }
}

fn proper_roots(roots: &[String]) -> Vec<String> {
    let proper = |root: &&String| root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut roots: Vec<String> = roots.iter().filter(proper).take(ROOTS).cloned().collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

/// Sends the next certificate when it is time to look and one is due. False
/// when the connection is over.
pub(super) async fn look(connection: &mut Connection, heartbeat: Duration) -> bool {
    let (generation, host) = (connection.app.trust.generation(), connection.host.key);
    let due =
        connection.certificate.as_mut().is_some_and(|certificate| certificate.wants_look(generation, host, heartbeat));
    // Boxed: rare, and its future would stay resident for every connection.
    !due || Box::pin(offer(connection)).await
}

async fn offer(connection: &mut Connection) -> bool {
    let present = connection.app.trust.present();
    let Some(certificate) = &mut connection.certificate else { return true };
    certificate.next = Instant::now() + EVERY;
    let held = Held {
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        issuer: &certificate.issuer,
        roots: certificate.roots.as_deref(),
    };
    let now = OffsetDateTime::now_utc();
    let reason = due(&held, &Present { issuer: &present.issuer, roots: &present.roots }, now);
    let Some(reason) = reason.filter(|_| certificate.takes) else { return true };
    let issued = match present.authority.issue_for_key(&certificate.public_key, &certificate.host_id, now) {
        Ok(issued) => issued,
        Err(error) => {
            tracing::error!("a certificate could not be issued, the next look tries again: {error}");
            return true;
        }
    };
    tracing::info!(?reason, certificate_ends = %Timestamp::from(issued.not_after), "the host is sent a certificate");
    certificate.offered = Some(PeerIdentity {
        host_id: certificate.host_id.clone(),
        key_sha256: issued.key_sha256,
        serial: issued.serial,
        not_before: now - time::Duration::hours(24),
        not_after: issued.not_after,
        issuer: issued.issuer,
        public_key: Vec::new(),
    });
    let update = CertificateUpdate {
        cert: issued.cert_pem,
        ca: present.authority.ca_pem(),
        cross: present.authority.cross_pem(),
    };
    connection.socket.send(frame::encode(&ToAgent::CertificateUpdate(update))).await
}

/// What the host did with the certificate that it was sent.
pub(super) async fn installed(connection: &mut Connection, installed: CertificateInstalled) {
    let offered = connection.certificate.as_mut().and_then(|certificate| certificate.offered.take());
    let Some(offered) = offered else {
        tracing::warn!("the agent speaks of a certificate that it was not sent");
        return;
    };
    let host = connection.host.key;
    let saved = async {
        let store = &connection.app.store;
        if let Some(why) = installed.refused {
            let why = text::plain(&why, LONGEST_REASON);
            tracing::error!("the host did not take its new certificate: {why}");
            let decide = |before: TrustRow| {
                let same = before.refused.as_ref() == Some(&why);
                let attention = if same { Attention::None } else { Attention::Report };
                let row = TrustRow { refused: Some(why.clone()), ..before };
                ((), Some(Revision { row, shown: None, attention }))
            };
            return store.revise_trust(host, decide).await;
        }
        let roots = proper_roots(&installed.roots);
        let shown = Shown { serial: offered.serial, not_after: offered.not_after.into() };
        let decide = |before: TrustRow| {
            let attention = if before.refused.is_some() { Attention::Report } else { Attention::None };
            let (issuer, roots) = (Some(offered.issuer.clone()), Some(roots.clone()));
            let row = TrustRow { issuer, roots, refused: None, ..before };
            ((), Some(Revision { row, shown: Some(shown.clone()), attention }))
        };
        store.revise_trust(host, decide).await?;
        tracing::info!(certificate_ends = %shown.not_after, "the host has a new certificate");
        if let Some(certificate) = &mut connection.certificate {
            (certificate.not_before, certificate.not_after) = (offered.not_before, offered.not_after);
            (certificate.issuer, certificate.roots) = (offered.issuer, Some(roots));
        }
        Ok(())
    };
    if let Err(error) = saved.await {
        // The next handshake shows the same.
        tracing::error!("that a host has a new certificate was not saved: {error}");
    }
}

/// A living connection of a host was replaced by another. When that goes on,
/// two machines have one identity.
pub(super) async fn replaced(app: &App, host: HostKey) {
    let now = Timestamp::now();
    if !app.fleet.online(host) || !app.fleet.takes_turns(host, now) {
        return;
    }
    tracing::warn!("connections of this host keep replacing each other; its orders wait for a person");
    let saved = async {
        let decide = |row: TrustRow| {
            let row = TrustRow { known: row.known.after_replacements(now), ..row };
            ((), Some(Revision { row, shown: None, attention: Attention::Report }))
        };
        app.store.revise_trust(host, decide).await
    };
    if let Err(error) = saved.await {
        tracing::error!("that two machines share an identity was not saved: {error}");
    }
}
