//! Seeds that once found something: they are run again each time, before new ones.

use std::ops::Range;

/// A seed that found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The seed.
    pub seed: u64,
    /// What it found.
    pub found: &'static str,
}

/// The seeds of `seeds.txt` for this test, in the order of the file.
///
/// # Panics
/// If a line of the file cannot be read: it names the line.
pub fn known_seeds(test: &str) -> Vec<Known> {
    read(include_str!("../seeds.txt"), test)
}

/// The seeds that a test runs: the known ones, then the fresh ones. The environment variable `BIDMESH_SIM_SEEDS` names
/// others instead: one (`17`), or a range for a long campaign (`1000..5000`).
///
/// # Panics
/// If `BIDMESH_SIM_SEEDS` is set and cannot be read.
pub fn seeds(test: &str, fresh: Range<u64>) -> Vec<u64> {
    match std::env::var("BIDMESH_SIM_SEEDS") {
        Ok(text) => {
            let seeds = range(&text);
            assert!(seeds.is_some(), "BIDMESH_SIM_SEEDS={text}: expected a number or FIRST..END");
            seeds.into_iter().flatten().collect()
        }
        Err(_) => known_seeds(test).into_iter().map(|known| known.seed).chain(fresh).collect(),
    }
}

fn range(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((first, end)) => Some(first.parse().ok()?..end.parse().ok()?),
        None => text.parse().ok().map(|seed| seed..seed + 1),
    }
}

fn read(file: &'static str, test: &str) -> Vec<Known> {
    let mut known = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.splitn(3, char::is_whitespace);
        let read = (|| Some((words.next()?, words.next()?.parse().ok()?, words.next()?.trim())))();
        assert!(read.is_some(), "seeds.txt, line {}: expected `TEST SEED what it found`: {line}", index + 1);
        known.extend(read.filter(|(name, ..)| *name == test).map(|(_, seed, found)| Known { seed, found }));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_test() {
        let file = "# a comment\n\nlossy 17 a task ended twice\nother 5 nothing\nlossy 18   spaces\n";
        let found = |seed, found| Known { seed, found };
        assert_eq!(read(file, "lossy"), [found(17, "a task ended twice"), found(18, "spaces")]);
        assert_eq!(read(file, "none"), []);
    }

    #[test]
    #[should_panic(expected = "seeds.txt, line 2")]
    fn a_line_that_cannot_be_read_is_named() {
        read("lossy 17 x\nlossy x y\n", "lossy");
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("17"), Some(17..18));
        assert_eq!(range("3..5"), Some(3..5));
        assert_eq!(range("3..x"), None);
    }

    #[test]
    fn the_file_can_be_read() {
        known_seeds("");
    }
}
