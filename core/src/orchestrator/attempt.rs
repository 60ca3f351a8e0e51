//! One award of one task to one device, from its record on disk to its end; and the text that came of it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::net::SocketAddr;

use crate::canonical::Renewal;
use crate::config::{Limits, Timing};
use crate::id::{AwardId, DeviceId};
use crate::outbox::{SendId, Sequence};
use crate::time::Time;
use crate::wire::{BidRequest, Dialect, Text};

use crate::id::BidId;

/// An award. Address and dialect stay as they were when it was made, whatever the address book learns later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) award: AwardId,
    pub(crate) device: DeviceId,
    pub(crate) is_me: bool,
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
    pub(crate) npu: bool,
    pub(crate) bid: Option<BidId>,
    pub(crate) stage: Stage,
    /// The worker said, or showed, that it runs it.
    pub(crate) accepted: bool,
    /// It counts as a slot taken at the device.
    pub(crate) holds: bool,
    /// The worker said how it ended, or that it never began: nothing there needs to be stopped.
    pub(crate) ended: bool,
    /// The device was proven not to run it; a RESULT all the same proves that wrong.
    pub(crate) probed_out: bool,
    pub(crate) text: Assembly,
}

/// How far an award has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Not before it is on disk may it leave.
    Persisting { sequence: Sequence },
    /// TASK is on its way.
    Sending { letter: Option<SendId> },
    /// The worker has read TASK and owes an ACCEPT.
    Delivered { accept_by: Time },
    /// It runs, as far as is known.
    Running(Running),
    /// It was silent for too long and is asked by QUERY.
    Asking { running: Running, answer_by: Time, letter: Option<SendId> },
    /// It was slow, and another attempt runs beside it; the first good RESULT of the two wins.
    Beside(Running),
    /// Given up; a good RESULT is still welcome.
    Over,
}

/// The clocks of a running award.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    /// Without a RESULT the attempt ends then; PROGRESS moves it.
    pub(crate) result_by: Time,
    /// It ends then in any case.
    pub(crate) limit_by: Time,
    /// Without a word it is asked then; `None` for this device itself and for shell devices.
    pub(crate) silent_at: Option<Time>,
    /// Without any text another device starts beside it then.
    pub(crate) hedge_at: Option<Time>,
    pub(crate) probe: Probe,
}

/// Whether a shell device still runs our task: while it does, it is deaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Probe {
    /// It is no shell device, or probes prove nothing there.
    Never,
    Next(Time),
    /// A HELLO is on its way.
    Offered,
    /// It took the HELLO: without a RESULT by then the task is lost.
    Judging(Time),
}

impl Stage {
    pub(crate) fn timer(&self) -> Option<(Time, &'static str)> {
        match self {
            Self::Persisting { .. } | Self::Sending { .. } | Self::Beside(_) | Self::Over => None,
            Self::Delivered { accept_by } => Some((*accept_by, "the winner owes an ACCEPT")),
            Self::Asking { answer_by, .. } => Some((*answer_by, "the worker owes an answer to QUERY")),
            Self::Running(running) => Some(running.timer()),
        }
    }
}

impl Running {
    fn timer(&self) -> (Time, &'static str) {
        let end = self.result_by.min(self.limit_by);
        let mut timer = (end, "the worker owes a RESULT");
        if let Some(silent_at) = self.silent_at
            && silent_at < timer.0
        {
            timer = (silent_at, "the worker was silent for too long");
        }
        if let Some(hedge_at) = self.hedge_at
            && hedge_at < timer.0
        {
            timer = (hedge_at, "the first text is late");
        }
        match self.probe {
            Probe::Next(at) if at < timer.0 => (at, "a shell device is to be probed"),
            Probe::Judging(at) if at < timer.0 => (at, "a shell device that took a HELLO owes a RESULT"),
            _ => timer,
        }
    }

    /// The worker gave a sign of life. `progress`: one that promises a RESULT; an ACCEPT only says that it has not
    /// forgotten.
    pub(crate) fn heard(&mut self, now: Time, timing: &Timing, progress: Option<core::time::Duration>) {
        if let Some(result_timeout) = progress {
            self.result_by = now + result_timeout;
        }
        if self.silent_at.is_some() {
            self.silent_at = Some(now + timing.progress_deadline);
        }
    }
}

impl Attempt {
    /// Whether the worker may have read the TASK and not said yet how it ended.
    pub(crate) fn may_run(&self) -> bool {
        !self.ended
            && matches!(
                self.stage,
                Stage::Sending { .. }
                    | Stage::Delivered { .. }
                    | Stage::Running(_)
                    | Stage::Asking { .. }
                    | Stage::Beside(_)
            )
    }
}

/// Text that arrives in pieces, in any order, some of them twice: only the contiguous beginning is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Assembly {
    text: String,
    pieces: BTreeMap<u64, Text>,
}

impl Assembly {
    pub(crate) fn len(&self) -> u64 {
        self.text.len() as u64
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes a piece; returns where the contiguous text has grown from.
    pub(crate) fn add(&mut self, offset: u64, piece: &Text, limits: &Limits) -> usize {
        let before = self.text.len();
        if piece.is_empty() {
            return before;
        }
        // What goes on from the text at hand is not kept as a piece.
        let room = offset <= self.len() || self.pieces.len() < limits.pieces;
        if room && offset.saturating_add(piece.len() as u64) <= limits.output_bytes as u64 {
            // Of two pieces at one offset the longer says more.
            let known = self.pieces.entry(offset).or_insert_with(|| piece.clone());
            if known.len() < piece.len() {
                *known = piece.clone();
            }
        }
        while let Some((offset, piece)) = self.pieces.first_key_value().map(|(o, p)| (*o, p.clone())) {
            let Some(known) = self.len().checked_sub(offset) else { break };
            self.pieces.pop_first();
            // A peer may lie about offsets: what would cut a character in two is dropped.
            if let Some(rest) = usize::try_from(known).ok().and_then(|known| piece.get(known..)) {
                self.text.push_str(rest);
            }
        }
        before
    }
}

/// A BID_REQUEST for a task.
pub(crate) fn bid_request(
    task: &super::Task,
    deadline: core::time::Duration,
    with_prompt: bool,
) -> BidRequest {
    BidRequest {
        task: Some(task.id.clone()),
        task_type: Some(crate::wire::TASK_TYPE_INFERENCE.into()),
        prompt: with_prompt.then(|| task.prompts.base.clone()),
        prompt_bytes: Some(task.prompts.bytes_max() as u64),
        deadline: Some(deadline),
    }
}

impl Attempt {
    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal) {
        match &mut self.stage {
            Stage::Persisting { sequence } => {
                *sequence = by.numbers.sequence(*sequence).unwrap_or(*sequence);
            }
            Stage::Sending { letter } => *letter = letter.and_then(|letter| by.numbers.send(letter)),
            Stage::Delivered { accept_by } => *accept_by = by.due(*accept_by),
            Stage::Running(running) | Stage::Beside(running) => running.canonical(by),
            Stage::Asking { running, answer_by, letter } => {
                running.canonical(by);
                *answer_by = by.due(*answer_by);
                *letter = letter.and_then(|letter| by.numbers.send(letter));
            }
            Stage::Over => {}
        }
    }
}

impl Running {
    fn canonical(&mut self, by: &Renewal) {
        self.result_by = by.due(self.result_by);
        self.limit_by = by.due(self.limit_by);
        self.silent_at = self.silent_at.map(|at| by.due(at));
        self.hedge_at = self.hedge_at.map(|at| by.due(at));
        if let Probe::Next(at) | Probe::Judging(at) = &mut self.probe {
            *at = by.due(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn only_the_contiguous_beginning_counts() {
        let (mut text, limits) = (Assembly::default(), Limits::default());
        text.add(0, &"ab".into(), &limits);
        text.add(4, &"ef".into(), &limits);
        assert_eq!(text.as_str(), "ab");
        assert_eq!(text.add(1, &"bcd".into(), &limits), 2);
        assert_eq!(text.as_str(), "abcdef");
    }

    #[test]
    fn offsets_inside_a_character_and_beyond_all_limits_change_nothing() {
        let (mut text, limits) = (Assembly::default(), Limits::default());
        text.add(0, &"é".into(), &limits);
        text.add(1, &"éx".into(), &limits);
        text.add(u64::MAX, &"x".into(), &limits);
        assert!(text.as_str().starts_with('é'));
        for offset in 0..10_000 {
            text.add(100 + offset, &"x".into(), &limits);
        }
        assert!(text.pieces.len() <= limits.pieces);
    }

    proptest! {
        #[test]
        fn any_order_with_copies_gives_the_text(whole in "\\PC{0,60}", cuts in prop::collection::vec(0usize..80, 0..8), order in prop::collection::vec(any::<prop::sample::Index>(), 20)) {
            let mut at: Vec<usize> = cuts.into_iter().filter(|c| whole.is_char_boundary(*c)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            at.dedup();
            let pieces: Vec<(u64, Text)> = at.windows(2).map(|w| (w[0] as u64, whole[w[0]..w[1]].into())).collect();
            let mut text = Assembly::default();
            if !pieces.is_empty() {
                for index in order {
                    let (offset, piece) = index.get(&pieces);
                    text.add(*offset, piece, &Limits::default());
                    prop_assert!(whole.starts_with(text.as_str()));
                }
                for (offset, piece) in pieces.iter().rev() {
                    text.add(*offset, piece, &Limits::default());
                }
            }
            prop_assert_eq!(text.as_str(), whole.as_str());
        }
    }
}
