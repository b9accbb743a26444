//! Since when a subject holds its priority (contract §5).
//!
//! `since(S, p)` is the minimum over the ways in which S holds p of the moment the way became whole:
//! the maximum over its pieces. The pieces of a subject's own findings are its bindings and their
//! roles; as more bindings never take a finding away, the moment a finding became whole is the
//! earliest time at which the bindings whole by then give it. [`first_times`] finds that by halving.
//! Paths are settled in order of time, the earliest first: a minimum over paths of a maximum along them.

use super::accepted::Answered;
use super::graph::{self, members_are_listed};
use super::names::Sym;
use super::rows::{EdgeRow, SubjectKey, SubjectRow, Times, ToKey};
use super::settle::edge_row;
use super::table::{Map, RowId};
use super::{Dirty, Ledger};
use crate::object::{Meta, Subject};
use crate::rbac::implicit_groups;
use crate::risk::{Assessment, Edge, Finding, Priority, Scope, Status, joined};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Unix seconds; 0 stands for a time that no object tells.
pub(crate) type Moment = u32;

/// For each priority, since when the own findings reach it or more; `None` where they do not.
pub(crate) type OwnSince = [Option<Moment>; 5];

/// Of i64 seconds, as objects have them.
pub(crate) fn moment(seconds: i64) -> Moment {
    Moment::try_from(seconds.max(0)).unwrap_or(Moment::MAX)
}

impl Times {
    /// Reads an object's times at the time of day; 0 is no time of day. A change before creation or
    /// in the future is forged or of a clock gone wrong. It is ignored by itself: one made-up entry
    /// must not hide the change that another tells.
    pub(crate) fn of(meta: &Meta, now: i64) -> Times {
        let earliest = meta.created.unwrap_or(i64::MIN);
        let latest = if now == 0 { i64::MAX } else { now };
        let (honest, made_up): (Vec<i64>, Vec<i64>) = meta
            .history
            .iter()
            .partition(|at| (earliest..=latest).contains(*at));
        let changed = honest.iter().copied().max();
        Times {
            whole: meta.created.map_or(0, |c| moment(changed.unwrap_or(c))),
            without_history: honest.is_empty() || !made_up.is_empty(),
        }
    }
}

/// What a subject holds, each with the moment from which on it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinceOwn {
    /// Its findings.
    pub(crate) own: OwnSince,
    /// Its edges, in the order of the assessment's.
    pub(crate) edges: Box<[Moment]>,
    /// Edges that it had before a wider grant took their place: the narrow way is older and still open.
    /// Each with the priority up to which somebody answers for it.
    pub(crate) narrower: Box<[(Edge, Moment, Priority)]>,
}

/// A binding that applies to a subject, and whether it names it, with when it was whole.
type Timed = (Moment, (RowId, bool));

/// When something was first there.
#[derive(Debug, Default, PartialEq, Eq)]
struct FirstTimes {
    /// From when on nothing was looked for.
    until: Option<Moment>,
    /// Each level of findings.
    own: OwnSince,
    /// Each level of findings that nobody answers for.
    open: OwnSince,
    edges: BTreeMap<Edge, Moment>,
}

/// Adds when each finding level and edge of `whole` was first there. `at(i)` judges with the bindings
/// whole by `times[i]`; the times rise, and the last one gives `whole`.
fn first_times(
    first: &mut FirstTimes,
    times: &[Moment],
    whole: &Assessment,
    answered: &dyn Fn(&Finding) -> bool,
    at: &dyn Fn(usize) -> Assessment,
) {
    let FirstTimes {
        own, open, edges, ..
    } = first;
    let mut note = |judged: &Assessment, time: Moment| {
        let unanswered = judged.findings.iter().filter(|f| !answered(f));
        let unanswered = unanswered.map(|f| f.priority).max().unwrap_or_default();
        for (level, since) in [(judged.own(), &mut *own), (unanswered, &mut *open)] {
            for p in Priority::RISKY {
                if p <= level && since[p as usize].is_none_or(|known| known > time) {
                    since[p as usize] = Some(time);
                }
            }
        }
        for edge in &judged.edges {
            match edges.get_mut(edge) {
                Some(known) => *known = time.min(*known),
                None => {
                    edges.insert(edge.clone(), time);
                }
            }
        }
    };
    let first = at(0);
    note(&first, times[0]);
    // intervals whose ends differ hold a change
    let mut halves = vec![(0, first, times.len() - 1, whole.clone())];
    while let Some((lo, a, hi, b)) = halves.pop() {
        if lo == hi || a.same_power(&b) {
            continue;
        }
        if hi == lo + 1 {
            note(&b, times[hi]);
            continue;
        }
        let mid = usize::midpoint(lo, hi);
        let m = at(mid);
        halves.push((lo, a, mid, m.clone()));
        halves.push((mid, m, hi, b));
    }
}

impl Ledger {
    /// When a binding and its role were both as they are.
    fn whole_since(&self, binding: RowId) -> Moment {
        let own = self
            .bindings
            .get(binding)
            .map(|b| b.times.whole)
            .unwrap_or_default();
        let role = self.role_of(binding).and_then(|id| self.roles.get(id));
        own.max(role.map(|r| r.times.whole).unwrap_or_default())
    }

    /// Since when a subject holds what it holds, and what of it somebody answers for.
    pub(super) fn since_own(
        &self,
        key: SubjectKey,
        whole: &Assessment,
    ) -> (SinceOwn, Option<Box<Answered>>) {
        if whole.findings.is_empty() && whole.edges.is_empty() {
            return Default::default();
        }
        let subject = self.subject(key);
        let all = self.bindings_of(&subject, key);
        let answers = self.answers(&subject, &all, whole);
        let catalogue = &self.policy.catalogue;
        let answered =
            |f: &Finding| answers.finding(catalogue, f.rule, f.scope.as_str()) >= f.priority;
        // rules about a binding itself look at harmless roles too
        let about_bindings =
            !matches!(subject, Subject::ServiceAccount { ref name, .. } if name != "default");
        let matters = |b: &RowId| {
            let role = self.role_of(*b).and_then(|id| self.roles.get(id));
            about_bindings || role.is_none_or(|r| !r.reaches.is_empty())
        };
        let mut timed: Vec<Timed> = all
            .iter()
            .filter(|(b, _)| matters(b))
            .map(|b| (self.whole_since(b.0), *b))
            .collect();
        timed.sort_by_key(|(time, _)| *time);
        let FirstTimes {
            until,
            own,
            open,
            edges: mut first_edges,
        } = self.first_times(&subject, &timed, whole, &answered);
        let since = SinceOwn {
            own,
            edges: whole
                .edges
                .iter()
                .map(|e| first_edges.remove(e).or(until).unwrap_or_default())
                .collect(),
            narrower: first_edges
                .into_iter()
                .map(|(edge, at)| {
                    let up_to = answers.edge(catalogue, whole, &edge);
                    (edge, at, up_to)
                })
                .collect(),
        };
        (since, answers.kept(catalogue, whole, open))
    }

    /// When what a subject holds by these bindings was first there.
    ///
    /// No way is older than the subject's own findings once these are critical and nobody answers for them: from
    /// then on nothing is looked for. Else a cluster-admin with grants in a thousand namespaces, who may bind any
    /// Role in each, would be judged a thousand times for times that nobody asks for.
    fn first_times(
        &self,
        subject: &Subject,
        timed: &[Timed],
        whole: &Assessment,
        answered: &dyn Fn(&Finding) -> bool,
    ) -> FirstTimes {
        let unanswered = |judged: &Assessment| {
            let open = judged.findings.iter().filter(|f| !answered(f));
            open.map(|f| f.priority).max() == Some(Priority::Critical)
        };
        let critical = |(_, (b, _)): &&Timed| self.binding_gives(*b) == Some(Priority::Critical);
        let last = timed.last().map(|(time, _)| *time);
        let until = timed.iter().find(critical).map(|(time, _)| *time);
        if let Some(until) = until.filter(|time| Some(*time) != last && unanswered(whole)) {
            let by = |time: Moment| timed.partition_point(|(at, _)| *at <= time);
            let judged = |timed: &[Timed]| {
                let bindings: Vec<(RowId, bool)> = timed.iter().map(|(_, b)| *b).collect();
                self.judgement_with(subject, &bindings, false).0
            };
            let then = judged(&timed[..by(until)]);
            if unanswered(&then) {
                let earlier = &timed[..timed.partition_point(|(at, _)| *at < until)];
                let mut first = FirstTimes::default();
                if !earlier.is_empty() {
                    first = self.first_times_among(subject, earlier, &judged(earlier), answered);
                }
                first_times(&mut first, &[until], &then, answered, &|_| then.clone());
                first.until = Some(until);
                return first;
            }
        }
        self.first_times_among(subject, timed, whole, answered)
    }

    /// Whoever is bound in a thousand namespaces at a thousand times is not judged a thousand times in all of them:
    /// namespaces that do not hang together have times of their own.
    fn first_times_among(
        &self,
        subject: &Subject,
        timed: &[Timed],
        whole: &Assessment,
        answered: &dyn Fn(&Finding) -> bool,
    ) -> FirstTimes {
        let place = |(_, (binding, _)): &Timed| self.bindings.key(*binding).0;
        let places: BTreeSet<Sym> = timed.iter().map(place).collect();
        let together = (places.len() > 2)
            .then(|| {
                let bindings: Vec<(RowId, bool)> = timed.iter().map(|(_, b)| *b).collect();
                let held = self.held(subject, &bindings);
                joined(&self.policy.catalogue, subject, &held)
            })
            .flatten();
        self.first_times_of(subject, timed, whole, answered, together)
    }

    /// When what a subject holds by these bindings was first there. Given the namespaces that hang together,
    /// all others are looked at one by one.
    fn first_times_of(
        &self,
        subject: &Subject,
        timed: &[Timed],
        whole: &Assessment,
        answered: &dyn Fn(&Finding) -> bool,
        together: Option<BTreeSet<Arc<str>>>,
    ) -> FirstTimes {
        let mut first = FirstTimes::default();
        let mut note = |timed: &[Timed], whole: &Assessment, scopes: &dyn Fn(&Scope) -> bool| {
            let mut times: Vec<Moment> = timed.iter().map(|(t, _)| *t).collect();
            times.dedup();
            if times.is_empty() {
                times.push(0); // system:masters that only an edge names
            }
            let at = |i: usize| {
                if i + 1 == times.len() {
                    return whole.clone();
                }
                let by = timed.partition_point(|(t, _)| *t <= times[i]);
                let keep: Vec<(RowId, bool)> = timed[..by].iter().map(|(_, b)| *b).collect();
                self.judgement_with(subject, &keep, false).0.at(scopes)
            };
            first_times(&mut first, &times, whole, answered, &at);
        };
        let Some(together) = together else {
            note(timed, whole, &|_| true);
            return first;
        };
        let mut alone: Map<Sym, Vec<Timed>> = Map::default();
        let (mut everywhere, mut joined) = (Vec::new(), Vec::new());
        for binding in timed {
            match self.bindings.key(binding.1.0).0 {
                Sym::EMPTY => {
                    everywhere.push(*binding);
                    joined.push(*binding);
                }
                ns if together.contains(self.names.text(ns)) => joined.push(*binding),
                ns => alone.entry(ns).or_default().push(*binding),
            }
        }
        if !joined.is_empty() {
            let scopes = |scope: &Scope| match scope {
                Scope::Cluster => true,
                Scope::Namespace(ns) => together.contains(ns),
            };
            note(&joined, &whole.clone().at(&scopes), &scopes);
        }
        let mut parts = whole.by_scope();
        for (namespace, mut here) in alone {
            here.extend(&everywhere);
            here.sort_by_key(|(time, _)| *time);
            let scope = self.scope(namespace);
            let part = parts.remove(&scope).unwrap_or_default();
            note(&here, &part, &|s| *s == scope);
        }
        first
    }

    /// What the shipped pairs of an open subject give, when others add to it, and the highest priority
    /// recorded for them: those ways are answered for. `None` for a subject that nothing else adds to: it
    /// is builtin, and its ways are all there are.
    pub(super) fn covered_base(
        &self,
        subject: &Subject,
        all: &[(RowId, bool)],
        whole: &Assessment,
    ) -> Option<(Assessment, Priority)> {
        let listed: Vec<(RowId, bool)> = all
            .iter()
            .filter(|(b, direct)| {
                if *direct {
                    return self.listed_pair(*b, subject).is_some();
                }
                implicit_groups(subject)
                    .into_iter()
                    .any(|g| self.listed_pair(*b, &Subject::Group { name: g }).is_some())
            })
            .copied()
            .collect();
        let recorded = listed
            .iter()
            .filter(|(_, direct)| *direct)
            .filter_map(|(b, _)| self.listed_pair(*b, subject))
            .max()?;
        if listed.len() == all.len() {
            return None;
        }
        let base = self.judgement_with(subject, &listed, false).0;
        (base.own() <= recorded && !whole.within(&base)).then_some((base, recorded))
    }
}

/// What waits in the queue: a subject, with the one that its way leads to, or a set and the member that
/// reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Subject(RowId, Option<RowId>),
    Key(ToKey, RowId),
    Listed(usize, RowId),
}

/// An edge that waits for a set to be reached.
#[derive(Clone, Copy, Debug)]
struct Wait {
    subject: RowId,
    since: Moment,
    /// Which pair it is half of, for an edge that takes an identity beside.
    pair: Option<usize>,
}

/// A subject in the order of time.
#[derive(Clone, Copy, Debug)]
struct Reached {
    at: Moment,
    /// Whom its earliest way leads to; `None` for its own findings.
    by: Option<RowId>,
}

/// Since when each of these subjects, which have that effective priority, holds it: an open one by the ways
/// that nobody answers for, the others by all.
pub(crate) fn since(ledger: &Ledger, priority: Priority, of: &[RowId]) -> Map<RowId, Moment> {
    let among = led_to(ledger, priority, of);
    let all = by_ways(ledger, priority, among.as_ref(), None);
    let mut known = Map::default();
    let here = of.iter().filter_map(|id| {
        let row = ledger.subjects.get(*id)?;
        Some((*id, row, all.get(id)?.at))
    });
    here.map(|(id, row, at)| {
        let answered = row
            .answered
            .as_deref()
            .filter(|_| row.status == Status::Open);
        let open = answered.and_then(|a| {
            open_since(
                ledger,
                priority,
                (id, row),
                a,
                among.as_ref(),
                &all,
                &mut known,
            )
        });
        // open for something below this priority, which it has only by ways that are answered for:
        // their time is better than none
        (id, open.unwrap_or(at))
    })
    .collect()
}

/// The earliest two members of a set.
type Firsts = [Option<(Moment, RowId)>; 2];

/// When the first way was whole that nobody answers for and that does not lead through the subject itself.
fn open_since(
    ledger: &Ledger,
    priority: Priority,
    (id, row): (RowId, &SubjectRow),
    answered: &Answered,
    among: Option<&Dirty<RowId>>,
    all: &Map<RowId, Reached>,
    known: &mut Map<ToKey, Firsts>,
) -> Option<Moment> {
    let nothing = SinceOwn::default();
    let ways = row.since_own.get().unwrap_or(&nothing);
    let held = row.edges.iter().zip(&ways.edges).zip(&answered.edges);
    let held = held.map(|((edge, at), up_to)| (*edge, *at, *up_to));
    let narrower = ways.narrower.iter().filter_map(|(edge, at, up_to)| {
        Some((
            edge_row(edge, ledger.settings.without_pods, |n| ledger.names.get(n))?,
            *at,
            *up_to,
        ))
    });
    let edges: Vec<(EdgeRow, Moment)> = held
        .chain(narrower)
        .filter(|(edge, _, up_to)| edge.cap >= priority && *up_to < priority)
        .map(|(edge, at, _)| (edge, at))
        .collect();
    let through_itself = |member: RowId| {
        let mut at = Some(member);
        let mut steps = 0..=all.len();
        while let Some(here) = at.filter(|_| steps.next().is_some()) {
            if here == id {
                return true;
            }
            at = all.get(&here).and_then(|r| r.by);
        }
        false
    };
    let mut without: Option<Map<RowId, Reached>> = None;
    let mut best = answered.own[priority as usize];
    for (edge, since) in edges {
        let mut whole = Some(since);
        for to in [Some(edge.to), edge.gate].into_iter().flatten() {
            let firsts = match to {
                ToKey::OwnNodeTokens(_) => firsts(ledger, to, row.key, all),
                _ => *known
                    .entry(to)
                    .or_insert_with(|| firsts(ledger, to, row.key, all)),
            };
            let mut first = firsts.into_iter().flatten().find(|(_, m)| *m != id);
            if first.is_some_and(|(_, member)| through_itself(member)) {
                let without =
                    without.get_or_insert_with(|| by_ways(ledger, priority, among, Some(id)));
                first = self::firsts(ledger, to, row.key, without)[0];
            }
            whole = whole.and_then(|w| Some(w.max(first?.0)));
        }
        best = [best, whole].into_iter().flatten().min();
    }
    best
}

/// The two members of a set that had the priority first, each from when on an edge to the set leads there.
fn firsts(ledger: &Ledger, to: ToKey, source: SubjectKey, all: &Map<RowId, Reached>) -> Firsts {
    let needs_account = !matches!(to, ToKey::Identities(_) | ToKey::Identity(..));
    let mut out: Firsts = [None; 2];
    for id in ledger.set_members(to, source) {
        let Some(reached) = all.get(&id) else {
            continue;
        };
        let at = match ledger.subjects.get(id).map(|r| r.key) {
            Some(SubjectKey::Account(ns, name)) if needs_account => {
                reached.at.max(ledger.account_moment(ns, name))
            }
            _ => reached.at,
        };
        let mut here = Some((at, id));
        for slot in &mut out {
            if slot.is_none_or(|s| here.is_some_and(|h| h < s)) {
                std::mem::swap(slot, &mut here);
            }
        }
    }
    out
}

/// The subjects of `priority` or more that ways of these lead through, themselves included: whatever else
/// there is has no say in their times. `None` when that is no small part.
fn led_to(ledger: &Ledger, priority: Priority, of: &[RowId]) -> Option<Dirty<RowId>> {
    let most = ledger.subjects.bound() / 16;
    let mut seen: Dirty<RowId> = of.iter().copied().collect();
    let mut sets: std::collections::HashSet<ToKey, foldhash::fast::RandomState> =
        Default::default();
    let mut open: Vec<RowId> = of.to_vec();
    while let Some(id) = open.pop() {
        if seen.len() > most {
            return None;
        }
        let Some(row) = ledger.subjects.get(id) else {
            continue;
        };
        for (edge, _) in ways_on(ledger, row, priority) {
            for to in [Some(edge.to), edge.gate].into_iter().flatten() {
                if everywhere(to) {
                    return None;
                }
                let own_nodes = matches!(to, ToKey::OwnNodeTokens(_));
                if !own_nodes && !sets.insert(to) {
                    continue;
                }
                for member in ledger.set_members(to, row.key) {
                    let strong = ledger.subjects.get(member);
                    if strong.is_some_and(|r| r.effective >= priority) && seen.insert(member) {
                        open.push(member);
                    }
                }
            }
        }
    }
    Some(seen)
}

/// The set has members in every namespace. One of a name has few, and one whose members are listed.
fn everywhere(to: ToKey) -> bool {
    match to {
        ToKey::Accounts(s) | ToKey::Identities(s) | ToKey::PodTokens(s) => s == Sym::STAR,
        ToKey::User(_)
        | ToKey::Account(..)
        | ToKey::Identity(..)
        | ToKey::Group(_)
        | ToKey::OwnNodeTokens(_)
        | ToKey::SecretOwners(_)
        | ToKey::Reaim(_)
        | ToKey::PodTokensOf(..)
        | ToKey::NodeTokens(..)
        | ToKey::SecretOwnersOf(..)
        | ToKey::ReaimOf(..) => false,
    }
}

/// The edges of a subject, those that a wider grant took the place of included, each with when it was whole.
///
/// Those that are no older than its own findings of the priority are left out: no way through them is, either.
fn ways_on<'a>(
    ledger: &'a Ledger,
    row: &'a SubjectRow,
    priority: Priority,
) -> impl Iterator<Item = (EdgeRow, Moment)> + 'a {
    let ways = row.since_own.get();
    let own = ways.and_then(|ways| ways.own[priority as usize]);
    let since = ways.into_iter().flat_map(|ways| ways.edges.iter().copied());
    let held = row.edges.iter().copied().zip(since);
    // a name that nothing else has any more leads to nobody
    let without_pods = ledger.settings.without_pods;
    let row_of = move |edge| edge_row(edge, without_pods, |name| ledger.names.get(name));
    let narrower = ways.into_iter().flat_map(|ways| &ways.narrower);
    let narrower = narrower.filter_map(move |(edge, since, _)| Some((row_of(edge)?, *since)));
    let all = held.chain(narrower);
    all.filter(move |(edge, since)| edge.cap >= priority && own.is_none_or(|own| *since < own))
}

/// Since when each subject holds `priority` or more by any way; looking at some alone, which lead to nobody
/// else, and `without` one of them.
fn by_ways(
    ledger: &Ledger,
    priority: Priority,
    among: Option<&Dirty<RowId>>,
    without: Option<RowId>,
) -> Map<RowId, Reached> {
    let subjects = &ledger.subjects;
    let mut waiting: Map<ToKey, Vec<Wait>> = Map::default();
    let mut listed: Vec<Vec<Wait>> = Vec::new();
    // edges that take two: has one of the two been reached?
    let mut halves: Vec<bool> = Vec::new();
    let mut member_of: Map<RowId, Vec<usize>> = Map::default();
    let mut list_of: Map<ToKey, usize> = Map::default();
    let mut queue: BinaryHeap<Reverse<(Moment, Next)>> = BinaryHeap::new();
    let some = among.into_iter().flatten();
    let some = some.filter_map(|id| Some((*id, subjects.get(*id)?)));
    let all = among
        .is_none()
        .then(|| subjects.iter())
        .into_iter()
        .flatten();
    for (id, row) in some.chain(all) {
        if row.effective < priority || without == Some(id) {
            continue;
        }
        let own = row.since_own.get();
        if let Some(time) = own.and_then(|own| own.own[priority as usize]) {
            queue.push(Reverse((time, Next::Subject(id, None))));
        }
        for (edge, since) in ways_on(ledger, row, priority) {
            let pair = edge.gate.map(|_| {
                halves.push(false);
                halves.len() - 1
            });
            let wait = Wait {
                subject: id,
                since,
                pair,
            };
            for to in [Some(edge.to), edge.gate].into_iter().flatten() {
                if !members_are_listed(to) {
                    waiting.entry(to).or_default().push(wait);
                    continue;
                }
                let own_nodes = matches!(to, ToKey::OwnNodeTokens(_));
                let known = (!own_nodes).then(|| list_of.get(&to).copied()).flatten();
                let at = known.unwrap_or_else(|| {
                    listed.push(Vec::new());
                    let at = listed.len() - 1;
                    for member in ledger.live.members(ledger, to, row.key).iter() {
                        member_of.entry(*member).or_default().push(at);
                    }
                    if !own_nodes {
                        list_of.insert(to, at);
                    }
                    at
                });
                listed[at].push(wait);
            }
        }
    }
    let pod_sets = waiting.keys().any(|k| matches!(k, ToKey::PodTokens(_)));
    let lends = |(namespace, account)| pod_sets && ledger.lends_token(namespace, account);
    let mut out: Map<RowId, Reached> = Map::default();
    while let Some(Reverse((time, next))) = queue.pop() {
        let (reached, by) = match next {
            Next::Subject(id, by) => {
                if out.contains_key(&id) {
                    continue;
                }
                out.insert(id, Reached { at: time, by });
                let Some(row) = subjects.get(id) else {
                    continue;
                };
                // a token can only be had once the account is there
                let there = match row.key {
                    SubjectKey::Account(ns, name) => time.max(ledger.account_moment(ns, name)),
                    _ => time,
                };
                graph::keys_of(row.key, row.exists, lends, |key| {
                    if waiting.contains_key(&key) {
                        let needs_account =
                            !matches!(key, ToKey::Identities(_) | ToKey::Identity(..));
                        let at = if needs_account { there } else { time };
                        queue.push(Reverse((at, Next::Key(key, id))));
                    }
                });
                for at in member_of.get(&id).into_iter().flatten() {
                    queue.push(Reverse((there, Next::Listed(*at, id))));
                }
                continue;
            }
            Next::Key(key, by) => (waiting.remove(&key), by),
            Next::Listed(at, by) => (Some(std::mem::take(&mut listed[at])), by),
        };
        for wait in reached.into_iter().flatten() {
            if let Some(pair) = wait.pair
                && !std::mem::replace(&mut halves[pair], true)
            {
                continue;
            }
            if !out.contains_key(&wait.subject) {
                let next = Next::Subject(wait.subject, Some(by));
                queue.push(Reverse((time.max(wait.since), next)));
            }
        }
    }
    out
}

impl Ledger {
    fn account_moment(&self, namespace: Sym, name: Sym) -> Moment {
        let row = self
            .accounts
            .find(namespace, name)
            .and_then(|id| self.accounts.get(id));
        row.and_then(|r| r.created).map(moment).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{DAY, NOW, Stage};
    use super::*;
    use crate::object::Resource;
    use crate::risk::Status;
    use std::cell::RefCell;

    const ADMIN: &[&str] = &["* | * | *"];
    const YEAR: i64 = 365 * DAY;
    const OLD: i64 = NOW - YEAR;

    /// What a new exporter says of the same objects: everything seen before the first judgement.
    fn seen_by(fill: impl FnOnce(&mut Stage)) -> Stage {
        let mut stage = Stage::new();
        fill(&mut stage);
        stage.settle();
        stage
    }

    /// Subjects that are bound here and there, at any time, to roles of any kind: looking at each namespace
    /// apart finds the same times as looking at all of them together.
    #[test]
    fn namespaces_apart_have_the_times_that_they_have_together() {
        const ROLES: [(&str, &[&str]); 12] = [
            ("harmless", &["get | core | configmaps"]),
            ("deploy", &["create | core | pods"]),
            ("secrets", &["get,list | core | secrets"]),
            ("tokens", &["create | core | serviceaccounts/token"]),
            ("one-token", &["create | core | serviceaccounts/token | a"]),
            ("mint", &["create | core | secrets"]),
            ("admin", ADMIN),
            (
                "bind",
                &["bind | rbac.authorization.k8s.io | clusterroles | admin"],
            ),
            (
                "binder",
                &["create | rbac.authorization.k8s.io | rolebindings"],
            ),
            ("everything-but", &["* | core | *"]),
            (
                "constrained",
                &[
                    "impersonate:serviceaccount | authentication.k8s.io | serviceaccounts",
                    "impersonate-on:serviceaccount:get | core | secrets",
                ],
            ),
            (
                "become",
                &["impersonate | core | groups", "impersonate | core | users"],
            ),
        ];
        let (mut apart, mut together) = (0, 0);
        for seed in 0..150_u64 {
            let mut state = seed;
            let mut roll = |n: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % n) as usize
            };
            let mut s = Stage::new();
            for (name, rules) in ROLES {
                s.role(name, rules, &[OLD + roll(50) as i64]);
            }
            for i in 0..24 {
                let place = roll(6);
                let prefix = if place == 0 {
                    String::new()
                } else {
                    format!("n{place}/")
                };
                let role = ROLES[roll(ROLES.len() as u64)].0;
                let who = ["user:u", "group:g", "sa:n1/a", "sa:n2/default"][roll(4)];
                s.bind(
                    &format!("{prefix}b{i}"),
                    role,
                    &[who],
                    &[OLD + roll(40) as i64],
                );
            }
            s.settle();
            for (_, row) in s.ledger.subjects.iter() {
                let ledger = &s.ledger;
                let subject = ledger.subject(row.key);
                let all = ledger.bindings_of(&subject, row.key);
                let mut timed: Vec<_> = all.iter().map(|b| (ledger.whole_since(b.0), *b)).collect();
                timed.sort_by_key(|(time, _)| *time);
                let whole = ledger.judgement(row.key, false).0;
                let times =
                    |some| ledger.first_times_of(&subject, &timed, &whole, &|_| false, some);
                let some = joined(ledger.catalogue(), &subject, &ledger.held(&subject, &all));
                apart += usize::from(some.as_ref().is_some_and(BTreeSet::is_empty));
                together += usize::from(some.as_ref().is_some_and(|s| !s.is_empty()));
                assert_eq!(times(some), times(None), "{seed}: {subject:?}");
            }
        }
        assert!(
            apart > 20 && together > 20,
            "{apart} apart, {together} together"
        );
    }

    #[test]
    fn a_change_is_believed_between_creation_and_now() {
        let of = |created: Option<i64>, history: &[i64], now: i64| {
            let meta = Meta {
                created,
                history: history.into(),
                ..Default::default()
            };
            let times = Times::of(&meta, now);
            (i64::from(times.whole), times.without_history)
        };
        assert_eq!(of(Some(OLD), &[OLD, NOW - 5], NOW), (NOW - 5, false));
        assert_eq!(of(Some(OLD), &[OLD], NOW), (OLD, false));
        assert_eq!(of(Some(OLD), &[], NOW), (OLD, true), "emptied");
        assert_eq!(of(Some(OLD), &[NOW + 9], NOW), (OLD, true), "future");
        assert_eq!(of(Some(OLD), &[OLD - 9], NOW), (OLD, true), "before");
        let both = of(Some(OLD), &[NOW - 5, NOW + 9, OLD - 9], NOW);
        assert_eq!(both, (NOW - 5, true), "a forged entry hides no honest one");
        assert_eq!(of(None, &[], NOW), (0, true), "manifests");
        assert_eq!(of(Some(OLD), &[NOW + 9], 0), (NOW + 9, false), "no clock");
    }

    #[test]
    fn a_conjunction_is_whole_with_its_last_piece_and_one_of_two_ways_with_the_earlier() {
        const BIND: &str = "bind | rbac.authorization.k8s.io | clusterroles";
        const CREATE: &str = "create | rbac.authorization.k8s.io | clusterrolebindings";
        let stage = seen_by(|s| {
            s.role("bind", &[BIND], &[OLD]);
            s.role("create", &[CREATE], &[OLD + DAY]);
            s.role("admin", ADMIN, &[OLD]);
            s.bind("b1", "bind", &["user:pieces"], &[OLD + 3 * DAY]);
            s.bind("b2", "create", &["user:pieces"], &[OLD + 2 * DAY]);
            s.bind("b3", "admin", &["user:ways"], &[OLD + 5 * DAY]);
            s.bind("b4", "admin", &["user:ways"], &[OLD + 4 * DAY]);
            // a role that was changed after the binding was made
            s.role("edited", ADMIN, &[OLD, NOW - DAY]);
            s.bind("b5", "edited", &["user:edited"], &[OLD]);
        });
        let since = |who| stage.since(who, Priority::Critical);
        assert_eq!(since("user:pieces"), OLD + 3 * DAY);
        assert_eq!(since("user:ways"), OLD + 4 * DAY);
        assert_eq!(since("user:edited"), NOW - DAY);
    }

    #[test]
    fn an_edge_is_whole_with_itself_the_account_and_the_target() {
        // times of the deployer's binding, of the account, of what the account holds
        let deployer = |edge: i64, account: i64, target: i64| {
            let stage = seen_by(|s| {
                s.role("deploy", &["create | core | pods"], &[OLD]);
                s.role("admin", ADMIN, &[OLD]);
                s.bind("a/d", "deploy", &["user:deployer"], &[edge]);
                s.account("a/strong", account);
                s.bind("strong", "admin", &["sa:a/strong"], &[target]);
            });
            stage.since("user:deployer", Priority::Critical) - OLD
        };
        assert_eq!(deployer(OLD + 9, OLD, OLD), 9);
        assert_eq!(deployer(OLD, OLD + 9, OLD), 9);
        assert_eq!(deployer(OLD, OLD, OLD + 9), 9);
        assert_eq!(deployer(OLD + 1, OLD + 2, OLD + 3), 3);
        // whoever may impersonate the account needs it not to exist
        let stage = seen_by(|s| {
            let impersonate = ["impersonate | core | serviceaccounts | strong"];
            s.role("become", &impersonate, &[OLD]);
            s.role("admin", ADMIN, &[OLD]);
            s.bind("a/b", "become", &["user:x"], &[OLD + 1]);
            s.account("a/strong", NOW);
            s.bind("strong", "admin", &["sa:a/strong"], &[OLD + 2]);
        });
        assert_eq!(stage.since("user:x", Priority::Critical), OLD + 2);
    }

    #[test]
    fn a_path_is_as_old_as_its_youngest_piece_and_the_oldest_path_counts() {
        let stage = seen_by(|s| {
            s.role("admin", ADMIN, &[OLD]);
            s.role("deploy", &["create | core | pods"], &[OLD]);
            for (ns, at) in [("a", OLD + 7), ("b", OLD + 5)] {
                s.account(&format!("{ns}/strong"), OLD);
                let (name, to) = (format!("strong-{ns}"), format!("sa:{ns}/strong"));
                s.bind(&name, "admin", &[&to], &[at]);
                s.bind(&format!("{ns}/d"), "deploy", &["user:d"], &[OLD + 1]);
            }
        });
        assert_eq!(stage.since("user:d", Priority::Critical), OLD + 5);
    }

    #[test]
    fn a_wider_grant_does_not_make_the_narrow_way_new() {
        let stage = seen_by(|s| {
            s.role("admin", ADMIN, &[OLD]);
            s.account("a/strong", OLD);
            s.bind("strong", "admin", &["sa:a/strong"], &[OLD]);
            let named = ["create | core | serviceaccounts/token | strong"];
            s.role("named", &named, &[OLD]);
            s.role("any", &["create | core | serviceaccounts/token"], &[OLD]);
            s.bind("a/named", "named", &["user:minter"], &[OLD + 3]);
            s.bind("a/any", "any", &["user:minter"], &[NOW - 60]);
        });
        assert_eq!(stage.since("user:minter", Priority::Critical), OLD + 3);
    }

    #[test]
    fn of_an_open_subject_the_ways_of_shipped_pairs_do_not_count() {
        const KCM: &str = "system:kube-controller-manager";
        const WHO: &str = "user:system:kube-controller-manager";
        let with = |fill: &dyn Fn(&mut Stage)| {
            let stage = seen_by(|s| {
                s.role(KCM, &["create | core | serviceaccounts/token"], &[OLD]);
                s.bind(KCM, KCM, &[WHO], &[OLD]);
                // an edge of the pair leads here
                s.role("admin", ADMIN, &[OLD]);
                s.account("a/strong", OLD);
                s.bind("strong", "admin", &["sa:a/strong"], &[OLD]);
                fill(s);
            });
            let (priority, status, since) = stage.level(WHO);
            assert_eq!(priority, Priority::Critical);
            (status, since)
        };
        assert_eq!(with(&|_| {}), (Status::Builtin, OLD));
        let harmless = with(&|s| {
            s.role("reader", &["get | core | pods"], &[OLD]);
            s.bind("a/reader", "reader", &[WHO], &[NOW - 60]);
        });
        assert_eq!(harmless, (Status::Builtin, OLD));
        let by_finding = with(&|s| {
            s.role("pods", &["create | core | pods"], &[OLD]);
            s.bind("pods", "pods", &[WHO], &[NOW - 60]);
        });
        assert_eq!(by_finding, (Status::Open, NOW - 60));
        let by_edge = with(&|s| {
            let impersonate = ["impersonate | core | serviceaccounts | strong"];
            s.role("become", &impersonate, &[OLD]);
            s.bind("a/become", "become", &[WHO], &[NOW - 50]);
        });
        assert_eq!(by_edge, (Status::Open, NOW - 50));
        // open for something smaller: critical through the pair alone, and that since long ago
        let smaller = with(&|s| {
            s.role("secrets", &["get,list | core | secrets"], &[OLD]);
            s.bind("b/secrets", "secrets", &[WHO], &[NOW - 60]);
        });
        assert_eq!(smaller, (Status::Open, OLD));
    }

    #[test]
    fn a_way_through_a_builtin_subject_is_as_old_as_that() {
        const KCM: &str = "system:kube-controller-manager";
        const WHO: &str = "user:system:kube-controller-manager";
        let stage = seen_by(|s| {
            s.role(KCM, &["create | core | serviceaccounts/token"], &[OLD]);
            s.bind(KCM, KCM, &[WHO], &[OLD]);
            s.role("reader", &["get | core | pods"], &[OLD]);
            s.bind("a/reader", "reader", &[WHO], &[NOW - 60]);
            let impersonate = ["impersonate | core | users | system:kube-controller-manager"];
            s.role("become", &impersonate, &[OLD]);
            s.bind("become", "become", &["user:x"], &[OLD + 4]);
            s.role("admin", ADMIN, &[OLD]);
            s.bind("x", "admin", &["user:x"], &[NOW - 60]);
        });
        assert_eq!(stage.level(WHO).1, Status::Builtin);
        assert_eq!(stage.since("user:x", Priority::Critical), OLD + 4);
    }

    #[test]
    fn halving_finds_every_level_among_many_times() {
        // each binding of a hundred adds nothing but four of them
        let stage = seen_by(|s| {
            s.role("nothing", &["get | core | pods"], &[OLD]);
            s.role(
                "low",
                &["create | core | serviceaccounts/token | x"],
                &[OLD],
            );
            s.role("admin", ADMIN, &[OLD]);
            for i in 0..100 {
                let (ns, role) = match i {
                    40 => ("a/", "low"),
                    60 => ("a/", "admin"),
                    80 => ("", "admin"),
                    _ => ("a/", "nothing"),
                };
                s.bind(&format!("{ns}b{i:03}"), role, &["user:x"], &[OLD + i]);
            }
        });
        let (_, row) = stage.ledger.subjects.iter().next().expect("user:x");
        let own = row.since_own.get().expect("it holds something").own;
        let own = own.map(|m| m.map(|m| i64::from(m) - OLD));
        assert_eq!(own[Priority::Low as usize], Some(40));
        assert_eq!(own[Priority::Critical as usize], Some(80));
        let between = own[Priority::Medium as usize];
        assert_eq!(between, Some(60), "all of a namespace: {own:?}");
    }

    #[test]
    fn halving_asks_few_times() {
        let whole = Assessment::default();
        let asked = RefCell::new(BTreeSet::new());
        let times: Vec<Moment> = (0..1000).collect();
        let at = |i: usize| {
            asked.borrow_mut().insert(i);
            whole.clone()
        };
        first_times(&mut FirstTimes::default(), &times, &whole, &|_| false, &at);
        assert_eq!(asked.borrow().len(), 1, "nothing moved between the ends");
    }

    #[test]
    fn rises_of_events_with_old_times_are_stamped_and_stay() {
        let mut s = Stage::new();
        s.settle();
        let build = |s: &mut Stage| {
            s.role("admin", ADMIN, &[OLD]);
            s.bind("b", "admin", &["user:x"], &[OLD]);
        };
        build(&mut s);
        s.settle();
        assert_eq!(s.since("user:x", Priority::Critical), NOW);
        assert_eq!(s.escalations(), 1);
        s.ledger.advance(NOW + DAY);
        s.bind("b", "admin", &["user:x"], &[OLD, OLD + 1]);
        s.settle();
        assert_eq!(s.since("user:x", Priority::Critical), NOW, "sticky");
        assert_eq!(s.escalations(), 1);
        let restarted = seen_by(build);
        assert_eq!(restarted.since("user:x", Priority::Critical), OLD);
        assert_eq!(restarted.escalations(), 0);
    }

    #[test]
    fn a_time_up_to_ten_minutes_old_is_taken_as_it_is() {
        for (age, expected) in [(600, NOW - 600), (601, NOW)] {
            let mut s = Stage::new();
            s.settle();
            s.role("admin", ADMIN, &[OLD]);
            s.bind("b", "admin", &["user:x"], &[NOW - age]);
            s.settle();
            assert_eq!(s.since("user:x", Priority::Critical), expected);
        }
    }

    #[test]
    fn nothing_moves_it_while_the_priority_holds() {
        let build = |s: &mut Stage| {
            s.role("exec", &["create | core | pods/exec"], &[OLD]);
            s.role("admin", ADMIN, &[OLD]);
            s.account("a/strong", OLD);
            s.bind("strong", "admin", &["sa:a/strong"], &[OLD]);
            s.bind("a/exec", "exec", &["user:x"], &[OLD]);
            s.bind("x", "admin", &["user:x"], &[NOW - 60]);
        };
        let mut s = seen_by(build);
        let now = |s: &Stage| s.since("user:x", Priority::Critical);
        assert_eq!(now(&s), NOW - 60);
        // an older way through a pod
        s.pod("a/p", "strong");
        s.settle();
        assert_eq!(now(&s), NOW - 60);
        // the history of the new way emptied: it looks as old as it was created
        s.delete(Resource::Pods, "a/p");
        s.role("admin", ADMIN, &[OLD]);
        s.bind("x", "admin", &["user:x"], &[OLD]);
        s.settle();
        assert_eq!(now(&s), NOW - 60);
        // an upgrade touches everything
        s.ledger.advance(NOW + DAY);
        s.role("admin", ADMIN, &[OLD, NOW + DAY]);
        s.settle();
        assert_eq!(now(&s), NOW - 60);
        // gone and granted again
        s.delete(Resource::ClusterRoleBindings, "x");
        s.settle();
        assert!(s.priority("user:x") < Priority::Critical);
        s.bind("x", "admin", &["user:x"], &[NOW + DAY]);
        s.settle();
        assert_eq!(now(&s), NOW + DAY);
    }

    #[test]
    fn a_pod_raises_without_an_escalation_and_since_is_the_objects() {
        let mut s = seen_by(|s| {
            s.role("exec", &["create | core | pods/exec"], &[OLD]);
            s.role("admin", ADMIN, &[OLD]);
            s.account("a/strong", OLD + 5);
            s.bind("strong", "admin", &["sa:a/strong"], &[OLD]);
            s.bind("a/exec", "exec", &["user:x"], &[OLD]);
        });
        assert!(s.priority("user:x") < Priority::Critical);
        s.pod("a/p", "strong");
        s.settle();
        assert_eq!(s.since("user:x", Priority::Critical), OLD + 5);
        assert_eq!(s.escalations(), 0);
        // a pod that says nothing new does not hide the next rise, either
        s.pod("a/p", "strong");
        s.settle();
        s.bind("y", "admin", &["user:y"], &[NOW]);
        s.settle();
        assert_eq!(s.escalations(), 1);
    }

    #[test]
    fn the_end_of_a_grace_period_does_not_hide_a_rise() {
        let mut s = Stage::with(|settings| settings.pod_grace = 600);
        s.role("admin", ADMIN, &[OLD]);
        s.account("a/strong", OLD);
        s.pod("a/p", "strong");
        s.settle();
        s.delete(Resource::Pods, "a/p");
        s.settle();
        s.ledger.advance(NOW + 700);
        s.bind("y", "admin", &["user:y"], &[NOW + 700]);
        s.settle();
        assert_eq!(s.escalations(), 1);
    }

    #[test]
    fn grants_after_a_critical_one_have_no_say_and_those_before_it_have() {
        let since = |earlier: bool, later: usize| {
            let s = seen_by(|s| {
                s.role("admin", ADMIN, &[OLD]);
                s.role("deploy", &["create | core | pods"], &[OLD]);
                s.account("a/strong", OLD);
                s.bind("strong", "admin", &["sa:a/strong"], &[OLD]);
                if earlier {
                    s.bind("a/deploy", "deploy", &["user:u"], &[OLD + DAY]);
                }
                s.bind("admin", "admin", &["user:u"], &[OLD + 2 * DAY]);
                for n in 0..later {
                    let at = OLD + (3 + n as i64) * DAY;
                    s.bind(&format!("n{n}/deploy"), "deploy", &["user:u"], &[at]);
                }
            });
            assert_eq!(s.priority("user:u"), Priority::Critical);
            assert_eq!(s.ledger.selfcheck(), 0);
            s.since("user:u", Priority::Critical)
        };
        for later in [0, 1, 30] {
            assert_eq!(since(false, later), OLD + 2 * DAY, "{later}");
            assert_eq!(since(true, later), OLD + DAY, "{later}");
        }
    }

    #[test]
    fn what_rests_on_implicit_groups_has_no_series() {
        let mut s = seen_by(|s| {
            s.role("admin", ADMIN, &[OLD]);
            s.account("a/one", OLD);
            s.bind("all", "admin", &["group:system:serviceaccounts"], &[OLD]);
        });
        let series = |s: &Stage| -> Vec<String> {
            let snapshot = s.ledger.snapshot();
            let details = snapshot.judged.subjects().iter();
            details.map(|(ns, d)| format!("{ns}/{}", d.name)).collect()
        };
        assert_eq!(s.priority("sa:a/one"), Priority::Critical);
        assert_eq!(series(&s), ["/system:serviceaccounts"]);
        s.bind("one", "admin", &["sa:a/one"], &[NOW - 60]);
        s.settle();
        assert_eq!(series(&s), ["/system:serviceaccounts", "a/one"]);
    }
}
