//! The slim objects: what a source hands to the ledger, and nothing more.
//!
//! Sources decode an API object (from a watch or from a manifest) into one of these; everything
//! behind them speaks only this vocabulary. Values are as the API server would hold them: defaulted,
//! subjects in their canonical form ([`Subject::user`]), lists never null.

use std::sync::Arc;

/// The seven watched resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Resource {
    /// `clusterroles.rbac.authorization.k8s.io`
    ClusterRoles,
    /// `roles.rbac.authorization.k8s.io`
    Roles,
    /// `clusterrolebindings.rbac.authorization.k8s.io`
    ClusterRoleBindings,
    /// `rolebindings.rbac.authorization.k8s.io`
    RoleBindings,
    /// core `serviceaccounts`
    ServiceAccounts,
    /// core `pods`
    Pods,
    /// core `namespaces`
    Namespaces,
}

impl Resource {
    /// All of them, in the order they are listed everywhere.
    pub const ALL: [Resource; 7] = [
        Resource::ClusterRoles,
        Resource::Roles,
        Resource::ClusterRoleBindings,
        Resource::RoleBindings,
        Resource::ServiceAccounts,
        Resource::Pods,
        Resource::Namespaces,
    ];

    /// The plural as it stands in URLs and in the `resource` label.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::ClusterRoles => "clusterroles",
            Resource::Roles => "roles",
            Resource::ClusterRoleBindings => "clusterrolebindings",
            Resource::RoleBindings => "rolebindings",
            Resource::ServiceAccounts => "serviceaccounts",
            Resource::Pods => "pods",
            Resource::Namespaces => "namespaces",
        }
    }

    /// The `kind` of one object.
    pub fn kind(self) -> &'static str {
        match self {
            Resource::ClusterRoles => "ClusterRole",
            Resource::Roles => "Role",
            Resource::ClusterRoleBindings => "ClusterRoleBinding",
            Resource::RoleBindings => "RoleBinding",
            Resource::ServiceAccounts => "ServiceAccount",
            Resource::Pods => "Pod",
            Resource::Namespaces => "Namespace",
        }
    }
}

/// Where a manifest's object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Path as given on the command line, joined with the path below it; `-` for standard input.
    pub file: Arc<str>,
    /// Number of the YAML document in the file, from 1.
    pub document: u32,
    /// Line of the object's first line, from 1.
    pub line: u32,
}

/// What every object carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.uid`, empty when absent (manifests).
    pub uid: String,
    /// `creationTimestamp`, Unix seconds.
    pub created: Option<i64>,
    /// Times of the `managedFields` entries that own what the judgement reads (`f:rules`,
    /// `f:aggregationRule`, `f:roleRef`, `f:subjects`), Unix seconds, in the object's order. All of
    /// them, as which are to be believed depends on the time of day. Empty when the object has no
    /// such entry: contract §5 then counts it as without history.
    pub history: Box<[i64]>,
    /// Carries `helm.sh/hook` with the delete policy hook-succeeded: it comes and goes with a chart run.
    pub transient: bool,
    /// Where it stands, for objects read from manifests.
    pub origin: Option<Origin>,
}

/// One of the watched objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Role or ClusterRole.
    Role(Role),
    /// A RoleBinding or ClusterRoleBinding.
    Binding(Binding),
    /// A ServiceAccount.
    ServiceAccount(ServiceAccount),
    /// A Pod.
    Pod(Box<Pod>),
    /// A Namespace.
    Namespace(Namespace),
}

impl Object {
    /// The resource it belongs to. A role or binding is cluster-scoped when its namespace is empty.
    pub fn resource(&self) -> Resource {
        match self {
            Object::Role(r) if r.meta.namespace.is_empty() => Resource::ClusterRoles,
            Object::Role(_) => Resource::Roles,
            Object::Binding(b) if b.meta.namespace.is_empty() => Resource::ClusterRoleBindings,
            Object::Binding(_) => Resource::RoleBindings,
            Object::ServiceAccount(_) => Resource::ServiceAccounts,
            Object::Pod(_) => Resource::Pods,
            Object::Namespace(_) => Resource::Namespaces,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Object::Role(o) => &o.meta,
            Object::Binding(o) => &o.meta,
            Object::ServiceAccount(o) => &o.meta,
            Object::Pod(o) => &o.meta,
            Object::Namespace(o) => &o.meta,
        }
    }

    /// Its metadata, to be completed by a source.
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Object::Role(o) => &mut o.meta,
            Object::Binding(o) => &mut o.meta,
            Object::ServiceAccount(o) => &mut o.meta,
            Object::Pod(o) => &mut o.meta,
            Object::Namespace(o) => &mut o.meta,
        }
    }
}

/// One entry of `rules` in a Role or ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// `verbs`
    pub verbs: Vec<String>,
    /// `apiGroups`; the core group is the empty string.
    pub api_groups: Vec<String>,
    /// `resources`, with subresources as `resource/subresource`.
    pub resources: Vec<String>,
    /// `resourceNames`; empty means every name.
    pub resource_names: Vec<String>,
    /// `nonResourceURLs`
    pub non_resource_urls: Vec<String>,
}

/// A Role (its namespace is set) or ClusterRole (its namespace is empty).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Metadata.
    pub meta: Meta,
    /// Labels of a ClusterRole that a selector may look at, sorted by key.
    pub labels: Vec<(String, String)>,
    /// `aggregationRule`, when there is one.
    pub aggregation: Option<Vec<LabelSelector>>,
    /// `rules`
    pub rules: Vec<PolicyRule>,
}

/// A `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`
    pub match_labels: Vec<(String, String)>,
    /// `matchExpressions`
    pub match_expressions: Vec<LabelRequirement>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
}

/// `roleRef` of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoleRef {
    /// `true` for kind ClusterRole, `false` for Role (then it lies in the binding's namespace).
    pub cluster: bool,
    /// Name.
    pub name: String,
}

/// One entry of `subjects`, canonical.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Kind Group.
    Group {
        /// Group name.
        name: String,
    },
    /// Kind ServiceAccount, or a User of that form. An empty namespace (in a ClusterRoleBinding)
    /// matches nobody.
    ServiceAccount {
        /// Namespace of the account.
        namespace: String,
        /// Name of the account.
        name: String,
    },
    /// Kind User.
    User {
        /// User name.
        name: String,
    },
}

/// Prefix of the user name of a service account (`k8s.io/apiserver/pkg/authentication/serviceaccount`).
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";

impl Subject {
    /// The subject behind a user name: `system:serviceaccount:NS:NAME` *is* that account
    /// (`appliesToUser` compares the user name).
    pub fn user(name: &str) -> Subject {
        if let Some((namespace, account)) = name
            .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)
            .and_then(|rest| rest.split_once(':'))
            && !namespace.is_empty()
            && !account.is_empty()
            && !account.contains(':')
        {
            return Subject::ServiceAccount {
                namespace: namespace.into(),
                name: account.into(),
            };
        }
        Subject::User { name: name.into() }
    }

    /// The form people write on a command line and in configuration: `sa:NS/NAME`, `user:NAME`, `group:NAME`.
    pub fn written(&self) -> String {
        match self {
            Subject::Group { name } => format!("group:{name}"),
            Subject::ServiceAccount { namespace, name } => format!("sa:{namespace}/{name}"),
            Subject::User { name } => format!("user:{name}"),
        }
    }

    /// Reads the form that [`Subject::written`] writes.
    pub fn parse(text: &str) -> Option<Subject> {
        if let Some(rest) = text.strip_prefix("sa:") {
            let (namespace, name) = rest.split_once('/')?;
            return (!namespace.is_empty() && !name.is_empty()).then(|| Subject::ServiceAccount {
                namespace: namespace.into(),
                name: name.into(),
            });
        }
        if let Some(name) = text.strip_prefix("user:") {
            return (!name.is_empty()).then(|| Subject::user(name));
        }
        let name = text.strip_prefix("group:")?;
        (!name.is_empty()).then(|| Subject::Group { name: name.into() })
    }
}

/// A RoleBinding (its namespace is set) or ClusterRoleBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Metadata.
    pub meta: Meta,
    /// `roleRef`
    pub role: RoleRef,
    /// `subjects`, in their order.
    pub subjects: Vec<Subject>,
    /// Entries that are written in another form than [`Spelling::Plain`]; there seldom are any.
    pub spellings: Option<Box<Spellings>>,
}

/// Places in `subjects`, ascending, each with the form in which the entry is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spellings(pub Vec<(u32, Spelling)>);

/// How an entry of `subjects` is written, where it is not as its [`Subject`] reads: who removes it
/// must name it as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spelling {
    /// As it reads.
    #[default]
    Plain,
    /// An account as `kind: User` with its user name.
    UserName,
    /// An account of the RoleBinding's namespace, without saying so.
    NoNamespace,
}

/// A ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Metadata.
    pub meta: Meta,
    /// `automountServiceAccountToken`
    pub automount: Option<bool>,
    /// Names in `secrets[]`.
    pub secrets: Vec<String>,
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Metadata (its own `namespace` is empty).
    pub meta: Meta,
    /// The label `pod-security.kubernetes.io/enforce`.
    pub pod_security: Option<String>,
}

/// `status.phase` of a pod, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No phase, or one that is not known.
    #[default]
    Unknown,
    /// `Pending`
    Pending,
    /// `Running`
    Running,
    /// `Succeeded`
    Succeeded,
    /// `Failed`
    Failed,
}

impl Phase {
    /// From the text in the object.
    pub fn parse(text: &str) -> Phase {
        match text {
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            _ => Phase::Unknown,
        }
    }

    /// As it stands in objects and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Unknown => "Unknown",
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    /// Succeeded or Failed: no process of the pod can read its token any more.
    pub fn terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// How a Secret reaches a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretSource {
    /// A `secret` volume, or a `secret` source of a `projected` one, that a container mounts.
    Volume,
    /// `env[].valueFrom.secretKeyRef` or `envFrom[].secretRef`.
    Env,
}

/// A Secret that a container of the pod receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretUse {
    /// Name of the Secret, in the pod's namespace.
    pub name: String,
    /// By volume or by environment.
    pub source: SecretSource,
    /// Names of the containers that receive it, sorted, without duplicates.
    pub containers: Vec<String>,
}

/// A projected `serviceAccountToken` that a container of the pod mounts; it is a token of `spec.serviceAccountName`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProjectedToken {
    /// `audience`; `None` when empty or absent (then the API server accepts it).
    pub audience: Option<String>,
    /// Names of the containers that mount it, sorted, without duplicates.
    pub containers: Vec<String>,
    /// Some container mounts it at `/var/run/secrets/kubernetes.io/serviceaccount`, where client libraries look.
    pub at_default_path: bool,
}

/// Ways in which a pod can take its node (catalogue D.6), each a bit of [`Pod::escape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Escape {
    /// A privileged container.
    Privileged = 1,
    /// A hostPath that gives the node away.
    HostPath = 2,
    /// hostPID together with a capability or privileges.
    HostPid = 4,
    /// hostNetwork (weaker: it reaches the kubelet's and the cloud metadata's ports).
    HostNetwork = 8,
    /// A capability that gives the node away.
    Capability = 16,
}

impl Escape {
    /// All of them with the words of the report.
    pub const ALL: [(Escape, &'static str); 5] = [
        (Escape::Privileged, "privileged"),
        (Escape::HostPath, "host-path"),
        (Escape::HostPid, "host-pid"),
        (Escape::HostNetwork, "host-network"),
        (Escape::Capability, "capability"),
    ];
}

/// What owns a pod in the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A Pod, reduced to what decides which tokens and Secrets it carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Metadata.
    pub meta: Meta,
    /// `spec.serviceAccountName`; `default` when empty, empty for a mirror pod without one.
    pub service_account: String,
    /// `spec.nodeName`, empty when it has none.
    pub node: String,
    /// `status.phase`
    pub phase: Phase,
    /// `spec.automountServiceAccountToken`
    pub automount: Option<bool>,
    /// A mirror of a static pod (annotation `kubernetes.io/config.mirror`).
    pub mirror: bool,
    /// Not an admitted object but what admission would make of a template (contract §8).
    pub predicted: bool,
    /// The owning workload, ReplicaSets and Jobs resolved to Deployments and CronJobs; `None` when it stands alone.
    pub workload: Option<Workload>,
    /// Projected tokens that some container mounts.
    pub tokens: Vec<ProjectedToken>,
    /// Secrets that some container receives.
    pub secrets: Vec<SecretUse>,
    /// Bits of [`Escape`].
    pub escape: u8,
}

impl Pod {
    /// The escapes as the words of the report.
    pub fn escape_words(bits: u8) -> impl Iterator<Item = &'static str> {
        Escape::ALL
            .into_iter()
            .filter(move |(e, _)| bits & (*e as u8) != 0)
            .map(|(_, w)| w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_named_like_an_account_is_that_account() {
        assert_eq!(
            Subject::user("system:serviceaccount:app:web"),
            Subject::ServiceAccount {
                namespace: "app".into(),
                name: "web".into()
            }
        );
        for odd in [
            "system:serviceaccount:app",
            "system:serviceaccount::web",
            "bob",
        ] {
            assert_eq!(Subject::user(odd), Subject::User { name: odd.into() });
        }
    }

    #[test]
    fn written_subjects_read_back() {
        for text in [
            "sa:app/web",
            "user:bob",
            "group:system:masters",
            "user:a:b/c",
        ] {
            assert_eq!(Subject::parse(text).unwrap().written(), text);
        }
        for odd in ["sa:web", "sa:/x", "bob", "user:", "group:"] {
            assert_eq!(Subject::parse(odd), None, "{odd}");
        }
    }
}
