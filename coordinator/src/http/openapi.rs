//! The document of the API, made from the handlers.

use axum::Json;
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
    security(("token" = [])),
    modifiers(&Rest),
    tags(
        (name = "agents", description = "Roster, inbox and scenarios"),
        (name = "hosts", description = "Machines"),
        (name = "findings", description = "Problems"),
        (name = "actions", description = "Steps on hosts, which people decide on"),
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
            "internal",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "X-Ops-Internal-Token",
                "OPS_INTERNAL_TOKEN of the coordinator",
            ))),
        );
    }
}

/// Every operation may answer with a problem.
pub(super) fn add_problems(document: &mut utoipa::openapi::OpenApi) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let problem = ResponseBuilder::new().description("A problem").content("application/problem+json", content).build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem.clone()));
        }
    }
}

/// This document
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", operation_id = "openapi", security(()),
    responses((status = 200, body = Object)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(super::document())
}

/// Pages to read the document in.
pub(super) fn pages() -> SwaggerUi {
    SwaggerUi::new("/api/docs").config(Config::from(PATH))
}
