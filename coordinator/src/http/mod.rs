//! The northbound API: one file per noun, one table of permissions, one
//! mapping of errors.

mod account;
mod ack_page;
mod action_log;
mod actions;
mod alertmanager;
mod audit;
mod authenticate;
mod catalogue;
mod chat;
mod cookies;
mod cors;
mod daily;
mod events;
mod evidence;
mod execution;
mod extract;
mod findings;
mod first_run;
mod health;
mod history;
mod hosts;
mod inbox;
mod ingest;
mod integrations;
mod internal;
mod maintenance;
mod notifications;
mod openapi;
mod operators;
mod opn;
mod page;
pub(crate) mod permissions;
mod problem;
mod quiet;
mod roster;
mod scenarios;
mod scope;
mod serve;
mod session;
mod signals;
mod tickets;
mod tokens;
mod topology;
mod users;

pub use serve::{serve, tls};

use std::time::Instant;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::Response,
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::problem::ApiError;
use crate::app::App;

/// Where the first account is made.
pub(crate) const FIRST_RUN: &str = "/first-run";

/// The API.
pub fn router(app: App) -> Router {
    let (routes, _) = routes().split_for_parts();
    routes
        .merge(openapi::pages())
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(App::clone(&app), authenticate::gate))
        .layer(cors::layer(&app.config.access.origins))
        .layer(middleware::from_fn_with_state(App::clone(&app), record))
        .with_state(app)
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = routes().split_for_parts();
    openapi::complete(&mut document);
    document
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(roster::list))
        .routes(routes!(inbox::pending))
        .routes(routes!(inbox::threads))
        .routes(routes!(inbox::messages))
        .routes(routes!(inbox::reply))
        .routes(routes!(inbox::archive))
        .routes(routes!(daily::now))
        .routes(routes!(health::health))
        .routes(routes!(scenarios::list))
        .routes(routes!(findings::agents_list))
        .routes(routes!(findings::acknowledge))
        .routes(routes!(findings::close))
        .routes(routes!(action_log::list))
        .routes(routes!(scenarios::run))
        .routes(routes!(chat::ask))
        .routes(routes!(internal::tick))
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::one))
        .routes(routes!(history::metrics))
        .routes(routes!(history::series))
        .routes(routes!(history::reports))
        .routes(routes!(history::history))
        .routes(routes!(topology::inventory))
        .routes(routes!(topology::whole))
        .routes(routes!(topology::one))
        .routes(routes!(topology::corrections, topology::correct))
        .routes(routes!(topology::revoke))
        .routes(routes!(ingest::take))
        .routes(routes!(findings::list))
        .routes(routes!(findings::one))
        .routes(routes!(notifications::of_finding))
        .routes(routes!(notifications::list))
        .routes(routes!(notifications::resend))
        .routes(routes!(notifications::preview))
        .routes(routes!(ack_page::show, ack_page::acknowledge))
        .routes(routes!(actions::list, actions::propose))
        .routes(routes!(actions::one))
        .routes(routes!(actions::approve))
        .routes(routes!(actions::reject))
        .routes(routes!(actions::cancel))
        .routes(routes!(evidence::of_action))
        .routes(routes!(evidence::one))
        .routes(routes!(evidence::content))
        .routes(routes!(audit::list))
        .routes(routes!(audit::head))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::bundle))
        .routes(routes!(operators::keys, operators::add))
        .routes(routes!(operators::revoke))
        .routes(routes!(session::show, session::sign_in, session::sign_out))
        .routes(routes!(session::permissions))
        .routes(routes!(session::challenge))
        .routes(routes!(session::passkey_sign_in))
        .routes(routes!(session::list))
        .routes(routes!(session::end))
        .routes(routes!(account::show))
        .routes(routes!(account::prove))
        .routes(routes!(account::change_password))
        .routes(routes!(account::propose_totp, account::remove_totp))
        .routes(routes!(account::confirm_totp))
        .routes(routes!(account::new_recovery_codes))
        .routes(routes!(account::passkey_challenge))
        .routes(routes!(account::add_passkey))
        .routes(routes!(account::revoke_passkey))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::one, users::change))
        .routes(routes!(users::end_sessions))
        .routes(routes!(tokens::list, tokens::add))
        .routes(routes!(tokens::revoke))
        .routes(routes!(first_run::show, first_run::make))
        .routes(routes!(integrations::list, integrations::add))
        .routes(routes!(integrations::one, integrations::change, integrations::remove))
        .routes(routes!(integrations::test))
        .routes(routes!(opn::add))
        .routes(routes!(opn::list))
        .routes(routes!(opn::health))
        .routes(routes!(opn::interfaces))
        .routes(routes!(opn::metrics))
        .routes(routes!(events::stream))
        .routes(routes!(quiet::now))
        .routes(routes!(quiet::silences, quiet::silence))
        .routes(routes!(quiet::end_silence))
        .routes(routes!(catalogue::list))
        .routes(routes!(execution::show))
        .routes(routes!(execution::stop))
        .routes(routes!(execution::resume))
        .routes(routes!(execution::resume_host))
        .routes(routes!(catalogue::plan))
        .routes(routes!(maintenance::list, maintenance::plan))
        .routes(routes!(maintenance::change, maintenance::switch, maintenance::end))
        .routes(routes!(tickets::open))
        .routes(routes!(alertmanager::take))
        .routes(routes!(signals::list, signals::add))
        .routes(routes!(signals::alive))
        .routes(routes!(signals::sites))
        .routes(routes!(signals::integrations))
        .routes(routes!(signals::runbook_list))
        .routes(routes!(signals::runbook))
        .routes(routes!(signals::suggestions))
        .routes(routes!(signals::context))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::document))
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::no_route(uri.path())
}

/// Logs and counts each request, and keeps its answer out of caches.
async fn record(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method(request.method());
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let status = response.status().as_u16();
    let duration = began.elapsed();
    app.metrics.http_request(route, method, status, duration.as_secs_f64());
    tracing::debug!(
        http.route = route,
        http.method = method,
        http.status = status,
        duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "answered a request"
    );
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(farol_protocol::http_signing::TIME, farol_protocol::Timestamp::now().as_ms().into());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A method as a label: callers can invent methods, labels must stay few.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
