//! A failure as a file: the seed, what was left out of its world, the rule that it breaks, and the run as it was when
//! the file was written. Such files stay in the tree (`sim/stories`); `bidmesh-sim replay FILE` plays one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::world::fault::Fault;
use crate::world::plan::{Plan, Size, Without};
use crate::world::{Defect, Summary, World};

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// What was found, a line each, for people.
    pub about: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The defect that is planted, if any.
    pub defect: Option<Defect>,
    /// What is left out.
    pub without: Without,
    /// The rule that is broken; `None`: none is, any more.
    pub breaks: Option<String>,
    /// The run when the file was written.
    pub lines: Vec<String>,
}

/// A story that was played.
#[derive(Clone, Debug)]
pub struct Played {
    /// What it came to.
    pub summary: Summary,
    /// Its run now.
    pub lines: Vec<String>,
    /// The first line, from 1, that is not as in the file; `None` also if the file has no run.
    pub differs: Option<usize>,
    /// Whether it broke the rule that the file names, or none if the file names none.
    pub as_told: bool,
}

impl Story {
    /// A failure that was made smaller.
    pub fn of(seed: u64, defect: Option<Defect>, without: Without) -> Self {
        let mut story = Self { seed, defect, without, ..Self::default() };
        let played = story.play();
        if let Some(violation) = &played.summary.violation {
            story.about = vec![violation.to_string()];
            story.breaks = Some(violation.rule.into());
        }
        story.lines = played.lines;
        story
    }

    /// Its world.
    pub fn plan(&self) -> Plan {
        Plan::draw(self.seed, Size::Drawn, &self.without)
    }

    /// Plays it.
    pub fn play(&self) -> Played {
        let mut world = World::new(self.plan(), self.defect).tracing();
        let summary = crate::campaign::guarded(self.seed, || world.play());
        let lines = world.lines().to_vec();
        let differs = (!self.lines.is_empty() && lines != self.lines).then(|| {
            let same = lines.iter().zip(&self.lines).take_while(|(now, then)| now == then).count();
            same + 1
        });
        let broken = summary.violation.as_ref().map(|violation| violation.rule);
        let as_told = broken == self.breaks.as_deref();
        Played { summary, lines, differs, as_told }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.about {
            writeln!(f, "# {}", line.escape_debug())?;
        }
        writeln!(f, "seed {}", self.seed)?;
        if let Some(defect) = self.defect {
            writeln!(f, "defect {}", defect.name())?;
        }
        let Without { faults, tasks, devices, shells, events } = &self.without;
        if !faults.is_empty() {
            let numbers: Vec<&str> = faults.iter().map(|fault| fault.number()).collect();
            writeln!(f, "without-faults {}", numbers.join(" "))?;
        }
        if let Some(devices) = devices {
            writeln!(f, "devices {devices}")?;
        }
        if *shells {
            writeln!(f, "without-shells")?;
        }
        if !tasks.is_empty() {
            writeln!(f, "without-prompts {}", ranges(tasks.iter().map(|task| *task as u64)))?;
        }
        if !events.is_empty() {
            writeln!(f, "without-events {}", ranges(events.iter().copied()))?;
        }
        writeln!(f, "breaks {}", self.breaks.as_deref().unwrap_or("nothing"))?;
        if !self.lines.is_empty() {
            writeln!(f, "---")?;
            self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        Ok(())
    }
}

/// Numbers in rising order, neighbours as `FIRST-LAST`.
fn ranges(numbers: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers.collect::<BTreeSet<_>>() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A file holds at most so many numbers: its size is that of a run, not of a typing error.
const MOST_NUMBERS: u64 = 10_000_000;

fn numbers(words: &str) -> Result<Vec<u64>, String> {
    let mut all = Vec::new();
    for word in words.split_whitespace() {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let read = |word: &str| word.parse::<u64>().map_err(|_| format!("{word:?} is no number"));
        let (first, last) = (read(first)?, read(last)?);
        if last.saturating_sub(first) > MOST_NUMBERS {
            return Err(format!("{word}: too many numbers"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

impl FromStr for Story {
    type Err = String;

    /// # Errors
    /// The line that cannot be read, and why.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut story = Self::default();
        let mut seed = None;
        let mut lines = text.lines().enumerate();
        for (number, line) in lines.by_ref() {
            if line == "---" {
                break;
            }
            if let Some(about) = line.strip_prefix('#') {
                story.about.push(about.trim().into());
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let read = match word {
                "" => Ok(()),
                "seed" => rest.parse().map(|read| seed = Some(read)).map_err(|_| "it is no seed".into()),
                _ => story.read(word, rest.trim()),
            };
            read.map_err(|why| format!("line {}: {line:?}: {why}", number + 1))?;
        }
        story.lines = lines.map(|(_, line)| line.into()).collect();
        story.seed = seed.ok_or("a line `seed NUMBER` is missing")?;
        Ok(story)
    }
}

impl Story {
    fn read(&mut self, word: &str, rest: &str) -> Result<(), String> {
        match word {
            "defect" => self.defect = Some(Defect::named(rest)?),
            "without-faults" => {
                for number in rest.split_whitespace() {
                    let fault = Fault::ALL.iter().find(|fault| fault.number() == number);
                    self.without.faults.push(*fault.ok_or("there is no such kind of fault")?);
                }
            }
            "devices" => {
                let devices = rest.parse().map_err(|_| "it is no number of devices")?;
                self.without.devices = Some(devices);
            }
            "without-shells" => self.without.shells = true,
            "without-prompts" => {
                let prompts = numbers(rest)?.into_iter().map(usize::try_from).collect::<Result<_, _>>();
                self.without.tasks = prompts.map_err(|error| error.to_string())?;
            }
            "without-events" => self.without.events = numbers(rest)?.into_iter().collect(),
            "breaks" => self.breaks = (rest != "nothing").then(|| rest.into()),
            _ => return Err("the word is not known".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_read_as_it_was_written() {
        let story = Story {
            about: vec!["S7 does not hold".into()],
            seed: 17,
            defect: Some(Defect::CopiesRun),
            without: Without {
                faults: vec![Fault::Cut, Fault::Swizzled],
                tasks: vec![1, 2, 3, 7],
                devices: Some(2),
                shells: true,
                events: [5, 6, 9].into(),
            },
            breaks: Some("S7".into()),
            lines: vec!["     0.001 D0    <- Wake".into()],
        };
        let text = story.to_string();
        assert!(text.contains("without-prompts 1-3 7\nwithout-events 5-6 9\n"), "{text}");
        assert_eq!(text.parse(), Ok(story));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = |text: &str| text.parse::<Story>().unwrap_err();
        assert_eq!(error("seed x"), "line 1: \"seed x\": it is no seed");
        assert_eq!(error("# nothing"), "a line `seed NUMBER` is missing");
        assert_eq!(
            error("seed 1\nwithout-faults M99"),
            "line 2: \"without-faults M99\": there is no such kind of fault"
        );
        assert!(error("seed 1\nwithout-events 1-99999999999").contains("too many"));
    }
}
