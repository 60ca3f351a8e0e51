//! Devices that die and come back: by a flat battery, which nobody hears of, and by a killed process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::Submission;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_sim::{Act, Ask, Mesh, Plan, What};

const SECOND: Duration = Duration::from_secs(1);

/// A asks; B has an NPU and wins, and would run for long; C is the other one who could.
fn running_at_b(seed: u64) -> (Mesh, Ask) {
    let long = Act::Answer { during: 60 * SECOND, pieces: 30 };
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").npu().acts([long, Act::answer(1)]))
        .plan(Plan::new("C"))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "What now?");
    mesh.until_event(5 * SECOND, "B runs it", |at, event| {
        at.as_str() == "A" && matches!(event, Event::Accepted { by, .. } if by.as_str() == "B")
    });
    (mesh, ask)
}

fn assert_answered_by(mesh: &Mesh, ask: Ask, device: &str) {
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!(outcome.status, OutcomeStatus::Completed, "{outcome:?}");
    assert_eq!(outcome.device.expect("somebody").as_str(), device);
}

#[test]
fn the_winner_loses_power_while_it_runs() {
    let (mut mesh, ask) = running_at_b(51);
    mesh.pass(5 * SECOND);
    mesh.power_off("B");
    // 15 s of silence, 3 s for an answer to QUERY, C's run.
    mesh.until_all_over(21 * SECOND);
    assert_answered_by(&mesh, ask, "C");
    mesh.check();
}

#[test]
fn the_winner_loses_power_and_is_back_before_anybody_noticed() {
    let (mut mesh, ask) = running_at_b(52);
    mesh.pass(2 * SECOND);
    mesh.power_off("B");
    mesh.pass(SECOND);
    mesh.start("B");
    // Its HELLO shows a new boot: it is asked at once, and knows nothing. B itself may be the next.
    mesh.until_all_over(6 * SECOND);
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!((outcome.status, outcome.attempts), (OutcomeStatus::Completed, 2));
    mesh.check();
}

#[test]
fn the_winner_is_killed_and_is_back() {
    let (mut mesh, ask) = running_at_b(53);
    mesh.pass(2 * SECOND);
    mesh.kill("B");
    mesh.pass(SECOND);
    mesh.start("B");
    mesh.until_all_over(6 * SECOND);
    assert_eq!(mesh.asked(ask).outcome().expect("ended").status, OutcomeStatus::Completed);
    mesh.pass(SECOND);
    let again = mesh.ask("A", "Better?");
    mesh.until_all_over(10 * SECOND);
    assert_eq!(mesh.asked(again).outcome().expect("ended").status, OutcomeStatus::Completed);
    mesh.check();
}

#[test]
fn a_device_that_lost_power_wins_again_when_it_is_back() {
    let (mut mesh, _) = running_at_b(54);
    mesh.power_off("B");
    mesh.until_all_over(25 * SECOND);
    mesh.start("B");
    mesh.until_event(5 * SECOND, "A hears of it", |at, event| {
        at.as_str() == "A" && matches!(event, Event::PeerChanged { restarted: true, .. })
    });
    let ask = mesh.ask("A", "Are you back?");
    mesh.until_event(
        5 * SECOND,
        "B is awarded",
        |_, event| matches!(event, Event::Awarded { to, .. } if to.as_str() == "B"),
    );
    mesh.until_all_over(70 * SECOND);
    assert_answered_by(&mesh, ask, "B");
    mesh.check();
}

#[test]
fn the_orchestrator_loses_power_and_its_workers_end() {
    let (mut mesh, _) = running_at_b(55);
    mesh.power_off("A");
    mesh.pass(2 * SECOND);
    mesh.start("A");
    let ask = mesh.ask("A", "Where was I?");
    // Without a store it has forgotten; the workers take its new prompts all the same.
    mesh.until_all_over(15 * SECOND);
    assert_eq!(mesh.asked(ask).outcome().expect("ended").status, OutcomeStatus::Completed);
    mesh.check();
}

fn runs_began(mesh: &Mesh) -> usize {
    mesh.entries().iter().filter(|entry| matches!(entry.what, What::RunBegan(_))).count()
}

#[test]
fn an_orchestrator_with_a_disk_comes_back_and_knows_what_it_owes() {
    let mut mesh = Mesh::builder(56)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]).disk())
        .plan(Plan::new("B").npu().acts([Act::answer(5)]))
        .plan(Plan::new("C"))
        .build();
    mesh.pass(SECOND);
    let keyed = || Submission {
        key: Some("my homework".into()),
        attached: false,
        ..Submission::new(0, "What is owed?")
    };
    mesh.submit("A", keyed());
    mesh.until_event(5 * SECOND, "B runs it", |_, event| matches!(event, Event::Accepted { .. }));
    mesh.power_off("A");
    mesh.pass(2 * SECOND);
    mesh.start("A");
    mesh.pass(SECOND);
    // Whoever asked comes back too, and asks for the same.
    let again = mesh.submit("A", keyed());
    mesh.until_all_over(10 * SECOND);
    assert_answered_by(&mesh, again, "B");
    assert_eq!(runs_began(&mesh), 1, "nothing was run twice");
}

#[test]
fn a_result_that_was_on_disk_is_not_computed_again() {
    let mut mesh = Mesh::builder(57)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").npu().acts([Act::answer(5)]).disk())
        .plan(Plan::new("C"))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "What is lost?");
    mesh.until_entry(
        10 * SECOND,
        "RESULT is on its way",
        |entry| matches!(&entry.what, What::Sending { kind, .. } if kind == "RESULT"),
    );
    mesh.power_off("B");
    mesh.pass(SECOND);
    mesh.start("B");
    // A new boot: A asks what became of the award.
    mesh.until_all_over(6 * SECOND);
    assert_answered_by(&mesh, ask, "B");
    assert_eq!(runs_began(&mesh), 1, "nothing was run twice");
    mesh.check();
}
