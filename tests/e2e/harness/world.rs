//! A cluster without nodes: etcd, kube-apiserver and, where asked, kube-controller-manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Finished, Process, run, temporary_directory};
use super::{eventually, free_port, http, parts, repository};

/// Controllers that give a server the contents of a real cluster: filled `admin`, `edit` and
/// `view`, an account `default` in every namespace, and namespaces that go when they are deleted.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,serviceaccount-controller,\
                           namespace-controller,garbage-collector-controller";

/// A token in the group `system:masters`, good on loopback for the life of one test.
const ADMIN_TOKEN: &str = "admin-of-a-throw-away-server";

/// A running cluster.
#[derive(Debug)]
pub(crate) struct World {
    // Servers are dropped before the directory they write to.
    controllers: Option<Process>,
    api: Option<Process>,
    _etcd: Process,
    etcd_port: u16,
    port: u16,
    admin_kubeconfig: PathBuf,
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

    /// A new cluster with nothing but an API server.
    pub(crate) fn bare() -> Self {
        let dir = temporary_directory();
        let (etcd_port, port) = (free_port(), free_port());
        let etcd = start_etcd(dir.path(), etcd_port);
        fs::write(dir.path().join("accounts.key"), account_key()).unwrap();
        fs::write(
            dir.path().join("tokens.csv"),
            format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"),
        )
        .unwrap();
        let mut world = Self {
            controllers: None,
            api: None,
            _etcd: etcd,
            etcd_port,
            port,
            admin_kubeconfig: dir.path().join("admin.kubeconfig"),
            dir,
        };
        world.start_api_server();
        world
    }

    /// Starts the API server, on the same port and the same data as before.
    pub(crate) fn start_api_server(&mut self) {
        let dir = self.dir.path();
        let key = dir.join("accounts.key");
        let api = Process::start(
            "kube-apiserver",
            Command::new(parts::kubernetes("kube-apiserver"))
                .arg(format!(
                    "--etcd-servers=http://127.0.0.1:{}",
                    self.etcd_port
                ))
                .arg("--bind-address=127.0.0.1")
                // Else it looks for a default route, which a sandbox may lack; nobody calls there.
                .arg("--advertise-address=192.0.2.1")
                .arg(format!("--secure-port={}", self.port))
                .arg(format!("--cert-dir={}", dir.join("certificates").display()))
                .arg("--authorization-mode=RBAC")
                // As every installer has it; else a pod that takes its node cannot be made.
                .arg("--allow-privileged=true")
                .arg(format!(
                    "--token-auth-file={}",
                    dir.join("tokens.csv").display()
                ))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!("--service-account-key-file={}", key.display()))
                .arg(format!(
                    "--service-account-signing-key-file={}",
                    key.display()
                ))
                .arg("--service-cluster-ip-range=10.0.0.0/24")
                .arg("--shutdown-delay-duration=0s"),
            dir,
        );
        let api = self.api.insert(api);
        let ca = dir.join("certificates/apiserver.crt");
        eventually(
            "kube-apiserver writes its certificate",
            Duration::from_secs(60),
            || {
                api.check_alive();
                ca.is_file().then_some(()).ok_or_else(|| api.log_tail())
            },
        );
        write_kubeconfig(&self.admin_kubeconfig, self.port, &ca, ADMIN_TOKEN);
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

    fn start_controllers(&mut self) {
        let dir = self.dir.path();
        self.controllers = Some(Process::start(
            "kube-controller-manager",
            Command::new(parts::kubernetes("kube-controller-manager"))
                .arg(format!("--kubeconfig={}", self.admin_kubeconfig.display()))
                .arg(format!("--controllers={CONTROLLERS}"))
                .arg("--bind-address=127.0.0.1")
                .arg(format!("--secure-port={}", free_port()))
                .arg(format!(
                    "--cert-dir={}",
                    dir.join("controller-certificates").display()
                ))
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
        let bytes = |text: String| json!(ByteString(text.into_bytes()));
        let put = json!({
            "key": bytes(format!("/registry/{place}")),
            "value": bytes(object.to_string()),
        });
        let answer = http::post(self.etcd_port, "/v3/kv/put", &put.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Creates the account, role and binding that we tell people to run the exporter under, and
    /// gives a kubeconfig with that account's token that goes to the API server through `port`.
    pub(crate) fn exporter_kubeconfig(&self, port: u16) -> PathBuf {
        let manifest = repository("deploy/manifests/rbac.yaml");
        self.kubectl(&["apply", "-f", &manifest.display().to_string()], "");
        self.account_kubeconfig("rbac-exporter", "rbac-exporter", port)
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
        write_kubeconfig(
            &path,
            port,
            &self.path().join("certificates/apiserver.crt"),
            token.trim(),
        );
        path
    }
}

fn start_etcd(dir: &Path, client_port: u16) -> Process {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    Process::start(
        "etcd",
        Command::new(parts::kubernetes("etcd"))
            .arg(format!("--data-dir={}", dir.join("etcd").display()))
            .arg("--unsafe-no-fsync")
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .arg("--log-level=warn"),
        dir,
    )
}

fn write_kubeconfig(path: &Path, port: u16, ca: &Path, token: &str) {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "e2e",
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "clusters": [{"name": "e2e", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            // The server's own certificate is followed by the authority that signed it.
            "certificate-authority": ca,
        }}],
        "users": [{"name": "e2e", "user": {"token": token}}],
    });
    fs::write(path, config.to_string()).unwrap();
}

/// A new key to sign tokens of accounts with.
///
/// An elliptic-curve key in SEC 1 form needs nothing but a random scalar, so no tool and no library
/// has to be there to make one.
fn account_key() -> String {
    let random: Vec<u8> = {
        use std::io::Read;
        let mut bytes = vec![0; 32];
        fs::File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut bytes)
            .unwrap();
        // Below the order of P-256, which begins with 32 set bits.
        bytes[0] &= 0x7f;
        bytes
    };
    let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend(random);
    der.extend([
        0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ]);
    let Value::String(base64) = json!(ByteString(der)) else {
        unreachable!("bytes are base64")
    };
    // 51 bytes are 68 digits, and lines of PEM hold 64.
    let (first, second) = base64.split_at(64);
    format!("-----BEGIN EC PRIVATE KEY-----\n{first}\n{second}\n-----END EC PRIVATE KEY-----\n")
}
