//! A link that goes silent, in each phase of a task: nothing arrives, nothing is refused. Only deadlines notice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::outbox::{Outcome, OutcomeStatus};
use bidmesh_sim::{Act, Ask, Mesh, Plan, What};

const SECOND: Duration = Duration::from_secs(1);

/// A asks; B has an NPU and wins; C is the other one who could.
fn world(seed: u64, b: Act) -> Mesh {
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").npu().acts([b]))
        .plan(Plan::new("C"))
        .build();
    mesh.pass(SECOND);
    mesh
}

fn outcome(mesh: &Mesh, ask: Ask) -> Outcome {
    mesh.asked(ask).outcome().cloned().expect("ended")
}

fn assert_completed_by(mesh: &Mesh, ask: Ask, device: &str) {
    let outcome = outcome(mesh, ask);
    assert_eq!(outcome.status, OutcomeStatus::Completed, "{outcome:?}");
    assert_eq!(outcome.device.expect("somebody").as_str(), device);
}

/// What is said after the link is back: late bids, late results, acknowledgements. Nothing of it changes an outcome.
fn heal(mesh: &mut Mesh) {
    mesh.release("A", "B");
    mesh.pass(40 * SECOND);
    mesh.check();
}

fn runs_at(mesh: &Mesh, device: &str) -> usize {
    mesh.count_events(|at, event| at.as_str() == device && matches!(event, Event::RunStarted { .. }))
}

#[test]
fn silent_from_the_beginning() {
    let mut mesh = Mesh::builder(20)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").npu())
        .plan(Plan::new("C"))
        .build();
    mesh.hold("A", "B");
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Anybody?");
    // B was never heard, so it may be a shell device: three seconds of patience, then C's run.
    mesh.until_all_over(5 * SECOND - SECOND / 2);
    assert_completed_by(&mesh, ask, "C");
    heal(&mut mesh);
}

#[test]
fn silent_while_asking() {
    let mut mesh = world(21, Act::answer(1));
    mesh.hold("A", "B");
    let ask = mesh.ask("A", "Anybody?");
    // C's answer, the patience that B is given (it is known as a bidmesh device), C's run.
    mesh.until_all_over(4 * SECOND);
    assert_completed_by(&mesh, ask, "C");
    heal(&mut mesh);
    assert_eq!(runs_at(&mesh, "B"), 0, "a bid request that comes late is not an award");
    let again = mesh.ask("A", "And now?");
    mesh.until_all_over(10 * SECOND);
    assert_completed_by(&mesh, again, "B");
    mesh.check();
}

#[test]
fn silent_after_the_award() {
    let mut mesh = world(22, Act::answer(1));
    let ask = mesh.ask("A", "Yours?");
    mesh.until_event(
        5 * SECOND,
        "B is awarded",
        |_, event| matches!(event, Event::Awarded { to, .. } if to.as_str() == "B"),
    );
    mesh.hold("A", "B");
    // TASK is given up after 2 s; C's run takes one.
    mesh.until_all_over(6 * SECOND);
    assert_completed_by(&mesh, ask, "C");
    assert_eq!(outcome(&mesh, ask).attempts, 1, "what was never accepted is no attempt");
    heal(&mut mesh);
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::Finished { .. })), 1);
}

#[test]
fn silent_after_the_award_was_read() {
    let mut mesh = world(26, Act::answer(1));
    let ask = mesh.ask("A", "Yours?");
    mesh.until_event(5 * SECOND, "B starts", |at, event| {
        at.as_str() == "B" && matches!(event, Event::RunStarted { .. })
    });
    // ACCEPT is on its way, and so is the end of the stream that says that TASK was read.
    mesh.hold("A", "B");
    mesh.until_all_over(6 * SECOND);
    assert_completed_by(&mesh, ask, "C");
    heal(&mut mesh);
    assert_eq!((runs_at(&mesh, "B"), runs_at(&mesh, "C")), (1, 1), "B could not know");
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::Finished { .. })), 1);
}

#[test]
fn silent_while_running() {
    let streamed = Act::Answer { during: 40 * SECOND, pieces: 40 };
    let mut mesh = world(23, streamed);
    let ask = mesh.ask("A", "How long?");
    mesh.until_entry(10 * SECOND, "text is shown", |entry| matches!(entry.what, What::Told(..)));
    mesh.hold("A", "B");
    // Silence is noticed after 15 s, the question stays unanswered for 3, C's run takes one.
    mesh.until_all_over(22 * SECOND);
    assert_completed_by(&mesh, ask, "C");
    assert_eq!(outcome(&mesh, ask).attempts, 2);
    let asked = mesh.asked(ask);
    assert!(asked.told.iter().any(|told| matches!(told, bidmesh_io_tokio::driver::Told::BrokenOff { .. })));
    heal(&mut mesh);
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::Finished { .. })), 1);
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::RunEnded { .. })), 2, "B ended too");
}

#[test]
fn silent_before_the_result() {
    let mut mesh = world(24, Act::answer(3));
    let ask = mesh.ask("A", "And?");
    mesh.until_event(10 * SECOND, "B has run it", |at, event| {
        at.as_str() == "B" && matches!(event, Event::RunEnded { .. })
    });
    mesh.hold("A", "B");
    mesh.until_all_over(25 * SECOND);
    assert_completed_by(&mesh, ask, "C");
    heal(&mut mesh);
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::Finished { .. })), 1);
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::AttemptLost { .. })), 1);
}

#[test]
fn silent_for_a_moment_only() {
    let mut mesh = world(25, Act::answer(8));
    let ask = mesh.ask("A", "Still there?");
    mesh.until_event(5 * SECOND, "B runs it", |_, event| matches!(event, Event::Accepted { .. }));
    mesh.hold("A", "B");
    mesh.pass(12 * SECOND);
    mesh.release("A", "B");
    // The result is offered again.
    mesh.until_all_over(10 * SECOND);
    assert_completed_by(&mesh, ask, "B");
    assert_eq!((runs_at(&mesh, "B"), runs_at(&mesh, "C")), (1, 0));
    mesh.pass(30 * SECOND);
    mesh.check();
}
