//! Why a model cannot be used, or an answer not be had.

use std::error::Error;
use std::fmt;

use crate::execute::output::{Keep, one_line};

/// The longest error, in bytes: some quote the file.
const LENGTH_MAX: usize = 300;

/// One line for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlmError(String);

impl SlmError {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }

    /// The same error, about this.
    pub(super) fn about(&self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for SlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(self.0.as_bytes(), LENGTH_MAX, Keep::Beginning))
    }
}

impl Error for SlmError {}

impl From<candle_core::Error> for SlmError {
    fn from(error: candle_core::Error) -> Self {
        // With RUST_BACKTRACE set, a backtrace follows.
        Self(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
