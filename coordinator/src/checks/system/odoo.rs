//! Odoo: what `/web/health` says, with its database from 17 on; older ones are
//! known by the version they tell.

use farol_protocol::{Language, system::ServiceProbe};
use serde_json::json;

use super::{
    Asking, Seen,
    talk::{Talk, base, message, said},
};
use crate::{
    integrations::lenient::{flag, text},
    text::{plain, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &ServiceProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &ServiceProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "Odoo", probe.pin.as_deref())?;
    let (language, url) = (asking.language, base(&probe.url));
    // A look at `/` would leave a session behind each time.
    let sent = talk.send(talk.client.get(format!("{url}/web/health?db_server_status=1"))).await;
    let answer = sent.map_err(|failure| talk.failed(&failure))?;
    if answer.status == 404 {
        return old(&talk, url, probe).await;
    }
    let body = match answer.json() {
        Ok(body) if answer.is_success() || answer.status >= 500 => body,
        Err(failure) if answer.is_success() => return Err(talk.failed(&failure)),
        _ => return Err(talk.turned_down(&answer)),
    };
    let (status, database) = (text(&body["status"]).map(str::to_ascii_lowercase), flag(&body["db_server_status"]));
    if database == Some(false) {
        let code = answer.status;
        return Err(Seen::critical(say!(
            language,
            "Odoo responde, mas diz que o banco de dados não ({code})",
            "Odoo answers but says that its database does not ({code})"
        ))
        .measured(answer.ms, "ms"));
    }
    match status.as_deref() {
        Some("pass") if answer.is_success() => {
            let text = match database {
                Some(_) => say!(language, "Odoo e o banco de dados respondem", "Odoo and its database answer"),
                None => say!(
                    language,
                    "Odoo responde; esta versão não diz nada do banco de dados",
                    "Odoo answers; this version says nothing of its database"
                ),
            };
            Ok(Seen::judged(language, &probe.limits, answer.ms, "ms", &text))
        }
        Some(word) => {
            let (word, why) = (plain(word, 40), said(&answer));
            let why = if why.is_empty() { why } else { format!(": {why}") };
            Err(Seen::critical(say!(
                language,
                "Odoo diz que não está bem (`{word}`{why})",
                "Odoo says that it is not well (`{word}`{why})"
            )))
        }
        None if answer.is_success() => Err(Seen::unknown(say!(
            language,
            "Odoo respondeu sem dizer como está (falta `status`)",
            "Odoo answered without saying how it is (`status` is missing)"
        ))),
        None => Err(talk.turned_down(&answer)),
    }
}

/// Before 15 there is no `/web/health`.
async fn old(talk: &Talk<'_>, url: &str, probe: &ServiceProbe) -> Result<Seen, Seen> {
    let language = talk.language();
    let call = json!({"jsonrpc": "2.0", "method": "call", "params": {}});
    let sent = talk.send(talk.client.post(format!("{url}/web/webclient/version_info")).json(&call)).await;
    let answer = sent.map_err(|failure| talk.failed(&failure))?;
    if !answer.is_success() {
        return Err(talk.turned_down(&answer));
    }
    let body = talk.json(&answer)?;
    // JSON-RPC says with 200 that it failed.
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        let why = message(&error["data"]).or_else(|| message(error)).unwrap_or_else(|| "?".to_owned());
        return Err(Seen::critical(say!(
            language,
            "Odoo respondeu com erro: {why}",
            "Odoo answered with an error: {why}"
        )));
    }
    let Some(version) = text(&body["result"]["server_version"]).map(|version| plain(version, 40)) else {
        return Err(Seen::unknown(say!(
            language,
            "o endereço respondeu sem a versão: é mesmo o de um Odoo?",
            "the address answered without a version: is it really that of an Odoo?"
        )));
    };
    let text = say!(
        language,
        "Odoo {version} responde; uma versão antes da 15 não diz como está o banco de dados",
        "Odoo {version} answers; a version before 15 does not say how its database is"
    );
    Ok(Seen::judged(language, &probe.limits, answer.ms, "ms", &text))
}
