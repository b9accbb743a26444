//! The subjects: who there is, what each holds, and its judgement.

use super::live::InOrder;
use super::names::Sym;
use super::piece::Chunks;
use super::rows::{SubjectKey, SubjectRow};
use super::table::{Map, RowId, looked_at};
use std::sync::{Arc, OnceLock};

/// Subjects by key and by namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subjects {
    rows: Chunks<Option<SubjectRow>>,
    free: Vec<RowId>,
    index: Map<SubjectKey, RowId>,
    by_namespace: Map<Sym, Vec<RowId>>,
    /// Kept while nobody comes or goes.
    order: OnceLock<Arc<InOrder>>,
}

/// The namespace a subject is counted in.
pub(crate) fn namespace_of(key: SubjectKey) -> Sym {
    match key {
        SubjectKey::Account(namespace, _) => namespace,
        SubjectKey::Group(_) | SubjectKey::User(_) => Sym::EMPTY,
    }
}

/// Places of namespaces by their names.
pub(crate) type Places = Map<Sym, u32>;

/// The place of a subject by kind and namespace; among those of one place names decide. Users lie in no
/// namespace, as groups do, and come last.
pub(crate) fn place_of(key: SubjectKey, places: &Places) -> u32 {
    match key {
        SubjectKey::User(_) => u32::MAX,
        key => places[&namespace_of(key)],
    }
}

impl Subjects {
    pub(crate) fn find(&self, key: SubjectKey) -> Option<RowId> {
        self.index.get(&key).copied()
    }

    pub(crate) fn get(&self, id: RowId) -> Option<&SubjectRow> {
        looked_at();
        self.rows.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: RowId) -> Option<&mut SubjectRow> {
        self.rows.get_mut(id as usize)?.as_mut()
    }

    /// The subject of a key, made if it is new.
    pub(crate) fn ensure(&mut self, key: SubjectKey) -> (RowId, bool) {
        if let Some(id) = self.find(key) {
            return (id, false);
        }
        self.order.take();
        let row = Some(SubjectRow::new(key));
        let id = match self.free.pop() {
            Some(id) => {
                self.rows[id as usize] = row;
                id
            }
            None => {
                self.rows.push(row);
                self.rows.len() as RowId - 1
            }
        };
        self.index.insert(key, id);
        self.by_namespace
            .entry(namespace_of(key))
            .or_default()
            .push(id);
        (id, true)
    }

    pub(crate) fn remove(&mut self, id: RowId) {
        let Some(row) = self.rows.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        self.order.take();
        self.index.remove(&row.key);
        self.free.push(id);
        let namespace = namespace_of(row.key);
        if let Some(list) = self.by_namespace.get_mut(&namespace) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RowId, &SubjectRow)> {
        self.iter_from(0)
    }

    /// Rows from an id on.
    pub(crate) fn iter_from(&self, first: RowId) -> impl Iterator<Item = (RowId, &SubjectRow)> {
        let rows = (first..).zip(self.rows.iter_from(first as usize));
        rows.filter_map(|(id, r)| r.as_ref().map(|r| (id, r)))
    }

    pub(crate) fn in_namespace(
        &self,
        namespace: Sym,
    ) -> impl Iterator<Item = (RowId, &SubjectRow)> {
        self.by_namespace
            .get(&namespace)
            .into_iter()
            .flatten()
            .filter_map(|id| self.get(*id).map(|r| (*id, r)))
    }

    /// The order of all subjects, sorted anew by `sort` where somebody came or went.
    pub(crate) fn in_order(&self, sort: impl FnOnce(&Subjects) -> InOrder) -> Arc<InOrder> {
        self.order.get_or_init(|| Arc::new(sort(self))).clone()
    }

    /// Namespaces that have subjects, in no order.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = Sym> {
        self.by_namespace.keys().copied()
    }

    /// One more than the highest number in use.
    pub(crate) fn bound(&self) -> usize {
        self.rows.len()
    }
}
