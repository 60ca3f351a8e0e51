//! `decode` and `encode` beside plain serde_json on the same payload.
//!
//! The table of ratios comes first: both sides are measured in turn within the same second, so that it means the
//! same on any machine. Then criterion's own figures. `cargo bench -p bidmesh-core --bench wire`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark may fail loudly")]
#![allow(clippy::disallowed_types, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bidmesh_core::id::{AwardId, BidId, BootId, DeviceId, TaskId};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Bid, Body, Capacity, Dialect, Framer, Framing, Marker, Message, Status, TaskOrder, TaskResult,
    WireLimits, decode, encode,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use serde::{Deserialize, Serialize};

/// The payloads as somebody would write them who has serde_json and no more: strings are owned, numbers are
/// floats, nothing is checked.
mod plain {
    #![allow(clippy::disallowed_types, reason = "the plain way to read a load is a float")]

    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Bid {
        bidmesh: Option<u16>,
        boot: Option<String>,
        task_id: Option<String>,
        bid_id: Option<String>,
        device_id: Option<String>,
        cpu_load: Option<f64>,
        ram_load: Option<f64>,
        battery: Option<i32>,
        charging: Option<bool>,
        has_npu: Option<bool>,
        slots: Option<u16>,
        running: Option<u16>,
        yours: Option<u16>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Task {
        bidmesh: Option<u16>,
        boot: Option<String>,
        task_id: Option<String>,
        prompt: String,
        use_npu: Option<bool>,
        prompt_type: Option<String>,
        task_type: Option<String>,
        bid_id: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Result {
        bidmesh: Option<u16>,
        boot: Option<String>,
        status: Option<String>,
        task_id: Option<String>,
        device_id: Option<String>,
        output: Option<String>,
    }
}

/// Prose with a quote and a line end now and then, as prompts and answers are.
fn prose(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        text += "The sun went down behind the hills, and she said \"good night\" to nobody in particular.\n";
    }
    text.truncate(bytes);
    text
}

fn messages() -> Vec<(&'static str, Message)> {
    let task = |prompt: String| {
        Body::Task(TaskOrder {
            award: Some(AwardId::new("task_0123456789abc.1.k7q2m").unwrap()),
            prompt: prompt.into(),
            npu: Some(true),
            prompt_type: Some("npu_prompt".into()),
            task_type: Some("slm_inference".into()),
            bid: Some(BidId::new("9k3m5p7r.61250").unwrap()),
        })
    };
    let bodies = [
        (
            "BID_RESPONSE",
            Body::BidResponse(Bid {
                task: Some(TaskId::new("task_0123456789abc").unwrap()),
                bid: Some(BidId::new("9k3m5p7r.61250").unwrap()),
                device: Some("Device_B".into()),
                cpu: Load::from_ppm(67_501),
                ram: Load::from_ppm(430_000),
                battery: Percent::new(85),
                charging: Some(false),
                npu: true,
                capacity: Some(Capacity { slots: 2, running: 1, yours: 0 }),
            }),
        ),
        ("TASK, 1 KiB prompt", task(prose(1024))),
        ("TASK, 64 KiB prompt", task(prose(64 * 1024))),
        (
            "RESULT, 64 KiB output",
            Body::Result(TaskResult {
                award: Some(AwardId::new("task_0123456789abc.1.k7q2m").unwrap()),
                device: Some("Device_B".into()),
                status: Status::Completed,
                output: prose(64 * 1024).into(),
                output_was_not_utf8: false,
                speed: None,
            }),
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| {
            let marker = Some(Marker { version: 1, boot: BootId::new("7h2k9q4d").unwrap() });
            (name, Message { from: DeviceId::new("Device_B").unwrap(), marker, body })
        })
        .collect()
}

/// One message with both ways to read and write it.
struct Case {
    name: &'static str,
    message: Message,
    bytes: Vec<u8>,
    /// Where the payload begins.
    payload: usize,
    plain: Plain,
}

/// serde_json's way.
struct Plain {
    decode: fn(&[u8]),
    encode: Box<dyn Fn()>,
}

fn cases() -> Vec<Case> {
    messages().into_iter().map(|(name, message)| case(name, message)).collect()
}

fn case(name: &'static str, message: Message) -> Case {
    let bytes = encode(&message, Dialect::Bidmesh).unwrap();
    let head = message.body.kind().len() + message.from.as_str().len() + 2;
    let plain = match &message.body {
        Body::BidResponse(_) => Plain::of::<plain::Bid>(&bytes[head..]),
        Body::Task(_) => Plain::of::<plain::Task>(&bytes[head..]),
        _ => Plain::of::<plain::Result>(&bytes[head..]),
    };
    Case { name, message, bytes, payload: head, plain }
}

impl Plain {
    fn of<T>(payload: &[u8]) -> Self
    where
        T: Serialize + for<'de> Deserialize<'de> + 'static,
    {
        let value: T = serde_json::from_slice(payload).unwrap();
        Self {
            decode: |payload| drop(black_box(serde_json::from_slice::<T>(black_box(payload)).unwrap())),
            encode: Box::new(move || drop(black_box(serde_json::to_vec(black_box(&value)).unwrap()))),
        }
    }
}

impl Case {
    fn decode(&self) {
        drop(black_box(decode(black_box(&self.bytes), &WireLimits::default()).unwrap()));
    }

    fn plain_decode(&self) {
        (self.plain.decode)(&self.bytes[self.payload..]);
    }

    fn encode(&self) {
        drop(black_box(encode(black_box(&self.message), Dialect::Bidmesh).unwrap()));
    }

    fn encode_for_shell(&self) {
        drop(black_box(encode(black_box(&self.message), Dialect::Shell).unwrap()));
    }

    fn frame(&self) {
        let mut framer = Framer::new(WireLimits::default());
        for part in self.bytes.chunks(1_460) {
            framer.push(black_box(part));
        }
        assert_eq!(framer.framing(), Framing::Whole);
    }
}

/// The median time of one call of each, measured in turn in many short batches: whatever slows the machine down
/// for a while slows both down.
fn side_by_side(ours: impl Fn(), plain: impl Fn()) -> (Duration, Duration) {
    const BATCHES: usize = 201;
    const BATCH: Duration = Duration::from_micros(500);
    let calls = |run: &dyn Fn()| {
        let start = Instant::now();
        let mut calls = 0_u32;
        while start.elapsed() < BATCH {
            run();
            calls += 1;
        }
        calls.max(1)
    };
    let time = |run: &dyn Fn(), calls: u32| {
        let start = Instant::now();
        for _ in 0..calls {
            run();
        }
        start.elapsed() / calls
    };
    let (our_calls, plain_calls) = (calls(&ours), calls(&plain));
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        times.0.push(time(&ours, our_calls));
        times.1.push(time(&plain, plain_calls));
    }
    times.0.sort_unstable();
    times.1.sort_unstable();
    (times.0[BATCHES / 2], times.1[BATCHES / 2])
}

fn print_ratios(cases: &[Case]) {
    println!("{:<24}{:<10}{:>12}{:>14}{:>9}", "message", "", "bidmesh", "serde_json", "ratio");
    let row = |name: &str, what: &str, (ours, plain): (Duration, Duration)| {
        let hundredths = 100 * ours.as_nanos() / plain.as_nanos().max(1);
        let ratio = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        println!("{name:<24}{what:<10}{:>9} ns{:>11} ns{ratio:>9}", ours.as_nanos(), plain.as_nanos());
    };
    for case in cases {
        row(case.name, "decode", side_by_side(|| case.decode(), || case.plain_decode()));
        row(case.name, "encode", side_by_side(|| case.encode(), || (case.plain.encode)()));
        row(case.name, "to shell", side_by_side(|| case.encode_for_shell(), || (case.plain.encode)()));
        row(case.name, "frame", side_by_side(|| case.frame(), || case.plain_decode()));
    }
    println!();
}

fn main() {
    let cases = cases();
    // A profiler wants to see nothing but the benchmark that was named, `cargo test --benches` only that all run.
    if !std::env::args().any(|argument| argument == "--profile-time" || argument == "--test") {
        print_ratios(&cases);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("wire");
    for case in &cases {
        group.throughput(Throughput::Bytes(case.bytes.len() as u64));
        group.bench_function(BenchmarkId::new("decode", case.name), |b| b.iter(|| case.decode()));
        group.bench_function(BenchmarkId::new("serde_json decode", case.name), |b| {
            b.iter(|| case.plain_decode())
        });
        group.bench_function(BenchmarkId::new("encode", case.name), |b| b.iter(|| case.encode()));
        group.bench_function(BenchmarkId::new("serde_json encode", case.name), |b| {
            b.iter(|| (case.plain.encode)())
        });
    }
    group.finish();
    criterion.final_summary();
}
