//! Processes that are killed, stopped and started again at every stage of a prompt: each prompt ends in one answer or
//! one clear failure, and nothing runs on for nobody.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::id::TaskId;
use bidmesh_core::load::Load;
use bidmesh_core::wire::{Advertised, Bid, Body, Capacity, Dialect};
use bidmesh_tests::{Background, BidmeshBuilder, BidmeshProcess, MeshPeer, Runner, Signal, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// A device that notices soon when another one is silent.
fn impatient(id: &str) -> BidmeshBuilder {
    BidmeshProcess::build(id)
        .setting("timing.progress_deadline", "1500ms")
        .setting("timing.heartbeat", "300ms")
        .setting("timing.query", "500ms")
}

/// One that asks and runs nothing, and two that run: the first has an NPU, so it wins as long as it bids.
struct Mesh {
    asking: BidmeshProcess,
    first: BidmeshProcess,
    second: BidmeshProcess,
    first_runner: Runner,
    second_runner: Runner,
}

impl Mesh {
    fn start(build: fn(&str) -> BidmeshBuilder) -> Self {
        let (first_runner, second_runner) = (Runner::new(), Runner::new());
        first_runner.answer_with("from the first");
        second_runner.answer_with("from the second");
        let first = build("First").runner(&first_runner).has_npu(true).start();
        let second = build("Second").runner(&second_runner).start();
        let asking = build("Asking").peer("First", first.address()).peer("Second", second.address()).start();
        asking.wait_until_heard(&["First", "Second"]);
        Self { asking, first, second, first_runner, second_runner }
    }

    /// Asks, and waits until the first device runs the prompt and waits for [`Runner::release`].
    fn ask_first(&self) -> Background {
        self.first_runner.hold();
        let asked = self.asking.spawn(&["--json", "ask", "hello"]);
        self.first_runner.run(0);
        asked
    }

    /// Nothing is open any more, anywhere.
    fn wait_until_quiet(&self) {
        for device in [&self.asking, &self.first, &self.second] {
            wait_until(SOON, &format!("{} to have nothing open", device.id()), || {
                let status = device.status();
                let none = |what: &str| status[what].as_array().is_some_and(Vec::is_empty);
                (none("tasks") && none("runs") && status["kept_results"] == 0).then_some(())
            });
        }
    }
}

/// What `ask --json` ended with.
fn answer(asked: Background) -> Value {
    let finished = asked.finish(SOON);
    serde_json::from_str(&finished.stdout())
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout(), finished.stderr()))
}

fn happened(answer: &Value, what: &str) -> bool {
    let happened = answer["decision"]["happened"].as_array().unwrap();
    happened.iter().any(|line| line["what"].as_str().is_some_and(|line| line.contains(what)))
}

fn assert_answered(answer: &Value, device: &str, output: &str, attempts: u32) {
    let seen = (&answer["status"], &answer["device_id"], &answer["output"], &answer["attempts"]);
    let wanted = (&"completed".into(), &device.into(), &output.into(), &attempts.into());
    assert_eq!(seen, wanted, "{answer:#}");
}

/// A bidmesh device with the best bid there is, of which there is no more than a test says.
struct Puppet(MeshPeer);

impl Puppet {
    fn listen() -> Self {
        Self(MeshPeer::listen("Puppet"))
    }

    fn send(&self, to: SocketAddr, body: Body) {
        self.0.send(to, body, Dialect::Bidmesh);
    }

    /// Waits for what `wanted` takes of a message, whichever it is.
    fn wait_for<T>(&self, what: &str, wanted: impl Fn(&Body) -> Option<T>) -> T {
        wait_until(SOON, what, || self.0.messages().iter().find_map(|message| wanted(&message.body)))
    }

    /// Makes itself known.
    fn greet(&self, to: &BidmeshProcess) {
        self.send(to.address(), Body::Hello(Advertised::from(self.0.address())));
    }

    /// Waits for a bid request and answers it; returns when the award has come.
    fn win(&self, from: &BidmeshProcess) {
        let task: TaskId = self.wait_for("a bid request", |body| match body {
            Body::BidRequest(request) => request.task.clone(),
            _ => None,
        });
        self.send(
            from.address(),
            Body::BidResponse(Bid {
                task: Some(task),
                cpu: Load::from_ppm(0),
                npu: true,
                capacity: Some(Capacity { slots: 1, running: 0, yours: 0 }),
                ..Bid::default()
            }),
        );
        self.wait_for("the award", |body| matches!(body, Body::Task(_)).then_some(()));
    }
}

/// A device that answers with its id, and one that asks and knows it and the puppet.
fn mesh_with_a_puppet() -> (Runner, BidmeshProcess, BidmeshProcess, Puppet) {
    let runner = Runner::new();
    runner.answer_with("from the second");
    let second = BidmeshProcess::build("Second").runner(&runner).start();
    let asking = BidmeshProcess::build("Asking").peer("Second", second.address()).start();
    let puppet = Puppet::listen();
    puppet.greet(&asking);
    asking.wait_until_heard(&["Second", "Puppet"]);
    (runner, second, asking, puppet)
}

#[test]
fn a_winner_that_never_accepts_loses_to_the_next_best() {
    let (runner, _second, asking, puppet) = mesh_with_a_puppet();
    let asked = asking.spawn(&["--json", "ask", "hello"]);
    puppet.win(&asking);
    let answer = answer(asked);
    assert_answered(&answer, "Second", "from the second", 1);
    assert!(happened(&answer, "Puppet read the task but did not accept it"), "{answer:#}");
    assert_eq!(runner.started().len(), 1);
    // If it lives after all, it knows that nobody wants its answer.
    puppet.wait_for("CANCEL", |body| matches!(body, Body::Cancel(_)).then_some(()));
}

#[test]
fn a_winner_that_vanishes_after_the_award_loses_to_the_next_best() {
    let (runner, _second, asking, puppet) = mesh_with_a_puppet();
    // It dies as soon as its bid is out: bidding and dying is one step for who asks.
    let asked = asking.spawn(&["--json", "ask", "hello"]);
    puppet.win(&asking);
    drop(puppet);
    assert_answered(&answer(asked), "Second", "from the second", 1);
    assert_eq!(runner.started().len(), 1);
    // From then on it is known to be gone, and is no reason to wait.
    assert_answered(&asking.ask("again"), "Second", "from the second", 1);
}

#[test]
fn a_worker_killed_while_it_runs_is_replaced() {
    let mut mesh = Mesh::start(impatient);
    let asked = mesh.ask_first();
    mesh.first.kill();
    let answer = answer(asked);
    assert_answered(&answer, "Second", "from the second", 2);
    assert!(happened(&answer, "First went silent"), "{answer:#}");
    assert_eq!((mesh.first_runner.started().len(), mesh.second_runner.started().len()), (1, 1));
}

#[test]
fn a_person_sees_where_the_answer_of_a_killed_worker_broke_off() {
    let mut mesh = Mesh::start(impatient);
    mesh.first_runner.begin_with("It begins");
    mesh.first_runner.hold();
    let asked = mesh.asking.spawn(&["ask", "hello"]);
    asked.wait_for_stdout("It begins", SOON);
    mesh.first.kill();
    let finished = asked.finish(SOON);
    let stdout = finished.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((finished.code(), lines.len()), (Some(0), 3), "{stdout}{}", finished.stderr());
    assert_eq!((lines[0], lines[2]), ("It begins", "from the second"));
    assert!(lines[1].starts_with("[First went silent after 9 bytes;"), "{stdout}");
}

#[test]
fn a_worker_that_comes_back_without_its_work_is_found_out_by_its_boot_id() {
    // With the default patience: nobody waits for it to be silent for 15 s.
    let mut mesh = Mesh::start(BidmeshProcess::build);
    let asked = mesh.ask_first();
    mesh.first.kill();
    mesh.first_runner.release();
    mesh.first.start_again();
    let answer = answer(asked);
    // It may win again, now that it is back.
    assert_eq!((&answer["status"], &answer["attempts"]), (&"completed".into(), &2.into()), "{answer:#}");
    assert!(happened(&answer, "First rejected the award"), "{answer:#}");
    mesh.wait_until_quiet();
}

#[test]
fn a_result_that_is_not_taken_is_kept_until_it_is() {
    let mesh = Mesh::start(BidmeshProcess::build);
    let asked = mesh.ask_first();
    mesh.asking.signal(Signal::STOP);
    mesh.first_runner.release();
    wait_until(SOON, "the worker to keep its result", || {
        (mesh.first.status()["kept_results"] == 1).then_some(())
    });
    mesh.asking.signal(Signal::CONT);
    assert_answered(&answer(asked), "First", "from the first", 1);
    mesh.wait_until_quiet();
    assert_eq!((mesh.first_runner.ended(), mesh.second_runner.started().len()), (1, 0));
}

#[test]
fn a_worker_killed_before_its_result_was_taken_leaves_one_answer() {
    let mut mesh = Mesh::start(impatient);
    let asked = mesh.ask_first();
    mesh.asking.signal(Signal::STOP);
    mesh.first_runner.release();
    wait_until(SOON, "the worker to keep its result", || {
        (mesh.first.status()["kept_results"] == 1).then_some(())
    });
    mesh.first.kill();
    mesh.asking.signal(Signal::CONT);
    let answer = answer(asked);
    // What the kernel had taken for the one that slept is an answer; if it had taken nothing, the next device runs it.
    match answer["device_id"].as_str() {
        Some("First") => assert_answered(&answer, "First", "from the first", 1),
        _ => assert_answered(&answer, "Second", "from the second", 2),
    }
    assert!(mesh.first_runner.started().len() == 1 && mesh.second_runner.started().len() <= 1);
}

#[test]
fn a_worker_that_is_stopped_for_a_moment_is_not_given_up() {
    let mesh = Mesh::start(BidmeshProcess::build);
    let asked = mesh.ask_first();
    mesh.first.signal(Signal::STOP);
    // It ends its work while the device sleeps.
    mesh.first_runner.release();
    wait_until(SOON, "the run to end", || (mesh.first_runner.ended() == 1).then_some(()));
    mesh.first.signal(Signal::CONT);
    assert_answered(&answer(asked), "First", "from the first", 1);
    assert!(mesh.second_runner.started().is_empty());
}

#[test]
fn a_worker_that_is_stopped_for_long_is_replaced_and_its_late_answer_changes_nothing() {
    let mesh = Mesh::start(impatient);
    let asked = mesh.ask_first();
    mesh.first.signal(Signal::STOP);
    let answer = answer(asked);
    assert_answered(&answer, "Second", "from the second", 2);
    mesh.first_runner.release();
    wait_until(SOON, "the run to end", || (mesh.first_runner.ended() == 1).then_some(()));
    mesh.first.signal(Signal::CONT);
    mesh.wait_until_quiet();
    let record = mesh.asking.json(&["why"]);
    assert_eq!(record["outcome"]["device_id"], "Second", "{record:#}");
}

#[test]
fn when_who_asked_is_killed_the_work_stops() {
    let mesh = Mesh::start(BidmeshProcess::build);
    let asked = mesh.ask_first();
    let run = mesh.first_runner.run(0);
    assert!(run.is_alive());
    asked.signal(Signal::KILL);
    wait_until(SOON, "the program that runs the prompt to be ended", || (!run.is_alive()).then_some(()));
    mesh.wait_until_quiet();
    assert_eq!(mesh.asking.json(&["why"])["outcome"]["status"], "cancelled");
    // It is free for the next.
    mesh.first_runner.release();
    assert_answered(&mesh.asking.ask("again"), "First", "from the first", 1);
}

#[test]
fn a_device_killed_at_any_moment_starts_again_in_its_directory() {
    let runner = Runner::new();
    let mut device = BidmeshProcess::build("Device_A").runner(&runner).start();
    assert_eq!(device.ask("before")["output"], "before");
    device.kill();
    // What it left behind says that it runs, but it does not.
    assert!(device.dir().join("control.json").is_file() && device.dir().join("bidmesh.lock").is_file());
    let finished = device.run(&["status"]);
    assert_eq!(finished.code(), Some(6), "{}", finished.stderr());
    assert!(finished.stderr().contains("no device runs in this mesh directory"), "{}", finished.stderr());
    // A command that can do without a running device starts one of its own.
    assert_eq!(device.run(&["peers", "add", "Device_B", "127.0.0.1:9"]).code(), Some(0));
    device.start_again();
    assert_eq!(device.ask("after")["output"], "after");
    assert!(device.peer("Device_B").is_some());
    assert!(device.stop(SOON));
    assert!(!device.dir().join("control.json").exists());
}

#[test]
fn a_prompt_of_a_device_that_is_killed_is_answered_once_it_is_back() {
    let mut mesh = Mesh::start(BidmeshProcess::build);
    mesh.first_runner.hold();
    let asked = mesh.asking.spawn(&["--json", "ask", "hello"]);
    let run = mesh.first_runner.run(0);
    mesh.asking.kill();
    // Its worker finishes and finds nobody who takes the answer.
    assert!(run.is_alive());
    mesh.first_runner.release();
    wait_until(SOON, "the worker to keep its result", || {
        (mesh.first.status()["kept_results"] == 1).then_some(())
    });
    mesh.asking.start_again();
    assert_answered(&answer(asked), "First", "from the first", 1);
    mesh.wait_until_quiet();
    assert_eq!((mesh.first_runner.started().len(), mesh.second_runner.started().len()), (1, 0));
}
