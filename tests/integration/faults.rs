//! The table of docs/faults.md: every fault has a row, every row a test that makes it happen, and every
//! time that is promised one that holds it.

use crate::table::{bound, rows};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const FAULTS: [&str; 40] = [
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
    "has passed ours",
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
    let rows = rows();
    for fault in FAULTS {
        let named = rows.iter().any(|r| r[0].contains(fault));
        assert!(named, "no row for {fault}");
    }
    let mut sources = String::new();
    let mut names = BTreeSet::new();
    for suite in ["integration", "e2e"] {
        for file in fs::read_dir(root.join("tests").join(suite)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    // However it is formatted.
    sources.retain(|c| !c.is_whitespace());
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(names.insert(row[0].clone()), "{row:?}");
        let test = row[4].trim_matches('`');
        assert!(
            sources.contains(&format!("fn{test}()")),
            "{test} is no test"
        );
        let name = format!("(\"{}\",", row[0]).replace(char::is_whitespace, "");
        let held = ["recovered", "Cause::new", "add"]
            .iter()
            .any(|call| sources.contains(&format!("{call}{name}")));
        assert_eq!(
            held,
            bound(&row).is_some(),
            "the time is promised and not held, or the other way round: {row:?}"
        );
    }
}
