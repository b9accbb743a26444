//! What somebody answers for (contract §4). Read from the configuration; the ledger weighs it.

use super::priority::Priority;
use crate::object::Subject;

/// A known risk that somebody answers for: the listed findings of one subject, and every escalation path
/// that starts with one of them, up to a priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Name of the entry, unique in a configuration; the label `id`.
    pub id: String,
    /// Whose findings, in canonical form ([`Subject::user`]).
    pub subject: Subject,
    /// Which.
    pub findings: Vec<AcceptedFinding>,
    /// Up to here, this one included.
    pub priority: Priority,
    /// Why it may stay.
    pub reason: String,
    /// Who answers for it; the label `risk_owner`.
    pub owner: String,
    /// The first second after the last day, Unix seconds.
    pub expires: i64,
}

/// A finding as it is written in an acceptance: `RULE@SCOPE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AcceptedFinding {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
}

impl AcceptedFinding {
    /// Reads `RULE@SCOPE`; `None` when one of the two is missing.
    pub fn parse(text: &str) -> Option<AcceptedFinding> {
        let (rule, scope) = text.split_once('@')?;
        let both = !rule.is_empty() && !scope.is_empty();
        both.then(|| AcceptedFinding {
            rule: rule.into(),
            scope: scope.into(),
        })
    }

    /// The form that [`AcceptedFinding::parse`] reads.
    pub fn written(&self) -> String {
        format!("{}@{}", self.rule, self.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::AcceptedFinding;

    #[test]
    fn a_finding_as_it_is_written() {
        for text in ["secrets-list@*", "pod-exec@kube-system"] {
            let read = AcceptedFinding::parse(text).map(|f| f.written());
            assert_eq!(read.as_deref(), Some(text));
        }
        for text in ["", "secrets-list", "@*", "secrets-list@"] {
            assert_eq!(AcceptedFinding::parse(text), None, "{text:?}");
        }
    }
}
