//! `bidmesh setup` with the real adb and phones that are played on this machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bidmesh_tests::{Laptop, can_play_phones, phone_binary, require};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Three phones that can run prompts by the shell mesh's script.
fn three_phones() -> Laptop {
    let laptop = Laptop::with(&["one", "two", "three"]);
    for name in ["one", "two", "three"] {
        laptop.phone(name).has_runner(&format!("Phone {name} says"));
    }
    laptop
}

/// Reports of `setup` by serial number.
fn by_serial(report: &Value) -> BTreeMap<String, Value> {
    let devices = report["devices"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    devices.iter().map(|device| (device["serial"].as_str().unwrap().to_owned(), device.clone())).collect()
}

#[test]
fn setup_makes_three_phones_a_mesh_that_answers_and_a_second_one_changes_nothing() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let report = laptop.setup(&[]);
    let reports = by_serial(&report);
    for name in ["one", "two", "three"] {
        let phone = laptop.phone(name);
        let report = &reports[&phone.serial()];
        assert_eq!(report["state"], "ready", "{report:#}");
        assert_eq!(report["answer"], format!("Phone {name} says: Say hello in one short sentence."));
        let id = report["device_id"].as_str().unwrap();
        assert!(laptop.map().contains(&format!("{id}:{}:{}\n", phone.serial(), phone.address().ip())));
        assert_eq!(phone.file("my_info.txt"), format!("{id}:{}\n", phone.address()));
        let config: Value = serde_json::from_str(&phone.file("device_config.json")).unwrap();
        assert_eq!((&config["device_id"], &config["has_npu"]), (&id.into(), &false.into()));
        for other in ["one", "two", "three"].into_iter().filter(|other| *other != name) {
            let other = laptop.phone(other);
            let id = reports[&other.serial()]["device_id"].as_str().unwrap();
            assert!(phone.file("peers.txt").contains(&format!("{id}:{}\n", other.address())));
        }
    }
    let ids: Vec<&str> = reports.values().map(|report| report["device_id"].as_str().unwrap()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["Device_A", "Device_B", "Device_C"]);

    let processes = |laptop: &Laptop| ["one", "two", "three"].map(|name| laptop.phone(name).device_process());
    let before = processes(&laptop);
    let kept = laptop.phone("one").dir().join("result_task_7.json");
    fs::write(&kept, "a result").unwrap();
    let again = by_serial(&laptop.setup(&[]));
    for report in again.values() {
        assert_eq!(
            (&report["state"], &report["done"]),
            (&"ready".into(), &Value::Array(vec![])),
            "{report:#}"
        );
    }
    assert_eq!(processes(&laptop), before, "what runs goes on running");
    assert_eq!(fs::read_to_string(kept).unwrap(), "a result");
}

#[test]
fn a_plan_is_shown_and_nothing_is_done() {
    if !can_play_phones() {
        return;
    }
    let laptop = three_phones();
    let binary = phone_binary().display().to_string();
    let finished = laptop.run(&["setup", "--dry-run", "--binary", &binary]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr());
    let plan = finished.stdout();
    for part in
        ["Device_A (127.0.0.1:", "program: push ", "run by /data/local/tmp/mesh/run_slm.sh", "device: start"]
    {
        assert!(plan.contains(part), "{part} is not in {plan}");
    }
    assert_eq!(laptop.map(), "");
    for name in ["one", "two", "three"] {
        let names = laptop.phone(name).names();
        assert_eq!(names.len(), 2, "config.toml and run_slm.sh, as before: {names:?}");
    }
}

#[test]
fn phones_in_trouble_are_told_apart_stop_no_other_and_are_mended_by_a_second_setup() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = Laptop::with(&["well", "locked", "leaving", "full"]);
    for name in ["well", "locked", "leaving", "full"] {
        laptop.phone(name).has_runner("Yes");
    }
    let named = laptop.phone("locked").dir().join("device_config.json");
    fs::write(named, "{\"device_id\": \"Kitchen\"}\n").unwrap();
    laptop.phone("locked").fault("unauthorized", "");
    laptop.reconnect("locked");
    // More than one piece of the program.
    laptop.phone("leaving").fault("vanish", "9000000");
    laptop.phone("full").fault("full", "5000000");

    let reports = by_serial(&laptop.setup(&[]));
    let serials: BTreeMap<&str, String> =
        ["well", "locked", "leaving", "full"].map(|name| (name, laptop.phone(name).serial())).into();
    let report = |reports: &BTreeMap<String, Value>, name: &str| reports[&serials[name]].clone();
    let why = |name: &str| report(&reports, name)["why"].as_str().unwrap_or_default().to_owned();
    assert_eq!(report(&reports, "well")["state"], "ready", "{reports:#?}");
    for (name, part) in [
        ("locked", "confirm `Allow USB debugging?`"),
        ("leaving", "the phone went away"),
        ("full", "the phone's disk is full"),
    ] {
        assert_eq!(report(&reports, name)["state"], "failed", "{name}: {reports:#?}");
        assert!(why(name).contains(part), "{name}: {}", why(name));
    }
    assert!(!laptop.map().contains(&serials["locked"]), "nobody knows its name yet: {}", laptop.map());
    let part = laptop.phone("leaving").dir().join("bidmesh.part");
    let begun = fs::metadata(&part).unwrap().len();
    assert!(begun >= 8 << 20, "what was copied stays: {begun}");
    let finished = laptop.run(&["setup", "--yes", "--binary", &phone_binary().display().to_string()]);
    assert_eq!(finished.code(), Some(1), "the phones are still in trouble");
    assert!(
        finished.stderr().contains("3 of 4 phones are not ready") || finished.stderr().contains("2 of 3"),
        "{}",
        finished.stderr()
    );

    for name in ["locked", "full"] {
        laptop.phone(name).mend("unauthorized");
        laptop.phone(name).mend("full");
        laptop.reconnect(name);
    }
    laptop.phone_mut("leaving").boot();
    laptop.reconnect("leaving");
    let reports = by_serial(&laptop.setup(&[]));
    for (serial, report) in &reports {
        assert_eq!(report["state"], "ready", "{serial}: {report:#}");
    }
    assert_eq!(reports.len(), 4);
    assert_eq!(report(&reports, "locked")["device_id"], "Kitchen");
    assert!(!part.exists());
    let done = report(&reports, "well")["done"].clone();
    let lines: Vec<&str> = done.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(
        lines.iter().all(|line| line.starts_with("peer ")),
        "only the mended phones are new to it: {lines:?}"
    );
}

#[test]
fn a_device_of_the_shell_mesh_is_left_alone_and_answers_in_the_mesh() {
    if !can_play_phones() || !require(&["nc.openbsd"]) {
        return;
    }
    let laptop = Laptop::with(&["new", "old"]);
    laptop.phone("new").has_runner("New");
    laptop.phone("old").has_runner("Old");
    laptop.phone("old").runs_the_listener("Device_X", &laptop);
    let before = laptop.phone("old").names();

    let reports = by_serial(&laptop.setup(&[]));
    let old = &reports[&laptop.phone("old").serial()];
    assert_eq!((&old["state"], &old["device_id"]), (&"shell".into(), &"Device_X".into()), "{old:#}");
    let new = reports[&laptop.phone("new").serial()]["device_id"].as_str().unwrap().to_owned();
    assert!(
        laptop
            .phone("new")
            .file("peers.txt")
            .contains(&format!("Device_X:{}", laptop.phone("old").address()))
    );
    let added: Vec<String> =
        laptop.phone("old").names().into_iter().filter(|n| !before.contains(n)).collect();
    assert!(added.iter().all(|name| !name.contains("bidmesh") && name != "config.toml"), "{added:?}");

    let finished = laptop.run(&["start", "Device_X"]);
    assert_eq!(finished.stdout(), "Device_X: runs the shell listener; left alone\n", "{}", finished.stderr());
    let answer = laptop.json(&["ask", "--on", &new, "--to", "Device_X", "hello"]);
    assert_eq!(
        (&answer["status"], &answer["output"]),
        (&"completed".into(), &"Old: hello".into()),
        "{answer:#}"
    );

    // A device that moved: the shell device answers the first line that it has of it.
    let peers = laptop.phone("old").dir().join("peers.txt");
    let text = fs::read_to_string(&peers).unwrap();
    fs::write(&peers, format!("{new}:127.0.0.200:9999\n{text}")).unwrap();
    let prepared = laptop.json(&["setup", "--yes", "--shell-only", "Device_X"]);
    assert_eq!(prepared["devices"][0]["state"], "prepared", "{prepared:#}");
    assert_eq!(prepared["devices"].as_array().unwrap().len(), 1, "{prepared:#}");
    let text = fs::read_to_string(&peers).unwrap();
    let first = text.lines().find(|line| line.starts_with(&format!("{new}:"))).unwrap();
    assert_eq!(first, format!("{new}:{}", laptop.phone("new").address()));
}

#[test]
fn a_model_is_pushed_to_a_phone_that_has_nothing_to_run_prompts() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["one"]);
    let model = laptop.home().join("small.gguf");
    // Whether it is a model shows when it is loaded; it takes two pieces.
    let bytes: Vec<u8> = (0..9_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(&model, &bytes).unwrap();
    let report = laptop.setup(&["--no-start", "--model", &model.display().to_string()]);
    let device = &report["devices"][0];
    assert!(device["plan"].to_string().contains("push the model small.gguf"), "{device:#}");
    assert_eq!(fs::read(laptop.phone("one").dir().join("models/small.gguf")).unwrap(), bytes);
    // It was told to run it; a build without the embedded model says that it cannot.
    let configured =
        laptop.phone("one").file("config.toml").contains("slm:/data/local/tmp/mesh/models/small.gguf");
    assert!(configured || device["why"].to_string().contains("slm"), "{device:#}");
}

#[test]
fn a_phone_without_anything_to_run_prompts_is_named_with_the_reason() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["bare"]);
    let device = laptop.setup(&[])["devices"][0].clone();
    assert_eq!(device["state"], "failed", "{device:#}");
    assert!(device["why"].to_string().contains("no model runner is on it"), "{device:#}");
    assert!(device["plan"].to_string().contains("bidmesh model pull"), "{device:#}");
    // Unless that is what somebody wants.
    assert_eq!(laptop.run(&["config", "set", "Device_A", "executor.run", "none"]).code(), Some(0));
    let device = laptop.setup(&[])["devices"][0].clone();
    assert_eq!((&device["state"], &device["answer"]), (&"ready".into(), &Value::Null), "{device:#}");
}

#[test]
fn without_a_program_for_the_phones_the_commands_that_build_it_are_said() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["one"]);
    let report = laptop.json(&["setup", "--yes"]);
    let why = report["devices"][0]["why"].as_str().unwrap();
    assert!(why.contains("scripts/cross-build ") && why.contains("--binary FILE"), "{why}");
}

#[test]
fn a_laptop_without_adb_or_phones_is_told_what_to_do() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&[]);
    let finished = laptop.run(&["setup", "--dry-run"]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr().contains("adb sees no phone"), "{}", finished.stderr());
    let mut command = laptop.command(&["setup", "--dry-run"]);
    let finished = bidmesh_tests::run_to_end(command.env("BIDMESH_ADB", "/no/such/adb"));
    assert!(finished.stderr().contains("apt install adb"), "{}", finished.stderr());
    let finished = laptop.run(&["start"]);
    assert!(finished.stderr().contains("no phones are known here"), "{}", finished.stderr());
}

#[test]
fn an_npu_and_genie_are_found_and_used() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = Laptop::with(&["plain"]);
    laptop.phone("plain").has_runner("Plain");
    laptop.attach_prepared("genie", |phone| {
        phone.system_file("vendor/lib64/libQnnHtp.so", "");
        phone.system_file("data/local/tmp/genie/config.json", "{\"dialog\": {}}");
        // It prints as Qualcomm's program does, and shows that it got configuration and prompt.
        let script = "[ \"$1 $2 $3\" = '-c /data/local/tmp/genie/config.json -p' ] || exit 3\n\
                      echo 'Using libGenie.so'; echo \"[BEGIN]: Genie heard: $4[END]\"";
        phone.program_at("data/local/tmp/genie/genie-t2t-run", script);
    });
    let reports = by_serial(&laptop.setup(&[]));
    let report = &reports[&laptop.phone("genie").serial()];
    assert_eq!(report["state"], "ready", "{report:#}");
    assert_eq!(report["answer"], "Genie heard: Say hello in one short sentence.", "{report:#}");
    assert!(report["plan"].to_string().contains("Qualcomm Hexagon"), "{report:#}");
    assert!(laptop.phone("genie").file("device_config.json").contains("\"has_npu\": true"));
    // The NPU counts: the mesh's prompts go there.
    let plain = reports[&laptop.phone("plain").serial()]["device_id"].as_str().unwrap();
    let answer = laptop.json(&["ask", "--on", plain, "hello"]);
    assert_eq!(answer["device_id"], report["device_id"], "{answer:#}");
}

#[test]
fn a_device_whose_program_was_replaced_by_a_setup_that_broke_off_is_started_anew() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["one"]);
    laptop.phone("one").has_runner("One");
    assert_eq!(laptop.setup(&[])["devices"][0]["state"], "ready");
    let before = laptop.phone("one").device_process();
    // As the last step of a copy does it: the same bytes under the same name, as another file.
    let program = laptop.phone("one").dir().join("bidmesh");
    fs::copy(&program, program.with_extension("part")).unwrap();
    fs::rename(program.with_extension("part"), &program).unwrap();
    let device = laptop.setup(&[])["devices"][0].clone();
    assert_eq!(device["done"], serde_json::json!(["started anew"]), "{device:#}");
    assert_ne!(laptop.phone("one").device_process(), before);
}

#[test]
fn a_program_that_does_not_run_on_the_phone_takes_the_place_of_none_that_does() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["one"]);
    laptop.phone("one").has_runner("One");
    assert_eq!(laptop.setup(&[])["devices"][0]["state"], "ready");
    // Cut off behind its head: of the right processor, and no program.
    let cut = laptop.home().join("cut");
    fs::write(&cut, &fs::read(phone_binary()).unwrap()[..4096]).unwrap();
    let set_up_with = |binary: &Path| {
        let arguments = ["setup", "--yes", "--binary", binary.to_str().unwrap()];
        laptop.json(&arguments)["devices"][0].clone()
    };
    for _ in 0..2 {
        let device = set_up_with(&cut);
        assert_eq!(device["state"], "failed", "{device:#}");
        assert!(device["why"].to_string().contains("is it built for this phone?"), "{device:#}");
    }
    assert_eq!(laptop.run(&["restart", "Device_A"]).stdout(), "Device_A: restarted\n");
    // One that is there already and does not run is replaced, although it is the file that would be brought.
    let program = laptop.phone("one").dir().join("bidmesh");
    fs::rename(&program, program.with_extension("whole")).unwrap();
    fs::copy(&cut, &program).unwrap();
    let found = laptop.json(&["doctor"]);
    assert!(found["findings"].to_string().contains("program_broken"), "{found:#}");
    let device = set_up_with(&cut);
    assert!(device["plan"].to_string().contains("replace by"), "{device:#}");
    assert_eq!(set_up_with(phone_binary())["state"], "ready");
}

#[test]
fn a_phone_that_adb_sees_under_two_names_is_one_device() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::set_up(&["one", "two"]);
    let map = laptop.map();
    // The same phone by another way, as by cable and by network.
    let port = laptop.phone("Device_A").serial().rsplit(':').next().unwrap().to_owned();
    let other = format!("localhost:{port}");
    let connected = laptop.adb(&["connect", &other]).stdout();
    assert!(connected.contains("connected to"), "{connected}");
    let report = laptop.setup(&[]);
    let ids: Vec<&str> =
        report["devices"].as_array().unwrap().iter().map(|d| d["device_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["Device_A", "Device_B"], "{report:#}");
    assert_eq!(laptop.map(), map);
    assert_eq!(laptop.run(&["doctor"]).stdout(), "2 phones, nothing found\n");
    // By the other way only.
    let _ = laptop.adb(&["disconnect", &laptop.phone("Device_A").serial()]);
    let report = laptop.setup(&["Device_A"]);
    let device = &report["devices"][0];
    assert_eq!((&device["device_id"], &device["state"]), (&"Device_A".into(), &"ready".into()), "{report:#}");
    assert!(laptop.map().contains(&format!("Device_A:{other}:")), "{}", laptop.map());
}

/// Every file below a folder, with its size; not of the folders with these names.
fn files(folder: &Path, without: &[&str]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if without.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if meta.is_dir() {
            found.extend(files(&path, without));
        } else {
            found.insert(path.display().to_string(), meta.len());
        }
    }
    found
}

#[test]
fn nothing_is_written_outside_the_mesh_directory_of_a_phone_and_the_map_here() {
    if !can_play_phones() {
        return;
    }
    let laptop = Laptop::with(&["one"]);
    laptop.phone("one").has_runner("One");
    let root = laptop.home().join("one");
    let (phone, home) = (files(&root, &["mesh"]), files(laptop.home(), &["one", ".android"]));
    assert_eq!(laptop.setup(&[])["devices"][0]["state"], "ready");
    for arguments in [
        &["restart", "Device_A"][..],
        &["ask", "--on", "Device_A", "hello"],
        &["status", "--all"],
        &["doctor"],
    ] {
        assert_eq!(laptop.run(arguments).code(), Some(0), "{arguments:?}");
    }
    assert_eq!(files(&root, &["mesh"]), phone);
    let mut here = files(laptop.home(), &["one", ".android"]);
    here.retain(|path, size| home.get(path) != Some(size) && !path.ends_with(".log"));
    let here: Vec<&str> = here.keys().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(here, [".mesh_device_map"]);
}

#[test]
fn a_person_is_asked_before_anything_is_done_and_about_an_npu_only_if_there_may_be_one() {
    if !can_play_phones() || !require(&["script"]) {
        return;
    }
    let mut laptop = Laptop::with(&[]);
    laptop.attach_prepared("maybe", |phone| {
        phone.has_runner("Maybe");
        phone.system_file("vendor/lib64/libcdsprpc.so", "");
    });
    let binary = phone_binary().display().to_string();
    let finished = laptop.run(&["setup", "--binary", &binary]);
    assert_eq!(finished.code(), Some(2));
    assert!(finished.stderr().contains("--yes does it without asking"), "{}", finished.stderr());
    assert_eq!(laptop.map(), "");

    // Nobody is there to say it: it stays unsaid, and is asked the next time.
    assert_eq!(laptop.setup(&[])["devices"][0]["state"], "ready");
    let saved = || laptop.phone("maybe").file("device_config.json");
    assert!(!saved().contains("has_npu"), "{}", saved());

    let (terminal, mut person) = laptop.at_terminal(&["setup", "--binary", &binary]);
    terminal.wait_for_stdout("Device_A: does this device have NPU? (y/n): ", SOON);
    person.write_all(b"y\n").unwrap();
    terminal.wait_for_stdout("Do this? (y/n): ", SOON);
    person.write_all(b"y\n").unwrap();
    terminal.wait_for_stdout("Device_A: ready; it says: Maybe: Say hello", SOON);
    assert_eq!(terminal.finish(SOON).code(), Some(0));
    assert!(saved().contains("\"has_npu\": true"), "{}", saved());

    let again = laptop.run(&["setup", "--dry-run", "--binary", &binary]);
    assert!(again.stdout().contains("NPU: yes, as said before"), "{}", again.stdout());
}

#[test]
fn a_script_without_an_interpreter_is_run_by_sh_as_the_shell_mesh_does() {
    if !can_play_phones() {
        return;
    }
    let mut laptop = Laptop::with(&[]);
    laptop.attach_prepared("old", |phone| {
        // What it reads lies beside it.
        phone
            .system_file("data/local/tmp/mesh/run_slm.sh", "echo \"$(cat name.txt) heard: $(cat \"$1\")\"\n");
        phone.system_file("data/local/tmp/mesh/name.txt", "Old\n");
    });
    let device = laptop.setup(&[])["devices"][0].clone();
    assert_eq!(
        (&device["state"], &device["answer"]),
        (&"ready".into(), &"Old heard: Say hello in one short sentence.".into()),
        "{device:#}"
    );
}
