//! Since when a subject holds its priority, by the times that a real API server keeps.
//!
//! A year-old object is had by writing it into etcd. "Restarted" means a second exporter on the same
//! cluster: it has seen nothing of what the first one watched. Every test has a namespace of its own
//! and looks at accounts in it, so that they share one cluster.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::exporter::Exporter;
use crate::harness::exposition::Samples;
use crate::harness::old::{a_year_ago, now, rfc3339};
use crate::harness::world::World;
use crate::harness::{SOON, eventually};

const SINCE: &str = "rbac_risky_subject_since_timestamp_seconds";
const ESCALATIONS: &str = "rbac_subject_escalations_total";
const WITHOUT_HISTORY: &str = "rbac_exporter_objects_without_history";
const EVERYTHING: &str = r#"[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#;

/// Times of objects are whole seconds, and some are rounded down.
const TOLERANCE: i64 = 3;

struct Stage {
    world: World,
    kubeconfig: PathBuf,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let world = World::bare();
        let kubeconfig = world.exporter_kubeconfig(world.port());
        Stage { world, kubeconfig }
    })
}

fn exporter() -> Exporter {
    Exporter::watch(&stage().kubeconfig)
}

fn kubectl(args: &[&str]) -> String {
    stage().world.kubectl(args, "")
}

/// A namespace for one test.
fn namespace(name: &str) {
    kubectl(&["create", "namespace", name]);
}

/// A ClusterRole of a year ago that was changed at `changed`.
fn old_role_changed(name: &str, rules: &str, changed: i64) {
    stage().world.put_role(name, rules, changed);
}

fn old_role(name: &str, rules: &str) {
    old_role_changed(name, rules, a_year_ago());
}

/// A binding of a year ago, in a namespace or of the cluster, to a ClusterRole.
fn old_binding(namespace: &str, name: &str, role: &str, account: (&str, &str)) {
    let world = &stage().world;
    world.put_binding((namespace, name), role, account, a_year_ago());
}

fn old_account(namespace: &str, name: &str) {
    stage().world.put_account(namespace, name);
}

fn created(args: &[&str]) -> i64 {
    let object = stage().world.get(args);
    let text = object["metadata"]["creationTimestamp"].as_str().unwrap();
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// The since series of a critical, open account; it is the report's as well.
#[track_caller]
fn since(exporter: &Exporter, namespace: &str, name: &str) -> i64 {
    let samples = exporter.scrape();
    let value = series(&samples, namespace, name)
        .unwrap_or_else(|| panic!("{namespace}/{name} has no series"));
    let entry = exporter.subject("ServiceAccount", namespace, name);
    assert_eq!(entry["since"], json!(rfc3339(value)), "{entry}");
    value
}

fn series(samples: &Samples, namespace: &str, name: &str) -> Option<i64> {
    let labels = [
        ("kind", "ServiceAccount"),
        ("namespace", namespace),
        ("name", name),
        ("priority", "critical"),
        ("status", "open"),
    ];
    let mut found = samples.select(SINCE, &labels);
    let (series, value) = found.next()?;
    assert_eq!(series.labels.len(), labels.len(), "{series}");
    assert!(found.next().is_none(), "one series for {namespace}/{name}");
    Some(value as i64)
}

/// Waits until the account is critical and open.
#[track_caller]
fn await_critical(exporter: &Exporter, namespace: &str, name: &str) -> i64 {
    eventually("the account is critical", SOON, || {
        series(&exporter.scrape(), namespace, name).ok_or_else(|| "no series".to_owned())
    });
    since(exporter, namespace, name)
}

/// Waits until an exporter has seen everything that was done so far: what is done last is a namespace.
#[track_caller]
fn catch_up(exporter: &Exporter) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // one of each kind that matters, as every resource has a watch of its own
    let name = format!("since-mark-{number}");
    namespace(&name);
    let reads = ["--verb=get", "--resource=pods"];
    kubectl(&[&["create", "clusterrole", &name][..], &reads].concat());
    let to = format!("--clusterrole={name}");
    let user = format!("--user={name}");
    kubectl(&["create", "clusterrolebinding", &name, &to, &user]);
    eventually("everything is seen", SOON, || {
        let report = exporter.report();
        let here = |list: &str| {
            let all = report[list].as_array().unwrap();
            all.iter().any(|e| e["name"] == *name)
        };
        let space = exporter.scrape();
        let pods = space
            .select("rbac_pods", &[("namespace", &name)])
            .next()
            .is_some();
        if here("roles") && here("bindings") && pods {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}

#[track_caller]
fn near(what: &str, have: i64, from: i64, to: i64) {
    assert!(
        (from - TOLERANCE..=to + TOLERANCE).contains(&have),
        "{what}: {have} is not in {from}..={to}"
    );
}

fn escalations(exporter: &Exporter, namespace: &str) -> f64 {
    exporter
        .scrape()
        .sum(ESCALATIONS, &[("namespace", namespace)])
}

fn without_history(exporter: &Exporter) -> f64 {
    exporter
        .scrape()
        .sum(WITHOUT_HISTORY, &[("resource", "clusterroles")])
}

#[test]
fn a_year_old_role_that_gains_a_rule_today_dates_from_today() {
    const HERE: &str = "since-edited";
    namespace(HERE);
    old_account(HERE, "worker");
    old_role(
        HERE,
        r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]"#,
    );
    old_binding("", HERE, HERE, (HERE, "worker"));
    let running = exporter();
    assert_eq!(series(&running.scrape(), HERE, "worker"), None);
    let before = now();
    let patch = format!(r#"{{"rules":{EVERYTHING}}}"#);
    kubectl(&["patch", "clusterrole", HERE, "--type=merge", "-p", &patch]);
    let after = now();
    assert_eq!(created(&["clusterrole", HERE]), a_year_ago());
    near(
        "seen",
        await_critical(&running, HERE, "worker"),
        before,
        after,
    );
    assert_eq!(escalations(&running, HERE), 1.0);
    let restarted = exporter();
    near(
        "restarted",
        since(&restarted, HERE, "worker"),
        before,
        after,
    );
    assert_eq!(escalations(&restarted, HERE), 0.0);
}

#[test]
fn a_label_of_another_manager_moves_nothing() {
    const HERE: &str = "since-labelled";
    namespace(HERE);
    old_account(HERE, "worker");
    old_role(HERE, EVERYTHING);
    old_binding("", HERE, HERE, (HERE, "worker"));
    let running = exporter();
    assert_eq!(since(&running, HERE, "worker"), a_year_ago());
    for kind in ["clusterrole", "clusterrolebinding"] {
        kubectl(&["label", "--field-manager=other", kind, HERE, "team=blue"]);
    }
    catch_up(&running);
    assert_eq!(since(&running, HERE, "worker"), a_year_ago());
    assert_eq!(since(&exporter(), HERE, "worker"), a_year_ago());
}

#[test]
fn a_pod_raises_and_since_is_the_time_of_the_objects() {
    const HERE: &str = "since-pod";
    namespace(HERE);
    for account in ["holder", "strong"] {
        old_account(HERE, account);
    }
    let exec = r#"[{"verbs":["create"],"apiGroups":[""],"resources":["pods/exec"]}]"#;
    old_role("since-pod-exec", exec);
    old_role("since-pod-all", EVERYTHING);
    old_binding(HERE, "exec", "since-pod-exec", (HERE, "holder"));
    old_binding("", "since-pod-all", "since-pod-all", (HERE, "strong"));
    let running = exporter();
    assert_eq!(series(&running.scrape(), HERE, "holder"), None);
    stage().world.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": HERE},
        "spec": {
            "serviceAccountName": "strong",
            "containers": [{"name": "main", "image": "example.invalid/web:1"}],
        },
    }));
    assert_eq!(await_critical(&running, HERE, "holder"), a_year_ago());
    assert_eq!(escalations(&running, HERE), 0.0);
    assert_eq!(since(&exporter(), HERE, "holder"), a_year_ago());
}

#[test]
fn an_emptied_history_is_counted_and_hides_nothing_from_who_watches() {
    const HERE: &str = "since-emptied";
    namespace(HERE);
    old_account(HERE, "worker");
    old_role(HERE, "[]");
    old_binding("", HERE, HERE, (HERE, "worker"));
    let running = exporter();
    let unknown = without_history(&running);
    let before = now();
    let patch = format!(r#"{{"rules":{EVERYTHING}}}"#);
    kubectl(&["patch", "clusterrole", HERE, "--type=merge", "-p", &patch]);
    let seen = await_critical(&running, HERE, "worker");
    near("seen", seen, before, now());
    assert_eq!(without_history(&running), unknown);
    let emptied = r#"{"metadata":{"managedFields":[{}]}}"#;
    kubectl(&["patch", "clusterrole", HERE, "--type=merge", "-p", emptied]);
    eventually("the role is without history", SOON, || {
        let have = without_history(&running);
        if have == unknown + 1.0 {
            Ok(())
        } else {
            Err(format!("{have} instead of {unknown} + 1"))
        }
    });
    // the page stands, whoever wipes the trace
    assert_eq!(since(&running, HERE, "worker"), seen);
    let restarted = exporter();
    assert_eq!(since(&restarted, HERE, "worker"), a_year_ago());
    assert_eq!(without_history(&restarted), unknown + 1.0);
}

#[test]
fn forged_times_are_ignored_one_by_one() {
    const HERE: &str = "since-forged";
    namespace(HERE);
    let unknown = without_history(&exporter());
    let forgeries = [
        ("future", now() + 86_400),
        ("before", a_year_ago() - 86_400),
        ("beside", now() + 86_400),
    ];
    for (name, time) in forgeries {
        let role = format!("{HERE}-{name}");
        old_account(HERE, name);
        old_role_changed(&role, "[]", time);
        old_binding("", &role, &role, (HERE, name));
    }
    for name in ["future", "before"] {
        let role = format!("{HERE}-{name}");
        let time = forgeries.iter().find(|f| f.0 == name).unwrap().1;
        old_role_changed(&role, EVERYTHING, time);
    }
    let before = now();
    // an honest change beside the forged entry of another manager
    let role = format!("{HERE}-beside");
    let entry = |manager: &str, time: i64| {
        json!({
            "manager": manager, "operation": "Update", "time": rfc3339(time),
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:rules": {}},
        })
    };
    let mut object = stage().world.get(&["clusterrole", &role]);
    object["rules"] = serde_json::from_str(EVERYTHING).unwrap();
    object["metadata"]["managedFields"] =
        json!([entry("forger", before + 86_400), entry("editor", before)]);
    stage()
        .world
        .write_into_etcd(&format!("clusterroles/{role}"), &object);
    let restarted = exporter();
    assert_eq!(since(&restarted, HERE, "future"), a_year_ago());
    assert_eq!(since(&restarted, HERE, "before"), a_year_ago());
    assert_eq!(since(&restarted, HERE, "beside"), before);
    assert_eq!(without_history(&restarted), unknown + 3.0);
}

#[test]
fn a_fresh_grant_has_its_series_and_one_escalation() {
    const HERE: &str = "since-fresh";
    namespace(HERE);
    let running = exporter();
    kubectl(&["create", "serviceaccount", "new", "-n", HERE]);
    catch_up(&running);
    assert_eq!(escalations(&running, HERE), 0.0);
    let before = now();
    let to = format!("--serviceaccount={HERE}:new");
    let role = "--clusterrole=cluster-admin";
    kubectl(&["create", "clusterrolebinding", HERE, role, &to]);
    near(
        "since",
        await_critical(&running, HERE, "new"),
        before,
        now(),
    );
    let samples = running.scrape();
    let to_critical = [("namespace", HERE), ("priority", "critical")];
    assert_eq!(samples.sum(ESCALATIONS, &to_critical), 1.0);
    assert_eq!(escalations(&running, HERE), 1.0);
    kubectl(&["delete", "clusterrolebinding", HERE]);
    eventually("the series is gone", SOON, || {
        match series(&running.scrape(), HERE, "new") {
            None => Ok(()),
            Some(at) => Err(at.to_string()),
        }
    });
    assert_eq!(escalations(&running, HERE), 1.0);
}

#[test]
fn an_account_made_again_completes_an_old_way_today() {
    const HERE: &str = "since-again";
    namespace(HERE);
    old_account(HERE, "deployer");
    let pods = r#"[{"verbs":["create"],"apiGroups":[""],"resources":["pods"]}]"#;
    old_role("since-again-pods", pods);
    old_role("since-again-all", EVERYTHING);
    old_binding(HERE, "deploy", "since-again-pods", (HERE, "deployer"));
    // bound for a year, and deleted long ago
    old_binding("", "since-again-all", "since-again-all", (HERE, "ghost"));
    let running = exporter();
    assert_eq!(series(&running.scrape(), HERE, "deployer"), None);
    let ghost = running.subject("ServiceAccount", HERE, "ghost");
    assert_eq!(
        (&ghost["exists"], &ghost["priority"]),
        (&json!(false), &json!("critical"))
    );
    kubectl(&["create", "serviceaccount", "ghost", "-n", HERE]);
    let made = created(&["serviceaccount", "ghost", "-n", HERE]);
    near("made", made, now(), now());
    assert_eq!(await_critical(&running, HERE, "deployer"), made);
    assert_eq!(escalations(&running, HERE), 1.0);
    assert_eq!(since(&exporter(), HERE, "deployer"), made);
    // what the account itself holds, it holds since a year
    assert_eq!(since(&running, HERE, "ghost"), a_year_ago());
    // gone again, the way is gone
    kubectl(&["delete", "serviceaccount", "ghost", "-n", HERE]);
    eventually("the deployer falls", SOON, || {
        match series(&running.scrape(), HERE, "deployer") {
            None => Ok(()),
            Some(at) => Err(at.to_string()),
        }
    });
}

#[test]
fn a_rise_seen_with_old_times_is_stamped_and_stays() {
    const HERE: &str = "since-stamped";
    namespace(HERE);
    old_account(HERE, "worker");
    let running = exporter();
    let before = now();
    old_role(HERE, EVERYTHING);
    old_binding("", HERE, HERE, (HERE, "worker"));
    let seen = await_critical(&running, HERE, "worker");
    near("stamped", seen, before, now());
    assert_eq!(escalations(&running, HERE), 1.0);
    kubectl(&["label", "--field-manager=other", "clusterrole", HERE, "a=b"]);
    catch_up(&running);
    assert_eq!(since(&running, HERE, "worker"), seen);
    assert_eq!(since(&exporter(), HERE, "worker"), a_year_ago());
}

#[test]
fn an_upgrade_that_touches_labels_moves_only_what_a_new_exporter_derives() {
    const HERE: &str = "since-chart";
    namespace(HERE);
    kubectl(&["create", "serviceaccount", "worker", "-n", HERE]);
    let chart = |version: &str| {
        let rules: Value = serde_json::from_str(EVERYTHING).unwrap();
        stage().world.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": HERE, "labels": {"helm.sh/chart": version}},
            "rules": rules,
        }));
    };
    chart("web-1");
    let to = format!("--serviceaccount={HERE}:worker");
    let role = format!("--clusterrole={HERE}");
    kubectl(&["create", "clusterrolebinding", HERE, &role, &to]);
    let running = exporter();
    let installed = since(&running, HERE, "worker");
    sleep(Duration::from_secs(2));
    chart("web-2");
    let upgraded = now();
    catch_up(&running);
    assert_eq!(since(&running, HERE, "worker"), installed);
    assert_eq!(escalations(&running, HERE), 0.0);
    // one manager owns labels and rules in one entry: an upper bound
    let derived = since(&exporter(), HERE, "worker");
    near("derived", derived, installed + 1, upgraded);
    assert!(derived > installed);
}

#[test]
fn what_rests_on_an_implicit_group_has_the_groups_series_alone() {
    const HERE: &str = "since-group";
    const GROUP: &str = "system:serviceaccounts:since-group";
    namespace(HERE);
    kubectl(&["create", "serviceaccount", "member", "-n", HERE]);
    let group = format!("--group={GROUP}");
    let role = "--clusterrole=cluster-admin";
    let running = exporter();
    let before = now();
    kubectl(&["create", "clusterrolebinding", HERE, role, &group]);
    let of_group = [("namespace", ""), ("kind", "Group"), ("name", GROUP)];
    eventually("the group has a series", SOON, || {
        let found = running.scrape().select(SINCE, &of_group).count();
        (found == 1).then_some(()).ok_or_else(|| found.to_string())
    });
    let member = running.subject("ServiceAccount", HERE, "member");
    assert_eq!(member["priority"], "critical", "{member}");
    let samples = running.scrape();
    let of_members = [("namespace", HERE)];
    assert_eq!(samples.select(SINCE, &of_members).count(), 0);
    // and yet it is one of the risky ones
    let risky = [("namespace", HERE), ("priority", "critical")];
    assert_eq!(samples.sum("rbac_risky_subjects", &risky), 1.0);
    let labels = [
        ("name", GROUP),
        ("priority", "critical"),
        ("status", "open"),
    ];
    let since = samples.sum(SINCE, &labels);
    near("the group's", since as i64, before, now());
}

#[test]
fn the_self_check_runs_after_the_start_and_agrees() {
    let running = exporter();
    let last = "rbac_exporter_selfcheck_last_run_timestamp_seconds";
    let started = now();
    eventually("the self-check has run", Duration::from_secs(10), || {
        let at = running.scrape().sum(last, &[]);
        if at > 0.0 {
            near("its time", at as i64, started, now());
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    let samples = running.scrape();
    let differences = "rbac_exporter_selfcheck_differences";
    assert_eq!(samples.select(differences, &[]).count(), 1);
    assert_eq!(samples.sum(differences, &[]), 0.0);
}
