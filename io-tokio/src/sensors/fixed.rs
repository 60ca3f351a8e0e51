//! Sensors that say what they are told to: for the demo, for tests and for simulations.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bidmesh_core::input::Sensors as Reading;

use super::{Description, Sensors, Source};

/// Sensors with values that a person or a test sets. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FixedSensors(Arc<Mutex<Reading>>);

impl FixedSensors {
    /// Sensors that say `reading` until told otherwise.
    pub fn new(reading: Reading) -> Self {
        Self(Arc::new(Mutex::new(reading)))
    }

    /// What they say from now on.
    pub fn set(&self, reading: Reading) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    fn get(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sensors for FixedSensors {
    async fn read(&self) -> Reading {
        self.get()
    }

    fn describe(&self) -> Description {
        let reading = self.get();
        let source = |known: bool| {
            if known { Source::measured("a fixed value") } else { Source::unknown("fixed as unknown") }
        };
        Description {
            cpu: source(reading.cpu.is_some()),
            ram: source(reading.ram.is_some()),
            battery: source(reading.battery.is_some()),
            temperature: source(reading.temperature.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_core::load::Load;

    #[tokio::test]
    async fn they_say_what_was_set_last() {
        let sensors = FixedSensors::default();
        let other = sensors.clone();
        assert_eq!(sensors.read().await, Reading::default());
        let reading = Reading { cpu: Some(Load::FULL), ..Reading::default() };
        other.set(reading);
        assert_eq!(sensors.read().await, reading);
        assert_eq!(sensors.describe().cpu.to_string(), "a fixed value");
    }
}
