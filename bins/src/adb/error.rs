//! What goes wrong with adb and phones, in words that say what to do.

use std::fmt;
use std::time::Duration;

use crate::duration;

/// Why something on a phone was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdbError {
    /// There is no such program.
    NotInstalled(String),
    /// The phone is not attached, or went away.
    Gone,
    /// It does not let this machine in.
    Unauthorized,
    /// No room on its disk.
    Full,
    /// adb's own server on this machine does not answer.
    ServerSilent,
    /// It did not answer in this time.
    TimedOut(Duration),
    /// The program on the phone cannot use what a person wrote, and says why.
    Usage(String),
    /// What was to be done, and what the phone said.
    Refused { doing: String, why: String },
    /// adb's own words.
    Other(String),
}

impl AdbError {
    /// What adb's complaint means. An empty one comes from a phone that went away in the middle.
    pub fn read(complaint: &str) -> Self {
        let said = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
        if said(&["No space left on device"]) {
            Self::Full
        } else if said(&["unauthorized", "not authorized", "failed to authenticate"]) {
            Self::Unauthorized
        } else if said(&[
            "not found",
            "no devices",
            "offline",
            "error: closed",
            "protocol fault",
            "Connection reset",
            "connect failed: closed",
            "EOF",
            "Broken pipe",
            "couldn't read from device",
            "remote write failed",
        ]) || complaint.trim().is_empty()
        {
            Self::Gone
        } else {
            let line = complaint.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            Self::Other(format!(
                "adb says: {}",
                line.trim_start_matches("error: ").trim_start_matches("adb: ")
            ))
        }
    }

    /// A script failed; a full disk is what a person can do something about.
    pub fn refused(doing: &str, why: &str) -> Self {
        if why.contains("No space left on device") {
            return Self::Full;
        }
        Self::Refused { doing: doing.into(), why: why.trim().into() }
    }
}

impl fmt::Display for AdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(program) => write!(
                f,
                "`{program}` is not installed: install it (Debian, Ubuntu: apt install adb; macOS: brew install \
                 android-platform-tools), or name it in BIDMESH_ADB"
            ),
            Self::Gone => f.write_str(
                "the phone went away: look at its cable and that USB debugging is on, then do the same again; what \
                 was copied stays",
            ),
            Self::Unauthorized => f.write_str(
                "the phone has not authorised this machine: unlock it and confirm `Allow USB debugging?`",
            ),
            Self::ServerSilent => {
                f.write_str("adb's server does not answer: end it by `adb kill-server`, then do the same again")
            }
            Self::Full => f.write_str("the phone's disk is full: free some space on it, then do the same again"),
            Self::TimedOut(limit) => write!(
                f,
                "the phone did not answer within {}: unlock it, plug it in again",
                duration::words(duration::millis(*limit))
            ),
            Self::Refused { doing, why } => write!(f, "cannot {doing}: {why}"),
            Self::Usage(words) | Self::Other(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for AdbError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_adb_become_what_a_person_can_act_on() {
        for (complaint, meaning) in [
            ("error: device 'X' not found", AdbError::Gone),
            ("error: device offline", AdbError::Gone),
            ("error: closed\n", AdbError::Gone),
            ("", AdbError::Gone),
            (
                "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
                AdbError::Unauthorized,
            ),
            (
                "adb: error: failed to copy 'a' to '/b': remote write failed: No space left on device",
                AdbError::Full,
            ),
            ("adb: error: strange", AdbError::Other("adb says: error: strange".into())),
        ] {
            assert_eq!(AdbError::read(complaint), meaning, "{complaint}");
        }
    }
}
