//! How long a device needs for a prompt: the fits of `sim/data/README.md`, in whole microseconds.

use std::time::Duration;

use bidmesh_core::load::Load;

use super::choices::Choices;

/// What runs prompts on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phone {
    /// A phone of the Snapdragon 8 Gen 2 class, on its processor.
    Kalama,
    /// One of the 8 Gen 3 class, on its processor.
    Pineapple,
    /// A phone with the model on its NPU.
    Npu,
    /// A laptop or a warm server: tens of milliseconds a token.
    Laptop,
}

/// How one run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Until the first token.
    pub first: Duration,
    /// For each further one.
    pub token: Duration,
}

impl Phone {
    /// One of them.
    pub fn draw(choices: &mut Choices) -> Self {
        choices.pick([Self::Kalama, Self::Pineapple, Self::Npu, Self::Laptop, Self::Laptop])
    }

    /// The pace of one run. `warm`: how many runs came before it, lately; `slower`: by how much a fault slows it.
    pub fn pace(self, choices: &mut Choices, cpu: Load, prompt_bytes: usize, warm: u64, slower: u32) -> Pace {
        let u = u64::from(cpu.ppm());
        // Four bytes a token, as in English.
        let n = (prompt_bytes as u64 / 4).max(1);
        let (first, token) = match self {
            Self::Kalama => {
                let a_token = 74_400 + 62_400 * u / 1_000_000;
                (770_000 + 10_900_000 * u / 1_000_000 + a_token * n, 160_000 + 1_740_000 * u / 1_000_000)
            }
            Self::Pineapple => {
                (740_000 + 3_700_000 * u / 1_000_000 + 20_000 * n, 108_000 + 623_000 * u / 1_000_000)
            }
            Self::Npu => (2_959_000 + n * 1_000_000 / 235, 49_261),
            Self::Laptop => (60_000 + 2_000 * n, 15_000),
        };
        // Noise of the data, and a phone that warms loses up to 30 %.
        let percent = 100 + choices.between(0, 16) + (warm * 3).min(30);
        let scale = |micros: u64| Duration::from_micros(micros * percent / 100) * slower.max(1);
        Pace { first: scale(first), token: scale(token) }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of a file")]
mod tests {
    use super::*;

    #[test]
    fn background_load_slows_the_first_token_as_measured() {
        let pace = |load| {
            let cpu = Load::from_ppm(load).unwrap();
            Phone::Kalama.pace(&mut Choices::split(1, "phone"), cpu, 400, 0, 1)
        };
        // 0.77 + 7.44 s idle, 11.67 + 13.68 s at full load; plus the noise.
        let (idle, full) = (pace(0).first.as_millis(), pace(1_000_000).first.as_millis());
        assert!((8_210..=9_600).contains(&idle) && (25_350..=29_500).contains(&full), "{idle} {full}");
    }

    /// Rows of a file: its numbers by column.
    fn rows(file: &str) -> Vec<Vec<f64>> {
        let numbers = |line: &str| line.trim().split(',').map(|word| word.parse().ok()).collect();
        file.lines().skip(1).filter_map(numbers).collect()
    }

    #[test]
    fn the_pace_of_a_phone_is_that_of_the_data() {
        let mut errors = Vec::new();
        for row in rows(include_str!("../../data/kalama-cpu-ttft.csv")) {
            let (load, tokens, measured) = (row[0], row[3] - 4.0, row[5]);
            let cpu = Load::from_ppm((load * 10_000.0) as u32).unwrap();
            let pace = Phone::Kalama.pace(&mut Choices::split(1, "phone"), cpu, tokens as usize * 4, 0, 1);
            errors.push((pace.first.as_secs_f64() / measured - 1.0).abs());
        }
        assert_eq!(errors.len(), 2_912);
        errors.sort_by(f64::total_cmp);
        // The fit itself is 7 % off at half; the world adds noise of up to 16 %.
        let median = errors[errors.len() / 2];
        assert!(median < 0.15, "{median}");
    }
}
