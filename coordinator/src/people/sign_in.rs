//! Signing in: password and code, or passkey.

use farol_protocol::Timestamp;

use super::{
    Typed, codes,
    passkey::{self, Assertion},
    password, seal_of,
    throttle::{Source, Throttle},
};
use crate::{
    app::Shared,
    error::{Error, Result},
    integrations::Secret,
    store::{people::Account, sessions::NewSession},
};

/// Who says to be somebody.
#[derive(Debug)]
pub struct Claim {
    /// The account's name.
    pub name: String,
    /// The password.
    pub password: Typed,
    /// The code of the app, or a recovery code.
    pub code: Option<Typed>,
}

/// From which browser.
#[derive(Debug)]
pub struct Browser {
    /// The network.
    pub network: Source,
    /// The browser's own secret, where it has one.
    pub device: Option<Typed>,
    /// The session that it has now.
    pub session: Option<Secret>,
    /// What the browser calls itself.
    pub agent: String,
}

/// A session has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its secret.
    pub session: Secret,
    /// The browser's secret, by which it is known from now on.
    pub device: Secret,
}

/// Why nobody was let in.
#[derive(Debug)]
pub enum Refusal {
    /// Name, password or code is wrong; which of them is not said.
    Wrong,
    /// The password is right, and a code is needed too.
    CodeNeeded,
    /// Too many attempts from here for this account: wait so many ms.
    Wait(i64),
    /// Too many sign in just now.
    Busy,
    /// The passkey is not taken, and why.
    Passkey(&'static str),
    /// It could not be found out.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Shared {
    /// Signs a person in by password.
    ///
    /// # Errors
    /// Why not.
    pub async fn sign_in(&self, claim: Claim, from: Browser, now: Timestamp) -> Result<Begun, Refusal> {
        // What nobody can be called is nobody's, and is not remembered.
        let name = if crate::auth::check_name(&claim.name).is_ok() { claim.name.as_str() } else { "" };
        let account = self.store.account(name).await?;
        let source = self.source(account.as_ref(), &from).await?;
        let count = self.people.throttle.begin(name, &source, now).map_err(Refusal::Wait)?;
        let hash = account.as_ref().map(|account| account.password.clone());
        let password = claim.password.clone();
        let work = move || password::verify(&password, hash.as_deref());
        let right = match self.people.hashing.run(source.as_str(), source.is_known(), work).await {
            Ok(right) => right,
            Err(password::Busy) => {
                self.people.throttle.give_back(name, &source);
                return Err(Refusal::Busy);
            }
        };
        let Some(account) = account.filter(|account| right && !account.disabled) else {
            return self.refuse(name, &source, count, "wrong password", now).await;
        };
        if let Some(sealed) = &account.totp {
            let Some(code) = &claim.code else {
                self.people.throttle.give_back(name, &source);
                return Err(Refusal::CodeNeeded);
            };
            // Whoever knows the password could guess codes from many networks.
            let everywhere = if source.is_known() { source.clone() } else { Source::everywhere() };
            if !source.is_known() {
                self.people.throttle.begin(name, &everywhere, now).map_err(Refusal::Wait)?;
            }
            if !self.code_counts(&account, sealed, code, now).await? {
                return self.refuse(name, &source, count, "wrong code", now).await;
            }
            self.people.throttle.succeeded(name, &everywhere);
        }
        self.people.throttle.succeeded(name, &source);
        self.begin((&account.id, &account.name), "password", from, now).await
    }

    /// Signs a person in by passkey, which stands for both factors.
    ///
    /// # Errors
    /// Why not.
    pub async fn sign_in_with_passkey(
        &self,
        assertion: &Assertion,
        from: Browser,
        now: Timestamp,
    ) -> Result<Begun, Refusal> {
        let site = passkey::site(&self.config).map_err(Refusal::Passkey)?;
        let unknown = "no account that is in use has this passkey";
        let holder = self.store.holder(assertion.credential_id()).await?.ok_or(Refusal::Passkey(unknown))?;
        let checked = assertion.check(&self.people.challenges, &site, (&holder.user_id, &holder.public), now);
        if let Err(why) = checked {
            let detail = format!("passkey: {why}, from {}", from.network.as_str());
            self.store.record_sign_in("session.refused", &holder.name, &detail, now).await?;
            return Err(Refusal::Passkey(why));
        }
        self.store.note_passkey(assertion.credential_id(), now).await?;
        self.begin((&holder.user_id, &holder.name), "passkey", from, now).await
    }

    /// A person who is signed in proves who they are with their password again.
    ///
    /// # Errors
    /// Why they did not.
    pub async fn prove(&self, name: &str, session: &str, password: &Typed, now: Timestamp) -> Result<(), Refusal> {
        let source = Source::Known(format!("session/{session}"));
        let count = self.people.throttle.begin(name, &source, now).map_err(Refusal::Wait)?;
        let hash = self.store.account(name).await?.map(|account| account.password);
        let password = password.clone();
        let work = move || password::verify(&password, hash.as_deref());
        let right = self.people.hashing.run(source.as_str(), true, work).await;
        match right {
            Ok(true) => {
                self.people.throttle.succeeded(name, &source);
                Ok(())
            }
            Ok(false) => self.refuse(name, &source, count, "wrong password", now).await,
            Err(password::Busy) => {
                self.people.throttle.give_back(name, &source);
                Err(Refusal::Busy)
            }
        }
    }

    /// A known browser of this person, else the network.
    async fn source(&self, account: Option<&Account>, from: &Browser) -> Result<Source> {
        if let (Some(account), Some(device)) = (account, &from.device)
            && self.store.knows_device(&account.id, device).await?
        {
            let id = crate::store::tokens::hash(device.expose());
            return Ok(Source::Known(format!("device/{id}")));
        }
        Ok(from.network.clone())
    }

    async fn code_counts(&self, account: &Account, sealed: &str, code: &Typed, now: Timestamp) -> Result<bool> {
        if let Some(code) = codes::normal(code) {
            return self.store.use_recovery_code((&account.id, &account.name), &code, now).await;
        }
        let secret = self.people.vault.open(&seal_of(&account.id), sealed).ok_or_else(|| {
            Error::Refused(
                "the secret of the app cannot be opened with secrets.key; let a super_admin reset the second factor"
                    .to_owned(),
            )
        })?;
        match codes::step(&secret, code, now) {
            Some(step) => self.store.use_totp_step(&account.id, step).await,
            None => Ok(false),
        }
    }

    /// The record names accounts only: what was typed in the place of a name may
    /// be a password.
    async fn refuse<T>(
        &self,
        name: &str,
        source: &Source,
        count: u32,
        why: &str,
        now: Timestamp,
    ) -> Result<T, Refusal> {
        let known = self.store.account(name).await?.map(|account| account.name);
        let from = match source {
            Source::Network(network) => network.as_str(),
            Source::Known(_) => "a known browser",
        };
        let verb = if Throttle::delays_after(count) { "session.delayed" } else { "session.refused" };
        match known {
            Some(known) => {
                let detail = format!("{why}, attempt {count} from {from}");
                self.store.record_sign_in(verb, &known, &detail, now).await?;
            }
            None => self.store.record_stranger(from, now).await?,
        }
        Err(Refusal::Wrong)
    }

    async fn begin(&self, user: (&str, &str), method: &str, from: Browser, now: Timestamp) -> Result<Begun, Refusal> {
        let known = match from.device {
            Some(device) if self.store.knows_device(user.0, &device).await? => Some(device.expose().to_owned()),
            _ => None,
        };
        let device = match known {
            Some(device) => Secret::new(device),
            None => Secret::new(crate::store::tokens::secret("farol_device")?),
        };
        let new = NewSession {
            user,
            method,
            address: from.network.as_str(),
            browser: &crate::text::plain(&from.agent, 200),
            replaces: from.session.as_ref(),
        };
        let (session, _) = self.store.begin_session(new, self.config.sessions, now).await?;
        self.store.remember_device(user.0, &device, now).await?;
        self.people.something_ended();
        Ok(Begun { session, device })
    }
}
