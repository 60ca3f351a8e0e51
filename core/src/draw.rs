//! Randomness without a generator's state: every draw is a keyed hash of what it is for.
//!
//! Adding a draw in one place changes none elsewhere, and paths of a model checker that did the same things in
//! another order meet again in the same state.

use core::hash::Hasher;
use core::time::Duration;

use siphasher::sip::SipHasher24;

/// The key of all draws of one device; fresh at each start, and secret: award ids must not be guessable.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u64, u64);

impl Seed {
    /// A seed from 128 bits of the operating system's entropy.
    pub const fn new(bits: u128) -> Self {
        // Both halves are kept; nothing is cut away.
        #[allow(clippy::cast_possible_truncation)]
        Self((bits >> 64) as u64, bits as u64)
    }

    /// 64 bits that depend on the seed, the purpose and the parts, and on nothing else (SipHash-2-4).
    pub fn draw(self, purpose: &str, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        for part in core::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            // Lengths keep ("ab", "c") apart from ("a", "bc").
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        hasher.finish()
    }

    /// A duration evenly drawn from `low` to `high`, both included at millisecond grain.
    pub fn between(self, low: Duration, high: Duration, purpose: &str, parts: &[&[u8]]) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_millis()).unwrap_or(u64::MAX);
        low + Duration::from_millis(self.draw(purpose, parts) % span.saturating_add(1).max(1))
    }
}

impl From<u64> for Seed {
    /// A seed for tests and simulations.
    fn from(value: u64) -> Self {
        Self(value, 0x6269_646d_6573_6821)
    }
}

impl core::fmt::Debug for Seed {
    /// Hides the value: it would let a reader of a log forge results.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart() {
        let seed = Seed::from(1);
        assert_ne!(seed.draw("x", &[b"ab", b"c"]), seed.draw("x", &[b"a", b"bc"]));
        assert_eq!(seed.draw("x", &[b"ab"]), seed.draw("x", &[b"ab"]));
    }

    #[test]
    fn durations_stay_in_range() {
        let (low, high) = (Duration::from_millis(20), Duration::from_millis(50));
        for n in 0..200u64 {
            let drawn = Seed::from(n).between(low, high, "retry", &[]);
            assert!(drawn >= low && drawn <= high);
        }
    }
}
