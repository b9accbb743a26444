//! A cluster that does not exist, of any size: the same objects in every run, each as a real API server
//! serialises it. Benchmarks and tests share it.
//!
//! [`Cluster::new`] lays the cluster out (which workload lies where, which account is bound to what, power laws
//! throughout) in a few bytes per pod; an object's JSON, 5 to 12 kB of a pod, is written when it is asked for.
//! Three things are fed with it: [`standin`], a server that the exporter and its peers list and watch;
//! [`manifests`], files; and [`etcd`], a real API server.

mod pods;
mod rbac;
mod template;

pub(crate) mod etcd;
pub(crate) mod manifests;
pub(crate) mod standin;

use pods::{MIX, Shape};
use rbac::{Defaults, RULES};
use rbac_exporter::object::Resource;
use template::{Blanks, Template, dice, hex, moment, skewed, uid};

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) pods: usize,
    /// Bindings of both kinds, beside those that a server creates at its start.
    pub(crate) bindings: usize,
    /// Roles and cluster roles, likewise.
    pub(crate) roles: usize,
    pub(crate) namespaces: usize,
}

impl Size {
    /// The largest that is promised.
    pub(crate) const FULL: Size = Size {
        pods: 150_000,
        bindings: 20_000,
        roles: 10_000,
        namespaces: 2_000,
    };

    /// A cluster of so many pods, the rest in the proportions of the full size.
    pub(crate) fn of_pods(pods: usize) -> Size {
        let part = |full: usize| (full * pods / Size::FULL.pods).max(8);
        Size {
            pods,
            bindings: part(Size::FULL.bindings),
            roles: part(Size::FULL.roles),
            namespaces: part(Size::FULL.namespaces),
        }
    }
}

const FIRST_NAMESPACES: [&str; 6] = [
    "kube-system",
    "default",
    "kube-public",
    "kube-node-lease",
    "monitoring",
    "istio-system",
];
const TEAMS: [&str; 16] = [
    "payments", "checkout", "search", "identity", "catalog", "shipping", "pricing", "fraud",
    "growth", "data", "ml", "platform", "mobile", "partner", "support", "billing",
];
const APPS: [&str; 24] = [
    "api",
    "gateway",
    "worker",
    "scheduler",
    "consumer",
    "frontend",
    "indexer",
    "cache",
    "notifier",
    "exporter",
    "controller",
    "reconciler",
    "importer",
    "ledger",
    "session",
    "profile",
    "recommender",
    "translator",
    "webhook",
    "proxy",
    "archiver",
    "auditor",
    "planner",
    "router",
];
/// DaemonSets of `kube-system`, one pod on every node each.
const AGENTS: [&str; 3] = ["node-agent", "csi-node", "log-collector"];
const PODS_PER_NODE: usize = 40;
const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Clone, Copy, Debug)]
struct Workload {
    shape: Shape,
    namespace: u32,
    /// Index of its account.
    account: u32,
    /// The first of its pods; they end where the next one's begin.
    first: u32,
}

/// An account: the default one of its namespace, or a workload's own.
#[derive(Clone, Copy, Debug)]
struct Account {
    namespace: u32,
    workload: Option<u32>,
}

/// How an object is now: which of its successive selves, and in what state a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edition {
    /// A pod of another edition has another name; a role of another edition has other rules.
    pub(crate) number: u32,
    /// Resource version.
    pub(crate) version: u64,
    pub(crate) stage: Stage,
}

/// Where in its life a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Created, on no node yet.
    Pending,
    /// On a node, not yet running.
    Placed,
    /// As most are: running, or done in the case of a job.
    #[default]
    Settled,
    /// Deletion was asked for.
    Leaving,
}

/// The layout of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) size: Size,
    workloads: Vec<Workload>,
    accounts: Vec<Account>,
    /// Where each namespace's accounts begin, in namespace order.
    accounts_of: Vec<u32>,
    cluster_roles: usize,
    cluster_bindings: usize,
    defaults: Defaults,
    shapes: Vec<(Shape, Template)>,
    roles: Vec<Template>,
}

const SEED: u64 = 0x7222;
/// Streams of dice, one for each question.
mod roll {
    pub(super) const WORKLOAD: u64 = 1 << 40;
    pub(super) const ROLE: u64 = 2 << 40;
    pub(super) const BINDING: u64 = 3 << 40;
    pub(super) const SUBJECT: u64 = 4 << 40;
    pub(super) const POD: u64 = 5 << 40;
    pub(super) const UID: u64 = 6 << 40;
}

impl Cluster {
    /// Lays out a cluster.
    pub(crate) fn new(size: Size) -> Cluster {
        let mut workloads = Vec::new();
        let mut first = 0;
        let nodes = (size.pods / PODS_PER_NODE).max(1);
        for _ in AGENTS.iter().take_while(|_| size.pods > 200) {
            workloads.push((Shape::Agent, 0, first));
            first += nodes;
        }
        while first < size.pods {
            let number = workloads.len() as u64;
            let at = |k: u64| dice(SEED, roll::WORKLOAD + 4 * number + k);
            let namespace = skewed(at(0), size.namespaces, 3);
            let shape = MIX[at(1) as usize % MIX.len()];
            workloads.push((shape, namespace as u32, first));
            // One replica in the median, nine on average, forty at the most.
            first += 1 + skewed(at(2), 40, 4);
        }

        // Half of the workloads and all agents have an account of their own.
        let mut accounts: Vec<Account> = (0..size.namespaces as u32)
            .map(|namespace| Account {
                namespace,
                workload: None,
            })
            .collect();
        for (number, (shape, namespace, _)) in workloads.iter().enumerate() {
            if *shape == Shape::Agent
                || dice(SEED, roll::WORKLOAD + 4 * number as u64 + 3).is_multiple_of(2)
            {
                accounts.push(Account {
                    namespace: *namespace,
                    workload: Some(number as u32),
                });
            }
        }
        accounts.sort_by_key(|account| (account.namespace, account.workload));
        let mut accounts_of = Vec::with_capacity(size.namespaces + 1);
        let mut own = vec![None; workloads.len()];
        for (index, account) in accounts.iter().enumerate() {
            match account.workload {
                None => accounts_of.push(index as u32),
                Some(workload) => own[workload as usize] = Some(index as u32),
            }
        }
        accounts_of.push(accounts.len() as u32);
        let workloads = workloads
            .into_iter()
            .zip(own)
            .map(|((shape, namespace, first), own)| Workload {
                shape,
                namespace,
                account: own.unwrap_or(accounts_of[namespace as usize]),
                first: first as u32,
            })
            .collect();
        let all = MIX.iter().copied().chain([Shape::Agent]);
        let mut shapes: Vec<(Shape, Template)> = Vec::new();
        for shape in all {
            if shapes.iter().all(|(known, _)| *known != shape) {
                shapes.push((shape, shape.template()));
            }
        }
        Cluster {
            size,
            workloads,
            accounts,
            accounts_of,
            cluster_roles: size.roles * 15 / 100,
            cluster_bindings: size.bindings * 6 / 100,
            defaults: Defaults::read(),
            shapes,
            roles: RULES.iter().map(|rules| Template::new(rules)).collect(),
        }
    }

    /// How many slots a resource has: one for each object that is there at first, the server's own before
    /// the others.
    pub(crate) fn count(&self, resource: Resource) -> usize {
        let own = match resource {
            Resource::Namespaces => return self.size.namespaces,
            Resource::Pods => return self.size.pods,
            Resource::ServiceAccounts => {
                return self.accounts.len() + self.defaults.accounts.len();
            }
            Resource::ClusterRoles => self.cluster_roles,
            Resource::Roles => self.size.roles - self.cluster_roles,
            Resource::ClusterRoleBindings => self.cluster_bindings,
            Resource::RoleBindings => self.size.bindings - self.cluster_bindings,
        };
        own + self.shipped(resource)
    }

    /// How many of them every server has from its start.
    pub(crate) fn shipped(&self, resource: Resource) -> usize {
        let objects = self.defaults.objects.iter();
        objects
            .filter(|object| object.kind == resource.kind())
            .count()
    }

    /// The slot of the kth Role to be edited, of all that there are but the server's own.
    pub(crate) fn role_to_edit(&self, k: usize) -> usize {
        let own = self.shipped(Resource::Roles);
        own + k * 211 % (self.count(Resource::Roles) - own)
    }

    /// Writes the object in a slot as it stands in a list: JSON without `kind` and `apiVersion`.
    pub(crate) fn item(
        &self,
        resource: Resource,
        slot: usize,
        edition: Edition,
        out: &mut Vec<u8>,
    ) {
        let shipped = self.shipped(resource);
        match resource {
            Resource::Namespaces => self.namespace(slot, edition, out),
            Resource::ServiceAccounts => self.service_account(slot, edition, out),
            Resource::Pods => self.pod(slot, edition, out),
            _ if slot < shipped => self.default_object(resource, slot, edition, out),
            Resource::ClusterRoles => self.role(slot - shipped, edition, out),
            Resource::Roles => self.role(self.cluster_roles + slot - shipped, edition, out),
            Resource::ClusterRoleBindings => self.binding(slot - shipped, edition, out),
            Resource::RoleBindings => {
                self.binding(self.cluster_bindings + slot - shipped, edition, out);
            }
        }
    }

    /// Writes the object in a slot as a watch and a file have it, with `kind` and `apiVersion`.
    pub(crate) fn object(
        &self,
        resource: Resource,
        slot: usize,
        edition: Edition,
        out: &mut Vec<u8>,
    ) {
        let (kind, version) = (resource.kind(), api_version(resource));
        out.extend_from_slice(
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",").as_bytes(),
        );
        let brace = out.len();
        self.item(resource, slot, edition, out);
        out.remove(brace);
    }

    // === names

    /// Name of a namespace.
    pub(crate) fn namespace_name(number: usize) -> String {
        match FIRST_NAMESPACES.get(number) {
            Some(name) => (*name).to_owned(),
            None => format!(
                "{}-{}-{number}",
                TEAMS[number % TEAMS.len()],
                ["prod", "staging", "dev"][number / 7 % 3]
            ),
        }
    }

    fn app(&self, workload: usize) -> String {
        match AGENTS
            .get(workload)
            .filter(|_| self.workloads[workload].shape == Shape::Agent)
        {
            Some(agent) => (*agent).to_owned(),
            None => {
                let team = TEAMS[self.workloads[workload].namespace as usize % TEAMS.len()];
                format!("{team}-{}-{workload}", APPS[workload % APPS.len()])
            }
        }
    }

    fn account_name(&self, account: usize) -> String {
        match self.accounts[account].workload {
            None => "default".to_owned(),
            Some(workload) => self.app(workload as usize),
        }
    }

    // === objects

    fn namespace(&self, slot: usize, edition: Edition, out: &mut Vec<u8>) {
        let name = Cluster::namespace_name(slot);
        let Stamp { uid, time, version } = stamp(Resource::Namespaces, slot, edition);
        let level = ["privileged", "baseline", "restricted"][slot % 3];
        out.extend_from_slice(format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"{time}","labels":{{"kubernetes.io/metadata.name":"{name}","pod-security.kubernetes.io/enforce":"{level}","team":"{}"}},"annotations":{{"example.com/cost-center":"{}"}},"managedFields":[{{"manager":"argocd-controller","operation":"Apply","apiVersion":"v1","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{"f:example.com/cost-center":{{}}}},"f:labels":{{"f:pod-security.kubernetes.io/enforce":{{}},"f:team":{{}}}}}}}}}}]}},"spec":{{"finalizers":["kubernetes"]}},"status":{{"phase":"Active"}}}}"#,
            TEAMS[slot % TEAMS.len()],
            1000 + slot % 97
        ).as_bytes());
    }

    fn service_account(&self, slot: usize, edition: Edition, out: &mut Vec<u8>) {
        let Stamp { uid, time, version } = stamp(Resource::ServiceAccounts, slot, edition);
        let (namespace, name, bare) = match slot.checked_sub(self.accounts.len()) {
            Some(own) => {
                let (namespace, name) = self.defaults.accounts[own].clone();
                (namespace, name, true)
            }
            None => {
                let account = self.accounts[slot];
                let namespace = Cluster::namespace_name(account.namespace as usize);
                (
                    namespace,
                    self.account_name(slot),
                    account.workload.is_none(),
                )
            }
        };
        let more = if bare {
            String::new()
        } else {
            format!(
                r#","labels":{{"app.kubernetes.io/instance":"{name}","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"{name}","helm.sh/chart":"service-4.2.1"}},"annotations":{{"eks.amazonaws.com/role-arn":"arn:aws:iam::123456789012:role/{namespace}-{name}","meta.helm.sh/release-name":"{name}","meta.helm.sh/release-namespace":"{namespace}"}},"managedFields":[{{"manager":"helm","operation":"Update","apiVersion":"v1","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:eks.amazonaws.com/role-arn":{{}},"f:meta.helm.sh/release-name":{{}},"f:meta.helm.sh/release-namespace":{{}}}},"f:labels":{{".":{{}},"f:app.kubernetes.io/instance":{{}},"f:app.kubernetes.io/managed-by":{{}},"f:app.kubernetes.io/name":{{}},"f:helm.sh/chart":{{}}}}}}}}}}]"#
            )
        };
        out.extend_from_slice(format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"{time}"{more}}}}}"#
        ).as_bytes());
    }

    fn default_object(&self, resource: Resource, slot: usize, edition: Edition, out: &mut Vec<u8>) {
        let Stamp { uid, time, version } = stamp(resource, (1 << 31) + slot, edition);
        let mut own = self
            .defaults
            .objects
            .iter()
            .filter(|object| object.kind == resource.kind());
        let object = own.nth(slot).unwrap();
        let namespace = match object.namespace.as_str() {
            "" => String::new(),
            namespace => format!("\"namespace\":\"{namespace}\","),
        };
        out.extend_from_slice(format!(
            r#"{{"metadata":{{"name":"{}",{namespace}"uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"{time}","labels":{},"annotations":{{"rbac.authorization.kubernetes.io/autoupdate":"true"}},"managedFields":[{{"manager":"kube-apiserver","operation":"Update","apiVersion":"{GROUP}/v1","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:rbac.authorization.kubernetes.io/autoupdate":{{}}}},"f:labels":{{".":{{}},"f:kubernetes.io/bootstrapping":{{}}}}}},{}}}}}]}},{}}}"#,
            object.name, object.labels, object.fields, object.rest
        ).as_bytes());
    }

    fn role_name(&self, number: usize) -> (Option<usize>, String) {
        let name = format!(
            "{}-{}-{number}",
            APPS[number % APPS.len()],
            ["reader", "editor", "operator", "leader-election"][number / 3 % 4]
        );
        if number < self.cluster_roles {
            return (None, name);
        }
        let namespace = skewed(
            dice(SEED, roll::ROLE + number as u64),
            self.size.namespaces,
            2,
        );
        (Some(namespace), name)
    }

    /// What comes before the rules or subjects of a role or binding.
    fn rbac_metadata(
        &self,
        resource: Resource,
        number: usize,
        edition: Edition,
        namespace: Option<usize>,
        name: &str,
        fields: &str,
        out: &mut Vec<u8>,
    ) {
        let Stamp { uid, time, version } = stamp(resource, number, edition);
        let namespace = namespace.map_or(String::new(), |namespace| {
            format!("\"namespace\":\"{}\",", Cluster::namespace_name(namespace))
        });
        let (manager, operation) = [
            ("helm", "Update"),
            ("argocd-controller", "Apply"),
            ("kubectl-client-side-apply", "Update"),
        ][number % 3];
        out.extend_from_slice(format!(
            r#"{{"metadata":{{"name":"{name}",{namespace}"uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"{time}","labels":{{"app.kubernetes.io/instance":"{name}","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"{name}","helm.sh/chart":"service-4.2.1"}},"annotations":{{"meta.helm.sh/release-name":"{name}","meta.helm.sh/release-namespace":"default"}},"managedFields":[{{"manager":"{manager}","operation":"{operation}","apiVersion":"{GROUP}/v1","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:meta.helm.sh/release-name":{{}},"f:meta.helm.sh/release-namespace":{{}}}},"f:labels":{{".":{{}},"f:app.kubernetes.io/instance":{{}},"f:app.kubernetes.io/managed-by":{{}},"f:app.kubernetes.io/name":{{}},"f:helm.sh/chart":{{}}}}}},{fields}}}}}]}},"#
        ).as_bytes());
    }

    fn role(&self, number: usize, edition: Edition, out: &mut Vec<u8>) {
        struct Named<'a>(&'a str);
        impl Blanks for Named<'_> {
            fn fill(&self, _: &str, _: u64, out: &mut Vec<u8>) {
                out.extend_from_slice(self.0.as_bytes());
            }
        }
        let (namespace, name) = self.role_name(number);
        let resource = if namespace.is_none() {
            Resource::ClusterRoles
        } else {
            Resource::Roles
        };
        self.rbac_metadata(
            resource,
            number,
            edition,
            namespace,
            &name,
            "\"f:rules\":{}",
            out,
        );
        out.extend_from_slice(b"\"rules\":");
        let rules =
            dice(SEED, roll::ROLE + (1 << 32) + number as u64) as usize + edition.number as usize;
        self.roles[rules % self.roles.len()].render(&Named(&name), out);
        out.push(b'}');
    }

    fn binding(&self, number: usize, edition: Edition, out: &mut Vec<u8>) {
        let at = |k: u64| dice(SEED, roll::BINDING + 8 * number as u64 + k);
        let (role_kind, namespace, role) = if number < self.cluster_bindings {
            let role = match at(0) % 8 {
                0..2 => "view".to_owned(),
                // Rare, as it should be: one in a hundred cluster-wide grants is everything.
                2 if at(1).is_multiple_of(12) => "cluster-admin".to_owned(),
                _ => self.role_name(at(1) as usize % self.cluster_roles.max(1)).1,
            };
            ("ClusterRole", None, role)
        } else if at(0) % 100 < 60 {
            let own = self.size.roles - self.cluster_roles;
            let (namespace, name) = self.role_name(self.cluster_roles + at(1) as usize % own);
            ("Role", namespace, name)
        } else {
            let namespace = Some(skewed(at(2), self.size.namespaces, 2));
            let role = match at(1) % 20 {
                0..8 => "view".to_owned(),
                8..12 => "edit".to_owned(),
                12 => "admin".to_owned(),
                _ => self.role_name(at(3) as usize % self.cluster_roles.max(1)).1,
            };
            ("ClusterRole", namespace, role)
        };
        let resource = if namespace.is_none() {
            Resource::ClusterRoleBindings
        } else {
            Resource::RoleBindings
        };
        let name = format!("{role}-{number}");
        self.rbac_metadata(
            resource,
            number,
            edition,
            namespace,
            &name,
            "\"f:roleRef\":{},\"f:subjects\":{}",
            out,
        );
        out.extend_from_slice(b"\"subjects\":[");
        for k in 0..=skewed(at(4), 20, 12) as u64 {
            let at = |j: u64| dice(SEED, roll::SUBJECT + (1 << 20) * k + 4 * number as u64 + j);
            if k > 0 {
                out.push(b',');
            }
            let subject = match (at(0) % 20, namespace) {
                (0..3, _) => format!(
                    r#"{{"kind":"User","apiGroup":"{GROUP}","name":"user-{}@example.com"}}"#,
                    skewed(at(1), 3_000, 3)
                ),
                (3..6, _) => format!(
                    r#"{{"kind":"Group","apiGroup":"{GROUP}","name":"team-{}"}}"#,
                    skewed(at(1), 300, 3)
                ),
                (6..14, Some(namespace)) => {
                    let first = self.accounts_of[namespace] as usize;
                    let there = self.accounts_of[namespace + 1] as usize - first;
                    self.subject(first + at(1) as usize % there)
                }
                _ => self.subject(skewed(at(1), self.accounts.len(), 2)),
            };
            out.extend_from_slice(subject.as_bytes());
        }
        out.extend_from_slice(
            format!(
                r#"],"roleRef":{{"apiGroup":"{GROUP}","kind":"{role_kind}","name":"{role}"}}}}"#
            )
            .as_bytes(),
        );
    }

    fn subject(&self, account: usize) -> String {
        let namespace = Cluster::namespace_name(self.accounts[account].namespace as usize);
        format!(
            r#"{{"kind":"ServiceAccount","name":"{}","namespace":"{namespace}"}}"#,
            self.account_name(account)
        )
    }

    fn pod(&self, slot: usize, edition: Edition, out: &mut Vec<u8>) {
        let number = self
            .workloads
            .partition_point(|workload| workload.first as usize <= slot)
            - 1;
        let workload = self.workloads[number];
        let shape = self
            .shapes
            .iter()
            .find(|(shape, _)| *shape == workload.shape);
        let (_, template) = shape.unwrap();
        let namespace = Cluster::namespace_name(workload.namespace as usize);
        let blanks = PodBlanks {
            edition,
            slot,
            replica: slot - workload.first as usize,
            shape: workload.shape,
            app: self.app(number),
            account: self.account_name(workload.account as usize),
            team: TEAMS[workload.namespace as usize % TEAMS.len()],
            namespace,
            workload: number as u64,
            nodes: (self.size.pods / PODS_PER_NODE).max(1),
        };
        template.render(&blanks, out);
    }
}

struct PodBlanks {
    edition: Edition,
    slot: usize,
    replica: usize,
    shape: Shape,
    app: String,
    account: String,
    team: &'static str,
    namespace: String,
    workload: u64,
    nodes: usize,
}

impl PodBlanks {
    /// What differs between this self of the pod and all others.
    fn roll(&self) -> u64 {
        dice(
            SEED,
            roll::POD + (1 << 32) * u64::from(self.edition.number) + self.slot as u64,
        )
    }

    /// Of the pod template, so that all pods of a workload have it and a rollout changes it.
    fn hash(&self, out: &mut Vec<u8>) {
        hex(
            dice(SEED, roll::WORKLOAD + (1 << 33) + self.workload),
            9,
            out,
        );
    }

    fn owner(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.app.as_bytes());
        match self.shape.owner() {
            "ReplicaSet" => {
                out.push(b'-');
                self.hash(out);
            }
            "Job" => out.extend_from_slice(format!("-{}", 29_000_000 + self.replica).as_bytes()),
            _ => {}
        }
    }

    /// Five characters as the server makes them up, but never the same ones twice in a workload.
    fn suffix(&self, out: &mut Vec<u8>) {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        const ALL: u64 = 27_u64.pow(5);
        // A factor that is no multiple of three meets every number once.
        let index = self.replica as u64 + 4_096 * u64::from(self.edition.number);
        let mut number = (index * 5_308_417 + dice(SEED, roll::POD + self.workload)) % ALL;
        for _ in 0..5 {
            out.push(LETTERS[(number % 27) as usize]);
            number /= 27;
        }
    }

    fn node(&self) -> usize {
        match self.shape {
            Shape::Agent => self.replica % self.nodes,
            _ => self.roll() as usize % self.nodes,
        }
    }
}

impl Blanks for PodBlanks {
    fn fill(&self, word: &str, salt: u64, out: &mut Vec<u8>) {
        let roll = self.roll();
        match word {
            "name" if self.shape == Shape::Stateful => {
                out.extend_from_slice(format!("{}-{}", self.app, self.replica).as_bytes());
            }
            "name" => {
                self.owner(out);
                out.push(b'-');
                self.suffix(out);
            }
            "ns" => out.extend_from_slice(self.namespace.as_bytes()),
            "uid" => uid(roll, out),
            "owneruid" => uid(dice(SEED, roll::UID + self.workload), out),
            "owner" => self.owner(out),
            "rv" => out.extend_from_slice(self.edition.version.to_string().as_bytes()),
            "created" => moment(roll, out),
            "deletion" if self.edition.stage == Stage::Leaving => {
                out.extend_from_slice(b"\"deletionTimestamp\":\"");
                moment(roll, out);
                out.extend_from_slice(b"\",\"deletionGracePeriodSeconds\":30,");
            }
            "placed" if self.edition.stage != Stage::Pending => {
                out.extend_from_slice(b"\"nodeName\":\"");
                let node = self.node();
                out.extend_from_slice(
                    format!(
                        "ip-10-{}-{}-{}.eu-central-1.compute.internal",
                        node / 65_536,
                        node / 256 % 256,
                        node % 256
                    )
                    .as_bytes(),
                );
                out.extend_from_slice(b"\",");
            }
            "deletion" | "placed" => {}
            "phase" => out.extend_from_slice(match (self.edition.stage, self.shape) {
                (Stage::Pending | Stage::Placed, _) => b"Pending".as_slice(),
                (_, Shape::Done) => b"Succeeded",
                _ => b"Running",
            }),
            "hash" => self.hash(out),
            "app" => out.extend_from_slice(self.app.as_bytes()),
            "account" => out.extend_from_slice(self.account.as_bytes()),
            "team" => out.extend_from_slice(self.team.as_bytes()),
            "replica" => out.extend_from_slice(self.replica.to_string().as_bytes()),
            "number" => out.extend_from_slice((self.workload % 400).to_string().as_bytes()),
            "suffix" => hex(roll >> 20, 5, out),
            "ip" | "hostip" => {
                let place = if word == "ip" {
                    roll as usize % (1 << 22)
                } else {
                    self.node()
                };
                out.extend_from_slice(
                    format!(
                        "10.{}.{}.{}",
                        place / 65_536 + if word == "ip" { 64 } else { 0 },
                        place / 256 % 256,
                        place % 256
                    )
                    .as_bytes(),
                );
            }
            "hex" => (0..4).for_each(|k| hex(dice(roll, 8 * salt + k), 16, out)),
            other => unreachable!("no such blank: {other}"),
        }
    }
}

struct Stamp {
    uid: String,
    time: String,
    version: u64,
}

/// What the server adds to the metadata of an object.
fn stamp(resource: Resource, slot: usize, edition: Edition) -> Stamp {
    let roll = dice(
        SEED,
        roll::UID + (resource as u64 + 1) * (1 << 32) + slot as u64,
    );
    let text = |write: fn(u64, &mut Vec<u8>)| {
        let mut out = Vec::new();
        write(roll, &mut out);
        String::from_utf8(out).unwrap()
    };
    Stamp {
        uid: text(uid),
        time: text(moment),
        version: edition.version,
    }
}

/// `apiVersion` of a resource.
pub(crate) fn api_version(resource: Resource) -> &'static str {
    match resource {
        Resource::ServiceAccounts | Resource::Pods | Resource::Namespaces => "v1",
        _ => "rbac.authorization.k8s.io/v1",
    }
}
