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
use crate::rbac::{Names, PermId, Reach, Vocabulary, implicit_groups};
use crate::risk::{Assessment, Finding, Priority, Reaches, Special, Status};
use std::cell::OnceCell;
use std::sync::Arc;

/// See the module.
pub(in crate::ledger) struct Case<'a> {
    ledger: &'a Ledger,
    pub(in crate::ledger) key: SubjectKey,
    pub(in crate::ledger) subject: Subject,
    /// The bindings that apply, and whether they name the subject itself.
    pub(in crate::ledger) bindings: Vec<(RowId, bool)>,
    /// With witnesses; with edges only where somebody may answer for one.
    pub(in crate::ledger) judged: Assessment,
    pub(in crate::ledger) answers: Answers,
    /// Shipped pairs answer for it up to here.
    covered: Option<Priority>,
    /// Whom bindings may name that apply to it: itself, then its implicit groups.
    named: Vec<Subject>,
    /// What the bindings grant whose roles exist.
    granting: Vec<Granting<'a>>,
    /// The places of these by the namespace they lie in.
    lying: Map<Sym, Vec<usize>>,
    /// What is told of each finding, and what it rests on, once somebody asks.
    findings: Vec<OnceCell<(FindingView, Vec<RowId>)>>,
}

/// What a binding grants.
pub(super) struct Granting<'a> {
    pub(super) binding: RowId,
    pub(super) namespace: Sym,
    /// The text of the namespace of a RoleBinding.
    pub(super) through: Option<Arc<str>>,
    pub(super) reaches: &'a Reaches,
}

impl Granting<'_> {
    pub(super) fn names(&self, vocabulary: &Vocabulary, perm: PermId) -> Names<'_> {
        let reach = &self.reaches.plain;
        match &self.through {
            None => reach.names(perm),
            Some(ns) => vocabulary.names_through_role_binding(reach, perm, ns),
        }
    }

    /// Something in a mode of constrained impersonation.
    pub(super) fn any_on(&self, vocabulary: &Vocabulary) -> bool {
        let counts = |reach: &Reach| match &self.through {
            None => !reach.is_empty(),
            Some(ns) => !vocabulary.through_role_binding(reach, ns).is_empty(),
        };
        self.reaches.on.iter().flat_map(|on| on.iter()).any(counts)
    }
}

impl Ledger {
    /// The case against a subject.
    pub(in crate::ledger) fn case(&self, key: SubjectKey) -> Case<'_> {
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        let (mut judged, _) = self.judgement_with(&subject, &bindings, true);
        if self.may_be_answered(&subject, &bindings) {
            judged.edges = self.judgement_with(&subject, &bindings, false).0.edges;
        }
        let granting: Vec<Granting<'_>> = bindings
            .iter()
            .filter_map(|(binding, _)| {
                let (namespace, _) = self.bindings.key(*binding);
                Some(Granting {
                    binding: *binding,
                    namespace,
                    through: (namespace != Sym::EMPTY).then(|| self.names.shared(namespace)),
                    reaches: &self.roles.get(self.role_of(*binding)?)?.reaches,
                })
            })
            .collect();
        let mut lying: Map<Sym, Vec<usize>> = Map::default();
        for (place, granting) in granting.iter().enumerate() {
            lying.entry(granting.namespace).or_default().push(place);
        }
        let groups = implicit_groups(&subject).into_iter();
        let named = std::iter::once(subject.clone())
            .chain(groups.map(|name| Subject::Group { name }))
            .collect();
        let row = self.subjects.find(key).and_then(|id| self.subjects.get(id));
        Case {
            answers: self.answers(&subject, &bindings, &judged),
            covered: row.and_then(|r| r.covered),
            ledger: self,
            key,
            subject,
            bindings,
            named,
            granting,
            lying,
            findings: vec![OnceCell::new(); judged.findings.len()],
            judged,
        }
    }
}

impl Case<'_> {
    /// A finding of the judgement by its place there, and the bindings that it rests on.
    pub(super) fn finding(&self, place: usize) -> &(FindingView, Vec<RowId>) {
        self.findings[place].get_or_init(|| self.told(&self.judged.findings[place]))
    }

    fn told(&self, finding: &Finding) -> (FindingView, Vec<RowId>) {
        let ledger = self.ledger;
        let rests_on = self.rests_on(finding);
        let recorded = |binding: RowId, subject: &Subject| {
            let up_to = ledger.listed_pair(binding, subject);
            up_to.is_some_and(|up_to| finding.priority <= up_to)
        };
        let builtin = !rests_on.is_empty()
            && rests_on
                .iter()
                .all(|b| self.named.iter().any(|named| recorded(*b, named)));
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
        let candidates: Vec<&Granting<'_>> = match anywhere {
            true => self.granting.iter().collect(),
            false => around.map(|place| &self.granting[*place]).collect(),
        };
        let asked = vocabulary.ids_in(witness);
        // with the perm, whether somebody has it whatever the name
        let asked: Vec<_> = asked
            .map(|perm| {
                let mut all = candidates.iter().map(|g| g.names(vocabulary, perm).all());
                (perm, all.any(|all| all))
            })
            .collect();
        let gives = |granting: &Granting<'_>| {
            asked.iter().any(
                |(perm, unlimited)| match granting.names(vocabulary, *perm) {
                    Names::All => true,
                    Names::Some(_) => !unlimited,
                    Names::None => false,
                },
            )
        };
        let on = |granting: &Granting<'_>| {
            let namespace = granting.namespace;
            let here = namespace == Sym::EMPTY || Some(namespace) == place;
            constrained && here && granting.any_on(vocabulary)
        };
        let behind = candidates.into_iter().filter(|g| on(g) || gives(g));
        behind.map(|granting| granting.binding).collect()
    }
}
