//! A child process with a process group of its own, which is ended as a group. A process that leaves its group on
//! purpose (`setsid`) is out of reach.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;

/// How long a process that was killed may take to be gone; longer only if the kernel holds it in a driver.
const DEATH: Duration = Duration::from_secs(5);

/// The leader of a group of processes. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    /// The group's id, which is the leader's. `None` as soon as the leader is reaped: the id may be used again then,
    /// and not a moment before, which is why nothing here reaps before it has killed.
    id: Option<Pid>,
    deaths: unix::Signal,
}

impl Group {
    /// Starts a program.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        // Before the start, so that no death is missed.
        let deaths = unix::signal(SignalKind::child())?;
        let leader = command.process_group(0).spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { leader, id, deaths })
    }

    /// What it prints; once.
    pub(super) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// Returns when the leader has ended. It stays a zombie, so that the group's id stays its own.
    pub(super) async fn ended(&mut self) {
        let Some(id) = self.id else { return };
        loop {
            match waitid(
                WaitId::Pid(id),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
            ) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                // An error means that there is no such child any more.
                Ok(Some(_)) | Err(_) => return,
            }
            if self.deaths.recv().await.is_none() {
                return;
            }
        }
    }

    /// Asks all processes of the group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all processes of the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Kills what is left of the group, and reaps the leader.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = match timeout(DEATH, self.leader.wait()).await {
            Ok(status) => status,
            // tokio reaps it when the kernel lets go of it.
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the process was killed but does not end")),
        };
        self.id = None;
        status
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It fails only if nothing of the group is left.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
