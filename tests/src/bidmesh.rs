//! The `bidmesh` program as a test has it: started by its command line, asked through its command line.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::background::Background;
use crate::binary::bidmesh_binary;
use crate::port::Port;
use crate::process::{Finished, Process};
use crate::runner::Runner;
use crate::wait::{try_until, wait_until};

const START: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(120);

/// Settings of every device of a test: the machine that runs the tests may be hot, or its battery low.
const SETTINGS: &str = "work.battery_min = 0\nwork.heat_max = 125\nsensors.processor_heat_max = 125\n";

/// What a device is started with.
#[derive(Debug)]
pub struct BidmeshBuilder {
    id: String,
    arguments: Vec<String>,
    settings: String,
    runs_prompts: bool,
}

impl BidmeshBuilder {
    /// Another device that it knows.
    pub fn peer(self, id: &str, address: SocketAddr) -> Self {
        self.argument("--peer").argument(&format!("{id}={address}"))
    }

    /// What runs prompts there. Without this nothing does.
    pub fn runner(self, runner: &Runner) -> Self {
        self.executor(&runner.as_executor())
    }

    /// The same, as `--executor` takes it.
    pub fn executor(mut self, executor: &str) -> Self {
        self.runs_prompts = true;
        self.argument("--executor").argument(executor)
    }

    /// Whether its prompts run on an NPU.
    pub fn has_npu(self, has_npu: bool) -> Self {
        self.argument("--has-npu").argument(if has_npu { "true" } else { "false" })
    }

    /// A setting in its config.toml, such as `timing.patience`.
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.settings, "{key} = \"{value}\"");
        self
    }

    /// Another argument of `bidmesh up`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Makes its folder and takes its port; [`BidmeshProcess::start_again`] starts it.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn prepare(self) -> BidmeshProcess {
        let dir = TempDir::new().expect("a temporary folder");
        let device = BidmeshProcess {
            id: self.id,
            port: Port::on_its_own_address(),
            arguments: self.arguments,
            runs_prompts: self.runs_prompts,
            process: None,
            dir,
        };
        fs::create_dir(device.dir()).expect("a writable folder");
        fs::write(device.dir().join("config.toml"), self.settings).expect("a writable folder");
        device
    }

    /// Starts it and waits until it answers, and can run prompts if it is to.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn start(self) -> BidmeshProcess {
        let mut device = self.prepare();
        device.start_again();
        device
    }
}

/// A running `bidmesh up`. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct BidmeshProcess {
    id: String,
    port: Port,
    arguments: Vec<String>,
    runs_prompts: bool,
    // Before the folder, so that nothing writes into it while it is removed.
    process: Option<Process>,
    dir: TempDir,
}

impl BidmeshProcess {
    /// A device named `id`, at a loopback address of its own.
    pub fn build(id: &str) -> BidmeshBuilder {
        BidmeshBuilder {
            id: id.to_owned(),
            arguments: Vec::new(),
            settings: SETTINGS.to_owned(),
            runs_prompts: false,
        }
    }

    /// Its device id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens for peers.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its mesh directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    /// The process id of the device.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("a device that runs").id()
    }

    /// What it wrote to standard error since it was first started.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.stderr_file()).unwrap_or_default()
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join(format!("mesh_{}.log", self.id))).unwrap_or_default()
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
        command.env("HOME", self.dir.path());
        command
    }

    /// Runs a command for this device to its end.
    ///
    /// # Panics
    /// If it does not end within two minutes.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        Process::run(&mut self.command(arguments), b"", COMMAND)
    }

    /// Starts a command for this device.
    pub fn spawn(&self, arguments: &[&str]) -> Background {
        Background::spawn(&mut self.command(arguments))
    }

    /// Starts a command for this device on a terminal; what is written into the file is typed there.
    ///
    /// # Panics
    /// As [`Background::at_terminal`].
    pub fn at_terminal(&self, arguments: &[&str]) -> (Background, fs::File) {
        Background::at_terminal(&self.command(arguments))
    }

    /// Runs a command with `--json` and returns the object that it ends with.
    ///
    /// # Panics
    /// If it fails, or ends with something else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        let finished = self.run(&arguments);
        assert!(
            finished.status.success(),
            "bidmesh {arguments:?} ended with {}: {}{}",
            finished.status,
            finished.stdout(),
            finished.stderr()
        );
        last_json(&finished.stdout())
            .unwrap_or_else(|| panic!("bidmesh {arguments:?} ended with no JSON: {}", finished.stdout()))
    }

    /// Asks a prompt and returns what became of it.
    ///
    /// # Panics
    /// If it was not answered.
    pub fn ask(&self, prompt: &str) -> Value {
        self.json(&["ask", "--", prompt])
    }

    /// What it says of itself and of its peers.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// What it knows of a peer.
    pub fn peer(&self, id: &str) -> Option<Value> {
        let status = self.status();
        status["peers"].as_array()?.iter().find(|peer| peer["device_id"] == id).cloned()
    }

    /// Waits until it has heard of all these peers.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_until_heard(&self, peers: &[&str]) {
        for id in peers {
            wait_until(START, &format!("{} to hear of {id}", self.id), || {
                self.peer(id)?["heard_ms_ago"].as_u64()
            });
        }
    }

    /// Waits until its log holds `text`.
    ///
    /// # Panics
    /// If it does not by `deadline`; shows the log.
    pub fn wait_for_log(&self, text: &str, deadline: Duration) {
        try_until(deadline, || self.log().contains(text).then_some(())).unwrap_or_else(|| {
            panic!("waited {deadline:?} in vain for {text:?} in the log of {}:\n{}", self.id, self.log())
        });
    }

    /// Sends a signal to the device, not to the programs that run prompts for it.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Kills it, as losing power would. A program that runs a prompt is not killed with it.
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
        let stderr = fs::OpenOptions::new().create(true).append(true).open(self.stderr_file());
        command.args(&self.arguments).stdout(Stdio::null()).stderr(stderr.expect("a writable folder"));
        let mut process = Process::spawn(&mut command, Stdio::null());
        wait_until(START, &format!("bidmesh device {} to answer", self.id), || {
            if let Some(status) = process.status() {
                panic!("bidmesh up ended with {status}: {}", self.stderr());
            }
            let finished = self.run(&["--json", "status"]);
            let status = last_json(&finished.stdout()).filter(|_| finished.status.success())?;
            (!self.runs_prompts || status["executor"]["available"] == true).then_some(())
        });
        self.process = Some(process);
    }

    fn stderr_file(&self) -> PathBuf {
        self.dir.path().join("stderr.txt")
    }

    /// A folder for what a test wants to keep beside the mesh directory.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
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
