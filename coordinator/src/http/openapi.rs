//! The document of the API, made from the handlers.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::Problem;

const PATH: &str = "/api/openapi.json";

/// What is not said by the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Farol",
        description = "Watches a small fleet of servers, says what is wrong in one place, proposes the fix, and carries \
                       it out only when a person agrees.\n\nErrors are RFC 9457 documents with a stable `code`. Times \
                       are RFC 3339 in UTC. Lists go on with `next_cursor`. Each route asks for a role; who lacks it \
                       is told which roles may."
    ),
    components(schemas(Problem)),
    security(("token" = []), ("session" = [])),
    modifiers(&Rest),
    tags(
        (name = "agents", description = "Roster, inbox and scenarios"),
        (name = "hosts", description = "Machines"),
        (name = "history", description = "What hosts and checks showed over time"),
        (name = "topology", description = "What stands on what"),
        (name = "findings", description = "Problems"),
        (name = "quiet", description = "When nobody is told: silences, maintenance, backups"),
        (name = "notifications", description = "Messages about findings, and links to acknowledge them"),
        (name = "actions", description = "Steps on hosts, which people decide on"),
        (name = "record", description = "Who did what: the chain, its verification, and bundles to take along"),
        (name = "session", description = "Signing in and out, and who one is"),
        (name = "account", description = "One's own account: password, codes, passkeys"),
        (name = "users", description = "Accounts of people, and API tokens"),
        (name = "operators", description = "People who sign approvals, and their keys"),
        (name = "integrations", description = "Systems that checks ask with credentials"),
        (name = "signals", description = "What others report, at the paths of Atlas Ops and Alertmanager"),
        (name = "opnsense", description = "Integrations of the kind opnsense, at the paths that older clients know"),
        (name = "events", description = "Changes, live"),
        (name = "health", description = "The coordinator itself")
    )
)]
pub(super) struct Document;

struct Rest;

impl Modify for Rest {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "token",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("A token from `farol token create`"))
                    .build(),
            ),
        );
        components.add_security_scheme(
            "session",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "__Host-farol",
                "The session of somebody who signed in; `farol` where the console is reached without TLS",
            ))),
        );
        components.add_security_scheme(
            "signature",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Farol-Signature",
                "HMAC-SHA-256 by a key of `farol host key add`, with Farol-Key, Farol-Timestamp and Farol-Nonce",
            ))),
        );
        components.add_security_scheme(
            "internal",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "X-Ops-Internal-Token",
                "OPS_INTERNAL_TOKEN of the coordinator",
            ))),
        );
    }
}

/// Says what all operations have in common: each may answer with a problem.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let problem = ResponseBuilder::new().description("A problem").content("application/problem+json", content).build();
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in methods.into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = in_words(status).to_owned();
                }
            }
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem.clone()));
        }
    }
}

fn in_words(status: &str) -> &'static str {
    match status {
        "201" => "Made",
        "202" => "Taken on",
        "204" => "Done, nothing to say",
        _ => "Done",
    }
}

/// This document
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", operation_id = "openapi", security(()),
    responses((status = 200, body = Object)))]
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], &'static str) {
    // Anyone may ask, as often as they like: it is made once.
    static TEXT: LazyLock<String> = LazyLock::new(|| super::document().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], &TEXT)
}

/// Pages to read the document in.
pub(super) fn pages() -> SwaggerUi {
    SwaggerUi::new("/api/docs").config(Config::from(PATH))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    /// Collects what `$ref` names.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                        Some(schema) if name == "$ref" => drop(into.insert(schema.to_owned())),
                        _ => references(field, into),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }

    #[test]
    fn the_document_holds_every_schema_it_names() {
        let document = serde_json::to_value(super::super::document()).expect("serializable");
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        let held: BTreeSet<String> =
            document["components"]["schemas"].as_object().expect("schemas").keys().cloned().collect();
        assert_eq!(named.difference(&held).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn every_operation_has_its_own_id_a_known_tag_and_described_answers() {
        let document = serde_json::to_value(super::super::document()).expect("serializable");
        let tags: BTreeSet<&str> =
            document["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
        let mut ids = BTreeSet::new();
        let items = document["paths"].as_object().expect("paths").values();
        for operation in items.flat_map(|item| item.as_object().expect("methods").values()) {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{id} is there twice");
            assert!(
                operation["tags"]
                    .as_array()
                    .expect("tags")
                    .iter()
                    .all(|tag| { tag.as_str().is_some_and(|tag| tags.contains(tag)) })
            );
            assert!(operation["summary"].is_string(), "{id}");
            for response in operation["responses"].as_object().expect("responses").values() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id}");
            }
            assert!(operation["responses"]["default"].is_object(), "{id}");
        }
    }
}
