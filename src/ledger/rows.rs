//! The rows: slim, interned, nothing of an object that the judgement does not use.

use super::Dirty;
use super::accepted::Answered;
use super::live::Support;
use super::names::Sym;
use super::since::{Moment, SinceOwn};
use super::table::RowId;
use crate::object::{LabelSelector, Origin, Phase, PolicyRule, SecretSource, Spelling, Spellings};
use crate::rbac::PackedRules;
use crate::risk::{Priority, Reaches, RuleId, Status};
use std::sync::Arc;

/// When an object came to be as it is, as far as it can be believed (contract §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Its creation, or its last change in what matters; 0 when it tells neither.
    pub(crate) whole: Moment,
    /// managedFields do not tell all changes: they are gone, or a time in them was made up.
    pub(crate) without_history: bool,
}

/// Priorities of the same rules in the three places: cluster-wide, in kube-system, in an ordinary namespace.
pub(crate) type InPlaces = [Priority; 3];

/// A Role or ClusterRole.
#[derive(Clone, Debug)]
pub(crate) struct RoleRow {
    pub(crate) rules: Arc<PackedRules>,
    pub(crate) reaches: Arc<Reaches>,
    /// `reaches` and what follows from it were worked out for these or earlier rules.
    pub(crate) compiled: bool,
    /// It has an aggregationRule, or is one of the three that always have.
    pub(crate) aggregated: bool,
    /// Labels and selectors, kept where aggregation is ours to do (manifests).
    pub(crate) aggregation: Option<Box<AggregationRow>>,
    /// Shipped in the binary, not part of the input.
    pub(crate) shipped: bool,
    pub(crate) times: Times,
    pub(crate) transient: bool,
    pub(crate) origin: Option<Box<Origin>>,
    /// What the rules give. A Role has the same value in all three.
    pub(crate) gives: InPlaces,
    /// The same for each rule with a wildcard alone.
    pub(crate) wildcards: Box<[InPlaces]>,
    /// `gives` looked at other roles.
    pub(crate) depends: bool,
    /// Who holds the rules may become somebody. Most Roles lead to nobody, and need not be asked to whom; of a
    /// ClusterRole it is not known, as that may depend on the place.
    pub(crate) leads: bool,
}

impl RoleRow {
    /// It is part of the input, and its managedFields do not tell when it changed.
    pub(crate) fn lacks_history(&self) -> bool {
        !self.shipped && self.times.without_history
    }
}

/// What aggregation needs of a ClusterRole.
#[derive(Clone, Debug)]
pub(crate) struct AggregationRow {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) selectors: Option<Vec<LabelSelector>>,
    /// The rules as written.
    pub(crate) written: Vec<PolicyRule>,
}

/// Who a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SubjectKey {
    Group(Sym),
    Account(Sym, Sym),
    User(Sym),
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Clone, Debug)]
pub(crate) struct BindingRow {
    pub(crate) cluster_role: bool,
    pub(crate) role: Sym,
    pub(crate) subjects: Box<[SubjectKey]>,
    /// What the binding writes otherwise than `subjects` reads; seldom there.
    pub(crate) oddities: Option<Box<Oddities>>,
    pub(crate) times: Times,
    pub(crate) transient: bool,
    pub(crate) origin: Option<Box<Origin>>,
}

/// Entries of a binding that are not written as they are kept, by their place in the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    pub(crate) spellings: Spellings,
    /// Entries that match nobody and are not kept.
    pub(crate) nobody: Vec<u32>,
}

impl BindingRow {
    /// The entries as the object has them: place, whom it names, and how.
    pub(crate) fn written(&self) -> Vec<(u32, Option<SubjectKey>, Spelling)> {
        let odd = self.oddities.as_deref();
        let nobody = |at| odd.is_some_and(|o| o.nobody.contains(&at));
        let spelling = |at| {
            let found = odd.and_then(|o| o.spellings.0.iter().find(|(place, _)| *place == at));
            found.map(|(_, s)| *s).unwrap_or_default()
        };
        let count = self.subjects.len() + odd.map(|o| o.nobody.len()).unwrap_or_default();
        let mut kept = self.subjects.iter().copied();
        (0..count as u32)
            .map(|at| {
                let key = if nobody(at) { None } else { kept.next() };
                (at, key, spelling(at))
            })
            .collect()
    }
}

/// A ServiceAccount object.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountRow {
    pub(crate) secrets: Box<[Sym]>,
    pub(crate) created: Option<i64>,
}

/// A Namespace object.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamespaceRow {
    pub(crate) pod_security: Option<Sym>,
}

/// What pods of one template have in common; replicas share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodShape {
    pub(crate) account: Sym,
    pub(crate) workload: Option<(Sym, Sym)>,
    pub(crate) automount: Option<bool>,
    pub(crate) mirror: bool,
    pub(crate) predicted: bool,
    pub(crate) escape: u8,
    pub(crate) tokens: Arc<[TokenRow]>,
    pub(crate) secrets: Box<[SecretRow]>,
}

impl PodShape {
    /// It uses its account although it has no projected token of it. A mirror of a static pod has none of its own.
    pub(crate) fn runs_bare(&self) -> bool {
        !self.mirror && self.account != Sym::EMPTY && !self.tokens.iter().any(|t| t.accepted)
    }
}

/// A projected token that containers mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenRow {
    pub(crate) accepted: bool,
    pub(crate) at_default_path: bool,
    pub(crate) containers: Arc<[Sym]>,
}

/// A Secret that containers receive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SecretRow {
    pub(crate) name: Sym,
    pub(crate) source: SecretSource,
    pub(crate) containers: Arc<[Sym]>,
}

/// A Pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRow {
    pub(crate) shape: Arc<PodShape>,
    pub(crate) node: Sym,
    pub(crate) phase: Phase,
}

impl PodRow {
    /// Not Succeeded and not Failed.
    pub(crate) fn live(&self) -> bool {
        !self.phase.terminal()
    }

    /// Live, and whoever is in it can take its node.
    pub(crate) fn takes_node(&self) -> bool {
        self.live() && self.shape.escape != 0
    }
}

/// An [`crate::risk::Edge`] with interned names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EdgeRow {
    pub(crate) rule: RuleId,
    pub(crate) cap: Priority,
    pub(crate) scope: Sym,
    pub(crate) to: ToKey,
    /// It takes this identity too, and reaches no further than that one.
    pub(crate) gate: Option<ToKey>,
}

/// An [`crate::risk::To`] with interned names; a scope is a namespace or [`Sym::STAR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ToKey {
    Accounts(Sym),
    Account(Sym, Sym),
    Identities(Sym),
    Identity(Sym, Sym),
    User(Sym),
    Group(Sym),
    PodTokens(Sym),
    PodTokensOf(Sym, Sym),
    NodeTokens(Sym, Sym),
    OwnNodeTokens(Sym),
    SecretOwners(Sym),
    SecretOwnersOf(Sym, Sym),
    Reaim(Sym),
    ReaimOf(Sym, Sym),
}

impl ToKey {
    /// The same edge when nothing is known of pods: whatever a pod may carry it does, and whichever
    /// account a pod would need is there. Contains every set that it stands for.
    pub(crate) fn without_pods(self) -> ToKey {
        match self {
            ToKey::Accounts(s)
            | ToKey::PodTokens(s)
            | ToKey::PodTokensOf(s, _)
            | ToKey::NodeTokens(s, _)
            | ToKey::OwnNodeTokens(s) => ToKey::Identities(s),
            ToKey::Account(s, n) => ToKey::Identity(s, n),
            to => to,
        }
    }

    /// The same set of another namespace; `None` when it is not one of `from`.
    pub(crate) fn moved(self, from: Sym, to: Sym) -> Option<ToKey> {
        let place = |scope: Sym| (scope == from).then_some(to);
        Some(match self {
            ToKey::Accounts(s) => ToKey::Accounts(place(s)?),
            ToKey::Account(s, n) => ToKey::Account(place(s)?, n),
            ToKey::Identities(s) => ToKey::Identities(place(s)?),
            ToKey::Identity(s, n) => ToKey::Identity(place(s)?, n),
            ToKey::PodTokens(s) => ToKey::PodTokens(place(s)?),
            ToKey::PodTokensOf(s, n) => ToKey::PodTokensOf(place(s)?, n),
            ToKey::NodeTokens(s, n) => ToKey::NodeTokens(place(s)?, n),
            ToKey::OwnNodeTokens(s) => ToKey::OwnNodeTokens(place(s)?),
            ToKey::SecretOwners(s) => ToKey::SecretOwners(place(s)?),
            ToKey::SecretOwnersOf(s, n) => ToKey::SecretOwnersOf(place(s)?, n),
            ToKey::Reaim(s) => ToKey::Reaim(place(s)?),
            ToKey::ReaimOf(s, n) => ToKey::ReaimOf(place(s)?, n),
            ToKey::User(_) | ToKey::Group(_) => return None,
        })
    }
}

impl EdgeRow {
    /// The same edge of another namespace; `None` when it is not of `from` alone.
    pub(crate) fn moved(&self, from: Sym, to: Sym) -> Option<EdgeRow> {
        let gate = match self.gate {
            Some(gate) => Some(gate.moved(from, to)?),
            None => None,
        };
        (self.scope == from).then_some(EdgeRow {
            scope: to,
            to: self.to.moved(from, to)?,
            gate,
            ..*self
        })
    }
}

/// A subject.
#[derive(Clone, Debug)]
pub(crate) struct SubjectRow {
    pub(crate) key: SubjectKey,
    /// Bindings that name it, in no order, without duplicates.
    pub(crate) bindings: Vec<RowId>,
    /// The ServiceAccount object exists; true for users and groups.
    pub(crate) exists: bool,
    pub(crate) own: Priority,
    pub(crate) effective: Priority,
    pub(crate) status: Status,
    /// Own priority up to which the shipped pairs answer for it.
    pub(crate) covered: Option<Priority>,
    /// Rules that match it, each at its highest priority.
    pub(crate) rules: Arc<[(RuleId, Priority)]>,
    pub(crate) edges: Box<[EdgeRow]>,
    /// Since when it holds what it holds on its own.
    pub(crate) since_own: Seldom<SinceOwn>,
    /// Since when it holds its effective priority; 0 for unknown.
    pub(crate) since: Moment,
    /// What of it somebody answers for.
    pub(crate) answered: Option<Box<Answered>>,
    /// The moment when its rise to this priority was seen, where that was stamped; else 0.
    pub(crate) stamp: Moment,
    /// `since` before its status alone changed, in the batch that is being settled; else 0.
    pub(crate) kept: Moment,
    /// It rose in the batch that is being settled, and an event of RBAC may have brought that about.
    pub(crate) risen: bool,
    /// What holds it above its own priority.
    pub(crate) support: Option<Box<Support>>,
    /// It owes what it is in detail to groups alone, see [`super::Ledger::rests_on_groups`].
    pub(crate) rests: bool,
    /// Some binding that names it gives it a rule.
    pub(crate) has_rules: bool,
    /// The other roles that its judgement looked at.
    pub(crate) depends: Seldom<Depends>,
}

/// Something that most rows have nothing of: a pointer's room, until there is something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

impl<T: Default + PartialEq> From<T> for Seldom<T> {
    fn from(value: T) -> Seldom<T> {
        Seldom((value != T::default()).then(|| Box::new(value)))
    }
}

impl<T> Seldom<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }
}

/// Which other roles a judgement looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Depends {
    #[default]
    Not,
    /// Some.
    OnRolesIn {
        /// Those of these namespaces, or ClusterRoles, whose namespace is empty; sorted.
        namespaces: Box<[Sym]>,
        /// A Role by its name, and not only what the Roles of a namespace are to whoever may bind any.
        by_name: bool,
    },
    /// Those of any.
    OnAll,
}

impl Depends {
    pub(crate) fn namespaces(&self) -> &[Sym] {
        match self {
            Depends::OnRolesIn { namespaces, .. } => namespaces,
            Depends::Not | Depends::OnAll => &[],
        }
    }

    /// Does it hang on roles that have moved in these namespaces, or on what is another there `to_all` who may
    /// bind any? ClusterRoles are worth something in all.
    pub(crate) fn on_any(&self, moved: &Dirty<Sym>, to_all: &Dirty<Sym>) -> bool {
        match self {
            Depends::Not => false,
            Depends::OnRolesIn {
                namespaces,
                by_name,
            } => {
                let moved = if *by_name { moved } else { to_all };
                moved.contains(&Sym::EMPTY)
                    || (!moved.is_empty() && namespaces.iter().any(|ns| moved.contains(ns)))
            }
            Depends::OnAll => true,
        }
    }
}

impl SubjectRow {
    pub(crate) fn new(key: SubjectKey) -> SubjectRow {
        SubjectRow {
            key,
            bindings: Vec::new(),
            exists: !matches!(key, SubjectKey::Account(..)),
            own: Priority::None,
            effective: Priority::None,
            status: Status::Open,
            covered: None,
            rules: Arc::default(),
            edges: Box::default(),
            since_own: Seldom::default(),
            since: 0,
            answered: None,
            stamp: 0,
            kept: 0,
            risen: false,
            support: None,
            rests: false,
            has_rules: false,
            depends: Seldom::default(),
        }
    }
}
