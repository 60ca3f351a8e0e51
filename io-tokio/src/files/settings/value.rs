//! How a value is written and read: the same in config.toml, in a variable, after a flag and on the screen.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bidmesh_core::config::{Admit, AtLimit};
use bidmesh_core::hours::Hours;
use bidmesh_core::id::DeviceId;
use bidmesh_core::load::{DeciCelsius, Percent, decimal};
use bidmesh_core::policy::Policy;
use serde::Serialize;

use crate::execute::Preset;
use crate::files::error::quote;

/// What somebody wrote: numbers and truth values as their text, lists of TOML as lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    One(String),
    Many(Vec<String>),
}

/// A value as it is written, for the screen, JSON and TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Written {
    /// Not set.
    Unset,
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// Text, durations included.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// Something that is not shown.
    Secret(Secret),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::List(list) => f.write_str(&list.join(",")),
            Self::Secret(_) => f.write_str("(secret)"),
        }
    }
}

/// A text that is neither shown nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

/// What runs prompts, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// Nothing: this device only asks.
    None,
    /// A program that is called with the path of a file that holds the prompt.
    Command(PathBuf),
    /// The base URL of an OpenAI-compatible server.
    OpenAi(String),
    /// The embedded model: that of a file, or the one that was fetched.
    Slm(Option<PathBuf>),
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Command(path) => write!(f, "command:{}", path.display()),
            Self::OpenAi(url) => write!(f, "openai:{url}"),
            Self::Slm(None) => f.write_str("slm"),
            Self::Slm(Some(path)) => write!(f, "slm:{}", path.display()),
        }
    }
}

/// The range of a setting, in its own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// No narrower than its type.
    Any,
    /// A time, in milliseconds.
    Time(u64, u64),
    /// A whole number.
    Whole(u64, u64),
}

impl Range {
    fn check(self, value: u64) -> Result<(), String> {
        match self {
            Self::Time(low, high) | Self::Whole(low, high) if !(low..=high).contains(&value) => {
                Err("is out of range".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// A type that a setting can have. Errors complete "`key` …".
pub(super) trait Value: Sized {
    fn read(raw: &Raw, range: Range) -> Result<Self, String>;
    fn write(&self) -> Written;
    /// What may be written, for the person whose value is refused.
    fn form(range: Range) -> String;
}

fn one(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::One(text) => Ok(text.trim()),
        Raw::Many(_) => Err("is a list".to_owned()),
    }
}

fn is(text: &str) -> String {
    format!("is {}", quote(text))
}

impl Value for Duration {
    fn read(raw: &Raw, range: Range) -> Result<Self, String> {
        let text = one(raw)?;
        let millis = milliseconds(text).ok_or_else(|| is(text))?;
        range.check(millis).map_err(|why| format!("({}) {why}", duration(millis)))?;
        Ok(Self::from_millis(millis))
    }

    fn write(&self) -> Written {
        Written::Text(duration(u64::try_from(self.as_millis()).unwrap_or(u64::MAX)))
    }

    fn form(range: Range) -> String {
        let form = "a time such as 1500ms, 10s, 5m, 1h, or a number of seconds";
        match range {
            Range::Time(low, high) => format!("{form}, from {} to {}", duration(low), duration(high)),
            _ => form.to_owned(),
        }
    }
}

/// Milliseconds of a time as it is written.
fn milliseconds(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let (factor, places) = match unit.trim_start() {
        "ms" => (1, 0),
        "" | "s" => (1, 3),
        "m" | "min" => (60, 3),
        "h" => (3600, 3),
        _ => return None,
    };
    // `1.5ms` would be rounded; no setting is that fine.
    if places == 0 && number.contains('.') {
        return None;
    }
    decimal(number, places)?.checked_mul(factor)
}

/// Milliseconds in the largest unit in which they are a whole number.
fn duration(millis: u64) -> String {
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(raw: &Raw, range: Range) -> Result<Self, String> {
                let text = one(raw)?;
                // `parse` alone would take a leading plus sign.
                let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
                let number = text.replace('_', "").parse::<u64>().ok().filter(|_| digits);
                let number = number.ok_or_else(|| is(text))?;
                range.check(number).map_err(|why| format!("({number}) {why}"))?;
                Self::try_from(number).map_err(|_| format!("({number}) is out of range"))
            }

            fn write(&self) -> Written {
                Written::Whole(u64::try_from(*self).unwrap_or(u64::MAX))
            }

            fn form(range: Range) -> String {
                match range {
                    Range::Whole(low, high) => format!("a whole number from {low} to {high}"),
                    _ => format!("a whole number from 0 to {}", <$type>::MAX),
                }
            }
        }
    )*};
}

whole!(u8, u16, u32, usize);

impl Value for bool {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        match one(raw)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            other => Err(is(other)),
        }
    }

    fn write(&self) -> Written {
        Written::Flag(*self)
    }

    fn form(_: Range) -> String {
        "true or false".to_owned()
    }
}

impl Value for Percent {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        let text = one(raw)?;
        let digits = text.trim_end_matches('%').trim_end();
        digits.parse().ok().and_then(Self::new).filter(|_| !digits.starts_with('+')).ok_or_else(|| is(text))
    }

    fn write(&self) -> Written {
        Written::Whole(self.value().into())
    }

    fn form(_: Range) -> String {
        "a whole number of percent from 0 to 100".to_owned()
    }
}

impl Value for DeciCelsius {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        let text = one(raw)?;
        let number = text.trim_end_matches('C').trim_end_matches('°').trim_end();
        let tenths = decimal(number, 1).filter(|tenths| *tenths <= 1250);
        tenths.and_then(|tenths| i16::try_from(tenths).ok()).map(Self).ok_or_else(|| is(text))
    }

    fn write(&self) -> Written {
        let (whole, tenth) = (self.0 / 10, self.0 % 10);
        Written::Text(if tenth == 0 { whole.to_string() } else { format!("{whole}.{tenth}") })
    }

    fn form(_: Range) -> String {
        "degrees Celsius from 0 to 125, such as 45 or 42.5".to_owned()
    }
}

/// Types that are written as they parse.
macro_rules! parsed {
    ($($type:ty: $form:literal),* $(,)?) => {$(
        impl Value for $type {
            fn read(raw: &Raw, _: Range) -> Result<Self, String> {
                let text = one(raw)?;
                text.parse().map_err(|_| is(text))
            }

            fn write(&self) -> Written {
                Written::Text(self.to_string())
            }

            fn form(_: Range) -> String {
                $form.to_owned()
            }
        }
    )*};
}

parsed! {
    Hours: "`always`, or ranges of local time such as 22:00-07:00 or 07:00-08:30, 20:00-23:00",
    Policy: "`npu-first` or `weighted`",
    Preset: "`plain`, `genie`, `llama-cli` or `ollama`",
    SocketAddr: "ADDRESS:PORT, such as 0.0.0.0:9999 or [::]:9999",
}

impl Value for AtLimit {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        match one(raw)? {
            "finish" => Ok(Self::Finish),
            "hand_back" => Ok(Self::HandBack),
            other => Err(is(other)),
        }
    }

    fn write(&self) -> Written {
        let text = match self {
            Self::Finish => "finish",
            Self::HandBack => "hand_back",
        };
        Written::Text(text.to_owned())
    }

    fn form(_: Range) -> String {
        "`finish` or `hand_back`".to_owned()
    }
}

impl Value for Admit {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        match one(raw)? {
            "hello" => Ok(Self::Hello),
            "listed" => Ok(Self::Listed),
            "any" => Ok(Self::Any),
            other => Err(is(other)),
        }
    }

    fn write(&self) -> Written {
        let text = match self {
            Self::Hello => "hello",
            Self::Listed => "listed",
            Self::Any => "any",
        };
        Written::Text(text.to_owned())
    }

    fn form(_: Range) -> String {
        "`hello`, `listed` or `any`".to_owned()
    }
}

impl Value for DeviceId {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        let text = one(raw)?;
        Self::new(text).map_err(|error| format!("{}: {error}", is(text)))
    }

    fn write(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn form(_: Range) -> String {
        "1 to 64 letters, digits, `_` and `-`".to_owned()
    }
}

impl Value for Executor {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        let text = one(raw)?;
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "slm" => Ok(Self::Slm(None)),
            Some(("slm", path)) if !path.trim().is_empty() => Ok(Self::Slm(Some(path.into()))),
            Some(("command", path)) if !path.trim().is_empty() => Ok(Self::Command(path.into())),
            Some(("openai", url)) if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Self::OpenAi(url.trim_end_matches('/').to_owned()))
            }
            _ => Err(is(text)),
        }
    }

    fn write(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn form(_: Range) -> String {
        "`command:PATH`, `openai:http://ADDRESS:PORT/v1`, `slm`, `slm:PATH` or `none`".to_owned()
    }
}

impl Value for Secret {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        // It becomes a header of a request. The text itself must not appear in the error.
        let text = one(raw)?;
        if text.chars().any(char::is_control) {
            Err("holds a control character".into())
        } else {
            Ok(Self(text.into()))
        }
    }

    fn write(&self) -> Written {
        Written::Secret(self.clone())
    }

    fn form(_: Range) -> String {
        "a text on one line".to_owned()
    }
}

impl Value for String {
    fn read(raw: &Raw, _: Range) -> Result<Self, String> {
        let text = one(raw)?;
        if text.chars().any(char::is_control) { Err(is(text)) } else { Ok(text.to_owned()) }
    }

    fn write(&self) -> Written {
        Written::Text(self.clone())
    }

    fn form(_: Range) -> String {
        "a text on one line".to_owned()
    }
}

/// Not set is written as an empty text.
impl<T: Value> Value for Option<T> {
    fn read(raw: &Raw, range: Range) -> Result<Self, String> {
        if matches!(raw, Raw::One(text) if text.trim().is_empty()) {
            return Ok(None);
        }
        T::read(raw, range).map(Some)
    }

    fn write(&self) -> Written {
        self.as_ref().map_or(Written::Unset, T::write)
    }

    fn form(range: Range) -> String {
        format!("{}, or nothing", T::form(range))
    }
}

/// A list of TOML, or words between commas.
impl<T: Value + Ord> Value for BTreeSet<T> {
    fn read(raw: &Raw, range: Range) -> Result<Self, String> {
        let words: Vec<&str> = match raw {
            Raw::One(text) => text.split(',').collect(),
            Raw::Many(words) => words.iter().map(String::as_str).collect(),
        };
        let words = words.into_iter().map(str::trim).filter(|word| !word.is_empty());
        words.map(|word| T::read(&Raw::One(word.to_owned()), range)).collect()
    }

    fn write(&self) -> Written {
        Written::List(self.iter().map(|item| item.write().to_string()).collect())
    }

    fn form(range: Range) -> String {
        format!("a list, with commas between; each {}", T::form(range))
    }
}
