//! Subjects: who they are, what they hold and by which bindings.

use super::super::Ledger;
use super::super::accepted::Answers;
use super::super::names::Sym;
use super::super::rows::SubjectKey;
use super::super::table::RowId;
use super::{Asked, Cut};
use crate::object::Subject;
use crate::rbac::{Names, Reach, implicit_groups};
use crate::risk::{Finding, Priority, Special, Status};

/// A binding and the role it refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Namespace of the binding, empty for a ClusterRoleBinding.
    pub binding_namespace: String,
    /// Name of the binding.
    pub binding: String,
    /// The role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role; a Role lies in the binding's namespace.
    pub role: String,
}

/// A finding with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingView {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// Priority.
    pub priority: Priority,
    /// Whether somebody answers for it.
    pub status: Status,
    /// The bindings that grant it.
    pub grants: Vec<Grant>,
}

/// A step to another identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// Id of the rule behind it.
    pub edge: String,
    /// Where that rule holds.
    pub scope: String,
    /// Who is reached.
    pub to: Subject,
}

/// A subject, judged and explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectView {
    /// Who.
    pub subject: Subject,
    /// The account exists; true for users and groups.
    pub exists: bool,
    /// By its own findings.
    pub own: Priority,
    /// Effective.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// Since when it holds its effective priority, Unix seconds.
    pub since: Option<i64>,
    /// Findings by rule and scope.
    pub findings: Vec<FindingView>,
    /// From the subject, left out, to the identity whose own priority it takes.
    pub path: Vec<PathStep>,
    /// Entries of bindings whose removal brings it below its priority.
    pub cut: Cut,
}

/// Views of subjects, which share what is worked out for all of them.
#[derive(Debug)]
pub struct Views<'a> {
    ledger: &'a Ledger,
    asked: Asked,
}

impl Views<'_> {
    /// One subject, if there is such a one.
    pub fn of(&self, subject: &Subject) -> Option<SubjectView> {
        let key = self.ledger.key_of(subject)?;
        self.ledger.subject_view(key, &self.asked)
    }
}

impl Ledger {
    /// Every subject, by kind, namespace and name; each is worked out when the iterator comes to it.
    pub fn subject_views(&self) -> impl Iterator<Item = SubjectView> {
        let asked = Asked::default();
        self.subject_keys()
            .into_iter()
            .filter_map(move |key| self.subject_view(key, &asked))
    }

    /// Who there is, by kind, namespace and name.
    pub fn subjects(&self) -> Vec<Subject> {
        let keys = self.subject_keys().into_iter();
        keys.map(|key| self.subject(key)).collect()
    }

    fn subject_keys(&self) -> Vec<SubjectKey> {
        let mut keys: Vec<SubjectKey> = self.subjects.iter().map(|(_, r)| r.key).collect();
        keys.sort_unstable_by(|a, b| self.order(*a, *b));
        keys
    }

    /// One subject, if there is such a one.
    pub fn explain(&self, subject: &Subject) -> Option<SubjectView> {
        self.views().of(subject)
    }

    /// For views of several subjects.
    pub fn views(&self) -> Views<'_> {
        Views {
            ledger: self,
            asked: Asked::default(),
        }
    }

    pub(in crate::ledger) fn key_of(&self, subject: &Subject) -> Option<SubjectKey> {
        Some(match subject {
            Subject::Group { name } => SubjectKey::Group(self.names.get(name)?),
            Subject::User { name } => SubjectKey::User(self.names.get(name)?),
            Subject::ServiceAccount { namespace, name } => {
                SubjectKey::Account(self.names.get(namespace)?, self.names.get(name)?)
            }
        })
    }

    pub(super) fn subject_view(&self, key: SubjectKey, asked: &Asked) -> Option<SubjectView> {
        let id = self.subjects.find(key)?;
        let row = self.subjects.get(id)?;
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        let (judged, _) = self.judgement_with(&subject, &bindings, true);
        let answers = self.answers(&subject, &bindings, &judged);
        let findings = judged
            .findings
            .iter()
            .map(|f| self.finding_view(f, &subject, &bindings, &answers))
            .collect();
        Some(SubjectView {
            exists: row.exists,
            own: row.own,
            priority: row.effective,
            status: row.status,
            since: (row.since > 0).then_some(i64::from(row.since)),
            findings,
            path: self.path(id),
            cut: self.cut(id, asked),
            subject,
        })
    }

    pub(super) fn grant(&self, binding: RowId) -> Option<Grant> {
        let row = self.bindings.get(binding)?;
        let (namespace, name) = self.bindings.key(binding);
        Some(Grant {
            binding_namespace: self.names.text(namespace).to_string(),
            binding: self.names.text(name).to_string(),
            cluster_role: row.cluster_role,
            role: self.names.text(row.role).to_string(),
        })
    }

    pub(super) fn finding_view(
        &self,
        finding: &Finding,
        subject: &Subject,
        bindings: &[(RowId, bool)],
        answers: &Answers,
    ) -> FindingView {
        let rests_on = self.rests_on(finding, bindings);
        let builtin = !rests_on.is_empty()
            && rests_on.iter().all(|b| {
                self.listed_pair(*b, subject)
                    .is_some_and(|recorded| finding.priority <= recorded)
                    || implicit_groups(subject).into_iter().any(|g| {
                        self.listed_pair(*b, &Subject::Group { name: g })
                            .is_some_and(|recorded| finding.priority <= recorded)
                    })
            });
        let covered = self
            .key_of(subject)
            .and_then(|k| self.subjects.find(k))
            .and_then(|id| self.subjects.get(id))
            .and_then(|r| r.covered)
            .is_some_and(|up_to| finding.priority <= up_to);
        let mut grants: Vec<Grant> = rests_on.iter().filter_map(|b| self.grant(*b)).collect();
        grants.sort();
        let catalogue = &self.policy.catalogue;
        let accepted = answers.accept(catalogue, finding.rule, finding.scope.as_str());
        FindingView {
            rule: catalogue.rule(finding.rule).id.clone(),
            scope: finding.scope.as_str().to_owned(),
            priority: finding.priority,
            status: if builtin || covered {
                Status::Builtin
            } else if accepted >= finding.priority {
                Status::Accepted
            } else {
                Status::Open
            },
            grants,
        }
    }

    /// The bindings that a finding rests on.
    pub(super) fn rests_on(&self, finding: &Finding, bindings: &[(RowId, bool)]) -> Vec<RowId> {
        if !finding.bindings.is_empty() {
            return finding
                .bindings
                .iter()
                .filter_map(|i| bindings.get(*i))
                .map(|b| b.0)
                .collect();
        }
        let Some(witness) = &finding.witness else {
            return Vec::new();
        };
        let special = self.policy.catalogue.rule(finding.rule).special;
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
        let vocabulary = &self.policy.catalogue.vocabulary;
        let scope = self.names.get(finding.scope.as_str());
        let mut reaches: Vec<(RowId, Reach, bool)> = Vec::new();
        for (binding, _) in bindings {
            let (namespace, _) = self.bindings.key(*binding);
            let here = namespace == Sym::EMPTY || Some(namespace) == scope;
            if !here && !anywhere {
                continue;
            }
            let Some(role) = self.role_of(*binding).and_then(|id| self.roles.get(id)) else {
                continue;
            };
            let cut = |reach: &Reach| match namespace {
                Sym::EMPTY => reach.clone(),
                ns => vocabulary.through_role_binding(reach, self.names.text(ns)),
            };
            let on = constrained
                && here
                && role
                    .reaches
                    .on
                    .as_ref()
                    .is_some_and(|on| on.iter().any(|r| !cut(r).is_empty()));
            reaches.push((*binding, cut(&role.reaches.plain), on));
        }
        let unlimited: Vec<bool> = vocabulary
            .ids()
            .map(|perm| {
                witness.contains(perm.index())
                    && reaches.iter().any(|(_, r, _)| r.names(perm).all())
            })
            .collect();
        reaches
            .iter()
            .filter(|(_, reach, on)| {
                *on || vocabulary.ids().any(|perm| {
                    witness.contains(perm.index())
                        && match reach.names(perm) {
                            Names::All => true,
                            Names::Some(_) => !unlimited[perm.index()],
                            Names::None => false,
                        }
                })
            })
            .map(|(b, ..)| *b)
            .collect()
    }
}
