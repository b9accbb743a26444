//! Counts for export: one immutable block a namespace, made anew when something in it moved and shared
//! between snapshots otherwise.

use super::details::{Detailed, Details};
use super::names::Sym;
use super::rows::SubjectKey;
use super::shelves::{Blocks, Shelves};
use super::table::{Part, RowId};
use super::watch::WatchState;
use super::{Dirty, Ledger, grants};
use crate::object::Resource;
use crate::risk::{Acceptance, Priority, RuleId, Status};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers by priority and status.
pub type ByLevel = [[u32; 3]; 5];
/// Numbers by priority.
pub type ByPriority = [u32; 5];

/// Everything that is counted in one namespace. Indexes are `as usize` of [`Priority`], [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceBlock {
    /// Subjects: Group, ServiceAccount, User.
    pub subjects: [u32; 3],
    /// Subjects by effective priority, same kinds.
    pub risky_subjects: [ByLevel; 3],
    /// Risky accounts that no live pod uses.
    pub idle_accounts: ByLevel,
    /// Live pods.
    pub pods: u32,
    /// Live pods by the strongest account whose token they carry.
    pub hot_pods: ByLevel,
    /// Live pods with an API token where client libraries look, by their own account.
    pub automount_pods: ByPriority,
    /// Live pods with a token of accounts that have no rules of their own.
    pub needless_token_pods: u32,
    /// Live pods that can take their node, by the worst token on it.
    pub node_escape_pods: ByLevel,
    /// Live pods that receive Secrets by volume, by environment.
    pub secret_pods: [u32; 2],
    /// Rules with a wildcard of Roles; in `""` of ClusterRoles, which are nowhere else.
    pub wildcard_rules: ByLevel,
    /// Roles by bound (0 no, 1 yes); in `""` ClusterRoles.
    pub roles: [ByLevel; 2],
    /// RoleBindings; in `""` ClusterRoleBindings.
    pub bindings: ByLevel,
    /// Of these, to a missing role, to a missing account.
    pub dangling: [u32; 2],
    /// Subjects of the priorities in detail.
    pub subject_details: Shelves<SubjectDetail>,
    /// Workloads of the priorities in detail.
    pub workload_details: Shelves<WorkloadDetail>,
}

/// A subject of its own series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectDetail {
    /// Index of the kind: Group, ServiceAccount, User.
    pub kind: usize,
    /// Name.
    pub name: Arc<str>,
    /// Effective priority.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// Since when, Unix seconds.
    pub since: u32,
}

/// A workload with live hot pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadDetail {
    /// Kind, such as `Deployment`; `Pod` for a pod that stands alone.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// The account that decides.
    pub account: Arc<str>,
    /// Its effective priority.
    pub priority: Priority,
    /// Its status.
    pub status: Status,
    /// Live pods that carry its token.
    pub pods: u32,
}

/// Subjects that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// Id of the rule.
    pub rule: String,
    /// Priority of the highest scope.
    pub priority: Priority,
    /// Status of the subject.
    pub status: Status,
    /// How many.
    pub subjects: u32,
}

/// An acceptance of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRisk {
    /// Its id.
    pub id: String,
    /// Who answers for it.
    pub owner: String,
    /// When it ends or ended, Unix seconds.
    pub expires: i64,
}

impl AcceptedRisk {
    pub(super) fn of(acceptances: &[Acceptance]) -> Arc<Vec<AcceptedRisk>> {
        let risk = |a: &Acceptance| AcceptedRisk {
            id: a.id.clone(),
            owner: a.owner.clone(),
            expires: a.expires,
        };
        Arc::new(acceptances.iter().map(risk).collect())
    }
}

/// The judgement as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Blocks by namespace; `""` first.
    pub namespaces: Blocks,
    /// Non-zero numbers only.
    pub rules: Arc<Vec<RuleCount>>,
    /// Acceptances, expired ones too, in the order of the configuration.
    pub accepted: Arc<Vec<AcceptedRisk>>,
    /// Rises seen by watching, by namespace and priority.
    pub escalations: Arc<Vec<(Arc<str>, Priority, u64)>>,
    /// See [`Judged::subjects`].
    pub subject_details: Details<SubjectDetail>,
    /// See [`Judged::workloads`].
    pub workload_details: Details<WorkloadDetail>,
    /// At most so many of each are shown.
    pub detail_limit: usize,
}

impl Judged {
    // kept first: higher priority, open before accepted before builtin, newer or larger

    /// Subjects in detail with their namespaces, in the order of the namespaces, within the limit.
    pub fn subjects(&self) -> &[Detailed<SubjectDetail>] {
        let first = |d: &SubjectDetail| (Reverse(d.priority), d.status as u8, Reverse(d.since));
        self.subject_details.of(
            &self.namespaces,
            self.detail_limit,
            |block| &block.subject_details,
            first,
        )
    }

    /// Workloads in detail, the same.
    pub fn workloads(&self) -> &[Detailed<WorkloadDetail>] {
        let first = |d: &WorkloadDetail| (Reverse(d.priority), d.status as u8, Reverse(d.pods));
        self.workload_details.of(
            &self.namespaces,
            self.detail_limit,
            |block| &block.workload_details,
            first,
        )
    }

    /// How many subjects and workloads were left out for the limit.
    pub fn dropped(&self) -> [u64; 2] {
        let blocks = || self.namespaces.iter().map(|(_, block)| block);
        let subjects: usize = blocks().map(|b| b.subject_details.len()).sum();
        let workloads: usize = blocks().map(|b| b.workload_details.len()).sum();
        [subjects, workloads].map(|there| there.saturating_sub(self.detail_limit) as u64)
    }
}

/// What is exported, as of one settled batch.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Rises by one with every batch that moved the judgement.
    pub generation: u64,
    /// The judgement, shared with the snapshot before while it did not move.
    pub judged: Arc<Judged>,
    /// Every resource has synced once; nothing is exported before.
    pub synced: bool,
    /// Everything was read and decoded.
    pub complete: bool,
    /// Pods are left out; families about them have no series.
    pub without_pods: bool,
    /// Watched resources in the order of [`Resource::ALL`], each with its number of objects and of
    /// objects without history (contract §5).
    pub watches: Vec<(Resource, WatchState, u64, u64)>,
    /// Hash of the rules in force.
    pub ruleset: String,
}

/// Subjects by rule, kept up to date.
#[derive(Clone, Debug)]
pub(crate) struct RuleCounts {
    levels: Vec<ByLevel>,
    /// Since they were last published.
    moved: bool,
}

impl RuleCounts {
    pub(crate) fn new(rules: usize) -> RuleCounts {
        RuleCounts {
            levels: vec![ByLevel::default(); rules],
            moved: true,
        }
    }

    /// Since they were last published.
    pub(crate) fn have_moved(&self) -> bool {
        self.moved
    }

    pub(crate) fn add(&mut self, rules: &[(RuleId, Priority)], status: Status) {
        for (rule, priority) in rules {
            *self.at(*rule, *priority, status) += 1;
        }
    }

    pub(crate) fn remove(&mut self, rules: &[(RuleId, Priority)], status: Status) {
        for (rule, priority) in rules {
            *self.at(*rule, *priority, status) -= 1;
        }
    }

    fn at(&mut self, rule: RuleId, priority: Priority, status: Status) -> &mut u32 {
        self.moved = true;
        &mut self.levels[usize::from(rule.0)][priority as usize][status as usize]
    }
}

/// Higher priority first; at equal priority open beats accepted beats builtin.
pub(crate) fn worse(a: (Priority, Status), b: (Priority, Status)) -> (Priority, Status) {
    match a.0.cmp(&b.0) {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal => (a.0, if (a.1 as u8) <= (b.1 as u8) { a.1 } else { b.1 }),
    }
}

impl Ledger {
    /// The numbers as they stand, as a new generation if they differ from the last.
    pub(super) fn publish(&mut self) {
        let judged = self.judged();
        (self.dirty.subject_details, self.dirty.workload_details) = (false, false);
        if *self.last_judged != judged {
            self.last_judged = Arc::new(judged);
            self.generation += 1;
        }
    }

    /// Counts what was touched anew. `pods_alone`: nothing but pods has moved.
    pub(super) fn count_namespaces(&mut self, pods_alone: bool) {
        let appeared = std::mem::take(&mut self.dirty.namespaces);
        let mut anew = std::mem::take(&mut self.dirty.pods_in);
        let worths = std::mem::take(&mut self.dirty.worths);
        let grants = self.count_stirred();
        let mut subjects = self.count_stirred_subjects();
        let escapes = self.count_moved_nodes(pods_alone, &worths);
        let replicas = std::mem::take(&mut self.dirty.replicas);
        let carried = |(ns, account): &&(Sym, Sym)| self.may_be_carried(*ns, *account);
        anew.extend(worths.iter().filter(carried).map(|(ns, _)| *ns));
        let mut touched = appeared;
        touched.extend(anew.iter().chain(&escapes).chain(grants.keys()));
        touched.extend(subjects.keys().chain(replicas.keys()));
        if self.blocks.is_empty() {
            touched.extend(self.subjects.namespaces());
        }
        let mut touched: Vec<Sym> = touched.into_iter().collect();
        touched.sort_unstable();
        for ns in touched {
            let name = self.names.text(ns);
            let there = ns == Sym::EMPTY
                || self.namespaces.find(Sym::EMPTY, ns).is_some()
                || self.subjects.in_namespace(ns).next().is_some()
                || self.pods.in_namespace(ns).next().is_some()
                || self.bindings.in_namespace(ns).next().is_some()
                || self
                    .roles
                    .in_namespace(ns)
                    .any(|(_, name, r)| !r.shipped || self.role_is_bound(ns, name));
            if !there {
                if self.blocks.remove(name) {
                    (self.dirty.subject_details, self.dirty.workload_details) = (true, true);
                }
                let before = self.escalations.len();
                self.escalations.retain(|(of, _), _| **of != *name);
                self.dirty.escalations |= self.escalations.len() != before;
                continue;
            }
            let known = self.blocks.get(name);
            let mut block = known.map(|b| (**b).clone()).unwrap_or_default();
            let mut moved = replicas.get(&ns).into_iter().flatten();
            let anew = known.is_none()
                || anew.contains(&ns)
                || !moved.all(|moved| self.count_moved(ns, moved, &worths, &mut block));
            if anew {
                self.count_pods(ns, &mut block);
            }
            block.node_escape_pods = self.node_escapes(ns);
            match subjects.remove(&ns) {
                _ if known.is_none() => {
                    let counted = self.count_subjects(ns, |_, row| row.rests, &mut block);
                    for (id, subject) in counted {
                        grants::put(&mut self.counted.subjects, id, subject);
                    }
                }
                Some(moved) => moved.add_to(self, &mut block),
                None => {}
            }
            if let Some(moved) = grants.get(&ns) {
                moved.add_to(&mut block);
            }
            let nothing = NamespaceBlock::default();
            let before = known.map_or(&nothing, |known| &**known);
            self.dirty.subject_details |= block.subject_details != before.subject_details;
            self.dirty.workload_details |= block.workload_details != before.workload_details;
            if known.is_some_and(|known| **known == block) {
                continue;
            }
            let block = Arc::new(block);
            match self.blocks.find_mut(name) {
                Some((_, known)) => *known = block,
                None => self.blocks.put((Arc::from(name), block)),
            }
        }
    }

    pub(super) fn count(&self, ns: Sym) -> NamespaceBlock {
        let mut block = NamespaceBlock::default();
        self.count_pods(ns, &mut block);
        block.node_escape_pods = self.node_escapes(ns);
        self.count_subjects(ns, |id, _| self.rests_on_groups(id), &mut block);
        self.sums(ns).add_to(&mut block);
        block
    }

    /// The subject has a rule beyond those that its implicit groups hold.
    pub(super) fn has_rules(&self, id: RowId) -> bool {
        let role_of = |binding: &RowId| self.role_of(*binding).and_then(|id| self.roles.get(id));
        let bindings = self
            .subjects
            .get(id)
            .into_iter()
            .flat_map(|row| &row.bindings);
        bindings
            .filter_map(role_of)
            .any(|role| !role.rules.is_empty())
    }

    pub(super) fn role_is_bound(&self, namespace: Sym, name: Sym) -> bool {
        let cluster = namespace == Sym::EMPTY;
        self.role_refs.contains_key(&(cluster, namespace, name))
    }

    /// The bindings that refer to a role.
    pub(super) fn bindings_to(&self, id: RowId) -> &[RowId] {
        let (namespace, name) = self.roles.key(id);
        let cluster = namespace == Sym::EMPTY;
        self.role_refs
            .get(&(cluster, namespace, name))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// What a rule with a wildcard gives, the highest over the places where its role is bound.
    pub(super) fn in_bound_places(&self, id: RowId, number: usize) -> Priority {
        let bindings = self.bindings_to(id).iter();
        let places: Dirty<Sym> = bindings.map(|b| self.bindings.key(*b).0).collect();
        let worths = places.iter().map(|ns| self.wildcard_gives(id, number, *ns));
        worths.max().unwrap_or_default()
    }

    /// Priority and status of a role: the highest over its bindings; builtin when they all are, or,
    /// unbound, when it equals the shipped default of its name (contract §4).
    pub(super) fn role_level(&self, id: RowId) -> (Priority, Status) {
        self.role_level_by(id, |binding| self.binding_level(binding))
    }

    /// The same by what is known of its bindings.
    pub(super) fn role_level_by(
        &self,
        id: RowId,
        level: impl Fn(RowId) -> (Priority, Status),
    ) -> (Priority, Status) {
        let bindings = self.bindings_to(id);
        if bindings.is_empty() {
            let builtin = self.equals_shipped(id);
            let status = if builtin {
                Status::Builtin
            } else {
                Status::Open
            };
            return (Priority::None, status);
        }
        let levels = bindings.iter().map(|b| level(*b));
        let mut priority = Priority::None;
        let mut status = Status::Builtin;
        for (p, s) in levels {
            priority = priority.max(p);
            status = if (s as u8) < (status as u8) {
                s
            } else {
                status
            };
        }
        (priority, status)
    }

    /// Priority and status of a binding: what its role gives there; builtin or accepted when
    /// every subject is: the two are a pair of the shipped table with no more power than recorded, or
    /// the subject's acceptances answer for what the role gives (contract §3, §4).
    pub(super) fn binding_level(&self, id: RowId) -> (Priority, Status) {
        let Some(row) = self.bindings.get(id) else {
            return Default::default();
        };
        let priority = self.binding_gives(id).unwrap_or_default();
        let builtin = |key: &SubjectKey| {
            let subject = self.subject(*key);
            let Some(recorded) = self.listed_pair(id, &subject) else {
                return false;
            };
            // two bindings of a pair may be more together than each alone: the subject's own cover counts
            priority <= recorded
                || self
                    .subjects
                    .find(*key)
                    .and_then(|s| self.subjects.get(s))
                    .and_then(|r| r.covered)
                    .is_some_and(|up_to| priority <= up_to)
        };
        let statuses = row.subjects.iter().map(|key| {
            if builtin(key) {
                Status::Builtin
            } else if self.accepted_for(*key, id, priority) {
                Status::Accepted
            } else {
                Status::Open
            }
        });
        let of_nobody = || {
            let role = self.role_of(id);
            if role.is_some_and(|role| self.equals_shipped(role)) {
                Status::Builtin
            } else {
                Status::Open
            }
        };
        let status = statuses.min_by_key(|s| *s as u8).unwrap_or_else(of_nobody);
        (priority, status)
    }

    /// The role has the rules of a shipped default of its name.
    fn equals_shipped(&self, id: RowId) -> bool {
        let Some(row) = self.roles.get(id) else {
            return false;
        };
        if row.shipped {
            return true;
        }
        let (namespace, name) = self.roles.key(id);
        let (namespace, name) = (self.names.text(namespace), self.names.text(name));
        [crate::rbac::OLDEST, crate::rbac::NEWEST]
            .into_iter()
            .any(|version| {
                crate::rbac::shipped_roles(version).iter().any(|r| {
                    r.meta.name == name
                        && r.meta.namespace == namespace
                        && same_rules(&r.rules, &row.rules.unpack())
                })
            })
    }

    /// A missing role, a missing account.
    pub(super) fn dangling(&self, id: RowId) -> (bool, bool) {
        let Some(row) = self.bindings.get(id) else {
            return (false, false);
        };
        let account = row.subjects.iter().any(|key| match key {
            SubjectKey::Account(ns, name) => self.accounts.find(*ns, *name).is_none(),
            _ => false,
        });
        (self.role_of(id).is_none(), account)
    }

    /// Subjects by rule that are not none.
    fn counts_by_rule(&self) -> Vec<RuleCount> {
        let mut counts = Vec::new();
        let rules = &self.policy.catalogue.rules;
        for (rule, levels) in rules.iter().zip(&self.rule_counts.levels) {
            for priority in Priority::RISKY {
                for status in Status::ALL {
                    let subjects = levels[priority as usize][status as usize];
                    if subjects > 0 {
                        counts.push(RuleCount {
                            rule: rule.id.clone(),
                            priority,
                            status,
                            subjects,
                        });
                    }
                }
            }
        }
        counts
    }

    /// What did not move since the last time is shared with it.
    fn judged(&mut self) -> Judged {
        let counts_moved = std::mem::take(&mut self.rule_counts.moved);
        let escalations_moved = std::mem::take(&mut self.dirty.escalations);
        let escalations = self.escalations.iter();
        let escalations = escalations.map(|((ns, p), rises)| (ns.clone(), *p, *rises));
        let last = &self.last_judged;
        let limit = self.policy.detail_limit;
        let same = limit == last.detail_limit;
        let mut judged = Judged {
            namespaces: self.blocks.clone(),
            rules: match counts_moved {
                true => Arc::new(self.counts_by_rule()),
                false => last.rules.clone(),
            },
            accepted: self.accepted_risks.clone(),
            escalations: match escalations_moved {
                true => Arc::new(escalations.collect()),
                false => last.escalations.clone(),
            },
            subject_details: Details::default(),
            workload_details: Details::default(),
            detail_limit: limit,
        };
        if same && !self.dirty.subject_details {
            judged.subject_details = last.subject_details.clone();
        }
        if same && !self.dirty.workload_details {
            judged.workload_details = last.workload_details.clone();
        }
        judged
    }

    /// What is to be exported, as of the last [`Ledger::settle`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            judged: self.last_judged.clone(),
            synced: self.synced(),
            complete: self.complete(),
            without_pods: self.settings.without_pods,
            watches: self
                .watched()
                .map(|r| {
                    let watch = self.watches[r as usize].clone();
                    (r, watch, self.count_of(r), self.without_history[r as usize])
                })
                .collect(),
            ruleset: self.policy.catalogue.ruleset.clone(),
        }
    }

    /// Objects of a resource; shipped roles are none.
    fn count_of(&self, resource: Resource) -> u64 {
        let n = match resource {
            Resource::ClusterRoles => self.input_roles(Part::Cluster),
            Resource::Roles => self.input_roles(Part::Namespaced),
            Resource::ClusterRoleBindings => self.bindings.len(Part::Cluster),
            Resource::RoleBindings => self.bindings.len(Part::Namespaced),
            Resource::ServiceAccounts => self.accounts.len(Part::Namespaced),
            Resource::Pods => self.pods.len(Part::Namespaced),
            Resource::Namespaces => self.namespaces.len(Part::Cluster),
        };
        n as u64
    }

    fn input_roles(&self, part: Part) -> usize {
        if self.settings.world == super::World::Cluster {
            return self.roles.len(part);
        }
        let of = |ns: Sym| (ns == Sym::EMPTY) == (part == Part::Cluster);
        self.roles
            .iter()
            .filter(|(_, ns, _, r)| of(*ns) && !r.shipped)
            .count()
    }
}

/// The same rules in any order, lists in any order.
fn same_rules(a: &[crate::object::PolicyRule], b: &[crate::object::PolicyRule]) -> bool {
    let norm = |rules: &[crate::object::PolicyRule]| {
        let mut all: BTreeMap<[Vec<String>; 5], usize> = BTreeMap::new();
        for r in rules {
            let mut key = [
                r.verbs.clone(),
                r.api_groups.clone(),
                r.resources.clone(),
                r.resource_names.clone(),
                r.non_resource_urls.clone(),
            ];
            key.iter_mut().for_each(|l| l.sort());
            *all.entry(key).or_default() += 1;
        }
        all
    };
    norm(a) == norm(b)
}
