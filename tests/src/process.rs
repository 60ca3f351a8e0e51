//! Processes that die with the test that started them, with all that they started in turn.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};

use crate::wait::wait_until;

/// A process in a group of its own. Dropping it kills the group; if the whole test program dies first, a guard
/// process does.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    /// Kept open: what reads its standard input waits, as on a terminal. (toybox's listening nc loses messages when
    /// its input has ended.)
    stdin: Option<ChildStdin>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`. Its standard input stays open and empty unless the command says otherwise by `stdin`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(command: &mut Command, stdin: Stdio) -> Self {
        let mut child = command
            .stdin(stdin)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let group = Pid::from_child(&child);
        guard("+", group);
        let stdin = child.stdin.take();
        Self { child, group, stdin, status: None }
    }

    /// The process id of the first process, which is the group's id too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the whole group. A group that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// The exit status, if the first process has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status
    }

    /// Waits for the first process to end.
    ///
    /// # Panics
    /// If it has not by `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        wait_until(deadline, "a process to end", || self.status())
    }

    /// Kills the group and waits for the first process.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
        guard("-", self.group);
    }

    /// Runs `command` to its end with `input`, which is then closed.
    ///
    /// # Panics
    /// If it has not ended by `deadline`.
    pub fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Finished {
        let start = Instant::now();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::spawn(command, Stdio::piped());
        let (stdout, stderr) = (process.child.stdout.take(), process.child.stderr.take());
        let reader = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                bytes
            })
        };
        let stdout = reader(stdout.map(|stream| Box::new(stream) as _));
        let stderr = reader(stderr.map(|stream| Box::new(stream) as _));
        if let Some(mut stdin) = process.stdin.take() {
            // One that ends without reading all of it is judged by its status.
            let _ = stdin.write_all(input);
        }
        let status = process.wait(deadline);
        let took = start.elapsed();
        // What it left behind must not keep the pipes open.
        process.kill();
        Finished {
            status,
            took,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How many bytes of memory a process has resident (Linux).
///
/// # Panics
/// If there is no such process.
pub fn resident_bytes(process: u32) -> u64 {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kibibytes * 1024
}

/// How long a process has computed (Linux).
///
/// # Panics
/// If there is no such process.
pub fn processor_time(process: u32) -> Duration {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // The second field, a name in brackets, may hold anything. Two of the others count hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').expect("Linux says it");
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The files, sockets and pipes that a process has open, by number (Linux).
///
/// # Panics
/// If there is no such process.
pub fn open_descriptors(process: u32) -> BTreeSet<u64> {
    let path = format!("/proc/{process}/fd");
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// From now on a process that this one started gets no descriptor of this number or above (Linux). Returns the limit
/// before.
///
/// # Panics
/// If there is no such process.
pub fn limit_descriptors(process: u32, limit: u64) -> u64 {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    assert!(process.is_some(), "a process");
    // Only the soft limit changes: that can be undone. The hard one is inherited.
    let new = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
    let before = prlimit(process, Resource::Nofile, new).expect("a child of the same user");
    before.current.unwrap_or(u64::MAX)
}

/// What [`Process::run`] saw.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// How long it took.
    pub took: Duration,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Its exit status; `None`: a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it wrote to standard output, as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it wrote to standard error, as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Tells the guard of a group that began (`+`) or ended (`-`). The guard is a shell that notices when its standard
/// input ends, which happens however this program dies, and kills the groups that are left.
fn guard(sign: &str, group: Pid) {
    const SCRIPT: &str = r#"
        while read -r sign group; do
            case $sign in
                +) groups="$groups $group" ;;
                -) rest=; for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done; groups=$rest ;;
            esac
        done
        for each in $groups; do kill -s KILL -- "-$each"; done"#;
    static GUARD: OnceLock<Mutex<Child>> = OnceLock::new();
    let guard = GUARD.get_or_init(|| {
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the group of this program: what kills that one must spare it.
            .process_group(0)
            .spawn();
        Mutex::new(child.expect("sh is on every Unix machine"))
    });
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stdin) = guard.stdin.as_mut() {
        let _ = writeln!(stdin, "{sign} {}", group.as_raw_nonzero());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process_group;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_dropped_process_takes_its_children_along() {
        let process = Process::spawn(Command::new("sh").args(["-c", "sleep 300 & sleep 300"]), Stdio::null());
        let group = process.group;
        drop(process);
        wait_until(SOON, "the group to end", || test_kill_process_group(group).is_err().then_some(()));
    }

    /// The one that is started by the next test, and does nothing otherwise.
    #[test]
    fn killed_by_the_test_below() {
        if std::env::var_os("BIDMESH_TESTS_START_AND_DIE").is_none() {
            return;
        }
        let process = Process::spawn(Command::new("sleep").arg("300"), Stdio::null());
        println!("group={}", process.group.as_raw_nonzero());
        std::io::stdout().flush().unwrap();
        std::process::abort();
    }

    #[test]
    fn a_process_does_not_outlive_a_test_program_that_is_killed() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::tests::killed_by_the_test_below", "--nocapture"]);
        let finished = Process::run(command.env("BIDMESH_TESTS_START_AND_DIE", "1"), b"", SOON);
        assert!(!finished.status.success());
        let stdout = String::from_utf8(finished.stdout).unwrap();
        let (_, group) = stdout.split_once("group=").expect("the program says which group it started");
        let group = Pid::from_raw(group.trim().parse().unwrap()).unwrap();
        wait_until(SOON, "the orphan to be killed", || test_kill_process_group(group).is_err().then_some(()));
    }
}
