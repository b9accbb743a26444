//! Whom a subject can become.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::rows::{EdgeRow, SubjectKey, ToKey};
use super::super::table::RowId;
use super::PathStep;
use crate::risk::Priority;

impl Ledger {
    fn support(&self, id: RowId) -> Option<(u32, RowId)> {
        let ways = self.live.ways(self);
        ways.get(id as usize).and_then(|e| e.support)
    }

    pub(super) fn path(&self, from: RowId) -> Vec<PathStep> {
        let steps = self.steps(from).into_iter();
        steps
            .filter_map(|(_, edge, to)| {
                Some(PathStep {
                    edge: self.catalogue().rule(edge.rule).id.clone(),
                    scope: self.names.text(edge.scope).to_string(),
                    to: self.subject(self.subjects.get(to)?.key),
                })
            })
            .collect()
    }

    /// Who takes which edge to whom, up to the identity whose own findings decide.
    pub(super) fn steps(&self, from: RowId) -> Vec<(RowId, EdgeRow, RowId)> {
        let mut out = Vec::new();
        let mut at = from;
        while let Some(row) = self.subjects.get(at)
            && let Some((edge, next)) = self.support(at)
            && let Some(edge) = row.edges.get(edge as usize)
            && out.len() < self.subjects.bound()
        {
            out.push((at, *edge, next));
            at = next;
        }
        out
    }

    /// Everybody that an edge of `source` to this set leads to.
    pub(in crate::ledger) fn set_members(&self, to: ToKey, source: SubjectKey) -> Vec<RowId> {
        self.set_members_at(to, source, Priority::None)
    }

    /// Those of them that hold a priority.
    pub(super) fn set_members_at(
        &self,
        to: ToKey,
        source: SubjectKey,
        least: Priority,
    ) -> Vec<RowId> {
        let holds = |id: &RowId| {
            let row = self.subjects.get(*id);
            row.is_some_and(|r| r.effective >= least)
        };
        let account = |scope: Sym, test: &dyn Fn(RowId, Sym, Sym, bool) -> bool| -> Vec<RowId> {
            let all: Vec<RowId> = match scope {
                Sym::STAR => self.subjects.iter().map(|(id, _)| id).collect(),
                ns => self.subjects.in_namespace(ns).map(|(id, _)| id).collect(),
            };
            all.into_iter()
                .filter(|id| match self.subjects.get(*id) {
                    Some(r) if r.effective >= least => match r.key {
                        SubjectKey::Account(ns, name) => test(*id, ns, name, r.exists),
                        _ => false,
                    },
                    _ => false,
                })
                .collect()
        };
        let named = |scope: Sym, name: Sym| {
            let everywhere = (scope == Sym::STAR).then(|| self.subjects.namespaces());
            let namespaces = everywhere.into_iter().flatten();
            let namespaces = namespaces.chain((scope != Sym::STAR).then_some(scope));
            let key = move |ns| SubjectKey::Account(ns, name);
            let found = namespaces.filter_map(move |ns| self.subjects.find(key(ns)));
            found.filter(holds)
        };
        let exists = |id: &RowId| self.subjects.get(*id).is_some_and(|row| row.exists);
        match to {
            ToKey::Accounts(s) => account(s, &|_, _, _, exists| exists),
            ToKey::Identities(s) => account(s, &|_, _, _, _| true),
            ToKey::Account(s, n) => named(s, n).filter(exists).collect(),
            ToKey::Identity(s, n) => named(s, n).collect(),
            ToKey::PodTokens(s) => account(s, &|_, ns, name, _| self.lends_token(ns, name)),
            ToKey::User(n) => self
                .subjects
                .find(SubjectKey::User(n))
                .into_iter()
                .filter(holds)
                .collect(),
            ToKey::Group(n) => self
                .subjects
                .find(SubjectKey::Group(n))
                .into_iter()
                .filter(holds)
                .collect(),
            listed => {
                let members = self.live.members(self, listed, source);
                members.iter().copied().filter(holds).collect()
            }
        }
    }
}
