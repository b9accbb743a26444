use serde_json::json;

use super::Grant::Rule;
use super::{shows_password, stage};

#[test]
fn a_secret_is_read_by_patch() {
    const SPACE: &str = "read-by-patch";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "db");
    let thief = stage.actor(
        "read-by-patch-thief",
        &[Rule(SPACE, "patch | core | secrets")],
    );
    let by_update = stage.actor(
        "read-by-patch-update",
        &[Rule(SPACE, "update | core | secrets")],
    );
    stage.contest(
        "a Secret read by patch",
        (&thief, "medium (secrets-get@read-by-patch medium)"),
        &[(&by_update, "low (secrets-tamper@read-by-patch low)")],
        |actor| {
            let path = format!("/api/v1/namespaces/{SPACE}/secrets/db");
            let answer = actor.caller.merge(&path, &json!({}));
            shows_password(&answer?)
        },
    );
}

#[test]
fn a_secret_is_read_by_delete() {
    const SPACE: &str = "read-by-delete";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "db");
    let thief = stage.actor(
        "read-by-delete-thief",
        &[Rule(SPACE, "delete | core | secrets")],
    );
    let other_group = stage.actor(
        "read-by-delete-other-group",
        &[Rule(SPACE, "delete | apps | secrets")],
    );
    let path = format!("/api/v1/namespaces/{SPACE}/secrets/db");
    stage.contest(
        "a Secret read by delete that deletes nothing",
        (&thief, "medium (secrets-get@read-by-delete medium)"),
        &[(&other_group, "none ()")],
        |actor| {
            let answer = actor
                .caller
                .delete(&format!("{path}?dryRun=All&propagationPolicy=Foreground"));
            shows_password(&answer?)
        },
    );
    shows_password(&stage.admin.get(&path).unwrap()).unwrap();
}

#[test]
fn all_secrets_are_read_by_deletecollection() {
    const SPACE: &str = "read-by-deletion";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "db");
    let thief = stage.actor(
        "read-by-deletion-thief",
        &[Rule(SPACE, "deletecollection | core | secrets")],
    );
    let named = stage.actor(
        "read-by-deletion-named",
        &[Rule(SPACE, "deletecollection | core | secrets | db")],
    );
    let path = format!("/api/v1/namespaces/{SPACE}/secrets");
    stage.contest(
        "all Secrets read by deletecollection that deletes nothing",
        (&thief, "high (secrets-list@read-by-deletion high)"),
        &[(&named, "none ()")],
        |actor| {
            let answer = actor.caller.delete(&format!("{path}?dryRun=All"))?;
            shows_password(&answer["items"][0])
        },
    );
    let secret = stage.admin.get(&format!("{path}/db"));
    shows_password(&secret.unwrap()).unwrap();
}
