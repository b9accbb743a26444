//! The harness holds what the other tests rely on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::parts::Release;
use crate::harness::process::{Process, run, temporary_directory};
use crate::harness::relay::SlowRelay;
use crate::harness::world::World;
use crate::harness::{eventually, http, parts};

#[test]
fn the_shared_cluster_has_filled_roles_and_accounts_with_tokens() {
    let world = World::shared();
    let version: serde_json::Value =
        serde_json::from_str(&world.kubectl(&["version", "-o", "json"], "")).unwrap();
    assert_eq!(
        version["serverVersion"]["gitVersion"],
        Release::Newest.version()
    );

    world.kubectl(&["create", "namespace", "servers"], "");
    world.await_account("servers", "default");
    let kubeconfig = world.account_kubeconfig("servers", "default", world.port());
    let who = run(
        Command::new(parts::kubernetes("kubectl"))
            .args([
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
            ])
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", world.path()),
        "",
    );
    assert_eq!(
        who.stdout, "system:serviceaccount:servers:default",
        "{}",
        who.stderr
    );
}

#[test]
fn a_killed_api_server_comes_back_with_its_data() {
    let mut world = World::bare();
    world.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"},
    }));
    world.kill_api_server();
    assert_ne!(world.try_kubectl(&["get", "namespaces"], "").code, 0);
    world.start_api_server();
    assert_eq!(
        world.get(&["namespace", "kept"])["metadata"]["name"],
        "kept"
    );
}

#[test]
fn the_slow_relay_is_slow_until_told() {
    let world = World::shared();
    let relay = SlowRelay::start(world.port());
    let kubeconfig = world.path().join("relayed.kubeconfig");
    let admin = fs::read_to_string(world.admin_kubeconfig()).unwrap();
    let (from, to) = (
        format!(":{}\"", world.port()),
        format!(":{}\"", relay.port()),
    );
    fs::write(&kubeconfig, admin.replace(&from, &to)).unwrap();
    let list = || {
        let start = Instant::now();
        let finished = run(
            Command::new(parts::kubernetes("kubectl"))
                .args([
                    "get",
                    "--raw",
                    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                ])
                .env("KUBECONFIG", &kubeconfig)
                .env("HOME", world.path()),
            "",
        );
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let took = start.elapsed();
        let list: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
        // The list's own version moves with every write to the server, whatever it writes to.
        (took, list["items"].clone())
    };
    let (slow, first) = list();
    relay.full_speed();
    let (fast, second) = list();
    assert_eq!(first, second);
    assert!(slow > fast, "{slow:?} against {fast:?}");
}

#[test]
fn what_a_killed_test_binary_started_is_ended() {
    // The child below is this binary again, which starts a server and then hangs until it is
    // killed.
    const ROLE: &str = "RBAC_EXPORTER_E2E_VICTIM";
    if let Ok(note) = std::env::var(ROLE) {
        let dir = temporary_directory();
        let server = Process::start("sleep", Command::new("sleep").arg("600"), dir.path());
        fs::write(&note, format!("{} {}\n", server.id(), dir.path().display())).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        drop(server);
        return;
    }
    let dir = temporary_directory();
    let note = dir.path().join("note");
    let mut victim = Process::start(
        "victim",
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "servers::what_a_killed_test_binary_started_is_ended",
            ])
            .env(ROLE, &note),
        dir.path(),
    );
    let (left, _) = eventually("the victim runs", Duration::from_secs(20), || {
        let text = fs::read_to_string(&note).map_err(|e| e.to_string())?;
        text.strip_suffix('\n')
            .map(str::to_owned)
            .ok_or_else(|| "half written".to_owned())
    });
    let (pid, left) = left.split_once(' ').unwrap();
    // One that ended but was not waited for by its new parent has no command line any more.
    let runs = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(runs() && Path::new(left).is_dir());
    victim.kill();
    eventually(
        "its server and its directory are gone",
        Duration::from_secs(5),
        || {
            if runs() || Path::new(left).exists() {
                Err(left.to_owned())
            } else {
                Ok(())
            }
        },
    );
}

#[test]
fn the_plain_client_sees_status_and_headers() {
    // kube-apiserver speaks TLS alone and says so in plain HTTP.
    let answer = http::get(World::shared().port(), "/", &[]).unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTPS"), "{}", answer.text());
}
