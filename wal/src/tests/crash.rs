//! The power cut, at every operation of a run.
//!
//! A run appends, replaces, trims, jumps and restarts with several writes in flight that complete in any
//! order, beside the preparation of segments. It is repeated with the power cut, or the process
//! killed, at each of its operations. What is found afterwards must be the state after some one
//! write, not before the last that was acknowledged. Then the log is used again, first to append
//! what was lost with the very same bytes, until it is interrupted a second time.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::disk::memory::Survival;
use crate::{AppendError, Prepared, Waiting};

/// What the log contains after some write, as if nothing were ever trimmed.
#[derive(Clone, Debug, Default)]
struct State {
    entries: BTreeMap<u64, Rc<Vec<u8>>>,
    last: u64,
    hard_state: Option<Vec<u8>>,
}

impl State {
    fn restart(&mut self, index: u64) {
        self.entries.clear();
        self.last = index;
    }

    fn put(&mut self, index: u64, payload: Rc<Vec<u8>>) {
        self.entries.split_off(&index);
        self.entries.insert(index, payload);
        self.last = index;
    }
}

/// What is known about a log: its state after each write, and which of them must have survived.
struct Model {
    states: Vec<State>,
    acknowledged: usize,
    trimmed: u64,
    /// A restart that the next write makes durable.
    restart: Option<u64>,
}

impl Model {
    fn new(state: State, trimmed: u64) -> Model {
        Model { states: vec![state], acknowledged: 0, trimmed, restart: None }
    }

    fn last(&self) -> &State {
        self.states.last().expect("there is one")
    }

    /// The state that was recovered.
    fn recognise(&self, log: &Log<MemoryDisk>, recovered: &Recovered) -> State {
        let entries = read_all(log);
        let same = |state: &&State| {
            state.last == recovered.last
                && state.hard_state == recovered.hard_state
                && entries.iter().all(|(index, payload)| {
                    state.entries.get(index).is_some_and(|expected| **expected == *payload)
                })
        };
        let state = self.states[self.acknowledged..].iter().find(same);
        let state = state.unwrap_or_else(|| {
            panic!(
                "recovered {}..={}, hard state {:?}, which is no state after write {}: {:?}",
                recovered.first,
                recovered.last,
                recovered.hard_state,
                self.acknowledged,
                self.states[self.acknowledged..]
                    .iter()
                    .map(|state| (state.last, &state.hard_state))
                    .collect::<Vec<_>>(),
            )
        });
        assert!(
            recovered.first <= self.trimmed.max(1),
            "entries from {} on are gone, only those before {} were trimmed",
            recovered.first,
            self.trimmed
        );
        assert_eq!(entries.len() as u64, recovered.last + 1 - recovered.first);
        state.clone()
    }
}

enum Done {
    Written(Completed),
    Prepared(Prepared<MemoryDisk>),
}

type Task = Pin<Box<dyn Future<Output = Done>>>;

fn poll_once<T>(future: Pin<&mut (dyn Future<Output = T> + '_)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future until it is done or the power is cut.
fn until_crash<T>(disk: &MemoryDisk, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    loop {
        match poll_once(future.as_mut()) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if disk.crashed() => return None,
            Poll::Pending => {}
        }
    }
}

/// A log in use.
struct Run {
    disk: MemoryDisk,
    log: Log<MemoryDisk>,
    model: Model,
    random: fastrand::Rng,
    tasks: Vec<Task>,
    version: u64,
}

const IN_FLIGHT_MAX: usize = 4;

impl Run {
    fn step(&mut self) {
        self.prepare();
        if self.log.in_flight() < IN_FLIGHT_MAX && self.random.bool() {
            self.change();
        }
        self.poll();
    }

    fn prepare(&mut self) {
        if let Some(work) = self.log.prepare() {
            self.tasks.push(Box::pin(async { Done::Prepared(work.run().await) }));
        }
    }

    fn poll(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let nth = self.random.usize(..self.tasks.len());
        match poll_once(self.tasks[nth].as_mut()) {
            Poll::Pending => return,
            Poll::Ready(Done::Written(completed)) => {
                let durable = self.log.completed(completed);
                self.model.acknowledged = durable.0 as usize;
            }
            Poll::Ready(Done::Prepared(prepared)) => {
                self.log.prepared(prepared).expect("prepares");
            }
        }
        drop(self.tasks.swap_remove(nth));
    }

    fn change(&mut self) {
        let (first, last) = (self.log.first_index(), self.log.last_index());
        let mut hard_state = None;
        let some = 1 + self.random.u64(..3);
        let back = self.random.u64(..5);
        let entries = match self.random.u32(..100) {
            0..60 => self.make(last + 1, some),
            60..70 => Vec::new(),
            70..82 if last >= first => self.make(first.max(last.saturating_sub(back)), some),
            82..92 if last >= first => return self.trim(first + back * (last + 1 - first) / 4),
            92..94 => return self.trim(last + 2 + back),
            94..97 => return self.restart((last + back).saturating_sub(6)),
            _ => return self.vouch(),
        };
        if entries.is_empty() || self.random.u32(..5) == 0 {
            hard_state = Some(format!("hard state {}", self.random.u32(..)).into_bytes());
        }
        self.append(hard_state, &entries);
    }

    fn trim(&mut self, index: u64) {
        if index > self.log.last_index() + 1 {
            self.model.restart = Some(index - 1);
        }
        self.log.trim_prefix(index);
        self.model.trimmed = self.model.trimmed.max(index);
    }

    fn restart(&mut self, index: u64) {
        self.log.restart(index);
        self.model.restart = Some(index);
        self.model.trimmed = self.model.trimmed.max(index + 1);
    }

    fn make(&mut self, first: u64, count: u64) -> Vec<(u64, Rc<Vec<u8>>)> {
        self.version += 1;
        let mut entries = Vec::new();
        for index in first..first + count {
            let bytes = self.random.usize(..1800);
            entries.push((index, Rc::new(payload(index, self.version, bytes))));
        }
        entries
    }

    /// False when there was no room yet.
    fn append(&mut self, hard_state: Option<Vec<u8>>, entries: &[(u64, Rc<Vec<u8>>)]) -> bool {
        let borrowed: Vec<_> = entries
            .iter()
            .map(|(index, payload)| Entry { index: *index, payload: [payload, &[]] })
            .collect();
        let waiting = if self.random.u32(..4) == 0 { Waiting::Thread } else { Waiting::Task };
        let write = match self.log.append_waiting(waiting, hard_state.as_deref(), &borrowed) {
            Ok(write) => write,
            Err(AppendError::NotReady) => return false,
            Err(error) => panic!("{error}"),
        };
        let mut state = self.model.last().clone();
        state.hard_state = hard_state.or(state.hard_state);
        if let Some(index) = self.model.restart.take() {
            state.restart(index);
        }
        for (index, payload) in entries {
            state.put(*index, payload.clone());
        }
        self.model.states.push(state);
        self.begin(write);
        true
    }

    fn vouch(&mut self) {
        if let Some(write) = self.log.vouch() {
            self.model.states.push(self.model.last().clone());
            self.begin(write);
        }
    }

    fn begin<F>(&mut self, write: Write<F>)
    where
        F: Future<Output = Result<Completed, WriteError>> + 'static,
    {
        assert_eq!(write.number.0 as usize + 1, self.model.states.len());
        let done = write.done;
        let disk = self.disk.clone();
        self.tasks.push(Box::pin(async move {
            match done.await {
                Ok(completed) => Done::Written(completed),
                Err(_) if disk.crashed() => pending().await,
                Err(error) => panic!("{error}"),
            }
        }));
    }

    /// Lets everything that has begun come to its end.
    fn settle(&mut self) {
        while !self.tasks.is_empty() && !self.disk.crashed() {
            self.poll();
        }
    }
}

/// The run that is interrupted, until its end or the power cut.
fn first_run(seed: u64, steps: usize, crash_at: Option<u64>) -> (MemoryDisk, Model) {
    // Blocks of one sector, which tear only as a whole, or of two.
    let disk = MemoryDisk::new(BLOCK << (seed & 1));
    disk.set_latency(6, seed);
    if let Some(operation) = crash_at {
        disk.crash_at(operation);
    }
    let opened = until_crash(&disk, Log::open(disk.clone(), options()));
    let Some((log, _)) = opened.transpose().expect("opens") else {
        return (disk, Model::new(State::default(), 1));
    };
    let mut run = Run {
        disk: disk.clone(),
        log,
        model: Model::new(State::default(), 1),
        random: fastrand::Rng::with_seed(seed),
        tasks: Vec::new(),
        version: 0,
    };
    for _ in 0..steps {
        if disk.crashed() {
            break;
        }
        run.step();
    }
    run.settle();
    if !disk.crashed() {
        check(&run.log);
    }
    (disk, run.model)
}

/// What an interruption leaves.
fn interrupt(disk: &MemoryDisk, random: &mut fastrand::Rng) -> MemoryDisk {
    match random.usize(..Survival::ALL.len() + 2) {
        nth if nth < Survival::ALL.len() => disk.after_crash(Survival::ALL[nth], random.u64(..)),
        _ => disk.after_kill(random.u64(..)),
    }
}

/// Opens what an interruption left, checks it, and uses it until the next interruption.
fn second_run(disk: MemoryDisk, before: &Model, random: &mut fastrand::Rng) -> (MemoryDisk, Model) {
    disk.set_latency(6, random.u64(..));
    let (log, recovered) = block_on(Log::open(disk.clone(), Options { salt: 8, ..options() }))
        .unwrap_or_else(|error| panic!("{error}"));
    block_on(log.check()).expect("sound");
    let state = before.recognise(&log, &recovered);
    let lost: Vec<_> = before
        .last()
        .entries
        .range(recovered.last + 1..)
        .take_while({
            let mut next = recovered.last;
            move |(index, _)| {
                next += 1;
                **index == next
            }
        })
        .map(|(index, payload)| (*index, payload.clone()))
        .collect();
    let mut run = Run {
        disk: disk.clone(),
        log,
        model: Model::new(state, before.trimmed),
        random: random.fork(),
        tasks: Vec::new(),
        version: 1000,
    };
    disk.crash_at(disk.operations() + random.u64(..60));
    for entries in lost.chunks(2) {
        while !disk.crashed() && !run.append(None, entries) {
            run.prepare();
            run.poll();
        }
        if disk.crashed() {
            break;
        }
    }
    for _ in 0..60 {
        if disk.crashed() {
            break;
        }
        run.step();
    }
    (disk, run.model)
}

fn crash_at_every_operation(seed: u64) {
    const STEPS: usize = 220;
    let (disk, model) = first_run(seed, STEPS, None);
    let operations = disk.operations();
    assert!(model.states.len() > 20 && operations > 50, "a run worth interrupting");
    let mut opened = 0;
    for operation in 0..operations {
        let (disk, model) = first_run(seed, STEPS, Some(operation));
        let mut random = fastrand::Rng::with_seed(seed << 32 | operation);
        for kind in 0..Survival::ALL.len() + 2 {
            let image = match Survival::ALL.get(kind) {
                Some(survival) => disk.after_crash(*survival, random.u64(..)),
                None => disk.after_kill(random.u64(..)),
            };
            let context = format!("seed {seed}, interrupted at operation {operation}, kind {kind}");
            let guard = OnPanic(&context);
            let (disk, model) = second_run(image, &model, &mut random);
            let image = interrupt(&disk, &mut random);
            let (log, recovered) =
                block_on(Log::open(image, options())).unwrap_or_else(|error| panic!("{error}"));
            model.recognise(&log, &recovered);
            block_on(log.check()).expect("sound");
            std::mem::forget(guard);
            opened += 2;
        }
    }
    println!("seed {seed}: {operations} operations, {opened} openings after an interruption");
}

/// Says which run it was when it fails.
struct OnPanic<'a>(&'a str);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

#[test]
fn nothing_acknowledged_is_lost_seed_1() {
    crash_at_every_operation(1);
}

#[test]
fn nothing_acknowledged_is_lost_seed_2() {
    crash_at_every_operation(2);
}

#[test]
fn nothing_acknowledged_is_lost_seed_3() {
    crash_at_every_operation(3);
}

/// For whoever changes the format or the order of steps.
#[test]
#[ignore = "takes minutes"]
fn nothing_acknowledged_is_lost_many_seeds() {
    for seed in 100..200 {
        crash_at_every_operation(seed);
    }
}

/// The offline check sees the same as the log does.
#[test]
fn a_run_without_an_interruption_is_sound() {
    for seed in 10..20 {
        let (disk, model) = first_run(seed, 400, None);
        let checked = block_on(crate::check(&disk)).expect("sound");
        assert_eq!(checked.last, model.last().last, "seed {seed}");
    }
}
