//! The northbound API as a test sees it: JSON in, JSON out.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A client with one token.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

impl Api {
    /// Of the coordinator at `base`, such as `http://127.0.0.1:8180`.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(base: &str, token: Option<&str>) -> Result<Self> {
        farol_pki::install_default_provider();
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { client, base: base.to_owned(), token: token.map(str::to_owned) })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Its base address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request with one more header, whose answer need not be JSON.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn raw(&self, method: Method, path: &str, header: Option<(&str, &str)>) -> Result<(StatusCode, String)> {
        let mut request = self.request(method, path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = request.send().await.with_context(|| format!("call {path}"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// A request whose refusal is an answer too.
    ///
    /// # Errors
    /// There was no answer, or not in JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("call {path}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        let value = serde_json::from_str(&text).with_context(|| format!("{path} answered {status}: {text}"))?;
        Ok((status, value))
    }

    /// GET that must succeed.
    ///
    /// # Errors
    /// It did not.
    pub async fn get(&self, path: &str) -> Result<Value> {
        expect(path, self.call(Method::GET, path, None).await?)
    }

    /// POST that must succeed.
    ///
    /// # Errors
    /// It did not.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        expect(path, self.call(Method::POST, path, Some(body)).await?)
    }

    /// The `items` of a list.
    ///
    /// # Errors
    /// It did not succeed, or is no list.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path).await?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("{path} answered no list"),
        }
    }

    /// Approves an action as it stands.
    ///
    /// # Errors
    /// It is not there or cannot be approved.
    pub async fn approve(&self, action_id: &str) -> Result<Value> {
        let path = format!("/api/v1/actions/{action_id}");
        let action = self.get(&path).await?;
        let body = json!({"plan_hash": action["plan_hash"], "comment": "ok"});
        self.post(&format!("{path}/approve"), body).await
    }

    /// Proposes a command.
    ///
    /// # Errors
    /// It was refused.
    pub async fn propose_command(&self, host: &str, command: &str, args: &[&str]) -> Result<String> {
        let body = json!({
            "host": host,
            "kind": "command.exec",
            "params": {"command": command, "args": args, "timeout": 30_000},
            "reason": "test",
        });
        let action = self.post("/api/v1/actions", body).await?;
        Ok(action["action_id"].as_str().context("no action_id")?.to_owned())
    }
}

fn expect(path: &str, (status, value): (StatusCode, Value)) -> Result<Value> {
    if !status.is_success() {
        bail!("{path} answered {status}: {value}");
    }
    Ok(value)
}
