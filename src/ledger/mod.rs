//! The ledger: slim interned rows of everything the judgement needs, one writer, incremental (pure).
//!
//! [`Ledger::apply`] takes [`Change`]s in and notes what they touch; [`Ledger::settle`] judges anew what
//! was touched, and what follows from it:
//!
//! ```text
//!  role ──> its bindings ──> their subjects ──> (fixpoint) ──> whose priority moved
//!    │           │                                                    │
//!    └───────────┴────────> namespaces to count anew <──── pods ──────┘
//! ```
//!
//! [`Ledger::snapshot`] hands out what is to be exported; unchanged namespaces are shared between
//! snapshots. Only the task that owns the ledger calls these; readers of a whole ledger (reports) see it
//! between two settled batches.

mod accepted;
mod alike;
mod change;
#[cfg(test)]
mod cost;
mod dependents;
mod details;
mod grants;
mod graph;
mod live;
mod names;
mod piece;
mod pod_counts;
mod pod_name;
mod pods;
mod policy;
mod query;
mod rows;
mod selfcheck;
mod settle;
mod shelves;
mod since;
#[cfg(test)]
mod stage;
mod subject_counts;
mod subjects;
mod table;
mod tally;
mod watch;

pub use accepted::{Proposal, Unmatched};
pub use change::{Change, FaultReason, ObjectRef, Problem, Severity, WatchEvent};
pub use details::{Detailed, Details};
pub use policy::Policy;
pub use query::{
    Allowed, Attributes, BindingFilter, BindingView, Cut, CutEntry, Evidence, ExplainedFinding,
    ExplainedStep, Explanation, Filter, FindingView, Grant, Listed, Order, PathStep, PodFilter,
    PodHas, PodView, Question, ReachedBy, RoleFilter, RoleView, SecretView, Slice, SubjectFilter,
    SubjectLine, SubjectView, TokenSource, TokenView, Verdict, Views, WorkloadLine,
};
pub use selfcheck::SelfCheck;
pub use shelves::{Blocks, Shelf, Shelves};
pub use tally::{
    AcceptedRisk, ByLevel, ByPriority, Judged, NamespaceBlock, RuleCount, Snapshot, SubjectDetail,
    WorkloadDetail,
};
pub use watch::WatchState;

use crate::object::{Binding, Object, Origin, Resource, Role, ServiceAccount, Subject};
use crate::rbac::{MASTERS, OLDEST, PackedRules, ServerVersion, shipped_roles};
use crate::risk::{Catalogue, Priority, To, secret_may_be_token_of};
use alike::AllAlike;
use dependents::Dependents;
use grants::{Counted, MovedGrants};
use names::{Names, Sym};
use piece::Piece;
use pod_name::PodName;
use rows::{
    AccountRow, AggregationRow, BindingRow, NamespaceRow, Oddities, PodRow, PodShape, RoleRow,
    SubjectKey, Times,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subject_counts::MovedSubjects;
use subjects::Subjects;
use table::{Map, Part, RowId, Table};

/// What the world behind the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// A live cluster: taken as it is.
    Cluster,
    /// Manifests: default roles that the input lacks are the shipped ones, aggregation is computed.
    Manifests,
}

/// What a ledger is set up with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cluster or manifests.
    pub world: World,
    /// The server's version until the source tells it.
    pub version: ServerVersion,
    /// Audiences that the API server accepts beside none at all (catalogue D.2).
    pub audiences: Vec<String>,
    /// For this long after the last live pod of an account has gone, edges through pods still lead to
    /// it, so that priorities do not flap with every rollout. Seconds.
    pub pod_grace: i64,
    /// Pods are not read at all (`--allow-partial pods`, contract §7): nothing is said of them, and an
    /// edge that needs a pod, or the account of one, is taken to be there.
    pub without_pods: bool,
}

impl Settings {
    /// The guess for clusters that do not tell.
    pub const DEFAULT_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

    /// The claim of an own token without audience names all that the API server accepts, so it takes
    /// the place of the guess; an empty one, of no token, does not.
    pub fn audiences_of_own_token(&mut self, claimed: Vec<String>) {
        if !claimed.is_empty() {
            self.audiences = claimed;
        }
    }

    /// With the default guesses.
    pub fn new(world: World, version: ServerVersion) -> Settings {
        Settings {
            world,
            version,
            audiences: vec![Settings::DEFAULT_AUDIENCE.to_owned()],
            pod_grace: 0,
            without_pods: false,
        }
    }
}

/// The problem that a judgement without pods always has.
const WITHOUT_PODS: &str = "pods are left out (--allow-partial pods): nothing is said of them, and \
     whatever may lead through a pod or its account is assumed to";

/// A set of row numbers or names, most of them waiting to be settled.
type Dirty<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

/// See the module. A clone is one moment of it, for whoever takes long: cheap, as it shares the tables until the writer moves something.
#[derive(Clone, Debug)]
pub struct Ledger {
    policy: Policy,
    /// The acceptances of the policy.
    accepted: Piece<accepted::Accepted>,
    settings: Settings,
    names: Piece<Names>,
    roles: Piece<Table<RoleRow>>,
    bindings: Piece<Table<BindingRow>>,
    accounts: Piece<Table<AccountRow>>,
    namespaces: Piece<Table<NamespaceRow>>,
    pods: Piece<Table<PodRow, PodName>>,
    subjects: Piece<Subjects>,
    /// Bindings by the role they refer to: kind ClusterRole, namespace, name.
    role_refs: Piece<Map<(bool, Sym, Sym), Vec<RowId>>>,
    /// Shapes of pods, shared between replicas, and how many have each.
    shapes: Piece<Map<Arc<PodShape>, u32>>,
    /// Live pods of each shape by namespace.
    replicas: Piece<Map<Sym, Map<Arc<PodShape>, u32>>>,
    /// Those of them that are on no node yet and will be able to take theirs.
    unplaced: Piece<Map<Sym, Map<Arc<PodShape>, u32>>>,
    /// Live pods that can take the node they are on, by the worst token there as last counted; by namespace.
    escapes: Piece<Map<Sym, ByLevel>>,
    /// Live pods that run as the account without its projected token, but for mirrors of static pods.
    running_bare: Piece<Map<(Sym, Sym), u32>>,
    /// Live pods that carry a projected API token of the account.
    carried: Piece<Map<(Sym, Sym), u32>>,
    /// Accounts whose last live pod has gone, each with the moment until which edges still lead there.
    lingering: Piece<Map<(Sym, Sym), i64>>,
    /// Live pods that receive the Secret.
    carried_secrets: Piece<Map<Sym, Map<Sym, u32>>>,
    /// Those of them that are somebody's legacy token by their name, by namespace and account.
    carried_by_name: Piece<Map<(Sym, Sym), Vec<Sym>>>,
    /// Accounts that list a Secret, by namespace, then Secret.
    secret_owners: Piece<Map<Sym, Map<Sym, Vec<Sym>>>>,
    /// Pods by node, with the number of live ones that can take it.
    nodes: Piece<Map<Sym, NodePods>>,
    /// Some aggregated ClusterRole picks roles without labels (manifests).
    takes_unlabelled: bool,
    /// The fixpoint, kept up to date.
    live: Piece<live::Live>,
    /// Subjects that acceptances answer for, in part or in whole: their status hangs on others too.
    answered: Piece<Dirty<RowId>>,
    /// Subjects of which it is not known since when they hold their priority: it has just changed, or no
    /// object tells.
    undated: Piece<Dirty<RowId>>,
    /// What the Roles of a namespace are to whoever may bind any, as far as it was asked since one of them moved.
    roles_reached: Reached,
    /// Whose judgement looks at other roles.
    dependents: Piece<Dependents>,
    /// Subjects judged so far, for tests of its growth.
    judged_subjects: u64,
    /// What ClusterRoles that look at other roles give in single namespaces where one that may be bound leads
    /// there.
    worth_in: Piece<Map<(RowId, Arc<str>), Priority>>,
    /// Roles and bindings whose managedFields do not tell when they changed, by resource.
    without_history: [u64; 7],
    /// Edges that lead to Group system:masters, which makes it a subject.
    masters_named: usize,
    watches: [WatchState; 7],
    /// Unreadable objects that the running relist has not named yet.
    bad_before: [BTreeSet<(String, String)>; 7],
    version_known: bool,
    problems: Vec<Problem>,
    skipped: BTreeMap<String, u64>,
    blocks: Blocks,
    counted: Piece<Counted>,
    alike: Piece<AllAlike>,
    rule_counts: tally::RuleCounts,
    accepted_risks: Arc<Vec<AcceptedRisk>>,
    last_judged: Arc<Judged>,
    generation: u64,
    /// The time of day, as the owner last told it; Unix seconds.
    now: i64,
    /// A settled batch has seen everything once: what rises from now on was watched.
    watching: bool,
    /// Rises seen by watching, by namespace and priority.
    escalations: BTreeMap<(Arc<str>, Priority), u64>,
    dirty: DirtySets,
}

/// What the Roles of a namespace are to whoever may bind any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AnyRole {
    /// What the strongest gives.
    strongest: Priority,
    /// Whom they lead to.
    reached: Arc<[To]>,
}

/// That by namespace; filled in by whoever asks, also for reading alone.
#[derive(Debug, Default)]
struct Reached(Mutex<Map<Sym, AnyRole>>);

impl Reached {
    fn known(&self) -> MutexGuard<'_, Map<Sym, AnyRole>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Reached {
    fn clone(&self) -> Reached {
        Reached(Mutex::new(self.known().clone()))
    }
}

#[derive(Clone, Debug, Default)]
struct NodePods {
    pods: Vec<RowId>,
    escapes: u32,
    /// Priority and status of the worst token on it, as last counted; of nodes that a pod can take.
    worst: (Priority, crate::risk::Status),
}

/// A live pod that came to a node or left it.
#[derive(Clone, Debug)]
struct Passed {
    node: Sym,
    namespace: Sym,
    shape: Arc<PodShape>,
    came: bool,
}

#[derive(Clone, Debug, Default)]
struct DirtySets {
    roles: Dirty<RowId>,
    aggregation: bool,
    /// Where some role's worth or existence may have moved, for those that look at other roles.
    dependents: Dirty<Sym>,
    bindings: Dirty<RowId>,
    subjects: Dirty<RowId>,
    /// Subjects whose status may differ.
    statuses: Dirty<RowId>,
    /// They may have come or gone.
    namespaces: Dirty<Sym>,
    /// What is counted in pods is to be counted anew.
    pods_in: Dirty<Sym>,
    /// Nothing but the number of live pods of these shapes, by as many.
    replicas: Map<Sym, Map<Arc<PodShape>, i32>>,
    /// Of these the tokens of pods may be those of others: nodes elsewhere may show it.
    tokens: Dirty<Sym>,
    /// The tokens of these accounts may be worth something else, the same; so are pods that carry them.
    worths: Dirty<(Sym, Sym)>,
    /// What these owe to groups alone may be something else.
    rests: Dirty<RowId>,
    /// Roles and bindings.
    grants: MovedGrants,
    counted_subjects: MovedSubjects,
    /// The worst token on these may be another.
    nodes: Dirty<Sym>,
    /// Live pods that came to a node or left it.
    passed: Vec<Passed>,
    /// Something moved that only since looks at.
    times: bool,
    /// A role, binding or account moved: what rises in this batch may owe it to that.
    rbac: bool,
    /// A pod, the rules or the version moved: so it may owe it to that.
    others: bool,
    /// The configuration moved or an acceptance ended: what is open now may owe it to that.
    policy: bool,
    everything: bool,
    health: bool,
    /// Something moved that subjects, that workloads in detail show.
    subject_details: bool,
    workload_details: bool,
    /// Rises were seen, or are told of no more.
    escalations: bool,
}

impl DirtySets {
    /// Something is to be counted anew.
    fn counts(&self) -> bool {
        let sets = [&self.namespaces, &self.pods_in, &self.nodes];
        !self.replicas.is_empty()
            || !self.grants.is_empty()
            || !self.counted_subjects.is_empty()
            || !self.worths.is_empty()
            || sets.iter().any(|set| !set.is_empty())
    }
}

impl Ledger {
    /// An empty one.
    pub fn new(policy: impl Into<Policy>, settings: Settings) -> Ledger {
        let policy = policy.into();
        let mut ledger = Ledger {
            rule_counts: tally::RuleCounts::new(policy.catalogue.rules.len()),
            accepted: accepted::Accepted::new(&policy.catalogue, &policy.accepted).into(),
            accepted_risks: AcceptedRisk::of(&policy.accepted),
            policy,
            settings,
            names: Piece::default(),
            roles: Piece::default(),
            bindings: Piece::default(),
            accounts: Piece::default(),
            namespaces: Piece::default(),
            pods: Piece::default(),
            subjects: Piece::default(),
            role_refs: Piece::default(),
            shapes: Piece::default(),
            replicas: Piece::default(),
            unplaced: Piece::default(),
            running_bare: Piece::default(),
            escapes: Piece::default(),
            carried: Piece::default(),
            lingering: Piece::default(),
            carried_secrets: Piece::default(),
            carried_by_name: Piece::default(),
            secret_owners: Piece::default(),
            nodes: Piece::default(),
            takes_unlabelled: false,
            live: Piece::default(),
            answered: Piece::default(),
            undated: Piece::default(),
            roles_reached: Reached::default(),
            dependents: Piece::default(),
            judged_subjects: 0,
            worth_in: Piece::default(),
            without_history: [0; 7],
            masters_named: 0,
            watches: Default::default(),
            bad_before: Default::default(),
            version_known: false,
            problems: Vec::new(),
            skipped: BTreeMap::new(),
            blocks: Blocks::default(),
            counted: Piece::default(),
            alike: Piece::default(),
            last_judged: Arc::default(),
            generation: 0,
            now: 0,
            watching: false,
            escalations: BTreeMap::new(),
            dirty: DirtySets::default(),
        };
        ledger.dirty.namespaces.insert(Sym::EMPTY);
        ledger.ship_roles();
        ledger
    }

    /// The rules in force.
    pub fn catalogue(&self) -> &Catalogue {
        &self.policy.catalogue
    }

    /// The server's version as assumed by the judgement.
    pub fn version(&self) -> ServerVersion {
        self.settings.version
    }

    /// What could not be read or understood: of manifests, and objects and resources of a cluster.
    pub fn problems(&self) -> Vec<Problem> {
        let mut out = self.problems.clone();
        if self.settings.without_pods {
            out.push(Problem {
                severity: Severity::Error,
                file: None,
                document: None,
                line: None,
                kind: Some(Resource::Pods.kind().to_owned()),
                namespace: None,
                name: None,
                message: WITHOUT_PODS.to_owned(),
            });
        }
        for (resource, watch) in Resource::ALL.into_iter().zip(&self.watches) {
            let problem = |namespace: &str, name: &str, message: String| Problem {
                severity: Severity::Error,
                file: None,
                document: None,
                line: None,
                kind: Some(resource.kind().to_owned()),
                namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
                name: (!name.is_empty()).then(|| name.to_owned()),
                message,
            };
            if watch.forbidden {
                let why = watch.fault.clone().unwrap_or_default();
                let what = format!("the API server refuses to list or watch them: {why}");
                out.push(problem("", "", what));
            }
            for ((namespace, name), message) in &watch.bad {
                out.push(problem(namespace, name, message.clone()));
            }
        }
        out
    }

    /// Objects of other kinds, by `apiVersion/kind`.
    pub fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }

    /// The watch of a resource.
    pub fn watch(&self, resource: Resource) -> &WatchState {
        &self.watches[resource as usize]
    }

    /// The resources that the source is to bring.
    pub fn watched(&self) -> impl Iterator<Item = Resource> {
        let without_pods = self.settings.without_pods;
        Resource::ALL
            .into_iter()
            .filter(move |r| !(without_pods && *r == Resource::Pods))
    }

    /// Every watched resource has synced once.
    pub fn synced(&self) -> bool {
        self.watched().all(|r| self.watch(r).synced)
    }

    /// Everything was read and decoded.
    pub fn complete(&self) -> bool {
        self.synced()
            && !self.settings.without_pods
            && self
                .watches
                .iter()
                .all(|w| w.bad.is_empty() && !w.forbidden)
            && !self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// Tells the time of day, Unix seconds. It never goes back.
    pub fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
        let now = self.now;
        let over: Vec<(Sym, Sym)> = self
            .lingering
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(k, _)| *k)
            .collect();
        for (namespace, account) in over {
            self.lingering.remove(&(namespace, account));
            self.touch_account(namespace, account);
            // edges that end raise nobody, so this is no cause to overlook what an event raises just now
        }
        for subject in self.accepted.ended(now) {
            self.acceptances_moved(&subject);
        }
    }

    /// Takes one change in. Nothing is judged before [`Ledger::settle`].
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(object) => self.upsert(object),
            Change::Delete(object) => self.delete(&object),
            Change::Bad { object, message } => self.bad(&object, message),
            Change::RelistBegin(resource) => {
                let part = part_of(resource);
                self.bad_before[resource as usize] = self.watches[resource as usize]
                    .bad
                    .keys()
                    .cloned()
                    .collect();
                match resource {
                    Resource::ClusterRoles | Resource::Roles => self.roles.begin(part),
                    Resource::ClusterRoleBindings | Resource::RoleBindings => {
                        self.bindings.begin(part);
                    }
                    Resource::ServiceAccounts => self.accounts.begin(part),
                    Resource::Pods => self.pods.begin(part),
                    Resource::Namespaces => self.namespaces.begin(part),
                }
                self.dirty.health = true;
            }
            Change::RelistEnd(resource) => {
                self.sweep(resource);
                let watch = &mut self.watches[resource as usize];
                watch.synced = true;
                for key in std::mem::take(&mut self.bad_before[resource as usize]) {
                    watch.bad.remove(&key);
                }
                self.dirty.health = true;
            }
            Change::Watch {
                resource,
                event,
                at,
            } => {
                self.watches[resource as usize].note(&event, at);
                self.dirty.health = true;
            }
            Change::Version(text) => {
                let version = text.as_deref().and_then(ServerVersion::parse);
                self.version_known = version.is_some();
                let version = version.unwrap_or(OLDEST);
                if version != self.settings.version {
                    self.settings.version = version;
                    self.dirty.everything = true;
                    self.dirty.others = true;
                }
            }
            Change::Problems(problems) => {
                self.problems = problems;
                self.dirty.health = true;
            }
            Change::Skipped(skipped) => {
                self.skipped = skipped;
                self.dirty.health = true;
            }
        }
    }

    fn upsert(&mut self, object: Object) {
        let resource = object.resource();
        let meta = object.meta();
        if !self.watches[resource as usize].bad.is_empty() {
            let key = (meta.namespace.clone(), meta.name.clone());
            if self.watches[resource as usize].bad.remove(&key).is_some() {
                self.dirty.health = true;
            }
        }
        self.note_cause(resource);
        let namespace = self.names.intern(&meta.namespace);
        if let Object::Pod(pod) = &object {
            let name = self.names.intern_pod(&meta.name);
            return self.put_pod(namespace, name, pod);
        }
        let name = self.names.intern(&meta.name);
        match object {
            Object::Role(role) => self.put_role(namespace, name, role, false),
            Object::Binding(binding) => self.put_binding(namespace, name, &binding),
            Object::ServiceAccount(account) => self.put_account(namespace, name, &account),
            Object::Pod(_) => {}
            Object::Namespace(object) => {
                let pod_security = object.pod_security.as_deref().map(|l| self.names.intern(l));
                self.namespaces
                    .put(namespace, name, NamespaceRow { pod_security });
                self.dirty.namespaces.insert(name);
            }
        }
    }

    fn delete(&mut self, object: &ObjectRef) {
        let key = (object.namespace.clone(), object.name.clone());
        if self.watches[object.resource as usize]
            .bad
            .remove(&key)
            .is_some()
        {
            self.dirty.health = true;
        }
        if let Some((namespace, name)) = self.row_key(object) {
            self.drop_row(object.resource, namespace, name);
        }
    }

    /// Namespace and name of an object as numbers, if there may be a row of it.
    fn row_key(&self, object: &ObjectRef) -> Option<(Sym, PodName)> {
        let name = match object.resource {
            Resource::Pods => self.names.pod(&object.name),
            _ => self.names.get(&object.name).map(PodName::whole),
        };
        Some((self.names.get(&object.namespace)?, name?))
    }

    fn bad(&mut self, object: &ObjectRef, message: String) {
        let key = (object.namespace.clone(), object.name.clone());
        self.bad_before[object.resource as usize].remove(&key);
        self.watches[object.resource as usize]
            .bad
            .insert(key, message);
        self.dirty.health = true;
        let Some((namespace, pod)) = self.row_key(object) else {
            return;
        };
        let name = pod.stem();
        match object.resource {
            Resource::ClusterRoles | Resource::Roles => self.roles.touch(namespace, name),
            Resource::ClusterRoleBindings | Resource::RoleBindings => {
                self.bindings.touch(namespace, name);
            }
            Resource::ServiceAccounts => self.accounts.touch(namespace, name),
            Resource::Pods => self.pods.touch(namespace, pod),
            Resource::Namespaces => self.namespaces.touch(namespace, name),
        }
    }

    fn sweep(&mut self, resource: Resource) {
        let part = part_of(resource);
        let gone = match resource {
            Resource::ClusterRoles | Resource::Roles => self.roles.unnamed(part),
            Resource::ClusterRoleBindings | Resource::RoleBindings => self.bindings.unnamed(part),
            Resource::ServiceAccounts => self.accounts.unnamed(part),
            Resource::Pods => {
                for (namespace, name) in self.pods.unnamed(part) {
                    self.drop_row(resource, namespace, name);
                }
                return;
            }
            Resource::Namespaces => self.namespaces.unnamed(part),
        };
        for (namespace, name) in gone {
            self.drop_row(resource, namespace, PodName::whole(name));
        }
    }

    fn note_cause(&mut self, resource: Resource) {
        match resource {
            Resource::Pods => self.dirty.others = true,
            Resource::Namespaces => {}
            _ => self.dirty.rbac = true,
        }
    }

    fn drop_row(&mut self, resource: Resource, namespace: Sym, pod: PodName) {
        self.note_cause(resource);
        let name = pod.stem();
        match resource {
            Resource::ClusterRoles | Resource::Roles => self.drop_role(namespace, name),
            Resource::ClusterRoleBindings | Resource::RoleBindings => {
                if let Some((id, row)) = self.bindings.remove(namespace, name) {
                    self.lacks_history(resource, row.times.without_history, false);
                    self.unlink_binding(id, namespace, &row);
                }
            }
            Resource::ServiceAccounts => self.drop_account(namespace, name),
            Resource::Pods => {
                if let Some((id, row)) = self.pods.remove(namespace, pod) {
                    self.unlink_pod(id, namespace, pod, &row);
                }
            }
            Resource::Namespaces => {
                self.namespaces.remove(namespace, name);
                self.dirty.namespaces.insert(name);
            }
        }
    }

    // === roles

    /// In manifests, the default roles are there until the input has its own.
    fn ship_roles(&mut self) {
        if self.settings.world != World::Manifests {
            return;
        }
        for role in shipped_roles(self.settings.version) {
            let namespace = self.names.intern(&role.meta.namespace);
            let name = self.names.intern(&role.meta.name);
            self.put_role(namespace, name, role.clone(), true);
        }
    }

    fn put_role(&mut self, namespace: Sym, name: Sym, role: Role, shipped: bool) {
        let cluster = namespace == Sym::EMPTY;
        let resource = match cluster {
            true => Resource::ClusterRoles,
            false => Resource::Roles,
        };
        let always = matches!(role.meta.name.as_str(), "admin" | "edit" | "view");
        let rules = self.alike.packed.share(PackedRules::pack(&role.rules));
        let mut row = RoleRow {
            rules,
            reaches: Arc::default(),
            compiled: false,
            aggregated: cluster && (role.aggregation.is_some() || always),
            aggregation: None,
            shipped,
            times: Times::of(&role.meta, self.now),
            transient: role.meta.transient,
            origin: role.meta.origin.map(Box::new),
            gives: Default::default(),
            wildcards: Box::default(),
            depends: false,
            leads: false,
        };
        if self.settings.world == World::Manifests
            && cluster
            && (!role.labels.is_empty() || role.aggregation.is_some())
        {
            row.aggregation = Some(Box::new(AggregationRow {
                labels: role.labels,
                selectors: role.aggregation,
                written: role.rules,
            }));
        }
        if let Some(old) = self
            .roles
            .find(namespace, name)
            .and_then(|id| self.roles.get(id))
        {
            // only labels, annotations or times moved: the most frequent edit of all costs nothing
            let same = old.rules == row.rules
                && old.aggregated == row.aggregated
                && old.shipped == row.shipped;
            row.reaches = old.reaches.clone();
            row.compiled = old.compiled;
            row.gives = old.gives;
            row.wildcards = old.wildcards.clone();
            row.depends = old.depends;
            row.leads = old.leads;
            let aggregates = row.aggregation.is_some()
                || old.aggregation.is_some()
                || (cluster && self.takes_unlabelled);
            let retimed = old.times != row.times;
            let before = old.lacks_history();
            let now = row.lacks_history();
            let (id, _) = self.roles.put(namespace, name, row);
            self.role_stirred(id);
            self.lacks_history(resource, before, now);
            self.dirty.aggregation |= aggregates;
            if !same {
                self.dirty.roles.insert(id);
            } else if retimed {
                self.dirty.times = true;
                self.role_moved(namespace, name);
            }
        } else {
            self.dirty.aggregation |=
                row.aggregation.is_some() || (cluster && self.takes_unlabelled);
            self.lacks_history(resource, false, row.lacks_history());
            let (id, _) = self.roles.put(namespace, name, row);
            self.role_stirred(id);
            self.dirty.roles.insert(id);
        }
    }

    /// An object of the resource lacked its history, and lacks it now.
    fn lacks_history(&mut self, resource: Resource, before: bool, now: bool) {
        let count = &mut self.without_history[resource as usize];
        *count = *count + u64::from(now) - u64::from(before);
    }

    fn drop_role(&mut self, namespace: Sym, name: Sym) {
        let Some(id) = self.roles.find(namespace, name) else {
            return;
        };
        if self.roles.get(id).is_some_and(|r| r.shipped) {
            self.roles.touch(namespace, name);
            return;
        }
        let text = (self.names.shared(namespace), self.names.shared(name));
        let default = (self.settings.world == World::Manifests)
            .then(|| {
                shipped_roles(self.settings.version)
                    .iter()
                    .find(|r| *r.meta.namespace == *text.0 && *r.meta.name == *text.1)
            })
            .flatten();
        if let Some(role) = default {
            self.put_role(namespace, name, role.clone(), true);
            return;
        }
        if let Some((id, row)) = self.roles.remove(namespace, name) {
            let resource = match namespace {
                Sym::EMPTY => Resource::ClusterRoles,
                _ => Resource::Roles,
            };
            self.lacks_history(resource, row.lacks_history(), false);
            self.dirty.roles.remove(&id);
            if row.depends {
                self.dependents.roles.remove(&id);
            }
            self.dirty.aggregation |=
                row.aggregation.is_some() || (namespace == Sym::EMPTY && self.takes_unlabelled);
            self.dirty.dependents.insert(namespace);
            self.role_out(namespace, id);
            self.role_moved(namespace, name);
        }
    }

    /// Whatever refers to this role must be judged anew.
    fn role_moved(&mut self, namespace: Sym, name: Sym) {
        let cluster = namespace == Sym::EMPTY;
        if let Some(bindings) = self.role_refs.get(&(cluster, namespace, name)) {
            self.dirty.bindings.extend(bindings.iter().copied());
        }
        if let Some(id) = self.roles.find(namespace, name) {
            self.role_stirred(id);
        }
    }

    // === bindings

    fn subject_key(&mut self, subject: &Subject) -> Option<SubjectKey> {
        Some(match subject {
            Subject::Group { name } => SubjectKey::Group(self.names.intern(name)),
            Subject::User { name } => SubjectKey::User(self.names.intern(name)),
            // an account without a namespace matches nobody
            Subject::ServiceAccount { namespace, .. } if namespace.is_empty() => return None,
            Subject::ServiceAccount { namespace, name } => {
                SubjectKey::Account(self.names.intern(namespace), self.names.intern(name))
            }
        })
    }

    fn put_binding(&mut self, namespace: Sym, name: Sym, binding: &Binding) {
        let mut nobody = Vec::new();
        let mut subjects = Vec::with_capacity(binding.subjects.len());
        for (at, subject) in binding.subjects.iter().enumerate() {
            match self.subject_key(subject) {
                Some(key) => subjects.push(key),
                None => nobody.push(at as u32),
            }
        }
        let subjects: Box<[SubjectKey]> = subjects.into();
        let spellings = binding.spellings.as_deref().cloned().unwrap_or_default();
        let odd = !nobody.is_empty() || !spellings.0.is_empty();
        let row = BindingRow {
            oddities: odd.then(|| Box::new(Oddities { spellings, nobody })),
            cluster_role: binding.role.cluster,
            role: self.names.intern(&binding.role.name),
            subjects,
            times: Times::of(&binding.meta, self.now),
            transient: binding.meta.transient,
            origin: binding.meta.origin.clone().map(Box::new),
        };
        let known = self.bindings.find(namespace, name);
        let known = known.and_then(|id| Some((id, self.bindings.get(id)?)));
        let resource = match namespace {
            Sym::EMPTY => Resource::ClusterRoleBindings,
            _ => Resource::RoleBindings,
        };
        let before = known.is_some_and(|(_, old)| old.times.without_history);
        let now = row.times.without_history;
        if let Some((id, old)) = known
            && old.cluster_role == row.cluster_role
            && old.role == row.role
            && old.subjects == row.subjects
        {
            if old.times != row.times {
                self.dirty.times = true;
                self.dirty.bindings.insert(id);
            }
            self.bindings.put(namespace, name, row);
            self.lacks_history(resource, before, now);
            self.grant_stirred(id);
            return;
        }
        let linked = row.clone();
        let (id, old) = self.bindings.put(namespace, name, row);
        self.lacks_history(resource, before, now);
        if let Some(old) = old {
            self.unlink_binding(id, namespace, &old);
        }
        let reference = self.reference(namespace, linked.cluster_role, linked.role);
        self.role_refs.entry(reference).or_default().push(id);
        for key in &linked.subjects {
            let (subject, new) = self.subjects.ensure(*key);
            if new {
                self.subject_came(subject, *key);
            }
            if let Some(row) = self.subjects.get_mut(subject)
                && !row.bindings.contains(&id)
            {
                row.bindings.push(id);
            }
        }
        self.dirty.bindings.insert(id);
        self.grant_stirred(id);
    }

    fn reference(&self, namespace: Sym, cluster_role: bool, role: Sym) -> (bool, Sym, Sym) {
        (
            cluster_role,
            if cluster_role { Sym::EMPTY } else { namespace },
            role,
        )
    }

    fn unlink_binding(&mut self, id: RowId, namespace: Sym, row: &BindingRow) {
        self.dirty.bindings.remove(&id);
        let reference = self.reference(namespace, row.cluster_role, row.role);
        if let Some(list) = self.role_refs.get_mut(&reference) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.role_refs.remove(&reference);
            }
        }
        for key in &row.subjects {
            let Some(subject) = self.subjects.find(*key) else {
                continue;
            };
            if let Some(row) = self.subjects.get_mut(subject) {
                row.bindings.retain(|b| *b != id);
            }
            self.subject_and_members_moved(*key);
            self.release_subject(subject);
        }
        self.binding_out(namespace, id);
        if let Some(role) = self.roles.find(reference.1, reference.2) {
            self.role_stirred(role);
        }
    }

    // === subjects

    /// A subject that nothing names any more goes.
    fn release_subject(&mut self, id: RowId) {
        let Some(row) = self.subjects.get(id) else {
            return;
        };
        if !row.bindings.is_empty() {
            return;
        }
        let stays = match row.key {
            SubjectKey::Account(namespace, name) => self.accounts.find(namespace, name).is_some(),
            SubjectKey::Group(name) => self.masters_named > 0 && *self.names.text(name) == *MASTERS,
            SubjectKey::User(_) => false,
        };
        if stays {
            return;
        }
        let key = row.key;
        self.forget_judgement(id);
        self.dirty.subjects.remove(&id);
        self.token_gone(key);
        self.remove_subject(id);
    }

    /// What was taken for its token, by the name of a Secret that nobody lists, is nobody's.
    fn token_gone(&mut self, key: SubjectKey) {
        let SubjectKey::Account(namespace, name) = key else {
            return;
        };
        if self.carried_by_name.contains_key(&(namespace, name)) {
            self.dirty.tokens.insert(namespace);
        }
    }

    /// Tokens of the subject, if it is an account, may be worth something else.
    fn worth_moved(&mut self, key: SubjectKey) {
        // before anything has been counted, all of it is to be
        if let SubjectKey::Account(namespace, name) = key
            && !self.blocks.is_empty()
        {
            self.dirty.worths.insert((namespace, name));
        }
    }

    /// A subject is new.
    fn subject_came(&mut self, id: RowId, key: SubjectKey) {
        self.subject_stirred(id);
        self.worth_moved(key);
        self.account_turned(key);
    }

    /// Takes a subject out, whose judgement is out of the counts already.
    fn remove_subject(&mut self, id: RowId) {
        self.subject_out(id);
        if let Some(row) = self.subjects.get(id) {
            let key = row.key;
            self.live.gone(id, row);
            if row.depends.get().is_some() {
                self.dependents.subject(id, row.depends.get(), None);
            }
            self.worth_moved(key);
            self.account_turned(key);
        }
        self.subjects.remove(id);
        self.answered.remove(&id);
    }

    // === service accounts

    fn put_account(&mut self, namespace: Sym, name: Sym, account: &ServiceAccount) {
        let secrets: Box<[Sym]> = account
            .secrets
            .iter()
            .map(|s| self.names.intern(s))
            .collect();
        let row = AccountRow {
            secrets: secrets.clone(),
            created: account.meta.created,
        };
        let created = row.created;
        let (_, old) = self.accounts.put(namespace, name, row);
        self.dirty.times |= old.as_ref().is_some_and(|o| o.created != created);
        let before = old.as_ref().map(|o| o.secrets.clone()).unwrap_or_default();
        self.list_secrets(namespace, name, &before, &secrets);
        let (id, new) = self.subjects.ensure(SubjectKey::Account(namespace, name));
        if let Some(row) = self.subjects.get_mut(id) {
            if new || !row.exists {
                self.live.touch(id);
            }
            row.exists = true;
        }
        if new {
            self.subject_came(id, SubjectKey::Account(namespace, name));
            self.dirty.subjects.insert(id);
        } else if old.is_none() {
            self.account_turned(SubjectKey::Account(namespace, name));
        }
        if old.is_none() {
            self.subject_row_exists(id, true);
            self.bindings_of_subject_moved(id);
        }
    }

    fn drop_account(&mut self, namespace: Sym, name: Sym) {
        let Some((_, row)) = self.accounts.remove(namespace, name) else {
            return;
        };
        self.list_secrets(namespace, name, &row.secrets, &[]);
        self.touch_account(namespace, name);
        self.account_turned(SubjectKey::Account(namespace, name));
        if let Some(id) = self.subjects.find(SubjectKey::Account(namespace, name)) {
            self.subject_row_exists(id, false);
            self.bindings_of_subject_moved(id);
            self.release_subject(id);
        }
    }

    fn subject_row_exists(&mut self, id: RowId, exists: bool) {
        if let Some(row) = self.subjects.get_mut(id) {
            row.exists = exists;
        }
    }

    /// Bindings that name the account count as dangling or not.
    fn bindings_of_subject_moved(&mut self, id: RowId) {
        let Some(row) = self.subjects.get(id) else {
            return;
        };
        for binding in row.bindings.clone() {
            self.binding_stirred(binding);
        }
    }

    fn list_secrets(&mut self, namespace: Sym, account: Sym, before: &[Sym], now: &[Sym]) {
        if before == now {
            return;
        }
        let here = self.secret_owners.entry(namespace).or_default();
        for secret in before {
            if let Some(owners) = here.get_mut(secret) {
                owners.retain(|o| *o != account);
                if owners.is_empty() {
                    here.remove(secret);
                }
            }
        }
        for secret in now {
            let owners = here.entry(*secret).or_default();
            if !owners.contains(&account) {
                owners.push(account);
                // whichever came first must not decide which account a workload shows
                let names = &self.names;
                owners.sort_by(|a, b| names.text(*a).cmp(names.text(*b)));
            }
        }
        if here.is_empty() {
            self.secret_owners.remove(&namespace);
        }
        for secret in before.iter().chain(now) {
            // a Secret that nobody lists is guessed by its name
            let guess = secret_may_be_token_of(self.names.text(*secret));
            if let Some(guess) = guess.and_then(|name| self.names.get(name)) {
                self.touch_account(namespace, guess);
            }
        }
        self.touch_account(namespace, account);
        self.live.secrets_moved(namespace);
        let carried = self.carried_secrets.get(&namespace);
        let carried = |secret| carried.is_some_and(|here| here.contains_key(secret));
        // a pod that has just come or gone is counted by what it carried then
        let moved = self.dirty.replicas.contains_key(&namespace);
        if moved || before.iter().chain(now).any(carried) {
            self.dirty.tokens.insert(namespace);
            self.dirty.pods_in.insert(namespace);
            self.live.owners_moved();
        }
    }

    /// A subject came or went, or its account did: sets may have it, or no longer, to which no key of it leads. None
    /// has it while no pod carries its token and nobody in its namespace lists a Secret.
    fn account_turned(&mut self, key: SubjectKey) {
        let SubjectKey::Account(namespace, name) = key else {
            return;
        };
        if self.secret_owners.contains_key(&namespace) {
            self.live.secrets_moved(namespace);
        }
        if self.may_be_carried(namespace, name) {
            self.live.tokens_moved();
        }
    }

    /// Where an object of the input stands.
    fn origin_of(origin: &Option<Box<Origin>>) -> Option<&Origin> {
        origin.as_deref()
    }

    /// Names of subjects, roles and namespaces of a set of rows, for the collector of names.
    fn collect_names(&mut self) {
        if !self.names.crowded() {
            return;
        }
        let mut names = std::mem::take(&mut self.names);
        names.collect(|mark| {
            for (_, ns, name, _) in self.roles.iter() {
                mark(ns);
                mark(name);
            }
            for (_, ns, name, row) in self.bindings.iter() {
                [ns, name, row.role].into_iter().for_each(&mut *mark);
                row.subjects.iter().for_each(|k| key_names(*k, mark));
            }
            for (_, ns, name, row) in self.accounts.iter() {
                mark(ns);
                mark(name);
                row.secrets.iter().for_each(|s| mark(*s));
            }
            for (_, ns, name, row) in self.namespaces.iter() {
                mark(ns);
                mark(name);
                row.pod_security.into_iter().for_each(&mut *mark);
            }
            for (_, ns, name, row) in self.pods.iter() {
                [ns, name.stem(), row.node].into_iter().for_each(&mut *mark);
            }
            for shape in self.shapes.keys() {
                mark(shape.account);
                shape.workload.iter().for_each(|(k, n)| {
                    mark(*k);
                    mark(*n);
                });
                shape
                    .tokens
                    .iter()
                    .flat_map(|t| t.containers.iter())
                    .for_each(|c| mark(*c));
                for secret in &shape.secrets {
                    mark(secret.name);
                    secret.containers.iter().for_each(|c| mark(*c));
                }
            }
            let expected = self.carried_by_name.keys();
            for (namespace, account) in self.lingering.keys().chain(expected) {
                mark(*namespace);
                mark(*account);
            }
            let reached = self.roles_reached.known();
            reached.keys().for_each(|ns| mark(*ns));
            self.dependents.namespaces().for_each(&mut *mark);
            for (_, row) in self.subjects.iter() {
                key_names(row.key, mark);
                for edge in &row.edges {
                    mark(edge.scope);
                    rows_to_names(edge.to, mark);
                    if let Some(gate) = edge.gate {
                        rows_to_names(gate, mark);
                    }
                }
            }
        });
        self.names = names;
    }
}

fn key_names(key: SubjectKey, mark: &mut dyn FnMut(Sym)) {
    match key {
        SubjectKey::Group(name) | SubjectKey::User(name) => mark(name),
        SubjectKey::Account(namespace, name) => {
            mark(namespace);
            mark(name);
        }
    }
}

fn rows_to_names(to: rows::ToKey, mark: &mut dyn FnMut(Sym)) {
    use rows::ToKey as T;
    match to {
        T::Accounts(a)
        | T::Identities(a)
        | T::User(a)
        | T::Group(a)
        | T::PodTokens(a)
        | T::OwnNodeTokens(a)
        | T::SecretOwners(a)
        | T::Reaim(a) => mark(a),
        T::Account(a, b)
        | T::Identity(a, b)
        | T::PodTokensOf(a, b)
        | T::NodeTokens(a, b)
        | T::SecretOwnersOf(a, b)
        | T::ReaimOf(a, b) => {
            mark(a);
            mark(b);
        }
    }
}

/// Counts up or down; true when the count became or ceased to be zero.
fn count<K: std::hash::Hash + Eq>(map: &mut Map<K, u32>, key: K, up: bool) -> bool {
    if up {
        let n = map.entry(key).or_default();
        *n += 1;
        return *n == 1;
    }
    match map.get_mut(&key) {
        Some(n) if *n > 1 => {
            *n -= 1;
            false
        }
        Some(_) => {
            map.remove(&key);
            true
        }
        None => false,
    }
}

fn part_of(resource: Resource) -> Part {
    match resource {
        Resource::ClusterRoles | Resource::ClusterRoleBindings | Resource::Namespaces => {
            Part::Cluster
        }
        Resource::Roles | Resource::RoleBindings | Resource::ServiceAccounts | Resource::Pods => {
            Part::Namespaced
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use super::stage::{NOW, Stage};
    use crate::object::{Phase, Resource};
    use crate::risk::{Priority, Status};

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

    /// Which of four pods, for the audiences of a cloud, of the guess and of none, are hot.
    fn hot(claimed: &[&str]) -> Vec<&'static str> {
        let mut s = Stage::with(|settings| {
            settings.audiences_of_own_token(claimed.iter().map(|a| (*a).to_owned()).collect());
        });
        s.role("admin", &["* | * | *"], &[]);
        let mut hot = Vec::new();
        for (name, audience) in [
            ("cloud", Some("https://issuer.example")),
            ("guess", Some(Settings::DEFAULT_AUDIENCE)),
            ("vault", Some("vault")),
            ("none", None),
        ] {
            s.account(&format!("{name}/strong"), 0);
            let to = format!("sa:{name}/strong");
            s.bind(name, "admin", &[&to], &[]);
            s.pod_for(&format!("{name}/p"), "strong", audience, Phase::Running);
            s.settle();
            let block = s.ledger.blocks.get(name).expect("a block").clone();
            let n = block.hot_pods[Priority::Critical as usize][Status::Open as usize];
            if n == 1 {
                hot.push(name);
            }
        }
        hot
    }

    #[test]
    fn x7_the_own_token_tells_which_audiences_are_accepted() {
        assert_eq!(hot(&[]), ["guess", "none"]);
        assert_eq!(hot(&["https://issuer.example"]), ["cloud", "none"]);
        let both = ["https://issuer.example", Settings::DEFAULT_AUDIENCE];
        assert_eq!(hot(&both), ["cloud", "guess", "none"]);
    }
}
