//! The binary as people and scripts run it: what it prints, how it exits, what it serves.

use crate::schema::violations;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RBAC: &str = "apiVersion: rbac.authorization.k8s.io/v1";

// === running it

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

/// The binary, away from whatever cluster the machine that runs the tests is configured for.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbac-exporter"));
    command
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn run(args: &[&str]) -> Ran {
    run_with(args, "")
}

/// With text on standard input.
pub(crate) fn run_with(args: &[&str], input: &str) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // a program that reads nothing closes the pipe, which is its right
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran::of(output)
}

/// Manifests in a file of their own.
pub(crate) struct Input {
    _dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Input {
    pub(crate) fn new(text: &str) -> Input {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.yaml");
        fs::write(&path, text).unwrap();
        Input { _dir: dir, path }
    }

    fn run(&self, command: &[&str]) -> Ran {
        let path = self.path.to_str().unwrap();
        run(&[command, &["--source.manifests", path]].concat())
    }

    fn scan(&self) -> Ran {
        self.run(&["scan", "--output", "json"])
    }

    fn table(&self) -> Ran {
        self.run(&["scan"])
    }
}

pub(crate) fn demo() -> &'static str {
    "deploy/demo"
}

// === building input

fn join(documents: &[&str]) -> String {
    documents.join("\n---\n")
}

fn account(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}"
    )
}

/// Binds `sa:app/chart`; cluster-wide when the namespace is empty.
fn binding(namespace: &str, name: &str, role_kind: &str, role: &str) -> String {
    let (kind, namespace) = match namespace {
        "" => ("ClusterRoleBinding", String::new()),
        namespace => ("RoleBinding", format!(", namespace: {namespace}")),
    };
    format!(
        "{RBAC}\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role_kind}, name: {role}}}\n\
         subjects: [{{kind: ServiceAccount, name: chart, namespace: app}}]"
    )
}

fn cluster_role(name: &str, labels: &str, rule: &str) -> String {
    format!(
        "{RBAC}\nkind: ClusterRole\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nrules: [{rule}]"
    )
}

// === reading reports

fn entry<'a>(report: &'a Value, list: &str, name: &str) -> &'a Value {
    let entries = report[list].as_array().unwrap();
    let found = entries.iter().find(|e| e["name"] == name);
    found.unwrap_or_else(|| panic!("{list} has no {name}: {entries:?}"))
}

fn rules_of(entry: &Value) -> Vec<&str> {
    let findings = entry["findings"].as_array().unwrap();
    findings.iter().filter_map(|f| f["rule"].as_str()).collect()
}

fn problem<'a>(report: &'a Value, part: &str) -> &'a Value {
    let problems = report["problems"].as_array().unwrap();
    let found = problems
        .iter()
        .find(|p| p["message"].as_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("no problem says {part:?}: {problems:?}"))
}

// === scan: judgement from little

#[test]
fn one_document_that_binds_cluster_admin_is_critical() {
    let input = Input::new(&binding("", "chart", "ClusterRole", "cluster-admin"));
    let ran = input.scan();
    let report = ran.json();
    assert_eq!(ran.code, 0, "{}", ran.err);
    let chart = entry(&report, "subjects", "chart");
    assert_eq!(chart["priority"], "critical");
    assert_eq!(chart["status"], "open");
    assert_eq!(chart["exists"], false);
    assert_eq!(chart["cut"][0]["binding"]["name"], "chart");
    let role = entry(&report, "roles", "cluster-admin");
    assert_eq!(role["source"], "shipped");
    assert_eq!(role["priority"], "critical");
    assert_eq!(report["complete"], true);
    let table = input.table().out;
    assert!(
        table.contains("critical  sa:app/chart  wildcard-admin@* by ClusterRoleBinding chart to ClusterRole cluster-admin\n"),
        "{table}"
    );
    for (fail_on, code) in [("critical", 1), ("low", 1), ("never", 0)] {
        assert_eq!(input.run(&["scan", "--fail-on", fail_on]).code, code);
    }
}

#[test]
fn a_chart_bound_to_edit_is_high() {
    let input = Input::new(&binding("app", "chart", "ClusterRole", "edit"));
    let report = input.scan().json();
    assert_eq!(entry(&report, "subjects", "chart")["priority"], "high");
    assert_eq!(entry(&report, "roles", "edit")["source"], "shipped");
    assert_eq!(entry(&report, "bindings", "chart")["priority"], "high");
    assert_eq!(input.run(&["scan", "--fail-on", "critical"]).code, 0);
    assert_eq!(input.run(&["scan", "--fail-on", "high"]).code, 1);
}

#[test]
fn a_default_role_in_the_input_wins_over_the_shipped_one() {
    let tame = cluster_role(
        "cluster-admin",
        "",
        "{apiGroups: [''], resources: [services], verbs: [get]}",
    );
    let bound = binding("", "chart", "ClusterRole", "cluster-admin");
    let report = Input::new(&join(&[&tame, &bound])).scan().json();
    assert_eq!(entry(&report, "roles", "cluster-admin")["source"], "input");
    assert_eq!(entry(&report, "subjects", "chart")["priority"], "none");

    // and an edited one is not silent because of its name
    let wild = cluster_role(
        "system:basic-user",
        "",
        "{apiGroups: ['*'], resources: ['*'], verbs: ['*']}",
    );
    let everyone = format!(
        "{RBAC}\nkind: ClusterRoleBinding\nmetadata: {{name: 'system:basic-user'}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:basic-user'}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:authenticated'}}]"
    );
    let report = Input::new(&join(&[&wild, &everyone])).scan().json();
    let group = entry(&report, "subjects", "system:authenticated");
    assert_eq!(
        (&group["priority"], &group["status"]),
        (&"critical".into(), &"open".into())
    );
    let report = Input::new(&everyone).scan().json();
    let group = entry(&report, "subjects", "system:authenticated");
    assert_eq!(group["status"], "builtin", "{group}");
}

#[test]
fn labels_aggregate_into_the_shipped_roles() {
    let extra = |to: &str| {
        cluster_role(
            "extra",
            &format!("rbac.authorization.k8s.io/aggregate-to-{to}: 'true'"),
            "{apiGroups: [''], resources: [secrets], verbs: [list]}",
        )
    };
    let secrets = |documents: &[&str]| {
        let report = Input::new(&join(documents)).scan().json();
        rules_of(entry(&report, "subjects", "chart")).contains(&"secrets-list")
    };
    let view = binding("app", "chart", "ClusterRole", "view");
    assert!(!secrets(&[&view]));
    assert!(secrets(&[&view, &extra("view")]));
    assert!(!secrets(&[&view, &extra("edit")]));
    let nodes = cluster_role(
        "extra",
        "rbac.authorization.k8s.io/aggregate-to-edit: 'true'",
        "{apiGroups: [''], resources: [pods/ephemeralcontainers], verbs: [patch]}",
    );
    let edit = binding("app", "chart", "ClusterRole", "edit");
    let asked = |documents: &[&str]| {
        Input::new(&join(documents))
            .run(&[
                "can-i",
                "patch",
                "pods",
                "--subresource",
                "ephemeralcontainers",
                "--as",
                "sa:app/chart",
                "-n",
                "app",
            ])
            .code
    };
    assert_eq!(asked(&[&edit]), 1);
    assert_eq!(asked(&[&edit, &nodes]), 0);
}

#[test]
fn the_version_decides_whether_get_is_enough_for_exec() {
    let role = cluster_role(
        "reader",
        "",
        "{apiGroups: [''], resources: [pods/exec], verbs: [get]}",
    );
    let bound = binding("app", "chart", "ClusterRole", "reader");
    let input = Input::new(&join(&[&role, &bound]));
    let rules = |version: &str| {
        let report = input
            .run(&["scan", "-o", "json", "--kubernetes.version", version])
            .json();
        assert_eq!(report["kubernetesVersion"], version);
        rules_of(entry(&report, "subjects", "chart"))
            .iter()
            .map(|r| (*r).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(rules("1.34").contains(&"pod-exec-legacy-get".to_owned()));
    assert_eq!(rules("1.35"), Vec::<String>::new());
}

// === scan: input that is wrong

#[test]
fn a_malformed_document_costs_itself_alone() {
    let text = join(&[
        &account("app", "first"),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: [never closed",
        &binding("", "chart", "ClusterRole", "cluster-admin"),
    ]);
    let input = Input::new(&text);
    let ran = input.scan();
    let report = ran.json();
    assert_eq!(ran.code, 3);
    assert_eq!(report["complete"], false);
    let broken = &report["problems"][0];
    assert_eq!(broken["severity"], "error");
    assert_eq!(broken["file"], input.path.to_str().unwrap());
    assert_eq!(broken["document"], 2);
    assert!(
        (5..=9).contains(&broken["line"].as_u64().unwrap()),
        "{broken}"
    );
    assert_eq!(entry(&report, "subjects", "first")["priority"], "none");
    assert_eq!(entry(&report, "subjects", "chart")["priority"], "critical");

    assert_eq!(input.run(&["scan", "--allow-incomplete"]).code, 0);
    assert_eq!(input.run(&["scan", "--fail-on", "critical"]).code, 1);
    let both = ["scan", "--fail-on", "critical", "--allow-incomplete"];
    assert_eq!(input.run(&both).code, 1);
    let table = input.table();
    assert_eq!(table.code, 3);
    assert!(table.out.contains("the true picture may be worse"));
    let place = format!("{}:", input.path.display());
    assert!(table.out.contains(&place), "{}", table.out);
}

#[test]
fn misspelt_kinds_and_fields_are_named_with_the_nearest() {
    let typo = binding("app", "typo", "ClusterRole", "edit").replace("RoleBinding", "RoleBindng");
    let ran = Input::new(&typo).scan();
    let report = ran.json();
    assert_eq!(ran.code, 3);
    let wrong = problem(&report, "RoleBindng");
    assert_eq!(wrong["severity"], "error");
    assert!(
        wrong["message"]
            .as_str()
            .unwrap()
            .contains("\"RoleBinding\"")
    );

    let role = format!(
        "{RBAC}\nkind: Role\nmetadata: {{name: odd, namespace: app}}\nrules:\n\
         - apiGroups: ['']\n  resource: [secrets]\n  resources: [secrets]\n  verbs: [list]"
    );
    let ran = Input::new(&role).scan();
    let report = ran.json();
    assert_eq!(ran.code, 0, "a warning is no error: {}", report["problems"]);
    let unknown = problem(&report, "rules[0].resource ");
    assert_eq!(unknown["severity"], "warning");
    assert_eq!(unknown["kind"], "Role");
    assert_eq!(unknown["name"], "odd");
    assert!(unknown["message"].as_str().unwrap().contains("resources"));
}

#[test]
fn a_binding_to_nothing_is_listed() {
    let missing = binding("", "nowhere", "ClusterRole", "gone");
    let input = Input::new(&join(&[&account("other", "a"), &missing]));
    let ran = input.scan();
    let report = ran.json();
    assert_eq!(ran.code, 0);
    let dangling: Vec<&str> = entry(&report, "bindings", "nowhere")["dangling"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(dangling, ["role-missing", "serviceaccount-missing"]);
    let listed = problem(&report, "roleRef: ClusterRole \"gone\"");
    assert_eq!(listed["severity"], "warning");
    assert_eq!(listed["line"], 5);
    assert!(input.table().out.contains("ClusterRoleBinding nowhere"));
}

#[test]
fn an_object_of_five_megabytes_is_judged() {
    let mut role = cluster_role("huge", "", "");
    role.truncate(role.len() - "[]".len());
    role.push('\n');
    for i in 0..50_000 {
        let _ = writeln!(
            role,
            "- {{apiGroups: [''], resources: [configmaps], resourceNames: [a-name-that-takes-room-{i:06}], verbs: [get]}}"
        );
    }
    role.push_str("- {apiGroups: [''], resources: [secrets], verbs: [list]}");
    assert!(role.len() > 5_000_000);
    let bound = binding("", "chart", "ClusterRole", "huge");
    let ran = Input::new(&join(&[&role, &bound])).scan();
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = ran.json();
    assert_eq!(entry(&report, "subjects", "chart")["priority"], "critical");
}

#[test]
fn hostile_names_are_exact_in_json_and_harmless_elsewhere() {
    let hostile = "a\"b\n\u{1b}[31mred\\\u{202e}flipped";
    let document = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": hostile},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": hostile},
            {"kind": "ServiceAccount", "name": "a", "namespace": hostile},
        ],
    })
    .to_string();
    let input = Input::new(&document);
    let report = input.scan().json();
    assert_eq!(entry(&report, "subjects", hostile)["priority"], "critical");
    assert_eq!(entry(&report, "subjects", "a")["namespace"], hostile);
    let table = input.table();
    for text in [&table.out, &table.err] {
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(odd), "{text:?}");
    }
    let row = table.out.lines().find(|l| l.contains("user:a")).unwrap();
    assert!(row.contains("a\"b\\n\\u{1b}[31mred"), "{row}");

    let server = Server::start(&input.path);
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    let parsed = samples(&metrics);
    let escaped = "a\\\"b\\n\u{1b}[31mred\\\\\u{202e}flipped";
    let series = format!("rbac_subjects{{namespace=\"{escaped}\",kind=\"ServiceAccount\"}}");
    assert_eq!(
        parsed.get(&series).map(String::as_str),
        Some("1"),
        "{metrics}"
    );
}

#[test]
fn nothing_in_is_not_clean() {
    let empty = Input::new("");
    for ran in [empty.table(), run(&["scan", "--source.manifests", "-"])] {
        assert_eq!(ran.code, 3, "{}", ran.out);
        assert!(ran.err.contains("nothing to judge"), "{}", ran.err);
        assert!(!ran.out.contains("No open subject"));
    }
    let ran = empty.scan();
    assert_eq!(ran.json()["subjects"], serde_json::json!([]));
    assert_eq!(empty.run(&["scan", "--allow-incomplete"]).code, 0);
    // a chart without RBAC is judged, and is clean
    let other = Input::new("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: app}");
    let ran = other.table();
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Not judged: 1 v1/ConfigMap\n"));
    assert!(ran.out.contains("No open subject is risky."));
}

#[test]
fn standard_input_is_a_source() {
    let text = binding("", "chart", "ClusterRole", "cluster-admin");
    let ran = run_with(&["scan", "-o", "json", "--source.manifests", "-"], &text);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        entry(&ran.json(), "subjects", "chart")["priority"],
        "critical"
    );
}

// === usage

#[test]
fn wrong_usage_is_exit_2_and_says_what_to_do() {
    for (args, part) in [
        (
            &["scan", "--source.manifests", "/no/such"][..],
            "does not exist; give a file, a directory, or -",
        ),
        (
            &[
                "--source.manifests",
                "/no/such",
                "--web.listen-address",
                "127.0.0.1:0",
            ],
            "does not exist",
        ),
        (
            &["scan", "--fail-on", "none"],
            "critical, high, medium, low, never",
        ),
        (&["scan", "chart.yaml"], "--source.manifests <PATH>"),
        (&["scna"], "'scan'"),
        (&["--source.manifest", "x"], "'--source.manifests'"),
        (
            &["--kubernetes.version", "new", "scan"],
            "write a version from 1.33 to 1.37",
        ),
        (
            &["--kubernetes.version", "1.30", "scan"],
            "write a version from 1.33 to 1.37",
        ),
        (
            &["--kube.context", "c", "scan", "--source.manifests", "-"],
            "leave one of them out",
        ),
        (
            &["--allow-partial", "pods", "scan", "--source.manifests", "-"],
            "--allow-partial is for clusters",
        ),
        (
            &["--allow-partial", "roles", "scan"],
            "only pods can be left out",
        ),
        (&["--web.listen-address", "here"], "write :PORT"),
        (&["--web.telemetry-path", "metrics"], "such as /metrics"),
        (
            &[
                "--web.telemetry-path",
                "/m",
                "scan",
                "--source.manifests",
                "-",
            ],
            "--web",
        ),
        (&["--log.level", "loud"], "error, warn, info, debug, trace"),
        (&["can-i", "get", "pods"], "--as"),
        (
            &[
                "can-i",
                "get",
                "pods",
                "--as",
                "sa:x",
                "--source.manifests",
                "-",
            ],
            "sa:NAMESPACE/NAME",
        ),
        (
            &["can-i", "--reviews", "/no/such", "--source.manifests", "-"],
            "reviews file",
        ),
        (
            &["can-i", "--reviews", "-", "--source.manifests", "-"],
            "not both",
        ),
        // without manifests it is a cluster; the kubeconfig of these tests is not there
        (&["scan"], "KUBECONFIG"),
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(part), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn help_and_version_can_be_read() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    for part in [
        "serve",
        "scan",
        "can-i",
        "rules",
        "Exit codes:",
        "Examples:",
        "--source.manifests",
        "[default: :7222]",
    ] {
        assert!(help.out.contains(part), "{part}: {}", help.out);
    }
    let widest = help.out.lines().map(|l| l.chars().count()).max().unwrap();
    assert!(widest <= 110, "{widest}");
    assert!(!run(&["scan", "--help"]).out.contains("--web."));
    assert!(
        run(&["serve", "--help"])
            .out
            .contains("--web.listen-address")
    );
    let version = run(&["--version"]);
    assert_eq!(version.code, 0);
    let expected = format!("rbac-exporter {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.out.starts_with(&expected), "{}", version.out);
}

#[test]
fn the_rules_are_listed() {
    let table = run(&["rules", "list"]);
    assert_eq!(table.code, 0);
    assert_eq!(table.out.lines().count(), 1 + 86);
    let rules = run(&["rules", "list", "-o", "json"]).json();
    let rules = rules.as_array().unwrap();
    assert_eq!(rules.len(), 86);
    for rule in rules {
        for field in ["id", "title", "attack", "remediation"] {
            assert_ne!(rule[field].as_str().unwrap(), "", "{rule}");
        }
    }
    let mut ids: Vec<&str> = rules.iter().filter_map(|r| r["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 86);
}

// === can-i

/// A reader of every account's group, a deployer, an account with a URL and a named Secret.
fn powers() -> Input {
    let grant = |name: &str, subject: &str| {
        format!(
            "{RBAC}\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
             subjects: [{subject}]"
        )
    };
    Input::new(&join(&[
        &cluster_role(
            "all",
            "",
            "{apiGroups: [''], resources: [services], verbs: [get]}",
        ),
        &grant(
            "all",
            "{kind: Group, name: 'system:serviceaccounts:app', apiGroup: rbac.authorization.k8s.io}",
        ),
        &cluster_role(
            "mixed",
            "",
            "{apiGroups: [apps], resources: [deployments], verbs: [patch]}, \
             {apiGroups: [''], resources: [pods/exec], verbs: [create]}, \
             {apiGroups: [''], resources: [secrets], resourceNames: [one], verbs: [get]}, \
             {nonResourceURLs: [/metrics], verbs: [get]}",
        ),
        &grant(
            "mixed",
            "{kind: ServiceAccount, name: chart, namespace: app}",
        ),
        &grant(
            "mixed",
            "{kind: Group, name: dev, apiGroup: rbac.authorization.k8s.io}",
        )
        .replacen("name: mixed}\n", "name: devs}\n", 1),
    ]))
}

#[test]
fn questions_are_answered_by_word_and_exit_code() {
    let powers = powers();
    for (question, yes) in [
        ("get services --as sa:app/chart", true), // by the group of its namespace
        ("get services --as system:serviceaccount:app:chart", true),
        (
            "get services --as user:system:serviceaccount:app:chart",
            true,
        ),
        ("get services --as sa:other/chart", false),
        ("get services --as group:system:serviceaccounts:app", true),
        ("patch deployments.apps --as sa:app/chart", true),
        ("patch deployments --as sa:app/chart -n app", true), // the group is guessed
        ("patch deployments.extensions --as sa:app/chart", false),
        ("create pods --subresource exec --as sa:app/chart", true),
        ("create pods --as sa:app/chart", false),
        ("create pods/exec --as sa:app/chart", false), // a pod named exec
        ("get secrets/one --as sa:app/chart", true),
        ("get secrets/two --as sa:app/chart", false),
        ("get secrets --as sa:app/chart", false),
        ("get /metrics --as sa:app/chart", true),
        ("get /healthz --as sa:app/chart", false),
        ("get /metrics --as bob", false),
        ("get /metrics --as bob --as-group dev", true),
        ("get /metrics --as group:dev", true),
        ("delete nodes --as bob --as-group system:masters", true),
        ("delete nodes --as group:system:masters", true),
    ] {
        let words: Vec<&str> = std::iter::once("can-i")
            .chain(question.split(' '))
            .collect();
        let ran = powers.run(&words);
        assert_eq!(
            ran.code,
            i32::from(!yes),
            "{question}: {}{}",
            ran.out,
            ran.err
        );
        let word = if yes { "yes: " } else { "no: " };
        assert!(ran.out.starts_with(word), "{question}: {}", ran.out);
        assert_eq!(ran.out.lines().count(), 1);
    }
}

#[test]
fn questions_that_probably_mean_something_else_get_a_note() {
    let powers = powers();
    for (question, note) in [
        ("create pods/exec --as sa:app/chart", "--subresource exec"),
        ("get deployment --as sa:app/chart", "core group"),
        ("get secrets/one --as sa:app/chart", ""),
        ("patch deployments --as sa:app/chart", ""),
        ("get widgets.example.com --as sa:app/chart", ""),
    ] {
        let words: Vec<&str> = std::iter::once("can-i")
            .chain(question.split(' '))
            .collect();
        let ran = powers.run(&words);
        assert_eq!(
            ran.err.is_empty(),
            note.is_empty(),
            "{question}: {}",
            ran.err
        );
        assert!(ran.err.contains(note), "{question}: {}", ran.err);
    }
    let granted = powers.run(&["can-i", "get", "services", "--as", "sa:app/chart"]);
    assert!(
        granted.out.contains("ClusterRoleBinding \"all\""),
        "{}",
        granted.out
    );

    let broken = Input::new(&join(&[
        "a: [",
        &binding("", "c", "ClusterRole", "cluster-admin"),
    ]));
    let ask = ["can-i", "get", "pods", "--as", "sa:app/chart"];
    let ran = broken.run(&ask);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("may be wrong"), "{}", ran.err);
    assert_eq!(
        broken
            .run(&[&ask[..], &["--allow-incomplete"]].concat())
            .code,
        0
    );
}

fn review(user: &str, groups: &[&str], verb: &str, resource: &str) -> Value {
    serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": {"verb": verb, "resource": resource}},
    })
}

/// `allowed` of every answer, `None` for an evaluation error.
fn verdicts(ran: &Ran) -> Vec<Option<bool>> {
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines = ran.out.lines();
    lines
        .map(|line| {
            let answer: Value = serde_json::from_str(line).unwrap();
            assert_eq!(answer["kind"], "SubjectAccessReview");
            let status = &answer["status"];
            match status["evaluationError"].as_str() {
                Some(why) => {
                    assert_ne!(why, "");
                    assert_eq!(status["allowed"], false);
                    None
                }
                None => {
                    assert_ne!(status["reason"], "");
                    Some(status["allowed"].as_bool().unwrap())
                }
            }
        })
        .collect()
}

#[test]
fn an_odd_item_of_a_list_of_reviews_takes_no_other_along() {
    let good = r#"{"kind":"SubjectAccessReview","spec":{"groups":["system:masters"],"nonResourceAttributes":{"verb":"get","path":"/x"}}}"#;
    // JSON is YAML too: with a comment before it, it is read as that
    for before in ["", "# as YAML\n---\n"] {
        let list = format!(
            r#"{before}{{"kind":"List","items":[3,{good},{{"spec":{{"user":[]}}}},null,{good}]}}"#
        );
        let args = ["can-i", "--source.manifests", demo(), "--reviews", "-"];
        let ran = run_with(&args, &list);
        assert_eq!(ran.code, 0, "{}", ran.out);
        let allowed: Vec<bool> = ran
            .out
            .lines()
            .map(|line| {
                let answer: Value = serde_json::from_str(line).unwrap();
                let status = &answer["status"];
                let allowed = status["allowed"].as_bool().unwrap();
                assert_eq!(allowed, status["evaluationError"].is_null(), "{line}");
                allowed
            })
            .collect();
        assert_eq!(allowed, [false, true, false, false, true]);
    }
}

#[test]
fn what_is_wrong_with_a_review_is_said_and_it_comes_back_as_it_was() {
    let reviews = [
        r#"{"spec":{"user":3,"resourceAttributes":{"verb":"get","resource":"pods"}}}"#,
        r#"{"kind":"List","items":[{"spec":{"user":"a","groups":[7]}}]}"#,
        r#"{"spec":{"user":"bob"}}"#,
        r#"{"spec":{"user":"bob","resourceAttributes":{"verb":"list","resource":"pods","version":"v1",
            "fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["n"]}]},
            "labelSelector":{"rawSelector":"a=b"}}}}"#,
    ];
    // JSON, and YAML, which a comment before it makes of it
    for before in ["", "# as YAML\n---\n"] {
        for (i, review) in reviews.iter().enumerate() {
            let args = ["can-i", "--source.manifests", demo(), "--reviews", "-"];
            let ran = run_with(&args, &format!("{before}{}", review.replace('\n', "")));
            let answer: Value = serde_json::from_str(&ran.out).expect(&ran.out);
            let asked: Value = serde_json::from_str(review).unwrap();
            let asked = asked.get("items").map_or(&asked, |items| &items[0]);
            assert_eq!(answer["spec"], asked["spec"], "{before}{review}");
            let wrong = !answer["status"]["evaluationError"].is_null();
            assert_eq!(wrong, i < 3, "{answer}");
        }
    }
}

#[test]
fn reviews_come_in_every_form_and_leave_in_order() {
    let powers = powers();
    let path = powers.path.to_str().unwrap();
    let reviews = [
        // groups are exactly those given: nothing is implied
        review("system:serviceaccount:app:chart", &[], "get", "services"),
        review(
            "system:serviceaccount:app:chart",
            &["system:serviceaccounts:app"],
            "get",
            "services",
        ),
        review("bob", &["system:masters"], "delete", "nodes"),
        review("", &[], "get", "services"),
        serde_json::json!({"kind": "SubjectAccessReview", "spec": {"user": "bob"}}),
        serde_json::json!({"kind": "Pod", "metadata": {"name": "a"}}),
        serde_json::json!({"kind": "SubjectAccessReview", "spec": {
            "user": "system:serviceaccount:app:chart",
            "nonResourceAttributes": {"verb": "get", "path": "/metrics"},
        }}),
    ];
    let expected = [
        Some(false),
        Some(true),
        Some(true),
        None,
        None,
        None,
        Some(true),
    ];
    let lines: Vec<String> = reviews.iter().map(Value::to_string).collect();
    let ask = |input: &str| {
        let args = ["can-i", "--source.manifests", path, "--reviews", "-"];
        run_with(&args, input)
    };
    assert_eq!(verdicts(&ask(&lines.join("\n"))), expected);
    let yaml: Vec<String> = reviews
        .iter()
        .map(|r| serde_yaml::to_string(r).unwrap())
        .collect();
    assert_eq!(verdicts(&ask(&yaml.join("---\n"))), expected);
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": reviews});
    let file = Input::new(&list.to_string());
    let ran = powers.run(&["can-i", "--reviews", file.path.to_str().unwrap()]);
    assert_eq!(verdicts(&ran), expected);
    // what was asked comes back with the answer
    let first: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["spec"]["user"], "system:serviceaccount:app:chart");

    let good = &lines[1];
    let broken = format!("{good}\n{{\"kind\": \n{good}\n");
    let answers = verdicts(&ask(&broken));
    assert_eq!(answers.first(), Some(&Some(true)), "{answers:?}");
    assert!(answers.contains(&None), "{answers:?}");
    assert_eq!(answers.last(), Some(&Some(true)), "{answers:?}");
    assert_eq!(verdicts(&ask("")), []);
}

// === serve

/// An answer of a server.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A running server; it ends with the test.
pub(crate) struct Server {
    child: Child,
    address: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(manifests: &Path) -> Server {
        Server::with(manifests, &[])
    }

    /// Until it listens and has read its input.
    pub(crate) fn with(manifests: &Path, more: &[&str]) -> Server {
        let server = Server::listening(manifests, more);
        server.until(Duration::from_secs(20), |s| s.get("/-/ready").0 == 200);
        server
    }

    /// Until it listens.
    pub(crate) fn listening(manifests: &Path, more: &[&str]) -> Server {
        let path = manifests.to_str().unwrap();
        let args = [
            "--source.manifests",
            path,
            "--web.listen-address",
            "127.0.0.1:0",
        ];
        Server::launch(&mut command(&[&args, more].concat()))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// On the cluster of a kubeconfig, which may never be ready.
    pub(crate) fn watch_with(kubeconfig: &Path, flags: &[&str]) -> Server {
        let mut command = command(&[&["--web.listen-address", "127.0.0.1:0"], flags].concat());
        Server::launch(command.env("KUBECONFIG", kubeconfig))
    }

    /// On a cluster that it may never come to, so that it may never listen either.
    pub(crate) fn connecting(kubeconfig: &Path) -> Server {
        let mut command = command(&["--web.listen-address", "127.0.0.1:0"]);
        let command = command.env("KUBECONFIG", kubeconfig).stderr(Stdio::null());
        Server {
            child: command.spawn().unwrap(),
            address: String::new(),
            said: Arc::default(),
        }
    }

    fn launch(command: &mut Command) -> Server {
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (found, address) = std::sync::mpsc::channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = said.clone();
        // reads on to the end, so that the server never waits for a full pipe
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("msg=listening address=") {
                    let _ = found.send(address.trim().to_owned());
                }
                lines.lock().unwrap().push(line);
            }
        });
        let address = address
            .recv_timeout(Duration::from_secs(20))
            .expect("the server says where it listens");
        Server {
            child,
            address,
            said,
        }
    }

    /// Lines of its log so far that hold `part`.
    pub(crate) fn said(&self, part: &str) -> usize {
        let lines = self.said.lock().unwrap();
        lines.iter().filter(|line| line.contains(part)).count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, "");
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    /// One request on a connection of its own; `headers` are whole lines.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let ask =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let body = reply.split_off(end + 4);
        let head = String::from_utf8(reply).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    /// The sum of a family's samples whose labels hold `part`.
    pub(crate) fn sum(&self, family: &str, part: &str) -> f64 {
        samples(&self.get("/metrics").1)
            .iter()
            .filter(|(s, _)| s.split('{').next() == Some(family) && s.contains(part))
            .map(|(_, v)| v.parse::<f64>().unwrap())
            .sum()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// SIGTERM; the exit code and how long it took.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> (Option<i32>, Duration) {
        self.signal("TERM");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), start.elapsed());
            }
            assert!(start.elapsed() < Duration::from_secs(15), "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn until(&self, patience: Duration, holds: impl Fn(&Server) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < patience, "not within {patience:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Series → value, each line read as the format has it: a line that is none fails.
pub(crate) fn samples(text: &str) -> BTreeMap<String, String> {
    assert!(text.ends_with('\n'));
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            if let Some((_, labels)) = series.split_once('{') {
                let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
                // unescaped quotes open and close values, so they come in pairs
                let mut quotes = 0;
                let mut chars = labels.chars();
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => assert!(matches!(chars.next(), Some('\\' | '"' | 'n')), "{line}"),
                        '"' => quotes += 1,
                        _ => {}
                    }
                }
                assert_eq!(quotes % 2, 0, "{line}");
            }
            (series.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn the_server_shows_where_to_look() {
    let server = Server::start(Path::new(demo()));
    let (status, page) = server.get("/");
    assert_eq!(status, 200);
    for link in ["metrics", "api/v1/summary", "-/ready?verbose"] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}");
        assert_eq!(server.get(&format!("/{link}")).0, 200, "{link}");
    }
    let (_, ready) = server.get("/-/ready?verbose");
    assert!(ready.starts_with("ready\n"), "{ready}");
    assert_eq!(ready.lines().count(), 1 + 7, "{ready}");
    assert_eq!(server.get("/-/ready?verbose=1").1, ready);
    assert_eq!(server.get("/-/ready").1, "ready\n");
    for path in ["/readyz", "/-/healthy", "/livez", "/healthz"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    assert_eq!(server.get("/nothing").0, 404);
    assert_eq!(server.get("/metrics/").0, 404);

    let served: Value = serde_json::from_str(&server.get("/api/v1/report").1).unwrap();
    let scanned = run(&["scan", "-o", "json", "--source.manifests", demo()]).json();
    assert!(served == scanned, "the served report is not that of scan");
    let critical = scanned["summary"]["subjects"]["critical"]["open"].as_f64();
    let shown = server.sum(
        "rbac_risky_subjects",
        "priority=\"critical\",status=\"open\"",
    );
    assert_eq!(Some(shown), critical);
}

#[test]
fn flags_move_the_metrics_and_a_taken_port_is_one_sentence() {
    let input = Input::new(&account("app", "a"));
    let server = Server::with(&input.path, &["--web.telemetry-path", "/m"]);
    assert_eq!(server.get("/m").0, 200);
    assert_eq!(server.get("/metrics").0, 404);
    assert!(server.get("/").1.contains("href=\"m\""));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = input.run(&["serve", "--web.listen-address", &address]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(
        ran.err.contains(&address) && ran.err.contains("in use"),
        "{}",
        ran.err
    );
}

#[test]
fn sigterm_is_an_orderly_end() {
    let input = Input::new(&account("app", "a"));
    let mut server = Server::start(&input.path);
    let pid = server.child.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh", &pid])
        .status()
        .unwrap();
    assert!(sent.success());
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn manifests_are_read_again_when_they_change() {
    let patience = Duration::from_secs(6 + 4); // every 5 s, and a busy machine
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("chart.yaml");
    fs::write(dir.path().join("account.yaml"), account("app", "chart")).unwrap();
    fs::write(&chart, binding("app", "chart", "ClusterRole", "view")).unwrap();
    let server = Server::start(dir.path());
    let critical = |s: &Server| {
        s.sum(
            "rbac_risky_subjects",
            "namespace=\"app\",kind=\"ServiceAccount\",priority=\"critical\"",
        )
    };
    assert_eq!(critical(&server), 0.0);

    fs::write(&chart, binding("", "chart", "ClusterRole", "cluster-admin")).unwrap();
    server.until(patience, |s| critical(s) == 1.0);
    assert_eq!(server.sum("rbac_exporter_complete", ""), 1.0);

    // a broken file keeps what it last gave, and says so
    fs::write(&chart, "a: [").unwrap();
    server.until(patience, |s| s.sum("rbac_exporter_complete", "") == 0.0);
    assert_eq!(critical(&server), 1.0);
    let report: Value = serde_json::from_str(&server.get("/api/v1/report").1).unwrap();
    assert_eq!(report["problems"][0]["file"], chart.to_str().unwrap());

    // one that is gone is gone
    fs::remove_file(&chart).unwrap();
    server.until(patience, |s| critical(s) == 0.0);
    assert_eq!(server.sum("rbac_exporter_complete", ""), 1.0);
}

// === what is written about it

#[test]
fn the_report_is_as_its_schema_says() {
    let text = include_str!("../../docs/report.schema.json");
    let schema: Value = serde_json::from_str(text).unwrap();
    let check = |report: &Value| violations(&schema, report);
    let demo = run(&["scan", "-o", "json", "--source.manifests", demo()]).json();
    assert_eq!(check(&demo), Vec::<String>::new());
    let odd = Input::new(&join(&[
        "a: [",
        &binding("", "chart", "ClusterRole", "cluster-admin"),
        &binding("app", "nowhere", "Role", "gone"),
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: app}\nspec: {containers: [{name: c, image: x}]}",
    ]));
    assert_eq!(check(&odd.scan().json()), Vec::<String>::new());
    assert_eq!(check(&Input::new("").scan().json()), Vec::<String>::new());

    // the check itself bites
    let mut wrong = demo.clone();
    wrong["extra"] = Value::Null;
    wrong["complete"] = "yes".into();
    wrong["subjects"][0]["priority"] = "worst".into();
    wrong["bindings"][0].as_object_mut().unwrap().remove("role");
    wrong["pods"][0]["tokens"] = serde_json::json!([{"source": 1}]);
    let found = check(&wrong);
    for place in [
        "/extra",
        "/complete",
        "/subjects/0/priority",
        "/bindings/0",
        "/pods/0/tokens/0",
    ] {
        assert!(
            found.iter().any(|f| f.starts_with(place)),
            "{place}: {found:?}"
        );
    }
}

/// The lines of fenced blocks of one language; `…` stands for lines left out.
pub(crate) fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(opened) => inside = opened == language,
            None if inside && line != "…" && !line.is_empty() => lines.push(line),
            None => {}
        }
    }
    lines
}

#[test]
fn the_readme_shows_what_comes_out() {
    let readme = include_str!("../../README.md");
    let table = run(&["scan", "--source.manifests", demo()]).out;
    let shown = fenced(readme, "text");
    assert!(shown.len() > 5);
    // columns are as wide as the widest row, so spaces count for nothing
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let real: Vec<String> = table.lines().map(squeezed).collect();
    for line in shown {
        assert!(
            real.contains(&squeezed(line)),
            "scan prints no such line: {line}\n{table}"
        );
    }
    let explained = run(&["explain", "sa:ci/release-bot", "--source.manifests", demo()]).out;
    for line in fenced(readme, "console") {
        let real = explained.lines().any(|l| l == line);
        assert!(real, "explain prints no such line: {line}\n{explained}");
    }
    let metrics = Server::start(Path::new(demo())).get("/metrics").1;
    let shown = fenced(readme, "prometheus");
    assert!(shown.len() > 3);
    for line in shown {
        assert!(
            metrics.lines().any(|l| l == line),
            "/metrics has no such line: {line}"
        );
    }
}

/// Names of files that a text links to or mentions in code spans as paths.
#[test]
fn documents_mention_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "deploy/demo/README.md",
        "docs/ci.md",
        "docs/from-kubiscan.md",
    ] {
        let file = root.join(name);
        let text = fs::read_to_string(&file).unwrap();
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
            .filter(|link| !link.is_empty() && !link.contains("://"));
        for link in links {
            let target = file.parent().unwrap().join(link);
            assert!(target.exists(), "{name} links to {link}");
        }
        let spans = text.split('`').skip(1).step_by(2);
        let starts = ["src/", "docs/", "deploy/", "tests/", ".ci/"];
        for span in spans.filter(|s| starts.iter().any(|p| s.starts_with(p)) && !s.contains(' ')) {
            assert!(root.join(span).exists(), "{name} mentions {span}");
        }
    }
}
