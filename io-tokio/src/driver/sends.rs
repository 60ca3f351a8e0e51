//! Messages on their way: a task each, as many as core allows ([`bidmesh_core::config::Limits::outgoing`]).

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_core::input::SendFailure;
use bidmesh_core::outbox::SendId;
use tokio::task::{AbortHandle, JoinSet};

use super::shield::shield;
use crate::network::{Network, Outgoing};

#[derive(Debug)]
pub(super) struct Sends<N> {
    network: N,
    tasks: JoinSet<(SendId, Result<(), SendFailure>)>,
    open: BTreeMap<SendId, AbortHandle>,
}

impl<N: Network> Sends<N> {
    pub(super) fn new(network: N) -> Self {
        Self { network, tasks: JoinSet::new(), open: BTreeMap::new() }
    }

    pub(super) fn begin(&mut self, send: SendId, outgoing: Outgoing, within: Duration) {
        let network = self.network.clone();
        let task = self.tasks.spawn(async move {
            // Whether a send that panicked had left, nobody knows.
            let result = shield(network.send(outgoing, within)).await;
            (send, result.unwrap_or(Err(SendFailure::Ambiguous)))
        });
        self.open.insert(send, task);
    }

    /// Gives a message up; whatever becomes of it is not told any more.
    pub(super) fn abandon(&mut self, send: SendId) {
        if let Some(task) = self.open.remove(&send) {
            task.abort();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What became of the next message. May be cancelled.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            match self.tasks.join_next().await {
                None => pending().await,
                // An abandoned send may have ended before it could be aborted.
                Some(Ok((send, result))) if self.open.remove(&send).is_some() => {
                    return match result {
                        Ok(()) => Input::Delivered { send },
                        Err(why) => Input::SendFailed { send, why },
                    };
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Incoming;
    use bidmesh_core::id::DeviceId;
    use bidmesh_core::wire::{Body, Dialect, Message};
    use std::sync::Arc;

    /// Fails, panics or delivers, as the message's text says, a second later; counts what is under way.
    #[derive(Clone, Default)]
    struct Obedient(Arc<()>);

    impl Network for Obedient {
        async fn send(&self, outgoing: Outgoing, within: Duration) -> Result<(), SendFailure> {
            let _under_way = Arc::clone(&self.0);
            tokio::time::sleep(within.min(Duration::from_secs(1))).await;
            match outgoing.message.body {
                Body::Text(text) if &*text == "refuse" => Err(SendFailure::Refused),
                Body::Text(text) if &*text == "panic" => panic!("as told"),
                _ => Ok(()),
            }
        }

        async fn receive(&self) -> Incoming {
            pending().await
        }
    }

    fn outgoing(text: &str) -> Outgoing {
        let device = DeviceId::new("B").expect("valid");
        let message = Message { from: device.clone(), marker: None, body: Body::Text(text.into()) };
        Outgoing { device, to: ([127, 0, 0, 1], 9999).into(), message, dialect: Dialect::Bidmesh }
    }

    #[tokio::test(start_paused = true)]
    async fn each_send_has_one_answer_and_an_abandoned_one_none() {
        let mut sends = Sends::new(Obedient::default());
        for (number, text) in ["deliver", "refuse", "panic", "abandon"].into_iter().enumerate() {
            sends.begin(SendId(number as u64), outgoing(text), Duration::from_secs(5));
        }
        sends.abandon(SendId(3));
        let mut answers = Vec::new();
        while !sends.is_empty() {
            answers.push(sends.next().await);
        }
        answers.sort_by_key(|answer| format!("{answer:?}"));
        assert_eq!(
            answers,
            [
                Input::Delivered { send: SendId(0) },
                Input::SendFailed { send: SendId(1), why: SendFailure::Refused },
                Input::SendFailed { send: SendId(2), why: SendFailure::Ambiguous },
            ]
        );
        assert!(tokio::time::timeout(Duration::from_secs(9), sends.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_abandoned_after_its_end_tells_nothing_either() {
        let mut sends = Sends::new(Obedient::default());
        sends.begin(SendId(1), outgoing("deliver"), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(1)).await;
        sends.abandon(SendId(1));
        assert!(tokio::time::timeout(Duration::from_secs(9), sends.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_send_is_dropped() {
        let network = Obedient::default();
        let mut sends = Sends::new(network.clone());
        // The network's own, and that of `sends`.
        let idle = Arc::strong_count(&network.0);
        sends.begin(SendId(1), outgoing("deliver"), Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(Arc::strong_count(&network.0) > idle);
        sends.abandon(SendId(1));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&network.0), idle);
    }
}
