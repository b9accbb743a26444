//! What the binary exports of the demo and of nothing at all, against the metric table: every family
//! has series, with the table's labels, and series of value 0 where, and only where, they are promised.

use crate::command::{Input, Server, demo, samples};
use rbac_exporter::export::metrics::{Kind, TABLE};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const RISKY: [&str; 4] = ["low", "medium", "high", "critical"];
const ALL: [&str; 5] = ["none", "low", "medium", "high", "critical"];

/// A name and its labels in order.
type Series = (String, Vec<(String, String)>);

/// Series with their labels taken apart. No value of the demo has a comma or a quote in it.
fn scrape(server: &Server) -> BTreeMap<Series, f64> {
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200, "{text}");
    let apart = |series: &str| -> Series {
        let Some((name, labels)) = series.split_once('{') else {
            return (series.to_owned(), vec![]);
        };
        let labels = labels.trim_end_matches('}').split(',');
        let pairs = labels.filter(|pair| !pair.is_empty()).map(|pair| {
            let (label, value) = pair.split_once('=').unwrap();
            (label.to_owned(), value.trim_matches('"').to_owned())
        });
        (name.to_owned(), pairs.collect())
    };
    samples(&text)
        .iter()
        .map(|(series, value)| (apart(series), value.parse().unwrap()))
        .collect()
}

#[test]
fn every_family_of_the_table_has_series_with_its_labels() {
    // with a risk that somebody accepted
    let config = ["--config.file", "deploy/config.example.yaml"];
    let found = scrape(&Server::with(Path::new(demo()), &config));
    let mut known = BTreeSet::new();
    for family in TABLE {
        let parts: Vec<String> = match family.kind {
            Kind::Gauge | Kind::Counter => vec![family.name.to_owned()],
            Kind::Histogram => ["bucket", "sum", "count"]
                .map(|part| format!("{}_{part}", family.name))
                .into(),
        };
        for part in parts {
            let series: Vec<&Series> = found.keys().filter(|(name, _)| *name == part).collect();
            assert!(!series.is_empty(), "{part}");
            for (_, labels) in series {
                let names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
                let bucket = part.ends_with("_bucket").then_some("le");
                let expected: Vec<&str> = family.labels.iter().copied().chain(bucket).collect();
                assert_eq!(names, expected, "{part}");
            }
            known.insert(part);
        }
    }
    let others = found.keys().map(|(name, _)| name);
    for name in others.filter(|name| !known.contains(*name)) {
        assert!(name.starts_with("process_"), "{name} is not in the table");
    }
}

/// Every namespace that the report or a Namespace object names, and that of what has none.
fn namespaces(server: &Server, objects: &[String]) -> BTreeSet<String> {
    let report: Value = serde_json::from_str(&server.get("/api/v1/report").1).unwrap();
    let mut all: BTreeSet<String> = objects.iter().cloned().collect();
    all.insert(String::new());
    for list in ["subjects", "pods", "roles", "bindings"] {
        let entries = report[list].as_array().unwrap();
        // a shipped role that nothing binds lies nowhere
        let here = entries
            .iter()
            .filter(|e| e["source"] != "shipped" || e["bound"] == true);
        all.extend(here.map(|e| e["namespace"].as_str().unwrap().to_owned()));
    }
    all
}

/// The names of the Namespace objects of the demo.
fn namespace_objects() -> Vec<String> {
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    let text = std::fs::read_to_string(format!("{}/00-namespaces.yaml", demo())).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text);
    let objects = documents.filter_map(|d| Object::deserialize(d).ok());
    let spaces = objects.filter(|o| o.kind == "Namespace");
    spaces.map(|o| o.metadata.name).collect()
}

/// The series that are there whatever their value, for the last column of the table of families.
fn initialised(namespaces: &BTreeSet<String>) -> BTreeSet<Series> {
    let mut out = BTreeSet::new();
    let mut put = |name: &str, labels: &[(&str, &str)]| {
        let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
        out.insert((name.to_owned(), labels.iter().map(owned).collect()));
    };
    for ns in namespaces {
        let ns = ("namespace", ns.as_str());
        let cluster = ns.1.is_empty();
        let kinds: &[&str] = if cluster {
            &["Group", "User"]
        } else {
            &["ServiceAccount"]
        };
        for kind in kinds {
            put("rbac_subjects", &[ns, ("kind", kind)]);
        }
        for family in ["rbac_pods", "rbac_needless_token_pods"] {
            put(family, &[ns]);
        }
        let role = ("kind", if cluster { "ClusterRole" } else { "Role" });
        for priority in ALL {
            let level = [ns, ("priority", priority), ("status", "open")];
            put("rbac_automount_pods", &level[..2]);
            put("rbac_wildcard_rules", &[ns, role, level[1], level[2]]);
            if cluster {
                put("rbac_node_escape_pods", &level);
            }
        }
        for priority in RISKY {
            let [_, priority, status] = [ns, ("priority", priority), ("status", "open")];
            put("rbac_hot_pods", &[ns, priority, status]);
            for kind in kinds {
                let labels = [ns, ("kind", kind), priority, status];
                put("rbac_risky_subjects", &labels);
            }
            if !cluster {
                continue;
            }
            for bound in ["true", "false"] {
                let labels = [ns, role, priority, ("bound", bound), status];
                put("rbac_risky_roles", &labels);
            }
            let binding = ("kind", "ClusterRoleBinding");
            put("rbac_risky_bindings", &[ns, binding, priority, status]);
            put("rbac_idle_risky_serviceaccounts", &[ns, priority, status]);
            put("rbac_subject_escalations_total", &[ns, priority]);
        }
        if cluster {
            for reason in ["role-missing", "serviceaccount-missing"] {
                let binding = ("kind", "ClusterRoleBinding");
                put("rbac_dangling_bindings", &[ns, binding, ("reason", reason)]);
            }
        }
    }
    out
}

#[test]
fn series_of_value_0_are_where_they_are_promised_and_nowhere_else() {
    let nothing = Input::new("");
    let inputs = [
        (Path::new(demo()), namespace_objects()),
        (nothing.path.as_path(), vec![]),
    ];
    for (input, objects) in inputs {
        let server = Server::start(input);
        let spaces = namespaces(&server, &objects);
        assert_eq!(spaces.len() > 1, !objects.is_empty(), "{spaces:?}");
        let promised = initialised(&spaces);
        let found = scrape(&server);
        for series in &promised {
            assert!(found.contains_key(series), "{series:?} of {input:?}");
        }
        let about_the_cluster =
            |name: &str| name.starts_with("rbac_") && !name.starts_with("rbac_exporter_");
        let zero = found.iter().filter(|(_, value)| **value == 0.0);
        for (series, _) in zero.filter(|(series, _)| about_the_cluster(&series.0)) {
            assert!(promised.contains(series), "{series:?} of {input:?}");
        }
        if objects.is_empty() {
            let counted = found
                .iter()
                .filter(|((name, _), _)| about_the_cluster(name));
            let counted: Vec<_> = counted.filter(|(_, value)| **value != 0.0).collect();
            assert!(counted.is_empty(), "{counted:?}");
        }
    }
}

#[test]
fn the_self_check_runs_after_the_start_and_finds_nothing() {
    let server = Server::start(Path::new(demo()));
    let last = "rbac_exporter_selfcheck_last_run_timestamp_seconds";
    server.until(Duration::from_secs(20), |s| s.sum(last, "") > 1.6e9);
    let family = "rbac_exporter_selfcheck_differences";
    assert_eq!(server.sum(family, ""), 0.0);
    let found = scrape(&server);
    assert!(found.contains_key(&(family.to_owned(), vec![])));
}
