//! Subjects: who they are, what they hold and by which bindings.

use super::super::Ledger;
use super::super::rows::SubjectKey;
use super::super::table::RowId;
use super::case::Case;
use super::{Asked, Cut};
use crate::object::Subject;
use crate::risk::{Priority, Status};

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
        self.view_of(&self.case(key), self.cut(id, asked))
    }

    /// With what was found to cut.
    pub(super) fn view_of(&self, case: &Case<'_>, cut: Cut) -> Option<SubjectView> {
        let id = self.subjects.find(case.key)?;
        let row = self.subjects.get(id)?;
        let findings = (0..case.judged.findings.len()).map(|place| case.finding(place).0.clone());
        Some(SubjectView {
            exists: row.exists,
            own: row.own,
            priority: row.effective,
            status: row.status,
            since: (row.since > 0).then_some(i64::from(row.since)),
            findings: findings.collect(),
            path: self.path(id),
            cut,
            subject: case.subject.clone(),
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
}
