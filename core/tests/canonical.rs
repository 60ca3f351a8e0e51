//! What a model checker compares: devices that came by different ways to where they behave alike are equal, and
//! no others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::canonical::Canonical;
use bidmesh_core::config::Detection;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{BootId, DeviceId};
use bidmesh_core::input::{Executor, RunOutcome, Written};
use bidmesh_core::restore::Restored;
use bidmesh_core::snapshot::Health;
use bidmesh_core::wire::{Body, Decoded, Marker, Message, Repairs, TaskOrder};
use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Submission, Time};

/// A device that performs what it is owed at once: letters arrive, records are written.
struct Played {
    device: Device,
    now: Duration,
    runs: Vec<bidmesh_core::outbox::RunId>,
}

impl Played {
    fn new() -> Self {
        // A heartbeat is always pending.
        Self::with(Detection::OFF)
    }

    fn with(detection: Detection) -> Self {
        let me = Identity { device: id("A"), address: Some(address(1)) };
        let config = Config { detection, ..Config::default() };
        let device = Device::new(me, Seed::from(1), config, Restored::default());
        let mut played = Self { device, now: Duration::ZERO, runs: Vec::new() };
        played.input(Input::PeersEdited(vec![(id("B"), address(2))]));
        let executor = Executor { available: true, ..Executor::default() };
        played.input(Input::ExecutorChanged(executor));
        played
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Outbox::default();
            self.device.handle(Time::from_start(self.now), input, &mut out);
            self.device.check();
            for action in out.actions {
                match action {
                    Action::Send { id, .. } => inputs.push(Input::Delivered { send: id }),
                    Action::Persist { sequence, .. } => {
                        inputs.push(Input::Persisted { sequence, written: Written::Durable });
                    }
                    Action::Run { run, .. } => self.runs.push(run),
                    _ => {}
                }
            }
        }
    }

    fn told(&mut self, body: Body) {
        let marker = Some(Marker { version: Marker::VERSION, boot: BootId::draw(Seed::from(2)) });
        let message = Message { from: id("B"), marker, body };
        let message = Ok(Decoded { message, repairs: Repairs::default() });
        self.input(Input::Received { source: address(2), message });
    }

    /// Time passes, and the device is woken whenever it asked to be.
    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some((at, _)) = self.device.deadline().filter(|(at, _)| at.since_start() <= until) {
            self.now = at.since_start();
            self.input(Input::Wake);
        }
        self.now = until;
    }

    fn canonical(&self) -> Canonical {
        self.device.canonical(Time::from_start(self.now))
    }
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn address(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 9999))
}

fn order(award: &str) -> Body {
    let award = Some(award.parse().unwrap());
    Body::Task(TaskOrder {
        award,
        prompt: "p".into(),
        npu: None,
        prompt_type: None,
        task_type: None,
        bid: None,
    })
}

fn anonymous_order() -> Body {
    let Body::Task(order) = order("t.1.x") else { panic!("it is one") };
    Body::Task(TaskOrder { award: None, ..order })
}

fn ends(played: &mut Played) {
    let run = played.runs.pop().unwrap();
    played.input(Input::Ran { run, outcome: RunOutcome::Completed("answer".into()) });
}

#[test]
fn a_pause_with_nothing_pending_leaves_no_trace() {
    let (mut early, mut late) = (Played::new(), Played::new());
    late.wait(Duration::from_secs(400));
    for played in [&mut early, &mut late] {
        played.told(Body::Hello(address(2).into()));
        played.told(order("t.1.x"));
    }
    assert_ne!(early.device, late.device, "their clocks differ");
    assert_eq!(early.canonical(), late.canonical());
    for played in [&mut early, &mut late] {
        ends(played);
        played.told(Body::Ack("t.1.x".parse().unwrap()));
    }
    early.wait(Duration::from_secs(1_000));
    late.wait(Duration::from_secs(7_000));
    assert_eq!(early.canonical(), late.canonical());
}

#[test]
fn how_long_something_is_awaited_already_tells_two_devices_apart() {
    let (mut early, mut late) = (Played::new(), Played::new());
    for (played, pause) in [(&mut early, 1), (&mut late, 2)] {
        played.told(Body::Hello(address(2).into()));
        played.told(order("t.1.x"));
        played.wait(Duration::from_secs(pause));
    }
    assert_ne!(early.canonical(), late.canonical(), "the sign of life is due at another moment");
}

#[test]
fn it_goes_on_as_the_device_itself_would() {
    let mut played = Played::new();
    played.told(Body::Hello(address(2).into()));
    played.told(order("t.1.x"));
    played.wait(Duration::from_secs(12));
    played.input(Input::Submit(Submission::new(1, "mine")));
    let canonical = played.canonical();
    canonical.device.check();
    let left = |device: &Device, now: Time| device.deadline().map(|(at, why)| (at.since(now), why));
    let now = Time::from_start(played.now);
    assert_eq!(left(&canonical.device, Canonical::PRESENT), left(&played.device, now));
    let run = played.runs[0];
    assert_eq!(canonical.numbers.run(run).map(|run| run.0), Some(1), "what is open is numbered from one");
    let mut other = Played { device: canonical.device.clone(), ..Played::new() };
    other.now = Canonical::PRESENT.since_start();
    other.runs = vec![canonical.numbers.run(run).unwrap()];
    for played in [&mut played, &mut other] {
        ends(played);
        played.wait(Duration::from_secs(3));
    }
    assert_eq!(played.canonical(), other.canonical());
    assert_eq!(other.canonical(), other.canonical().device.canonical(Canonical::PRESENT), "once is enough");
}

#[test]
fn an_answer_that_its_driver_owes_is_awaited_as_long_as_by_the_device_itself() {
    let me = Identity { device: id("A"), address: Some(address(1)) };
    let mut device = Device::new(me, Seed::from(1), Config::default(), Restored::default());
    let mut out = Outbox::default();
    device.handle(Time::ZERO, Input::PeersEdited(vec![(id("B"), address(2))]), &mut out);
    let sends = out.actions.iter().filter_map(|action| match action {
        Action::Send { give_up_at, .. } => Some(*give_up_at),
        _ => None,
    });
    // Half a second after the HELLO should have been delivered or not, its driver has said neither.
    let now = sends.max().unwrap() + Duration::from_millis(500);
    let canonical = device.canonical(now);
    let left = |device: &Device, now: Time| device.deadline().map(|(at, _)| at.since(now));
    assert_eq!(left(&device, now), Some(Duration::from_millis(500)));
    assert_eq!(left(&canonical.device, Canonical::PRESENT), left(&device, now));
}

#[test]
fn a_result_that_is_being_written_is_one_record_that_is_owed_an_answer() {
    let mut played = Played::new();
    played.told(Body::Hello(address(2).into()));
    played.told(order("t.1.x"));
    let run = played.runs.pop().unwrap();
    let mut out = Outbox::default();
    let outcome = RunOutcome::Completed("answer".into());
    played.device.handle(Time::from_start(played.now), Input::Ran { run, outcome }, &mut out);
    let written = out.actions.iter().find_map(|action| match action {
        Action::Persist { sequence, .. } => Some(*sequence),
        _ => None,
    });
    let canonical = played.canonical();
    assert_eq!(canonical.numbers.sequences, written.into_iter().collect::<Vec<_>>());
    assert_eq!(canonical.numbers.sequence(written.unwrap()).map(|sequence| sequence.0), Some(1));
}

#[test]
fn a_hello_that_was_answered_a_short_while_ago_is_not_answered_again() {
    let hello = |device: &mut Device, now: Time, boot: u64| {
        let marker = Some(Marker { version: Marker::VERSION, boot: BootId::draw(Seed::from(boot)) });
        let message = Message { from: id("B"), marker, body: Body::Hello(address(2).into()) };
        let message = Ok(Decoded { message, repairs: Repairs::default() });
        let mut out = Outbox::default();
        device.handle(now, Input::Received { source: address(2), message }, &mut out);
        let answer = |action: &Action| match action {
            Action::Send { id, message, .. } if matches!(message.body, Body::Hello(_)) => Some(*id),
            _ => None,
        };
        let answers: Vec<_> = out.actions.iter().filter_map(answer).collect();
        for send in &answers {
            // As long as one is on its way no other is owed.
            device.handle(now, Input::Delivered { send: *send }, &mut Outbox::default());
        }
        answers.len()
    };
    for (pause, answers) in [(3, 0), (9, 0), (10, 1), (11, 1)] {
        let mut played = Played::new();
        let now = Time::from_start(Duration::from_secs(100));
        assert_eq!(hello(&mut played.device, now, 2), 1, "B is new");
        let now = now + Duration::from_secs(pause);
        let mut canonical = played.device.canonical(now).device;
        assert_eq!(hello(&mut played.device, now, 3), answers, "after {pause} s");
        assert_eq!(
            hello(&mut canonical, Canonical::PRESENT, 3),
            answers,
            "after {pause} s, without its history"
        );
    }
}

#[test]
fn a_heartbeat_is_due_when_it_was() {
    let mut played = Played::with(Detection::default());
    played.told(Body::Hello(address(2).into()));
    played.wait(Duration::from_secs(5));
    let canonical = played.canonical().device;
    canonical.check();
    let now = Time::from_start(played.now);
    let due = played.device.deadline().map(|(at, why)| (at.since(now), why));
    assert_eq!(due.map(|(_, why)| why), Some("a peer may be due a sign of life"));
    assert_eq!(canonical.deadline().map(|(at, why)| (at.since(Canonical::PRESENT), why)), due);
}

#[test]
fn a_peer_is_gone_when_it_would_have_been() {
    let mut played = Played::with(Detection::default());
    played.told(Body::Hello(address(2).into()));
    for _ in 0..4 {
        played.wait(Duration::from_secs(200));
        played.told(Body::Hello(address(2).into()));
    }
    played.wait(Duration::from_secs(500));
    let mut other = Played { device: played.canonical().device, ..Played::with(Detection::default()) };
    other.now = Canonical::PRESENT.since_start();
    let health = |played: &Played| played.device.snapshot(Time::from_start(played.now)).peers[0].health;
    for _ in 0..60 {
        assert_eq!(health(&played), health(&other), "{:?} after the last sign of life", played.now);
        for played in [&mut played, &mut other] {
            played.wait(Duration::from_secs(5));
        }
    }
    assert_eq!(health(&played), Health::Gone);
}

#[test]
fn a_copy_of_a_task_without_an_id_is_known_for_as_long_as_before() {
    let (mut early, mut late) = (Played::new(), Played::new());
    late.wait(Duration::from_secs(400));
    for played in [&mut early, &mut late] {
        played.told(Body::Hello(address(2).into()));
        played.told(anonymous_order());
        ends(played);
        played.wait(Duration::from_secs(3));
    }
    assert_eq!(early.canonical(), late.canonical());
}
