//! The configuration: what is refused and how that reads, what it does, how it is loaded again.

use crate::command::{Input, Server, command, demo, run, samples};
use rbac_exporter::config::{self, Config, Text};
use rbac_exporter::export::report::Report;
use rbac_exporter::ledger::{Ledger, Policy, Settings, World};
use rbac_exporter::located::Fault;
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::Catalogue;
use rbac_exporter::source::manifests::{Limits, Manifests};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Broken configurations `NAME.yaml`, broken templates `template-….yaml`, and beside each what is said.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/config")
}

/// With `UPDATE_EXPECTED=1` the expected messages are written instead; read the difference.
#[test]
fn broken_configurations_and_templates_are_refused_with_every_fault_named() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 40, "{}", names.len());
    let mut wrong = Vec::new();
    for name in &names {
        let template = name.starts_with("template-")
            && !name.contains("-config")
            && !name.contains("-missing.");
        let check = if template { "rules" } else { "config" };
        let ran = run_in(&folder(), &[check, "check", name]);
        let text = named(name, &fs::read_to_string(folder().join(name)).unwrap());
        let faults = match template {
            true => read(None, vec![text], &folder()),
            false => read(Some(&text), Vec::new(), &folder()),
        };
        let faults = faults.map(|_| ()).unwrap_err();
        let faults: String = faults.iter().map(|f| format!("{f}\n")).collect();
        assert!(ran.1.starts_with(&faults), "{faults}{}", ran.1);
        let expected = folder().join(name.replace(".yaml", ".stderr"));
        if update {
            fs::write(&expected, &ran.1).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if (ran.0, ran.2.as_str()) != (2, "") || ran.1 != expected {
            wrong.push(format!(
                "{name}: exit {}\n{}expected\n{expected}",
                ran.0, ran.1
            ));
        }
        // nothing of a file reaches the terminal as it is
        let odd = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!ran.1.contains(odd), "{name}: {:?}", ran.1);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Exit code, standard error and standard output.
fn run_in(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = command(args).current_dir(folder).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

// === what rules do

/// Users, each with a ClusterRole of these rules by a binding: cluster-wide, or in a namespace.
fn world(users: &[(&str, &str, &str)]) -> Input {
    let mut text = String::new();
    for (user, namespace, rules) in users {
        let (kind, at) = match *namespace {
            "" => ("ClusterRoleBinding", String::new()),
            ns => ("RoleBinding", format!(", namespace: {ns}")),
        };
        write!(
            text,
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n\
             metadata: {{name: {user}}}\nrules: [{rules}]\n\
             ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\n\
             metadata: {{name: {user}{at}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {user}}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]\n"
        )
        .unwrap();
    }
    Input::new(&text)
}

const LISTS_SECRETS: &str = "{apiGroups: [''], resources: [secrets], verbs: [list]}";
const LISTS_CONFIGMAPS: &str = "{apiGroups: [''], resources: [configmaps], verbs: [list]}";
const MAKES_PODS: &str = "{apiGroups: [''], resources: [pods], verbs: [create]}";
const BINDS: &str = "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles, clusterrolebindings], verbs: [bind, create]}";

/// Reads a configuration; the templates that it names lie in `folder`.
fn read(config: Option<&Text>, beside: Vec<Text>, folder: &Path) -> Result<Config, Vec<Fault>> {
    config::read(config, beside, &mut |path| {
        let text = fs::read_to_string(folder.join(path)).map_err(|e| e.to_string())?;
        Ok(named(path, &text))
    })
}

fn named(name: &str, text: &str) -> Text {
    Text {
        name: name.into(),
        text: text.into(),
    }
}

/// The report with a configuration, and what it says of users: `rule@scope priority`.
struct Judged(Value);

impl Judged {
    fn by(config: &str, input: &Input) -> Judged {
        let config = read(Some(&named("config.yaml", config)), Vec::new(), &folder());
        Judged::with(config.unwrap(), input)
    }

    fn by_template(template: &str, input: &Input) -> Judged {
        let template = named("template.yaml", template);
        Judged::with(read(None, vec![template], &folder()).unwrap(), input)
    }

    fn with(config: Config, input: &Input) -> Judged {
        let mut policy = Policy::from(Arc::new(Catalogue::of(&config.rules)));
        policy.accepted = config.accepted.into_iter().map(|a| a.entry).collect();
        let mut ledger = Ledger::new(policy, Settings::new(World::Manifests, NEWEST));
        let path = input.path.to_str().unwrap();
        let mut manifests = Manifests::open(path, Limits::default()).unwrap();
        let changes = manifests.changes().unwrap().unwrap();
        changes.into_iter().for_each(|c| ledger.apply(c));
        ledger.settle();
        assert_eq!(ledger.selfcheck(), 0);
        Judged(serde_json::to_value(Report::of(&ledger)).unwrap())
    }

    fn user(&self, name: &str) -> &Value {
        let subjects = self.0["subjects"].as_array().unwrap();
        let found = subjects.iter().find(|s| s["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {subjects:?}"))
    }

    fn priority(&self, name: &str) -> &str {
        self.user(name)["priority"].as_str().unwrap()
    }

    fn findings(&self, name: &str) -> Vec<String> {
        let findings = self.user(name)["findings"].as_array().unwrap();
        let text = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
        let say = |f: &Value| {
            let [rule, scope, priority] = ["rule", "scope", "priority"].map(|k| text(f, k));
            format!("{rule}@{scope} {priority}")
        };
        findings.iter().map(say).collect()
    }

    fn ruleset(&self) -> &str {
        self.0["ruleset"].as_str().unwrap()
    }
}

#[test]
fn x5_a_rule_with_a_shipped_id_replaces_it() {
    let input = world(&[
        ("s", "", LISTS_SECRETS),
        ("c", "app", LISTS_CONFIGMAPS),
        ("b", "", BINDS),
        ("p", "app", MAKES_PODS),
    ]);
    let other = "any: [[{verbs: [list], apiGroups: [''], resources: [configmaps]}]]";
    let config = format!(
        "rules:\n- {{id: secrets-list, {other}, priority: medium}}\n\
         - {{id: rbac-bind, {other}, priority: {{c: '-', p: '-', n: low}}}}\n\
         - {{id: pod-create, {other}, priority: low}}\n"
    );
    let before = Judged::by("{}", &input);
    assert_eq!(before.findings("s"), ["secrets-list@* critical"]);
    assert!(
        before
            .findings("b")
            .contains(&"rbac-bind@* critical".into())
    );
    assert!(before.findings("c").is_empty());
    let after = Judged::by(&config, &input);
    assert!(after.findings("s").is_empty());
    // the code of a special is out of force with its rule
    assert!(
        !after
            .findings("b")
            .iter()
            .any(|f| f.starts_with("rbac-bind"))
    );
    assert_eq!(
        after.findings("c"),
        [
            "rbac-bind@app low",
            "secrets-list@app medium",
            "pod-create@app low"
        ]
    );
    assert!(after.findings("p").is_empty());
    assert_ne!(before.ruleset(), after.ruleset());

    let unknown = Input::new("rules:\n- {id: secrets-list, pirority: low}\n");
    let ran = run(&["config", "check", unknown.path.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .contains(":2: rules[0]: \"pirority\" is no known key; did you mean \"priority\"?"),
        "{}",
        ran.err
    );
}

#[test]
fn x5_whom_one_becomes_follows_from_the_shipped_condition() {
    let admin = "{apiGroups: ['*'], resources: ['*'], verbs: ['*']}";
    let mut text = fs::read_to_string(
        &world(&[("p", "app", MAKES_PODS), ("c", "app", LISTS_CONFIGMAPS)]).path,
    )
    .unwrap();
    write!(
        text,
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: strong, namespace: app}}\n\
         ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: all}}\nrules: [{admin}]\n\
         ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: all}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all}}\n\
         subjects: [{{kind: ServiceAccount, name: strong, namespace: app}}]\n"
    )
    .unwrap();
    let input = Input::new(&text);
    let any = "any: [[{verbs: [create], apiGroups: [''], resources: [pods]}], [{verbs: [list], apiGroups: [''], resources: [configmaps]}]]";
    let judged = Judged::by(
        &format!("rules: [{{id: pod-create, {any}, priority: low}}]"),
        &input,
    );
    // both have the finding; only who can create pods gets the account's token
    assert_eq!(judged.priority("p"), "critical");
    assert_eq!(judged.priority("c"), "low");
}

#[test]
fn x6_nothing_starts_with_a_rule_that_cannot_be_meant() {
    let input = world(&[("s", "", LISTS_SECRETS)]);
    let manifests = input.path.to_str().unwrap();
    let config = "rules:\n\
         - {id: mine, special: true, priority: low}\n\
         - {id: a, any: [[{verbs: [get], apiGroups: [''], resources: []}]], priority: low}\n\
         - {id: secrets-list, priority: critcal}\n";
    let file = Input::new(config);
    let path = file.path.to_str().unwrap();
    for command in [
        &["serve", "--web.listen-address", "127.0.0.1:0"][..],
        &["scan"],
        &["rules", "list"],
        &["can-i", "get", "secrets", "--as", "s"],
    ] {
        let ran = run(&[
            command,
            &["--source.manifests", manifests, "--config.file", path],
        ]
        .concat());
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (2, ""),
            "{command:?}: {}",
            ran.err
        );
        assert_eq!(
            ran.err,
            format!(
                "{path}:2: rules[0].special: rule \"mine\" is marked special, but no code knows it; give a condition, any, instead\n\
                 {path}:3: rules[1].any[0][0].resources: is an empty list\n\
                 {path}:4: rules[2].priority: \"critcal\" is no known priority; did you mean \"critical\"?\n\
                 rbac-exporter: 3 faults in the configuration; nothing of it is used\n"
            )
        );
    }
    let ran = run(&[
        "scan",
        "--source.manifests",
        manifests,
        "--config.file",
        "/nonexistent.yaml",
    ]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .starts_with("configuration \"/nonexistent.yaml\" cannot be read: No such file"),
        "{}",
        ran.err
    );
}

#[test]
fn rules_are_added_changed_and_disabled() {
    let input = world(&[
        ("s", "", LISTS_SECRETS),
        ("sn", "app", LISTS_SECRETS),
        ("b", "", BINDS),
        (
            "app",
            "app",
            "{apiGroups: [argoproj.io], resources: [applications], verbs: [create]}",
        ),
        (
            "named",
            "",
            "{apiGroups: [''], resources: [pods/exec], verbs: [create], resourceNames: [a]}",
        ),
    ]);
    let config = "
rules:
- {id: secrets-list, priority: low}
- {id: rbac-bind, priority: medium}
- {id: rbac-write, disabled: true}
- {id: pod-exec, priority: low}
- id: argo-application
  title: Make Argo CD install things
  any: [[{verbs: [create, update, patch], apiGroups: [argoproj.io], resources: [applications]}]]
  priority: {cluster: critical, privileged: critical, namespace: high}
";
    let file = Input::new(config);
    let path = file.path.to_str().unwrap();
    let judged = Judged::by(config, &input);
    assert_eq!(judged.findings("s"), ["secrets-list@* low"]);
    assert_eq!(judged.findings("sn"), ["secrets-list@app low"]);
    // what code computes is capped, and the grants to names never weigh more than the others
    assert_eq!(judged.findings("b"), ["rbac-bind@* medium"]);
    assert_eq!(judged.findings("named"), ["pod-exec@* low"]);
    assert_eq!(judged.findings("app"), ["argo-application@app high"]);

    let rules = run(&["rules", "list", "-o", "json", "--config.file", path]).json();
    let rules = rules.as_array().unwrap();
    assert_eq!(rules.len(), 86);
    let of = |id: &str| rules.iter().find(|r| r["id"] == id);
    assert!(of("rbac-write").is_none());
    assert_eq!(of("secrets-get").unwrap()["origin"], "shipped");
    assert_eq!(
        of("argo-application").unwrap()["origin"],
        format!("{path}:7")
    );
    assert_eq!(
        of("argo-application").unwrap()["title"],
        "Make Argo CD install things"
    );
    assert_eq!(
        of("secrets-list").unwrap()["origin"],
        format!("shipped, changed by {path}:3")
    );
    assert_eq!(of("secrets-list").unwrap()["cluster"], "low");
    // node-proxy cannot happen in a namespace, and one word does not change that
    let ran = run(&["rules", "check", path]);
    assert_eq!(
        ran.out,
        "86 rules in force (1 added, 3 changed, 1 disabled)\n"
    );
}

#[test]
fn one_word_leaves_silent_what_is_silent() {
    let file = Input::new(
        "rules: [{id: node-proxy, priority: low}, {id: secrets-read-named, priority: high}]",
    );
    let path = file.path.to_str().unwrap();
    let rules = run(&["rules", "list", "-o", "json", "--config.file", path]).json();
    let of = |id: &str| {
        let rules = rules.as_array().unwrap();
        let rule = rules.iter().find(|r| r["id"] == id).unwrap().clone();
        ["cluster", "privileged", "namespace"].map(|p| rule[p].clone())
    };
    assert_eq!(
        of("node-proxy"),
        [Value::from("low"), Value::Null, Value::Null]
    );
    assert_eq!(of("secrets-read-named"), ["high"; 3].map(Value::from));
}

#[test]
fn the_ruleset_moves_with_the_rules_and_with_nothing_else() {
    let input = world(&[("s", "", LISTS_SECRETS)]);
    let of = |config: &str| Judged::by(config, &input).ruleset().to_owned();
    let shipped = Judged::with(Config::default(), &input).ruleset().to_owned();
    for same in [
        "{}",
        "# a comment\nmetrics: {detailLimit: 3}",
        "privilegedNamespaces: [kube-system]",
        "rules: [{id: secrets-list, title: Another title}]",
        "rules: [{id: secrets-list, priority: {cluster: critical, privileged: critical, namespace: high}}]",
    ] {
        assert_eq!(of(same), shipped, "{same}");
    }
    let any = "any: [[{verbs: [list], apiGroups: [''], resources: [secrets]}]]";
    let others = [
        "privilegedNamespaces: [gitops]".to_owned(),
        "rules: [{id: secrets-list, priority: low}]".to_owned(),
        "rules: [{id: secrets-list, disabled: true}]".to_owned(),
        "rules: [{id: rbac-bind, priority: low}]".to_owned(),
        format!("rules: [{{id: mine, {any}, priority: low}}]"),
        format!("rules: [{{id: mine, {any}, priority: high}}]"),
    ];
    let mut seen = vec![shipped];
    for other in others {
        let ruleset = of(&other);
        assert!(!seen.contains(&ruleset), "{other}");
        seen.push(ruleset);
    }
}

#[test]
fn privileged_namespaces_are_added() {
    let input = world(&[
        ("p", "gitops", MAKES_PODS),
        ("k", "kube-system", MAKES_PODS),
        ("a", "app", MAKES_PODS),
    ]);
    let judged = Judged::by("privilegedNamespaces: [gitops]", &input);
    assert_eq!(
        ["p", "k", "a"].map(|u| judged.priority(u)),
        ["critical", "critical", "high"]
    );
    assert_eq!(
        Judged::by("privilegedNamespaces: []", &input).priority("p"),
        "high"
    );
}

// === KubiScan's template

const TEMPLATE: &str = r#"
items:
# Risk: a comment, as the file has them
- kind: Role
  metadata:
    namespace: default
    name: risky-any-verb-secrets
    priority: CRITICAL
  rules:
  - apiGroups: ["*"]
    resources: ["secrets"]
    verbs: ["*"]

- kind: Role
  metadata:
    namespace: default
    name: risky-exec
    priority: HIGH
  rules:
  - apiGroups: ["*"]
    resources: ["pods/exec"]
    verbs: ["create"]
  - apiGroups: ["*"]
    resources: ["pods"]
    verbs: ["get"]

- kind: ClusterRole
  metadata:
    name: risky-jobs
    priority: LOW
  rules:
  - resources: ["jobs"]
    verbs: ["create", "delete"]

- kind: Role
  metadata:
    name: risky-jobs
    priority: low
  rules:
  - apiGroups: ["example.com"]
    resources: ["runs"]
    verbs: ["create"]

- kind: Role
  metadata:
    name: risky-bind
    priority: Medium
  rules:
  - apiGroups: ["rbac.authorization.k8s.io"]
    resources: ["clusterroles"]
    verbs: ["bind"]
    resourceNames: ["*"]
"#;

#[test]
fn a_template_of_kubiscan_is_asked_as_rbac_would_be() {
    let grant = |group: &str, resources: &str, verbs: &str| {
        format!("{{apiGroups: ['{group}'], resources: [{resources}], verbs: [{verbs}]}}")
    };
    let cases = [
        // wildcards and subresource patterns grant what they grant
        (
            "a",
            grant("*", "'*'", "'*'"),
            vec![
                "risky-any-verb-secrets",
                "risky-exec",
                "risky-jobs",
                "risky-bind",
            ],
        ),
        (
            "b",
            grant("", "secrets", "'*'"),
            vec!["risky-any-verb-secrets"],
        ),
        ("c", grant("", "secrets", "get, list"), vec![]),
        // of another API group
        ("d", grant("example.com", "secrets", "'*'"), vec![]),
        (
            "e",
            grant("", "'*/exec', pods", "create, get"),
            vec!["risky-exec"],
        ),
        ("f", grant("", "pods", "create, get"), vec![]),
        ("g", grant("", "pods/exec", "create"), vec![]),
        // all verbs of a template, not any
        ("h", grant("batch", "jobs", "create"), vec![]),
        (
            "i",
            grant("batch", "jobs", "create, delete"),
            vec!["risky-jobs"],
        ),
        // entries of one name are alternatives
        (
            "j",
            grant("example.com", "runs", "create"),
            vec!["risky-jobs"],
        ),
        (
            "k",
            grant("rbac.authorization.k8s.io", "clusterroles", "bind"),
            vec!["risky-bind"],
        ),
    ];
    let users: Vec<(&str, &str, &str)> = cases
        .iter()
        .map(|(u, rules, _)| (*u, "", rules.as_str()))
        .collect();
    let input = world(&users);
    let judged = Judged::by_template(TEMPLATE, &input);
    for (user, rules, expected) in &cases {
        let mut found: Vec<String> = judged.findings(user);
        found.retain(|f| f.starts_with("risky-"));
        let found: Vec<&str> = found.iter().map(|f| f.split('@').next().unwrap()).collect();
        assert_eq!(found, *expected, "{user}: {rules}");
    }
    // the pieces of a template may come from two roles
    let split = world(&[("x", "", &grant("", "pods/exec", "create"))]);
    let text = fs::read_to_string(&split.path).unwrap()
        + &fs::read_to_string(&world(&[("y", "", &grant("", "pods", "get"))]).path)
            .unwrap()
            .replace("kind: User, name: y", "kind: User, name: x");
    let judged = Judged::by_template(TEMPLATE, &Input::new(&text));
    assert!(judged.findings("x").contains(&"risky-exec@* high".into()));
}

#[test]
fn templates_named_by_the_configuration_can_be_changed_by_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("kubiscan")).unwrap();
    fs::write(folder.path().join("kubiscan/mine.yaml"), TEMPLATE).unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, "kubiscanTemplates: [kubiscan/mine.yaml]\nrules:\n- {id: risky-exec, priority: {cluster: critical, privileged: high, namespace: low}}\n- {id: risky-jobs, disabled: true}\n").unwrap();
    let path = file.to_str().unwrap();
    let rules = run(&["rules", "list", "-o", "json", "--config.file", path]).json();
    let of = |id: &str| {
        rules
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["id"] == id)
            .cloned()
    };
    assert!(of("risky-jobs").is_none());
    let exec = of("risky-exec").unwrap();
    let place = format!(
        "{}/kubiscan/mine.yaml:14, template, changed by {path}:3",
        folder.path().display()
    );
    assert_eq!(
        (exec["origin"].as_str(), exec["namespace"].as_str()),
        (Some(place.as_str()), Some("low"))
    );
    let ran = run(&["config", "check", path]);
    assert_eq!(
        ran.out,
        format!(
            "{path}: good: 89 rules in force (4 added, 1 changed, 1 disabled), 0 accepted risks\n"
        )
    );
}

// === what it says of itself

#[test]
fn the_example_loads_matches_the_demo_and_shows_every_key() {
    let example = "deploy/config.example.yaml";
    let ran = run(&["config", "check", example, "--source.manifests", demo()]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(
        ran.out,
        format!(
            "{example}: good: 88 rules in force (3 added, 2 changed, 1 disabled), 1 accepted risk\n"
        )
    );
    let text = fs::read_to_string(example).unwrap();
    let reference = fs::read_to_string("docs/configuration.md").unwrap();
    for key in rbac_exporter::config::all_words() {
        let written = ["{key}:", "{key}: "]
            .iter()
            .any(|form| text.contains(&form.replace("{key}", key)));
        // the marker of a shipped condition needs no example
        assert!(
            written || key == "special" || key == "finding",
            "{key} is not in the example"
        );
        assert!(reference.contains(key), "{key} is not in the reference");
    }
}

/// A configuration that was cut off, or that lost a line, a letter or its indentation, is taken or
/// refused with lines that it has; nothing falls over.
#[test]
fn whatever_happens_to_a_configuration_is_told_with_its_line() {
    let example = fs::read_to_string("deploy/config.example.yaml").unwrap();
    let template = TEMPLATE.to_owned();
    for (whole, is_template) in [(example, false), (template, true)] {
        let lines: Vec<&str> = whole.lines().collect();
        let join = |lines: &[&str]| lines.join("\n") + "\n";
        let mut broken: Vec<String> = Vec::new();
        for i in 0..lines.len() {
            broken.push(join(&lines[..i]));
            broken.push(join(&[&lines[..i], &lines[i + 1..]].concat()));
            broken.push(join(
                &[&lines[..i], &[lines[i], lines[i]], &lines[i + 1..]].concat(),
            ));
            for changed in [
                format!(" {}", lines[i]),
                lines[i].replacen([':', 'e', '['], "", 1),
            ] {
                broken.push(join(
                    &[&lines[..i], &[changed.as_str()], &lines[i + 1..]].concat(),
                ));
            }
        }
        let mut refused = 0;
        for text in broken {
            let file = named("x.yaml", &text);
            let read = match is_template {
                true => read(None, vec![file], &folder()),
                false => read(Some(&file), Vec::new(), &folder()),
            };
            let Err(faults) = read else { continue };
            refused += 1;
            let most = text.lines().count() + 1;
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(
                    (1..=most).contains(&(fault.line as usize)),
                    "{fault}\n{text}"
                );
                assert!(!fault.to_string().contains('\n'), "{fault}");
            }
        }
        assert!(refused > lines.len(), "{refused} of {}", lines.len());
    }
}

#[test]
fn acceptances_that_cover_nothing_are_warnings() {
    let input = world(&[("s", "", LISTS_SECRETS)]);
    let entry = |id: &str, subject: &str, findings: &str, expires: &str| {
        format!(
            "- id: {id}\n  subject: {subject}\n  findings: [{findings}]\n  priority: high\n\
             \x20 reason: r\n  owner: o\n  expires: {expires}\n"
        )
    };
    let config = [
        "rules: [{id: event-delete, disabled: true}]\naccepted:\n".to_owned(),
        entry("good", "user:s", "\"secrets-list@*\"", "2999-12-31"),
        entry("old", "user:s", "\"secrets-list@*\"", "2020-12-31"),
        entry("gone", "user:nobody", "\"secrets-list@*\"", "2999-12-31"),
        entry("other", "user:s", "secrets-list@app", "2999-12-31"),
        entry(
            "half",
            "user:s",
            "\"secrets-list@*\", event-delete@app",
            "2999-12-31",
        ),
    ]
    .concat();
    let file = Input::new(&config);
    let path = file.path.to_str().unwrap();
    let old = format!(
        "{path}:10: accepted[1]: warning: \"old\" has expired, so that it covers nothing; renew it, or take it out\n"
    );
    let disabled = format!(
        "{path}:31: accepted[4]: warning: \"half\" accepts a finding of \"event-delete\", which is disabled\n"
    );
    let ran = run(&["config", "check", path]);
    assert_eq!((ran.code, ran.err), (0, format!("{old}{disabled}")));
    let manifests = input.path.to_str().unwrap();
    let ran = run(&["config", "check", path, "--source.manifests", manifests]);
    let warnings = [
        "17: accepted[2]: warning: \"gone\" matches nothing: user:nobody is not there",
        "24: accepted[3]: warning: \"other\" matches nothing: user:s has none of its findings",
        "31: accepted[4]: warning: \"half\" lists event-delete@app, which user:s has not",
    ];
    let with_source: String = warnings.iter().map(|w| format!("{path}:{w}\n")).collect();
    assert_eq!(
        (ran.code, ran.err),
        (0, format!("{old}{disabled}{with_source}"))
    );
    assert!(
        ran.out
            .ends_with(": good: 85 rules in force (1 disabled), 5 accepted risks\n"),
        "{}",
        ran.out
    );
}

// === loaded again

const PATIENCE: Duration = Duration::from_secs(20);
const LOADED: &str = "rbac_exporter_config_last_reload_successful";
const LOADED_AT: &str = "rbac_exporter_config_last_reload_success_timestamp_seconds";

fn critical(server: &Server) -> f64 {
    server.sum(
        "rbac_risky_subjects",
        "priority=\"critical\",status=\"open\"",
    )
}

/// Replaces a file at once, as editors and kubelets do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn reload_under_traffic_loses_no_scrape_and_none_is_partial() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, "{}").unwrap();
    let server = Server::with(
        Path::new(demo()),
        &["--config.file", file.to_str().unwrap()],
    );
    let before = critical(&server);
    let subjects = server.sum("rbac_subjects", "");
    assert!(before > 5.0);
    let stop = AtomicBool::new(false);
    let scrapes = std::thread::scope(|scope| {
        let scrapers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let (status, text) = server.get("/metrics");
                        assert_eq!(status, 200);
                        let all = samples(&text);
                        let of = |family: &str| {
                            let here = |s: &&String| s.split('{').next() == Some(family);
                            all.keys().filter(here).count()
                        };
                        let sum: f64 = all
                            .iter()
                            .filter(|(s, _)| s.starts_with("rbac_subjects{"))
                            .map(|(_, v)| v.parse::<f64>().unwrap())
                            .sum();
                        assert_eq!(sum, subjects);
                        for family in [
                            "rbac_risky_subjects",
                            "rbac_pods",
                            LOADED,
                            "process_open_fds",
                        ] {
                            assert!(of(family) > 0, "{family}");
                        }
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for round in 0..3 {
            // good: nobody is critical any more by listing Secrets, and details go
            replace(
                &file,
                "rules: [{id: wildcard-admin, priority: low}]\nmetrics: {detail: []}",
            );
            server.signal("HUP");
            let details = |s: &Server| s.sum("rbac_risky_subject_since_timestamp_seconds", "");
            server.until(PATIENCE, |s| details(s) == 0.0);
            assert_eq!(server.sum(LOADED, ""), 1.0);
            // bad: that one stays
            replace(&file, "rules: [{id: wildcard-admin, priority: lwo}]");
            server.signal("HUP");
            server.until(PATIENCE, |s| s.sum(LOADED, "") == 0.0);
            assert_eq!(details(&server), 0.0);
            // good again
            replace(&file, "{}");
            server.signal("HUP");
            server.until(PATIENCE, |s| details(s) > 0.0 && s.sum(LOADED, "") == 1.0);
            assert_eq!(critical(&server), before);
            assert_eq!(server.said("did you mean \\\"low\\\""), round + 1);
        }
        stop.store(true, Ordering::Relaxed);
        scrapers
            .into_iter()
            .map(|s| s.join().unwrap())
            .sum::<usize>()
    });
    assert!(scrapes > 20, "{scrapes}");
}

#[test]
fn what_changes_is_noticed_and_a_bad_version_keeps_the_old_one() {
    let input = world(&[("s", "", LISTS_SECRETS)]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // as the kubelet lays a ConfigMap out: files behind two symlinks, of which the inner one is swapped
    let version = |n: u32, config: &str, template: &str| {
        let dir = at(&format!("..{n}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("config.yaml"), config).unwrap();
        fs::write(dir.join("template.yaml"), template).unwrap();
        let link = at("..data_tmp");
        std::os::unix::fs::symlink(format!("..{n}"), &link).unwrap();
        fs::rename(link, at("..data")).unwrap();
    };
    let template = |priority: &str| {
        format!(
            "items:\n- metadata: {{name: lists, priority: {priority}}}\n  rules: [{{resources: [secrets], verbs: [list]}}]\n"
        )
    };
    let own = "kubiscanTemplates: [template.yaml]\nrules: [{id: secrets-list, disabled: true}]\n";
    version(1, own, &template("LOW"));
    for name in ["config.yaml", "template.yaml"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), at(name)).unwrap();
    }
    let file = at("config.yaml");
    let server = Server::with(&input.path, &["--config.file", file.to_str().unwrap()]);
    let open = |priority: &str| {
        let part = format!("kind=\"User\",priority=\"{priority}\",status=\"open\"");
        move |s: &Server| s.sum("rbac_risky_subjects", &part) == 1.0
    };
    assert!(open("low")(&server));
    let first = server.sum(LOADED_AT, "");
    assert!(first > 0.0);

    // the template alone
    version(2, own, &template("HIGH"));
    server.until(PATIENCE, open("high"));
    assert!(server.sum(LOADED_AT, "") >= first);
    let loaded = |s: &Server| s.said("msg=\"configuration loaded\"");
    assert_eq!(loaded(&server), 1);

    // a bad template, with all its faults, once
    version(
        3,
        own,
        "items:\n- metadata: {name: lists, priority: HIHG}\n  rules: [{resources: [secrets], verb: [list]}]\n",
    );
    server.until(PATIENCE, |s| s.sum(LOADED, "") == 0.0);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(open("high")(&server));
    assert_eq!(
        server.said("template.yaml:2: items[0].metadata.priority"),
        1
    );
    assert_eq!(server.said("template.yaml:3: items[0].rules[0]"), 1);
    assert_eq!(server.said("faults=2 "), 0);
    assert_eq!(server.said("faults=2"), 1);

    // deleted
    version(4, own, &template("MEDIUM"));
    server.until(PATIENCE, open("medium"));
    assert_eq!(server.sum(LOADED, ""), 1.0);
    fs::remove_file(&file).unwrap();
    server.until(PATIENCE, |s| s.sum(LOADED, "") == 0.0);
    assert!(open("medium")(&server));
    assert_eq!(server.said("cannot be read: No such file"), 1);

    // half-written: empty, then cut off; a SIGHUP in the middle does not help it
    for part in ["", "rules:\n- {id: secrets-list, priority: cri"] {
        fs::write(&file, part).unwrap();
        server.signal("HUP");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.sum(LOADED, ""), 0.0, "{part:?}");
        assert!(open("medium")(&server), "{part:?}");
    }
    fs::write(&file, "rules: [{id: secrets-list, priority: critical}]").unwrap();
    server.until(PATIENCE, open("critical"));
    assert_eq!(server.sum(LOADED, ""), 1.0);
    assert_eq!(server.get("/-/healthy").0, 200);
}

#[test]
fn a_risk_is_accepted_and_opened_again_without_a_restart() {
    let input = world(&[("s", "", LISTS_SECRETS), ("t", "", LISTS_SECRETS)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, "{}").unwrap();
    let server = Server::with(&input.path, &["--config.file", file.to_str().unwrap()]);
    let of = |server: &Server, status: &str| {
        let part = format!("priority=\"critical\",status=\"{status}\"");
        server.sum("rbac_risky_subjects", &part)
    };
    assert_eq!((of(&server, "open"), of(&server, "accepted")), (2.0, 0.0));
    let accepted = "accepted:\n- id: s\n  subject: user:s\n  findings: ['secrets-list@*']\n  priority: critical\n\
         \x20 reason: known\n  owner: platform\n  expires: 2999-12-31\n";
    replace(&file, accepted);
    server.until(PATIENCE, |s| of(s, "accepted") == 1.0);
    assert_eq!(of(&server, "open"), 1.0);
    let expiry = "rbac_accepted_risk_expiry_timestamp_seconds{id=\"s\",risk_owner=\"platform\"}";
    assert!(samples(&server.get("/metrics").1).contains_key(expiry));
    let since = |s: &Server| s.sum("rbac_risky_subject_since_timestamp_seconds", "name=\"s\"");
    let before = since(&server);
    // not so far as it goes, and a finding that it does not list
    replace(&file, &accepted.replace("critical", "high"));
    server.until(PATIENCE, |s| of(s, "open") == 2.0);
    replace(&file, &accepted.replace("secrets-list", "secrets-get"));
    server.until(PATIENCE, |s| s.said("msg=\"configuration loaded\"") == 3);
    assert_eq!((of(&server, "open"), of(&server, "accepted")), (2.0, 0.0));
    assert_eq!(since(&server), before);
    assert_eq!(server.sum("rbac_subject_escalations_total", ""), 0.0);
    // a command that looks once sees the same
    replace(&file, accepted);
    let path = input.path.to_str().unwrap();
    let config = file.to_str().unwrap();
    let scan = [
        "scan",
        "--fail-on",
        "low",
        "--source.manifests",
        path,
        "--config.file",
        config,
    ];
    assert_eq!(run(&scan).code, 1);
    replace(
        &file,
        &(accepted.to_owned()
            + &accepted[10..]
                .replace("id: s", "id: t")
                .replace("user:s", "user:t")),
    );
    assert_eq!(run(&scan).code, 0);
}

#[test]
fn the_metrics_flags_win_over_the_configuration() {
    let file = Input::new("metrics: {detail: [low], detailLimit: 1}");
    let path = file.path.to_str().unwrap();
    let details = |more: &[&str]| {
        let server = Server::with(
            Path::new(demo()),
            &[&["--config.file", path], more].concat(),
        );
        let (_, text) = server.get("/metrics");
        let all = samples(&text);
        let of = |priority: &str| {
            let part = format!("priority=\"{priority}\"");
            let since = "rbac_risky_subject_since_timestamp_seconds";
            all.keys()
                .filter(|s| s.starts_with(since) && s.contains(&part))
                .count()
        };
        (of("critical"), of("low"))
    };
    assert_eq!(details(&[]), (0, 1));
    assert_eq!(
        details(&[
            "--metrics.detail",
            "critical",
            "--metrics.detail-limit",
            "3"
        ]),
        (3, 0)
    );
    assert_eq!(details(&["--metrics.detail", "none"]), (0, 0));
    let refused = run(&[
        "scan",
        "--metrics.detail",
        "low",
        "--source.manifests",
        demo(),
    ]);
    assert_eq!(refused.code, 2);
}
