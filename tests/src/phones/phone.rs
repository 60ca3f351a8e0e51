//! A phone that is played on this machine: its files, what is wrong with it, whether it is on.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Laptop, SOON};
use crate::port::Port;
use crate::process::Process;
use crate::setup::leave_out;
use crate::wait::{try_until, wait_until};

/// The machine that runs the tests may be hot, or its battery low.
const SETTINGS: &str = "work.battery_min = 0\nwork.heat_max = 125\nsensors.processor_heat_max = 125\n";

/// One phone.
#[derive(Debug)]
pub struct Phone {
    pub(super) name: String,
    adb: Port,
    mesh: Port,
    daemon: Option<Process>,
    root: PathBuf,
    pub(super) qemu: Option<String>,
}

impl Phone {
    pub(super) fn new(name: &str, root: &Path) -> Self {
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
            std::os::unix::fs::symlink("/bin/sh", folder.join("sh")).expect("a writable folder");
            return;
        };
        fs::copy(mksh, folder.join("sh")).expect("a readable program");
        fs::copy(&toybox, folder.join("toybox")).expect("a readable program");
        let applets = Command::new(toybox).output().expect("toybox lists what it has").stdout;
        for applet in String::from_utf8_lossy(&applets).split_whitespace().filter(|name| *name != "sh") {
            std::os::unix::fs::symlink("toybox", folder.join(applet)).expect("a writable folder");
        }
    }

    pub(super) fn has_abi(&self, abi: &str) {
        self.program(
            "getprop",
            &format!(
                "case $1 in ro.product.cpu.abi) echo {abi} ;; ro.build.version.release) echo 13 ;; \
                 ro.serialno) echo {} ;; esac",
                self.name
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

fn write_program(path: &Path, script: &str) {
    // Replaced as a whole: it may be running.
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("a writable folder");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    fs::rename(&new, path).expect("a writable folder");
}
