//! FOSSBilling: a call that guests may make and that reads its database. A
//! failed one comes with status 200, too.

use farol_protocol::{Language, system::ServiceProbe};

use super::{
    Asking, Seen,
    talk::{Talk, base, message},
};
use crate::{integrations::lenient::integer, text::say};

/// Codes of errors about who asks, not about the system: an address that is not
/// allowed, too many calls, an origin that is not allowed.
const NOT_FOR_US: [i64; 3] = [1002, 1003, 1004];

pub(super) async fn ask(asking: &Asking<'_>, probe: &ServiceProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &ServiceProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "FOSSBilling", probe.pin.as_deref())?;
    let language = asking.language;
    let sent = talk.send(talk.client.get(format!("{}/api/guest/system/company", base(&probe.url)))).await;
    let answer = sent.map_err(|failure| talk.failed(&failure))?;
    if matches!(answer.status, 300..=399 | 401 | 403 | 404 | 407 | 429) {
        return Err(talk.turned_down(&answer));
    }
    let body = match answer.json() {
        Ok(body) => body,
        Err(failure) if answer.is_success() => return Err(talk.failed(&failure)),
        Err(_) => return Err(talk.turned_down(&answer)),
    };
    match (body.get("result"), body.get("error")) {
        (_, Some(error)) if !error.is_null() => {
            let code = integer(&error["code"]);
            let why = message(error).unwrap_or_else(|| "?".to_owned());
            let number = code.map_or_else(String::new, |code| format!(" {code}"));
            Err(if code.is_some_and(|code| NOT_FOR_US.contains(&code)) {
                Seen::unknown(say!(
                    language,
                    "FOSSBilling recusou a pergunta (erro{number}: {why}); permita o endereço do Farol em `api` do config.php",
                    "FOSSBilling refused the question (error{number}: {why}); allow Farol's address under `api` in config.php"
                ))
            } else {
                Seen::critical(say!(
                    language,
                    "FOSSBilling respondeu com erro{number}: {why}",
                    "FOSSBilling answered with error{number}: {why}"
                ))
            })
        }
        (Some(result), _) if result.is_object() && answer.is_success() => {
            let text = say!(
                language,
                "a API do FOSSBilling responde com os dados da empresa",
                "FOSSBilling's API answers with the company's data"
            );
            Ok(Seen::judged(language, &probe.limits, answer.ms, "ms", &text))
        }
        _ if !answer.is_success() => Err(talk.turned_down(&answer)),
        _ => Err(Seen::unknown(say!(
            language,
            "o endereço respondeu sem `result` nem `error`: é mesmo o de um FOSSBilling?",
            "the address answered without `result` or `error`: is it really that of a FOSSBilling?"
        ))),
    }
}
