//! A device of the shell mesh, as it was measured: one connection at a time, deaf while it measures or runs, a
//! closed port after each message of its own, answers to the first address that it ever noted for a name, several
//! spellings of netcat of which each may deliver, and a RESULT with the output pasted in raw.

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::SendFailure;

use super::choices::Choices;
use crate::echo::Echo;

/// How long its port is closed after each message.
const CLOSED: (u64, u64) = (105, 132);

/// A netcat, by what it does with a second client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netcat {
    /// toybox, openbsd: the kernel takes the connection, nobody reads it, it is reset in the end.
    Swallows,
    /// busybox, traditional, ncat: refused.
    Refuses,
}

/// A shell device.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Its name.
    pub id: DeviceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its peers.txt: lines are only ever added, and the first with a name is used.
    peers: Vec<(DeviceId, SocketAddr)>,
    netcat: Netcat,
    closed_until: Duration,
    /// It has no power.
    pub off: bool,
    /// Counts its starts: what it was doing before the last one is lost.
    pub boot: u64,
    /// Percent of runs for which its model script is missing.
    pub fails: u64,
    /// What its shell makes of what it prints.
    pub(crate) echo: Echo,
    /// Its software knows of no task ids.
    pub older: bool,
    /// Whether its awk prints loads as other things than numbers.
    pub odd_numbers: bool,
}

impl Shell {
    /// A shell device that knows these peers already.
    pub fn new(choices: &mut Choices, id: DeviceId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            peers: Vec::new(),
            netcat: choices.pick([Netcat::Swallows, Netcat::Refuses]),
            closed_until: Duration::ZERO,
            off: false,
            boot: 0,
            fails: choices.pick([0, 0, 0, 60]),
            echo: Echo::Mksh,
            older: false,
            odd_numbers: false,
        }
    }

    /// Why a connection made now is not read, if so.
    pub fn turns_away(&self, now: Duration) -> Option<SendFailure> {
        if self.closed_until <= now {
            return None;
        }
        Some(match self.netcat {
            Netcat::Refuses => SendFailure::Refused,
            Netcat::Swallows => SendFailure::Reset,
        })
    }

    /// It takes a message and is deaf while it works on it.
    pub fn takes(&mut self, choices: &mut Choices, at: Duration, work: Duration) {
        let closed = choices.millis(CLOSED.0, CLOSED.1);
        self.closed_until = self.closed_until.max(at + work + closed);
    }

    /// It sends a message of its own: its port is closed for a moment after that, too.
    pub fn says(&mut self, choices: &mut Choices, now: Duration) {
        let closed = choices.millis(CLOSED.0, CLOSED.1);
        self.closed_until = self.closed_until.max(now + closed);
    }

    /// HELLO or DISCOVER: the line is added unless that very line is there.
    pub fn notes(&mut self, id: &DeviceId, address: SocketAddr) {
        if !self.peers.iter().any(|(name, at)| name == id && *at == address) {
            self.peers.push((id.clone(), address));
        }
    }

    /// Where it answers a device: the first line with that name.
    pub fn address_of(&self, id: &DeviceId) -> Option<SocketAddr> {
        self.peers.iter().find(|(name, _)| name == id).map(|(_, address)| *address)
    }

    /// It starts again: peers.txt stays.
    pub fn restarts(&mut self, now: Duration) {
        self.off = false;
        self.boot += 1;
        self.closed_until = now;
    }

    /// The bytes of its bid.
    pub fn bid(&self, choices: &mut Choices) -> Vec<u8> {
        let ppm = choices.below(1_000_001);
        let plain = match ppm {
            0 => "0".into(),
            1_000_000 => "1".into(),
            ppm => format!("0.{ppm:06}"),
        };
        let cpu = if self.odd_numbers {
            choices.pick([
                "",
                "nan",
                "-nan",
                "inf",
                "1e999",
                "-1",
                "-0",
                "0,45",
                "1e-400",
                "45%",
                "18446744073709551616",
            ])
        } else {
            &plain
        };
        let (battery, npu) = (choices.pick([-1, 5, 50, 100]), choices.percent(25));
        let id = &self.id;
        format!(
            "BID_RESPONSE|{id}|{{\"device_id\": \"{id}\", \"cpu_load\": {cpu}, \"ram_load\": 0.0675015, \"battery\": {battery}, \"has_npu\": {npu}}}"
        )
        .into_bytes()
    }

    /// The bytes of its RESULT; `task` as it was in the TASK, empty if it had none.
    pub fn result(&self, task: &str, status: &str, output: &str) -> Vec<u8> {
        let id = &self.id;
        format!("RESULT|{id}|{{\"task_id\": \"{task}\", \"device_id\": \"{id}\", \"status\": \"{status}\", \"output\": \"{output}\"}}")
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_core::wire::{Body, WireLimits, decode};

    fn shell() -> Shell {
        let id = DeviceId::new("S0").unwrap();
        Shell::new(&mut Choices::split(1, "shell"), id, SocketAddr::from(([10, 0, 0, 9], 9999)))
    }

    #[test]
    fn the_first_address_wins() {
        let (mut shell, id) = (shell(), DeviceId::new("D0").unwrap());
        let at = |last| SocketAddr::from(([10, 0, 0, last], 9999));
        shell.notes(&id, at(1));
        shell.notes(&id, at(2));
        assert_eq!(shell.address_of(&id), Some(at(1)));
    }

    #[test]
    fn it_is_deaf_while_it_works_and_a_moment_longer() {
        let mut shell = shell();
        shell.takes(&mut Choices::split(1, "shell"), Duration::ZERO, Duration::from_secs(3));
        assert!(shell.turns_away(Duration::from_millis(3_100)).is_some());
        assert!(shell.turns_away(Duration::from_millis(3_133)).is_none());
    }

    #[test]
    fn what_it_sends_can_be_read() {
        let mut shell = shell();
        let mut choices = Choices::split(3, "shell");
        for odd in [false, true] {
            shell.odd_numbers = odd;
            for _ in 0..50 {
                let read = decode(&shell.bid(&mut choices), &WireLimits::default()).map(|d| d.message.body);
                assert!(matches!(read, Ok(Body::BidResponse(_))), "{read:?}");
            }
        }
        let raw = "\"quoted\", a \\n and\nanother line\"}";
        let read = decode(&shell.result("task_1", "completed", raw), &WireLimits::default());
        let Ok(Body::Result(result)) = read.map(|d| d.message.body) else { panic!("a RESULT") };
        assert_eq!(&*result.output, raw);
    }
}
