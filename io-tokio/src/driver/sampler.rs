//! What is looked at now and then, in the background: the sensors, and whether the executor could run a prompt.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_core::input::{Executor as Ability, Sensors as Reading};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::shield::shield;
use crate::execute::Executor;
use crate::sensors::Sensors;

/// How often a device looks at itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Between two readings of the sensors while something is going on.
    pub sensors: Duration,
    /// The same on a device that has nothing to do; the first thing that happens causes a reading.
    pub sensors_idle: Duration,
    /// Between two looks at the executor. A failed run causes one, too.
    pub executor: Duration,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            sensors: Duration::from_secs(5),
            sensors_idle: Duration::from_secs(30),
            executor: Duration::from_secs(30),
        }
    }
}

/// How long a reading may take (some batteries answer late); then everything is unknown.
const READING: Duration = Duration::from_secs(20);

/// How long an executor may take to say what it can do; then it can do nothing.
const ABILITY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Sampler {
    tasks: JoinSet<()>,
    told: mpsc::Receiver<Input>,
    busy: Arc<Notify>,
    doubted: Arc<Notify>,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling, sensors: Arc<dyn Sensors>, executor: Arc<dyn Executor>) -> Self {
        let (tell, told) = mpsc::channel(2);
        let (busy, doubted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_executor(sampling, Arc::clone(&executor), Arc::clone(&doubted), tell.clone()));
        tasks.spawn(watch_sensors(sampling, sensors, executor, Arc::clone(&busy), tell));
        Self { tasks, told, busy, doubted }
    }

    /// Something is going on.
    pub(super) fn busy(&self) {
        self.busy.notify_one();
    }

    /// The executor failed: is it still there?
    pub(super) fn doubt_executor(&self) {
        self.doubted.notify_one();
    }

    pub(super) fn stop(&mut self) {
        self.tasks.abort_all();
    }

    /// The next reading. May be cancelled.
    pub(super) async fn next(&mut self) -> Input {
        match self.told.recv().await {
            Some(input) => input,
            // Both tasks ended: only after `stop`.
            None => pending().await,
        }
    }
}

async fn watch_sensors(
    sampling: Sampling,
    sensors: Arc<dyn Sensors>,
    executor: Arc<dyn Executor>,
    busy: Arc<Notify>,
    tell: mpsc::Sender<Input>,
) {
    loop {
        // What cannot be read in time is unknown, and what is unknown ranks last.
        let reading = match timeout(READING, shield(sensors.read())).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) | Err(_) => Reading::default(),
        };
        executor.on_battery(reading.charging == Some(false));
        if tell.send(Input::SensorsRead(reading)).await.is_err() {
            return;
        }
        tokio::time::sleep(sampling.sensors).await;
        let idle = sampling.sensors_idle.saturating_sub(sampling.sensors);
        // Either will do: something happened, or it is time all the same.
        let _ = timeout(idle, busy.notified()).await;
    }
}

async fn watch_executor(
    sampling: Sampling,
    executor: Arc<dyn Executor>,
    doubted: Arc<Notify>,
    tell: mpsc::Sender<Input>,
) {
    let mut last = None;
    loop {
        let ability = match timeout(ABILITY, shield(executor.ability())).await {
            Ok(Ok(ability)) => ability,
            Ok(Err(panic)) => unavailable(format!("the executor has a defect: {panic}")),
            Err(_) => unavailable(format!("the executor did not answer within {} s", ABILITY.as_secs())),
        };
        if last.as_ref() != Some(&ability) {
            last = Some(ability.clone());
            if tell.send(Input::ExecutorChanged(ability)).await.is_err() {
                return;
            }
        }
        let _ = timeout(sampling.executor, doubted.notified()).await;
    }
}

fn unavailable(why: String) -> Ability {
    Ability { available: false, npu: false, slots: None, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::{Generated, Job, Stop};
    use async_trait::async_trait;
    use bidmesh_core::input::RunOutcome;
    use bidmesh_core::load::Load;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use tokio::time::Instant;

    /// Counts how often it is asked; from the third time on it does not answer, or panics.
    #[derive(Default)]
    struct Tired(AtomicU32);

    #[async_trait]
    impl Sensors for Tired {
        async fn read(&self) -> Reading {
            let times = self.0.fetch_add(1, Relaxed);
            if times == 3 {
                pending::<()>().await;
            }
            Reading { cpu: Load::from_ppm(times), ..Reading::default() }
        }
    }

    #[async_trait]
    impl Executor for Tired {
        async fn ability(&self) -> Ability {
            match self.0.fetch_add(1, Relaxed) {
                0 | 1 => Ability { available: true, why: "a test".into(), ..Ability::default() },
                2 => panic!("as told"),
                _ => pending().await,
            }
        }

        async fn run(&self, _: Job, _: Generated, _: Stop) -> RunOutcome {
            RunOutcome::Stopped
        }
    }

    fn sampler() -> Sampler {
        Sampler::new(Sampling::default(), Arc::new(Tired::default()), Arc::new(Tired::default()))
    }

    async fn reading(sampler: &mut Sampler) -> Reading {
        loop {
            if let Input::SensorsRead(reading) = sampler.next().await {
                return reading;
            }
        }
    }

    async fn ability(sampler: &mut Sampler) -> Ability {
        loop {
            if let Input::ExecutorChanged(ability) = sampler.next().await {
                return ability;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sensors_are_read_seldom_while_nothing_happens_and_soon_when_something_does() {
        let mut sampler = sampler();
        let begun = Instant::now();
        reading(&mut sampler).await;
        assert_eq!(begun.elapsed().as_secs(), 0);
        reading(&mut sampler).await;
        assert_eq!(begun.elapsed().as_secs(), 30, "idle");
        sampler.busy();
        reading(&mut sampler).await;
        assert_eq!(begun.elapsed().as_secs(), 35, "busy");
        assert_eq!(
            reading(&mut sampler).await,
            Reading::default(),
            "a reading that takes too long is unknown"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_fails_to_answer_is_not_available() {
        let mut sampler = sampler();
        assert!(ability(&mut sampler).await.available);
        let begun = Instant::now();
        // The second answer is the same and not told.
        assert_eq!(ability(&mut sampler).await.why, "the executor has a defect: as told");
        assert_eq!(begun.elapsed().as_secs(), 60);
        sampler.doubt_executor();
        assert_eq!(ability(&mut sampler).await.why, "the executor did not answer within 5 s");
        assert_eq!(begun.elapsed().as_secs(), 65, "at once, and its limit");
    }
}
