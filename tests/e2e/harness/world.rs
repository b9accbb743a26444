//! A cluster without nodes: etcd, kube-apiserver and, where asked, kube-controller-manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::caller::Caller;
use super::parts::Release;

use super::process::{Finished, Process, run, temporary_directory};
use super::{eventually, free_port, http, parts, repository};

/// Controllers that give a server the contents of a real cluster: filled `admin`, `edit` and
/// `view`, an account `default` in every namespace, and namespaces that go when they are deleted.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,serviceaccount-controller,\
                           namespace-controller,garbage-collector-controller";

/// Controllers that an attacker may put to work: they fill token Secrets, sign and approve
/// certificates, and make pods of templates.
const WORKING_CONTROLLERS: &str = "serviceaccount-token-controller,\
                                   certificatesigningrequest-signing-controller,\
                                   certificatesigningrequest-approving-controller,\
                                   deployment-controller,replicaset-controller";

/// A token in the group `system:masters`, good on loopback for the life of one test.
const ADMIN_TOKEN: &str = "admin-of-a-throw-away-server";

/// A running cluster.
#[derive(Debug)]
pub(crate) struct World {
    // Servers are dropped before the directory they write to.
    controllers: Option<Process>,
    api: Option<Process>,
    etcd: Option<Process>,
    etcd_port: u16,
    etcd_peer_port: u16,
    port: u16,
    admin_kubeconfig: PathBuf,
    release: Release,
    installed: bool,
    dir: TempDir,
}

impl World {
    /// The cluster that tests share who touch nothing but namespaces and names of their own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        SHARED.get_or_init(Self::with_controllers)
    }

    /// A new cluster with the controllers that fill it.
    pub(crate) fn with_controllers() -> Self {
        let mut world = Self::bare();
        world.start_controllers();
        world
    }

    /// A new cluster as installers set it up: certificates of its authority are believed, nodes
    /// have their authoriser and their fence, and the controllers issue, approve and run things.
    pub(crate) fn installed() -> Self {
        let mut world = Self::new(Release::Newest, true);
        world.start_controllers();
        world
    }

    /// A new cluster with nothing but an API server.
    pub(crate) fn bare() -> Self {
        Self::new(Release::Newest, false)
    }

    /// The same of the oldest version that is supported.
    pub(crate) fn oldest() -> Self {
        Self::new(Release::Oldest, false)
    }

    fn new(release: Release, installed: bool) -> Self {
        let dir = temporary_directory();
        let (etcd_port, etcd_peer_port, port) = (free_port(), free_port(), free_port());
        let accounts = KeyPair::generate().expect("a key can be made");
        fs::write(dir.path().join("accounts.key"), accounts.serialize_pem()).unwrap();
        fs::write(dir.path().join("accounts.pub"), accounts.public_key_pem()).unwrap();
        write_authority(dir.path());
        fs::write(
            dir.path().join("tokens.csv"),
            format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"),
        )
        .unwrap();
        let mut world = Self {
            controllers: None,
            api: None,
            etcd: None,
            etcd_port,
            etcd_peer_port,
            port,
            admin_kubeconfig: dir.path().join("admin.kubeconfig"),
            release,
            installed,
            dir,
        };
        world.start_etcd();
        world.start_api_server();
        world
    }

    /// Starts the API server, on the same port and the same data as before.
    pub(crate) fn start_api_server(&mut self) {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(self.release.part("kube-apiserver"));
        if self.installed {
            command
                .arg("--authorization-mode=Node,RBAC")
                .arg("--enable-admission-plugins=NodeRestriction")
                .arg(format!("--client-ca-file={}", file("authority.crt")));
        } else {
            command.arg("--authorization-mode=RBAC");
        }
        let api = Process::start(
            "kube-apiserver",
            command
                .arg(format!(
                    "--etcd-servers=http://127.0.0.1:{}",
                    self.etcd_port
                ))
                .arg("--bind-address=127.0.0.1")
                // Else it looks for a default route, which a sandbox may lack; nobody calls there.
                .arg("--advertise-address=192.0.2.1")
                .arg(format!("--secure-port={}", self.port))
                .arg(format!("--cert-dir={}", file("certificates")))
                // As every installer has it; else a pod that takes its node cannot be made.
                .arg("--allow-privileged=true")
                .arg(format!("--token-auth-file={}", file("tokens.csv")))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!(
                    "--service-account-key-file={}",
                    file("accounts.pub")
                ))
                .arg(format!(
                    "--service-account-signing-key-file={}",
                    file("accounts.key")
                ))
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .arg("--shutdown-delay-duration=0s"),
            dir,
        );
        let ca = self.server_certificate();
        let api = self.api.insert(api);
        eventually(
            "kube-apiserver writes its certificate",
            Duration::from_secs(60),
            || {
                // it waits for etcd, and what it says of one that has ended does not tell why
                self.etcd
                    .as_mut()
                    .into_iter()
                    .for_each(Process::check_alive);
                api.check_alive();
                ca.is_file().then_some(()).ok_or_else(|| api.log_tail())
            },
        );
        let config = self.kubeconfig(self.port, &json!({"token": ADMIN_TOKEN}));
        fs::write(&self.admin_kubeconfig, config.to_string()).unwrap();
        eventually("kube-apiserver is ready", Duration::from_secs(60), || {
            self.api
                .as_mut()
                .expect("it was just started")
                .check_alive();
            let answer = self.try_kubectl(&["get", "--raw", "/readyz"], "");
            if answer.code == 0 {
                Ok(())
            } else {
                Err(answer.stderr)
            }
        });
    }

    /// `kill -9` of the API server; etcd goes on.
    pub(crate) fn kill_api_server(&mut self) {
        self.api.take().expect("the API server runs").kill();
    }

    /// Starts etcd, on the same ports and the same data as before.
    pub(crate) fn start_etcd(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        let etcd = Process::start(
            "etcd",
            Command::new(parts::kubernetes("etcd"))
                .arg(format!("--data-dir={}", self.etcd_data().display()))
                .arg("--unsafe-no-fsync")
                .arg(format!("--listen-client-urls={client}"))
                .arg(format!("--advertise-client-urls={client}"))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .arg(format!("--initial-cluster=default={peer}"))
                .arg("--log-level=warn"),
            self.dir.path(),
        );
        self.etcd = Some(etcd);
    }

    /// `kill -9` of etcd.
    pub(crate) fn kill_etcd(&mut self) {
        self.etcd.take().expect("etcd runs").kill();
    }

    /// Keeps a copy of what etcd holds, which must not run meanwhile.
    pub(crate) fn back_up_etcd(&self, name: &str) {
        assert!(self.etcd.is_none(), "etcd writes to what is copied");
        copy_directory(&self.etcd_data(), &self.path().join(name));
    }

    /// Puts a copy in the place of what etcd holds, as who restores a backup does.
    pub(crate) fn restore_etcd(&self, name: &str) {
        assert!(self.etcd.is_none(), "etcd reads what is replaced");
        fs::remove_dir_all(self.etcd_data()).unwrap();
        copy_directory(&self.path().join(name), &self.etcd_data());
    }

    /// Forgets what happened, as etcd does every five minutes at the API server's request: nobody can
    /// watch from a revision before now.
    pub(crate) fn compact_etcd(&self) {
        let ask = |path: &str, body: &Value| -> Value {
            let answer = http::post(self.etcd_port, path, &body.to_string()).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            serde_json::from_slice(&answer.body).unwrap()
        };
        let now = ask("/v3/kv/range", &json!({"key": BASE64.encode("/")}));
        let revision = &now["header"]["revision"];
        ask(
            "/v3/kv/compaction",
            &json!({"revision": revision, "physical": true}),
        );
    }

    fn etcd_data(&self) -> PathBuf {
        self.path().join("etcd")
    }

    fn start_controllers(&mut self) {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(parts::kubernetes("kube-controller-manager"));
        if self.installed {
            command
                .arg(format!("--controllers={CONTROLLERS},{WORKING_CONTROLLERS}"))
                .arg(format!(
                    "--service-account-private-key-file={}",
                    file("accounts.key")
                ))
                .arg(format!(
                    "--cluster-signing-cert-file={}",
                    file("authority.crt")
                ))
                .arg(format!(
                    "--cluster-signing-key-file={}",
                    file("authority.key")
                ));
        } else {
            command.arg(format!("--controllers={CONTROLLERS}"));
        }
        self.controllers = Some(Process::start(
            "kube-controller-manager",
            command
                .arg(format!("--kubeconfig={}", self.admin_kubeconfig.display()))
                .arg("--bind-address=127.0.0.1")
                .arg(format!("--secure-port={}", free_port()))
                .arg(format!("--cert-dir={}", file("controller-certificates")))
                .arg("--leader-elect=false"),
            dir,
        ));
        eventually(
            "admin, edit and view are filled",
            Duration::from_secs(60),
            || {
                self.controllers
                    .as_mut()
                    .expect("it was just started")
                    .check_alive();
                let roles = self.get(&["clusterroles", "admin", "edit", "view"]);
                let filled = |role: &Value| role["rules"].as_array().is_some_and(|r| !r.is_empty());
                let roles = roles["items"].as_array().expect("a list of three");
                if roles.iter().all(filled) {
                    Ok(())
                } else {
                    Err("a role is empty".to_owned())
                }
            },
        );
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.await_account(namespace, "default");
        }
    }

    /// Waits for an account that a controller makes.
    pub(crate) fn await_account(&self, namespace: &str, name: &str) {
        eventually("the account is made", Duration::from_secs(30), || {
            let answer = self.try_kubectl(&["get", "serviceaccount", name, "-n", namespace], "");
            if answer.code == 0 {
                Ok(())
            } else {
                Err(answer.stderr)
            }
        });
    }

    /// Runs kubectl as a member of `system:masters`.
    pub(crate) fn try_kubectl(&self, args: &[&str], input: &str) -> Finished {
        let mut command = Command::new(parts::kubernetes("kubectl"));
        command
            .args(args)
            .env("KUBECONFIG", &self.admin_kubeconfig)
            // Its discovery cache goes where the rest goes.
            .env("HOME", self.dir.path());
        run(&mut command, input)
    }

    /// Runs kubectl, which must succeed, and gives its output.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str], input: &str) -> String {
        let answer = self.try_kubectl(args, input);
        assert_eq!(answer.code, 0, "kubectl {args:?}: {}", answer.stderr);
        answer.stdout
    }

    /// `kubectl get` as JSON.
    #[track_caller]
    pub(crate) fn get(&self, args: &[&str]) -> Value {
        let output = self.kubectl(&[&["get", "-o", "json"], args].concat(), "");
        serde_json::from_str(&output).expect("kubectl writes JSON")
    }

    /// `kubectl apply` of one object or a list.
    #[track_caller]
    pub(crate) fn apply(&self, object: &Value) {
        self.kubectl(&["apply", "-f", "-"], &object.to_string());
    }

    /// Writes an object past the API server, which serves it from then on as it is: with any times,
    /// which nobody who asks the API server could give it. `place` is its path below `/registry/`.
    #[track_caller]
    pub(crate) fn write_into_etcd(&self, place: &str, object: &Value) {
        let put = json!({
            "key": BASE64.encode(format!("/registry/{place}")),
            "value": BASE64.encode(object.to_string()),
        });
        let answer = http::post(self.etcd_port, "/v3/kv/put", &put.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Creates the account, role and binding that we tell people to run the exporter under, and
    /// gives a kubeconfig with that account's token that goes to the API server through `port`.
    pub(crate) fn exporter_kubeconfig(&self, port: u16) -> PathBuf {
        for file in ["namespace", "serviceaccount", "rbac"] {
            let manifest = repository(&format!("deploy/manifests/base/{file}.yaml"));
            self.kubectl(&["apply", "-f", &manifest.display().to_string()], "");
        }
        self.account_kubeconfig("rbac-exporter", "rbac-exporter", port)
    }

    /// Forgets the server's certificate, so that its next start makes another one of another authority.
    pub(crate) fn forget_certificate(&self) {
        fs::remove_dir_all(self.path().join("certificates")).unwrap();
    }

    /// A certificate and key of a user, signed by the authority that the server believes, until a time.
    pub(crate) fn issue(&self, user: &str, until: SystemTime) -> (String, String) {
        let file = |name: &str| fs::read_to_string(self.path().join(name)).unwrap();
        let key = KeyPair::from_pem(&file("authority.key")).unwrap();
        let authority = Issuer::new(authority_params(), key);
        let own = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = until.into();
        let certificate = params.signed_by(&own, &authority).unwrap();
        (certificate.pem(), own.serialize_pem())
    }

    /// Are there controllers, which finish a namespace that is deleted?
    pub(crate) fn has_controllers(&self) -> bool {
        self.controllers.is_some()
    }

    /// Does what the namespace controller would do with a deleted namespace that is empty.
    #[track_caller]
    pub(crate) fn finish_namespace(&self, name: &str) {
        let mut namespace = self.get(&["namespace", name]);
        namespace["spec"]["finalizers"] = json!([]);
        let path = format!("/api/v1/namespaces/{name}/finalize");
        self.kubectl(
            &["replace", "--raw", &path, "-f", "-"],
            &namespace.to_string(),
        );
    }

    /// The port of the API server.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A place for files that go with this cluster.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A kubeconfig of a member of `system:masters`.
    pub(crate) fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// A kubeconfig with a fresh token of a ServiceAccount, through `port`, which may be a relay's.
    pub(crate) fn account_kubeconfig(&self, namespace: &str, name: &str, port: u16) -> PathBuf {
        let token = self.kubectl(&["create", "token", name, "-n", namespace], "");
        let path = self
            .path()
            .join(format!("{namespace}-{name}-{port}.kubeconfig"));
        let config = self.kubeconfig(port, &json!({"token": token.trim()}));
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// A client of a member of `system:masters`.
    pub(crate) fn admin(&self) -> Caller {
        self.caller(&json!({"token": ADMIN_TOKEN}))
    }

    /// A kubeconfig with a user entry, written to a file of this name.
    pub(crate) fn kubeconfig_file(&self, name: &str, port: u16, user: &Value) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, self.kubeconfig(port, user).to_string()).unwrap();
        path
    }

    /// A client with the credentials of a kubeconfig's user entry and no others.
    pub(crate) fn caller(&self, user: &Value) -> Caller {
        Caller::new(self.kubeconfig(self.port, user))
    }

    fn kubeconfig(&self, port: u16, user: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
            "clusters": [{"name": "e2e", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                // The server's own certificate is followed by the authority that signed it.
                "certificate-authority": self.server_certificate(),
            }}],
            "users": [{"name": "e2e", "user": user}],
        })
    }

    fn server_certificate(&self) -> PathBuf {
        self.path().join("certificates/apiserver.crt")
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// The authority that signs client certificates.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of a throw-away server");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// `authority.crt` and `authority.key`.
fn write_authority(dir: &Path) {
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = authority_params()
        .self_signed(&key)
        .expect("it can be signed");
    fs::write(dir.join("authority.crt"), certificate.pem()).unwrap();
    fs::write(dir.join("authority.key"), key.serialize_pem()).unwrap();
}
