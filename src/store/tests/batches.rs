//! The bytes of an entry: what goes in comes out, and what is wrong is named.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{Feed, compact, delete, put, txn_of};
use crate::ids::{Index, Term};
use crate::store::Store;
use crate::store::command::{
    Batch, BatchBuilder, Command, DecodeError, FORMAT_VERSION, Kind, LeaseCheckpoints, LeaseExpiry,
    MemberAdd,
};
use crate::store::v2;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest, Member, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest,
};

fn commands() -> Vec<Command> {
    vec![
        Command::Put(put("a", "1")),
        Command::DeleteRange(delete("a", "b")),
        Command::Txn(txn_of(vec![Request::RequestPut(put("c", "2"))])),
        compact(1),
        Command::LeaseGrant(LeaseGrantRequest { id: -1, ttl: 60 }),
        Command::LeaseRevoke(LeaseRevokeRequest { id: i64::MAX }),
        Command::LeaseCheckpoints(LeaseCheckpoints {
            as_of: 7,
            checkpoints: vec![LeaseCheckpoint { id: 1, remaining_ttl: 5 }],
        }),
        Command::LeaseExpiry(LeaseExpiry { as_of: u64::MAX, leases: vec![1, -2] }),
        Command::MemberAdd(MemberAdd {
            id: u64::MAX,
            peer_urls: vec!["http://a:1".to_owned()],
            is_learner: true,
            learners_max: 1,
        }),
        Command::MemberRemove(MemberRemoveRequest { id: 1 }),
        Command::MemberPromote(MemberPromoteRequest { id: 2 }),
        Command::MemberUpdate(MemberUpdateRequest { id: 3, peer_ur_ls: vec!["u".to_owned()] }),
        Command::MemberPublish(Member { id: 4, name: "n".to_owned(), ..Member::default() }),
        Command::V2(v2::Request {
            action: v2::Action::CompareAndSwap.into(),
            path: "/a/b".to_owned(),
            value: "v".into(),
            dir: true,
            recursive: true,
            refresh: true,
            prev_value: "p".into(),
            prev_index: u64::MAX,
            expiration: Some(i64::MIN),
            now: i64::MAX,
            history: 7,
            auth: false,
        }),
        Command::V2Expiry(v2::Expiry { cutoff: -1, nodes_max: u64::MAX, history: 1 }),
    ]
}

#[test]
fn what_goes_in_comes_out() {
    let commands = commands();
    let mut batch = BatchBuilder::default();
    commands.iter().for_each(|command| batch.append_command(command));
    assert_eq!(batch.len(), commands.len());
    let bytes = batch.byte_len();
    let entry = batch.finish();
    assert_eq!(entry.len(), bytes);
    assert_eq!(Batch::decode(entry).expect("own bytes").commands(), commands);
}

/// Bytes as they came from clients, gathered by several shards.
#[test]
fn batches_of_raw_bytes_are_joined() {
    let (mut first, mut second) = (BatchBuilder::default(), BatchBuilder::with_capacity(100));
    first.append(Kind::Put, &put("a", "1").encode_to_vec());
    second.append(Kind::Put, &put("b", "2").encode_to_vec());
    second.append(Kind::DeleteRange, &delete("c", "").encode_to_vec());
    first.join(&second);
    first.join(&BatchBuilder::default());
    assert_eq!(first.len(), 3);
    let expected = [
        Command::Put(put("a", "1")),
        Command::Put(put("b", "2")),
        Command::DeleteRange(delete("c", "")),
    ];
    assert_eq!(Batch::decode(first.finish()).expect("own bytes").commands(), expected);
}

#[test]
fn values_share_the_entrys_memory() {
    let mut batch = BatchBuilder::default();
    batch.append_command(&Command::Put(put("a", "value")));
    let entry = batch.finish();
    let batch = Batch::decode(entry.clone()).expect("own bytes");
    let [Command::Put(request)] = batch.commands() else { panic!("one put") };
    assert!(entry.as_ptr_range().contains(&request.value.as_ptr()));
}

#[test]
fn raft_s_empty_entries_are_empty_batches() {
    let mut store = Store::new();
    for (index, entry) in [Bytes::new(), BatchBuilder::default().finish()].into_iter().enumerate() {
        let batch = Batch::decode(entry).expect("empty");
        assert!(batch.is_empty());
        assert_eq!(store.apply(Index(index as u64 + 1), Term(1), &batch), []);
    }
    let view = store.publish();
    assert_eq!((view.applied(), view.term(), view.revision().0), (Index(2), Term(1), 1));
}

#[test]
fn what_is_wrong_is_named() {
    let decode = |bytes: &[u8]| Batch::decode(Bytes::copy_from_slice(bytes)).expect_err("wrong");
    let version = FORMAT_VERSION + 1;
    assert_eq!(decode(&[version]), DecodeError::Version { found: version });
    assert_eq!(decode(&[FORMAT_VERSION, 1, 0]), DecodeError::Truncated { at: 1, missing: 3 });
    assert_eq!(
        decode(&[FORMAT_VERSION, 1, 5, 0, 0, 0, 0]),
        DecodeError::Truncated { at: 1, missing: 4 }
    );
    assert_eq!(
        decode(&[FORMAT_VERSION, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0]),
        DecodeError::Kind { at: 6, found: 17 }
    );
    // Field 1 announces two bytes, and there is none.
    let error = decode(&[FORMAT_VERSION, 1, 2, 0, 0, 0, 0x0a, 2]);
    assert!(matches!(error, DecodeError::Message { at: 1, .. }), "{error}");
}

/// Whatever bytes come, decoding ends with a batch or an error.
#[test]
fn damaged_entries_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut batch = BatchBuilder::default();
    commands().iter().for_each(|command| batch.append_command(command));
    let entry = batch.finish();
    for _ in 0..5000 {
        let mut damaged = BytesMut::from(&entry[..]);
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..damaged.len());
            damaged[at] = rng.u8(..);
        }
        damaged.truncate(rng.usize(0..=damaged.len()));
        if rng.bool() {
            damaged.put_u8(rng.u8(..));
        }
        let _outcome = Batch::decode(damaged.freeze());
    }
}

#[test]
#[should_panic(expected = "comes after entry")]
fn an_entry_is_not_applied_twice() {
    let mut feed = Feed::new();
    let outcome = feed.apply(&Command::Put(put("a", "1")));
    assert!(outcome.is_ok());
    feed.store.apply(Index(1), Term(1), &Batch::default());
}

#[test]
#[should_panic(expected = "goes back from term")]
fn terms_do_not_go_back() {
    let mut store = Store::new();
    store.apply(Index(1), Term(2), &Batch::default());
    store.apply(Index(2), Term(1), &Batch::default());
}

/// Several requests of one entry see each other; readers see all of them or none.
#[test]
fn an_entry_is_one_step_for_readers() {
    let mut feed = Feed::new();
    let before = feed.view();
    let requests = [put("a", "1"), put("a", "2"), put("a", "3")].map(Command::Put);
    let outcomes = feed.apply_all(&requests.iter().collect::<Vec<_>>());
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(feed.store.view().revision(), before.revision());
    assert_eq!(before.range(&super::range("a", "")).expect("readable").count, 0);
    let after = feed.view();
    assert_eq!(after.revision().0, before.revision().0 + 3);
    let response = after.range(&super::range("a", "")).expect("readable");
    assert_eq!(response.kvs[0].version, 3);
    feed.finish();
}
