//! What is done to the cluster, one thing after the other and sometimes two at once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use glommio::timer::Timer;
use urd_proto::etcdserverpb::{CompactionRequest, DefragmentRequest, DefragmentResponse};
use urd_tools::checkers::history::Request;
use urd_tools::grpc::unary::call;

use crate::cluster::{Cluster, SETTLE_TIMEOUT, name};
use crate::line::Line;
use crate::record::Record;

/// The number of whoever compacts, as a client.
const CLIENT: u32 = 1_000;
/// How long a fault lasts, and how long is waited until the next.
const HOLD_MILLIS: std::ops::Range<u64> = 500..6_000;
/// A full disk is noticed once the log must grow.
const FILL_MILLIS: std::ops::Range<u64> = 4_000..12_000;
/// Large values (about a mebibyte) for a full disk: more than the log has prepared.
const BULK_VALUES: usize = 150;
const PAUSE_MILLIS: std::ops::Range<u64> = 200..3_000;
/// Revisions that a compaction leaves: watchers and reads of the past mostly find what they ask for.
const REVISIONS_KEPT: std::ops::Range<i64> = 50..1_000;
const DEFRAGMENT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(usize),
    KillAll,
    Pause(usize),
    Restart(usize),
    CutOff(usize),
    /// Nothing that it sends arrives.
    Mute(usize),
    /// Nothing that is sent to it arrives.
    Deafen(usize),
    CutLink(usize, usize),
    Fill(usize),
    Wipe(usize, bool),
    MoveLeader(usize),
    Compact,
    Defragment(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(nth) => write!(f, "kill {}", name(*nth)),
            Fault::KillAll => f.write_str("kill all"),
            Fault::Pause(nth) => write!(f, "pause {}", name(*nth)),
            Fault::Restart(nth) => write!(f, "restart {}", name(*nth)),
            Fault::CutOff(nth) => write!(f, "cut off {}", name(*nth)),
            Fault::Mute(nth) => write!(f, "mute {}", name(*nth)),
            Fault::Deafen(nth) => write!(f, "deafen {}", name(*nth)),
            Fault::CutLink(one, other) => {
                write!(f, "cut the link of {} and {}", name(*one), name(*other))
            }
            Fault::Fill(nth) => write!(f, "fill the disk of {}", name(*nth)),
            Fault::Wipe(nth, true) => write!(f, "wipe {}, killed and replaced", name(*nth)),
            Fault::Wipe(nth, false) => write!(f, "wipe {}, removed and added anew", name(*nth)),
            Fault::MoveLeader(nth) => write!(f, "move the leader to {}", name(*nth)),
            Fault::Compact => f.write_str("compact"),
            Fault::Defragment(nth) => write!(f, "defragment {}", name(*nth)),
        }
    }
}

/// Breaks things until the time is over, and mends them.
pub(crate) struct Breaker<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) record: Arc<Record>,
    pub(crate) rng: Rng,
    /// Beginnings of the texts of the faults that are wanted; none: all.
    pub(crate) only: Vec<String>,
    line: Line,
}

impl<'a> Breaker<'a> {
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        record: &Arc<Record>,
        rng: Rng,
        only: &[String],
    ) -> Breaker<'a> {
        let line = Line::new(&cluster.endpoints, 0);
        Breaker { cluster, record: Arc::clone(record), rng, only: only.to_vec(), line }
    }

    pub(crate) async fn run(&mut self, duration: Duration) -> Result<(), String> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.cluster.check_running()?;
            let first = self.choose().await;
            if let Fault::Wipe(..) = first {
                // A member that is wiped has nothing any more: the others must have it.
                self.cluster.wait_until_whole(SETTLE_TIMEOUT).await?;
            }
            let second = self.choose().await;
            let both = self.rng.u32(..3) == 0
                && !matches!((first, second), (Fault::Wipe(..), _) | (_, Fault::Wipe(..)));
            let mut faults = vec![first];
            if both && second != first {
                faults.push(second);
            }
            for fault in &faults {
                self.record.fault(&fault.to_string());
                self.begin(*fault).await?;
            }
            let filled = faults.iter().any(|fault| matches!(fault, Fault::Fill(_)));
            let hold = self.rng.u64(if filled { FILL_MILLIS } else { HOLD_MILLIS });
            let left = until.saturating_duration_since(Instant::now());
            Timer::new(Duration::from_millis(hold).min(left)).await;
            self.cluster.check_running()?;
            self.mend()?;
            if filled {
                // The large values would fill the disk for good.
                self.compact().await;
            }
            Timer::new(Duration::from_millis(self.rng.u64(PAUSE_MILLIS))).await;
        }
        self.mend()
    }

    /// Some fault that can be had here. The leader is hit as often as all others together.
    async fn choose(&mut self) -> Fault {
        let members = self.cluster.members.len();
        let leader = self.cluster.leader().await;
        loop {
            let some = self.rng.usize(..members);
            let nth = if self.rng.bool() { leader.unwrap_or(some) } else { some };
            let other = (nth + self.rng.usize(1..members)) % members;
            let fault = match self.rng.u32(..22) {
                0..=2 => Fault::Kill(nth),
                3 => Fault::KillAll,
                4..=6 => Fault::Pause(nth),
                7 => Fault::Restart(nth),
                8..=9 => Fault::CutOff(nth),
                10 => Fault::Mute(nth),
                11 => Fault::Deafen(nth),
                12..=13 => Fault::CutLink(nth, other),
                14..=15 => Fault::Fill(nth),
                16 => Fault::Wipe(nth, self.rng.bool()),
                17..=18 => Fault::MoveLeader(other),
                19..=20 => Fault::Compact,
                _ => Fault::Defragment(nth),
            };
            let possible = match fault {
                Fault::CutOff(_) | Fault::Mute(_) | Fault::Deafen(_) | Fault::CutLink(..) => {
                    self.cluster.network.is_some()
                }
                Fault::Fill(nth) => self.cluster.disks[nth].is_some(),
                _ => true,
            };
            let text = fault.to_string();
            let wanted =
                self.only.is_empty() || self.only.iter().any(|only| text.starts_with(only));
            if possible && wanted {
                return fault;
            }
        }
    }

    async fn begin(&mut self, fault: Fault) -> Result<(), String> {
        let members = self.cluster.members.len();
        let others = |nth: usize| (0..members).filter(move |other| *other != nth);
        match fault {
            Fault::Kill(nth) => self.cluster.members[nth].kill(),
            Fault::KillAll => self.cluster.members.iter_mut().for_each(|member| member.kill()),
            Fault::Pause(nth) => self.cluster.members[nth].pause(),
            Fault::Restart(nth) => {
                if self.cluster.members[nth].paused {
                    self.cluster.members[nth].resume();
                }
                self.cluster.stop(nth).await?;
                self.cluster.launch(nth)?;
            }
            Fault::Fill(nth) => {
                self.cluster.fill(nth)?;
                self.record.want_bulk(BULK_VALUES);
            }
            Fault::Wipe(nth, killed_first) => {
                self.cluster.replace(nth, killed_first).await?;
                self.cluster.wait_until_whole(SETTLE_TIMEOUT).await?;
                self.record.fault(&format!("{} is a member again", name(nth)));
            }
            Fault::MoveLeader(to) => {
                if let Err(error) = self.cluster.move_leader(to).await {
                    self.record.fault(&format!("the leader was not moved: {error}"));
                }
            }
            Fault::Compact => self.compact().await,
            Fault::Defragment(nth) => self.defragment(nth),
            Fault::CutOff(_) | Fault::Mute(_) | Fault::Deafen(_) | Fault::CutLink(..) => {
                let Some(network) = &self.cluster.network else { return Ok(()) };
                match fault {
                    Fault::CutOff(nth) => network.isolate(nth)?,
                    Fault::Mute(nth) => others(nth).try_for_each(|to| network.cut(nth, to))?,
                    Fault::Deafen(nth) => {
                        others(nth).try_for_each(|from| network.cut(from, nth))?
                    }
                    Fault::CutLink(one, other) => network.cut_both(one, other)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Not further than the truth has come, which could not be told any more.
    async fn compact(&mut self) {
        let revision = self.record.told() - self.rng.i64(REVISIONS_KEPT);
        if revision > 1 {
            let physical = self.rng.bool();
            let request = Request::Compaction(CompactionRequest { revision, physical });
            self.line.ask(&self.record, CLIENT, request).await;
        }
    }

    /// Begins one, and does not wait for its end.
    fn defragment(&self, nth: usize) {
        let (endpoint, record) = (self.cluster.endpoints[nth].clone(), Arc::clone(&self.record));
        let task = async move {
            let path = "/etcdserverpb.Maintenance/Defragment";
            let done: Result<DefragmentResponse, _> =
                call(&endpoint, path, &DefragmentRequest {}, DEFRAGMENT_TIMEOUT).await;
            if let Err(error) = done {
                record.fault(&format!("{} was not defragmented: {error}", name(nth)));
            }
        };
        glommio::spawn_local(task).detach();
    }

    /// All is as it should be, as far as that is ours to do.
    fn mend(&mut self) -> Result<(), String> {
        if let Some(network) = &self.cluster.network {
            network.heal()?;
        }
        self.record.want_bulk(0);
        for nth in 0..self.cluster.members.len() {
            self.cluster.free(nth);
            if self.cluster.members[nth].paused {
                self.cluster.members[nth].resume();
            }
            if self.cluster.filled[nth] && !self.cluster.members[nth].runs() {
                self.record.fault(&format!("{} had ended on its full disk", name(nth)));
            }
            if !self.cluster.members[nth].runs() {
                self.cluster.launch(nth)?;
            }
            self.cluster.filled[nth] = false;
        }
        self.record.fault("all is mended");
        Ok(())
    }
}
