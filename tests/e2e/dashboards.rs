//! Every query of every panel, asked of a real Prometheus.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::exporter::{Exporter, copy_of_demo};
use crate::harness::old::{now, rfc3339};
use crate::harness::process::temporary_directory;
use crate::harness::prometheus::{Prometheus, history_of};
use crate::harness::world::World;
use crate::harness::{eventually, repository};

/// Queries without data in a healthy cluster: a part of the expression, and the reason.
const EMPTY: &[(&str, &str)] = &[("rbac_exporter_watch_errors_total", "no watch fails")];

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
        // of a scrape a minute
        .replace("$__rate_interval", "4m")
        .replace("$cluster", cluster)
        .replace("$namespace", namespace)
        .replace("$priority", "critical|high|medium|low")
        .replace("$status", "open|accepted|builtin")
}

/// What a target was answered.
struct Answer {
    series: usize,
    /// Of 121, in the longest series; of a query that is not over time, one.
    steps: usize,
    took: Duration,
}

/// Over an hour, if over time.
fn ask(prometheus: &Prometheus, target: &Target, cluster: &str, namespace: &str) -> Answer {
    let expression = chosen(&target.expression, cluster, namespace);
    let start = Instant::now();
    let (series, steps) = if target.over_time {
        prometheus.query_range(&expression, 3600.0)
    } else {
        (prometheus.query(&expression).len(), 1)
    };
    Answer {
        series,
        steps,
        took: start.elapsed(),
    }
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

/// The demo, where somebody answers for three subjects: for long, for another week, and no longer.
fn demo_with_acceptances(dir: &TempDir) -> Exporter {
    let day = |from_now: i64| {
        let at = rfc3339(now() + from_now * 86_400);
        at.split('T').next().unwrap().to_owned()
    };
    let entry = |id: &str, subject: &str, findings: &[&str], expires: String| {
        json!({
            "id": id, "subject": subject, "findings": findings, "priority": "critical",
            "reason": "the tests' own", "owner": "platform", "expires": expires,
        })
    };
    let everything = ["wildcard-admin@*"];
    let config = json!({"accepted": [
        entry("tiller", "sa:kube-system/tiller", &everything, day(400)),
        entry("gitops", "sa:gitops/gitops-controller", &everything, day(7)),
        entry("release", "sa:ci/release-bot", &["serviceaccount-token-create@gitops"], day(-30)),
    ]});
    let file = dir.path().join("acceptances.yaml");
    // JSON is YAML.
    fs::write(&file, config.to_string()).unwrap();
    let demo = repository("deploy/demo");
    let args = [
        "--source.manifests".as_ref(),
        demo.as_os_str(),
        "--config.file".as_ref(),
        file.as_os_str(),
    ];
    Exporter::start(&args, None)
}

fn await_clusters(prometheus: &Prometheus, count: f64) {
    eventually(
        "all are scraped",
        Duration::from_secs(60),
        || match prometheus.query("count(rbac_exporter_build_info)").first() {
            Some((_, found)) if *found == count => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
}

/// The demo, and a real cluster that has no name, as most have not. What the panels show of an hour is made of what was
/// scraped and recorded before and after a grant, so that it lies behind them as it would after that hour; what they show
/// of now is scraped.
#[test]
fn every_panel_has_data_or_a_reason_to_have_none() {
    let world = World::shared();
    let live = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    let dir = temporary_directory();
    let demo = demo_with_acceptances(&dir);
    let rules = rules();
    let config = config(&[("", live.port()), ("demo", demo.port())], "500ms", &rules);
    let binding = |name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        })
    };
    let history = {
        let prometheus = Prometheus::configured(&config, &[]);
        await_clusters(&prometheus, 2.0);
        let recorded = |what: &str| {
            eventually(what, Duration::from_secs(30), || {
                let found = prometheus.query(what);
                (!found.is_empty())
                    .then_some(())
                    .ok_or_else(|| what.to_owned())
            });
        };
        // the last of a chain of rules
        recorded("rbac:slo_budget_left:ratio");
        let before = prometheus.everything();
        world.apply(&binding("dashboards-rise"));
        recorded("rbac:new_critical_subject:since_timestamp_seconds{name=\"dashboards-rise\"}");
        recorded("ALERTS{name=\"dashboards-rise\"}");
        let after = prometheus.everything();
        let at = now();
        // ended before what counts as now, so that this is scraped
        history_of(&[(at - 5000, before), (at - 2000, after)], at - 330)
    };
    let prometheus = Prometheus::remembering(&config, &[], &history);
    await_clusters(&prometheus, 2.0);
    let mut empty = vec![];
    eventually("what is missing is known", Duration::from_secs(40), || {
        empty = targets()
            .iter()
            .filter(|target| !target.excused())
            .filter_map(|target| {
                let answer = ask(&prometheus, target, ".*", ".*");
                let enough = if target.over_time { 100 } else { 1 };
                (answer.series == 0 || answer.steps < enough).then(|| {
                    format!(
                        "{} steps, {}: {}",
                        answer.steps, target.panel, target.expression
                    )
                })
            })
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
        let found = ask(&prometheus, target, ".*", ".*").series;
        assert_eq!(found, 0, "there is data of {}", target.expression);
    }
    let mut empty = vec![];
    for target in targets() {
        let of_namespaces = target.expression.contains("$namespace");
        let excused = target.excused() || EMPTY_IN_ONE.contains(&target.panel.as_str());
        if of_namespaces && !excused && ask(&prometheus, &target, ".*", "platform").series == 0 {
            empty.push(target.panel);
        }
    }
    assert!(empty.is_empty(), "in one namespace: {empty:?}");

    // --- what was accepted, as the panels show it
    let of = |panel: &str| {
        let targets = targets();
        let target = targets.iter().find(|t| t.panel == panel).expect(panel);
        prometheus.query(&chosen(&target.expression, ".*", ".*"))
    };
    let mut ids: Vec<_> = of("Accepted risks")
        .iter()
        .map(|(labels, at)| (at.to_owned(), labels["id"].as_str().unwrap().to_owned()))
        .collect();
    ids.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ids: Vec<_> = ids.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(
        ids,
        ["release", "gitops", "tiller"],
        "the next to expire first"
    );
    assert!(of("Next expiry")[0].1 < 0.0, "one has expired");
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
                "spec": {
                    "serviceAccountName": account, "hostPID": i % 50 == 0,
                    "containers": [{
                        "name": "main", "image": "example.invalid/app:1",
                        "volumeMounts": [{"name": "secret", "mountPath": "/tls"}],
                    }],
                    "volumes": [{"name": "secret", "secret": {"secretName": "tls"}}],
                },
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
    let recorded = |prometheus: &Prometheus| {
        await_clusters(prometheus, 1.0);
        eventually("the last rule has run", Duration::from_secs(60), || {
            let found = prometheus.query("rbac:slo_budget_left:ratio");
            (found.len() == 3)
                .then_some(())
                .ok_or_else(|| format!("{found:?}"))
        });
    };
    let history = {
        let prometheus = Prometheus::configured(&config, &[]);
        recorded(&prometheus);
        let at = now();
        history_of(&[(at - 4200, prometheus.everything())], at - 60)
    };
    let prometheus = Prometheus::remembering(&config, &[], &history);
    drop(history);
    recorded(&prometheus);
    let size = prometheus.query("max(scrape_samples_post_metric_relabeling)")[0].1;
    assert!(size > 40_000.0, "{size} series");
    let targets = targets();
    let mut short = vec![];
    let mut times: Vec<_> = targets
        .iter()
        // The quicker of two: the machine has other things to do.
        .map(|t| {
            let [one, two] = [(); 2].map(|()| ask(&prometheus, t, ".*", ".*"));
            if t.over_time && !t.excused() && one.steps < 100 {
                short.push(format!("{} steps of {}", one.steps, t.expression));
            }
            (one.took.min(two.took), &t.panel)
        })
        .collect();
    // what is quick because there is nothing to see says little
    assert!(short.is_empty(), "{short:#?}");
    times.sort();
    let (slowest, panel) = times.last().expect("there are queries");
    println!(
        "2,000 namespaces, {size} series: {} queries, those over time of an hour in 120 steps; the median took {:.0?}, the slowest {slowest:.0?} ({panel})",
        times.len(),
        times[times.len() / 2].0
    );
    assert!(*slowest < Duration::from_secs(1), "{panel}: {slowest:?}");
}

/// Each cluster has a Prometheus that remote-writes into one for all.
#[test]
fn a_fleet_is_added_up_and_a_cluster_that_is_gone_is_not_zero() {
    let smaller = copy_of_demo();
    fs::remove_file(smaller.path().join("30-ci.yaml")).unwrap();
    let args = ["--source.manifests".as_ref(), smaller.path().as_os_str()];
    let (east, mut west) = (demo(), Exporter::start(&args, None));
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
    let rules = rules();
    let central = Prometheus::configured(&config(&[], "500ms", &rules), &flags);
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

    // --- every panel, of either cluster; nothing is accepted here, and no namespace chosen
    let without = |cluster: &str| -> Vec<String> {
        let some = all
            .iter()
            .filter(|t| !t.excused() && !t.expression.contains("accepted_risk"));
        let empty = some.filter(|t| ask(&central, t, cluster, ".*").series == 0);
        empty
            .map(|t| format!("{}: {}", t.panel, t.expression))
            .collect()
    };
    let all_panels = |cluster: &str| {
        eventually(cluster, Duration::from_secs(30), || {
            let empty = without(cluster);
            if empty.is_empty() {
                Ok(())
            } else {
                Err(empty.join("\n"))
            }
        });
    };
    all_panels("east");
    all_panels("west");

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
    all_panels("east");
}
