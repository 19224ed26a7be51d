//! A member: its disk, which lasts, and its process, which does not.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fastrand::Rng;
use urd::ids::{Index, MemberId};
use urd::raft::{Flow, Options, entry};
use urd::store::Store;
use urd::tree::checkpoint::{self, CheckpointFile};
use urd::tree::{Counted, Read, Tree};
use urd_proto::etcdserverpb::Member as Record;
use urd_wal::disk::memory::{MemoryDisk, Survival};
use urd_wal::{Log, Recovered, Waiting};

use super::process::{CHECKPOINT, Job, MemberDriver, Process};
use super::settings::{Canary, Settings, Time};
use super::sites::{Site, Sites};

/// Blocks of the disks.
const BLOCK: u32 = 4096;
/// The record of the tree that begins with the index of the last applied entry.
const META_KEY: &[u8] = &[3];
/// The smallest segment of a log with such blocks.
pub(super) const SEGMENT_BYTES_MIN: u32 = 16 * BLOCK;
/// Entries in one message have so many bytes, so that the smallest log has room for them and their heads, which may be twenty
/// times as long. What is in a real message fits a real segment.
const MESSAGE_BYTES: u64 = SEGMENT_BYTES_MIN as u64 / 32;

/// Polls that a late flush may take.
const FLUSH_POLLS: u32 = 100;

/// How a process is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is killed; what it has written is there.
    Kill,
    /// The power goes; what is not durable may be gone.
    Power,
}

/// How a start went.
pub(super) enum Start {
    Runs,
    /// The power went meanwhile.
    Lost,
    /// It refuses what its disk holds, or the disk is full.
    Refused(String),
}

/// See the module's page.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) disk: MemoryDisk,
    /// Counts processes, so that what was meant for an earlier one is known.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) jobs: BTreeMap<u64, Job>,
    /// It hangs until then.
    pub(super) paused_until: Time,
    /// Its disk needs so many times as long until then.
    pub(super) slow: (u64, Time),
    /// Its disk is full, or fails, until it is mended.
    pub(super) is_disk_bad: bool,
    /// A bit of its files was flipped, since it was started last.
    pub(super) is_flipped: bool,
    /// Its disk has said that writes are durable which are not, since the power went last.
    pub(super) has_lied: bool,
    /// The power went after its disk had lied, and it has not started since.
    pub(super) is_in_doubt: bool,
    /// Why it cannot start any more.
    pub(super) hurt: Option<String>,
    /// It found itself removed, or was given up.
    pub(super) is_gone: bool,
    /// Of a million, by how many its clock runs fast.
    pub(super) drift: i64,
    sites: Rc<Sites>,
}

impl Member {
    pub(super) fn new(id: u64, settings: &Settings, sites: &Rc<Sites>, rng: &mut Rng) -> Self {
        let drift = i64::from(settings.drift);
        let too_fast = if settings.canary == Some(Canary::FastClocks) { 2_000_000 } else { 0 };
        let member = Self {
            id,
            disk: MemoryDisk::new(BLOCK),
            life: 0,
            process: None,
            jobs: BTreeMap::new(),
            paused_until: 0,
            slow: (1, 0),
            is_disk_bad: false,
            is_flipped: false,
            has_lied: false,
            is_in_doubt: false,
            hurt: None,
            is_gone: false,
            drift: rng.i64(-drift..=drift) + too_fast,
            sites: Rc::clone(sites),
        };
        member.set_up_disk(settings, rng);
        member
    }

    fn set_up_disk(&self, settings: &Settings, rng: &mut Rng) {
        self.disk.set_latency(settings.disk_polls, rng.u64(..));
        self.disk.set_lying(settings.canary == Some(Canary::AckBeforeDurable));
        if self.sites.acts(Site::LateFlushes) {
            self.disk.set_flush_latency(FLUSH_POLLS);
        }
    }

    /// Its monotonic clock.
    pub(super) fn clock(&self, origin: Instant, now: Time) -> Instant {
        let drifted = i128::from(now) * (1_000_000 + i128::from(self.drift)) / 1_000_000;
        origin + Duration::from_micros(u64::try_from(drifted).unwrap_or(0))
    }

    /// The process is gone.
    pub(super) fn lose(&mut self, loss: Loss, settings: &Settings, rng: &mut Rng) {
        self.process = None;
        self.jobs.clear();
        self.life += 1;
        (self.paused_until, self.is_disk_bad) = (0, false);
        let loses_power = loss == Loss::Power || self.disk.crashed();
        let before = self.has_lied.then(|| self.disk.copy());
        self.disk = match loss {
            Loss::Kill if !self.disk.crashed() => self.disk.after_kill(rng.u64(..)),
            Loss::Kill | Loss::Power => {
                let survival = Survival::ALL[rng.usize(..Survival::ALL.len())];
                self.disk.after_crash(survival, rng.u64(..))
            }
        };
        self.set_up_disk(settings, rng);
        self.disk.set_lying(self.has_lied || settings.canary == Some(Canary::AckBeforeDurable));
        if let Some(before) = before.filter(|_| loses_power) {
            (self.has_lied, self.is_in_doubt) = (false, true);
            self.disk.set_lying(false);
            self.judge_lies(&before, settings);
        }
    }

    /// It is a member no more. Nobody will look at its disk again.
    pub(super) fn leave(&mut self) {
        self.is_gone = true;
        self.process = None;
        self.jobs.clear();
        self.disk = MemoryDisk::new(BLOCK);
    }

    /// Whether its log still has what its disk had said was durable. No promise holds on a medium that lies: a member that
    /// has lost something is as one whose disk is damaged, whether its log can tell or not. That its checkpoint is older than
    /// what its log begins with, its start finds.
    fn judge_lies(&mut self, before: &MemoryDisk, settings: &Settings) {
        let had = log_end(before.copy(), settings).and_then(Result::ok);
        match log_end(self.disk.copy(), settings) {
            Some(Ok(has)) if had.as_ref() == Some(&has) => {}
            Some(Ok(_)) => {
                self.hurt = Some("its disk has lied, and its log cannot tell".to_owned())
            }
            Some(Err(reason)) => self.hurt = Some(reason),
            None => {}
        }
    }

    /// Flips a bit that is not one of many zeros. False when there is none.
    ///
    /// In the last write of a log that has not come to rest since it would look like a write that the power cut short, and
    /// the entries in it be lost without a word: no log can tell. Such a bit is left as it is.
    pub(super) fn flip(&mut self, settings: &Settings, rng: &mut Rng) -> bool {
        let names = self.disk.names();
        if names.is_empty() {
            return false;
        }
        let name = &names[rng.usize(..names.len())];
        let bytes = self.disk.bytes(name);
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        if used.is_empty() {
            return false;
        }
        let flipped = self.disk.copy();
        flipped.corrupt(name, used[rng.usize(..used.len())], 1 << rng.u32(0..8));
        let end = |disk| log_end(disk, settings).and_then(Result::ok);
        if end(flipped.copy()).is_some_and(|left| end(self.disk.copy()) != Some(left)) {
            return false;
        }
        self.disk = flipped;
        self.set_up_disk(settings, rng);
        self.is_flipped = true;
        true
    }

    /// Starts a process on what the disk holds.
    pub(super) fn start(
        &mut self,
        first: &[Record],
        settings: &Rc<Settings>,
        now: Instant,
        rng: &mut Rng,
    ) -> Start {
        self.life += 1;
        let options = self.options(settings);
        let segment_bytes = match self.sites.acts(Site::SmallSegments) {
            true => SEGMENT_BYTES_MIN,
            false => settings.segment_bytes,
        };
        let flipped = self.is_flipped;
        let opening = Opening { id: self.id, first, settings, segment_bytes, flipped };
        let opened = drive(&self.disk, opening.open(&self.disk, options, rng));
        match opened {
            None => Start::Lost,
            Some(Err(reason)) => Start::Refused(reason),
            Some(Ok((mut driver, file))) => {
                if let Err(fatal) = driver.campaign_if_alone() {
                    return Start::Refused(fatal.to_string());
                }
                (self.is_flipped, self.is_in_doubt) = (false, false);
                let (settings, sites) = (Rc::clone(settings), Rc::clone(&self.sites));
                let disk = self.disk.clone();
                let process = Process::new(self.id, settings, sites, driver, disk, file, now);
                self.process = Some(process);
                Start::Runs
            }
        }
    }

    fn options(&self, settings: &Settings) -> Options {
        let start = match settings.canary {
            Some(Canary::ReuseReadContext) => 1,
            _ => self.life,
        };
        Options {
            member: MemberId(self.id),
            election_ticks: settings.election_ticks,
            pre_vote: settings.pre_vote,
            alone: false,
            start,
            request_ticks: settings.patience / settings.tick,
            window_entries: match self.sites.acts(Site::NoWindow) {
                true => 0,
                false => settings.window_entries,
            },
            flow: self.flow(),
        }
    }

    fn flow(&self) -> Flow {
        if self.sites.acts(Site::NarrowFlow) {
            return Flow { message_bytes: 0, appends_in_flight: 2, apply_bytes: 1 };
        }
        Flow { message_bytes: MESSAGE_BYTES, ..Flow::default() }
    }
}

/// The last entry and the hard state of a log.
type LogEnd = (u64, Option<Vec<u8>>);

/// Where the log on a disk ends, or why it does not open. The disk is used up by that.
fn log_end(disk: MemoryDisk, settings: &Settings) -> Option<Result<LogEnd, String>> {
    let options = urd_wal::Options { segment_bytes: settings.segment_bytes, salt: 0 };
    let opened = drive(&disk, Log::open(disk.clone(), options))?;
    let opened = opened.map_err(|error| error.to_string());
    Some(opened.map(|(log, found)| (log.last_index(), found.hard_state)))
}

/// Runs what waits for a disk alone; `None` once the power is gone.
pub(super) fn drive<F: Future>(disk: &MemoryDisk, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if disk.crashed() {
            return None;
        }
    }
}

/// A start under way.
struct Opening<'a> {
    id: u64,
    first: &'a [Record],
    settings: &'a Settings,
    segment_bytes: u32,
    /// Whether all pages are verified, as an operator would.
    flipped: bool,
}

impl Opening<'_> {
    async fn open(
        &self,
        disk: &MemoryDisk,
        options: Options,
        rng: &mut Rng,
    ) -> Result<(MemberDriver, CheckpointFile<MemoryDisk>), String> {
        let mut opened =
            checkpoint::open(disk.clone(), CHECKPOINT).await.map_err(|error| error.to_string())?;
        if self.settings.canary == Some(Canary::ApplyTwice) && opened.checkpoint.is_some() {
            forget_last(&mut opened.tree);
        }
        // A page that is not what was written would stop the process where it is read first.
        if self.flipped {
            opened.tree.check().map_err(|damage| opened.tree.describe(&damage))?;
        }
        let store = match opened.checkpoint {
            Some(meta) if self.settings.canary != Some(Canary::ApplyTwice) => {
                Store::open_at(opened.tree, meta.stamp)
            }
            _ => Store::open(opened.tree),
        };
        let mut store = store.map_err(|fault| fault.to_string())?;
        let options_of_log =
            urd_wal::Options { segment_bytes: self.segment_bytes, salt: rng.u64(..) };
        let (mut log, mut recovered) =
            Log::open(disk.clone(), options_of_log).await.map_err(|error| error.to_string())?;
        match self.settings.canary {
            Some(Canary::LoseVote) => forget_vote(&mut recovered),
            Some(Canary::SkipTailCheck) => append_stale(&mut log, rng).await?,
            _ => {}
        }
        let is_first = self.first.iter().any(|member| member.id == self.id);
        if opened.checkpoint.is_none() && is_first && store.applied() == Index(0) {
            store.bootstrap(self.first);
        }
        let driver = MemberDriver::open(&options, log, &recovered, store)
            .map_err(|fatal| fatal.to_string())?;
        Ok((driver, opened.file))
    }
}

/// [`Canary::ApplyTwice`].
fn forget_last(tree: &mut Tree) {
    let Some(mut numbers) = tree.get(META_KEY).map(|numbers| numbers.to_vec()) else { return };
    if let Some(applied) = numbers.first_chunk_mut::<8>() {
        *applied = (u64::from_be_bytes(*applied) - 1).to_be_bytes();
    }
    tree.insert(META_KEY, &numbers, Counted::No);
    tree.publish();
}

/// [`Canary::LoseVote`].
fn forget_vote(recovered: &mut Recovered) {
    let state = recovered.hard_state.as_deref().map(entry::decode_hard_state);
    if let Some(Ok(mut state)) = state {
        state.vote = 0;
        recovered.hard_state = Some(entry::encode_hard_state(&state).to_vec());
    }
}

/// [`Canary::SkipTailCheck`].
async fn append_stale(log: &mut Log<MemoryDisk>, rng: &mut Rng) -> Result<(), String> {
    let (first, last) = (log.first_index(), log.last_index());
    if first >= last || rng.bool() {
        return Ok(());
    }
    let stale = rng.u64(first..last);
    let read = log.read(stale, stale + 1, 1).map_err(|error| error.to_string())?;
    let Some((_, payload)) = read.into_iter().next() else { return Ok(()) };
    let entry = urd_wal::Entry { index: last + 1, payload: [&payload[..], &[]] };
    let Ok(write) = log.append_waiting(Waiting::Thread, None, &[entry]) else { return Ok(()) };
    let completed = write.done.await.map_err(|error| error.to_string())?;
    log.completed(completed);
    Ok(())
}
