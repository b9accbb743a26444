//! Pods, the templates of workloads, and what admission makes of them.

use super::{Block, Content, Flag, List, Metadata, Named, Notes, Place, Text};
use crate::object::{Escape, Meta, Phase, Pod, ProjectedToken, SecretSource, SecretUse, Workload};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Where client libraries look for their token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the volume that admission adds is called, up to its random suffix.
const TOKEN_VOLUME: &str = "kube-api-access-";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPod {
    metadata: Block<Metadata<Block<PodLabels>>>,
    spec: Block<Spec>,
    status: Block<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodLabels {
    #[serde(rename = "pod-template-hash")]
    template_hash: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: Text,
    /// The old name of the same field; the server takes it when the new one is empty.
    service_account: Text,
    node_name: Text,
    automount_service_account_token: Flag,
    #[serde(rename = "hostPID")]
    host_pid: Flag,
    host_network: Flag,
    volumes: List<Block<Volume>>,
    init_containers: List<Block<Container>>,
    containers: List<Block<Container>>,
    ephemeral_containers: List<Block<Container>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: Text,
    secret: Block<SecretVolume>,
    projected: Block<Projected>,
    host_path: Option<Block<HostPath>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecretVolume {
    secret_name: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct HostPath {
    path: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Projected {
    sources: List<Block<Projection>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Projection {
    service_account_token: Option<Block<TokenProjection>>,
    secret: Block<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct TokenProjection {
    audience: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: Text,
    volume_mounts: List<Block<Mount>>,
    env: List<Block<Variable>>,
    env_from: List<Block<VariableSource>>,
    security_context: Block<SecurityContext>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mount {
    name: Text,
    mount_path: Text,
    sub_path: Text,
    read_only: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Variable {
    value_from: Block<ValueFrom>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    secret_key_ref: Block<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VariableSource {
    secret_ref: Block<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SecurityContext {
    privileged: Flag,
    capabilities: Block<Capabilities>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Capabilities {
    add: List<Text>,
}

impl RawPod {
    pub(super) fn read(mut self, place: Place<'_>, notes: &mut Notes) -> Result<Content, String> {
        let metadata = &mut self.metadata.0;
        let meta = metadata.read_generated(place)?;
        let mirror = metadata.annotations.0.mirror.0;
        let workload = owner(metadata, &metadata.labels.0.template_hash.0);
        let phase = Phase::parse(&self.status.0.phase.0);
        let admitted = mirror || !self.status.0.phase.0.is_empty() || !meta.uid.is_empty();
        let template = Template {
            kind: "Pod",
            meta,
            workload,
            idle: false,
            mirror,
            phase,
            spec: self.spec.0,
        };
        Ok(if admitted {
            Content::Object(crate::object::Object::Pod(Box::new(template.admitted())))
        } else {
            template.spec.note("spec", notes);
            Content::Template(Box::new(template))
        })
    }
}

/// The workload behind a controller reference. ReplicaSets and Jobs that another controller made
/// bear its name and a suffix of a fixed form.
fn owner<L>(metadata: &Metadata<L>, template_hash: &str) -> Option<Workload> {
    let references = metadata.owner_references.0.iter().map(|owner| &owner.0);
    let owner = references
        .into_iter()
        .find(|owner| owner.controller.is_true())?;
    let (kind, name) = (owner.kind.0.as_str(), owner.name.0.as_str());
    let (kind, name) = match kind {
        // The node of a mirror pod.
        "Node" => return None,
        "ReplicaSet" => match name
            .strip_suffix(template_hash)
            .and_then(|name| name.strip_suffix('-'))
        {
            Some(name) if !template_hash.is_empty() && !name.is_empty() => ("Deployment", name),
            _ => (kind, name),
        },
        "Job" => match name.rsplit_once('-') {
            // The scheduled minute (batch/v1), or the second before 1.21.
            Some((name, time))
                if !name.is_empty()
                    && time.len() >= 8
                    && time.bytes().all(|b| b.is_ascii_digit()) =>
            {
                ("CronJob", name)
            }
            _ => (kind, name),
        },
        _ => (kind, name),
    };
    Some(Workload {
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RawWorkload {
    metadata: Block<Metadata>,
    spec: Block<WorkloadSpec>,
    status: Block<WorkloadStatus>,
}

/// `spec` of any workload; each kind has some of the fields.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WorkloadSpec {
    replicas: Option<i64>,
    parallelism: Option<i64>,
    suspend: Flag,
    template: Block<PodTemplate>,
    job_template: Block<JobTemplate>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    spec: Block<Spec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobTemplate {
    spec: Block<JobSpec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobSpec {
    parallelism: Option<i64>,
    suspend: Flag,
    template: Block<PodTemplate>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkloadStatus {
    conditions: List<Block<Condition>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: Text,
    status: Text,
}

impl RawWorkload {
    pub(super) fn read(
        mut self,
        kind: &'static str,
        place: Place<'_>,
        notes: &mut Notes,
    ) -> Result<Template, String> {
        let metadata = &mut self.metadata.0;
        let meta = metadata.read_generated(place)?;
        // The hash label stands on a ReplicaSet itself as on its pods; it is the set's own name
        // that carries it here, so its owner needs no resolving.
        let owner = owner(metadata, "");
        let workload = owner.unwrap_or_else(|| Workload {
            kind: kind.to_owned(),
            name: meta.name.clone(),
        });
        let WorkloadSpec {
            replicas,
            parallelism,
            suspend,
            template,
            job_template: Block(JobTemplate { spec: Block(job) }),
        } = self.spec.0;
        let (idle, template, path) = match kind {
            "CronJob" => (
                suspend.is_true() || job.suspend.is_true() || job.parallelism == Some(0),
                job.template,
                "spec.jobTemplate.spec.template.spec",
            ),
            "Job" => (
                suspend.is_true() || parallelism == Some(0) || finished(&self.status.0),
                template,
                "spec.template.spec",
            ),
            "DaemonSet" => (false, template, "spec.template.spec"),
            _ => (replicas == Some(0), template, "spec.template.spec"),
        };
        let spec = template.0.spec.0;
        spec.note(path, notes);
        Ok(Template {
            kind,
            meta,
            workload: Some(workload),
            idle,
            mirror: false,
            phase: Phase::Unknown,
            spec,
        })
    }
}

/// A Job that makes no more pods.
fn finished(status: &WorkloadStatus) -> bool {
    status.conditions.0.iter().any(|Block(condition)| {
        matches!(condition.r#type.0.as_str(), "Complete" | "Failed") && condition.status.0 == "True"
    })
}

/// A pod as somebody wrote it, before admission.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// `Pod`, or the kind of the workload that holds it.
    pub(crate) kind: &'static str,
    pub(crate) meta: Meta,
    /// Who owns the pods: the workload itself or the one that made it.
    pub(crate) workload: Option<Workload>,
    /// Suspended, scaled to zero or finished: there is no pod and none is to come.
    pub(crate) idle: bool,
    mirror: bool,
    phase: Phase,
    spec: Spec,
}

/// The workloads of a namespace, for matching pods with templates.
pub(crate) type Workloads = BTreeSet<(String, Workload)>;

impl Template {
    /// The account the pod runs as; empty for a mirror pod without one.
    pub(crate) fn account(&self) -> &str {
        let spec = &self.spec;
        match (&*spec.service_account_name.0, &*spec.service_account.0) {
            ("", "") if self.mirror => "",
            ("", "") => "default",
            ("", old) => old,
            (name, _) => name,
        }
    }

    /// The pod as it is, for one that a server has admitted.
    pub(crate) fn admitted(self) -> Pod {
        let mut pod = Pod {
            service_account: self.account().to_owned(),
            meta: self.meta,
            node: self.spec.node_name.0.clone(),
            phase: self.phase,
            automount: self.spec.automount_service_account_token.0,
            mirror: self.mirror,
            predicted: false,
            workload: self.workload,
            escape: self.spec.escape(),
            tokens: Vec::new(),
            secrets: Vec::new(),
        };
        self.spec.carried(&mut pod.tokens, &mut pod.secrets);
        pod
    }

    /// The pod that admission would make of it, where the account's own
    /// `automountServiceAccountToken` is `account`.
    pub(crate) fn predicted(mut self, account: Option<bool>) -> Pod {
        let own = self.spec.automount_service_account_token.0;
        if own.or(account).unwrap_or(true) {
            self.spec.mount_token();
        }
        let mut pod = self.admitted();
        pod.predicted = true;
        pod
    }
}

impl Spec {
    fn all_containers(&self) -> impl Iterator<Item = &Container> {
        let init = self.init_containers.0.iter();
        init.chain(&self.containers.0)
            .chain(&self.ephemeral_containers.0)
            .map(|container| &container.0)
    }

    /// What the server refuses in a template and what would hide a token.
    fn note(&self, path: &str, notes: &mut Notes) {
        if self.containers.0.is_empty() {
            notes.add(|| format!("{path}.containers is empty, so the pod carries nothing; the API server refuses that, so add a container"));
        }
    }

    fn volume(&self, name: &str) -> Option<&Volume> {
        let mut volumes = self.volumes.0.iter().map(|volume| &volume.0);
        volumes.find(|volume| volume.name.0 == name)
    }

    /// What the admission plugin ServiceAccount does on create: containers and init containers
    /// that mount nothing at the usual place get the token there. A volume with the usual prefix
    /// is used again, whatever it holds.
    fn mount_token(&mut self) {
        let existing = self.volumes.0.iter().map(|volume| &volume.0.name.0);
        let existing = existing
            .into_iter()
            .find(|name| name.starts_with(TOKEN_VOLUME))
            .cloned();
        let name = existing.clone().unwrap_or_else(|| TOKEN_VOLUME.to_owned());
        let mut used = false;
        for Block(container) in self
            .init_containers
            .0
            .iter_mut()
            .chain(&mut self.containers.0)
        {
            let mounts = &mut container.volume_mounts.0;
            if mounts
                .iter()
                .all(|mount| mount.0.mount_path.0 != TOKEN_PATH)
            {
                used = true;
                mounts.push(Block(Mount {
                    name: Text(name.clone()),
                    mount_path: Text(TOKEN_PATH.to_owned()),
                    ..Mount::default()
                }));
            }
        }
        if used && existing.is_none() {
            let token = Projection {
                service_account_token: Some(Block::default()),
                ..Projection::default()
            };
            self.volumes.0.push(Block(Volume {
                name: Text(name),
                projected: Block(Projected {
                    sources: List(vec![Block(token)]),
                }),
                ..Volume::default()
            }));
        }
    }

    /// The tokens and Secrets that reach a container. A volume nobody mounts reaches none.
    fn carried(&self, tokens: &mut Vec<ProjectedToken>, secrets: &mut Vec<SecretUse>) {
        for container in self.all_containers() {
            let by = &container.name.0;
            for Block(mount) in &container.volume_mounts.0 {
                let Some(volume) = self.volume(&mount.name.0) else {
                    continue;
                };
                add_secret(
                    secrets,
                    &volume.secret.0.secret_name.0,
                    SecretSource::Volume,
                    by,
                );
                for Block(source) in &volume.projected.0.sources.0 {
                    add_secret(secrets, &source.secret.0.name.0, SecretSource::Volume, by);
                    if let Some(Block(token)) = &source.service_account_token {
                        add_token(tokens, &token.audience.0, &mount.mount_path.0, by);
                    }
                }
            }
            for Block(variable) in &container.env.0 {
                let secret = &variable.value_from.0.secret_key_ref.0;
                add_secret(secrets, &secret.name.0, SecretSource::Env, by);
            }
            for Block(source) in &container.env_from.0 {
                add_secret(secrets, &source.secret_ref.0.name.0, SecretSource::Env, by);
            }
        }
        tokens.sort_unstable();
        secrets.sort_unstable();
    }

    /// The ways in which the pod can take its node, as bits.
    fn escape(&self) -> u8 {
        let (mut privileged, mut traces, mut capable, mut path) = (false, false, false, false);
        for container in self.all_containers() {
            let context = &container.security_context.0;
            privileged |= context.privileged.is_true();
            for Text(name) in &context.capabilities.0.add.0 {
                let name = name.to_ascii_uppercase();
                match name.strip_prefix("CAP_").unwrap_or(&name) {
                    "ALL" | "SYS_ADMIN" => {
                        capable = true;
                        traces = true;
                    }
                    // Alone it reaches the pod's own processes; the node's only with hostPID.
                    "SYS_PTRACE" => {
                        capable |= self.host_pid.is_true();
                        traces = true;
                    }
                    "SYS_MODULE" | "DAC_READ_SEARCH" | "SYS_RAWIO" | "BPF" => capable = true,
                    _ => {}
                }
            }
            for Block(mount) in &container.volume_mounts.0 {
                if let Some(Block(host)) = self
                    .volume(&mount.name.0)
                    .and_then(|volume| volume.host_path.as_ref())
                {
                    let seen = format!("{}/{}", host.path.0, mount.sub_path.0);
                    path |= gives_node_away(&seen, mount.read_only.is_true());
                }
            }
        }
        let mut bits = 0;
        for (set, escape) in [
            (privileged, Escape::Privileged),
            (path, Escape::HostPath),
            (
                self.host_pid.is_true() && (privileged || traces),
                Escape::HostPid,
            ),
            (self.host_network.is_true(), Escape::HostNetwork),
            (capable, Escape::Capability),
        ] {
            if set {
                bits |= escape as u8;
            }
        }
        bits
    }
}

fn add_secret(secrets: &mut Vec<SecretUse>, name: &str, source: SecretSource, container: &str) {
    if name.is_empty() {
        return;
    }
    match secrets
        .iter_mut()
        .find(|secret| secret.name == name && secret.source == source)
    {
        Some(secret) => add_name(&mut secret.containers, container),
        None => secrets.push(SecretUse {
            name: name.to_owned(),
            source,
            containers: vec![container.to_owned()],
        }),
    }
}

/// Tokens for the same audience are one: they are of the same account.
fn add_token(tokens: &mut Vec<ProjectedToken>, audience: &str, path: &str, container: &str) {
    let at_default_path = path.trim_end_matches('/') == TOKEN_PATH;
    match tokens
        .iter_mut()
        .find(|token| token.audience.as_deref().unwrap_or_default() == audience)
    {
        Some(token) => {
            token.at_default_path |= at_default_path;
            add_name(&mut token.containers, container);
        }
        None => tokens.push(ProjectedToken {
            audience: (!audience.is_empty()).then(|| audience.to_owned()),
            containers: vec![container.to_owned()],
            at_default_path,
        }),
    }
}

fn add_name(names: &mut Vec<String>, name: &str) {
    if let Err(at) = names.binary_search_by(|known| known.as_str().cmp(name)) {
        names.insert(at, name.to_owned());
    }
}

/// Whether a path of the node gives the node away.
fn gives_node_away(path: &str, read_only: bool) -> bool {
    /// Sockets of container runtimes, and the directories in which nothing else lies, below `/run`.
    const RUNTIMES: [&str; 9] = [
        "containerd",
        "containerd.sock",
        "cri-dockerd.sock",
        "crio",
        "docker",
        "docker.sock",
        "dockershim.sock",
        "k3s",
        "podman",
    ];
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    match parts.as_slice() {
        // Everything, and what holds the kubelet's directory or the sockets.
        [] | ["var"] | ["var", "lib"] | ["run"] | ["var", "run"] => true,
        ["proc" | "root" | "home", ..] | ["etc", "kubernetes", ..] => true,
        ["etc"] => !read_only,
        // Beside these two the kubelet keeps the sockets of plugins, which drivers mount.
        ["var", "lib", "kubelet"] | ["var", "lib", "kubelet", "pods" | "pki", ..] => true,
        ["run", first, ..] | ["var", "run", first, ..] => RUNTIMES.contains(first),
        // A `..` is refused by the server; one that came through is not to be trusted.
        _ => parts.contains(&".."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Object, Resource};
    use crate::source::slim::{Json, Wanted, decode};

    fn pod(json: &str) -> Pod {
        match decode(Resource::Pods, json) {
            Ok(Object::Pod(pod)) => *pod,
            other => panic!("{other:?}"),
        }
    }

    fn spec(spec: &str) -> Pod {
        pod(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{{{spec}}}}}"#
        ))
    }

    fn words(pod: &Pod) -> Vec<&'static str> {
        Pod::escape_words(pod.escape).collect()
    }

    #[test]
    fn tokens_and_secrets_are_those_that_a_container_receives() {
        let pod = spec(
            r#""serviceAccountName":"web","nodeName":"n1","automountServiceAccountToken":false,
            "volumes":[
              {"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"token"}},{"secret":{"name":"s1"}},{"configMap":{}}]}},
              {"name":"v","projected":{"sources":[{"serviceAccountToken":{"audience":"vault"}}]}},
              {"name":"s","secret":{"secretName":"s2"}},
              {"name":"unused","secret":{"secretName":"s3"}},
              {"name":"unused-token","projected":{"sources":[{"serviceAccountToken":{"audience":"x"}}]}}],
            "initContainers":[{"name":"i","volumeMounts":[{"name":"v","mountPath":"/v"}]}],
            "containers":[
              {"name":"b","volumeMounts":[{"name":"t","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount/"}],
               "env":[{"name":"A","value":"x"},{"name":"B","valueFrom":{"secretKeyRef":{"name":"s2","key":"k"}}}],
               "envFrom":[{"secretRef":{"name":"s4"}},{"configMapRef":{"name":"c"}}]},
              {"name":"a","volumeMounts":[{"name":"t","mountPath":"/t"},{"name":"missing","mountPath":"/m"}]}],
            "ephemeralContainers":[{"name":"e","volumeMounts":[{"name":"s","mountPath":"/s"}]}]"#,
        );
        assert_eq!(pod.service_account, "web");
        assert_eq!(pod.node, "n1");
        assert_eq!(pod.automount, Some(false));
        assert_eq!(pod.tokens.len(), 2);
        assert_eq!(pod.tokens[0].audience, None);
        assert_eq!(pod.tokens[0].containers, ["a", "b"]);
        assert!(pod.tokens[0].at_default_path);
        assert_eq!(pod.tokens[1].audience.as_deref(), Some("vault"));
        assert!(!pod.tokens[1].at_default_path);
        let secrets: Vec<_> = pod
            .secrets
            .iter()
            .map(|s| (s.name.as_str(), s.source, s.containers.join(",")))
            .collect();
        assert_eq!(
            secrets,
            [
                ("s1", SecretSource::Volume, "a,b".to_owned()),
                ("s2", SecretSource::Volume, "e".to_owned()),
                ("s2", SecretSource::Env, "b".to_owned()),
                ("s4", SecretSource::Env, "b".to_owned()),
            ]
        );
    }

    #[test]
    fn the_account_of_a_pod() {
        assert_eq!(spec("").service_account, "default");
        assert_eq!(spec(r#""serviceAccount":"old""#).service_account, "old");
        let mirror = r#"{"metadata":{"name":"etcd","namespace":"kube-system",
            "annotations":{"kubernetes.io/config.mirror":""},
            "ownerReferences":[{"kind":"Node","name":"n1","controller":true}]},"status":{"phase":"Running"}}"#;
        let mirror = pod(mirror);
        assert!(mirror.mirror);
        assert_eq!(mirror.service_account, "");
        assert_eq!(mirror.workload, None);
        assert_eq!(mirror.phase, Phase::Running);
    }

    #[test]
    fn owners_are_resolved() {
        let owned = |kind: &str, name: &str, controller: bool| {
            let pod = pod(&format!(
                r#"{{"metadata":{{"name":"p","namespace":"n","labels":{{"pod-template-hash":"7d9f"}},
                "ownerReferences":[{{"kind":"Other","name":"o"}},{{"kind":"{kind}","name":"{name}","controller":{controller}}}]}}}}"#
            ));
            pod.workload
                .map(|owner| format!("{}/{}", owner.kind, owner.name))
        };
        for (kind, name, expected) in [
            ("ReplicaSet", "web-7d9f", "Deployment/web"),
            ("ReplicaSet", "web-other", "ReplicaSet/web-other"),
            ("ReplicaSet", "7d9f", "ReplicaSet/7d9f"),
            ("Job", "nightly-29012345", "CronJob/nightly"),
            ("Job", "nightly-2901234", "Job/nightly-2901234"),
            ("Job", "-29012345", "Job/-29012345"),
            ("StatefulSet", "db", "StatefulSet/db"),
            ("Rollout", "x", "Rollout/x"),
        ] {
            assert_eq!(owned(kind, name, true).as_deref(), Some(expected));
        }
        assert_eq!(owned("StatefulSet", "db", false), None);
    }

    #[test]
    fn ways_to_the_node() {
        let privileged = r#""containers":[{"securityContext":{"privileged":true}}]"#;
        assert_eq!(words(&spec(privileged)), ["privileged"]);
        let both = format!(r#""hostPID":true,"hostNetwork":true,{privileged}"#);
        assert_eq!(
            words(&spec(&both)),
            ["privileged", "host-pid", "host-network"]
        );
        assert!(words(&spec(r#""hostPID":true,"containers":[{}]"#)).is_empty());
        for (capability, alone, with_pids) in [
            (
                "SYS_ADMIN",
                vec!["capability"],
                vec!["host-pid", "capability"],
            ),
            ("cap_sys_ptrace", vec![], vec!["host-pid", "capability"]),
            ("BPF", vec!["capability"], vec!["capability"]),
            ("ALL", vec!["capability"], vec!["host-pid", "capability"]),
            ("NET_ADMIN", vec![], vec![]),
        ] {
            let container = format!(
                r#""initContainers":[{{"securityContext":{{"capabilities":{{"add":["{capability}"]}}}}}}]"#
            );
            assert_eq!(words(&spec(&container)), alone, "{capability}");
            let container = format!(r#""hostPID":true,{container}"#);
            assert_eq!(words(&spec(&container)), with_pids, "{capability}");
        }
    }

    #[test]
    fn host_paths() {
        let mounted = |path: &str, mount: &str| {
            words(&spec(&format!(
                r#""volumes":[{{"name":"h","hostPath":{{"path":"{path}"}}}}],
                "containers":[{{"volumeMounts":[{{"name":"h","mountPath":"/h"{mount}}}]}}]"#
            )))
        };
        for path in [
            "/",
            "",
            "/var",
            "/var/lib/kubelet/",
            "/var/lib/kubelet/pods/x",
            "/var/run",
            "//run/./",
            "/var/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/etc/kubernetes/pki",
            "/proc",
            "/root",
            "/home/x",
            "/etc",
            "/a/../root",
        ] {
            assert_eq!(mounted(path, ""), ["host-path"], "{path}");
        }
        for path in [
            "/var/log",
            "/var/lib/kubelet/plugins/x",
            "/run/xtables.lock",
            "/var/run/calico",
            "/etc/localtime",
            "/rootfs",
            "/lib/modules",
            "/lib/containerd",
        ] {
            assert!(mounted(path, "").is_empty(), "{path}");
        }
        assert!(mounted("/etc", r#","readOnly":true"#).is_empty());
        assert!(mounted("/", r#","subPath":"etc/localtime""#).is_empty());
        assert_eq!(
            mounted("/var", r#","subPath":"lib/kubelet""#),
            ["host-path"]
        );
        let unmounted = r#""volumes":[{"name":"h","hostPath":{"path":"/"}}],"containers":[{}]"#;
        assert!(words(&spec(unmounted)).is_empty());
    }

    fn predicted(spec: &str, account: Option<bool>) -> Pod {
        let json = format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{{spec}}}}}"#);
        let wanted = Wanted::Resource(Resource::Pods);
        match wanted.read(&Json(&json), None, &mut Notes::kept()) {
            Ok(Content::Template(template)) => template.predicted(account),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn admission_mounts_the_token_where_nothing_else_lies() {
        let pod = predicted(
            r#""initContainers":[{"name":"i"}],"ephemeralContainers":[{"name":"e"}],
            "containers":[{"name":"a"},{"name":"b","volumeMounts":[{"name":"x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}]"#,
            None,
        );
        assert!(pod.predicted);
        assert_eq!(pod.tokens.len(), 1);
        assert_eq!(pod.tokens[0].containers, ["a", "i"]);
        assert!(pod.tokens[0].at_default_path);
    }

    #[test]
    fn the_pod_decides_before_the_account() {
        let one = r#""containers":[{"name":"a"}]"#;
        for (own, account, token) in [
            ("", None, true),
            ("", Some(false), false),
            ("", Some(true), true),
            (r#""automountServiceAccountToken":true,"#, Some(false), true),
            (
                r#""automountServiceAccountToken":false,"#,
                Some(true),
                false,
            ),
        ] {
            let pod = predicted(&format!("{own}{one}"), account);
            assert_eq!(!pod.tokens.is_empty(), token, "{own} {account:?}");
        }
    }

    #[test]
    fn a_volume_with_the_usual_prefix_is_used_again_whatever_it_holds() {
        let pod = predicted(
            r#""volumes":[{"name":"kube-api-access-mine","secret":{"secretName":"s"}}],"containers":[{"name":"a"}]"#,
            None,
        );
        assert!(pod.tokens.is_empty());
        assert_eq!(pod.secrets[0].name, "s");
    }
}
