//! The truth tables `tests/fixtures/risk-cases.yaml` and `own-cases.yaml`: every case is built into
//! objects and judged.

use rbac_exporter::ledger::{Change, Ledger, PodView, Settings, World};
use rbac_exporter::object::{
    Binding, LabelRequirement, LabelSelector, Meta, Object, Phase, Pod, PolicyRule, ProjectedToken,
    Resource, Role, RoleRef, SecretSource, SecretUse, ServiceAccount, Subject,
};
use rbac_exporter::rbac::ServerVersion;
use rbac_exporter::risk::{Catalogue, Status};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Cases that fail, by id, with the reason. One that starts to pass while listed fails the test.
const FAILING: &[(&str, &str)] = &[];

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(rename = "title")]
    _title: String,
    #[serde(rename = "why")]
    _why: String,
    version: Option<String>,
    /// Holds in one of the two only.
    world: Option<String>,
    #[serde(default)]
    roles: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    bind: Vec<Bind>,
    #[serde(default)]
    sas: Vec<Account>,
    #[serde(default)]
    objects: Vec<RawRole>,
    #[serde(default)]
    pods: Vec<RawPod>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bind {
    crb: Option<String>,
    rb: Option<String>,
    clusterrole: Option<String>,
    role: Option<String>,
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Account {
    Name(String),
    Full(FullAccount),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FullAccount {
    #[serde(rename = "ref")]
    at: String,
    automount_service_account_token: Option<bool>,
    #[serde(default)]
    secrets: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRole {
    #[serde(rename = "kind")]
    _kind: String,
    metadata: RawMeta,
    aggregation_rule: Option<RawAggregation>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeta {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawAggregation {
    cluster_role_selectors: Vec<RawSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<RawRequirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPod {
    #[serde(rename = "ref")]
    at: String,
    sa: Option<String>,
    node: Option<String>,
    #[serde(default)]
    mounts: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    init: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    volumes: BTreeMap<String, String>,
    phase: Option<String>,
    #[serde(default, rename = "static")]
    mirror: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    subjects: BTreeMap<String, ExpectSubject>,
    #[serde(default)]
    pods: BTreeMap<String, ExpectPod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExpectSubject {
    priority: Option<String>,
    own: Option<String>,
    #[serde(default)]
    has: BTreeMap<String, String>,
    #[serde(default)]
    has_not: Vec<String>,
    only: Option<BTreeMap<String, String>>,
    #[serde(default)]
    absent: bool,
    builtin: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectPod {
    priority: String,
    terminal: Option<bool>,
    #[serde(rename = "why")]
    _why: Option<String>,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|s| s.trim().to_owned()).collect()
}

pub(crate) fn rule(text: &str) -> PolicyRule {
    let parts: Vec<&str> = text.split('|').map(str::trim).collect();
    if let Some(urls) = parts[1].strip_prefix("url:") {
        return PolicyRule {
            verbs: list(parts[0]),
            non_resource_urls: list(urls),
            ..Default::default()
        };
    }
    let core = |g: String| if g == "core" { String::new() } else { g };
    PolicyRule {
        verbs: list(parts[0]),
        api_groups: list(parts[1]).into_iter().map(core).collect(),
        resources: list(parts[2]),
        resource_names: parts.get(3).map(|n| list(n)).unwrap_or_default(),
        non_resource_urls: vec![],
    }
}

fn meta(text: &str) -> Meta {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Default::default()
    }
}

fn subject(text: &str, namespace: &str) -> Subject {
    match text.strip_prefix("sa:") {
        Some(name) if !name.contains('/') => Subject::ServiceAccount {
            namespace: namespace.into(),
            name: name.into(),
        },
        _ => Subject::parse(text).unwrap_or_else(|| panic!("{text}")),
    }
}

fn objects(case: &Case) -> Vec<Object> {
    let mut out = Vec::new();
    for (name, rules) in &case.roles {
        out.push(Object::Role(Role {
            meta: meta(name),
            rules: rules.iter().map(|r| rule(r)).collect(),
            ..Default::default()
        }));
    }
    for raw in &case.objects {
        out.push(Object::Role(Role {
            meta: meta(&raw.metadata.name),
            labels: raw.metadata.labels.clone().into_iter().collect(),
            aggregation: raw.aggregation_rule.as_ref().map(|a| {
                let one = |s: &RawSelector| LabelSelector {
                    match_labels: s.match_labels.clone().into_iter().collect(),
                    match_expressions: s
                        .match_expressions
                        .iter()
                        .map(|e| LabelRequirement {
                            key: e.key.clone(),
                            operator: e.operator.clone(),
                            values: e.values.clone(),
                        })
                        .collect(),
                };
                a.cluster_role_selectors.iter().map(one).collect()
            }),
            rules: raw
                .rules
                .iter()
                .map(|r| PolicyRule {
                    verbs: r.verbs.clone(),
                    api_groups: r.api_groups.clone(),
                    resources: r.resources.clone(),
                    ..Default::default()
                })
                .collect(),
        }));
    }
    for (i, bind) in case.bind.iter().enumerate() {
        let namespace = bind.rb.clone().unwrap_or_default();
        let (cluster, name) = match (&bind.crb, &bind.clusterrole, &bind.role) {
            (Some(name), ..) | (None, Some(name), _) => (true, name.clone()),
            (None, None, Some(name)) => (false, name.clone()),
            _ => panic!("{}: binding without a role", case.id),
        };
        out.push(Object::Binding(Binding {
            meta: Meta {
                namespace: namespace.clone(),
                name: format!("b{i}"),
                ..Default::default()
            },
            role: RoleRef { cluster, name },
            subjects: bind.to.iter().map(|t| subject(t, &namespace)).collect(),
            ..Default::default()
        }));
    }
    for account in &case.sas {
        let account = match account {
            Account::Name(name) => ServiceAccount {
                meta: meta(name),
                ..Default::default()
            },
            Account::Full(full) => ServiceAccount {
                meta: meta(&full.at),
                automount: full.automount_service_account_token,
                secrets: full.secrets.iter().map(|s| s.name.clone()).collect(),
            },
        };
        out.push(Object::ServiceAccount(account));
    }
    for raw in &case.pods {
        out.push(Object::Pod(Box::new(pod(raw))));
    }
    out
}

fn pod(raw: &RawPod) -> Pod {
    let mut pod = Pod {
        meta: meta(&raw.at),
        service_account: match (&raw.sa, raw.mirror) {
            (Some(sa), _) => sa.clone(),
            (None, true) => String::new(),
            (None, false) => "default".into(),
        },
        node: raw.node.clone().unwrap_or_default(),
        phase: Phase::parse(raw.phase.as_deref().unwrap_or("Running")),
        mirror: raw.mirror,
        ..Default::default()
    };
    for (volume, kind) in &raw.volumes {
        let containers: Vec<String> = raw
            .mounts
            .iter()
            .chain(&raw.init)
            .filter(|(_, volumes)| volumes.contains(volume))
            .map(|(c, _)| c.clone())
            .collect();
        if containers.is_empty() {
            continue;
        }
        if let Some(name) = kind.strip_prefix("secret:") {
            pod.secrets.push(SecretUse {
                name: name.into(),
                source: SecretSource::Volume,
                containers,
            });
        } else if kind == "api" || kind.starts_with("api:") {
            let audience = kind.strip_prefix("api:").map(str::to_owned);
            pod.tokens.push(ProjectedToken {
                audience,
                containers,
                at_default_path: true,
            });
        }
    }
    pod
}

fn judge(case: &Case, world: World) -> Ledger {
    static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::shipped()));
    let version = ServerVersion::parse(case.version.as_deref().unwrap_or("1.36")).unwrap();
    let mut ledger = Ledger::new(CATALOGUE.clone(), Settings::new(world, version));
    for resource in Resource::ALL {
        ledger.apply(Change::RelistBegin(resource));
    }
    for object in objects(case) {
        ledger.apply(Change::Upsert(object));
    }
    for resource in Resource::ALL {
        ledger.apply(Change::RelistEnd(resource));
    }
    ledger.settle();
    ledger
}

fn differences(case: &Case, world: World) -> Vec<String> {
    let ledger = judge(case, world);
    let mut out = Vec::new();
    for (name, expect) in &case.expect.subjects {
        let subject = subject(name, "");
        let Some(view) = ledger.explain(&subject) else {
            if !expect.absent && expect.priority.as_deref() != Some("none") {
                out.push(format!("{name} is no subject"));
            }
            continue;
        };
        if expect.absent {
            out.push(format!("{name} is there"));
        }
        let findings: BTreeMap<String, String> = view
            .findings
            .iter()
            .map(|f| {
                (
                    format!("{}@{}", f.rule, f.scope),
                    f.priority.as_str().to_owned(),
                )
            })
            .collect();
        let mut check = |what: &str, expected: &Option<String>, got: &str| {
            if let Some(expected) = expected
                && expected != got
            {
                out.push(format!(
                    "{name} {what}: {got}, not {expected}; {findings:?} {:?}",
                    view.path
                ));
            }
        };
        check("priority", &expect.priority, view.priority.as_str());
        check("own", &expect.own, view.own.as_str());
        for (finding, priority) in &expect.has {
            if findings.get(finding) != Some(priority) {
                out.push(format!("{name} lacks {finding}: {priority}; {findings:?}"));
            }
        }
        for rule in &expect.has_not {
            if view.findings.iter().any(|f| f.rule == *rule) {
                out.push(format!("{name} has {rule}"));
            }
        }
        if let Some(only) = &expect.only
            && *only != findings
        {
            out.push(format!("{name} has {findings:?}, not only {only:?}"));
        }
        if let Some(builtin) = expect.builtin
            && builtin != (view.status == Status::Builtin)
        {
            out.push(format!("{name} status: {:?}", view.status));
        }
        for finding in &view.findings {
            let own = ["system-masters"].contains(&finding.rule.as_str());
            if finding.grants.is_empty() && !own {
                out.push(format!("{name}: {} rests on no binding", finding.rule));
            }
        }
        if view.priority > view.own && view.path.is_empty() {
            out.push(format!("{name} rises without a path"));
        }
    }
    let pods: Vec<PodView> = ledger.pod_views().collect();
    for (at, expect) in &case.expect.pods {
        let Some(pod) = pods
            .iter()
            .find(|p| format!("{}/{}", p.namespace, p.name) == *at)
        else {
            out.push(format!("no pod {at}"));
            continue;
        };
        if pod.priority.as_str() != expect.priority {
            out.push(format!(
                "pod {at}: {}, not {}",
                pod.priority.as_str(),
                expect.priority
            ));
        }
        if expect.terminal.is_some_and(|t| t != pod.phase.terminal()) {
            out.push(format!("pod {at}: phase {:?}", pod.phase));
        }
    }
    out
}

/// Every case of both files, in both worlds unless it says otherwise.
fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for (text, at_least) in [
        (include_str!("../fixtures/risk-cases.yaml"), 120),
        (include_str!("../fixtures/own-cases.yaml"), 80),
    ] {
        let file: File = serde_yaml::from_str(text).unwrap();
        assert!(file.cases.len() >= at_least, "{} cases", file.cases.len());
        out.extend(file.cases);
    }
    let ids: std::collections::BTreeSet<&str> = out.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids.len(), out.len(), "an id is given twice");
    out
}

/// The world of every case: its id, what it is judged as, and its objects.
pub(crate) fn worlds() -> Vec<(String, World, ServerVersion, Vec<Object>)> {
    let world = |case: &Case| match case.world.as_deref() {
        Some("manifests") => World::Manifests,
        _ => World::Cluster,
    };
    let version = |case: &Case| ServerVersion::parse(case.version.as_deref().unwrap_or("1.36"));
    let cases = cases();
    let worlds = cases.iter().map(|c| {
        let version = version(c).unwrap();
        (c.id.clone(), world(c), version, objects(c))
    });
    worlds.collect()
}

#[test]
fn every_case_of_the_truth_tables() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let listed = FAILING.iter().any(|(id, _)| *id == case.id);
        for world in [World::Cluster, World::Manifests] {
            let here = match case.world.as_deref() {
                None => true,
                Some("cluster") => world == World::Cluster,
                Some("manifests") => world == World::Manifests,
                Some(other) => panic!("{}: {other} is no world", case.id),
            };
            if !here {
                continue;
            }
            let differences = differences(case, world);
            match (listed, differences.is_empty()) {
                (false, false) => wrong.push(format!("{} ({world:?}): {differences:#?}", case.id)),
                (true, true) => wrong.push(format!("{} passes and is listed as failing", case.id)),
                _ => {}
            }
        }
    }
    for (id, _) in FAILING {
        assert!(
            cases.iter().any(|c| c.id == *id),
            "{id} is listed and unknown"
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
