//! The watchers: each watches through one member, and through another one from where it stopped when that member is gone.

use fastrand::Rng;
use prost::Message;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::process::Process;
use super::settings::Time;
use crate::checkers::history::revision_of;
use crate::checkers::watching::WatchRecord;

/// A stream that is open.
#[derive(Debug)]
struct Open {
    member: u64,
    life: u64,
    /// The hub's name for it.
    stream: usize,
    record: WatchRecord,
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    request: WatchCreateRequest,
    open: Option<Open>,
    /// Up to here it was told.
    told: i64,
    /// It was told something, so that it resumes and does not begin anew.
    resumes: bool,
    /// It does not read its stream until then.
    reads_from: Time,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Watchers {
    watchers: Vec<Watcher>,
    /// Of streams that have ended.
    pub(super) records: Vec<WatchRecord>,
    splits: bool,
}

impl Watchers {
    /// So many; `splits` plants [`super::settings::Canary::SplitRevision`].
    pub(super) fn new(count: u32, splits: bool, rng: &mut Rng) -> Self {
        let watchers = (0..count).map(|nth| Watcher::new(nth, rng)).collect();
        Self { watchers, records: Vec::new(), splits }
    }

    /// A member that is gone, or has hung for long, is left.
    pub(super) fn leave(&mut self, member: u64) {
        for watcher in &mut self.watchers {
            if watcher.open.as_ref().is_some_and(|open| open.member == member) {
                watcher.end(&mut self.records);
            }
        }
    }

    /// Lets those who have no stream open one at `process`, now and then, and those who have one there read it.
    pub(super) fn follow(
        &mut self,
        member: u64,
        life: u64,
        process: &mut Process,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let view = process.view.clone();
        while !process.hub.step(&view) {}
        for watcher in &mut self.watchers {
            watcher.drop_if_gone(member, life, &mut self.records);
            if watcher.open.is_none() && rng.u32(0..4) == 0 {
                watcher.open(member, life, process, rng);
            }
            let Some(open) = &watcher.open else { continue };
            if (open.member, open.life) != (member, life) || now < watcher.reads_from {
                continue;
            }
            let stream = open.stream;
            while process.hub.catch_up(stream, &view) {}
            match rng.u32(0..40) {
                0 => process.hub.progress(stream),
                1 => process.hub.interval(),
                2 => watcher.reads_from = now + rng.u64(0..200_000),
                3 => {
                    process.hub.close(stream);
                    watcher.end(&mut self.records);
                    continue;
                }
                _ => {}
            }
            if watcher.read(process, now, self.splits)? {
                watcher.end(&mut self.records);
            }
        }
        Ok(())
    }

    /// Ends all streams.
    pub(super) fn end(&mut self) {
        for watcher in &mut self.watchers {
            watcher.end(&mut self.records);
        }
    }
}

impl Watcher {
    fn new(nth: u32, rng: &mut Rng) -> Self {
        let all = nth == 0 || rng.bool();
        let filter = match rng.u32(0..6) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            _ => Vec::new(),
        };
        let request = WatchCreateRequest {
            key: if all { "k".into() } else { format!("k{}", rng.u32(0..4)).into() },
            range_end: if all { "l".into() } else { Default::default() },
            start_revision: rng.i64(0..3),
            prev_kv: rng.bool(),
            progress_notify: rng.bool(),
            filters: if nth == 0 { Vec::new() } else { filter },
            ..WatchCreateRequest::default()
        };
        Self { request, open: None, told: 0, resumes: false, reads_from: 0 }
    }

    fn open(&mut self, member: u64, life: u64, process: &mut Process, rng: &mut Rng) {
        let resumed_from = self.resumes.then_some(self.told);
        let start_revision = match resumed_from {
            Some(told) => told + 1,
            None => self.request.start_revision * rng.i64(0..2),
        };
        let fragment = process.splits_responses && rng.bool();
        let request = WatchCreateRequest { start_revision, fragment, ..self.request.clone() };
        let stream = process.hub.open();
        process.hub.create(stream, &request, &process.view);
        let filters =
            request.filters.iter().filter_map(|filter| FilterType::try_from(*filter).ok());
        let record = WatchRecord {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            start_revision,
            prev_kv: request.prev_kv,
            filters: filters.collect(),
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            responses: Vec::new(),
            resumed_from,
        };
        self.open = Some(Open { member, life, stream, record });
    }

    fn read(&mut self, process: &mut Process, now: Time, splits: bool) -> Result<bool, String> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let mut is_over = false;
        // What the stream says behind a cancellation is about nobody.
        while !is_over && let Some(message) = process.hub.pop(open.stream) {
            let response = WatchResponse::decode(message.into_payload())
                .map_err(|error| format!("a watcher hears what is no response: {error}"))?;
            is_over |= response.canceled;
            let newest = response.events.iter().map(revision_of).max();
            // Of the last revision of a fragment there may be more to come.
            if let Some(told) = newest.map(|newest| newest - i64::from(response.fragment)) {
                self.told = self.told.max(told);
                self.resumes |= self.told > 0;
            }
            if response.canceled && response.compact_revision > 0 {
                // What it lacks is gone: it begins anew there, as clients do.
                self.resumes = false;
                self.request.start_revision = response.compact_revision;
            }
            let time = now * 1000;
            match splits && response.events.len() > 1 {
                true => {
                    let mut first = response.clone();
                    let mut second = response;
                    second.events = first.events.split_off(1);
                    open.record.responses.extend([(time, first), (time, second)]);
                }
                false => open.record.responses.push((time, response)),
            }
        }
        if is_over {
            process.hub.close(open.stream);
        }
        Ok(is_over)
    }

    fn drop_if_gone(&mut self, member: u64, life: u64, records: &mut Vec<WatchRecord>) {
        if self.open.as_ref().is_some_and(|open| open.member == member && open.life != life) {
            self.end(records);
        }
    }

    fn end(&mut self, records: &mut Vec<WatchRecord>) {
        if let Some(open) = self.open.take() {
            records.push(open.record);
        }
    }
}
