//! The report of contract §9.

use crate::ledger::{
    self, BindingView, ByLevel, Grant, Ledger, PathStep, PodView, Problem, RoleView, Severity,
    SubjectView, TokenSource,
};
use crate::object::{Resource, SERVICE_ACCOUNT_USER_PREFIX, SecretSource, Spelling, Subject};
use crate::risk::{Priority, Status};
use crate::side_by_side::side_by_side;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::num::NonZeroUsize;

/// Numbers of one kind: priority → status → how many.
pub type Levels = BTreeMap<Priority, BTreeMap<&'static str, u64>>;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Everything was read and decoded.
    pub complete: bool,
    /// What was not, and what deserves a look.
    pub problems: Vec<Problem>,
    /// Hash of the rules in force.
    pub ruleset: String,
    /// Version of the server, as assumed by the judgement.
    pub kubernetes_version: String,
    /// Numbers.
    pub summary: Summary,
    /// Every subject, by kind, namespace, name.
    pub subjects: Vec<SubjectEntry>,
    /// Every pod, by namespace, name.
    pub pods: Vec<PodEntry>,
    /// Every role of the input, and shipped ones in use.
    pub roles: Vec<RoleEntry>,
    /// Every binding.
    pub bindings: Vec<BindingEntry>,
    /// How many subjects, pods, roles and bindings there are, whatever a filter leaves.
    #[serde(skip)]
    pub totals: [usize; 4],
    /// Pods were left out, so that there are none means nothing.
    #[serde(skip)]
    pub without_pods: bool,
}

/// What of the arrays is wanted. The summary and the problems are always those of the whole.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Own namespaces of subjects, pods, roles and bindings; empty for all.
    pub namespaces: Vec<String>,
    /// This priority or a higher one; of an unbound role what it would give.
    pub priority: Option<Priority>,
    /// These subjects, the pods with a token of theirs, the bindings that name them and the roles of
    /// these; empty for all.
    pub subjects: Vec<Subject>,
}

impl Filter {
    /// Something is left out.
    pub fn any(&self) -> bool {
        !self.namespaces.is_empty() || self.priority.is_some() || !self.subjects.is_empty()
    }
}

/// Numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Subjects by effective priority and status.
    pub subjects: Levels,
    /// Pods by priority and status.
    pub pods: Levels,
    /// Namespaces as the contract counts them, `""` included.
    pub namespaces: u64,
    /// Objects of other kinds, by `apiVersion/kind`.
    pub skipped: BTreeMap<String, u64>,
}

/// Kind, namespace and name of an object or subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reference {
    /// Kind.
    pub kind: &'static str,
    /// Namespace, empty for cluster-scoped things, users and groups.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Namespace and name of an account.
#[derive(Clone, Debug, Serialize)]
pub struct AccountReference {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A binding with its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantEntry {
    /// The binding.
    pub binding: Reference,
    /// The role.
    pub role: Reference,
}

/// A finding.
#[derive(Clone, Debug, Serialize)]
pub struct FindingEntry {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// Priority.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// What it rests on.
    pub grants: Vec<GrantEntry>,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepEntry {
    /// Id of the rule.
    pub edge: String,
    /// Where it holds.
    pub scope: String,
    /// Who is reached.
    pub to: Reference,
}

/// An entry of a binding to remove.
#[derive(Clone, Debug, Serialize)]
pub struct CutEntry {
    /// The binding.
    pub binding: Reference,
    /// The subject in it.
    pub subject: Reference,
}

/// A subject.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectEntry {
    /// `Group`, `ServiceAccount` or `User`.
    pub kind: &'static str,
    /// Namespace of an account.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The account exists; true for users and groups.
    pub exists: bool,
    /// Effective priority.
    pub priority: Priority,
    /// By its own findings.
    pub own: Priority,
    /// Status.
    pub status: Status,
    /// Since when it holds its priority, RFC 3339.
    pub since: Option<String>,
    /// Findings.
    pub findings: Vec<FindingEntry>,
    /// To the identity whose own priority it takes.
    pub path: Vec<StepEntry>,
    /// What to remove.
    pub cut: Vec<CutEntry>,
    /// No smaller set does; not always known where there is much to choose from.
    pub cut_exact: bool,
}

/// A token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenEntry {
    /// Whose.
    pub serviceaccount: AccountReference,
    /// `projected`, `secret-volume` or `secret-env`.
    pub source: &'static str,
    /// Containers that can read it.
    pub containers: Vec<String>,
}

/// A Secret.
#[derive(Clone, Debug, Serialize)]
pub struct SecretEntry {
    /// Name.
    pub name: String,
    /// `volume` or `env`.
    pub source: &'static str,
}

/// Kind and name of an owner.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadEntry {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodEntry {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Phase.
    pub phase: &'static str,
    /// Succeeded or Failed.
    pub terminal: bool,
    /// Predicted from a template.
    pub predicted: bool,
    /// Priority.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// API tokens that it carries.
    pub tokens: Vec<TokenEntry>,
    /// Owner.
    pub workload: Option<WorkloadEntry>,
    /// Node.
    pub node: String,
    /// Ways to take the node.
    pub node_escape: Vec<&'static str>,
    /// Secrets that it receives.
    pub secrets: Vec<SecretEntry>,
}

/// What a role's rules give.
#[derive(Clone, Debug, Serialize)]
pub struct RoleFindingEntry {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// Priority.
    pub priority: Priority,
}

/// A role.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleEntry {
    /// `Role` or `ClusterRole`.
    pub kind: &'static str,
    /// Namespace of a Role.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `input` or `shipped`.
    pub source: &'static str,
    /// Highest over its bindings.
    pub priority: Priority,
    /// What it would give cluster-wide, a Role in its namespace.
    pub potential: Priority,
    /// Some binding refers to it.
    pub bound: bool,
    /// Status.
    pub status: Status,
    /// Rules with a wildcard.
    pub wildcard_rules: usize,
    /// What its rules give where it is bound; unbound: would give.
    pub findings: Vec<RoleFindingEntry>,
    /// Comes and goes with a chart run (`helm.sh/hook`).
    pub transient: bool,
    /// File, for manifests.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

/// A binding.
#[derive(Clone, Debug, Serialize)]
pub struct BindingEntry {
    /// `RoleBinding` or `ClusterRoleBinding`.
    pub kind: &'static str,
    /// Namespace of a RoleBinding.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The role.
    pub role: Reference,
    /// The subjects.
    pub subjects: Vec<Reference>,
    /// What the role gives there.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// `role-missing`, `serviceaccount-missing`.
    pub dangling: Vec<&'static str>,
    /// Comes and goes with a chart run (`helm.sh/hook`).
    pub transient: bool,
    /// File, for manifests.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

pub(super) fn subject_reference(subject: &Subject) -> Reference {
    let (kind, namespace, name) = match subject {
        Subject::Group { name } => ("Group", "", name),
        Subject::User { name } => ("User", "", name),
        Subject::ServiceAccount { namespace, name } => ("ServiceAccount", namespace.as_str(), name),
    };
    Reference {
        kind,
        namespace: namespace.to_owned(),
        name: name.clone(),
    }
}

/// The subject as the binding writes it.
pub(super) fn written_reference(entry: &ledger::CutEntry) -> Reference {
    match (&entry.subject, entry.spelling) {
        (Subject::ServiceAccount { namespace, name }, Spelling::UserName) => Reference {
            kind: "User",
            namespace: String::new(),
            name: format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}"),
        },
        (subject, _) => subject_reference(subject),
    }
}

/// The subject that a report writes with these three.
pub(super) fn subject_of(kind: &str, namespace: &str, name: &str) -> Option<Subject> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    match (kind, namespace.is_empty()) {
        ("Group", true) => Some(Subject::Group { name }),
        ("User", true) => Some(Subject::user(&name)),
        ("ServiceAccount", false) => Some(Subject::ServiceAccount { namespace, name }),
        _ => None,
    }
}

fn role_reference(cluster: bool, namespace: &str, name: &str) -> Reference {
    Reference {
        kind: if cluster { "ClusterRole" } else { "Role" },
        namespace: if cluster {
            String::new()
        } else {
            namespace.to_owned()
        },
        name: name.to_owned(),
    }
}

fn binding_reference(namespace: &str, name: &str) -> Reference {
    Reference {
        kind: if namespace.is_empty() {
            "ClusterRoleBinding"
        } else {
            "RoleBinding"
        },
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn grant_entry(grant: &Grant) -> GrantEntry {
    GrantEntry {
        binding: binding_reference(&grant.binding_namespace, &grant.binding),
        role: role_reference(grant.cluster_role, &grant.binding_namespace, &grant.role),
    }
}

pub(super) fn step_entry(step: &PathStep) -> StepEntry {
    StepEntry {
        edge: step.edge.clone(),
        scope: step.scope.clone(),
        to: subject_reference(&step.to),
    }
}

pub(super) fn subject_entry(view: &SubjectView) -> SubjectEntry {
    let Reference {
        kind,
        namespace,
        name,
    } = subject_reference(&view.subject);
    SubjectEntry {
        kind,
        namespace,
        name,
        exists: view.exists,
        priority: view.priority,
        own: view.own,
        status: view.status,
        since: view.since.and_then(rfc3339),
        findings: view
            .findings
            .iter()
            .map(|f| FindingEntry {
                rule: f.rule.clone(),
                scope: f.scope.clone(),
                priority: f.priority,
                status: f.status,
                grants: f.grants.iter().map(grant_entry).collect(),
            })
            .collect(),
        path: view.path.iter().map(step_entry).collect(),
        cut: view
            .cut
            .entries
            .iter()
            .map(|c| CutEntry {
                binding: binding_reference(&c.grant.binding_namespace, &c.grant.binding),
                subject: written_reference(c),
            })
            .collect(),
        cut_exact: view.cut.exact,
    }
}

/// RFC 3339, UTC.
pub(super) fn rfc3339(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds)
        .ok()
        .map(|t| t.to_string())
}

pub(super) fn pod_entry(view: &PodView) -> PodEntry {
    PodEntry {
        namespace: view.namespace.clone(),
        name: view.name.clone(),
        phase: view.phase.as_str(),
        terminal: view.phase.terminal(),
        predicted: view.predicted,
        priority: view.priority,
        status: view.status,
        tokens: view
            .tokens
            .iter()
            .map(|t| TokenEntry {
                serviceaccount: AccountReference {
                    namespace: view.namespace.clone(),
                    name: t.account.clone(),
                },
                source: match t.source {
                    TokenSource::Projected => "projected",
                    TokenSource::SecretVolume => "secret-volume",
                    TokenSource::SecretEnv => "secret-env",
                },
                containers: t.containers.clone(),
            })
            .collect(),
        workload: view.workload.as_ref().map(|w| WorkloadEntry {
            kind: w.kind.clone(),
            name: w.name.clone(),
        }),
        node: view.node.clone(),
        node_escape: view.escapes.clone(),
        secrets: view
            .secrets
            .iter()
            .map(|s| SecretEntry {
                name: s.name.clone(),
                source: match s.source {
                    SecretSource::Volume => "volume",
                    SecretSource::Env => "env",
                },
            })
            .collect(),
    }
}

pub(super) fn role_entry(view: &RoleView) -> RoleEntry {
    RoleEntry {
        kind: if view.cluster { "ClusterRole" } else { "Role" },
        namespace: view.namespace.clone(),
        name: view.name.clone(),
        source: if view.shipped { "shipped" } else { "input" },
        priority: view.priority,
        potential: view.potential,
        bound: view.bound,
        status: view.status,
        wildcard_rules: view.wildcard_rules,
        findings: view
            .findings
            .iter()
            .map(|(rule, scope, priority)| RoleFindingEntry {
                rule: rule.clone(),
                scope: scope.clone(),
                priority: *priority,
            })
            .collect(),
        transient: view.transient,
        file: view.origin.as_ref().map(|o| o.file.to_string()),
        line: view.origin.as_ref().map(|o| o.line),
    }
}

pub(super) fn binding_entry(view: &BindingView) -> BindingEntry {
    let mut dangling = Vec::new();
    if view.role_missing {
        dangling.push("role-missing");
    }
    if view.account_missing {
        dangling.push("serviceaccount-missing");
    }
    let Reference {
        kind,
        namespace,
        name,
    } = binding_reference(&view.namespace, &view.name);
    BindingEntry {
        kind,
        namespace,
        name,
        role: role_reference(view.cluster_role, &view.namespace, &view.role),
        subjects: view.subjects.iter().map(subject_reference).collect(),
        priority: view.priority,
        status: view.status,
        dangling,
        transient: view.transient,
        file: view.origin.as_ref().map(|o| o.file.to_string()),
        line: view.origin.as_ref().map(|o| o.line),
    }
}

/// A binding to a role that is not there: its power is unknown.
fn dangling_problem(view: &BindingView) -> Problem {
    let Reference {
        kind,
        namespace,
        name,
    } = binding_reference(&view.namespace, &view.name);
    let role = role_reference(view.cluster_role, &view.namespace, &view.role);
    Problem {
        severity: Severity::Warning,
        file: view.origin.as_ref().map(|o| o.file.to_string()),
        document: view.origin.as_ref().map(|o| o.document),
        line: view.origin.as_ref().map(|o| o.line),
        kind: Some(kind.to_owned()),
        namespace: (!namespace.is_empty()).then_some(namespace),
        name: Some(name),
        message: format!(
            "roleRef: {} {:?} does not exist here, so what it grants is unknown; add the role to the input, or delete the binding",
            role.kind, role.name
        ),
    }
}

/// What could not be read, and bindings to nothing.
pub(super) fn problems(ledger: &Ledger) -> Vec<Problem> {
    let mut problems = ledger.problems();
    let dangling = ledger.dangling_bindings();
    problems.extend(dangling.map(|v| dangling_problem(&v)));
    problems.sort();
    problems
}

/// A sequence that is worked out while it is written.
struct Each<I>(Cell<Option<I>>);

impl<I> Each<I> {
    fn of(items: I) -> Each<I> {
        Each(Cell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Each<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.take().into_iter().flatten())
    }
}

impl Summary {
    /// Of the ledger as it stands.
    pub fn of(ledger: &Ledger) -> Summary {
        let named = |levels: &ByLevel| -> Levels {
            let by_status = |counts: &[u32; 3]| {
                let counts = Status::ALL.into_iter().zip(counts);
                counts.map(|(s, n)| (s.as_str(), u64::from(*n))).collect()
            };
            let all = Priority::ALL.into_iter().zip(levels);
            all.map(|(p, counts)| (p, by_status(counts))).collect()
        };
        let [subjects, pods] = ledger.levels();
        Summary {
            subjects: named(&subjects),
            pods: named(&pods),
            namespaces: ledger.namespace_count() as u64,
            skipped: ledger.skipped().clone(),
        }
    }
}

/// Subjects that a thread takes at a time.
const TURN: NonZeroUsize = NonZeroUsize::new(16).unwrap();

impl Report {
    /// Of the ledger as it stands, on all cores: what to cut is most of the work.
    pub fn of(ledger: &Ledger) -> Report {
        let subjects = side_by_side(
            &ledger.subjects(),
            TURN,
            || ledger.views(),
            |views, turn| {
                let views = turn.iter().filter_map(|subject| views.of(subject));
                views.map(|v| subject_entry(&v)).collect::<Vec<_>>()
            },
        );
        let subjects: Vec<SubjectEntry> = subjects.into_iter().flatten().collect();
        let pods: Vec<PodEntry> = ledger.pod_views().map(|v| pod_entry(&v)).collect();
        let roles: Vec<RoleEntry> = ledger.role_views().map(|v| role_entry(&v)).collect();
        let bindings: Vec<BindingEntry> =
            ledger.binding_views().map(|v| binding_entry(&v)).collect();
        Report {
            totals: [subjects.len(), pods.len(), roles.len(), bindings.len()],
            complete: ledger.complete(),
            problems: problems(ledger),
            ruleset: ledger.catalogue().ruleset.clone(),
            kubernetes_version: ledger.version().to_string(),
            summary: Summary::of(ledger),
            subjects,
            pods,
            roles,
            bindings,
            without_pods: ledger.watched().all(|r| r != Resource::Pods),
        }
    }

    /// Writes the report of the ledger as JSON, entry by entry, so that it is never whole in memory.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(ledger: &Ledger, to: impl std::io::Write) -> serde_json::Result<()> {
        let mut out = serde_json::Serializer::new(to);
        let mut report = out.serialize_struct("Report", 9)?;
        report.serialize_field("complete", &ledger.complete())?;
        report.serialize_field("problems", &problems(ledger))?;
        report.serialize_field("ruleset", &ledger.catalogue().ruleset)?;
        report.serialize_field("kubernetesVersion", &ledger.version().to_string())?;
        report.serialize_field("summary", &Summary::of(ledger))?;
        let subjects = ledger.subject_views().map(|v| subject_entry(&v));
        report.serialize_field("subjects", &Each::of(subjects))?;
        let pods = ledger.pod_views().map(|v| pod_entry(&v));
        report.serialize_field("pods", &Each::of(pods))?;
        let roles = ledger.role_views().map(|v| role_entry(&v));
        report.serialize_field("roles", &Each::of(roles))?;
        let bindings = ledger.binding_views().map(|v| binding_entry(&v));
        report.serialize_field("bindings", &Each::of(bindings))?;
        report.end()
    }

    /// The highest priority of an open subject; those that come and go with a chart run do not count.
    pub fn worst_open(&self) -> Priority {
        // everything that names such a one comes and goes with a chart run
        let named = |transient: bool| -> HashSet<(&str, &str, &str)> {
            let bindings = self.bindings.iter().filter(|b| b.transient == transient);
            let subjects = bindings.flat_map(|b| &b.subjects);
            subjects
                .map(|s| (s.kind, &*s.namespace, &*s.name))
                .collect()
        };
        let [comes_and_goes, stays] = [true, false].map(named);
        let transient = |s: &SubjectEntry| {
            let key = (s.kind, &*s.namespace, &*s.name);
            comes_and_goes.contains(&key) && !stays.contains(&key)
        };
        let subjects = self.subjects.iter();
        let open = subjects.filter(|s| s.status == Status::Open && !transient(s));
        open.map(|s| s.priority).max().unwrap_or_default()
    }

    /// Leaves what the filter wants.
    pub fn narrow(&mut self, filter: &Filter) {
        let Filter {
            namespaces,
            priority,
            subjects,
        } = filter;
        let here = |ns: &String| namespaces.is_empty() || namespaces.contains(ns);
        let least = priority.unwrap_or_default();
        let wanted: Vec<Reference> = subjects.iter().map(subject_reference).collect();
        let named = |kind: &str, namespace: &str, name: &str| {
            wanted.is_empty()
                || wanted.iter().any(|w| {
                    (w.kind, w.namespace.as_str(), w.name.as_str()) == (kind, namespace, name)
                })
        };
        let binding = |b: &BindingEntry| {
            b.subjects
                .iter()
                .any(|s| named(s.kind, &s.namespace, &s.name))
                || wanted.is_empty()
        };
        let roles: std::collections::BTreeSet<Reference> = self
            .bindings
            .iter()
            .filter(|b| binding(b))
            .map(|b| b.role.clone())
            .collect();
        self.subjects.retain(|s| {
            here(&s.namespace) && s.priority >= least && named(s.kind, &s.namespace, &s.name)
        });
        self.pods.retain(|p| {
            let mut tokens = p.tokens.iter().map(|t| &t.serviceaccount);
            here(&p.namespace)
                && p.priority >= least
                && (wanted.is_empty()
                    || tokens.any(|a| named("ServiceAccount", &a.namespace, &a.name)))
        });
        self.roles.retain(|r| {
            let worth = if r.bound { r.priority } else { r.potential };
            here(&r.namespace)
                && worth >= least
                && (wanted.is_empty()
                    || roles.iter().any(|w| {
                        (w.kind, &w.namespace, &w.name) == (r.kind, &r.namespace, &r.name)
                    }))
        });
        self.bindings
            .retain(|b| here(&b.namespace) && b.priority >= least && binding(b));
    }

    /// The input held no object at all, not even one that is not judged.
    pub fn is_empty(&self) -> bool {
        // the namespace of cluster-scoped things is always counted
        self.summary.namespaces <= 1 && self.summary.skipped.is_empty() && self.totals == [0; 4]
    }
}

pub(super) fn written(s: &SubjectEntry) -> String {
    match s.kind {
        "ServiceAccount" => printable(&format!("sa:{}/{}", s.namespace, s.name)),
        "Group" => printable(&format!("group:{}", s.name)),
        _ => printable(&format!("user:{}", s.name)),
    }
}

/// The path, or else the worst finding and the binding behind it; then what to cut, where that is not
/// the binding just named.
pub(super) fn reason(s: &SubjectEntry) -> String {
    let steps: Vec<String> = s.path.iter().map(step).collect();
    // wildcard-admin implies the others where it holds: it comes first, so it is what is shown
    let worst = s
        .findings
        .iter()
        .filter(|f| steps.is_empty() && f.priority == s.priority)
        .min_by_key(|f| (f.status != Status::Open, f.rule != "wildcard-admin"));
    let grant = worst.and_then(|f| f.grants.first());
    let mut text = steps.join(" → ");
    if let Some(f) = worst {
        let _ = write!(text, "{}@{}", f.rule, f.scope);
    }
    if let Some(g) = grant {
        let GrantEntry { binding, role } = g;
        let _ = write!(
            text,
            " by {} to {} {}",
            object(binding),
            role.kind,
            role.name
        );
    }
    let mut cut: Vec<&Reference> = s.cut.iter().map(|c| &c.binding).collect();
    cut.dedup();
    if !cut.is_empty() && cut != Vec::from_iter(grant.map(|g| &g.binding)) {
        let cut: Vec<String> = cut.into_iter().map(object).collect();
        let _ = write!(text, "; cut {}", cut.join(" and "));
    }
    printable(&text)
}

pub(super) fn step(step: &StepEntry) -> String {
    let Reference {
        kind,
        namespace,
        name,
    } = &step.to;
    let to = match *kind {
        "ServiceAccount" => format!("sa:{namespace}/{name}"),
        "Group" => format!("group:{name}"),
        _ => format!("user:{name}"),
    };
    format!("{}@{} → {to}", step.edge, step.scope)
}

pub(super) fn object(r: &Reference) -> String {
    match r.namespace.as_str() {
        "" => format!("{} {}", r.kind, r.name),
        namespace => format!("{} {namespace}/{}", r.kind, r.name),
    }
}

/// A problem in one line, with its place first.
pub fn problem_line(p: &Problem) -> String {
    let mut place = p.file.clone().unwrap_or_default();
    if let Some(line) = p.line {
        let _ = write!(place, ":{line}");
    }
    let severity = match p.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let object = match (&p.kind, &p.name) {
        (Some(kind), Some(name)) => match &p.namespace {
            Some(ns) => format!("{kind} {ns}/{name}: "),
            None => format!("{kind} {name}: "),
        },
        (Some(kind), None) => format!("{kind}: "),
        _ => String::new(),
    };
    let place = if place.is_empty() {
        place
    } else {
        format!("{place}: ")
    };
    printable(&format!("{place}{severity}: {object}{}", p.message))
}

/// Does the character change the terminal, or the direction of text?
pub(super) fn odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Names are free text: control characters, and those that turn the direction of text, are shown as
/// escapes, so that none changes the terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes rows in columns, as in a pipe.
pub fn columns<const N: usize>(out: &mut String, head: [&str; N], rows: &[[String; N]]) {
    let rows: Vec<_> = rows.iter().map(|row| (None, row.clone())).collect();
    super::terminal::table(out, super::terminal::Look::default(), head, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_change_no_terminal() {
        assert_eq!(
            printable("a\u{1b}[31mb\n\u{202e}c"),
            "a\\u{1b}[31mb\\n\\u{202e}c"
        );
        assert_eq!(printable("straße"), "straße");
    }

    #[test]
    fn columns_line_up() {
        let mut out = String::new();
        let rows = [
            ["a".to_owned(), "bb".to_owned()],
            ["ccc".to_owned(), String::new()],
        ];
        columns(&mut out, ["X", "Y"], &rows);
        assert_eq!(out, "X    Y\na    bb\nccc\n");
    }
}
