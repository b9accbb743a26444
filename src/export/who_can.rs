//! What `who-can` prints.

use super::explain::written;
use super::report::{
    GrantEntry, Reference, columns, grant_entry, object, printable, subject_reference,
};
use crate::ledger::Allowed;
use serde::Serialize;

/// Everybody who may do something.
#[derive(Clone, Debug, Serialize)]
pub struct WhoCan {
    /// Everything was read and decoded.
    pub complete: bool,
    /// By kind, namespace, name.
    pub subjects: Vec<AllowedEntry>,
}

/// Somebody who may.
#[derive(Clone, Debug, Serialize)]
pub struct AllowedEntry {
    /// Kind, namespace and name.
    #[serde(flatten)]
    pub subject: Reference,
    /// Where: `*`, or a namespace.
    pub scope: String,
    /// The implicit group whose grant it is; null when the subject is named itself.
    pub through: Option<String>,
    /// By what; null for Group `system:masters`, which is allowed before RBAC is asked.
    pub grant: Option<GrantEntry>,
}

impl WhoCan {
    /// Of what the ledger says.
    pub fn of(allowed: &[Allowed], complete: bool) -> WhoCan {
        let entry = |a: &Allowed| AllowedEntry {
            subject: subject_reference(&a.subject),
            scope: a.scope.clone(),
            through: (a.named != a.subject).then(|| subject_reference(&a.named).name),
            grant: a.grant.as_ref().map(grant_entry),
        };
        WhoCan {
            complete,
            subjects: allowed.iter().map(entry).collect(),
        }
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        if self.subjects.is_empty() {
            return "Nobody that a binding names, and no service account.\n".to_owned();
        }
        let rows: Vec<[String; 3]> = self
            .subjects
            .iter()
            .map(|a| {
                let why = match (&a.grant, &a.through) {
                    (None, _) => "before RBAC is asked".to_owned(),
                    (Some(grant), through) => {
                        let GrantEntry { binding, role } = grant;
                        let through = through
                            .as_ref()
                            .map(|g| format!(", through group:{g}"))
                            .unwrap_or_default();
                        format!("{} to {}{through}", object(binding), object(role))
                    }
                };
                [
                    printable(&written(&a.subject)),
                    printable(&a.scope),
                    printable(&why),
                ]
            })
            .collect();
        let mut out = String::new();
        columns(&mut out, ["SUBJECT", "WHERE", "BY"], &rows);
        out
    }
}
