//! One prompt to its outcome, over restarts of the device that it was handed to.
//!
//! Each prompt has a key. When the device is away, the prompt is handed in again with the same key once it is back: if
//! the device kept the task this joins it, if not the prompt is asked anew. An attached task waits as long for its
//! watcher as the watcher waits for the device.

use std::time::Instant;

use crate::api::types::{Admitted, Submit};
use crate::client::{Answering, Client, GONE, Heard};
use crate::exit::Failure;

/// What comes next of a prompt.
#[derive(Debug)]
pub enum Seen {
    /// The device tells something.
    Heard(Heard),
    /// The device is away.
    Away,
}

/// A prompt that is followed to its outcome.
pub struct Watch<'a> {
    client: &'a Client,
    submit: Submit,
    answering: Option<Answering>,
    /// Told by the answer to a detached submission.
    admitted: Option<Admitted>,
    /// Since when the device is away.
    away: Option<Instant>,
    /// Whether the device was there before.
    met: bool,
}

impl<'a> Watch<'a> {
    /// Of a prompt with a key; it is handed in by the first [`Watch::next`].
    pub fn new(client: &'a Client, submit: Submit) -> Self {
        Self { client, submit, answering: None, admitted: None, away: None, met: false }
    }

    /// The same, of a device that was there a moment ago.
    pub fn of_known_device(client: &'a Client, submit: Submit) -> Self {
        Self { met: true, ..Self::new(client, submit) }
    }

    /// What comes next; after the outcome nothing does. May be cancelled.
    pub async fn next(&mut self) -> Result<Seen, Failure> {
        loop {
            match self.try_next().await {
                Ok(heard) => {
                    (self.away, self.met) = (None, true);
                    return Ok(Seen::Heard(heard));
                }
                Err(failure) => {
                    self.answering = None;
                    let first = self.away.is_none();
                    // Nobody waits for a device that was never there.
                    let known = self.met || !first || failure.code == GONE;
                    let since = *self.away.get_or_insert_with(Instant::now);
                    if !known || !self.client.may_come_back(&failure, since) {
                        return Err(failure);
                    }
                    if first {
                        return Ok(Seen::Away);
                    }
                    self.client.look_again().await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Heard, Failure> {
        loop {
            let Some(answering) = &mut self.answering else {
                self.open().await?;
                continue;
            };
            match (answering.next().await?, self.admitted.take()) {
                // The stream of a task that is joined begins with that word, too, but knows less.
                (Heard::Admitted(_), Some(admitted)) => return Ok(Heard::Admitted(admitted)),
                (heard, _) => return Ok(heard),
            }
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        if self.submit.attached {
            self.answering = Some(self.client.submit(&self.submit).await?);
            return Ok(());
        }
        let admitted: Admitted = self.client.post("/v1/tasks", &self.submit).await?;
        self.answering = Some(self.client.follow(&admitted.task_id).await?);
        self.admitted = Some(admitted);
        Ok(())
    }
}
