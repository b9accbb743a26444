//! `diff` on pull requests as people make them: `diffs/NAME/old` and `diffs/NAME/new`, beside what is
//! expected of them. `RBAC_EXPORTER_WRITE_EXPECTED=1 cargo test` writes that anew; read the difference.

use crate::command::{Ran, command, run};
use crate::schema::violations;
use rbac_exporter::object::Object;
use rbac_exporter::source::manifests::{Accounts, Limits, Manifests};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Above this the expected JSON is not kept: everybody who gains cluster-admin has 73 findings.
const KEPT_JSON: usize = 20_000;

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/diffs");
    let mut out: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    out.sort();
    out
}

fn diff(dir: &Path, args: &[&str]) -> Ran {
    let mut command = command(&["diff", "old", "new"]);
    Ran::of(command.args(args).current_dir(dir).output().unwrap())
}

fn expect(path: &Path, found: &str) {
    if std::env::var_os("RBAC_EXPORTER_WRITE_EXPECTED").is_some() {
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn pull_requests_are_told_as_expected() {
    let text = include_str!("../../docs/diff.schema.json");
    let schema: Value = serde_json::from_str(text).unwrap();
    let fixtures = fixtures();
    assert!(fixtures.len() >= 12, "{fixtures:?}");
    for dir in fixtures {
        let name = dir.display();
        let text = diff(&dir, &[]);
        assert_eq!((text.code, text.err.as_str()), (0, ""), "{name}");
        expect(&dir.join("expected.txt"), &text.out);
        expect(
            &dir.join("expected.md"),
            &diff(&dir, &["-o", "markdown"]).out,
        );
        let json = diff(&dir, &["-o", "json"]);
        if json.out.len() <= KEPT_JSON {
            expect(&dir.join("expected.json"), &json.out);
        }
        let json = json.json();
        assert_eq!(violations(&schema, &json), Vec::<String>::new(), "{name}");
        // nothing moves without a reason that can be pointed at
        for subject in json["subjects"].as_array().unwrap() {
            let because = subject["because"].as_array().unwrap();
            assert!(!because.is_empty(), "{name}: {subject}");
            for object in because {
                let places = [&object["old"], &object["new"]];
                assert!(
                    places.iter().any(|p| p["line"].is_u64()),
                    "{name}: {object}"
                );
            }
        }
        let same = run(&[
            "diff",
            &format!("{name}/new"),
            &format!("{name}/new"),
            "-o",
            "json",
        ]);
        let same = same.json();
        assert_eq!(
            (&same["subjects"], &same["objects"]),
            (&Value::Array(vec![]), &Value::Array(vec![]))
        );
    }
}

/// Worlds that have nothing to do with each other: whatever differs has a reason, also what only pods,
/// paths and groups bring about.
#[test]
fn nothing_moves_without_a_reason() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut worlds: Vec<String> = fixtures()
        .iter()
        .map(|dir| format!("{}/new", dir.display()))
        .collect();
    worlds.push(format!("{root}/deploy/demo"));
    let mut moved = 0;
    for (i, old) in worlds.iter().enumerate() {
        let new = &worlds[(i + 1) % worlds.len()];
        let json = run(&["diff", old, new, "-o", "json", "--allow-incomplete"]).json();
        for subject in json["subjects"].as_array().unwrap() {
            let because = subject["because"].as_array().unwrap();
            assert!(!because.is_empty(), "{old} {new}: {subject}");
            moved += 1;
        }
    }
    assert!(moved > 100, "{moved}");
}

#[test]
fn what_rises_to_a_priority_is_an_exit_code() {
    let fixture = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("tests/integration/diffs").join(name)
    };
    for (name, priority, code) in [
        ("chart-upgrade-wildcard", "critical", 1),
        ("roleref-changed", "critical", 0),
        ("roleref-changed", "high", 1),
        ("roleref-changed", "never", 0),
        // who appears was below
        ("new-chart", "critical", 1),
        ("critical-through-another", "critical", 1),
        ("refactoring", "low", 0),
        ("fix", "low", 0),
        ("namespace-removed", "low", 0),
    ] {
        let ran = diff(&fixture(name), &["--fail-on", priority]);
        assert_eq!(ran.code, code, "{name} {priority}: {}", ran.out);
    }
}

const CLUSTER_ADMIN: &str = "apiVersion: rbac.authorization.k8s.io/v1\n\
     kind: ClusterRoleBinding\nmetadata: {name: b}\n\
     roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n\
     subjects: [{kind: ServiceAccount, name: chart, namespace: app}]\n";

#[test]
fn what_cannot_be_read_is_no_clean_answer() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (sound, broken, empty) = (
        at("sound.yaml", CLUSTER_ADMIN),
        at("broken.yaml", "a: ["),
        at("empty.yaml", ""),
    );
    // an empty OLD is a new chart, an empty NEW one that failed to render
    assert_eq!(run(&["diff", &empty, &sound]).code, 0);
    assert_eq!(run(&["diff", &sound, &empty]).code, 3);
    assert_eq!(run(&["diff", &sound, &empty, "--allow-incomplete"]).code, 0);
    for pair in [[&broken, &sound], [&sound, &broken]] {
        let ran = run(&["diff", pair[0], pair[1]]);
        assert_eq!(ran.code, 3, "{}", ran.out);
        assert!(ran.out.contains("broken.yaml:1: error"), "{}", ran.out);
        let waved = ["diff", pair[0], pair[1], "--allow-incomplete"];
        assert_eq!(run(&waved).code, 0);
    }
    // what was found wins
    let found = run(&["diff", &broken, &sound, "--fail-on", "critical"]);
    assert_eq!(found.code, 1);
    for wrong in [
        &["diff", &sound, "live"][..],
        &["diff", "-", "-"],
        &["diff", &sound],
        &["diff", &sound, "/nonexistent"],
        &["diff", &sound, &sound, "--source.manifests", &sound],
        &["diff", &sound, &sound, "--kube.context", "x"],
    ] {
        assert_eq!(run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn objects_without_a_namespace_go_where_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(
        &path,
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n",
    )
    .unwrap();
    let ran = run(&[
        "diff",
        "/dev/null",
        path.to_str().unwrap(),
        "-n",
        "team",
        "-o",
        "json",
    ]);
    assert_eq!(ran.json()["objects"][0]["namespace"], "team");
    let ran = run(&["diff", "/dev/null", path.to_str().unwrap(), "-o", "json"]);
    assert_eq!(ran.json()["objects"][0]["namespace"], "default");
}

#[test]
fn pods_are_foretold_with_the_accounts_that_the_cluster_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n}\n\
               spec: {serviceAccountName: quiet, containers: [{name: c, image: i}]}\n";
    fs::write(&path, pod).unwrap();
    let tokens = |accounts: Accounts| {
        let path = path.to_str().unwrap();
        let manifests = Manifests::open(path, Limits::default()).unwrap();
        let reading = manifests.beside(accounts).read().unwrap();
        match &reading.objects[..] {
            [Object::Pod(pod)] => pod.tokens.len(),
            other => panic!("{other:?}"),
        }
    };
    let quiet = ("n".to_owned(), "quiet".to_owned());
    assert_eq!(tokens(Accounts::new()), 1);
    assert_eq!(tokens(Accounts::from([(quiet, Some(false))])), 0);
}
