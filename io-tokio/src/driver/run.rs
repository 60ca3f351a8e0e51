//! The loop: takes whatever comes first, hands it to the device, does what the device owes.

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bidmesh_core::decision::Decision;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::RunOutcome;
use bidmesh_core::outbox::{OutcomeStatus, Refusal};
use bidmesh_core::restore::Restored;
use bidmesh_core::{Action, Config, Device, Event, Identity, Input, Outbox, Report, Time};
use tokio::sync::{broadcast, mpsc, watch};

use super::recalls::{AgedDecision, Recalled};
use super::runs::Runs;
use super::sampler::{Sampler, Sampling};
use super::sends::Sends;
use super::watchers::Watchers;
use super::writes::Writes;
use super::{Handle, Noticed, Prompt, Refused, Request};
use crate::clock::Clock;
use crate::execute::{Executor, Job};
use crate::network::{Incoming, Network, Outgoing};
use crate::sensors::Sensors;
use crate::store::{DatedDecision, Store};

#[cfg(test)]
mod tests;

/// Requests that wait for the device.
const REQUESTS: usize = 64;

/// Prompts that wait until the executor has told what it can do, or while the store is slow; a further one is refused.
const PROMPTS: usize = 1024;

/// What a prompt that was refused for that is told about when to try again.
const RETRY_AFTER_MS: u64 = 2000;

/// Events that a reader may be behind.
const EVENTS: usize = 1024;

/// How long after the limit of a shutdown the device may take to halt: it hands its work back then and says goodbye.
const HALTING: Duration = Duration::from_secs(5);

/// How long the driver may take to end after that: time to end processes and to write what waits.
const ENDING: Duration = Duration::from_secs(3);

/// What a device is made of.
pub struct Parts<N, C> {
    /// Who it is.
    pub identity: Identity,
    /// The settings of its core.
    pub config: Config,
    /// 128 fresh bits of entropy: ids and random choices come from them.
    pub seed: u128,
    /// What carries its messages.
    pub network: N,
    /// Its time.
    pub clock: C,
    /// What runs prompts.
    pub executor: Arc<dyn Executor>,
    /// What is measured.
    pub sensors: Arc<dyn Sensors>,
    /// What survives it.
    pub store: Arc<dyn Store>,
    /// How often it looks at itself.
    pub sampling: Sampling,
    /// Gets the whole address book each time that it changes; whoever writes peers.txt needs the last one only.
    pub peers: watch::Sender<Vec<(DeviceId, SocketAddr)>>,
}

/// Why a driver ended.
#[derive(Debug)]
pub enum End {
    /// The device was told to shut down, and everything is drained.
    Drained,
    /// The device was told to shut down and did not within the limit; what still ran was ended.
    OutOfTime,
    /// The store could not be read, so nothing was begun: starting without it could run twice what had been accepted.
    Unreadable(std::io::Error),
}

/// Owns a device and does what it decides.
pub struct Driver<N, C> {
    parts: Parts<N, C>,
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<Arc<Noticed>>,
}

impl<N: Network, C: Clock> Driver<N, C> {
    /// A driver, and the way to talk to it. Requests wait until [`Driver::run`] runs.
    pub fn new(parts: Parts<N, C>) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let events = broadcast::Sender::new(EVENTS);
        let handle = Handle { requests: sender, events: events.clone() };
        (Self { parts, requests, events }, handle)
    }

    /// Runs the device until it has shut down ([`Input::Shutdown`]), or never ends: it goes on without handles.
    /// Returns at most eight seconds after the limit that the shutdown names. Dropping the future ends everything at
    /// once, like a crash.
    pub async fn run(self) -> End {
        let Self { parts, mut requests, events } = self;
        let restored = match parts.store.load().await {
            Ok(restored) => restored,
            Err(error) => return End::Unreadable(error),
        };
        let network = parts.network.clone();
        let mut running = Running::new(parts, restored, events);
        let end = running.attend(&network, &mut requests).await;
        // From here on nobody is listened to: whoever still asks is told that the device has ended.
        drop(requests);
        running.end().await;
        end
    }
}

/// A device and everything that is under way for it.
struct Running<N, C> {
    device: Device,
    outbox: Outbox,
    clock: C,
    /// For the device's own deadline.
    wake: Timer<C>,
    /// For the end of a shutdown.
    limit: Timer<C>,
    sends: Sends<N>,
    runs: Runs,
    writes: Writes,
    watchers: Watchers,
    sampler: Sampler,
    executor: Arc<dyn Executor>,
    peers: watch::Sender<Vec<(DeviceId, SocketAddr)>>,
    events: broadcast::Sender<Arc<Noticed>>,
    output_bytes: usize,
    /// Prompts that wait.
    prompts: VecDeque<Prompt>,
    /// Whether it is known what the executor can do. Tasks that the store kept must not find a device without one, so
    /// they wait for that, and whoever asks for them waits, too: five seconds at most.
    ready: bool,
    halted: bool,
}

impl<N: Network, C: Clock> Running<N, C> {
    fn new(parts: Parts<N, C>, restored: Restored, events: broadcast::Sender<Arc<Noticed>>) -> Self {
        Self {
            watchers: Watchers::new(&restored),
            output_bytes: parts.config.limits.output_bytes,
            device: Device::new(parts.identity, Seed::new(parts.seed), parts.config, restored),
            outbox: Outbox::default(),
            wake: Timer::new(parts.clock.clone()),
            limit: Timer::new(parts.clock.clone()),
            clock: parts.clock,
            sends: Sends::new(parts.network),
            runs: Runs::new(),
            writes: Writes::new(parts.store),
            sampler: Sampler::new(parts.sampling, parts.sensors, Arc::clone(&parts.executor)),
            executor: parts.executor,
            peers: parts.peers,
            events,
            prompts: VecDeque::new(),
            ready: false,
            halted: false,
        }
    }

    async fn attend(&mut self, network: &N, requests: &mut mpsc::Receiver<Request>) -> End {
        // Kept from one round to the next, so that no message is lost between two calls.
        let receive = network.receive();
        tokio::pin!(receive);
        let mut anybody = true;
        // What was said before the device ran, such as whom it knows, comes before what the store kept.
        let mut early = VecDeque::new();
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Tell(input) if tellable(&input) => self.handle(input),
                question => early.push_back(question),
            }
        }
        while !self.halted {
            self.wake.set(self.device.deadline().map(|(at, _)| at));
            let open = self.is_open();
            // One thing at a time, and chosen at random among those that are ready: whatever floods this device,
            // its deadlines and its own work get their turn.
            let input = tokio::select! {
                () = self.wake.passed(), if !self.device.has_past() => Input::Wake,
                () = self.limit.passed() => return End::OutOfTime,
                input = self.sends.next() => input,
                input = self.runs.next() => input,
                input = self.writes.next() => input,
                input = self.sampler.next() => input,
                input = self.watchers.next() => input,
                incoming = &mut receive, if open => {
                    receive.set(network.receive());
                    let Incoming { source, message } = incoming;
                    Input::Received { source, message }
                }
                () = ready(()), if open && !self.prompts.is_empty() => match self.prompts.pop_front() {
                    Some(prompt) => self.submit(prompt),
                    None => continue,
                },
                request = next(&mut early, requests), if anybody && !self.device.has_past() => {
                    anybody = request.is_some();
                    match request.and_then(|request| self.answer(request)) {
                        Some(input) => input,
                        None => continue,
                    }
                }
            };
            self.handle(input);
            if self.ready && self.device.has_past() {
                self.handle(Input::Wake);
            }
        }
        End::Drained
    }

    /// Whether prompts and messages are taken in. They wait until it is known what the executor can do, since a prompt
    /// would find a device without one, and while too much waits for the store. Nothing else waits for either.
    fn is_open(&self) -> bool {
        self.ready && !self.writes.is_full()
    }

    fn submit(&mut self, Prompt { mut submission, submitter }: Prompt) -> Input {
        submission.ticket = self.watchers.submits(submission.attached, submitter);
        Input::Submit(*submission)
    }

    /// Answers what needs no input; else says which input it is.
    fn answer(&mut self, request: Request) -> Option<Input> {
        // Whoever does not wait for an answer any more needs none.
        match request {
            Request::Tell(input) => return tellable(&input).then_some(input),
            Request::Submit(prompt) if self.is_open() && self.prompts.is_empty() => {
                return Some(self.submit(prompt));
            }
            Request::Submit(prompt) if self.prompts.len() < PROMPTS => self.prompts.push_back(prompt),
            Request::Submit(prompt) => {
                let refused = Refused { why: Refusal::QueueFull, retry_after_ms: Some(RETRY_AFTER_MS) };
                drop(prompt.submitter.send(Err(refused)));
            }
            Request::Say(to, body, sayer) => {
                return Some(Input::Say { ticket: self.watchers.says(sayer), to, body });
            }
            Request::Follow(task, asker) => drop(asker.send(self.watchers.follow(task, &self.device))),
            Request::Snapshot(asker) => drop(asker.send(self.device.snapshot(self.clock.now()))),
            Request::Outcome(task, asker) => drop(asker.send(self.device.outcome(&task).cloned())),
            Request::Outcomes(asker) => {
                let outcomes = self.device.outcomes();
                drop(asker.send(outcomes.map(|(task, outcome)| (task.clone(), outcome.clone())).collect()));
            }
            Request::Decision(task, asker) => {
                let held = self.device.decision(&task).map(|decision| self.aged(decision));
                drop(asker.send(self.recalled(held)));
            }
            Request::Decisions(asker) => {
                let held = self.device.decisions().map(|decision| self.aged(decision)).collect();
                drop(asker.send(self.recalled(held)));
            }
        }
        None
    }

    fn aged(&self, decision: &Decision) -> AgedDecision {
        AgedDecision { decision: decision.clone(), age: self.clock.now().since(decision.submitted) }
    }

    fn recalled<T>(&self, held: T) -> Recalled<T> {
        Recalled { held, store: self.writes.store(), now: self.clock.wall() }
    }

    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.note(&input, now);
        self.device.handle(now, input, &mut self.outbox);
        if cfg!(debug_assertions) {
            self.device.check();
        }
        let Outbox { actions, events } = std::mem::take(&mut self.outbox);
        for action in actions {
            self.perform(action, now);
        }
        for event in events {
            self.notice(event);
        }
    }

    /// What the driver itself needs to know of an input.
    fn note(&mut self, input: &Input, now: Time) {
        match input {
            Input::Wake | Input::SensorsRead(_) | Input::Persisted { .. } => return,
            Input::ExecutorChanged(_) => {
                self.ready = true;
                return;
            }
            Input::Shutdown { within } => self.limit.set(Some(now + *within + HALTING)),
            Input::Reconfigured(config) => self.output_bytes = config.limits.output_bytes,
            Input::Ran { outcome: RunOutcome::Failed(_), .. } => self.sampler.doubt_executor(),
            _ => {}
        }
        self.sampler.busy();
    }

    fn perform(&mut self, action: Action, now: Time) {
        match action {
            Action::Send { id, device, to, message, dialect, give_up_at } => {
                self.sends.begin(id, Outgoing { device, to, message, dialect }, give_up_at.since(now));
            }
            Action::Abandon { id } => self.sends.abandon(id),
            Action::Run { run, label, prompt, npu, limit } => {
                let job = Job { label, prompt, npu, limit, output_bytes: self.output_bytes };
                self.runs.begin(run, job, Arc::clone(&self.executor));
            }
            Action::Stop { run } => self.runs.stop(run),
            Action::Report(report) => {
                if let Report::Outcome { task, outcome } = &report
                    && outcome.status != OutcomeStatus::Decided
                {
                    self.keep_decision(task);
                }
                self.watchers.report(report, &self.device);
            }
            Action::Persist { sequence, record, barrier } => self.writes.persist(sequence, record, barrier),
            Action::WritePeers { peers } => drop(self.peers.send_replace(peers)),
            Action::Halt => self.halted = true,
        }
    }

    /// That of a prompt that somebody here asked has just become complete. A dry run is nothing to come back to.
    fn keep_decision(&mut self, task: &TaskId) {
        // They are long: none is copied for nothing.
        if let Some(decision) = self.device.decision(task).filter(|_| self.writes.takes_decisions()) {
            let AgedDecision { decision, age } = self.aged(decision);
            let submitted = self.clock.wall().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            self.writes.persist_decision(DatedDecision { decision, submitted });
        }
    }

    fn notice(&self, event: Event) {
        if self.events.receiver_count() > 0 {
            // The last reader may leave just now.
            let _ = self.events.send(Arc::new(Noticed { at: self.clock.wall(), event }));
        }
    }

    /// Ends what is under way: messages may still leave, processes end, records are written.
    async fn end(&mut self) {
        self.sampler.stop();
        self.runs.stop_all();
        self.writes.hurry();
        // What does not end in time is ended by being dropped.
        let _ = tokio::time::timeout(ENDING, async {
            while !(self.sends.is_empty() && self.runs.is_empty() && self.writes.is_empty()) {
                tokio::select! {
                    _ = self.sends.next() => {}
                    _ = self.runs.next() => {}
                    _ = self.writes.next() => {}
                }
            }
        })
        .await;
    }
}

/// The next request; may be cancelled.
async fn next(early: &mut VecDeque<Request>, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
    match early.pop_front() {
        Some(request) => Some(request),
        None => requests.recv().await,
    }
}

/// Whether this is one of the inputs that [`Handle::tell`] is for; the others have answers or come from the driver.
fn tellable(input: &Input) -> bool {
    matches!(
        input,
        Input::Cancel { .. }
            | Input::Pause { .. }
            | Input::Resume
            | Input::Reconfigured(_)
            | Input::PeersEdited(_)
            | Input::AddressChanged(_)
            | Input::Shutdown { .. }
    )
}

/// A moment that may be moved.
struct Timer<C> {
    clock: C,
    at: Option<Time>,
    /// When `sleep` ends: at the moment or before it, if there is one.
    armed: Option<Time>,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<C: Clock> Timer<C> {
    fn new(clock: C) -> Self {
        Self { clock, at: None, armed: None, sleep: Box::pin(pending()) }
    }

    /// `None`: never. A moment that moves away costs nothing until the earlier one has come: almost every input moves
    /// the device's deadline, and a timer of the system costs five calls of it.
    fn set(&mut self, at: Option<Time>) {
        self.at = at;
        if let Some(at) = at
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.arm(at);
        }
    }

    fn arm(&mut self, at: Time) {
        let clock = self.clock.clone();
        self.armed = Some(at);
        self.sleep = Box::pin(async move { clock.sleep_until(at).await });
    }

    /// Returns once the moment has come, then never until it is set again. May be cancelled.
    async fn passed(&mut self) {
        loop {
            self.sleep.as_mut().await;
            self.armed = None;
            self.sleep = Box::pin(pending());
            match self.at {
                Some(at) if at <= self.clock.now() => {
                    self.at = None;
                    return;
                }
                Some(at) => self.arm(at),
                None => {}
            }
        }
    }
}
