//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use std::time::Duration;

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::{LEASE_GRANT, LEASE_LEASES, LEASE_REVOKE, LEASE_TIME_TO_LIVE};
use super::print::{Format, put_text};
use super::session::renew;
use crate::failure::Failure;
use crate::go;

#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Grant a lease
    #[command(override_usage = "urdctl lease grant <ttl>")]
    Grant {
        /// Seconds
        #[arg(value_name = "TTL")]
        words: Vec<String>,
    },
    /// Revoke a lease, and delete its keys
    #[command(override_usage = "urdctl lease revoke <leaseID>")]
    Revoke {
        /// In hexadecimal
        #[arg(value_name = "LEASE")]
        words: Vec<String>,
    },
    /// Show what is left of a lease
    #[command(override_usage = "urdctl lease timetolive <leaseID> [options]")]
    Timetolive {
        /// In hexadecimal
        #[arg(value_name = "LEASE")]
        words: Vec<String>,
        /// Its keys, too
        #[arg(long)]
        keys: bool,
    },
    /// List all leases
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Keep a lease alive until it ends otherwise
    #[command(override_usage = "urdctl lease keep-alive [options] <leaseID>")]
    KeepAlive {
        /// In hexadecimal
        #[arg(value_name = "LEASE")]
        words: Vec<String>,
        /// Renew it once, and be done
        #[arg(long)]
        once: bool,
    },
}

pub(crate) async fn run(global: &Global, command: LeaseCommand) -> Result<(), Failure> {
    match command {
        LeaseCommand::Grant { words } => grant(global, &words).await,
        LeaseCommand::Revoke { words } => revoke(global, &words).await,
        LeaseCommand::Timetolive { words, keys } => time_to_live(global, &words, keys).await,
        LeaseCommand::List { .. } => {
            let printer = global.printer()?;
            let client = Client::new(global)?;
            let answer = client.call(&LEASE_LEASES, &pb::LeaseLeasesRequest {}).await;
            printer.leases(&answer.map_err(|failure| failure.code(2))?)
        }
        LeaseCommand::KeepAlive { words, once } => keep_alive(global, &words, once).await,
    }
}

fn lease_of(words: &[String], number: &str) -> Result<i64, Failure> {
    let [lease] = words else { return Err(Failure::bad_arguments(number)) };
    go::parse_i64(lease, 16).map_err(|error| {
        Failure::bad_arguments(format!("bad lease ID arg ({error}), expecting ID in Hex"))
    })
}

async fn grant(global: &Global, words: &[String]) -> Result<(), Failure> {
    let [ttl] = words else {
        return Err(Failure::bad_arguments("lease grant command needs TTL argument"));
    };
    let ttl = go::parse_i64(ttl, 10)
        .map_err(|error| Failure::bad_arguments(format!("bad TTL ({error})")))?;
    let printer = global.printer()?;
    let client = Client::new(global)?;
    let granted = client.call(&LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id: 0 }).await;
    printer.lease_grant(&granted.map_err(|failure| failure.context("failed to grant lease"))?)
}

async fn revoke(global: &Global, words: &[String]) -> Result<(), Failure> {
    let id = lease_of(words, "lease revoke command needs 1 argument")?;
    let printer = global.printer()?;
    let revoked = Client::new(global)?.call(&LEASE_REVOKE, &pb::LeaseRevokeRequest { id }).await;
    printer.lease_revoke(id, &revoked.map_err(|failure| failure.context("failed to revoke lease"))?)
}

async fn time_to_live(global: &Global, words: &[String], keys: bool) -> Result<(), Failure> {
    let id = lease_of(words, "lease timetolive command needs lease ID as argument")?;
    let printer = global.printer()?;
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let answer = Client::new(global)?.call(&LEASE_TIME_TO_LIVE, &request).await;
    printer.time_to_live(&answer.map_err(|failure| failure.code(2))?, keys)
}

async fn keep_alive(global: &Global, words: &[String], once: bool) -> Result<(), Failure> {
    let id = lease_of(words, "lease keep-alive command needs lease ID as argument")?;
    let printer = global.printer()?;
    let client = Client::new(global)?;
    loop {
        let renewed = renew(&client, id).await.map_err(|failure| failure.code(2))?;
        if renewed.ttl <= 0 {
            break;
        }
        printer.keep_alive(&renewed)?;
        if once {
            return Ok(());
        }
        let seconds = u64::try_from(renewed.ttl).unwrap_or(1);
        tokio::time::sleep((Duration::from_secs(seconds) / 3).max(Duration::from_millis(500)))
            .await;
    }
    if once {
        return Err(Failure::connection("etcdserver: requested lease not found"));
    }
    match printer.format {
        Format::Simple => put_text(&format!("lease {id:016x} expired or revoked.\n")),
        _ => Ok(()),
    }
}
