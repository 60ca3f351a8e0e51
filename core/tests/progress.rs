//! Text that is generated reaches the person piece by piece, however long it is, and no character is cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::VecDeque;
use std::time::Duration;

use bidmesh_core::draw::Seed;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::{Executor, Written};
use bidmesh_core::outbox::RunId;
use bidmesh_core::restore::Restored;
use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Report, Submission, Time};

/// A device that runs its own prompt; its store writes at once.
struct Alone {
    device: Device,
    now: Time,
    run: Option<RunId>,
    /// What the person was shown.
    shown: String,
    /// How many bytes at a time.
    parts: Vec<usize>,
}

impl Alone {
    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Outbox::default();
            self.device.handle(self.now, input, &mut out);
            self.device.check();
            for action in out.actions {
                match action {
                    Action::Persist { sequence, .. } => {
                        inputs.push_back(Input::Persisted { sequence, written: Written::Durable });
                    }
                    Action::Run { run, .. } => self.run = Some(run),
                    Action::Report(Report::Text { offset, text, .. }) => {
                        assert_eq!(offset, self.shown.len() as u64, "text has no gaps");
                        self.shown.push_str(&text);
                        self.parts.push(text.len());
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn long_text_is_told_in_parts_that_end_between_characters() {
    let me = Identity { device: DeviceId::new("A").unwrap(), address: None };
    let device = Device::new(me, Seed::from(1), Config::default(), Restored::default());
    let mut alone = Alone { device, now: Time::ZERO, run: None, shown: String::new(), parts: Vec::new() };
    alone.input(Input::ExecutorChanged(Executor { available: true, ..Executor::default() }));
    alone.input(Input::Submit(Submission::new(1, "hello")));
    let run = alone.run.unwrap();
    // More than fits one PROGRESS; the limit falls into the middle of a character.
    let text = format!("a{}", "é".repeat(300_000));
    alone.input(Input::Generated { run, offset: 0, text: text.as_str().into() });
    for _ in 0..10 {
        alone.now += Duration::from_millis(100);
        alone.input(Input::Wake);
    }
    assert!(alone.shown == text, "{} of {} bytes were shown", alone.shown.len(), text.len());
    assert!(alone.parts.iter().all(|bytes| *bytes <= 256 * 1024), "no part is too long: {:?}", alone.parts);
    assert_eq!(alone.parts.len(), 3, "and none shorter than it must be: {:?}", alone.parts);
}
