//! Counts for export: one immutable block a namespace, made anew when something in it moved and shared
//! between snapshots otherwise.

use super::blocks::Blocks;
use super::details::{Detailed, Details};
use super::names::Sym;
use super::pod_name::PodName;
use super::rows::{PodRow, PodShape, SubjectKey};
use super::table::{Map, Part, RowId};
use super::watch::WatchState;
use super::{Dirty, Ledger};
use crate::object::{Resource, SecretSource};
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
    pub subject_details: Vec<SubjectDetail>,
    /// Workloads of the priorities in detail.
    pub workload_details: Vec<WorkloadDetail>,
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
    pub escalations: Vec<(Arc<str>, Priority, u64)>,
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

/// Priority and status of live pods of one shape, by namespace and shape.
pub(super) type Worths = Map<(Sym, *const PodShape), (Priority, Status)>;

/// What live pods of one shape have in common in their namespace.
struct Alike {
    /// Whose API tokens they carry.
    accounts: Vec<Sym>,
    /// The strongest of these.
    strongest: Option<Sym>,
    /// Its priority and status.
    level: (Priority, Status),
    /// Priority of the pods' own account, when they have its token where client libraries look.
    automount: Option<Priority>,
    /// They have tokens, and none of an account with rules of its own.
    needless: bool,
    /// They receive Secrets by volume, by environment.
    secrets: [bool; 2],
}

/// Workloads by kind and name.
type Workloads = Map<(Sym, PodName), Workload>;

/// A workload while its pods are counted.
struct Workload {
    /// The account that decides.
    account: Sym,
    worth: (Priority, Status),
    pods: u32,
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
        let all = std::mem::take(&mut self.dirty.namespaces);
        let mut inhabitants = std::mem::take(&mut self.dirty.inhabitants);
        let grants = self.count_stirred();
        let replicas = std::mem::take(&mut self.dirty.replicas);
        // a pod's node may carry tokens of other namespaces: pods that can take it follow
        let mut nodes = std::mem::take(&mut self.dirty.nodes);
        inhabitants.extend(&all);
        let tokens = std::mem::take(&mut self.dirty.tokens);
        for ns in tokens.union(&all) {
            nodes.extend(self.pods.in_namespace(*ns).map(|(.., p)| p.node));
        }
        let worths = std::mem::take(&mut self.dirty.worths);
        let alike = pods_alone && tokens.is_empty() && worths.is_empty();
        nodes.extend(self.nodes_with(worths));
        for passed in std::mem::take(&mut self.dirty.passed) {
            let on = self.nodes.get(&passed.node).filter(|on| on.escapes > 0);
            let Some(worst) = on.map(|on| on.worst) else {
                continue;
            };
            // tokens are worth what they were when the worst was found: one that is not as bad was not it
            let level = self.shape_level(passed.namespace, &passed.shape);
            let hidden = worse(worst, level) == worst && (passed.came || level != worst);
            if !(alike && hidden) {
                nodes.insert(passed.node);
            }
        }
        let escapes = self.count_nodes(nodes);
        let mut touched = inhabitants.clone();
        touched.extend(grants.keys().chain(replicas.keys()).chain(&escapes));
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
                self.escalations.retain(|(of, _), _| **of != *name);
                continue;
            }
            let known = self.blocks.get(name);
            let mut block = known.map(|b| (**b).clone()).unwrap_or_default();
            let mut moved = replicas.get(&ns).into_iter().flatten();
            let anew = known.is_none()
                || inhabitants.contains(&ns)
                || !moved.all(|moved| self.count_moved(ns, moved, &mut block));
            if anew {
                let rests = |id| self.subjects.get(id).is_some_and(|row| row.rests);
                self.count_inhabitants(ns, rests, &mut block);
            } else {
                block.node_escape_pods = self.node_escapes(ns);
            }
            if let Some(moved) = grants.get(&ns) {
                moved.add_to(&mut block);
            }
            let (subjects, workloads) = known.map_or((&[][..], &[][..]), |known| {
                (&known.subject_details, &known.workload_details)
            });
            self.dirty.subject_details |= block.subject_details != subjects;
            self.dirty.workload_details |= block.workload_details != workloads;
            if known.is_some_and(|known| **known == block) {
                continue;
            }
            match self.blocks.get_mut(name) {
                Some(known) => *known = Arc::new(block),
                None => self.blocks.insert(Arc::from(name), Arc::new(block)),
            }
        }
    }

    /// Nodes on which the tokens of these accounts are.
    fn nodes_with(&self, accounts: Dirty<(Sym, Sym)>) -> Dirty<Sym> {
        let mut in_namespace: Map<Sym, Vec<Sym>> = Map::default();
        for (ns, account) in accounts {
            in_namespace.entry(ns).or_default().push(account);
        }
        let mut nodes = Dirty::default();
        for (ns, accounts) in in_namespace {
            let shapes = self.replicas.get(&ns).into_iter().flat_map(|s| s.keys());
            let carries = |shape: &&Arc<PodShape>| {
                let carried = self.tokens_of(ns, shape);
                carried.iter().any(|account| accounts.contains(account))
            };
            let shapes: Dirty<*const PodShape> = shapes.filter(carries).map(Arc::as_ptr).collect();
            if !shapes.is_empty() {
                let pods = self.pods.in_namespace(ns).map(|(.., pod)| pod);
                let carrying = pods.filter(|pod| shapes.contains(&Arc::as_ptr(&pod.shape)));
                nodes.extend(carrying.map(|pod| pod.node));
            }
        }
        nodes
    }

    /// Looks for the worst token on these nodes anew; returns where pods lie that can take one on which it has
    /// moved.
    fn count_nodes(&mut self, nodes: Dirty<Sym>) -> Dirty<Sym> {
        let mut known = Map::default();
        let mut escapes = Dirty::default();
        for node in nodes {
            let Some(worst) = self.worst_on(node, &mut known) else {
                continue;
            };
            let on = self.nodes.entry(node).or_default();
            let before = std::mem::replace(&mut on.worst, worst);
            if before == worst {
                continue;
            }
            for id in &on.pods {
                let Some(pod) = self.pods.get(*id).filter(|p| p.takes_node()) else {
                    continue;
                };
                debug_assert_eq!(pod.node, node);
                let ns = self.pods.key(*id).0;
                let here = self.escapes.entry(ns).or_default();
                here[before.0 as usize][before.1 as usize] -= 1;
                here[worst.0 as usize][worst.1 as usize] += 1;
                escapes.insert(ns);
            }
        }
        escapes
    }

    pub(super) fn count(&self, ns: Sym) -> NamespaceBlock {
        let mut block = NamespaceBlock::default();
        self.count_inhabitants(ns, |id| self.rests_on_groups(id), &mut block);
        self.sums(ns).add_to(&mut block);
        block
    }

    /// What is counted in subjects and pods; `rests` tells who owes what it is in detail to groups alone.
    fn count_inhabitants(&self, ns: Sym, rests: impl Fn(RowId) -> bool, into: &mut NamespaceBlock) {
        // what is counted in roles and bindings stays
        let mut block = NamespaceBlock {
            wildcard_rules: into.wildcard_rules,
            roles: into.roles,
            bindings: into.bindings,
            dangling: into.dangling,
            ..NamespaceBlock::default()
        };
        let mut used: Dirty<Sym> = Dirty::default();
        let mut workloads: Workloads = Map::default();
        let mut alone: Map<*const PodShape, Alike> = Map::default();
        for (shape, replicas) in self.replicas.get(&ns).into_iter().flatten() {
            let alike = self.alike(ns, shape);
            used.extend(&alike.accounts);
            if !shape.mirror {
                used.insert(shape.account);
            }
            add_pods(replicas.live as i32, &alike, &mut block);
            match shape.workload {
                Some((kind, name)) => {
                    let of = (kind, self.workload_name(kind, name));
                    self.count_workload(of, replicas.live, &alike, &mut workloads);
                }
                None if self.in_detail(&alike) => {
                    alone.insert(Arc::as_ptr(shape), alike);
                }
                None => {}
            }
        }
        if !alone.is_empty() {
            // the series of a pod that no workload has made bears its own name
            let kind = self.names.get("Pod").unwrap_or(Sym::STAR);
            for (_, name, pod) in self.pods.in_namespace(ns).filter(|(.., p)| p.live()) {
                if let Some(alike) = alone.get(&Arc::as_ptr(&pod.shape)) {
                    self.count_workload((kind, name), 1, alike, &mut workloads);
                }
            }
        }
        block.node_escape_pods = self.node_escapes(ns);
        block.workload_details = self.details(workloads);
        for (id, row) in self.subjects.in_namespace(ns) {
            let kind = kind_index(row.key);
            block.subjects[kind] += 1;
            block.risky_subjects[kind][row.effective as usize][row.status as usize] += 1;
            if let SubjectKey::Account(_, name) = row.key
                && row.effective > Priority::None
                && !used.contains(&name)
            {
                block.idle_accounts[row.effective as usize][row.status as usize] += 1;
            }
            if self.policy.detail.contains(&row.effective) && row.since > 0 && !rests(id) {
                let (SubjectKey::Group(name)
                | SubjectKey::User(name)
                | SubjectKey::Account(_, name)) = row.key;
                block.subject_details.push(SubjectDetail {
                    kind,
                    name: self.names.shared(name),
                    priority: row.effective,
                    status: row.status,
                    since: row.since,
                });
            }
        }
        block
            .subject_details
            .sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        *into = block;
    }

    /// Counts the pods of a shape up or down by as many as have come or gone. Not where that is not all there is to
    /// it: an account may be used or idle from now on, and a pod of its own has its own series.
    fn count_moved(
        &self,
        ns: Sym,
        (shape, moved): (&Arc<PodShape>, &i32),
        block: &mut NamespaceBlock,
    ) -> bool {
        if *moved == 0 {
            return true;
        }
        let here = self.replicas.get(&ns).and_then(|here| here.get(shape));
        let now = here.map_or(0, |replicas| replicas.live);
        if now == 0 || i64::from(now) == i64::from(*moved) {
            return false;
        }
        let alike = self.alike(ns, shape);
        if self.in_detail(&alike) {
            let Some((kind, name)) = shape.workload else {
                return false;
            };
            let (kind, name) = (self.names.text(kind), self.names.text(name));
            let at = block
                .workload_details
                .binary_search_by(|d| (&*d.kind, &*d.name).cmp(&(kind, name)));
            let Ok(at) = at else {
                return false;
            };
            let pods = &mut block.workload_details[at].pods;
            *pods = pods.saturating_add_signed(*moved);
        }
        add_pods(*moved, &alike, block);
        true
    }

    /// Live pods that can take their node, by the worst token on it; before they have one, by their own.
    fn node_escapes(&self, ns: Sym) -> ByLevel {
        let mut out = self.escapes.get(&ns).copied().unwrap_or_default();
        for (shape, replicas) in self.replicas.get(&ns).into_iter().flatten() {
            if shape.escape != 0 && replicas.unplaced > 0 {
                let (priority, status) = self.alike(ns, shape).level;
                out[priority as usize][status as usize] += replicas.unplaced;
            }
        }
        out
    }

    /// Workloads of these pods have series of their own.
    fn in_detail(&self, alike: &Alike) -> bool {
        alike.strongest.is_some() && self.policy.detail.contains(&alike.level.0)
    }

    /// What pods of one shape have in common.
    fn alike(&self, ns: Sym, shape: &PodShape) -> Alike {
        let accounts = self.tokens_of(ns, shape);
        let level = |account: Sym| {
            let id = self.subjects.find(SubjectKey::Account(ns, account))?;
            self.subjects.get(id).map(|r| (r.effective, r.status))
        };
        let levels = accounts.iter().filter_map(|a| Some((*a, level(*a)?)));
        // of equal accounts the first by name, whatever order pods and Secrets come in
        let strongest = levels.max_by_key(|(account, (priority, status))| {
            let name = self.names.text(*account);
            (*priority, Reverse(*status as u8), Reverse(name))
        });
        let at_default = shape.tokens.iter().any(|t| t.accepted && t.at_default_path);
        let automount = at_default && shape.automount != Some(false);
        let own = || level(shape.account).map(|l| l.0).unwrap_or_default();
        let has_rules = |account: &Sym| {
            let id = self.subjects.find(SubjectKey::Account(ns, *account));
            id.is_some_and(|id| self.has_rules(id))
        };
        let receives = |source| shape.secrets.iter().any(|s| s.source == source);
        Alike {
            level: strongest.map(|(_, level)| level).unwrap_or_default(),
            strongest: strongest.map(|(account, _)| account),
            automount: automount.then(own),
            needless: !accounts.is_empty() && !accounts.iter().any(has_rules),
            secrets: [SecretSource::Volume, SecretSource::Env].map(receives),
            accounts,
        }
    }

    /// The name of a workload beside those of pods that stand alone: a pod that a pod is said to have made may be
    /// one of them.
    pub(super) fn workload_name(&self, kind: Sym, name: Sym) -> PodName {
        let pod = (self.names.text(kind) == "Pod").then(|| self.names.pod(self.names.text(name)));
        pod.flatten().unwrap_or(PodName::whole(name))
    }

    /// Adds pods to their workload; it shows the strongest of its pods' accounts.
    fn count_workload(
        &self,
        of: (Sym, PodName),
        pods: u32,
        alike: &Alike,
        workloads: &mut Workloads,
    ) {
        let worth = alike.level;
        let Some(account) = alike.strongest.filter(|_| self.in_detail(alike)) else {
            return;
        };
        let workload = workloads.entry(of).or_insert(Workload {
            account,
            worth,
            pods: 0,
        });
        workload.pods += pods;
        let before = workload.worth;
        let first = || self.names.text(account) < self.names.text(workload.account);
        if (before == worth && first()) || worse(before, worth) != before {
            (workload.account, workload.worth) = (account, worth);
        }
    }

    /// The workloads of a namespace, by kind and name.
    fn details(&self, workloads: Workloads) -> Vec<WorkloadDetail> {
        let text = |sym: Sym| self.names.shared(sym);
        let mut out: Vec<WorkloadDetail> = workloads
            .into_iter()
            .map(|((kind, name), workload)| WorkloadDetail {
                kind: match kind {
                    Sym::STAR => Arc::from("Pod"),
                    kind => text(kind),
                },
                name: Arc::from(name.text(&self.names).to_string()),
                account: text(workload.account),
                priority: workload.worth.0,
                status: workload.worth.1,
                pods: workload.pods,
            })
            .collect();
        out.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        out
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

    /// Priority and status of a pod: of the strongest account whose token it carries (contract §4).
    pub(super) fn pod_level(&self, ns: Sym, pod: &PodRow) -> (Priority, Status) {
        match pod.live() {
            true => self.shape_level(ns, &pod.shape),
            false => (Priority::None, Status::Open),
        }
    }

    /// The same of live pods of a shape.
    fn shape_level(&self, ns: Sym, shape: &PodShape) -> (Priority, Status) {
        let levels = self.tokens_of(ns, shape).into_iter().filter_map(|account| {
            let id = self.subjects.find(SubjectKey::Account(ns, account))?;
            self.subjects.get(id).map(|r| (r.effective, r.status))
        });
        levels.reduce(worse).unwrap_or_default()
    }

    /// Priority and status of the worst token on a node; `None` where no pod can take it. Replicas are alike,
    /// so what is `known` of one need not be found again.
    pub(super) fn worst_on(&self, node: Sym, known: &mut Worths) -> Option<(Priority, Status)> {
        let on = self.nodes.get(&node).filter(|on| on.escapes > 0)?;
        let pods = on.pods.iter();
        let levels = pods.filter_map(|id| {
            let (ns, pod) = (self.pods.key(*id).0, self.pods.get(*id)?);
            let of = known.entry((ns, Arc::as_ptr(&pod.shape)));
            pod.live()
                .then(|| *of.or_insert_with(|| self.pod_level(ns, pod)))
        });
        Some(levels.fold(Default::default(), worse))
    }

    /// Of the worst token on the pod's node; its own when it has no node.
    pub(super) fn node_level(&self, ns: Sym, pod: &PodRow) -> (Priority, Status) {
        let own = self.pod_level(ns, pod);
        let Some(on) = self.nodes.get(&pod.node) else {
            return own;
        };
        let others = on.pods.iter().filter_map(|id| {
            self.pods
                .get(*id)
                .map(|p| self.pod_level(self.pods.key(*id).0, p))
        });
        others.fold(own, worse)
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
            escalations: self
                .escalations
                .iter()
                .map(|((n, p), c)| (n.clone(), *p, *c))
                .collect(),
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

/// Adds pods that are alike to what is counted of pods, or takes them away.
fn add_pods(pods: i32, alike: &Alike, block: &mut NamespaceBlock) {
    let add = |count: &mut u32| *count = count.saturating_add_signed(pods);
    let (priority, status) = alike.level;
    add(&mut block.pods);
    add(&mut block.hot_pods[priority as usize][status as usize]);
    if let Some(own) = alike.automount {
        add(&mut block.automount_pods[own as usize]);
    }
    if alike.needless {
        add(&mut block.needless_token_pods);
    }
    for (count, receives) in block.secret_pods.iter_mut().zip(alike.secrets) {
        if receives {
            add(count);
        }
    }
}

pub(super) fn kind_index(key: SubjectKey) -> usize {
    match key {
        SubjectKey::Group(_) => 0,
        SubjectKey::Account(..) => 1,
        SubjectKey::User(_) => 2,
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
