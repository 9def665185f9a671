//! Who may sign orders for this host, by the host's own file.

use farol_protocol::{
    signing::{Operator, PublicKey, Role, SignatureAlgorithm, WebAuthn},
    yaml::Spanned,
};
use serde::Deserialize;

use super::{Mistake, mistake};

/// Longest name of an operator.
const MAX_NAME: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorRule {
    name: Spanned<String>,
    roles: Vec<Spanned<Role>>,
    keys: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebAuthnRule {
    rp_id: Spanned<String>,
    origin: Spanned<String>,
}

/// The operators and the passkeys' site, checked. One key is one person's, and
/// one person has one name: two signatures are to be of two people.
pub(super) fn check(
    rules: Vec<OperatorRule>,
    webauthn: Option<WebAuthnRule>,
) -> Result<(Vec<Operator>, Option<WebAuthn>), Mistake> {
    let webauthn = webauthn.map(WebAuthnRule::check).transpose()?;
    let mut operators: Vec<Operator> = Vec::with_capacity(rules.len());
    for rule in rules {
        let name = check_name(&rule.name)?;
        if operators.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(mistake(&rule.name, format!("the operator `{name}` is listed twice; join the entries")));
        }
        if rule.roles.is_empty() {
            return Err(mistake(&rule.name, format!("the operator `{name}` has no role; add `roles: [ops_lead]`")));
        }
        if rule.keys.is_empty() {
            return Err(mistake(
                &rule.name,
                format!("the operator `{name}` has no key; `farol operator export` prints it"),
            ));
        }
        let mut keys: Vec<PublicKey> = Vec::with_capacity(rule.keys.len());
        for text in &rule.keys {
            let key: PublicKey = text.value.parse().map_err(|error| mistake(text, format!("{error}")))?;
            let owner = operators.iter().find(|other| other.keys.iter().any(|known| known.id() == key.id()));
            if let Some(owner) = owner {
                return Err(mistake(
                    text,
                    format!("this key is that of `{}` already; a key is one person's", owner.name),
                ));
            }
            if keys.iter().any(|known| known.id() == key.id()) {
                return Err(mistake(text, "this key is listed twice".to_owned()));
            }
            if key.alg() == SignatureAlgorithm::WebauthnEs256 && webauthn.is_none() {
                let missing =
                    "a passkey needs `webauthn: {rp_id: farol.example.org, origin: \"https://farol.example.org\"}`";
                return Err(mistake(text, missing.to_owned()));
            }
            keys.push(key);
        }
        operators.push(Operator {
            name: name.to_owned(),
            roles: rule.roles.into_iter().map(|role| role.value).collect(),
            keys,
        });
    }
    Ok((operators, webauthn))
}

fn check_name(name: &Spanned<String>) -> Result<&str, Mistake> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if (1..=MAX_NAME).contains(&name.value.len()) && name.value.chars().all(allowed) {
        return Ok(&name.value);
    }
    Err(mistake(name, "an operator's name has 1 to 64 ASCII letters, digits and `._-@`".to_owned()))
}

impl WebAuthnRule {
    /// Browsers compare both literally, so a slash too many would refuse every
    /// passkey without saying why.
    fn check(self) -> Result<WebAuthn, Mistake> {
        let domain = |text: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            !text.is_empty() && text.chars().all(allowed)
        };
        let rp_id = self.rp_id.value.as_str();
        if !domain(rp_id) {
            return Err(mistake(&self.rp_id, format!("`{rp_id}` is not a domain name in lower case")));
        }
        let host =
            self.origin.value.strip_prefix("https://").map(|rest| rest.split_once(':').map_or(rest, |(host, _)| host));
        let below = |host: &str| host == rp_id || host.strip_suffix(rp_id).is_some_and(|rest| rest.ends_with('.'));
        let port = self.origin.value.rsplit_once(':').map_or("", |(_, port)| port);
        let port_is_sound = port.starts_with("//") || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        match host {
            Some(host) if domain(host) && below(host) && port_is_sound => {
                Ok(WebAuthn { rp_id: self.rp_id.value, origin: self.origin.value })
            }
            _ => Err(mistake(
                &self.origin,
                format!("the origin is `https://`, then `{rp_id}` or a name below it, and no path; a port may follow"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Policy;

    const KEY: &str = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const OTHER: &str = "ed25519:PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

    fn passkey() -> String {
        format!("webauthn-es256:BA{}", "A".repeat(85))
    }

    fn refused(text: &str) -> String {
        let text = format!("version: 1\n{text}");
        Policy::parse(Path::new("policy.yaml"), &text).expect_err(&text).sentence()
    }

    #[test]
    fn operators_are_read_with_their_roles_and_keys() {
        let text = format!(
            "version: 1\noperators:\n- {{name: ana, roles: [ops_lead, seo], keys: [{KEY}, {}]}}\n\
             - name: bia@example.org\n  roles: [technician]\n  keys:\n  - {OTHER}\n\
             webauthn: {{rp_id: example.org, origin: 'https://desk.example.org:8443'}}\n",
            passkey()
        );
        let policy = Policy::parse(Path::new("policy.yaml"), &text).expect("valid");
        assert_eq!(policy.operators.len(), 2);
        assert_eq!(policy.operators[0].keys.len(), 2);
        assert_eq!(policy.operators[0].keys[0].to_string(), KEY);
        assert_eq!(policy.webauthn.expect("given").origin, "https://desk.example.org:8443");
    }

    #[test]
    fn a_mistake_about_operators_is_named_with_its_place() {
        let passkey = passkey();
        for (text, place, part) in [
            (format!("operators:\n- {{name: ana, roles: [root], keys: [{KEY}]}}\n"), "3:23", "root"),
            (format!("operators:\n- {{name: 'a b', roles: [seo], keys: [{KEY}]}}\n"), "3:10", "ASCII letters"),
            (format!("operators:\n- {{name: ana, roles: [], keys: [{KEY}]}}\n"), "3:10", "no role"),
            ("operators:\n- {name: ana, roles: [seo], keys: []}\n".to_owned(), "3:10", "farol operator export"),
            ("operators:\n- {name: ana, roles: [seo]}\n".to_owned(), "3:15", "keys"),
            ("operators:\n- {name: ana, roles: [seo], keys: ['ed25519:AAAA']}\n".to_owned(), "3:36", "32 bytes"),
            ("operators:\n- {name: ana, roles: [seo], keys: [AAAA]}\n".to_owned(), "3:36", "begins with"),
            (format!("operators:\n- {{name: ana, roles: [seo], keys: [{KEY}, {KEY}]}}\n"), "3:89", "twice"),
            (format!("operators:\n- {{name: ana, roles: [seo], keys: ['{passkey}']}}\n"), "3:36", "webauthn:"),
            (format!("operators:\n- {{name: ana, roles: [seo], keys: [{KEY}], color: red}}\n"), "3:90", "color"),
            ("webauthn: {rp_id: 'https://x', origin: 'https://x'}\n".to_owned(), "2:19", "domain name"),
            ("webauthn: {rp_id: example.org, origin: 'https://example.org/'}\n".to_owned(), "2:40", "no path"),
            ("webauthn: {rp_id: example.org, origin: 'http://example.org'}\n".to_owned(), "2:40", "https://"),
            ("webauthn: {rp_id: example.org, origin: 'https://badexample.org'}\n".to_owned(), "2:40", "below it"),
            ("webauthn: {rp_id: example.org}\n".to_owned(), "2:12", "origin"),
        ] {
            let sentence = refused(&text);
            assert!(sentence.starts_with(&format!("policy.yaml:{place}: ")), "{text}: {sentence}");
            assert!(sentence.contains(part), "{text}: {sentence}");
        }
    }

    #[test]
    fn one_person_has_one_name_and_one_key_has_one_person() {
        let twice = refused(&format!(
            "operators:\n- {{name: ana, roles: [seo], keys: [{KEY}]}}\n- {{name: ANA, roles: [seo], keys: [{OTHER}]}}\n"
        ));
        assert!(twice.starts_with("policy.yaml:4:10: ") && twice.contains("listed twice"), "{twice}");
        let shared = refused(&format!(
            "operators:\n- {{name: ana, roles: [seo], keys: [{KEY}]}}\n- {{name: bia, roles: [seo], keys: [{KEY}]}}\n"
        ));
        assert!(shared.starts_with("policy.yaml:4:36: ") && shared.contains("`ana`"), "{shared}");
    }
}
