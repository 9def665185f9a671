//! What running actions write, in memory, for people who watch.
//!
//! Nothing here is kept: the outcome that the host reports at the end is what
//! counts, and from then on it alone is shown.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use farol_protocol::{
    ActionId, Timestamp,
    frame::{ActionOutput, OutputStream},
};
use serde::Serialize;

/// Longest text that is held of one action, in bytes.
const MOST_TEXT: usize = 64 * 1024;
/// Most chunks that are held of one action.
const MOST_CHUNKS: usize = 1024;
/// Most actions of which something is held.
const MOST_ACTIONS: usize = 256;
/// Shortest time between two words to watchers about one action, in ms.
const TELL_EVERY_MS: i64 = 250;

/// A part of what an action wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Chunk {
    /// Counts the action's chunks from 1; a hole is output that was dropped.
    pub n: u64,
    /// `stdout` or `stderr`.
    #[schema(value_type = String, example = "stdout")]
    pub stream: OutputStream,
    /// The text.
    pub text: String,
}

/// The ends of what running actions write.
#[derive(Debug, Default)]
pub struct Outputs {
    tails: Mutex<HashMap<ActionId, Tail>>,
}

#[derive(Debug, Default)]
struct Tail {
    chunks: VecDeque<Chunk>,
    length: usize,
    last_n: u64,
    at_ms: i64,
    told_ms: Option<i64>,
}

impl Outputs {
    /// Takes a chunk. Answers whether watchers are to be told: not about each
    /// of many.
    pub fn put(&self, chunk: ActionOutput, now: Timestamp) -> bool {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if !tails.contains_key(&chunk.action_id) && tails.len() >= MOST_ACTIONS {
            let oldest = tails.iter().min_by_key(|(_, tail)| tail.at_ms).map(|(id, _)| *id);
            oldest.map(|id| tails.remove(&id));
        }
        let tail = tails.entry(chunk.action_id).or_default();
        // A number that does not grow is of a chunk that is here.
        if chunk.n <= tail.last_n {
            return false;
        }
        let mut text = chunk.text;
        if text.len() > MOST_TEXT {
            let from = text.ceil_char_boundary(text.len() - MOST_TEXT);
            text.drain(..from);
        }
        tail.last_n = chunk.n;
        tail.length += text.len();
        tail.at_ms = now.as_ms();
        tail.chunks.push_back(Chunk { n: chunk.n, stream: chunk.stream, text });
        while tail.length > MOST_TEXT || tail.chunks.len() > MOST_CHUNKS {
            tail.length -= tail.chunks.pop_front().map_or(tail.length, |chunk| chunk.text.len());
        }
        let due = tail.told_ms.is_none_or(|told| now.as_ms().abs_diff(told) >= TELL_EVERY_MS.unsigned_abs());
        if due {
            tail.told_ms = Some(now.as_ms());
        }
        due
    }

    /// What is held of an action; none where it wrote nothing or has ended.
    #[must_use]
    pub fn of(&self, action: ActionId) -> Option<Vec<Chunk>> {
        let tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get(&action).map(|tail| tail.chunks.iter().cloned().collect())
    }

    /// The action has ended.
    pub fn forget(&self, action: ActionId) {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).remove(&action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(action_id: ActionId, n: u64, text: &str) -> ActionOutput {
        ActionOutput { action_id, n, stream: OutputStream::Stdout, text: text.to_owned() }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn the_newest_text_is_held_until_the_action_ends() {
        let (outputs, id) = (Outputs::default(), ActionId::new());
        assert_eq!(outputs.of(id), None);
        for n in 1..=10 {
            outputs.put(chunk(id, n, &n.to_string().repeat(MOST_TEXT / 4)), at(0));
        }
        let held = outputs.of(id).expect("something");
        assert!(held.iter().map(|chunk| chunk.text.len()).sum::<usize>() <= MOST_TEXT);
        assert_eq!(held.last().map(|chunk| chunk.n), Some(10));
        outputs.put(chunk(id, 11, &"é".repeat(MOST_TEXT)), at(0));
        assert_eq!(outputs.of(id).expect("something").len(), 1, "one chunk alone is cut too");
        outputs.forget(id);
        assert_eq!(outputs.of(id), None);
    }

    #[test]
    fn a_chunk_that_comes_again_is_held_once() {
        let (outputs, id) = (Outputs::default(), ActionId::new());
        assert!(outputs.put(chunk(id, 2, "a"), at(0)));
        assert!(!outputs.put(chunk(id, 2, "a"), at(1000)));
        assert!(!outputs.put(chunk(id, 1, "b"), at(1000)));
        assert_eq!(outputs.of(id).map(|held| held.len()), Some(1));
    }

    #[test]
    fn watchers_are_not_told_of_each_chunk() {
        let (outputs, id) = (Outputs::default(), ActionId::new());
        let told: Vec<bool> =
            (1..=6).map(|n| outputs.put(chunk(id, n, "x"), at(100 * i64::try_from(n).expect("small")))).collect();
        assert_eq!(told, [true, false, false, true, false, false]);
    }

    #[test]
    fn a_few_hundred_actions_are_held_at_most_and_the_quietest_leaves() {
        let outputs = Outputs::default();
        let ids: Vec<ActionId> = (0..=MOST_ACTIONS).map(|_| ActionId::new()).collect();
        for (ms, id) in (0..).zip(&ids) {
            outputs.put(chunk(*id, 1, "x"), at(ms));
        }
        assert_eq!(outputs.of(ids[0]), None);
        assert!(ids[1..].iter().all(|id| outputs.of(*id).is_some()));
    }
}
