//! Effects as a record instead of processes.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// One program that ran on a host.
#[derive(Debug, Clone)]
pub struct Effect {
    /// Where.
    pub host: String,
    /// Its program and arguments, joined by blanks.
    pub command: String,
    /// When it began.
    pub began: Instant,
    /// When it ends, or ended.
    pub ends: Instant,
    /// Whether it was killed before its time.
    pub killed: bool,
    /// Whether it heeds SIGTERM.
    pub obeys: bool,
    /// Whether the agent could write its group down: between its start and
    /// that commit a crash leaves a process that no journal knows.
    pub recorded: bool,
}

/// All effects of a world.
#[derive(Debug, Default)]
pub struct Effects(Mutex<Vec<Effect>>);

impl Effects {
    fn all_mut<T>(&self, look: impl FnOnce(&mut Vec<Effect>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that ran.
    #[must_use]
    pub fn all(&self) -> Vec<Effect> {
        self.all_mut(|all| all.clone())
    }

    /// Starts a program such as `/sim/run LABEL MS EXIT OBEYS`; answers its number.
    pub(crate) fn begin(&self, host: &str, command: &str) -> usize {
        let mut words = command.split(' ').skip(2);
        let ms = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let obeys = words.nth(1) != Some("stubborn");
        let began = Instant::now();
        let ends = began + Duration::from_millis(ms);
        self.all_mut(|all| {
            let (host, command) = (host.to_owned(), command.to_owned());
            all.push(Effect { host, command, began, ends, killed: false, obeys, recorded: false });
            all.len() - 1
        })
    }

    /// The machine of `host` is set back: what runs on it ends.
    pub fn end_all(&self, host: &str) {
        self.all_mut(|all| {
            for effect in all.iter_mut().filter(|effect| effect.host == host && effect.ends > Instant::now()) {
                (effect.ends, effect.killed) = (Instant::now(), true);
            }
        });
    }

    pub(crate) fn recorded(&self, number: usize) {
        self.all_mut(|all| all[number].recorded = true);
    }

    /// Waits for its end; answers its exit code.
    pub(crate) async fn ended(&self, number: usize) -> ExitStatus {
        loop {
            let effect = self.all_mut(|all| all[number].clone());
            if effect.ends <= Instant::now() {
                let code = effect.command.split(' ').nth(3).and_then(|word| word.parse().ok()).unwrap_or(0);
                return if effect.killed { ExitStatus::from_raw(9) } else { ExitStatus::from_raw(code << 8) };
            }
            sleep_until(effect.ends).await;
        }
    }

    pub(crate) fn is_alive(&self, number: usize) -> bool {
        self.all_mut(|all| all.get(number).is_some_and(|effect| effect.ends > Instant::now()))
    }

    pub(crate) fn signal(&self, number: usize, hard: bool) {
        self.all_mut(|all| {
            if let Some(effect) = all.get_mut(number)
                && effect.ends > Instant::now()
                && (hard || effect.obeys)
            {
                (effect.ends, effect.killed) = (Instant::now(), true);
            }
        });
    }
}
