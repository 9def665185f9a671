//! A policy in words: what it allows, who may sign, and what to think about.

use std::collections::BTreeSet;

use farol_protocol::RiskClass;
use serde::Serialize;

use super::{Arg, Policy, sudoers};
use crate::effect::unit_name;

/// What a policy means.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Highest class that runs without signatures.
    pub max_unsigned_class: RiskClass,
    /// Whether every effect is refused.
    pub read_only: bool,
    /// What may run, the lowest class first.
    pub allowed: Vec<Allowed>,
    /// Who may sign.
    pub operators: Vec<Signer>,
    /// What to think about, a sentence each.
    pub warnings: Vec<String>,
}

/// An entry of the policy.
#[derive(Debug, Serialize)]
pub struct Allowed {
    /// Its class; a plan may raise it.
    pub class: RiskClass,
    /// How many people must sign it.
    pub signatures: u8,
    /// What it is.
    pub what: String,
    /// What is run for it.
    pub runs: String,
}

/// Somebody in `operators`.
#[derive(Debug, Serialize)]
pub struct Signer {
    /// Their name.
    pub name: String,
    /// Their roles.
    pub roles: Vec<&'static str>,
    /// Ids of their keys.
    pub keys: Vec<String>,
    /// The highest class under which their signature counts; none: no class.
    pub signs: Option<RiskClass>,
}

impl Policy {
    /// What the policy means.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let needed = |class| match class {
            class if class <= self.max_unsigned_class => 0,
            RiskClass::R3 => 2,
            _ => 1,
        };
        let entry = |class, what, runs| Allowed { class, signatures: needed(class), what, runs };
        let services = self.services.iter().flat_map(|(name, service)| {
            service.run.iter().map(move |(verb, argv)| {
                entry(service.class, format!("{} service {name}", verb.as_str()), argv.join(" "))
            })
        });
        let commands = self.commands.iter().map(|rule| {
            let args = rule.args.each.iter().map(|arg| match arg {
                Arg::Literal(text) => text.as_str(),
                Arg::One => "*",
            });
            let rest = rule.args.any_rest.then_some("**");
            let line: Vec<&str> = std::iter::once(rule.command.as_str()).chain(args).chain(rest).collect();
            entry(rule.class, "run".to_owned(), line.join(" "))
        });
        let containers = self.containers.iter().flat_map(|(name, container)| {
            container
                .verbs
                .iter()
                .map(move |verb| entry(container.class, format!("{} container", verb.as_str()), name.clone()))
        });
        // The policy gives these no class of their own, so it is the kinds'.
        let reads = self
            .read_paths
            .iter()
            .map(|path| entry(RiskClass::R0, "file.diff, logs.read and checks".to_owned(), path.display().to_string()));
        let writes = self
            .write_paths
            .iter()
            .map(|path| entry(RiskClass::R2, "file.apply and file.rollback".to_owned(), path.display().to_string()));
        let units: BTreeSet<String> = self.services.keys().chain(&self.logs).map(|unit| unit_name(unit)).collect();
        let logs = units.into_iter().map(|unit| entry(RiskClass::R0, "journal of unit".to_owned(), unit));
        let mut allowed: Vec<Allowed> =
            services.chain(commands).chain(containers).chain(reads).chain(writes).chain(logs).collect();
        allowed.sort_by(|a, b| (a.class, &a.what, &a.runs).cmp(&(b.class, &b.what, &b.runs)));
        let operators = self.operators.iter().map(|operator| Signer {
            name: operator.name.clone(),
            roles: operator.roles.iter().map(|role| role.as_str()).collect(),
            keys: operator.keys.iter().map(|key| format!("{} {}", key.alg().as_str(), key.id())).collect(),
            signs: operator.roles.iter().any(|role| role.signs()).then_some(RiskClass::R3),
        });
        let operators: Vec<Signer> = operators.collect();
        let warnings = self.warnings(&allowed);
        Summary { max_unsigned_class: self.max_unsigned_class, read_only: self.read_only, allowed, operators, warnings }
    }

    fn warnings(&self, allowed: &[Allowed]) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.max_unsigned_class == RiskClass::R3 {
            warnings.push(
                "max_unsigned_class is R3: whoever holds the coordinator runs everything that is listed here"
                    .to_owned(),
            );
        }
        let signs = self.operators.iter().filter(|operator| operator.roles.iter().any(|role| role.signs()));
        let leads = self.operators.iter().any(|operator| operator.roles.iter().any(|role| role.leads()));
        let signers = signs.count();
        for entry in allowed {
            let people = usize::from(entry.signatures);
            if signers < people || (people == 2 && !leads) {
                warnings.push(format!(
                    "`{} {}` is {} and never runs: {people} of the operators must sign it{}, and {signers} can",
                    entry.what,
                    entry.runs,
                    entry.class,
                    if people == 2 { ", one of them super_admin or ops_lead" } else { "" }
                ));
            }
        }
        for operator in &self.operators {
            if !operator.roles.iter().any(|role| role.signs()) {
                warnings.push(format!(
                    "no role of the operator `{}` signs; super_admin, ops_lead and agentic_operator do",
                    operator.name
                ));
            }
        }
        let mut names: Vec<&String> = self.services.keys().collect();
        names.sort_unstable();
        for name in names {
            if self.services.get(name).is_some_and(|service| !service.own) {
                warnings.push(format!(
                    "the service `{name}` has no `run`, so systemd is asked as the agent's own user, which takes a polkit rule"
                ));
            }
        }
        for rule in &self.commands {
            if rule.args.any_rest {
                warnings.push(format!(
                    "`{}` takes any arguments (`**`); list those that are needed if the program can do more than you mean",
                    rule.command
                ));
            }
            let asks = !rule.args.each.iter().any(|arg| matches!(arg, Arg::Literal(word) if word == "-n"));
            if sudoers::is_sudo(&rule.command) && asks {
                warnings.push(format!("`{}` without -n waits for a password that nobody types", rule.command));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn summary(text: &str) -> Summary {
        Policy::parse(Path::new("policy.yaml"), &format!("version: 1\n{text}")).expect(text).summary()
    }

    const SIGNERS: &str = "operators:
- {name: ana, roles: [agentic_operator], keys: [ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo]}
- {name: eva, roles: [seo], keys: [ed25519:PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw]}
";

    #[test]
    fn every_entry_is_listed_with_its_class_and_how_many_must_sign() {
        let summary = summary(&format!(
            "commands:\n- {{command: reboot, class: R3}}\n- {{command: echo, args: [a, '*']}}\n\
             services:\n- {{name: portal, verbs: [restart], class: R1, run: {{restart: [/opt/ctl, restart]}}}}\n{SIGNERS}"
        ));
        let lines: Vec<String> = summary
            .allowed
            .iter()
            .map(|entry| format!("{} {} {}: {}", entry.class, entry.signatures, entry.what, entry.runs))
            .collect();
        assert_eq!(
            lines,
            [
                "R0 0 journal of unit: portal.service",
                "R1 0 restart service portal: /opt/ctl restart",
                "R2 1 run: echo a *",
                "R3 2 run: reboot"
            ]
        );
        assert_eq!(summary.operators[0].keys, ["ed25519 21fe31dfa154a261"]);
        assert_eq!((summary.operators[0].signs, summary.operators[1].signs), (Some(RiskClass::R3), None));
    }

    #[test]
    fn containers_paths_and_journals_are_listed_too() {
        let lines = |text: &str| -> Vec<String> {
            let line = |entry: Allowed| format!("{} {} {}: {}", entry.class, entry.signatures, entry.what, entry.runs);
            summary(text).allowed.into_iter().map(line).collect()
        };
        assert_eq!(
            lines("containers: [{name: db, verbs: [restart, stop], class: R1}]\n"),
            ["R1 0 restart container: db", "R1 0 stop container: db"]
        );
        assert_eq!(
            lines("paths: {read: [/var/log], write: [/etc/motd]}\nlogs: [sshd]\n"),
            [
                "R0 0 file.diff, logs.read and checks: /var/log",
                "R0 0 journal of unit: sshd.service",
                "R2 1 file.apply and file.rollback: /etc/motd",
            ]
        );
        assert_eq!(
            lines("services: [{name: nginx, verbs: [stop]}]\nlogs: [nginx.service]\n"),
            ["R0 0 journal of unit: nginx.service", "R2 1 stop service nginx: systemctl stop -- nginx"]
        );
        assert!(lines("max_unsigned_class: R2\n").is_empty());
    }

    #[test]
    fn a_careful_policy_has_no_warnings_and_each_doubt_has_its_own() {
        assert_eq!(summary("commands:\n- {command: uptime, class: R0}\n").warnings, Vec::<String>::new());
        for (text, part) in [
            ("max_unsigned_class: R3\n", "whoever holds the coordinator"),
            ("commands:\n- {command: echo}\n", "never runs: 1 of the operators"),
            (&format!("commands:\n- {{command: reboot, class: R3}}\n{SIGNERS}"), "never runs: 2 of the operators"),
            (SIGNERS, "no role of the operator `eva`"),
            ("services:\n- {name: nginx, verbs: [restart], class: R1}\n", "polkit"),
            ("commands:\n- {command: df, args: ['**'], class: R0}\n", "any arguments"),
            ("commands:\n- {command: sudo, args: [/bin/x], class: R1}\n", "without -n"),
        ] {
            let warnings = summary(text).warnings;
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{text}: {warnings:?}");
        }
    }
}
