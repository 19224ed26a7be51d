//! `txn-put`: transactions of several puts, without conditions.
//!
//! Newer versions of etcd's own tool compare and retry here; that is [`stm`](super::stm).

use super::messages::{put, put_op};
use super::site::{Client, Failure, Method, Site, failure};
use super::{Running, Scenario};
use crate::args::Amount;
use crate::arrivals::Request;
use crate::workload::{check_key_size, key, value};
use bytes::Bytes;
use clap::Args;
use std::rc::Rc;
use std::sync::Arc;
use urd_proto::etcdserverpb::{TxnRequest, TxnResponse};

#[derive(Clone, Debug, Args)]
pub(crate) struct TxnPutArgs {
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Puts in a transaction
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    txn_ops: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    key_size: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 8)]
    val_size: u32,
    /// Number of different keys
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    key_space_size: u64,
}

pub(crate) struct TxnPut {
    args: TxnPutArgs,
    value: Bytes,
}

impl TxnPut {
    pub(crate) fn new(args: &TxnPutArgs, seed: u64) -> Result<TxnPut, String> {
        check_key_size(args.key_size, args.key_space_size)?;
        if args.txn_ops > args.key_space_size {
            return Err(format!(
                "--txn-ops={} needs as many different keys: --key-space-size={} is too small",
                args.txn_ops, args.key_space_size
            ));
        }
        Ok(TxnPut { args: args.clone(), value: value(seed, args.val_size) })
    }

    fn transaction(&self, number: u64) -> TxnRequest {
        let TxnPutArgs { txn_ops, key_size, key_space_size, .. } = self.args;
        let nth_key =
            |nth| key(number.wrapping_mul(txn_ops).wrapping_add(nth) % key_space_size, key_size);
        let success = (0..txn_ops).map(|nth| put_op(put(nth_key(nth), self.value.clone())));
        TxnRequest { success: success.collect(), ..TxnRequest::default() }
    }

    async fn transact(
        &self,
        site: &Site,
        client: &Client,
        request: Request,
    ) -> Result<(), Failure> {
        const KIND: &str = "txn";
        let transaction = self.transaction(request.number);
        let answered = site.call(&client.channel, Method::Txn, &transaction).await;
        let (response, at): (TxnResponse, _) = answered.map_err(failure(KIND))?;
        site.answered(KIND, &request, at);
        site.count("puts", response.responses.len() as u64);
        Ok(())
    }
}

impl Scenario for TxnPut {
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
    use std::collections::BTreeSet;
    use urd_proto::etcdserverpb::request_op;

    fn txn_put(line: &str) -> Result<TxnPut, String> {
        let WorkloadArgs::TxnPut(args) = parsed(line).workload else { panic!("{line}") };
        TxnPut::new(&args, 1)
    }

    #[test]
    fn keys_of_a_transaction_differ_and_go_round() {
        let txn = txn_put("txn-put --txn-ops=3 --key-space-size=7 --val-size=5").unwrap();
        let mut keys = BTreeSet::new();
        for number in [0, 1, 2, u64::MAX / 4] {
            let of_one: BTreeSet<Bytes> = txn
                .transaction(number)
                .success
                .into_iter()
                .map(|op| match op.request {
                    Some(request_op::Request::RequestPut(put)) => {
                        assert_eq!(put.value.len(), 5);
                        put.key
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(of_one.len(), 3);
            keys.extend(of_one);
        }
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(txn_put("txn-put --txn-ops=2").err().unwrap().contains("--key-space-size=1"));
        let line = "txn-put --key-size=1 --key-space-size=65";
        assert!(txn_put(line).err().unwrap().contains("--key-size=1"));
    }
}
