//! Which alert holds which back: the example for Alertmanager, by a real one that is told of alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::alertmanager::Alertmanager;
use crate::harness::{eventually, repository};

/// An alert as the tests write it: its name, and a label that tells its variants apart.
type Told = (&'static str, &'static str, &'static str);

/// Who mutes whom, if all else is equal.
const MUTES: &[(Told, Told)] = &[
    (MANY, NEW),
    (MANY, NEW_EVERYONE),
    (NEW, OPEN),
    (NEW_EVERYONE, NEW),
    (EVERYONE_CRITICAL, OPEN_EVERYONE),
    (EVERYONE_CRITICAL, NEW_EVERYONE),
    (NEW_EVERYONE, OPEN_EVERYONE),
    (EXPIRED, EXPIRING),
    (BURN_FAST, BURN_SLOW),
    (FORBIDDEN, INCOMPLETE),
    (FAULTY, INCOMPLETE),
];

const MANY: Told = ("RBACManyNewCriticalSubjects", "", "");
const NEW: Told = ("RBACNewCriticalSubject", "name", "strong");
const NEW_EVERYONE: Told = ("RBACNewCriticalSubject", "name", EVERYONE);
const OPEN: Told = ("RBACCriticalSubjectOpen", "name", "strong");
const OPEN_EVERYONE: Told = ("RBACCriticalSubjectOpen", "name", EVERYONE);
const EVERYONE_CRITICAL: Told = ("RBACEveryoneAccess", "priority", "critical");
const EVERYONE_HIGH: Told = ("RBACEveryoneAccess", "priority", "high");
const EXPIRED: Told = ("RBACAcceptanceExpired", "", "");
const EXPIRING: Told = ("RBACAcceptanceExpiring", "", "");
const BURN_FAST: Told = ("RBACHygieneBudgetBurn", "window", "1d");
const BURN_SLOW: Told = ("RBACHygieneBudgetBurn", "window", "3d");
const FORBIDDEN: Told = ("RBACExporterResourceForbidden", "", "");
const FAULTY: Told = ("RBACExporterResourceFaulty", "", "");
const INCOMPLETE: Told = ("RBACExporterIncomplete", "", "");

/// Of several variants, each.
const VARIANTS: &[Told] = &[
    NEW,
    NEW_EVERYONE,
    OPEN,
    OPEN_EVERYONE,
    EVERYONE_CRITICAL,
    EVERYONE_HIGH,
    BURN_FAST,
    BURN_SLOW,
];

const EVERYONE: &str = "system:authenticated";

/// Name and severity of every alert in `alerts/rules`.
fn severities() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(repository("alerts/rules")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let rules: Value = serde_yaml::from_str(&text).unwrap();
        let groups = rules["groups"].as_array().unwrap().iter();
        for rule in groups.flat_map(|group| group["rules"].as_array().unwrap()) {
            if let Some(alert) = rule["alert"].as_str() {
                let severity = rule["labels"]["severity"].as_str().unwrap();
                found.insert(alert.to_owned(), severity.to_owned());
            }
        }
    }
    found
}

/// Every label that any of the alerts has, so that nothing but the name tells two alerts apart; `own` beats that.
fn labels(cluster: &str, severity: &str, (alert, label, value): Told) -> Value {
    let (kind, namespace) = match value {
        EVERYONE => ("Group", ""),
        _ => ("ServiceAccount", "ci"),
    };
    let mut labels = json!({
        "alertname": alert, "severity": severity, "cluster": cluster,
        "kind": kind, "namespace": namespace, "name": "strong",
        "workload_kind": "Deployment", "workload": "runner", "serviceaccount": "strong",
        "id": "legacy", "risk_owner": "team", "slo": "token-hygiene",
        "resource": "pods", "reason": "decode", "family": "rbac_hot_workload_pods",
    });
    if alert == "RBACEveryoneAccess" {
        labels["kind"] = "Group".into();
        labels["namespace"] = "".into();
        labels["name"] = EVERYONE.into();
    }
    if !label.is_empty() {
        labels[label] = value.into();
    }
    labels
}

/// What an alert is called in the comparison.
fn called(labels: &Value) -> String {
    let of = |label: &str| labels[label].as_str().unwrap_or_default();
    let parts = ["alertname", "name", "priority", "window", "slo", "id"].map(of);
    format!("{}: {}", of("cluster"), parts.join(" "))
}

/// Posts all of them at once, waits until all that are expected have come and some more, and gives what came.
fn sent(alerts: &[Value], expected: &BTreeSet<String>) -> BTreeSet<String> {
    let alertmanager = Alertmanager::start();
    let posted: Vec<Value> = alerts.iter().map(|l| json!({"labels": l})).collect();
    alertmanager.post(&Value::from(posted));
    let came = || -> BTreeSet<String> {
        let all = alertmanager.received();
        all.iter().map(|n| called(&n.alert["labels"])).collect()
    };
    eventually("all are sent", Duration::from_secs(60), || {
        let came = came();
        let missing: Vec<_> = expected.difference(&came).take(10).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?}"))
        }
    });
    // several group intervals
    sleep(Duration::from_secs(6));
    came()
}

/// Each pair of alerts in a cluster of its own, alike in every label that it has. What the table does not name mutes
/// nothing, RBACExporterDown among it.
#[test]
fn nothing_is_held_back_but_what_the_table_says() {
    let severities = severities();
    let mut told: Vec<Told> = VARIANTS.to_vec();
    for alert in severities.keys() {
        if !VARIANTS.iter().any(|(name, ..)| name == alert) {
            told.push((alert.clone().leak(), "", ""));
        }
    }
    assert!(told.len() > severities.len() && told.contains(&("RBACExporterDown", "", "")));
    let mut alerts = vec![];
    let mut expected = BTreeSet::new();
    let mut muted = 0;
    for (i, one) in told.iter().enumerate() {
        for other in &told[..i] {
            let cluster = format!("{}+{}", one.0, other.0) + one.2 + other.2;
            let of = |told: &Told| labels(&cluster, &severities[told.0], *told);
            let pair = [(of(one), (*other, *one)), (of(other), (*one, *other))];
            for (labels, by) in pair {
                if MUTES.contains(&by) {
                    muted += 1;
                } else {
                    expected.insert(called(&labels));
                }
                alerts.push(labels);
            }
        }
    }
    // each line of the table was looked at
    assert_eq!(muted, MUTES.len());
    let came = sent(&alerts, &expected);
    println!(
        "{} alerts in {} pairs: {} sent, {muted} held back",
        alerts.len(),
        alerts.len() / 2,
        came.len()
    );
    let wrong: Vec<_> = came.symmetric_difference(&expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same with another subject, objective, acceptance or cluster.
#[test]
fn what_is_held_back_is_the_same_thing_in_the_same_cluster() {
    let severities = severities();
    let changed: &[(Told, Told, &str, &str)] = &[
        (MANY, NEW, "cluster", "other"),
        (NEW, OPEN, "cluster", "other"),
        (NEW, OPEN, "name", "other"),
        (NEW, OPEN, "namespace", "other"),
        (NEW, OPEN, "kind", "User"),
        (NEW_EVERYONE, NEW, "cluster", "other"),
        (EVERYONE_CRITICAL, NEW_EVERYONE, "cluster", "other"),
        (EVERYONE_CRITICAL, OPEN_EVERYONE, "name", "system:anonymous"),
        (EXPIRED, EXPIRING, "id", "other"),
        (EXPIRED, EXPIRING, "cluster", "other"),
        (BURN_FAST, BURN_SLOW, "slo", "clean-namespaces"),
        (BURN_FAST, BURN_SLOW, "cluster", "other"),
        (FORBIDDEN, INCOMPLETE, "cluster", "other"),
        (FAULTY, INCOMPLETE, "cluster", "other"),
    ];
    let mut alerts = vec![];
    let mut expected = BTreeSet::new();
    for (i, (by, of, label, value)) in changed.iter().enumerate() {
        let cluster = format!("pair {i}");
        let source = labels(&cluster, &severities[by.0], *by);
        let mut target = labels(&cluster, &severities[of.0], *of);
        target[label] = if *label == "cluster" {
            format!("{value} {i}").into()
        } else {
            (*value).into()
        };
        expected.extend([called(&source), called(&target)]);
        alerts.extend([source, target]);
    }
    // a cluster that has no name is one all the same
    let [many, new] = [MANY, NEW].map(|told| {
        let mut labels = labels("", &severities[told.0], told);
        labels.as_object_mut().unwrap().remove("cluster");
        labels
    });
    expected.insert(called(&many));
    alerts.extend([many, new]);
    let came = sent(&alerts, &expected);
    let wrong: Vec<_> = came.symmetric_difference(&expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
