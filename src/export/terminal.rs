//! How text looks on a terminal, and how it does not in a pipe.

use crate::risk::Priority;
use anstyle::{AnsiColor, Style};

/// Columns wider than this do not widen the others: one long name must not push everything else off
/// the screen.
const WIDEST: usize = 60;
/// With less room than this beside the other columns, or than its longest word takes, the last one goes
/// below them.
const NARROWEST: usize = 24;

/// What the terminal can do. The default is that of a pipe: no colours, no wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Colours are wanted.
    pub colour: bool,
    /// Columns of the terminal; `None` for as wide as it takes.
    pub width: Option<usize>,
}

impl Look {
    /// The text in the colour of a priority.
    pub fn paint(self, priority: Priority, text: &str) -> String {
        let style = match priority {
            Priority::Critical => AnsiColor::Red.on_default().bold(),
            Priority::High => AnsiColor::Red.on_default(),
            Priority::Medium => AnsiColor::Yellow.on_default(),
            Priority::Low => AnsiColor::Cyan.on_default(),
            Priority::None => Style::new().dimmed(),
        };
        self.styled(style, text)
    }

    /// A heading.
    pub fn head(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Writes rows in columns; the last one is not padded, and wraps where the terminal ends. Rows come
/// with the priority that colours their first cell.
pub fn table<const N: usize>(
    out: &mut String,
    look: Look,
    head: [&str; N],
    rows: &[(Option<Priority>, [String; N])],
) {
    let mut widths = head.map(|h| h.chars().count());
    for (_, row) in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            let own = cell.chars().count();
            if own <= WIDEST {
                *width = (*width).max(own);
            }
        }
    }
    let line = |out: &mut String, cells: [&str; N], paint: &dyn Fn(&str, usize) -> String| {
        let mut at = 0;
        for (i, cell) in cells.iter().enumerate() {
            let last = i + 1 == N;
            if last {
                wrapped(out, look, cell, at, i, paint);
                continue;
            }
            out.push_str(&paint(cell, i));
            let own = cell.chars().count();
            let pad = widths[i].saturating_sub(own) + 2;
            out.extend(std::iter::repeat_n(' ', pad));
            at += own + pad;
        }
        let trimmed = out.trim_end().len();
        out.truncate(trimmed);
        out.push('\n');
    };
    line(out, head, &|cell, _| look.head(cell));
    for (priority, cells) in rows {
        let cells: [&str; N] = std::array::from_fn(|i| cells[i].as_str());
        line(out, cells, &|cell, i| match priority {
            Some(p) if i == 0 => look.paint(*p, cell),
            _ => cell.to_owned(),
        });
    }
}

/// The last cell of a row, which begins in column `at`.
fn wrapped(
    out: &mut String,
    look: Look,
    cell: &str,
    at: usize,
    i: usize,
    paint: &dyn Fn(&str, usize) -> String,
) {
    let Some(width) = look.width.filter(|w| at + cell.chars().count() > *w) else {
        out.push_str(&paint(cell, i));
        return;
    };
    let longest = cell.split(' ').map(|w| w.chars().count()).max();
    let beside = width.saturating_sub(at) >= NARROWEST.max(longest.unwrap_or_default());
    let indent = if beside { at } else { 4 };
    let mut column = at;
    if !beside {
        let trimmed = out.trim_end().len();
        out.truncate(trimmed);
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
        column = indent;
    }
    let mut fresh = true;
    for word in cell.split(' ') {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(&paint(word, i));
        column += length;
        fresh = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[[&str; 3]]) -> Vec<(Option<Priority>, [String; 3])> {
        let row = |c: &[&str; 3]| (Some(Priority::High), c.map(str::to_owned));
        cells.iter().map(row).collect()
    }

    #[test]
    fn one_long_name_pads_nobody() {
        let long = "n".repeat(300);
        let mut out = String::new();
        let rows = rows(&[["high", &long, "why"], ["high", "sa:a/b", "why"]]);
        table(&mut out, Look::default(), ["P", "SUBJECT", "WHY"], &rows);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "P     SUBJECT  WHY");
        assert_eq!(lines[1], format!("high  {long}  why"));
        assert_eq!(lines[2], "high  sa:a/b   why");
    }

    #[test]
    fn the_last_column_wraps_beside_or_below_the_others() {
        let words = "one two three four five six seven eight nine ten eleven";
        let look = |width| Look {
            colour: false,
            width: Some(width),
        };
        let rows = rows(&[["high", "sa:a/b", words]]);
        for width in [30, 45, 80] {
            let mut out = String::new();
            table(&mut out, look(width), ["P", "SUBJECT", "WHY"], &rows);
            assert!(out.lines().all(|l| l.chars().count() <= width), "{out}");
            let flat: Vec<&str> = out.split_whitespace().skip(5).collect();
            assert_eq!(flat.join(" "), words);
        }
        let mut beside = String::new();
        table(&mut beside, look(45), ["P", "SUBJECT", "WHY"], &rows);
        assert!(beside.contains("\n               "), "{beside}");
    }

    #[test]
    fn colours_are_there_when_wanted() {
        let look = Look {
            colour: true,
            width: None,
        };
        assert_eq!(
            look.paint(Priority::High, "high"),
            "\u{1b}[31mhigh\u{1b}[0m"
        );
        assert_eq!(Look::default().paint(Priority::High, "high"), "high");
    }
}
