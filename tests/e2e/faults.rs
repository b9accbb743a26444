//! Servers that die, and servers that are slow.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::exposition::Samples;
use crate::harness::http;
use crate::harness::relay::SlowRelay;
use crate::harness::world::World;

/// The resources that are watched, as the `resource` label names them.
const WATCHED: [&str; 7] = [
    "clusterroles",
    "roles",
    "clusterrolebindings",
    "rolebindings",
    "serviceaccounts",
    "pods",
    "namespaces",
];

/// Objects that give every kind of risk series something to show.
fn populate(world: &World) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "worker", "namespace": "default"},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker", "namespace": "default"},
        "spec": {
            "serviceAccountName": "worker",
            "containers": [{"name": "main", "image": "example.invalid/worker:1"}],
        },
    });
    let mut items = vec![account, pod];
    for number in 0..20 {
        let metadata = json!({"name": format!("worker-{number}"), "namespace": "default"});
        items.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"]}],
        }));
        items.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
                "name": format!("worker-{number}"),
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": "worker", "namespace": "default"},
                {"kind": "User", "apiGroup": "rbac.authorization.k8s.io",
                 "name": format!("user-{number}")},
            ],
        }));
    }
    eventually("the namespace is there", Duration::from_secs(10), || {
        let answer = world.try_kubectl(&["get", "namespace", "default"], "");
        if answer.code == 0 {
            Ok(())
        } else {
            Err(answer.stderr)
        }
    });
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
}

fn risky_users(samples: &Samples) -> f64 {
    samples.sum(
        "rbac_risky_subjects",
        &[("kind", "User"), ("status", "open")],
    )
}

#[test]
fn a_killed_api_server_changes_no_judgement() {
    let mut world = World::bare();
    populate(&world);
    let exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    let before = exporter.scrape();
    assert_eq!(risky_users(&before), 20.0);
    let errors = |samples: &Samples| samples.sum("rbac_exporter_watch_errors_total", &[]);

    let unchanged = |now: &Samples, when: &str| {
        let differences = now.judgement().differences(&before.judgement());
        assert!(
            differences.is_empty(),
            "{when}:\n{}",
            differences.join("\n")
        );
    };
    world.kill_api_server();
    eventually("watch errors are counted", Duration::from_secs(15), || {
        let now = exporter.scrape();
        unchanged(&now, "the API server has died");
        if errors(&now) > errors(&before) {
            Ok(())
        } else {
            Err("no errors".to_owned())
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        unchanged(&exporter.scrape(), "the API server is down");
        sleep(Duration::from_millis(50));
    }
    // It still has something to tell, and a restart would only lose that.
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    assert_eq!(exporter.get("/-/ready", &[]).status, 200);

    world.start_api_server();
    unchanged(&exporter.scrape(), "the API server is back");
    world.kubectl(
        &[
            "create",
            "clusterrolebinding",
            "new",
            "--clusterrole=cluster-admin",
            "--user=new",
        ],
        "",
    );
    let (_, took) = eventually("a change after the outage", Duration::from_secs(60), || {
        let have = risky_users(&exporter.scrape());
        if have == 21.0 {
            Ok(())
        } else {
            Err(format!("{have} risky users"))
        }
    });
    println!("seen again {took:.1?} after the restart");
    world.kubectl(&["delete", "clusterrolebinding", "new"], "");
    eventually("all is as before", Duration::from_secs(60), || {
        let counters = "rbac_subject_escalations_total";
        let differences: Vec<_> = exporter
            .scrape()
            .judgement()
            .differences(&before.judgement())
            .into_iter()
            // The rise of the new user has happened.
            .filter(|line| !line.starts_with(counters))
            .collect();
        if differences.is_empty() {
            Ok(())
        } else {
            Err(differences.join("\n"))
        }
    });
}

#[test]
fn a_slow_first_list_is_never_shown_in_part() {
    let world = World::bare();
    populate(&world);
    let relay = SlowRelay::start(world.port());
    let kubeconfig = world.exporter_kubeconfig(relay.port());
    let mut exporter = Exporter::launch(&["serve"], Some(&kubeconfig));

    let start = Instant::now();
    let mut waiting_bodies = BTreeSet::new();
    let first = loop {
        exporter.process().check_alive();
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{waiting_bodies:?}"
        );
        // It may not listen yet.
        let Ok(answer) = http::get(exporter.port(), "/metrics", &[]) else {
            continue;
        };
        if answer.status == 200 {
            break Samples::parse(answer.text());
        }
        assert_eq!(answer.status, 503, "{}", answer.text());
        let body = answer.text();
        for resource in WATCHED {
            assert!(
                body.contains(resource),
                "the state of {resource} is missing: {body}"
            );
        }
        assert!(!body.contains("rbac_risky"), "a part is shown: {body}");
        let is_new = waiting_bodies.insert(body.to_owned());
        if is_new {
            for path in ["/", "/api/v1/report"] {
                let status = exporter.get(path, &[]).status;
                // It may have become ready since.
                let ready = exporter.get("/-/ready", &[]).status == 200;
                assert!(
                    status == 503 || ready,
                    "GET {path} during the first list: {status}"
                );
            }
            assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
        }
        sleep(Duration::from_millis(10));
    };
    println!(
        "whole after {:.1?}; states seen before: {}",
        start.elapsed(),
        waiting_bodies.len()
    );
    assert!(
        waiting_bodies.len() > 1,
        "the list was not slow enough to see it: {waiting_bodies:?}"
    );

    // Whole means: what an exporter shows that nothing slowed down.
    relay.full_speed();
    let quick = Exporter::watch(&world.exporter_kubeconfig(world.port())).scrape();
    let differences = first.judgement().differences(&quick.judgement());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(risky_users(&first), 20.0);
}

#[test]
fn a_termination_is_obeyed_before_and_after_the_first_list() {
    let within = Duration::from_secs(10);
    let world = World::shared();
    let mut ready = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    assert_eq!(ready.process().terminate(within).code(), Some(0));

    let relay = SlowRelay::start(world.port());
    let kubeconfig = world.exporter_kubeconfig(relay.port());
    let mut waiting = Exporter::launch(&["serve"], Some(&kubeconfig));
    eventually("it listens", within, || {
        let answer = http::get(waiting.port(), "/-/ready", &[]).map_err(|e| e.to_string())?;
        if answer.status == 503 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    assert_eq!(waiting.process().terminate(within).code(), Some(0));
}
