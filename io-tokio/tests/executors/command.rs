//! The command executor against small shell scripts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bidmesh_core::input::RunOutcome;
use bidmesh_io_tokio::execute::command::CommandExecutor;
use bidmesh_io_tokio::execute::{Executor, Generated, Preset, Stop};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::{PATIENCE, completed, failure, job, run, until};

/// A script in a directory of its own.
struct Script {
    directory: TempDir,
    executor: CommandExecutor,
}

impl Script {
    /// `body` runs with `$DIR` as its directory for notes.
    fn new(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.sh");
        write_executable(&path, &format!("#!/bin/sh\nDIR='{}'\n{body}\n", directory.path().display()));
        let executor = CommandExecutor::new(path, directory.path().join("prompts"), false);
        Self { directory, executor }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A process id that the script wrote to a file.
    async fn process(&self, name: &str) -> Pid {
        let read = || {
            fs::read_to_string(self.file(name)).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok())
        };
        until(name, || read().is_some()).await;
        Pid::from_raw(read().unwrap()).unwrap()
    }

    fn prompts_left(&self) -> usize {
        fs::read_dir(self.file("prompts")).unwrap().count()
    }
}

/// Another process writes it: if this one did, a program that another test starts at this moment would inherit the
/// open file, and Linux starts no program that somebody may still write to.
fn write_executable(path: &Path, content: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// A process that somebody else has to reap is gone all the same.
fn is_gone(process: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(process).is_err() || state.contains(") Z ")
}

fn genie(body: &str) -> (CommandExecutor, TempDir) {
    let Script { directory, executor } = Script::new(body);
    (executor.with_preset(Preset::Genie), directory)
}

#[tokio::test]
async fn a_preset_takes_the_answer_out_of_the_noise() {
    let printed =
        "echo 'Using libGenie.so version 1.1.0'; printf '[BEGIN]: Hello! [E'; printf 'ND]\\n--- 7s ---\\n'";
    let (genie, _directory) = genie(printed);
    let said = run(&genie, job("hi")).await;
    assert_eq!(said, (completed("Hello!"), "Hello!".to_owned()));
    let (genie, _directory) = self::genie("echo 'Failed to create the dialog.'");
    let why = failure(&genie, job("hi")).await;
    assert!(why.contains("printed no `[BEGIN]:`"), "{why}");
}

#[tokio::test]
async fn a_program_gets_the_prompt_as_a_file_and_its_mode_in_the_environment() {
    let script = Script::new(
        r#"echo "$# $(cat "$1") $(stat -c %a "$1") $BIDMESH_TASK_ID $BIDMESH_USE_NPU $BIDMESH_MODE [$(cat)]"
        basename "$1" | grep -c '^bidmesh-prompt-task_0123456789abc.1.k7q2m-.*[.]txt$'"#,
    );
    let mut with_npu = job("Why is \"it\" $HOME `so`?\nNow");
    with_npu.npu = true;
    let answer = "1 Why is \"it\" $HOME `so`?\nNow 600 task_0123456789abc.1.k7q2m 1 npu []\n1";
    assert_eq!(run(&script.executor, with_npu).await, (completed(answer), answer.to_owned()));
    assert_eq!(script.prompts_left(), 0);
    let (outcome, _) = run(&script.executor, job("")).await;
    assert_eq!(outcome, completed("1  600 task_0123456789abc.1.k7q2m 0 cpu []\n1"));
}

#[tokio::test]
async fn a_label_never_names_a_path_outside_the_directory() {
    let script = Script::new("echo \"$1\"");
    let mut evil = job("x");
    evil.label = "../../evil/ß\n".to_owned();
    let RunOutcome::Completed(path) = run(&script.executor, evil).await.0 else { panic!() };
    let path = Path::new(&*path.text);
    assert_eq!(path.parent(), Some(&*script.file("prompts")));
    assert!(
        path.file_name().unwrap().to_str().unwrap().starts_with("bidmesh-prompt-.._.._evil___-"),
        "{path:?}"
    );
}

#[tokio::test]
async fn text_is_handed_out_while_the_program_works_and_newlines_at_the_end_are_not() {
    let script = Script::new(
        "printf 'one\\n\\n'; while [ ! -e $DIR/go ]; do sleep 0.01; done; printf 'tw\\303'; printf '\\266\\n\\n'",
    );
    let (text, mut reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let read = async {
        assert_eq!(reader.recv().await.as_deref(), Some("one"));
        fs::write(script.file("go"), "").unwrap();
        let mut rest = String::new();
        while let Some(piece) = reader.recv().await {
            rest.push_str(&piece);
        }
        rest
    };
    let (outcome, rest) = tokio::join!(script.executor.run(job("x"), text, stop), read);
    assert_eq!(outcome, completed("one\n\ntwö"));
    assert_eq!(rest, "\n\ntwö");
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_replaced() {
    let script = Script::new("printf 'a\\377b\\303'");
    let answer = "a\u{fffd}b\u{fffd}";
    assert_eq!(run(&script.executor, job("x")).await, (completed(answer), answer.to_owned()));
}

#[tokio::test]
async fn a_failure_tells_the_exit_status_and_the_last_words() {
    let script = Script::new("echo half; echo 'model not found:' >&2; echo ' /x.gguf' >&2; exit 3");
    let program = script.file("run.sh");
    let expected = format!("{} ended with exit status 3: model not found: /x.gguf", program.display());
    assert_eq!(failure(&script.executor, job("x")).await, expected);
    let silent = Script::new("kill -9 $$");
    let expected = format!("{} was ended by signal 9", silent.file("run.sh").display());
    assert_eq!(failure(&silent.executor, job("x")).await, expected);
}

#[tokio::test]
async fn endless_complaints_neither_block_the_program_nor_fill_the_error() {
    let script = Script::new("head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo last words >&2; exit 1");
    let why = failure(&script.executor, job("x")).await;
    assert!(why.ends_with("xxxlast words"), "{why}");
    assert!(why.len() < 1000, "{}", why.len());
}

#[tokio::test]
async fn the_time_limit_ends_the_program_and_what_it_started() {
    let script = Script::new("sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/leader; echo begun; wait");
    let mut short = job("x");
    short.limit = Duration::from_millis(700);
    let why = failure(&script.executor, short).await;
    assert!(why.ends_with("was stopped: it was not done after 700ms"), "{why}");
    // The leader was reaped: nothing of it is left, not even a zombie.
    assert!(test_kill_process(script.process("leader").await).is_err());
    let child = script.process("child").await;
    until("the child is gone", || is_gone(child)).await;
    assert_eq!(script.prompts_left(), 0);
}

/// Starts the script, waits for its process notes, stops it, and returns what was noted.
async fn stopped_midway(script: &Script, notes: &[&str]) -> Vec<Pid> {
    let (text, _reader) = Generated::channel(4);
    let (stopper, stop) = Stop::channel();
    let note_and_stop = async {
        let mut processes = Vec::new();
        for note in notes {
            processes.push(script.process(note).await);
        }
        assert!(processes.iter().all(|process| !is_gone(*process)));
        stopper.send(true).unwrap();
        processes
    };
    let both = async { tokio::join!(script.executor.run(job("x"), text, stop), note_and_stop) };
    let (outcome, processes) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert_eq!(outcome, RunOutcome::Stopped);
    processes
}

#[tokio::test]
async fn stopping_ends_the_whole_group_though_it_ignores_sigterm() {
    let script = Script::new(
        "trap '' TERM; sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/leader; wait; sleep 1000",
    );
    for process in stopped_midway(&script, &["child", "leader"]).await {
        until("gone", || is_gone(process)).await;
    }
    assert_eq!(script.prompts_left(), 0);
}

#[tokio::test]
async fn stopping_leaves_time_to_tidy_up() {
    let script = Script::new(
        "trap 'head -c 200000 /dev/zero; echo > $DIR/tidied; exit' TERM; echo $$ > $DIR/leader; \
         while true; do sleep 0.01; done",
    );
    stopped_midway(&script, &["leader"]).await;
    assert!(script.file("tidied").exists());
}

#[tokio::test]
async fn a_run_that_is_stopped_before_it_starts_starts_nothing() {
    let script = Script::new("echo fine");
    // To start this one would be a failure.
    let executor = CommandExecutor::new(script.file("missing"), script.file("prompts"), false);
    let (text, _reader) = Generated::channel(4);
    let (stopper, stop) = Stop::channel();
    drop(stopper);
    assert_eq!(executor.run(job("x"), text, stop).await, RunOutcome::Stopped);
    assert_eq!(script.prompts_left(), 0);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing_behind() {
    let script = Script::new("sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/leader; wait");
    let (text, _reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let processes = tokio::select! {
        outcome = script.executor.run(job("x"), text, stop) => panic!("{outcome:?}"),
        processes = async { [script.process("child").await, script.process("leader").await] } => processes,
    };
    for process in processes {
        until("gone", || is_gone(process)).await;
    }
    assert_eq!(script.prompts_left(), 0);
}

#[tokio::test]
async fn too_much_output_ends_the_program() {
    let script = Script::new("echo $$ > $DIR/leader; yes");
    let mut small = job("x");
    small.output_bytes = 10_000;
    let (outcome, streamed) = run(&script.executor, small).await;
    let RunOutcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    assert!(
        why.ends_with("was stopped: it generated more than the 10000 bytes that an output may have"),
        "{why}"
    );
    assert!(streamed.len() <= 10_000);
    assert!(test_kill_process(script.process("leader").await).is_err());
}

#[tokio::test]
async fn endless_newlines_are_too_much_too() {
    let script = Script::new("yes ''");
    let mut small = job("x");
    small.output_bytes = 10_000;
    assert!(failure(&script.executor, small).await.contains("more than the 10000 bytes"));
}

#[tokio::test]
async fn a_slow_reader_holds_the_program_up() {
    let script = Script::new("head -c 5000000 /dev/zero | tr '\\0' x; echo > $DIR/done");
    let (text, mut reader) = Generated::channel(1);
    let (_go_on, stop) = Stop::channel();
    let mut big = job("x");
    big.output_bytes = 5_000_000;
    let read = async {
        let mut bytes = 0;
        for _ in 0..50 {
            // Time for a program that nobody holds up.
            tokio::time::sleep(Duration::from_millis(2)).await;
            bytes += reader.recv().await.unwrap().len();
        }
        let done = script.file("done").exists();
        while let Some(piece) = reader.recv().await {
            bytes += piece.len();
        }
        (bytes, done)
    };
    let (outcome, (bytes, done)) = tokio::join!(script.executor.run(big, text, stop), read);
    assert!(matches!(outcome, RunOutcome::Completed(_)), "{outcome:?}");
    assert_eq!(bytes, 5_000_000);
    assert!(!done, "the program was done while nobody had read it");
}

#[tokio::test]
async fn a_reader_that_is_stuck_does_not_keep_a_run_from_being_stopped() {
    let script = Script::new("echo $$ > $DIR/leader; yes");
    let (text, reader) = Generated::channel(1);
    let (stopper, stop) = Stop::channel();
    let mut big = job("x");
    big.output_bytes = usize::MAX;
    let stop_it = async {
        until("the reader is full", || reader.len() == 1).await;
        stopper.send(true).unwrap();
    };
    let (outcome, ()) = tokio::join!(script.executor.run(big, text, stop), stop_it);
    assert_eq!(outcome, RunOutcome::Stopped);
}

#[tokio::test]
async fn what_a_child_prints_after_the_leader_ended_is_part_of_the_answer() {
    // The child prints when the fifo's only writer, the leader, is gone. One end of the two is closed at once.
    let child = "mkfifo $DIR/end; (read -r x < $DIR/end; printf late) &";
    let script = Script::new(&format!("exec 2>&-; {child} exec 3> $DIR/end; printf 'soon '"));
    assert_eq!(run(&script.executor, job("x")).await.0, completed("soon late"));
    let child = "mkfifo $DIR/end; (exec >&-; read -r x < $DIR/end; printf late >&2) &";
    let script = Script::new(&format!("{child} exec 3> $DIR/end >&-; printf 'soon ' >&2; exit 3"));
    let why = failure(&script.executor, job("x")).await;
    assert!(why.ends_with("ended with exit status 3: soon late"), "{why}");
}

#[tokio::test]
async fn a_program_that_closes_its_output_is_waited_for() {
    let script = Script::new("exec >&- 2>&-; sleep 0.05; exit 3");
    let why = failure(&script.executor, job("x")).await;
    assert!(why.ends_with("ended with exit status 3"), "{why}");
}

#[tokio::test]
async fn a_child_that_holds_the_output_does_not_hang_the_run() {
    let script = Script::new("sleep 1000 & echo $! > $DIR/child; echo answer");
    assert_eq!(run(&script.executor, job("x")).await.0, completed("answer"));
    let child = script.process("child").await;
    until("the child is gone", || is_gone(child)).await;
}

#[tokio::test]
async fn a_child_that_goes_on_printing_is_heard_for_a_moment_only() {
    let script = Script::new("yes & echo $! > $DIR/child; exit 0");
    let mut big = job("x");
    big.output_bytes = usize::MAX;
    let (outcome, _) = run(&script.executor, big).await;
    assert!(matches!(outcome, RunOutcome::Completed(_)), "{outcome:?}");
    let child = script.process("child").await;
    until("the child is gone", || is_gone(child)).await;
}

#[tokio::test]
async fn a_child_that_left_the_group_does_not_hang_the_run_either() {
    let script = Script::new("setsid sh -c 'echo $$ > '$DIR'/child; exec sleep 1000' & echo answer");
    let (outcome, _) = run(&script.executor, job("x")).await;
    // The executor cannot reach it: see there.
    let _ = kill_process(script.process("child").await, Signal::KILL);
    assert_eq!(outcome, completed("answer"));
}

#[tokio::test]
async fn what_cannot_be_started_says_what_to_do() {
    let script = Script::new("echo fine");
    let program = script.file("run.sh");
    let ability = script.executor.ability().await;
    assert_eq!((ability.available, ability.why), (true, format!("the program {}", program.display())));

    let mut errors = Vec::new();
    for (name, content, mode) in [
        ("missing", None, 0),
        ("plain", Some("#!/bin/sh\n"), 0o644),
        ("headless", Some("echo no interpreter\n"), 0o755),
        ("run.sh/below", None, 0),
    ] {
        let path = script.file(name);
        if let Some(content) = content {
            write_executable(&path, content);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let executor = CommandExecutor::new(&path, script.file("prompts"), true);
        let ability = executor.ability().await;
        assert!(ability.npu);
        let why = failure(&executor, job("x")).await;
        errors.push(format!("{} {why}", ability.available));
        // What was found out by trying is remembered.
        let ability = executor.ability().await;
        assert_eq!((ability.available, ability.why), (false, why));
    }
    let directory = CommandExecutor::new(script.directory.path(), script.file("prompts"), false);
    errors.push(format!("{} {}", directory.ability().await.available, failure(&directory, job("x")).await));
    let errors = errors.join("\n").replace(script.directory.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(errors, @r"
    false the program DIR/missing does not exist: put it there, or set another executor
    false the program DIR/plain is not executable: run `chmod +x DIR/plain`
    true DIR/headless cannot be started: it is no program for this processor, and no script whose first line is `#!` and an interpreter
    false the program DIR/run.sh/below cannot be looked at: Not a directory (os error 20)
    false DIR is no program, but a directory or device
    ");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_could_not_be_started_is_tried_again_after_a_minute() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("headless");
    write_executable(&path, "echo no interpreter\n");
    let executor = CommandExecutor::new(&path, directory.path().join("prompts"), false);
    failure(&executor, job("x")).await;
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert!(!executor.ability().await.available);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(executor.ability().await.available);
}

#[tokio::test]
async fn a_prompt_that_cannot_be_written_fails_the_run() {
    let script = Script::new("echo fine");
    fs::write(script.file("file"), "").unwrap();
    let executor = CommandExecutor::new(script.file("run.sh"), script.file("file"), false);
    let why = failure(&executor, job("x")).await;
    assert!(why.starts_with("the prompt cannot be written to a file in "), "{why}");
}

#[test]
fn only_old_prompt_files_of_this_program_are_removed_at_start() {
    let directory = tempfile::tempdir().unwrap();
    for (name, hours) in [
        ("bidmesh-prompt-a-1.txt", 25),
        ("bidmesh-prompt-b-2.txt", 0),
        ("bidmesh-prompt-c-3.txt", 23),
        ("prompt_task_1.txt", 48),
    ] {
        let file = fs::File::create(directory.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 60 * 60)).unwrap();
    }
    CommandExecutor::new("/bin/true", directory.path(), false);
    let mut left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["bidmesh-prompt-b-2.txt", "bidmesh-prompt-c-3.txt", "prompt_task_1.txt"]);
}
