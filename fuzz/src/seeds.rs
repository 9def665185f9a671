//! Inputs to begin with: the frozen fixtures, and documents that people write.

use std::{fs, path::Path};

/// A small registry that uses every key.
const REGISTRY: &str = "version: 1
language: en
variables: {PORTAL: 'http://127.0.0.1:1', DB: }
sites: [{id: lab, name: Lab}]
hosts: [{name: vm112, site: lab, vmid: 112, critical: true}, {name: vm123}]
defaults: {every: 5m, timeout: 10s, attempts: 2, recover: 1}
silence: {after: 90s, persona: A1, severity: high}
scenarios:
  - id: wizard.portal
    title: Portal
    persona: A1
    severity: high
    hosts: [vm112]
    runs_on: agent
    every: 300ms
    timeout: 2s
    attempts: 2
    recover: 2
    checks:
      - {name: http, probe: {http: {url: '${PORTAL}/health', expect: [200], contains: ok, limits: {warning: 5.5, critical: 9, worse: above}}}}
      - {name: db, probe: {sqlite: {path: '${DB}', query: 'select 1', unit: count}}}
      - {name: ssh, probe: {process: {name: sshd, min: 1, max: 9}}}
    propose: {kind: service.control, host: vm112, params: {service: portal, verb: restart}}
  - {id: tcp, title: T, persona: vigia, severity: low, hosts: [vm123], checks: [{name: c, probe: {tcp: {address: '127.0.0.1:1'}}}]}
  - {id: all, title: T, persona: A0, severity: info, runs_on: agent, checks: [{name: m, probe: {memory: {warning: 80}}}, {name: d, probe: {disk: {mount: /}}}]}
";

const POLICY: &str = "version: 1
max_unsigned_class: R1
read_only: false
commands:
- {command: /bin/echo, args: [hello, '*'], class: R1}
- {command: sh, args: [-c, '**']}
services:
- name: portal
  verbs: [start, stop, restart]
  class: R1
  run:
    start: [/opt/portal/ctl, start]
    stop: [/opt/portal/ctl, stop]
    restart: [/opt/portal/ctl, restart]
    status: [/opt/portal/ctl, status]
- {name: nginx, verbs: [restart]}
paths:
  read: [/var/log, /srv/tickets.db]
  write: [/etc/portal]
";

/// An old content and a diff of it each.
const PATCHES: [&str; 4] = [
    "port = 80\nname = portal\n\0--- a\n+++ b\n@@ -1,2 +1,2 @@\n-port = 80\n+port = 8080\n name = portal\n",
    "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\0--- a\n+++ b\n@@ -1,4 +1,3 @@\n-a\n b\n c\n d\n@@ -8,3 +7,4 @@\n h\n i\n j\n+k\n",
    "last\0--- a\n+++ b\n@@ -1 +1 @@\n-last\n\\ No newline at end of file\n+last\n",
    "\0--- /dev/null\n+++ b\n@@ -0,0 +1,2 @@\n+one\n+two\n",
];

/// The seeds of a target.
///
/// # Panics
/// The fixtures of the protocol cannot be read.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frames" => fixtures(&["from-agent.", "to-agent.", "enrol."]),
        "legacy" => fixtures(&["legacy."]),
        "patch" => PATCHES.iter().map(|input| input.as_bytes().to_vec()).collect(),
        "plan" => fixtures(&["plan."]),
        "policy" => vec![POLICY.into(), "version: 1\n".into()],
        "registry" => vec![REGISTRY.into(), "version: 1\nhosts: [{name: vm112}]\n".into()],
        "signed" => vec![
            format!(
                "agent-1\n2026-11-20T12:00:00Z\nabcdefghijklmnop\n{}\nPOST\n/southbound/v1/frames?wait=1\n{{}}",
                "0123456789abcdef".repeat(4)
            )
            .into(),
        ],
        _ => Vec::new(),
    }
}

/// Inputs that once broke the target.
///
/// # Panics
/// One of them cannot be read.
#[must_use]
pub fn regressions(target: &str) -> Vec<Vec<u8>> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target), &[""])
}

fn fixtures(beginnings: &[&str]) -> Vec<Vec<u8>> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/fixtures/v1"), beginnings)
}

/// In the order of their names, so that a seed always means the same cases.
fn read(folder: &Path, beginnings: &[&str]) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let named = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        beginnings.iter().any(|beginning| name.starts_with(beginning))
    };
    paths.iter().filter(|path| named(path)).map(|path| fs::read(path).expect("readable")).collect()
}
