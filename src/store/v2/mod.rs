//! etcd's v2 keyspace: a tree of directories and files with one index that counts its changes.
//!
//! It shares the log, the entries and the copy-on-write tree with v3's keys, and nothing else: neither sees the other's
//! data, revisions, or alarms' hashes.
//!
//! - [`Request`], [`Expiry`]: what the log carries. [`Event`], [`Error`]: what becomes of it.
//! - `path`: names of nodes. `record`: how a node lies in the tree. `meta`: the index, and other numbers.
//! - `apply`: carries requests out. `get`: reads. `history`: what changed, for those who wait.
//! - `check`: is it all sound?
//!
//! Behaviour is that of etcd 3.4 with `--enable-v2`, error codes and causes included. Three things differ on purpose.
//! Events stand in the tree, so a restart or a member that catches up loses none of them. A deletion of a directory
//! notifies all watchers below it, also those of nodes that were not there. And paths have a bound.
//!
//! What it does not do: it knows no clock. A request has the time of the member that proposed it, and what has expired
//! goes when the leader says so.

mod apply;
mod check;
mod error;
mod event;
mod get;
mod history;
mod keys;
mod meta;
mod path;
mod record;
mod request;
mod touch;

#[cfg(test)]
mod tests;

pub use apply::{AUTH_ENABLED, AUTH_IS_ENABLED};
pub use error::{Error, ErrorCode};
pub use event::{Action as EventAction, Event, Node};
pub use get::Listing;
pub use history::{Interest, Seen, Sought};
pub use meta::{Counts, Ends, Numbers};
pub use path::Path;
pub use request::{Action, Expiry, Request};

pub(super) use apply::{apply, expire};
pub(super) use check::{check, is_sound};
pub(super) use keys::is_sound as is_key_sound;
pub(super) use touch::{touch, touch_expiry};

/// What became of a request: part of the applied result, equal on every member.
pub type Outcome = Result<Event, Error>;
