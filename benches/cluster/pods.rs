//! The shapes of pods, each as a real API server 1.37 writes it: fields in its order, defaults filled in, what
//! admission and sidecar injection add, a status, and `managedFields` that own every one of these fields.
//!
//! Blanks are `$word$`; [`super::Cluster`] fills them.

use super::template::Template;
use std::fmt::Write as _;

/// What kind of pod it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A Deployment's, with an injected mesh proxy: the largest.
    Meshed,
    /// A Deployment's, with Secrets in its environment.
    Api,
    /// A Deployment's that asked for no token.
    Quiet,
    /// A StatefulSet's, with a volume of its own and a Secret as files.
    Stateful,
    /// A CronJob's, done.
    Done,
    /// A DaemonSet's: privileged, with the node's files.
    Agent,
}

/// All of them, by how often workloads have them: an index into this is a roll.
pub(crate) const MIX: [Shape; 16] = {
    use Shape::{Api, Done, Meshed, Quiet, Stateful};
    [
        Meshed, Meshed, Meshed, Meshed, Meshed, Api, Api, Api, Api, Api, Quiet, Quiet, Quiet,
        Stateful, Stateful, Done,
    ]
};

struct Container {
    name: &'static str,
    image: &'static str,
    args: &'static [&'static str],
    port: u16,
    /// On the node's network the server gives every port of a container to the node as well.
    on_node: bool,
    env: usize,
    secret_env: bool,
    mounts: &'static [(&'static str, &'static str, bool)],
    security: &'static str,
    probes: bool,
}

const RESTRICTED: &str = r#"{"capabilities":{"drop":["ALL"]},"runAsNonRoot":true,"allowPrivilegeEscalation":false,"seccompProfile":{"type":"RuntimeDefault"}}"#;
const PRIVILEGED: &str = r#"{"privileged":true}"#;
const TOKEN: (&str, &str, bool) = (
    "kube-api-access-$suffix$",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    true,
);
const KEYS: [&str; 12] = [
    "LOG_LEVEL",
    "LOG_FORMAT",
    "DATABASE_HOST",
    "DATABASE_PORT",
    "DATABASE_POOL_SIZE",
    "CACHE_URL",
    "FEATURE_FLAGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "KAFKA_BROKERS",
    "HTTP_IDLE_TIMEOUT",
    "GOMAXPROCS",
];

const APP: Container = Container {
    name: "app",
    image: "registry.example.com/platform/$app$:2025.11.$number$",
    args: &["--config=/etc/app/config.yaml", "--http.port=8080"],
    port: 8080,
    on_node: false,
    env: 5,
    secret_env: false,
    mounts: &[("config", "/etc/app", true), ("tmp", "/tmp", false), TOKEN],
    security: RESTRICTED,
    probes: true,
};
const PROXY: Container = Container {
    name: "istio-proxy",
    image: "registry.example.com/istio/proxyv2:1.27.1",
    args: &[
        "proxy",
        "sidecar",
        "--domain",
        "$(POD_NAMESPACE).svc.cluster.local",
        "--proxyLogLevel=warning",
        "--proxyComponentLogLevel=misc:error",
    ],
    port: 15090,
    on_node: false,
    env: 2,
    secret_env: false,
    mounts: &[
        (
            "workload-socket",
            "/var/run/secrets/workload-spiffe-uds",
            false,
        ),
        ("istiod-ca-cert", "/var/run/secrets/istio", false),
        ("istio-data", "/var/lib/istio/data", false),
        ("istio-envoy", "/etc/istio/proxy", false),
        ("istio-token", "/var/run/secrets/tokens", false),
        ("istio-podinfo", "/etc/istio/pod", false),
        TOKEN,
    ],
    security: RESTRICTED,
    probes: false,
};
const INIT: Container = Container {
    name: "istio-init",
    image: "registry.example.com/istio/proxyv2:1.27.1",
    args: &["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337"],
    port: 0,
    on_node: false,
    env: 0,
    secret_env: false,
    mounts: &[TOKEN],
    security: r#"{"capabilities":{"add":["NET_ADMIN","NET_RAW"],"drop":["ALL"]},"privileged":false,"runAsUser":0,"runAsGroup":0,"runAsNonRoot":false,"readOnlyRootFilesystem":false,"allowPrivilegeEscalation":false}"#,
    probes: false,
};

impl Shape {
    /// Kind of the controller.
    pub(crate) fn owner(self) -> &'static str {
        match self {
            Shape::Meshed | Shape::Api | Shape::Quiet => "ReplicaSet",
            Shape::Stateful => "StatefulSet",
            Shape::Done => "Job",
            Shape::Agent => "DaemonSet",
        }
    }

    fn containers(self) -> (Vec<Container>, Vec<Container>) {
        let app = match self {
            Shape::Meshed => return (vec![INIT], vec![APP, PROXY]),
            Shape::Api => Container {
                secret_env: true,
                ..APP
            },
            Shape::Quiet => Container {
                mounts: &[("config", "/etc/app", true), ("tmp", "/tmp", false)],
                env: 4,
                ..APP
            },
            Shape::Stateful => Container {
                mounts: &[
                    ("data", "/var/lib/data", false),
                    ("config", "/etc/app", true),
                    ("credentials", "/etc/credentials", true),
                    TOKEN,
                ],
                env: 6,
                ..APP
            },
            Shape::Done => Container {
                port: 0,
                probes: false,
                env: 5,
                ..APP
            },
            Shape::Agent => Container {
                mounts: &[
                    ("root", "/host/root", true),
                    ("sys", "/host/sys", true),
                    ("socket", "/run/containerd", false),
                    ("config", "/etc/app", true),
                    TOKEN,
                ],
                security: PRIVILEGED,
                on_node: true,
                env: 4,
                ..APP
            },
        };
        let exporter = Container {
            name: "metrics",
            image: "registry.example.com/platform/metrics-proxy:0.9.2",
            args: &[
                "--upstream=http://127.0.0.1:8080/",
                "--secure-listen-address=:9443",
            ],
            port: 9443,
            on_node: self == Shape::Agent,
            env: 1,
            secret_env: false,
            mounts: if self == Shape::Quiet { &[] } else { &[TOKEN] },
            security: RESTRICTED,
            probes: false,
        };
        match self {
            Shape::Done | Shape::Quiet => (vec![], vec![app]),
            _ => (vec![], vec![app, exporter]),
        }
    }

    fn volumes(self) -> Vec<(&'static str, &'static str)> {
        let config = (
            "config",
            r#""configMap":{"name":"$app$-config","defaultMode":420}"#,
        );
        let token = (
            "kube-api-access-$suffix$",
            r#""projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}"#,
        );
        let empty = r#""emptyDir":{}"#;
        match self {
            Shape::Meshed => vec![
                ("workload-socket", empty),
                ("istio-envoy", r#""emptyDir":{"medium":"Memory"}"#),
                ("istio-data", empty),
                (
                    "istio-podinfo",
                    r#""downwardAPI":{"items":[{"path":"labels","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.labels"}},{"path":"annotations","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.annotations"}}],"defaultMode":420}"#,
                ),
                (
                    "istio-token",
                    r#""projected":{"sources":[{"serviceAccountToken":{"audience":"istio-ca","expirationSeconds":43200,"path":"istio-token"}}],"defaultMode":420}"#,
                ),
                (
                    "istiod-ca-cert",
                    r#""configMap":{"name":"istio-ca-root-cert","defaultMode":420}"#,
                ),
                config,
                ("tmp", empty),
                token,
            ],
            Shape::Quiet => vec![config, ("tmp", empty)],
            Shape::Api | Shape::Done => vec![config, ("tmp", empty), token],
            Shape::Stateful => vec![
                (
                    "data",
                    r#""persistentVolumeClaim":{"claimName":"data-$name$"}"#,
                ),
                config,
                (
                    "credentials",
                    r#""secret":{"secretName":"$app$-credentials","defaultMode":256}"#,
                ),
                token,
            ],
            Shape::Agent => vec![
                ("root", r#""hostPath":{"path":"/","type":""}"#),
                ("sys", r#""hostPath":{"path":"/sys","type":"Directory"}"#),
                (
                    "socket",
                    r#""hostPath":{"path":"/run/containerd","type":"Directory"}"#,
                ),
                config,
                token,
            ],
        }
    }

    /// One pod as an item of a list: without `kind` and `apiVersion`, which items lack.
    pub(crate) fn template(self) -> Template {
        let mut text = String::from("{");
        self.metadata(&mut text);
        text.push_str(r#","spec":{"#);
        self.spec(&mut text);
        text.push_str(r#"},"status":{"#);
        self.status(&mut text);
        text.push_str("}}");
        Template::new(&text)
    }

    fn metadata(self, out: &mut String) {
        let generate = match self {
            Shape::Stateful => "",
            _ => r#""generateName":"$owner$-","#,
        };
        let labels = match self {
            Shape::Meshed => {
                r#""app.kubernetes.io/instance":"$app$","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"$app$","app.kubernetes.io/version":"2025.11.$number$","helm.sh/chart":"service-4.2.1","pod-template-hash":"$hash$","security.istio.io/tlsMode":"istio","service.istio.io/canonical-name":"$app$","service.istio.io/canonical-revision":"latest","team":"$team$""#
            }
            Shape::Api | Shape::Quiet => {
                r#""app.kubernetes.io/instance":"$app$","app.kubernetes.io/name":"$app$","app.kubernetes.io/version":"2025.11.$number$","pod-template-hash":"$hash$","team":"$team$""#
            }
            Shape::Stateful => {
                r#""app.kubernetes.io/instance":"$app$","app.kubernetes.io/name":"$app$","apps.kubernetes.io/pod-index":"$replica$","controller-revision-hash":"$app$-$hash$","statefulset.kubernetes.io/pod-name":"$name$","team":"$team$""#
            }
            Shape::Done => {
                r#""batch.kubernetes.io/controller-uid":"$owneruid$","batch.kubernetes.io/job-name":"$owner$","controller-uid":"$owneruid$","job-name":"$owner$","team":"$team$""#
            }
            Shape::Agent => {
                r#""app.kubernetes.io/name":"$app$","controller-revision-hash":"$hash$","pod-template-generation":"7","team":"$team$""#
            }
        };
        let annotations = match self {
            Shape::Meshed => {
                r#""checksum/config":"$hex$","istio.io/rev":"default","kubectl.kubernetes.io/default-container":"app","kubectl.kubernetes.io/default-logs-container":"app","kubectl.kubernetes.io/restartedAt":"$created$","prometheus.io/path":"/stats/prometheus","prometheus.io/port":"15020","prometheus.io/scrape":"true","sidecar.istio.io/status":"{\"initContainers\":[\"istio-init\"],\"containers\":[\"istio-proxy\"],\"volumes\":[\"workload-socket\",\"istio-envoy\",\"istio-data\",\"istio-podinfo\",\"istio-token\",\"istiod-ca-cert\"],\"imagePullSecrets\":null,\"revision\":\"default\"}""#
            }
            _ => {
                r#""checksum/config":"$hex$","prometheus.io/port":"8080","prometheus.io/scrape":"true""#
            }
        };
        let (owner, group) = (
            self.owner(),
            if self == Shape::Done { "batch" } else { "apps" },
        );
        let _ = write!(
            out,
            r#""metadata":{{"name":"$name$",{generate}"namespace":"$ns$","uid":"$uid$","resourceVersion":"$rv$","generation":1,"creationTimestamp":"$created$",$deletion$"labels":{{{labels}}},"annotations":{{{annotations}}},"ownerReferences":[{{"apiVersion":"{group}/v1","kind":"{owner}","name":"$owner$","uid":"$owneruid$","controller":true,"blockOwnerDeletion":true}}],"managedFields":["#
        );
        self.managed(labels, annotations, out);
        out.push_str("]}");
    }

    /// Who owns which field: kube-controller-manager what it made of the template, kubelet the status.
    fn managed(self, labels: &str, annotations: &str, out: &mut String) {
        // Keys are quoted words before a colon; values here hold colons only within escaped JSON.
        let keys = |text: &str| {
            let parts: Vec<&str> = text.split("\",\"").collect();
            let mut owned = r#"".":{}"#.to_owned();
            for part in parts {
                let key = part.split("\":").next().unwrap_or_default();
                let key = key.trim_start_matches('"');
                if !key.contains('\\') && !key.contains('[') {
                    let _ = write!(owned, r#","f:{key}":{{}}"#);
                }
            }
            owned
        };
        let _ = write!(
            out,
            r#"{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"$created$","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{{}}},"f:generateName":{{}},"f:labels":{{{}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\"$owneruid$\"}}":{{}}}}}},"f:spec":{{"f:containers":{{"#,
            keys(annotations),
            keys(labels)
        );
        let (_, containers) = self.containers();
        for (i, c) in containers.iter().enumerate() {
            let _ = write!(
                out,
                r#"{}"k:{{\"name\":\"{}\"}}":{{".":{{}},"f:args":{{}}"#,
                if i > 0 { "," } else { "" },
                c.name
            );
            if c.env > 0 {
                out.push_str(r#","f:env":{".":{}"#);
                for key in &KEYS[..c.env] {
                    let _ = write!(
                        out,
                        r#","k:{{\"name\":\"{key}\"}}":{{".":{{}},"f:name":{{}},"f:value":{{}}}}"#
                    );
                }
                out.push('}');
            }
            out.push_str(r#","f:image":{},"f:imagePullPolicy":{}"#);
            if c.probes {
                let probe = r#"{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},"f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}}"#;
                let _ = write!(out, r#","f:livenessProbe":{probe}"#);
            }
            let _ = write!(
                out,
                r#","f:name":{{}},"f:ports":{{".":{{}},"k:{{\"containerPort\":{},\"protocol\":\"TCP\"}}":{{".":{{}},"f:containerPort":{{}},"f:name":{{}},"f:protocol":{{}}}}}},"f:resources":{{".":{{}},"f:limits":{{".":{{}},"f:memory":{{}}}},"f:requests":{{".":{{}},"f:cpu":{{}},"f:memory":{{}}}}}},"f:securityContext":{{".":{{}},"f:allowPrivilegeEscalation":{{}},"f:capabilities":{{".":{{}},"f:drop":{{}}}},"f:runAsNonRoot":{{}}}},"f:terminationMessagePath":{{}},"f:terminationMessagePolicy":{{}}"#,
                c.port
            );
            out.push_str(r#","f:volumeMounts":{".":{}"#);
            for (name, path, _) in c.mounts.iter().filter(|mount| **mount != TOKEN) {
                let _ = write!(
                    out,
                    r#","k:{{\"mountPath\":\"{path}\"}}":{{".":{{}},"f:mountPath":{{}},"f:name":{{}},"f:readOnly":{{}}}}"#
                );
                let _ = name;
            }
            out.push_str("}}");
        }
        out.push_str(r#"},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{".":{},"f:fsGroup":{}},"f:serviceAccount":{},"f:serviceAccountName":{},"f:terminationGracePeriodSeconds":{},"f:volumes":{".":{}"#);
        for (name, _) in self.volumes() {
            if !name.starts_with("kube-api-access") {
                let _ = write!(
                    out,
                    r#","k:{{\"name\":\"{name}\"}}":{{".":{{}},"f:name":{{}}}}"#
                );
            }
        }
        out.push_str(r#"}}}},{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"$created$","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"#);
        for (i, kind) in [
            "ContainersReady",
            "Initialized",
            "PodReadyToStartContainers",
            "Ready",
        ]
        .iter()
        .enumerate()
        {
            let _ = write!(
                out,
                r#"{}"k:{{\"type\":\"{kind}\"}}":{{".":{{}},"f:lastProbeTime":{{}},"f:lastTransitionTime":{{}},"f:status":{{}},"f:type":{{}}}}"#,
                if i > 0 { "," } else { "" }
            );
        }
        out.push_str(r#"},"f:containerStatuses":{},"f:hostIP":{},"f:hostIPs":{},"f:observedGeneration":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"$ip$\"}":{".":{},"f:ip":{}}},"f:startTime":{}}},"subresource":"status"}"#);
    }

    fn spec(self, out: &mut String) {
        out.push_str(r#""volumes":["#);
        for (i, (name, source)) in self.volumes().iter().enumerate() {
            let _ = write!(
                out,
                r#"{}{{"name":"{name}",{source}}}"#,
                if i > 0 { "," } else { "" }
            );
        }
        out.push(']');
        let (init, containers) = self.containers();
        for (field, list) in [("initContainers", &init), ("containers", &containers)] {
            if list.is_empty() {
                continue;
            }
            let _ = write!(out, r#","{field}":["#);
            for (i, container) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                container.spec(out);
            }
            out.push(']');
        }
        let restart = if self == Shape::Done {
            "OnFailure"
        } else {
            "Always"
        };
        let automount = if self == Shape::Quiet {
            r#""automountServiceAccountToken":false,"#
        } else {
            ""
        };
        let host = if self == Shape::Agent {
            r#""hostNetwork":true,"hostPID":true,"#
        } else {
            ""
        };
        let _ = write!(
            out,
            r#","restartPolicy":"{restart}","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"$account$","serviceAccount":"$account$",{automount}$placed${host}"securityContext":{{"fsGroup":1337}},"imagePullSecrets":[{{"name":"registry-credentials"}}],"affinity":{{"podAntiAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":100,"podAffinityTerm":{{"labelSelector":{{"matchLabels":{{"app.kubernetes.io/name":"$app$"}}}},"topologyKey":"kubernetes.io/hostname"}}}}]}}}},"schedulerName":"default-scheduler","tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}},{{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority""#
        );
    }

    fn status(self, out: &mut String) {
        let _ = write!(
            out,
            r#""observedGeneration":1,"phase":"$phase$","conditions":["#
        );
        for (i, kind) in [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        .iter()
        .enumerate()
        {
            let _ = write!(
                out,
                r#"{}{{"type":"{kind}","observedGeneration":1,"status":"True","lastProbeTime":null,"lastTransitionTime":"$created$"}}"#,
                if i > 0 { "," } else { "" }
            );
        }
        out.push_str(r#"],"hostIP":"$hostip$","hostIPs":[{"ip":"$hostip$"}],"podIP":"$ip$","podIPs":[{"ip":"$ip$"}],"startTime":"$created$""#);
        let (init, containers) = self.containers();
        for (field, list, over) in [
            ("initContainerStatuses", &init, true),
            ("containerStatuses", &containers, self == Shape::Done),
        ] {
            if list.is_empty() {
                continue;
            }
            let _ = write!(out, r#","{field}":["#);
            for (i, container) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let state = if over {
                    r#"{"terminated":{"exitCode":0,"reason":"Completed","startedAt":"$created$","finishedAt":"$created$","containerID":"containerd://$hex$"}}"#
                } else {
                    r#"{"running":{"startedAt":"$created$"}}"#
                };
                let _ = write!(
                    out,
                    r#"{{"name":"{}","state":{state},"lastState":{{}},"ready":true,"restartCount":0,"image":"{}","imageID":"{}@sha256:$hex$","containerID":"containerd://$hex$","started":true,"allocatedResources":{{"cpu":"100m","memory":"256Mi"}},"resources":{{"limits":{{"memory":"512Mi"}},"requests":{{"cpu":"100m","memory":"256Mi"}}}},"user":{{"linux":{{"uid":1337,"gid":1337,"supplementalGroups":[1337]}}}}}}"#,
                    container.name,
                    container.image,
                    container.image.split(':').next().unwrap_or_default()
                );
            }
            out.push(']');
        }
        out.push_str(r#","qosClass":"Burstable""#);
    }
}

impl Container {
    fn spec(&self, out: &mut String) {
        let args = self.args.join("\",\"").replace("$(POD_NAMESPACE)", "$ns$");
        let _ = write!(
            out,
            r#"{{"name":"{}","image":"{}","args":["{args}"]"#,
            self.name, self.image
        );
        let host = match self.on_node {
            true => format!(r#""hostPort":{},"#, self.port),
            false => String::new(),
        };
        if self.port > 0 {
            let _ = write!(
                out,
                r#","ports":[{{"name":"http",{}"containerPort":{},"protocol":"TCP"}}]"#,
                host, self.port
            );
        }
        if self.secret_env {
            out.push_str(r#","envFrom":[{"secretRef":{"name":"$app$-env"}}]"#);
        }
        if self.env > 0 {
            out.push_str(r#","env":["#);
            for (i, key) in KEYS[..self.env].iter().enumerate() {
                let _ = write!(
                    out,
                    r#"{}{{"name":"{key}","value":"{}.$ns$.svc.cluster.local:{}"}}"#,
                    if i > 0 { "," } else { "" },
                    key.to_lowercase().replace('_', "-"),
                    5400 + i
                );
            }
            if self.secret_env {
                out.push_str(r#",{"name":"DATABASE_PASSWORD","valueFrom":{"secretKeyRef":{"name":"$app$-database","key":"password"}}}"#);
            }
            out.push_str(r#",{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}]"#);
        }
        out.push_str(r#","resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"100m","memory":"256Mi"}}"#);
        if !self.mounts.is_empty() {
            out.push_str(r#","volumeMounts":["#);
            for (i, (name, path, read_only)) in self.mounts.iter().enumerate() {
                let _ = write!(
                    out,
                    r#"{}{{"name":"{name}",{}"mountPath":"{path}"}}"#,
                    if i > 0 { "," } else { "" },
                    if *read_only {
                        r#""readOnly":true,"#
                    } else {
                        ""
                    }
                );
            }
            out.push(']');
        }
        if self.probes {
            for (kind, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
                let _ = write!(
                    out,
                    r#","{kind}":{{"httpGet":{{"path":"{path}","port":"http","scheme":"HTTP"}},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}}"#
                );
            }
        }
        let _ = write!(
            out,
            r#","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","securityContext":{}}}"#,
            self.security
        );
    }
}
