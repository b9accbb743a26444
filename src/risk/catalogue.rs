//! The rules in force, compiled against one vocabulary.

use super::priority::Priority;
use super::rules::{AtomSpec, RuleOrigin, RuleSpec, Rules, Source};
use crate::rbac::{Bits, PermId, ServerVersion, Vocabulary};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};

/// Number of a rule in its catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// Which names an atom is content with.
#[derive(Clone, Debug)]
pub enum NameMode {
    /// The grant must not be limited; a limited one makes the finding a named one.
    Any,
    /// A limited grant is as good.
    Named,
    /// An unlimited grant or one for any of these names.
    List(Vec<String>),
    /// An unlimited grant or one for a name that the pattern matches whole.
    Match(regex_lite::Regex),
}

/// A request pattern: any of the permissions will do.
#[derive(Clone, Debug)]
pub struct Atom {
    /// The permissions, as numbers and as bits.
    pub perms: Vec<PermId>,
    /// The same, for quick rejection.
    pub bits: Bits,
    /// Names.
    pub names: NameMode,
    /// Atoms of one alternative with the same word speak of one object.
    pub same_object: Option<String>,
    /// Must come from ClusterRoleBindings.
    pub at_cluster: bool,
}

/// Priority in the three places: cluster-wide, in a privileged namespace, in any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Cluster-wide.
    pub cluster: Option<Priority>,
    /// In a privileged namespace.
    pub privileged: Option<Priority>,
    /// In any other namespace.
    pub namespace: Option<Priority>,
}

impl Levels {
    /// The same in all three.
    pub fn everywhere(priority: Priority) -> Levels {
        Levels {
            cluster: Some(priority),
            privileged: Some(priority),
            namespace: Some(priority),
        }
    }

    /// The three.
    pub fn all(&self) -> [Option<Priority>; 3] {
        [self.cluster, self.privileged, self.namespace]
    }

    /// Each through a function, where there is one.
    pub fn map(&self, each: impl Fn(Priority) -> Priority) -> Levels {
        Levels {
            cluster: self.cluster.map(&each),
            privileged: self.privileged.map(&each),
            namespace: self.namespace.map(&each),
        }
    }

    /// Nowhere above others, and silent where they are.
    pub fn capped(&self, most: &Levels) -> Levels {
        let least = |a: Option<Priority>, b: Option<Priority>| Some(a?.min(b?));
        Levels {
            cluster: least(self.cluster, most.cluster),
            privileged: least(self.privileged, most.privileged),
            namespace: least(self.namespace, most.namespace),
        }
    }
}

/// Rules whose condition is code; the word is the rule's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `rbac-escalate`
    Escalate,
    /// `rbac-bind`
    Bind,
    /// `impersonate-groups`
    ImpersonateGroups,
    /// `impersonate-users`
    ImpersonateUsers,
    /// `impersonate-serviceaccounts`
    ImpersonateServiceAccounts,
    /// `impersonate-constrained`
    ImpersonateConstrained,
    /// `secrets-token-mint`
    TokenMint,
    /// `serviceaccount-token-create`
    TokenCreate,
    /// `persistentvolume-hostpath`
    VolumeHostPath,
    /// `namespace-modify`
    NamespaceModify,
    /// `namespace-delete`
    NamespaceDelete,
    /// `nonresource-wildcard`
    NonResourceWildcard,
    /// `system-masters`
    Masters,
    /// `anonymous-access`
    Anonymous,
    /// `authenticated-access`
    Authenticated,
    /// `all-serviceaccounts-access`
    AllServiceAccounts,
    /// `default-serviceaccount-bound`
    DefaultServiceAccount,
    /// One of the five that feed families of their own and are nobody's finding.
    Hygiene,
}

impl Special {
    /// The one of a rule's id.
    pub fn of(id: &str) -> Option<Special> {
        SPECIALS
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, s)| *s)
    }

    /// Ids of all of them.
    pub fn ids() -> impl Iterator<Item = &'static str> {
        SPECIALS.iter().map(|(id, _)| *id)
    }

    /// Asked of what a role grants, whoever holds it; the others are about who a binding names.
    pub fn is_about_grants(self) -> bool {
        !matches!(
            self,
            Special::Masters
                | Special::Anonymous
                | Special::Authenticated
                | Special::AllServiceAccounts
                | Special::DefaultServiceAccount
                | Special::Hygiene
        )
    }
}

const SPECIALS: [(&str, Special); 22] = [
    ("rbac-escalate", Special::Escalate),
    ("rbac-bind", Special::Bind),
    ("impersonate-groups", Special::ImpersonateGroups),
    ("impersonate-users", Special::ImpersonateUsers),
    (
        "impersonate-serviceaccounts",
        Special::ImpersonateServiceAccounts,
    ),
    ("impersonate-constrained", Special::ImpersonateConstrained),
    ("secrets-token-mint", Special::TokenMint),
    ("serviceaccount-token-create", Special::TokenCreate),
    ("persistentvolume-hostpath", Special::VolumeHostPath),
    ("namespace-modify", Special::NamespaceModify),
    ("namespace-delete", Special::NamespaceDelete),
    ("nonresource-wildcard", Special::NonResourceWildcard),
    ("system-masters", Special::Masters),
    ("anonymous-access", Special::Anonymous),
    ("authenticated-access", Special::Authenticated),
    ("all-serviceaccounts-access", Special::AllServiceAccounts),
    (
        "default-serviceaccount-bound",
        Special::DefaultServiceAccount,
    ),
    ("dangling-role-ref", Special::Hygiene),
    ("dangling-subject", Special::Hygiene),
    ("wildcard-use", Special::Hygiene),
    ("token-unneeded", Special::Hygiene),
    ("cluster-admin-bound", Special::Hygiene),
];

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Stable id.
    pub id: String,
    /// Priority for an unlimited grant.
    pub levels: Levels,
    /// Priority for a grant limited to names; absent: no finding.
    pub named: Option<Levels>,
    /// Alternatives of conjunctions.
    pub any: Vec<Vec<Atom>>,
    /// Reported only while no unlimited grant exists.
    pub named_only: bool,
    /// Namespace scopes it is confined to; empty for none.
    pub only_namespaces: Vec<String>,
    /// Holds for servers before this version.
    pub before: Option<ServerVersion>,
    /// Condition in code.
    pub special: Option<Special>,
    /// Counts as a finding of subjects.
    pub finding: bool,
    /// What it is, in a few words.
    pub title: String,
    /// The attack, in a sentence.
    pub attack: String,
    /// The remediation, in a sentence.
    pub remediation: String,
    /// Other catalogues and texts that know it.
    pub references: String,
    /// Where it comes from.
    pub origin: RuleOrigin,
    /// Nothing above this is reported.
    pub ceiling: Option<Levels>,
    /// The shipped condition of the id where another took its place; empty otherwise. Whom one becomes
    /// through the rule follows from what that one grants, so it must hold too.
    pub becomes: Vec<Vec<Atom>>,
}

impl Rule {
    /// Its condition is that of the binary.
    pub fn is_shipped(&self) -> bool {
        self.origin.source == Source::Shipped
    }
}

/// The rules in force.
#[derive(Debug)]
pub struct Catalogue {
    /// The permissions that the rules ask about.
    pub vocabulary: Vocabulary,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// Namespaces that are as good as the cluster.
    pub privileged_namespaces: BTreeSet<String>,
    /// Short hash of the rules in force.
    pub ruleset: String,
    by_special: HashMap<Special, RuleId>,
    /// By permission, the plain rules that may hold for whoever has it: an alternative begins with it.
    pub(super) begun_by: Vec<Bits>,
    pub(super) perms: super::special::Perms,
}

impl Catalogue {
    /// The catalogue shipped in the binary.
    pub fn shipped() -> Catalogue {
        Catalogue::of(&Rules::shipped())
    }

    /// Compiles those of the rules that are in force.
    pub fn of(rules: &Rules) -> Catalogue {
        let specs = || rules.specs.iter().filter(|s| !s.disabled);
        let mut perms = super::special::permissions();
        for spec in specs() {
            let replaced = spec.shipped.iter().flatten();
            let atoms = spec.any.iter().chain(replaced).flatten();
            perms.extend(atoms.flat_map(AtomSpec::permissions));
        }
        let vocabulary = Vocabulary::new(perms);
        let compiled: Vec<Rule> = specs().map(|s| compile(s, &vocabulary)).collect();
        let by_special = compiled
            .iter()
            .enumerate()
            .filter_map(|(i, r)| Some((r.special?, RuleId(i as u16))))
            .filter(|(s, _)| *s != Special::Hygiene)
            .collect();
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", rules.privileged));
        specs().for_each(|s| hash.update(s.canonical()));
        let hash = hash.finalize();
        let ruleset = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
        Catalogue {
            perms: super::special::Perms::new(&vocabulary),
            begun_by: begun_by(&vocabulary, &compiled),
            vocabulary,
            rules: compiled,
            privileged_namespaces: rules.privileged.clone(),
            ruleset,
            by_special,
        }
    }

    /// The rule of a number.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[usize::from(id.0)]
    }

    /// The number of a rule.
    pub fn find(&self, id: &str) -> Option<RuleId> {
        self.rules
            .iter()
            .position(|r| r.id == id)
            .map(|i| RuleId(i as u16))
    }

    /// The rule whose condition is this code, if it is in force.
    pub fn special(&self, special: Special) -> Option<RuleId> {
        self.by_special.get(&special).copied()
    }

    /// Does every verb on every resource of a scope imply the rule there? All do but those about URLs
    /// and about the binding itself.
    pub fn implied_by_admin(&self, id: RuleId) -> bool {
        !matches!(
            self.rule(id).special,
            Some(
                Special::NonResourceWildcard
                    | Special::Masters
                    | Special::Anonymous
                    | Special::Authenticated
                    | Special::AllServiceAccounts
                    | Special::DefaultServiceAccount
                    | Special::Hygiene
            )
        )
    }

    /// Is the namespace on the privileged list?
    pub fn privileged(&self, namespace: &str) -> bool {
        self.privileged_namespaces.contains(namespace)
    }

    /// Some rule holds in single namespaces, and this is one of them.
    pub(super) fn singles_out(&self, namespace: &str) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.only_namespaces.iter().any(|n| n == namespace))
    }
}

fn begun_by(vocabulary: &Vocabulary, rules: &[Rule]) -> Vec<Bits> {
    let mut out = vec![Bits::new(rules.len()); vocabulary.len()];
    let plain = rules
        .iter()
        .enumerate()
        .filter(|(_, r)| r.special.is_none());
    for (number, rule) in plain {
        for all in &rule.any {
            match all.first() {
                Some(atom) => atom.bits.iter().for_each(|p| out[p].insert(number)),
                None => out.iter_mut().for_each(|rules| rules.insert(number)),
            }
        }
    }
    out
}

fn compile(spec: &RuleSpec, vocabulary: &Vocabulary) -> Rule {
    let all = |any: &[Vec<AtomSpec>]| -> Vec<Vec<Atom>> {
        any.iter()
            .map(|all| all.iter().map(|a| compile_atom(a, vocabulary)).collect())
            .collect()
    };
    Rule {
        id: spec.id.clone(),
        levels: spec.levels,
        named: spec.named,
        any: all(&spec.any),
        named_only: spec.named_only,
        only_namespaces: spec.only_namespaces.clone(),
        before: spec.before,
        special: spec.special,
        finding: spec.finding,
        title: spec.title.clone(),
        attack: spec.attack.clone(),
        remediation: spec.remediation.clone(),
        references: spec.references.clone(),
        origin: spec.origin.clone(),
        ceiling: spec.ceiling,
        becomes: spec.shipped.as_deref().map(all).unwrap_or_default(),
    }
}

fn compile_atom(spec: &AtomSpec, vocabulary: &Vocabulary) -> Atom {
    let perms: Vec<PermId> = spec
        .permissions()
        .filter_map(|p| vocabulary.id(&p))
        .collect();
    let mut bits = Bits::new(vocabulary.len());
    perms.iter().for_each(|p| bits.insert(p.index()));
    Atom {
        perms,
        bits,
        names: spec.names.clone(),
        same_object: spec.same_object.clone(),
        at_cluster: spec.at_cluster,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalogue_has_86_rules_and_their_texts() {
        let c = Catalogue::shipped();
        assert_eq!(c.rules.len(), 86);
        assert_eq!(c.rules.iter().filter(|r| !r.finding).count(), 5);
        assert!(
            c.rules
                .iter()
                .all(|r| !r.title.is_empty() && !r.attack.is_empty())
        );
        assert!(c.rules.iter().all(|r| !r.remediation.is_empty()));
        assert_eq!(
            c.special(Special::Bind).map(|r| c.rule(r).id.as_str()),
            Some("rbac-bind")
        );
        assert_eq!(c.ruleset.len(), 12);
    }
}
