//! Where the coordinator listens.

use std::{fmt, str::FromStr};

use farol_protocol::SOUTHBOUND_PATH;
use hyper::Uri;

use crate::Error;

const DEFAULT_PORT: u16 = 8192;

/// Host and port of a coordinator's southbound listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Name or address, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as in a Host header.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Address of the WebSocket.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("wss://{}{SOUTHBOUND_PATH}", self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wss://{}", self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Usage(format!("`{text}` is not a coordinator's address; use wss://HOST:{DEFAULT_PORT}"));
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let known = matches!(uri.scheme_str(), Some("wss" | "https"))
            && matches!(uri.path(), "" | "/" | SOUTHBOUND_PATH)
            && uri.query().is_none()
            && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !known {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(DEFAULT_PORT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let endpoint: Endpoint = "wss://farol.example:9000".parse().expect("valid");
        assert_eq!(endpoint.socket_url(), "wss://farol.example:9000/southbound/v1");
        let endpoint: Endpoint = "wss://[::1]/southbound/v1".parse().expect("valid");
        assert_eq!((endpoint.host(), endpoint.authority().as_str()), ("::1", "[::1]:8192"));
        for bad in ["", "farol.example", "ws://farol.example", "wss://a/b", "wss://u:p@a", "wss://a?b=c"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }
}
