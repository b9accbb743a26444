//! Sorted lists that are published with every batch.
//!
//! All that is counted is published with every batch that moves the judgement, and of thousands of namespaces one
//! has moved then, of thousands of workloads one. So they lie on shelves, and what is published shares those on
//! which nothing has moved with what was published before: an event costs nearly the same in a cluster of a hundred
//! namespaces and of five thousand.

use super::tally::{NamespaceBlock, SubjectDetail, WorkloadDetail};
use std::cmp::Ordering;
use std::sync::Arc;

/// Something in a sorted list.
pub trait Sorted: Clone {
    /// What it is sorted by, and there once.
    type Key<'a>: Copy;

    /// How many lie on a shelf, at most.
    const SHELF: usize;

    /// Its own.
    fn key(&self) -> Self::Key<'_>;

    /// Its key beside another.
    fn order(&self, key: Self::Key<'_>) -> Ordering;
}

/// A sorted list. A clone is one moment of it, and cheap.
#[derive(Clone, Debug)]
pub struct Shelves<T>(
    /// None is empty.
    Vec<Arc<[T]>>,
);

/// What is counted of a namespace, with its name.
type Named = (Arc<str>, Arc<NamespaceBlock>);
/// What is counted of each namespace, by name: `""` first.
pub type Blocks = Shelves<Named>;
/// Some namespaces that follow each other, at least one.
pub type Shelf = Arc<[Named]>;

impl Sorted for Named {
    type Key<'a> = &'a str;

    const SHELF: usize = 64;

    fn key(&self) -> &str {
        &self.0
    }

    fn order(&self, key: &str) -> Ordering {
        self.key().cmp(key)
    }
}

impl Sorted for SubjectDetail {
    type Key<'a> = (usize, &'a str);

    const SHELF: usize = 32;

    fn key(&self) -> (usize, &str) {
        (self.kind, &self.name)
    }

    fn order(&self, key: (usize, &str)) -> Ordering {
        self.key().cmp(&key)
    }
}

impl Sorted for WorkloadDetail {
    type Key<'a> = (&'a str, &'a str);

    const SHELF: usize = 32;

    fn key(&self) -> (&str, &str) {
        (&self.kind, &self.name)
    }

    fn order(&self, key: (&str, &str)) -> Ordering {
        self.key().cmp(&key)
    }
}

impl<T> Default for Shelves<T> {
    fn default() -> Shelves<T> {
        Shelves(Vec::new())
    }
}

impl<T> Shelves<T> {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|shelf| shelf.iter())
    }

    /// The shelves, in order. One on which nothing has moved is the one that it was.
    pub fn shelves(&self) -> &[Arc<[T]>] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shelf| shelf.len()).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Sorted> Shelves<T> {
    /// The one with this key.
    pub fn find(&self, key: T::Key<'_>) -> Option<&T> {
        let (shelf, at) = place(&self.0, key);
        let at = at.ok()?;
        Some(&self.0[shelf][at])
    }

    /// The same, to be changed; its key stays.
    pub(super) fn find_mut(&mut self, key: T::Key<'_>) -> Option<&mut T> {
        let (shelf, at) = place(&self.0, key);
        let at = at.ok()?;
        Some(&mut Arc::make_mut(&mut self.0[shelf])[at])
    }

    /// Puts one in, for the one with its key if there is one.
    pub fn put(&mut self, item: T) {
        let (shelf, at) = place(&self.0, item.key());
        if self.0.is_empty() {
            self.0 = Vec::from([Arc::from([item])]);
            return;
        }
        let at = match at {
            Ok(at) => {
                Arc::make_mut(&mut self.0[shelf])[at] = item;
                return;
            }
            Err(at) => at,
        };
        let (before, behind) = self.0[shelf].split_at(at);
        let all: Vec<T> = [before, &[item], behind].concat();
        let half = match all.len() > T::SHELF {
            true => all.len() / 2,
            false => all.len(),
        };
        if half < all.len() {
            self.0.insert(shelf + 1, all[half..].into());
        }
        self.0[shelf] = all[..half].into();
    }

    /// Takes one out; was it there?
    pub fn remove(&mut self, key: T::Key<'_>) -> bool {
        let (shelf, at) = place(&self.0, key);
        let Ok(at) = at else {
            return false;
        };
        let on = &self.0[shelf];
        if on.len() == 1 {
            self.0.remove(shelf);
        } else {
            self.0[shelf] = [&on[..at], &on[at + 1..]].concat().into();
        }
        true
    }
}

/// The shelf of a key, and its place there or the place where it would be.
fn place<T: Sorted>(shelves: &[Arc<[T]>], key: T::Key<'_>) -> (usize, Result<usize, usize>) {
    let behind = shelves.partition_point(|shelf| shelf[0].order(key).is_le());
    let shelf = behind.saturating_sub(1);
    let on: &[T] = match shelves.get(shelf) {
        Some(shelf) => shelf,
        None => &[],
    };
    (shelf, on.binary_search_by(|item| item.order(key)))
}

impl Blocks {
    /// The block of a namespace.
    pub fn get(&self, name: &str) -> Option<&Arc<NamespaceBlock>> {
        self.find(name).map(|(_, block)| block)
    }
}

/// Of items with keys of their own, in any order.
impl<T: Sorted> FromIterator<T> for Shelves<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Shelves<T> {
        let mut all: Vec<T> = all.into_iter().collect();
        all.sort_by(|a, b| a.order(b.key()));
        Shelves(all.chunks(T::SHELF).map(Arc::from).collect())
    }
}

/// By what they hold: how it is spread over shelves tells of the past alone.
impl<T: Eq> PartialEq for Shelves<T> {
    fn eq(&self, other: &Shelves<T>) -> bool {
        let shelves = || self.0.iter().zip(&other.0);
        // nearly always they stand alike, and what differs is on one of them
        let alike = self.0.len() == other.0.len() && shelves().all(|(a, b)| a.len() == b.len());
        match alike {
            true => shelves().all(|(a, b)| Arc::ptr_eq(a, b) || a == b),
            false => self.len() == other.len() && self.iter().eq(other.iter()),
        }
    }
}

impl<T: Eq> Eq for Shelves<T> {}

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
                blocks.put((name.clone(), block(step)));
                map.insert(name, block(step));
            }
            assert_eq!(blocks.get(&format!("ns-{}", step & 255)).is_some(), {
                map.contains_key(&*format!("ns-{}", step & 255))
            });
        }
        assert!(blocks.iter().map(|(n, b)| (n, b)).eq(map.iter()));
        assert_eq!(blocks.len(), map.len());
        assert_eq!(blocks.is_empty(), map.is_empty());
        let most = Named::SHELF;
        let room = |shelf: &Arc<[_]>| (1..=most).contains(&shelf.len());
        assert!(blocks.0.iter().all(room));
        // on other shelves, and yet the same
        let mut anew: Blocks = map.iter().map(|(n, b)| (n.clone(), b.clone())).collect();
        assert_eq!(anew, blocks);
        let first = map.keys().next().expect("one is left").clone();
        anew.find_mut(&first).expect("it is there").1 = block(u32::MAX);
        assert_ne!(anew, blocks);
    }

    #[test]
    fn a_moment_shares_the_shelves_on_which_nothing_moved() {
        let names = (0..1000).map(|i| (Arc::from(format!("ns-{i:04}")), block(i)));
        let mut blocks: Blocks = names.collect();
        let before = blocks.clone();
        blocks.find_mut("ns-0500").expect("it is there").1 = block(0);
        let pairs = blocks.0.iter().zip(&before.0);
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!(before.get("ns-0500").map(|b| b.pods), Some(500));
    }
}
