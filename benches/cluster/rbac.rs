//! Roles and bindings as operators, charts and GitOps tools leave them behind, and those that every API server
//! has from its start.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Rules of roles as people have them, as JSON: most are harmless, a quarter leads on.
pub(crate) const RULES: [&str; 16] = [
    r#"[{"verbs":["get","list","watch"],"apiGroups":[""],"resources":["pods","services","endpoints","configmaps"]},{"verbs":["create","patch"],"apiGroups":["","events.k8s.io"],"resources":["events"]},{"verbs":["get","create","update"],"apiGroups":["coordination.k8s.io"],"resources":["leases"]}]"#,
    r#"[{"verbs":["get"],"apiGroups":[""],"resources":["configmaps"],"resourceNames":["$name$-config"]},{"verbs":["get","list","watch"],"apiGroups":["apps"],"resources":["deployments","statefulsets","daemonsets"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":[""],"resources":["secrets"]},{"verbs":["get","create","update"],"apiGroups":["coordination.k8s.io"],"resources":["leases"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":["example.com"],"resources":["widgets","gadgets"]},{"verbs":["get","update","patch"],"apiGroups":["example.com"],"resources":["widgets/status","gadgets/status"]},{"verbs":["update"],"apiGroups":["example.com"],"resources":["widgets/finalizers"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":[""],"resources":["namespaces","nodes"]},{"verbs":["get","list","watch"],"apiGroups":["metrics.k8s.io"],"resources":["pods","nodes"]}]"#,
    r#"[{"verbs":["get","list","watch","create","update","patch","delete"],"apiGroups":["apps"],"resources":["deployments","replicasets"]},{"verbs":["get","list","watch","create","update","patch","delete"],"apiGroups":[""],"resources":["services","configmaps"]}]"#,
    r#"[{"verbs":["get","update"],"apiGroups":[""],"resources":["configmaps"],"resourceNames":["$name$-leader"]},{"verbs":["create"],"apiGroups":[""],"resources":["configmaps"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":["networking.k8s.io"],"resources":["ingresses","networkpolicies"]},{"verbs":["update"],"apiGroups":["networking.k8s.io"],"resources":["ingresses/status"]}]"#,
    r#"[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","pods/log"]},{"verbs":["create"],"apiGroups":[""],"resources":["pods/exec"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":["batch"],"resources":["jobs","cronjobs"]},{"verbs":["get","list","watch"],"apiGroups":[""],"resources":["pods","pods/log"]}]"#,
    r#"[{"verbs":["use"],"apiGroups":["policy"],"resources":["podsecuritypolicies"],"resourceNames":["restricted"]}]"#,
    r#"[{"verbs":["get","list","watch","patch"],"apiGroups":["autoscaling"],"resources":["horizontalpodautoscalers"]},{"verbs":["get"],"apiGroups":["custom.metrics.k8s.io"],"resources":["*"]}]"#,
    r#"[{"verbs":["create"],"apiGroups":[""],"resources":["serviceaccounts/token"],"resourceNames":["$name$"]},{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["$name$-tls","$name$-credentials"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":["cert-manager.io"],"resources":["certificates","issuers","certificaterequests"]},{"verbs":["create","patch"],"apiGroups":[""],"resources":["events"]}]"#,
    r#"[{"verbs":["*"],"apiGroups":["monitoring.example.com"],"resources":["*"]}]"#,
    r#"[{"verbs":["get","list","watch"],"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"]},{"verbs":["get"],"nonResourceURLs":["/metrics"]}]"#,
];

/// Objects of a server's start, as JSON without its metadata's server-made fields.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    /// `(kind, namespace, name, rest of the object as text after the metadata, labels as text)`
    pub(crate) objects: Vec<Default_>,
    /// Service accounts that the default bindings name: namespace, name.
    pub(crate) accounts: Vec<(String, String)>,
}

/// One object of a server's start.
#[derive(Debug)]
pub(crate) struct Default_ {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Labels as JSON.
    pub(crate) labels: String,
    /// What follows the metadata, from `"rules"` or `"subjects"` on.
    pub(crate) rest: String,
    pub(crate) fields: &'static str,
}

impl Defaults {
    /// Reads those of the newest supported version.
    pub(crate) fn read() -> Defaults {
        let roles = include_str!("../../src/rbac/data/roles-1.37.yaml");
        let pairs = include_str!("../../src/risk/data/bindings.yaml");
        let roles: Value = serde_yaml::from_str(roles).unwrap();
        let pairs: Value = serde_yaml::from_str(pairs).unwrap();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut defaults = Defaults::default();
        for role in roles["roles"].as_array().unwrap() {
            let mut rest = format!("\"rules\":{}", role["rules"]);
            if role["aggregationRule"].is_object() {
                rest.push_str(&format!(",\"aggregationRule\":{}", role["aggregationRule"]));
            }
            let none = Value::Object(Map::new());
            defaults.objects.push(Default_ {
                kind: text(role, "kind"),
                namespace: text(role, "namespace"),
                name: text(role, "name"),
                labels: role.get("labels").unwrap_or(&none).to_string(),
                rest,
                fields: "\"f:rules\":{}",
            });
        }
        let mut bindings: BTreeMap<(String, String, String), (Value, Vec<Value>)> = BTreeMap::new();
        for pair in pairs["bindings"].as_array().unwrap() {
            if !matches!(pair["from"].as_str(), Some("all" | "1.37")) {
                continue;
            }
            let subject = text(pair, "subject");
            let (kind, name) = subject.split_once(':').unwrap();
            let group = "rbac.authorization.k8s.io";
            let subject = match kind {
                "sa" => {
                    let (namespace, name) = name.split_once('/').unwrap();
                    let account = (namespace.to_owned(), name.to_owned());
                    if !defaults.accounts.contains(&account) {
                        defaults.accounts.push(account);
                    }
                    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
                }
                "user" => json!({"kind": "User", "apiGroup": group, "name": name}),
                _ => json!({"kind": "Group", "apiGroup": group, "name": name}),
            };
            let key = (
                text(pair, "kind"),
                text(pair, "namespace"),
                text(pair, "name"),
            );
            let role = json!({"apiGroup": group, "kind": pair["roleKind"], "name": pair["role"]});
            let entry = bindings.entry(key).or_insert((role, Vec::new()));
            entry.1.push(subject);
        }
        for ((kind, namespace, name), (role, subjects)) in bindings {
            defaults.objects.push(Default_ {
                kind,
                namespace,
                name,
                labels: r#"{"kubernetes.io/bootstrapping":"rbac-defaults"}"#.to_owned(),
                rest: format!("\"subjects\":{},\"roleRef\":{role}", json!(subjects)),
                fields: "\"f:roleRef\":{},\"f:subjects\":{}",
            });
        }
        defaults
    }
}
