//! A network that loses messages, and devices that die in it: every prompt ends, and ends once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_sim::{Act, Loss, Mesh, Plan, seeds};

const SECOND: Duration = Duration::from_secs(1);

/// Five devices, three of which ask; links break and mend at random, and in most worlds one of the others dies.
fn lossy(seed: u64) -> Vec<OutcomeStatus> {
    let answer = |pieces| Act::Answer { during: 2 * SECOND, pieces };
    let failing = Act::Fail { after: SECOND, why: "out of memory".into() };
    // From a few breaks that mend soon to many that stay a while.
    let loss = Loss { fail: 0.01 + 0.01 * (seed % 10) as f64, repair: 0.2 + 0.2 * (seed % 4) as f64 };
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(5))
        .loss(loss)
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").npu().acts([answer(10), failing, answer(1)]))
        .plan(Plan::new("C").acts([answer(1)]))
        .plan(Plan::new("D").slots(2).acts([answer(4)]))
        .plan(Plan::new("E"))
        .build();
    mesh.pass(SECOND);
    let asks: Vec<_> = ["A", "B", "E"]
        .into_iter()
        .flat_map(|device| [(device, 1), (device, 2)])
        .map(|(device, number)| mesh.ask(device, &format!("Question {number} of {device}")))
        .collect();
    mesh.pass(SECOND);
    match seed % 5 {
        0 => {
            mesh.kill("D");
            mesh.pass(SECOND);
            mesh.start("D");
        }
        1 => {
            mesh.power_off("C");
            mesh.pass(5 * SECOND);
            mesh.start("C");
        }
        2 => mesh.power_off("D"),
        3 => mesh.kill("C"),
        _ => {}
    }
    // Five auctions, three attempts of at most 20 s of silence each, pauses between them.
    mesh.until_all_over(240 * SECOND);
    // What was kept and offered again must not end anything a second time.
    mesh.set_loss(0.0);
    mesh.pass(10 * SECOND);
    mesh.check();
    asks.into_iter().map(|ask| mesh.asked(ask).outcome().expect("ended").status).collect()
}

#[test]
fn every_prompt_ends_exactly_once() {
    let mut statuses = BTreeMap::new();
    for seed in seeds("lossy", 0..24) {
        for status in lossy(seed) {
            *statuses.entry(status).or_insert(0) += 1;
        }
    }
    println!("{statuses:?}");
    let completed = statuses.get(&OutcomeStatus::Completed).copied().unwrap_or(0);
    assert!(completed * 10 >= statuses.values().sum::<i32>() * 9, "most have an answer: {statuses:?}");
}
