//! Phones without phones: the real `adb` with a server of its own, and a device side for each phone
//! (`tests/phones/fake_adbd.py`) with its own files and processes, on loopback addresses.

mod phone;

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::background::Background;
use crate::binary::bidmesh_binary;
use crate::port::Port;
use crate::process::{Finished, Process};
use crate::setup::leave_out;
use crate::wait::wait_until;
pub use phone::Phone;

const SOON: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(240);

/// A laptop with phones.
#[derive(Debug)]
pub struct Laptop {
    server: Port,
    // In the order in which they must end: the phones before the folders that hold them.
    phones: Vec<Phone>,
    _server: Process,
    home: TempDir,
}

/// Whether this machine can play phones; where it cannot, the calling test is left out.
///
/// # Panics
/// In CI.
#[must_use]
pub fn can_play_phones() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    if !crate::setup::require(&["adb", "python3"]) {
        return false;
    }
    let can = *CAN.get_or_init(|| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "true"]);
        unshare.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    if !can {
        leave_out("namespaces of one's own (unshare --user --mount --pid)");
    }
    can
}

impl Laptop {
    /// One with phones of these names, attached.
    ///
    /// # Panics
    /// If one of them does not come up.
    pub fn with(names: &[&str]) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let server = Port::free();
        let mut command = Command::new("adb");
        command.arg("nodaemon").arg("server");
        let log = fs::File::create(home.path().join("adb.log")).expect("a writable folder");
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        environment(&mut command, home.path(), server.number());
        let process = Process::spawn(&mut command, Stdio::null());
        // An adb that finds none would start one of its own.
        wait_until(SOON, "adb's server", || TcpStream::connect(("127.0.0.1", server.number())).ok());
        let mut laptop = Self { server, phones: Vec::new(), _server: process, home };
        for name in names {
            laptop.attach(name);
        }
        laptop
    }

    /// One with phones that can run prompts and that `setup` made devices: `Device_A`, `Device_B` and so on, in the order
    /// of their serial numbers.
    ///
    /// # Panics
    /// If one of them does not get there.
    pub fn set_up(names: &[&str]) -> Self {
        let laptop = Self::with(names);
        for name in names {
            laptop.phone(name).has_runner(&format!("Phone {name} says"));
        }
        let report = laptop.setup(&[]);
        let devices = report["devices"].as_array().expect("a list of devices");
        assert!(devices.iter().all(|device| device["state"] == "ready"), "{report:#}");
        laptop
    }

    /// Attaches one more phone.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn attach(&mut self, name: &str) {
        self.attach_as(Phone::new(name, &self.home.path().join(name)));
    }

    /// Attaches one that `prepare` has given its files.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn attach_prepared(&mut self, name: &str, prepare: impl FnOnce(&Phone)) {
        let phone = Phone::new(name, &self.home.path().join(name));
        prepare(&phone);
        self.attach_as(phone);
    }

    /// Attaches a phone with an aarch64 processor, which is emulated: `qemu` is a static qemu-aarch64.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn attach_aarch64(&mut self, name: &str, qemu: &str) {
        let mut phone = Phone::new(name, &self.home.path().join(name));
        phone.qemu = Some(qemu.to_owned());
        phone.has_abi("arm64-v8a");
        self.attach_as(phone);
    }

    fn attach_as(&mut self, mut phone: Phone) {
        let name = phone.name.clone();
        phone.boot();
        self.phones.push(phone);
        self.connect(&name);
    }

    /// Lets adb find a phone (again), and waits until it lists it.
    ///
    /// # Panics
    /// If it does not.
    pub fn connect(&self, name: &str) {
        let serial = self.phone(name).serial();
        wait_until(SOON, &format!("adb to list {name}"), || {
            let _ = self.adb(&["connect", &serial]);
            let listed = self.adb(&["devices"]).stdout();
            listed.lines().any(|line| line.starts_with(&serial) && !line.contains("offline")).then_some(())
        });
    }

    /// Makes a phone be attached anew: whether it is let in is decided then.
    pub fn reconnect(&self, name: &str) {
        let _ = self.adb(&["disconnect", &self.phone(name).serial()]);
        self.connect(name);
    }

    /// A phone, by its name in the test, or by the id that the device map has for it.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn phone(&self, name: &str) -> &Phone {
        &self.phones[self.place(name)]
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn phone_mut(&mut self, name: &str) -> &mut Phone {
        let place = self.place(name);
        &mut self.phones[place]
    }

    fn place(&self, name: &str) -> usize {
        let map = self.map();
        let mapped = |phone: &Phone| map.contains(&format!("{name}:{}:", phone.serial()));
        let place = self.phones.iter().position(|phone| phone.name == name || mapped(phone));
        place.unwrap_or_else(|| panic!("no phone is called {name}; the device map:\n{map}"))
    }

    /// adb as this laptop has it.
    pub fn adb(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new("adb");
        command.args(arguments);
        self.environment(&mut command);
        Process::run(&mut command, b"", SOON)
    }

    /// A command of `bidmesh` on this laptop.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bidmesh_binary());
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    /// Runs a command of `bidmesh` to its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "")
    }

    /// The same, with this on its standard input.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        Process::run(&mut self.command(arguments), input.as_bytes(), COMMAND)
    }

    /// Starts a command of `bidmesh`.
    pub fn spawn(&self, arguments: &[&str]) -> Background {
        Background::spawn(&mut self.command(arguments))
    }

    /// Starts a command of `bidmesh` on a terminal; what is written into the file is typed there.
    ///
    /// # Panics
    /// As [`Background::at_terminal`].
    pub fn at_terminal(&self, arguments: &[&str]) -> (Background, fs::File) {
        Background::at_terminal(&self.command(arguments))
    }

    /// Runs a command with `--json`; its last object, however it ends.
    ///
    /// # Panics
    /// If it prints none.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        let finished = self.run(&arguments);
        let printed = finished.stdout();
        let values = serde_json::Deserializer::from_str(&printed).into_iter::<Value>().flatten();
        values.last().unwrap_or_else(|| {
            panic!("bidmesh {arguments:?} ended with {} and no JSON: {}", finished.status, finished.stderr())
        })
    }

    /// `bidmesh setup` without questions, with the program under test for the phones.
    ///
    /// # Panics
    /// If it prints no report.
    pub fn setup(&self, more: &[&str]) -> Value {
        let binary = phone_binary().display().to_string();
        self.json(&[&["setup", "--yes", "--binary", &binary], more].concat())
    }

    /// The device map.
    pub fn map(&self) -> String {
        fs::read_to_string(self.home.path().join(".mesh_device_map")).unwrap_or_default()
    }

    /// Its person's home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn environment(&self, command: &mut Command) {
        environment(command, self.home.path(), self.server.number());
    }
}

/// Nothing of the person who runs the tests: neither their settings, nor their phones.
fn environment(command: &mut Command, home: &Path, server: u16) {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("BIDMESH_") || name.starts_with("XDG_") || name.starts_with("ANDROID_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env("ANDROID_ADB_SERVER_PORT", server.to_string());
}

/// The program for the phones: the one under test, without what a debugger needs if that can be taken out, since it is
/// copied often.
pub fn phone_binary() -> &'static Path {
    static BINARY: OnceLock<(Option<TempDir>, PathBuf)> = OnceLock::new();
    let (_, path) = BINARY.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary folder");
        let stripped = folder.path().join("bidmesh-for-phones");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&stripped).arg(bidmesh_binary());
        match strip.status() {
            Ok(status) if status.success() => (Some(folder), stripped),
            _ => (None, bidmesh_binary().to_owned()),
        }
    });
    path
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not end in time.
pub fn run_to_end(command: &mut Command) -> Finished {
    Process::run(command, b"", COMMAND)
}
