//! The model and its server that `.ci/setup` installs work: what the tests of the openai executor stand on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bidmesh_tests::ModelServer;

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
