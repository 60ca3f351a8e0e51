//! The battery through `termux-battery-status`, for applications that may not read `/sys/class/power_supply`.
//!
//! The command goes through another application and may take seconds or hang: it runs beside the readings, never
//! within one, alone, seldom, with a limit, and in a process group that can be ended as a whole.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bidmesh_core::load::decimal;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::battery::{Battery, percent};
use super::heat::sane;

/// The command's name.
pub(super) const COMMAND: &str = "termux-battery-status";
/// Where Termux keeps its programs, for a device that was not started from its shell.
const TERMUX_PROGRAMS: &str = "/data/data/com.termux/files/usr/bin";
/// It answers in about a second, or never.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// A battery changes slowly.
const INTERVAL: Duration = Duration::from_secs(60);
/// The pause after failures doubles up to this.
const INTERVAL_MAX: Duration = Duration::from_secs(900);
/// What was heard longer ago than this is not known any more.
const STALE: Duration = Duration::from_secs(300);
/// The answer has about 200 bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Asks the command now and then.
#[derive(Debug)]
pub(super) struct TermuxBattery {
    program: PathBuf,
    limit: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    heard: Option<(Instant, Battery)>,
    trouble: Option<String>,
    failures: u32,
    asking: bool,
    next: Option<Instant>,
}

/// The command where the person's path or Termux itself has it.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from(TERMUX_PROGRAMS)]);
    places.find_map(|place| Some(place.join(COMMAND)).filter(|program| program.is_file()))
}

impl TermuxBattery {
    /// Asks `program`, which has `limit` to answer.
    pub(super) fn new(program: &Path, limit: Duration) -> Self {
        Self { program: program.into(), limit, state: Arc::default() }
    }

    /// What was heard last, or why nothing is known. Asks again in the background if it is time; never waits.
    pub(super) fn latest(&self) -> Result<Battery, String> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if !state.asking && state.next.is_none_or(|next| next <= now) {
            state.asking = true;
            let (program, limit, shared) = (self.program.clone(), self.limit, self.state.clone());
            tokio::spawn(async move {
                let answer = ask(&program, limit).await;
                lock(&shared).heard(answer);
            });
        }
        match (&state.heard, &state.trouble) {
            (Some((at, battery)), _) if now.duration_since(*at) < STALE => Ok(*battery),
            (_, Some(trouble)) => Err(format!("{COMMAND}: {trouble}")),
            (Some(_), None) => Err(format!("{COMMAND}: the last answer is too old")),
            (None, None) => Err(format!("{COMMAND}: no answer yet")),
        }
    }
}

impl State {
    fn heard(&mut self, answer: Result<Battery, String>) {
        let now = Instant::now();
        self.asking = false;
        match answer {
            Ok(battery) => {
                self.heard = Some((now, battery));
                self.trouble = None;
                self.failures = 0;
            }
            Err(trouble) => {
                self.trouble = Some(trouble);
                self.failures = self.failures.saturating_add(1);
            }
        }
        let pause = INTERVAL.saturating_mul(2_u32.saturating_pow(self.failures)).min(INTERVAL_MAX);
        self.next = Some(now + pause);
    }
}

/// A panic of another thread while it held the state cannot leave it half changed in a way that matters.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(program: &Path, limit: Duration) -> Result<Battery, String> {
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(limit, listen(&mut child)).await;
    if answer.is_err() {
        end(&child);
        // Reaped by the runtime if it takes its time; it has been told to end.
        let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    }
    let text = answer.map_err(|_| format!("no answer within {} s", limit.as_secs()))??;
    parse(&text)
}

async fn listen(child: &mut Child) -> Result<String, String> {
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(text) } else { Err(format!("it ended with {status}")) }
}

/// Ends the command and what it started.
fn end(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself a moment ago.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// What the command prints. Numbers are read as text, so that no float is needed.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    percentage: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a serde_json::value::RawValue>,
    status: Option<String>,
    plugged: Option<String>,
}

fn parse(text: &str) -> Result<Battery, String> {
    let answer: Answer<'_> =
        serde_json::from_str(text).map_err(|_| "its answer is not the JSON that Termux prints".to_owned())?;
    let plugged = answer.plugged.map(|plugged| plugged.starts_with("PLUGGED"));
    let charging = match answer.status.as_deref() {
        Some("CHARGING" | "FULL") => Some(true),
        Some("DISCHARGING") => Some(false),
        _ => plugged,
    };
    let charge = answer.percentage.and_then(|raw| decimal(raw.get(), 0)).and_then(|v| i64::try_from(v).ok());
    let temperature = answer.temperature.and_then(|raw| signed_tenths(raw.get()));
    let charge = charge.and_then(percent).ok_or("its answer has no percentage that a battery can have")?;
    Ok(Battery { charge: Some(charge), charging, temperature: temperature.and_then(sane) })
}

fn signed_tenths(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    Some(sign * i64::try_from(decimal(digits, 1)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;
    use bidmesh_core::load::{DeciCelsius, Percent};

    const ANSWER: &str = r#"{
  "health": "GOOD",
  "percentage": 83,
  "plugged": "UNPLUGGED",
  "status": "DISCHARGING",
  "temperature": 26.299999237060547,
  "current": -312000
}"#;

    #[test]
    fn reads_what_termux_prints() {
        let expected =
            Battery { charge: Percent::new(83), charging: Some(false), temperature: Some(DeciCelsius(262)) };
        assert_eq!(parse(ANSWER), Ok(expected));
        let plugged =
            r#"{"percentage": 80, "plugged": "PLUGGED_USB", "status": "NOT_CHARGING", "temperature": -5}"#;
        let expected =
            Battery { charge: Percent::new(80), charging: Some(true), temperature: Some(DeciCelsius(-50)) };
        assert_eq!(parse(plugged), Ok(expected));
        let weak = r#"{"percentage": 80, "plugged": "PLUGGED_USB", "status": "DISCHARGING"}"#;
        assert_eq!(parse(weak).unwrap().charging, Some(false));
        let warm = parse(r#"{"percentage": 80, "temperature": "warm"}"#).unwrap();
        assert_eq!((warm.charging, warm.temperature), (None, None));
        assert!(parse(r#"{"percentage": 180, "status": "FULL"}"#).is_err());
        assert!(parse("The Termux:API app is not installed").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn the_command_is_found_on_the_path_of_the_process() {
        // A process of its own: the environment of this one is for all its tests.
        let Some(folder) = std::env::var_os("TEST_FOLDER") else {
            let tree = Tree::new();
            tree.program(COMMAND, "exit 0");
            let folder = tree.root().path("");
            let name = "sensors::termux::tests::the_command_is_found_on_the_path_of_the_process";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", name]).env("TEST_FOLDER", &folder).env("PATH", &folder);
            let output = child.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        };
        assert_eq!(find(), Some(Path::new(&folder).join(COMMAND)));
    }

    /// Waits until the command that was started by the first call has ended.
    async fn settled(battery: &TermuxBattery) -> Result<Battery, String> {
        assert_eq!(battery.latest(), Err(format!("{COMMAND}: no answer yet")));
        tokio::time::timeout(Duration::from_secs(20), async {
            while lock(&battery.state).asking {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        battery.latest()
    }

    #[tokio::test]
    async fn a_reading_never_waits_for_the_command() {
        let tree = Tree::new();
        // Far more than any version has said so far.
        let long = ANSWER.replace("GOOD", &"GOOD ".repeat(2000));
        tree.program(COMMAND, &format!("cat <<'END'\n{long}\nEND"));
        let battery = TermuxBattery::new(&tree.root().path(COMMAND), Duration::from_secs(20));
        assert_eq!(settled(&battery).await.unwrap().charge, Percent::new(83));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let tree = Tree::new();
        let witness = tree.root().path("child");
        // The child holds the pipe open, as termux-api does.
        tree.program(COMMAND, &format!("sleep 600 &\necho $! > {}\nwait", witness.display()));
        let battery = TermuxBattery::new(&tree.root().path(COMMAND), Duration::from_millis(500));
        let trouble = settled(&battery).await.unwrap_err();
        assert!(trouble.contains("no answer within"), "{trouble}");
        let child = std::fs::read_to_string(&witness).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while alive(child.trim()) {
            assert!(std::time::Instant::now() < deadline, "process {child} is still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the process runs: a zombie that nobody has reaped does not.
    fn alive(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_five_minutes() {
        let tree = Tree::new();
        let battery = TermuxBattery::new(&tree.root().path(COMMAND), Duration::from_secs(20));
        let told = parse(ANSWER).unwrap();
        lock(&battery.state).heard(Ok(told));
        // It is not asked again: only the age counts.
        lock(&battery.state).asking = true;
        tokio::time::advance(STALE - Duration::from_millis(1)).await;
        assert_eq!(battery.latest(), Ok(told));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(battery.latest(), Err(format!("{COMMAND}: the last answer is too old")));
    }

    #[tokio::test]
    async fn after_a_failure_it_is_left_alone_for_a_while() {
        let tree = Tree::new();
        let count = tree.root().path("count");
        tree.program(COMMAND, &format!("echo x >> {}\nexit 3", count.display()));
        let battery = TermuxBattery::new(&tree.root().path(COMMAND), Duration::from_secs(20));
        assert!(settled(&battery).await.unwrap_err().contains("exit status: 3"));
        for _ in 0..10 {
            assert!(battery.latest().is_err());
        }
        assert!(!lock(&battery.state).asking);
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
    }
}
