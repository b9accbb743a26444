//! Two questions to the API server about somebody else's token: whose is it, and may that one?
//!
//! Written as JSON by hand: the typed objects would bring two API groups along for six fields.

use super::wire::chain;
use hyper::header::CONTENT_TYPE;
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Whose token it is (`authentication.k8s.io/v1` UserInfo).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenOwner {
    /// Name.
    pub username: String,
    /// Id, may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Reviewed<T> {
    status: T,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct TokenStatus {
    authenticated: bool,
    user: TokenOwner,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
}

/// Asks with a TokenReview whose token it is; nobody's when it is not valid. Needs `create` on
/// `tokenreviews`.
///
/// # Errors
///
/// Why the API server did not answer.
pub async fn owner_of_token(client: &Client, token: &str) -> Result<Option<TokenOwner>, String> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let reviewed: Reviewed<TokenStatus> = post(client, path, &review).await?;
    let status = reviewed.status;
    Ok(status.authenticated.then_some(status.user))
}

/// Asks with a SubjectAccessReview whether the owner of a token may `get` a path that is no resource.
/// Needs `create` on `subjectaccessreviews`.
///
/// # Errors
///
/// Why the API server did not answer.
pub async fn may_get_path(client: &Client, who: &TokenOwner, path: &str) -> Result<bool, String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": who.username, "uid": who.uid, "groups": who.groups, "extra": who.extra,
            "nonResourceAttributes": {"verb": "get", "path": path},
        },
    });
    let url = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let reviewed: Reviewed<AccessStatus> = post(client, url, &review).await?;
    Ok(reviewed.status.allowed)
}

async fn post<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    body: &serde_json::Value,
) -> Result<T, String> {
    let request = hyper::Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|e| e.to_string())?;
    client.request(request).await.map_err(|e| chain(&e))
}
