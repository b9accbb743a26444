//! What is counted in pods, kept up and down with those that come and go; anew where what they carry is worth
//! something else.
//!
//! [`Ledger::count`] counts the same from scratch; tests and the self-check hold one against the other.

use super::names::Sym;
use super::pod_name::PodName;
use super::rows::{PodRow, PodShape, SubjectKey};
use super::shelves::Shelves;
use super::table::Map;
use super::tally::{ByLevel, ByPriority, NamespaceBlock, WorkloadDetail, worse};
use super::{Dirty, Ledger};
use crate::object::SecretSource;
use crate::risk::{Priority, Status};
use std::cmp::Reverse;
use std::sync::Arc;

/// Priority and status of live pods of one shape, by namespace and shape.
pub(super) type Worths = Map<(Sym, *const PodShape), (Priority, Status)>;

/// What live pods of one shape have in common in their namespace.
struct Alike {
    /// The strongest account whose API token they carry.
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

impl Ledger {
    /// Counts pods that can take their node by the worst token on it, where that may be another: these accounts'
    /// tokens may be worth something else. Returns where such pods lie. `pods_alone`: nothing but pods has moved.
    pub(super) fn count_moved_nodes(
        &mut self,
        pods_alone: bool,
        worths: &Dirty<(Sym, Sym)>,
    ) -> Dirty<Sym> {
        // a pod's node may carry tokens of other namespaces: pods that can take it follow
        let mut nodes = std::mem::take(&mut self.dirty.nodes);
        let tokens = std::mem::take(&mut self.dirty.tokens);
        for ns in &tokens {
            nodes.extend(self.pods.in_namespace(*ns).map(|(.., p)| p.node));
        }
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
        self.count_nodes(nodes)
    }

    /// Nodes on which the tokens of these accounts are.
    fn nodes_with(&self, accounts: &Dirty<(Sym, Sym)>) -> Dirty<Sym> {
        let mut in_namespace: Map<Sym, Vec<Sym>> = Map::default();
        for (ns, account) in accounts {
            if self.may_be_carried(*ns, *account) {
                in_namespace.entry(*ns).or_default().push(*account);
            }
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

    /// What is counted in live pods of a namespace, from scratch.
    pub(super) fn count_pods(&self, ns: Sym, block: &mut NamespaceBlock) {
        // what is counted in roles, bindings and subjects stays
        block.pods = 0;
        block.hot_pods = ByLevel::default();
        block.automount_pods = ByPriority::default();
        block.needless_token_pods = 0;
        block.secret_pods = [0; 2];
        let mut workloads: Workloads = Map::default();
        let mut alone: Map<*const PodShape, Alike> = Map::default();
        for (shape, live) in self.replicas.get(&ns).into_iter().flatten() {
            let alike = self.alike(ns, shape);
            add_pods(*live as i32, &alike, block);
            match shape.workload {
                Some((kind, name)) => {
                    let of = (kind, self.workload_name(kind, name));
                    self.count_workload(of, *live, &alike, &mut workloads);
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
        let workloads = self.details(workloads);
        if block.workload_details != workloads {
            block.workload_details = workloads;
        }
    }

    /// Counts the pods of a shape up or down by as many as have come or gone. Not where that is not all there is to
    /// it: what they carry may be worth something else, and the first pod of a workload in detail, and the last, may
    /// have it shown otherwise.
    pub(super) fn count_moved(
        &self,
        ns: Sym,
        (shape, moved): (&Arc<PodShape>, &i32),
        worths: &Dirty<(Sym, Sym)>,
        block: &mut NamespaceBlock,
    ) -> bool {
        if *moved == 0 {
            // one that no workload has made may have gone, and another come: each has its own name
            return shape.workload.is_some() || !self.in_detail(&self.alike(ns, shape));
        }
        let tokens = || self.named_tokens(ns, shape).into_iter();
        let moved_with = |account| worths.contains(&account);
        if !worths.is_empty() && tokens().chain([(ns, shape.account)]).any(moved_with) {
            return false;
        }
        let alike = self.alike(ns, shape);
        if self.in_detail(&alike) {
            let here = self.replicas.get(&ns).and_then(|here| here.get(shape));
            let now = here.copied().unwrap_or_default();
            if now == 0 || i64::from(now) == i64::from(*moved) {
                return false;
            }
            let Some((kind, name)) = shape.workload else {
                return false;
            };
            let (kind, name) = (self.names.text(kind), self.names.text(name));
            let Some(workload) = block.workload_details.find_mut((kind, name)) else {
                return false;
            };
            workload.pods = workload.pods.saturating_add_signed(*moved);
        }
        add_pods(*moved, &alike, block);
        true
    }

    /// Live pods that can take their node, by the worst token on it; before they have one, by their own.
    pub(super) fn node_escapes(&self, ns: Sym) -> ByLevel {
        let mut out = self.escapes.get(&ns).copied().unwrap_or_default();
        for (shape, unplaced) in self.unplaced.get(&ns).into_iter().flatten() {
            let (priority, status) = self.alike(ns, shape).level;
            out[priority as usize][status as usize] += unplaced;
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
    fn details(&self, workloads: Workloads) -> Shelves<WorkloadDetail> {
        let text = |sym: Sym| self.names.shared(sym);
        let workloads = workloads.into_iter();
        let details = workloads.map(|((kind, name), workload)| WorkloadDetail {
            kind: match kind {
                Sym::STAR => Arc::from("Pod"),
                kind => text(kind),
            },
            name: Arc::from(name.text(&self.names).to_string()),
            account: text(workload.account),
            priority: workload.worth.0,
            status: workload.worth.1,
            pods: workload.pods,
        });
        details.collect()
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
