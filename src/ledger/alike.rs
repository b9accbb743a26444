//! What many rows have alike, kept once: a chart that is installed in a thousand namespaces brings as many Roles
//! with the same rules, and of ten thousand lists of what subjects are found to hold a few hundred differ. An
//! allocation takes 16 bytes beside what is in it.

use super::names::Sym;
use super::rows::TokenRow;
use super::table::Map;
use crate::rbac::PackedRules;
use crate::risk::{Priority, Reaches, RuleId};
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// Values of one kind.
#[derive(Debug)]
pub(crate) struct Alike<T: ?Sized> {
    known: Map<Arc<T>, ()>,
    /// So many were in use when those that were not went.
    in_use: usize,
}

impl<T: ?Sized> Clone for Alike<T> {
    fn clone(&self) -> Self {
        Alike {
            known: self.known.clone(),
            in_use: self.in_use,
        }
    }
}

impl<T: ?Sized> Default for Alike<T> {
    fn default() -> Self {
        Alike {
            known: Map::default(),
            in_use: 0,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Alike<T> {
    /// The value, as others have it.
    pub(crate) fn share(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some((known, ())) = self.known.get_key_value(value.borrow()) {
            return known.clone();
        }
        if self.known.len() > 2 * self.in_use + 64 {
            self.known.retain(|value, ()| Arc::strong_count(value) > 1);
            self.in_use = self.known.len();
        }
        let value = value.into();
        self.known.insert(value.clone(), ());
        value
    }
}

/// Values of all kinds.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllAlike {
    /// Rules of roles.
    pub(crate) packed: Alike<PackedRules>,
    /// What these answer to the vocabulary.
    pub(crate) reaches: Alike<Reaches>,
    /// Rules of the catalogue that match a subject.
    pub(crate) matched: Alike<[(RuleId, Priority)]>,
    /// Tokens of pods.
    pub(crate) tokens: Alike<[TokenRow]>,
    /// Containers of pods that receive something.
    pub(crate) containers: Alike<[Sym]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_one_and_goes_when_nobody_has_it() {
        let mut lists = Alike::<[i32]>::default();
        let one = lists.share(vec![1, 2]);
        assert!(Arc::ptr_eq(&one, &lists.share(vec![1, 2])));
        assert!(!Arc::ptr_eq(&one, &lists.share(vec![2, 1])));
        for n in 3..1000 {
            lists.share(vec![n]);
        }
        assert!(lists.known.len() < 200, "{}", lists.known.len());
        assert!(
            Arc::ptr_eq(&one, &lists.share(vec![1, 2])),
            "somebody has it"
        );
    }
}
