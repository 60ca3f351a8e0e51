//! What the person sees of an answer while it is generated: the contiguous beginning, and where it broke off. What is
//! shown in the end is exactly the RESULT.

use super::{Orchestrator, Task};
use crate::context::Context;
use crate::outbox::Report;
use crate::wire::Text;

impl Orchestrator {
    /// Tells the person that the answer shown so far is void, if it is this attempt's.
    pub(super) fn break_off(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32, why: &str) {
        let Some((_, shown)) = task.shown.filter(|(of, shown)| *of == number && *shown > 0) else { return };
        let Some(device) = task.attempts.get(&number).map(|attempt| attempt.device.clone()) else { return };
        task.shown = None;
        task.report(ctx, Report::BrokenOff { task: task.id.clone(), device, shown, why: why.into() });
    }

    /// More of the answer for the person: the contiguous beginning only, without gaps.
    pub(super) fn show(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32) {
        let Some(attempt) = task.attempts.get(&number) else { return };
        let shown = task.shown.filter(|(of, _)| *of == number).map_or(0, |(_, shown)| shown);
        let from = usize::try_from(shown).unwrap_or(usize::MAX);
        let Some(text) = attempt.text.as_str().get(from..).filter(|text| !text.is_empty()) else { return };
        let (device, text) = (attempt.device.clone(), Text::from(text));
        task.shown = Some((number, shown + text.len() as u64));
        task.report(ctx, Report::Text { task: task.id.clone(), device, offset: shown, text });
    }

    /// The whole answer is there: what is shown in the end is exactly it.
    pub(super) fn show_whole(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32, output: &Text) {
        let shown = match task.shown {
            Some((of, shown)) => {
                let text = task.attempts.get(&of).map_or("", |attempt| attempt.text.as_str());
                let same = usize::try_from(shown)
                    .ok()
                    .and_then(|to| text.get(..to))
                    .is_some_and(|t| output.starts_with(t));
                if of != number || !same {
                    self.break_off(ctx, task, of, "was overtaken by an answer that came whole");
                    0
                } else {
                    shown
                }
            }
            None => 0,
        };
        let Some(attempt) = task.attempts.get(&number) else { return };
        let rest = usize::try_from(shown).ok().and_then(|from| output.get(from..)).unwrap_or("");
        if !rest.is_empty() {
            let (device, text) = (attempt.device.clone(), rest.into());
            task.shown = Some((number, output.len() as u64));
            task.report(ctx, Report::Text { task: task.id.clone(), device, offset: shown, text });
        }
    }
}

impl Task {
    /// What a person sees while the task goes on; a peer's task has nobody who watches.
    fn report(&self, ctx: &mut Context<'_>, report: Report) {
        if self.origin == super::Origin::Person {
            ctx.report(report);
        }
    }
}
