//! The binary follows a stand-in for the API server: what comes, changes, goes, or may not be read.

use crate::command::Server;
use crate::standin::{Asks, Fault, Standin};
use crate::table::recovered;
use rbac_exporter::object::Resource;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For the watch to bring a change and the writer to settle it, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SINCE: &str = "rbac_risky_subject_since_timestamp_seconds";

struct Rig {
    api: Standin,
    server: Server,
    dir: TempDir,
}

impl Rig {
    async fn start(fill: impl FnOnce(&Standin)) -> Rig {
        Rig::start_with(&[], fill).await
    }

    async fn start_with(flags: &[&str], fill: impl FnOnce(&Standin)) -> Rig {
        Rig::start_as(flags, |_| json!({"token": "standin"}), fill).await
    }

    /// With the user entry of a kubeconfig, which may name files in the directory.
    async fn start_as(
        flags: &[&str],
        user: impl FnOnce(&Path) -> Value,
        fill: impl FnOnce(&Standin),
    ) -> Rig {
        let api = Standin::start().await;
        fill(&api);
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig_of(&user(dir.path()))).unwrap();
        let server = Server::watch_with(&kubeconfig, flags);
        Rig { api, server, dir }
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
async fn x1_a_role_that_is_bound_comes_changes_and_goes() {
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
async fn x2_an_account_that_is_made_again_is_reached_again() {
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
async fn x3_what_may_not_be_listed_is_never_read_as_absent() {
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
async fn x8_a_pod_that_is_being_deleted_is_hot_until_it_is_gone() {
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

fn pods(asks: Asks) -> bool {
    matches!(
        asks,
        Asks::List(Resource::Pods) | Asks::Continue(Resource::Pods) | Asks::Watch(Resource::Pods)
    )
}

/// Contract §7, `--allow-partial pods`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pods_all_but_pods_is_told_and_what_needs_one_is_assumed() {
    let rig = Rig::start_with(&["--allow-partial", "pods"], |api| {
        // whoever execs into the pods of `a` is as strong as the accounts of `a`, which no pod uses
        api.put(Resource::ClusterRoles, cluster_role("all", "*", "*"));
        let exec = cluster_role("exec", "create", "pods/exec");
        api.put(Resource::ClusterRoles, exec);
        let strong = binding("", "strong", "all", &account("a", "strong"));
        api.put(Resource::ClusterRoleBindings, strong);
        let entering = binding("a", "exec", "exec", &user("u"));
        api.put(Resource::RoleBindings, entering);
        api.break_down(pods, Fault::Status(403));
    })
    .await;
    rig.await_ready();
    let critical = r#"kind="User",priority="critical",status="open""#;
    rig.becomes("rbac_risky_subjects", critical, 1.0);
    rig.becomes("rbac_exporter_complete", "", 0.0);
    assert_eq!(rig.api.count(pods), 0, "they are not even asked for");
    let text = rig.server.get("/metrics").1;
    let with_pods: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter(|l| {
            let name = l.split(['{', ' ']).next().unwrap_or_default();
            name.starts_with("rbac_") && (name.contains("pods") || name.contains("idle_risky"))
                || l.contains(r#"resource="pods""#)
        })
        .collect();
    assert!(with_pods.is_empty(), "{with_pods:?}");
    let ready = rig.server.get("/-/ready?verbose").1;
    assert!(
        ready.starts_with("ready\n") && ready.ends_with("pods: left out (--allow-partial pods)\n"),
        "{ready}"
    );
    let report: Value = serde_json::from_str(&rig.server.get("/api/v1/report").1).unwrap();
    assert_eq!(report["complete"], false);
    assert_eq!(report["pods"], json!([]));
    let problems = report["problems"].as_array().unwrap();
    let problem = problems.iter().find(|p| p["kind"] == "Pod").unwrap();
    assert_eq!(problem["severity"], "error");
    for page in ["/", "/pods"] {
        assert!(rig.server.get(page).1.contains("left out"), "{page}");
    }
}

// === credentials

/// The server takes another token from now on, and ends what was opened with the one before.
fn rotate(rig: &Rig, token: &str) {
    rig.api.require_token(token);
    Resource::ALL.iter().for_each(|r| rig.api.close(*r));
}

fn unauthorized(server: &Server) -> f64 {
    server.sum(
        "rbac_exporter_watch_errors_total",
        r#"reason="unauthorized""#,
    )
}

/// Until something that was made after the last rotation is seen.
fn sees(rig: &Rig, name: &str) -> Duration {
    let start = Instant::now();
    let before = rig.server.sum("rbac_exporter_objects", "namespaces");
    rig.api.put(
        Resource::Namespaces,
        json!({"metadata": metadata("", name)}),
    );
    rig.server.until(Duration::from_secs(40), |s| {
        s.sum("rbac_exporter_objects", "namespaces") == before + 1.0
    });
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_replaced_in_the_kubeconfig_is_taken_up() {
    let old = |_: &Path| json!({"token": "old"});
    let rig = Rig::start_as(&[], old, |api| api.require_token("old")).await;
    rig.await_ready();
    let kubeconfig = rig.dir.path().join("kubeconfig");
    let new = rig.api.kubeconfig_of(&json!({"token": "new"}));
    fs::write(kubeconfig, new).unwrap();
    rotate(&rig, "new");
    let took = sees(&rig, "after");
    assert!(unauthorized(&rig.server) >= 1.0);
    println!("a new token in the kubeconfig: taken up after {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_run_again_when_its_token_is_refused() {
    let plugin = |dir: &Path| {
        let (script, token) = (dir.join("plugin"), dir.join("token"));
        fs::write(&token, "old").unwrap();
        let text = format!(
            "echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
             \"status\":{{\"token\":\"'$(cat {})'\"}}}}'",
            token.display()
        );
        fs::write(&script, text).unwrap();
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": [script],
        }})
    };
    let rig = Rig::start_as(&[], plugin, |api| api.require_token("old")).await;
    rig.await_ready();
    fs::write(rig.dir.path().join("token"), "new").unwrap();
    rotate(&rig, "new");
    let took = sees(&rig, "after");
    recovered("plugin's token expired", took);
}

/// What is judged must not become another cluster because somebody switched the context.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubeconfig_that_names_another_server_is_not_followed_there() {
    let rig = Rig::start(with_a_risky_role_binding).await;
    rig.await_ready();
    let other = Standin::start().await;
    fs::write(rig.dir.path().join("kubeconfig"), other.kubeconfig()).unwrap();
    rotate(&rig, "unknown");
    rig.server.until(PATIENCE, |s| {
        s.log()
            .contains("it is not followed there, restart to judge another cluster")
    });
    assert!(other.seen().is_empty());
    let critical = r#"kind="User",priority="critical",status="open""#;
    rig.becomes("rbac_risky_subjects", critical, 1.0);
    // and back
    fs::write(rig.dir.path().join("kubeconfig"), rig.api.kubeconfig()).unwrap();
    rig.api.require_token("standin");
    sees(&rig, "after");
}

// === the end

/// However deep it waits, a signal to end is obeyed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_is_obeyed_in_every_phase() {
    let lists = |asks: Asks| matches!(asks, Asks::List(_) | Asks::Continue(_));
    let watches = |asks: Asks| matches!(asks, Asks::Watch(_));
    let all = |_: Asks| true;
    let refused = |api: &Standin| api.count(|_| true) > 0;
    type Waits = fn(&Standin) -> bool;
    let half = r#"{"metadata":{"resourceVersion":"7"},"items":["#.to_owned();
    let phases: [(&str, bool, crate::standin::Matches, Fault, Waits); 7] = [
        (
            "no answer to the first list",
            false,
            lists,
            Fault::Hang,
            refused,
        ),
        (
            "half of the first list",
            false,
            lists,
            Fault::Stall(half.clone()),
            refused,
        ),
        (
            "nothing may be listed",
            false,
            lists,
            Fault::Status(403),
            refused,
        ),
        (
            "asked to come back much later",
            false,
            all,
            Fault::RetryAfter(429, 600),
            refused,
        ),
        ("no watch opens", false, watches, Fault::Hang, |api| {
            api.count(watches_any) > 0
        }),
        ("half of a relist", true, lists, Fault::Stall(half), refused),
        ("the server is gone", true, all, Fault::Drop, refused),
    ];
    for (phase, later, matches, fault, waits) in phases {
        let planned = fault.clone();
        let mut rig = Rig::start(|api| {
            if !later {
                api.break_down(matches, planned);
            }
        })
        .await;
        if later {
            rig.await_ready();
            rig.api.break_down(matches, fault);
            rig.api.compact();
            Resource::ALL.iter().for_each(|r| rig.api.cut(*r));
            std::thread::sleep(Duration::from_millis(1500));
        }
        let api = &rig.api;
        rig.server.until(PATIENCE, |_| waits(api));
        let (code, took) = rig.server.terminate();
        assert_eq!(code, Some(0), "{phase}: {}", rig.server.log());
        println!("SIGTERM, {phase}");
        recovered("SIGTERM at every phase", took);
    }
}

fn watches_any(asks: Asks) -> bool {
    matches!(asks, Asks::Watch(_))
}

/// Objects an hour ahead of us, and an hour behind: whichever clock is wrong, no time is invented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_an_hour_off_changes_no_judgement() {
    let at = |seconds: i64| {
        let now = jiff::Timestamp::now().as_second();
        jiff::Timestamp::from_second(now + seconds)
            .unwrap()
            .to_string()
    };
    let rig = Rig::start(|api| {
        for (name, off) in [("ahead", 3600), ("behind", -3600)] {
            let mut role = cluster_role(name, "*", "*");
            role["metadata"]["creationTimestamp"] = at(off).into();
            api.put(Resource::ClusterRoles, role);
            let mut bound = binding("", name, name, &user(name));
            bound["metadata"]["creationTimestamp"] = at(off).into();
            api.put(Resource::ClusterRoleBindings, bound);
        }
    })
    .await;
    rig.await_ready();
    let critical = r#"kind="User",priority="critical",status="open""#;
    rig.becomes("rbac_risky_subjects", critical, 2.0);
    let now = jiff::Timestamp::now().as_second() as f64;
    let since = |name: &str| rig.server.sum(SINCE, &format!(r#"name="{name}""#));
    assert!((now - 3600.0 - since("behind")).abs() < 60.0);
    assert!(since("ahead") <= now, "{} is in the future", since("ahead"));
    // and what happens from now on is seen as ever
    rig.api
        .put(Resource::ClusterRoles, cluster_role("ahead", "get", "pods"));
    rig.becomes("rbac_risky_subjects", critical, 1.0);
}

/// A plugin that never answers holds up the start, and nothing else.
#[test]
fn a_termination_is_obeyed_while_a_plugin_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "users": [{"name": "c", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", format!("echo > {}/runs; exec sleep 20", dir.path().display())],
        }}}],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut server = Server::connecting(&kubeconfig);
    let start = Instant::now();
    while !dir.path().join("runs").exists() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, took) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}
