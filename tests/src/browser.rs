//! A person at a browser, as far as the API sees one: cookies, and the page
//! that asks.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use reqwest::{Client, Method, Response, header};
use serde_json::{Value, json};

/// A browser with its cookies.
#[derive(Clone)]
pub struct Browser {
    client: Client,
    base: String,
    /// The page's origin; none for what is no page.
    pub origin: Option<String>,
    /// Cookies by name.
    pub cookies: BTreeMap<String, String>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answered {
    /// Status.
    pub status: u16,
    /// JSON, or null.
    pub body: Value,
    /// What was answered, as text.
    pub text: String,
    /// Cookies as they were set.
    pub set: Vec<String>,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Browser {
    /// A fresh one, on the coordinator's own page.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(base: &str) -> Result<Self> {
        farol_pki::install_default_provider();
        let client = Client::builder().no_proxy().timeout(std::time::Duration::from_secs(60)).build()?;
        Ok(Self { client, base: base.to_owned(), origin: Some(base.to_owned()), cookies: BTreeMap::new() })
    }

    /// A fresh one whose address is `from`, another one of this machine.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn from(base: &str, from: std::net::IpAddr) -> Result<Self> {
        let fresh = Self::new(base)?;
        let client = Client::builder().no_proxy().timeout(std::time::Duration::from_secs(60)).local_address(from);
        Ok(Self { client: client.build()?, ..fresh })
    }

    /// The same on another page; none for what is no page.
    #[must_use]
    pub fn on(&self, origin: Option<&str>) -> Self {
        Self { origin: origin.map(str::to_owned), ..self.clone() }
    }

    /// The same with other cookies.
    #[must_use]
    pub fn with_cookies(&self, cookies: BTreeMap<String, String>) -> Self {
        Self { cookies, ..self.clone() }
    }

    /// A fresh one that trusts nobody but the certificate `pem`.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn trusting(base: &str, pem: &str) -> Result<Self> {
        farol_pki::install_default_provider();
        let trusted = [reqwest::Certificate::from_pem(pem.as_bytes())?];
        let client = Client::builder().no_proxy().timeout(std::time::Duration::from_secs(60));
        let client = client.tls_certs_only(trusted).build()?;
        Ok(Self { client, ..Self::new(base)? })
    }

    /// Asks, and leaves the answer's body to be read.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn open(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(origin) = &self.origin {
            request = request.header(header::ORIGIN, origin);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.with_context(|| format!("call {path}"))
    }

    /// Asks and takes the cookies of the answer.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Result<Answered> {
        let response = self.open(method, path, body.as_ref()).await?;
        self.take(response).await
    }

    async fn take(&mut self, response: Response) -> Result<Answered> {
        let status = response.status().as_u16();
        let values = response.headers().get_all(header::SET_COOKIE).iter();
        let set: Vec<String> = values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        for cookie in &set {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
            let (name, value) = pair.context("a cookie without a name")?;
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await?;
        Ok(Answered { status, body: serde_json::from_str(&text).unwrap_or_default(), text, set, retry_after })
    }

    /// Sends a form.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn form(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answered> {
        let mut url = reqwest::Url::parse("http://form/")?;
        url.query_pairs_mut().extend_pairs(fields);
        let request = self.client.post(format!("{}{path}", self.base));
        // As from a page that sends no referrer.
        let request = request.header(header::ORIGIN, "null");
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = request.body(url.query().unwrap_or_default().to_owned()).send().await?;
        self.take(response).await
    }

    /// GET.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn get(&mut self, path: &str) -> Result<Answered> {
        self.call(Method::GET, path, None).await
    }

    /// POST.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn post(&mut self, path: &str, body: Value) -> Result<Answered> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Signs in by password.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn sign_in(&mut self, name: &str, password: &str) -> Result<Answered> {
        self.post("/api/v1/session", json!({"name": name, "password": password})).await
    }
}
