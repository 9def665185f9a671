//! Ollama: it answers, the model that is wanted is there, and answers too.
//!
//! A model that is not loaded is nothing unusual. One that runs at another
//! place is named as such and never asked: the question would leave the site.

use farol_protocol::{Language, system::OllamaProbe};
use serde_json::{Value, json};

use super::{
    Asking, Seen,
    talk::{Talk, base, message, some},
};
use crate::{
    advice::NUM_CTX,
    integrations::lenient::{rows, text},
    text::{plain, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &OllamaProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &OllamaProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "Ollama", probe.pin.as_deref())?;
    let (language, url) = (asking.language, base(&probe.url));
    let answer = talk.get(&format!("{url}/api/version")).await?;
    let ms = answer.ms;
    let body = talk.json(&answer)?;
    let Some(version) = text(&body["version"]).map(|version| plain(version, 40)) else {
        return Err(Seen::unknown(say!(
            language,
            "o endereço respondeu sem dizer a versão: é mesmo o de um Ollama?",
            "the address answered without a version: is it really that of an Ollama?"
        )));
    };
    let answer = talk.get(&format!("{url}/api/tags")).await?;
    let Some(models) = rows(&talk.json(&answer)?["models"], Model::read) else {
        return Err(Seen::unknown(say!(
            language,
            "Ollama {version} respondeu sem a lista de modelos",
            "Ollama {version} answered without its list of models"
        )));
    };
    let bad = models.bad;
    let unread = match bad {
        0 => String::new(),
        bad => say!(language, "; {bad} linhas ilegíveis na lista", "; {bad} unreadable rows in the list"),
    };
    let Some(wanted) = probe.model.as_deref() else {
        let count = models.good.len();
        if count == 0 {
            return Err(if bad > 0 {
                Seen::unknown(say!(language, "Ollama {version}{unread}", "Ollama {version}{unread}"))
            } else {
                Seen::critical(say!(
                    language,
                    "Ollama {version} responde, mas não tem nenhum modelo; baixe um com `ollama pull`",
                    "Ollama {version} answers but has no model; fetch one with `ollama pull`"
                ))
            });
        }
        let text = say!(
            language,
            "Ollama {version} responde; {count} modelos{unread}",
            "Ollama {version} answers; {count} models{unread}"
        );
        return Ok(Seen::judged(language, &probe.limits, ms, "ms", &text));
    };
    let Some(model) = models.good.iter().find(|model| model.is(wanted)) else {
        let names: Vec<String> = models.good.iter().map(|model| model.name.clone()).collect();
        let there = if names.is_empty() { "–".to_owned() } else { some(&names) };
        let text = say!(
            language,
            "o modelo `{wanted}` não está no Ollama {version} (há: {there}{unread}); baixe-o com `ollama pull {wanted}`",
            "the model `{wanted}` is not in Ollama {version} (there are: {there}{unread}); fetch it with `ollama pull {wanted}`"
        );
        // It may stand in the row that could not be read.
        return Err(if bad > 0 { Seen::unknown(text) } else { Seen::critical(text) });
    };
    if let Some(place) = &model.remote {
        let place = plain(place, 80);
        let text = say!(
            language,
            "o modelo `{wanted}` roda em {place}, fora deste servidor; nada lhe foi enviado",
            "the model `{wanted}` runs at {place}, not on this server; nothing was sent to it"
        );
        return Ok(if probe.answers {
            Seen::unknown(text)
        } else {
            Seen::judged(language, &probe.limits, ms, "ms", &text)
        });
    }
    let size = model.size.as_deref().map(|size| format!(" ({size})")).unwrap_or_default();
    if !probe.answers {
        let text = say!(
            language,
            "Ollama {version} responde e tem o modelo `{wanted}`{size}{unread}",
            "Ollama {version} answers and has the model `{wanted}`{size}{unread}"
        );
        return Ok(Seen::judged(language, &probe.limits, ms, "ms", &text));
    }
    let ms = question(&talk, url, wanted).await?;
    let text = say!(
        language,
        "Ollama {version}: o modelo `{wanted}`{size} respondeu à pergunta{unread}",
        "Ollama {version}: the model `{wanted}`{size} answered the question{unread}"
    );
    Ok(Seen::judged(language, &probe.limits, ms, "ms", &text))
}

/// Asks for one word; answers after how many ms it came.
async fn question(talk: &Talk<'_>, url: &str, model: &str) -> Result<f64, Seen> {
    let language = talk.language();
    let request = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Answer with the one word: ok"}],
        "stream": false,
        "think": false,
        // The size that advice uses: another one would load the model anew.
        "options": {"num_ctx": NUM_CTX, "num_predict": 8, "temperature": 0},
    });
    let sent = talk.send(talk.client.post(format!("{url}/api/chat")).json(&request)).await;
    let answer = sent.map_err(|failure| {
        let seen = talk.failed(&failure);
        let text = seen.text;
        let text =
            say!(language, "o modelo `{model}` não respondeu: {text}", "the model `{model}` did not answer: {text}");
        Seen { text, ..seen }
    })?;
    if matches!(answer.status, 400 | 404 | 500..=599) {
        let status = answer.status;
        let why = answer.json().ok().as_ref().and_then(message).unwrap_or_else(|| status.to_string());
        return Err(Seen::critical(say!(
            language,
            "o modelo `{model}` está presente mas não responde ({status}): {why}",
            "the model `{model}` is there but does not answer ({status}): {why}"
        )));
    }
    if !answer.is_success() {
        return Err(talk.turned_down(&answer));
    }
    let body = talk.json(&answer)?;
    let said = text(&body["message"]["content"]).is_some() || text(&body["message"]["thinking"]).is_some();
    // Only `done` makes an answer complete; eight tokens may cut it.
    let complete = body["done"] == true && matches!(body["done_reason"].as_str(), Some("stop" | "length"));
    if said && complete {
        return Ok(answer.ms);
    }
    let reason = plain(body["done_reason"].as_str().unwrap_or("?"), 40);
    Err(Seen::critical(say!(
        language,
        "o modelo `{model}` deu uma resposta vazia ou incompleta (`done_reason`: {reason})",
        "the model `{model}` gave an empty or incomplete answer (`done_reason`: {reason})"
    )))
}

struct Model {
    name: String,
    remote: Option<String>,
    size: Option<String>,
}

impl Model {
    fn read(row: &serde_json::Map<String, Value>) -> Option<Self> {
        let part = |key: &str| row.get(key).and_then(text);
        let detail = |key: &str| row.get("details").and_then(|details| text(details.get(key)?));
        let size: Vec<&str> = [detail("parameter_size"), detail("quantization_level")].into_iter().flatten().collect();
        Some(Self {
            name: part("name").or_else(|| part("model"))?.to_owned(),
            remote: part("remote_host").or_else(|| part("remote_model")).map(str::to_owned),
            size: (!size.is_empty()).then(|| plain(&size.join(", "), 60)),
        })
    }

    fn is(&self, wanted: &str) -> bool {
        let with_tag = |name: &str| {
            let last = name.rsplit('/').next().unwrap_or_default();
            if last.contains(':') { name.to_ascii_lowercase() } else { format!("{}:latest", name.to_ascii_lowercase()) }
        };
        with_tag(&self.name) == with_tag(wanted)
    }
}
