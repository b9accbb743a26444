//! The commands that documents show, run as they stand but for names, which are filled in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::blocks::blocks;
use crate::harness::alertmanager::Alertmanager;
use crate::harness::exporter::Exporter;
use crate::harness::parts;
use crate::harness::process::{Finished, run, temporary_directory};
use crate::harness::repository;
use crate::harness::world::World;

/// What people put in for themselves.
const NAMES: [(&str, &str); 13] = [
    ("SERVICEACCOUNT", "web"),
    ("SUBJECT", "sa:documents/web"),
    ("NAMESPACE", "documents"),
    ("NAME", "web"),
    ("RESOURCE", "pods"),
    ("CLUSTER", "prod"),
    ("TICKET", "OPS-1"),
    ("INCIDENT", "INC-1"),
    ("MAINTENANCE", "upgrade"),
    ("ROLLOUT", "rollout"),
    ("RESTORE", "restore"),
    ("SLO", "namespaces"),
    ("ID", "backup"),
];

/// Puts names in where they stand as words.
fn filled_in(script: &str) -> String {
    let mut out = String::new();
    let mut rest = script;
    'text: while let Some(first) = rest.chars().next() {
        let after_word = out.chars().last().is_some_and(char::is_alphanumeric);
        for (word, name) in NAMES {
            if let Some(tail) = rest.strip_prefix(word)
                && !after_word
                && !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            {
                out.push_str(name);
                rest = tail;
                continue 'text;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// A shell of somebody who has the tools on the PATH, in a folder with a chart and a configuration.
fn shell(home: &Path, script: &str) -> Finished {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("set -eo pipefail\n{script}")])
        .current_dir(home)
        .env("HOME", home)
        .env("KUBECONFIG", home.join("kubeconfig"))
        .env("PATH", format!("{}:{path}", home.join("bin").display()));
    run(&mut command, "")
}

/// The tools by the names that people call them by.
fn tools(home: &Path) {
    let bin = home.join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, file) in [
        ("rbac-exporter", env!("CARGO_BIN_EXE_rbac-exporter").into()),
        ("kubectl", parts::kubernetes("kubectl")),
        ("helm", parts::kubernetes("helm")),
        ("amtool", parts::alertmanager("amtool")),
    ] {
        symlink(file, bin.join(name)).unwrap();
    }
}

#[test]
fn commands_for_a_cluster_are_understood_by_it() {
    let world = World::shared();
    let home = temporary_directory();
    tools(home.path());
    symlink(
        repository("deploy/helm/rbac-exporter"),
        home.path().join("chart"),
    )
    .unwrap();
    fs::copy(
        repository("deploy/config.example.yaml"),
        home.path().join("config.yaml"),
    )
    .unwrap();
    let kubeconfig = home.path().join("kubeconfig");
    let context = fs::read_to_string(world.admin_kubeconfig()).unwrap();
    fs::write(&kubeconfig, &context).unwrap();
    let name = world.kubectl(&["config", "current-context"], "");
    let rbac = |kind: &str, name: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    let mut binding = rbac("ClusterRoleBinding", "web");
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    binding["subjects"] =
        json!([{"kind": "ServiceAccount", "name": "web", "namespace": "documents"}]);
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "documents"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "documents"}},
        binding,
    ]}));
    let manifest = repository("deploy/manifests/base");
    world.kubectl(&["apply", "-k", &manifest.display().to_string()], "");
    let exporter = Exporter::watch(&kubeconfig);

    let mut count = 0;
    for block in blocks().into_iter().filter(|b| b.needs == "cluster") {
        let script = filled_in(&block.script)
            .replace("localhost:7222", &format!("localhost:{}", exporter.port()))
            .replace(
                "--kube.context prod",
                &format!("--kube.context {}", name.trim()),
            )
            .replace("/var/lib/node_exporter", &home.path().display().to_string());
        for line in script
            .replace("\\\n", " ")
            .lines()
            .filter(|l| !l.trim().is_empty())
        {
            let done = shell(home.path(), line);
            // 1 is an answer: somebody is dangerous, the account may not, nothing was found
            let answered = [0, 1].contains(&done.code);
            let complained = ["unknown", "rror:", "not found", "sage:", "refused"]
                .iter()
                .any(|word| done.stderr.contains(word));
            assert!(answered && !complained, "{}: {line}: {done:?}", block.place);
            count += 1;
        }
    }
    world.kubectl(
        &[
            "delete",
            "-k",
            &manifest.display().to_string(),
            "--wait=false",
        ],
        "",
    );
    world.kubectl(&["delete", "clusterrolebinding", "web"], "");
    assert!(count > 20, "{count}");
    println!("{count} commands");
}

#[test]
fn silences_are_taken_by_an_alertmanager() {
    let home = temporary_directory();
    tools(home.path());
    let alertmanager = Alertmanager::start();
    let amtool = format!(
        "amtool --alertmanager.url=http://127.0.0.1:{}",
        alertmanager.port()
    );
    let mut count = 0;
    for block in blocks().into_iter().filter(|b| b.needs == "alertmanager") {
        for line in filled_in(&block.script).lines() {
            let done = shell(home.path(), &line.replace("amtool", &amtool));
            assert_eq!(done.code, 0, "{}: {line}: {done:?}", block.place);
            count += 1;
        }
    }
    let told = shell(home.path(), &format!("{amtool} silence query --quiet"));
    let silences = told.stdout.lines().count();
    assert!(
        count > 15 && silences == count,
        "{silences} of {count}: {told:?}"
    );
}
