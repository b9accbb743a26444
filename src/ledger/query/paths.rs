//! Whom a subject can become, and what it would be worth with less.

use super::super::names::Sym;
use super::super::rows::{SubjectKey, ToKey};
use super::super::table::RowId;
use super::super::{Ledger, graph, settle};
use super::{Asked, PathStep};
use crate::risk::{Assessment, Priority, To};

impl Ledger {
    fn support(&self, id: RowId, asked: &Asked) -> Option<(u32, RowId)> {
        let all = asked.supports.get_or_init(|| graph::fixpoint(self).0);
        all.get(id as usize).and_then(|e| e.support)
    }

    pub(super) fn path(&self, from: RowId, asked: &Asked) -> Vec<PathStep> {
        let mut out = Vec::new();
        let mut at = from;
        while let Some(row) = self.subjects.get(at)
            && let Some((edge, next)) = self.support(at, asked)
            && let Some(edge) = row.edges.get(edge as usize)
            && let Some(target) = self.subjects.get(next)
            && out.len() < self.subjects.bound()
        {
            out.push(PathStep {
                edge: self.policy.catalogue.rule(edge.rule).id.clone(),
                scope: self.names.text(edge.scope).to_string(),
                to: self.subject(target.key),
            });
            at = next;
        }
        out
    }

    /// Does the subject owe its effective priority to `source`?
    fn leans_on(&self, id: RowId, source: RowId, asked: &Asked) -> bool {
        let mut at = id;
        for _ in 0..self.subjects.bound() {
            if at == source {
                return true;
            }
            match self.support(at, asked) {
                Some((_, next)) => at = next,
                None => return false,
            }
        }
        false
    }

    fn key_to(&self, to: &To) -> Option<ToKey> {
        settle::target(to, &mut |name| self.names.get(name))
    }

    fn set_members(&self, to: ToKey, source: SubjectKey) -> Vec<RowId> {
        let account = |scope: Sym, test: &dyn Fn(RowId, Sym, Sym, bool) -> bool| -> Vec<RowId> {
            let all: Vec<RowId> = match scope {
                Sym::STAR => self.subjects.iter().map(|(id, _)| id).collect(),
                ns => self.subjects.in_namespace(ns).map(|(id, _)| id).collect(),
            };
            all.into_iter()
                .filter(|id| match self.subjects.get(*id) {
                    Some(r) => match r.key {
                        SubjectKey::Account(ns, name) => test(*id, ns, name, r.exists),
                        _ => false,
                    },
                    None => false,
                })
                .collect()
        };
        match to {
            ToKey::Accounts(s) => account(s, &|_, _, _, exists| exists),
            ToKey::Identities(s) => account(s, &|_, _, _, _| true),
            ToKey::Account(s, n) => account(s, &|_, _, name, exists| exists && name == n),
            ToKey::Identity(s, n) => account(s, &|_, _, name, _| name == n),
            ToKey::PodTokens(s) => {
                let lending = self.lending_accounts();
                account(s, &|_, ns, name, _| lending.contains(&(ns, name)))
            }
            ToKey::User(n) => self
                .subjects
                .find(SubjectKey::User(n))
                .into_iter()
                .collect(),
            ToKey::Group(n) => self
                .subjects
                .find(SubjectKey::Group(n))
                .into_iter()
                .collect(),
            listed => self.members(listed, source),
        }
    }

    /// The level of a subject with only these findings and edges, everybody else as they are; who owes
    /// the level to the subject itself does not count.
    pub(super) fn level_with(&self, id: RowId, judged: &Assessment, asked: &Asked) -> Priority {
        let own = judged.own();
        let Some(source) = self.subjects.get(id).map(|r| r.key) else {
            return own;
        };
        let mut best = own;
        for edge in &judged.edges {
            let mut cap = edge.cap;
            if let Some(gate) = &edge.gate {
                cap = cap.min(self.reached(id, source, gate, Priority::Critical, best, asked));
            }
            best = best.max(self.reached(id, source, &edge.to, cap, best, asked));
        }
        best
    }

    /// The strongest identity of a set, up to `cap`, that owes nothing to `id`; `None` if it is no more
    /// than `best`.
    fn reached(
        &self,
        id: RowId,
        source: SubjectKey,
        to: &To,
        cap: Priority,
        best: Priority,
        asked: &Asked,
    ) -> Priority {
        let Some(key) = self.key_to(to).filter(|_| cap > best) else {
            return Priority::None;
        };
        let level = |r: &RowId| {
            self.subjects
                .get(*r)
                .map(|s| s.effective)
                .unwrap_or_default()
        };
        let fresh = || {
            let mut members = self.set_members(key, source);
            members.sort_by_key(|m| std::cmp::Reverse(level(m)));
            members
        };
        let mut known = asked.strongest.borrow_mut();
        let members = if matches!(key, ToKey::OwnNodeTokens(_)) {
            &fresh()
        } else {
            &*known.entry(key).or_insert_with(fresh)
        };
        for member in members {
            let reached = level(member).min(cap);
            if reached <= best {
                break;
            }
            if !self.leans_on(*member, id, asked) {
                return reached;
            }
        }
        Priority::None
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
        let subject = self.subject(row.key);
        let bindings = self.bindings_of(&subject, row.key);
        let (direct, groups): (Vec<_>, Vec<_>) = bindings.iter().partition(|(_, direct)| *direct);
        let strong = |b: &(RowId, bool)| {
            let role = self.role_of(b.0).and_then(|r| self.roles.get(r));
            role.is_some_and(|r| !r.reaches.is_empty())
        };
        if !groups.iter().any(strong) {
            return false;
        }
        let asked = Asked::default();
        let level = |keep: &[(RowId, bool)]| {
            let (judged, _) = self.judgement_with(&subject, keep, false);
            self.level_with(id, &judged, &asked)
        };
        level(&groups) >= row.effective && level(&direct) < row.effective
    }
}
