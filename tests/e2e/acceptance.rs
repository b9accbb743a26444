//! A risk is accepted, grows, rises, expires, and the exporter restarts in between: on a real server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::world::World;

/// What is looked at: status and priority of a subject, and the same in the metrics.
struct Scene {
    world: World,
    kubeconfig: PathBuf,
    config: PathBuf,
    exporter: Exporter,
}

/// An entry that accepts a finding of an account in namespace `app`.
fn entry(name: &str, finding: &str, priority: &str, expires: &str) -> Value {
    json!({
        "id": name, "subject": format!("sa:app/{name}"), "findings": [finding], "priority": priority,
        "reason": "known", "owner": "team-app", "expires": expires,
    })
}

impl Scene {
    fn start(config: &Path, kubeconfig: &Path) -> Exporter {
        let file = config.display().to_string();
        Exporter::start(&["--config.file", &file], Some(kubeconfig))
    }

    fn accept(&self, entries: &[Value]) {
        let new = self.config.with_extension("new");
        fs::write(&new, json!({"accepted": entries}).to_string()).unwrap();
        fs::rename(new, &self.config).unwrap();
    }

    fn restart(&mut self) {
        self.exporter = Self::start(&self.config, &self.kubeconfig);
    }

    /// Waits until the account has this priority and status, in the report and in the metrics.
    #[track_caller]
    fn becomes(&self, what: &str, name: &str, priority: &str, status: &str) {
        let (_, took) = eventually(what, Duration::from_secs(10), || {
            let subject = self.exporter.subject("ServiceAccount", "app", name);
            let have = (subject["priority"].clone(), subject["status"].clone());
            if have != (json!(priority), json!(status)) {
                return Err(format!("{have:?}"));
            }
            let labels = [
                ("namespace", "app"),
                ("name", name),
                ("priority", priority),
                ("status", status),
            ];
            let family = "rbac_risky_subject_since_timestamp_seconds";
            let since = self.exporter.scrape().sum(family, &labels);
            if since > 1e9 {
                Ok(())
            } else {
                Err(format!("{family}{labels:?} is not there"))
            }
        });
        println!("{what}: {took:.1?}");
    }

    fn role(&self, rules: &Value) {
        self.world.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "accepted-reader"}, "rules": rules,
        }));
    }
}

#[test]
fn a_risk_is_accepted_grows_rises_expires_and_survives_restarts() {
    let world = World::bare();
    let kubeconfig = world.exporter_kubeconfig(world.port());
    let config = world.path().join("config.yaml");
    world.kubectl(&["create", "namespace", "app"], "");
    for name in ["reader", "builder"] {
        world.kubectl(&["create", "serviceaccount", name, "-n", "app"], "");
    }
    let bind = |kind: &str, name: &str, role: &str| {
        let account = format!("--serviceaccount=app:{name}");
        let role = format!("--{role}");
        world.kubectl(&["create", kind, name, &role, &account, "-n", "app"], "");
    };
    let create = [
        "create",
        "role",
        "builder",
        "--verb=create",
        "--resource=pods",
        "-n",
        "app",
    ];
    world.kubectl(&create, "");
    bind("rolebinding", "builder", "role=builder");
    fs::write(&config, "accepted: []\n").unwrap();
    let exporter = Scene::start(&config, &kubeconfig);
    let mut scene = Scene {
        world,
        kubeconfig,
        config,
        exporter,
    };

    scene.becomes("before", "builder", "high", "open");
    let builder = entry("builder", "pod-create@app", "high", "2099-12-31");
    scene.accept(std::slice::from_ref(&builder));
    scene.becomes("accepted", "builder", "high", "accepted");
    let expiry = |scene: &Scene, id: &str| {
        let labels = [("id", id), ("risk_owner", "team-app")];
        let family = "rbac_accepted_risk_expiry_timestamp_seconds";
        scene.exporter.scrape().sum(family, &labels)
    };
    assert_eq!(expiry(&scene, "builder"), 4_102_444_800.0);
    scene.restart();
    scene.becomes("accepted, restarted", "builder", "high", "accepted");

    // Beside it an account becomes strong: the path lies above what was accepted.
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]});
    scene.role(&json!([secrets]));
    let account = "--serviceaccount=app:reader";
    let create = [
        "create",
        "clusterrolebinding",
        "accepted-reader",
        "--clusterrole=accepted-reader",
        account,
    ];
    scene.world.kubectl(&create, "");
    scene.becomes("risen by an edge", "builder", "critical", "open");
    scene.restart();
    scene.becomes("risen, restarted", "builder", "critical", "open");

    // The strong one is accepted with what it has, then grows by a finding of the same priority.
    let reader = entry("reader", "secrets-list@*", "critical", "2099-12-31");
    let builder = entry("builder", "pod-create@app", "critical", "2099-12-31");
    scene.accept(&[reader, builder.clone()]);
    scene.becomes("the strong one accepted", "reader", "critical", "accepted");
    scene.becomes("and the way to it", "builder", "critical", "accepted");
    scene.role(
        &json!([secrets, {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}]),
    );
    scene.becomes("grown", "reader", "critical", "open");
    scene.becomes(
        "the way to it goes on from what is accepted",
        "builder",
        "critical",
        "accepted",
    );
    scene.restart();
    scene.becomes("grown, restarted", "reader", "critical", "open");
    scene.role(&json!([secrets]));
    scene.becomes("shrunk", "reader", "critical", "accepted");

    // The last day of one has passed; it stays exported.
    let reader = entry("reader", "secrets-list@*", "critical", "2020-01-31");
    scene.accept(&[reader, builder]);
    scene.becomes("expired", "reader", "critical", "open");
    scene.becomes("the other has not", "builder", "critical", "accepted");
    assert_eq!(expiry(&scene, "reader"), 1_580_515_200.0);
    scene.restart();
    scene.becomes("expired, restarted", "reader", "critical", "open");
    let escalations = scene
        .exporter
        .scrape()
        .sum("rbac_subject_escalations_total", &[]);
    assert_eq!(
        escalations, 0.0,
        "configuration and restarts are no escalations"
    );
}
