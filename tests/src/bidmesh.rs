//! The `bidmesh` program as a test has it: started by its command line, asked through its command line.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Finished, Process};
use crate::wait::wait_until;

const START: Duration = Duration::from_secs(30);
const COMMAND: Duration = Duration::from_secs(60);

/// The program under test: `BIDMESH_BIN`, or the one that cargo built beside this test. Nothing here builds it.
///
/// # Panics
/// If there is none.
pub fn bidmesh_binary() -> PathBuf {
    let path = env::var_os("BIDMESH_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        path.is_file(),
        "no program at {}: run `cargo build -p bidmesh`, or set BIDMESH_BIN",
        path.display()
    );
    path
}

fn beside_this_test() -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    // target/PROFILE/deps/TEST
    test.parent().and_then(Path::parent).expect("cargo puts tests two folders deep").join("bidmesh")
}

/// A running `bidmesh up`. Dropping it kills it and what it started, and removes its folder.
#[derive(Debug)]
pub struct BidmeshProcess {
    id: String,
    port: Port,
    arguments: Vec<String>,
    // Before the folder, so that nothing writes into it while it is removed.
    process: Option<Process>,
    dir: TempDir,
}

impl BidmeshProcess {
    /// Starts a device named `id` with more arguments of `bidmesh up`, and waits until it answers.
    ///
    /// # Panics
    /// If it ends instead, or does not answer.
    pub fn start(id: &str, arguments: &[&str]) -> Self {
        let mut device = Self {
            id: id.to_owned(),
            port: Port::free(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            process: None,
            dir: TempDir::new().expect("a temporary folder"),
        };
        device.start_again();
        device
    }

    /// Its device id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens for peers.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// As `--peer` takes it: `ID=ADDR:PORT`.
    pub fn as_peer(&self) -> String {
        format!("{}={}", self.id, self.address())
    }

    /// Its mesh directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id of the device, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it wrote to standard error since it was first started.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.stderr_file()).unwrap_or_default()
    }

    /// A command of `bidmesh` for this device: `--dir` comes first, then `arguments`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bidmesh_binary());
        command.arg("--dir").arg(self.dir()).args(arguments);
        // Settings of the person who runs the tests are not the tests' settings.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("BIDMESH_") {
                command.env_remove(name);
            }
        }
        // Nor is what lies in their home folder, such as ~/.mesh_device_map.
        command.env("HOME", self.dir());
        command
    }

    /// Runs a command for this device to its end.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        Process::run(&mut self.command(arguments), b"", COMMAND)
    }

    /// Runs a command with `--json` and returns the object that it ends with.
    ///
    /// # Panics
    /// If it fails, or ends with something else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        let finished = self.run(&arguments);
        let stdout = String::from_utf8_lossy(&finished.stdout);
        assert!(
            finished.status.success(),
            "bidmesh {arguments:?} ended with {}: {}",
            finished.status,
            String::from_utf8_lossy(&finished.stderr)
        );
        last_json(&stdout).unwrap_or_else(|| panic!("bidmesh {arguments:?} ended with no JSON: {stdout}"))
    }

    /// Sends a signal to the device and what it started.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Kills it with what it started, as losing power would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end (SIGTERM) and waits until it has; returns whether it ended with success.
    ///
    /// # Panics
    /// If it has not ended by `deadline`.
    pub fn stop(&mut self, deadline: Duration) -> bool {
        self.process.take().is_none_or(|mut process| {
            process.signal(Signal::TERM);
            process.wait(deadline).success()
        })
    }

    /// Starts it again with the same folder, port and arguments.
    ///
    /// # Panics
    /// If it ends instead, or does not answer.
    pub fn start_again(&mut self) {
        self.kill();
        let listen = self.address().to_string();
        let mut command = self.command(&["up", "--id", &self.id, "--listen", &listen]);
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(self.stderr_file());
        command.args(&self.arguments).stdout(Stdio::null()).stderr(stderr.expect("a writable folder"));
        let mut process = Process::spawn(&mut command, Stdio::null());
        wait_until(START, &format!("bidmesh device {} to answer", self.id), || {
            if let Some(status) = process.status() {
                panic!("bidmesh up ended with {status}: {}", self.stderr());
            }
            self.run(&["--json", "status"]).status.success().then_some(())
        });
        self.process = Some(process);
    }

    fn stderr_file(&self) -> PathBuf {
        self.dir().join("stderr.txt")
    }
}

/// The last JSON value of an output that may hold one a line or one over many lines.
fn last_json(output: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(output).into_iter::<Value>().collect::<Result<Vec<_>, _>>().ok()?.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_many_json_values_counts() {
        assert_eq!(last_json("{\"a\": 1}\n{\"b\":\n 2}\n").unwrap()["b"], 2);
        assert_eq!(last_json("no json"), None);
    }
}
