//! Runs prompts with a program, as the shell mesh does: it is called with one argument, the path of a file that
//! holds the prompt; what it prints is the answer. No shell is involved. The program runs in a process group of its
//! own, which is gone when the run is over: a server that the program starts and wants to keep must leave it
//! (`setsid`).
//!
//! The program's environment says `BIDMESH_TASK_ID` (the award), `BIDMESH_USE_NPU` (`1` or `0`) and `BIDMESH_MODE`
//! (`npu` or `cpu`). Its standard input is empty.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, RunOutcome};
use rustix::fs::{Access, access};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::output::{LastWords, Output};
use super::preset::{Filter, Preset};
use super::process::Group;
use super::{Executor, Generated, Job, Stop, failed, is_stopped};

/// How long processes have to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long processes that the program left behind may still print after it has ended.
const LINGER: Duration = Duration::from_millis(500);
/// How long to wait for output from processes that are no longer of its group.
const ESCAPED: Duration = Duration::from_millis(200);
/// How much is read at once, in bytes.
const CHUNK: usize = 8 * 1024;
/// How much of the last words on stderr goes into an error, in bytes.
const LAST_WORDS: usize = 500;
/// The beginning of the names of prompt files.
const PROMPT_PREFIX: &str = "bidmesh-prompt-";
/// A prompt file of this age was left behind by a crash: no run is that long.
const PROMPT_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a program that could not be started is believed to stay so.
const BROKEN_FOR: Duration = Duration::from_secs(60);

/// Runs a program for each prompt.
#[derive(Debug)]
pub struct CommandExecutor {
    program: PathBuf,
    prompts: PathBuf,
    npu: bool,
    preset: Preset,
    /// Why it could not be started though it looks fine, and until when that is believed: a device that fails at
    /// once is the first that is free again.
    broken: Mutex<Option<(String, Instant)>>,
}

impl CommandExecutor {
    /// `program` is called for each prompt; the files with the prompts live in the directory `prompts`, which is made
    /// when it is needed. `npu` says whether the program runs them on an NPU where it is told to.
    ///
    /// Prompt files that a crash left there are removed.
    pub fn new(program: impl Into<PathBuf>, prompts: impl Into<PathBuf>, npu: bool) -> Self {
        let executor = Self {
            program: program.into(),
            prompts: prompts.into(),
            npu,
            preset: Preset::Plain,
            broken: Mutex::new(None),
        };
        executor.remove_leftovers();
        executor
    }

    /// The answer is taken out of what the program prints around it.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        Self { preset, ..self }
    }

    fn remove_leftovers(&self) {
        // All of this is a favour: what cannot be read or removed stays.
        for entry in fs::read_dir(&self.prompts).into_iter().flatten().flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PROMPT_PREFIX);
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            let old = changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > PROMPT_AGE_MAX));
            if ours && old {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether the program could be started, or why not.
    fn check(&self) -> Result<(), String> {
        let program = self.program.display();
        match fs::metadata(&self.program) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("the program {program} does not exist: put it there, or set another executor"))
            }
            Err(error) => Err(format!("the program {program} cannot be looked at: {error}")),
            Ok(metadata) if !metadata.is_file() => {
                Err(format!("{program} is no program, but a directory or device"))
            }
            Ok(_) => access(&self.program, Access::EXEC_OK)
                .map_err(|_| format!("the program {program} is not executable: run `chmod +x {program}`")),
        }
    }

    fn broken(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        // It is set by one assignment, so a panic elsewhere leaves nothing half done.
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the prompt where only this user can read it. The file goes when the value is dropped.
    async fn write_prompt(&self, job: &Job) -> Result<NamedTempFile, String> {
        let (directory, prompt) = (self.prompts.clone(), job.prompt.clone());
        let prefix = format!("{PROMPT_PREFIX}{}-", file_name_part(&job.label));
        let written = tokio::task::spawn_blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".txt").tempfile_in(&directory)?;
            file.write_all(prompt.as_bytes())?;
            Ok::<_, io::Error>(file)
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| {
            format!("the prompt cannot be written to a file in {}: {error}", self.prompts.display())
        })
    }

    fn start(&self, job: &Job, prompt: &Path) -> Result<Group, String> {
        let mut command = Command::new(&self.program);
        command
            .arg(prompt)
            .env("BIDMESH_TASK_ID", &job.label)
            .env("BIDMESH_USE_NPU", if job.npu { "1" } else { "0" })
            .env("BIDMESH_MODE", if job.npu { "npu" } else { "cpu" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Group::spawn(&mut command).map_err(|error| {
            let why = self.check().err().unwrap_or_else(|| self.start_error(&error));
            *self.broken() = Some((why.clone(), Instant::now() + BROKEN_FOR));
            why
        })
    }

    fn start_error(&self, error: &io::Error) -> String {
        let program = self.program.display();
        if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) {
            format!(
                "{program} cannot be started: it is no program for this processor, and no script whose first line is \
                 `#!` and an interpreter"
            )
        } else {
            format!("{program} cannot be started: {error}")
        }
    }

    fn check_end(&self, status: io::Result<ExitStatus>, last_words: &LastWords) -> Result<(), String> {
        let how = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit status {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => format!("ended with {status}"),
            },
            Err(error) => format!("cannot be waited for: {error}"),
        };
        let said = last_words.line();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Err(format!("{} {how}{said}", self.program.display()))
    }
}

#[async_trait]
impl Executor for CommandExecutor {
    async fn ability(&self) -> Ability {
        let broken = self.broken().clone().filter(|(_, until)| Instant::now() < *until).map(|(why, _)| why);
        let (available, why) = match self.check().err().or(broken) {
            None => (true, format!("the program {}", self.program.display())),
            Some(why) => (false, why),
        };
        Ability { available, npu: self.npu, slots: None, why }
    }

    async fn run(&self, job: Job, text: Generated, mut stop: Stop) -> RunOutcome {
        let mut limit = pin!(sleep(job.limit));
        let prompt = match self.write_prompt(&job).await {
            Ok(prompt) => prompt,
            Err(why) => return failed(why),
        };
        if is_stopped(&mut stop) {
            return RunOutcome::Stopped;
        }
        let mut running = match self.start(&job, prompt.path()) {
            Ok(group) => Running::new(group, job.output_bytes, Filter::new(self.preset, &job.prompt)),
            Err(why) => return failed(why),
        };
        let end = tokio::select! {
            biased;
            () = stop.stopped() => End::Stopped,
            () = &mut limit => End::Limit,
            followed = running.follow(&text) => followed.map_or_else(End::Broken, |()| End::Itself),
        };
        let program = self.program.display();
        match end {
            End::Itself => {
                let status = running.group.reap().await;
                let ended = self.check_end(status, &running.last_words);
                let rest = match ended {
                    Ok(()) => running.rest(&text).await.map_err(|why| format!("{program} {why}")),
                    Err(why) => Err(why),
                };
                match rest {
                    Ok(()) => RunOutcome::Completed(running.output.into_text().into()),
                    Err(why) => failed(why),
                }
            }
            End::Stopped => {
                running.end().await;
                RunOutcome::Stopped
            }
            End::Limit => {
                running.end().await;
                failed(format!("{program} was stopped: it was not done after {:?}", job.limit))
            }
            End::Broken(why) => {
                running.end().await;
                failed(format!("{program} was stopped: {why}"))
            }
        }
    }
}

/// How a run came to its end.
enum End {
    Itself,
    Stopped,
    Limit,
    Broken(String),
}

/// A program at work.
struct Running {
    group: Group,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
    output: Output,
    filter: Filter,
    last_words: LastWords,
}

impl Running {
    fn new(mut group: Group, output_bytes: usize, filter: Filter) -> Self {
        let (stdout, stderr) = group.take_output();
        Self {
            group,
            stdout: Pipe(stdout),
            stderr: Pipe(stderr),
            output: Output::new(output_bytes),
            filter,
            last_words: LastWords::new(LAST_WORDS),
        }
    }

    /// Hands out what the program prints, until it has ended and nobody prints any more. A process that it left
    /// behind with its stdout does not hold this up.
    async fn follow(&mut self, text: &Generated) -> Result<(), String> {
        let (mut printed, mut complained) = ([0; CHUNK], [0; CHUNK]);
        let mut ended: Option<Instant> = None;
        let mut killed = false;
        while self.stdout.is_open() || self.stderr.is_open() || ended.is_none() {
            tokio::select! {
                biased;
                () = sleep_until(ended.unwrap_or_else(Instant::now) + LINGER), if ended.is_some() && !killed => {
                    self.group.kill();
                    killed = true;
                }
                count = self.stdout.read(&mut printed), if self.stdout.is_open() => {
                    let count = count.map_err(|error| format!("its output cannot be read: {error}"))?;
                    let answer = self.filter.push(&printed[..count]);
                    self.output.push_bytes(&answer, text).await.map_err(|error| error.to_string())?;
                }
                count = self.stderr.read(&mut complained), if self.stderr.is_open() => {
                    self.last_words.push(&complained[..count.unwrap_or(0)]);
                }
                () = self.group.ended(), if ended.is_none() => ended = Some(Instant::now()),
                () = sleep(ESCAPED), if killed => break,
            }
        }
        Ok(())
    }

    /// What was held back until the end was certain.
    async fn rest(&mut self, text: &Generated) -> Result<(), String> {
        let rest = self.filter.finish()?;
        let told = self.output.push_bytes(&rest, text).await;
        told.map_err(|error| format!("was stopped: {error}"))?;
        self.output.close(text).await.map_err(|error| format!("was stopped: {error}"))
    }

    /// Ends all processes, gently at first. What they still print is dropped.
    async fn end(&mut self) {
        self.group.terminate();
        let (stdout, stderr, group) = (&mut self.stdout, &mut self.stderr, &mut self.group);
        // The leader may be gone at once while others of the group tidy up; as long as they hold its output they
        // have the rest of the time.
        let _ = timeout(GRACE, async { tokio::join!(stdout.drain(), stderr.drain(), group.ended()) }).await;
        // Whether it can be waited for matters to nobody any more.
        let _ = group.reap().await;
    }
}

/// The reading end of a pipe; closed for good at its end.
struct Pipe<R>(Option<R>);

impl<R: AsyncRead + Unpin> Pipe<R> {
    const fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// 0 at the end.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &mut self.0 else { return Ok(0) };
        let count = pipe.read(buffer).await;
        if !matches!(count, Ok(1..)) {
            self.0 = None;
        }
        count
    }

    async fn drain(&mut self) {
        let mut buffer = [0; CHUNK];
        while matches!(self.read(&mut buffer).await, Ok(1..)) {}
    }
}

/// A label as part of a file name: whatever could mean something to a file system is replaced.
fn file_name_part(label: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    label.chars().take(64).map(safe).collect()
}
