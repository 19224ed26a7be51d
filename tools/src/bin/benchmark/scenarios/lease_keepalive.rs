//! `lease-keepalive`: grants leases, then keeps them alive.
//!
//! Each client has a stream and a part of the leases, which take turns. Granting them is set-up,
//! and reported as a kind of its own. So is one keepalive for each client, which is not reported.

use super::site::{Client, Failure, Method, Site, failure, within};
use super::{Running, Scenario};
use crate::args::{Amount, Common};
use crate::arrivals::Request;
use bytes::Bytes;
use clap::Args;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use urd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use urd_tools::grpc::channel::{Channel, Stream};
use urd_tools::grpc::unary::framed;

const KIND: &str = "keepalive";

#[derive(Clone, Debug, Args)]
pub(crate) struct LeaseKeepaliveArgs {
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Number of leases, spread over the clients; 0 is one for each client
    #[arg(long, default_value_t = 0)]
    leases: u64,
    /// Seconds that a lease lives unless kept alive
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    ttl: i64,
}

pub(crate) struct LeaseKeepalive {
    /// Of each client: so many leases, and one more for the first `more` clients.
    leases: u64,
    more: u64,
    ttl: i64,
    /// How long opening a stream may take.
    timeout: Duration,
}

/// A client's leases and their stream.
struct Keeper {
    leases: Vec<i64>,
    /// Keepalives sent.
    sent: Cell<usize>,
    channel: Rc<Channel>,
    stream: RefCell<Rc<Stream>>,
}

impl LeaseKeepalive {
    pub(crate) fn new(args: &LeaseKeepaliveArgs, common: &Common) -> Result<Self, String> {
        let clients = u64::from(common.clients);
        let leases = if args.leases == 0 { clients } else { args.leases };
        if leases < clients {
            return Err(format!("--leases={leases} are too few for --clients={clients}"));
        }
        Ok(LeaseKeepalive {
            leases: leases / clients,
            more: leases % clients,
            ttl: args.ttl,
            timeout: common.dial_timeout(),
        })
    }

    async fn grant(&self, site: &Site, client: &Client) -> Result<Keeper, String> {
        let mut leases = Vec::new();
        for _ in 0..self.leases + u64::from(client.number < self.more) {
            let begin = Instant::now();
            leases.push(grant(site, client, self.ttl).await?);
            site.ended("lease-grant", begin, Instant::now());
        }
        let channel = client.channel.clone();
        let stream = RefCell::new(Rc::new(open(&channel)));
        let keeper = Keeper { leases, sent: Cell::new(0), channel, stream };
        // A server may allow fewer streams on a connection than there are clients.
        within(self.timeout, "a stream for each client", keeper.ask(keeper.leases[0])).await?;
        Ok(keeper)
    }
}

/// Grants a lease, and returns its number.
pub(super) async fn grant(site: &Site, client: &Client, ttl: i64) -> Result<i64, String> {
    let request = LeaseGrantRequest { ttl, id: 0 };
    let granted = site.call(&client.channel, Method::LeaseGrant, &request).await;
    let (response, _): (LeaseGrantResponse, _) =
        granted.map_err(|error| format!("granting a lease: {error}"))?;
    match response.error.is_empty() {
        true => Ok(response.id),
        false => Err(format!("granting a lease: {}", response.error)),
    }
}

fn open(channel: &Channel) -> Stream {
    channel.open(Method::LeaseKeepAlive.path())
}

impl Keeper {
    /// Keeps the next lease alive. When that was answered.
    async fn keep_alive(&self) -> Result<Instant, String> {
        let lease = self.leases[self.sent.get() % self.leases.len()];
        self.sent.update(|sent| sent + 1);
        let kept = self.ask(lease).await;
        if kept.is_err() {
            // Whatever went wrong, an old answer must not be taken for the next one.
            self.stream.replace(Rc::new(open(&self.channel)));
        }
        kept
    }

    async fn ask(&self, lease: i64) -> Result<Instant, String> {
        let stream = self.stream.borrow().clone();
        stream.send(&framed(&LeaseKeepAliveRequest { id: lease }));
        let message = stream.next().await.map_err(|error| error.to_string())?;
        let message = message.ok_or("the server ended the stream")?;
        let answer = LeaseKeepAliveResponse::decode(Bytes::from(message.bytes));
        let answer = answer.map_err(|error| format!("malformed response: {error}"))?;
        if answer.id != lease {
            return Err("another lease was kept alive than was asked for".into());
        }
        if answer.ttl <= 0 {
            return Err("the lease had expired".into());
        }
        Ok(message.at)
    }
}

async fn keep_alive(site: &Site, keeper: &Keeper, request: Request) -> Result<(), Failure> {
    let at = keeper.keep_alive().await.map_err(failure(KIND))?;
    site.answered(KIND, &request, at);
    Ok(())
}

impl Scenario for LeaseKeepalive {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            let grant = |client: &Client| {
                let (this, site, client) = (self.clone(), site.clone(), client.clone());
                glommio::spawn_local(async move { this.grant(&site, &client).await })
            };
            let granting: Vec<_> = site.clients().iter().map(grant).collect();
            let mut keepers = Vec::new();
            for granted in granting {
                keepers.push(granted.await?);
            }
            site.begin()?;
            let there = site.clone();
            site.drive(async move |client: &Client, request| {
                keep_alive(&there, &keepers[client.nth], request).await
            })
            .await;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;
    use crate::args::WorkloadArgs;

    fn leases(line: &str) -> Result<(u64, u64), String> {
        let cli = parsed(line);
        let WorkloadArgs::LeaseKeepalive(args) = &cli.workload else { panic!("{line}") };
        LeaseKeepalive::new(args, &cli.common).map(|keepalive| (keepalive.leases, keepalive.more))
    }

    #[test]
    fn leases_are_spread_over_the_clients() {
        assert_eq!(leases("lease-keepalive"), Ok((1, 0)));
        assert_eq!(leases("--clients=7 lease-keepalive"), Ok((1, 0)));
        assert_eq!(leases("--clients=7 lease-keepalive --leases=30"), Ok((4, 2)));
        let error = leases("--clients=7 lease-keepalive --leases=6").unwrap_err();
        assert!(error.contains("--leases=6"), "{error}");
    }
}
