//! Whose judgement looks at other roles (`bind`), by where these lie: when a Role of one namespace has moved,
//! thousands of subjects need not be asked whether they looked there.

use super::Dirty;
use super::names::Sym;
use super::rows::Depends;
use super::table::{Map, RowId};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dependents {
    /// Roles whose worth hangs on others.
    pub(crate) roles: Dirty<RowId>,
    /// Which others these looked at when they were worked out last; `None` as long as they were not.
    pub(crate) looked_at: Option<Depends>,
    /// Subjects that looked at the roles of a namespace.
    in_namespace: Map<Sym, Vec<RowId>>,
    /// Subjects that looked at all.
    on_all: Dirty<RowId>,
}

impl Dependents {
    /// A subject that looked at some looks at others now.
    pub(crate) fn subject(&mut self, id: RowId, before: Option<&Depends>, now: Option<&Depends>) {
        if before == now {
            return;
        }
        for ns in before.map(Depends::namespaces).unwrap_or_default() {
            let Some(here) = self.in_namespace.get_mut(ns) else {
                continue;
            };
            if let Some(at) = here.iter().position(|known| *known == id) {
                here.swap_remove(at);
            }
            if here.is_empty() {
                self.in_namespace.remove(ns);
            }
        }
        for ns in now.map(Depends::namespaces).unwrap_or_default() {
            self.in_namespace.entry(*ns).or_default().push(id);
        }
        match now {
            Some(Depends::OnAll) => self.on_all.insert(id),
            _ => self.on_all.remove(&id),
        };
    }

    /// The subjects that may hang on the roles of these namespaces, some more than once. Not those that hang on a
    /// ClusterRole, which is worth something everywhere.
    pub(crate) fn subjects(&self, namespaces: &Dirty<Sym>) -> impl Iterator<Item = RowId> {
        let here = namespaces.iter().filter_map(|ns| self.in_namespace.get(ns));
        self.on_all.iter().chain(here.flatten()).copied()
    }

    /// The namespaces whose names are kept here.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = Sym> {
        let looked_at = self.looked_at.iter().flat_map(Depends::namespaces);
        self.in_namespace.keys().chain(looked_at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;

    #[test]
    fn subjects_are_found_where_they_looked_last() {
        let mut names = Names::default();
        let ns: [Sym; 10] = std::array::from_fn(|n| names.intern(&format!("n{n}")));
        let some = |namespaces: &[usize]| Depends::OnRolesIn {
            namespaces: namespaces.iter().map(|n| ns[*n]).collect(),
            by_name: false,
        };
        let mut dependents = Dependents::default();
        let found = |dependents: &Dependents, n: usize| {
            let moved = Dirty::from_iter([ns[n]]);
            let mut found: Vec<RowId> = dependents.subjects(&moved).collect();
            found.sort_unstable();
            found
        };
        dependents.subject(1, None, Some(&some(&[7, 8])));
        dependents.subject(2, None, Some(&some(&[8])));
        dependents.subject(3, None, Some(&Depends::OnAll));
        assert_eq!(found(&dependents, 7), [1, 3]);
        assert_eq!(found(&dependents, 8), [1, 2, 3]);
        dependents.subject(1, Some(&some(&[7, 8])), Some(&some(&[9])));
        dependents.subject(3, Some(&Depends::OnAll), None);
        assert!(found(&dependents, 7).is_empty());
        assert_eq!(found(&dependents, 8), [2]);
        assert_eq!(found(&dependents, 9), [1]);
        dependents.subject(1, Some(&some(&[9])), None);
        dependents.subject(2, Some(&some(&[8])), None);
        assert_eq!(dependents.namespaces().count(), 0);
    }
}
