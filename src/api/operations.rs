//! What was done, above all by applied requests, counted for the metrics.

use urd_proto::etcdserverpb::{TxnResponse, response_op};

use crate::store::Response;
use crate::store::lease::LeaseChange;

/// Counts of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Puts, those in transactions included.
    pub puts: u64,
    /// Deletions of a range, those in transactions included.
    pub deletes: u64,
    /// Transactions, nested ones included.
    pub txns: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases that ended, expired ones included.
    pub leases_revoked: u64,
    /// Leases that expired.
    pub leases_expired: u64,
    /// Leases kept alive.
    pub leases_renewed: u64,
}

impl Operations {
    /// Adds what one request did.
    pub fn add(&mut self, response: &Response) {
        match response {
            Response::Put(_) => self.puts += 1,
            Response::DeleteRange(_) => self.deletes += 1,
            Response::Txn(txn) => self.add_txn(txn),
            Response::Compaction(_)
            | Response::LeaseGrant(_)
            | Response::LeaseRevoke(_)
            | Response::LeaseCheckpoints
            | Response::LeaseExpiry
            | Response::Alarm(_)
            | Response::MemberAdd(_)
            | Response::MemberRemove(_)
            | Response::MemberPromote(_)
            | Response::MemberUpdate(_)
            | Response::MemberPublish
            | Response::V2(_)
            | Response::V2Expiry(_) => {}
        }
    }

    /// Adds what an entry did to a lease.
    pub fn add_lease(&mut self, change: &LeaseChange) {
        match change {
            LeaseChange::Granted { .. } => self.leases_granted += 1,
            LeaseChange::Revoked { expired, .. } => {
                self.leases_revoked += 1;
                self.leases_expired += u64::from(*expired);
            }
        }
    }

    fn add_txn(&mut self, txn: &TxnResponse) {
        self.txns += 1;
        for response in txn.responses.iter().filter_map(|op| op.response.as_ref()) {
            match response {
                response_op::Response::ResponsePut(_) => self.puts += 1,
                response_op::Response::ResponseDeleteRange(_) => self.deletes += 1,
                response_op::Response::ResponseTxn(nested) => self.add_txn(nested),
                response_op::Response::ResponseRange(_) => {}
            }
        }
    }
}
