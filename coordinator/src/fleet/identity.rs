//! Which machine speaks under a host's identity. Pure: what is known and what
//! a hello shows in, what is known then and whether it is welcome out.
//!
//! A copied disk copies the key. What it does not copy is the running kernel:
//! boot ids never come back, so one that does belongs to a second machine.

use farol_protocol::{Timestamp, frame::Machine};
use serde::{Deserialize, Serialize};

/// Boots that are remembered.
const BOOTS: usize = 8;
/// Replacements of a living connection within this are counted together.
const REPLACED_WITHIN_MS: i64 = 10 * 60 * 1000;
/// So many are two machines that take turns.
const REPLACED_LIMIT: usize = 3;
/// Longest identifier or name that is kept.
const LONGEST: usize = 128;
/// Shortest beginning of an identifier that names it.
const SHORTEST: usize = 8;

/// What is known of a host's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Digest of its machine id.
    pub machine: Option<String>,
    /// Its last boots, newest last.
    pub boots: Vec<String>,
    /// Boots of the machine that a person decided against.
    pub barred: Vec<String>,
    /// What it calls itself.
    pub name: Option<String>,
    /// What it called itself before.
    pub name_before: Option<String>,
    /// What waits for a person.
    pub conflict: Option<Conflict>,
}

/// Two machines, one identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Conflict {
    /// Another machine showed the host's key and was refused.
    Machine {
        /// Digest of its machine id.
        machine: String,
        /// When it came first, in ms since 1970.
        at_ms: i64,
    },
    /// Two copies of one disk take turns; no order leaves.
    Clones {
        /// When that was noticed, in ms since 1970.
        at_ms: i64,
    },
}

/// Why a machine is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not the one that is recorded.
    OtherMachine,
    /// A person decided for its copy.
    Barred,
}

/// A person's decision, by the beginning of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This machine is the host.
    Machine(&'a str),
    /// The copy that runs since this boot is the host.
    Boot(&'a str),
}

impl Known {
    /// Whether orders are kept back.
    #[must_use]
    pub const fn holds_orders(&self) -> bool {
        matches!(self.conflict, Some(Conflict::Clones { .. }))
    }

    /// What is known after a hello, and whether it is refused.
    #[must_use]
    pub fn after_hello(&self, machine: Option<&Machine>, name: &str, now: Timestamp) -> (Self, Option<Refusal>) {
        let mut known = self.clone();
        let usable = |id: &Option<String>| id.clone().filter(|id| (SHORTEST..=LONGEST).contains(&id.len()));
        let (id, boot) = machine.map_or((None, None), |machine| (usable(&machine.id), usable(&machine.boot)));
        match (&known.machine, id) {
            (None, Some(id)) => known.machine = Some(id),
            (Some(recorded), Some(id)) if *recorded != id => {
                let told = matches!(&known.conflict, Some(Conflict::Machine { machine, .. }) if *machine == id);
                if !told && !known.holds_orders() {
                    known.conflict = Some(Conflict::Machine { machine: id, at_ms: now.as_ms() });
                }
                return (known, Some(Refusal::OtherMachine));
            }
            _ => {}
        }
        if let Some(boot) = boot {
            if known.barred.contains(&boot) {
                return (known, Some(Refusal::Barred));
            }
            if known.boots.last() != Some(&boot) {
                let before = known.boots.len();
                known.boots.retain(|old| *old != boot);
                if known.boots.len() < before {
                    known.conflict = Some(Conflict::Clones { at_ms: now.as_ms() });
                }
                known.boots.push(boot);
                let old = known.boots.len().saturating_sub(BOOTS);
                known.boots.drain(..old);
            }
        }
        let name: String = name.chars().take(LONGEST).collect();
        if known.name.as_ref() != Some(&name) {
            known.name_before = known.name.replace(name);
        }
        (known, None)
    }

    /// What is known once two living connections keep replacing each other.
    #[must_use]
    pub fn after_replacements(&self, now: Timestamp) -> Self {
        let mut known = self.clone();
        if !known.holds_orders() {
            known.conflict = Some(Conflict::Clones { at_ms: now.as_ms() });
        }
        known
    }

    /// What is known after a person has decided.
    ///
    /// # Errors
    /// The identifier belongs to none of the machines that are meant.
    pub fn after(&self, choice: Choice<'_>) -> Result<Self, String> {
        let mut known = self.clone();
        match choice {
            Choice::Machine(start) => {
                let other = match &self.conflict {
                    Some(Conflict::Machine { machine, .. }) => Some(machine),
                    _ => None,
                };
                let chosen = one(start, self.machine.iter().chain(other))?;
                if known.machine.as_ref() != Some(&chosen) {
                    known.boots.clear();
                    known.barred.clear();
                }
                known.machine = Some(chosen);
            }
            Choice::Boot(start) => {
                let chosen = one(start, self.boots.iter().chain(&self.barred))?;
                known.barred = self.boots.iter().chain(&self.barred).filter(|boot| **boot != chosen).cloned().collect();
                known.boots = vec![chosen];
            }
        }
        known.conflict = None;
        Ok(known)
    }
}

fn one<'a>(start: &str, known: impl Iterator<Item = &'a String>) -> Result<String, String> {
    let mut found: Vec<&String> = known.filter(|id| start.len() >= SHORTEST && id.starts_with(start)).collect();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(format!(
            "`{start}` names none of the machines that use this identity, or more than one; give at least \
             {SHORTEST} characters of an id that `farol host list` shows"
        )),
    }
}

/// Notes that a living connection was replaced; whether that happened so often
/// that two machines must be taking turns.
pub(super) fn takes_turns(replaced: &mut Vec<Timestamp>, now: Timestamp) -> bool {
    replaced.retain(|at| now.since(*at) < REPLACED_WITHIN_MS);
    replaced.push(now);
    if replaced.len() >= REPLACED_LIMIT {
        replaced.clear();
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_ms(NOW)
    }

    fn machine(id: &str, boot: &str) -> Machine {
        Machine { id: Some(format!("{id}{}", "0".repeat(12))), boot: Some(format!("{boot}{}", "0".repeat(12))) }
    }

    fn hello(known: &Known, id: &str, boot: &str) -> (Known, Option<Refusal>) {
        known.after_hello(Some(&machine(id, boot)), "web", now())
    }

    #[test]
    fn a_host_that_reboots_stays_welcome() {
        let mut known = Known::default();
        for n in 0..20 {
            let (next, refused) = hello(&known, "m", &format!("b{n}"));
            assert_eq!((refused, next.conflict.is_none()), (None, true));
            known = next;
        }
        assert_eq!(known.boots.len(), BOOTS);
        assert_eq!(hello(&known, "m", "b19").0, known, "the same hello again changes nothing");
    }

    #[test]
    fn another_machine_is_refused_and_waits_for_a_person_who_can_choose_either() {
        let (known, _) = hello(&Known::default(), "first", "a");
        let (conflicted, refused) = hello(&known, "other", "b");
        assert_eq!(refused, Some(Refusal::OtherMachine));
        assert!(matches!(conflicted.conflict, Some(Conflict::Machine { .. })) && !conflicted.holds_orders());
        assert_eq!(hello(&conflicted, "other", "b").0, conflicted, "a retry changes nothing");
        assert_eq!(hello(&conflicted, "first", "a").1, None, "the recorded machine keeps working");

        let moved = conflicted.after(Choice::Machine("other0000")).expect("known");
        assert_eq!(hello(&moved, "other", "b").1, None);
        assert_eq!(hello(&moved, "first", "a").1, Some(Refusal::OtherMachine));
        let kept = conflicted.after(Choice::Machine("first0000")).expect("known");
        assert_eq!((kept.conflict.is_none(), hello(&kept, "other", "b").1), (true, Some(Refusal::OtherMachine)));
        for wrong in ["nobody0000", "other", ""] {
            assert!(conflicted.after(Choice::Machine(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_boot_that_comes_back_is_a_second_machine_and_holds_orders_until_a_person_chooses() {
        let (known, _) = hello(&Known::default(), "m", "a");
        let (known, _) = hello(&known, "m", "b");
        assert!(!known.holds_orders(), "a reboot");
        let (known, refused) = hello(&known, "m", "a");
        assert!(refused.is_none() && known.holds_orders());

        let chosen = known.after(Choice::Boot("b0000000")).expect("known");
        assert!(!chosen.holds_orders());
        assert_eq!(hello(&chosen, "m", "a").1, Some(Refusal::Barred));
        assert_eq!(hello(&chosen, "m", "b").1, None);
        let (rebooted, refused) = hello(&chosen, "m", "c");
        assert!(refused.is_none() && !rebooted.holds_orders(), "the chosen one may reboot");
        assert_eq!(hello(&chosen.after(Choice::Boot("a0000000")).expect("known"), "m", "a").1, None, "a mind changed");
    }

    #[test]
    fn a_peer_that_says_nothing_of_its_machine_is_not_judged() {
        let (known, _) = hello(&Known::default(), "m", "a");
        assert_eq!(known.after_hello(None, "web", now()), (known.clone(), None));
        let empty = Machine { id: Some(String::new()), boot: Some("x".repeat(4096)) };
        assert_eq!(known.after_hello(Some(&empty), "web", now()), (known, None));
    }

    #[test]
    fn a_new_name_is_remembered_beside_the_old() {
        let (known, _) = Known::default().after_hello(None, "web", now());
        let (known, _) = known.after_hello(None, "web-2", now());
        assert_eq!((known.name.as_deref(), known.name_before.as_deref()), (Some("web-2"), Some("web")));
    }

    #[test]
    fn three_replacements_in_ten_minutes_are_two_machines_and_three_in_an_hour_are_not() {
        let at = |minute: i64| now().plus_ms(minute * 60_000);
        let mut replaced = Vec::new();
        assert_eq!([0, 1, 2].map(|minute| takes_turns(&mut replaced, at(minute))), [false, false, true]);
        let mut replaced = Vec::new();
        assert_eq!([0, 20, 40].map(|minute| takes_turns(&mut replaced, at(minute))), [false; 3]);
    }
}
