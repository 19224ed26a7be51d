//! Faults, carried out.

use urd::ids::MemberId;
use urd::store::View;

use super::super::faults::Fault;
use super::super::member::{Loss, Member};
use super::super::settings::{Canary, Time};
use super::{Cluster, Event};
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_wal::disk::memory::Fault as DiskFault;

impl Cluster {
    pub(super) fn plan_fault(&mut self) {
        if let Some(at) = self.settings.faults.next(self.now, &mut self.rng) {
            self.at(at, Event::Fault);
        }
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        self.plan_fault();
        let settings = std::rc::Rc::clone(&self.settings);
        let Some(fault) = settings.faults.choose(&mut self.rng) else { return Ok(()) };
        let running: Vec<u64> = self.running();
        if running.is_empty() {
            return Ok(());
        }
        let id = running[self.rng.usize(..running.len())];
        if self.inject(fault, id, &running) {
            *self.counts.entry(fault).or_default() += 1;
        }
        // Those that act on the process want a pass of it.
        self.work(id)
    }

    fn running(&self) -> Vec<u64> {
        let running = self.members.iter().filter(|(_, member)| member.process.is_some());
        running.map(|(id, _)| *id).collect()
    }

    fn inject(&mut self, fault: Fault, id: u64, running: &[u64]) -> bool {
        let until = self.now + self.rng.u64(1..60 * self.settings.tick);
        match fault {
            Fault::Kill => self.lose(id, Loss::Kill),
            Fault::Power => self.lose(id, Loss::Power),
            Fault::PowerAt => {
                let operations = self.rng.u64(0..12);
                let disk = self.members.get(&id).map(|member| member.disk.clone());
                disk.iter().for_each(|disk| disk.crash_at(disk.operations() + operations));
            }
            Fault::Blackout => running.iter().for_each(|id| self.lose(*id, Loss::Power)),
            Fault::Pause => {
                self.members.get_mut(&id).into_iter().for_each(|it| it.paused_until = until);
            }
            Fault::Isolate | Fault::Split | Fault::Cut | Fault::Clog => {
                return self.break_links(fault, id, until);
            }
            Fault::Slow => {
                let factor = self.rng.u64(2..200);
                self.members.get_mut(&id).into_iter().for_each(|it| it.slow = (factor, until));
            }
            Fault::Full | Fault::Fail => self.break_disk(fault, id, until),
            Fault::Flip => return self.flip(id),
            Fault::Lie => return self.lie(id, until),
            Fault::NoSpace => self.raise_alarm(id, until),
            Fault::Transfer => return self.transfer(running),
            // Votes are not chosen here.
            Fault::Vote => return false,
            Fault::Replace => self.admin.unwanted = Some(id),
            Fault::Defragment | Fault::Checkpoint => {
                let process = self.members.get_mut(&id).and_then(|it| it.process.as_mut());
                let Some(process) = process else { return false };
                match fault {
                    Fault::Defragment => process.ask_defragment(),
                    _ => process.wants_checkpoint = true,
                }
            }
        }
        true
    }

    fn break_links(&mut self, fault: Fault, id: u64, until: Time) -> bool {
        let others: Vec<u64> = self.members.keys().copied().filter(|other| *other != id).collect();
        if others.is_empty() {
            return false;
        }
        let other = others[self.rng.usize(..others.len())];
        match fault {
            Fault::Isolate => {
                for other in others {
                    self.network.cut(id, other, until);
                    self.network.cut(other, id, until);
                }
            }
            Fault::Split => {
                let (here, there): (Vec<u64>, Vec<u64>) =
                    self.members.keys().partition(|_| self.rng.bool());
                for (a, b) in here.iter().flat_map(|a| there.iter().map(move |b| (*a, *b))) {
                    self.network.cut(a, b, until);
                    self.network.cut(b, a, until);
                }
            }
            Fault::Cut => self.network.cut(id, other, until),
            _ => self.network.clog(id, other, until),
        }
        true
    }

    fn break_disk(&mut self, fault: Fault, id: u64, until: Time) {
        let more = self.rng.u64(0..3);
        let Some(member) = self.members.get_mut(&id) else { return };
        member.is_disk_bad = true;
        let (disk, life) = (&member.disk, member.life);
        match fault {
            Fault::Full => {
                disk.set_capacity(disk.names().iter().map(|it| disk.bytes(it).len() as u64).sum())
            }
            _ => disk.fail_at(
                disk.operations() + more,
                if more == 0 { DiskFault::Short } else { DiskFault::Fail },
            ),
        }
        self.at(until, Event::Mend { member: id, life });
    }

    /// A full disk has room again; one that lied says the truth, though what it said before stays a lie.
    pub(super) fn mend(&mut self, id: u64, life: u64) {
        if let Some(member) = self.members.get_mut(&id)
            && member.life == life
        {
            member.disk.set_capacity(u64::MAX);
            member.disk.set_lying(self.settings.canary == Some(Canary::AckBeforeDurable));
        }
    }

    fn lie(&mut self, id: u64, until: Time) -> bool {
        if !self.may_lose(id) {
            return false;
        }
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.has_lied = true;
        member.disk.set_lying(true);
        let life = member.life;
        self.at(until, Event::Mend { member: id, life });
        true
    }

    fn raise_alarm(&mut self, id: u64, until: Time) {
        let process = self.members.get_mut(&id).and_then(|it| it.process.as_mut());
        process.into_iter().for_each(|it| it.set_alarm(id, AlarmAction::Activate));
        self.alarms_until = self.alarms_until.max(until);
    }

    fn flip(&mut self, id: u64) -> bool {
        if !self.may_lose(id) {
            return false;
        }
        self.lose(id, Loss::Kill);
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.flip(&self.settings, &mut self.rng)
    }

    /// Whether enough are left that hold what this one may lose.
    fn may_lose(&self, id: u64) -> bool {
        let may_be_hurt = |it: &Member| {
            let is_damaged = it.is_flipped || it.has_lied || it.is_in_doubt;
            it.hurt.is_some() || is_damaged || it.is_gone
        };
        let is_hurt = |id: &u64| self.members.get(id).is_none_or(may_be_hurt);
        let views =
            || self.members.values().filter_map(|it| it.process.as_ref()).map(|it| &it.view);
        let Some(newest) = views().max_by_key(|view| view.applied()) else { return false };
        let voters_in =
            |view: &View| -> Vec<u64> { view.members().voters().map(|voter| voter.id).collect() };
        let voters = voters_in(newest);
        // Who has not applied the last change counts votes as before it: left among themselves, such members might need
        // the one that is lost.
        let knowing = views().filter(|view| voters_in(view) == voters).count();
        if knowing < voters.len() {
            return false;
        }
        let well = voters.iter().filter(|voter| !is_hurt(voter)).count();
        // A majority must stay, whatever change of the members is under way.
        let is_changing = voters.len() as u64 != self.settings.members
            || self.admin.is_removing(newest.members());
        !is_changing && !is_hurt(&id) && well >= voters.len() / 2 + 2
    }

    fn transfer(&mut self, running: &[u64]) -> bool {
        let to = MemberId(running[self.rng.usize(..running.len())]);
        let mut processes = self.members.values_mut().filter_map(|it| it.process.as_mut());
        let Some(leader) = processes.find(|process| process.leads()) else { return false };
        let may = leader.driver.follower(to).is_some_and(|follower| follower.is_voter);
        if may {
            leader.driver.transfer_leader(to);
        }
        may
    }
}
