//! What Kubernetes RBAC means (pure).
//!
//! The API server's own question is "would this request be allowed?". This module asks it of many
//! roles at once: a [`Vocabulary`] is the list of requests worth asking, and a [`Reach`] the answer of
//! one role (or of several, merged): for each request, every name, some names, or none. The risk
//! catalogue brings the vocabulary of its atoms, `can-i` that of its questions; both go the same way.
//!
//! Sources: `pkg/apis/rbac/v1/evaluation_helpers.go` (matching),
//! `plugin/pkg/auth/authorizer/rbac/rbac.go` and `pkg/registry/rbac/validation/rule.go` (who and where).

mod aggregate;
mod bits;
mod defaults;
mod identity;
mod packed;
mod vocabulary;

pub use aggregate::{aggregated_rules, selects};
pub use bits::Bits;
pub use defaults::{NEWEST, OLDEST, ServerVersion, shipped_roles};
pub use identity::{Groups, MASTERS, Members, implicit_groups, members_of};
pub use packed::PackedRules;
pub use vocabulary::{
    Mode, Names, PermId, Permission, Place, Reach, Target, Vocabulary, group_matches,
    resource_matches, url_matches, verb_matches,
};
