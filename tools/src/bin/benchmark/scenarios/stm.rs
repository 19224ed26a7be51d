//! `stm`: software transactional memory as etcd's client library does it, without locks.
//!
//! A transaction reads its keys one after the other, then writes some of them under the condition
//! that what it read is unchanged. If it is not, all is done again, reading anew.
//!
//! | isolation | reads | condition |
//! |---|---|---|
//! | `c`, read committed | each as it is | none |
//! | `r`, repeatable reads | each as it is | the keys read are unchanged |
//! | `s`, serializable | all at the first one's revision | the same |
//! | `ss`, serializable snapshot | the same | and the keys written are unchanged since that revision |
//!
//! At `s` and `ss` the transaction that fails reads the keys for the next attempt.
//!
//! Not here: etcd's lockers (`--stm-locker=lock-client`, `lock-rpc`).

use super::messages::{changed_before, get, pair_read, put, put_op, range_op, unchanged_since};
use super::site::{Client, Failure, Method, Site, failure};
use super::{Running, Scenario};
use crate::args::Amount;
use crate::arrivals::Request;
use crate::workload::{below, key, mixed, value};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use urd_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

/// Bytes of a key, as in etcd's own tool.
const KEY_SIZE: u32 = 16;
/// A failed attempt means that another client's succeeded; so many in a row mean a broken server.
const ATTEMPTS_MAX: usize = 10_000;
const KIND: &str = "stm";

#[derive(Clone, Debug, Args)]
pub(crate) struct StmArgs {
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Isolation of transactions
    #[arg(long, default_value = "r")]
    isolation: Isolation,
    /// Number of different keys
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    keys: u64,
    /// Keys that a transaction reads
    #[arg(long, default_value_t = 1)]
    keys_per_txn: u64,
    /// Percentage of its keys that a transaction writes
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=100))]
    txn_wr_percent: u64,
    /// What keeps transactions apart
    #[arg(long, default_value = "stm")]
    stm_locker: Locker,
    /// Bytes of a value
    #[arg(long, default_value_t = 8)]
    val_size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Isolation {
    /// Read committed
    #[value(name = "c")]
    ReadCommitted,
    /// Repeatable reads
    #[value(name = "r")]
    RepeatableReads,
    /// Serializable
    #[value(name = "s")]
    Serializable,
    /// Serializable snapshot
    #[value(name = "ss")]
    SerializableSnapshot,
}

impl Isolation {
    /// All reads are of one revision.
    fn pins_revision(self) -> bool {
        matches!(self, Isolation::Serializable | Isolation::SerializableSnapshot)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Locker {
    /// Nothing but the transactions' conditions
    Stm,
    /// Not supported yet
    #[value(hide = true)]
    LockClient,
    /// Not supported yet
    #[value(hide = true)]
    LockRpc,
}

pub(crate) struct Stm {
    args: StmArgs,
    seed: u64,
    value: Bytes,
}

/// What an attempt read.
#[derive(Debug, Default)]
struct ReadSet {
    /// Each key's last change.
    mod_revisions: Vec<i64>,
    /// The first read's revision.
    revision: i64,
}

impl Stm {
    pub(crate) fn new(args: &StmArgs, seed: u64) -> Result<Stm, String> {
        if args.keys_per_txn > args.keys {
            return Err(format!(
                "--keys-per-txn={} must not be more than --keys={}",
                args.keys_per_txn, args.keys
            ));
        }
        if args.stm_locker != Locker::Stm {
            return Err("--stm-locker: locks are not supported yet; only stm is".into());
        }
        Ok(Stm { args: args.clone(), seed, value: value(seed, args.val_size) })
    }

    /// The keys of request `number`: different ones, in the order in which they are read.
    fn keys(&self, number: u64) -> Vec<Bytes> {
        let wanted = self.args.keys_per_txn;
        let seed = mixed(self.seed, number);
        let mut chosen = BTreeSet::new();
        let choose = |nth| {
            // Of so many neighbours one is free; drawing again could take long.
            let drawn = below(mixed(seed, nth), self.args.keys);
            let near = (0..wanted).map(|step| (drawn + step) % self.args.keys);
            let mut free = near.filter(|&number| chosen.insert(number));
            free.next().map(|number| key(number, KEY_SIZE))
        };
        (0..wanted).filter_map(choose).collect()
    }

    /// The transaction that writes if what was read holds.
    fn commit(&self, keys: &[Bytes], read: &ReadSet) -> TxnRequest {
        let isolation = self.args.isolation;
        let written = &keys[..keys.len() * self.args.txn_wr_percent as usize / 100];
        let mut transaction = TxnRequest::default();
        if isolation != Isolation::ReadCommitted {
            let read = keys.iter().zip(&read.mod_revisions);
            transaction
                .compare
                .extend(read.map(|(key, &revision)| unchanged_since(key.clone(), revision)));
        }
        if isolation == Isolation::SerializableSnapshot {
            let unwritten = |key: &Bytes| changed_before(key.clone(), read.revision + 1);
            transaction.compare.extend(written.iter().map(unwritten));
        }
        let write = |key: &Bytes| put_op(put(key.clone(), self.value.clone()));
        transaction.success.extend(written.iter().map(write));
        if isolation.pins_revision() {
            transaction.failure.extend(keys.iter().map(|key| range_op(get(key.clone()))));
        }
        transaction
    }

    async fn read(&self, site: &Site, client: &Client, keys: &[Bytes]) -> Result<ReadSet, String> {
        let mut read = ReadSet::default();
        for (nth, key) in keys.iter().enumerate() {
            let pinned = nth > 0 && self.args.isolation.pins_revision();
            let revision = if pinned { read.revision } else { 0 };
            let request = RangeRequest { revision, serializable: pinned, ..get(key.clone()) };
            let (response, _): (RangeResponse, _) =
                site.call(&client.channel, Method::Range, &request).await?;
            if nth == 0 {
                read.revision = response.header.map_or(0, |header| header.revision);
            }
            read.mod_revisions.push(response.kvs.first().map_or(0, |pair| pair.mod_revision));
        }
        Ok(read)
    }

    /// Attempts request `number` until it succeeds. How often it was retried, and when it succeeded.
    async fn attempt(
        &self,
        site: &Site,
        client: &Client,
        number: u64,
    ) -> Result<(usize, Instant), String> {
        let keys = self.keys(number);
        let mut read = None;
        for retries in 0..ATTEMPTS_MAX {
            let known = match read.take() {
                Some(read) => read,
                None => self.read(site, client, &keys).await?,
            };
            let transaction = self.commit(&keys, &known);
            let (response, at): (TxnResponse, _) =
                site.call(&client.channel, Method::Txn, &transaction).await?;
            if response.succeeded {
                return Ok((retries, at));
            }
            if self.args.isolation.pins_revision() {
                read = Some(read_by(&response)?);
            }
        }
        Err(format!("no success in {ATTEMPTS_MAX} attempts"))
    }

    async fn transact(
        &self,
        site: &Site,
        client: &Client,
        request: Request,
    ) -> Result<(), Failure> {
        let attempted = self.attempt(site, client, request.number).await;
        let (retries, at) = attempted.map_err(failure(KIND))?;
        site.answered(KIND, &request, at);
        site.count("retries", retries as u64);
        Ok(())
    }
}

/// What the failure branch read.
fn read_by(response: &TxnResponse) -> Result<ReadSet, String> {
    let revisions = response
        .responses
        .iter()
        .map(|response| pair_read(response).map(|pair| pair.map_or(0, |pair| pair.mod_revision)));
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    Ok(ReadSet { mod_revisions: revisions.collect::<Result<_, _>>()?, revision })
}

impl Scenario for Stm {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            site.begin()?;
            let there = site.clone();
            site.drive(async move |client: &Client, request| {
                self.transact(&there, client, request).await
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

    fn stm(line: &str) -> Result<Stm, String> {
        let WorkloadArgs::Stm(args) = parsed(line).workload else { panic!("{line}") };
        Stm::new(&args, 1)
    }

    #[test]
    fn keys_of_a_transaction_differ() {
        for (keys, per_txn) in [(1, 1), (5, 5), (1000, 999), (10, 0)] {
            let stm = stm(&format!("stm --keys={keys} --keys-per-txn={per_txn}")).unwrap();
            for number in 0..20 {
                let chosen: BTreeSet<Bytes> = stm.keys(number).into_iter().collect();
                assert_eq!(chosen.len(), per_txn);
            }
        }
    }

    #[test]
    fn conditions_are_those_of_the_isolation() {
        // Conditions, writes, and reads when they do not hold.
        for (isolation, expected) in
            [("c", (0, 2, 0)), ("r", (4, 2, 0)), ("s", (4, 2, 4)), ("ss", (6, 2, 4))]
        {
            let stm =
                stm(&format!("stm --isolation={isolation} --keys=9 --keys-per-txn=4")).unwrap();
            let read = ReadSet { mod_revisions: vec![3, 0, 2, 1], revision: 3 };
            let txn = stm.commit(&stm.keys(0), &read);
            let counts = (txn.compare.len(), txn.success.len(), txn.failure.len());
            assert_eq!(counts, expected, "{isolation}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(stm("stm --keys-per-txn=2").err().unwrap().contains("--keys=1"));
        assert!(stm("stm --stm-locker=lock-rpc").err().unwrap().contains("--stm-locker"));
    }
}
