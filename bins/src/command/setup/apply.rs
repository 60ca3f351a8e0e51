//! A plan, done on one phone. Each step looks first whether it is done already, so that a second run changes nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::{DeviceConfig, MyInfo, PeersFile};

use super::change::Change;
use crate::adb::{AdbError, quoted};
use crate::device::DEFAULT_PORT;
use crate::duration;
use crate::exit::Failure;
use crate::phones::plan::{Backend, Bidmesh, Npu, Plan, Program, RUNNER_SCRIPT};
use crate::phones::probe::{Probe, Running};
use crate::phones::program::LocalFile;
use crate::phones::remote::{Connected, Found, RESTARTING, Remote, Started};
use crate::phones::transfer::{self, Kind};
use crate::phones::{MESH, PROGRAM, failed};

type Say<'a> = &'a (dyn Fn(&str) + Sync);
type Done = Vec<Change>;

/// Between two words about a long copy.
const TOLD_BYTES: u64 = 24 << 20;

/// Program, model, settings and address book of a device of ours.
pub async fn bidmesh(
    remote: &Remote,
    plan: &Plan,
    bidmesh: &Bidmesh,
    all: &[Plan],
    say: Say<'_>,
) -> Result<Done, Failure> {
    let failed = |error| failed(&plan.id, &error);
    let mut done = Vec::new();
    files(remote, bidmesh, &mut done, say).await.map_err(failed)?;
    // It would take its new name for another device, and know nobody of its old one.
    if matches!(remote.find().await.map_err(failed)?, Found::Running(control) if control.device_id != plan.id.as_str())
    {
        say("is stopped: it runs under another name");
        remote.stop(RESTARTING).await?;
    }
    settings(remote, plan, bidmesh, all, &mut done, say).await.map_err(failed)?;
    Ok(done)
}

/// Program and model.
async fn files(remote: &Remote, bidmesh: &Bidmesh, done: &mut Done, say: Say<'_>) -> Result<(), AdbError> {
    if let Program::Push { file, .. } = &bidmesh.program {
        push(remote, file, PROGRAM, Kind::Program, say).await?;
        done.push(Change::Program(file.path.clone()));
    }
    if let Backend::PushModel { file, name, .. } = &bidmesh.backend {
        push(remote, file, &format!("{MESH}/models/{name}"), Kind::Data, say).await?;
        done.push(Change::Model(name.clone()));
    }
    Ok(())
}

/// Name, NPU, what runs prompts, and the address book.
async fn settings(
    remote: &Remote,
    plan: &Plan,
    bidmesh: &Bidmesh,
    all: &[Plan],
    done: &mut Done,
    say: Say<'_>,
) -> Result<(), AdbError> {
    // How the phone is now: what the map was planned on may be minutes old, and nothing is written that is there.
    let probe = Probe::of(remote.adb(), &remote.serial).await?;
    identity(remote, &plan.id, &bidmesh.npu, &probe, done, say).await?;
    backend(remote, &bidmesh.backend, done).await?;
    peers(remote, &plan.id, &probe, all, done).await?;
    if probe.running == Running::Nothing {
        my_info(remote, plan, &probe, done).await?;
    }
    Ok(())
}

async fn push(remote: &Remote, file: &LocalFile, to: &str, kind: Kind, say: Say<'_>) -> Result<(), AdbError> {
    let what = if kind == Kind::Program { "the program" } else { "the model" };
    let told = AtomicU64::new(0);
    say(&format!("is given {what} ({})", duration::bytes(file.bytes)));
    let tell = |there: u64, of: u64| {
        if there >= told.load(Ordering::Relaxed) + TOLD_BYTES && there < of {
            told.store(there, Ordering::Relaxed);
            say(&format!("{what}: {} of {}", duration::bytes(there), duration::bytes(of)));
        }
    };
    transfer::send(remote.adb(), &remote.serial, file, to, kind, &tell).await
}

/// Name and NPU, in device_config.json; what else stands there stays.
async fn identity(
    remote: &Remote,
    id: &DeviceId,
    npu: &Npu,
    probe: &Probe,
    done: &mut Done,
    say: Say<'_>,
) -> Result<(), AdbError> {
    let before = match probe.readable_config() {
        Some(config) => config,
        None => keep_aside(remote, "device_config.json", say).await.map(|()| DeviceConfig::default())?,
    };
    let mut config = before.clone();
    if config.device_id.as_ref() != Some(id) {
        config.device_id = Some(id.clone());
        done.push(Change::Name(id.clone()));
    }
    if let Some(has_npu) = npu.known().filter(|has_npu| config.has_npu != Some(*has_npu)) {
        config.has_npu = Some(has_npu);
        done.push(Change::Npu(has_npu));
    }
    if config == before { Ok(()) } else { remote.write("device_config.json", &config.to_text()).await }
}

async fn backend(remote: &Remote, backend: &Backend, done: &mut Done) -> Result<(), AdbError> {
    let Some(spec) = backend.spec() else { return Ok(()) };
    match backend {
        Backend::Script(path) => remote.write(RUNNER_SCRIPT, &by_sh(path)).await?,
        Backend::Genie { program, config } => {
            remote.write(RUNNER_SCRIPT, &by_genie(program, config)).await?;
            remote.command("set the preset", &["config", "set", "executor.preset", "genie"]).await?;
        }
        _ => {}
    }
    if let Some(path) = spec.strip_prefix("command:") {
        // The shell mesh's script never needed to be executable.
        let doing = "let the model runner be run";
        remote.adb().run(&remote.serial, doing, &format!("chmod u+x {}", quoted(path))).await?;
    }
    remote.command("set what runs prompts", &["config", "set", "executor.run", &spec]).await?;
    done.push(Change::Runner(spec));
    Ok(())
}

const RUNNER_HEAD: &str =
    "#!/system/bin/sh\n# Written by bidmesh setup; its argument is the file of a prompt.\n";

fn by_sh(path: &str) -> String {
    format!("{RUNNER_HEAD}exec sh {} \"$1\"\n", quoted(path))
}

fn by_genie(program: &str, config: &str) -> String {
    let folder = program.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let [folder, program, config] = [folder, program, config].map(quoted);
    format!(
        "{RUNNER_HEAD}cd {folder} || exit 1\nexport LD_LIBRARY_PATH={folder} ADSP_LIBRARY_PATH={folder}\n\
         exec {program} -c {config} -p \"$(cat \"$1\")\"\n"
    )
}

/// The others, by their addresses of today. Lines of other devices stay.
async fn peers(
    remote: &Remote,
    own: &DeviceId,
    probe: &Probe,
    all: &[Plan],
    done: &mut Done,
) -> Result<(), AdbError> {
    let known = probe.peers().map(|file| file.peers()).unwrap_or_default();
    for (id, address) in others(own, all) {
        if known.iter().any(|(other, at)| (other, at) == (&id, &address)) {
            continue;
        }
        remote.command("add a peer", &["peers", "add", id.as_str(), &address.to_string()]).await?;
        done.push(Change::Peer(id, address));
    }
    Ok(())
}

fn others(own: &DeviceId, all: &[Plan]) -> Vec<(DeviceId, SocketAddr)> {
    let known = all.iter().filter(|plan| plan.id != *own);
    known.filter_map(|plan| Some((plan.id.clone(), plan.address?))).collect()
}

/// The device writes it when it starts; scripts may look before that.
async fn my_info(remote: &Remote, plan: &Plan, probe: &Probe, done: &mut Done) -> Result<(), AdbError> {
    let info = MyInfo {
        id: plan.id.clone(),
        ip: plan.address.map(|address| address.ip()),
        port: plan.address.map_or(DEFAULT_PORT, |address| address.port()),
    };
    if probe.info().as_ref() != Some(&info) {
        remote.write("my_info.txt", &info.to_text()).await?;
        done.push(Change::File("my_info.txt"));
    }
    Ok(())
}

/// The files of a shell device. Its listener answers the first line of peers.txt that names a device: that is where
/// the address of today goes.
pub async fn shell_files(
    remote: &Remote,
    plan: &Plan,
    npu: &Npu,
    all: &[Plan],
    say: Say<'_>,
) -> Result<Done, AdbError> {
    let mut done = Vec::new();
    remote.adb().run(&remote.serial, "make the mesh directory", &format!("mkdir -p {MESH}")).await?;
    let probe = Probe::of(remote.adb(), &remote.serial).await?;
    let mut peers = match probe.peers() {
        Some(peers) => peers,
        None => keep_aside(remote, "peers.txt", say).await.map(|()| PeersFile::default())?,
    };
    for (id, address) in others(&plan.id, all) {
        peers.set(&id, address);
    }
    let text = peers.to_text();
    if probe.file("peers.txt") != Some(text.as_str()) {
        remote.write("peers.txt", &text).await?;
        done.push(Change::File("peers.txt"));
    }
    identity(remote, &plan.id, npu, &probe, &mut done, say).await?;
    my_info(remote, plan, &probe, &mut done).await?;
    Ok(done)
}

/// What a person or a script wrote there and nobody understands is not thrown away.
async fn keep_aside(remote: &Remote, name: &str, say: Say<'_>) -> Result<(), AdbError> {
    say(&format!("its {name} cannot be understood and is kept as {name}.old"));
    let keep = format!("mv -f {MESH}/{name} {MESH}/{name}.old");
    remote.adb().run(&remote.serial, &format!("keep the old {name}"), &keep).await.map(drop)
}

/// Starts the device, or starts it anew if it runs another program or under another name than it should.
pub async fn start(
    remote: &Remote,
    bidmesh: &Bidmesh,
    done: &[Change],
    say: Say<'_>,
) -> Result<(Option<Change>, Connected), Failure> {
    let anew = bidmesh.runs && (bidmesh.outdated || done.iter().any(Change::counts_at_start));
    if anew {
        say("is started anew");
        remote.stop(RESTARTING).await?;
    }
    let (change, connected) = match remote.start().await? {
        Started::Now(connected) if anew => (Change::StartedAnew, connected),
        Started::Now(connected) => (Change::Started, connected),
        Started::Already(connected) => return Ok((None, connected)),
        Started::Listener => {
            return Err(Failure::failed("the shell listener was started on it meanwhile; it is left alone"));
        }
    };
    say("runs");
    Ok((Some(change), connected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genie_script_quotes_what_stands_in_paths() {
        insta::assert_snapshot!(by_genie("/data/local/tmp/my genie/genie-t2t-run", "/data/local/tmp/c.json"));
    }
}
