//! The Testing Checklist of the shell mesh's peer-to-peer orchestrator, the lines that need phones: one test for each,
//! with its name. (`testing_checklist.rs` has all lines on devices without phones.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::io::Write;
use std::time::Duration;

use bidmesh_tests::{Laptop, can_play_phones, require};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn three_phones() -> Laptop {
    Laptop::set_up(&["one", "two", "three"])
}

fn ask(laptop: &Laptop, on: &str, prompt: &str) -> Value {
    laptop.json(&["ask", "--on", on, prompt])
}

#[test]
fn setup_mesh_network_with_3_or_more_devices() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let map = laptop.map();
    for id in ["Device_A", "Device_B", "Device_C"] {
        assert!(map.contains(&format!("{id}:{}:", laptop.phone(id).serial())), "{map}");
    }
}

#[test]
fn start_mesh_listeners_on_all_devices() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    assert_eq!(laptop.run(&["stop", "all"]).code(), Some(0));
    let started = laptop.run(&["start", "all"]);
    assert_eq!(
        started.stdout(),
        "Device_A: started\nDevice_B: started\nDevice_C: started\n",
        "{}",
        started.stderr()
    );
    for id in ["Device_A", "Device_B", "Device_C"] {
        std::net::TcpStream::connect(laptop.phone(id).address()).unwrap();
    }
}

#[test]
fn launch_orchestrator_on_device_a() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let finished = laptop.run_with(&["launch", "Device_A"], "Describe a beautiful sunset\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(finished.stdout().contains("says: Describe a beautiful sunset"), "{}", finished.stdout());
}

#[test]
fn configure_npu_settings() {
    if !can_play_phones() || !require(&["script"]) {
        return;
    }
    let laptop = three_phones();
    let phone = laptop.phone("Device_A");
    // As if nobody had said anything: on the first run a person is asked, in the words of the shell mesh.
    let config = phone.dir().join("device_config.json");
    fs::write(&config, "{\"device_id\": \"Device_A\"}\n").unwrap();
    let (terminal, mut person) = laptop.at_terminal(&["launch", "Device_A"]);
    terminal.wait_for_stdout("Does this device have NPU? (y/n): ", SOON);
    person.write_all(b"y\n").unwrap();
    terminal.wait_for_stdout("Configuration saved.", SOON);
    terminal.wait_for_stdout("> ", SOON);
    person.write_all(b"exit\n").unwrap();
    assert_eq!(terminal.finish(SOON).code(), Some(0));
    let saved: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!((&saved["device_id"], &saved["has_npu"]), (&"Device_A".into(), &true.into()));
}

#[test]
fn submit_inference_task() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let answer = ask(&laptop, "Device_A", "hello");
    assert_eq!(answer["status"], "completed", "{answer:#}");
    assert!(answer["output"].as_str().unwrap().ends_with("says: hello"), "{answer:#}");
    let bids = answer["decision"]["auctions"][0]["answers"].as_array().unwrap().clone();
    assert_eq!(bids.len(), 3, "every phone bid: {answer:#}");
}

#[test]
fn verify_npu_device_selected_if_available() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    assert_eq!(laptop.run(&["config", "set", "Device_C", "has_npu", "true"]).code(), Some(0));
    assert_eq!(laptop.run(&["restart", "Device_C"]).code(), Some(0));
    let answer = ask(&laptop, "Device_A", "hello");
    assert_eq!(answer["device_id"], "Device_C", "{answer:#}");
}

#[test]
fn test_configuration_persistence() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = three_phones();
    assert_eq!(laptop.run(&["config", "set", "Device_B", "has_npu", "true"]).code(), Some(0));
    // The phone loses its power, and is set up again.
    laptop.phone_mut("Device_B").boot();
    laptop.reconnect("Device_B");
    let report = laptop.setup(&[]);
    assert!(
        report["devices"].as_array().unwrap().iter().all(|device| device["state"] == "ready"),
        "{report:#}"
    );
    let saved: Value = serde_json::from_str(&laptop.phone("Device_B").file("device_config.json")).unwrap();
    assert_eq!((&saved["device_id"], &saved["has_npu"]), (&"Device_B".into(), &true.into()));
    let answer = ask(&laptop, "Device_A", "hello");
    assert_eq!(answer["device_id"], "Device_B", "{answer:#}");
}

#[test]
fn test_error_handling() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = three_phones();
    laptop.phone_mut("Device_C").power_off();
    // The others go on without it.
    let answer = ask(&laptop, "Device_A", "hello");
    assert_eq!(answer["status"], "completed", "{answer:#}");
    let finished = laptop.run(&["launch", "Device_C"]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr().contains("Device_C: the phone went away"), "{}", finished.stderr());
    // A runner that fails is an error with its reason, not an answer.
    for id in ["Device_A", "Device_B"] {
        let runner = laptop.phone(id).dir().join("run_slm.sh");
        fs::write(runner, "#!/bin/sh\necho 'out of memory' >&2\nexit 7\n").unwrap();
    }
    let finished = laptop.run(&["ask", "--on", "Device_A", "--deadline", "30s", "hello"]);
    assert_ne!(finished.code(), Some(0));
    assert!(finished.stderr().contains("out of memory"), "{}", finished.stderr());
    laptop.phone("Device_A").wait_for("mesh_Device_A.log", "out of memory", SOON);
}
