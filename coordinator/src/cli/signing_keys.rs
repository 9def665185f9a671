//! The keys with which people sign approvals. A private key is made where its
//! owner sits and stays there; only the public one is sent.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use farol_pki::files;
use farol_protocol::{
    PlanHash,
    signing::{PublicKey, Signature, SignatureAlgorithm, sign_ed25519},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{
    Connection,
    client::Client,
    lists::{text, time},
    output,
};
use crate::error::{Error, Result};

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8, version 1,
/// which openssl reads too.
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Makes a key, unless `file` holds one, and registers its public half.
pub(super) async fn add(to: &Connection, operator: &str, name: &str, file: Option<&Path>) -> Result<()> {
    let client = Client::new(to)?;
    let path = match file {
        Some(path) => path.to_owned(),
        None => default_path(name)?,
    };
    let made = !path.exists();
    if made {
        create(&path)?;
    }
    let (public, _) = Key::read(&path)?.sign(operator, &PlanHash::of(""))?;
    let body = json!({"operator": operator, "public": public.to_string()});
    let registered = client.post(&["operators", "keys"], &body).await;
    let (_, answer) = registered.map_err(|error| {
        Error::Refused(format!(
            "{error}; the key is in {}: run the same command again once that is mended, or let a super_admin register \
             its public half with `farol key register --operator {operator} {public}`",
            path.display()
        ))
    })?;
    if to.json {
        let mut answer = answer;
        answer["file"] = json!(path);
        return output::json(&answer);
    }
    output::line(&format!(
        "{} {} in {}; keep it to yourself.\nIts public half is registered for {operator} as {}.\n\
         Each host that is to take its signatures lists it in its policy; this prints the lines: farol operator export",
        if made { "Made the key" } else { "Took the key" },
        public.id(),
        path.display(),
        public.id()
    ))
}

/// Registers a public key that was made elsewhere.
pub(super) async fn register(to: &Connection, operator: &str, public: &PublicKey) -> Result<()> {
    let body = json!({"operator": operator, "public": public.to_string()});
    let (_, answer) = Client::new(to)?.post(&["operators", "keys"], &body).await?;
    if to.json {
        return output::json(&answer);
    }
    output::line(&format!("The key {} is registered for {operator}.", public.id()))
}

/// Lists the keys.
pub(super) async fn list(to: &Connection) -> Result<()> {
    let keys = keys(&Client::new(to)?).await?;
    if to.json {
        return output::json(&json!({"items": keys, "next_cursor": null}));
    }
    let rows = keys.iter().map(|key| {
        let field = |name| text(key, name);
        let state = if in_use(key) { "in use".to_owned() } else { format!("revoked {}", time(key, "revoked_at")) };
        vec![field("operator"), field("role"), field("key_id"), field("alg"), time(key, "created_at"), state]
    });
    output::table(&["OPERATOR", "ROLE", "KEY", "ALGORITHM", "ADDED", "STATE"], rows.collect())
}

/// Takes a key back.
pub(super) async fn revoke(to: &Connection, key_id: &str) -> Result<()> {
    let (_, answer) = Client::new(to)?.post(&["operators", "keys", key_id, "revoke"], &json!({})).await?;
    if to.json {
        return output::json(&answer);
    }
    output::line(&format!(
        "The key {key_id} is revoked here. Hosts take its signatures until it is out of their policy files: \
         remove it there."
    ))
}

/// Prints the operators as a host's policy lists them.
pub(super) async fn export(to: &Connection) -> Result<()> {
    let client = Client::new(to)?;
    let operators = operators(&keys(&client).await?);
    if operators.is_empty() {
        return Err(Error::Refused("no operator has a key in use; make one with `farol key add`".to_owned()));
    }
    let door: Value = client.get(&["session"], &[]).await?;
    let passkeys = &door["passkeys"];
    let with_passkeys = passkeys["available"] == true && has_passkeys(&operators);
    if to.json {
        let webauthn = with_passkeys.then(|| json!({"rp_id": passkeys["rp_id"], "origin": passkeys["origin"]}));
        return output::json(&json!({"operators": operators, "webauthn": webauthn}));
    }
    eprintln!(
        "Compare each key's id, in the comment, with what its owner sees in `farol key list`, before you paste this."
    );
    let mut text = yaml(&operators);
    if with_passkeys {
        let (rp_id, origin) = (quoted(&passkeys["rp_id"]), quoted(&passkeys["origin"]));
        text.push_str(&format!("webauthn: {{rp_id: {rp_id}, origin: {origin}}}\n"));
    }
    output::line(text.trim_end())
}

fn has_passkeys(operators: &[Value]) -> bool {
    let keys = operators.iter().flat_map(|operator| operator["keys"].as_array().into_iter().flatten());
    keys.filter_map(Value::as_str).any(|key| key.starts_with(SignatureAlgorithm::WebauthnEs256.as_str()))
}

/// The signature with the key in `file`, under the name it is registered for.
pub(super) async fn sign(client: &Client, file: &Path, plan_hash: &PlanHash) -> Result<Signature> {
    let key = Key::read(file)?;
    let (public, _) = key.sign("", plan_hash)?;
    let keys = keys(client).await?;
    let own = keys.iter().find(|key| key["key_id"] == public.id() && in_use(key)).ok_or_else(|| {
        Error::Refused(format!(
            "the key {} in {} is not registered, or was revoked; register it with `farol key add --operator NAME --file {}`",
            public.id(),
            file.display(),
            file.display()
        ))
    })?;
    Ok(key.sign(&text(own, "operator"), plan_hash)?.1)
}

async fn keys(client: &Client) -> Result<Vec<Value>> {
    let list: Value = client.get(&["operators", "keys"], &[]).await?;
    match &list["items"] {
        Value::Array(items) => Ok(items.clone()),
        _ => Err(Error::Refused("the coordinator does not know of keys; update it".to_owned())),
    }
}

fn in_use(key: &Value) -> bool {
    key["revoked_at"].is_null()
}

/// Operators with a role and a key in use; the server lists their keys together.
fn operators(keys: &[Value]) -> Vec<Value> {
    let mut operators: Vec<Value> = Vec::new();
    for key in keys.iter().filter(|key| in_use(key) && key["role"].is_string()) {
        match operators.iter_mut().find(|operator| operator["name"] == key["operator"]) {
            Some(operator) => {
                if let Some(list) = operator["keys"].as_array_mut() {
                    list.push(key["public"].clone());
                }
            }
            None => operators.push(json!({"name": key["operator"], "roles": [key["role"]], "keys": [key["public"]]})),
        }
    }
    operators
}

/// Every text is quoted: what the coordinator answers is pasted into a file
/// that decides whom a host obeys.
fn quoted(value: &Value) -> String {
    let clean: String = value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", clean.replace('\'', "''"))
}

fn yaml(operators: &[Value]) -> String {
    let mut text = String::from("operators:\n");
    for operator in operators {
        text.push_str(&format!("- name: {}\n", quoted(&operator["name"])));
        text.push_str(&format!("  roles: [{}]\n  keys:\n", quoted(&operator["roles"][0])));
        for key in operator["keys"].as_array().into_iter().flatten() {
            let id = key.as_str().and_then(|key| key.parse::<PublicKey>().ok()).map(|key| key.id());
            text.push_str(&format!("  - {} # {}\n", quoted(key), id.unwrap_or_default()));
        }
    }
    text
}

/// An Ed25519 private key. Not `Debug`: it is a secret.
struct Key {
    path: PathBuf,
    pkcs8: PrivatePkcs8KeyDer<'static>,
}

impl Key {
    fn read(path: &Path) -> Result<Self> {
        let pem = files::read_private(path)?;
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Self::unusable(path))?;
        Ok(Self { path: path.to_owned(), pkcs8 })
    }

    fn sign(&self, operator: &str, plan_hash: &PlanHash) -> Result<(PublicKey, Signature)> {
        sign_ed25519(self.pkcs8.secret_pkcs8_der(), operator, plan_hash).map_err(|_| Self::unusable(&self.path))
    }

    fn unusable(path: &Path) -> Error {
        Error::Config(format!(
            "{} holds no Ed25519 private key in PEM (PKCS#8); `farol key add` makes one",
            path.display()
        ))
    }
}

fn create(path: &Path) -> Result<()> {
    let mut seed = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    let der = [PKCS8_ED25519.as_slice(), &seed].concat();
    // 48 bytes are one line of 64 characters.
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&der));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::private_dir(folder)?;
    }
    Ok(files::write_private(path, pem.as_bytes())?)
}

fn default_path(name: &str) -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    folder
        .map(|folder| folder.join("farol").join(format!("{name}.pem")))
        .ok_or_else(|| Error::Config("HOME is not set; say with --file where the key is to be".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_key_is_its_owners_alone_signs_and_is_not_replaced_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/ana.pem");
        create(&path).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let hash = PlanHash::of("plan");
        let (public, signature) = Key::read(&path).expect("read").sign("ana", &hash).expect("signed");
        assert_eq!(farol_protocol::signing::verify(&public, &signature, &hash, None), Ok(()));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Key::read(&path).is_err(), "a key that others can read was used");
        let other = folder.path().join("other.pem");
        files::write_private(&other, b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
            .expect("written");
        let error = Key::read(&other).and_then(|key| key.sign("ana", &hash).map(|_| ())).expect_err("no Ed25519 key");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_export_is_what_a_hosts_policy_takes() {
        let key = |operator: &str, role: Value, public: &str, revoked: Value| json!({"operator": operator, "role": role, "public": public, "revoked_at": revoked});
        let one = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let two = "ed25519:PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
        let keys = [
            key("ana", json!("ops_lead"), one, Value::Null),
            key("ana", json!("ops_lead"), two, Value::Null),
            key("bia", json!("super_admin"), one, json!("2026-11-20T12:00:00Z")),
            key("eva", Value::Null, one, Value::Null),
        ];
        let text = yaml(&operators(&keys));
        assert_eq!(
            text,
            format!(
                "operators:\n- name: 'ana'\n  roles: ['ops_lead']\n  keys:\n  - '{one}' # 21fe31dfa154a261\n  - '{two}' # 39f713d0a644253f\n"
            )
        );
        let policy = farol_agent::policy::Policy::parse(Path::new("policy.yaml"), &format!("version: 1\n{text}"));
        let policy = policy.expect("a policy");
        assert_eq!(policy.operators[0].keys.len(), 2);
        let hostile = [key("a'\n- name: b", json!("x"), one, Value::Null)];
        assert_eq!(yaml(&operators(&hostile)).lines().filter(|line| line.starts_with("- name:")).count(), 1);
    }
}
