//! Worlds one after the other on all processors: the swarm, the search for planted defects, and making a failure
//! smaller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::report::Report;
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
        auctions: 0,
        bids: 0,
        winners: Default::default(),
        violation: Some(Violation { rule: "S9", what }),
    }
}

/// How many worlds to play.
#[derive(Clone, Copy, Debug)]
pub struct Swarm {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub worlds: u64,
    /// No world begins after this time.
    pub limit: Option<Duration>,
    /// Worlds at once; as many as there are processors if `None`.
    pub threads: Option<usize>,
}

/// Plays so many worlds from a seed on, until the time is over, one fails, or `stop` is set: no world begins after it.
/// `progress` hears how many were played.
pub fn swarm(swarm: Swarm, stop: &AtomicBool, progress: impl Fn(u64) + Sync) -> Report {
    let Swarm { from, worlds, limit, threads } = swarm;
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let workers = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let worker = || {
            let mut report = Report::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let late = limit.is_some_and(|limit| started.elapsed() >= limit);
                let over = late || stop.load(Ordering::Relaxed);
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

/// Worlds that a failure is tried in at most, while single events are left out.
const TRIES: u32 = 400;

/// Leaves out of a failing world what its failure does not need: fault kinds, shell devices, devices, prompts, and
/// then single events. Returns what can be left out; the same rule is broken all the same.
pub fn shrink(seed: u64, rule: &str, defect: Option<Defect>) -> Without {
    let mut shrinking = Shrinking { seed, rule, defect, without: Without::default() };
    let plan = Plan::draw(seed, Size::Drawn, &shrinking.without);
    for fault in plan.faults.armed() {
        shrinking.try_without(|w| w.faults.push(fault));
    }
    shrinking.try_without(|w| w.shells = true);
    for devices in 1..plan.devices {
        if shrinking.try_without(|w| w.devices = Some(devices)) {
            break;
        }
    }
    for ask in &plan.asks {
        shrinking.try_without(|w| w.tasks.push(ask.number));
    }
    shrinking.events();
    shrinking.without
}

struct Shrinking<'a> {
    seed: u64,
    rule: &'a str,
    defect: Option<Defect>,
    without: Without,
}

impl Shrinking<'_> {
    /// Keeps a change if the same rule is broken all the same.
    fn try_without(&mut self, change: impl FnOnce(&mut Without)) -> bool {
        let mut smaller = self.without.clone();
        change(&mut smaller);
        let violation = play(self.seed, Size::Drawn, &smaller, self.defect).violation;
        let fails = violation.is_some_and(|violation| violation.rule == self.rule);
        if fails {
            self.without = smaller;
        }
        fails
    }

    /// Events in ever smaller groups, the last ones first: leaving one out changes the numbers of those after it.
    fn events(&mut self) {
        let mut tries = 0;
        let mut group = self.optional().len().div_ceil(2);
        while group > 0 && tries < TRIES {
            let mut end = self.optional().len();
            while end > 0 && tries < TRIES {
                let start = end.saturating_sub(group);
                // Of the world as it is now: some of the last group may be gone.
                let numbers = self.optional().get(start..end).unwrap_or_default().to_vec();
                self.try_without(|w| w.events.extend(numbers));
                tries += 1;
                end = start;
            }
            group /= 2;
        }
    }

    /// Events that may be left out and are not yet.
    fn optional(&self) -> Vec<u64> {
        let plan = Plan::draw(self.seed, Size::Drawn, &self.without);
        let mut world = World::new(plan, self.defect).noting_optional();
        // Its verdict is known; a panic ends the list where it happens.
        let _ = catch_unwind(AssertUnwindSafe(|| world.play()));
        world.optional().iter().copied().filter(|number| !self.without.events.contains(number)).collect()
    }
}
