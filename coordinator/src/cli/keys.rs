//! `farol host key`: keys of hosts that sign their requests.

use farol_pki::Authority;
use farol_protocol::{HostId, Timestamp};
use serde::Serialize;

use super::{
    Data, KeyCommand,
    admin::{open, southbound_url},
    output,
};
use crate::{auth::Operator, error::Result, http_keys::HttpKeys};

#[derive(Serialize)]
struct KeyAdded<'a> {
    host: &'a str,
    id: &'a str,
    secret: &'a str,
    token: &'a str,
    url: &'a str,
    ca: &'a str,
}

pub(super) async fn run(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Add { name, json, data } => add(&data, &name, json).await,
        KeyCommand::List { name, json, data } => list(&data, name.as_deref(), json).await,
        KeyCommand::Revoke { id, data } => revoke(&data, &id).await,
    }
}

async fn add(data: &Data, name: &HostId, json: bool) -> Result<()> {
    let (config, store) = open(data).await?;
    let authority = Authority::open_or_create(&config.data_dir.join("pki"), time::OffsetDateTime::now_utc())?;
    let secrets = HttpKeys::open_or_create(&config.data_dir)?;
    let url = southbound_url(&config, &store).await?.replacen("ws", "http", 1);
    let (key, host_id) = store.add_http_key(&Operator::local_administrator(), name.as_str(), Timestamp::now()).await?;
    store.close().await;
    let (secret, token) = (secrets.secret(&host_id, &key.id), secrets.token(&host_id, &key.id));
    if json {
        return output::json(&KeyAdded {
            host: &key.host,
            id: &key.id,
            secret: &secret,
            token: &token,
            url: &url,
            ca: &authority.ca_pem(),
        });
    }
    output::line(&format!(
        "key:    {}\nsecret: {secret}\ntoken:  {token}\nurl:    {url}\n\nThe secret signs requests of {name}; the token \
         is for programs that can only send a bearer token to /ingest. Neither is shown again. The authority's \
         certificate for the host:\n\n{}",
        key.id,
        authority.ca_pem().trim_end()
    ))
}

async fn list(data: &Data, name: Option<&str>, json: bool) -> Result<()> {
    let (_, store) = open(data).await?;
    let keys = store.http_keys(name).await?;
    store.close().await;
    if json {
        return output::json(&keys);
    }
    for key in keys {
        let state = match key.revoked_at {
            Some(at) => format!("revoked {at}"),
            None => "live".to_owned(),
        };
        output::line(&format!("{}  {}  made {}  {state}", key.host, key.id, key.created_at))?;
    }
    Ok(())
}

async fn revoke(data: &Data, id: &str) -> Result<()> {
    let (_, store) = open(data).await?;
    store.revoke_http_key(&Operator::local_administrator(), id, Timestamp::now()).await?;
    store.close().await;
    output::line(&format!("the key {id} is revoked"))
}
