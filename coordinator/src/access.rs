//! Who may reach the API from where: origins of browsers, networks of senders,
//! and the token that senders of signals share.

use std::{net::IpAddr, path::PathBuf};

use farol_protocol::site::Cidr;
use hyper::header::HeaderValue;
use ring::hmac;

use crate::error::{Error, Result};

/// Names of the settings.
const ORIGINS: &str = "ATLAS_OPS_ALLOWED_ORIGINS";
const NETWORKS: &str = "FAROL_INGEST_NETWORKS";
const TOKEN: &str = "FAROL_SIGNALS_TOKEN";
const TOKEN_FILE: &str = "FAROL_SIGNALS_TOKEN_FILE";
/// A shorter token can be guessed.
const TOKEN_LENGTH: usize = 16;

/// What the configuration file may say about it.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) allowed_origins: Option<Vec<String>>,
    pub(crate) ingest_networks: Option<Vec<String>>,
    pub(crate) signals_token_file: Option<PathBuf>,
}

/// Who may reach the API from where. Not `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Access {
    /// Pages of which origins may call the API from a browser.
    pub origins: Origins,
    networks: Vec<Cidr>,
    signals_tokens: Vec<String>,
}

/// Whose connection a request came on. A proxy in between is the peer: what it
/// says in `X-Forwarded-For` is not trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Origins of pages in browsers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// Whatever this machine's own browser shows from this machine.
    #[default]
    Localhost,
    /// These.
    Listed(Vec<HeaderValue>),
}

impl Access {
    /// Puts environment and file together.
    ///
    /// # Errors
    /// A value is not what its setting takes, or the file of the token cannot
    /// be read.
    pub(crate) fn load(file: File, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let list = |name: &str, file: Option<Vec<String>>| match env(name) {
            Some(text) => {
                Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
            }
            None => file,
        };
        let origins = match list(ORIGINS, file.allowed_origins) {
            None => Origins::Localhost,
            Some(list) => Origins::Listed(list.iter().map(|origin| listed(origin)).collect::<Result<_>>()?),
        };
        let network = |text: &String| {
            text.parse().map_err(|error: farol_protocol::site::InvalidCidr| {
                Error::Config(format!("{NETWORKS}: {error}; separate several by commas"))
            })
        };
        let networks: Vec<String> = list(NETWORKS, file.ingest_networks).unwrap_or_default();
        let path = env(TOKEN_FILE).map(PathBuf::from).or(file.signals_token_file);
        let mut signals_tokens: Vec<String> = env(TOKEN).map(|token| token.trim().to_owned()).into_iter().collect();
        if let Some(path) = path {
            let text = crate::config::read(&path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            signals_tokens.extend(lines.map(str::to_owned));
        }
        if signals_tokens.iter().any(|token| token.len() < TOKEN_LENGTH || token.contains(char::is_whitespace)) {
            return Err(Error::Config(format!(
                "a token in {TOKEN} or {TOKEN_FILE} has white space or fewer than {TOKEN_LENGTH} characters; make one \
                 with `openssl rand -hex 32`"
            )));
        }
        Ok(Self { origins, networks: networks.iter().map(network).collect::<Result<_>>()?, signals_tokens })
    }

    /// Whether `peer` may post telemetry and signals.
    #[must_use]
    pub fn admits(&self, peer: Option<IpAddr>) -> bool {
        self.networks.is_empty() || peer.is_some_and(|peer| self.networks.iter().any(|network| network.contains(peer)))
    }

    /// What whoever is not admitted is told.
    #[must_use]
    pub fn not_admitted(peer: Option<IpAddr>) -> String {
        let from = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_canonical().to_string());
        format!("telemetry and signals are not taken from {from}; add its network to {NETWORKS} on the coordinator")
    }

    /// Whether a token is one that senders of signals share.
    #[must_use]
    pub fn is_signals_token(&self, presented: &str) -> bool {
        // All are compared, so that the time says nothing about which it was.
        self.signals_tokens
            .iter()
            .fold(false, |known, token| known | same_secret(token.as_bytes(), presented.as_bytes()))
    }
}

impl Origins {
    /// Whether a page of `origin` may call the API.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Listed(list) => list.contains(origin),
            Self::Localhost => origin
                .to_str()
                .ok()
                .and_then(host_of)
                .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")),
        }
    }
}

/// The host of an origin, without its port.
fn host_of(origin: &str) -> Option<&str> {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let good = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    (!host.is_empty() && port.is_none_or(good)).then_some(host)
}

/// An origin as browsers send it: scheme, host, perhaps a port, nothing else.
fn listed(origin: &str) -> Result<HeaderValue> {
    let is_host = |host: &str| {
        let name = |host: &str| host.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c));
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        v6.map_or_else(|| name(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok())
    };
    host_of(origin).filter(|host| is_host(host)).and_then(|_| HeaderValue::from_str(origin).ok()).ok_or_else(|| {
        Error::Config(format!(
            "{ORIGINS} holds `{}`, not an origin such as https://ops.example.org: scheme, host in lower case and port, \
             without a path; `*` is not taken",
            crate::text::plain(origin, 100)
        ))
    })
}

/// In a time that says nothing about where the two differ, or how long they are.
pub(crate) fn same_secret(configured: &[u8], presented: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, configured);
    let tag = hmac::sign(&key, configured);
    hmac::verify(&key, presented, tag.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Access> {
        Access::load(File::default(), |name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn refused(environment: &[(&str, &str)]) -> String {
        load(environment).err().expect("refused").to_string()
    }

    #[test]
    fn without_a_list_only_this_machines_pages_may_call() {
        let origins = load(&[]).expect("valid").origins;
        let may = |origin: &'static str| origins.allow(&HeaderValue::from_static(origin));
        for origin in ["http://localhost", "https://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:3000"] {
            assert!(may(origin), "{origin}");
        }
        for origin in [
            "null",
            "http://localhost.evil.example",
            "http://evil.example:80",
            "http://localhost:80@evil.example",
            "file://localhost",
            "http://",
            "http://localhost:",
        ] {
            assert!(!may(origin), "{origin}");
        }
    }

    #[test]
    fn a_list_replaces_it_and_a_bad_origin_is_a_mistake() {
        let origins = load(&[(ORIGINS, "https://ops.example.org, http://10.10.10.5:8000")]).expect("valid").origins;
        assert!(origins.allow(&HeaderValue::from_static("http://10.10.10.5:8000")));
        assert!(!origins.allow(&HeaderValue::from_static("http://localhost")));
        for bad in [
            "*",
            "ops.example.org",
            "https://ops.example.org/",
            "https://Ops.example.org",
            "https://a b",
            "https://*.example.org",
        ] {
            assert!(refused(&[(ORIGINS, bad)]).contains(ORIGINS), "{bad}");
        }
    }

    #[test]
    fn only_listed_networks_are_admitted_where_there_is_a_list() {
        let peer = |text: &str| Some(text.parse().expect("an address"));
        let open = load(&[]).expect("valid");
        assert!(open.admits(peer("203.0.113.9")) && open.admits(None));
        let closed = load(&[(NETWORKS, "10.10.10.0/24,fd00::/8")]).expect("valid");
        assert!(closed.admits(peer("10.10.10.9")) && closed.admits(peer("::ffff:10.10.10.9")));
        assert!(!closed.admits(peer("203.0.113.9")) && !closed.admits(None));
        assert!(refused(&[(NETWORKS, "lan")]).contains("`lan`"));
    }

    #[test]
    fn shared_tokens_come_from_the_environment_and_from_a_file_with_one_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        std::fs::write(&path, "# next\nsecond-secret-of-ours\n\nthird-secret-of-ours\n").expect("written");
        let path = path.to_str().expect("text");
        let access = load(&[(TOKEN, "first-secret-of-ours"), (TOKEN_FILE, path)]).expect("valid");
        for token in ["first-secret-of-ours", "second-secret-of-ours", "third-secret-of-ours"] {
            assert!(access.is_signals_token(token), "{token}");
        }
        for token in ["", "first-secret-of-our", "# next", "fourth-secret-of-ours"] {
            assert!(!access.is_signals_token(token), "{token}");
        }
        let said = refused(&[(TOKEN, "short")]);
        assert!(said.contains("16 characters") && !said.contains("`short`"), "{said}");
        assert!(!load(&[]).expect("valid").is_signals_token(""));
    }
}
