//! Roles and bindings, and what they are worth.

use super::super::Ledger;
use super::super::names::Sym;
use crate::object::{Origin, Subject};
use crate::risk::{Priority, Status};

/// A role, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// It is a ClusterRole.
    pub cluster: bool,
    /// Namespace of a Role.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Shipped in the binary, not in the input.
    pub shipped: bool,
    /// Highest over its bindings.
    pub priority: Priority,
    /// What it would give cluster-wide, or a Role in its namespace.
    pub potential: Priority,
    /// Some binding refers to it.
    pub bound: bool,
    /// Status.
    pub status: Status,
    /// Rules with a wildcard.
    pub wildcard_rules: usize,
    /// What its rules give in the places where it is bound; unbound: what they would give.
    pub findings: Vec<(String, String, Priority)>,
    /// Comes and goes with a chart run.
    pub transient: bool,
    /// Where it stands.
    pub origin: Option<Origin>,
}

/// A binding, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingView {
    /// Namespace, empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: String,
    /// Subjects.
    pub subjects: Vec<Subject>,
    /// What the role gives there.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// The role is missing.
    pub role_missing: bool,
    /// An account is missing.
    pub account_missing: bool,
    /// Comes and goes with a chart run.
    pub transient: bool,
    /// Where it stands.
    pub origin: Option<Origin>,
}

impl Ledger {
    /// Every role of the input, and the shipped ones that something refers to, by kind, namespace, name.
    pub fn role_views(&self) -> Vec<RoleView> {
        let mut out = Vec::new();
        for (id, ns, name, row) in self.roles.iter() {
            let bound = self.role_is_bound(ns, name);
            if row.shipped && !bound {
                continue;
            }
            let (priority, status) = self.role_level(id);
            let mut places: Vec<Option<Sym>> = self
                .bindings_to(id)
                .iter()
                .map(|b| Some(self.bindings.key(*b).0).filter(|ns| *ns != Sym::EMPTY))
                .collect();
            if places.is_empty() {
                places.push(Some(ns).filter(|ns| *ns != Sym::EMPTY));
            }
            places.sort_unstable();
            places.dedup();
            let mut findings: Vec<(String, String, Priority)> = places
                .into_iter()
                .flat_map(|place| self.alone_at(id, place).findings)
                .map(|f| {
                    let rule = self.catalogue.rule(f.rule).id.clone();
                    (rule, f.scope.as_str().to_owned(), f.priority)
                })
                .collect();
            findings.sort();
            findings.dedup();
            out.push(RoleView {
                cluster: ns == Sym::EMPTY,
                namespace: self.names.text(ns).to_string(),
                name: self.names.text(name).to_string(),
                shipped: row.shipped,
                priority,
                potential: row.gives[0],
                bound,
                status,
                wildcard_rules: row.wildcards.len(),
                findings,
                transient: row.transient,
                origin: Self::origin_of(&row.origin).cloned(),
            });
        }
        out.sort_by(|a, b| {
            (!a.cluster, &a.namespace, &a.name).cmp(&(!b.cluster, &b.namespace, &b.name))
        });
        out
    }

    /// Every binding, by kind, namespace, name.
    pub fn binding_views(&self) -> Vec<BindingView> {
        let mut out = Vec::new();
        for (id, ns, name, row) in self.bindings.iter() {
            let (priority, status) = self.binding_level(id);
            let (role_missing, account_missing) = self.dangling(id);
            out.push(BindingView {
                namespace: self.names.text(ns).to_string(),
                name: self.names.text(name).to_string(),
                cluster_role: row.cluster_role,
                role: self.names.text(row.role).to_string(),
                subjects: row.subjects.iter().map(|k| self.subject(*k)).collect(),
                priority,
                status,
                role_missing,
                account_missing,
                transient: row.transient,
                origin: Self::origin_of(&row.origin).cloned(),
            });
        }
        out.sort_by(|a, b| {
            (!a.namespace.is_empty(), &a.namespace, &a.name).cmp(&(
                !b.namespace.is_empty(),
                &b.namespace,
                &b.name,
            ))
        });
        out
    }

    /// Namespaces as contract §1 counts them, `""` included.
    pub fn namespace_count(&self) -> usize {
        self.blocks.len()
    }
}
