//! The log: one JSON object per line on standard error, fields beside the
//! message. Every line names the agent, and the session while there is one.

use std::{
    fmt,
    io::Write as _,
    sync::{OnceLock, PoisonError, RwLock},
};

use farol_protocol::{HostId, SessionId, Timestamp};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

static IDENTITY: OnceLock<RwLock<Identity>> = OnceLock::new();

#[derive(Default)]
struct Identity {
    agent_id: Option<String>,
    session_id: Option<String>,
}

/// Starts logging. Libraries are heard only when they warn.
pub fn init(level: LevelFilter) {
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("farol_agent", level);
    // Fails only when a test has set its own.
    let _ = tracing_subscriber::registry().with(Lines.with_filter(filter)).try_init();
}

/// Names the agent on every later line.
pub(crate) fn set_agent(id: &HostId) {
    identity().write().unwrap_or_else(PoisonError::into_inner).agent_id = Some(id.to_string());
}

/// Names the session on every later line, or none.
pub(crate) fn set_session(id: Option<SessionId>) {
    identity().write().unwrap_or_else(PoisonError::into_inner).session_id = id.map(|id| id.to_string());
}

fn identity() -> &'static RwLock<Identity> {
    IDENTITY.get_or_init(RwLock::default)
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        let metadata = event.metadata();
        fields.put("timestamp", Timestamp::now().to_string());
        fields.put("level", metadata.level().as_str().to_ascii_lowercase());
        fields.put("target", metadata.target());
        {
            let identity = identity().read().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in [("agent_id", &identity.agent_id), ("session_id", &identity.session_id)] {
                if let Some(value) = value {
                    fields.put(name, value.as_str());
                }
            }
        }
        event.record(&mut fields);
        let mut line = Value::Object(fields.0).to_string();
        line.push('\n');
        // There is no other place to say that logging failed.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}
