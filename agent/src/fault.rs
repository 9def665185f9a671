//! Places at which a test may end the process as `kill -9` would.
//!
//! `FAROL_FAULT=NAME` ends it at the first passing of that place,
//! `FAROL_FAULT=NAME:3` at the third. Builds without debug assertions, which
//! is what gets installed, have none of it: the functions are empty there.
//!
//! A place is named for its side, what happens there, and whether that is
//! about to happen or has: `agent.journal.begin.before`. Frames are named by
//! their method: `coordinator.send.command.exec.after`.

pub use armed::{Sending, check, point, step};

#[cfg(all(debug_assertions, unix, not(farol_simulation)))]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    struct Plan {
        name: String,
        left: AtomicU32,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let text = std::env::var("FAROL_FAULT").ok()?;
        let (name, passing) = match text.rsplit_once(':') {
            Some((name, passing)) => (name, passing.parse().ok()?),
            None => (text.as_str(), 1),
        };
        Some(Plan { name: name.to_owned(), left: AtomicU32::new(passing) })
    });

    /// A place named in full.
    pub fn point(name: &str) {
        if let Some(plan) = &*PLAN
            && plan.name == name
            && plan.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            end();
        }
    }

    /// A place whose name has a middle that only its use knows.
    pub fn step(side: &str, what: impl std::fmt::Debug, when: &str) {
        if PLAN.is_some() {
            let what = format!("{what:?}").to_lowercase();
            let what = what.split('(').next().unwrap_or_default();
            point(&format!("{side}.{what}.{when}"));
        }
    }

    /// A frame on its way out.
    pub struct Sending(Option<String>);

    impl Sending {
        /// The frame `text` is about to leave.
        #[must_use]
        pub fn new(side: &str, text: &str) -> Self {
            let name = PLAN.is_some().then(|| {
                let method = text.split_once(r#""method":""#).and_then(|(_, rest)| rest.split('"').next());
                format!("{side}.send.{}", method.unwrap_or("answer"))
            });
            if let Some(name) = &name {
                point(&format!("{name}.before"));
            }
            Self(name)
        }

        /// It left.
        pub fn sent(self) {
            if let Some(name) = self.0 {
                point(&format!("{name}.after"));
            }
        }
    }

    /// A write that only a simulation refuses.
    ///
    /// # Errors
    /// Never here.
    pub const fn check(_name: &str) -> Result<(), std::io::Error> {
        Ok(())
    }

    fn end() {
        // Nothing that a process does at its end may help the test.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(farol_simulation)]
mod armed {
    pub use crate::simulation::{check, passed as point};

    /// A place whose name has a middle that only its use knows.
    pub fn step(side: &str, what: impl std::fmt::Debug, when: &str) {
        point(&format!("{side} {what:?} {when}"));
    }

    /// Simulated sockets do not know it.
    pub struct Sending;
}

#[cfg(not(any(farol_simulation, all(debug_assertions, unix))))]
mod armed {
    /// A write that only a simulation refuses.
    ///
    /// # Errors
    /// Never here.
    #[inline]
    pub const fn check(_name: &str) -> Result<(), std::io::Error> {
        Ok(())
    }

    /// A place named in full.
    #[inline]
    pub const fn point(_name: &str) {}

    /// A place whose name has a middle that only its use knows.
    #[inline]
    pub fn step(_side: &str, _what: impl std::fmt::Debug, _when: &str) {}

    /// A frame on its way out.
    pub struct Sending;

    impl Sending {
        /// The frame `text` is about to leave.
        #[inline]
        #[must_use]
        pub const fn new(_side: &str, _text: &str) -> Self {
            Self
        }

        /// It left.
        #[inline]
        pub const fn sent(self) {}
    }
}
