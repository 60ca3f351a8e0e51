//! Every time-out, limit and preference of a device, by name, in one place.
//!
//! The defaults are the decisions of the design; all of them may be changed while the device runs
//! ([`crate::Input::Reconfigured`]). Limits bound memory: what is fed from outside never grows past them.

use alloc::collections::BTreeSet;
use core::time::Duration;

use crate::hours::Hours;
use crate::id::DeviceId;
use crate::load::{DeciCelsius, Percent};
use crate::policy::Policy;

/// All settings of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// As an orchestrator: how long to wait for what.
    pub timing: Timing,
    /// How the death of a peer is noticed.
    pub detection: Detection,
    /// As a worker: what it takes on.
    pub work: Work,
    /// How many of everything are kept.
    pub limits: Limits,
    /// How winners are chosen unless a task says otherwise.
    pub policy: Policy,
    /// Whose work is taken.
    pub admit: Admit,
    /// Shell devices whose `echo` interprets nothing (bash, busybox): they get [`crate::wire::Dialect::ShellLiteral`].
    pub literal_echo: BTreeSet<DeviceId>,
    /// Whether BID_REQUEST carries the prompt, as in the shell mesh. Off: a prompt is private until awarded.
    pub prompt_in_bid_request: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            detection: Detection::default(),
            work: Work::default(),
            limits: Limits::default(),
            policy: Policy::NpuFirst,
            admit: Admit::Hello,
            literal_echo: BTreeSet::new(),
            prompt_in_bid_request: false,
        }
    }
}

/// Whose work a device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Admit {
    /// Devices that introduced themselves by HELLO or DISCOVER, as in the shell mesh.
    #[default]
    Hello,
    /// Only devices that a person wrote into peers.txt.
    Listed,
    /// Everybody.
    Any,
}

/// Time-outs and pauses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The longest that an auction waits for bids.
    pub bid_deadline: Duration,
    /// How long a bidmesh peer is waited for once a usable bid is there, from the first attempt to reach it.
    pub patience: Duration,
    /// The same for a shell peer, which measures for half a second and forks dozens of processes.
    pub patience_shell: Duration,
    /// A peer that has refused connections for this long is not waited for either.
    pub patience_refused: Duration,
    /// How long the TASK is offered to a winner before the next bidder gets it.
    pub award_send: Duration,
    /// How long a winner that read the TASK may take to say ACCEPT.
    pub accept: Duration,
    /// A bidmesh worker that was silent for this long is asked by QUERY.
    pub progress_deadline: Duration,
    /// How often a worker that generates nothing says that it is alive.
    pub heartbeat: Duration,
    /// The least time between two PROGRESS messages of one run.
    pub progress_interval: Duration,
    /// How long a QUERY may stay unanswered.
    pub query: Duration,
    /// An attempt without RESULT ends after this time; PROGRESS starts it anew.
    pub result_timeout: Duration,
    /// The longest that an attempt may take in all.
    pub run_limit: Duration,
    /// How often HELLO is offered to a shell device that runs our task: if it takes one, it does not run.
    pub shell_probe: Duration,
    /// How long a shell device that took the probe may take to send its RESULT all the same.
    pub shell_probe_patience: Duration,
    /// A shell device that was heard within this time and refuses connections now is busy, not gone.
    pub shell_busy: Duration,
    /// How long a peer's word about its load is believed.
    pub belief: Duration,
    /// A bid older than this on the worker's own clock cannot be awarded.
    pub bid_validity: Duration,
    /// A task that found everybody busy rests this long at first, then doubles.
    pub busy_pause: Duration,
    /// The longest such rest.
    pub busy_pause_max: Duration,
    /// The first pause after a refused connection: from here …
    pub retry_low: Duration,
    /// … to here, random; doubles with each refusal up to sixteen times.
    pub retry_high: Duration,
    /// How long one try of a message takes at most that may be repeated without harm.
    pub try_limit: Duration,
    /// How long answers and notices (BID_RESPONSE, ACCEPT, ACK, …) are offered.
    pub notice_send: Duration,
    /// How long waiting raises a task by one priority.
    pub ageing: Duration,
    /// What REFUSE and REJECT for load say about when to ask again.
    pub retry_after: Duration,
    /// The first pause before an unacknowledged RESULT is offered again; doubles.
    pub result_offer: Duration,
    /// The longest such pause.
    pub result_offer_max: Duration,
    /// How long an unacknowledged RESULT is kept.
    pub result_kept: Duration,
    /// How long a TASK without id, or an SLM_PROMPT, is known again by its text.
    pub duplicate_window: Duration,
    /// When a worker's first text is later than this, and than three times what that device needed last, the second-best
    /// bidder starts too, if nobody waits for its slot; zero: never.
    pub hedge: Duration,
    /// HELLO is answered at most this often a peer.
    pub hello_interval: Duration,
    /// Called later than this after its own deadline, a device concludes that it slept.
    pub lateness: Duration,
}

impl Timing {
    /// For how long a shell device that read a question may say nothing before it is asked again: it measures for up to a
    /// second, however impatient the settings are.
    pub(crate) fn shell_silence(&self) -> Duration {
        const MEASURING: Duration = Duration::from_secs(2);
        self.patience_shell.max(MEASURING)
    }
}

impl Default for Timing {
    fn default() -> Self {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        Self {
            bid_deadline: s(10),
            patience: s(1),
            patience_shell: s(3),
            patience_refused: s(1),
            award_send: s(2),
            accept: s(1),
            progress_deadline: s(15),
            heartbeat: s(5),
            progress_interval: ms(100),
            query: s(3),
            result_timeout: s(300),
            run_limit: s(1800),
            shell_probe: s(5),
            shell_probe_patience: s(3),
            shell_busy: s(300),
            belief: s(30),
            bid_validity: s(30),
            busy_pause: s(2),
            busy_pause_max: s(30),
            retry_low: ms(20),
            retry_high: ms(50),
            try_limit: s(2),
            notice_send: s(5),
            ageing: s(30),
            retry_after: s(2),
            result_offer: s(1),
            result_offer_max: s(60),
            result_kept: s(3600),
            duplicate_window: s(10),
            hedge: Duration::ZERO,
            hello_interval: s(10),
            lateness: s(2),
        }
    }
}

/// How it is noticed that a peer is not there any more (`core/src/peers/suspicion.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Detection {
    /// A bidmesh peer that was told nothing for this long gets a HELLO as a sign of life; half as often on a battery.
    /// Zero: never, and then no peer's silence means anything.
    pub heartbeat: Duration,
    /// The level from which a silent peer is suspect, 1 to 12: it is wrong once in 10^level heartbeats.
    pub suspect: u8,
    /// The level from which it is gone.
    pub gone: u8,
    /// A peer that could not be reached for this long, nor was heard, is gone, too; zero: never for that reason.
    pub unreachable: Duration,
    /// The half-life of what is held against a peer that comes and goes; zero: nothing is.
    pub damping: Duration,
}

impl Detection {
    /// Nothing but failed messages counts.
    pub const OFF: Self = Self {
        heartbeat: Duration::ZERO,
        suspect: 5,
        gone: 10,
        unreachable: Duration::ZERO,
        damping: Duration::ZERO,
    };
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            unreachable: Duration::from_secs(120),
            damping: Duration::from_secs(120),
            ..Self::OFF
        }
    }
}

/// A device as a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Work {
    /// Prompts run at once, unless the executor says fewer.
    pub slots: u16,
    /// Below this charge and not charging, work is refused.
    pub battery_min: Percent,
    /// Above this temperature, work is refused.
    pub heat_max: DeciCelsius,
    /// What becomes of a prompt that runs when one of these two limits is crossed.
    pub at_limit: AtLimit,
    /// When in a day work is taken.
    pub hours: Hours,
    /// Task types that are run.
    pub task_types: BTreeSet<alloc::string::String>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            slots: 1,
            // 20 % is below 100: the constructor cannot refuse it.
            battery_min: Percent::new(20).unwrap_or(Percent::ZERO),
            heat_max: DeciCelsius(450),
            at_limit: AtLimit::Finish,
            hours: Hours::default(),
            task_types: BTreeSet::from([alloc::string::String::from(crate::wire::TASK_TYPE_INFERENCE)]),
        }
    }
}

/// What a worker does with a prompt that runs when its battery is low or it is too hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum AtLimit {
    /// It is run to its end; nothing new is taken.
    #[default]
    Finish,
    /// It is stopped and handed back: another device begins anew.
    HandBack,
}

/// How many of everything are kept. At a limit the newcomer is refused, or the oldest forgotten, as each line says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Devices in the address book; a newcomer's HELLO is ignored.
    pub peers: usize,
    /// Ids of devices that a person removed and that stay out; the oldest is forgotten.
    pub removed_peers: usize,
    /// Open tasks of this device; a submission is refused.
    pub tasks: usize,
    /// Open tasks of one client; a submission is refused.
    pub tasks_per_client: usize,
    /// Closed tasks that are remembered by id and key; the oldest is forgotten.
    pub closed_tasks: usize,
    /// Bytes of their outputs, in all; the oldest is forgotten.
    pub closed_bytes: usize,
    /// Bytes of a prompt; a submission or TASK is refused.
    pub prompt_bytes: usize,
    /// Bytes of a prompt for a shell device, which hands it on as arguments of processes; it is not asked for more.
    pub shell_prompt_bytes: usize,
    /// Bytes of an output; text beyond is a failed run.
    pub output_bytes: usize,
    /// Out-of-order pieces of an attempt's text; a further one is dropped (RESULT holds the whole text).
    pub pieces: usize,
    /// Attempts that count (accepted runs) before a task fails.
    pub attempts: u32,
    /// Auctions without an accepted run (busy ones not counted) before a task fails.
    pub auctions: u32,
    /// Messages owed to peers; beyond, notices are dropped and counted, the rest fails at once.
    pub outgoing: usize,
    /// Results kept for an acknowledgement; beyond, work is refused as full.
    pub kept_results: usize,
    /// Awards remembered after their end, and cancelled ones; the oldest is forgotten.
    pub tombstones: usize,
    /// Decision records; the oldest is forgotten.
    pub decisions: usize,
    /// Lines of one decision record (answers and happenings each); further ones are counted only.
    pub decision_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 1024,
            removed_peers: 256,
            tasks: 10_000,
            tasks_per_client: 8_000,
            closed_tasks: 1024,
            closed_bytes: 64 << 20,
            prompt_bytes: 1 << 20,
            shell_prompt_bytes: 64 << 10,
            // Written as JSON it may grow sixfold, and must still be one message of 8 MiB.
            output_bytes: 1 << 20,
            pieces: 64,
            attempts: 3,
            auctions: 5,
            outgoing: 4096,
            kept_results: 64,
            tombstones: 4096,
            decisions: 256,
            decision_lines: 1024,
        }
    }
}
