//! The evaluation from scratch over the rows, against what is kept up to date change by change.
//!
//! Roles are compiled again, subjects judged again, the fixpoint run again, namespaces counted again.
//! Whatever differs is a defect of the incremental path; a metric shows how many, and must stay 0.
//!
//! Each row is held against an evaluation of the same moment, so the check can be made piece by piece
//! and lets the writer in between: a change that comes meanwhile is judged on both sides or on none.
//! The fixpoint alone is one piece, as no part of it means anything without the rest.

use super::accepted::Answered;
use super::graph;
use super::rows::{BindingRow, PodShape, RoleRow, SubjectRow};
use super::table::{Map, RowId};
use super::tally::ByLevel;
use super::{Ledger, Sym};
use crate::object::Resource;
use crate::risk::{Assessment, Reaches};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A self-check on its way. Give it the ledger between settled batches, again and again.
#[derive(Debug, Default)]
pub struct SelfCheck {
    next: Stretch,
    differences: u64,
}

/// What is looked at next.
#[derive(Debug, Default)]
enum Stretch {
    /// The fixpoint, over all subjects.
    #[default]
    Fixpoint,
    /// Roles from this one on.
    Roles(RowId),
    /// Subjects from this one on.
    Subjects(RowId),
    /// These namespaces, the last first.
    Namespaces(Vec<Arc<str>>),
}

impl SelfCheck {
    /// Looks at so many rows more, or at the fixpoint. How many roles, subjects and namespaces differ,
    /// when everything has been looked at.
    pub fn step(&mut self, ledger: &Ledger, rows: usize) -> Option<u64> {
        let (next, found) = match std::mem::take(&mut self.next) {
            Stretch::Fixpoint => (Stretch::Roles(0), ledger.unlike_whole()),
            Stretch::Roles(first) => {
                let some = ledger.roles.iter_from(first).take(rows);
                let mut last = None;
                let found = some.filter(|(id, namespace, name, row)| {
                    last = Some(*id);
                    let reaches =
                        Reaches::of(&ledger.policy.catalogue.vocabulary, &row.rules.unpack());
                    let same = *row.reaches == reaches
                        && (row.depends
                            || ledger.gives(*namespace, *name, &reaches).levels == row.gives);
                    !same
                });
                let found = found.count();
                let next = last.map_or(Stretch::Subjects(0), |last| Stretch::Roles(last + 1));
                (next, found)
            }
            Stretch::Subjects(first) => {
                let some = ledger.subjects.iter_from(first).take(rows);
                let mut last = None;
                let found = some.filter(|(id, row)| {
                    last = Some(*id);
                    let (judged, _) = ledger.judgement(row.key, false);
                    let same = judged.own() == row.own
                        && judged.edges.len() == row.edges.len()
                        && ledger.answered(row, &judged) == row.answered
                        && ledger.status_of(*id) == row.status;
                    !same
                });
                let found = found.count();
                let next = match last {
                    Some(last) => Stretch::Subjects(last + 1),
                    None => Stretch::Namespaces(
                        ledger.blocks.iter().map(|(name, _)| name.clone()).collect(),
                    ),
                };
                (next, found)
            }
            Stretch::Namespaces(mut names) => {
                let some = names.split_off(names.len().saturating_sub(rows));
                let found = some
                    .iter()
                    .filter(|name| ledger.is_miscounted(name))
                    .count();
                if names.is_empty() {
                    let counted = ledger.blocks.get(ledger.names.text(Sym::EMPTY)).is_some();
                    return Some(self.differences + found as u64 + u64::from(!counted));
                }
                (Stretch::Namespaces(names), found)
            }
        };
        self.next = next;
        self.differences += found as u64;
        None
    }
}

/// Live pods of a namespace, by what they are counted by.
#[derive(Default, PartialEq)]
struct LivePods<'a> {
    replicas: Map<&'a Arc<PodShape>, u32>,
    unplaced: Map<&'a Arc<PodShape>, u32>,
    running_bare: Map<Sym, u32>,
    escapes: ByLevel,
}

fn copied<'a>((shape, pods): (&'a Arc<PodShape>, &u32)) -> (&'a Arc<PodShape>, u32) {
    (shape, *pods)
}

impl Ledger {
    /// How many roles, subjects and namespaces differ, all at once. Call it between settled batches.
    pub fn selfcheck(&self) -> u64 {
        let mut check = SelfCheck::default();
        loop {
            if let Some(differences) = check.step(self, usize::MAX) {
                return differences;
            }
        }
    }

    /// What cannot be looked at in parts: the fixpoint, and numbers of all rows.
    fn unlike_whole(&self) -> usize {
        let (effective, _) = graph::fixpoint(self);
        let subjects = self.subjects.iter();
        let ways = self.live.ways(self);
        let unlike = subjects.filter(|(id, row)| {
            // whoever came since the ways were worked out has none
            let way = ways.get(*id as usize).copied().unwrap_or_default();
            let effective = effective[*id as usize];
            effective.priority != row.effective || effective != way
        });
        let miscounted = Resource::ALL
            .into_iter()
            .filter(|r| self.without_history[*r as usize] != self.lacking_history(*r));
        let mut known = Default::default();
        let nodes = self.nodes.iter();
        let misjudged = nodes.filter(|(node, on)| {
            let worst = self.worst_on(**node, &mut known);
            worst.is_some_and(|worst| worst != on.worst)
        });
        unlike.count() + miscounted.count() + misjudged.count() + self.miscounted_pods()
    }

    /// Namespaces in which live pods are others than were counted up and down.
    fn miscounted_pods(&self) -> usize {
        let mut held: BTreeMap<Sym, LivePods<'_>> = BTreeMap::new();
        for (_, ns, _, pod) in self.pods.iter().filter(|(.., p)| p.live()) {
            let here = held.entry(ns).or_default();
            *here.replicas.entry(&pod.shape).or_default() += 1;
            if pod.node == Sym::EMPTY && pod.shape.escape != 0 {
                *here.unplaced.entry(&pod.shape).or_default() += 1;
            }
            if pod.shape.runs_bare() {
                *here.running_bare.entry(pod.shape.account).or_default() += 1;
            }
            if let Some(on) = self.nodes.get(&pod.node).filter(|_| pod.takes_node()) {
                let (priority, status) = on.worst;
                here.escapes[priority as usize][status as usize] += 1;
            }
        }
        let mut counted: BTreeMap<Sym, LivePods<'_>> = BTreeMap::new();
        for (ns, replicas) in self.replicas.iter() {
            counted.entry(*ns).or_default().replicas = replicas.iter().map(copied).collect();
        }
        for (ns, unplaced) in self.unplaced.iter() {
            counted.entry(*ns).or_default().unplaced = unplaced.iter().map(copied).collect();
        }
        for ((ns, account), pods) in self.running_bare.iter() {
            let here = counted.entry(*ns).or_default();
            here.running_bare.insert(*account, *pods);
        }
        for (ns, escapes) in self.escapes.iter() {
            counted.entry(*ns).or_default().escapes = *escapes;
        }
        let spaces: BTreeSet<&Sym> = held.keys().chain(counted.keys()).collect();
        let none = LivePods::default();
        let wrong = spaces.into_iter().filter(|ns| {
            let [held, counted] = [&held, &counted].map(|all| all.get(ns).unwrap_or(&none));
            held != counted
        });
        wrong.count()
    }

    /// Is what is counted of a namespace not what it holds? One that is gone by now is not.
    fn is_miscounted(&self, name: &Arc<str>) -> bool {
        let Some(block) = self.blocks.get(name) else {
            return false;
        };
        let held = self.names.get(name);
        held.is_none_or(|namespace| self.count(namespace) != **block)
    }

    /// Roles or bindings whose managedFields do not tell when they changed (contract §5).
    fn lacking_history(&self, resource: Resource) -> u64 {
        use Resource::{ClusterRoleBindings, ClusterRoles, RoleBindings, Roles};
        let cluster = matches!(resource, ClusterRoles | ClusterRoleBindings);
        let here = |ns: Sym| (ns == Sym::EMPTY) == cluster;
        let n = match resource {
            ClusterRoles | Roles => {
                let lacking =
                    |(_, ns, _, r): &(_, Sym, _, &RoleRow)| here(*ns) && r.lacks_history();
                self.roles.iter().filter(lacking).count()
            }
            ClusterRoleBindings | RoleBindings => {
                let lacking =
                    |(_, ns, _, r): &(_, Sym, _, &BindingRow)| here(*ns) && r.times.without_history;
                self.bindings.iter().filter(lacking).count()
            }
            _ => 0,
        };
        n as u64
    }

    /// What somebody answers for of a subject, but for the times.
    fn answered(&self, row: &SubjectRow, judged: &Assessment) -> Option<Box<Answered>> {
        let subject = self.subject(row.key);
        let bindings = self.bindings_of(&subject, row.key);
        let since = row.answered.as_ref().map(|a| a.own).unwrap_or_default();
        let answers = self.answers(&subject, &bindings, judged);
        answers.kept(&self.policy.catalogue, judged, since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::SubjectKey;
    use super::super::stage::{NOW, Stage};
    use super::{Ledger, SelfCheck};
    use crate::object::{Meta, Object, Phase, Pod, Resource, SecretSource, SecretUse};
    use crate::risk::Priority;
    use std::sync::Arc;

    fn stage() -> Stage {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW]);
        s.role("deploy", &["create | core | pods"], &[NOW]);
        s.account("a/strong", NOW);
        s.bind("strong", "admin", &["sa:a/strong"], &[NOW]);
        s.bind("a/d", "deploy", &["user:d"], &[NOW]);
        s.pod("a/p", "strong");
        s.settle();
        s
    }

    /// Every kind of state that is kept, falsified in turn, is found.
    #[test]
    fn what_was_tampered_with_is_found() {
        assert_eq!(stage().ledger.selfcheck(), 0);
        let subject = |ledger: &Ledger| {
            let user = SubjectKey::User(ledger.names.get("d").expect("a name"));
            ledger.subjects.find(user).expect("a subject")
        };
        let role = |ledger: &Ledger| {
            let name = ledger.names.get("deploy").expect("a name");
            ledger.roles.find(super::Sym::EMPTY, name).expect("a role")
        };
        type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Ledger));
        let tampers: [Tamper<'_>; 11] = [
            ("a role's power", &|l| {
                let id = role(l);
                l.roles.get_mut(id).expect("a role").reaches = Arc::default();
            }),
            ("what a role gives", &|l| {
                let id = role(l);
                l.roles.get_mut(id).expect("a role").gives = [Priority::Low; 3];
            }),
            ("own priority", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").own = Priority::None;
            }),
            ("effective priority", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").effective = Priority::Medium;
            }),
            ("edges", &|l| {
                let id = subject(l);
                l.subjects.get_mut(id).expect("a subject").edges = Box::default();
            }),
            ("a namespace's counts", &|l| {
                let (_, block) = l.blocks.find_mut("a").expect("a block");
                Arc::make_mut(block).pods += 1;
            }),
            ("pods of a shape", &|l| {
                let here = l.replicas.values_mut().flat_map(|here| here.values_mut());
                here.for_each(|pods| *pods += 1);
            }),
            ("pods that can take their node", &|l| {
                let namespace = l.names.get("a").expect("a name");
                l.escapes.entry(namespace).or_default()[0][0] += 1;
            }),
            ("a namespace that is gone", &|l| {
                l.blocks.put((Arc::from("gone"), Arc::default()));
            }),
            ("objects without history", &|l| l.without_history[1] += 1),
            ("the cluster's own counts", &|l| {
                l.blocks.remove("");
            }),
        ];
        for (what, tamper) in tampers {
            let mut s = stage();
            tamper(&mut s.ledger);
            let found = s.ledger.selfcheck();
            assert!(found > 0, "{what}");
            let mut check = SelfCheck::default();
            let pieces = std::iter::repeat_with(|| check.step(&s.ledger, 1));
            assert_eq!(pieces.flatten().next(), Some(found), "{what}");
        }
    }

    /// Rows that come, change and go between the pieces are no differences.
    #[test]
    fn what_changes_meanwhile_is_no_difference() {
        let mut s = stage();
        let mut check = SelfCheck::default();
        for round in 0.. {
            if let Some(differences) = check.step(&s.ledger, 1) {
                assert_eq!(differences, 0);
                assert!(round > 10, "{round} pieces");
                break;
            }
            // not quicker for ever than the check
            let name = format!("r{}", round % 20);
            s.role(&name, &["create | core | pods"], &[NOW]);
            s.bind(&format!("n{}/d", round % 20), &name, &["user:d"], &[NOW]);
            s.bind("a/d", ["deploy", "admin"][round % 2], &["user:d"], &[NOW]);
            s.pod(&format!("n{}/p", round % 20), "strong");
            s.settle();
            assert!(round < 1_000, "an end");
        }
    }

    /// Whether a subject owes what it is to groups alone may change when nothing of it does, with whom its edges
    /// lead to: then it has a series of its own, or has none any more.
    #[test]
    fn what_is_owed_to_groups_follows_whom_it_leads_to() {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW]);
        let token = "create | core | serviceaccounts/token";
        s.role("token", &[token], &[NOW]);
        s.account("one/t", NOW);
        s.account("two/t", NOW);
        s.bind("one", "admin", &["sa:one/t"], &[NOW]);
        s.bind(
            "one/all",
            "token",
            &["group:system:serviceaccounts:a"],
            &[NOW],
        );
        s.account("a/d", NOW);
        s.bind("two/d", "token", &["sa:a/d"], &[NOW]);
        // an account that no object makes comes and goes with its binding
        let become_it = "impersonate | core | serviceaccounts";
        s.role("become", &[become_it], &[NOW]);
        s.bind("three/d", "become", &["sa:a/d"], &[NOW]);
        let has_a_series = |s: &Stage| {
            let judged = s.ledger.snapshot().judged;
            let block = judged.namespaces.get("a").expect("a");
            block.subject_details.iter().any(|d| &*d.name == "d")
        };
        s.settle();
        for to in ["sa:two/t", "sa:three/none", "sa:two/t", "sa:three/none"] {
            let critical = s.priority("sa:a/d");
            assert_eq!(critical, Priority::Critical, "by the group");
            assert!(!has_a_series(&s), "{to}");
            s.bind("two", "admin", &[to], &[NOW]);
            s.settle();
            assert!(has_a_series(&s), "{to}: by itself as well");
            assert_eq!(s.ledger.selfcheck(), 0);
            s.delete(Resource::ClusterRoleBindings, "two");
            s.settle();
            assert_eq!(s.ledger.selfcheck(), 0);
        }
    }

    /// A pod in namespace a with a Secret that nobody lists.
    fn carries_token_of_x(s: &mut Stage) {
        s.put(Object::Pod(Box::new(Pod {
            meta: Meta {
                namespace: "a".into(),
                name: "p".into(),
                ..Default::default()
            },
            service_account: "default".into(),
            node: "n".into(),
            phase: Phase::Running,
            secrets: vec![SecretUse {
                name: "x-token-x2z9k".into(),
                source: SecretSource::Volume,
                containers: vec!["c".into()],
            }],
            escape: 1,
            ..Default::default()
        })));
    }

    /// A Secret that nobody lists may be the token of an account by its name, as long as there is such an account;
    /// when that goes with the last binding that names it, the worst token on the node may be another.
    #[test]
    fn a_token_by_its_name_goes_with_its_account() {
        let mut s = Stage::new();
        s.role("reads", &["get,list | core | secrets"], &[NOW]);
        carries_token_of_x(&mut s);
        let worst = |s: &Stage| {
            let judged = s.ledger.snapshot().judged;
            judged.namespaces.get("a").expect("a").node_escape_pods
        };
        s.settle();
        let nobodys = worst(&s);
        s.bind("x", "reads", &["sa:a/x"], &[NOW]);
        s.settle();
        assert_ne!(worst(&s), nobodys);
        assert_eq!(s.ledger.selfcheck(), 0);
        s.delete(Resource::ClusterRoleBindings, "x");
        s.settle();
        assert_eq!(worst(&s), nobodys);
        assert_eq!(s.ledger.selfcheck(), 0);
    }
    /// A pod goes with an account that was told by the name of its Secret: it is counted out as it was counted.
    #[test]
    fn a_pod_that_goes_with_its_account_is_counted_out_as_it_was() {
        let mut s = Stage::new();
        s.bind("b", "nothing", &["sa:a/x"], &[NOW]);
        carries_token_of_x(&mut s);
        s.settle();
        let needless = |s: &Stage| s.ledger.blocks.get("a").map(|b| b.needless_token_pods);
        assert_eq!(needless(&s), Some(1));
        s.account("a/other", NOW);
        s.delete(Resource::Pods, "a/p");
        s.delete(Resource::ClusterRoleBindings, "b");
        s.settle();
        assert_eq!(needless(&s), Some(0));
        assert_eq!(s.ledger.selfcheck(), 0);
    }

    /// A pod that no workload has made goes, and one like it comes: each has a series of its own name.
    #[test]
    fn pods_that_stand_alone_change_places() {
        let mut s = Stage::new();
        s.role("admin", &["* | * | *"], &[NOW]);
        s.account("a/strong", NOW);
        s.bind("strong", "admin", &["sa:a/strong"], &[NOW]);
        s.pod("a/first", "strong");
        s.settle();
        let shown = |s: &Stage| -> Vec<String> {
            let block = s.ledger.blocks.get("a").expect("a");
            block
                .workload_details
                .iter()
                .map(|d| d.name.to_string())
                .collect()
        };
        assert_eq!(shown(&s), ["first"]);
        s.delete(Resource::Pods, "a/first");
        s.pod("a/second", "strong");
        s.settle();
        assert_eq!(shown(&s), ["second"]);
        assert_eq!(s.ledger.selfcheck(), 0);
    }
}
