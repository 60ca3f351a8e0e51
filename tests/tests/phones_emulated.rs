//! The program for phones, on an emulated phone: a device of aarch64, set up over adb among native ones, wins an auction
//! against one and returns a result; its sensors and the embedded model work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bidmesh_tests::{Laptop, can_play_phones, phone_binary, require, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const TARGET: &str = "aarch64-unknown-linux-musl";
const QEMU: &str = "/usr/bin/qemu-aarch64-static";

/// The program that `scripts/cross-build` made.
fn program() -> PathBuf {
    let path = env::var_os("BIDMESH_AARCH64")
        .expect("BIDMESH_AARCH64 names the program that scripts/cross-build made");
    PathBuf::from(path)
}

fn device<'a>(report: &'a Value, serial: &str) -> &'a Value {
    report["devices"].as_array().unwrap().iter().find(|device| device["serial"] == serial).unwrap()
}

/// A native phone and an emulated one with an NPU; the programs are where `setup` looks for them.
fn laptop() -> Laptop {
    let mut laptop = Laptop::with(&["native"]);
    let data = laptop.home().join(".local/share/bidmesh");
    fs::create_dir_all(&data).unwrap();
    fs::copy(program(), data.join(format!("bidmesh-{TARGET}"))).unwrap();
    fs::copy(phone_binary(), data.join(format!("bidmesh-{}-unknown-linux-musl", env::consts::ARCH))).unwrap();
    laptop.phone("native").has_runner("Native");
    laptop.attach_aarch64("phone", QEMU);
    laptop
}

#[test]
#[ignore = "needs the aarch64 program: .ci/phones builds it and runs this"]
fn an_aarch64_phone_wins_an_auction_against_a_native_device_and_returns_a_result() {
    if !can_play_phones() || !require(&["qemu-aarch64-static"]) {
        return;
    }
    let laptop = laptop();
    laptop.phone("phone").has_runner("Emulated");
    let report = laptop.json(&["setup", "--yes"]);
    let (phone, native) = (laptop.phone("phone").serial(), laptop.phone("native").serial());
    for serial in [&phone, &native] {
        assert_eq!(device(&report, serial)["state"], "ready", "{report:#}");
    }
    assert!(device(&report, &phone)["plan"].to_string().contains(TARGET), "{report:#}");
    let id = |serial| device(&report, serial)["device_id"].as_str().unwrap().to_owned();
    assert_eq!(laptop.run(&["config", "set", &id(&phone), "has_npu", "true"]).code(), Some(0));
    assert_eq!(laptop.run(&["restart", &id(&phone)]).code(), Some(0));
    let answer = laptop.json(&["ask", "--on", &id(&native), "What is a mesh?"]);
    assert_eq!(
        (&answer["status"], &answer["device_id"]),
        (&"completed".into(), &id(&phone).into()),
        "{answer:#}"
    );
    assert_eq!(answer["output"], "Emulated: What is a mesh?");
    let bids = &answer["decision"]["auctions"][0]["answers"];
    assert_eq!(bids.as_array().unwrap().len(), 2, "{bids:#}");
    // Its sensors, from /proc and the system calls of the processor that it believes to be on. The first load is known
    // after the second reading.
    wait_until(SOON, "a bid with all loads", || {
        let answer = laptop.json(&["ask", "--on", &id(&native), "--to", &id(&phone), "--dry-run", "hello"]);
        let bid = answer["decision"]["auctions"][0]["answers"][0]["bid"].clone();
        (bid["cpu_load"].is_number() && bid["ram_load"].is_number()).then_some(())
    });
    // The other way round: it asks.
    let answer = laptop.json(&["ask", "--on", &id(&phone), "--to", &id(&native), "hello"]);
    assert_eq!(answer["output"], "Native: hello", "{answer:#}");
    assert_eq!(laptop.run(&["doctor"]).stdout(), "2 phones, nothing found\n");
}

#[test]
#[ignore = "needs the aarch64 program: .ci/phones builds it and runs this"]
fn an_aarch64_phone_answers_with_the_embedded_model_that_setup_gave_it() {
    if !can_play_phones() || !require(&["qemu-aarch64-static"]) {
        return;
    }
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(model.is_file(), "{} is not there: run .ci/setup", model.display());
    let laptop = laptop();
    let serial = laptop.phone("phone").serial();
    let model = model.display().to_string();
    let report = laptop.json(&["setup", "--yes", "--model", &model, "--answer-within", "15m", &serial]);
    let device = device(&report, &serial);
    assert_eq!(device["state"], "ready", "{device:#}");
    let answer = device["answer"].as_str().unwrap();
    assert!(answer.split_whitespace().count() > 2, "{answer}");
    println!("the emulated phone says: {answer}");
}
