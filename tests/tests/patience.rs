//! Devices that are switched off, hang or are busy do not make every auction last as long as it may: with a healthy
//! bidder it ends within that one's own answer time plus the patience of the design.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, Netcat, Port, Runner, Shell, ShellDevice, deliver, require, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// What an auction may last: the seed's value, and the default.
const BID_DEADLINE_MS: u64 = 10_000;
/// The longest patience of the design, that for shell peers: nobody knows yet that they are not.
const PATIENCE_MS: u64 = 3_000;
/// What a busy machine may add.
const SLACK_MS: u64 = 2_000;

/// Accepts connections and never says anything; each stays open.
fn silent_peer() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let _open: Vec<TcpStream> = listener.incoming().flatten().collect();
    });
    address
}

fn milliseconds(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number of milliseconds: {value}"))
}

#[test]
fn an_auction_with_a_healthy_bidder_does_not_wait_for_the_others() {
    if !require(&["mksh", "toybox"]) {
        return;
    }
    let runner = Runner::new();
    let healthy = BidmeshProcess::build("Healthy").runner(&runner).start();
    // Where somebody else's task runs; nobody listens there meanwhile.
    let busy = ShellDevice::build("Busy", Shell::Mksh, Netcat::Toybox).start();
    busy.answer_after(Duration::from_secs(120));
    deliver(busy.address(), b"TASK|Somebody|{\"task_id\": \"theirs\", \"prompt\": \"long\"}\n", SOON);
    wait_until(SOON, "the busy device to be busy", || (busy.prompts().len() == 1).then_some(()));
    let off = Port::free();
    let asking = BidmeshProcess::build("Asking")
        .peer("Healthy", healthy.address())
        .peer("Busy", busy.address())
        .peer("Off", off.address())
        .peer("Silent", silent_peer())
        .start();
    asking.wait_until_heard(&["Healthy"]);

    for number in 0..3 {
        let answer = asking.ask(&format!("prompt {number}"));
        assert_eq!(answer["device_id"], "Healthy", "{answer:#}");
        let auctions = answer["decision"]["auctions"].as_array().unwrap();
        assert_eq!(auctions.len(), 1, "{answer:#}");
        let lasted = milliseconds(&auctions[0]["closed_ms"]) - milliseconds(&auctions[0]["opened_ms"]);
        let answers = auctions[0]["answers"].as_array().unwrap();
        let bid = answers.iter().find(|answered| answered["device_id"] == "Healthy").unwrap();
        assert_eq!(bid["answer"], "bid", "{answer:#}");
        let within = milliseconds(&bid["at_ms"]) + PATIENCE_MS + SLACK_MS;
        assert!(lasted <= within && within < BID_DEADLINE_MS, "{lasted} ms, not {within} ms: {answer:#}");
        // By then it is known that there is nobody to wait for.
        if number == 2 {
            assert!(lasted < PATIENCE_MS, "{lasted} ms: {answer:#}");
        }
    }
    assert_eq!(runner.started().len(), 3);
}

#[test]
fn a_lone_slow_bidder_is_waited_for_beyond_patience() {
    let runner = Runner::new();
    let mut slow = BidmeshProcess::build("Slow").runner(&runner).start();
    let asking = BidmeshProcess::build("Asking")
        .peer("Slow", slow.address())
        .setting("timing.patience", "200ms")
        .start();
    asking.wait_until_heard(&["Slow"]);
    slow.signal(bidmesh_tests::Signal::STOP);
    let asked = asking.spawn(&["--json", "ask", "--to", "Slow", "hello"]);
    let opened = wait_until(SOON, "the auction to be open", || {
        let task = asking.status()["tasks"].as_array()?.first().cloned()?;
        (task["phase"] == "auction" && task["age_ms"].as_u64()? > 1_000).then_some(task)
    });
    slow.signal(bidmesh_tests::Signal::CONT);
    let answer: Value = serde_json::from_str(&asked.finish(SOON).stdout()).unwrap();
    assert_eq!(answer["device_id"], "Slow", "{opened:#} {answer:#}");
    slow.stop(SOON);
}
