use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::wire::Capacity;

fn bid(npu: bool, cpu: Option<u32>, running: u16) -> Bid {
    Bid {
        npu,
        cpu: cpu.and_then(Load::from_ppm),
        capacity: Some(Capacity { slots: 4, running, yours: 0 }),
        ..Bid::default()
    }
}

fn names() -> Vec<DeviceId> {
    ["Device_A", "Device_B", "Device_C", "Device_D", "Device_E"]
        .iter()
        .map(|n| DeviceId::new(n).unwrap())
        .collect()
}

fn win(policy: Policy, bids: &[Bid]) -> Option<Choice> {
    let names = names();
    let task = TaskId::new("task_1").unwrap();
    let candidates: Vec<_> = bids
        .iter()
        .zip(&names)
        .map(|(bid, device)| Candidate { device, bid, free: 1, tried: false, tie: tie(&task, device) })
        .collect();
    choose(policy, &candidates)
}

#[test]
fn npu_wins_over_an_idle_processor() {
    let choice = win(Policy::NpuFirst, &[bid(false, Some(0), 0), bid(true, Some(900_000), 0)]).unwrap();
    assert_eq!(choice.winner.as_str(), "Device_B");
    insta::assert_snapshot!(choice.sentence, @"Device_B won: it has an NPU, and none of the others has one free");
}

#[test]
fn among_equals_the_lowest_cpu_load_wins() {
    let choice =
        win(Policy::NpuFirst, &[bid(false, Some(420_000), 0), bid(false, Some(130_000), 0)]).unwrap();
    insta::assert_snapshot!(choice.sentence, @"Device_B won: its cpu load is the lowest (13%; next Device_A with 42%)");
}

#[test]
fn an_unknown_load_ranks_behind_a_full_one() {
    let choice = win(Policy::NpuFirst, &[bid(false, None, 0), bid(false, Some(1_000_000), 0)]).unwrap();
    assert_eq!(choice.winner.as_str(), "Device_B");
}

#[test]
fn an_unknown_load_ranks_behind_a_full_one_that_runs_more() {
    let choice = win(Policy::NpuFirst, &[bid(false, None, 0), bid(false, Some(1_000_000), 3)]).unwrap();
    assert_eq!(choice.winner.as_str(), "Device_B");
}

#[test]
fn fewer_running_tasks_break_a_tie() {
    let choice = win(Policy::NpuFirst, &[bid(false, Some(5), 2), bid(false, Some(5), 1)]).unwrap();
    insta::assert_snapshot!(choice.sentence, @"Device_B won: as idle as Device_A (0% cpu), but it runs fewer tasks");
}

#[test]
fn nobody_without_a_free_slot_wins() {
    let names = names();
    let bid = bid(true, Some(0), 0);
    let full = Candidate { device: &names[0], bid: &bid, free: 0, tried: false, tie: 0 };
    assert_eq!(choose(Policy::NpuFirst, &[full]), None);
    assert_eq!(choose(Policy::NpuFirst, &[]), None);
}

#[test]
fn weights_are_the_documented_ones() {
    let mut full = bid(true, Some(0), 0);
    full.ram = Some(Load::IDLE);
    full.battery = Percent::new(100);
    assert_eq!(Weights::DEFAULT.score(&full), 90_000_000);
    full.battery = Percent::new(60);
    assert_eq!(Weights::DEFAULT.score(&full), 77_500_000);
    full.battery = Percent::new(20);
    assert_eq!(Weights::DEFAULT.score(&full), 65_000_000);
    full.charging = Some(true);
    assert_eq!(Weights::DEFAULT.score(&full), 90_000_000);
    assert_eq!(Weights::DEFAULT.score(&Bid::default()), 0);
}

#[test]
fn ties_do_not_always_fall_to_the_same_device() {
    let names = names();
    let bid = bid(false, Some(5), 0);
    let mut wins = vec![0; names.len()];
    for n in 0..1000 {
        let task = TaskId::new(&format!("task_{n}")).unwrap();
        let candidates: Vec<_> = names
            .iter()
            .map(|device| Candidate { device, bid: &bid, free: 1, tried: false, tie: tie(&task, device) })
            .collect();
        let winner = choose(Policy::NpuFirst, &candidates).unwrap().winner;
        wins[names.iter().position(|n| *n == winner).unwrap()] += 1;
    }
    // Three standard deviations of 1,000 draws among five are 38.
    assert!(wins.iter().all(|w| (162..=238).contains(w)), "{wins:?}");
}

fn any_bid() -> impl Strategy<Value = Bid> {
    (
        any::<bool>(),
        prop::option::of(0..=1_000_000u32),
        0..3u16,
        prop::option::of(0..=100u8),
        any::<Option<bool>>(),
    )
        .prop_map(|(npu, cpu, running, battery, charging)| Bid {
            battery: battery.and_then(Percent::new),
            charging,
            ..bid(npu, cpu, running)
        })
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(bids in prop::collection::vec(any_bid(), 1..5), turn in 0..5usize, weighted: bool) {
        let policy = if weighted { Policy::Weighted } else { Policy::NpuFirst };
        let names = names();
        let task = TaskId::new("task_x").unwrap();
        let mut candidates: Vec<_> = bids.iter().zip(&names)
            .map(|(bid, device)| Candidate { device, bid, free: 1, tried: false, tie: tie(&task, device) })
            .collect();
        let first = choose(policy, &candidates);
        let turn = turn % candidates.len();
        candidates.rotate_left(turn);
        prop_assert_eq!(&first, &choose(policy, &candidates));
        candidates.reverse();
        prop_assert_eq!(&first, &choose(policy, &candidates));
    }

    #[test]
    fn a_worse_bid_changes_nothing(bids in prop::collection::vec(any_bid(), 1..5), weighted: bool) {
        let policy = if weighted { Policy::Weighted } else { Policy::NpuFirst };
        let before = win(policy, &bids).unwrap();
        // Nothing is worse than knowing nothing and running the most.
        let mut more = bids.clone();
        more.push(bid(false, None, 9));
        let after = win(policy, &more).unwrap();
        if bids.iter().any(|b| b.cpu.is_some() || b.npu) && policy == Policy::NpuFirst {
            prop_assert_eq!(before.winner, after.winner);
        }
    }

    #[test]
    fn npu_first_is_npu_first(bids in prop::collection::vec(any_bid(), 1..5)) {
        let winner = win(Policy::NpuFirst, &bids).unwrap();
        prop_assert_eq!(winner.order[0].npu, bids.iter().any(|b| b.npu));
        let best = bids.iter().filter(|b| b.npu == winner.order[0].npu).map(|b| b.cpu.map_or(1_000_001, Load::ppm)).min();
        prop_assert_eq!(winner.order[0].cpu.map_or(1_000_001, Load::ppm), best.unwrap());
    }

    #[test]
    fn all_that_could_take_it_are_ranked_once_by_one_order(
        bids in prop::collection::vec((any_bid(), 0..2u16, any::<bool>()), 2..5),
        weighted: bool,
    ) {
        let policy = if weighted { Policy::Weighted } else { Policy::NpuFirst };
        let names = names();
        let task = TaskId::new("task_x").unwrap();
        let candidates: Vec<_> = bids.iter().zip(&names)
            .map(|((bid, free, tried), device)| Candidate { device, bid, free: *free, tried: *tried, tie: tie(&task, device) })
            .collect();
        let Some(choice) = choose(policy, &candidates) else {
            prop_assert!(candidates.iter().all(|c| c.free == 0), "somebody could take it");
            return Ok(());
        };
        let ranked: Vec<&DeviceId> = choice.order.iter().map(|ranked| &ranked.device).collect();
        let mut free: Vec<&DeviceId> = candidates.iter().filter(|c| c.free > 0).map(|c| c.device).collect();
        free.sort_by_key(|device| ranked.iter().position(|ranked| ranked == device));
        prop_assert_eq!(&free, &ranked, "each of those with a free slot, and nobody else");
        prop_assert_eq!(&choice.winner, ranked[0]);
        prop_assert!(choice.order.is_sorted_by_key(|ranked| ranked.tried), "who was tried before stands behind all others");
        prop_assert!(choice.sentence.starts_with(choice.winner.as_str()));
        // One order: between any two it is the same, whoever else is there.
        for (n, first) in ranked.iter().enumerate() {
            for second in &ranked[n + 1..] {
                let two: Vec<_> = candidates.iter().filter(|c| c.device == *first || c.device == *second).cloned().collect();
                prop_assert_eq!(&choose(policy, &two).unwrap().winner, *first);
            }
        }
    }

    #[test]
    fn weighted_is_by_points(bids in prop::collection::vec(any_bid(), 1..5)) {
        let choice = win(Policy::Weighted, &bids).unwrap();
        let best = bids.iter().map(|bid| Weights::DEFAULT.score(bid)).max();
        prop_assert_eq!(choice.order[0].score, best);
        prop_assert!(choice.order.is_sorted_by(|a, b| a.score >= b.score));
    }
}
