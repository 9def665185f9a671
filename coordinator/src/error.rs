//! Errors of the coordinator. The HTTP mapping is in `http/problem.rs`.

use std::path::PathBuf;

use farol_protocol::{ActionId, action::PlanError, yaml::Mistake};

use crate::action::State;

/// What can go wrong, with the operation it went wrong in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong; exit code 2.
    #[error("{0}")]
    Config(String),
    /// A document that people write is wrong; exit code 2.
    #[error("{path}: {mistake}")]
    Document {
        /// The file.
        path: PathBuf,
        /// Where and what.
        mistake: Mistake,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// `read`, `create`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that the configuration names cannot be read; exit code 2.
    #[error("cannot read {path}: {source}; check the path or name another file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; set another address or stop the program that uses it")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error("cannot {what}: {source}")]
    Store {
        /// The operation.
        what: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The store holds what this version cannot read.
    #[error("the store holds an unreadable {what}: `{value}`")]
    Corrupt {
        /// The column.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Migration failed.
    #[error("cannot bring the database up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The authority failed.
    #[error(transparent)]
    Pki(#[from] farol_pki::Error),
    /// Nothing has this name or id.
    #[error("no {what} is called `{id}`")]
    NotFound {
        /// Noun.
        what: &'static str,
        /// Name or id.
        id: String,
    },
    /// The name is taken.
    #[error("a {what} called `{id}` exists already")]
    Exists {
        /// Noun.
        what: &'static str,
        /// Name.
        id: String,
    },
    /// The action is not in a state that allows the step.
    #[error("action {action} is {state}, so it cannot be {step}")]
    Stale {
        /// The action.
        action: ActionId,
        /// Where it is.
        state: State,
        /// What was tried.
        step: &'static str,
    },
    /// The approval names another plan than the stored one.
    #[error("the plan hash does not belong to this action; read the action again and decide on what it says now")]
    PlanMismatch,
    /// The class needs a signature, which the host checks.
    #[error("{0}")]
    SignatureRequired(String),
    /// A signature that came with an approval does not count.
    #[error("{0}")]
    BadSignature(String),
    /// The plan is not valid.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What was given for an entry of the catalogue does not fit it.
    #[error("{0}")]
    Params(String),
    /// Something stands against it now, which may pass or be mended.
    #[error("{detail}")]
    NotReady {
        /// Stable code.
        code: &'static str,
        /// What it is, and what to do.
        detail: String,
    },
    /// The request is well formed but cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The name is not one that people and tokens can have.
    #[error("{0}")]
    InvalidName(String),
    /// The password is not one that is taken.
    #[error("{0}")]
    InvalidPassword(String),
    /// The caller's role does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The token for enrolment is not usable.
    #[error("{0}")]
    Enrolment(EnrolmentRefusal),
}

/// Why an enrolment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentRefusal {
    /// No such token was ever given out here.
    #[error("the enrolment token is not known here; ask for a new one with `farol host add`")]
    Unknown,
    /// Its hour has passed.
    #[error("the enrolment token has expired; ask for a new one with `farol host add`")]
    Expired,
    /// It was used.
    #[error("the enrolment token was used already; ask for a new one with `farol host add`")]
    Used,
    /// The host was revoked after the token was made.
    #[error("the host of this enrolment token was revoked; ask for a new one with `farol host add`")]
    Revoked,
}

impl EnrolmentRefusal {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::Used => "token_used",
            Self::Revoked => "host_revoked",
        }
    }
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Exit code of a command that ends with this error.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Document { .. } | Self::Unreadable { .. } => 2,
            _ => 1,
        }
    }
}

/// Names the operation in which the store failed.
pub(crate) trait StoreContext<T> {
    fn context(self, what: &'static str) -> Result<T>;
}

impl<T> StoreContext<T> for Result<T, sqlx::Error> {
    fn context(self, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::Store { what, source })
    }
}
