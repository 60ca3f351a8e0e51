//! The harness itself: what must fail does fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::{Bid, Body, Message, Status, TaskResult};
use bidmesh_sim::{Mesh, Plan, Puppet, Reply};

const SECOND: Duration = Duration::from_secs(1);

/// A world in which A asks a puppet that replies so.
fn world(replies: impl Fn(&Message) -> Vec<Reply> + Send + Sync + 'static) -> Mesh {
    let puppet = Puppet::new(DeviceId::new("P").unwrap(), replies);
    let mut mesh = Mesh::builder(61).plan(Plan::new("A").acts([])).puppet(puppet).build();
    mesh.pass(SECOND);
    mesh.ask("A", "Who are you?");
    mesh
}

#[test]
#[should_panic(expected = "has an answer of its device")]
fn an_answer_that_nobody_generated_is_noticed() {
    let mut mesh = world(|message| match &message.body {
        Body::BidRequest(request) => {
            vec![Reply::now(Body::BidResponse(Bid {
                task: request.task.clone(),
                npu: true,
                ..Bid::default()
            }))]
        }
        Body::Task(order) => vec![Reply::now(Body::Result(TaskResult {
            award: order.award.clone(),
            device: None,
            status: Status::Completed,
            output: "an answer to something else".into(),
            output_was_not_utf8: false,
            speed: None,
        }))],
        _ => Vec::new(),
    });
    mesh.until_all_over(10 * SECOND);
    mesh.check();
}

#[test]
#[should_panic(expected = "has no end")]
fn a_prompt_without_an_end_is_noticed() {
    let mesh = world(|_| Vec::new());
    mesh.check();
}

#[test]
#[should_panic(expected = "waited 2s in vain: every prompt ends")]
fn a_bound_that_is_not_kept_is_noticed() {
    let mut mesh = world(|_| Vec::new());
    mesh.until_all_over(2 * SECOND);
}

#[test]
#[should_panic]
fn a_panic_of_a_spawned_task_ends_the_world() {
    let mut mesh = world(|_| {
        tokio::spawn(async { panic!("nobody joins this task") });
        Vec::new()
    });
    mesh.pass(SECOND);
}

#[test]
fn a_world_that_panicked_leaves_its_turn_to_the_next() {
    let lost = std::panic::catch_unwind(|| {
        let _mesh = world(|_| Vec::new());
        panic!("in the middle of a test");
    });
    assert!(lost.is_err());
    let mut mesh = Mesh::builder(62).plan(Plan::new("A")).build();
    mesh.ask("A", "Hello?");
    mesh.until_all_over(10 * SECOND);
    mesh.check();
}
