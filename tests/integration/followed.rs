//! The binary follows a stand-in for the API server: what comes, changes, goes, or may not be read.

use crate::command::Server;
use crate::standin::{Asks, Fault, Standin};
use rbac_exporter::object::Resource;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// For the watch to bring a change and the writer to settle it, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SINCE: &str = "rbac_risky_subject_since_timestamp_seconds";

struct Rig {
    api: Standin,
    server: Server,
    _dir: TempDir,
}

impl Rig {
    async fn start(fill: impl FnOnce(&Standin)) -> Rig {
        let api = Standin::start().await;
        fill(&api);
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig()).unwrap();
        let server = Server::watch(&kubeconfig);
        Rig {
            api,
            server,
            _dir: dir,
        }
    }

    fn await_ready(&self) {
        self.server.until(PATIENCE, |s| s.get("/-/ready").0 == 200);
    }

    /// Waits until the sum of a family over samples with `part` in their labels is `value`.
    #[track_caller]
    fn becomes(&self, family: &str, part: &str, value: f64) {
        self.server
            .until(PATIENCE, |s| s.sum(family, part) == value);
    }

    fn shows(&self, part: &str) -> bool {
        self.server.get("/metrics").1.contains(part)
    }
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"})
}

fn cluster_role(name: &str, verb: &str, resource: &str) -> Value {
    let rule = json!({"verbs": [verb], "apiGroups": [if verb == "*" { "*" } else { "" }], "resources": [resource]});
    json!({"metadata": metadata("", name), "rules": [rule]})
}

fn binding(namespace: &str, name: &str, role: &str, subject: &Value) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({
        "metadata": metadata(namespace, name),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    })
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

/// A pod with the token that admission gives, and whatever else its metadata says.
fn pod(namespace: &str, name: &str, account: &str, more: &[(&str, Value)]) -> Value {
    let mut metadata = metadata(namespace, name);
    for (key, value) in more {
        metadata[*key] = value.clone();
    }
    let mount = "/var/run/secrets/kubernetes.io/serviceaccount";
    json!({
        "metadata": metadata,
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "main", "volumeMounts": [{"name": "t", "mountPath": mount}]}],
            "volumes": [{"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
            ]}}],
        },
        "status": {"phase": "Running"},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_bound_comes_changes_and_goes() {
    let rig = Rig::start(|api| {
        let to = binding("", "b", "late", &user("u"));
        api.put(Resource::ClusterRoleBindings, to);
    })
    .await;
    rig.await_ready();
    let risky = |priority: &str, n: f64| {
        let part = format!(r#"kind="User",priority="{priority}",status="open""#);
        rig.becomes("rbac_risky_subjects", &part, n);
    };
    let missing = r#"reason="role-missing""#;
    rig.becomes("rbac_dangling_bindings", missing, 1.0);
    risky("critical", 0.0);
    rig.api
        .put(Resource::ClusterRoles, cluster_role("late", "*", "*"));
    risky("critical", 1.0);
    rig.becomes("rbac_dangling_bindings", missing, 0.0);
    let series = |priority: &str| {
        format!(r#"{SINCE}{{namespace="",kind="User",name="u",priority="{priority}""#)
    };
    assert!(rig.shows(&series("critical")));
    rig.api.put(
        Resource::ClusterRoles,
        cluster_role("late", "create", "pods/attach"),
    );
    risky("critical", 0.0);
    assert!(!rig.shows(&series("critical")), "deleted series vanish");
    rig.api
        .put(Resource::ClusterRoles, cluster_role("late", "get", "pods"));
    rig.server.until(PATIENCE, |s| s.sum(SINCE, "") == 0.0);
    rig.api
        .put(Resource::ClusterRoles, cluster_role("late", "*", "*"));
    risky("critical", 1.0);
    rig.api.remove(Resource::ClusterRoles, "", "late");
    risky("critical", 0.0);
    rig.becomes("rbac_dangling_bindings", missing, 1.0);
    assert!(!rig.shows(r#"name="u""#), "deleted series vanish");
    assert!(!rig.shows("rbac_rule_subjects{"), "of the rules, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_made_again_is_reached_again() {
    let strong = || json!({"metadata": metadata("a", "strong")});
    let rig = Rig::start(|api| {
        api.put(Resource::ServiceAccounts, strong());
        api.put(Resource::ClusterRoles, cluster_role("all", "*", "*"));
        api.put(
            Resource::ClusterRoles,
            cluster_role("pods", "create", "pods"),
        );
        let strong = binding("", "strong", "all", &account("a", "strong"));
        api.put(Resource::ClusterRoleBindings, strong);
        let deployer = binding("a", "d", "pods", &user("deployer"));
        api.put(Resource::RoleBindings, deployer);
    })
    .await;
    rig.await_ready();
    let critical = |kind: &str, n: f64| {
        let part = format!(r#"kind="{kind}",priority="critical",status="open""#);
        rig.becomes("rbac_risky_subjects", &part, n);
    };
    let accounts = r#"namespace="a",kind="ServiceAccount""#;
    critical("User", 1.0);
    for _ in 0..2 {
        rig.api.remove(Resource::ServiceAccounts, "a", "strong");
        critical("User", 0.0);
        // the subject stays, as it is bound, and whoever may impersonate it needs no object
        critical("ServiceAccount", 1.0);
        rig.becomes("rbac_subjects", accounts, 1.0);
        let missing = r#"reason="serviceaccount-missing""#;
        rig.becomes("rbac_dangling_bindings", missing, 1.0);
        rig.api.put(Resource::ServiceAccounts, strong());
        critical("User", 1.0);
        rig.becomes("rbac_dangling_bindings", missing, 0.0);
    }
}

fn role_bindings(asks: Asks) -> bool {
    matches!(
        asks,
        Asks::List(Resource::RoleBindings)
            | Asks::Continue(Resource::RoleBindings)
            | Asks::Watch(Resource::RoleBindings)
    )
}

fn with_a_risky_role_binding(api: &Standin) {
    api.put(Resource::ClusterRoles, cluster_role("all", "*", "*"));
    let bound = binding("kube-system", "b", "all", &user("u"));
    api.put(Resource::RoleBindings, bound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_listed_is_never_read_as_absent() {
    let rig = Rig::start(|api| {
        with_a_risky_role_binding(api);
        api.break_down(role_bindings, Fault::Status(403));
    })
    .await;
    rig.server.until(PATIENCE, |s| {
        let (status, body) = s.get("/metrics");
        assert_eq!(status, 503, "{body}");
        body.contains("rolebindings: forbidden")
    });
    for path in ["/", "/api/v1/report", "/-/ready"] {
        assert_eq!(rig.server.get(path).0, 503, "{path}");
    }
    assert_eq!(rig.server.get("/-/healthy").0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_no_longer_be_read_stays_and_is_said() {
    let rig = Rig::start(with_a_risky_role_binding).await;
    rig.await_ready();
    let critical = r#"kind="User",priority="critical",status="open""#;
    rig.becomes("rbac_risky_subjects", critical, 1.0);
    rig.becomes("rbac_exporter_complete", "", 1.0);
    rig.api.break_down(role_bindings, Fault::Status(403));
    rig.api.cut(Resource::RoleBindings);
    rig.becomes("rbac_exporter_watch_forbidden", "rolebindings", 1.0);
    rig.becomes("rbac_exporter_watch_forbidden", "", 1.0);
    rig.becomes("rbac_exporter_complete", "", 0.0);
    rig.becomes("rbac_risky_subjects", critical, 1.0);
    let report: Value = serde_json::from_str(&rig.server.get("/api/v1/report").1).unwrap();
    assert_eq!(report["complete"], false);
    let problems = report["problems"].as_array().unwrap();
    assert!(
        problems.iter().any(|p| p["kind"] == "RoleBinding"),
        "{problems:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_being_deleted_is_hot_until_it_is_gone() {
    let rig = Rig::start(|api| {
        api.put(
            Resource::ServiceAccounts,
            json!({"metadata": metadata("a", "strong")}),
        );
        api.put(Resource::ClusterRoles, cluster_role("all", "*", "*"));
        let strong = binding("", "strong", "all", &account("a", "strong"));
        api.put(Resource::ClusterRoleBindings, strong);
        api.put(Resource::Pods, pod("a", "p", "strong", &[]));
    })
    .await;
    rig.await_ready();
    let hot = r#"namespace="a",priority="critical",status="open""#;
    rig.becomes("rbac_hot_pods", hot, 1.0);
    let events = |s: &Server| s.sum("rbac_exporter_watch_events_total", "pods");
    let before = events(&rig.server);
    let deleted = [
        ("deletionTimestamp", json!("2026-01-01T02:00:00Z")),
        ("deletionGracePeriodSeconds", json!(3600)),
    ];
    rig.api
        .put(Resource::Pods, pod("a", "p", "strong", &deleted));
    rig.server.until(PATIENCE, |s| events(s) > before);
    assert_eq!(rig.server.sum("rbac_hot_pods", hot), 1.0);
    rig.api.remove(Resource::Pods, "a", "p");
    rig.becomes("rbac_hot_pods", hot, 0.0);
    rig.becomes("rbac_pods", r#"namespace="a""#, 0.0);
}
