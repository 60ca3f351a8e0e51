//! Properties of `decode`, `encode` and `Framer` over messages and bytes that nobody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(clippy::disallowed_types, reason = "floats are the yardstick of the decoder's integers here")]

#[path = "support/examples.rs"]
mod examples;

use std::net::IpAddr;
use std::time::Duration;

use bidmesh_core::id::{AwardId, BidId, BootId, DeviceId, TaskId};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Accept, Advertised, Bid, BidRequest, Body, Capacity, DecodeError, DecodeErrorKind, Decoded, Dialect,
    Framer, Framing, Marker, Message, Progress, Query, Reason, Refuse, Reject, Speed, Status, TaskOrder,
    TaskResult, Text, WireLimits, decode, encode,
};
use proptest::option::of;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode(bytes, &WireLimits::default())
}

fn text() -> impl Strategy<Value = Text> {
    let special = prop::sample::select(vec![
        "\"",
        "\\",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\0",
        "|",
        "\"}",
        "{\"task_id\": \"",
        "\u{1b}",
        "é",
        "😀",
        "\u{feff}",
        "\u{2028}",
    ]);
    let part = prop_oneof![special.prop_map(String::from), any::<String>(), "[a-z ]{0,8}"];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat().into())
}

/// Text that a BID_REQUEST can carry: nothing in it that JSON or an echo would interpret.
fn plain_text() -> impl Strategy<Value = Text> {
    "[^\0-\x1f\"\\\\]{0,20}".prop_map(Text::from)
}

fn id<T>(
    alphabet: &'static str,
    new: fn(&str) -> Result<T, bidmesh_core::id::IdError>,
) -> impl Strategy<Value = T>
where
    T: std::fmt::Debug,
{
    alphabet.prop_filter_map("two dots in a row", move |text| new(&text).ok())
}

fn award() -> impl Strategy<Value = AwardId> {
    id("[A-Za-z0-9._-]{1,64}", AwardId::new)
}

fn task() -> impl Strategy<Value = TaskId> {
    id("[A-Za-z0-9._-]{1,64}", TaskId::new)
}

fn bid_id() -> impl Strategy<Value = BidId> {
    id("[A-Za-z0-9._-]{1,64}", BidId::new)
}

fn millis() -> impl Strategy<Value = Duration> {
    prop_oneof![0..20_000_u64, any::<u64>()].prop_map(Duration::from_millis)
}

fn capacity() -> impl Strategy<Value = Capacity> {
    any::<(u16, u16, u16)>().prop_map(|(slots, running, yours)| Capacity { slots, running, yours })
}

fn address() -> impl Strategy<Value = Advertised> {
    let ip = any::<IpAddr>().prop_filter("means the source", |ip| !ip.is_unspecified());
    (of(ip), 1..=u16::MAX).prop_map(|(ip, port)| Advertised { ip, port })
}

fn load() -> impl Strategy<Value = Load> {
    (0..=1_000_000_u32).prop_map(|ppm| Load::from_ppm(ppm).unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    // `read` makes known words of what happens to be one.
    let known = prop::sample::select(vec!["busy", "full", "battery", "unknown", "unspecified"]);
    prop_oneof![known.prop_map(Reason::read), "[a-z0-9_]{1,64}".prop_map(|word| Reason::read(&word))]
}

fn retry_after() -> impl Strategy<Value = Duration> {
    (0..=3_600_000_u64).prop_map(Duration::from_millis)
}

fn bid() -> impl Strategy<Value = Bid> {
    let ids = (of(task()), of(bid_id()), of(text()));
    let sensors = (of(load()), of(load()), of(0..=100_u8), of(any::<bool>()), any::<bool>());
    (ids, sensors, of(capacity())).prop_map(
        |((task, bid, device), (cpu, ram, battery, charging, npu), capacity)| Bid {
            task,
            bid,
            device,
            cpu,
            ram,
            battery: battery.and_then(Percent::new),
            charging,
            npu,
            capacity,
        },
    )
}

fn bid_request() -> impl Strategy<Value = BidRequest> {
    let prompt = plain_text().prop_filter("an empty prompt means none", |prompt| !prompt.is_empty());
    (of(task()), of(plain_text()), of(prompt), of(any::<u64>()), of(millis())).prop_map(
        |(task, task_type, prompt, prompt_bytes, deadline)| BidRequest {
            task,
            task_type,
            prompt,
            prompt_bytes,
            deadline,
        },
    )
}

fn task_order() -> impl Strategy<Value = TaskOrder> {
    (of(award()), text(), of(any::<bool>()), of(text()), of(text()), of(bid_id())).prop_map(
        |(award, prompt, npu, prompt_type, task_type, bid)| TaskOrder {
            award,
            prompt,
            npu,
            prompt_type,
            task_type,
            bid,
        },
    )
}

fn task_result() -> impl Strategy<Value = TaskResult> {
    let status =
        prop::sample::select(vec![Status::Completed, Status::Error, Status::Cancelled, Status::HandedBack]);
    let speed = (any::<u32>(), of(any::<u32>()), of(any::<u32>()), of(any::<u32>())).prop_map(
        |(total_ms, first_text_ms, prompt_tokens, tokens)| Speed {
            total_ms,
            first_text_ms,
            prompt_tokens,
            tokens,
        },
    );
    (of(award()), of(text()), status, text(), any::<bool>(), of(speed)).prop_map(
        |(award, device, status, output, output_was_not_utf8, speed)| TaskResult {
            award,
            device,
            status,
            output,
            output_was_not_utf8,
            speed,
        },
    )
}

/// Every body as `decode` may give it.
fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        address().prop_map(Body::Hello),
        address().prop_map(Body::Discover),
        text().prop_map(Body::Text),
        text().prop_map(Body::SlmPrompt),
        text().prop_map(Body::SlmResult),
        bid_request().prop_map(Body::BidRequest),
        bid().prop_map(Body::BidResponse),
        task_order().prop_map(Body::Task),
        task_result().prop_map(Body::Result),
        (of(task()), reason(), of(retry_after()), of(capacity())).prop_map(
            |(task, reason, retry_after, capacity)| {
                Body::Refuse(Refuse { task, reason, retry_after, capacity })
            }
        ),
        award().prop_map(|award| Body::Accept(Accept { award })),
        (award(), reason(), of(retry_after()), of(capacity())).prop_map(
            |(award, reason, retry_after, capacity)| {
                Body::Reject(Reject { award, reason, retry_after, capacity })
            }
        ),
        (award(), any::<u64>(), text()).prop_map(|(award, offset, text)| Body::Progress(Progress {
            award,
            offset,
            text
        })),
        award().prop_map(Body::Cancel),
        award().prop_map(Body::Ack),
        (award(), any::<u64>()).prop_map(|(award, have)| Body::Query(Query { award, have })),
        Just(Body::Bye),
        // No known type begins with X.
        ("X[A-Z0-9_]{0,31}", text()).prop_map(|(kind, payload)| Body::Unknown { kind, payload }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let from = id("[A-Za-z0-9_-]{1,64}", DeviceId::new);
    let boot = id("[A-Za-z0-9_-]{1,64}", BootId::new);
    let marker = (any::<u16>(), boot).prop_map(|(version, boot)| Marker { version, boot });
    (from, of(marker), body()).prop_map(|(from, marker, body)| {
        let marker = marker.filter(|_| examples::carries_marker(&body));
        Message { from, marker, body }
    })
}

/// The types whose payload is strict JSON in the bidmesh dialect: all but addresses, bare text and unknown ones.
fn is_json(body: &Body) -> bool {
    examples::carries_marker(body) && !matches!(body, Body::Hello(_) | Body::Discover(_))
}

/// A valid message in some dialect, then damaged in a few places.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let snippet = prop::sample::select(vec![
        &b"|"[..],
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b": ,",
        b": nan,",
        b": 0,45",
        b"\"}",
        b"null",
        b"-1",
        b"1e999",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xf0\x9f",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"..",
        b"{\"task_id\": \"",
        b"\", \"device_id\": \"",
        b"\", \"status\": \"",
        b"\", \"output\": \"",
        b"bidmesh/1:",
    ]);
    let damage = (any::<prop::sample::Index>(), 0..4_usize, prop_oneof![snippet, Just(&b""[..])]);
    let dialect = prop::sample::select(vec![Dialect::Bidmesh, Dialect::Shell, Dialect::ShellLiteral]);
    let example = prop::sample::select(examples::bodies()).prop_map(|(_, body)| examples::from_bidmesh(body));
    (
        prop_oneof![message(), example],
        dialect,
        prop::collection::vec(damage, 0..4),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(message, dialect, damages, end, cut)| {
            let encoded = encode(&message, dialect).or_else(|_| encode(&message, Dialect::Bidmesh));
            let mut bytes = encoded.expect("the bidmesh dialect has every type");
            for (at, removed, inserted) in damages {
                let at = at.index(bytes.len() + 1);
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, inserted.iter().copied());
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => damaged(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_for_a_bidmesh_device_is_read_as_it_was(message in message()) {
        let bytes = encode(&message, Dialect::Bidmesh).unwrap();
        let decoded = read(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(!decoded.repairs.any());
        prop_assert_eq!(decoded.message, message);
    }

    #[test]
    fn a_bid_request_is_the_same_bytes_for_every_device(request in bid_request()) {
        let message = examples::from_bidmesh(Body::BidRequest(request));
        let bytes = encode(&message, Dialect::Bidmesh).unwrap();
        prop_assert_eq!(&encode(&message, Dialect::Shell).unwrap(), &bytes);
        prop_assert_eq!(&encode(&message, Dialect::ShellLiteral).unwrap(), &bytes);
    }

    #[test]
    fn what_was_read_is_written_and_read_again_as_the_same(bytes in bytes()) {
        if let Ok(first) = read(&bytes) {
            let written = encode(&first.message, Dialect::Bidmesh).unwrap();
            let second = read(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(!second.repairs.any());
            // A BID_REQUEST is written in the form that every device reads, with substitutes; once.
            if !matches!(first.message.body, Body::BidRequest(_)) {
                prop_assert_eq!(&second.message, &first.message);
            }
            prop_assert_eq!(encode(&second.message, Dialect::Bidmesh).unwrap(), written);
        }
    }

    /// As a client writes it that escapes quotes and backslashes and no more.
    #[test]
    fn raw_control_characters_are_read_as_themselves(prompt in text()) {
        let escaped = prompt.replace('\\', "\\\\").replace('"', "\\\"");
        let bytes = format!("TASK|A|{{\"prompt\": \"{escaped}\", \"use_npu\": }}");
        let decoded = read(bytes.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(decoded.repairs.missing_values);
        prop_assert_eq!(decoded.repairs.raw_control_characters, prompt.chars().any(|c| c < ' '));
        let Body::Task(order) = decoded.message.body else { panic!("a TASK stays one") };
        prop_assert_eq!(order.prompt, prompt);
    }

    #[test]
    fn every_error_points_into_the_message_and_is_one_short_line(bytes in bytes()) {
        if let Err(error) = read(&bytes) {
            prop_assert!(error.offset <= bytes.len());
            let shown = error.to_string();
            prop_assert!(shown.len() < 400 && !shown.contains('\n'), "{}", shown);
        }
    }

    #[test]
    fn a_json_message_that_was_cut_off_or_goes_on_is_no_message(
        message in message().prop_filter("has an end of its own", |message| is_json(&message.body)),
        tail in "[^ \t\r\n].{0,8}",
    ) {
        let line = encode(&message, Dialect::Bidmesh).unwrap();
        let bytes = line.strip_suffix(b"\n").unwrap();
        for end in 0..bytes.len() {
            prop_assert!(read(&bytes[..end]).is_err(), "cut at {}", end);
        }
        prop_assert!(read(&[bytes, tail.as_bytes()].concat()).is_err());
    }

    #[test]
    fn framing_does_not_depend_on_how_the_bytes_were_split(
        bytes in bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut parts = Framer::new(WireLimits::default());
        let mut start = 0;
        for end in cuts {
            let framing = parts.push(&bytes[start..end]);
            let mut whole = Framer::new(WireLimits::default());
            prop_assert_eq!(whole.push(&bytes[..end]), framing, "at {}", end);
            start = end;
        }
        prop_assert_eq!(parts.finish(), bytes);
    }

    #[test]
    fn whole_means_that_nothing_that_may_come_changes_the_judgement(bytes in bytes()) {
        if Framer::new(WireLimits::default()).push(&bytes) == Framing::Whole {
            let judgement = read(&bytes);
            prop_assert_eq!(&read(&[&bytes[..], b"\r\n"].concat()), &judgement);
            let cut_off = matches!(&judgement, Err(DecodeError { why: DecodeErrorKind::Json(reason), .. })
                if reason.starts_with("EOF"));
            prop_assert!(!cut_off, "{:?}", judgement);
        }
    }

    #[test]
    fn strict_json_needs_no_silence(
        message in message().prop_filter("has an end of its own", |message| is_json(&message.body)),
    ) {
        let line = encode(&message, Dialect::Bidmesh).unwrap();
        let mut framer = Framer::new(WireLimits::default());
        let (closing, before) = line.strip_suffix(b"\n").unwrap().split_last().unwrap();
        prop_assert!(framer.push(before) != Framing::Whole);
        prop_assert_eq!(framer.push(&[*closing]), Framing::Whole);
        prop_assert_eq!(framer.push(b"\n"), Framing::Whole);
    }

    #[test]
    fn a_message_is_as_long_as_its_limit_at_most(bytes in bytes(), limit in 0..300_usize) {
        let limits = WireLimits { message_bytes: limit };
        let mut framer = Framer::new(limits);
        let framing = framer.push(&bytes);
        let too_long = bytes.len() > limit;
        prop_assert_eq!(framing == Framing::TooLong { limit }, too_long);
        prop_assert!(framer.bytes().len() <= limit);
        let refused = matches!(decode(&bytes, &limits), Err(DecodeError { why: DecodeErrorKind::TooLong { .. }, .. }));
        prop_assert_eq!(refused, too_long);
    }

    /// Whatever a number looks like, what is read is in range: the types hold it, and a bad one is unknown.
    #[test]
    fn loads_and_batteries_are_in_range(number in r"-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?") {
        let bytes = format!("BID_RESPONSE|A|{{\"cpu_load\": {number}, \"ram_load\": {number}, \"battery\": {number}}}");
        let Body::BidResponse(bid) = read(bytes.as_bytes()).unwrap().message.body else { panic!("{bytes}") };
            let value: f64 = number.parse().unwrap();
            if let Some(load) = bid.cpu {
                prop_assert!(!number.starts_with('-'));
                prop_assert!((value * 1e6 - f64::from(load.ppm())).abs() < 1.001, "{} {:?}", number, load);
            } else {
                prop_assert!(number.starts_with('-') || value > 0.999_999 || value == 0.0, "{}", number);
            }
            prop_assert_eq!(bid.cpu, bid.ram);
            if let Some(battery) = bid.battery {
                prop_assert!((value - f64::from(battery.value())).abs() < 1.001);
            }
    }
}
