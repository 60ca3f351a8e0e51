//! The table of all settings: name, value, range, explanation. Nothing else in the program knows them one by one.

use super::value::{Range, Raw, Value, Written};
use super::values::Values;

/// Kept in device_config.json, where shell devices read them.
pub(super) const ID: &str = "id";
pub(super) const HAS_NPU: &str = "has_npu";

/// A setting: what it is called, what it may be, what it is for.
pub struct Key {
    /// Its dotted name, as in config.toml.
    pub name: &'static str,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
    range: Range,
    form: fn(Range) -> String,
    get: fn(&Values) -> Written,
    set: fn(&mut Values, &Raw, Range) -> Result<(), String>,
}

impl Key {
    /// What may be written.
    pub fn form(&self) -> String {
        (self.form)(self.range)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("BIDMESH_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// Its value among `values`.
    pub fn get(&self, values: &Values) -> Written {
        (self.get)(values)
    }

    pub(super) fn set(&self, values: &mut Values, raw: &Raw) -> Result<(), String> {
        (self.set)(values, raw, self.range)
    }

    pub(super) fn remedy(&self) -> String {
        format!("write {}", self.form())
    }

    pub(super) fn is_in_device_config(&self) -> bool {
        self.name == ID || self.name == HAS_NPU
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Names are unique: two keys of one name are one key.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

/// A row of the table: the field at `path` gives the type, and with it the form, the reader and the writer.
macro_rules! key {
    ($name:expr, $($path:ident).+, $range:expr, $help:expr) => {
        Key {
            name: $name,
            help: $help,
            range: $range,
            form: |range| form_at(|values| &values.$($path).+, range),
            get: |values| values.$($path).+.write(),
            set: |values, raw, range| {
                values.$($path).+ = Value::read(raw, range)?;
                Ok(())
            },
        }
    };
}

fn form_at<T: Value>(_: fn(&Values) -> &T, range: Range) -> String {
    T::form(range)
}

/// A row of [`ORDERED`].
macro_rules! ordered {
    ($group:ident: $low:ident <= $high:ident) => {
        (
            concat!(stringify!($group), ".", stringify!($low)),
            concat!(stringify!($group), ".", stringify!($high)),
            |values| values.core.$group.$low <= values.core.$group.$high,
        )
    };
}

/// All settings, in the order in which they are shown.
pub fn keys() -> &'static [Key] {
    KEYS
}

/// Two keys, and whether the first is not more than the second.
pub(super) type Ordered = (&'static str, &'static str, fn(&Values) -> bool);

/// Pairs of which the first must not be more than the second.
pub(super) const ORDERED: &[Ordered] = &[
    ordered!(timing: retry_low <= retry_high),
    ordered!(timing: busy_pause <= busy_pause_max),
    ordered!(timing: result_offer <= result_offer_max),
    ordered!(timing: heartbeat <= progress_deadline),
    ordered!(timing: result_timeout <= run_limit),
    ordered!(detection: suspect <= gone),
    ordered!(limits: tasks_per_client <= tasks),
];

static KEYS: &[Key] = &[
    key!(ID, device.id, Range::Any, "The name of this device in the mesh; kept in device_config.json."),
    key!(
        HAS_NPU,
        device.has_npu,
        Range::Any,
        "Whether this device has an NPU; nothing: look for one. Kept in device_config.json."
    ),
    key!("listen", listen, Range::Any, "The address and port at which peers reach this device."),
    key!(
        "policy",
        core.policy,
        Range::Any,
        "How the winner of an auction is chosen unless a task says otherwise."
    ),
    key!(
        "admit",
        core.admit,
        Range::Any,
        "Whose work is taken: `hello` who introduced itself, `listed` who stands in peers.txt, `any` everybody."
    ),
    key!(
        "literal_echo",
        core.literal_echo,
        Range::Any,
        "Shell devices whose echo interprets no escapes (bash, busybox)."
    ),
    key!(
        "prompt_in_bid_request",
        core.prompt_in_bid_request,
        Range::Any,
        "Whether all who are asked for a bid see the prompt, as in the shell mesh."
    ),
    key!("executor.run", executor.run, Range::Any, "What runs prompts here; nothing: no choice was made."),
    key!(
        "executor.preset",
        executor.preset,
        Range::Any,
        "Which program a command runs: the answer is taken out of what that one prints around it."
    ),
    key!(
        "executor.npu",
        executor.npu,
        Range::Any,
        "Whether what runs prompts uses the NPU: only then is one bid."
    ),
    key!(
        "executor.model",
        executor.model,
        Range::Any,
        "The model that an OpenAI-compatible server is asked for."
    ),
    key!(
        "executor.tokens",
        executor.tokens,
        Range::Whole(1, 1_000_000),
        "The most tokens of an answer of a server or of the embedded model (there 256 if nothing is said)."
    ),
    key!("executor.key", executor.key, Range::Any, "The key that an OpenAI-compatible server wants."),
    key!(
        "work.slots",
        core.work.slots,
        Range::Whole(1, 256),
        "Prompts that run here at once, unless the executor says fewer."
    ),
    key!(
        "work.battery_min",
        core.work.battery_min,
        Range::Any,
        "Below this charge and not charging, work is refused."
    ),
    key!(
        "work.heat_max",
        core.work.heat_max,
        Range::Any,
        "Above this temperature of the battery, work is refused."
    ),
    key!(
        "work.at_limit",
        core.work.at_limit,
        Range::Any,
        "What becomes of a prompt that runs when one of these limits is crossed: it is finished, or handed back."
    ),
    key!("work.hours", core.work.hours, Range::Any, "When in a day work is taken, in local time."),
    key!("work.task_types", core.work.task_types, Range::Any, "The task types that are run."),
    key!(
        "timing.bid_deadline",
        core.timing.bid_deadline,
        Range::Time(100, 600_000),
        "The longest that an auction waits for bids."
    ),
    key!(
        "timing.patience",
        core.timing.patience,
        Range::Time(10, 600_000),
        "How long a bidmesh peer is waited for once a usable bid is there."
    ),
    key!(
        "timing.patience_shell",
        core.timing.patience_shell,
        Range::Time(10, 600_000),
        "The same for a shell peer."
    ),
    key!(
        "timing.patience_refused",
        core.timing.patience_refused,
        Range::Time(10, 600_000),
        "A peer that has refused connections for this long is not waited for."
    ),
    key!(
        "timing.award_send",
        core.timing.award_send,
        Range::Time(10, 600_000),
        "How long a prompt is offered to the winner before the next bidder gets it."
    ),
    key!(
        "timing.accept",
        core.timing.accept,
        Range::Time(10, 600_000),
        "How long a winner that read its prompt may take to accept it."
    ),
    key!(
        "timing.progress_deadline",
        core.timing.progress_deadline,
        Range::Time(100, 3_600_000),
        "A worker that was silent for this long is asked what it does."
    ),
    key!(
        "timing.heartbeat",
        core.timing.heartbeat,
        Range::Time(100, 600_000),
        "How often a worker that generates nothing says that it is alive."
    ),
    key!(
        "timing.progress_interval",
        core.timing.progress_interval,
        Range::Time(10, 60_000),
        "The least time between two pieces of one answer."
    ),
    key!(
        "timing.query",
        core.timing.query,
        Range::Time(10, 600_000),
        "How long such a question may stay unanswered."
    ),
    key!(
        "timing.result_timeout",
        core.timing.result_timeout,
        Range::Time(1000, 86_400_000),
        "An attempt without a result ends after this time; progress starts it anew."
    ),
    key!(
        "timing.run_limit",
        core.timing.run_limit,
        Range::Time(1000, 86_400_000),
        "The longest that an attempt may take in all."
    ),
    key!(
        "timing.shell_probe",
        core.timing.shell_probe,
        Range::Time(100, 600_000),
        "How often a shell device that runs our task is tried: if it listens, it does not run."
    ),
    key!(
        "timing.shell_probe_patience",
        core.timing.shell_probe_patience,
        Range::Time(100, 600_000),
        "How long it may take to send its result all the same."
    ),
    key!(
        "timing.shell_busy",
        core.timing.shell_busy,
        Range::Time(1000, 86_400_000),
        "A shell device heard within this time that refuses connections is busy, not gone."
    ),
    key!(
        "timing.belief",
        core.timing.belief,
        Range::Time(100, 3_600_000),
        "How long a peer's word about its load is believed."
    ),
    key!(
        "timing.bid_validity",
        core.timing.bid_validity,
        Range::Time(100, 3_600_000),
        "An older bid cannot be awarded."
    ),
    key!(
        "timing.busy_pause",
        core.timing.busy_pause,
        Range::Time(10, 600_000),
        "How long a task rests first when all are busy; doubles."
    ),
    key!(
        "timing.busy_pause_max",
        core.timing.busy_pause_max,
        Range::Time(10, 3_600_000),
        "The longest such rest."
    ),
    key!(
        "timing.retry_low",
        core.timing.retry_low,
        Range::Time(1, 60_000),
        "The shortest first pause after a refused connection."
    ),
    key!(
        "timing.retry_high",
        core.timing.retry_high,
        Range::Time(1, 60_000),
        "The longest first pause after a refused connection."
    ),
    key!(
        "timing.try_limit",
        core.timing.try_limit,
        Range::Time(10, 600_000),
        "How long one try takes at most of a message that may be repeated."
    ),
    key!(
        "timing.notice_send",
        core.timing.notice_send,
        Range::Time(10, 600_000),
        "How long answers and notices are offered to a peer."
    ),
    key!(
        "timing.ageing",
        core.timing.ageing,
        Range::Time(100, 86_400_000),
        "How long waiting raises a task by one priority."
    ),
    key!(
        "timing.retry_after",
        core.timing.retry_after,
        Range::Time(10, 600_000),
        "When a peer that was refused for load is told to ask again."
    ),
    key!(
        "timing.result_offer",
        core.timing.result_offer,
        Range::Time(10, 600_000),
        "The first pause before an unacknowledged result is offered again; doubles."
    ),
    key!(
        "timing.result_offer_max",
        core.timing.result_offer_max,
        Range::Time(10, 3_600_000),
        "The longest such pause."
    ),
    key!(
        "timing.result_kept",
        core.timing.result_kept,
        Range::Time(1000, 604_800_000),
        "How long an unacknowledged result is kept."
    ),
    key!(
        "timing.duplicate_window",
        core.timing.duplicate_window,
        Range::Time(0, 600_000),
        "How long a prompt without an id is known again by its text."
    ),
    key!(
        "timing.hedge",
        core.timing.hedge,
        Range::Time(0, 600_000),
        "When the first text is later than this, and than three times what the device needed last, the second-best bidder starts too; 0: never."
    ),
    key!(
        "timing.hello_interval",
        core.timing.hello_interval,
        Range::Time(100, 3_600_000),
        "A peer's HELLO is answered at most this often."
    ),
    key!(
        "timing.lateness",
        core.timing.lateness,
        Range::Time(100, 600_000),
        "A device that is called later than this after its deadline concludes that it slept."
    ),
    key!(
        "detection.heartbeat",
        core.detection.heartbeat,
        Range::Time(0, 3_600_000),
        "A bidmesh peer that was told nothing for this long gets a sign of life; on a battery half as often; 0: never."
    ),
    key!(
        "detection.suspect",
        core.detection.suspect,
        Range::Whole(1, 12),
        "From this level of suspicion on a silent peer is not waited for: wrong once in 10^level heartbeats."
    ),
    key!(
        "detection.gone",
        core.detection.gone,
        Range::Whole(1, 12),
        "From this level on it is taken for gone."
    ),
    key!(
        "detection.unreachable",
        core.detection.unreachable,
        Range::Time(0, 86_400_000),
        "A peer that could not be reached for this long is gone; 0: not for that reason."
    ),
    key!(
        "detection.damping",
        core.detection.damping,
        Range::Time(0, 3_600_000),
        "The half-life of what is held against a peer that comes and goes; 0: nothing is."
    ),
    key!("limits.peers", core.limits.peers, Range::Whole(1, 100_000), "Devices in the address book."),
    key!(
        "limits.removed_peers",
        core.limits.removed_peers,
        Range::Whole(0, 100_000),
        "Removed devices that are remembered and stay out."
    ),
    key!("limits.tasks", core.limits.tasks, Range::Whole(1, 1_000_000), "Open tasks of this device."),
    key!(
        "limits.tasks_per_client",
        core.limits.tasks_per_client,
        Range::Whole(1, 1_000_000),
        "Open tasks of one client."
    ),
    key!(
        "limits.closed_tasks",
        core.limits.closed_tasks,
        Range::Whole(0, 1_000_000),
        "Closed tasks that are remembered."
    ),
    key!(
        "limits.closed_bytes",
        core.limits.closed_bytes,
        Range::Whole(0, 17_179_869_184),
        "Bytes of their outputs, in all."
    ),
    key!("limits.prompt_bytes", core.limits.prompt_bytes, Range::Whole(1, 67_108_864), "Bytes of a prompt."),
    key!(
        "limits.shell_prompt_bytes",
        core.limits.shell_prompt_bytes,
        Range::Whole(1, 131_072),
        "Bytes of a prompt for a shell device."
    ),
    key!(
        "limits.output_bytes",
        core.limits.output_bytes,
        Range::Whole(1, 268_435_456),
        "Bytes of an output."
    ),
    key!(
        "limits.pieces",
        core.limits.pieces,
        Range::Whole(1, 65_536),
        "Out-of-order pieces of an answer that are kept."
    ),
    key!("limits.attempts", core.limits.attempts, Range::Whole(1, 100), "Accepted runs before a task fails."),
    key!(
        "limits.auctions",
        core.limits.auctions,
        Range::Whole(1, 1000),
        "Auctions without an accepted run before a task fails."
    ),
    key!("limits.outgoing", core.limits.outgoing, Range::Whole(16, 1_000_000), "Messages owed to peers."),
    key!(
        "limits.kept_results",
        core.limits.kept_results,
        Range::Whole(1, 65_536),
        "Results kept for an acknowledgement."
    ),
    key!(
        "limits.tombstones",
        core.limits.tombstones,
        Range::Whole(1, 1_000_000),
        "Ended awards that are remembered."
    ),
    key!(
        "limits.decisions",
        core.limits.decisions,
        Range::Whole(1, 65_536),
        "Decision records that are kept."
    ),
    key!(
        "limits.decision_lines",
        core.limits.decision_lines,
        Range::Whole(1, 65_536),
        "Lines of one decision record."
    ),
    key!(
        "network.message_bytes",
        network.message_bytes,
        Range::Whole(1024, 268_435_456),
        "The longest message that is taken, in bytes."
    ),
    key!(
        "network.connections",
        network.connections,
        Range::Whole(1, 65_536),
        "Connections at a time, in all."
    ),
    key!(
        "network.connections_per_address",
        network.connections_per_address,
        Range::Whole(1, 65_536),
        "Connections at a time from one address."
    ),
    key!(
        "network.first_byte",
        network.first_byte,
        Range::Time(100, 600_000),
        "How long a connection may stay without a first byte."
    ),
    key!(
        "network.whole_message",
        network.whole_message,
        Range::Time(100, 3_600_000),
        "How long a message may take in all."
    ),
    key!("sensors.interval", sensors.interval, Range::Time(500, 600_000), "How often the sensors are read."),
    key!(
        "sensors.processor_heat_max",
        sensors.processor_heat_max,
        Range::Any,
        "Above this, work is refused where only the processor's temperature is known."
    ),
    key!(
        "store.enabled",
        store.enabled,
        Range::Any,
        "Whether prompts, answers and kept results survive the process, in store.redb; counts from the next start."
    ),
    key!(
        "store.sync",
        store.sync,
        Range::Any,
        "Whether they are said to be kept only once the disk has them; if not, a loss of power may cost the newest."
    ),
    key!(
        "store.age",
        store.age,
        Range::Time(60_000, 31_536_000_000),
        "How long ended prompts are remembered; `limits.closed_tasks` and `limits.closed_bytes` bound how many."
    ),
    key!(
        "control.port",
        control_port,
        Range::Any,
        "The port of the control API on loopback; 0: the system chooses."
    ),
    key!(
        "shutdown.within",
        shutdown_within,
        Range::Time(0, 3_600_000),
        "How long running work may take at an orderly end."
    ),
];
