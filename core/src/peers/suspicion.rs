//! How much a peer's silence means, by that peer's own timing; and how often it came and went.
//!
//! The suspicion level is the phi of accrual failure detection (N. Hayashibara, X. Défago, R. Yared, T. Katayama: The
//! phi accrual failure detector, SRDS 2004): minus the decimal logarithm of the chance that a sign of life comes
//! later still, if the gaps between them are normally distributed with the mean and deviation seen lately. A level
//! of 5 is wrong once in 100,000 gaps. Only whole numbers are used: the distribution is a table.
//!
//! Flapping is damped as routes are in RFC 2439: each return adds to a penalty that halves with time; above one
//! limit the peer is not waited for until the penalty has fallen below a lower one.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::canonical::Renewal;
use crate::time::Time;

/// Gaps that are remembered of each peer.
pub(crate) const GAPS: usize = 16;
/// From so many gaps on a rhythm is known; before that silence means nothing.
const GAPS_MIN: usize = 3;
/// A shorter gap is no rhythm but a greeting, a longer one an absence.
const GAP_MIN: Duration = Duration::from_secs(1);
const GAP_MAX: Duration = Duration::from_secs(3600);
/// The deviation is taken for this at least, in milliseconds: a peer that was punctual sixteen times may be held up once.
const DEVIATION_MIN: u64 = 1_000;
/// And for this part of the mean at least: one lost heartbeat alone must not make a peer suspect.
const DEVIATION_OF_MEAN: u64 = 3;
/// How many thousandths of the deviation a silence lies beyond the mean where the level is 1, 2, 3 …: the quantiles of
/// the normal distribution at 1 - 10^-level.
const QUANTILES: [u64; 12] =
    [1_282, 2_326, 3_090, 3_719, 4_265, 4_753, 5_199, 5_612, 5_998, 6_361, 6_706, 7_034];
/// The level in tenths at the mean itself, where half of all signs of life have come.
const LEVEL_AT_MEAN: u64 = 3;

/// How regularly a peer gives signs of life: the gaps before its heartbeats, in milliseconds, the latest last. What a
/// peer says otherwise shows that it lives and says nothing about its rhythm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Rhythm {
    gaps: VecDeque<u32>,
}

impl Rhythm {
    /// A heartbeat came after such a gap.
    pub(crate) fn note(&mut self, gap: Duration) {
        if !(GAP_MIN..=GAP_MAX).contains(&gap) {
            return;
        }
        if self.gaps.len() >= GAPS {
            self.gaps.pop_front();
        }
        // An hour of milliseconds fits.
        self.gaps.push_back(u32::try_from(gap.as_millis()).unwrap_or(u32::MAX));
    }

    pub(crate) fn len(&self) -> usize {
        self.gaps.len()
    }

    /// Mean and deviation in milliseconds, once enough is known.
    fn shape(&self) -> Option<(u64, u64)> {
        if self.gaps.len() < GAPS_MIN {
            return None;
        }
        // Sixteen squares of an hour stay below 2^58.
        let count = self.gaps.len() as u64;
        let mean = self.gaps.iter().map(|gap| u64::from(*gap)).sum::<u64>() / count;
        let squares = self.gaps.iter().map(|gap| u64::from(*gap).abs_diff(mean).pow(2)).sum::<u64>();
        let deviation = (squares / count).isqrt();
        Some((mean, deviation.max(mean / DEVIATION_OF_MEAN).max(DEVIATION_MIN)))
    }

    /// How long a silence must be for this level of suspicion; `None` while no rhythm is known.
    pub(crate) fn silence_at(&self, level: u8) -> Option<Duration> {
        let (mean, deviation) = self.shape()?;
        let quantile = QUANTILES[usize::from(level).clamp(1, QUANTILES.len()) - 1];
        Some(Duration::from_millis(mean + deviation * quantile / 1_000))
    }

    /// The level of suspicion after such a silence, in tenths, evenly between the whole ones; `None` while no rhythm
    /// is known.
    pub(crate) fn level(&self, silence: Duration) -> Option<u16> {
        let (mean, deviation) = self.shape()?;
        let silence = u64::try_from(silence.min(GAP_MAX * 24).as_millis()).unwrap_or(u64::MAX);
        let Some(beyond) = silence.checked_sub(mean) else { return Some(0) };
        let beyond = beyond.saturating_mul(1_000) / deviation;
        let (mut from, mut level) = (0, LEVEL_AT_MEAN);
        for (quantile, next) in QUANTILES.into_iter().zip((10..).step_by(10)) {
            if beyond < quantile {
                level += (next - level) * (beyond - from) / (quantile - from);
                break;
            }
            (from, level) = (quantile, next);
        }
        u16::try_from(level).ok()
    }

    /// It was started anew: another program, perhaps other settings.
    pub(crate) fn forget(&mut self) {
        self.gaps.clear();
    }
}

/// What one return adds to a penalty.
const PENALTY: u32 = 1_000;
/// Above this a peer is damped …
const DAMPED_ABOVE: u32 = 2_000;
/// … until the penalty has fallen to this.
const TRUSTED_AT: u32 = 750;
/// It grows no further, so that damping ends after two and a half half-lives at the latest.
const PENALTY_MAX: u32 = 4_000;
/// Halvings after which nothing is left of any penalty.
const HALVINGS_MAX: u32 = 12;

/// How often a peer came back after it had been suspect or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Flaps {
    penalty: u32,
    at: Time,
    until: Option<Time>,
}

impl Flaps {
    /// It came back. `half_life` zero: nothing is damped.
    pub(crate) fn returned(&mut self, now: Time, half_life: Duration) {
        if half_life.is_zero() {
            return;
        }
        self.penalty = (self.left(now, half_life) + PENALTY).min(PENALTY_MAX);
        self.at = now;
        if self.penalty > DAMPED_ABOVE {
            self.until = Some(now + time_to_trust(self.penalty, half_life));
        }
    }

    /// What is left of the penalty; evenly between two halvings.
    fn left(&self, now: Time, half_life: Duration) -> u32 {
        let (age, half) = (now.since(self.at).as_millis(), half_life.as_millis().max(1));
        let halvings = u32::try_from(age / half).unwrap_or(HALVINGS_MAX);
        if halvings >= HALVINGS_MAX {
            return 0;
        }
        let whole = self.penalty >> halvings;
        let part = u128::from(whole / 2) * (age % half) / half;
        whole - u32::try_from(part).unwrap_or(0)
    }

    /// Until when it is not waited for, if that is not over.
    pub(crate) fn damped_until(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| *until > now)
    }

    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal, half_life: Duration) {
        if half_life.is_zero() || self.left(by.now(), half_life) == 0 {
            *self = Self::default();
            return;
        }
        self.at = by.past(self.at, half_life.saturating_mul(HALVINGS_MAX));
        self.until = self.damped_until(by.now()).map(|until| by.due(until));
    }
}

/// How long until a penalty has fallen far enough.
fn time_to_trust(penalty: u32, half_life: Duration) -> Duration {
    let halvings = (0..HALVINGS_MAX).take_while(|n| penalty >> (n + 1) >= TRUSTED_AT).count();
    let halvings = u32::try_from(halvings).unwrap_or(HALVINGS_MAX);
    let rest = penalty >> halvings;
    // From `rest` down to half of it the way is even.
    let part = half_life.saturating_mul((rest - TRUSTED_AT.min(rest)) * 2) / rest.max(1);
    half_life.saturating_mul(halvings) + part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Canonical, Numbers};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn rhythm(gaps: &[u64]) -> Rhythm {
        let mut rhythm = Rhythm::default();
        gaps.iter().for_each(|gap| rhythm.note(Duration::from_millis(*gap)));
        rhythm
    }

    fn at(seconds: u64) -> Time {
        Time::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn two_gaps_are_no_rhythm() {
        assert_eq!(rhythm(&[30_000, 30_000]).silence_at(5), None);
        assert_eq!(rhythm(&[30_000, 30_000]).level(Duration::MAX), None);
        assert!(rhythm(&[30_000; 3]).silence_at(5).is_some());
    }

    #[test]
    fn greetings_and_absences_are_no_rhythm() {
        let rhythm = rhythm(&[999, 3_600_001, 1_000, 3_600_000]);
        assert_eq!(rhythm.gaps, [1_000, 3_600_000]);
    }

    #[test]
    fn a_punctual_peer_is_suspect_after_two_lost_heartbeats_and_gone_after_three() {
        let rhythm = rhythm(&[30_000; 16]);
        // 30 s, and 4.265 times a third of it.
        assert_eq!(rhythm.silence_at(5), Some(Duration::from_millis(72_650)));
        assert_eq!(rhythm.silence_at(10), Some(Duration::from_millis(93_610)));
    }

    #[test]
    fn an_irregular_peer_is_given_more_time() {
        let regular = rhythm(&[30_000; 16]).silence_at(5);
        let irregular = rhythm(&[5_000, 60_000, 10_000, 90_000, 20_000, 50_000]).silence_at(5);
        assert!(irregular > regular.map(|time| time * 2), "{irregular:?}");
    }

    #[test]
    fn the_oldest_gaps_are_forgotten() {
        let mut gaps = alloc::vec![60_000; 16];
        gaps.extend([10_000; 16]);
        assert_eq!(rhythm(&gaps), rhythm(&[10_000; 16]));
    }

    #[test]
    fn the_level_is_ten_tenths_for_each_power_of_ten() {
        let rhythm = rhythm(&[30_000; 16]);
        let level = |seconds| rhythm.level(Duration::from_secs(seconds));
        assert_eq!(level(10), Some(0));
        assert_eq!(level(30), Some(3), "half of all signs of life have come by then");
        assert_eq!(level(43), Some(10), "one in ten comes later");
        assert_eq!(level(1_000), Some(120), "there the table ends");
    }

    #[test]
    fn the_third_return_in_a_short_time_is_damped_until_the_penalty_has_fallen() {
        let half = Duration::from_secs(120);
        let mut flaps = Flaps::default();
        flaps.returned(at(0), half);
        flaps.returned(at(10), half);
        assert_eq!(flaps.damped_until(at(10)), None);
        flaps.returned(at(20), half);
        let until = flaps.damped_until(at(20)).expect("damped");
        assert!(until > at(120) && until < at(320), "{until}");
        assert_eq!(flaps.damped_until(until), None);
        assert!(flaps.left(until, half).abs_diff(TRUSTED_AT) < 20, "{}", flaps.left(until, half));
    }

    #[test]
    fn two_returns_alone_damp_nobody() {
        let half = Duration::from_secs(120);
        let mut flaps = Flaps::default();
        flaps.returned(at(5), half);
        flaps.returned(at(5), half);
        assert_eq!(flaps.damped_until(at(5)), None, "not even in one moment");
    }

    #[test]
    fn a_penalty_that_is_gone_leaves_no_trace_and_one_that_is_not_does() {
        let half = Duration::from_secs(120);
        let mut damped = Flaps::default();
        (0..3).for_each(|second| damped.returned(at(second), half));
        let canonical = |seconds, half| {
            let mut flaps = damped;
            let nothing_open = Numbers { sends: Vec::new(), runs: Vec::new(), sequences: Vec::new() };
            flaps.canonical(&Renewal::new(at(seconds), nothing_open), half);
            flaps
        };
        assert_eq!(canonical(10_000, half), Flaps::default(), "it came to nothing");
        assert_eq!(canonical(10, Duration::ZERO), Flaps::default(), "nothing is damped");
        let present = Canonical::PRESENT;
        let left = |flaps: Flaps| flaps.damped_until(present).map(|until| until.since(present));
        let until = damped.damped_until(at(10)).expect("damped");
        assert_eq!(left(canonical(10, half)), Some(until.since(at(10))), "as long as before");
        assert_eq!(canonical(10, half).left(present, half), damped.left(at(10), half));
    }

    #[test]
    fn rare_returns_and_a_half_life_of_nothing_damp_nobody() {
        let mut flaps = Flaps::default();
        for hour in 0..100 {
            flaps.returned(at(hour * 3600), Duration::from_secs(120));
            assert_eq!(flaps.damped_until(at(hour * 3600)), None);
        }
        let mut flaps = Flaps::default();
        for second in 0..100 {
            flaps.returned(at(second), Duration::ZERO);
        }
        assert_eq!(flaps, Flaps::default());
    }

    proptest! {
        #[test]
        fn a_level_is_reached_when_it_says_and_grows_with_silence(
            gaps in prop::collection::vec(1_000u64..3_600_000, 3..20),
            level in 1u8..=12,
            silence in 0u64..100_000_000,
        ) {
            let rhythm = rhythm(&gaps);
            let reached = rhythm.silence_at(level).expect("known");
            let tenths = rhythm.level(reached).expect("known");
            // A millisecond is lost in rounding.
            prop_assert!(tenths.abs_diff(u16::from(level) * 10) <= 1, "{level}: {tenths}");
            let (sooner, later) = (rhythm.level(Duration::from_millis(silence)), rhythm.level(Duration::from_millis(silence + 1_000)));
            prop_assert!(sooner <= later);
            prop_assert!(level == 12 || rhythm.silence_at(level + 1) >= Some(reached));
        }

        #[test]
        fn damping_ends_after_two_and_a_half_half_lives(returns in prop::collection::vec(0u64..600, 1..40), half in 1u64..600) {
            let half = Duration::from_secs(half);
            let (mut flaps, mut now) = (Flaps::default(), at(0));
            for pause in returns {
                now += Duration::from_secs(pause);
                flaps.returned(now, half);
                prop_assert!(flaps.left(now, half) <= PENALTY_MAX);
                if let Some(until) = flaps.damped_until(now) {
                    prop_assert!(until.since(now) <= half * 5 / 2, "{:?}", until.since(now));
                }
            }
        }
    }
}
