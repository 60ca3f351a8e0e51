//! The command line as a whole: what every command has in common, and which commands there are.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::device::DeviceFlags;
use crate::exit::{EXIT_STATUS_HELP, Exit, Failure};
use crate::output::Output;
use crate::signals::Signals;

/// A mesh of phones, boards and laptops that auctions prompts for small language models.
#[derive(Debug, Parser)]
#[command(name = "bidmesh", version, after_help = EXIT_STATUS_HELP, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Shared options")]
pub struct Shared {
    /// The mesh directory: peers.txt, config.toml, the log and the rest. [default: /data/local/tmp/mesh on Android,
    /// the XDG state directory elsewhere]
    #[arg(long, global = true, value_name = "DIR", env = "BIDMESH_DIR")]
    pub dir: Option<PathBuf>,
    /// Results as JSON on stdout, errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// More on stderr; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Shared {
    pub fn output(&self) -> Output {
        Output::new(self.json, self.quiet, self.verbose)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a device: listen, announce it, bid, work, orchestrate
    Up(DeviceFlags),
    /// Ask the mesh a prompt; the answer goes to stdout
    Ask(command::ask::Ask),
    /// Say something to devices, as the shell mesh's sender does
    Send(command::send::Send),
    /// The address book
    #[command(subcommand)]
    Peers(command::peers::Peers),
    /// The settings, and where each comes from
    #[command(subcommand)]
    Config(command::config::Config),
    /// The models of this machine: fetch, list, check, remove
    #[cfg(feature = "slm")]
    #[command(subcommand)]
    Model(command::model::Model),
    /// This device, and what it knows of the others; or every phone
    Status(command::status::StatusFlags),
    /// The prompts that this device was asked: those that are open, and those that have ended
    Tasks(command::tasks::Tasks),
    /// The answer of a prompt that was asked with `ask --detach`
    Result(command::result::ResultOf),
    /// End a prompt: its worker is told to stop
    Cancel(command::cancel::Cancel),
    /// Why a prompt went where it went: who bid what, who refused, who won, what happened then
    Why(command::why::Why),
    /// The log of the device
    Log(command::log::Log),
    /// Let the device refuse work, for a time or until `resume`
    Pause(command::pause::PauseFor),
    /// Let the device work again
    Resume,
    /// Make the attached phones devices of one mesh that answers
    Setup(command::setup::Setup),
    /// The prompt of a device on a phone, in this terminal
    Launch(command::launch::Launch),
    /// Why the phones are no mesh that answers, and what to do
    Doctor(command::doctor::Doctor),
    /// Start the devices on phones
    Start(command::start::Start),
    /// End and start the devices on phones
    Restart(command::start::Restart),
    /// End the device of this machine in order, or those on phones
    Stop(command::stop::Stop),
    /// Five devices on this machine, one prompt, and why it went where it went
    Demo(command::demo::Demo),
    /// Completions for a shell, on stdout
    Completions(command::completions::Completions),
    /// Manual pages: of `bidmesh` on stdout, or of every command into a directory
    Man(command::man::Man),
}

#[cfg(feature = "slm")]
impl Command {
    /// Whether it may run prompts in this very process.
    pub const fn runs_a_device(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Ask(_) | Self::Demo(_))
    }
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> Result<Exit, Failure> {
    let shared = cli.shared;
    match cli.command {
        Command::Up(flags) => command::up::run(&shared, flags).await,
        Command::Ask(ask) => command::ask::run(&shared, ask).await,
        Command::Send(send) => command::send::run(&shared, send).await,
        Command::Peers(peers) => command::peers::run(&shared, peers).await,
        // Without phones nothing is to be put away, and what only reads and prints is best ended by the signal itself.
        Command::Config(config) if config.is_of_a_phone() => {
            or_cancelled(command::config::run(&shared, config)).await
        }
        Command::Config(config) => command::config::run(&shared, config).await,
        #[cfg(feature = "slm")]
        Command::Model(model) => command::model::run(&shared, model).await,
        Command::Status(flags) => or_cancelled(command::status::run(&shared, flags)).await,
        Command::Tasks(tasks) => command::tasks::run(&shared, tasks).await,
        Command::Result(result) => command::result::run(&shared, result).await,
        Command::Cancel(cancel) => command::cancel::run(&shared, cancel).await,
        Command::Why(why) => command::why::run(&shared, why).await,
        // Ctrl-C is how following ends well.
        Command::Log(log) if log.follow => command::log::run(&shared, log).await,
        Command::Log(log) if log.all || log.device.is_some() => {
            or_cancelled(command::log::run(&shared, log)).await
        }
        Command::Log(log) => command::log::run(&shared, log).await,
        Command::Pause(pause) => command::pause::pause(&shared, pause).await,
        Command::Resume => command::pause::resume(&shared).await,
        Command::Setup(setup) => or_cancelled(command::setup::run(&shared, setup)).await,
        Command::Launch(launch) => command::launch::run(&shared, launch).await,
        Command::Doctor(doctor) => or_cancelled(command::doctor::run(&shared, doctor)).await,
        Command::Start(start) => or_cancelled(command::start::start(&shared, start)).await,
        Command::Restart(restart) => or_cancelled(command::start::restart(&shared, restart)).await,
        Command::Stop(stop) => or_cancelled(command::stop::run(&shared, stop)).await,
        Command::Demo(demo) => command::demo::run(&shared, demo).await,
        Command::Completions(completions) => command::completions::run(&shared, completions),
        Command::Man(man) => command::man::run(&shared, man),
    }
}

/// A command that may have to do with phones: at Ctrl-C it is dropped, and with it what it has on this machine, which are
/// forwards of adb and temporary files.
async fn or_cancelled(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    Signals::listen()?.or_cancelled(command).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Two arguments of one name, of the command and of all commands, only show when they are read.
    #[test]
    fn every_command_can_be_read() {
        for line in [
            "up",
            "ask",
            "ask hi",
            "send text A hi",
            "send slm A hi",
            "send bid-request A t {}",
            "send task A {}",
            "send raw A x",
            "send discover",
            "peers list",
            "peers add A 10.0.0.1",
            "peers remove A",
            "config show",
            "config set a b",
            "config unset a",
            #[cfg(feature = "slm")]
            "model pull --from x",
            #[cfg(feature = "slm")]
            "model list",
            #[cfg(feature = "slm")]
            "model check",
            #[cfg(feature = "slm")]
            "model remove x --yes",
            "status",
            "ask --detach hi",
            "ask --batch x",
            "tasks",
            "result task_1",
            "cancel task_1",
            "why",
            "why --list",
            "log -f",
            "pause 5m",
            "resume",
            "setup --dry-run",
            "doctor",
            "start",
            "start all",
            "launch A",
            "ask --on A hi",
            "status --all",
            "log A -f",
            "log --all",
            "config set A has_npu true",
            "restart A B",
            "stop",
            "stop A",
            "demo",
            "completions bash",
            "man",
        ] {
            let words =
                ["bidmesh", "--json", "-v", "--quiet", "--dir", "d"].into_iter().chain(line.split(' '));
            let shared = Cli::try_parse_from(words).unwrap().shared;
            assert!(shared.json && shared.quiet && shared.verbose == 1 && shared.dir.is_some(), "{line}");
        }
    }

    /// The words of a line of shell, as far as the documentation uses its quotes and comments.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                '#' if !quoted && words.last().is_some_and(String::is_empty) => break,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn the_commands_of_the_documentation_can_be_read() {
        let pages = [
            include_str!("../../docs/adb.md"),
            include_str!("../../docs/termux.md"),
            include_str!("../../README.md"),
        ];
        let mut read = 0;
        for page in pages {
            // What stands between fences, every second part.
            for block in page.split("```").skip(1).step_by(2) {
                let ours =
                    |line: &&str| line.starts_with("bidmesh ") || line.starts_with("target/release/bidmesh ");
                for line in block.lines().filter(ours) {
                    let words = words(line.trim_end_matches('&'));
                    #[cfg(not(feature = "slm"))]
                    if words.get(1).is_some_and(|word| word == "model") {
                        continue;
                    }
                    let cli = Cli::try_parse_from(&words);
                    assert!(cli.is_ok(), "{line}: {}", cli.unwrap_err());
                    read += 1;
                }
            }
        }
        assert!(read > 15, "{read} commands were found");
    }

    #[test]
    fn two_dashes_end_the_flags() {
        let cli = Cli::try_parse_from(["bidmesh", "ask", "--", "--json", "-v"]).unwrap();
        assert!(!cli.shared.json && cli.shared.verbose == 0);
        let Command::Ask(ask) = cli.command else { panic!("not ask") };
        assert_eq!(ask.prompt, ["--json", "-v"]);
    }

    #[test]
    fn shared_flags_go_anywhere() {
        for line in [["bidmesh", "--json", "status"], ["bidmesh", "status", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().shared.json);
        }
    }
}
