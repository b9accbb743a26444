//! What to cut: taken away, the subject falls, judged from nothing; and where the set is said to be the
//! smallest, no smaller one does.

use crate::cases;
use crate::incremental::{config, some_objects};
use proptest::collection::vec;
use proptest::sample::select;
use proptest::strategy::Strategy;
use proptest::test_runner::{TestCaseError, TestRunner};
use rbac_exporter::ledger::{Change, CutEntry, Grant, Ledger, Settings, SubjectView, World};
use rbac_exporter::object::{
    Binding, Meta, Object, Resource, Role, RoleRef, ServiceAccount, Spelling, Spellings, Subject,
};
use rbac_exporter::rbac::{NEWEST, ServerVersion, implicit_groups};
use rbac_exporter::risk::{Catalogue, Pair, Priority, builtin_pairs};
use rbac_exporter::source::manifests::{Limits, Manifests};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

pub(crate) static CATALOGUE: LazyLock<Arc<Catalogue>> =
    LazyLock::new(|| Arc::new(Catalogue::shipped()));

/// Objects, and how they are judged.
pub(crate) struct Given {
    objects: Vec<Object>,
    world: World,
    version: ServerVersion,
}

/// Namespace and name of a binding, and whom it names.
type Entry = (String, String, Subject);

impl Given {
    pub(crate) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(CATALOGUE.clone(), Settings::new(self.world, self.version));
        for resource in Resource::ALL {
            ledger.apply(Change::RelistBegin(resource));
            ledger.apply(Change::RelistEnd(resource));
        }
        for object in &self.objects {
            ledger.apply(Change::Upsert(object.clone()));
        }
        ledger.settle();
        ledger
    }

    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects
    }

    fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.objects.iter().filter_map(|o| match o {
            Object::Binding(binding) => Some(binding),
            _ => None,
        })
    }

    /// The priority of a subject when these entries are gone; `None` when nothing names it any more.
    fn without(&self, gone: &BTreeSet<Entry>, who: &Subject) -> Option<Priority> {
        let mut objects = self.objects.clone();
        for object in &mut objects {
            let Object::Binding(binding) = object else {
                continue;
            };
            let (namespace, name) = (binding.meta.namespace.clone(), binding.meta.name.clone());
            let named = |s: &Subject| gone.contains(&(namespace.clone(), name.clone(), s.clone()));
            binding.subjects.retain(|s| !named(s));
            binding.spellings = None;
        }
        let less = Given { objects, ..*self };
        if who.written() == "group:system:masters" {
            // its members are none the weaker when no binding names it any more
            return Some(Priority::Critical);
        }
        let view = less.ledger().explain(who);
        view.map(|v| v.priority)
    }

    /// Entries that could be removed for the sake of a subject: not those of others that Kubernetes
    /// makes again.
    fn entries(&self, who: &Subject) -> Vec<Entry> {
        let groups = implicit_groups(who);
        let own =
            |s: &Subject| s == who || matches!(s, Subject::Group { name } if groups.contains(name));
        let mut out = BTreeSet::new();
        for b in self.bindings() {
            for subject in &b.subjects {
                let pair = Pair {
                    namespace: b.meta.namespace.clone(),
                    cluster_role: b.role.cluster,
                    role: b.role.name.clone(),
                    subject: subject.clone(),
                };
                if own(subject) || !builtin_pairs().contains_key(&pair) {
                    let (namespace, name) = (b.meta.namespace.clone(), b.meta.name.clone());
                    out.insert((namespace, name, subject.clone()));
                }
            }
        }
        out.into_iter().collect()
    }

    /// Removes what each risky subject is told to remove; looks for a smaller set where there should be
    /// none, among so many entries at most.
    fn check(&self, brute_force: usize) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for view in self.ledger().subject_views() {
            if view.priority == Priority::None {
                continue;
            }
            let who = view.subject.written();
            let entries = self.entries(&view.subject);
            if view.cut.entries.is_empty() {
                let gone = entries.into_iter().collect();
                if self.without(&gone, &view.subject) < Some(view.priority) {
                    return Err(format!("{who}: something can be cut, and nothing is told"));
                }
                continue;
            }
            let gone = self.told(&view)?;
            let left = self.without(&gone, &view.subject);
            if left >= Some(view.priority) {
                return Err(format!("{who}: still {left:?} without {gone:?}"));
            }
            seen.cut += 1;
            seen.several += usize::from(gone.len() > 1);
            let others = gone.iter().any(|(_, _, s)| {
                let group = matches!(s, Subject::Group { name } if implicit_groups(&view.subject).contains(name));
                *s != view.subject && !group
            });
            seen.along_the_path += usize::from(others);
            if view.cut.exact && entries.len() <= brute_force && gone.len() > 1 {
                for set in subsets(&entries, gone.len() - 1) {
                    // whom nothing names is no subject, but still holds what its groups hold
                    let left = self.without(&set, &view.subject);
                    if left.is_some_and(|left| left < view.priority) {
                        return Err(format!("{who}: {set:?} does, and is smaller than {gone:?}"));
                    }
                }
                seen.proven += 1;
            }
        }
        Ok(seen)
    }

    /// The entries that a view tells to remove, found where it says they are.
    fn told(&self, view: &SubjectView) -> Result<BTreeSet<Entry>, String> {
        let mut out = BTreeSet::new();
        for c in &view.cut.entries {
            let (namespace, name) = (&c.grant.binding_namespace, &c.grant.binding);
            let at = |b: &&Binding| (&b.meta.namespace, &b.meta.name) == (namespace, name);
            let binding = self.bindings().filter(at).last().ok_or("no such binding")?;
            let there = binding.subjects.get(c.index as usize);
            if there != Some(&c.subject) || binding.subjects.len() != c.entries as usize {
                return Err(format!("{c:?} is not where it is said to be: {there:?}"));
            }
            out.insert((namespace.clone(), name.clone(), c.subject.clone()));
        }
        Ok(out)
    }
}

/// What the worlds of a test held, so that it shows when they hold too little.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    cut: usize,
    several: usize,
    along_the_path: usize,
    proven: usize,
}

/// All sets of so many entries.
fn subsets(entries: &[Entry], size: usize) -> Vec<BTreeSet<Entry>> {
    if size == 0 {
        return vec![BTreeSet::new()];
    }
    let mut out = Vec::new();
    for (i, first) in entries.iter().enumerate() {
        for mut set in subsets(&entries[i + 1..], size - 1) {
            set.insert(first.clone());
            out.push(set);
        }
    }
    out
}

/// The worlds of the truth tables, each with the id of its case.
pub(crate) fn truth_tables() -> impl Iterator<Item = (String, Given)> {
    let worlds = cases::worlds().into_iter();
    worlds.map(|(id, world, version, objects)| {
        let given = Given {
            objects,
            world,
            version,
        };
        (id, given)
    })
}

/// The bundled demo.
pub(crate) fn demo() -> Given {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/demo");
    let mut manifests = Manifests::open(demo, Limits::default()).unwrap();
    let changes = manifests.changes().unwrap();
    let objects = changes.into_iter().flatten().filter_map(|c| match c {
        Change::Upsert(object) => Some(object),
        _ => None,
    });
    Given {
        objects: objects.collect(),
        world: World::Manifests,
        version: NEWEST,
    }
}

#[test]
fn every_risky_subject_of_the_truth_tables() {
    let mut cut = 0;
    for (id, given) in truth_tables() {
        cut += given.check(14).unwrap_or_else(|e| panic!("{id}: {e}")).cut;
    }
    assert!(cut > 300, "{cut}");
}

#[test]
fn every_risky_subject_of_the_demo() {
    let seen = demo().check(0).unwrap();
    assert!(seen.cut >= 35, "{seen:?}");
}

#[test]
fn every_risky_subject_of_generated_worlds() {
    let mut runner = TestRunner::new(config(16));
    let outcome = runner.run(&some_objects(), |objects| {
        world(objects).check(10).map_err(TestCaseError::fail)?;
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

/// Few names and many steps: chains, circles, detours, and findings of several pieces.
#[test]
fn every_risky_subject_of_tangled_worlds() {
    const ROLES: [(&str, &str); 6] = [
        ("admin", "* | * | *"),
        ("tokens", "create | core | serviceaccounts/token"),
        ("x-tokens", "create | core | serviceaccounts/token | x"),
        ("make", "create | core | secrets"),
        ("read", "get | core | secrets"),
        ("become", "impersonate | core | users,groups | x,g"),
    ];
    let accounts = ["sa:a/x", "sa:a/y", "sa:b/x", "sa:b/y", "sa:c/x"];
    let others = ["user:x", "group:g", "group:system:serviceaccounts:a"];
    let subject = (0..accounts.len() + others.len()).prop_map(move |i| {
        let all = accounts.iter().chain(&others);
        all.copied().nth(i).unwrap()
    });
    let binding = (
        select(vec!["a", "a", "b", "b", "c", ""]),
        // one that is strong among five that lead on
        select(vec![0_usize, 1, 1, 2, 2, 3, 3, 4, 4, 5]),
        vec(subject, 1..3),
    );
    let seen = Cell::new(Seen::default());
    let mut runner = TestRunner::new(config(32));
    let outcome = runner.run(&vec(binding, 6..11), |bindings| {
        let mut objects: Vec<Object> = ROLES.iter().map(|(name, r)| role(name, r)).collect();
        objects.extend(accounts.iter().map(|a| {
            let (namespace, name) = a.strip_prefix("sa:").unwrap().split_once('/').unwrap();
            account(namespace, name)
        }));
        for (i, (namespace, role, to)) in bindings.iter().enumerate() {
            objects.push(bind((namespace, &format!("b{i}")), ROLES[*role].0, to));
        }
        let got = world(objects).check(11).map_err(TestCaseError::fail)?;
        let sum = seen.get();
        seen.set(Seen {
            cut: sum.cut + got.cut,
            several: sum.several + got.several,
            along_the_path: sum.along_the_path + got.along_the_path,
            proven: sum.proven + got.proven,
        });
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let seen = seen.get();
    assert!(
        seen.proven > 5 && seen.along_the_path > 0,
        "too tame: {seen:?}"
    );
}

// === single worlds

fn meta(namespace: &str, name: &str) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Meta::default()
    }
}

pub(crate) fn role(name: &str, rule: &str) -> Object {
    Object::Role(Role {
        meta: meta("", name),
        rules: vec![cases::rule(rule)],
        ..Role::default()
    })
}

pub(crate) fn bind(at: (&str, &str), role: &str, to: &[&str]) -> Object {
    Object::Binding(Binding {
        meta: meta(at.0, at.1),
        role: RoleRef {
            cluster: true,
            name: role.into(),
        },
        subjects: to.iter().map(|s| Subject::parse(s).unwrap()).collect(),
        ..Binding::default()
    })
}

pub(crate) fn account(namespace: &str, name: &str) -> Object {
    Object::ServiceAccount(ServiceAccount {
        meta: meta(namespace, name),
        ..ServiceAccount::default()
    })
}

pub(crate) fn world(objects: Vec<Object>) -> Given {
    Given {
        objects,
        world: World::Cluster,
        version: NEWEST,
    }
}

fn cut_of(given: &Given, who: &str) -> (Vec<String>, bool) {
    let view = given
        .ledger()
        .explain(&Subject::parse(who).unwrap())
        .unwrap();
    let written = |c: &CutEntry| {
        let Grant {
            binding_namespace,
            binding,
            ..
        } = &c.grant;
        format!("{binding_namespace}/{binding} {}", c.subject.written())
    };
    (
        view.cut.entries.iter().map(written).collect(),
        view.cut.exact,
    )
}

#[test]
fn one_entry_further_along_does_for_three_of_its_own() {
    let mut objects = vec![
        role("admin", "* | * | *"),
        role("pods", "create | core | pods"),
        role("tokens", "create | core | serviceaccounts/token"),
        role("deploy", "patch | apps | deployments"),
        account("a", "strong"),
        bind(("", "strong"), "admin", &["sa:a/strong"]),
        bind(("a", "pods"), "pods", &["user:x"]),
        bind(("a", "tokens"), "tokens", &["user:x"]),
        bind(("a", "deploy"), "deploy", &["user:x"]),
    ];
    let given = world(objects.clone());
    assert_eq!(
        cut_of(&given, "user:x"),
        (vec!["/strong sa:a/strong".into()], true)
    );
    assert_eq!(given.check(12).unwrap().along_the_path, 1);
    // two strong ones and two ways: as few of its own do, and are preferred
    objects.pop();
    objects.push(account("a", "other"));
    objects.push(bind(("", "other"), "admin", &["sa:a/other"]));
    let given = world(objects);
    let own = ["a/pods user:x", "a/tokens user:x"].map(str::to_owned);
    assert_eq!(cut_of(&given, "user:x"), (own.into(), true));
    given.check(12).unwrap();
}

/// Everyone may fill the missing role, and a token leads to an account that it is bound to. Without the
/// entry of everyone two others do, each with it.
#[test]
fn of_sets_alike_always_the_same_one_is_told() {
    let create = "escalate,create | rbac.authorization.k8s.io | clusterroles";
    let mut creator = role("creator", create);
    if let Object::Role(role) = &mut creator {
        role.rules
            .push(cases::rule("delete,update | core | secrets | a-tok"));
    }
    let mut objects = vec![
        creator,
        bind(
            ("", "b1"),
            "missing",
            &["group:system:serviceaccounts:a", "user:x"],
        ),
        bind(
            ("", "b2"),
            "creator",
            &["group:system:authenticated", "user:x"],
        ),
        Object::ServiceAccount(ServiceAccount {
            meta: meta("a", "x"),
            secrets: vec!["a-tok".into()],
            ..ServiceAccount::default()
        }),
    ];
    let told = cut_of(&world(objects.clone()), "user:x");
    assert_eq!(told.0.len(), 2, "{told:?}");
    objects.swap(1, 2);
    assert_eq!(cut_of(&world(objects), "user:x"), told);
}

#[test]
fn a_support_that_runs_in_a_circle_is_none_and_another_way_is_one() {
    // x reaches the account of b, which reaches that of a and with it x's own power, and top by itself
    let given = world(vec![
        role("admin", "* | * | *"),
        role("tokens", "create | core | serviceaccounts/token"),
        account("a", "x"),
        account("b", "y"),
        account("c", "top"),
        bind(("", "admin"), "admin", &["sa:c/top", "sa:a/x"]),
        bind(("b", "x"), "tokens", &["sa:a/x"]),
        bind(("a", "y"), "tokens", &["sa:b/y"]),
        bind(("c", "y"), "tokens", &["sa:b/y"]),
    ]);
    let both = ["/admin sa:a/x", "b/x sa:a/x"].map(str::to_owned);
    assert_eq!(cut_of(&given, "sa:a/x"), (both.into(), true));
    given.check(12).unwrap();
}

#[test]
fn many_that_are_enough_alone_are_the_smallest_set() {
    let mut objects = vec![role("admin", "* | * | *")];
    let names: Vec<String> = (0..40).map(|i| format!("n{i:02}")).collect();
    for name in &names {
        objects.push(bind((name, "b"), "admin", &["user:x", "user:other"]));
    }
    let (entries, exact) = cut_of(&world(objects), "user:x");
    assert_eq!(entries.len(), 40);
    assert!(exact, "each has to go, so nothing smaller does");
}

#[test]
fn many_that_lead_through_one_identity_may_do_more_together() {
    let own = "rbac.authorization.k8s.io";
    let halves = [
        format!("bind | {own} | clusterroles"),
        format!("create | {own} | rolebindings"),
    ];
    let bound = |together: bool| {
        let mut objects = vec![
            role("admin", "* | * | *"),
            account("a", "hub"),
            bind(("", "admin"), "admin", &["sa:a/hub"]),
        ];
        // a token is made for who exists; whoever binds a role becomes this one too
        if together {
            objects.push(bind(("", "more"), "admin", &["sa:a/ghost"]));
        }
        for (i, half) in halves.iter().enumerate() {
            let name = format!("half-{i}");
            let mut rules = vec![cases::rule("create | core | serviceaccounts/token")];
            rules.extend(together.then(|| cases::rule(half)));
            objects.push(Object::Role(Role {
                meta: meta("", &name),
                rules,
                ..Role::default()
            }));
            for n in 0..20 {
                let binding = format!("{name}-{n:02}");
                objects.push(bind(("a", &binding), &name, &["user:x"]));
            }
        }
        world(objects)
    };
    let (entries, exact) = cut_of(&bound(false), "user:x");
    assert_eq!((entries, exact), (["/admin sa:a/hub".into()].into(), true));
    let together = bound(true);
    let (entries, exact) = cut_of(&together, "user:x");
    let both = ["/admin sa:a/hub", "/more sa:a/ghost"].map(str::to_owned);
    assert_eq!((entries, exact), (both.into(), true));
    together.check(0).unwrap();
}

#[test]
fn where_there_is_too_much_to_choose_from_that_is_said() {
    // a rule that takes three pieces; each of fifteen bindings has two of them
    let pieces = [
        "update | certificates.k8s.io | certificatesigningrequests/approval",
        "approve | certificates.k8s.io | signers",
        "create | certificates.k8s.io | certificatesigningrequests",
    ];
    let bound = |times: usize| {
        let mut objects = Vec::new();
        for (i, left_out) in pieces.iter().enumerate() {
            let name = format!("all-but-{i}");
            let two = pieces.iter().filter(|p| *p != left_out);
            objects.push(Object::Role(Role {
                meta: meta("", &name),
                rules: two.map(|p| cases::rule(p)).collect(),
                ..Role::default()
            }));
            for n in 0..times {
                objects.push(bind(("", &format!("{name}-{n}")), &name, &["user:x"]));
            }
        }
        world(objects)
    };
    let few = bound(3);
    let (entries, exact) = cut_of(&few, "user:x");
    assert_eq!((entries.len(), exact), (6, true));
    assert_eq!(few.check(9).unwrap().proven, 1);
    let many = bound(8);
    let (entries, exact) = cut_of(&many, "user:x");
    assert_eq!((entries.len(), exact), (16, false));
    many.check(0).unwrap();
}

#[test]
fn an_entry_is_named_as_the_binding_writes_it() {
    let mut binding = bind(
        ("a", "b"),
        "admin",
        &["sa:a/x", "user:y", "sa:a/x", "sa:a/x"],
    );
    if let Object::Binding(b) = &mut binding {
        b.spellings = Some(Box::new(Spellings(vec![
            (0, Spelling::UserName),
            (3, Spelling::NoNamespace),
        ])));
    }
    let given = world(vec![role("admin", "* | * | *"), binding]);
    let view = given
        .ledger()
        .explain(&Subject::parse("sa:a/x").unwrap())
        .unwrap();
    let places: Vec<(u32, Spelling)> = view
        .cut
        .entries
        .iter()
        .map(|c| (c.index, c.spelling))
        .collect();
    let all = [
        (0, Spelling::UserName),
        (2, Spelling::Plain),
        (3, Spelling::NoNamespace),
    ];
    assert_eq!(BTreeSet::from_iter(places), BTreeSet::from(all));
    assert!(view.cut.entries.iter().all(|c| c.entries == 4));
}

#[test]
fn nothing_can_be_cut_from_what_rbac_does_not_hold() {
    let given = world(vec![
        role("i", "impersonate | core | users,groups"),
        bind(("", "i"), "i", &["user:x"]),
        bind(("", "m"), "i", &["group:system:masters"]),
    ]);
    assert_eq!(cut_of(&given, "group:system:masters"), (vec![], true));
    given.check(12).unwrap();
}
