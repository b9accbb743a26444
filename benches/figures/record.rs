//! The figures go from a run into the documents by this and by nothing else.

use crate::table::{Row, markdown};
use std::fs;
use std::path::Path;

/// When, where and with what a run was made.
pub(crate) fn circumstances() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{}, rbac-exporter {}, {cores} cores of {}, Linux {}, load average before the run {}.",
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        env!("CARGO_PKG_VERSION"),
        cpu.map_or("an unnamed processor", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

/// Replaces what stands between the marks of a block in a file of this repository.
pub(crate) fn write(file: &str, block: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let whole = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- {block}: from here -->\n"),
        format!("<!-- {block}: to here -->"),
    );
    let (head, rest) = whole
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{file} has no {begin}"));
    let (_, tail) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("{file} has no {end}"));
    fs::write(&path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
}

/// The rows that README shows, with the columns that it shows.
pub(crate) fn readme(rows: &[Row]) -> String {
    let mut out = String::new();
    for (at, line) in markdown(rows).lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let chosen = match at {
            0 => true,
            1 => {
                out.push_str("|---|---|---|---|\n");
                false
            }
            row => rows[row - 2].readme,
        };
        if chosen {
            out.push_str(&format!(
                "| {} | {} | {} | {} |\n",
                cells[1], cells[2], cells[3], cells[4]
            ));
        }
    }
    out
}
