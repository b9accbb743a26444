use serde_json::{Value, json};

use super::Grant::Rule;
use super::{Actor, EVERYWHERE, STRONG, decode, nothing, patiently, reign, stage};
use crate::harness::caller::Refusal;

/// Uses a token.
fn use_token(token: &str) -> Result<(), Refusal> {
    reign(&stage().world.caller(&json!({"token": token})))
}

/// A Secret that asks for a token of [`STRONG`].
fn token_secret(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": name, "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": STRONG},
        },
    })
}

/// The token in a Secret, which a controller puts there.
fn token_in(mut read: impl FnMut() -> Result<Value, Refusal>) -> Result<String, Refusal> {
    // What is refused once is refused for good; only the controller is worth waiting for.
    let mut secret = read()?;
    patiently(|| {
        if let Some(token) = decode(&secret["data"]["token"]) {
            return Ok(token);
        }
        secret = read()?;
        Err(nothing("token"))
    })
}

#[test]
fn a_token_is_requested_for_a_stronger_account() {
    const SPACE: &str = "token-request";
    let stage = stage();
    stage.namespace(SPACE);
    stage.account(SPACE, "weak");
    let thief = stage.actor(
        "token-request-thief",
        &[Rule(
            SPACE,
            "create | core | serviceaccounts/token | strong",
        )],
    );
    let other_account = stage.actor(
        "token-request-other-account",
        &[Rule(SPACE, "create | core | serviceaccounts/token | weak")],
    );
    let other_group = stage.actor(
        "token-request-other-group",
        &[Rule(
            SPACE,
            "create | authentication.k8s.io | serviceaccounts/token",
        )],
    );
    stage.contest(
        "a token requested for a stronger account",
        (
            &thief,
            "critical (serviceaccount-token-create@token-request low), \
             by serviceaccount-token-create ServiceAccount token-request/strong",
        ),
        &[
            (
                &other_account,
                "low (serviceaccount-token-create@token-request low)",
            ),
            (&other_group, "none ()"),
        ],
        |actor| {
            let path = format!("/api/v1/namespaces/{SPACE}/serviceaccounts/{STRONG}/token");
            let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
            let answer = actor.caller.post(&path, &request)?;
            use_token(answer["status"]["token"].as_str().expect("a token"))
        },
    );
}

#[test]
fn an_account_that_a_binding_waits_for_is_made() {
    const SPACE: &str = "token-ghost";
    const GHOST: &str = "ghost";
    let stage = stage();
    stage.namespace(SPACE);
    stage.bind(
        EVERYWHERE,
        "token-ghost-ghost",
        "ClusterRole",
        "cluster-admin",
        &json!({"kind": "ServiceAccount", "name": GHOST, "namespace": SPACE}),
    );
    let token = || Rule(SPACE, "create | core | serviceaccounts/token | ghost");
    let thief = stage.actor(
        "token-ghost-thief",
        &[token(), Rule(SPACE, "create | core | serviceaccounts")],
    );
    let no_account = stage.actor("token-ghost-no-account", &[token()]);
    let no_token = stage.actor(
        "token-ghost-no-token",
        &[Rule(SPACE, "create | core | serviceaccounts")],
    );
    stage.contest(
        "an account made that a binding waits for, and its token requested",
        (
            &thief,
            "critical (serviceaccount-token-create@token-ghost low, \
             serviceaccount-write@token-ghost low), \
             by serviceaccount-token-create ServiceAccount token-ghost/ghost",
        ),
        &[
            (
                &no_account,
                "low (serviceaccount-token-create@token-ghost low)",
            ),
            (&no_token, "low (serviceaccount-write@token-ghost low)"),
        ],
        |actor| {
            let accounts = format!("/api/v1/namespaces/{SPACE}/serviceaccounts");
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": GHOST},
            });
            actor.caller.post(&accounts, &account)?;
            let path = format!("{accounts}/{GHOST}/token");
            let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
            let outcome = actor
                .caller
                .post(&path, &request)
                .and_then(|answer| use_token(answer["status"]["token"].as_str().expect("a token")));
            // Else the next one finds it there.
            stage
                .admin
                .delete(&format!("{accounts}/{GHOST}"))
                .expect("it was made");
            outcome
        },
    );
}

#[test]
fn a_token_secret_is_minted() {
    const SPACE: &str = "token-mint";
    let stage = stage();
    stage.namespace(SPACE);
    let thief = stage.actor(
        "token-mint-thief",
        &[
            Rule(SPACE, "create | core | secrets"),
            Rule(SPACE, "get | core | secrets"),
        ],
    );
    let no_read = stage.actor(
        "token-mint-no-read",
        &[Rule(SPACE, "create | core | secrets")],
    );
    let no_create = stage.actor(
        "token-mint-no-create",
        &[Rule(SPACE, "get | core | secrets | minted")],
    );
    stage.contest(
        "a token Secret minted",
        (
            &thief,
            "critical (secrets-get@token-mint medium, secrets-tamper@token-mint low, \
             secrets-token-mint@token-mint medium), \
             by secrets-token-mint ServiceAccount token-mint/strong",
        ),
        &[
            (&no_read, "low (secrets-tamper@token-mint low)"),
            (&no_create, "low (secrets-read-named@token-mint low)"),
        ],
        |actor| {
            let path = format!("/api/v1/namespaces/{SPACE}/secrets");
            let name = format!("minted-by-{actor}");
            actor.caller.post(&path, &token_secret(SPACE, &name))?;
            let token = token_in(|| actor.caller.get(&format!("{path}/{name}")))?;
            use_token(&token)
        },
    );
}

#[test]
fn a_token_secret_is_minted_under_a_name_that_is_taken() {
    const SPACE: &str = "token-mint-taken";
    let stage = stage();
    stage.namespace(SPACE);
    stage.secret(SPACE, "taken");
    let thief = stage.actor(
        "token-mint-taken-thief",
        &[
            Rule(SPACE, "create | core | secrets"),
            Rule(SPACE, "get,update | core | secrets | taken"),
        ],
    );
    let no_update = stage.actor(
        "token-mint-taken-no-update",
        &[
            Rule(SPACE, "create | core | secrets"),
            Rule(SPACE, "get | core | secrets | taken"),
        ],
    );
    stage.contest(
        "a token Secret minted under a name cleared by update",
        (
            &thief,
            "critical (secrets-read-named@token-mint-taken low, \
             secrets-tamper@token-mint-taken low, \
             secrets-token-mint@token-mint-taken medium), \
             by secrets-token-mint ServiceAccount token-mint-taken/strong",
        ),
        &[(
            &no_update,
            "low (secrets-read-named@token-mint-taken low, \
             secrets-tamper@token-mint-taken low, secrets-token-mint@token-mint-taken low)",
        )],
        |actor| {
            let secrets = format!("/api/v1/namespaces/{SPACE}/secrets");
            let path = format!("{secrets}/taken");
            let wanted = token_secret(SPACE, "taken");
            let taken = actor.caller.post(&secrets, &wanted).expect_err("it exists");
            assert_eq!(taken.status, 409, "{taken}");
            let mut secret = actor.caller.get(&path)?;
            // The garbage collector removes what belongs to something that is gone.
            secret["metadata"]["ownerReferences"] = absent_owner();
            actor.caller.put(&path, &secret)?;
            patiently(|| actor.caller.post(&secrets, &wanted))?;
            let token = token_in(|| actor.caller.get(&path))?;
            use_token(&token)
        },
    );
}

/// An owner that never was.
pub(super) fn absent_owner() -> Value {
    json!([{
        "apiVersion": "v1", "kind": "Namespace", "name": "absent",
        "uid": "00000000-0000-4000-8000-000000000000",
    }])
}

#[test]
fn a_token_secret_is_aimed_at_another_account() {
    const SPACE: &str = "token-aim";
    let stage = stage();
    stage.namespace(SPACE);
    for account in ["patched", "updated", "untouched"] {
        let secret = format!("{account}-token");
        stage.create(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": SPACE}, "secrets": [{"name": secret}],
        }));
        let mut object = token_secret(SPACE, &secret);
        object["metadata"]["annotations"]["kubernetes.io/service-account.name"] = json!(account);
        stage.create(&object);
    }
    let by_patch = stage.actor(
        "token-aim-by-patch",
        &[Rule(SPACE, "patch | core | secrets | patched-token")],
    );
    let by_update = stage.actor(
        "token-aim-by-update",
        &[
            Rule(SPACE, "update | core | secrets | updated-token"),
            Rule(SPACE, "list | core | secrets | updated-token"),
        ],
    );
    let no_read = stage.actor(
        "token-aim-no-read",
        &[Rule(SPACE, "update | core | secrets | untouched-token")],
    );
    let no_write = stage.actor(
        "token-aim-no-write",
        &[Rule(SPACE, "get | core | secrets | untouched-token")],
    );
    let secrets = format!("/api/v1/namespaces/{SPACE}/secrets");
    // Without a token the controller makes one, and with the uid of another account it would take
    // the Secret for a leftover.
    let aimed = |account: &str| {
        let mut secret = token_secret(SPACE, &format!("{account}-token"));
        secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = Value::Null;
        secret["data"] = Value::Null;
        secret
    };
    let is_strong = |secret: Value| -> Result<Value, Refusal> {
        let account = &secret["metadata"]["annotations"]["kubernetes.io/service-account.name"];
        if account == STRONG {
            Ok(secret)
        } else {
            Err(nothing("token of the strong account"))
        }
    };
    let one = |list: Value| list["items"][0].clone();
    stage.contest(
        "a token Secret aimed at another account by patch",
        (
            &by_patch,
            "critical (secrets-read-named@token-aim low), \
             by secrets-read-named ServiceAccount token-aim/strong",
        ),
        &[(&no_write, "low (secrets-read-named@token-aim low)")],
        |actor| {
            let path = format!("{secrets}/patched-token");
            actor.caller.merge(&path, &aimed("patched"))?;
            let token = token_in(|| is_strong(actor.caller.merge(&path, &json!({}))?))?;
            use_token(&token)
        },
    );
    stage.contest(
        "a token Secret aimed at another account by update",
        (
            &by_update,
            "critical (secrets-read-named@token-aim low, secrets-tamper@token-aim low), \
             by secrets-read-named ServiceAccount token-aim/strong",
        ),
        &[(&no_read, "low (secrets-tamper@token-aim low)")],
        |actor: &Actor| {
            let account = if actor.name.ends_with("no-read") {
                "untouched"
            } else {
                "updated"
            };
            let name = format!("{account}-token");
            let mut secret = aimed(account);
            // A whole object holds no nulls, unlike a patch.
            secret["metadata"]["annotations"] = json!({
                "kubernetes.io/service-account.name": STRONG,
            });
            actor.caller.put(&format!("{secrets}/{name}"), &secret)?;
            let list = format!("{secrets}?fieldSelector=metadata.name={name}");
            let token = token_in(|| is_strong(one(actor.caller.get(&list)?)))?;
            use_token(&token)
        },
    );
}
