//! The terminal as it was: the line editor switches it to raw mode, and a signal that ends the command meanwhile
//! must not leave it so.

use std::io::stdin;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Puts the terminal back as it was when dropped.
pub struct Terminal(Option<Termios>);

impl Terminal {
    /// Remembers how it is now.
    pub fn remember() -> Self {
        Self(tcgetattr(stdin()).ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(was) = &self.0 {
            // A terminal that is gone needs no repair.
            let _ = tcsetattr(stdin(), OptionalActions::Now, was);
        }
    }
}
