//! The plain rules of the shipped catalogue against roles made from their own atoms: the smallest role
//! that grants a rule, and every role that is one piece short of it, in each place and with names.
//!
//! What is expected is worked out here from the YAML and from requests, one verb, resource and name at
//! a time, by nothing that the judgement uses.

use rbac_exporter::ledger::{Change, Ledger, Settings, World};
use rbac_exporter::object::{Binding, Meta, Object, PolicyRule, Resource, Role, RoleRef, Subject};
use rbac_exporter::rbac::ServerVersion;
use rbac_exporter::risk::Catalogue;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    privileged_namespaces: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    sev: BTreeMap<String, String>,
    sevn: Option<BTreeMap<String, String>>,
    #[serde(default)]
    any: Vec<Vec<Atom>>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    named_only: bool,
    #[serde(default)]
    only_namespaces: Vec<String>,
    before: Option<String>,
}

#[derive(Deserialize)]
struct Atom {
    v: Vec<String>,
    g: Vec<String>,
    r: Vec<String>,
    n: Option<Names>,
    #[serde(rename = "match")]
    pattern: Option<String>,
    #[serde(rename = "as")]
    same: Option<String>,
    at: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    Word(String),
    List(Vec<String>),
}

/// Where a role is bound: `*`, kube-system, app.
const PLACES: [(&str, &str); 3] = [("*", "c"), ("kube-system", "p"), ("app", "n")];

/// A name that no generated role gives.
const FRESH: &str = "some-other-name";

fn catalogue() -> Rules {
    serde_yaml::from_str(include_str!("../../src/risk/data/rules.yaml")).unwrap()
}

// === what is expected

/// Resources whose requests have no namespace (kubectl api-resources --namespaced=false).
fn cluster_scoped(group: &str, resource: &str) -> bool {
    match group {
        "" => [
            "nodes",
            "persistentvolumes",
            "namespaces",
            "users",
            "groups",
        ]
        .contains(&resource),
        "rbac.authorization.k8s.io" => ["clusterroles", "clusterrolebindings"].contains(&resource),
        "certificates.k8s.io" => resource != "podcertificaterequests",
        "networking.k8s.io" => resource == "ingressclasses",
        "gateway.networking.k8s.io" => resource == "gatewayclasses",
        "storage.k8s.io"
        | "snapshot.storage.k8s.io"
        | "admissionregistration.k8s.io"
        | "apiextensions.k8s.io"
        | "apiregistration.k8s.io"
        | "authentication.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "scheduling.k8s.io"
        | "node.k8s.io"
        | "resource.k8s.io" => true,
        _ => false,
    }
}

/// One request against the rules, as the API server matches them.
fn allowed(rules: &[PolicyRule], verb: &str, group: &str, resource: &str, name: &str) -> bool {
    let has = |list: &[String], what: &str| list.iter().any(|x| x == "*" || x == what);
    rules.iter().any(|r| {
        let by_sub = resource
            .split_once('/')
            .is_some_and(|(_, sub)| r.resources.contains(&format!("*/{sub}")));
        has(&r.verbs, verb)
            && has(&r.api_groups, group)
            && (has(&r.resources, resource) || by_sub)
            && (r.resource_names.is_empty() || r.resource_names.iter().any(|n| n == name))
    })
}

/// Requests of a permission: does it hold for whatever name, or for this one?
struct Ask<'a> {
    rules: &'a [PolicyRule],
    place: &'a str,
}

impl Ask<'_> {
    fn reachable(&self, group: &str, resource: &str) -> bool {
        let plural = resource.split('/').next().unwrap();
        self.place == "*" || !cluster_scoped(group, plural)
    }

    fn unlimited(&self, verb: &str, group: &str, resource: &str) -> bool {
        let nameless = match verb {
            "create" => !resource.contains('/'),
            "list" | "watch" | "deletecollection" => true,
            _ => false,
        };
        let name = if nameless { "" } else { FRESH };
        self.reachable(group, resource) && allowed(self.rules, verb, group, resource, name)
    }

    fn named(&self, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let literal = |verb: &str| allowed(self.rules, verb, group, resource, name);
        let holds = match verb {
            "deletecollection" => false,
            "create" if !resource.contains('/') => {
                let put = group == "rbac.authorization.k8s.io"
                    || ["services", "endpoints", "leases", "limitranges", "events"]
                        .contains(&resource)
                    || resource == "runtimeclasses";
                literal("create") && (literal("patch") || (put && literal("update")))
            }
            _ => literal(verb),
        };
        self.reachable(group, resource) && holds
    }
}

impl Atom {
    fn requests(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.v.iter().flat_map(move |v| {
            self.g.iter().flat_map(move |g| {
                self.r
                    .iter()
                    .map(move |r| (v.as_str(), g.as_str(), r.as_str()))
            })
        })
    }

    fn wants(&self, name: &str) -> bool {
        if let Some(pattern) = &self.pattern {
            assert_eq!(
                pattern, "bootstrap-token-[a-z0-9]{6}",
                "the one pattern there is"
            );
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            return name
                .strip_prefix("bootstrap-token-")
                .is_some_and(|rest| rest.len() == 6 && rest.chars().all(known));
        }
        match &self.n {
            Some(Names::List(list)) => list.iter().any(|n| n == name),
            _ => true,
        }
    }

    fn any_name_is_full(&self) -> bool {
        match &self.n {
            _ if self.pattern.is_some() => true,
            Some(Names::List(_)) => true,
            Some(Names::Word(word)) => word == "named",
            None => false,
        }
    }

    fn unlimited(&self, ask: &Ask<'_>) -> bool {
        self.requests().any(|(v, g, r)| ask.unlimited(v, g, r))
    }

    fn holds_for(&self, ask: &Ask<'_>, name: &str) -> bool {
        self.unlimited(ask)
            || (self.wants(name) && self.requests().any(|(v, g, r)| ask.named(v, g, r, name)))
    }
}

/// The level of a rule for these rules in this place.
fn expected(
    rule: &Rule,
    rules: &[PolicyRule],
    place: (&str, &str),
    version: &str,
) -> Option<String> {
    if rule.before.as_deref().is_some_and(|b| version >= b) {
        return None;
    }
    let named_here = |n: &String| n == place.0;
    if place.0 != "*"
        && !rule.only_namespaces.is_empty()
        && !rule.only_namespaces.iter().any(named_here)
    {
        return None;
    }
    let ask = Ask {
        rules,
        place: place.0,
    };
    let mut names: BTreeSet<&str> = rules
        .iter()
        .flat_map(|r| r.resource_names.iter().map(String::as_str))
        .filter(|n| !n.is_empty())
        .collect();
    names.insert(FRESH);
    let words: BTreeSet<&str> = rule
        .any
        .iter()
        .flatten()
        .filter_map(|a| a.same.as_deref())
        .collect();
    assert!(
        words.len() <= 1,
        "{}: one word a rule is all that is generated",
        rule.id
    );
    let mut best: Option<String> = None;
    for all in &rule.any {
        // one object for the atoms that share a word, whichever for each of the others
        let object = names.iter().any(|shared| {
            all.iter().all(|atom| match &atom.same {
                Some(_) => atom.holds_for(&ask, shared),
                None => names.iter().any(|n| atom.holds_for(&ask, n)),
            })
        });
        if !object {
            continue;
        }
        let full = all
            .iter()
            .all(|a| a.unlimited(&ask) || a.any_name_is_full());
        if rule.named_only && all.iter().any(|a| a.unlimited(&ask)) {
            continue;
        }
        let levels = match full && !rule.named_only {
            true => Some(&rule.sev),
            false => rule.sevn.as_ref(),
        };
        let level = levels.map(|l| l[place.1].clone()).filter(|l| l != "-");
        best = best.max_by_rank(level);
    }
    best
}

trait MaxByRank {
    fn max_by_rank(self, other: Option<String>) -> Option<String>;
}

impl MaxByRank for Option<String> {
    fn max_by_rank(self, other: Option<String>) -> Option<String> {
        let rank = |l: &Option<String>| {
            let order = ["low", "medium", "high", "critical"];
            l.as_ref()
                .map(|l| order.iter().position(|o| o == l).unwrap())
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}

// === roles

fn grant(v: &str, g: &str, r: &str, names: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: vec![v.into()],
        api_groups: vec![g.into()],
        resources: vec![r.into()],
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        non_resource_urls: vec![],
    }
}

struct Made {
    what: String,
    rules: Vec<PolicyRule>,
    /// It grants this rule in full: the levels stand in the YAML.
    full: Option<usize>,
}

fn make(rules: &[Rule]) -> Vec<Made> {
    let mut out = Vec::new();
    for (number, rule) in rules.iter().enumerate().filter(|(_, r)| !r.special) {
        for (a, all) in rule.any.iter().enumerate() {
            let first = |atom: &Atom| {
                let (v, g, r) = atom.requests().next().unwrap();
                grant(v, g, r, &[])
            };
            let base: Vec<PolicyRule> = all.iter().map(first).collect();
            let mut add = |what: String, rules: Vec<PolicyRule>, full: bool| {
                out.push(Made {
                    what: format!("{}[{a}] {what}", rule.id),
                    rules,
                    full: full.then_some(number),
                });
            };
            for (i, atom) in all.iter().enumerate() {
                let with = |one: PolicyRule| {
                    let mut rules = base.clone();
                    rules[i] = one;
                    rules
                };
                let mut short = base.clone();
                short.remove(i);
                add(format!("less atom {i}"), short, false);
                for (v, g, r) in atom.requests() {
                    add(format!("by {v} {g} {r}"), with(grant(v, g, r, &[])), true);
                    let plural = r.split('/').next().unwrap();
                    let off = [
                        grant(&v.to_uppercase(), g, r, &[]),
                        grant(&format!("{v}s"), g, r, &[]),
                        grant(&format!("{v}:*"), g, r, &[]),
                        grant(v, &format!("{g}x"), r, &[]),
                        grant(v, if g.is_empty() { "apps" } else { "" }, r, &[]),
                        grant(v, "*.k8s.io", r, &[]),
                        grant(v, g, &format!("{r}x"), &[]),
                        grant(v, g, &format!("{r}/status"), &[]),
                        grant(v, g, &format!("{plural}/*"), &[]),
                        grant(v, g, "*/*", &[]),
                        grant(v, g, r.strip_suffix('s').unwrap_or("x"), &[]),
                    ];
                    for one in off {
                        add(format!("off by one: {one:?}"), with(one), false);
                    }
                    if r.contains('/') {
                        add(
                            format!("{v} {plural}"),
                            with(grant(v, g, plural, &[])),
                            false,
                        );
                    }
                    let mut names: Vec<&str> = vec!["web", "*", "", "bootstrap-token-abc123"];
                    if let Some(Names::List(list)) = &atom.n {
                        names.extend([list[0].as_str(), list[list.len() - 1].as_str()]);
                    }
                    for name in names {
                        add(
                            format!("{v} {r} named {name:?}"),
                            with(grant(v, g, r, &[name])),
                            false,
                        );
                        // names on every atom that speaks of the object: the same, and another
                        // for this one; what is created under a name is patched under it
                        let shared = all.iter().any(|a| a.same.is_some());
                        let last = match &atom.n {
                            Some(Names::List(list)) => list[list.len() - 1].as_str(),
                            _ => "db",
                        };
                        let mut same = base.clone();
                        same[i] = grant(v, g, r, &[]);
                        for (one, atom) in same.iter_mut().zip(all) {
                            if !shared || atom.same.is_some() {
                                one.resource_names = vec![name.to_owned()];
                            }
                        }
                        let mut other = same.clone();
                        other[i].resource_names = vec![last.to_owned()];
                        let created: Vec<PolicyRule> = other
                            .iter()
                            .filter(|r| shared && r.verbs[0] == "create")
                            .map(|r| PolicyRule {
                                verbs: vec!["patch".to_owned()],
                                ..r.clone()
                            })
                            .collect();
                        other.extend(created);
                        add(format!("{v} {r}, all named {name:?}"), same.clone(), false);
                        add(format!("{v} {r}, the others named {name:?}"), other, false);
                        if v != "create" {
                            continue;
                        }
                        for (verb, on) in [("patch", name), ("update", name), ("patch", "db")] {
                            let what = format!("{v} {r} named {name:?} and {verb} of {on:?}");
                            let mut rules = with(grant(v, g, r, &[name]));
                            rules.push(grant(verb, g, r, &[on]));
                            add(what.clone(), rules, false);
                            let mut rules = same.clone();
                            rules.push(grant(verb, g, r, &[on]));
                            add(format!("{what}, all named"), rules, false);
                        }
                        let mut rules = with(grant(v, g, r, &[name]));
                        rules.push(grant("patch", g, r, &[]));
                        add(
                            format!("{v} {r} named {name:?} and patch of any"),
                            rules,
                            false,
                        );
                    }
                }
            }
        }
    }
    // many are made twice; the one that says more is kept
    let mut seen = HashSet::new();
    out.sort_by_key(|m| m.full.is_none());
    out.retain(|m| m.full.is_some() || seen.insert(m.rules.clone()));
    out
}

fn world(made: &[Made], version: &str) -> Ledger {
    let version = ServerVersion::parse(version).unwrap();
    let settings = Settings::new(World::Cluster, version);
    let mut ledger = Ledger::new(Arc::new(Catalogue::shipped()), settings);
    for resource in Resource::ALL {
        ledger.apply(Change::RelistBegin(resource));
    }
    for (i, one) in made.iter().enumerate() {
        let name = format!("r{i}");
        ledger.apply(Change::Upsert(Object::Role(Role {
            meta: Meta {
                name: name.clone(),
                ..Default::default()
            },
            rules: one.rules.clone(),
            ..Default::default()
        })));
        for (place, _) in PLACES {
            ledger.apply(Change::Upsert(Object::Binding(Binding {
                meta: Meta {
                    namespace: place.replace('*', ""),
                    name: name.clone(),
                    ..Default::default()
                },
                role: RoleRef {
                    cluster: true,
                    name: name.clone(),
                },
                subjects: vec![Subject::user(&format!("{name}@{place}"))],
                ..Default::default()
            })));
        }
    }
    for resource in Resource::ALL {
        ledger.apply(Change::RelistEnd(resource));
    }
    ledger.settle();
    ledger
}

/// Findings by rule and scope.
type Found = BTreeMap<(String, String), String>;

#[test]
fn every_atom_and_every_role_one_piece_short() {
    let file = catalogue();
    assert_eq!(file.privileged_namespaces, ["kube-system"]);
    let made = make(&file.rules);
    let plain: Vec<&Rule> = file.rules.iter().filter(|r| !r.special).collect();
    assert!(
        plain.len() > 55 && made.len() > 5_000,
        "{} {}",
        plain.len(),
        made.len()
    );
    assert!(
        plain.iter().flat_map(|r| r.any.iter().flatten()).all(|a| a.at.is_none()
            || a.g.iter().all(|g| a.r.iter().all(|r| cluster_scoped(g, r)))),
        "an atom asked at the cluster is of a cluster-scoped resource"
    );
    let is_plain: BTreeSet<&str> = plain.iter().map(|r| r.id.as_str()).collect();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for version in ["1.34", "1.36"] {
        // what the version decides is one rule: the older server is asked about that alone
        let made: Vec<&Made> = made
            .iter()
            .filter(|m| version == "1.36" || m.what.starts_with("pod-exec"))
            .collect();
        let made: Vec<Made> = made
            .into_iter()
            .map(|m| Made {
                what: m.what.clone(),
                rules: m.rules.clone(),
                full: m.full,
            })
            .collect();
        let ledger = world(&made, version);
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for view in ledger.role_views() {
            let findings = view
                .findings
                .into_iter()
                .map(|(rule, scope, priority)| ((rule, scope), priority.as_str().to_owned()));
            found.insert(view.name, findings.collect());
        }
        for (i, one) in made.iter().enumerate() {
            let mut want = Found::new();
            for rule in &plain {
                for place in PLACES {
                    if let Some(level) = expected(rule, &one.rules, place, version) {
                        want.insert((rule.id.clone(), place.0.to_owned()), level);
                    }
                }
            }
            if let Some(number) = one.full {
                let rule = &file.rules[number];
                let too_new = rule.before.as_deref().is_some_and(|b| version >= b);
                let got = want.get(&(rule.id.clone(), "*".to_owned()));
                let level = Some(&rule.sev["c"]).filter(|l| *l != "-" && !too_new);
                assert_eq!(got, level, "{}", one.what);
            }
            let mut got = found.remove(&format!("r{i}")).unwrap();
            got.retain(|(rule, _), _| is_plain.contains(rule.as_str()));
            compared += 1;
            if want != got {
                wrong.push(format!(
                    "{} {version}\n  got  {got:?}\n  want {want:?}",
                    one.what
                ));
            }
            // and the subjects of the bindings, for a sample
            if one.full.is_none() || i % 7 != 0 {
                continue;
            }
            for (place, _) in PLACES {
                let subject = Subject::user(&format!("r{i}@{place}"));
                let view = ledger.explain(&subject).unwrap();
                let got: Found = view
                    .findings
                    .iter()
                    .filter(|f| is_plain.contains(f.rule.as_str()))
                    .map(|f| {
                        (
                            (f.rule.clone(), f.scope.clone()),
                            f.priority.as_str().to_owned(),
                        )
                    })
                    .collect();
                let mut want = want.clone();
                want.retain(|(_, scope), _| scope == place);
                if want != got {
                    wrong.push(format!(
                        "{} {subject:?}\n  got  {got:?}\n  want {want:?}",
                        one.what
                    ));
                }
            }
        }
    }
    println!("{compared} roles in three places each");
    assert!(compared > 5_000);
    assert!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}
