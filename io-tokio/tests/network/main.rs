//! The TCP network on real sockets of this machine: what every kind of netcat does, imitated byte by byte; what a
//! sender is told in each case; and what is left for others while somebody misbehaves.
// Helpers of tests are no tests to clippy, and fail like them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod flood;
mod incoming;
mod outgoing;
mod support;
