//! Every query of every panel, asked of a real Prometheus.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::exporter::Exporter;
use crate::harness::process::temporary_directory;
use crate::harness::prometheus::Prometheus;
use crate::harness::world::World;
use crate::harness::{eventually, repository};

/// Queries without data in a healthy cluster without a configuration file: a part of the expression,
/// and the reason.
const EMPTY: &[(&str, &str)] = &[
    ("rbac_accepted_risk_expiry", "nothing is accepted"),
    ("rbac_exporter_watch_errors_total", "no watch fails"),
];

/// Panels that say in words what one namespace lacks of which the whole cluster has some.
const EMPTY_IN_ONE: &[&str] = &[
    "Pods that can take their node",
    "Pods that receive Secrets",
    "Rises seen",
];

struct Target {
    panel: String,
    over_time: bool,
    expression: String,
}

impl Target {
    fn excused(&self) -> bool {
        EMPTY.iter().any(|(part, _)| self.expression.contains(part))
    }
}

/// What the panels of all dashboards ask.
fn targets() -> Vec<Target> {
    let files = fs::read_dir(repository("dashboards")).unwrap();
    let mut found = vec![];
    for path in files.map(|file| file.unwrap().path()) {
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                found.push(Target {
                    panel: panel["title"].as_str().unwrap().to_owned(),
                    over_time: target["range"] == true,
                    expression: target["expr"].as_str().unwrap().to_owned(),
                });
            }
        }
    }
    assert!(found.len() > 50, "{} queries", found.len());
    found
}

/// What Grafana makes of an expression.
fn chosen(expression: &str, cluster: &str, namespace: &str) -> String {
    expression
        .replace("$__rate_interval", "15s")
        .replace("$cluster", cluster)
        .replace("$namespace", namespace)
        .replace("$priority", "critical|high|medium|low")
        .replace("$status", "open|accepted|builtin")
}

/// Number of series, and how long that took.
fn ask(prometheus: &Prometheus, target: &Target, namespace: &str) -> (usize, Duration) {
    let expression = chosen(&target.expression, ".*", namespace);
    let start = Instant::now();
    let series = if target.over_time {
        prometheus.query_range(&expression, 30.0)
    } else {
        prometheus.query(&expression).len()
    };
    (series, start.elapsed())
}

/// The rules, all at the pace of the global interval: no test waits for what comes every five minutes.
fn rules() -> TempDir {
    let dir = temporary_directory();
    for file in fs::read_dir(repository("alerts/rules")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let quick = text.replace("interval: 5m\n", "interval: 0s\n");
        fs::write(dir.path().join(path.file_name().unwrap()), quick).unwrap();
    }
    dir
}

fn config(targets: &[(&str, u16)], interval: &str, rules: &TempDir) -> Value {
    let targets: Vec<Value> = targets
        .iter()
        .map(|(cluster, port)| {
            json!({"targets": [format!("127.0.0.1:{port}")], "labels": {"cluster": cluster}})
        })
        .collect();
    json!({
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [rules.path().join("*.yaml")],
        "scrape_configs": [{
            "job_name": "rbac-exporter",
            "honor_labels": true,
            "static_configs": targets,
        }],
    })
}

fn demo() -> Exporter {
    let demo = repository("deploy/demo");
    Exporter::start(&["--source.manifests".as_ref(), demo.as_os_str()], None)
}

/// The demo, and a real cluster that has no name, as most have not.
#[test]
fn every_panel_has_data_or_a_reason_to_have_none() {
    let world = World::shared();
    let live = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    let demo = demo();
    let rules = rules();
    let config = config(&[("", live.port()), ("demo", demo.port())], "500ms", &rules);
    let prometheus = Prometheus::configured(&config, &[]);
    let binding = |name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        })
    };
    // Until the clusters are seen, and long enough for a rate and an alert.
    eventually(
        "both are scraped",
        Duration::from_secs(20),
        || match prometheus.query("count(rbac_exporter_build_info)").first() {
            Some((_, 2.0)) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    world.apply(&binding("dashboards-rise"));
    let mut empty = vec![];
    eventually("what is missing is known", Duration::from_secs(40), || {
        empty = targets()
            .iter()
            .filter(|target| !target.excused() && ask(&prometheus, target, ".*").0 == 0)
            .map(|target| format!("{}: {}", target.panel, target.expression))
            .collect();
        if empty.is_empty() {
            Ok(())
        } else {
            Err(empty.join("\n"))
        }
    });
    world.kubectl(&["delete", "clusterrolebinding", "dashboards-rise"], "");

    // A reason that no longer holds is no reason.
    for target in targets().iter().filter(|target| target.excused()) {
        let (series, _) = ask(&prometheus, target, ".*");
        assert_eq!(series, 0, "there is data of {}", target.expression);
    }
    let mut empty = vec![];
    for target in targets() {
        let of_namespaces = target.expression.contains("$namespace");
        let excused = target.excused() || EMPTY_IN_ONE.contains(&target.panel.as_str());
        if of_namespaces && !excused && ask(&prometheus, &target, "platform").0 == 0 {
            empty.push(target.panel);
        }
    }
    assert!(empty.is_empty(), "in one namespace: {empty:?}");
}

/// As `deploy/demo` has them, so many times: objects as a stream of JSON documents.
pub(crate) fn big_cluster(namespaces: usize) -> String {
    let mut objects = vec![];
    let rbac = "rbac.authorization.k8s.io";
    for i in 0..namespaces {
        let namespace = format!("team-{i:04}");
        objects.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
        let (verbs, resources) = match i % 4 {
            0 => (["get", "list"], ["secrets", "pods"]),
            1 => (["create", "patch"], ["pods", "services"]),
            2 => (["*", "get"], ["*", "pods"]),
            _ => (["get", "list"], ["configmaps", "pods"]),
        };
        objects.push(json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role",
            "metadata": {"name": "app", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}],
        }));
        objects.push(json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "app", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "app"},
            "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": namespace}],
        }));
        if i % 20 == 0 {
            objects.push(json!({
                "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
                "metadata": {"name": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": namespace}],
            }));
        }
        for account in ["app", "default"] {
            objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}));
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": account, "namespace": namespace},
                "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "example.invalid/app:1"}]},
            }));
        }
    }
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

#[test]
fn every_query_is_quick_at_2000_namespaces() {
    let dir = temporary_directory();
    let file = dir.path().join("cluster.yaml");
    fs::write(&file, big_cluster(2_000)).unwrap();
    let mut exporter = Exporter::launch(&["--source.manifests".as_ref(), file.as_os_str()], None);
    exporter.await_ready(Duration::from_secs(120));
    let rules = rules();
    let config = config(&[("big", exporter.port())], "5s", &rules);
    let prometheus = Prometheus::configured(&config, &[]);
    eventually(
        "it has been scraped for 30 s",
        Duration::from_secs(90),
        || {
            let seen = prometheus.query("count_over_time(up[1h])");
            match seen.first() {
                Some((_, scrapes)) if *scrapes >= 7.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    );
    let size = prometheus.query("max(scrape_samples_post_metric_relabeling)")[0].1;
    assert!(size > 40_000.0, "{size} series");
    let targets = targets();
    let mut times: Vec<_> = targets
        .iter()
        // The quicker of two: the machine has other things to do.
        .map(|t| {
            (
                ask(&prometheus, t, ".*").1.min(ask(&prometheus, t, ".*").1),
                &t.panel,
            )
        })
        .collect();
    times.sort();
    let (slowest, panel) = times.last().expect("there are queries");
    println!(
        "2,000 namespaces, {size} series: {} queries, those over time in 120 steps; the median took {:.0?}, the slowest {slowest:.0?} ({panel})",
        times.len(),
        times[times.len() / 2].0
    );
    assert!(*slowest < Duration::from_secs(1), "{panel}: {slowest:?}");
}

/// Each cluster has a Prometheus that remote-writes into one for all.
#[test]
fn a_fleet_is_added_up_and_a_cluster_that_is_gone_is_not_zero() {
    let one_namespace = temporary_directory();
    fs::copy(
        repository("deploy/demo/20-platform.yaml"),
        one_namespace.path().join("platform.yaml"),
    )
    .unwrap();
    let (east, mut west) = (
        demo(),
        Exporter::start(
            &[
                "--source.manifests".as_ref(),
                one_namespace.path().as_os_str(),
            ],
            None,
        ),
    );
    let count = |exporter: &Exporter| {
        let critical = [("priority", "critical"), ("status", "open")];
        exporter.scrape().sum("rbac_risky_subjects", &critical)
    };
    let (of_east, of_west) = (count(&east), count(&west));
    assert!(of_east > 0.0 && of_west > 0.0 && of_east != of_west);

    // What has not been heard of for three seconds is gone, instead of for five minutes.
    let flags = [
        "--web.enable-remote-write-receiver",
        "--query.lookback-delta=3s",
    ];
    let central = Prometheus::configured(&json!({}), &flags);
    let url = format!("http://127.0.0.1:{}/api/v1/write", central.port());
    let edge = |cluster: &str, exporter: &Exporter| {
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "external_labels": {"cluster": cluster}},
            "scrape_configs": [{
                "job_name": "rbac-exporter", "honor_labels": true,
                "static_configs": [{"targets": [format!("127.0.0.1:{}", exporter.port())]}],
            }],
            "remote_write": [{"url": url, "queue_config": {"batch_send_deadline": "200ms"}}],
        });
        Prometheus::configured(&config, &[])
    };
    let _edge_of_east = edge("east", &east);
    let mut edge_of_west = edge("west", &west);

    let all = targets();
    let of = |panel: &str, letter: usize| {
        let mut targets = all.iter().filter(|t| t.panel == panel);
        &targets.nth(letter).expect(panel).expression
    };
    let value = |expression: &str, cluster: &str| -> Vec<(String, f64)> {
        let mut found: Vec<_> = central
            .query(&chosen(expression, cluster, ".*"))
            .into_iter()
            .map(|(labels, value)| {
                (
                    labels["cluster"].as_str().unwrap_or_default().to_owned(),
                    value,
                )
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    let pair = |cluster: &str, value: f64| (cluster.to_owned(), value);
    let becomes = |what: &str, expression: &str, cluster: &str, wanted: &[(String, f64)]| {
        eventually(what, Duration::from_secs(20), || {
            let found = value(expression, cluster);
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found:?} instead of {wanted:?}"))
            }
        });
    };
    let (total, missing) = (of("Critical subjects", 0), of("Clusters missing", 0));
    let (state, critical) = (of("Clusters", 0), of("Clusters", 2));
    becomes(
        "both",
        critical,
        ".*",
        &[pair("east", of_east), pair("west", of_west)],
    );
    becomes("the sum", total, ".*", &[pair("", of_east + of_west)]);
    becomes("one that was chosen", total, "west", &[pair("", of_west)]);
    becomes("nothing is missing", missing, ".*", &[pair("", 0.0)]);
    becomes(
        "both report",
        state,
        ".*",
        &[pair("east", 1.0), pair("west", 1.0)],
    );

    // --- the exporter of one is gone, its Prometheus says so
    west.process().kill();
    becomes(
        "one is gone",
        state,
        ".*",
        &[pair("east", 1.0), pair("west", 0.0)],
    );
    becomes("one is missing", missing, ".*", &[pair("", 1.0)]);
    becomes(
        "its number is unknown",
        critical,
        ".*",
        &[pair("east", of_east)],
    );
    becomes("and not zero", total, "west", &[]);

    // --- its Prometheus is gone too, nobody says anything
    edge_of_west.kill();
    let up = "up{cluster=\"west\"}";
    becomes("nothing is heard of it", up, ".*", &[]);
    becomes(
        "it is gone all the same",
        state,
        ".*",
        &[pair("east", 1.0), pair("west", 0.0)],
    );
    becomes("and counted", missing, ".*", &[pair("", 1.0)]);
    becomes("the other is as it was", total, ".*", &[pair("", of_east)]);
}
