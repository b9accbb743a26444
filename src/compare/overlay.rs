//! Manifests laid over a live cluster, as `kubectl apply` and the controllers would (contract §10).

use crate::object::{Binding, Object, Origin, Pod, PolicyRule, Role, Workload};
use crate::rbac::aggregated_rules;
use std::collections::{BTreeMap, BTreeSet};

/// A binding whose roleRef would change, which the API server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The binding as the manifests have it.
    pub binding: Binding,
    /// The role that it refers to in the cluster: it is a ClusterRole, and its name.
    pub role: (bool, String),
}

impl Refused {
    /// Where it stands.
    pub fn origin(&self) -> Option<&Origin> {
        self.binding.meta.origin.as_ref()
    }
}

/// A cluster after manifests have been applied.
#[derive(Clone, Debug, Default)]
pub struct Overlaid {
    /// What people have written: the cluster's objects, those of the manifests in their place.
    pub written: Vec<Object>,
    /// The same with the aggregated ClusterRoles filled anew where what they take up has changed.
    pub filled: Vec<Object>,
}

/// Lays the objects of manifests over those of a cluster: each replaces the one of its kind,
/// namespace and name whole, and the template of a workload the pods of that workload.
///
/// # Errors
///
/// All bindings whose roleRef would change.
pub fn lay_over(cluster: &[Object], manifests: Vec<Object>) -> Result<Overlaid, Vec<Refused>> {
    let key = |object: &Object| {
        let meta = object.meta();
        (object.resource(), meta.namespace.clone(), meta.name.clone())
    };
    let before: BTreeMap<_, &Object> = cluster.iter().map(|o| (key(o), o)).collect();
    let refused: Vec<Refused> = manifests
        .iter()
        .filter_map(|object| match (object, before.get(&key(object))) {
            (Object::Binding(new), Some(Object::Binding(old))) if old.role != new.role => {
                Some(Refused {
                    binding: new.clone(),
                    role: (old.role.cluster, old.role.name.clone()),
                })
            }
            _ => None,
        })
        .collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let workload = |pod: &Pod| -> Option<(String, Workload)> {
        Some((pod.meta.namespace.clone(), pod.workload.clone()?))
    };
    let rolled_out: BTreeSet<(String, Workload)> = manifests
        .iter()
        .filter_map(|o| match o {
            Object::Pod(pod) if pod.predicted => workload(pod),
            _ => None,
        })
        .collect();
    let mut written: BTreeMap<_, Object> = BTreeMap::new();
    for object in cluster {
        let replaced = matches!(object, Object::Pod(pod)
            if workload(pod).is_some_and(|w| rolled_out.contains(&w)));
        if !replaced {
            written.insert(key(object), object.clone());
        }
    }
    for object in manifests {
        written.insert(key(&object), object);
    }
    let written: Vec<Object> = written.into_values().collect();
    let filled = fill(cluster, &written);
    Ok(Overlaid { written, filled })
}

/// The aggregated ClusterRoles as the controller would fill them. Those that take up what they took up
/// before stay as the cluster has them: what it has not filled yet is not the manifests' doing.
fn fill(before: &[Object], after: &[Object]) -> Vec<Object> {
    let (old, new) = (unions(before), unions(after));
    let as_it_was: BTreeMap<&str, &Role> = cluster_roles(before)
        .map(|r| (r.meta.name.as_str(), r))
        .collect();
    let mut out = after.to_vec();
    for object in &mut out {
        if let Object::Role(role) = object
            && let Some(union) = new.get(role.meta.name.as_str())
            && role.meta.namespace.is_empty()
        {
            let name = role.meta.name.as_str();
            role.rules = match (old.get(name), as_it_was.get(name)) {
                (Some(same), Some(kept)) if same == union => kept.rules.clone(),
                _ => union.clone(),
            };
        }
    }
    out
}

fn cluster_roles(objects: &[Object]) -> impl Iterator<Item = &Role> {
    objects.iter().filter_map(|o| match o {
        Object::Role(role) if role.meta.namespace.is_empty() => Some(role),
        _ => None,
    })
}

/// The rules of every aggregated ClusterRole by name: the union of what it takes up and nothing of its
/// own (`syncClusterRole` of the controller).
fn unions(objects: &[Object]) -> BTreeMap<&str, Vec<PolicyRule>> {
    let roles: Vec<Role> = cluster_roles(objects)
        .map(|role| {
            let mut role = role.clone();
            if role.aggregation.is_some() {
                role.rules.clear();
            }
            role
        })
        .collect();
    let mut rules: BTreeMap<String, Vec<PolicyRule>> = roles
        .iter()
        .map(|r| (r.meta.name.clone(), r.rules.clone()))
        .collect();
    // they feed one another (view → edit → admin): as many rounds as it takes
    loop {
        let mut moved = false;
        for role in roles.iter().filter(|r| r.aggregation.is_some()) {
            let others = roles
                .iter()
                .map(|other| (other, rules[&other.meta.name].clone()));
            let union = aggregated_rules(role, others);
            if rules[&role.meta.name].len() != union.len() {
                rules.insert(role.meta.name.clone(), union);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    cluster_roles(objects)
        .filter(|r| r.aggregation.is_some())
        .map(|r| {
            let union = rules.remove(&r.meta.name).unwrap_or_default();
            (r.meta.name.as_str(), union)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{LabelSelector, Meta, RoleRef};

    fn role(name: &str, labels: &[(&str, &str)], takes: Option<&str>, verb: &str) -> Object {
        let pair = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        Object::Role(Role {
            meta: Meta {
                name: name.into(),
                ..Meta::default()
            },
            labels: labels.iter().copied().map(pair).collect(),
            aggregation: takes.map(|label| {
                vec![LabelSelector {
                    match_labels: vec![pair((label, "true"))],
                    ..LabelSelector::default()
                }]
            }),
            rules: if verb.is_empty() {
                Vec::new()
            } else {
                vec![PolicyRule {
                    verbs: vec![verb.into()],
                    ..PolicyRule::default()
                }]
            },
        })
    }

    fn verbs(objects: &[Object], name: &str) -> Vec<String> {
        let role = cluster_roles(objects).find(|r| r.meta.name == name);
        let rules = &role.unwrap().rules;
        rules.iter().flat_map(|r| r.verbs.clone()).collect()
    }

    #[test]
    fn aggregated_roles_take_up_what_is_new_through_one_another() {
        let cluster = [
            role("view", &[("to-edit", "true")], Some("to-view"), "get"),
            role("edit", &[], Some("to-edit"), "get"),
            role("reader", &[("to-view", "true")], None, "get"),
            // not filled yet, and none of the manifests' business
            role("late", &[], Some("to-edit"), ""),
        ];
        let same = lay_over(&cluster, vec![role("x", &[], None, "list")]).unwrap();
        assert_eq!(verbs(&same.filled, "edit"), ["get"]);
        assert!(verbs(&same.filled, "late").is_empty());
        let new = vec![role("writer", &[("to-view", "true")], None, "delete")];
        let done = lay_over(&cluster, new).unwrap();
        assert_eq!(verbs(&done.filled, "view"), ["get", "delete"]);
        assert_eq!(verbs(&done.filled, "edit"), ["get", "delete"]);
        assert_eq!(verbs(&done.written, "edit"), ["get"]);
    }

    #[test]
    fn a_changed_role_reference_is_refused_and_others_are_replaced() {
        let binding = |name: &str, role: &str, subjects: usize| {
            Object::Binding(Binding {
                meta: Meta {
                    name: name.into(),
                    ..Meta::default()
                },
                role: RoleRef {
                    cluster: true,
                    name: role.into(),
                },
                subjects: vec![crate::object::Subject::user("u"); subjects],
                ..Default::default()
            })
        };
        let cluster = [binding("a", "view", 1), binding("b", "view", 1)];
        let wrong = lay_over(&cluster, vec![binding("a", "edit", 1)]).unwrap_err();
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].role, (true, "view".to_owned()));
        let done = lay_over(&cluster, vec![binding("a", "view", 2)]).unwrap();
        assert_eq!(
            done.written,
            [binding("a", "view", 2), binding("b", "view", 1)]
        );
    }

    #[test]
    fn a_template_replaces_the_pods_of_its_workload() {
        let pod = |name: &str, workload: &str, predicted: bool| {
            Object::Pod(Box::new(Pod {
                meta: Meta {
                    namespace: "n".into(),
                    name: name.into(),
                    ..Meta::default()
                },
                predicted,
                workload: Some(Workload {
                    kind: "Deployment".into(),
                    name: workload.into(),
                }),
                ..Pod::default()
            }))
        };
        let cluster = [
            pod("a-1", "a", false),
            pod("a-2", "a", false),
            pod("b-1", "b", false),
        ];
        let done = lay_over(&cluster, vec![pod("a", "a", true)]).unwrap();
        let names: Vec<&str> = done
            .written
            .iter()
            .map(|o| o.meta().name.as_str())
            .collect();
        assert_eq!(names, ["a", "b-1"]);
    }
}
