//! Text from the input inside Markdown, as GitHub renders it.

use super::report::printable;

/// A code span (CommonMark 0.31 §6.1): inside it nothing is a link, a mention, emphasis or HTML, and
/// only as many backticks as began it end it. Line breaks, which would end the block around it, are
/// shown as escapes.
pub(super) fn code(text: &str) -> String {
    let text = printable(text);
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    // a span loses one space at both ends when it has one at both, and cannot begin with a backtick
    let edge = |c: Option<char>| matches!(c, Some('`' | ' '));
    let pad = text.is_empty() || edge(text.chars().next()) || edge(text.chars().next_back());
    let pad = if pad { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// As many whole items as fit into so many bytes, and how many did not.
pub(super) fn cut_to(items: &[String], bytes: usize) -> String {
    const RESERVE: usize = 100;
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        let last = i + 1 == items.len();
        let reserve = if last { 0 } else { RESERVE };
        if out.len() + item.len() + reserve > bytes {
            out.push_str(&format!(
                "- … and {} more; the text and JSON outputs have all\n",
                items.len() - i
            ));
            break;
        }
        out.push_str(item);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_code_span() {
        assert_eq!(code("sa:a/b"), "`sa:a/b`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\n# b\u{202e}"), "`a\\n# b\\u{202e}`");
        assert_eq!(code(""), "`  `");
    }

    #[test]
    fn whole_items_are_left_out() {
        let items: Vec<String> = (0..10)
            .map(|i| format!("- {i} {}\n", "x".repeat(45)))
            .collect();
        assert_eq!(cut_to(&items, 1000).lines().count(), 10);
        let cut = cut_to(&items, 400);
        assert!(cut.len() <= 400 && cut.contains(" more; "), "{cut}");
    }
}
