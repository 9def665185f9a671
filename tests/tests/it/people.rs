//! People: how they get in, what keeps others out, and that approvals count
//! people and not what they act with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farol_tests::{
    Browser, Site, process,
    signer::{Ceremony, Passkey},
    totp, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{QUIET, append, count};

const PASSWORD: &str = "planted correct horse";
const LIMIT: Duration = Duration::from_secs(30);

async fn user(site: &Site, name: &str, role: &str) -> Value {
    let mut command = site.farol(&["user", "add", name, "--role", role, "--json"]).unwrap();
    process::json_with_input(&mut command, &format!("{PASSWORD}\n")).await.unwrap()
}

/// Somebody with an account who has signed in.
async fn somebody(site: &Site, name: &str, role: &str) -> Browser {
    user(site, name, role).await;
    signed_in(site, name).await
}

async fn signed_in(site: &Site, name: &str) -> Browser {
    let mut browser = Browser::new(site.api().base()).unwrap();
    let answer = browser.sign_in(name, PASSWORD).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text);
    browser
}

async fn record(site: &Site) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = site.api().get(&format!("/api/v1/agents/action-log?limit=200{cursor}")).await.unwrap();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_account_is_made_once_by_the_link_in_the_log() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let log = site.coordinator().unwrap().log();
    let links: Vec<String> = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["first_run.url"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(links.len(), 1, "{log:?}");
    let (page, secret) = links[0].split_once('#').unwrap();
    assert_eq!(page, format!("{}/first-run", site.api().base()));
    let mut browser = Browser::new(site.api().base()).unwrap();
    assert_eq!(browser.get("/api/v1/session").await.unwrap().body["first_run"], true);
    // Opening it changes nothing, however often.
    for _ in 0..2 {
        let page = browser.get("/first-run").await.unwrap();
        assert_eq!(page.status, 200);
        assert!(!page.text.contains(secret));
    }
    let fields = |token: &'static str, again: &'static str| {
        let token = if token.is_empty() { secret.to_owned() } else { token.to_owned() };
        [("token", token), ("name", "ana".to_owned()), ("password", PASSWORD.to_owned()), ("again", again.to_owned())]
    };
    for (token, again, status) in [("first_0", PASSWORD, 403), ("", "another password", 422), ("", PASSWORD, 201)] {
        let fields = fields(token, again);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(browser.form("/first-run", &fields).await.unwrap().status, status);
    }
    let fields = fields("", PASSWORD);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(browser.form("/first-run", &fields).await.unwrap().status, 410, "the link made a second account");
    assert_eq!(browser.get("/first-run").await.unwrap().status, 410);
    let view = browser.sign_in("ana", PASSWORD).await.unwrap();
    assert_eq!((view.status, &view.body["role"], &view.body["first_run"]), (201, &json!("super_admin"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_cookie_that_other_pages_cannot_use_and_that_ends() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "ops_lead").await;
    let first = ana.cookies["farol"].clone();
    let again = ana.sign_in("Ana", PASSWORD).await.unwrap();
    let cookie = again.set.iter().find(|cookie| cookie.starts_with("farol=")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let old = ana.with_cookies([("farol".to_owned(), first)].into());
    assert_eq!(old.open(Method::GET, "/api/v1/hosts", None).await.unwrap().status(), 401, "the old secret lives on");

    let view = ana.get("/api/v1/session").await.unwrap().body;
    assert_eq!((&view["name"], &view["person"], &view["role"]), (&json!("ana"), &json!("ana"), &json!("ops_lead")));
    assert_eq!(view["passkeys"]["available"], false);
    assert!(view["passkeys"]["why"].as_str().unwrap().contains("FAROL_PUBLIC_URL"), "{view}");

    // Pages of others, and of other programs on this machine.
    let silence = json!({"host": "vm112", "ttl": "1h", "comment": "x"});
    let path = "/api/v1/silences";
    for origin in [None, Some("https://evil.example"), Some("null"), Some("http://127.0.0.1:1")] {
        let page = ana.on(origin);
        let refused = page.open(Method::POST, path, Some(&silence)).await.unwrap();
        assert_eq!(refused.status(), 403, "{origin:?}");
        assert!(refused.text().await.unwrap().contains("origin_not_allowed"));
    }
    let body = json!({"name": "ana", "password": PASSWORD});
    let login = ana.on(Some("https://evil.example"));
    assert_eq!(login.open(Method::POST, "/api/v1/session", Some(&body)).await.unwrap().status(), 403);
    let own = ana.post(path, silence).await.unwrap();
    assert_ne!((own.status, own.body["code"].as_str()), (403, Some("origin_not_allowed")), "{}", own.text);

    // Another browser's session is listed and ended; so is one's own.
    let mut other = signed_in(&site, "ana").await;
    let list = ana.get("/api/v1/sessions").await.unwrap().body;
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    let id = list["items"][0]["id"].as_str().unwrap();
    let mut rui = somebody(&site, "rui", "devops").await;
    assert_eq!(rui.call(Method::DELETE, &format!("/api/v1/sessions/{id}"), None).await.unwrap().status, 404);
    assert_eq!(rui.get("/api/v1/sessions?user=ana").await.unwrap().status, 403);
    assert_eq!(ana.call(Method::DELETE, &format!("/api/v1/sessions/{id}"), None).await.unwrap().status, 204);
    assert_eq!(other.get("/api/v1/hosts").await.unwrap().status, 401);
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 200);
    let gone = ana.clone();
    assert_eq!(ana.call(Method::DELETE, "/api/v1/session", None).await.unwrap().status, 200);
    assert!(!ana.cookies.contains_key("farol"));
    assert_eq!(gone.open(Method::GET, "/api/v1/hosts", None).await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_the_api_speaks_tls_and_its_cookies_are_for_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (process::text(&cert), process::text(&key));
    let site = Site::start(QUIET, &[("FAROL_HTTP_TLS_CERT", &cert), ("FAROL_HTTP_TLS_KEY", &key)]).await.unwrap();
    user(&site, "ana", "ops_lead").await;
    assert!(site.api().get("/api/v1/agents/health").await.is_err(), "it answers without TLS");
    let base = site.api().base().replace("http://", "https://");
    let mut ana = Browser::trusting(&base, &made.cert.pem()).unwrap();
    let begun = ana.sign_in("ana", PASSWORD).await.unwrap();
    assert_eq!(begun.status, 201, "{}", begun.text);
    assert!(
        begun.set.iter().all(|cookie| cookie.starts_with("__Host-farol") && cookie.contains("Secure")),
        "{begun:?}"
    );
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 200);
    // A plain cookie of the same name, which a page without TLS could set, is not looked at.
    let session = ana.cookies.remove("__Host-farol").unwrap();
    ana.cookies.insert("farol".to_owned(), session);
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_idles_and_at_the_latest_with_its_lifetime() {
    for (name, limits, path) in [
        ("idle", [("FAROL_SESSION_IDLE", "3s"), ("FAROL_SESSION_LIFETIME", "7d")], "/api/v1/session"),
        ("lifetime", [("FAROL_SESSION_IDLE", "3s"), ("FAROL_SESSION_LIFETIME", "3s")], "/api/v1/session"),
    ] {
        let site = Site::start(QUIET, &limits).await.unwrap();
        let ana = somebody(&site, "ana", "seo").await;
        wait_until(&format!("the session to end: {name}"), LIMIT, async || {
            let view: Value = ana.open(Method::GET, path, None).await?.json().await?;
            Ok((view["why"] == "session_expired").then_some(()))
        })
        .await
        .unwrap();
        let refused: Value = ana.open(Method::GET, "/api/v1/hosts", None).await.unwrap().json().await.unwrap();
        assert_eq!(refused["code"], "session_expired");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_answered_alike_and_delay_their_network_but_not_a_known_browser() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "ops_lead").await;
    let mut stranger = Browser::new(site.api().base()).unwrap();
    let wrong = stranger.sign_in("ana", "not the password").await.unwrap();
    let nobody = stranger.sign_in("nobody", "not the password").await.unwrap();
    assert_eq!((wrong.status, &wrong.body), (401, &nobody.body), "it tells who has an account");
    assert_eq!(wrong.body["code"], "sign_in_refused");
    // Four more, then a delay that grows; the right password does not help.
    for _ in 0..4 {
        assert_eq!(stranger.sign_in("ana", "not the password").await.unwrap().status, 401);
    }
    let delayed = wait_until("a delay", LIMIT, async || {
        let answer = stranger.clone().sign_in("ana", "not the password").await?;
        Ok((answer.status == 429).then_some(answer))
    })
    .await
    .unwrap();
    assert_eq!((delayed.body["code"].as_str(), delayed.retry_after.is_some()), (Some("sign_in_delayed"), true));
    assert_eq!(stranger.sign_in("ana", PASSWORD).await.unwrap().status, 429);
    // From another network; from the same one, where ana has signed in before; and she goes on meanwhile.
    let mut elsewhere = Browser::from(site.api().base(), [127, 0, 2, 1].into()).unwrap();
    assert_eq!(elsewhere.sign_in("ana", PASSWORD).await.unwrap().status, 201, "failures from elsewhere kept her out");
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 200);
    assert_eq!(ana.sign_in("ana", PASSWORD).await.unwrap().status, 201);
    let verbs: Vec<String> =
        record(&site).await.iter().filter_map(|entry| entry["verb"].as_str().map(str::to_owned)).collect();
    for verb in ["user.created", "session.began", "session.refused", "session.delayed"] {
        assert!(verbs.iter().any(|known| known == verb), "{verb} is not in {verbs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sign_ins_is_turned_away_and_the_api_answers_meanwhile() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "ops_lead").await;
    let flood: Vec<_> = (0..40)
        .map(|n| {
            let mut stranger = Browser::new(site.api().base()).unwrap();
            tokio::spawn(async move { stranger.sign_in(&format!("user{n}"), "not the password").await.unwrap() })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = std::time::Instant::now();
        site.api().get("/api/v1/hosts").await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    assert_eq!(ana.sign_in("ana", PASSWORD).await.unwrap().status, 201, "a known browser was kept out");
    let mut busy = 0;
    for answer in flood {
        let answer = answer.await.unwrap();
        assert!(matches!(answer.status, 401 | 503), "{}", answer.text);
        if answer.status == 503 {
            assert_eq!((answer.body["code"].as_str(), answer.retry_after.is_some()), (Some("sign_in_busy"), true));
            busy += 1;
        }
    }
    assert!(busy >= 20, "{busy} of 40 were turned away");
    assert!(slowest < Duration::from_secs(2), "the API took {slowest:?}");
}

fn step() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_app_counts_once_and_so_does_a_recovery_code() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "ops_lead").await;
    let other = signed_in(&site, "ana").await;
    let made = ana.post("/api/v1/account/totp", json!({})).await.unwrap();
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(made.body["uri"].as_str().unwrap().starts_with("otpauth://totp/Farol:ana?secret="));
    // Until a code is entered the password suffices.
    assert_eq!(other.clone().sign_in("ana", PASSWORD).await.unwrap().status, 201);
    assert_eq!(ana.post("/api/v1/account/totp/confirm", json!({"code": "000000"})).await.unwrap().status, 422);
    let used = step();
    let before = ana.cookies["farol"].clone();
    let confirmed = ana.post("/api/v1/account/totp/confirm", json!({"code": totp::code(&secret, used)})).await.unwrap();
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    assert_ne!(before, ana.cookies["farol"], "the session kept its secret");
    assert_eq!(other.open(Method::GET, "/api/v1/hosts", None).await.unwrap().status(), 401, "other sessions go on");
    let recovery = confirmed.body["recovery_codes"][0].as_str().unwrap().to_owned();

    let mut late = Browser::new(site.api().base()).unwrap();
    late.cookies.insert("farol-device".to_owned(), ana.cookies["farol-device"].clone());
    assert_eq!(late.sign_in("ana", PASSWORD).await.unwrap().body["code"], "code_required");
    let mut with = async |code: &str| {
        late.post("/api/v1/session", json!({"name": "ana", "password": PASSWORD, "code": code})).await.unwrap().status
    };
    assert_eq!(with(&totp::code(&secret, used)).await, 401, "a used code was taken");
    assert_eq!(with(&totp::code(&secret, used + 1)).await, 201);
    assert_eq!(with(&totp::code(&secret, used + 1)).await, 401, "a code was taken twice");
    assert_eq!(with(&recovery.to_uppercase()).await, 201);
    assert_eq!(with(&recovery).await, 401, "a recovery code was taken twice");
    let account = ana.get("/api/v1/account").await.unwrap().body;
    assert_eq!((&account["user"]["totp"], &account["recovery_codes"]), (&json!(true), &json!(9)));
    assert_eq!(ana.call(Method::DELETE, "/api/v1/account/totp", None).await.unwrap().status, 200);
    assert_eq!(signed_in(&site, "ana").await.cookies.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessed_codes_are_delayed_wherever_they_come_from_but_not_where_the_person_has_been() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "ops_lead").await;
    let secret = ana.post("/api/v1/account/totp", json!({})).await.unwrap().body["secret"].clone();
    let secret = secret.as_str().unwrap();
    let used = step();
    let code = json!({"code": totp::code(secret, used)});
    assert_eq!(ana.post("/api/v1/account/totp/confirm", code).await.unwrap().status, 200);
    let guess = async |network: u8| {
        let mut stranger = Browser::from(site.api().base(), [127, 0, network, 1].into()).unwrap();
        let body = json!({"name": "ana", "password": PASSWORD, "code": "000000"});
        stranger.post("/api/v1/session", body).await.unwrap().status
    };
    for network in 1..=5 {
        assert_eq!(guess(network).await, 401, "from network {network}");
    }
    assert_eq!(guess(6).await, 429, "a sixth network guessed on");
    let body = json!({"name": "ana", "password": PASSWORD, "code": totp::code(secret, used + 1)});
    assert_eq!(ana.post("/api/v1/session", body).await.unwrap().status, 201, "her own browser was delayed");
}

const PUBLIC: &str = "https://farol.example.org";

/// A browser on the public address; the proxy in between is not there.
async fn on_the_public_page(site: &Site, name: &str, role: &str) -> Browser {
    user(site, name, role).await;
    let mut browser = Browser::new(site.api().base()).unwrap();
    browser.origin = Some(PUBLIC.to_owned());
    let answer = browser.sign_in(name, PASSWORD).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text);
    let cookie = answer.set.iter().find(|cookie| cookie.starts_with("__Host-farol=")).unwrap();
    assert!(cookie.contains("Secure") && cookie.contains("Path=/"), "{cookie}");
    browser
}

async fn register(browser: &mut Browser, passkey: &Passkey, how: &Ceremony) -> farol_tests::browser::Answered {
    let options = browser.post("/api/v1/account/passkeys/challenge", json!({})).await.unwrap().body;
    assert_eq!(options["rp"]["id"], "farol.example.org");
    assert_eq!(options["pubKeyCredParams"], json!([{"type": "public-key", "alg": -7}]));
    let credential = passkey.create(options["challenge"].as_str().unwrap(), how);
    browser.post("/api/v1/account/passkeys", json!({"name": "laptop", "credential": credential})).await.unwrap()
}

async fn challenge(browser: &mut Browser) -> String {
    let options = browser.post("/api/v1/session/passkey/challenge", json!({})).await.unwrap().body;
    assert_eq!(options["rpId"], "farol.example.org");
    options["challenge"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_signs_in_on_its_own_page_once_a_challenge_until_it_is_taken_back() {
    let site = Site::start(QUIET, &[("FAROL_PUBLIC_URL", PUBLIC)]).await.unwrap();
    let mut ana = on_the_public_page(&site, "ana", "ops_lead").await;
    let passkey = Passkey::new("ana").unwrap();
    let how = Ceremony::default();
    for wrong in [
        Ceremony { origin: "https://evil.example".to_owned(), ..how.clone() },
        Ceremony { rp_id: "evil.example".to_owned(), ..how.clone() },
        Ceremony { flags: 1, ..how.clone() },
    ] {
        let refused = register(&mut ana, &passkey, &wrong).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("bad_passkey")), "{}", refused.text);
    }
    let made = register(&mut ana, &passkey, &how).await;
    assert_eq!((made.status, &made.body["key_id"]), (201, &json!(passkey.key_id())), "{}", made.text);
    assert_eq!(register(&mut ana, &passkey, &how).await.status, 409);

    let mut fresh = ana.with_cookies(Default::default());
    let asked = challenge(&mut fresh).await;
    let credential = |how: &Ceremony, asked: &str| json!({"credential": passkey.get(asked, how).unwrap()});
    for wrong in [
        Ceremony { origin: "https://evil.example".to_owned(), ..how.clone() },
        Ceremony { flags: 1, ..how.clone() },
        Ceremony { kind: "webauthn.create".to_owned(), ..how.clone() },
    ] {
        let refused = fresh.post("/api/v1/session/passkey", credential(&wrong, &asked)).await.unwrap();
        assert_eq!((refused.status, refused.body["code"].as_str()), (401, Some("passkey_refused")), "{}", refused.text);
    }
    assert_eq!(fresh.post("/api/v1/session/passkey", credential(&how, "AAAA")).await.unwrap().status, 401);
    let stranger = Passkey::new("x").unwrap();
    let unknown = json!({"credential": stranger.get(&asked, &how).unwrap()});
    assert_eq!(fresh.post("/api/v1/session/passkey", unknown).await.unwrap().status, 401);
    let begun = fresh.post("/api/v1/session/passkey", credential(&how, &asked)).await.unwrap();
    assert_eq!((begun.status, &begun.body["session"]["method"]), (201, &json!("passkey")), "{}", begun.text);
    let replayed = ana.clone().post("/api/v1/session/passkey", credential(&how, &asked)).await.unwrap();
    assert_eq!(replayed.status, 401, "an assertion was taken twice");

    let path = format!("/api/v1/account/passkeys/{}", passkey.id());
    assert_eq!(ana.call(Method::DELETE, &path, None).await.unwrap().status, 200);
    let asked = challenge(&mut fresh).await;
    assert_eq!(fresh.post("/api/v1/session/passkey", credential(&how, &asked)).await.unwrap().status, 401);
    let keys = site.api().items("/api/v1/operators/keys").await.unwrap();
    assert!(keys[0]["revoked_at"].is_string(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_signs_an_approval_that_the_host_verifies() {
    let site = Site::start(QUIET, &[("FAROL_PUBLIC_URL", PUBLIC)]).await.unwrap();
    let mut ana = on_the_public_page(&site, "ana", "ops_lead").await;
    let passkey = Passkey::new("ana").unwrap();
    assert_eq!(register(&mut ana, &passkey, &Ceremony::default()).await.status, 201);
    let root = site.token("root", "super_admin", None).await.unwrap();
    let mut export = site.farol(&["operator", "export"]).unwrap();
    let export = process::output(export.args(["--url", site.api().base()]).env("FAROL_TOKEN", root)).await.unwrap();
    let policy = format!(
        "version: 1\nmax_unsigned_class: R1\ncommands: [{{command: /bin/sh, args: [-c, '*'], class: R2}}]\n{export}"
    );
    let _agent = site.agent("vm112", Some(&policy)).await.unwrap();
    let file = site.folder().join("file");
    let proposal = json!({"host": "vm112", "kind": "command.exec", "reason": "test",
        "params": {"command": "/bin/sh", "args": ["-c", append("ran", &file)], "timeout": 30_000}});
    let action = ana.post("/api/v1/actions", proposal).await.unwrap().body;
    assert_eq!(action["requested_by"], "ana", "{action}");
    let path = format!("/api/v1/actions/{}", action["action_id"].as_str().unwrap());
    let plan = action["plan"].as_str().unwrap();
    let decision =
        |signatures: Value| json!({"plan_hash": action["plan_hash"], "comment": "ok", "signatures": signatures});
    let approve = format!("{path}/approve");
    assert_eq!(ana.post(&approve, decision(json!([]))).await.unwrap().body["code"], "signature_required");
    let elsewhere = Ceremony { origin: "https://evil.example".to_owned(), ..Ceremony::default() };
    let wrong = decision(json!([passkey.sign(plan, &elsewhere).unwrap()]));
    assert_eq!(ana.post(&approve, wrong).await.unwrap().body["code"], "bad_signature");
    let right = decision(json!([passkey.sign(plan, &Ceremony::default()).unwrap()]));
    let approved = ana.post(&approve, right).await.unwrap();
    assert_eq!(approved.status, 200, "{}", approved.text);
    let done = site.wait_action(action["action_id"].as_str().unwrap(), &["done", "refused", "failed"]).await.unwrap();
    assert_eq!((&done["state"], count("ran", &file)), (&json!("done"), 1), "{done}");
    assert_eq!(done["approvals"][0]["key_id"], passkey.key_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_limited_shown_once_and_end_with_their_owner() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "super_admin").await;
    let make = |name: &str, more: Value| {
        let mut body = json!({"name": name});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let reads = ana.post("/api/v1/tokens", make("reads", json!({"read_only": true}))).await.unwrap();
    assert_eq!((reads.status, &reads.body["owner"]), (201, &json!("ana")), "{}", reads.text);
    let reads = site.api().with_token(reads.body["token"].as_str());
    reads.items("/api/v1/hosts").await.unwrap();
    let run = Some(json!({}));
    let (status, refused) = reads.call(Method::POST, "/api/v1/agents/runs/x", run.clone()).await.unwrap();
    assert_eq!(status, 403);
    assert!(refused["detail"].as_str().unwrap().contains("ana/reads"), "{refused}");
    let limited = make("runs", json!({"permissions": ["run_scenario"]}));
    let limited = ana.post("/api/v1/tokens", limited).await.unwrap().body;
    let runs = site.api().with_token(limited["token"].as_str());
    assert_eq!(runs.call(Method::POST, "/api/v1/agents/runs/x", run).await.unwrap().0, 404);
    assert_eq!(runs.call(Method::GET, "/api/v1/hosts", None).await.unwrap().0, 403);
    let more = Some(make("more", json!({})));
    assert_eq!(runs.call(Method::POST, "/api/v1/tokens", more).await.unwrap().0, 403);
    for bad in [
        make("ana", json!({})),
        make("A7", json!({})),
        make("runs", json!({})),
        make("x", json!({"permissions": ["everything"]})),
        make("x", json!({"expires_at": "2020-01-01T00:00:00Z"})),
        make("x", json!({"owner": "bia"})),
    ] {
        let refused = ana.post("/api/v1/tokens", bad.clone()).await.unwrap();
        assert!(matches!(refused.status, 400 | 409), "{bad}: {}", refused.text);
    }
    // A person cannot be called like a token either.
    let clash = json!({"name": "Runs", "role": "super_admin", "password": PASSWORD});
    assert_eq!(ana.post("/api/v1/users", clash).await.unwrap().status, 409);

    let list = ana.get("/api/v1/tokens").await.unwrap();
    assert!(!list.text.contains("farol_"), "a secret is shown again");
    let row = list.body["items"].as_array().unwrap().iter().find(|row| row["name"] == "runs").unwrap().clone();
    assert!(row["used_at"].is_string(), "{row}");
    let path = format!("/api/v1/tokens/{}", row["id"].as_str().unwrap());
    assert_eq!(ana.call(Method::DELETE, &path, None).await.unwrap().status, 204);
    assert_eq!(runs.call(Method::GET, "/api/v1/hosts", None).await.unwrap().0, 401);
    user(&site, "bia", "super_admin").await;
    process::json(&mut site.farol(&["user", "disable", "ana", "--json"]).unwrap()).await.unwrap();
    assert_eq!(reads.call(Method::GET, "/api/v1/hosts", None).await.unwrap().0, 401, "it outlived its owner");
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 401);
}

const R3_POLICY: &str = "version: 1
max_unsigned_class: R1
commands: [{command: /bin/sh, args: [-c, '*'], class: R3}]
";

#[tokio::test(flavor = "multi_thread")]
async fn two_approvals_are_those_of_two_people_whatever_they_act_with() {
    let site = Site::start(QUIET, &[("FAROL_PUBLIC_URL", PUBLIC)]).await.unwrap();
    let mut people = Vec::new();
    for name in ["ana", "bia", "rui"] {
        let mut browser = on_the_public_page(&site, name, "super_admin").await;
        let passkey = Passkey::new(name).unwrap();
        assert_eq!(register(&mut browser, &passkey, &Ceremony::default()).await.status, 201);
        people.push((browser, passkey));
    }
    let root = site.token("root", "super_admin", None).await.unwrap();
    let mut export = site.farol(&["operator", "export"]).unwrap();
    let export = process::output(export.args(["--url", site.api().base()]).env("FAROL_TOKEN", &root)).await.unwrap();
    let _agent = site.agent("vm112", Some(&format!("{R3_POLICY}{export}"))).await.unwrap();
    let [(mut ana, anas), (mut bia, bias), (mut rui, ruis)] = <[_; 3]>::try_from(people).ok().unwrap();

    // The host says that it is R3, and it is planned anew.
    let file = site.folder().join("file");
    let proposal = json!({"host": "vm112", "kind": "command.exec", "reason": "test",
        "params": {"command": "/bin/sh", "args": ["-c", append("ran", &file)], "timeout": 30_000}});
    let token = ana.post("/api/v1/tokens", json!({"name": "ci"})).await.unwrap().body;
    let ci = site.api().with_token(token["token"].as_str());
    let first = ci.post("/api/v1/actions", proposal).await.unwrap();
    assert_eq!(first["requested_by"], "ana", "the plan names the token, and its owner could approve");
    let sign = |action: &Value, passkey: &Passkey| {
        let signature = passkey.sign(action["plan"].as_str().unwrap(), &Ceremony::default()).unwrap();
        json!({"plan_hash": action["plan_hash"], "comment": "", "signatures": [signature]})
    };
    let path = |action: &Value| format!("/api/v1/actions/{}/approve", action["action_id"].as_str().unwrap());
    assert_eq!(rui.post(&path(&first), sign(&first, &ruis)).await.unwrap().status, 200);
    let again = wait_until("a plan at R3", LIMIT, async || {
        let waiting = site.api().items("/api/v1/actions?state=proposed").await?;
        Ok(waiting.into_iter().find(|action| action["risk_class"] == "R3"))
    })
    .await
    .unwrap();
    assert_eq!(again["requested_by"], "ana");

    // The requester, with session and with token.
    let own = ana.post(&path(&again), sign(&again, &anas)).await.unwrap();
    assert_eq!((own.status, own.body["code"].as_str()), (403, Some("forbidden")), "{}", own.text);
    let (status, _) = ci.call(Method::POST, &path(&again), Some(sign(&again, &anas))).await.unwrap();
    assert_eq!(status, 403, "a token approved what its owner asked for");
    // One person twice: with their session, then with their token.
    let token = bia.post("/api/v1/tokens", json!({"name": "bias-ci"})).await.unwrap().body;
    let bias_ci = site.api().with_token(token["token"].as_str());
    assert_eq!(bia.post(&path(&again), sign(&again, &bias)).await.unwrap().status, 202);
    let (status, twice) = bias_ci.call(Method::POST, &path(&again), Some(sign(&again, &bias))).await.unwrap();
    assert_eq!(status, 409);
    assert!(twice["detail"].as_str().unwrap().contains("already"), "{twice}");
    // A token of nobody is not a person.
    let nobodys = site.api().with_token(Some(&root));
    let body = json!({"plan_hash": again["plan_hash"], "comment": ""});
    assert!(!nobodys.call(Method::POST, &path(&again), Some(body)).await.unwrap().0.is_success());
    assert_eq!(count("ran", &file), 0);
    let second = rui.post(&path(&again), sign(&again, &ruis)).await.unwrap();
    assert_eq!(second.status, 200, "{}", second.text);
    let done = site.wait_action(again["action_id"].as_str().unwrap(), &["done", "refused", "failed"]).await.unwrap();
    assert_eq!((&done["state"], count("ran", &file)), (&json!("done"), 1), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_managed_by_super_admins_and_never_without_one() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let mut ana = somebody(&site, "ana", "super_admin").await;
    let body = json!({"name": "bia", "role": "devops", "password": PASSWORD});
    assert_eq!(ana.post("/api/v1/users", body.clone()).await.unwrap().status, 201);
    assert_eq!(ana.post("/api/v1/users", body).await.unwrap().status, 409);
    let short = json!({"name": "rui", "role": "devops", "password": "short"});
    assert_eq!(ana.post("/api/v1/users", short).await.unwrap().body["code"], "invalid_password");
    let mut bia = signed_in(&site, "bia").await;
    assert_eq!(bia.get("/api/v1/users").await.unwrap().status, 403);
    let change = |what: Value| Some(what);
    let last = ana.call(Method::PATCH, "/api/v1/users/ana", change(json!({"role": "seo"}))).await.unwrap();
    assert_eq!((last.status, last.body["code"].as_str()), (409, Some("refused")), "{}", last.text);
    let raised = ana.call(Method::PATCH, "/api/v1/users/bia", change(json!({"role": "super_admin"}))).await.unwrap();
    assert_eq!((raised.status, &raised.body["role"]), (200, &json!("super_admin")));
    assert_eq!(bia.get("/api/v1/hosts").await.unwrap().status, 401, "a session outlived another role");
    let mut bia = signed_in(&site, "bia").await;
    assert_eq!(bia.get("/api/v1/users").await.unwrap().status, 200);

    // One's own password, with the one in use.
    let old = bia.clone();
    let wrong = json!({"current": "not the password", "new": "another password of mine"});
    assert_eq!(bia.post("/api/v1/account/password", wrong).await.unwrap().status, 401);
    let right = json!({"current": PASSWORD, "new": "another password of mine"});
    assert_eq!(bia.post("/api/v1/account/password", right).await.unwrap().status, 200);
    assert_eq!(old.open(Method::GET, "/api/v1/hosts", None).await.unwrap().status(), 401, "the old secret lives on");
    assert_eq!(bia.get("/api/v1/hosts").await.unwrap().status, 200);
    assert_eq!(Browser::new(site.api().base()).unwrap().sign_in("bia", PASSWORD).await.unwrap().status, 401);
    let gone = bia.call(Method::DELETE, "/api/v1/users/ana/sessions", None).await.unwrap();
    assert_eq!((gone.status, &gone.body["ended"]), (200, &json!(1)), "{}", gone.text);
    assert_eq!(ana.get("/api/v1/hosts").await.unwrap().status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_ends_with_its_session_wherever_it_is_ended() {
    let site = Site::start(QUIET, &[]).await.unwrap();
    let ended = async |mut stream: reqwest::Response| {
        tokio::time::timeout(LIMIT, async { while let Ok(Some(_)) = stream.chunk().await {} }).await.unwrap();
    };
    let mut ana = somebody(&site, "ana", "seo").await;
    let stream = ana.open(Method::GET, "/api/v1/events", None).await.unwrap();
    assert_eq!(stream.status(), 200);
    ana.call(Method::DELETE, "/api/v1/session", None).await.unwrap();
    ended(stream).await;
    let ana = signed_in(&site, "ana").await;
    let stream = ana.open(Method::GET, "/api/v1/events", None).await.unwrap();
    // In the data folder, by another process.
    process::json(&mut site.farol(&["user", "disable", "ana", "--json"]).unwrap()).await.unwrap();
    ended(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_lets_somebody_in_is_in_the_log_the_record_or_the_data() {
    let mut site = Site::start(QUIET, &[("FAROL_LOG", "debug")]).await.unwrap();
    let mut ana = somebody(&site, "ana", "super_admin").await;
    // People type their password where their name belongs.
    Browser::new(site.api().base()).unwrap().sign_in("planted-in-the-name", "planted wrong one").await.unwrap();
    let secret = ana.post("/api/v1/account/totp", json!({})).await.unwrap().body["secret"].clone();
    let code = totp::code(secret.as_str().unwrap(), step());
    let codes = ana.post("/api/v1/account/totp/confirm", json!({"code": code})).await.unwrap().body;
    let token = ana.post("/api/v1/tokens", json!({"name": "ci"})).await.unwrap().body["token"].clone();
    let mut planted: Vec<String> = ["planted", "planted wrong one"].map(str::to_owned).to_vec();
    planted.extend(ana.cookies.values().cloned());
    planted.extend([&secret, &token, &codes["recovery_codes"][0]].map(|text| text.as_str().unwrap().to_owned()));
    let log = site.coordinator().unwrap().log().join("\n");
    let record = record(&site).await.iter().map(Value::to_string).collect::<String>();
    site.stop_coordinator().await.unwrap();
    for secret in &planted {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
        assert!(!record.contains(secret.as_str()), "{secret} is in the record");
        for entry in std::fs::read_dir(site.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}
