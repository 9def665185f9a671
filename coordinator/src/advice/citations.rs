//! What a model's answer is worth: each sentence stands only on facts that
//! were sent, and says no number that its facts do not.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Citation, Sentence, context::Evidence};
use crate::text::plain;

/// Longest sentence kept, in characters.
const SENTENCE_CHARS: usize = 400;
/// Most sentences kept.
pub(super) const MAX_SENTENCES: usize = 6;

/// The document a model is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Draft {
    sentences: Vec<DraftSentence>,
    #[serde(default)]
    suggest: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct DraftSentence {
    text: String,
    #[serde(default)]
    cites: Vec<String>,
}

/// Evidence by its number.
#[derive(Debug)]
pub(super) struct Sources(BTreeMap<String, String>);

/// What is left of a draft.
#[derive(Debug)]
pub(super) struct Checked {
    /// Sentences that stand.
    pub(super) sentences: Vec<Sentence>,
    /// How many did not.
    pub(super) dropped: usize,
    /// Numbers of the proposals it suggests, each once.
    pub(super) suggested: Vec<String>,
}

impl Sources {
    pub(super) fn new(evidence: Vec<Evidence>) -> Self {
        Self(evidence.into_iter().map(|fact| (fact.id, fact.what)).collect())
    }

    /// The fact that a number stands for; brackets and case are forgiven.
    pub(super) fn resolve(&self, id: &str) -> Option<Citation> {
        let id = id.trim_matches(|c: char| c.is_whitespace() || "[]()".contains(c)).to_ascii_uppercase();
        self.0.get(&id).map(|what| Citation { id, what: what.clone() })
    }

    /// Keeps of a draft what rests on these sources. `names` are identifiers
    /// whose digits are no claim.
    pub(super) fn check(&self, draft: Draft, names: &[&str]) -> Checked {
        let total = draft.sentences.len();
        let names: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let sentences: Vec<Sentence> = draft
            .sentences
            .into_iter()
            .filter_map(|sentence| self.stands(&sentence, &names))
            .take(MAX_SENTENCES)
            .collect();
        let mut suggested = Vec::new();
        for id in draft.suggest.iter().filter_map(|id| self.resolve(id)).map(|cite| cite.id) {
            if id.starts_with('P') && !suggested.contains(&id) {
                suggested.push(id);
            }
        }
        Checked { dropped: total - sentences.len(), sentences, suggested }
    }

    fn stands(&self, sentence: &DraftSentence, names: &BTreeSet<String>) -> Option<Sentence> {
        let text = plain(&self.without_marks(&sentence.text), SENTENCE_CHARS);
        if !text.contains(char::is_alphabetic) {
            return None;
        }
        let mut cites: Vec<Citation> = Vec::new();
        for cite in sentence.cites.iter().filter_map(|id| self.resolve(id)) {
            if !cites.contains(&cite) {
                cites.push(cite);
            }
        }
        if cites.is_empty() {
            return None;
        }
        let known: BTreeSet<String> = cites.iter().flat_map(|cite| numbers(&cite.what, names)).flatten().collect();
        let grounded = numbers(&text, names).iter().all(|readings| readings.iter().any(|n| known.contains(n)));
        grounded.then_some(Sentence { text, cites })
    }

    /// Takes out the `[F1]` that a model writes into its text: the citations
    /// are shown from `cites`.
    fn without_marks(&self, text: &str) -> String {
        let mut kept = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('[') {
            kept.push_str(before);
            match after.split_once(']') {
                Some((inside, behind))
                    if inside.split([',', ' ', ';']).all(|id| id.is_empty() || self.resolve(id).is_some()) =>
                {
                    kept.truncate(kept.trim_end().len());
                    rest = behind;
                }
                _ => {
                    kept.push('[');
                    rest = after;
                }
            }
        }
        kept.push_str(rest);
        kept
    }
}

/// The numbers of a text, each with all that it can mean: `1.234` is a
/// fraction or a thousand and some. Digits within a known name are skipped.
fn numbers(text: &str, names: &BTreeSet<String>) -> Vec<BTreeSet<String>> {
    text.split(|c: char| c.is_whitespace() || "\"'`“”‘’;!?".contains(c))
        .map(|word| word.trim_matches(|c: char| "()[]{},.:*…".contains(c)))
        .filter(|word| {
            let word = word.to_lowercase();
            // A purely numeric name would let any such number pass.
            !(names.contains(&word) && word.contains(char::is_alphabetic))
        })
        .flat_map(|word| word.split(|c: char| !(c.is_numeric() || c == '.' || c == ',')))
        .map(|run| run.trim_matches(['.', ',']))
        .filter(|run| !run.is_empty())
        .map(readings)
        .collect()
}

fn readings(run: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([run.to_owned()]);
    // Other scripts' digits stay as they are, so they match only themselves.
    let simple = |text: &str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        (digits(whole) && digits(fraction)).then(|| {
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        })
    };
    all.extend(simple(&run.replace(',', ".")));
    for (thousands, decimal) in [('.', ','), (',', '.')] {
        let (whole, fraction) = run.split_once(decimal).unwrap_or((run, ""));
        let mut groups = whole.split(thousands);
        let head = groups.next().is_some_and(|group| (1..=3).contains(&group.len()));
        let mut tail = groups.peekable();
        if head && tail.peek().is_some() && tail.all(|group| group.len() == 3) {
            all.extend(simple(&format!("{}.{fraction}", whole.replace(thousands, ""))));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn same(left: &str, right: &str) -> bool {
        let known: BTreeSet<String> = numbers(right, &none()).into_iter().flatten().collect();
        numbers(left, &none()).iter().all(|readings| readings.iter().any(|n| known.contains(n)))
    }

    #[test]
    fn one_number_is_recognised_in_both_notations() {
        assert!(same("88,40%", "88.4%"));
        assert!(same("1.234.567", "1234567"));
        assert!(same("1,234.5 ms", "1234,5 ms"));
        assert!(same("às 02:52", "2025 2:52"));
        assert!(!same("88,4", "884"));
        assert!(!same("10.10.10.9", "10.10.10.122"));
        assert!(!same("٩", "9"), "digits of another script match only themselves");
        assert!(!same("9½", "9"));
    }

    #[test]
    fn digits_of_a_name_are_no_claim_unless_the_name_is_a_number() {
        let names = BTreeSet::from(["vm112".to_owned(), "7".to_owned()]);
        assert!(numbers("VM112, (vm112).", &names).is_empty());
        assert_eq!(numbers("vm113", &names).len(), 1);
        assert_eq!(numbers("7", &names).len(), 1);
    }

    #[test]
    fn marks_inside_the_text_go_and_unknown_ones_stay_to_be_judged() {
        let sources = Sources::new(vec![
            Evidence { id: "F1".to_owned(), what: "a".to_owned() },
            Evidence { id: "R2".to_owned(), what: "b".to_owned() },
        ]);
        assert_eq!(sources.without_marks("Fila cheia [F1][R2]. Fim [f1, R2]"), "Fila cheia. Fim");
        assert_eq!(sources.without_marks("array[3] e [R9] e ["), "array[3] e [R9] e [");
    }
}
