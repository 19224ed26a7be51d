//! The loop: take an input of the corpus, change it, run it, and keep it if something new came of it: a new
//! outcome, or in a build for [`coverage`](super::coverage) code that was not reached before.
//!
//! A panic is caught where the build lets panics unwind. Where they abort, as in a release build, the process ends with
//! the first one, but not before the panic hook has printed what is needed to run it again. What was found is made
//! shorter as long as the same happens, and printed in hexadecimal.
//!
//! A run that takes more than [`HANG_TIME`] of its thread's time is a finding too. One that does not come back within
//! [`LOST_TIME`] ends the process, by the hand of a thread that watches.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};

use super::coverage::Coverage;
use super::{Outcome, Target, outcome};

/// More of its thread's time than this is a hang.
pub const HANG_TIME: Duration = Duration::from_secs(1);
/// A run that takes longer by the wall's clock does not come back.
const LOST_TIME: Duration = Duration::from_secs(60);
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Different findings after which there is no point in going on.
const FINDINGS_MAX: usize = 20;
/// Inputs that are kept; beyond, a new one takes an old one's place.
const CORPUS_MAX: usize = 8192;
/// Changes made to an input at once, at most.
const CHANGES_MAX: u32 = 6;
/// Runs spent on making a finding shorter.
const SHORTENING_RUNS: usize = 2000;

/// How long to go on. Without a bound, until something ends the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Time.
    pub time: Option<Duration>,
    /// Runs.
    pub executions: Option<u64>,
    /// Print every line that is new, as it comes.
    pub tells: bool,
}

/// What happened that must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A panic: its message and place.
    Panic(String),
    /// A run that took so long.
    Hang(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "panic: {message}"),
            Self::Hang(time) => write!(f, "hang: {time:?}"),
        }
    }
}

impl Fault {
    /// Equal for what is most likely the same fault.
    fn kind(&self) -> String {
        match self {
            Self::Panic(message) => outcome::kind(message),
            Self::Hang(_) => "hang".to_owned(),
        }
    }
}

/// An input, and what it does.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What happened.
    pub fault: Fault,
    /// What it takes.
    pub input: Vec<u8>,
}

/// What the loop came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The target's name.
    pub target: &'static str,
    /// What the random numbers came from.
    pub seed: u64,
    /// Runs.
    pub executions: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Of that, the processor's time: less on a machine that has more to do.
    pub worked: Duration,
    /// Different lines that runs came to.
    pub outcomes: usize,
    /// What was kept.
    pub corpus: Vec<Vec<u8>>,
    /// Edges of the control flow that runs reached, of so many in the program; where they are counted.
    pub edges: Option<(usize, usize)>,
    /// Different things that must not happen.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { fault, input } in &self.findings {
            write!(f, "{}", describe(self.target, self.seed, fault, input))?;
        }
        let seconds = self.elapsed.as_secs_f64();
        let worked = self.worked.as_secs_f64().max(1e-9);
        write!(
            f,
            "{}: seed {}, {} executions in {seconds:.1} s, {worked:.1} s of them worked, {:.0}/s of those, {} outcomes, \
             {} inputs in the corpus, ",
            self.target,
            self.seed,
            self.executions,
            self.executions as f64 / worked,
            self.outcomes,
            self.corpus.len(),
        )?;
        if let Some((reached, all)) = self.edges {
            write!(f, "{reached} of {all} edges, ")?;
        }
        write!(f, "{} findings", self.findings.len())
    }
}

/// How a finding is printed.
fn describe(target: &str, seed: u64, fault: &Fault, input: &[u8]) -> String {
    format!("FOUND by {target}, seed {seed}: {fault}\n  input: {}\n", hex(input))
}

/// As findings are printed.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of what [`hex`] printed; blanks may stand anywhere.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| u8::try_from(character.to_digit(16)?).ok())
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// What a thread is running, for the panic hook.
struct Current {
    target: &'static str,
    seed: u64,
    input: Vec<u8>,
    message: Option<String>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Panics of runs are told by the loop; all others as before.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CURRENT.with_borrow_mut(|current| note_panic(current.as_mut(), info)) {
                before(info);
            }
        }));
    });
}

fn note_panic(current: Option<&mut Current>, info: &PanicHookInfo<'_>) -> bool {
    let Some(Current { target, seed, input, message }) = current else { return false };
    let text = info.payload_as_str().unwrap_or("a panic without a text");
    let place = info.location().map_or_else(String::new, |location| {
        // Where the sources of dependencies lie is the machine's affair.
        let file = location.file().rsplit_once("/src/index").map_or(location.file(), |it| it.1);
        format!(" ({file}:{})", location.line())
    });
    let text = format!("{text}{place}");
    if cfg!(panic = "abort") {
        eprint!("{}", describe(target, *seed, &Fault::Panic(text.clone()), input));
    }
    *message = Some(text);
    true
}

/// Runs one input, and catches what it does.
pub fn execute(target: &dyn Target, seed: u64, input: &[u8]) -> Result<Outcome, Fault> {
    install_hook();
    let current = Current { target: target.name(), seed, input: input.to_vec(), message: None };
    CURRENT.set(Some(current));
    let begin = thread_time();
    let ran = panic::catch_unwind(AssertUnwindSafe(|| target.run(input)));
    let time = thread_time().saturating_sub(begin);
    let current = CURRENT.take();
    match ran {
        Ok(_) if time > HANG_TIME => Err(Fault::Hang(time)),
        Ok(outcome) => Ok(outcome),
        Err(_) => {
            let message = current.and_then(|current| current.message);
            Err(Fault::Panic(message.unwrap_or_else(|| "a panic without a text".to_owned())))
        }
    }
}

/// A busy machine must not look like a hang.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Ends the process when a run does not come back.
struct Watch {
    running: Arc<Mutex<(Instant, Vec<u8>)>>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn new(target: &'static str, seed: u64) -> Self {
        let running = Arc::new(Mutex::new((Instant::now(), Vec::new())));
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = Self { running: Arc::clone(&running), is_over: Arc::clone(&is_over) };
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(WATCH_INTERVAL);
                let Ok(running) = running.lock() else { return };
                let (since, input) = &*running;
                if since.elapsed() > LOST_TIME && !is_over.load(Ordering::Relaxed) {
                    eprint!("{}", describe(target, seed, &Fault::Hang(since.elapsed()), input));
                    process::abort();
                }
            }
        });
        watch
    }

    fn begin(&self, input: &[u8]) {
        if let Ok(mut running) = self.running.lock() {
            running.0 = Instant::now();
            running.1.clear();
            running.1.extend_from_slice(input);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The loop's state.
struct Loop<'a> {
    target: &'a dyn Target,
    seed: u64,
    random: Rng,
    watch: Watch,
    corpus: Vec<Vec<u8>>,
    outcomes: HashSet<u64>,
    coverage: Coverage,
    executions: u64,
    tells: bool,
    known: HashSet<String>,
    findings: Vec<Finding>,
}

/// Runs `target` within `bounds`. The same seed and number of executions do the same, unless edges are counted: which
/// ones a hash map or a machine's processor takes is not in the seed. `earlier` is what another run has kept.
pub fn run(target: &dyn Target, seed: u64, bounds: Bounds, earlier: Vec<Vec<u8>>) -> Report {
    let (begin, worked_before) = (Instant::now(), thread_time());
    let mut state = Loop {
        target,
        seed,
        random: Rng::with_seed(seed),
        watch: Watch::new(target.name(), seed),
        corpus: Vec::new(),
        outcomes: HashSet::new(),
        coverage: Coverage::default(),
        executions: 0,
        tells: bounds.tells,
        known: HashSet::new(),
        findings: Vec::new(),
    };
    for input in target.seeds() {
        // Seeds stay whatever they come to: they are what others are made of.
        state.corpus.push(input.clone());
        state.try_input(input);
    }
    for input in earlier {
        state.try_input(input);
    }
    while state.findings.len() < FINDINGS_MAX
        && bounds.time.is_none_or(|time| begin.elapsed() < time)
        && bounds.executions.is_none_or(|executions| state.executions < executions)
    {
        let input = state.next_input();
        state.try_input(input);
    }
    Report {
        target: target.name(),
        seed,
        executions: state.executions,
        elapsed: begin.elapsed(),
        worked: thread_time().saturating_sub(worked_before),
        outcomes: state.outcomes.len(),
        corpus: state.corpus,
        edges: state.coverage.edges(),
        findings: state.findings,
    }
}

impl Loop<'_> {
    fn next_input(&mut self) -> Vec<u8> {
        let Self { random, corpus, target, .. } = self;
        if corpus.is_empty() {
            corpus.push(Vec::new());
        }
        // What joined lately has been tried least.
        let recent = corpus.len() / 4;
        let at = match random.bool() {
            true => random.usize(corpus.len() - recent - 1..corpus.len()),
            false => random.usize(..corpus.len()),
        };
        let mut input = corpus[at].clone();
        let mut changes = 1;
        while changes < CHANGES_MAX && random.bool() {
            changes += 1;
        }
        for _ in 0..changes {
            let other = random.usize(..corpus.len());
            target.mutate(&mut input, &corpus[other], random);
        }
        input.truncate(target.bytes_max());
        input
    }

    fn try_input(&mut self, input: Vec<u8>) {
        self.executions += 1;
        self.watch.begin(&input);
        self.coverage.begin();
        let executed = execute(self.target, self.seed, &input);
        let reaches_more = self.coverage.end();
        match executed {
            Ok(outcome) => {
                let is_new = self.outcomes.insert(outcome.hash());
                if is_new && self.tells {
                    eprintln!("{}: {outcome}", self.target.name());
                }
                // Edges tell more than outcomes, of which there may be one for every way to put requests together.
                let is_kept = if self.coverage.edges().is_some() { reaches_more } else { is_new };
                if is_kept {
                    self.keep(input);
                }
            }
            Err(fault) => {
                if self.known.insert(fault.kind()) {
                    let finding = self.shorten(fault, input);
                    eprint!(
                        "{}",
                        describe(self.target.name(), self.seed, &finding.fault, &finding.input)
                    );
                    self.findings.push(finding);
                }
            }
        }
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.corpus.len() < CORPUS_MAX {
            self.corpus.push(input);
        } else {
            let at = self.random.usize(..self.corpus.len());
            self.corpus[at] = input;
        }
    }

    /// Leaves out what the fault does not need.
    fn shorten(&mut self, mut fault: Fault, mut input: Vec<u8>) -> Finding {
        let kind = fault.kind();
        let mut runs = if matches!(fault, Fault::Panic(_)) { SHORTENING_RUNS } else { 0 };
        let mut piece = input.len() / 2;
        while piece > 0 && runs > 0 {
            let mut at = 0;
            while at < input.len() && runs > 0 {
                runs -= 1;
                let mut shorter = input.clone();
                shorter.drain(at..(at + piece).min(input.len()));
                self.watch.begin(&shorter);
                match execute(self.target, self.seed, &shorter) {
                    Err(again) if again.kind() == kind => (fault, input) = (again, shorter),
                    _ => at += piece,
                }
            }
            piece /= 2;
        }
        Finding { fault, input }
    }
}
