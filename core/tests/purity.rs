//! Core cannot read a clock, open a socket, start a thread or iterate a hash map, because nothing that it links
//! can: no std (`tests/purity`), and no crate that is not on the list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Everything that core links or that writes code for it. A crate gets here after somebody read what it does:
/// `hashbrown` is no_std too, and its order differs from run to run.
const ALLOWED: [&str; 13] = [
    "bidmesh-core",
    "itoa",
    "memchr",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "siphasher",
    "syn",
    "unicode-ident",
    "zmij",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        // Flags of a coverage or fuzzing run ask for libraries that need std.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap()
}

/// Checks `tests/purity` with the very versions of the workspace's lock file, so that nothing is fetched.
fn check_purity(features: &str) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("purity");
    fs::copy(root().join("Cargo.lock"), root().join("tests/purity/Cargo.lock")).unwrap();
    let target = target.to_str().unwrap();
    let manifest = "tests/purity/Cargo.toml";
    cargo(&[
        "check",
        "--offline",
        "--manifest-path",
        manifest,
        "--target-dir",
        target,
        "--features",
        features,
    ])
}

#[test]
fn nothing_that_core_links_needs_std() {
    let built = check_purity("");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "something below core links std (E0152), or cargo failed:\n{said}");

    // The same with std must fail, or the line above proves nothing.
    let canary = check_purity("canary");
    let said = String::from_utf8_lossy(&canary.stderr);
    assert!(!canary.status.success() && said.contains("E0152"), "the canary lives:\n{said}");
}

#[test]
fn core_depends_on_nothing_that_is_not_on_the_list() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "-p",
        "bidmesh-core",
        "-e",
        "normal",
        "--target",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let listed = String::from_utf8(tree.stdout).unwrap();
    let linked: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    let allowed = BTreeSet::from(ALLOWED);
    let strangers: Vec<_> = linked.difference(&allowed).collect();
    assert!(
        strangers.is_empty(),
        "core may not depend on {strangers:?} (or put it on the list, with a reason)"
    );
    let gone: Vec<_> = allowed.difference(&linked).collect();
    assert!(gone.is_empty(), "on the list, but not used any more: {gone:?}");
}
