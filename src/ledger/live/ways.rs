//! Which way each subject takes to its priority, the same in every replica and after every restart.
//!
//! [`super::settle`] remembers one support of each raised subject, and which of several it is depends on the
//! order of events. A path that people are shown must not. So the levels are spread once more over the same
//! edges and sets, in an order that names decide: [`fixpoint`](crate::ledger::graph::fixpoint) says the same
//! without them.

use super::{Live, SetKey};
use crate::ledger::Ledger;
use crate::ledger::graph::{Effective, keys_of};
use crate::ledger::names::Sym;
use crate::ledger::rows::{EdgeRow, SubjectKey, ToKey};
use crate::ledger::table::{Map, RowId};
use crate::risk::Priority;
use std::sync::Arc;

/// An edge that waits for a set, by the place of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    place: u32,
    edge: u32,
    /// Half of an edge that takes two: 0 for where it leads, 1 for the identity it needs beside.
    half: u8,
}

impl Live {
    /// The outcome for each subject, by its number. Kept until anything moves that it looks at: a subject's own
    /// priority, its edges, the sets it belongs to.
    pub(crate) fn ways(&self, ledger: &Ledger) -> &[Effective] {
        self.ways.get_or_init(|| Arc::new(self.ways_anew(ledger)))
    }

    fn ways_anew(&self, ledger: &Ledger) -> Vec<Effective> {
        let subjects = &ledger.subjects;
        let order = ledger.subjects_in_order();
        let mut out = vec![Effective::default(); subjects.bound()];
        let mut queues: [Vec<RowId>; 5] = Default::default();
        for (id, row) in order
            .ids
            .iter()
            .filter_map(|id| Some((*id, subjects.get(*id)?)))
        {
            out[id as usize].priority = row.own;
            if row.own > Priority::None {
                queues[row.own as usize].push(id);
            }
        }
        let mut levels: Map<SetKey, Priority> = Map::default();
        // the half of a two-part edge that is there already, and who is reached
        let mut halves: Map<(RowId, u32), (u8, RowId)> = Map::default();
        for level in (Priority::Low as usize..=Priority::Critical as usize).rev() {
            let priority = Priority::ALL[level];
            let mut next = 0;
            while next < queues[level].len() {
                let id = queues[level][next];
                next += 1;
                if out[id as usize].priority != priority {
                    continue; // it rose past this level since
                }
                for waiting in self.risen(ledger, &order.places, id, priority, &mut levels) {
                    let subject = order.ids[waiting.place as usize];
                    let row = subjects.get(subject).filter(|_| subject != id);
                    let edge = row.and_then(|row| row.edges.get(waiting.edge as usize));
                    let Some(edge) = edge else {
                        continue;
                    };
                    let reached = match edge.gate {
                        None => id,
                        Some(_) => {
                            let here = (waiting.half, id);
                            let first = halves.entry((subject, waiting.edge)).or_insert(here);
                            match (*first, waiting.half) {
                                ((0, reached), 1) => reached,
                                ((1, _), 0) => id,
                                _ => continue,
                            }
                        }
                    };
                    let to = priority.min(edge.cap);
                    let target = &mut out[subject as usize];
                    if to > target.priority {
                        *target = Effective {
                            priority: to,
                            support: Some((waiting.edge, reached)),
                        };
                        queues[to as usize].push(subject);
                    }
                }
            }
        }
        out
    }

    /// Who waits for the sets that rise to `priority` by this member: those that its key leads to first, then
    /// the listed ones by who waits first.
    fn risen(
        &self,
        ledger: &Ledger,
        places: &[u32],
        id: RowId,
        priority: Priority,
        levels: &mut Map<SetKey, Priority>,
    ) -> Vec<Waiting> {
        let Some(row) = ledger.subjects.get(id) else {
            return Vec::new();
        };
        let mut rises = |key: &SetKey| {
            let waiting = self.waiting.get(key)?;
            let level = levels.entry(*key).or_default();
            if *level >= priority {
                return None;
            }
            *level = priority;
            let mut out: Vec<Waiting> = Vec::with_capacity(waiting.len());
            for wait in waiting {
                let row = ledger.subjects.get(wait.subject);
                let Some(edge) = row.and_then(|row| row.edges.get(wait.edge as usize)) else {
                    continue;
                };
                out.extend(halves_in(edge, key.to).map(|half| Waiting {
                    place: places[wait.subject as usize],
                    edge: wait.edge,
                    half,
                }));
            }
            out.sort_unstable();
            out.dedup(); // an edge that waits for the same set with both halves is there twice
            Some(out)
        };
        let mut out = Vec::new();
        let mut each = |to| {
            let risen = rises(&SetKey { to, source: None });
            out.extend(risen.into_iter().flatten());
        };
        let lends = |(ns, name)| {
            let awaited = [ns, Sym::STAR].map(|scope| SetKey {
                to: ToKey::PodTokens(scope),
                source: None,
            });
            awaited.iter().any(|key| self.waiting.contains_key(key)) && ledger.lends_token(ns, name)
        };
        keys_of(row.key, row.exists, lends, &mut each);
        let listed = self.member_of.get(&id).into_iter().flatten();
        let mut listed: Vec<Vec<Waiting>> = listed.filter_map(&mut rises).collect();
        listed.sort_unstable();
        out.extend(listed.into_iter().flatten());
        out
    }
}

/// The halves with which an edge waits for a set; 0 where it takes but one.
fn halves_in(edge: &EdgeRow, to: ToKey) -> impl Iterator<Item = u8> {
    let first = (edge.to == to).then_some(0);
    let second = (edge.gate == Some(to)).then_some(1);
    first.into_iter().chain(second)
}

/// Subjects by kind, namespace and name.
#[derive(Debug, Default)]
pub(crate) struct InOrder {
    /// All of them.
    pub(crate) ids: Vec<RowId>,
    /// The place of each among them, by its number.
    pub(crate) places: Vec<u32>,
}

impl Ledger {
    /// Subjects in the order in which they take their ways: groups, accounts by namespace, users, each by name.
    fn subjects_in_order(&self) -> Arc<InOrder> {
        self.subjects.in_order(|subjects| {
            let namespaces = self.places(subjects.namespaces());
            let place = |key: SubjectKey| crate::ledger::subjects::place_of(key, &namespaces);
            let mut rows: Vec<(u32, SubjectKey, RowId)> = subjects
                .iter()
                .map(|(id, row)| (place(row.key), row.key, id))
                .collect();
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.order(a.1, b.1)));
            let ids: Vec<RowId> = rows.into_iter().map(|(.., id)| id).collect();
            let mut places = vec![0; subjects.bound()];
            for (place, id) in (0..).zip(&ids) {
                places[*id as usize] = place;
            }
            InOrder { ids, places }
        })
    }
}
