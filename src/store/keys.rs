//! The keys of the one tree: which table a record belongs to, and how user keys and revisions are
//! laid out so that byte order is the order we read in.
//!
//! | table | key | value |
//! |---|---|---|
//! | `lease` | `00`, lease (8) | [`lease`](super::lease) |
//! | `attached` | `01`, lease (8), user key | nothing |
//! | `rev` | `02`, main (8), sub (4) | mark (1: `p` put, `t` tombstone), user key |
//! | `meta` | `03` | the store's numbers ([`meta`](super::meta)) |
//! | `alarm` | `04`, kind (4), member (8) | nothing |
//! | `member` | `05`, member (8) | its `Member` message ([`members`](super::members)) |
//! | `removed` | `06`, member (8) | nothing |
//! | `v2 expiring` | `10`, expiration (8), created index (8), node's name | nothing |
//! | `v2 node` | `11`, node's name | [`v2::record`](super::v2) |
//! | `v2 history` | `12`, index (8) | [`v2::history`](super::v2) |
//! | `v2 numbers` | `13` | [`v2::meta`](super::v2) |
//! | `kv` | `F0`, escaped user key, `00 00`, !main (8), !sub (4) | [`record`](super::record) |
//!
//! `kv` comes last: new user keys in ascending order then go to the very end of the tree, where its
//! pages fill best. `meta` stands behind the newest revision, in a page that nearly every batch
//! changes anyway. The tables of leases come first, so that nothing of theirs comes between the two,
//! nor before the place where `kv` grows. Numbers are big-endian; `kv` holds them inverted, so that the newest record of a
//! key comes first and "the newest at or before revision r" is one seek.
//!
//! A user key may hold any bytes. Each `00` in it becomes `00 FF` and `00 00` ends it: the order of
//! the user keys is kept, and no encoded key is the prefix of another one.
//!
//! The name of a v2 node is a byte for the space it is in (`1`: clients' keys, `2`: auth's), and `00` and its name for each part of its
//! path. `00` and `01` in a name become `01 01` and `01 02`. So whatever is in a directory follows it, depth first, in the
//! order of names, and in one range; expirations have their sign flipped, as leases' ids.
//!
//! All encoders write into a buffer that the caller reuses. What this file does not do: it knows
//! nothing of what the records mean.

use bytes::BufMut;

use super::v2;
use crate::ids::{LeaseId, MemberId, Revision};

/// The table of leases.
const LEASE: u8 = 0x00;
/// The table of the keys attached to leases.
const ATTACHED: u8 = 0x01;
/// The table of revisions.
const REV: u8 = 0x02;
/// The table of the store's own numbers.
const META: u8 = 0x03;
/// The table of alarms.
const ALARM: u8 = 0x04;
/// The table of members.
const MEMBER: u8 = 0x05;
/// The table of members that were removed.
const REMOVED: u8 = 0x06;
/// The table of v2's nodes that expire.
pub(super) const V2_EXPIRING: u8 = 0x10;
/// The table of v2's nodes.
pub(super) const V2_NODE: u8 = 0x11;
/// The table of v2's events.
pub(super) const V2_HISTORY: u8 = 0x12;
/// The table of v2's own numbers.
const V2_NUMBERS: u8 = 0x13;
/// The table of user keys.
pub(super) const KV: u8 = 0xF0;

/// Marks a change in `rev` as a put.
const MARK_PUT: u8 = b'p';
/// Marks a change in `rev` as a deletion.
const MARK_TOMBSTONE: u8 = b't';

/// Ends a user key.
const TERMINATOR: [u8; 2] = [0x00, 0x00];
/// What a 00 within a user key becomes.
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];
/// The inverted change id at the end of every `kv` key.
const SUFFIX_BYTES: usize = 8 + 4;
/// Length of a `rev` key.
const REV_KEY_BYTES: usize = 1 + 8 + 4;
/// Length of a `lease` key, and of what stands before the user key in `attached`.
const LEASE_KEY_BYTES: usize = 1 + 8;

/// The key of the one `meta` record.
pub(super) const META_KEY: &[u8] = &[META];
/// The key of the one `v2 numbers` record.
pub(super) const V2_NUMBERS_KEY: &[u8] = &[V2_NUMBERS];

/// One change of one key: the `sub`-th of those that revision `main` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChangeId {
    pub(super) main: Revision,
    pub(super) sub: u32,
}

impl ChangeId {
    /// The first change that a revision may make.
    pub(super) const fn first_of(main: Revision) -> Self {
        Self { main, sub: 0 }
    }
}

/// Whether a change wrote a value or deleted the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Put,
    Tombstone,
}

/// Writes what all `kv` keys of a user key start with, and those of no other key do. It is also the
/// place before the newest of them.
pub(super) fn kv_prefix(buffer: &mut Vec<u8>, user_key: &[u8]) {
    kv_begin(buffer, user_key);
    buffer.extend_from_slice(&TERMINATOR);
}

/// Writes what the `kv` keys of all user keys start with that begin with `user_prefix`, and those of no others do.
pub(super) fn kv_begin(buffer: &mut Vec<u8>, user_prefix: &[u8]) {
    buffer.clear();
    buffer.reserve(1 + user_prefix.len() + TERMINATOR.len() + SUFFIX_BYTES);
    buffer.push(KV);
    let mut rest = user_prefix;
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        let (plain, tail) = rest.split_at(zero);
        buffer.extend_from_slice(plain);
        buffer.extend_from_slice(&ESCAPED_ZERO);
        rest = tail.get(1..).unwrap_or_default();
    }
    buffer.extend_from_slice(rest);
}

/// Turns a prefix into the key of one of its records.
pub(super) fn kv_push_change(prefix: &mut Vec<u8>, change: ChangeId) {
    prefix.extend_from_slice(&(!unsigned(change.main)).to_be_bytes());
    prefix.extend_from_slice(&(!change.sub).to_be_bytes());
}

/// Turns a prefix into the place of the newest record that a reader at `revision` may see.
pub(super) fn kv_push_revision(prefix: &mut Vec<u8>, revision: Revision) {
    kv_push_change(prefix, ChangeId { main: revision, sub: u32::MAX });
}

/// Turns a prefix into the first place after all its records.
pub(super) fn kv_prefix_end(prefix: &mut [u8]) {
    let last = prefix.last_mut().expect("invariant: a prefix ends with the terminator");
    debug_assert_eq!(*last, TERMINATOR[1]);
    *last += 1;
}

/// Writes the place after all of table `kv`.
pub(super) fn kv_end(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.push(KV + 1);
}

/// A `kv` key taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct KvKey<'a> {
    /// See [`kv_prefix`].
    pub(super) prefix: &'a [u8],
    pub(super) change: ChangeId,
}

impl<'a> KvKey<'a> {
    pub(super) fn split(key: &'a [u8]) -> Self {
        let (prefix, suffix) = key
            .split_last_chunk::<SUFFIX_BYTES>()
            .expect("invariant: a kv key ends with a change id");
        let (main, sub) = suffix.split_at(8);
        let main = u64::from_be_bytes(main.try_into().expect("invariant: 8 of 12 bytes"));
        let sub = u32::from_be_bytes(sub.try_into().expect("invariant: 4 of 12 bytes"));
        Self { prefix, change: ChangeId { main: signed(!main), sub: !sub } }
    }

    pub(super) fn user_key(self) -> UserKey<'a> {
        UserKey::of_prefix(self.prefix)
    }
}

/// A user key as it stands in a `kv` key: escaped, without its terminator.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserKey<'a> {
    escaped: &'a [u8],
}

impl<'a> UserKey<'a> {
    pub(super) fn of_prefix(prefix: &'a [u8]) -> Self {
        debug_assert_eq!(prefix.first(), Some(&KV));
        let end = prefix.len() - TERMINATOR.len();
        Self { escaped: &prefix[1..end] }
    }

    /// Length of the key as the user wrote it.
    pub(super) fn len(self) -> usize {
        self.escaped.len() - self.escaped.iter().filter(|&&byte| byte == 0).count()
    }

    /// Appends the key as the user wrote it.
    pub(super) fn write(self, out: &mut impl BufMut) {
        let mut rest = self.escaped;
        while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
            let (plain, tail) = rest.split_at(zero + 1);
            out.put_slice(plain);
            rest = tail.get(1..).expect("invariant: FF follows each 00 within a key");
        }
        out.put_slice(rest);
    }

    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.len());
        self.write(&mut key);
        key
    }
}

/// Writes the `alarm` key of a kind of alarm and the member that has it.
pub(super) fn alarm(buffer: &mut Vec<u8>, kind: i32, member: u64) {
    buffer.clear();
    buffer.push(ALARM);
    buffer.extend_from_slice(&kind.to_be_bytes());
    buffer.extend_from_slice(&member.to_be_bytes());
}

/// The kind and the member that an `alarm` key names, or `None` when the key is of another table.
pub(super) fn alarm_key(key: &[u8]) -> Option<(i32, u64)> {
    let (table, rest) = key.split_first()?;
    let (kind, member) = rest.split_first_chunk::<4>()?;
    let member = u64::from_be_bytes(member.try_into().ok()?);
    (*table == ALARM).then_some((i32::from_be_bytes(*kind), member))
}

/// Writes the `member` key of a member.
pub(super) fn member(buffer: &mut Vec<u8>, id: MemberId) {
    table_and_member(buffer, MEMBER, id);
}

/// The member that a `member` key names, or `None` when the key is of another table.
pub(super) fn member_key(key: &[u8]) -> Option<MemberId> {
    let (table, id) = key.split_first()?;
    let id = u64::from_be_bytes(id.try_into().ok()?);
    (*table == MEMBER).then_some(MemberId(id))
}

/// Writes the `removed` key of a member.
pub(super) fn removed(buffer: &mut Vec<u8>, id: MemberId) {
    table_and_member(buffer, REMOVED, id);
}

fn table_and_member(buffer: &mut Vec<u8>, table: u8, id: MemberId) {
    buffer.clear();
    buffer.push(table);
    buffer.extend_from_slice(&id.0.to_be_bytes());
}

/// Writes the `rev` key of a change.
pub(super) fn rev(buffer: &mut Vec<u8>, change: ChangeId) {
    buffer.clear();
    buffer.push(REV);
    buffer.extend_from_slice(&unsigned(change.main).to_be_bytes());
    buffer.extend_from_slice(&change.sub.to_be_bytes());
}

/// The change that a `rev` key names, or `None` when the key is of another table.
pub(super) fn rev_key(key: &[u8]) -> Option<ChangeId> {
    let key: &[u8; REV_KEY_BYTES] = key.try_into().ok()?;
    let (table, numbers) = key.split_first()?;
    let (main, sub) = numbers.split_first_chunk::<8>()?;
    let (sub, _) = sub.split_first_chunk::<4>()?;
    let change =
        ChangeId { main: signed(u64::from_be_bytes(*main)), sub: u32::from_be_bytes(*sub) };
    (*table == REV).then_some(change)
}

/// Starts the `rev` record of a change; the user key follows.
pub(super) fn rev_mark(buffer: &mut Vec<u8>, kind: ChangeKind) {
    buffer.clear();
    buffer.push(match kind {
        ChangeKind::Put => MARK_PUT,
        ChangeKind::Tombstone => MARK_TOMBSTONE,
    });
}

/// Takes a `rev` record apart: what was done, to which user key.
pub(super) fn rev_value(value: &[u8]) -> (ChangeKind, &[u8]) {
    match value.split_first() {
        Some((&MARK_PUT, user_key)) => (ChangeKind::Put, user_key),
        Some((&MARK_TOMBSTONE, user_key)) => (ChangeKind::Tombstone, user_key),
        _ => panic!("invariant: a rev record starts with a mark"),
    }
}

/// Whether a record's key can be taken apart, and its value where that is part of the key's table: for those whom damage
/// must not end.
pub(super) fn is_sound(key: &[u8], value: &[u8]) -> bool {
    match key.first() {
        Some(&LEASE | &MEMBER | &REMOVED) => key.len() == LEASE_KEY_BYTES,
        Some(&ATTACHED) => key.len() >= LEASE_KEY_BYTES,
        Some(&REV) => {
            let is_revision = key.get(1).is_some_and(|&high| high & 0x80 == 0);
            let is_marked = matches!(value.first(), Some(&MARK_PUT | &MARK_TOMBSTONE));
            key.len() == REV_KEY_BYTES && is_revision && is_marked
        }
        Some(&META) => key == META_KEY,
        Some(&V2_NUMBERS) => key == V2_NUMBERS_KEY,
        Some(&V2_NODE | &V2_HISTORY | &V2_EXPIRING) => v2::is_key_sound(key),
        Some(&ALARM) => alarm_key(key).is_some(),
        Some(&KV) => is_kv_sound(key),
        _ => false,
    }
}

fn is_kv_sound(key: &[u8]) -> bool {
    let Some((prefix, suffix)) = key.split_last_chunk::<SUFFIX_BYTES>() else { return false };
    let Some(mut escaped) = prefix.get(1..).and_then(|rest| rest.strip_suffix(&TERMINATOR)) else {
        return false;
    };
    while let Some(zero) = escaped.iter().position(|&byte| byte == 0) {
        let (_, tail) = escaped.split_at(zero);
        let Some(rest) = tail.strip_prefix(&ESCAPED_ZERO) else { return false };
        escaped = rest;
    }
    // The revision stands there inverted.
    suffix.first().is_some_and(|&high| high & 0x80 != 0)
}

/// Writes the key of a lease.
pub(super) fn lease(buffer: &mut Vec<u8>, id: LeaseId) {
    table_and_lease(buffer, LEASE, id);
}

/// The lease that a `lease` key names, or `None` when the key is of another table.
pub(super) fn lease_key(key: &[u8]) -> Option<LeaseId> {
    lease_and_rest(key, LEASE).map(|(id, _)| id)
}

/// Writes what all `attached` keys of a lease start with; a user key makes one of them.
pub(super) fn attached(buffer: &mut Vec<u8>, id: LeaseId, user_key: &[u8]) {
    table_and_lease(buffer, ATTACHED, id);
    buffer.extend_from_slice(user_key);
}

/// The lease and the user key that an `attached` key names, or `None` when the key is of another table.
pub(super) fn attached_key(key: &[u8]) -> Option<(LeaseId, &[u8])> {
    lease_and_rest(key, ATTACHED)
}

/// A lease's id is any number; its sign is flipped, so that byte order is that of the numbers.
fn table_and_lease(buffer: &mut Vec<u8>, table: u8, id: LeaseId) {
    buffer.clear();
    buffer.push(table);
    buffer.extend_from_slice(&(id.0 ^ i64::MIN).to_be_bytes());
}

fn lease_and_rest(key: &[u8], table: u8) -> Option<(LeaseId, &[u8])> {
    let (head, rest) = key.split_first_chunk::<LEASE_KEY_BYTES>()?;
    let [found, id @ ..] = head;
    (*found == table).then_some((LeaseId(i64::from_be_bytes(*id) ^ i64::MIN), rest))
}

/// Revisions in the tables are never negative.
fn unsigned(revision: Revision) -> u64 {
    u64::try_from(revision.0).expect("invariant: a revision is not negative")
}

fn signed(main: u64) -> Revision {
    Revision(i64::try_from(main).expect("invariant: a revision is at most i64::MAX"))
}
