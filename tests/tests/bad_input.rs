//! Bad input from outside: thousands of messages and connections that lie about everything, from a fixed seed, against
//! a running device. Its memory stays bounded, it keeps no connection, and it still bids and answers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bidmesh_tests::{
    BidmeshProcess, Runner, limit_descriptors, open_descriptors, processor_time, resident_bytes, try_until,
    wait_until,
};

const SOON: Duration = Duration::from_secs(60);
/// What the device may keep for good of all that was thrown at it. Its limits allow more: 16 MiB of unfinished
/// messages from one address, three times that while they are read.
const GROWTH_MAX: u64 = 96 << 20;
const SEED: u64 = 0x5eed_0008;

/// SplitMix64: the same sequence in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn choose<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A message of a known type in which nothing is true, or one with some bytes of it changed, cut off or repeated.
fn lie(random: &mut Random) -> Vec<u8> {
    let kind = random.choose(&[
        "HELLO",
        "DISCOVER",
        "TEXT",
        "SLM_RESULT",
        "BID_REQUEST",
        "BID_RESPONSE",
        "TASK",
        "RESULT",
        "REFUSE",
        "ACCEPT",
        "REJECT",
        "PROGRESS",
        "CANCEL",
        "ACK",
        "QUERY",
        "BYE",
        "NEWS",
        "",
    ]);
    // Not the friend's: HELLO may move a device by design, and for boot ids there is a test below.
    let from =
        random.choose(&["Device_A", "Somebody", "Liar", "", "a|b", "../../etc", "all", "\u{feff}Liar"]);
    let number =
        random.choose(&["0", "-1", "1e400", "NaN", "1e-400", "99999999999999999999", "true", "{}", "\"\""]);
    let text = random.choose(&["", "../x", "$(id)", "\\u0000", "\\ud800", "\\\\\\\\0042", "é", "\u{1b}[2J"]);
    let id = random.next();
    let address = random.choose(&["127.0.0.1:1", "0.0.0.0:0", "8.8.8.8:53", ":99999", "[::1]:9999", "x"]);
    let payload = match kind {
        "HELLO" | "DISCOVER" => format!("{address}:bidmesh/{number}:{id:x}"),
        "TEXT" | "SLM_RESULT" => text.repeat(20),
        _ => format!(
            "{{\"bidmesh\": {number}, \"boot\": \"{id:x}\", \"task_id\": \"task_{id:x}\", \"device_id\": \"{text}\", \
             \"bid_id\": \"{id:x}.1\", \"status\": \"completed\", \"output\": \"{text}\", \"prompt\": \"{text}\", \
             \"cpu_load\": {number}, \"ram_load\": {number}, \"battery\": {number}, \"has_npu\": {number}, \
             \"slots\": {number}, \"offset\": {number}, \"deadline\": {number}}}"
        ),
    };
    let mut message = format!("{kind}|{from}|{payload}\n").into_bytes();
    match random.below(4) {
        0 => message.truncate(usize::try_from(random.below(message.len() as u64)).unwrap()),
        1 => {
            let place = usize::try_from(random.below(message.len() as u64)).unwrap();
            message[place] = random.next().to_le_bytes()[0];
        }
        2 => message.extend_from_within(..),
        _ => {}
    }
    message
}

/// Writes what the device takes of these bytes, and does not wait for more than it says.
fn throw(to: SocketAddr, bytes: &[u8]) {
    // Whether it is refused, reset or read is the device's business.
    let Ok(mut stream) = TcpStream::connect_timeout(&to, SOON) else { return };
    let _ = stream.set_write_timeout(Some(SOON));
    let _ = stream.set_read_timeout(Some(SOON));
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The device under attack, and a friend that works with it.
struct Victim {
    runner: Runner,
    device: BidmeshProcess,
    friend: BidmeshProcess,
    before: u64,
}

impl Victim {
    fn start() -> Self {
        let runner = Runner::new();
        let device = BidmeshProcess::build("Device_A").runner(&runner).start();
        let friend = BidmeshProcess::build("Friend").peer("Device_A", device.address()).start();
        friend.wait_until_heard(&["Device_A"]);
        let victim = Self { runner, device, friend, before: 0 };
        victim.works("before");
        Self { before: resident_bytes(victim.device.process_id()), ..victim }
    }

    fn address(&self) -> SocketAddr {
        self.device.address()
    }

    /// It bids for its friend, runs the prompt, and answers its own person.
    fn works(&self, prompt: &str) {
        // For a moment after a flood its places may all be taken.
        let mut last = String::new();
        try_until(SOON, || {
            let asked = self.friend.run(&["--json", "ask", "--to", "Device_A", prompt]);
            last = asked.stdout() + &asked.stderr();
            (asked.code() == Some(0) && last.contains(&format!("\"output\":\"{prompt}\""))).then_some(())
        })
        .unwrap_or_else(|| panic!("the device does not work for its friend: {last}\n{}", self.device.log()));
        assert_eq!(self.device.ask(prompt)["output"], prompt);
    }

    /// Memory is bounded, nothing broke, everything still works.
    fn assert_unharmed(&self) {
        self.works("after");
        let now = resident_bytes(self.device.process_id());
        let grown = now.saturating_sub(self.before);
        assert!(grown <= GROWTH_MAX, "{} KiB before, {} KiB now", self.before >> 10, now >> 10);
        let status = self.device.status();
        for usage in status["usage"].as_array().unwrap() {
            assert!(usage["size"].as_u64() <= usage["limit"].as_u64(), "{usage}");
        }
        assert!(!self.device.stderr().contains("panicked"), "{}", self.device.stderr());
    }
}

#[test]
fn thousands_of_lies_change_nothing() {
    let victim = Victim::start();
    let mut random = Random(SEED);
    for _ in 0..4_000 {
        throw(victim.address(), &lie(&mut random));
    }
    for _ in 0..500 {
        let length = random.below(5_000);
        throw(victim.address(), &random.bytes(length));
    }
    victim.assert_unharmed();
    // What ran was asked for by those who may.
    let prompts = victim.runner.prompts();
    assert!(prompts.iter().all(|prompt| !prompt.contains("$(id)") && !prompt.contains("..")), "{prompts:?}");
}

#[test]
fn messages_over_the_limit_do_not_fill_the_memory() {
    let victim = Victim::start();
    let mut long = b"TASK|Friend|{\"task_id\": \"task_1\", \"prompt\": \"".to_vec();
    long.resize(16 << 20, b'a');
    for _ in 0..8 {
        throw(victim.address(), &long);
    }
    // And a JSON payload that is all depth.
    throw(victim.address(), format!("BID_REQUEST|Friend|{}", "{\"a\":[".repeat(500_000)).as_bytes());
    victim.assert_unharmed();
}

#[test]
fn connections_that_trickle_or_hang_cost_others_nothing() {
    let victim = Victim::start();
    // Each stays open with half a message, or with nothing at all: more of them than there are places.
    let mut open = Vec::new();
    for number in 0..300 {
        let Ok(mut stream) = TcpStream::connect(victim.address()) else { continue };
        if number % 2 == 0 {
            let _ = stream.write_all(b"BID_REQUEST|Friend|{\"task_id\": \"ta");
        }
        open.push(stream);
    }
    assert!(open.len() > 32, "{} connections", open.len());
    // One byte more each, while the friend asks from an address of its own.
    for stream in &mut open {
        let _ = stream.write_all(b"x");
    }
    victim.works("meanwhile");
    drop(open);
    victim.assert_unharmed();
}

#[test]
fn forged_answers_to_a_running_task_change_nothing() {
    forge_answers("");
}

/// As above, but the forged messages name a boot id too, which nobody can know to be wrong.
#[test]
fn forged_boot_ids_do_not_shut_out_the_true_peer() {
    forge_answers("\"bidmesh\": 1, \"boot\": \"0123abcd\", ");
}

fn forge_answers(marker: &str) {
    let victim = Victim::start();
    victim.runner.hold();
    let asked = victim.friend.spawn(&["--json", "ask", "--to", "Device_A", "the truth"]);
    let run = victim.runner.run(victim.runner.started().len());
    let (task, _) = run.award.split_once('.').unwrap();
    // Who saw the bid request knows the task, not the award's secret.
    for award in [task.to_owned(), format!("{task}.1"), format!("{task}.1.aaaaa"), format!("{task}.2.aaaaa")]
    {
        for from in ["Device_A", "Liar", "Friend"] {
            for message in [
                format!(
                    "RESULT|{from}|{{{marker}\"task_id\": \"{award}\", \"device_id\": \"{from}\", \"status\": \"completed\", \"output\": \"a lie\"}}\n"
                ),
                format!("ACCEPT|{from}|{{{marker}\"task_id\": \"{award}\"}}\n"),
                format!("REJECT|{from}|{{{marker}\"task_id\": \"{award}\", \"reason\": \"busy\"}}\n"),
                format!("CANCEL|{from}|{{{marker}\"task_id\": \"{award}\"}}\n"),
            ] {
                throw(victim.friend.address(), message.as_bytes());
                throw(victim.address(), message.as_bytes());
            }
        }
    }
    assert!(run.is_alive(), "a forged CANCEL stopped the run");
    victim.runner.release();
    let finished = asked.finish(SOON);
    assert!(
        finished.stdout().contains("\"output\":\"the truth\""),
        "{}{}",
        finished.stdout(),
        finished.stderr()
    );
    victim.assert_unharmed();
}

#[test]
fn floods_of_greetings_and_bid_requests_stay_within_the_limits() {
    let victim = Victim::start();
    for number in 0..1_200 {
        throw(victim.address(), format!("HELLO|Device_{number}|127.0.0.1:1\n").as_bytes());
    }
    for number in 0..500 {
        let request = format!(
            "BID_REQUEST|Device_{}|{{\"task_id\": \"task_{number}\", \"task_type\": \"slm_inference\", \"prompt\": \"\", \
             \"deadline\": 10}}\n",
            number % 500
        );
        throw(victim.address(), request.as_bytes());
    }
    victim.assert_unharmed();
    let peers = victim.device.status()["peers"].as_array().map(Vec::len).unwrap();
    assert!((500..=1024).contains(&peers), "{peers} peers");
    assert!(victim.device.peer("Friend").is_some(), "a flood drove out a friend");
}

/// The files and sockets that the process has open, once that has not changed for a second.
fn descriptors_at_rest(process: u32) -> BTreeSet<u64> {
    let mut last = (open_descriptors(process), Instant::now());
    wait_until(SOON, "no file or socket to be opened or closed", || {
        let open = open_descriptors(process);
        if open != last.0 {
            last = (open, Instant::now());
        }
        (last.1.elapsed() >= Duration::from_secs(1)).then(|| last.0.clone())
    })
}

/// Waits until the process has no more open than it had.
fn assert_gives_back(victim: &Victim, before: &BTreeSet<u64>) {
    let mut now = BTreeSet::new();
    try_until(SOON, || {
        now = open_descriptors(victim.device.process_id());
        (now.len() <= before.len()).then_some(())
    })
    .unwrap_or_else(|| panic!("open before: {before:?}, now: {now:?}\n{}", victim.device.log()));
}

#[test]
fn no_file_descriptor_is_kept() {
    let victim = Victim::start();
    let process = victim.device.process_id();
    let before = descriptors_at_rest(process);
    let mut random = Random(SEED);
    // These are never closed from our side: the device has to hang up.
    let mut open = Vec::new();
    for number in 0..300 {
        throw(victim.address(), &lie(&mut random));
        throw(victim.address(), b"");
        let Ok(mut stream) = TcpStream::connect(victim.address()) else { continue };
        match number % 3 {
            0 => open.push(stream),
            1 => {
                let _ = stream.write_all(b"TASK|Friend|{\"task_id\": \"ta");
                open.push(stream);
            }
            // Closed by us with bytes on their way.
            _ => drop(stream.write_all(&random.bytes(50_000))),
        }
    }
    let meanwhile = open_descriptors(process);
    assert!(meanwhile.len() > before.len() + 20, "{before:?}, while connections hang {meanwhile:?}");
    for prompt in ["one", "two", "three"] {
        victim.works(prompt);
    }
    assert_gives_back(&victim, &before);
    drop(open);
    victim.assert_unharmed();
}

#[test]
fn a_device_without_file_descriptors_waits_for_them() {
    let victim = Victim::start();
    let process = victim.device.process_id();
    let before = descriptors_at_rest(process);
    let first_free = (0..).find(|number| !before.contains(number)).unwrap();
    let limit = limit_descriptors(process, first_free);
    let mut stream = TcpStream::connect(victim.address()).unwrap();
    stream.write_all(b"TEXT|Friend|are you there?\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let worked = processor_time(process);
    let answer = stream.read(&mut [0]);
    let worked = processor_time(process).saturating_sub(worked);
    assert!(answer.is_err(), "nobody can take the connection: {answer:?}");
    // 10 ms as measured; without pauses half a second and more, on a machine with much other work.
    assert!(worked < Duration::from_millis(150), "it tries again without a pause: {worked:?} in two seconds");
    limit_descriptors(process, limit);
    // The connection waited in the kernel.
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(stream.read(&mut [0]).ok(), Some(0), "the message is read now");
    victim.device.wait_for_log("are you there?", SOON);
    victim.works("again");
    assert_gives_back(&victim, &before);
    victim.assert_unharmed();
}
