//! A container engine: as much of Docker's API, on a real socket, as asking it
//! to restart a container takes. It knows every name.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use tokio::net::UnixListener;

/// What it was asked, `METHOD PATH` each.
#[derive(Debug, Clone, Default)]
pub struct Engine(Arc<Mutex<Vec<String>>>);

impl Engine {
    /// Listens on a socket until the runtime ends.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(socket: &Path) -> Result<Self> {
        let engine = Self::default();
        let listener = UnixListener::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
        let answering = engine.clone();
        let router = Router::new().fallback(move |method: Method, uri: Uri| {
            let answer = answering.answer(&method, uri.path());
            async move { answer }
        });
        tokio::spawn(async move {
            // It serves to the end of the test.
            let _never = axum::serve(listener, router).await;
        });
        Ok(engine)
    }

    /// How often it was asked to restart the container of that name.
    #[must_use]
    pub fn restarts(&self, name: &str) -> usize {
        let end = format!("/containers/{name}/restart");
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|line| line.starts_with("POST ") && line.ends_with(&end)).count()
    }

    fn answer(&self, method: &Method, path: &str) -> Response {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
        if path.ends_with("/version") {
            let version = json!({"Version": "24.0.7", "ApiVersion": "1.43", "MinAPIVersion": "1.12"});
            return Json(version).into_response();
        }
        if method == Method::POST && path.ends_with("/restart") {
            return StatusCode::NO_CONTENT.into_response();
        }
        let state = json!({"Status": "running", "Running": true, "Paused": false, "Restarting": false});
        Json(json!({"Id": "0a1b", "RestartCount": 0, "State": state})).into_response()
    }
}
