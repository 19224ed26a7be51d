//! `txn-mixed`: transactions of one range or one put each, in a ratio.

use super::messages::{put, put_op, range_op};
use super::site::{Client, Failure, Method, Site, failure};
use super::{Running, Scenario};
use crate::args::{Amount, Consistency};
use crate::arrivals::Request;
use crate::workload::{below, check_key_size, key, mixed, value};
use bytes::Bytes;
use clap::Args;
use std::rc::Rc;
use std::sync::Arc;
use urd_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest, TxnResponse};

/// All keys: from the lowest possible on.
const FROM_HERE_ON: &str = "\0";

#[derive(Clone, Debug, Args)]
pub(crate) struct TxnMixedArgs {
    /// First key of the ranges; all keys if not given
    #[arg(id = "mixed-key", value_name = "KEY", default_value = FROM_HERE_ON, hide_default_value = true)]
    begin: String,
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// End of the ranges, exclusive, as --end-key
    #[arg(id = "mixed-end", value_name = "END", conflicts_with = "end_key")]
    end: Option<String>,
    /// End of the ranges, exclusive; none if not given
    #[arg(long)]
    end_key: Option<String>,
    /// Most keys in the answer to a range; 0 is no limit
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(0..))]
    limit: i64,
    /// Linearizable (l) or serializable (s) ranges
    #[arg(long, alias = "range-consistency", default_value = "l")]
    consistency: Consistency,
    /// Ranges for each put
    #[arg(long, default_value_t = 1.0)]
    rw_ratio: f64,
    /// Bytes of a put's key
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    key_size: u32,
    /// Bytes of a put's value
    #[arg(long, default_value_t = 8)]
    val_size: u32,
    /// Number of different keys that are put
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    key_space_size: u64,
}

pub(crate) struct TxnMixed {
    args: TxnMixedArgs,
    seed: u64,
    value: Bytes,
}

impl TxnMixed {
    pub(crate) fn new(args: &TxnMixedArgs, seed: u64) -> Result<TxnMixed, String> {
        check_key_size(args.key_size, args.key_space_size)?;
        if !args.rw_ratio.is_finite() || args.rw_ratio < 0.0 {
            return Err(format!("--rw-ratio={} is not a number from 0 on", args.rw_ratio));
        }
        Ok(TxnMixed { args: args.clone(), seed, value: value(seed, args.val_size) })
    }

    /// The kind of request `number`, and its one operation. A pure function of it.
    fn operation(&self, number: u64) -> (&'static str, RequestOp) {
        const PARTS: u64 = 1 << 32;
        let args = &self.args;
        let reads = args.rw_ratio / (1.0 + args.rw_ratio) * PARTS as f64;
        if (below(mixed(self.seed, number), PARTS) as f64) < reads {
            let end = args.end.as_ref().or(args.end_key.as_ref());
            let range = RangeRequest {
                key: args.begin.clone().into(),
                range_end: end.map_or(FROM_HERE_ON.into(), |end| end.clone().into()),
                limit: args.limit,
                serializable: args.consistency == Consistency::Serializable,
                ..RangeRequest::default()
            };
            ("txn-range", range_op(range))
        } else {
            let key = key(number % args.key_space_size, args.key_size);
            ("txn-put", put_op(put(key, self.value.clone())))
        }
    }

    async fn transact(
        &self,
        site: &Site,
        client: &Client,
        request: Request,
    ) -> Result<(), Failure> {
        let (kind, operation) = self.operation(request.number);
        let transaction = TxnRequest { success: vec![operation], ..TxnRequest::default() };
        let answered = site.call(&client.channel, Method::Txn, &transaction).await;
        let (_, at): (TxnResponse, _) = answered.map_err(failure(kind))?;
        site.answered(kind, &request, at);
        Ok(())
    }
}

impl Scenario for TxnMixed {
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
    use urd_proto::etcdserverpb::request_op;

    fn txn_mixed(line: &str) -> Result<TxnMixed, String> {
        let WorkloadArgs::TxnMixed(args) = parsed(line).workload else { panic!("{line}") };
        TxnMixed::new(&args, 1)
    }

    #[test]
    fn ratio_is_ranges_for_each_put() {
        for (ratio, ranges) in [("0", 0..=0), ("3", 7300..=7700), ("1", 4800..=5200)] {
            let txn = txn_mixed(&format!("txn-mixed --rw-ratio={ratio}")).unwrap();
            let is_range = |&number: &u64| txn.operation(number).0 == "txn-range";
            let count = (0..10_000).filter(is_range).count();
            assert!(ranges.contains(&count), "{ratio}: {count}");
        }
    }

    #[test]
    fn ranges_are_as_the_flags_say() {
        let range = |line: &str| match txn_mixed(line).unwrap().operation(0).1.request {
            Some(request_op::Request::RequestRange(range)) => range,
            other => panic!("{other:?}"),
        };
        let all = range("txn-mixed --rw-ratio=1000000000");
        assert_eq!((&*all.key, &*all.range_end, all.limit), (&[0][..], &[0][..], 1000));
        let part = "txn-mixed a --rw-ratio=1000000000 --end-key=b --range-consistency=s --limit=3";
        let part = range(part);
        assert_eq!((&*part.key, &*part.range_end, part.limit), (&b"a"[..], &b"b"[..], 3));
        assert!(part.serializable && !all.serializable);
        assert_eq!(&*range("txn-mixed a c --rw-ratio=1000000000").range_end, b"c");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for ratio in ["-1", "NaN", "inf"] {
            let error = txn_mixed(&format!("txn-mixed --rw-ratio={ratio}")).err().unwrap();
            assert!(error.contains("--rw-ratio"), "{error}");
        }
    }
}
