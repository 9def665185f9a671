//! A stand-in for Ollama, whose weights cannot be had: the wire format of
//! `/api/show` and `/api/chat`, with answers that a test chooses.

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
    routing::post,
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
}

/// The server.
#[derive(Debug, Clone)]
pub struct FakeOllama {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    prompts: Arc<Mutex<Vec<Value>>>,
}

impl FakeOllama {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(mood: Mood) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let fake = Self { address: listener.local_addr()?, mood: Arc::new(Mutex::new(mood)), prompts: Arc::default() };
        let router =
            Router::new().route("/api/show", post(show)).route("/api/chat", post(chat)).with_state(fake.clone());
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

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
