//! A host's and a check's history, from real processes.

use std::{collections::BTreeMap, time::Duration};

use farol_tests::{Site, process, wait_until};
use serde_json::Value;

const REGISTRY: &str = "version: 1
hosts: [{name: vm112}]
scenarios:
  - id: portal
    title: Portal
    persona: A1
    severity: low
    hosts: [vm112]
    runs_on: agent
    every: 300ms
    checks:
      - {name: load, probe: {load: {critical: 9999}}}
      - {name: memory, probe: {memory: {critical: 100.5}}}
";
/// It is rolled up every 15 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many values each minute has.
fn counts(series: &Value) -> BTreeMap<i64, u64> {
    let points = series["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter_map(|point| Some((point[0].as_i64()?, point[4].as_u64()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_measured_is_a_series_that_a_killed_coordinator_neither_loses_nor_repeats() {
    let mut site = Site::start(REGISTRY, &[]).await.unwrap();
    let mut agent = site.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 200ms\nreconnect_max: 200ms\n").unwrap();
    agent.start().unwrap();
    site.wait_host("vm112", "online").await.unwrap();
    let path = "/api/v1/hosts/vm112/series?metric=check:portal/load&step=1m";
    wait_until("the check's values", PATIENCE, async || {
        let series = site.api().get(path).await.unwrap_or_default();
        Ok((!counts(&series).is_empty()).then_some(()))
    })
    .await
    .unwrap();
    agent.stop().await.unwrap();
    site.kill_coordinator().await.unwrap();
    site.start_coordinator().await.unwrap();

    // Once everything is rolled up, each report that is stored counts once.
    let reports = site.api().items("/api/v1/hosts/vm112/reports?check=portal/load&limit=200").await.unwrap();
    assert!(!reports.is_empty() && reports.iter().all(|report| report["check"] == "portal/load"));
    let stored = async || -> anyhow::Result<usize> {
        let mut all = 0;
        let mut cursor = String::new();
        loop {
            let page =
                site.api().get(&format!("/api/v1/hosts/vm112/reports?check=portal%2Fload&limit=200{cursor}")).await?;
            all += page["items"].as_array().map_or(0, Vec::len);
            let Some(next) = page["next_cursor"].as_str() else { return Ok(all) };
            cursor = format!("&cursor={next}");
        }
    };
    wait_until("all of it to be rolled up", PATIENCE, async || {
        let values: u64 = counts(&site.api().get(path).await?).values().sum();
        let (before, after) = (stored().await?, stored().await?);
        Ok((before == after && u64::try_from(after)? == values).then_some(()))
    })
    .await
    .unwrap();

    let history = site.api().get("/api/v1/hosts/vm112/history?check=portal/load").await.unwrap();
    assert_eq!(history["spans"][0]["status"], "ok", "{history}");
    let token = site.token("reader", "technician", None).await.unwrap();
    let mut command =
        site.farol(&["hosts", "series", "vm112", "cpu", "--since", "1h", "--url", site.api().base()]).unwrap();
    let text = process::output(command.env("FAROL_TOKEN", &token)).await.unwrap();
    assert!(text.starts_with("cpu of vm112 in %") && text.contains("MEAN"), "{text}");
}
