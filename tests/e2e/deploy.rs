//! What `deploy/` holds is what the chart renders, and a real API server takes it, upgrades it and
//! lets go of it without a rest.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::harness::process::{Finished, run, temporary_directory};
use crate::harness::world::World;
use crate::harness::{parts, repository};

/// Writes what [`the_manifests_are_what_the_chart_renders`] finds different.
const WRITE: &str = "RBAC_EXPORTER_WRITE_MANIFESTS";

/// Where the plain manifests live, and what they are called after.
const NAME: &str = "rbac-exporter";

/// A component of the plain manifests, by the values of the chart that it stands for.
const COMPONENTS: [(&str, &str); 3] = [
    ("kubernetes-auth", "web.auth=kubernetes"),
    (
        "prometheus-operator",
        "prometheusOperator.serviceMonitor.enabled=true,prometheusOperator.rules.enabled=true,dashboards.enabled=true",
    ),
    ("two-replicas", "replicas=2"),
];

fn helm(world: Option<&World>, args: &[&str]) -> Finished {
    let home = temporary_directory();
    let mut command = Command::new(parts::kubernetes("helm"));
    command.args(args).env("HOME", home.path());
    if let Some(world) = world {
        command.env("KUBECONFIG", world.admin_kubeconfig());
    }
    run(&mut command, "")
}

fn chart() -> String {
    repository("deploy/helm/rbac-exporter")
        .display()
        .to_string()
}

/// The chart's files rendered with `values`, by file name, as text.
pub(crate) fn rendered(values: &str) -> BTreeMap<String, String> {
    let dir = temporary_directory();
    let out = dir.path().display().to_string();
    let chart = chart();
    let mut args = vec!["template", NAME, &chart, "-n", NAME];
    args.extend(["--output-dir", &out, "--set", "namespace.create=true"]);
    if !values.is_empty() {
        args.extend(["--set", values]);
    }
    let answer = helm(None, &args);
    assert_eq!(answer.code, 0, "helm template: {}", answer.stderr);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir.path().join("rbac-exporter/templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let lines = text.lines().filter(|l| !l.starts_with("# Source: "));
        let lines: Vec<&str> = lines.skip_while(|l| *l == "---" || l.is_empty()).collect();
        files.insert(name, lines.join("\n").trim_end().to_owned() + "\n");
    }
    files
}

/// The objects of a YAML stream.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| serde::Deserialize::deserialize(document).expect("rendered YAML parses"))
        .filter(|object: &Value| !object.is_null())
        .collect()
}

fn key(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// What a strategic merge patch has to say to make `before` `after`; nothing for equals. Lists of
/// named things (containers, volumes) are merged by name, as the API server does, others replaced.
fn patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (before, after) if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let mut out = Map::new();
            for (field, value) in after {
                let old = before.get(field).unwrap_or(&Value::Null);
                if let Some(changed) = patch(old, value) {
                    out.insert(field.clone(), changed);
                }
            }
            for gone in before.keys().filter(|field| !after.contains_key(*field)) {
                out.insert(gone.clone(), Value::Null);
            }
            Some(Value::Object(out))
        }
        (Value::Array(before), Value::Array(after))
            if after
                .iter()
                .chain(before)
                .all(|item| item["name"].is_string()) =>
        {
            let old = |item: &Value| before.iter().find(|old| old["name"] == item["name"]);
            let changed = after.iter().filter_map(|item| {
                let mut change = patch(old(item).unwrap_or(&Value::Null), item)?;
                change["name"] = item["name"].clone();
                Some(change)
            });
            Some(Value::Array(changed.collect()))
        }
        _ => Some(after.clone()),
    }
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("JSON is YAML")
}

/// Every file below `deploy/manifests`, as the chart gives it.
fn manifests() -> BTreeMap<String, String> {
    let generated = "# Rendered from the chart in deploy/helm by `make manifests`; edit that.\n";
    let base = rendered("");
    let mut files = BTreeMap::new();
    let list = |names: &BTreeSet<String>| {
        let lines = names.iter().map(|name| format!("- {name}\n"));
        lines.collect::<String>()
    };
    let names: BTreeSet<String> = base.keys().cloned().collect();
    files.insert(
        "base/kustomization.yaml".to_owned(),
        format!(
            "{generated}# kubectl apply -k deploy/manifests/base\n\
             apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{}",
            list(&names)
        ),
    );
    for (name, text) in &base {
        files.insert(format!("base/{name}"), format!("{generated}{text}"));
    }
    for (component, values) in COMPONENTS {
        let mut resources = BTreeSet::new();
        let mut patches = BTreeSet::new();
        for (name, text) in rendered(values) {
            let Some(before) = base.get(&name) else {
                files.insert(
                    format!("components/{component}/{name}"),
                    format!("{generated}{text}"),
                );
                resources.insert(name);
                continue;
            };
            let before = objects(before);
            for object in objects(&text) {
                let old = before.iter().find(|old| key(old) == key(&object));
                let Some(old) = old else {
                    let name = format!("{}-{}", key(&object).0.to_lowercase(), name);
                    files.insert(
                        format!("components/{component}/{name}"),
                        generated.to_owned() + &yaml(&object),
                    );
                    resources.insert(name);
                    continue;
                };
                if let Some(mut change) = patch(old, &object) {
                    for field in ["apiVersion", "kind"] {
                        change[field] = object[field].clone();
                    }
                    change["metadata"]["name"] = object["metadata"]["name"].clone();
                    if let Some(namespace) = object["metadata"].get("namespace") {
                        change["metadata"]["namespace"] = namespace.clone();
                    }
                    let name = format!("patch-{}.yaml", key(&object).0.to_lowercase());
                    files.insert(
                        format!("components/{component}/{name}"),
                        generated.to_owned() + &yaml(&change),
                    );
                    patches.insert(format!("path: {name}"));
                }
            }
        }
        let mut text =
            format!("{generated}apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n");
        if !resources.is_empty() {
            text += &format!("resources:\n{}", list(&resources));
        }
        if !patches.is_empty() {
            text += &format!("patches:\n{}", list(&patches));
        }
        files.insert(format!("components/{component}/kustomization.yaml"), text);
    }
    files
}

/// Files below a directory, by their path in it.
fn files_below(dir: &Path) -> BTreeMap<String, String> {
    fn walk(top: &Path, dir: &Path, out: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, out);
            } else {
                let name = path.strip_prefix(top).unwrap().display().to_string();
                out.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let place = repository("deploy/manifests");
    let wanted = manifests();
    if env::var_os(WRITE).is_some() {
        let _ = fs::remove_dir_all(&place);
        for (name, text) in &wanted {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let have = files_below(&place);
    let names: BTreeSet<&String> = have.keys().chain(wanted.keys()).collect();
    let stale: Vec<_> = names
        .into_iter()
        .filter(|name| have.get(*name) != wanted.get(*name))
        .collect();
    assert!(stale.is_empty(), "{stale:?}: run `make manifests`");
}

/// A kustomization of the base with components, in a directory of its own.
fn kustomization(dir: &Path, components: &[&str]) -> PathBuf {
    let path = |below: &str| {
        let there = repository("deploy/manifests").join(below);
        // kustomize takes relative paths only
        Path::new(&"../".repeat(dir.components().count() - 1))
            .join(there.strip_prefix("/").unwrap())
            .display()
            .to_string()
    };
    let all: Vec<String> = components
        .iter()
        .map(|c| path(&format!("components/{c}")))
        .collect();
    let text = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [path("base")], "components": all,
    });
    fs::write(dir.join("kustomization.yaml"), text.to_string()).unwrap();
    dir.to_owned()
}

#[test]
fn base_and_components_together_are_the_chart_with_these_values() {
    let world = World::shared();
    let sorted = |mut objects: Vec<Value>| {
        objects.sort_by_key(key);
        objects
    };
    let all: Vec<&str> = COMPONENTS.iter().map(|(c, _)| *c).collect();
    let values: Vec<&str> = COMPONENTS.iter().map(|(_, v)| *v).collect();
    for (components, values) in [(vec![], String::new()), (all, values.join(","))] {
        let dir = temporary_directory();
        let dir = kustomization(&dir.path().canonicalize().unwrap(), &components);
        let built = world.kubectl(&["kustomize", dir.to_str().unwrap()], "");
        let chart = rendered(&values).into_values();
        let chart = sorted(chart.flat_map(|text| objects(&text)).collect());
        assert_eq!(sorted(objects(&built)), chart, "{components:?}");
    }
}

/// The CustomResourceDefinitions of the Prometheus Operator.
fn define_operator(world: &World) {
    let crds = parts::operator_crds().display().to_string();
    world.kubectl(&["apply", "--server-side", "-f", &crds], "");
    world.kubectl(
        &[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            &crds,
        ],
        "",
    );
}

/// Everything there is of ours, whatever its kind.
fn ours(world: &World) -> Vec<String> {
    let kinds = "clusterroles,clusterrolebindings,namespaces,serviceaccounts,deployments,services,\
                 configmaps,secrets,networkpolicies,poddisruptionbudgets,servicemonitors,prometheusrules";
    let found = world.kubectl(
        &[
            "get",
            kinds,
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/name=rbac-exporter",
        ],
        "",
    );
    found.lines().map(str::to_owned).collect()
}

#[test]
fn kubectl_and_helm_install_upgrade_and_leave_nothing() {
    for world in [World::with_controllers(), World::oldest()] {
        define_operator(&world);
        let dir = temporary_directory();
        let all: Vec<&str> = COMPONENTS.iter().map(|(c, _)| *c).collect();
        for components in [vec![], all.clone()] {
            let dir = kustomization(&dir.path().canonicalize().unwrap(), &components);
            let dir = dir.to_str().unwrap();
            let apply = ["apply", "--validate=strict", "--server-side", "-k", dir];
            let said = world.try_kubectl(&apply, "");
            assert_eq!(said.code, 0, "{}", said.stderr);
            assert!(!said.stderr.contains("Warning"), "{}", said.stderr);
            let said = world.kubectl(&apply, "");
            assert!(said.lines().count() > 5, "{said}");
            world.kubectl(&["delete", "--wait=false", "-k", dir], "");
            if world.has_controllers() {
                world.kubectl(
                    &[
                        "wait",
                        "--for=delete",
                        "--timeout=60s",
                        "namespace/rbac-exporter",
                    ],
                    "",
                );
                assert_eq!(ours(&world), Vec::<String>::new());
            } else {
                // nobody finishes the namespace here; the next round needs it
                world.finish_namespace(NAME);
            }
        }
        let chart = chart();
        world.kubectl(&["create", "namespace", "monitoring"], "");
        world.kubectl(
            &[
                "label",
                "namespace",
                "monitoring",
                "pod-security.kubernetes.io/enforce=restricted",
            ],
            "",
        );
        let values: Vec<&str> = COMPONENTS.iter().map(|(_, v)| *v).collect();
        let everything =
            values.join(",") + ",config.metrics.detailLimit=10,serviceAccount.name=other";
        for values in ["", &everything, "replicas=3"] {
            let set = if values.is_empty() {
                "replicas=1"
            } else {
                values
            };
            let answer = helm(
                Some(&world),
                &[
                    "upgrade",
                    "--install",
                    "guard",
                    &chart,
                    "-n",
                    "monitoring",
                    "--set",
                    set,
                ],
            );
            assert_eq!(answer.code, 0, "{values}: {}", answer.stderr);
            assert!(answer.stdout.contains("port-forward"), "{}", answer.stdout);
        }
        assert!(ours(&world).len() > 5);
        let answer = helm(Some(&world), &["uninstall", "guard", "-n", "monitoring"]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        assert_eq!(ours(&world), Vec::<String>::new());
    }
}

#[test]
fn helm_takes_every_value_and_refuses_what_is_misspelt() {
    let chart = chart();
    let answer = helm(None, &["lint", "--strict", &chart]);
    assert_eq!(answer.code, 0, "{}", answer.stdout);
    for (set, complaint) in [
        ("web.prot=1", "prot"),
        ("web.auth=token", "auth"),
        ("replicas=many", "replicas"),
        ("metrics.detail={severe}", "detail"),
        ("image.digest=sha256:1", "digest"),
        ("networkpolicy.enabled=true", "networkpolicy"),
        ("log.format=text", "format"),
        ("allowPartial={roles}", "allowPartial"),
        (
            "prometheusOperator.rules.runbookBase=https://x/",
            "runbookBase",
        ),
    ] {
        let answer = helm(None, &["template", "x", &chart, "--set", set]);
        assert_ne!(answer.code, 0, "{set} is taken");
        assert!(
            answer.stderr.contains(complaint),
            "{set}: {}",
            answer.stderr
        );
    }
}

#[test]
fn the_runbooks_of_the_rules_lie_where_the_chart_is_told() {
    let rules = "prometheusOperator.rules.enabled=true";
    let base = "https://git.example/rbac/docs/runbooks";
    let set = format!("{rules},prometheusOperator.rules.runbookBase={base}");
    let of = |values: &str| rendered(values).remove("prometheusrule.yaml").unwrap();
    let line = |base: &str| format!("base: {base}\n");
    assert!(of(rules).contains(&line("docs/runbooks")));
    let text = of(&set);
    assert!(text.contains(&line(base)), "{text}");
    assert!(!text.contains(&line("docs/runbooks")));
}
