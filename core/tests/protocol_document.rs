//! `docs/protocol.md` agrees with the code: its examples are what `encode` writes, every type is there in every
//! dialect, and every field is in the table of its type.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "support/examples.rs"]
mod examples;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bidmesh_core::wire::{Body, Dialect, Reason, WireLimits, decode, encode};
use serde_json::{Map, Value};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

const DIALECTS: [(&str, Dialect); 3] =
    [("bidmesh", Dialect::Bidmesh), ("shell", Dialect::Shell), ("literal", Dialect::ShellLiteral)];

/// The `wire` blocks: the word after `wire`, and the content with its last line end.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    text.split("\n```wire ")
        .skip(1)
        .map(|block| {
            let (label, rest) = block.split_once('\n').unwrap();
            let end = rest.find("\n```\n").unwrap_or_else(|| panic!("the block {label} does not end"));
            (label, &rest[..=end])
        })
        .collect()
}

/// What stands under `### TYPE`.
fn section(kind: &str) -> &'static str {
    let start = DOCUMENT.split_once(&format!("\n### {kind}\n"));
    let (_, rest) = start.unwrap_or_else(|| panic!("docs/protocol.md has no section {kind}"));
    let end = rest.find("\n## ").into_iter().chain(rest.find("\n### ")).min().unwrap_or(rest.len());
    &rest[..end]
}

/// Every example as it is written, by dialect.
fn written() -> Vec<(&'static str, Body, String)> {
    let mut written = Vec::new();
    for (_, body) in examples::bodies() {
        for (label, dialect) in DIALECTS {
            if let Ok(bytes) = encode(&examples::from_bidmesh(body.clone()), dialect) {
                written.push((label, body.clone(), String::from_utf8(bytes).unwrap()));
            }
        }
    }
    written
}

#[test]
fn every_example_is_what_the_code_writes() {
    let written = written();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/legacy-samples");
    let captured: BTreeSet<Vec<u8>> = fs::read_dir(samples)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap().trim_ascii_end().to_vec())
        .collect();
    let blocks = blocks(DOCUMENT);
    assert!(blocks.len() > 30, "{} examples", blocks.len());
    for (label, content) in blocks {
        let known = match label {
            "captured" => captured.contains(content.trim_ascii_end().as_bytes()),
            _ => written.iter().any(|(dialect, _, bytes)| *dialect == label && bytes == content),
        };
        assert!(known, "this is not what is written in the dialect {label}: {content}");
    }
}

#[test]
fn every_example_is_read_and_stands_under_its_type() {
    for kind in kinds() {
        let section = section(heading(&kind));
        for (label, content) in blocks(section) {
            let decoded = decode(content.as_bytes(), &WireLimits::default());
            let message = decoded.unwrap_or_else(|error| panic!("{content}{error}")).message;
            assert_eq!(message.body.kind(), kind, "{content}");
            if label == "bidmesh" {
                assert_eq!(encode(&message, Dialect::Bidmesh).unwrap(), content.as_bytes());
            }
        }
    }
}

#[test]
fn every_type_is_shown_in_every_form_that_it_has() {
    for kind in kinds() {
        let shown = blocks(section(heading(&kind)));
        let shown: BTreeSet<&str> = shown.into_iter().map(|(_, content)| content).collect();
        for (label, _) in DIALECTS {
            let mut of_kind = written().into_iter().filter(|(l, body, _)| *l == label && body.kind() == kind);
            let any =
                of_kind.clone().next().is_none() || of_kind.any(|(_, _, bytes)| shown.contains(&*bytes));
            assert!(any, "docs/protocol.md shows no {kind} for {label}");
        }
    }
}

#[test]
fn every_field_is_in_the_table_of_its_type() {
    for (_, body, bytes) in written().into_iter().filter(|(label, ..)| *label == "bidmesh") {
        let payload = bytes.splitn(3, '|').nth(2).unwrap();
        let Ok(fields) = serde_json::from_str::<Map<String, Value>>(payload) else { continue };
        let section = section(body.kind());
        for field in fields.keys().filter(|field| !matches!(field.as_str(), "bidmesh" | "boot")) {
            let row = |line: &str| {
                let cell = line.strip_prefix("| ").and_then(|line| line.split(" | ").next());
                cell.is_some_and(|cell| cell.contains(&format!("`{field}`")))
            };
            assert!(section.lines().any(row), "docs/protocol.md: {} has no row for {field}", body.kind());
        }
    }
}

#[test]
fn every_reason_is_explained() {
    for reason in Reason::known() {
        assert!(section("REFUSE").contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

fn kinds() -> BTreeSet<String> {
    examples::bodies().into_iter().map(|(_, body)| body.kind().to_owned()).collect()
}

fn heading(kind: &str) -> &str {
    if kind == "GOSSIP" { "Any other type" } else { kind }
}
