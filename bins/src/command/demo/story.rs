//! `demo --story`: what a mesh is for when something goes wrong. A worker is killed in the middle of its answer and
//! another takes over; then the owner wants the laptop for itself, and a device of the shell mesh wins.

use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_io_tokio::driver::Handle;
use tokio::pin;
use tokio::time::sleep;

use super::Asking;
use super::devices::{ASKING, Mesh, SHELL};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signals::Signals;

/// How much of an answer makes its middle, in bytes: enough for a person to see it begin.
const MIDDLE: u64 = 40;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const SECOND_PROMPT: &str = "Name three fruits.";

pub async fn tell(
    output: &Output,
    mesh: &mut Mesh,
    asking: &Asking,
    prompt: String,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let laptop = mesh.asking()?.handle.clone();
    output.note("\nFirst: the winner will be killed while it answers. It is missed after 2 s of silence here; 15 s is usual.");
    let exit = {
        let asked = asking.ask(output, prompt, signals);
        pin!(asked);
        tokio::select! {
            exit = &mut asked => {
                output.note("(The answer was there before anybody could be killed.)");
                exit?
            }
            killed = kill_in_the_middle(&laptop, mesh) => {
                output.note(&format!("\n[{killed} is killed: from now on it says nothing]"));
                asked.await?
            }
        }
    };
    if exit != Exit::Ok {
        return Ok(exit);
    }
    output.note(&format!(
        "\nSecond: the owner pauses {ASKING} as a worker. Who is left? {SHELL}, which knows the old messages only."
    ));
    // A device that cannot be told has ended; the next prompt says so.
    let _ = laptop.tell(Input::Pause { during: None }).await;
    asking.ask(output, SECOND_PROMPT.into(), signals).await
}

/// Waits until an answer is half there, and kills who gives it. Never returns if nobody is to be killed.
async fn kill_in_the_middle(laptop: &Handle, mesh: &mut Mesh) -> String {
    loop {
        let tasks = laptop.snapshot().await.map(|now| now.tasks).unwrap_or_default();
        let half = tasks.into_iter().find(|task| task.bytes >= MIDDLE);
        if let Some(device) = half.and_then(|task| task.device)
            && mesh.kill(device.as_str())
        {
            return device.to_string();
        }
        sleep(LOOK_AGAIN).await;
    }
}
