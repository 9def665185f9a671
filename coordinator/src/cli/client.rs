//! A client of the API.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Connection;
use crate::{
    config,
    error::{Error, Result},
    text::plain,
};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A coordinator to talk to.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: HeaderValue,
}

impl Client {
    /// Finds the address and the token.
    pub(super) fn new(to: &Connection) -> Result<Self> {
        let base = Url::parse(&to.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .ok_or_else(|| Error::Config(format!("`{}` is not an address such as http://127.0.0.1:8180", to.url)))?;
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A token goes where it was sent to and nowhere else.
            .redirect(reqwest::redirect::Policy::none());
        if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Error::Refused(format!("the HTTP client did not start: {error}")))?;
        Ok(Self { http, base, token: token(to)? })
    }

    /// Reads one document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let request = self.http.request(Method::GET, self.address(path)?).query(query);
        self.send(request).await.map(|(_, document)| document)
    }

    /// Reads one document beside the API's own version.
    pub(super) async fn get_at<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let request = self.http.request(Method::GET, self.address_at(path)?).query(query);
        self.send(request).await.map(|(_, document)| document)
    }

    /// Reads what is no document.
    pub(super) async fn bytes(&self, path: &[&str]) -> Result<Vec<u8>> {
        let request = self.http.request(Method::GET, self.address(path)?);
        self.answer(request).await.map(|(_, bytes)| bytes)
    }

    /// Reads every page of a list.
    pub(super) async fn all(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<Value>> {
        #[derive(serde::Deserialize)]
        struct Page {
            items: Vec<Value>,
            next_cursor: Option<String>,
        }
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "200"));
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let page: Page = self.get(path, &query).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Sends a document. Answers the status too.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<(u16, Value)> {
        self.send(self.http.request(Method::POST, self.address(path)?).json(body)).await
    }

    /// Changes a part of what is there.
    pub(super) async fn patch(&self, path: &[&str], body: &Value) -> Result<Value> {
        let request = self.http.request(Method::PATCH, self.address(path)?).json(body);
        self.send(request).await.map(|(_, document)| document)
    }

    /// Ends what is there. Answers what it was.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<Value> {
        let request = self.http.request(Method::DELETE, self.address(path)?);
        self.send(request).await.map(|(_, document)| document)
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<(u16, T)> {
        let (status, bytes) = self.answer(request).await?;
        let document = serde_json::from_slice(&bytes).map_err(|_| {
            Error::Refused(format!("{} does not answer like a coordinator; check the address", self.base))
        })?;
        Ok((status, document))
    }

    /// What answers a request that was not refused.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>)> {
        let response =
            request.header(AUTHORIZATION, self.token.clone()).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(refusal(status.as_u16(), &bytes));
        }
        Ok((status.as_u16(), bytes.to_vec()))
    }

    fn address(&self, path: &[&str]) -> Result<Url> {
        self.address_at(&[&["api", "v1"], path].concat())
    }

    fn address_at(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Config(format!("`{}` cannot be an address of the API", self.base)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut cause = error.source();
        let mut words = String::new();
        while let Some(next) = cause {
            words = format!(" ({next})");
            cause = next.source();
        }
        Error::Refused(format!(
            "cannot reach the coordinator at {}{words}; check that it runs, or give its address with --url",
            self.base
        ))
    }
}

fn token(to: &Connection) -> Result<HeaderValue> {
    let token = match &to.token_file {
        Some(path) => config::read(path)?,
        None => std::env::var("FAROL_TOKEN").unwrap_or_default(),
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(Error::Config(
            "no API token: set FAROL_TOKEN or give --token-file; `farol token create` makes one".to_owned(),
        ));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Error::Config("the API token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a problem document says, in one line.
fn refusal(status: u16, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    Error::Refused(match (problem["detail"].as_str(), problem["code"].as_str()) {
        (Some(detail), Some(code)) => format!("{} ({})", plain(detail, 2000), plain(code, 64)),
        _ => format!("the coordinator answered with status {status} and no reason; check the address"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "farol_abc\n").expect("written");
        farol_pki::install_default_provider();
        Client::new(&Connection { url: url.to_owned(), token_file: Some(file), json: false })
    }

    #[test]
    fn parts_of_a_path_stay_parts() {
        let client = client("http://127.0.0.1:8180/").expect("valid");
        let url = client.address(&["agents", "runs", "a/../b?c"]).expect("valid");
        assert_eq!(url.as_str(), "http://127.0.0.1:8180/api/v1/agents/runs/a%2F..%2Fb%3Fc");
        assert_eq!(client.token, "Bearer farol_abc");
    }

    #[test]
    fn an_address_that_is_none_is_wrong_usage() {
        for url in ["127.0.0.1:8180", "ftp://x", "http://"] {
            let error = client(url).err().expect("refused");
            assert_eq!(error.exit_code(), 2, "{url}");
        }
    }

    #[test]
    fn a_problem_is_shown_with_its_code() {
        let body = br#"{"detail":"action is done","code":"stale"}"#;
        assert_eq!(refusal(409, body).to_string(), "action is done (stale)");
        assert!(refusal(502, b"<html>").to_string().contains("status 502"));
    }
}
