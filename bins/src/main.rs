//! `bidmesh`: the command line of the mesh, and the device behind it.
//!
//! `cli` says which commands there are, `command` has them, one file each. `device` puts a device together, `api`
//! is the HTTP interface that it offers to this machine, `client` is the other end of it, which the commands use.

// A program has no outside: `pub` says what a module offers to the others.
#![allow(unreachable_pub)]

mod adb;
mod address;
mod api;
mod cli;
mod client;
mod command;
mod data;
mod device;
mod duration;
mod exit;
mod hexadecimal;
mod log;
mod output;
mod phones;
mod question;
mod redrawn;
mod signals;
mod table;
mod words;

use std::process::ExitCode;

use clap::Parser;

use exit::{Exit, Failure};

fn main() -> ExitCode {
    #[cfg(feature = "slm")]
    if let Err(too_old) = bidmesh_io_tokio::execute::slm::processor() {
        // Nothing of this build may be relied on here, the reading of the command line least of all.
        too_old.tell();
        return ExitCode::from(Exit::Failed.code());
    }
    start()
}

/// Apart from `main`, so that nothing that the compiler does for it comes before the processor was asked.
#[inline(never)]
fn start() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.shared.output();
    #[cfg(feature = "slm")]
    if cli.command.runs_a_device() {
        // Before there is a second thread, a descriptor or a lock.
        if let Err(error) = bidmesh_io_tokio::execute::slm::settle_threads(None) {
            output.note(&format!(
                "The embedded model may be slow: this program cannot start itself again ({error}); set CANDLE_NUM_THREADS"
            ));
        }
    }
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn run(cli: cli::Cli) -> Result<Exit, Failure> {
    // One thread: a phone that waits for work must not wake more than it has to.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::failed(format!("the system gives no event queue: {error}; free some descriptors"))
    })?;
    let result = runtime.block_on(cli::run(cli));
    // A thread that still waits for a line of a person would keep the process.
    runtime.shutdown_background();
    result
}
