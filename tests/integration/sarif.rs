//! SARIF as code scanning takes it.

use crate::command::{Input, demo, run};
use crate::schema::violations;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The log of a path, checked against the standard's schema.
pub(crate) fn log(path: &str) -> Value {
    let ran = run(&[
        "scan",
        "-o",
        "sarif",
        "--source.manifests",
        path,
        "--allow-incomplete",
    ]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let log = ran.json();
    let text = include_str!("../fixtures/sarif/sarif-schema-2.1.0.json");
    let schema: Value = serde_json::from_str(text).unwrap();
    assert_eq!(violations(&schema, &log), Vec::<String>::new());
    log
}

pub(crate) fn results(log: &Value) -> &Vec<Value> {
    log["runs"][0]["results"].as_array().unwrap()
}

fn rules(log: &Value) -> &Vec<Value> {
    log["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
}

fn place(result: &Value) -> (&str, u64) {
    let place = &result["locations"][0]["physicalLocation"];
    (
        place["artifactLocation"]["uri"].as_str().unwrap(),
        place["region"]["startLine"].as_u64().unwrap(),
    )
}

fn prints(log: &Value) -> BTreeSet<(&str, &str)> {
    let print = |r: &'_ Value| {
        let fingerprint = &r["partialFingerprints"]["primaryLocationLineHash"];
        (
            r["ruleId"].as_str().unwrap().to_owned(),
            fingerprint.as_str().unwrap().to_owned(),
        )
    };
    let all: BTreeSet<_> = results(log).iter().map(print).collect();
    assert_eq!(all.len(), results(log).len(), "each result has its own");
    results(log)
        .iter()
        .map(|r| {
            let fingerprint = &r["partialFingerprints"]["primaryLocationLineHash"];
            (r["ruleId"].as_str().unwrap(), fingerprint.as_str().unwrap())
        })
        .collect()
}

#[test]
fn the_demo_is_as_the_standard_and_github_want_it() {
    let log = log(demo());
    let report = run(&["scan", "-o", "json", "--source.manifests", demo()]).json();
    assert!(results(&log).len() > 100 && results(&log).len() < 5000);
    for result in results(&log) {
        // the rule that it names, by id and by place
        let rule = &rules(&log)[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(rule["defaultConfiguration"]["level"], result["level"]);
        // an object in that file on that line
        let (uri, line) = place(result);
        let text = fs::read_to_string(uri).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .skip(usize::try_from(line).unwrap() - 1)
            .take(4)
            .collect();
        assert!(
            lines.iter().any(|l| l.contains("Binding")),
            "{uri}:{line}: {lines:?}"
        );
    }
    for rule in rules(&log) {
        let (id, priority) = rule["id"].as_str().unwrap().split_once('/').unwrap();
        assert_eq!(rule["name"], id);
        let score: f64 = rule["properties"]["security-severity"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let github = match score {
            s if s > 9.0 => "critical",
            s if s >= 7.0 => "high",
            s if s >= 4.0 => "medium",
            _ => "low",
        };
        assert_eq!(github, priority);
        for part in ["text", "markdown"] {
            let help = rule["help"][part].as_str().unwrap();
            assert!(
                help.contains("Attack") && help.contains("Remediation"),
                "{help}"
            );
        }
        assert!(rule["help"]["text"].as_str().unwrap().len() > 50);
    }
    // every open subject that is critical on its own account has a critical result
    for subject in report["subjects"].as_array().unwrap() {
        if subject["status"] != "open" || subject["priority"] != "critical" {
            continue;
        }
        let name = subject["name"].as_str().unwrap();
        let has = results(&log).iter().any(|r| {
            let text = r["message"]["text"].as_str().unwrap();
            text.contains(&format!("{name} (critical)"))
        });
        assert!(has, "{subject}");
    }
    // warnings of the input go along
    let notes = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert!(
        notes[0]["message"]["text"]
            .as_str()
            .unwrap()
            .contains("data-sql-console")
    );
    prints(&log);
}

fn binding(name: &str, indent: &str) -> String {
    let text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: User, name: {name}}}, {{kind: User, name: both}}]
"
    );
    text.lines()
        .fold(String::new(), |all, line| all + indent + line + "\n")
}

#[test]
fn objects_of_a_list_have_lines_and_fingerprints_have_none() {
    let items = |before: &str| {
        let (a, b) = (binding("a", "    "), binding("b", "    "));
        let item = |text: &str| text.replacen("    ", "  - ", 1);
        format!(
            "{before}apiVersion: v1\nkind: List\nitems:\n{}{}",
            item(&a),
            item(&b)
        )
    };
    let input = Input::new(&items(""));
    let first = log(input.path.to_str().unwrap());
    let lines: Vec<u64> = results(&first).iter().map(|r| place(r).1).collect();
    assert_eq!(lines, [4, 9, 4], "a, b, both by the first of its bindings");
    let related = &results(&first)[2]["relatedLocations"];
    let lines: Vec<&Value> = related
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["physicalLocation"]["region"]["startLine"])
        .collect();
    assert_eq!(lines, [9], "the other binding of both");

    // moved down, and taken out of the list: the same findings
    fs::write(&input.path, items("# a comment\n# and another\n")).unwrap();
    let moved = log(input.path.to_str().unwrap());
    assert_eq!(prints(&first), prints(&moved));
    assert_ne!(place(&results(&first)[0]), place(&results(&moved)[0]));
    fs::write(&input.path, binding("a", "") + "---\n" + &binding("b", "")).unwrap();
    assert_eq!(prints(&first), prints(&log(input.path.to_str().unwrap())));
    // another subject is another finding
    fs::write(&input.path, binding("c", "")).unwrap();
    let other = log(input.path.to_str().unwrap());
    assert_eq!(
        prints(&first).intersection(&prints(&other)).count(),
        1,
        "both"
    );
}

#[test]
fn what_a_group_gives_is_told_once() {
    let accounts: String = (0..20)
        .map(|i| format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: a{i}, namespace: n}}\n---\n"))
        .collect();
    let everybody = binding("x", "").replace(
        "kind: User, name: x",
        "kind: Group, name: system:serviceaccounts",
    );
    let input = Input::new(&(accounts + &everybody.replace(", {kind: User, name: both}", "")));
    let log = log(input.path.to_str().unwrap());
    let texts: Vec<&str> = results(&log)
        .iter()
        .map(|r| r["message"]["text"].as_str().unwrap())
        .collect();
    assert!(
        texts
            .iter()
            .all(|t| t.starts_with("group:system:serviceaccounts")),
        "{texts:?}"
    );
    assert!(!texts.is_empty());
}

#[test]
fn a_path_gives_its_first_step_the_weight_of_its_end() {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/integration/diffs/critical-through-another/new"
    );
    let log = log(dir);
    let builder = results(&log)
        .iter()
        .find(|r| r["ruleId"] == "pod-create/critical")
        .unwrap();
    let text = builder["message"]["text"].as_str().unwrap();
    assert!(
        text.contains("It becomes pod-create@ci → sa:ci/releaser."),
        "{text}"
    );
    // below the working directory paths are relative, as repositories want them
    assert!(
        place(builder).0.starts_with("tests/integration/diffs/"),
        "{builder}"
    );
}
