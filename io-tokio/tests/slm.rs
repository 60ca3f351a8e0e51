//! The embedded executor with the real model that `.ci/setup` fetches. Nothing here depends on its exact words:
//! kernels of different processors part at near ties.

#![cfg(feature = "slm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on has failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bidmesh_core::input::{Generation, RunOutcome};
use bidmesh_io_tokio::execute::slm::{Model, ModelSettings, Sampling, SlmExecutor, SlmOptions};
use bidmesh_io_tokio::execute::{Executor, ExecutorSettings, ExecutorSpec, Generated, Job, Stop};

/// An answer takes seconds on a quiet machine, minutes under emulation.
const PATIENCE: Duration = Duration::from_secs(600);

/// The model; `None` where it is not there, which fails in CI.
fn model_file() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/SmolLM2-135M-Instruct.Q4_1.gguf");
    let file = std::env::var_os("BIDMESH_MODEL").map_or(installed, PathBuf::from);
    if file.is_file() {
        return Some(file);
    }
    let missing = format!("{} is not there: run .ci/setup, or set BIDMESH_MODEL", file.display());
    let continuous_integration = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
    assert!(!continuous_integration, "{missing}");
    eprintln!("LEFT OUT: {missing}");
    None
}

fn job(prompt: &str) -> Job {
    Job {
        label: "task_0123456789abc.1.k7q2m".to_owned(),
        prompt: prompt.into(),
        npu: false,
        limit: PATIENCE,
        output_bytes: 1_000_000,
    }
}

fn executor(file: PathBuf, tokens_max: u32, sampling: Sampling) -> SlmExecutor {
    let model = Model::shared(ModelSettings::new(file));
    SlmExecutor::new(model, SlmOptions { tokens_max, sampling, npu: false })
}

/// The answer, and in how many pieces it came.
async fn answer(executor: &dyn Executor, prompt: &str) -> (Generation, usize) {
    let (text, mut reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let read = async {
        let mut pieces = Vec::new();
        while let Some(piece) = reader.recv().await {
            pieces.push(piece.to_string());
        }
        pieces
    };
    let both = async { tokio::join!(executor.run(job(prompt), text, stop), read) };
    let (outcome, pieces) = tokio::time::timeout(PATIENCE, both).await.expect("the run hangs");
    let RunOutcome::Completed(generation) = outcome else { panic!("{outcome:?}") };
    assert_eq!(pieces.concat(), &*generation.text);
    (generation, pieces.len())
}

#[tokio::test]
async fn it_answers_in_pieces_and_counts() {
    let Some(file) = model_file() else { return };
    let executor = executor(file, 24, Sampling::Greedy);
    assert!(executor.ability().await.available);
    let (generation, pieces) = answer(&executor, "Name three fruits.").await;
    let tokens = generation.tokens.unwrap();
    // As llama.cpp counts this prompt with its frame.
    assert_eq!(tokens.prompt, 34);
    assert!((5..=24).contains(&tokens.generated), "{tokens:?}");
    assert!(pieces > 4, "{pieces} pieces");
    assert!(generation.text.starts_with("1. "), "{}", &*generation.text);
    assert!(executor.ability().await.why.contains("Smollm2 135M"));
}

#[tokio::test]
async fn an_answer_ends_by_itself() {
    let Some(file) = model_file() else { return };
    let (generation, _) = answer(&executor(file, 200, Sampling::Greedy), "What is 2+2?").await;
    let tokens = generation.tokens.unwrap();
    assert!(tokens.generated < 200, "it went on to the limit: {}", &*generation.text);
    assert!(!generation.text.contains("<|im_"), "{}", &*generation.text);
}

#[tokio::test]
async fn the_spec_builds_it_and_the_limit_of_tokens_is_exact() {
    let Some(file) = model_file() else { return };
    let settings = ExecutorSettings { tokens_max: Some(3), ..ExecutorSettings::default() };
    let executor = ExecutorSpec::Slm(Some(file)).build(settings).unwrap();
    let (generation, _) = answer(&*executor, "Tell me a long story.").await;
    assert_eq!(generation.tokens.unwrap().generated, 3);
}

#[tokio::test]
async fn letters_of_other_scripts_come_whole() {
    let Some(file) = model_file() else { return };
    let executor = executor(file, 40, Sampling::default());
    let (generation, _) = answer(&executor, "Repeat after me: \u{1f600} größer 日本語").await;
    assert!(generation.tokens.unwrap().prompt > 34);
    assert!(!generation.text.is_empty());
}

#[tokio::test]
async fn stopping_ends_an_answer_within_a_second() {
    let Some(file) = model_file() else { return };
    let executor = executor(file, 250, Sampling::Greedy);
    executor.model().warm().await.unwrap();
    let (text, mut reader) = Generated::channel(4);
    let (stopper, stop) = Stop::channel();
    let stop_after_the_first_piece = async {
        assert!(reader.recv().await.is_some());
        stopper.send(true).unwrap();
        Instant::now()
    };
    let run = executor.run(job("Tell me a long story."), text, stop);
    let (outcome, stopped) = tokio::join!(run, stop_after_the_first_piece);
    assert_eq!(outcome, RunOutcome::Stopped);
    assert!(stopped.elapsed() < Duration::from_secs(1));
    // The model itself is free again: 250 tokens take far longer than an answer of one.
    let short =
        SlmExecutor::new(executor.model().clone(), SlmOptions { tokens_max: 1, ..SlmOptions::default() });
    answer(&short, "Hi").await;
}
