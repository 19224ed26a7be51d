//! Tests of v2's keyspace: against a dumb model, by scripts, and of what must not be.

mod auth;
mod damage;
mod history;
mod model;
mod oracle;
mod paths;
mod scripts;

use super::{Action, Event, Expiry, Interest, Outcome, Path, Request, Sought};
use crate::error::Rejected;
use crate::ids::{Index, Term};
use crate::store::command::{Batch, BatchBuilder, Command};
use crate::store::{Response, Store, View};

/// What time it is when a test begins, in nanoseconds of Unix time.
const START: i64 = 1_700_000_000 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// A store that is fed one request after another, each an entry, by way of its bytes.
struct Feed {
    store: Store,
    now: i64,
    history: u64,
}

impl Feed {
    fn new() -> Self {
        Self { store: Store::new(), now: START, history: 1000 }
    }

    fn command(&mut self, command: &Command) -> Result<Response, Rejected> {
        let mut batch = BatchBuilder::default();
        batch.append_command(command);
        let batch = Batch::decode(batch.finish()).expect("own bytes");
        let mut outcomes = self.store.apply(self.store.applied().next(), Term(1), &batch);
        outcomes.pop().expect("one outcome")
    }

    fn apply(&mut self, request: Request) -> Outcome {
        let request = Request { now: self.now, history: self.history, ..request };
        match self.command(&Command::V2(request)).expect("no alarm is raised") {
            Response::V2(outcome) => *outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Has nodes expire; says how many events that made.
    fn expire(&mut self, nodes_max: u64) -> u64 {
        let expiry = Expiry { cutoff: self.now, nodes_max, history: self.history };
        match self.command(&Command::V2Expiry(expiry)) {
            Ok(Response::V2Expiry(events)) => events,
            other => panic!("{other:?}"),
        }
    }

    fn view(&mut self) -> View {
        self.store.publish()
    }

    /// What every test ends with.
    fn finish(mut self) {
        self.store.publish();
        assert_eq!(self.store.check(), []);
        assert!(self.store.applied() > Index(0));
    }
}

fn request(action: Action, path: &str) -> Request {
    Request { action: action.into(), path: path.to_owned(), ..Request::default() }
}

fn set(path: &str, value: &str) -> Request {
    Request { value: value.to_owned().into(), ..request(Action::Set, path) }
}

fn delete(path: &str) -> Request {
    Request { dir: true, recursive: true, ..request(Action::Delete, path) }
}

fn all_below(path: &str) -> Interest {
    Interest { path: Path::new(path), recursive: true, hidden: false }
}

/// The first event that is meant, looked for a few events at a time.
fn first_event(
    view: &View,
    interest: &Interest,
    since: u64,
) -> Result<Option<Event>, super::Error> {
    let mut next = since;
    loop {
        match view.v2_event_since(interest, next, 2)? {
            Sought::Found(event) => return Ok(Some(*event)),
            Sought::NotYet => return Ok(None),
            Sought::More(from) => {
                assert!(from > next, "a search goes on");
                next = from;
            }
        }
    }
}
