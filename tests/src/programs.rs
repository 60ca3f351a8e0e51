//! The shells and netcats of the interop matrix.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// A shell that shell devices run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Android's; its `echo` interprets backslash escapes.
    Mksh,
    /// Debian's `sh`; its `echo` interprets them too.
    Dash,
    /// Busybox's; its `echo` interprets nothing.
    Busybox,
    /// Some Linux boards' `sh`; its `echo` interprets nothing.
    Bash,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mksh, Self::Dash, Self::Busybox, Self::Bash];

    /// The program to look for.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Mksh => "mksh",
            Self::Dash => "dash",
            Self::Busybox => "busybox",
            Self::Bash => "bash",
        }
    }

    /// A command that runs `script`.
    pub fn command(self, script: &Path) -> Command {
        let mut command = Command::new(self.program());
        if self == Self::Busybox {
            command.arg("sh");
        }
        command.arg(script);
        command
    }

    /// Whether its `echo` interprets backslash escapes.
    pub const fn echo_interprets(self) -> bool {
        matches!(self, Self::Mksh | Self::Dash)
    }
}

/// A netcat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netcat {
    /// Android's.
    Toybox,
    /// That of small boards and routers.
    Busybox,
    /// Debian's default; does not close its sending side when its input ends.
    OpenBsd,
    /// The first one; neither.
    Traditional,
    /// nmap's.
    Ncat,
}

impl Netcat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Toybox, Self::Busybox, Self::OpenBsd, Self::Traditional, Self::Ncat];

    /// The program to look for.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Toybox => "toybox",
            Self::Busybox => "busybox",
            Self::OpenBsd => "nc.openbsd",
            Self::Traditional => "nc.traditional",
            Self::Ncat => "ncat",
        }
    }

    /// As a shell script calls it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Toybox => "toybox nc",
            Self::Busybox => "busybox nc",
            other => other.program(),
        }
    }

    /// The options with which people and scripts usually send. Each time-out is half a minute where a script would
    /// give it two seconds, so that "at once" can be told from "gave up" on a slow machine.
    pub const fn sending_options(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Toybox => &[&[], &["-w", "30"], &["-q", "1"]],
            Self::Busybox => &[&[], &["-w", "30"]],
            Self::OpenBsd => &[&[], &["-w", "30"], &["-N"], &["-q", "0"]],
            Self::Traditional => &[&[], &["-w", "30"], &["-q", "0"], &["-q", "1"]],
            Self::Ncat => &[&[], &["-w", "30"], &["--send-only"]],
        }
    }

    /// A command that sends its standard input to `to`.
    pub fn sender(self, options: &[&str], to: SocketAddr) -> Command {
        let mut words = self.words().split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(options).arg(to.ip().to_string()).arg(to.port().to_string());
        command
    }
}

/// How a message on a netcat's standard input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// As `echo MESSAGE | nc` does.
    Echo,
    /// As `printf %s MESSAGE | nc` does.
    Printf,
}

impl LineEnd {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Echo, Self::Printf];

    /// `message` with this end.
    pub fn end(self, message: &str) -> Vec<u8> {
        match self {
            Self::Echo => format!("{message}\n").into_bytes(),
            Self::Printf => message.as_bytes().to_vec(),
        }
    }
}
