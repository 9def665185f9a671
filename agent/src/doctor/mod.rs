//! `farol-agent doctor`: looks at everything the agent needs, and says what to
//! do about what is wrong.
//!
//! **Invariant.** It changes nothing and replaces nothing: it never takes the
//! lock of the state folder and never says hello, so it can run beside the
//! agent.

mod local;
mod remote;
mod text;

use std::path::Path;

use farol_protocol::{Language, Timestamp};
use serde::Serialize;

use self::text::Say;
use crate::{config::Config, state::StateDir};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The agent works, but not as well as it could, or not for long.
    Warning,
    /// The agent does not work.
    Problem,
}

impl Level {
    /// The word in front of a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do.
    pub advice: Option<String>,
}

/// Says lines in one language.
#[derive(Debug, Clone, Copy)]
struct Voice(Language);

impl Voice {
    fn ok(self, name: &'static str, say: Say, values: &[(&str, &str)]) -> Line {
        Line { name, level: Level::Ok, text: say.say(self.0, values), advice: None }
    }

    fn bad(self, name: &'static str, level: Level, (say, advice): (Say, Say), values: &[(&str, &str)]) -> Line {
        // An advice may need fewer values than the text.
        Line { name, level, text: say.say(self.0, values), advice: Some(advice.say(self.0, values)) }
    }
}

/// Looks at everything, from the inside out.
pub async fn examine(state: &StateDir, config: &Config, language: Language) -> Vec<Line> {
    let voice = Voice(language);
    let now = Timestamp::now();
    let (mut lines, identity) = local::identity(voice, state, now);
    lines.push(local::folder(voice, state.root()));
    let (spool, spool_bytes) = local::spool(voice, &state.spool(), config.spool_max_bytes).await;
    lines.push(local::space(voice, state.root(), config.spool_max_bytes.saturating_sub(spool_bytes)));
    lines.push(spool);
    lines.push(local::journal(voice, &state.journal()).await);
    lines.push(local::policy(voice, &config.policy));
    lines.push(local::running(voice, state));
    if Path::new("/run/systemd/system").exists() {
        lines.push(local::unit(voice).await);
    } else {
        lines.push(voice.ok("unit", Say::UnitElsewhere, &[]));
    }
    let time = match identity {
        Some(identity) => remote::coordinator(voice, &identity, &mut lines).await,
        None => None,
    };
    lines.push(remote::clock(voice, time, Timestamp::now()));
    lines
}
