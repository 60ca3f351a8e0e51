//! Records as they are written: JSON of types that are this file's own, so that core may change without changing what
//! is on somebody's disk.
//!
//! The rules for whoever changes this: a field may be added if it has a default, and a reader passes over fields that it
//! does not know; a field is never renamed, removed, or given another meaning. What cannot be said so is a new format
//! (`format::FORMAT`) with a step that brings the old one there. Times are milliseconds, moments those of the wall
//! clock since 1970.

mod decision;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::input::{Priority, Prompts, Written};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record};
use bidmesh_core::wire::{Dialect, Speed, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use decision::StoredDecision;

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row<T> {
    /// Its place in the order in which all rows of all tables were written.
    pub(super) number: u64,
    pub(super) at_unix_ms: u64,
    pub(super) record: T,
}

/// A row that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl<T: Serialize> Row<T> {
    pub(super) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(std::io::Error::other)
    }
}

impl<T: DeserializeOwned> Row<T> {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(bytes).map_err(|_| Unreadable)
    }
}

/// An accepted task. Once it has ended, its prompts are empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredTask {
    pub(super) task: String,
    pub(super) prompt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) npu_prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu_prompt: Option<String>,
    priority: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    attached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eligible: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bid_deadline_ms: Option<u64>,
    result_timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

/// An award of an open task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredAward {
    pub(super) task: String,
    award: String,
    pub(super) attempt: u32,
    device: String,
    address: SocketAddr,
    dialect: String,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredOutcome {
    pub(super) task: String,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    pub(super) output: String,
    attempts: u32,
    why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speed: Option<StoredSpeed>,
}

/// How fast the worker was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredSpeed {
    total_ms: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_text_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
}

/// A run that has not ended yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredStart {
    orchestrator: String,
    award: String,
    digest: String,
    dialect: String,
}

/// A result that waits for its acknowledgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredKept {
    orchestrator: String,
    award: String,
    digest: String,
    dialect: String,
    status: String,
    output: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    speed: Option<StoredSpeed>,
}

/// A result that was acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredForgotten {
    orchestrator: String,
    award: String,
    digest: String,
}

/// The owner's pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredPause {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    during_ms: Option<u64>,
}

/// A record on its way to its table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Task(StoredTask),
    Award(StoredAward),
    Outcome(StoredOutcome),
    Start(StoredStart),
    Kept(StoredKept),
    Forgotten(StoredForgotten),
    Paused(StoredPause),
    Resumed,
}

impl From<&Record> for Stored {
    fn from(record: &Record) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
        match record {
            Record::Task {
                task,
                prompts,
                priority,
                key,
                attached,
                eligible,
                deadline,
                policy,
                bid_deadline,
                result_timeout,
                client,
            } => Self::Task(StoredTask {
                task: task.to_string(),
                prompt: prompts.base.to_string(),
                npu_prompt: text(&prompts.npu),
                cpu_prompt: text(&prompts.cpu),
                priority: priority.value(),
                key: text(key),
                attached: *attached,
                eligible: eligible.as_ref().map(|only| only.iter().map(ToString::to_string).collect()),
                deadline_ms: deadline.map(millis),
                policy: policy.as_str().into(),
                bid_deadline_ms: bid_deadline.map(millis),
                result_timeout_ms: millis(*result_timeout),
                client: text(client),
            }),
            Record::Award { task, award, attempt, device, address, dialect } => Self::Award(StoredAward {
                task: task.to_string(),
                award: award.to_string(),
                attempt: *attempt,
                device: device.to_string(),
                address: *address,
                dialect: dialect_name(*dialect).into(),
            }),
            Record::Outcome { task, outcome } => Self::Outcome(StoredOutcome {
                task: task.to_string(),
                status: outcome.status.as_str().into(),
                device: outcome.device.as_ref().map(ToString::to_string),
                output: outcome.output.to_string(),
                attempts: outcome.attempts,
                why: outcome.why.clone(),
                speed: outcome.speed.map(StoredSpeed::from),
            }),
            Record::Started { orchestrator, award, digest, dialect } => Self::Start(StoredStart {
                orchestrator: orchestrator.to_string(),
                award: award.to_string(),
                digest: hex(*digest),
                dialect: dialect_name(*dialect).into(),
            }),
            Record::Kept { orchestrator, award, digest, dialect, status, output, speed } => {
                Self::Kept(StoredKept {
                    orchestrator: orchestrator.to_string(),
                    award: award.to_string(),
                    digest: hex(*digest),
                    dialect: dialect_name(*dialect).into(),
                    status: status.as_str().into(),
                    output: output.to_string(),
                    speed: speed.map(StoredSpeed::from),
                })
            }
            Record::Forgotten { orchestrator, award, digest } => Self::Forgotten(StoredForgotten {
                orchestrator: orchestrator.to_string(),
                award: award.to_string(),
                digest: hex(*digest),
            }),
            Record::Paused { during } => Self::Paused(StoredPause { during_ms: during.map(millis) }),
            Record::Resumed => Self::Resumed,
        }
    }
}

impl From<Speed> for StoredSpeed {
    fn from(speed: Speed) -> Self {
        let Speed { total_ms, first_text_ms, prompt_tokens, tokens } = speed;
        Self { total_ms, first_text_ms, prompt_tokens, tokens }
    }
}

impl From<StoredSpeed> for Speed {
    fn from(speed: StoredSpeed) -> Self {
        let StoredSpeed { total_ms, first_text_ms, prompt_tokens, tokens } = speed;
        Self { total_ms, first_text_ms, prompt_tokens, tokens }
    }
}

/// Back to what core knows.
pub(super) trait Restore {
    fn restore(self) -> Result<Record, Unreadable>;
}

impl Restore for StoredTask {
    fn restore(self) -> Result<Record, Unreadable> {
        let eligible = self.eligible.map(|only| only.iter().map(|id| device(id)).collect());
        Ok(Record::Task {
            task: task(&self.task)?,
            prompts: Prompts {
                base: self.prompt.into(),
                npu: self.npu_prompt.map(Into::into),
                cpu: self.cpu_prompt.map(Into::into),
            },
            priority: Priority::new(self.priority).ok_or(Unreadable)?,
            key: self.key.map(Into::into),
            attached: self.attached,
            eligible: eligible.transpose()?,
            deadline: self.deadline_ms.map(Duration::from_millis),
            policy: self.policy.parse().map_err(|_| Unreadable)?,
            bid_deadline: self.bid_deadline_ms.map(Duration::from_millis),
            result_timeout: Duration::from_millis(self.result_timeout_ms),
            client: self.client.map(Into::into),
        })
    }
}

impl Restore for StoredAward {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Award {
            task: task(&self.task)?,
            award: award(&self.award)?,
            attempt: self.attempt,
            device: device(&self.device)?,
            address: self.address,
            dialect: dialect(&self.dialect)?,
        })
    }
}

impl Restore for StoredOutcome {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Outcome { task: task(&self.task)?, outcome: self.outcome()? })
    }
}

impl StoredOutcome {
    pub(super) fn outcome(self) -> Result<Outcome, Unreadable> {
        let known = [
            OutcomeStatus::Completed,
            OutcomeStatus::Failed,
            OutcomeStatus::Nobody,
            OutcomeStatus::Expired,
            OutcomeStatus::Cancelled,
            OutcomeStatus::Decided,
        ];
        let status = known.into_iter().find(|status| status.as_str() == self.status).ok_or(Unreadable)?;
        Ok(Outcome {
            status,
            device: self.device.as_deref().map(device).transpose()?,
            output: self.output.into(),
            attempts: self.attempts,
            why: self.why,
            written: Written::Durable,
            speed: self.speed.map(Speed::from),
        })
    }
}

impl Restore for StoredStart {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Started {
            orchestrator: device(&self.orchestrator)?,
            award: award(&self.award)?,
            digest: number(&self.digest)?,
            dialect: dialect(&self.dialect)?,
        })
    }
}

impl Restore for StoredKept {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Kept {
            orchestrator: device(&self.orchestrator)?,
            award: award(&self.award)?,
            digest: number(&self.digest)?,
            dialect: dialect(&self.dialect)?,
            status: Status::read(&self.status).ok_or(Unreadable)?,
            output: self.output.into(),
            speed: self.speed.map(Speed::from),
        })
    }
}

impl Restore for StoredForgotten {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Forgotten {
            orchestrator: device(&self.orchestrator)?,
            award: award(&self.award)?,
            digest: number(&self.digest)?,
        })
    }
}

impl Restore for StoredPause {
    fn restore(self) -> Result<Record, Unreadable> {
        Ok(Record::Paused { during: self.during_ms.map(Duration::from_millis) })
    }
}

impl StoredTask {
    /// Nobody needs the prompt of a task that has ended.
    pub(super) fn without_prompts(self) -> Self {
        Self { prompt: String::new(), npu_prompt: None, cpu_prompt: None, ..self }
    }
}

impl StoredStart {
    /// The name of its row.
    pub(super) fn key(&self) -> String {
        work_key(&self.orchestrator, &self.award, &self.digest)
    }
}

impl StoredKept {
    /// The same as that of its start.
    pub(super) fn key(&self) -> String {
        work_key(&self.orchestrator, &self.award, &self.digest)
    }
}

impl StoredForgotten {
    /// The same as that of what it forgets.
    pub(super) fn key(&self) -> String {
        work_key(&self.orchestrator, &self.award, &self.digest)
    }
}

/// Ids hold no slash.
fn work_key(orchestrator: &str, award: &str, digest: &str) -> String {
    format!("{orchestrator}/{award}/{digest}")
}

fn device(text: &str) -> Result<DeviceId, Unreadable> {
    DeviceId::new(text).map_err(|_| Unreadable)
}

fn task(text: &str) -> Result<TaskId, Unreadable> {
    TaskId::new(text).map_err(|_| Unreadable)
}

fn award(text: &str) -> Result<AwardId, Unreadable> {
    AwardId::new(text).map_err(|_| Unreadable)
}

fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

fn number(hex: &str) -> Result<u128, Unreadable> {
    u128::from_str_radix(hex, 16).map_err(|_| Unreadable)
}

const DIALECTS: [(Dialect, &str); 3] =
    [(Dialect::Bidmesh, "bidmesh"), (Dialect::Shell, "shell"), (Dialect::ShellLiteral, "shell_literal")];

fn dialect_name(dialect: Dialect) -> &'static str {
    DIALECTS.iter().find(|(known, _)| *known == dialect).map_or("bidmesh", |(_, name)| name)
}

fn dialect(name: &str) -> Result<Dialect, Unreadable> {
    DIALECTS.iter().find(|(_, known)| *known == name).map(|(dialect, _)| *dialect).ok_or(Unreadable)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
