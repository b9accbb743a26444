//! What rows take and what single events cost, counted and never timed: both must not grow with the cluster.

use super::rows::{BindingRow, PodRow, RoleRow, SubjectRow};
use super::stage::{NOW, Stage};
use super::table::{LOOKED_AT, RowId};
use crate::object::{Object, Phase, Pod, ProjectedToken, Resource, Workload};
use crate::risk::Priority;
use allocation_counter::measure;

/// A cluster of teams that are all alike, each with a Role, accounts, bindings and pods of its own.
fn teams(n: usize) -> Stage {
    let mut s = Stage::new();
    s.role("admin", &["* | * | *"], &[NOW - 9]);
    s.role("reader", &["get,list | core | configmaps"], &[NOW - 9]);
    s.role("deployer", &["create | core | pods"], &[NOW - 9]);
    s.bind("ops", "admin", &["group:ops"], &[NOW - 9]);
    for i in 0..n {
        team(&mut s, i);
    }
    s.settle();
    s
}

fn team(s: &mut Stage, i: usize) {
    let t = format!("team-{i:04}");
    s.role(
        &format!("{t}/secrets"),
        &["get,list | core | secrets"],
        &[NOW - 9],
    );
    for account in ["app", "ci", "default"] {
        s.account(&format!("{t}/{account}"), NOW - 9);
    }
    s.bind(
        &format!("{t}/reader"),
        "reader",
        &[&format!("sa:{t}/app")],
        &[NOW - 9],
    );
    s.bind(
        &format!("{t}/deployer"),
        "deployer",
        &[&format!("sa:{t}/ci")],
        &[NOW - 9],
    );
    s.bind(
        &format!("{t}/secrets"),
        "./secrets",
        &[&format!("sa:{t}/app")],
        &[NOW - 9],
    );
    for pod in 0..4 {
        s.pod(&format!("{t}/app-5d4f8c7b9-{pod:05}"), "app");
    }
}

/// What an event and all that follows from it comes to: allocations, subjects judged, rows looked at.
fn costs(s: &mut Stage, event: impl Fn(&mut Stage)) -> [u64; 3] {
    let [judged, rows] = [s.ledger.judged_subjects, LOOKED_AT.get()];
    let count = measure(|| {
        event(s);
        s.settle();
        s.ledger.snapshot();
    });
    [
        count.count_total,
        s.ledger.judged_subjects - judged,
        LOOKED_AT.get() - rows,
    ]
}

/// Something that happens, how many subjects are judged for it, and the event for the ith time.
type Event = (&'static str, u64, fn(&mut Stage, usize));

/// Holds that each costs no more in the larger of two clusters.
fn cost_the_same(events: &[Event], mut few: Stage, mut many: Stage) {
    for (what, judged, event) in events {
        // tables grow now and then: what is usual counts
        let usual = |s: &mut Stage| {
            let mut all: Vec<[u64; 3]> = (0..9).map(|i| costs(s, |s| event(s, i))).collect();
            [0, 1, 2].map(|n| {
                all.sort_unstable_by_key(|costs| costs[n]);
                all[all.len() / 2][n]
            })
        };
        let [small, large] = [usual(&mut few), usual(&mut many)];
        for (n, of) in [(0, "allocations"), (2, "rows looked at")] {
            assert!(
                large[n] <= small[n] + small[n] / 10 + 4,
                "{what}: {} {of} among few, {} among many",
                small[n],
                large[n]
            );
        }
        assert_eq!(
            [small[1], large[1]],
            [*judged; 2],
            "{what}: subjects judged"
        );
    }
    assert_eq!(many.ledger.selfcheck(), 0);
}

/// Each event that clusters are full of costs the same among ten teams and among four hundred, and judges the
/// subjects that it concerns. A binding of a ClusterRole is not among them: the cluster's own roles are counted
/// anew with it, each over all places where it is bound.
#[test]
fn an_event_costs_the_same_in_any_cluster() {
    let events: [Event; 7] = [
        ("a pod comes", 0, |s, i| {
            s.pod(&format!("team-0003/app-5d4f8c7b9-new{i:02}"), "app");
        }),
        ("a pod goes", 0, |s, i| {
            s.delete(
                Resource::Pods,
                &format!("team-0003/app-5d4f8c7b9-new{i:02}"),
            );
        }),
        ("a label of a role", 0, |s, _| {
            s.role(
                "team-0003/secrets",
                &["get,list | core | secrets"],
                &[NOW - 9],
            );
        }),
        ("the rules of a role", 1, |s, i| {
            let rule = ["get | core | secrets", "create | core | pods"][i % 2];
            s.role("team-0003/secrets", &[rule], &[NOW - 9]);
        }),
        ("a binding comes", 1, |s, i| {
            let to = "sa:team-0003/default";
            s.bind(&format!("team-0003/new{i}"), "./secrets", &[to], &[NOW - 9]);
        }),
        ("a binding goes", 1, |s, i| {
            s.delete(Resource::RoleBindings, &format!("team-0003/new{i}"));
        }),
        ("an account comes", 1, |s, i| {
            s.account(&format!("team-0003/new{i}"), NOW - 9);
        }),
    ];
    cost_the_same(&events, teams(10), teams(400));
}

/// A namespace of workloads, each with an account of its own that may do anything there and with pods that can take
/// their node, and as many users that are bound to a Role. Two of the accounts may ask for the tokens on their nodes.
fn crowd(n: usize) -> Stage {
    let mut s = teams(70); // as many as fill a shelf
    s.role("crowd/reads", &["get | core | secrets"], &[NOW - 9]);
    s.account("crowd/default", NOW - 9);
    let nodes = "authentication.k8s.io | nodes";
    let agent = [
        &format!("impersonate:associated-node | {nodes}"),
        "impersonate-on:associated-node:create | core | serviceaccounts/token",
    ];
    s.role("agent", &agent, &[NOW - 9]);
    let agents = ["sa:crowd/app-0", "sa:crowd/app-3"];
    s.bind("agents", "agent", &agents, &[NOW - 9]);
    for i in 0..n {
        s.account(&format!("crowd/app-{i}"), NOW - 9);
        let name = format!("crowd/app-{i}");
        s.bind(&name, "admin", &[&format!("sa:crowd/app-{i}")], &[NOW - 9]);
        let name = format!("crowd/user-{i}");
        s.bind(&name, "./reads", &[&format!("user:u-{i}")], &[NOW - 9]);
        for replica in 0..4 {
            placed(
                &mut s,
                &format!("app-{i}"),
                replica,
                &format!("node-{}", i % (n / 4)),
            );
        }
    }
    s.settle();
    assert!(!s.ledger.live.own_nodes.is_empty(), "some lead there");
    s
}

/// A pod of a workload that has the name of its account.
fn placed(s: &mut Stage, app: &str, replica: usize, node: &str) {
    s.put(Object::Pod(Box::new(Pod {
        meta: crate::object::Meta {
            namespace: "crowd".into(),
            name: format!("{app}-5d4f8c7b9-{replica:05}"),
            created: Some(NOW),
            ..Default::default()
        },
        service_account: app.into(),
        node: node.into(),
        phase: Phase::Running,
        escape: 1,
        workload: Some(Workload {
            kind: "Deployment".into(),
            name: app.into(),
        }),
        tokens: vec![ProjectedToken {
            audience: None,
            containers: vec!["main".into()],
            at_default_path: true,
        }],
        ..Default::default()
    })));
}

/// The same among twenty workloads of one namespace and among eight hundred, where there is something to do that hangs
/// on other pods: tokens on the nodes of an account's own pods, accounts that no pod uses, workloads and subjects
/// in detail.
#[test]
fn an_event_costs_the_same_in_any_namespace() {
    let events: [Event; 9] = [
        ("a pod comes", 0, |s, i| placed(s, "app-3", 9 + i, "node-0")),
        ("a pod goes", 0, |s, i| {
            let name = format!("crowd/app-3-5d4f8c7b9-{:05}", 9 + i);
            s.delete(Resource::Pods, &name);
        }),
        ("a pod comes elsewhere", 0, |s, i| {
            placed(s, "app-3", 9 + i, &format!("new-{i}"));
        }),
        ("a job comes", 0, |s, i| {
            s.pod(&format!("crowd/job-{i}"), "default");
        }),
        ("a job goes", 0, |s, i| {
            s.delete(Resource::Pods, &format!("crowd/job-{i}"));
        }),
        ("an account comes", 1, |s, i| {
            s.account(&format!("crowd/new-{i}"), NOW - 9);
        }),
        ("an account goes", 0, |s, i| {
            s.delete(Resource::ServiceAccounts, &format!("crowd/new-{i}"));
        }),
        ("a user comes", 1, |s, i| {
            let user = format!("user:new-{i}");
            s.bind(&format!("crowd/new-{i}"), "./reads", &[&user], &[NOW - 9]);
        }),
        ("a user goes", 0, |s, i| {
            s.delete(Resource::RoleBindings, &format!("crowd/new-{i}"));
        }),
    ];
    cost_the_same(&events, crowd(20), crowd(800));
}

/// Bytes on the heap for each of `n` things, with all that is kept of them; `add` adds the ith.
fn bytes_each(s: &mut Stage, n: usize, add: impl Fn(&mut Stage, usize)) -> u64 {
    let count = measure(|| {
        (0..n).for_each(|i| add(s, i));
        s.settle();
    });
    u64::try_from(count.bytes_current).expect("more is kept than before") / n as u64
}

#[test]
fn rows_are_slim() {
    let mut s = teams(200);
    let ns = |i: usize| format!("team-{:04}", i % 200);
    // four replicas each, names as a ReplicaSet gives them
    let pods = bytes_each(&mut s, 26_000, |s, i| {
        let app = i / 800;
        s.put(Object::Pod(Box::new(Pod {
            meta: crate::object::Meta {
                namespace: ns(i),
                name: format!(
                    "checkout-worker-{app:02}-5d4f8c7b9-{:05}",
                    i * 7919 % 100_000
                ),
                created: Some(NOW),
                ..Default::default()
            },
            service_account: "app".into(),
            node: format!("node-{}", i % 500),
            phase: Phase::Running,
            workload: Some(Workload {
                kind: "Deployment".into(),
                name: format!("checkout-worker-{app:02}"),
            }),
            tokens: vec![ProjectedToken {
                audience: None,
                containers: vec!["main".into()],
                at_default_path: true,
            }],
            ..Default::default()
        })));
    });
    let bindings = bytes_each(&mut s, 4_000, |s, i| {
        let (name, to) = (
            format!("{}/grant-{i:05}", ns(i)),
            format!("sa:{}/app", ns(i)),
        );
        s.bind(&name, "reader", &[&to], &[NOW - 9]);
    });
    let roles = bytes_each(&mut s, 4_000, |s, i| {
        s.role(
            &format!("{}/role-{i:05}", ns(i)),
            &["get,list | core | secrets"],
            &[NOW - 9],
        );
    });
    let rows = (
        size_of::<PodRow>(),
        size_of::<BindingRow>(),
        size_of::<RoleRow>(),
        size_of::<SubjectRow>(),
    );
    assert!(
        rows.0 <= 16 && rows.1 <= 56 && rows.2 <= 88 && rows.3 <= 208,
        "bytes of a row: {rows:?}"
    );
    // tables double their room in the one phase or in the other
    assert!(
        pods <= 190 && bindings + roles <= 730,
        "bytes each: pods {pods}, bindings {bindings}, roles {roles}"
    );
}

/// Roles that may bind the next one, as a chain and as a ring: what they are worth is found in as many steps as
/// there are roles, times the places in which each may be worth something else.
#[test]
fn roles_that_bind_the_next_are_each_worked_out_a_few_times() {
    let work = |n: usize, ring: bool| {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW - 9]);
        for i in 0..n {
            let next = match i + 1 {
                end if end == n && ring => "r0".to_owned(),
                end if end == n => "admin".to_owned(),
                next => format!("r{next}"),
            };
            let bind = format!("bind | rbac.authorization.k8s.io | clusterroles | {next}");
            let write = "create | rbac.authorization.k8s.io | rolebindings,clusterrolebindings";
            s.role(&format!("r{i}"), &[&bind, write], &[NOW - 9]);
        }
        s.bind("first", "r0", &["user:u"], &[NOW - 9]);
        s.bind("a/first", "r0", &["user:v"], &[NOW - 9]);
        s.settle();
        let level = s.priority("user:u");
        assert_eq!(level == Priority::Critical, !ring, "{level:?}");
        let depend: Vec<RowId> = s
            .ledger
            .roles
            .iter()
            .filter(|(.., row)| row.depends)
            .map(|(id, ..)| id)
            .collect();
        assert_eq!(
            depend.len(),
            n + 1,
            "admin looks at the Roles of a namespace"
        );
        s.ledger.worths(&depend).work as f64 / n as f64
    };
    for ring in [false, true] {
        let each: Vec<f64> = [50, 100, 200, 400].map(|n| work(n, ring)).into();
        let flat = |w: &[f64]| w[1] <= w[0] * 1.05;
        assert!(
            each.windows(2).all(flat) && each[0] <= 30.0,
            "ring {ring}: {each:?}"
        );
    }
}

/// Whoever may bind any Role of a namespace is judged anew when the strongest of them, or whom they lead to, is
/// another; whoever may bind one of them by its name, when any moves.
#[test]
fn whoever_may_bind_roles_is_judged_when_they_are_something_else_to_it() {
    let rbac = "rbac.authorization.k8s.io";
    let mut s = teams(3);
    let write = format!("create | {rbac} | rolebindings");
    let any = format!("bind | {rbac} | roles");
    let weak = format!("bind | {rbac} | roles | weak");
    s.role("binds", &[&any, &write], &[NOW - 9]);
    s.role("binds-weak", &[&weak, &write], &[NOW - 9]);
    s.bind("team-0001/any", "binds", &["user:any"], &[NOW - 9]);
    s.bind("team-0001/weak", "binds-weak", &["user:weak"], &[NOW - 9]);
    s.role("team-0001/weak", &["get | core | pods/log"], &[NOW - 9]);
    s.settle();
    let before = ["user:any", "user:weak"].map(|who| s.priority(who));
    assert!(before[0] > before[1], "{before:?}");

    let steps: [(&str, &str, u64, [Priority; 2]); 5] = [
        ("weak", "get | core | nodes/log", 1, before),
        ("weak", "get,list | core | secrets", 1, [before[0]; 2]),
        ("weak", "* | * | *", 2, [Priority::High; 2]),
        // an account is bound to it
        ("secrets", "get | core | configmaps", 2, [Priority::High; 2]),
        ("weak", "get | core | configmaps", 2, [Priority::Low; 2]),
    ];
    for (role, rule, judged, now) in steps {
        let before = s.ledger.judged_subjects;
        s.role(&format!("team-0001/{role}"), &[rule], &[NOW - 9]);
        s.settle();
        assert_eq!(s.ledger.judged_subjects - before, judged, "{role}: {rule}");
        let found = ["user:any", "user:weak"].map(|who| s.priority(who));
        assert_eq!(found, now, "{role}: {rule}");
    }
}
