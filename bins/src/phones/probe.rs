//! How a phone is: one script, run over adb with what every Android has, and what its output means. Nothing on the
//! phone is changed, and no program of ours need be there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::{DeviceConfig, MyInfo, PeersFile};
use bidmesh_io_tokio::sensors::npu;
use toml_edit::{DocumentMut, Item};

use super::program::{LocalFile, Processor};
use super::{MESH, RUNNING};
use crate::adb::{Adb, AdbError, QUICK, quoted};
use crate::device::DEFAULT_PORT;

const SCRIPT: &str = include_str!("probe.sh");
/// Ports at which model servers listen by default: llama-server, Ollama, vLLM, LM Studio.
const SERVER_PORTS: [u16; 4] = [8080, 11434, 8000, 1234];
/// The order of the shell mesh's setup script.
const INTERFACES_FIRST: [&str; 2] = ["wlan0", "swlan0"];
/// The provider's network and tunnels: peers on the same Wi-Fi do not reach a phone there.
const INTERFACES_LAST: [&str; 5] = ["rmnet", "ccmni", "tun", "dummy", "v4-rmnet"];

/// The setting `executor.run` of a device that only asks others.
pub const RUNS_NONE: &str = "none";

/// What runs on a phone.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Running {
    #[default]
    Nothing,
    /// Our device, as this process.
    Bidmesh(u32),
    /// The shell mesh's listener.
    Listener,
}

/// A program or server on a phone that can run prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The shell mesh's script. `by_sh`: it does not name an interpreter that is there; the shell mesh runs it by `sh`.
    Script { path: String, by_sh: bool },
    /// Qualcomm's program and its configuration.
    Genie { program: String, config: String },
    /// Something listens at one of the usual ports; whether it is a model server is not known yet.
    Port(u16),
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Probe {
    /// Android's name of the processor, or the kernel's.
    pub abi: String,
    pub android: Option<String>,
    /// Its own serial number, which is also adb's name for it by cable.
    pub serial: Option<String>,
    /// IPv4 addresses with their interfaces, the likeliest first.
    pub addresses: Vec<(String, Ipv4Addr)>,
    pub free_bytes: Option<u64>,
    pub writable: bool,
    /// Seconds since 1970.
    pub clock: Option<u64>,
    pub running: Running,
    /// The device that runs was started from a program that has been replaced since.
    pub outdated: bool,
    /// SHA-256 of the program that is there.
    pub program_sum: Option<String>,
    /// Its version; `None`: it does not run.
    pub program_version: Option<String>,
    pub runners: Vec<Runner>,
    /// Model files with their sizes.
    pub models: BTreeMap<String, u64>,
    /// Copies that broke off, by the names that they would have, with what is there of them.
    pub begun: BTreeMap<String, u64>,
    /// Percent.
    pub battery: Option<u8>,
    /// Of the battery, in degrees Celsius.
    pub temperature: Option<f64>,
    /// NPUs by the vendor's files; words for people.
    pub npus: Vec<String>,
    /// Files that phones with an NPU have, and others too.
    pub npu_hints: bool,
    pub(super) files: BTreeMap<String, String>,
}

impl Probe {
    /// Asks a phone.
    pub async fn of(adb: &Adb, serial: &str) -> Result<Self, AdbError> {
        let mark = &format!("@{}", adb.mark());
        let (mesh, section) = (quoted(MESH), quoted(mark));
        let script = format!("D={mesh}; N={section}\n{RUNNING}{SCRIPT}{}", npu::listing_script());
        // Its last command may well find nothing.
        let said = adb.shell(serial, &script, QUICK).await?;
        Ok(Self::read(&said.stdout, mark))
    }

    fn read(printed: &str, mark: &str) -> Self {
        let mut sections: BTreeMap<String, String> = BTreeMap::new();
        // Each section begins on a line of its own; the line end before it belongs to none.
        for section in format!("\n{printed}").split(&format!("\n{mark} ")).skip(1) {
            let (name, text) = section.split_once('\n').unwrap_or((section, ""));
            sections.insert(name.trim().to_owned(), text.to_owned());
        }
        let text = |name: &str| {
            sections.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let running = match (text("running").and_then(|pid| pid.parse().ok()), text("listener")) {
            (Some(pid), _) => Running::Bidmesh(pid),
            (None, Some(_)) => Running::Listener,
            (None, None) => Running::Nothing,
        };
        let traces = text("npu").unwrap_or_default();
        let battery = text("battery").unwrap_or_default();
        let files =
            sections.iter().filter(|(name, _)| name.contains('.')).map(|(n, t)| (n.clone(), t.clone()));
        Self {
            abi: text("abi").unwrap_or_default(),
            android: text("android"),
            serial: text("serial").filter(|serial| serial != "unknown"),
            addresses: addresses(&text("addresses").unwrap_or_default()),
            free_bytes: text("space").and_then(|line| free_bytes(&line)),
            writable: text("writable").is_some(),
            clock: text("clock").and_then(|seconds| seconds.parse().ok()),
            running,
            outdated: text("outdated").is_some(),
            program_sum: text("sum").and_then(|line| line.split_whitespace().next().map(str::to_owned)),
            program_version: text("version").and_then(|printed| version(&printed).map(str::to_owned)),
            runners: runners(&text),
            models: sizes(&text("models").unwrap_or_default()),
            begun: sizes(&text("begun").unwrap_or_default())
                .into_iter()
                .map(|(name, bytes)| (name.trim_end_matches(".part").to_owned(), bytes))
                .collect(),
            battery: number_after(&battery, "level:").and_then(|level| u8::try_from(level).ok()),
            // Tenths of a degree.
            temperature: number_after(&battery, "temperature:").map(|tenths| f64::from(tenths) / 10.0),
            npus: npus(&traces),
            npu_hints: !traces.is_empty(),
            files: files.collect(),
        }
    }

    /// What a script printed that was never run.
    #[cfg(test)]
    pub fn read_for_tests(printed: &str, mark: &str) -> Self {
        Self::read(printed, mark)
    }

    /// Whether its program is this one.
    pub fn has_program(&self, file: &LocalFile) -> bool {
        self.program_sum.is_some() && self.program_sum.as_deref() == file.known_sha256()
    }

    /// Which program it needs.
    pub fn processor(&self) -> Option<Processor> {
        Processor::of_abi(&self.abi)
    }

    /// A file of the mesh directory, if it is there.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// Its own word on who it is and whether it has an NPU; nothing if it cannot be understood.
    pub fn config(&self) -> DeviceConfig {
        self.readable_config().unwrap_or_default()
    }

    /// The same; `None`: it cannot be understood.
    pub fn readable_config(&self) -> Option<DeviceConfig> {
        let text = self.file("device_config.json").unwrap_or_default();
        DeviceConfig::parse(text.as_bytes(), Path::new("device_config.json")).ok()
    }

    /// What its my_info.txt says.
    pub fn info(&self) -> Option<MyInfo> {
        let text = self.file("my_info.txt")?;
        MyInfo::parse(text.as_bytes(), Path::new("my_info.txt")).ok().flatten()
    }

    /// Its address book; `None`: it cannot be understood.
    pub fn peers(&self) -> Option<PeersFile> {
        let text = self.file("peers.txt").unwrap_or_default();
        PeersFile::parse(text.as_bytes(), Path::new("peers.txt")).ok()
    }

    /// Who it says that it is.
    pub fn id(&self) -> Option<DeviceId> {
        self.config().device_id.or_else(|| Some(self.info()?.id))
    }

    /// A text of its config.toml, such as `executor.run`.
    pub fn setting(&self, name: &str) -> Option<String> {
        let document: DocumentMut = self.file("config.toml")?.parse().ok()?;
        let mut item: &Item = document.as_item();
        for part in name.split('.') {
            item = item.get(part)?;
        }
        item.as_str().map(str::to_owned)
    }

    /// Whether somebody has said that it is to run no prompts.
    pub fn only_asks_others(&self) -> bool {
        self.setting("executor.run").as_deref() == Some(RUNS_NONE)
    }

    fn ip(&self) -> Option<IpAddr> {
        let (_, ip) = self.addresses.first().filter(|(interface, _)| !is_elsewhere(interface))?;
        Some(IpAddr::V4(*ip))
    }

    /// Whether all its addresses are of networks in which its peers are not.
    pub fn is_elsewhere(&self) -> bool {
        !self.addresses.is_empty() && self.ip().is_none()
    }

    /// Where peers reach it: what its settings or the running listener say, else its address now with the mesh's port.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address_or(None)
    }

    /// The same; where it has no address in the network of its peers now, at the one that it had.
    pub fn address_or(&self, before: Option<IpAddr>) -> Option<SocketAddr> {
        let ip = self.ip().or(before);
        if self.running == Running::Listener {
            let info = self.info()?;
            return Some(SocketAddr::new(ip.or(info.ip)?, info.port));
        }
        let listen: Option<SocketAddr> = self.setting("listen").and_then(|listen| listen.parse().ok());
        match listen {
            Some(listen) if !listen.ip().is_unspecified() => Some(listen),
            Some(listen) => Some(SocketAddr::new(ip?, listen.port())),
            None => Some(SocketAddr::new(ip?, DEFAULT_PORT)),
        }
    }
}

/// Addresses out of `ip -4 -o addr` or `ifconfig`, in the shell mesh's order: wlan0, swlan0, any other.
fn addresses(printed: &str) -> Vec<(String, Ipv4Addr)> {
    let mut found = Vec::new();
    let mut interface = String::new();
    for line in printed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [number, name, "inet", ..] if number.ends_with(':') => interface = (*name).to_owned(),
            [name, ..] if !line.starts_with(char::is_whitespace) => {
                interface = name.trim_end_matches(':').to_owned()
            }
            _ => {}
        }
        let at = words.iter().position(|word| *word == "inet").and_then(|at| words.get(at + 1));
        let Some(address) = at.map(|word| word.trim_start_matches("addr:")) else { continue };
        let address = address.split('/').next().and_then(|address| address.parse::<Ipv4Addr>().ok());
        let host = line.contains("scope host") || line.contains("scope link");
        if let Some(address) =
            address.filter(|address| !address.is_unspecified() && !host && interface != "lo")
        {
            found.push((interface.clone(), address));
        }
    }
    let rank = |interface: &str| {
        let first = INTERFACES_FIRST.iter().position(|first| *first == interface);
        first.unwrap_or(INTERFACES_FIRST.len() + usize::from(is_elsewhere(interface)))
    };
    found.sort_by_key(|(interface, _)| rank(interface));
    found
}

fn is_elsewhere(interface: &str) -> bool {
    INTERFACES_LAST.iter().any(|last| interface.starts_with(last))
}

/// The version out of what `bidmesh --version` prints; Android's linker may print warnings before it.
pub fn version(printed: &str) -> Option<&str> {
    printed.lines().find_map(|line| line.strip_prefix("bidmesh ")).map(str::trim)
}

/// The fourth column of `df -k`, or the third from the end where a long name broke the line.
fn free_bytes(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.ends_with('%'))?;
    words.get(at.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn runners(text: &dyn Fn(&str) -> Option<String>) -> Vec<Runner> {
    let by_sh = text("interpreter").is_none();
    let script = text("runner").map(|path| Runner::Script { path, by_sh });
    let genie = text("genie");
    let ports = text("ports").unwrap_or_default();
    let genie = genie.as_deref().and_then(|lines| lines.split_once('\n')).map(|(program, config)| {
        Runner::Genie { program: program.trim().to_owned(), config: config.trim().to_owned() }
    });
    let listens = |port: &u16| {
        let port = format!(":{port:04X}");
        // The second word is the local address.
        ports.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)))
    };
    let servers = SERVER_PORTS.into_iter().filter(listens).map(Runner::Port);
    script.into_iter().chain(genie).chain(servers).collect()
}

fn sizes(printed: &str) -> BTreeMap<String, u64> {
    let file = |line: &str| {
        let (bytes, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), bytes.parse().ok()?))
    };
    printed.lines().filter_map(file).collect()
}

fn number_after(printed: &str, name: &str) -> Option<i32> {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix(name))?;
    line.trim().parse().ok()
}

/// NPUs by the names of files that are on the phone.
fn npus(traces: &str) -> Vec<String> {
    // The one place that knows what the names mean looks at a tree.
    let Ok(tree) = tempfile::tempdir() else { return Vec::new() };
    for path in traces.lines().filter(|line| line.starts_with('/') && !line.contains("..")) {
        let path = tree.path().join(path.trim_start_matches('/'));
        if let Some(folder) = path.parent() {
            // What cannot be made is not found.
            let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, ""));
        }
    }
    let root = tree.path().display().to_string();
    npu::detect(tree.path()).iter().map(|npu| npu.to_string().replace(&root, "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(sections: &[(&str, &str)]) -> Probe {
        let printed: String = sections.iter().map(|(name, text)| format!("\n@@ {name}\n{text}")).collect();
        Probe::read(&printed, "@@")
    }

    #[test]
    fn addresses_come_in_the_shell_meshs_order() {
        let of = |text| -> Vec<String> {
            addresses(text).into_iter().map(|(name, ip)| format!("{name} {ip}")).collect()
        };
        let android = "1: lo    inet 127.0.0.1/8 scope host lo\\ valid_lft forever\n\
                       21: rmnet_data0    inet 10.100.3.7/30 scope global rmnet_data0\n\
                       30: swlan0    inet 192.168.43.1/24 brd 192.168.43.255 scope global swlan0\n\
                       31: wlan0    inet 192.168.1.101/24 brd 192.168.1.255 scope global wlan0\n";
        assert_eq!(of(android), ["wlan0 192.168.1.101", "swlan0 192.168.43.1", "rmnet_data0 10.100.3.7"]);
        let toybox = "eth0      Link encap:Ethernet  HWaddr 00:00\n          inet addr:192.168.1.5  Bcast:192.168.1.255\n\
                      lo        Link encap:Local Loopback\n          inet addr:127.0.0.1  Mask:255.0.0.0\n";
        assert_eq!(of(toybox), ["eth0 192.168.1.5"]);
        assert_eq!(of("garbage\n"), Vec::<String>::new());
    }

    #[test]
    fn what_a_phone_says_of_itself_is_read() {
        let probe = probe(&[
            ("abi", "arm64-v8a\n"),
            ("addresses", "31: wlan0    inet 192.168.1.101/24 scope global wlan0\n"),
            ("space", "/dev/block/dm-5 112345 100000 12345 90% /data\n"),
            ("writable", "yes\n"),
            ("my_info.txt", "Device_B:192.168.1.9:9999\n"),
            ("config.toml", "listen = \"0.0.0.0:9990\"\n[executor]\nrun = \"none\"\n"),
            ("running", "4711\n"),
            ("genie", "/data/local/tmp/g/genie-t2t-run\n/data/local/tmp/g/c.json\n"),
            ("ports", "  0: 0100007F:1F90 00000000:0000 0A 0\n  1: 0100007F:1F91 00000000:0000 0A 0\n"),
            ("models", "98362432 SmolLM2.gguf\n"),
            ("begun", "8388608 bidmesh.part\n5 Other.gguf.part\n"),
            ("battery", "  AC powered: false\n  level: 81\n  temperature: 312\n"),
            ("npu", "/vendor/lib64/libQnnHtp.so\n"),
        ]);
        assert_eq!(probe.address(), Some("192.168.1.101:9990".parse().unwrap()));
        assert_eq!((probe.free_bytes, probe.writable), (Some(12345 * 1024), true));
        assert_eq!(probe.id(), DeviceId::new("Device_B").ok());
        assert_eq!(probe.setting("executor.run").as_deref(), Some("none"));
        assert_eq!(probe.running, Running::Bidmesh(4711));
        assert_eq!(probe.runners[1], Runner::Port(8080));
        assert!(matches!(&probe.runners[0], Runner::Genie { config, .. } if config.ends_with("c.json")));
        assert_eq!(probe.models["SmolLM2.gguf"], 98_362_432);
        assert_eq!((probe.begun["bidmesh"], probe.begun["Other.gguf"]), (8_388_608, 5));
        assert_eq!((probe.battery, probe.temperature), (Some(81), Some(31.2)));
        assert_eq!(probe.npus, ["Qualcomm Hexagon (/vendor/lib64/libQnnHtp.so)"]);
    }

    #[test]
    fn a_phone_that_says_nothing_is_unknown() {
        assert_eq!(probe(&[]), Probe::default());
        assert_eq!(probe(&[("config.toml", "= broken"), ("peers.txt", "what?")]).address(), None);
    }

    #[test]
    fn the_providers_address_is_none_for_peers() {
        let mobile = ("addresses", "21: rmnet_data0    inet 10.100.3.7/30\n22: tun0    inet 10.8.0.2/24\n");
        let settings = ("config.toml", "listen = \"0.0.0.0:9990\"\n");
        let probed = probe(&[mobile, settings]);
        assert!(probed.is_elsewhere());
        assert_eq!(probed.address(), None);
        let before = "192.168.1.5".parse().ok();
        assert_eq!(probed.address_or(before), "192.168.1.5:9990".parse().ok());
        // Unless somebody says that it listens there.
        let told = probe(&[mobile, ("config.toml", "listen = \"10.8.0.2:9999\"\n")]);
        assert_eq!(told.address(), "10.8.0.2:9999".parse().ok());
    }

    #[test]
    fn a_hint_is_not_an_npu() {
        let probe = probe(&[("npu", "/vendor/lib64/libcdsprpc.so\n")]);
        assert_eq!((probe.npus.len(), probe.npu_hints), (0, true));
    }

    #[test]
    fn the_listener_is_reached_where_its_own_file_says() {
        let probe = probe(&[("listener", "/proc/7/cmdline\n"), ("my_info.txt", "Device_C:10.0.0.3:9998\n")]);
        assert_eq!(
            (probe.running.clone(), probe.address()),
            (Running::Listener, "10.0.0.3:9998".parse().ok())
        );
    }
}
