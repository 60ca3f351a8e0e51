//! A real small model behind a real OpenAI-compatible server, as `.ci/setup` installs both into `.tools/`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::port::Port;
use crate::process::Process;
use crate::setup::leave_out;
use crate::wait::try_until;

/// Loading takes three seconds on a quiet machine.
const START: Duration = Duration::from_secs(120);

/// A running model server. Dropping it kills it.
#[derive(Debug)]
pub struct ModelServer {
    port: Port,
    _process: Process,
}

impl ModelServer {
    /// The name under which the server knows its model.
    pub const MODEL: &str = "smollm2-135m";

    /// Starts the server and waits until it is ready; with `api_key` it wants that key. Where it is not installed the
    /// test that asks is left out, as with [`crate::require`].
    ///
    /// # Panics
    /// If it does not get ready; in CI, if it is not installed.
    pub fn start(api_key: Option<&str>) -> Option<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (python, model) = (installed("venv/bin/python")?, model_file()?);
        let port = Port::free();
        let mut command = Command::new(python);
        command
            .arg(tests.join("real-model/serve.py"))
            .arg(model)
            .arg(port.number().to_string())
            .args(api_key);
        let mut process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()), Stdio::null());
        let ready = try_until(START, || {
            let ended = process.status();
            assert!(ended.is_none(), "the model server ended with {ended:?}: {command:?}");
            get(port.address(), "/health").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        assert!(ready.is_some(), "the model server is not ready after {START:?}");
        Some(Self { port, _process: process })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The answer to a GET of `path`, head and body.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, path: &str) -> String {
        get(self.address(), path).unwrap_or_else(|| panic!("the model server does not answer GET {path}"))
    }

    /// What a client takes for its base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address())
    }
}

/// The real model's file. Where it is not installed the test that asks is left out, as with [`crate::require`].
///
/// # Panics
/// In CI, if it is not installed.
pub fn model_file() -> Option<PathBuf> {
    installed("SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Something that `.ci/setup` installs.
fn installed(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools").join(name);
    if file.is_file() {
        return Some(file);
    }
    leave_out(&format!("{} (a model, and its server)", file.display()));
    None
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
