//! Says which mutant is switched on, and notes which ones a run comes past.
//!
//! `MUTANT=n` switches on mutant `n`. `MUTANTS_REACHED=FILE` appends the number of every mutant that is come past, once
//! each, a line each.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{LazyLock, Mutex};

static ON: LazyLock<Option<u32>> =
    LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()));

static REACHED: LazyLock<Option<Mutex<Reached>>> = LazyLock::new(|| {
    let path = std::env::var_os("MUTANTS_REACHED")?;
    let file = OpenOptions::new().append(true).create(true).open(path).ok()?;
    Some(Mutex::new(Reached { numbers: BTreeSet::new(), file }))
});

struct Reached {
    numbers: BTreeSet<u32>,
    file: File,
}

/// Whether mutant `number` is switched on.
#[inline]
pub fn on(number: u32) -> bool {
    match *ON {
        Some(on) => on == number,
        None => {
            note(number);
            false
        }
    }
}

fn note(number: u32) {
    let Some(reached) = &*REACHED else { return };
    // A test that panics while it holds this has failed already.
    let Ok(mut reached) = reached.lock() else { return };
    if reached.numbers.insert(number) {
        // Unbuffered: a process may end in any way. What cannot be written makes a mutant look unreached, and is shown.
        if let Err(error) = writeln!(reached.file, "{number}") {
            eprintln!("mutant-switch: {error}");
        }
    }
}
