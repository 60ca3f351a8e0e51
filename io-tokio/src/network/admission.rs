//! Who may have how many connections and how much memory. One address at its limit leaves the others served:
//! whoever holds connections open or trickles bytes pays for it alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::TcpLimits;

/// What a connection holds without asking: more than any message but long prompts and outputs needs.
pub(super) const FREE_BYTES: usize = 16 * 1024;

/// The books: what is taken, by which address. An address without connection and memory has no entry.
#[derive(Debug)]
pub(super) struct Admission {
    limits: TcpLimits,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    total: Share,
    by_address: BTreeMap<IpAddr, Share>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    connections: usize,
    bytes: usize,
}

impl Admission {
    pub(super) fn new(limits: TcpLimits) -> Arc<Self> {
        Arc::new(Self { limits, books: Mutex::default() })
    }

    /// A place for one more connection from `address`, given back on drop; `None` at a limit.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let limits = &self.limits;
        let taken = self.books().change(address, |total, own| {
            let free =
                total.connections < limits.connections && own.connections < limits.connections_per_address;
            if free {
                total.connections += 1;
                own.connections += 1;
            }
            free
        });
        taken.then(|| Place { admission: Arc::clone(self), address })
    }

    /// Memory for a message from `address`; nothing is taken yet.
    pub(super) fn memory(self: &Arc<Self>, address: IpAddr) -> Memory {
        Memory { admission: Arc::clone(self), address, bytes: 0 }
    }

    /// Open connections and held bytes.
    pub(super) fn usage(&self) -> (usize, usize) {
        let Share { connections, bytes } = self.books().total;
        (connections, bytes)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // The books are consistent after each change, and no change panics.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn change<T>(&mut self, address: IpAddr, change: impl FnOnce(&mut Share, &mut Share) -> T) -> T {
        let own = self.by_address.entry(address).or_default();
        let result = change(&mut self.total, own);
        if *own == Share::default() {
            self.by_address.remove(&address);
        }
        result
    }
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.books().change(self.address, |total, own| {
            total.connections -= 1;
            own.connections -= 1;
        });
    }
}

/// The right to the memory of one message, until it is received.
#[derive(Debug)]
pub(super) struct Memory {
    admission: Arc<Admission>,
    address: IpAddr,
    bytes: usize,
}

impl Memory {
    /// Whether the message may have `length` bytes in all. A refusal changes nothing.
    pub(super) fn grow_to(&mut self, length: usize) -> bool {
        let more = length.saturating_sub(FREE_BYTES).saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let limits = &self.admission.limits;
        let taken = self.admission.books().change(self.address, |total, own| {
            let fits = |share: &Share, limit| share.bytes.saturating_add(more) <= limit;
            let free = fits(total, limits.held_bytes) && fits(own, limits.held_bytes_per_address);
            if free {
                total.bytes += more;
                own.bytes += more;
            }
            free
        });
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.admission.books().change(self.address, |total, own| {
            total.bytes -= self.bytes;
            own.bytes -= self.bytes;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: fn() -> TcpLimits = || TcpLimits {
        connections: 3,
        connections_per_address: 2,
        held_bytes: 300,
        held_bytes_per_address: 200,
        ..TcpLimits::default()
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn places_end_at_each_limit_and_come_back() {
        let admission = Admission::new(LIMITS());
        let first = admission.place(address(1)).unwrap();
        let _second = admission.place(address(1)).unwrap();
        assert!(admission.place(address(1)).is_none(), "the address has two");
        let _third = admission.place(address(2)).unwrap();
        assert!(admission.place(address(3)).is_none(), "three in all");
        drop(first);
        assert!(admission.place(address(3)).is_some());
    }

    #[test]
    fn memory_ends_at_each_limit_and_comes_back() {
        let admission = Admission::new(LIMITS());
        let mut first = admission.memory(address(1));
        assert!(first.grow_to(FREE_BYTES + 200));
        assert!(!first.grow_to(FREE_BYTES + 201), "the address has two hundred");
        assert!(first.grow_to(FREE_BYTES + 200), "a refusal changes nothing");
        let mut other = admission.memory(address(2));
        assert!(other.grow_to(FREE_BYTES + 100));
        assert!(!other.grow_to(FREE_BYTES + 101), "three hundred in all");
        drop(first);
        assert!(other.grow_to(FREE_BYTES + 200));
    }

    #[test]
    fn small_messages_pass_whatever_others_hold() {
        let admission = Admission::new(TcpLimits { held_bytes: 0, ..LIMITS() });
        assert!(admission.memory(address(1)).grow_to(16 * 1024));
        assert!(!admission.memory(address(1)).grow_to(16 * 1024 + 1));
    }

    proptest! {
        /// Whatever comes and goes, the limits hold, and an empty house has empty books.
        #[test]
        fn books_balance(steps in prop::collection::vec((0u8..4, 1u8..4, 0usize..400), 0..60)) {
            let limits = LIMITS();
            let admission = Admission::new(limits);
            let (mut places, mut memories) = (Vec::new(), Vec::new());
            for (step, last, size) in steps {
                match step {
                    0 => places.extend(admission.place(address(last))),
                    1 => {
                        let mut memory = admission.memory(address(last));
                        memory.grow_to(FREE_BYTES + size);
                        memories.push(memory);
                    }
                    2 if !places.is_empty() => drop(places.swap_remove(size % places.len())),
                    3 if !memories.is_empty() => drop(memories.swap_remove(size % memories.len())),
                    _ => {}
                }
                let books = admission.books();
                prop_assert!(books.total.connections <= limits.connections);
                prop_assert!(books.total.bytes <= limits.held_bytes);
                for share in books.by_address.values() {
                    prop_assert!(share.connections <= limits.connections_per_address);
                    prop_assert!(share.bytes <= limits.held_bytes_per_address);
                }
            }
            drop((places, memories));
            prop_assert_eq!(admission.usage(), (0, 0));
            prop_assert!(admission.books().by_address.is_empty());
        }
    }
}
