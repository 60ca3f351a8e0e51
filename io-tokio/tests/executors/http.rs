//! The HTTP client against a scripted server.

use std::error::Error;
use std::time::Duration;

use bidmesh_io_tokio::http::{self, BaseUrl, HttpError, Method, Patience, Request, StatusCode};
use tokio::net::TcpListener;

use crate::server::{Act, Server, response, send};

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(30),
    head: Duration::from_secs(30),
    silence: Duration::from_secs(30),
};

fn url(server: &Server) -> BaseUrl {
    format!("http://{}/base/", server.address).parse().unwrap()
}

async fn get(server: &Server, patience: Patience) -> Result<http::Response, HttpError> {
    http::send(&url(server), Request::new(Method::GET, "/x?y=1"), patience).await
}

#[tokio::test]
async fn a_request_has_its_headers_and_body_and_the_response_too() {
    let server = Server::start(vec![(
        "POST /base/tasks",
        response("201 Created", "Text/Plain; charset=utf-8", "done"),
    )])
    .await;
    let request =
        Request::new(Method::POST, "/tasks").json("{}").authorization(http::bearer("secret").unwrap());
    assert!(!format!("{request:?}").contains("secret"));
    let response = http::send(&url(&server), request, PATIENCE).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(response.is("text/plain") && !response.is("text"));
    assert_eq!(response.headers()["content-length"], "4");
    assert_eq!(response.whole(4).await.unwrap(), b"done");
    let sent = server.requests().remove(0);
    let host = format!("host: {}", server.address);
    for part in [
        &*host,
        "content-type: application/json",
        "authorization: Bearer secret",
        "connection: close",
        "\r\n\r\n{}",
    ] {
        assert!(sent.contains(part), "{part} is missing in {sent}");
    }
}

#[tokio::test]
async fn a_body_comes_piece_by_piece_and_dropping_it_closes_the_connection() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let acts =
        vec![send(format!("{head}3\r\none\r\n")), Act::AwaitGo, send("3\r\ntwo\r\n"), Act::AwaitClosed];
    let mut server = Server::start(vec![("GET /base/x?y=1 ", acts)]).await;
    let mut response = get(&server, PATIENCE).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "one");
    server.go();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "two");
    drop(response);
    server.closed().await;
}

#[tokio::test]
async fn events_come_one_by_one_and_the_last_needs_no_empty_line() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let acts = vec![send(format!("{head}data: one\n\ndata: two\n\nda")), Act::AwaitGo, send("ta: three")];
    let server = Server::start(vec![("GET", acts)]).await;
    let mut events = get(&server, PATIENCE).await.unwrap().events(100);
    assert_eq!(events.next().await.unwrap().unwrap().data, "one");
    assert_eq!(events.next().await.unwrap().unwrap().data, "two");
    assert!(!events.is_at_end());
    server.go();
    assert_eq!(events.next().await.unwrap().unwrap().data, "three");
    assert!(events.is_at_end());
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_error_or_is_cut() {
    let server = Server::start(vec![("GET", response("200 OK", "text/plain", "12345"))]).await;
    let whole = get(&server, PATIENCE).await.unwrap().whole(4).await;
    assert!(matches!(whole, Err(HttpError::TooLong { limit: 4, .. })), "{whole:?}");
    assert_eq!(get(&server, PATIENCE).await.unwrap().beginning(4, PATIENCE.silence).await, b"1234");
}

#[tokio::test]
async fn the_beginning_of_a_body_is_waited_for_and_no_more_than_that() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nha";
    let acts = vec![send(head), Act::AwaitGo, send("lf"), Act::AwaitClosed];
    for (limit, expected) in [(3, "hal"), (4, "half")] {
        let server = Server::start(vec![("GET", acts.clone())]).await;
        let response = get(&server, PATIENCE).await.unwrap();
        let read = async {
            // The second piece is sent when the first one has been read.
            let (beginning, ()) =
                tokio::join!(response.beginning(limit, PATIENCE.silence), async { server.go() });
            beginning
        };
        // The server says nothing more and closes nothing.
        let beginning = tokio::time::timeout(PATIENCE.silence / 3, read).await.expect("goes on waiting");
        assert_eq!(beginning, expected.as_bytes());
    }
}

#[tokio::test]
async fn each_wait_has_an_end() {
    let short = Duration::from_millis(50);
    let mut server = Server::start(vec![("GET", vec![Act::AwaitClosed])]).await;
    let late = get(&server, Patience { head: short, ..PATIENCE }).await;
    assert!(matches!(late, Err(HttpError::NoAnswer { .. })), "{late:?}");
    server.closed().await;

    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let server = Server::start(vec![("GET", vec![send(head), Act::AwaitClosed])]).await;
    assert_eq!(get(&server, PATIENCE).await.unwrap().beginning(10, short).await, b"half");
    let mut response = get(&server, Patience { silence: short, ..PATIENCE }).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "half");
    let late = response.chunk().await;
    assert!(matches!(late, Err(HttpError::Silent { .. })), "{late:?}");
}

#[tokio::test]
async fn errors_say_what_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let mut errors = Vec::new();
    let refused =
        http::send(&format!("http://{free}").parse().unwrap(), Request::new(Method::GET, "/"), PATIENCE)
            .await;
    let refused = refused.unwrap_err();
    assert!(refused.is_refused() && refused.source().is_some());
    errors.push(refused.to_string().replace(&free.to_string(), "HOST"));
    // Nothing leaves the machine: the system makes no connection to all machines at once.
    let everybody = "http://255.255.255.255:1".parse().unwrap();
    let unreachable = http::send(&everybody, Request::new(Method::GET, "/"), PATIENCE).await.unwrap_err();
    assert!(!unreachable.is_refused());
    assert!(
        unreachable.to_string().starts_with("cannot connect to http://255.255.255.255:1: "),
        "{unreachable}"
    );

    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let half_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf";
    for acts in [
        vec![],
        vec![send("SSH-2.0-OpenSSH_9.2p1\r\n")],
        vec![send("HTTP/1.1 200 OK\r\nX")],
        vec![send(half)],
        vec![send(half_chunk)],
    ] {
        let server = Server::start(vec![("GET", acts)]).await;
        let error = match get(&server, PATIENCE).await {
            Ok(response) => response.whole(100).await.unwrap_err(),
            Err(error) => error,
        };
        errors.push(error.to_string().replace(&server.address.to_string(), "HOST"));
    }
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 300_000]].concat();
    let server = Server::start(vec![("GET", vec![send(endless), Act::AwaitClosed])]).await;
    let error = get(&server, PATIENCE).await.unwrap_err();
    errors.push(error.to_string().replace(&server.address.to_string(), "HOST"));

    let bad = http::send(&url(&server), Request::new(Method::GET, "/a b"), PATIENCE).await.unwrap_err();
    assert!(bad.source().is_none());
    errors.push(bad.to_string());
    insta::assert_snapshot!(errors.join("\n"), @r"
    http://HOST refused the connection: is the server running?
    the connection to http://HOST/base broke off (connection closed before message completed)
    http://HOST/base does not speak HTTP/1.1 as it should (invalid HTTP version parsed)
    the connection to http://HOST/base broke off (connection closed before message completed)
    the connection to http://HOST/base broke off (error reading a body from connection)
    the connection to http://HOST/base broke off (error reading a body from connection)
    http://HOST/base does not speak HTTP/1.1 as it should (message head is too large)
    this cannot be sent by HTTP: invalid uri character
    ");
}

#[tokio::test]
async fn localhost_needs_no_resolver() {
    let server = Server::start(vec![("GET", response("200 OK", "text/plain", "hi"))]).await;
    let url = format!("http://LOCALHOST:{}", server.address.port()).parse().unwrap();
    let response = http::send(&url, Request::new(Method::GET, "/"), PATIENCE).await.unwrap();
    assert_eq!(response.whole(10).await.unwrap(), b"hi");
}
