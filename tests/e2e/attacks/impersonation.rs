use serde_json::json;

use super::Grant::Rule;
use super::roles::{has_risen, promotion};
use super::{EVERYWHERE, HOME, STRONG, reign, shows_password, stage};

#[test]
fn a_stronger_account_is_impersonated() {
    const SPACE: &str = "impersonate-account";
    let stage = stage();
    stage.namespace(SPACE);
    let thief = stage.actor(
        "impersonate-account-thief",
        &[Rule(SPACE, "impersonate | core | serviceaccounts | strong")],
    );
    let other_namespace = stage.actor(
        "impersonate-account-elsewhere",
        &[Rule(HOME, "impersonate | core | serviceaccounts | strong")],
    );
    // Names of accounts are not asked for as names of users.
    let as_user = stage.actor(
        "impersonate-account-as-user",
        &[Rule(
            EVERYWHERE,
            "impersonate | core | users | system:serviceaccount:impersonate-account:strong",
        )],
    );
    stage.contest(
        "a stronger account impersonated",
        (
            &thief,
            "critical (impersonate-serviceaccounts@impersonate-account low), \
             by impersonate-serviceaccounts ServiceAccount impersonate-account/strong",
        ),
        &[
            (
                &other_namespace,
                "low (impersonate-serviceaccounts@attackers low)",
            ),
            (&as_user, "low (impersonate-users@* low)"),
        ],
        |actor| {
            let name = format!("system:serviceaccount:{SPACE}:{STRONG}");
            reign(&actor.caller.with_headers(&[("Impersonate-User", &name)]))
        },
    );
}

#[test]
fn a_stronger_user_is_impersonated() {
    const BOSS: &str = "impersonate-user-boss";
    const SPACE: &str = "impersonate-user";
    let stage = stage();
    stage.namespace(SPACE);
    stage.bind(
        EVERYWHERE,
        BOSS,
        "ClusterRole",
        "cluster-admin",
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": BOSS}),
    );
    let rule = format!("impersonate | core | users | {BOSS}");
    let thief = stage.actor("impersonate-user-thief", &[Rule(EVERYWHERE, &rule)]);
    let by_role_binding = stage.actor("impersonate-user-by-role-binding", &[Rule(SPACE, &rule)]);
    stage.contest(
        "a stronger user impersonated",
        (
            &thief,
            "critical (impersonate-users@* low), \
             by impersonate-users User /impersonate-user-boss",
        ),
        &[(&by_role_binding, "none ()")],
        |actor| reign(&actor.caller.with_headers(&[("Impersonate-User", BOSS)])),
    );
}

#[test]
fn a_stronger_group_is_impersonated() {
    const NOBODY: &str = "impersonate-group-nobody";
    let stage = stage();
    let user = format!("impersonate | core | users | {NOBODY}");
    let group = "impersonate | core | groups | system:masters";
    let thief = stage.actor(
        "impersonate-group-thief",
        &[Rule(EVERYWHERE, &user), Rule(EVERYWHERE, group)],
    );
    let no_user = stage.actor("impersonate-group-no-user", &[Rule(EVERYWHERE, group)]);
    let no_group = stage.actor("impersonate-group-no-group", &[Rule(EVERYWHERE, &user)]);
    stage.contest(
        "a stronger group impersonated, with a user who is nobody",
        (
            &thief,
            "critical (impersonate-groups@* low, impersonate-users@* low), \
             by impersonate-groups Group /system:masters",
        ),
        &[
            (&no_user, "low (impersonate-groups@* low)"),
            (&no_group, "low (impersonate-users@* low)"),
        ],
        |actor| {
            reign(&actor.caller.with_headers(&[
                ("Impersonate-User", NOBODY),
                ("Impersonate-Group", "system:masters"),
            ]))
        },
    );
}

#[test]
fn a_node_is_impersonated() {
    const SPACE: &str = "impersonate-node";
    const NODE: &str = "attacks-node";
    const USER: &str = "system:node:attacks-node";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "db");
    stage.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}));
    let pod = stage.create(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": SPACE},
        "spec": {
            "serviceAccountName": STRONG, "nodeName": NODE,
            "containers": [{
                "name": "main", "image": "example.invalid/main:1",
                "volumeMounts": [{"name": "db", "mountPath": "/db"}],
            }],
            "volumes": [{"name": "db", "secret": {"secretName": "db"}}],
        },
    }));
    let user = format!("impersonate | core | users | {USER}");
    let group = "impersonate | core | groups | system:nodes";
    let thief = stage.actor(
        "impersonate-node-thief",
        &[Rule(EVERYWHERE, &user), Rule(EVERYWHERE, group)],
    );
    let no_group = stage.actor("impersonate-node-no-group", &[Rule(EVERYWHERE, &user)]);
    let other_node = stage.actor(
        "impersonate-node-other-node",
        &[
            Rule(
                EVERYWHERE,
                "impersonate | core | users | system:node:attacks-other",
            ),
            Rule(EVERYWHERE, group),
        ],
    );
    let thief_word = "critical (impersonate-groups@* low, impersonate-users@* high), \
                      by impersonate-users ServiceAccount impersonate-node/strong";
    let no_group_word = "low (impersonate-users@* low)";
    // That node may run anything tomorrow, but nothing of a strong account today.
    let other_node_word = "high (impersonate-groups@* low, impersonate-users@* high)";
    let twins = [(&no_group, no_group_word), (&other_node, other_node_word)];
    let as_node = |actor: &super::Actor| {
        actor.caller.with_headers(&[
            ("Impersonate-User", USER),
            ("Impersonate-Group", "system:nodes"),
        ])
    };
    stage.contest(
        "a Secret of a node's pod read by impersonating the node",
        (&thief, thief_word),
        &twins,
        |actor| {
            let path = format!("/api/v1/namespaces/{SPACE}/secrets/db");
            shows_password(&as_node(actor).get(&path)?)
        },
    );
    stage.contest(
        "a token of a node's pod taken by impersonating the node",
        (&thief, thief_word),
        &twins,
        |actor| {
            let path = format!("/api/v1/namespaces/{SPACE}/serviceaccounts/{STRONG}/token");
            let request = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "spec": {"boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": "web",
                    "uid": pod["metadata"]["uid"],
                }},
            });
            let answer = as_node(actor).post(&path, &request)?;
            reign(
                &stage
                    .world
                    .caller(&json!({"token": answer["status"]["token"]})),
            )
        },
    );
}

#[test]
fn impersonation_is_constrained_to_the_worst() {
    const BOSS: &str = "impersonate-on-boss";
    let stage = stage();
    stage.bind(
        EVERYWHERE,
        BOSS,
        "ClusterRole",
        "cluster-admin",
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": BOSS}),
    );
    let who = "impersonate:user-info | authentication.k8s.io | users";
    let what = "impersonate-on:user-info:create | rbac.authorization.k8s.io | clusterrolebindings";
    let thief = stage.actor(
        "impersonate-on-thief",
        &[Rule(EVERYWHERE, who), Rule(EVERYWHERE, what)],
    );
    let no_what = stage.actor("impersonate-on-no-what", &[Rule(EVERYWHERE, who)]);
    let no_who = stage.actor("impersonate-on-no-who", &[Rule(EVERYWHERE, what)]);
    let other_mode = stage.actor(
        "impersonate-on-other-mode",
        &[
            Rule(EVERYWHERE, who),
            Rule(
                EVERYWHERE,
                "impersonate-on:serviceaccount:create | rbac.authorization.k8s.io \
                 | clusterrolebindings",
            ),
        ],
    );
    stage.contest(
        "constrained impersonation of a user who may bind cluster-admin",
        (&thief, "critical (impersonate-constrained@* critical)"),
        &[
            (&no_what, "low (impersonate-constrained@* low)"),
            (&no_who, "none ()"),
            (&other_mode, "low (impersonate-constrained@* low)"),
        ],
        |actor| {
            actor
                .caller
                .with_headers(&[("Impersonate-User", BOSS)])
                .post(
                    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                    &promotion(actor),
                )?;
            has_risen(actor)
        },
    );
}

#[test]
fn impersonation_is_constrained_to_one_user_and_one_read() {
    const SPACE: &str = "impersonate-read";
    const READER: &str = "impersonate-read-reader";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "db");
    let role = stage.actor(
        "impersonate-read-owner",
        &[Rule(SPACE, "list | core | secrets")],
    );
    stage.bind(
        SPACE,
        READER,
        "Role",
        &format!("{role}-0"),
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER}),
    );
    let who = format!("impersonate:user-info | authentication.k8s.io | users | {READER}");
    let what = "impersonate-on:user-info:list | core | secrets";
    let thief = stage.actor(
        "impersonate-read-thief",
        &[Rule(EVERYWHERE, &who), Rule(SPACE, what)],
    );
    let no_what = stage.actor("impersonate-read-no-what", &[Rule(EVERYWHERE, &who)]);
    let no_who = stage.actor("impersonate-read-no-who", &[Rule(SPACE, what)]);
    // The user may list alone, so there is nothing to be had by watching as that user.
    let other_verb = stage.actor(
        "impersonate-read-other-verb",
        &[
            Rule(EVERYWHERE, &who),
            Rule(SPACE, "impersonate-on:user-info:watch | core | configmaps"),
        ],
    );
    stage.contest(
        "Secrets listed by constrained impersonation of one user",
        (
            &thief,
            "high (impersonate-constrained@* low), \
             by impersonate-constrained User /impersonate-read-reader",
        ),
        &[
            (&no_what, "low (impersonate-constrained@* low)"),
            (&no_who, "none ()"),
            (&other_verb, "low (impersonate-constrained@* low)"),
        ],
        |actor| {
            let caller = actor.caller.with_headers(&[("Impersonate-User", READER)]);
            let secrets = caller.get(&format!("/api/v1/namespaces/{SPACE}/secrets"))?;
            shows_password(&secrets["items"][0])
        },
    );
}
