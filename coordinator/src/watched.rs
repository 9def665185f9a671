//! What is watched, as the registry says at present: it can be replaced while
//! everything runs, and a registry with a mistake replaces nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use farol_protocol::{
    CheckId,
    registry::{Check, Registry, Scenario},
};
use tokio::sync::watch;

use crate::{correlate::Rules, store::hosts::HostKey};

/// A registry and what follows from it.
#[derive(Debug)]
pub struct Watched {
    /// What is watched.
    pub registry: Registry,
    /// How reports become findings.
    pub rules: Rules,
    /// Hosts of the registry and of the store, by name.
    pub hosts: HashMap<String, HostKey>,
    /// Places of checks: their scenario and their place in it.
    places: HashMap<CheckId, (usize, usize)>,
}

impl Watched {
    /// `hosts` gives the keys of the known hosts by name.
    #[must_use]
    pub fn new(registry: Registry, hosts: HashMap<String, HostKey>) -> Self {
        let scenarios = registry.scenarios.iter().enumerate();
        let places = scenarios
            .flat_map(|(n, scenario)| {
                scenario.checks.iter().enumerate().map(move |(place, check)| (check.id.clone(), (n, place)))
            })
            .collect();
        Self { rules: Rules::new(&registry, &hosts), registry, hosts, places }
    }

    /// A check with its scenario.
    #[must_use]
    pub fn check(&self, id: &CheckId) -> Option<(&Scenario, &Check)> {
        let (scenario, place) = self.places.get(id)?;
        let scenario = self.registry.scenarios.get(*scenario)?;
        Some((scenario, scenario.checks.get(*place)?))
    }
}

/// The present [`Watched`], and why the file on the disk is not it.
#[derive(Debug)]
pub struct Watching {
    present: watch::Sender<Arc<Watched>>,
    mistake: Mutex<Option<String>>,
}

impl Watching {
    /// Begins with this one.
    #[must_use]
    pub fn new(watched: Watched) -> Self {
        Self { present: watch::Sender::new(Arc::new(watched)), mistake: Mutex::default() }
    }

    /// The present one.
    #[must_use]
    pub fn get(&self) -> Arc<Watched> {
        Arc::clone(&self.present.borrow())
    }

    /// Told whenever it is replaced.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Watched>> {
        self.present.subscribe()
    }

    /// Puts another one in its place.
    pub fn replace(&self, watched: Watched) {
        self.present.send_replace(Arc::new(watched));
        *self.mistake.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The file cannot be used, so the present one stays. Answers whether that
    /// is news.
    pub fn keep(&self, why: &str) -> bool {
        let mut mistake = self.mistake.lock().unwrap_or_else(PoisonError::into_inner);
        let news = mistake.as_deref() != Some(why);
        *mistake = Some(why.to_owned());
        news
    }

    /// The file is the present one after all.
    pub fn fine(&self) {
        *self.mistake.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the file on the disk is not the present one.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        self.mistake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
