//! `bidmesh man`: manual pages, made of the same definitions as `--help`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;

use crate::cli::{Cli, Shared};
use crate::exit::{EXIT_STATUS_HELP, Exit, Failure};

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write the page of every command into this directory
    pub directory: Option<PathBuf>,
}

pub fn run(shared: &Shared, man: Man) -> Result<Exit, Failure> {
    let output = shared.output();
    let Some(directory) = man.directory else {
        output.result(&page(&whole()).map_err(|error| unwritten(Path::new("the page"), &error))?)?;
        return Ok(Exit::Ok);
    };
    fs::create_dir_all(&directory).map_err(|error| unwritten(&directory, &error))?;
    let pages = pages(&whole()).map_err(|error| unwritten(&directory, &error))?;
    for (name, text) in &pages {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| unwritten(&path, &error))?;
    }
    output.note(&format!("{} pages are in {}", pages.len(), directory.display()));
    Ok(Exit::Ok)
}

fn unwritten(what: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}; name another directory", what.display()))
}

/// The command line with everything filled in that clap fills in late.
fn whole() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// A page for the command and one for each command below it: `bidmesh-peers-add.1`.
fn pages(command: &Command) -> io::Result<Vec<(String, String)>> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut pages = vec![(format!("{name}.1"), page(command)?)];
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages.extend(self::pages(below)?);
    }
    Ok(pages)
}

fn page(command: &Command) -> io::Result<String> {
    let mut roff = Vec::new();
    // Every command ends in one of these ways, not only `bidmesh` as a whole.
    Page::new(command.clone().after_help(EXIT_STATUS_HELP)).render(&mut roff)?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_the_exit_statuses() {
        let pages = pages(&whole()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["bidmesh.1", "bidmesh-ask.1", "bidmesh-peers-add.1", "bidmesh-send-text.1"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        for (name, text) in &pages {
            assert!(text.contains("no device runs in this mesh directory"), "{name}");
        }
    }
}
