//! What a message costs in memory is in proportion to its bytes, whatever they are. One test, in a program of its
//! own: the counter sees every thread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use bidmesh_core::wire::{Framer, WireLimits, decode};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes allocated at the peak for a byte of input. Bytes that are no UTF-8 become three, raw control characters
/// six; each is there once as text, once repaired, once unescaped by the JSON reader (in a buffer that doubles),
/// and once kept.
const BYTES_PER_BYTE_MAX: usize = 32;
/// What any message may cost beside that: ids, an error's text.
const BYTES_ALWAYS: usize = 4 * 1024;

#[test]
fn memory_is_in_proportion_to_the_bytes() {
    const LENGTH: usize = 256 * 1024;
    let fill = |head: &str, unit: &[u8], tail: &str| {
        let mut bytes = head.as_bytes().to_vec();
        while bytes.len() + unit.len() + tail.len() <= LENGTH {
            bytes.extend_from_slice(unit);
        }
        bytes.extend_from_slice(tail.as_bytes());
        bytes
    };
    let raw = "RESULT|A|{\"task_id\": \"t\", \"device_id\": \"A\", \"status\": \"completed\", \"output\": \"";
    for bytes in [
        fill("TEXT|A|", b"x", ""),
        fill("TEXT|A|", b"\xff", ""),
        fill(raw, b"\xff", "\"}"),
        fill(raw, b"\xff", ""),
        fill("TASK|A|{\"prompt\": \"", b"x", "\"}"),
        fill("TASK|A|{\"prompt\": \"", b"\\n", "\"}"),
        fill("TASK|A|{\"prompt\": \"", b"\n", "\"}"),
        fill("TASK|A|{\"prompt\": \"", b"\0", ""),
        fill("TASK|A|{\"prompt\": \"", b"\xff\0", "\"}"),
        fill("TASK|A|{\"task_id\": \"", b"\\u0001", "\"}"),
        fill("BID_RESPONSE|A|{\"x\": ", b"[", ""),
        fill("BID_RESPONSE|A|{", b"\"x\":,", "\"battery\": 7}"),
        fill("BID_RESPONSE|A|{\"cpu_load\": ", b"9", "}"),
        fill("BID_RESPONSE|A|", b"{", ""),
        fill("BID_RESPONSE|A|{", b":,", ""),
        fill("BID_RESPONSE|A|{\"device_id\": ", b"nan", "}"),
        fill("HELLO|A|", b"\xff", ""),
        fill("", b"|", ""),
        fill("", b"A", ""),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..40]).into_owned();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let judgement = decode(&bytes, &WireLimits::default());
        let used = ALLOCATOR.peak_usage() - before;
        assert!(
            used <= BYTES_PER_BYTE_MAX * bytes.len() + BYTES_ALWAYS,
            "{shown}: {used} for {}",
            bytes.len()
        );
        drop(judgement);

        ALLOCATOR.reset_peak_usage();
        let mut framer = Framer::new(WireLimits::default());
        for part in bytes.chunks(1_460) {
            framer.push(part);
        }
        let used = ALLOCATOR.peak_usage() - before;
        // The buffer doubles as it grows, and is there twice while it does; the strict reader marks each bracket.
        assert!(
            used <= 8 * bytes.len() + BYTES_ALWAYS,
            "{shown}: the framer used {used} for {}",
            bytes.len()
        );
    }
}
