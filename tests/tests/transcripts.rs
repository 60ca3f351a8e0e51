//! The protocol's specification by example: `tests/transcripts/*.txt`, one device, an input at a time, and what it
//! did. `BLESS=1 cargo test -p bidmesh-tests --test transcripts` rewrites what is expected; read the diff.
//!
//! The form is explained in `tests/transcripts/README.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

mod transcript;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

#[test]
fn devices_do_what_the_transcripts_say() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let files = files();
    assert!(!files.is_empty(), "there are transcripts");
    for file in files {
        let wanted = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let played = transcript::play(&name, &wanted);
        if played == wanted {
            continue;
        }
        if bless {
            fs::write(&file, played).unwrap();
        } else {
            wrong.push(format!("{name}:\n{}", difference(&wanted, &played)));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites what is expected\n{}", wrong.join("\n"));
}

/// The first lines in which two texts differ, with a few before them.
fn difference(wanted: &str, played: &str) -> String {
    let (wanted, played): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), played.lines().collect());
    let at = wanted.iter().zip(&played).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str], mark: &str| -> String {
        lines.iter().skip(at).take(6).map(|line| format!("{mark} {line}\n")).collect()
    };
    let before: String = wanted[at.saturating_sub(3)..at].iter().map(|line| format!("  {line}\n")).collect();
    format!("line {}\n{before}{}{}", at + 1, part(&wanted, "-"), part(&played, "+"))
}
