//! A device that bids best and gives no result of its own (D9). At the end of a run it answers for work that it was
//! never given.

use std::time::Duration;

use bidmesh_core::Time;
use bidmesh_core::id::AwardId;
use bidmesh_core::outbox::RunId;
use bidmesh_core::wire::{Body, Dialect, Marker, Message, Status, TaskResult};

use super::World;
use super::choices::Choices;
use super::fault::{Fault, Phase};
use super::link::Crossing;
use super::trace::Line;

impl World {
    /// Instead of its result it sends those of other awards of the same asker.
    pub(super) fn lie(&mut self, liar: usize, run: RunId) {
        for (asker, award, what) in self.oracle.never_given(liar, run) {
            self.oracle.mark(what);
            self.faults.count(Fault::Liar, Phase::Finished);
            self.send_lie(liar, asker, award);
        }
    }

    fn send_lie(&mut self, liar: usize, asker: usize, award: AwardId) {
        let it = &self.nodes[liar];
        let boot = it.subject.device().snapshot(Time::ZERO).boot;
        let result = TaskResult {
            award: Some(award),
            device: Some(it.id.as_str().into()),
            status: Status::Completed,
            output: format!("a lie of {}", it.id).into(),
            output_was_not_utf8: false,
            speed: None,
        };
        let (from, marker) = (it.id.clone(), Some(Marker { version: Marker::VERSION, boot }));
        let message = Message { from, marker, body: Body::Result(result) };
        self.say(|w| Line::of(&w.nodes[liar].id, format!("-> lies to {}: {message:?}", w.nodes[asker].id)));
        let mut choices = Choices::split(self.plan.seed ^ self.events, "lies");
        let (phase, patience, storm) = (Phase::Finished, Duration::from_secs(2), self.stormy());
        let crossing = Crossing { from: liar, to: asker, phase, bytes: 200, patience };
        let mut passage = self.links.pass(&mut choices, &mut self.faults, crossing, storm);
        self.send_to_device(liar, asker, message, Dialect::Bidmesh, patience, &mut passage);
    }
}
