//! `diff live NEW` foretells what `kubectl apply` and the controllers then make of the cluster.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::exporter::{find, run_on, scan};
use crate::harness::world::World;
use crate::harness::{SOON, eventually};

const SPACE: &str = "diff-live";
const RBAC: &str = "apiVersion: rbac.authorization.k8s.io/v1";

/// What the cluster has before.
fn before() -> Value {
    let reference = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let rbac = |kind: &str, name: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": SPACE},
        });
        let Value::Object(rest) = rest else {
            panic!("an object")
        };
        object.as_object_mut().unwrap().extend(rest);
        object
    };
    let account = |name: &str, automount: bool| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": SPACE},
            "automountServiceAccountToken": automount,
        })
    };
    let named = |name: &str| json!([{"kind": "ServiceAccount", "name": name, "namespace": SPACE}]);
    json!({"apiVersion": "v1", "kind": "List", "items": [
        account("worker", true),
        account("quiet", false),
        rbac("Role", "worker", json!({"rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
        ]})),
        rbac("RoleBinding", "worker", json!({
            "roleRef": reference("Role", "worker"), "subjects": named("worker"),
        })),
        rbac("RoleBinding", "quiet", json!({
            "roleRef": reference("ClusterRole", "view"), "subjects": named("quiet"),
        })),
        rbac("RoleBinding", "guests", json!({
            "roleRef": reference("ClusterRole", "view"),
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "diff-guests"}],
        })),
    ]})
}

/// A role that grows, one that is taken up by `view`, and a workload of an account that is known to
/// the cluster alone. None names a namespace.
fn chart() -> String {
    format!(
        "{RBAC}
kind: Role
metadata: {{name: worker}}
rules:
- {{apiGroups: [''], resources: [pods], verbs: [create]}}
---
{RBAC}
kind: ClusterRole
metadata:
  name: diff-live-secrets
  labels: {{rbac.authorization.k8s.io/aggregate-to-view: 'true'}}
rules:
- {{apiGroups: [''], resources: [secrets], verbs: [get, list]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: quiet}}
spec:
  selector: {{matchLabels: {{app: quiet}}}}
  template:
    metadata: {{labels: {{app: quiet}}}}
    spec:
      serviceAccountName: quiet
      containers: [{{name: main, image: example.invalid/quiet:1}}]
"
    )
}

/// Effective priority and status by kind, namespace and name.
fn levels(report: &Value) -> BTreeMap<[String; 3], [String; 2]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let subjects = report["subjects"].as_array().unwrap().iter();
    subjects
        .map(|s| {
            (
                ["kind", "namespace", "name"].map(|k| text(&s[k])),
                ["priority", "status"].map(|k| text(&s[k])),
            )
        })
        .collect()
}

#[test]
fn what_is_foretold_comes_true() {
    // a cluster of its own, as `view` is everybody's
    let world = World::with_controllers();
    world.kubectl(&["create", "namespace", SPACE], "");
    world.await_account(SPACE, "default");
    world.apply(&before());
    let kubeconfig = world.admin_kubeconfig().to_owned();
    let file = world.path().join("chart.yaml");
    std::fs::write(&file, chart()).unwrap();
    let path = file.to_str().unwrap();
    let args = [
        "diff",
        "live",
        path,
        "--namespace",
        SPACE,
        "--output",
        "json",
    ];
    let told = run_on(&kubeconfig, &args, "");
    assert_eq!(told.code, 0, "{}", told.stderr);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    println!("{told:#}");

    let worker = find(&told["subjects"], "ServiceAccount", SPACE, "worker").unwrap();
    assert_eq!(worker["change"], "rises");
    let because = &worker["because"][0];
    assert_eq!(
        (&because["kind"], &because["old"]),
        (&json!("Role"), &Value::Null)
    );
    assert_eq!(because["new"], json!({"file": path, "line": 1}));
    let guests = find(&told["subjects"], "Group", "", "diff-guests").unwrap();
    assert_eq!(guests["change"], "rises");
    assert_eq!(guests["because"][0]["name"], "diff-live-secrets");
    // objects are what people wrote: `view` is filled by a controller
    let changed: Vec<&str> = told["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["diff-live-secrets", "quiet", "worker"]);

    // a threshold, and the chart on standard input
    let args = ["diff", "live", "-", "-n", SPACE, "--fail-on", "high"];
    let text = run_on(&kubeconfig, &args, &chart());
    assert_eq!(text.code, 1, "{}", text.stderr);
    assert!(text.stdout.contains("cluster → -:1"), "{}", text.stdout);

    let old = levels(&scan(&kubeconfig));
    world.kubectl(&["apply", "-n", SPACE, "-f", path], "");
    eventually("the controller fills view", SOON * 20, || {
        let view = world.kubectl(&["get", "clusterrole", "view", "-o", "yaml"], "");
        if view.contains("- secrets") {
            Ok(())
        } else {
            Err(view)
        }
    });
    let new = levels(&scan(&kubeconfig));
    let mut came_true = 0;
    for (subject, level) in &new {
        let [kind, namespace, name] = subject.each_ref().map(String::as_str);
        let foretold = find(&told["subjects"], kind, namespace, name);
        match foretold {
            Some(told) => {
                assert_eq!(told["new"]["priority"], level[0], "{subject:?}");
                assert_eq!(told["new"]["status"], level[1], "{subject:?}");
                came_true += 1;
            }
            None => assert_eq!(old.get(subject), Some(level), "{subject:?}"),
        }
    }
    assert_eq!(came_true, told["subjects"].as_array().unwrap().len());

    let again = run_on(
        &kubeconfig,
        &["diff", "live", path, "-n", SPACE, "-o", "json"],
        "",
    );
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(
        again["subjects"],
        json!([]),
        "applying it twice changes nothing"
    );

    // refused by the server, and by us for the same reason
    let other = format!(
        "{RBAC}
kind: RoleBinding
metadata: {{name: guests, namespace: {SPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}}
subjects: []
"
    );
    let applied = world.try_kubectl(&["apply", "-f", "-"], &other);
    assert!(
        applied.stderr.contains("field is immutable"),
        "{}",
        applied.stderr
    );
    let refused = run_on(&kubeconfig, &["diff", "live", "-"], &other);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    let expected = "-:1: RoleBinding diff-live/guests: roleRef is ClusterRole \"view\" in the cluster \
                    and ClusterRole \"edit\" here";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
}
