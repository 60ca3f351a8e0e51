//! The executors that touch nothing.

use std::time::Duration;

use bidmesh_core::input::RunOutcome;
use bidmesh_io_tokio::execute::{ExecutorSettings, ExecutorSpec, Generated, Stop};

use crate::{completed, job, run};

#[tokio::test]
async fn none_is_unavailable_and_says_what_to_do() {
    let executor = ExecutorSpec::None.build(ExecutorSettings::default()).unwrap();
    let ability = executor.ability().await;
    assert!(!ability.available);
    assert!(ability.why.contains("command:PATH"), "{}", ability.why);
    assert_eq!(run(&*executor, job("x")).await.0, RunOutcome::Failed(ability.why.into()));
}

#[tokio::test(start_paused = true)]
async fn the_stand_in_says_that_it_is_one_word_by_word() {
    let settings =
        ExecutorSettings { word_delay: Duration::from_millis(100), npu: true, ..Default::default() };
    let executor = ExecutorSpec::StandIn.build(settings).unwrap();
    let ability = executor.ability().await;
    assert!(ability.available && ability.npu);
    let answer = "This is a stand-in, not a language model: none is configured here. \
                  Your prompt has 5 words and 20 bytes; it says: \"Why is the sky blue?\"";
    let prompt = job("Why is the sky blue?");
    assert_eq!(run(&*executor, prompt.clone()).await, (completed(answer), answer.to_owned()));

    let mut limited = prompt;
    limited.limit = Duration::from_millis(450);
    let (outcome, streamed) = run(&*executor, limited).await;
    assert!(matches!(outcome, RunOutcome::Failed(_)));
    assert_eq!(streamed, "This is a stand-in, ");
}

#[tokio::test(start_paused = true)]
async fn the_stand_in_stops_when_told() {
    let settings = ExecutorSettings { word_delay: Duration::from_secs(1), ..Default::default() };
    let executor = ExecutorSpec::StandIn.build(settings).unwrap();
    let (text, mut reader) = Generated::channel(4);
    let (stopper, stop) = Stop::channel();
    let read_one_and_stop = async {
        assert_eq!(reader.recv().await.as_deref(), Some("This "));
        stopper.send(true).unwrap();
    };
    let (outcome, ()) = tokio::join!(executor.run(job("x"), text, stop), read_one_and_stop);
    assert_eq!(outcome, RunOutcome::Stopped);
}
