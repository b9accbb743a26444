//! Objects of any age. Nobody could ask the API server for them, so they are written into etcd.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::world::World;

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A year ago, the same in one run of the tests.
pub(crate) fn a_year_ago() -> i64 {
    static THEN: OnceLock<i64> = OnceLock::new();
    *THEN.get_or_init(|| now() - 365 * 86_400)
}

/// As Kubernetes writes it.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// `creationTimestamp` and an entry of managedFields at `changed`.
fn metadata(namespace: &str, name: &str, created: i64, fields: &Value, changed: i64) -> Value {
    let mut metadata = json!({
        "name": name,
        "uid": format!("{created:08x}-0000-4000-8000-{:012x}", name.len() * 7919 + namespace.len()),
        "creationTimestamp": rfc3339(created),
        "managedFields": [{
            "manager": "installer", "operation": "Update", "time": rfc3339(changed),
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }],
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

impl World {
    /// A ClusterRole of a year ago that was changed at `changed`.
    pub(crate) fn put_role(&self, name: &str, rules: &str, changed: i64) {
        let rules: Value = serde_json::from_str(rules).unwrap();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": metadata("", name, a_year_ago(), &json!({"f:rules": {}}), changed),
            "rules": rules,
        });
        self.write_into_etcd(&format!("clusterroles/{name}"), &role);
    }

    /// A ClusterRole of a year ago that gathers the rules of those that have a label.
    pub(crate) fn put_aggregate(&self, name: &str, label: &str) {
        let fields = json!({"f:aggregationRule": {}});
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": metadata("", name, a_year_ago(), &fields, a_year_ago()),
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]},
            "rules": [],
        });
        self.write_into_etcd(&format!("clusterroles/{name}"), &role);
    }

    /// A binding made at `created`, in a namespace or of the cluster, of an account to a ClusterRole.
    pub(crate) fn put_binding(
        &self,
        (namespace, name): (&str, &str),
        role: &str,
        account: (&str, &str),
        created: i64,
    ) {
        let cluster = namespace.is_empty();
        let fields = json!({"f:roleRef": {}, "f:subjects": {}});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if cluster { "ClusterRoleBinding" } else { "RoleBinding" },
            "metadata": metadata(namespace, name, created, &fields, created),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
            },
            "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}],
        });
        let place = if cluster {
            format!("clusterrolebindings/{name}")
        } else {
            format!("rolebindings/{namespace}/{name}")
        };
        self.write_into_etcd(&place, &binding);
    }

    /// A ServiceAccount of a year ago.
    pub(crate) fn put_account(&self, namespace: &str, name: &str) {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": metadata(namespace, name, a_year_ago(), &json!({}), a_year_ago()),
        });
        self.write_into_etcd(&format!("serviceaccounts/{namespace}/{name}"), &account);
    }
}
