//! Servers that die, and servers that are slow.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::exporter::{Exporter, find, run_on, scan};
use crate::harness::exposition::Samples;
use crate::harness::http;
use crate::harness::relay::SlowRelay;
use crate::harness::world::World;
use crate::table::recovered;

/// The resources that are watched, as the `resource` label names them.
pub(crate) const WATCHED: [&str; 7] = [
    "clusterroles",
    "roles",
    "clusterrolebindings",
    "rolebindings",
    "serviceaccounts",
    "pods",
    "namespaces",
];

/// What all that could be quicker than on a quick machine: longer than a broken watch is resumed after.
const A_GAP: Duration = Duration::from_secs(2);

/// Objects that give every kind of risk series something to show.
pub(crate) fn populate(world: &World) {
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
    await_namespace(world);
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
}

/// Waits for the namespace `default`, which a new server makes in its own time.
fn await_namespace(world: &World) {
    eventually("the namespace is there", Duration::from_secs(10), || {
        let answer = world.try_kubectl(&["get", "namespace", "default"], "");
        if answer.code == 0 {
            Ok(())
        } else {
            Err(answer.stderr)
        }
    });
}

/// Makes a user critical, waits until the exporter says so, and gives the time that took.
pub(crate) fn sees_a_new_user(
    world: &World,
    exporter: &Exporter,
    name: &str,
    within: Duration,
) -> Duration {
    let user = format!("--user={name}");
    let create = [
        "create",
        "clusterrolebinding",
        name,
        "--clusterrole=cluster-admin",
        &user,
    ];
    world.kubectl(&create, "");
    let (_, took) = eventually("a new user is seen", within, || {
        let samples = exporter.scrape();
        let labels = [("kind", "User"), ("name", name), ("priority", "critical")];
        let seen = samples.sum("rbac_risky_subject_since_timestamp_seconds", &labels);
        (seen > 0.0)
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
    took
}

pub(crate) fn risky_users(samples: &Samples) -> f64 {
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
    recovered("API server killed", took);
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

/// The server forgot what happened while nobody could watch: everything is listed anew, and what went
/// away meanwhile is gone.
#[test]
fn what_was_compacted_meanwhile_is_listed_anew() {
    let mut world = World::bare();
    populate(&world);
    let mut exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    assert_eq!(risky_users(&exporter.scrape()), 20.0);
    // It sleeps through everything.
    exporter.process().signal("STOP");
    // So that the new server's history begins after what it has seen.
    world.kubectl(&["create", "namespace", "later"], "");
    world.kill_api_server();
    world.start_api_server();
    world.kubectl(&["delete", "rolebinding", "worker-7", "-n", "default"], "");
    world.compact_etcd();
    sleep(A_GAP);
    exporter.process().signal("CONT");
    let (_, took) = eventually("what is gone is gone", Duration::from_secs(60), || {
        let have = risky_users(&exporter.scrape());
        (have == 19.0)
            .then_some(())
            .ok_or(format!("{have} risky users"))
    });
    let expired = [("reason", "expired")];
    let told = exporter
        .scrape()
        .sum("rbac_exporter_watch_errors_total", &expired);
    recovered("etcd compacted", took);
    // After so long nobody asks whether the version is still good.
    assert_eq!(told, 0.0);
    assert_eq!(
        scan(&world.exporter_kubeconfig(world.port()))["subjects"],
        exporter.report()["subjects"]
    );
}

/// etcd is restored from a backup and written to until its versions have passed the last that the exporter
/// has seen, all before it is back. Nothing that this server answers differs from one that was restarted.
#[test]
fn a_restore_that_looks_like_a_restart_is_listed_anew() {
    let mut world = World::bare();
    populate(&world);
    let kubeconfig = world.exporter_kubeconfig(world.port());
    world.kill_api_server();
    world.kill_etcd();
    world.back_up_etcd("backup");
    world.start_etcd();
    world.start_api_server();
    let admin = world.admin();
    let change_something = |turn: u64| -> u64 {
        let label = json!({"metadata": {"labels": {"turn": turn.to_string()}}});
        let namespace = admin.merge("/api/v1/namespaces/default", &label).unwrap();
        let version = namespace["metadata"]["resourceVersion"].as_str();
        version.and_then(|v| v.parse().ok()).expect("a number")
    };
    let mut exporter = Exporter::watch(&kubeconfig);
    for turn in 0..200 {
        change_something(turn);
    }
    sees_a_new_user(&world, &exporter, "lost", Duration::from_secs(10));
    let seen = change_something(200);

    exporter.process().signal("STOP");
    world.kill_api_server();
    world.kill_etcd();
    world.restore_etcd("backup");
    world.start_etcd();
    world.start_api_server();
    let restored = change_something(0);
    assert!(restored < seen, "nothing was lost: {restored}, {seen}");
    world.kubectl(
        &[
            "create",
            "clusterrolebinding",
            "instead",
            "--clusterrole=cluster-admin",
            "--user=instead",
        ],
        "",
    );
    for turn in 1.. {
        if change_something(turn) > seen + 10 {
            break;
        }
    }
    sleep(A_GAP);
    exporter.process().signal("CONT");
    let (_, took) = eventually("the restored state", Duration::from_secs(31), || {
        let subjects = exporter.report()["subjects"].clone();
        let has = |name: &str| find(&subjects, "User", "", name).is_some();
        match (has("lost"), has("instead")) {
            (false, true) => Ok(()),
            seen => Err(format!("lost and instead are seen: {seen:?}")),
        }
    });
    recovered("restarted with an older state that has passed ours", took);
    assert_eq!(scan(&kubeconfig)["subjects"], exporter.report()["subjects"]);
    let expired = [("reason", "expired")];
    let samples = exporter.scrape();
    let told = samples.sum("rbac_exporter_watch_errors_total", &expired);
    assert_eq!(
        told, 0.0,
        "the server told them apart, so that nothing is shown here"
    );
}

/// Waits for a moment, and starts the server anew: streams that were opened before end with the old one.
fn restart_at(world: &mut World, moment: SystemTime) {
    sleep(moment.duration_since(SystemTime::now()).unwrap_or_default());
    world.kill_api_server();
    world.start_api_server();
}

/// A client certificate that runs out and is replaced on disk, a server that comes back with another
/// authority, a plugin whose client certificate runs out, and an account that is made again, so that its tokens are others.
#[test]
fn rotated_credentials_are_taken_up_without_a_restart() {
    let mut world = World::installed();
    let within = Duration::from_secs(90);
    let first_ends = SystemTime::now() + Duration::from_secs(20);
    let directory = world.path().to_owned();
    let place = |name: &str| directory.join(name);
    let (certificate, key) = (place("exporter.crt"), place("exporter.key"));
    let user = json!({"client-certificate": certificate, "client-key": key});
    let issue = |world: &World, until: SystemTime| {
        let pair = world.issue("exporter", until);
        std::fs::write(&certificate, pair.0).unwrap();
        std::fs::write(&key, pair.1).unwrap();
    };
    issue(&world, first_ends);
    world.exporter_kubeconfig(world.port());
    let bind = [
        "create",
        "clusterrolebinding",
        "exporter",
        "--clusterrole=rbac-exporter",
        "--user=exporter",
    ];
    world.kubectl(&bind, "");
    let kubeconfig = world.kubeconfig_file("certificate.kubeconfig", world.port(), &user);
    let exporter = Exporter::watch(&kubeconfig);

    // The old one runs out while the streams that it opened go on; they end with the server.
    issue(&world, SystemTime::now() + Duration::from_secs(3600));
    restart_at(&mut world, first_ends);
    let took = sees_a_new_user(&world, &exporter, "one", within);
    println!("a client certificate replaced:");
    recovered("token, client certificate, CA rotated", took);

    world.kill_api_server();
    world.forget_certificate();
    world.start_api_server();
    let took = sees_a_new_user(&world, &exporter, "two", within);
    println!("an authority replaced:");
    recovered("token, client certificate, CA rotated", took);
    drop(exporter);

    let credential = place("credential.json");
    let first_ends = SystemTime::now() + Duration::from_secs(20);
    let issue_by_plugin = |until: SystemTime| {
        let (certificate, key) = world.issue("exporter", until);
        let ends = jiff::Timestamp::try_from(until).unwrap().to_string();
        let credential_of = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"clientCertificateData": certificate, "clientKeyData": key,
                       "expirationTimestamp": ends},
        });
        std::fs::write(&credential, credential_of.to_string()).unwrap();
    };
    issue_by_plugin(first_ends);
    let user = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [credential],
        "interactiveMode": "Never",
    }});
    let kubeconfig = world.kubeconfig_file("plugin.kubeconfig", world.port(), &user);
    let exporter = Exporter::watch(&kubeconfig);
    issue_by_plugin(SystemTime::now() + Duration::from_secs(3600));
    restart_at(&mut world, first_ends);
    let took = sees_a_new_user(&world, &exporter, "plugin", within);
    recovered("plugin's client certificate expired", took);
    drop(exporter);

    let kubeconfig = world.exporter_kubeconfig(world.port());
    let exporter = Exporter::watch(&kubeconfig);
    world.kubectl(
        &[
            "delete",
            "serviceaccount",
            "rbac-exporter",
            "-n",
            "rbac-exporter",
        ],
        "",
    );
    // Writes another token to the same file.
    world.exporter_kubeconfig(world.port());
    world.kill_api_server();
    world.start_api_server();
    let took = sees_a_new_user(&world, &exporter, "three", within);
    println!("a token replaced:");
    recovered("token, client certificate, CA rotated", took);
}

/// Contract §7: nothing less than every RBAC resource of the whole cluster will do; pods may be left out.
#[test]
fn rights_that_are_too_few_are_refused_in_one_sentence() {
    let world = World::shared();
    let space = "too-few";
    world.kubectl(&["create", "namespace", space], "");
    world.exporter_kubeconfig(world.port());
    for name in ["local", "podless"] {
        world.kubectl(&["create", "serviceaccount", name, "-n", space], "");
    }
    let rbac = "rbac.authorization.k8s.io";
    let account =
        |name: &str| json!([{"kind": "ServiceAccount", "namespace": space, "name": name}]);
    let role = |name: &str| json!({"apiGroup": rbac, "kind": "ClusterRole", "name": name});
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
         "metadata": {"name": "local", "namespace": space},
         "roleRef": role("rbac-exporter"), "subjects": account("local")},
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "podless"},
         "rules": [
            {"apiGroups": [rbac], "verbs": ["list", "watch"],
             "resources": ["clusterroles", "roles", "clusterrolebindings", "rolebindings"]},
            {"apiGroups": [""], "verbs": ["list", "watch"], "resources": ["serviceaccounts", "namespaces"]}]},
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "podless"},
         "roleRef": role("podless"), "subjects": account("podless")},
    ]}));
    let local = world.account_kubeconfig(space, "local", world.port());
    let podless = world.account_kubeconfig(space, "podless", world.port());

    for (kubeconfig, resource) in [(&local, ""), (&podless, "pods")] {
        let refused = run_on(kubeconfig, &["scan", "--output", "json"], "");
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (3, ""),
            "{}",
            refused.stderr
        );
        let said: Vec<&str> = refused
            .stderr
            .lines()
            .filter(|line| line.starts_with("rbac-exporter: "))
            .collect();
        let [sentence] = said[..] else {
            panic!("{}", refused.stderr)
        };
        assert!(
            sentence.contains(&format!("{resource} may not be listed cluster-wide"))
                && sentence.contains("rights in single namespaces are not enough"),
            "{sentence}"
        );
    }
    let exporter = Exporter::launch(&["serve"], Some(&local));
    eventually("a server says it too", Duration::from_secs(20), || {
        let answer = http::get(exporter.port(), "/metrics", &[]).map_err(|e| e.to_string())?;
        assert_eq!(answer.status, 503, "{}", answer.text());
        let says = answer
            .text()
            .contains("rights in single namespaces are not enough");
        says.then_some(()).ok_or(answer.text().to_owned())
    });

    let flags = ["--allow-partial", "pods", "scan", "--output", "json"];
    let partial = run_on(&podless, &flags, "");
    assert_eq!(partial.code, 3, "{}", partial.stderr);
    let report: Value = serde_json::from_str(&partial.stdout).unwrap();
    assert_eq!(
        (&report["complete"], &report["pods"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(
        run_on(
            &podless,
            &[&flags[..], &["--allow-incomplete"]].concat(),
            ""
        )
        .code,
        0
    );
    let exporter = Exporter::start(&["--allow-partial", "pods"], Some(&podless));
    let samples = exporter.scrape();
    assert_eq!(samples.sum("rbac_exporter_complete", &[]), 0.0);
    assert!(samples.sum("rbac_subjects", &[]) > 0.0);
    assert_eq!(samples.select("rbac_pods", &[]).count(), 0);
}
