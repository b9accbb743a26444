//! The case against a subject: its judgement, and what each finding rests on.
//!
//! Worked out once for all that is told of a subject: of those with hundreds of bindings a judgement takes
//! milliseconds, and each of hundreds of findings is asked what it rests on.

use super::super::Ledger;
use super::super::accepted::Answers;
use super::super::names::Sym;
use super::super::rows::SubjectKey;
use super::super::table::{Map, RowId};
use super::{FindingView, Grant};
use crate::object::Subject;
use crate::rbac::{Names, Reach, implicit_groups};
use crate::risk::{Assessment, Finding, Priority, Special, Status};
use std::borrow::Cow;

/// See the module.
pub(in crate::ledger) struct Case<'a> {
    ledger: &'a Ledger,
    pub(in crate::ledger) key: SubjectKey,
    pub(in crate::ledger) subject: Subject,
    /// The bindings that apply, and whether they name the subject itself.
    pub(in crate::ledger) bindings: Vec<(RowId, bool)>,
    /// With witnesses.
    pub(in crate::ledger) judged: Assessment,
    pub(in crate::ledger) answers: Answers,
    /// Shipped pairs answer for it up to here.
    covered: Option<Priority>,
    /// The bindings by the namespace they lie in.
    lying: Map<Sym, Vec<RowId>>,
}

impl Ledger {
    /// The case against a subject.
    pub(in crate::ledger) fn case(&self, key: SubjectKey) -> Case<'_> {
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        let (judged, _) = self.judgement_with(&subject, &bindings, true);
        let mut lying: Map<Sym, Vec<RowId>> = Map::default();
        for (binding, _) in &bindings {
            let (namespace, _) = self.bindings.key(*binding);
            lying.entry(namespace).or_default().push(*binding);
        }
        let row = self.subjects.find(key).and_then(|id| self.subjects.get(id));
        Case {
            answers: self.answers(&subject, &bindings, &judged),
            covered: row.and_then(|r| r.covered),
            ledger: self,
            key,
            subject,
            bindings,
            judged,
            lying,
        }
    }
}

impl Case<'_> {
    /// A finding, and the bindings that it rests on.
    pub(super) fn finding(&self, finding: &Finding) -> (FindingView, Vec<RowId>) {
        let ledger = self.ledger;
        let rests_on = self.rests_on(finding);
        let recorded = |binding: RowId, subject: &Subject| {
            let up_to = ledger.listed_pair(binding, subject);
            up_to.is_some_and(|up_to| finding.priority <= up_to)
        };
        let builtin = !rests_on.is_empty()
            && rests_on.iter().all(|b| {
                recorded(*b, &self.subject)
                    || implicit_groups(&self.subject)
                        .into_iter()
                        .any(|name| recorded(*b, &Subject::Group { name }))
            });
        let covered = self.covered.is_some_and(|up_to| finding.priority <= up_to);
        let mut grants: Vec<Grant> = rests_on.iter().filter_map(|b| ledger.grant(*b)).collect();
        grants.sort();
        let catalogue = ledger.catalogue();
        let scope = finding.scope.as_str();
        let accepted = self.answers.accept(catalogue, finding.rule, scope);
        let view = FindingView {
            rule: catalogue.rule(finding.rule).id.clone(),
            scope: scope.to_owned(),
            priority: finding.priority,
            status: if builtin || covered {
                Status::Builtin
            } else if accepted >= finding.priority {
                Status::Accepted
            } else {
                Status::Open
            },
            grants,
        };
        (view, rests_on)
    }

    /// The bindings that a finding rests on.
    fn rests_on(&self, finding: &Finding) -> Vec<RowId> {
        if !finding.bindings.is_empty() {
            let named = finding.bindings.iter();
            return named
                .filter_map(|i| self.bindings.get(*i))
                .map(|b| b.0)
                .collect();
        }
        let Some(witness) = &finding.witness else {
            return Vec::new();
        };
        let ledger = self.ledger;
        let special = ledger.catalogue().rule(finding.rule).special;
        // these join pieces of several scopes
        let anywhere = matches!(
            special,
            Some(
                Special::VolumeHostPath
                    | Special::ImpersonateGroups
                    | Special::ImpersonateConstrained
            )
        );
        let constrained = special == Some(Special::ImpersonateConstrained);
        let vocabulary = &ledger.catalogue().vocabulary;
        let place = ledger.names.get(finding.scope.as_str());
        let place = place.filter(|ns| *ns != Sym::EMPTY);
        let around = std::iter::once(Sym::EMPTY).chain(place);
        let around = around.filter_map(|ns| self.lying.get(&ns)).flatten();
        let all = self.bindings.iter().map(|(binding, _)| binding);
        let candidates: Vec<RowId> = match anywhere {
            true => all.copied().collect(),
            false => around.copied().collect(),
        };
        let mut reaches: Vec<(RowId, Cow<'_, Reach>, bool)> = Vec::new();
        for binding in candidates {
            let (namespace, _) = ledger.bindings.key(binding);
            let here = namespace == Sym::EMPTY || Some(namespace) == place;
            let Some(role) = ledger.role_of(binding).and_then(|id| ledger.roles.get(id)) else {
                continue;
            };
            let cut = |reach| match namespace {
                Sym::EMPTY => Cow::Borrowed(reach),
                ns => Cow::Owned(vocabulary.through_role_binding(reach, ledger.names.text(ns))),
            };
            let on = constrained
                && here
                && role
                    .reaches
                    .on
                    .as_ref()
                    .is_some_and(|on| on.iter().any(|r| !cut(r).is_empty()));
            reaches.push((binding, cut(&role.reaches.plain), on));
        }
        let asked = vocabulary.ids().filter(|p| witness.contains(p.index()));
        // with the perm, whether somebody has it whatever the name
        let asked: Vec<_> = asked
            .map(|perm| (perm, reaches.iter().any(|(_, r, _)| r.names(perm).all())))
            .collect();
        let gives = |reach: &Reach| {
            asked
                .iter()
                .any(|(perm, unlimited)| match reach.names(*perm) {
                    Names::All => true,
                    Names::Some(_) => !unlimited,
                    Names::None => false,
                })
        };
        let behind = reaches.iter().filter(|(_, reach, on)| *on || gives(reach));
        behind.map(|(binding, ..)| *binding).collect()
    }
}
