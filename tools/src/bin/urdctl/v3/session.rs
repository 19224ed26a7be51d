//! A lease that is kept alive as long as somebody needs it: what `lock` and `elect` hold their keys with.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use urd_proto::etcdserverpb as pb;

use super::client::{Broken, Client};
use super::methods::{LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE};
use crate::failure::Failure;

/// A lease of ours.
#[derive(Debug)]
pub(crate) struct Session {
    client: Rc<Client>,
    pub lease: i64,
    lost: watch::Receiver<bool>,
    renewing: JoinHandle<()>,
}

impl Session {
    pub(crate) async fn start(client: Rc<Client>, ttl: i64) -> Result<Session, Failure> {
        let granted = client.call(&LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id: 0 }).await?;
        let (sender, lost) = watch::channel(false);
        let lease = granted.id;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(1).max(1));
        let renewing = tokio::task::spawn_local({
            let client = Rc::clone(&client);
            async move {
                keep(&client, lease, ttl).await;
                // Nobody may be waiting for it.
                sender.send(true).ok();
            }
        });
        Ok(Session { client, lease, lost, renewing })
    }

    /// Waits until the lease is over.
    pub(crate) async fn lost(&self) {
        let mut lost = self.lost.clone();
        while !*lost.borrow_and_update() && lost.changed().await.is_ok() {}
    }

    /// Gives the lease back, and with it all keys that it still holds.
    pub(crate) async fn end(self) {
        self.renewing.abort();
        // Whatever this answers, the lease ends by itself.
        self.client.call(&LEASE_REVOKE, &pb::LeaseRevokeRequest { id: self.lease }).await.ok();
    }
}

/// Renews a lease until it is over, or may be.
async fn keep(client: &Client, lease: i64, ttl: Duration) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(ttl / 3).await;
        let asked = Instant::now();
        match tokio::time::timeout(ttl, renew(client, lease)).await {
            Ok(Ok(answer)) if answer.ttl <= 0 => return,
            Ok(Ok(_)) => renewed = asked,
            _ if renewed.elapsed() >= ttl => return,
            _ => {}
        }
    }
}

/// Renews a lease once. A TTL of 0 says that there is none.
pub(crate) async fn renew(client: &Client, id: i64) -> Result<pb::LeaseKeepAliveResponse, Failure> {
    let mut tries = client.endpoints().len();
    loop {
        match try_to_renew(client, id).await {
            Ok(answer) => return Ok(answer),
            Err(broken) if tries > 1 && broken.is_worth_another_try() => {
                tries -= 1;
                client.disconnect();
            }
            Err(broken) => return Err(broken.into()),
        }
    }
}

async fn try_to_renew(client: &Client, id: i64) -> Result<pb::LeaseKeepAliveResponse, Broken> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    // There is room for one.
    sender.try_send(pb::LeaseKeepAliveRequest { id }).ok();
    let mut answers = client.stream(&LEASE_KEEP_ALIVE, requests, false).await?;
    let failed = |status| Broken::Status(client.endpoint(), status);
    let answer = answers.message().await.map_err(failed)?;
    // Until here the sender kept the stream open in our direction.
    drop(sender);
    answer.ok_or_else(|| failed(tonic::Status::unavailable("the stream ended without an answer")))
}
