//! The bytes of every message type in every dialect, for people to read and for a change to show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "support/examples.rs"]
mod examples;

use bidmesh_core::wire::{Dialect, WireLimits, decode, encode};

#[test]
fn bytes_of_every_type_in_every_dialect() {
    let mut shown = String::new();
    for (name, body) in examples::bodies() {
        let message = examples::from_bidmesh(body);
        shown += &format!("{name}\n");
        for (label, dialect) in
            [("bidmesh", Dialect::Bidmesh), ("shell", Dialect::Shell), ("literal", Dialect::ShellLiteral)]
        {
            let bytes = match encode(&message, dialect) {
                Ok(bytes) => String::from_utf8(bytes).unwrap().replace('\n', "⏎"),
                Err(error) => format!("({error})"),
            };
            shown += &format!("  {label:<8}{bytes}\n");
        }
    }
    insta::assert_snapshot!(shown);
}

/// The line that `status` and `log` show for what could not be read.
#[test]
fn errors_as_people_read_them() {
    let limits = WireLimits { message_bytes: 200 };
    let long = format!("TEXT|A|{}", "x".repeat(200));
    let mut shown = String::new();
    for bytes in [
        "no bars at all",
        "TEXT|no second bar",
        "hello|A|10.0.0.1:9999",
        "|A|x",
        "TEXT|Device A|x",
        "TEXT||x",
        "HELLO|A|",
        "HELLO|A|10.0.0.1:0",
        "HELLO|A|somewhere:9999",
        "BID_REQUEST|A|",
        "BID_REQUEST|A|[1, 2]",
        "BID_REQUEST|A|{\"task_id\": \"task_1\"",
        "BID_REQUEST|A|{\"task_id\": \"../x\"}",
        "BID_REQUEST|A|{\n\"task_id\":\n7}",
        "BID_REQUEST|A|{\"task_id\": \"a\", \"task_id\": \"b\"}",
        "TASK|A|{\"task_id\": \"task_1\"}",
        "TASK|A|{\"prompt\": \"\\ud800\"}",
        "ACCEPT|A|{}",
        "PROGRESS|A|{\"task_id\": \"a.1.b\", \"offset\": -1}",
        "RESULT|A|{\"task_id\": \"t\", \"device_id\": \"A\", \"status\": \"completed\", \"output\": \"cut o",
        &long,
    ] {
        let error = decode(bytes.as_bytes(), &limits).unwrap_err();
        assert!(error.offset <= bytes.len());
        let start: String = bytes.chars().take(72).collect();
        shown += &format!("{start:?}\n    {error}\n");
    }
    insta::assert_snapshot!(shown);
}
