//! Ten years in seconds: real certificates, real handshakes, a simulated clock
//! and the production decisions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration as StdDuration;

use farol_pki::{
    Asked, Authority, CONSENT, Held, HostKey, KnownClock, PeerIdentity, Present, Update, admit, client_config_since,
    csr_for, due, new_host_key, proven_key_sha256, renewal_config, root_ids, server_config, verify_update,
};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use time::{Duration, OffsetDateTime};

use crate::support::handshake;

/// How far the clock moves at a time. Connections live on between the steps,
/// and each host reconnects every tenth of them.
const STEP: i64 = 5;
const RECONNECT: i64 = 50;
const DAYS: i64 = 3653;

/// A clock that stands where it was put, `offset` seconds beside the true one.
#[derive(Debug, Clone)]
struct Clock {
    now: Arc<AtomicI64>,
    offset: i64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now.load(Ordering::Relaxed) + self.offset).unwrap();
        Some(UnixTime::since_unix_epoch(StdDuration::from_secs(seconds)))
    }
}

impl Clock {
    fn server(&self, config: &Arc<ServerConfig>) -> Arc<ServerConfig> {
        let mut config = (**config).clone();
        config.time_provider = Arc::new(self.clone());
        Arc::new(config)
    }

    fn client(&self, config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut config = (**config).clone();
        config.time_provider = Arc::new(self.clone());
        Arc::new(config)
    }
}

struct Host {
    id: &'static str,
    key: HostKey,
    cert: String,
    ca: String,
    clock: Clock,
    known: KnownClock,
    away: std::ops::Range<i64>,
    /// What the handshake of its connection showed, while it has one.
    connected: Option<PeerIdentity>,
    renewals: usize,
    recoveries: usize,
    waited: usize,
}

/// The coordinator's store, as far as trust goes.
#[derive(Default)]
struct Store {
    live: HashMap<String, &'static str>,
    not_after: HashMap<&'static str, OffsetDateTime>,
    consent: HashMap<&'static str, OffsetDateTime>,
    asked: HashSet<&'static str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Connected,
    Recovered,
    ConsentRequired,
    NotLive,
}

impl Host {
    fn install(&mut self, cert: &str, authority: &Authority, now: OffsetDateTime) {
        let (ca, cross) = (authority.ca_pem(), authority.cross_pem());
        let update = Update { cert, ca: &ca, cross: &cross };
        verify_update(&self.key.key_pem, self.id, &self.ca, &update, now).unwrap();
        (self.cert, self.ca) = (cert.to_owned(), ca);
        if let Some(connected) = &mut self.connected {
            let leaf = &crate::support::ders(cert)[0];
            *connected = PeerIdentity::from_certificate(leaf).unwrap();
        }
    }

    fn connect(
        &mut self,
        authority: &Authority,
        server: &Arc<ServerConfig>,
        store: &mut Store,
        now: OffsetDateTime,
    ) -> Outcome {
        let identity = match self.connected.clone() {
            Some(connected) => connected,
            None => {
                let config = client_config_since(&self.ca, &self.cert, &self.key.key_pem, Some(self.known)).unwrap();
                let connection = handshake(&self.clock.client(&config), server);
                if !connection.is_done() {
                    return self.recover(authority, server, store, now);
                }
                PeerIdentity::from_certificate(&connection.server.peer_certificates().unwrap()[0]).unwrap()
            }
        };
        self.connected = None;
        if store.live.get(&identity.key_sha256) != Some(&self.id) {
            return Outcome::NotLive;
        }
        self.connected = Some(identity.clone());
        self.known = KnownClock { offset_seconds: -self.clock.offset, passed: now.unix_timestamp() };
        let (roots, present, issuer) = (root_ids(&self.ca).unwrap(), authority.root_ids(), authority.issuer_id());
        let held = Held {
            not_before: identity.not_before,
            not_after: identity.not_after,
            issuer: &identity.issuer,
            roots: Some(&roots),
        };
        if due(&held, &Present { issuer: &issuer, roots: &present }, now).is_some() {
            let issued = authority.issue_for_key(&identity.public_key, self.id, now).unwrap();
            self.install(&issued.cert_pem, authority, now);
            store.not_after.insert(self.id, issued.not_after);
            self.renewals += 1;
        }
        Outcome::Connected
    }

    /// What an agent does when its certificate is refused.
    fn recover(
        &mut self,
        authority: &Authority,
        server: &Arc<ServerConfig>,
        store: &mut Store,
        now: OffsetDateTime,
    ) -> Outcome {
        let config = renewal_config(&self.ca, Some(self.known)).unwrap();
        handshake(&self.clock.client(&config), server).assert_done();
        let csr = csr_for(&self.key.key_pem).unwrap();
        if store.live.get(&proven_key_sha256(&csr).unwrap()) != Some(&self.id) {
            return Outcome::NotLive;
        }
        if admit(store.not_after[self.id], store.consent.get(self.id).copied(), now) == Asked::ConsentRequired {
            store.asked.insert(self.id);
            self.waited += 1;
            return Outcome::ConsentRequired;
        }
        let issued = authority.issue_host(&csr, self.id, now).unwrap();
        self.install(&issued.cert_pem, authority, now);
        store.not_after.insert(self.id, issued.not_after);
        self.recoveries += 1;
        Outcome::Recovered
    }
}

#[test]
fn ten_years_pass_without_a_host_lost_but_the_one_that_was_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let seconds = Arc::new(AtomicI64::new(start.unix_timestamp()));
    let truth = Clock { now: Arc::clone(&seconds), offset: 0 };
    let mut authority = Authority::open_or_create(dir.path(), start).unwrap();
    let mut store = Store::default();
    let hour = 3600;
    let mut hosts: Vec<Host> = [
        ("steady", 0, 0..0),
        ("ahead", 5 * hour, 0..0),
        ("behind", -7 * 24 * hour, 0..0),
        ("month", 0, 985..1015),
        ("season", -20 * hour, 2000..2200),
        ("revoked", 0, 0..0),
    ]
    .into_iter()
    .map(|(id, offset, away)| {
        let key = new_host_key().unwrap();
        let issued = authority.issue_host(&key.csr_pem, id, start).unwrap();
        store.live.insert(issued.key_sha256, id);
        store.not_after.insert(id, issued.not_after);
        let clock = Clock { now: Arc::clone(&seconds), offset };
        let (cert, ca) = (issued.cert_pem, authority.ca_pem());
        let known = KnownClock::default();
        Host { id, key, cert, ca, clock, known, away, connected: None, renewals: 0, recoveries: 0, waited: 0 }
    })
    .collect();

    let mut issuers = HashSet::from([authority.issuer_id()]);
    let mut refused_after_revocation = 0;
    for day in (STEP..=DAYS).step_by(usize::try_from(STEP).unwrap()) {
        let now = start + Duration::days(day);
        seconds.store(now.unix_timestamp(), Ordering::Relaxed);
        authority = match day {
            500 => Authority::rotate_issuing(dir.path(), now).unwrap(),
            990 => Authority::announce_root(dir.path(), now).unwrap(),
            1050 => {
                let present = authority.root_ids();
                let unaware = hosts.iter().filter(|host| !root_ids(&host.ca).unwrap().contains(&present[0]));
                assert_eq!(unaware.count(), 0, "every live host knows the new root before the old one goes");
                Authority::finish_root(dir.path(), now).unwrap()
            }
            // As a running coordinator does now and then: what is due is made.
            _ if day % RECONNECT == 0 => Authority::open_or_create(dir.path(), now).unwrap(),
            _ => authority,
        };
        issuers.insert(authority.issuer_id());
        if day == 2500 {
            store.live.retain(|_, host| *host != "revoked");
        }
        if day == 2205 {
            assert!(store.asked.contains("season"), "that it asks is known before a person decides");
            store.consent.insert("season", now + CONSENT);
        }
        let server = truth.server(&server_config(&authority).unwrap());
        for host in &mut hosts {
            if host.away.contains(&day) || day % RECONNECT == 0 {
                host.connected = None;
            }
            if host.away.contains(&day) {
                continue;
            }
            let outcome = host.connect(&authority, &server, &mut store, now);
            let expected = match (host.id, day) {
                ("revoked", 2500..) => Outcome::NotLive,
                ("month", 1015) => Outcome::Recovered,
                ("season", 2200) => Outcome::ConsentRequired,
                ("season", 2205) => Outcome::Recovered,
                _ => Outcome::Connected,
            };
            assert_eq!(outcome, expected, "{} on day {day}", host.id);
            refused_after_revocation += usize::from(outcome == Outcome::NotLive);
        }
    }

    let host = |id: &str| hosts.iter().find(|host| host.id == id).unwrap();
    for id in ["steady", "ahead", "behind"] {
        assert!((170..=190).contains(&host(id).renewals), "{id} renewed {} times", host(id).renewals);
        assert_eq!(host(id).recoveries, 0, "{id} was never refused");
    }
    assert_eq!((host("month").recoveries, host("month").waited), (1, 0));
    assert_eq!((host("season").recoveries, host("season").waited), (1, 1));
    assert!(refused_after_revocation > 200);
    // By hand, by the new root, and by itself after two thirds of three years.
    assert!(issuers.len() >= 6, "{} issuing authorities", issuers.len());
    assert_eq!(authority.root_ids().len(), 1);
}
