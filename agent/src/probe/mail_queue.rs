//! Postfix's queue, by `postqueue -j`.
//!
//! Addresses are people's: a text names domains and reasons only.

use std::collections::BTreeMap;

pub(super) use farol_protocol::report::MailQueueProbe;
use farol_protocol::{Status, Timestamp};
use serde::Deserialize;

use super::{Probing, Seen, crossed, program, text::Text};
use crate::text::cut;

/// Domains that are named in a text.
const MOST_NAMED: usize = 3;

pub(super) async fn run(probing: Probing, probe: &MailQueueProbe, now: Timestamp) -> Seen {
    ask(probing, probe, &["-j"], now).await
}

async fn ask(probing: Probing, probe: &MailQueueProbe, arguments: &[&str], now: Timestamp) -> Seen {
    let output = match program::run(probing, "postqueue", arguments).await {
        Ok(output) => output,
        Err(seen) => return *seen,
    };
    if !output.succeeded() {
        let complaint = output.complaint();
        let text = if complaint.contains("not allowed to view") { Text::MailDenied } else { Text::MailFailed };
        return probing.unknown(text, &[("why", &mask(&complaint))]);
    }
    judge(probing, probe, &queue(&output.stdout, output.cut), now)
}

/// One line of `postqueue -j`, as far as it matters.
#[derive(Deserialize)]
struct Message {
    queue_name: String,
    #[serde(default)]
    arrival_time: Option<i64>,
    #[serde(default)]
    recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Recipient {
    #[serde(default)]
    address: String,
    #[serde(default)]
    delay_reason: Option<String>,
}

/// The queue in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Queue {
    all: usize,
    deferred: usize,
    /// Seconds since 1970.
    oldest: Option<i64>,
    /// Delayed recipients by domain and reason.
    delayed: BTreeMap<(String, String), usize>,
    /// Lines that could not be read: the queue changes while it is listed.
    unread: usize,
    /// Whether there was more than was read.
    cut: bool,
}

fn queue(text: &str, cut: bool) -> Queue {
    let mut queue = Queue { cut, ..Queue::default() };
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if cut {
        // It ends within a line.
        lines.pop();
    }
    for line in lines {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            queue.unread += 1;
            continue;
        };
        queue.all += 1;
        queue.deferred += usize::from(message.queue_name == "deferred");
        queue.oldest = queue.oldest.into_iter().chain(message.arrival_time).min();
        for recipient in message.recipients {
            let Some(why) = recipient.delay_reason.as_deref() else { continue };
            let domain = recipient.address.rsplit_once('@').map_or("?", |(_, domain)| domain);
            *queue.delayed.entry((super::text::printable(domain, 60), reason(why))).or_default() += 1;
        }
    }
    queue
}

/// The kind of a reason: the code the other side gave, or the last clause,
/// without addresses.
fn reason(text: &str) -> String {
    if let Some((_, said)) = text.split_once(" said: ") {
        let code: Vec<&str> = said
            .split_whitespace()
            .take(2)
            .filter(|word| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            .collect();
        if !code.is_empty() {
            return code.join(" ");
        }
    }
    let last = text.trim().trim_end_matches(')').rsplit(": ").next().unwrap_or_default();
    mask(&cut(last, 60))
}

/// Without whatever could be an address.
fn mask(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().map(|word| if word.contains('@') { "…@…" } else { word }).collect();
    super::text::printable(&words.join(" "), 200)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer messages than that")]
fn judge(probing: Probing, probe: &MailQueueProbe, queue: &Queue, now: Timestamp) -> Seen {
    if queue.all == 0 && queue.unread > 0 {
        return probing.unknown(Text::ProgramOdd, &[("program", "postqueue"), ("why", "JSON")]);
    }
    let (all, deferred) = (queue.all as f64, queue.deferred as f64);
    let mut delayed: Vec<_> = queue.delayed.iter().collect();
    delayed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named: Vec<String> = delayed
        .iter()
        .take(MOST_NAMED)
        .map(|((domain, reason), count)| format!("{domain}: {reason} ({count})"))
        .collect();
    let hours = queue.oldest.map(|oldest| {
        let hours = (now.as_ms() / 1000 - oldest).max(0) as f64 / 3600.0;
        probing.number((hours * 10.0).round() / 10.0)
    });
    let mut about = String::new();
    if let Some(hours) = hours {
        about = probing.say(Text::MailOldest, &[("hours", &hours)]);
    }
    if !named.is_empty() {
        about.push_str("; ");
        about.push_str(&named.join(", "));
    }
    let shown = probing.number(deferred);
    let values = [("deferred", shown.as_str()), ("about", &about)];
    let seen = probing.judged(&probe.limits, all, "count", [Text::MailOk, Text::MailOver], &values);
    let by_deferred = probe.deferred.judge(deferred);
    let worse = by_deferred == Status::Critical && seen.status != Status::Critical
        || by_deferred == Status::Warning && seen.status == Status::Ok;
    if worse {
        let limit = crossed(&probe.deferred, deferred).map(|limit| probing.number(limit)).unwrap_or_default();
        let total = probing.number(all);
        let values = [("deferred", &*shown), ("about", &*about), ("limit", &*limit), ("value", &*total)];
        return Seen { status: by_deferred, text: probing.say(Text::MailDeferred, &values), ..seen };
    }
    if seen.status == Status::Ok && (queue.cut || queue.unread > 0) {
        // There may be more: nobody knows that it is fine.
        return probing.unknown(Text::MailUnread, &[("value", &probing.number(all))]);
    }
    seen
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::Limits;

    use super::{super::tests::probing, *};

    const QUEUE: &str = r#"{"queue_name": "deferred", "queue_id": "3F1A22C0", "arrival_time": 1700000000, "message_size": 1021, "forced_expire": false, "sender": "ann@example.net", "recipients": [{"address": "bob@example.org", "delay_reason": "connect to mx.example.org[192.0.2.7]:25: Connection timed out"}, {"address": "eve@example.org", "delay_reason": "connect to mx.example.org[192.0.2.7]:25: Connection timed out"}]}
{"queue_name": "deferred", "queue_id": "4", "arrival_time": 1700003600, "message_size": 9, "sender": "", "recipients": [{"address": "carl@example.com", "delay_reason": "host mx.example.com[192.0.2.8] said: 450 4.2.1 <carl@example.com>: Recipient address rejected (in reply to RCPT TO command)"}]}
{"queue_name": "active", "queue_id": "5", "arrival_time": 1700007100, "message_size": 9, "sender": "a@b", "recipients": [{"address": "x@example.com"}]}
"#;

    fn seen(text: &str, limits: Limits, deferred: Limits) -> Seen {
        let now = Timestamp::from_ms(1_700_007_200_000);
        judge(probing(), &MailQueueProbe { limits, deferred }, &queue(text, false), now)
    }

    fn warns(at: f64) -> Limits {
        Limits { warning: Some(at), ..Limits::default() }
    }

    #[test]
    fn messages_are_counted_and_named_by_domain_and_reason_without_addresses() {
        let report = seen(QUEUE, warns(3.0), Limits::default());
        assert_eq!((report.status, report.value, report.unit.as_deref()), (Status::Warning, Some(3.0), Some("count")));
        assert!(report.text.contains("example.org: Connection timed out (2)"), "{}", report.text);
        assert!(report.text.contains("example.com: 450 4.2.1 (1)"), "{}", report.text);
        for person in ["ann", "bob", "eve", "carl", "@"] {
            assert!(!report.text.contains(person), "{}", report.text);
        }
        let report = seen(QUEUE, warns(4.0), warns(2.0));
        assert_eq!((report.status, report.value), (Status::Warning, Some(3.0)), "{}", report.text);
        assert_eq!(seen(QUEUE, warns(4.0), warns(3.0)).status, Status::Ok);
    }

    /// A Postfix of its own, whose only way out is a closed port.
    struct Postfix(tempfile::TempDir);

    impl Postfix {
        /// None where it is not installed, or this is not root.
        async fn start() -> Option<Self> {
            let installed =
                ["postfix", "postqueue", "sendmail"].iter().all(|name| crate::exec::resolve(name).is_some());
            if !installed || !rustix::process::geteuid().is_root() {
                eprintln!("Postfix is not installed, or this is not root: nothing was looked at");
                return None;
            }
            let postfix = Self(tempfile::tempdir().expect("a folder"));
            let at = |name: &str| postfix.0.path().join(name);
            for name in ["etc", "queue", "data"] {
                std::fs::create_dir(at(name)).expect("made");
            }
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(postfix.0.path(), open).expect("opened");
            let services = ["/usr/share/postfix/master.cf.dist", "/etc/postfix/master.cf.proto"];
            let services = services.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
            // It must not listen on port 25.
            let quiet = services.lines().filter(|line| !line.starts_with("smtp      inet"));
            std::fs::write(at("etc/master.cf"), quiet.collect::<Vec<_>>().join("\n") + "\n").expect("written");
            let main = format!(
                "compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\nmail_owner = postfix\n\
                 setgid_group = postdrop\nmyhostname = mail.example.net\nmydestination =\nrelayhost = [127.0.0.1]:9\n\
                 inet_interfaces = loopback-only\nsmtp_host_lookup = native\nsmtp_dns_support_level = disabled\n\
                 maillog_file = {log}\nmaillog_file_prefixes = {folder}\n",
                queue = at("queue").display(),
                data = at("data").display(),
                log = at("log").display(),
                folder = postfix.0.path().display(),
            );
            std::fs::write(at("etc/main.cf"), main).expect("written");
            let owned = tokio::process::Command::new("chown").arg("postfix").arg(at("data")).status().await;
            assert!(owned.expect("runs").success());
            postfix.tell("start").await;
            Some(postfix)
        }

        fn config(&self) -> String {
            self.0.path().join("etc").display().to_string()
        }

        async fn tell(&self, verb: &str) {
            let told = tokio::process::Command::new("postfix").args(["-c", &self.config(), verb]).output().await;
            assert!(told.as_ref().is_ok_and(|output| output.status.success()), "{told:?}");
        }

        async fn send(&self, to: &str) {
            use tokio::io::AsyncWriteExt as _;

            let mut sendmail = tokio::process::Command::new("sendmail")
                .args(["-C", &self.config(), "-f", "ann@example.net", to])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("starts");
            let mut stdin = sendmail.stdin.take().expect("a pipe");
            stdin.write_all(b"Subject: x\n\nx\n").await.expect("written");
            drop(stdin);
            assert!(sendmail.wait().await.expect("ends").success());
        }
    }

    impl Drop for Postfix {
        fn drop(&mut self) {
            let _ = std::process::Command::new("postfix").args(["-c", &self.config(), "stop"]).output();
        }
    }

    #[tokio::test]
    async fn the_queue_of_a_real_postfix_is_read_until_it_stops() {
        let Some(postfix) = Postfix::start().await else { return };
        let config = postfix.config();
        let look = async || {
            let probe = MailQueueProbe { limits: Limits::default(), deferred: warns(1.0) };
            ask(probing(), &probe, &["-c", &config, "-j"], Timestamp::now()).await
        };
        let began = std::time::Instant::now();
        let mut seen = look().await;
        // It creates its sockets after `start` has returned.
        while seen.status != Status::Ok {
            assert!(began.elapsed().as_secs() < 60, "{}", seen.text);
            seen = look().await;
        }
        assert_eq!(seen.value, Some(0.0), "{}", seen.text);
        postfix.send("bob@example.org").await;
        // On its way from one queue to the next it may be seen in both.
        while (seen.status, seen.value) != (Status::Warning, Some(1.0)) {
            assert!(began.elapsed().as_secs() < 60, "{}", seen.text);
            seen = look().await;
        }
        assert!(
            seen.text.contains("example.org: Connection refused (1)") && !seen.text.contains("bob"),
            "{}",
            seen.text
        );
        postfix.tell("stop").await;
        let stopped = look().await;
        assert!(stopped.status != Status::Ok, "root reads the files themselves, others nothing: {}", stopped.text);
    }

    #[test]
    fn an_empty_queue_is_ok_and_a_bad_line_costs_that_line() {
        let report = seen("", warns(1.0), Limits::default());
        assert_eq!((report.status, report.value), (Status::Ok, Some(0.0)), "{}", report.text);
        let broken = format!("{{\"queue_name\": \"def\n{QUEUE}");
        assert_eq!(queue(&broken, false).all, 3);
        assert_eq!(seen(&broken, warns(1.0), Limits::default()).status, Status::Warning);
        let report = seen(&broken, warns(100.0), Limits::default());
        assert_eq!((report.status, report.value), (Status::Unknown, None), "{}", report.text);
        assert_eq!(seen("Mail queue is empty\n", warns(1.0), Limits::default()).status, Status::Unknown);
        assert_eq!(queue(&QUEUE[..QUEUE.len() - 20], true).all, 2);
    }

    #[test]
    fn reasons_lose_what_could_be_an_address() {
        for (text, kind) in [
            ("delivery temporarily suspended: lost connection with mx[1.2.3.4]", "lost connection with mx[1.2.3.4]"),
            ("host mx said: 421 busy", "421"),
            ("unknown user: \"ann@example.org\"", "…@…"),
            ("mail for <ann@example.org> loops back", "mail for …@… loops back"),
            ("", ""),
        ] {
            assert_eq!(reason(text), kind);
        }
    }
}
