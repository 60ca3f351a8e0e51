//! What the driver does besides core: guards that no correct device needs, and what it notes of inputs. What it does
//! together with a device is in `tests/driver.rs`.

use std::sync::Mutex;

use async_trait::async_trait;
use bidmesh_core::Submission;
use bidmesh_core::id::TaskId;
use bidmesh_core::input::{Executor as Ability, SendFailure, Sensors as Reading};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record, RunId, SendId, Sequence};
use bidmesh_core::wire::{Body, Dialect, Message};
use tokio::sync::oneshot;

use super::*;
use crate::clock::TokioClock;
use crate::execute::{Generated, Stop};

/// Everything around a driver: delivers nothing, runs until it is stopped, and notes what was asked of it.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    abilities: u32,
    readings: u32,
    stopped: u32,
    output_bytes: usize,
    written: Vec<Record>,
    sends_dropped: u32,
    /// Writes never end.
    stuck: bool,
}

impl World {
    fn see<T>(&self, see: impl FnOnce(&mut Seen) -> T) -> T {
        see(&mut self.0.lock().unwrap())
    }
}

struct SendDropped(World);

impl Drop for SendDropped {
    fn drop(&mut self) {
        self.0.see(|seen| seen.sends_dropped += 1);
    }
}

impl Network for World {
    async fn send(&self, _: Outgoing, _: Duration) -> Result<(), SendFailure> {
        let _dropped = SendDropped(self.clone());
        pending().await
    }

    async fn receive(&self) -> Incoming {
        pending().await
    }
}

#[async_trait]
impl Executor for World {
    async fn ability(&self) -> Ability {
        self.see(|seen| seen.abilities += 1);
        Ability::default()
    }

    async fn run(&self, job: Job, _: Generated, mut stop: Stop) -> RunOutcome {
        self.see(|seen| seen.output_bytes = job.output_bytes);
        stop.stopped().await;
        self.see(|seen| seen.stopped += 1);
        RunOutcome::Stopped
    }
}

#[async_trait]
impl Sensors for World {
    async fn read(&self) -> Reading {
        self.see(|seen| seen.readings += 1);
        Reading::default()
    }
}

#[async_trait]
impl Store for World {
    async fn load(&self) -> std::io::Result<Restored> {
        Ok(Restored::default())
    }

    async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
        if self.see(|seen| seen.stuck) {
            pending::<()>().await;
        }
        self.see(|seen| seen.written.extend(records));
        Ok(())
    }
}

fn running(world: &World) -> Running<World, TokioClock> {
    let parts = Parts {
        identity: Identity { device: id("A"), address: None },
        config: Config::default(),
        seed: 7,
        network: world.clone(),
        clock: TokioClock::new(),
        executor: Arc::new(world.clone()),
        sensors: Arc::new(world.clone()),
        store: Arc::new(world.clone()),
        sampling: Sampling::default(),
        peers: watch::Sender::new(Vec::new()),
    };
    Running::new(parts, Restored::default(), broadcast::Sender::new(1))
}

fn id(text: &str) -> DeviceId {
    DeviceId::new(text).expect("valid")
}

fn run() -> Action {
    let limit = Duration::from_secs(60);
    Action::Run { run: RunId(1), label: "award".into(), prompt: "hello".into(), npu: false, limit }
}

fn persist(number: u64, barrier: bool) -> Action {
    let outcome = Outcome {
        status: OutcomeStatus::Completed,
        device: None,
        output: "an answer".into(),
        attempts: 1,
        why: "it was asked".into(),
        written: bidmesh_core::input::Written::Durable,
        speed: None,
    };
    let record = Record::Outcome { task: TaskId::new("task_1").expect("valid"), outcome };
    Action::Persist { sequence: Sequence(number), record, barrier }
}

/// Lets everything that can go on go on.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn handle() -> (Handle, mpsc::Receiver<Request>) {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    (Handle { requests, events: broadcast::Sender::new(1) }, receiver)
}

/// What `attend` returns within this time.
async fn attend(running: &mut Running<World, TokioClock>, world: &World, time: Duration) -> Option<End> {
    let (_handle, mut requests) = handle();
    tokio::time::timeout(time, running.attend(world, &mut requests)).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_halt_is_ended() {
    let world = World::default();
    let mut running = running(&world);
    let within = Duration::from_secs(4);
    // Noted, but not handed to the device: it never halts.
    running.note(&Input::Shutdown { within }, Time::ZERO);
    assert!(attend(&mut running, &world, within).await.is_none(), "its time is not over");
    assert!(matches!(attend(&mut running, &world, HALTING).await, Some(End::OutOfTime)));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_given_more_time_has_it() {
    let world = World::default();
    let mut running = running(&world);
    let [soon, later] = [4, 20].map(Duration::from_secs);
    running.note(&Input::Shutdown { within: soon }, Time::ZERO);
    running.note(&Input::Shutdown { within: later }, Time::ZERO);
    assert!(attend(&mut running, &world, later).await.is_none(), "the first moment counts no more");
    assert!(matches!(attend(&mut running, &world, HALTING).await, Some(End::OutOfTime)));
}

#[tokio::test(start_paused = true)]
async fn the_end_stops_what_runs_and_writes_what_waits() {
    let world = World::default();
    let mut running = running(&world);
    running.perform(run(), Time::ZERO);
    running.perform(persist(1, false), Time::ZERO);
    settle().await;
    let begun = tokio::time::Instant::now();
    running.end().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "neither waits for company nor for its limit");
    assert_eq!(world.see(|seen| (seen.stopped, seen.written.len())), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_a_store_that_hangs() {
    let world = World::default();
    world.see(|seen| seen.stuck = true);
    let mut running = running(&world);
    running.perform(persist(1, true), Time::ZERO);
    let begun = tokio::time::Instant::now();
    running.end().await;
    assert_eq!(begun.elapsed().as_secs(), ENDING.as_secs());
}

/// With this many records that wait for a store that hangs: whether a prompt is taken in. Everything else must be.
async fn takes_prompts(records: u64) -> bool {
    let world = World::default();
    world.see(|seen| seen.stuck = true);
    let mut running = running(&world);
    running.perform(persist(0, true), Time::ZERO);
    assert!(attend(&mut running, &world, Duration::from_secs(1)).await.is_none(), "a write is under way");
    for number in 1..=records {
        running.perform(persist(number, true), Time::ZERO);
    }
    let (handle, mut requests) = handle();
    let people = async {
        // It is refused as soon as it is looked at.
        let prompt = handle.submit(Submission::new(0, ""));
        let taken = tokio::time::timeout(Duration::from_secs(60), prompt).await.is_ok();
        handle.decisions().await.expect("runs");
        handle.tell(Input::Shutdown { within: Duration::ZERO }).await.expect("runs");
        taken
    };
    let (end, taken) = tokio::join!(running.attend(&world, &mut requests), people);
    assert!(matches!(end, End::Drained | End::OutOfTime));
    taken
}

#[tokio::test(start_paused = true)]
async fn prompts_wait_while_too_much_waits_for_the_store_and_nothing_else_does() {
    assert!(takes_prompts(1000).await);
    assert!(!takes_prompts(1100).await);
}

#[tokio::test(start_paused = true)]
async fn prompts_that_wait_are_bounded() {
    let world = World::default();
    let mut running = running(&world);
    let mut answers = Vec::new();
    for _ in 0..=PROMPTS {
        let (submitter, answer) = oneshot::channel();
        let prompt = Prompt { submission: Box::new(Submission::new(0, "")), submitter };
        assert!(running.answer(Request::Submit(prompt)).is_none(), "the executor has not told yet");
        answers.push(answer);
    }
    let refused = answers.pop().expect("the last").try_recv().expect("answered").expect_err("refused");
    assert_eq!(refused.why, Refusal::QueueFull);
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
    attend(&mut running, &world, Duration::from_secs(1)).await;
    let empty = |answer: &mut oneshot::Receiver<_>| {
        matches!(answer.try_recv(), Ok(Err(Refused { why: Refusal::EmptyPrompt, .. })))
    };
    assert!(answers.iter_mut().all(empty), "then all are looked at");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_waits_while_too_many_requests_wait() {
    let (handle, mut requests) = handle();
    for _ in 0..REQUESTS {
        handle.tell(Input::Resume).await.expect("there is room");
    }
    let one_more = handle.tell(Input::Resume);
    tokio::pin!(one_more);
    let waited = tokio::time::timeout(Duration::from_secs(60), &mut one_more).await;
    assert!(waited.is_err(), "nobody takes them");
    assert!(requests.recv().await.is_some());
    assert_eq!(one_more.await, Ok(()), "its turn comes with the first that is taken");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_events_that_is_too_slow_is_told_how_much_it_missed() {
    let mut running = running(&World::default());
    running.events = broadcast::Sender::new(EVENTS);
    let mut reader = running.events.subscribe();
    for late_ms in 0..EVENTS as u64 + 3 {
        running.notice(Event::Slept { late_ms });
    }
    assert!(matches!(reader.recv().await, Err(broadcast::error::RecvError::Lagged(3))));
    assert!(matches!(reader.recv().await, Ok(noticed) if noticed.event == Event::Slept { late_ms: 3 }));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_send_is_dropped() {
    let world = World::default();
    let mut running = running(&world);
    let message = Message { from: id("A"), marker: None, body: Body::Bye };
    let send = Action::Send {
        id: SendId(1),
        device: id("B"),
        to: ([127, 0, 0, 1], 9999).into(),
        message,
        dialect: Dialect::Bidmesh,
        give_up_at: Time::from_start(Duration::from_secs(60)),
    };
    running.perform(send, Time::ZERO);
    settle().await;
    running.perform(Action::Abandon { id: SendId(1) }, Time::ZERO);
    settle().await;
    assert_eq!(world.see(|seen| seen.sends_dropped), 1);
}

#[tokio::test(start_paused = true)]
async fn new_settings_bound_the_output_of_new_runs() {
    let world = World::default();
    let mut running = running(&world);
    let mut config = Config::default();
    config.limits.output_bytes = 42;
    running.handle(Input::Reconfigured(Box::new(config)));
    running.perform(run(), Time::ZERO);
    settle().await;
    assert_eq!(world.see(|seen| seen.output_bytes), 42);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_puts_the_executor_in_doubt() {
    let world = World::default();
    let mut running = running(&world);
    settle().await;
    assert_eq!(world.see(|seen| seen.abilities), 1);
    running.handle(Input::Ran { run: RunId(1), outcome: RunOutcome::Stopped });
    settle().await;
    assert_eq!(world.see(|seen| seen.abilities), 1);
    running.handle(Input::Ran { run: RunId(1), outcome: RunOutcome::Failed("no".into()) });
    settle().await;
    assert_eq!(world.see(|seen| seen.abilities), 2);
}

#[tokio::test(start_paused = true)]
async fn what_happens_keeps_the_sensors_fresh_and_idleness_does_not() {
    let world = World::default();
    let mut running = running(&world);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.see(|seen| seen.readings), 1);
    running.handle(Input::Wake);
    settle().await;
    assert_eq!(world.see(|seen| seen.readings), 1);
    running.handle(Input::Resume);
    settle().await;
    assert_eq!(world.see(|seen| seen.readings), 2);
}
