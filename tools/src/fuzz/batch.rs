//! Target `batch`: the bytes of a raft entry, decoded and applied.
//!
//! What decodes is applied to two stores, which must stay equal and sound. It was not validated as a client's request is,
//! since a member applies what the log has without asking again.

use bytes::Bytes;
use fastrand::Rng;
use urd::store::Store;
use urd::store::command::{Batch, FORMAT_VERSION};

use super::{Outcome, Target, mutate, protobuf, samples};

/// What stands before each message: its kind and length.
const HEAD_BYTES: usize = 5;
/// The bodies of requests do not look at where revisions are swept to, so a few are enough.
const SWEPT_REVISIONS: usize = 64;

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct BatchTarget;

impl Target for BatchTarget {
    fn name(&self) -> &'static str {
        "batch"
    }

    fn about(&self) -> &'static str {
        "the bytes of an entry of the raft log, applied to two stores"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut commands = samples::commands();
        let mut seeds: Vec<Vec<u8>> = commands
            .iter()
            .map(|command| samples::batch(std::slice::from_ref(command)).to_vec())
            .collect();
        seeds.push(samples::batch(&commands).to_vec());
        commands.extend(samples::changes());
        seeds.push(samples::batch(&commands).to_vec());
        seeds.push(Vec::new());
        seeds
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        let Some(mut requests) = parse(input).filter(|_| random.u8(..5) > 0) else {
            return mutate::bytes(input, other, random);
        };
        let others = parse(other).unwrap_or_default();
        if requests.is_empty() || random.u8(..4) == 0 {
            mutate::list(&mut requests, &others, random);
        } else {
            let at = random.usize(..requests.len());
            let (kind, message) = &mut requests[at];
            if random.u8(..16) == 0 {
                *kind = random.u8(1..16);
            }
            let other = others.first().map_or(&[][..], |(_, message)| message);
            protobuf::message(message, other, random);
        }
        *input = encode(&requests);
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let batch = match Batch::decode(Bytes::copy_from_slice(input)) {
            Ok(batch) => batch,
            Err(error) => {
                outcome.text(&error);
                return outcome;
            }
        };
        let mut stores = [store(), store()];
        let [outcomes, others] = stores.each_mut().map(|store| apply(store, &batch));
        assert_eq!(outcomes, others, "two stores answer differently");
        let [digest, other] = stores.each_ref().map(|store| samples::digest(&store.view()));
        assert_eq!(digest, other, "two stores differ");
        let faults = stores[0].check();
        assert!(faults.is_empty(), "the store is not sound: {faults:?}");
        for (command, answer) in batch.commands().iter().zip(&outcomes) {
            let mut part = Outcome::default();
            let name = format!("{command:?}");
            part.note(name.split('(').next().unwrap_or_default());
            if let Err(rejected) = answer {
                part.text(rejected);
            }
            outcome.part(&part);
        }
        outcome
    }
}

fn store() -> Store {
    let mut store = samples::first_store();
    samples::apply(&mut store, &samples::commands()[..6]);
    store
}

fn apply(store: &mut Store, batch: &Batch) -> Vec<urd::store::Outcome> {
    let outcomes = store.apply(store.applied().next(), store.term(), batch);
    store.publish();
    while !store.compact_slice(SWEPT_REVISIONS) {}
    store.publish();
    outcomes
}

/// A request: its kind and its message.
type Request = (u8, Vec<u8>);

fn parse(mut bytes: &[u8]) -> Option<Vec<Request>> {
    bytes = bytes.strip_prefix(&[FORMAT_VERSION])?;
    let mut requests = Vec::new();
    while let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let (message, rest) = rest.split_at_checked(length)?;
        requests.push((kind, message.to_vec()));
        bytes = rest;
    }
    bytes.is_empty().then_some(requests)
}

fn encode(requests: &[Request]) -> Vec<u8> {
    let mut bytes = vec![FORMAT_VERSION];
    for (kind, message) in requests {
        bytes.push(*kind);
        let length = u32::try_from(message.len()).expect("invariant: inputs are short");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}
