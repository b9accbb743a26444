//! The one table.

use std::fmt::Write as _;

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    Count,
    /// Of one core.
    Share,
}

impl Unit {
    pub(crate) fn text(self, value: f64) -> String {
        let digits = |value: f64, unit: &str| {
            let places = match value {
                v if v >= 100.0 => 0,
                v if v >= 10.0 => 1,
                _ => 2,
            };
            format!("{value:.places$} {unit}").trim_end().to_owned()
        };
        match self {
            Unit::Seconds if value >= 1.0 => digits(value, "s"),
            Unit::Seconds if value >= 1e-3 => digits(value * 1e3, "ms"),
            Unit::Seconds => digits(value * 1e6, "µs"),
            Unit::Bytes if value >= 1e6 => digits(value / 1e6, "MB"),
            Unit::Bytes if value >= 1e4 => digits(value / 1e3, "kB"),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Count => thousands(value as usize),
            Unit::Share => digits(value * 100.0, "%"),
        }
    }
}

/// A count as people write it.
pub(crate) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) goal: Option<f64>,
    pub(crate) ours: f64,
    /// The peer's figure from this run.
    pub(crate) peer: Option<(&'static str, f64)>,
    /// What it cannot be below, or what it is near to, measured in this run.
    pub(crate) bound: Option<(String, f64)>,
    /// Whether README shows it.
    pub(crate) readme: bool,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, ours: f64) -> Row {
        Row {
            what: what.into(),
            unit,
            goal: None,
            ours,
            peer: None,
            bound: None,
            readme: false,
        }
    }

    pub(crate) fn in_readme(mut self) -> Row {
        self.readme = true;
        self
    }

    pub(crate) fn goal(mut self, goal: f64) -> Row {
        self.goal = Some(goal);
        self
    }

    pub(crate) fn peer(mut self, name: &'static str, value: Option<f64>) -> Row {
        self.peer = value.map(|value| (name, value));
        self
    }

    pub(crate) fn bound(mut self, what: impl Into<String>, value: f64) -> Row {
        self.bound = Some((what.into(), value));
        self
    }
}

const HEADS: [&str; 6] = [
    "figure",
    "goal",
    "here",
    "peer",
    "peer ÷ here",
    "near to (here ÷ that)",
];

/// The rows as a table of Markdown, which reads as well on a terminal.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let text = |value| row.unit.text(value);
            let goal = row.goal.map_or(String::new(), |goal| {
                let verdict = if row.ours <= goal { "" } else { " **missed**" };
                format!("≤ {}{verdict}", text(goal))
            });
            let ratio = |above: f64, below: f64| match above / below {
                r if r >= 100.0 => format!("{r:.0}×"),
                r => format!("{r:.1}×"),
            };
            let bound = row.bound.as_ref().map_or(String::new(), |(what, bound)| {
                format!("{what}: {} ({})", text(*bound), ratio(row.ours, *bound))
            });
            [
                row.what.clone(),
                goal,
                text(row.ours),
                row.peer.map_or(String::new(), |(name, value)| {
                    format!("{name} {}", text(value))
                }),
                row.peer
                    .filter(|_| row.ours > 0.0)
                    .map_or(String::new(), |(_, value)| ratio(value, row.ours)),
                bound,
            ]
        })
        .collect();
    let mut widths = HEADS.map(|head| head.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    let mut line = |cells: &[String; 6]| {
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(out, "| {cell:width$} ");
        }
        out.push_str("|\n");
    };
    line(&HEADS.map(str::to_owned));
    line(&widths.map(|width| "-".repeat(width)));
    cells.iter().for_each(line);
    out
}
