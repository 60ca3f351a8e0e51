//! Measured quantities as bounded integers with a total order: what came off the wire or a sensor is made one
//! of these once, or is unknown. There is no float in the state, so there is no NaN to win an auction.

use core::fmt;

use serde::Serialize;

/// A share of something in use, in parts per million: 0 is idle, 1,000,000 is all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Load(u32);

impl Load {
    /// All of it in use.
    pub const FULL: Self = Self(1_000_000);
    /// Nothing in use.
    pub const IDLE: Self = Self(0);

    /// From parts per million; `None` above 1,000,000.
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm <= 1_000_000 { Some(Self(ppm)) } else { None }
    }

    /// Parts per million, 0 to 1,000,000.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// Reads a decimal fraction as JSON or awk writes it (`0`, `1`, `0.0675015`, `1e-05`), by integers alone.
    /// `None` for what is no number, negative or above 1: such a value is unknown, never best.
    pub fn from_decimal(text: &str) -> Option<Self> {
        decimal(text, 6).and_then(|ppm| u32::try_from(ppm).ok()).and_then(Self::from_ppm)
    }
}

impl fmt::Display for Load {
    /// Whole percent, rounded down: `45%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 / 10_000)
    }
}

impl Serialize for Load {
    /// Parts per million.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// A battery's charge, 0 to 100 percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Percent(u8);

impl Percent {
    /// Empty.
    pub const ZERO: Self = Self(0);

    /// `None` above 100.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 { Some(Self(value)) } else { None }
    }

    /// 0 to 100.
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Reads a number as a shell device writes it; `-1` and everything outside 0 to 100 is unknown.
    pub fn from_decimal(text: &str) -> Option<Self> {
        decimal(text, 0).and_then(|value| u8::try_from(value).ok()).and_then(Self::new)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A temperature in tenths of a degree Celsius.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct DeciCelsius(pub i16);

impl fmt::Display for DeciCelsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{} °C", self.0.unsigned_abs() / 10, self.0.unsigned_abs() % 10)
    }
}

/// The value of a JSON number, times ten to the `places`, rounded down. `None` for what is no number or negative,
/// and where it does not fit. Digits beyond the places are read and dropped; an exponent moves the point.
pub fn decimal(text: &str, places: i32) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The digit at place p (units are 0, tenths -1) counts when p + exponent + places >= 0.
    let top = i32::try_from(whole.len()).ok()?.checked_sub(1)?.checked_add(exponent)?.checked_add(places)?;
    let mut value: u64 = 0;
    let mut place = top;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if place < 0 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        place -= 1;
    }
    // Digits that are not written are zeros; a zero stays zero however far the point moves.
    while place >= 0 && value > 0 {
        value = value.checked_mul(10)?;
        place -= 1;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_awk_prints() {
        for (text, ppm) in
            [("0", 0), ("1", 1_000_000), ("0.0675015", 67_501), ("1e-05", 10), ("0.60", 600_000)]
        {
            assert_eq!(Load::from_decimal(text).map(Load::ppm), Some(ppm), "{text}");
        }
    }

    #[test]
    fn what_is_no_load_is_unknown() {
        for text in [
            "",
            "nan",
            "inf",
            "-1",
            "-0.1",
            "0,45",
            "45%",
            "1.1",
            "1e999",
            "1e99999999999",
            ".5",
            "1e",
            "0x1",
        ] {
            assert_eq!(Load::from_decimal(text), None, "{text}");
        }
        assert_eq!(Load::from_decimal("1e-400").map(Load::ppm), Some(0));
        assert_eq!(Load::from_decimal("0e999").map(Load::ppm), Some(0));
        // A zero needs no work, wherever its point is.
        assert_eq!(Load::from_decimal("0e2000000000").map(Load::ppm), Some(0));
    }

    #[test]
    fn battery_minus_one_is_unknown() {
        assert_eq!(Percent::from_decimal("-1"), None);
        assert_eq!(Percent::from_decimal("100").map(Percent::value), Some(100));
        assert_eq!(Percent::from_decimal("101"), None);
    }
}
