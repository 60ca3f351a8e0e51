//! The files of `sim/stories` come to the end that they tell: planted defects are found, and what was mended stays so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;

use bidmesh_sim::story::Story;

#[test]
fn every_story_ends_as_it_tells() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let story: Story = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let played = story.play();
        let found = played.summary.violation.map_or_else(|| "nothing".into(), |found| found.to_string());
        assert!(played.as_told, "{}: it should break {:?}, and breaks {found}", file.display(), story.breaks);
    }
}
