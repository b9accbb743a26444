//! What is dangerous (pure).
//!
//! The [`Catalogue`] is data (`data/rules.yaml`, `data/meta.yaml`); [`assess`] asks its rules of what a
//! subject holds, scope by scope; [`Edge`]s say whom the subject can become.

mod acceptance;
mod assess;
mod builtin;
mod catalogue;
mod constrained;
mod pods;
mod priority;
mod rules;
mod special;

pub use acceptance::{Acceptance, AcceptedFinding};
pub use assess::{
    Assessment, Context, Edge, Finding, Held, Holdings, Reaches, Scope, To, assess, joined,
};
pub use builtin::{Pair, builtin_pairs, in_builtin_pairs};
pub use catalogue::{Atom, Catalogue, Levels, NameMode, Rule, RuleId, Special};
pub use pods::{audience_accepted, secret_may_be_token_of};
pub use priority::{Priority, Status};
pub use rules::{
    ATOM_REFERENCE, AtomSpec, Edits, LEVEL_REFERENCE, Place, RULE_REFERENCE, RuleOrigin, RuleSpec,
    Rules, Source, groups, is_id, namespace_fault, namespaces, no_request_has, priority,
    rule_words,
};
pub use special::{about_bindings, depends_on_place, may_rewrite_roles};
