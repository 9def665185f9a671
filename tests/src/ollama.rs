//! A stand-in for Ollama, whose weights cannot be had: the wire format of
//! `/api/version`, `/api/tags`, `/api/show` and `/api/chat`, with answers that a
//! test chooses.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Words the first fact it is given, citing it.
    Fine,
    /// Answers what nobody asked for, without evidence.
    Nonsense,
    /// Accepts and never answers.
    Silent,
    /// Fails.
    Broken,
    /// Stands behind a proxy that wants a login.
    Locked,
    /// Begins to answer and is cut off by its limit of tokens.
    Cut,
}

/// The server.
#[derive(Debug, Clone)]
pub struct FakeOllama {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    prompts: Arc<Mutex<Vec<Value>>>,
    models: Arc<Mutex<Value>>,
}

/// A row of `/api/tags` for a model that is there.
#[must_use]
pub fn model(name: &str) -> Value {
    json!({
        "name": name,
        "model": name,
        "modified_at": "2026-05-04T17:37:44.706015396-03:00",
        "size": 4_683_087_332_u64,
        "digest": "845dbda0ea48ed749caafd9e6037047aa19acfcfd82e704d7ca97d631a0b697e",
        "details": {
            "parent_model": "", "format": "gguf", "family": "qwen2", "families": ["qwen2"],
            "parameter_size": "7.6B", "quantization_level": "Q4_K_M",
        },
    })
}

impl FakeOllama {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(mood: Mood) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let fake = Self {
            address: listener.local_addr()?,
            mood: Arc::new(Mutex::new(mood)),
            prompts: Arc::default(),
            models: Arc::new(Mutex::new(json!([model("qwen2.5:7b-instruct"), model("nomic-embed-text:latest")]))),
        };
        let router = Router::new()
            .route("/", get(async || "Ollama is running"))
            .route("/api/version", get(version))
            .route("/api/tags", get(tags))
            .route("/api/show", post(show))
            .route("/api/chat", post(chat))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(fake)
    }

    /// For `OLLAMA_BASE_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bodies of the chats so far.
    #[must_use]
    pub fn prompts(&self) -> Vec<Value> {
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes how it answers.
    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Changes the list of models, row by row as `/api/tags` gives it.
    pub fn set_models(&self, rows: Value) {
        *self.models.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn version(State(fake): State<FakeOllama>) -> Response {
    match fake.mood() {
        Mood::Silent => std::future::pending().await,
        Mood::Locked => (StatusCode::UNAUTHORIZED, "<html>401 Authorization Required</html>").into_response(),
        _ => Json(json!({"version": "0.12.6"})).into_response(),
    }
}

async fn tags(State(fake): State<FakeOllama>) -> Response {
    let models = fake.models.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(json!({"models": models})).into_response()
}

async fn show(State(fake): State<FakeOllama>) -> Response {
    if fake.mood() == Mood::Silent {
        std::future::pending::<()>().await;
    }
    Json(json!({"capabilities": ["completion"], "details": {"family": "qwen2"}, "model_info": {}})).into_response()
}

async fn chat(State(fake): State<FakeOllama>, Json(body): Json<Value>) -> Response {
    fake.prompts.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
    let content = match fake.mood() {
        Mood::Broken => {
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "out of memory"}))).into_response();
        }
        Mood::Locked => return (StatusCode::UNAUTHORIZED, "<html>401 Authorization Required</html>").into_response(),
        Mood::Cut => String::new(),
        Mood::Silent => std::future::pending::<String>().await,
        Mood::Nonsense => r#"{"sentences":[{"text":"Reinicie tudo 42 vezes.","cites":["Z9"]}],"suggest":["rm"]}"#.to_owned(),
        Mood::Fine => {
            json!({"sentences": [{"text": "O modelo aponta para a verificação que falhou.", "cites": ["F1"]}], "suggest": []})
                .to_string()
        }
    };
    Json(json!({
        "model": body["model"],
        "created_at": "2026-11-20T12:00:00Z",
        "message": {"role": "assistant", "content": content},
        "done": true,
        "done_reason": "stop",
        "prompt_eval_count": 100,
        "eval_count": 20,
    }))
    .into_response()
}
