//! Who may win: what the oracle heard of each bidder, and which winners that allows.

use std::time::Duration;

use bidmesh_core::Time;
use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::outbox::{Record, RunId};
use bidmesh_core::policy::Policy;
use bidmesh_core::snapshot::Health;
use bidmesh_core::wire::{Bid, Body, Message};

use super::Oracle;
use super::books::{Award, Task, View, task_of};

impl Oracle {
    pub(super) fn heard(&mut self, node: usize, now: Time, message: &Message) {
        let view = &mut self.views[node];
        let from = &message.from;
        match &message.body {
            Body::BidResponse(bid) => {
                view.current_bid = Some((from.clone(), bid.clone(), message.marker.is_none()));
                view.peers.entry(from.clone()).or_default().capacity = bid.capacity.map(|c| (now, c));
            }
            Body::BidRequest(_) if message.marker.is_some() => view.current_question = Some(from.clone()),
            Body::Hello(_) | Body::Discover(_) => {
                // One that was cut off before its marker is a shell device's, which has one slot.
                view.peers.entry(from.clone()).or_default().cut = message.marker.is_none();
            }
            Body::Refuse(refuse) => {
                let peer = view.peers.entry(from.clone()).or_default();
                peer.capacity = refuse.capacity.map(|c| (now, c));
                peer.full = refuse.reason.is_load().then_some(now).or(peer.full);
            }
            Body::Reject(reject) => {
                let peer = view.peers.entry(from.clone()).or_default();
                peer.capacity = reject.capacity.map(|c| (now, c));
                peer.full = reject.reason.is_load().then_some(now).or(peer.full);
                view.release(&reject.award, from);
            }
            Body::Task(order) => {
                let award = order.award.as_ref().map_or("", AwardId::as_str);
                view.works.insert((from.clone(), format!("{award} {}", order.prompt)));
            }
            Body::Cancel(award) => {
                view.works.insert((from.clone(), award.as_str().into()));
            }
            Body::SlmPrompt(prompt) => {
                view.works.insert((from.clone(), prompt.to_string()));
            }
            Body::Result(result) => {
                if let Some(award) = &result.award {
                    let task = task_of(&message.body).unwrap_or_default();
                    view.results.insert((from.clone(), task.into()));
                    view.release(award, from);
                }
            }
            _ => {}
        }
    }

    /// S18: what is believed of a peer's being there has changed.
    pub(super) fn health_changed(&mut self, node: usize, now: Time, peer: &DeviceId, health: Health) {
        self.mark(match health {
            Health::Suspect => "a peer is suspect",
            Health::Gone => "a peer is gone",
            Health::Back => "a peer that came and went too often is not waited for",
            _ => "a peer is there again",
        });
        let view = &mut self.views[node];
        let book = view.peers.entry(peer.clone()).or_default();
        // Whether it had a slot is in doubt from here on, and whether it is waited for.
        book.failed = Some(now);
        let sign = book.heard.into_iter().chain(view.woke).max();
        let detection = view.config.detection;
        // The least that three heartbeats, a second apart at least, and the level allow.
        let least = Duration::from_secs(if detection.gone >= 10 { 7 } else { 2 });
        let least =
            Some(detection.unreachable).filter(|time| !time.is_zero()).map_or(least, |t| t.min(least));
        let recent = sign.filter(|sign| health == Health::Gone && now.since(*sign) < least);
        let id = view.id.clone();
        self.must(recent.is_none(), "S18", || {
            format!("{id} takes {peer} for gone at {now}, heard at {sign:?}")
        });
    }

    /// S5: a bid counts while it is handed over, for its sender and once an auction.
    pub(super) fn bid_taken(&mut self, node: usize, now: Time, task: &TaskId, from: &DeviceId) {
        let view = &mut self.views[node];
        let Some(book) = view.tasks.get_mut(task) else { return };
        let first = book.counted.insert(from.clone());
        let own = *from == view.id;
        let arrived = match &view.current_bid {
            Some((bidder, bid, shell)) if bidder == from => {
                let names_it = *shell || bid.task.as_ref() == Some(task);
                book.bids.insert(from.clone(), (bid.clone(), now, *shell));
                names_it
            }
            _ => false,
        };
        self.must(first, "S5", || format!("{from} counts twice in the auction of {task}"));
        self.must(own || arrived, "S5", || format!("a bid of {from} for {task} counts that never arrived"));
    }

    pub(super) fn persisted(&mut self, node: usize, record: &Record) {
        if let Record::Award { award, device, .. } = record {
            self.awards.insert(award.as_str().into());
            let view = &mut self.views[node];
            view.held.insert(award.clone(), device.clone());
            if *device == view.id {
                // It reaches this device without a message.
                view.works.insert((device.clone(), award.as_str().into()));
            }
        }
    }

    /// Awards that were never given to a device, of the asker whose award it runs: another device's, and one that
    /// nobody gave, of another task. With the asker, and what it is to name such a one.
    pub fn never_given(&self, liar: usize, run: RunId) -> Vec<(usize, AwardId, &'static str)> {
        let Some(mine) = self.views[liar].runs.get(&run) else { return Vec::new() };
        let asker = self.views.iter().position(|view| view.held.keys().any(|award| award.as_str() == mine));
        let Some(asker) = asker.filter(|asker| *asker != liar) else { return Vec::new() };
        let (view, liar) = (&self.views[asker], &self.views[liar].id);
        let others = view.held.iter().rfind(|(_, device)| *device != liar).map(|(award, _)| award.clone());
        let others = others.map(|award| (asker, award, "a liar names another device's award"));
        // TASK.ATTEMPT.SECRET
        let (task, rest) = mine.split_once('.').unwrap_or_default();
        let open = view.tasks.iter().rfind(|(id, book)| book.finished == 0 && id.as_str() != task);
        let made_up = open.and_then(|(other, _)| AwardId::new(&format!("{other}.{rest}")).ok());
        let made_up = made_up.map(|award| (asker, award, "a liar names an award that nobody gave"));
        others.into_iter().chain(made_up).collect()
    }

    /// S3, S4, S6: a device won.
    pub(super) fn awarded(&mut self, node: usize, now: Time, task: &TaskId, to: &DeviceId, attempt: u32) {
        let view = &self.views[node];
        let Some(book) = view.tasks.get(task) else {
            return self.violate("S3", || format!("{task} is awarded without an auction"));
        };
        let had_bid = book.counted.contains(to);
        let spent = book.spent.contains(to);
        let hedging = !view.config.timing.hedge.is_zero();
        let mut open = book.awards.iter().filter(|award| !award.lost);
        // One that is slow may run beside this one.
        let slow = open.clone().filter(|award| award.hedged && hedging).count();
        let open = open.find(|award| !award.hedged || slow > 1).map(|award| award.attempt);
        let expected = book.awards.last().map(|award| award.attempt + 1);
        let (accepted, limit) = (book.accepted, view.config.limits.attempts);
        let eligible = book.eligible.as_ref().is_none_or(|only| only.contains(to));
        let restored = book.restored;
        let better = view.better_than(book, to, now);
        let idle = view.idle_beside(book, to, now);
        let (id, again) = (view.id.clone(), !book.awards.is_empty());

        self.must(had_bid && !spent, "S3", || {
            format!("{id} awards {task} to {to}, which has no bid to be awarded")
        });
        self.must(eligible, "S3", || format!("{id} awards {task} to {to}, which is not eligible"));
        self.must(open.is_none(), "S6", || format!("{id} awards {task} while attempt {open:?} is open"));
        self.must(restored || attempt == expected.unwrap_or(1), "S6", || {
            format!("{id} awards {task} as attempt {attempt}, expected {expected:?}")
        });
        self.must(accepted < limit, "S6", || {
            format!("{id} awards {task} after {accepted} accepted runs of {limit}")
        });
        if let Some((better, forgiven)) = better {
            self.violate(if forgiven { "L3" } else { "S4" }, || {
                format!("{id} awards {task} to {to}, but {better} bid better and had a slot free")
            });
        }
        if let Some(idle) = idle {
            self.violate("L4", || format!("{id} awards {task} to {to}, which is full, and {idle} is idle"));
        }
        if again {
            self.mark("a task is awarded again");
        }
        if let Some(book) = self.views[node].tasks.get_mut(task) {
            book.spent.insert(to.clone());
            book.awards.push(Award { attempt, device: to.clone(), lost: false, hedged: false });
            book.collecting = false;
            book.active_since.get_or_insert(now);
        }
    }
}

impl View {
    fn release(&mut self, award: &AwardId, from: &DeviceId) {
        if self.held.get(award) == Some(from) {
            self.held.remove(award);
        }
    }

    /// A device that bid better than the winner and surely had a slot free; and whether it had failed or been full
    /// long ago.
    fn better_than(&self, book: &Task, winner: &DeviceId, now: Time) -> Option<(DeviceId, bool)> {
        let (won, ..) = book.bids.get(winner)?;
        let rank = |device: &DeviceId, bid: &Bid| rank(book.policy, book.tried.contains(device), bid);
        let winners = rank(winner, won);
        let young = |at: Time| now.since(at) < self.config.timing.bid_validity;
        let better = book.bids.iter().find(|(device, (bid, at, shell))| {
            *device != winner
                && !shell
                && !book.spent.contains(*device)
                && young(*at)
                && self.surely_free(device, now)
                && rank(device, bid) < winners
        });
        let forgiven = |device: &DeviceId| {
            self.peers.get(device).is_some_and(|peer| peer.failed.is_some() || peer.full.is_some())
        };
        better.map(|(device, _)| (device.clone(), forgiven(device)))
    }

    /// A device that bid and is surely idle, where the winner surely has no slot left.
    fn idle_beside(&self, book: &Task, winner: &DeviceId, now: Time) -> Option<DeviceId> {
        let peer = self.peers.get(winner)?;
        let (at, capacity) = peer.capacity?;
        let others = usize::from(capacity.running.saturating_sub(capacity.yours));
        // A refusal for load is believed for as long as it asks only; a bid longer.
        let believed = now.since(at) < self.config.timing.belief && peer.full != Some(at);
        // By its own word: an award of ours there may be over without our oracle's knowing.
        if !believed || usize::from(capacity.slots) > others {
            return None;
        }
        let idle = book.bids.iter().find(|(device, (_, at, shell))| {
            *device != winner
                && !shell
                && !book.spent.contains(*device)
                && now.since(*at) < self.config.timing.bid_validity
                && self.surely_free(device, now)
        });
        idle.map(|(device, _)| device.clone())
    }

    fn held_by(&self, device: &DeviceId) -> usize {
        self.held.values().filter(|holder| *holder == device).count()
    }

    /// Whether a device had a slot free by all that was heard of it; in doubt not.
    fn surely_free(&self, device: &DeviceId, now: Time) -> bool {
        let Some(peer) = self.peers.get(device) else { return false };
        let Some((at, capacity)) = peer.capacity else { return false };
        let held = self.held_by(device);
        // No penalty outlives this: pauses between tries grow to sixteen times the first.
        let timing = &self.config.timing;
        let penalty = Duration::from_secs(600).max(timing.belief).max(timing.retry_high * 17);
        let long_ago = |moment: Option<Time>| moment.is_none_or(|moment| now.since(moment) > penalty);
        let others = usize::from(capacity.running.saturating_sub(capacity.yours));
        now.since(at) < self.config.timing.belief
            && !peer.cut
            && long_ago(peer.full)
            && long_ago(peer.failed)
            && usize::from(capacity.slots) > others + held
    }
}

/// The place of a bid, the least first, by the words of docs/protocol.md; ties are left open.
fn rank(policy: Policy, tried: bool, bid: &Bid) -> (bool, u64, bool, u32, u16) {
    let load = bid.cpu.map_or(u32::MAX, bidmesh_core::load::Load::ppm);
    match policy {
        Policy::NpuFirst => (tried, 0, !bid.npu, load, bid.capacity.map_or(0, |c| c.running)),
        Policy::Weighted => (tried, u64::MAX - points(bid), false, 0, 0),
    }
}

/// Points of `weighted` in millionths: NPU 40; battery 0 at 20 % to 25 at 100 % or charging; free cpu 10, free ram 15.
fn points(bid: &Bid) -> u64 {
    let free =
        |load: Option<bidmesh_core::load::Load>| load.map_or(0, |load| 1_000_000 - u64::from(load.ppm()));
    let battery = match (bid.charging, bid.battery.map(bidmesh_core::load::Percent::value)) {
        (Some(true), _) => 25_000_000,
        (_, Some(charge)) if charge > 20 => 25_000_000 * (u64::from(charge) - 20) / 80,
        _ => 0,
    };
    let npu = if bid.npu { 40_000_000 } else { 0 };
    npu + battery + 10 * free(bid.cpu) + 15 * free(bid.ram)
}
