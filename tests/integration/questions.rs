//! The ledger asked directly: `can-i`, the state of watches, and months of names that come and go.

use rbac_exporter::ledger::{
    Attributes, Change, FaultReason, Ledger, ObjectRef, Question, Settings, WatchEvent, World,
};
use rbac_exporter::object::{
    Binding, Meta, Object, Phase, Pod, PolicyRule, ProjectedToken, Resource, Role, RoleRef,
    SecretSource, SecretUse, ServiceAccount, Subject, Workload,
};
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::{Catalogue, Priority};
use std::sync::Arc;

fn meta(namespace: &str, name: &str) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Meta::default()
    }
}

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn ledger() -> Ledger {
    Ledger::new(
        Arc::new(Catalogue::shipped()),
        Settings::new(World::Cluster, NEWEST),
    )
}

fn role(namespace: &str, name: &str, rules: Vec<PolicyRule>) -> Change {
    Change::Upsert(Object::Role(Role {
        meta: meta(namespace, name),
        rules,
        ..Role::default()
    }))
}

fn binding(namespace: &str, name: &str, cluster: bool, role: &str, to: &str) -> Change {
    Change::Upsert(Object::Binding(Binding {
        meta: meta(namespace, name),
        role: RoleRef {
            cluster,
            name: role.into(),
        },
        subjects: vec![Subject::parse(to).unwrap()],
        ..Default::default()
    }))
}

fn ask(ledger: &Ledger, user: &str, groups: &[&str], attributes: Attributes) -> (bool, String) {
    let question = Question {
        user: user.into(),
        groups: list(groups),
        attributes,
    };
    let verdict = ledger.can_i(&[question]).remove(0);
    (verdict.allowed, verdict.reason)
}

fn on(verb: &str, resource: &str, name: &str, namespace: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes::Resource {
        verb: verb.into(),
        group: String::new(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: name.into(),
        namespace: namespace.into(),
    }
}

#[test]
fn can_i_answers_with_the_grant_in_the_servers_words() {
    let mut l = ledger();
    let rule = |verbs: &[&str], resources: &[&str], names: &[&str]| PolicyRule {
        verbs: list(verbs),
        api_groups: list(&[""]),
        resources: list(resources),
        resource_names: list(names),
        ..PolicyRule::default()
    };
    let urls = PolicyRule {
        verbs: list(&["get"]),
        non_resource_urls: list(&["/metrics*"]),
        ..PolicyRule::default()
    };
    for change in [
        role(
            "",
            "reader",
            vec![rule(&["get", "list"], &["pods"], &[]), urls],
        ),
        role("app", "one", vec![rule(&["get"], &["secrets"], &["db"])]),
        role("app", "exec", vec![rule(&["create"], &["*/exec"], &[])]),
        binding("", "readers", true, "reader", "group:readers"),
        binding("app", "one", false, "one", "sa:app/web"),
        binding("app", "exec", false, "exec", "user:ann"),
        binding("", "gone", true, "missing", "user:bob"),
    ] {
        l.apply(change);
    }
    l.settle();
    let web = "system:serviceaccount:app:web";
    assert_eq!(
        ask(&l, "x", &["readers"], on("list", "pods", "", "")),
        (
            true,
            "RBAC: allowed by ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to Group \"readers\""
                .into()
        )
    );
    assert_eq!(
        ask(&l, web, &[], on("get", "secrets", "db", "app")),
        (
            true,
            "RBAC: allowed by RoleBinding \"one/app\" of Role \"one\" to ServiceAccount \"web/app\""
                .into()
        )
    );
    assert_eq!(
        ask(&l, "ann", &[], on("create", "pods/exec", "p", "app")),
        (
            true,
            "RBAC: allowed by RoleBinding \"exec/app\" of Role \"exec\" to User \"ann\"".into()
        )
    );
    let url = |path: &str| Attributes::Url {
        verb: "get".into(),
        path: path.into(),
    };
    assert!(ask(&l, "", &["readers"], url("/metrics/cadvisor")).0);
    for (user, groups, question) in [
        (web, &[][..], on("get", "secrets", "other", "app")),
        (web, &[], on("get", "secrets", "db", "other")),
        (web, &[], on("get", "secrets", "db", "")),
        ("ann", &[], on("create", "pods", "", "app")),
        ("x", &["readers"], url("/healthz")),
        ("", &["nobody"], on("get", "pods", "", "")),
    ] {
        assert_eq!(
            ask(&l, user, groups, question.clone()),
            (false, "no grant allows it".into()),
            "{question:?}"
        );
    }
    let (allowed, why) = ask(&l, "bob", &[], on("get", "pods", "", ""));
    assert!(
        !allowed && why.contains("ClusterRoleBinding \"gone\"") && why.contains("does not exist")
    );
    let (allowed, why) = ask(&l, "eve", &["system:masters"], on("*", "*", "", ""));
    assert!(allowed && why.contains("before RBAC is asked"));
}

#[test]
fn a_watch_says_in_one_word_how_it_is() {
    let mut l = ledger();
    let pods = Resource::Pods;
    let tell = |l: &mut Ledger, event: WatchEvent, at: i64| {
        l.apply(Change::Watch {
            resource: pods,
            event,
            at,
        });
        l.watch(pods).word(9)
    };
    assert_eq!(l.watch(pods).word(9), "not synced");
    assert_eq!(tell(&mut l, WatchEvent::Activity, 5), "not synced");
    l.apply(Change::RelistBegin(pods));
    l.apply(Change::RelistEnd(pods));
    assert_eq!(tell(&mut l, WatchEvent::Event, 9), "synced");
    for reason in FaultReason::ALL {
        let fault = WatchEvent::Fault {
            reason,
            message: reason.as_str().into(),
        };
        assert_eq!(tell(&mut l, fault, 9), "faulty");
        assert_eq!(
            l.watch(pods).errors[reason as usize],
            1,
            "{}",
            reason.as_str()
        );
    }
    let refused = WatchEvent::Forbidden {
        message: "no".into(),
    };
    assert_eq!(tell(&mut l, refused, 9), "forbidden");
    assert!(!l.complete());
    assert_eq!(tell(&mut l, WatchEvent::Restart, 9), "forbidden");
    // an answer clears it, and a clock that goes back does not make it older
    assert_eq!(tell(&mut l, WatchEvent::Activity, 7), "synced");
    let watch = l.watch(pods);
    assert_eq!(
        (watch.last_activity, watch.events, watch.restarts),
        (9, 1, 1)
    );
    let object = ObjectRef {
        resource: pods,
        namespace: "a".into(),
        name: "b".into(),
    };
    l.apply(Change::Bad {
        object: object.clone(),
        message: "spec: odd".into(),
    });
    assert_eq!(l.watch(pods).word(9), "synced, some objects unreadable");
    assert_eq!(l.problems().len(), 1);
    l.apply(Change::Delete(object));
    assert_eq!(l.watch(pods).word(9), "synced");
}

/// Pods, accounts and namespaces of short-lived jobs, far more than are there at any one time.
#[test]
fn names_that_come_and_go_change_nothing_of_what_stays() {
    let rules = vec![PolicyRule {
        verbs: list(&["create"]),
        api_groups: list(&[""]),
        resources: list(&["pods", "pods/exec"]),
        ..PolicyRule::default()
    }];
    let named = vec![PolicyRule {
        verbs: list(&["get"]),
        api_groups: list(&[""]),
        resources: list(&["secrets", "nodes/proxy"]),
        resource_names: list(&["tok", "node-1"]),
        ..PolicyRule::default()
    }];
    let all = vec![PolicyRule {
        verbs: list(&["*"]),
        api_groups: list(&["*"]),
        resources: list(&["*"]),
        ..PolicyRule::default()
    }];
    let account = |ns: &str, name: &str, secrets: &[&str]| {
        Change::Upsert(Object::ServiceAccount(ServiceAccount {
            meta: meta(ns, name),
            secrets: list(secrets),
            ..ServiceAccount::default()
        }))
    };
    let pod = |ns: &str, name: &str, account: &str, node: &str| {
        Change::Upsert(Object::Pod(Box::new(Pod {
            meta: meta(ns, name),
            service_account: account.into(),
            node: node.into(),
            phase: Phase::Running,
            workload: Some(Workload {
                kind: "Job".into(),
                name: name.into(),
            }),
            tokens: vec![ProjectedToken {
                audience: None,
                containers: list(&["main"]),
                at_default_path: true,
            }],
            secrets: vec![SecretUse {
                name: format!("{name}-env"),
                source: SecretSource::Env,
                containers: list(&["main"]),
            }],
            ..Pod::default()
        })))
    };
    let staying = [
        role("", "runs", rules),
        role("", "admin", all),
        role("", "named", named),
        binding("app", "dev", true, "runs", "user:dev"),
        binding("", "named", true, "named", "user:op"),
        binding("", "top", true, "admin", "sa:app/top"),
        account("app", "top", &["tok"]),
        pod("app", "stays", "top", "node-1"),
    ];
    let mut l = ledger();
    let mut fresh = ledger();
    for change in staying {
        l.apply(change.clone());
        fresh.apply(change);
    }
    fresh.settle();
    l.settle();
    for i in 0..12_000 {
        let (ns, name) = (format!("job-{i}"), format!("run-{i}"));
        l.apply(account(&ns, &name, &[&format!("{name}-tok")]));
        l.apply(pod(&ns, &name, &name, &format!("node-{i}")));
        for resource in [Resource::Pods, Resource::ServiceAccounts] {
            let (namespace, name) = (ns.clone(), name.clone());
            l.apply(Change::Delete(ObjectRef {
                resource,
                namespace,
                name,
            }));
        }
        if i % 500 == 0 {
            l.settle();
        }
    }
    l.settle();
    assert!(l.subject_views().eq(fresh.subject_views()));
    assert!(l.pod_views().eq(fresh.pod_views()));
    assert_eq!(
        l.snapshot().judged.namespaces,
        fresh.snapshot().judged.namespaces
    );
    let dev = l.explain(&Subject::parse("user:dev").unwrap()).unwrap();
    assert_eq!((dev.priority, dev.path.len()), (Priority::Critical, 1));
    assert_eq!(l.selfcheck(), 0);
}
