//! `bidmesh`: the command line of the mesh, and the device behind it.
//!
//! `cli` says which commands there are, `command` has them, one file each. `device` puts a device together, `api`
//! is the HTTP interface that it offers to this machine, `client` is the other end of it, which the commands use.

// A program has no outside: `pub` says what a module offers to the others.
#![allow(unreachable_pub)]

mod address;
mod api;
mod cli;
mod client;
mod command;
mod device;
mod duration;
mod exit;
mod log;
mod output;
mod signals;
mod table;
mod words;

use std::process::ExitCode;

use clap::Parser;

use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.shared.output();
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
