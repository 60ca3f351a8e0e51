//! `bidmesh ask --batch`: every prompt of a file, each answer as one JSON line on stdout as soon as it is there.
//!
//! Each prompt is a detached task with a key made of the file's name, the prompt's id and its text. So the same file
//! asked again joins what is open, prints what is done without running it, and runs what is missing: prompts that have
//! no answer yet get another try under a key of their own. A batch that is interrupted is gone on with by the same command.

mod bar;
mod lines;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;

use super::{Ask, Seen, Watch, new_key};
use crate::api::types::{OutcomeView, SpeedView, Status, Submit};
use crate::cli::Shared;
use crate::client::{Client, Heard};
use crate::command::why::in_path;
use crate::device::{Keeping, Session};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::redrawn::{REDRAW, Redrawn};
use crate::signals::Signals;
use lines::Line;

/// Prompts that are handed in at a time unless a person says otherwise: more than a mesh has slots.
const IN_FLIGHT: u16 = 64;
/// How long after Ctrl-C the outcomes of what was open are waited for.
const CANCELLING: Duration = Duration::from_secs(10);
/// Tries of one prompt over all times that its file was asked.
const ROUNDS_MAX: u32 = 100;

/// Flags of `ask` for many prompts.
#[derive(Clone, Debug, Default, Args)]
pub struct Batch {
    /// Ask every prompt of a file, one a line, or JSON lines with `prompt`, `id`, `priority`, `npu_prompt`,
    /// `cpu_prompt`; `-`: stdin. Answers are JSON lines; the same file again asks only what has no answer yet
    #[arg(
        long = "batch",
        value_name = "FILE|-",
        conflicts_with_all = ["prompt", "npu_prompt", "cpu_prompt", "detach", "key", "dry_run"]
    )]
    pub file: Option<PathBuf>,
    /// Of a batch: how many prompts are handed in at a time [default: 64]
    #[arg(long, value_name = "N", requires = "file", value_parser = clap::value_parser!(u16).range(1..=200))]
    pub in_flight: Option<u16>,
    /// Of a batch: ask all of it anew, also what has an answer
    #[arg(long, requires = "file")]
    pub fresh: bool,
}

/// What is printed of a prompt.
#[derive(Serialize)]
struct Answered<'a> {
    id: &'a str,
    task_id: Option<&'a str>,
    /// As of an outcome, or `refused`.
    status: &'a str,
    device_id: Option<&'a str>,
    output: &'a str,
    attempts: u32,
    why: &'a str,
    speed: Option<&'a SpeedView>,
}

pub async fn run(shared: &Shared, output: &Output, ask: &Ask, file: &Path) -> Result<Exit, Failure> {
    let lines = lines::read(file)?;
    let salt = if ask.batch.fresh { new_key()? } else { String::new() };
    let prompts = lines.into_iter().map(|line| Prompt::new(line, ask, file, &salt)).collect();
    let mut signals = Signals::listen()?;
    // What is done must be known when the rest is asked.
    let session = signals.or_cancelled(Session::open(shared, Keeping::Always)).await?;
    let limit = usize::from(ask.batch.in_flight.unwrap_or(IN_FLIGHT));
    // From here on one that is away is waited for.
    let _: Status = session.client().get("/v1/status").await?;
    let open = Open::default();
    let running = Running::new(session.client(), output, &open, prompts);
    let result = running.finish(limit, &mut signals).await;
    session.close().await;
    result
}

/// A prompt of the file.
struct Prompt {
    id: String,
    key: String,
    submit: Submit,
}

impl Prompt {
    fn new(line: Line, ask: &Ask, file: &Path, salt: &str) -> Self {
        let key = line.key(file, salt);
        let Line { id, prompt, npu_prompt, cpu_prompt, priority } = line;
        let submit = Submit {
            npu_prompt,
            cpu_prompt,
            priority: priority.or(ask.priority),
            attached: false,
            ..ask.submit(prompt)
        };
        Self { id, key, submit }
    }
}

/// How a prompt of the file ended.
type Ended = (Prompt, Result<OutcomeView, Failure>);

/// What the device has and has not ended yet.
#[derive(Default)]
struct Open {
    tasks: RefCell<BTreeSet<String>>,
    /// The batch is interrupted: whatever the device takes on from now on is cancelled as well.
    cancelling: Cell<bool>,
}

/// A batch on its way.
struct Running<'a> {
    client: &'a Client,
    output: &'a Output,
    waiting: VecDeque<Prompt>,
    open: &'a Open,
    bar: Redrawn,
    begun: Instant,
    all: usize,
    answered: usize,
    unanswered: usize,
}

impl<'a> Running<'a> {
    fn new(client: &'a Client, output: &'a Output, open: &'a Open, mut prompts: Vec<Prompt>) -> Self {
        // The device orders what it has; what it has not yet got is ordered here.
        prompts.sort_by_key(|prompt| std::cmp::Reverse(prompt.submit.priority.unwrap_or(5)));
        let all = prompts.len();
        Self {
            client,
            output,
            waiting: prompts.into(),
            open,
            bar: Redrawn::new(output),
            begun: Instant::now(),
            all,
            answered: 0,
            unanswered: 0,
        }
    }

    async fn finish(mut self, limit: usize, signals: &mut Signals) -> Result<Exit, Failure> {
        let (client, open) = (self.client, self.open);
        let mut asked = FuturesUnordered::new();
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            while asked.len() < limit
                && let Some(prompt) = self.waiting.pop_front()
            {
                asked.push(one(client, open, prompt));
            }
            tokio::select! {
                ended = asked.next() => match ended {
                    Some(ended) => self.ended(ended)?,
                    None => return self.summary(),
                },
                () = signals.next() => break,
                _ = redraw.tick() => self.bar.show(&bar::line(self.answered, self.unanswered, asked.len(), self.all)),
            }
        }
        self.bar.clear();
        self.output.note("cancelling what is open; the same command goes on with the rest later");
        let cancelled = async {
            open.cancelling.set(true);
            let tasks = open.tasks.take();
            for task in &tasks {
                // If it is not open any more, its outcome is on the way.
                let _ = client.delete(&format!("/v1/tasks/{}", in_path(task)?)).await;
            }
            while let Some((prompt, ended)) = asked.next().await {
                // What was not handed in yet has nothing to say.
                let handed_in = ended.as_ref().is_ok_and(|outcome| tasks.contains(&outcome.task_id));
                if handed_in {
                    self.ended((prompt, ended))?;
                }
            }
            Ok::<(), Failure>(())
        };
        tokio::select! {
            told = tokio::time::timeout(CANCELLING, cancelled) => told.unwrap_or(Ok(()))?,
            () = signals.next() => {}
        }
        Err(Failure::silent(Exit::Cancelled))
    }

    /// Prints what became of a prompt; a device that cannot be asked any more ends the batch.
    fn ended(&mut self, (prompt, ended): Ended) -> Result<(), Failure> {
        self.bar.clear();
        let answered = match &ended {
            Ok(outcome) => Answered {
                id: &prompt.id,
                task_id: Some(&outcome.task_id),
                status: &outcome.status,
                device_id: outcome.device_id.as_deref(),
                output: &outcome.output,
                attempts: outcome.attempts,
                why: &outcome.why,
                speed: outcome.speed.as_ref(),
            },
            Err(refused) if matches!(refused.exit, Exit::Refused | Exit::Nobody | Exit::Usage) => Answered {
                id: &prompt.id,
                task_id: None,
                status: "refused",
                device_id: None,
                output: "",
                attempts: 0,
                why: &refused.message,
                speed: None,
            },
            Err(failure) => return Err(failure.clone()),
        };
        match answered.status {
            "completed" => self.answered += 1,
            _ => self.unanswered += 1,
        }
        self.output.json(&answered)
    }

    fn summary(self) -> Result<Exit, Failure> {
        let took = duration::words(duration::millis(self.begun.elapsed()));
        if self.unanswered == 0 {
            self.output.aside(&format!("[{} prompts answered in {took}]", self.all));
            return Ok(Exit::Ok);
        }
        let message = format!(
            "{} of {} prompts have no answer after {took}; the same command asks them again",
            self.unanswered, self.all
        );
        Err(Failure::new(Exit::Failed, "unanswered", message))
    }
}

/// One prompt to its outcome.
async fn one(client: &Client, open: &Open, prompt: Prompt) -> Ended {
    let mut round = 0;
    // Once the batch is cancelled, its end is the end.
    let again = || !open.cancelling.get();
    loop {
        let submit = Submit { key: Some(format!("{}.{round}", prompt.key)), ..prompt.submit.clone() };
        match to_outcome(client, open, submit).await {
            // Without an answer when the file was asked before: another try.
            Ok((outcome, true)) if outcome.status != "completed" && round < ROUNDS_MAX && again() => {
                round += 1;
            }
            Ok((outcome, _)) => return (prompt, Ok(outcome)),
            Err(failure) => {
                let Some(millis) = failure.retry_after_ms.filter(|_| again()) else {
                    return (prompt, Err(failure));
                };
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if !again() {
                    return (prompt, Err(failure));
                }
            }
        }
    }
}

/// The outcome, and whether the task is one of an earlier time.
async fn to_outcome(client: &Client, open: &Open, submit: Submit) -> Result<(OutcomeView, bool), Failure> {
    let mut watch = Watch::of_known_device(client, submit);
    let mut joined = None;
    loop {
        match watch.next().await? {
            Seen::Heard(Heard::Admitted(admitted)) => {
                joined.get_or_insert(admitted.joined);
                if open.cancelling.get() {
                    // It was on its way to the device when everything else was cancelled.
                    let _ = client.delete(&format!("/v1/tasks/{}", in_path(&admitted.task_id)?)).await;
                }
                open.tasks.borrow_mut().insert(admitted.task_id);
            }
            Seen::Heard(Heard::Outcome(outcome)) => {
                open.tasks.borrow_mut().remove(&outcome.task_id);
                return Ok((outcome, joined == Some(true)));
            }
            Seen::Heard(Heard::Text(_) | Heard::BrokenOff(_)) | Seen::Away => {}
        }
    }
}
