//! Small meshes explored to the end; the larger ones are in `model_large.rs`.

#![allow(clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use bidmesh_sim::model::{Budgets, Explored, Mark, Mesh, explore};

/// Far more than any of these takes.
const LIMIT: Duration = Duration::from_secs(300);
const NONE: Budgets = Budgets::NONE;

fn mesh(orchestrators: u8, bidders: u8, budgets: Budgets) -> Mesh {
    Mesh { orchestrators, bidders, shells: 0, slow_store: false, heartbeats: false, budgets }
}

/// Every fault once, one kind at a time, each with what must then be seen.
fn one_at_a_time() -> [(Budgets, &'static [Mark]); 10] {
    [
        (Budgets { copies: 1, ..NONE }, &[Mark::Completed, Mark::DuplicateIgnored, Mark::LateBid]),
        (Budgets { losses: 1, ..NONE }, &[Mark::Completed, Mark::LostThenSuccess]),
        (
            Budgets { doubts: 1, ..NONE },
            &[Mark::EarlierAttemptWon, Mark::LostThenSuccess, Mark::CancelStopped],
        ),
        (Budgets { lates: 1, ..NONE }, &[Mark::Completed]),
        (Budgets { wakes: 1, ..NONE }, &[Mark::EarlierAttemptWon, Mark::LateBid, Mark::AwardOver]),
        (Budgets { errors: 1, ..NONE }, &[Mark::LostThenSuccess]),
        (Budgets { hangs: 1, ..NONE }, &[Mark::LostThenSuccess, Mark::CancelStopped]),
        (Budgets { crashes: 1, ..NONE }, &[Mark::LostThenSuccess, Mark::RestartSeen, Mark::OldBoot]),
        (Budgets { cancels: 1, ..NONE }, &[Mark::Cancelled, Mark::CancelStopped]),
        (Budgets { texts: 1, ..NONE }, &[Mark::Completed]),
    ]
}

fn exhausted(mesh: Mesh, wanted: &[Mark]) -> Explored {
    let explored = explore(mesh, 2, LIMIT);
    println!("{explored}");
    assert!(explored.broken.is_empty(), "{explored}");
    assert!(!explored.cut_off, "{explored}");
    for mark in wanted {
        assert!(explored.marks.count(*mark) > 0, "{mark:?} never happened, so nothing was shown: {explored}");
    }
    explored
}

#[test]
fn without_faults_every_prompt_is_answered() {
    for (orchestrators, bidders) in [(1, 2), (1, 3), (2, 2)] {
        let explored = exhausted(mesh(orchestrators, bidders, NONE), &[Mark::Completed]);
        let others = explored.marks.count(Mark::Failed) + explored.marks.count(Mark::Nobody);
        assert_eq!(others, 0, "nothing went wrong: {explored}");
    }
}

#[test]
fn one_kind_of_fault_two_bidders() {
    for (budgets, wanted) in one_at_a_time() {
        exhausted(mesh(1, 2, budgets), wanted);
    }
}

#[test]
fn one_kind_of_fault_three_bidders() {
    for (budgets, wanted) in one_at_a_time() {
        exhausted(mesh(1, 3, budgets), wanted);
    }
}

#[test]
fn several_kinds_of_fault_two_bidders() {
    exhausted(
        mesh(1, 2, Budgets { copies: 1, cancels: 1, ..NONE }),
        &[Mark::Cancelled, Mark::DuplicateIgnored],
    );
    exhausted(
        mesh(1, 2, Budgets { copies: 1, errors: 1, ..NONE }),
        &[Mark::LostThenSuccess, Mark::DuplicateIgnored],
    );
    exhausted(mesh(1, 2, Budgets { hangs: 1, texts: 1, ..NONE }), &[Mark::BrokenOff]);
    exhausted(mesh(1, 2, Budgets { errors: 3, ..NONE }), &[Mark::Failed]);
}

#[test]
fn a_store_that_takes_its_time() {
    let slow = |budgets| Mesh { slow_store: true, ..mesh(1, 2, budgets) };
    exhausted(slow(NONE), &[Mark::Completed]);
    exhausted(slow(Budgets { copies: 1, ..NONE }), &[Mark::DuplicateIgnored, Mark::AwardOver]);
    exhausted(slow(Budgets { losses: 1, ..NONE }), &[Mark::LostThenSuccess]);
    exhausted(slow(Budgets { cancels: 1, ..NONE }), &[Mark::Cancelled, Mark::CancelStopped]);
}

#[test]
fn with_heartbeats_which_never_end() {
    exhausted(Mesh { heartbeats: true, ..mesh(1, 1, NONE) }, &[Mark::Completed]);
}

#[test]
fn two_orchestrators_compete_for_two_slots() {
    exhausted(mesh(2, 2, Budgets { losses: 1, ..NONE }), &[Mark::LostThenSuccess, Mark::Rested]);
}

#[test]
fn a_shell_device_among_them() {
    let budgets = Budgets { copies: 1, losses: 1, ..NONE };
    let mesh = Mesh { shells: 1, ..mesh(1, 1, budgets) };
    exhausted(mesh, &[Mark::ShellCompleted, Mark::LostThenSuccess, Mark::EarlierAttemptWon]);
    for fault in [Budgets { crashes: 1, ..NONE }, Budgets { doubts: 1, ..NONE }, budgets] {
        exhausted(Mesh { shells: 1, ..self::mesh(1, 2, fault) }, &[Mark::Completed]);
    }
    let compete = Mesh { shells: 1, ..self::mesh(2, 2, Budgets { losses: 1, ..NONE }) };
    exhausted(compete, &[Mark::Completed, Mark::ShellCompleted]);
}
