//! One message of each type with every field filled, one with none, for tests that go through all of them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bidmesh_core::id::{AwardId, BidId, BootId, DeviceId, TaskId};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Accept, Advertised, Bid, BidRequest, Body, Capacity, Marker, Message, Progress, Query, Reason, Refuse,
    Reject, Speed, Status, TASK_TYPE_INFERENCE, TaskOrder, TaskResult,
};

fn award() -> AwardId {
    AwardId::new("task_0123456789abc.1.k7q2m").unwrap()
}

fn task() -> TaskId {
    TaskId::new("task_0123456789abc").unwrap()
}

fn bid_id() -> BidId {
    BidId::new("9k3m5p7r.61250").unwrap()
}

/// Every body, by a name that fits a file.
pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let address = Advertised { ip: Some(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 20))), port: 9999 };
    let capacity = Some(Capacity { slots: 2, running: 1, yours: 0 });
    vec![
        ("hello", Body::Hello(address)),
        ("discover", Body::Discover(address)),
        ("discover_without_ip", Body::Discover(Advertised { ip: None, port: 9999 })),
        ("text", Body::Text("Say \"hi\" | twice\nC:\\new".into())),
        ("slm_prompt", Body::SlmPrompt("Describe a \"sunset\" | please".into())),
        ("slm_result", Body::SlmResult("First line.\nSecond line.".into())),
        (
            "bid_request",
            Body::BidRequest(BidRequest {
                task: Some(task()),
                task_type: Some(TASK_TYPE_INFERENCE.into()),
                prompt: None,
                prompt_bytes: Some(29),
                deadline: Some(Duration::from_millis(10_000)),
            }),
        ),
        ("bid_request_empty", Body::BidRequest(BidRequest::default())),
        (
            "bid_response",
            Body::BidResponse(Bid {
                task: Some(task()),
                bid: Some(bid_id()),
                device: Some("Device_A".into()),
                cpu: Load::from_ppm(67_501),
                ram: Load::from_ppm(430_000),
                battery: Percent::new(85),
                charging: Some(false),
                npu: true,
                capacity,
            }),
        ),
        ("bid_response_unknown", Body::BidResponse(Bid::default())),
        (
            "task",
            Body::Task(TaskOrder {
                award: Some(award()),
                prompt: "Describe a \"sunset\"\nin C:\\new".into(),
                npu: Some(true),
                prompt_type: Some("npu_prompt".into()),
                task_type: Some(TASK_TYPE_INFERENCE.into()),
                bid: Some(bid_id()),
            }),
        ),
        (
            "task_prompt_only",
            Body::Task(TaskOrder {
                award: None,
                prompt: "Hello".into(),
                npu: None,
                prompt_type: None,
                task_type: None,
                bid: None,
            }),
        ),
        (
            "result",
            Body::Result(TaskResult {
                award: Some(award()),
                device: Some("Device_A".into()),
                status: Status::Completed,
                output: "She said \"good night\".\nThe end.".into(),
                output_was_not_utf8: false,
                speed: Some(Speed {
                    total_ms: 2150,
                    first_text_ms: Some(640),
                    prompt_tokens: Some(37),
                    tokens: Some(31),
                }),
            }),
        ),
        (
            "result_not_utf8",
            Body::Result(TaskResult {
                award: Some(award()),
                device: Some("Device_A".into()),
                status: Status::Error,
                output: "caf\u{fffd}".into(),
                output_was_not_utf8: true,
                speed: None,
            }),
        ),
        (
            "refuse",
            Body::Refuse(Refuse {
                task: Some(task()),
                reason: Reason::Busy,
                retry_after: Some(Duration::from_millis(2_000)),
                capacity,
            }),
        ),
        ("accept", Body::Accept(Accept { award: award() })),
        (
            "reject",
            Body::Reject(Reject { award: award(), reason: Reason::Stale, retry_after: None, capacity }),
        ),
        ("progress", Body::Progress(Progress { award: award(), offset: 8, text: " \"good\"\n".into() })),
        ("cancel", Body::Cancel(award())),
        ("ack", Body::Ack(award())),
        ("query", Body::Query(Query { award: award(), have: 120 })),
        ("bye", Body::Bye),
        ("unknown", Body::Unknown { kind: "GOSSIP".into(), payload: "anything | at all".into() }),
    ]
}

/// Whether the wire has a place for the marker in this type.
pub(crate) const fn carries_marker(body: &Body) -> bool {
    !matches!(body, Body::Text(_) | Body::SlmPrompt(_) | Body::SlmResult(_) | Body::Unknown { .. })
}

/// `body` from Device_A, with its marker where there is a place for one.
pub(crate) fn from_bidmesh(body: Body) -> Message {
    let marker = carries_marker(&body)
        .then(|| Marker { version: Marker::VERSION, boot: BootId::new("7h2k9q4d").unwrap() });
    Message { from: DeviceId::new("Device_A").unwrap(), marker, body }
}
