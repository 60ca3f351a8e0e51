//! Letters on their way: who is owed which message, when the next try is due, and when it is given up.
//!
//! 'Connection refused' means 'not now': a shell device's port is closed for a tenth of a second after each
//! message. A refused letter is tried again after a growing, random pause until its time is over; a doubtful one
//! (all written, then silence) is never tried again here, since that is a decision of whoever sent it. To a shell
//! device one letter flies at a time, and to any device no question flies before a HELLO has been delivered.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::canonical::Renewal;
use crate::config::Config;
use crate::id::{AwardId, DeviceId, TaskId};
use crate::input::{SendFailure, Ticket};
use crate::outbox::{Action, Event, Outbox, SendId};
use crate::time::Time;
use crate::wire::{Advertised, Body, Dialect, Marker, Message};

use crate::context::Me;
use crate::peers::Peers;

/// The driver answers for a letter when its time is over; with this much more its answer, which knows more, arrives
/// before the letter is given up.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// All letters of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Mail {
    letters: BTreeMap<SendId, Letter>,
    /// Letters to shell devices, and letters that wait for a HELLO, by receiver; the first may fly.
    lanes: BTreeMap<DeviceId, Lane>,
    /// When a letter is to be tried again or given up.
    timers: BTreeSet<(Time, SendId)>,
    /// Messages to this device itself, which need no socket.
    local: VecDeque<Message>,
    /// What became of letters, for their owners; empty between two inputs.
    news: VecDeque<News>,
    last: u64,
}

/// What a letter is for: whom to tell what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// BID_REQUEST to a bidmesh device.
    Ask { task: TaskId },
    /// BID_REQUEST to a shell device, on behalf of all auctions that wait for it.
    Question,
    /// TASK.
    Award { task: TaskId, attempt: u32 },
    /// QUERY.
    Query { task: TaskId, attempt: u32 },
    /// HELLO to a shell device that should be deaf while it runs our task.
    Probe { task: TaskId, attempt: u32 },
    /// HELLO.
    Hello,
    /// RESULT or SLM_RESULT of work done here.
    Result { work: crate::bidder::WorkKey },
    /// PROGRESS of work done here, up to this offset.
    Progress { work: crate::bidder::WorkKey, upto: u64 },
    /// BYE.
    Bye,
    /// An answer that nobody waits for: ACCEPT, REJECT, REFUSE, BID_RESPONSE, CANCEL, ACK.
    Notice,
    /// What a person said.
    Say { ticket: Ticket },
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct News {
    pub(crate) to: DeviceId,
    pub(crate) purpose: Purpose,
    pub(crate) what: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// The first try is under way.
    Started,
    /// A try was refused; another follows.
    Refused,
    Delivered,
    /// No further try.
    Failed(SendFailure),
}

/// A message before it has a place on the way.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) to: DeviceId,
    /// Where to and how; `None`: as the address book says now.
    pub(crate) address: Option<(SocketAddr, Dialect)>,
    pub(crate) body: Body,
    pub(crate) purpose: Purpose,
    pub(crate) give_up_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Letter {
    to: DeviceId,
    address: SocketAddr,
    dialect: Dialect,
    body: Body,
    purpose: Purpose,
    give_up_at: Time,
    tries: u32,
    state: State,
    last_failure: Option<SendFailure>,
    /// Since when every try has failed.
    failing_since: Option<Time>,
    /// When the try under way began, and when it ends at the latest.
    sent: Time,
    try_until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// In the lane, behind others or a HELLO.
    Waiting,
    Flying,
    /// To be tried again then.
    Resting(Time),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Lane {
    queue: VecDeque<SendId>,
}

impl Letter {
    fn new(
        to: DeviceId,
        (address, dialect): (SocketAddr, Dialect),
        body: Body,
        purpose: Purpose,
        give_up_at: Time,
    ) -> Self {
        Self {
            to,
            address,
            dialect,
            body,
            purpose,
            give_up_at,
            tries: 0,
            state: State::Waiting,
            last_failure: None,
            failing_since: None,
            sent: Time::ZERO,
            try_until: Time::ZERO,
        }
    }

    /// A question needs a HELLO before it: a device answers only those that it knows.
    fn needs_greeting(&self) -> bool {
        matches!(self.purpose, Purpose::Ask { .. } | Purpose::Question)
    }

    fn is_hello(&self) -> bool {
        matches!(self.body, Body::Hello(_) | Body::Discover(_))
    }

    /// Whether questions may wait behind it: it is offered for as long as any of them. A probe, or a HELLO that a person
    /// says, is tried in its own way and not for them.
    fn greets(&self) -> bool {
        matches!(self.purpose, Purpose::Hello)
    }

    /// Whether a copy of it changes nothing: then a try that ended in doubt is followed by another.
    fn may_be_repeated(&self) -> bool {
        match self.purpose {
            Purpose::Ask { .. } | Purpose::Question | Purpose::Query { .. } => true,
            Purpose::Hello | Purpose::Bye | Purpose::Notice => true,
            Purpose::Award { .. } | Purpose::Probe { .. } | Purpose::Say { .. } => false,
            // These are said again by their own rules.
            Purpose::Result { .. } | Purpose::Progress { .. } => false,
        }
    }

    /// Whether it takes a place in its receiver's lane.
    fn in_lane(&self) -> bool {
        self.dialect.is_shell() || self.needs_greeting() || self.is_hello()
    }

    fn timer(&self) -> Time {
        match self.state {
            State::Resting(until) => until.min(self.give_up_at),
            State::Flying => self.try_until + ANSWER_MARGIN,
            State::Waiting => self.give_up_at,
        }
    }
}

/// What posting needs to know besides the mail itself.
pub(crate) struct Post<'a> {
    pub(crate) now: Time,
    pub(crate) config: &'a Config,
    pub(crate) me: &'a Me,
    pub(crate) peers: &'a mut Peers,
    pub(crate) out: &'a mut Outbox,
}

impl Mail {
    /// Puts a letter on its way. Returns its number unless it was for this device itself, had no address or found
    /// no room; then its fate is in the news already.
    pub(crate) fn post(&mut self, post: &mut Post<'_>, draft: Draft) -> Option<SendId> {
        let Draft { to, address, body, purpose, give_up_at } = draft;
        if to == post.me.id {
            self.local.push_back(post.me.message(body));
            self.tell(&to, &purpose, Fate::Started);
            self.tell(&to, &purpose, Fate::Delivered);
            return None;
        }
        let known = || post.peers.get(&to).map(|peer| (peer.address, post.peers.dialect(&to, post.config)));
        let Some((address, dialect)) = address.or_else(known) else {
            self.tell(&to, &purpose, Fate::Failed(SendFailure::Unreachable));
            return None;
        };
        if purpose == Purpose::Hello {
            let same = |letter: &Letter| {
                letter.greets()
                    && letter.address == address
                    && letter.dialect == dialect
                    && letter.body == body
            };
            if let Some(id) = self.greeting(&to, same) {
                self.prolong(id, give_up_at);
                return Some(id);
            }
        }
        // A question may bring a HELLO of its own.
        let wanted = 1 + usize::from(matches!(purpose, Purpose::Ask { .. } | Purpose::Question));
        if self.letters.len() + wanted > post.config.limits.outgoing {
            post.out.events.push(Event::Overloaded { to: to.clone() });
            self.tell(&to, &purpose, Fate::Failed(SendFailure::Overloaded));
            return None;
        }
        let letter = Letter::new(to.clone(), (address, dialect), body, purpose, give_up_at);
        let in_lane = letter.in_lane();
        let id = self.insert(letter);
        if in_lane {
            self.enter_lane(post, id);
        } else {
            self.fly(post, id);
        }
        Some(id)
    }

    fn insert(&mut self, letter: Letter) -> SendId {
        self.last += 1;
        let id = SendId(self.last);
        self.timers.insert((letter.timer(), id));
        self.letters.insert(id, letter);
        id
    }

    fn enter_lane(&mut self, post: &mut Post<'_>, id: SendId) {
        let Some(letter) = self.letters.get(&id) else { return };
        let (to, give_up_at) = (letter.to.clone(), letter.give_up_at);
        let needs_hello = letter.needs_greeting()
            && post.peers.get(&to).is_some_and(|peer| !peer.greeted)
            && post.me.address.is_some();
        let award = matches!(letter.purpose, Purpose::Award { .. });
        let (address, dialect) = (letter.address, letter.dialect);
        if needs_hello && !self.join_greeting(post, &to, give_up_at) {
            let hello =
                Letter::new(to.clone(), (address, dialect), post.me.hello(), Purpose::Hello, give_up_at);
            let hello = self.insert(hello);
            self.lanes.entry(to.clone()).or_default().queue.push_back(hello);
        }
        let lane = self.lanes.entry(to.clone()).or_default();
        if award {
            // A task goes before everything that has not left yet. Not only the front may have: when a peer turns
            // out to speak another dialect its lane holds letters of both.
            let flies = |id: &SendId| self.letters.get(id).is_some_and(|l| l.state == State::Flying);
            let place = lane.queue.iter().rposition(flies).map_or(0, |last| last + 1);
            lane.queue.insert(place, id);
        } else {
            lane.queue.push_back(id);
        }
        self.move_lane(post, &to);
        self.share_tries_of_hello(&to, id);
    }

    /// A question behind a HELLO that is under way already: the first attempt to reach its device is over.
    fn share_tries_of_hello(&mut self, to: &DeviceId, id: SendId) {
        let waits = |l: &&Letter| l.needs_greeting() && l.state == State::Waiting;
        let Some(purpose) = self.letters.get(&id).filter(waits).map(|l| l.purpose.clone()) else { return };
        let tried = |id: &SendId| self.letters.get(id).is_some_and(|l| l.greets() && l.tries > 0);
        if self.lanes.get(to).is_some_and(|lane| lane.queue.iter().any(tried)) {
            self.tell(to, &purpose, Fate::Started);
        }
    }

    /// The first HELLO of this kind that is owed to `to` already.
    fn greeting(&self, to: &DeviceId, kind: impl Fn(&Letter) -> bool) -> Option<SendId> {
        let greets = |id: &&SendId| self.letters.get(id).is_some_and(&kind);
        self.lanes.get(to)?.queue.iter().find(greets).copied()
    }

    /// A question waits behind the HELLO that is owed to `to` already, which is then offered until `until` at least.
    /// `false`: there is none.
    fn join_greeting(&mut self, post: &Post<'_>, to: &DeviceId, until: Time) -> bool {
        // One that says where this device was, or goes to where that one was, opens no door.
        let (hello, place) = (post.me.hello(), post.peers.get(to).map(|peer| peer.address));
        let greets =
            |letter: &Letter| letter.greets() && letter.body == hello && Some(letter.address) == place;
        let Some(id) = self.greeting(to, greets) else { return false };
        self.prolong(id, until);
        true
    }

    /// A letter is offered until `until` at least.
    fn prolong(&mut self, id: SendId, until: Time) {
        if let Some(letter) = self.letters.get_mut(&id) {
            self.timers.remove(&(letter.timer(), id));
            letter.give_up_at = letter.give_up_at.max(until);
            self.timers.insert((letter.timer(), id));
        }
    }

    /// Lets the letters of a lane fly that may: to a shell device the first alone; to a bidmesh device all that
    /// need no greeting, and all others once it was greeted.
    fn move_lane(&mut self, post: &mut Post<'_>, to: &DeviceId) {
        let Some(lane) = self.lanes.get(to) else { return };
        if lane.queue.is_empty() {
            self.lanes.remove(to);
            return;
        }
        // Without an address of its own a device cannot introduce itself; it may be known there all the same.
        let greeted = post.me.address.is_none() || post.peers.get(to).is_none_or(|peer| peer.greeted);
        let mut ready = Vec::new();
        for id in &lane.queue {
            let Some(letter) = self.letters.get(id) else { continue };
            if letter.dialect.is_shell() {
                let first_waits = letter.state == State::Waiting && (greeted || !letter.needs_greeting());
                if first_waits {
                    ready.push(*id);
                }
                break;
            }
            if letter.state == State::Waiting && (greeted || !letter.needs_greeting()) {
                ready.push(*id);
            }
        }
        for id in ready {
            self.fly(post, id);
        }
    }

    fn fly(&mut self, post: &mut Post<'_>, id: SendId) {
        let Some(letter) = self.letters.get_mut(&id) else { return };
        if letter.state == State::Flying {
            // The end of one before it in its lane has let it fly already.
            return;
        }
        if letter.give_up_at <= post.now {
            // Its turn came too late: nothing of it has left.
            let why = letter.last_failure.unwrap_or(SendFailure::Unreachable);
            return self.give_up(post, id, why);
        }
        self.timers.remove(&(letter.timer(), id));
        letter.state = State::Flying;
        letter.tries += 1;
        letter.sent = post.now;
        letter.try_until = letter.give_up_at;
        if letter.may_be_repeated() {
            letter.try_until = letter.try_until.min(post.now + post.config.timing.try_limit);
        }
        self.timers.insert((letter.timer(), id));
        let first = letter.tries == 1;
        post.out.actions.push(Action::Send {
            id,
            device: letter.to.clone(),
            to: letter.address,
            message: post.me.message(letter.body.clone()),
            dialect: letter.dialect,
            give_up_at: letter.try_until,
        });
        if first {
            let (to, purpose) = (letter.to.clone(), letter.purpose.clone());
            self.tell(&to, &purpose, Fate::Started);
            if matches!(purpose, Purpose::Hello) {
                self.tell_behind(&to, Fate::Started);
            }
        }
    }

    /// The questions that wait behind a HELLO share its tries: patience counts from the first attempt.
    fn tell_behind(&mut self, to: &DeviceId, what: Fate) {
        let Some(lane) = self.lanes.get(to) else { return };
        let waiting =
            |id: &SendId| self.letters.get(id).filter(|l| l.needs_greeting() && l.state == State::Waiting);
        let purposes: Vec<Purpose> =
            lane.queue.iter().filter_map(waiting).map(|l| l.purpose.clone()).collect();
        for purpose in purposes {
            self.tell(to, &purpose, what);
        }
    }

    fn tell(&mut self, to: &DeviceId, purpose: &Purpose, what: Fate) {
        self.news.push_back(News { to: to.clone(), purpose: purpose.clone(), what });
    }

    /// The driver says that a letter was read. `false`: it knows of none.
    pub(crate) fn delivered(&mut self, post: &mut Post<'_>, id: SendId) -> bool {
        let Some(letter) = self.remove(id) else { return false };
        post.peers.delivered(&letter.to, post.now);
        if letter.is_hello() {
            post.peers.edit(&letter.to, post.now, |peer| peer.greeted |= peer.address == letter.address);
        }
        self.tell(&letter.to, &letter.purpose, Fate::Delivered);
        self.move_lane(post, &letter.to);
        true
    }

    /// The driver says that a letter was not read, or that nobody knows. `false`: it knows of none.
    pub(crate) fn failed(&mut self, post: &mut Post<'_>, id: SendId, why: SendFailure) -> bool {
        let Some(letter) = self.letters.get_mut(&id) else { return false };
        if letter.state != State::Flying {
            return false;
        }
        letter.last_failure = Some(why);
        let failing_since = *letter.failing_since.get_or_insert(post.now);
        let again = match why {
            SendFailure::Refused | SendFailure::Unreachable | SendFailure::Reset => {
                !matches!(letter.purpose, Purpose::Probe { .. })
            }
            SendFailure::Ambiguous => letter.may_be_repeated(),
            SendFailure::NotSpoken | SendFailure::TooLong | SendFailure::Overloaded => false,
        };
        let sent = letter.sent;
        let timing = &post.config.timing;
        let growth = 1u32 << letter.tries.saturating_sub(1).min(4);
        let parts: [&[u8]; 2] = [&id.0.to_be_bytes(), &letter.tries.to_be_bytes()];
        let pause = post.me.seed.between(timing.retry_low, timing.retry_high, "retry", &parts) * growth;
        let next = post.now + pause;
        if !again || next >= letter.give_up_at {
            self.give_up(post, id, why);
            return true;
        }
        self.timers.remove(&(letter.timer(), id));
        letter.state = State::Resting(next);
        self.timers.insert((letter.timer(), id));
        let (to, purpose) = (letter.to.clone(), letter.purpose.clone());
        // Longer than any port is closed between two messages: whoever asks next need not wait for it.
        if post.now.since(failing_since) >= timing.patience_refused / 2 {
            post.peers.failed(&to, post.now, sent);
        }
        self.tell(&to, &purpose, Fate::Refused);
        if matches!(purpose, Purpose::Hello) {
            self.tell_behind(&to, Fate::Refused);
        }
        true
    }

    fn give_up(&mut self, post: &mut Post<'_>, id: SendId, why: SendFailure) {
        let Some(letter) = self.remove(id) else { return };
        // A probe is refused by a device that works: that is no failure.
        let probe = matches!(letter.purpose, Purpose::Probe { .. });
        if !probe && !matches!(why, SendFailure::NotSpoken | SendFailure::TooLong | SendFailure::Overloaded) {
            post.peers.failed(&letter.to, post.now, letter.sent);
        }
        self.tell(&letter.to, &letter.purpose, Fate::Failed(why));
        let ungreeted = || post.peers.get(&letter.to).is_some_and(|peer| !peer.greeted);
        if letter.greets() && ungreeted() && self.greeting(&letter.to, Letter::greets).is_none() {
            // Nothing that needs a greeting will get one.
            let Some(lane) = self.lanes.get(&letter.to) else { return };
            let waits = |letter: &Letter| letter.needs_greeting() && letter.state == State::Waiting;
            let behind: Vec<SendId> =
                lane.queue.iter().filter(|id| self.letters.get(*id).is_some_and(waits)).copied().collect();
            for id in behind {
                if let Some(letter) = self.remove(id) {
                    self.tell(&letter.to, &letter.purpose, Fate::Failed(why));
                }
            }
        }
        self.move_lane(post, &letter.to);
    }

    /// Nobody cares about this letter any more.
    pub(crate) fn abandon(&mut self, post: &mut Post<'_>, id: SendId) {
        let Some(letter) = self.remove(id) else { return };
        if letter.state == State::Flying {
            post.out.actions.push(Action::Abandon { id });
        }
        self.move_lane(post, &letter.to);
    }

    /// A person removed `device`: it is asked nothing any more. What it does for us already may end.
    pub(crate) fn removed(&mut self, post: &mut Post<'_>, device: &DeviceId) {
        let asks = |letter: &Letter| letter.is_hello() || letter.needs_greeting();
        let ids: Vec<SendId> =
            self.letters.iter().filter(|(_, l)| l.to == *device && asks(l)).map(|(id, _)| *id).collect();
        for id in ids {
            if self.letters.get(&id).is_some_and(|letter| letter.state == State::Flying) {
                post.out.actions.push(Action::Abandon { id });
            }
            self.give_up(post, id, SendFailure::Unreachable);
        }
    }

    /// `device` has moved or was restarted: the questions to it are dropped, since whoever waits asks again, and
    /// greetings to where it is no longer.
    pub(crate) fn recall(&mut self, post: &mut Post<'_>, device: &DeviceId) {
        let present = post.peers.get(device).map(|peer| peer.address);
        let elsewhere = |letter: &Letter| letter.purpose == Purpose::Hello && Some(letter.address) != present;
        let stale = |letter: &Letter| letter.needs_greeting() || elsewhere(letter);
        let ids: Vec<SendId> =
            self.letters.iter().filter(|(_, l)| l.to == *device && stale(l)).map(|(id, _)| *id).collect();
        for id in ids {
            self.abandon(post, id);
        }
    }

    /// Abandons every letter that `unwanted` names.
    pub(crate) fn abandon_where(
        &mut self,
        post: &mut Post<'_>,
        mut unwanted: impl FnMut(&DeviceId, &Purpose) -> bool,
    ) {
        let ids: Vec<SendId> =
            self.letters.iter().filter(|(_, l)| unwanted(&l.to, &l.purpose)).map(|(id, _)| *id).collect();
        for id in ids {
            self.abandon(post, id);
        }
    }

    fn remove(&mut self, id: SendId) -> Option<Letter> {
        let letter = self.letters.remove(&id)?;
        self.timers.remove(&(letter.timer(), id));
        if letter.in_lane()
            && let Some(lane) = self.lanes.get_mut(&letter.to)
        {
            lane.queue.retain(|other| *other != id);
            if lane.queue.is_empty() {
                self.lanes.remove(&letter.to);
            }
        }
        Some(letter)
    }

    /// Tries again and gives up what is due.
    pub(crate) fn advance(&mut self, post: &mut Post<'_>) {
        while let Some((at, id)) = self.timers.first().copied() {
            if at > post.now {
                break;
            }
            let Some(letter) = self.letters.get(&id) else {
                self.timers.pop_first();
                continue;
            };
            match letter.state {
                State::Resting(until) if until <= post.now && post.now < letter.give_up_at => {
                    if self.may_fly(id) {
                        self.fly(post, id);
                    } else {
                        self.step_back(id);
                    }
                }
                State::Flying => {
                    // The driver owes an answer and has not given it: nobody knows.
                    post.out.actions.push(Action::Abandon { id });
                    self.give_up(post, id, SendFailure::Ambiguous);
                }
                State::Resting(_) | State::Waiting => {
                    let why = letter.last_failure.unwrap_or(SendFailure::Unreachable);
                    self.give_up(post, id, why);
                }
            }
        }
    }

    /// A task may have gone before a letter to a shell device while that rested.
    fn may_fly(&self, id: SendId) -> bool {
        let Some(letter) = self.letters.get(&id) else { return false };
        let shell = |id: &&SendId| self.letters.get(id).is_some_and(|l| l.dialect.is_shell());
        let first = || self.lanes.get(&letter.to).and_then(|lane| lane.queue.iter().find(shell));
        !letter.dialect.is_shell() || first() == Some(&id)
    }

    fn step_back(&mut self, id: SendId) {
        if let Some(letter) = self.letters.get_mut(&id) {
            self.timers.remove(&(letter.timer(), id));
            letter.state = State::Waiting;
            self.timers.insert((letter.timer(), id));
        }
    }

    /// After sleep: what is on its way gets a little more time.
    pub(crate) fn grace(&mut self, now: Time, more: Duration) {
        let ids: Vec<SendId> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in ids {
            if let Some(letter) = self.letters.get_mut(&id) {
                self.timers.remove(&(letter.timer(), id));
                letter.give_up_at = letter.give_up_at.max(now + more);
                letter.try_until = letter.try_until.max(now + more);
                self.timers.insert((letter.timer(), id));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        self.timers.first().map(|(at, _)| (*at, "a message is to be tried again or given up"))
    }

    pub(crate) fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub(crate) fn next_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether a letter of this purpose is on its way to `device`.
    pub(crate) fn has(&self, mut wanted: impl FnMut(&DeviceId, &Purpose) -> bool) -> bool {
        self.letters.values().any(|letter| wanted(&letter.to, &letter.purpose))
    }

    pub(crate) fn check(&self) {
        assert!(self.news.is_empty() && self.local.is_empty(), "news are told before the next input");
        assert_eq!(self.timers.len(), self.letters.len(), "each letter has one timer");
        for (id, letter) in &self.letters {
            assert!(
                self.timers.contains(&(letter.timer(), *id)),
                "{id:?}: its timer is the one that its state wants"
            );
            if letter.in_lane() {
                let lane = self.lanes.get(&letter.to);
                assert!(lane.is_some_and(|lane| lane.queue.contains(id)), "{id:?}: it stands in its lane");
            }
        }
        for (device, lane) in &self.lanes {
            assert!(!lane.queue.is_empty(), "{device}: an empty lane is removed");
            let letters = || lane.queue.iter().filter_map(|id| self.letters.get(id));
            let flying = letters().filter(|l| l.dialect.is_shell() && l.state == State::Flying).count();
            assert!(flying <= 1, "{device}: a shell device holds one connection at a time");
        }
    }
}

impl Mail {
    /// The letters on their way, oldest first.
    pub(crate) fn open(&self) -> Vec<SendId> {
        self.letters.keys().copied().collect()
    }

    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal, peers: &Peers, config: &Config) {
        let number = |id: SendId| by.numbers.send(id);
        for letter in self.letters.values_mut() {
            let heard = peers.get(&letter.to).and_then(|peer| peer.heard);
            letter.sent = by.sent(letter.sent, heard);
            letter.give_up_at = by.due(letter.give_up_at);
            let margin = if letter.state == State::Flying { ANSWER_MARGIN } else { Duration::ZERO };
            letter.try_until = by.past(letter.try_until, margin);
            letter.failing_since =
                letter.failing_since.map(|since| by.past(since, config.timing.patience_refused / 2));
            if let State::Resting(until) = &mut letter.state {
                *until = by.due(*until);
            }
        }
        let letters = core::mem::take(&mut self.letters);
        self.letters = letters.into_iter().filter_map(|(id, letter)| Some((number(id)?, letter))).collect();
        for lane in self.lanes.values_mut() {
            lane.queue = lane.queue.iter().copied().filter_map(number).collect();
        }
        self.timers = self.letters.iter().map(|(id, letter)| (letter.timer(), *id)).collect();
        self.last = self.letters.len() as u64;
    }
}

impl Me {
    /// A message from this device, with its marker; the dialect decides whether that is written.
    pub(crate) fn message(&self, body: Body) -> Message {
        Message {
            from: self.id.clone(),
            marker: Some(Marker { version: Marker::VERSION, boot: self.boot.clone() }),
            body,
        }
    }

    /// HELLO with the address that others may use.
    pub(crate) fn hello(&self) -> Body {
        let nowhere = Advertised { ip: None, port: 0 };
        Body::Hello(self.address.map_or(nowhere, Advertised::from))
    }
}

/// A note that an award may be cancelled, and the like: offered for a while, then dropped.
pub(crate) fn notice(to: &DeviceId, body: Body, now: Time, config: &Config) -> Draft {
    Draft {
        to: to.clone(),
        address: None,
        body,
        purpose: Purpose::Notice,
        give_up_at: now + config.timing.notice_send,
    }
}

/// CANCEL of an award, wherever its device was when it was awarded.
pub(crate) fn cancel(
    to: &DeviceId,
    address: Option<(SocketAddr, Dialect)>,
    award: &AwardId,
    now: Time,
    config: &Config,
) -> Draft {
    Draft { address, ..notice(to, Body::Cancel(award.clone()), now, config) }
}

#[cfg(test)]
mod tests;
