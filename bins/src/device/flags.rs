//! What the command line says about a device.

use std::net::SocketAddr;

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::execute::ExecutorSpec;
use bidmesh_io_tokio::files::Overrides;
use clap::Args;

use crate::command::peers;

/// Flags of `up`.
#[derive(Clone, Debug, Default, Args)]
pub struct DeviceFlags {
    /// The id of this device [default: as saved; at first the name of this machine]
    #[arg(long, value_name = "ID")]
    pub id: Option<DeviceId>,
    /// Where to listen for peers; with port 0 the system chooses [default: 0.0.0.0:9999]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// A device to know from the beginning; may be given again. It goes into peers.txt
    #[arg(long = "peer", value_name = "ID=ADDR:PORT", value_parser = peers::id_and_address)]
    pub peers: Vec<(DeviceId, SocketAddr)>,
    /// What runs prompts here: slm, slm:PATH, command:PATH, openai:URL, none [default: as saved; else slm, if the
    /// model is here]
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorSpec>,
    /// Load the embedded model now, not with the first prompt
    #[arg(long)]
    pub warm: bool,
    /// Where nothing runs prompts yet, fetch the demonstration model without asking
    #[arg(long, short)]
    pub yes: bool,
    /// How many prompts run here at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub slots: Option<u16>,
    /// Whether prompts run on an NPU here [default: as saved; asked once on a terminal]
    #[arg(long, value_name = "true|false")]
    pub has_npu: Option<bool>,
}

impl DeviceFlags {
    /// The environment, with these flags on top of it.
    pub fn overrides(&self) -> Overrides {
        // A stand-in is no setting: it is for trying out, and said again each time.
        let executor = self.executor.as_ref().filter(|spec| **spec != ExecutorSpec::StandIn);
        let flags = [
            ("--id", "id", self.id.as_ref().map(ToString::to_string)),
            ("--listen", "listen", self.listen.map(|address| address.to_string())),
            ("--executor", "executor.run", executor.map(ToString::to_string)),
            ("--slots", "work.slots", self.slots.map(|slots| slots.to_string())),
            ("--has-npu", "has_npu", self.has_npu.map(|npu| npu.to_string())),
        ];
        let said = flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?)));
        said.fold(Overrides::from_environment(), |overrides, (flag, key, value)| {
            overrides.flag(flag, key, &value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn all_flags_of_up_are_read() {
        let line = [
            "bidmesh",
            "up",
            "--id",
            "A",
            "--listen",
            "127.0.0.1:0",
            "--peer",
            "B=10.0.0.2:9",
            "--peer",
            "C=10.0.0.3",
            "--executor",
            "none",
            "--slots",
            "2",
            "--has-npu",
            "true",
            "--warm",
            "--yes",
        ];
        let Command::Up(flags) = Cli::try_parse_from(line).unwrap().command else { panic!("not up") };
        let peer = |id, address: &str| (DeviceId::new(id).unwrap(), address.parse().unwrap());
        assert!(flags.warm && flags.yes);
        assert_eq!(flags.peers, [peer("B", "10.0.0.2:9"), peer("C", "10.0.0.3:9999")]);
        assert_eq!(
            (flags.slots, flags.has_npu, flags.executor),
            (Some(2), Some(true), Some(ExecutorSpec::None))
        );
    }

    #[test]
    fn wrong_flags_are_told_by_the_command_line() {
        for wrong in [
            ["--id", "a|b"],
            ["--slots", "0"],
            ["--has-npu", "yes"],
            ["--peer", "10.0.0.2"],
            ["--executor", "x"],
        ] {
            assert!(Cli::try_parse_from(["bidmesh", "up"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
