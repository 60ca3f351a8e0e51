//! The sensors on phones as their files show them: for the adb shell, which may read nearly all, and for an
//! application such as Termux, which may not. What cannot be read is unknown and says why, never a number.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::Path;

use bidmesh_io_tokio::sensors::{Sensors, SystemSensors, SystemSensorsOptions, npu};
use tempfile::TempDir;

/// A phone's files in a folder, and what is in them at the second reading.
struct Phone {
    folder: TempDir,
    later: Vec<(String, String)>,
}

impl Phone {
    fn read(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/phones").join(format!("{name}.txt"));
        let folder = tempfile::tempdir().unwrap();
        let mut later = Vec::new();
        let text = fs::read_to_string(file).unwrap();
        for entry in format!("\n{text}").split("\n== ").flat_map(|entry| entry.split("\n!! ").enumerate()) {
            match entry {
                (0, entry) if entry.trim().is_empty() => {}
                (0, entry) => {
                    let (path, content) = entry.split_once('\n').unwrap_or((entry, ""));
                    match path.strip_suffix(" @later") {
                        Some(path) => later.push((path.to_owned(), format!("{content}\n"))),
                        None => write(folder.path(), path, content),
                    }
                }
                // There, and not to be read, for root neither: a directory stands in its place.
                (_, path) => fs::create_dir_all(folder.path().join(path.trim())).unwrap(),
            }
        }
        Self { folder, later }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{content}\n")).unwrap();
}

async fn report(name: &str) -> String {
    let phone = Phone::read(name);
    let options = SystemSensorsOptions { root: phone.path().into(), battery_command: None };
    let sensors = SystemSensors::new(options);
    let _ = sensors.read().await;
    for (path, content) in &phone.later {
        write(phone.path(), path, content);
    }
    let reading = sensors.read().await;
    let told = sensors.describe();
    let npus = npu::detect(phone.path());
    let npus: Vec<String> = npus.iter().map(|npu| npu.vendor.to_string()).collect();
    format!(
        "cpu {:?}: {}\nmemory {:?}: {}\nbattery {:?}, charging {:?}: {}\nheat {:?} of {:?}: {}\nNPU {npus:?}\n",
        reading.cpu.map(|load| load.ppm()),
        told.cpu,
        reading.ram.map(|load| load.ppm()),
        told.ram,
        reading.battery.map(|charge| charge.value()),
        reading.charging,
        told.battery,
        reading.temperature.map(|heat| heat.0),
        sensors.heat_source(),
        told.temperature,
    )
}

#[tokio::test]
async fn the_adb_shell_reads_a_phone_whole() {
    insta::assert_snapshot!("snapdragon_adb_shell", report("snapdragon_adb_shell").await);
    insta::assert_snapshot!("exynos_adb_shell", report("exynos_adb_shell").await);
    insta::assert_snapshot!("tensor_adb_shell", report("tensor_adb_shell").await);
}

#[tokio::test]
async fn an_application_falls_through_to_what_android_leaves_it() {
    insta::assert_snapshot!("snapdragon_termux", report("snapdragon_termux").await);
}

#[tokio::test]
async fn where_all_is_denied_missing_or_garbage_it_is_unknown_and_says_why() {
    for name in ["mediatek_termux", "missing_termux", "garbage_adb_shell"] {
        let report = report(name).await;
        assert!(report.starts_with("cpu None: unknown: "), "{report}");
        insta::assert_snapshot!(name, report);
    }
}
