//! A device that is started again takes up what its store kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::draw::Seed;
use bidmesh_core::id::{AwardId, BootId, DeviceId, TaskId};
use bidmesh_core::input::{Priority, Prompts, Written};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record};
use bidmesh_core::policy::Policy;
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{
    Body, Decoded, Dialect, Marker, Message, Reason, Reject, Repairs, Status, TaskResult,
};
use bidmesh_core::{Action, Config, Device, Event, Identity, Input, Outbox, Report, Submission, Time};

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 9999))
}

fn accepted(name: &str, key: Option<&str>, deadline: Option<Duration>) -> Record {
    Record::Task {
        task: task(name),
        prompts: Prompts { base: "hello".into(), npu: None, cpu: None },
        priority: Priority::default(),
        key: key.map(Into::into),
        attached: false,
        eligible: None,
        deadline,
        policy: Policy::NpuFirst,
        bid_deadline: None,
        result_timeout: Duration::from_secs(300),
        client: None,
    }
}

fn awarded(name: &str, attempt: u32, dialect: Dialect) -> Record {
    let award = AwardId::new(&format!("{name}.{attempt}.abcde")).unwrap();
    Record::Award { task: task(name), award, attempt, device: id("B"), address: address(2), dialect }
}

struct Restarted {
    device: Device,
    out: Outbox,
}

impl Restarted {
    fn with(records: Vec<(Record, Duration)>) -> Self {
        Self::configured(records, Config::default())
    }

    fn configured(records: Vec<(Record, Duration)>, config: Config) -> Self {
        let me = Identity { device: id("A"), address: Some(address(1)) };
        let mut device = Device::new(me, Seed::from(9), config, Restored { records });
        assert_eq!(device.deadline().map(|(at, _)| at), Some(Time::ZERO), "it wants to begin at once");
        let mut out = Outbox::default();
        device.handle(Time::ZERO, Input::PeersEdited(vec![(id("B"), address(2))]), &mut out);
        device.check();
        assert!(!out.actions.iter().any(|action| matches!(action, Action::Persist { .. })), "not yet");
        assert!(device.has_past());
        device.handle(Time::ZERO, Input::Wake, &mut out);
        device.check();
        assert!(!device.has_past(), "it is taken up");
        Self { device, out }
    }

    fn handle(&mut self, millis: u64, input: Input) -> &Outbox {
        self.out = Outbox::default();
        self.device.handle(Time::from_start(Duration::from_millis(millis)), input, &mut self.out);
        self.device.check();
        &self.out
    }

    fn hears_b(&mut self, millis: u64, body: Body) -> &Outbox {
        let marker = Some(Marker { version: 1, boot: BootId::new("b1").unwrap() });
        let message = Message { from: id("B"), marker, body };
        let decoded = Decoded { message, repairs: Repairs::default() };
        self.handle(millis, Input::Received { source: address(2), message: Ok(decoded) })
    }

    fn sent(&self) -> Vec<&'static str> {
        let kind = |action: &Action| match action {
            Action::Send { message, .. } => Some(match message.body {
                Body::Query(_) => "QUERY",
                Body::BidRequest(_) => "BID_REQUEST",
                Body::Hello(_) => "HELLO",
                Body::Result(_) => "RESULT",
                Body::Ack(_) => "ACK",
                _ => "something else",
            }),
            _ => None,
        };
        self.out.actions.iter().filter_map(kind).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_unfinished_task_is_auctioned() {
    let mut device = Restarted::with(vec![(accepted("task_1", None, None), SECOND)]);
    assert!(device.sent().contains(&"HELLO"));
    let hello = device.out.actions.iter().find_map(|action| match action {
        Action::Send { id, message, .. } if matches!(message.body, Body::Hello(_)) => Some(*id),
        _ => None,
    });
    device.handle(10, Input::Delivered { send: hello.unwrap() });
    assert_eq!(device.sent(), ["BID_REQUEST"]);
}

#[test]
fn more_tasks_than_the_limit_are_taken_up_and_no_new_one_is() {
    let mut config = Config::default();
    config.limits.tasks = 1;
    let names = ["task_0000000000001", "task_0000000000002"];
    let records = names.map(|name| (accepted(name, None, None), Duration::ZERO)).into();
    let mut it = Restarted::configured(records, config);
    assert_eq!(it.device.snapshot(Time::ZERO).tasks.len(), 2);
    let out = it.handle(1, Input::Submit(Submission::new(7, "one more")));
    let refused = |action: &Action| matches!(action, Action::Report(Report::Refused { ticket: 7, .. }));
    assert!(out.actions.iter().any(refused), "{out:?}");
}

#[test]
fn an_awarded_task_is_asked_for_before_it_is_auctioned_again() {
    let records =
        vec![(accepted("task_1", None, None), SECOND), (awarded("task_1", 2, Dialect::Bidmesh), SECOND)];
    let mut device = Restarted::with(records);
    assert!(device.sent().contains(&"QUERY"), "{:?}", device.sent());
    let result = TaskResult {
        award: Some(AwardId::new("task_1.2.abcde").unwrap()),
        device: None,
        status: Status::Completed,
        output: "kept for you".into(),
        output_was_not_utf8: false,
        speed: None,
    };
    device.hears_b(100, Body::Result(result));
    let sequence = device.out.actions.iter().find_map(|action| match action {
        Action::Persist { sequence, record: Record::Outcome { .. }, .. } => Some(*sequence),
        _ => None,
    });
    device.handle(110, Input::Persisted { sequence: sequence.unwrap(), written: Written::Durable });
    assert_eq!(device.sent(), ["ACK"]);
    assert_eq!(&*device.device.outcome(&task("task_1")).unwrap().output, "kept for you");
}

#[test]
fn awards_that_were_given_up_are_bounded() {
    let mut records = vec![(accepted("task_1", None, None), SECOND)];
    records.extend((1..=40).map(|attempt| (awarded("task_1", attempt, Dialect::Bidmesh), SECOND)));
    // It checks itself: no more are remembered than of a task that was never interrupted.
    let device = Restarted::with(records);
    assert_eq!(device.sent(), ["HELLO", "QUERY"], "only the latest is asked for");
}

#[test]
fn an_award_that_the_worker_does_not_know_goes_to_the_next() {
    let records =
        vec![(accepted("task_1", None, None), SECOND), (awarded("task_1", 1, Dialect::Bidmesh), SECOND)];
    let mut device = Restarted::with(records);
    let award = AwardId::new("task_1.1.abcde").unwrap();
    let reject = Reject { award, reason: Reason::Unknown, retry_after: None, capacity: None };
    let out = device.hears_b(100, Body::Reject(reject));
    assert!(out.events.iter().any(|event| matches!(event, Event::Opened { .. })), "{:?}", out.events);
}

#[test]
fn a_task_whose_time_is_over_expires() {
    let device = Restarted::with(vec![(accepted("task_1", None, Some(SECOND)), 2 * SECOND)]);
    let expired = |action: &Action| matches!(action, Action::Persist { record: Record::Outcome { outcome, .. }, .. } if outcome.status == OutcomeStatus::Expired);
    assert!(device.out.actions.iter().any(expired), "{:?}", device.out.actions);
}

#[test]
fn an_outcome_is_not_found_twice() {
    let outcome = Outcome {
        status: OutcomeStatus::Completed,
        device: Some(id("B")),
        output: "done".into(),
        attempts: 1,
        why: "B answered".into(),
        // As a record says, which is made before it is written.
        written: Written::NotKept,
        speed: None,
    };
    let records = vec![
        (accepted("task_1", Some("k"), None), SECOND),
        (awarded("task_1", 1, Dialect::Shell), SECOND),
        (Record::Outcome { task: task("task_1"), outcome }, SECOND),
    ];
    let mut device = Restarted::with(records);
    assert_eq!(device.sent(), ["HELLO"]);
    let again = Submission { key: Some("k".into()), ..Submission::new(3, "hello") };
    let out = device.handle(100, Input::Submit(again));
    let told = |action: &Action| match action {
        Action::Report(Report::Outcome { outcome, .. }) => {
            &*outcome.output == "done" && outcome.written == Written::Durable
        }
        _ => false,
    };
    assert!(out.actions.iter().any(told), "the same key is the same task: {:?}", out.actions);
}

#[test]
fn a_kept_result_is_offered_and_a_taken_one_runs_nothing() {
    let kept = Record::Kept {
        orchestrator: id("B"),
        award: AwardId::new("task_9.1.abcde").unwrap(),
        digest: 5,
        dialect: Dialect::Bidmesh,
        status: Status::Completed,
        output: "an answer".into(),
        speed: None,
    };
    let device = Restarted::with(vec![(kept.clone(), SECOND)]);
    assert!(device.sent().contains(&"RESULT"), "{:?}", device.sent());
    let strict = |action: &Action| matches!(action, Action::Send { message, dialect: Dialect::Bidmesh, .. } if message.body.kind() == "RESULT");
    assert!(
        device.out.actions.iter().any(strict),
        "in the dialect of the TASK, although B has not spoken yet"
    );
    let device = Restarted::with(vec![(kept, Duration::from_secs(4000))]);
    assert!(!device.sent().contains(&"RESULT"), "it is too old: {:?}", device.sent());
    let forgets = |action: &Action| {
        matches!(action, Action::Persist { record: Record::Forgotten { digest: 5, .. }, .. })
    };
    assert!(device.out.actions.iter().any(forgets), "the store need not keep it: {:?}", device.out.actions);
}

/// A device that knows neither whom it could ask nor what it could run itself would end what it was asked.
#[test]
fn what_the_store_kept_waits_for_what_the_device_knows_of_itself() {
    let me = Identity { device: id("A"), address: Some(address(1)) };
    let restored = Restored { records: vec![(accepted("task_1", None, None), SECOND)] };
    let mut device = Device::new(me, Seed::from(9), Config::default(), restored);
    let mut out = Outbox::default();
    let late = Time::from_start(Duration::from_secs(5));
    let executor = bidmesh_core::input::Executor { available: true, ..Default::default() };
    for fact in [Input::PeersEdited(Vec::new()), Input::ExecutorChanged(executor)] {
        device.handle(late, fact, &mut out);
        device.check();
        assert!(device.snapshot(late).tasks.is_empty());
    }
    device.handle(late, Input::Wake, &mut out);
    device.check();
    let runs = |action: &Action| matches!(action, Action::Persist { record: Record::Award { device, .. }, .. } if *device == id("A"));
    assert!(out.actions.iter().any(runs), "it runs it itself: {:?}", out.actions);
    assert!(!out.events.iter().any(|event| matches!(event, Event::Slept { .. })), "it did not sleep");
}

/// A person who types `bidmesh resume` does not know whether the device has taken up its past yet.
#[test]
fn what_the_owner_says_in_this_start_is_later_than_what_the_store_kept() {
    for (said, refuses) in
        [(None, true), (Some(Input::Resume), false), (Some(Input::Pause { during: None }), true)]
    {
        let me = Identity { device: id("A"), address: Some(address(1)) };
        let restored = Restored { records: vec![(Record::Paused { during: None }, SECOND)] };
        let mut device = Device::new(me, Seed::from(9), Config::default(), restored);
        let mut out = Outbox::default();
        let executor = bidmesh_core::input::Executor { available: true, ..Default::default() };
        for input in said.clone().into_iter().chain([Input::ExecutorChanged(executor), Input::Wake]) {
            device.handle(Time::ZERO, input, &mut out);
            device.check();
        }
        assert_eq!(device.snapshot(Time::ZERO).refuses.is_some(), refuses, "{said:?}");
        let resumed = |action: &Action| matches!(action, Action::Persist { record: Record::Resumed, .. });
        assert_eq!(out.actions.iter().any(resumed), !refuses, "nor does the next start find it");
    }
}
