//! Commands that work on the data folder, while the coordinator runs or not.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use farol_pki::Authority;
use farol_protocol::{HostId, Timestamp};
use serde::Serialize;

use super::{Data, Lifetime, output};
use crate::{
    auth::{Operator, Scope},
    config::{Config, Flags},
    error::{Error, Result},
    roster::Role,
    store::{Store, tokens::TokenSpec},
};

#[derive(Serialize)]
struct HostAdded<'a> {
    host: &'a str,
    token: &'a str,
    url: &'a str,
    ca_fingerprint: &'a str,
    expires_at: Timestamp,
    command: &'a str,
}

#[derive(Serialize)]
struct TokenCreated<'a> {
    token: &'a str,
    name: &'a str,
    role: Role,
    expires_at: Option<Timestamp>,
}

/// Makes an enrolment token and the command that uses it.
pub(super) async fn add_host(data: &Data, name: &HostId, ttl: Duration, json: bool) -> Result<()> {
    let (config, store) = open(data).await?;
    let authority = Authority::open_or_create(&config.data_dir.join("pki"), time::OffsetDateTime::now_utc())?;
    let url = southbound_url(&config, &store).await?;
    let new = store.add_host(&Operator::local_administrator(), name.as_str(), ttl, Timestamp::now()).await?;
    store.close().await;
    let ca_fingerprint = authority.root_fingerprint();
    let command =
        command(&["farol-agent", "enroll", "--url", &url, "--token", &new.token, "--ca-fingerprint", &ca_fingerprint]);
    if json {
        return output::json(&HostAdded {
            host: name.as_str(),
            token: &new.token,
            url: &url,
            ca_fingerprint: &ca_fingerprint,
            expires_at: new.expires_at,
            command: &command,
        });
    }
    output::line(&format!(
        "Run this on {name} as the user of its agent. It works once, until {}:\n\n{command}",
        new.expires_at
    ))
}

/// Takes a host's identity back; a running coordinator cuts its connection.
pub(super) async fn revoke_host(data: &Data, name: &str) -> Result<()> {
    let (_, store) = open(data).await?;
    store.revoke_host(&Operator::local_administrator(), name, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!("{name} is revoked"))
}

/// Makes an API token. The person it belongs to stands behind
/// its name.
pub(super) async fn create_token(
    data: &Data,
    (name, owner): (&str, Option<&str>),
    role: Role,
    scope: Scope,
    ttl: Lifetime,
    json: bool,
) -> Result<()> {
    let (_, store) = open(data).await?;
    let now = Timestamp::now();
    let expires_at = match ttl {
        Lifetime::For(ttl) => Some(now.plus(ttl)),
        Lifetime::Forever => None,
    };
    let spec = TokenSpec { name, owner, role, scope, expires_at };
    let new = store.create_scoped_token(&Operator::local_administrator(), spec, now).await?;
    store.close().await;
    if json {
        return output::json(&TokenCreated { token: &new.token, name, role, expires_at: new.expires_at });
    }
    // The token alone, so that a script can keep it; what is for people goes to the other stream.
    output::line(&new.token)?;
    match new.expires_at {
        Some(at) => eprintln!("{name} may act as {role} with this token until {at}; it is not shown again"),
        None => eprintln!("{name} may act as {role} with this token; it is not shown again"),
    }
    Ok(())
}

/// What the coordinator of this data folder runs with.
pub(super) fn configuration(data: &Data) -> Result<Config> {
    let flags = Flags { config: data.config.clone(), data_dir: data.data_dir.clone(), ..Flags::default() };
    Config::load(&flags, &|name| std::env::var(name).ok())
}

pub(super) async fn open(data: &Data) -> Result<(Config, Store)> {
    let config = configuration(data)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    check_owner(&config.data_dir, &arguments)?;
    let store = Store::open(&config.data_dir).await?;
    Ok((config, store))
}

/// Refuses to work as a user whose files the coordinator could not read.
fn check_owner(folder: &Path, arguments: &[String]) -> Result<()> {
    let owner = match fs::metadata(folder) {
        Ok(found) => found.uid(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::File { what: "read", path: folder.to_owned(), source }),
    };
    // The owner of a process's entry is the user it acts as.
    let Ok(me) = fs::metadata("/proc/self").map(|found| found.uid()) else { return Ok(()) };
    if owner == me {
        return Ok(());
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = user_name(&passwd, owner).unwrap_or_else(|| format!("#{owner}"));
    let words: Vec<&str> =
        ["sudo", "-u", &user, "farol"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    Err(Error::Config(format!(
        "the data folder {} belongs to another user, who could not read what is written here; run: {}",
        folder.display(),
        command(&words)
    )))
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// What hosts are told to connect to.
pub(super) async fn southbound_url(config: &Config, store: &Store) -> Result<String> {
    match &config.southbound_url {
        Some(url) => Ok(url.clone()),
        None => Ok(store.setting(crate::SOUTHBOUND_URL).await?.unwrap_or_else(|| default_url(config))),
    }
}

fn default_url(config: &Config) -> String {
    let name = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".to_owned());
    format!("wss://{name}:{}", config.southbound_addr.port())
}

/// Words as a shell reads them back.
fn command(words: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                (*word).to_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        assert_eq!(command(&["farol-agent", "--url", "wss://h:8192"]), "farol-agent --url wss://h:8192");
        assert_eq!(command(&["echo", "it's", "a b", "", "$(id)"]), r"echo 'it'\''s' 'a b' '' '$(id)'");
    }

    #[test]
    fn the_owner_is_named() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nfarol:x:998:998::/var/lib/farol:/usr/sbin/nologin\nbroken";
        assert_eq!(user_name(passwd, 998).as_deref(), Some("farol"));
        assert_eq!(user_name(passwd, 5), None);
    }

    #[test]
    fn a_folder_of_my_own_or_none_at_all_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(check_owner(folder.path(), &[]).is_ok());
        assert!(check_owner(&folder.path().join("none"), &[]).is_ok());
    }

    #[test]
    fn a_folder_of_another_user_is_refused_with_the_command_that_works() {
        let me = fs::metadata("/proc/self").expect("a process").uid();
        let folder = tempfile::tempdir().expect("a folder");
        // Only root can give a folder away; anyone else meets a folder of root's.
        let path = if me == 0 {
            std::os::unix::fs::chown(folder.path(), Some(65_534), None).expect("given away");
            folder.path().to_owned()
        } else {
            "/".into()
        };
        let error =
            check_owner(&path, &["host".to_owned(), "add".to_owned(), "vm112".to_owned()]).expect_err("refused");
        assert!(error.to_string().contains("sudo -u "), "{error}");
        assert!(error.to_string().ends_with(" farol host add vm112"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[tokio::test]
    async fn a_host_and_a_token_are_made_without_a_running_coordinator() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Data { config: None, data_dir: Some(folder.path().join("farol")) };
        let name: HostId = "vm112".parse().expect("valid");
        add_host(&data, &name, Duration::from_secs(60), true).await.expect("added");
        let make = || create_token(&data, ("ana", None), Role::OpsLead, Scope::default(), Lifetime::Forever, true);
        make().await.expect("made");
        let again = make().await.expect_err("taken");
        assert!(again.to_string().contains("`ana` exists already"), "{again}");
        let revoked = revoke_host(&data, "vm112").await.expect_err("never enrolled");
        assert_eq!(revoked.exit_code(), 1);
    }
}
