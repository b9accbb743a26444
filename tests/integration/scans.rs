//! What `scan` lists: filters, lists, and the metrics of one look.

use crate::command::{Ran, demo, run};
use rbac_exporter::export::metrics::TABLE;
use serde_json::Value;

fn scan(args: &[&str]) -> Ran {
    run(&[&["scan", "--source.manifests", demo()], args].concat())
}

fn names<'a>(report: &'a Value, list: &str) -> Vec<&'a str> {
    let entries = report[list].as_array().unwrap().iter();
    entries.map(|e| e["name"].as_str().unwrap()).collect()
}

#[test]
fn filters_narrow_the_arrays_and_never_the_numbers() {
    let whole = scan(&["-o", "json"]).json();
    let narrowed = scan(&["-o", "json", "--namespace", "ci", "--priority", "high"]).json();
    for part in ["summary", "problems", "complete", "ruleset"] {
        assert_eq!(narrowed[part], whole[part], "{part}");
    }
    for list in ["subjects", "pods", "roles", "bindings"] {
        let kept = narrowed[list].as_array().unwrap();
        let expected: Vec<&Value> = whole[list]
            .as_array()
            .unwrap()
            .iter()
            .filter(|e| {
                let worth = if e["bound"] == false {
                    &e["potential"]
                } else {
                    &e["priority"]
                };
                e["namespace"] == "ci" && (worth == "high" || worth == "critical")
            })
            .collect();
        assert!(
            !expected.is_empty() && expected.iter().copied().eq(kept),
            "{list}"
        );
    }
}

#[test]
fn a_subject_comes_with_what_belongs_to_it() {
    let report = scan(&["-o", "json", "--subject", "sa:ci/release-bot"]).json();
    assert_eq!(names(&report, "subjects"), ["release-bot"]);
    assert!(
        names(&report, "pods")
            .iter()
            .all(|n| n.starts_with("release-bot-"))
    );
    assert!(!names(&report, "pods").is_empty());
    let bindings = names(&report, "bindings");
    assert!(bindings.contains(&"release-bot-sync"), "{bindings:?}");
    let roles = report["bindings"].as_array().unwrap().iter();
    let of_bindings: std::collections::BTreeSet<&str> =
        roles.map(|b| b["role"]["name"].as_str().unwrap()).collect();
    let roles = names(&report, "roles").into_iter().collect();
    assert_eq!(of_bindings, roles);
    // whatever its status
    let table = scan(&["--subject", "group:system:masters"]);
    assert!(
        table
            .out
            .contains("critical (builtin)  group:system:masters"),
        "{}",
        table.out
    );
    let nobody = scan(&["--subject", "sa:ci/nobody"]);
    assert_eq!(nobody.err, "rbac-exporter: nothing names sa:ci/nobody\n");
    assert!(nobody.out.contains("0 of 53 subjects"), "{}", nobody.out);
}

#[test]
fn each_list_is_shown_worst_first() {
    for (list, noun, row) in [
        ("subjects", "SUBJECT", "critical  sa:kube-system/tiller"),
        (
            "pods",
            "POD",
            "token of sa:ci/release-bot in release-bot; Deployment release-bot",
        ),
        (
            "roles",
            "ROLE",
            "node-proxy@*; not bound (deploy/demo/01-people.yaml:159)",
        ),
        (
            "bindings",
            "BINDING",
            "to sa:data/workflow-runner (deploy/demo/70-data.yaml:16)",
        ),
    ] {
        let table = scan(&["--show", list]).out;
        assert!(table.contains(row), "{list}: {table}");
        let body = table.split(&format!("PRIORITY  {noun}")).nth(1).unwrap();
        let body = body.split("\n\n").next().unwrap();
        let levels: Vec<usize> = body
            .lines()
            .skip(1)
            .map(|line| {
                let word = line.split_whitespace().next().unwrap();
                let order = ["critical", "high", "medium", "low"];
                order.iter().position(|o| *o == word).unwrap()
            })
            .collect();
        assert!(levels.len() > 5 && levels.is_sorted(), "{list}: {body}");
    }
}

#[test]
fn thresholds_look_at_everybody_and_say_so() {
    let ran = scan(&["--namespace", "legacy", "--fail-on", "critical"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("filters leave out"), "{}", ran.err);
    assert_eq!(
        scan(&["--namespace", "kube-system", "--fail-on", "critical"]).err,
        ""
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    for args in [
        &["--show", "pods", "-o", "json"][..],
        &["-o", "prometheus", "--namespace", "ci"],
        &["--priority", "urgent"],
        &["--subject", "bob"],
    ] {
        assert_eq!(scan(args).code, 2, "{args:?}");
    }
    let ran = run(&["scan", "-o", "sarif"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("give --source.manifests"), "{}", ran.err);
}

#[test]
fn counts_speak_english() {
    let one = crate::command::Input::new(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: n}\n",
    );
    let ran = run(&["scan", "--source.manifests", one.path.to_str().unwrap()]);
    let expected = "Judged as Kubernetes 1.37: 1 subject, 0 pods, 0 roles, 0 bindings\n";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
}

#[test]
fn one_look_has_the_families_of_the_server_without_those_of_a_process() {
    let text = scan(&["-o", "prometheus"]).out;
    let helps = text.lines().filter_map(|l| l.strip_prefix("# HELP "));
    let found: Vec<&str> = helps.map(|l| l.split(' ').next().unwrap()).collect();
    let expected: Vec<&str> = TABLE
        .iter()
        .map(|f| f.name)
        .filter(|n| !n.starts_with("process_"))
        .collect();
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names
    };
    let found: std::collections::BTreeSet<&str> = found.into_iter().collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), sorted(expected));
    let tiller = "rbac_risky_subject_since_timestamp_seconds{namespace=\"kube-system\",kind=\"ServiceAccount\",name=\"tiller\",priority=\"critical\",status=\"open\"} 1733310529\n";
    assert!(text.contains(tiller), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("process_"));
}
