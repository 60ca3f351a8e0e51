//! A bidmesh device that asks a device of the shell mesh, beside the bare program. Most of it is the half second for
//! which a shell device measures its processor before it bids.

use std::time::{Duration, Instant};

use bidmesh_tests::{Netcat, Shell, ShellDevice, require};

use super::bare::Bare;
use super::devices::Mesh;
use super::figures::{Times, compare, heading};

const ROUNDS: usize = 10;
/// Longer than its port is closed after a message.
const REST: Duration = Duration::from_millis(300);

/// One prompt at a time.
pub(crate) fn latency() {
    if !require(&["mksh", "toybox"]) {
        return;
    }
    heading("one prompt, one shell device (mksh, toybox)", "bidmesh", "bare TCP");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mesh = Mesh::start(1).await;
        let address = mesh.address();
        // It greets the bidmesh device before it listens, which must be able to answer meanwhile.
        let start = move || {
            ShellDevice::build("Shell_1", Shell::Mksh, Netcat::Toybox).peer("Device_0", address).start()
        };
        let device = tokio::task::spawn_blocking(start).await.expect("a shell device that starts");
        mesh.know_only(device.id(), device.address()).await;
        for (what, dry_run) in [("auction", true), ("whole prompt", false)] {
            let mut bare = {
                let mesh = Mesh::start(2).await;
                mesh.prompt(dry_run).await;
                Bare::start(&mesh.record(mesh.prompt(dry_run)).await).await
            };
            let (mut with_shell, mut without) = (Times::default(), Times::default());
            for round in 0..=ROUNDS {
                let start = Instant::now();
                mesh.prompt(dry_run).await;
                let took = start.elapsed();
                let bare_took = bare.play().await;
                tokio::time::sleep(REST).await;
                if round > 0 {
                    with_shell.add(took);
                    without.add(bare_took);
                }
            }
            compare(&format!("1 shell device, {what}"), &with_shell, &without);
        }
    });
}
