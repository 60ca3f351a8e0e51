//! What a device noticed, as lines of its log.

use bidmesh_core::Event;
use bidmesh_core::id::DeviceId;
use bidmesh_core::outbox::Ignored;
use bidmesh_core::snapshot::Health;

use super::Line;
use crate::duration;

/// One line for each event: things that people want to know at level 0, how it came about at 1, what changed
/// nothing at 2.
pub fn describe(event: &Event) -> Line {
    match event {
        Event::Opened { .. }
        | Event::BidTaken { .. }
        | Event::Refused { .. }
        | Event::Awarded { .. }
        | Event::Accepted { .. }
        | Event::Hedged { .. }
        | Event::AttemptLost { .. }
        | Event::Resting { .. }
        | Event::Finished { .. } => of_task(event),
        Event::StillPaused { .. }
        | Event::RunStarted { .. }
        | Event::RunLost { .. }
        | Event::RunEnded { .. }
        | Event::Declined { .. } => of_work(event),
        Event::PeerChanged { .. }
        | Event::PeerLeft { .. }
        | Event::PeerHealth { .. }
        | Event::Equivocation { .. }
        | Event::WrongSource { .. } => of_peers(event),
        Event::TextReceived { from, text } => Line::new("TEXT", 0, format!("{from}: {text}")),
        Event::SlmResultReceived { from, output } => Line::new("SLM_RESULT", 0, format!("{from}: {output}")),
        Event::Repaired { from, kind } => Line::new("INFO", 2, format!("{kind} of {from} had to be mended")),
        Event::Ignored { from, why } => {
            let from = from.as_ref().map_or_else(String::new, |from| format!(" of {from}"));
            Line::new("INFO", 2, format!("a message{from} changed nothing: {}", ignored(*why)))
        }
        Event::Slept { late_ms } => {
            Line::new("INFO", 1, format!("this device slept: {} late", crate::duration::words(*late_ms)))
        }
        Event::Overloaded { to } => {
            Line::new("WARN", 0, format!("a message to {to} was not sent: too many are waiting to leave"))
        }
    }
}

fn of_task(event: &Event) -> Line {
    match event {
        Event::Opened { task, asked } => Line::new("TASK", 1, format!("{task}: {asked} devices are asked")),
        Event::BidTaken { task, from } => Line::new("BID", 1, format!("{task}: {from} bids")),
        Event::Refused { task, from, reason } => {
            Line::new("BID", 1, format!("{task}: {from} refuses: {}", reason.words()))
        }
        Event::Awarded { task, to, attempt, why } => {
            Line::new("TASK", 0, format!("{task}: goes to {to} (attempt {attempt}): {why}"))
        }
        Event::Accepted { task, by, .. } => Line::new("TASK", 1, format!("{task}: {by} runs it")),
        Event::Hedged { task, slow, attempt } => {
            let what =
                format!("{task}: the first text of {slow} (attempt {attempt}) is late; another starts too");
            Line::new("TASK", 0, what)
        }
        Event::AttemptLost { task, device, attempt, why } => {
            Line::new("WARN", 0, format!("{task}: attempt {attempt} at {device} is lost: {why}"))
        }
        Event::Resting { task, .. } => Line::new("TASK", 1, format!("{task}: everybody is busy; it waits")),
        Event::Finished { task, status } => Line::new("TASK", 0, format!("{task}: {}", status.as_str())),
        _ => unnamed(event),
    }
}

fn of_work(event: &Event) -> Line {
    match event {
        Event::RunStarted { from, label, .. } => Line::new("RUN", 0, format!("{label}: begins, for {from}")),
        Event::StillPaused { until: None } => {
            Line::new("WARN", 0, "still paused, as before this start; `bidmesh resume` ends it")
        }
        Event::StillPaused { until: Some(until) } => {
            let left = duration::words(until.millis());
            Line::new(
                "WARN",
                0,
                format!("still paused, as before this start, for {left}; `bidmesh resume` ends it"),
            )
        }
        Event::RunLost { from, label } => {
            let what = format!("{label}: was cut off when this device stopped; {from} is told");
            Line::new("WARN", 0, what)
        }
        Event::RunEnded { run, status } => Line::new("RUN", 0, format!("run {}: {}", run.0, status.as_str())),
        Event::Declined { from, reason } => {
            Line::new("RUN", 1, format!("{from} was refused: {}", reason.words()))
        }
        _ => unnamed(event),
    }
}

fn of_peers(event: &Event) -> Line {
    match event {
        Event::PeerChanged { peer, address, restarted } => {
            let how = if *restarted { "was restarted, " } else { "" };
            Line::new("PEER", 0, format!("{peer}: {how}is at {address}"))
        }
        Event::PeerHealth { peer, health } => of_health(peer, *health),
        Event::PeerLeft { peer } => Line::new("PEER", 0, format!("{peer}: left in order")),
        Event::Equivocation { peer } => Line::new(
            "WARN",
            0,
            format!(
                "{peer}: two devices seem to use this id; give one of them another with `bidmesh up --id`"
            ),
        ),
        Event::WrongSource { from, source } => {
            Line::new("INFO", 2, format!("a message that says it is of {from} came from {source}"))
        }
        _ => unnamed(event),
    }
}

fn of_health(peer: &DeviceId, health: Health) -> Line {
    let what = match health {
        Health::Alive => "is there again",
        Health::Suspect => "may not be there: auctions ask it and do not wait for it",
        Health::Gone => "is gone, as far as can be known",
        Health::Back => "came and went too often lately: auctions do not wait for it for a while",
        Health::New | Health::Busy => "can be reached",
    };
    Line::new("PEER", u8::from(health != Health::Gone), format!("{peer}: {what}"))
}

/// Reached only if a group above and its function disagree: then the event still shows.
fn unnamed(event: &Event) -> Line {
    Line::new("INFO", 1, format!("{event:?}"))
}

fn ignored(why: Ignored) -> &'static str {
    match why {
        Ignored::Malformed => "it could not be read",
        Ignored::Stranger => "its sender is not known here",
        Ignored::Removed => "a person removed its sender",
        Ignored::BookFull => "the address book is full",
        Ignored::ForeignAddress => "it names an address that it does not come from",
        Ignored::Myself => "it says that it comes from this device",
        Ignored::UnknownType => "its type is not known",
        Ignored::UnknownTask => "no open task waits for it",
        Ignored::Late => "the auction was over",
        Ignored::NotAsked => "that device was not asked",
        Ignored::Repeated => "that device had answered already",
        Ignored::UnknownAward => "no such award was given to that device",
        Ignored::AwardOver => "the award is over",
        Ignored::UnknownRun => "no such run is known",
        Ignored::Duplicate => "it was a copy",
        Ignored::UnknownSend => "no such send is known",
        Ignored::OldBoot => "it was delayed from an earlier start of that device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_core::id::TaskId;
    use bidmesh_core::outbox::{OutcomeStatus, RunId};
    use bidmesh_core::wire::{Reason, Status};
    use std::time::UNIX_EPOCH;

    #[test]
    fn events_read_like_a_log() {
        let device = || DeviceId::new("Device_B").unwrap();
        let task = || TaskId::new("task_0123456789abc").unwrap();
        let address = "192.168.1.102:9999".parse().unwrap();
        let events = [
            Event::Opened { task: task(), asked: 4 },
            Event::BidTaken { task: task(), from: device() },
            Event::Refused { task: task(), from: device(), reason: Reason::Battery },
            Event::Awarded {
                task: task(),
                to: device(),
                attempt: 1,
                why: "Device_B won: it has an NPU".into(),
            },
            Event::Accepted { task: task(), by: device(), attempt: 1 },
            Event::Hedged { task: task(), slow: device(), attempt: 1 },
            Event::AttemptLost { task: task(), device: device(), attempt: 1, why: "went silent".into() },
            Event::Resting { task: task(), until: bidmesh_core::Time::ZERO },
            Event::Finished { task: task(), status: OutcomeStatus::Completed },
            Event::RunStarted { from: device(), run: RunId(1), label: "task_x.1.k7q2m".into() },
            Event::RunEnded { run: RunId(1), status: Status::Completed },
            Event::Declined { from: device(), reason: Reason::Busy },
            Event::PeerChanged { peer: device(), address, restarted: true },
            Event::PeerLeft { peer: device() },
            Event::PeerHealth { peer: device(), health: Health::Suspect },
            Event::PeerHealth { peer: device(), health: Health::Gone },
            Event::PeerHealth { peer: device(), health: Health::Alive },
            Event::PeerHealth { peer: device(), health: Health::Back },
            Event::Equivocation { peer: device() },
            Event::TextReceived { from: device(), text: "Hello from B!".into() },
            Event::SlmResultReceived { from: device(), output: "two\nlines".into() },
            Event::Repaired { from: device(), kind: "BID_RESPONSE".into() },
            Event::WrongSource { from: device(), source: address },
            Event::Ignored { from: None, why: Ignored::Malformed },
            Event::Slept { late_ms: 61_000 },
            Event::Overloaded { to: device() },
        ];
        let lines: Vec<String> = events
            .iter()
            .map(describe)
            .map(|line| format!("{} {}", line.level, line.written(UNIX_EPOCH)))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
