//! Whether a peer is there, and whether a worker takes work, as a person sees it: `peers list`, `status`, `why`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, Runner, wait_until};

/// Far more than any of it takes.
const IN_TIME: Duration = Duration::from_secs(60);

fn health(of: &BidmeshProcess, peer: &str) -> String {
    let peer = of.peer(peer).unwrap_or_default();
    peer["health"].as_str().unwrap_or_default().to_owned()
}

fn wait_for_health(of: &BidmeshProcess, peer: &str, wanted: &str) {
    let what = format!("{} to take {peer} for {wanted}", of.id());
    wait_until(IN_TIME, &what, || (health(of, peer) == wanted).then_some(()));
}

#[test]
fn a_killed_peer_is_gone_without_anybody_asking_and_back_when_it_starts_again() {
    let beating = |id: &str| {
        BidmeshProcess::build(id).setting("detection.heartbeat", "1s").setting("detection.unreachable", "3s")
    };
    let mut other = beating("Other").start();
    let one = beating("One").peer("Other", other.address()).start();
    one.wait_until_heard(&["Other"]);
    assert_eq!(health(&one, "Other"), "alive");
    other.kill();
    wait_for_health(&one, "Other", "gone");
    one.wait_for_log("Other: is gone, as far as can be known", IN_TIME);
    other.start_again();
    wait_for_health(&one, "Other", "alive");
}

#[test]
fn outside_its_hours_a_device_takes_no_work_and_why_says_so() {
    let runner = Runner::new();
    // No minute lies within these at any time of day, but one of the two does not hold now.
    let never_both = ["00:00-12:00", "12:00-00:00"];
    let devices = never_both
        .map(|hours| BidmeshProcess::build("Worker").setting("work.hours", hours).runner(&runner).start());
    let refuses = |device: &BidmeshProcess| device.status()["refuses"].as_str().map(str::to_owned);
    let resting = wait_until(IN_TIME, "one of the two to rest", || {
        devices.iter().find(|device| refuses(device).as_deref() == Some("hours"))
    });
    let asked = resting.run(&["ask", "--json", "hello"]);
    assert_ne!(asked.code(), Some(0));
    let why = resting.run(&["why"]).stdout();
    assert!(why.contains("refused: it is outside its working hours"), "{why}");
    assert!(runner.started().is_empty());
}
