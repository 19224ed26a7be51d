//! The world: members, links, clients and operators on one clock, one event after another.

mod ending;
mod injection;
mod room;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use fastrand::Rng;
use raft::eraftpb::{Message, MessageType};
use urd::ids::MemberId;
use urd::store::View;
use urd::store::lease::LeaseChange;
use urd_proto::etcdserverpb::Member as Record;

use self::room::Room;
use super::admin::{self, Admin};
use super::calls::{Call, CallId, Reply};
use super::clients::{Clients, Heard, OPERATOR};
use super::faults::{Counts, Fault};
use super::member::{Loss, Member, Start};
use super::network::{self, Network};
use super::process::{Effects, End, Job, Process, Sent};
use super::settings::{Canary, MILLISECOND, Settings, Time};
use super::sites::{Site, Sites};
use super::truth::Truth;
use super::watchers::Watchers;

/// What happens next.
enum Event {
    /// A tick of a member's clock.
    Tick { member: u64, life: u64 },
    /// A message arrives, perhaps with a state.
    Message { message: Message, state: Option<View> },
    /// The sender hears what became of its state.
    Verdict { sent: Sent, to: u64, is_taken: bool },
    /// A disk has got further.
    Disk { member: u64, life: u64, job: u64 },
    /// A member has more to do.
    Pass { member: u64, life: u64 },
    /// A process starts.
    Start { member: u64 },
    /// A client asks.
    Ask { client: u32 },
    /// A request arrives at a member.
    Call { member: u64, call: CallId, what: Call },
    /// An answer arrives at its client.
    Hear { call: CallId, reply: Option<Reply> },
    /// Something goes wrong.
    Fault,
    /// A disk is well again.
    Mend { member: u64, life: u64 },
    /// The operator looks.
    Admin,
}

/// See the module's page.
pub(super) struct Cluster {
    settings: Rc<Settings>,
    first: Vec<Record>,
    origin: Instant,
    now: Time,
    rng: Rng,
    /// By time, then in the order in which they were thought of.
    events: BTreeMap<(Time, u64), Event>,
    thought_of: u64,
    /// How many have happened.
    happened: u64,
    members: BTreeMap<u64, Member>,
    network: Network,
    clients: Clients,
    watchers: Watchers,
    truth: Truth,
    admin: Admin,
    room: Room,
    sites: Rc<Sites>,
    jobs: u64,
    /// What went wrong so far.
    counts: Counts,
    /// Nothing goes wrong any more, and clients ask no more.
    is_calm: bool,
    /// Alarms are disarmed from then on.
    alarms_until: Time,
    starts: u64,
    states_taken: u64,
}

impl Cluster {
    pub(super) fn new(settings: Settings) -> Self {
        let settings = Rc::new(settings);
        let mut rng = Rng::with_seed(settings.seed);
        let splits = settings.canary == Some(Canary::SplitRevision);
        let mut cluster = Self {
            first: (1..=settings.members).map(admin::record).collect(),
            origin: Instant::now(),
            now: 0,
            events: BTreeMap::new(),
            thought_of: 0,
            happened: 0,
            members: BTreeMap::new(),
            network: Network::new(settings.links.clone()),
            clients: Clients::new(settings.keys, settings.space.padding),
            watchers: Watchers::new(settings.watchers, splits, &mut rng),
            truth: Truth::default(),
            admin: Admin::new(settings.members),
            room: Room::default(),
            sites: Rc::new(Sites::new(&settings.sites, settings.seed)),
            jobs: 0,
            counts: Counts::new(),
            is_calm: false,
            alarms_until: 0,
            starts: 0,
            states_taken: 0,
            rng,
            settings,
        };
        for id in 1..=cluster.settings.members {
            cluster.add(id);
        }
        for client in 0..cluster.settings.clients {
            cluster.after(u64::from(client) * MILLISECOND, Event::Ask { client });
        }
        cluster.plan_fault();
        cluster.after(cluster.settings.tick, Event::Admin);
        cluster
    }

    /// A machine with an empty disk, whose process starts.
    fn add(&mut self, id: u64) {
        let member = Member::new(id, &self.settings, &self.sites, &mut self.rng);
        self.members.insert(id, member);
        self.after(0, Event::Start { member: id });
    }

    fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, time: Time, event: Event) {
        self.thought_of += 1;
        self.events.insert((time, self.thought_of), event);
    }

    /// Lets things happen until `end`.
    pub(super) fn run_until(&mut self, end: Time) -> Result<(), String> {
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > end {
                self.at(time, event);
                break;
            }
            self.now = time;
            self.happened += 1;
            self.happen(event)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick { member, life } => self.tick(member, life),
            Event::Message { message, state } => self.arrive(message, state),
            Event::Verdict { sent, to, is_taken } => self.report_state(sent, to, is_taken),
            Event::Disk { member, life, job } => self.disk(member, life, job),
            Event::Pass { member, life } if self.is_up(member, life) => self.work(member),
            Event::Start { member } => self.start(member),
            Event::Ask { client } => {
                self.ask(client);
                Ok(())
            }
            Event::Call { member, call, what } => self.call(member, call, what),
            Event::Hear { call, reply } => self.hear(call, reply),
            Event::Fault => self.fault(),
            Event::Mend { member, life } => {
                self.mend(member, life);
                Ok(())
            }
            Event::Admin => self.administer(),
            Event::Pass { .. } => Ok(()),
        }
    }

    /// Whether this process still runs.
    fn is_up(&self, member: u64, life: u64) -> bool {
        self.members.get(&member).is_some_and(|it| it.life == life && it.process.is_some())
    }

    /// When a member that hangs goes on.
    fn hangs_until(&self, member: u64) -> Option<Time> {
        self.members.get(&member).map(|it| it.paused_until).filter(|until| *until > self.now)
    }

    fn tick(&mut self, id: u64, life: u64) -> Result<(), String> {
        if !self.is_up(id, life) {
            return Ok(());
        }
        let drift = self.members.get(&id).map_or(0, |member| member.drift);
        let tick = self.settings.tick * 1_000_000 / 1_000_000_u64.saturating_add_signed(drift);
        if let Some(until) = self.hangs_until(id) {
            self.at(until, Event::Tick { member: id, life });
            return Ok(());
        }
        self.after(tick, Event::Tick { member: id, life });
        let is_busy = !self.is_calm;
        if let Some(member) = self.members.get_mut(&id) {
            let now = member.clock(self.origin, self.now);
            member.process.iter_mut().for_each(|process| process.tick(now, is_busy));
        }
        self.work(id)
    }

    /// Lets a process have a pass, and does what it wants.
    fn work(&mut self, id: u64) -> Result<(), String> {
        if let Some(until) = self.hangs_until(id) {
            let life = self.members.get(&id).map_or(0, |member| member.life);
            self.at(until, Event::Pass { member: id, life });
            return Ok(());
        }
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        let now = member.clock(self.origin, self.now);
        let life = member.life;
        let Some(process) = &mut member.process else { return Ok(()) };
        let passed = process.pass(now, &mut self.rng);
        let effects = std::mem::take(&mut process.effects);
        if process.leads() {
            self.truth.observe_leader(process.driver.term().0, id)?;
        }
        self.watchers.follow(id, life, process, self.now, &mut self.rng)?;
        self.follow(id, effects)?;
        match passed {
            Ok(true) => {
                self.after(self.settings.disk_delay / 10 + 1, Event::Pass { member: id, life })
            }
            Ok(false) => {}
            Err(end) => self.end(id, end)?,
        }
        self.look_at_power(id);
        Ok(())
    }

    fn follow(&mut self, id: u64, effects: Effects) -> Result<(), String> {
        let Effects { messages, states, jobs, replies, verdicts, leases, v2, views, alarms } =
            effects;
        self.room.alarms += alarms;
        self.truth.v2_answered.extend(v2);
        for view in views {
            self.truth.observe(id, &view)?;
        }
        let votes = |message: &Message| {
            message.get_msg_type() == MessageType::MsgRequestVoteResponse && !message.reject
        };
        let dies = messages.iter().any(votes) && self.rng.u32(0..100) < self.settings.faults.votes;
        for message in messages {
            self.send(message, None);
        }
        for (message, state) in states {
            self.send_state(message, state);
        }
        for (sent, is_taken) in verdicts {
            self.states_taken += u64::from(is_taken);
            self.after(MILLISECOND, Event::Verdict { sent, to: id, is_taken });
        }
        for (call, reply) in replies {
            let delay = self.rng.u64(20..500);
            // Now and then a connection breaks before the answer is there.
            let is_lost = self.rng.u32(0..200) == 0;
            self.after(delay, Event::Hear { call, reply: (!is_lost).then_some(reply) });
        }
        for change in leases {
            if let LeaseChange::Revoked { id, expired: true } = change {
                self.clients.note_expired(id.0, self.now)?;
            }
        }
        if dies && !self.is_calm {
            *self.counts.entry(Fault::Vote).or_default() += 1;
            self.lose(id, Loss::Kill);
            return Ok(());
        }
        for job in jobs {
            self.begin(id, job)?;
        }
        Ok(())
    }

    fn send(&mut self, message: Message, state: Option<&View>) {
        let arrivals = self.network.arrivals(&mut self.rng, message.from, message.to, self.now);
        // A connection delivers a message once at most. Raft bears with more; a proposal that came twice would be two.
        let times = if message.get_msg_type() == MessageType::MsgPropose { 1 } else { usize::MAX };
        for at in arrivals.into_iter().take(times) {
            self.at(at, Event::Message { message: message.clone(), state: state.cloned() });
        }
    }

    /// A state goes over a connection of its own: its sender hears when it breaks.
    fn send_state(&mut self, message: Message, state: View) {
        let (from, to) = (message.from, message.to);
        if self.network.is_cut(from, to, self.now) {
            let sent = Sent::by(&message);
            self.after(MILLISECOND, Event::Verdict { sent, to, is_taken: false });
            return;
        }
        let delay = self.rng.u64(MILLISECOND..2 * self.settings.tick);
        self.after(delay, Event::Message { message, state: Some(state) });
    }

    fn arrive(&mut self, message: Message, state: Option<View>) -> Result<(), String> {
        let (from, to) = (message.from, message.to);
        if let Some(until) = self.hangs_until(to) {
            self.at(until, Event::Message { message, state });
            return Ok(());
        }
        let is_cut = self.network.is_cut(from, to, self.now);
        let process = self.members.get_mut(&to).and_then(|member| member.process.as_mut());
        let Some(process) = process.filter(|_| !is_cut) else {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let sent = Sent::by(&message);
                self.after(MILLISECOND, Event::Verdict { sent, to, is_taken: false });
            }
            return Ok(());
        };
        if process.view.is_removed(MemberId(from)) {
            // The door is shut to one that was removed.
            return Ok(());
        }
        let message = network::cross(&message, self.sites.acts(Site::Bytewise))?;
        match state {
            Some(state) => process.receive(message, &state),
            None => match process.step(message.clone()) {
                Ok(true) => {}
                Ok(false) => {
                    self.after(MILLISECOND, Event::Message { message, state: None });
                    return Ok(());
                }
                Err(end) => return self.end(to, end),
            },
        }
        self.work(to)
    }

    fn report_state(&mut self, sent: Sent, to: u64, is_taken: bool) -> Result<(), String> {
        let process = self.members.get_mut(&sent.from).and_then(|member| member.process.as_mut());
        if let Some(process) = process {
            process.driver.report_snapshot(MemberId(to), sent.index, is_taken);
            return self.work(sent.from);
        }
        Ok(())
    }

    /// A disk begins with something.
    fn begin(&mut self, id: u64, job: Job) -> Result<(), String> {
        self.jobs += 1;
        let number = self.jobs;
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        member.jobs.insert(number, job);
        let life = member.life;
        self.poll(id, life, number)
    }

    /// The state of another member that arrives here breaks off with its link.
    fn disk(&mut self, id: u64, life: u64, number: u64) -> Result<(), String> {
        if !self.is_up(id, life) {
            return Ok(());
        }
        if let Some(until) = self.hangs_until(id) {
            self.at(until, Event::Disk { member: id, life, job: number });
            return Ok(());
        }
        self.poll(id, life, number)
    }

    fn poll(&mut self, id: u64, life: u64, number: u64) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        let (factor, until) = member.slow;
        let factor = if until > self.now { factor } else { 1 };
        let Some(job) = member.jobs.get_mut(&number) else { return Ok(()) };
        if let Some(from) = job.receives_from
            && self.network.is_cut(from, id, self.now)
        {
            member.jobs.remove(&number);
            member.process.iter_mut().for_each(Process::break_off);
            return self.work(id);
        }
        let mut context = Context::from_waker(Waker::noop());
        match job.future.as_mut().poll(&mut context) {
            Poll::Pending => {
                let delay = self.rng.u64(1..=self.settings.disk_delay) * factor;
                self.after(delay, Event::Disk { member: id, life, job: number });
            }
            Poll::Ready(done) => {
                member.jobs.remove(&number);
                let now = member.clock(self.origin, self.now);
                if let Some(process) = &mut member.process
                    && let Err(end) = process.done(done, now)
                {
                    return self.end(id, end);
                }
                self.after(1, Event::Pass { member: id, life });
            }
        }
        self.look_at_power(id);
        Ok(())
    }

    /// A process has ended by itself.
    fn end(&mut self, id: u64, end: End) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        match end {
            End::Disk(_) if member.disk.crashed() => {
                self.lose(id, Loss::Power);
                Ok(())
            }
            // Room for some elections is kept. A member that needs more ends, if its disk is full, or so slow that the next of
            // these small segments is not there yet.
            End::Fatal(reason) if reason.contains("the log has no room") => {
                self.lose(id, Loss::Kill);
                Ok(())
            }
            End::Disk(_) if member.is_disk_bad => {
                self.lose(id, Loss::Kill);
                Ok(())
            }
            End::Removed => {
                member.leave();
                self.watchers.leave(id);
                Ok(())
            }
            End::Disk(reason) | End::Fatal(reason) => Err(format!("member {id} ends: {reason}")),
        }
    }

    fn start(&mut self, id: u64) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        if member.process.is_some() || member.hurt.is_some() || member.is_gone {
            return Ok(());
        }
        let now = member.clock(self.origin, self.now);
        self.starts += 1;
        match member.start(&self.first, &self.settings, now, &mut self.rng) {
            Start::Runs => {
                let life = member.life;
                let effects = member.process.as_mut().map(|it| std::mem::take(&mut it.effects));
                self.follow(id, effects.unwrap_or_default())?;
                self.after(self.settings.tick, Event::Tick { member: id, life });
                self.work(id)
            }
            Start::Lost => {
                self.lose(id, Loss::Power);
                Ok(())
            }
            Start::Refused(reason) if member.is_flipped || member.is_in_doubt => {
                member.hurt = Some(reason);
                Ok(())
            }
            // It has been given back what it lacked when it is lost.
            Start::Refused(_) if member.is_disk_bad => {
                self.lose(id, Loss::Kill);
                Ok(())
            }
            Start::Refused(reason) => Err(format!("member {id} does not start: {reason}")),
        }
    }

    /// A process is gone, and comes back after a while.
    fn lose(&mut self, id: u64, loss: Loss) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let unheard = member.process.as_ref().map(Process::unheard).unwrap_or_default();
        member.lose(loss, &self.settings, &mut self.rng);
        for sent in unheard {
            self.after(MILLISECOND, Event::Verdict { sent, to: id, is_taken: false });
        }
        self.watchers.leave(id);
        let down = match self.rng.u32(0..3) {
            _ if self.settings.faults.back_at_once => MILLISECOND,
            0 => MILLISECOND,
            1 => self.rng.u64(1..2 * self.settings.tick),
            _ => self.rng.u64(1..40 * self.settings.tick),
        };
        let down = if self.is_calm { self.settings.tick } else { down };
        self.after(down, Event::Start { member: id });
    }

    /// The power may have gone within an operation of the disk.
    fn look_at_power(&mut self, id: u64) {
        let crashed = self.members.get(&id).is_some_and(|it| it.disk.crashed());
        if crashed {
            self.lose(id, Loss::Power);
        }
    }

    fn ask(&mut self, client: u32) {
        if self.is_calm {
            return;
        }
        let (call, what) = self.clients.ask(client, self.now, &mut self.rng);
        self.send_call(call, what);
    }

    /// A request is on its way to some member.
    fn send_call(&mut self, call: CallId, what: Call) {
        let up: Vec<u64> =
            self.members.iter().filter(|(_, it)| !it.is_gone).map(|(id, _)| *id).collect();
        let nth = self.rng.usize(..up.len());
        let delay = self.rng.u64(20..500);
        self.after(delay, Event::Call { member: up[nth], call, what });
        self.after(self.settings.patience, Event::Hear { call, reply: None });
    }

    fn call(&mut self, member: u64, call: CallId, what: Call) -> Result<(), String> {
        if let Some(until) = self.hangs_until(member) {
            self.at(until, Event::Call { member, call, what });
            return Ok(());
        }
        let process = self.members.get_mut(&member).and_then(|it| it.process.as_mut());
        match process {
            Some(process) => {
                process.call(call, what);
                self.work(member)
            }
            // Nobody is there.
            None => self.hear(call, Some(Reply::Refused("not connected".to_owned()))),
        }
    }

    fn hear(&mut self, call: CallId, reply: Option<Reply>) -> Result<(), String> {
        match self.clients.hear(call, self.now, reply)? {
            Some(Heard { client: OPERATOR, is_done }) => self.room.heard(call, is_done),
            Some(Heard { client, .. }) => {
                let pause = self.rng.u64(0..2 * self.settings.think);
                self.after(pause, Event::Ask { client });
            }
            None => {}
        }
        Ok(())
    }

    fn administer(&mut self) -> Result<(), String> {
        self.admin.step(&mut self.members, &self.network, self.now, &mut self.rng);
        // A member that was added is set up as soon as anybody knows of it.
        let processes = self.members.values().filter_map(|member| member.process.as_ref());
        let known: Vec<u64> =
            processes.flat_map(|it| it.view.members().iter().map(|member| member.id)).collect();
        for id in known {
            let is_removed = |it: &Member| {
                it.process.as_ref().is_some_and(|it| it.view.is_removed(MemberId(id)))
            };
            if !self.members.contains_key(&id) && !self.members.values().any(is_removed) {
                self.add(id);
            }
        }
        self.stop_removed();
        self.make_room();
        self.after(self.settings.tick, Event::Admin);
        let leaders: Vec<u64> = self.members.keys().copied().collect();
        leaders.into_iter().try_for_each(|id| self.work(id))
    }

    /// One that was removed while nobody could tell it hears so from the others' doors.
    fn stop_removed(&mut self) {
        let is_out = |id: u64| {
            let others = self.members.values().filter(|by| by.id != id);
            let mut processes = others.filter_map(|by| by.process.as_ref());
            processes.any(|by| by.view.is_removed(MemberId(id)))
        };
        let here = self.members.values().filter(|it| !it.is_gone);
        let removed: Vec<u64> = here.map(|it| it.id).filter(|id| is_out(*id)).collect();
        for id in removed {
            if let Some(member) = self.members.get_mut(&id) {
                member.leave();
            }
            self.watchers.leave(id);
        }
    }
}
