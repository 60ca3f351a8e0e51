//! The packages whose mutants are judged, and what judges them.

/// One of them.
pub struct Package {
    /// Its folder, and its name for people.
    pub folder: &'static str,
    /// Its name for cargo.
    pub name: &'static str,
    /// Beginnings of mutants' names that no judge here could notice.
    left_out: &'static [&'static str],
    /// Packages with tests.
    pub suites: &'static [&'static str],
    /// Which of their test programs.
    pub targets: &'static [&'static str],
    /// Its tests wait, open sockets, and start and kill processes: they get a time limit and a process namespace of
    /// their own, and a failure must show twice, since a busy machine may be the reason.
    pub touches_machine: bool,
}

/// All of them.
pub const ALL: [Package; 2] = [
    Package {
        folder: "core",
        name: "bidmesh-core",
        left_out: &[],
        suites: &["bidmesh-core", "bidmesh-tests"],
        // `purity` builds a package of its own, and says nothing about behaviour.
        targets: &[
            "--lib",
            "--test=canonical",
            "--test=fuzz_corpus",
            "--test=fuzz_worlds",
            "--test=legacy_samples",
            "--test=mesh",
            "--test=progress",
            "--test=protocol_document",
            "--test=restore",
            "--test=wire_decode",
            "--test=wire_memory",
            "--test=wire_properties",
            "--test=wire_shell",
            "--test=wire_snapshots",
            "--test=words",
            "--test=transcripts",
        ],
        touches_machine: false,
    },
    Package {
        folder: "io-tokio",
        name: "bidmesh-io-tokio",
        left_out: &[
            // Another feature, whose dependencies take longer to build than all else here; `tests/slm.rs` judges it.
            "io-tokio/src/execute/slm",
        ],
        suites: &["bidmesh-io-tokio", "bidmesh-sim"],
        targets: &[
            "--lib",
            "--test=boundaries",
            "--test=driver",
            "--test=executors",
            "--test=network",
            "--test=phones",
            "--test=turmoil_auction",
            "--test=turmoil_harness",
            "--test=turmoil_health",
            "--test=turmoil_loss",
            "--test=turmoil_power",
            "--test=turmoil_rough",
            "--test=turmoil_silence",
            "--test=turmoil_worker",
        ],
        touches_machine: true,
    },
];

impl Package {
    /// Whether nothing here could notice this mutant.
    pub fn leaves_out(&self, mutant: &str) -> bool {
        self.left_out.iter().any(|beginning| mutant.starts_with(beginning))
    }
}
