//! What a prompt through the mesh costs, beside a bare program that moves the same bytes over as many TCP connections
//! in the same order of dependence. Both take turns in one run, so that the ratio means something on any machine.
//!
//! `cargo bench -p bidmesh-tests --bench mesh` runs all of it; names after `--` choose: `loopback`, `first-token`,
//! `throughput`, `batch`, `processes` (needs `cargo build --release -p bidmesh` before), `shell` (needs mksh and toybox).
//! `docs/benchmarks.md` says how to read the figures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may fail, and prints"
)]

mod bare;
mod devices;
mod figures;
mod loopback;
mod processes;
mod script;
mod shell;

fn main() {
    // Cargo adds `--bench`.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let parts: [(&str, fn()); 6] = [
        ("loopback", loopback::latency),
        ("first-token", loopback::first_token),
        ("throughput", loopback::throughput),
        ("batch", loopback::batch),
        ("processes", processes::latency),
        ("shell", shell::latency),
    ];
    for word in &chosen {
        assert!(
            parts.iter().any(|(name, _)| name == word),
            "no part is called {word}: {:?}",
            parts.map(|(name, _)| name)
        );
    }
    for (name, part) in parts {
        if chosen.is_empty() || chosen.iter().any(|word| word == name) {
            part();
        }
    }
}
