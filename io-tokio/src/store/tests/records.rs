//! Records to write.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::input::{Priority, Prompts, Written};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record};
use bidmesh_core::policy::Policy;
use bidmesh_core::wire::{Dialect, Speed, Status};
use proptest::prelude::*;

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn task(name: &str) -> Record {
    Record::Task {
        task: TaskId::new(name).unwrap(),
        prompts: Prompts { base: "what is a mesh?".into(), npu: Some("mesh?".into()), cpu: None },
        priority: Priority::default(),
        key: Some(format!("key of {name}").into()),
        attached: false,
        eligible: None,
        deadline: None,
        policy: Policy::NpuFirst,
        bid_deadline: None,
        result_timeout: Duration::from_secs(300),
        client: None,
    }
}

/// As it is kept once it has ended.
pub(super) fn without_prompts(record: Record) -> Record {
    let Record::Task {
        task,
        priority,
        key,
        attached,
        eligible,
        deadline,
        policy,
        bid_deadline,
        result_timeout,
        client,
        ..
    } = record
    else {
        panic!("no task: {record:?}")
    };
    let prompts = Prompts { base: "".into(), npu: None, cpu: None };
    Record::Task {
        task,
        prompts,
        priority,
        key,
        attached,
        eligible,
        deadline,
        policy,
        bid_deadline,
        result_timeout,
        client,
    }
}

pub(super) fn award(name: &str, attempt: u32) -> Record {
    Record::Award {
        task: TaskId::new(name).unwrap(),
        award: AwardId::new(&format!("{name}.{attempt}.abcde")).unwrap(),
        attempt,
        device: device("Device_B"),
        address: SocketAddr::from(([10, 0, 0, 2], 9999)),
        dialect: Dialect::Bidmesh,
    }
}

pub(super) fn outcome(name: &str, output: &str) -> Record {
    let outcome = Outcome {
        status: OutcomeStatus::Completed,
        device: Some(device("Device_B")),
        output: output.into(),
        attempts: 1,
        why: "Device_B answered".into(),
        written: Written::Durable,
        speed: None,
    };
    Record::Outcome { task: TaskId::new(name).unwrap(), outcome }
}

pub(super) fn kept(award: &str) -> Record {
    Record::Kept {
        orchestrator: device("Device_A"),
        award: AwardId::new(award).unwrap(),
        digest: 5,
        dialect: Dialect::Bidmesh,
        status: Status::Completed,
        output: "an answer".into(),
        speed: None,
    }
}

pub(super) fn started(award: &str) -> Record {
    Record::Started {
        orchestrator: device("Device_A"),
        award: AwardId::new(award).unwrap(),
        digest: 5,
        dialect: Dialect::Bidmesh,
    }
}

pub(super) fn forgotten(award: &str) -> Record {
    Record::Forgotten { orchestrator: device("Device_A"), award: AwardId::new(award).unwrap(), digest: 5 }
}

/// So many records, as a device would write them: tasks, their awards and outcomes, results for others.
pub(super) fn script(length: usize) -> Vec<Record> {
    let round = |number: usize| {
        let (name, given) = (format!("t{number}"), format!("a.{number}"));
        let long = "x".repeat(number * 700);
        [
            task(&name),
            award(&name, 1),
            started(&given),
            kept(&given),
            award(&name, 2),
            outcome(&name, &long),
            forgotten(&given),
        ]
    };
    (0..).flat_map(round).take(length).collect()
}

fn text() -> impl Strategy<Value = std::sync::Arc<str>> {
    any::<String>().prop_map(Into::into)
}

pub(super) fn device_id() -> impl Strategy<Value = DeviceId> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|name| device(&name))
}

pub(super) fn task_id() -> impl Strategy<Value = TaskId> {
    "task_[a-z0-9]{13}".prop_map(|name| TaskId::new(&name).unwrap())
}

fn award_id() -> impl Strategy<Value = AwardId> {
    "task_[a-z0-9]{13}\\.[0-9]{1,4}\\.[a-z0-9]{5}".prop_map(|name| AwardId::new(&name).unwrap())
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Bidmesh), Just(Dialect::Shell), Just(Dialect::ShellLiteral)]
}

fn speed() -> impl Strategy<Value = Speed> {
    let count = || any::<Option<u32>>();
    (any::<u32>(), count(), count(), count()).prop_map(|(total_ms, first_text_ms, prompt_tokens, tokens)| {
        Speed { total_ms, first_text_ms, prompt_tokens, tokens }
    })
}

/// A record of any kind.
pub(super) fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![any_task(), any_award(), any_outcome(), any_result(), any_pause()]
}

fn any_task() -> impl Strategy<Value = Record> {
    let option = proptest::option::of::<proptest::strategy::BoxedStrategy<std::sync::Arc<str>>>;
    let prompts = (text(), option(text().boxed()), option(text().boxed()));
    let devices = proptest::option::of(proptest::collection::btree_set(device_id(), 0..4));
    let times = (proptest::option::of(millis()), proptest::option::of(millis()), millis());
    let names = (task_id(), option(text().boxed()), option(text().boxed()));
    let policy = prop_oneof![Just(Policy::NpuFirst), Just(Policy::Weighted)];
    (prompts, devices, times, names, policy, 0_u8..=9, any::<bool>()).prop_map(
        |((base, npu, cpu), eligible, times, (task, key, client), policy, priority, attached)| {
            let (deadline, bid_deadline, result_timeout): (Option<Duration>, Option<Duration>, Duration) =
                times;
            let eligible: Option<BTreeSet<DeviceId>> = eligible;
            Record::Task {
                task,
                prompts: Prompts { base, npu, cpu },
                priority: Priority::new(priority).unwrap(),
                key,
                attached,
                eligible,
                deadline,
                policy,
                bid_deadline,
                result_timeout,
                client,
            }
        },
    )
}

fn any_award() -> impl Strategy<Value = Record> {
    (task_id(), award_id(), any::<u32>(), device_id(), any::<SocketAddr>(), dialect()).prop_map(
        |(task, award, attempt, device, address, dialect)| {
            // A flow label is no part of an address's text.
            let address = SocketAddr::new(address.ip(), address.port());
            Record::Award { task, award, attempt, device, address, dialect }
        },
    )
}

pub(super) fn any_outcome() -> impl Strategy<Value = Record> {
    let status = prop_oneof![
        Just(OutcomeStatus::Completed),
        Just(OutcomeStatus::Failed),
        Just(OutcomeStatus::Nobody),
        Just(OutcomeStatus::Expired),
        Just(OutcomeStatus::Cancelled),
    ];
    let device = proptest::option::of(device_id());
    let speed = proptest::option::of(speed());
    (task_id(), status, device, text(), any::<u32>(), any::<String>(), speed).prop_map(
        |(task, status, device, output, attempts, why, speed)| {
            let outcome = Outcome { status, device, output, attempts, why, written: Written::Durable, speed };
            Record::Outcome { task, outcome }
        },
    )
}

fn any_pause() -> impl Strategy<Value = Record> {
    proptest::option::of(millis()).prop_map(|during| Record::Paused { during })
}

fn any_result() -> impl Strategy<Value = Record> {
    let status = prop_oneof![
        Just(Status::Completed),
        Just(Status::Error),
        Just(Status::Cancelled),
        Just(Status::HandedBack)
    ];
    let work = (device_id(), award_id(), any::<u128>());
    let speed = proptest::option::of(speed());
    (work, dialect(), status, text(), speed, 0..3).prop_map(
        |((orchestrator, award, digest), dialect, status, output, speed, kind)| match kind {
            0 => Record::Started { orchestrator, award, digest, dialect },
            1 => Record::Kept { orchestrator, award, digest, dialect, status, output, speed },
            _ => Record::Forgotten { orchestrator, award, digest },
        },
    )
}
