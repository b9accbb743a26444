use crate::bounded;
use crate::config::{FILE, as_text, check, otherwise, shifted};
use crate::lines;
use rbac_exporter::config::{Config, read};
use rbac_exporter::ledger::{Change, Ledger, Policy, Settings, World};
use rbac_exporter::located::Fault;
use rbac_exporter::object::{Binding, Meta, Object, PolicyRule, Resource, Role, RoleRef, Subject};
use rbac_exporter::rbac::OLDEST;
use rbac_exporter::risk::{Catalogue, NameMode, RuleSpec, Source};
use serde_yaml::Value as Yaml;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads a template of KubiScan's.
///
/// - Faults as those of a configuration.
/// - What is taken is all there is: a rule for every name that another reading finds.
/// - Whoever holds just what an entry lists has its finding, and whoever lacks the last word of it has not.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match bounded(data, 400, || of(text)) {
        Err(faults) => {
            check(&faults, lines(data));
            shifted(text, &faults, of);
        }
        Ok(config) => {
            let ours: Vec<&RuleSpec> = config.rules.specs.iter().filter(is_ours).collect();
            assert_eq!(ours.len(), config.edits.added + config.edits.replaced);
            if let Some(names) = names(text) {
                let ours: BTreeSet<&str> = ours.iter().map(|r| r.id.as_str()).collect();
                let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                assert_eq!(ours, names, "{text}");
            }
            judged(&config, &ours);
        }
    }
}

fn of(text: &str) -> Result<Config, Vec<Fault>> {
    read(None, vec![as_text(text)], &mut |_| {
        Err("no such file".to_owned())
    })
}

fn is_ours(rule: &&RuleSpec) -> bool {
    matches!(&rule.origin.source, Source::Template(place) if &*place.file == FILE)
}

fn names(text: &str) -> Option<Vec<String>> {
    let tree = otherwise(text)?;
    let items = tree.get("items")?.as_sequence()?;
    let name = |item: &Yaml| {
        item.get("metadata")?
            .get("name")?
            .as_str()
            .map(str::to_owned)
    };
    items.iter().map(name).collect()
}

/// Gives two accounts what the first alternative of each rule lists, one of them a request less.
fn judged(config: &Config, ours: &[&RuleSpec]) {
    const NAMESPACE: &str = "app";
    let catalogue = Arc::new(Catalogue::of(&config.rules));
    for spec in ours.iter().take(4) {
        let Some(atoms) = spec.any.first().filter(|atoms| atoms.len() <= 64) else {
            continue;
        };
        // a request to create has no name yet, so that nobody can be granted it by name
        let nameless = |verb: &String| ["create", "deletecollection"].contains(&verb.as_str());
        if atoms
            .iter()
            .any(|atom| matches!(atom.names, NameMode::List(_)) && atom.verbs.iter().any(nameless))
        {
            continue;
        }
        let rules: Vec<PolicyRule> = atoms
            .iter()
            .map(|atom| PolicyRule {
                verbs: atom.verbs.clone(),
                api_groups: atom.groups.clone(),
                resources: atom.resources.clone(),
                resource_names: match &atom.names {
                    NameMode::List(names) => names.clone(),
                    _ => Vec::new(),
                },
                non_resource_urls: Vec::new(),
            })
            .collect();
        let has = |rules: Vec<PolicyRule>| {
            let mut ledger = Ledger::new(
                Policy::from(catalogue.clone()),
                Settings::new(World::Cluster, OLDEST),
            );
            let meta = |namespace: &str| Meta {
                namespace: namespace.to_owned(),
                name: "it".to_owned(),
                ..Meta::default()
            };
            let subject = Subject::ServiceAccount {
                namespace: NAMESPACE.to_owned(),
                name: "it".to_owned(),
            };
            for resource in Resource::ALL {
                ledger.apply(Change::RelistBegin(resource));
            }
            ledger.apply(Change::Upsert(Object::Role(Role {
                meta: meta(""),
                rules,
                ..Role::default()
            })));
            ledger.apply(Change::Upsert(Object::Binding(Binding {
                meta: meta(""),
                role: RoleRef {
                    cluster: true,
                    name: "it".to_owned(),
                },
                subjects: vec![subject.clone()],
                spellings: None,
            })));
            for resource in Resource::ALL {
                ledger.apply(Change::RelistEnd(resource));
            }
            ledger.settle();
            let view = ledger.explain(&subject).expect("it is bound");
            view.findings.iter().any(|f| f.rule == spec.id)
        };
        assert!(has(rules.clone()), "{} is not found in {rules:?}", spec.id);
        // one alternative alone, of a request that no other one of its own implies
        let wide = rules.iter().any(|r| {
            let words = r.verbs.iter().chain(&r.resources).chain(&r.api_groups);
            words.into_iter().any(|word| word.contains('*'))
        });
        let (last, others) = rules.split_last().expect("no empty alternative");
        let covered = others
            .iter()
            .any(|r| r.verbs == last.verbs && r.resources == last.resources);
        if spec.any.len() == 1 && !wide && !covered {
            assert!(!has(others.to_vec()), "{} is found in {others:?}", spec.id);
        }
    }
}
