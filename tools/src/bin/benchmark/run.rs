//! A run: plan the connections, connect all of them, start all threads at once, add up.
//!
//! The clock starts when every connection stands, so connecting is in no latency; nor is what a
//! scenario sets up before its load.

use crate::args::{Cli, WorkloadArgs};
use crate::arrivals::Arrivals;
use crate::control;
use crate::failover::{FailoverPlan, Served};
use crate::load::{LinePlan, Link, Load};
use crate::progress::Progress;
use crate::record::Record;
use crate::scenarios::site::{Method, Site, SitePlan};
use crate::scenarios::{self, Scenario};
use crate::workload::Workload;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::time::{ClockId, clock_gettime};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::request_head::RequestHead;
use urd_tools::grpc::transport::TransportError;
use urd_tools::report::{Failover, Latency, Report, histogram_pairs};

/// Connections being made at once by a thread: a listener's backlog is bounded.
const CONNECTING_MAX: usize = 64;

/// What is to be run.
pub(crate) enum Task {
    /// Requests that are all alike, which [`load`](crate::load) carries.
    Alike(Workload),
    /// What takes several steps, or streams.
    Scenario(Arc<dyn Scenario>),
}

/// One thread's part; none if another thread could not start.
type Job = Box<dyn FnOnce(&Arc<Arrivals>, &Arc<Gate>) -> Result<Option<Record>, String> + Send>;

/// What a thread of requests that are all alike is to do.
struct ThreadPlan {
    lines: Vec<LinePlan>,
    workload: Workload,
    spin: Duration,
    compaction: Option<Compaction>,
    failover: Option<FailoverPlan>,
}

/// `--compact-interval` and `--compact-index-delta`, at one server.
#[derive(Clone)]
struct Compaction {
    endpoint: Endpoint,
    interval: Duration,
    delta: i64,
}

/// How the threads start together.
pub(crate) struct Gate {
    barrier: Barrier,
    /// A thread could not connect: none starts.
    failed: AtomicBool,
    begin: OnceLock<Begin>,
}

/// Clocks at the start.
#[derive(Clone, Copy)]
struct Begin {
    cpu: Duration,
    unix_seconds: u64,
}

impl Task {
    /// An error is a sentence about what is asked for and makes no sense.
    pub(crate) fn new(cli: &Cli) -> Result<Task, String> {
        let alike = match &cli.workload {
            WorkloadArgs::Put(put) => Some(Workload::put(put, cli.common.seed)?),
            WorkloadArgs::Range(range) if cli.workload.is_alike() => Some(Workload::range(range)),
            _ => None,
        };
        match alike {
            Some(workload) => Ok(Task::Alike(workload)),
            None => Ok(Task::Scenario(scenarios::new(cli)?)),
        }
    }

    fn paths(&self) -> &[&'static str] {
        match self {
            Task::Alike(workload) => std::slice::from_ref(&workload.path),
            Task::Scenario(_) => &Method::PATHS,
        }
    }
}

/// Runs as asked for: with connections to `endpoints`, which may later go to `others` too.
pub(crate) fn run(
    cli: &Cli,
    endpoints: &[Endpoint],
    others: &[Endpoint],
    task: Task,
) -> Result<Report, String> {
    let arrivals = Arc::new(Arrivals::new(cli.total(), cli.rate(), cli.common.duration));
    let lines = lines(cli, endpoints, task.paths())?;
    let failover = match cli.common.survive_failover {
        true => Some(failover(cli, others, task.paths())?),
        false => None,
    };
    let threads = lines.len();
    let (spin, conns) = (cli.common.spin, cli.common.conns as usize);
    let mut compaction = compaction(&cli.workload, endpoints);
    let job = |(thread, lines): (usize, Vec<LinePlan>)| -> Job {
        match &task {
            Task::Alike(workload) => {
                let (workload, compaction) = (workload.clone(), compaction.take());
                let failover = failover.clone();
                let plan = ThreadPlan { lines, workload, spin, compaction, failover };
                Box::new(move |arrivals, gate| load_thread(plan, arrivals.clone(), gate))
            }
            Task::Scenario(scenario) => {
                let plan = SitePlan { thread, threads, conns, lines };
                let scenario = scenario.clone();
                Box::new(move |arrivals, gate| site_thread(plan, spin, scenario, arrivals, gate))
            }
        }
    };
    let jobs: Vec<Job> = lines.into_iter().enumerate().map(job).collect();

    let progress = Progress::start(arrivals.clone());
    let done = on_threads(jobs, &arrivals);
    progress.stop();
    let cpu_end = process_cpu();
    let (record, begin) = done?;
    let longest = failover.map(|plan| plan.served.longest_without_ns(record.end_ns));
    Ok(report(cli, endpoints, threads, record, longest, begin, cpu_end))
}

/// Runs each job on a thread of its own, and adds up.
fn on_threads(jobs: Vec<Job>, arrivals: &Arc<Arrivals>) -> Result<(Record, Begin), String> {
    let gate = Arc::new(Gate {
        barrier: Barrier::new(jobs.len()),
        failed: AtomicBool::new(false),
        begin: OnceLock::new(),
    });
    let start = |job: Job| {
        let (arrivals, gate) = (arrivals.clone(), gate.clone());
        thread::spawn(move || job(&arrivals, &gate))
    };
    let handles: Vec<_> = jobs.into_iter().map(start).collect();
    let mut record = Record::new();
    let mut first_error = None;
    for handle in handles {
        let joined = handle.join().unwrap_or_else(|_| Err("a load thread panicked".into()));
        match joined {
            Ok(Some(of_thread)) => record.merge(of_thread),
            Ok(None) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match (first_error, gate.begin.get()) {
        (Some(error), _) => Err(error),
        (None, None) => Err("the load threads did not start".into()),
        (None, Some(begin)) => Ok((record, *begin)),
    }
}

/// The connections of each thread. Client *k* uses connection *k* modulo their number, connection
/// *c* goes to endpoint and thread *c* modulo theirs.
fn lines(
    cli: &Cli,
    endpoints: &[Endpoint],
    paths: &[&'static str],
) -> Result<Vec<Vec<LinePlan>>, String> {
    let (conns, clients) = (cli.common.conns as usize, cli.common.clients as usize);
    let threads = conns.min(cli.common.threads as usize);
    let dials = endpoints.iter().map(|endpoint| dial(cli, endpoint, paths));
    let dials: Vec<Dial> = dials.collect::<Result<_, String>>()?;
    let mut lines = vec![Vec::new(); threads];
    for conn in 0..conns {
        let dial = dials[conn % dials.len()].clone();
        let clients = clients / conns + usize::from(conn < clients % conns);
        lines[conn % threads].push(LinePlan { dial, clients });
    }
    Ok(lines)
}

fn dial(cli: &Cli, endpoint: &Endpoint, paths: &[&'static str]) -> Result<Dial, String> {
    let address = endpoint.resolve().map_err(|error| error.to_string())?;
    let head = RequestHead::new(&endpoint.authority, paths)
        .ok_or_else(|| format!("{}: host name too long", endpoint.authority))?;
    Ok(Dial { address, head, timeout: cli.common.dial_timeout() })
}

fn failover(
    cli: &Cli,
    endpoints: &[Endpoint],
    paths: &[&'static str],
) -> Result<FailoverPlan, String> {
    let place = |endpoint: &Endpoint| Ok((endpoint.clone(), dial(cli, endpoint, paths)?));
    Ok(FailoverPlan {
        places: endpoints.iter().map(place).collect::<Result<_, String>>()?,
        target_leader: cli.common.target_leader,
        served: Arc::new(Served::default()),
    })
}

fn compaction(workload: &WorkloadArgs, endpoints: &[Endpoint]) -> Option<Compaction> {
    match workload {
        WorkloadArgs::Put(put) if !put.compact_interval.is_zero() => Some(Compaction {
            endpoint: endpoints[0].clone(),
            interval: put.compact_interval,
            delta: put.compact_index_delta,
        }),
        _ => None,
    }
}

/// One thread's part of a scenario; none if another could not start.
fn site_thread(
    plan: SitePlan,
    spin: Duration,
    scenario: Arc<dyn Scenario>,
    arrivals: &Arc<Arrivals>,
    gate: &Arc<Gate>,
) -> Result<Option<Record>, String> {
    let executor = executor(spin).inspect_err(|_| gate.fail())?;
    executor.run(async {
        let site = Site::open(plan, arrivals.clone(), gate.clone());
        let site = site.await.inspect_err(|_| gate.fail())?;
        site.run(scenario).await
    })
}

/// One thread's part of requests that are all alike; none if another could not connect.
fn load_thread(
    plan: ThreadPlan,
    arrivals: Arc<Arrivals>,
    gate: &Gate,
) -> Result<Option<Record>, String> {
    let executor = executor(plan.spin).inspect_err(|_| gate.fail())?;
    executor.run(async {
        let connected =
            connect_all(&plan.lines, |dial: Dial| async move { Link::connect(&dial).await });
        let links = connected.await.inspect_err(|_| gate.fail())?;
        if !gate.pass(&arrivals) {
            return Ok(None);
        }
        let load = Load::new(arrivals, plan.workload, plan.lines, plan.failover);
        let compaction = plan.compaction.map(|c| glommio::spawn_local(compact(load.clone(), c)));
        let record = load.run(links).await;
        if let Some(compaction) = compaction {
            compaction.cancel().await;
        }
        Ok(Some(record))
    })
}

impl Gate {
    /// This thread does not start.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.barrier.wait();
    }

    /// Waits for the other threads; false if one failed.
    pub(crate) fn pass(&self, arrivals: &Arrivals) -> bool {
        self.barrier.wait();
        if self.failed.load(Ordering::SeqCst) {
            return false;
        }
        self.begin.get_or_init(|| {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Begin { cpu: process_cpu(), unix_seconds: unix.as_secs() }
        });
        arrivals.start();
        true
    }
}

/// An executor, or what to do so that there can be one.
pub(crate) fn executor(spin: Duration) -> Result<glommio::LocalExecutor, String> {
    /// Load uses no files, so no buffers for them.
    const IO_MEMORY_BYTES: usize = 64 * 1024;
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .name("load")
        .io_memory(IO_MEMORY_BYTES)
        .spin_before_park(spin);
    builder.make().map_err(|error| {
        format!(
            "cannot set up io_uring: {error}\n\
             It needs Linux 5.8 or newer, io_uring not disabled (sysctl kernel.io_uring_disabled=0, \
             and a container's seccomp profile must allow it), and locked memory of at least \
             512 KiB (ulimit -l)."
        )
    })
}

/// Connects everywhere, many at once.
pub(crate) async fn connect_all<T: 'static, F: Future<Output = Result<T, TransportError>>>(
    plans: &[LinePlan],
    connect: impl Fn(Dial) -> F + Clone + 'static,
) -> Result<Vec<T>, String> {
    let mut connected = Vec::with_capacity(plans.len());
    for chunk in plans.chunks(CONNECTING_MAX) {
        let begin = |plan: &LinePlan| {
            let (connect, dial) = (connect.clone(), plan.dial.clone());
            glommio::spawn_local(async move { connect(dial).await })
        };
        let connecting: Vec<_> = chunk.iter().map(begin).collect();
        for connection in connecting {
            connected.push(connection.await.map_err(|error| error.to_string())?);
        }
    }
    Ok(connected)
}

async fn compact(load: Rc<Load>, compaction: Compaction) {
    loop {
        Timer::new(compaction.interval).await;
        if let Err(error) = control::compact(&compaction.endpoint, compaction.delta).await {
            load.failed(&error, format!("compaction: {error}"));
        }
    }
}

/// User and system time of all threads, those of the kernel's ring workers too.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn report(
    cli: &Cli,
    endpoints: &[Endpoint],
    threads: usize,
    record: Record,
    longest_without_answer_ns: Option<u64>,
    begin: Begin,
    cpu_end: Duration,
) -> Report {
    let requests = record.histogram.len();
    let errors = record.error_counts.values().sum();
    let seconds = Duration::from_nanos(record.end_ns).as_secs_f64();
    let cpu_seconds = cpu_end.saturating_sub(begin.cpu).as_secs_f64();
    let per = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
    Report {
        workload: cli.workload.name().into(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.authority.clone()).collect(),
        conns: cli.common.conns as usize,
        clients: cli.common.clients as usize,
        threads,
        rate: cli.rate(),
        seed: cli.common.seed,
        started_unix_seconds: begin.unix_seconds,
        requests,
        errors,
        seconds,
        requests_per_second: per(requests as f64, seconds),
        latency: Latency::of(&record.histogram),
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        message_bytes_received: record.message_bytes,
        cpu_seconds,
        cpu_us_per_request: per(cpu_seconds * 1e6, (requests + errors) as f64),
        over_time: record.over_time(),
        histogram: histogram_pairs(&record.histogram),
        failover: longest_without_answer_ns.map(|longest_without_answer_ns| Failover {
            errors: record.survived_counts.values().sum(),
            error_counts: record.survived_counts.clone(),
            longest_without_answer_ns,
        }),
        kinds: record.kinds(),
        counters: record.counters.iter().map(|(&name, &count)| (name.into(), count)).collect(),
        error_counts: record.error_counts,
    }
}

#[cfg(test)]
mod tests;
