//! Who can become whom in the end: the least fixpoint of catalogue C.3, from scratch.
//!
//! `effective(S) = max(own(S), min(cap, effective(T)) for every edge S → T)`. Subjects are taken from
//! the highest priority down; whoever has an edge to a set that the subject belongs to rises, once a
//! set and level. "Every account of namespace N" is one set, so the work is linear in subjects and
//! edges. Values only rise within a run, so cycles end.
//!
//! [`super::live`] keeps the same values up to date change by change, and the ways to them. This is what it
//! is held against (tests, self-check). Among equal ways the order of names decides, not that of events.

use super::Ledger;
use super::names::Sym;
use super::rows::{SubjectKey, SubjectRow, ToKey};
use super::subjects::place_of;
use super::table::{Map, RowId, make_room};
use crate::risk::Priority;

/// The outcome for one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) priority: Priority,
    /// The edge that raised it and the subject that edge led to; `None` when its own priority decides.
    pub(crate) support: Option<(u32, RowId)>,
}

/// A subject that waits for a set to rise.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    subject: RowId,
    edge: u32,
    cap: Priority,
    /// Half of an edge that takes two: 0 for where it leads, 1 for the identity it needs beside.
    half: Option<u8>,
}

/// A set of subjects, and who waits for it to rise.
#[derive(Debug)]
struct Set {
    waiting: Queue,
    level: Priority,
}

/// Lists in one, each in the order in which it was pushed to: most sets have one subject waiting, and a list of its
/// own for each takes three times the room.
#[derive(Debug)]
struct Chained<T>(Vec<(T, u32)>);

/// One of the lists of a [`Chained`]: its first and its last.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
}

/// Behind the last one.
const END: u32 = u32::MAX;

impl Queue {
    const EMPTY: Queue = Queue {
        first: END,
        last: END,
    };
}

impl<T: Copy> Chained<T> {
    fn push(&mut self, list: &mut Queue, item: T) {
        let at = self.0.len() as u32;
        make_room(&mut self.0);
        self.0.push((item, END));
        match self.0.get_mut(list.last as usize) {
            Some((_, next)) => *next = at,
            None => list.first = at,
        }
        list.last = at;
    }

    fn iter(&self, list: Queue) -> impl Iterator<Item = T> {
        let first = self.0.get(list.first as usize);
        let all = std::iter::successors(first, |(_, next)| self.0.get(*next as usize));
        all.map(|(item, _)| *item)
    }
}

/// The fixpoint over the ledger as it stands. The second value counts steps, for tests of its growth.
pub(crate) fn fixpoint(ledger: &Ledger) -> (Vec<Effective>, u64) {
    let subjects = &ledger.subjects;
    let mut work = 0;
    let mut sets: Vec<Set> = Vec::new();
    let mut waiting: Chained<Waiting> = Chained(Vec::new());
    // own nodes are a set for each subject
    let mut set_of: Map<(ToKey, Option<RowId>), u32> = Map::default();
    // sets that no key of a subject leads to: their members are listed
    let mut memberships: Chained<u32> = Chained(Vec::new());
    let mut member_of = vec![Queue::EMPTY; subjects.bound()];
    let mut out = vec![Effective::default(); subjects.bound()];
    let mut queues: [Vec<RowId>; 5] = Default::default();
    // who has findings or edges, in an order that does not depend on when they were seen: paths are
    // the same after a restart and in every replica
    let places = ledger.places(subjects.namespaces());
    let mut risky: Vec<(u32, &SubjectRow, RowId)> = Vec::new();
    for (id, row) in subjects.iter() {
        work += 1;
        if row.own > Priority::None || !row.edges.is_empty() {
            risky.push((place_of(row.key, &places), row, id));
        }
    }
    risky.sort_unstable_by(|a, b| {
        let places = a.0.cmp(&b.0);
        places.then_with(|| ledger.order(a.1.key, b.1.key))
    });
    for (_, row, id) in risky {
        out[id as usize].priority = row.own;
        if row.own > Priority::None {
            queues[row.own as usize].push(id);
        }
        for (i, edge) in row.edges.iter().enumerate() {
            for (half, to) in (0..).zip([Some(edge.to), edge.gate].into_iter().flatten()) {
                work += 1;
                let one = Waiting {
                    subject: id,
                    edge: i as u32,
                    cap: edge.cap,
                    half: edge.gate.map(|_| half),
                };
                let own_nodes = matches!(to, ToKey::OwnNodeTokens(_));
                let at = *set_of
                    .entry((to, own_nodes.then_some(id)))
                    .or_insert_with(|| {
                        let at = sets.len() as u32;
                        make_room(&mut sets);
                        sets.push(Set {
                            waiting: Queue::EMPTY,
                            level: Priority::None,
                        });
                        let listed = members_are_listed(to).then(|| ledger.members(to, row.key));
                        for member in listed.into_iter().flatten() {
                            work += 1;
                            memberships.push(&mut member_of[member as usize], at);
                        }
                        at
                    });
                waiting.push(&mut sets[at as usize].waiting, one);
            }
        }
    }
    // the half of a two-part edge that is there already, and who is reached
    let mut halves: Map<(RowId, u32), (u8, RowId)> = Map::default();
    let pod_sets = set_of
        .keys()
        .any(|(to, _)| matches!(to, ToKey::PodTokens(_)));
    let lends = |(namespace, account)| pod_sets && ledger.lends_token(namespace, account);
    for level in (Priority::Low as usize..=Priority::Critical as usize).rev() {
        let priority = Priority::ALL[level];
        let mut next = 0;
        while next < queues[level].len() {
            let id = queues[level][next];
            next += 1;
            work += 1;
            if out[id as usize].priority != priority {
                continue; // it rose past this level since
            }
            let Some(row) = subjects.get(id) else {
                continue;
            };
            let mut rise = |set: &mut Set| {
                if set.level >= priority {
                    return;
                }
                set.level = priority;
                for w in waiting.iter(set.waiting) {
                    work += 1;
                    if w.subject == id {
                        continue;
                    }
                    let reached = match w.half {
                        None => id,
                        Some(half) => {
                            let first = *halves.entry((w.subject, w.edge)).or_insert((half, id));
                            match (first, half) {
                                ((0, reached), 1) => reached,
                                ((1, _), 0) => id,
                                _ => continue,
                            }
                        }
                    };
                    let to = priority.min(w.cap);
                    let target = &mut out[w.subject as usize];
                    if to > target.priority {
                        *target = Effective {
                            priority: to,
                            support: Some((w.edge, reached)),
                        };
                        queues[to as usize].push(w.subject);
                    }
                }
            };
            if !sets.is_empty() {
                keys_of(row.key, row.exists, lends, |key| {
                    if let Some(at) = set_of.get(&(key, None)) {
                        rise(&mut sets[*at as usize]);
                    }
                });
            }
            for at in memberships.iter(member_of[id as usize]) {
                rise(&mut sets[at as usize]);
            }
        }
    }
    (out, work)
}

/// Sets whose members do not follow from a subject's own key.
pub(crate) fn members_are_listed(to: ToKey) -> bool {
    matches!(
        to,
        ToKey::PodTokensOf(..)
            | ToKey::NodeTokens(..)
            | ToKey::OwnNodeTokens(_)
            | ToKey::SecretOwners(_)
            | ToKey::SecretOwnersOf(..)
            | ToKey::Reaim(_)
            | ToKey::ReaimOf(..)
    )
}

/// The sets that a subject belongs to by its key. `lends` tells whether edges through pods lead to an
/// account.
pub(crate) fn keys_of(
    key: SubjectKey,
    exists: bool,
    lends: impl Fn((Sym, Sym)) -> bool,
    mut each: impl FnMut(ToKey),
) {
    match key {
        SubjectKey::User(name) => each(ToKey::User(name)),
        SubjectKey::Group(name) => each(ToKey::Group(name)),
        SubjectKey::Account(namespace, name) => {
            for scope in [namespace, Sym::STAR] {
                each(ToKey::Identities(scope));
                each(ToKey::Identity(scope, name));
                if exists {
                    each(ToKey::Accounts(scope));
                    each(ToKey::Account(scope, name));
                }
            }
            if lends((namespace, name)) {
                each(ToKey::PodTokens(namespace));
                each(ToKey::PodTokens(Sym::STAR));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::EdgeRow;
    use super::super::{Change, Settings, World};
    use super::*;
    use crate::object::{
        Binding, Meta, Object, PolicyRule, Resource, Role, RoleRef, ServiceAccount, Subject,
    };
    use crate::rbac::NEWEST;
    use crate::risk::Catalogue;
    use std::sync::Arc;

    struct Graph {
        ledger: Ledger,
        bindings: usize,
        /// The binding that was made last.
        last: Option<Object>,
    }

    impl Graph {
        fn new() -> Graph {
            let settings = Settings::new(World::Cluster, NEWEST);
            let mut graph = Graph {
                ledger: Ledger::new(Arc::new(Catalogue::shipped()), settings),
                bindings: 0,
                last: None,
            };
            graph.role("pods", "create", "", "pods");
            graph.role("tokens", "create", "", "serviceaccounts/token");
            graph.role("admin", "*", "*", "*");
            graph
        }

        fn role(&mut self, name: &str, verb: &str, group: &str, resource: &str) {
            let one = |text: &str| vec![text.to_owned()];
            self.ledger.apply(Change::Upsert(Object::Role(Role {
                meta: meta("", name),
                rules: vec![PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Default::default()
                }],
                ..Default::default()
            })));
        }

        fn account(&mut self, namespace: &str, name: &str) {
            let account = ServiceAccount {
                meta: meta(namespace, name),
                ..Default::default()
            };
            self.ledger
                .apply(Change::Upsert(Object::ServiceAccount(account)));
        }

        fn bind(&mut self, namespace: &str, role: &str, to: &str) {
            self.bindings += 1;
            let subject = Subject::parse(to).expect("a subject as it is written");
            let binding = Object::Binding(Binding {
                meta: meta(namespace, &format!("b{}", self.bindings)),
                role: RoleRef {
                    cluster: true,
                    name: role.into(),
                },
                subjects: vec![subject],
                ..Default::default()
            });
            self.last = Some(binding.clone());
            self.ledger.apply(Change::Upsert(binding));
        }

        /// Settles; the number of steps the fixpoint takes, and of subjects at `critical`.
        fn work(&mut self) -> (u64, usize) {
            self.ledger.settle();
            let (effective, work) = fixpoint(&self.ledger);
            let critical = |e: &&Effective| e.priority == Priority::Critical;
            (work, effective.iter().filter(critical).count())
        }
    }

    fn meta(namespace: &str, name: &str) -> Meta {
        Meta {
            namespace: namespace.into(),
            name: name.into(),
            ..Default::default()
        }
    }

    /// Builds four sizes, each twice the one before, and holds the steps to `most` for each unit of
    /// size, and to no more for a unit at the last size than at the first: from scratch; and six times as
    /// many change by change, when everything is new, and when what all of it rests on goes and comes back.
    fn grows_linearly(
        sizes: [usize; 4],
        unit: fn(usize) -> usize,
        most: f64,
        build: fn(usize) -> Graph,
    ) {
        let mut first: Option<[f64; 3]> = None;
        for n in sizes {
            let mut graph = build(n);
            let (scratch, critical) = graph.work();
            assert!(
                critical > 0,
                "{n}: the world is not what it was meant to be"
            );
            let new = graph.ledger.live.steps;
            let top = graph.bindings;
            let binding = graph.last.clone().expect("every world has a binding");
            graph.ledger.apply(Change::Delete(super::super::ObjectRef {
                resource: Resource::ClusterRoleBindings,
                namespace: String::new(),
                name: format!("b{top}"),
            }));
            assert_eq!(graph.work().1, 0, "{n}: all of it rested on that");
            graph.ledger.apply(Change::Upsert(binding));
            assert_eq!(graph.work().1, critical, "{n}: as before");
            let again = graph.ledger.live.steps - new;
            let each = [scratch, new, again].map(|work| work as f64 / unit(n) as f64);
            let first = *first.get_or_insert(each);
            let most = [most, 6.0 * most, 6.0 * most];
            for ((each, first), most) in each.into_iter().zip(first).zip(most) {
                assert!(each <= most, "{n}: {each} steps a unit");
                assert!(
                    each <= first * 1.05,
                    "{n}: {each} steps a unit, {first} at first"
                );
            }
        }
    }

    #[test]
    fn x4_accounts_of_a_namespace_and_one_deployer() {
        grows_linearly(
            [250, 500, 1_000, 2_000],
            |n| n,
            3.0,
            |n| {
                let mut g = Graph::new();
                for i in 0..n {
                    g.account("app", &format!("a{i}"));
                }
                g.bind("app", "pods", "user:deployer");
                g.bind("", "admin", "sa:app/a0");
                g
            },
        );
    }

    #[test]
    fn a_chain_of_namespaces() {
        grows_linearly(
            [100, 200, 400, 800],
            |n| n,
            8.0,
            |n| {
                let mut g = Graph::new();
                for i in 0..n {
                    g.account(&format!("n{i}"), "a");
                    g.bind(&format!("n{}", i + 1), "tokens", &format!("sa:n{i}/a"));
                }
                g.account(&format!("n{n}"), "a");
                g.bind("", "admin", &format!("sa:n{n}/a"));
                g
            },
        );
    }

    #[test]
    fn a_cycle_of_namespaces() {
        grows_linearly(
            [100, 200, 400, 800],
            |n| n,
            8.0,
            |n| {
                let mut g = Graph::new();
                for i in 0..n {
                    g.account(&format!("n{i}"), "a");
                    g.bind(
                        &format!("n{}", (i + 1) % n),
                        "tokens",
                        &format!("sa:n{i}/a"),
                    );
                }
                g.account("n0", "top");
                g.bind("", "admin", "sa:n0/top");
                g
            },
        );
    }

    #[test]
    fn as_many_deployers_as_namespaces() {
        // every deployer in every namespace: as many edges as bindings
        grows_linearly(
            [8, 16, 32, 64],
            |n| n * n,
            4.0,
            |n| {
                let mut g = Graph::new();
                for ns in 0..n {
                    g.account(&format!("n{ns}"), "a");
                    for deployer in 0..n {
                        g.bind(&format!("n{ns}"), "pods", &format!("user:d{deployer}"));
                    }
                }
                g.bind("", "admin", "sa:n0/a");
                g
            },
        );
    }

    #[test]
    fn a_thousand_deployers_in_a_thousand_namespaces() {
        // a million edges: written into the rows, as judging a million bindings is not what is counted
        let work = |n: usize| {
            let mut g = Graph::new();
            for i in 0..n {
                g.account(&format!("n{i}"), "a");
            }
            g.bind("", "admin", "sa:n0/a");
            g.ledger.settle();
            let rule = crate::risk::RuleId(0);
            let spaces: Vec<Sym> = (0..n)
                .map(|i| g.ledger.names.intern(&format!("n{i}")))
                .collect();
            let edge = |ns: &Sym| EdgeRow {
                rule,
                cap: Priority::Critical,
                scope: *ns,
                to: ToKey::Accounts(*ns),
                gate: None,
            };
            for i in 0..n {
                let name = g.ledger.names.intern(&format!("deployer-{i}"));
                let (id, _) = g.ledger.subjects.ensure(SubjectKey::User(name));
                let edges: Box<[EdgeRow]> = spaces.iter().map(edge).collect();
                g.ledger.live.edges_changed(id, &[], &edges);
                let row = g.ledger.subjects.get_mut(id).expect("it was just made");
                row.edges = edges;
            }
            let before = g.ledger.live.steps;
            super::super::live::settle(&mut g.ledger);
            let live = g.ledger.live.steps - before;
            let critical = |(_, row): &(RowId, &SubjectRow)| row.effective == Priority::Critical;
            let risen = g.ledger.subjects.iter().filter(critical).count();
            let (effective, work) = fixpoint(&g.ledger);
            let critical = effective
                .iter()
                .filter(|e| e.priority == Priority::Critical)
                .count();
            assert_eq!(critical, n + 1, "every deployer, and the one account");
            assert_eq!(risen, n + 1, "change by change too");
            [work, live].map(|work| work as f64 / (n * n) as f64)
        };
        let each: Vec<[f64; 2]> = [125, 250, 500, 1_000].into_iter().map(work).collect();
        let flat = |w: &[[f64; 2]]| w[1][0] <= w[0][0] && w[1][1] <= w[0][1];
        assert!(
            each.windows(2).all(flat) && each[0].iter().all(|e| *e < 1.5),
            "{each:?}"
        );
    }

    #[test]
    fn one_change_is_looked_at_no_further_than_it_leads() {
        let looked_at = |n: usize| {
            let mut g = Graph::new();
            for i in 0..n {
                g.account(&format!("n{i}"), "a");
                g.account(&format!("n{i}"), "deployer");
                g.bind(&format!("n{i}"), "pods", &format!("sa:n{i}/deployer"));
            }
            g.bind("", "admin", "sa:n0/a");
            g.ledger.settle();
            let names = &g.ledger.names;
            let key = (names.get("n0"), names.get("a"));
            let (Some(ns), Some(name)) = key else {
                panic!("n0/a is there")
            };
            let id = g.ledger.subjects.find(SubjectKey::Account(ns, name));
            g.ledger.live.touch(id.expect("it is a subject"));
            super::super::live::settle(&mut g.ledger).len()
        };
        // the account and the deployer beside it, however many others there are
        assert_eq!((looked_at(10), looked_at(1_000)), (2, 2));
    }

    #[test]
    fn a_cycle_that_loses_its_support_falls() {
        let mut g = Graph::new();
        for (ns, next) in [("x", "y"), ("y", "x")] {
            g.account(ns, "a");
            g.bind(next, "tokens", &format!("sa:{ns}/a"));
        }
        g.account("x", "top");
        g.bind("", "admin", "sa:x/top");
        assert_eq!(g.work().1, 3);
        g.ledger.apply(Change::Delete(super::super::ObjectRef {
            resource: Resource::ClusterRoleBindings,
            namespace: String::new(),
            name: format!("b{}", g.bindings),
        }));
        assert_eq!(g.work().1, 0);
    }
}
