//! Manifests: what is read, what is reported, what survives a bad edit.

use rbac_exporter::ledger::{Change, Problem, Severity};
use rbac_exporter::object::{Object, Pod, Resource, SecretSource};
use rbac_exporter::source::manifests::{Limits, Manifests, ReadError, Reading, parse};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

const RBAC: &str = "apiVersion: rbac.authorization.k8s.io/v1";

fn role(name: &str) -> String {
    format!(
        "{RBAC}\nkind: Role\nmetadata: {{name: {name}, namespace: app}}\nrules:\n- apiGroups: ['']\n  resources: [pods]\n  verbs: [get]\n"
    )
}

fn read(text: &str) -> Reading {
    parse("in.yaml", text.as_bytes())
}

/// `kind namespace/name`, for comparing.
fn names(reading: &Reading) -> Vec<String> {
    let name = |object: &Object| {
        let meta = object.meta();
        format!(
            "{} {}/{}",
            object.resource().kind(),
            meta.namespace,
            meta.name
        )
    };
    reading.objects.iter().map(name).collect()
}

fn pods(reading: &Reading) -> Vec<&Pod> {
    let pods = reading.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(&**pod),
        _ => None,
    });
    pods.collect()
}

fn errors(reading: &Reading) -> Vec<&Problem> {
    let problems = reading.problems.iter();
    problems
        .filter(|problem| problem.severity == Severity::Error)
        .collect()
}

fn warnings(reading: &Reading) -> Vec<&str> {
    let problems = reading.problems.iter();
    problems
        .filter(|problem| problem.severity == Severity::Warning)
        .map(|problem| problem.message.as_str())
        .collect()
}

#[test]
fn a_malformed_document_loses_only_itself() {
    let text = format!(
        "{}---\n{RBAC}\nkind: Role\nmetadata:\n  name: broken\n  namespace: app\nrules: [\n---\n{}",
        role("first"),
        role("last")
    );
    let reading = read(&text);
    assert_eq!(names(&reading), ["Role app/first", "Role app/last"]);
    let errors = errors(&reading);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let problem = errors[0];
    assert_eq!(problem.file.as_deref(), Some("in.yaml"));
    assert_eq!(problem.document, Some(2));
    assert!((9..=15).contains(&problem.line.unwrap()), "{problem:?}");
    assert_eq!(problem.kind.as_deref(), Some("Role"));
    assert_eq!(problem.name.as_deref(), Some("broken"));
    assert_eq!(problem.namespace.as_deref(), Some("app"));
    let origin = reading.objects[1].meta().origin.as_ref().unwrap();
    assert_eq!((origin.document, origin.line), (3, 16));
}

/// For YAML, and so for kubectl, a comment ends at any of these; an editor shows one line.
#[test]
fn nothing_hides_behind_a_comment() {
    let role =
        "apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: app}";
    for mark in ["\r", "\r\r\n", "\u{85}", "\u{2028}", "\u{2029}"] {
        for text in [
            format!("# a{mark}{{{role}}}\n"),
            format!("--- # a{mark}{{{role}}}\n"),
            format!("---\n# a{mark}{{{role}}}\n---\n# b\n"),
            format!("%YAML 1.2 # a{mark}---{mark}{{{role}}}\n"),
            format!("apiVersion: v1\nkind: List\nitems:\n# a{mark}- {{{role}}}\n- {{}}\n"),
        ] {
            let reading = read(&text);
            let told = !errors(&reading).is_empty();
            assert!(
                told || names(&reading) == ["Role app/r"],
                "{text:?} {reading:?}"
            );
        }
        let reading = read(&format!("a: 1\n... # a{mark}{{{role}}}\n"));
        assert!(!reading.problems.is_empty(), "{mark:?} {reading:?}");
    }
}

#[test]
fn what_breaks_off_is_reported_on_its_last_line() {
    // The end of a text without a line feed is a line further for the parser.
    let reading = read("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x");
    assert_eq!(errors(&reading)[0].line, Some(3), "{reading:?}");
}

#[test]
fn a_wrong_type_names_field_and_line() {
    let text = role("r").replace("[get]", "get");
    let reading = read(&text);
    assert!(reading.objects.is_empty());
    let problem = errors(&reading)[0];
    assert_eq!(problem.line, Some(7));
    assert!(
        problem.message.starts_with("rules[0].verbs: "),
        "{problem:?}"
    );
}

#[test]
fn kinds_that_look_like_a_mistake_are_errors() {
    for (from, to, part) in [
        (
            "kind: Role",
            "kind: RoleBindng",
            "did you mean \"RoleBinding\"",
        ),
        ("kind: Role", "kind: role", "write \"Role\""),
        (RBAC, "apiVersion: v1", "rbac.authorization.k8s.io/v1"),
        (RBAC, "x: y", "apiVersion is missing"),
        ("kind: Role", "x: y", "kind is missing"),
    ] {
        let reading = read(&role("r").replace(from, to));
        let errors = errors(&reading);
        assert_eq!(errors.len(), 1, "{to}: {reading:?}");
        assert!(errors[0].message.contains(part), "{to}: {errors:?}");
        assert!(reading.objects.is_empty() && reading.skipped.is_empty());
    }
}

#[test]
fn other_kinds_are_counted() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\ndata: {a: 1, a: 2}\n---\napiVersion: example.com/v1\nkind: AllowList\nspec: [1]\nmetadata: x\n---\nfoo: bar\n";
    let reading = read(text);
    assert_eq!(reading.skipped["v1/ConfigMap"], 2);
    assert_eq!(reading.skipped["example.com/v1/AllowList"], 1);
    assert!(errors(&reading).is_empty(), "{reading:?}");
    assert_eq!(warnings(&reading).len(), 1);
    for text in ["just text\n", "- a\n- b\n"] {
        assert_eq!(errors(&read(text)).len(), 1, "{text}");
    }
    assert_eq!(read("null\n---\n~\n"), Reading::default());
}

#[test]
fn unknown_fields_of_a_role_are_warnings_with_the_nearest_field() {
    let reading = read(&role("r").replace("resources:", "resorces:"));
    assert_eq!(reading.objects.len(), 1);
    assert!(errors(&reading).is_empty());
    let warnings = warnings(&reading);
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("rules[0].resorces") && w.contains("did you mean resources?")),
        "{warnings:?}"
    );
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("rules[0].resources is empty")),
        "{warnings:?}"
    );
}

#[test]
fn urls_in_a_role_grant_nothing() {
    let text = role("r").replace(
        "- apiGroups: ['']\n  resources: [pods]",
        "- nonResourceURLs: ['*']",
    );
    let reading = read(&text);
    assert_eq!(reading.objects.len(), 1);
    assert!(warnings(&reading)[0].contains("nonResourceURLs grant nothing in a Role"));
}

#[test]
fn duplicate_keys_are_errors() {
    for text in [
        format!("{}rules: []\n", role("r")),
        role("r").replace("  verbs", "  verbs: ['*']\n  verbs"),
        role("r").replace("name: r,", "name: r, name: s,"),
        role("r").replace("name: r,", "name: r, labels: {a: b, a: c},"),
        role("r").replace("name: r,", "name: r, resourceVersion: '1', resourceVersion: '2',"),
        r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"r"},"rules":[],"rules":[]}"#.to_owned(),
    ] {
        // A Role's labels are not read, so a twice-given one does no harm there.
        let text = text.replace("kind: Role\n", "kind: ClusterRole\n");
        let reading = read(&text);
        assert!(reading.objects.is_empty(), "{text}");
        let errors = errors(&reading);
        assert!(errors[0].message.contains("duplicate"), "{errors:?}");
    }
}

#[test]
fn merge_keys_and_aliases_are_applied() {
    let text = format!(
        "{RBAC}\nkind: ClusterRole\nmetadata: {{name: r}}\nrules:\n- &all\n  apiGroups: ['*']\n  resources: ['*']\n  verbs: &verbs ['*']\n- <<: *all\n  resources: [pods]\n- nonResourceURLs: [/x]\n  verbs: *verbs\n"
    );
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    let Object::Role(role) = &reading.objects[0] else {
        panic!("{reading:?}");
    };
    assert_eq!(role.rules[1].verbs, ["*"]);
    assert_eq!(role.rules[1].resources, ["pods"]);
    assert_eq!(role.rules[2].verbs, ["*"]);
}

#[test]
fn alias_bombs_and_deep_nesting_are_bounded() {
    let started = Instant::now();
    let many = |what: &str, count: usize| vec![what; count].join(", ");
    let strings = format!(
        "{RBAC}\nkind: ClusterRole\nmetadata: {{name: r}}\nrules:\n- verbs: [&a {}]\n- &b\n  verbs: [{}]\n- {{resources: [{}]}}\n",
        "x".repeat(100_000),
        many("*a", 20_000),
        many("*a", 20_000)
    );
    let rules = format!(
        "{RBAC}\nkind: ClusterRole\nmetadata: {{name: r}}\nrules:\n- &a {{verbs: [{}]}}\n{}",
        many("get", 20_000),
        "- *a\n".repeat(20_000)
    );
    for text in [strings, rules] {
        let reading = read(&text);
        assert!(reading.objects.is_empty());
        assert!(
            errors(&reading)[0].message.contains("aliases repeat"),
            "{:?}",
            reading.problems
        );
    }
    for nested in ["[", "{", "{a: ", "- ", "? "] {
        let reading = read(&nested.repeat(20_000));
        assert!(!errors(&reading).is_empty(), "{nested}");
    }
    for nested in ["[", "{\"a\":"] {
        let text = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"p\"}},\"spec\":{}",
            nested.repeat(20_000)
        );
        assert!(!errors(&read(&text)).is_empty(), "{nested}");
    }
    let mut list = role("r");
    for _ in 0..50 {
        let indented: String = list.lines().map(|line| format!("  {line}\n")).collect();
        list = format!("apiVersion: v1\nkind: List\nitems:\n-{}", &indented[1..]);
    }
    let reading = read(&list);
    assert!(errors(&reading)[0].message.contains("deep"), "{reading:?}");
    assert!(started.elapsed() < Duration::from_secs(120));
}

#[test]
fn lists_of_every_layout_are_unpacked() {
    let item = |name: &str, indent: &str| -> String {
        let text = role(name);
        let lines = text.lines().enumerate();
        lines
            .map(|(i, line)| format!("{indent}{} {line}\n", if i == 0 { '-' } else { ' ' }))
            .collect()
    };
    let kubectl = format!(
        "apiVersion: v1\nitems:\n{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n",
        item("a", ""),
        item("b", "")
    );
    let indented = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}{}",
        item("a", "  "),
        item("b", "  ")
    );
    let flow = "{apiVersion: v1, kind: List, items: [{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a, namespace: app}}, {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: b, namespace: app}}]}".to_owned();
    let typed = format!(
        "{RBAC}\nkind: RoleList\nitems:\n- metadata: {{name: a, namespace: app}}\n- metadata:\n    name: b\n    namespace: app\n"
    );
    let nested = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n{}{}",
        item("a", "  "),
        item("b", "")
    );
    let json = r#"{"apiVersion":"v1","kind":"List","items":[
      {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"a","namespace":"app"}},
      {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleList","items":[
        {"metadata":{"name":"b","namespace":"app"}}]}]}"#
        .to_owned();
    let unversioned = json.replacen(r#""apiVersion":"v1","#, "", 1);
    let unversioned_flow = flow.replacen("apiVersion: v1, ", "", 1);
    for (text, lines) in [
        (unversioned, [2, 4]),
        (unversioned_flow, [1, 1]),
        (kubectl, [3, 10]),
        (indented, [4, 11]),
        (flow, [1, 1]),
        (typed, [4, 5]),
        (nested, [7, 14]),
        (json, [2, 4]),
    ] {
        let reading = read(&text);
        assert_eq!(
            names(&reading),
            ["Role app/a", "Role app/b"],
            "{text}\n{:?}",
            reading.problems
        );
        let found = reading.objects.iter().map(|o| o.meta().origin.as_ref());
        let found: Vec<u32> = found.map(|origin| origin.unwrap().line).collect();
        assert_eq!(found, lines, "{text}");
        assert!(errors(&reading).is_empty(), "{:?}", reading.problems);
    }
}

#[test]
fn an_item_that_cannot_be_read_leaves_its_siblings() {
    let yaml = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {RBAC}\n  kind: Role\n  metadata: {{name: a, namespace: app}}\n- {RBAC}\n  kind: Role\n  metadata: {{name: b, namespace: app}}\n  rules: [\n- {RBAC}\n  kind: Role\n  metadata: {{name: c, namespace: app}}\n  rules: x\n- {RBAC}\n  kind: Role\n  metadata: {{name: d, namespace: app}}\n"
    );
    let reading = read(&yaml);
    assert_eq!(names(&reading), ["Role app/a", "Role app/d"]);
    let lines: Vec<_> = errors(&reading).iter().map(|p| p.line).collect();
    assert_eq!(lines.len(), 2, "{:?}", reading.problems);
    assert_eq!(lines[1], Some(14));
    assert_eq!(errors(&reading)[1].name.as_deref(), Some("c"));
    let json = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"a"},
         "secrets":"x"},
        {"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"b"}}, 5, null]}"#;
    let reading = read(json);
    assert_eq!(names(&reading), ["ServiceAccount default/b"]);
    let errors = errors(&reading);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[0].line, Some(3));
    assert!(errors[0].message.starts_with("secrets: "), "{errors:?}");
}

#[test]
fn an_alias_may_name_an_anchor_of_another_item() {
    let text = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {RBAC}\n  kind: Role\n  metadata: {{name: a, namespace: app}}\n  rules: &r\n  - {{apiGroups: [''], resources: [pods], verbs: [get]}}\n- {RBAC}\n  kind: Role\n  metadata: {{name: b, namespace: app}}\n  rules: *r\n"
    );
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    assert_eq!(names(&reading), ["Role app/a", "Role app/b"]);
    assert_eq!(reading.objects[1].meta().origin.as_ref().unwrap().line, 9);
}

#[test]
fn a_list_without_items_is_no_list() {
    for text in [
        "apiVersion: v1\nkind: List\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":{}}",
    ] {
        assert!(errors(&read(text))[0].message.contains("items"), "{text}");
    }
    let empty = "apiVersion: v1\nkind: List\nitems: []\n---\napiVersion: v1\nkind: List\nitems:\n";
    assert_eq!(read(empty), Reading::default());
}

#[test]
fn a_template_of_a_chart_is_one_problem() {
    let text = "{{- if .Values.rbac }}\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: r\n{{- end }}\n{{ x }}\n";
    let reading = read(text);
    assert_eq!(errors(&reading).len(), 1, "{reading:?}");
}

#[test]
fn a_page_of_a_list_is_not_the_whole() {
    let text = format!("{RBAC}\nkind: RoleList\nmetadata: {{continue: abc}}\nitems: []\n");
    assert!(
        errors(&read(&text))[0]
            .message
            .contains("metadata.continue")
    );
}

#[test]
fn windows_line_ends_and_byte_order_marks() {
    let text = format!("\u{feff}{}---\n{}", role("a"), role("b")).replace('\n', "\r\n");
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    assert_eq!(names(&reading), ["Role app/a", "Role app/b"]);
}

#[test]
fn odd_names_are_kept_and_reported_on_one_line() {
    let text = format!(
        "{RBAC}\nkind: ClusterRole\nmetadata:\n  name: \"a\\\"b\\nc:d\"\n---\n{RBAC}\nkind: ClusterRole\nmetadata:\n  name: \"a\\\"b\\nc:d\"\n"
    );
    let reading = read(&text);
    assert_eq!(names(&reading), ["ClusterRole /a\"b\nc:d"]);
    let warning = &reading.problems[0];
    assert_eq!(warning.name.as_deref(), Some("a\"b\nc:d"));
    assert!(!warning.message.contains('\n'), "{warning:?}");
}

#[test]
fn text_that_is_no_utf8_costs_one_document() {
    let mut text = role("a").into_bytes();
    text.extend_from_slice(b"---\nkind: Role\nmetadata:\n  name: \"\xff\xfe\"\n---\n");
    text.extend_from_slice(role("b").as_bytes());
    let reading = parse("in.yaml", &text);
    assert_eq!(names(&reading), ["Role app/a", "Role app/b"]);
    let problem = errors(&reading)[0];
    assert_eq!(problem.line, Some(11));
    assert!(problem.message.contains("UTF-8"), "{problem:?}");
}

#[test]
fn the_last_definition_counts() {
    let text = format!(
        "{}---\n{}---\n{}",
        role("r"),
        role("r").replace("get", "list"),
        role("r").replace("namespace: app", "namespace: other")
    );
    let reading = read(&text);
    assert_eq!(names(&reading), ["Role app/r", "Role other/r"]);
    let Object::Role(role) = &reading.objects[0] else {
        panic!("{reading:?}");
    };
    assert_eq!(role.rules[0].verbs, ["list"]);
    let warnings = warnings(&reading);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("line 1 ") && warnings[0].contains("line 9;"),
        "{warnings:?}"
    );
}

#[test]
fn namespaces_are_defaulted_and_cleared() {
    let text = format!(
        "{RBAC}\nkind: RoleBinding\nmetadata: {{name: b}}\nroleRef: {{kind: Role, name: r}}\nsubjects: [{{kind: ServiceAccount, name: web}}]\n---\n{RBAC}\nkind: ClusterRole\nmetadata: {{name: c, namespace: app}}\n"
    );
    let reading = read(&text);
    assert_eq!(names(&reading), ["ClusterRole /c", "RoleBinding default/b"]);
    let Object::Binding(binding) = &reading.objects[1] else {
        panic!("{reading:?}");
    };
    assert_eq!(binding.subjects[0].written(), "sa:default/web");
}

#[test]
fn an_object_of_five_megabytes_is_fine() {
    let rule = "- apiGroups: ['']\n  resources: [pods]\n  resourceNames: [some-rather-long-name]\n  verbs: [get, list]\n";
    let count = 5_000_000 / rule.len();
    let text = format!(
        "{RBAC}\nkind: ClusterRole\nmetadata: {{name: big}}\nrules:\n{}",
        rule.repeat(count)
    );
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    let Object::Role(role) = &reading.objects[0] else {
        panic!("no role");
    };
    assert_eq!(role.rules.len(), count);
}

/// A workload with one container and the template's account.
fn workload(kind: &str, name: &str, spec: &str) -> String {
    let api_version = match kind {
        "Job" | "CronJob" => "batch/v1",
        "ReplicationController" => "v1",
        _ => "apps/v1",
    };
    let template = "template: {spec: {serviceAccountName: web, containers: [{name: c}]}}";
    let inner = if kind == "CronJob" {
        format!("jobTemplate: {{spec: {{{template}}}}}")
    } else {
        template.to_owned()
    };
    format!(
        "---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: app}}\nspec: {{{spec}{inner}}}\n"
    )
}

#[test]
fn each_workload_without_pods_has_a_predicted_one() {
    let kinds = [
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Job",
        "CronJob",
    ];
    let text: String = kinds
        .iter()
        .map(|kind| workload(kind, &kind.to_lowercase(), ""))
        .collect();
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    let pods = pods(&reading);
    assert_eq!(pods.len(), kinds.len());
    for pod in pods {
        assert!(pod.predicted);
        assert_eq!(pod.service_account, "web");
        let owner = pod.workload.as_ref().unwrap();
        assert_eq!(owner.kind.to_lowercase(), pod.meta.name);
        assert_eq!(pod.tokens.len(), 1, "{pod:?}");
        assert!(pod.tokens[0].at_default_path);
        assert!(pod.meta.origin.is_some());
    }
    assert!(reading.skipped.is_empty());
}

#[test]
fn workloads_at_rest_have_no_pod() {
    let text = [
        workload("Deployment", "a", "replicas: 0, "),
        workload("StatefulSet", "b", "replicas: 0, "),
        workload("CronJob", "c", "suspend: true, "),
        workload("Job", "d", "suspend: true, "),
        workload("Job", "e", "") + "status: {conditions: [{type: Complete, status: 'True'}]}\n",
    ]
    .concat();
    let reading = read(&text);
    assert_eq!(reading.problems, []);
    assert_eq!(pods(&reading), Vec::<&Pod>::new());
}

#[test]
fn a_pod_in_the_input_stands_for_its_workload() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web-7d9f-x\n  namespace: app\n  labels: {pod-template-hash: 7d9f}\n  ownerReferences: [{kind: ReplicaSet, name: web-7d9f, controller: true}]\nspec: {containers: [{name: c}]}\nstatus: {phase: Running}\n";
    let set = workload("ReplicaSet", "web-7d9f", "").replace(
        "namespace: app}",
        "namespace: app, ownerReferences: [{kind: Deployment, name: web, controller: true}]}",
    );
    let both = format!("{pod}{set}{}", workload("Deployment", "web", ""));
    let reading = read(&both);
    assert_eq!(names(&reading), ["Pod app/web-7d9f-x"]);
    assert!(!pods(&reading)[0].predicted);
    assert!(pods(&reading)[0].tokens.is_empty());
    let templates = format!("{set}{}", workload("Deployment", "web", ""));
    assert_eq!(names(&read(&templates)), ["Pod app/web"]);
    assert_eq!(names(&read(&set)), ["Pod app/web-7d9f"]);
    let elsewhere = both.replace("namespace: app\n", "namespace: other\n");
    assert_eq!(pods(&read(&elsewhere)).len(), 2);
}

#[test]
fn accounts_of_the_input_decide_about_automount() {
    let account = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: app}\nautomountServiceAccountToken: no\n";
    let reading = read(&format!("{}{account}", workload("Deployment", "a", "")));
    assert!(pods(&reading)[0].tokens.is_empty());
    let own = workload("Deployment", "a", "").replace(
        "{serviceAccountName",
        "{automountServiceAccountToken: true, serviceAccountName",
    );
    let reading = read(&format!("{own}{account}"));
    assert_eq!(pods(&reading)[0].tokens.len(), 1);
}

#[test]
fn pods_are_admitted_by_phase_uid_or_mirror() {
    let pod = |meta: &str, status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, {meta}}}\nspec: {{containers: [{{name: c, envFrom: [{{secretRef: {{name: s}}}}]}}]}}\n{status}\n"
        )
    };
    for (text, predicted) in [
        (pod("", ""), true),
        (pod("uid: x", ""), false),
        (pod("", "status: {phase: Failed}"), false),
        (
            pod("annotations: {kubernetes.io/config.mirror: x}", ""),
            false,
        ),
        (pod("", "status: {}"), true),
    ] {
        let reading = read(&text);
        assert_eq!(reading.problems, [], "{text}");
        let pod = pods(&reading)[0];
        assert_eq!(pod.predicted, predicted, "{text}");
        assert_eq!(pod.tokens.len(), usize::from(predicted));
        assert_eq!(pod.secrets[0].source, SecretSource::Env);
    }
}

#[test]
fn workloads_of_one_name_keep_apart() {
    let text = workload("Deployment", "web", "") + &workload("StatefulSet", "web", "");
    assert_eq!(
        names(&read(&text)),
        ["Pod app/statefulset/web", "Pod app/web"]
    );
}

fn open(path: &Path) -> Manifests {
    let path = path
        .to_str()
        .expect("temporary directories have plain names");
    Manifests::open(path, Limits::default()).expect("the path exists")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the directory is writable");
}

#[test]
fn a_directory_is_read_with_everything_below() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sub/.git")).unwrap();
    write(&dir.path().join("b.yml"), &role("b"));
    write(&dir.path().join("sub/a.yaml"), &role("a"));
    write(
        &dir.path().join("sub/c.json"),
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}}"#,
    );
    write(&dir.path().join("sub/.git/d.yaml"), &role("d"));
    write(&dir.path().join("notes.txt"), "not a manifest: [");
    let reading = open(dir.path()).read().unwrap();
    assert_eq!(
        names(&reading),
        ["Role app/a", "Role app/b", "Namespace /c"]
    );
    assert_eq!(reading.problems, []);
    let origin = reading.objects[0].meta().origin.as_ref().unwrap();
    assert_eq!(
        *origin.file,
        *dir.path().join("sub/a.yaml").display().to_string()
    );
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Manifests::open(missing.to_str().unwrap(), Limits::default()).unwrap_err();
    assert!(matches!(error, ReadError::Missing(_)));
    assert!(error.to_string().contains("give a file, a directory, or -"));
    let mut empty = open(dir.path());
    assert_eq!(errors(&empty.read().unwrap()).len(), 1);
    write(&dir.path().join("a.yaml"), &role("a"));
    assert_eq!(empty.read().unwrap().problems, []);
}

#[cfg(unix)]
#[test]
fn a_mounted_config_map_is_read_once_and_again_after_its_swap() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (version, verb) in [("..2024_1", "get"), ("..2024_2", "list")] {
        fs::create_dir(at(version)).unwrap();
        write(&at(version).join("r.yaml"), &role("r").replace("get", verb));
    }
    symlink("..2024_1", at("..data")).unwrap();
    symlink("..data/r.yaml", at("r.yaml")).unwrap();
    symlink("r.yaml", at("z.yaml")).unwrap();
    symlink(".", at("loop")).unwrap();
    let verbs = |reading: &Reading| match &reading.objects[..] {
        [Object::Role(role)] => role.rules[0].verbs[0].clone(),
        other => panic!("{other:?}"),
    };
    let mut manifests = open(dir.path());
    let reading = manifests.read().unwrap();
    assert_eq!(reading.problems, []);
    assert_eq!(verbs(&reading), "get");
    symlink("..2024_2", at("..tmp")).unwrap();
    fs::rename(at("..tmp"), at("..data")).unwrap();
    assert_eq!(verbs(&manifests.read().unwrap()), "list");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let mut manifests = open(&pipe);
    let writer = std::thread::spawn(move || write(&pipe, &role("a")));
    assert_eq!(names(&manifests.read().unwrap()), ["Role app/a"]);
    writer.join().unwrap();
    assert_eq!(names(&manifests.read().unwrap()), ["Role app/a"]);
    assert!(manifests.changes().unwrap().is_some());
    assert!(manifests.changes().unwrap().is_none());
}

#[test]
fn changes_come_only_when_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    write(&file, &role("a"));
    let mut manifests = open(dir.path());
    let changes = manifests.changes().unwrap().unwrap();
    let begins = changes
        .iter()
        .filter(|change| matches!(change, Change::RelistBegin(_)));
    assert_eq!(begins.count(), Resource::ALL.len());
    assert!(matches!(changes[7], Change::Upsert(Object::Role(_))));
    assert!(matches!(changes[8], Change::RelistEnd(_)));
    assert!(matches!(changes[15], Change::Problems(_)));
    assert!(matches!(changes[16], Change::Skipped(_)));
    assert_eq!(changes.len(), 17);
    assert!(manifests.changes().unwrap().is_none());
    // The same text written again, then a text of the same size.
    write(&file, &role("a"));
    assert!(manifests.changes().unwrap().is_none());
    write(&file, &role("b"));
    assert!(manifests.changes().unwrap().is_some());
    // An old time lets size and time decide.
    let old = SystemTime::now() - Duration::from_secs(3600);
    let stamp = || {
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.set_modified(old).unwrap();
    };
    stamp();
    assert!(manifests.changes().unwrap().is_none());
    write(&file, &role("c"));
    assert!(manifests.changes().unwrap().is_some());
    fs::remove_file(&file).unwrap();
    write(&dir.path().join("z.yaml"), "");
    let changes = manifests.changes().unwrap().unwrap();
    assert!(
        !changes
            .iter()
            .any(|change| matches!(change, Change::Upsert(_)))
    );
}

#[test]
fn a_file_that_breaks_keeps_its_objects_until_mended() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let good = format!("{}---\n{}", role("a"), role("b"));
    write(&file, &good);
    write(&dir.path().join("other.yaml"), &role("x"));
    let mut manifests = open(dir.path());
    assert_eq!(manifests.read().unwrap().objects.len(), 3);
    // The second document no longer parses.
    write(
        &file,
        &good
            .replacen("[get]", "[list]", 1)
            .replacen("[get]", "[", 1),
    );
    let reading = manifests.read().unwrap();
    assert_eq!(names(&reading), ["Role app/a", "Role app/b", "Role app/x"]);
    assert_eq!(errors(&reading).len(), 1);
    let Object::Role(first) = &reading.objects[0] else {
        panic!("{reading:?}");
    };
    assert_eq!(first.rules[0].verbs, ["list"]);
    // Nothing of it parses, and again.
    for text in ["\t@", "{{ .Values }}\n"] {
        write(&file, text);
        assert_eq!(manifests.read().unwrap().objects.len(), 3);
    }
    // One document names itself but cannot be decoded; the other is gone.
    write(&file, &role("b").replace("[get]", "get"));
    assert_eq!(
        names(&manifests.read().unwrap()),
        ["Role app/b", "Role app/x"]
    );
    // Its kind is mistyped.
    write(&file, &role("b").replace("kind: Role", "kind: Roel"));
    assert_eq!(
        names(&manifests.read().unwrap()),
        ["Role app/b", "Role app/x"]
    );
    write(&file, &role("c"));
    let reading = manifests.read().unwrap();
    assert_eq!(names(&reading), ["Role app/c", "Role app/x"]);
    assert_eq!(reading.problems, []);
    fs::remove_file(&file).unwrap();
    assert_eq!(names(&manifests.read().unwrap()), ["Role app/x"]);
}

#[test]
fn a_file_that_is_too_large_keeps_its_objects() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    write(&file, &role("a"));
    let limits = Limits {
        file_bytes: 1 << 20,
    };
    let mut manifests = Manifests::open(file.to_str().unwrap(), limits).unwrap();
    assert_eq!(manifests.read().unwrap().problems, []);
    write(&file, &format!("{}# {}", role("a"), "x".repeat(2 << 20)));
    let reading = manifests.read().unwrap();
    assert_eq!(names(&reading), ["Role app/a"]);
    assert!(errors(&reading)[0].message.contains("larger than 1 MiB"));
    assert!(manifests.changes().unwrap().is_some());
    assert!(manifests.changes().unwrap().is_none());
    fs::remove_file(&file).unwrap();
    assert!(matches!(manifests.read(), Err(ReadError::Missing(_))));
}

proptest::proptest! {
    /// Whatever is done to a manifest, reading it ends, and never in a panic.
    #[test]
    fn no_edit_is_fatal(
        edits in proptest::collection::vec((0_usize..2000, 0_usize..24, "[ -~\\n\u{e9}]{0,6}"), 0..12),
        json: bool,
    ) {
        let mut text = if json {
            String::from(r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a","labels":{"x":"y"}},"rules":[{"verbs":["get"]}]},{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","env":[]}]}}]}"#)
        } else {
            format!("{}---\n{}apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: &m {{name: p}}\n  spec:\n    containers:\n    - name: |\n        c\n- metadata: *m\n", role("a"), workload("CronJob", "c", ""))
        };
        for (at, delete, insert) in edits {
            let chars: Vec<char> = text.chars().collect();
            let at = at.min(chars.len());
            let rest = (at + delete).min(chars.len());
            text = chars[..at].iter().collect::<String>() + &insert + &chars[rest..].iter().collect::<String>();
        }
        let reading = read(&text);
        for problem in &reading.problems {
            proptest::prop_assert!(!problem.message.contains('\n'));
            proptest::prop_assert!(problem.line.unwrap_or(1) as usize <= text.lines().count() + 1);
        }
        for resource in Resource::ALL {
            let _ = rbac_exporter::source::slim::decode(resource, &text);
        }
    }
}
