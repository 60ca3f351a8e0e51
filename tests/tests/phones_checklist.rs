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

use bidmesh_tests::{Background, Laptop, Phone, can_play_phones, require};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Three phones that were set up.
struct Mesh {
    laptop: Laptop,
    report: Value,
}

impl Mesh {
    fn set_up() -> Self {
        let laptop = Laptop::with(&NAMES);
        for name in NAMES {
            laptop.phone(name).has_runner(&format!("Phone {name} says"));
        }
        let report = laptop.setup(&[]);
        Self { laptop, report }
    }

    /// The name in the test of the phone of a device.
    fn name(&self, id: &str) -> &'static str {
        let devices = self.report["devices"].as_array().unwrap();
        let device = devices.iter().find(|device| device["device_id"] == id).unwrap();
        let of_it = |name: &&&str| self.laptop.phone(name).serial() == device["serial"].as_str().unwrap();
        NAMES.iter().find(of_it).unwrap()
    }

    fn phone(&self, id: &str) -> &Phone {
        self.laptop.phone(self.name(id))
    }

    fn ask(&self, on: &str, prompt: &str) -> Value {
        self.laptop.json(&["ask", "--on", on, prompt])
    }
}

#[test]
fn setup_mesh_network_with_3_or_more_devices() {
    if !can_play_phones() {
        return;
    }
    let mesh = Mesh::set_up();
    for device in mesh.report["devices"].as_array().unwrap() {
        assert_eq!(device["state"], "ready", "{device:#}");
    }
    let map = mesh.laptop.map();
    for id in ["Device_A", "Device_B", "Device_C"] {
        assert!(map.contains(&format!("{id}:{}:", mesh.phone(id).serial())), "{map}");
    }
}

#[test]
fn start_mesh_listeners_on_all_devices() {
    if !can_play_phones() {
        return;
    }
    let mesh = Mesh::set_up();
    assert_eq!(mesh.laptop.run(&["stop", "all"]).code(), Some(0));
    let started = mesh.laptop.run(&["start", "all"]);
    assert_eq!(
        started.stdout(),
        "Device_A: started\nDevice_B: started\nDevice_C: started\n",
        "{}",
        started.stderr()
    );
    for id in ["Device_A", "Device_B", "Device_C"] {
        std::net::TcpStream::connect(mesh.phone(id).address()).unwrap();
    }
}

#[test]
fn launch_orchestrator_on_device_a() {
    if !can_play_phones() {
        return;
    }
    let mesh = Mesh::set_up();
    let finished = mesh.laptop.run_with(&["launch", "Device_A"], "Describe a beautiful sunset\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(finished.stdout().contains("says: Describe a beautiful sunset"), "{}", finished.stdout());
}

#[test]
fn configure_npu_settings() {
    if !can_play_phones() || !require(&["script"]) {
        return;
    }
    let mesh = Mesh::set_up();
    let phone = mesh.phone("Device_A");
    // As if nobody had said anything: on the first run a person is asked, in the words of the shell mesh.
    let config = phone.dir().join("device_config.json");
    fs::write(&config, "{\"device_id\": \"Device_A\"}\n").unwrap();
    // A terminal of its own; what its person types comes through a pipe.
    let typed = mesh.laptop.home().join("typed");
    assert!(std::process::Command::new("mkfifo").arg(&typed).status().unwrap().success());
    let launch = mesh.laptop.command(&["launch", "Device_A"]);
    let program = launch.get_program().to_string_lossy().into_owned();
    let mut terminal = std::process::Command::new("sh");
    terminal
        .arg("-c")
        .arg("exec script -qec \"$0 launch Device_A\" /dev/null < \"$1\"")
        .arg(program)
        .arg(&typed);
    for (name, value) in launch.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    let terminal = Background::spawn(&mut terminal);
    let mut person = fs::OpenOptions::new().write(true).open(&typed).unwrap();
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
    let mesh = Mesh::set_up();
    let answer = mesh.ask("Device_A", "hello");
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
    let mesh = Mesh::set_up();
    assert_eq!(mesh.laptop.run(&["config", "set", "Device_C", "has_npu", "true"]).code(), Some(0));
    assert_eq!(mesh.laptop.run(&["restart", "Device_C"]).code(), Some(0));
    let answer = mesh.ask("Device_A", "hello");
    assert_eq!(answer["device_id"], "Device_C", "{answer:#}");
}

#[test]
fn test_configuration_persistence() {
    if !can_play_phones() {
        return;
    }
    let mut mesh = Mesh::set_up();
    assert_eq!(mesh.laptop.run(&["config", "set", "Device_B", "has_npu", "true"]).code(), Some(0));
    // The phone loses its power, and is set up again.
    let name = mesh.name("Device_B");
    mesh.laptop.phone_mut(name).boot();
    mesh.laptop.reconnect(name);
    let report = mesh.laptop.setup(&[]);
    assert!(
        report["devices"].as_array().unwrap().iter().all(|device| device["state"] == "ready"),
        "{report:#}"
    );
    let saved: Value = serde_json::from_str(&mesh.phone("Device_B").file("device_config.json")).unwrap();
    assert_eq!((&saved["device_id"], &saved["has_npu"]), (&"Device_B".into(), &true.into()));
    let answer = mesh.ask("Device_A", "hello");
    assert_eq!(answer["device_id"], "Device_B", "{answer:#}");
}

#[test]
fn test_error_handling() {
    if !can_play_phones() {
        return;
    }
    let mut mesh = Mesh::set_up();
    let name = mesh.name("Device_C");
    mesh.laptop.phone_mut(name).power_off();
    // The others go on without it.
    let answer = mesh.ask("Device_A", "hello");
    assert_eq!(answer["status"], "completed", "{answer:#}");
    let finished = mesh.laptop.run(&["launch", "Device_C"]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr().contains("Device_C: the phone went away"), "{}", finished.stderr());
    // A runner that fails is an error with its reason, not an answer.
    for id in ["Device_A", "Device_B"] {
        let runner = mesh.phone(id).dir().join("run_slm.sh");
        fs::write(runner, "#!/bin/sh\necho 'out of memory' >&2\nexit 7\n").unwrap();
    }
    let finished = mesh.laptop.run(&["ask", "--on", "Device_A", "--deadline", "30s", "hello"]);
    assert_ne!(finished.code(), Some(0));
    assert!(finished.stderr().contains("out of memory"), "{}", finished.stderr());
    mesh.phone("Device_A").wait_for("mesh_Device_A.log", "out of memory", SOON);
}
