//! Roles and bindings, and what they are worth.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::table::{RowId, Table};
use crate::object::{Origin, Subject};
use crate::risk::{Priority, Status};
use std::cmp::Ordering;

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
    /// Every role of the input, and the shipped ones that something refers to, by kind, namespace, name;
    /// each is worked out when the iterator comes to it.
    pub fn role_views(&self) -> impl Iterator<Item = RoleView> {
        let mut ids: Vec<RowId> = self.listed_roles().collect();
        ids.sort_unstable_by(|a, b| self.by_name(&self.roles, *a, *b));
        ids.into_iter().filter_map(|id| self.role_view(id))
    }

    /// Those of the input, and the shipped ones that something refers to.
    pub(super) fn listed_roles(&self) -> impl Iterator<Item = RowId> {
        let rows = self.roles.iter();
        rows.filter(|(_, ns, name, row)| !row.shipped || self.role_is_bound(*ns, *name))
            .map(|(id, ..)| id)
    }

    pub(super) fn role_view(&self, id: RowId) -> Option<RoleView> {
        let row = self.roles.get(id)?;
        let (ns, name) = self.roles.key(id);
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
                let rule = self.policy.catalogue.rule(f.rule).id.clone();
                (rule, f.scope.as_str().to_owned(), f.priority)
            })
            .collect();
        findings.sort();
        findings.dedup();
        Some(RoleView {
            cluster: ns == Sym::EMPTY,
            namespace: self.names.text(ns).to_string(),
            name: self.names.text(name).to_string(),
            shipped: row.shipped,
            priority,
            potential: row.gives[0],
            bound: self.role_is_bound(ns, name),
            status,
            wildcard_rules: row.wildcards.len(),
            findings,
            transient: row.transient,
            origin: Self::origin_of(&row.origin).cloned(),
        })
    }

    /// Every binding, by kind, namespace, name; each is worked out when the iterator comes to it.
    pub fn binding_views(&self) -> impl Iterator<Item = BindingView> {
        let mut ids: Vec<RowId> = self.bindings.iter().map(|(id, ..)| id).collect();
        ids.sort_unstable_by(|a, b| self.by_name(&self.bindings, *a, *b));
        ids.into_iter().filter_map(|id| self.binding_view(id))
    }

    /// The bindings whose role is missing, in no order.
    pub fn dangling_bindings(&self) -> impl Iterator<Item = BindingView> {
        let ids = self.bindings.iter().map(|(id, ..)| id);
        ids.filter(|id| self.role_of(*id).is_none())
            .filter_map(|id| self.binding_view(id))
    }

    pub(super) fn binding_view(&self, id: RowId) -> Option<BindingView> {
        let row = self.bindings.get(id)?;
        let (ns, name) = self.bindings.key(id);
        let (priority, status) = self.binding_level(id);
        let (role_missing, account_missing) = self.dangling(id);
        Some(BindingView {
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
        })
    }

    /// By namespace and name; as the namespace of cluster-scoped objects is empty, also by kind.
    pub(super) fn by_name<R: Clone>(&self, table: &Table<R>, a: RowId, b: RowId) -> Ordering {
        let text = |id: RowId| {
            let (namespace, name) = table.key(id);
            (self.names.text(namespace), self.names.text(name))
        };
        text(a).cmp(&text(b))
    }

    /// Pods by namespace and name.
    pub(super) fn by_pod_name(&self, a: RowId, b: RowId) -> Ordering {
        let ((a_in, a), (b_in, b)) = (self.pods.key(a), self.pods.key(b));
        let text = |sym: Sym| self.names.text(sym);
        let places = text(a_in).cmp(text(b_in));
        places.then_with(|| a.text(&self.names).cmp(&b.text(&self.names)))
    }

    /// Namespaces as contract §1 counts them, `""` included.
    pub fn namespace_count(&self) -> usize {
        self.blocks.len()
    }
}
