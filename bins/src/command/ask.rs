//! `bidmesh ask`: a prompt to the mesh, its answer on stdout. Without a prompt on a terminal: one prompt after the
//! other.

mod batch;
mod interactive;
mod terminal;
mod watch;

pub use interactive::run as interactive;

use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::api::types::{Admitted, DecisionView, OutcomeView, SpeedView, Submit};
use crate::cli::Shared;
use crate::client::{Client, Heard};
use crate::command::why::in_path;
use crate::device::{Keeping, Session};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::{MapFlag, Phones};
use crate::signals::Signals;
use crate::words;

pub use watch::{Seen, Watch};

/// How long after Ctrl-C the outcome is waited for; the worker is told to stop in this time.
const CANCELLING: Duration = Duration::from_secs(3);
/// What is read of stdin: more than any device takes with its default limits, and not all that there may be.
const STDIN_BYTES_MAX: u64 = 4 << 20;

/// Flags of `ask`.
#[derive(Clone, Debug, Default, Args)]
pub struct Ask {
    /// The prompt; several words need no quotes. `-`: read it from stdin. Absent on a terminal: one after the other
    #[arg(value_name = "PROMPT|-")]
    pub prompt: Vec<String>,
    /// The prompt for a winner that runs it on an NPU
    #[arg(long, value_name = "PROMPT")]
    pub npu_prompt: Option<String>,
    /// The prompt for a winner that runs it on its processor
    #[arg(long, value_name = "PROMPT")]
    pub cpu_prompt: Option<String>,
    /// How the winner is chosen: npu-first or weighted [default: as the device is set]
    #[arg(long)]
    pub policy: Option<bidmesh_core::policy::Policy>,
    /// The longest that an auction waits for bids
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub bid_deadline: Option<Duration>,
    /// When nobody wants the answer any more, from now
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub deadline: Option<Duration>,
    /// The longest that one device may be silent about it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub result_timeout: Option<Duration>,
    /// 0 (last) to 9 (first) [default: 5]
    #[arg(long, value_name = "0..9", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// Only this device; may be given again
    #[arg(long, value_name = "DEVICE")]
    pub to: Vec<bidmesh_core::id::DeviceId>,
    /// Let this device on a phone ask, not the one of this machine; it is started if it does not run
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["detach", "file"])]
    pub on: Option<bidmesh_core::id::DeviceId>,
    #[command(flatten)]
    pub map: MapFlag,
    /// Only the auction: who would get it, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Print the task's id and end: the prompt goes on by itself; `bidmesh result ID` prints its answer
    #[arg(long, conflicts_with = "dry_run")]
    pub detach: bool,
    /// The same key is the same task: a prompt that is asked again is not run again; 1 to 64 bytes
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
    pub key: Option<String>,
    #[command(flatten)]
    pub batch: batch::Batch,
}

impl Ask {
    fn submit(&self, prompt: String) -> Submit {
        Submit {
            prompt,
            npu_prompt: self.npu_prompt.clone(),
            cpu_prompt: self.cpu_prompt.clone(),
            priority: self.priority,
            policy: self.policy.map(|policy| policy.as_str().into()),
            bid_deadline_ms: self.bid_deadline.map(duration::millis),
            result_timeout_ms: self.result_timeout.map(duration::millis),
            deadline_ms: self.deadline.map(duration::millis),
            client: None,
            key: self.key.clone(),
            attached: !self.detach,
            to: (!self.to.is_empty()).then(|| self.to.iter().map(ToString::to_string).collect()),
            dry_run: self.dry_run,
        }
    }

    /// The prompt of the command line or of stdin; `None`: a person is there to be asked for one.
    fn prompt(&self) -> Result<Option<String>, Failure> {
        let stdin_is_terminal = std::io::stdin().is_terminal();
        match self.prompt.as_slice() {
            [] if stdin_is_terminal => Ok(None),
            [] => from_stdin().map(Some),
            [dash] if dash == "-" => from_stdin().map(Some),
            words => Ok(Some(words.join(" "))),
        }
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed(format!("the prompt cannot be read from stdin: {error}")))?;
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        return Err(Failure::usage("the prompt on stdin is longer than 4 MiB; shorten it"));
    }
    let mut prompt = String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("the prompt on stdin is not UTF-8: {}", error.utf8_error()))
    })?;
    // The line end of `echo` is no part of the prompt.
    prompt.truncate(prompt.trim_end_matches(['\n', '\r']).len());
    Ok(prompt)
}

pub async fn run(shared: &Shared, ask: Ask) -> Result<Exit, Failure> {
    let output = shared.output();
    if let Some(file) = &ask.batch.file {
        return batch::run(shared, &output, &ask, file).await;
    }
    let prompt = ask.prompt()?;
    if ask.detach {
        return detach(shared, &output, &ask, prompt).await;
    }
    if prompt.as_deref().is_some_and(|prompt| prompt.trim().is_empty()) {
        return Err(Failure::usage(
            "the prompt is empty; write one, such as `bidmesh ask \"What is a mesh?\"`",
        ));
    }
    let mut signals = Signals::listen()?;
    if let Some(device) = &ask.on {
        let phones = Phones::open(&ask.map)?;
        let remote = phones.remote(&phones.named(device)?);
        let connected = signals.or_cancelled(super::launch::running(&remote, &output)).await?;
        let directory = crate::device::directory(shared)?;
        return match prompt {
            Some(prompt) => once(&connected.client, &output, &ask.submit(prompt), &mut signals).await,
            None => interactive(&connected.client, directory.path(), &output, &ask, &mut signals).await,
        };
    }
    let session = signals.or_cancelled(Session::open(shared, Keeping::IfThere)).await?;
    let result = match prompt {
        Some(prompt) => once(session.client(), &output, &ask.submit(prompt), &mut signals).await,
        None => interactive(session.client(), session.directory(), &output, &ask, &mut signals).await,
    };
    session.close().await;
    result
}

/// Hands a prompt in and goes. It needs a device that stays.
async fn detach(
    shared: &Shared,
    output: &Output,
    ask: &Ask,
    prompt: Option<String>,
) -> Result<Exit, Failure> {
    let prompt = prompt.ok_or_else(|| Failure::usage("--detach needs a prompt; write one after it"))?;
    let client = Client::of_directory(crate::device::directory(shared)?.path())?;
    let submit = ask.submit(prompt);
    let key = submit.key.clone().map_or_else(new_key, Ok)?;
    let submit = Submit { key: Some(key), ..submit };
    let admitted: Admitted = client.post("/v1/tasks", &submit).await?;
    if output.json {
        output.json(&admitted)?;
    } else {
        output.result(&format!("{}\n", admitted.task_id))?;
    }
    Ok(Exit::Ok)
}

/// A key that no other prompt has, so that this one can be handed in again.
fn new_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    Ok(format!("ask.{:032x}", u128::from_le_bytes(bytes)))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answered<'a> {
    task_id: &'a str,
    status: &'a str,
    device_id: Option<&'a str>,
    output: &'a str,
    attempts: u32,
    why: &'a str,
    speed: Option<&'a SpeedView>,
    decision: Option<&'a DecisionView>,
}

/// One prompt, to its outcome.
pub async fn once(
    client: &Client,
    output: &Output,
    submit: &Submit,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut submit = submit.clone();
    if submit.key.is_none() && !submit.dry_run {
        submit.key = Some(new_key()?);
    }
    let mut watch = Watch::new(client, submit);
    let mut answer = Answer::new(output);
    let outcome = tokio::select! {
        outcome = answer.follow(&mut watch) => outcome?,
        () = signals.next() => cancel(client, &mut answer, &mut watch, signals).await?,
    };
    let took_ms = duration::millis(begun.elapsed());
    // The record is for people; an answer without one is an answer all the same.
    let decision =
        client.get::<DecisionView>(&format!("/v1/decisions/{}", in_path(&outcome.task_id)?)).await.ok();
    answer.finish(&outcome, decision.as_ref(), took_ms)
}

/// Ends a task at its worker, and waits until that is so.
async fn cancel(
    client: &Client,
    answer: &mut Answer<'_>,
    watch: &mut Watch<'_>,
    signals: &mut Signals,
) -> Result<OutcomeView, Failure> {
    answer.muted = true;
    let gone = Failure::silent(Exit::Cancelled);
    let Some(task) = answer.task.clone() else { return Err(gone) };
    // If it is not open any more, its outcome is on the way.
    let _ = client.delete(&format!("/v1/tasks/{}", in_path(&task)?)).await;
    tokio::select! {
        outcome = tokio::time::timeout(CANCELLING, answer.follow(watch)) => outcome.unwrap_or(Err(gone)),
        () = signals.next() => Err(gone),
    }
}

/// An answer on its way to stdout.
struct Answer<'a> {
    output: &'a Output,
    task: Option<String>,
    /// How much of it was written, in bytes.
    written: usize,
    at_line_start: bool,
    muted: bool,
}

impl<'a> Answer<'a> {
    fn new(output: &'a Output) -> Self {
        Self { output, task: None, written: 0, at_line_start: true, muted: false }
    }

    /// Writes what comes until the outcome. May be cancelled and called again.
    async fn follow(&mut self, watch: &mut Watch<'_>) -> Result<OutcomeView, Failure> {
        loop {
            let heard = match watch.next().await? {
                Seen::Heard(heard) => heard,
                Seen::Away => {
                    self.output.note("the device has gone; waiting for it to be started again");
                    continue;
                }
            };
            match heard {
                Heard::Admitted(admitted) => self.admitted(admitted)?,
                Heard::Text(piece) => {
                    self.text(&piece.text)?;
                    self.written += piece.text.len();
                }
                Heard::BrokenOff(broken) => {
                    self.line(&words::broken_off(&broken))?;
                    self.written = 0;
                }
                Heard::Outcome(outcome) => return Ok(outcome),
            }
        }
    }

    /// The first time, or again after the device was away.
    fn admitted(&mut self, admitted: Admitted) -> Result<(), Failure> {
        let before = self.task.replace(admitted.task_id);
        if before.is_some() && before != self.task {
            self.output.note("the device had not kept the prompt: it was asked anew");
        }
        if self.written > 0 {
            let written = std::mem::take(&mut self.written);
            self.line(&format!(
                "[the device was started again after {written} bytes; the answer starts again]"
            ))?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        if self.output.json || self.muted || text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        self.output.foreign(text)
    }

    /// A line of its own.
    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let before = if self.at_line_start { "" } else { "\n" };
        self.text(&format!("{before}{line}\n"))
    }

    /// The rest of the answer, the status line, and how the command ends.
    fn finish(
        &mut self,
        outcome: &OutcomeView,
        decision: Option<&DecisionView>,
        took_ms: u64,
    ) -> Result<Exit, Failure> {
        let exit = exit_of(&outcome.status);
        if self.output.json {
            self.output.json(&Answered {
                task_id: &outcome.task_id,
                status: &outcome.status,
                device_id: outcome.device_id.as_deref(),
                output: &outcome.output,
                attempts: outcome.attempts,
                why: &outcome.why,
                speed: outcome.speed.as_ref(),
                decision,
            })?;
            return Ok(exit);
        }
        // What was written is the beginning of the output; the device sends the rest as text too, as a rule.
        self.text(outcome.output.get(self.written..).unwrap_or_default())?;
        if !self.at_line_start {
            self.text("\n")?;
        }
        if exit == Exit::Ok {
            self.output.aside(&words::asked(outcome, decision, took_ms));
            return Ok(exit);
        }
        Err(Failure::new(exit, &outcome.status, words::not_answered(outcome, decision, took_ms)))
    }
}

pub fn exit_of(status: &str) -> Exit {
    match status {
        "completed" | "decided" => Exit::Ok,
        "nobody" => Exit::Nobody,
        "expired" => Exit::Expired,
        "cancelled" => Exit::Cancelled,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn ask(line: &[&str]) -> Ask {
        let Command::Ask(ask) = Cli::try_parse_from(["bidmesh", "ask"].iter().chain(line)).unwrap().command
        else {
            panic!("not ask")
        };
        ask
    }

    #[test]
    fn every_flag_reaches_the_device() {
        let ask = ask(&[
            "--npu-prompt",
            "n",
            "--cpu-prompt",
            "c",
            "--policy",
            "weighted",
            "--bid-deadline",
            "500ms",
            "--deadline",
            "2m",
            "--result-timeout",
            "30",
            "--priority",
            "9",
            "--to",
            "B",
            "--to",
            "C",
            "--key",
            "k",
            "--detach",
            "what",
            "now",
        ]);
        let prompt = ask.prompt().unwrap().unwrap();
        let expected = Submit {
            prompt: "what now".into(),
            npu_prompt: Some("n".into()),
            cpu_prompt: Some("c".into()),
            priority: Some(9),
            policy: Some("weighted".into()),
            bid_deadline_ms: Some(500),
            result_timeout_ms: Some(30_000),
            deadline_ms: Some(120_000),
            client: None,
            key: Some("k".into()),
            attached: false,
            to: Some(vec!["B".into(), "C".into()]),
            dry_run: false,
        };
        assert_eq!(ask.submit(prompt), expected);
        assert!(self::ask(&["--dry-run", "what"]).submit("what".into()).dry_run);
    }

    #[test]
    fn what_is_out_of_range_is_told_by_the_command_line() {
        for line in [["--priority", "10"], ["--policy", "cheapest"], ["--to", "a|b"], ["--deadline", "soon"]]
        {
            assert!(Cli::try_parse_from(["bidmesh", "ask"].iter().chain(&line)).is_err(), "{line:?}");
        }
    }

    #[test]
    fn each_outcome_has_its_exit_status() {
        let exits = ["completed", "decided", "failed", "nobody", "expired", "cancelled"].map(exit_of);
        assert_eq!(exits, [Exit::Ok, Exit::Ok, Exit::Failed, Exit::Nobody, Exit::Expired, Exit::Cancelled]);
    }
}
