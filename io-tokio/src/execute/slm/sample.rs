//! Which token comes next.

use super::error::SlmError;

/// How many of the last tokens of an answer are held against their repetition.
const REMEMBERED: usize = 64;

/// How an answer is drawn from what the model thinks likely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Always the likeliest token: the same answer every time, and now and then one that loops.
    Greedy,
    /// Drawn from the likeliest tokens.
    Nucleus {
        /// Above 0; how much the unlikely is preferred to what it would be. The smaller, the nearer to greedy.
        temperature: f32,
        /// From 0 to 1: the share of probability that the tokens that are drawn from have together.
        top_p: f32,
        /// From 1 on: by how much less likely a token is, on the model's own scale, once it was in the answer.
        repetition_penalty: f32,
        /// Makes the draws; `None`: another one for each award.
        seed: Option<u64>,
    },
}

impl Default for Sampling {
    /// What the card of SmolLM2 recommends, and a little against loops.
    fn default() -> Self {
        Self::Nucleus { temperature: 0.2, top_p: 0.9, repetition_penalty: 1.1, seed: None }
    }
}

/// Draws the tokens of one answer.
pub(super) struct Sampler {
    sampling: Sampling,
    random: Random,
    /// The last tokens of the answer.
    last: Vec<u32>,
}

impl Sampler {
    /// `label` makes the draws where no seed is set.
    pub(super) fn new(sampling: Sampling, label: &str) -> Self {
        let seed = match sampling {
            Sampling::Nucleus { seed: Some(seed), .. } => seed,
            // FNV-1a: enough to make two awards differ.
            _ => label.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
        };
        Self { sampling, random: Random(seed), last: Vec::new() }
    }

    /// The next token, out of how well each would follow.
    pub(super) fn next(&mut self, mut logits: Vec<f32>) -> Result<u32, SlmError> {
        let token = match self.sampling {
            Sampling::Greedy => likeliest(&logits)?.0,
            Sampling::Nucleus { temperature, top_p, repetition_penalty, .. } => {
                self.penalize(&mut logits, repetition_penalty);
                let (token, best) = likeliest(&logits)?;
                let temperature = temperature.max(f32::MIN_POSITIVE);
                let weights = logits.iter().map(|logit| ((logit - best) / temperature).exp());
                self.draw(weights.collect(), top_p).unwrap_or(token)
            }
        };
        if self.last.len() == REMEMBERED {
            self.last.remove(0);
        }
        self.last.push(token);
        Ok(token)
    }

    fn penalize(&self, logits: &mut [f32], penalty: f32) {
        let mut seen = self.last.clone();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = usize::try_from(token).ok().and_then(|token| logits.get_mut(token)) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Draws one of the heaviest, which have the share `top_p` of the weight together.
    fn draw(&mut self, weights: Vec<f32>, top_p: f32) -> Option<u32> {
        let total: f32 = weights.iter().sum();
        // What weighs next to nothing is left out before sorting: nearly the whole vocabulary.
        let mut heaviest: Vec<(f32, u32)> =
            weights.into_iter().zip(0..).filter(|(weight, _)| *weight > total * 1e-6).collect();
        heaviest.sort_unstable_by(|(left, l), (right, r)| right.total_cmp(left).then(l.cmp(r)));
        let mut kept = 0.0;
        let nucleus = heaviest.iter().position(|(weight, _)| {
            kept += weight;
            kept >= total * top_p
        });
        heaviest.truncate(nucleus.map_or(heaviest.len(), |last| last + 1));
        let mut left = self.random.share() * kept;
        let drawn = heaviest.iter().find(|(weight, _)| {
            left -= weight;
            left < 0.0
        });
        drawn.or(heaviest.first()).map(|(_, token)| *token)
    }
}

/// The best token, the first one of equals, and how good it is.
fn likeliest(logits: &[f32]) -> Result<(u32, f32), SlmError> {
    let numbered = logits.iter().copied().zip(0_u32..);
    let best = numbered.reduce(|best, next| if next.0.total_cmp(&best.0).is_gt() { next } else { best });
    match best {
        Some((logit, token)) if logit.is_finite() => Ok((token, logit)),
        _ => Err(SlmError::new("it computed something that is no number: fetch it again".to_owned())),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, without 1.
    fn share(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[allow(clippy::cast_precision_loss)] // 24 bits are exact.
        let share = (mixed >> 40) as f32 / (1_u32 << 24) as f32;
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nucleus(temperature: f32, top_p: f32, repetition_penalty: f32) -> Sampling {
        Sampling::Nucleus { temperature, top_p, repetition_penalty, seed: Some(7) }
    }

    fn drawn(sampling: Sampling, logits: &[f32], times: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, "");
        (0..times).map(|_| sampler.next(logits.to_vec()).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_best_and_the_first_of_equals() {
        assert_eq!(drawn(Sampling::Greedy, &[0.5, 2.0, -1.0, 2.0], 2), [1, 1]);
    }

    #[test]
    fn shares_of_draws_are_shares_of_probability() {
        // e^0 : e^1 as 0.27 : 0.73.
        let tokens = drawn(nucleus(1.0, 1.0, 1.0), &[0.0, 1.0], 10_000);
        let ones = tokens.iter().filter(|token| **token == 1).count();
        assert!((7_100..7_500).contains(&ones), "{ones}");
    }

    #[test]
    fn what_is_outside_the_nucleus_is_never_drawn() {
        // 0.64, 0.24, 0.09, 0.03: the first two make 0.8.
        let tokens = drawn(nucleus(1.0, 0.8, 1.0), &[3.0, 2.0, 1.0, 0.0], 2_000);
        assert!(tokens.contains(&0) && tokens.contains(&1));
        assert!(tokens.iter().all(|token| *token < 2));
    }

    #[test]
    fn a_small_temperature_is_nearly_greedy() {
        assert_eq!(drawn(nucleus(0.01, 1.0, 1.0), &[1.0, 1.5, 0.0], 100), [1; 100]);
        assert_eq!(drawn(nucleus(0.0, 1.0, 1.0), &[1.0, 1.5, 0.0], 3), [1; 3]);
    }

    #[test]
    fn what_was_said_is_less_likely() {
        assert_eq!(drawn(nucleus(0.01, 1.0, 1.5), &[1.0, 1.2, -5.0], 2), [1, 0]);
    }

    #[test]
    fn the_seed_or_the_award_makes_the_draws() {
        let logits = [1.0; 50];
        let of = |seed, label: &str| {
            let sampling = Sampling::Nucleus { temperature: 1.0, top_p: 1.0, repetition_penalty: 1.0, seed };
            let mut sampler = Sampler::new(sampling, label);
            (0..8).map(|_| sampler.next(logits.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(Some(1), "a"), of(Some(1), "b"));
        assert_ne!(of(Some(1), "a"), of(Some(2), "a"));
        assert_eq!(of(None, "a"), of(None, "a"));
        assert_ne!(of(None, "a"), of(None, "b"));
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for logits in [vec![], vec![f32::NAN, 1.0], vec![f32::INFINITY], vec![f32::NEG_INFINITY]] {
            assert!(Sampler::new(Sampling::Greedy, "").next(logits.clone()).is_err(), "{logits:?}");
            assert!(Sampler::new(Sampling::default(), "").next(logits).is_err());
        }
    }
}
