//! Small meshes explored with larger bounds than in `model_small.rs`:
//! `cargo test --profile sim -p bidmesh-sim --test model_large -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use bidmesh_sim::model::{Budgets, Mesh, explore};

const NONE: Budgets = Budgets::NONE;
/// Far more than any mesh takes that is explored to its end.
const LIMIT: Duration = Duration::from_secs(600);
/// How long the others are explored.
const A_WHILE: Duration = Duration::from_secs(60);

fn mesh(orchestrators: u8, bidders: u8, shells: u8, budgets: Budgets) -> Mesh {
    Mesh { orchestrators, bidders, shells, slow_store: false, heartbeats: false, budgets }
}

#[test]
#[ignore = "a campaign of some minutes, for the sim profile"]
fn several_kinds_of_fault_to_the_end() {
    let copies_and_losses = Budgets { copies: 1, losses: 1, ..NONE };
    for mesh in [
        mesh(1, 2, 0, copies_and_losses),
        mesh(1, 2, 0, Budgets { copies: 1, crashes: 1, ..NONE }),
        mesh(1, 2, 0, Budgets { losses: 1, crashes: 1, ..NONE }),
        mesh(1, 2, 0, Budgets { crashes: 1, ..copies_and_losses }),
        mesh(1, 3, 0, copies_and_losses),
        mesh(1, 3, 0, Budgets { copies: 1, crashes: 1, ..NONE }),
        Mesh { slow_store: true, ..mesh(1, 2, 0, copies_and_losses) },
        mesh(2, 2, 0, Budgets { losses: 1, ..NONE }),
        mesh(2, 2, 0, Budgets { copies: 1, ..NONE }),
        mesh(1, 1, 1, Budgets { crashes: 1, ..copies_and_losses }),
        Mesh { heartbeats: true, ..mesh(1, 1, 0, Budgets { losses: 1, ..NONE }) },
        Mesh { heartbeats: true, ..mesh(1, 1, 0, Budgets { copies: 1, ..NONE }) },
    ] {
        let explored = explore(mesh, 2, LIMIT);
        println!("{explored}");
        assert!(explored.broken.is_empty() && !explored.cut_off, "{explored}");
    }
}

#[test]
#[ignore = "too large to come to an end: a part of each"]
fn a_part_of_what_is_too_large() {
    let everything = Budgets {
        copies: 1,
        losses: 1,
        doubts: 1,
        lates: 1,
        wakes: 1,
        errors: 1,
        hangs: 1,
        crashes: 1,
        cancels: 1,
        texts: 1,
    };
    for mesh in [
        mesh(1, 2, 0, everything),
        mesh(1, 2, 0, Budgets { wakes: 2, ..NONE }),
        mesh(2, 2, 0, Budgets { crashes: 1, ..NONE }),
    ] {
        let explored = explore(mesh, 2, A_WHILE);
        println!("{explored}");
        assert!(explored.broken.is_empty(), "{explored}");
    }
}
