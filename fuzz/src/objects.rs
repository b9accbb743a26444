use crate::{bounded, one_line};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::serde::de::DeserializeOwned;
use rbac_exporter::object::{self, Meta, Object, Resource, Subject};
use rbac_exporter::source::slim::decode;
use std::collections::BTreeMap;

/// Decodes one object, the first byte chooses of which resource, and holds it to what k8s-openapi makes of
/// the same text: what both can read is the same, and what k8s-openapi can read is refused for nothing but
/// what the API server refuses.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let resource = Resource::ALL[usize::from(*choice) % Resource::ALL.len()];
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let ours = bounded(data, 200, || decode(resource, text));
    if let Err(error) = &ours {
        one_line(&error.message);
        assert!(error.message.len() < 700, "{}", error.message);
        let named = match &error.name {
            Some(name) => format!("{name:?}").chars().take(200).collect(),
            None => "without a readable name".to_owned(),
        };
        assert!(error.message.contains(&named), "{named} in {error:?}");
    }
    match resource {
        Resource::ClusterRoles => against(&ours, text, cluster_role),
        Resource::Roles => against(&ours, text, role),
        Resource::ClusterRoleBindings => against(&ours, text, cluster_role_binding),
        Resource::RoleBindings => against(&ours, text, role_binding),
        Resource::ServiceAccounts => against(&ours, text, account),
        Resource::Namespaces => against(&ours, text, namespace),
        Resource::Pods => pod(&ours, text),
    }
}

type Ours = Result<Object, rbac_exporter::source::DecodeError>;

fn against<T: DeserializeOwned>(ours: &Ours, text: &str, convert: fn(T) -> Option<Object>) {
    let Ok(theirs) = serde_json::from_str::<T>(text) else {
        return;
    };
    match ours {
        Ok(ours) => assert_eq!(Some(ours), convert(theirs).as_ref()),
        Err(error) => refused(&error.message),
    }
}

/// What may be refused although it has the right types: what means nothing, and what is there twice.
fn refused(message: &str) {
    let reasons = [
        "is missing",
        "duplicate field",
        "duplicate key",
        "roleRef.kind is",
        "roleRef.apiGroup is",
        "].kind is",
    ];
    let good = reasons.iter().any(|reason| message.contains(reason));
    // k8s-openapi reads a list in the place of no mapping, but takes any number for a string of none
    assert!(good, "{message}");
}

fn meta(theirs: &ObjectMeta, cluster: bool, owned: &[&str]) -> Meta {
    let annotations = theirs.annotations.clone().unwrap_or_default();
    let policy = annotations.get("helm.sh/hook-delete-policy");
    let policies = policy.map(|p| p.split(',').any(|p| p.trim() == "hook-succeeded"));
    let history = theirs.managed_fields.iter().flatten().filter_map(|entry| {
        let fields = entry.fields_v1.as_ref()?.0.as_object()?;
        let owns = owned.iter().any(|field| fields.contains_key(*field));
        owns.then(|| entry.time.as_ref().map(|t| t.0.as_second()))?
    });
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Meta {
        namespace: if cluster {
            String::new()
        } else {
            text(&theirs.namespace)
        },
        name: text(&theirs.name),
        uid: text(&theirs.uid),
        created: theirs.creation_timestamp.as_ref().map(|t| t.0.as_second()),
        history: history.collect(),
        transient: annotations.contains_key("helm.sh/hook") && policies == Some(true),
        origin: None,
    }
}

/// Fields whose owners have a history.
const GRANTS: [&str; 4] = ["f:rules", "f:aggregationRule", "f:roleRef", "f:subjects"];

fn rules(theirs: Option<Vec<rbac::PolicyRule>>) -> Vec<object::PolicyRule> {
    let rule = |rule: rbac::PolicyRule| object::PolicyRule {
        verbs: rule.verbs,
        api_groups: rule.api_groups.unwrap_or_default(),
        resources: rule.resources.unwrap_or_default(),
        resource_names: rule.resource_names.unwrap_or_default(),
        non_resource_urls: rule.non_resource_urls.unwrap_or_default(),
    };
    theirs.unwrap_or_default().into_iter().map(rule).collect()
}

fn pairs(theirs: Option<BTreeMap<String, String>>) -> Vec<(String, String)> {
    theirs.unwrap_or_default().into_iter().collect()
}

fn selector(theirs: LabelSelector) -> object::LabelSelector {
    let expressions = theirs.match_expressions.unwrap_or_default().into_iter();
    object::LabelSelector {
        match_labels: pairs(theirs.match_labels),
        match_expressions: expressions
            .map(|e| object::LabelRequirement {
                key: e.key,
                operator: e.operator,
                values: e.values.unwrap_or_default(),
            })
            .collect(),
    }
}

fn cluster_role(theirs: rbac::ClusterRole) -> Option<Object> {
    let selectors = |rule: rbac::AggregationRule| {
        let selectors = rule.cluster_role_selectors.unwrap_or_default();
        selectors.into_iter().map(selector).collect()
    };
    Some(Object::Role(object::Role {
        meta: meta(&theirs.metadata, true, &GRANTS),
        labels: pairs(theirs.metadata.labels),
        aggregation: theirs.aggregation_rule.map(selectors),
        rules: rules(theirs.rules),
    }))
}

fn role(theirs: rbac::Role) -> Option<Object> {
    Some(Object::Role(object::Role {
        meta: meta(&theirs.metadata, false, &GRANTS),
        labels: Vec::new(),
        aggregation: None,
        rules: rules(theirs.rules),
    }))
}

fn binding(
    meta: Meta,
    reference: rbac::RoleRef,
    theirs: Option<Vec<rbac::Subject>>,
    ours: &str,
) -> Option<Object> {
    let mut spellings = Vec::new();
    let mut subjects = Vec::new();
    for (index, subject) in theirs.unwrap_or_default().into_iter().enumerate() {
        let index = u32::try_from(index).ok()?;
        subjects.push(match subject.kind.as_str() {
            "Group" => Subject::Group { name: subject.name },
            "User" => {
                let user = Subject::user(&subject.name);
                if matches!(user, Subject::ServiceAccount { .. }) {
                    spellings.push((index, object::Spelling::UserName));
                }
                user
            }
            "ServiceAccount" => {
                let named = subject.namespace.filter(|n| !n.is_empty());
                if named.is_none() {
                    spellings.push((index, object::Spelling::NoNamespace));
                }
                Subject::ServiceAccount {
                    namespace: named.unwrap_or_else(|| ours.to_owned()),
                    name: subject.name,
                }
            }
            _ => return None,
        });
    }
    Some(Object::Binding(object::Binding {
        meta,
        role: object::RoleRef {
            cluster: reference.kind == "ClusterRole",
            name: reference.name,
        },
        subjects,
        spellings: (!spellings.is_empty()).then(|| Box::new(object::Spellings(spellings))),
    }))
}

fn cluster_role_binding(theirs: rbac::ClusterRoleBinding) -> Option<Object> {
    let meta = meta(&theirs.metadata, true, &GRANTS);
    binding(meta, theirs.role_ref, theirs.subjects, "")
}

fn role_binding(theirs: rbac::RoleBinding) -> Option<Object> {
    let meta = meta(&theirs.metadata, false, &GRANTS);
    let namespace = meta.namespace.clone();
    binding(meta, theirs.role_ref, theirs.subjects, &namespace)
}

fn account(theirs: core::ServiceAccount) -> Option<Object> {
    let secrets = theirs.secrets.unwrap_or_default().into_iter();
    Some(Object::ServiceAccount(object::ServiceAccount {
        meta: meta(&theirs.metadata, false, &[]),
        automount: theirs.automount_service_account_token,
        secrets: secrets
            .filter_map(|s| s.name)
            .filter(|n| !n.is_empty())
            .collect(),
    }))
}

fn namespace(theirs: core::Namespace) -> Option<Object> {
    let labels = theirs.metadata.labels.clone().unwrap_or_default();
    Some(Object::Namespace(object::Namespace {
        meta: meta(&theirs.metadata, true, &[]),
        pod_security: labels.get("pod-security.kubernetes.io/enforce").cloned(),
    }))
}

/// A pod by its plain fields, and by the tokens and Secrets that its containers are given.
fn pod(ours: &Ours, text: &str) {
    let Ok(theirs) = serde_json::from_str::<core::Pod>(text) else {
        return;
    };
    let ours = match ours {
        Ok(Object::Pod(ours)) => ours,
        Ok(other) => panic!("{other:?}"),
        Err(error) => return refused(&error.message),
    };
    let spec = theirs.spec.unwrap_or_default();
    assert_eq!(ours.node, spec.node_name.unwrap_or_default());
    assert_eq!(ours.automount, spec.automount_service_account_token);
    let phase = theirs.status.and_then(|s| s.phase).unwrap_or_default();
    assert_eq!(ours.phase, object::Phase::parse(&phase));
    let filled = |name: Option<String>| name.filter(|n| !n.is_empty());
    let account = filled(spec.service_account_name).or(filled(spec.service_account));
    if let Some(account) = &account {
        assert_eq!(ours.service_account, *account);
    }
    let annotations = theirs.metadata.annotations.unwrap_or_default();
    assert_eq!(
        ours.mirror,
        annotations.contains_key("kubernetes.io/config.mirror")
    );
    assert!(!ours.predicted, "a live pod is as it is");
    let volumes = spec.volumes.unwrap_or_default();
    let plain = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mounts = plain.map(|c| (&c.name, &c.volume_mounts)).chain(
        spec.ephemeral_containers
            .iter()
            .flatten()
            .map(|c| (&c.name, &c.volume_mounts)),
    );
    let mut mounted: Vec<(&str, &str)> = Vec::new();
    for (container, mounts) in mounts {
        let mounts = mounts.iter().flatten();
        mounted.extend(mounts.map(|mount| (mount.name.as_str(), container.as_str())));
    }
    // Every projected token that some container mounts, by audience, whichever volume brings it.
    let tokens = volumes.iter().any(|volume| {
        let sources = volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten());
        let mut sources = sources.filter(|source| source.service_account_token.is_some());
        sources.next().is_some() && mounted.iter().any(|(name, _)| *name == volume.name)
    });
    assert_eq!(!ours.tokens.is_empty(), tokens, "{ours:?}");
    for token in &ours.tokens {
        for container in &token.containers {
            assert!(mounted.iter().any(|(_, of)| of == container), "{ours:?}");
        }
    }
}
