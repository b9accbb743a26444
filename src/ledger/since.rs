//! Since when a subject holds its priority (contract §5).
//!
//! `since(S, p)` is the minimum over the ways in which S holds p of the moment the way became whole:
//! the maximum over its pieces. The pieces of a subject's own findings are its bindings and their
//! roles; as more bindings never take a finding away, the moment a finding became whole is the
//! earliest time at which the bindings whole by then give it. [`first_times`] finds that by halving.
//! Paths are settled in order of time, the earliest first: a minimum over paths of a maximum along them.

use super::Ledger;
use super::graph::{self, members_are_listed};
use super::names::Sym;
use super::rows::{SubjectKey, Times, ToKey};
use super::table::{Map, RowId};
use crate::object::Subject;
use crate::rbac::implicit_groups;
use crate::risk::{Assessment, Priority};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Unix seconds; 0 stands for a time that no object tells.
pub(crate) type Moment = u32;

/// For each priority, since when the own findings reach it or more; `None` where they do not.
pub(crate) type OwnSince = [Option<Moment>; 5];

/// Of i64 seconds, as objects have them.
pub(crate) fn moment(seconds: i64) -> Moment {
    Moment::try_from(seconds.max(0)).unwrap_or(Moment::MAX)
}

impl Times {
    /// When the object came to be as it is: its creation, or its last change in what matters. A time
    /// before creation or in the future is forged or of a clock gone wrong, and is ignored.
    pub(crate) fn moment(self, now: i64) -> Moment {
        let Some(created) = self.created else {
            return 0;
        };
        match self.history {
            Some(at) if at >= created && (now == 0 || at <= now) => moment(at),
            _ => moment(created),
        }
    }

    /// Nothing tells when it last changed.
    pub(crate) fn without_history(self, now: i64) -> bool {
        match (self.created, self.history) {
            (_, None) => true,
            (created, Some(at)) => (now > 0 && at > now) || created.is_some_and(|c| at < c),
        }
    }
}

/// What a subject holds, each with the moment from which on it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinceOwn {
    pub(crate) own: OwnSince,
    /// In the order of the assessment's edges.
    pub(crate) edges: Box<[Moment]>,
}

/// When each finding level and edge of `whole` was first there. `at(i)` judges with the bindings whole
/// by `times[i]`; the times rise, and the last one gives `whole`.
fn first_times(
    times: &[Moment],
    whole: &Assessment,
    base: Option<&Assessment>,
    at: &dyn Fn(usize) -> Assessment,
) -> (OwnSince, Vec<Moment>) {
    let mut own: OwnSince = [None; 5];
    let mut edges: Vec<Option<Moment>> = vec![None; whole.edges.len()];
    let mut note = |judged: &Assessment, time: Moment| {
        let level = judged
            .findings
            .iter()
            .filter(|f| {
                base.is_none_or(|b| {
                    !b.findings
                        .iter()
                        .any(|x| x.rule == f.rule && x.scope == f.scope && x.priority >= f.priority)
                })
            })
            .map(|f| f.priority)
            .max()
            .unwrap_or_default();
        for p in Priority::RISKY {
            if p <= level && own[p as usize].is_none_or(|known| known > time) {
                own[p as usize] = Some(time);
            }
        }
        for (slot, edge) in edges.iter_mut().zip(&whole.edges) {
            let there = judged.edges.binary_search(edge).is_ok();
            if there && slot.is_none_or(|known| known > time) {
                *slot = Some(time);
            }
        }
    };
    let first = at(0);
    note(&first, times[0]);
    // intervals whose ends differ hold a change
    let mut open = vec![(0, first, times.len() - 1, whole.clone())];
    while let Some((lo, a, hi, b)) = open.pop() {
        if lo == hi || a.same_power(&b) {
            continue;
        }
        if hi == lo + 1 {
            note(&b, times[hi]);
            continue;
        }
        let mid = usize::midpoint(lo, hi);
        let m = at(mid);
        open.push((lo, a, mid, m.clone()));
        open.push((mid, m, hi, b));
    }
    let last = times[times.len() - 1];
    (own, edges.into_iter().map(|e| e.unwrap_or(last)).collect())
}

impl Ledger {
    /// When a binding and its role were both as they are.
    fn whole_since(&self, binding: RowId) -> Moment {
        let own = self
            .bindings
            .get(binding)
            .map(|b| b.times.moment(self.now))
            .unwrap_or_default();
        let role = self.role_of(binding).and_then(|id| self.roles.get(id));
        own.max(role.map(|r| r.times.moment(self.now)).unwrap_or_default())
    }

    /// Since when a subject holds what it holds.
    pub(super) fn since_own(&self, key: SubjectKey, whole: &Assessment) -> SinceOwn {
        if whole.findings.is_empty() && whole.edges.is_empty() {
            return SinceOwn::default();
        }
        let subject = self.subject(key);
        let all = self.bindings_of(&subject, key);
        let base = self.covered_base(&subject, &all);
        // rules about a binding itself look at harmless roles too
        let about_bindings =
            !matches!(subject, Subject::ServiceAccount { ref name, .. } if name != "default");
        let matters = |b: &RowId| {
            let role = self.role_of(*b).and_then(|id| self.roles.get(id));
            about_bindings || role.is_none_or(|r| !r.reaches.is_empty())
        };
        let mut timed: Vec<(Moment, (RowId, bool))> = all
            .iter()
            .filter(|(b, _)| matters(b))
            .map(|b| (self.whole_since(b.0), *b))
            .collect();
        timed.sort_by_key(|(time, _)| *time);
        let mut times: Vec<Moment> = timed.iter().map(|(t, _)| *t).collect();
        times.dedup();
        if times.is_empty() {
            times.push(0); // system:masters that only an edge names
        }
        let judge = |keep: Vec<(RowId, bool)>| self.judgement_with(&subject, &keep, false).0;
        let at = |i: usize| {
            if i + 1 == times.len() {
                return whole.clone();
            }
            let by = times[i];
            judge(
                timed
                    .iter()
                    .filter(|(t, _)| *t <= by)
                    .map(|(_, b)| *b)
                    .collect(),
            )
        };
        let (mut own, edges) = first_times(&times, whole, base.as_ref(), &at);
        if base.is_some() {
            // what only pairs that every cluster has reach: their time is better than none
            let any = first_times(&times, whole, None, &at).0;
            own.iter_mut()
                .zip(any)
                .for_each(|(own, any)| *own = own.or(any));
        }
        SinceOwn {
            own,
            edges: edges.into_boxed_slice(),
        }
    }

    /// What the shipped pairs of an open subject give, when others add to it: those ways are answered for.
    fn covered_base(&self, subject: &Subject, all: &[(RowId, bool)]) -> Option<Assessment> {
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
        (base.own() <= recorded).then_some(base)
    }
}

/// What waits in the queue: a subject, or a set that one of its members reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Subject(RowId),
    Key(ToKey),
    Listed(usize),
}

/// An edge that waits for a set to be reached.
#[derive(Clone, Copy, Debug)]
struct Wait {
    subject: RowId,
    since: Moment,
    /// Which pair it is half of, for an edge that takes an identity beside.
    pair: Option<usize>,
}

/// Since when each subject holds `priority` or more, for all that do.
pub(crate) fn since(ledger: &Ledger, priority: Priority) -> Map<RowId, Moment> {
    let subjects = &ledger.subjects;
    let mut waiting: Map<ToKey, Vec<Wait>> = Map::default();
    let mut listed: Vec<Vec<Wait>> = Vec::new();
    // edges that take two: has one of the two been reached?
    let mut halves: Vec<bool> = Vec::new();
    let mut member_of: Map<RowId, Vec<usize>> = Map::default();
    let mut list_of: Map<ToKey, usize> = Map::default();
    let mut queue: BinaryHeap<Reverse<(Moment, Next)>> = BinaryHeap::new();
    for (id, row) in subjects.iter() {
        if row.effective < priority {
            continue;
        }
        if let Some(time) = row.since_own.own[priority as usize] {
            queue.push(Reverse((time, Next::Subject(id))));
        }
        for (edge, since) in row.edges.iter().zip(&row.since_own.edges) {
            if edge.cap < priority {
                continue;
            }
            let pair = edge.gate.map(|_| {
                halves.push(false);
                halves.len() - 1
            });
            let wait = Wait {
                subject: id,
                since: *since,
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
                    for member in ledger.members(to, row.key) {
                        member_of.entry(member).or_default().push(at);
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
    let lending = pod_sets.then(|| ledger.lending_accounts());
    let lends = |key| lending.as_ref().is_some_and(|l| l.contains(&key));
    let mut out: Map<RowId, Moment> = Map::default();
    while let Some(Reverse((time, next))) = queue.pop() {
        let reached = match next {
            Next::Subject(id) => {
                if out.contains_key(&id) {
                    continue;
                }
                out.insert(id, time);
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
                        queue.push(Reverse((at, Next::Key(key))));
                    }
                });
                for at in member_of.get(&id).into_iter().flatten() {
                    queue.push(Reverse((there, Next::Listed(*at))));
                }
                continue;
            }
            Next::Key(key) => waiting.remove(&key),
            Next::Listed(at) => Some(std::mem::take(&mut listed[at])),
        };
        for wait in reached.into_iter().flatten() {
            if let Some(pair) = wait.pair
                && !std::mem::replace(&mut halves[pair], true)
            {
                continue;
            }
            if !out.contains_key(&wait.subject) {
                queue.push(Reverse((time.max(wait.since), Next::Subject(wait.subject))));
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
