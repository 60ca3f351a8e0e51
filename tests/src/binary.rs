//! The program under test, as fresh as the tests.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The program `bidmesh`: what `BIDMESH_BIN` names, or else what `cargo build -p bidmesh` makes of the sources as they
/// are now, in the profile and the target directory of the test that asks. It is built once a test program; where
/// nothing has changed, that takes a moment.
///
/// # Panics
/// If there is none.
pub fn bidmesh_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("BIDMESH_BIN") {
        Some(named) => {
            let path = PathBuf::from(named);
            assert!(path.is_file(), "BIDMESH_BIN names {}, which is no file", path.display());
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    // TARGET/PROFILE/deps/TEST
    let test = env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("cargo puts tests two folders deep");
    let target = profile.parent().expect("cargo puts profiles into the target directory");
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(env!("CARGO"));
    command
        // From here .cargo/config.toml is found, as it was for this test.
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args([
            "build",
            "--package",
            "bidmesh",
            "--bin",
            "bidmesh",
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(["--profile", name, "--target-dir"])
        .arg(target);
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    executable(&messages).unwrap_or_else(|| panic!("{command:?} does not say what it built:\n{messages}"))
}

/// Where cargo says that it put the program.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == "bidmesh")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"bidmesh"},"executable":"/t/debug/bidmesh"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/bidmesh")));
        assert_eq!(executable("warning: no json"), None);
    }
}
