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
