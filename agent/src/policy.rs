//! The host's policy: what this host lets the coordinator do to it.
//!
//! It is read from the host's own file, on every order, and nothing on the
//! wire can change it. Keys that later versions know are refused here rather
//! than ignored: an operator must not believe that a rule works when it does
//! not.

mod check;
mod operators;
pub mod sudoers;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use farol_protocol::yaml::Spanned;
use farol_protocol::{
    RiskClass,
    effect::{CommandExec, ContainerControl, ServiceControl, ServiceVerb},
    signing::{Operator, WebAuthn},
};
use serde::Deserialize;

use crate::{
    Error,
    effect::{is_container_name, unit_name},
    exec, yaml,
};

/// A policy whose rules have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Highest class that runs without signatures.
    pub max_unsigned_class: RiskClass,
    /// Refuse every effect.
    pub read_only: bool,
    /// Folders and files that checks, `file.diff` and `logs.read` may read.
    pub read_paths: Vec<PathBuf>,
    /// Folders and files that `file.apply` and `file.rollback` may change.
    pub write_paths: Vec<PathBuf>,
    /// Who may sign orders above [`Policy::max_unsigned_class`].
    pub operators: Vec<Operator>,
    /// Which passkeys count.
    pub webauthn: Option<WebAuthn>,
    commands: Vec<Command>,
    services: HashMap<String, Service>,
    containers: HashMap<String, Container>,
    logs: Vec<String>,
}

/// What the policy says about an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It may run, at this class or the plan's if that is higher.
    Allowed(T),
    /// No rule lists it.
    NotListed,
    /// The service is listed, the verb is not.
    VerbNotListed,
}

/// How a service is controlled on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Class by the policy.
    pub class: RiskClass,
    /// Whether the policy has commands of its own for it.
    pub own: bool,
    /// Program and arguments of the verb.
    pub run: Vec<String>,
    /// Program and arguments that exit with 0 while the service runs.
    pub status: Option<Vec<String>>,
}

impl Policy {
    /// Reads the policy; none when the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read, has a mistake, or others may change it.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let io_error = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read")(error)),
        };
        refuse_exposed(path, &fs::metadata(path).map_err(io_error("inspect"))?)?;
        Self::parse(path, &text).map(Some)
    }

    /// Reads a policy from its text; `path` is named in errors.
    ///
    /// # Errors
    /// A mistake, with its line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        yaml::parse::<Document>(path, text)?.check(path)
    }

    /// The class of a command, by the first rule that matches it.
    #[must_use]
    pub fn command(&self, wanted: &CommandExec) -> Verdict<RiskClass> {
        let matching =
            |rule: &&Command| same_program(&rule.command, &wanted.command) && rule.args.match_all(&wanted.args);
        self.commands.iter().find(matching).map_or(Verdict::NotListed, |rule| Verdict::Allowed(rule.class))
    }

    /// How to control a service.
    #[must_use]
    pub fn service(&self, wanted: &ServiceControl) -> Verdict<Control> {
        let Some(service) = self.services.get(&wanted.service) else {
            return Verdict::NotListed;
        };
        match service.run.get(&wanted.verb) {
            Some(run) => Verdict::Allowed(Control {
                class: service.class,
                own: service.own,
                run: run.clone(),
                status: service.status.clone(),
            }),
            None => Verdict::VerbNotListed,
        }
    }

    /// The class of controlling a container.
    #[must_use]
    pub fn container(&self, wanted: &ContainerControl) -> Verdict<RiskClass> {
        match self.containers.get(&wanted.container) {
            Some(container) if container.verbs.contains(&wanted.verb) => Verdict::Allowed(container.class),
            Some(_) => Verdict::VerbNotListed,
            None => Verdict::NotListed,
        }
    }

    /// Whether the policy lets a plain absolute path be read. What is there is
    /// reached without following links, so the path as written is enough.
    #[must_use]
    pub fn may_read(&self, path: &Path) -> bool {
        self.read_paths.iter().any(|root| path.starts_with(root))
    }

    /// Whether the policy lets a plain absolute path be changed.
    #[must_use]
    pub fn may_write(&self, path: &Path) -> bool {
        self.write_paths.iter().any(|root| path.starts_with(root))
    }

    /// Whether the policy lets the journal of a unit be read: that of a
    /// service it lists, or one listed for that alone.
    #[must_use]
    pub fn may_read_log(&self, unit: &str) -> bool {
        let unit = unit_name(unit);
        self.services.keys().chain(&self.logs).any(|listed| unit_name(listed) == unit)
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::PolicyExposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _metadata: &fs::Metadata) -> Result<(), Error> {
    Ok(())
}

/// Paths are compared as written; a bare name stands for what it resolves to.
fn same_program(rule: &str, wanted: &str) -> bool {
    rule == wanted || exec::resolve(rule).is_some_and(|path| exec::resolve(wanted) == Some(path))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    command: String,
    args: Args,
    class: RiskClass,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Args {
    each: Vec<Arg>,
    any_rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Arg {
    Literal(String),
    One,
}

impl Args {
    fn match_all(&self, given: &[String]) -> bool {
        let long_enough = if self.any_rest { given.len() >= self.each.len() } else { given.len() == self.each.len() };
        long_enough
            && self.each.iter().zip(given).all(|(arg, text)| match arg {
                Arg::Literal(literal) => literal == text,
                Arg::One => true,
            })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    class: RiskClass,
    own: bool,
    run: HashMap<ServiceVerb, Vec<String>>,
    status: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    class: RiskClass,
    verbs: Vec<ServiceVerb>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<u32>,
    #[serde(default = "r1")]
    max_unsigned_class: RiskClass,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    commands: Vec<CommandRule>,
    #[serde(default)]
    services: Vec<ServiceRule>,
    #[serde(default)]
    containers: Vec<ContainerRule>,
    #[serde(default)]
    paths: Paths,
    #[serde(default)]
    logs: Vec<Spanned<String>>,
    #[serde(default)]
    operators: Vec<operators::OperatorRule>,
    #[serde(default)]
    webauthn: Option<operators::WebAuthnRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandRule {
    command: Spanned<String>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default = "r2")]
    class: RiskClass,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRule {
    name: Spanned<String>,
    verbs: Vec<Spanned<ServiceVerb>>,
    #[serde(default = "r2")]
    class: RiskClass,
    #[serde(default)]
    run: Option<Spanned<Run>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerRule {
    name: Spanned<String>,
    verbs: Vec<ServiceVerb>,
    #[serde(default = "r2")]
    class: RiskClass,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    start: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    stop: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    restart: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    status: Option<Spanned<Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paths {
    #[serde(default)]
    read: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    write: Vec<Spanned<PathBuf>>,
}

const fn r1() -> RiskClass {
    RiskClass::R1
}

/// An entry that does not say how much it may change is taken to change state.
const fn r2() -> RiskClass {
    RiskClass::R2
}

/// A mistake and where it stands.
struct Mistake {
    line: u64,
    column: u64,
    message: String,
}

fn mistake<T>(at: &Spanned<T>, message: String) -> Mistake {
    Mistake { line: at.referenced.line().max(1), column: at.referenced.column().max(1), message }
}

impl Document {
    fn check(self, path: &Path) -> Result<Policy, Error> {
        self.rules().map_err(|Mistake { line, column, message }| Error::File {
            path: path.to_owned(),
            line,
            column,
            message,
        })
    }

    fn rules(self) -> Result<Policy, Mistake> {
        if self.version.value != 1 {
            return Err(mistake(&self.version, format!("version {} is not known; use 1", self.version.value)));
        }
        for path in self.paths.read.iter().chain(&self.paths.write) {
            if !path.value.is_absolute() {
                return Err(mistake(path, format!("`{}` must be an absolute path", path.value.display())));
            }
        }
        let mut services = HashMap::new();
        for rule in self.services {
            let (name, service) = rule.check()?;
            if services.contains_key(&name.value) {
                return Err(mistake(&name, format!("the service `{}` is listed twice; join the entries", name.value)));
            }
            services.insert(name.value, service);
        }
        let mut containers = HashMap::new();
        for rule in self.containers {
            let (name, container) = rule.check()?;
            if containers.contains_key(&name.value) {
                return Err(mistake(
                    &name,
                    format!("the container `{}` is listed twice; join the entries", name.value),
                ));
            }
            containers.insert(name.value, container);
        }
        if let Some(unit) = self.logs.iter().find(|unit| unit.value.is_empty()) {
            return Err(mistake(unit, "the unit has no name".to_owned()));
        }
        let (operators, webauthn) = operators::check(self.operators, self.webauthn)?;
        Ok(Policy {
            operators,
            webauthn,
            max_unsigned_class: self.max_unsigned_class,
            read_only: self.read_only,
            read_paths: self.paths.read.into_iter().map(|path| path.value).collect(),
            write_paths: self.paths.write.into_iter().map(|path| path.value).collect(),
            commands: self.commands.into_iter().map(CommandRule::check).collect::<Result<_, _>>()?,
            services,
            containers,
            logs: self.logs.into_iter().map(|unit| unit.value).collect(),
        })
    }
}

impl ContainerRule {
    fn check(self) -> Result<(Spanned<String>, Container), Mistake> {
        let name = &self.name.value;
        if !is_container_name(name) {
            return Err(mistake(&self.name, format!("`{name}` is no name that a container can have")));
        }
        if self.verbs.is_empty() {
            return Err(mistake(&self.name, format!("the container `{name}` allows no verb; add `verbs: [restart]`")));
        }
        Ok((self.name, Container { class: self.class, verbs: self.verbs }))
    }
}

impl CommandRule {
    fn check(self) -> Result<Command, Mistake> {
        check_program(&self.command.value).map_err(|message| mistake(&self.command, message))?;
        let last = self.args.len().saturating_sub(1);
        let mut args = Args { each: Vec::with_capacity(self.args.len()), any_rest: false };
        for (index, arg) in self.args.into_iter().enumerate() {
            match arg.value.as_str() {
                "**" if index == last => args.any_rest = true,
                "**" => return Err(mistake(&arg, "`**` may only be the last argument".to_owned())),
                "*" => args.each.push(Arg::One),
                _ => args.each.push(Arg::Literal(arg.value)),
            }
        }
        Ok(Command { command: self.command.value, args, class: self.class })
    }
}

impl ServiceRule {
    fn check(self) -> Result<(Spanned<String>, Service), Mistake> {
        let name = self.name.value.clone();
        if name.is_empty() {
            return Err(mistake(&self.name, "the service has no name".to_owned()));
        }
        if self.verbs.is_empty() {
            return Err(mistake(&self.name, format!("the service `{name}` allows no verb; add `verbs: [restart]`")));
        }
        let mut run = HashMap::new();
        let own = self.run.is_some();
        let status = match self.run {
            Some(own) => {
                let own_place = Spanned::new((), own.referenced, own.defined);
                let Run { start, stop, restart, status } = own.value;
                for argv in [&start, &stop, &restart, &status].into_iter().flatten() {
                    check_argv(argv)?;
                }
                let argv = |verb| match verb {
                    ServiceVerb::Start => &start,
                    ServiceVerb::Stop => &stop,
                    ServiceVerb::Restart => &restart,
                };
                for verb in &self.verbs {
                    let Some(argv) = argv(verb.value) else {
                        let verb = verb.value.as_str();
                        return Err(mistake(
                            &own_place,
                            format!(
                                "the service `{name}` allows `{verb}` but `run` does not say how; add `{verb}: [PROGRAM, ARGUMENT, …]`"
                            ),
                        ));
                    };
                    run.insert(verb.value, argv.value.clone());
                }
                status.map(|argv| argv.value)
            }
            None => {
                for verb in &self.verbs {
                    run.insert(verb.value, manager(&[verb.value.as_str()], &name));
                }
                Some(if cfg!(target_os = "freebsd") {
                    manager(&["status"], &name)
                } else {
                    manager(&["is-active", "--quiet"], &name)
                })
            }
        };
        Ok((self.name, Service { class: self.class, own, run, status }))
    }
}

/// How the host's service manager is asked where its bus is not there.
fn manager(verb: &[&str], name: &str) -> Vec<String> {
    let words: Vec<&str> = if cfg!(target_os = "freebsd") {
        ["service", name].iter().chain(verb).copied().collect()
    } else {
        ["systemctl"].iter().chain(verb).chain(&["--", name]).copied().collect()
    };
    words.into_iter().map(str::to_owned).collect()
}

fn check_argv(argv: &Spanned<Vec<String>>) -> Result<(), Mistake> {
    let Some(program) = argv.value.first() else {
        return Err(mistake(argv, "the list is empty; write [PROGRAM, ARGUMENT, …]".to_owned()));
    };
    check_program(program).map_err(|message| mistake(argv, message))
}

fn check_program(program: &str) -> Result<(), String> {
    if program.is_empty() {
        return Err("the command is empty".to_owned());
    }
    if program.contains('/') && !program.starts_with('/') {
        return Err(format!("`{program}` is a relative path; use an absolute path or a bare name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, Error> {
        Policy::parse(Path::new("policy.yaml"), text)
    }

    fn exec(command: &str, args: &[&str]) -> CommandExec {
        CommandExec {
            command: command.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            cwd: None,
            timeout: 1000,
        }
    }

    fn control(service: &str, verb: ServiceVerb) -> ServiceControl {
        ServiceControl { service: service.to_owned(), verb, timeout: 1000 }
    }

    #[test]
    fn arguments_match_literally_one_for_one_and_any_for_the_rest() {
        let policy = parse(
            "version: 1\n\
             commands:\n\
             - {command: /bin/echo, args: [hello, '*'], class: R1}\n\
             - {command: /bin/echo, args: [all, '**'], class: R0}\n\
             - {command: sh, args: ['**']}\n\
             - {command: /usr/bin/uptime, class: R0}\n",
        )
        .expect("valid");
        let cases: &[(&str, &[&str], Verdict<RiskClass>)] = &[
            ("/bin/echo", &["hello", "world"], Verdict::Allowed(RiskClass::R1)),
            ("/bin/echo", &["hello", "*"], Verdict::Allowed(RiskClass::R1)),
            ("/bin/echo", &["hello"], Verdict::NotListed),
            ("/bin/echo", &["hello", "big", "world"], Verdict::NotListed),
            ("/bin/echo", &["all"], Verdict::Allowed(RiskClass::R0)),
            ("/bin/echo", &["all", "1", "2", "3"], Verdict::Allowed(RiskClass::R0)),
            ("/bin/echo", &[], Verdict::NotListed),
            ("/bin/../bin/echo", &["all"], Verdict::NotListed),
            ("/tmp/echo", &["all"], Verdict::NotListed),
            ("sh", &["-c", "true"], Verdict::Allowed(RiskClass::R2)),
            ("/usr/bin/uptime", &[], Verdict::Allowed(RiskClass::R0)),
            ("/usr/bin/uptime", &["-p"], Verdict::NotListed),
        ];
        for (command, args, verdict) in cases {
            assert_eq!(policy.command(&exec(command, args)), *verdict, "{command} {args:?}");
        }
    }

    #[test]
    fn a_bare_name_is_what_it_resolves_to_in_the_fixed_path() {
        let policy = parse("version: 1\ncommands:\n- {command: sh}\n").expect("valid");
        let resolved = exec::resolve("sh").expect("every system has sh");
        assert_eq!(policy.command(&exec(resolved.to_str().expect("UTF-8"), &[])), Verdict::Allowed(RiskClass::R2));
        assert_eq!(policy.command(&exec("/tmp/sh", &[])), Verdict::NotListed);
    }

    #[test]
    fn a_service_runs_its_own_commands_or_systemctl() {
        let policy = parse(
            "version: 1\n\
             services:\n\
             - name: portal\n  verbs: [restart]\n  class: R1\n  run:\n    restart: [/opt/portal/ctl, restart]\n    status: [/opt/portal/ctl, status]\n\
             - name: nginx\n  verbs: [start, stop]\n",
        )
        .expect("valid");
        assert_eq!(
            policy.service(&control("portal", ServiceVerb::Restart)),
            Verdict::Allowed(Control {
                class: RiskClass::R1,
                own: true,
                run: vec!["/opt/portal/ctl".to_owned(), "restart".to_owned()],
                status: Some(vec!["/opt/portal/ctl".to_owned(), "status".to_owned()]),
            })
        );
        assert_eq!(policy.service(&control("portal", ServiceVerb::Stop)), Verdict::VerbNotListed);
        assert_eq!(policy.service(&control("mysql", ServiceVerb::Stop)), Verdict::NotListed);
        let Verdict::Allowed(nginx) = policy.service(&control("nginx", ServiceVerb::Stop)) else {
            panic!("nginx may be stopped");
        };
        assert!(nginx.class == RiskClass::R2 && !nginx.own);
        assert_eq!(nginx.run.join(" "), "systemctl stop -- nginx");
        assert_eq!(nginx.status.expect("by default").join(" "), "systemctl is-active --quiet -- nginx");
    }

    #[test]
    fn containers_paths_and_logs_are_what_is_listed_and_nothing_beside() {
        let policy = parse(
            "version: 1\n\
             services: [{name: nginx, verbs: [restart]}]\n\
             containers: [{name: db, verbs: [start, restart], class: R1}, {name: web, verbs: [stop]}]\n\
             paths: {read: [/var/log], write: [/etc/motd, /srv/app]}\n\
             logs: [sshd.service]\n",
        )
        .expect("valid");
        let container = |container: &str, verb| {
            policy.container(&ContainerControl { container: container.to_owned(), verb, timeout: 1000 })
        };
        assert_eq!(container("db", ServiceVerb::Restart), Verdict::Allowed(RiskClass::R1));
        assert_eq!(container("web", ServiceVerb::Stop), Verdict::Allowed(RiskClass::R2));
        assert_eq!(container("db", ServiceVerb::Stop), Verdict::VerbNotListed);
        assert_eq!(container("mail", ServiceVerb::Start), Verdict::NotListed);
        let write = |path: &str| policy.may_write(Path::new(path));
        assert!(write("/etc/motd") && write("/srv/app/a/b"));
        assert!(!write("/etc/motd2") && !write("/srv/application") && !write("/var/log/x"));
        assert!(policy.may_read(Path::new("/var/log/x")) && !policy.may_read(Path::new("/etc/motd")));
        let log = |unit: &str| policy.may_read_log(unit);
        assert!(log("nginx") && log("nginx.service") && log("sshd") && !log("nginx.socket") && !log("cron"));
    }

    #[test]
    fn the_defaults_are_careful() {
        let policy = parse("version: 1\n").expect("valid");
        assert_eq!(policy.max_unsigned_class, RiskClass::R1);
        assert!(!policy.read_only && policy.read_paths.is_empty());
        assert_eq!(policy.command(&exec("true", &[])), Verdict::NotListed);
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_column() {
        for (text, place, part) in [
            ("version: 2\n", "1:10", "use 1"),
            ("read_only: true\n", "1:1", "version"),
            ("version: 1\ncomands: []\n", "2:1", "did you mean `commands`?"),
            ("version: 1\nmax_unsigned_class: R9\n", "2:21", "R9"),
            ("version: 1\ncommands:\n- {command: bin/echo}\n", "3:13", "relative path"),
            ("version: 1\ncommands:\n- {command: ''}\n", "3:13", "empty"),
            ("version: 1\ncommands:\n- {command: echo, class: high}\n", "3:26", "high"),
            ("version: 1\ncommands:\n- {command: echo, args: ['**', x]}\n", "3:26", "last argument"),
            ("version: 1\nservices:\n- {name: a, verbs: [start]}\n- {name: a, verbs: [stop]}\n", "4:10", "twice"),
            ("version: 1\nservices:\n- {name: a, verbs: []}\n", "3:10", "no verb"),
            ("version: 1\nservices:\n- {name: a, verbs: [reload]}\n", "3:21", "reload"),
            ("version: 1\nservices:\n- {name: a, verbs: [start], run: {start: []}}\n", "3:42", "empty"),
            ("version: 1\nservices:\n- {name: a, verbs: [start], run: {stop: [a]}}\n", "3:34", "add `start:"),
            ("version: 1\npaths:\n  read: [etc]\n", "3:10", "absolute"),
            ("version: 1\ncontainers:\n- {name: ../x, verbs: [start]}\n", "3:10", "can have"),
            ("version: 1\ncontainers:\n- {name: db, verbs: []}\n", "3:10", "no verb"),
            ("version: 1\nlogs: ['']\n", "2:8", "no name"),
            ("version: 1\nread_only: [\n", "2:12", "expected"),
        ] {
            let sentence = parse(text).expect_err("refused").sentence();
            assert!(sentence.starts_with(&format!("policy.yaml:{place}: ")), "{text:?}: {sentence}");
            assert!(sentence.contains(part), "{text:?}: {sentence}");
            assert!(!sentence.contains('\n'), "{sentence:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_policy_that_others_can_change_is_not_used() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.yaml");
        assert!(Policy::load(&path).expect("missing is no mistake").is_none());
        fs::write(&path, "version: 1\n").expect("writable");
        let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");

        chmod(0o664);
        assert!(Policy::load(&path).expect_err("refused").to_string().contains("chmod go-w"));
        chmod(0o644);
        assert!(Policy::load(&path).expect("fine").is_some());
    }
}
