//! docs/benchmarks.md and README show what a benchmark has printed, and every goal that is missed has its reason.

/// What stands between the marks of a block.
fn block<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text
        .split_once(&format!("<!-- {name}: from here -->\n"))
        .unwrap_or_else(|| panic!("no block {name}"));
    let (block, _) = rest
        .split_once(&format!("<!-- {name}: to here -->"))
        .unwrap_or_else(|| panic!("the block {name} does not end"));
    block
}

/// The rows of a table, without its head.
fn rows(block: &str) -> Vec<Vec<&str>> {
    let lines = block.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

const BENCHMARKS: &str = include_str!("../../../docs/benchmarks.md");
const README: &str = include_str!("../../../README.md");

#[test]
fn the_page_has_a_run() {
    for (name, at_least) in [("figures", 30), ("sizes", 5), ("churn", 6)] {
        let rows = rows(block(BENCHMARKS, name));
        assert!(rows.len() >= at_least, "{name}: {} rows", rows.len());
    }
}

#[test]
fn readme_shows_rows_of_the_same_run() {
    let page = rows(block(BENCHMARKS, "figures"));
    let shown = rows(block(README, "figures"));
    assert!(shown.len() >= 5, "{shown:?}");
    for row in shown {
        assert!(
            page.iter().any(|other| other[..4] == row[..4]),
            "{row:?} is not in docs/benchmarks.md"
        );
    }
}

#[test]
fn every_goal_that_is_missed_has_its_reason() {
    let (_, reasons) = BENCHMARKS
        .split_once("\n## What limits it\n")
        .expect("a section on it");
    let reasons = reasons.split("\n## ").next().unwrap_or_default();
    for name in ["figures", "churn"] {
        for row in rows(block(BENCHMARKS, name)) {
            assert_eq!(
                row[1].contains("missed"),
                reasons.contains(&format!("**{}**", row[0])),
                "{}: a reason for each that is missed, and for no other",
                row[0]
            );
        }
    }
}
