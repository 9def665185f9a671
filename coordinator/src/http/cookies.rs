//! The two cookies: the session, and the browser that has signed somebody in
//! before. No script reads them, no other site's page sends them, and what
//! changes something is taken from our own pages only.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{access::Origins, app::Shared, config::Config, integrations::Secret, people::Typed};

/// How long a browser stays known, in seconds.
const DEVICE_LASTS_S: u64 = 180 * 86_400;

/// `__Host-`: for this name and https only, whatever other pages set.
const fn session_name(https: bool) -> &'static str {
    if https { "__Host-farol" } else { "farol" }
}

const fn device_name(https: bool) -> &'static str {
    if https { "__Host-farol-device" } else { "farol-device" }
}

fn read(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
}

/// The session's secret.
pub(super) fn session(config: &Config, headers: &HeaderMap) -> Option<Secret> {
    read(headers, session_name(config.is_https())).map(Secret::new)
}

/// The browser's secret.
pub(super) fn device(config: &Config, headers: &HeaderMap) -> Option<Typed> {
    read(headers, device_name(config.is_https())).map(Typed::new)
}

fn cookie(https: bool, name: &str, value: &str, max_age_s: u64) -> Option<HeaderValue> {
    let secure = if https { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Sets the session.
pub(super) fn set_session(config: &Config, secret: &Secret) -> Option<HeaderValue> {
    let https = config.is_https();
    cookie(https, session_name(https), secret.expose(), config.sessions.lifetime.as_secs())
}

/// Sets the browser.
pub(super) fn set_device(config: &Config, secret: &Secret) -> Option<HeaderValue> {
    let https = config.is_https();
    cookie(https, device_name(https), secret.expose(), DEVICE_LASTS_S)
}

/// Forgets the session.
pub(super) fn clear_session(config: &Config) -> Option<HeaderValue> {
    let https = config.is_https();
    cookie(https, session_name(https), "", 0)
}

/// Whether a request that changes something comes from a page of ours, as its
/// browser says: every browser tells it, and no page can change what it tells.
pub(super) fn from_our_page(app: &Shared, headers: &HeaderMap) -> bool {
    let public = app.config.public_url.as_deref().and_then(|url| reqwest::Url::parse(url).ok());
    let public = public.map(|url| url.origin().ascii_serialization());
    ours(headers, public.as_deref(), &app.config.access.origins)
}

fn ours(headers: &HeaderMap, public: Option<&str>, origins: &Origins) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    };
    // Any page of this machine may call with a token; with a cookie only those
    // that are named.
    if matches!(origins, Origins::Listed(list) if list.contains(origin)) {
        return true;
    }
    let Ok(origin) = origin.to_str() else { return false };
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    public == Some(origin) || (authority.is_some() && authority == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(*name, HeaderValue::from_static(value));
            headers
        })
    }

    #[test]
    fn only_our_own_pages_change_something() {
        let public = Some("https://farol.example.org");
        let listed = Origins::Listed(vec![HeaderValue::from_static("https://desk.example.org")]);
        for (pairs, good) in [
            (&[("origin", "https://farol.example.org"), ("host", "10.0.0.1:8180")][..], true),
            (&[("origin", "http://127.0.0.1:8180"), ("host", "127.0.0.1:8180")], true),
            (&[("origin", "https://desk.example.org"), ("host", "x")], true),
            (&[("origin", "http://127.0.0.1:3000"), ("host", "127.0.0.1:8180")], false),
            (&[("origin", "https://evil.example"), ("host", "farol.example.org")], false),
            (&[("origin", "https://farol.example.org.evil.example"), ("host", "farol.example.org")], false),
            (&[("origin", "null"), ("host", "null")], false),
            (&[("host", "farol.example.org")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], false),
        ] {
            assert_eq!(ours(&headers(pairs), public, &listed), good, "{pairs:?}");
        }
        let pairs = [("origin", "http://localhost:5173"), ("host", "localhost:8180")];
        assert!(!ours(&headers(&pairs), None, &Origins::Localhost), "another program of this machine");
    }

    #[test]
    fn a_cookie_is_found_among_others_and_hidden_from_scripts_and_other_sites() {
        let headers = headers(&[("cookie", "a=b; farol=one"), ("cookie", "__Host-farol=two; farol-device=")]);
        assert_eq!(read(&headers, "farol").as_deref(), Some("one"));
        assert_eq!(read(&headers, "__Host-farol").as_deref(), Some("two"));
        assert_eq!(read(&headers, "farol-device"), None);
        let set = cookie(true, session_name(true), "x", 5).expect("made");
        assert!(set.is_sensitive());
        let text = set.to_str().expect("text");
        assert_eq!(text, "__Host-farol=x; Path=/; HttpOnly; SameSite=Strict; Max-Age=5; Secure");
        assert!(!cookie(false, "farol", "x", 5).expect("made").to_str().expect("text").contains("Secure"));
    }
}
