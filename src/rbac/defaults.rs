//! The default roles that every cluster has and manifests lack, as real API servers create them.

use crate::object::{LabelSelector, Meta, PolicyRule, Role};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A server version, major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// `1`
    pub major: u32,
    /// `37`
    pub minor: u32,
}

/// The oldest supported version, assumed when the server does not tell (the stricter judgement).
pub const OLDEST: ServerVersion = ServerVersion {
    major: 1,
    minor: 33,
};
/// The newest version whose default roles are shipped.
pub const NEWEST: ServerVersion = ServerVersion {
    major: 1,
    minor: 37,
};

impl ServerVersion {
    /// Reads `1.37`, `1.37.2`, `v1.37.2-gke.1`.
    pub fn parse(text: &str) -> Option<ServerVersion> {
        let mut parts = text.trim().trim_start_matches('v').split(['.', '-', '+']);
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(ServerVersion { major, minor })
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Deserialize)]
struct File {
    roles: Vec<Shipped>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shipped {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    aggregation_rule: Option<Aggregation>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Aggregation {
    cluster_role_selectors: Vec<Selector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    verbs: Vec<String>,
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

/// The default roles of the newest shipped version that is not newer than `version` (the oldest
/// shipped one for older servers). Aggregated roles are filled.
pub fn shipped_roles(version: ServerVersion) -> &'static [Role] {
    static OLD: OnceLock<Vec<Role>> = OnceLock::new();
    static NEW: OnceLock<Vec<Role>> = OnceLock::new();
    if version < NEWEST {
        OLD.get_or_init(|| read(include_str!("data/roles-1.33.yaml")))
    } else {
        NEW.get_or_init(|| read(include_str!("data/roles-1.37.yaml")))
    }
}

fn read(text: &str) -> Vec<Role> {
    let file: File =
        serde_yaml::from_str(text).expect("the shipped default roles are checked by a test");
    file.roles
        .into_iter()
        .map(|shipped| {
            debug_assert_eq!(shipped.kind == "Role", !shipped.namespace.is_empty());
            Role {
                meta: Meta {
                    namespace: shipped.namespace,
                    name: shipped.name,
                    ..Meta::default()
                },
                labels: shipped.labels.into_iter().collect(),
                aggregation: shipped.aggregation_rule.map(|a| {
                    a.cluster_role_selectors
                        .into_iter()
                        .map(|s| LabelSelector {
                            match_labels: s.match_labels.into_iter().collect(),
                            match_expressions: vec![],
                        })
                        .collect()
                }),
                rules: shipped
                    .rules
                    .into_iter()
                    .map(|r| PolicyRule {
                        verbs: r.verbs,
                        api_groups: r.api_groups,
                        resources: r.resources,
                        resource_names: r.resource_names,
                        non_resource_urls: r.non_resource_urls,
                    })
                    .collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_load_and_have_what_matters() {
        for version in [OLDEST, NEWEST] {
            let roles = shipped_roles(version);
            let find = |name: &str| roles.iter().find(|r| r.meta.name == name).expect(name);
            assert!(roles.len() > 70, "{}", roles.len());
            assert_eq!(find("cluster-admin").rules.len(), 2);
            for aggregated in ["admin", "edit", "view"] {
                assert!(find(aggregated).aggregation.is_some());
                assert!(find(aggregated).rules.len() > 5);
            }
            assert_eq!(
                find("system:controller:token-cleaner").meta.namespace,
                "kube-system"
            );
        }
    }

    #[test]
    fn versions_read() {
        let v = |major, minor| Some(ServerVersion { major, minor });
        assert_eq!(ServerVersion::parse("v1.37.2"), v(1, 37));
        assert_eq!(ServerVersion::parse("1.33"), v(1, 33));
        assert_eq!(ServerVersion::parse("v1.34.1-gke.100+x"), v(1, 34));
        for odd in ["", "1", "x.y", "1.x"] {
            assert_eq!(ServerVersion::parse(odd), None, "{odd}");
        }
    }
}
