//! KubiScan's template file (`risky_roles.yaml`), as it is.
//!
//! Each entry looks like a Role and describes a dangerous one. KubiScan compares its words with those
//! of a role; here they become questions of the evaluator: every verb on every resource of every rule,
//! all at one scope, from whatever roles (wildcards, `*/sub` and groups of the subject included).
//!
//! - `apiGroups`: KubiScan never reads them, and its own file has `*` nearly everywhere. `*` or nothing
//!   here means the group that the resource is in; it must be named where this tool knows no such
//!   resource, and one that lacks the resource is a fault.
//! - `*` as a verb or resource asks for the wildcard itself, as KubiScan does.
//! - `resourceNames`: KubiScan drops them. `*` means any name, others are exact.
//! - Entries of one name are alternatives of one rule.
//!
//! What YAML would lose without a word is refused: KubiScan's own file loses six entries whose
//! indentation makes them overwrite the one before.

use super::Text;
use crate::located::{Fault, Faults, Field, Node, Value, parse, unknown};
use crate::risk::{
    AtomSpec, Edits, Levels, NameMode, Place, Priority, RuleOrigin, RuleSpec, Rules, Source,
    groups, is_id, no_request_has,
};
use std::collections::BTreeMap;

/// Takes the rules of a template file in. The faults are all there are, by line.
pub(super) fn read(text: &Text, rules: &mut Rules, edits: &mut Edits) -> Vec<Fault> {
    let tree = match parse(&text.text, &text.name) {
        Ok(tree) => tree,
        Err(fault) => return vec![fault],
    };
    let mut faults = Faults::new(text.name.clone());
    let root = Field::root(&tree);
    let fields = faults.map(&root, &["apiVersion", "kind", "items"]);
    let Some(items) = fields.and_then(|f| f.need("items", &mut faults).cloned()) else {
        return faults.sorted();
    };
    let known = Known::of(rules);
    let mut read: Vec<Template> = Vec::new();
    for item in faults.list(&items).unwrap_or_default() {
        let Some(template) = template(&item, &known, &mut faults) else {
            continue;
        };
        match read.iter_mut().find(|t| t.name == template.name) {
            Some(same) if same.priority == template.priority => same.any.extend(template.any),
            Some(other) => {
                let message = format!(
                    "{:?} is {} here and {} on line {}; give the two different names",
                    template.name,
                    template.priority.as_str(),
                    other.priority.as_str(),
                    other.line
                );
                faults.at(&item, message);
            }
            None => read.push(template),
        }
    }
    if !faults.is_empty() {
        return faults.sorted();
    }
    for template in read {
        let at = rules.specs.iter().position(|s| s.id == template.name);
        let replaced = at.map(|i| &rules.specs[i]);
        match replaced.map(|r| &r.origin.source) {
            Some(Source::Template(before)) => {
                let message = format!("template {:?} is in {before} too", template.name);
                faults.on(template.line, "", message);
                continue;
            }
            Some(_) => edits.replaced += 1,
            None => edits.added += 1,
        }
        let spec = template.rule(replaced, &text.name);
        rules.put(at, spec);
    }
    faults.sorted()
}

/// A mapping with `items` is a template, and no configuration.
pub(super) fn is_template(tree: &Node) -> bool {
    matches!(&tree.value, Value::Map(pairs) if pairs.iter().any(|(key, _)| key.text == "items"))
}

struct Template {
    name: String,
    priority: Priority,
    line: u32,
    any: Vec<Vec<AtomSpec>>,
}

impl Template {
    fn rule(self, replaced: Option<&RuleSpec>, file: &std::sync::Arc<str>) -> RuleSpec {
        RuleSpec {
            title: format!("KubiScan template {}", self.name),
            attack: "Holds every permission that the template lists.".into(),
            remediation:
                "Take one of the permissions out of the role, or the subject out of the binding."
                    .into(),
            references: "KubiScan".into(),
            levels: Levels::everywhere(self.priority),
            named: None,
            ceiling: None,
            any: self.any,
            special: None,
            finding: true,
            named_only: false,
            only_namespaces: Vec::new(),
            before: None,
            origin: RuleOrigin {
                source: Source::Template(Place {
                    file: file.clone(),
                    line: self.line,
                }),
                changed: None,
            },
            disabled: false,
            shipped: replaced.map(|r| r.any.clone()),
            id: self.name,
        }
    }
}

/// API groups by resource, as far as the shipped rules name them.
struct Known(BTreeMap<String, Vec<String>>);

impl Known {
    fn of(rules: &Rules) -> Known {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let shipped = |s: &&RuleSpec| s.origin.source == Source::Shipped;
        let specs = rules.specs.iter().filter(shipped);
        for atom in specs.flat_map(|s| s.any.iter().flatten()) {
            for resource in &atom.resources {
                let base = resource.split('/').next().unwrap_or_default();
                let groups = out.entry(base.to_owned()).or_default();
                groups.extend(atom.groups.iter().cloned());
                groups.sort();
                groups.dedup();
            }
        }
        // of rules whose condition is code
        for (resource, group) in [("users", ""), ("groups", ""), ("serviceaccounts", "")] {
            out.entry(resource.into()).or_default().push(group.into());
        }
        out.retain(|resource, _| !resource.starts_with("zz"));
        Known(out)
    }

    fn groups(&self, resource: &str) -> Option<&[String]> {
        let base = resource.split('/').next().unwrap_or_default();
        self.0.get(base).map(Vec::as_slice)
    }
}

/// Elements of `rules` that are headings of the next entry, put there by their indentation.
fn strays(item: &Node) -> Vec<u32> {
    let Value::Map(pairs) = &item.value else {
        return Vec::new();
    };
    let of_rules = pairs.iter().filter(|(key, _)| key.text == "rules");
    of_rules
        .filter_map(|(_, node)| match &node.value {
            Value::List(list) => Some(list),
            _ => None,
        })
        .flatten()
        .filter(|rule| match &rule.value {
            Value::Map(fields) => fields.iter().any(|(key, _)| key.text == "kind"),
            _ => false,
        })
        .map(|rule| rule.line)
        .collect()
}

fn template(item: &Field<'_>, known: &Known, faults: &mut Faults) -> Option<Template> {
    let strays = strays(item.node);
    if !strays.is_empty() {
        // the keys that follow are given twice because of this; to say so as well would hide it
        for line in strays {
            faults.on(
                line,
                &item.path,
                "an entry begins here whose indentation puts it into the one before, which would lose an entry; indent it as the first one".into(),
            );
        }
        return None;
    }
    let before = faults.len();
    let fields = faults.map(item, &["apiVersion", "kind", "metadata", "rules"])?;
    if let Some(kind) = fields.get("kind")
        && let Some(word) = faults.text(kind)
        && !["Role", "ClusterRole"].contains(&word)
    {
        faults.at(
            kind,
            unknown("kind", word, ["Role", "ClusterRole"].into_iter()),
        );
    }
    let metadata = fields.need("metadata", faults).cloned();
    let metadata = metadata.and_then(|f| faults.map(&f, &["name", "namespace", "priority"]));
    let (mut name, mut priority) = (None, None);
    if let Some(metadata) = metadata {
        if let Some(field) = metadata.need("name", faults)
            && let Some(text) = faults.text(field)
        {
            if is_id(text) {
                name = Some(text.to_owned());
            } else {
                faults.at(
                    field,
                    format!("{text:?} is no id: write letters, digits, - . _ and :"),
                );
            }
        }
        if let Some(field) = metadata.need("priority", faults)
            && let Some(text) = faults.text(field)
        {
            let lower = text.to_lowercase();
            priority = Priority::RISKY.into_iter().find(|p| p.as_str() == lower);
            if priority.is_none() {
                let words = ["CRITICAL", "HIGH", "MEDIUM", "LOW"];
                faults.at(field, unknown("priority", text, words.into_iter()));
            }
        }
    }
    let mut all = Vec::new();
    if let Some(field) = fields.need("rules", faults) {
        let list = faults.list(field).unwrap_or_default();
        if list.is_empty() && matches!(field.node.value, Value::List(_)) {
            faults.at(
                field,
                "is an empty list: it would hold for everybody".into(),
            );
        }
        for rule in list {
            all.extend(atoms(&rule, known, faults));
        }
    }
    (faults.len() == before).then_some(Template {
        name: name?,
        priority: priority?,
        line: item.node.line,
        any: vec![all],
    })
}

/// One atom for each verb on each resource: a template asks for all of them.
fn atoms(rule: &Field<'_>, known: &Known, faults: &mut Faults) -> Vec<AtomSpec> {
    let keys = ["apiGroups", "resources", "verbs", "resourceNames"];
    let Some(fields) = faults.map(rule, &keys) else {
        return Vec::new();
    };
    let given = fields.get("apiGroups").map(|field| groups(field, faults));
    let mut texts = |word: &str| match fields.need(word, faults).cloned() {
        Some(field) => faults.some_texts(&field),
        None => Vec::new(),
    };
    let (resources, verbs) = (texts("resources"), texts("verbs"));
    let names = match fields.get("resourceNames").cloned() {
        None => NameMode::Any,
        Some(field) => {
            let names = faults.some_texts(&field);
            if names.iter().any(|(_, name)| *name == "*") {
                NameMode::Any
            } else {
                NameMode::List(names.into_iter().map(|(_, n)| n.to_owned()).collect())
            }
        }
    };
    let mut out = Vec::new();
    for (field, resource) in &resources {
        let Some(groups) = groups_of(field, resource, given.as_deref(), known, faults) else {
            continue;
        };
        for (_, verb) in &verbs {
            out.push(AtomSpec {
                verbs: vec![(*verb).to_owned()],
                groups: groups.clone(),
                resources: vec![(*resource).to_owned()],
                names: names.clone(),
                same_object: None,
                at_cluster: false,
            });
        }
    }
    out
}

fn groups_of(
    field: &Field<'_>,
    resource: &str,
    given: Option<&[(Field<'_>, String)]>,
    known: &Known,
    faults: &mut Faults,
) -> Option<Vec<String>> {
    let any = given.is_none_or(|g| g.iter().any(|(_, group)| group == "*"));
    if resource == "*" {
        return Some(match given {
            Some(given) if !any => given.iter().map(|(_, g)| g.clone()).collect(),
            _ => vec!["*".into()],
        });
    }
    if let Some(message) = no_request_has(resource) {
        faults.at(field, message);
        return None;
    }
    let in_groups = known.groups(resource);
    match (any, in_groups) {
        (true, Some(groups)) => Some(groups.to_vec()),
        (true, None) => {
            let words = known.0.keys().map(String::as_str);
            let message = unknown("resource", resource, words);
            faults.at(
                field,
                format!("{message}; if it is right, name its group in apiGroups"),
            );
            None
        }
        (false, in_groups) => {
            let given: Vec<String> = given?.iter().map(|(_, g)| g.clone()).collect();
            if let Some(groups) = in_groups
                && !groups.iter().any(|g| given.contains(g))
            {
                let groups: Vec<String> = groups.iter().map(|g| format!("{g:?}")).collect();
                let message = format!(
                    "{resource:?} is in API group {}, which apiGroups lacks",
                    groups.join(" and ")
                );
                faults.at(field, message);
                return None;
            }
            Some(given)
        }
    }
}
