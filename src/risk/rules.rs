//! Rules as they are written: read from text with positions, put together, compiled by the catalogue.
//!
//! The shipped rules and those of users are read here by the same code. An entry with a condition is a
//! rule, new or in place of the one of that id; an entry without changes the one that is there.

use super::catalogue::{Levels, NameMode, Special};
use super::priority::Priority;
use crate::located::{Faults, Field, Fields, Node, Value, Word, entries, parse, unknown, words};
use crate::rbac::{Permission, ServerVersion};
use crate::spelling::nearest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The shipped rules.
const SHIPPED_RULES: &str = include_str!("data/rules.yaml");
/// The shipped texts.
const SHIPPED_TEXTS: &str = include_str!("data/meta.yaml");

/// Most rules in force: every rule is asked of every role.
const MOST: usize = 2000;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where the condition of a rule comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The binary.
    #[default]
    Shipped,
    /// The configuration.
    Config(Place),
    /// A template file of KubiScan.
    Template(Place),
}

/// Where a rule comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOrigin {
    /// Its condition.
    pub source: Source,
    /// The entry of the configuration that changed something else of it, such as its priority.
    pub changed: Option<Place>,
}

impl fmt::Display for RuleOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Shipped => f.write_str("shipped")?,
            Source::Config(place) => write!(f, "{place}")?,
            Source::Template(place) => write!(f, "{place}, template")?,
        }
        match &self.changed {
            Some(place) => write!(f, ", changed by {place}"),
            None => Ok(()),
        }
    }
}

/// A request pattern as written: any verb, of any group, on any resource will do.
#[derive(Clone, Debug)]
pub struct AtomSpec {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups; `""` is core.
    pub groups: Vec<String>,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`.
    pub resources: Vec<String>,
    /// Which names it is content with.
    pub names: NameMode,
    /// Atoms of one alternative with the same word speak of one object.
    pub same_object: Option<String>,
    /// Must come from ClusterRoleBindings.
    pub at_cluster: bool,
}

impl AtomSpec {
    /// Every request of the pattern.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> + '_ {
        self.verbs.iter().flat_map(move |v| {
            self.groups.iter().flat_map(move |g| {
                self.resources
                    .iter()
                    .map(move |r| Permission::resource(v, g, r))
            })
        })
    }
}

/// A rule as written.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// Stable id.
    pub id: String,
    /// Priority for an unlimited grant.
    pub levels: Levels,
    /// Priority for a grant limited to names; absent: no finding.
    pub named: Option<Levels>,
    /// Nothing above this is reported; set where the configuration lowers what code computes.
    pub ceiling: Option<Levels>,
    /// Alternatives of conjunctions.
    pub any: Vec<Vec<AtomSpec>>,
    /// The condition is code.
    pub special: Option<Special>,
    /// Counts as a finding of subjects.
    pub finding: bool,
    /// Reported only while no unlimited grant exists.
    pub named_only: bool,
    /// Namespace scopes it is confined to; empty for none.
    pub only_namespaces: Vec<String>,
    /// Holds for servers before this version.
    pub before: Option<ServerVersion>,
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
    /// Not in force.
    pub disabled: bool,
    /// The shipped condition of the id, if this one took its place: escalation through the rule is
    /// about what that condition grants.
    pub shipped: Option<Vec<Vec<AtomSpec>>>,
}

impl RuleSpec {
    /// All that a judgement depends on, the same for the same rule wherever it was written.
    pub(super) fn canonical(&self) -> String {
        format!(
            "{:?}",
            (
                &self.id,
                &self.levels,
                &self.named,
                &self.ceiling,
                &self.any,
                &self.special,
                &self.named_only,
                &self.only_namespaces,
                &self.before,
                &self.shipped,
            )
        )
    }
}

/// What was done to the shipped rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// New ids.
    pub added: usize,
    /// Shipped ids with another condition.
    pub replaced: usize,
    /// Same condition, something else changed.
    pub changed: usize,
    /// Taken out of force.
    pub disabled: usize,
}

/// Rules being put together.
#[derive(Clone, Debug)]
pub struct Rules {
    /// In the order of the catalogue; also those that are not in force.
    pub specs: Vec<RuleSpec>,
    /// Namespaces that are as good as the cluster.
    pub privileged: BTreeSet<String>,
}

/// The words of a rule.
pub const RULE_REFERENCE: [Word; 14] = [
    Word {
        word: "id",
        value: "letters, digits, `-` `.` `_` `:`",
        meaning: "Names the rule: a new one, or the one that is replaced or changed.",
    },
    Word {
        word: "title",
        value: "text",
        meaning: "Without it that of the rule that is replaced, or a general one.",
    },
    Word {
        word: "attack",
        value: "text",
        meaning: "The same.",
    },
    Word {
        word: "remediation|fix",
        value: "text",
        meaning: "The same.",
    },
    Word {
        word: "references|refs",
        value: "text",
        meaning: "The same.",
    },
    Word {
        word: "priority|sev",
        value: "`critical`, `high`, `medium` or `low`; or a mapping by place, below",
        meaning: "What the finding weighs. One word in a change keeps silent where the rule is silent.",
    },
    Word {
        word: "named|sevn",
        value: "as `priority`",
        meaning: "The same for grants limited by resourceNames. Without it those are no finding. A change of `priority` alone lowers it along.",
    },
    Word {
        word: "any",
        value: "a list of lists of atoms",
        meaning: "Alternatives; the atoms of one must all hold at one scope, from whatever roles and groups.",
    },
    Word {
        word: "namedOnly",
        value: "`true` or `false`",
        meaning: "Only while the grant is limited by names.",
    },
    Word {
        word: "onlyNamespaces",
        value: "names",
        meaning: "Only in these.",
    },
    Word {
        word: "before",
        value: "a version, as `'1.35'`",
        meaning: "Only for servers before it.",
    },
    Word {
        word: "disabled",
        value: "`true` or `false`",
        meaning: "Takes the rule out of force.",
    },
    Word {
        word: "special",
        value: "`true` or `false`",
        meaning: "Keeps the condition in code of the shipped rule of that id.",
    },
    Word {
        word: "finding",
        value: "",
        meaning: "Tells shipped rules that feed a metric family of their own; refused in a configuration.",
    },
];

/// The words of an atom.
pub const ATOM_REFERENCE: [Word; 7] = [
    Word {
        word: "verbs|v",
        value: "a list",
        meaning: "Any of these. `*` asks for the wildcard itself, in the next two as well.",
    },
    Word {
        word: "apiGroups|g",
        value: "a list",
        meaning: "Any of these. The core group is `''`.",
    },
    Word {
        word: "resources|r",
        value: "a list",
        meaning: "Any of these. A subresource is `pods/exec`.",
    },
    Word {
        word: "names|n",
        value: "`any`, `named`, or a list",
        meaning: "`any` (default): the grant must be unlimited, a limited one is judged by `named` of the rule. `named`: a limited one is as good. A list: unlimited, or for one of these names.",
    },
    Word {
        word: "match",
        value: "a regular expression",
        meaning: "Instead of `names`: unlimited, or for a name that it matches whole.",
    },
    Word {
        word: "as",
        value: "a word",
        meaning: "Atoms of one alternative with the same word speak of one object: their names must have one in common.",
    },
    Word {
        word: "at",
        value: "`cluster`",
        meaning: "Must come from a ClusterRoleBinding.",
    },
];

/// The words of a priority by place.
pub const LEVEL_REFERENCE: [Word; 3] = [
    Word {
        word: "cluster|c",
        value: "a priority, or `-`",
        meaning: "Held cluster-wide. `-` reports nothing.",
    },
    Word {
        word: "privileged|p",
        value: "a priority, or `-`",
        meaning: "Held in a privileged namespace.",
    },
    Word {
        word: "namespace|n",
        value: "a priority, or `-`",
        meaning: "Held in any other namespace.",
    },
];

const ENTRY: [&str; 14] = words(&RULE_REFERENCE);
const ATOM: [&str; 7] = words(&ATOM_REFERENCE);
const LEVELS: [&str; 3] = words(&LEVEL_REFERENCE);

/// The words of a rule, the long spelling of each.
pub fn rule_words() -> impl Iterator<Item = &'static str> {
    let all = ENTRY.into_iter().chain(ATOM).chain(LEVELS);
    all.map(|word| word.split('|').next().unwrap_or_default())
}

/// Resources of the core group (1.37), and those that impersonation has there. The group is closed, so
/// another word in it is a mistake and would match nothing, in silence.
const CORE: [&str; 19] = [
    "bindings",
    "componentstatuses",
    "configmaps",
    "endpoints",
    "events",
    "groups",
    "limitranges",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "serviceaccounts",
    "services",
    "users",
];

/// The verbs of every resource.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Rules {
    /// Those of the binary.
    pub fn shipped() -> Rules {
        static SHIPPED: OnceLock<Rules> = OnceLock::new();
        let read = || {
            Rules::read(SHIPPED_RULES, SHIPPED_TEXTS)
                .unwrap_or_else(|why| panic!("the shipped rules are checked by a test: {why}"))
        };
        SHIPPED.get_or_init(read).clone()
    }

    fn read(rules: &str, texts: &str) -> Result<Rules, String> {
        let mut out = Rules {
            specs: Vec::new(),
            privileged: BTreeSet::new(),
        };
        let mut faults = Faults::new(Arc::from("rules.yaml"));
        let tree = parse(rules, faults.file()).map_err(|f| f.to_string())?;
        let texts = parse(texts, &Arc::from("meta.yaml")).map_err(|f| f.to_string())?;
        let root = Field::root(&tree);
        if let Some(fields) = faults.map(&root, &["privilegedNamespaces", "rules"]) {
            if let Some(list) = fields.need("privilegedNamespaces", &mut faults) {
                let list = faults.texts(list);
                out.privileged = list.into_iter().map(|(_, n)| n.to_owned()).collect();
            }
            if let Some(list) = fields.need("rules", &mut faults) {
                for entry in faults.list(list).unwrap_or_default() {
                    if let Some((id, fields)) = head(&entry, &mut faults)
                        && let Some(mut spec) = whole(id, &fields, None, &mut faults)
                    {
                        spec.finding = match fields.get("finding") {
                            Some(field) => faults.truth(field).unwrap_or(true),
                            None => true,
                        };
                        out.describe(&mut spec, &texts, &entry, &mut faults);
                        out.specs.push(spec);
                    }
                }
            }
        }
        match faults.sorted().first() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(out),
        }
    }

    /// Gives a shipped rule its texts.
    fn describe(&self, spec: &mut RuleSpec, texts: &Node, entry: &Field<'_>, faults: &mut Faults) {
        let Value::Map(pairs) = &texts.value else {
            return faults.at(entry, "the texts are no mapping".into());
        };
        let Some((_, node)) = pairs.iter().find(|(key, _)| key.text == spec.id) else {
            return faults.at(entry, "has no title, attack and remediation".into());
        };
        let of = Field {
            path: spec.id.clone(),
            node,
        };
        if let Some(fields) = faults.map(&of, &["title", "attack", "fix", "refs", "note"]) {
            let mut text = |word: &str| {
                let field = fields.need(word, faults)?;
                faults.text(field).map(str::to_owned)
            };
            spec.title = text("title").unwrap_or_default();
            spec.attack = text("attack").unwrap_or_default();
            spec.remediation = text("fix").unwrap_or_default();
            if let Some(Value::Text(refs)) = fields.get("refs").map(|f| &f.node.value) {
                spec.references.clone_from(refs);
            }
        }
    }

    /// The rule of an id, in force or not.
    pub fn find(&self, id: &str) -> Option<&RuleSpec> {
        self.specs.iter().find(|s| s.id == id)
    }

    /// Takes the entries of a user's list in.
    pub fn edit(&mut self, list: &Field<'_>, edits: &mut Edits, faults: &mut Faults) {
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        for entry in faults.list(list).unwrap_or_default() {
            let Some((id, fields)) = head(&entry, faults) else {
                continue;
            };
            if let Some(line) = seen.insert(id, entry.node.line) {
                let at = fields.get("id").unwrap_or(&entry);
                faults.at(
                    at,
                    format!("rule {id:?} has an entry on line {line} already"),
                );
                continue;
            }
            self.entry(&entry, id, &fields, edits, faults);
        }
        if self.specs.len() > MOST {
            let many = self.specs.len();
            faults.at(list, format!("makes {many} rules; {MOST} are the most"));
        }
    }

    fn entry(
        &mut self,
        entry: &Field<'_>,
        id: &str,
        fields: &Fields<'_>,
        edits: &mut Edits,
        faults: &mut Faults,
    ) {
        let at = self.specs.iter().position(|s| s.id == id);
        let known = at.map(|i| &self.specs[i]);
        if known.is_some_and(|s| s.special == Some(Special::Hygiene)) {
            let message = format!(
                "rule {id:?} is no finding of subjects: it describes a metric family of its own, which no configuration changes"
            );
            return faults.at(entry, message);
        }
        if let Some(field) = fields.get("finding") {
            let message = "every rule of a configuration is a finding; leave it out";
            faults.at(field, message.into());
        }
        let disabled = match fields.get("disabled") {
            Some(field) => faults.truth(field).unwrap_or_default(),
            None => false,
        };
        let place = Place {
            file: faults.file().clone(),
            line: entry.node.line,
        };
        let special = special_of(id, fields, faults);
        let conditioned = fields.get("any").is_some() && special.is_none();
        let known_source = known.map(|s| s.origin.source.clone());
        let spec = match (conditioned, known) {
            (false, None) => {
                if special.is_some() || fields.get("special").is_some() {
                    // special_of has said what is wrong with it
                    return;
                }
                let mut message =
                    format!("rule {id:?} is not known, and has no condition of its own: give any");
                let ids = self.specs.iter().map(|s| s.id.as_str());
                if let Some(near) = nearest(id, ids) {
                    message.push_str(&format!("; or did you mean {near:?}?"));
                }
                return faults.at(entry, message);
            }
            (false, Some(base)) => changed(base.clone(), fields, faults),
            (true, base) => whole(id, fields, base, faults),
        };
        let Some(mut spec) = spec else { return };
        let only_on_or_off = fields
            .words()
            .all(|w| matches!(w, "id" | "disabled" | "special"));
        if !conditioned && only_on_or_off && !disabled {
            return faults.at(
                entry,
                "changes nothing; give a priority, or disabled: true".into(),
            );
        }
        if conditioned {
            spec.origin = RuleOrigin {
                source: Source::Config(place),
                changed: None,
            };
        } else if !only_on_or_off {
            spec.origin.changed = Some(place);
        }
        spec.disabled = disabled;
        match known_source {
            _ if disabled => edits.disabled += 1,
            None => edits.added += 1,
            Some(Source::Shipped) if conditioned => edits.replaced += 1,
            Some(_) => edits.changed += 1,
        }
        self.put(at, spec);
    }

    /// Adds a rule, or puts it in the place of another.
    pub fn put(&mut self, at: Option<usize>, spec: RuleSpec) {
        match at {
            Some(at) => self.specs[at] = spec,
            None => self.specs.push(spec),
        }
    }
}

/// The id and the fields of an entry.
fn head<'n>(entry: &Field<'n>, faults: &mut Faults) -> Option<(&'n str, Fields<'n>)> {
    let fields = faults.map(entry, &ENTRY)?;
    let field = fields.need("id", faults)?;
    let id = faults.text(field)?;
    if !is_id(id) {
        faults.at(
            field,
            format!("{id:?} is no id: write letters, digits, - . _ and :"),
        );
        return None;
    }
    Some((id, fields))
}

/// Ids stand in labels, in `RULE@NAMESPACE` and in tables.
pub fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 100
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c))
}

fn special_of(id: &str, fields: &Fields<'_>, faults: &mut Faults) -> Option<Special> {
    let field = fields.get("special")?;
    if !faults.truth(field)? {
        return None;
    }
    let special = Special::of(id);
    if special.is_none() {
        let mut message = format!("rule {id:?} is marked special, but no code knows it");
        match nearest(id, Special::ids()) {
            Some(near) => message.push_str(&format!("; did you mean {near:?}?")),
            None => message.push_str("; give a condition, any, instead"),
        }
        faults.at(field, message);
    }
    special
}

/// A rule with its condition. What it replaces lends it the texts that it lacks.
fn whole(
    id: &str,
    fields: &Fields<'_>,
    replaced: Option<&RuleSpec>,
    faults: &mut Faults,
) -> Option<RuleSpec> {
    let before = faults.len();
    let special = special_of(id, fields, faults);
    let any = match fields.get("any") {
        Some(field) => condition(field, faults).unwrap_or_default(),
        None if special.is_some() || fields.get("special").is_some() => Vec::new(),
        None => {
            fields.need("any", faults);
            Vec::new()
        }
    };
    let given = fields
        .need("priority", faults)
        .cloned()
        .and_then(|f| levels(&f, faults));
    let named = fields.get("named").cloned();
    let named = named
        .and_then(|f| levels(&f, faults))
        .map(Given::everywhere);
    let lent = |text: fn(&RuleSpec) -> &String, otherwise: String| match replaced.map(text) {
        Some(text) if !text.is_empty() => text.clone(),
        _ => otherwise,
    };
    let mut spec = RuleSpec {
        id: id.to_owned(),
        levels: given.map(Given::everywhere).unwrap_or_default(),
        named,
        ceiling: None,
        any,
        special,
        finding: true,
        named_only: false,
        only_namespaces: Vec::new(),
        before: None,
        title: lent(|r| &r.title, format!("Rule {id}")),
        attack: lent(
            |r| &r.attack,
            "Holds what this rule of the configuration asks for.".into(),
        ),
        remediation: lent(
            |r| &r.remediation,
            "Take the permission out of the role, or the subject out of the binding.".into(),
        ),
        references: lent(|r| &r.references, String::new()),
        origin: RuleOrigin::default(),
        disabled: false,
        shipped: replaced.and_then(|r| match (&r.origin.source, &r.shipped) {
            (Source::Shipped, _) => Some(r.any.clone()),
            (_, earlier) => earlier.clone(),
        }),
    };
    details(&mut spec, fields, faults);
    if spec.named_only
        && spec.named.is_none()
        && let Some(field) = fields.get("namedOnly")
    {
        faults.at(
            field,
            "reports nothing without named, the priority of a grant limited to names".into(),
        );
    }
    let silent = |l: &Levels| l.all().iter().all(Option::is_none);
    if silent(&spec.levels)
        && spec.named.as_ref().is_none_or(silent)
        && given.is_some()
        && let Some(field) = fields.get("priority")
    {
        faults.at(
            field,
            "is - everywhere, so nothing is ever reported; write disabled: true if that is meant"
                .into(),
        );
    }
    (faults.len() == before).then_some(spec)
}

/// A rule with its condition left as it is.
fn changed(mut spec: RuleSpec, fields: &Fields<'_>, faults: &mut Faults) -> Option<RuleSpec> {
    let before = faults.len();
    if let Some(field) = fields.get("priority").cloned()
        && let Some(given) = levels(&field, faults)
    {
        let of_names = spec.named_only;
        let old = if of_names {
            spec.named.unwrap_or_default()
        } else {
            spec.levels
        };
        let new = given.in_places_of(&old);
        if of_names {
            spec.named = Some(new);
        } else {
            spec.levels = new;
            // a grant limited to names is never worth more than one that is not
            spec.named = spec.named.map(|named| named.capped(&new));
        }
        if spec.special.is_some() {
            spec.ceiling = Some(new);
        }
    }
    if let Some(field) = fields.get("named").cloned()
        && let Some(given) = levels(&field, faults)
    {
        spec.named = Some(given.in_places_of(&spec.levels));
    }
    details(&mut spec, fields, faults);
    (faults.len() == before).then_some(spec)
}

/// What whole rules and changes have in common.
fn details(spec: &mut RuleSpec, fields: &Fields<'_>, faults: &mut Faults) {
    for (word, text) in [
        ("title", &mut spec.title),
        ("attack", &mut spec.attack),
        ("remediation", &mut spec.remediation),
        ("references", &mut spec.references),
    ] {
        if let Some(field) = fields.get(word)
            && let Some(given) = faults.text(field)
        {
            given.clone_into(text);
        }
    }
    if let Some(field) = fields.get("namedOnly") {
        spec.named_only = faults.truth(field).unwrap_or_default();
    }
    if let Some(field) = fields.get("onlyNamespaces") {
        spec.only_namespaces = namespaces(field, faults);
        if matches!(&field.node.value, Value::List(list) if list.is_empty()) {
            faults.at(field, "is an empty list".into());
        }
    }
    if let Some(field) = fields.get("before")
        && let Some(text) = faults.text(field)
    {
        spec.before = ServerVersion::parse(text);
        if spec.before.is_none() {
            faults.at(field, format!("{text:?} is no version such as '1.35'"));
        }
    }
}

/// Names of namespaces, exact ones.
pub fn namespaces(field: &Field<'_>, faults: &mut Faults) -> Vec<String> {
    let mut out = Vec::new();
    for (entry, name) in faults.texts(field) {
        match namespace_fault(name) {
            Some(why) => faults.at(&entry, why),
            None => out.push(name.to_owned()),
        }
    }
    out
}

/// Why a text is no name of a namespace.
pub fn namespace_fault(name: &str) -> Option<String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.contains(['*', '?']) {
        return Some(format!("{name:?} is a pattern; names are exact"));
    }
    let good = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    (!good).then(|| format!("{name:?} is no name of a namespace"))
}

/// Priorities as given: one word, or a word a place.
#[derive(Clone, Copy, Debug)]
enum Given {
    One(Priority),
    Each(Levels),
}

impl Given {
    fn everywhere(self) -> Levels {
        match self {
            Given::One(p) => Levels::everywhere(p),
            Given::Each(levels) => levels,
        }
    }

    /// One word keeps silent what is silent now: the rule cannot happen there, or says nothing on
    /// purpose.
    fn in_places_of(self, old: &Levels) -> Levels {
        match self {
            Given::One(p) => old.map(|_| p),
            Given::Each(levels) => levels,
        }
    }
}

/// The word of a priority, `none` left out.
pub fn priority(field: &Field<'_>, faults: &mut Faults) -> Option<Priority> {
    let text = faults.text(field)?;
    let found = Priority::RISKY.into_iter().find(|p| p.as_str() == text);
    if found.is_none() {
        let words = Priority::RISKY.iter().rev().map(|p| p.as_str());
        faults.at(field, unknown("priority", text, words));
    }
    found
}

fn levels(field: &Field<'_>, faults: &mut Faults) -> Option<Given> {
    if matches!(field.node.value, Value::Text(_)) {
        return priority(field, faults).map(Given::One);
    }
    if !matches!(field.node.value, Value::Map(_)) {
        faults.at(
            field,
            "wants critical, high, medium or low, or a mapping with cluster, privileged, namespace"
                .into(),
        );
        return None;
    }
    let fields = faults.map(field, &LEVELS)?;
    let mut whole = true;
    let mut one = |word: &str| match fields.need(word, faults) {
        Some(Field { node, .. }) if node.value == Value::Text("-".into()) => None,
        Some(field) => {
            let found = priority(field, faults);
            whole &= found.is_some();
            found
        }
        None => {
            whole = false;
            None
        }
    };
    let out = Levels {
        cluster: one("cluster"),
        privileged: one("privileged"),
        namespace: one("namespace"),
    };
    whole.then_some(Given::Each(out))
}

fn condition(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<Vec<AtomSpec>>> {
    let alternatives = faults.list(field)?;
    if alternatives.is_empty() {
        faults.at(field, "is an empty list: the rule would never hold".into());
        return None;
    }
    let mut whole = true;
    let mut out = Vec::with_capacity(alternatives.len());
    for alternative in alternatives {
        let Value::List(list) = &alternative.node.value else {
            faults.at(
                &alternative,
                "wants a list of atoms that must all hold; write [[{…}]] for a single one".into(),
            );
            whole = false;
            continue;
        };
        if list.is_empty() {
            faults.at(
                &alternative,
                "is an empty list: it would hold for everybody".into(),
            );
            whole = false;
        }
        let mut all = Vec::with_capacity(list.len());
        for entry in entries(&alternative, list) {
            match atom(&entry, faults) {
                Some(atom) => all.push(atom),
                None => whole = false,
            }
        }
        out.push(all);
    }
    whole.then_some(out)
}

fn atom(field: &Field<'_>, faults: &mut Faults) -> Option<AtomSpec> {
    let before = faults.len();
    let fields = faults.map(field, &ATOM)?;
    let mut texts = |word: &str, core: bool| -> Vec<(Field<'_>, String)> {
        let Some(list) = fields.need(word, faults).cloned() else {
            return Vec::new();
        };
        if core {
            return groups(&list, faults);
        }
        let texts = faults.some_texts(&list);
        texts.into_iter().map(|(f, t)| (f, t.to_owned())).collect()
    };
    let verbs = texts("verbs", false);
    let groups = texts("apiGroups", true);
    let resources = texts("resources", false);
    for (at, verb) in &verbs {
        let lower = verb.to_lowercase();
        if *verb != lower && VERBS.contains(&lower.as_str()) {
            faults.at(
                at,
                format!("{verb:?}: verbs are lower case; write {lower:?}"),
            );
        }
    }
    let core_alone = groups.len() == 1 && groups[0].1.is_empty();
    for (at, resource) in &resources {
        resource_fault(at, resource, core_alone, faults);
    }
    let names = names(field, &fields, faults);
    let same_object = fields.get("as").cloned();
    let same_object = same_object.and_then(|f| faults.text(&f).map(str::to_owned));
    let at_cluster = match fields.get("at") {
        None => false,
        Some(at) => match faults.text(at) {
            Some("cluster") => true,
            Some(other) => {
                faults.at(at, unknown("place", other, ["cluster"].into_iter()));
                false
            }
            None => false,
        },
    };
    let plain = |list: Vec<(Field<'_>, String)>| list.into_iter().map(|(_, t)| t).collect();
    let out = AtomSpec {
        verbs: plain(verbs),
        groups: plain(groups),
        resources: plain(resources),
        names,
        same_object,
        at_cluster,
    };
    (faults.len() == before).then_some(out)
}

/// API groups; the core group is the empty text, so blank is allowed here.
pub fn groups<'n>(field: &Field<'n>, faults: &mut Faults) -> Vec<(Field<'n>, String)> {
    let list = faults.list(field).unwrap_or_default();
    if list.is_empty() && matches!(field.node.value, Value::List(_)) {
        faults.at(field, "is an empty list; the core group is ''".into());
    }
    let mut out = Vec::new();
    for entry in list {
        let text = match &entry.node.value {
            Value::Text(text) => text.clone(),
            _ => {
                faults.text(&entry);
                continue;
            }
        };
        if text == "core" || text == "v1" {
            faults.at(
                &entry,
                format!("{text:?} is no API group; the core group is ''"),
            );
        } else if let Some((group, _)) = text.split_once('/') {
            faults.at(&entry, format!("{text:?} has a version; write {group:?}"));
        } else {
            out.push((entry, text));
        }
    }
    out
}

/// Why no request names a resource that is written so, if none does.
pub fn no_request_has(resource: &str) -> Option<String> {
    let (base, sub) = resource.split_once('/')?;
    if sub == "*" {
        return Some(format!(
            "{resource:?} matches no request: RBAC has no such pattern; name the subresources"
        ));
    }
    (base.is_empty() || sub.is_empty()).then(|| {
        format!(
            "{resource:?} matches no request: a resource and a subresource stand around the slash"
        )
    })
}

/// What no request has cannot be granted, and a rule about it would be silent for ever.
fn resource_fault(at: &Field<'_>, resource: &str, core_alone: bool, faults: &mut Faults) {
    let base = resource.split('/').next().unwrap_or_default();
    if let Some(message) = no_request_has(resource) {
        return faults.at(at, message);
    }
    if core_alone && base != "*" && !CORE.contains(&base) && !base.starts_with("zz") {
        let mut message = format!("the core group has no {base:?}");
        match nearest(base, CORE.into_iter()) {
            Some(near) => message.push_str(&format!("; did you mean {near:?}?")),
            None => message.push_str("; name its API group"),
        }
        faults.at(at, message);
    }
}

fn names(atom: &Field<'_>, fields: &Fields<'_>, faults: &mut Faults) -> NameMode {
    let (list, pattern) = (fields.get("names"), fields.get("match"));
    match (list, pattern) {
        (Some(_), Some(_)) => {
            faults.at(atom, "has names and match; give one of them".into());
            NameMode::Any
        }
        (None, None) => NameMode::Any,
        (None, Some(field)) => {
            let Some(text) = faults.text(field) else {
                return NameMode::Any;
            };
            match regex_lite::Regex::new(&format!("^(?:{text})$")) {
                Ok(pattern) => NameMode::Match(pattern),
                Err(error) => {
                    let why = error.to_string().replace('\n', " ");
                    faults.at(field, format!("{text:?} is no regular expression: {why}"));
                    NameMode::Any
                }
            }
        }
        (Some(field), None) => match &field.node.value {
            Value::List(_) => {
                let list = faults.some_texts(field);
                NameMode::List(list.into_iter().map(|(_, n)| n.to_owned()).collect())
            }
            _ => match faults.text(field) {
                Some("any") | None => NameMode::Any,
                Some("named") => NameMode::Named,
                Some(other) => {
                    let message = format!("{other:?} is neither any, named nor a list of names");
                    faults.at(field, message);
                    NameMode::Any
                }
            },
        },
    }
}
