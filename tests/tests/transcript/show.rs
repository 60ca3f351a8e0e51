//! What a device did, a line each.

use bidmesh_core::decision::Decision;
use bidmesh_core::outbox::Record;
use bidmesh_core::snapshot::Snapshot;
use bidmesh_core::wire::{Dialect, encode};
use bidmesh_core::{Action, Event};
use serde::Serialize;
use serde_json::Value;

pub(super) fn event(event: &Event) -> String {
    format!("* {}", tagged(&serde_json::to_value(event).unwrap(), "event"))
}

/// `None` for what every line would repeat.
pub(super) fn action(action: &Action) -> Option<String> {
    Some(match action {
        Action::Send { device, message, dialect, .. } => {
            let bytes = encode(message, Dialect::Bidmesh).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let payload = text.trim_end().splitn(3, '|').nth(2).unwrap_or_default();
            let fields = match serde_json::from_str::<Value>(payload) {
                Ok(Value::Object(mut fields)) => {
                    for obvious in ["bidmesh", "boot", "device_id"] {
                        fields.remove(obvious);
                    }
                    list(&Value::Object(fields))
                }
                _ if matches!(message.body.kind(), "HELLO" | "DISCOVER") => String::new(),
                _ => format!("{payload:?}"),
            };
            let how = match dialect {
                Dialect::Bidmesh => "",
                Dialect::Shell => " (shell)",
                Dialect::ShellLiteral => " (shell, literal)",
            };
            format!("-> {device} {} {fields}", message.body.kind()).trim_end().to_string() + how
        }
        Action::Abandon { .. } => return None,
        Action::Run { run, label, prompt, npu, .. } => {
            format!("run r{} {label} {prompt:?}{}", run.0, if *npu { " on the NPU" } else { "" })
        }
        Action::Stop { run } => format!("stop r{}", run.0),
        Action::Report(report) => {
            format!("report {}", tagged(&serde_json::to_value(report).unwrap(), "report"))
        }
        Action::Persist { record, barrier, .. } => {
            let what = match record {
                Record::Task { task, .. } => format!("task {task}"),
                Record::Award { award, device, .. } => format!("award {award} to {device}"),
                Record::Outcome { task, outcome } => format!("outcome {task} {}", outcome.status.as_str()),
                Record::Started { award, .. } => format!("start {award}"),
                Record::Kept { award, status, .. } => format!("result {award} {}", status.as_str()),
                Record::Forgotten { award, .. } => format!("forgotten {award}"),
                Record::Paused { during: None } => "paused".into(),
                Record::Paused { during: Some(during) } => format!("paused for {}s", during.as_secs_f64()),
                Record::Resumed => "resumed".into(),
            };
            format!("persist {what}{}", if *barrier { "" } else { " (behind)" })
        }
        Action::WritePeers { peers } => {
            let lines: Vec<String> = peers.iter().map(|(id, address)| format!("{id}={address}")).collect();
            format!("write peers {}", lines.join(" "))
        }
        Action::Halt => "halt".into(),
    })
}

/// A decision record: its head, then its auctions with their answers, then what happened besides.
pub(super) fn decision(decision: &Decision) -> Vec<String> {
    let mut head = serde_json::to_value(decision).unwrap();
    let mut auctions = Vec::new();
    for auction in &decision.auctions {
        let mut line = serde_json::to_value(auction).unwrap();
        line.as_object_mut().unwrap().remove("answers");
        auctions.push(format!("auction {}", list(&line)));
        auctions.extend(auction.answers.iter().map(|answer| list(&serde_json::to_value(answer).unwrap())));
    }
    let happened = decision
        .happened
        .iter()
        .map(|line| format!("happened {}", list(&serde_json::to_value(line).unwrap())));
    let fields = head.as_object_mut().unwrap();
    fields.remove("auctions");
    fields.remove("happened");
    [format!("decision {}", list(&head))].into_iter().chain(auctions).chain(happened).collect()
}

/// What `status` knows, without what every line would repeat and what holds nothing.
pub(super) fn status(status: &Snapshot) -> Vec<String> {
    fn lines<T: Serialize>(name: &str, of: &[T]) -> Vec<String> {
        of.iter().map(|line| format!("{name} {}", list(&serde_json::to_value(line).unwrap()))).collect()
    }
    let mut head = format!("status slots={} kept_results={}", status.slots, status.kept_results);
    if let Some(reason) = &status.refuses {
        head.push_str(&format!(" refuses={}", reason.as_str()));
    }
    let used: Vec<_> = status.usage.iter().filter(|usage| usage.size > 0).collect();
    let used = used.iter().map(|usage| format!("{}={}/{}", usage.what, usage.size, usage.limit));
    let used = format!("usage {}", used.collect::<Vec<_>>().join(" "));
    let parts = [lines("run", &status.runs), lines("peer", &status.peers), lines("task", &status.tasks)];
    [head].into_iter().chain(parts.into_iter().flatten()).chain([used]).collect()
}

/// `name key=value …` of an object whose `tag` holds the name.
fn tagged(value: &Value, tag: &str) -> String {
    let mut value = value.clone();
    let name = value.as_object_mut().and_then(|fields| fields.remove(tag));
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default().to_string();
    format!("{name} {}", list(&value)).trim_end().to_string()
}

fn list(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let some = fields.iter().filter(|(_, value)| !value.is_null());
            some.map(|(key, value)| format!("{key}={}", scalar(value))).collect::<Vec<_>>().join(" ")
        }
        other => scalar(other),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b)) =>
        {
            text.clone()
        }
        Value::Object(_) => format!("({})", list(value)),
        other => other.to_string(),
    }
}
