//! What goes wrong: one fault after another, each as likely as the settings say.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::settings::{Faults, Time};

/// A kind of fault; [`Faults`] says how likely each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed.
    Kill,
    /// The power goes at one member.
    Power,
    /// The power goes within an operation of a disk.
    PowerAt,
    /// The power goes everywhere.
    Blackout,
    /// A member hangs.
    Pause,
    /// A member is cut off.
    Isolate,
    /// The members fall into two parts.
    Split,
    /// A link loses everything, one way.
    Cut,
    /// A link keeps everything back, one way.
    Clog,
    /// A disk is slow.
    Slow,
    /// A disk is full.
    Full,
    /// An operation of a disk fails.
    Fail,
    /// A bit flips.
    Flip,
    /// A disk lies.
    Lie,
    /// An alarm is raised.
    NoSpace,
    /// Leadership is moved.
    Transfer,
    /// A member is replaced.
    Replace,
    /// A defragmentation.
    Defragment,
    /// A checkpoint that is not due.
    Checkpoint,
    /// A member is killed right after it votes; [`Faults::votes`] says how often.
    Vote,
}

/// How often each was done.
pub type Counts = BTreeMap<Fault, u64>;

impl Faults {
    /// The next one.
    pub(super) fn choose(&self, rng: &mut Rng) -> Option<Fault> {
        let weights = [
            (Fault::Kill, self.kill),
            (Fault::Power, self.power),
            (Fault::PowerAt, self.power_at),
            (Fault::Blackout, self.blackout),
            (Fault::Pause, self.pause),
            (Fault::Isolate, self.isolate),
            (Fault::Split, self.split),
            (Fault::Cut, self.cut),
            (Fault::Clog, self.clog),
            (Fault::Slow, self.slow),
            (Fault::Full, self.full),
            (Fault::Fail, self.fail),
            (Fault::Flip, self.flip),
            (Fault::Lie, self.lie),
            (Fault::NoSpace, self.no_space),
            (Fault::Transfer, self.transfer),
            (Fault::Replace, self.replace),
            (Fault::Defragment, self.defragment),
            (Fault::Checkpoint, self.checkpoint),
        ];
        let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(0..sum.max(1));
        weights.into_iter().find_map(|(fault, weight)| match at.checked_sub(weight) {
            Some(left) => {
                at = left;
                None
            }
            None => Some(fault),
        })
    }

    /// When the next one comes.
    pub(super) fn next(&self, now: Time, rng: &mut Rng) -> Option<Time> {
        (self.interval > 0).then(|| now + rng.u64(0..2 * self.interval))
    }
}
