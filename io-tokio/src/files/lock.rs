//! Locks between processes: one bidmesh device runs in a directory, and one process at a time replaces a file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::error::Error;

/// How long the lock of a process that is dead may stay: one that was killed while it started a program leaves it to the
/// half-made child for a moment.
const STALE_PATIENCE: Duration = Duration::from_secs(2);

/// A file is replaced in milliseconds; who holds the lock for longer has been stopped.
const WRITER_PATIENCE: Duration = Duration::from_secs(5);

/// Held by the process that runs a device in a directory. The kernel frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open.map_err(|error| Error::io(path, "opened", &error))?;
        let deadline = Instant::now() + STALE_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // A child of a killed device holds it until it has become another program.
                Err(Errno::WOULDBLOCK) if is_stale(&mut file) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => return Err(held(path, &mut file)),
                Err(error) => return Err(Error::io(path, "locked", &error.into())),
            }
        }
        let pid = format!("{}\n", std::process::id());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
        written.map_err(|error| Error::io(path, "written", &error))?;
        Ok(Self { _file: file })
    }
}

/// Whether the process that wrote its number there does not live any more.
fn is_stale(file: &mut File) -> bool {
    let process = holder(file).and_then(Pid::from_raw);
    process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
}

/// The process that wrote its number there; another program may have locked a file that is no lock file.
fn holder(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.take(32).read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

fn held(path: &Path, file: &mut File) -> Error {
    let who = match holder(file) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    let what = format!("a device runs in this directory already ({who})");
    Error::file(path, what, "end that one first, or choose another directory with --dir")
}

/// Held while a file of a directory is read, changed and replaced.
#[derive(Debug)]
pub(super) struct WriterLock {
    _folder: File,
}

impl WriterLock {
    /// Takes the lock of `folder`, after other writers. It needs no file of its own: the folder itself is locked.
    pub(super) fn take(folder: &Path) -> Result<Self, Error> {
        let file = File::open(folder).map_err(|error| Error::io(folder, "opened", &error))?;
        let deadline = Instant::now() + WRITER_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _folder: file }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    let what = "another process has been writing there for 5 s";
                    return Err(Error::file(folder, what, "end or continue that process"));
                }
                // Some file systems of phones (FUSE, old NFS) know no locks; the replacement itself stays atomic.
                Err(_) => return Ok(Self { _folder: file }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_process_that_holds_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = DirectoryLock::take(&path).unwrap();
        let error = DirectoryLock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::take(&path).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_to_its_child_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let first = DirectoryLock::take(&path).unwrap();
        std::fs::write(&path, format!("{}\n", dead.id())).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| DirectoryLock::take(&path).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
        let _first = DirectoryLock::take(&path).unwrap();
        std::fs::write(&path, format!("{}\n", dead.id())).unwrap();
        let error = DirectoryLock::take(&path).unwrap_err().to_string();
        assert!(error.contains("runs in this directory already"), "not for ever: {error}");
    }

    #[test]
    fn a_lock_file_with_garbage_still_locks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, b"\xff".repeat(100)).unwrap();
        let _first = DirectoryLock::take(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn writers_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let first = WriterLock::take(folder.path()).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| WriterLock::take(folder.path()).map(|_| ()));
            assert!(!second.is_finished());
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_writer_that_does_not_end_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let _first = WriterLock::take(folder.path()).unwrap();
        let begun = Instant::now();
        let error = WriterLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another process has been writing there"), "{error}");
        assert!(begun.elapsed() >= WRITER_PATIENCE);
    }
}
