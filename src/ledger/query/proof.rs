//! Why a subject holds a priority, and whether it still would with less.
//!
//! A proof is a chain: the edge of the subject that leads to another, and so on to one whose own
//! findings decide; and of each the entries of bindings that this takes, no more. A subject holds its
//! priority while one proof is whole, so what brings it down takes something out of every proof.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::rows::{EdgeRow, SubjectKey, ToKey};
use super::super::settle;
use super::super::table::{Map, RowId};
use super::{Asked, Strongest};
use crate::object::PolicyRule;
use crate::rbac::{MASTERS, Members, implicit_groups, members_of};
use crate::risk::{
    Assessment, Priority, Reaches, about_bindings, depends_on_place, joined, may_rewrite_roles,
};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::Deref;
use std::rc::Rc;

/// With more entries than these, what is worked out of each is kept for the next set that is tried: to do
/// it again for hundreds takes seconds.
pub(super) const MANY: usize = 32;

/// An entry of a binding: the binding, and whom it names.
pub(super) type Entry = (RowId, SubjectKey);

/// What a subject gives to a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Its own findings.
    Own,
    /// An edge, and whom it leads to.
    Edge(EdgeRow, RowId),
}

/// What a subject has by itself, with entries gone.
#[derive(Clone, Debug)]
pub(super) struct Power<'a> {
    own: Priority,
    edges: Edges<'a>,
}

#[derive(Clone, Debug)]
enum Edges<'a> {
    /// Those of its row.
    Known(&'a [EdgeRow]),
    Judged(Rc<[EdgeRow]>),
}

impl Deref for Edges<'_> {
    type Target = [EdgeRow];

    fn deref(&self) -> &[EdgeRow] {
        match self {
            Edges::Known(edges) => edges,
            Edges::Judged(edges) => edges,
        }
    }
}

/// Entries that give a subject the same wherever they lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sort {
    of: SubjectKey,
    direct: bool,
    reaches: *const Reaches,
    /// Which role it is, where that matters: to whoever may rewrite roles.
    role: Option<RowId>,
}

/// Entries that are gone.
#[derive(Debug, Default)]
struct Gone {
    entries: BTreeSet<Entry>,
    /// Whom they name: whether a subject lost anything is asked of thousands.
    named: HashSet<SubjectKey>,
    /// Of these the groups that subjects have without being bound to them.
    groups: Vec<Sym>,
}

impl Gone {
    fn of(ledger: &Ledger, entries: BTreeSet<Entry>) -> Gone {
        let named: HashSet<SubjectKey> = entries.iter().map(|(_, named)| *named).collect();
        let groups = named.iter().filter_map(|key| match key {
            SubjectKey::Group(group) => Some(*group),
            _ => None,
        });
        let implicit = |group: &Sym| members_of(ledger.names.text(*group)) != Members::None;
        Gone {
            groups: groups.filter(implicit).collect(),
            named,
            entries,
        }
    }
}

/// What subjects have by some of their entries, no more than [`MANY`]: sets that are tried one after the other
/// leave the same to most of whom they take something from.
type Judged = Map<SubjectKey, Map<Vec<Entry>, Power<'static>>>;

/// The entries of a subject that count.
#[derive(Clone)]
struct Only {
    id: RowId,
    entries: Vec<Entry>,
    /// What takes some of them is said to take them all.
    all: bool,
}

/// The ledger less some entries of bindings, as far as one priority goes.
pub(super) struct Less<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) asked: &'a Asked,
    /// The priority in question.
    pub(super) priority: Priority,
    gone: Rc<Gone>,
    judged: Rc<RefCell<Judged>>,
    /// Of this subject nothing but these entries counts; whoever else they name keeps what it has.
    only: Option<Only>,
}

impl<'a> Less<'a> {
    /// Nothing is gone yet.
    pub(super) fn nothing(ledger: &'a Ledger, asked: &'a Asked, priority: Priority) -> Less<'a> {
        Less {
            ledger,
            asked,
            priority,
            gone: Rc::default(),
            judged: Rc::default(),
            only: None,
        }
    }

    /// The same with other entries gone.
    pub(super) fn with(&self, removed: BTreeSet<Entry>) -> Less<'a> {
        Less {
            gone: Rc::new(Gone::of(self.ledger, removed)),
            judged: self.judged.clone(),
            only: None,
            ..*self
        }
    }

    /// Does the subject hold the priority by this entry of it and nothing else? Then a proof, which takes
    /// one small judgement, where one of a thousand entries takes a large one.
    pub(super) fn proof_by(&self, id: RowId, entry: Entry) -> Option<Vec<Entry>> {
        self.only(id, vec![entry], true).proof(id)
    }

    fn only(&self, id: RowId, entries: Vec<Entry>, all: bool) -> Less<'a> {
        Less {
            gone: self.gone.clone(),
            judged: self.judged.clone(),
            only: Some(Only { id, entries, all }),
            ..*self
        }
    }

    /// The namespaces that hang together with others in what these entries give the subject; `None` when all may.
    /// Fewer entries join no more.
    pub(super) fn joined(&self, key: SubjectKey, entries: &[Entry]) -> Option<HashSet<Sym>> {
        let ledger = self.ledger;
        let subject = ledger.subject(key);
        let held = ledger.held(&subject, &holdings(key, entries));
        let joined = joined(ledger.catalogue(), &subject, &held)?;
        Some(
            joined
                .iter()
                .filter_map(|ns| ledger.names.get(ns))
                .collect(),
        )
    }

    /// A proof, where there is none by any entry of its own alone. All but these `joined` namespaces lie apart, and
    /// mostly the same few roles are bound in hundreds of them: what these are together is judged in one namespace
    /// of each kind, and where it is no more than by each alone, the others of the kind need not be judged.
    pub(super) fn proof_by_several(
        &self,
        id: RowId,
        key: SubjectKey,
        joined: &HashSet<Sym>,
    ) -> Option<Vec<Entry>> {
        let ledger = self.ledger;
        let mut left = self.asked.entries(ledger, key);
        left.retain(|e| !self.gone.entries.contains(e));
        let home = |entry: &Entry| ledger.bindings.key(entry.0).0;
        // what holds everywhere, and whatever cannot be told by its kind, is judged in any case
        let mut places = joined.clone();
        let mut kinds: Map<Sym, BTreeSet<*const Reaches>> = Map::default();
        let mut homes: Vec<Sym> = Vec::new();
        for entry in left.iter().filter(|e| ledger.grants_anything(e.0)) {
            let home = home(entry);
            match ledger.sort(key, *entry) {
                Some(sort) if sort.role.is_none() => {
                    let kind = kinds.entry(home).or_insert_with(|| {
                        homes.push(home);
                        BTreeSet::new()
                    });
                    kind.insert(sort.reaches);
                }
                // a role beside may be what it rewrites
                _ => drop(places.insert(home)),
            }
        }
        let some_everywhere = places.contains(&Sym::EMPTY);
        let mut of_kind: Map<&BTreeSet<*const Reaches>, Vec<Sym>> = Map::default();
        for home in homes.iter().filter(|home| !places.contains(*home)) {
            if let Some(kind) = kinds
                .get(home)
                .filter(|kind| some_everywhere || kind.len() > 1)
            {
                of_kind.entry(kind).or_default().push(*home);
            }
        }
        let one_of_each: HashSet<Sym> = of_kind.values().map(|homes| homes[0]).collect();
        let mut some = left.clone();
        some.retain(|e| places.contains(&home(e)) || one_of_each.contains(&home(e)));
        let together = self.power_of(key, &some);
        if together.own >= self.priority {
            return self.only(id, some, false).proof(id);
        }
        let mut alone: HashSet<EdgeRow> = HashSet::new();
        for entry in &some {
            alone.extend(self.power_by(key, *entry).edges.iter());
        }
        // what leads everywhere shows again in each namespace with other grants
        let everywhere = |edge: &EdgeRow| edge.moved(edge.scope, Sym::STAR);
        let known = |edge: &EdgeRow| {
            alone.contains(edge) || everywhere(edge).is_some_and(|edge| alone.contains(&edge))
        };
        let new = self.strong(&together.edges).filter(|edge| !known(edge));
        let new: HashSet<Sym> = new.map(|edge| edge.scope).collect();
        let news = of_kind
            .into_values()
            .filter(|homes| new.contains(&homes[0]));
        places.extend(news.flatten());
        left.retain(|entry| places.contains(&home(entry)));
        self.only(id, left, false).proof(id)
    }

    /// Surely there is no proof, as there is none either when `enough` of its own is gone and nothing else, and
    /// what is left of that lies apart: in namespaces that hang together with no others, but for these `joined`
    /// ones. Then whatever is new is there, and a few of a thousand entries tell. `false` where this says nothing.
    pub(super) fn surely_none(
        &self,
        id: RowId,
        key: SubjectKey,
        enough: &BTreeSet<Entry>,
        joined: &HashSet<Sym>,
    ) -> bool {
        let ledger = self.ledger;
        let home = |(binding, _): &Entry| ledger.bindings.key(*binding).0;
        let back: Vec<&Entry> = enough.difference(&self.gone.entries).collect();
        // others have by it what they had not, or it holds in each namespace
        let shared = |entry: &&Entry| entry.1 != key || home(entry) == Sym::EMPTY;
        let implicit = match key {
            SubjectKey::Group(name) => members_of(ledger.names.text(name)) != Members::None,
            _ => false,
        };
        if implicit || back.iter().any(shared) {
            return false;
        }
        let mut left = self.asked.entries(ledger, key);
        left.retain(|e| !self.gone.entries.contains(e));
        let mut places: HashSet<Sym> = back.iter().map(|entry| home(entry)).collect();
        places.extend(joined);
        places.insert(Sym::EMPTY);
        left.retain(|entry| places.contains(&home(entry)));
        !self.only(id, left, true).holds(id)
    }

    /// Does the subject hold the priority?
    pub(super) fn holds(&self, id: RowId) -> bool {
        self.chain(id).is_some()
    }

    /// The entries of one proof, those of the subject first; `None` when it does not hold the priority.
    /// Entries that Kubernetes makes again at its next start are left out, but for the subject's own.
    pub(super) fn proof(&self, id: RowId) -> Option<Vec<Entry>> {
        let mut out: Vec<Entry> = Vec::new();
        for (at, part) in self.chain(id)? {
            for entry in self.needed(at, part) {
                if (at == id || !self.comes_back(entry)) && !out.contains(&entry) {
                    out.push(entry);
                }
            }
        }
        Some(out)
    }

    /// Entries by the names of their bindings and subjects: what is proposed does not depend on which
    /// was seen first.
    pub(super) fn in_order(&self, entries: &BTreeSet<Entry>) -> Vec<Entry> {
        let ledger = self.ledger;
        let mut out: Vec<Entry> = entries.iter().copied().collect();
        out.sort_by(|a, b| {
            let by_binding = ledger.by_name(&ledger.bindings, a.0, b.0);
            by_binding.then_with(|| ledger.order(a.1, b.1))
        });
        out
    }

    fn comes_back(&self, (binding, key): Entry) -> bool {
        let subject = self.ledger.subject(key);
        self.ledger.listed_pair(binding, &subject).is_some()
    }

    /// The subjects of one proof, each with what it gives, the one asked about first.
    fn chain(&self, id: RowId) -> Option<Vec<(RowId, Part)>> {
        let mut gated = false;
        let mut parents: Map<RowId, (RowId, EdgeRow)> = Map::default();
        let mut seen: HashSet<ToKey> = HashSet::new();
        let mut queue = VecDeque::from([id]);
        let mut found = None;
        'search: while let Some(at) = queue.pop_front() {
            let Some(key) = self.ledger.subjects.get(at).map(|r| r.key) else {
                continue;
            };
            let power = self.power(at, key);
            if power.own >= self.priority {
                found = Some(at);
                break;
            }
            for edge in self.strong(&power.edges) {
                if edge.gate.is_some() {
                    gated = true;
                    continue;
                }
                let own_nodes = matches!(edge.to, ToKey::OwnNodeTokens(_));
                if !seen.insert(edge.to) && !own_nodes {
                    continue;
                }
                for member in self.members(edge.to, key) {
                    if member == id || parents.contains_key(&member) {
                        continue;
                    }
                    parents.insert(member, (at, *edge));
                    if self.surely(member) {
                        found = Some(member);
                        break 'search;
                    }
                    queue.push_back(member);
                }
            }
        }
        let Some(mut at) = found else {
            return if gated { self.tree(id) } else { None };
        };
        let mut chain = vec![(at, Part::Own)];
        while let Some((before, edge)) = parents.get(&at) {
            chain.push((*before, Part::Edge(*edge, at)));
            at = *before;
        }
        chain.reverse();
        Some(chain)
    }

    /// The same where edges take a second identity: a proof is a tree then. From nothing upwards, so
    /// that none leans on itself.
    fn tree(&self, id: RowId) -> Option<Vec<(RowId, Part)>> {
        let mut nodes: Vec<(RowId, SubjectKey, Power<'a>)> = Vec::new();
        let mut known: HashSet<RowId> = HashSet::from([id]);
        let mut queue = VecDeque::from([id]);
        while let Some(at) = queue.pop_front() {
            let Some(key) = self.ledger.subjects.get(at).map(|r| r.key) else {
                continue;
            };
            let power = self.power(at, key);
            for edge in self.strong(&power.edges) {
                for to in std::iter::once(edge.to).chain(edge.gate) {
                    for member in self.members(to, key) {
                        if known.insert(member) {
                            queue.push_back(member);
                        }
                    }
                }
            }
            nodes.push((at, key, power));
        }
        let mut held: Map<RowId, Vec<Part>> = Map::default();
        loop {
            let before = held.len();
            for (at, key, power) in &nodes {
                if held.contains_key(at) {
                    continue;
                }
                if power.own >= self.priority {
                    held.insert(*at, vec![Part::Own]);
                    continue;
                }
                let parts = self.strong(&power.edges).find_map(|edge| {
                    let reached = |to: ToKey| {
                        let mut members = self.members(to, *key);
                        members.find(|m| m != at && held.contains_key(m))
                    };
                    let first = Part::Edge(*edge, reached(edge.to)?);
                    Some(match edge.gate {
                        None => vec![first],
                        Some(gate) => vec![first, Part::Edge(*edge, reached(gate)?)],
                    })
                });
                if let Some(parts) = parts {
                    held.insert(*at, parts);
                }
            }
            if held.contains_key(&id) || held.len() == before {
                break;
            }
        }
        held.get(&id)?;
        let mut out = Vec::new();
        let mut queue = VecDeque::from([id]);
        let mut listed: HashSet<RowId> = HashSet::new();
        while let Some(at) = queue.pop_front() {
            for part in held.get(&at).into_iter().flatten() {
                out.push((at, *part));
                if let Part::Edge(_, next) = part
                    && listed.insert(*next)
                {
                    queue.push_back(*next);
                }
            }
        }
        Some(out)
    }

    fn strong<'e>(&self, edges: &'e [EdgeRow]) -> impl Iterator<Item = &'e EdgeRow> {
        let priority = self.priority;
        edges.iter().filter(move |e| e.cap >= priority)
    }

    /// Members of a set that may hold the priority, strongest first, then by name.
    fn members(&self, to: ToKey, source: SubjectKey) -> impl Iterator<Item = RowId> {
        let all = self.asked.members(self.ledger, to, source, self.priority);
        let mut next = 0;
        std::iter::from_fn(move || {
            next += 1;
            all.get(next - 1).copied()
        })
        .filter(|m| !self.vanished(*m))
    }

    /// Its own findings decide, and nothing of it is gone.
    fn surely(&self, id: RowId) -> bool {
        let row = self.ledger.subjects.get(id);
        row.is_some_and(|r| r.own >= self.priority && !self.touches(r.key))
    }

    fn touches(&self, key: SubjectKey) -> bool {
        let implicit = || {
            let has = implicit_groups(&self.ledger.subject(key));
            let gone = self.gone.groups.iter();
            gone.map(|group| self.ledger.names.text(*group))
                .any(|group| has.iter().any(|g| *g == *group))
        };
        self.gone.named.contains(&key) || (!self.gone.groups.is_empty() && implicit())
    }

    /// It was there because bindings named it, and none does any more.
    fn vanished(&self, id: RowId) -> bool {
        let Some(row) = self.ledger.subjects.get(id) else {
            return true;
        };
        let stays = match row.key {
            SubjectKey::Account(..) => row.exists,
            SubjectKey::Group(name) => *self.ledger.names.text(name) == *MASTERS,
            SubjectKey::User(_) => false,
        };
        let gone = |b: &RowId| self.gone.entries.contains(&(*b, row.key));
        !stays && !self.gone.entries.is_empty() && row.bindings.iter().all(gone)
    }

    fn power(&self, id: RowId, key: SubjectKey) -> Power<'a> {
        match &self.only {
            Some(only) if only.id == id => match only.entries[..] {
                [entry] => return self.power_by(key, entry),
                _ => return self.power_of(key, &only.entries),
            },
            _ => {}
        }
        if !self.touches(key) {
            let row = self.ledger.subjects.get(id);
            return Power {
                own: row.map(|r| r.own).unwrap_or_default(),
                edges: Edges::Known(row.map(|r| &*r.edges).unwrap_or_default()),
            };
        }
        let mut left = self.asked.entries(self.ledger, key);
        left.retain(|e| !self.gone.entries.contains(e));
        self.power_of(key, &left)
    }

    /// What the subject has by this entry alone; asked again for every set that is tried.
    fn power_by(&self, key: SubjectKey, entry: Entry) -> Power<'static> {
        if let Some(known) = self.asked.powers.borrow().get(&(key, entry)) {
            return known.clone();
        }
        let power = self.power_by_anew(key, entry);
        let mut powers = self.asked.powers.borrow_mut();
        powers.insert((key, entry), power.clone());
        power
    }

    /// What it has by another entry of the sort is the same, but for where.
    fn power_by_anew(&self, key: SubjectKey, entry: Entry) -> Power<'static> {
        let Some(sort) = self.ledger.sort(key, entry) else {
            return self.power_of(key, &[entry]);
        };
        let (home, _) = self.ledger.bindings.key(entry.0);
        if let Some((from, power)) = self.asked.by_sort.borrow().get(&sort) {
            let edges = power.edges.iter().map(|edge| edge.moved(*from, home));
            if let Some(edges) = edges.collect::<Option<Rc<[EdgeRow]>>>() {
                return Power {
                    own: power.own,
                    edges: Edges::Judged(edges),
                };
            }
        }
        let power = self.power_of(key, &[entry]);
        let mut known = self.asked.by_sort.borrow_mut();
        known.insert(sort, (home, power.clone()));
        power
    }

    /// What the subject has by one entry; kept where it has many.
    fn power_alone(&self, key: SubjectKey, entry: Entry, many: bool) -> Power<'static> {
        if many {
            return self.power_by(key, entry);
        }
        self.power_of(key, &[entry])
    }

    /// What the subject has by these entries alone.
    fn power_of(&self, key: SubjectKey, entries: &[Entry]) -> Power<'static> {
        if entries.len() > MANY {
            return self.power_anew(key, entries);
        }
        let of = |judged: &Judged| judged.get(&key)?.get(entries).cloned();
        if let Some(known) = of(&self.judged.borrow()) {
            return known;
        }
        let power = self.power_anew(key, entries);
        let mut judged = self.judged.borrow_mut();
        let here = judged.entry(key).or_default();
        here.insert(entries.to_vec(), power.clone());
        power
    }

    fn power_anew(&self, key: SubjectKey, entries: &[Entry]) -> Power<'static> {
        let subject = self.ledger.subject(key);
        let bindings = holdings(key, entries);
        self.power_in(&self.ledger.judgement_with(&subject, &bindings, false).0)
    }

    fn power_in(&self, judged: &Assessment) -> Power<'static> {
        let ledger = self.ledger;
        let rows = judged.edges.iter();
        let without_pods = ledger.settings.without_pods;
        // where an edge holds and whom it leads to nearly always share the text of a namespace
        let mut last: Option<(*const str, Option<Sym>)> = None;
        let mut sym = |name: &str| match last {
            Some((text, sym)) if std::ptr::eq(text, name) => sym,
            _ => {
                let sym = ledger.names.get(name);
                last = Some((name, sym));
                sym
            }
        };
        Power {
            own: judged.own(),
            edges: Edges::Judged(
                rows.filter_map(|e| settle::edge_row(e, without_pods, &mut sym))
                    .collect(),
            ),
        }
    }

    fn gives(&self, key: SubjectKey, entries: &[Entry], part: Part) -> bool {
        self.has(&self.power_of(key, entries), key, part)
    }

    fn has(&self, power: &Power<'_>, key: SubjectKey, part: Part) -> bool {
        match part {
            Part::Own => power.own >= self.priority,
            Part::Edge(edge, next) => self.strong(&power.edges).any(|e| {
                let leads = |to: ToKey| self.members(to, key).any(|m| m == next);
                *e == edge || (e.gate == edge.gate && (leads(e.to) || e.gate.is_some_and(leads)))
            }),
        }
    }

    /// Entries that a subject's part takes, as few as leave it whole.
    pub(super) fn needed(&self, id: RowId, part: Part) -> Vec<Entry> {
        let Some(key) = self.ledger.subjects.get(id).map(|r| r.key) else {
            return Vec::new();
        };
        if let Some(only) = self.only.as_ref().filter(|only| only.id == id) {
            return match only.all {
                true => only.entries.clone(),
                false => self.needed_of(key, part, only.entries.clone()),
            };
        }
        // of whoever nothing is gone this is asked for every set that is tried
        let whole = !self.touches(key);
        let asked = (id, part, self.priority);
        if whole && let Some(known) = self.asked.needed.borrow().get(&asked) {
            return known.clone();
        }
        let mut entries = self.asked.entries(self.ledger, key);
        entries.retain(|e| !self.gone.entries.contains(e));
        let needed = self.needed_of(key, part, entries);
        if whole {
            let mut known = self.asked.needed.borrow_mut();
            known.insert(asked, needed.clone());
        }
        needed
    }

    /// Of these entries those that a part takes.
    fn needed_of(&self, key: SubjectKey, part: Part, mut entries: Vec<Entry>) -> Vec<Entry> {
        let granting: Vec<Entry> = entries
            .iter()
            .filter(|(b, _)| self.ledger.grants_anything(*b))
            .copied()
            .collect();
        let lies_here = |(binding, _): &Entry, scope: Sym| {
            let home = self.ledger.bindings.key(*binding).0;
            home == Sym::EMPTY || home == scope
        };
        // one that is enough is what nearly always comes of it, and takes no judgement of them all
        let many = granting.len() > MANY;
        let alone = |e: &&Entry| self.has(&self.power_alone(key, **e, many), key, part);
        let mut first = granting.iter().filter(|e| match part {
            Part::Own => true,
            Part::Edge(edge, _) => lies_here(e, edge.scope),
        });
        if let Some(one) = first.find(alone) {
            return vec![*one];
        }
        if granting.len() < entries.len() && self.gives(key, &granting, part) {
            entries = granting;
        }
        // an edge nearly always rests on what holds where it holds: of a thousand bindings, a few
        if let Part::Edge(edge, _) = part {
            let here = entries.iter().filter(|e| lies_here(e, edge.scope));
            let here: Vec<Entry> = here.copied().collect();
            if here.len() < entries.len() && self.gives(key, &here, part) {
                entries = here;
            }
        }
        let many = entries.len() > MANY;
        let alone = |e: &&Entry| self.has(&self.power_alone(key, **e, many), key, part);
        if let Some(one) = entries.iter().find(alone) {
            return vec![*one];
        }
        let mut at = entries.len();
        while at > 0 {
            at -= 1;
            let mut rest = entries.clone();
            rest.remove(at);
            if self.gives(key, &rest, part) {
                entries = rest;
            }
        }
        entries
    }

    /// Rules of one binding's role that a subject's part takes, as few as leave it whole beside the other
    /// entries.
    pub(super) fn rules_needed(
        &self,
        key: SubjectKey,
        entries: &[Entry],
        binding: RowId,
        part: Part,
        rules: Vec<PolicyRule>,
    ) -> Vec<PolicyRule> {
        let ledger = self.ledger;
        let subject = ledger.subject(key);
        let bindings = holdings(key, entries);
        let vocabulary = &ledger.catalogue().vocabulary;
        let enough = |rules: &[PolicyRule]| {
            let reaches = Reaches::of(vocabulary, rules);
            let mut held = ledger.held(&subject, &bindings);
            for (held, (of, _)) in held.iter_mut().zip(&bindings) {
                if *of == binding {
                    held.reaches = Some(&reaches);
                }
            }
            let (judged, _) = ledger.judgement_of(&subject, &held, false);
            self.has(&self.power_in(&judged), key, part)
        };
        if let Some(one) = rules.iter().find(|r| enough(std::slice::from_ref(*r))) {
            return vec![one.clone()];
        }
        let mut left = rules;
        let mut at = left.len();
        while at > 0 {
            at -= 1;
            let mut rest = left.clone();
            rest.remove(at);
            if enough(&rest) {
                left = rest;
            }
        }
        left
    }

    /// Entries of the subject each of which is enough for the priority by its findings alone.
    pub(super) fn enough_alone(&self, key: SubjectKey) -> BTreeSet<Entry> {
        let mut entries = self.asked.entries(self.ledger, key);
        let many = entries.len() > MANY;
        entries.retain(|e| self.power_alone(key, *e, many).own >= self.priority);
        entries.into_iter().collect()
    }
}

/// Entries as bindings that apply to the subject; the second value tells whether it is named itself.
fn holdings(key: SubjectKey, entries: &[Entry]) -> Vec<(RowId, bool)> {
    let mut out: Vec<(RowId, bool)> = Vec::with_capacity(entries.len());
    for (binding, named) in entries {
        match out.iter_mut().find(|(b, _)| b == binding) {
            Some(known) => known.1 |= *named == key,
            None => out.push((*binding, *named == key)),
        }
    }
    out
}

impl Asked {
    /// See [`Ledger::entries_of`]. To sort many takes longer than to judge them, so these are kept.
    pub(super) fn entries(&self, ledger: &Ledger, key: SubjectKey) -> Vec<Entry> {
        if let Some(known) = self.entries.borrow().get(&key) {
            return known.clone();
        }
        let entries = ledger.entries_of(key);
        if entries.len() > MANY {
            self.entries.borrow_mut().insert(key, entries.clone());
        }
        entries
    }

    /// Of those to whom an edge of `source` to this set leads the ones that hold a priority, strongest first,
    /// then by name.
    fn members(
        &self,
        ledger: &Ledger,
        to: ToKey,
        source: SubjectKey,
        least: Priority,
    ) -> Strongest {
        let fresh = || {
            let mut members: Vec<(Priority, SubjectKey, RowId)> = ledger
                .set_members_at(to, source, least)
                .into_iter()
                .filter_map(|m| ledger.subjects.get(m).map(|r| (r.effective, r.key, m)))
                .collect();
            members.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| ledger.order(a.1, b.1)));
            Rc::new(members.into_iter().map(|(.., m)| m).collect::<Vec<_>>())
        };
        if matches!(to, ToKey::OwnNodeTokens(_)) {
            return fresh();
        }
        let known = self.strongest.borrow().get(&(to, least)).cloned();
        known.unwrap_or_else(|| {
            let members = fresh();
            self.strongest
                .borrow_mut()
                .insert((to, least), members.clone());
            members
        })
    }
}

impl Ledger {
    /// Whom bindings name that apply to a subject: itself, then its implicit groups.
    pub(super) fn names_of(&self, key: SubjectKey) -> Vec<SubjectKey> {
        let groups = implicit_groups(&self.subject(key));
        let groups = groups.iter().filter_map(|g| self.names.get(g));
        let keys = std::iter::once(key).chain(groups.map(SubjectKey::Group));
        keys.collect()
    }

    /// The entries that apply to a subject: those that name it, then those that name its implicit
    /// groups; by the names of the bindings.
    pub(super) fn entries_of(&self, key: SubjectKey) -> Vec<Entry> {
        let mut out = Vec::new();
        for key in self.names_of(key) {
            let from = out.len();
            out.extend(self.entries_naming(key));
            out[from..].sort_by(|a: &Entry, b: &Entry| {
                let at = |id: RowId| {
                    let (namespace, name) = self.bindings.key(id);
                    (self.names.text(namespace), self.names.text(name))
                };
                at(a.0).cmp(&at(b.0))
            });
        }
        out
    }

    fn entries_naming(&self, key: SubjectKey) -> impl Iterator<Item = Entry> {
        let row = self.subjects.find(key).and_then(|id| self.subjects.get(id));
        let bindings = row.into_iter().flat_map(|row| &row.bindings);
        bindings.map(move |binding| (*binding, key))
    }

    /// Of which sort an entry is by itself; `None` where what it gives may depend on where it lies.
    fn sort(&self, of: SubjectKey, (binding, named): Entry) -> Option<Sort> {
        let (namespace, _) = self.bindings.key(binding);
        let role = self.role_of(binding)?;
        let row = self.roles.get(role)?;
        let reaches = &*row.reaches;
        let catalogue = self.catalogue();
        let place = self.names.text(namespace);
        let placed = namespace == Sym::EMPTY
            || row.depends
            || depends_on_place(catalogue, reaches, place)
            || about_bindings(&self.subject(of));
        (!placed).then(|| Sort {
            of,
            direct: named == of,
            reaches,
            role: may_rewrite_roles(catalogue, reaches).then_some(role),
        })
    }

    fn grants_anything(&self, binding: RowId) -> bool {
        let role = self.role_of(binding).and_then(|r| self.roles.get(r));
        role.is_some_and(|r| !r.reaches.is_empty())
    }

    /// Its priority rests on what implicit groups hold, and on nothing that names it: then the group's
    /// own series is the page (contract §5).
    pub(in crate::ledger) fn rests_on_groups(&self, id: RowId) -> bool {
        let Some(row) = self.subjects.get(id) else {
            return false;
        };
        if row.bindings.is_empty() {
            return !matches!(row.key, SubjectKey::Group(_)) || row.effective > row.own;
        }
        let groups = self.names_of(row.key).into_iter().skip(1);
        let groups: Vec<Entry> = groups.flat_map(|key| self.entries_naming(key)).collect();
        if !groups.iter().any(|(b, _)| self.grants_anything(*b)) {
            return false;
        }
        let direct = self.entries_naming(row.key).collect();
        let asked = Asked::default();
        let holds_by = |entries: Vec<Entry>| {
            let less = Less::nothing(self, &asked, row.effective);
            less.only(id, entries, true).holds(id)
        };
        holds_by(groups) && !holds_by(direct)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::stage::{NOW, Stage};
    use super::*;

    const RBAC: &str = "rbac.authorization.k8s.io";

    /// Halves that only together are something, in one namespace, and what depends on where it is.
    const ROLES: [(&str, &str); 13] = [
        ("harmless", "get | core | configmaps"),
        ("reads", "get | core | secrets"),
        ("reads-one", "get | core | secrets | one"),
        ("mints", "create | core | serviceaccounts/token"),
        ("binds", "bind | RBAC | clusterroles"),
        ("writes", "create | RBAC | rolebindings"),
        ("binds-roles", "bind | RBAC | roles"),
        ("escalates", "escalate | RBAC | roles"),
        ("rewrites", "update | RBAC | roles | local"),
        ("labels", "patch | core | namespaces"),
        ("labels-one", "patch | core | namespaces | n-07"),
        ("all-of-apps", "* | apps | *"),
        ("rewrites-one", "escalate,update | RBAC | roles | local"),
    ];

    /// A group in 45 namespaces, by a few roles in each.
    fn stage(next: &mut impl FnMut(usize) -> usize) -> Stage {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[1]);
        s.bind("root", "admin", &["sa:n-03/strong", "sa:n-20/strong"], &[1]);
        for (name, rule) in ROLES {
            s.role(name, &[&rule.replace("RBAC", RBAC)], &[1]);
        }
        for n in 0..45 {
            let place = match n {
                0 => "kube-system".to_owned(),
                n => format!("n-{n:02}"),
            };
            for account in ["strong", "weak"] {
                s.account(&format!("{place}/{account}"), NOW);
            }
            s.role(&format!("{place}/local"), &["get | core | pods"], &[1]);
            for b in 0..1 + next(3) {
                let role = match next(ROLES.len() + 1) {
                    13 => "./local",
                    at => ROLES[at].0,
                };
                s.bind(&format!("{place}/b{b}"), role, &["group:g"], &[1]);
            }
        }
        if next(2) == 0 {
            let role = ROLES[next(ROLES.len())].0;
            s.bind("everywhere", role, &["group:g"], &[1]);
        }
        s.settle();
        s
    }

    #[test]
    fn what_is_judged_in_one_namespace_of_each_kind_is_what_is_judged_in_all() {
        let (mut proofs, mut none) = (0, 0);
        for seed in 1..=40_u64 {
            let mut state = seed;
            let mut next = move |below: usize| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(seed | 1);
                (state >> 33) as usize % below
            };
            let ledger = stage(&mut next).ledger;
            let group = ledger.names.get("g").expect("a known name");
            let key = SubjectKey::Group(group);
            let id = ledger.subjects.find(key).expect("a known subject");
            let asked = Asked::default();
            let entries = asked.entries(&ledger, key);
            assert!(entries.len() > MANY);
            for priority in Priority::RISKY {
                let less = Less::nothing(&ledger, &asked, priority);
                for entry in &entries {
                    let anew = less.power_anew(key, &[*entry]);
                    let power = less.power_by(key, *entry);
                    assert_eq!((anew.own, &*anew.edges), (power.own, &*power.edges));
                }
                let mut gone: BTreeSet<Entry> = entries.iter().copied().collect();
                gone.retain(|e| less.proof_by(id, *e).is_some() || next(9) == 0);
                let left: Vec<Entry> = entries
                    .iter()
                    .filter(|e| !gone.contains(e))
                    .copied()
                    .collect();
                let less = less.with(gone);
                let Some(joined) = less.joined(key, &left) else {
                    continue;
                };
                let proof = less.proof(id);
                let found = less.proof_by_several(id, key, &joined);
                assert_eq!(found, proof, "{priority:?} {seed}");
                match proof {
                    Some(_) => proofs += 1,
                    None => none += 1,
                }
            }
        }
        assert!(proofs > 20 && none > 20, "{proofs} {none}");
    }
}
