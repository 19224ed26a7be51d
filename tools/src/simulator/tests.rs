//! Some seeds, and every planted bug.

use std::panic::catch_unwind;

use super::settings::SECOND;
use super::{Canary, Settings, run, scenarios};

/// The settings of a seed are drawn from it alone, so these are the same in every build.
fn seeds(from: u64, to: u64) {
    let mut v2_changes = 0;
    for seed in from..to {
        match run(Settings::of(seed, None)) {
            Ok(report) => v2_changes += report.v2_changes,
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(v2_changes > 50, "v2's keys were changed {v2_changes} times only");
}

#[test]
fn nothing_is_violated_by_the_first_seeds() {
    seeds(0, 12);
}

#[test]
fn nothing_is_violated_by_some_more_seeds() {
    seeds(12, 24);
}

#[test]
fn nothing_is_violated_by_what_once_went_wrong_in_etcd() {
    for scenario in scenarios::ALL {
        let mut settings = scenario.settings(0);
        settings.duration = settings.duration.min(SECOND);
        match run(settings) {
            Ok(report) if scenario.name == "the-quota-is-used-up" => {
                assert!(report.space.iter().all(|count| *count > 0), "{:?}", report.space);
            }
            Ok(_) => {}
            Err(failure) => panic!("{}: {failure}", scenario.name),
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    let run = || run(Settings::of(7, None)).expect("nothing is violated");
    assert_eq!(run(), run());
}

/// One of the first seeds finds the bug, be it by a checker or because the code finds itself wrong.
fn finds(canary: Canary, seeds: u64) {
    let is_found = |seed: &u64| {
        let settings = Settings::of(*seed, Some(canary));
        catch_unwind(|| run(settings)).map_or(true, |outcome| outcome.is_err())
    };
    assert!((0..seeds).any(|seed| is_found(&seed)), "{canary:?} is not found by {seeds} seeds");
}

#[test]
fn finds_an_acknowledgement_before_its_write_is_durable() {
    finds(Canary::AckBeforeDurable, 200);
}

#[test]
fn finds_a_read_context_that_is_used_again() {
    finds(Canary::ReuseReadContext, 200);
}

#[test]
fn finds_a_vote_that_is_lost() {
    finds(Canary::LoseVote, 200);
}

#[test]
fn finds_an_entry_that_is_applied_twice() {
    finds(Canary::ApplyTwice, 200);
}

#[test]
fn finds_a_tail_that_is_not_checked() {
    finds(Canary::SkipTailCheck, 200);
}

#[test]
fn finds_a_read_of_what_is_old() {
    finds(Canary::StaleRead, 200);
}

#[test]
fn finds_clocks_that_are_too_fast() {
    finds(Canary::FastClocks, 200);
}

#[test]
fn finds_what_is_carried_out_though_it_was_refused() {
    finds(Canary::CarryOutRefused, 200);
}

#[test]
fn finds_a_revision_that_is_split() {
    finds(Canary::SplitRevision, 200);
}
