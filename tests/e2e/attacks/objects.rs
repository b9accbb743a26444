use serde_json::json;

use super::Grant::Rule;
use super::tokens::absent_owner;
use super::{EVERYWHERE, nothing, patiently, stage};
use crate::harness::caller::Refusal;

#[test]
fn a_node_is_deleted_through_its_status() {
    const NODE: &str = "attacks-doomed";
    const SPACE: &str = "node-status";
    let stage = stage();
    stage.namespace(SPACE);
    stage.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}));
    let thief = stage.actor(
        "node-status-thief",
        &[Rule(EVERYWHERE, "patch | core | nodes/status")],
    );
    let by_role_binding = stage.actor(
        "node-status-by-role-binding",
        &[Rule(SPACE, "patch | core | nodes/status")],
    );
    stage.contest(
        "a Node deleted through its status",
        (&thief, "high (node-status-write@* high)"),
        &[(&by_role_binding, "none ()")],
        |actor| {
            let node = format!("/api/v1/nodes/{NODE}");
            let owned = json!({"metadata": {"ownerReferences": absent_owner()}});
            actor.caller.merge(&format!("{node}/status"), &owned)?;
            patiently(|| match stage.admin.get(&node) {
                Err(Refusal { status: 404, .. }) => Ok(()),
                _ => Err(nothing("deletion")),
            })
        },
    );
}

#[test]
fn pod_security_is_lowered_through_the_status_of_a_namespace() {
    const SPACE: &str = "namespace-status";
    let stage = stage();
    stage.namespace(SPACE);
    let namespace = format!("/api/v1/namespaces/{SPACE}");
    let level = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    stage.admin.merge(&namespace, &level("restricted")).unwrap();
    let thief = stage.actor(
        "namespace-status-thief",
        &[Rule(SPACE, "patch | core | namespaces/status")],
    );
    // `finalize` writes labels too, but takes PUT alone.
    let by_finalize = stage.actor(
        "namespace-status-by-finalize",
        &[Rule(SPACE, "patch | core | namespaces/finalize")],
    );
    let no_patch = stage.actor(
        "namespace-status-no-patch",
        &[Rule(SPACE, "get | core | namespaces/status")],
    );
    let deployer = stage.actor(
        "namespace-status-deployer",
        &[Rule(SPACE, "create | core | pods")],
    );
    // A dry run leaves no pod behind and passes the same admission.
    let run_privileged = || {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "privileged", "namespace": SPACE},
            "spec": {"containers": [{
                "name": "main", "image": "example.invalid/main:1",
                "securityContext": {"privileged": true},
            }]},
        });
        let pods = format!("{namespace}/pods?dryRun=All");
        deployer.caller.post(&pods, &pod).map(drop)
    };
    // Accounts named default are made a moment after their namespace.
    stage.world.await_account(SPACE, "default");
    stage.contest(
        "Pod Security lowered through the status of a Namespace, by RoleBinding",
        (&thief, "medium (namespace-modify@namespace-status medium)"),
        &[(&by_finalize, "none ()"), (&no_patch, "none ()")],
        |actor| {
            let forbidden = run_privileged().expect_err("the namespace is restricted");
            assert!(forbidden.message.contains("PodSecurity"), "{forbidden}");
            actor
                .caller
                .merge(&format!("{namespace}/status"), &level("privileged"))?;
            patiently(run_privileged)
        },
    );
}
