//! Fifty prompts at once on five devices with one slot each: every one is answered, the urgent ones first, memory
//! stays bounded, and cancelling half of them makes room for the others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::time::{Duration, Instant};

use bidmesh_tests::{Background, BidmeshProcess, Runner, Signal, resident_bytes, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);
const DEVICES: usize = 5;
const PROMPTS: usize = 50;
/// More than fifty prompts of a few bytes, their records and their commands' connections can need.
const GROWTH_MAX: u64 = 16 << 20;

/// One that asks and runs nothing, and five that have a slot each.
struct Mesh {
    asking: BidmeshProcess,
    /// One for all, so that it knows in which order prompts began.
    runner: Runner,
    _workers: Vec<BidmeshProcess>,
}

impl Mesh {
    fn start() -> Self {
        let runner = Runner::new();
        let names: Vec<String> = (0..DEVICES).map(|number| format!("Worker_{number}")).collect();
        let workers: Vec<BidmeshProcess> =
            names.iter().map(|name| BidmeshProcess::build(name).runner(&runner).start()).collect();
        let asking = names
            .iter()
            .zip(&workers)
            .fold(BidmeshProcess::build("Asking"), |asking, (name, worker)| {
                asking.peer(name, worker.address())
            })
            .start();
        asking.wait_until_heard(&names.iter().map(String::as_str).collect::<Vec<_>>());
        Self { asking, runner, _workers: workers }
    }

    fn ask(&self, priority: usize, prompt: &str) -> Background {
        self.asking.spawn(&["--json", "ask", "--priority", &priority.to_string(), prompt])
    }

    /// Takes every slot, with prompts that are held.
    fn fill(&self) -> Vec<Background> {
        self.runner.hold();
        let filling = (0..DEVICES).map(|_| self.ask(9, "fill")).collect();
        self.wait_until_running(DEVICES);
        filling
    }

    /// How many prompts began to run since the mesh did.
    fn wait_until_running(&self, in_all: usize) {
        wait_until(SOON, &format!("{in_all} runs"), || (self.runner.started().len() >= in_all).then_some(()));
    }

    fn open(&self) -> Vec<Value> {
        self.asking.status()["tasks"].as_array().unwrap().clone()
    }

    fn wait_until_open(&self, count: usize) {
        wait_until(SOON, &format!("{count} open tasks"), || (self.open().len() == count).then_some(()));
    }
}

#[test]
fn all_are_answered_and_the_urgent_ones_first() {
    let mesh = Mesh::start();
    let filling = mesh.fill();
    let before = resident_bytes(mesh.asking.process_id());
    let asked: Vec<Background> =
        (0..PROMPTS).map(|number| mesh.ask(number % 10, &format!("of priority {}", number % 10))).collect();
    mesh.wait_until_open(PROMPTS + DEVICES);
    mesh.runner.release();

    for asked in filling.into_iter().chain(asked) {
        let finished = asked.finish(SOON);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    }
    assert_eq!(mesh.runner.started().len(), PROMPTS + DEVICES, "each ran once");
    let after = resident_bytes(mesh.asking.process_id());
    assert!(after < before + GROWTH_MAX, "{before} bytes before, {after} after");

    let began: Vec<usize> = mesh.runner.prompts()[DEVICES..]
        .iter()
        .map(|prompt| prompt.trim_end().rsplit(' ').next().and_then(|last| last.parse().ok()).unwrap())
        .collect();
    // Five run at once, and a program that is slow to start is overtaken; on average each priority has its place.
    let places = |wanted: usize| began.iter().enumerate().filter(move |(_, priority)| **priority == wanted);
    let sums: Vec<usize> = (0..10).map(|priority| places(priority).map(|(place, _)| place).sum()).collect();
    assert!(sums.is_sorted_by(|less_urgent, more_urgent| less_urgent > more_urgent), "{began:?}");
}

#[test]
fn cancelling_half_makes_room_for_the_others() {
    let mesh = Mesh::start();
    mesh.runner.hold();
    let asked: Vec<Background> =
        (0..PROMPTS).map(|number| mesh.ask(5, &format!("prompt {number}"))).collect();
    mesh.wait_until_running(DEVICES);
    mesh.wait_until_open(PROMPTS);

    // Those that run, and as many of the others as make half of all.
    let began = mesh.runner.prompts();
    let runs = |number: usize| began.iter().any(|prompt| prompt.trim_end() == format!("prompt {number}"));
    let (running, waiting): (Vec<_>, Vec<_>) =
        asked.into_iter().enumerate().partition(|(number, _)| runs(*number));
    assert_eq!(running.len(), DEVICES, "{began:?}");
    let mut cancelled: Vec<Background> = running.into_iter().chain(waiting).map(|(_, asked)| asked).collect();
    let kept = cancelled.split_off(PROMPTS / 2);

    let start = Instant::now();
    for asked in &cancelled {
        asked.signal(Signal::INT);
    }
    mesh.wait_until_running(2 * DEVICES);
    eprintln!("five slots were free and taken again {:?} after 25 prompts were cancelled", start.elapsed());
    for asked in cancelled {
        let finished = asked.finish(SOON);
        assert_eq!(finished.code(), Some(130), "{}", finished.stderr());
    }
    mesh.wait_until_open(PROMPTS / 2);
    mesh.runner.release();
    for asked in kept {
        let finished = asked.finish(SOON);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    }
    assert_eq!(
        mesh.runner.started().len(),
        PROMPTS / 2 + DEVICES,
        "what was cancelled while it waited never ran"
    );
}
