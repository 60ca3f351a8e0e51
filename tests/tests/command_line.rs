//! The command line as people and scripts meet it: exit statuses, what goes to stdout and what to stderr, signals,
//! files that cannot be read, and the control API's door.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, Finished, Process, Runner, Signal, require, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// What a person is told to do about a port that is taken.
const PORT_ADVICE: &str = "another program listens there; stop it or choose another port";

/// A device that works for itself.
fn device() -> (Runner, BidmeshProcess) {
    let runner = Runner::new();
    let device = BidmeshProcess::build("Device_A").runner(&runner).start();
    (runner, device)
}

/// It failed with this status, and with one line on stderr that holds all of `words`.
fn assert_fails(finished: &Finished, code: i32, words: &[&str]) {
    let stderr = finished.stderr();
    assert_eq!((finished.code(), finished.stdout().as_str()), (Some(code), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
}

#[test]
fn each_kind_of_failure_has_its_exit_status_and_one_line() {
    let (runner, device) = device();
    assert_fails(&device.run(&["ask", " "]), 2, &["the prompt is empty"]);
    assert_fails(&device.run(&["config", "set", "work.slots", "many"]), 2, &["work.slots"]);
    assert_fails(
        &device.run(&["ask", "--to", "Nobody", "hello"]),
        3,
        &["none of the devices it is for is known here"],
    );
    assert_fails(&device.run(&["why", "task_unknown"]), 1, &["task_unknown"]);
    runner.hold();
    assert_fails(&device.run(&["ask", "--deadline", "500ms", "hello"]), 4, &["deadline passed"]);
    runner.release();
    let off = BidmeshProcess::build("Off").prepare();
    for command in ["status", "why", "pause", "resume", "stop"] {
        assert_fails(&off.run(&[command]), 6, &["no device runs in this mesh directory"]);
    }
    assert_eq!(device.run(&["ask", "--no-such-flag"]).code(), Some(2));
}

#[test]
fn json_is_alone_on_stdout_and_errors_are_json_on_stderr() {
    let (_runner, device) = device();
    let commands: [&[&str]; 6] = [
        &["ask", "hello"],
        &["status"],
        &["why"],
        &["peers", "list"],
        &["config", "show"],
        &["ask", "--dry-run", "hello"],
    ];
    for command in commands {
        let finished = device.run(&[&["--json"], command].concat());
        serde_json::from_str::<Value>(&finished.stdout())
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {}", finished.stdout()));
        assert_eq!((finished.code(), finished.stderr().as_str()), (Some(0), ""), "{command:?}");
    }
    let answer = device.ask("hello");
    for field in ["task_id", "status", "device_id", "output", "attempts", "decision"] {
        assert!(answer.get(field).is_some(), "no {field} in {answer:#}");
    }
    let finished = device.run(&["--json", "why", "task_unknown"]);
    let error: Value = serde_json::from_str(&finished.stderr()).unwrap();
    assert!(error["error"]["code"].is_string() && error["error"]["message"].is_string(), "{error:#}");
}

#[test]
fn a_line_of_the_log_that_is_none_of_ours_is_json_as_well() {
    let off = BidmeshProcess::build("Off").prepare();
    fs::write(off.dir().join("device_config.json"), "{\"device_id\": \"Off\"}").unwrap();
    let lines = "[2026-01-01 00:00:01] [INFO] ours\nsomebody else's\n";
    fs::write(off.dir().join("mesh_Off.log"), lines).unwrap();
    let printed = off.run(&["--json", "log"]).stdout();
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("text"), ["ours", "somebody else's"]);
    assert_eq!(of("tag"), [Value::from("INFO"), Value::Null]);
}

#[test]
fn prompts_come_from_arguments_stdin_and_behind_two_dashes() {
    let (_runner, device) = device();
    assert_eq!(device.run(&["ask", "several", "words"]).stdout(), "several words\n");
    assert_eq!(device.run(&["ask", "--", "--json", "-v"]).stdout(), "--json -v\n");
    let finished = Process::run(&mut device.command(&["ask", "-"]), "two\nlines, grüß\n".as_bytes(), SOON);
    assert_eq!(finished.stdout(), "two\nlines, grüß\n");
    let finished = Process::run(&mut device.command(&["ask", "-"]), b"\xff\xfe", SOON);
    assert_fails(&finished, 2, &["UTF-8"]);
}

#[test]
fn ask_without_a_running_device_starts_one_for_itself() {
    let runner = Runner::new();
    let off = BidmeshProcess::build("Off")
        .setting("executor.run", &runner.as_executor())
        .setting("listen", "127.0.0.1:0")
        .prepare();
    assert_eq!(off.ask("hello")["output"], "hello");
    assert_fails(&off.run(&["status"]), 6, &["no device runs"]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (runner, device) = device();
    runner.answer_with(&"a long line of an answer\n".repeat(40_000));
    let mut command = device.command(&["ask", "hello"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn ctrl_c_stops_the_work_and_exits_with_130() {
    let (runner, worker) = device();
    let asking = BidmeshProcess::build("Asking").peer("Device_A", worker.address()).start();
    asking.wait_until_heard(&["Device_A"]);
    runner.hold();
    let asked = asking.spawn(&["ask", "hello"]);
    let run = runner.run(0);
    asked.signal(Signal::INT);
    let finished = asked.finish(SOON);
    assert_fails(&finished, 130, &["cancelled"]);
    wait_until(SOON, "the work to stop", || (!run.is_alive()).then_some(()));
}

#[test]
fn ctrl_c_ends_a_command_that_asks_a_person_something() {
    if !require(&["script", "mkfifo"]) {
        return;
    }
    let runner = Runner::new();
    let off = BidmeshProcess::build("Off").setting("executor.run", &runner.as_executor()).prepare();
    for command in [&["up", "--listen", "127.0.0.1:0"][..], &["ask", "hello"]] {
        let (terminal, mut person) = off.at_terminal(command);
        terminal.wait_for_stdout("Does this device have NPU? (y/n): ", SOON);
        person.write_all(b"\x03").unwrap();
        let finished = terminal.finish(SOON);
        assert_eq!(finished.code(), Some(130), "{command:?}: {}", finished.stdout());
    }
    assert_eq!(runner.started().len(), 0);
}

#[test]
fn nothing_for_terminals_is_written_where_there_is_none() {
    let (_runner, device) = device();
    for command in [&["ask", "hello"][..], &["status"], &["why"], &["config", "show"], &["--help"]] {
        let finished = device.run(command);
        assert!(!finished.stdout.contains(&0x1b) && !finished.stderr.contains(&0x1b), "{command:?}");
    }
}

#[test]
fn a_setting_that_a_running_device_does_not_take_up_says_so() {
    let (_runner, device) = device();
    let said = |arguments: &[&str]| device.run(arguments).stderr();
    let later = "it counts from the next start of the device";
    for key_and_value in [["executor.preset", "genie"], ["has_npu", "true"], ["listen", "127.0.0.1:9"]] {
        let said = said(&[&["config", "set"][..], &key_and_value].concat());
        assert!(said.contains(later), "{said}");
    }
    assert!(said(&["config", "unset", "listen"]).contains(later));
    for arguments in
        [&["config", "set", "work.slots", "3"][..], &["config", "set", "executor.preset", "genie"]]
    {
        assert!(!said(arguments).contains(later), "it is taken up at once, or is no change: {arguments:?}");
    }
    let off = BidmeshProcess::build("Off").prepare();
    assert!(!off.run(&["config", "set", "executor.preset", "genie"]).stderr().contains(later));
}

#[test]
fn two_devices_cannot_have_one_directory_or_one_port() {
    let (_runner, device) = device();
    let holder = device.process_id().to_string();
    let second = device.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_fails(&second, 2, &["a device runs in this directory already", &holder]);
    let other = BidmeshProcess::build("Other").prepare();
    let taken = device.address().to_string();
    assert_fails(&other.run(&["up", "--listen", &taken]), 1, &[&taken, PORT_ADVICE]);
}

#[test]
fn a_device_whose_port_was_taken_while_it_was_away_says_so_and_starts_once_it_is_free() {
    let (_runner, mut device) = device();
    let task = device.ask("remember this")["task_id"].as_str().unwrap().to_owned();
    let address = device.address();
    device.kill();
    let squatter = TcpListener::bind(address).unwrap();
    let up = ["up", "--id", device.id(), "--listen", &address.to_string()];
    assert_fails(&device.run(&up), 1, &[&address.to_string(), PORT_ADVICE]);
    drop(squatter);
    device.start_again();
    assert_eq!(device.json(&["result", &task])["output"], "remember this", "nothing was lost");
}

#[test]
fn a_damaged_file_is_named_with_its_line_and_left_alone() {
    for (name, text, place) in [
        ("config.toml", "policy = \"npu-first\"\nwork.slots = [\n", "config.toml:"),
        ("peers.txt", "Device_B:127.0.0.1:9\nnot a peer\n", "peers.txt:2"),
        ("device_config.json", "{\"device_id\": \n", "device_config.json:"),
    ] {
        let off = BidmeshProcess::build("Off").prepare();
        let path = off.dir().join(name);
        fs::write(&path, text).unwrap();
        let finished = off.run(&["up", "--listen", "127.0.0.1:0", "--peer", "C=127.0.0.1:10"]);
        assert_fails(&finished, 2, &[place]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name} was overwritten");
    }
}

#[test]
fn peers_are_added_removed_and_edited_by_hand_while_it_runs() {
    let (_runner, device) = device();
    let listed = || device.json(&["peers", "list"]).as_array().map(Vec::len).unwrap();
    assert_eq!(device.run(&["peers", "add", "Device_B", "127.0.0.1:9"]).code(), Some(0));
    assert_eq!(device.peer("Device_B").unwrap()["address"], "127.0.0.1:9");
    let path = device.dir().join("peers.txt");
    wait_until(SOON, "peers.txt to be written", || {
        fs::read_to_string(&path).ok()?.contains("Device_B:127.0.0.1:9").then_some(())
    });
    fs::write(&path, "Device_B:127.0.0.1:9\nDevice_C:127.0.0.1:10\n").unwrap();
    wait_until(SOON, "the edit to be seen", || (listed() == 2).then_some(()));
    assert_eq!(device.run(&["peers", "remove", "Device_B"]).code(), Some(0));
    assert_eq!(listed(), 1);
}

#[test]
fn settings_say_where_they_come_from() {
    let off = BidmeshProcess::build("Off").prepare();
    let from = |command: &mut Command| {
        let finished = Process::run(command, b"", SOON);
        serde_json::from_str::<Value>(&finished.stdout()).unwrap()[0].clone()
    };
    let show = ["--json", "config", "show", "work.slots"];
    assert_eq!(from(&mut off.command(&show))["from"], Value::Null);
    assert_eq!(off.run(&["config", "set", "work.slots", "3"]).code(), Some(0));
    let row = from(&mut off.command(&show));
    assert_eq!(row["value"], 3);
    assert!(row["from"].as_str().unwrap().contains("config.toml:"), "{row:#}");
    let row = from(off.command(&show).env("BIDMESH_WORK_SLOTS", "4"));
    assert_eq!((&row["value"], &row["from"]), (&4.into(), &"BIDMESH_WORK_SLOTS".into()));
}

#[test]
fn a_paused_device_refuses_and_a_resumed_one_works() {
    let (_runner, device) = device();
    assert_eq!(device.run(&["pause"]).code(), Some(0));
    assert_eq!(device.status()["refuses"], "paused");
    assert_eq!(device.run(&["ask", "--to", "Device_A", "hello"]).code(), Some(3));
    assert_eq!(device.run(&["resume"]).code(), Some(0));
    assert_eq!(device.ask("hello")["output"], "hello");
    assert!(device.run(&["log"]).stdout().contains("[RUN]"));
}

#[test]
fn what_can_be_sent_arrives_at_one_device_and_at_all() {
    let (_runner, mut device) = device();
    let sender = BidmeshProcess::build("Sender").peer("Device_A", device.address()).start();
    sender.wait_until_heard(&["Device_A"]);
    for target in ["Device_A", "all"] {
        assert_eq!(sender.run(&["send", "text", target, "to", target]).stdout(), "Device_A: delivered\n");
        device.wait_for_log(&format!("[TEXT] Sender: to {target}"), SOON);
        assert_eq!(sender.run(&["send", "raw", target, "TEXT|Sender|raw"]).code(), Some(0));
        let commands: [&[&str]; 3] = [
            &["bid-request", target, "task_7"],
            &["task", target, r#"{"task_id": "task_8", "prompt": "work"}"#],
            &["discover", target],
        ];
        for command in commands {
            let finished = sender.run(&[&["send"], command].concat());
            assert_eq!(finished.code(), Some(0), "{command:?}: {}{}", finished.stdout(), finished.stderr());
        }
        device.wait_for_log("[TEXT] Sender: raw", SOON);
    }
    assert_fails(&sender.run(&["send", "text", "Nobody", "hi"]), 1, &["Nobody is not in the address book"]);
    device.kill();
    for target in ["Device_A", "all"] {
        let finished = sender.run(&["send", "text", target, "hi"]);
        assert!(finished.stdout().starts_with("Device_A: not delivered: "), "{}", finished.stdout());
        assert_eq!(finished.code(), Some(1));
        assert!(finished.stderr().starts_with("bidmesh: Device_A did not get it"), "{}", finished.stderr());
    }
}

#[test]
fn a_prompt_sent_outside_any_auction_is_answered() {
    let (_runner, device) = device();
    let sender = BidmeshProcess::build("Sender").peer("Device_A", device.address()).start();
    sender.wait_until_heard(&["Device_A"]);
    assert_eq!(sender.run(&["send", "slm", "Device_A", "a prompt"]).code(), Some(0));
    sender.wait_for_log("[SLM_RESULT] Device_A: a prompt", SOON);
}

#[test]
fn policy_and_priority_are_in_the_record() {
    let (_runner, device) = device();
    let answer = device.json(&["ask", "--policy", "weighted", "--priority", "9", "hello"]);
    let decision = &answer["decision"];
    assert_eq!((&decision["policy"], &decision["priority"]), (&"weighted".into(), &9.into()), "{decision:#}");
    assert!(decision["auctions"][0]["order"][0]["score"].is_number(), "{decision:#}");
}

#[test]
fn completions_manual_pages_and_the_demo_come_out() {
    let off = BidmeshProcess::build("Off").prepare();
    for shell in ["bash", "zsh", "fish"] {
        assert!(off.run(&["completions", shell]).stdout().contains("bidmesh"), "{shell}");
    }
    assert!(off.run(&["man"]).stdout().contains(".TH bidmesh 1"));
    let finished = off.run(&["demo"]);
    let stdout = finished.stdout();
    assert_eq!(finished.code(), Some(0), "{stdout}{}", finished.stderr());
    assert!(stdout.contains("stand-in") && stdout.contains("Phone_NPU won"), "{stdout}");
}

#[test]
fn the_control_api_is_closed_to_others() {
    let (_runner, device) = device();
    let control = fs::read_to_string(device.dir().join("control.json")).unwrap();
    let control: Value = serde_json::from_str(&control).unwrap();
    let (port, token) = (control["port"].as_u64().unwrap(), control["token"].as_str().unwrap());
    let ask = |headers: String| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET /v1/status HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let (host, right) = (format!("Host: 127.0.0.1:{port}\r\n"), format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(ask(format!("{host}{right}")), "200");
    assert_eq!(ask(host.clone()), "401");
    assert_eq!(ask(format!("{host}Authorization: Bearer {}\r\n", "0".repeat(64))), "401");
    assert_eq!(ask(format!("{host}{right}Origin: http://evil.example\r\n")), "403");
    assert_eq!(ask(format!("Host: evil.example\r\n{right}")), "403");
}
