//! Redis and Valkey.

mod capped;

use std::{collections::HashMap, sync::atomic::Ordering, time::Instant};

use farol_protocol::{
    Language,
    system::{RedisLook, RedisProbe},
};
use redis::{
    AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError,
    aio::{AsyncStream, MultiplexedConnection},
};
use reqwest::Url;
use tokio::time::timeout;

use self::capped::Capped;
use super::{
    Asking, Seen,
    reach::{is_passed_over, share},
};
use crate::{
    integrations::{
        Connection, Tls,
        http::{Failure, hidden, redacted},
        stream::{self, Place},
    },
    text::{duration, number, plain, say},
};

const PORT: u16 = 6379;
/// Most bytes that a server may answer in one look.
const MAX_ANSWERS: usize = 8 << 20;

pub(super) async fn ask(asking: &Asking<'_>, probe: &RedisProbe, connection: &Connection) -> Seen {
    let began = Instant::now();
    let left = || asking.limit.saturating_sub(began.elapsed());
    let mut last = Failure::Unusable("no address".to_owned());
    for (at, endpoint) in connection.endpoints.iter().enumerate() {
        let limit = share(left(), at, connection.endpoints.len());
        let dialogue = timeout(limit, dialogue(asking, probe, connection, endpoint));
        match dialogue.await.unwrap_or(Err(Trouble::Transport(Failure::Timeout))) {
            Ok(seen) => return seen,
            // Who answers, counts; whoever cannot be reached, has the next one asked.
            Err(Trouble::Transport(failure)) if is_passed_over(&failure) => last = failure,
            Err(Trouble::Transport(failure)) => return asking.failed(&connection.name, &failure),
            Err(Trouble::Server(error)) => return refused(asking, connection, &error),
        }
    }
    asking.failed(&connection.name, &last)
}

/// Why there was nothing to judge.
enum Trouble {
    /// No way to the server.
    Transport(Failure),
    /// The server said no.
    Server(RedisError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Transport(failure)
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Transport(Failure::Timeout);
        }
        if error.is_io_error() || error.is_connection_dropped() {
            return Self::Transport(stream::failure(Box::new(error)));
        }
        Self::Server(error)
    }
}

async fn dialogue(
    asking: &Asking<'_>,
    probe: &RedisProbe,
    connection: &Connection,
    endpoint: &str,
) -> Result<Seen, Trouble> {
    let url = Url::parse(endpoint).map_err(|error| Failure::Unusable(error.to_string()))?;
    let place = Place::of(&url, PORT).ok_or_else(|| Failure::Unusable("the address has no host".to_owned()))?;
    let tcp = place.connect().await?;
    // Who chose whom to believe wants TLS, whatever the address says.
    let (tcp, is_too_long) = Capped::new(tcp, MAX_ANSWERS);
    let stream: std::pin::Pin<Box<dyn AsyncStream + Send>> =
        if url.scheme() == "rediss" || connection.tls != Tls::Verify {
            let config = stream::client_config(&connection.tls)?;
            Box::pin(place.secure(tcp, config).await?)
        } else {
            Box::pin(tcp)
        };
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(asking.limit));
    let (mut redis, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
    let seen = tokio::select! {
        seen = look(asking, probe, connection, &mut redis) => seen.map_err(Trouble::from),
        () = driver => Err(Failure::Refused(Box::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))).into()),
    };
    // The client only knows that its stream ended.
    if seen.is_err() && is_too_long.load(Ordering::Relaxed) { Err(Failure::TooLong.into()) } else { seen }
}

async fn look(
    asking: &Asking<'_>,
    probe: &RedisProbe,
    connection: &Connection,
    redis: &mut MultiplexedConnection,
) -> Result<Seen, RedisError> {
    if connection.secret.is_some() {
        let mut auth = redis::cmd("AUTH");
        if let Some(user) = &connection.user {
            auth.arg(user);
        }
        auth.arg(connection.secret()).query_async::<()>(redis).await?;
    }
    let (language, name) = (asking.language, &connection.name);
    let began = Instant::now();
    Ok(match probe.look {
        RedisLook::Answers => {
            let pong: String = redis::cmd("PING").query_async(redis).await?;
            let ms = (began.elapsed().as_secs_f64() * 1000.0 * 10.0).round() / 10.0;
            if pong != "PONG" {
                let pong = plain(&pong, 40);
                return Ok(Seen::unknown(say!(
                    language,
                    "{name} respondeu `{pong}` em vez de PONG",
                    "{name} answered `{pong}` instead of PONG"
                )));
            }
            Seen::judged(language, &probe.limits, ms, "ms", &say!(language, "{name} responde", "{name} answers"))
        }
        RedisLook::Memory => memory(asking, probe, name, &Info::read(redis, "memory").await?),
        RedisLook::Persistence => {
            let mut info = Info::read(redis, "persistence").await?;
            info.0.extend(Info::read(redis, "replication").await?.0);
            // Its own clock counts, where it tells it.
            let now = match redis::cmd("TIME").query_async::<(i64, i64)>(redis).await {
                Ok((seconds, _)) => seconds,
                Err(_) => asking.now.as_ms() / 1000,
            };
            persistence(asking, probe, name, &info, now)
        }
    })
}

/// What `INFO` says.
struct Info(HashMap<String, String>);

impl Info {
    async fn read(redis: &mut MultiplexedConnection, section: &str) -> Result<Self, RedisError> {
        let text: String = redis::cmd("INFO").arg(section).query_async(redis).await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

fn memory(asking: &Asking<'_>, probe: &RedisProbe, name: &str, info: &Info) -> Seen {
    let language = asking.language;
    let missing = |what: &str| {
        Seen::unknown(say!(language, "{name} não diz `{what}` em INFO", "{name} does not say `{what}` in INFO"))
    };
    let Some(used) = info.number("used_memory") else { return missing("used_memory") };
    let Some(allowed) = info.number("maxmemory") else { return missing("maxmemory") };
    let mib = |bytes: f64| number((bytes / 1_048_576.0).round(), language);
    let (of, whose) = if allowed > 0.0 {
        (allowed, say!(language, "de `maxmemory`", "of `maxmemory`"))
    } else {
        match info.number("total_system_memory").filter(|total| *total > 0.0) {
            Some(total) => {
                (total, say!(language, "da máquina, sem `maxmemory`", "of the machine, without `maxmemory`"))
            }
            None => return missing("total_system_memory"),
        }
    };
    let share = (used / of * 1000.0).round() / 10.0;
    let (used, of, shown) = (mib(used), mib(of), number(share, language));
    let text = say!(
        language,
        "{name} usa {used} de {of} MiB {whose} ({shown}%)",
        "{name} uses {used} of {of} MiB {whose} ({shown}%)"
    );
    Seen::judged(language, &probe.limits, share, "%", &text)
}

/// `now` in seconds of the server's clock.
fn persistence(asking: &Asking<'_>, probe: &RedisProbe, name: &str, info: &Info, now: i64) -> Seen {
    let language = asking.language;
    if info.get("loading") == Some("1") {
        let left = info.number("loading_eta_seconds").map(|left| number(left, language));
        let left = left.unwrap_or_else(|| "?".to_owned());
        return Seen::critical(say!(
            language,
            "{name} ainda carrega os dados do disco (faltam {left} s) e não atende",
            "{name} is still loading its data from disk ({left} s to go) and does not serve"
        ));
    }
    let mut broken = Vec::new();
    if info.get("role") == Some("slave") && info.get("master_link_status").is_some_and(|status| status != "up") {
        let master = plain(info.get("master_host").unwrap_or("?"), 80);
        let since = info.number("master_link_down_since_seconds").filter(|since| *since >= 0.0);
        let since = since.map_or_else(|| "?".to_owned(), |since| number(since, language));
        broken.push(say!(
            language,
            "a ligação ao primário {master} está caída há {since} s",
            "the link to its primary {master} has been down for {since} s"
        ));
    }
    let failing = |key: &str| info.get(key).is_some_and(|status| status == "err");
    if failing("rdb_last_bgsave_status") {
        broken.push(say!(
            language,
            "a última gravação em disco falhou (`rdb_last_bgsave_status: err`); veja o log e o espaço em disco",
            "the last save to disk failed (`rdb_last_bgsave_status: err`); see its log and the space on disk"
        ));
    }
    if failing("aof_last_write_status") || failing("aof_last_bgrewrite_status") {
        broken.push(say!(
            language,
            "a última escrita do AOF falhou; veja o log e o espaço em disco",
            "the last write of the AOF failed; see its log and the space on disk"
        ));
    }
    if !broken.is_empty() {
        let broken = broken.join("; ");
        return Seen::critical(format!("{name}: {broken}"));
    }
    let Some(saved) = info.number("rdb_last_save_time") else {
        return Seen::unknown(say!(
            language,
            "{name} não diz `rdb_last_save_time` em INFO",
            "{name} does not say `rdb_last_save_time` in INFO"
        ));
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    let age = (now as f64 - saved).max(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 are far below 2^52")]
    let ago = duration((age as i64).saturating_mul(1000));
    // Without a change there is nothing to save, however long ago it was.
    if info.number("rdb_changes_since_last_save") == Some(0.0) {
        let text = say!(
            language,
            "{name} não tem nada por gravar; a última gravação foi há {ago}",
            "{name} has nothing to save; the last save was {ago} ago"
        );
        return Seen::ok(text).measured(age, "s");
    }
    let changes = info.number("rdb_changes_since_last_save").map(|count| number(count, language));
    let changes = changes.unwrap_or_else(|| "?".to_owned());
    let text = say!(
        language,
        "{name} gravou há {ago}; {changes} mudanças por gravar",
        "{name} saved {ago} ago; {changes} changes to save"
    );
    Seen::judged(language, &probe.limits, age, "s", &text)
}

/// What a refusal of the server means.
fn refused(asking: &Asking<'_>, connection: &Connection, error: &RedisError) -> Seen {
    let (language, name) = (asking.language, &connection.name);
    let code = error.code().unwrap_or_default().to_owned();
    let detail = plain(&redacted(error.detail().unwrap_or_default(), &[connection.secret()]), 120);
    match code.as_str() {
        "NOAUTH" => Seen::unknown(say!(
            language,
            "{name} quer uma senha; guarde-a com `farol integration` (usuário e segredo)",
            "{name} wants a password; store it with `farol integration` (user and secret)"
        )),
        "WRONGPASS" => Seen::unknown(say!(
            language,
            "{name} recusou o usuário ou a senha; corrija a integração",
            "{name} refused the user or the password; correct the integration"
        )),
        "NOPERM" => Seen::unknown(say!(
            language,
            "o usuário de {name} não pode o que a verificação precisa; dê-lhe `+ping +info +time`",
            "the user of {name} may not do what the check needs; give it `+ping +info +time`"
        )),
        "LOADING" => Seen::critical(say!(
            language,
            "{name} ainda carrega os dados do disco e não atende",
            "{name} is still loading its data from disk and does not serve"
        )),
        "MASTERDOWN" => Seen::critical(say!(
            language,
            "{name} perdeu a ligação ao primário e não atende",
            "{name} has lost the link to its primary and does not serve"
        )),
        "MISCONF" => Seen::critical(say!(
            language,
            "{name} não consegue gravar em disco e recusa escritas",
            "{name} cannot save to disk and refuses writes"
        )),
        "DENIED" => Seen::unknown(say!(
            language,
            "{name} está em modo protegido e só atende a própria máquina; configure uma senha ou `bind`",
            "{name} is in protected mode and serves only its own machine; configure a password or `bind`"
        )),
        _ if error.kind() == ErrorKind::Parse => Seen::unknown(say!(
            language,
            "o que responde em {name} não fala o protocolo do Redis",
            "what answers at {name} does not speak the protocol of Redis"
        )),
        "ERR" if detail.contains("AUTH") || detail.contains("password") => {
            Seen::unknown(say!(language, "{name} recusou o login: {detail}", "{name} refused the login: {detail}"))
        }
        "ERR" if detail.contains("max number of clients") => Seen::critical(say!(
            language,
            "{name} não aceita mais ligações: {detail}",
            "{name} takes no more connections: {detail}"
        )),
        code => {
            let code = plain(&hidden(code), 20);
            Seen::unknown(say!(
                language,
                "{name} respondeu com erro {code}: {detail}",
                "{name} answered with error {code}: {detail}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farol_protocol::{Status, Timestamp, report::Limits};
    use farol_tests::product::{Product, Reply};
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        checks::system::testing::connection,
        integrations::{Kind, http::Clients},
    };

    /// Answers everything with `answer`.
    async fn server(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut question = [0; 4096];
            while stream.read(&mut question).await.is_ok_and(|read| read > 0) {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
        format!("redis://{address}")
    }

    async fn asked(connection: &Connection) -> Seen {
        let clients = Clients::default();
        let asking = Asking { limit: Duration::from_secs(2), ..crate::checks::system::testing::asking(&clients) };
        let look = RedisLook::Answers;
        ask(&asking, &RedisProbe { integration: "casa".to_owned(), look, limits: Limits::default() }, connection).await
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_and_another_certificate_ends_the_look() {
        let product = Product::start(|_| Reply::json(200, &json!({}))).await.expect("a server");
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let silent = format!("redis://{}", silent.local_addr().expect("an address"));
        let mut of = connection(Kind::Redis, &product, None, "");
        (of.tls, of.secret) = (Tls::Verify, None);
        of.endpoints = vec![silent, server(b"+PONG\r\n".to_vec()).await];
        let seen = asked(&of).await;
        assert_eq!(seen.status, Status::Ok, "{}", seen.text);
        let pin = product.pin();
        product.change_certificate().expect("another");
        of.tls = Tls::Pin(pin);
        of.endpoints = vec![product.url().replace("https", "rediss"), "redis://127.0.0.1:1".to_owned()];
        let seen = asked(&of).await;
        assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
        assert!(seen.text.contains("another certificate"), "{}", seen.text);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_given_up() {
        let product = Product::start(|_| Reply::json(200, &json!({}))).await.expect("a server");
        let mut of = connection(Kind::Redis, &product, None, "");
        (of.tls, of.secret) = (Tls::Verify, None);
        let mut long = b"$30000000\r\n".to_vec();
        long.resize(20 << 20, b'x');
        of.endpoints = vec![server(long).await];
        let seen = asked(&of).await;
        assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
        assert!(seen.text.contains("longer than 8 MiB"), "{}", seen.text);
    }

    const FINE: &str = "# Persistence\r\nloading:0\r\nrdb_changes_since_last_save:5\r\nrdb_last_save_time:1000\r\n\
        rdb_last_bgsave_status:ok\r\nrole:slave\r\nmaster_link_status:up\r\nmaster_host:10.0.0.9\r\n";

    fn probe(warning: f64) -> RedisProbe {
        let limits = Limits { warning: Some(warning), ..Limits::default() };
        RedisProbe { integration: "cache".to_owned(), look: RedisLook::Persistence, limits }
    }

    fn with(text: &str, check: impl Fn(&Asking<'_>, &Info) -> Seen) -> Seen {
        let clients = Clients::default();
        let limit = Duration::from_secs(1);
        let asking = Asking { language: Language::En, limit, now: Timestamp::from_ms(0), clients: &clients };
        check(&asking, &Info::parse(text))
    }

    #[test]
    fn what_redis_says_of_its_saving_is_told_apart() {
        let persistence =
            |text: &str| with(text, |asking, info| super::persistence(asking, &probe(600.0), "cache", info, 1500));
        let seen = persistence(FINE);
        assert_eq!((seen.status, seen.value), (Status::Ok, Some(500.0)), "{}", seen.text);
        assert_eq!(persistence(&FINE.replace("time:1000", "time:100")).status, Status::Warning);
        let idle = FINE.replace("save:5", "save:0").replace("time:1000", "time:100");
        assert_eq!(persistence(&idle).status, Status::Ok, "there is nothing to save");
        for (from, to, word) in [
            ("loading:0", "loading:1\r\nloading_eta_seconds:9", "(9 s to go)"),
            ("status:ok", "status:err", "rdb_last_bgsave_status"),
            (
                "link_status:up",
                "link_status:down\r\nmaster_link_down_since_seconds:42",
                "10.0.0.9 has been down for 42 s",
            ),
        ] {
            let seen = persistence(&FINE.replace(from, to));
            assert_eq!(seen.status, Status::Critical);
            assert!(seen.text.contains(word), "{}", seen.text);
        }
        let far = persistence(&FINE.replace("time:1000", "time:-1e300"));
        assert_eq!(far.status, Status::Warning, "an age beyond all clocks is no panic");
        assert_eq!(persistence("loading:0\r\n").status, Status::Unknown, "an absent number is no zero");
    }

    #[test]
    fn memory_is_measured_against_what_is_allowed() {
        let memory = |text: &str| with(text, |asking, info| super::memory(asking, &probe(80.0), "cache", info));
        let seen = memory("used_memory:900\r\nmaxmemory:1000\r\n");
        assert_eq!((seen.status, seen.value), (Status::Warning, Some(90.0)));
        let seen = memory("used_memory:100\r\nmaxmemory:0\r\ntotal_system_memory:1000\r\n");
        assert_eq!((seen.status, seen.value), (Status::Ok, Some(10.0)));
        assert_eq!(memory("maxmemory:0\r\n").status, Status::Unknown);
    }
}
