//! Prometheus: ready, with how many targets down; or one number of an
//! expression.

use farol_protocol::{Language, system::PrometheusProbe};
use serde_json::Value;

use super::{
    Asking, Seen,
    talk::{Talk, base, message, said, some},
};
use crate::{
    integrations::{
        http::Answer,
        lenient::{number, rows, text},
    },
    text::{plain, say},
};

pub(super) async fn ask(asking: &Asking<'_>, probe: &PrometheusProbe) -> Seen {
    look(asking, probe).await.unwrap_or_else(|seen| seen)
}

async fn look(asking: &Asking<'_>, probe: &PrometheusProbe) -> Result<Seen, Seen> {
    let talk = Talk::new(asking, "Prometheus", probe.pin.as_deref())?;
    let (language, url) = (asking.language, base(&probe.url));
    if let Some(query) = &probe.query {
        return expression(&talk, url, query, probe).await;
    }
    ready(&talk, url).await?;
    let answer = talk.get(&format!("{url}/api/v1/targets?state=active")).await?;
    let body = talk.json(&answer)?;
    let Some(targets) = rows(&body["data"]["activeTargets"], Target::read) else {
        return Err(Seen::unknown(say!(
            language,
            "Prometheus está pronto, mas respondeu sem a lista de alvos",
            "Prometheus is ready but answered without its list of targets"
        )));
    };
    if targets.good.is_empty() {
        let bad = targets.bad;
        return Err(Seen::unknown(if bad > 0 {
            say!(
                language,
                "Prometheus está pronto, mas nenhum dos seus {bad} alvos pôde ser lido",
                "Prometheus is ready, but none of its {bad} targets could be read"
            )
        } else {
            say!(
                language,
                "Prometheus está pronto, mas não tem nenhum alvo; confira `scrape_configs`",
                "Prometheus is ready but has no target; see to `scrape_configs`"
            )
        }));
    }
    let down: Vec<String> =
        targets.good.iter().filter(|target| target.is_down).map(|target| target.name.clone()).collect();
    let (count, total, bad) = (down.len(), targets.good.len() + targets.bad, targets.bad);
    let unread = match bad {
        0 => String::new(),
        bad => say!(language, "; {bad} linhas ilegíveis", "; {bad} unreadable rows"),
    };
    let text = match count {
        0 => say!(
            language,
            "Prometheus está pronto; nenhum dos {total} alvos está fora{unread}",
            "Prometheus is ready; none of its {total} targets is down{unread}"
        ),
        count => {
            let names = some(&down);
            say!(
                language,
                "{count} de {total} alvos do Prometheus estão fora: {names}{unread}",
                "{count} of {total} targets of Prometheus are down: {names}{unread}"
            )
        }
    };
    let seen = Seen::judged(language, &probe.limits, count_of(count), "count", &text);
    // Who set no limit still wants to hear of it.
    let silent = probe.limits.warning.is_none() && probe.limits.critical.is_none();
    Ok(if count > 0 && silent { Seen::warning(text).measured(count_of(count), "count") } else { seen })
}

#[expect(clippy::cast_precision_loss, reason = "a list holds far fewer than 2^52 rows")]
const fn count_of(count: usize) -> f64 {
    count as f64
}

/// Whether it says that it is ready.
pub(super) async fn ready(talk: &Talk<'_>, url: &str) -> Result<Answer, Seen> {
    let (language, target) = (talk.language(), &talk.target);
    let answer = talk.send(talk.client.get(format!("{url}/-/ready"))).await.map_err(|failure| talk.failed(&failure))?;
    if answer.status == 503 {
        let said = said(&answer);
        return Err(Seen::critical(say!(
            language,
            "{target} diz que não está pronto: {said}",
            "{target} says that it is not ready: {said}"
        )));
    }
    if answer.is_success() { Ok(answer) } else { Err(talk.turned_down(&answer)) }
}

async fn expression(talk: &Talk<'_>, url: &str, query: &str, probe: &PrometheusProbe) -> Result<Seen, Seen> {
    let language = talk.language();
    let request = talk.client.get(format!("{url}/api/v1/query")).query(&[("query", query)]);
    let answer = talk.send(request).await.map_err(|failure| talk.failed(&failure))?;
    // 400 and 422: the expression; 503: it took too long. None is about what is measured.
    if matches!(answer.status, 400 | 422 | 503) && answer.json().is_ok() {
        let why = said(&answer);
        return Err(Seen::unknown(say!(
            language,
            "Prometheus não pôde calcular a expressão: {why}",
            "Prometheus could not evaluate the expression: {why}"
        )));
    }
    if !answer.is_success() {
        return Err(talk.turned_down(&answer));
    }
    let body = talk.json(&answer)?;
    let value = one_number(&body).map_err(|problem| Seen::unknown(problem.words(language)))?;
    let unit = probe.unit.as_deref().unwrap_or("count");
    let shown = crate::text::number(value, language);
    let unit_shown = probe.unit.as_deref().map(|unit| format!(" {}", plain(unit, 20))).unwrap_or_default();
    let text = say!(
        language,
        "a expressão do Prometheus dá {shown}{unit_shown}",
        "the expression of Prometheus gives {shown}{unit_shown}"
    );
    Ok(Seen::judged(language, &probe.limits, value, unit, &text))
}

/// Why an answer holds no single number.
#[derive(Debug, PartialEq)]
enum Problem {
    Empty,
    Several(usize),
    NotFinite(String),
    Shape(String),
}

impl Problem {
    fn words(&self, language: Language) -> String {
        match self {
            Self::Empty => say!(
                language,
                "a expressão do Prometheus não deu nenhum valor: a série não existe ou parou",
                "the expression of Prometheus gave no value: the series does not exist or has stopped"
            ),
            Self::Several(count) => say!(
                language,
                "a expressão do Prometheus deu {count} valores; reduza-a a um, por exemplo com `max(…)`",
                "the expression of Prometheus gave {count} values; reduce it to one, for example with `max(…)`"
            ),
            Self::NotFinite(value) => say!(
                language,
                "a expressão do Prometheus deu `{value}`, que não é um número",
                "the expression of Prometheus gave `{value}`, which is no number"
            ),
            Self::Shape(kind) => say!(
                language,
                "Prometheus respondeu com `{kind}` em vez de um número",
                "Prometheus answered with `{kind}` instead of a number"
            ),
        }
    }
}

fn one_number(body: &Value) -> Result<f64, Problem> {
    let result = &body["data"]["result"];
    let sample = match (body["data"]["resultType"].as_str(), result.as_array()) {
        (Some("scalar"), Some(_)) => result,
        (Some("vector"), Some(list)) => match list.as_slice() {
            [] => return Err(Problem::Empty),
            [one] => &one["value"],
            list => return Err(Problem::Several(list.len())),
        },
        (kind, _) => return Err(Problem::Shape(plain(kind.unwrap_or("?"), 40))),
    };
    number(&sample[1]).ok_or_else(|| Problem::NotFinite(plain(sample[1].as_str().unwrap_or("?"), 40)))
}

struct Target {
    name: String,
    is_down: bool,
}

impl Target {
    fn read(row: &serde_json::Map<String, Value>) -> Option<Self> {
        let labels = row.get("labels")?;
        let instance = text(labels.get("instance")?)?;
        let name = match labels.get("job").and_then(text) {
            Some(job) => format!("{job}/{instance}"),
            None => instance.to_owned(),
        };
        // `unknown`: not yet asked.
        let is_down = text(row.get("health")?)? == "down";
        let why = row.get("lastError").and_then(message).filter(|_| is_down);
        Some(Self { name: why.map_or(name.clone(), |why| format!("{name} ({})", plain(&why, 70))), is_down })
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::{Status, report::Limits};
    use farol_tests::product::{Product, Reply};
    use serde_json::json;

    use super::*;
    use crate::{checks::system::testing::asking, integrations::http::Clients};

    async fn with_targets(targets: Value) -> Seen {
        let product = Product::start_plain(move |asked| {
            let body = json!({"status": "success", "data": {"activeTargets": targets}});
            if asked.path.starts_with("/-/ready") { Reply::html(200, "ready") } else { Reply::json(200, &body) }
        });
        let product = product.await.expect("a server");
        let (url, clients) = (product.url(), Clients::default());
        let probe = PrometheusProbe { url, pin: None, query: None, unit: None, limits: Limits::default() };
        ask(&asking(&clients), &probe).await
    }

    #[tokio::test]
    async fn a_prometheus_without_a_target_that_can_be_read_is_unknown() {
        let target = json!({"labels": {"job": "node", "instance": "a:9100"}, "health": "up"});
        let seen = with_targets(json!([target])).await;
        assert_eq!(seen.status, Status::Ok, "{}", seen.text);
        let seen = with_targets(json!([])).await;
        assert_eq!((seen.status, seen.text.contains("has no target")), (Status::Unknown, true), "{}", seen.text);
        let seen = with_targets(json!([7, {"health": "up"}])).await;
        assert_eq!(seen.status, Status::Unknown, "{}", seen.text);
        assert!(seen.text.contains("none of its 2 targets could be read"), "{}", seen.text);
    }

    #[test]
    fn an_expression_gives_one_number_or_says_why_not() {
        let vector = |result: Value| json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        assert_eq!(one_number(&vector(json!([{"metric": {}, "value": [1.5, "42.5"]}]))), Ok(42.5));
        assert_eq!(one_number(&json!({"data": {"resultType": "scalar", "result": [1, "3"]}})), Ok(3.0));
        assert_eq!(one_number(&vector(json!([]))), Err(Problem::Empty));
        assert_eq!(one_number(&vector(json!([{}, {}]))), Err(Problem::Several(2)));
        assert_eq!(one_number(&vector(json!([{"value": [1, "NaN"]}]))), Err(Problem::NotFinite("NaN".to_owned())));
        assert_eq!(
            one_number(&json!({"data": {"resultType": "matrix", "result": []}})),
            Err(Problem::Shape("matrix".to_owned()))
        );
        assert_eq!(one_number(&json!({})), Err(Problem::Shape("?".to_owned())));
    }
}
