//! What every command talks to: the control API of the device that runs in a mesh directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bidmesh_io_tokio::http::events::EventReader;
use bidmesh_io_tokio::http::{self, BaseUrl, HttpError, Method, Patience, Request, Response};
use hyper::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::control_file::{self, Control};
use crate::api::types::{Admitted, BrokenOff, ErrorBody, OutcomeView, Submit, TextPiece};
use crate::command::why::in_path;
use crate::exit::{Exit, Failure};

/// Answers that are no streams are one snapshot of a device or less.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// One event: an output of the default limit, each character escaped.
const EVENT_BYTES_MAX: usize = 32 << 20;
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    // A submission is answered when it is on disk, a message when it was delivered or given up.
    head: Duration::from_secs(20),
    // Streams carry a comment every 15 s.
    silence: Duration::from_secs(60),
};

/// How long a device may be away: as long as it waits for those who watched its tasks.
const AWAY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A client of one device. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    target: Arc<Mutex<Target>>,
    /// Where the device says where it is; `None`: it lives no longer than this process.
    directory: Option<PathBuf>,
}

#[derive(Clone)]
struct Target {
    server: BaseUrl,
    token: HeaderValue,
}

impl Target {
    fn of(control: &Control) -> Result<Self, Failure> {
        let broken = || Failure::failed("control.json is damaged; stop the device and start it again");
        let server = format!("127.0.0.1:{}", control.port).parse().map_err(|_| broken())?;
        Ok(Self { server, token: http::bearer(&control.token).ok_or_else(broken)? })
    }
}

impl Client {
    /// Of the device that runs in `directory`. Whether it still does shows with the first request.
    pub fn of_directory(directory: &Path) -> Result<Self, Failure> {
        match control_file::find(directory) {
            Ok(Some(control)) => Ok(Self { directory: Some(directory.into()), ..Self::of(&control)? }),
            Ok(None) => Err(not_running()),
            Err(error) => Err(Failure::failed(format!(
                "{} cannot be read: {error}; are you the user who started the device?",
                control_file::path(directory).display()
            ))),
        }
    }

    /// Of the device that published `control`.
    pub fn of(control: &Control) -> Result<Self, Failure> {
        Ok(Self { target: Arc::new(Mutex::new(Target::of(control)?)), directory: None })
    }

    /// Whether a device that this happened to may come back, after it was seen at `seen`.
    pub fn may_come_back(&self, failure: &Failure, seen: Instant) -> bool {
        is_away(failure) && self.directory.is_some() && seen.elapsed() <= AWAY
    }

    /// A moment later. The device may have been started again: its port and token are others then.
    pub async fn look_again(&self) {
        tokio::time::sleep(LOOK_AGAIN).await;
        let Some(directory) = &self.directory else { return };
        if let Ok(Some(control)) = control_file::find(directory)
            && let Ok(target) = Target::of(&control)
        {
            *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        }
    }

    fn target(&self) -> Target {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Sends `body`, expects an answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.request(Method::POST, path).json(written(body)?)).await
    }

    /// Sends `body`, expects no answer but that it was taken.
    pub async fn tell(&self, method: Method, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.checked(self.request(method, path).json(written(body)?)).await.map(drop)
    }

    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.checked(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Hands in an attached prompt; dropping the result cancels it.
    pub async fn submit(&self, submit: &Submit) -> Result<Answering, Failure> {
        let request = self.request(Method::POST, "/v1/tasks").json(written(submit)?);
        Ok(Answering { response: self.checked(request).await?, events: EventReader::new(EVENT_BYTES_MAX) })
    }

    /// What is told of a task that is known there, from its beginning.
    pub async fn follow(&self, task: &str) -> Result<Answering, Failure> {
        let request = self.request(Method::GET, &format!("/v1/tasks/{}/events", in_path(task)?));
        Ok(Answering { response: self.checked(request).await?, events: EventReader::new(EVENT_BYTES_MAX) })
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, path).authorization(self.target().token)
    }

    async fn answer<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        let body =
            self.checked(request).await?.whole(ANSWER_BYTES_MAX).await.map_err(|error| broken(&error))?;
        read(&body)
    }

    /// The response, if it is a success.
    async fn checked(&self, request: Request) -> Result<Response, Failure> {
        let response =
            http::send(&self.target().server, request, PATIENCE).await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.whole(ANSWER_BYTES_MAX).await.map_err(|error| broken(&error))?;
        let Ok(ErrorBody { error }) = serde_json::from_slice(&body) else {
            return Err(Failure::failed(format!(
                "the device answered with HTTP status {status} and no reason"
            )));
        };
        let message = match error.retry_after_ms {
            Some(millis) => format!("{} (again in {})", error.message, crate::duration::words(millis)),
            None => error.message,
        };
        let failure = Failure::new(exit_of(&error.code), &error.code, message);
        Err(Failure { retry_after_ms: error.retry_after_ms, ..failure })
    }
}

/// The code of a failure that may mean that the device is being started again.
pub const GONE: &str = "gone";

/// Whether the device may only be away for a moment.
fn is_away(failure: &Failure) -> bool {
    // A device that was started again at the same port does not know the token of the start before; one that is leaving
    // may be started again.
    matches!(failure.code.as_str(), GONE | "not_running" | "unauthorized" | "leaving")
}

/// The exit status for an error code of the API.
fn exit_of(code: &str) -> Exit {
    match code {
        "bad_request" | "empty_prompt" => Exit::Usage,
        "queue_full" | "client_full" | "prompt_too_long" | "leaving" | "not_durable" => Exit::Refused,
        "nobody_eligible" => Exit::Nobody,
        _ => Exit::Failed,
    }
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body)
        .map_err(|error| Failure::failed(format!("the request cannot be written: {error}")))
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        Failure::failed(format!(
            "the device answered with something else than expected: {error}; is it of the same version? \
             `bidmesh stop` and `bidmesh up` put that right"
        ))
    })
}

fn not_running() -> Failure {
    let message =
        "no device runs in this mesh directory; start one with `bidmesh up`, or name another with --dir";
    Failure::new(Exit::NotRunning, "not_running", message)
}

fn broken(error: &HttpError) -> Failure {
    if error.is_refused() {
        // What a killed device left behind.
        return not_running();
    }
    let message = format!("the device does not answer: {error}; look at `bidmesh log`, then start it again");
    Failure::new(Exit::Failed, GONE, message)
}

/// A prompt that is being answered.
#[derive(Debug)]
pub struct Answering {
    response: Response,
    events: EventReader,
}

/// What the device tells of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Admitted(Admitted),
    Text(TextPiece),
    BrokenOff(BrokenOff),
    Outcome(OutcomeView),
}

impl Answering {
    /// What comes next. After the outcome nothing does.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let event = self.events.next_event().map_err(|error| Failure::failed(error.to_string()))?;
            let Some(event) = event else {
                match self.response.chunk().await.map_err(|error| broken(&error))? {
                    Some(bytes) => self.events.push(&bytes),
                    None => {
                        return Err(Failure::new(
                            Exit::Failed,
                            GONE,
                            "the device ended before the prompt was answered; start it again and ask again",
                        ));
                    }
                }
                continue;
            };
            let data = event.data.as_bytes();
            match event.name.as_deref() {
                Some("admitted") => return read(data).map(Heard::Admitted),
                Some("text") => return read(data).map(Heard::Text),
                Some("broken_off") => return read(data).map(Heard::BrokenOff),
                Some("outcome") => return read(data).map(Heard::Outcome),
                // Of a later version.
                _ => {}
            }
        }
    }
}
