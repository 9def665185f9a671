//! What hosts and checks showed over time, as callers ask for it.

use super::*;
use crate::{
    history::{Keep, MINUTE, floor},
    jobs::history::Roller,
};

const KEEP: Keep = Keep { minutes: Duration::from_secs(30 * 86_400), hours: Duration::from_secs(730 * 86_400) };

/// What the job does on its timer. When both do it, one of them is refused.
async fn roll(site: &Site) {
    loop {
        let mut roller = Roller::load(&site.store).await.expect("loaded");
        if let Ok(false) = roller.page(&site.store, KEEP, Timestamp::now()).await {
            return;
        }
    }
}

async fn post_load(site: &Site, at: i64, load: f64) {
    let body = json!({"hostname": "vm112", "timestamp": Timestamp::from_ms(at), "os": {"load": [load, 1, 1]}});
    let (status, answer) = site.post("/ingest", body).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_has_points_where_there_were_values_and_gaps_where_there_were_none() {
    let site = Site::start().await;
    let from = floor(Timestamp::now().as_ms(), 5 * MINUTE) - 30 * MINUTE;
    for (minute, load) in [(0, 1.0), (1, 2.0), (2, 4.5), (10, 1.0), (11, 0.0)] {
        post_load(&site, from + minute * MINUTE, load).await;
    }
    roll(&site).await;
    let at = |minute: i64| Timestamp::from_ms(from + minute * MINUTE);
    let path = format!("/api/v1/hosts/vm112/series?metric=load1&from={}&to={}", at(0), at(12));
    let (status, body) = site.get(&format!("{path}&step=1m")).await;
    assert_eq!(status, 200, "{body}");
    let point = |minute: i64, load: f64| json!([at(minute).as_ms(), load, load, load, 1]);
    assert_eq!(
        body,
        json!({
            "host": "vm112", "metric": "load1", "unit": "load", "from": at(0), "to": at(12), "step": "1m",
            "points": [point(0, 1.0), point(1, 2.0), point(2, 4.5), point(10, 1.0), point(11, 0.0)],
            "gaps": [{"from": at(3), "to": at(10)}],
        })
    );
    let (_, body) = site.get(&format!("{path}&step=5m")).await;
    assert_eq!(body["points"], json!([[at(0).as_ms(), 1.0, 2.5, 4.5, 3], [at(10).as_ms(), 0.0, 0.5, 1.0, 2]]));
    assert_eq!(body["gaps"], json!([{"from": at(5), "to": at(10)}]));
    let (_, body) = site.get("/api/v1/hosts/vm112/series?metric=load1").await;
    assert_eq!((&body["step"], body["points"].as_array().expect("points").len()), (&json!("1m"), 5));

    let (_, body) = site.get("/api/v1/hosts/vm112/metrics?limit=2").await;
    let names: Vec<&str> =
        body["items"].as_array().expect("items").iter().filter_map(|item| item["name"].as_str()).collect();
    assert_eq!((names, &body["next_cursor"]), (vec!["load1", "load15"], &json!("load15")));
    assert_eq!(body["dropped"], 0);
    assert_eq!(body["items"][0]["first_at"], json!(at(0)));
    assert_eq!(body["items"][0]["last_at"], json!(at(11)));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_answered_says_what_to_ask_instead() {
    let site = Site::start().await;
    post_load(&site, Timestamp::now().as_ms() - MINUTE, 1.0).await;
    roll(&site).await;
    let now = Timestamp::now();
    let series = |rest: String| format!("/api/v1/hosts/vm112/series{rest}");
    let month = now.plus_ms(-30 * 1440 * MINUTE);
    for (path, status, code, says) in [
        (series("?metric=laod1".to_owned()), 404, "not_found", "`load1`"),
        (series(String::new()), 400, "invalid_query", "metric"),
        (series("?metric=load1&step=2m".to_owned()), 400, "invalid_query", "1m, 5m, 1h, 1d or auto"),
        (
            series(format!("?metric=load1&step=1m&from={month}")),
            400,
            "invalid_query",
            "at most 2048 fit; ask for step=1h",
        ),
        (series(format!("?metric=load1&from={}&to={now}", now.plus_ms(1))), 400, "invalid_query", "not before `to`"),
        (series("?metric=load1&from=yesterday".to_owned()), 400, "invalid_query", "RFC 3339"),
        (series("?metric=load1&colour=blue".to_owned()), 400, "invalid_query", "colour"),
        ("/api/v1/hosts/nobody/series?metric=load1".to_owned(), 404, "not_found", "nobody"),
        ("/api/v1/hosts/vm112/reports".to_owned(), 400, "invalid_query", "check"),
        ("/api/v1/hosts/vm112/reports?check=a%20b".to_owned(), 400, "invalid_query", "letters"),
        (
            "/api/v1/hosts/vm122/reports?check=portal/answers".to_owned(),
            404,
            "not_found",
            "has no check called `portal/answers`",
        ),
        (
            format!("/api/v1/hosts/vm112/history?check=portal&from={}", now.plus_ms(-100 * 1440 * MINUTE)),
            400,
            "invalid_query",
            "62 days",
        ),
    ] {
        let (answered, body) = site.get(&path).await;
        assert_eq!((answered, &body["code"]), (status, &json!(code)), "{path}: {body}");
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{path}: {body}");
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_said_is_found_by_its_id_with_and_without_an_escape() {
    let site = Site::start().await;
    site.wait_for("/api/v1/hosts/vm112", |host| host["checks"].as_array().is_some_and(|checks| !checks.is_empty()))
        .await;
    let host = site.get("/api/v1/hosts/vm112").await.1;
    let check = host["checks"][0]["check"].as_str().expect("an id").to_owned();
    roll(&site).await;
    for id in [check.clone(), check.replace('/', "%2F")] {
        let (status, body) = site.get(&format!("/api/v1/hosts/vm112/reports?check={id}&limit=1")).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!((&body["items"][0]["status"], &body["items"][0]["check"]), (&json!("critical"), &json!(check)));
        assert!(body["items"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        let (status, body) = site.get(&format!("/api/v1/hosts/vm112/history?check={id}")).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!((&body["spans"][0]["status"], &body["spans"][0]["until"]), (&json!("critical"), &json!(null)));
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_a_host_has_no_room_for_are_counted_where_people_look() {
    let site = Site::start().await;
    let host = site.store.host("vm112").await.expect("a host").key;
    let now = Timestamp::now().as_ms();
    let mut write = site.store.telemetry().write().await.expect("a turn");
    for n in 0..1000 {
        sqlx::query("insert into history_series (id, host_key, name, first_ms, last_ms) values ($1, $2, $3, $4, $4)")
            .bind(1_000_000 + n)
            .bind(host.0)
            .bind(format!("check:old/{n}"))
            .bind(now)
            .execute(&mut *write)
            .await
            .expect("stored");
    }
    write.commit().await.expect("committed");
    post_load(&site, now, 1.0).await;
    // The job comes round within its fifteen seconds.
    site.wait_for("/api/v1/hosts/vm112/metrics?limit=1", |metrics| metrics["dropped"].as_u64() >= Some(3)).await;
    let text = site.request(Method::GET, "/metrics").send().await.expect("an answer").text().await.expect("text");
    assert!(text.contains("farol_history_dropped_metrics{host=\"vm112\"} "), "{text}");
    assert!(!text.contains("host=\"vm122\""), "{text}");
    assert_eq!(site.get("/api/v1/hosts/vm122/metrics").await.1["dropped"], 0);
    site.end().await;
}
