//! A member tells the others its name and where clients reach it, through the log, as often as that has changed.
//!
//! Until it has, it takes no clients: whoever asks the first of them for the members shall find this one among them,
//! complete.

use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use tokio::sync::oneshot;
use urd_proto::etcdserverpb::Member;

use super::shard::Shard;
use crate::api::call::{Encoded, Reply, ReplyStream, Status};
use crate::api::node::{Node, Published};
use crate::ids::MemberId;
use crate::store::command::Kind;

/// How long to wait before looking again for a leader, or before another try.
const RETRY: Duration = Duration::from_millis(20);

/// Whether `told` is what the members' table says; then there is nothing to do.
pub fn is_published(published: &Published, told: &Member) -> bool {
    published
        .view
        .members()
        .get(MemberId(told.id))
        .is_some_and(|member| member.name == told.name && member.client_ur_ls == told.client_ur_ls)
}

/// Proposes until it is.
pub async fn run(shard: Rc<Shard>, told: Member) {
    loop {
        let published = shard.published();
        if is_published(&published, &told) {
            return;
        }
        // Who is no member (yet) has nothing to say.
        let is_member = published.view.members().get(MemberId(told.id)).is_some();
        if is_member && published.leader.is_some() {
            let (heard, outcome) = oneshot::channel();
            let message = told.encode_to_vec().into();
            shard.propose(Kind::MemberPublish, &message, Box::new(Heard(heard)));
            match outcome.await {
                Ok(Ok(())) => {
                    tracing::info!(name = told.name, clients = ?told.client_ur_ls, "published");
                    return;
                }
                Ok(Err(status)) => {
                    tracing::warn!("cannot publish name and URLs yet: {}", status.message);
                }
                // The member is stopping.
                Err(_) => return,
            }
        }
        glommio::timer::sleep(RETRY).await;
    }
}

/// The way back to [`run`].
struct Heard(oneshot::Sender<Result<(), Status>>);

impl Reply for Heard {
    fn unary(self: Box<Self>, _: Encoded) {
        self.0.send(Ok(())).ok();
    }

    fn fail(self: Box<Self>, status: Status) {
        self.0.send(Err(status)).ok();
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        unreachable!("invariant: a publication is answered once")
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn congested(&self) -> bool {
        false
    }
}
