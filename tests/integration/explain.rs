//! `explain` and `who-can`: sentences, evidence, commands, and answers that agree with `can-i`.

use crate::command::{demo, run, run_with};
use crate::cut::{account, bind, role, world};
use rbac_exporter::export::explain::Explained;
use rbac_exporter::export::who_can::WhoCan;
use rbac_exporter::ledger::{Attributes, Ledger, Question};
use rbac_exporter::object::{Object, Subject};
use rbac_exporter::rbac::implicit_groups;
use serde_json::Value;

fn explained(ledger: &Ledger, who: &str) -> Explained {
    let subject = Subject::parse(who).unwrap();
    let explanation = ledger.explanation(&subject).expect(who);
    Explained::of(&explanation, true, None)
}

fn many() -> Vec<Object> {
    vec![
        role("admin", "* | * | *"),
        role("list", "list | core | secrets"),
        role("pods", "create | core | pods"),
        role("tokens", "create | core | serviceaccounts/token"),
        role("become", "impersonate | core | users | boss"),
        role(
            "on",
            "impersonate:user-info | authentication.k8s.io | users | boss",
        ),
        role("secrets", "impersonate-on:user-info:list | core | secrets"),
        role("logs", "get | core | pods/log"),
        role("nothing", "get | core | configmaps"),
        account("a", "x"),
        account("ci", "deployer"),
        account("none", "one"),
        bind(("", "list"), "list", &["sa:ci/deployer"]),
        bind(("ci", "pods"), "pods", &["sa:a/x", "group:devs"]),
        bind(("a", "tokens"), "tokens", &["user:far"]),
        bind(("", "admin"), "admin", &["user:boss"]),
        bind(("", "become"), "become", &["user:second"]),
        bind(("", "on"), "on", &["user:part"]),
        bind(("c", "secrets"), "secrets", &["user:part"]),
        bind(("", "logs"), "logs", &["user:reader"]),
        bind(("a", "list"), "list", &["user:three"]),
        bind(("b", "list"), "list", &["user:three"]),
        bind(("c", "list"), "list", &["user:three"]),
        bind(
            ("", "open"),
            "nothing",
            &[
                "group:system:unauthenticated",
                "group:system:serviceaccounts:a",
            ],
        ),
        bind(("", "harmless"), "nothing", &["user:nobody"]),
    ]
}

#[test]
fn one_sentence_says_what_it_can_do_in_the_end() {
    let ledger = world(many()).ledger();
    for (who, expected) in [
        (
            "user:boss",
            "user:boss can do everything in the whole cluster.",
        ),
        (
            "sa:ci/deployer",
            "sa:ci/deployer can read every Secret in the whole cluster.",
        ),
        (
            "sa:a/x",
            "sa:a/x can read every Secret in the whole cluster, by creating pods in namespace ci that run as sa:ci/deployer.",
        ),
        (
            "group:devs",
            "A member of group:devs can read every Secret in the whole cluster, by creating pods in namespace ci that run as sa:ci/deployer.",
        ),
        (
            "user:far",
            "user:far can read every Secret in the whole cluster, by requesting a token of sa:a/x, then by creating pods in namespace ci that run as sa:ci/deployer.",
        ),
        (
            "user:second",
            "user:second can do everything in the whole cluster, by impersonating user:boss.",
        ),
        (
            "user:part",
            "user:part can do part of what user:boss can, up to high, by impersonating user:boss for some verbs.",
        ),
        (
            "user:reader",
            "user:reader can read logs in the whole cluster.",
        ),
        (
            "user:three",
            "user:three can read every Secret in namespaces a, b and 1 more.",
        ),
        (
            "group:system:unauthenticated",
            "Anyone without credentials (group:system:unauthenticated) can use what ClusterRole nothing grants in the whole cluster.",
        ),
        (
            "group:system:serviceaccounts:a",
            "Every service account of namespace a (group:system:serviceaccounts:a) can use what ClusterRole nothing grants in the whole cluster.",
        ),
        (
            "user:nobody",
            "user:nobody can do nothing that the catalogue calls dangerous.",
        ),
    ] {
        assert_eq!(explained(&ledger, who).sentence, expected);
    }
}

#[test]
fn every_risky_subject_of_the_demo_has_a_sentence_and_evidence() {
    let report = run(&["scan", "--source.manifests", demo(), "-o", "json"]).json();
    let mut told = 0;
    for subject in report["subjects"].as_array().unwrap() {
        let text = |key: &str| subject[key].as_str().unwrap();
        if text("priority") == "none" || told >= 12 {
            continue;
        }
        let who = match text("kind") {
            "ServiceAccount" => format!("sa:{}/{}", text("namespace"), text("name")),
            "Group" => format!("group:{}", text("name")),
            _ => format!("user:{}", text("name")),
        };
        let ran = run(&["explain", &who, "--source.manifests", demo(), "-o", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let explained: Value = ran.json();
        assert_eq!(explained["subject"], *subject, "as in the report");
        let sentence = explained["sentence"].as_str().unwrap();
        assert!(
            sentence.contains(&who) && !sentence.contains(['{', '}']),
            "{sentence}"
        );
        assert!(
            !sentence.contains(" is for ("),
            "an edge without words: {sentence}"
        );
        let empty = vec![];
        let list = |key: &str| explained[key].as_array().unwrap_or(&empty).clone();
        let masters = who == "group:system:masters";
        for piece in list("findings")
            .iter()
            .chain(&list("path"))
            .chain(&list("end"))
        {
            let by = piece["by"].as_array().unwrap();
            assert!(masters || !by.is_empty(), "{who}: {piece}");
            for evidence in by {
                let rules = evidence["rules"].as_array().unwrap();
                assert!(!rules.is_empty(), "{who}: {piece}");
                assert!(
                    evidence["bindingAt"]["line"].as_u64() > Some(0),
                    "{evidence}"
                );
            }
        }
        assert_eq!(
            list("path").len(),
            subject["path"].as_array().unwrap().len()
        );
        assert_eq!(list("cut").is_empty(), list("commands").is_empty());
        match explained["acceptance"].as_str() {
            Some(entry) => {
                assert_eq!(subject["status"], "open", "{who}");
                let accept = run(&["accept", &who, "--source.manifests", demo()]);
                assert!(accept.out.contains(entry), "{who}: {}", accept.out);
            }
            None => assert_ne!(subject["status"], "open", "{who}"),
        }
        told += 1;
    }
    assert_eq!(told, 12);
}

#[test]
fn a_step_names_the_one_rule_that_makes_it_possible() {
    let mut objects = many();
    if let Some(Object::Role(role)) = objects.iter_mut().find(|o| o.meta().name == "pods") {
        role.rules
            .insert(0, crate::cases::rule("get | core | pods"));
        role.rules
            .push(crate::cases::rule("create | core | events"));
    }
    let e = explained(&world(objects).ledger(), "sa:a/x");
    assert_eq!(e.path.len(), 1);
    assert_eq!(e.path[0].by.len(), 1);
    let rules = &e.path[0].by[0].rules;
    assert_eq!((rules.len(), &*rules[0].verbs[0]), (1, "create"));
    assert_eq!(rules[0].resources, ["pods"]);
    let reached: Vec<&str> = e
        .reached_by
        .iter()
        .map(|r| r.subject.name.as_str())
        .collect();
    assert_eq!(reached, ["boss", "far"]);
}

#[test]
fn the_text_is_as_narrow_as_asked_and_nothing_hostile_passes() {
    let evil = "user:e\u{1b}[31m\nvil\u{202e} x";
    let objects = vec![
        role("ad\u{202e}min", "* | * | *"),
        bind(("", "b\u{1b}[2J"), "ad\u{202e}min", &[evil, "user:other"]),
    ];
    let ledger = world(objects).ledger();
    let text = explained(&ledger, evil).text(60);
    let odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(odd), "{text:?}");
    assert!(!text.lines().any(|l| l.starts_with("vil")), "{text}");
    for line in text.lines().filter(|l| !l.contains("kubectl")) {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(text.contains("critical wildcard-admin@*"), "{text}");
}

#[test]
fn an_unknown_subject_is_met_with_a_better_one() {
    for (asked, meant) in [
        ("sa:ci/relase-bot", "did you mean sa:ci/release-bot?"),
        ("release-bot", "did you mean sa:ci/release-bot?"),
        ("ci/release-bot", "did you mean sa:ci/release-bot?"),
        ("user:nobody-of-that-name-at-all", "scan lists all"),
        ("\u{1b}[31m", "write sa:NAMESPACE/NAME"),
    ] {
        let ran = run(&["explain", asked, "--source.manifests", demo()]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{asked}");
        assert!(
            ran.err.contains(meant) && !ran.err.contains('\u{1b}'),
            "{}",
            ran.err
        );
    }
    let broken = "kind: Role\nmetadata: [";
    let ran = run_with(&["explain", "user:x", "--source.manifests", "-"], broken);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("not everything could be read"),
        "{}",
        ran.err
    );
}

#[test]
fn what_cannot_be_read_is_said_by_the_exit_code() {
    let input = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x, namespace: a}\n---\nkind: Role\nmetadata: [";
    for (args, code) in [
        (&["explain", "sa:a/x"][..], 3),
        (&["explain", "sa:a/x", "--allow-incomplete"], 0),
        (&["who-can", "get", "pods"], 3),
        (&["who-can", "get", "pods", "--allow-incomplete"], 0),
    ] {
        let args = [args, &["--source.manifests", "-"]].concat();
        let ran = run_with(&args, input);
        assert_eq!(ran.code, code, "{args:?} {}", ran.err);
        assert!(
            ran.err.contains("not everything could be read"),
            "{}",
            ran.err
        );
    }
}

// === who-can

/// Everybody that `can-i` says yes to, with the groups that each certainly has.
fn by_can_i(ledger: &Ledger, attributes: &Attributes) -> Vec<String> {
    let allowed = |subject: &Subject| {
        let mut groups = implicit_groups(subject);
        let user = match subject {
            Subject::Group { name } => {
                groups.push(name.clone());
                String::new()
            }
            Subject::User { name } => name.clone(),
            Subject::ServiceAccount { namespace, name } => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
        };
        let question = Question {
            user,
            groups,
            attributes: attributes.clone(),
        };
        ledger.can_i(&[question])[0].allowed
    };
    let subjects = ledger.subjects();
    let yes = subjects.iter().filter(|s| allowed(s));
    yes.map(Subject::written).collect()
}

fn on(verb: &str, resource: &str, sub: &str, name: &str, namespace: &str) -> Attributes {
    Attributes::Resource {
        verb: verb.into(),
        group: String::new(),
        resource: resource.into(),
        subresource: sub.into(),
        name: name.into(),
        namespace: namespace.into(),
    }
}

#[test]
fn who_can_lists_whom_can_i_allows() {
    let mut objects = many();
    objects.push(bind(
        ("a", "everyone"),
        "pods",
        &["group:system:serviceaccounts", "group:system:masters"],
    ));
    objects.push(bind(("c", "gone"), "missing", &["user:lost"]));
    let ledger = world(objects).ledger();
    let mut listed = 0;
    for verb in ["get", "list", "create", "impersonate"] {
        for (resource, sub) in [
            ("pods", ""),
            ("pods", "log"),
            ("secrets", ""),
            ("serviceaccounts", "token"),
            ("users", ""),
        ] {
            for name in ["", "boss"] {
                for namespace in ["", "a", "ci", "c", "elsewhere"] {
                    let asked = on(verb, resource, sub, name, namespace);
                    let allowed = ledger.who_can(&asked, false);
                    let who: Vec<String> = allowed.iter().map(|a| a.subject.written()).collect();
                    assert_eq!(who, by_can_i(&ledger, &asked), "{asked:?}");
                    listed += who.len();
                }
            }
        }
    }
    assert!(listed > 400, "{listed}");
}

#[test]
fn who_can_says_by_what_and_where() {
    let mut objects = many();
    objects.push(bind(
        ("a", "everyone"),
        "pods",
        &["group:system:serviceaccounts"],
    ));
    let ledger = world(objects).ledger();
    let who = WhoCan::of(
        &ledger.who_can(&on("create", "pods", "", "", "a"), false),
        true,
    );
    let table = who.table();
    assert!(
        table.contains("sa:ci/deployer                  a      RoleBinding a/everyone to ClusterRole pods, through group:system:serviceaccounts\n"),
        "{table}"
    );
    // -A: wherever it may, each place once
    let anywhere = ledger.who_can(&on("create", "pods", "", "", ""), true);
    let places = |who: &str| -> Vec<&str> {
        let of = anywhere.iter().filter(|a| a.subject.written() == who);
        of.map(|a| a.scope.as_str()).collect()
    };
    assert_eq!(places("sa:a/x"), ["a", "ci"]);
    assert_eq!(places("user:boss"), ["*"]);
    assert_eq!(places("user:reader"), Vec::<&str>::new());
}

#[test]
fn who_can_takes_resources_and_paths_as_can_i_does() {
    let ask = |args: &[&str]| run(&[args, &["--source.manifests", demo()]].concat());
    let exec = ask(&[
        "who-can",
        "create",
        "pods",
        "--subresource",
        "exec",
        "-n",
        "shop",
    ]);
    assert_eq!(exec.code, 0, "{}", exec.err);
    assert!(exec.out.contains("group:oncall"), "{}", exec.out);
    let json = ask(&["who-can", "get", "secrets", "-n", "legacy", "-o", "json"]).json();
    let subjects = json["subjects"].as_array().unwrap();
    assert!(
        subjects
            .iter()
            .any(|s| s["name"] == "sven@contractor.example"),
        "{json}"
    );
    assert_eq!(json["complete"], true);
    let url = ask(&["who-can", "get", "/metrics"]);
    assert_eq!(url.code, 0);
    assert!(url.out.contains("sa:kube-system/tiller"), "{}", url.out);
    assert_eq!(ask(&["who-can", "get", "/metrics", "-n", "shop"]).code, 2);
    // what was probably meant otherwise is said
    let named = ask(&["who-can", "create", "pods/exec"]);
    assert!(named.err.contains("--subresource exec"), "{}", named.err);
    let nobody = ask(&["who-can", "fly", "pods", "--as-nobody"]);
    assert_eq!(nobody.code, 2);
}
