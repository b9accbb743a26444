//! Who a subject is: the groups that an identity certainly has (catalogue A.4,
//! `k8s.io/apiserver/pkg/authentication/serviceaccount/util.go`).

use crate::object::Subject;

/// The group that every authoriser is bypassed for.
pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const ACCOUNTS: &str = "system:serviceaccounts";
const ACCOUNTS_OF: &str = "system:serviceaccounts:";

/// Names of groups, at most three.
pub type Groups = Vec<String>;

/// The groups whose grants the subject holds beside its own (contract §1). What a certificate or an
/// identity provider adds cannot be seen from the cluster.
pub fn implicit_groups(subject: &Subject) -> Groups {
    match subject {
        Subject::ServiceAccount { namespace, .. } => vec![
            AUTHENTICATED.to_owned(),
            ACCOUNTS.to_owned(),
            format!("{ACCOUNTS_OF}{namespace}"),
        ],
        Subject::User { name } if name == "system:anonymous" => {
            vec!["system:unauthenticated".to_owned()]
        }
        Subject::User { .. } => vec![AUTHENTICATED.to_owned()],
        Subject::Group { name } if name == "system:unauthenticated" || name == AUTHENTICATED => {
            vec![]
        }
        Subject::Group { name } if name.starts_with(ACCOUNTS_OF) => {
            vec![AUTHENTICATED.to_owned(), ACCOUNTS.to_owned()]
        }
        Subject::Group { .. } => vec![AUTHENTICATED.to_owned()],
    }
}

/// Which subjects hold what a group holds, besides the group: the inverse of [`implicit_groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Nobody that can be seen.
    None,
    /// Everybody but the unauthenticated.
    Authenticated,
    /// User `system:anonymous`.
    Anonymous,
    /// Every account, and the groups of accounts.
    Accounts,
    /// Every account of a namespace.
    AccountsOf(String),
}

/// Who has the group.
pub fn members_of(group: &str) -> Members {
    match group {
        AUTHENTICATED => Members::Authenticated,
        ACCOUNTS => Members::Accounts,
        "system:unauthenticated" => Members::Anonymous,
        _ => group
            .strip_prefix(ACCOUNTS_OF)
            .map_or(Members::None, |ns| Members::AccountsOf(ns.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_an_identity_certainly_has() {
        for (subject, expected) in [
            (
                "sa:app/web",
                &[
                    "system:authenticated",
                    "system:serviceaccounts",
                    "system:serviceaccounts:app",
                ][..],
            ),
            ("user:ann", &["system:authenticated"]),
            ("user:system:anonymous", &["system:unauthenticated"]),
            ("group:devs", &["system:authenticated"]),
            ("group:system:serviceaccounts", &["system:authenticated"]),
            (
                "group:system:serviceaccounts:app",
                &["system:authenticated", "system:serviceaccounts"],
            ),
            ("group:system:authenticated", &[]),
            ("group:system:unauthenticated", &[]),
        ] {
            let of = Subject::parse(subject).unwrap();
            assert_eq!(implicit_groups(&of), expected, "{subject}");
        }
    }

    #[test]
    fn who_has_a_group_is_the_inverse() {
        for (group, expected) in [
            ("system:authenticated", Members::Authenticated),
            ("system:unauthenticated", Members::Anonymous),
            ("system:serviceaccounts", Members::Accounts),
            (
                "system:serviceaccounts:app",
                Members::AccountsOf("app".into()),
            ),
            ("system:masters", Members::None),
            ("devs", Members::None),
        ] {
            assert_eq!(members_of(group), expected, "{group}");
        }
    }
}
