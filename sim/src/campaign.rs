//! Worlds one after the other on all processors: the swarm, the search for planted defects, and making a failure
//! smaller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::report::Report;
use crate::world::fault::Fault;
use crate::world::plan::{Plan, Size, Without};
use crate::world::{Defect, Summary, World};

/// Plays one world to its end. A panic is a broken rule, too: S9.
pub fn play(seed: u64, size: Size, without: &Without, defect: Option<Defect>) -> Summary {
    let plan = Plan::draw(seed, size, without);
    guarded(seed, || World::new(plan, defect).play())
}

/// Plays a world that may panic.
pub fn guarded(seed: u64, play: impl FnOnce() -> Summary) -> Summary {
    match catch_unwind(AssertUnwindSafe(play)) {
        Ok(summary) => summary,
        Err(panic) => crashed(seed, &*panic),
    }
}

fn crashed(seed: u64, panic: &(dyn Any + Send)) -> Summary {
    let what = panic.downcast_ref::<String>().cloned();
    let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    let what = format!("panic: {}", what.unwrap_or_else(|| "without a message".into()));
    Summary {
        seed,
        events: 0,
        simulated: Duration::ZERO,
        devices: 0,
        outcomes: Default::default(),
        lost: 0,
        faults: [[0; 5]; crate::world::fault::KINDS],
        marks: Default::default(),
        slowest: 0,
        messages: Vec::new(),
        usage: Default::default(),
        violation: Some(Violation { rule: "S9", what }),
    }
}

/// Plays so many worlds from a seed on, until the time is over or one fails. `progress` hears how many were played.
pub fn swarm(from: u64, worlds: u64, limit: Option<Duration>, progress: impl Fn(u64) + Sync) -> Report {
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let worker = || {
            let mut report = Report::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let over = limit.is_some_and(|limit| started.elapsed() >= limit);
                if number >= worlds || over || failed.load(Ordering::Relaxed) {
                    return report;
                }
                let summary = play(from + number, Size::Drawn, &Without::default(), None);
                failed.fetch_or(summary.violation.is_some(), Ordering::Relaxed);
                report.add(&summary);
                progress(number + 1);
            }
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        for running in running {
            if let Ok(part) = running.join() {
                report.join(&part);
            }
        }
    });
    report
}

/// The first of so many seeds that finds a planted defect.
pub fn find(defect: Defect, seeds: u64) -> Option<(u64, Violation)> {
    (0..seeds).find_map(|seed| {
        let summary = play(seed, Size::Drawn, &Without::default(), Some(defect));
        summary.violation.map(|violation| (seed, violation))
    })
}

/// Leaves out of a failing world what its failure does not need: fault kinds, prompts, devices, shell devices.
/// Returns what can be left out; the same rule is broken all the same.
pub fn shrink(seed: u64, rule: &str, defect: Option<Defect>) -> Without {
    let mut without = Without::default();
    let fails = |without: &Without| {
        play(seed, Size::Drawn, without, defect).violation.is_some_and(|violation| violation.rule == rule)
    };
    let keep = |without: &mut Without, change: &dyn Fn(&mut Without)| {
        let mut smaller = without.clone();
        change(&mut smaller);
        if smaller != *without && fails(&smaller) {
            *without = smaller;
        }
    };
    let plan = Plan::draw(seed, Size::Drawn, &without);
    let armed: Vec<Fault> = plan.faults.armed().collect();
    for fault in armed {
        keep(&mut without, &|w| w.faults.push(fault));
    }
    keep(&mut without, &|w| w.shells = true);
    for devices in 1..plan.devices {
        if without.devices.is_none() {
            keep(&mut without, &|w| w.devices = Some(devices));
        }
    }
    for ask in &plan.asks {
        keep(&mut without, &|w| w.tasks.push(ask.number));
    }
    without
}
