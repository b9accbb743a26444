use serde_json::{Value, json};

use super::Grant::{Role, Rule};
use super::{Actor, EVERYWHERE, HOME, STRONG, patiently, reign, stage};
use crate::harness::caller::Refusal;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn everything() -> Value {
    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
}

/// The binding by which an actor makes itself an administrator.
pub(super) fn promotion(actor: &Actor) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("promotion-of-{actor}")},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": actor.name, "namespace": HOME}],
    })
}

/// Has an actor got everything, once the authoriser has seen the change?
pub(super) fn has_risen(actor: &Actor) -> Result<(), Refusal> {
    patiently(|| reign(&actor.caller))
}

#[test]
fn a_role_is_bound_past_the_escalation_check() {
    let stage = stage();
    let thief = stage.actor(
        "bind-thief",
        &[
            Rule(
                EVERYWHERE,
                "create | rbac.authorization.k8s.io | clusterrolebindings",
            ),
            Rule(
                EVERYWHERE,
                "bind | rbac.authorization.k8s.io | clusterroles | cluster-admin",
            ),
        ],
    );
    let other_role = stage.actor(
        "bind-other-role",
        &[
            Rule(
                EVERYWHERE,
                "create | rbac.authorization.k8s.io | clusterrolebindings",
            ),
            Rule(
                EVERYWHERE,
                "bind | rbac.authorization.k8s.io | clusterroles | system:discovery",
            ),
        ],
    );
    let no_bind = stage.actor(
        "bind-no-bind",
        &[Rule(
            EVERYWHERE,
            "create | rbac.authorization.k8s.io | clusterrolebindings",
        )],
    );
    let no_create = stage.actor(
        "bind-no-create",
        &[Rule(
            EVERYWHERE,
            "bind | rbac.authorization.k8s.io | clusterroles | cluster-admin",
        )],
    );
    stage.contest(
        "cluster-admin bound to oneself",
        (
            &thief,
            "critical (rbac-bind@* critical, rbac-write@* medium)",
        ),
        &[
            (&other_role, "medium (rbac-bind@* low, rbac-write@* medium)"),
            (&no_bind, "medium (rbac-write@* medium)"),
            (&no_create, "none ()"),
        ],
        |actor| {
            actor
                .caller
                .post(&format!("{RBAC}/clusterrolebindings"), &promotion(actor))?;
            has_risen(actor)
        },
    );
}

#[test]
fn the_own_role_is_rewritten_past_the_escalation_check() {
    let stage = stage();
    let own = |actor: &str, verbs: &str| {
        let rule = format!("{verbs} | rbac.authorization.k8s.io | clusterroles | {actor}-0");
        stage.actor(actor, &[Rule(EVERYWHERE, &rule)])
    };
    let thief = own("escalate-thief", "escalate,update");
    let no_escalate = own("escalate-no-escalate", "update,patch");
    let no_update = own("escalate-no-update", "escalate,create");
    stage.contest(
        "the own ClusterRole rewritten",
        (
            &thief,
            "critical (rbac-escalate@* critical, rbac-write@* low)",
        ),
        &[
            (&no_escalate, "low (rbac-write@* low)"),
            (&no_update, "none ()"),
        ],
        |actor| {
            let role = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": format!("{actor}-0")}, "rules": everything(),
            });
            actor
                .caller
                .put(&format!("{RBAC}/clusterroles/{actor}-0"), &role)?;
            has_risen(actor)
        },
    );
}

#[test]
fn a_new_role_is_added_to_an_aggregated_one_past_the_escalation_check() {
    let stage = stage();
    let view = Role(EVERYWHERE, "view");
    let thief = stage.actor(
        "aggregate-thief",
        &[
            view,
            Rule(
                EVERYWHERE,
                "create,escalate | rbac.authorization.k8s.io | clusterroles",
            ),
        ],
    );
    let no_escalate = stage.actor(
        "aggregate-no-escalate",
        &[
            Role(EVERYWHERE, "view"),
            Rule(
                EVERYWHERE,
                "create | rbac.authorization.k8s.io | clusterroles",
            ),
        ],
    );
    let no_view = stage.actor(
        "aggregate-no-view",
        &[Rule(
            EVERYWHERE,
            "create,escalate | rbac.authorization.k8s.io | clusterroles",
        )],
    );
    let view_rules = || {
        let path = format!("{RBAC}/clusterroles/view");
        stage.admin.get(&path).expect("view exists")["rules"].clone()
    };
    let before = view_rules();
    stage.contest(
        "a new ClusterRole added to the one that is held",
        (
            &thief,
            "critical (pod-logs-read@* medium, rbac-escalate@* critical, rbac-write@* medium)",
        ),
        &[
            (
                &no_escalate,
                "medium (pod-logs-read@* medium, rbac-write@* medium)",
            ),
            (
                &no_view,
                "medium (rbac-escalate@* medium, rbac-write@* medium)",
            ),
        ],
        |actor| {
            let role = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {
                    "name": format!("made-by-{actor}"),
                    "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
                },
                "rules": everything(),
            });
            let roles = format!("{RBAC}/clusterroles");
            actor.caller.post(&roles, &role)?;
            let outcome = has_risen(actor);
            // Else the next one has it from this one.
            let path = format!("{roles}/made-by-{actor}");
            stage.admin.delete(&path).expect("it was made");
            patiently(|| {
                if view_rules() == before {
                    Ok(())
                } else {
                    Err(super::nothing("restored view"))
                }
            })
            .expect("the controller takes the rules away");
            outcome
        },
    );
}

/// Becomes the strong account of a namespace in which one has just got everything.
fn become_strong(actor: &Actor, namespace: &str) -> Result<(), Refusal> {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{STRONG}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
    let answer = patiently(|| actor.caller.post(&path, &request))?;
    reign(
        &stage()
            .world
            .caller(&json!({"token": answer["status"]["token"]})),
    )
}

#[test]
fn a_role_is_bound_beside_a_strong_account() {
    const SPACE: &str = "bind-beside";
    let stage = stage();
    stage.namespace(SPACE);
    let create = || Rule(SPACE, "create | rbac.authorization.k8s.io | rolebindings");
    let thief = stage.actor(
        "bind-beside-thief",
        &[
            create(),
            Rule(
                SPACE,
                "bind | rbac.authorization.k8s.io | clusterroles | cluster-admin",
            ),
        ],
    );
    let no_bind = stage.actor("bind-beside-no-bind", &[create()]);
    let other_role = stage.actor(
        "bind-beside-other-role",
        &[
            create(),
            Rule(
                SPACE,
                "bind | rbac.authorization.k8s.io | clusterroles | view",
            ),
        ],
    );
    stage.contest(
        "cluster-admin bound in a namespace with a stronger account",
        (
            &thief,
            "critical (rbac-bind@bind-beside high, rbac-write@bind-beside low), \
             by rbac-bind ServiceAccount bind-beside/strong",
        ),
        &[
            (&no_bind, "low (rbac-write@bind-beside low)"),
            (
                &other_role,
                "low (rbac-bind@bind-beside low, rbac-write@bind-beside low)",
            ),
        ],
        |actor| {
            let mut binding = promotion(actor);
            binding["kind"] = json!("RoleBinding");
            let path = format!("{RBAC}/namespaces/{SPACE}/rolebindings");
            actor.caller.post(&path, &binding)?;
            become_strong(actor, SPACE)
        },
    );
}

#[test]
fn the_own_role_of_a_namespace_is_rewritten_beside_a_strong_account() {
    const SPACE: &str = "escalate-beside";
    let stage = stage();
    stage.namespace(SPACE);
    let own = |actor: &str, verbs: &str| {
        let rule = format!("{verbs} | rbac.authorization.k8s.io | roles | {actor}-0");
        stage.actor(actor, &[Rule(SPACE, &rule)])
    };
    let thief = own("escalate-beside-thief", "escalate,patch");
    let no_escalate = own("escalate-beside-no-escalate", "patch");
    let no_patch = own("escalate-beside-no-patch", "escalate,get");
    stage.contest(
        "the own Role rewritten in a namespace with a stronger account",
        (
            &thief,
            "critical (rbac-escalate@escalate-beside high, rbac-write@escalate-beside low), \
             by rbac-escalate ServiceAccount escalate-beside/strong",
        ),
        &[
            (&no_escalate, "low (rbac-write@escalate-beside low)"),
            (&no_patch, "none ()"),
        ],
        |actor| {
            let path = format!("{RBAC}/namespaces/{SPACE}/roles/{actor}-0");
            let rules = json!({"rules": everything()});
            actor.caller.merge(&path, &rules)?;
            become_strong(actor, SPACE)
        },
    );
}
