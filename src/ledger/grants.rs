//! What is counted in roles and bindings, kept up and down: a role or binding that moves is taken out of the sums
//! of its namespace as it was counted last, and counted in again when the batch is settled. A ClusterRole may have
//! thousands of bindings, and the cluster thousands of ClusterRoles, so that nothing else is looked at.
//!
//! [`Ledger::count`] counts the same from scratch; tests and the self-check hold one against the other.

use super::names::Sym;
use super::subject_counts::CountedSubject;
use super::table::{Map, RowId};
use super::tally::{ByLevel, NamespaceBlock};
use super::{Dirty, Ledger};
use crate::risk::{Priority, Status};

/// What a role adds to the sums of its namespace.
#[derive(Clone, Debug)]
struct CountedRole {
    bound: bool,
    worth: Priority,
    status: Status,
    /// Worth of each rule with a wildcard.
    wildcards: Box<[Priority]>,
}

/// What a binding adds.
#[derive(Clone, Copy, Debug)]
struct CountedBinding {
    level: (Priority, Status),
    /// It refers to a missing role, to a missing account.
    dangling: [bool; 2],
}

/// Roles, bindings and subjects as they were counted last, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    roles: Vec<Option<CountedRole>>,
    bindings: Vec<Option<CountedBinding>>,
    pub(super) subjects: Vec<Option<CountedSubject>>,
}

/// What is to be counted in, and what was taken out or has been counted in since the last batch.
#[derive(Clone, Debug, Default)]
pub(super) struct MovedGrants {
    roles: Dirty<RowId>,
    bindings: Dirty<RowId>,
    sums: Map<Sym, Sums>,
}

impl MovedGrants {
    pub(super) fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.bindings.is_empty() && self.sums.is_empty()
    }
}

/// Sums of a namespace, or what they have moved by: then they wrap around.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    wildcard_rules: ByLevel,
    /// By bound.
    roles: [ByLevel; 2],
    bindings: ByLevel,
    dangling: [u32; 2],
}

impl Sums {
    fn role(&mut self, role: &CountedRole, up: bool) {
        let status = role.status as usize;
        let bound = &mut self.roles[usize::from(role.bound)];
        step(&mut bound[role.worth as usize][status], up);
        for worth in &role.wildcards {
            step(&mut self.wildcard_rules[*worth as usize][status], up);
        }
    }

    fn binding(&mut self, binding: &CountedBinding, up: bool) {
        let (priority, status) = binding.level;
        step(&mut self.bindings[priority as usize][status as usize], up);
        for (count, dangling) in self.dangling.iter_mut().zip(binding.dangling) {
            if dangling {
                step(count, up);
            }
        }
    }

    /// Moves the counts of a namespace.
    pub(super) fn add_to(&self, block: &mut NamespaceBlock) {
        let add = |to: &mut u32, by: &u32| *to = to.wrapping_add(*by);
        let add_levels = |to: &mut ByLevel, by: &ByLevel| {
            let to = to.iter_mut().flatten();
            to.zip(by.iter().flatten()).for_each(|(to, by)| add(to, by));
        };
        add_levels(&mut block.wildcard_rules, &self.wildcard_rules);
        for (to, by) in block.roles.iter_mut().zip(&self.roles) {
            add_levels(to, by);
        }
        add_levels(&mut block.bindings, &self.bindings);
        for (to, by) in block.dangling.iter_mut().zip(&self.dangling) {
            add(to, by);
        }
    }
}

/// Counts up or down; what has moved wraps around.
pub(super) fn step(count: &mut u32, up: bool) {
    *count = count.wrapping_add(if up { 1 } else { u32::MAX });
}

/// Puts into a list by number, which is as long as it has to be.
pub(super) fn put<T: Clone>(list: &mut Vec<Option<T>>, id: RowId, item: T) {
    let at = id as usize;
    if list.len() <= at {
        list.resize(at + 1, None);
    }
    list[at] = Some(item);
}

pub(super) fn take<T>(list: &mut [Option<T>], id: RowId) -> Option<T> {
    list.get_mut(id as usize).and_then(Option::take)
}

impl Ledger {
    /// What a role adds may differ.
    pub(super) fn role_stirred(&mut self, id: RowId) {
        self.role_out(self.roles.key(id).0, id);
        self.dirty.grants.roles.insert(id);
    }

    /// What a binding adds may differ, but not what its role does.
    pub(super) fn binding_stirred(&mut self, id: RowId) {
        self.binding_out(self.bindings.key(id).0, id);
        self.dirty.grants.bindings.insert(id);
    }

    /// What a binding adds may differ, and so what its role does.
    pub(super) fn grant_stirred(&mut self, id: RowId) {
        self.binding_stirred(id);
        if let Some(role) = self.role_of(id) {
            self.role_stirred(role);
        }
    }

    /// A role of this namespace goes, or is to be counted anew.
    pub(super) fn role_out(&mut self, namespace: Sym, id: RowId) {
        self.dirty.grants.roles.remove(&id);
        if let Some(role) = take(&mut self.counted.roles, id) {
            let sums = self.dirty.grants.sums.entry(namespace).or_default();
            sums.role(&role, false);
        }
    }

    /// A binding of this namespace goes, or is to be counted anew.
    pub(super) fn binding_out(&mut self, namespace: Sym, id: RowId) {
        self.dirty.grants.bindings.remove(&id);
        if let Some(binding) = take(&mut self.counted.bindings, id) {
            let sums = self.dirty.grants.sums.entry(namespace).or_default();
            sums.binding(&binding, false);
        }
    }

    /// Counts in what was stirred; returns what the sums of namespaces have moved by.
    pub(super) fn count_stirred(&mut self) -> Map<Sym, Sums> {
        let moved = std::mem::take(&mut self.dirty.grants);
        let mut sums = moved.sums;
        for id in moved.bindings {
            let binding = CountedBinding {
                level: self.binding_level(id),
                dangling: self.dangling(id).into(),
            };
            let namespace = self.bindings.key(id).0;
            sums.entry(namespace).or_default().binding(&binding, true);
            put(&mut self.counted.bindings, id, binding);
        }
        for id in moved.roles {
            let level = |binding: RowId| {
                let counted = self.counted.bindings.get(binding as usize);
                let counted = counted.and_then(Option::as_ref);
                counted.map_or_else(|| self.binding_level(binding), |counted| counted.level)
            };
            let Some(role) = self.role_adds(id, level) else {
                continue;
            };
            let namespace = self.roles.key(id).0;
            sums.entry(namespace).or_default().role(&role, true);
            put(&mut self.counted.roles, id, role);
        }
        sums
    }

    /// The sums of a namespace, from scratch.
    pub(super) fn sums(&self, namespace: Sym) -> Sums {
        let mut sums = Sums::default();
        for (id, ..) in self.roles.in_namespace(namespace) {
            let role = self.role_adds(id, |binding| self.binding_level(binding));
            role.iter().for_each(|role| sums.role(role, true));
        }
        for (id, ..) in self.bindings.in_namespace(namespace) {
            let binding = CountedBinding {
                level: self.binding_level(id),
                dangling: self.dangling(id).into(),
            };
            sums.binding(&binding, true);
        }
        sums
    }

    /// Nothing of a role that is only shipped.
    fn role_adds(
        &self,
        id: RowId,
        level: impl Fn(RowId) -> (Priority, Status),
    ) -> Option<CountedRole> {
        let (namespace, name) = self.roles.key(id);
        let row = self.roles.get(id)?;
        let bound = self.role_is_bound(namespace, name);
        if row.shipped && !bound {
            return None;
        }
        let (priority, status) = self.role_level_by(id, level);
        let wildcards = 0..row.wildcards.len();
        Some(CountedRole {
            bound,
            worth: if bound { priority } else { row.gives[0] },
            status,
            wildcards: wildcards.map(|n| self.in_bound_places(id, n)).collect(),
        })
    }
}
