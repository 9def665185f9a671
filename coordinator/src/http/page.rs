//! Pages that the coordinator serves by itself, without the Desk: nothing from
//! elsewhere, no script but the page's own, kept in no cache, in no frame.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;
use farol_protocol::Language;

use crate::{notify::matrix::html, text::say};

const STYLE: &str = "body{font:18px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1b1f24}\
main{max-width:34rem;margin:0 auto;padding:1.5rem}h1{font-size:1.35rem;line-height:1.3;overflow-wrap:anywhere}\
dl{background:#fff;border-radius:.75rem;padding:1rem;margin:1rem 0}dt{color:#57606a;font-size:.85rem}\
dd{margin:0 0 .6rem;overflow-wrap:anywhere}button{width:100%;min-height:3.5rem;font:inherit;font-weight:600;border:0;\
border-radius:.75rem;background:#0b57d0;color:#fff}p.small{color:#57606a;font-size:.85rem}\
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}dl{background:#161b22}\
dt,p.small{color:#9aa4af}}";

/// What pages of a kind share.
pub(super) struct Page {
    style: String,
    script: Option<&'static str>,
    policy: HeaderValue,
}

impl Page {
    /// `style` is added to that of all pages; `script` stands at the end.
    pub(super) fn new(style: &str, script: Option<&'static str>) -> Self {
        let hash = |text: &str| BASE64.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
        let style = format!("{STYLE}{style}");
        let scripts = script.map_or_else(String::new, |script| format!(" script-src 'sha256-{}';", hash(script)));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}';{scripts} form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
            hash(&style)
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { style, script, policy }
    }

    /// A page. `heading` and `text` are plain text, `rest` is HTML.
    pub(super) fn answer(
        &self,
        language: Language,
        status: StatusCode,
        heading: &str,
        text: &str,
        rest: &str,
    ) -> Response {
        let tag = say!(language, "pt-BR", "en");
        let (heading, text, style) = (html(heading), html(text), &self.style);
        let script = self.script.map_or_else(String::new, |script| format!("<script>{script}</script>"));
        let body = format!(
            "<!doctype html><html lang=\"{tag}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Farol: {heading}</title>\
             <style>{style}</style></head><body><main><h1>{heading}</h1><p>{text}</p>{rest}{script}</main></body></html>"
        );
        let fixed = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
        ];
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}
