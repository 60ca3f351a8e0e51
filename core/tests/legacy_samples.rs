//! Every message that was captured from the shell mesh is read as its `.expected.json` says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Advertised, Body, Decoded, Dialect, Framer, Framing, Repairs, WireLimits, decode, encode,
};
use serde_json::{Map, Value};

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/legacy-samples"));
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "msg"))
        .collect();
    files.sort();
    assert!(files.len() >= 38, "{} samples in {}", files.len(), folder.display());
    files
}

fn expected(sample: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(sample.with_extension("expected.json")).unwrap()).unwrap()
}

fn read(sample: &Path) -> Result<Decoded, String> {
    decode(&fs::read(sample).unwrap(), &WireLimits::default()).map_err(|error| error.to_string())
}

#[test]
fn every_sample_is_read_as_expected() {
    for sample in samples() {
        let name = sample.display();
        let expected = expected(&sample);
        match read(&sample) {
            Ok(decoded) => check(&decoded, &expected, &name.to_string()),
            Err(error) => {
                let wanted = expected.get("error").unwrap_or_else(|| panic!("{name}: {error}"));
                assert!(error.ends_with(wanted.as_str().unwrap()), "{name}: {error}");
            }
        }
    }
}

fn check(decoded: &Decoded, expected: &Map<String, Value>, name: &str) {
    let message = &decoded.message;
    let text = |key: &str| expected.get(key).and_then(Value::as_str);
    let number = |key: &str| expected.get(key).filter(|value| !value.is_null()).map(Value::to_string);
    assert_eq!(Some(message.body.kind()), text("type"), "{name}");
    assert_eq!(Some(message.from.as_str()), text("from"), "{name}");
    assert_eq!(message.marker, None, "{name}");
    let mut repairs = Repairs::default();
    match &message.body {
        Body::Hello(address) | Body::Discover(address) => {
            assert_eq!(Some(shown(*address).as_str()), text("payload"), "{name}");
        }
        Body::Text(payload) | Body::SlmPrompt(payload) | Body::SlmResult(payload) => {
            assert_eq!(Some(&**payload), text("payload"), "{name}");
        }
        Body::BidRequest(request) => {
            assert_eq!(request.task.as_ref().map(|id| id.as_str()), text("task_id"), "{name}");
            assert_eq!(request.task_type.as_deref(), text("task_type"), "{name}");
            assert_eq!(request.prompt.as_deref(), text("prompt"), "{name}");
            assert_eq!(request.deadline.map(|d| d.as_secs().to_string()), number("deadline"), "{name}");
        }
        Body::BidResponse(bid) => {
            let load = |key| number(key).map(|text| Load::from_decimal(&text).unwrap());
            assert_eq!(bid.device.as_deref(), text("device_id"), "{name}");
            assert_eq!(bid.cpu, load("cpu_load"), "{name}");
            assert_eq!(bid.ram, load("ram_load"), "{name}");
            assert_eq!(bid.battery, number("battery").and_then(|t| Percent::from_decimal(&t)), "{name}");
            assert_eq!(Some(bid.npu), expected.get("has_npu").and_then(Value::as_bool), "{name}");
            repairs.missing_values = expected.get("cpu_load").is_some_and(Value::is_null);
        }
        Body::Task(order) => {
            assert_eq!(order.award.as_ref().map(|id| id.as_str()), text("task_id"), "{name}");
            assert_eq!(Some(&*order.prompt), text("prompt"), "{name}");
            assert_eq!(order.npu, expected.get("use_npu").and_then(Value::as_bool), "{name}");
            assert_eq!(order.prompt_type.as_deref(), text("prompt_type"), "{name}");
        }
        Body::Result(result) => {
            let not_utf8 = expected.contains_key("output_was_not_utf8");
            assert_eq!(result.award.as_ref().map(|id| id.as_str()), text("task_id"), "{name}");
            assert_eq!(result.device.as_deref(), text("device_id"), "{name}");
            assert_eq!(Some(result.status.as_str()), text("status"), "{name}");
            assert_eq!(Some(&*result.output), text("output"), "{name}");
            assert_eq!(result.output_was_not_utf8, not_utf8, "{name}");
            repairs.not_utf8 = not_utf8;
        }
        other => panic!("{name}: {other:?}"),
    }
    assert_eq!(decoded.repairs, repairs, "{name}");
}

fn shown(address: Advertised) -> String {
    address.ip.map_or_else(String::new, |ip| ip.to_string()) + &format!(":{}", address.port)
}

#[test]
fn every_sample_comes_back_when_it_is_passed_on_to_a_bidmesh_device() {
    for sample in samples() {
        let Ok(first) = read(&sample) else { continue };
        let bytes = encode(&first.message, Dialect::Bidmesh).unwrap();
        let second = decode(&bytes, &WireLimits::default()).unwrap();
        assert_eq!(second.message, first.message, "{}", sample.display());
        assert!(!second.repairs.any(), "{}", sample.display());
    }
}

#[test]
fn every_sample_is_framed_the_same_however_it_is_split() {
    for sample in samples() {
        let bytes = fs::read(&sample).unwrap();
        let mut whole = Framer::new(WireLimits::default());
        let framing = whole.push(&bytes);
        let mut parts = Framer::new(WireLimits::default());
        for byte in &bytes {
            parts.push(&[*byte]);
        }
        assert_eq!(parts.framing(), framing, "{}", sample.display());
        assert_ne!(framing, Framing::Empty);
        assert_eq!(parts.finish(), bytes);
    }
}
