//! Which documents are read, which are passed over, and which look like a mistake.

use crate::object::Resource;
use crate::source::slim::{RBAC_GROUP, Wanted};
use crate::spelling::nearest;

/// What to do with an object, by its apiVersion and kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Read it; with a warning when no supported server has this version any more.
    Read(Wanted, Option<String>),
    /// Of another kind.
    Other,
    /// Taken for one of ours with a mistake in it.
    Wrong {
        /// What is wrong and what to write.
        message: String,
        /// What it was probably meant to be.
        meant: Option<Wanted>,
    },
}

/// Everything that is read: group, the versions before `v1` that had the same fields, and what it is.
const READ: [(&str, &[&str], Wanted); 14] = [
    (
        RBAC_GROUP,
        &["v1beta1"],
        Wanted::Resource(Resource::ClusterRoles),
    ),
    (RBAC_GROUP, &["v1beta1"], Wanted::Resource(Resource::Roles)),
    (
        RBAC_GROUP,
        &["v1beta1"],
        Wanted::Resource(Resource::ClusterRoleBindings),
    ),
    (
        RBAC_GROUP,
        &["v1beta1"],
        Wanted::Resource(Resource::RoleBindings),
    ),
    ("", &[], Wanted::Resource(Resource::ServiceAccounts)),
    ("", &[], Wanted::Resource(Resource::Pods)),
    ("", &[], Wanted::Resource(Resource::Namespaces)),
    ("", &[], Wanted::Workload("ReplicationController")),
    (
        "apps",
        &["v1beta1", "v1beta2"],
        Wanted::Workload("Deployment"),
    ),
    (
        "apps",
        &["v1beta1", "v1beta2"],
        Wanted::Workload("StatefulSet"),
    ),
    ("apps", &["v1beta2"], Wanted::Workload("DaemonSet")),
    ("apps", &["v1beta2"], Wanted::Workload("ReplicaSet")),
    ("batch", &[], Wanted::Workload("Job")),
    ("batch", &["v1beta1"], Wanted::Workload("CronJob")),
];

/// The `kind` of a list of anything.
pub(super) const LIST: &str = "List";

/// What to do with an object of this apiVersion and kind.
pub(super) fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let exact = READ.iter().find(|(_, _, wanted)| wanted.kind() == kind);
    if let Some((right, older, wanted)) = exact {
        let write = write_version(right);
        let wrong = |message| Class::Wrong {
            message,
            meant: Some(*wanted),
        };
        return if group != *right {
            wrong(format!(
                "apiVersion is {api_version:?} where a {kind} has {write:?}; correct it"
            ))
        } else if version == "v1" {
            Class::Read(*wanted, None)
        } else if older.contains(&version) {
            Class::Read(
                *wanted,
                Some(format!(
                    "apiVersion {api_version:?} is no longer served; write {write:?}"
                )),
            )
        } else {
            wrong(format!(
                "apiVersion {api_version:?} has no {kind} that can be read; write {write:?}"
            ))
        };
    }
    let same = |name: &str| name.eq_ignore_ascii_case(kind);
    if let Some((_, _, wanted)) = READ.iter().find(|(_, _, wanted)| same(wanted.kind())) {
        return Class::Wrong {
            message: format!("kind is {kind:?}; write {:?}", wanted.kind()),
            meant: Some(*wanted),
        };
    }
    if same(LIST) {
        return Class::Wrong {
            message: format!("kind is {kind:?}; write {LIST:?}"),
            meant: None,
        };
    }
    if group.eq_ignore_ascii_case(RBAC_GROUP) {
        let ours = || READ.iter().filter(|(group, _, _)| *group == RBAC_GROUP);
        let near = nearest(kind, ours().map(|(_, _, wanted)| wanted.kind()));
        let meant = ours().find(|(_, _, wanted)| Some(wanted.kind()) == near);
        return Class::Wrong {
            message: match near {
                Some(near) => {
                    format!(
                        "kind {kind:?} does not exist in {api_version:?}; did you mean {near:?}?"
                    )
                }
                None => format!(
                    "kind {kind:?} does not exist in {api_version:?}; write ClusterRole, Role, ClusterRoleBinding or RoleBinding"
                ),
            },
            meant: meant.map(|(_, _, wanted)| *wanted),
        };
    }
    Class::Other
}

fn write_version(group: &str) -> String {
    if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        for (api_version, kind) in [
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("v1", "Pod"),
            ("apps/v1", "Deployment"),
            ("batch/v1", "CronJob"),
        ] {
            let class = classify(api_version, kind);
            assert!(
                matches!(class, Class::Read(wanted, None) if wanted.kind() == kind),
                "{kind}: {class:?}"
            );
        }
        let old = classify("rbac.authorization.k8s.io/v1beta1", "Role");
        assert!(matches!(old, Class::Read(_, Some(_))), "{old:?}");
        assert_eq!(classify("v1", "ConfigMap"), Class::Other);
        assert_eq!(classify("example.com/v1", "RolePolicy"), Class::Other);
    }

    #[test]
    fn what_looks_like_a_mistake() {
        for (api_version, kind, part) in [
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBindng",
                "did you mean \"RoleBinding\"?",
            ),
            ("rbac.authorization.k8s.io/v1", "Policy", "does not exist"),
            ("RBAC.authorization.k8s.io/v1", "Policy", "does not exist"),
            (
                "rbac.authorization.k8s.io/v1",
                "rolebinding",
                "write \"RoleBinding\"",
            ),
            ("v1", "pod", "write \"Pod\""),
            ("v1", "list", "write \"List\""),
            ("v1", "Role", "\"rbac.authorization.k8s.io/v1\""),
            ("rbac.authorization.k8s.io", "Role", "correct it"),
            ("rbac.authorization.k8s.io/v2", "Role", "has no Role"),
            ("extensions/v1beta1", "Deployment", "\"apps/v1\""),
            ("apps/v1", "Pod", "has \"v1\""),
        ] {
            match classify(api_version, kind) {
                Class::Wrong { message, .. } => {
                    assert!(message.contains(part), "{message}");
                }
                class => panic!("{api_version} {kind}: {class:?}"),
            }
        }
    }
}
