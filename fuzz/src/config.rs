use crate::{bounded, lines, told};
use rbac_exporter::config::{self, Config, Text, read};
use rbac_exporter::located::Fault;
use rbac_exporter::risk::{Acceptance, Catalogue};
use serde_yaml::Value as Yaml;
use std::fmt::Write as _;
use std::sync::Arc;

/// How the file is called.
pub(crate) const FILE: &str = "fuzz.yaml";

/// Reads a configuration.
///
/// - Every fault names the file, a line that there is, and says something; they come by line.
/// - A comment before everything moves each of them by one line, and changes nothing else.
/// - What is taken is all there is: as many acceptances and rules as another reading finds.
/// - An acceptance that was taken, written anew, is taken again and is the same.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let outcome = bounded(data, 400, || of(text));
    match outcome {
        Err(faults) => {
            check(&faults, lines(data));
            shifted(text, &faults, of);
        }
        Ok(config) => {
            let catalogue = Catalogue::of(&config.rules);
            assert!(catalogue.rules.len() <= config.rules.specs.len());
            all_there(text, &config);
            written_again(&config);
        }
    }
    config::is_template(&as_text(text));
}

pub(crate) fn as_text(text: &str) -> Text {
    Text {
        name: Arc::from(FILE),
        text: text.to_owned(),
    }
}

fn of(text: &str) -> Result<Config, Vec<Fault>> {
    read(Some(&as_text(text)), Vec::new(), &mut |_| {
        Err("no such file".to_owned())
    })
}

/// Each fault says where and what.
pub(crate) fn check(faults: &[Fault], most: u32) {
    assert!(!faults.is_empty(), "refused, and nothing said");
    for fault in faults {
        assert_eq!(&*fault.file, FILE);
        assert!(
            (1..=most).contains(&fault.line),
            "{fault:?} of {most} lines"
        );
        told(&fault.message);
        assert!(!fault.message.contains('\n'), "{fault:?}");
    }
    assert!(faults.is_sorted_by_key(|f| f.line), "{faults:?}");
}

/// Reads the text again behind a comment.
pub(crate) fn shifted<T: std::fmt::Debug>(
    text: &str,
    faults: &[Fault],
    read: impl Fn(&str) -> Result<T, Vec<Fault>>,
) {
    // these stand at the very beginning or nowhere
    if text.starts_with(['%', '\u{feff}']) {
        return;
    }
    let again = read(&format!("# a comment\n{text}")).expect_err("a comment corrects nothing");
    assert_eq!(again.len(), faults.len(), "{again:?} {faults:?}");
    for (before, after) in faults.iter().zip(&again) {
        // what has no place of its own is told of the first line
        let same = after.line == before.line + 1 || before.line == 1 && after.line == 1;
        assert!(same, "{before:?} {after:?}");
        assert_eq!(before.field, after.field);
        // a message may quote what the text says of lines, and that stays
        if !text.contains(MARK.trim_start()) {
            assert_eq!(other_lines(&before.message), after.message);
        }
    }
}

/// How a message speaks of another line.
const MARK: &str = " on line ";

/// A message that speaks of another line, a line on.
fn other_lines(message: &str) -> String {
    let mut parts = message.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        out.push_str(MARK);
        match part[..digits].parse::<u64>() {
            Ok(line) => out.push_str(&(line + 1).to_string()),
            Err(_) => out.push_str(&part[..digits]),
        }
        out.push_str(&part[digits..]);
    }
    out
}

/// What another reading finds; `None` where it may find something else than was meant.
pub(crate) fn otherwise(text: &str) -> Option<Yaml> {
    // anchors, tags and documents are told apart by versions of YAML
    let same = !text.contains(['&', '*', '!', '%']) && !text.contains("<<");
    same.then(|| serde_yaml::from_str(text).ok()).flatten()
}

fn all_there(text: &str, config: &Config) {
    let Some(tree) = otherwise(text) else { return };
    let count = |key: &str| match tree.get(key) {
        Some(Yaml::Sequence(list)) => Some(list.len()),
        _ => None,
    };
    if let Some(count) = count("accepted") {
        assert_eq!(config.accepted.len(), count, "{text}");
    }
    if let Some(count) = count("rules") {
        let edits = config.edits;
        let done = edits.added + edits.replaced + edits.changed + edits.disabled;
        assert_eq!(done, count, "{text}");
    }
}

fn written_again(config: &Config) {
    let entries: Vec<&Acceptance> = config.accepted.iter().map(|a| &a.entry).collect();
    // of a rule that this file makes only this file knows
    let own = config.edits.added > 0;
    if entries.is_empty() || own {
        return;
    }
    let mut text = "accepted:\n".to_owned();
    for entry in &entries {
        let day = jiff::Timestamp::from_second(entry.expires - 1).expect("a day");
        let findings: Vec<String> = entry.findings.iter().map(|f| f.written()).collect();
        let quoted = |text: &str| serde_json::to_string(text).expect("text");
        let _ = writeln!(
            text,
            "- {{id: {}, subject: {}, findings: {}, priority: {}, reason: {}, owner: {}, expires: {}}}",
            quoted(&entry.id),
            quoted(&entry.subject.written()),
            serde_json::to_string(&findings).expect("texts"),
            entry.priority.as_str(),
            quoted(&entry.reason),
            quoted(&entry.owner),
            day.strftime("%Y-%m-%d"),
        );
    }
    let again = of(&text).unwrap_or_else(|faults| panic!("{faults:?} of {text}"));
    let again: Vec<&Acceptance> = again.accepted.iter().map(|a| &a.entry).collect();
    assert_eq!(entries, again);
}
