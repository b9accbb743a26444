//! The rules as data: loaded from the YAML shipped in the binary, checked, and compiled against one
//! vocabulary.

use super::priority::Priority;
use crate::rbac::{Bits, PermId, Permission, ServerVersion, Vocabulary};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The shipped rules.
const SHIPPED_RULES: &str = include_str!("data/rules.yaml");
/// The shipped texts.
const SHIPPED_TEXTS: &str = include_str!("data/meta.yaml");

/// Number of a rule in its catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The text is no catalogue.
    #[error("rules: {0}")]
    Syntax(#[from] serde_yaml::Error),
    /// A rule contradicts itself.
    #[error("rule {rule}: {message}")]
    Rule {
        /// Its id.
        rule: String,
        /// What is wrong, and what is wanted.
        message: String,
    },
}

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
    pub(super) perms: super::special::Perms,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RulesFile {
    privileged_namespaces: Vec<String>,
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleText {
    id: String,
    sev: LevelsText,
    sevn: Option<LevelsText>,
    #[serde(default)]
    any: Vec<Vec<AtomText>>,
    #[serde(default)]
    special: bool,
    finding: Option<bool>,
    #[serde(default)]
    named_only: bool,
    #[serde(default)]
    only_namespaces: Vec<String>,
    before: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsText {
    c: String,
    p: String,
    n: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtomText {
    v: Vec<String>,
    g: Vec<String>,
    r: Vec<String>,
    n: Option<NamesText>,
    #[serde(rename = "match")]
    pattern: Option<String>,
    #[serde(rename = "as")]
    same: Option<String>,
    at: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamesText {
    Word(String),
    List(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    title: String,
    attack: String,
    fix: String,
    #[serde(default)]
    refs: String,
    #[serde(default, rename = "note")]
    _note: String,
}

impl Catalogue {
    /// The catalogue shipped in the binary.
    pub fn shipped() -> Catalogue {
        Catalogue::load(SHIPPED_RULES, SHIPPED_TEXTS)
            .expect("the shipped catalogue is checked by a test")
    }

    /// Reads and checks a catalogue.
    ///
    /// # Errors
    /// The first contradiction, with the rule's id.
    pub fn load(rules: &str, texts: &str) -> Result<Catalogue, CatalogueError> {
        let file: RulesFile = serde_yaml::from_str(rules)?;
        let mut texts: BTreeMap<String, Text> = serde_yaml::from_str(texts)?;
        let mut perms: Vec<Permission> = Vec::new();
        for rule in &file.rules {
            for atom in rule.any.iter().flatten() {
                perms.extend(atom_permissions(atom));
            }
        }
        perms.extend(super::special::permissions());
        let vocabulary = Vocabulary::new(perms);
        let mut seen = BTreeSet::new();
        let mut by_special = HashMap::new();
        let mut compiled = Vec::with_capacity(file.rules.len());
        for rule in &file.rules {
            let fail = |message: String| CatalogueError::Rule {
                rule: rule.id.clone(),
                message,
            };
            if !seen.insert(rule.id.clone()) {
                return Err(fail("is given twice".into()));
            }
            let special = SPECIALS
                .iter()
                .find(|(id, _)| *id == rule.id)
                .map(|(_, s)| *s);
            match (rule.special, special) {
                (true, None) => return Err(fail("is marked special, but no code knows it".into())),
                (false, None) if rule.any.is_empty() => {
                    return Err(fail("has no condition: give `any`".into()));
                }
                _ => {}
            }
            let special = special.filter(|_| rule.special);
            if let Some(s) = special.filter(|s| *s != Special::Hygiene) {
                by_special.insert(s, RuleId(compiled.len() as u16));
            }
            let any = rule
                .any
                .iter()
                .map(|all| all.iter().map(|a| compile(a, &vocabulary)).collect())
                .collect::<Result<Vec<Vec<Atom>>, String>>()
                .map_err(&fail)?;
            let text = texts
                .remove(&rule.id)
                .ok_or_else(|| fail("has no title, attack and remediation".into()))?;
            compiled.push(Rule {
                id: rule.id.clone(),
                levels: levels(&rule.sev).map_err(&fail)?,
                named: rule.sevn.as_ref().map(levels).transpose().map_err(&fail)?,
                any,
                named_only: rule.named_only,
                only_namespaces: rule.only_namespaces.clone(),
                before: rule
                    .before
                    .as_ref()
                    .map(|b| {
                        ServerVersion::parse(b)
                            .ok_or_else(|| fail(format!("before: {b:?} is no version like 1.35")))
                    })
                    .transpose()?,
                special,
                finding: rule.finding.unwrap_or(true),
                title: text.title,
                attack: text.attack,
                remediation: text.fix,
                references: text.refs,
            });
        }
        let mut hash = Sha256::new();
        hash.update(rules.as_bytes());
        let ruleset: String = hash
            .finalize()
            .iter()
            .take(6)
            .map(|b| format!("{b:02x}"))
            .collect();
        Ok(Catalogue {
            perms: super::special::Perms::new(&vocabulary),
            vocabulary,
            rules: compiled,
            privileged_namespaces: file.privileged_namespaces.into_iter().collect(),
            ruleset,
            by_special,
        })
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
}

fn atom_permissions(atom: &AtomText) -> impl Iterator<Item = Permission> + '_ {
    atom.v.iter().flat_map(move |v| {
        atom.g
            .iter()
            .flat_map(move |g| atom.r.iter().map(move |r| Permission::resource(v, g, r)))
    })
}

fn compile(atom: &AtomText, vocabulary: &Vocabulary) -> Result<Atom, String> {
    if atom.v.is_empty() || atom.g.is_empty() || atom.r.is_empty() {
        return Err("an atom needs at least one of v, g and r each".into());
    }
    let perms: Vec<PermId> = atom_permissions(atom)
        .filter_map(|p| vocabulary.id(&p))
        .collect();
    let mut bits = Bits::new(vocabulary.len());
    perms.iter().for_each(|p| bits.insert(p.index()));
    let names = match (&atom.n, &atom.pattern) {
        (Some(_), Some(_)) => return Err("an atom has either n or match".into()),
        (None, None) => NameMode::Any,
        (None, Some(pattern)) => NameMode::Match(
            regex_lite::Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|e| format!("match: {e}"))?,
        ),
        (Some(NamesText::List(list)), None) if list.is_empty() => {
            return Err("n: the list of names is empty".into());
        }
        (Some(NamesText::List(list)), None) => NameMode::List(list.clone()),
        (Some(NamesText::Word(word)), None) => match word.as_str() {
            "any" => NameMode::Any,
            "named" => NameMode::Named,
            other => return Err(format!("n: {other:?} is neither any, named nor a list")),
        },
    };
    let at_cluster = match atom.at.as_deref() {
        None => false,
        Some("cluster") => true,
        Some(other) => return Err(format!("at: {other:?} is not cluster")),
    };
    Ok(Atom {
        perms,
        bits,
        names,
        same_object: atom.same.clone(),
        at_cluster,
    })
}

fn levels(text: &LevelsText) -> Result<Levels, String> {
    let one = |word: &str| match word {
        "-" => Ok(None),
        other => match Priority::parse(other) {
            Some(p) if p != Priority::None => Ok(Some(p)),
            _ => Err(format!(
                "{other:?} is none of critical, high, medium, low and -"
            )),
        },
    };
    Ok(Levels {
        cluster: one(&text.c)?,
        privileged: one(&text.p)?,
        namespace: one(&text.n)?,
    })
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

    #[test]
    fn contradictions_are_named() {
        let one = |rule: &str| {
            let text = format!("privilegedNamespaces: []\nrules:\n- {rule}\n");
            let meta = "x: {title: t, attack: a, fix: f}";
            Catalogue::load(&text, meta).expect_err(rule).to_string()
        };
        let sev = "sev: {c: low, p: low, n: low}";
        for (rule, expected) in [
            (
                format!("{{id: x, {sev}, special: true}}"),
                "no code knows it",
            ),
            (format!("{{id: x, {sev}}}"), "no condition"),
            (
                format!("{{id: x, {sev}, any: [[{{v: [], g: [''], r: [a]}}]]}}"),
                "at least one",
            ),
            (
                format!("{{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a], n: al}}]]}}"),
                "neither any",
            ),
            (
                format!("{{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a], n: []}}]]}}"),
                "empty",
            ),
            (
                format!("{{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a], at: c}}]]}}"),
                "not cluster",
            ),
            (
                format!("{{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a], match: '('}}]]}}"),
                "match",
            ),
            (
                format!("{{id: x, {sev}, before: new, any: [[{{v: [a], g: [''], r: [a]}}]]}}"),
                "version",
            ),
            (
                "{id: x, sev: {c: hihg, p: low, n: low}, any: [[{v: [a], g: [''], r: [a]}]]}"
                    .into(),
                "hihg",
            ),
            (format!("{{id: x, {sev}, anny: []}}"), "anny"),
            (
                format!(
                    "{{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a]}}]]}}\n- {{id: x, {sev}, any: [[{{v: [a], g: [''], r: [a]}}]]}}"
                ),
                "rule x: is given twice",
            ),
            (
                format!("{{id: y, {sev}, any: [[{{v: [a], g: [''], r: [a]}}]]}}"),
                "no title",
            ),
        ] {
            let got = one(&rule);
            assert!(got.contains(expected), "{rule}: {got}");
        }
    }
}
