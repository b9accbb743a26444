use serde_json::{Value, json};

use super::Grant::Rule;
use super::{STRONG, nothing, patiently, stage};
use crate::harness::caller::Refusal;

/// What a pod needs to run as [`STRONG`].
fn spec() -> Value {
    json!({
        "serviceAccountName": STRONG,
        "containers": [{"name": "main", "image": "example.invalid/main:1"}],
    })
}

/// Would this pod's container find a token of [`STRONG`] where tokens lie? That is as far as
/// things go without a kubelet.
fn carries_token(pod: &Value) -> Result<(), Refusal> {
    let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mounts = entries(&pod["spec"]["containers"][0]["volumeMounts"]);
    let mounted = mounts
        .iter()
        .find(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
    let volume = mounted.and_then(|mount| {
        entries(&pod["spec"]["volumes"])
            .into_iter()
            .find(|volume| volume["name"] == mount["name"])
    });
    let token = volume.is_some_and(|volume| {
        entries(&volume["projected"]["sources"])
            .iter()
            .any(|source| source["serviceAccountToken"]["path"] == "token")
    });
    if token && pod["spec"]["serviceAccountName"] == STRONG {
        Ok(())
    } else {
        Err(nothing("token in the pod"))
    }
}

#[test]
fn a_pod_is_made_by_named_create_and_patch() {
    const SPACE: &str = "pod-apply";
    let stage = stage();
    stage.namespace(SPACE);
    let thief = stage.actor(
        "pod-apply-thief",
        &[Rule(SPACE, "create,patch | core | pods | web")],
    );
    let no_patch = stage.actor(
        "pod-apply-no-patch",
        &[Rule(SPACE, "create,update | core | pods | web")],
    );
    let no_create = stage.actor(
        "pod-apply-no-create",
        &[Rule(SPACE, "patch | core | pods | web")],
    );
    stage.contest(
        "a pod of a stronger account made by server-side apply",
        (
            &thief,
            "critical (pod-create@pod-apply high, pod-modify@pod-apply medium), \
             by pod-create ServiceAccount pod-apply/strong",
        ),
        &[
            (&no_patch, "medium (pod-modify@pod-apply medium)"),
            (&no_create, "medium (pod-modify@pod-apply medium)"),
        ],
        |actor| {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec(),
            });
            let path = format!("/api/v1/namespaces/{SPACE}/pods/web");
            carries_token(&actor.caller.apply(&path, &pod)?)
        },
    );
}

#[test]
fn a_deployment_is_made_by_named_create_and_patch() {
    const SPACE: &str = "deployment-apply";
    let stage = stage();
    stage.namespace(SPACE);
    let thief = stage.actor(
        "deployment-apply-thief",
        &[Rule(SPACE, "create,patch | apps | deployments | web")],
    );
    let no_patch = stage.actor(
        "deployment-apply-no-patch",
        &[Rule(SPACE, "create | apps | deployments | web")],
    );
    let other_group = stage.actor(
        "deployment-apply-other-group",
        &[Rule(SPACE, "create,patch | extensions | deployments | web")],
    );
    stage.contest(
        "a Deployment with a stronger account made by server-side apply",
        (
            &thief,
            "critical (workload-create@deployment-apply high, \
             workload-modify@deployment-apply high), \
             by workload-create ServiceAccount deployment-apply/strong",
        ),
        &[(&no_patch, "none ()"), (&other_group, "none ()")],
        |actor| {
            let labels = json!({"app": "web"});
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec()},
                },
            });
            let path = format!("/apis/apps/v1/namespaces/{SPACE}/deployments/web");
            actor.caller.apply(&path, &deployment)?;
            // The thief needs to see nothing of it; the controllers go on alone.
            patiently(|| {
                let pods = stage
                    .admin
                    .get(&format!("/api/v1/namespaces/{SPACE}/pods"))?;
                carries_token(&pods["items"][0])
            })
        },
    );
}
