//! The JSON payloads as structs that serde reads, and the small readers of single fields. Numbers and booleans
//! are kept as text and judged later: a bad number makes one value unknown, not a message unreadable.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::message::{Capacity, Text};
use crate::load::decimal;

/// A scalar or anything else, as it was written.
pub(super) type Raw<'a> = Option<&'a RawValue>;

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

/// Makes the struct of a payload: the marker's two fields, then those that are named.
macro_rules! payload {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(serde::Deserialize)]
        pub(super) struct $name<'a> {
            #[serde(borrow)]
            pub(super) bidmesh: Raw<'a>,
            #[serde(borrow)]
            pub(super) boot: Option<Short<'a>>,
            $(#[serde(borrow)] pub(super) $field: Option<$type>,)*
        }
    };
    // `borrow` is refused by serde on a type without a lifetime, so kept texts are named apart.
    ($name:ident { $($field:ident: $type:ty),* $(,)? } kept { $($text:ident),* }) => {
        #[derive(serde::Deserialize)]
        pub(super) struct $name<'a> {
            #[serde(borrow)]
            pub(super) bidmesh: Raw<'a>,
            #[serde(borrow)]
            pub(super) boot: Option<Short<'a>>,
            $(#[serde(borrow)] pub(super) $field: Option<$type>,)*
            $(pub(super) $text: Option<Kept>,)*
        }
    };
}

payload!(BidRequestFields {
    task_id: Short<'a>,
    prompt_bytes: &'a RawValue,
    deadline: &'a RawValue,
} kept { task_type, prompt });
payload!(BidFields {
    task_id: Short<'a>,
    bid_id: Short<'a>,
    cpu_load: &'a RawValue,
    ram_load: &'a RawValue,
    battery: &'a RawValue,
    charging: &'a RawValue,
    has_npu: &'a RawValue,
    slots: &'a RawValue,
    running: &'a RawValue,
    yours: &'a RawValue,
} kept { device_id });
payload!(TaskFields {
    task_id: Short<'a>,
    bid_id: Short<'a>,
    use_npu: &'a RawValue,
} kept { prompt, prompt_type, task_type });
payload!(ResultFields {
    task_id: Short<'a>,
    status: Short<'a>,
    output_was_not_utf8: &'a RawValue,
} kept { device_id, output });
payload!(RefusalFields {
    task_id: Short<'a>,
    reason: Short<'a>,
    retry_after_ms: &'a RawValue,
    slots: &'a RawValue,
    running: &'a RawValue,
    yours: &'a RawValue,
});
payload!(AwardFields { task_id: Short<'a>, have: &'a RawValue });
payload!(ProgressFields { task_id: Short<'a>, offset: &'a RawValue } kept { text });
payload!(MarkerFields {});

/// A whole number; `None` for what is none, is negative or does not fit.
pub(super) fn whole<T: TryFrom<u64>>(raw: Raw<'_>) -> Option<T> {
    decimal(raw?.get(), 0).and_then(|value| T::try_from(value).ok())
}

/// `true` or `false`, written so.
pub(super) fn boolean(raw: Raw<'_>) -> Option<bool> {
    raw?.get().parse().ok()
}

/// Seconds as a decimal number, at the grain of a millisecond.
pub(super) fn seconds(raw: Raw<'_>) -> Option<Duration> {
    decimal(raw?.get(), 3).map(Duration::from_millis)
}

/// Slots and running tasks; `yours` may be missing, the other two belong together.
pub(super) fn capacity(slots: Raw<'_>, running: Raw<'_>, yours: Raw<'_>) -> Option<Capacity> {
    Some(Capacity { slots: whole(slots)?, running: whole(running)?, yours: whole(yours).unwrap_or(0) })
}
