//! Work of an earlier start: results that nobody has taken yet are offered again, what was taken is known again, and
//! what was running is reported as lost to whoever asked for it. The owner's pause goes on.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::memory::Remembered;
use super::work::{Work, WorkKey};
use super::{Bidder, Context, Paused};
use crate::outbox::{Event, Record};
use crate::time::Time;
use crate::wire::{Dialect, Speed, Status, Text};

/// What whoever asked is told of a run that ended with its device.
const LOST: &str = "it was stopped while it ran the prompt";

impl Bidder {
    /// Takes up what the store has, oldest first, each with its age. What is the orchestrator's is not looked at.
    pub(crate) fn restore(&mut self, ctx: &mut Context<'_>, records: &[(Record, Duration)]) {
        let mut running: BTreeMap<WorkKey, (Dialect, Duration)> = BTreeMap::new();
        let mut paused = None;
        for (record, age) in records {
            match record {
                Record::Started { orchestrator, award, digest, dialect } => {
                    running.insert(WorkKey::restored(orchestrator, award, *digest), (*dialect, *age));
                }
                Record::Kept { orchestrator, award, digest, dialect, status, output, speed } => {
                    let key = WorkKey::restored(orchestrator, award, *digest);
                    running.remove(&key);
                    self.restore_kept(ctx, key, *dialect, (*status, output.clone(), *speed), *age);
                }
                Record::Forgotten { orchestrator, award, digest } => {
                    let key = WorkKey::restored(orchestrator, award, *digest);
                    running.remove(&key);
                    self.works.remove(&key);
                    let limit = ctx.config.limits.tombstones;
                    self.memory.remember(key, Remembered::Done, None, Time::ZERO, limit);
                }
                Record::Paused { during } => paused = still_paused(*during, *age),
                Record::Resumed => paused = None,
                Record::Task { .. } | Record::Award { .. } | Record::Outcome { .. } => {}
            }
        }
        if let Some(paused) = paused.filter(|_| !self.owner_spoke) {
            ctx.tell(Event::StillPaused { until: paused.until() });
            self.paused = Some(paused);
        }
        for (key, (dialect, age)) in running {
            ctx.tell(Event::RunLost { from: key.from.clone(), label: label(&key) });
            self.restore_kept(ctx, key, dialect, (Status::HandedBack, LOST.into(), None), age);
        }
    }

    fn restore_kept(
        &mut self,
        ctx: &mut Context<'_>,
        key: WorkKey,
        dialect: Dialect,
        result: (Status, Text, Option<Speed>),
        age: Duration,
    ) {
        let timing = &ctx.config.timing;
        let left = timing.result_kept.saturating_sub(age);
        let work = Work::kept(label(&key), dialect, result, Time::ZERO + left, timing.result_offer);
        self.works.insert(key.clone(), work);
        if left.is_zero() {
            // It became too old while this device was off.
            self.forget(ctx, &key);
        }
    }
}

/// Only work that names an award is written down.
fn label(key: &WorkKey) -> String {
    key.award.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// What is left of a pause, this long after it began. This start's time is zero.
fn still_paused(during: Option<Duration>, age: Duration) -> Option<Paused> {
    let Some(during) = during else { return Some(Paused::UntilResumed) };
    let left = during.saturating_sub(age);
    (!left.is_zero()).then_some(Paused::Until(Time::ZERO + left))
}
