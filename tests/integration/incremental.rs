//! The incremental judgement against one made from nothing, over small worlds in which everything
//! collides: after any sequence of changes both say the same. Two more: a grant never lowers anybody,
//! and the order in which objects arrive never matters.
//!
//! `PROPTEST_CASES=5000 cargo test incremental` runs more of them.

use crate::cases::rule;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError};
use rbac_exporter::ledger::{
    BindingView, Change, Details, Judged, Ledger, ObjectRef, PodView, Policy, RoleView, Settings,
    Shelves, SubjectView, World,
};
use rbac_exporter::object::{
    Binding, LabelSelector, Meta, Namespace, Object, Phase, Pod, ProjectedToken, Resource, Role,
    RoleRef, SecretSource, SecretUse, ServiceAccount, Subject,
};
use rbac_exporter::rbac::ServerVersion;
use rbac_exporter::risk::{Acceptance, AcceptedFinding, Catalogue, Priority, Status};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::shipped()));

/// As many cases as the environment says, else as many as a test run has time for.
pub(crate) fn config(cases: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: asked.and_then(|c| c.parse().ok()).unwrap_or(cases),
        failure_persistence: None,
        ..Config::default()
    }
}

// === the world

const NAMESPACES: [&str; 3] = ["a", "b", "kube-system"];
const ACCOUNTS: [&str; 4] = ["default", "x", "y", "top"];
const NODES: [&str; 3] = ["", "n1", "n2"];
const SECRETS: [&str; 3] = ["a-tok", "b-tok", "x-token-x2z9k"];
const USERS: [&str; 5] = [
    "u",
    "boss",
    "system:anonymous",
    "system:kube-scheduler",
    "system:serviceaccount:a:x",
];
const GROUPS: [&str; 7] = [
    "devs",
    "system:authenticated",
    "system:unauthenticated",
    "system:serviceaccounts",
    "system:serviceaccounts:a",
    "system:masters",
    "system:nodes",
];
/// Some are defaults, so that shipped roles, builtin pairs and aggregation come into play.
const CLUSTER_ROLES: [&str; 8] = [
    "r0",
    "r1",
    "r2",
    "view",
    "cluster-admin",
    "system:basic-user",
    "system:kube-scheduler",
    "system:volume-scheduler",
];
const ROLES: [&str; 2] = ["r0", "r1"];
/// What roles say.
const RULES: &[&[&str]] = &[
    &["* | * | *"],
    &["get,list,watch | core | pods"],
    &["create | core | pods"],
    &["create,patch | core | pods | p0"],
    &["patch | apps | deployments | web"],
    &["create | core | serviceaccounts/token"],
    &["create | core | serviceaccounts/token | top,x"],
    &["create | core | pods/exec"],
    &["create | core | pods/exec | p0"],
    &["get | core | pods/exec"],
    &["update | core | pods/ephemeralcontainers | p1"],
    &["get | core | nodes/proxy | n1"],
    &["get | core | nodes/proxy"],
    &["impersonate | core | serviceaccounts"],
    &["impersonate | core | serviceaccounts | y"],
    &["impersonate | core | users | boss,system:node:n1"],
    &["impersonate | core | groups | devs,system:nodes,system:masters"],
    &["impersonate | core | users,groups"],
    &["list | core | secrets"],
    &["get,update | core | secrets | a-tok"],
    &["patch | core | secrets"],
    &["create | core | secrets", "get | core | secrets | a-tok"],
    &["delete,update | core | secrets | a-tok"],
    &[
        "bind | rbac.authorization.k8s.io | clusterroles | r0,view",
        "create | rbac.authorization.k8s.io | rolebindings",
    ],
    &[
        "bind | rbac.authorization.k8s.io | clusterroles | r1",
        "update | rbac.authorization.k8s.io | clusterrolebindings",
    ],
    &[
        "bind | rbac.authorization.k8s.io | roles",
        "create | rbac.authorization.k8s.io | rolebindings",
    ],
    &["* | rbac.authorization.k8s.io | roles,rolebindings"],
    &[
        "bind | rbac.authorization.k8s.io | roles | r0",
        "patch | rbac.authorization.k8s.io | rolebindings | b0",
    ],
    &["escalate,create | rbac.authorization.k8s.io | clusterroles"],
    &["escalate,update | rbac.authorization.k8s.io | clusterroles | r0,r1"],
    &["escalate,create | rbac.authorization.k8s.io | roles"],
    &["escalate,update | rbac.authorization.k8s.io | roles | r1"],
    &["impersonate:user-info | authentication.k8s.io | users | boss,u"],
    &["impersonate:user-info | authentication.k8s.io | users"],
    &["impersonate:serviceaccount | authentication.k8s.io | serviceaccounts | x"],
    &["impersonate:associated-node,impersonate:arbitrary-node | authentication.k8s.io | nodes"],
    &["impersonate-on:user-info:list,impersonate-on:serviceaccount:create | core | secrets,pods"],
    &[
        "impersonate-on:associated-node:create,impersonate-on:arbitrary-node:create | core | serviceaccounts/token",
    ],
    &["* | authentication.k8s.io | *"],
    &["create | core | persistentvolumes"],
    &["patch | core | namespaces | a"],
    &["get | url:*"],
    &["get | core | pods/log"],
    &[],
];

fn meta(namespace: &str, name: &str) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Default::default()
    }
}

/// When everything happens, and long enough after it for grace periods to be over. Objects are younger
/// than ten minutes, so that no rise is stamped with the time at which it was seen.
const NOW: i64 = 1_000;
const LATER: i64 = NOW + GRACE + 1;
const GRACE: i64 = 60;

/// creationTimestamp and the last change, odd ones too: before creation, and in the future.
fn times() -> impl Strategy<Value = (Option<i64>, Option<i64>)> + Clone {
    select(vec![
        (None, None),
        (Some(910), None),
        (Some(920), Some(990)),
        (Some(950), Some(940)),
        (Some(930), Some(LATER + 5)),
    ])
}

fn timed(meta: Meta, (created, history): (Option<i64>, Option<i64>)) -> Meta {
    Meta {
        created,
        history: history.into_iter().collect(),
        ..meta
    }
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    select(from)
}

fn a_subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        3 => (pick(&NAMESPACES), pick(&ACCOUNTS)).prop_map(|(ns, name)| Subject::ServiceAccount {
            namespace: ns.into(),
            name: name.into(),
        }),
        2 => pick(&USERS).prop_map(Subject::user),
        2 => pick(&GROUPS).prop_map(|name| Subject::Group { name: name.into() }),
    ]
}

fn rules() -> impl Strategy<Value = Vec<rbac_exporter::object::PolicyRule>> {
    vec(0..RULES.len(), 1..4).prop_map(|sets| {
        sets.into_iter()
            .flat_map(|i| RULES[i])
            .map(|r| rule(r))
            .collect()
    })
}

fn a_role() -> impl Strategy<Value = Object> {
    let place = prop_oneof![
        pick(&CLUSTER_ROLES).prop_map(|name| ("", name)),
        (pick(&NAMESPACES), pick(&ROLES)),
    ];
    let labels = select(vec![None, None, Some("yes"), Some("no")]);
    // no aggregationRule, one that picks a label, one that picks everything
    let selects = select(vec![None, None, None, Some(Some("yes")), Some(None)]);
    (place, rules(), labels, selects, times()).prop_map(
        |((ns, name), rules, label, selects, at)| {
            let pair = |value: &str| ("agg".to_owned(), value.to_owned());
            let selector = |value: Option<&str>| LabelSelector {
                match_labels: value.map(pair).into_iter().collect(),
                match_expressions: vec![],
            };
            let aggregation = selects
                .filter(|_| ns.is_empty())
                .map(|value| vec![selector(value)]);
            Object::Role(Role {
                meta: timed(meta(ns, name), at),
                labels: label
                    .filter(|_| ns.is_empty())
                    .map(pair)
                    .into_iter()
                    .collect(),
                rules: match aggregation {
                    Some(_) if rules.len() > 1 => vec![],
                    _ => rules,
                },
                aggregation,
            })
        },
    )
}

fn a_binding() -> impl Strategy<Value = Object> {
    let names: &'static [&'static str] = &["b0", "b1", "b2"];
    let place = prop_oneof![
        1 => pick(names).prop_map(|name| ("", name)),
        2 => (pick(&NAMESPACES), pick(names)),
    ];
    let role = prop_oneof![
        2 => pick(&CLUSTER_ROLES).prop_map(|name| (true, name)),
        1 => pick(&ROLES).prop_map(|name| (false, name)),
    ];
    (place, role, vec(a_subject(), 0..4), times()).prop_map(
        |((ns, name), (cluster, role), subjects, at)| {
            Object::Binding(Binding {
                meta: timed(meta(ns, name), at),
                role: RoleRef {
                    cluster: cluster || ns.is_empty(),
                    name: role.into(),
                },
                subjects,
                ..Default::default()
            })
        },
    )
}

fn an_account() -> impl Strategy<Value = Object> {
    let secrets = vec(pick(&SECRETS), 0..3);
    (pick(&NAMESPACES), pick(&ACCOUNTS), secrets, times()).prop_map(|(ns, name, secrets, at)| {
        Object::ServiceAccount(ServiceAccount {
            meta: timed(meta(ns, name), at),
            automount: None,
            secrets: secrets.into_iter().map(str::to_owned).collect(),
        })
    })
}

fn a_pod() -> impl Strategy<Value = Object> {
    let names: &'static [&'static str] = &["p0", "p1"];
    let phase = select(vec![
        Phase::Running,
        Phase::Running,
        Phase::Pending,
        Phase::Succeeded,
    ]);
    let token = select(vec![None, Some(None), Some(None), Some(Some("vault"))]);
    let secret = select(vec![
        None,
        Some((0, SecretSource::Volume)),
        Some((1, SecretSource::Env)),
        Some((2, SecretSource::Volume)),
    ]);
    let escape = select(vec![0_u8, 0, 1, 6]);
    let at = (
        pick(&NAMESPACES),
        pick(names),
        pick(&ACCOUNTS),
        pick(&NODES),
    );
    (at, phase, token, secret, escape).prop_map(
        |((ns, name, account, node), phase, token, secret, escape)| {
            let containers = vec!["c".to_owned()];
            Object::Pod(Box::new(Pod {
                meta: meta(ns, name),
                service_account: account.into(),
                node: node.into(),
                phase,
                tokens: token
                    .map(|audience| ProjectedToken {
                        audience: audience.map(str::to_owned),
                        containers: containers.clone(),
                        at_default_path: true,
                    })
                    .into_iter()
                    .collect(),
                secrets: secret
                    .map(|(i, source): (usize, _)| SecretUse {
                        name: SECRETS[i].into(),
                        source,
                        containers,
                    })
                    .into_iter()
                    .collect(),
                escape,
                ..Default::default()
            }))
        },
    )
}

fn a_namespace() -> impl Strategy<Value = Object> {
    let level = select(vec![None, Some("restricted")]);
    (pick(&NAMESPACES), level).prop_map(|(name, level)| {
        Object::Namespace(Namespace {
            meta: meta("", name),
            pod_security: level.map(str::to_owned),
        })
    })
}

fn an_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        4 => a_role(),
        6 => a_binding(),
        3 => an_account(),
        3 => a_pod(),
        1 => a_namespace(),
    ]
}

/// Some objects, of each name at most one.
pub(crate) fn some_objects() -> impl Strategy<Value = Vec<Object>> {
    vec(an_object(), 8..30).prop_map(|objects| {
        let named: BTreeMap<ObjectRef, Object> =
            objects.into_iter().map(|o| (reference(&o), o)).collect();
        named.into_values().collect()
    })
}

fn reference(object: &Object) -> ObjectRef {
    ObjectRef {
        resource: object.resource(),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone(),
    }
}

// === what happens to it

#[derive(Clone, Debug)]
enum Step {
    Upsert(Object),
    /// Of an object of this name, known or not.
    Delete(Object),
    /// It does not decode any more.
    Bad(Object),
    /// The given objects join in the middle; each known object is named, unless its turn in `fates`
    /// says that it is gone (1) or unreadable (2).
    Relist {
        resource: Resource,
        fates: Vec<u8>,
        joins: Vec<Object>,
        /// A first attempt that breaks off half way; a second list starts the marking over.
        broken: bool,
        /// The list never ends.
        endless: bool,
        settle: bool,
    },
    Version(&'static str),
    /// A configuration with these acceptances.
    Accept(Vec<Acceptance>),
    /// One with what is open now accepted, but for some of it.
    AcceptOpen(Vec<bool>),
    Settle,
}

/// Rules that the roles of these worlds match.
const ACCEPTABLE: [&str; 12] = [
    "wildcard-admin",
    "secrets-list",
    "secrets-get",
    "pod-create",
    "pod-exec",
    "serviceaccount-token-create",
    "rbac-bind",
    "rbac-escalate",
    "impersonate-users",
    "impersonate-serviceaccounts",
    "secrets-token-mint",
    "no-such-rule",
];

fn an_acceptance() -> impl Strategy<Value = Acceptance> {
    let finding = (pick(&ACCEPTABLE), pick(&["*", "a", "b", "kube-system"]));
    let priority = select(Priority::RISKY.to_vec());
    let expires = select(vec![NOW, NOW + 1, LATER, LATER + 1, LATER + 9]);
    (a_subject(), vec(finding, 1..9), priority, expires).prop_map(
        |(subject, findings, priority, expires)| {
            let findings = findings.into_iter().map(|(rule, scope)| AcceptedFinding {
                rule: rule.into(),
                scope: scope.into(),
            });
            acceptance(subject, findings.collect(), priority, expires)
        },
    )
}

fn acceptance(
    subject: Subject,
    findings: Vec<AcceptedFinding>,
    priority: Priority,
    expires: i64,
) -> Acceptance {
    Acceptance {
        id: "id".into(),
        subject,
        findings,
        priority,
        reason: "a reason".into(),
        owner: "an owner".into(),
        expires,
    }
}

fn a_step() -> impl Strategy<Value = Step> {
    let relist = (
        select(Resource::ALL.to_vec()),
        vec(select(vec![0_u8, 0, 0, 1, 2]), 1..6),
        vec(an_object(), 0..3),
        any::<(bool, bool, bool)>(),
    );
    prop_oneof![
        12 => an_object().prop_map(Step::Upsert),
        4 => an_object().prop_map(Step::Delete),
        1 => an_object().prop_map(Step::Bad),
        2 => relist.prop_map(|(resource, fates, joins, (broken, endless, settle))| Step::Relist {
            resource,
            fates,
            joins,
            broken,
            endless,
            settle,
        }),
        1 => select(vec!["1.33.0", "1.37.2"]).prop_map(Step::Version),
        1 => vec(an_acceptance(), 0..6).prop_map(Step::Accept),
        2 => vec(select(vec![true, true, true, false]), 1..9).prop_map(Step::AcceptOpen),
        4 => Just(Step::Settle),
    ]
}

/// A ledger and, beside it, the objects that it should hold.
struct Run {
    ledger: Ledger,
    objects: BTreeMap<ObjectRef, Object>,
    version: &'static str,
    world: World,
    accepted: Vec<Acceptance>,
    /// The ledger as it stood, and what was seen of it then.
    moments: Vec<(Ledger, Seen)>,
}

fn policy(accepted: &[Acceptance]) -> Policy {
    Policy {
        accepted: accepted.to_vec(),
        detail: Priority::RISKY.to_vec(),
        ..Policy::from(CATALOGUE.clone())
    }
}

fn ledger(world: World, version: &str, accepted: &[Acceptance]) -> Ledger {
    ledger_with(world, version, accepted, false)
}

fn ledger_with(world: World, version: &str, accepted: &[Acceptance], without_pods: bool) -> Ledger {
    let version = ServerVersion::parse(version).unwrap();
    let mut settings = Settings::new(world, version);
    settings.pod_grace = GRACE;
    settings.without_pods = without_pods;
    let mut ledger = Ledger::new(policy(accepted), settings);
    ledger.advance(NOW);
    let watched: Vec<Resource> = ledger.watched().collect();
    for resource in watched {
        ledger.apply(Change::RelistBegin(resource));
        ledger.apply(Change::RelistEnd(resource));
    }
    ledger
}

impl Run {
    fn new(world: World) -> Run {
        let version = "1.36.0";
        Run {
            ledger: ledger(world, version, &[]),
            objects: BTreeMap::new(),
            version,
            world,
            accepted: Vec::new(),
            moments: Vec::new(),
        }
    }

    fn upsert(&mut self, object: &Object) {
        self.objects.insert(reference(object), object.clone());
        self.ledger.apply(Change::Upsert(object.clone()));
    }

    fn accept(&mut self, accepted: Vec<Acceptance>) {
        self.ledger.reconfigure(policy(&accepted));
        self.accepted = accepted;
    }

    fn bad(&mut self, object: ObjectRef) {
        let message = "cannot be read".to_owned();
        self.ledger.apply(Change::Bad { object, message });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Upsert(object) => self.upsert(object),
            Step::Delete(object) => {
                self.objects.remove(&reference(object));
                self.ledger.apply(Change::Delete(reference(object)));
            }
            Step::Bad(object) => self.bad(reference(object)),
            Step::Relist {
                resource,
                fates,
                joins,
                broken,
                endless,
                settle,
            } => {
                let known: Vec<Object> = self
                    .objects
                    .values()
                    .filter(|o| o.resource() == *resource)
                    .cloned()
                    .collect();
                self.ledger.apply(Change::RelistBegin(*resource));
                if *broken {
                    for object in known.iter().take(known.len() / 2) {
                        self.upsert(object);
                    }
                    self.ledger.apply(Change::RelistBegin(*resource));
                }
                let mut gone = Vec::new();
                for (object, fate) in known.iter().zip(fates.iter().cycle()) {
                    match fate {
                        0 => self.upsert(object),
                        2 => self.bad(reference(object)),
                        _ => gone.push(reference(object)),
                    }
                }
                for object in joins {
                    self.upsert(object);
                    gone.retain(|g| *g != reference(object));
                }
                if *settle {
                    self.ledger.settle();
                }
                if !endless {
                    self.ledger.apply(Change::RelistEnd(*resource));
                    for object in gone {
                        self.objects.remove(&object);
                    }
                }
            }
            Step::Version(version) => {
                // manifests have the version they were started with
                if self.world == World::Cluster {
                    self.version = version;
                    self.ledger.apply(Change::Version(Some((*version).into())));
                }
            }
            Step::Accept(accepted) => self.accept(accepted.clone()),
            Step::AcceptOpen(keep) => {
                self.ledger.settle();
                let open = self.ledger.proposals(Priority::Low);
                let accepted = open.into_iter().zip(keep.iter().cycle());
                let accepted = accepted
                    .filter(|(_, keep)| **keep)
                    .map(|(p, _)| acceptance(p.subject, p.findings, p.priority, LATER + 1));
                let all: Vec<Acceptance> = self.accepted.iter().cloned().chain(accepted).collect();
                self.accept(all);
            }
            Step::Settle => {
                self.ledger.settle();
                // whoever looks now, and goes on looking at this moment, moves nothing
                let seen = look(&self.ledger);
                self.moments.push((self.ledger.clone(), seen));
            }
        }
    }
}

/// Everything that anybody can see of a judgement.
#[derive(Debug, PartialEq)]
struct Seen {
    subjects: Vec<SubjectView>,
    pods: Vec<PodView>,
    roles: Vec<RoleView>,
    bindings: Vec<BindingView>,
    judged: Arc<Judged>,
}

impl Seen {
    /// Without times, and what is listed only where one is known. `since` is sticky while a priority holds, so it remembers judgements in between.
    fn timeless(mut self) -> Seen {
        self.subjects.iter_mut().for_each(|s| s.since = None);
        let judged = Arc::make_mut(&mut self.judged);
        let blocks = judged.namespaces.iter().map(|(name, block)| {
            let mut block = (**block).clone();
            block.subject_details = Shelves::default();
            (name.clone(), Arc::new(block))
        });
        judged.namespaces = blocks.collect();
        judged.subject_details = Details::default();
        self
    }
}

fn seen(ledger: &mut Ledger) -> Seen {
    ledger.settle();
    ledger.advance(LATER);
    ledger.settle();
    look(ledger)
}

fn look(ledger: &Ledger) -> Seen {
    Seen {
        subjects: ledger.subject_views().collect(),
        pods: ledger.pod_views().collect(),
        roles: ledger.role_views().collect(),
        bindings: ledger.binding_views().collect(),
        judged: ledger.snapshot().judged,
    }
}

fn from_scratch<'a>(
    world: World,
    version: &str,
    accepted: &[Acceptance],
    objects: impl IntoIterator<Item = &'a Object>,
) -> Seen {
    let mut fresh = ledger(world, version, accepted);
    for object in objects {
        fresh.apply(Change::Upsert(object.clone()));
    }
    seen(&mut fresh)
}

/// Says what differs, not everything there is.
fn same(got: &Seen, want: &Seen) -> Result<(), TestCaseError> {
    fn lists<T: std::fmt::Debug + PartialEq>(
        what: &str,
        got: &[T],
        want: &[T],
    ) -> Result<(), TestCaseError> {
        let only = |a: &[T], b: &[T]| -> Vec<String> {
            let missing = a.iter().filter(|x| !b.contains(x));
            missing.map(|x| format!("{x:#?}")).collect()
        };
        if got == want {
            return Ok(());
        }
        let (more, less) = (only(got, want), only(want, got));
        Err(TestCaseError::fail(format!(
            "{what} differ\nincremental: {}\nfrom scratch: {}",
            more.join("\n"),
            less.join("\n")
        )))
    }
    lists("subjects", &got.subjects, &want.subjects)?;
    lists("pods", &got.pods, &want.pods)?;
    lists("roles", &got.roles, &want.roles)?;
    lists("bindings", &got.bindings, &want.bindings)?;
    lists(
        "namespaces",
        &Vec::from_iter(got.judged.namespaces.iter()),
        &Vec::from_iter(want.judged.namespaces.iter()),
    )?;
    lists("rule counts", &got.judged.rules, &want.judged.rules)?;
    lists("details", got.judged.subjects(), want.judged.subjects())?;
    lists("workloads", got.judged.workloads(), want.judged.workloads())
}

fn a_world() -> impl Strategy<Value = World> {
    select(vec![World::Cluster, World::Manifests])
}

fn priorities(seen: &Seen) -> BTreeMap<String, (Priority, Priority)> {
    let of = |v: &SubjectView| (v.subject.written(), (v.own, v.priority));
    seen.subjects.iter().map(of).collect()
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn incremental_equals_from_scratch(world in a_world(), steps in vec(a_step(), 1..70)) {
        let mut run = Run::new(world);
        for step in &steps {
            run.step(step);
        }
        let got = seen(&mut run.ledger);
        let want = from_scratch(world, run.version, &run.accepted, run.objects.values());
        let judged_between = steps
            .iter()
            .any(|s| matches!(s, Step::Settle | Step::AcceptOpen(_) | Step::Relist { settle: true, .. }));
        match judged_between {
            true => same(&got.timeless(), &want.timeless())?,
            false => same(&got, &want)?,
        }
        // and nothing is left to do
        prop_assert!(!run.ledger.settle());
        prop_assert_eq!(run.ledger.selfcheck(), 0);
        // every moment is as it was
        for (moment, seen) in &run.moments {
            same(&look(moment), seen)?;
        }
    }

    #[test]
    fn the_order_of_objects_never_matters(
        world in a_world(),
        (objects, shuffled) in vec(an_object(), 1..50).prop_flat_map(|objects| {
            let last: BTreeMap<ObjectRef, Object> =
                objects.iter().map(|o| (reference(o), o.clone())).collect();
            let last: Vec<Object> = last.into_values().collect();
            (Just(last.clone()), Just(last).prop_shuffle())
        }),
        settle_at in 0_usize..80,
        accepted in vec(an_acceptance(), 0..4),
    ) {
        let want = from_scratch(world, "1.36.0", &accepted, &objects);
        let mut other = ledger(world, "1.36.0", &accepted);
        for (i, object) in shuffled.iter().enumerate() {
            if i == settle_at {
                other.settle();
            }
            other.apply(Change::Upsert(object.clone()));
        }
        match settle_at < shuffled.len() {
            true => same(&seen(&mut other).timeless(), &want.timeless())?,
            false => same(&seen(&mut other), &want)?,
        }
    }

    /// Contract §7: whoever does without pods may be told too much, never too little.
    #[test]
    fn without_pods_nobody_is_judged_lower(
        steps in vec(a_step(), 1..70),
        objects in vec(an_object(), 1..50),
    ) {
        let want = from_scratch(World::Cluster, "1.36.0", &[], &objects);
        let mut partial = ledger_with(World::Cluster, "1.36.0", &[], true);
        let of_pods = |o: &&Object| o.resource() == Resource::Pods;
        for object in objects.iter().filter(|o| !of_pods(o)) {
            partial.apply(Change::Upsert(object.clone()));
        }
        let assumed = priorities(&seen(&mut partial));
        for (who, known) in priorities(&want) {
            let assumed = assumed.get(&who).copied().unwrap_or_default();
            prop_assert!(
                assumed.0 == known.0 && assumed.1 >= known.1,
                "{who}: {known:?} with pods, {assumed:?} without"
            );
        }
        // and it is kept up to date as well as with them
        let mut run = Run::new(World::Cluster);
        run.ledger = ledger_with(World::Cluster, "1.36.0", &[], true);
        let not_of_pods = |step: &&Step| match step {
            Step::Upsert(o) | Step::Delete(o) | Step::Bad(o) => o.resource() != Resource::Pods,
            Step::Relist { resource, joins, .. } => {
                *resource != Resource::Pods && !joins.iter().any(|o| of_pods(&o))
            }
            Step::Version(_) | Step::Settle | Step::Accept(_) | Step::AcceptOpen(_) => true,
        };
        steps.iter().filter(not_of_pods).for_each(|step| run.step(step));
        let mut fresh = ledger_with(World::Cluster, run.version, &run.accepted, true);
        for object in run.objects.values() {
            fresh.apply(Change::Upsert(object.clone()));
        }
        same(&seen(&mut run.ledger).timeless(), &seen(&mut fresh).timeless())?;
        prop_assert_eq!(run.ledger.selfcheck(), 0);
    }

    #[test]
    fn what_is_proposed_is_what_it_takes(
        world in a_world(),
        objects in vec(an_object(), 1..50),
    ) {
        let mut run = Run::new(world);
        for object in &objects {
            run.upsert(object);
        }
        let before = seen(&mut run.ledger);
        let open = run.ledger.proposals(Priority::Low);
        let entries: Vec<Acceptance> = open
            .iter()
            .map(|p| acceptance(p.subject.clone(), p.findings.clone(), p.priority, LATER + 1))
            .collect();
        run.accept(entries.clone());
        let after = seen(&mut run.ledger);
        prop_assert_eq!(run.ledger.selfcheck(), 0);
        prop_assert_eq!(run.ledger.unmatched_acceptances(), vec![]);
        prop_assert_eq!(run.ledger.proposals(Priority::Low), vec![]);
        prop_assert_eq!(priorities(&before), priorities(&after));
        for view in &after.subjects {
            let proposed = open.iter().any(|p| p.subject == view.subject);
            if proposed {
                prop_assert_eq!(view.status, Status::Accepted, "{}", view.subject.written());
            }
        }
        // one finding less opens it, unless it belongs to a group that is accepted
        let groups = entries.iter().any(|e| matches!(e.subject, Subject::Group { .. }));
        for (i, entry) in entries.iter().enumerate().filter(|_| !groups).take(4) {
            let mut fewer = entries.clone();
            fewer[i].findings.remove(0);
            run.accept(fewer);
            run.ledger.settle();
            let view = run.ledger.explain(&entry.subject);
            prop_assert_eq!(view.map(|v| v.status), Some(Status::Open), "{:?}", entry);
        }
    }

    #[test]
    fn a_grant_never_lowers_anybody(
        world in a_world(),
        objects in vec(an_object(), 1..50),
        more in a_binding(),
        wider in rules(),
        at in any::<proptest::sample::Index>(),
    ) {
        let mut run = Run::new(world);
        for object in &objects {
            run.upsert(object);
        }
        let before = priorities(&seen(&mut run.ledger));
        let Object::Binding(mut more) = more else { unreachable!("a binding was asked for") };
        more.meta.name = "one-more".into();
        run.upsert(&Object::Binding(more));
        let bound = priorities(&seen(&mut run.ledger));
        for (who, was) in &before {
            let now = bound.get(who).copied().unwrap_or_default();
            prop_assert!(now.0 >= was.0 && now.1 >= was.1, "{who}: {was:?} became {now:?}");
        }
        // a role that is there gains rules; one that is missing would end the power to make it
        let mut roles: Vec<Role> = run
            .objects
            .values()
            .filter_map(|o| match o {
                Object::Role(role) if !role.rules.is_empty() => Some(role.clone()),
                _ => None,
            })
            .collect();
        if !roles.is_empty() {
            let mut role = roles.swap_remove(at.index(roles.len()));
            role.rules.extend(wider);
            run.upsert(&Object::Role(role));
            let widened = priorities(&seen(&mut run.ledger));
            for (who, was) in &bound {
                let now = widened.get(who).copied().unwrap_or_default();
                prop_assert!(now.0 >= was.0 && now.1 >= was.1, "{who}: {was:?} became {now:?}");
            }
        }
    }
}
