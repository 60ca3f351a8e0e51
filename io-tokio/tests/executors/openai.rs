//! The openai executor against a scripted server that plays both dialects seen in the wild, and fails in all ways.

use std::time::Duration;

use bidmesh_core::input::{Generation, RunOutcome, Tokens};
use bidmesh_io_tokio::execute::openai::{OpenaiExecutor, OpenaiSettings};
use bidmesh_io_tokio::execute::{Executor, Generated, Stop};
use bidmesh_io_tokio::http;

use crate::server::{Act, Routes, Server, response, send};
use crate::{completed, failure, job, run};

const CHAT: &str = "POST /v1/chat/completions ";
const MODELS: &str = "GET /v1/models ";
const LISTED: &str = r#"{"object":"list","data":[{"id":"smollm2-135m","object":"model"}]}"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// As llama-server was seen to write it, usage included.
const LLAMA_SERVER: &str = r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1795447617,"id":"chatcmpl-V","model":"smollm2-135m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Grüße"}}],"created":1795447617,"id":"chatcmpl-V","model":"smollm2-135m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" 😀\n"}}],"created":1795447617,"id":"chatcmpl-V","model":"smollm2-135m","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1795447617,"id":"chatcmpl-V","model":"smollm2-135m","object":"chat.completion.chunk","timings":{"cache_n":0,"prompt_n":34}}

data: {"choices":[],"created":1795447617,"id":"chatcmpl-V","object":"chat.completion.chunk","usage":{"completion_tokens":3,"prompt_tokens":34,"total_tokens":37}}

data: [DONE]

"#;
/// As llama-cpp-python was seen to write it; its line ends are CR LF.
const LLAMA_CPP_PYTHON: &str = r#": ping

data: {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": {"content": "Gr\u00fc\u00dfe"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": {"content": " \ud83d\ude00\n"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]}

data: [DONE]

"#;
const ANSWER: &str = "Grüße 😀\n";

fn executor(server: &Server) -> OpenaiExecutor {
    OpenaiExecutor::new(OpenaiSettings {
        server: format!("http://{}", server.address).parse().unwrap(),
        model: Some("smollm2-135m".to_owned()),
        authorization: None,
        tokens_max: None,
        npu: true,
    })
}

fn with(server: &Server, change: impl FnOnce(&mut OpenaiSettings)) -> OpenaiExecutor {
    let mut settings = OpenaiSettings {
        server: format!("http://{}/v1/", server.address).parse().unwrap(),
        model: None,
        authorization: None,
        tokens_max: None,
        npu: false,
    };
    change(&mut settings);
    OpenaiExecutor::new(settings)
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn piece(content: &str) -> String {
    let content = serde_json::to_string(content).unwrap();
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{content}}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// A stream that begins with these events; the chunked body is not ended.
fn begun(events: &str) -> Act {
    send([HEAD.as_bytes(), &chunked(events.as_bytes())].concat())
}

/// With the tokens that [`LLAMA_SERVER`] counts.
fn counted(text: &str) -> RunOutcome {
    let tokens = Some(Tokens { prompt: 34, generated: 3 });
    RunOutcome::Completed(Generation { text: text.into(), tokens })
}

fn hide_port(server: &Server, text: &str) -> String {
    text.replace(&server.address.to_string(), "HOST")
}

#[tokio::test]
async fn both_dialects_are_understood_wherever_they_are_split() {
    let crlf = LLAMA_CPP_PYTHON.replace('\n', "\r\n");
    for stream in [LLAMA_SERVER, LLAMA_CPP_PYTHON, &crlf] {
        let bytes = stream.as_bytes();
        let at_once = [HEAD.as_bytes(), &chunked(bytes), b"0\r\n\r\n"].concat();
        let chunks_of_one: Vec<u8> = bytes.chunks(1).flat_map(chunked).collect();
        let bytewise = [HEAD.as_bytes(), &chunks_of_one, b"0\r\n\r\n"].concat();
        for act in [Act::Send(at_once), Act::SendBytewise(bytewise.clone()), Act::Send(bytewise)] {
            let server = Server::start(vec![(CHAT, vec![act])]).await;
            let result = run(&executor(&server), job("Say hello")).await;
            // Only one of the two counts.
            let expected = if stream == LLAMA_SERVER { counted(ANSWER) } else { completed(ANSWER) };
            assert_eq!(result, (expected, ANSWER.to_owned()));
        }
    }
}

#[tokio::test]
async fn every_split_in_two_gives_the_same_answer() {
    let bytes = LLAMA_SERVER.as_bytes();
    // The events whose text has characters of more than one byte.
    let from = LLAMA_SERVER.find("Gr").unwrap();
    let to = LLAMA_SERVER.find("\\n\"}").unwrap();
    for at in from..to {
        let (first, second) = bytes.split_at(at);
        let acts = vec![begun_bytes(first), Act::Send([chunked(second), b"0\r\n\r\n".to_vec()].concat())];
        let server = Server::start(vec![(CHAT, acts)]).await;
        assert_eq!(run(&executor(&server), job("x")).await.0, counted(ANSWER), "split at {at}");
    }
}

fn begun_bytes(bytes: &[u8]) -> Act {
    send([HEAD.as_bytes(), &chunked(bytes)].concat())
}

#[tokio::test]
async fn text_is_handed_out_as_it_comes() {
    let done =
        [chunked(piece("two").as_bytes()), chunked(b"data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat();
    let server =
        Server::start(vec![(CHAT, vec![begun(&piece("one ")), Act::AwaitGo, Act::Send(done)])]).await;
    let executor = executor(&server);
    let (text, mut reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let read = async {
        assert_eq!(reader.recv().await.as_deref(), Some("one "));
        server.go();
        assert_eq!(reader.recv().await.as_deref(), Some("two"));
    };
    let (outcome, ()) = tokio::join!(executor.run(job("x"), text, stop), read);
    assert_eq!(outcome, completed("one two"));
}

#[tokio::test]
async fn the_request_says_what_was_set() {
    let routes = || {
        vec![
            (MODELS, response("200 OK", "application/json", LISTED)),
            (CHAT, vec![begun("data: [DONE]\n\n")]),
        ]
    };
    let server = Server::start(routes()).await;
    let keyed = with(&server, |settings| {
        settings.model = Some("mine".to_owned());
        settings.authorization = http::bearer("secret");
        settings.tokens_max = Some(7);
    });
    assert!(!format!("{keyed:?}").contains("secret"));
    run(&keyed, job("Hello \"you\"")).await;
    let sent = server.requests().pop().unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("authorization: Bearer secret"), "{head}");
    assert_eq!(
        body,
        r#"{"model":"mine","messages":[{"role":"user","content":"Hello \"you\""}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":7}"#
    );
    // Without a model it takes the first that the server lists, and asks for the list once.
    let unset = with(&server, |_| {});
    run(&unset, job("x")).await;
    run(&unset, job("x")).await;
    let sent = server.requests();
    assert!(sent.last().unwrap().contains(r#""model":"smollm2-135m""#), "{sent:?}");
    assert_eq!(sent.iter().filter(|request| request.starts_with(MODELS)).count(), 1);
}

#[tokio::test]
async fn errors_before_the_stream_are_one_clear_line() {
    let json = "application/json";
    let cases = [
        (
            "401 Unauthorized",
            json,
            r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#,
        ),
        (
            "404 Not Found",
            json,
            r#"{"error":{"message":"model 'smollm2-135m' not found","type":"not_found_error"}}"#,
        ),
        (
            "400 Bad Request",
            json,
            r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size","type":"exceed_context_size_error","n_ctx":2048}}"#,
        ),
        ("429 Too Many Requests", "text/plain", ""),
        ("500 Internal Server Error", "text/html", "<h1>\n  Oops</h1>"),
        ("503 Service Unavailable", json, r#"{"error":{"code":503,"message":"Loading model"}}"#),
        ("200 OK", json, r#"{"error":"out of memory"}"#),
        ("200 OK", json, r#"{"choices":[{"message":{}}]}"#),
        ("200 OK", "text/html", "<html>\n<p>Welcome</p>"),
    ];
    let mut errors = Vec::new();
    for (status, content_type, body) in cases {
        let server = Server::start(vec![(CHAT, response(status, content_type, body))]).await;
        let why = failure(&executor(&server), job("x")).await;
        assert!(!why.contains('\n'));
        errors.push(hide_port(&server, &why));
    }
    insta::assert_snapshot!(errors.join("\n"), @r#"
    http://HOST wants a key: set the executor's key (401: Invalid API Key)
    http://HOST does not know the model smollm2-135m, or not this path (404: model 'smollm2-135m' not found)
    http://HOST answered with an error (400: request (9000 tokens) exceeds the available context size)
    http://HOST cannot take a prompt now: try again later (429 Too Many Requests)
    http://HOST answered with an error (500: <h1> Oops</h1>)
    http://HOST cannot take a prompt now: try again later (503: Loading model)
    http://HOST answered with an error (out of memory)
    the answer of http://HOST cannot be read: there is no text in it: {"choices":[{"message":{}}]}
    http://HOST answered with a web page, not like a model server: is the URL right?
    "#);
}

#[tokio::test]
async fn an_endless_error_is_read_to_a_limit() {
    let endless = [b"HTTP/1.1 500 Oops\r\n\r\n".to_vec(), vec![b'x'; 2_000_000]].concat();
    let mut server = Server::start(vec![(CHAT, vec![Act::Send(endless), Act::AwaitClosed])]).await;
    let why = failure(&executor(&server), job("x")).await;
    assert!(why.len() < 500, "{}", why.len());
    server.closed().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure() {
    let without_length = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let half = piece("half");
    let cases = [
        // In the middle of a chunk, after a whole chunk, and at an orderly end of the body.
        vec![begun(&half), send("40\r\ndata: {\"cho")],
        vec![begun(&half)],
        vec![begun(&half), send("0\r\n\r\n")],
        vec![send(format!("{without_length}{half}"))],
        vec![send(format!("{without_length}{half}data: {{\"cho"))],
        vec![begun(&half), send(chunked(b"data: {\"choices\":[{]}\n\n"))],
        vec![begun(&half), send(chunked(b"data: {\"error\":{\"message\":\"out of memory\"}}\n\n"))],
        vec![begun(&half), send(chunked(&vec![b'x'; 1_100_000])), Act::AwaitClosed],
    ];
    let mut errors = Vec::new();
    for acts in cases {
        let server = Server::start(vec![(CHAT, acts)]).await;
        let (outcome, streamed) = run(&executor(&server), job("x")).await;
        let RunOutcome::Failed(why) = outcome else { panic!("{outcome:?}") };
        assert_eq!(streamed, "half");
        errors.push(hide_port(&server, &why));
    }
    insta::assert_snapshot!(errors.join("\n"), @r#"
    the connection to http://HOST broke off (error reading a body from connection), after 4 bytes of the answer
    the connection to http://HOST broke off (error reading a body from connection), after 4 bytes of the answer
    http://HOST ended the stream before the answer was whole, after 4 bytes of the answer
    http://HOST ended the stream before the answer was whole, after 4 bytes of the answer
    http://HOST ended the stream before the answer was whole, after 4 bytes of the answer
    the answer of http://HOST cannot be read: key must be a string at line 1 column 14: {"choices":[{]}
    http://HOST answered with an error (out of memory)
    http://HOST cannot be read on: one server-sent event is longer than 1048576 bytes, after 4 bytes of the answer
    "#);
}

#[tokio::test]
async fn an_answer_may_end_without_its_last_formalities() {
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"!\"},\"finish_reason\":\"stop\"}]}";
    let cases = [
        // No [DONE]; no last empty line; a server that never closes; [DONE] alone, at once followed by silence.
        vec![begun(&format!("{}{last}\n\n", piece("half"))), send("0\r\n\r\n")],
        vec![begun(&format!("{}{last}", piece("half"))), send("0\r\n\r\n")],
        vec![begun(&format!("{}{last}\n\n", piece("half"))), Act::AwaitClosed],
        vec![begun(&format!("{}data: [DONE]\n\n", piece("half!"))), Act::AwaitClosed],
    ];
    for acts in cases {
        let server = Server::start(vec![(CHAT, acts)]).await;
        assert_eq!(run(&executor(&server), job("x")).await.0, completed("half!"));
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"All at once"},"finish_reason":"stop"}]}"#;
    let server = Server::start(vec![(CHAT, response("200 OK", "application/json", body))]).await;
    assert_eq!(run(&executor(&server), job("x")).await, (completed("All at once"), "All at once".to_owned()));
}

#[tokio::test]
async fn what_is_long_and_in_order_is_read_to_its_end() {
    let json = "application/json";
    let long = "word ".repeat(2000);
    let stream = [HEAD.as_bytes(), &chunked(piece(&long).as_bytes()), &chunked(b"data: [DONE]\n\n")].concat();
    let models: Vec<String> = (0..200).map(|number| format!(r#"{{"id":"model-{number}"}}"#)).collect();
    let models = format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","));
    let server =
        Server::start(vec![(MODELS, response("200 OK", json, &models)), (CHAT, vec![Act::Send(stream)])])
            .await;
    let last = with(&server, |settings| settings.model = Some("model-199".to_owned()));
    assert_eq!(hide_port(&server, &last.ability().await.why), "the model model-199 at http://HOST");
    assert_eq!(run(&last, job("x")).await, (completed(&long), long));

    let error = format!(r#"{{"error":{{"trace":"{}","message":"out of memory"}}}}"#, "x".repeat(10_000));
    let server = Server::start(vec![(CHAT, response("500 Oops", json, &error))]).await;
    let why = failure(&executor(&server), job("x")).await;
    assert!(why.ends_with("(500: out of memory)"), "{why}");
}

#[tokio::test]
async fn stopping_closes_the_stream() {
    let mut server = Server::start(vec![(CHAT, vec![begun(&piece("one")), Act::AwaitClosed])]).await;
    let executor = executor(&server);
    let (text, mut reader) = Generated::channel(4);
    let (stopper, stop) = Stop::channel();
    let read_one_and_stop = async {
        assert_eq!(reader.recv().await.as_deref(), Some("one"));
        stopper.send(true).unwrap();
    };
    let (outcome, ()) = tokio::join!(executor.run(job("x"), text, stop), read_one_and_stop);
    assert_eq!(outcome, RunOutcome::Stopped);
    server.closed().await;
}

#[tokio::test]
async fn limits_of_time_and_output_close_the_stream() {
    let endless: String = std::iter::repeat_n(piece("0123456789"), 200).collect();
    let mut server = Server::start(vec![(CHAT, vec![begun(&endless), Act::AwaitClosed])]).await;
    let mut small = job("x");
    small.output_bytes = 1005;
    let (outcome, streamed) = run(&executor(&server), small).await;
    let RunOutcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    assert!(why.ends_with("it generated more than the 1005 bytes that an output may have"), "{why}");
    assert_eq!(streamed.len(), 1000);
    server.closed().await;

    let mut server = Server::start(vec![(CHAT, vec![begun(&piece("one")), Act::AwaitClosed])]).await;
    let mut short = job("x");
    short.limit = Duration::from_millis(100);
    let why = failure(&executor(&server), short).await;
    assert!(why.ends_with("it was not done after 100ms"), "{why}");
    server.closed().await;
}

#[tokio::test]
async fn ability_says_what_the_server_is() {
    let json = "application/json";
    let cases: [(&str, Routes); 9] = [
        ("smollm2-135m", vec![(MODELS, response("200 OK", json, LISTED))]),
        ("other", vec![(MODELS, response("200 OK", json, LISTED))]),
        ("", vec![(MODELS, response("200 OK", json, LISTED))]),
        ("", vec![(MODELS, response("200 OK", json, r#"{"object":"list","data":null}"#))]),
        ("", vec![(MODELS, response("200 OK", "text/html", "<html>"))]),
        ("", vec![("GET /health ", response("200 OK", json, r#"{"status":"ok"}"#))]),
        ("", vec![]),
        (
            "",
            vec![(MODELS, response("401 Unauthorized", json, r#"{"error":{"message":"Invalid API Key"}}"#))],
        ),
        (
            "",
            vec![(
                MODELS,
                response("503 Service Unavailable", json, r#"{"error":{"message":"Loading model"}}"#),
            )],
        ),
    ];
    let mut said = Vec::new();
    for (model, routes) in cases {
        let server = Server::start(routes).await;
        let executor = with(&server, |settings| {
            settings.model = Some(model.to_owned()).filter(|model| !model.is_empty())
        });
        let ability = executor.ability().await;
        said.push(format!("{} {}", ability.available, hide_port(&server, &ability.why)));
    }
    let mut server = Server::start(vec![]).await;
    server.stop().await;
    let ability = executor(&server).ability().await;
    said.push(format!("{} {}", ability.available, hide_port(&server, &ability.why)));
    insta::assert_snapshot!(said.join("\n"), @r"
    true the model smollm2-135m at http://HOST
    true the model other at http://HOST, which does not list it, but lists smollm2-135m
    true the model smollm2-135m at http://HOST
    false http://HOST has no model: load one there, or set the model's name
    false http://HOST does not answer like an OpenAI-compatible server: is the URL right?
    true the model at http://HOST
    false http://HOST answers, but knows neither /v1/models nor /health: is the URL right?
    false http://HOST wants a key: set the executor's key (401: Invalid API Key)
    false http://HOST cannot take a prompt now: try again later (503: Loading model)
    false the model server cannot be used: http://HOST refused the connection: is the server running?
    ");
}

#[tokio::test]
async fn a_server_that_stops_midway_is_not_waited_for() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{";
    let mut server = Server::start(vec![(MODELS, vec![send(head), Act::AwaitClosed])]).await;
    let ability = executor(&server).ability().await;
    assert!(!ability.available, "{}", ability.why);
    server.closed().await;
}

#[tokio::test]
async fn ability_is_asked_for_once_in_a_while() {
    let server = Server::start(vec![(MODELS, response("200 OK", "application/json", LISTED))]).await;
    let executor = executor(&server);
    let first = executor.ability().await;
    assert!(first.available && first.npu);
    assert_eq!(executor.ability().await, first);
    assert_eq!(server.requests().len(), 1);
    pass_time().await;
    assert_eq!(executor.ability().await, first);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn after_a_failure_the_server_is_asked_again_at_once() {
    let routes =
        vec![(MODELS, response("200 OK", "application/json", LISTED)), (CHAT, vec![begun(&piece("half"))])];
    let server = Server::start(routes).await;
    let executor = executor(&server);
    executor.ability().await;
    failure(&executor, job("x")).await;
    executor.ability().await;
    assert_eq!(server.requests().iter().filter(|request| request.starts_with(MODELS)).count(), 2);
}

/// Longer than an answer about the server is believed.
async fn pass_time() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_server_is_not_asked_for_its_ability_while_it_runs_a_prompt() {
    let stream = vec![begun(&piece("one")), Act::AwaitGo, send(chunked(b"data: [DONE]\n\n"))];
    let server =
        Server::start(vec![(MODELS, response("200 OK", "application/json", LISTED)), (CHAT, stream)]).await;
    let executor = executor(&server);
    let (text, mut reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let ask_meanwhile = async {
        let first = executor.ability().await;
        assert_eq!(reader.recv().await.as_deref(), Some("one"));
        pass_time().await;
        assert_eq!(executor.ability().await, first);
        assert_eq!(server.requests().iter().filter(|request| request.starts_with(MODELS)).count(), 1);
        server.go();
    };
    let (outcome, ()) = tokio::join!(executor.run(job("x"), text, stop), ask_meanwhile);
    assert_eq!(outcome, completed("one"));
}

#[tokio::test]
async fn a_server_that_refused_a_prompt_for_good_is_not_offered_again() {
    let routes = vec![
        (MODELS, response("200 OK", "application/json", LISTED)),
        (CHAT, response("404 Not Found", "application/json", r#"{"error":"model not found"}"#)),
    ];
    let server = Server::start(routes).await;
    let executor = executor(&server);
    assert!(executor.ability().await.available);
    let why = failure(&executor, job("x")).await;
    let ability = executor.ability().await;
    assert_eq!((ability.available, ability.why), (false, why));
}
