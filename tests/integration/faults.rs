//! The table of docs/faults.md: every fault has a row, and every row a test that makes it happen.

use std::fs;
use std::path::Path;

const FAULTS: [&str; 39] = [
    "G1",
    "G2",
    "G3",
    "G4",
    "G5",
    "G6",
    "G7",
    "G8",
    "G9",
    "absent at start",
    "killed",
    "gone for an hour",
    "older state",
    "etcd compacted",
    "401",
    "403 on one",
    "403 on all",
    "404",
    "410 in the middle",
    "410 as an event",
    "429 without",
    "with Retry-After",
    "500",
    "503",
    "200 with garbage",
    "truncated frame",
    "split at every byte",
    "endless line",
    "5 MB object",
    "wrong kind",
    "ERROR events",
    "bookmarks missing",
    "reordered, duplicated, replayed",
    "half-open",
    "slow-drip",
    "rotated",
    "an hour off",
    "between pages",
    "SIGTERM",
];

#[test]
fn every_fault_has_a_row_and_every_row_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let doc = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let rows: Vec<Vec<&str>> = doc
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| fault "))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for fault in FAULTS {
        let named = rows.iter().any(|r| r[0].contains(fault));
        assert!(named, "no row for {fault}");
    }
    let mut sources = String::new();
    for suite in ["integration", "e2e"] {
        for file in fs::read_dir(root.join("tests").join(suite)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        let test = row[4].trim_matches('`');
        assert!(
            sources.contains(&format!("fn {test}()")),
            "{test} is no test"
        );
    }
}
