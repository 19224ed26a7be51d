//! Groups that seeds lead through trouble: messages lost, repeated and overtaken, links cut, processes that die, disks that
//! are slow, leaders that hand over, members that come and go. What was acknowledged must be there in the end, on all
//! members alike, and no read may miss what was acknowledged before it was asked for.

use super::group::Group;
use crate::ids::MemberId;
use crate::random::SplitMix64;
use crate::store::command::Command;
use urd_proto::etcdserverpb::{MemberPromoteRequest, MemberRemoveRequest};

const SEEDS: u64 = 20;
const STEPS: usize = 3000;
/// The member that comes and goes.
const GUEST: u64 = 9;

struct Trouble {
    group: Group,
    random: SplitMix64,
    puts: u64,
    reads: u64,
    has_guest: bool,
}

impl Trouble {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn any(&mut self, is_running: bool) -> Option<u64> {
        let ids: Vec<u64> = self.group.ids();
        let ids: Vec<u64> =
            ids.into_iter().filter(|id| self.group.is_running(*id) == is_running).collect();
        if ids.is_empty() {
            return None;
        }
        let nth = usize::try_from(self.below(ids.len() as u64)).expect("small");
        Some(ids[nth])
    }

    fn step(&mut self) {
        let what = self.below(1000);
        if (940..952).contains(&what) {
            let down = self.any(false);
            return down.into_iter().for_each(|id| self.group.start(id));
        }
        let Some(id) = self.any(true) else { return };
        match what {
            0..250 => self.group.tick(id),
            250..700 => self.deliver(),
            700..790 => {
                self.puts += 1;
                let key = format!("k{}", self.below(8));
                let value = self.puts.to_string();
                self.group.put(id, &key, &value);
            }
            790..860 => {
                self.reads += 1;
                let reader = format!("r{}", self.reads);
                self.group.ask(id, &reader);
            }
            860..880 => self.group.node(id).holds_writes = true,
            880..910 => {
                self.group.node(id).holds_writes = false;
                self.group.work(id);
            }
            910..920 => {
                let ids = self.group.ids();
                let nth = usize::try_from(self.below(ids.len() as u64)).expect("small");
                self.group.cuts.insert((id, ids[nth]));
            }
            920..936 => {
                self.group.cuts.pop_first();
            }
            936..940 => self.group.crash(id),
            952..958 if !self.group.driver(id).is_checkpointing() => self.group.checkpoint(id),
            958..964 => self.group.forget_window(id),
            964..968 => {
                if let Some(to) = self.any(true)
                    && self.group.driver(id).follower(MemberId(to)).is_some()
                {
                    self.group.driver(id).transfer_leader(MemberId(to));
                    self.group.work(id);
                }
            }
            968..974 => self.change(id),
            _ => {}
        }
    }

    /// A message arrives, mostly the oldest; some are lost, or come again.
    fn deliver(&mut self) {
        let waiting = self.group.network.len() as u64;
        if waiting == 0 {
            return;
        }
        let at = if self.below(4) == 0 { self.below(waiting) } else { 0 };
        let at = usize::try_from(at).expect("small");
        let Some(message) = self.group.network.remove(at) else { return };
        match self.below(40) {
            0 => {}
            1 if message.get_msg_type() != raft::eraftpb::MessageType::MsgSnapshot => {
                self.group.network.push_back(message.clone());
                self.group.deliver_one(message);
            }
            _ => self.group.deliver_one(message),
        }
    }

    fn change(&mut self, id: u64) {
        if !self.group.driver(id).leads() {
            return;
        }
        match self.below(3) {
            0 if !self.has_guest => {
                self.has_guest = true;
                self.group.add_member(id, GUEST, true);
                self.group.add(GUEST);
            }
            1 => {
                let promote = Command::MemberPromote(MemberPromoteRequest { id: GUEST });
                self.group.change(id, "promote", &promote);
            }
            2 => {
                let remove = Command::MemberRemove(MemberRemoveRequest { id: 2 });
                if self.below(20) == 0 {
                    self.group.change(id, "remove 2", &remove);
                }
            }
            _ => {}
        }
    }

    fn run(seed: u64) {
        let members = if seed.is_multiple_of(3) { 5 } else { 3 };
        let random = SplitMix64::new(seed);
        let group = Group::new(members);
        let mut trouble = Self { group, random, puts: 0, reads: 0, has_guest: false };
        for _ in 0..STEPS {
            trouble.step();
        }
        let Self { mut group, .. } = trouble;
        group.cuts.clear();
        for id in group.ids() {
            if !group.is_running(id) {
                group.start(id);
            }
            group.node(id).holds_writes = false;
            group.work(id);
        }
        group.settle();
        group.check_equal();
        group.check_acknowledged();
    }
}

#[test]
fn groups_come_through_trouble() {
    let seeds = std::env::var("URD_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let first = std::env::var("URD_SEED").ok().and_then(|seed| seed.parse().ok());
    let range = match first {
        Some(seed) => seed..seed + 1,
        None => 1..seeds.unwrap_or(SEEDS) + 1,
    };
    for seed in range {
        let run = std::panic::catch_unwind(|| Trouble::run(seed));
        if let Err(panic) = run {
            eprintln!("URD_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        }
    }
}
