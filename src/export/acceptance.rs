//! Entries of the configuration that would accept what is open, ready to be filled in.

use super::report::odd;
use crate::ledger::Proposal;
use crate::risk::AcceptedFinding;

/// An item of `accepted:` in the configuration, as YAML. Reason, owner and last day are empty, which the
/// configuration refuses: whoever accepts a risk says so.
pub fn acceptance_entry(proposal: &Proposal) -> String {
    let findings = proposal.findings.iter().map(AcceptedFinding::written);
    let findings: String = findings
        .map(|f| format!("      - {}\n", quoted(&f)))
        .collect();
    format!(
        "  - id: {}\n    \
         subject: {}\n    \
         findings:\n{findings}    \
         priority: {}\n    \
         reason: \"\" # why it may stay\n    \
         owner: \"\" # who answers for it\n    \
         expires: \"\" # the last day, YYYY-MM-DD\n",
        quoted(&proposal.id),
        quoted(&proposal.subject.written()),
        proposal.priority.as_str(),
    )
}

/// A double-quoted scalar (YAML 1.2.2 §7.3.1) without a character that changes a terminal.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if odd(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Text, read};
    use crate::object::Subject;
    use crate::risk::Priority;

    fn proposal(subject: Subject) -> Proposal {
        let finding = |text: &str| AcceptedFinding::parse(text).expect("a finding");
        Proposal {
            id: "user:x-01234567".into(),
            subject,
            findings: vec![finding("secrets-list@*"), finding("pod-exec@kube-system")],
            priority: Priority::High,
        }
    }

    fn parsed(entry: &str) -> Result<Vec<crate::risk::Acceptance>, Vec<String>> {
        let text = Text {
            name: "config.yaml".into(),
            text: format!("accepted:\n{entry}"),
        };
        let read = read(Some(&text), vec![], &mut |_| Err("no template".into()));
        read.map(|c| c.accepted.into_iter().map(|a| a.entry).collect())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_entry_is_refused_until_it_is_filled_in() {
        let entry = acceptance_entry(&proposal(Subject::user("x")));
        assert_eq!(
            entry,
            r#"  - id: "user:x-01234567"
    subject: "user:x"
    findings:
      - "secrets-list@*"
      - "pod-exec@kube-system"
    priority: high
    reason: "" # why it may stay
    owner: "" # who answers for it
    expires: "" # the last day, YYYY-MM-DD
"#
        );
        let faults = parsed(&entry).expect_err("nothing is filled in");
        let fields: Vec<bool> = ["reason", "owner", "expires"]
            .iter()
            .map(|field| faults.iter().any(|f| f.contains(field)))
            .collect();
        assert_eq!((faults.len(), fields), (3, vec![true; 3]), "{faults:?}");
    }

    #[test]
    fn hostile_names_come_back_as_they_were() {
        for name in [
            "x\u{1b}[31m",
            "a\nexpires: 2999-01-01\n  - id: b",
            "quote\" back\\slash 'single'",
            "{a: b}, [c] # no comment &anchor *alias !tag | > %",
            "\u{202e}evil\u{2028}line\u{85}next\u{feff}bom",
            "emoji \u{1f600} ümläut",
            "null",
            "~",
            " spaces around ",
        ] {
            for subject in [
                Subject::User { name: name.into() },
                Subject::Group { name: name.into() },
            ] {
                let entry = acceptance_entry(&proposal(subject.clone()));
                assert!(!entry.chars().any(|c| odd(c) && c != '\n'), "{entry:?}");
                let filled = entry
                    .replace("reason: \"\"", "reason: known")
                    .replace("owner: \"\"", "owner: team")
                    .replace("expires: \"\"", "expires: 2031-03-31");
                let read = parsed(&filled).expect("a good entry");
                assert_eq!(read.len(), 1);
                assert_eq!(read[0].subject, subject);
                assert_eq!(read[0].findings, proposal(subject).findings);
                assert_eq!(
                    (read[0].priority, &*read[0].owner),
                    (Priority::High, "team")
                );
            }
        }
    }
}
