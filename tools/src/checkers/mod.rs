//! Judges of what clients saw: given what they asked and heard, and the truth, is every promise kept?
//!
//! - [`history`]: what is judged: operations with their times and answers, and the truth, revision by revision,
//! - [`execute`]: etcd's key-value semantics, written as plainly as can be,
//! - [`model`]: all states there have been, and what a request does at any of them,
//! - [`linearizability`]: were operations carried out one by one, in an order that their times allow?
//! - [`watching`]: each promise of a watch, by itself,
//! - [`leases`]: does a lease live as long as its holder was told?
//!
//! All of it is deterministic and does no I/O, so that a simulator may call it at every step. It shares no code with
//! the store that it judges, only the wire's messages: a fault in the one must not hide in the other.
//!
//! What is not here: who records a history, and what was done to the cluster meanwhile.

pub mod execute;
pub mod history;
pub mod leases;
pub mod linearizability;
pub mod model;
pub mod watching;

use std::fmt;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, and where; it names the operations concerned.
    pub text: String,
    /// The places of these in the history.
    pub operations: Vec<usize>,
}

impl Violation {
    /// One that concerns no operation in particular.
    pub fn new(text: impl Into<String>) -> Violation {
        Violation { text: text.into(), operations: Vec::new() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests;
