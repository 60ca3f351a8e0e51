//! Replays the fuzzer's seeds, what it found worth keeping, and every input that ever failed, on plain stable Rust.
//!
//! The seeds are one message of each type in each dialect and the captured messages that are not too long for a
//! fuzzer. After a change of the format: `UPDATE_SEEDS=1 cargo test -p bidmesh-core --test fuzz_corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(unreachable_pub, reason = "the checks are public to the fuzz targets")]

#[path = "../../fuzz/src/checks.rs"]
mod checks;
#[path = "support/examples.rs"]
mod examples;
#[path = "support/shell.rs"]
mod shell;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bidmesh_core::wire::{Dialect, encode};

/// Longer seeds slow the fuzzer down and show it nothing new.
const SEED_BYTES_MAX: usize = 4 * 1024;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

/// What the seeds should be.
fn wanted() -> BTreeMap<String, Vec<u8>> {
    let mut wanted: BTreeMap<_, _> = files(&folder("tests/legacy-samples"))
        .into_iter()
        .filter(|(name, bytes)| name.ends_with(".msg") && bytes.len() <= SEED_BYTES_MAX)
        .map(|(name, bytes)| (format!("captured_{name}"), bytes))
        .collect();
    for (name, body) in examples::bodies() {
        let message = examples::from_bidmesh(body);
        for (label, dialect) in [("bidmesh", Dialect::Bidmesh), ("shell", Dialect::Shell)] {
            if let Ok(bytes) = encode(&message, dialect) {
                wanted.insert(format!("{name}_{label}.msg"), bytes);
            }
        }
    }
    wanted
}

#[test]
fn the_seeds_hold_every_type_and_every_captured_message() {
    let seeds = folder("fuzz/seeds");
    if std::env::var_os("UPDATE_SEEDS").is_some() {
        for name in files(&seeds).keys() {
            fs::remove_file(seeds.join(name)).unwrap();
        }
        for (name, bytes) in wanted() {
            fs::write(seeds.join(name), bytes).unwrap();
        }
    }
    let (have, wanted) = (files(&seeds), wanted());
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&have), names(&wanted));
    for (name, bytes) in wanted {
        assert!(have.get(&name) == Some(&bytes), "{name} is not what encode writes now: UPDATE_SEEDS=1");
    }
}

#[test]
fn every_seed_and_every_former_failure_passes_every_check() {
    for folder in [folder("fuzz/seeds"), folder("fuzz/kept"), folder("fuzz/failures")] {
        for (name, bytes) in files(&folder) {
            // Shown by the test runner if a check panics.
            println!("{}/{name}", folder.display());
            // Every prefix is what a connection that broke off leaves.
            for end in 0..=bytes.len() {
                checks::check_decode(&bytes[..end]);
                checks::check_roundtrip(&bytes[..end]);
            }
            checks::check_framing(&bytes);
        }
    }
}
