//! The evaluation from scratch over the rows, against what is kept up to date change by change.
//!
//! Roles are compiled again, subjects judged again, the fixpoint run again, namespaces counted again.
//! Whatever differs is a defect of the incremental path; a metric shows how many, and must stay 0.

use super::accepted::Answered;
use super::graph;
use super::rows::SubjectRow;
use super::{Ledger, Sym};
use crate::risk::{Assessment, Reaches};

impl Ledger {
    /// How many roles, subjects and namespaces differ. Call it between settled batches.
    pub fn selfcheck(&self) -> u64 {
        let mut differences = 0;
        for (_, namespace, name, row) in self.roles.iter() {
            let reaches = Reaches::of(&self.policy.catalogue.vocabulary, &row.rules.unpack());
            let same = *row.reaches == reaches
                && (row.depends || self.gives(namespace, name, &reaches).0 == row.gives);
            differences += u64::from(!same);
        }
        let (effective, _) = graph::fixpoint(self);
        for (id, row) in self.subjects.iter() {
            let (judged, _) = self.judgement(row.key, false);
            let same = judged.own() == row.own
                && judged.edges.len() == row.edges.len()
                && self.answered(row, &judged) == row.answered
                && self.status_of(id) == row.status
                && effective[id as usize].priority == row.effective;
            differences += u64::from(!same);
        }
        for (name, block) in &self.blocks {
            let same = self
                .names
                .get(name)
                .is_some_and(|ns| self.count(ns) == **block);
            differences += u64::from(!same);
        }
        let counted = self.blocks.contains_key(&**self.names.text(Sym::EMPTY));
        differences + u64::from(!counted)
    }

    /// What somebody answers for of a subject, but for the times.
    fn answered(&self, row: &SubjectRow, judged: &Assessment) -> Option<Box<Answered>> {
        let subject = self.subject(row.key);
        let bindings = self.bindings_of(&subject, row.key);
        let since = row.answered.as_ref().map(|a| a.own).unwrap_or_default();
        let answers = self.answers(&subject, &bindings, judged);
        answers.kept(&self.policy.catalogue, judged, since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::SubjectKey;
    use super::super::stage::{NOW, Stage};
    use super::Ledger;
    use crate::risk::Priority;
    use std::sync::Arc;

    fn stage() -> Stage {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW]);
        s.role("deploy", &["create | core | pods"], &[NOW]);
        s.account("a/strong", NOW);
        s.bind("strong", "admin", &["sa:a/strong"], &[NOW]);
        s.bind("a/d", "deploy", &["user:d"], &[NOW]);
        s.pod("a/p", "strong");
        s.settle();
        s
    }

    /// Every kind of state that is kept, falsified in turn, is found.
    #[test]
    fn what_was_tampered_with_is_found() {
        assert_eq!(stage().ledger.selfcheck(), 0);
        let subject = |ledger: &Ledger| {
            let user = SubjectKey::User(ledger.names.get("d").expect("a name"));
            ledger.subjects.find(user).expect("a subject")
        };
        let role = |ledger: &Ledger| {
            let name = ledger.names.get("deploy").expect("a name");
            ledger.roles.find(super::Sym::EMPTY, name).expect("a role")
        };
        type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Ledger));
        let tampers: [Tamper<'_>; 8] = [
            ("a role's power", &|l| {
                let id = role(l);
                l.roles.get_mut(id).expect("a role").reaches = Arc::default();
            }),
            ("what a role gives", &|l| {
                let id = role(l);
                l.roles.get_mut(id).expect("a role").gives = [Priority::Low; 3];
            }),
            ("own priority", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").own = Priority::None;
            }),
            ("effective priority", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").effective = Priority::Medium;
            }),
            ("edges", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").edges = Box::default();
            }),
            ("a namespace's counts", &|l| {
                let block = l.blocks.get_mut("a").expect("a block");
                Arc::make_mut(block).pods += 1;
            }),
            ("a namespace that is gone", &|l| {
                l.blocks.insert(Arc::from("gone"), Arc::default());
            }),
            ("the cluster's own counts", &|l| {
                l.blocks.remove("");
            }),
        ];
        for (what, tamper) in tampers {
            let mut s = stage();
            tamper(&mut s.ledger);
            assert!(s.ledger.selfcheck() > 0, "{what}");
        }
    }
}
