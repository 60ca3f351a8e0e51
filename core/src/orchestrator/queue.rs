//! Tasks that wait for a free slot: by priority, then age, with ageing so that none starves.
//!
//! Waiting for `ageing` raises a task by one priority. Since all waiting tasks age alike, the order of one client's
//! tasks never changes: a task's place is its submission, moved back by `ageing` for each priority that it lacks.
//!
//! Between clients turns are counted, as start-time fair queueing does (P. Goyal, H. M. Vin, H. Cheng, SIGCOMM 1996): whoever
//! had a turn is one ahead of whoever had none, and each turn ahead counts like one priority less. A client that comes
//! later, with one prompt, need not wait for a thousand of another; one that comes back brings nothing along.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::time::Duration;

use crate::id::DeviceId;
use crate::input::Priority;
use crate::time::Time;
use crate::wire::Text;

/// The only devices that a task may run on; `None`: all.
pub(crate) type Eligible = Option<Arc<BTreeSet<DeviceId>>>;

/// Who submitted a task; those without a name are one client.
pub(crate) type Client = Option<Text>;

/// All waiting tasks, in one lane for each client and set of eligible devices: a task that waits for one busy device
/// holds up no task that others could run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<(Eligible, Client), BTreeSet<Place>>,
}

/// How many open tasks each client has, and how many turns it had.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Clients {
    known: BTreeMap<Client, Share>,
    /// The turns of whoever had the last one, before it: where a newcomer begins.
    present: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Share {
    open: usize,
    /// Those of them that had no turn yet.
    waiting: usize,
    /// Auctions that were opened for it, and those before it came.
    turns: u64,
}

impl Clients {
    /// Another task of this client is open and waits for its turn. Turns that others had while none of its tasks waited
    /// are not made up for.
    pub(crate) fn add(&mut self, client: &Client) {
        let present = self.present;
        let share = self.known.entry(client.clone()).or_default();
        if share.waiting == 0 {
            share.turns = share.turns.max(present);
        }
        share.open += 1;
        share.waiting += 1;
    }

    /// One of its tasks has ended; without any it is forgotten.
    pub(crate) fn remove(&mut self, client: &Client, had_turn: bool) {
        let Some(share) = self.known.get_mut(client) else { return };
        share.open -= 1;
        share.waiting -= usize::from(!had_turn);
        if share.open == 0 {
            self.known.remove(client);
        }
    }

    /// An auction was opened for it, the first one of a task.
    pub(crate) fn turn(&mut self, client: &Client) {
        if let Some(share) = self.known.get_mut(client) {
            self.present = share.turns;
            share.turns += 1;
            share.waiting -= 1;
        }
    }

    /// One of its tasks had its turn in an earlier start.
    pub(crate) fn had_turn(&mut self, client: &Client) {
        if let Some(share) = self.known.get_mut(client) {
            share.waiting -= 1;
        }
    }

    pub(crate) fn open(&self, client: &Client) -> usize {
        self.known.get(client).map_or(0, |share| share.open)
    }

    /// Turns that it is ahead of whoever waits and had the fewest.
    fn ahead(&self, client: &Client, fewest: u64) -> u32 {
        let turns = self.known.get(client).map_or(0, |share| share.turns);
        u32::try_from(turns.saturating_sub(fewest)).unwrap_or(u32::MAX)
    }

    pub(crate) fn total(&self) -> usize {
        self.known.values().map(|share| share.open).sum()
    }

    /// Tasks that had no turn yet.
    pub(crate) fn waiting(&self) -> usize {
        self.known.values().map(|share| share.waiting).sum()
    }

    /// Without its history (`crate::canonical`): only who is how far ahead matters.
    pub(crate) fn canonical(&mut self) {
        let turns = self.known.values().map(|share| share.turns);
        let fewest = turns.chain([self.present]).min().unwrap_or(0);
        self.known.values_mut().for_each(|share| share.turns -= fewest);
        self.present = if self.known.is_empty() { 0 } else { self.present - fewest };
    }
}

/// A task's place; the least is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    since: Time,
    number: u64,
}

impl Place {
    pub(crate) fn new(submitted: Time, priority: Priority, number: u64, ageing: Duration) -> Self {
        let lacks = u32::from(Priority::HIGHEST.value() - priority.value());
        Self { since: submitted + ageing.saturating_mul(lacks), number }
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

impl Queue {
    pub(crate) fn insert(&mut self, eligible: &Eligible, client: &Client, place: Place) {
        self.lanes.entry((eligible.clone(), client.clone())).or_default().insert(place);
    }

    pub(crate) fn remove(&mut self, eligible: &Eligible, client: &Client, place: Place) {
        let lane = (eligible.clone(), client.clone());
        if let Some(places) = self.lanes.get_mut(&lane) {
            places.remove(&place);
            if places.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// The first of each lane, whose turn it is first.
    pub(crate) fn heads(&self, clients: &Clients, ageing: Duration) -> BTreeSet<(Place, Eligible)> {
        let waiting = self.lanes.keys().filter_map(|(_, client)| clients.known.get(client));
        let fewest = waiting.map(|share| share.turns).min().unwrap_or(0);
        let head = |((eligible, client), lane): (&(Eligible, Client), &BTreeSet<Place>)| {
            let Place { since, number } = *lane.first()?;
            let since = since + ageing.saturating_mul(clients.ahead(client, fewest));
            Some((Place { since, number }, eligible.clone()))
        };
        self.lanes.iter().filter_map(head).collect()
    }

    /// How many tasks are more urgent than `place`; whose turn it is may change that.
    pub(crate) fn before(&self, place: Place) -> usize {
        self.lanes.values().map(|lane| lane.range(..place).count()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(crate) fn contains(&self, eligible: &Eligible, client: &Client, place: Place) -> bool {
        self.lanes.get(&(eligible.clone(), client.clone())).is_some_and(|lane| lane.contains(&place))
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const AGEING: Duration = Duration::from_secs(30);

    #[test]
    fn only_how_far_a_client_is_ahead_tells_two_devices_apart() {
        let after = |turns: usize, more: usize| {
            let (mut clients, x, y) = (Clients::default(), Some(Text::from("x")), Some(Text::from("y")));
            let turn = |clients: &mut Clients| {
                clients.add(&x);
                clients.turn(&x);
                clients.remove(&x, true);
            };
            clients.add(&x);
            (0..turns).for_each(|_| turn(&mut clients));
            // It begins where x stood before its last turn.
            clients.add(&y);
            (0..more).for_each(|_| turn(&mut clients));
            clients.canonical();
            clients
        };
        assert_eq!(after(1, 0), after(5, 0));
        assert_ne!(after(1, 0), after(5, 1));
    }

    fn place(submitted: u64, priority: u8, number: u64) -> Place {
        Place::new(
            Time::from_start(Duration::from_secs(submitted)),
            Priority::new(priority).unwrap(),
            number,
            AGEING,
        )
    }

    #[test]
    fn priority_then_age() {
        assert!(place(10, 6, 2) < place(0, 5, 1), "a higher priority goes first");
        assert!(place(0, 5, 1) < place(1, 5, 2), "among equals the older goes first");
    }

    #[test]
    fn waiting_raises_a_task() {
        assert!(place(0, 5, 1) < place(31, 6, 2), "half a minute older is worth one priority");
        assert!(
            place(0, 0, 1) < place(271, 9, 2),
            "nothing starves: nine priorities are four and a half minutes"
        );
    }

    fn client(name: &str) -> Client {
        Some(name.into())
    }

    /// Who gets the next so many turns, each with as many tasks of equal urgency as they are said to have.
    fn turns(waiting: &[(&str, u64, u64)], many: usize) -> String {
        let (mut queue, mut clients) = (Queue::default(), Clients::default());
        let mut owners = BTreeMap::new();
        for (name, count, submitted) in waiting {
            for _ in 0..*count {
                let number = owners.len() as u64;
                owners.insert(number, *name);
                queue.insert(&None, &client(name), place(*submitted, 5, number));
                clients.add(&client(name));
            }
        }
        let mut order = String::new();
        for _ in 0..many {
            let Some((next, _)) = queue.heads(&clients, AGEING).pop_first() else { break };
            let name = owners[&next.number()];
            let whole = queue.lanes[&(None, client(name))].first().copied().unwrap();
            queue.remove(&None, &client(name), whole);
            clients.turn(&client(name));
            order.push_str(name);
        }
        order
    }

    #[test]
    fn clients_take_turns_however_many_tasks_each_has() {
        assert_eq!(turns(&[("a", 1_000, 0), ("b", 3, 0)], 8), "abababaa");
        assert_eq!(turns(&[("a", 9, 0), ("b", 9, 0), ("c", 9, 0)], 9), "abcabcabc");
    }

    #[test]
    fn whoever_comes_later_waits_for_few() {
        // A hundred seconds are worth four turns of thirty.
        assert_eq!(turns(&[("a", 1_000, 0), ("b", 1, 100)], 6), "aaaaba");
    }

    #[test]
    fn a_client_that_comes_anew_begins_beside_whoever_is_served() {
        let mut clients = Clients::default();
        let ahead = |clients: &Clients, name: &str| {
            let fewest = clients.known.values().map(|share| share.turns).min().unwrap_or(0);
            clients.ahead(&client(name), fewest)
        };
        clients.add(&client("a"));
        clients.turn(&client("a"));
        for _ in 0..9 {
            clients.add(&client("a"));
            clients.turn(&client("a"));
            clients.remove(&client("a"), true);
        }
        clients.add(&client("b"));
        assert_eq!(
            (ahead(&clients, "a"), ahead(&clients, "b")),
            (1, 0),
            "the turn that it is having, no more"
        );
        clients.turn(&client("b"));
        assert_eq!((ahead(&clients, "a"), ahead(&clients, "b")), (0, 0));
        clients.remove(&client("a"), true);
        clients.add(&client("a"));
        assert_eq!(ahead(&clients, "a"), 0, "one that comes back brings nothing along");
        assert_eq!((clients.total(), clients.open(&client("a")), clients.open(&None)), (2, 1, 0));
    }

    #[test]
    fn whoever_only_runs_something_saves_up_no_turns() {
        let (mut clients, long, busy) = (Clients::default(), client("long"), client("busy"));
        clients.add(&long);
        clients.turn(&long);
        for _ in 0..20 {
            clients.add(&busy);
            clients.turn(&busy);
        }
        clients.add(&long);
        let turns = |client: &Client| clients.known[client].turns;
        assert_eq!((turns(&long), turns(&busy)), (19, 20), "beside whoever is served");
    }

    proptest! {
        #[test]
        fn turns_of_two_clients_differ_by_one_while_both_wait(a in 1u64..40, b in 1u64..40) {
            let order = turns(&[("a", a, 0), ("b", b, 0)], 80);
            let both = usize::try_from(2 * a.min(b)).unwrap();
            let of_a = order.chars().take(both).filter(|c| *c == 'a').count();
            prop_assert_eq!(of_a, both / 2);
            prop_assert_eq!(order.len() as u64, a + b, "nobody is left out");
        }

        #[test]
        fn everything_leaves_once_and_in_order(tasks in prop::collection::vec((0u64..600, 0u8..10), 0..60)) {
            let mut queue = Queue::default();
            for (number, (submitted, priority)) in tasks.iter().enumerate() {
                queue.insert(&None, &None, place(*submitted, *priority, number as u64));
            }
            let mut left = Vec::new();
            while let Some((next, eligible)) = queue.heads(&Clients::default(), AGEING).pop_first() {
                prop_assert_eq!(queue.before(next), 0);
                queue.remove(&eligible, &None, next);
                left.push(next);
            }
            prop_assert_eq!(left.len(), tasks.len());
            prop_assert!(left.is_sorted());
        }

        #[test]
        fn a_lane_for_each_set_of_devices(tasks in prop::collection::vec((0u64..600, 0u8..10, 0u8..3), 1..40), gone in 0usize..40) {
            let sets: Vec<Eligible> = [None, Some("B"), Some("C")]
                .into_iter()
                .map(|name| name.map(|name| Arc::new(BTreeSet::from([DeviceId::new(name).unwrap()]))))
                .collect();
            let mut queue = Queue::default();
            let mut all: Vec<(Eligible, Place)> = Vec::new();
            for (number, (submitted, priority, set)) in tasks.iter().enumerate() {
                let (set, place) = (&sets[usize::from(*set)], place(*submitted, *priority, number as u64));
                queue.insert(set, &None, place);
                all.push((set.clone(), place));
            }
            let (set, place) = all.remove(gone % all.len());
            prop_assert!(queue.contains(&set, &None, place));
            queue.remove(&set, &None, place);
            prop_assert!(!queue.contains(&set, &None, place));
            prop_assert_eq!((queue.len(), queue.is_empty()), (all.len(), all.is_empty()));
            let first = |wanted: &Eligible| all.iter().filter(|(set, _)| set == wanted).map(|(_, place)| *place).min();
            let heads: BTreeSet<(Place, Eligible)> =
                sets.iter().filter_map(|set| Some((first(set)?, set.clone()))).collect();
            prop_assert_eq!(queue.heads(&Clients::default(), AGEING), heads);
            for (set, place) in &all {
                prop_assert!(queue.contains(set, &None, *place));
                let before = all.iter().filter(|(_, other)| other < place).count();
                prop_assert_eq!(queue.before(*place), before, "whatever lane they stand in");
            }
        }
    }
}
