//! What is counted in subjects, kept up and down: one that is stirred is taken out of its namespace as it was
//! counted last, and counted in again when the batch is settled. Users and groups lie in one namespace, all of
//! them, and there may be thousands.
//!
//! [`Ledger::count`] counts the same from scratch; tests and the self-check hold one against the other.

use super::names::Sym;
use super::rows::{SubjectKey, SubjectRow};
use super::shelves::Sorted;
use super::subjects::namespace_of;
use super::table::{Map, RowId};
use super::tally::{ByLevel, NamespaceBlock, SubjectDetail};
use super::{Dirty, Ledger, grants};
use crate::risk::{Priority, Status};

/// A subject as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountedSubject {
    level: (Priority, Status),
    /// It is an account that no live pod uses.
    idle: bool,
    /// It has a series of its own.
    detail: bool,
}

/// What is to be counted in, and what was taken out since the last batch.
#[derive(Clone, Debug, Default)]
pub(super) struct MovedSubjects {
    stirred: Dirty<RowId>,
    gone: Vec<(SubjectKey, CountedSubject)>,
}

impl MovedSubjects {
    pub(super) fn is_empty(&self) -> bool {
        self.stirred.is_empty() && self.gone.is_empty()
    }
}

/// What has moved in a namespace.
#[derive(Debug, Default)]
pub(super) struct MovedHere {
    /// As they were counted, and as they are; nothing for one that is gone or new.
    moved: Vec<(SubjectKey, Option<CountedSubject>, Option<CountedSubject>)>,
    details: Vec<SubjectDetail>,
}

/// Index of a kind.
fn kind_index(key: SubjectKey) -> usize {
    match key {
        SubjectKey::Group(_) => 0,
        SubjectKey::Account(..) => 1,
        SubjectKey::User(_) => 2,
    }
}

fn name_of(key: SubjectKey) -> Sym {
    match key {
        SubjectKey::Group(name) | SubjectKey::User(name) | SubjectKey::Account(_, name) => name,
    }
}

impl CountedSubject {
    fn count(self, key: SubjectKey, up: bool, block: &mut NamespaceBlock) {
        let kind = kind_index(key);
        let (priority, status) = self.level;
        let at = |levels: &mut ByLevel| {
            grants::step(&mut levels[priority as usize][status as usize], up);
        };
        grants::step(&mut block.subjects[kind], up);
        at(&mut block.risky_subjects[kind]);
        if self.idle {
            at(&mut block.idle_accounts);
        }
    }
}

impl Ledger {
    /// What a subject adds may differ.
    pub(super) fn subject_stirred(&mut self, id: RowId) {
        // before anything has been counted, all of it is to be
        if !self.blocks.is_empty() {
            self.dirty.counted_subjects.stirred.insert(id);
        }
    }

    /// A subject goes.
    pub(super) fn subject_out(&mut self, id: RowId) {
        self.dirty.counted_subjects.stirred.remove(&id);
        let Some(key) = self.subjects.get(id).map(|row| row.key) else {
            return;
        };
        if let Some(counted) = grants::take(&mut self.counted.subjects, id) {
            self.dirty.counted_subjects.gone.push((key, counted));
        }
    }

    /// Counts in what was stirred; returns what has moved by namespace.
    pub(super) fn count_stirred_subjects(&mut self) -> Map<Sym, MovedHere> {
        let moved = std::mem::take(&mut self.dirty.counted_subjects);
        let mut out: Map<Sym, MovedHere> = Map::default();
        for (key, before) in moved.gone {
            let here = out.entry(namespace_of(key)).or_default();
            here.moved.push((key, Some(before), None));
        }
        for id in moved.stirred {
            let rests = self.subjects.get(id).is_some_and(|row| row.rests);
            let Some((key, now)) = self.subject_adds(id, rests) else {
                continue;
            };
            let here = out.entry(namespace_of(key)).or_default();
            let before = grants::take(&mut self.counted.subjects, id);
            here.moved.push((key, before, Some(now)));
            if now.detail {
                here.details.extend(self.subject_detail(id));
            }
            grants::put(&mut self.counted.subjects, id, now);
        }
        out
    }

    /// What is counted in the subjects of a namespace, from scratch; `rests` tells who owes what it is in detail to
    /// groups alone. Returns what each adds.
    pub(super) fn count_subjects(
        &self,
        namespace: Sym,
        rests: impl Fn(RowId, &SubjectRow) -> bool,
        block: &mut NamespaceBlock,
    ) -> Vec<(RowId, CountedSubject)> {
        let mut here = MovedHere::default();
        let mut counted = Vec::new();
        for (id, row) in self.subjects.in_namespace(namespace) {
            let Some((key, now)) = self.subject_adds(id, rests(id, row)) else {
                continue;
            };
            here.moved.push((key, None, Some(now)));
            let detail = now.detail.then(|| self.subject_detail(id));
            here.details.extend(detail.flatten());
            counted.push((id, now));
        }
        here.add_to(self, block);
        counted
    }

    /// What a subject adds; it `rests` on groups when it owes them all that it is in detail.
    fn subject_adds(&self, id: RowId, rests: bool) -> Option<(SubjectKey, CountedSubject)> {
        let row = self.subjects.get(id)?;
        let idle = match row.key {
            SubjectKey::Account(namespace, name) => {
                row.effective > Priority::None && !self.is_used(namespace, name)
            }
            SubjectKey::Group(_) | SubjectKey::User(_) => false,
        };
        let detail = self.policy.detail.contains(&row.effective) && row.since > 0 && !rests;
        let level = (row.effective, row.status);
        let adds = CountedSubject {
            level,
            idle,
            detail,
        };
        Some((row.key, adds))
    }

    fn subject_detail(&self, id: RowId) -> Option<SubjectDetail> {
        let row = self.subjects.get(id)?;
        Some(SubjectDetail {
            kind: kind_index(row.key),
            name: self.names.shared(name_of(row.key)),
            priority: row.effective,
            status: row.status,
            since: row.since,
        })
    }
}

impl MovedHere {
    /// Moves the counts of a namespace.
    pub(super) fn add_to(self, ledger: &Ledger, block: &mut NamespaceBlock) {
        let mut gone: Dirty<(usize, &str)> = Dirty::default();
        for (key, before, now) in self.moved {
            for (counted, up) in [(before, false), (now, true)] {
                if let Some(counted) = counted {
                    counted.count(key, up, block);
                }
            }
            if before.is_some_and(|before| before.detail) {
                gone.insert((kind_index(key), ledger.names.text(name_of(key))));
            }
        }
        for detail in &self.details {
            gone.remove(&detail.key());
            if block.subject_details.find(detail.key()) != Some(detail) {
                block.subject_details.put(detail.clone());
            }
        }
        for key in gone {
            block.subject_details.remove(key);
        }
    }
}
