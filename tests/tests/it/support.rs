//! What several tests share.

use std::path::Path;

/// A registry with one host and one check that its agent runs every 300 ms.
pub(crate) fn registry_with_portal(url: &str) -> String {
    format!(
        "version: 1
hosts: [{{name: vm112, vmid: 112}}, {{name: vm123}}]
silence: {{after: 2s, persona: A1, severity: high}}
scenarios:
  - id: wizard.portal
    title: Portal do assistente
    persona: A1
    severity: high
    hosts: [vm112]
    runs_on: agent
    every: 300ms
    timeout: 2s
    attempts: 2
    recover: 2
    checks: [{{name: http, probe: {{http: {{url: '{url}'}}}}}}]
    propose: {{kind: service.control, params: {{service: portal, verb: restart}}}}
"
    )
}

/// Hosts without any check.
pub(crate) const QUIET: &str = "version: 1\nhosts: [{name: vm112}, {name: vm123}]\n";

/// A policy under which a shell line may run without a signature.
pub(crate) const SHELL_POLICY: &str = "version: 1
max_unsigned_class: R2
commands: [{command: /bin/sh, args: [-c, '*'], class: R2}]
";

/// A shell line that appends `word` to `file`.
pub(crate) fn append(word: &str, file: &Path) -> String {
    format!("echo {word} >> {}", file.display())
}

/// How often `word` is a line of `file`.
pub(crate) fn count(word: &str, file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().filter(|line| *line == word).count()
}
