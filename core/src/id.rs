//! Names of devices, tasks, awards, bids and boots: checked once, where they enter.
//!
//! Device ids enter a grep pattern and task ids become file names on shell devices, so both alphabets are
//! narrow: `[A-Za-z0-9_-]{1,64}` and `[A-Za-z0-9._-]{1,64}` without `..` (measured in the shell mesh).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use serde::Serialize;

use crate::draw::Seed;
use crate::time::Time;

/// The longest id that is taken from outside, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdError {
    /// It is empty.
    Empty,
    /// It is longer than [`ID_BYTES_MAX`] bytes.
    TooLong,
    /// It holds a character that such an id may not have.
    Character(char),
    /// It holds `..`, which would name a parent folder on a shell device.
    DotDot,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong => write!(f, "it is longer than {ID_BYTES_MAX} bytes"),
            Self::Character(c) => write!(f, "it holds {c:?}"),
            Self::DotDot => write!(f, "it holds `..`"),
        }
    }
}

impl core::error::Error for IdError {}

fn check(text: &str, extra: &[char]) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong);
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !extra.contains(c)) {
        Some(c) => Err(IdError::Character(c)),
        None if text.contains("..") => Err(IdError::DotDot),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and keeps it.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text, &$extra)?;
                Ok(Self(text.into()))
            }

            /// The id as it is written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

id!(
    /// A device of the mesh: `[A-Za-z0-9_-]{1,64}`.
    DeviceId,
    ['_', '-']
);
id!(
    /// A task, named by the device that orchestrates it: ours are `task_` and 13 base-32 digits.
    TaskId,
    ['_', '-', '.']
);
id!(
    /// One award of one task to one device; what TASK, RESULT and all messages between them carry as `task_id`.
    /// Ours are `TASK.ATTEMPT.SECRET`; a typed TASK of a shell person may carry any id.
    AwardId,
    ['_', '-', '.']
);
id!(
    /// A bid of a bidmesh device, `BOOT.MILLISECONDS`: read back by the device that made it, opaque to others.
    BidId,
    ['_', '-', '.']
);
id!(
    /// One start of a device: eight base-32 digits, new each time, so that a peer notices a restart.
    BootId,
    ['_', '-']
);

impl TaskId {
    /// The `number`th task that a device with this seed takes on.
    pub fn draw(seed: Seed, number: u64) -> Self {
        let digits = base32(seed.draw("task", &[&number.to_be_bytes()]), 13);
        Self(format!("task_{digits}").into())
    }
}

impl AwardId {
    /// The award of `attempt` of `task`. The secret keeps devices that only saw the bid request from forging results.
    pub fn draw(seed: Seed, task: &TaskId, attempt: u32) -> Self {
        let secret = seed.draw("award", &[task.as_str().as_bytes(), &attempt.to_be_bytes()]);
        // 18 digits of a task of ours, 10 of the attempt, five of the secret and two dots stay below 64.
        Self(format!("{task}.{attempt}.{}", base32(secret, 5)).into())
    }
}

impl BidId {
    /// A bid made `now` in this boot.
    pub fn make(boot: &BootId, now: Time) -> Self {
        Self(format!("{boot}.{}", now.millis()).into())
    }

    /// The boot and the milliseconds since it, if this has the form that [`BidId::make`] gives.
    pub fn read(&self) -> Option<(&str, u64)> {
        let (boot, millis) = self.0.rsplit_once('.')?;
        Some((boot, millis.parse().ok()?))
    }
}

impl BootId {
    /// The boot of a device with this seed; the seed is fresh at each start.
    pub fn draw(seed: Seed) -> Self {
        Self(base32(seed.draw("boot", &[]), 8).into())
    }
}

/// The lowest `digits` base-32 digits (Crockford's alphabet in lower case: no i, l, o, u) of `value`.
fn base32(mut value: u64, digits: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = String::with_capacity(digits);
    for _ in 0..digits {
        // The mask keeps the index below 32.
        text.push(char::from(ALPHABET[(value & 31) as usize]));
        value >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn alphabets_are_narrow() {
        assert!(DeviceId::new("Device_A-1").is_ok());
        assert_eq!(DeviceId::new("Device.A"), Err(IdError::Character('.')));
        assert_eq!(DeviceId::new(""), Err(IdError::Empty));
        assert!(TaskId::new("task_7.x").is_ok());
        assert_eq!(TaskId::new("a..b"), Err(IdError::DotDot));
        assert_eq!(TaskId::new("../x"), Err(IdError::Character('/')));
        assert_eq!(AwardId::new(&"x".repeat(65)), Err(IdError::TooLong));
    }

    #[test]
    fn drawn_ids_have_their_forms_and_are_valid() {
        let seed = Seed::from(7);
        let task = TaskId::draw(seed, 1);
        assert_eq!(task.as_str().len(), 18);
        assert!(TaskId::new(task.as_str()).is_ok());
        let award = AwardId::draw(seed, &task, 2);
        assert!(award.to_string().starts_with(&format!("{task}.2.")));
        assert!(AwardId::new(award.as_str()).is_ok());
        assert_ne!(award, AwardId::draw(Seed::from(8), &task, 2));
        let bid = BidId::make(&BootId::draw(seed), Time::ZERO);
        assert_eq!(bid.read(), Some((BootId::draw(seed).as_str(), 0)));
    }
}
