//! Runs prompts on a server that speaks OpenAI's chat completions, such as llama-server or Ollama on the same phone.
//! The answer is streamed; dropping the stream is what cancels it there.

mod chat;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, Generation, RunOutcome, Tokens};
use hyper::header::HeaderValue;
use tokio::time::{Instant, timeout, timeout_at};

use super::output::{Keep, Output, one_line};
use super::{Executor, Generated, Job, Stop, bounded, failed};
use crate::http::{self, BaseUrl, HttpError, Method, Patience, Request, Response, StatusCode};
use chat::{Said, Step, Trouble};

/// The patience of a question about the server itself: the device waits for the answer.
const PROBE: Patience = Patience {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(2),
    silence: Duration::from_secs(1),
};
/// How long all questions about the server may take together.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// How long an answer about the server itself is good.
const PROBE_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a server that refused the key or the model is left alone: it stays so until a person does something.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// How long a connection for a prompt may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may say nothing: a slow one reads a long prompt for minutes before its first word.
const SILENCE: Duration = Duration::from_secs(300);
/// How long to listen after the answer has ended, for a server that ends it twice.
const AFTERWORDS: Duration = Duration::from_secs(1);
/// The longest event of a stream, in bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// The longest list of models, in bytes.
const MODELS_BYTES_MAX: usize = 1024 * 1024;
/// How much of an error's body is read, in bytes.
const ERROR_BYTES: usize = 64 * 1024;
/// How long the body of an error is waited for.
const ERROR_TIME: Duration = Duration::from_secs(2);
/// How much of what a server says goes into an error, in bytes.
const QUOTED: usize = 300;

/// What to ask a model server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenaiSettings {
    /// Where the server is, with or without `/v1`.
    pub server: BaseUrl,
    /// The model; `None`: the first one that the server lists.
    pub model: Option<String>,
    /// The value of the `Authorization` header ([`http::bearer`]), if the server wants a key.
    pub authorization: Option<HeaderValue>,
    /// The most tokens of an answer; `None`: as the server likes.
    pub tokens_max: Option<u32>,
    /// Whether that server runs its model on an NPU.
    pub npu: bool,
}

/// Runs prompts on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenaiExecutor {
    settings: OpenaiSettings,
    known: Mutex<Known>,
    /// Each run holds a clone: how many there are.
    running: Arc<()>,
}

/// What is known about the server.
#[derive(Debug, Default)]
struct Known {
    /// Whether it can be used, in words, and until when that is believed.
    state: Option<(Result<String, String>, Instant)>,
    /// The first model that it lists.
    model: Option<String>,
}

impl OpenaiExecutor {
    /// Asks nothing yet.
    pub fn new(settings: OpenaiSettings) -> Self {
        let path = settings.server.path();
        // People copy the address out of an example: take the parts off that are added here.
        let path = path.strip_suffix("/chat/completions").unwrap_or(path);
        let path = path.strip_suffix("/v1").unwrap_or(path);
        let server = settings.server.with_path(path);
        Self {
            settings: OpenaiSettings { server, ..settings },
            known: Mutex::default(),
            running: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, state: Result<String, String>, during: Duration) {
        self.known().state = Some((state, Instant::now() + during));
    }

    /// What was good news before a run failed may be none any more: it is asked for again.
    fn doubt(&self) {
        self.known().state.take_if(|(state, _)| state.is_ok());
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let request = Request::new(method, path);
        match &self.settings.authorization {
            Some(value) => request.authorization(value.clone()),
            None => request,
        }
    }

    /// Asks the server what it has; a sentence about it, or why it cannot be used.
    async fn probe(&self) -> Result<String, String> {
        let server = &self.settings.server;
        match timeout(PROBE_TIME, self.ask_for_models()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{server} did not say within {PROBE_TIME:?} which models it has")),
        }
    }

    async fn ask_for_models(&self) -> Result<String, String> {
        let server = &self.settings.server;
        let request = self.request(Method::GET, "/v1/models");
        let response = http::send(server, request, PROBE).await.map_err(|error| self.broken(&error))?;
        match response.status() {
            StatusCode::OK => {}
            // Not every server lists its models.
            StatusCode::NOT_FOUND => return self.ask_for_health().await,
            _ => return Err(self.refused(response).await),
        }
        let body = response.whole(MODELS_BYTES_MAX).await.map_err(|error| self.broken(&error))?;
        let Some(models) = chat::models(&body) else {
            return Err(format!(
                "{server} does not answer like an OpenAI-compatible server: is the URL right?"
            ));
        };
        let first = models.first().cloned();
        self.known().model.clone_from(&first);
        match (&self.settings.model, &first) {
            (Some(model), Some(first)) if !models.contains(model) => {
                Ok(format!("the model {model} at {server}, which does not list it, but lists {first}"))
            }
            (Some(model), _) | (None, Some(model)) => Ok(format!("the model {model} at {server}")),
            (None, None) => Err(format!("{server} has no model: load one there, or set the model's name")),
        }
    }

    async fn ask_for_health(&self) -> Result<String, String> {
        let server = &self.settings.server;
        let request = self.request(Method::GET, "/health");
        let response = http::send(server, request, PROBE).await.map_err(|error| self.broken(&error))?;
        match response.status() {
            StatusCode::OK => Ok(format!("the model at {server}")),
            _ => {
                Err(format!("{server} answers, but knows neither /v1/models nor /health: is the URL right?"))
            }
        }
    }

    fn broken(&self, error: &HttpError) -> String {
        format!("the model server cannot be used: {error}")
    }

    /// What an answer with another status than 200 means. Remembers what a person has to mend.
    async fn refused(&self, response: Response) -> String {
        let status = response.status();
        let server = &self.settings.server;
        let said = chat::error_words(&response.beginning(ERROR_BYTES, ERROR_TIME).await, QUOTED);
        let said = if said.is_empty() { status.to_string() } else { format!("{}: {said}", status.as_u16()) };
        let why = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match self.settings.authorization {
                None => format!("{server} wants a key: set the executor's key ({said})"),
                Some(_) => format!("{server} does not accept the key: correct the executor's key ({said})"),
            },
            StatusCode::NOT_FOUND => match &self.settings.model {
                Some(model) => format!("{server} does not know the model {model}, or not this path ({said})"),
                None => format!("{server} does not know this path, or wants the name of a model ({said})"),
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                format!("{server} cannot take a prompt now: try again later ({said})")
            }
            _ => format!("{server} answered with an error ({said})"),
        };
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            self.remember(Err(why.clone()), REFUSED_FOR);
        }
        why
    }

    /// The model to ask for; `None` if the server has to choose.
    async fn model(&self) -> Option<String> {
        if self.settings.model.is_some() {
            return self.settings.model.clone();
        }
        let model = self.known().model.clone();
        if model.is_some() {
            return model;
        }
        // If this fails the prompt itself fails, too, and says it better.
        let _ = self.probe().await;
        self.known().model.clone()
    }

    async fn answer(&self, job: &Job, text: &Generated) -> Result<Generation, String> {
        let model = self.model().await;
        let body = chat::request(model.as_deref(), &job.prompt, self.settings.tokens_max);
        let request = self.request(Method::POST, "/v1/chat/completions").json(body);
        let patience = Patience { connect: CONNECT, head: SILENCE, silence: SILENCE };
        let response = match http::send(&self.settings.server, request, patience).await {
            Ok(response) => response,
            Err(error) => {
                let why = self.broken(&error);
                self.remember(Err(why.clone()), PROBE_AGE_MAX);
                return Err(why);
            }
        };
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        if response.is("text/html") {
            let server = &self.settings.server;
            return Err(format!(
                "{server} answered with a web page, not like a model server: is the URL right?"
            ));
        }
        let mut output = Output::new(job.output_bytes);
        let tokens = if response.is("application/json") {
            self.read_whole(response, job.output_bytes, &mut output, text).await?
        } else {
            self.read_stream(response, &mut output, text).await?
        };
        Ok(Generation { text: output.into_text(), tokens })
    }

    /// Reads the answer of a server that does not stream.
    async fn read_whole(
        &self,
        response: Response,
        output_bytes: usize,
        output: &mut Output,
        text: &Generated,
    ) -> Result<Option<Tokens>, String> {
        // A character takes six bytes at most where JSON escapes it, and something stands around the answer.
        let limit = output_bytes.saturating_mul(6).saturating_add(EVENT_BYTES_MAX);
        let body = response.whole(limit).await.map_err(|error| self.broken(&error))?;
        match chat::read(&body) {
            Ok(Said { text: Some(words), tokens, .. }) => {
                output.push(&words, text).await.map_err(|error| self.stopped(&error))?;
                Ok(tokens)
            }
            Ok(Said { text: None, .. }) => Err(self.strange("there is no text in it", &body)),
            Err(trouble) => Err(self.troubled(&trouble, &body)),
        }
    }

    async fn read_stream(
        &self,
        response: Response,
        output: &mut Output,
        text: &Generated,
    ) -> Result<Option<Tokens>, String> {
        let mut events = response.events(EVENT_BYTES_MAX);
        let mut finished: Option<Instant> = None;
        let mut tokens = None;
        loop {
            let event = match finished {
                None => events.next().await.map_err(|error| cut_off(&error, output))?,
                Some(at) => {
                    timeout_at(at + AFTERWORDS, events.next()).await.ok().and_then(Result::ok).flatten()
                }
            };
            let Some(event) = event else { break };
            let said = match chat::step(&event.data) {
                Ok(Step::Said(said)) => said,
                Ok(Step::Done) => return Ok(tokens),
                // Half an event, since the stream broke off.
                Err(_) if events.is_at_end() => break,
                Err(trouble) => return Err(self.troubled(&trouble, event.data.as_bytes())),
            };
            // The last count is of the whole answer: some servers count with every event.
            tokens = said.tokens.or(tokens);
            output.push(&said.text.unwrap_or_default(), text).await.map_err(|error| self.stopped(&error))?;
            if said.finished {
                finished.get_or_insert_with(Instant::now);
            }
        }
        match finished {
            Some(_) => Ok(tokens),
            None => {
                let server = &self.settings.server;
                Err(cut_off(&format_args!("{server} ended the stream before the answer was whole"), output))
            }
        }
    }

    fn stopped(&self, why: &dyn fmt::Display) -> String {
        format!("the answer of {} was not read to its end: {why}", self.settings.server)
    }

    fn troubled(&self, trouble: &Trouble, quoted: &[u8]) -> String {
        match trouble {
            Trouble::Told(error) => {
                let error = one_line(error.as_bytes(), QUOTED, Keep::Beginning);
                format!("{} answered with an error ({error})", self.settings.server)
            }
            Trouble::Unreadable(why) => self.strange(why, quoted),
        }
    }

    fn strange(&self, why: &str, quoted: &[u8]) -> String {
        let quoted = one_line(quoted, QUOTED, Keep::Beginning);
        format!("the answer of {} cannot be read: {why}: {quoted}", self.settings.server)
    }
}

fn cut_off(how: &dyn fmt::Display, output: &Output) -> String {
    format!("{how}, after {} bytes of the answer", output.len())
}

#[async_trait]
impl Executor for OpenaiExecutor {
    async fn ability(&self) -> Ability {
        // A server that does one thing at a time does not answer while it runs a prompt for us.
        let busy = Arc::strong_count(&self.running) > 1;
        let fresh = self.known().state.clone().filter(|(_, until)| busy || Instant::now() < *until);
        let fresh = fresh.map(|(state, _)| state);
        let state = match fresh {
            Some(state) => state,
            None => {
                let state = self.probe().await;
                self.remember(state.clone(), PROBE_AGE_MAX);
                state
            }
        };
        let available = state.is_ok();
        let (Ok(why) | Err(why)) = state;
        Ability { available, npu: self.settings.npu, slots: None, why }
    }

    async fn run(&self, job: Job, text: Generated, stop: Stop) -> RunOutcome {
        let _running = Arc::clone(&self.running);
        let run = async {
            match self.answer(&job, &text).await {
                Ok(generation) => RunOutcome::Completed(generation),
                Err(why) => {
                    self.doubt();
                    failed(why)
                }
            }
        };
        let late = || self.stopped(&format_args!("it was not done after {:?}", job.limit));
        bounded(job.limit, stop, run, late).await
    }
}
