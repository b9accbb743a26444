//! Rows by namespace and name, with mark-and-sweep for relists.
//!
//! A relist takes the marks off its part of the table, every row that is named gets one, and the end of the list
//! sweeps the others. So there is never a second copy, and never a moment in which rows are missing. Marks lie
//! apart from the rows: what a relist finds as it was is not touched, and not copied for whoever holds a moment.

use super::names::Sym;
use super::piece::{Chunks, Piece};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

#[cfg(test)]
thread_local! {
    /// Rows looked at so far in this thread, for tests of what events cost.
    pub(super) static LOOKED_AT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A row is looked at.
#[inline]
pub(super) fn looked_at() {
    #[cfg(test)]
    LOOKED_AT.with(|n| n.set(n.get() + 1));
}

type Hasher = foldhash::fast::RandomState;
pub(crate) type Map<K, V> = HashMap<K, V, Hasher>;

/// Makes room in a list that only grows, for an eighth more: a Vec doubles, and at 150,000 pods half of that is
/// megabytes that nothing fills. Blocks of that size are moved by the page, not copied.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 16);
    }
}

/// Number of a row; given out again after the row is gone.
pub(crate) type RowId = u32;

/// Rows of cluster-scoped objects (namespace empty) and of namespaced ones relist separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Cluster = 0,
    Namespaced = 1,
}

#[derive(Clone, Debug)]
struct Slot<R, N> {
    namespace: Sym,
    name: N,
    row: R,
}

/// Rows of type `R`, whose names are kept as `N`.
#[derive(Clone, Debug)]
pub(crate) struct Table<R, N = Sym> {
    slots: Chunks<Option<Slot<R, N>>>,
    free: Vec<RowId>,
    /// Rows by name; the name is in the row.
    by_namespace: Map<Sym, Piece<HashTable<RowId>>>,
    hasher: Hasher,
    /// A bit a row: the running or last relist has named it.
    named: Vec<u64>,
    len: [usize; 2],
}

impl<R, N> Default for Table<R, N> {
    fn default() -> Self {
        Table {
            slots: Chunks::default(),
            free: Vec::new(),
            by_namespace: Map::default(),
            hasher: Hasher::default(),
            named: Vec::new(),
            len: [0; 2],
        }
    }
}

fn part(namespace: Sym) -> usize {
    usize::from(namespace != Sym::EMPTY)
}

impl<R: Clone, N: Copy + Hash + Eq> Table<R, N> {
    fn slot(&self, id: RowId) -> &Slot<R, N> {
        looked_at();
        let slot = self.slots[id as usize].as_ref();
        slot.expect("whoever has a number has a live row's")
    }

    pub(crate) fn find(&self, namespace: Sym, name: N) -> Option<RowId> {
        let here = self.by_namespace.get(&namespace)?;
        let hash = self.hasher.hash_one(name);
        here.find(hash, |id| self.slot(*id).name == name).copied()
    }

    pub(crate) fn get(&self, id: RowId) -> Option<&R> {
        looked_at();
        self.slots.get(id as usize)?.as_ref().map(|s| &s.row)
    }

    pub(crate) fn get_mut(&mut self, id: RowId) -> Option<&mut R> {
        self.slots
            .get_mut(id as usize)?
            .as_mut()
            .map(|s| &mut s.row)
    }

    /// Namespace and name of a row that exists.
    pub(crate) fn key(&self, id: RowId) -> (Sym, N) {
        let slot = self.slot(id);
        (slot.namespace, slot.name)
    }

    /// Puts a row, named in the running relist if there is one; returns its number and what it replaced.
    pub(crate) fn put(&mut self, namespace: Sym, name: N, row: R) -> (RowId, Option<R>) {
        if let Some(id) = self.find(namespace, name) {
            self.mark(id, true);
            let slot = self.slots[id as usize]
                .as_mut()
                .expect("the index names live rows");
            return (id, Some(std::mem::replace(&mut slot.row, row)));
        }
        let slot = Some(Slot {
            namespace,
            name,
            row,
        });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as RowId - 1
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = |id: &RowId| {
            let slot = slots[*id as usize].as_ref();
            hasher.hash_one(slot.expect("the index names live rows").name)
        };
        let here = self.by_namespace.entry(namespace).or_default();
        here.insert_unique(hasher.hash_one(name), id, hash);
        self.len[part(namespace)] += 1;
        self.mark(id, true);
        (id, None)
    }

    pub(crate) fn remove(&mut self, namespace: Sym, name: N) -> Option<(RowId, R)> {
        let id = self.find(namespace, name)?;
        let here = self.by_namespace.get_mut(&namespace)?;
        let found = here.find_entry(self.hasher.hash_one(name), |other| *other == id);
        found.ok()?.remove();
        if here.is_empty() {
            self.by_namespace.remove(&namespace);
        }
        let slot = self.slots[id as usize].take()?;
        self.free.push(id);
        self.len[part(namespace)] -= 1;
        Some((id, slot.row))
    }

    /// A relist begins.
    pub(crate) fn begin(&mut self, of: Part) {
        for id in 0..self.slots.len() as RowId {
            let slot = self.slots[id as usize].as_ref();
            if slot.is_some_and(|s| part(s.namespace) == of as usize) {
                self.mark(id, false);
            }
        }
    }

    fn mark(&mut self, id: RowId, named: bool) {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if self.named.len() <= word {
            self.named.resize(word + 1, 0);
        }
        if named {
            self.named[word] |= bit;
        } else {
            self.named[word] &= !bit;
        }
    }

    fn is_named(&self, id: RowId) -> bool {
        self.named[id as usize / 64] & (1 << (id % 64)) != 0
    }

    /// The running relist names this row.
    pub(crate) fn touch(&mut self, namespace: Sym, name: N) {
        if let Some(id) = self.find(namespace, name) {
            self.mark(id, true);
        }
    }

    /// The relist is complete: the keys it did not name.
    pub(crate) fn unnamed(&self, of: Part) -> Vec<(Sym, N)> {
        self.iter()
            .filter(|(id, ns, ..)| part(*ns) == of as usize && !self.is_named(*id))
            .map(|(_, ns, name, _)| (ns, name))
            .collect()
    }

    pub(crate) fn len(&self, of: Part) -> usize {
        self.len[of as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RowId, Sym, N, &R)> {
        self.iter_from(0)
    }

    /// Rows from an id on.
    pub(crate) fn iter_from(&self, first: RowId) -> impl Iterator<Item = (RowId, Sym, N, &R)> {
        let slots = (first..).zip(self.slots.iter_from(first as usize));
        slots.filter_map(|(id, s)| s.as_ref().map(|s| (id, s.namespace, s.name, &s.row)))
    }

    /// Rows of one namespace, in no order.
    pub(crate) fn in_namespace(&self, namespace: Sym) -> impl Iterator<Item = (RowId, N, &R)> {
        self.by_namespace
            .get(&namespace)
            .into_iter()
            .flat_map(|here| here.iter())
            .map(|id| {
                let slot = self.slot(*id);
                (*id, slot.name, &slot.row)
            })
    }

    /// Namespaces that have rows, in no order.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = Sym> {
        self.by_namespace.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;

    #[test]
    fn a_relist_sweeps_what_it_did_not_name_and_only_its_part() {
        let mut names = Names::default();
        let (ns, a, b) = (names.intern("ns"), names.intern("a"), names.intern("b"));
        let mut t = Table::default();
        t.put(ns, a, 1);
        t.put(ns, b, 2);
        t.put(Sym::EMPTY, a, 3);
        t.begin(Part::Namespaced);
        assert_eq!(t.put(ns, a, 4), (0, Some(1)));
        assert_eq!(t.unnamed(Part::Namespaced), [(ns, b)]);
        t.touch(ns, b);
        assert!(t.unnamed(Part::Namespaced).is_empty());
        assert!(t.unnamed(Part::Cluster).is_empty());
        assert_eq!(t.remove(ns, b).map(|(_, r)| r), Some(2));
        assert_eq!(t.remove(ns, b).map(|(_, r)| r), None);
        assert_eq!((t.len(Part::Namespaced), t.len(Part::Cluster)), (1, 1));
        let (id, _) = t.put(ns, b, 5);
        assert_eq!(id, 1, "the slot is used again");
        assert_eq!(t.in_namespace(ns).count(), 2);
    }
}
