//! The evaluation from scratch over the rows, against what is kept up to date change by change.
//!
//! Roles are compiled again, subjects judged again, the fixpoint run again, namespaces counted again.
//! Whatever differs is a defect of the incremental path; a metric shows how many, and must stay 0.

use super::graph;
use super::{Ledger, Sym};
use crate::risk::Reaches;

impl Ledger {
    /// How many roles, subjects and namespaces differ. Call it between settled batches.
    pub fn selfcheck(&self) -> u64 {
        let mut differences = 0;
        for (_, namespace, name, row) in self.roles.iter() {
            let reaches = Reaches::of(&self.catalogue.vocabulary, &row.rules.unpack());
            let same = *row.reaches == reaches
                && (row.depends || self.gives(namespace, name, &reaches).0 == row.gives);
            differences += u64::from(!same);
        }
        let (effective, _) = graph::fixpoint(self);
        for (id, row) in self.subjects.iter() {
            let (judged, _) = self.judgement(row.key, false);
            let same = judged.own() == row.own
                && judged.edges.len() == row.edges.len()
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
}
