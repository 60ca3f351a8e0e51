use alloc::collections::BTreeMap;
use core::time::Duration;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::draw::Seed;
use crate::id::{BootId, TaskId};

const BIDMESH: &str = "B";
const SHELL: &str = "S";

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 9999))
}

/// A mail with all that it needs, and what a driver owes it.
struct Office {
    mail: Mail,
    peers: Peers,
    config: Config,
    me: Me,
    now: Time,
    /// Letters that are flying, and to whom.
    flying: BTreeMap<SendId, DeviceId>,
    /// Tickets of what was posted, by what became of it.
    posted: u64,
    abandoned: BTreeSet<u64>,
    fates: BTreeMap<u64, Vec<Fate>>,
    sent: Vec<(Time, SendId)>,
}

impl Office {
    fn new() -> Self {
        let mut config = Config::default();
        config.limits.outgoing = 6;
        let (now, mut peers) = (Time::ZERO, Peers::default());
        for (n, name) in [(2, BIDMESH), (3, SHELL)] {
            peers.introduce(&id(name), address(n), now, 10).unwrap();
        }
        peers.see_boot(&id(BIDMESH), Some(&BootId::new("b1").unwrap()), now);
        let boot = BootId::new("a1").unwrap();
        let me = Me { id: id("A"), boot, seed: Seed::from(3), address: Some(address(1)), sequence: 0 };
        let (flying, abandoned, fates) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self {
            mail: Mail::default(),
            peers,
            config,
            me,
            now,
            flying,
            posted: 0,
            abandoned,
            fates,
            sent: Vec::new(),
        }
    }

    /// Lets the mail act, then looks at what it did.
    fn with<R>(&mut self, act: impl FnOnce(&mut Mail, &mut Post<'_>) -> R) -> R {
        let mut out = Outbox::default();
        let Self { mail, peers, config, me, now, .. } = self;
        let mut post = Post { now: *now, config, me, peers, out: &mut out };
        let result = act(mail, &mut post);
        while let Some(news) = self.mail.next_news() {
            if let Purpose::Say { ticket } = news.purpose {
                self.fates.entry(ticket).or_default().push(news.what);
            }
        }
        while self.mail.next_local().is_some() {}
        for action in out.actions {
            match action {
                Action::Send { id, device, give_up_at, .. } => {
                    assert!(give_up_at > self.now, "there is time to send it");
                    assert!(self.flying.insert(id, device).is_none(), "one try of a letter at a time");
                    self.sent.push((self.now, id));
                }
                Action::Abandon { id } => {
                    assert!(self.flying.remove(&id).is_some(), "only what flies is abandoned");
                }
                other => panic!("mail only sends: {other:?}"),
            }
        }
        let shell = self.flying.values().filter(|device| **device == id(SHELL)).count();
        assert!(shell <= 1, "a shell device holds one connection at a time");
        assert!(self.mail.len() <= self.config.limits.outgoing + 1, "a HELLO before the last letter at most");
        self.mail.check();
        result
    }

    fn say(&mut self, to: &str, patience: u64) -> Option<SendId> {
        self.posted += 1;
        let draft = Draft {
            to: id(to),
            address: None,
            body: Body::Text("hi".into()),
            purpose: Purpose::Say { ticket: self.posted },
            give_up_at: self.now + Duration::from_millis(patience),
        };
        self.with(|mail, post| mail.post(post, draft))
    }

    fn ask(&mut self, to: &str) -> Option<SendId> {
        let draft = Draft {
            to: id(to),
            address: None,
            // What a letter says is nothing to the mail.
            body: Body::Text("a question".into()),
            purpose: Purpose::Question,
            give_up_at: self.now + Duration::from_secs(10),
        };
        self.with(|mail, post| mail.post(post, draft))
    }

    fn delivered(&mut self, send: SendId) {
        self.flying.remove(&send);
        assert!(self.with(|mail, post| mail.delivered(post, send)), "it was on its way");
    }

    fn failed(&mut self, send: SendId, why: SendFailure) {
        self.flying.remove(&send);
        assert!(self.with(|mail, post| mail.failed(post, send, why)), "it was on its way");
    }

    /// Lets time pass, called whenever the mail asked to be.
    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some((at, _)) = self.mail.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.with(|mail, post| mail.advance(post));
        }
        self.now = end;
    }
}

#[test]
fn a_refused_letter_is_tried_again_after_a_growing_pause_until_its_time_is_over() {
    let mut office = Office::new();
    let send = office.say(BIDMESH, 5_000).unwrap();
    let mut pauses = Vec::new();
    while office.flying.contains_key(&send) {
        let refused = office.now;
        office.failed(send, SendFailure::Refused);
        let tries = office.sent.len();
        while office.sent.len() == tries && office.mail.len() == 1 {
            office.pass(1);
        }
        pauses.push(office.now.since(refused).as_millis());
    }
    let last = pauses.pop().unwrap();
    assert!(office.now <= Time::from_start(Duration::from_secs(5)), "given up in time: {last}");
    for (n, pause) in pauses.iter().enumerate() {
        let growth = 1u128 << n.min(4);
        assert!((20 * growth..=50 * growth + 1).contains(pause), "try {n}: {pause} ms");
    }
    assert!(pauses.len() >= 8, "it was worth more than a few tries: {pauses:?}");
    assert_eq!(office.fates[&1].last(), Some(&Fate::Failed(SendFailure::Refused)));
}

#[test]
fn what_may_have_been_read_is_not_said_again() {
    let mut office = Office::new();
    let send = office.say(BIDMESH, 5_000).unwrap();
    office.failed(send, SendFailure::Ambiguous);
    assert_eq!(office.fates[&1], [Fate::Started, Fate::Failed(SendFailure::Ambiguous)]);
    let question = office.ask(BIDMESH).unwrap();
    let hello = *office.flying.keys().next().unwrap();
    assert_ne!(hello, question, "a device answers only those that it knows");
    office.delivered(hello);
    office.failed(question, SendFailure::Ambiguous);
    office.pass(100);
    assert!(office.flying.contains_key(&question), "a question may be asked twice");
}

#[test]
fn a_hello_shares_its_tries_with_the_questions_behind_it_alone() {
    let mut office = Office::new();
    let first = office.say(SHELL, 5_000).unwrap();
    office.ask(SHELL).unwrap();
    office.say(SHELL, 5_000).unwrap();
    office.delivered(first);
    office.say(SHELL, 5_000).unwrap();
    assert_eq!(office.flying.len(), 1, "the HELLO that the question needs");
    assert_eq!((office.fates.get(&2), office.fates.get(&3)), (None, None), "nobody tried to say them yet");
    let hello = *office.flying.keys().next().unwrap();
    office.failed(hello, SendFailure::Refused);
    assert_eq!((office.fates.get(&2), office.fates.get(&3)), (None, None), "nobody refused them");
}

#[test]
fn a_question_whose_time_is_over_lets_the_next_one_fly_once() {
    let mut office = Office::new();
    office.ask(BIDMESH).unwrap();
    let hello = *office.flying.keys().next().unwrap();
    office.now += Duration::from_secs(1);
    let second = office.ask(BIDMESH).unwrap();
    // The HELLO arrives in the moment in which the first question is to be given up, before the mail is called for that.
    office.now += Duration::from_secs(9);
    office.delivered(hello);
    assert!(office.flying.contains_key(&second));
    assert_eq!(office.mail.len(), 1, "the first one is given up");
}

#[test]
fn a_device_that_was_removed_is_asked_nothing_and_told_what_else_was_to_be_said() {
    let mut office = Office::new();
    let said = office.say(BIDMESH, 5_000).unwrap();
    let other = office.ask(SHELL).unwrap();
    let question = office.ask(BIDMESH).unwrap();
    assert_eq!(office.flying.len(), 3, "a HELLO to each");
    office.with(|mail, post| mail.removed(post, &id(BIDMESH)));
    let left: Vec<&str> = office.flying.values().map(DeviceId::as_str).collect();
    assert_eq!(left, [BIDMESH, SHELL], "its HELLO flies no more");
    assert!(office.flying.contains_key(&said));
    let open = office.mail.open();
    assert!(open.contains(&other) && !open.contains(&question), "{open:?}");
}

#[test]
fn a_driver_that_says_nothing_leaves_nobody_waiting() {
    let mut office = Office::new();
    office.say(SHELL, 2_000).unwrap();
    office.say(SHELL, 60_000).unwrap();
    office.pass(2_999);
    assert_eq!(office.fates[&1], [Fate::Started]);
    office.pass(1);
    assert_eq!(office.fates[&1], [Fate::Started, Fate::Failed(SendFailure::Ambiguous)]);
    assert_eq!(office.fates[&2], [Fate::Started], "the next one flies");
}

#[test]
fn a_full_mail_takes_no_letter_and_says_so() {
    let mut office = Office::new();
    for _ in 0..6 {
        office.say(BIDMESH, 1_000).unwrap();
    }
    assert_eq!(office.say(BIDMESH, 1_000), None);
    assert_eq!(office.fates[&7], [Fate::Failed(SendFailure::Overloaded)]);
    assert_eq!(office.say("A", 1_000), None, "what this device says to itself takes no room");
    assert_eq!(office.fates[&8], [Fate::Started, Fate::Delivered]);
}

proptest! {
    /// Whatever drivers and time do: each letter has one end, which is told, unless nobody cares any more.
    #[test]
    fn each_letter_ends_once(steps in prop::collection::vec((0u8..9, 0usize..8, 0u64..4_000), 1..80)) {
        let mut office = Office::new();
        let mut letters: Vec<(SendId, u64)> = Vec::new();
        for (what, which, millis) in steps {
            let flying = office.flying.keys().nth(which % office.flying.len().max(1)).copied();
            let why = [SendFailure::Refused, SendFailure::Unreachable, SendFailure::Reset, SendFailure::Ambiguous,
                SendFailure::NotSpoken, SendFailure::TooLong][which % 6];
            match (what, flying) {
                (0 | 1, _) => {
                    let to = if what == 0 { BIDMESH } else { SHELL };
                    if let Some(send) = office.say(to, millis + 1) {
                        letters.push((send, office.posted));
                    }
                }
                (2, _) => { office.ask(if which % 2 == 0 { BIDMESH } else { SHELL }); }
                (3, Some(send)) => office.delivered(send),
                (4 | 5, Some(send)) => office.failed(send, why),
                (6, _) if !letters.is_empty() => {
                    let (send, ticket) = letters[which % letters.len()];
                    if !office.fates.get(&ticket).is_some_and(|fates| fates.iter().any(is_end)) {
                        office.abandoned.insert(ticket);
                    }
                    office.with(|mail, post| mail.abandon(post, send));
                }
                (7, _) => {
                    let now = office.now + Duration::from_millis(millis);
                    office.now = now;
                    office.with(|mail, _| mail.grace(now, Duration::from_secs(1)));
                    office.with(|mail, post| mail.advance(post));
                }
                _ => office.pass(millis),
            }
        }
        office.pass(60_000);
        prop_assert_eq!(office.mail.len(), 0, "nothing is left");
        for ticket in 1..=office.posted {
            let ends = office.fates.get(&ticket).map_or(0, |fates| fates.iter().filter(|fate| is_end(fate)).count());
            prop_assert_eq!(ends, usize::from(!office.abandoned.contains(&ticket)), "letter {}", ticket);
        }
    }
}

fn is_end(fate: &Fate) -> bool {
    matches!(fate, Fate::Delivered | Fate::Failed(_))
}

#[test]
fn a_lane_of_two_dialects_has_one_connection_in_the_shells() {
    let mut office = Office::new();
    // A question in bidmesh's dialect, resting before a letter of a device that now speaks as a shell device.
    office.with(|_, post| {
        post.peers.edit(&id(BIDMESH), Time::ZERO, |peer| peer.greeted = true);
    });
    let question = office.ask(BIDMESH).unwrap();
    office.failed(question, SendFailure::Refused);
    office.with(|_, post| {
        post.peers.see_boot(&id(BIDMESH), None, Time::ZERO);
    });
    let said = office.say(BIDMESH, 5_000).unwrap();
    assert!(office.flying.contains_key(&said));
    // A task goes before what waits, and not before what flies.
    let task = TaskId::new("task_0000000000001").unwrap();
    let draft = Draft {
        to: id(BIDMESH),
        address: None,
        body: Body::Text("a task".into()),
        purpose: Purpose::Award { task, attempt: 1 },
        give_up_at: office.now + Duration::from_secs(5),
    };
    let task = office.with(|mail, post| mail.post(post, draft)).unwrap();
    assert!(!office.flying.contains_key(&task));
    office.delivered(said);
    assert!(office.flying.contains_key(&task));
}
