//! Would this request be allowed?

use super::super::Ledger;
use super::super::rows::SubjectKey;
use super::super::table::{Map, RowId};
use super::Grant;
use crate::object::Subject;
use crate::rbac::{
    MASTERS, PackedRules, PermId, Permission, Reach, Target, Vocabulary, implicit_groups,
};
use std::collections::BTreeMap;

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

/// Somebody who may, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Who.
    pub subject: Subject,
    /// Where: `*`, or the namespace of the RoleBinding.
    pub scope: String,
    /// Whom the binding names: the subject, or a group that it implicitly has.
    pub named: Subject,
    /// By which binding and role; `None` for a member of Group `system:masters`, who is allowed
    /// before RBAC is asked.
    pub grant: Option<Grant>,
}

/// The request that is asked of roles.
fn permission(attributes: &Attributes) -> Permission {
    match attributes {
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
    }
}

/// Roles, compiled against the requests that are asked about; once for all that have the same rules, as
/// those of a chart have in each of a thousand namespaces.
struct Asker<'a> {
    ledger: &'a Ledger,
    vocabulary: Vocabulary,
    compiled: Map<&'a PackedRules, Reach>,
}

/// What is asked of each role.
#[derive(Clone, Copy)]
struct Request<'q> {
    permission: Option<PermId>,
    name: &'q str,
}

impl Asker<'_> {
    /// Does the binding's role allow the request? `None` when there is no such role. Whether the binding
    /// holds where the request goes is not looked at.
    fn allows(&mut self, binding: RowId, request: Request<'_>) -> Option<bool> {
        let ledger = self.ledger;
        let role = ledger.roles.get(ledger.role_of(binding)?)?;
        let compiled = self.compiled.entry(&role.rules);
        let reach = compiled.or_insert_with(|| self.vocabulary.reach(&role.rules.unpack(), None));
        let permission = request.permission;
        Some(permission.is_some_and(|p| reach.names(p).has(request.name)))
    }

    fn request<'q>(&self, attributes: &'q Attributes) -> Request<'q> {
        Request {
            permission: self.vocabulary.id(&permission(attributes)),
            name: match attributes {
                Attributes::Resource { name, .. } => name,
                Attributes::Url { .. } => "",
            },
        }
    }
}

impl Ledger {
    fn asker(&self, questions: impl Iterator<Item = Permission>) -> Asker<'_> {
        Asker {
            ledger: self,
            vocabulary: Vocabulary::new(questions),
            compiled: Map::default(),
        }
    }

    /// Every subject that may do this, by kind, namespace and name: users and groups that bindings name,
    /// and accounts, with what they hold by the groups that they certainly have. With `anywhere`, also
    /// who may do it in some namespace only, once a namespace.
    pub fn who_can(&self, attributes: &Attributes, anywhere: bool) -> Vec<Allowed> {
        let mut asker = self.asker(std::iter::once(permission(attributes)));
        let request = asker.request(attributes);
        let place = match attributes {
            Attributes::Resource { namespace, .. } => namespace.as_str(),
            Attributes::Url { .. } => "",
        };
        // by whom a binding names: where, and by which binding
        let mut granted: Map<SubjectKey, BTreeMap<&str, RowId>> = Map::default();
        for (binding, home, _, row) in self.bindings.iter() {
            let home = self.names.text(home);
            let here = home.is_empty() || home == place || anywhere;
            if !here || asker.allows(binding, request) != Some(true) {
                continue;
            }
            for key in &row.subjects {
                let known = granted.entry(*key).or_default().entry(home);
                let known = known.or_insert(binding);
                // of several, always the same one
                let name = |id: RowId| self.names.text(self.bindings.key(id).1);
                if name(binding) < name(*known) {
                    *known = binding;
                }
            }
        }
        // through a group everybody may; else of all there are only those that are named
        let through_groups = granted.keys().any(|k| matches!(k, SubjectKey::Group(_)));
        let masters = self.names.get(MASTERS).map(SubjectKey::Group);
        let mut keys: Vec<SubjectKey> = self.subjects.iter().map(|(_, r)| r.key).collect();
        keys.retain(|k| through_groups || granted.contains_key(k) || Some(*k) == masters);
        keys.sort_unstable_by(|a, b| self.order(*a, *b));
        let mut out = Vec::new();
        for key in keys {
            let subject = self.subject(key);
            if matches!(&subject, Subject::Group { name } if name == MASTERS) {
                out.push(Allowed {
                    named: subject.clone(),
                    subject,
                    scope: "*".to_owned(),
                    grant: None,
                });
                continue;
            }
            let groups = implicit_groups(&subject).into_iter();
            let groups = groups
                .filter_map(|g| self.names.get(&g))
                .map(SubjectKey::Group);
            let mut places: BTreeMap<&str, (SubjectKey, RowId)> = BTreeMap::new();
            for named in std::iter::once(key).chain(groups) {
                for (place, binding) in granted.get(&named).into_iter().flatten() {
                    places.entry(place).or_insert((named, *binding));
                }
            }
            // who may everywhere needs no list of places
            let everywhere = places.contains_key("");
            for (place, (named, binding)) in places {
                if everywhere && !place.is_empty() {
                    continue;
                }
                out.push(Allowed {
                    subject: subject.clone(),
                    scope: if place.is_empty() { "*" } else { place }.to_owned(),
                    named: self.subject(named),
                    grant: self.grant(binding),
                });
            }
        }
        out
    }

    /// Answers questions by the evaluator of the judgement: the questions are the vocabulary, the roles
    /// are compiled against it, and the bindings that apply are looked up as for a subject.
    pub fn can_i(&self, questions: &[Question]) -> Vec<Verdict> {
        let mut asker = self.asker(questions.iter().map(|q| permission(&q.attributes)));
        questions
            .iter()
            .map(|q| self.answer(q, &mut asker))
            .collect()
    }

    fn answer(&self, question: &Question, asker: &mut Asker<'_>) -> Verdict {
        if question.groups.iter().any(|g| g == MASTERS) {
            let reason = "allowed before RBAC is asked: member of Group system:masters".to_owned();
            return Verdict {
                allowed: true,
                reason,
            };
        }
        let namespace = match &question.attributes {
            Attributes::Resource { namespace, .. } => namespace.as_str(),
            Attributes::Url { .. } => "",
        };
        let user = (!question.user.is_empty()).then(|| Subject::user(&question.user));
        let groups = question
            .groups
            .iter()
            .map(|g| Subject::Group { name: g.clone() });
        let request = asker.request(&question.attributes);
        let mut missing = Vec::new();
        for subject in user.into_iter().chain(groups) {
            let row = self
                .key_of(&subject)
                .and_then(|k| self.subjects.find(k))
                .and_then(|id| self.subjects.get(id));
            for binding in row.map(|r| r.bindings.as_slice()).unwrap_or_default() {
                let home = self.names.text(self.bindings.key(*binding).0);
                if !home.is_empty() && *home != *namespace {
                    continue;
                }
                let Some(allowed) = asker.allows(*binding, request) else {
                    missing.extend(self.grant(*binding));
                    continue;
                };
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
