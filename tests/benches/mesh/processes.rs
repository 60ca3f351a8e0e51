//! Devices as people run them: a `bidmesh up` each, asked through its control API, with a model server that answers
//! at once. The bare program's devices are threads here, since processes take turns as threads do; it has neither the
//! control API nor the model server, each of which is one more HTTP exchange. Below stands what a command costs that
//! people type.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bidmesh_tests::{BidmeshProcess, wait_until};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::bare::Bare;
use super::devices::Mesh;
use super::figures::{Times, compare, heading, show};

const DEVICES: [usize; 2] = [2, 5];
const ROUNDS: usize = 100;
const WARM_UP: usize = 10;
const START: Duration = Duration::from_secs(30);

/// One prompt at a time.
pub(crate) fn latency() {
    heading("one prompt, a process each, control API", "bidmesh", "bare TCP, threads");
    let server = ModelServer::start();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for devices in DEVICES {
        let mesh = Processes::start(devices, &server);
        for (what, dry_run) in [("auction", true), ("whole prompt", false)] {
            // The same messages, recorded where they can be seen.
            let mut bare = runtime.block_on(async {
                let mesh = Mesh::start(devices).await;
                mesh.prompt(dry_run).await;
                Bare::start_threads(&mesh.record(mesh.prompt(dry_run)).await).await
            });
            let (mut with_mesh, mut without) = (Times::default(), Times::default());
            for round in 0..WARM_UP + ROUNDS {
                let took = mesh.prompt(dry_run);
                let bare_took = runtime.block_on(bare.play());
                if round >= WARM_UP {
                    with_mesh.add(took);
                    without.add(bare_took);
                }
            }
            compare(&format!("{devices} devices, {what}"), &with_mesh, &without);
        }
        mesh.commands();
    }
}

struct Processes {
    asking: BidmeshProcess,
    control: SocketAddr,
    token: String,
    _workers: Vec<BidmeshProcess>,
}

impl Processes {
    fn start(devices: usize, server: &ModelServer) -> Self {
        let executor = format!("openai:http://{}", server.address);
        let workers: Vec<_> = (1..devices)
            .map(|number| BidmeshProcess::build(&format!("Device_{number}")).executor(&executor).start())
            .collect();
        let asking = BidmeshProcess::build("Device_0").executor("none");
        let asking = workers.iter().fold(asking, |asking, worker| asking.peer(worker.id(), worker.address()));
        let asking = asking.start();
        let control =
            std::fs::read(asking.dir().join("control.json")).expect("a device that runs publishes it");
        let control: Value = serde_json::from_slice(&control).expect("JSON");
        let port = control["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let token = control["token"].as_str().expect("a token").to_owned();
        let mesh = Self { asking, control: (Ipv4Addr::LOCALHOST, port).into(), token, _workers: workers };
        wait_until(START, "all devices to bid", || (mesh.bids() == devices - 1).then_some(()));
        mesh
    }

    /// How many devices bid for a prompt now.
    fn bids(&self) -> usize {
        self.post(true);
        let decision = self.asking.json(&["why"]);
        let answers = decision["auctions"][0]["answers"].as_array().expect("an auction");
        answers.iter().filter(|answer| answer["answer"] == "bid").count()
    }

    /// From the request to the outcome.
    fn prompt(&self, dry_run: bool) -> Duration {
        let start = Instant::now();
        let outcome = self.post(dry_run);
        let took = start.elapsed();
        let expected = if dry_run { "decided" } else { "completed" };
        assert_eq!(outcome["status"], expected, "{outcome}");
        took
    }

    fn post(&self, dry_run: bool) -> Value {
        let body = json!({"prompt": "Why should a mesh of phones auction its prompts?", "dry_run": dry_run})
            .to_string();
        let mut stream = TcpStream::connect(self.control).expect("a control API");
        let request = format!(
            "POST /v1/tasks HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.control,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("a server that reads");
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
        lines.find(|line| line == "event: outcome").expect("every task has an outcome");
        let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
        serde_json::from_str(&data.expect("an event has data")).expect("JSON")
    }

    /// The commands that people type, each a process of its own.
    fn commands(&self) {
        for (what, arguments) in
            [("bidmesh ask", ["ask", "Why auction prompts?"]), ("bidmesh peers list", ["peers", "list"])]
        {
            let mut times = Times::default();
            for _ in 0..20 {
                // The helper of the tests looks every 5 ms whether a process has ended: too coarse here.
                let start = Instant::now();
                let output = self.asking.command(&arguments).output().expect("a program");
                times.add(start.elapsed());
                assert!(output.status.success(), "{output:?}");
            }
            println!("    {what}, start of the process included: {}", show(times.median()));
        }
    }
}

/// An OpenAI-compatible server that answers at once.
struct ModelServer {
    address: SocketAddr,
}

impl ModelServer {
    /// Serves until the program ends.
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream);
            }
        });
        Self { address }
    }
}

/// One request.
fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a whole request");
    let (kind, body) = if first.starts_with("GET") {
        (
            "application/json",
            json!({"object": "list", "data": [{"id": "bench", "object": "model"}]}).to_string(),
        )
    } else {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": "An auction asks them all."}, "finish_reason": null}]});
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        ("text/event-stream", format!("data: {chunk}\n\ndata: {end}\n\ndata: [DONE]\n\n"))
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = reader.get_mut().write_all((head + &body).as_bytes());
}
