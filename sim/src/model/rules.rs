//! What must hold in every state, what must happen in some, and what is remembered of a prompt to judge both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bidmesh_core::outbox::OutcomeStatus;

/// What must hold in every state of every mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `Device::check` and every assertion of core.
    Invariants,
    /// At most one outcome a task.
    OneOutcome,
    /// A completed outcome is what a device really produced for that prompt.
    TrueAnswer,
    /// Only a device that was given an award can finish it.
    OwnAward,
    /// No award runs twice in one start of a device.
    RunsOnce,
    /// One attempt is open at a time, and their numbers rise.
    OneAttempt,
    /// When nothing more can happen every task has its outcome.
    EndsAtAll,
    /// When nothing more can happen nothing runs.
    NothingRuns,
    /// When nothing more can happen no message, result or task is left anywhere.
    NothingOwed,
}

impl Rule {
    /// The rule in one sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Invariants => "the invariants of every device hold",
            Self::OneOutcome => "at most one outcome a task",
            Self::TrueAnswer => "a completed outcome was really produced for that prompt",
            Self::OwnAward => "only a device that was given an award finishes it",
            Self::RunsOnce => "no award runs twice in one start",
            Self::OneAttempt => "one attempt is open at a time",
            Self::EndsAtAll => "in the end every task has its outcome",
            Self::NothingRuns => "in the end nothing runs",
            Self::NothingOwed => "in the end nothing is owed",
        }
    }
}

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// What must happen at least once, or the exploration has shown nothing about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark { $($(#[$doc])* $name,)* }

        impl Mark {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $words),)*];
        }
    };
}

marks! {
    /// A task ended with an answer.
    Completed = "completed",
    /// A task failed.
    Failed = "failed",
    /// Nobody could take a task.
    Nobody = "nobody",
    /// A task was cancelled.
    Cancelled = "cancelled",
    /// An award was lost, and a later one succeeded.
    LostThenSuccess = "an award was lost, then success",
    /// A RESULT of an attempt that had been given up won.
    EarlierAttemptWon = "an earlier attempt won",
    /// A worker knew a copied TASK again.
    DuplicateIgnored = "a duplicate was ignored",
    /// CANCEL stopped a run.
    CancelStopped = "a cancel reached a worker",
    /// A restart was noticed.
    RestartSeen = "a restart was noticed",
    /// Everybody was busy.
    Rested = "everybody was busy",
    /// A bid or refusal came after its auction.
    LateBid = "a bid came late",
    /// A sign of life or result of an award that was over.
    AwardOver = "an award was over already",
    /// A message of an earlier start was dropped.
    OldBoot = "a message of an earlier start was dropped",
    /// Something came of a task that had ended.
    UnknownTask = "a result came after the end",
    /// A shell device answered.
    ShellCompleted = "a shell device answered",
    /// Text was shown and broke off.
    BrokenOff = "an answer broke off",
}

/// How often each [`Mark`] was met, over all transitions explored.
#[derive(Debug, Default)]
pub struct Marks {
    counts: [AtomicU64; Mark::ALL.len()],
}

impl Marks {
    pub(super) fn met(&self, mark: Mark) {
        self.counts[mark as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    pub fn count(&self, mark: Mark) -> u64 {
        self.counts[mark as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = Mark::ALL.iter().filter(|(mark, _)| self.count(*mark) > 0);
        for (index, (mark, words)) in met.enumerate() {
            write!(f, "{}{words} {}", if index > 0 { ", " } else { "" }, self.count(*mark))?;
        }
        Ok(())
    }
}

/// What is remembered of one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Followed {
    pub(super) prompt: String,
    /// Which device each attempt was awarded to, until the task ends.
    pub(super) awarded: BTreeMap<u32, u8>,
    pub(super) open: Option<u32>,
    pub(super) ended: bool,
}

impl Followed {
    pub(super) fn new(prompt: String) -> Self {
        Self { prompt, awarded: BTreeMap::new(), open: None, ended: false }
    }

    pub(super) fn award(&mut self, attempt: u32, to: u8) -> Result<(), Rule> {
        let rises = self.awarded.keys().next_back().is_none_or(|last| *last < attempt);
        if self.open.replace(attempt).is_some() || !rises || self.ended {
            return Err(Rule::OneAttempt);
        }
        self.awarded.insert(attempt, to);
        Ok(())
    }

    pub(super) fn lost(&mut self, attempt: u32) -> Result<(), Rule> {
        if self.open.take() == Some(attempt) { Ok(()) } else { Err(Rule::OneAttempt) }
    }

    /// The task ended. `answer`: what came out and who is said to have made it, if it is completed.
    pub(super) fn end(
        &mut self,
        status: OutcomeStatus,
        answer: Option<(&Product, u8)>,
        marks: &Marks,
    ) -> Result<(), Rule> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(Rule::OneOutcome);
        }
        self.open = None;
        let awarded = std::mem::take(&mut self.awarded);
        match status {
            OutcomeStatus::Completed => marks.met(Mark::Completed),
            OutcomeStatus::Failed => marks.met(Mark::Failed),
            OutcomeStatus::Nobody => marks.met(Mark::Nobody),
            OutcomeStatus::Cancelled => marks.met(Mark::Cancelled),
            OutcomeStatus::Expired | OutcomeStatus::Decided => {}
        }
        if status != OutcomeStatus::Completed {
            return Ok(());
        }
        let Some((product, device)) = answer else { return Err(Rule::TrueAnswer) };
        if product.prompt != self.prompt || product.device != device {
            return Err(Rule::TrueAnswer);
        }
        if awarded.get(&product.attempt()) != Some(&device) {
            return Err(Rule::OwnAward);
        }
        if awarded.len() > 1 {
            let latest = awarded.keys().next_back() == Some(&product.attempt());
            marks.met(if latest { Mark::LostThenSuccess } else { Mark::EarlierAttemptWon });
        }
        Ok(())
    }
}

/// What a run gave: the text says who made it, in which start, for which prompt and award.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Product {
    pub(super) prompt: String,
    pub(super) device: u8,
    pub(super) boot: u8,
    pub(super) award: String,
}

impl Product {
    pub(super) fn text(&self) -> String {
        format!("[{}] by {}.{} for {}", self.prompt, self.device, self.boot, self.award)
    }

    /// The second part of `TASK.ATTEMPT.SECRET`; 0 if it is no award of ours.
    fn attempt(&self) -> u32 {
        self.award.split('.').nth(1).and_then(|attempt| attempt.parse().ok()).unwrap_or(0)
    }
}
