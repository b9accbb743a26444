//! What to remove, so that a subject falls below its priority.
//!
//! Every set that brings it down takes something out of every proof ([`super::proof`]). So proofs with
//! nothing in common tell how few could be enough, and whoever looks for a set of some size need only
//! try the entries of one proof, then those of a proof that is left, and so on. Where that finds
//! nothing smaller, the subject's own entries are what is proposed: they are the owner's to remove, and
//! nobody else loses by it.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::rows::SubjectKey;
use super::super::table::RowId;
use super::proof::{Entry, Less, MANY};
use super::{Asked, Grant};
use crate::object::{Origin, Spelling, Subject};
use crate::risk::Priority;
use std::collections::{BTreeSet, HashSet};

/// Up to this many entries to choose from, the smallest set is found for certain.
const EXACT_CUT: usize = 12;

/// Sets tried where there are no more entries than [`EXACT_CUT`]: all there can be.
const ALL_SETS: usize = 1 << EXACT_CUT;

/// Sets tried where there are more. One entry that does for several, further along the path, is found
/// well within.
const SOME_SETS: usize = 64;

/// An entry of a binding to remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutEntry {
    /// The binding and its role.
    pub grant: Grant,
    /// Whom it names.
    pub subject: Subject,
    /// In which form.
    pub spelling: Spelling,
    /// Its place in `subjects`, from 0.
    pub index: u32,
    /// Entries of that binding.
    pub entries: u32,
    /// Where the binding stands.
    pub origin: Option<Origin>,
}

/// What brings a subject below its priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The entries to remove, by binding; empty when nothing that RBAC holds makes it what it is.
    pub entries: Vec<CutEntry>,
    /// No smaller set does. With many entries to choose from that is not always known.
    pub exact: bool,
}

impl Cut {
    /// Nothing need be removed.
    pub(super) const NOTHING: Cut = Cut {
        entries: Vec::new(),
        exact: true,
    };
}

/// A search for the smallest set.
struct Search<'a> {
    less: Less<'a>,
    id: RowId,
    key: SubjectKey,
    /// Entries of the subject itself, which are tried first.
    own: HashSet<Entry>,
    /// Those of them each of which is enough alone, when they are [`MANY`], by their names; and the proof by
    /// it while nothing is gone, which stands for as long as nothing of it is.
    alone: Vec<(Entry, Vec<Entry>)>,
    /// Those of them by which there is no proof with what is gone: with more gone, there is none either.
    spent: Vec<Entry>,
    /// Entries of its own that are enough, where they are [`MANY`].
    enough: Option<BTreeSet<Entry>>,
    /// See [`Less::joined`]; where they are [`MANY`].
    joined: Option<HashSet<Sym>>,
    /// Sets that were tried without success.
    tried: HashSet<BTreeSet<Entry>>,
    /// Entries that some proof takes.
    candidates: HashSet<Entry>,
    /// There were too many to try.
    gave_up: bool,
}

impl Search<'_> {
    fn proof(&mut self, removed: &BTreeSet<Entry>) -> Option<Vec<Entry>> {
        let less = self.less.with(removed.clone());
        let (id, spent) = (self.id, &mut self.spent);
        let mut alone = self.alone.iter().filter(|(e, _)| !removed.contains(e));
        let by_one = alone.find_map(|(e, proof)| {
            if proof.iter().all(|e| !removed.contains(e)) {
                return Some(proof.clone());
            }
            if spent.contains(e) {
                return None;
            }
            let found = less.proof_by(id, *e);
            if found.is_none() {
                spent.push(*e);
            }
            found
        });
        let whole = || {
            let Some(joined) = &self.joined else {
                return less.proof(id);
            };
            let enough = self.enough.as_ref();
            if enough.is_some_and(|enough| less.surely_none(id, self.key, enough, joined)) {
                return None;
            }
            less.proof_by_several(id, self.key, joined)
        };
        let proof = by_one.or_else(whole)?;
        self.candidates.extend(proof.iter().copied());
        Some(proof)
    }

    /// A set of the subject's own entries that is enough, and of which none is too much; `None` when no
    /// such set is enough.
    fn of_its_own(&mut self, forced: &BTreeSet<Entry>) -> Option<BTreeSet<Entry>> {
        // none of these can stay where only its own entries are taken
        let mut set: BTreeSet<Entry> = self.alone.iter().map(|(e, _)| *e).collect();
        set.extend(forced);
        self.spent.clear();
        while let Some(proof) = self.proof(&set) {
            set.insert(*proof.iter().find(|e| self.own.contains(*e))?);
        }
        self.enough = (self.own.len() > MANY).then(|| set.clone());
        for entry in self.less.in_order(&set) {
            let alone = || self.alone.iter().any(|(e, _)| *e == entry);
            if set.len() == 1 || forced.contains(&entry) || alone() {
                continue;
            }
            let mut rest = set.clone();
            rest.remove(&entry);
            if !self.less.with(rest.clone()).holds(self.id) {
                set = rest;
            }
        }
        Some(set)
    }

    /// No set with fewer entries can be enough.
    fn at_least(&mut self, forced: &BTreeSet<Entry>, no_more_than: usize) -> usize {
        self.spent.clear();
        let mut gone = forced.clone();
        let mut proofs = forced.len();
        while proofs < no_more_than
            && let Some(proof) = self.proof(&gone)
        {
            proofs += 1;
            gone.extend(proof);
        }
        proofs
    }

    /// A set with so many more entries that is enough.
    fn smaller(
        &mut self,
        removed: &BTreeSet<Entry>,
        more: usize,
        own_alone: bool,
    ) -> Option<BTreeSet<Entry>> {
        let spent = self.spent.len();
        let found = self.smaller_from(removed, more, own_alone);
        self.spent.truncate(spent);
        found
    }

    fn smaller_from(
        &mut self,
        removed: &BTreeSet<Entry>,
        more: usize,
        own_alone: bool,
    ) -> Option<BTreeSet<Entry>> {
        let Some(proof) = self.proof(removed) else {
            return Some(removed.clone());
        };
        let most = if self.candidates.len() > EXACT_CUT {
            SOME_SETS
        } else {
            ALL_SETS
        };
        if self.tried.len() > most {
            self.gave_up = true;
        }
        if more == 0 || self.gave_up {
            return None;
        }
        for entry in proof {
            if own_alone && !self.own.contains(&entry) {
                continue;
            }
            let mut next = removed.clone();
            next.insert(entry);
            if !self.tried.insert(next.clone()) {
                continue;
            }
            let found = self.smaller(&next, more - 1, own_alone);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

impl Ledger {
    /// The smallest set of entries whose removal brings the subject below its priority; of several as
    /// small as each other, one of its own entries.
    pub(super) fn cut(&self, id: RowId, asked: &Asked) -> Cut {
        let Some(row) = self.subjects.get(id) else {
            return Cut::NOTHING;
        };
        if row.effective == Priority::None {
            return Cut::NOTHING;
        }
        let less = Less::nothing(self, asked, row.effective);
        let forced = if row.own >= row.effective {
            less.enough_alone(row.key)
        } else {
            BTreeSet::new()
        };
        let own = asked.entries(self, row.key);
        let proof_by = |e: &Entry| Some((*e, less.proof_by(id, *e)?));
        let alone = match own.len() {
            ..=MANY => Vec::new(),
            _ => own.iter().filter_map(proof_by).collect(),
        };
        // these are gone in every set that is tried
        let mut left = own.clone();
        left.retain(|e| !forced.contains(e));
        let joined = match own.len() {
            ..=MANY => None,
            _ => less.joined(row.key, &left),
        };
        let mut search = Search {
            id,
            key: row.key,
            enough: None,
            joined,
            own: own.into_iter().collect(),
            alone,
            spent: Vec::new(),
            tried: HashSet::new(),
            candidates: forced.iter().copied().collect(),
            gave_up: false,
            less,
        };
        let Some(mut best) = search.of_its_own(&forced) else {
            return Cut::NOTHING;
        };
        // one is needed in any case
        let least = match best.len() {
            one @ ..=1 => one,
            more => search.at_least(&forced, more),
        };
        'sizes: for size in least..best.len() {
            for own_alone in [true, false] {
                search.tried.clear();
                search.spent.clear();
                let more = size - forced.len();
                if let Some(found) = search.smaller(&forced, more, own_alone) {
                    best = found;
                    break 'sizes;
                }
            }
            if search.gave_up {
                break;
            }
        }
        let mut entries: Vec<CutEntry> = best.iter().flat_map(|e| self.cut_entries(*e)).collect();
        entries.sort();
        Cut {
            entries,
            exact: !search.gave_up,
        }
    }

    /// An entry as the binding writes it; a binding may name the same subject in two forms.
    fn cut_entries(&self, (binding, key): (RowId, SubjectKey)) -> Vec<CutEntry> {
        let (Some(row), Some(grant)) = (self.bindings.get(binding), self.grant(binding)) else {
            return Vec::new();
        };
        let written = row.written();
        written
            .iter()
            .filter(|(_, named, _)| *named == Some(key))
            .map(|(index, _, spelling)| CutEntry {
                grant: grant.clone(),
                subject: self.subject(key),
                spelling: *spelling,
                index: *index,
                entries: written.len() as u32,
                origin: Self::origin_of(&row.origin).cloned(),
            })
            .collect()
    }
}
