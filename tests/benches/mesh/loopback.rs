//! Devices and bare program in one thread of this process: the ratio is that of the work that they do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bidmesh_io_tokio::store::{NoStore, RedbStore, Store, StoreOptions};

use tokio::runtime::{Builder, Runtime};

use super::bare::Bare;
use super::devices::Mesh;
use super::figures::{Times, compare, heading, spread};
use super::script::Script;

const DEVICES: [usize; 3] = [2, 5, 10];
const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

/// One prompt at a time.
pub(crate) fn latency() {
    heading("one prompt, one process", "bidmesh", "bare TCP");
    for devices in DEVICES {
        runtime().block_on(async {
            let mesh = Mesh::start(devices).await;
            for (what, dry_run) in [("auction", true), ("whole prompt", false)] {
                // The first prompts greet the devices; those after them are all alike.
                for _ in 0..WARM_UP {
                    mesh.prompt(dry_run).await;
                    mesh.settle().await;
                }
                let script = mesh.record(mesh.prompt(dry_run)).await;
                let mut bare = Bare::start(&script).await;
                let (mut with_mesh, mut without) = (Times::default(), Times::default());
                for round in 0..WARM_UP + ROUNDS {
                    let start = Instant::now();
                    mesh.prompt(dry_run).await;
                    let took = start.elapsed();
                    mesh.settle().await;
                    let bare_took = bare.play().await;
                    mesh.settle().await;
                    if round >= WARM_UP {
                        with_mesh.add(took);
                        without.add(bare_took);
                    }
                }
                compare(&format!("{devices} devices, {what}"), &with_mesh, &without);
                println!("    {} connections: {}", script.steps.len(), script.kinds());
            }
        });
    }
}

/// What the mesh adds to the time to the first token: the executor has its first token at once.
pub(crate) fn first_token() {
    const ROUNDS: usize = 50;
    /// Long enough that the answer's end never overtakes its beginning.
    const AFTER: Duration = Duration::from_millis(50);
    println!(
        "\ntime to the first token, an executor that has it at once: median (middle half) of {ROUNDS}; goal 5ms"
    );
    for devices in DEVICES {
        runtime().block_on(async {
            let mesh = Mesh::start_with(devices, AFTER).await;
            let mut times = Times::default();
            for round in 0..WARM_UP + ROUNDS {
                let took = mesh.first_token().await;
                mesh.settle().await;
                if round >= WARM_UP {
                    times.add(took);
                }
            }
            println!("{devices:>3} devices {:>28}", spread(&times));
        });
    }
}

/// Hands in so many prompts at once, and plays the same messages on bare TCP, in turn and so often.
async fn side_by_side(mesh: &Mesh, prompts: usize, times: usize) -> (Script, Times, Times) {
    mesh.prompts(prompts).await;
    let script = mesh.record(mesh.prompts(prompts)).await;
    let mut bare = Bare::start(&script).await;
    let (mut with_mesh, mut without) = (Times::default(), Times::default());
    for _ in 0..times {
        let start = Instant::now();
        mesh.prompts(prompts).await;
        with_mesh.add(start.elapsed());
        mesh.settle().await;
        without.add(bare.play().await);
        mesh.settle().await;
    }
    (script, with_mesh, without)
}

fn tell_rates(prompts: usize, with_mesh: &Times, without: &Times) {
    let rate = |times: &Times| prompts as f64 / times.median().as_secs_f64();
    println!("    prompts a second: {:.0} against {:.0}", rate(with_mesh), rate(without));
}

/// Many prompts, handed in at once.
pub(crate) fn throughput() {
    const PROMPTS: usize = 100;
    const TIMES: usize = 15;
    heading("100 prompts at once, 5 devices, one process", "bidmesh", "bare TCP");
    runtime().block_on(async {
        let mesh = Mesh::start(5).await;
        let (script, with_mesh, without) = side_by_side(&mesh, PROMPTS, TIMES).await;
        compare("until the last answer", &with_mesh, &without);
        println!("    {} connections: {}", script.steps.len(), script.kinds());
        tell_rates(PROMPTS, &with_mesh, &without);
    });
}

/// The same as a batch on eight devices, with nothing kept and with a store on each: on a disk that is waited for and
/// on one that is not.
pub(crate) fn batch() {
    const PROMPTS: usize = 200;
    const TIMES: usize = 9;
    heading("200 prompts at once, 8 devices, one process", "bidmesh", "bare TCP");
    for (what, sync) in [("no store", None), ("store, sync off", Some(false)), ("store, sync on", Some(true))]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = |number: usize| -> Arc<dyn Store> {
            let Some(sync) = sync else { return Arc::new(NoStore) };
            let options = StoreOptions { sync, ..StoreOptions::default() };
            let path = folder.path().join(format!("{number}.redb"));
            Arc::new(RedbStore::open(path, options).expect("a writable folder").0)
        };
        runtime().block_on(async {
            let mesh = Mesh::start_on(8, Duration::ZERO, &store).await;
            let (_, with_mesh, without) = side_by_side(&mesh, PROMPTS, TIMES).await;
            compare(what, &with_mesh, &without);
            tell_rates(PROMPTS, &with_mesh, &without);
        });
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
