//! Which NPU this device has, by the libraries and device nodes that its vendor left. That one is there does not
//! mean that a model runs on it: an NPU is bid only if the executor uses it.
//!
//! A trace is a proof, or a hint: `/dev/adsprpc-smd` is also on phones whose signal processor runs no
//! networks. Hints are evidence only beside a proof.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::root::Root;

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// Hexagon.
    Qualcomm,
    /// APU.
    MediaTek,
    /// The NPU of Exynos.
    Samsung,
    /// The edge TPU of Tensor.
    Google,
    /// The NPU of RK35xx and RV11xx.
    Rockchip,
    /// The VPU of Core Ultra.
    Intel,
    /// XDNA.
    Amd,
    /// An accelerator that the kernel lists without a driver name that is known here.
    Other,
}

impl std::fmt::Display for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Qualcomm => "Qualcomm Hexagon",
            Self::MediaTek => "MediaTek APU",
            Self::Samsung => "Samsung Exynos NPU",
            Self::Google => "Google edge TPU",
            Self::Rockchip => "Rockchip NPU",
            Self::Intel => "Intel NPU",
            Self::Amd => "AMD XDNA",
            Self::Other => "accelerator",
        })
    }
}

/// An NPU that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NpuFound {
    /// Whose.
    pub vendor: Vendor,
    /// The files that say so, sorted; at least one.
    pub evidence: Vec<PathBuf>,
}

impl std::fmt::Display for NpuFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (", self.vendor)?;
        for (number, path) in self.evidence.iter().enumerate() {
            write!(f, "{}{}", if number > 0 { ", " } else { "" }, path.display())?;
        }
        f.write_str(")")
    }
}

/// Looks for NPUs below `root` (`/` on a device). Takes some milliseconds; done once.
pub fn detect(root: &Path) -> Vec<NpuFound> {
    let root = Root::new(root);
    let mut clues: Vec<(Vendor, Weight, PathBuf)> = Vec::new();
    for (folder, rows) in folders() {
        // Only the listing of a folder that holds a pattern is needed, and it may be denied; single names are asked for.
        let names = if rows.iter().any(|row| row.2.contains('*')) { root.names(&folder) } else { Vec::new() };
        for (vendor, weight, name) in rows {
            let found = names
                .iter()
                .filter(|found| matches(name, found))
                .map(|found| root.path(&format!("{folder}/{found}")));
            let single =
                (!name.contains('*')).then(|| format!("{folder}/{name}")).filter(|path| root.exists(path));
            let paths = found.chain(single.map(|path| root.path(&path)));
            clues.extend(paths.map(|path| (vendor, weight, path)));
        }
    }
    for name in root.names("dev/accel").into_iter().filter(|name| matches("accel*", name)) {
        clues.push((accelerator(&root, &name), Weight::Proof, root.path(&format!("dev/accel/{name}"))));
    }
    let mut vendors: Vec<Vendor> =
        clues.iter().filter(|clue| clue.1 == Weight::Proof).map(|clue| clue.0).collect();
    vendors.sort_unstable();
    vendors.dedup();
    vendors.into_iter().map(|vendor| NpuFound { vendor, evidence: evidence(&clues, vendor) }).collect()
}

/// A shell script that prints every file which [`detect`] looks for and finds, a line each: for a device that can run
/// a script and not this program. `detect` on a tree of such (empty) files gives what it would give there.
pub fn listing_script() -> String {
    let names = |wanted: &dyn Fn(&Place) -> bool| {
        let names = TRACES.iter().filter(|row| wanted(&row.2)).map(|row| row.3);
        names.collect::<Vec<_>>().join(" ")
    };
    let library = names(&|place| matches!(place, Place::Library));
    // The names are patterns of the shell too: quoted, they stay as they are until they stand behind their folder.
    let mut script = String::from(
        "n() { d=$1; shift; for p; do for f in /$d/$p; do [ -e \"$f\" ] && echo \"$f\"; done; done; }\n",
    );
    let quoted = |names: &str| names.split(' ').map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" ");
    script.push_str(&format!("for l in {}; do n $l {}; done\n", LIBRARIES.join(" "), quoted(&library)));
    for (folder, rows) in folders().into_iter().filter(|(folder, _)| !LIBRARIES.contains(&folder.as_str())) {
        let names = rows.iter().map(|row| row.2).collect::<Vec<_>>().join(" ");
        script.push_str(&format!("n {folder} {}\n", quoted(&names)));
    }
    script.push_str("n dev/accel 'accel*'\n");
    script
}

fn evidence(clues: &[(Vendor, Weight, PathBuf)], vendor: Vendor) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        clues.iter().filter(|clue| clue.0 == vendor).map(|clue| clue.2.clone()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Proof,
    Hint,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// A folder of shared libraries.
    Library,
    /// This folder.
    Folder(&'static str),
}

const LIBRARIES: [&str; 12] = [
    "vendor/lib64",
    "vendor/lib",
    "vendor/lib64/egl",
    "system/lib64",
    "system/vendor/lib64",
    "system_ext/lib64",
    "odm/lib64",
    "usr/lib",
    "usr/lib64",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/arm-linux-gnueabihf",
    "usr/local/lib",
];

/// What vendors leave: whose, how much it proves, where, and the name (`*` stands for any characters, once).
const TRACES: &[(Vendor, Weight, Place, &str)] = &[
    (Vendor::Qualcomm, Weight::Proof, Place::Library, "libQnnHtp*.so"),
    (Vendor::Qualcomm, Weight::Proof, Place::Library, "libQnnHtp.so"),
    (Vendor::Qualcomm, Weight::Proof, Place::Folder("vendor/dsp/cdsp"), "libQnnHtp*.so"),
    (Vendor::Qualcomm, Weight::Proof, Place::Folder("vendor/lib/rfsa/adsp"), "libQnnHtp*.so"),
    (Vendor::Qualcomm, Weight::Proof, Place::Folder("dev"), "fastrpc-cdsp*"),
    (Vendor::Qualcomm, Weight::Proof, Place::Folder("dev"), "fastrpc-cdsp"),
    (Vendor::Qualcomm, Weight::Hint, Place::Folder("dev"), "adsprpc-smd*"),
    (Vendor::Qualcomm, Weight::Hint, Place::Folder("dev"), "adsprpc-smd"),
    (Vendor::Qualcomm, Weight::Hint, Place::Library, "libcdsprpc.so"),
    (Vendor::MediaTek, Weight::Proof, Place::Folder("dev"), "apusys"),
    (Vendor::MediaTek, Weight::Proof, Place::Folder("dev"), "apusys*"),
    (Vendor::MediaTek, Weight::Proof, Place::Folder("dev"), "mdla*"),
    (Vendor::MediaTek, Weight::Proof, Place::Library, "libapusys.so"),
    (Vendor::MediaTek, Weight::Proof, Place::Library, "libapu_mdw.so"),
    (Vendor::MediaTek, Weight::Proof, Place::Library, "libneuron_runtime*.so"),
    (Vendor::MediaTek, Weight::Hint, Place::Library, "libneuron*.so"),
    (Vendor::Samsung, Weight::Proof, Place::Folder("dev"), "vertex*"),
    (Vendor::Samsung, Weight::Proof, Place::Folder("dev"), "vertex10"),
    (Vendor::Samsung, Weight::Proof, Place::Library, "libenn_*.so"),
    (Vendor::Samsung, Weight::Hint, Place::Library, "libeden_*.so"),
    (Vendor::Google, Weight::Proof, Place::Folder("dev"), "abrolhos"),
    (Vendor::Google, Weight::Proof, Place::Folder("dev"), "janeiro"),
    (Vendor::Google, Weight::Proof, Place::Folder("dev"), "rio"),
    (Vendor::Google, Weight::Hint, Place::Folder("dev"), "edgetpu-soc"),
    (Vendor::Google, Weight::Hint, Place::Library, "libedgetpu*.so"),
    (Vendor::Rockchip, Weight::Proof, Place::Folder("dev"), "rknpu"),
    (Vendor::Rockchip, Weight::Proof, Place::Folder("sys/kernel/debug"), "rknpu"),
    (Vendor::Rockchip, Weight::Proof, Place::Folder("sys/bus/platform/drivers/RKNPU"), "*.npu"),
    (Vendor::Rockchip, Weight::Hint, Place::Library, "librknnrt.so"),
];

type Row = (Vendor, Weight, &'static str);

/// The traces by folder, so that each is listed once.
fn folders() -> Vec<(String, Vec<Row>)> {
    let library = |place: &Place| matches!(place, Place::Library);
    let rows = |wanted: &dyn Fn(&Place) -> bool| -> Vec<Row> {
        TRACES.iter().filter(|row| wanted(&row.2)).map(|row| (row.0, row.1, row.3)).collect()
    };
    let mut folders: Vec<(String, Vec<Row>)> =
        LIBRARIES.iter().map(|folder| ((*folder).to_owned(), rows(&library))).collect();
    let mut names: Vec<&str> = TRACES
        .iter()
        .filter_map(|row| match row.2 {
            Place::Folder(name) => Some(name),
            Place::Library => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        folders.push((
            name.to_owned(),
            rows(&|place| matches!(place, Place::Folder(folder) if *folder == name)),
        ));
    }
    folders
}

/// Whether `name` fits `pattern`, in which one `*` may stand for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

/// Whose the kernel's accelerator `name` is, by its driver.
fn accelerator(root: &Root, name: &str) -> Vendor {
    let event = root.read(&format!("sys/class/accel/{name}/device/uevent")).unwrap_or_default();
    match event.lines().find_map(|line| line.strip_prefix("DRIVER=")) {
        Some("intel_vpu") => Vendor::Intel,
        Some("amdxdna") => Vendor::Amd,
        Some("rocket" | "rknpu" | "RKNPU") => Vendor::Rockchip,
        _ => Vendor::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;

    fn found(files: &[&str]) -> Vec<(Vendor, Vec<String>)> {
        let tree = Tree::new();
        for file in files {
            tree.write(file, "");
        }
        let base = tree.root().path("");
        detect(&base)
            .into_iter()
            .map(|npu| {
                let names = npu
                    .evidence
                    .iter()
                    .map(|path| path.strip_prefix(&base).unwrap().to_str().unwrap().to_owned());
                (npu.vendor, names.collect())
            })
            .collect()
    }

    #[test]
    fn a_name_holds_both_ends_of_its_pattern_side_by_side() {
        for (pattern, name, fits) in [
            ("accel*", "accel0", true),
            ("lib*.so", "lib.so", true),
            ("ab*ba", "abba", true),
            ("ab*ba", "aba", false),
            ("accel", "accel0", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn each_vendor_is_known_by_what_it_leaves() {
        for (vendor, file) in [
            (Vendor::Qualcomm, "vendor/lib64/libQnnHtpV75Stub.so"),
            (Vendor::Qualcomm, "vendor/dsp/cdsp/libQnnHtpV75Skel.so"),
            (Vendor::Qualcomm, "dev/fastrpc-cdsp"),
            (Vendor::MediaTek, "dev/apusys"),
            (Vendor::MediaTek, "vendor/lib64/libneuron_runtime.7.so"),
            (Vendor::Samsung, "dev/vertex10"),
            (Vendor::Samsung, "vendor/lib64/libenn_user_driver_npu.so"),
            (Vendor::Google, "dev/abrolhos"),
            (Vendor::Google, "dev/janeiro"),
            (Vendor::Google, "dev/rio"),
            (Vendor::Rockchip, "dev/rknpu"),
            (Vendor::Rockchip, "sys/kernel/debug/rknpu/version"),
            (Vendor::Other, "dev/accel/accel0"),
        ] {
            let found = found(&[file]);
            assert_eq!(found.len(), 1, "{file}: {found:?}");
            assert_eq!(found[0].0, vendor, "{file}");
        }
    }

    #[test]
    fn a_shell_finds_the_same_files() {
        let tree = Tree::new();
        let files = ["vendor/lib64/libQnnHtp.so", "vendor/dsp/cdsp/libQnnHtpV75Skel.so", "dev/accel/accel0"];
        for file in files.iter().chain(&["vendor/lib64/libc.so"]) {
            tree.write(file, "");
        }
        let base = tree.root().path("").display().to_string();
        let script = listing_script().replace("/$d/$p", &format!("{base}/$d/$p"));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<&str> =
            printed.lines().map(|line| line[base.len()..].trim_start_matches('/')).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines, [files[2], files[1], files[0]]);
    }

    #[test]
    fn a_hint_alone_is_no_npu() {
        let hints = ["dev/adsprpc-smd", "usr/lib/librknnrt.so", "vendor/lib64/libneuron_adapter.so"];
        for hint in hints {
            assert_eq!(found(&[hint]), vec![], "{hint}");
        }
        assert_eq!(found(&["dev/rknpub", "vendor/lib64/libQnnHtp", "dev/null"]), vec![]);
    }

    #[test]
    fn a_hint_beside_a_proof_is_evidence_once() {
        let files = ["dev/adsprpc-smd", "dev/fastrpc-cdsp", "vendor/lib64/libQnnHtp.so"];
        let expected = files.iter().map(|file| (*file).to_owned()).collect();
        assert_eq!(found(&files), vec![(Vendor::Qualcomm, expected)]);
    }

    #[test]
    fn the_kernel_names_the_driver_of_an_accelerator() {
        for (driver, vendor) in [
            ("intel_vpu", Vendor::Intel),
            ("amdxdna", Vendor::Amd),
            ("rocket", Vendor::Rockchip),
            ("x", Vendor::Other),
        ] {
            let tree = Tree::new();
            tree.write("dev/accel/accel0", "");
            tree.write("sys/class/accel/accel0/device/uevent", format!("PCI_ID=1\nDRIVER={driver}\n"));
            assert_eq!(detect(&tree.root().path(""))[0].vendor, vendor);
        }
    }

    #[test]
    fn an_empty_system_has_none_and_a_find_reads_well() {
        assert_eq!(found(&[]), vec![]);
        let npu = NpuFound { vendor: Vendor::Google, evidence: vec!["/dev/rio".into(), "/dev/x".into()] };
        assert_eq!(npu.to_string(), "Google edge TPU (/dev/rio, /dev/x)");
    }
}
