//! What goes over the control API, both ways: the one place where its JSON is defined. `docs/control-api.md`
//! describes it. Values of core are copied into these types so that core may change without breaking a client.

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/tasks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The prompt.
    pub prompt: String,
    /// The prompt for a winner that runs it on an NPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npu_prompt: Option<String>,
    /// The prompt for a winner that runs it on its processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_prompt: Option<String>,
    /// 0 (last) to 9 (first); 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// `npu-first` or `weighted`; the device's setting if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The longest that an auction waits for bids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid_deadline_ms: Option<u64>,
    /// An attempt without a result ends after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_timeout_ms: Option<u64>,
    /// The whole task ends after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Who submits, for fairness between clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The same key is the same task; 1 to 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether the task ends with the connection; true if absent.
    #[serde(default = "yes")]
    pub attached: bool,
    /// Only these devices are asked; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// Only the auction.
    #[serde(default)]
    pub dry_run: bool,
}

fn yes() -> bool {
    true
}

/// Answer to a detached `POST /v1/tasks`, and the event `admitted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    pub task_id: String,
    /// How many tasks are before it in the queue.
    pub position: usize,
    /// A submission with this `key` came before: this is that task.
    #[serde(default)]
    pub joined: bool,
}

/// The event `text`: more of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPiece {
    pub device_id: String,
    /// Where it begins in the answer, in bytes.
    pub offset: u64,
    pub text: String,
}

/// The event `broken_off`: the answer so far is void, another begins at offset 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenOff {
    pub device_id: String,
    /// How many bytes of it had been sent.
    pub shown: u64,
    pub why: String,
}

/// The event `outcome`, the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeView {
    pub task_id: String,
    /// `completed`, `failed`, `nobody`, `expired`, `cancelled`, `decided`.
    pub status: String,
    pub device_id: Option<String>,
    pub output: String,
    /// Accepted runs that it took.
    pub attempts: u32,
    /// One sentence for a person.
    pub why: String,
    /// `durable`, `kept` (it survives the process), `not_kept` (there is no store) or `failed`.
    pub written: String,
    /// How fast the worker was; only bidmesh devices say so.
    pub speed: Option<SpeedView>,
}

/// How fast a worker was with one prompt, as it measured itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeedView {
    /// From the beginning of the run to its end.
    pub total_ms: u32,
    /// From the beginning of the run to its first text; null without text.
    pub first_text_ms: Option<u32>,
    /// Of the prompt; null where the executor does not count them.
    pub prompt_tokens: Option<u32>,
    /// That were generated; null where the executor does not count them.
    pub tokens: Option<u32>,
    /// Generated in a second after the first text; null where that cannot be said.
    pub tokens_per_second: Option<f64>,
}

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub device_id: String,
    pub boot: String,
    pub version: String,
    pub pid: u32,
    /// Its mesh directory; a device of the demo has none.
    pub directory: Option<String>,
    pub address: Option<String>,
    pub uptime_ms: u64,
    /// Why it would refuse work now: a reason code.
    pub refuses: Option<String>,
    /// The same in words.
    pub refuses_words: Option<String>,
    pub slots: u16,
    pub sensors: SensorsView,
    pub executor: ExecutorView,
    pub runs: Vec<RunView>,
    pub kept_results: usize,
    pub peers: Vec<Peer>,
    pub tasks: Vec<TaskView>,
    /// What waits, by priority, the most urgent first; priorities with nothing are left out.
    pub queue: Vec<QueueView>,
    pub usage: Vec<UsageView>,
}

/// What was measured; what could not be is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SensorsView {
    /// 0 to 1.
    pub cpu_load: Option<f64>,
    /// 0 to 1.
    pub ram_load: Option<f64>,
    /// Percent.
    pub battery: Option<u8>,
    pub charging: Option<bool>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
}

/// What runs prompts on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorView {
    pub available: bool,
    pub npu: bool,
    /// Its own limit, if it has one.
    pub slots: Option<u16>,
    /// What it is, or why there is none.
    pub why: String,
}

/// A prompt that runs on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// Who asked for it.
    pub from: String,
    pub label: String,
    pub age_ms: u64,
    /// Output so far.
    pub bytes: u64,
}

/// A device of the address book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub device_id: String,
    pub address: String,
    /// `bidmesh`, `shell` or `shell_literal`.
    pub dialect: String,
    pub boot: Option<String>,
    /// `new`, `alive`, `busy`, `suspect`, `gone` or `back`; `unknown` where no device runs that could tell.
    pub health: String,
    /// How unusual its silence is: 5 is longer than all but one in 100,000 of its heartbeats; null without a rhythm.
    pub suspicion: Option<f64>,
    pub heard_ms_ago: Option<u64>,
    pub bid: Option<BidView>,
    pub bid_ms_ago: Option<u64>,
    /// Awards of the asked device that it holds.
    pub awards: u16,
    /// Slots believed free there.
    pub free: u16,
    /// Written by a person, not only learned.
    pub listed: bool,
    /// How fast it was with the last answer that it gave the asked device.
    pub speed: Option<SpeedView>,
}

/// A bid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BidView {
    pub has_npu: bool,
    /// 0 to 1.
    pub cpu_load: Option<f64>,
    /// 0 to 1.
    pub ram_load: Option<f64>,
    /// Percent.
    pub battery: Option<u8>,
    pub charging: Option<bool>,
    pub slots: Option<u16>,
    pub running: Option<u16>,
    pub yours: Option<u16>,
}

/// An open task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    pub task_id: String,
    pub phase: String,
    pub age_ms: u64,
    pub priority: u8,
    /// How many tasks are before it in the queue; null if it does not wait there.
    pub position: Option<usize>,
    /// Whether it ends when nobody follows it any more.
    pub attached: bool,
    /// Where it is awarded.
    pub device_id: Option<String>,
    pub attempts: u32,
    /// Answer so far.
    pub bytes: u64,
}

/// What waits in the queue with one priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    pub priority: u8,
    /// How many tasks.
    pub waiting: usize,
    /// How long the oldest of them has.
    pub longest_ms: u64,
}

/// Answer to `GET /v1/tasks/{task}`: one of both is not null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOrOutcome {
    /// It is open.
    pub task: Option<TaskView>,
    /// It has ended.
    pub outcome: Option<OutcomeView>,
}

/// An ended task in the answer to `GET /v1/outcomes`: its outcome without the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndedView {
    pub task_id: String,
    #[serde(flatten)]
    pub outcome: DecisionOutcome,
}

/// A bounded collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    pub what: String,
    pub size: usize,
    pub limit: usize,
}

/// The decision record of a task. All `_ms` but the first count from its submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionView {
    pub task_id: String,
    pub submitted_ms_ago: u64,
    pub prompt_bytes: usize,
    pub policy: String,
    pub priority: u8,
    pub auctions: Vec<AuctionView>,
    pub happened: Vec<HappeningView>,
    /// How it ended; its `output` is left out.
    pub outcome: Option<DecisionOutcome>,
    pub ended_ms: Option<u64>,
    pub dropped_lines: usize,
}

/// One auction of a decision record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuctionView {
    pub opened_ms: u64,
    pub closed_ms: Option<u64>,
    pub answers: Vec<AnsweredView>,
    pub winner: Option<String>,
    /// All usable bids, best first.
    pub order: Vec<RankedView>,
    /// Why the winner won, or why nobody did.
    pub why: Option<String>,
}

/// What one device said to a bid request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnsweredView {
    pub device_id: String,
    pub at_ms: u64,
    #[serde(flatten)]
    pub answer: AnswerView,
}

/// An answer to a bid request, or what stands for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum AnswerView {
    Bid { bid: BidView },
    Refused { reason: String, words: String, retry_after_ms: Option<u64> },
    Unreachable { why: String },
    Silent,
    KnownBusy,
}

/// A bid in the order of a choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedView {
    pub device_id: String,
    pub has_npu: bool,
    /// 0 to 1.
    pub cpu_load: Option<f64>,
    /// Percent.
    pub battery: Option<u8>,
    /// Points under `weighted`.
    pub score: Option<f64>,
    /// Tried for this task before.
    pub tried: bool,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HappeningView {
    pub at_ms: u64,
    pub what: String,
}

/// How a task of a decision record ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionOutcome {
    pub status: String,
    pub device_id: Option<String>,
    pub output_bytes: usize,
    pub attempts: u32,
    pub why: String,
    /// `durable`, `kept` (it survives the process), `not_kept` (there is no store) or `failed`.
    pub written: String,
    /// How fast the worker was; only bidmesh devices say so.
    pub speed: Option<SpeedView>,
}

/// Body of `PUT /v1/peers/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAddress {
    /// `ADDR:PORT`.
    pub address: String,
}

/// Body of `POST /v1/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Say {
    /// A device, or `all`.
    pub to: String,
    /// What is said.
    pub message: SayMessage,
}

/// What is said outside any task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SayMessage {
    /// TEXT, for a person.
    Text { text: String },
    /// SLM_PROMPT.
    SlmPrompt { text: String },
    /// BID_REQUEST; `payload` is its JSON as text.
    BidRequest { payload: String },
    /// TASK; `payload` is its JSON as text.
    Task { payload: String },
    /// DISCOVER.
    Discover,
    /// These very bytes and a newline.
    Raw { text: String },
}

/// Answer to `POST /v1/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub sent: Vec<SentTo>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentTo {
    pub device_id: String,
    pub delivered: bool,
    /// Why not.
    pub why: Option<String>,
}

/// Body of `POST /v1/pause`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// How long; until resumed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// Body of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutDown {
    /// How long running work may take to finish; 10,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// Every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorView,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// One word for programs.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// When trying again may help.
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_all_that_a_submission_needs() {
        let submit: Submit = serde_json::from_str(r#"{"prompt": "hi"}"#).unwrap();
        assert_eq!(submit, Submit { prompt: "hi".into(), attached: true, ..Submit::default() });
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        assert!(serde_json::from_str::<Submit>(r#"{"prompt": "hi", "prioritty": 3}"#).is_err());
        assert!(
            serde_json::from_str::<Say>(r#"{"to": "A", "message": {"type": "text", "text": "x", "y": 1}}"#)
                .is_err()
        );
    }

    #[test]
    fn answers_say_what_they_are_beside_their_fields() {
        let answered = AnsweredView {
            device_id: "B".into(),
            at_ms: 7,
            answer: AnswerView::Unreachable { why: "refused the connection".into() },
        };
        let json = serde_json::to_string(&answered).unwrap();
        assert_eq!(
            json,
            r#"{"device_id":"B","at_ms":7,"answer":"unreachable","why":"refused the connection"}"#
        );
        assert_eq!(serde_json::from_str::<AnsweredView>(&json).unwrap(), answered);
    }
}
