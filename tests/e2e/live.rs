//! What kubectl changes is in `/metrics` within a second of the API server's answer.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::exporter::Exporter;
use crate::harness::exposition::Samples;
use crate::harness::world::World;
use crate::harness::{SOON, eventually, repository};

/// The exporter on the shared cluster, under its own account.
fn exporter() -> &'static Exporter {
    static SHARED: OnceLock<Exporter> = OnceLock::new();
    SHARED.get_or_init(|| {
        let world = World::shared();
        Exporter::watch(&world.exporter_kubeconfig(world.port()))
    })
}

/// Waits until the sum over some series is `value`.
#[track_caller]
fn becomes(what: &str, name: &str, labels: &[(&str, &str)], value: f64) -> Duration {
    let (_, took) = eventually(what, SOON, || {
        let have = exporter().scrape().sum(name, labels);
        if have == value {
            Ok(())
        } else {
            Err(format!("{name}{labels:?} is {have}"))
        }
    });
    println!("{what}: {took:.1?}");
    took
}

fn rbac(kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    let Value::Object(rest) = rest else {
        panic!("the rest of an object is an object")
    };
    object.as_object_mut().expect("it is one").extend(rest);
    object
}

#[test]
fn every_change_is_seen_within_a_second() {
    const SPACE: &str = "live-changes";
    const HERE: (&str, &str) = ("namespace", SPACE);
    const ACCOUNT: (&str, &str) = ("kind", "ServiceAccount");
    const OPEN: (&str, &str) = ("status", "open");
    let world = World::shared();
    let users = [("namespace", ""), ("kind", "User"), OPEN];
    let risky_users = exporter().scrape().sum("rbac_risky_subjects", &users);

    // --- created
    world.kubectl(&["create", "namespace", SPACE], "");
    eventually("a new namespace has series of value 0", SOON, || {
        let samples = exporter().scrape();
        let found = samples.select("rbac_pods", &[HERE]).next().is_some();
        if found {
            Ok(())
        } else {
            Err("no series".to_owned())
        }
    });
    world.await_account(SPACE, "default");
    becomes(
        "the namespace's default account",
        "rbac_subjects",
        &[HERE, ACCOUNT],
        1.0,
    );
    world.kubectl(&["create", "serviceaccount", "worker", "-n", SPACE], "");
    becomes("a new account", "rbac_subjects", &[HERE, ACCOUNT], 2.0);

    let reads_secrets = json!({"rules": [
        {"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]},
    ]});
    world.apply(&rbac("Role", SPACE, "worker", reads_secrets));
    let unbound = [
        HERE,
        ("kind", "Role"),
        ("priority", "high"),
        ("bound", "false"),
    ];
    becomes("a new role", "rbac_risky_roles", &unbound, 1.0);

    let to_worker = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "worker"},
        "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": SPACE}],
    });
    world.apply(&rbac("RoleBinding", SPACE, "worker", to_worker.clone()));
    let risky = [HERE, ACCOUNT, ("priority", "high"), OPEN];
    becomes("a new binding", "rbac_risky_subjects", &risky, 1.0);
    let samples = exporter().scrape();
    let bindings = [HERE, ("kind", "RoleBinding"), ("priority", "high"), OPEN];
    assert_eq!(samples.sum("rbac_risky_bindings", &bindings), 1.0);
    assert_eq!(samples.sum("rbac_risky_roles", &unbound), 0.0);
    let rule = [("rule", "secrets-list"), ("priority", "high"), OPEN];
    assert!(samples.sum("rbac_rule_subjects", &rule) >= 1.0);

    world.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker", "namespace": SPACE},
        "spec": {
            "serviceAccountName": "worker",
            "containers": [{"name": "main", "image": "example.invalid/worker:1"}],
        },
    }));
    becomes("a new pod", "rbac_pods", &[HERE], 1.0);
    // There is no kubelet, so it stays Pending, which counts as live.
    let hot = [HERE, ("priority", "high"), OPEN];
    becomes("a hot pod", "rbac_hot_pods", &hot, 1.0);
    let automounted = [HERE, ("priority", "high")];
    becomes(
        "an automounted token",
        "rbac_automount_pods",
        &automounted,
        1.0,
    );

    // --- changed
    let reads_maps = json!({"rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["endpoints"]},
    ]});
    world.apply(&rbac("Role", SPACE, "worker", reads_maps));
    becomes("a role made harmless", "rbac_risky_subjects", &[HERE], 0.0);
    becomes("its pod", "rbac_hot_pods", &[HERE], 0.0);

    let anything = json!({"rules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    ]});
    world.apply(&rbac("Role", SPACE, "worker", anything));
    becomes(
        "a role with a wildcard",
        "rbac_wildcard_rules",
        &[HERE],
        1.0,
    );
    becomes(
        "its subject",
        "rbac_risky_subjects",
        &[HERE, ACCOUNT, OPEN],
        1.0,
    );

    let mut to_user = to_worker;
    to_user["subjects"] = json!([
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "live-user"},
    ]);
    world.apply(&rbac("RoleBinding", SPACE, "worker", to_user));
    becomes(
        "a binding to another subject",
        "rbac_risky_subjects",
        &users,
        risky_users + 1.0,
    );
    becomes("the one before", "rbac_risky_subjects", &[HERE], 0.0);

    let events = [("resource", "serviceaccounts")];
    let before = exporter()
        .scrape()
        .sum("rbac_exporter_watch_events_total", &events);
    world.kubectl(
        &[
            "label",
            "serviceaccount",
            "worker",
            "changed=yes",
            "-n",
            SPACE,
        ],
        "",
    );
    eventually("a changed account", SOON, || {
        let now = exporter()
            .scrape()
            .sum("rbac_exporter_watch_events_total", &events);
        if now > before {
            Ok(())
        } else {
            Err(format!("still {now} events"))
        }
    });

    let ended = json!({"status": {"phase": "Succeeded"}}).to_string();
    let patch = [
        "patch",
        "pod",
        "worker",
        "-n",
        SPACE,
        "--subresource=status",
        "-p",
        &ended,
    ];
    world.kubectl(&patch, "");
    becomes("a pod that ended", "rbac_pods", &[HERE], 0.0);

    // --- deleted
    world.kubectl(&["delete", "rolebinding", "worker", "-n", SPACE], "");
    becomes(
        "a deleted binding",
        "rbac_risky_subjects",
        &users,
        risky_users,
    );
    world.kubectl(&["delete", "role", "worker", "-n", SPACE], "");
    becomes("a deleted role", "rbac_wildcard_rules", &[HERE], 0.0);
    world.kubectl(
        &[
            "delete",
            "pod",
            "worker",
            "-n",
            SPACE,
            "--force",
            "--grace-period=0",
        ],
        "",
    );
    world.kubectl(&["delete", "serviceaccount", "worker", "-n", SPACE], "");
    becomes("a deleted account", "rbac_subjects", &[HERE, ACCOUNT], 1.0);
    world.kubectl(&["delete", "namespace", SPACE], "");
    eventually("a deleted namespace", SOON, || {
        let answer = exporter().get("/metrics", &[]);
        let left = answer.text().lines().find(|line| line.contains(SPACE));
        left.map_or(Ok(()), |line| Err(line.to_owned()))
    });
}

#[test]
fn a_binding_to_cluster_admin_comes_and_goes_within_a_second() {
    const NAME: &str = "live-admin";
    let world = World::shared();
    let labels = [
        ("kind", "User"),
        ("priority", "critical"),
        ("status", "open"),
    ];
    let count = |samples: &Samples| samples.sum("rbac_risky_subjects", &labels);
    let before = count(&exporter().scrape());
    let measure = |args: &[&str], expected: f64| {
        let start = Instant::now();
        world.kubectl(args, "");
        let (_, took) = eventually("the binding comes and goes", SOON, || {
            let have = count(&exporter().scrape());
            if have == expected {
                Ok(())
            } else {
                Err(format!("{have} critical users"))
            }
        });
        (took, start.elapsed())
    };
    let create = [
        "create",
        "clusterrolebinding",
        NAME,
        "--clusterrole=cluster-admin",
        "--user=live-admin",
    ];
    let delete = ["delete", "clusterrolebinding", NAME];
    for (what, action, expected) in (0..5).flat_map(|_| {
        [
            ("created", &create[..], before + 1.0),
            ("deleted", &delete[..], before),
        ]
    }) {
        let (after, whole) = measure(action, expected);
        println!("{what}: {after:.1?} after kubectl returned, {whole:.1?} with kubectl itself");
    }
}

#[test]
fn the_demo_on_a_server_is_judged_as_its_files_are() {
    let world = World::with_controllers();
    let demo = repository("deploy/demo");
    let path = demo.to_str().expect("the path is UTF-8");
    world.kubectl(
        &["apply", "--validate=strict", "--recursive", "-f", path],
        "",
    );
    let live = Exporter::watch(&world.exporter_kubeconfig(world.port())).report();
    let files = Exporter::start(&["--source.manifests", path], None).report();

    let judged = |entry: &Value| {
        let key = ["kind", "namespace", "name"].map(|key| entry[key].to_string());
        let value = ["priority", "own", "status"].map(|key| entry[key].to_string());
        (key, value)
    };
    let entries = |report: &Value, what: &str| -> Vec<Value> {
        report[what].as_array().expect("an array").clone()
    };
    let mut differences = Vec::new();
    let mut compared = 0;
    for what in ["subjects", "pods"] {
        let live: BTreeMap<_, _> = entries(&live, what).iter().map(judged).collect();
        for entry in entries(&files, what) {
            // A new pod on the server has not ended, and what controllers would make is not there.
            if entry["terminal"] == true || entry["predicted"] == true {
                continue;
            }
            compared += 1;
            let (key, here) = judged(&entry);
            let there = live.get(&key);
            if there != Some(&here) {
                differences.push(format!("{what} {key:?}: files {here:?}, server {there:?}"));
            }
        }
    }
    println!("{compared} subjects and pods are judged alike");
    assert!(compared > 80, "{compared} subjects and pods");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
