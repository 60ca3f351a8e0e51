//! A run as one self-contained page: time runs down, a lane a device, messages as arrows, auctions and runs as boxes;
//! a click shows the bytes. Nothing is loaded from anywhere.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::id::TaskId;
use serde::Serialize;

use crate::world::link::Passage;

/// So many arrows are drawn at most: beyond, a browser is no longer quick.
const ARROWS: usize = 20_000;

/// What a mark of a lane says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// From here on the device does nothing.
    Down,
    /// From here on it does.
    Up,
    /// Anything else worth a word.
    Note,
    /// Worth a dot, and words when it is clicked.
    Dot,
}

/// A point of a lane.
#[derive(Debug, Serialize)]
struct Point {
    lane: usize,
    at: f64,
    what: Mark,
    text: String,
}

/// A message, with each time that it arrives.
#[derive(Debug, Serialize)]
struct Arrow {
    from: usize,
    to: usize,
    sent: f64,
    arrives: Vec<f64>,
    cut: bool,
    told: String,
    kind: String,
    bytes: String,
}

/// A stretch of a lane: an auction, an attempt, a run.
#[derive(Debug, Serialize)]
struct Stretch {
    lane: usize,
    from: f64,
    to: Option<f64>,
    what: &'static str,
    name: String,
    lines: Vec<String>,
}

/// A prompt, for the list beside the drawing.
#[derive(Debug, Serialize)]
struct Asked {
    task: String,
    lane: usize,
    /// When its first auction opened; or, if none did, when it ended.
    from: f64,
    to: Option<f64>,
    /// Missing while nobody was told how it ended.
    status: Option<&'static str>,
    attempts: u32,
}

/// What is drawn.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    title: String,
    lanes: Vec<String>,
    points: Vec<Point>,
    arrows: Vec<Arrow>,
    left_out: usize,
    boxes: Vec<Stretch>,
    prompts: Vec<Asked>,
    /// Where each prompt of a lane stands in that list.
    #[serde(skip)]
    asked: BTreeMap<(usize, String), usize>,
    /// Stretches that have not ended, by lane and name.
    #[serde(skip)]
    open: BTreeMap<(usize, String), usize>,
}

impl Page {
    pub(crate) const fn new(title: String, lanes: Vec<String>) -> Self {
        Self {
            title,
            lanes,
            points: Vec::new(),
            arrows: Vec::new(),
            left_out: 0,
            boxes: Vec::new(),
            prompts: Vec::new(),
            asked: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    pub(crate) fn mark(&mut self, lane: usize, at: Duration, what: Mark, text: &str) {
        if what == Mark::Down {
            // What it did ends with it.
            let ended: Vec<_> = self.open.keys().filter(|(of, _)| *of == lane).cloned().collect();
            for (lane, name) in ended {
                self.close(lane, name, at, &format!("the device {text}"));
            }
        }
        self.points.push(Point { lane, at: at.as_secs_f64(), what, text: text.into() });
    }

    pub(crate) fn arrow(
        &mut self,
        from: usize,
        to: usize,
        at: Duration,
        passage: &Passage,
        kind: String,
        bytes: String,
    ) {
        if self.arrows.len() >= ARROWS {
            self.left_out += 1;
            return;
        }
        let told = passage.told.map_or_else(|| "delivered".into(), |why| format!("{why:?}"));
        let told = format!("{told}, after {:.3} s", passage.told_after.as_secs_f64());
        let arrives = passage.arrives.iter().map(|after| (at + *after).as_secs_f64()).collect();
        let (sent, cut) = (at.as_secs_f64(), passage.cut.is_some());
        self.arrows.push(Arrow { from, to, sent, arrives, cut, told, kind, bytes });
    }

    /// What a device noticed.
    pub(crate) fn event(&mut self, lane: usize, at: Duration, event: &Event) {
        match event {
            Event::Opened { task, asked } => {
                self.prompt(lane, task, at);
                self.close(lane, format!("auction {task}"), at, "another auction");
                self.open(lane, "auction", format!("auction {task}"), at);
                self.add(lane, &format!("auction {task}"), format!("{asked} devices are asked"));
            }
            Event::BidTaken { task, from } => {
                self.add(lane, &format!("auction {task}"), format!("{from} bids"));
            }
            Event::Refused { task, from, reason } => {
                let line = format!("{from} refuses: {}", word(reason));
                self.add(lane, &format!("auction {task}"), line);
            }
            Event::Awarded { task, to, attempt, why } => {
                self.prompt(lane, task, at).attempts += 1;
                self.close(lane, format!("auction {task}"), at, why);
                self.open(lane, "attempt", format!("attempt {attempt} of {task} at {to}"), at);
            }
            Event::Accepted { task, by, attempt } => {
                let name = format!("attempt {attempt} of {task} at {by}");
                self.add(lane, &name, format!("accepted after {:.3} s", at.as_secs_f64()));
            }
            Event::AttemptLost { task, device, attempt, why } => {
                self.close(lane, format!("attempt {attempt} of {task} at {device}"), at, why);
            }
            Event::Resting { task, .. } => {
                self.close(lane, format!("auction {task}"), at, "everybody is busy: it rests")
            }
            Event::Finished { task, status } => {
                let asked = self.prompt(lane, task, at);
                (asked.to, asked.status) = (Some(at.as_secs_f64()), Some(status.as_str()));
                let end = format!("the task is over: {}", status.as_str());
                let name = task.to_string();
                let ended = self.open.keys().filter(|(of, what)| *of == lane && what.contains(&name));
                for (lane, name) in ended.cloned().collect::<Vec<_>>() {
                    self.close(lane, name, at, &end);
                }
                self.mark(lane, at, Mark::Note, &format!("{task} {}", status.as_str()));
            }
            Event::RunStarted { from, run, label } => {
                self.open(lane, "run", format!("run {}", run.0), at);
                self.add(lane, &format!("run {}", run.0), format!("{label} for {from}"));
            }
            Event::RunEnded { run, status } => {
                self.close(lane, format!("run {}", run.0), at, status.as_str());
            }
            Event::Ignored { .. } | Event::Declined { .. } => {}
            other => self.mark(lane, at, Mark::Dot, &short(&format!("{other:?}"))),
        }
    }

    /// The entry of a prompt; a new one if it was not heard of.
    fn prompt(&mut self, lane: usize, task: &TaskId, at: Duration) -> &mut Asked {
        let task = task.to_string();
        let next = self.prompts.len();
        let number = *self.asked.entry((lane, task.clone())).or_insert(next);
        if number == next {
            let from = at.as_secs_f64();
            self.prompts.push(Asked { task, lane, from, to: None, status: None, attempts: 0 });
        }
        &mut self.prompts[number]
    }

    fn open(&mut self, lane: usize, what: &'static str, name: String, at: Duration) {
        self.open.insert((lane, name.clone()), self.boxes.len());
        let from = at.as_secs_f64();
        self.boxes.push(Stretch { lane, from, to: None, what, name, lines: Vec::new() });
    }

    fn add(&mut self, lane: usize, name: &str, line: String) {
        let number = self.open.get(&(lane, name.into()));
        if let Some(open) = number.and_then(|number| self.boxes.get_mut(*number)) {
            open.lines.push(line);
        }
    }

    fn close(&mut self, lane: usize, name: String, at: Duration, why: &str) {
        let number = self.open.remove(&(lane, name));
        if let Some(open) = number.and_then(|number| self.boxes.get_mut(number)) {
            open.to = Some(at.as_secs_f64());
            open.lines.push(why.into());
        }
    }

    /// The whole page.
    pub(crate) fn html(self, verdict: &str, end: Duration) -> String {
        #[derive(Serialize)]
        struct Run<'a> {
            verdict: &'a str,
            end: f64,
            #[serde(flatten)]
            page: Page,
        }
        let run = Run { verdict, end: end.as_secs_f64(), page: self };
        let json = serde_json::to_string(&run).unwrap_or_else(|error| format!("{{\"title\":\"{error}\"}}"));
        // Inside a script element only this could end it.
        let json = json.replace("</", "<\\/").replace("<!--", "<\\u0021--");
        include_str!("page.html").replace("/*RUN*/null", &json)
    }
}

fn word(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_core::id::DeviceId;
    use bidmesh_core::outbox::OutcomeStatus;

    #[test]
    fn a_box_ends_with_its_task_and_text_cannot_leave_the_script() {
        let mut page = Page::new("a run".into(), vec!["D0".into()]);
        let task = TaskId::new("task_0000000000001").unwrap();
        let second = Duration::from_secs(1);
        page.event(0, second, &Event::Opened { task: task.clone(), asked: 2 });
        let from = DeviceId::new("D1").unwrap();
        page.event(0, second, &Event::BidTaken { task: task.clone(), from });
        let status = OutcomeStatus::Nobody;
        page.event(0, 3 * second, &Event::Finished { task, status });
        assert_eq!((page.boxes[0].to, page.boxes[0].lines.len()), (Some(3.0), 3));
        let asked = &page.prompts[0];
        assert_eq!((asked.from, asked.to, asked.status), (1.0, Some(3.0), Some(status.as_str())));
        let passage = Passage { arrives: vec![second], cut: None, told_after: second, told: None };
        page.arrow(0, 0, second, &passage, "TEXT".into(), "</script><script>alert(1)".into());
        let html = page.html("no rule was broken", 4 * second);
        assert!(html.contains(r#""bytes":"<\/script><script>alert(1)""#), "{html}");
        assert_eq!(html.matches("</script>").count(), 1);
    }
}
