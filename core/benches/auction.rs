//! One auction in core by number of bidders: what a bid costs must not grow with them, but for a logarithm.
//!
//! `cargo bench -p bidmesh-core --bench auction` prints the table; the last column compares each row with the first.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may fail")]
#![allow(clippy::disallowed_types, reason = "it measures core from outside, with a clock and with fractions")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers of a benchmark")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bidmesh_core::draw::Seed;
use bidmesh_core::id::{BidId, BootId, DeviceId};
use bidmesh_core::input::Written;
use bidmesh_core::load::Load;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Advertised, Bid, Body, Capacity, Decoded, Marker, Message, Repairs};
use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Report, Submission, Time};

const BIDDERS: [u32; 4] = [10, 100, 1_000, 10_000];
/// Each row plays so many bids in all, so that rows are equally steady.
const BIDS: u32 = 200_000;

fn main() {
    println!("{:>8} {:>12} {:>12} {:>10} {:>10}", "bidders", "open ns/dev", "bid ns", "end us", "bid ratio");
    let mut first = None;
    for bidders in BIDDERS {
        let rounds = (BIDS / bidders).clamp(3, 2_000);
        let mut best: Option<Costs> = None;
        let mut mesh = Mesh::new(bidders);
        for _ in 0..rounds {
            let costs = mesh.auction();
            best = Some(best.map_or(costs, |best| best.least(costs)));
        }
        let costs = best.expect("at least one round");
        let base = *first.get_or_insert(costs.bid);
        println!(
            "{bidders:>8} {:>12.0} {:>12.0} {:>10.1} {:>10.2}",
            costs.open * 1e9,
            costs.bid * 1e9,
            costs.end * 1e6,
            costs.bid / base
        );
    }
}

/// Seconds: opening by device, one bid, and the end with its award.
#[derive(Clone, Copy)]
struct Costs {
    open: f64,
    bid: f64,
    end: f64,
}

impl Costs {
    fn least(self, other: Self) -> Self {
        Self { open: self.open.min(other.open), bid: self.bid.min(other.bid), end: self.end.min(other.end) }
    }
}

struct Mesh {
    device: Device,
    now: Duration,
    bidders: Vec<(DeviceId, SocketAddr, BootId)>,
    tickets: u64,
}

impl Mesh {
    fn new(bidders: u32) -> Self {
        let mut config = Config::default();
        config.limits.peers = 20_000;
        config.limits.outgoing = 50_000;
        let me = Identity {
            device: DeviceId::new("A").unwrap(),
            address: Some(SocketAddr::from(([10, 0, 0, 1], 1))),
        };
        let mut mesh = Self {
            device: Device::new(me, Seed::from(1), config, Restored::default()),
            now: Duration::ZERO,
            bidders: Vec::new(),
            tickets: 0,
        };
        for n in 0..bidders {
            let [_, b, c, d] = n.to_be_bytes();
            let id = DeviceId::new(&format!("D{n}")).unwrap();
            mesh.bidders.push((
                id,
                SocketAddr::from(([11, b, c, d], 9999)),
                BootId::new(&format!("b{n}")).unwrap(),
            ));
        }
        let lines = mesh.bidders.iter().map(|(id, address, _)| (id.clone(), *address)).collect();
        let out = mesh.handle(Input::PeersEdited(lines));
        mesh.deliver(&out);
        for n in 0..mesh.bidders.len() {
            let address = mesh.bidders[n].1;
            let out = mesh.hears(n, Body::Hello(Advertised::from(address)));
            mesh.deliver(&out);
        }
        mesh
    }

    fn handle(&mut self, input: Input) -> Outbox {
        self.now += Duration::from_nanos(1);
        let mut out = Outbox::default();
        self.device.handle(Time::from_start(self.now), input, &mut out);
        out
    }

    fn hears(&mut self, n: usize, body: Body) -> Outbox {
        let (from, source, boot) = self.bidders[n].clone();
        let message = Message { from, marker: Some(Marker { version: 1, boot }), body };
        self.handle(Input::Received { source, message: Ok(Decoded { message, repairs: Repairs::default() }) })
    }

    /// Every message is read at once.
    fn deliver(&mut self, out: &Outbox) {
        for action in &out.actions {
            match action {
                Action::Send { id, .. } => {
                    let out = self.handle(Input::Delivered { send: *id });
                    self.deliver(&out);
                }
                Action::Persist { sequence, .. } => {
                    let out =
                        self.handle(Input::Persisted { sequence: *sequence, written: Written::Durable });
                    self.deliver(&out);
                }
                _ => {}
            }
        }
    }

    /// One dry run: everybody is asked, everybody bids, the best is chosen.
    fn auction(&mut self) -> Costs {
        self.now += Duration::from_secs(60);
        self.tickets += 1;
        let mut submission = Submission::new(self.tickets, "hello");
        submission.dry_run = true;
        let start = Instant::now();
        let out = self.handle(Input::Submit(submission));
        let devices = self.bidders.len();
        let open = start.elapsed().as_secs_f64() / devices as f64;
        let task = out
            .actions
            .iter()
            .find_map(|action| match action {
                Action::Report(Report::Admitted { task, .. }) => Some(task.clone()),
                _ => None,
            })
            .unwrap();
        self.deliver(&out);
        let bid = |n: usize| Bid {
            task: Some(task.clone()),
            bid: Some(BidId::new(&format!("b{n}.7")).unwrap()),
            cpu: Load::from_ppm((n as u32).wrapping_mul(7_919) % 1_000_000),
            capacity: Some(Capacity { slots: 1, running: 0, yours: 0 }),
            ..Bid::default()
        };
        let bids: Vec<Bid> = (0..devices).map(bid).collect();
        let last = devices - 1;
        let start = Instant::now();
        for (n, bid) in bids.iter().take(last).enumerate() {
            black_box(self.hears(n, Body::BidResponse(bid.clone())));
        }
        let each = start.elapsed().as_secs_f64() / last as f64;
        let start = Instant::now();
        let out = self.hears(last, Body::BidResponse(bids[last].clone()));
        let end = start.elapsed().as_secs_f64();
        let decided = |action: &Action| matches!(action, Action::Report(Report::Outcome { outcome, .. }) if outcome.status == OutcomeStatus::Decided);
        assert!(out.actions.iter().any(decided), "the auction is over");
        Costs { open, bid: each, end }
    }
}
