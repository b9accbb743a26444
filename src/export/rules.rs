//! The rules as programs read them.

use crate::risk::{Priority, Rule};
use serde::Serialize;

/// A rule of the catalogue.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleEntry<'a> {
    /// Stable id.
    pub id: &'a str,
    /// What it is, in a few words.
    pub title: &'a str,
    /// Priority cluster-wide.
    pub cluster: Option<Priority>,
    /// Priority in a privileged namespace.
    pub privileged: Option<Priority>,
    /// Priority in any other namespace.
    pub namespace: Option<Priority>,
    /// Counts as a finding of subjects.
    pub finding: bool,
    /// The attack, in a sentence.
    pub attack: &'a str,
    /// The remediation, in a sentence.
    pub remediation: &'a str,
    /// Other catalogues and texts that know it.
    pub references: &'a str,
    /// Where it comes from.
    pub origin: String,
}

impl<'a> RuleEntry<'a> {
    /// Of a rule.
    pub fn of(rule: &'a Rule) -> RuleEntry<'a> {
        let levels = if rule.named_only {
            rule.named.as_ref().unwrap_or(&rule.levels)
        } else {
            &rule.levels
        };
        RuleEntry {
            id: &rule.id,
            title: &rule.title,
            cluster: levels.cluster,
            privileged: levels.privileged,
            namespace: levels.namespace,
            finding: rule.finding,
            attack: &rule.attack,
            remediation: &rule.remediation,
            references: &rule.references,
            origin: rule.origin.to_string(),
        }
    }
}
