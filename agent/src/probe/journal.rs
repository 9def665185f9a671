//! Lines of the system's journal that hold a text.

use std::{process::Stdio, time::Duration};

use farol_protocol::Timestamp;
pub(super) use farol_protocol::report::JournalProbe;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use super::{Access, Probing, Seen, text::Text};
use crate::{
    effect::{epoch, unit_name},
    exec::{PATH, resolve},
    text::cut,
};

/// How much of the journal one check reads, in bytes.
const MOST_READ: u64 = 32 << 20;
/// How much of a line is looked at, in bytes.
const MOST_LINE: usize = 64 * 1024;
/// How much of journalctl's complaints is kept, in bytes.
const MOST_ERRORS: u64 = 4 * 1024;

pub(super) async fn run(probing: Probing, access: &Access, probe: &JournalProbe, now: Timestamp) -> Seen {
    let unit = match allowed(probing, access, probe.unit.as_deref()) {
        Ok(unit) => unit,
        Err(seen) => return *seen,
    };
    let Some(program) = resolve("journalctl") else {
        return probing.not_configured(Text::NoJournal, &[]);
    };
    let window = i64::try_from(probe.window_ms).unwrap_or(i64::MAX);
    let mut command = Command::new(program);
    command
        .args(["--output=cat", "--no-pager"])
        .arg(format!("--since={}", epoch(now.plus_ms(-window))))
        .arg(format!("--unit={unit}"))
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let counted = match timeout(probing.limit, count(&mut command, &probe.pattern)).await {
        Ok(Ok(counted)) => counted,
        Ok(Err(error)) => return probing.unknown(Text::JournalFailed, &[("why", &error.to_string())]),
        Err(_) => return probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    };
    judge(probing, probe, &counted)
}

/// The unit's full name, if the policy lists it: what is written there may
/// hold secrets, and counting matches of any pattern would spell them out.
fn allowed(probing: Probing, access: &Access, unit: Option<&str>) -> Result<String, Box<Seen>> {
    let (text, unit) = match (access, unit) {
        (Access::All, _) => (Text::JournalNotHere, ""),
        (Access::Listed(_) | Access::NoPolicy, None) => (Text::JournalNoUnit, ""),
        (Access::Listed(policy), Some(unit)) if policy.may_read_log(unit) => return Ok(unit_name(unit)),
        (Access::Listed(_), Some(unit)) => (Text::JournalNotAllowed, unit),
        (Access::NoPolicy, Some(unit)) => (Text::JournalNoPolicy, unit),
    };
    Err(Box::new(probing.not_configured(text, &[("unit", &cut(unit, 100))])))
}

struct Counted {
    lines: u64,
    /// Whether the bound was reached before the end.
    cut: bool,
    succeeded: bool,
    errors: String,
}

async fn count(command: &mut Command, pattern: &str) -> std::io::Result<Counted> {
    let mut child = command.spawn()?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let errors = async {
        let mut text = Vec::new();
        let mut stderr = stderr;
        (&mut stderr).take(MOST_ERRORS).read_to_end(&mut text).await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    // The pipe is dropped with the last line read, which ends who writes.
    let (lines, errors) = tokio::join!(matching(stdout, pattern), errors);
    let ((lines, cut), errors) = (lines?, errors?);
    if cut {
        child.start_kill()?;
    }
    let status = child.wait().await?;
    Ok(Counted { lines, cut, succeeded: cut || status.success(), errors })
}

/// How many lines hold `pattern`, without regard to case, and whether the
/// bound was reached.
async fn matching(stream: impl AsyncRead + Unpin, pattern: &str) -> std::io::Result<(u64, bool)> {
    let pattern = pattern.to_lowercase();
    let holds = |line: &[u8]| line != NO_ENTRIES && String::from_utf8_lossy(line).to_lowercase().contains(&pattern);
    let mut stream = stream.take(MOST_READ);
    let (mut buffer, mut line, mut lines) = (vec![0; 32 * 1024], Vec::new(), 0);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        for part in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            line.extend_from_slice(&text[..text.len().min(MOST_LINE - line.len())]);
            if ends {
                lines += u64::from(holds(&line));
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        lines += u64::from(holds(&line));
    }
    Ok((lines, stream.limit() == 0))
}

/// What journalctl says in place of lines.
const NO_ENTRIES: &[u8] = b"-- No entries --";

fn judge(probing: Probing, probe: &JournalProbe, counted: &Counted) -> Seen {
    let errors = counted.errors.trim();
    let why = cut(errors.lines().next().unwrap_or_default(), 200);
    if !counted.succeeded {
        return probing.unknown(Text::JournalFailed, &[("why", &why)]);
    }
    // It succeeds without a line where it may see none, which is not quiet.
    if ["not seeing messages from other users", "insufficient permissions", "No journal files were"]
        .iter()
        .any(|hint| errors.contains(hint))
    {
        return probing.not_configured(Text::JournalHidden, &[("why", &why)]);
    }
    #[expect(clippy::cast_precision_loss, reason = "a bounded reading has far fewer lines than that")]
    let lines = counted.lines as f64;
    let minutes = Duration::from_millis(probe.window_ms.max(1)).as_secs_f64() / 60.0;
    let value = if probe.rate { lines / minutes } else { lines };
    let over = probe.limits.judge(value) != farol_protocol::Status::Ok;
    if counted.cut && !over {
        // There may be more: nobody knows that it is fine.
        return probing.unknown(Text::JournalCut, &[("mib", &(MOST_READ >> 20).to_string())]);
    }
    let minutes = probing.number(minutes);
    let values = [("pattern", probe.pattern.as_str()), ("minutes", minutes.as_str())];
    if probe.rate {
        return probing.judged(&probe.limits, value, "/min", [Text::JournalRateOk, Text::JournalRateOver], &values);
    }
    probing.judged(&probe.limits, value, "count", [Text::JournalOk, Text::JournalOver], &values)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use farol_protocol::{
        Language, Status,
        report::{Limits, UnknownCause, Worse},
    };

    use super::*;
    use crate::policy::Policy;

    async fn sh(script: &str) -> Counted {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        count(&mut command, "ERRO").await.expect("it runs")
    }

    fn judged(counted: &Counted) -> Seen {
        let limits = Limits { warning: Some(1.0), critical: Some(3.0), worse: Worse::Above };
        let probe = JournalProbe { unit: None, pattern: "erro".to_owned(), window_ms: 90_000, rate: false, limits };
        judge(Probing { language: Language::En, limit: Duration::from_secs(1) }, &probe, counted)
    }

    #[test]
    fn only_journals_of_units_that_the_policy_lists_are_read() {
        let text = "version: 1\nservices: [{name: nginx, verbs: [restart]}]\nlogs: [sshd.service]\n";
        let policy = Policy::parse(Path::new("policy.yaml"), text).expect("valid");
        let listed = Access::from(Some(policy));
        let ask = |language, access: &Access, unit: Option<&str>| {
            allowed(Probing { language, limit: Duration::from_secs(1) }, access, unit)
        };
        for unit in ["nginx", "nginx.service", "sshd"] {
            let full = ask(Language::En, &listed, Some(unit)).ok().expect(unit);
            assert!(full == "nginx.service" || full == "sshd.service", "{full}");
        }
        for (access, unit, pt, en) in [
            (&listed, Some("cron"), "inclua-a em logs", "cron; add it to logs"),
            (&listed, Some("nginx.socket"), "inclua-a em logs", "add it to logs"),
            (&listed, Some("*"), "inclua-a em logs", "add it to logs"),
            (&listed, None, "em services ou logs", "under services or logs"),
            (&Access::NoPolicy, Some("nginx"), "logs: [nginx]", "logs: [nginx]"),
            (&Access::NoPolicy, None, "em services ou logs", "under services or logs"),
            (&Access::All, Some("nginx"), "o coordenador", "the coordinator"),
        ] {
            for (language, part) in [(Language::PtBr, pt), (Language::En, en)] {
                let Err(seen) = ask(language, access, unit) else { panic!("{unit:?} was not refused") };
                assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
                assert!(seen.text.contains(part), "{unit:?}: {}", seen.text);
            }
        }
    }

    #[tokio::test]
    async fn a_check_of_the_whole_journal_is_not_configured() {
        let probe =
            JournalProbe { unit: None, pattern: "e".to_owned(), window_ms: 1, rate: false, limits: Limits::default() };
        let probing = Probing { language: Language::En, limit: Duration::from_secs(1) };
        let seen = run(probing, &Access::NoPolicy, &probe, Timestamp::from_ms(7)).await;
        assert_eq!(seen.cause, Some(UnknownCause::NotConfigured));
        assert!(seen.text.contains("services or logs"), "{}", seen.text);
    }

    #[tokio::test]
    async fn lines_are_counted_without_regard_to_case_and_each_once() {
        let counted = sh("printf 'Erro: erro\\nfine\\nan ERROR\\n-- No entries --\\nlast erro'").await;
        assert_eq!((counted.lines, counted.cut), (3, false));
        let seen = judged(&counted);
        assert_eq!((seen.status, seen.value), (Status::Critical, Some(3.0)));
        assert_eq!(seen.text, "3 lines with `erro` in the last 1.5 minutes (limit 3)");
        assert_eq!(judged(&sh("echo fine").await).status, Status::Ok);
    }

    #[tokio::test]
    async fn a_rate_is_lines_per_minute() {
        let counted = sh("printf 'erro\\nerro\\nerro\\n'").await;
        let limits = Limits { warning: Some(2.0), ..Limits::default() };
        let probe = JournalProbe { unit: None, pattern: "erro".to_owned(), window_ms: 90_000, rate: true, limits };
        let seen = judge(Probing { language: Language::En, limit: Duration::from_secs(1) }, &probe, &counted);
        assert_eq!((seen.status, seen.value, seen.unit.as_deref()), (Status::Warning, Some(2.0), Some("/min")));
    }

    #[tokio::test]
    async fn a_journal_that_may_not_be_read_is_never_quiet() {
        let hidden =
            sh("echo 'Hint: You are currently not seeing messages from other users and the system.' >&2").await;
        let seen = judged(&hidden);
        assert_eq!((seen.status, seen.cause), (Status::Unknown, Some(UnknownCause::NotConfigured)));
        let failed = judged(&sh("echo no >&2; exit 1").await);
        assert_eq!((failed.status, failed.cause), (Status::Unknown, None));
    }

    #[tokio::test]
    async fn reading_is_bounded_and_what_was_not_read_is_not_called_fine() {
        let counted = sh("yes fine").await;
        assert!(counted.cut);
        assert_eq!(judged(&counted).status, Status::Unknown);
        let (lines, cut) = matching(&b"x".repeat(MOST_LINE * 3)[..], "erro").await.expect("read");
        assert_eq!((lines, cut), (0, false));
    }
}
