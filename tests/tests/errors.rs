//! The page of error codes says what the sources have.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Digits of every code that a text mentions.
fn codes(text: &str) -> impl Iterator<Item = String> {
    let four = |rest: &str| {
        rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
    };
    text.split("SDX-").skip(1).filter_map(four)
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_code_is_explained_once() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = std::fs::read_to_string(root.join("docs/ERRORS.md")).unwrap();
    let mut explained: BTreeMap<String, usize> = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| SDX-")) {
        *explained.entry(codes(row).next().unwrap()).or_default() += 1;
        assert!(row.trim_end_matches(['|', ' ']).len() > "| SDX-0101 |".len(), "{row}");
    }
    assert!(explained.values().all(|count| *count == 1), "{explained:?}");
    let mut text = String::new();
    for krate in ["engine", "importer", "ops", "runtime-cli"] {
        sources(&root.join(krate).join("src"), &mut text);
    }
    let mut used: BTreeSet<String> = codes(&text).collect();
    // The importer's tables have lines `Case = "0204", "what";`.
    let tables = std::fs::read_to_string(root.join("importer/src/error.rs")).unwrap();
    let cases = tables.lines().filter_map(|line| line.split_once(" = \"")?.1.split_once("\", \""));
    used.extend(cases.map(|(code, _)| code.to_owned()));
    assert!(used.len() > 60, "{used:?}");
    assert_eq!(explained.into_keys().collect::<BTreeSet<_>>(), used);
}
