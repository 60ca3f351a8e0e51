//! What must not change an outcome changes none; and equal devices win equally often.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_sim::scenario::decisions;
use bidmesh_sim::world::fault::Fault;
use bidmesh_sim::world::plan::{Ask, Plan};
use bidmesh_sim::world::{Summary, World};

fn play(plan: Plan) -> Summary {
    let summary = World::new(plan, None).play();
    assert_eq!(summary.violation, None, "seed {}", summary.seed);
    summary
}

/// The number of the device that would answer the first prompt.
fn winner(plan: Plan) -> Option<String> {
    let summary = play(plan);
    let (_, device) = summary.winners.iter().find(|(prompt, _)| prompt.starts_with("p0 "))?;
    Some(device.as_str()[1..].into())
}

/// Worlds of five devices and one auction that somebody wins, without ties: those are broken by names.
fn worlds() -> impl Iterator<Item = (u64, Plan, String)> {
    let drawn = (0..60).map(|seed| {
        let mut plan = decisions(seed, 5, 1, 10);
        // Longer than the latest message takes.
        plan.config.timing.patience = Duration::from_secs(6);
        (seed, plan)
    });
    let tied = |plan: &Plan| play(plan.clone()).marks.contains_key("a tie is broken by lot");
    let untied = drawn.filter(move |(_, plan)| !tied(plan));
    untied.filter_map(|(seed, plan)| Some((seed, plan.clone(), winner(plan)?)))
}

#[test]
fn nothing_that_should_not_matter_changes_a_winner() {
    let mut tried = 0;
    for (seed, plan, expected) in worlds() {
        tried += 1;
        let check = |what: &str, change: &dyn Fn(&mut Plan)| {
            let mut changed = plan.clone();
            change(&mut changed);
            assert_eq!(winner(changed).as_ref(), Some(&expected), "seed {seed}, {what}");
        };
        for links in 1..4 {
            check("bids arrive in another order", &|plan| plan.varied.links = links);
        }
        check("every message is copied", &|plan| plan.faults.arm(Fault::Copied, 100));
        check("messages are late, within the window", &|plan| plan.faults.arm(Fault::Reordered, 40));
        check("devices have other names", &|plan| plan.varied.letter = 'X');
        check("a worse device bids too", &|plan| {
            plan.devices += 1;
            plan.varied.last_is_worst = true;
        });
        check("somebody else asks at the same time", &|plan| {
            let other = Ask { number: 1, device: 1, ..plan.asks[0].clone() };
            plan.asks.push(other);
        });
    }
    assert!(tried >= 40, "{tried} worlds had a winner");
}

#[test]
fn equal_devices_win_equally_often() {
    const AUCTIONS: u32 = 1_000;
    const DEVICES: u32 = 5;
    let mut plan = decisions(1, 5, 1_000, 2);
    plan.faults.arm(Fault::EqualMetrics, 100);
    plan.small_core = false;
    let mut wins: BTreeMap<DeviceId, u32> = BTreeMap::new();
    // Those that are asked after the storm have other prompts.
    for (_, device) in play(plan).winners.into_iter().filter(|(prompt, _)| prompt.starts_with('p')) {
        *wins.entry(device).or_default() += 1;
    }
    // Devices without an executor until the storm is over win nothing; the others share evenly.
    let total: u32 = wins.values().sum();
    let bidders = u32::try_from(wins.len()).unwrap();
    assert!(total >= AUCTIONS && (3..=DEVICES).contains(&bidders), "{wins:?}");
    let (n, p) = (f64::from(total), 1.0 / f64::from(bidders));
    let (share, sigma) = (n * p, (n * p * (1.0 - p)).sqrt());
    for (device, won) in &wins {
        assert!((f64::from(*won) - share).abs() <= 3.0 * sigma, "{device} won {won} of {total}: {wins:?}");
    }
}
