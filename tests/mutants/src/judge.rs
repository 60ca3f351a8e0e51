//! Runs the tests: once as they are, to learn how long each takes and which mutants it comes past; then, mutant by
//! mutant, those that come past it, the quickest first, until one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failed;
use crate::package::Package;

/// What a shell says of a program that was ended by SIGXCPU, on Linux.
const CPU_TIME_SPENT: i32 = 128 + 24;
/// What `timeout -s KILL` says of a program that it ended.
const TIME_SPENT: i32 = 128 + 9;
/// Some mutants allocate without end; kibibytes.
const MEMORY_MAX: u64 = 4 * 1024 * 1024;
/// A mutant may kill whatever it finds, and leave running what it should have killed: here both end with its test.
const CONFINED: [&str; 6] =
    ["--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc"];

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
    /// This test ran out of its time.
    TimedOut(String),
    /// By no test; so many came past it.
    Missed(usize),
}

/// How tests are run.
pub struct Court<'a> {
    pub package: &'a Package,
    /// For tests that draw worlds.
    pub seeds: u32,
}

impl Court<'_> {
    /// Finds all tests and measures each.
    pub fn measure(&self, programs: &[(PathBuf, PathBuf)], out: &Path) -> Result<Vec<Test>, Failed> {
        let mut tests = Vec::new();
        for (folder, program) in programs {
            let listed = Command::new(program)
                .args(["--list", "--format", "terse"])
                .current_dir(folder)
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
            let variable = ("MUTANTS_REACHED", &*reached.display().to_string());
            let mut begun = Instant::now();
            let mut code = self.run(test, 600, variable)?;
            if self.package.touches_machine && code != Some(0) {
                begun = Instant::now();
                code = self.run(test, 600, variable)?;
            }
            test.took = begun.elapsed();
            if code != Some(0) {
                return Err(format!("{} fails without any mutant", test.name));
            }
            if let Ok(text) = fs::read_to_string(&reached) {
                test.reaches = text.lines().filter_map(|line| line.parse().ok()).collect();
            }
        }
        tests.sort_by_key(|test| test.took);
        Ok(tests)
    }

    /// Judges mutant `number` with the tests that come past it.
    pub fn judge(&self, number: u32, tests: &[Test]) -> Result<Verdict, Failed> {
        let reaching = tests.iter().filter(|test| test.reaches.contains(&number));
        self.judge_with(number, reaching)
    }

    /// Judges the code as it stands, with all tests; those first that come past a mutant of `near`.
    pub fn judge_as_it_stands(&self, near: &BTreeSet<u32>, tests: &[Test]) -> Result<Verdict, Failed> {
        let (first, last): (Vec<&Test>, Vec<&Test>) =
            tests.iter().partition(|test| !test.reaches.is_disjoint(near));
        self.judge_with(0, first.into_iter().chain(last))
    }

    fn judge_with<'t>(&self, number: u32, tests: impl Iterator<Item = &'t Test>) -> Result<Verdict, Failed> {
        let mut came_past = 0;
        for test in tests {
            came_past += 1;
            // Without a mutant there is nothing to write down, which is quicker; and the machine may be busy.
            let limit = 2 + 4 * test.took.as_secs();
            let run = || self.run(test, limit, ("MUTANT", &number.to_string()));
            let mut code = run()?;
            if self.package.touches_machine && !matches!(code, Some(0 | CPU_TIME_SPENT | TIME_SPENT)) {
                code = run()?;
            }
            match code {
                Some(0) => {}
                Some(CPU_TIME_SPENT | TIME_SPENT) => return Ok(Verdict::TimedOut(test.name.clone())),
                _ => return Ok(Verdict::Killed(test.name.clone())),
            }
        }
        Ok(Verdict::Missed(came_past))
    }

    /// Runs one test in a process of its own with so many seconds of processor time; its exit code, as a shell has it.
    fn run(&self, test: &Test, seconds: u64, variable: (&str, &str)) -> Result<Option<i32>, Failed> {
        // The last `exit` keeps the shell from making way for the program, whose end by a signal it is to tell.
        let limits = format!("ulimit -S -t {seconds}; ulimit -v {MEMORY_MAX}; ulimit -c 0");
        let mut command = if self.package.touches_machine {
            let mut confined = Command::new("unshare");
            confined.args(CONFINED).args(["bash", "-c"]);
            // A test that waits spends no processor time.
            confined.arg(format!("{limits}; timeout -s KILL {} \"$@\"; exit $?", 10 + 2 * seconds));
            confined
        } else {
            let mut shell = Command::new("bash");
            shell.arg("-c").arg(format!("{limits}; \"$@\"; exit $?"));
            shell
        };
        command.arg("bash").arg(&test.program).args(["--exact", &test.name, "--test-threads=1"]);
        command.current_dir(&test.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The same cases each time, and none written into the tree.
        command.envs([
            variable,
            ("PROPTEST_RNG_SEED", "1"),
            ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
            ("INSTA_UPDATE", "no"),
            ("RUST_BACKTRACE", "0"),
        ]);
        command.env("SEEDS", self.seeds.to_string()).env("BIDMESH_SIM_SEEDS", format!("0..{}", self.seeds));
        let status = command.status().map_err(|error| format!("{}: {error}", test.name))?;
        Ok(status.code())
    }
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
