//! The watchers of one shard: who watches what, how far each was told, and what waits to be sent.
//!
//! A watcher is *synced* when it was told of all that the hub has looked at. Synced watchers of the same range with the
//! same options form a group, whose events are encoded once. What a stream's outbox has no room for makes its watchers
//! fall behind: they remember where they stopped, and read on from the tree when there is room again. So nothing is
//! kept for a slow reader but its outbox, and nobody waits for it.
//!
//! No I/O and no clock: views go in, encoded responses come out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use slab::Slab;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};

use super::index::{End, Index, Options, Range};
use crate::api::call::Encoded;
use crate::ids::Revision;
use crate::store::View;
use crate::store::watch::{Change, event, for_each_change};

/// Bytes that wait for a stream; beyond, its watchers fall behind.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Changes that one step looks at.
const STEP_CHANGES: usize = 1024;
/// Ids that a stream remembers as taken by watchers that have ended.
const RETIRED_MAX: usize = 4096;
/// The watch id of responses that are about no watcher, or about all: etcd's `InvalidWatchID`.
const NO_WATCH_ID: i64 = -1;
/// `WatchResponse.events`.
const EVENTS_FIELD: u32 = 11;

impl Options {
    fn wants(self, change: Change<'_>) -> bool {
        !(if change.is_delete() { self.no_delete } else { self.no_put })
    }
}

#[derive(Debug)]
struct Watcher {
    stream: usize,
    id: i64,
    range: Range,
    options: Options,
    fragment: bool,
    progress: bool,
    /// Nothing was sent since the last progress interval.
    quiet: bool,
    /// The first revision it was not told of, while it is behind.
    next: Revision,
    /// Its group, while it is synced.
    group: Option<usize>,
}

/// Synced watchers that are told the same.
#[derive(Debug)]
struct Group {
    range: Range,
    options: Options,
    watchers: BTreeSet<usize>,
    /// Of the step under way.
    events: Events,
}

/// Encoded events, as fields of a `WatchResponse`.
#[derive(Debug, Default)]
struct Events {
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl Events {
    fn push(&mut self, view: &View, change: Change<'_>, options: Options) {
        let event = event(view, change, options.prev_kv);
        encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(event.encoded_len() as u64, &mut self.bytes);
        event.encode_raw(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

#[derive(Debug, Default)]
struct Stream {
    outbox: VecDeque<Encoded>,
    bytes: usize,
    waker: Option<Waker>,
    watchers: BTreeMap<i64, usize>,
    /// Ids of watchers that compaction has ended. As in etcd they are taken until the client cancels them, too.
    retired: BTreeSet<i64>,
    id_next: i64,
    /// Watchers of it that are behind.
    behind: usize,
}

impl Stream {
    fn has(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.retired.contains(&id)
    }

    fn retire(&mut self, id: i64) {
        self.retired.insert(id);
        if self.retired.len() > RETIRED_MAX {
            self.retired.pop_first();
        }
    }

    fn push(&mut self, message: Encoded) {
        self.bytes += message.payload_len();
        self.outbox.push_back(message);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Hub {
    /// The first revision that no synced watcher was told of.
    next: Revision,
    streams: Slab<Stream>,
    watchers: Slab<Watcher>,
    groups: Slab<Group>,
    /// Groups by what they watch.
    index: Index,
    /// A response that reaches this is sent in fragments to those who take them.
    fragment_bytes: usize,
    /// [`OUTBOX_BYTES_MAX`] but in tests.
    outbox_bytes_max: usize,
    /// What a header says beside the revision.
    header: ResponseHeader,
}

impl Hub {
    /// Nobody watches.
    pub fn new(fragment_bytes: usize) -> Self {
        Self {
            next: Revision(0),
            streams: Slab::new(),
            watchers: Slab::new(),
            groups: Slab::new(),
            index: Index::default(),
            fragment_bytes,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            header: ResponseHeader::default(),
        }
    }

    /// Lets less than usual wait for a stream.
    pub fn bound_outboxes(&mut self, bytes_max: usize) {
        self.outbox_bytes_max = bytes_max;
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// What the headers of responses say beside their revision.
    pub fn set_header(&mut self, header: ResponseHeader) {
        self.header = header;
    }

    /// A new stream.
    pub fn open(&mut self) -> usize {
        self.streams.insert(Stream::default())
    }

    /// The end of a stream and its watchers.
    pub fn close(&mut self, stream: usize) {
        let keys: Vec<usize> = self.streams[stream].watchers.values().copied().collect();
        for key in keys {
            self.remove(key);
        }
        self.streams.remove(stream);
    }

    /// Whom to wake when the stream has something to send, or to catch up with.
    pub fn register(&mut self, stream: usize, waker: &Waker) {
        self.streams[stream].waker = Some(waker.clone());
    }

    /// Wakes all streams.
    pub fn wake_all(&mut self) {
        self.streams.iter_mut().for_each(|(_, stream)| stream.wake());
    }

    /// The next response to send.
    pub fn pop(&mut self, stream: usize) -> Option<Encoded> {
        let stream = &mut self.streams[stream];
        let message = stream.outbox.pop_front()?;
        stream.bytes -= message.payload_len();
        Some(message)
    }

    /// Whether the stream has something to send.
    pub fn has_output(&self, stream: usize) -> bool {
        !self.streams[stream].outbox.is_empty()
    }

    /// Whether the stream has so much to send that it takes no more requests before.
    pub fn is_full(&self, stream: usize) -> bool {
        self.streams[stream].bytes > self.outbox_bytes_max
    }

    /// Begins to watch. The hub must have looked at all of `view` (see [`Hub::step`]).
    pub fn create(&mut self, stream: usize, request: &WatchCreateRequest, view: &View) {
        if self.watchers.is_empty() {
            self.next = view.revision().next();
        }
        let id = match self.check(stream, request) {
            Ok(id) => id,
            Err(reason) => {
                let refused = WatchResponse {
                    watch_id: NO_WATCH_ID,
                    created: true,
                    canceled: true,
                    cancel_reason: reason.to_owned(),
                    ..self.response(view.revision())
                };
                return self.streams[stream].push(Encoded::new(&refused));
            }
        };
        let has = |filter| request.filters.contains(&i32::from(filter));
        let next = match request.start_revision {
            0 => view.revision().next(),
            start => Revision(start),
        };
        let key = self.watchers.insert(Watcher {
            stream,
            id,
            range: range(request),
            options: Options {
                prev_kv: request.prev_kv,
                no_put: has(FilterType::Noput),
                no_delete: has(FilterType::Nodelete),
            },
            fragment: request.fragment,
            progress: request.progress_notify,
            quiet: false,
            next,
            group: None,
        });
        let created =
            WatchResponse { watch_id: id, created: true, ..self.response(view.revision()) };
        let owner = &mut self.streams[stream];
        owner.watchers.insert(id, key);
        owner.behind += 1;
        owner.push(Encoded::new(&created));
        self.join_if_synced(key);
    }

    /// The watch id of a request, or why it cannot be.
    fn check(&mut self, stream: usize, request: &WatchCreateRequest) -> Result<i64, &'static str> {
        if let Range { key, end: End::Before(end) } = &range(request)
            && key >= end
        {
            return Err("mvcc: watcher range is empty");
        }
        let stream = &mut self.streams[stream];
        if request.watch_id != 0 {
            if stream.has(request.watch_id) {
                return Err("mvcc: duplicate watch ID provided on the WatchStream");
            }
            return Ok(request.watch_id);
        }
        while stream.has(stream.id_next) {
            stream.id_next += 1;
        }
        stream.id_next += 1;
        Ok(stream.id_next - 1)
    }

    /// Ends a watch; one that does not exist is not worth an answer.
    pub fn cancel(&mut self, stream: usize, id: i64, newest: Revision) {
        let owner = &mut self.streams[stream];
        match owner.watchers.get(&id) {
            Some(&key) => self.remove(key),
            None if owner.retired.remove(&id) => {}
            None => return,
        }
        let response = WatchResponse { watch_id: id, canceled: true, ..self.response(newest) };
        self.streams[stream].push(Encoded::new(&response));
    }

    /// Answers a request for progress, if all of the stream's watchers were told of all.
    pub fn progress(&mut self, stream: usize) {
        // One that waits for a revision to come is not behind.
        let has_been_told = |key: &usize| {
            let watcher = &self.watchers[*key];
            watcher.group.is_some() || watcher.next >= self.next
        };
        if self.streams[stream].watchers.values().all(has_been_told) {
            let told = Revision(self.next.0 - 1);
            let response = WatchResponse { watch_id: NO_WATCH_ID, ..self.response(told) };
            self.streams[stream].push(Encoded::new(&response));
        }
    }

    /// A progress interval is over: tells those who want to know and have heard nothing in it.
    pub fn interval(&mut self) {
        let told = Revision(self.next.0 - 1);
        let response = self.response(told);
        for (_, watcher) in &mut self.watchers {
            if !watcher.progress || watcher.group.is_none() {
                continue;
            }
            let stream = &mut self.streams[watcher.stream];
            // Who takes nothing is told when it does.
            if stream.bytes <= self.outbox_bytes_max && std::mem::replace(&mut watcher.quiet, true)
            {
                let progress = WatchResponse { watch_id: watcher.id, ..response.clone() };
                stream.push(Encoded::new(&progress));
            }
        }
    }

    /// The first revision that no watcher was told of, unless it is behind.
    pub fn next(&self) -> Revision {
        self.next
    }

    /// Looks at some of what is new in `view`. True when nothing is left.
    pub fn step(&mut self, view: &View) -> bool {
        if self.watchers.is_empty() {
            self.next = view.revision().next();
        }
        if self.next < view.thinned() {
            self.skip(view.thinned());
        }
        if self.next > view.revision() {
            return true;
        }
        let begin = self.next;
        let mut touched = Vec::new();
        let (groups, index) = (&mut self.groups, &self.index);
        self.next = for_each_change(view, begin, STEP_CHANGES, |change| {
            index.for_each_match(change.key, |key| {
                let group = &mut groups[key];
                if group.options.wants(change) {
                    if group.events.ends.is_empty() {
                        touched.push(key);
                    }
                    group.events.push(view, change, group.options);
                }
            });
        });
        for key in touched {
            let events = std::mem::take(&mut self.groups[key].events);
            for watcher in self.groups[key].watchers.clone() {
                if self.streams[self.watchers[watcher].stream].bytes > self.outbox_bytes_max {
                    self.fall_behind(watcher, begin);
                } else {
                    self.send(watcher, &events);
                }
            }
        }
        for (_, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.behind > 0) {
            stream.wake();
        }
        self.next > view.revision()
    }

    /// What would have to be looked at next is not all there: the state is one that was received from another member. All
    /// watchers fall behind, and hear that what they lack was compacted.
    fn skip(&mut self, to: Revision) {
        let next = std::mem::replace(&mut self.next, to);
        let synced: Vec<usize> =
            self.groups.iter().flat_map(|(_, group)| group.watchers.iter().copied()).collect();
        for key in synced {
            self.fall_behind(key, next);
        }
    }

    /// What reads, in a view, the changes that the next [`Hub::catch_up`] of the stream will; `None` when it reads none.
    pub fn reader(&self, stream: usize) -> Option<impl FnOnce(&View) + Send + 'static> {
        let owner = &self.streams[stream];
        if owner.behind == 0 || owner.bytes > self.outbox_bytes_max {
            return None;
        }
        let watchers = owner.watchers.values().map(|&key| &self.watchers[key]);
        let behind: Vec<(Revision, Options, Range)> = watchers
            .filter(|watcher| watcher.group.is_none() && watcher.next < self.next)
            .map(|watcher| (watcher.next, watcher.options, watcher.range.clone()))
            .collect();
        (!behind.is_empty()).then_some(move |view: &View| {
            for (next, options, range) in
                behind.iter().filter(|(next, ..)| *next >= view.compacted())
            {
                for_each_change(view, *next, STEP_CHANGES, |change| {
                    if options.wants(change) && range.contains(change.key) {
                        std::hint::black_box(event(view, change, options.prev_kv));
                    }
                });
            }
        })
    }

    /// Lets the watchers of a stream that are behind read on, as far as its outbox has room. True when there is more to
    /// read and room for it.
    pub fn catch_up(&mut self, stream: usize, view: &View) -> bool {
        if self.streams[stream].behind == 0 {
            return false;
        }
        let keys: Vec<usize> = self.streams[stream].watchers.values().copied().collect();
        let mut more = false;
        for key in keys {
            if self.watchers[key].group.is_some() || self.watchers[key].next >= self.next {
                self.join_if_synced(key);
                continue;
            }
            if self.streams[stream].bytes > self.outbox_bytes_max {
                return false;
            }
            more |= !self.read_on(key, view);
        }
        more
    }

    /// One step of one watcher. True when it has nothing left to read.
    fn read_on(&mut self, key: usize, view: &View) -> bool {
        let Watcher { next, options, stream, id, .. } = self.watchers[key];
        if next < view.compacted() {
            let response = WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: view.compacted().0,
                ..self.response(Revision(0))
            };
            self.remove(key);
            self.streams[stream].retire(id);
            self.streams[stream].push(Encoded::new(&response));
            return true;
        }
        let range = self.watchers[key].range.clone();
        let mut events = Events::default();
        let read = for_each_change(view, next, STEP_CHANGES, |change| {
            if options.wants(change) && range.contains(change.key) {
                events.push(view, change, options);
            }
        });
        // The hub may not have looked at all of the view.
        self.watchers[key].next = read;
        if !events.ends.is_empty() {
            self.send(key, &events);
        }
        self.join_if_synced(key);
        read > view.revision()
    }

    /// Sends events to a watcher, in fragments if they are large and it takes those.
    fn send(&mut self, key: usize, events: &Events) {
        let watcher = &mut self.watchers[key];
        watcher.quiet = false;
        let (stream, id, fragment) = (watcher.stream, watcher.id, watcher.fragment);
        let told = match watcher.group {
            Some(_) => self.next,
            None => watcher.next,
        };
        let head = WatchResponse { watch_id: id, ..self.response(Revision(told.0 - 1)) };
        let mut begin = 0;
        let mut ends = events.ends.iter().copied().peekable();
        while let Some(mut end) = ends.next() {
            while let Some(&further) = ends.peek()
                && !(fragment && further - begin >= self.fragment_bytes)
            {
                end = further;
                ends.next();
            }
            let head = WatchResponse { fragment: ends.peek().is_some(), ..head.clone() };
            let mut message = Encoded::with_capacity(head.encoded_len() + end - begin);
            message.append(&head);
            message.buffer().extend_from_slice(&events.bytes[begin..end]);
            self.streams[stream].push(message);
            begin = end;
        }
    }

    fn response(&self, revision: Revision) -> WatchResponse {
        let header = ResponseHeader { revision: revision.0, ..self.header };
        WatchResponse { header: Some(header), ..WatchResponse::default() }
    }

    /// Puts a watcher that has been told of all into its group.
    fn join_if_synced(&mut self, key: usize) {
        let watcher = &mut self.watchers[key];
        if watcher.group.is_some() || watcher.next != self.next {
            return;
        }
        let groups = &mut self.groups;
        let place = self.index.entry(watcher.range.clone(), watcher.options);
        let group = *place.or_insert_with(|| {
            groups.insert(Group {
                range: watcher.range.clone(),
                options: watcher.options,
                watchers: BTreeSet::new(),
                events: Events::default(),
            })
        });
        self.groups[group].watchers.insert(key);
        watcher.group = Some(group);
        self.streams[watcher.stream].behind -= 1;
    }

    fn fall_behind(&mut self, key: usize, next: Revision) {
        self.leave(key);
        let watcher = &mut self.watchers[key];
        watcher.next = next;
        self.streams[watcher.stream].behind += 1;
    }

    /// Takes a watcher out of its group.
    fn leave(&mut self, key: usize) {
        let Some(place) = self.watchers[key].group.take() else { return };
        let group = &mut self.groups[place];
        group.watchers.remove(&key);
        if group.watchers.is_empty() {
            let Group { range, options, .. } = self.groups.remove(place);
            self.index.remove(range, options);
        }
    }

    fn remove(&mut self, key: usize) {
        if self.watchers[key].group.is_none() {
            self.streams[self.watchers[key].stream].behind -= 1;
        }
        self.leave(key);
        let Watcher { stream, id, .. } = self.watchers.remove(key);
        self.streams[stream].watchers.remove(&id);
    }
}

/// What a request watches. As in etcd an empty key means the first there can be, and an end of one zero byte none.
fn range(request: &WatchCreateRequest) -> Range {
    let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
    let end = match &request.range_end[..] {
        [] => End::OneKey,
        [0] => End::None,
        _ => End::Before(request.range_end.clone()),
    };
    Range { key, end }
}
