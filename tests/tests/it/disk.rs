//! A disk that is really full, on both sides. It takes root to mount one; run
//! by anybody else these tests say so and hold nothing.
#![expect(clippy::print_stderr, reason = "a test that cannot mount a file system says so")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use farol_tests::{Site, wait_until};
use serde_json::json;

use crate::support::{SHELL_POLICY, append, count};

const REGISTRY: &str = "version: 1
hosts: [{name: vm112}]
scenarios:
  - {id: load, title: Carga, persona: A1, severity: low, runs_on: agent, every: 200ms, checks: [{name: c, probe: {load: {critical: 9999}}}]}
";

/// A small file system that goes with it.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={kib}k,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { path: path.to_owned() });
        }
        eprintln!("skipped: only root can mount a small disk");
        None
    }

    fn fill(&self) {
        // Runs until nothing fits any more.
        let _full = std::fs::write(self.path.join("filler"), vec![0; 64 << 20]);
    }

    fn free(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still holds it lets go later.
        let _busy = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_disk_is_full_runs_nothing_counts_what_it_loses_and_goes_on() {
    let site = Site::start(REGISTRY, &[]).await.unwrap();
    let Some(disk) = SmallDisk::mount(&site.folder().join("vm112/state"), 1024) else { return };
    let mut agent = site.enrol("vm112", Some(SHELL_POLICY)).await.unwrap();
    agent.configure("interval: 200ms\nreconnect_max: 200ms\n").unwrap();
    agent.start().unwrap();
    site.wait_host("vm112", "online").await.unwrap();

    disk.fill();
    let effects = site.folder().join("effects");
    let line = append("once", &effects);
    let id = site.api().propose_command("vm112", "/bin/sh", &["-c", &line]).await.unwrap();
    site.api().approve(&id).await.unwrap();
    wait_until("the host to say that it cannot journal", Duration::from_secs(20), async || {
        let action = site.api().get(&format!("/api/v1/actions/{id}")).await?;
        Ok(action["detail"].is_string().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(count("once", &effects), 0, "an effect ran that no journal knows");
    wait_until("a batch to be lost", Duration::from_secs(20), async || {
        let log = agent.process().unwrap().log().join("\n");
        Ok(log.contains("lost").then_some(()))
    })
    .await
    .unwrap();

    disk.free();
    let done = site.wait_action(&id, &["done"]).await.unwrap();
    assert_eq!(count("once", &effects), 1, "{done}");
    let host = wait_until("the loss to be told", Duration::from_secs(20), async || {
        let host = site.api().get("/api/v1/hosts/vm112").await?;
        Ok(host["lost"].as_u64().is_some_and(|lost| lost > 0).then_some(host))
    })
    .await
    .unwrap();
    assert_eq!(host["state"], "online");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_disk_is_full_says_so_and_has_everything_once_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), 4096) else { return };
    let data = folder.path().join("data");
    let mut small = Site::start(REGISTRY, &[("FAROL_DATA_DIR", data.to_str().unwrap())]).await.unwrap();
    let mut agent = small.enrol("vm112", None).await.unwrap();
    agent.configure("interval: 200ms\nreconnect_max: 200ms\n").unwrap();
    agent.start().unwrap();
    small.wait_host("vm112", "online").await.unwrap();

    disk.fill();
    wait_until("the health to say so", Duration::from_secs(30), async || {
        let health = small.api().get("/api/v1/agents/health").await?;
        Ok((health["checks"]["telemetry"] != json!("ok")).then_some(()))
    })
    .await
    .unwrap();
    disk.free();
    wait_until("the health to be good again", Duration::from_secs(30), async || {
        let health = small.api().get("/api/v1/agents/health").await?;
        Ok((health["status"] == json!("ok")).then_some(()))
    })
    .await
    .unwrap();
    let before = small.api().get("/api/v1/hosts/vm112").await.unwrap();
    wait_until("batches to come again", Duration::from_secs(20), async || {
        let host = small.api().get("/api/v1/hosts/vm112").await?;
        Ok((host["received"].as_u64() > before["received"].as_u64().map(|n| n + 5)).then_some(()))
    })
    .await
    .unwrap();
    let host = small.api().get("/api/v1/hosts/vm112").await.unwrap();
    assert_eq!(host["lost"], 0, "{host}");
    agent.stop().await.unwrap();
    small.stop_coordinator().await.unwrap();
}
