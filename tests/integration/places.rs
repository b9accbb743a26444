//! What a role gives depends on where it is bound, and on other roles: the odd corners.

use crate::cases::rule;
use rbac_exporter::ledger::{Change, Ledger, ObjectRef, Settings, World};
use rbac_exporter::object::{Binding, Meta, Object, Resource, Role, RoleRef, Subject};
use rbac_exporter::rbac::ServerVersion;
use rbac_exporter::risk::{Catalogue, Priority};
use std::sync::Arc;

fn ledger() -> Ledger {
    let version = ServerVersion::parse("1.36").unwrap();
    let settings = Settings::new(World::Cluster, version);
    Ledger::new(Arc::new(Catalogue::shipped()), settings)
}

fn meta(at: &str) -> Meta {
    let (namespace, name) = at.split_once('/').unwrap_or(("", at));
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Default::default()
    }
}

fn role(ledger: &mut Ledger, at: &str, rules: &[&str]) {
    ledger.apply(Change::Upsert(Object::Role(Role {
        meta: meta(at),
        rules: rules.iter().map(|r| rule(r)).collect(),
        ..Default::default()
    })));
}

fn bind(ledger: &mut Ledger, at: &str, cluster_role: bool, role: &str, to: &str) {
    ledger.apply(Change::Upsert(Object::Binding(Binding {
        meta: meta(at),
        role: RoleRef {
            cluster: cluster_role,
            name: role.into(),
        },
        subjects: vec![Subject::parse(to).unwrap()],
        ..Default::default()
    })));
}

fn unbind(ledger: &mut Ledger, name: &str) {
    ledger.apply(Change::Delete(ObjectRef {
        resource: Resource::ClusterRoleBindings,
        namespace: String::new(),
        name: name.into(),
    }));
}

fn binding_priority(ledger: &Ledger, namespace: &str, name: &str) -> Priority {
    let mut views = ledger.binding_views();
    let found = views.find(|b| b.namespace == namespace && b.name == name);
    found.unwrap().priority
}

const BIND_ROLES: &[&str] = &[
    "bind | rbac.authorization.k8s.io | roles",
    "create | rbac.authorization.k8s.io | rolebindings",
];

#[test]
fn a_cluster_role_that_binds_roles_gives_what_the_roles_of_the_place_give() {
    let mut l = ledger();
    role(&mut l, "binder", BIND_ROLES);
    role(&mut l, "strong/r", &["list | core | secrets"]);
    role(&mut l, "weak/r", &["get | core | pods"]);
    for ns in ["strong", "weak"] {
        bind(&mut l, &format!("{ns}/b"), true, "binder", "user:u");
    }
    l.settle();
    assert_eq!(binding_priority(&l, "strong", "b"), Priority::High);
    assert_eq!(binding_priority(&l, "weak", "b"), Priority::Low);
    let u = l.explain(&Subject::user("u")).unwrap();
    assert_eq!((u.own, u.findings.len()), (Priority::High, 4), "{u:?}");
    let binder = l.role_views().find(|r| r.name == "binder");
    assert_eq!(binder.unwrap().priority, Priority::High);

    role(&mut l, "weak/more", &["create | core | pods"]);
    l.settle();
    assert_eq!(binding_priority(&l, "weak", "b"), Priority::High);
    let counted = l.snapshot().judged;
    let block = |name: &str| counted.namespaces.get(name).unwrap();
    assert_eq!(block("weak").bindings[Priority::High as usize][0], 1);
    assert_eq!(block("").roles[1][Priority::High as usize][0], 1);
}

#[test]
fn a_rule_with_a_wildcard_counts_as_what_it_gives_where_it_is_bound() {
    let mut l = ledger();
    role(&mut l, "keeper", &["* | core | namespaces | app"]);
    bind(&mut l, "app/b", true, "keeper", "user:u");
    bind(&mut l, "other/b", true, "keeper", "user:v");
    l.settle();
    assert_eq!(binding_priority(&l, "app", "b"), Priority::Medium);
    assert_eq!(binding_priority(&l, "other", "b"), Priority::None);
    let counted = l.snapshot().judged;
    assert_eq!(
        counted.namespaces.get("").unwrap().wildcard_rules[Priority::Medium as usize][0],
        1
    );
}

#[test]
fn roles_that_may_bind_each_other_in_a_circle_come_to_an_end() {
    let mut l = ledger();
    let names = |on: &str| {
        [
            format!("bind | rbac.authorization.k8s.io | clusterroles | {on}"),
            "create | rbac.authorization.k8s.io | rolebindings".to_owned(),
            "patch | core | namespaces | app".to_owned(),
        ]
    };
    for (name, on) in [("a", "b"), ("b", "a,c"), ("c", "c"), ("d", "a,gone")] {
        let rules = names(on);
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        role(&mut l, name, &rules);
        bind(
            &mut l,
            &format!("app/{name}"),
            true,
            name,
            &format!("user:{name}"),
        );
        bind(
            &mut l,
            &format!("other/{name}"),
            true,
            name,
            &format!("user:{name}"),
        );
    }
    l.settle();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(
            binding_priority(&l, "app", name),
            Priority::Medium,
            "{name}"
        );
        assert_eq!(binding_priority(&l, "other", name), Priority::Low, "{name}");
    }
    // one of them becomes strong, and those that lead to it with it; and falls again
    let rules = ["list | core | secrets"];
    role(&mut l, "c", &rules);
    l.settle();
    for (name, level) in [
        ("a", Priority::High),
        ("b", Priority::High),
        ("d", Priority::High),
    ] {
        assert_eq!(binding_priority(&l, "other", name), level, "{name}");
    }
    role(&mut l, "c", &["get | core | pods"]);
    l.settle();
    for name in ["a", "b", "d"] {
        assert_eq!(binding_priority(&l, "other", name), Priority::Low, "{name}");
    }
}

#[test]
fn a_long_chain_of_roles_that_may_bind_the_next_is_no_deep_recursion() {
    let mut l = ledger();
    let n = 120;
    for i in 0..n {
        let next = format!(
            "bind | rbac.authorization.k8s.io | clusterroles | r{},r{}",
            i + 1,
            i + 2
        );
        let write = "create | rbac.authorization.k8s.io | rolebindings";
        role(
            &mut l,
            &format!("r{i}"),
            &[&next, write, "patch | core | namespaces | app"],
        );
    }
    role(&mut l, &format!("r{n}"), &["list | core | secrets"]);
    bind(&mut l, "app/b", true, "r0", "user:u");
    l.settle();
    assert_eq!(binding_priority(&l, "app", "b"), Priority::High);
}

#[test]
fn the_masters_are_there_while_something_names_them_and_counted_once() {
    let mut l = ledger();
    let named = [
        "impersonate | core | users | x",
        "impersonate | core | groups | system:masters",
    ];
    role(&mut l, "become", &named);
    role(&mut l, "pods", &["get | core | pods"]);
    let masters = Subject::Group {
        name: "system:masters".into(),
    };
    // everybody who is authenticated may become one, the masters themselves among them
    bind(&mut l, "all", true, "become", "group:system:authenticated");
    l.settle();
    let count = |l: &Ledger| {
        let judged = l.snapshot().judged;
        let rule = judged.rules.iter().find(|r| r.rule == "system-masters");
        rule.map_or(0, |r| r.subjects)
    };
    assert_eq!((l.explain(&masters).is_some(), count(&l)), (true, 1));
    // judged again and again
    for name in ["one", "two", "one"] {
        bind(&mut l, name, true, "pods", "group:system:authenticated");
        l.settle();
        assert_eq!(count(&l), 1);
    }
    unbind(&mut l, "all");
    l.settle();
    assert_eq!((l.explain(&masters), count(&l)), (None, 0));
}
