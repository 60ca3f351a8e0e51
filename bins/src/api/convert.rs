//! Core's values as the control API says them: times become ages or times since submission, shares of a million
//! become fractions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::decision::{Answer, Answered, AuctionRecord};
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor, Priority, Prompts, Sensors};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::outbox::Outcome;
use bidmesh_core::policy::Ranked;
use bidmesh_core::snapshot::{PeerSnapshot, RunSnapshot, Snapshot, TaskSnapshot, Usage};
use bidmesh_core::wire::{Bid, Dialect, Speed};
use bidmesh_core::{Submission, Time};
use bidmesh_io_tokio::driver::AgedDecision;

use super::error::ApiError;
use super::types::*;
use crate::duration::millis;

/// The longest key of a prompt: as long as an id.
const KEY_BYTES_MAX: usize = 64;

impl Submit {
    /// The submission that this body asks for.
    pub fn into_submission(self) -> Result<Submission, ApiError> {
        let priority = match self.priority {
            None => Priority::default(),
            Some(value) => Priority::new(value).ok_or_else(|| {
                ApiError::bad_request("`priority` is above 9; it goes from 0 (last) to 9 (first)")
            })?,
        };
        let policy = self
            .policy
            .map(|name| {
                name.parse().map_err(|why| ApiError::bad_request(format!("`policy` is `{name}`: {why}")))
            })
            .transpose()?;
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return Err(ApiError::bad_request("`key` must have 1 to 64 bytes"));
        }
        let eligible =
            self.to.map(|names| names.iter().map(|name| device_id(name)).collect::<Result<BTreeSet<_>, _>>());
        Ok(Submission {
            ticket: 0,
            prompts: Prompts {
                base: self.prompt.into(),
                npu: self.npu_prompt.map(Into::into),
                cpu: self.cpu_prompt.map(Into::into),
            },
            priority,
            policy,
            bid_deadline: self.bid_deadline_ms.map(Duration::from_millis),
            result_timeout: self.result_timeout_ms.map(Duration::from_millis),
            deadline: self.deadline_ms.map(Duration::from_millis),
            client: self.client.map(Into::into),
            key: self.key.map(Into::into),
            attached: self.attached,
            eligible: eligible.transpose()?,
            dry_run: self.dry_run,
        })
    }
}

/// Reads a device id.
pub fn device_id(text: &str) -> Result<DeviceId, ApiError> {
    DeviceId::new(text).map_err(|why| {
        ApiError::bad_request(format!(
            "`{text}` is no device id: {why}; ids are 1 to 64 of A-Z, a-z, 0-9, _ and -"
        ))
    })
}

/// Reads a task id.
pub fn task_id(text: &str) -> Result<TaskId, ApiError> {
    TaskId::new(text).map_err(|why| ApiError::bad_request(format!("`{text}` is no task id: {why}")))
}

impl OutcomeView {
    pub fn new(task: &TaskId, outcome: &Outcome) -> Self {
        Self {
            task_id: task.to_string(),
            status: outcome.status.as_str().into(),
            device_id: outcome.device.as_ref().map(ToString::to_string),
            output: outcome.output.to_string(),
            attempts: outcome.attempts,
            why: outcome.why.clone(),
            written: outcome.written.as_str().into(),
            speed: outcome.speed.as_ref().map(SpeedView::from),
        }
    }
}

impl From<&Speed> for SpeedView {
    fn from(speed: &Speed) -> Self {
        // A count of 32 bits in a thousand stays far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let whole = |milli: u64| milli as f64 / 1e3;
        Self {
            total_ms: speed.total_ms,
            first_text_ms: speed.first_text_ms,
            prompt_tokens: speed.prompt_tokens,
            tokens: speed.tokens,
            tokens_per_second: speed.tokens_per_second_milli().map(whole),
        }
    }
}

fn share(load: Load) -> f64 {
    f64::from(load.ppm()) / 1e6
}

impl From<&Sensors> for SensorsView {
    fn from(sensors: &Sensors) -> Self {
        Self {
            cpu_load: sensors.cpu.map(share),
            ram_load: sensors.ram.map(share),
            battery: sensors.battery.map(Percent::value),
            charging: sensors.charging,
            temperature: sensors.temperature.map(|t| f64::from(t.0) / 10.0),
        }
    }
}

impl From<&Executor> for ExecutorView {
    fn from(executor: &Executor) -> Self {
        Self {
            available: executor.available,
            npu: executor.npu,
            slots: executor.slots,
            why: executor.why.clone(),
        }
    }
}

impl From<&Bid> for BidView {
    fn from(bid: &Bid) -> Self {
        Self {
            has_npu: bid.npu,
            cpu_load: bid.cpu.map(share),
            ram_load: bid.ram.map(share),
            battery: bid.battery.map(Percent::value),
            charging: bid.charging,
            slots: bid.capacity.map(|c| c.slots),
            running: bid.capacity.map(|c| c.running),
            yours: bid.capacity.map(|c| c.yours),
        }
    }
}

fn age(now: Time, then: Time) -> u64 {
    millis(now.since(then))
}

impl Peer {
    /// One of whom only the address book is known.
    pub fn listed(device: &DeviceId, address: SocketAddr) -> Self {
        Self {
            device_id: device.to_string(),
            address: address.to_string(),
            dialect: "unknown".into(),
            boot: None,
            health: "unknown".into(),
            suspicion: None,
            heard_ms_ago: None,
            bid: None,
            bid_ms_ago: None,
            awards: 0,
            free: 0,
            listed: true,
            speed: None,
        }
    }

    pub fn new(now: Time, peer: &PeerSnapshot) -> Self {
        Self {
            device_id: peer.device.to_string(),
            address: peer.address.to_string(),
            dialect: match peer.dialect {
                Dialect::Bidmesh => "bidmesh",
                Dialect::Shell => "shell",
                Dialect::ShellLiteral => "shell_literal",
            }
            .into(),
            boot: peer.boot.as_ref().map(ToString::to_string),
            health: peer.health.as_str().into(),
            suspicion: peer.suspicion.map(|tenths| f64::from(tenths) / 10.0),
            heard_ms_ago: peer.heard.map(|then| age(now, then)),
            bid: peer.bid.as_ref().map(BidView::from),
            bid_ms_ago: peer.bid_at.map(|then| age(now, then)),
            awards: peer.awards,
            free: peer.free,
            listed: peer.listed,
            speed: peer.speed.as_ref().map(SpeedView::from),
        }
    }
}

impl RunView {
    fn new(now: Time, run: &RunSnapshot) -> Self {
        Self {
            from: run.from.to_string(),
            label: run.label.clone(),
            age_ms: age(now, run.started),
            bytes: run.bytes,
        }
    }
}

impl TaskView {
    pub fn new(now: Time, task: &TaskSnapshot) -> Self {
        Self {
            task_id: task.task.to_string(),
            phase: task.phase.into(),
            age_ms: age(now, task.submitted),
            priority: task.priority,
            position: task.position,
            attached: task.attached,
            device_id: task.device.as_ref().map(ToString::to_string),
            attempts: task.attempts,
            bytes: task.bytes,
        }
    }
}

impl QueueView {
    /// What waits, by priority, the most urgent first.
    fn of(now: Time, tasks: &[TaskSnapshot]) -> Vec<Self> {
        let waiting = |task: &&TaskSnapshot| task.position.is_some() || task.phase == "resting";
        let mut queue: BTreeMap<u8, Self> = BTreeMap::new();
        for task in tasks.iter().filter(waiting) {
            let priority = task.priority;
            let line = queue.entry(priority).or_insert(Self { priority, waiting: 0, longest_ms: 0 });
            line.waiting += 1;
            line.longest_ms = line.longest_ms.max(age(now, task.submitted));
        }
        queue.into_values().rev().collect()
    }
}

impl EndedView {
    pub fn new(task: &TaskId, outcome: &Outcome) -> Self {
        Self { task_id: task.to_string(), outcome: DecisionOutcome::from(outcome) }
    }
}

impl From<&Usage> for UsageView {
    fn from(usage: &Usage) -> Self {
        Self { what: usage.what.into(), size: usage.size, limit: usage.limit }
    }
}

impl Status {
    pub fn new(snapshot: &Snapshot, directory: Option<String>) -> Self {
        let now = snapshot.now;
        Self {
            device_id: snapshot.device.to_string(),
            boot: snapshot.boot.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            directory,
            address: snapshot.address.map(|address| address.to_string()),
            uptime_ms: now.millis(),
            refuses: snapshot.refuses.as_ref().map(|reason| reason.as_str().into()),
            refuses_words: snapshot.refuses.as_ref().map(|reason| reason.words().into()),
            slots: snapshot.slots,
            sensors: SensorsView::from(&snapshot.sensors),
            executor: ExecutorView::from(&snapshot.executor),
            runs: snapshot.runs.iter().map(|run| RunView::new(now, run)).collect(),
            kept_results: snapshot.kept_results,
            peers: snapshot.peers.iter().map(|peer| Peer::new(now, peer)).collect(),
            tasks: snapshot.tasks.iter().map(|task| TaskView::new(now, task)).collect(),
            queue: QueueView::of(now, &snapshot.tasks),
            usage: snapshot.usage.iter().map(UsageView::from).collect(),
        }
    }
}

impl From<&AgedDecision> for DecisionView {
    fn from(AgedDecision { decision, age: submitted_ago }: &AgedDecision) -> Self {
        let start = decision.submitted;
        Self {
            task_id: decision.task.to_string(),
            submitted_ms_ago: millis(*submitted_ago),
            prompt_bytes: decision.prompt_bytes,
            policy: decision.policy.as_str().into(),
            priority: decision.priority,
            auctions: decision.auctions.iter().map(|auction| AuctionView::new(start, auction)).collect(),
            happened: decision
                .happened
                .iter()
                .map(|happening| HappeningView {
                    at_ms: age(happening.at, start),
                    what: happening.what.clone(),
                })
                .collect(),
            outcome: decision.outcome.as_ref().map(DecisionOutcome::from),
            ended_ms: decision.ended.map(|ended| age(ended, start)),
            dropped_lines: decision.dropped_lines,
        }
    }
}

impl From<&Outcome> for DecisionOutcome {
    fn from(outcome: &Outcome) -> Self {
        Self {
            status: outcome.status.as_str().into(),
            device_id: outcome.device.as_ref().map(ToString::to_string),
            output_bytes: outcome.output.len(),
            attempts: outcome.attempts,
            why: outcome.why.clone(),
            written: outcome.written.as_str().into(),
            speed: outcome.speed.as_ref().map(SpeedView::from),
        }
    }
}

impl AuctionView {
    fn new(start: Time, auction: &AuctionRecord) -> Self {
        Self {
            opened_ms: age(auction.opened, start),
            closed_ms: auction.closed.map(|closed| age(closed, start)),
            answers: auction.answers.iter().map(|answered| AnsweredView::new(start, answered)).collect(),
            winner: auction.choice.as_ref().map(|choice| choice.winner.to_string()),
            order: auction.choice.iter().flat_map(|choice| &choice.order).map(RankedView::from).collect(),
            why: auction
                .choice
                .as_ref()
                .map(|choice| choice.sentence.clone())
                .or_else(|| auction.nobody.clone()),
        }
    }
}

impl AnsweredView {
    fn new(start: Time, answered: &Answered) -> Self {
        let answer = match &answered.answer {
            Answer::Bid { bid } => AnswerView::Bid { bid: BidView::from(bid) },
            Answer::Refused { reason, retry_after_ms } => AnswerView::Refused {
                reason: reason.as_str().into(),
                words: reason.words().into(),
                retry_after_ms: *retry_after_ms,
            },
            Answer::Unreachable { why } => AnswerView::Unreachable { why: why.words().into() },
            Answer::Silent => AnswerView::Silent,
            Answer::KnownBusy => AnswerView::KnownBusy,
        };
        Self { device_id: answered.device.to_string(), at_ms: age(answered.at, start), answer }
    }
}

impl From<&Ranked> for RankedView {
    fn from(ranked: &Ranked) -> Self {
        // Scores stay far below 2^53 millionths: Weights are small integers.
        #[allow(clippy::cast_precision_loss)]
        let points = |millionths: u64| millionths as f64 / 1e6;
        Self {
            device_id: ranked.device.to_string(),
            has_npu: ranked.npu,
            cpu_load: ranked.cpu.map(share),
            battery: ranked.battery.map(Percent::value),
            score: ranked.score.map(points),
            tried: ranked.tried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_core::policy::Policy;

    #[test]
    fn every_field_of_a_submission_arrives() {
        let submit = Submit {
            prompt: "base".into(),
            npu_prompt: Some("npu".into()),
            cpu_prompt: Some("cpu".into()),
            priority: Some(9),
            policy: Some("weighted".into()),
            bid_deadline_ms: Some(1),
            result_timeout_ms: Some(2),
            deadline_ms: Some(3),
            client: Some("c".into()),
            key: Some("k".into()),
            attached: false,
            to: Some(vec!["Device_B".into()]),
            dry_run: true,
        };
        let expected = Submission {
            ticket: 0,
            prompts: Prompts { base: "base".into(), npu: Some("npu".into()), cpu: Some("cpu".into()) },
            priority: Priority::HIGHEST,
            policy: Some(Policy::Weighted),
            bid_deadline: Some(Duration::from_millis(1)),
            result_timeout: Some(Duration::from_millis(2)),
            deadline: Some(Duration::from_millis(3)),
            client: Some("c".into()),
            key: Some("k".into()),
            attached: false,
            eligible: Some(BTreeSet::from([DeviceId::new("Device_B").unwrap()])),
            dry_run: true,
        };
        assert_eq!(submit.into_submission().unwrap(), expected);
    }

    #[test]
    fn what_core_would_not_understand_is_refused_here() {
        for submit in [
            Submit { priority: Some(10), ..Submit::default() },
            Submit { policy: Some("cheapest".into()), ..Submit::default() },
            Submit { to: Some(vec!["a|b".into()]), ..Submit::default() },
            Submit { key: Some("k".repeat(65)), ..Submit::default() },
            Submit { key: Some(String::new()), ..Submit::default() },
        ] {
            assert_eq!(submit.into_submission().unwrap_err().code(), "bad_request");
        }
    }
}
