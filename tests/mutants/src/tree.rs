//! The copy of the repository that the mutants are planted in, and what the compiler says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Failed;
use crate::list::{Genre, Mutant};
use crate::plant::{Planted, plant};

/// Rounds in which mutants that do not compile are taken out: type errors hide borrow errors, and those hide others.
const ROUNDS_MAX: usize = 60;

/// Where the copy is, and where cargo builds it.
pub struct Tree {
    pub folder: PathBuf,
    pub target: PathBuf,
    /// The files with mutants, as they were when they were copied.
    originals: BTreeMap<String, String>,
}

/// What became of the mutants on the way to a build.
#[derive(Default)]
pub struct Fates {
    /// No program at all, planted or not.
    pub unviable: BTreeSet<u32>,
    /// Could not be planted; must be tried in a build of its own.
    pub alone: BTreeSet<u32>,
}

impl Tree {
    /// Copies what git knows of `repository`, with the changes that are not committed.
    pub fn copy(repository: &Path, out: &Path, mutants: &[Mutant]) -> Result<Self, Failed> {
        let mut tree =
            Self { folder: out.join("tree"), target: out.join("target"), originals: BTreeMap::new() };
        if tree.folder.exists() {
            fs::remove_dir_all(&tree.folder).map_err(|error| error.to_string())?;
        }
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(repository)
            .output()
            .map_err(|error| format!("git ls-files: {error}"))?;
        for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
            let to = tree.folder.join(name);
            if !repository.join(name).is_file() {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(|error| error.to_string())?;
            }
            fs::copy(repository.join(name), &to).map_err(|error| format!("{name}: {error}"))?;
        }
        for Mutant { file, .. } in mutants {
            let text =
                fs::read_to_string(tree.folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
            tree.originals.entry(file.clone()).or_insert(text);
        }
        let switch = repository.join("tests/mutants/switch");
        let switch = switch.canonicalize().map_err(|error| format!("{}: {error}", switch.display()))?;
        // Outside of the copy: a workspace takes every package in its folder for its own.
        let manifest = tree.folder.join("core/Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(|error| error.to_string())?;
        let dependency =
            format!("[dependencies]\nmutant-switch = {{ path = {:?} }}\n", switch.display().to_string());
        fs::write(&manifest, text.replacen("[dependencies]\n", &dependency, 1))
            .map_err(|error| error.to_string())?;
        // Where a mutant computes what the compiler sees overflow, the test that comes past it shall say so.
        let library = tree.folder.join("core/src/lib.rs");
        let text = fs::read_to_string(&library).map_err(|error| error.to_string())?;
        let allowed = format!("#![allow(arithmetic_overflow, unconditional_panic)]\n{text}");
        fs::write(&library, allowed).map_err(|error| error.to_string())?;
        Ok(tree)
    }

    /// Plants all mutants, and takes out those that do not compile.
    pub fn plant(&self, mutants: &[Mutant]) -> Result<Fates, Failed> {
        let mut fates = Fates::default();
        let mut constant = BTreeSet::new();
        for round in 1..=ROUNDS_MAX {
            let planted = self.write(mutants, &fates, &constant)?;
            let complaints = self.check()?;
            if complaints.is_empty() {
                for file in planted.values() {
                    fates.alone.extend(file.unplantable.iter().filter(|n| !fates.unviable.contains(n)));
                }
                return Ok(fates);
            }
            let before = (fates.unviable.len(), fates.alone.len(), constant.clone());
            for complaint in &complaints {
                sort_out(complaint, mutants, &planted, &mut fates, &mut constant);
            }
            eprintln!(
                "round {round}: {} complaints, {} mutants are no programs, {} to be built alone",
                complaints.len(),
                fates.unviable.len(),
                fates.alone.len()
            );
            if before == (fates.unviable.len(), fates.alone.len(), constant.clone()) {
                return Err(format!("no mutant is to blame for: {}", complaints[0].rendered));
            }
        }
        Err(format!("core does not compile after {ROUNDS_MAX} rounds"))
    }

    fn write(
        &self,
        mutants: &[Mutant],
        fates: &Fates,
        constant: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Planted>, Failed> {
        let mut by_file: BTreeMap<&str, Vec<(u32, &Mutant)>> = BTreeMap::new();
        for (number, mutant) in (1..).zip(mutants) {
            let file = by_file.entry(&mutant.file).or_default();
            if !fates.unviable.contains(&number) && !fates.alone.contains(&number) {
                file.push((number, mutant));
            }
        }
        let mut written = BTreeMap::new();
        for (file, mutants) in by_file {
            let planted = plant(self.original(file), &mutants, constant)?;
            fs::write(self.folder.join(file), &planted.text).map_err(|error| format!("{file}: {error}"))?;
            written.insert(file.to_owned(), planted);
        }
        Ok(written)
    }

    /// A file without mutants.
    pub fn original(&self, file: &str) -> &str {
        self.originals.get(file).map_or("", String::as_str)
    }

    /// Puts all files back as they were.
    pub fn clear(&self) -> Result<(), Failed> {
        self.originals.iter().try_for_each(|(file, text)| self.replace(file, text))
    }

    /// Puts `text` in the place of a file.
    pub fn replace(&self, file: &str, text: &str) -> Result<(), Failed> {
        fs::write(self.folder.join(file), text).map_err(|error| format!("{file}: {error}"))
    }

    /// What the compiler has against core; nothing if it compiles.
    fn check(&self) -> Result<Vec<Complaint>, Failed> {
        let output = self
            .cargo(&["check", "--package", "bidmesh-core", "--message-format", "json"])
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let complaints: Vec<Complaint> = messages(&output.stdout)
            .filter_map(|message| message.message)
            .filter(|message| message.level == "error" && !message.spans.is_empty())
            .collect();
        if complaints.is_empty() && !output.status.success() {
            return Err("cargo check fails without saying where".into());
        }
        Ok(complaints)
    }

    /// Whether core compiles as it stands in the copy.
    pub fn compiles(&self) -> Result<bool, Failed> {
        let status = self
            .cargo(&["check", "--quiet", "--package", "bidmesh-core"])
            .stderr(Stdio::null())
            .status()
            .map_err(|error| format!("cargo: {error}"))?;
        Ok(status.success())
    }

    /// Builds the tests: the programs, by the name of the test target.
    pub fn build_tests(&self, targets: &[&str]) -> Result<Vec<(String, PathBuf)>, Failed> {
        let mut command = self.cargo(&["test", "--no-run", "--message-format", "json"]);
        command.args(["--package", "bidmesh-core", "--package", "bidmesh-tests"]).args(targets);
        let output = command.stderr(Stdio::null()).output().map_err(|error| format!("cargo: {error}"))?;
        if !output.status.success() {
            let why =
                messages(&output.stdout).filter_map(|message| message.message).find(|m| m.level == "error");
            return Err(why.map_or("cargo test --no-run fails".into(), |message| message.rendered));
        }
        let built = messages(&output.stdout)
            .filter_map(|message| Some((message.target?.name, message.executable?, message.profile?)));
        Ok(built.filter(|(_, _, profile)| profile.test).map(|(name, path, _)| (name, path)).collect())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        // Nobody reads a backtrace here; the tests run thousands of times.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        command
    }
}

/// Who is to blame for a complaint: a mutant that it is about, or a function that must stay `const`.
fn sort_out(
    complaint: &Complaint,
    mutants: &[Mutant],
    planted: &BTreeMap<String, Planted>,
    fates: &mut Fates,
    constant: &mut BTreeSet<String>,
) {
    let code = complaint.code.as_ref().map_or("", |code| code.code.as_str());
    let blame = |primary: bool| -> BTreeSet<u32> {
        let spans = complaint.spans.iter().filter(|span| span.is_primary == primary);
        spans
            .filter_map(|span| {
                let around = planted
                    .get(&span.file_name)?
                    .ranges
                    .iter()
                    .filter(|(range, _)| range.start <= span.byte_start && span.byte_end <= range.end);
                around.min_by_key(|(range, _)| range.len()).map(|(_, number)| *number)
            })
            .collect()
    };
    let mut blamed = blame(true);
    if blamed.is_empty() {
        // What a mutant moved is missed elsewhere.
        blamed = blame(false);
    }
    for number in &blamed {
        let mutant = &mutants[*number as usize - 1];
        // Behind a switch two types must agree that need not agree without: `impl Trait`.
        let by_itself =
            matches!(code, "E0282" | "E0283" | "E0308" | "E0381" | "E0382" | "E0499" | "E0502" | "E0505");
        if by_itself && !(code == "E0308" && mutant.genre != Genre::FnValue) && !mutant.replacement.is_empty()
        {
            fates.alone.insert(*number);
        } else {
            fates.unviable.insert(*number);
        }
    }
    if blamed.is_empty() && code == "E0015" {
        // "cannot call non-const associated function `Time::from_start` in constants"
        if let Some(name) = complaint.message.split('`').nth(1) {
            let name = name.rsplit("::").next().unwrap_or(name).trim_end_matches("()");
            constant.insert(name.to_owned());
        }
    }
}

fn messages(output: &[u8]) -> impl Iterator<Item = CargoMessage> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[derive(Deserialize)]
struct CargoMessage {
    message: Option<Complaint>,
    target: Option<Target>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
    level: String,
    code: Option<Code>,
    spans: Vec<CodeSpan>,
    rendered: String,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct CodeSpan {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}
