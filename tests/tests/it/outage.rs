//! One outage is one message: a hypervisor goes down with everything on it.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::bail;
use farol_tests::{
    Site,
    peer::Identity,
    smtp::{Received, Smtp},
    wait::wait_until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

const GUESTS: usize = 30;
/// Of each guest, from the coordinator.
const OF_GUEST: usize = 6;
/// Of the hypervisor, from the coordinator.
const OF_HYPERVISOR: usize = 20;

fn guests() -> impl Iterator<Item = String> {
    (1..=GUESTS).map(|n| format!("g{n:02}"))
}

/// Two hundred checks by the coordinator: all of them ask `service`.
fn registry(service: SocketAddr) -> String {
    let mut text =
        "version: 1\nsilence: {after: 3s, persona: A1, severity: high}\nhosts:\n  - {name: pve1, critical: true}\n"
            .to_owned();
    for guest in guests() {
        writeln!(text, "  - {{name: {guest}, parent: pve1}}").unwrap();
    }
    text.push_str("scenarios:\n");
    for (host, checks) in guests().map(|guest| (guest, OF_GUEST)).chain([("pve1".to_owned(), OF_HYPERVISOR)]) {
        writeln!(
            text,
            "  - id: {host}.services\n    title: Services\n    persona: A1\n    severity: high\n    hosts: [{host}]\n    \
             every: 2s\n    timeout: 1s\n    attempts: 2\n    checks:"
        )
        .unwrap();
        for n in 0..checks {
            writeln!(text, "      - {{name: s{n}, probe: {{tcp: {{address: '{service}'}}}}}}").unwrap();
        }
    }
    text
}

fn hello(name: &str) -> Value {
    let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
    json!({"method": "hello", "agent_id": name, "name": name, "version": "9.9.9", "capabilities": [],
        "timestamp": now, "protocol": {"min": 1, "max": 1},
        "journal": {"id": uuid::Uuid::now_v7(), "seq": 0}, "stream": uuid::Uuid::now_v7(),
        "max_unsigned_class": "R0", "effects_allowed": false})
}

/// An agent that is connected until `down`.
async fn connect(site: &Site, name: &str, identity: &Identity, down: watch::Receiver<bool>) -> JoinHandle<()> {
    let mut peer = identity.connect(site.southbound()).await.unwrap();
    peer.send(&hello(name)).await.unwrap();
    assert_eq!(peer.receive().await.unwrap()["ok"], true);
    tokio::spawn(async move {
        let mut down = down;
        let down = async move {
            // The sender is gone only with the test.
            let _ = down.wait_for(|down| *down).await;
        };
        let _cut = peer.stay(down).await;
    })
}

async fn findings(site: &Site) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = site.api().get(&format!("/api/v1/findings?state=all&limit=200{cursor}")).await.unwrap();
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// How many findings there are of each kind, to be said when they are not those that were waited for.
fn summary(found: &[Value]) -> String {
    let mut kinds = BTreeMap::<String, usize>::new();
    for finding in found {
        let check = if finding["check"] == "agent.silence" { "silence" } else { "service" };
        let host = if finding["host"] == "pve1" { "pve1" } else { "guest" };
        let hidden = (&finding["hidden_kind"], finding["joined"].is_string(), finding["told_at"].is_string());
        *kinds.entry(format!("{host} {check} {} {hidden:?}", finding["state"])).or_default() += 1;
    }
    format!("{kinds:?}")
}

fn subjects(mails: &[Received]) -> Vec<String> {
    let subject = |mail: &Received| mail.data.lines().find(|line| line.starts_with("Subject:")).map(str::to_owned);
    mails.iter().filter_map(subject).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_hypervisor_with_thirty_guests_is_one_mail_that_names_it_and_its_end_is_one_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = listener.local_addr().unwrap();
    let serve = |listener: TcpListener| {
        tokio::spawn(async move {
            loop {
                let _taken = listener.accept().await;
            }
        })
    };
    let serving = serve(listener);
    let smtp = Smtp::start().await.unwrap();
    let site = Site::start(
        &registry(service),
        &[("FAROL_HEARTBEAT", "1s"), ("FAROL_SMTP_URL", &smtp.url()), ("DESK_ROOT_NOTIFY_EMAIL", "root@example.org")],
    )
    .await
    .unwrap();
    let names: Vec<String> = guests().chain(["pve1".to_owned()]).collect();
    let mut identities = Vec::new();
    for names in names.chunks(8) {
        let enrolled = join_all(names.iter().map(|name| site.enrol(name, None))).await;
        identities.extend(
            enrolled.into_iter().map(|agent| Identity::load(&agent.unwrap().state_dir().join("identity")).unwrap()),
        );
    }
    let (cut, down) = watch::channel(false);
    let agents = |down: watch::Receiver<bool>| {
        let (site, names, identities) = (&site, &names, &identities);
        async move {
            join_all(names.iter().zip(identities).map(|(name, identity)| connect(site, name, identity, down.clone())))
                .await
        }
    };
    let connected = agents(down).await;
    // Everything is well: each check has answered.
    let path = "/api/v1/agents/scenarios";
    wait_until("each check has answered", Duration::from_secs(60), || async {
        let scenarios = site.api().get(path).await?;
        let rows = scenarios["items"].as_array().cloned().unwrap_or_default();
        Ok((rows.len() == GUESTS + 1 && rows.iter().all(|row| row["status"] == "ok")).then_some(()))
    })
    .await
    .unwrap();
    for name in &names {
        let path = format!("/api/v1/hosts/{name}/reports?check=agent.silence&limit=1");
        wait_until("each agent was found to speak", Duration::from_secs(20), || async {
            let reports = site.api().get(&path).await?;
            Ok((reports["items"][0]["status"] == "ok").then_some(()))
        })
        .await
        .unwrap();
    }
    assert!(findings(&site).await.is_empty());

    // The power goes.
    serving.abort();
    cut.send(true).unwrap();
    join_all(connected).await;
    let all = 1 + GUESTS + GUESTS * OF_GUEST + OF_HYPERVISOR;
    let found = wait_until("all of it is found", Duration::from_secs(90), || async {
        let found = findings(&site).await;
        let settled = found.iter().filter(|finding| finding["state"] != "open").count();
        if found.len() == all && settled == all - 1 {
            return Ok(Some(found));
        }
        bail!("of {all}: {}", summary(&found))
    })
    .await
    .unwrap();
    let root = found.iter().find(|finding| finding["state"] == "open").unwrap();
    assert_eq!((&root["host"], &root["check"]), (&json!("pve1"), &json!("agent.silence")));
    for finding in &found {
        let by = if finding["id"] == root["id"] { Value::Null } else { root["id"].clone() };
        assert_eq!(finding["hidden_by"], by, "{finding}");
    }
    let detail = site.api().get(&format!("/api/v1/findings/{}", root["id"].as_str().unwrap())).await.unwrap();
    assert_eq!(detail["explains"].as_array().unwrap().len(), all - 1);

    // And comes back.
    let listener = TcpListener::bind(service).await.unwrap();
    let _serving = serve(listener);
    let (_cut, down) = watch::channel(false);
    let _connected = agents(down).await;
    wait_until("all of it is over", Duration::from_secs(90), || async {
        let found = findings(&site).await;
        if found.iter().all(|finding| finding["state"] == "resolved") {
            return Ok(Some(()));
        }
        bail!("{}", summary(&found))
    })
    .await
    .unwrap();
    let mails = wait_until("the recovery is sent", Duration::from_secs(20), || async {
        let mails = smtp.received();
        Ok((mails.len() >= 2).then_some(mails))
    })
    .await
    .unwrap();
    let subjects = subjects(&mails);
    assert_eq!(mails.len(), 2, "{subjects:#?}");
    assert!(subjects.iter().all(|subject| subject.contains("pve1")), "{subjects:?}");
    assert!(mails[1].data.contains("In-Reply-To:"), "{}", mails[1].data);
    assert_eq!(findings(&site).await.len(), all, "nothing opened while it came back");
}
