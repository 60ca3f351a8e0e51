//! One line for each input, event and action: what a person needs to follow a run.

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::{Body, Message};
use bidmesh_core::{Action, Event, Input, Report};

/// A line of a run, still without its time.
pub(super) struct Line {
    /// Whose it is, unless it is everybody's.
    pub(super) device: Option<String>,
    pub(super) text: String,
}

impl Line {
    pub(super) fn of(device: &DeviceId, text: impl Into<String>) -> Self {
        Self { device: Some(device.as_str().into()), text: text.into() }
    }

    pub(super) fn of_all(text: &str) -> Self {
        Self { device: None, text: text.into() }
    }
}

pub(super) fn input(input: &Input) -> String {
    match input {
        Input::Received { source, message: Ok(decoded) } => {
            format!("{} ({source})", message(&decoded.message))
        }
        Input::Received { source, message: Err(error) } => format!("unreadable ({source}): {error}"),
        Input::Submit(s) => format!("Submit {} {:?}", s.ticket, short(&s.prompts.base)),
        Input::Generated { run, offset, text } => {
            format!("Generated {} at {offset}: {:?}", run.0, short(text))
        }
        Input::PeersEdited(lines) => format!("PeersEdited, {} lines", lines.len()),
        Input::Reconfigured(_) => "Reconfigured".into(),
        other => short(&format!("{other:?}")),
    }
}

pub(super) fn event(event: &Event) -> String {
    short(&format!("{event:?}"))
}

pub(super) fn action(action: &Action) -> String {
    match action {
        Action::Send { id, device, to, message: m, dialect, give_up_at } => {
            format!("Send {} to {device} ({to}) {} {dialect:?} until {give_up_at}", id.0, message(m))
        }
        Action::Run { run, label, prompt, npu, limit } => {
            format!("Run {} {label} {:?} npu {npu} limit {limit:?}", run.0, short(prompt))
        }
        Action::Persist { sequence, record, barrier } => {
            let record = format!("{record:?}");
            let what = record.split([' ', '{']).next().unwrap_or_default();
            format!("Persist {} {what}{}", sequence.0, if *barrier { ", waited for" } else { "" })
        }
        Action::Report(Report::Outcome { task, outcome }) => {
            format!("OUTCOME of {task}: {} ({})", outcome.status.as_str(), short(&outcome.why))
        }
        Action::WritePeers { peers } => format!("WritePeers, {} lines", peers.len()),
        other => short(&format!("{other:?}")),
    }
}

fn message(message: &Message) -> String {
    let marker = message.marker.as_ref().map_or(String::from("shell"), |marker| marker.boot.to_string());
    let about = match &message.body {
        Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => format!("{:?}", short(text)),
        Body::Task(order) => {
            format!("{} {:?}", order.award.as_ref().map_or("no id", |a| a.as_str()), short(&order.prompt))
        }
        Body::Result(result) => {
            let award = result.award.as_ref().map_or("no id", |a| a.as_str());
            format!("{award} {} {:?}", result.status.as_str(), short(&result.output))
        }
        Body::Progress(p) => format!("{} at {} {:?}", p.award, p.offset, short(&p.text)),
        body => {
            let text = format!("{body:?}");
            short(text.split_once('(').map_or(text.as_str(), |(_, rest)| rest.trim_end_matches(')')))
        }
    };
    format!("{}|{}|{marker} {about}", message.body.kind(), message.from)
}

fn short(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}
