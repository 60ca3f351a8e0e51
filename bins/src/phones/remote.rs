//! The device on a phone: whether it runs, how it is started and stopped, and its control API, which adb brings here.

use std::path::Path;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::DeviceConfig;
use tokio::time::{Instant, sleep};

use super::{MESH, PROGRAM, RUNNING, failed};
use crate::adb::{Adb, AdbError, Forward, QUICK, quoted};
use crate::api::control_file::Control;
use crate::api::types::Status;
use crate::client::Client;
use crate::duration;
use crate::exit::{Exit, Failure};

/// How long a device may take until it answers. Old phones take seconds to load the program.
const STARTING: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a stopped device may take beyond what it was given.
const ENDING: Duration = Duration::from_secs(15);
/// What runs on a device may take so long to finish when the device is started anew.
pub const RESTARTING: Duration = Duration::from_secs(10);
/// What the device says on stderr while it starts.
const START_LOG: &str = "start.txt";

/// What runs on a phone, as far as starting and stopping go.
const LOOK: &str = r#"
if device >/dev/null; then cat "$D/control.json"
elif [ -n "$(listener)" ]; then echo listener
elif [ -x "$D/bidmesh" ]; then echo stopped
else echo missing; fi"#;

/// Detached from the adb session in every way: its own session, no terminal, nothing inherited. Prints its process id.
const START: &str = r#"
cd "$D" || exit 1
S=$(command -v setsid)
$S nohup ./bidmesh --dir "$D" up </dev/null >/dev/null 2>"$L" &
echo $!
"#;

/// What is on a phone.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    /// Our device runs, controlled here (on the phone).
    Running(Control),
    /// The program is there and does not run.
    Stopped,
    /// The shell mesh's listener runs.
    Listener,
    /// Nothing was set up.
    Missing,
}

/// What `start` did.
pub enum Started {
    Now(Connected),
    Already(Connected),
    /// It is a shell device; left alone.
    Listener,
}

/// One phone of the map.
#[derive(Clone, Debug)]
pub struct Remote {
    adb: Adb,
    pub id: DeviceId,
    pub serial: String,
}

/// A device on a phone that can be talked to from here.
pub struct Connected {
    pub client: Client,
    // Ends when this is dropped.
    _forward: Forward,
}

impl Remote {
    pub fn new(adb: Adb, id: DeviceId, serial: String) -> Self {
        Self { adb, id, serial }
    }

    fn failed(&self, error: &AdbError) -> Failure {
        failed(&self.id, error)
    }

    /// What runs there.
    pub async fn find(&self) -> Result<Found, AdbError> {
        let script = format!("D={}\n{RUNNING}{LOOK}", quoted(MESH));
        let said = self.adb.run(&self.serial, "look what runs on the phone", &script).await?;
        Ok(match said.trim() {
            "listener" => Found::Listener,
            "stopped" => Found::Stopped,
            "missing" => Found::Missing,
            control => match serde_json::from_str(control) {
                Ok(control) => Found::Running(control),
                // It is being written.
                Err(_) => Found::Stopped,
            },
        })
    }

    /// A client of the device that runs there.
    pub async fn connect(&self) -> Result<Connected, Failure> {
        match self.find().await.map_err(|error| self.failed(&error))? {
            Found::Running(control) => self.reach(&control).await,
            Found::Listener => Err(self.is_a_shell_device()),
            Found::Stopped | Found::Missing => Err(self.does_not_run()),
        }
    }

    async fn reach(&self, control: &Control) -> Result<Connected, Failure> {
        let forward =
            self.adb.forward(&self.serial, control.port).await.map_err(|error| self.failed(&error))?;
        let client = Client::of(&Control { port: forward.port(), ..control.clone() })?;
        Ok(Connected { client, _forward: forward })
    }

    /// Why the device there cannot be controlled.
    pub fn is_a_shell_device(&self) -> Failure {
        let message = format!(
            "{} runs the shell listener: it is part of the mesh but cannot be controlled; ask through another device",
            self.id
        );
        Failure::new(Exit::Failed, "shell_device", message)
    }

    /// Why there is nothing to be started.
    pub fn is_not_set_up(&self) -> Failure {
        let message = format!("bidmesh is not on {}; `bidmesh setup` puts it there", self.id);
        Failure::new(Exit::Failed, "not_set_up", message)
    }

    fn does_not_run(&self) -> Failure {
        let message = format!("no device runs on {0}; start it with `bidmesh start {0}`", self.id);
        Failure::new(Exit::NotRunning, "not_running", message)
    }

    /// Starts the device unless it runs, and waits until it answers.
    pub async fn start(&self) -> Result<Started, Failure> {
        match self.find().await.map_err(|error| self.failed(&error))? {
            Found::Running(control) => Ok(Started::Already(self.answering(&control).await?)),
            Found::Listener => Ok(Started::Listener),
            Found::Missing => Err(self.is_not_set_up()),
            Found::Stopped => {
                let script =
                    format!("D={}; L={}\n{START}", quoted(MESH), quoted(&format!("{MESH}/{START_LOG}")));
                let process = self.adb.run(&self.serial, "start the device", &script).await;
                Ok(Started::Now(self.wait(process.map_err(|error| self.failed(&error))?.trim()).await?))
            }
        }
    }

    /// Until the device that was just started says where it is controlled, or has ended.
    async fn wait(&self, process: &str) -> Result<Connected, Failure> {
        let until = Instant::now() + STARTING;
        let how = loop {
            if let Found::Running(control) = self.find().await.map_err(|error| self.failed(&error))? {
                return self.answering(&control).await;
            }
            let lives = self.adb.shell(&self.serial, &format!("kill -0 {}", quoted(process)), QUICK).await;
            if lives.map_err(|error| self.failed(&error))?.status != 0 {
                break "ended at once".to_owned();
            }
            if Instant::now() >= until {
                break format!("does not answer after {}", duration::words(duration::millis(STARTING)));
            }
            sleep(LOOK_AGAIN).await;
        };
        let show = format!("tail -n 1 {}", quoted(&format!("{MESH}/{START_LOG}")));
        let said = self.adb.shell(&self.serial, &show, QUICK).await;
        let why = said.map_or_else(|error| error.to_string(), |said| said.last_words().to_owned());
        let why = why.trim_start_matches("bidmesh: ");
        Err(Failure::failed(format!("{} was started and {how}: {why}", self.id)))
    }

    async fn answering(&self, control: &Control) -> Result<Connected, Failure> {
        let connected = self.reach(control).await?;
        let until = Instant::now() + STARTING;
        loop {
            match connected.client.get::<Status>("/v1/status").await {
                Ok(_) => return Ok(connected),
                Err(failure) if Instant::now() >= until => {
                    return Err(Failure { message: format!("{}: {}", self.id, failure.message), ..failure });
                }
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Ends the device in order; whether there was one.
    pub async fn stop(&self, within: Duration) -> Result<bool, Failure> {
        match self.find().await.map_err(|error| self.failed(&error))? {
            Found::Stopped | Found::Missing => return Ok(false),
            Found::Listener => return Err(self.is_a_shell_device()),
            Found::Running(_) => {}
        }
        let millis = duration::millis(within);
        let script = format!("{PROGRAM} --dir {MESH} stop --within {millis}ms");
        let said = self.adb.shell(&self.serial, &script, within + ENDING).await;
        let said = said.map_err(|error| self.failed(&error))?;
        if said.status != 0 && self.find().await.is_ok_and(|found| matches!(found, Found::Running(_))) {
            let why = said.last_words().trim_start_matches("bidmesh: ").to_owned();
            return Err(Failure::failed(format!("{}: {why}", self.id)));
        }
        Ok(true)
    }

    /// Whether a person has said that it has an NPU.
    pub async fn saved_npu(&self) -> Result<Option<bool>, AdbError> {
        let script = format!("cat {MESH}/device_config.json 2>/dev/null || true");
        let text = self.adb.run(&self.serial, "read device_config.json", &script).await?;
        // One that cannot be understood says nothing; the device itself complains about it.
        let config = DeviceConfig::parse(text.as_bytes(), Path::new("device_config.json"));
        Ok(config.ok().and_then(|config| config.has_npu))
    }

    /// Saves whether it has an NPU. A shell device reads it for each bid, ours when it starts.
    pub async fn save_npu(&self, npu: bool) -> Result<(), AdbError> {
        let script = format!("mkdir -p {MESH}; cat {MESH}/device_config.json 2>/dev/null || true");
        let text = self.adb.run(&self.serial, "read device_config.json", &script).await?;
        let mut config = DeviceConfig::parse(text.as_bytes(), Path::new("device_config.json"))
            .map_err(|error| AdbError::refused("change device_config.json", &error.to_string()))?;
        config.device_id.get_or_insert_with(|| self.id.clone());
        config.has_npu = Some(npu);
        self.write("device_config.json", &config.to_text()).await
    }

    /// Runs a command of the program on the phone; its standard output.
    pub async fn command(&self, doing: &str, arguments: &[&str]) -> Result<String, AdbError> {
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        let script = format!("{PROGRAM} --dir {MESH} {}", words.join(" "));
        let said = self.adb.shell(&self.serial, &script, QUICK).await?;
        let why = said.last_words().trim_start_matches("bidmesh: ");
        match said.status {
            0 => Ok(said.stdout),
            status if status == Exit::Usage.code() => Err(AdbError::Usage(why.to_owned())),
            _ => Err(AdbError::refused(doing, why)),
        }
    }

    /// Replaces a small file of the mesh directory.
    pub async fn write(&self, name: &str, text: &str) -> Result<(), AdbError> {
        let path = format!("{MESH}/{name}");
        let new = format!("{MESH}/.{name}.new");
        let script = format!(
            "printf %s {} > {new} && mv -f {new} {path}",
            quoted(text),
            new = quoted(&new),
            path = quoted(&path)
        );
        self.adb.run(&self.serial, &format!("write {name}"), &script).await.map(drop)
    }

    pub const fn adb(&self) -> &Adb {
        &self.adb
    }
}
