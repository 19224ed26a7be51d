//! Simulated clusters, seed after seed: see [`urd_tools::simulator`].

use std::cell::Cell;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use urd_tools::simulator::scenarios::{self, Scenario};
use urd_tools::simulator::{Canary, Failure, Report, Settings, run};

/// Runs simulated clusters with faults, and judges what their clients and watchers saw.
///
/// Each run comes from one number, its seed, which is printed when something is violated: the same seed gives the same run
/// at the same commit.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// How many seeds to run, from the first one on
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// Run for so long instead, however many seeds that takes
    #[arg(long)]
    hours: Option<f64>,

    /// Plant a bug, and stop at the first seed that finds it
    #[arg(long)]
    canary: Option<Canary>,

    /// Run what once went wrong in etcd instead: a name, or "list"
    #[arg(long, conflicts_with = "canary")]
    scenario: Option<String>,

    /// Seeds to run at once; 0 for as many as there are processors
    #[arg(long, default_value_t = 0)]
    threads: usize,

    /// Print what clients asked and heard when something is violated, and all events
    #[arg(long)]
    history: bool,

    /// Print what a seed draws, and do not run it
    #[arg(long)]
    settings: bool,
}

thread_local! {
    /// The seed that this thread runs.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// What is made of a seed.
#[derive(Clone, Copy)]
enum Plan {
    Drawn(Option<Canary>),
    Scenario(&'static Scenario),
}

impl Plan {
    fn of(arguments: &Arguments) -> Result<Plan, ()> {
        let Some(name) = &arguments.scenario else { return Ok(Plan::Drawn(arguments.canary)) };
        Scenario::find(name).map(Plan::Scenario).ok_or_else(|| {
            eprintln!("scenarios:");
            scenarios::ALL.iter().for_each(|scenario| eprintln!("  {}", scenario.name));
        })
    }

    fn settings(self, seed: u64) -> Settings {
        match self {
            Plan::Drawn(canary) => Settings::of(seed, canary),
            Plan::Scenario(scenario) => scenario.settings(seed),
        }
    }
}

/// What the threads share.
struct Shared {
    next: AtomicU64,
    /// No seed from here on.
    end: AtomicU64,
    until: Option<Instant>,
    sum: Mutex<(u64, Report)>,
    found: Mutex<Option<(u64, Box<Failure>)>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Ok(plan) = Plan::of(&arguments) else { return ExitCode::FAILURE };
    if arguments.settings {
        println!("{:#?}", plan.settings(arguments.seed));
        return ExitCode::SUCCESS;
    }
    // A release build aborts where the code finds itself wrong: its seed must be known by then.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        eprintln!("seed {}:", SEED.get());
        usual(info);
    }));
    let begin = Instant::now();
    let shared = Shared {
        next: AtomicU64::new(arguments.seed),
        end: AtomicU64::new(match arguments.hours {
            Some(_) => u64::MAX,
            None => arguments.seed.saturating_add(arguments.seeds),
        }),
        until: arguments
            .hours
            .map(|hours| begin + Duration::from_secs_f64(hours.max(0.0) * 3600.0)),
        sum: Mutex::default(),
        found: Mutex::default(),
    };
    println!("seeds from {} on", arguments.seed);
    let threads = match arguments.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&shared, plan));
        }
    });
    let (seeds, report) = shared.sum.into_inner().unwrap_or_default();
    print(seeds, &report, begin.elapsed());
    let found = shared.found.into_inner().unwrap_or_default();
    if arguments.history
        && let Some((_, failure)) = &found
    {
        print_history(failure);
    }
    match (&found, arguments.canary) {
        (Some((seed, failure)), _) => println!("seed {seed}: {failure}"),
        (None, Some(canary)) => println!("{canary:?} was not found"),
        (None, None) => println!("nothing was violated"),
    }
    if found.is_some() == arguments.canary.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one seed after another.
fn work(shared: &Shared, plan: Plan) {
    loop {
        let seed = shared.next.fetch_add(1, SeqCst);
        let is_over = shared.until.is_some_and(|until| Instant::now() >= until);
        if seed >= shared.end.load(SeqCst) || is_over {
            return;
        }
        SEED.set(seed);
        match run(plan.settings(seed)) {
            Ok(report) => {
                if let Ok(mut sum) = shared.sum.lock() {
                    sum.0 += 1;
                    sum.1 += &report;
                }
            }
            Err(failure) => {
                shared.end.fetch_min(seed, SeqCst);
                if let Ok(mut found) = shared.found.lock()
                    && found.as_ref().is_none_or(|(other, _)| seed < *other)
                {
                    *found = Some((seed, failure));
                }
                return;
            }
        }
    }
}

fn print(seeds: u64, report: &Report, took: Duration) {
    let simulated = Duration::from_micros(report.simulated);
    println!(
        "{seeds} seeds in {:.1} s: {:.1} h simulated, {:.0} h an hour",
        took.as_secs_f64(),
        simulated.as_secs_f64() / 3600.0,
        simulated.as_secs_f64() / took.as_secs_f64().max(0.001)
    );
    println!(
        "{} requests, {} revisions, {} changes of v2, {} events watched, {} starts, {} states taken over, {} changes of members",
        report.operations,
        report.revisions,
        report.v2_changes,
        report.events_watched,
        report.starts,
        report.states_taken,
        report.changes_of_members
    );
    let [lost, doubled, late] = report.messages;
    println!("messages: {lost} lost, {doubled} doubled, {late} late");
    let [refused, alarms, made] = report.space;
    println!(
        "space: {refused} requests refused, {alarms} alarms raised by members, room was made {made} times"
    );
    println!("faults:");
    for (fault, count) in &report.faults {
        println!("{count:>9} {fault:?}");
    }
    println!("done at sites:");
    for (site, count) in &report.sites {
        println!("{count:>9} {site:?}");
    }
}

fn print_history(failure: &Failure) {
    for (nth, operation) in failure.history.iter().enumerate() {
        println!("{nth}: {operation}");
    }
    for (revision, events) in &failure.events {
        println!("revision {revision}: {events:?}");
    }
}
