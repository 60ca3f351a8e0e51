//! Phones that were set up, used from the laptop: start, stop, launch, ask, status, log, config.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bidmesh_tests::{Background, Laptop, Signal, can_play_phones, phone_binary, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn three_phones() -> Laptop {
    Laptop::set_up(&["one", "two", "three"])
}

fn device<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["devices"].as_array().unwrap().iter().find(|device| device["device_id"] == id).unwrap()
}

#[test]
fn devices_are_started_and_stopped_each_once() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let said = |arguments: &[&str]| {
        let finished = laptop.run(arguments);
        assert_eq!(finished.code(), Some(0), "{arguments:?}: {}", finished.stderr());
        finished.stdout()
    };
    assert_eq!(said(&["stop", "Device_B"]), "Device_B: stopped\n");
    assert_eq!(laptop.phone("Device_B").device_process(), None);
    assert_eq!(said(&["stop", "Device_B"]), "Device_B: did not run\n");
    assert_eq!(said(&["start"]), "Device_A: runs already\nDevice_B: started\nDevice_C: runs already\n");
    let before = laptop.phone("Device_A").device_process();
    assert_eq!(said(&["restart", "Device_A"]), "Device_A: restarted\n");
    assert_ne!(laptop.phone("Device_A").device_process(), before);
    let finished = laptop.run(&["start", "Device_Z"]);
    assert_eq!(finished.code(), Some(2));
    assert!(finished.stderr().contains("there are Device_A, Device_B, Device_C"), "{}", finished.stderr());
}

#[test]
fn a_phone_that_is_gone_or_lost_its_power_is_told_and_the_others_start() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = three_phones();
    laptop.phone_mut("Device_B").power_off();
    let finished = laptop.run(&["start", "all"]);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.stdout(), "Device_A: runs already\nDevice_C: runs already\n");
    assert!(finished.stderr().contains("Device_B: the phone went away"), "{}", finished.stderr());
    // What a killed device left behind is not taken for a running one.
    laptop.phone_mut("Device_B").boot();
    laptop.reconnect("Device_B");
    assert!(laptop.phone("Device_B").device_process().is_some());
    let finished = laptop.run(&["start", "Device_B"]);
    assert_eq!(finished.stdout(), "Device_B: started\n", "{}", finished.stderr());
}

#[test]
fn launch_gives_the_prompt_of_a_phone_and_ask_on_asks_once() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
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
    assert_eq!(answer["output"], format!("Phone {} says: hello", laptop.phone("Device_C").name()));
}

#[test]
fn launch_keeps_what_is_said_of_the_npu_and_the_npu_wins() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let finished = laptop.run_with(&["launch", "Device_B", "--has-npu", "true"], "hello\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(finished.stderr().contains("Configuration saved."), "{}", finished.stderr());
    assert!(laptop.phone("Device_B").file("device_config.json").contains("\"has_npu\": true"));
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
    let mut laptop = three_phones();
    laptop.json(&["ask", "--on", "Device_A", "hello"]);
    assert_eq!(laptop.run(&["stop", "Device_B"]).code(), Some(0));
    laptop.phone_mut("Device_C").power_off();
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
    assert_eq!(a["address"], laptop.phone("Device_A").address().to_string());
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
    let laptop = three_phones();
    let one = laptop.run(&["log", "Device_A"]);
    assert!(one.stdout().contains("Device_A listens at"), "{}{}", one.stdout(), one.stderr());
    // Its older part is in another file.
    fs::write(
        laptop.phone("Device_A").dir().join("mesh_Device_A.log.1"),
        "[2026-01-01 00:00:00] [INFO] older\n",
    )
    .unwrap();
    assert!(laptop.run(&["log", "Device_A", "-n", "1000"]).stdout().contains("[INFO] older\n"));
    assert!(!laptop.run(&["log", "Device_A", "-n", "1"]).stdout().contains("older"));
    assert_eq!(laptop.run(&["log", "Device_A", "-n", "2"]).stdout().lines().count(), 2);
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
fn ctrl_c_leaves_neither_temporary_files_nor_forwards() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["slow"]);
    laptop.phone("slow").program_at("data/local/tmp/mesh/run_slm.sh", "exec sleep 600");
    let temporary = laptop.home().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let is_empty = || fs::read_dir(&temporary).unwrap().next().is_none();
    let forwards = || laptop.adb(&["forward", "--list"]).stdout().trim().to_owned();
    let binary = phone_binary().display().to_string();
    let setup = || {
        let mut command = laptop.command(&["setup", "--yes", "--binary", &binary]);
        Background::spawn(command.env("TMPDIR", &temporary))
    };
    let interrupt = |running: Background| {
        running.signal(Signal::INT);
        let finished = running.finish(SOON);
        assert_eq!((finished.code(), is_empty(), forwards().as_str()), (Some(130), true, ""));
    };

    let copying = setup();
    wait_until(SOON, "a piece of the program", || (!is_empty()).then_some(()));
    interrupt(copying);
    let asking = setup();
    wait_until(SOON, "a prompt", || asking.stderr().contains("is asked a prompt").then_some(()));
    wait_until(SOON, "a forward", || (!forwards().is_empty()).then_some(()));
    interrupt(asking);
}

#[test]
fn what_a_phone_says_of_itself_cannot_drive_the_terminal() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["odd"]);
    laptop.phone("odd").program("getprop", "printf 'odd\\033[2J\\n'");
    let binary = phone_binary().display().to_string();
    let stderr = laptop.run(&["setup", "--yes", "--binary", &binary]).stderr();
    assert!(stderr.contains("odd\u{fffd}[2J") && !stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn settings_of_a_phone_are_changed_from_the_laptop() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let finished = laptop.run(&["config", "set", "Device_A", "has_npu", "true"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(laptop.phone("Device_A").file("device_config.json").contains("\"has_npu\": true"));
    let restart = "counts from the next start: `bidmesh restart Device_A`";
    assert!(finished.stderr().contains(restart), "{}", finished.stderr());
    let finished = laptop.run(&["config", "set", "Device_A", "executor.tokens", "99"]);
    assert!(finished.stderr().contains(restart), "{}", finished.stderr());
    let finished = laptop.run(&["config", "set", "Device_A", "timing.patience", "2s"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    assert!(!finished.stderr().contains("next start"), "it counts at once: {}", finished.stderr());
    assert!(laptop.phone("Device_A").file("config.toml").contains("patience = \"2s\""));
    let finished = laptop.run(&["config", "set", "Device_A", "timing.patiense", "2s"]);
    assert_eq!(finished.code(), Some(2), "as here");
    let said = finished.stderr();
    assert!(
        said.contains("timing.patience") && said.starts_with("bidmesh: Device_A: "),
        "did you mean: {said}"
    );
    assert_eq!(said.matches("bidmesh: ").count(), 1, "{said}");
}

#[test]
fn a_device_outlives_the_adb_session_that_started_it() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    assert_eq!(laptop.run(&["restart", "Device_B"]).code(), Some(0));
    let before = laptop.phone("Device_B").device_process();
    // The phone hangs up on everything that belongs to the session, as when the cable is pulled out.
    let serial = laptop.phone("Device_B").serial();
    assert_eq!(laptop.adb(&["disconnect", &serial]).code(), Some(0));
    let answer = laptop.json(&["ask", "--on", "Device_A", "--to", "Device_B", "hello"]);
    assert_eq!(answer["status"], "completed", "{answer:#}");
    laptop.connect("Device_B");
    assert_eq!(laptop.phone("Device_B").device_process(), before);
    assert_eq!(laptop.run(&["start", "Device_B"]).stdout(), "Device_B: runs already\n");
}

#[test]
fn a_log_that_ends_while_it_is_followed_is_told_and_the_others_go_on() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = three_phones();
    let following = laptop.spawn(&["log", "--all", "-f"]);
    following.wait_for_stdout("Device_C listens at", SOON);
    laptop.phone_mut("Device_C").power_off();
    wait_until(SOON, "the end of a log to be told", || {
        following.stderr().contains("Device_C: nothing more comes of its log").then_some(())
    });
    laptop.json(&["ask", "--on", "Device_A", "--to", "Device_B", "hello"]);
    wait_until(SOON, "the lines of the others", || {
        let printed = following.stdout();
        printed.lines().any(|line| line.starts_with("Device_B") && line.contains("task_")).then_some(())
    });
    following.signal(Signal::INT);
    assert_eq!(following.finish(SOON).code(), Some(0));
}

#[test]
fn a_device_that_ends_at_once_is_told_with_its_own_words() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    assert_eq!(laptop.run(&["stop", "Device_B"]).code(), Some(0));
    let settings = laptop.phone("Device_B").dir().join("config.toml");
    let before = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("wrok.slots = 2\nlisten = \"nowhere\"\n{before}")).unwrap();
    let finished = laptop.run(&["start", "Device_B"]);
    assert_eq!(finished.code(), Some(1));
    let said = finished.stderr();
    assert!(
        said.contains("Device_B was started and ended at once: ") && said.contains("config.toml"),
        "{said}"
    );
}

/// A model server as far as `setup` and a device need one, at one of the ports where they are looked for; `None`: all
/// are taken on this machine.
fn model_server() -> Option<u16> {
    let listener =
        [8080, 11434, 8000, 1234].into_iter().find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())?;
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&stream)));
    Some(port)
}

fn answer(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut request = String::new();
    for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let json = if request.starts_with("GET /v1/models ") {
        r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#
    } else {
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"The server says hello."},"finish_reason":"stop"}]}"#
    };
    // A client that went away is its own business.
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
        json.len()
    );
}

#[test]
fn a_model_server_on_a_phone_is_found_and_used() {
    if !can_play_phones() {
        return;
    }
    let Some(port) = model_server() else { return };
    let laptop = Laptop::with(&["one"]);
    let device = laptop.setup(&[])["devices"][0].clone();
    assert_eq!(
        (&device["state"], &device["answer"]),
        (&"ready".into(), &"The server says hello.".into()),
        "{device:#}"
    );
    let spec = format!("openai:http://127.0.0.1:{port}");
    assert!(laptop.phone("one").file("config.toml").contains(&spec), "{device:#}");
}
