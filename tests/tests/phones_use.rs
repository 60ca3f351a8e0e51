//! Phones that were set up, used from the laptop: start, stop, launch, ask, status, log, config.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::time::Duration;

use bidmesh_tests::{Laptop, Signal, can_play_phones, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Three phones, set up: `Device_A`, `Device_B`, `Device_C` in the order of their serial numbers.
fn mesh() -> (Laptop, [String; 3]) {
    let laptop = Laptop::with(&["one", "two", "three"]);
    for name in ["one", "two", "three"] {
        laptop.phone(name).has_runner(&format!("Phone {name} says"));
    }
    let report = laptop.setup(&[]);
    let devices = report["devices"].as_array().unwrap();
    assert!(devices.iter().all(|device| device["state"] == "ready"), "{report:#}");
    let name_of = |id: &str| {
        let device = devices.iter().find(|device| device["device_id"] == id).unwrap();
        let named = ["one", "two", "three"]
            .into_iter()
            .find(|name| laptop.phone(name).serial() == device["serial"].as_str().unwrap());
        named.unwrap().to_owned()
    };
    let names = ["Device_A", "Device_B", "Device_C"].map(name_of);
    (laptop, names)
}

fn device<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["devices"].as_array().unwrap().iter().find(|device| device["device_id"] == id).unwrap()
}

#[test]
fn devices_are_started_and_stopped_each_once() {
    if !can_play_phones() {
        return;
    }
    let (laptop, names) = mesh();
    let said = |arguments: &[&str]| {
        let finished = laptop.run(arguments);
        assert_eq!(finished.code(), Some(0), "{arguments:?}: {}", finished.stderr());
        finished.stdout()
    };
    assert_eq!(said(&["stop", "Device_B"]), "Device_B: stopped\n");
    assert_eq!(laptop.phone(&names[1]).device_process(), None);
    assert_eq!(said(&["stop", "Device_B"]), "Device_B: did not run\n");
    assert_eq!(said(&["start"]), "Device_A: runs already\nDevice_B: started\nDevice_C: runs already\n");
    let before = laptop.phone(&names[0]).device_process();
    assert_eq!(said(&["restart", "Device_A"]), "Device_A: restarted\n");
    assert_ne!(laptop.phone(&names[0]).device_process(), before);
    let finished = laptop.run(&["start", "Device_Z"]);
    assert_eq!(finished.code(), Some(2));
    assert!(finished.stderr().contains("there are Device_A, Device_B, Device_C"), "{}", finished.stderr());
}

#[test]
fn a_phone_that_is_gone_or_lost_its_power_is_told_and_the_others_start() {
    if !can_play_phones() {
        return;
    }
    let (mut laptop, names) = mesh();
    laptop.phone_mut(&names[1]).power_off();
    let finished = laptop.run(&["start", "all"]);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.stdout(), "Device_A: runs already\nDevice_C: runs already\n");
    assert!(finished.stderr().contains("Device_B: the phone went away"), "{}", finished.stderr());
    // What a killed device left behind is not taken for a running one.
    laptop.phone_mut(&names[1]).boot();
    laptop.reconnect(&names[1]);
    assert!(laptop.phone(&names[1]).device_process().is_some());
    let finished = laptop.run(&["start", "Device_B"]);
    assert_eq!(finished.stdout(), "Device_B: started\n", "{}", finished.stderr());
}

#[test]
fn launch_gives_the_prompt_of_a_phone_and_ask_on_asks_once() {
    if !can_play_phones() {
        return;
    }
    let (laptop, names) = mesh();
    assert_eq!(laptop.run(&["stop", "Device_A"]).code(), Some(0));
    let finished = laptop.run_with(&["launch", "Device_A"], "What is a mesh?\nexit\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(finished.stdout().contains(" says: What is a mesh?"), "{}", finished.stdout());
    assert!(finished.stderr().contains("Device_A was started"), "{}", finished.stderr());
    assert!(finished.stderr().contains(" won"), "the decision line: {}", finished.stderr());

    let answer = laptop.json(&["ask", "--on", "Device_A", "--to", "Device_C", "hello"]);
    assert_eq!(
        (&answer["status"], &answer["device_id"]),
        (&"completed".into(), &"Device_C".into()),
        "{answer:#}"
    );
    assert_eq!(answer["output"], format!("Phone {} says: hello", names[2]));
}

#[test]
fn launch_keeps_what_is_said_of_the_npu_and_the_npu_wins() {
    if !can_play_phones() {
        return;
    }
    let (laptop, names) = mesh();
    let finished = laptop.run_with(&["launch", "Device_B", "--has-npu", "true"], "hello\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(finished.stderr().contains("Configuration saved."), "{}", finished.stderr());
    assert!(laptop.phone(&names[1]).file("device_config.json").contains("\"has_npu\": true"));
    let answer = laptop.json(&["ask", "--on", "Device_A", "hello"]);
    assert_eq!(answer["device_id"], "Device_B", "{answer:#}");
    let again = laptop.run_with(&["launch", "Device_B", "--has-npu", "true"], "hello\n");
    assert!(!again.stderr().contains("Configuration saved."), "{}", again.stderr());
}

#[test]
fn status_of_all_says_how_each_phone_is() {
    if !can_play_phones() {
        return;
    }
    let (mut laptop, names) = mesh();
    laptop.json(&["ask", "--on", "Device_A", "hello"]);
    assert_eq!(laptop.run(&["stop", "Device_B"]).code(), Some(0));
    laptop.phone_mut(&names[2]).power_off();
    let status = wait_until(SOON, "the phone to be gone", || {
        let status = laptop.json(&["status", "--all"]);
        (device(&status, "Device_C")["adb"] != "ready").then_some(status)
    });
    let a = device(&status, "Device_A");
    assert_eq!(
        (&a["adb"], &a["process"], &a["npu"]),
        (&"ready".into(), &"bidmesh".into(), &false.into()),
        "{a:#}"
    );
    assert_eq!(a["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(a["address"], laptop.phone(&names[0]).address().to_string());
    assert!(a["peers"].as_array().unwrap().contains(&"Device_B".into()), "{a:#}");
    assert!(a["last_auction"].as_str().unwrap().contains(" won (completed)"), "{a:#}");
    let b = device(&status, "Device_B");
    assert_eq!((&b["process"], &b["battery"]), (&"none".into(), &81.into()), "{b:#}");
    assert_eq!(b["temperature"], 31.2);
    let table = laptop.run(&["status", "--all"]).stdout();
    assert!(table.lines().filter(|line| line.starts_with("Device_")).count() >= 3, "{table}");
}

#[test]
fn logs_of_one_and_of_all_are_shown_and_followed() {
    if !can_play_phones() {
        return;
    }
    let (laptop, _) = mesh();
    let one = laptop.run(&["log", "Device_A"]);
    assert!(one.stdout().contains("Device_A listens at"), "{}{}", one.stdout(), one.stderr());
    let all = laptop.json(&["log", "--all", "-n", "1"]);
    assert!(all["text"].is_string(), "{all:#}");
    let following = laptop.spawn(&["log", "--all", "-f"]);
    for id in ["Device_A", "Device_B", "Device_C"] {
        following.wait_for_stdout(&format!("{id} listens at"), SOON);
    }
    laptop.json(&["ask", "--on", "Device_A", "--to", "Device_B", "something to log"]);
    following.wait_for_stdout("Device_B  [", SOON);
    wait_until(SOON, "the new lines", || {
        let printed = following.stdout();
        let new = |id: &str| printed.lines().any(|line| line.starts_with(id) && line.contains("task_"));
        (new("Device_A") && new("Device_B")).then_some(())
    });
    following.signal(Signal::INT);
    assert_eq!(following.finish(SOON).code(), Some(0));
}

#[test]
fn settings_of_a_phone_are_changed_from_the_laptop() {
    if !can_play_phones() {
        return;
    }
    let (laptop, names) = mesh();
    let finished = laptop.run(&["config", "set", "Device_A", "has_npu", "true"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(laptop.phone(&names[0]).file("device_config.json").contains("\"has_npu\": true"));
    let finished = laptop.run(&["config", "set", "Device_A", "timing.patience", "2s"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(laptop.phone(&names[0]).file("config.toml").contains("patience = \"2s\""));
    let finished = laptop.run(&["config", "set", "Device_A", "timing.patiense", "2s"]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr().contains("timing.patience"), "did you mean: {}", finished.stderr());
}
