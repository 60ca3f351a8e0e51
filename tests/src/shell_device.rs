//! A device of the shell mesh as a test has it: `tests/shell-mesh/mesh_listener.sh` in a folder of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::programs::{Netcat, Shell};
use crate::wait::try_until;

/// Where the scripts of the shell mesh are.
pub fn shell_mesh_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("shell-mesh")
}

/// What a shell device is started with.
#[derive(Debug)]
pub struct ShellDeviceBuilder {
    id: String,
    shell: Shell,
    netcat: Netcat,
    awk: &'static str,
    peers: String,
    has_npu: bool,
    runner: bool,
    detached: bool,
}

impl ShellDeviceBuilder {
    /// Another line of its peers.txt. The device greets each peer when it starts, once a second until it is heard,
    /// twice at most, and is deaf meanwhile.
    pub fn peer(mut self, id: &str, address: SocketAddr) -> Self {
        self.peers.push_str(&format!("{id}:{}:{}\n", address.ip(), address.port()));
        self
    }

    /// What its device_config.json says.
    pub fn has_npu(mut self, has_npu: bool) -> Self {
        self.has_npu = has_npu;
        self
    }

    /// Leaves out the model script.
    pub fn without_runner(mut self) -> Self {
        self.runner = false;
        self
    }

    /// Leaves out awk, so that the loads in its bids are missing.
    pub fn without_awk(mut self) -> Self {
        self.awk = "no-such-awk";
        self
    }

    /// Starts it with its standard input at /dev/null, as `sh mesh_listener.sh &` in a script does. A netcat that
    /// listens with such an input ends its sending side as soon as somebody connects.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts it and waits until it is about to listen.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn start(self) -> ShellDevice {
        let port = Port::free();
        let dir = TempDir::new().expect("a temporary folder");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a writable folder");
        write("my_info.txt", &format!("{}:127.0.0.1:{}\n", self.id, port.number()));
        write("peers.txt", &self.peers);
        write(
            "device_config.json",
            &format!("{{\"device_id\": \"{}\", \"has_npu\": {}}}\n", self.id, self.has_npu),
        );
        fs::create_dir(dir.path().join("seen")).expect("a writable folder");
        if self.runner {
            fs::copy(shell_mesh_folder().join("run_slm.sh"), dir.path().join("run_slm.sh")).expect("a copy");
        }
        let mut device = ShellDevice {
            id: self.id,
            shell: self.shell,
            netcat: self.netcat,
            awk: self.awk,
            detached: self.detached,
            port,
            dir,
            process: None,
        };
        device.start_again();
        device
    }
}

/// A running shell device. Dropping it ends its processes and removes its folder.
#[derive(Debug)]
pub struct ShellDevice {
    id: String,
    shell: Shell,
    netcat: Netcat,
    awk: &'static str,
    detached: bool,
    port: Port,
    // Before the folder, so that nothing writes into it while it is removed.
    process: Option<Process>,
    dir: TempDir,
}

impl ShellDevice {
    /// A device named `id` that runs under `shell` and uses `netcat`.
    pub fn build(id: &str, shell: Shell, netcat: Netcat) -> ShellDeviceBuilder {
        ShellDeviceBuilder {
            id: id.to_owned(),
            shell,
            netcat,
            awk: "awk",
            peers: String::new(),
            has_npu: false,
            runner: true,
            detached: false,
        }
    }

    /// Its device id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What its log says.
    pub fn log(&self) -> String {
        self.text(&format!("mesh_{}.log", self.id))
    }

    /// What its peers.txt says.
    pub fn peers(&self) -> String {
        self.text("peers.txt")
    }

    /// What it wrote to `result_TASK.json`, if it got a RESULT for `task`.
    pub fn result(&self, task: &str) -> Option<Vec<u8>> {
        fs::read(self.dir().join(format!("result_{task}.json"))).ok().filter(|bytes| !bytes.is_empty())
    }

    /// The prompt files that its model script was called with, in order, as they were.
    pub fn prompts(&self) -> Vec<Vec<u8>> {
        (0..)
            .map_while(|number: usize| fs::read(self.dir().join("seen").join(number.to_string())).ok())
            .collect()
    }

    /// From now on its model script prints these bytes.
    pub fn answer_with(&self, answer: &[u8]) {
        fs::write(self.dir().join("answer"), answer).expect("a writable folder");
    }

    /// From now on its model script prints the prompt.
    pub fn answer_with_the_prompt(&self) {
        fs::write(self.dir().join("repeat"), "").expect("a writable folder");
    }

    /// From now on its model script takes so long.
    pub fn answer_after(&self, delay: Duration) {
        fs::write(self.dir().join("delay"), format!("{}\n", delay.as_secs_f64())).expect("a writable folder");
    }

    /// Waits until `wanted` finds what it looks for in the log.
    ///
    /// # Panics
    /// If it does not by `deadline`; shows the log.
    pub fn wait_for_log<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> T {
        try_until(deadline, || wanted(&self.log())).unwrap_or_else(|| {
            panic!("waited {deadline:?} in vain for {what} in the log of {}:\n{}", self.id, self.log())
        })
    }

    /// How often `text` stands in its log.
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// A command that runs `mesh_sender.sh` as this device.
    pub fn sender(&self) -> Command {
        let mut command = self.shell.command(&shell_mesh_folder().join("mesh_sender.sh"));
        self.environment(&mut command);
        command
    }

    /// Freezes it: its sockets stay, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`ShellDevice::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it with all its processes, as losing power would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again in the same folder and at the same port.
    ///
    /// # Panics
    /// If it does not get as far as listening.
    pub fn start_again(&mut self) {
        self.kill();
        let starts = self.logged("[LISTEN]");
        let mut command = self.shell.command(&shell_mesh_folder().join("mesh_listener.sh"));
        self.environment(&mut command);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let stdin = if self.detached { Stdio::null() } else { Stdio::piped() };
        self.process = Some(Process::spawn(&mut command, stdin));
        self.wait_for_log(Duration::from_secs(60), "LISTEN", |log| {
            (log.matches("[LISTEN]").count() > starts).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("MESH_DIR", self.dir())
            .env("MESH_NC", self.netcat.words())
            .env("MESH_AWK", self.awk)
            .env("MESH_HELLO_ATTEMPTS", "2")
            // Byte for byte, whatever the person's language.
            .env("LC_ALL", "C.UTF-8");
    }

    fn text(&self, name: &str) -> String {
        fs::read(self.dir().join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}
