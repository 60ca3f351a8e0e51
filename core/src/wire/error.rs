//! Why bytes are no message, and why a message cannot be written for a peer.

use alloc::string::String;
use core::fmt;

use super::message::Dialect;
use crate::id::IdError;

/// Why bytes are not a message, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DecodeError {
    /// How many bytes from the beginning of the message the trouble is; never more than the message is long.
    pub offset: usize,
    /// What is wrong there.
    pub why: DecodeErrorKind,
}

/// What can be wrong with bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DecodeErrorKind {
    /// The message is longer than the limit.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// There are not two `|`.
    NoSeparator,
    /// TYPE is not `[A-Z0-9_]{1,32}`.
    Type,
    /// FROM is not a device id.
    From(IdError),
    /// HELLO or DISCOVER does not begin with `IP:PORT`.
    Address,
    /// The payload is no JSON object.
    NoObject,
    /// The payload is not the JSON object that it should be; the text is the reader's reason.
    Json(String),
    /// The raw output of a shell device's RESULT does not end in `"}`: part of it is missing.
    CutOff,
    /// A field is not an id.
    Id {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        error: IdError,
    },
    /// A field without which the message means nothing is absent or unreadable.
    Missing {
        /// The field's name.
        field: &'static str,
    },
}

impl DecodeError {
    pub(super) const fn new(offset: usize, why: DecodeErrorKind) -> Self {
        Self { offset, why }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.why)
    }
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "the message is longer than {limit} bytes"),
            Self::NoSeparator => write!(f, "not a message: no separator"),
            Self::Type => write!(f, "the message type is not 1 to 32 of A-Z, 0-9 and _"),
            Self::From(error) => write!(f, "the sender's device id is not valid: {error}"),
            Self::Address => write!(f, "not an address: IP:PORT is expected"),
            Self::NoObject => write!(f, "the payload is not a JSON object"),
            Self::Json(reason) => write!(f, "the payload is not a JSON object of this type: {reason}"),
            Self::CutOff => write!(f, "the output is cut off: it does not end in \"}}"),
            Self::Id { field, error } => write!(f, "{field} is not a valid id: {error}"),
            Self::Missing { field } => write!(f, "{field} is missing or not readable"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a message cannot be written for a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EncodeError {
    /// Shell devices do not know this type.
    NotInDialect {
        /// TYPE.
        kind: &'static str,
        /// The dialect that was asked for.
        dialect: Dialect,
    },
    /// The TYPE of a [`super::Body::Unknown`] is not `[A-Z0-9_]{1,32}`.
    Type,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInDialect { kind, .. } => write!(f, "a shell device does not understand {kind}"),
            Self::Type => write!(f, "the message type is not 1 to 32 of A-Z, 0-9 and _"),
        }
    }
}

impl core::error::Error for EncodeError {}
