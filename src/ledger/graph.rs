//! Who can become whom in the end: the least fixpoint of catalogue C.3.
//!
//! `effective(S) = max(own(S), min(cap, effective(T)) for every edge S → T)`. Subjects are taken from
//! the highest priority down; whoever has an edge to a set that the subject belongs to rises, once a
//! set and level. "Every account of namespace N" is one set, so the work is linear in subjects and
//! edges. Values only rise within a run, so cycles end; every run starts from the own priorities, so a
//! cycle that has lost its support falls.

use super::Ledger;
use super::names::Sym;
use super::rows::{SubjectKey, SubjectRow, ToKey};
use super::table::{Map, RowId};
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
}

#[derive(Debug, Default)]
struct Set {
    waiting: Vec<Waiting>,
    level: Priority,
}

/// The fixpoint over the ledger as it stands. The second value counts steps, for tests of its growth.
pub(crate) fn fixpoint(ledger: &Ledger) -> (Vec<Effective>, u64) {
    let subjects = &ledger.subjects;
    let mut work = 0;
    let mut sets: Map<ToKey, Set> = Map::default();
    // sets that no key of a subject leads to: their members are listed
    let mut listed: Vec<Set> = Vec::new();
    let mut member_of: Map<RowId, Vec<usize>> = Map::default();
    let mut list_of: Map<ToKey, usize> = Map::default();
    let mut out = vec![Effective::default(); subjects.bound()];
    let mut queues: [Vec<RowId>; 5] = Default::default();
    // who has findings or edges, in an order that does not depend on when they were seen: paths are
    // the same after a restart and in every replica
    let mut risky: Vec<(&SubjectRow, RowId)> = Vec::new();
    for (id, row) in subjects.iter() {
        work += 1;
        if row.own > Priority::None || !row.edges.is_empty() {
            risky.push((row, id));
        }
    }
    risky.sort_by(|a, b| ledger.order(a.0.key, b.0.key));
    for (row, id) in risky {
        out[id as usize].priority = row.own;
        if row.own > Priority::None {
            queues[row.own as usize].push(id);
        }
        for (i, edge) in row.edges.iter().enumerate() {
            work += 1;
            let waiting = Waiting {
                subject: id,
                edge: i as u32,
                cap: edge.cap,
            };
            if !members_are_listed(edge.to) {
                sets.entry(edge.to).or_default().waiting.push(waiting);
                continue;
            }
            let own_nodes = matches!(edge.to, ToKey::OwnNodeTokens(_));
            let known = (!own_nodes)
                .then(|| list_of.get(&edge.to).copied())
                .flatten();
            let at = known.unwrap_or_else(|| {
                listed.push(Set::default());
                let at = listed.len() - 1;
                for member in ledger.members(edge.to, row.key) {
                    work += 1;
                    member_of.entry(member).or_default().push(at);
                }
                if !own_nodes {
                    list_of.insert(edge.to, at);
                }
                at
            });
            listed[at].waiting.push(waiting);
        }
    }
    let pod_sets = sets.keys().any(|k| matches!(k, ToKey::PodTokens(_)));
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
                for w in &set.waiting {
                    work += 1;
                    let to = priority.min(w.cap);
                    let target = &mut out[w.subject as usize];
                    if w.subject != id && to > target.priority {
                        *target = Effective {
                            priority: to,
                            support: Some((w.edge, id)),
                        };
                        queues[to as usize].push(w.subject);
                    }
                }
            };
            if !sets.is_empty() {
                keys_of(ledger, row.key, row.exists, pod_sets, |key| {
                    if let Some(set) = sets.get_mut(&key) {
                        rise(set);
                    }
                });
            }
            for at in member_of.get(&id).into_iter().flatten() {
                rise(&mut listed[*at]);
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

/// The sets that a subject belongs to by its key.
pub(crate) fn keys_of(
    ledger: &Ledger,
    key: SubjectKey,
    exists: bool,
    pod_sets: bool,
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
            if pod_sets && ledger.lends_token(namespace, name) {
                each(ToKey::PodTokens(namespace));
                each(ToKey::PodTokens(Sym::STAR));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{NOW, Stage};
    use super::fixpoint;
    use crate::object::Resource;
    use crate::risk::Priority;

    const EXEC: &[&str] = &["create | core | pods/exec"];
    const GRACE: i64 = 600;

    /// `user:x` may enter the pods of a namespace with a strong account.
    fn exec_world() -> Stage {
        let mut s = Stage::with(|settings| settings.pod_grace = GRACE);
        s.role("admin", &["* | * | *"], &[NOW]);
        s.role("exec", EXEC, &[NOW]);
        s.account("a/strong", NOW);
        s.bind("strong", "admin", &["sa:a/strong"], &[NOW]);
        s.bind("a/exec", "exec", &["user:x"], &[NOW]);
        s.settle();
        s
    }

    #[test]
    fn an_edge_outlives_its_last_pod_by_the_grace_period() {
        let mut s = exec_world();
        let below = s.priority("user:x");
        assert!(below < Priority::Critical);
        s.pod("a/one", "strong");
        s.pod("a/two", "strong");
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical);
        // not the last: nothing starts to run out
        s.delete(Resource::Pods, "a/one");
        s.ledger.advance(NOW + 10 * GRACE);
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical);
        s.delete(Resource::Pods, "a/two");
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical);
        s.ledger.advance(NOW + 11 * GRACE - 1);
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical);
        // nothing but time passes
        s.ledger.advance(NOW + 11 * GRACE);
        assert!(s.ledger.settle());
        assert_eq!(s.priority("user:x"), below);
        assert_eq!(s.ledger.selfcheck(), 0);
    }

    #[test]
    fn a_rollout_does_not_flap() {
        let mut s = exec_world();
        s.pod("a/web-0", "strong");
        s.settle();
        for round in 1..=20 {
            // a rollout with Recreate: no pod for most of the period, again and again
            s.delete(Resource::Pods, &format!("a/web-{}", round - 1));
            s.settle();
            assert_eq!(s.priority("user:x"), Priority::Critical, "{round}");
            s.ledger.advance(NOW + round * (GRACE - 1));
            s.settle();
            assert_eq!(s.priority("user:x"), Priority::Critical, "{round}");
            s.pod(&format!("a/web-{round}"), "strong");
            s.settle();
        }
        assert_eq!(s.since("user:x", Priority::Critical), NOW);
        assert_eq!(s.escalations(), 0);
        // the new pod stands: no period of an old one ends its edge
        s.ledger.advance(NOW + 100 * GRACE);
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical);
    }

    #[test]
    fn a_finished_pod_is_as_good_as_none() {
        let mut s = exec_world();
        s.pod("a/job", "strong");
        s.settle();
        s.finished_pod("a/job", "strong");
        s.settle();
        assert_eq!(s.priority("user:x"), Priority::Critical, "grace");
        s.ledger.advance(NOW + GRACE);
        s.settle();
        assert!(s.priority("user:x") < Priority::Critical);
    }

    /// Steps of the fixpoint over a world of a size.
    fn steps(size: usize, fill: impl Fn(&mut Stage, usize)) -> u64 {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW]);
        s.role("deploy", &["create | core | pods"], &[NOW]);
        s.account("end/strong", NOW);
        s.bind("strong", "admin", &["sa:end/strong"], &[NOW]);
        fill(&mut s, size);
        s.settle();
        fixpoint(&s.ledger).1
    }

    /// Twice the world takes at most about twice the steps.
    fn linear(what: &str, size: usize, fill: impl Fn(&mut Stage, usize)) {
        let (half, whole) = (steps(size / 2, &fill), steps(size, &fill));
        assert!(
            whole * 10 <= half * 21 + 1000,
            "{what}: {half} steps for {}, {whole} for {size}",
            size / 2
        );
    }

    #[test]
    fn steps_grow_with_the_world_and_not_with_its_square() {
        linear("one deployer beside many accounts", 2000, |s, n| {
            for i in 0..n {
                s.account(&format!("end/a{i}"), NOW);
            }
            s.bind("end/d", "deploy", &["user:d"], &[NOW]);
        });
        linear("many deployers beside many accounts", 1000, |s, n| {
            for i in 0..n {
                s.account(&format!("end/a{i}"), NOW);
                let to = format!("sa:end/a{i}");
                s.bind(&format!("end/d{i}"), "deploy", &[&to], &[NOW]);
            }
        });
        linear("a chain", 1000, |s, n| {
            for i in 0..n {
                s.account(&format!("n{i}/a"), NOW);
                let next = if i + 1 == n {
                    "end".to_owned()
                } else {
                    format!("n{}", i + 1)
                };
                let to = format!("sa:n{i}/a");
                s.bind(&format!("{next}/from{i}"), "deploy", &[&to], &[NOW]);
            }
        });
        linear("a cycle", 1000, |s, n| {
            for i in 0..n {
                s.account(&format!("n{i}/a"), NOW);
                let (to, next) = (format!("sa:n{i}/a"), (i + 1) % n);
                s.bind(&format!("n{next}/from{i}"), "deploy", &[&to], &[NOW]);
            }
            s.bind("end/from", "deploy", &["sa:n0/a"], &[NOW]);
        });
    }

    /// Deployers of every namespace, one cluster-wide edge each: edges times namespaces would be a million.
    #[test]
    fn cluster_wide_deployers_cost_one_edge_each() {
        linear("deployers of everything", 1000, |s, n| {
            for i in 0..n {
                s.account(&format!("n{i}/a"), NOW);
                let to = format!("user:d{i}");
                s.bind(&format!("d{i}"), "deploy", &[&to], &[NOW]);
            }
        });
    }
}
