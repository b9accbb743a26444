//! What objects say, as far as the judgement reads it.

use crate::ledger::Grant;
use crate::object::{
    Binding, LabelSelector, Namespace, Object, Origin, Pod, PolicyRule, Role, ServiceAccount,
    Subject,
};
use std::collections::{BTreeMap, BTreeSet};

/// Kind, namespace and name. Pods that a workload owns go under the name of that workload, so that
/// a rollout is no difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Kind.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectName {
    pub(super) fn new(kind: &str, namespace: &str, name: &str) -> ObjectName {
        ObjectName {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(super) fn of(object: &Object) -> ObjectName {
        let meta = object.meta();
        match object {
            Object::Pod(pod) if pod.workload.is_some() => {
                let workload = pod.workload.as_ref();
                let (kind, name) = workload.map_or(("", ""), |w| (&w.kind, &w.name));
                ObjectName::new(kind, &meta.namespace, name)
            }
            _ => ObjectName::new(object.resource().kind(), &meta.namespace, &meta.name),
        }
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is new.
    Added,
    /// It is there on both sides and says something else.
    Changed,
    /// It is gone.
    Removed,
}

impl Edit {
    /// As it stands in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Edit::Added => "added",
            Edit::Changed => "changed",
            Edit::Removed => "removed",
        }
    }
}

/// A field that differs, as lists of words: what it no longer holds and what it holds in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name of the field in the object; `pods` for what a workload's pods carry.
    pub name: &'static str,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// Only in the new one.
    pub added: Vec<String>,
}

/// An object that differs in what the judgement reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// Which.
    pub name: ObjectName,
    /// What became of it.
    pub edit: Edit,
    /// Where it stood, for manifests.
    pub old: Option<Origin>,
    /// Where it stands, for manifests.
    pub new: Option<Origin>,
    /// Fields that differ, of an object that is on both sides.
    pub fields: Vec<Field>,
}

/// The objects of one side, by name. Those of a name are several for the pods of a workload alone.
#[derive(Debug, Default)]
pub(super) struct Contents {
    objects: BTreeMap<ObjectName, Vec<Object>>,
    /// Names of bindings by the subjects that they name.
    named: BTreeMap<Subject, Vec<ObjectName>>,
}

impl Contents {
    pub(super) fn of(objects: Vec<Object>) -> Contents {
        let mut out = Contents::default();
        for object in objects {
            let name = ObjectName::of(&object);
            match &object {
                Object::Pod(pod) if pod.phase.terminal() => continue,
                Object::Binding(binding) => {
                    for subject in binding.subjects.iter().collect::<BTreeSet<_>>() {
                        let naming = out.named.entry(subject.clone()).or_default();
                        naming.push(name.clone());
                    }
                }
                _ => {}
            }
            out.objects.entry(name).or_default().push(object);
        }
        out
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(super) fn bindings_of(&self, subject: &Subject) -> impl Iterator<Item = &Binding> {
        let names = self.named.get(subject).into_iter().flatten();
        names.filter_map(|name| match self.objects.get(name)?.first()? {
            Object::Binding(binding) => Some(binding),
            _ => None,
        })
    }

    pub(super) fn cluster_roles(&self) -> impl Iterator<Item = &Role> {
        let from = ObjectName::new("ClusterRole", "", "");
        let all = self.objects.range(from..);
        all.take_while(|(name, _)| name.kind == "ClusterRole")
            .filter_map(|(_, objects)| role(objects))
    }

    pub(super) fn cluster_role(&self, name: &str) -> Option<&Role> {
        role(
            self.objects
                .get(&ObjectName::new("ClusterRole", "", name))?,
        )
    }

    /// Pods, or the workloads of pods, that carry a token of the account.
    pub(super) fn carriers<'a>(
        &'a self,
        namespace: &'a str,
        account: &'a str,
    ) -> impl Iterator<Item = &'a ObjectName> {
        let all = self.objects.iter();
        all.filter(move |(name, objects)| {
            name.namespace == namespace
                && objects
                    .iter()
                    .any(|o| matches!(o, Object::Pod(pod) if pod.service_account == account))
        })
        .map(|(name, _)| name)
    }
}

fn role(objects: &[Object]) -> Option<&Role> {
    match objects.first()? {
        Object::Role(role) => Some(role),
        _ => None,
    }
}

pub(super) fn grant_of(binding: &Binding) -> Grant {
    Grant {
        binding_namespace: binding.meta.namespace.clone(),
        binding: binding.meta.name.clone(),
        cluster_role: binding.role.cluster,
        role: binding.role.name.clone(),
    }
}

/// Objects that differ. `labels` are the keys that an aggregated role looks at.
pub(super) fn changes(
    old: &Contents,
    new: &Contents,
    labels: &BTreeSet<String>,
) -> Vec<ObjectChange> {
    let names: BTreeSet<&ObjectName> = old.objects.keys().chain(new.objects.keys()).collect();
    let mut out = Vec::new();
    for name in names {
        let (before, after) = (old.objects.get(name), new.objects.get(name));
        let origin = |objects: Option<&Vec<Object>>| {
            let first = objects.and_then(|o| o.first());
            first.and_then(|o| o.meta().origin.clone())
        };
        let (edit, fields) = match (before, after) {
            (Some(before), Some(after)) => {
                let fields = fields(before, after, labels);
                if fields.is_empty() {
                    continue;
                }
                (Edit::Changed, fields)
            }
            (None, _) => (Edit::Added, Vec::new()),
            (_, None) => (Edit::Removed, Vec::new()),
        };
        out.push(ObjectChange {
            name: name.clone(),
            edit,
            old: origin(before),
            new: origin(after),
            fields,
        });
    }
    out
}

/// Puts a field down if its words differ.
fn field(
    out: &mut Vec<Field>,
    name: &'static str,
    old: impl IntoIterator<Item = String>,
    new: impl IntoIterator<Item = String>,
) {
    let old: BTreeSet<String> = old.into_iter().collect();
    let new: BTreeSet<String> = new.into_iter().collect();
    if old != new {
        out.push(Field {
            name,
            removed: old.difference(&new).cloned().collect(),
            added: new.difference(&old).cloned().collect(),
        });
    }
}

fn fields(old: &[Object], new: &[Object], labels: &BTreeSet<String>) -> Vec<Field> {
    let mut out = Vec::new();
    let words = |flag: Option<bool>| flag.map(|f| f.to_string());
    match (old.first(), new.first()) {
        (Some(Object::Role(a)), Some(Object::Role(b))) => roles(&mut out, a, b, labels),
        (Some(Object::Binding(a)), Some(Object::Binding(b))) => {
            let role = |b: &Binding| {
                let kind = if b.role.cluster {
                    "ClusterRole"
                } else {
                    "Role"
                };
                [format!("{kind} {}", b.role.name)]
            };
            let subjects =
                |b: &Binding| b.subjects.iter().map(Subject::written).collect::<Vec<_>>();
            field(&mut out, "roleRef", role(a), role(b));
            field(&mut out, "subjects", subjects(a), subjects(b));
        }
        (Some(Object::ServiceAccount(a)), Some(Object::ServiceAccount(b))) => {
            let automount = |a: &ServiceAccount| words(a.automount);
            let name = "automountServiceAccountToken";
            field(&mut out, name, automount(a), automount(b));
            field(&mut out, "secrets", a.secrets.clone(), b.secrets.clone());
        }
        (Some(Object::Namespace(a)), Some(Object::Namespace(b))) => {
            let enforced = |n: &Namespace| {
                let level = n.pod_security.as_ref();
                level.map(|l| format!("pod-security.kubernetes.io/enforce={l}"))
            };
            field(&mut out, "labels", enforced(a), enforced(b));
        }
        _ => field(&mut out, "pods", shapes(old), shapes(new)),
    }
    out
}

fn roles(out: &mut Vec<Field>, old: &Role, new: &Role, labels: &BTreeSet<String>) {
    let kept = |role: &Role| {
        let known = role.labels.iter().filter(|(key, _)| labels.contains(key));
        known
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    };
    let selectors = |role: &Role| {
        let all = role.aggregation.iter().flatten();
        all.map(written_selector).collect::<Vec<_>>()
    };
    // what the controller fills in is nobody's edit
    let filled = old.aggregation.is_some()
        && new.aggregation.is_some()
        && (old.rules.is_empty() || new.rules.is_empty());
    if !filled {
        let rules = |role: &Role| role.rules.iter().map(written_rule).collect::<Vec<_>>();
        field(out, "rules", rules(old), rules(new));
    }
    field(out, "aggregationRule", selectors(old), selectors(new));
    field(out, "labels", kept(old), kept(new));
}

fn written_selector(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter();
    let expressions =
        expressions.map(|e| format!("{} {} ({})", e.key, e.operator, e.values.join(",")));
    let all: Vec<String> = labels.chain(expressions).collect();
    if all.is_empty() {
        return "everything".to_owned();
    }
    all.join(",")
}

/// `get,list on secrets, deployments.apps named a,b`; `get on /metrics`.
fn written_rule(rule: &PolicyRule) -> String {
    let mut targets: Vec<String> = rule.non_resource_urls.clone();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            targets.push(match group.as_str() {
                "" => resource.clone(),
                group => format!("{resource}.{group}"),
            });
        }
    }
    let names = match rule.resource_names.as_slice() {
        [] => String::new(),
        names => format!(" named {}", names.join(",")),
    };
    format!("{} on {}{names}", rule.verbs.join(","), targets.join(", "))
}

/// What the pods of a name carry, each kind of pod once.
fn shapes(objects: &[Object]) -> BTreeSet<String> {
    let pods = objects.iter().filter_map(|o| match o {
        Object::Pod(pod) => Some(&**pod),
        _ => None,
    });
    pods.map(shape).collect()
}

fn shape(pod: &Pod) -> String {
    let mut parts = vec![format!("account {}", pod.service_account)];
    for token in &pod.tokens {
        let audience = token.audience.as_deref().map(|a| format!(" for {a}"));
        let place = if token.at_default_path {
            ""
        } else {
            " elsewhere"
        };
        parts.push(format!(
            "token{}{place} in {}",
            audience.unwrap_or_default(),
            token.containers.join(",")
        ));
    }
    for secret in &pod.secrets {
        let containers = secret.containers.join(",");
        parts.push(format!(
            "Secret {} as {} in {containers}",
            secret.name,
            match secret.source {
                crate::object::SecretSource::Volume => "volume",
                crate::object::SecretSource::Env => "env",
            }
        ));
    }
    parts.extend(Pod::escape_words(pod.escape).map(str::to_owned));
    if let Some(automount) = pod.automount {
        parts.push(format!("automount {automount}"));
    }
    parts.join("; ")
}
