//! The hub, without streams: what watchers are told, in which order, and what happens to slow ones.

use prost::Message;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCreateRequest, WatchResponse,
};
use urd_proto::mvccpb::event::EventType;

use super::hub::Hub;
use crate::ids::{Index, Term};
use crate::store::command::{Batch, BatchBuilder, Command};
use crate::store::{Store, View};

struct World {
    store: Store,
    hub: Hub,
}

impl World {
    fn new() -> Self {
        Self { store: Store::new(), hub: Hub::new(2000) }
    }

    fn apply(&mut self, commands: &[Command]) -> View {
        let mut batch = BatchBuilder::default();
        commands.iter().for_each(|command| batch.append_command(command));
        let batch = Batch::decode(batch.finish()).unwrap();
        let index = Index(self.store.applied().0 + 1);
        for outcome in self.store.apply(index, Term(1), &batch) {
            outcome.unwrap();
        }
        self.store.publish()
    }

    fn put(&mut self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        self.apply(&[Command::Put(PutRequest { key, value, ..PutRequest::default() })]);
    }

    fn delete(&mut self, key: &str, range_end: &str) {
        let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        self.apply(&[Command::DeleteRange(request)]);
    }

    fn watch(&mut self, stream: usize, request: WatchCreateRequest) {
        let view = self.store.view();
        while !self.hub.step(&view) {}
        self.hub.create(stream, &request, &view);
    }

    /// All that waits for a stream, after it has caught up.
    fn told(&mut self, stream: usize) -> Vec<WatchResponse> {
        let view = self.store.view();
        while !self.hub.step(&view) {}
        let mut told = Vec::new();
        loop {
            let more = self.hub.catch_up(stream, &view);
            while let Some(message) = self.hub.pop(stream) {
                told.push(WatchResponse::decode(message.into_payload()).unwrap());
            }
            if !more {
                return told;
            }
        }
    }
}

fn on(key: &str, range_end: &str) -> WatchCreateRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() }
}

/// The events in short: `+key@revision=value` for puts, `-key@revision` for deletions, `<previous` behind.
fn short(responses: &[WatchResponse]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let events = responses.iter().flat_map(|response| &response.events);
    events
        .map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let (key, revision) = (text(&kv.key), kv.mod_revision);
            let mut said = match event.r#type() {
                EventType::Put => format!("+{key}@{revision}={}", text(&kv.value)),
                EventType::Delete => format!("-{key}@{revision}"),
            };
            if let Some(previous) = &event.prev_kv {
                said += &format!("<{}", text(&previous.value));
            }
            said
        })
        .collect()
}

#[test]
fn watchers_are_told_of_what_they_watch() {
    let mut world = World::new();
    world.put("a", "0");
    let stream = world.hub.open();
    for request in [
        on("a", ""),
        on("b", "d"),
        WatchCreateRequest { prev_kv: true, ..on("", "\0") },
        WatchCreateRequest { filters: vec![FilterType::Noput.into()], ..on("a", "z") },
        WatchCreateRequest { filters: vec![FilterType::Nodelete.into()], ..on("a", "z") },
    ] {
        world.watch(stream, request);
    }
    let created = world.told(stream);
    assert!(created.iter().all(|response| response.created && response.events.is_empty()));
    assert_eq!(
        created.iter().map(|response| response.watch_id).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    world.put("a", "1");
    world.put("c", "2");
    world.put("d", "3");
    world.delete("a", "d");
    let told = world.told(stream);
    let of = |id: i64| {
        let own: Vec<_> = told.iter().filter(|response| response.watch_id == id).cloned().collect();
        short(&own)
    };
    assert_eq!(of(0), ["+a@3=1", "-a@6"]);
    assert_eq!(of(1), ["+c@4=2", "-c@6"]);
    assert_eq!(of(2), ["+a@3=1<0", "+c@4=2", "+d@5=3", "-a@6<1", "-c@6<2"]);
    assert_eq!(of(3), ["-a@6", "-c@6"]);
    assert_eq!(of(4), ["+a@3=1", "+c@4=2", "+d@5=3"]);
    assert!(told.iter().all(|response| response.header.unwrap().revision == 6));
}

#[test]
fn a_watch_begins_where_it_is_asked_to() {
    let mut world = World::new();
    for nth in 0..3000 {
        world.put("k", &nth.to_string());
    }
    let (past, future) = (world.hub.open(), world.hub.open());
    world.watch(past, WatchCreateRequest { start_revision: 100, ..on("k", "") });
    world.watch(future, WatchCreateRequest { start_revision: 3004, ..on("k", "") });
    let told = short(&world.told(past));
    assert_eq!((told.len(), &told[0][..]), (2902, "+k@100=98"));
    world.put("k", "x");
    assert_eq!(short(&world.told(past)), ["+k@3002=x"]);
    assert_eq!(short(&world.told(future)).len(), 0);
    world.put("k", "y");
    world.put("k", "z");
    assert_eq!(short(&world.told(past)), ["+k@3003=y", "+k@3004=z"]);
    assert_eq!(short(&world.told(future)), ["+k@3004=z"]);
}

#[test]
fn a_watch_of_compacted_revisions_is_cancelled() {
    let mut world = World::new();
    (0..10).for_each(|_| world.put("k", "v"));
    let compaction = CompactionRequest { revision: 6, physical: false };
    world.apply(&[Command::Compaction(compaction)]);
    let stream = world.hub.open();
    world.watch(stream, WatchCreateRequest { start_revision: 5, ..on("k", "") });
    world.watch(stream, WatchCreateRequest { start_revision: 6, ..on("k", "") });
    let told = world.told(stream);
    let cancelled: Vec<_> = told.iter().filter(|response| response.canceled).collect();
    assert_eq!(cancelled.len(), 1);
    assert_eq!((cancelled[0].watch_id, cancelled[0].compact_revision), (0, 6));
    assert_eq!(short(&told).len(), 6);
    assert_eq!(world.hub.len(), 1);
}

#[test]
fn ids_are_chosen_or_given_and_requests_that_cannot_be_are_refused() {
    let mut world = World::new();
    let stream = world.hub.open();
    let with_id = |watch_id| WatchCreateRequest { watch_id, ..on("k", "") };
    for id in [0, 1, 7, 0, 7] {
        world.watch(stream, with_id(id));
    }
    world.watch(stream, on("b", "a"));
    let told = world.told(stream);
    let ids: Vec<_> = told.iter().map(|response| (response.watch_id, response.canceled)).collect();
    let expected = [(0, false), (1, false), (7, false), (2, false), (-1, true), (-1, true)];
    assert_eq!(ids, expected);
    assert_eq!(told[4].cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(told[5].cancel_reason, "mvcc: watcher range is empty");

    let newest = world.store.view().revision();
    world.hub.cancel(stream, 7, newest);
    world.hub.cancel(stream, 7, newest);
    let told = world.told(stream);
    assert_eq!(told.len(), 1);
    assert!(told[0].canceled && told[0].watch_id == 7);
    world.put("k", "v");
    assert_eq!(short(&world.told(stream)).len(), 3);
}

#[test]
fn a_slow_stream_is_bounded_and_loses_nothing() {
    let mut world = World::new();
    let (slow, quick) = (world.hub.open(), world.hub.open());
    world.watch(slow, on("k", "l"));
    world.watch(quick, on("k", "l"));
    world.told(slow);
    world.told(quick);
    let value = "v".repeat(10_000);
    let mut seen = Vec::new();
    for nth in 0..1000 {
        world.put("k", &format!("{nth}{value}"));
        seen.extend(short(&world.told(quick)));
    }
    assert_eq!(seen.len(), 1000);
    let mut waiting = 0;
    while let Some(message) = world.hub.pop(slow) {
        waiting += message.payload_len();
        seen.push(String::new());
    }
    assert!(waiting < 1_100_000, "{waiting}");
    let before = seen.len() - 1000;
    let rest = short(&world.told(slow));
    assert_eq!(before + rest.len(), 1000);
    assert!(rest[0].starts_with(&format!("+k@{}=", before + 2)));
    // It is up to date again.
    world.put("k", "last");
    assert_eq!(short(&world.told(slow)), ["+k@1002=last"]);
}

#[test]
fn with_room_for_one_response_a_watcher_hears_all() {
    let mut world = World::new();
    world.hub.bound_outboxes(1);
    let stream = world.hub.open();
    world.watch(stream, on("k", "l"));
    let mut told = short(&world.told(stream));
    for nth in 0..5 {
        world.put("k", &nth.to_string());
    }
    while let more = short(&world.told(stream))
        && !more.is_empty()
    {
        told.extend(more);
    }
    let puts: Vec<&String> = told.iter().filter(|text| text.starts_with('+')).collect();
    assert_eq!(puts, ["+k@2=0", "+k@3=1", "+k@4=2", "+k@5=3", "+k@6=4"]);
}

#[test]
fn large_responses_come_in_fragments_to_those_who_take_them() {
    let mut world = World::new();
    let stream = world.hub.open();
    world.watch(stream, WatchCreateRequest { fragment: true, ..on("k", "l") });
    world.watch(stream, on("k", "l"));
    world.told(stream);
    let put = |nth: usize| {
        let (key, value) = (format!("k{nth}").into(), "v".repeat(900).into());
        Command::Put(PutRequest { key, value, ..PutRequest::default() })
    };
    world.apply(&(0..5).map(put).collect::<Vec<_>>());
    let told = world.told(stream);
    let in_fragments: Vec<_> =
        told.iter().filter(|response| response.watch_id == 0).cloned().collect();
    let pieces: Vec<_> =
        in_fragments.iter().map(|response| (response.events.len(), response.fragment)).collect();
    assert_eq!(pieces, [(2, true), (2, true), (1, false)]);
    let whole: Vec<_> = told.iter().filter(|response| response.watch_id == 1).cloned().collect();
    assert_eq!((whole.len(), whole[0].fragment), (1, false));
    assert_eq!(short(&in_fragments), short(&whole));
}

#[test]
fn progress_is_told_when_there_is_nothing_else() {
    let mut world = World::new();
    let stream = world.hub.open();
    world.watch(stream, WatchCreateRequest { progress_notify: true, ..on("k", "") });
    world.watch(stream, on("k", ""));
    world.watch(stream, WatchCreateRequest { start_revision: 100, ..on("k", "") });
    world.put("other", "v");
    world.told(stream);
    world.hub.progress(stream);
    let told = world.told(stream);
    assert_eq!((told.len(), told[0].watch_id, told[0].header.unwrap().revision), (1, -1, 2));
    world.hub.interval();
    assert_eq!(world.told(stream).len(), 0, "the first interval has just begun");
    world.hub.interval();
    let told = world.told(stream);
    assert_eq!((told.len(), told[0].watch_id, told[0].header.unwrap().revision), (1, 0, 2));
    world.put("k", "v");
    assert_eq!(world.told(stream).len(), 2);
    world.hub.interval();
    assert_eq!(world.told(stream).len(), 0, "something was sent in this interval");
}

#[test]
fn what_ends_leaves_nothing() {
    let mut world = World::new();
    let streams: Vec<usize> = (0..3).map(|_| world.hub.open()).collect();
    for (nth, stream) in streams.iter().enumerate() {
        world.watch(*stream, on("k", ["", "l", "\0"][nth]));
        world.watch(*stream, WatchCreateRequest { start_revision: 100, ..on("k", "") });
    }
    for stream in streams {
        world.hub.close(stream);
    }
    assert!(world.hub.is_empty());
    world.put("k", "v");
    assert!(world.hub.step(&world.store.view()));
}

/// A state of another member, in which a sweep has been at work, takes the place of one whose hub has not come as far.
#[test]
fn synced_watchers_hear_of_what_a_received_state_lacks() {
    let mut world = World::new();
    world.put("a", "1");
    let stream = world.hub.open();
    world.watch(stream, on("a", ""));
    assert!(short(&world.told(stream)).is_empty());
    for value in ["2", "3", "4"] {
        world.put("a", value);
    }
    let compaction = CompactionRequest { revision: 5, physical: false };
    world.apply(&[Command::Compaction(compaction)]);
    while !world.store.compact_slice(1) {}
    world.store.publish();
    let told = world.told(stream);
    assert!(short(&told).is_empty(), "{told:?}");
    let cancelled: Vec<_> =
        told.iter().filter(|told| told.canceled).map(|told| told.compact_revision).collect();
    assert_eq!(cancelled, [5]);
}

/// As long as no sweep has been at work, all changes are there, compacted or not.
#[test]
fn synced_watchers_hear_of_changes_compacted_in_the_same_breath() {
    let mut world = World::new();
    let stream = world.hub.open();
    world.watch(stream, on("a", ""));
    for value in ["1", "2"] {
        world.put("a", value);
    }
    let compaction = CompactionRequest { revision: 3, physical: false };
    world.apply(&[Command::Compaction(compaction)]);
    assert_eq!(short(&world.told(stream)), ["+a@2=1", "+a@3=2"]);
}
