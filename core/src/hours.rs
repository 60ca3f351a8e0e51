//! When in a day a device works: ranges of local time, as its owner writes them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::Serialize;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A minute of the local day, 00:00 to 23:59.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct MinuteOfDay(u16);

impl MinuteOfDay {
    /// `None` if there is no such hour or minute.
    pub const fn new(hour: u16, minute: u16) -> Option<Self> {
        if hour < 24 && minute < 60 { Some(Self(hour * 60 + minute)) } else { None }
    }

    /// Minutes since midnight, 0 to 1439.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for MinuteOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for MinuteOfDay {
    type Err = NoHours;

    /// Reads `7:30` and `07:30`.
    fn from_str(text: &str) -> Result<Self, NoHours> {
        let number = |digits: &str| {
            let digits =
                Some(digits).filter(|d| (1..=2).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(NoHours)
        };
        let (hour, minute) = text.trim().split_once(':').ok_or(NoHours)?;
        Self::new(number(hour)?, number(minute)?).ok_or(NoHours)
    }
}

/// Ranges of the day; none at all: always.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Hours {
    /// From the first minute on, up to the second, past midnight if that is earlier.
    ranges: Vec<(MinuteOfDay, MinuteOfDay)>,
}

impl Hours {
    /// Ranges that a person may write; a setting is no calendar.
    pub const RANGES_MAX: usize = 16;

    /// Whether a minute lies within.
    pub fn contain(&self, minute: MinuteOfDay) -> bool {
        // How far into a day that begins with the range.
        let since = |from: MinuteOfDay, to: MinuteOfDay| (to.0 + DAY - from.0) % DAY;
        let within = |(from, to): &(MinuteOfDay, MinuteOfDay)| {
            // A range that ends where it begins is the whole day.
            from == to || since(*from, minute) < since(*from, *to)
        };
        self.ranges.is_empty() || self.ranges.iter().any(within)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("always");
        }
        let ranges: Vec<String> =
            self.ranges.iter().map(|(from, to)| alloc::format!("{from}-{to}")).collect();
        f.write_str(&ranges.join(", "))
    }
}

impl fmt::Debug for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHours;

impl fmt::Display for NoHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write `always`, or ranges such as `22:00-07:00` or `07:00-08:30, 20:00-23:00`")
    }
}

impl core::error::Error for NoHours {}

impl FromStr for Hours {
    type Err = NoHours;

    fn from_str(text: &str) -> Result<Self, NoHours> {
        if text.trim() == "always" {
            return Ok(Self::default());
        }
        let range = |text: &str| {
            let (from, to) = text.split_once('-').ok_or(NoHours)?;
            Ok((from.parse()?, to.parse()?))
        };
        let ranges: Vec<_> = text.split(',').map(range).collect::<Result<_, _>>()?;
        if ranges.len() > Self::RANGES_MAX { Err(NoHours) } else { Ok(Self { ranges }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn contain(hours: &str, minute: &str) -> bool {
        hours.parse::<Hours>().unwrap().contain(minute.parse().unwrap())
    }

    #[test]
    fn a_range_goes_from_its_first_minute_up_to_its_last() {
        assert!(contain("07:00-08:30", "7:00") && contain("07:00-08:30", "08:29"));
        assert!(!contain("07:00-08:30", "08:30") && !contain("07:00-08:30", "06:59"));
    }

    #[test]
    fn a_range_may_go_past_midnight() {
        for (minute, within) in
            [("21:59", false), ("22:00", true), ("00:00", true), ("06:59", true), ("07:00", false)]
        {
            assert_eq!(contain("22:00-07:00", minute), within, "{minute}");
        }
    }

    #[test]
    fn several_ranges_none_and_whole_days() {
        assert!(contain("01:00-02:00, 12:00-13:00", "12:30") && !contain("01:00-02:00,12:00-13:00", "3:00"));
        assert!(contain("always", "03:00") && contain("08:00-08:00", "03:00"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "7",
            "07:00",
            "07:00-",
            "24:00-01:00",
            "07:60-08:00",
            "-1:00-2:00",
            "+1:00-2:00",
            "1:00-2:00-3:00",
            "001:00-2:00",
        ] {
            assert_eq!(text.parse::<Hours>(), Err(NoHours), "{text}");
        }
        assert!(["0:00-1:00"; 16].join(",").parse::<Hours>().is_ok());
        assert!(["0:00-1:00"; 17].join(",").parse::<Hours>().is_err());
    }

    #[test]
    fn what_is_to_be_written_instead_can_be_read() {
        let told = NoHours.to_string();
        let examples: Vec<&str> = told.split('`').skip(1).step_by(2).collect();
        assert_eq!(examples.len(), 3, "{told}");
        for example in examples {
            assert!(example.parse::<Hours>().is_ok(), "{example}");
        }
    }

    #[test]
    fn a_minute_is_counted_from_midnight() {
        for (text, value) in [("00:00", 0), ("00:59", 59), ("7:30", 450), ("23:59", 1_439)] {
            assert_eq!(text.parse::<MinuteOfDay>().map(MinuteOfDay::value), Ok(value), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_as_many_minutes_as_lie_between(from in 0u16..DAY, to in 0u16..DAY) {
            let hours = Hours { ranges: alloc::vec![(MinuteOfDay(from), MinuteOfDay(to))] };
            let held = (0..DAY).filter(|minute| hours.contain(MinuteOfDay(*minute))).count();
            let length = if from == to { DAY } else { (to + DAY - from) % DAY };
            prop_assert_eq!(held, usize::from(length));
            prop_assert_eq!(hours.to_string().parse::<Hours>(), Ok(hours));
        }
    }
}
