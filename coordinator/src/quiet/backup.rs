//! Backups that hypervisors make now. Looks put up what runs on the nodes that
//! answered; of a node that did not, what it said before counts until it is too
//! old. A coordinator that starts takes up what was known, as fresh as if it had
//! just been said, so that nobody is told of a guest for a restart's sake.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use farol_protocol::Timestamp;
use serde::{Deserialize, Serialize};

/// A backup that runs longer is no reason to be quiet any more.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// A task that saves guests, as its node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningBackup {
    /// Its id.
    pub task: String,
    /// When it began, by the node's clock.
    pub started: Timestamp,
    /// Numbers of the guests that it saves.
    pub vmids: Vec<u32>,
}

/// A guest that is being saved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backup {
    /// Name of the integration.
    pub integration: String,
    /// The host that the integration is about, where it is one.
    pub of: Option<String>,
    /// Node that saves it.
    pub node: String,
    /// The guest's number.
    pub vmid: u32,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Node {
    of: Option<String>,
    at: Timestamp,
    fresh_for: Duration,
    tasks: BTreeMap<String, Task>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    /// By the node's clock, though never later than it was first seen.
    since: Timestamp,
    vmids: Vec<u32>,
}

impl Node {
    /// A clock that was put back makes nothing younger.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let fresh_for = i64::try_from(self.fresh_for.as_millis()).unwrap_or(i64::MAX);
        now.since(self.at).abs() <= fresh_for
    }
}

/// The board, by integration and node.
#[derive(Debug, Default)]
pub struct Backups(Mutex<BTreeMap<(String, String), Node>>);

/// What the board holds, to be stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedBackups(Vec<(String, String, Node)>);

impl Backups {
    /// Replaces what each node in `answers` said. It counts for `fresh_for`
    /// from `now` on. `of` is the host that the integration is about. Answers
    /// whether that is news.
    pub fn set(
        &self,
        integration: &str,
        of: Option<&str>,
        answers: BTreeMap<String, Vec<RunningBackup>>,
        now: Timestamp,
        fresh_for: Duration,
    ) -> bool {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.retain(|(known, _), node| known != integration || node.is_fresh(now));
        let mut news = false;
        for (name, running) in answers {
            let key = (integration.to_owned(), name);
            let known = board.remove(&key).map(|node| node.tasks).unwrap_or_default();
            let tasks: BTreeMap<String, Task> = running
                .into_iter()
                .map(|RunningBackup { task, started, vmids }| {
                    let since = known.get(&task).map_or(started.min(now), |known| known.since.min(started));
                    (task, Task { since, vmids })
                })
                .collect();
            news |= tasks != known;
            board.insert(key, Node { of: of.map(str::to_owned), at: now, fresh_for, tasks });
        }
        news
    }

    /// All of it, to be taken up by the next start.
    #[must_use]
    pub fn save(&self) -> SavedBackups {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let with_tasks = board.iter().filter(|(_, node)| !node.tasks.is_empty());
        SavedBackups(with_tasks.map(|((at, name), node)| (at.clone(), name.clone(), node.clone())).collect())
    }

    /// Takes up what was saved, as if it had been said at `now`.
    pub fn take_up(&self, saved: SavedBackups, now: Timestamp) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.extend(saved.0.into_iter().map(|(at, name, node)| ((at, name), Node { at: now, ..node })));
    }

    /// Forgets integrations that `is_there` does not know.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(integration, _), _| is_there(integration));
    }

    /// The guests that are being saved, each once.
    #[must_use]
    pub fn running(&self, now: Timestamp) -> Vec<Backup> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: BTreeMap<(&str, u32), Backup> = BTreeMap::new();
        for ((integration, name), node) in board.iter().filter(|(_, node)| node.is_fresh(now)) {
            for task in node.tasks.values().filter(|task| now < task.since.plus(LONGEST)) {
                for vmid in &task.vmids {
                    let backup = found.entry((integration, *vmid)).or_insert_with(|| Backup {
                        integration: integration.clone(),
                        of: node.of.clone(),
                        node: name.clone(),
                        vmid: *vmid,
                        since: task.since,
                    });
                    backup.since = backup.since.min(task.since);
                }
            }
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(1_700_000_000_000 + minutes * 60_000)
    }

    fn task(id: &str, started: Timestamp, vmids: &[u32]) -> RunningBackup {
        RunningBackup { task: id.to_owned(), started, vmids: vmids.to_vec() }
    }

    fn said(node: &str, tasks: Vec<RunningBackup>) -> BTreeMap<String, Vec<RunningBackup>> {
        [(node.to_owned(), tasks)].into()
    }

    fn running(board: &Backups, now: Timestamp) -> Vec<u32> {
        board.running(now).iter().map(|backup| backup.vmid).collect()
    }

    #[test]
    fn a_backup_runs_until_a_fresh_answer_is_without_it_or_no_answer_came_for_too_long() {
        let board = Backups::default();
        assert!(board.set("pve", None, said("a", vec![task("t", at(0), &[112, 104])]), at(1), 3 * MINUTE));
        assert_eq!(running(&board, at(4)), [104, 112]);
        assert_eq!(running(&board, at(5)), [0; 0], "three minutes without an answer");
        board.set("pve", None, said("a", vec![task("t", at(0), &[112, 104])]), at(5), 3 * MINUTE);
        // Another node's answer, and another integration's, say nothing of this one.
        board.set("pve", None, said("b", Vec::new()), at(6), 3 * MINUTE);
        board.set("other", None, said("a", Vec::new()), at(6), 3 * MINUTE);
        assert_eq!(running(&board, at(6)), [104, 112]);
        assert!(board.set("pve", None, said("a", Vec::new()), at(7), 3 * MINUTE));
        assert_eq!(running(&board, at(7)), [0; 0]);
    }

    #[test]
    fn the_same_answer_again_is_no_news_and_keeps_it_fresh() {
        let board = Backups::default();
        let answer = || said("a", vec![task("t", at(0), &[112])]);
        assert!(board.set("pve", None, answer(), at(1), 3 * MINUTE));
        assert!(!board.set("pve", None, answer(), at(3), 3 * MINUTE));
        assert_eq!(running(&board, at(6)), [112]);
        board.retain(|integration| integration != "pve");
        assert_eq!(running(&board, at(3)), [0; 0]);
    }

    #[test]
    fn twelve_hours_are_enough_whatever_the_nodes_clock_says() {
        let board = Backups::default();
        let day = 24 * 60;
        for minute in (0..=day).step_by(2) {
            // Its clock is a year ahead.
            board.set("pve", None, said("a", vec![task("t", at(525_600), &[112])]), at(minute), 3 * MINUTE);
            assert_eq!(running(&board, at(minute)).is_empty(), minute >= 12 * 60, "{minute}");
        }
        board.set("pve", None, said("a", vec![task("u", at(day - 13 * 60), &[112])]), at(day), 3 * MINUTE);
        assert_eq!(running(&board, at(day)), [0; 0], "it began before the coordinator did");
    }

    #[test]
    fn a_clock_that_was_put_back_keeps_nothing_fresh() {
        let board = Backups::default();
        board.set("pve", None, said("a", vec![task("t", at(0), &[112])]), at(100), 3 * MINUTE);
        assert_eq!(running(&board, at(98)), [112]);
        assert_eq!(running(&board, at(50)), [0; 0]);
    }

    #[test]
    fn what_was_known_at_a_stop_counts_after_the_next_start_until_it_is_too_old() {
        let board = Backups::default();
        board.set("pve", Some("proxmox"), said("a", vec![task("t", at(0), &[112])]), at(1), 3 * MINUTE);
        board.set("pve", None, said("b", Vec::new()), at(1), 3 * MINUTE);
        let saved = serde_json::to_string(&board.save()).expect("written");
        let next = Backups::default();
        next.take_up(serde_json::from_str(&saved).expect("read"), at(30));
        assert_eq!(next.running(at(33)), board.running(at(1)));
        assert_eq!(running(&next, at(34)), [0; 0]);
        next.take_up(serde_json::from_str(&saved).expect("read"), at(30));
        assert!(next.set("pve", None, said("a", Vec::new()), at(31), 3 * MINUTE), "its end is news");
    }

    #[test]
    fn a_guest_in_two_tasks_is_saved_once_since_the_first() {
        let board = Backups::default();
        let tasks = vec![task("t", at(2), &[112]), task("u", at(1), &[112, 122])];
        board.set("pve", Some("proxmox"), said("a", tasks), at(3), 3 * MINUTE);
        let found = board.running(at(3));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].vmid, found[0].since, found[0].of.as_deref()), (112, at(1), Some("proxmox")));
    }
}
