//! Lists that many rows have alike, kept once: of 10,000 subjects with findings few are bound to roles that nobody
//! else is bound to.

use super::table::Map;
use std::hash::Hash;
use std::sync::Arc;

/// The lists that rows have.
#[derive(Clone, Debug)]
pub(crate) struct Lists<T> {
    known: Map<Arc<[T]>, ()>,
    /// So many were in use when those that were not went.
    in_use: usize,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Lists {
            known: Map::default(),
            in_use: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> Lists<T> {
    /// The list, as others have it.
    pub(crate) fn share(&mut self, list: &[T]) -> Arc<[T]> {
        if let Some((known, ())) = self.known.get_key_value(list) {
            return known.clone();
        }
        let list: Arc<[T]> = Arc::from(list);
        if list.is_empty() {
            return list;
        }
        if self.known.len() > 2 * self.in_use + 64 {
            self.known.retain(|list, ()| Arc::strong_count(list) > 1);
            self.in_use = self.known.len();
        }
        self.known.insert(list.clone(), ());
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_alike_are_one_and_go_when_nobody_has_them() {
        let mut lists = Lists::default();
        let one = lists.share(&[1, 2]);
        assert!(Arc::ptr_eq(&one, &lists.share(&[1, 2])));
        assert!(!Arc::ptr_eq(&one, &lists.share(&[2, 1])));
        assert!(lists.share(&[]).is_empty());
        for n in 3..1000 {
            lists.share(&[n]);
        }
        assert!(lists.known.len() < 200, "{}", lists.known.len());
        assert!(Arc::ptr_eq(&one, &lists.share(&[1, 2])), "somebody has it");
    }
}
