//! Durations as people write and read them.

use std::time::Duration;

/// Reads `10` (seconds), `1.5s`, `500ms`, `5m`, `2h`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis_each: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{unit}` is no unit of time; write 500ms, 10s, 5m or 2h")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let wrong = || format!("`{text}` is no duration; write 500ms, 10s, 5m or 2h");
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut millis = whole.checked_mul(millis_each).ok_or_else(wrong)?;
    if !fraction.is_empty() {
        // Three decimals reach a millisecond of a second; further ones do not matter to anybody.
        let decimals: String = fraction.chars().chain("000".chars()).take(3).collect();
        let thousandths: u64 = decimals.parse().map_err(|_| wrong())?;
        millis = millis.checked_add(thousandths * millis_each / 1_000).ok_or_else(wrong)?;
    }
    Ok(Duration::from_millis(millis))
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long, with as much detail as a person can use: `0.41 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d`.
pub fn words(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..10 => format!("{seconds}.{:02} s", millis % 1_000 / 10),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A length of text in bytes, for a person.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{}.{} KiB", count / 1_024, count % 1_024 * 10 / 1_024),
        _ => format!("{}.{} MiB", count / 1_048_576, count % 1_048_576 * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("10", 10_000),
            ("0", 0),
            ("1.5", 1_500),
            ("0.25s", 250),
            ("500ms", 500),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_an_error() {
        for text in
            ["", "s", "-1", "1.2.3", "10 parsecs", "99999999999999999999", "18446744073709551615h", "+1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn says_no_more_than_one_can_use() {
        let said: Vec<String> =
            [410, 9_999, 12_345, 125_000, 7_500_000, 400_000_000].into_iter().map(words).collect();
        assert_eq!(said, ["0.41 s", "9.99 s", "12 s", "2 min", "2 h 5 min", "4 d"]);
        assert_eq!([bytes(12), bytes(1_536), bytes(3 << 20)], ["12 B", "1.5 KiB", "3.0 MiB"]);
    }
}
