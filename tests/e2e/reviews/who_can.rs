//! `who-can` against the real authoriser: of every known subject, listed means allowed.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::generate::{NAMESPACES, Random, review};
use super::{KINDS, SEED, Server, connect, number};
use crate::harness::exporter::{run_binary, run_on, scan};
use crate::harness::world::World;

const VERBS: &[&str] = &[
    "get",
    "list",
    "create",
    "delete",
    "impersonate",
    "bind",
    "use",
];
const RESOURCES: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "nodes"),
    ("apps", "deployments"),
    ("batch", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("example.com", "pods"),
];
const SUBRESOURCES: &[&str] = &["", "", "exec", "token", "proxy"];
const NAMES: &[&str] = &["", "", "web", "db", "q\"\\\n"];
const PATHS: &[&str] = &[
    "/metrics",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/metrics/cadvisor",
];

/// What is asked, as the server takes it and as people type it.
struct Asked {
    attributes: Value,
    typed: Vec<String>,
}

fn questions(random: &mut Random, count: usize) -> Vec<Asked> {
    let resource = |random: &mut Random| {
        let verb = *random.pick(VERBS);
        let (group, resource) = *random.pick(RESOURCES);
        let (sub, name) = (*random.pick(SUBRESOURCES), *random.pick(NAMES));
        let namespace = if random.percent(30) {
            ""
        } else {
            *random.pick(&NAMESPACES)
        };
        let mut what = resource.to_owned();
        for (sign, part) in [('.', group), ('/', name)] {
            if !part.is_empty() {
                what.push(sign);
                what.push_str(part);
            }
        }
        let mut typed = vec![verb.to_owned(), what];
        for (flag, value) in [("--namespace", namespace), ("--subresource", sub)] {
            if !value.is_empty() {
                typed.extend([flag.to_owned(), value.to_owned()]);
            }
        }
        Asked {
            attributes: json!({"resourceAttributes": {"verb": verb, "group": group,
                "resource": resource, "subresource": sub, "name": name, "namespace": namespace}}),
            typed,
        }
    };
    let path = |path: &&str| Asked {
        attributes: json!({"nonResourceAttributes": {"verb": "get", "path": path}}),
        typed: vec!["get".to_owned(), (*path).to_owned()],
    };
    let mut out: Vec<Asked> = (0..count).map(|_| resource(random)).collect();
    out.extend(PATHS.iter().map(path));
    out
}

/// A subject's identity, as `who-can` and the report write it.
type Who = (String, String, String);

fn who(entry: &Value) -> Who {
    let text = |key: &str| entry[key].as_str().expect("a string").to_owned();
    (text("kind"), text("namespace"), text("name"))
}

/// The question of one subject, with the groups that it certainly has.
fn of((kind, namespace, name): &Who, attributes: &Value) -> Value {
    let mut spec = attributes.clone();
    let (user, groups) = match kind.as_str() {
        "ServiceAccount" => (
            format!("system:serviceaccount:{namespace}:{name}"),
            vec![
                "system:authenticated".to_owned(),
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
        ),
        "User" if name == "system:anonymous" => {
            (name.clone(), vec!["system:unauthenticated".to_owned()])
        }
        "User" => (name.clone(), vec!["system:authenticated".to_owned()]),
        _ => {
            let mut groups = vec![name.clone()];
            if name.starts_with("system:serviceaccounts:") {
                groups.push("system:serviceaccounts".to_owned());
            }
            if name != "system:unauthenticated" && name != "system:authenticated" {
                groups.push("system:authenticated".to_owned());
            }
            (String::new(), groups)
        }
    };
    if !user.is_empty() {
        spec["user"] = json!(user);
    }
    spec["groups"] = json!(groups);
    review(&spec)
}

#[test]
fn who_can_lists_exactly_whom_the_server_allows() {
    let seed = number(SEED).unwrap_or(0x0077_686f);
    println!("{SEED}={seed}");
    let world = World::with_controllers();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server {
        client: runtime.block_on(connect(&world)),
    };
    for namespace in NAMESPACES {
        world.kubectl(&["create", "namespace", namespace], "");
    }
    let mut random = Random::new(seed);
    runtime.block_on(server.replace_objects(0, &mut random));
    let exported = world.kubectl(&["get", KINDS, "--all-namespaces", "--output=json"], "");
    let manifests = world.path().join("who-can.json");
    fs::write(&manifests, &exported).unwrap();
    let report = scan(world.admin_kubeconfig());
    let known: Vec<Who> = report["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(who)
        .collect();

    let (mut asked, mut yes) = (0, 0);
    for (number, question) in questions(&mut random, 45).iter().enumerate() {
        let mut args = vec!["who-can"];
        args.extend(question.typed.iter().map(String::as_str));
        args.extend(["--output", "json"]);
        // some of the cluster itself, the rest of what was exported from it
        let finished = if number % 10 == 0 {
            run_on(world.admin_kubeconfig(), &args, "")
        } else {
            args.extend(["--source.manifests", manifests.to_str().unwrap()]);
            run_binary(&args, "")
        };
        assert_eq!(finished.code, 0, "{args:?}: {}", finished.stderr);
        let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        let listed: BTreeSet<Who> = answer["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .map(who)
            .collect();
        let reviews: Vec<Value> = known.iter().map(|w| of(w, &question.attributes)).collect();
        let allowed = runtime.block_on(server.ask(&reviews));
        for (who, allowed) in known.iter().zip(allowed) {
            asked += 1;
            yes += usize::from(allowed);
            assert_eq!(
                listed.contains(who),
                allowed,
                "{who:?} {:?} at {SEED}={seed}: the server says {allowed}",
                question.typed
            );
        }
        assert!(listed.iter().all(|w| known.contains(w)), "{listed:?}");
    }
    let share = yes * 100 / asked.max(1);
    println!("{asked} reviews of {} subjects, {share} % yes", known.len());
    assert!(
        asked > 3000 && share >= 5,
        "too little is asked, or granted"
    );
}
