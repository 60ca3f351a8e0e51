//! Replays the worlds that the fuzzer of whole devices found worth keeping, and every one that ever failed, on plain
//! stable Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(unreachable_pub, reason = "the check is public to the fuzz target")]

#[path = "../../fuzz/src/world.rs"]
mod world;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[test]
fn every_world_that_was_kept_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/worlds");
    let mut played = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        // Shown by the test runner if a check panics.
        println!("{}", path.display());
        world::check_device(&fs::read(&path).unwrap());
        played += 1;
    }
    assert!(played > 0, "{}: there are worlds", folder.display());
}

proptest! {
    /// Few of these get far; they are for machines that have no fuzzer.
    #[test]
    fn any_world_passes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        world::check_device(&bytes);
    }
}
