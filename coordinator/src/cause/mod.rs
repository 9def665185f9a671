//! What probably caused a finding: a ranking of what else is wrong nearby and
//! of what was changed shortly before. Pure; the same facts give the same
//! ranking, and without a clear winner it says that it does not know.

mod facts;

use farol_protocol::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub use facts::of;

/// What may have caused a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The correlator knows: what it depends on is down.
    Dependency,
    /// Somebody or something changed the host or what it needs.
    Change,
    /// Something else is wrong there.
    Finding,
}

/// A suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// What it is.
    pub kind: Kind,
    /// Its identifier: a finding's or an action's.
    pub id: String,
    /// Host.
    pub host: String,
    /// What people read.
    pub text: String,
    /// When it began or was done.
    pub at: Timestamp,
    /// Steps from the finding's host to the suspect's along what it needs; 0 on the same host.
    pub distance: u32,
}

/// A suspect with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ranked {
    /// What it is.
    pub kind: Kind,
    /// Its identifier: a finding's or an action's.
    pub id: String,
    /// Host.
    pub host: String,
    /// What people read.
    pub text: String,
    /// When it began or was done.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Steps from the finding's host along what it needs; 0 on the same host.
    pub distance: u32,
    /// How long before the finding, in ms; negative for after it.
    pub before_ms: i64,
    /// Weight, 0 to 100.
    pub weight: u32,
}

/// What probably caused a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Verdict {
    /// Whether the first of the ranking stands out.
    pub determined: bool,
    /// Suspects, the likeliest first, five at most.
    pub ranking: Vec<Ranked>,
}

/// Longest time in ms between a cause and what it does.
pub const REACH_MS: i64 = 60 * 60_000;
/// What is noticed this much later may still have begun before: checks have intervals.
const LATE_MS: i64 = 2 * 60_000;
/// Weight from which a suspect is named.
const ENOUGH: u32 = 55;
/// By how much it must lead.
const LEAD: u32 = 10;
const SHOWN: usize = 5;

/// Ranks the suspects of a finding that began at `since`.
#[must_use]
pub fn rank(since: Timestamp, suspects: Vec<Suspect>) -> Verdict {
    let mut ranking: Vec<Ranked> = suspects.into_iter().filter_map(|suspect| weigh(since, suspect)).collect();
    ranking.sort_by(|a, b| {
        let weight = b.weight.cmp(&a.weight).then(a.kind.cmp(&b.kind)).then(a.distance.cmp(&b.distance));
        weight.then(b.at.cmp(&a.at)).then_with(|| a.id.cmp(&b.id))
    });
    let lead = match ranking.as_slice() {
        [] => false,
        [first] => first.weight >= ENOUGH,
        [first, second, ..] => {
            first.kind == Kind::Dependency || (first.weight >= ENOUGH && first.weight >= second.weight + LEAD)
        }
    };
    ranking.truncate(SHOWN);
    Verdict { determined: lead, ranking }
}

fn weigh(since: Timestamp, suspect: Suspect) -> Option<Ranked> {
    let before_ms = since.since(suspect.at);
    let weight = if suspect.kind == Kind::Dependency {
        100
    } else {
        if !(-LATE_MS..=REACH_MS).contains(&before_ms) {
            return None;
        }
        // What came shortly before counts for most, what was noticed after for little.
        let near = if before_ms < 0 { 15 } else { 40 - u32::try_from(before_ms * 40 / REACH_MS).unwrap_or(40) };
        let place = match suspect.distance {
            0 => 30,
            1 => 22,
            2 => 12,
            _ => 5,
        };
        // A change has no cause of its own here; a problem may share one.
        let kind = if suspect.kind == Kind::Change { 20 } else { 5 };
        near + place + kind
    };
    let Suspect { kind, id, host, text, at, distance } = suspect;
    Some(Ranked { kind, id, host, text, at, distance, before_ms, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: i64 = 10_000_000;

    fn suspect(kind: Kind, id: &str, minutes_before: i64, distance: u32) -> Suspect {
        Suspect {
            kind,
            id: id.to_owned(),
            host: "vm1".to_owned(),
            text: id.to_owned(),
            at: Timestamp::from_ms(SINCE - minutes_before * 60_000),
            distance,
        }
    }

    fn rank(suspects: Vec<Suspect>) -> Verdict {
        super::rank(Timestamp::from_ms(SINCE), suspects)
    }

    #[test]
    fn a_change_of_the_host_shortly_before_is_named() {
        let verdict = rank(vec![
            suspect(Kind::Finding, "load", 3, 0),
            suspect(Kind::Change, "restart", 2, 0),
            suspect(Kind::Change, "old", 50, 0),
        ]);
        assert!(verdict.determined);
        assert_eq!(
            verdict.ranking.iter().map(|ranked| ranked.id.as_str()).collect::<Vec<_>>(),
            ["restart", "load", "old"]
        );
        assert_eq!(verdict.ranking[0].before_ms, 120_000);
    }

    #[test]
    fn two_that_are_alike_likely_leave_it_undetermined() {
        let verdict = rank(vec![suspect(Kind::Change, "a", 2, 0), suspect(Kind::Change, "b", 3, 0)]);
        assert!(!verdict.determined);
        assert_eq!(verdict.ranking.len(), 2);
        assert!(!rank(vec![suspect(Kind::Finding, "far", 30, 3)]).determined);
        assert!(!rank(Vec::new()).determined);
    }

    #[test]
    fn what_came_after_or_long_before_is_no_suspect() {
        let verdict = rank(vec![suspect(Kind::Change, "later", -3, 0), suspect(Kind::Finding, "yesterday", 1440, 0)]);
        assert_eq!(verdict, Verdict { determined: false, ranking: Vec::new() });
    }

    #[test]
    fn what_the_correlator_knows_wins_whenever_it_was_noticed_and_in_whatever_order() {
        let all = vec![suspect(Kind::Change, "restart", 1, 0), suspect(Kind::Dependency, "pve1", -30, 1)];
        let turned: Vec<Suspect> = all.iter().rev().cloned().collect();
        let verdict = rank(all);
        assert_eq!(verdict, rank(turned));
        assert!(verdict.determined && verdict.ranking[0].id == "pve1");
    }
}
