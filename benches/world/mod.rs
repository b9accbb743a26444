//! A made-up cluster of any size, for benchmarks and for tests of what must stay bounded.

use rbac_exporter::ledger::{Change, Ledger, Settings, World};
use rbac_exporter::object::{
    Binding, Meta, Namespace, Object, Phase, Pod, PolicyRule, ProjectedToken, Resource, Role,
    RoleRef, ServiceAccount, Subject, Workload,
};
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::Catalogue;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) pods: usize,
    pub(crate) bindings: usize,
    pub(crate) roles: usize,
    pub(crate) namespaces: usize,
}

/// The full size of the design: what has to be served by one exporter.
pub(crate) const FULL: Size = Size {
    pods: 150_000,
    bindings: 20_000,
    roles: 10_000,
    namespaces: 2_000,
};

fn meta(namespace: &str, name: String) -> Meta {
    Meta {
        namespace: namespace.into(),
        name,
        created: Some(1_700_000_000),
        history: Box::new([1_710_000_000]),
        ..Meta::default()
    }
}

/// One rule of a role.
pub(crate) fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
    let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
    PolicyRule {
        verbs: list(verbs),
        api_groups: vec![group.to_owned()],
        resources: list(resources),
        ..PolicyRule::default()
    }
}

/// Rules of roles as operators and charts have them: most are harmless, some lead on.
fn rules(i: usize) -> Vec<PolicyRule> {
    let read = rule(
        &["get", "list", "watch"],
        "",
        &["pods", "services", "endpoints", "configmaps"],
    );
    let lease = rule(
        &["get", "create", "update"],
        "coordination.k8s.io",
        &["leases"],
    );
    match i % 20 {
        0 => vec![
            read,
            rule(&["create", "delete"], "", &["pods", "pods/exec"]),
        ],
        1 => vec![
            read,
            rule(&["create", "update", "patch"], "apps", &["deployments"]),
        ],
        2 => vec![lease, rule(&["get", "list", "watch"], "", &["secrets"])],
        3 => vec![rule(&["create"], "", &["serviceaccounts/token"]), read],
        4 => vec![
            rule(&["update", "patch"], "", &["configmaps", "services"]),
            lease,
        ],
        _ => vec![read, lease, rule(&["create", "patch"], "", &["events"])],
    }
}

/// Role number `i`; one in four is a ClusterRole.
pub(crate) fn role(i: usize, namespaces: usize) -> Role {
    let namespace = if i.is_multiple_of(4) {
        String::new()
    } else {
        format!("ns-{}", i % namespaces)
    };
    Role {
        meta: meta(&namespace, format!("role-{i}")),
        rules: rules(i),
        ..Role::default()
    }
}

/// Pod number `i`; another generation has another name.
pub(crate) fn pod(i: usize, namespaces: usize, generation: usize) -> Object {
    // a few namespaces hold most pods
    let ns = (i % namespaces) * (i % 7) / 7;
    let app = i % 40;
    Object::Pod(Box::new(Pod {
        meta: meta(
            &format!("ns-{ns}"),
            format!("app-{app}-5d4f8c7b9-{generation:02}{i:06}"),
        ),
        service_account: format!("sa-{}", app % 12),
        node: format!("node-{}", i % (namespaces / 2 + 1)),
        phase: Phase::Running,
        workload: Some(Workload {
            kind: "Deployment".into(),
            name: format!("app-{app}"),
        }),
        tokens: vec![ProjectedToken {
            audience: None,
            containers: vec!["app".into(), "sidecar".into()],
            at_default_path: true,
        }],
        ..Pod::default()
    }))
}

/// A ledger that has seen everything once, and how long the first judgement took.
pub(crate) fn fill(size: Size) -> (Ledger, Duration) {
    let Size {
        pods,
        bindings,
        roles,
        namespaces,
    } = size;
    let catalogue = Arc::new(Catalogue::shipped());
    let mut ledger = Ledger::new(catalogue, Settings::new(World::Cluster, NEWEST));
    ledger.advance(1_790_000_000);
    Resource::ALL
        .into_iter()
        .for_each(|r| ledger.apply(Change::RelistBegin(r)));
    for i in 0..namespaces {
        let object = Namespace {
            meta: meta("", format!("ns-{i}")),
            pod_security: None,
        };
        ledger.apply(Change::Upsert(Object::Namespace(object)));
        for k in 0..12 {
            let account = ServiceAccount {
                meta: meta(&format!("ns-{i}"), format!("sa-{k}")),
                ..ServiceAccount::default()
            };
            ledger.apply(Change::Upsert(Object::ServiceAccount(account)));
        }
    }
    for i in 0..roles {
        ledger.apply(Change::Upsert(Object::Role(role(i, namespaces))));
    }
    for i in 0..bindings {
        ledger.apply(Change::Upsert(Object::Binding(binding(
            i, roles, namespaces,
        ))));
    }
    for i in 0..pods {
        ledger.apply(Change::Upsert(pod(i, namespaces, 0)));
    }
    let begun = Instant::now();
    Resource::ALL
        .into_iter()
        .for_each(|r| ledger.apply(Change::RelistEnd(r)));
    ledger.settle();
    (ledger, begun.elapsed())
}

/// Binding number `i`.
pub(crate) fn binding(i: usize, roles: usize, namespaces: usize) -> Binding {
    let role = role(i % roles, namespaces);
    let cluster = role.meta.namespace.is_empty();
    // every tenth ClusterRole is bound cluster-wide
    let namespace = match cluster {
        true if i.is_multiple_of(10) => String::new(),
        true => format!("ns-{}", i % namespaces),
        false => role.meta.namespace.clone(),
    };
    Binding {
        meta: meta(&namespace, format!("binding-{i}")),
        role: RoleRef {
            cluster,
            name: role.meta.name,
        },
        subjects: vec![Subject::ServiceAccount {
            namespace: format!("ns-{}", i % namespaces),
            name: format!("sa-{}", i % 12),
        }],
        ..Default::default()
    }
}
