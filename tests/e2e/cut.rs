//! The commands that `explain` prints, run with a real kubectl: afterwards the subject has fallen.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::exporter::run_on;
use crate::harness::parts::kubernetes;
use crate::harness::process::run;
use crate::harness::world::World;

const PLACE: &str = "cut";
/// A name that a shell would take apart.
const HOSTILE: &str = "it's $(touch x) `id`; é \u{202e}x";

fn explain(world: &World, who: &str) -> Value {
    let finished = run_on(
        world.admin_kubeconfig(),
        &["explain", who, "-o", "json"],
        "",
    );
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// A binding of one of the roles that the test makes, or of a default one.
fn binding(namespace: &str, name: &str, role: &str, subjects: &Value) -> Value {
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

#[test]
fn what_explain_prints_brings_the_subject_down() {
    let world = World::with_controllers();
    world.kubectl(&["create", "namespace", PLACE], "");
    for account in ["x", "strong", "y"] {
        world.kubectl(&["create", "serviceaccount", account, "-n", PLACE], "");
    }
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": PLACE});
    let user = |name: &str| json!({"kind": "User", "name": name});
    let as_user = user("system:serviceaccount:cut:x");
    for object in [
        // alone, among others, in three forms, and under a name made to harm
        binding("", "alone", "cluster-admin", &json!([account("x")])),
        binding(
            "",
            "-among",
            "cluster-admin",
            &json!([user("a"), as_user, account("x"), user("b")]),
        ),
        binding(
            PLACE,
            HOSTILE,
            "admin",
            &json!([user("a"), {"kind": "ServiceAccount", "name": "x"}, user("b")]),
        ),
        // two ways of y lead to the one that is strong
        binding(
            "",
            "strong",
            "cluster-admin",
            &json!([user("c"), account("strong")]),
        ),
        binding(PLACE, "one", "edit", &json!([account("y"), user("a")])),
        binding(PLACE, "two", "admin", &json!([account("y"), user("a")])),
    ] {
        world.apply(&object);
    }
    let kubectl = kubernetes("kubectl");
    let path = kubectl
        .parent()
        .expect("it lies in a directory")
        .display()
        .to_string();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    let mut ran = 0;
    for who in ["sa:cut/x", "sa:cut/y"] {
        // once more after each fall, until nothing that can be removed is left
        loop {
            let before = explain(&world, who);
            let priority = before["subject"]["priority"].as_str().unwrap().to_owned();
            if priority == "none" {
                break;
            }
            let commands = before["commands"].as_array().unwrap();
            assert!(!commands.is_empty(), "{before}");
            for command in commands {
                let command = command.as_str().unwrap();
                println!("{who} {priority}: {command}");
                let finished = run(
                    Command::new("bash")
                        .args(["-c", command])
                        .current_dir(world.path())
                        .env("PATH", &path)
                        .env("HOME", world.path())
                        .env("KUBECONFIG", world.admin_kubeconfig()),
                    "",
                );
                assert_eq!(finished.code, 0, "{command}: {}", finished.stderr);
                ran += 1;
            }
            let after = explain(&world, who);
            let rank = |e: &Value| {
                let order = ["none", "low", "medium", "high", "critical"];
                let priority = e["subject"]["priority"].as_str().unwrap();
                order.iter().position(|p| *p == priority)
            };
            assert!(
                rank(&after) < rank(&before),
                "{commands:?}: {}",
                after["sentence"]
            );
        }
    }
    assert!(ran >= 5, "{ran}");
    assert!(!world.path().join("x").exists(), "a name was run");
    // nobody else lost anything
    let left = explain(&world, "user:b");
    assert_eq!(left["subject"]["priority"], "critical", "{left}");

    // what has changed meanwhile is left alone
    let edited = binding(
        "",
        "moved",
        "cluster-admin",
        &json!([user("a"), account("x")]),
    );
    world.apply(&edited);
    let told = explain(&world, "sa:cut/x");
    let command = told["commands"][0].as_str().unwrap().to_owned();
    assert!(command.contains("patch"), "{command}");
    world.apply(&binding(
        "",
        "moved",
        "cluster-admin",
        &json!([user("a"), user("new"), account("x")]),
    ));
    let finished = run(
        Command::new("bash")
            .args(["-c", &command])
            .env("PATH", &path)
            .env("KUBECONFIG", world.admin_kubeconfig()),
        "",
    );
    assert_ne!(finished.code, 0, "{}", finished.stdout);
    let subjects = world.get(&["clusterrolebinding", "moved"])["subjects"].clone();
    assert_eq!(subjects.as_array().map(Vec::len), Some(3), "{subjects}");
}
