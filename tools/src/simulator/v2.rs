//! Requests about v2's keys, by the members themselves, and whether all that was acknowledged is there in the end.
//!
//! What members hold of v2 is compared as v3's keys are ([`truth`](super::truth)). Each member has a clock of its own, which
//! begins anew with its process: the leader's decides what expires, and that it may be wrong must not make members differ.

use std::time::Instant;

use fastrand::Rng;
use urd::store::View;
use urd::store::command::Command;
use urd::store::v2::{Action, Event, Request};

/// All events are kept, so that each acknowledged one can be looked for; unless space is scarce.
pub(super) const HISTORY: u64 = 1 << 20;

/// Fewer than so many requests come with a tick.
const REQUESTS_MAX: usize = 4;
/// What time it is when a process begins, in nanoseconds of Unix time.
const BEGIN: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

const PATHS: &[&str] = &["/a", "/a/b", "/a/_c", "/d", "/d/e/f", "/q"];

const ACTIONS: &[Action] = &[
    Action::Set,
    Action::Set,
    Action::Create,
    Action::CreateInOrder,
    Action::Update,
    Action::CompareAndSwap,
    Action::Delete,
    Action::CompareAndDelete,
];

/// See the module's page. It draws from a sequence of its own.
#[derive(Debug)]
pub(super) struct Traffic {
    rng: Rng,
    begin: Instant,
    history: u64,
}

impl Traffic {
    pub(super) fn new(member: u64, now: Instant, history: u64) -> Self {
        Self { rng: Rng::with_seed(member), begin: now, history }
    }

    /// A member's time, in nanoseconds of Unix time.
    pub(super) fn unix(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.begin).as_nanos();
        BEGIN.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// The requests that come now.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Command> {
        let unix = self.unix(now);
        (0..self.rng.usize(..REQUESTS_MAX)).map(|_| Command::V2(self.request(unix))).collect()
    }

    fn request(&mut self, unix: i64) -> Request {
        let rng = &mut self.rng;
        let action = ACTIONS[rng.usize(..ACTIONS.len())];
        let expires = rng.u8(..3) == 0;
        let compares = matches!(action, Action::CompareAndSwap | Action::CompareAndDelete);
        Request {
            action: action.into(),
            path: PATHS[rng.usize(..PATHS.len())].to_owned(),
            value: rng.u8(..3).to_string().into(),
            dir: action != Action::Update && rng.u8(..5) == 0,
            recursive: rng.bool(),
            refresh: rng.u8(..8) == 0,
            prev_value: if compares { rng.u8(..3).to_string().into() } else { "".into() },
            prev_index: 0,
            expiration: expires.then(|| unix + rng.i64(0..2 * SECOND)),
            now: unix,
            history: self.history,
            auth: false,
        }
    }

    /// What takes away all that there may be.
    pub(super) fn delete_all(&mut self, now: Instant) -> Vec<Command> {
        let delete = |path: &&str| Request {
            action: Action::Delete.into(),
            path: (*path).to_owned(),
            dir: true,
            recursive: true,
            now: self.unix(now),
            history: self.history,
            ..Request::default()
        };
        PATHS
            .iter()
            .filter(|path| path.matches('/').count() == 1)
            .map(delete)
            .map(Command::V2)
            .collect()
    }
}

/// Whether a state has the events of all requests that were answered before, of which the last `history` are kept.
pub(super) fn check(view: &View, answered: &[Event], history: u64) -> Result<(), String> {
    let mut events = Vec::new();
    let first = (view.v2_index() + 1).saturating_sub(history).max(1);
    view.v2_for_each_event(first, usize::MAX, |seen| {
        events.push(seen.event());
        true
    })
    .map_err(|error| format!("v2's events are not kept: {error}"))?;
    for event in answered.iter().filter(|event| event.index >= first) {
        let found = events.binary_search_by_key(&event.index, |event| event.index).ok();
        let found = found.and_then(|at| events.get(at));
        if found != Some(event) {
            return Err(format!("v2 answered {event:?}, and has {found:?} there"));
        }
    }
    Ok(())
}
