//! `peers.txt`: who is where, a line each. Edited by people, appended to by shell listeners, rewritten by bidmesh,
//! which keeps comments and the order of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use bidmesh_core::id::DeviceId;

use super::entry::{self, Entry};
use super::error::Error;

/// The content of a peers.txt.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PeersFile {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    text: String,
    /// `None`: a comment, an empty line.
    entry: Option<Entry>,
}

impl PeersFile {
    /// Reads the content; `path` is for the error, which names the first line that cannot be understood.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let mut lines = Vec::new();
        for (number, bytes) in entry::without_mark(bytes).split(|b| *b == b'\n').enumerate() {
            let complain = |(what, remedy): entry::Complaint| Error::line(path, number + 1, what, remedy);
            let text = std::str::from_utf8(bytes).map_err(|_| {
                complain(("it is not UTF-8 text".into(), "write ID:IP:PORT, or remove the line"))
            })?;
            let entry = entry::meaning(text).map(Entry::read).transpose().map_err(complain)?;
            lines.push(Line { text: text.to_owned(), entry });
        }
        // What follows the last line end is no line unless something stands there.
        if lines.last().is_some_and(|line| line.text.is_empty()) {
            lines.pop();
        }
        Ok(Self { lines })
    }

    /// The devices in the order of the file. Of several lines with one id the first that has an address counts.
    pub fn peers(&self) -> Vec<(DeviceId, SocketAddr)> {
        let mut seen = BTreeSet::new();
        let entries = self.lines.iter().filter_map(|line| line.entry.as_ref());
        entries
            .filter_map(|entry| Some((&entry.id, entry.address()?)))
            .filter(|(id, _)| seen.insert(*id))
            .map(|(id, address)| (id.clone(), address))
            .collect()
    }

    /// Lines that name a device and are passed over, from 1, each with the reason.
    pub fn passed_over(&self) -> Vec<(usize, String)> {
        let mut seen = BTreeSet::new();
        let mut notes = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let Some(entry) = &line.entry else { continue };
            if entry.address().is_none() {
                notes.push((number + 1, format!("{} has no address that could be reached", entry.id)));
            } else if !seen.insert(&entry.id) {
                notes.push((number + 1, format!("{} stands on an earlier line, which counts", entry.id)));
            }
        }
        notes
    }

    /// Gives a device this address: on its first line, or on a new one at the end. Its other lines go.
    pub fn set(&mut self, id: &DeviceId, address: SocketAddr) {
        let mut placed = false;
        self.lines.retain_mut(|line| {
            let Some(entry) = line.entry.as_ref().filter(|entry| entry.id == *id) else { return true };
            if placed {
                return false;
            }
            placed = true;
            if entry.address() != Some(address) {
                *line = Line::new(id, address);
            }
            true
        });
        if !placed {
            self.lines.push(Line::new(id, address));
        }
    }

    /// Removes all lines of a device; whether there were any.
    pub fn remove(&mut self, id: &DeviceId) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.entry.as_ref().is_none_or(|entry| entry.id != *id));
        self.lines.len() < before
    }

    /// Makes the file say what `book` says. Lines without a usable address stay, unless the book knows the device.
    pub fn update(&mut self, book: &[(DeviceId, SocketAddr)]) {
        let told: BTreeMap<DeviceId, SocketAddr> = self.peers().into_iter().collect();
        let known: BTreeSet<&DeviceId> = book.iter().map(|(id, _)| id).collect();
        for id in told.keys().filter(|id| !known.contains(id)) {
            self.remove(id);
        }
        // Lines that say it already are left as they are, duplicates of shell listeners included.
        for (id, address) in book.iter().filter(|(id, address)| told.get(id) != Some(address)) {
            self.set(id, *address);
        }
    }

    /// The book that results if `ours`, made from `base`, meets the edits that turned `base` into this file: what
    /// a person edited wins, all else is as in `ours`.
    pub(super) fn merge(&self, base: &Self, ours: &[(DeviceId, SocketAddr)]) -> Vec<(DeviceId, SocketAddr)> {
        let base: BTreeMap<_, _> = base.peers().into_iter().collect();
        let theirs: BTreeMap<_, _> = self.peers().into_iter().collect();
        let edited = |id: &DeviceId| base.get(id) != theirs.get(id);
        let mut merged: Vec<_> = ours.iter().filter(|(id, _)| !edited(id)).cloned().collect();
        merged.extend(theirs.iter().filter(|(id, _)| edited(id)).map(|(id, address)| (id.clone(), *address)));
        merged
    }

    /// The content as it is written: each line ends with a line feed.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }
}

impl Line {
    fn new(id: &DeviceId, address: SocketAddr) -> Self {
        let entry = Entry { id: id.clone(), ip: Some(address.ip()), port: address.port() };
        Self { text: entry::write(id, address), entry: Some(entry) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> PeersFile {
        PeersFile::parse(text.as_bytes(), Path::new("peers.txt")).unwrap()
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text).unwrap()
    }

    fn listed(file: &PeersFile) -> Vec<String> {
        file.peers().into_iter().map(|(id, address)| format!("{id}@{address}")).collect()
    }

    #[test]
    fn what_shell_devices_and_people_leave_there_is_read() {
        let text = "\u{feff}# the drawer\r\nDevice_A:192.168.1.5:9999\r\n\n  Device_B : 10.0.0.7 : 9998 \n\
                    Device_C:0.0.0.0:9999\nDevice_D::9999\nDevice_A:192.168.1.6:9999\nDevice_C:10.0.0.9:9999:more\n\
                    Device_E:[fe80::1]:9999";
        let file = parse(text);
        assert_eq!(
            listed(&file),
            [
                "Device_A@192.168.1.5:9999",
                "Device_B@10.0.0.7:9998",
                "Device_C@10.0.0.9:9999",
                "Device_E@[fe80::1]:9999"
            ]
        );
        let lines: Vec<usize> = file.passed_over().into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [5, 6, 7]);
    }

    #[test]
    fn what_cannot_be_understood_names_its_line() {
        let errors: Vec<String> = [
            "\nDevice_A",
            "Device.A:10.0.0.1:9999",
            "Device_A:phone.local:9999",
            "Device_A:10.0.0.1",
            "Device_A:10.0.0.1:+99",
            "Device_A:10.0.0.1:70000",
            "Device_A:fe80::1:9999",
            "Device_A:[fe80::1:9999",
            "{\"json\": true}",
        ]
        .iter()
        .map(|text| PeersFile::parse(text.as_bytes(), Path::new("peers.txt")).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
        let error = PeersFile::parse(b"A:1.2.3.4:5\n\xff\xfe\n", Path::new("peers.txt")).unwrap_err();
        assert!(error.to_string().starts_with("peers.txt:2: it is not UTF-8"), "{error}");
    }

    #[test]
    fn an_update_keeps_comments_order_and_untouched_lines() {
        let mut file =
            parse("# first\r\nA:10.0.0.1:1\r\n\nB:10.0.0.2:2 \nC:0.0.0.0:3\nD:10.0.0.4:4\nB:10.0.0.9:9\n");
        let address = |text: &str| text.parse().unwrap();
        file.update(&[
            (id("B"), address("10.0.0.22:2")),
            (id("A"), address("10.0.0.1:1")),
            (id("E"), address("[::1]:5")),
        ]);
        assert_eq!(file.to_text(), "# first\r\nA:10.0.0.1:1\r\n\nB:10.0.0.22:2\nC:0.0.0.0:3\nE:[::1]:5\n");
    }

    #[test]
    fn an_address_goes_where_a_line_without_one_stood() {
        let mut file = parse("C:0.0.0.0:3\nA:10.0.0.1:1\n");
        file.set(&id("C"), "10.0.0.3:3".parse().unwrap());
        assert_eq!(file.to_text(), "C:10.0.0.3:3\nA:10.0.0.1:1\n");
    }

    #[test]
    fn removing_a_device_removes_all_its_lines() {
        let mut file = parse("A:10.0.0.1:1\n# A\nA:10.0.0.2:1\n");
        assert!(file.remove(&id("A")));
        assert!(!file.remove(&id("A")));
        assert_eq!(file.to_text(), "# A\n");
    }

    #[test]
    fn what_a_person_edited_meanwhile_wins_over_what_we_learned() {
        let base = parse("A:10.0.0.1:1\nB:10.0.0.2:2\nC:10.0.0.3:3\n");
        // The person moved A, removed B, added D; we moved A and C, and learned E.
        let theirs = parse("A:10.0.0.11:1\nC:10.0.0.3:3\nD:10.0.0.4:4\n");
        let ours = parse("A:10.9.9.9:1\nB:10.0.0.2:2\nC:10.0.0.33:3\nE:10.0.0.5:5\n").peers();
        let mut merged = theirs.clone();
        merged.update(&theirs.merge(&base, &ours));
        assert_eq!(merged.to_text(), "A:10.0.0.11:1\nC:10.0.0.33:3\nD:10.0.0.4:4\nE:10.0.0.5:5\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = PeersFile::parse(&bytes, Path::new("peers.txt"));
        }

        #[test]
        fn lines_that_look_like_entries_are_read_or_refused(text in "([A-Z]{0,2}:?[\\[0-9.:\\]]{0,12}[\r\n #]{0,2}){0,6}") {
            if let Ok(file) = PeersFile::parse(text.as_bytes(), Path::new("peers.txt")) {
                prop_assert_eq!(parse(&file.to_text()), file);
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            old in proptest::collection::btree_map("[A-Ea-e0-9_-]{1,3}", any::<(std::net::IpAddr, u16)>(), 0..6),
            new in proptest::collection::btree_map("[A-Ea-e0-9_-]{1,3}", any::<(std::net::IpAddr, u16)>(), 0..6),
        ) {
            let book = |map: &BTreeMap<String, (std::net::IpAddr, u16)>| -> Vec<(DeviceId, SocketAddr)> {
                let usable = map.iter().filter(|(_, (ip, port))| !ip.is_unspecified() && *port != 0);
                usable.map(|(name, (ip, port))| (id(name), SocketAddr::new(*ip, *port))).collect()
            };
            let mut file = parse("# comment\n\n");
            file.update(&book(&old));
            file.update(&book(&new));
            let text = file.to_text();
            prop_assert!(text.starts_with("# comment\n\n"));
            let mut peers = parse(&text).peers();
            peers.sort();
            prop_assert_eq!(peers, book(&new));
        }
    }
}
