//! Who is there, where nobody asks anything: heartbeats over real connections, a death that nobody hears of, a return.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::snapshot::Health;
use bidmesh_sim::{Mesh, Plan};

const SECOND: Duration = Duration::from_secs(1);

fn beating(id: &str) -> Plan {
    Plan::new(id).configure(|config| {
        config.detection.heartbeat = 5 * SECOND;
        config.detection.unreachable = 60 * SECOND;
    })
}

fn until_believed(mesh: &mut Mesh, limit: Duration, by: &str, of: &str, wanted: Health) {
    mesh.until_event(limit, &format!("{by} takes {of} for {}", wanted.as_str()), |at, event| {
        let told =
            matches!(event, Event::PeerHealth { peer, health } if peer.as_str() == of && *health == wanted);
        at.as_str() == by && told
    });
}

#[test]
fn an_idle_mesh_notices_a_flat_battery_and_a_return() {
    let plans = ["A", "B", "C"].map(beating);
    let mut mesh = Mesh::builder(61).tick(Duration::from_millis(4)).plans(plans).build();
    mesh.pass(60 * SECOND);
    let doubted = |event: &Event| matches!(event, Event::PeerHealth { .. });
    assert_eq!(mesh.count_events(|_, event| doubted(event)), 0, "nobody doubts anybody who beats");
    mesh.power_off("B");
    // At the next heartbeat to it: five seconds, and one in which it is tried.
    until_believed(&mut mesh, 8 * SECOND, "A", "B", Health::Suspect);
    // Its rhythm is five seconds, sometimes a little less; 10 on the scale is about three of them.
    until_believed(&mut mesh, 20 * SECOND, "A", "B", Health::Gone);
    until_believed(&mut mesh, 20 * SECOND, "C", "B", Health::Gone);
    mesh.start("B");
    until_believed(&mut mesh, 5 * SECOND, "A", "B", Health::Alive);
    mesh.pass(60 * SECOND);
    assert_eq!(mesh.count_events(|at, event| at.as_str() == "A" && doubted(event)), 3, "that was all");
    mesh.check();
}

#[test]
fn silence_alone_is_noticed_too() {
    let plans = ["A", "B"].map(beating);
    let mut mesh = Mesh::builder(62).tick(Duration::from_millis(4)).plans(plans).build();
    mesh.pass(60 * SECOND);
    // Nothing is refused and nothing arrives.
    mesh.hold("A", "B");
    until_believed(&mut mesh, 30 * SECOND, "A", "B", Health::Gone);
    mesh.release("A", "B");
    until_believed(&mut mesh, 60 * SECOND, "A", "B", Health::Alive);
    mesh.check();
}
