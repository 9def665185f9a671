//! The sudoers lines that the policy's root commands need, and no more.
//!
//! sudo compares a command's arguments joined by spaces, so it cannot tell one
//! argument with a space from two, and its own `*` spans both. What cannot be
//! said exactly is refused rather than allowed too widely.

use super::{Arg, Args, Policy};

/// One argument where the policy says `*`: no space, no leading dash. Regular
/// expressions are known to sudo from 1.9.10 on.
const ONE: &str = "[A-Za-z0-9_./@%+][A-Za-z0-9_./@%+-]*";

/// The fragment for `user`, or every reason for which it cannot be written.
///
/// # Errors
/// What to change in the policy, a sentence each.
pub fn fragment(policy: &Policy, user: &str) -> Result<String, Vec<String>> {
    if !is_user(user) {
        return Err(vec![format!("`{user}` is not the name of a user")]);
    }
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for (name, program, args) in root_commands(policy) {
        match line(user, &program, &args) {
            Ok(line) => lines.push(line),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    lines.sort_unstable();
    lines.dedup();
    wrong.sort_unstable();
    if wrong.is_empty() { Ok(lines.into_iter().map(|line| line + "\n").collect()) } else { Err(wrong) }
}

/// Whether `program` is sudo.
pub(super) fn is_sudo(program: &str) -> bool {
    program == "sudo" || (program.starts_with('/') && program.ends_with("/sudo"))
}

/// What the policy runs through sudo: where it stands, the program, its arguments.
fn root_commands(policy: &Policy) -> Vec<(String, String, Args)> {
    let literal = |argv: &[String]| Args { each: argv.iter().cloned().map(Arg::Literal).collect(), any_rest: false };
    let services = policy.services.iter().flat_map(|(name, service)| {
        let verbs = service.run.iter().map(|(verb, argv)| (verb.as_str(), argv));
        let status = service.status.iter().map(|argv| ("status", argv));
        verbs.chain(status).filter_map(move |(verb, argv)| {
            let (program, args) = argv.split_first()?;
            Some((format!("service `{name}`, {verb}"), program.clone(), literal(args)))
        })
    });
    let commands = policy.commands.iter().map(|rule| {
        let args = Args { each: rule.args.each.clone(), any_rest: rule.args.any_rest };
        (format!("command `{}`", rule.command), rule.command.clone(), args)
    });
    services.chain(commands).filter(|(_, program, _)| is_sudo(program)).collect()
}

/// One line, from the arguments of sudo.
fn line(user: &str, sudo: &str, args: &Args) -> Result<String, String> {
    let mut given = args.each.as_slice();
    let (mut target, mut asks) = ("root", true);
    let program = loop {
        let Some((first, rest)) = given.split_first() else {
            return Err(format!("`{sudo}` is not told what to run"));
        };
        let Arg::Literal(word) = first else {
            return Err("the program that runs as root must be a fixed one, not `*`".to_owned());
        };
        given = rest;
        match (word.as_str(), rest.first()) {
            ("-n" | "--non-interactive", _) => asks = false,
            ("--", Some(Arg::Literal(program))) => {
                given = &rest[1..];
                break program;
            }
            ("-u", Some(Arg::Literal(name))) if is_user(name) => {
                target = name;
                given = &rest[1..];
            }
            (option, _) if option.starts_with('-') => {
                return Err(format!("`{option}` of sudo is not supported here; use -n, -u USER and --"));
            }
            _ => break word,
        }
    };
    if asks {
        return Err("without -n sudo would wait for a password that nobody types; write [sudo, -n, …]".to_owned());
    }
    if !program.starts_with('/') || program.ends_with('/') {
        return Err(format!("`{program}` must be an absolute path, for that is what sudoers compares"));
    }
    if args.any_rest {
        return Err("`**` would let any arguments run as root; list each command with its own arguments".to_owned());
    }
    let arguments = if given.contains(&Arg::One) { pattern(given)? } else { literal(given)? };
    Ok(format!("{user} ALL=({target}) NOPASSWD: {} {arguments}", escaped(program)?))
}

/// Arguments that are compared as they stand. None at all is `""`: nothing
/// would mean any.
fn literal(args: &[Arg]) -> Result<String, String> {
    let words: Vec<String> = args
        .iter()
        .map(|arg| match arg {
            Arg::Literal(text) => escaped(text),
            Arg::One => Err("`*` is no fixed argument".to_owned()),
        })
        .collect::<Result<_, _>>()?;
    Ok(if words.is_empty() { "\"\"".to_owned() } else { words.join(" ") })
}

fn pattern(args: &[Arg]) -> Result<String, String> {
    let words: Vec<String> = args
        .iter()
        .map(|arg| match arg {
            Arg::One => Ok(ONE.to_owned()),
            Arg::Literal(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || "_-/@%.+".contains(c)) && !text.is_empty() => {
                Ok(text.replace('.', "[.]").replace('+', "[+]"))
            }
            Arg::Literal(text) => Err(format!(
                "beside `*` an argument may hold letters, digits and `_-/@%.+` alone, which `{text}` does not; list the commands one by one"
            )),
        })
        .collect::<Result<_, _>>()?;
    Ok(format!("^{}$", words.join(" ")))
}

/// A word with every character escaped that sudoers reads as its own.
fn escaped(word: &str) -> Result<String, String> {
    if word.is_empty() || word.chars().any(|c| !c.is_ascii_graphic() || r#""\"#.contains(c)) {
        return Err(format!(
            "sudoers cannot tell {word:?} from other arguments; it takes words of printable ASCII without spaces, quotes and backslashes: put this into a script that root owns and nobody else can write"
        ));
    }
    Ok(word.chars().fold(String::with_capacity(word.len()), |mut text, c| {
        if ",:=*?[]!^#".contains(c) {
            text.push('\\');
        }
        text.push(c);
        text
    }))
}

fn is_user(name: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    name.starts_with(first) && name.len() <= 32 && name.chars().all(|c| first(c) || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(Path::new("policy.yaml"), &format!("version: 1\n{text}")).expect(text)
    }

    fn written(text: &str) -> String {
        fragment(&policy(text), "farol-agent").expect(text)
    }

    /// The words of sudo itself about a fragment, where it is installed.
    fn visudo(text: &str) -> Option<bool> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fragment");
        std::fs::write(&file, text).expect("written");
        let program = ["/usr/sbin/visudo", "/usr/local/sbin/visudo"].into_iter().find(|path| Path::new(path).exists());
        let program = std::env::var("FAROL_TEST_VISUDO").ok().or_else(|| program.map(str::to_owned))?;
        Some(Command::new(program).arg("-cf").arg(&file).output().ok()?.status.success())
    }

    const EVERYTHING: &str = r##"
services:
- name: wizard
  verbs: [restart]
  run:
    restart: [sudo, -n, /usr/bin/timeout, "50", /usr/bin/systemctl, restart, wizard-api, wizard-portal]
    status: [/usr/bin/systemctl, is-active, wizard-portal]
- {name: nginx, verbs: [stop]}
commands:
- {command: /usr/bin/sudo, args: [-n, -u, postgres, --, /usr/bin/pg_ctl, reload]}
- {command: sudo, args: [-n, /usr/bin/apt-get, update]}
- {command: sudo, args: [-n, /opt/tool]}
- {command: sudo, args: [-n, /opt/odd, 'a,b:c=d', '*?', '[x]!', '^y$', '#1', '%p', "it's", '*.*.']}
- {command: sudo, args: [-n, /usr/bin/systemctl, restart, '*', v1.2+3]}
"##;

    #[test]
    fn each_root_command_becomes_one_exact_line() {
        let text = written(EVERYTHING);
        let root = "farol-agent ALL=(root) NOPASSWD: ";
        for line in [
            format!("{root}/usr/bin/timeout 50 /usr/bin/systemctl restart wizard-api wizard-portal"),
            "farol-agent ALL=(postgres) NOPASSWD: /usr/bin/pg_ctl reload".to_owned(),
            format!("{root}/usr/bin/apt-get update"),
            format!("{root}/opt/tool \"\""),
            format!(r"{root}/opt/odd a\,b\:c\=d \*\? \[x\]\! \^y$ \#1 %p it's \*.\*."),
            format!("{root}/usr/bin/systemctl ^restart [A-Za-z0-9_./@%+][A-Za-z0-9_./@%+-]* v1[.]2[+]3$"),
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\nis not in\n{text}");
        }
        assert_eq!(text.lines().count(), 6, "what needs no sudo is not in it: {text}");
        assert_ne!(visudo(&text), Some(false), "visudo refuses:\n{text}");
    }

    #[test]
    fn what_sudoers_cannot_say_exactly_is_refused_with_what_to_do() {
        for (args, part) in [
            ("[-n, /bin/x, '**']", "list each command"),
            ("[-n, '*']", "fixed one"),
            ("[-n]", "not told what to run"),
            ("[/bin/x]", "without -n"),
            ("[-n, x]", "absolute path"),
            ("[-n, /bin/]", "absolute path"),
            ("[-n, -E, /bin/x]", "`-E` of sudo"),
            ("[-n, -u, '#0', /bin/x]", "`-u` of sudo"),
            ("[-n, /bin/x, 'a b']", "put this into a script"),
            ("[-n, /bin/x, '']", "put this into a script"),
            ("[-n, /bin/x, \"a\\nb ALL=(ALL) ALL\"]", "put this into a script"),
            ("[-n, /bin/x, '\"\"']", "put this into a script"),
            (r"[-n, /bin/x, 'C:\z']", "put this into a script"),
            ("[-n, /bin/x, 'ção']", "put this into a script"),
            ("[-n, /bin/x, '*', 'a$']", "one by one"),
        ] {
            let text = format!("commands:\n- {{command: sudo, args: {args}}}\n");
            let wrong = fragment(&policy(&text), "farol-agent").expect_err(args);
            assert!(wrong.len() == 1 && wrong[0].contains(part) && !wrong[0].contains('\n'), "{args}: {wrong:?}");
        }
        assert!(fragment(&policy(""), "a ALL=(ALL) ALL\nb").is_err());
        assert_eq!(written("commands:\n- {command: uptime}\n"), "", "nothing runs as root");
    }

    /// A pattern must not be wider than the policy: no second argument, no option.
    #[test]
    fn any_printable_word_is_one_word_of_the_fragment() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut text = String::new();
        for round in 0..200 {
            let word: String = std::iter::repeat_with(|| char::from(random.u8(33..127)))
                .filter(|c| !r#""\"#.contains(*c))
                .take(1 + round % 12)
                .collect();
            let args = Args {
                each: ["-n", "/bin/x", &word].map(|arg| Arg::Literal(arg.to_owned())).to_vec(),
                any_rest: false,
            };
            let line = line("farol-agent", "sudo", &args).expect("a word");
            let mut escape = false;
            let read: String = line["farol-agent ALL=(root) NOPASSWD: /bin/x ".len()..]
                .chars()
                .filter(|c| {
                    let kept = escape || *c != '\\';
                    escape = !kept;
                    kept
                })
                .collect();
            assert_eq!(read, word, "{line}");
            text.push_str(&line);
            text.push('\n');
        }
        assert_ne!(visudo(&text), Some(false), "visudo refuses:\n{text}");
    }
}
