//! A world: its making, its time, the harm that is done to it, and what must hold at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime};

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::Prompts;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_core::wire::Body;
use bidmesh_core::{Event, Input, Submission};

use crate::caller::{Call, Caller};
use crate::disk::Disk;
use crate::host::{Host, PORT, Plan, play};
use crate::probe::{Ask, Asked, Asks, Command, Desk, locked};
use crate::puppet::Puppet;
use crate::record::{Entry, Record, What};
use crate::script::answer;
use crate::shell_peer::{ShellHost, ShellPeer};

/// How often messages are lost. A lost one breaks its link until the next message that is lucky.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// How likely a message breaks its link, 0 to 1.
    pub fail: f64,
    /// How likely a message mends a broken link, 0 to 1.
    pub repair: f64,
}

/// Makes a world.
#[derive(Clone)]
pub struct Builder {
    seed: u64,
    tick: Duration,
    latency: (Duration, Duration),
    loss: Option<Loss>,
    plans: Vec<Plan>,
    puppets: Vec<Puppet>,
    shells: Vec<ShellPeer>,
    callers: Vec<Caller>,
}

impl Builder {
    /// One more device.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plans.push(plan);
        self
    }

    /// More devices.
    #[must_use]
    pub fn plans(mut self, plans: impl IntoIterator<Item = Plan>) -> Self {
        self.plans.extend(plans);
        self
    }

    /// One more device without a driver.
    #[must_use]
    pub fn puppet(mut self, puppet: Puppet) -> Self {
        self.puppets.push(puppet);
        self
    }

    /// One more shell device. The devices know it; it knows whoever introduced itself.
    #[must_use]
    pub fn shell(mut self, shell: ShellPeer) -> Self {
        self.shells.push(shell);
        self
    }

    /// More shell devices.
    #[must_use]
    pub fn shells(mut self, shells: impl IntoIterator<Item = ShellPeer>) -> Self {
        self.shells.extend(shells);
        self
    }

    /// A host that opens connections and writes bytes. The devices do not know it.
    #[must_use]
    pub fn caller(mut self, id: &str, calls: impl IntoIterator<Item = Call>) -> Self {
        self.callers.push(Caller { device: device(id), calls: calls.into_iter().collect() });
        self
    }

    /// The grain of time; the default is a millisecond. Coarser is faster.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// How long a message takes; the default is 1 to 20 ms.
    #[must_use]
    pub fn latency(mut self, least: Duration, most: Duration) -> Self {
        self.latency = (least, most);
        self
    }

    /// Messages are lost.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = Some(loss);
        self
    }

    /// The world at its beginning. Every device knows every other, as if a person had written peers.txt. Waits until
    /// no other world exists in this process.
    ///
    /// # Panics
    /// If this was compiled without `--cfg tokio_unstable`: two runs of one seed would differ.
    pub fn build(self) -> Mesh {
        let seeded = cfg!(tokio_unstable);
        assert!(
            seeded,
            "the simulation needs `--cfg tokio_unstable`, which .cargo/config.toml sets: without it tokio's own \
             randomness has no seed and panics of spawned tasks go unnoticed. RUSTFLAGS replaces that setting: \
             unset it, or add the flag to it"
        );
        let turn = crate::turn::take();
        let mut sim = self.sim();
        let ids = self.plans.iter().map(|plan| &plan.device);
        let ids = ids.chain(self.puppets.iter().map(|puppet| &puppet.device));
        let ids = ids.chain(self.shells.iter().map(ShellPeer::device));
        let addresses: Vec<_> =
            ids.map(|device| (device.clone(), SocketAddr::new(sim.lookup(device.as_str()), PORT))).collect();
        let (record, asks) = (Record::default(), Asks::default());
        let mut desks = BTreeMap::new();
        for plan in self.plans {
            let desk = Arc::<Desk>::default();
            desks.insert(plan.device.clone(), Arc::clone(&desk));
            let name = plan.device.clone();
            let host = Arc::new(Host {
                seed: self.seed,
                peers: addresses.iter().filter(|(device, _)| *device != name).cloned().collect(),
                plan,
                desk,
                asks: Arc::clone(&asks),
                record: record.clone(),
                starts: AtomicU32::new(0),
                runs: Arc::default(),
                disk: Disk::default(),
            });
            sim.host(name.as_str(), move || Arc::clone(&host).run());
        }
        for puppet in self.puppets {
            let (name, peers, record, seed) =
                (puppet.device.clone(), addresses.clone(), record.clone(), self.seed);
            sim.host(name.as_str(), move || play(puppet.clone(), peers.clone(), record.clone(), seed));
        }
        for shell in self.shells {
            let name = shell.device().clone();
            let host = Arc::new(ShellHost::new(shell, &addresses, self.seed, record.clone()));
            sim.host(name.as_str(), move || Arc::clone(&host).run());
        }
        for caller in self.callers {
            let (name, peers, record) = (caller.device.clone(), addresses.clone(), record.clone());
            sim.host(name.as_str(), move || caller.clone().play(peers.clone(), record.clone()));
        }
        let addresses = addresses.into_iter().map(|(device, address)| (device, address.ip())).collect();
        Mesh { sim, seed: self.seed, addresses, desks, asks, record, seen: 0, _turn: turn }
    }

    fn sim(&self) -> turmoil::Sim<'static> {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(self.seed)
            .epoch(SystemTime::UNIX_EPOCH)
            .enable_random_order()
            .tick_duration(self.tick)
            .simulation_duration(Duration::MAX)
            .min_message_latency(self.latency.0)
            .max_message_latency(self.latency.1)
            // turmoil panics where a real system would drop or refuse: enough for everybody at once, many times.
            .tcp_capacity(10_000)
            .ephemeral_ports(1024..=65535);
        if let Some(Loss { fail, repair }) = self.loss {
            builder.fail_rate(fail).repair_rate(repair);
        }
        builder.build()
    }
}

/// A world. Its time goes on only while it is told to.
///
/// If a test panics, the seed and the end of the record are printed.
pub struct Mesh {
    sim: turmoil::Sim<'static>,
    seed: u64,
    addresses: BTreeMap<DeviceId, IpAddr>,
    desks: BTreeMap<DeviceId, Arc<Desk>>,
    asks: Asks,
    record: Record,
    /// Entries that [`Mesh::until_entry`] has looked at.
    seen: usize,
    /// Given back last.
    _turn: MutexGuard<'static, ()>,
}

impl Mesh {
    /// A world to be made; everything random in it comes from the seed.
    pub fn builder(seed: u64) -> Builder {
        Builder {
            seed,
            tick: Duration::from_millis(1),
            latency: (Duration::from_millis(1), Duration::from_millis(20)),
            loss: None,
            plans: Vec::new(),
            puppets: Vec::new(),
            shells: Vec::new(),
            callers: Vec::new(),
        }
    }

    /// The time since the world's beginning.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets time go on.
    pub fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// Lets time go on until `done`.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn until(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = self.sim.elapsed() + limit;
        while !done(self) {
            assert!(self.sim.elapsed() < end, "waited {limit:?} in vain: {what}");
            self.step();
        }
    }

    /// Lets time go on until something happens that had not happened at the last call, and says what.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn until_entry(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let end = self.sim.elapsed() + limit;
        loop {
            let found = {
                let entries = self.record.entries();
                let new = entries.get(self.seen..).unwrap_or_default();
                let found = new.iter().position(&wanted);
                self.seen = found.map_or(entries.len(), |index| self.seen + index + 1);
                found.and_then(|_| entries.get(self.seen - 1).cloned())
            };
            if let Some(entry) = found {
                return entry;
            }
            assert!(self.sim.elapsed() < end, "waited {limit:?} in vain: {what}");
            self.step();
        }
    }

    /// Lets time go on until a device notices such an event.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn until_event(&mut self, limit: Duration, what: &str, wanted: impl Fn(&DeviceId, &Event) -> bool) {
        self.until_entry(
            limit,
            what,
            |entry| matches!(&entry.what, What::Noticed(event) if wanted(&entry.device, event)),
        );
    }

    /// Lets time go on until everybody who asked has an answer, or none is to come.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn until_all_over(&mut self, limit: Duration) {
        self.until(limit, "every prompt ends", |mesh| locked(&mesh.asks).iter().all(Asked::over));
    }

    fn step(&mut self) {
        let result = self.sim.step();
        assert!(result.is_ok(), "a host failed: {result:?}");
    }

    /// Somebody asks a device a prompt and watches.
    pub fn ask(&mut self, of: &str, prompt: &str) -> Ask {
        self.submit(of, Submission::new(0, prompt))
    }

    /// Somebody hands in a prompt with everything else that can be said, and watches.
    pub fn submit(&mut self, to: &str, submission: Submission) -> Ask {
        let mut asks = locked(&self.asks);
        let ask = Ask(asks.len());
        let Prompts { base, .. } = &submission.prompts;
        asks.push(Asked {
            device: device(to),
            prompt: base.as_ref().into(),
            task: None,
            told: Vec::new(),
            refused: None,
            broken_off: false,
            decision: None,
        });
        drop(asks);
        self.command(to, Command::Ask(ask, Box::new(submission)));
        ask
    }

    /// Whoever asked leaves.
    pub fn leave(&mut self, ask: Ask) {
        let of = self.asked(ask).device;
        self.command(of.as_str(), Command::Leave(ask));
    }

    /// Tells a device something ([`bidmesh_io_tokio::driver::Handle::tell`]).
    pub fn tell(&mut self, to: &str, input: Input) {
        self.command(to, Command::Tell(input));
    }

    /// Somebody at a device says something to another, outside any task.
    pub fn say(&mut self, at: &str, to: &str, body: Body) {
        self.command(at, Command::Say(device(to), body));
    }

    fn command(&self, to: &str, command: Command) {
        let desk = self.desks.get(&device(to));
        assert!(desk.is_some(), "there is no device {to} with a driver");
        if let Some(desk) = desk {
            desk.put(command);
        }
    }

    /// What has become of a prompt.
    ///
    /// # Panics
    /// If it was asked in another world.
    pub fn asked(&self, ask: Ask) -> Asked {
        let asked = locked(&self.asks).get(ask.0).cloned();
        #[allow(clippy::expect_used, reason = "documented; a harness for tests")]
        asked.expect("an ask of this world")
    }

    /// What happened so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.record.entries().clone()
    }

    /// How often such an event was noticed.
    pub fn count_events(&self, wanted: impl Fn(&DeviceId, &Event) -> bool) -> usize {
        let noticed =
            |entry: &&Entry| matches!(&entry.what, What::Noticed(event) if wanted(&entry.device, event));
        self.record.entries().iter().filter(noticed).count()
    }

    /// What happened so far, a line each.
    pub fn trace(&self) -> String {
        self.record.entries().iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// The link between two devices goes silent: nothing arrives, nothing is refused, until [`Mesh::release`].
    pub fn hold(&mut self, a: &str, b: &str) {
        self.sim.hold(self.address(a), self.address(b));
    }

    /// What a silent link held back is delivered, and it works again.
    pub fn release(&mut self, a: &str, b: &str) {
        self.sim.release(self.address(a), self.address(b));
    }

    /// The device's process dies; its kernel closes its connections.
    pub fn kill(&mut self, id: &str) {
        self.sim.crash(self.address(id));
        for asked in locked(&self.asks).iter_mut().filter(|asked| asked.device == device(id) && !asked.over())
        {
            asked.broken_off = true;
        }
    }

    /// The device loses power: nobody hears anything.
    pub fn power_off(&mut self, id: &str) {
        let own = self.address(id);
        let others: Vec<IpAddr> = self.addresses.values().copied().filter(|other| *other != own).collect();
        for other in &others {
            self.sim.partition(own, *other);
        }
        self.kill(id);
        for other in &others {
            self.sim.repair(own, *other);
        }
    }

    /// A device that died starts again.
    pub fn start(&mut self, id: &str) {
        self.sim.bounce(self.address(id));
    }

    /// The chance of loss from here on.
    pub fn set_loss(&mut self, fail: f64) {
        self.sim.set_fail_rate(fail);
    }

    fn address(&self, id: &str) -> IpAddr {
        let address = self.addresses.get(&device(id)).copied();
        #[allow(
            clippy::expect_used,
            reason = "a harness for tests: the test names a device that it did not plan"
        )]
        address.expect("a device of this world")
    }

    /// What must hold at the end of every world.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&self) {
        let asks = locked(&self.asks).clone();
        for (number, asked) in asks.iter().enumerate() {
            let ask = Ask(number);
            assert!(asked.over(), "{ask} has no end");
            let Some(outcome) = asked.outcome() else { continue };
            let last =
                asked.told.iter().filter(|told| matches!(told, bidmesh_io_tokio::driver::Told::Outcome(_)));
            assert_eq!(last.count(), 1, "{ask} has one outcome");
            if outcome.status == OutcomeStatus::Completed {
                let by = outcome.device.as_ref().map(|by| answer(by, &asked.prompt));
                assert_eq!(Some(outcome.output.as_ref()), by.as_deref(), "{ask} has an answer of its device");
                assert_eq!(asked.text(), outcome.output.as_ref(), "{ask} was shown what is stored");
            }
            let decided = asked.decision.as_ref().and_then(|decision| decision.outcome.as_ref());
            assert_eq!(decided, Some(outcome), "{ask} has a decision record that says the same");
        }
        let (mut finished, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for Entry { device, what, .. } in self.record.entries().iter() {
            match what {
                What::Noticed(Event::Finished { task, .. }) => {
                    assert!(finished.insert((device.clone(), task.clone())), "{task} finished twice");
                }
                // Nothing there recognises a copy: no shell device may be handed one.
                What::Took(award) if !award.is_empty() => {
                    assert!(taken.insert((device.clone(), award.clone())), "{device} took {award} twice");
                }
                _ => {}
            }
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let entries = self.record.entries();
            let tail = entries.get(entries.len().saturating_sub(TAIL)..).unwrap_or_default();
            eprintln!("world {} at {:?}; the last {} entries:", self.seed, self.sim.elapsed(), tail.len());
            for entry in tail {
                eprintln!("{entry}");
            }
            eprintln!(
                "to see a test over many seeds again: BIDMESH_SIM_SEEDS={} cargo test -p bidmesh-sim",
                self.seed
            );
        }
    }
}

/// Lines of the record that a failed test prints.
const TAIL: usize = 150;

pub(crate) fn device(id: &str) -> DeviceId {
    let device = DeviceId::new(id);
    #[allow(clippy::expect_used, reason = "a harness for tests: ids are written in the test")]
    device.expect("a device id")
}
