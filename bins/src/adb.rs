//! Phones, by way of the machine's own `adb` program: each call is a child process with a limit on its time and on
//! what it may print. `adb` knows USB, its server and its keys; what is added here is the end of a script with its
//! exit status on every version of Android, and errors that say what to do.

mod devices;
mod error;
mod forward;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Output as Ended, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::hexadecimal::hexadecimal;

pub use devices::{Attached, State};
pub use error::AdbError;
pub use forward::Forward;

/// What names the program if it is not `adb` in PATH.
const PROGRAM_VARIABLE: &str = "BIDMESH_ADB";
/// What is kept of each stream of a call: a probe prints some kilobytes, a log of a thousand lines some hundred.
const PRINTED_MAX: u64 = 8 << 20;
/// For what a phone does at once. Starting adb's server takes seconds the first time.
pub const QUICK: Duration = Duration::from_secs(30);

/// The `adb` program.
#[derive(Clone, Debug)]
pub struct Adb {
    program: OsString,
    /// Ends the output of every script, with its exit status behind it.
    mark: String,
}

/// What a script on a phone printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u8,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The last line of what it complained about, or of what it printed.
    pub fn last_words(&self) -> &str {
        let last = |text: &str| text.trim_end().lines().last().map(str::len);
        let stderr = self.stderr.trim_end();
        let stdout = self.stdout.trim_end();
        match (last(stderr), last(stdout)) {
            (Some(length), _) => &stderr[stderr.len() - length..],
            (None, Some(length)) => &stdout[stdout.len() - length..],
            (None, None) => "it says nothing",
        }
    }
}

impl Adb {
    /// Whether the program is there shows with the first call.
    pub fn new() -> Self {
        let program = std::env::var_os(PROGRAM_VARIABLE).filter(|program| !program.is_empty());
        Self { program: program.unwrap_or_else(|| "adb".into()), mark: mark() }
    }

    /// Nothing that a phone prints by chance: for scripts that print several things.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// All phones that adb sees, whatever their state, by serial number.
    pub async fn devices(&self) -> Result<Vec<Attached>, AdbError> {
        // No phone is asked: who does not answer here is the server on this machine.
        let of_the_server = |error| match error {
            AdbError::Gone | AdbError::TimedOut(_) => AdbError::ServerSilent,
            other => other,
        };
        let ended = self.call(&["devices", "-l"], QUICK).await.map_err(of_the_server)?;
        if !ended.status.success() {
            return Err(of_the_server(AdbError::read(&String::from_utf8_lossy(&ended.stderr))));
        }
        Ok(devices::parse(&String::from_utf8_lossy(&ended.stdout)))
    }

    /// Runs a script on a phone, to its end.
    pub async fn shell(&self, serial: &str, script: &str, limit: Duration) -> Result<Said, AdbError> {
        // Before shell protocol 2 (Android 7) adb tells no exit status, and in no version whether the phone went away.
        let framed = format!("( {script}\n)\nprintf '\\n{}:%s\\n' $?", self.mark);
        let ended = self.call(&["-s", serial, "shell", &framed], limit).await?;
        let stdout = String::from_utf8_lossy(&ended.stdout).replace("\r\n", "\n");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        let end = stdout.rsplit_once(&format!("\n{}:", self.mark));
        let Some((printed, Ok(status))) = end.map(|(printed, status)| (printed, status.trim().parse()))
        else {
            return Err(AdbError::read(&stderr));
        };
        Ok(Said { status, stdout: printed.to_owned(), stderr })
    }

    /// As [`Adb::shell`], for a script that must succeed; `doing` completes "cannot …".
    pub async fn run(&self, serial: &str, doing: &str, script: &str) -> Result<String, AdbError> {
        let said = self.shell(serial, script, QUICK).await?;
        if said.status == 0 {
            return Ok(said.stdout);
        }
        Err(AdbError::refused(doing, said.last_words()))
    }

    /// Copies a file to a phone.
    pub async fn push(&self, serial: &str, from: &Path, to: &str, limit: Duration) -> Result<(), AdbError> {
        let mut command = self.command(&["-s", serial, "push"]);
        command.arg(from).arg(to);
        let ended = self.end(command, limit).await?;
        if ended.status.success() {
            return Ok(());
        }
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Some versions complain on standard output.
        Err(AdbError::read(&format!("{}\n{}", said(&ended.stdout), said(&ended.stderr))))
    }

    /// A port of this machine's loopback that leads to `port` of the phone's.
    pub async fn forward(&self, serial: &str, port: u16) -> Result<Forward, AdbError> {
        let ended = self.call(&["-s", serial, "forward", "tcp:0", &format!("tcp:{port}")], QUICK).await?;
        let printed = String::from_utf8_lossy(&ended.stdout);
        match printed.trim().parse() {
            Ok(local) if ended.status.success() => Ok(Forward::new(self.program.clone(), serial, local)),
            _ => Err(AdbError::read(&String::from_utf8_lossy(&ended.stderr))),
        }
    }

    /// Starts a script whose output is read as it comes; it is told to end when the child is dropped.
    pub fn stream(&self, serial: &str, script: &str) -> Result<Child, AdbError> {
        let mut command = self.command(&["-s", serial, "shell", script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(|error| self.not_started(&error))
    }

    async fn call(&self, arguments: &[&str], limit: Duration) -> Result<Ended, AdbError> {
        self.end(self.command(arguments), limit).await
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        // Ctrl-C on a terminal is for us: a call that it ended would look like a phone that went away.
        command.process_group(0);
        command
    }

    async fn end(&self, mut command: Command, limit: Duration) -> Result<Ended, AdbError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.not_started(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let all = async {
            let (stdout, stderr, status) = tokio::join!(bounded(stdout), bounded(stderr), child.wait());
            Ok(Ended { status: status.map_err(|error| self.not_started(&error))?, stdout, stderr })
        };
        tokio::time::timeout(limit, all).await.unwrap_or(Err(AdbError::TimedOut(limit)))
    }

    fn not_started(&self, error: &std::io::Error) -> AdbError {
        let program = self.program.to_string_lossy().into_owned();
        if error.kind() == std::io::ErrorKind::NotFound {
            AdbError::NotInstalled(program)
        } else {
            AdbError::Other(format!("{program} cannot be started: {error}"))
        }
    }
}

/// The beginning of a stream; the rest is read and thrown away, or its writer would wait.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // What broke off shows in what is missing.
        let _ = (&mut stream).take(PRINTED_MAX).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

/// Nothing that a file on a phone could hold by chance.
fn mark() -> String {
    let mut bytes = [0; 8];
    // Without random numbers, the process id and the time still differ from what any file says.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (u64::from(std::process::id()) ^ u64::from(now.subsec_nanos()) << 32).to_le_bytes();
    }
    format!("bidmesh-end-{}", hexadecimal(&bytes))
}

/// `text` as one word of a shell's command line.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// An adb that does what a script says, which is called as adb would be.
#[cfg(test)]
pub fn scripted(script: &str) -> (tempfile::TempDir, Adb) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("adb");
    // A program that was just written could not be started while another thread's child still has it open.
    let linked = concat!(env!("CARGO_MANIFEST_DIR"), "/src/adb/scripted.sh");
    std::os::unix::fs::symlink(linked, &program).unwrap();
    std::fs::write(folder.path().join("script"), script).unwrap();
    (folder, Adb { program: program.into(), mark: "MARK".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_script_ends_with_its_status_and_a_phone_that_went_away_is_told_apart() {
        // As adb shell: the last argument is run.
        let (_folder, phone) = scripted("shift 3; sh -c \"$1\"");
        let said = phone.shell("S", "printf 'a\\nb'; echo bad >&2; exit 3", QUICK).await.unwrap();
        assert_eq!((said.status, said.stdout.as_str(), said.last_words()), (3, "a\nb", "bad"));
        let (_folder, phone) = scripted("echo half; echo 'error: closed' >&2; exit 1");
        assert_eq!(phone.shell("S", "true", QUICK).await, Err(AdbError::Gone));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_no_phone_that_went_away() {
        for complaint in ["", "error: protocol fault (couldn't read status): Connection reset by peer"] {
            let (_folder, adb) = scripted(&format!("echo \"{complaint}\" >&2; exit 1"));
            assert_eq!(adb.devices().await, Err(AdbError::ServerSilent), "{complaint}");
        }
    }

    #[tokio::test]
    async fn a_phone_that_hangs_is_given_up() {
        let (_folder, phone) = scripted("exec sleep 60");
        let limit = Duration::from_millis(50);
        assert_eq!(phone.shell("S", "true", limit).await, Err(AdbError::TimedOut(limit)));
    }

    #[tokio::test]
    async fn a_missing_program_says_how_to_get_it() {
        let adb = Adb { program: "/no/such/adb".into(), mark: "MARK".into() };
        let error = adb.devices().await.unwrap_err().to_string();
        assert!(error.contains("install") && error.contains("/no/such/adb"), "{error}");
    }

    #[test]
    fn a_quoted_text_is_one_word_whatever_it_holds() {
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
