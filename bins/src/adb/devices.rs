//! What `adb devices -l` prints.

use std::fmt;

/// A phone that adb sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its serial number; `ADDRESS:PORT` for one that adb reaches by network.
    pub serial: String,
    pub state: State,
    /// What its maker calls it, if adb says so.
    pub model: Option<String>,
}

/// Whether a phone can be worked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// Nobody has confirmed this machine's key on its screen.
    Unauthorized,
    Offline,
    /// This machine's user may not use the USB device.
    NoPermissions,
    /// In its recovery, boot loader, or about to be ready: adb's own word.
    Other(String),
}

impl State {
    /// What stands in the way, and what to do about it; `None`: nothing does.
    pub fn obstacle(&self) -> Option<String> {
        let text = match self {
            Self::Ready => return None,
            Self::Unauthorized => {
                "it has not authorised this machine: unlock it and confirm `Allow USB debugging?`; if it does not ask, \
                 switch USB debugging off and on again"
            }
            Self::Offline => "it is offline: plug it in again, or `adb reconnect offline`",
            Self::NoPermissions => {
                "this user may not open the USB device: install android-udev-rules or \
                 android-sdk-platform-tools-common, then plug it in again"
            }
            Self::Other(word) => {
                return Some(format!("it is in the state `{word}`: start Android on it, then try again"));
            }
        };
        Some(text.into())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Unauthorized => "unauthorised",
            Self::Offline => "offline",
            Self::NoPermissions => "no permissions",
            Self::Other(word) => word,
        })
    }
}

/// Reads the list; lines that are none of it (the server's greeting) are passed over.
pub fn parse(printed: &str) -> Vec<Attached> {
    let mut devices: Vec<Attached> = printed
        .lines()
        .filter(|line| !line.starts_with(['*', ' ']) && line.trim_end() != HEAD)
        .filter_map(line)
        .collect();
    devices.sort_by(|a, b| a.serial.cmp(&b.serial));
    devices
}

const HEAD: &str = "List of devices attached";

fn line(line: &str) -> Option<Attached> {
    let (serial, rest) = line.split_once([' ', '\t'])?;
    let rest = rest.trim_start();
    let state = match rest.split([' ', '\t', ';']).next()? {
        "device" => State::Ready,
        "unauthorized" => State::Unauthorized,
        "offline" => State::Offline,
        "no" if rest.starts_with("no permissions") => State::NoPermissions,
        "" => return None,
        other => State::Other(other.to_owned()),
    };
    let model = rest.split_whitespace().find_map(|word| word.strip_prefix("model:"));
    Some(Attached { serial: serial.to_owned(), state, model: model.map(|model| model.replace('_', " ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_of_every_state_are_read() {
        let printed = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n\
                       List of devices attached \n\
                       R58M123ABC             device usb:1-2 product:x model:SM_G991B device:o1s transport_id:3\n\
                       127.0.0.1:6001\tdevice product:phone1 model:phone1 device:phone1 transport_id:1\n\
                       0A041FDD4003BW         unauthorized usb:1-1 transport_id:4\n\
                       emulator-5554          offline transport_id:5\n\
                       ZX1G22                 no permissions (missing udev rules?); see [http://x] usb:1-3\n\
                       QQQ recovery usb:1-4\n\n";
        let read = parse(printed);
        let short: Vec<(&str, String, Option<&str>)> = read
            .iter()
            .map(|device| (device.serial.as_str(), device.state.to_string(), device.model.as_deref()))
            .collect();
        assert_eq!(
            short,
            [
                ("0A041FDD4003BW", "unauthorised".to_owned(), None),
                ("127.0.0.1:6001", "ready".to_owned(), Some("phone1")),
                ("QQQ", "recovery".to_owned(), None),
                ("R58M123ABC", "ready".to_owned(), Some("SM G991B")),
                ("ZX1G22", "no permissions".to_owned(), None),
                ("emulator-5554", "offline".to_owned(), None),
            ]
        );
        assert!(
            read.iter().all(|device| device.state.obstacle().is_none() == (device.state == State::Ready))
        );
    }
}
