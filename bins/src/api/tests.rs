//! The control API of a real device, over a real socket.

use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::Config;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::Sensors as Reading;
use bidmesh_io_tokio::execute::StandInExecutor;
use bidmesh_io_tokio::files::MeshDirectory;
use bidmesh_io_tokio::http::Method;
use bidmesh_io_tokio::network::TcpLimits;
use bidmesh_io_tokio::sensors::FixedSensors;
use bidmesh_io_tokio::store::NoStore;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::control_file::Control;
use super::types::*;
use super::{Api, Serving, Token, serve};
use crate::client::{Answering, Client, Heard};
use crate::device::{Assembled, Blueprint};
use crate::exit::{Exit, Failure};

const DEADLINE: Duration = Duration::from_secs(60);

/// A device whose stand-in takes `word_delay` for each word, its API, and a client of it.
struct Served {
    client: Client,
    serving: Serving,
    directory: tempfile::TempDir,
    _device: Assembled,
}

async fn served(word_delay: Duration) -> Served {
    let blueprint = Blueprint {
        id: DeviceId::new("Device_A").unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        config: Config::default(),
        limits: TcpLimits::default(),
        executor: Arc::new(StandInExecutor::new(word_delay, false)),
        sensors: Arc::new(FixedSensors::new(Reading::default())),
        store: Arc::new(NoStore),
        peers: Vec::new(),
        sensors_interval: Duration::from_secs(5),
    };
    let device = blueprint.assemble().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let token = Token::new().unwrap();
    let mesh = MeshDirectory::open(directory.path()).unwrap();
    let api = Api::new(device.handle.clone(), Some(mesh), device.listen);
    let serving = serve(api, token.clone(), 0).await.unwrap();
    let port = serving.address().port();
    let control = Control { device_id: "Device_A".into(), pid: 1, port, token: token.as_str().into() };
    let client = Client::of(&control).unwrap();
    Served { client, serving, directory, _device: device }
}

fn prompt(text: &str) -> Submit {
    Submit { prompt: text.into(), attached: true, ..Submit::default() }
}

async fn outcome(answering: &mut Answering) -> (String, OutcomeView) {
    let mut text = String::new();
    loop {
        match timeout(DEADLINE, answering.next()).await.unwrap().unwrap() {
            Heard::Text(piece) => text.push_str(&piece.text),
            Heard::Outcome(outcome) => return (text, outcome),
            Heard::Admitted(_) | Heard::BrokenOff(_) => {}
        }
    }
}

/// Asks until the answer is as wanted.
async fn until<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    wanted: impl Fn(&T) -> bool,
) -> T {
    timeout(DEADLINE, async {
        loop {
            match client.get::<T>(path).await {
                Ok(answer) if wanted(&answer) => return answer,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_prompt_is_answered_piece_by_piece_and_its_decision_kept() {
    let served = served(Duration::ZERO).await;
    let mut answering = served.client.submit(&prompt("hello")).await.unwrap();
    let (text, outcome) = outcome(&mut answering).await;
    assert_eq!((outcome.status.as_str(), outcome.device_id.as_deref()), ("completed", Some("Device_A")));
    assert!(text.contains("stand-in") && text == outcome.output);
    let path = format!("/v1/decisions/{}", outcome.task_id);
    let decision: DecisionView = served.client.get(&path).await.unwrap();
    assert_eq!(decision.auctions[0].winner.as_deref(), Some("Device_A"));
    let all: Vec<DecisionView> = served.client.get("/v1/decisions").await.unwrap();
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn an_attached_task_ends_with_its_connection() {
    let served = served(Duration::from_secs(3600)).await;
    let mut answering = served.client.submit(&prompt("hello")).await.unwrap();
    let Heard::Admitted(admitted) = answering.next().await.unwrap() else { panic!("not admitted") };
    until::<Status>(&served.client, "/v1/status", |status| !status.runs.is_empty()).await;
    drop(answering);
    let path = format!("/v1/decisions/{}", admitted.task_id);
    let ended = until::<DecisionView>(&served.client, &path, |decision| decision.outcome.is_some()).await;
    assert_eq!(ended.outcome.unwrap().status, "cancelled");
    until::<Status>(&served.client, "/v1/status", |status| status.runs.is_empty()).await;
}

#[tokio::test]
async fn a_detached_task_goes_on_and_is_cancelled_by_name() {
    let served = served(Duration::from_secs(3600)).await;
    let submit = Submit { attached: false, ..prompt("hello") };
    let admitted: Admitted = served.client.post("/v1/tasks", &submit).await.unwrap();
    until::<Status>(&served.client, "/v1/status", |status| !status.runs.is_empty()).await;
    let open: Vec<TaskView> = served.client.get("/v1/tasks").await.unwrap();
    assert_eq!((open[0].task_id.as_str(), open[0].attached), (admitted.task_id.as_str(), false));
    let path = format!("/v1/tasks/{}", admitted.task_id);
    let one: TaskOrOutcome = served.client.get(&path).await.unwrap();
    assert!(one.task.is_some_and(|task| task.phase == "running") && one.outcome.is_none());
    served.client.delete(&path).await.unwrap();
    until::<Vec<TaskView>>(&served.client, "/v1/tasks", Vec::is_empty).await;
    let one: TaskOrOutcome = served.client.get(&path).await.unwrap();
    assert!(one.task.is_none() && one.outcome.is_some_and(|outcome| outcome.status == "cancelled"));
    let ended: Vec<EndedView> = served.client.get("/v1/outcomes").await.unwrap();
    assert_eq!((ended.len(), ended[0].outcome.written.as_str()), (1, "not_kept"));
    assert_eq!(served.client.delete(&path).await.unwrap_err().code, "ended");
    let unknown = served.client.get::<TaskOrOutcome>("/v1/tasks/task_7").await.unwrap_err();
    assert_eq!(unknown.code, "not_found");
}

#[tokio::test]
async fn a_prompt_with_a_known_key_joins_the_task_that_is_there() {
    let served = served(Duration::ZERO).await;
    let submit = Submit { attached: false, key: Some("k".into()), ..prompt("hello") };
    let first: Admitted = served.client.post("/v1/tasks", &submit).await.unwrap();
    let path = format!("/v1/tasks/{}", first.task_id);
    until::<TaskOrOutcome>(&served.client, &path, |one| one.outcome.is_some()).await;
    let again: Admitted = served.client.post("/v1/tasks", &submit).await.unwrap();
    assert_eq!((again.task_id, first.joined, again.joined), (first.task_id, false, true));
}

#[tokio::test]
async fn what_is_not_taken_on_says_why() {
    let served = served(Duration::ZERO).await;
    let refused = |submit: Submit| {
        let client = served.client.clone();
        async move { client.submit(&submit).await.map(drop).unwrap_err() }
    };
    let code = |failure: &Failure| (failure.code.clone(), failure.exit);
    assert_eq!(code(&refused(prompt("")).await), ("empty_prompt".into(), Exit::Usage));
    let long = prompt(&"x".repeat(2 << 20));
    assert_eq!(code(&refused(long).await), ("prompt_too_long".into(), Exit::Refused));
    let elsewhere = Submit { to: Some(vec!["Nobody".into()]), ..prompt("hello") };
    assert_eq!(code(&refused(elsewhere).await), ("nobody_eligible".into(), Exit::Nobody));
}

#[tokio::test]
async fn the_address_book_is_edited_in_the_device_and_in_its_file() {
    let served = served(Duration::ZERO).await;
    let file = || std::fs::read_to_string(served.directory.path().join("peers.txt")).unwrap();
    let book = || served.client.get::<Vec<Peer>>("/v1/peers");
    let address = PeerAddress { address: "127.0.0.1:9".into() };
    served.client.tell(Method::PUT, "/v1/peers/Device_B", &address).await.unwrap();
    let peers = book().await.unwrap();
    assert_eq!((peers[0].device_id.as_str(), peers[0].address.as_str()), ("Device_B", "127.0.0.1:9"));
    assert_eq!(file(), "Device_B:127.0.0.1:9\n");
    for (device, address) in
        [("Device_A", "127.0.0.1:9"), ("Device_C", "127.0.0.1:0"), ("Device_C", "phone:9")]
    {
        let address = PeerAddress { address: address.into() };
        let failure =
            served.client.tell(Method::PUT, &format!("/v1/peers/{device}"), &address).await.unwrap_err();
        assert_eq!(failure.code, "bad_request");
    }
    served.client.delete("/v1/peers/Device_B").await.unwrap();
    assert_eq!((book().await.unwrap().len(), file().as_str()), (0, ""));
    assert_eq!(served.client.delete("/v1/peers/Device_B").await.unwrap_err().code, "not_found");
}

#[tokio::test]
async fn a_damaged_peers_file_is_told_and_left_as_it_is() {
    let served = served(Duration::ZERO).await;
    let path = served.directory.path().join("peers.txt");
    std::fs::write(&path, "what is this\n").unwrap();
    let address = PeerAddress { address: "127.0.0.1:9".into() };
    let failure = served.client.tell(Method::PUT, "/v1/peers/Device_B", &address).await.unwrap_err();
    assert!(failure.message.contains("peers.txt:1"), "{failure}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "what is this\n");
    assert!(served.client.get::<Vec<Peer>>("/v1/peers").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_paused_device_says_so_until_it_is_resumed() {
    let served = served(Duration::ZERO).await;
    served.client.tell(Method::POST, "/v1/pause", &Pause { for_ms: None }).await.unwrap();
    until::<Status>(&served.client, "/v1/status", |status| status.refuses.as_deref() == Some("paused")).await;
    served.client.tell(Method::POST, "/v1/resume", &json!({})).await.unwrap();
    until::<Status>(&served.client, "/v1/status", |status| status.refuses.is_none()).await;
}

#[tokio::test]
async fn errors_of_every_kind_are_json() {
    let served = served(Duration::ZERO).await;
    let failure = |method, path: &'static str| {
        let client = served.client.clone();
        async move { client.tell(method, path, &json!({ "x": 1 })).await.unwrap_err().code }
    };
    assert_eq!(failure(Method::GET, "/v2").await, "not_found");
    assert_eq!(failure(Method::PUT, "/v1/status").await, "method_not_allowed");
    assert_eq!(failure(Method::POST, "/v1/tasks").await, "bad_request");
    assert_eq!(failure(Method::POST, "/v1/pause").await, "bad_request");
    assert_eq!(failure(Method::GET, "/v1/decisions/a..b").await, "bad_request");
    assert_eq!(failure(Method::GET, "/v1/tasks/task_unknown/events").await, "not_found");
}

#[tokio::test]
async fn without_the_token_not_even_a_body_is_read() {
    let served = served(Duration::ZERO).await;
    let mut stream = TcpStream::connect(served.serving.address()).await.unwrap();
    // The body never comes: the answer must not wait for it.
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}
