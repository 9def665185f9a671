//! Every target holds over its seeds, what once broke it, and seeded changes.

use std::panic;

use farol_fuzz::{TARGETS, mutate::mutate, seeds};
use fastrand::Rng;

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds::of(name);
    assert!(!seeds.is_empty());
    for input in seeds.iter().chain(&seeds::regressions(name)) {
        (target.check)(input);
    }
    for case in 0..target.cases {
        let input = mutate(&seeds, &mut Rng::with_seed(u64::from(case)));
        if let Err(cause) = panic::catch_unwind(|| (target.check)(&input)) {
            eprintln!("case {case} of {name}: {:?}", String::from_utf8_lossy(&input));
            panic::resume_unwind(cause);
        }
    }
}

#[test]
fn any_frame_is_read_as_it_was_written_or_refused_in_few_words() {
    holds("frames");
}

#[test]
fn any_frame_of_an_older_peer_is_read_as_it_was_written_or_refused_in_few_words() {
    holds("legacy");
}

#[cfg(feature = "agent")]
#[test]
fn a_diff_that_is_applied_makes_what_it_says_and_nothing_else() {
    holds("patch");
}

#[test]
fn any_plan_that_is_read_is_bounded_and_its_hash_is_of_its_bytes() {
    holds("plan");
}

#[cfg(feature = "agent")]
#[test]
fn no_policy_that_is_read_allows_an_empty_command() {
    holds("policy");
}

#[test]
fn any_registry_that_is_read_is_consistent() {
    holds("registry");
}

#[test]
fn only_what_its_sender_signed_is_taken() {
    holds("signed");
}

#[test]
fn half_of_the_seeds_changes_are_still_worth_reading() {
    // A mutator that only breaks syntax would test nothing but the parser.
    let seeds = seeds::of("frames");
    let json = (0..1000)
        .filter(|case| {
            let input = mutate(&seeds, &mut Rng::with_seed(*case));
            serde_json::from_slice::<serde_json::Value>(&input).is_ok()
        })
        .count();
    assert!(json > 400, "only {json} of 1000");
}
