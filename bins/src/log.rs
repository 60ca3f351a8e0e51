//! The device's log: `mesh_<ID>.log` in the mesh directory, in the shell mesh's form
//! `[YYYY-MM-DD HH:MM:SS] [TAG] text`, bounded in size. Times are UTC.

mod date;
mod describe;
mod file;
mod keeper;
mod screen;

use std::time::SystemTime;

pub use describe::describe;
pub use file::{LogFile, rotated};
pub use keeper::{Audience, Keeper};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about, in capitals.
    pub tag: &'static str,
    /// How many `-v` it takes to see it on stderr.
    pub level: u8,
    /// What happened.
    pub text: String,
}

impl Line {
    pub fn new(tag: &'static str, level: u8, text: impl Into<String>) -> Self {
        Self { tag, level, text: text.into() }
    }

    /// As it is written, without the line end.
    pub fn written(&self, at: SystemTime) -> String {
        format!("[{}] [{}] {}", date::utc(at), self.tag, crate::output::one_line(&self.text))
    }
}

/// A written line, taken apart: time, tag, text. `None` for what is not of this form.
pub fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] [")?;
    let (tag, text) = rest.split_once("] ").or_else(|| Some((rest.strip_suffix(']')?, "")))?;
    Some((time, tag, text))
}

/// A written line as `--json` prints it. What is not of this form is text without time and tag.
pub fn json(device: Option<&str>, line: &str) -> serde_json::Value {
    let (time, tag, text) =
        parse(line).map_or((None, None, line), |(time, tag, text)| (Some(time), Some(tag), text));
    let mut object = serde_json::json!({ "time": time, "tag": tag, "text": text });
    if let Some(device) = device {
        object["device_id"] = device.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_line_has_the_shell_meshs_form_and_is_read_back() {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let written = Line::new("TEXT", 0, "Device_B: forged\n[2030-01-01 00:00:00] [INFO] line").written(at);
        let text = "Device_B: forged [2030-01-01 00:00:00] [INFO] line";
        assert_eq!(written, format!("[2023-11-14 22:13:20] [TEXT] {text}"));
        assert_eq!(parse(&written), Some(("2023-11-14 22:13:20", "TEXT", text)));
        assert_eq!(parse("no line of ours"), None);
    }
}
