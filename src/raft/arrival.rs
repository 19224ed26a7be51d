//! What is asked of another member's state before it takes the place of this member's own, from which there is no way
//! back: a member could not start with one whose numbers or members it cannot read, or which is not the announced one.
//! (The pages were verified as they came; the records in them are read when they are needed.)

use raft::eraftpb::Message;
use urd_wal::disk::Disk;

use super::membership;
use crate::ids::{Index, Term};
use crate::limits::FOREIGN_NUMBER_MAX;
use crate::store::Store;
use crate::tree::Stamp;
use crate::tree::import::Incoming;

/// Looks at a state that has arrived whole with `announcement`.
///
/// # Errors
/// It cannot be read, or is another one than was announced.
pub async fn judge<D: Disk>(incoming: &Incoming<D>, announcement: &Message) -> Result<(), String> {
    let metadata = announcement.get_snapshot().get_metadata();
    let announced = Stamp { index: Index(metadata.index), term: Term(metadata.term) };
    if incoming.stamp() != announced {
        let found = incoming.stamp();
        return Err(format!("it was announced as {announced:?}, and is {found:?}"));
    }
    let found = incoming.look().await.map_err(|error| error.to_string())?;
    let store = Store::open_at(found.tree, announced).map_err(|fault| fault.to_string())?;
    let view = store.view();
    if view.revision().0.cast_unsigned().max(view.v2_index()) > FOREIGN_NUMBER_MAX {
        return Err("its revision is none that a store comes to".to_owned());
    }
    if membership::conf_state(store.members()) != *metadata.get_conf_state() {
        return Err("its members are not those that were announced".to_owned());
    }
    Ok(())
}
