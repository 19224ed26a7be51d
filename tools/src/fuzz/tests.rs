//! The loop finds a planted bug, runs it again, and is the same for the same seed; every target bears a bounded run.

use std::collections::BTreeSet;

use super::run::{Bounds, Fault, execute, from_hex, hex, run};
use super::*;

/// Has a bug behind two outcomes that have to be found one after the other.
struct Toy {
    is_sound: bool,
}

impl Target for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn about(&self) -> &'static str {
        "a test's"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![b"a valid input".to_vec()]
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        for expected in [0x7f, 0xff, 0x10] {
            if input.get(2) == Some(&expected) {
                outcome.note(&format!("{expected}"));
            }
        }
        if input.len() > 40 && input.contains(&0xff) {
            outcome.note("long");
            assert!(
                self.is_sound || !input.starts_with(&input[input.len() - 2..]),
                "a planted bug"
            );
        }
        outcome
    }
}

fn executions(executions: u64) -> Bounds {
    Bounds { executions: Some(executions), ..Bounds::default() }
}

#[test]
fn a_planted_bug_is_found_and_runs_again() {
    let toy = Toy { is_sound: false };
    let report = run(&toy, 1, executions(20_000), Vec::new());
    let [finding] = &report.findings[..] else { panic!("{report}") };
    let Fault::Panic(message) = &finding.fault else { panic!("{report}") };
    assert!(message.starts_with("a planted bug (") && message.contains("tests.rs"), "{message}");
    assert_eq!(finding.input.len(), 41, "it was made as short as it goes");
    assert!(report.outcomes >= 3 && report.corpus.len() >= report.outcomes, "{report}");
    assert!(report.to_string().contains(&hex(&finding.input)), "it is printed");
    // From what was printed.
    let printed = from_hex(&hex(&finding.input)).unwrap();
    assert_eq!(execute(&toy, 1, &printed).unwrap_err(), finding.fault);
    assert!(execute(&Toy { is_sound: true }, 1, &printed).is_ok());
}

#[test]
fn the_same_seed_does_the_same() {
    let toy = Toy { is_sound: true };
    let [first, again, other] = [1, 1, 2].map(|seed| run(&toy, seed, executions(3000), Vec::new()));
    assert_eq!((first.outcomes, first.corpus), (again.outcomes, again.corpus));
    assert_eq!(first.executions, 3000);
    assert!(first.findings.is_empty() && other.findings.is_empty());
}

#[test]
fn a_run_goes_on_from_what_another_has_kept() {
    let toy = Toy { is_sound: true };
    let first = run(&toy, 1, executions(3000), Vec::new());
    let inputs = first.corpus.len() as u64;
    let again = run(&toy, 2, executions(inputs), first.corpus);
    assert_eq!(again.outcomes, first.outcomes);
}

#[test]
fn inputs_are_printed_and_read_back() {
    assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
    assert_eq!(from_hex("00 A5\nff"), Some(vec![0, 0xa5, 0xff]));
    assert_eq!(from_hex("0"), None);
    assert_eq!(from_hex("zz"), None);
}

/// The same input comes to the same, or a finding could not be run again.
fn bears(name: &str, count: u64) {
    let target = target(name).expect("a target");
    let seeds = target.seeds();
    let outcomes: BTreeSet<String> = seeds
        .iter()
        .map(|seed| {
            let [first, again] = [0, 1].map(|_| execute(&*target, 0, seed).expect("a valid input"));
            assert_eq!(first, again, "{name} comes to different ends");
            first.to_string()
        })
        .collect();
    assert!(!outcomes.is_empty(), "{name} has no seeds");
    let report = run(&*target, 1, executions(count), Vec::new());
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.outcomes > outcomes.len(), "nothing new came of changes: {report}");
}

#[test]
fn http2_bears_foreign_bytes() {
    bears("http2", 2000);
}

#[test]
fn grpc_bears_foreign_bytes() {
    bears("grpc", 120);
}

#[test]
fn peer_bears_foreign_bytes() {
    bears("peer", 100);
}

#[test]
fn wal_bears_foreign_bytes() {
    bears("wal", 300);
}

#[test]
fn checkpoint_bears_foreign_bytes() {
    bears("checkpoint", 100);
}

#[test]
fn state_bears_foreign_bytes() {
    bears("state", 100);
}

#[test]
fn batch_bears_foreign_bytes() {
    bears("batch", 120);
}

#[test]
fn v2_bears_foreign_bytes() {
    bears("v2", 300);
}

#[test]
fn config_bears_foreign_bytes() {
    bears("config", 1000);
}

#[test]
fn targets_have_names_of_their_own() {
    let names: BTreeSet<&str> = targets().iter().map(|target| target.name()).collect();
    assert_eq!(names.len(), targets().len());
    assert!(target("nothing").is_none());
}
