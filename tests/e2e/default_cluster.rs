//! A cluster as the API server and the controllers make it, and an edit that opens it to everybody.

use serde_json::json;

use crate::harness::exporter::Exporter;
use crate::harness::world::World;
use crate::harness::{SOON, eventually};

#[test]
fn a_default_cluster_has_no_open_risk_until_basic_user_is_edited() {
    let world = World::with_controllers();
    // The exporter reads with nothing but the rights that deploy/ gives it.
    let exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));

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
