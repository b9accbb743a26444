//! What the exporter's own token says of the cluster: the audiences that the API server accepts.
//!
//! They are published nowhere else. A projected token without an audience is issued for the API
//! server's own (`--api-audiences`), so its `aud` claim is the list (catalogue D.2).

use super::client::as_own_account;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

/// The audiences of the mounted token; none outside a cluster, and none when the exporter looks at
/// another cluster than that of the token, whose audiences say nothing there.
pub fn own_audiences(context: Option<&str>) -> Vec<String> {
    as_own_account(context)
        .then(|| std::fs::read_to_string(TOKEN).ok())
        .flatten()
        .and_then(|t| audiences(&t))
        .unwrap_or_default()
}

/// The `aud` claim of a JSON Web Token. The signature is not looked at: the file is our own.
fn audiences(token: &str) -> Option<Vec<String>> {
    let payload = token.trim().split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()?;
    Some(match serde_json::from_slice::<Claims>(&claims).ok()?.aud {
        Audiences::One(one) => vec![one],
        Audiences::Several(several) => several,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_is_read_in_both_forms() {
        let token = |claims: &str| format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(
            audiences(&token(r#"{"aud":"a","sub":"x"}"#)),
            Some(vec!["a".into()])
        );
        assert_eq!(
            audiences(&token(r#"{"aud":["a","b"]}"#)),
            Some(vec!["a".into(), "b".into()])
        );
        for odd in ["", "a.b", "a.!!.c", &token("{}")] {
            assert_eq!(audiences(odd), None, "{odd}");
        }
    }
}
