//! `device_config.json`: who this device is and whether it has an NPU. Shell devices read it with grep: one line,
//! `": "` between name and value, lower-case `true` and `false`. Fields that bidmesh does not know are kept.

use std::fmt;
use std::path::Path;

use bidmesh_core::id::DeviceId;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::entry::without_mark;
use super::error::{Error, Place, quote};

const DEVICE_ID: &str = "device_id";
const HAS_NPU: &str = "has_npu";

/// The content of a device_config.json.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceConfig {
    /// This device.
    pub device_id: Option<DeviceId>,
    /// Whether it has an NPU; `None`: not said yet.
    pub has_npu: Option<bool>,
    /// Name and JSON of what else stands there, in order.
    others: Vec<(String, String)>,
}

impl DeviceConfig {
    /// Reads the content; an empty file says nothing. `path` is for the error.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let bytes = without_mark(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let remedy = r#"write for example {"device_id": "Device_A", "has_npu": true}"#;
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| {
            let line = Some(error.line()).filter(|line| *line > 0);
            let text = error.to_string();
            // The place is named already.
            let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
            Error::new(Place::File { path: path.into(), line }, what, remedy)
        })?;
        let mut config = Self::default();
        for (name, raw) in fields.0 {
            let line = line_of(bytes, &name);
            config
                .take(name, raw.get())
                .map_err(|what| Error::new(Place::File { path: path.into(), line }, what, remedy))?;
        }
        Ok(config)
    }

    fn take(&mut self, name: String, json: &str) -> Result<(), String> {
        // As text or as itself: scripts quote what need not be quoted.
        let plain = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
        match name.as_str() {
            DEVICE_ID if plain.is_empty() => self.device_id = None,
            DEVICE_ID => {
                let id = DeviceId::new(&plain)
                    .map_err(|error| format!("`{DEVICE_ID}` is {}: {error}", quote(&plain)))?;
                self.device_id = Some(id);
            }
            HAS_NPU => {
                self.has_npu = match plain.to_ascii_lowercase().as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    "null" | "" => None,
                    _ => return Err(format!("`{HAS_NPU}` is {}: neither true nor false", quote(&plain))),
                }
            }
            // Outside of strings, where JSON has no raw ones, a line end is white space.
            _ => self.others.push((name, json.replace(['\n', '\r'], " "))),
        }
        Ok(())
    }

    /// The content as it is written: one line.
    pub fn to_text(&self) -> String {
        let mut fields = Vec::new();
        if let Some(id) = &self.device_id {
            // The alphabet of ids needs no escapes.
            fields.push(format!("\"{DEVICE_ID}\": \"{id}\""));
        }
        if let Some(has_npu) = self.has_npu {
            fields.push(format!("\"{HAS_NPU}\": {has_npu}"));
        }
        for (name, json) in &self.others {
            fields.push(format!("{}: {json}", serde_json::Value::from(name.as_str())));
        }
        format!("{{{}}}\n", fields.join(", "))
    }
}

/// The line, from 1, on which a field of this name stands first.
fn line_of(bytes: &[u8], name: &str) -> Option<usize> {
    let at = String::from_utf8_lossy(bytes).find(&format!("\"{name}\""))?;
    Some(bytes.get(..at)?.iter().filter(|b| **b == b'\n').count() + 1)
}

/// Names and JSON texts of an object, in order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format!("{} stands there twice", quote(&name))));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> DeviceConfig {
        DeviceConfig::parse(text.as_bytes(), Path::new("device_config.json")).unwrap()
    }

    #[test]
    fn the_form_is_what_grep_on_a_shell_device_finds() {
        let config = DeviceConfig {
            device_id: DeviceId::new("Device_A").ok(),
            has_npu: Some(true),
            ..Default::default()
        };
        assert_eq!(config.to_text(), "{\"device_id\": \"Device_A\", \"has_npu\": true}\n");
    }

    #[test]
    fn other_fields_are_kept_as_they_are_on_one_line() {
        let text = "{\r\n  \"note\": \"a\\nb\",\n  \"has_npu\" : false,\n  \"big\": 12345678901234567890123,\n \
                    \"device_id\":\"A\",\n  \"nest\": {\n    \"x\": [1,\n 2.50]\n  }\n}\n";
        let config = parse(text);
        let written = config.to_text();
        assert_eq!(written.lines().count(), 1);
        assert_eq!(
            written,
            "{\"device_id\": \"A\", \"has_npu\": false, \"note\": \"a\\nb\", \"big\": 12345678901234567890123, \
             \"nest\": {     \"x\": [1,  2.50]   }}\n"
        );
        assert_eq!(parse(&written), config);
    }

    #[test]
    fn what_scripts_and_people_write_is_read() {
        for (text, expected) in [
            ("", None),
            (" \r\n", None),
            ("{}", None),
            (r#"{"has_npu": "True"}"#, Some(true)),
            ("\u{feff}{\"has_npu\": false}", Some(false)),
            (r#"{"has_npu": null}"#, None),
        ] {
            assert_eq!(parse(text).has_npu, expected, "{text}");
        }
        assert_eq!(parse(r#"{"device_id": "", "has_npu": true}"#).device_id, None);
    }

    #[test]
    fn what_cannot_be_understood_says_where_and_why() {
        let errors: Vec<String> = [
            "{\n\"has_npu\": yes}",
            "{\"has_npu\": true",
            "[true]",
            r#"{"has_npu": 1}"#,
            r#"{"device_id": "Device.A"}"#,
            r#"{"has_npu": true, "has_npu": false}"#,
        ]
        .iter()
        .map(|text| DeviceConfig::parse(text.as_bytes(), Path::new("d.json")).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
        let deep = DeviceConfig::parse(b"{\n\n\"has_npu\": 1}", Path::new("d.json")).unwrap_err();
        assert!(deep.to_string().starts_with("d.json:3: "), "{deep}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in proptest::option::of("[A-Za-z0-9_-]{1,64}"), has_npu: Option<bool>,
            others in proptest::collection::btree_map(".{0,8}", ".{0,20}", 0..4),
        ) {
            let others: Vec<(String, String)> = others.into_iter()
                .filter(|(name, _)| name != DEVICE_ID && name != HAS_NPU)
                .map(|(name, text)| (name, serde_json::Value::from(text).to_string())).collect();
            let config = DeviceConfig { device_id: name.map(|name| DeviceId::new(&name).unwrap()), has_npu, others };
            let text = config.to_text();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(parse(&text), config);
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "[{}\":,a-z0-9\\[\\]\n ]{0,60}") {
            let _ = DeviceConfig::parse(text.as_bytes(), Path::new("x"));
        }
    }
}
