//! Measures the embedded model: `slm_speed MODEL.gguf [TOKENS]`. `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS` say on
//! how many threads.

use std::error::Error;
use std::time::{Duration, Instant};

use bidmesh_core::input::RunOutcome;
use bidmesh_io_tokio::execute::slm::{
    Model, ModelSettings, Sampling, SlmExecutor, SlmOptions, processor, settle_threads,
};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, Stop};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    processor()?;
    settle_threads(None)?;
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: slm_speed MODEL.gguf [TOKENS]")?;
    let tokens_max = arguments.next().map_or(Ok(64), |tokens| tokens.parse())?;

    let start = Instant::now();
    let model = Model::shared(ModelSettings::new(file));
    let name = model.warm().await?;
    println!("{name}: loaded in {:.2?}", start.elapsed());

    let options = SlmOptions { tokens_max, sampling: Sampling::Greedy, npu: false };
    let executor = SlmExecutor::new(model, options);
    for _ in 0..4 {
        measure(&executor).await?;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")) {
        println!("{line}");
    }
    Ok(())
}

async fn measure(executor: &SlmExecutor) -> Result<(), Box<dyn Error>> {
    let job = Job {
        label: "speed".to_owned(),
        prompt: "Explain why the sky is blue.".into(),
        npu: false,
        limit: Duration::from_secs(600),
        output_bytes: 1_000_000,
    };
    let (text, mut pieces) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let start = Instant::now();
    let read = async {
        let mut first = None;
        while pieces.recv().await.is_some() {
            first.get_or_insert_with(|| start.elapsed());
        }
        first.unwrap_or_default()
    };
    let (outcome, first) = tokio::join!(executor.run(job, text, stop), read);
    let decoding = start.elapsed() - first;
    let RunOutcome::Completed(generation) = outcome else { return Err(format!("{outcome:?}").into()) };
    let tokens = generation.tokens.ok_or("no tokens were counted")?;
    let speed = f64::from(tokens.generated.saturating_sub(1)) / decoding.as_secs_f64();
    println!("{tokens:?}: first after {first:.2?}, then {speed:.1} tokens/s: {}", &*generation.text);
    Ok(())
}
