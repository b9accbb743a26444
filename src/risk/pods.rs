//! Which tokens a pod carries (catalogue D.2), as far as names and audiences tell.

/// Would the API server accept a token for this audience? `accepted` is what its own token or the
/// configuration says; `None` in `audience` means the API server itself.
pub fn audience_accepted(audience: Option<&str>, accepted: &[String]) -> bool {
    audience.is_none_or(|a| accepted.iter().any(|x| x == a))
}

/// Could a Secret of this name be a legacy token of the account? The name pattern of before 1.24:
/// `ACCOUNT-token-` and five of 27 characters. A guess, used where `.secrets[]` does not tell.
pub fn secret_may_be_token_of(secret: &str) -> Option<&str> {
    let known = |c: &u8| b"bcdfghjklmnpqrstvwxz2456789".contains(c);
    let (account, random) = secret.split_at_checked(secret.len().checked_sub(5)?)?;
    let account = account.strip_suffix("-token-")?;
    (!account.is_empty() && random.as_bytes().iter().all(known)).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences() {
        let accepted = vec!["https://kubernetes.default.svc.cluster.local".to_owned()];
        assert!(audience_accepted(None, &accepted));
        assert!(audience_accepted(Some(&accepted[0]), &accepted));
        assert!(!audience_accepted(Some("vault"), &accepted));
        assert!(!audience_accepted(
            Some("https://kubernetes.default.svc"),
            &accepted
        ));
    }

    #[test]
    fn legacy_names() {
        assert_eq!(secret_may_be_token_of("tiller-token-x2z9k"), Some("tiller"));
        for other in [
            "tiller-token-abcde",
            "tiller-token-x2z9",
            "-token-x2z9k",
            "db-creds",
        ] {
            assert_eq!(secret_may_be_token_of(other), None, "{other}");
        }
    }
}
