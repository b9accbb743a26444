//! A cluster as the API server and the controllers make it, and an edit that opens it to everybody.

use serde_json::{Value, json};

use crate::harness::caller::Refusal;
use crate::harness::exporter::{Exporter, find, scan};
use crate::harness::parts::Release;
use crate::harness::world::World;
use crate::harness::{SOON, eventually};

/// A scrape and the report know everything of the cluster, and nothing of it is for anybody to do.
fn nothing_is_open(exporter: &Exporter) {
    let samples = exporter.scrape();
    let open: Vec<_> = samples
        .select("rbac_risky_subjects", &[("status", "open")])
        .filter(|(_, value)| *value != 0.0)
        .map(|(series, value)| format!("{series} {value}"))
        .collect();
    assert_eq!(open, [""; 0]);
    // Nothing is open because everything is known, not because little was seen.
    assert!(samples.sum("rbac_risky_subjects", &[("status", "builtin")]) > 0.0);
    assert_eq!(samples.sum("rbac_exporter_complete", &[]), 1.0);
    for entry in exporter.report()["subjects"].as_array().expect("an array") {
        let harmless = entry["priority"] == "none" || entry["status"] == "builtin";
        assert!(harmless, "{entry}");
    }
}

#[test]
fn a_default_cluster_has_no_open_risk_until_basic_user_is_edited() {
    let world = World::with_controllers();
    // The exporter reads with nothing but the rights that deploy/ gives it.
    let exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));

    nothing_is_open(&exporter);
    let own = exporter.subject("ServiceAccount", "rbac-exporter", "rbac-exporter");
    assert_eq!(own["priority"], "none", "{own}");

    let everything = json!([{"op": "replace", "path": "/rules", "value": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]}]);
    let patch = everything.to_string();
    world.kubectl(
        &[
            "patch",
            "clusterrole",
            "system:basic-user",
            "--type=json",
            "-p",
            &patch,
        ],
        "",
    );
    let labels = [
        ("kind", "Group"),
        ("priority", "critical"),
        ("status", "open"),
    ];
    let (_, took) = eventually("the group is critical and open", SOON, || {
        let count = exporter.scrape().sum("rbac_risky_subjects", &labels);
        // every other group whose members are authenticated holds it too
        if count >= 1.0 {
            Ok(())
        } else {
            Err(format!("{count} groups"))
        }
    });
    println!("system:basic-user edited: critical and open after {took:.1?}");
    let group = exporter.subject("Group", "", "system:authenticated");
    assert_eq!(
        (&group["priority"], &group["status"]),
        (&json!("critical"), &json!("open"))
    );
    // Whoever is a member is as powerful, our own account too.
    let own = exporter.subject("ServiceAccount", "rbac-exporter", "rbac-exporter");
    assert_eq!(
        (&own["priority"], &own["status"]),
        (&json!("critical"), &json!("open"))
    );
}

/// What we say of an account that may `get` pods/exec, and what the server says when it does.
fn exec_by_get(world: &World) -> (Value, Refusal) {
    const NAME: &str = "exec-by-get";
    world.kubectl(&["create", "namespace", NAME], "");
    world.kubectl(&["create", "serviceaccount", NAME, "-n", NAME], "");
    let (reference, rules) = (
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}),
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]}]),
    );
    let metadata = json!({"name": NAME, "namespace": NAME});
    let version = "rbac.authorization.k8s.io/v1";
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "roleRef": reference,
         "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAME}]},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {
            "serviceAccountName": NAME,
            "containers": [{"name": "main", "image": "example.invalid/main:1"}],
        }},
    ]}));
    let report = scan(&world.exporter_kubeconfig(world.port()));
    let subject = find(&report["subjects"], "ServiceAccount", NAME, NAME).expect("it is there");
    let token = world.kubectl(&["create", "token", NAME, "-n", NAME], "");
    let caller = world
        .caller(&json!({"token": token.trim()}))
        .with_headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ]);
    let path = format!("/api/v1/namespaces/{NAME}/pods/{NAME}/exec?command=id&stdout=true");
    let refusal = caller.get(&path).expect_err("no kubelet runs the pod");
    println!("exec by GET: {refusal}; we said {}", subject["findings"]);
    (subject, refusal)
}

#[test]
fn the_oldest_version_has_no_open_risk_until_exec_by_get_is_granted() {
    let world = World::oldest();
    let exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    nothing_is_open(&exporter);
    let version = Release::Oldest.version();
    let judged_for = exporter.report()["kubernetesVersion"].clone();
    let judged_for = judged_for.as_str().expect("a string");
    assert!(
        version.starts_with(&format!("v{judged_for}.")),
        "{judged_for}"
    );

    let (subject, refusal) = exec_by_get(&world);
    // It went as far as looking for the pod's node.
    assert_ne!(refusal.status, 403, "{refusal}");
    assert_eq!(
        subject["findings"][0]["rule"], "pod-exec-legacy-get",
        "{subject}"
    );
    assert_eq!(subject["own"], "high", "{subject}");
}

#[test]
fn exec_by_get_is_no_risk_on_the_newest_version() {
    let (subject, refusal) = exec_by_get(World::shared());
    assert_eq!(refusal.status, 403, "{refusal}");
    // `get` is granted; it is `create`, which the server asks for behind it, that is not.
    assert!(!refusal.message.contains("cannot get"), "{refusal}");
    assert_eq!(subject["priority"], "none", "{subject}");
}
