//! The table behind `status="builtin"` (contract §3): pairs of role and subject as real API servers and
//! kubeadm create them, each with the priority that the default role gives there.

use super::priority::Priority;
use crate::object::Subject;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// One (role, subject) pair in one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Namespace of the binding, empty for a ClusterRoleBinding.
    pub namespace: String,
    /// The roleRef's kind is ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: String,
    /// The subject.
    pub subject: Subject,
}

#[derive(Deserialize)]
struct File {
    bindings: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    namespace: String,
    role_kind: String,
    role: String,
    subject: String,
    priority: Priority,
}

/// The pairs, each with its recorded priority.
pub fn builtin_pairs() -> &'static HashMap<Pair, Priority> {
    static PAIRS: OnceLock<HashMap<Pair, Priority>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let file: File = serde_yaml::from_str(include_str!("data/bindings.yaml"))
            .expect("the shipped table of bindings is checked by a test");
        file.bindings
            .into_iter()
            .map(|line| {
                let subject = Subject::parse(&line.subject)
                    .expect("the shipped table of bindings is checked by a test");
                let pair = Pair {
                    namespace: line.namespace,
                    cluster_role: line.role_kind == "ClusterRole",
                    role: line.role,
                    subject,
                };
                (pair, line.priority)
            })
            .collect()
    })
}

/// A role of this name is in some pair.
pub fn in_builtin_pairs(role: &str) -> bool {
    static ROLES: OnceLock<HashSet<&str>> = OnceLock::new();
    let roles = ROLES.get_or_init(|| builtin_pairs().keys().map(|p| p.role.as_str()).collect());
    roles.contains(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_loads() {
        let pairs = builtin_pairs();
        assert!(pairs.len() > 70);
        let admin = Pair {
            namespace: String::new(),
            cluster_role: true,
            role: "cluster-admin".into(),
            subject: Subject::Group {
                name: "system:masters".into(),
            },
        };
        assert_eq!(pairs.get(&admin), Some(&Priority::Critical));
    }
}
