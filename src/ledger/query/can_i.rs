//! Would this request be allowed?

use super::super::Ledger;
use super::super::table::{Map, RowId};
use super::Grant;
use crate::object::Subject;
use crate::rbac::{MASTERS, Permission, Reach, Target, Vocabulary};

/// What a request is about, as in a SubjectAccessReview.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// `resourceAttributes`
    Resource {
        /// Verb.
        verb: String,
        /// API group.
        group: String,
        /// Resource.
        resource: String,
        /// Subresource.
        subresource: String,
        /// Name, empty for none.
        name: String,
        /// Namespace, empty for none.
        namespace: String,
    },
    /// `nonResourceAttributes`
    Url {
        /// Verb.
        verb: String,
        /// Path.
        path: String,
    },
}

/// A question of `can-i`: user and groups exactly as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// User name, may be empty.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// The request.
    pub attributes: Attributes,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allowed by RBAC.
    pub allowed: bool,
    /// By which grant, or that there is none, in the API server's words.
    pub reason: String,
}

impl Ledger {
    /// Answers questions by the evaluator of the judgement: the questions are the vocabulary, the roles
    /// are compiled against it, and the bindings that apply are looked up as for a subject.
    pub fn can_i(&self, questions: &[Question]) -> Vec<Verdict> {
        let permission = |q: &Question| match &q.attributes {
            Attributes::Resource {
                verb,
                group,
                resource,
                subresource,
                ..
            } => Permission {
                verb: verb.clone(),
                target: Target::Resource {
                    group: group.clone(),
                    resource: resource.clone(),
                    subresource: subresource.clone(),
                },
            },
            Attributes::Url { verb, path } => Permission::url(verb, path),
        };
        let vocabulary = Vocabulary::new(questions.iter().map(permission));
        let mut compiled: Map<RowId, Reach> = Map::default();
        questions
            .iter()
            .map(|q| self.answer(q, &permission(q), &vocabulary, &mut compiled))
            .collect()
    }

    fn answer(
        &self,
        question: &Question,
        permission: &Permission,
        vocabulary: &Vocabulary,
        compiled: &mut Map<RowId, Reach>,
    ) -> Verdict {
        if question.groups.iter().any(|g| g == MASTERS) {
            let reason = "allowed before RBAC is asked: member of Group system:masters".to_owned();
            return Verdict {
                allowed: true,
                reason,
            };
        }
        let (namespace, name) = match &question.attributes {
            Attributes::Resource {
                namespace, name, ..
            } => (namespace.as_str(), name.as_str()),
            Attributes::Url { .. } => ("", ""),
        };
        let user = (!question.user.is_empty()).then(|| Subject::user(&question.user));
        let groups = question
            .groups
            .iter()
            .map(|g| Subject::Group { name: g.clone() });
        let mut missing = Vec::new();
        for subject in user.into_iter().chain(groups) {
            let row = self
                .key_of(&subject)
                .and_then(|k| self.subjects.find(k))
                .and_then(|id| self.subjects.get(id));
            for binding in row.map(|r| r.bindings.as_slice()).unwrap_or_default() {
                let home = self.names.text(self.bindings.key(*binding).0);
                if !home.is_empty() && **home != *namespace {
                    continue;
                }
                let Some(role) = self.role_of(*binding) else {
                    missing.extend(self.grant(*binding));
                    continue;
                };
                let reach = compiled.entry(role).or_insert_with(|| {
                    let rules = self
                        .roles
                        .get(role)
                        .map(|r| r.rules.unpack())
                        .unwrap_or_default();
                    vocabulary.reach(&rules, None)
                });
                let allowed = vocabulary
                    .id(permission)
                    .is_some_and(|p| reach.names(p).has(name));
                if let Some(grant) = self.grant(*binding).filter(|_| allowed) {
                    return Verdict {
                        allowed: true,
                        reason: allowed_by(&grant, &subject),
                    };
                }
            }
        }
        let reason = match missing.first() {
            None => "no grant allows it".to_owned(),
            Some(grant) => format!(
                "no grant allows it; {} refers to {} {:?}, which does not exist",
                written_binding(grant),
                role_kind(grant),
                grant.role
            ),
        };
        Verdict {
            allowed: false,
            reason,
        }
    }
}

fn role_kind(grant: &Grant) -> &'static str {
    if grant.cluster_role {
        "ClusterRole"
    } else {
        "Role"
    }
}

fn written_binding(grant: &Grant) -> String {
    match grant.binding_namespace.as_str() {
        "" => format!("ClusterRoleBinding {:?}", grant.binding),
        ns => format!("RoleBinding {:?}", format!("{}/{ns}", grant.binding)),
    }
}

/// In the words of the API server (`rbac.go`): `RBAC: allowed by …`.
fn allowed_by(grant: &Grant, subject: &Subject) -> String {
    let to = match subject {
        Subject::User { name } => format!("User {name:?}"),
        Subject::Group { name } => format!("Group {name:?}"),
        Subject::ServiceAccount { namespace, name } => {
            format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
        }
    };
    format!(
        "RBAC: allowed by {} of {} {:?} to {to}",
        written_binding(grant),
        role_kind(grant),
        grant.role
    )
}
