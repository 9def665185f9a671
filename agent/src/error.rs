//! Everything that can go wrong in the agent. Each message is one sentence
//! that can stand alone on standard error and says what to do next.

use std::{io, path::PathBuf};

/// What went wrong; the operation in the variant, the cause in `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or a name given on it does not fit.
    #[error("{0}")]
    Usage(String),
    /// A configuration or policy file has a mistake at a known place.
    #[error("{}:{line}:{column}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What to change.
        message: String,
    },
    /// The policy could be changed by someone who must not.
    #[error(
        "{} can be changed by users other than its owner (mode {mode:04o}); run: chmod go-w {}",
        path.display(), path.display()
    )]
    PolicyExposed {
        /// The policy file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The host has no identity yet.
    #[error(
        "this host is not enrolled: {} is missing; run `farol host add NAME` on the coordinator and then the command it prints here",
        path.display()
    )]
    NotEnrolled {
        /// The file looked for.
        path: PathBuf,
    },
    /// The host has an identity already.
    #[error("{} holds the identity of host `{host}` already; add --force to replace it", path.display())]
    AlreadyEnrolled {
        /// The identity folder.
        path: PathBuf,
        /// Whose identity it is.
        host: String,
    },
    /// Another agent uses the state folder.
    #[error("another farol-agent uses {}; stop it first or choose another --state-dir", path.display())]
    Locked {
        /// The state folder.
        path: PathBuf,
    },
    /// The operating system refused a file operation.
    #[error("could not {operation} {}; check that it exists and belongs to this user", path.display())]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file the agent wrote cannot be read back.
    #[error("{} is damaged; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Keys, certificates or the files that hold them.
    #[error(transparent)]
    Identity(#[from] farol_pki::Error),
    /// The coordinator cannot be reached.
    #[error("could not reach the coordinator at {address}; check the address and the network")]
    Connect {
        /// Host and port.
        address: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The coordinator or this host is not trusted by the other side.
    #[error("{advice}")]
    Trust {
        /// What to do.
        advice: String,
        /// What TLS said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The coordinator did not finish in time.
    #[error("the coordinator at {address} did not finish {operation} within {seconds} s; try again")]
    Slow {
        /// Host and port.
        address: String,
        /// What was awaited.
        operation: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// The upgrade to a WebSocket failed.
    #[error("the coordinator at {address} did not open a WebSocket; check that the port is its southbound one")]
    Upgrade {
        /// Host and port.
        address: String,
        /// What the peer did.
        #[source]
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// HTTP failed during enrolment or renewal.
    #[error("the exchange with the coordinator at {address} broke off; try the same command again")]
    Http {
        /// Host and port.
        address: String,
        /// What hyper said.
        #[source]
        source: hyper::Error,
    },
    /// The coordinator refused the enrolment.
    #[error("the coordinator refused the enrolment ({code}): {detail}")]
    Refused {
        /// Stable code.
        code: String,
        /// What the coordinator said.
        detail: String,
    },
    /// The coordinator gave no new certificate.
    #[error("the coordinator did not renew this host's certificate ({code}): {detail}")]
    NotRenewed {
        /// Stable code.
        code: String,
        /// What the coordinator said.
        detail: String,
    },
    /// The coordinator answered what it should not.
    #[error("the coordinator's answer cannot be used: {0}; check that both sides have compatible versions")]
    Answer(String),
    /// The spool file.
    #[error("could not {operation} the spool {}; check the disk's space and the file's owner", path.display())]
    Spool {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// The journal file.
    #[error("could not {operation} the journal {}; check the disk's space and the file's owner", path.display())]
    Journal {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// `doctor` found problems.
    #[error("{problems} of what the agent needs is not as it must be; do what the lines above say and run this again")]
    Unwell {
        /// How many.
        problems: usize,
    },
    /// `run --once` could not deliver.
    #[error(
        "the batch is kept in the spool but the coordinator did not acknowledge it within {seconds} s; see the log above"
    )]
    NotDelivered {
        /// How long the agent tried.
        seconds: u64,
    },
}

impl Error {
    /// Exit code of the process: 2 for wrong usage or configuration, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } | Self::PolicyExposed { .. } | Self::NotEnrolled { .. } => 2,
            _ => 1,
        }
    }

    /// The sentence with its causes, on one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            // Libraries often repeat their cause in their own message.
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said.replace('\n', " "));
            }
            cause = error.source();
        }
        text
    }
}
