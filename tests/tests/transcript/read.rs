//! The lines of a transcript, read.

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::config::{AtLimit, Config};
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor, Priority, RunOutcome, Sensors};
use bidmesh_core::load::{DeciCelsius, Load, Percent};
use bidmesh_core::outbox::RunId;
use bidmesh_core::{Input, Submission};
use serde_json::{Map, Value};

use super::names::Names;

/// The words of a line; text in quotes is one word, with JSON's escapes.
pub(super) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut word = String::new();
        while let Some(c) = rest.chars().next().filter(|c| !c.is_whitespace()) {
            if c == '"' {
                let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let text = stream.next().ok_or("a quote is open")?.map_err(|error| error.to_string())?;
                word.push_str(&text);
                rest = &rest[stream.byte_offset()..];
            } else {
                word.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        words.push(word);
        rest = rest.trim_start();
    }
    Ok(words)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let value: f64 = number.parse().map_err(|_| format!("no time: {text}"))?;
    let seconds = match unit {
        "ms" => value / 1000.0,
        "s" | "" => value,
        "m" => value * 60.0,
        "h" => value * 3600.0,
        _ => return Err(format!("no time: {text}")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text}: {error}"))
}

pub(super) fn run(word: Option<&String>) -> Result<RunId, String> {
    let number = word.and_then(|word| word.strip_prefix('r')).and_then(|n| n.parse().ok());
    number.map(RunId).ok_or_else(|| "a run is missing".into())
}

/// `config KEY=VALUE …`
pub(super) fn configure(config: &mut Config, words: &[String]) -> Result<(), String> {
    for word in words {
        let (key, value) = word.split_once('=').ok_or("KEY=VALUE")?;
        let number = || value.parse::<usize>().map_err(|_| format!("no number: {value}"));
        let small = || value.parse::<u16>().map_err(|_| format!("no number: {value}"));
        let time = || duration(value);
        let (timing, limits) = (&mut config.timing, &mut config.limits);
        match key {
            "bid_deadline" => timing.bid_deadline = time()?,
            "result_timeout" => timing.result_timeout = time()?,
            "result_kept" => timing.result_kept = time()?,
            "progress_interval" => timing.progress_interval = time()?,
            "ageing" => timing.ageing = time()?,
            "run_limit" => timing.run_limit = time()?,
            "hedge" => timing.hedge = time()?,
            "heartbeat" => config.detection.heartbeat = time()?,
            "unreachable" => config.detection.unreachable = time()?,
            "damping" => config.detection.damping = time()?,
            "attempts" => limits.attempts = u32::from(small()?),
            "auctions" => limits.auctions = u32::from(small()?),
            "tasks" => limits.tasks = number()?,
            "tasks_per_client" => limits.tasks_per_client = number()?,
            "prompt_bytes" => limits.prompt_bytes = number()?,
            "shell_prompt_bytes" => limits.shell_prompt_bytes = number()?,
            "output_bytes" => limits.output_bytes = number()?,
            "outgoing" => limits.outgoing = number()?,
            "peers" => limits.peers = number()?,
            "kept_results" => limits.kept_results = number()?,
            "tombstones" => limits.tombstones = number()?,
            "closed_tasks" => limits.closed_tasks = number()?,
            "closed_bytes" => limits.closed_bytes = number()?,
            "decisions" => limits.decisions = number()?,
            "decision_lines" => limits.decision_lines = number()?,
            "pieces" => limits.pieces = number()?,
            "slots" => config.work.slots = small()?,
            "battery_min" => {
                let least = value.parse().ok().and_then(bidmesh_core::load::Percent::new);
                config.work.battery_min = least.ok_or("0 to 100")?;
            }
            "hours" => config.work.hours = value.parse().map_err(|_| "no hours")?,
            "at_limit" => {
                config.work.at_limit = if value == "hand_back" { AtLimit::HandBack } else { AtLimit::Finish };
            }
            "admit" => {
                config.admit = match value {
                    "listed" => bidmesh_core::config::Admit::Listed,
                    "any" => bidmesh_core::config::Admit::Any,
                    _ => bidmesh_core::config::Admit::Hello,
                }
            }
            "policy" => config.policy = value.parse().map_err(|_| "no such policy")?,
            "literal_echo" => {
                config.literal_echo.insert(device(value)?);
            }
            "prompt_in_bid_request" => config.prompt_in_bid_request = value == "true",
            _ => return Err(format!("no such setting: {key}")),
        }
    }
    Ok(())
}

fn device(text: &str) -> Result<DeviceId, String> {
    DeviceId::new(text).map_err(|error| error.to_string())
}

fn option<'a>(words: &'a [String], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn flag(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word == name)
}

/// Everything that is not about a message or a write.
pub(super) fn input(words: &[String], names: &Names) -> Result<Input, String> {
    let rest = words.get(1..).unwrap_or_default();
    let first = rest.first();
    Ok(match words.first().map(String::as_str).unwrap_or_default() {
        "wake" => Input::Wake,
        "submit" => Input::Submit(submission(rest)?),
        "cancel" => {
            let task = TaskId::new(&names.real(first.ok_or("a task is missing")?))
                .map_err(|error| error.to_string())?;
            Input::Cancel { task }
        }
        "sensors" => Input::SensorsRead(Sensors {
            cpu: option(rest, "cpu").and_then(Load::from_decimal),
            ram: option(rest, "ram").and_then(Load::from_decimal),
            battery: option(rest, "battery").and_then(Percent::from_decimal),
            charging: option(rest, "charging").map(|word| word == "true"),
            temperature: option(rest, "temperature")
                .and_then(|t| t.parse::<i16>().ok())
                .map(|t| DeciCelsius(t * 10)),
            minute_of_day: option(rest, "time").and_then(|time| time.parse().ok()),
        }),
        "executor" => Input::ExecutorChanged(Executor {
            available: !flag(rest, "none"),
            npu: flag(rest, "npu"),
            slots: option(rest, "slots").and_then(|n| n.parse().ok()),
            why: "as the transcript says".into(),
        }),
        "ran" => {
            let outcome = match rest.get(1).map(String::as_str) {
                Some("failed") => {
                    RunOutcome::Failed(rest.get(2).ok_or("a reason is missing")?.as_str().into())
                }
                Some("stopped") => RunOutcome::Stopped,
                Some(output) => RunOutcome::Completed(output.into()),
                None => return Err("ran RUN OUTPUT|failed WHY|stopped".into()),
            };
            Input::Ran { run: run(first)?, outcome }
        }
        "say" => {
            let to = device(first.ok_or("a peer is missing")?)?;
            let text = rest.get(1).ok_or("a text is missing")?.as_str().into();
            Input::Say { ticket: 7, to, body: bidmesh_core::wire::Body::Text(text) }
        }
        "reconfigured" => {
            let mut config = Config::default();
            configure(&mut config, rest)?;
            Input::Reconfigured(Box::new(config))
        }
        "pause" => Input::Pause { during: first.map(|time| duration(time)).transpose()? },
        "resume" => Input::Resume,
        "shutdown" => Input::Shutdown { within: duration(first.ok_or("a time is missing")?)? },
        "moved" if first.is_some_and(|word| word == "nowhere") => Input::AddressChanged(None),
        "moved" => {
            Input::AddressChanged(Some(first.and_then(|a| a.parse().ok()).ok_or("an address is missing")?))
        }
        "peers-edited" => {
            let line = |word: &String| {
                let (id, address) = word.split_once('=').ok_or("ID=ADDRESS")?;
                Ok::<_, String>((device(id)?, address.parse::<SocketAddr>().map_err(|e| e.to_string())?))
            };
            Input::PeersEdited(rest.iter().map(line).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("no such input: {other}")),
    })
}

fn submission(words: &[String]) -> Result<Submission, String> {
    let time = |key: &str| option(words, key).map(duration).transpose();
    let text = |key: &str| option(words, key).map(Into::into);
    let mut submission = Submission::new(1, words.first().ok_or("a prompt is missing")?.as_str());
    submission.prompts.npu = text("npu_prompt");
    submission.prompts.cpu = text("cpu_prompt");
    submission.deadline = time("deadline")?;
    submission.bid_deadline = time("bid_deadline")?;
    submission.result_timeout = time("result_timeout")?;
    submission.client = text("client");
    submission.key = text("key");
    submission.dry_run = flag(words, "dry_run");
    submission.attached = !flag(words, "detached");
    submission.policy =
        option(words, "policy").map(|p| p.parse().map_err(|_| "no such policy")).transpose()?;
    if let Some(priority) = option(words, "priority") {
        submission.priority = priority.parse().ok().and_then(Priority::new).ok_or("no such priority")?;
    }
    if let Some(ticket) = option(words, "ticket") {
        submission.ticket = ticket.parse().map_err(|_| "no such ticket")?;
    }
    if let Some(only) = option(words, "to") {
        submission.eligible = Some(only.split(',').map(device).collect::<Result<_, _>>()?);
    }
    Ok(submission)
}

/// The bytes of a peer's message. `boot=`, `source=` and `from=` are about the message, all else is in it; a text
/// alone is a bare payload.
pub(super) fn message(
    name: &str,
    shell: bool,
    boot: &mut String,
    source: &mut SocketAddr,
    kind: &str,
    fields: &[String],
    names: &Names,
) -> Result<Vec<u8>, String> {
    let mut json = Map::new();
    let mut payload = None;
    let mut unmarked = shell;
    let (mut advertised, mut from) = (*source, name.to_string());
    let mut this_boot = boot.clone();
    for field in fields {
        match field.split_once('=') {
            Some(("boot", new)) => {
                new.clone_into(boot);
                this_boot.clone_from(boot);
            }
            Some(("old_boot", old)) => old.clone_into(&mut this_boot),
            Some(("source", address)) => *source = address.parse().map_err(|_| "no such address")?,
            Some(("address", address)) => advertised = address.parse().map_err(|_| "no such address")?,
            Some(("from", other)) => other.clone_into(&mut from),
            Some((key, value)) => {
                let value = names.real(value);
                let value = serde_json::from_str(&value)
                    .ok()
                    .filter(|v: &Value| !v.is_string())
                    .unwrap_or(Value::String(value));
                json.insert(key.into(), value);
            }
            None if field == "unmarked" => unmarked = true,
            None if field == "marked" => unmarked = false,
            None => payload = Some(field.clone()),
        }
    }
    let marked = if unmarked { String::new() } else { format!(":bidmesh/1:{this_boot}") };
    let payload = match kind {
        "HELLO" | "DISCOVER" => format!("{advertised}{marked}"),
        _ if payload.is_some() => payload.unwrap_or_default(),
        "RESULT" if shell && unmarked => {
            let field = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
            // As the script prints it: the output stands raw.
            format!(
                r#"{{"task_id": "{}", "device_id": "{name}", "status": "{}", "output": "{}"}}"#,
                field("task_id"),
                json.get("status").and_then(Value::as_str).unwrap_or("completed"),
                field("output")
            )
        }
        _ => {
            if !unmarked {
                json.insert("bidmesh".into(), 1.into());
                json.insert("boot".into(), this_boot.into());
            }
            Value::Object(json).to_string()
        }
    };
    Ok(format!("{kind}|{from}|{payload}").into_bytes())
}
