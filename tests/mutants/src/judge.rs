//! Runs the tests: once as they are, to learn how long each takes and which mutants it comes past; then, mutant by
//! mutant, those that come past it, the quickest first, until one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Failed;

/// SIGXCPU on Linux.
const CPU_TIME_SPENT: i32 = 24;
/// Some mutants allocate without end; kibibytes.
const MEMORY_MAX: u64 = 4 * 1024 * 1024;

/// One test of one program.
pub struct Test {
    pub name: String,
    program: PathBuf,
    folder: PathBuf,
    took: Duration,
    reaches: BTreeSet<u32>,
}

/// How a mutant fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By this test.
    Killed(String),
    /// This test ran out of processor time.
    TimedOut(String),
    /// By no test; so many came past it.
    Missed(usize),
}

/// Finds all tests and measures each. `seeds` are for the mesh test.
pub fn measure(
    programs: &[(String, PathBuf)],
    tree: &Path,
    seeds: u32,
    out: &Path,
) -> Result<Vec<Test>, Failed> {
    let mut tests = Vec::new();
    for (target, program) in programs {
        let folder = tree.join(if target == "transcripts" { "tests" } else { "core" });
        let listed = Command::new(program)
            .args(["--list", "--format", "terse"])
            .current_dir(&folder)
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let Some(name) = line.strip_suffix(": test") else { continue };
            tests.push(Test {
                name: name.to_owned(),
                program: program.clone(),
                folder: folder.clone(),
                took: Duration::ZERO,
                reaches: BTreeSet::new(),
            });
        }
    }
    let reached = out.join("reached");
    for test in &mut tests {
        if reached.exists() {
            fs::remove_file(&reached).map_err(|error| error.to_string())?;
        }
        let begun = Instant::now();
        let status = run(test, seeds, 600, &[("MUTANTS_REACHED", &reached.display().to_string())])?;
        test.took = begun.elapsed();
        if !status.success() {
            return Err(format!("{} fails without any mutant", test.name));
        }
        if let Ok(text) = fs::read_to_string(&reached) {
            test.reaches = text.lines().filter_map(|line| line.parse().ok()).collect();
        }
    }
    tests.sort_by_key(|test| test.took);
    Ok(tests)
}

/// Judges mutant `number`, or, for 0, the code as it stands, with all tests.
pub fn judge(number: u32, tests: &[Test], seeds: u32) -> Result<Verdict, Failed> {
    let mut came_past = 0;
    for test in tests.iter().filter(|test| number == 0 || test.reaches.contains(&number)) {
        came_past += 1;
        // Without a mutant there is nothing to write down, which is quicker; and the machine may be busy.
        let limit = 2 + 4 * test.took.as_secs();
        let status = run(test, seeds, limit, &[("MUTANT", &number.to_string())])?;
        if status.signal() == Some(CPU_TIME_SPENT) {
            return Ok(Verdict::TimedOut(test.name.clone()));
        }
        if !status.success() {
            return Ok(Verdict::Killed(test.name.clone()));
        }
    }
    Ok(Verdict::Missed(came_past))
}

/// Runs one test in a process of its own with so many seconds of processor time.
fn run(test: &Test, seeds: u32, seconds: u64, environment: &[(&str, &String)]) -> Result<ExitStatus, Failed> {
    let limits = format!("ulimit -S -t {seconds}; ulimit -v {MEMORY_MAX}; ulimit -c 0; exec \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &limits, "bash"]).arg(&test.program).args([
        "--exact",
        &test.name,
        "--test-threads=1",
    ]);
    command.current_dir(&test.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(environment.iter().copied());
    // The same cases each time, and none written into the tree.
    command.envs([
        ("PROPTEST_RNG_SEED", "1"),
        ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
        ("INSTA_UPDATE", "no"),
    ]);
    command.env("SEEDS", seeds.to_string()).env("RUST_BACKTRACE", "0");
    command.status().map_err(|error| format!("{}: {error}", test.name))
}

/// What has been found out, kept in a file so that the work may be stopped at any time.
pub struct Verdicts {
    path: PathBuf,
    by_name: BTreeMap<String, String>,
}

impl Verdicts {
    /// Reads those of former runs.
    pub fn open(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Self { by_name: lines.map(|(name, verdict)| (name.to_owned(), verdict.to_owned())).collect(), path }
    }

    /// `killed by …`, `timed out in …`, `missed …`, `unviable`; nothing if it has not been judged.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// Notes one.
    pub fn note(&mut self, name: &str, verdict: String) -> Result<(), Failed> {
        self.by_name.insert(name.to_owned(), verdict);
        let lines: Vec<String> =
            self.by_name.iter().map(|(name, verdict)| format!("{name}\t{verdict}\n")).collect();
        let new = self.path.with_extension("new");
        fs::write(&new, lines.concat())
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|error| error.to_string())
    }
}
