//! The driver around a real device, with a network, an executor and a store that do what a test says.

#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{
    Executor as Ability, Priority, Prompts, RunOutcome, SendFailure, Sensors as Reading,
};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record, Refusal, Unsaid};
use bidmesh_core::policy::Policy;
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Advertised, BidRequest, Body, Decoded, Message, Repairs};
use bidmesh_core::{Config, Identity, Input, Submission, Time};
use bidmesh_io_tokio::clock::{BootClock, Clock, TokioClock};
use bidmesh_io_tokio::driver::{Driver, End, Ended, Following, Handle, Parts, Sampling, Told};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, Stop};
use bidmesh_io_tokio::network::{Incoming, Network, Outgoing};
use bidmesh_io_tokio::sensors::Sensors;
use bidmesh_io_tokio::store::{DatedDecision, NoStore, Store};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

/// Generous: only a driver that never does it is that late.
const DEADLINE: Duration = Duration::from_secs(60);

/// Delivers everything, except to the device that is switched off; what arrives is what the test says.
#[derive(Clone)]
struct Wire {
    sent: mpsc::UnboundedSender<Outgoing>,
    arriving: Arc<Mutex<mpsc::UnboundedReceiver<Incoming>>>,
}

impl Network for Wire {
    async fn send(&self, outgoing: Outgoing, _within: Duration) -> Result<(), SendFailure> {
        if outgoing.device.as_str() == "Off" {
            return Err(SendFailure::Refused);
        }
        // A test that does not look at messages has dropped the receiver.
        let _ = self.sent.send(outgoing);
        Ok(())
    }

    async fn receive(&self) -> Incoming {
        match self.arriving.lock().await.recv().await {
            Some(incoming) => incoming,
            None => std::future::pending().await,
        }
    }
}

/// Echoes prompts; panics at one of them.
struct Echo;

#[async_trait]
impl Executor for Echo {
    async fn ability(&self) -> Ability {
        Ability { available: true, npu: false, slots: None, why: "an echo".into() }
    }

    async fn run(&self, job: Job, text: Generated, mut stop: Stop) -> RunOutcome {
        match job.prompt.as_ref() {
            "panic" => panic!("as told"),
            "wait" => {
                stop.stopped().await;
                RunOutcome::Stopped
            }
            prompt => {
                text.push(prompt).await;
                RunOutcome::Completed(prompt.into())
            }
        }
    }
}

struct Unknown;

#[async_trait]
impl Sensors for Unknown {
    async fn read(&self) -> Reading {
        Reading::default()
    }
}

/// A store with a disk that is broken for reading, for writing, or both.
struct Broken {
    load: bool,
    write: bool,
}

#[async_trait]
impl Store for Broken {
    async fn load(&self) -> std::io::Result<Restored> {
        if self.load { Err(std::io::ErrorKind::InvalidData.into()) } else { Ok(Restored::default()) }
    }

    async fn write(&self, _: Vec<Record>) -> std::io::Result<()> {
        if self.write { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// A store with a task of an earlier start.
struct Open;

#[async_trait]
impl Store for Open {
    async fn load(&self) -> std::io::Result<Restored> {
        let task = Record::Task {
            task: TaskId::new("task_1").expect("valid"),
            prompts: Prompts { base: "hello".into(), npu: None, cpu: None },
            priority: Priority::default(),
            key: None,
            attached: false,
            eligible: None,
            deadline: None,
            policy: Policy::NpuFirst,
            bid_deadline: None,
            result_timeout: Duration::from_secs(300),
            client: None,
        };
        Ok(Restored { records: vec![(task, Duration::ZERO)] })
    }

    async fn write(&self, _: Vec<Record>) -> std::io::Result<()> {
        Ok(())
    }
}

/// A store in memory that keeps everything.
#[derive(Default)]
struct Kept {
    records: std::sync::Mutex<Vec<Record>>,
    decisions: std::sync::Mutex<Vec<DatedDecision>>,
}

#[async_trait]
impl Store for Kept {
    async fn load(&self) -> std::io::Result<Restored> {
        let records = self.records.lock().unwrap().clone();
        Ok(Restored { records: records.into_iter().map(|record| (record, Duration::ZERO)).collect() })
    }

    async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
        self.write_with(records, Vec::new()).await
    }

    async fn write_with(&self, records: Vec<Record>, decisions: Vec<DatedDecision>) -> std::io::Result<()> {
        self.records.lock().unwrap().extend(records);
        self.decisions.lock().unwrap().extend(decisions);
        Ok(())
    }

    async fn decision(&self, task: &TaskId) -> std::io::Result<Option<DatedDecision>> {
        Ok(self.decisions().await?.into_iter().find(|kept| kept.decision.task == *task))
    }

    async fn decisions(&self) -> std::io::Result<Vec<DatedDecision>> {
        Ok(self.decisions.lock().unwrap().clone())
    }
}

/// Begins at zero with each start, as a real one; but the calendar goes on.
#[derive(Clone)]
struct Dated {
    since_start: TokioClock,
    calendar: TokioClock,
}

impl Clock for Dated {
    fn now(&self) -> Time {
        self.since_start.now()
    }

    async fn sleep_until(&self, until: Time) {
        self.since_start.sleep_until(until).await;
    }

    fn wall(&self) -> SystemTime {
        self.calendar.wall()
    }
}

struct Scene {
    handle: Handle,
    end: JoinHandle<End>,
    sent: mpsc::UnboundedReceiver<Outgoing>,
    arriving: mpsc::UnboundedSender<Incoming>,
    peers: watch::Receiver<Vec<(DeviceId, SocketAddr)>>,
}

impl Scene {
    fn new() -> Self {
        Self::with(TokioClock::new(), Arc::new(NoStore))
    }

    fn with(clock: impl Clock, store: Arc<dyn Store>) -> Self {
        Self::of_seed(7, clock, store)
    }

    fn of_seed(seed: u128, clock: impl Clock, store: Arc<dyn Store>) -> Self {
        let (sent_sender, sent) = mpsc::unbounded_channel();
        let (arriving, arriving_receiver) = mpsc::unbounded_channel();
        let (peers_sender, peers) = watch::channel(Vec::new());
        let (driver, handle) = Driver::new(Parts {
            identity: Identity { device: id("A"), address: Some(address(1)) },
            config: Config::default(),
            seed,
            network: Wire { sent: sent_sender, arriving: Arc::new(Mutex::new(arriving_receiver)) },
            clock,
            executor: Arc::new(Echo),
            sensors: Arc::new(Unknown),
            store,
            sampling: Sampling::default(),
            peers: peers_sender,
        });
        Self { handle, end: tokio::spawn(driver.run()), sent, arriving, peers }
    }

    async fn submit(&self, prompt: &str) -> Following {
        self.handle.submit(Submission::new(0, prompt)).await.expect("runs").expect("taken on")
    }

    fn arrive(&self, from: u8, body: Body) {
        arrive(&self.arriving, from, body);
    }
}

fn arrive(arriving: &mpsc::UnboundedSender<Incoming>, from: u8, body: Body) {
    let message = Message { from: id(&format!("P{from}")), marker: None, body };
    let message = Ok(Decoded { message, repairs: Repairs::default() });
    arriving.send(Incoming { source: address(from), message }).expect("runs");
}

async fn next_sent(sent: &mut mpsc::UnboundedReceiver<Outgoing>, kind: &str) -> Outgoing {
    let wanted = async {
        loop {
            let outgoing = sent.recv().await.expect("runs");
            if outgoing.message.body.kind() == kind {
                return outgoing;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wanted).await.expect("it is sent")
}

fn id(text: &str) -> DeviceId {
    DeviceId::new(text).expect("valid")
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 9999))
}

async fn outcome(following: &mut Following) -> Outcome {
    let last = async {
        while let Some(told) = following.next().await {
            if let Told::Outcome(outcome) = told {
                return outcome;
            }
        }
        panic!("the device ended first");
    };
    tokio::time::timeout(DEADLINE, last).await.expect("it ends")
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_panics_fails_its_run_and_nothing_else() {
    let scene = Scene::new();
    let failed = outcome(&mut scene.submit("panic").await).await;
    assert_eq!(failed.status, OutcomeStatus::Failed);
    assert!(failed.why.contains("the executor has a defect and ended: as told"), "{}", failed.why);
    let completed = outcome(&mut scene.submit("hello").await).await;
    assert_eq!((completed.status, completed.output.as_ref()), (OutcomeStatus::Completed, "hello"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_over_can_be_followed_from_its_beginning() {
    let scene = Scene::new();
    let mut first = scene.submit("hello").await;
    let task = first.task().clone();
    outcome(&mut first).await;
    let mut late = scene.handle.follow(task.clone()).await.expect("runs").expect("known");
    let text = Told::Text { device: id("A"), offset: 0, text: "hello".into() };
    assert_eq!(late.next().await, Some(text));
    assert_eq!(outcome(&mut late).await.status, OutcomeStatus::Completed);
    assert_eq!(late.next().await, None);

    let unknown = TaskId::new("task_unknown").expect("valid");
    assert!(scene.handle.follow(unknown.clone()).await.expect("runs").is_none());
    assert!(scene.handle.decision(unknown).await.expect("runs").is_none());
    let decision = scene.handle.decision(task.clone()).await.expect("runs").expect("kept");
    assert_eq!(scene.handle.decisions().await.expect("runs"), [decision]);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_last_watcher_leaves_is_stopped() {
    let scene = Scene::new();
    let following = scene.submit("wait").await;
    let task = following.task().clone();
    let runs = |snapshot: &bidmesh_core::snapshot::Snapshot| snapshot.runs.len();
    assert_eq!(runs(&scene.handle.snapshot().await.expect("runs")), 1);
    drop(following);
    let stopped = async {
        while runs(&scene.handle.snapshot().await.expect("runs")) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, stopped).await.expect("it stops");
    let mut late = scene.handle.follow(task).await.expect("runs").expect("known");
    assert_eq!(outcome(&mut late).await.status, OutcomeStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn who_says_hello_comes_into_the_address_book() {
    let mut scene = Scene::new();
    scene.arrive(2, Body::Hello(Advertised::from(address(2))));
    let written = scene.peers.wait_for(|peers| *peers == [(id("P2"), address(2))]);
    tokio::time::timeout(DEADLINE, written).await.expect("it is written").expect("runs");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_delivered_or_it_is_said_why_not() {
    let mut scene = Scene::new();
    let peers = vec![(id("P2"), address(2)), (id("Off"), address(3))];
    scene.handle.tell(Input::PeersEdited(peers)).await.expect("runs");
    let say = |to: &str| scene.handle.say(id(to), Body::Text("hello".into()));
    assert_eq!(say("P2").await, Ok(None));
    assert_eq!(say("Nobody").await, Ok(Some(Unsaid::UnknownDevice)));
    assert_eq!(say("Off").await, Ok(Some(Unsaid::NotDelivered(SendFailure::Refused))));
    assert_eq!(next_sent(&mut scene.sent, "TEXT").await.device, id("P2"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_starts_nothing() {
    let scene = Scene::with(TokioClock::new(), Arc::new(Broken { load: true, write: false }));
    let end = scene.end.await.expect("no panic");
    assert!(matches!(end, End::Unreadable(error) if error.kind() == std::io::ErrorKind::InvalidData));
    assert_eq!(scene.handle.snapshot().await, Err(Ended));
}

#[tokio::test(start_paused = true)]
async fn a_task_of_an_earlier_start_is_known_from_the_first_question_on_and_finds_the_executor() {
    let scene = Scene::with(TokioClock::new(), Arc::new(Open));
    let task = TaskId::new("task_1").expect("valid");
    let mut following = scene.handle.follow(task).await.expect("runs").expect("known");
    let outcome = outcome(&mut following).await;
    assert_eq!(
        (outcome.status, outcome.output.as_ref()),
        (OutcomeStatus::Completed, "hello"),
        "{}",
        outcome.why
    );
    assert_eq!(scene.handle.outcomes().await.expect("runs").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_refuses_what_it_could_lose() {
    let scene = Scene::with(TokioClock::new(), Arc::new(Broken { load: false, write: true }));
    let refused = scene.handle.submit(Submission::new(0, "hello")).await.expect("runs").expect_err("refused");
    assert_eq!(refused.why, Refusal::NotDurable);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_shut_down_says_so_to_everybody() {
    let scene = Scene::new();
    let mut following = scene.submit("wait").await;
    scene.handle.tell(Input::Shutdown { within: Duration::from_secs(1) }).await.expect("runs");
    assert_eq!(outcome(&mut following).await.status, OutcomeStatus::Cancelled, "it was attached");
    assert!(matches!(scene.end.await, Ok(End::Drained)));
    assert_eq!(scene.handle.tell(Input::Resume).await, Err(Ended));
    assert!(matches!(scene.handle.submit(Submission::new(0, "hello")).await, Err(Ended)));
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_without_handles() {
    let Scene { handle, end, mut sent, arriving, .. } = Scene::new();
    drop(handle);
    arrive(&arriving, 2, Body::Hello(Advertised::from(address(2))));
    arrive(&arriving, 2, Body::BidRequest(BidRequest::default()));
    assert_eq!(next_sent(&mut sent, "BID_RESPONSE").await.device, id("P2"));
    assert!(!end.is_finished());
}

#[tokio::test(start_paused = true)]
async fn only_what_has_no_answer_can_be_told() {
    let scene = Scene::new();
    // It would be answered to a ticket that somebody else holds.
    scene.handle.tell(Input::Submit(Submission::new(1, "stolen"))).await.expect("runs");
    scene.handle.tell(Input::Wake).await.expect("runs");
    assert_eq!(outcome(&mut scene.submit("hello").await).await.output.as_ref(), "hello");
    assert_eq!(scene.handle.decisions().await.expect("runs").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_decision_record_is_there_after_a_restart_and_as_old_as_it_is() {
    let (store, calendar) = (Arc::new(Kept::default()), TokioClock::new());
    let start = |seed| {
        let clock = Dated { since_start: TokioClock::new(), calendar };
        Scene::of_seed(seed, clock, Arc::clone(&store) as Arc<dyn Store>)
    };
    let scene = start(1);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let dry = Submission { dry_run: true, ..Submission::new(0, "hello") };
    outcome(&mut scene.handle.submit(dry).await.expect("runs").expect("taken on")).await;
    let mut following = scene.submit("hello").await;
    let task = following.task().clone();
    outcome(&mut following).await;
    assert_eq!(scene.handle.decisions().await.expect("runs").len(), 2);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let before = scene.handle.decision(task.clone()).await.expect("runs").expect("held");
    assert!(before.age >= Duration::from_secs(50) && before.age < Duration::from_secs(60), "{before:?}");
    assert_eq!(store.decisions().await.unwrap().len(), 1, "that of a dry run is not kept");
    scene.end.abort();

    let scene = start(2);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let after = scene.handle.decision(task.clone()).await.expect("runs").expect("kept");
    assert_eq!(after.decision, before.decision);
    let since = after.age - before.age;
    assert!(since >= Duration::from_secs(1000) && since < Duration::from_secs(1001), "{since:?}");
    let slow = Submission { deadline: Some(Duration::from_secs(20)), ..Submission::new(0, "wait") };
    let mut second = scene.handle.submit(slow).await.expect("runs").expect("taken on");
    outcome(&mut second).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(store.decisions().await.unwrap().len(), 2);
    let all = scene.handle.decisions().await.expect("runs");
    let names: Vec<&TaskId> = all.iter().map(|kept| &kept.decision.task).collect();
    assert_eq!(names, [&task, second.task()], "the older first, each once");
    scene.end.abort();

    // The calendar was set back to its beginning.
    let scene = Scene::with(TokioClock::new(), store);
    let set_back = scene.handle.decision(second.task().clone()).await.expect("runs").expect("kept");
    let took = set_back.decision.ended.expect("over").since(set_back.decision.submitted);
    assert!(took >= Duration::from_secs(20) && set_back.age == took, "{set_back:?}");
}

/// In real time: a paused clock would stand still as long as anything is going on.
#[tokio::test]
async fn a_flood_of_messages_and_requests_delays_no_deadline() {
    let scene = Scene::with(BootClock::new(), Arc::new(NoStore));
    let mut floods = tokio::task::JoinSet::new();
    for from in 2..5 {
        let arriving = scene.arriving.clone();
        floods.spawn(async move {
            let message = Message { from: id(&format!("P{from}")), marker: None, body: Body::Bye };
            loop {
                let message = Ok(Decoded { message: message.clone(), repairs: Repairs::default() });
                // The queue is unbounded: a hundred at a time, as fast as they are taken.
                for _ in 0..100 {
                    let _ = arriving.send(Incoming { source: address(from), message: message.clone() });
                }
                tokio::task::yield_now().await;
            }
        });
        let handle = scene.handle.clone();
        floods.spawn(async move { while handle.snapshot().await.is_ok() {} });
    }
    let deadline = Some(Duration::from_millis(200));
    let waiting = Submission { deadline, ..Submission::new(0, "wait") };
    let mut following = scene.handle.submit(waiting).await.expect("runs").expect("taken on");
    assert_eq!(outcome(&mut following).await.status, OutcomeStatus::Expired);
    floods.abort_all();
}

#[tokio::test(start_paused = true)]
async fn many_prompts_at_once_are_all_answered_once() {
    let scene = Scene::new();
    let mut asks = tokio::task::JoinSet::new();
    for number in 0..300 {
        let handle = scene.handle.clone();
        asks.spawn(async move {
            let submission = Submission::new(0, format!("prompt {number}"));
            let mut following = handle.submit(submission).await.expect("runs").expect("taken on");
            outcome(&mut following).await.output
        });
    }
    let outputs: BTreeSet<_> = asks.join_all().await.into_iter().collect();
    assert_eq!(outputs.len(), 300);
    let snapshot = scene.handle.snapshot().await.expect("runs");
    assert!(snapshot.tasks.is_empty() && snapshot.runs.is_empty());
}
