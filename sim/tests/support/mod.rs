//! What several tests of the socket tier need.

use std::process::{Command, Stdio};

/// Where a process writes its trace.
const TRACE: &str = "BIDMESH_SIM_TRACE";

/// Runs this test in two processes of their own and compares what they trace: where memory lies and what hash maps are
/// seeded with differs from process to process.
///
/// # Panics
/// If the traces differ.
pub(crate) fn assert_same_in_two_processes(test: &str, trace: impl FnOnce() -> String) {
    if let Some(path) = std::env::var_os(TRACE) {
        std::fs::write(path, trace()).expect("the trace can be written");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let traced = |name: &str| {
        let path = folder.path().join(name);
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test])
            .env(TRACE, &path)
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("it starts").success());
        std::fs::read_to_string(path).expect("it wrote a trace")
    };
    let (first, second) = (traced("first"), traced("second"));
    assert!(first.lines().count() > 100);
    assert_eq!(first, second);
}
