//! What people read: pure functions from what the control API says to text. Snapshots in `words/tests.rs`.

mod why;

use std::fmt::Write;

use crate::api::types::{
    BidView, BrokenOff, DecisionView, EndedView, OutcomeView, Peer, QueueView, SensorsView, SpeedView,
    Status, TaskView,
};
use crate::duration;
use crate::table::Table;

pub use why::{why, why_list};

/// `status`: the device, its peers, its open tasks.
pub fn status(status: &Status) -> String {
    let mut text = format!(
        "{}  bidmesh {}, up {}, process {}\n",
        status.device_id,
        status.version,
        duration::words(status.uptime_ms),
        status.pid
    );
    let mut facts = Table::bare();
    facts.row(["address".into(), status.address.clone().unwrap_or_else(|| "not known yet".into())]);
    if let Some(directory) = &status.directory {
        facts.row(["directory".into(), directory.clone()]);
    }
    facts.row(["work".into(), work(status)]);
    facts.row(["executor".into(), executor(status)]);
    facts.row(["sensors".into(), sensors(&status.sensors)]);
    if !status.queue.is_empty() {
        facts.row(["waiting".into(), queue(&status.queue)]);
    }
    if status.kept_results > 0 {
        let results = if status.kept_results == 1 {
            "1 result".into()
        } else {
            format!("{} results", status.kept_results)
        };
        facts.row(["kept".into(), format!("{results} not yet taken by whoever asked")]);
    }
    for usage in status.usage.iter().filter(|usage| usage.limit > 0 && usage.size >= usage.limit / 10 * 9) {
        facts.row(["nearly full".into(), format!("{}: {} of {}", usage.what, usage.size, usage.limit)]);
    }
    text.push_str(&facts.render(2));
    if !status.runs.is_empty() {
        let mut runs = Table::new(["RUNS FOR", "AWARD", "SINCE", "OUTPUT"]);
        for run in &status.runs {
            let since = duration::words(run.age_ms);
            runs.row([run.from.clone(), run.label.clone(), since, duration::bytes(run.bytes)]);
        }
        let _ = write!(text, "\n{}", runs.render(0));
    }
    let _ = write!(text, "\n{}", peers(&status.peers));
    if !status.tasks.is_empty() {
        let _ = write!(text, "\n{}", tasks(&status.tasks));
    }
    text
}

fn work(status: &Status) -> String {
    match &status.refuses_words {
        Some(words) => format!("refused: {words}"),
        None => format!("{} of {} slots taken", status.runs.len(), status.slots),
    }
}

fn executor(status: &Status) -> String {
    let executor = &status.executor;
    let kind = match (executor.available, executor.npu) {
        (false, _) => "none ready",
        (true, true) => "on the NPU",
        (true, false) => "on the processor",
    };
    if executor.why.is_empty() { kind.into() } else { format!("{kind}: {}", executor.why) }
}

fn sensors(sensors: &SensorsView) -> String {
    let battery = match (sensors.battery, sensors.charging) {
        (None, _) => "no battery known".into(),
        (Some(charge), Some(true)) => format!("battery {charge}%, charging"),
        (Some(charge), _) => format!("battery {charge}%"),
    };
    let heat = sensors.temperature.map_or_else(|| "temperature unknown".into(), |t| format!("{t:.1} °C"));
    format!("cpu {}, memory {}, {battery}, {heat}", share(sensors.cpu_load), share(sensors.ram_load))
}

/// A share as whole percent, rounded down as core does.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "unknown".into(), |share| format!("{}%", (share * 100.0 + 1e-9).floor()))
}

/// The address book.
pub fn peers(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers known; add one with `bidmesh peers add DEVICE ADDR:PORT`\n".into();
    }
    let mut table =
        Table::new(["PEER", "ADDRESS", "SPEAKS", "HEALTH", "HEARD", "FREE", "OURS", "SPEED", "LAST BID"]);
    for peer in peers {
        table.row([
            peer.device_id.clone(),
            peer.address.clone(),
            peer.dialect.replace('_', " "),
            health(peer),
            peer.heard_ms_ago
                .map_or_else(|| "never".into(), |millis| format!("{} ago", duration::words(millis))),
            peer.free.to_string(),
            peer.awards.to_string(),
            peer.speed.as_ref().map_or_else(|| "-".into(), pace),
            peer.bid.as_ref().map_or_else(|| "-".into(), bid),
        ]);
    }
    table.render(0)
}

/// Its health; where its silence is unusual, how much.
fn health(peer: &Peer) -> String {
    match peer.suspicion {
        Some(level) if level >= 1.0 => format!("{} ({level:.1})", peer.health),
        _ => peer.health.clone(),
    }
}

/// The address book of a device that does not run.
pub fn peers_of_file(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return self::peers(peers);
    }
    let mut table = Table::new(["PEER", "ADDRESS"]);
    for peer in peers {
        table.row([peer.device_id.clone(), peer.address.clone()]);
    }
    table.render(0)
}

/// Open tasks.
pub fn tasks(tasks: &[TaskView]) -> String {
    let mut table =
        Table::new(["TASK", "PHASE", "BEFORE IT", "SINCE", "PRIORITY", "AT", "ATTEMPTS", "ANSWER"]);
    for task in tasks {
        table.row([
            task.task_id.clone(),
            if task.attached { task.phase.clone() } else { format!("{}, detached", task.phase) },
            task.position.map_or_else(|| "-".into(), |position| position.to_string()),
            duration::words(task.age_ms),
            task.priority.to_string(),
            task.device_id.clone().unwrap_or_else(|| "-".into()),
            task.attempts.to_string(),
            duration::bytes(task.bytes),
        ]);
    }
    table.render(0)
}

/// Ended tasks.
pub fn ended(tasks: &[EndedView]) -> String {
    let mut table = Table::new(["TASK", "ENDED", "AT", "ATTEMPTS", "ANSWER", "ON DISK"]);
    for EndedView { task_id, outcome } in tasks {
        table.row([
            task_id.clone(),
            outcome.status.clone(),
            outcome.device_id.clone().unwrap_or_else(|| "-".into()),
            outcome.attempts.to_string(),
            duration::bytes(outcome.output_bytes as u64),
            outcome.written.replace('_', " "),
        ]);
    }
    table.render(0)
}

/// What waits, by priority: `3 of priority 9 (the oldest for 12 s), 1 of priority 5 (…)`.
fn queue(queue: &[QueueView]) -> String {
    let line = |line: &QueueView| {
        format!(
            "{} of priority {} (the oldest for {})",
            line.waiting,
            line.priority,
            duration::words(line.longest_ms)
        )
    };
    queue.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// A bid: what it says that may matter.
fn bid(bid: &BidView) -> String {
    let npu = if bid.has_npu { "NPU" } else { "no NPU" };
    let mut text = format!("{npu}, cpu {}, memory {}", share(bid.cpu_load), share(bid.ram_load));
    match (bid.battery, bid.charging) {
        (Some(charge), Some(true)) => drop(write!(text, ", battery {charge}% charging")),
        (Some(charge), _) => drop(write!(text, ", battery {charge}%")),
        (None, _) => {}
    }
    if let (Some(slots), Some(running)) = (bid.slots, bid.running) {
        let _ = write!(text, ", {running} of {slots} slots taken");
    }
    text
}

/// The one line that `ask` says after an answer: who was asked, who won and why, how long.
pub fn asked(outcome: &OutcomeView, decision: Option<&DecisionView>, took_ms: u64) -> String {
    let took = duration::words(took_ms);
    let device = outcome.device_id.as_deref().unwrap_or("nobody");
    let attempts = match outcome.attempts {
        0 | 1 => String::new(),
        count => format!(" and {count} attempts"),
    };
    let done = match outcome.status.as_str() {
        "decided" => format!("only the auction, in {took}: it would go to {device}"),
        // How long it took was measured here; how fast it was, by the worker.
        _ => {
            let speed = outcome.speed.as_ref().map(self::speed).filter(|speed| !speed.is_empty());
            let speed = speed.map_or_else(String::new, |speed| format!(", {speed}"));
            format!("{device} answered in {took}{attempts}{speed}")
        }
    };
    let won = decision.and_then(|decision| decision.auctions.last()?.why.as_deref());
    let won = won.map_or_else(String::new, |won| format!("; {won}"));
    format!("[{done}{}{won}]", devices_asked(decision))
}

/// How fast a worker was, as it measured itself.
pub fn speed(speed: &SpeedView) -> String {
    let first =
        speed.first_text_ms.map(|millis| format!("first text after {}", duration::words(millis.into())));
    let rate = speed.tokens_per_second.map(|rate| format!("{rate:.1} tokens/s"));
    [first, rate].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The same in a table: tokens a second where they are counted, else how long it was at it.
fn pace(speed: &SpeedView) -> String {
    match speed.tokens_per_second {
        Some(rate) => format!("{rate:.1} tok/s"),
        None => format!("took {}", duration::words(speed.total_ms.into())),
    }
}

/// The one line of a prompt without an answer.
pub fn not_answered(outcome: &OutcomeView, decision: Option<&DecisionView>, took_ms: u64) -> String {
    let what = without_answer(&outcome.status);
    let why = if outcome.why.is_empty() { String::new() } else { format!(": {}", outcome.why) };
    format!("{what} after {}{}{why}", duration::words(took_ms), devices_asked(decision))
}

/// The same, long after.
pub fn ended_without_answer(outcome: &OutcomeView) -> String {
    let why = if outcome.why.is_empty() { String::new() } else { format!(": {}", outcome.why) };
    format!("{}{why}", without_answer(&outcome.status))
}

fn without_answer(status: &str) -> &'static str {
    match status {
        "nobody" => "no device took the prompt",
        "expired" => "the prompt's deadline passed",
        "cancelled" => "the prompt was cancelled",
        _ => "the prompt failed",
    }
}

/// Who was asked, last.
fn devices_asked(decision: Option<&DecisionView>) -> String {
    let Some(auction) = decision.and_then(|decision| decision.auctions.last()) else { return String::new() };
    let names: Vec<&str> = auction.answers.iter().map(|answered| answered.device_id.as_str()).collect();
    match names.as_slice() {
        [] => "; nobody was asked".into(),
        few if few.len() <= 5 => format!("; asked {}", few.join(", ")),
        [first, second, third, more @ ..] => {
            format!("; asked {first}, {second}, {third} and {} more", more.len())
        }
        few => format!("; asked {}", few.join(", ")),
    }
}

/// What stands in the answer where it broke off.
pub fn broken_off(broken: &BrokenOff) -> String {
    let who = if broken.why.starts_with(&broken.device_id) {
        String::new()
    } else {
        format!("{} ", broken.device_id)
    };
    format!("[{who}{} after {} bytes; the answer starts again]", broken.why, broken.shown)
}

#[cfg(test)]
mod tests;
