use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What a server does that is not plain acceptance.
#[derive(Debug, Clone, Copy, Default)]
struct Script {
    greeting: Option<&'static str>,
    extensions: &'static [&'static str],
    auth: Option<&'static str>,
    recipient: Option<&'static str>,
    content: Option<&'static str>,
    drops_at_data: bool,
    silent: bool,
    silent_at_quit: bool,
}

/// Speaks SMTP and keeps the dialogue; the mail's text without its dots.
async fn server(script: Script) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                // A client that goes away ends the dialogue.
                let _end = dialogue(stream, script, &kept).await;
            });
        }
    });
    (port, lines)
}

async fn dialogue(stream: TcpStream, script: Script, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    if script.silent {
        std::future::pending::<()>().await;
    }
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut in_text = false;
    writer.write_all(format!("{}\r\n", script.greeting.unwrap_or("220 test")).as_bytes()).await?;
    while let Some(line) = lines.next_line().await? {
        kept.lock().expect("not poisoned").push(line.clone());
        let command = line.split(' ').next().unwrap_or_default().to_uppercase();
        let answer = if in_text {
            if line != "." {
                continue;
            }
            in_text = false;
            script.content.unwrap_or("250 queued").to_owned()
        } else {
            match command.as_str() {
                "EHLO" => {
                    let offers: String = script.extensions.iter().map(|offer| format!("250-{offer}\r\n")).collect();
                    format!("250-test\r\n{offers}250 8BITMIME")
                }
                "AUTH" => script.auth.unwrap_or("235 welcome").to_owned(),
                "RCPT" => script.recipient.unwrap_or("250 fine").to_owned(),
                "DATA" if script.drops_at_data => return Ok(()),
                "DATA" => {
                    in_text = true;
                    "354 go on".to_owned()
                }
                "QUIT" if script.silent_at_quit => std::future::pending().await,
                _ => "250 fine".to_owned(),
            }
        };
        writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn mailer(url: &str) -> Result<Mailer, Error> {
    Mailer::new(&MailConfig { url: url.to_owned(), from: "Farol <farol@example.org>".to_owned() })
}

fn mail() -> Mail {
    Mail {
        to: "ops@example.org".to_owned(),
        subject: "[Farol] Fila parada em vm112 — não responde\r\nBcc: x@example.org".to_owned(),
        body: "Linha um\n.\nLinha três: atenção\n".to_owned(),
        message_id: "f-1.2@farol.example.org".to_owned(),
        in_reply_to: Some("<f-1.1@farol.example.org>".to_owned()),
    }
}

async fn sent(script: Script) -> (Result<(), SendError>, Vec<String>) {
    let (port, lines) = server(script).await;
    let result = mailer(&format!("smtp://127.0.0.1:{port}")).expect("valid").send(&mail()).await;
    let lines = lines.lock().expect("not poisoned").clone();
    (result, lines)
}

#[tokio::test]
async fn an_accepted_mail_carries_its_thread_and_no_smuggled_header() {
    let (result, lines) = sent(Script::default()).await;
    assert_eq!(result, Ok(()));
    let text = lines.join("\n");
    for part in [
        "MAIL FROM:<farol@example.org>",
        "RCPT TO:<ops@example.org>",
        "Message-ID: <f-1.2@farol.example.org>",
        "In-Reply-To: <f-1.1@farol.example.org>",
        "References: <f-1.1@farol.example.org>",
        "Auto-Submitted: auto-generated",
        "Content-Type: text/plain; charset=utf-8",
        "Date: ",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("Bcc")), "{text}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("RCPT")).count(), 1);
    assert_eq!(lines.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_451_is_worth_another_attempt_and_a_550_is_not() {
    let (result, _) = sent(Script { recipient: Some("451 try later"), ..Script::default() }).await;
    assert!(matches!(&result, Err(SendError::Transient(text)) if text.contains("try later")), "{result:?}");
    let (result, _) = sent(Script { recipient: Some("550 no such user"), ..Script::default() }).await;
    assert!(matches!(&result, Err(SendError::Permanent(text)) if text.contains("no such user")), "{result:?}");
    let (result, _) = sent(Script { content: Some("554 refused as spam"), ..Script::default() }).await;
    assert!(matches!(&result, Err(SendError::Permanent(_))), "{result:?}");
}

#[tokio::test]
async fn a_server_that_refuses_before_it_saw_the_mail_says_nothing_about_the_mail() {
    let (result, _) = sent(Script { greeting: Some("554 not today"), ..Script::default() }).await;
    assert!(matches!(result, Err(SendError::Transient(_))), "{result:?}");
}

#[tokio::test]
async fn a_dropped_connection_is_worth_another_attempt() {
    let (result, _) = sent(Script { drops_at_data: true, ..Script::default() }).await;
    assert!(matches!(result, Err(SendError::Transient(_))), "{result:?}");
    let port = TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address").port();
    let result = mailer(&format!("smtp://127.0.0.1:{port}")).expect("valid").send(&mail()).await;
    assert!(matches!(result, Err(SendError::Transient(_))), "{result:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_after_the_time_limit() {
    let (port, _) = server(Script { silent: true, ..Script::default() }).await;
    let mut mailer = mailer(&format!("smtp://127.0.0.1:{port}")).expect("valid");
    assert_eq!(mailer.timeout, Duration::from_secs(30));
    mailer.timeout = Duration::from_millis(100);
    assert!(matches!(mailer.send(&mail()).await, Err(SendError::Transient(text)) if text.contains("did not answer")));
}

#[tokio::test]
async fn a_server_that_is_silent_after_taking_the_mail_has_taken_it() {
    let (result, _) = sent(Script { silent_at_quit: true, ..Script::default() }).await;
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn the_password_is_used_and_never_shown() {
    let echo = "535 no, s3cr=et% is wrong";
    for (auth, fine) in [(None, true), (Some(echo), false)] {
        let (port, lines) = server(Script { auth, extensions: &["AUTH PLAIN"], ..Script::default() }).await;
        let config = MailConfig {
            url: format!("smtp://ana:s3cr%3Det%25@127.0.0.1:{port}"),
            from: "farol@example.org".to_owned(),
        };
        let mailer = Mailer::new(&config).expect("valid");
        assert!(!format!("{mailer:?} {config:?}").contains("s3cr"));
        let result = mailer.send(&mail()).await;
        assert_eq!(result.is_ok(), fine, "{result:?}");
        assert!(lines.lock().expect("not poisoned").iter().any(|line| line == "AUTH PLAIN AGFuYQBzM2NyPWV0JQ=="));
        if let Err(error) = result {
            assert!(matches!(&error, SendError::Transient(text) if text.contains("***")), "{error:?}");
            assert!(!format!("{error:?}").contains("s3cr"));
        }
    }
}

#[tokio::test]
async fn required_tls_never_falls_back_to_plain_text() {
    let (port, lines) = server(Script::default()).await;
    for url in [format!("smtp://127.0.0.1:{port}?tls=required"), format!("smtp+starttls://127.0.0.1:{port}")] {
        let result = mailer(&url).expect("valid").send(&mail()).await;
        assert!(matches!(&result, Err(SendError::Transient(text)) if text.contains("STARTTLS")), "{result:?}");
    }
    assert!(!lines.lock().expect("not poisoned").iter().any(|line| line.starts_with("MAIL")));
    let offered = format!("smtp://127.0.0.1:{port}?tls=opportunistic");
    assert_eq!(mailer(&offered).expect("valid").send(&mail()).await, Ok(()));
}

#[test]
fn a_wrong_server_address_is_named_without_being_repeated() {
    for (url, says) in [
        ("mail.example.org", "smtp://HOST:PORT"),
        ("smtp://", "host"),
        ("http://user:geheim@mail.example.org", "begin with"),
        ("smtp://mail.example.org?tls=maybe", "opportunistic"),
        ("smtp://mail.example.org?tsl=required", "only option"),
        ("smtps://mail.example.org?tls=required", "smtp:// only"),
        ("smtp://user:geheim@mail.example.org", "in the clear"),
        ("smtp://user:geheim@mail.example.org?tls=opportunistic", "in the clear"),
        ("smtps://user@mail.example.org", "no password"),
        ("smtps://user:gehe%im@mail.example.org", "%25"),
    ] {
        let error = mailer(url).expect_err("must be refused").to_string();
        assert!(error.contains(says), "{url}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
    let ports = |url| mailer(url).expect("valid").port;
    assert_eq!(ports("smtp://mail.example.org"), 25);
    assert_eq!(ports("smtp://u:p@mail.example.org?tls=required"), 587);
    assert_eq!(ports("smtps://u:p@mail.example.org"), 465);
    assert_eq!(ports("smtp://[::1]:2525"), 2525);
    assert_eq!(mailer("smtp://[::1]:2525").expect("valid").host, "::1");
}

#[tokio::test]
async fn a_wrong_mail_address_or_identity_is_refused_before_any_connection() {
    let from = |from: &str| {
        Mailer::new(&MailConfig { url: "smtp://127.0.0.1:1".to_owned(), from: from.to_owned() }).map(|_| ())
    };
    for bad in ["", "farol", "farol@", "a@b.c, d@e.f", "a@b.c\r\nBcc: x@y.z"] {
        assert!(matches!(from(bad), Err(Error::Address(_))), "{bad:?} was accepted");
        assert!(check_address(bad).is_err());
    }
    assert_eq!(from("Farol <farol@example.org>"), Ok(()));

    let mailer = mailer("smtp://127.0.0.1:1").expect("valid");
    for (to, id) in [("ops", "a@b"), ("ops@example.org", "no id"), ("ops@example.org", "a@b>\r\nBcc: <x@y")] {
        let mail = Mail { to: to.to_owned(), message_id: id.to_owned(), ..mail() };
        assert!(matches!(mailer.send(&mail).await, Err(SendError::Permanent(_))), "{to} {id}");
    }
}
