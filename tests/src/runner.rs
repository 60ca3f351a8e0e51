//! What runs prompts on the devices of a test: `tests/runner/run.sh`, told by files what to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

use crate::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

/// A program for the executor `command` that keeps count of its runs. It answers with the prompt unless told otherwise.
#[derive(Debug)]
pub struct Runner {
    dir: TempDir,
}

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The award that it ran for.
    pub award: String,
    /// `npu` or `cpu`.
    pub mode: String,
    process: i32,
}

impl Run {
    /// Whether its process is there.
    pub fn is_alive(&self) -> bool {
        Pid::from_raw(self.process).is_some_and(|process| test_kill_process(process).is_ok())
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// One of its own. The program is a link to a file that nobody writes: one that was just written cannot be
    /// started as long as another thread's child holds it open.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("runner/run.sh");
        symlink(program, dir.path().join("run.sh")).expect("a writable folder");
        Self { dir }
    }

    /// As `--executor` takes it.
    pub fn as_executor(&self) -> String {
        format!("command:{}", self.dir.path().join("run.sh").display())
    }

    /// From now on this is the answer.
    pub fn answer_with(&self, answer: &str) {
        self.write("answer", answer);
    }

    /// From now on runs print this at once, before anything that holds them up.
    pub fn begin_with(&self, beginning: &str) {
        self.write("beginning", beginning);
    }

    /// From now on each run takes so long.
    pub fn answer_after(&self, delay: Duration) {
        self.write("delay", &format!("{}\n", delay.as_secs_f64()));
    }

    /// From now on runs wait for [`Runner::release`].
    pub fn hold(&self) {
        self.write("hold", "");
    }

    /// Lets the runs that wait go on.
    pub fn release(&self) {
        // It may not be held.
        let _ = fs::remove_file(self.dir.path().join("hold"));
    }

    /// From now on runs fail with this exit status.
    pub fn fail_with(&self, status: u8) {
        self.write("status", &status.to_string());
    }

    /// Its runs so far, in order.
    pub fn started(&self) -> Vec<Run> {
        let run = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (award, mode, process) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
            Some(Run { award, mode, process })
        };
        // Of a line that is being written there is no more than its beginning.
        self.read("started").split_inclusive('\n').filter_map(|line| run(line.strip_suffix('\n')?)).collect()
    }

    /// How many of its runs came to their end.
    pub fn ended(&self) -> usize {
        self.read("ended").lines().count()
    }

    /// The awards of its runs that are under way.
    pub fn under_way(&self) -> Vec<String> {
        let ended = self.read("ended");
        let over = |run: &Run| ended.lines().any(|award| award == run.award);
        self.started().into_iter().filter(|run| !over(run)).map(|run| run.award).collect()
    }

    /// The prompts that it was called with, in order.
    pub fn prompts(&self) -> Vec<String> {
        self.started().iter().map(|run| self.read(&format!("prompt_{}", run.award))).collect()
    }

    /// Waits for the run with this number, counted from 0.
    ///
    /// # Panics
    /// If it does not come.
    pub fn run(&self, number: usize) -> Run {
        wait_until(SOON, &format!("run {number}"), || self.started().into_iter().nth(number))
    }

    fn write(&self, name: &str, text: &str) {
        // Runs look for it at any time: it is there as a whole or not at all.
        let new = self.dir.path().join(format!("{name}.new"));
        fs::write(&new, text).expect("a writable folder");
        fs::rename(new, self.dir.path().join(name)).expect("a writable folder");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}
