//! The ledger at full size: what the first judgement and single events cost. `make bench` prints a table.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark may stop at what cannot happen"
)]

use rbac_exporter::export::process::Process;
use rbac_exporter::ledger::{Change, Ledger, ObjectRef, Settings, World};
use rbac_exporter::object::{
    Binding, Meta, Namespace, Object, Phase, Pod, PolicyRule, ProjectedToken, Resource, Role,
    RoleRef, ServiceAccount, Subject, Workload,
};
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::Catalogue;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pods, bindings, roles, namespaces.
const SIZES: [(usize, usize, usize, usize); 3] = [
    (1_000, 500, 300, 50),
    (20_000, 5_000, 2_500, 500),
    (150_000, 20_000, 10_000, 2_000),
];

fn meta(namespace: &str, name: String) -> Meta {
    Meta {
        namespace: namespace.into(),
        name,
        created: Some(1_700_000_000),
        history: Box::new([1_710_000_000]),
        ..Meta::default()
    }
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
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

fn role(i: usize, namespaces: usize) -> Role {
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

fn pod(i: usize, namespaces: usize, generation: usize) -> Object {
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

fn fill(size: (usize, usize, usize, usize)) -> (Ledger, Duration) {
    let (pods, bindings, roles, namespaces) = size;
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

fn binding(i: usize, roles: usize, namespaces: usize) -> Binding {
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

/// Median of several runs of one event with its settling.
fn event(ledger: &mut Ledger, n: usize, mut change: impl FnMut(usize) -> Vec<Change>) -> Duration {
    let mut times: Vec<Duration> = (0..n)
        .map(|i| {
            let changes = change(i);
            let begun = Instant::now();
            changes.into_iter().for_each(|c| ledger.apply(c));
            ledger.settle();
            ledger.snapshot();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    println!(
        "{:>7} {:>8} {:>6} {:>6} | {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} | {:>8}",
        "pods",
        "bindings",
        "roles",
        "ns",
        "first",
        "pod",
        "role",
        "label",
        "binding",
        "check",
        "VmHWM"
    );
    for size in SIZES {
        let (pods, bindings, roles, namespaces) = size;
        let (mut ledger, first) = fill(size);
        let pod_event = event(&mut ledger, 101, |i| {
            let gone = pod(i, namespaces, 0);
            let object = ObjectRef {
                resource: Resource::Pods,
                namespace: gone.meta().namespace.clone(),
                name: gone.meta().name.clone(),
            };
            vec![
                Change::Upsert(pod(i, namespaces, 1)),
                Change::Delete(object),
            ]
        });
        let role_event = event(&mut ledger, 101, |i| {
            let mut edited = role(4 * i + 1, namespaces);
            edited.rules.push(rule(&["create"], "", &["pods"]));
            vec![Change::Upsert(Object::Role(edited))]
        });
        let label_event = event(&mut ledger, 101, |i| {
            vec![Change::Upsert(Object::Role(role(4 * i + 2, namespaces)))]
        });
        let binding_event = event(&mut ledger, 101, |i| {
            let mut new = binding(i * 13, roles, namespaces);
            new.meta.name = format!("new-{i}");
            vec![Change::Upsert(Object::Binding(new))]
        });
        let begun = Instant::now();
        let differences = ledger.selfcheck();
        let check = begun.elapsed();
        assert_eq!(
            differences, 0,
            "the incremental state is what an evaluation from scratch gives"
        );
        let peak = Process::read().peak_resident_bytes.unwrap_or_default();
        println!(
            "{pods:>7} {bindings:>8} {roles:>6} {namespaces:>6} | {first:>9.1?} {pod_event:>9.1?} {role_event:>9.1?} {label_event:>9.1?} {binding_event:>9.1?} {check:>9.1?} | {:>5} MB",
            peak >> 20
        );
    }
}
