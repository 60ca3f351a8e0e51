//! `bidmesh doctor` on phones with planted faults: each is found and named, and none is seen where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;

use bidmesh_tests::{Laptop, can_play_phones};
use serde_json::Value;

fn two_phones() -> Laptop {
    Laptop::set_up(&["one", "two"])
}

/// Device and code of each finding.
fn findings(laptop: &Laptop) -> Vec<(Option<String>, String)> {
    let report = laptop.json(&["doctor"]);
    let found = report["findings"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    found.iter().map(|finding| (text(&finding["device_id"]), text(&finding["code"]).unwrap())).collect()
}

#[track_caller]
fn finds(laptop: &Laptop, device: Option<&str>, code: &str) {
    let found = findings(laptop);
    assert!(
        found.contains(&(device.map(str::to_owned), code.to_owned())),
        "{code} of {device:?} is not in {found:?}"
    );
}

#[test]
fn a_mesh_in_order_gets_a_clean_bill() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    let finished = laptop.run(&["doctor"]);
    assert_eq!((finished.code(), finished.stdout().as_str()), (Some(0), "2 phones, nothing found\n"));
}

#[test]
fn a_missing_adb_a_locked_phone_and_one_that_is_not_attached() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = two_phones();
    let mut command = laptop.command(&["--json", "doctor"]);
    let finished = bidmesh_tests::run_to_end(command.env("BIDMESH_ADB", "/no/such/adb"));
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stdout().contains("no_adb"), "{}", finished.stdout());

    laptop.phone("Device_A").fault("unauthorized", "");
    laptop.reconnect("Device_A");
    finds(&laptop, Some("Device_A"), "unauthorized");
    laptop.phone_mut("Device_B").power_off();
    let _ = laptop.adb(&["disconnect", &laptop.phone("Device_B").serial()]);
    finds(&laptop, Some("Device_B"), "not_attached");
}

#[test]
fn a_wrong_address_a_stopped_device_and_a_closed_port() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    let a = laptop.phone("Device_A");
    let settings = a.dir().join("config.toml");
    let text = fs::read_to_string(&settings).unwrap();
    // It listens where nobody looks for it: only on its next start would it listen elsewhere.
    fs::write(&settings, text.replace(&a.address().to_string(), &format!("{}:1", a.address().ip()))).unwrap();
    finds(&laptop, Some("Device_A"), "port_closed");
    fs::write(&settings, text.replace(&a.address().to_string(), "127.0.0.201:9999")).unwrap();
    finds(&laptop, Some("Device_A"), "wrong_address");
    fs::write(&settings, text).unwrap();
    assert_eq!(laptop.run(&["stop", "Device_B"]).code(), Some(0));
    finds(&laptop, Some("Device_B"), "not_running");
}

#[test]
fn peers_that_are_not_mutual_and_two_devices_with_one_id() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    let mut control = laptop.command(&["stop", "all"]);
    assert_eq!(bidmesh_tests::run_to_end(&mut control).code(), Some(0));
    fs::write(laptop.phone("Device_B").dir().join("peers.txt"), "").unwrap();
    finds(&laptop, Some("Device_B"), "not_mutual");
    let twin = "{\"device_id\": \"Device_A\", \"has_npu\": false}\n";
    fs::write(laptop.phone("Device_B").dir().join("device_config.json"), twin).unwrap();
    finds(&laptop, Some("Device_A"), "two_devices_with_one_id");
    // What was found is mended by setup.
    laptop.setup(&[]);
    assert_eq!(findings(&laptop), []);
}

#[test]
fn a_device_that_runs_under_the_id_of_another_gets_its_own_from_setup() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    // Its mesh directory is a copy.
    for name in ["device_config.json", "peers.txt"] {
        fs::copy(laptop.phone("Device_A").dir().join(name), laptop.phone("Device_B").dir().join(name))
            .unwrap();
    }
    assert_eq!(laptop.run(&["restart", "Device_B"]).code(), Some(0));
    finds(&laptop, Some("Device_A"), "two_devices_with_one_id");
    let report = laptop.setup(&[]);
    let devices = report["devices"].as_array().unwrap();
    assert!(devices.iter().all(|device| device["state"] == "ready"), "{report:#}");
    assert_eq!(findings(&laptop), []);
}

#[test]
fn a_shell_device_that_answers_a_moved_device_at_its_old_address() {
    if !can_play_phones() || !bidmesh_tests::require(&["nc.openbsd"]) {
        return;
    }
    let laptop = Laptop::with(&["new", "old"]);
    laptop.phone("new").has_runner("New");
    laptop.phone("old").has_runner("Old");
    laptop.phone("old").runs_the_listener("Device_X", &laptop);
    laptop.setup(&[]);
    let id = laptop
        .map()
        .lines()
        .find(|line| !line.starts_with("Device_X"))
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let peers = laptop.phone("old").dir().join("peers.txt");
    let known = fs::read_to_string(&peers).unwrap();
    fs::write(&peers, format!("{id}:127.0.0.200:9999\n{known}")).unwrap();
    finds(&laptop, Some("Device_X"), "shell_answers_old_address");
    laptop.json(&["setup", "--yes", "--shell-only"]);
    assert!(!findings(&laptop).iter().any(|(_, code)| code == "shell_answers_old_address"));
}

#[test]
fn a_clock_and_a_version_that_differ() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    laptop.phone("Device_A").program("date", "case $1 in +%s) echo 1000000 ;; *) /bin/date \"$@\" ;; esac");
    finds(&laptop, Some("Device_A"), "clock_skew");
    // An older program, which does not run.
    assert_eq!(laptop.run(&["stop", "Device_B"]).code(), Some(0));
    let program = laptop.phone("Device_B").dir().join("bidmesh");
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\necho bidmesh 0.0.1\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    finds(&laptop, Some("Device_B"), "version_skew");
}

#[test]
fn a_wifi_that_keeps_its_clients_apart() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    for name in ["Device_A", "Device_B"] {
        laptop.phone(name).program("nc", "echo 'nc: connect: Connection timed out' >&2; exit 1");
    }
    assert_eq!(findings(&laptop), [(None, "wifi_isolation".to_owned())]);
}

#[test]
fn a_backend_that_is_missing() {
    if !can_play_phones() {
        return;
    }
    let laptop = two_phones();
    fs::remove_file(laptop.phone("Device_A").dir().join("run_slm.sh")).unwrap();
    assert_eq!(laptop.run(&["restart", "Device_A"]).code(), Some(0));
    finds(&laptop, Some("Device_A"), "no_backend");
    // Unless that is what somebody wants.
    assert_eq!(laptop.run(&["config", "set", "Device_A", "executor.run", "none"]).code(), Some(0));
    assert_eq!(findings(&laptop), []);
}
