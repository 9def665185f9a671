//! The host's certificate while the agent runs: taken when the coordinator
//! sends one, asked for when it accepts the present one no longer.

use std::sync::Arc;

use farol_pki::{KnownClock, client_config_since, csr_for};
use farol_protocol::{
    FromAgent, Timestamp,
    frame::{CertificateInstalled, CertificateUpdate, RenewAnswer, RenewRequest},
};
use tokio::time::Instant;

use super::{Agent, link::Link};
use crate::{Error, state::Clock, tls::Loss, trust};

/// Below this the remembered clock is good enough.
const CLOCK_STEP_MS: i64 = 3600 * 1000;
const OFFSET_STEP_MS: i64 = 60 * 1000;

impl Agent {
    /// A connection failed or ended.
    pub(super) fn lose(&mut self, why: &str, loss: Loss) {
        self.certificate_refused = loss == Loss::Certificate;
        self.disconnect(why, loss == Loss::Trust);
    }

    /// Takes what the coordinator sent if it stands up to scrutiny, and says
    /// what the host holds now either way.
    pub(super) fn on_certificate(&mut self, update: &CertificateUpdate) {
        let now = Timestamp::now().plus_ms(self.offset_ms());
        let refused = self.install(&update.cert, &update.ca, &update.cross, now).err().map(|error| error.sentence());
        if let Some(refused) = &refused {
            tracing::error!("{refused}; the present certificate stays");
        }
        let Some(not_after) = crate::state::certificate_end(&self.identity.cert) else { return };
        let roots = farol_pki::root_ids(&self.identity.ca).unwrap_or_default();
        self.send(FromAgent::CertificateInstalled(CertificateInstalled { not_after, roots, refused }));
    }

    /// Asks for a certificate by the key alone.
    pub(super) fn start_renewal(&mut self) {
        let clock = self.clock.map(KnownClock::from);
        let request = csr_for(&self.identity.key)
            .map(|csr| RenewRequest { host_id: self.identity.enrolment.host_id.clone(), csr });
        let (endpoint, ca) = (self.identity.endpoint.clone(), self.identity.ca.clone());
        let renewing = tokio::spawn(async move { trust::renew(&endpoint, &ca, clock, request?).await });
        self.link = Link::Renewing(renewing, Instant::now());
    }

    pub(super) fn on_renewed(&mut self, renewed: Result<RenewAnswer, Error>) {
        let installed =
            renewed.and_then(|answer| self.install(&answer.cert, &answer.ca, &answer.cross, answer.timestamp));
        match installed {
            Ok(()) => {
                tracing::info!("the coordinator gave this host a new certificate for its key");
                self.certificate_refused = false;
                self.link = Link::Waiting(Instant::now());
            }
            Err(error) => {
                // Only a person's consent is worth asking for again and again;
                // anything else may have changed with the next handshake.
                self.certificate_refused =
                    matches!(&error, Error::NotRenewed { code, .. } if code == "consent_required");
                let person = !matches!(error, Error::Connect { .. } | Error::Slow { .. } | Error::Http { .. });
                self.disconnect(&error.sentence(), person);
            }
        }
    }

    fn install(&mut self, cert: &str, ca: &str, cross: &str, now: Timestamp) -> Result<(), Error> {
        let not_after = trust::install(&self.state, &mut self.identity, cert, ca, cross, now)?;
        self.tls = client_config_since(
            &self.identity.ca,
            &self.identity.cert,
            &self.identity.key,
            self.clock.map(KnownClock::from),
        )?;
        tracing::info!(certificate_ends = %not_after, "a new certificate is installed");
        Ok(())
    }

    /// Certificates are judged by the coordinator's clock: what it says is kept
    /// for a time when it cannot be asked.
    pub(super) fn remember_clock(&mut self) {
        let offset_ms = self.offset_ms();
        let seen = Clock { offset_ms, passed: Timestamp::now().plus_ms(offset_ms) };
        let known = self.clock.is_some_and(|old| {
            (old.offset_ms - offset_ms).abs() < OFFSET_STEP_MS && seen.passed.since(old.passed) < CLOCK_STEP_MS
        });
        if known {
            return;
        }
        self.clock = Some(seen);
        match client_config_since(&self.identity.ca, &self.identity.cert, &self.identity.key, Some(seen.into())) {
            Ok(tls) => self.tls = Arc::clone(&tls),
            Err(error) => tracing::error!("{error}"),
        }
        if let Err(error) = self.state.save_clock(&seen) {
            tracing::warn!("{}", error.sentence());
        }
    }
}
