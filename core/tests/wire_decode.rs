//! What `decode` and `Framer` make of messages that are bad, odd or hostile, case by case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use bidmesh_core::id::DeviceId;
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Bid, Body, Capacity, DecodeError, DecodeErrorKind, Decoded, Dialect, Framer, Framing, Message, Reason,
    Status, WireLimits, decode, encode,
};

fn read(bytes: impl AsRef<[u8]>) -> Result<Decoded, DecodeError> {
    decode(bytes.as_ref(), &WireLimits::default())
}

fn body(bytes: impl AsRef<[u8]>) -> Body {
    read(bytes).unwrap().message.body
}

fn bid(fields: &str) -> (Bid, bool) {
    let decoded = read(format!("BID_RESPONSE|A|{{{fields}}}")).unwrap_or_else(|e| panic!("{fields}: {e}"));
    match decoded.message.body {
        Body::BidResponse(bid) => (bid, decoded.repairs.missing_values),
        other => panic!("{other:?}"),
    }
}

fn framing(bytes: impl AsRef<[u8]>) -> Framing {
    Framer::new(WireLimits::default()).push(bytes.as_ref())
}

#[test]
fn an_array_is_not_taken_for_the_fields_in_order() {
    for message in
        ["BYE|A|[1, \"7h2k9q4d\"]", "ACCEPT|A| [1, \"7h2k9q4d\", \"task_1\", null]", "BYE|A|7", "BYE|A|"]
    {
        let error = read(message).unwrap_err();
        assert_eq!(error.why, DecodeErrorKind::NoObject, "{message}");
    }
}

#[test]
fn a_number_that_is_none_makes_one_value_unknown_not_the_bid_unreadable() {
    for load in [
        "",
        "nan",
        "-nan",
        "inf",
        "1e999",
        "-0",
        "-0.1",
        "1.01",
        "0,45",
        "45%",
        "+0.5",
        ".5",
        "00.5",
        "0x1",
        "18446744073709551616",
        "\"0.5\"",
        "null",
        "true",
        "[0.5]",
        "{}",
    ] {
        let (bid, _) = bid(&format!("\"cpu_load\": {load}, \"ram_load\": 0.25, \"has_npu\": true"));
        assert_eq!((bid.cpu, bid.ram, bid.npu), (None, Load::from_ppm(250_000), true), "{load}");
    }
}

#[test]
fn a_value_that_is_no_json_is_reported_as_repaired() {
    for value in ["", "nan", "0,45", "45%"] {
        assert!(bid(&format!("\"cpu_load\": {value}")).1, "{value}");
    }
    for value in ["1e999", "-0", "18446744073709551616", "[0, 45]"] {
        assert!(!bid(&format!("\"cpu_load\": {value}")).1, "{value}");
    }
}

#[test]
fn numbers_are_read_at_their_own_grain() {
    let (read, _) = bid("\"cpu_load\": 1e-05, \"ram_load\": 0.9999999, \"battery\": 99.9");
    assert_eq!(read.cpu, Load::from_ppm(10));
    assert_eq!(read.ram, Load::from_ppm(999_999));
    assert_eq!(read.battery, Percent::new(99));
    for battery in ["-1", "101", "1e3", "255", "256"] {
        assert_eq!(bid(&format!("\"battery\": {battery}")).0.battery, None, "{battery}");
    }
    assert_eq!(bid("\"slots\": 65536, \"running\": 0").0.capacity, None);
    assert_eq!(bid("\"slots\": 2").0.capacity, None);
    let capacity = Some(Capacity { slots: 2, running: 1, yours: 0 });
    assert_eq!(bid("\"slots\": 2, \"running\": 1").0.capacity, capacity);
}

#[test]
fn a_field_that_is_not_known_changes_nothing_whatever_it_holds() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let (read, _) = bid(&format!("\"later\": {deep}, \"ram_load\": 1, \"more\": {{\"ram_load\": 0}}"));
    assert_eq!(read.ram, Some(Load::FULL));
}

#[test]
fn nesting_is_bounded_by_the_message_alone() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("BID_RESPONSE|A|{{\"x\": {}1{}}}", open.repeat(200_000), close.repeat(200_000));
        assert!(read(&deep).is_ok());
        assert_eq!(framing(&deep), Framing::Whole);
        assert!(read(&deep[..deep.len() / 2]).is_err());
    }
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let error = read("TASK|A|{\"prompt\": \"a\", \"prompt\": \"b\"}").unwrap_err();
    assert!(error.to_string().contains("duplicate field `prompt`"), "{error}");
}

#[test]
fn nothing_may_stand_before_the_type() {
    for before in ["\u{feff}", "\n", " ", "\0"] {
        let error = read(format!("{before}TEXT|A|x")).unwrap_err();
        assert_eq!((error.offset, error.why), (0, DecodeErrorKind::Type), "{before:?}");
    }
}

#[test]
fn line_ends_are_not_part_of_the_text_once() {
    for (payload, text) in [
        ("x", "x"),
        ("x\n", "x"),
        ("x\r\n", "x"),
        ("x\r", "x\r"),
        ("x\n\n", "x\n"),
        ("x\r\r\n", "x\r"),
        ("\n", ""),
        ("a\r\nb\r\n", "a\r\nb"),
        ("a\0b", "a\0b"),
        ("\u{feff}x", "\u{feff}x"),
    ] {
        assert_eq!(body(format!("TEXT|A|{payload}")), Body::Text(text.into()), "{payload:?}");
    }
    for end in ["", "\n", "\r\n", " \t\r\n\n"] {
        assert_eq!(body(format!("BYE|A|{{}}{end}")), Body::Bye);
        assert!(matches!(body(format!("HELLO|A|10.0.0.1:9999{end}")), Body::Hello(_)));
    }
}

#[test]
fn raw_control_characters_in_json_are_read_as_themselves_and_reported() {
    let decoded = read("TASK|A|{\"prompt\": \"a\0b\nc\u{1f}\\n\"}\r\n").unwrap();
    assert!(decoded.repairs.raw_control_characters);
    match decoded.message.body {
        Body::Task(order) => assert_eq!(&*order.prompt, "a\0b\nc\u{1f}\n"),
        other => panic!("{other:?}"),
    }
    match body("TASK|A|{\"prompt\": \"say \\\"a\nb\\\"\\\\\"}") {
        Body::Task(order) => assert_eq!(&*order.prompt, "say \"a\nb\"\\"),
        other => panic!("{other:?}"),
    }
    assert!(
        read("TASK|A|{\"prompt\": \"a\\\nb\"}").is_err(),
        "a backslash before a raw newline is no escape"
    );
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_one_by_one_and_reported() {
    let decoded = read(b"TEXT|A|caf\xe9 \xf0\x9f\x98 x").unwrap();
    assert!(decoded.repairs.not_utf8);
    assert_eq!(decoded.message.body, Body::Text("caf\u{fffd} \u{fffd}\u{fffd}\u{fffd} x".into()));
    let decoded =
        read(b"RESULT|A|{\"task_id\": \"t\", \"device_id\": \"\xe9\", \"status\": \"completed\", \"output\": \"x\"}").unwrap();
    assert!(decoded.repairs.not_utf8, "the device id was mended");
}

#[test]
fn a_message_over_the_limit_is_refused_at_the_limit() {
    let limits = WireLimits { message_bytes: 64 };
    let fits = format!("TEXT|A|{}", "x".repeat(57));
    assert!(decode(fits.as_bytes(), &limits).is_ok());
    let over = fits.clone() + "x";
    let error = decode(over.as_bytes(), &limits).unwrap_err();
    assert_eq!((error.offset, error.why), (64, DecodeErrorKind::TooLong { limit: 64 }));
    let mut framer = Framer::new(limits);
    framer.push(fits.as_bytes());
    assert_ne!(framer.framing(), Framing::TooLong { limit: 64 });
    assert_eq!(framer.push(b"x"), Framing::TooLong { limit: 64 });
    assert_eq!(framer.push(b"more"), Framing::TooLong { limit: 64 });
    assert_eq!(framer.bytes().len(), 64, "what came after the limit is not kept");
}

#[test]
fn the_bytes_decide_which_result_is_raw() {
    let output = |bytes: &str| match body(bytes) {
        Body::Result(result) => result.output.to_string(),
        other => panic!("{other:?}"),
    };
    let head = "RESULT|A|{\"task_id\": \"t\", \"device_id\": \"A\", \"status\": \"completed\", \"output\": ";
    assert_eq!(output(&format!("{head}\"a\\nb\"}}")), "a\\nb", "raw: two characters");
    // One space less, or another first field, is not what the script prints.
    assert_eq!(output(&format!("{head}\"a\\nb\"}}").replacen("\": \"", "\":\"", 1)), "a\nb");
    assert_eq!(output("RESULT|A|{\"bidmesh\": 1, \"task_id\": \"t\", \"output\": \"a\\nb\"}"), "a\nb");
    // Fields after the output are not the script's work either.
    assert_eq!(output(&format!("{head}\"a\\nb\", \"tokens\": 7}}")), "a\nb");
    assert_eq!(output(&format!("{head}\"\"}}  \r\n")), "");
    // Nor does it escape anything in the head.
    assert_eq!(output(&format!("{head}\"a\\nb\"}}").replacen("\"A\"", "\"\\u0041\"", 1)), "a\nb");
    assert_eq!(output(&format!("{head}\"\"}}\"}}")), "\"}");
}

#[test]
fn a_status_that_is_not_known_is_an_error_never_a_success() {
    for status in ["\"done\"", "null", "\"\""] {
        let decoded = body(format!("RESULT|A|{{\"bidmesh\": 1, \"status\": {status}, \"output\": \"x\"}}"));
        assert!(matches!(decoded, Body::Result(result) if result.status == Status::Error), "{status}");
    }
}

#[test]
fn a_reason_that_cannot_be_read_is_not_taken_for_unknown_award() {
    let reason = |field: &str| match body(format!("REJECT|A|{{\"task_id\": \"t.1.x\"{field}}}")) {
        Body::Reject(reject) => reject.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(", \"reason\": \"unknown\""), Reason::Unknown);
    assert_eq!(reason(", \"reason\": \"on_fire\""), Reason::Other("on_fire".into()));
    let long = format!(", \"reason\": \"{}\"", "x".repeat(65));
    for unreadable in ["", ", \"reason\": \"\"", ", \"reason\": \"Too hot\\u001b[2J\"", &long] {
        assert_eq!(reason(unreadable), Reason::Other("unspecified".into()), "{unreadable}");
    }
}

#[test]
fn a_pause_that_is_asked_for_has_a_limit() {
    let pause = |millis: &str| match body(format!("REFUSE|A|{{\"retry_after_ms\": {millis}}}")) {
        Body::Refuse(refuse) => refuse.retry_after.map(|pause| pause.as_millis()),
        other => panic!("{other:?}"),
    };
    assert_eq!(pause("2000"), Some(2_000));
    assert_eq!(pause("18446744073709551615"), Some(3_600_000));
    assert_eq!(pause("18446744073709551616"), None);
    assert_eq!(pause("-1"), None);
}

#[test]
fn a_marker_is_a_version_and_a_boot() {
    let marker = |message: &str| read(message).unwrap().message.marker.map(|marker| marker.version);
    assert_eq!(marker("HELLO|A|10.0.0.1:9999:bidmesh/1:7h2k9q4d"), Some(1));
    assert_eq!(marker("HELLO|A|10.0.0.1:9999:bidmesh/2:7h2k9q4d:more"), Some(2));
    assert_eq!(marker("BYE|A|{\"boot\": \"7h2k9q4d\", \"bidmesh\": 1}"), Some(1));
    for no_marker in [
        "HELLO|A|10.0.0.1:9999",
        "HELLO|A|10.0.0.1:9999:bidmesh/1",
        "HELLO|A|10.0.0.1:9999:bidmesh/+1:7h2k9q4d",
        "HELLO|A|10.0.0.1:9999:bidmesh/1:a boot",
        "HELLO|A|10.0.0.1:9999:other",
        "BYE|A|{\"bidmesh\": 1}",
        "BYE|A|{\"bidmesh\": 1, \"boot\": \"a boot\"}",
        "BYE|A|{\"bidmesh\": 70000, \"boot\": \"7h2k9q4d\"}",
        "BYE|A|{\"boot\": \"7h2k9q4d\"}",
    ] {
        assert_eq!(marker(no_marker), None, "{no_marker}");
    }
}

#[test]
fn addresses_are_read_as_shell_devices_and_bidmesh_devices_write_them() {
    let shown = |payload: &str| match read(format!("HELLO|A|{payload}")) {
        Ok(Decoded { message, .. }) => match message.body {
            Body::Hello(address) => format!("{:?} {}", address.ip, address.port),
            other => panic!("{other:?}"),
        },
        Err(error) => error.why.to_string(),
    };
    assert_eq!(shown("10.0.0.1:9999"), "Some(10.0.0.1) 9999");
    assert_eq!(shown(":9999"), "None 9999");
    assert_eq!(shown("0.0.0.0:9999"), "None 9999");
    assert_eq!(shown("[fd00::1]:80:bidmesh/1:b"), "Some(fd00::1) 80");
    for bad in [
        "",
        ":",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:+80",
        "10.0.0.1:65536",
        "10.0.0:80",
        "fd00::1:80",
    ] {
        assert_eq!(shown(bad), "not an address: IP:PORT is expected", "{bad}");
    }
}

#[test]
fn silence_that_makes_a_message_whole_depends_on_what_is_there() {
    let millis = |bytes: &str| match framing(bytes) {
        Framing::WholeAfter(silence) => silence.as_millis(),
        other => panic!("{bytes}: {other:?}"),
    };
    let raw =
        "RESULT|A|{\"task_id\": \"t\", \"device_id\": \"A\", \"status\": \"completed\", \"output\": \"a";
    assert_eq!(framing(""), Framing::Empty);
    assert_eq!(framing("BYE|A|{}"), Framing::Whole);
    assert_eq!(framing("HELLO|A|10.0.0.1:9999\n"), Framing::Whole);
    assert_eq!(millis("HELLO|A|10.0.0.1:99"), 50);
    assert_eq!(millis("HELLO|A|10.0.0.1:"), 2_000);
    assert_eq!(millis(raw), 2_000);
    // The quote belongs to the head, so this is no tail.
    assert_eq!(millis(&(raw.strip_suffix('a').unwrap().to_owned() + "}")), 2_000);
    assert_eq!(millis(&format!("{raw}\"}}")), 300);
    assert_eq!(millis(&format!("{raw}\"}} \n")), 300);
    assert_eq!(millis(&format!("{raw}\"}}, ")), 2_000);
    for open in [
        "BYE|A|",
        "BYE|A|{",
        "BYE|A|{} x",
        "BYE|A|[]",
        "BID_RESPONSE|A|{\"cpu_load\": ,}",
        "TEXT|A|x\n",
        "garbage\n",
    ] {
        assert_eq!(millis(open), 2_000, "{open}");
    }
}

/// As Python's `json.dumps` writes it: the worker in `docs/protocol.md` says this.
#[test]
fn what_the_example_client_writes_is_read() {
    let kinds = [
        r#"HELLO|Device_P|:9998:bidmesh/1:p1795501197"#,
        r#"BID_RESPONSE|Device_P|{"bidmesh": 1, "boot": "p1795501197", "task_id": "task_1", "device_id": "Device_P", "bid_id": "p1795501197.0", "cpu_load": 0.5, "slots": 1, "running": 0, "yours": 0}"#,
        r#"ACCEPT|Device_P|{"bidmesh": 1, "boot": "p1795501197", "task_id": "task_1.1.abcde"}"#,
        r#"RESULT|Device_P|{"bidmesh": 1, "boot": "p1795501197", "status": "completed", "task_id": "task_1.1.abcde", "device_id": "Device_P", "output": "CAF\u00c9 \"HI\"\n\ud83d\ude00"}"#,
    ]
    .map(|line| {
        let decoded = read(format!("{line}\n")).unwrap();
        assert!(decoded.message.marker.is_some() && !decoded.repairs.any());
        if let Body::Result(result) = &decoded.message.body {
            assert_eq!(&*result.output, "CAFÉ \"HI\"\n😀");
        }
        decoded.message.body.kind().to_owned()
    });
    assert_eq!(kinds, ["HELLO", "BID_RESPONSE", "ACCEPT", "RESULT"]);
}

#[test]
fn what_follows_a_whole_message_unmakes_it() {
    let mut framer = Framer::new(WireLimits::default());
    assert_eq!(framer.push(b"BYE|A|{}"), Framing::Whole);
    assert_eq!(framer.push(b" \r\n"), Framing::Whole);
    assert_ne!(framer.push(b"x"), Framing::Whole);
    let mut framer = Framer::new(WireLimits::default());
    assert_eq!(framer.push(b"ACK|A|{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}"), Framing::Whole);
    assert_ne!(framer.push(b"{"), Framing::Whole, "another object begins");
    assert!(read("BYE|A|{} \r\nx").is_err());
}

#[test]
fn an_error_points_at_what_is_wrong() {
    let at = |message: &str| {
        let error = read(message).unwrap_err();
        (error.offset, error.why)
    };
    let wrong = |message: &str, part: &str| (message.find(part).unwrap(), at(message));
    let (place, (offset, why)) = wrong("ACCEPT|A|  [1]", "[1]");
    assert_eq!((offset, why), (place, DecodeErrorKind::NoObject));
    let raw = r#"RESULT|A|{"task_id": "a b", "device_id": "B", "status": "completed", "output": "x"}"#;
    let (place, (offset, why)) = wrong(raw, "a b");
    assert_eq!(offset, place);
    assert!(matches!(why, DecodeErrorKind::Id { field: "task_id", .. }), "{why:?}");
    // What repair did not mend is told of as the strict reader saw it.
    let (place, (offset, why)) = wrong(r#"BID_RESPONSE|A|{"cpu_load": nan, "task_id" }"#, "nan");
    assert!(offset.abs_diff(place) <= 2 && matches!(why, DecodeErrorKind::Json(_)), "{offset}: {why:?}");
    // What is wrong in JSON that was mended is told of, too.
    let (_, why) = at(r#"BID_RESPONSE|A|{"cpu_load": nan, "task_id": "a b"}"#);
    assert!(matches!(why, DecodeErrorKind::Id { field: "task_id", .. }), "{why:?}");
    let (_, why) = at(r#"TASK|A|{"task_id": "t", "prompt": 5}"#);
    assert!(why.to_string().contains("a string"), "{why}");
}

#[test]
fn every_kind_of_repair_is_a_repair() {
    let repaired = |message: &[u8]| read(message).unwrap().repairs.any();
    assert!(!repaired(br#"BID_RESPONSE|A|{"cpu_load": 0.5}"#));
    assert!(repaired(br#"BID_RESPONSE|A|{"cpu_load": nan}"#), "a missing value");
    assert!(
        repaired(b"PROGRESS|A|{\"task_id\": \"t\", \"offset\": 0, \"text\": \"a\nb\"}"),
        "a raw control character"
    );
    assert!(repaired(b"TEXT|A|\xff"), "a byte that is not UTF-8");
}

#[test]
fn a_comma_is_part_of_a_number_only_between_two_digits() {
    let (first, repaired) = bid(r#""cpu_load": 0,5, "battery": 50"#);
    assert!(repaired && first.cpu.is_none());
    assert_eq!(first.battery, Percent::new(50));
    for broken in [r#""cpu_load": ,5"#, r#""cpu_load": 45 6"#] {
        let error = read(format!("BID_RESPONSE|A|{{{broken}}}")).unwrap_err();
        assert!(matches!(error.why, DecodeErrorKind::Json(_)), "{broken}: {error}");
    }
}

#[test]
fn a_silence_ends_only_what_has_no_end_of_its_own() {
    let silence = |bytes: &str| {
        let mut framer = Framer::new(WireLimits::default());
        framer.push(bytes.as_bytes());
        framer.silence()
    };
    assert_eq!(silence(""), None);
    assert!(silence("TEXT|A|hello").is_some_and(|silence| !silence.is_zero()));
    assert_eq!(silence("ACK|A|{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}"), None);
}

#[test]
fn heads_may_be_as_long_as_their_limits() {
    let (kind, from) = ("K".repeat(32), "f".repeat(64));
    let message = format!("{kind}|{from}|x");
    let Body::Unknown { kind: read_kind, .. } = body(&message) else { panic!("an unknown type") };
    assert_eq!(*read_kind, *kind);
    // A framer waits for a head no longer than the longest one.
    assert_eq!(framing(&message), framing("TEXT|A|x"));
    let known = format!("ACK|{from}|{{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}}");
    assert_eq!(framing(&known), Framing::Whole);
    let longer = format!("ACK|{}|{{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}}", "f".repeat(120));
    assert!(matches!(framing(&longer), Framing::WholeAfter(_)), "that head is none");
    let (task, device) = ("t".repeat(64), "d".repeat(64));
    let raw = format!(
        r#"RESULT|A|{{"task_id": "{task}", "device_id": "{device}", "status": "completed", "output": "a\\b"}}"#
    );
    let Body::Result(result) = body(&raw) else { panic!("a result") };
    assert_eq!(&*result.output, "a\\\\b", "it is read raw");
    let json = format!(
        r#"RESULT|A|{{"task_id": "{task}", "device_id": "{device}d", "status": "completed", "output": "a\\b"}}"#
    );
    let Ok(Decoded { message, .. }) = read(&json) else { panic!("a result") };
    assert!(matches!(message.body, Body::Result(result) if &*result.output == "a\\b"), "it is read as JSON");
    // So long as it may become one, a head is waited for; no longer.
    let open = format!(r#"RESULT|A|{{"task_id": "{task}"#);
    let silence = framing(&open);
    assert!(matches!(silence, Framing::WholeAfter(_)));
    let longer = format!(
        r#"RESULT|A|{{"task_id": "{task}t", "device_id": "B", "status": "completed", "output": "x"}}"#
    );
    assert_eq!(framing(&longer), Framing::Whole);
}

#[test]
fn the_closing_bracket_is_judged_once() {
    let mut framer = Framer::new(WireLimits::default());
    assert_eq!(framer.push(b"ACK|A|{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}"), Framing::Whole);
    assert_eq!(framer.push(b"\n"), Framing::Whole);
    // Something after the object: the message is no longer whole.
    assert_ne!(framer.push(b"x"), Framing::Whole);
    let mut framer = Framer::new(WireLimits::default());
    assert_eq!(framer.push(b"ACK|A|{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}"), Framing::Whole);
    assert_ne!(framer.push(b"{"), Framing::Whole, "another object begins");
    assert_ne!(framing(b"ACK|A|{\"bidmesh\": 1, \"boot\": \"b\", \"task_id\": \"t\"}{"), Framing::Whole);
}

#[test]
fn what_is_no_type_is_not_written() {
    for (kind, fits) in [("FOO_2", true), ("", false), ("a", false), ("A|B", false), (&"K".repeat(33), false)]
    {
        let body = Body::Unknown { kind: kind.into(), payload: "x".into() };
        let message = Message { from: DeviceId::new("A").unwrap(), marker: None, body };
        for dialect in [Dialect::Bidmesh, Dialect::Shell, Dialect::ShellLiteral] {
            assert_eq!(encode(&message, dialect).is_ok(), fits, "{kind:?} {dialect:?}");
        }
    }
}
