//! API objects reduced to what the judgement needs.
//!
//! The structs hold the few fields that matter and pass over the rest without building it; they
//! serve the JSON of a watch and the YAML of a manifest alike. Conversion to [`Object`] defaults
//! as the API server does. A wrong type, and whatever the server refuses because nothing could be
//! meant by it, is an error that names the field.

mod pod;
mod value;

pub(crate) use pod::{Template, Workloads};
pub(crate) use value::{Block, Text, charge, within};

use crate::object::{
    Binding, LabelRequirement, LabelSelector, Meta, Namespace, Object, PolicyRule, Resource, Role,
    RoleRef, ServiceAccount, Spelling, Spellings, Subject,
};
use pod::{RawPod, RawWorkload};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny};
use std::marker::PhantomData;
use value::{Count, Flag, Lax, LaxBlock, List, Pairs, Present, Time};

/// The API group of roles and bindings.
pub(crate) const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// An object that does not decode, with as much of its name as could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Why, in one sentence that names the field.
    pub message: String,
    /// `metadata.namespace`, when it could be read.
    pub namespace: Option<String>,
    /// `metadata.name`, when it could be read.
    pub name: Option<String>,
    /// `metadata.resourceVersion`, when it could be read.
    pub resource_version: Option<String>,
}

/// Decodes one object of a list or watch.
///
/// # Errors
///
/// When `json` is no JSON, a field has a wrong type, or the object says something that the API
/// server would have refused and that means nothing (a binding to neither a Role nor a
/// ClusterRole, an object without a name).
pub fn decode(resource: Resource, json: &str) -> Result<Object, DecodeError> {
    let text = Json(json);
    let mut notes = Notes::ignored();
    let read = match Wanted::Resource(resource).read(&text, None, &mut notes) {
        Ok(Content::Object(object)) => return Ok(object),
        // A live pod is as admitted, whatever it lacks.
        Ok(Content::Template(template)) => return Ok(Object::Pod(Box::new(template.admitted()))),
        Err(fault) => fault,
    };
    let metadata = text.parse::<Head>().unwrap_or_default().metadata.0;
    let kind = resource.kind();
    let called = match &metadata.name.0 {
        Some(name) => {
            // no name is longer than 253 bytes, and the reason behind it is to be read
            let mut quoted = format!("{name:?}");
            if let Some((end, _)) = quoted.char_indices().nth(255) {
                quoted.truncate(end);
                quoted.push('…');
            }
            format!("{kind} {quoted}")
        }
        None => format!("a {kind} without a readable name"),
    };
    Err(DecodeError {
        message: clean(&format!("{called} cannot be decoded: {}", read.message)),
        namespace: metadata.namespace.0,
        name: metadata.name.0,
        resource_version: metadata.resource_version.0,
    })
}

/// Makes a message fit for one line: no control characters, no kilobytes of a quoted value.
pub(crate) fn clean(message: &str) -> String {
    const LONGEST: usize = 500;
    let mut out = String::with_capacity(message.len().min(LONGEST + 4));
    for c in message.chars() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Why a text could not be read as what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field and what is wrong with it.
    pub(crate) message: String,
    /// Line in the text, from 1, when known.
    pub(crate) line: Option<u32>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Fault {
            message: message.into(),
            line: None,
        }
    }
}

/// A text in some notation, holding one value.
pub(crate) trait Notation {
    /// Reads the value with a seed.
    fn seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Fault>;

    /// Reads the value.
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.seed(PhantomData)
    }
}

/// JSON text.
pub(crate) struct Json<'a>(pub(crate) &'a str);

impl Notation for Json<'_> {
    fn seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Fault> {
        json_seed(self.0, seed)
    }
}

/// Reads a JSON text with a seed.
pub(crate) fn json_seed<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> Result<S::Value, Fault> {
    let mut from = serde_json::Deserializer::from_str(text);
    seed.deserialize(&mut from)
        .and_then(|value| from.end().map(|()| value))
        .map_err(|error| json_fault(text, &error))
}

/// Adds the field to an error of serde_json, which knows only the place.
pub(crate) fn json_fault(text: &str, error: &serde_json::Error) -> Fault {
    let full = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = full.strip_suffix(&place).unwrap_or(&full);
    let start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // The reported column is that of the last byte read, which may already open a list or close
    // the value; what stands before it decides the path.
    let path = path_at(text, start + error.column().saturating_sub(1));
    Fault {
        message: if path.is_empty() || error.is_eof() {
            message.to_owned()
        } else {
            format!("{path}: {message}")
        },
        line: u32::try_from(error.line()).ok().filter(|line| *line > 0),
    }
}

/// The path (`rules[0].verbs`) of the value in which the byte `end` of a JSON text lies.
fn path_at(text: &str, end: usize) -> String {
    enum Step<'a> {
        Key(&'a str),
        Index(usize),
    }
    let bytes = text.as_bytes();
    let end = end.min(bytes.len());
    let mut steps = Vec::new();
    let mut key_next = false;
    let mut at = 0;
    while at < end {
        match bytes[at] {
            b'{' => {
                steps.push(Step::Key(""));
                key_next = true;
            }
            b'[' => {
                steps.push(Step::Index(0));
                key_next = false;
            }
            b'}' | b']' => {
                steps.pop();
                key_next = false;
            }
            b',' => match steps.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(Step::Key(_)) => key_next = true,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = start;
                while at < end && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if key_next
                    && at <= end
                    && let (Some(Step::Key(key)), Some(name)) =
                        (steps.last_mut(), text.get(start..at))
                {
                    *key = name;
                    key_next = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in &steps {
        match step {
            Step::Key("") => {}
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// What the server would refuse or ignore although it can be read; for manifests, where nobody has
/// refused it yet.
pub(crate) struct Notes(Option<Vec<String>>);

impl Notes {
    /// Keeps what is noted.
    pub(crate) fn kept() -> Self {
        Notes(Some(Vec::new()))
    }

    /// Drops it, without building the text.
    fn ignored() -> Self {
        Notes(None)
    }

    fn add(&mut self, note: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.0 {
            notes.push(note());
        }
    }

    /// What was noted.
    pub(crate) fn take(self) -> Vec<String> {
        self.0.unwrap_or_default()
    }
}

/// Who an object is: read leniently, so that it succeeds where the object itself does not decode.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Head {
    pub(crate) api_version: Lax,
    pub(crate) kind: Lax,
    pub(crate) metadata: LaxBlock<HeadMeta>,
    pub(crate) items: Count,
}

/// `metadata` in a [`Head`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct HeadMeta {
    pub(crate) name: Lax,
    pub(crate) generate_name: Lax,
    pub(crate) namespace: Lax,
    pub(crate) resource_version: Lax,
    /// In a list: there is more that was not fetched.
    pub(crate) r#continue: Lax,
}

/// What a text should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of the watched resources.
    Resource(Resource),
    /// A workload of this kind, for its pod template.
    Workload(&'static str),
}

/// What a text holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// An object as the server holds it.
    Object(Object),
    /// A pod that no server has admitted, or the template of a workload.
    Template(Box<Template>),
}

impl Wanted {
    /// Its kind.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Wanted::Resource(resource) => resource.kind(),
            Wanted::Workload(kind) => kind,
        }
    }

    /// Lies in a namespace.
    pub(crate) fn namespaced(self) -> bool {
        !matches!(
            self,
            Wanted::Resource(
                Resource::ClusterRoles | Resource::ClusterRoleBindings | Resource::Namespaces
            )
        )
    }

    /// Reads `text` as this. `namespace` is where a namespaced object goes that names none; without
    /// it such an object is an error.
    pub(crate) fn read(
        self,
        text: &impl Notation,
        namespace: Option<&str>,
        notes: &mut Notes,
    ) -> Result<Content, Fault> {
        let namespace = if self.namespaced() {
            Place::Namespace(namespace)
        } else {
            Place::Cluster
        };
        let read = match self {
            Wanted::Resource(Resource::ClusterRoles | Resource::Roles) => {
                role(text.parse::<Block<RawRole>>()?.0, namespace, notes).map(Object::Role)
            }
            Wanted::Resource(Resource::ClusterRoleBindings | Resource::RoleBindings) => {
                binding(text.parse::<Block<RawBinding>>()?.0, namespace, notes).map(Object::Binding)
            }
            Wanted::Resource(Resource::ServiceAccounts) => {
                account(text.parse::<Block<RawAccount>>()?.0, namespace).map(Object::ServiceAccount)
            }
            Wanted::Resource(Resource::Namespaces) => {
                let raw = text.parse::<Block<RawNamespace>>()?.0;
                raw.metadata.0.read(namespace, Box::default()).map(|meta| {
                    let pod_security = raw.metadata.0.labels.0.enforce.map(|text| text.0);
                    Object::Namespace(Namespace { meta, pod_security })
                })
            }
            Wanted::Resource(Resource::Pods) => {
                let read = text.parse::<Block<RawPod>>()?.0.read(namespace, notes);
                return read.map_err(Fault::new);
            }
            Wanted::Workload(kind) => {
                let raw = text.parse::<Block<RawWorkload>>()?.0;
                let read = raw.read(kind, namespace, notes);
                return read
                    .map(|template| Content::Template(Box::new(template)))
                    .map_err(Fault::new);
            }
        };
        read.map(Content::Object).map_err(Fault::new)
    }
}

/// Where an object lies.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// In no namespace, whatever its metadata say: the server clears it.
    Cluster,
    /// In a namespace, this one if it names none.
    Namespace(Option<&'a str>),
}

/// `metadata`. `L` is how its labels are read and `M` its managedFields; most objects need neither.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata<L = IgnoredAny, M = IgnoredAny> {
    name: Text,
    generate_name: Text,
    namespace: Text,
    uid: Text,
    creation_timestamp: Time,
    annotations: Block<Annotations>,
    owner_references: List<Block<OwnerReference>>,
    labels: L,
    managed_fields: M,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Present,
    #[serde(rename = "helm.sh/hook")]
    hook: Present,
    #[serde(rename = "helm.sh/hook-delete-policy")]
    delete_policy: Text,
}

impl Annotations {
    /// Helm deletes the object as soon as its hook has succeeded.
    fn transient(&self) -> bool {
        let mut policies = self.delete_policy.0.split(',').map(str::trim);
        self.hook.0 && policies.any(|policy| policy == "hook-succeeded")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: Text,
    name: Text,
    controller: Flag,
}

/// An entry of `managedFields`, as far as it says who owns what grants something.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Managed {
    time: Time,
    fields_v1: Block<OwnedFields>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct OwnedFields {
    #[serde(rename = "f:rules")]
    rules: Present,
    #[serde(rename = "f:aggregationRule")]
    aggregation: Present,
    #[serde(rename = "f:roleRef")]
    role: Present,
    #[serde(rename = "f:subjects")]
    subjects: Present,
}

/// Metadata of the objects whose history is read.
type Dated<L> = Metadata<L, List<Block<Managed>>>;

impl<L> Dated<L> {
    /// When what the object grants was written, by each who did.
    fn history(&self) -> Box<[i64]> {
        let entries = self.managed_fields.0.iter().map(|entry| &entry.0);
        entries
            .filter(|entry| {
                let owned = &entry.fields_v1.0;
                owned.rules.0 || owned.aggregation.0 || owned.role.0 || owned.subjects.0
            })
            .filter_map(|entry| entry.time.0)
            .collect()
    }
}

impl<L, M> Metadata<L, M> {
    fn read(&self, place: Place<'_>, history: Box<[i64]>) -> Result<Meta, String> {
        if self.name.0.is_empty() {
            return Err("metadata.name is missing".into());
        }
        let namespace = match place {
            Place::Cluster => "",
            Place::Namespace(_) if !self.namespace.0.is_empty() => &self.namespace.0,
            Place::Namespace(Some(default)) => default,
            Place::Namespace(None) => return Err("metadata.namespace is missing".into()),
        };
        Ok(Meta {
            namespace: namespace.to_owned(),
            name: self.name.0.clone(),
            uid: self.uid.0.clone(),
            created: self.creation_timestamp.0,
            history,
            transient: self.annotations.0.transient(),
            origin: None,
        })
    }

    /// The same, with `generateName` for a name: what runs has one in the end, and the prefix is
    /// all there is to call it by.
    fn read_generated(&mut self, place: Place<'_>) -> Result<Meta, String> {
        if self.name.0.is_empty() {
            self.name = std::mem::take(&mut self.generate_name);
        }
        self.read(place, Box::default())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRole {
    metadata: Block<Dated<Pairs>>,
    rules: List<Block<RawRule>>,
    aggregation_rule: Option<Block<Aggregation>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRule {
    verbs: List<Text>,
    api_groups: List<Text>,
    resources: List<Text>,
    resource_names: List<Text>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: List<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Aggregation {
    cluster_role_selectors: List<Block<RawSelector>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSelector {
    match_labels: Pairs,
    match_expressions: List<Block<RawRequirement>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRequirement {
    key: Text,
    operator: Text,
    values: List<Text>,
}

fn role(raw: RawRole, place: Place<'_>, notes: &mut Notes) -> Result<Role, String> {
    let metadata = raw.metadata.0;
    let meta = metadata.read(place, metadata.history())?;
    let cluster = matches!(place, Place::Cluster);
    let rules: Vec<PolicyRule> = raw
        .rules
        .0
        .into_iter()
        .map(|Block(rule)| PolicyRule {
            verbs: rule.verbs.strings(),
            api_groups: rule.api_groups.strings(),
            resources: rule.resources.strings(),
            resource_names: rule.resource_names.strings(),
            non_resource_urls: rule.non_resource_urls.strings(),
        })
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        note_rule(index, rule, cluster, notes);
    }
    // A Role has no such field, so there the server drops it.
    let aggregation = raw.aggregation_rule.filter(|_| cluster);
    Ok(Role {
        meta,
        labels: if cluster {
            metadata.labels.0
        } else {
            Vec::new()
        },
        aggregation: aggregation.map(|Block(aggregation)| {
            let selectors = aggregation.cluster_role_selectors.0.into_iter();
            selectors.map(|Block(raw)| selector(raw)).collect()
        }),
        rules,
    })
}

/// What the server refuses in a rule (`validation.ValidatePolicyRule`); it grants nothing or less
/// than it seems to.
fn note_rule(index: usize, rule: &PolicyRule, cluster: bool, notes: &mut Notes) {
    let urls = !rule.non_resource_urls.is_empty();
    if rule.verbs.is_empty() {
        notes.add(|| {
            format!("rules[{index}].verbs is empty, so the rule grants nothing; add a verb")
        });
    }
    if urls && !cluster {
        notes.add(|| {
            format!(
                "rules[{index}].nonResourceURLs grant nothing in a Role; move them to a ClusterRole"
            )
        });
    } else if urls
        && !(rule.api_groups.is_empty()
            && rule.resources.is_empty()
            && rule.resource_names.is_empty())
    {
        notes.add(|| format!("rules[{index}] has nonResourceURLs and resources; the API server refuses that, so split the rule"));
    } else if !urls && rule.api_groups.is_empty() {
        notes.add(|| format!("rules[{index}].apiGroups is empty, so the rule grants nothing; the core group is written \"\""));
    } else if !urls && rule.resources.is_empty() {
        notes.add(|| {
            format!("rules[{index}].resources is empty, so the rule grants nothing; add a resource")
        });
    }
}

fn selector(raw: RawSelector) -> LabelSelector {
    LabelSelector {
        match_labels: raw.match_labels.0,
        match_expressions: raw
            .match_expressions
            .0
            .into_iter()
            .map(|Block(raw)| LabelRequirement {
                key: raw.key.0,
                operator: raw.operator.0,
                values: raw.values.strings(),
            })
            .collect(),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawBinding {
    metadata: Block<Dated<IgnoredAny>>,
    role_ref: Block<RawRef>,
    subjects: List<Block<RawSubject>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRef {
    api_group: Text,
    kind: Text,
    name: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSubject {
    kind: Text,
    api_group: Text,
    namespace: Text,
    name: Text,
}

fn binding(raw: RawBinding, place: Place<'_>, notes: &mut Notes) -> Result<Binding, String> {
    let metadata = raw.metadata.0;
    let meta = metadata.read(place, metadata.history())?;
    let reference = raw.role_ref.0;
    if !matches!(reference.api_group.0.as_str(), "" | RBAC_GROUP) {
        return Err(format!(
            "roleRef.apiGroup is {:?} where only {RBAC_GROUP:?} is possible",
            reference.api_group.0
        ));
    }
    let cluster = match (reference.kind.0.as_str(), place) {
        ("ClusterRole", _) => true,
        ("Role", Place::Namespace(_)) => false,
        ("Role", Place::Cluster) => {
            return Err("roleRef.kind is \"Role\" where a ClusterRoleBinding can only refer to a \"ClusterRole\"".into());
        }
        ("", _) => return Err("roleRef.kind is missing".into()),
        (kind, _) => {
            return Err(format!(
                "roleRef.kind is {kind:?} where only \"ClusterRole\" and \"Role\" are possible"
            ));
        }
    };
    if reference.name.0.is_empty() {
        return Err("roleRef.name is missing".into());
    }
    let mut subjects = Vec::new();
    let mut spellings = Spellings::default();
    for (index, Block(raw)) in raw.subjects.0.into_iter().enumerate() {
        let (subject, spelling) = subject(index, raw, &meta.namespace, notes)?;
        if spelling != Spelling::Plain {
            spellings.0.push((index as u32, spelling));
        }
        subjects.push(subject);
    }
    Ok(Binding {
        meta,
        role: RoleRef {
            cluster,
            name: reference.name.0,
        },
        subjects,
        spellings: (!spellings.0.is_empty()).then(|| Box::new(spellings)),
    })
}

fn subject(
    index: usize,
    raw: RawSubject,
    namespace: &str,
    notes: &mut Notes,
) -> Result<(Subject, Spelling), String> {
    let (kind, name) = (raw.kind.0, raw.name.0);
    if name.is_empty() {
        return Err(format!("subjects[{index}].name is missing"));
    }
    let group = match kind.as_str() {
        "ServiceAccount" => "",
        "User" | "Group" => RBAC_GROUP,
        "" => return Err(format!("subjects[{index}].kind is missing")),
        _ => {
            return Err(format!(
                "subjects[{index}].kind is {kind:?} where only \"User\", \"Group\" and \"ServiceAccount\" are possible"
            ));
        }
    };
    // Only the kind decides whom the authorizer takes it for, so the subject is judged all the same.
    if !raw.api_group.0.is_empty() && raw.api_group.0 != group {
        notes.add(|| {
            format!(
                "subjects[{index}].apiGroup is {:?} where a {kind} has {group:?}; the API server refuses that, so correct it",
                raw.api_group.0
            )
        });
    }
    Ok(match kind.as_str() {
        "Group" => (Subject::Group { name }, Spelling::Plain),
        "User" => match Subject::user(&name) {
            user @ Subject::User { .. } => (user, Spelling::Plain),
            account => (account, Spelling::UserName),
        },
        _ => {
            let (namespace, spelling) = if raw.namespace.0.is_empty() {
                (namespace.to_owned(), Spelling::NoNamespace)
            } else {
                (raw.namespace.0, Spelling::Plain)
            };
            if namespace.is_empty() {
                notes.add(|| format!("subjects[{index}].namespace is missing, so the subject matches nobody; name the namespace of the account"));
            }
            (Subject::ServiceAccount { namespace, name }, spelling)
        }
    })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAccount {
    metadata: Block<Metadata>,
    automount_service_account_token: Flag,
    secrets: List<Block<Named>>,
}

/// A reference by name alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Named {
    name: Text,
}

fn account(raw: RawAccount, place: Place<'_>) -> Result<ServiceAccount, String> {
    let meta = raw.metadata.0.read(place, Box::default())?;
    let secrets = raw.secrets.0.into_iter().map(|Block(secret)| secret.name.0);
    Ok(ServiceAccount {
        meta,
        automount: raw.automount_service_account_token.0,
        secrets: secrets.filter(|name| !name.is_empty()).collect(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNamespace {
    metadata: Block<Metadata<Block<NamespaceLabels>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NamespaceLabels {
    #[serde(rename = "pod-security.kubernetes.io/enforce")]
    enforce: Option<Text>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(json: &str) -> Role {
        match decode(Resource::ClusterRoles, json) {
            Ok(Object::Role(role)) => role,
            other => panic!("{other:?}"),
        }
    }

    fn binding(resource: Resource, json: &str) -> Binding {
        match decode(resource, json) {
            Ok(Object::Binding(binding)) => binding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_role_is_read_with_its_history() {
        let role = role(
            r#"{"kind":"ClusterRole","metadata":{"name":"r","namespace":"stray","uid":"u",
            "creationTimestamp":"2026-01-01T00:00:00Z","labels":{"b":"2","a":"1"},
            "managedFields":[
              {"time":"2026-01-02T00:00:00Z","fieldsV1":{"f:rules":{}}},
              {"time":"2026-01-03T00:00:00Z","fieldsV1":{"f:metadata":{"f:rules":{}}}},
              {"time":"2026-01-01T12:00:00Z","fieldsV1":{"f:aggregationRule":{"f:x":{}}}},
              {"time":"2026-01-09T00:00:00Z"}, null]},
            "aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"x":"y"},
              "matchExpressions":[{"key":"k","operator":"In","values":["v"]}]}]},
            "rules":[{"verbs":["get",null],"apiGroups":[""],"resources":null,"nonResourceURLs":["/x"]},null]}"#,
        );
        assert_eq!(role.meta.namespace, "");
        assert_eq!(role.meta.created, Some(1_767_225_600));
        assert_eq!(*role.meta.history, [1_767_312_000, 1_767_268_800]);
        let label = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(role.labels, [label("a", "1"), label("b", "2")]);
        assert_eq!(role.rules.len(), 2);
        assert_eq!(role.rules[0].verbs, ["get", ""]);
        assert_eq!(role.rules[0].non_resource_urls, ["/x"]);
        let selectors = role.aggregation.unwrap();
        assert_eq!(selectors[0].match_labels, [label("x", "y")]);
        assert_eq!(selectors[0].match_expressions[0].values, ["v"]);
    }

    #[test]
    fn aggregation_that_is_null_is_none() {
        for json in [
            r#"{"metadata":{"name":"r"},"aggregationRule":null,"rules":null}"#,
            r#"{"metadata":{"name":"r","managedFields":[{}]}}"#,
        ] {
            let role = role(json);
            assert_eq!(role.aggregation, None);
            assert_eq!(*role.meta.history, [0; 0]);
        }
    }

    #[test]
    fn subjects_are_defaulted_as_the_server_does() {
        let json = r#"{"metadata":{"name":"b","namespace":"app"},
            "roleRef":{"kind":"Role","name":"r"},
            "subjects":[{"kind":"ServiceAccount","name":"web"},{"kind":"ServiceAccount","name":"x","namespace":"other"},
              {"kind":"User","name":"system:serviceaccount:a:b"},{"kind":"Group","name":"g","apiGroup":"rbac.authorization.k8s.io"}]}"#;
        let bound = binding(Resource::RoleBindings, json);
        let written: Vec<_> = bound.subjects.iter().map(Subject::written).collect();
        assert_eq!(written, ["sa:app/web", "sa:other/x", "sa:a/b", "group:g"]);
        // and how they stood there is known
        let odd = [(0, Spelling::NoNamespace), (2, Spelling::UserName)];
        assert_eq!(bound.spellings.unwrap().0, odd);
        assert!(!bound.role.cluster);
        let json = json.replace(r#""Role""#, r#""ClusterRole""#);
        let bound = binding(Resource::ClusterRoleBindings, &json);
        assert_eq!(bound.meta.namespace, "");
        assert_eq!(bound.subjects[0].written(), "sa:/web");
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (
                Resource::Roles,
                r#"{"metadata":{"name":"a","namespace":"n"},"rules":[{"verbs":["get"]},{"verbs":"get"}]}"#,
                "rules[1].verbs: invalid type",
            ),
            (
                Resource::Roles,
                r#"{"metadata":{"name":"a","namespace":"n"},"rules":{}}"#,
                "rules: invalid type: map",
            ),
            (
                Resource::Roles,
                r#"{"metadata":{"name":"a","namespace":"n"},"rules":[["get"]]}"#,
                "rules[0]: invalid type: sequence",
            ),
            (
                Resource::Roles,
                r#"{"metadata":{"name":"a"}}"#,
                "metadata.namespace is missing",
            ),
            (
                Resource::ClusterRoles,
                r#"{"metadata":{"name":7}}"#,
                "metadata.name: invalid type",
            ),
            (
                Resource::ClusterRoles,
                r#"{"metadata":{"name":""}}"#,
                "metadata.name is missing",
            ),
            (Resource::ClusterRoles, r#"{}"#, "metadata.name is missing"),
            (
                Resource::ClusterRoles,
                r#"[]"#,
                "invalid type: sequence, expected a mapping",
            ),
            (
                Resource::ClusterRoles,
                r#"{"metadata":{"name":"a","labels":{"x":"1","x":"2"}}}"#,
                "duplicate key \"x\"",
            ),
            (
                Resource::ClusterRoles,
                r#"{"metadata":{"name":"a"},"rules":[],"rules":[]}"#,
                "duplicate field `rules`",
            ),
            (
                Resource::RoleBindings,
                r#"{"metadata":{"name":"a","namespace":"n"},"roleRef":{"kind":"Foo","name":"x"}}"#,
                "roleRef.kind is \"Foo\"",
            ),
            (
                Resource::RoleBindings,
                r#"{"metadata":{"name":"a","namespace":"n"}}"#,
                "roleRef.kind is missing",
            ),
            (
                Resource::ClusterRoleBindings,
                r#"{"metadata":{"name":"a"},"roleRef":{"kind":"Role","name":"x"}}"#,
                "can only refer to a \"ClusterRole\"",
            ),
            (
                Resource::ClusterRoleBindings,
                r#"{"metadata":{"name":"a"},"roleRef":{"kind":"ClusterRole","apiGroup":"v1","name":"x"}}"#,
                "roleRef.apiGroup is \"v1\"",
            ),
            (
                Resource::ClusterRoleBindings,
                r#"{"metadata":{"name":"a"},"roleRef":{"kind":"ClusterRole","name":"x"},"subjects":[{"kind":"Robot","name":"c"}]}"#,
                "subjects[0].kind is \"Robot\"",
            ),
            (
                Resource::Pods,
                r#"{"metadata":{"name":"a","namespace":"n"},"spec":{"automountServiceAccountToken":"x"}}"#,
                "spec.automountServiceAccountToken: invalid type",
            ),
        ];
        for (resource, json, part) in cases {
            let error = decode(resource, json).unwrap_err();
            assert!(error.message.contains(part), "{json}: {}", error.message);
        }
    }

    #[test]
    fn an_error_tells_whose_it_is() {
        let json = r#"{"rules":"x","metadata":{"name":"a\nb","namespace":"n","resourceVersion":"7","labels":3}}"#;
        let error = decode(Resource::Roles, json).unwrap_err();
        assert_eq!(error.name.as_deref(), Some("a\nb"));
        assert_eq!(error.namespace.as_deref(), Some("n"));
        assert_eq!(error.resource_version.as_deref(), Some("7"));
        assert!(!error.message.contains('\n'), "{error}");
        let error = decode(Resource::Roles, "{\"metadata\":{\"name\":\"a\"").unwrap_err();
        assert_eq!(error.name, None);
        let long = format!(
            r#"{{"metadata":{{"name":"a"}},"rules":"{}"}}"#,
            "x".repeat(9000)
        );
        assert!(
            decode(Resource::ClusterRoles, &long)
                .unwrap_err()
                .message
                .len()
                < 600
        );
    }

    #[test]
    fn unknown_and_unused_fields_do_not_matter() {
        let json = r#"{"metadata":{"name":"a","managedFields":"x","ownerReferences":null,"annotations":{"k":{"deep":[1]}}},
            "spec":{"finalizers":["kubernetes"]},"extra":{"name":1}}"#;
        assert!(decode(Resource::Namespaces, json).is_ok());
    }

    #[test]
    fn hooks_that_helm_deletes_are_transient() {
        for (policy, transient) in [
            ("before-hook-creation, hook-succeeded", true),
            ("hook-succeeded", true),
            ("before-hook-creation", false),
        ] {
            let role = role(&format!(
                r#"{{"metadata":{{"name":"a","annotations":{{"helm.sh/hook":"pre-install","helm.sh/hook-delete-policy":"{policy}"}}}}}}"#
            ));
            assert_eq!(role.meta.transient, transient, "{policy}");
        }
        let alone = r#"{"metadata":{"name":"a","annotations":{"helm.sh/hook-delete-policy":"hook-succeeded"}}}"#;
        assert!(!role(alone).meta.transient);
    }

    #[test]
    fn accounts_and_namespaces() {
        let json = r#"{"metadata":{"name":"a","namespace":"n"},"automountServiceAccountToken":false,"secrets":[{"name":"s"},null]}"#;
        match decode(Resource::ServiceAccounts, json) {
            Ok(Object::ServiceAccount(account)) => {
                assert_eq!(account.automount, Some(false));
                assert_eq!(account.secrets, ["s"]);
            }
            other => panic!("{other:?}"),
        }
        let json = r#"{"metadata":{"name":"n","labels":{"pod-security.kubernetes.io/enforce":"restricted","x":"y"}}}"#;
        match decode(Resource::Namespaces, json) {
            Ok(Object::Namespace(namespace)) => {
                assert_eq!(namespace.pod_security.as_deref(), Some("restricted"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_path_of_a_byte() {
        let text = r#"{"a":{"b,\"{":[1,{"c":2}]},"d":[[0,1]]}"#;
        let at = |part: &str| path_at(text, text.find(part).unwrap());
        assert_eq!(at("2}"), "a.b,\\\"{[1].c");
        assert_eq!(at("1]]"), "d[0][1]");
        assert_eq!(path_at(text, 9999), "");
        assert_eq!(path_at("\"\\", 2), "");
    }
}
