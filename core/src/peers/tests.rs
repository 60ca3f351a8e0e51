use alloc::format;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Admit, Detection};
use crate::draw::Seed;
use crate::outbox::Event;
use crate::snapshot::Health;
use crate::wire::Capacity;

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn at(millis: u64) -> Time {
    Time::from_start(Duration::from_millis(millis))
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 9999))
}

fn boot(name: &str) -> BootId {
    BootId::new(name).unwrap()
}

fn known(names: &[&str]) -> Peers {
    let mut peers = Peers::default();
    for (n, name) in names.iter().enumerate() {
        peers.introduce(&id(name), address(u8::try_from(n).unwrap()), at(0), 10).unwrap();
    }
    peers
}

#[test]
fn a_start_that_turns_out_to_be_the_present_one_makes_the_others_old() {
    let mut peers = known(&["B"]);
    let mut see = |name: &str| peers.see_boot(&id("B"), Some(&boot(name)), at(1));
    for name in ["b1", "b2", "b3"] {
        see(name);
    }
    let seen = [(); 5].map(|()| see("b1"));
    assert_eq!(seen[4], Some(BootSeen::Restarted), "b2 and b3 were delayed");
    for old in ["b2", "b3"] {
        assert!(matches!(see(old), Some(BootSeen::Old { .. })), "{old}");
    }
    assert_eq!(see("b1"), Some(BootSeen::Present));
}

#[test]
fn a_new_start_has_a_rhythm_of_its_own() {
    let mut peers = known(&["B"]);
    let config = Config { detection: Detection::default(), ..Config::default() };
    peers.configure(&config, false, Seed::from(1), at(0));
    peers.see_boot(&id("B"), Some(&boot("b1")), at(0));
    (1..=4).for_each(|n| peers.heartbeat(&id("B"), at(n * 30_000)));
    assert_eq!(peers.gaps(), 4);
    peers.see_boot(&id("B"), Some(&boot("b2")), at(130_000));
    assert_eq!(peers.gaps(), 0, "it may have other settings now");
}

#[test]
fn a_shell_device_may_be_at_work_for_as_long_as_a_task_may_take_there() {
    let mut peers = known(&["S"]);
    peers.heard(&id("S"), at(0));
    let timing = Timing::default();
    for (millis, busy) in [(1, true), (299_999, true), (300_000, false)] {
        assert_eq!(
            peers.get(&id("S")).map(|peer| peer.shell_busy(at(millis), &timing)),
            Some(busy),
            "{millis}"
        );
    }
}

#[test]
fn an_idle_peer_leaves_nothing_to_wait_for() {
    let mut peers = known(&["B"]);
    let timing = Timing::default();
    let idle = Capacity { slots: 2, running: 1, yours: 1 };
    peers.believe(&id("B"), at(1), Some(idle), None, &timing);
    assert_eq!(peers.deadline(), None);
    peers.believe(&id("B"), at(2), Some(Capacity { yours: 0, ..idle }), None, &timing);
    assert_eq!(peers.deadline().map(|(until, _)| until), Some(at(2) + timing.belief));
}

#[test]
fn the_starts_of_a_peer_that_lost_its_marker_are_four_as_well() {
    let mut peers = known(&["B"]);
    for n in 1..=6 {
        peers.see_boot(&id("B"), Some(&boot(&format!("b{n}"))), at(n));
        peers.see_boot(&id("B"), None, at(n));
    }
    let seen = |peers: &mut Peers, name: &str| peers.see_boot(&id("B"), Some(&boot(name)), at(9));
    for old in ["b3", "b4", "b5"] {
        assert!(matches!(seen(&mut peers, old), Some(BootSeen::Old { .. })), "{old}");
    }
    assert_eq!(seen(&mut peers, "b2"), Some(BootSeen::First), "the oldest are forgotten");
    assert!(matches!(seen(&mut peers, "b6"), Some(BootSeen::Old { .. })), "the last is not");
}

#[test]
fn a_device_that_was_never_heard_has_one_slot_and_one_that_failed_none() {
    let mut peers = known(&["B", "C"]);
    assert_eq!(peers.free_total(), 2);
    peers.failed(&id("B"), at(1), at(0));
    assert_eq!(peers.free_total(), 1);
    assert!(!peers.known_full(&id("B"), false, at(1)), "unreachable is not busy");
    peers.heard(&id("B"), at(2));
    assert_eq!(peers.free_total(), 2);
    peers.failed(&id("B"), at(3), at(1));
    assert_eq!(peers.free_total(), 2, "it was heard after that message had left");
}

#[test]
fn what_others_run_there_is_believed_for_a_while() {
    let mut peers = known(&["B"]);
    let timing = Timing::default();
    let capacity = Capacity { slots: 2, running: 2, yours: 1 };
    peers.see_boot(&id("B"), Some(&boot("b1")), at(0));
    peers.believe(&id("B"), at(0), Some(capacity), None, &timing);
    assert_eq!(peers.free(&id("B"), false, at(0)), 1, "one of the two is ours and counted as an award");
    peers.award(&id("B"), false, at(0), true);
    assert!(peers.known_full(&id("B"), false, at(0)) && peers.anybody_full());
    peers.advance(at(30_000));
    assert_eq!(peers.free(&id("B"), false, at(30_000)), 1);
    peers.check(at(30_000));
}

#[test]
fn a_shell_device_has_one_slot_and_what_turns_out_bidmesh_after_all_has_its_own() {
    let mut peers = known(&["B"]);
    peers.see_boot(&id("B"), Some(&boot("b1")), at(0));
    let capacity = Capacity { slots: 3, running: 0, yours: 0 };
    peers.believe(&id("B"), at(0), Some(capacity), None, &Timing::default());
    assert_eq!(peers.free_total(), 3);
    peers.see_boot(&id("B"), None, at(1));
    assert_eq!(peers.free_total(), 1);
    peers.see_boot(&id("B"), Some(&boot("b1")), at(2));
    assert_eq!(peers.free_total(), 3);
    peers.check(at(2));
}

#[test]
fn a_refusal_for_load_makes_a_device_full_for_as_long_as_it_says() {
    let mut peers = known(&["B"]);
    peers.believe(&id("B"), at(0), None, Some(Duration::from_secs(2)), &Timing::default());
    assert_eq!(peers.free_total(), 0);
    assert_eq!(peers.deadline().map(|(at, _)| at), Some(at(2_000)));
    peers.advance(at(2_000));
    assert_eq!(peers.free_total(), 1);
}

#[test]
fn the_last_four_boots_are_known_again() {
    let mut peers = known(&["B"]);
    for (n, seen) in [(1, BootSeen::First), (2, BootSeen::Restarted), (3, BootSeen::Restarted)] {
        assert_eq!(peers.see_boot(&id("B"), Some(&boot(&alloc::format!("b{n}"))), at(n)), Some(seen));
    }
    assert_eq!(
        peers.see_boot(&id("B"), Some(&boot("b1")), at(4)),
        Some(BootSeen::Old { equivocation: false })
    );
    assert_eq!(peers.see_boot(&id("B"), Some(&boot("b3")), at(5)), Some(BootSeen::Present));
    peers.see_boot(&id("B"), Some(&boot("b1")), at(6));
    let third = peers.see_boot(&id("B"), Some(&boot("b2")), at(7));
    assert_eq!(third, Some(BootSeen::Old { equivocation: true }), "two devices use one id");
}

#[test]
fn a_marker_that_was_missing_once_is_believed_when_it_is_back() {
    let mut peers = known(&["B"]);
    let b = id("B");
    assert_eq!(peers.see_boot(&b, Some(&boot("aaaaaaaa")), at(1)), Some(BootSeen::First));
    assert_eq!(peers.see_boot(&b, Some(&boot("bbbbbbbb")), at(2)), Some(BootSeen::Restarted));
    // A HELLO that was cut off before its marker.
    assert_eq!(peers.see_boot(&b, None, at(3)), None);
    assert!(!peers.get(&b).unwrap().is_bidmesh());
    assert_eq!(peers.see_boot(&b, Some(&boot("bbbbbbbb")), at(4)), Some(BootSeen::First), "not a restart");
    let old = BootSeen::Old { equivocation: false };
    assert_eq!(peers.see_boot(&b, Some(&boot("aaaaaaaa")), at(5)), Some(old));
}

#[test]
fn what_a_person_removed_stays_out_until_a_person_adds_it() {
    let mut peers = known(&["B", "C"]);
    let config = Config::default();
    let edited = peers.edited(&[(id("C"), address(1)), (id("C"), address(7))], &id("A"), &config, at(1));
    assert_eq!(edited.gone, [id("B")]);
    assert!(edited.changed.is_empty(), "the first line of an id counts, and that was known");
    assert!(peers.get(&id("B")).is_none());
    assert_eq!(peers.introduce(&id("B"), address(0), at(2), 10), Err(NotAdmitted::Removed));
    assert_eq!(
        peers.edited(&[(id("B"), address(0)), (id("A"), address(9))], &id("A"), &config, at(3)).changed,
        [id("B")]
    );
    assert_eq!(peers.lines(), [(id("B"), address(0))], "a line about this device says nothing");
    peers.check(at(3));
}

#[test]
fn a_full_book_takes_no_newcomer() {
    let mut peers = known(&["B"]);
    assert_eq!(peers.introduce(&id("X"), address(5), at(0), 1), Err(NotAdmitted::Full));
    assert!(peers.introduce(&id("B"), address(6), at(0), 1).unwrap(), "a known one may move");
}

proptest! {
    #[test]
    fn sums_equal_what_they_are_sums_of(steps in prop::collection::vec((0u8..13, 0u8..4, 0u16..4, 0u64..40_000), 0..80)) {
        let names = ["B", "C", "D", "E"];
        let mut peers = known(&names);
        let mut config = Config::default();
        let timing = Timing::default();
        let mut now = at(0);
        for (what, who, number, more) in steps {
            now += Duration::from_millis(more);
            peers.advance(now);
            let device = id(names[usize::from(who)]);
            match what {
                0 => peers.heard(&device, now),
                1 => peers.failed(&device, now, now),
                2 => peers.award(&device, false, now, number % 2 == 0),
                3 => peers.silent(&device, now),
                4 => peers.believe(&device, now, Some(Capacity { slots: number, running: number, yours: 0 }), None, &timing),
                5 => peers.believe(&device, now, None, Some(Duration::from_millis(more)), &timing),
                6 => peers.heartbeat(&device, now),
                7 => peers.left(&device, now),
                8 => peers.slept(now),
                9 => peers.delivered(&device, now),
                10 => {
                    config.detection.heartbeat = Duration::from_secs(u64::from(number) * 10);
                    peers.configure(&config, more % 2 == 0, Seed::from(more), now);
                }
                11 => {
                    let due = peers.due_heartbeats(now);
                    let wanted = |peer: &Peer| peer.is_bidmesh() || peer.failing.is_some();
                    prop_assert!(due.iter().all(|device| peers.get(device).is_some_and(wanted)));
                    prop_assert!(peers.deadline().is_none_or(|(at, _)| at > now), "none is due twice");
                }
                _ => { peers.see_boot(&device, Some(&boot(&alloc::format!("x{number}"))), now); }
            }
            peers.check(now);
        }
    }

    /// A peer that beats within a third more or less of its mean is never doubted; one that falls silent is gone
    /// before ten of its usual gaps are over; and it is told when its last word comes.
    #[test]
    fn who_beats_is_not_doubted_and_who_falls_silent_is_gone(
        usual in 2_000u64..600_000,
        shares in prop::collection::vec(67u64..133, 4..40),
        more in 1u64..100,
    ) {
        let mut peers = known(&["B"]);
        let detection = Detection { heartbeat: Duration::from_secs(30), ..Detection::default() };
        peers.configure(&Config { detection, ..Config::default() }, false, Seed::from(1), at(0));
        peers.see_boot(&id("B"), Some(&boot("b1")), at(0));
        peers.heartbeat(&id("B"), at(0));
        let mut now = at(0);
        for share in &shares {
            now += Duration::from_millis(usual * share / 100);
            peers.advance(now);
            peers.heartbeat(&id("B"), now);
        }
        prop_assert_eq!(peers.take_changes().count(), 0, "it was punctual, more or less");
        now += Duration::from_millis(usual * 10 + 10_000);
        peers.advance(now);
        prop_assert!(peers.get(&id("B")).is_some_and(Peer::suspect));
        peers.check(now);
        let health = |event: Event| match event {
            Event::PeerHealth { health, .. } => Some(health),
            _ => None,
        };
        let told: Vec<_> = peers.take_changes().filter_map(health).collect();
        prop_assert_eq!(told.last(), Some(&Health::Gone));
        now += Duration::from_secs(more);
        peers.heard(&id("B"), now);
        prop_assert_eq!(peers.take_changes().filter_map(health).collect::<Vec<_>>(), [Health::Alive]);
    }

    /// The address book against a list of lines and a list of those who were removed.
    #[test]
    fn the_book_is_what_people_and_devices_wrote(
        steps in prop::collection::vec((any::<bool>(), 0usize..5, 1u8..4, prop::collection::vec((0usize..6, 1u8..4), 0..5)), 0..40),
    ) {
        let names = ["B", "C", "D", "E", "F", "A"];
        let mut config = Config::default();
        config.limits.peers = 3;
        config.limits.removed_peers = 2;
        let mut peers = Peers::default();
        let (mut lines, mut removed): (Vec<(DeviceId, SocketAddr)>, Vec<DeviceId>) = (Vec::new(), Vec::new());
        for (by_a_person, who, where_to, written) in steps {
            if by_a_person {
                let written: Vec<_> = written.iter().map(|(n, at)| (id(names[*n]), address(*at))).collect();
                let mut new: Vec<(DeviceId, SocketAddr)> = Vec::new();
                for (device, at) in &written {
                    if *device != id("A") && new.len() < 3 && !new.iter().any(|(known, _)| known == device) {
                        new.push((device.clone(), *at));
                    }
                }
                let gone = lines.iter().map(|(device, _)| device).filter(|d| !new.iter().any(|(n, _)| n == *d));
                let mut gone: Vec<DeviceId> = gone.cloned().collect();
                gone.sort();
                removed.extend(gone);
                // At the limit the oldest is forgotten, before what stands in the new lines is.
                removed.drain(..removed.len().saturating_sub(2));
                removed.retain(|device| !new.iter().any(|(n, _)| n == device));
                let changed: Vec<DeviceId> =
                    new.iter().filter(|line| !lines.contains(line)).map(|(device, _)| device.clone()).collect();
                lines = new;
                prop_assert_eq!(peers.edited(&written, &id("A"), &config, at(0)).changed, changed);
                for (device, _) in &lines {
                    prop_assert!(peers.admits(device, Admit::Listed), "a person wrote it");
                }
            } else {
                let device = id(names[who]);
                let size = lines.len();
                let known = lines.iter_mut().find(|(known, _)| *known == device);
                let wanted = match known {
                    _ if removed.contains(&device) => Err(NotAdmitted::Removed),
                    Some(line) => {
                        let moved = line.1 != address(where_to);
                        line.1 = address(where_to);
                        Ok(moved)
                    }
                    None if size >= 3 => Err(NotAdmitted::Full),
                    None => {
                        lines.push((device.clone(), address(where_to)));
                        Ok(true)
                    }
                };
                let said = peers.introduce(&device, address(where_to), at(0), 3);
                prop_assert_eq!(said, wanted);
                prop_assert_eq!(peers.admits(&device, Admit::Any), !removed.contains(&device));
                prop_assert_eq!(peers.admits(&device, Admit::Hello), peers.get(&device).is_some());
            }
            prop_assert_eq!(peers.lines(), lines.clone());
            prop_assert_eq!((peers.len(), peers.removed_len()), (lines.len(), removed.len()));
            peers.check(at(0));
        }
    }
}
