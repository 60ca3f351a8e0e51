//! Questions to the person at the terminal.

use std::io::{self, BufRead, Write};

use crate::exit::Failure;

/// Asks until it is answered; `None`: nobody will. May be cancelled: then the process must end, since a thread of it still
/// waits for the answer.
pub async fn yes_or_no(question: &str) -> Result<Option<bool>, Failure> {
    let question = question.to_owned();
    // Reading blocks; on the only thread of the runtime it would keep Ctrl-C from being heard.
    let asked = tokio::task::spawn_blocking(move || ask(&question)).await;
    asked.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
        Failure::failed(format!(
            "the answer cannot be read: {error}; say it on the command line (see --help)"
        ))
    })
}

fn ask(question: &str) -> io::Result<Option<bool>> {
    loop {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question}").and_then(|()| stderr.flush())?;
        // Others have something to say while nobody answers.
        drop(stderr);
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            return Ok(None);
        }
        if let Some(yes) = understood(&answer) {
            return Ok(Some(yes));
        }
    }
}

fn understood(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_question_takes_the_seeds_answers() {
        assert_eq!(
            ["y", " Yes\n", "n", "NO"].map(understood),
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(understood("maybe"), None);
    }
}
