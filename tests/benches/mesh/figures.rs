//! Rounds in turn, and what is printed of them.

use std::time::Duration;

/// Times of one thing, in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn median(&self) -> Duration {
        self.share(50)
    }

    /// The time that so many percent of the others do not exceed.
    pub(crate) fn share(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1).expect("at least one round");
        sorted[last * percent / 100]
    }
}

/// Prints one thing beside what it is compared with: medians, their ratio, and how far the middle half of the rounds
/// lies apart.
pub(crate) fn compare(what: &str, mesh: &Times, bare: &Times) {
    let ratio = mesh.median().as_secs_f64() / bare.median().as_secs_f64();
    println!("{what:<44} {:>22} {:>22} {ratio:>7.2}", spread(mesh), spread(bare));
}

pub(crate) fn heading(title: &str, mesh: &str, bare: &str) {
    println!("\n{title:<44} {mesh:>22} {bare:>22} {:>7}", "ratio");
}

/// The median, and the middle half of the rounds.
pub(crate) fn spread(times: &Times) -> String {
    format!("{} ({}-{})", show(times.median()), show(times.share(25)), show(times.share(75)))
}

pub(crate) fn show(time: Duration) -> String {
    let us = time.as_micros();
    if us < 10_000 { format!("{us}us") } else { format!("{}ms", us / 1_000) }
}
