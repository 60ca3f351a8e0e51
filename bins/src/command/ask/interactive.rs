//! One prompt after the other, with history, as the shell mesh's orchestrator had it.

use std::path::Path;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{DefaultEditor, Editor};

use super::terminal::Terminal;
use super::{Ask, once};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signals::Signals;

const HISTORY_FILE: &str = "ask_history";
const HISTORY_LINES_MAX: usize = 1_000;

type LineEditor = Editor<(), FileHistory>;

pub async fn run(
    client: &Client,
    directory: &Path,
    output: &Output,
    ask: &Ask,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let history = directory.join(HISTORY_FILE);
    let mut editor = Some(editor(&history)?);
    output.note("One prompt a line; Ctrl-C stops an answer, Ctrl-D or `exit` ends.");
    let _terminal = Terminal::remember();
    while let Some(ready) = editor.take() {
        // Reading blocks; on a thread of its own it keeps neither the device nor the API from working.
        let line = tokio::task::spawn_blocking(move || {
            let mut editor = ready;
            (editor.readline("> "), editor)
        });
        let (line, mut ready) = tokio::select! {
            read = line => read.map_err(|error| Failure::failed(format!("the line editor ended: {error}")))?,
            () = signals.next() => break,
        };
        match line {
            Ok(line) if matches!(line.trim(), "exit" | "quit") => break,
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                remember(&mut ready, &line, &history);
                if let Err(failure) = once(client, output, &ask.submit(line), signals).await {
                    output.failure(&failure);
                    if failure.exit == Exit::ClosedPipe {
                        return Err(failure);
                    }
                }
            }
            Err(ReadlineError::Interrupted) => output.note("Ctrl-D or `exit` ends."),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::failed(format!("the prompt cannot be read: {error}"))),
        }
        editor = Some(ready);
    }
    Ok(Exit::Ok)
}

fn editor(history: &Path) -> Result<LineEditor, Failure> {
    let mut editor = DefaultEditor::new().map_err(|error| {
        Failure::failed(format!("the terminal cannot be used: {error}; give the prompt on the command line"))
    })?;
    // A history that cannot be read is none.
    let _ = editor.set_max_history_size(HISTORY_LINES_MAX).and_then(|()| editor.load_history(history));
    Ok(editor)
}

/// Written at once: a prompt that made trouble is the one that is wanted again.
fn remember(editor: &mut LineEditor, line: &str, history: &Path) {
    // A full disk must not stop anybody from asking. rustyline creates the file with mode 0600.
    let _ = editor.add_history_entry(line).and_then(|_| editor.append_history(history));
}
