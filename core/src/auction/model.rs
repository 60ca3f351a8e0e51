//! The auction against a naive model of it: a list of who was asked, looked through anew for each question.

use alloc::vec::Vec;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const NAMES: [&str; 4] = ["B", "C", "D", "S"];
const PATIENCE_REFUSED: Duration = Duration::from_millis(400);
const PATIENCE_AFTER_SLEEP: Duration = Duration::from_millis(700);

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Option<u64>),
    Skip(usize),
    Started(usize),
    RefusesConnection(usize),
    Bids(usize, bool),
    Refuses(usize),
    TimePasses(u64),
    Sleeps(u64),
    NothingUsable,
    UsableAgain,
}

#[derive(Clone, Debug)]
struct Asked {
    device: usize,
    /// `None`: it is not waited for.
    patience: Option<Duration>,
    until: Option<Time>,
    refused: bool,
    answered: bool,
    bid: bool,
}

#[derive(Clone, Debug)]
struct Model {
    now: Time,
    deadline: Time,
    asked: Vec<Asked>,
    usable: usize,
}

impl Model {
    fn asked(&mut self, device: usize) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.device == device)
    }

    /// Whose patience runs, and until when.
    fn patience(&self) -> impl Iterator<Item = Time> {
        let now = self.now;
        self.asked.iter().filter(|a| !a.answered).filter_map(|a| a.until).filter(move |until| *until > now)
    }

    /// Whoever is waited for: until the first attempt without end, then as long as patience lasts.
    fn waits(&self) -> bool {
        let waited = |a: &Asked| a.patience.is_some() && a.until.is_none_or(|until| until > self.now);
        self.asked.iter().any(|a| !a.answered && waited(a))
    }

    fn is_over(&self) -> bool {
        self.asked.iter().all(|a| a.answered)
            || self.now >= self.deadline
            || (self.usable > 0 && !self.waits())
    }

    fn next(&self) -> Time {
        self.patience().chain([self.deadline]).min().unwrap_or(self.deadline)
    }

    fn answered(&mut self, device: usize, bid: bool, usable: bool) {
        if let Some(asked) = self.asked(device).filter(|asked| !asked.answered) {
            (asked.answered, asked.bid) = (true, bid);
            self.usable += usize::from(usable);
        }
    }

    fn sleep(&mut self, from: Time) {
        let now = self.now;
        let fresh = now + PATIENCE_AFTER_SLEEP;
        let missed =
            |a: &&mut Asked| !a.answered && a.until.is_some_and(|until| until > from && until <= now);
        let mut late = self.deadline <= now;
        for asked in self.asked.iter_mut().filter(missed) {
            asked.until = Some(fresh);
            late = true;
        }
        if late {
            self.deadline = self.deadline.max(fresh);
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let deadline = Time::from_start(Duration::from_secs(3));
        Just(Self { now: Time::ZERO, deadline, asked: Vec::new(), usable: 0 }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let who = 0..NAMES.len();
        prop_oneof![
            3 => (who.clone(), prop::option::weighted(0.8, 0..1_500u64)).prop_map(|(d, p)| Step::Ask(d, p)),
            1 => who.clone().prop_map(Step::Skip),
            3 => who.clone().prop_map(Step::Started),
            2 => who.clone().prop_map(Step::RefusesConnection),
            2 => (who.clone(), any::<bool>()).prop_map(|(d, usable)| Step::Bids(d, usable)),
            1 => who.prop_map(Step::Refuses),
            3 => (0..900u64).prop_map(Step::TimePasses),
            1 => (0..2_500u64).prop_map(Step::Sleeps),
            1 => Just(Step::NothingUsable),
            1 => Just(Step::UsableAgain),
        ]
        .boxed()
    }

    /// A device is asked once in an auction, and refuses only an attempt that was made.
    fn preconditions(state: &Self, step: &Step) -> bool {
        let asked = |device: &usize| state.asked.iter().find(|asked| asked.device == *device);
        match step {
            Step::Ask(device, _) | Step::Skip(device) => asked(device).is_none(),
            Step::RefusesConnection(device) => asked(device).is_some_and(|a| a.until.is_some()),
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        let now = state.now;
        let new =
            Asked { device: 0, patience: None, until: None, refused: false, answered: false, bid: false };
        match *step {
            Step::Ask(device, patience) => {
                state.asked.push(Asked { device, patience: patience.map(Duration::from_millis), ..new });
            }
            Step::Skip(device) => state.asked.push(Asked { device, answered: true, ..new }),
            Step::Started(device) => {
                if let Some(asked) = state.asked(device).filter(|a| !a.answered && a.until.is_none()) {
                    asked.until = asked.patience.map(|patience| now + patience);
                }
            }
            Step::RefusesConnection(device) => {
                if let Some(asked) = state.asked(device).filter(|a| !a.answered && !a.refused) {
                    asked.refused = true;
                    asked.until = asked.until.map(|until| until.min(now + PATIENCE_REFUSED));
                }
            }
            Step::Bids(device, usable) => state.answered(device, true, usable),
            Step::Refuses(device) => state.answered(device, false, false),
            Step::TimePasses(millis) => state.now += Duration::from_millis(millis),
            Step::Sleeps(millis) => {
                state.now += Duration::from_millis(millis);
                state.sleep(now);
            }
            Step::NothingUsable => state.usable = 0,
            Step::UsableAgain => state.usable = state.usable.max(1),
        }
        state
    }
}

struct Real;

impl StateMachineTest for Real {
    type SystemUnderTest = Auction;
    type Reference = Model;

    fn init_test(model: &Model) -> Auction {
        Auction::new(model.now, model.deadline)
    }

    fn apply(mut auction: Auction, model: &Model, step: Step) -> Auction {
        let device = |n: usize| DeviceId::new(NAMES[n]).unwrap();
        match step {
            Step::Ask(n, None) => auction.ask(&device(n), Waiting::NotAtAll),
            Step::Ask(n, Some(patience)) => {
                auction.ask(&device(n), Waiting::Patient(Duration::from_millis(patience)));
            }
            Step::Skip(n) => auction.ask(&device(n), Waiting::Skipped),
            Step::Started(n) => auction.started(&device(n), model.now),
            Step::RefusesConnection(n) => auction.refused_connection(&device(n), model.now, PATIENCE_REFUSED),
            Step::Bids(n, usable) => {
                let bid = Answer::Bid { bid: Bid::default(), at: model.now, dialect: Dialect::Bidmesh };
                auction.answer(&device(n), bid, usable);
            }
            Step::Refuses(n) => {
                auction.answer(&device(n), Answer::Refused { reason: Reason::Busy }, false);
            }
            Step::TimePasses(_) => {}
            Step::Sleeps(_) => auction.grace(model.now, PATIENCE_AFTER_SLEEP),
            Step::NothingUsable => auction.nothing_usable(),
            Step::UsableAgain => auction.usable_again(),
        }
        assert_eq!(auction.advance(model.now), model.is_over(), "whether it is over");
        auction
    }

    fn check_invariants(auction: &Auction, model: &Model) {
        auction.check();
        assert_eq!(auction.next(), model.next(), "when to look again");
        let unanswered = model.asked.iter().any(|asked| !asked.answered);
        assert_eq!(auction.may_go_on(model.now), unanswered && model.now < model.deadline);
        assert_eq!(auction.is_starved(), model.usable == 0 && model.asked.iter().any(|asked| asked.bid));
        for (device, ask) in auction.asks() {
            let refused = model.asked.iter().any(|a| NAMES[a.device] == device.as_str() && a.refused);
            assert_eq!(ask.refused_connections, refused, "{device}");
        }
        for (n, name) in NAMES.iter().enumerate() {
            let waits = model.asked.iter().any(|asked| asked.device == n && !asked.answered);
            assert_eq!(auction.awaits_answer(&DeviceId::new(name).unwrap()), waits, "{name}");
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_naive_model_of_it_does(sequential 1..60 => Real);
}
