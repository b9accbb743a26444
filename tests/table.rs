//! The table of docs/faults.md, as the tests read it: the bounds that it promises are those that they hold.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Its rows, cell by cell.
pub(crate) fn rows() -> Vec<Vec<String>> {
    let doc = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let doc = fs::read_to_string(doc).unwrap();
    let rows = doc
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| fault "));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

/// What a row promises of the recovery.
pub(crate) fn bound(row: &[String]) -> Option<Duration> {
    if row[3] == "–" {
        return None;
    }
    let seconds = row[3]
        .strip_prefix("within ")
        .and_then(|t| t.strip_suffix(" s"));
    let seconds = seconds.and_then(|s| s.parse().ok());
    Some(Duration::from_secs(
        seconds.unwrap_or_else(|| panic!("no bound: {row:?}")),
    ))
}

/// Holds a recovery against what the table promises for a fault, and tells how long it took.
#[track_caller]
#[allow(clippy::print_stdout, reason = "what tests measure is printed")]
pub(crate) fn recovered(fault: &str, took: Duration) {
    let rows = rows();
    let row = rows.iter().find(|row| row[0] == fault);
    let bound = row.and_then(|row| bound(row));
    let bound = bound.unwrap_or_else(|| panic!("docs/faults.md promises nothing for {fault:?}"));
    println!("{fault}: recovered after {took:.1?}, at most {bound:?} are promised");
    assert!(
        took <= bound,
        "{fault}: {took:?}, and {bound:?} are promised"
    );
}
