//! A run: plan the connections, connect all of them, start all threads at once, add up.
//!
//! The clock starts when every connection stands, so connecting is in no latency.

use crate::args::{Cli, WorkloadArgs};
use crate::arrivals::Arrivals;
use crate::control;
use crate::load::{LinePlan, Link, Load};
use crate::progress::Progress;
use crate::record::Record;
use crate::workload::Workload;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::time::{ClockId, clock_gettime};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::request_head::RequestHead;
use urd_tools::report::{Latency, Report, histogram_pairs};

/// Connections being made at once by a thread: a listener's backlog is bounded.
const CONNECTING_MAX: usize = 64;

/// What a thread is to do.
struct ThreadPlan {
    lines: Vec<LinePlan>,
    workload: Workload,
    dial_timeout: Duration,
    spin: Duration,
    compaction: Option<Compaction>,
}

/// `--compact-interval` and `--compact-index-delta`, at one server.
#[derive(Clone)]
struct Compaction {
    endpoint: Endpoint,
    interval: Duration,
    delta: i64,
}

/// How the threads start together.
struct Gate {
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

/// Runs as asked for.
pub(crate) fn run(cli: &Cli, endpoints: &[Endpoint]) -> Result<Report, String> {
    let workload = Workload::new(&cli.workload, cli.common.seed)?;
    let arrivals = Arc::new(Arrivals::new(cli.total(), cli.rate(), cli.common.duration));
    let mut plans = thread_plans(cli, endpoints, &workload)?;
    let threads = plans.len();
    if let Some(first) = plans.first_mut() {
        first.compaction = compaction(&cli.workload, endpoints);
    }
    let gate = Arc::new(Gate {
        barrier: Barrier::new(threads),
        failed: AtomicBool::new(false),
        begin: OnceLock::new(),
    });

    let progress = Progress::start(arrivals.clone());
    let handles: Vec<_> = plans
        .into_iter()
        .map(|plan| {
            let (arrivals, gate) = (arrivals.clone(), gate.clone());
            thread::spawn(move || load_thread(plan, arrivals, &gate))
        })
        .collect();
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
    progress.stop();
    let cpu_end = process_cpu();
    match (first_error, gate.begin.get()) {
        (Some(error), _) => Err(error),
        (None, None) => Err("the load threads did not start".into()),
        (None, Some(begin)) => Ok(report(cli, endpoints, threads, record, *begin, cpu_end)),
    }
}

/// Client *k* uses connection *k* modulo their number, connection *c* goes to endpoint and thread
/// *c* modulo theirs.
fn thread_plans(
    cli: &Cli,
    endpoints: &[Endpoint],
    workload: &Workload,
) -> Result<Vec<ThreadPlan>, String> {
    let (conns, clients) = (cli.common.conns as usize, cli.common.clients as usize);
    let threads = conns.min(cli.common.threads as usize);
    let mut plans: Vec<ThreadPlan> = (0..threads)
        .map(|_| ThreadPlan {
            lines: Vec::new(),
            workload: workload.clone(),
            dial_timeout: cli.common.dial_timeout(),
            spin: cli.common.spin,
            compaction: None,
        })
        .collect();
    let targets: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let address = endpoint.resolve().map_err(|error| error.to_string())?;
            let head = RequestHead::new(&endpoint.authority, &[workload.path])
                .ok_or_else(|| format!("{}: host name too long", endpoint.authority))?;
            Ok((address, head))
        })
        .collect::<Result<_, String>>()?;
    for conn in 0..conns {
        let (address, head) = targets[conn % targets.len()].clone();
        let clients = clients / conns + usize::from(conn < clients % conns);
        plans[conn % threads].lines.push(LinePlan { address, head, clients });
    }
    Ok(plans)
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

/// One thread's part; none if another could not connect.
fn load_thread(
    plan: ThreadPlan,
    arrivals: Arc<Arrivals>,
    gate: &Gate,
) -> Result<Option<Record>, String> {
    let executor = match executor(plan.spin) {
        Ok(executor) => executor,
        Err(error) => {
            gate.fail();
            return Err(error);
        }
    };
    executor.run(async {
        let links = match connect_all(&plan.lines, plan.dial_timeout).await {
            Ok(links) => links,
            Err(error) => {
                gate.fail();
                return Err(error);
            }
        };
        if !gate.pass(&arrivals) {
            return Ok(None);
        }
        let load = Load::new(arrivals, plan.workload, plan.lines, plan.dial_timeout);
        let compaction = plan.compaction.map(|c| glommio::spawn_local(compact(load.clone(), c)));
        let record = load.run(links).await;
        if let Some(compaction) = compaction {
            compaction.cancel().await;
        }
        Ok(Some(record))
    })
}

impl Gate {
    fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.barrier.wait();
    }

    /// Waits for the other threads; false if one failed.
    fn pass(&self, arrivals: &Arrivals) -> bool {
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

async fn connect_all(plans: &[LinePlan], timeout: Duration) -> Result<Vec<Link>, String> {
    let mut links = Vec::with_capacity(plans.len());
    for chunk in plans.chunks(CONNECTING_MAX) {
        let connect = |plan: &LinePlan| {
            let plan = plan.clone();
            glommio::spawn_local(async move { Link::connect(&plan, timeout).await })
        };
        let connecting: Vec<_> = chunk.iter().map(connect).collect();
        for link in connecting {
            links.push(link.await.map_err(|error| error.to_string())?);
        }
    }
    Ok(links)
}

async fn compact(load: Rc<Load>, compaction: Compaction) {
    loop {
        Timer::new(compaction.interval).await;
        if let Err(error) = control::compact(&compaction.endpoint, compaction.delta).await {
            load.failed(format!("compaction: {error}"));
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
        error_counts: record.error_counts,
    }
}

#[cfg(test)]
mod tests;
