//! What is counted of each namespace, by name.
//!
//! All of it is published with every batch that moves the judgement, and of thousands of namespaces one has
//! moved then. So it lies on shelves, and what is published shares those on which nothing has moved with what
//! was published before: an event costs the same in a cluster of a hundred namespaces and of five thousand.

use super::tally::NamespaceBlock;
use std::sync::Arc;

/// Namespaces on a shelf, at most.
const SHELF: usize = 64;

/// Some namespaces that follow each other, at least one.
pub type Shelf = Vec<(Arc<str>, Arc<NamespaceBlock>)>;

/// Blocks by namespace, in the order of the names: `""` first. A clone is one moment of them, and cheap.
#[derive(Clone, Debug, Default)]
pub struct Blocks(
    /// None is empty.
    Vec<Arc<Shelf>>,
);

impl Blocks {
    /// Names and blocks, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<NamespaceBlock>)> {
        let all = self.0.iter().flat_map(|shelf| shelf.iter());
        all.map(|(name, block)| (name, block))
    }

    /// The shelves, in the order of the names. One on which nothing has moved is the one that it was.
    pub fn shelves(&self) -> &[Arc<Shelf>] {
        &self.0
    }

    /// How many namespaces.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shelf| shelf.len()).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The block of a namespace.
    pub fn get(&self, name: &str) -> Option<&Arc<NamespaceBlock>> {
        let (shelf, at) = self.place(name);
        let at = at.ok()?;
        Some(&self.0[shelf][at].1)
    }

    /// The same, to be replaced.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Arc<NamespaceBlock>> {
        let (shelf, at) = self.place(name);
        let at = at.ok()?;
        Some(&mut Arc::make_mut(&mut self.0[shelf])[at].1)
    }

    /// Sets the block of a namespace.
    pub fn insert(&mut self, name: Arc<str>, block: Arc<NamespaceBlock>) {
        let (shelf, at) = self.place(&name);
        if self.0.is_empty() {
            self.0.push(Arc::default());
        }
        let on = Arc::make_mut(&mut self.0[shelf]);
        match at {
            Ok(at) => on[at].1 = block,
            Err(at) => on.insert(at, (name, block)),
        }
        if on.len() > SHELF {
            let rest = on.split_off(on.len() / 2);
            self.0.insert(shelf + 1, Arc::new(rest));
        }
    }

    /// Takes a namespace out; was it there?
    pub fn remove(&mut self, name: &str) -> bool {
        let (shelf, at) = self.place(name);
        let Ok(at) = at else {
            return false;
        };
        let on = Arc::make_mut(&mut self.0[shelf]);
        on.remove(at);
        if on.is_empty() {
            self.0.remove(shelf);
        }
        true
    }

    /// The shelf of a name, and its place there or the place where it would be.
    fn place(&self, name: &str) -> (usize, Result<usize, usize>) {
        let behind = self.0.partition_point(|shelf| *shelf[0].0 <= *name);
        let shelf = behind.saturating_sub(1);
        let on = self.0.get(shelf).map_or(&[][..], |shelf| shelf);
        (shelf, on.binary_search_by(|(known, _)| (**known).cmp(name)))
    }
}

impl FromIterator<(Arc<str>, Arc<NamespaceBlock>)> for Blocks {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<NamespaceBlock>)>>(all: I) -> Blocks {
        let mut blocks = Blocks::default();
        for (name, block) in all {
            blocks.insert(name, block);
        }
        blocks
    }
}

/// By what they hold: how it is spread over shelves tells of the past alone.
impl PartialEq for Blocks {
    fn eq(&self, other: &Blocks) -> bool {
        let shelves = || self.0.iter().zip(&other.0);
        // nearly always they stand alike, and what differs is on one of them
        let alike = self.0.len() == other.0.len() && shelves().all(|(a, b)| a.len() == b.len());
        match alike {
            true => shelves().all(|(a, b)| Arc::ptr_eq(a, b) || a == b),
            false => self.len() == other.len() && self.iter().eq(other.iter()),
        }
    }
}

impl Eq for Blocks {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn block(pods: u32) -> Arc<NamespaceBlock> {
        Arc::new(NamespaceBlock {
            pods,
            ..NamespaceBlock::default()
        })
    }

    #[test]
    fn they_are_what_a_map_would_be() {
        let mut blocks = Blocks::default();
        let mut map = BTreeMap::new();
        let mut state = 7_u32;
        for step in 0..4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = format!("ns-{}", state >> 16 & 255);
            // more come than go at first, and more go than come in the end
            if state >> 8 & 7 < 2 + 4 * (step / 2000) {
                assert_eq!(blocks.remove(&name), map.remove(&*name).is_some());
            } else {
                let name: Arc<str> = name.into();
                blocks.insert(name.clone(), block(step));
                map.insert(name, block(step));
            }
            assert_eq!(blocks.get(&format!("ns-{}", step & 255)).is_some(), {
                map.contains_key(&*format!("ns-{}", step & 255))
            });
        }
        assert!(blocks.iter().eq(map.iter()));
        assert_eq!(blocks.len(), map.len());
        assert_eq!(blocks.is_empty(), map.is_empty());
        assert!(
            blocks
                .0
                .iter()
                .all(|shelf| (1..=SHELF).contains(&shelf.len()))
        );
        // on other shelves, and yet the same
        let mut anew: Blocks = map.iter().map(|(n, b)| (n.clone(), b.clone())).collect();
        assert_eq!(anew, blocks);
        let first = map.keys().next().expect("one is left").clone();
        *anew.get_mut(&first).expect("it is there") = block(u32::MAX);
        assert_ne!(anew, blocks);
    }

    #[test]
    fn a_moment_shares_the_shelves_on_which_nothing_moved() {
        let names = (0..1000).map(|i| (Arc::from(format!("ns-{i:04}")), block(i)));
        let mut blocks: Blocks = names.collect();
        let before = blocks.clone();
        *blocks.get_mut("ns-0500").expect("it is there") = block(0);
        let pairs = blocks.0.iter().zip(&before.0);
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!(before.get("ns-0500").map(|b| b.pods), Some(500));
    }
}
