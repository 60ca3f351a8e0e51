//! The Testing Checklist of the shell mesh's peer-to-peer orchestrator, line by line, without phones: one test for
//! each line, with its name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, Runner};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// `Device_A` asks, `Device_B` has an NPU, `Device_C` has none.
struct Mesh {
    a: BidmeshProcess,
    b: BidmeshProcess,
    c: BidmeshProcess,
    runners: [Runner; 3],
}

impl Mesh {
    fn start() -> Self {
        Self::with_npu(true)
    }

    fn with_npu(has_npu: bool) -> Self {
        let runners = [Runner::new(), Runner::new(), Runner::new()];
        for (runner, id) in runners.iter().zip(["A", "B", "C"]) {
            runner.answer_with(&format!("An answer of Device_{id}.\n"));
        }
        let b = BidmeshProcess::build("Device_B").runner(&runners[1]).has_npu(has_npu).start();
        let c = BidmeshProcess::build("Device_C").runner(&runners[2]).has_npu(false).start();
        let a = BidmeshProcess::build("Device_A").runner(&runners[0]).has_npu(false);
        let a = a.peer("Device_B", b.address()).peer("Device_C", c.address()).start();
        a.wait_until_heard(&["Device_B", "Device_C"]);
        Self { a, b, c, runners }
    }

    fn devices(&self) -> [&BidmeshProcess; 3] {
        [&self.a, &self.b, &self.c]
    }

    fn runs(&self) -> [usize; 3] {
        self.runners.each_ref().map(|runner| runner.started().len())
    }
}

/// The device ids of a list of objects.
fn device_ids(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|one| one["device_id"].as_str().unwrap()).collect()
}

#[test]
fn setup_mesh_network_with_3_or_more_devices() {
    let mesh = Mesh::start();
    assert_eq!(device_ids(&mesh.a.status()["peers"]), BTreeSet::from(["Device_B", "Device_C"]));
    // Each device that was greeted knows who greeted it.
    for greeted in [&mesh.b, &mesh.c] {
        greeted.wait_until_heard(&["Device_A"]);
    }
    let peers = fs::read_to_string(mesh.a.dir().join("peers.txt")).unwrap();
    for device in [&mesh.b, &mesh.c] {
        let line = format!("{}:{}", device.id(), device.address());
        assert!(peers.lines().any(|each| each == line), "{line} is not in {peers}");
    }
}

#[test]
fn start_mesh_listeners_on_all_devices() {
    let mesh = Mesh::start();
    for device in mesh.devices() {
        std::net::TcpStream::connect(device.address()).unwrap();
        let info = fs::read_to_string(device.dir().join("my_info.txt")).unwrap();
        assert_eq!(info.trim_end(), format!("{}:{}", device.id(), device.address()));
        assert_eq!(device.status()["device_id"], device.id());
    }
    let sent = mesh.a.json(&["send", "text", "all", "Hello from A"]);
    assert_eq!(device_ids(&sent["sent"]), BTreeSet::from(["Device_B", "Device_C"]), "{sent:#}");
    for device in [&mesh.b, &mesh.c] {
        device.wait_for_log("[TEXT] Device_A: Hello from A", SOON);
    }
}

#[test]
fn launch_orchestrator_on_device_a() {
    // Nothing is started for it: whoever asks is the orchestrator.
    let mesh = Mesh::start();
    let answer = mesh.a.ask("hello");
    assert_eq!(answer["status"], "completed", "{answer:#}");
    // Nor is any device special.
    let answer = mesh.c.ask("hello");
    assert_eq!(answer["status"], "completed", "{answer:#}");
}

#[test]
fn configure_npu_settings() {
    let runner = Runner::new();
    let mut device = BidmeshProcess::build("Device_A").runner(&runner).start();
    assert_eq!(device.status()["executor"]["npu"], false);
    for (said, npu) in [("true", true), ("false", false)] {
        assert_eq!(device.run(&["config", "set", "has_npu", said]).code(), Some(0));
        let saved = fs::read_to_string(device.dir().join("device_config.json")).unwrap();
        let saved: Value = serde_json::from_str(&saved).unwrap();
        assert_eq!((&saved["device_id"], &saved["has_npu"]), (&"Device_A".into(), &npu.into()));
        device.start_again();
        assert_eq!(device.status()["executor"]["npu"], npu);
        device.ask("hello");
    }
    let modes: Vec<String> = runner.started().into_iter().map(|run| run.mode).collect();
    assert_eq!(modes, ["npu", "cpu"]);
}

#[test]
fn submit_inference_task() {
    let mesh = Mesh::start();
    let answer = mesh.a.ask("Describe a beautiful sunset.");
    let task = answer["task_id"].as_str().unwrap();
    assert!(task.starts_with("task_"), "{task}");
    assert_eq!(mesh.a.json(&["why", task])["task_id"], task);
    assert_eq!(mesh.runners[1].prompts(), ["Describe a beautiful sunset."]);
}

#[test]
fn verify_bid_collection() {
    let mesh = Mesh::start();
    let answer = mesh.a.json(&["ask", "--dry-run", "hello"]);
    assert_eq!(answer["status"], "decided", "{answer:#}");
    let answers = &answer["decision"]["auctions"][0]["answers"];
    assert_eq!(device_ids(answers), BTreeSet::from(["Device_A", "Device_B", "Device_C"]));
    for answered in answers.as_array().unwrap() {
        assert_eq!(answered["answer"], "bid", "{answer:#}");
        assert_eq!(answered["bid"]["has_npu"], answered["device_id"] == "Device_B", "{answer:#}");
        assert_eq!(answered["bid"]["slots"], 1, "{answer:#}");
    }
    assert_eq!(mesh.runs(), [0, 0, 0], "a dry run runs nothing");
}

#[test]
fn verify_npu_device_selected_if_available() {
    let mesh = Mesh::start();
    let answer = mesh.a.ask("hello");
    assert_eq!(answer["device_id"], "Device_B", "{answer:#}");
    let auction = &answer["decision"]["auctions"][0];
    assert_eq!(auction["winner"], "Device_B");
    let why = auction["why"].as_str().unwrap();
    assert!(why.starts_with("Device_B won") && why.contains("NPU"), "{why}");
    assert_eq!(mesh.runners[1].run(0).mode, "npu");
    // Busy, it is not available: another device runs the next one.
    mesh.runners[1].hold();
    let first = mesh.a.spawn(&["--json", "ask", "first"]);
    mesh.runners[1].run(1);
    let second = mesh.a.ask("second");
    assert_ne!(second["device_id"], "Device_B", "{second:#}");
    mesh.runners[1].release();
    assert_eq!(first.finish(SOON).code(), Some(0));
}

#[test]
fn verify_task_execution() {
    let mesh = Mesh::start();
    mesh.a.ask("hello");
    assert_eq!(mesh.runs(), [0, 1, 0]);
    assert_eq!((mesh.runners[1].ended(), mesh.runners[1].prompts()), (1, vec!["hello".to_owned()]));
    // The two prompts of the seed: the winner gets the one for how it will run.
    let prompts = ["--npu-prompt", "for the NPU", "--cpu-prompt", "for the processor"];
    for (to, prompt, mode) in [("Device_B", "for the NPU", "npu"), ("Device_C", "for the processor", "cpu")] {
        let runner = &mesh.runners[if to == "Device_B" { 1 } else { 2 }];
        mesh.a.json(&[&["ask", "--to", to], &prompts[..], &["base"]].concat());
        assert_eq!(runner.prompts().last().map(String::as_str), Some(prompt));
        assert_eq!(runner.started().last().map(|run| run.mode.as_str()), Some(mode));
    }
}

#[test]
fn verify_result_display() {
    let mesh = Mesh::start();
    let finished = mesh.a.run(&["ask", "hello"]);
    assert_eq!((finished.code(), finished.stdout().as_str()), (Some(0), "An answer of Device_B.\n"));
    let stderr = finished.stderr();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("[Device_B answered in ") && stderr.contains("Device_B won"), "{stderr}");
}

#[test]
fn test_with_cpu_only_devices() {
    let mesh = Mesh::with_npu(false);
    for number in 0..3 {
        let answer = mesh.a.ask(&format!("prompt {number}"));
        assert_eq!(answer["status"], "completed", "{answer:#}");
    }
    assert_eq!(mesh.runs().iter().sum::<usize>(), 3);
    for runner in &mesh.runners {
        assert!(runner.started().iter().all(|run| run.mode == "cpu"));
    }
}

#[test]
fn test_configuration_persistence() {
    let mut mesh = Mesh::start();
    assert_eq!(mesh.a.run(&["config", "set", "timing.bid_deadline", "7s"]).code(), Some(0));
    assert_eq!(mesh.a.run(&["config", "set", "has_npu", "true"]).code(), Some(0));
    let named = fs::read_to_string(mesh.a.dir().join("device_config.json")).unwrap();
    // A field that another program keeps there stays.
    let more = named.trim_end().trim_end_matches('}').trim_end().to_owned() + ", \"owner\": \"Anna\"}\n";
    fs::write(mesh.a.dir().join("device_config.json"), more).unwrap();
    assert!(mesh.a.stop(SOON));
    mesh.a.start_again();
    let setting = |key| mesh.a.json(&["config", "show", key])[0]["value"].clone();
    assert_eq!((setting("timing.bid_deadline"), setting("has_npu")), ("7s".into(), true.into()));
    assert_eq!(mesh.a.run(&["config", "set", "has_npu", "false"]).code(), Some(0));
    let kept = fs::read_to_string(mesh.a.dir().join("device_config.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&kept["owner"], &kept["has_npu"]), (&"Anna".into(), &false.into()));
    assert_eq!(device_ids(&mesh.a.status()["peers"]), BTreeSet::from(["Device_B", "Device_C"]));
}

#[test]
fn test_error_handling() {
    let mut mesh = Mesh::start();
    // A model that fails is no answer: the next device is asked.
    mesh.runners[1].fail_with(7);
    let answer = mesh.a.ask("hello");
    assert_ne!(answer["device_id"], "Device_B", "{answer:#}");
    assert_eq!((&answer["status"], &answer["attempts"]), (&"completed".into(), &2.into()), "{answer:#}");
    // If it fails everywhere, the error says how.
    mesh.runners.iter().for_each(|runner| runner.fail_with(7));
    let finished = mesh.a.run(&["ask", "hello"]);
    let stderr = finished.stderr();
    assert_eq!((finished.code(), finished.stdout().as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("exit status 7: the model is broken"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // Nobody who may be asked is there.
    mesh.b.kill();
    let finished = mesh.a.run(&["ask", "--to", "Device_B", "--bid-deadline", "1s", "hello"]);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr());
    assert!(finished.stderr().contains("Device_B"), "{}", finished.stderr());
}
