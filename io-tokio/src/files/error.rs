//! What was wrong, where, and what to do about it: one line for a person.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The longest piece of somebody's text that is repeated in an error, in characters.
const QUOTE_CHARACTERS_MAX: usize = 60;

/// A file, a variable or a flag that cannot be used as it is. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    place: Place,
    what: String,
    remedy: String,
    kind: Option<io::ErrorKind>,
}

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, from 1; `None`: the file as a whole.
        line: Option<usize>,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// In a flag of the command line, as it is written there.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Error {
    pub(crate) fn new(place: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place, what: what.into(), remedy: remedy.into(), kind: None }
    }

    pub(crate) fn line(path: &Path, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Place::File { path: path.into(), line: Some(line) }, what, remedy)
    }

    pub(crate) fn file(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Place::File { path: path.into(), line: None }, what, remedy)
    }

    /// The system refused. `doing` completes "it cannot be …".
    pub(crate) fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "see who owns it, or choose another directory with --dir",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
            io::ErrorKind::ReadOnlyFilesystem => "choose another directory with --dir",
            io::ErrorKind::NotFound => "create it, or choose another directory with --dir",
            _ => "see what is there, or choose another directory with --dir",
        };
        let mut made = Self::file(path, format!("it cannot be {doing}: {error}"), remedy);
        made.kind = Some(error.kind());
        made
    }

    /// Where it was said.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the system said, if it was the system that refused.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.remedy)
    }
}

impl std::error::Error for Error {}

/// Somebody's text for an error: on one line, not too long, without control characters.
pub(super) fn quote(text: &str) -> String {
    let short: String = text.chars().take(QUOTE_CHARACTERS_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_stay_on_one_line_and_short() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        let long = quote(&"ü".repeat(5000));
        assert_eq!(long.chars().count(), QUOTE_CHARACTERS_MAX + 3);
    }

    #[test]
    fn an_error_says_where_what_and_what_to_do() {
        let error = Error::line(Path::new("/m/peers.txt"), 3, "`x` has no address", "write ID:IP:PORT");
        assert_eq!(error.to_string(), "/m/peers.txt:3: `x` has no address; write ID:IP:PORT");
    }

    #[test]
    fn what_the_system_refuses_comes_with_what_to_do() {
        for (kind, remedy) in [
            (io::ErrorKind::PermissionDenied, "see who owns it, or choose another directory with --dir"),
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::QuotaExceeded, "free some space"),
            (io::ErrorKind::ReadOnlyFilesystem, "choose another directory with --dir"),
            (io::ErrorKind::NotFound, "create it, or choose another directory with --dir"),
            (io::ErrorKind::Other, "see what is there, or choose another directory with --dir"),
        ] {
            let error = Error::io(Path::new("/m/x"), "read", &kind.into());
            assert_eq!(
                error.to_string(),
                format!("/m/x: it cannot be read: {}; {remedy}", io::Error::from(kind))
            );
            assert_eq!(error.kind(), Some(kind));
        }
        assert_eq!(Error::file(Path::new("x"), "it is empty", "fill it").kind(), None);
    }
}
