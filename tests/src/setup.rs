//! What `.ci/setup` installs: whether it is there, and what a test does where it is not.

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Whether all `programs` are installed. Where one is not, the test that asks is left out: it says so on stderr and
/// returns. `.ci/setup` installs them all.
///
/// # Panics
/// In CI (`CI=true`), where nothing may be left out.
#[must_use]
pub fn require(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_installed(program));
    if let Some(missing) = missing {
        leave_out(missing);
    }
    missing.is_none()
}

/// Says that the calling test is left out, or a part of it, because `missing` is not installed; once for each.
///
/// # Panics
/// In CI.
pub(crate) fn leave_out(missing: &str) {
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!ci, "{missing} is not installed, and in CI nothing may be left out: run .ci/setup");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let note = format!("left out: {test}: {missing} is not installed (.ci/setup installs it)\n");
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(note.clone()) {
        // Past libtest, which keeps what is printed by tests that pass: this must be seen.
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Finished, Process};
    use std::process::Command;
    use std::time::Duration;

    /// The one that is run by the next test, and does nothing otherwise.
    #[test]
    fn asks_for_a_missing_program() {
        if env::var_os("BIDMESH_TESTS_ASK").is_some() {
            assert!(!require(&["sh", "no-such-program"]));
        }
    }

    fn ask(ci: &str) -> Finished {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "setup::tests::asks_for_a_missing_program"]);
        Process::run(command.env("BIDMESH_TESTS_ASK", "1").env("CI", ci), b"", Duration::from_secs(60))
    }

    #[test]
    fn a_missing_program_is_told_and_fails_in_ci() {
        assert!(require(&["sh"]));
        let elsewhere = ask("");
        assert!(elsewhere.status.success());
        let told = String::from_utf8(elsewhere.stderr).unwrap();
        assert!(
            told.contains("left out: setup::tests::asks_for_a_missing_program: no-such-program"),
            "{told}"
        );
        assert!(!ask("true").status.success());
    }
}
