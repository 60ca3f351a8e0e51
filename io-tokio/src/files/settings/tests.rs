use std::collections::BTreeSet;
use std::time::Duration;

use bidmesh_core::config::Admit;
use bidmesh_core::load::DeciCelsius;
use bidmesh_core::policy::Policy;
use proptest::prelude::*;

use super::*;

fn directory() -> (tempfile::TempDir, MeshDirectory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = MeshDirectory::open(folder.path()).unwrap();
    (folder, directory)
}

fn variables(pairs: &[(&str, &str)]) -> Overrides {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Overrides::default().environment(pairs)
}

/// Loads a file of this content; errors without the name of the scratch directory.
fn load(text: &str, overrides: &Overrides) -> Result<Settings, String> {
    let (folder, directory) = directory();
    std::fs::write(directory.settings(), text).unwrap();
    let name = format!("{}/", folder.path().display());
    Settings::load(&directory, overrides).map_err(|error| error.to_string().replace(&name, ""))
}

#[test]
fn flags_beat_variables_beat_the_file_beats_the_default() {
    let (_folder, directory) = directory();
    let text = "# mine\nwork.slots = 2\n\n[timing]\nbid_deadline = \"7s\"\npatience = 2\naccept = 1.5\n";
    std::fs::write(directory.settings(), text).unwrap();
    std::fs::write(directory.device_config(), r#"{"device_id": "Device_A", "has_npu": true}"#).unwrap();
    let overrides =
        variables(&[("BIDMESH_WORK_SLOTS", "3"), ("BIDMESH_TIMING_PATIENCE", "1500ms"), ("HOME", "/x")])
            .flag("--slots", "work.slots", "4");
    let settings = Settings::load(&directory, &overrides).unwrap();
    let core = &settings.values().core;
    assert_eq!(core.work.slots, 4);
    assert_eq!(core.timing.bid_deadline, Duration::from_secs(7));
    assert_eq!(core.timing.patience, Duration::from_millis(1500));
    assert_eq!(core.timing.accept, Duration::from_millis(1500));
    let place = |name: &str| settings.row(name).unwrap().place.map(|place| place.to_string());
    let in_file = |line: usize| Some(format!("{}:{line}", directory.settings().display()));
    assert_eq!(place("work.slots").as_deref(), Some("--slots"));
    assert_eq!(place("timing.patience").as_deref(), Some("BIDMESH_TIMING_PATIENCE"));
    assert_eq!(place("timing.bid_deadline"), in_file(5));
    assert_eq!(place("timing.accept"), in_file(7));
    assert_eq!(place("timing.query"), None);
    assert_eq!(place("has_npu"), Some(directory.device_config().display().to_string()));
    assert_eq!(settings.values().device.has_npu, Some(true));
}

#[test]
fn every_way_of_writing_a_table_is_the_same() {
    for text in [
        "timing.query = \"4s\"",
        "[timing]\nquery = \"4s\"",
        "timing = { query = 4 }",
        "\"timing\".\"query\" = 4.0",
    ] {
        let settings = load(text, &Overrides::default()).unwrap();
        assert_eq!(settings.values().core.timing.query, Duration::from_secs(4), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_key_range_and_place() {
    let none = Overrides::default();
    let errors: Vec<String> = [
        load("timing.bid_deadlin = 3", &none),
        load("\n[timing]\nbid_deadline = \"soon\"", &none),
        load("timing.bid_deadline = \"11h\"", &none),
        load("timing.bid_deadline = -1", &none),
        load("timing.bid_deadline = true", &none),
        load("timing = 5", &none),
        load("slots = 5", &none),
        load("quux = 5", &none),
        load("work.slots = 0", &none),
        load("work.slots = 99999999999", &none),
        load("work.battery_min = 101", &none),
        load("work.heat_max = nan", &none),
        load("policy = \"best\"", &none),
        load("admit = [\"any\"]", &none),
        load("literal_echo = [\"A\", \"B.C\"]", &none),
        load("listen = \"9999\"", &none),
        load("executor.run = \"python:x\"", &none),
        load("executor.run = \"slm:\"", &none),
        load("executor.run = \"command: \"", &none),
        load("executor.run = \"openai:ftp://x\"", &none),
        load("executor.run = \"None\"", &none),
        load("executor.key = \"\"\"a\nb\"\"\"", &none),
        load("has_npu = true", &none),
        load("work.slots = 1979-05-27", &none),
        load("[[work]]\nslots = 1", &none),
        load("work.slots = 1\nwork.slots = 2", &none),
        load("work.slots = ", &none),
        load("timing.retry_low = \"2s\"", &none),
        load("timing.retry_high = \"1ms\"", &none),
        load("", &variables(&[("BIDMESH_WORK_SLOTS", "many")])),
        load("", &none.clone().flag("--listen", "listen", "here")),
    ]
    .into_iter()
    .map(Result::unwrap_err)
    .collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn the_environment_is_that_of_the_process() {
    // A process of its own: the environment of this one is for all its tests, and may have settings in it.
    if std::env::var_os("TEST_CHILD").is_none() {
        let name = "files::settings::tests::the_environment_is_that_of_the_process";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env("TEST_CHILD", "1").env("BIDMESH_WORK_SLOTS", "7");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let (_folder, directory) = directory();
    let settings = Settings::load(&directory, &Overrides::from_environment()).unwrap();
    assert_eq!(settings.values().core.work.slots, 7);
}

#[test]
fn a_variable_that_is_no_setting_is_noticed() {
    let overrides = variables(&[
        ("BIDMESH_TIMING_BID_DEADLIN", "3"),
        ("BIDMESH_DIR", "/x"),
        ("BIDMESH_ADB", "x"),
        ("BIDMESH_9", ""),
    ]);
    let settings = load("", &overrides).unwrap();
    insta::assert_snapshot!(settings.notices().join("\n"), @r"
    the variable `BIDMESH_9` is no setting
    the variable `BIDMESH_TIMING_BID_DEADLIN` is no setting; did you mean BIDMESH_TIMING_BID_DEADLINE?
    ");
}

#[test]
fn the_limit_of_heat_fits_what_is_measured() {
    let settings = load("work.heat_max = 42.5", &Overrides::default()).unwrap();
    assert_eq!(settings.core(HeatSource::Battery).work.heat_max, DeciCelsius(425));
    assert_eq!(settings.core(HeatSource::Unknown).work.heat_max, DeciCelsius(425));
    assert_eq!(settings.core(HeatSource::Processor).work.heat_max, DeciCelsius(850));
}

#[test]
fn setting_keeps_comments_and_all_else() {
    let (_folder, directory) = directory();
    let text = "# mine\npolicy = \"weighted\" # why not\n\n[timing]\n# slow phones\nbid_deadline = \"20s\" # really slow\n";
    std::fs::write(directory.settings(), text).unwrap();
    for (name, value) in [
        ("timing.bid_deadline", "30"),
        ("policy", "npu-first"),
        ("work.slots", "2"),
        ("timing.query", "2500ms"),
        ("literal_echo", "B,A"),
        ("executor.run", "openai:http://127.0.0.1:8080/v1/"),
    ] {
        assert_eq!(Settings::set(&directory, name, value), Ok(directory.settings()), "{name}");
    }
    insta::assert_snapshot!(std::fs::read_to_string(directory.settings()).unwrap(), @r#"
    # mine
    policy = "npu-first" # why not
    literal_echo = ["A", "B"]

    [timing]
    # slow phones
    bid_deadline = "30s" # really slow
    query = "2500ms"

    [work]
    slots = 2

    [executor]
    run = "openai:http://127.0.0.1:8080/v1"
    "#);
    Settings::unset(&directory, "timing.bid_deadline").unwrap();
    let settings = Settings::load(&directory, &Overrides::default()).unwrap();
    assert_eq!(settings.values().core.timing.bid_deadline, Duration::from_secs(10));
    assert_eq!(settings.values().core.timing.query, Duration::from_millis(2500));
}

#[test]
fn what_shell_devices_read_is_set_in_their_file() {
    let (_folder, directory) = directory();
    assert_eq!(Settings::set(&directory, "has_npu", "yes"), Ok(directory.device_config()));
    Settings::set(&directory, "id", "Device_A").unwrap();
    let text = std::fs::read_to_string(directory.device_config()).unwrap();
    assert_eq!(text, "{\"device_id\": \"Device_A\", \"has_npu\": true}\n");
    Settings::unset(&directory, "has_npu").unwrap();
    assert_eq!(directory.read_device_config().unwrap().has_npu, None);
    assert!(!directory.settings().exists());
}

#[test]
fn a_file_that_is_wrong_is_not_touched() {
    let (_folder, directory) = directory();
    for text in ["work.slots = ", "nonsense = 1\n", "timing = 1\n", "[timing]\nretry_low = \"40ms\"\n"] {
        std::fs::write(directory.settings(), text).unwrap();
        // In the last case the new value contradicts what stands there.
        assert!(Settings::set(&directory, "timing.retry_high", "20ms").is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(directory.settings()).unwrap(), text);
    }
    let error = Settings::set(&directory, "work.slots", "0").unwrap_err().to_string();
    assert_eq!(error, "config: `work.slots` (0) is out of range; write a whole number from 1 to 256");
    let error = Settings::set(&directory, "work.slot", "1").unwrap_err().to_string();
    assert_eq!(error, "config: there is no setting `work.slot`; did you mean `work.slots`?");
}

#[test]
fn a_secret_is_kept_and_not_shown() {
    let (_folder, directory) = directory();
    Settings::set(&directory, "executor.key", "sk-123").unwrap();
    let settings = Settings::load(&directory, &Overrides::default()).unwrap();
    assert_eq!(settings.values().executor.key.as_ref().map(Secret::reveal), Some("sk-123"));
    let row = settings.row("executor.key").unwrap();
    let shown = format!("{row:?} {} {settings:?} {}", row.value, serde_json::to_string(&row.value).unwrap());
    assert!(!shown.contains("sk-123"), "{shown}");
}

#[test]
fn the_table_is_whole() {
    let names: BTreeSet<&str> = keys().iter().map(|key| key.name).collect();
    assert_eq!(names.len(), keys().len(), "a name stands there twice");
    assert_eq!(keys().iter().map(Key::variable).collect::<BTreeSet<_>>().len(), keys().len());
    assert_eq!(keys().iter().filter(|key| *key == find("policy").unwrap()).count(), 1);
    let defaults = Values::default();
    for key in keys() {
        // Each default is a value that may be written, and each row reads and writes the same field.
        let mut values = Values::default();
        let raw = Raw::One(key.get(&defaults).to_string());
        assert_eq!(key.set(&mut values, &raw), Ok(()), "{key:?}");
        assert_eq!(values, defaults, "{key:?}");
        assert!(key.help.ends_with('.') && !key.form().is_empty(), "{key:?}");
    }
    // Each field of core's settings has a row: their names are those of the derived Debug form.
    let debug = format!("{:#?}", bidmesh_core::Config::default());
    for line in debug.lines() {
        let Some((field, _)) = line.trim().split_once(": ") else { continue };
        if ["timing", "detection", "work", "limits"].contains(&field) {
            continue;
        }
        assert!(names.iter().any(|name| name.rsplit('.').next() == Some(field)), "{field} has no row");
    }
}

#[test]
fn all_settings_as_people_see_them() {
    let settings = Settings::defaults();
    let rows: Vec<String> = settings
        .rows()
        .map(|row| format!("{} = {}  # {} ({})", row.key.name, row.value, row.key.help, row.key.form()))
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn words_for_choices() {
    for (text, policy, admit) in [
        ("policy = \"weighted\"\nadmit = \"any\"", Policy::Weighted, Admit::Any),
        ("admit = \"listed\"", Policy::NpuFirst, Admit::Listed),
    ] {
        let settings = load(text, &Overrides::default()).unwrap();
        assert_eq!(settings.values().core.policy, policy);
        assert_eq!(settings.values().core.admit, admit);
    }
}

#[test]
fn executors_are_read_as_they_are_written() {
    for (text, executor) in [
        ("none", Executor::None),
        ("slm", Executor::Slm(None)),
        ("slm:/m/a b.gguf", Executor::Slm(Some("/m/a b.gguf".into()))),
        ("command:/data/run.sh", Executor::Command("/data/run.sh".into())),
        ("openai:http://127.0.0.1:8080/v1", Executor::OpenAi("http://127.0.0.1:8080/v1".into())),
        ("openai:https://box/v1", Executor::OpenAi("https://box/v1".into())),
    ] {
        let settings = load(&format!("executor.run = \"{text}\""), &Overrides::default()).unwrap();
        assert_eq!(settings.values().executor.run, Some(executor));
        assert_eq!(settings.row("executor.run").unwrap().value.to_string(), text);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let (_folder, directory) = directory();
    std::fs::write(directory.settings(), b"work.slots = 2\n\npolicy = \"\xff\"\n").unwrap();
    let error = Settings::load(&directory, &Overrides::default()).unwrap_err().to_string();
    let place = format!("{}:3: it is not UTF-8 text", directory.settings().display());
    assert!(error.starts_with(&place), "{error}");
}

proptest! {
    #[test]
    fn times_are_read_as_they_are_written(millis in 100_u64..600_000) {
        let key = find("timing.bid_deadline").unwrap();
        let mut values = Values::default();
        values.core.timing.bid_deadline = Duration::from_millis(millis);
        let raw = Raw::One(key.get(&values).to_string());
        let mut read = Values::default();
        prop_assert_eq!(key.set(&mut read, &raw), Ok(()));
        prop_assert_eq!(read, values);
    }

    #[test]
    fn any_text_after_any_key_is_read_or_refused(index in 0_usize..1000, text in ".{0,12}|[0-9.]{1,30}(ms|s|m|h|%)?") {
        let key = &keys()[index % keys().len()];
        let mut values = Values::default();
        if key.set(&mut values, &Raw::One(text)).is_ok() {
            // What was taken can be written to a file and read back.
            let (_folder, directory) = directory();
            if !key.is_in_device_config() {
                let bytes = document::edit(b"", &directory.settings(), key.name, Some(key.get(&values))).unwrap();
                let mut settings = Settings::defaults();
                settings.apply_file(bytes.as_bytes(), &directory.settings()).unwrap();
                prop_assert_eq!(&settings.values, &values, "{}", bytes);
            }
        }
    }

    #[test]
    fn any_file_is_read_or_refused(text in "([a-z]{0,8}[.=\\[\\]\"{} \n#0-9]{0,4}){0,12}") {
        let _ = load(&text, &Overrides::default());
    }
}

#[test]
fn working_hours_are_written_as_ranges_and_wrong_ones_named() {
    let (_folder, directory) = directory();
    Settings::set(&directory, "work.hours", "22:00-7:00, 12:00-13:00").unwrap();
    Settings::set(&directory, "work.at_limit", "hand_back").unwrap();
    let settings = Settings::load(&directory, &Overrides::default()).unwrap();
    assert_eq!(settings.row("work.hours").unwrap().value.to_string(), "22:00-07:00, 12:00-13:00");
    assert_eq!(settings.values().core.work.at_limit, bidmesh_core::config::AtLimit::HandBack);
    let error = Settings::set(&directory, "work.hours", "22-7").unwrap_err().to_string();
    let form = "`always`, or ranges of local time such as 22:00-07:00 or 07:00-08:30, 20:00-23:00";
    assert_eq!(error, format!("config: `work.hours` is `22-7`; write {form}"));
    let error = Settings::set(&directory, "detection.suspect", "11").unwrap_err().to_string();
    assert!(error.contains("`detection.suspect` (11) is more than `detection.gone` (10)"), "{error}");
}
