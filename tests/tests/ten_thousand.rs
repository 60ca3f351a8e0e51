//! Thousands of prompts handed to one device at once: it takes on what it may, says no to the rest and when to come
//! again, stays small, and runs the urgent ones first.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bidmesh_io_tokio::http::{self, BaseUrl, Method, Patience, Request};
use bidmesh_tests::{BidmeshProcess, Runner, resident_bytes, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);
const BEYOND: usize = 300;
const CLIENTS: usize = 32;
/// What one waiting prompt may cost: itself, its key, its places in the indexes, the person's line to it.
const BYTES_EACH_MAX: u64 = 8 << 10;
/// What the device needs beside them: its decision records, the database's cache, connections.
const BYTES_BESIDE_MAX: u64 = 24 << 20;

/// Hands in prompts until there are no more numbers; gives what was refused.
async fn hand_in(limit: usize, server: BaseUrl, token: String, next: Arc<AtomicUsize>) -> Vec<Value> {
    let token = http::bearer(&token).unwrap();
    let patience = Patience { connect: SOON, head: SOON, silence: SOON };
    let mut refused = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= limit + BEYOND {
            return refused;
        }
        let body = serde_json::json!({
            "prompt": format!("priority {} number {number}", number % 10),
            "priority": number % 10,
            "attached": false,
            "key": format!("key {number}"),
        });
        let request = Request::new(Method::POST, "/v1/tasks")
            .authorization(token.clone())
            .json(serde_json::to_vec(&body).unwrap());
        let response = http::send(&server, request, patience).await.unwrap();
        let status = response.status();
        let body: Value = serde_json::from_slice(&response.whole(1 << 20).await.unwrap()).unwrap();
        match status.as_u16() {
            202 => {}
            429 => refused.push(body),
            other => panic!("{other}: {body}"),
        }
    }
}

fn as_many_as_may_be_and_some_more(limit: usize) {
    let runner = Runner::new();
    let mut device = BidmeshProcess::build("Alone")
        .setting("limits.tasks", &limit.to_string())
        .setting("limits.tasks_per_client", &limit.to_string())
        .runner(&runner)
        .start();
    runner.hold();
    let before = resident_bytes(device.process_id());
    let control: Value =
        serde_json::from_slice(&fs::read(device.dir().join("control.json")).unwrap()).unwrap();
    let server: BaseUrl = format!("127.0.0.1:{}", control["port"]).parse().unwrap();
    let token = control["token"].as_str().unwrap().to_owned();

    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused: Vec<Value> = runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(hand_in(limit, server.clone(), token.clone(), Arc::clone(&next))))
            .collect();
        let mut refused = Vec::new();
        for client in clients {
            refused.extend(client.await.unwrap());
        }
        refused
    });
    let took = start.elapsed();
    let after = resident_bytes(device.process_id());
    let file = fs::metadata(device.dir().join("store.redb")).unwrap().len();
    eprintln!(
        "{limit} prompts taken on and written in {took:.1?}, {} refused; {} KiB resident before, {} KiB after \
         ({} bytes each), {} KiB on disk",
        refused.len(),
        before >> 10,
        after >> 10,
        (after - before) / limit as u64,
        file >> 10,
    );
    assert_eq!(refused.len(), BEYOND);
    for body in &refused {
        assert_eq!(body["error"]["code"], "queue_full", "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains("try again later"), "{body}");
        assert!(body["error"]["retry_after_ms"].as_u64().unwrap() > 0, "{body}");
    }
    assert!(after < before + BYTES_EACH_MAX * limit as u64 + BYTES_BESIDE_MAX, "{before}, then {after}");
    let status = device.status();
    let waiting: u64 =
        status["queue"].as_array().unwrap().iter().filter_map(|line| line["waiting"].as_u64()).sum();
    assert_eq!((status["tasks"].as_array().unwrap().len(), waiting), (limit, limit as u64 - 1));

    // All of that survives, and goes on in the order in which it is wanted: first came number 0, then the urgent ones.
    device.kill();
    let start = Instant::now();
    device.start_again();
    eprintln!("started again with all of them within {:.1?}", start.elapsed());
    let begun = runner.started().len();
    runner.release();
    wait_until(SOON, "some runs", || (runner.started().len() >= begun + 20).then_some(()));
    let urgent = |prompt: &String| prompt.starts_with("priority 9 ");
    let prompts = runner.prompts();
    assert!(prompts[begun.max(2)..begun + 20].iter().all(urgent), "{prompts:#?}");
}

#[test]
fn what_is_beyond_the_limit_is_refused_and_memory_stays_bounded() {
    as_many_as_may_be_and_some_more(1_500);
}

/// With the default limit, for a program built for speed: a debug build looks at every invariant of every task at every
/// input. `BIDMESH_BIN=target/release/bidmesh cargo test -p bidmesh-tests --test ten_thousand -- --ignored --nocapture`
#[test]
#[ignore = "minutes with a debug build"]
fn ten_thousand_prompts_at_once() {
    as_many_as_may_be_and_some_more(10_000);
}
