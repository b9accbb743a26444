//! The fixpoint of catalogue C.3, kept up to date.
//!
//! Each raised subject remembers one edge that holds it up and the subject behind that edge: its
//! support. When a subject changes, whoever leans on it, directly or through others, falls back to its
//! own priority first; all that is left standing leans on nothing that changed. Those that fell are then
//! raised again by what their edges reach, and what rises spreads. So work follows what depends on the
//! change, and a cycle that has lost its support falls. [`super::graph`] says the same from scratch.

mod listed;
mod own_nodes;
mod ways;

use listed::{Awaited, Moved};
use own_nodes::OwnNodes;
pub(crate) use ways::InOrder;

use super::Dirty;
use super::Ledger;
use super::graph::{Effective, keys_of, members_are_listed};
use super::names::Sym;
use super::rows::{EdgeRow, SubjectKey, SubjectRow, ToKey};
use super::table::{Map, RowId};
use crate::risk::Priority;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// A set of identities that edges lead to; the nodes of "own" pods differ by whose edge it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SetKey {
    to: ToKey,
    source: Option<RowId>,
}

type Sets = std::collections::HashSet<SetKey, foldhash::fast::RandomState>;

/// An edge that waits for a set to rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    subject: RowId,
    edge: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    waiting: Map<SetKey, Vec<Wait>>,
    /// Sets that somebody waits for since they were last listed.
    fresh: Sets,
    /// Sets that somebody waits for and whose members are listed, by what their members hang on.
    awaited: Awaited,
    /// Members of the sets that no key of a subject leads to.
    listed: Map<SetKey, Vec<RowId>>,
    member_of: Map<RowId, Vec<SetKey>>,
    /// Whom a subject holds up.
    leaning: BTreeSet<(RowId, RowId)>,
    /// Subjects by effective priority, of those that have one.
    levels: [BTreeSet<RowId>; 5],
    /// Subjects that changed: their own priority, their edges, or the sets they belong to.
    touched: Dirty<RowId>,
    /// What moved since sets were listed.
    moved: Moved,
    /// Whose tokens lie on the nodes of whoever has edges to them.
    pub(crate) own_nodes: OwnNodes,
    /// Edges and members looked at so far, for tests of its growth.
    pub(crate) steps: u64,
    /// Sets whose listed members are others than before, or that somebody belonged to who is gone: for whoever has
    /// no more than this priority.
    moved_sets: Vec<(SetKey, Priority)>,
    /// See [`Live::ways`].
    ways: OnceLock<Arc<Vec<Effective>>>,
}

/// The sets an edge waits for: where it leads, and the identity it needs beside.
fn sets_of(subject: RowId, edge: &EdgeRow) -> impl Iterator<Item = SetKey> {
    let source = matches!(edge.to, ToKey::OwnNodeTokens(_)).then_some(subject);
    let gate = edge.gate.map(|to| SetKey { to, source: None });
    std::iter::once(SetKey {
        to: edge.to,
        source,
    })
    .chain(gate)
}

impl Live {
    /// Members of a set that no key of a subject leads to. Where an edge waits for it they were listed when
    /// they changed last; to look again takes all pods of a node.
    pub(crate) fn members(
        &self,
        ledger: &Ledger,
        to: ToKey,
        source: SubjectKey,
    ) -> Cow<'_, [RowId]> {
        let own = matches!(to, ToKey::OwnNodeTokens(_));
        let source_id = own.then(|| ledger.subjects.find(source)).flatten();
        let key = SetKey {
            to,
            source: source_id,
        };
        match self.listed.get(&key) {
            Some(members) => Cow::Borrowed(members),
            None => Cow::Owned(ledger.members(to, source)),
        }
    }

    /// Whoever has an edge that leads to the subject, and the first such edge.
    pub(crate) fn leading_to(&self, ledger: &Ledger, id: RowId) -> BTreeMap<RowId, EdgeRow> {
        let mut first: BTreeMap<RowId, (u32, EdgeRow)> = BTreeMap::new();
        let Some(target) = ledger.subjects.get(id) else {
            return BTreeMap::new();
        };
        let lends = match target.key {
            SubjectKey::Account(ns, name) => ledger.lends_token(ns, name),
            _ => false,
        };
        for key in self.sets_with(id, target.key, target.exists, lends) {
            for wait in self.waiting.get(&key).into_iter().flatten() {
                let row = ledger.subjects.get(wait.subject);
                let edge = row.and_then(|row| row.edges.get(wait.edge as usize));
                // an identity that is needed beside does not lead there
                let Some(edge) = edge.filter(|e| e.to == key.to && wait.subject != id) else {
                    continue;
                };
                let here = first.entry(wait.subject).or_insert((wait.edge, *edge));
                if wait.edge < here.0 {
                    *here = (wait.edge, *edge);
                }
            }
        }
        let first = first.into_iter();
        first.map(|(from, (_, edge))| (from, edge)).collect()
    }

    /// The subject changed.
    pub(crate) fn touch(&mut self, id: RowId) {
        self.ways.take();
        self.touched.insert(id);
    }

    /// Nothing to settle?
    pub(crate) fn quiet(&self) -> bool {
        self.touched.is_empty()
            && self.moved.nothing()
            && !self.own_nodes.have_moved()
            && self.moved_sets.is_empty()
    }

    /// The subject has these edges now instead of those.
    pub(crate) fn edges_changed(&mut self, id: RowId, before: &[EdgeRow], now: &[EdgeRow]) {
        // those that come before those that go: a set that somebody goes on waiting for stays listed
        for (i, edge) in now.iter().enumerate() {
            for key in sets_of(id, edge) {
                let wait = Wait {
                    subject: id,
                    edge: i as u32,
                };
                let waiting = self.waiting.entry(key).or_default();
                if waiting.is_empty() && members_are_listed(key.to) {
                    self.fresh.insert(key);
                    self.awaited.insert(key);
                }
                // most sets have one who waits, and a list that is pushed to has room for four
                waiting.reserve_exact(usize::from(waiting.is_empty()));
                waiting.push(wait);
            }
        }
        for (i, edge) in before.iter().enumerate() {
            for key in sets_of(id, edge) {
                let Some(list) = self.waiting.get_mut(&key) else {
                    continue;
                };
                let wait = Wait {
                    subject: id,
                    edge: i as u32,
                };
                // of two that are alike the older one
                if let Some(at) = list.iter().position(|w| *w == wait) {
                    list.remove(at);
                }
                if list.is_empty() {
                    self.waiting.remove(&key);
                    self.fresh.remove(&key);
                    if self.awaited.remove(key)
                        && let Some(source) = key.source
                    {
                        self.own_nodes.close(source);
                    }
                    for member in self.listed.remove(&key).into_iter().flatten() {
                        if let Some(of) = self.member_of.get_mut(&member) {
                            of.retain(|k| *k != key);
                        }
                    }
                }
            }
        }
        self.touch(id);
    }

    /// The subject goes: its number may be another's soon.
    pub(crate) fn gone(&mut self, id: RowId, row: &SubjectRow) {
        let leaning: Vec<RowId> = self.who_leans_on(id).collect();
        self.touched.extend(leaning);
        self.lean(id, row.support.as_deref(), None);
        let sets = self.sets_with(id, row.key, true, true).into_iter();
        self.moved_sets.extend(sets.map(|key| (key, row.effective)));
        self.edges_changed(id, &row.edges, &[]);
        for key in self.member_of.remove(&id).into_iter().flatten() {
            if let Some(list) = self.listed.get_mut(&key) {
                list.retain(|m| *m != id);
            }
        }
        self.moved_level(id, row.effective, Priority::None);
        self.touched.remove(&id);
    }

    /// Whom the subject holds up.
    fn who_leans_on(&self, id: RowId) -> impl Iterator<Item = RowId> {
        let here = self.leaning.range((id, RowId::MIN)..=(id, RowId::MAX));
        here.map(|(_, leaning)| *leaning)
    }

    /// Something else holds the subject up.
    fn lean(&mut self, id: RowId, before: Option<&Support>, now: Option<&Support>) {
        for by in before.iter().flat_map(|support| support.by).flatten() {
            self.leaning.remove(&(by, id));
        }
        for by in now.iter().flat_map(|support| support.by).flatten() {
            self.leaning.insert((by, id));
        }
    }

    fn moved_level(&mut self, id: RowId, before: Priority, now: Priority) {
        self.levels[before as usize].remove(&id);
        if now > Priority::None {
            self.levels[now as usize].insert(id);
        }
    }

    /// The sets a subject belongs to.
    fn sets_with(&self, id: RowId, key: SubjectKey, exists: bool, lends: bool) -> Vec<SetKey> {
        let mut out: Vec<SetKey> = self.member_of.get(&id).cloned().unwrap_or_default();
        keys_of(
            key,
            exists,
            |_| lends,
            |to| out.push(SetKey { to, source: None }),
        );
        out.retain(|key| self.waiting.contains_key(key));
        out
    }

    /// Whose edges lead to a set that the subject belongs to, or would if it were there and lent its token.
    pub(crate) fn who_waits_for(&self, id: RowId, key: SubjectKey) -> Vec<RowId> {
        let sets = self.sets_with(id, key, true, true);
        sets.into_iter()
            .flat_map(|key| self.who_waits(key))
            .collect()
    }

    /// Whose edges lead to sets in which somebody is gone or is listed anew since this was asked for last, and up to
    /// which priority that may concern them, if it is no less than `least`.
    pub(crate) fn sets_moved(&mut self, least: Priority) -> Vec<(RowId, Priority)> {
        let sets = std::mem::take(&mut self.moved_sets).into_iter();
        let sets = sets.filter(|(_, up_to)| *up_to >= least);
        let concerns = |(key, up_to)| self.who_waits(key).map(move |id| (id, up_to));
        sets.flat_map(concerns).collect()
    }

    fn who_waits(&self, key: SetKey) -> impl Iterator<Item = RowId> {
        let waiting = self.waiting.get(&key).into_iter().flatten();
        waiting.map(|wait| wait.subject)
    }

    /// The strongest two members of a set, the stronger one first; `steps` counts who is looked at.
    fn strongest_two(&self, ledger: &Ledger, key: SetKey, steps: &mut u64) -> Strongest {
        let level = |id: RowId| {
            ledger
                .subjects
                .get(id)
                .map(|r| r.effective)
                .unwrap_or_default()
        };
        let mut best = |ids: &mut dyn Iterator<Item = RowId>| {
            let mut two: Strongest = [None; 2];
            for id in ids {
                *steps += 1;
                let mut here = Some((level(id), id));
                for slot in &mut two {
                    if here.map(|h| h.0) > slot.map(|s| s.0) {
                        std::mem::swap(slot, &mut here);
                    }
                }
            }
            two
        };
        let found = |key: SubjectKey| ledger.subjects.find(key);
        match key.to {
            to if members_are_listed(to) => {
                best(&mut self.listed.get(&key).into_iter().flatten().copied())
            }
            ToKey::User(name) => best(&mut found(SubjectKey::User(name)).into_iter()),
            ToKey::Group(name) => best(&mut found(SubjectKey::Group(name)).into_iter()),
            ToKey::Account(ns, name) | ToKey::Identity(ns, name) if ns != Sym::STAR => {
                let id = found(SubjectKey::Account(ns, name));
                best(&mut id.into_iter().filter(|id| belongs(ledger, *id, key.to)))
            }
            ToKey::Accounts(ns) | ToKey::Identities(ns) | ToKey::PodTokens(ns)
                if ns != Sym::STAR =>
            {
                let here = ledger.subjects.in_namespace(ns);
                best(
                    &mut here
                        .map(|(id, _)| id)
                        .filter(|id| belongs(ledger, *id, key.to)),
                )
            }
            to => {
                let down = Priority::RISKY.into_iter().rev();
                let all = down.flat_map(|p| &self.levels[p as usize]).copied();
                best(&mut all.filter(|id| belongs(ledger, *id, to)).take(2))
            }
        }
    }

    /// The strongest member of a set beside `but`.
    fn strongest(&self, ledger: &Ledger, key: SetKey, but: RowId) -> Option<(Priority, RowId)> {
        beside(self.strongest_two(ledger, key, &mut 0), but)
    }

    /// The members of a set that have `priority` or more.
    fn members_at(&self, ledger: &Ledger, key: SetKey, priority: Priority) -> Vec<RowId> {
        let strong = |id: &RowId| {
            let row = ledger.subjects.get(*id);
            row.is_some_and(|r| r.effective >= priority)
        };
        let one = |key: SubjectKey| ledger.subjects.find(key).into_iter().filter(strong);
        match key.to {
            to if members_are_listed(to) => {
                let listed = self.listed.get(&key).into_iter().flatten();
                listed.copied().filter(strong).collect()
            }
            ToKey::User(name) => one(SubjectKey::User(name)).collect(),
            ToKey::Group(name) => one(SubjectKey::Group(name)).collect(),
            ToKey::Account(ns, name) | ToKey::Identity(ns, name) if ns != Sym::STAR => {
                let account = one(SubjectKey::Account(ns, name));
                account.filter(|id| belongs(ledger, *id, key.to)).collect()
            }
            ToKey::Accounts(ns) | ToKey::Identities(ns) | ToKey::PodTokens(ns)
                if ns != Sym::STAR =>
            {
                let here = ledger.subjects.in_namespace(ns).map(|(id, _)| id);
                here.filter(strong)
                    .filter(|id| belongs(ledger, *id, key.to))
                    .collect()
            }
            to => self.levels[priority as usize..]
                .iter()
                .rev()
                .flatten()
                .copied()
                .filter(|id| belongs(ledger, *id, to))
                .collect(),
        }
    }

    /// Does an edge of the subject lead to `priority` by a way that does not come back to the subject
    /// itself? What is reached only through it is no more than it has.
    pub(crate) fn leads_to(
        &self,
        ledger: &Ledger,
        id: RowId,
        edge: &EdgeRow,
        priority: Priority,
    ) -> bool {
        let mut seen: Dirty<RowId> = Dirty::default();
        seen.insert(id);
        let mut sets = Sets::default();
        let mut open = vec![(id, *edge)];
        while let Some((of, edge)) = open.pop() {
            if edge.cap < priority {
                continue;
            }
            let mut keys = sets_of(of, &edge);
            let to = keys.next();
            // the identity that is needed beside may come back: then this says too much, not too little
            let gated = keys.all(|gate| {
                let best = self.strongest(ledger, gate, of);
                best.is_some_and(|(level, _)| level >= priority)
            });
            let Some(to) = to.filter(|to| gated && sets.insert(*to)) else {
                continue;
            };
            for member in self.members_at(ledger, to, priority) {
                let Some(row) = ledger.subjects.get(member).filter(|_| seen.insert(member)) else {
                    continue;
                };
                if row.own >= priority {
                    return true;
                }
                open.extend(row.edges.iter().map(|edge| (member, *edge)));
            }
        }
        false
    }
}

/// The strongest two of a set, the stronger one first.
type Strongest = [Option<(Priority, RowId)>; 2];

/// The strongest one beside `but`.
fn beside(two: Strongest, but: RowId) -> Option<(Priority, RowId)> {
    two.into_iter().flatten().find(|(_, id)| *id != but)
}

/// What an edge raises its subject to, and by whom, when sets are as strong as `strongest` says.
fn reaches(
    id: RowId,
    edge: &EdgeRow,
    mut strongest: impl FnMut(SetKey) -> Strongest,
) -> (Priority, [Option<RowId>; 2]) {
    let mut level = edge.cap;
    let mut by = [None; 2];
    for (slot, key) in by.iter_mut().zip(sets_of(id, edge)) {
        match beside(strongest(key), id) {
            Some((p, member)) => {
                level = level.min(p);
                *slot = Some(member);
            }
            None => return (Priority::None, by),
        }
    }
    (level, by)
}

fn belongs(ledger: &Ledger, id: RowId, to: ToKey) -> bool {
    let Some(row) = ledger.subjects.get(id) else {
        return false;
    };
    let SubjectKey::Account(ns, name) = row.key else {
        return false;
    };
    let within = |scope: Sym| scope == Sym::STAR || scope == ns;
    match to {
        ToKey::Identities(s) => within(s),
        ToKey::Identity(s, n) => within(s) && n == name,
        ToKey::Accounts(s) => within(s) && row.exists,
        ToKey::Account(s, n) => within(s) && n == name && row.exists,
        ToKey::PodTokens(s) => within(s) && ledger.lends_token(ns, name),
        _ => false,
    }
}

/// What holds a subject above its own priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    /// Index among its edges.
    pub(crate) edge: u32,
    /// Who is reached, and the identity that is needed beside.
    pub(crate) by: [Option<RowId>; 2],
}

/// Brings the effective priorities up to date; returns the subjects looked at with what they had before.
pub(crate) fn settle(ledger: &mut Ledger) -> Map<RowId, Priority> {
    let mut steps = 0;
    let mut live = std::mem::take(&mut ledger.live);
    let came = live.list(ledger);
    let mut before: Map<RowId, Priority> = Map::default();
    let mut set =
        |ledger: &mut Ledger, live: &mut Live, id: RowId, to, support: Option<Support>| {
            let Some(row) = ledger.subjects.get_mut(id) else {
                return;
            };
            before.entry(id).or_insert(row.effective);
            live.moved_level(id, row.effective, to);
            row.effective = to;
            live.lean(id, row.support.as_deref(), support.as_ref());
            row.support = support.map(Box::new);
        };
    // whoever leans on what changed falls to its own priority
    let mut fallen: Vec<RowId> = Vec::new();
    let mut seen: Dirty<RowId> = Dirty::default();
    let mut open: Vec<RowId> = live.touched.drain().collect();
    while let Some(id) = open.pop() {
        if ledger.subjects.get(id).is_none() || !seen.insert(id) {
            continue;
        }
        fallen.push(id);
        let leaning = live.who_leans_on(id);
        open.extend(leaning.inspect(|_| steps += 1));
    }
    for id in &fallen {
        let own = ledger.subjects.get(*id).map(|r| r.own).unwrap_or_default();
        set(ledger, &mut live, *id, own, None);
    }
    // their edges may still reach as far; each set is looked at once, for whoever rises by this spreads below
    let mut known: Map<SetKey, Strongest> = Map::default();
    for id in &fallen {
        let edges = ledger
            .subjects
            .get(*id)
            .map(|r| r.edges.clone())
            .unwrap_or_default();
        for (i, edge) in edges.iter().enumerate() {
            steps += 1;
            let (level, by) = reaches(*id, edge, |key| {
                *known
                    .entry(key)
                    .or_insert_with(|| live.strongest_two(ledger, key, &mut steps))
            });
            if ledger
                .subjects
                .get(*id)
                .is_some_and(|r| level > r.effective)
            {
                let support = Support { edge: i as u32, by };
                set(ledger, &mut live, *id, level, Some(support));
            }
        }
    }
    // what stands now spreads, the highest first; a set is visited once a level
    let mut queues: [Vec<RowId>; 5] = Default::default();
    for id in fallen.into_iter().chain(came) {
        if let Some(row) = ledger.subjects.get(id) {
            queues[row.effective as usize].push(id);
        }
    }
    let mut visited: Map<SetKey, Priority> = Map::default();
    for level in (Priority::Low as usize..=Priority::Critical as usize).rev() {
        let priority = Priority::ALL[level];
        let mut next = 0;
        while next < queues[level].len() {
            let id = queues[level][next];
            next += 1;
            let Some(row) = ledger.subjects.get(id).filter(|r| r.effective == priority) else {
                continue;
            };
            let lends = match row.key {
                SubjectKey::Account(ns, name) => ledger.lends_token(ns, name),
                _ => false,
            };
            for key in live.sets_with(id, row.key, row.exists, lends) {
                if visited.get(&key).is_some_and(|p| *p >= priority) {
                    continue;
                }
                visited.insert(key, priority);
                for wait in live.waiting.get(&key).cloned().unwrap_or_default() {
                    steps += 1;
                    let Some(row) = ledger.subjects.get(wait.subject) else {
                        continue;
                    };
                    let Some(edge) = row.edges.get(wait.edge as usize).copied() else {
                        continue;
                    };
                    if wait.subject == id || row.effective >= priority.min(edge.cap) {
                        continue;
                    }
                    let (to, by) = match edge.gate {
                        None => (priority.min(edge.cap), [Some(id), None]),
                        Some(_) => reaches(wait.subject, &edge, |key| {
                            live.strongest_two(ledger, key, &mut steps)
                        }),
                    };
                    if to > row.effective {
                        let support = Support {
                            edge: wait.edge,
                            by,
                        };
                        set(ledger, &mut live, wait.subject, to, Some(support));
                        queues[to as usize].push(wait.subject);
                    }
                }
            }
        }
    }
    live.steps += steps;
    ledger.live = live;
    before
}
