//! Phones without phones: the real `adb` with a server of its own, and a device side for each phone
//! (`tests/phones/fake_adbd.py`) with its own files and processes, on loopback addresses.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
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
use crate::wait::{try_until, wait_until};

const SOON: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(240);
/// The machine that runs the tests may be hot, or its battery low.
const SETTINGS: &str = "work.battery_min = 0\nwork.heat_max = 125\nsensors.processor_heat_max = 125\n";

/// A laptop with phones.
#[derive(Debug)]
pub struct Laptop {
    server: Port,
    // In the order in which they must end: the phones before the folders that hold them.
    phones: Vec<Phone>,
    _server: Process,
    home: TempDir,
}

/// One phone.
#[derive(Debug)]
pub struct Phone {
    name: String,
    adb: Port,
    mesh: Port,
    daemon: Option<Process>,
    root: PathBuf,
    qemu: Option<String>,
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
        let mut laptop = Self { server, phones: Vec::new(), _server: process, home };
        for name in names {
            laptop.attach(name);
        }
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

    /// A phone.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn phone(&self, name: &str) -> &Phone {
        self.phones.iter().find(|phone| phone.name == name).expect("a phone of this name")
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn phone_mut(&mut self, name: &str) -> &mut Phone {
        self.phones.iter_mut().find(|phone| phone.name == name).expect("a phone of this name")
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

impl Phone {
    fn new(name: &str, root: &Path) -> Self {
        let phone = Self {
            name: name.to_owned(),
            adb: Port::free(),
            mesh: Port::on_its_own_address(),
            daemon: None,
            root: root.to_owned(),
            qemu: None,
        };
        fs::create_dir_all(phone.dir()).expect("a writable folder");
        fs::create_dir_all(root.join("faults")).expect("a writable folder");
        phone.has_androids_tools();
        phone.has_abi(match env::consts::ARCH {
            "aarch64" => "arm64-v8a",
            other => other,
        });
        phone.moves_to(&phone.address().ip().to_string());
        phone.program("dumpsys", "echo '  level: 81'; echo '  temperature: 312'");
        // All phones share the ports of this machine: each listens at an address of its own.
        let settings = format!("listen = \"{}\"\n{SETTINGS}", phone.address());
        fs::write(phone.dir().join("config.toml"), settings).expect("a writable folder");
        phone
    }

    /// The shell and the tools that Android has, where this machine has them: mksh and toybox.
    fn has_androids_tools(&self) {
        let folder = self.root.join("system/bin");
        fs::create_dir_all(&folder).expect("a writable folder");
        let installed = |name: &str| {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
        };
        let (Some(mksh), Some(toybox)) = (installed("mksh"), installed("toybox")) else {
            leave_out("mksh or toybox, Android's shell and tools (the host's are used)");
            return;
        };
        fs::copy(mksh, folder.join("sh")).expect("a readable program");
        fs::copy(&toybox, folder.join("toybox")).expect("a readable program");
        let applets = Command::new(toybox).output().expect("toybox lists what it has").stdout;
        for applet in String::from_utf8_lossy(&applets).split_whitespace().filter(|name| *name != "sh") {
            std::os::unix::fs::symlink("toybox", folder.join(applet)).expect("a writable folder");
        }
    }

    fn has_abi(&self, abi: &str) {
        self.program(
            "getprop",
            &format!(
                "case $1 in ro.product.cpu.abi) echo {abi} ;; ro.build.version.release) echo 13 ;; esac"
            ),
        );
    }

    /// Its name in the test.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its serial number for adb.
    pub fn serial(&self) -> String {
        self.adb.address().to_string()
    }

    /// Where its device listens.
    pub fn address(&self) -> SocketAddr {
        self.mesh.address()
    }

    /// Its mesh directory, as this machine sees it.
    pub fn dir(&self) -> PathBuf {
        self.root.join("data/local/tmp/mesh")
    }

    /// The text of a file of its mesh directory; empty if it is not there.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name)).unwrap_or_default()
    }

    /// A program of its system: a shell script.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn program(&self, name: &str, script: &str) {
        let folder = self.root.join("system/bin");
        fs::create_dir_all(&folder).expect("a writable folder");
        write_program(&folder.join(name), script);
    }

    /// A program anywhere on it, such as `data/local/tmp/genie/genie-t2t-run`: a shell script.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn program_at(&self, path: &str, script: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a writable folder");
        write_program(&path, script);
    }

    /// A file of its system, such as `vendor/lib64/libQnnHtp.so`. Before it boots.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn system_file(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a writable folder");
        fs::write(path, text).expect("a writable folder");
    }

    /// Its Wi-Fi gives it this address.
    pub fn moves_to(&self, ip: &str) {
        self.program("ip", &format!("echo '31: wlan0    inet {ip}/24 brd 127.0.0.255 scope global wlan0'"));
    }

    /// It has the shell mesh's model script, which answers this and the prompt.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn has_runner(&self, answer: &str) {
        let path = self.dir().join("run_slm.sh");
        write_program(&path, &format!("printf '%s\\n' \"{answer}: $(cat \"$1\")\""));
        // As the shell mesh leaves it: run by `sh`.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a file of ours");
    }

    /// It runs the shell mesh's listener under this id, and knows nobody. Returns when it listens.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn runs_the_listener(&self, id: &str, laptop: &Laptop) {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("shell-mesh");
        fs::copy(scripts.join("mesh_listener.sh"), self.dir().join("mesh_listener.sh"))
            .expect("a writable folder");
        fs::write(self.dir().join("my_info.txt"), format!("{id}:{}\n", self.address()))
            .expect("a writable folder");
        let start = "cd /data/local/tmp/mesh; MESH_NC='nc.openbsd' MESH_HELLO_ATTEMPTS=2 \
                     nohup sh ./mesh_listener.sh >/dev/null 2>&1 </dev/null &";
        laptop.adb(&["-s", &self.serial(), "shell", start]);
        self.wait_for(&format!("mesh_{id}.log"), "[LISTEN]", SOON);
    }

    /// What is in its mesh directory.
    ///
    /// # Panics
    /// If it has none.
    pub fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir()).expect("a mesh directory").flatten();
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Something is wrong with it: a fault of `fake_adbd.py`.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn fault(&self, name: &str, value: &str) {
        fs::write(self.root.join("faults").join(name), value).expect("a writable folder");
    }

    /// The fault is gone.
    pub fn mend(&self, name: &str) {
        let _ = fs::remove_file(self.root.join("faults").join(name));
    }

    /// Switches it on (again), with the files that it has.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(&mut self) {
        self.daemon = None;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("phones/fake_adbd.py");
        let log = self.root.join("../").join(format!("{}.log", self.name));
        let mut command = Command::new("python3");
        command.arg(script);
        if let Some(qemu) = &self.qemu {
            command.arg("--qemu").arg(qemu);
        }
        command.arg(format!("{}:{}", self.adb.number(), self.root.display()));
        let file = fs::File::create(&log).expect("a writable folder");
        command.stdout(file.try_clone().expect("a file can be shared")).stderr(file);
        let mut daemon = Process::spawn(&mut command, Stdio::null());
        wait_until(SOON, "a phone to boot", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(daemon.status().is_none(), "the phone {} does not boot: {said}", self.name);
            said.contains("ready ").then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Its battery is taken out.
    pub fn power_off(&mut self) {
        self.daemon = None;
    }

    /// The process id that its device has on it, from its control file.
    pub fn device_process(&self) -> Option<u64> {
        let control: Value = serde_json::from_str(&self.file("control.json")).ok()?;
        control["pid"].as_u64()
    }

    /// Waits until a file of its mesh directory holds `text`.
    ///
    /// # Panics
    /// If it does not by `deadline`; shows the file.
    pub fn wait_for(&self, name: &str, text: &str, deadline: Duration) {
        try_until(deadline, || self.file(name).contains(text).then_some(())).unwrap_or_else(|| {
            panic!(
                "waited {deadline:?} in vain for {text:?} in {name} of {}:\n{}",
                self.name,
                self.file(name)
            )
        });
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not end in time.
pub fn run_to_end(command: &mut Command) -> Finished {
    Process::run(command, b"", COMMAND)
}

fn write_program(path: &Path, script: &str) {
    // Replaced as a whole: it may be running.
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("a writable folder");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    fs::rename(&new, path).expect("a writable folder");
}
