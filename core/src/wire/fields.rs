//! The JSON payloads as structs that serde reads, and the small readers of single fields. Numbers and booleans
//! are kept as text and judged later: a bad number makes one value unknown, not a message unreadable.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::message::{Capacity, Text};
use crate::load::{Load, Percent, decimal};

/// A number or a boolean as far as it could be read; anything else is unknown, whatever it is.
pub(super) struct Value<T>(pub(super) Option<T>);

impl<T> Default for Value<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As text, so that no float enters core, and so that serde has no opinion about its type.
        <&RawValue>::deserialize(deserializer).map(|raw| Self(T::read(raw.get())))
    }
}

/// What is read from the text of a JSON value.
pub(super) trait Scalar: Sized {
    fn read(text: &str) -> Option<Self>;
}

impl Scalar for bool {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Scalar for u64 {
    /// A whole number, rounded down; `None` for what is none, is negative or does not fit.
    fn read(text: &str) -> Option<Self> {
        // Nearly all are plain digits, which `parse` reads faster. A plus sign, which it takes too, is no JSON.
        text.parse().ok().or_else(|| decimal(text, 0))
    }
}

impl Scalar for u32 {
    fn read(text: &str) -> Option<Self> {
        u64::read(text).and_then(|value| value.try_into().ok())
    }
}

impl Scalar for u16 {
    fn read(text: &str) -> Option<Self> {
        u64::read(text).and_then(|value| value.try_into().ok())
    }
}

impl Scalar for Load {
    fn read(text: &str) -> Option<Self> {
        Self::from_decimal(text)
    }
}

impl Scalar for Percent {
    fn read(text: &str) -> Option<Self> {
        u64::read(text).and_then(|value| value.try_into().ok()).and_then(Self::new)
    }
}

impl Scalar for Duration {
    /// Seconds as a decimal number, at the grain of a millisecond.
    fn read(text: &str) -> Option<Self> {
        decimal(text, 3).map(Self::from_millis)
    }
}

/// A short string that is checked rather than kept.
#[derive(serde::Deserialize)]
pub(super) struct Short<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A string that is kept; copied once, out of the input or out of serde's buffer of unescaped text.
pub(super) struct Kept(pub(super) Text);

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeptVisitor;

        impl Visitor<'_> for KeptVisitor {
            type Value = Kept;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Kept, E> {
                Ok(Kept(Arc::from(text)))
            }
        }

        deserializer.deserialize_str(KeptVisitor)
    }
}

/// Makes the struct of a payload: the marker's two fields, ids and words that are checked, values, and texts.
macro_rules! payload {
    ($name:ident { $($short:ident),* } { $($value:ident: $type:ty),* $(,)? } { $($text:ident),* }) => {
        #[derive(serde::Deserialize)]
        pub(super) struct $name<'a> {
            #[serde(default)]
            pub(super) bidmesh: Value<u16>,
            #[serde(borrow)]
            pub(super) boot: Option<Short<'a>>,
            $(#[serde(borrow)] pub(super) $short: Option<Short<'a>>,)*
            $(#[serde(default)] pub(super) $value: Value<$type>,)*
            $(pub(super) $text: Option<Kept>,)*
        }
    };
}

payload!(BidRequestFields { task_id } { prompt_bytes: u64, deadline: Duration } { task_type, prompt });
payload!(BidFields { task_id, bid_id } {
    cpu_load: Load,
    ram_load: Load,
    battery: Percent,
    charging: bool,
    has_npu: bool,
    slots: u16,
    running: u16,
    yours: u16,
} { device_id });
payload!(TaskFields { task_id, bid_id } { use_npu: bool } { prompt, prompt_type, task_type });
payload!(ResultFields { task_id, status } {
    output_was_not_utf8: bool,
    total_ms: u32,
    first_text_ms: u32,
    prompt_tokens: u32,
    tokens: u32,
} { device_id, output });
payload!(RefusalFields { task_id, reason } { retry_after_ms: u64, slots: u16, running: u16, yours: u16 } {});
payload!(AwardFields { task_id } { have: u64 } {});
payload!(ProgressFields { task_id } { offset: u64 } { text });
payload!(MarkerFields {} {} {});

/// Slots and running tasks; `yours` may be missing, the other two belong together.
pub(super) fn capacity(slots: Value<u16>, running: Value<u16>, yours: Value<u16>) -> Option<Capacity> {
    Some(Capacity { slots: slots.0?, running: running.0?, yours: yours.0.unwrap_or(0) })
}
