//! Subjects and workloads in detail, of all namespaces within the limit.

use super::shelves::{Blocks, Shelves};
use super::tally::NamespaceBlock;
use std::sync::{Arc, OnceLock};

/// Something in detail, with its namespace.
pub type Detailed<T> = (Arc<str>, T);

/// Details of all namespaces, gathered when they are first asked for: of the batches between two scrapes all but
/// one are never. A clone gathers for both.
#[derive(Clone, Debug)]
pub struct Details<T>(
    /// In the order of the namespaces.
    Arc<OnceLock<Vec<Detailed<T>>>>,
);

impl<T> Default for Details<T> {
    fn default() -> Details<T> {
        Details(Arc::default())
    }
}

/// They follow from the namespaces and the limit that stand beside them.
impl<T> PartialEq for Details<T> {
    fn eq(&self, _: &Details<T>) -> bool {
        true
    }
}

impl<T> Eq for Details<T> {}

impl<T: Clone> Details<T> {
    /// Those of these namespaces that come first by a key, at most `limit`, in the order of the namespaces.
    pub(super) fn of<K: Ord>(
        &self,
        namespaces: &Blocks,
        limit: usize,
        of: impl Fn(&NamespaceBlock) -> &Shelves<T>,
        key: impl Fn(&T) -> K,
    ) -> &[Detailed<T>] {
        self.0.get_or_init(|| {
            let all = namespaces.iter();
            let all = all.flat_map(|(ns, block)| of(block).iter().map(move |detail| (ns, detail)));
            let mut kept: Vec<(usize, (&Arc<str>, &T))> = all.enumerate().collect();
            let there = kept.len();
            if there > limit {
                kept.select_nth_unstable_by_key(limit, |(at, (_, detail))| (key(detail), *at));
                kept.truncate(limit);
                kept.sort_unstable_by_key(|(at, _)| *at);
            }
            let kept = kept.into_iter();
            kept.map(|(_, (ns, d))| (ns.clone(), d.clone())).collect()
        })
    }
}
