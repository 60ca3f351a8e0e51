//! A real small model answers prompts of the mesh: in the worker's own process, and behind a real OpenAI-compatible
//! server. Needs what `.ci/setup` installs into `.tools/`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, ModelServer, Runner, Signal, model_file, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// A small model on a busy machine.
const ANSWER: Duration = Duration::from_secs(240);

#[test]
fn the_model_server_answers_a_prompt() {
    let Some(server) = ModelServer::start(None) else { return };
    let body = format!(
        r#"{{"model":"{}","max_tokens":8,"temperature":0,"messages":[{{"role":"user","content":"Name three fruits."}}]}}"#,
        ModelServer::MODEL
    );
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        server.address(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Kernels differ in near ties; every one begins a list here.
    assert!(answer.contains(r#""content":"1. "#), "{answer}");
}

#[test]
fn a_model_server_answers_a_prompt_of_the_mesh_piece_by_piece() {
    let Some(server) = ModelServer::start(None) else { return };
    answers_piece_by_piece(&format!("openai:{}", server.base_url()), |_| is_working(&server));
}

#[test]
fn a_model_in_the_process_answers_a_prompt_of_the_mesh_piece_by_piece() {
    let Some(file) = model_file() else { return };
    answers_piece_by_piece(&format!("slm:{}", file.display()), |model| !runs(model).is_empty());
}

/// Three devices: one asks, one has the model, one runs a program and is paused by its owner.
fn answers_piece_by_piece(executor: &str, is_working: impl Fn(&BidmeshProcess) -> bool) {
    let other_runner = Runner::new();
    let model = BidmeshProcess::build("Model").executor(executor).start();
    let other = BidmeshProcess::build("Other").runner(&other_runner).start();
    let asking =
        BidmeshProcess::build("Asking").peer("Model", model.address()).peer("Other", other.address()).start();
    asking.wait_until_heard(&["Model", "Other"]);
    assert_eq!(other.run(&["pause"]).code(), Some(0));

    let mut asked = asking.spawn(&["ask", "What is the capital of France?"]);
    let beginning = wait_until(ANSWER, "the beginning of an answer", || {
        Some(asked.stdout()).filter(|text| !text.is_empty() || !asked.is_running())
    });
    let finished = asked.finish(ANSWER);
    let stdout = finished.stdout();
    assert_eq!(finished.code(), Some(0), "{stdout}{}", finished.stderr());
    assert!(stdout.starts_with(&beginning) && beginning.len() < stdout.len(), "all at once: {stdout}");
    // What a model of this size says is no matter of this test; that the mesh tells all of it is.
    let record = asking.json(&["why"]);
    let told = record["outcome"]["output_bytes"].as_u64().unwrap();
    // Where the answer has no line end of its own, one is added.
    assert!(
        [stdout.len(), stdout.len() - 1].map(|length| length as u64).contains(&told),
        "{stdout}{record:#}"
    );
    assert!(record["outcome"]["speed"]["tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{record:#}");
    assert_eq!(asking.peer("Model").unwrap()["speed"], record["outcome"]["speed"]);
    assert!(finished.stderr().starts_with("[Model answered in "), "{}", finished.stderr());
    let why = asking.run(&["why"]).stdout();
    assert!(why.lines().next().is_some_and(|line| line.contains("completed by Model")), "{why}");
    assert!(why.contains("Model won: "), "{why}");
    assert!(other_runner.started().is_empty());

    // Ctrl-C reaches the model: what it works on ends, long before the story would.
    let asked = asking.spawn(&["ask", "Write a very long story with many chapters about a dragon."]);
    wait_until(ANSWER, "the story to begin", || (!asked.stdout().is_empty()).then_some(()));
    assert!(is_working(&model));
    asked.signal(Signal::INT);
    let finished = asked.finish(SOON);
    assert_eq!(finished.code(), Some(130), "{}", finished.stderr());
    wait_until(SOON, "the model to stop", || (!is_working(&model)).then_some(()));
    assert!(runs(&model).is_empty());
    let awaited = asking.json(&["why"]);
    assert_eq!(awaited["outcome"]["status"], "cancelled", "{awaited:#}");
}

/// What a device runs now.
fn runs(device: &BidmeshProcess) -> Vec<serde_json::Value> {
    device.status()["runs"].as_array().unwrap().clone()
}

/// Whether the server generates, by its own account.
fn is_working(server: &ModelServer) -> bool {
    let slots = server.get("/slots");
    assert!(slots.contains("\"is_processing\""), "{slots}");
    slots.contains("\"is_processing\":true")
}
