//! Fuzzers: foreign bytes, changed at random and by plan, for everything that takes bytes from outside.
//!
//! | target | the bytes | what must hold |
//! |---|---|---|
//! | [`http2`] | a client's connection | no panic; the session's books are right; what it sends is HTTP/2 |
//! | [`grpc`] | the bodies of calls | no panic; what passes validation can be applied; the store stays sound |
//! | [`peer`] | another member's connection | no panic, in the transport or in raft |
//! | [`wal`] | the files of a log | opened as they were written, or refused |
//! | [`checkpoint`] | a checkpoint file | read as it was written, or refused |
//! | [`state`] | another member's whole state | taken over as it was sent, or refused |
//! | [`batch`] | an entry of the raft log | no panic; two stores that apply it stay equal |
//! | [`v2`] | what clients send to the v2 API over HTTP/1.1 | no panic; answers are HTTP and JSON; the store stays sound |
//! | [`config`] | flags, variables, a configuration file | a configuration or a refusal |
//!
//! A [`Target`] is a function of its input alone: the same bytes come to the same [`Outcome`]. [`run`] is the loop. It
//! goes by outcomes: each run says in a line what happened (which error, how many frames), and an input with a new line
//! joins the corpus. So targets say much: every error's text, without its numbers, is a branch that was taken. In a
//! build where the compiler counts what code was reached ([`coverage`]), it goes by that instead.
//!
//! Random bytes rarely pass a checksum or a length. Targets therefore change their inputs by plan too: [`protobuf`]
//! changes single fields of a message, [`edits`] changes files and may make their checksums right again, and frames
//! are taken apart and put together.
//!
//! What this does not do: prove anything, or find what needs two members, time, or a network. The simulations and the
//! tests across processes do that.

pub mod batch;
pub mod checkpoint;
pub mod config;
#[cfg(urd_coverage)]
mod counters;
pub mod coverage;
pub mod edits;
pub mod grpc;
pub mod http2;
pub mod mutate;
mod node;
pub mod outcome;
pub mod peer;
pub mod protobuf;
pub mod run;
pub mod samples;
pub mod state;
#[cfg(test)]
mod tests;
pub mod v2;
pub mod wal;

use fastrand::Rng;

pub use outcome::Outcome;

/// What takes foreign bytes. See the module's page.
pub trait Target {
    /// As on the command line.
    fn name(&self) -> &'static str;

    /// What the bytes are, in a line.
    fn about(&self) -> &'static str;

    /// Valid inputs, made by the real encoders.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// The longest input.
    fn bytes_max(&self) -> usize {
        16 << 10
    }

    /// Changes an input; `other` is another one of the corpus.
    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        mutate::bytes(input, other, random);
    }

    /// Runs an input. A panic is a finding.
    fn run(&self, input: &[u8]) -> Outcome;
}

type Make = fn() -> Box<dyn Target>;

/// Each by its name. To make one may take a while: it makes what its inputs begin with.
const TARGETS: [(&str, Make); 9] = [
    ("http2", || Box::new(http2::Http2)),
    ("grpc", || Box::new(grpc::Grpc)),
    ("peer", || Box::new(peer::Peer::new())),
    ("wal", || Box::new(wal::Wal::new())),
    ("checkpoint", || Box::new(checkpoint::Checkpoint::new())),
    ("state", || Box::new(state::State::new())),
    ("batch", || Box::new(batch::BatchTarget)),
    ("v2", || Box::new(v2::V2::new())),
    ("config", || Box::new(config::ConfigTarget)),
];

/// All of them.
pub fn targets() -> Vec<Box<dyn Target>> {
    TARGETS.iter().map(|(_, make)| make()).collect()
}

/// The one with this name.
pub fn target(name: &str) -> Option<Box<dyn Target>> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}
