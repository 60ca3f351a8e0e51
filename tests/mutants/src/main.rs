//! Judges every mutant of core with one build: `.ci/mutants`, explained in docs/mutants.md.
//!
//! cargo-mutants lists the mutants; all of them are planted into a copy of the repository, each behind a switch
//! (`plant`); the compiler says which are no programs (`tree`); the tests run once for each mutant that they come past
//! (`judge`). Mutants that cannot stand behind a switch get a build of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

mod judge;
mod list;
mod plant;
mod tree;

use judge::{Test, Verdict, Verdicts};
use list::Mutant;
use tree::{Fates, Tree};

/// Why it cannot go on, for a person.
type Failed = String;

/// The tests that judge core; `purity` builds a package of its own, and says nothing about behaviour.
const TESTS: [&str; 16] = [
    "--lib",
    "--test=canonical",
    "--test=fuzz_corpus",
    "--test=fuzz_worlds",
    "--test=legacy_samples",
    "--test=mesh",
    "--test=progress",
    "--test=protocol_document",
    "--test=restore",
    "--test=wire_decode",
    "--test=wire_memory",
    "--test=wire_properties",
    "--test=wire_shell",
    "--test=wire_snapshots",
    "--test=words",
    "--test=transcripts",
];

fn main() -> ExitCode {
    match all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mutants: {why}");
            ExitCode::FAILURE
        }
    }
}

fn number(variable: &str, default: u32) -> Result<u32, Failed> {
    match env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable}={text}: not a number")),
        Err(_) => Ok(default),
    }
}

fn all() -> Result<(), Failed> {
    let repository = env::current_dir().map_err(|error| error.to_string())?;
    let out = PathBuf::from(env::var_os("MUTANTS_OUT").unwrap_or_else(|| "target/mutants".into()));
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let out = out.canonicalize().map_err(|error| error.to_string())?;
    let (seeds, jobs) = (number("SEEDS", 60)?, number("JOBS", 2)?);
    let wanted = env::args().nth(1).unwrap_or_default();

    let mutants = list::of_core(&repository)?;
    let mut verdicts = Verdicts::open(out.join("verdicts.tsv"));
    let tree = Tree::copy(&repository, &out, &mutants)?;
    let fates = tree.plant(&mutants)?;
    let programs = tree.build_tests(&TESTS)?;
    let tests = judge::measure(&programs, &tree.folder, seeds, &out)?;
    eprintln!(
        "{} mutants, {} of them planted, {} tests",
        mutants.len(),
        planted(&mutants, &fates),
        tests.len()
    );

    for number in &fates.unviable {
        verdicts.note(&mutants[*number as usize - 1].name, "unviable".into())?;
    }
    let open: Vec<u32> = (1..)
        .zip(&mutants)
        .filter(|(_, mutant)| mutant.name.contains(&wanted))
        .filter(|(_, mutant)| verdicts.get(&mutant.name).is_none_or(|verdict| verdict.starts_with("missed")))
        .map(|(number, _)| number)
        .collect();
    let (alone, planted): (Vec<u32>, Vec<u32>) = open.into_iter().partition(|n| fates.alone.contains(n));
    let verdicts = Mutex::new(verdicts);
    judge_planted(&planted, &mutants, &tests, (seeds, jobs), &verdicts)?;
    let mut verdicts = verdicts.into_inner().map_err(|error| error.to_string())?;
    judge_alone(&alone, &mutants, &tree, (seeds, &out), &mut verdicts)?;
    table(&mutants, &verdicts);
    Ok(())
}

fn planted(mutants: &[Mutant], fates: &Fates) -> usize {
    mutants.len() - fates.unviable.len() - fates.alone.len()
}

/// Judges the planted ones, a few at a time.
fn judge_planted(
    numbers: &[u32],
    mutants: &[Mutant],
    tests: &[Test],
    (seeds, jobs): (u32, u32),
    verdicts: &Mutex<Verdicts>,
) -> Result<(), Failed> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), Failed> {
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = &mutants[*number as usize - 1].name;
            let verdict = words(&judge::judge(*number, tests, seeds)?);
            if verdict.starts_with("missed") {
                eprintln!("{name}: {verdict}");
            }
            verdicts.lock().map_err(|error| error.to_string())?.note(name, verdict)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a worker panicked".to_owned())?)
    })
}

/// Judges those that cannot be planted: each changes the file itself, in the copy.
fn judge_alone(
    numbers: &[u32],
    mutants: &[Mutant],
    tree: &Tree,
    (seeds, out): (u32, &Path),
    verdicts: &mut Verdicts,
) -> Result<(), Failed> {
    tree.clear()?;
    let mut tests = None;
    for number in numbers {
        let mutant = &mutants[*number as usize - 1];
        let text = tree.original(&mutant.file);
        let (start, end) = (mutant.span.start.offset(text), mutant.span.end.offset(text));
        let changed = format!("{} {} {}", &text[..start], mutant.replacement, &text[end..]);
        if tests.is_none() {
            let programs = tree.build_tests(&TESTS)?;
            tests = Some(judge::measure(&programs, &tree.folder, seeds, out)?);
        }
        tree.replace(&mutant.file, &changed)?;
        let verdict = if tree.compiles()? {
            // The programs are in the same places as without the mutant.
            tree.build_tests(&TESTS)?;
            words(&judge::judge(0, tests.as_deref().unwrap_or_default(), seeds)?)
        } else {
            "unviable".into()
        };
        tree.replace(&mutant.file, text)?;
        eprintln!("{} (alone): {verdict}", mutant.name);
        verdicts.note(&mutant.name, verdict)?;
    }
    Ok(())
}

fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Killed(test) => format!("killed by {test}"),
        Verdict::TimedOut(test) => format!("timed out in {test}"),
        Verdict::Missed(came_past) => format!("missed by {came_past} tests"),
    }
}

/// What docs/mutants.md shows.
fn table(mutants: &[Mutant], verdicts: &Verdicts) {
    let kinds = ["unviable", "killed", "timed out", "missed"];
    let mut counts: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    for mutant in mutants {
        let verdict = verdicts.get(&mutant.name).unwrap_or("not judged");
        let kind = kinds.iter().position(|kind| verdict.starts_with(kind)).unwrap_or(kinds.len());
        for row in [mutant.file.strip_prefix("core/src/").unwrap_or(&mutant.file), "~ all"] {
            let row = counts.entry(row).or_default();
            row[0] += 1;
            row[1 + kind] += 1;
        }
    }
    println!(
        "| file | mutants | unviable | killed | timed out | missed | not judged | killed or timed out |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (file, [all, unviable, killed, timed_out, missed, open]) in counts {
        let viable = (all - unviable).max(1);
        let tenths = (killed + timed_out) * 1000 / viable;
        let file = if file == "~ all" { "all".into() } else { format!("`{file}`") };
        println!(
            "| {file} | {all} | {unviable} | {killed} | {timed_out} | {missed} | {open} | {}.{} % |",
            tenths / 10,
            tenths % 10
        );
    }
}
