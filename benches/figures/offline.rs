//! Figures that need no server: files, the start, and the graph alone.

use crate::cluster::manifests::{self, Life};
use crate::cluster::{Cluster, Edition, Size};
use crate::harness::process::temporary_directory;
use crate::measure::{Client, Served, exporter, median, peer, run, timed};
use crate::table::{Row, Unit, thousands};
use rbac_exporter::ledger::{Change, Ledger, ObjectRef, Settings, World};
use rbac_exporter::object::{Object, Resource};
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::Catalogue;
use rbac_exporter::source::slim;
use serde::Deserialize as _;
use serde::de::IgnoredAny;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

/// 9,300 RBAC objects and 2,000 pods.
const FILE: Size = Size {
    pods: 2_000,
    bindings: 6_000,
    roles: 2_850,
    namespaces: 150,
};

/// `scan` of a file, as people write it and as kubectl prints it.
pub(crate) fn scan(rows: &mut Vec<Row>) {
    let dir = temporary_directory();
    let cluster = Cluster::new(FILE);
    let rbac: usize = Resource::ALL
        .into_iter()
        .filter(|&resource| !matches!(resource, Resource::Pods | Resource::Namespaces))
        .map(|resource| cluster.count(resource))
        .sum();
    eprintln!("# scan of {rbac} RBAC objects and {} pods", FILE.pods);
    for (life, words, goal) in [
        (Life::Written, "as written", Some(0.5)),
        (Life::Read, "as kubectl prints them", None),
    ] {
        let path = dir.path().join(format!("{life:?}.yaml"));
        let mut out = BufWriter::new(File::create(&path).unwrap());
        manifests::write(&cluster, &Resource::ALL, life, &mut out).unwrap();
        out.flush().unwrap();
        drop(out);
        let text = fs::read_to_string(&path).unwrap();
        let parse = || {
            for document in serde_yaml::Deserializer::from_str(&text) {
                IgnoredAny::deserialize(document).unwrap();
            }
        };
        let bound = median((0..3).map(|_| timed(parse).1));
        let args = [
            "scan",
            "--source.manifests",
            path.to_str().unwrap(),
            "--output",
            "json",
            "--allow-incomplete",
        ];
        let runs: Vec<(f64, f64)> = (0..5)
            .map(|_| run(&exporter(), &args).expect("scan gives a report"))
            .collect();
        let seconds = median(runs.iter().map(|run| run.0));
        let cpu = median(runs.iter().map(|run| run.1));
        let kubiscan = kubiscan(&path, life);
        let size = Unit::Bytes.text(text.len() as f64);
        let mut row = Row::new(
            format!(
                "scan of {} RBAC objects and {} pods {words}, {size} of YAML",
                thousands(rbac),
                thousands(FILE.pods)
            ),
            Unit::Seconds,
            seconds,
        )
        .peer("KubiScan", kubiscan)
        .bound("its YAML skipped", bound);
        row.goal = goal;
        row.readme = true;
        rows.push(row);
        rows.push(Row::new(format!("CPU of it, {words}"), Unit::Seconds, cpu));
    }
}

/// KubiScan on the same file. It knows a cluster as a List alone.
fn kubiscan(path: &Path, life: Life) -> Option<f64> {
    if life == Life::Written {
        return None;
    }
    let Some(program) = peer(&["kubiscan", "KubiScan.py"]) else {
        eprintln!("# SKIPPED: KubiScan is not on PATH, so its column stays empty");
        return None;
    };
    let args = ["-f".as_ref(), path.as_os_str(), "-rs".as_ref()];
    run(&program, &args).map(|(seconds, _)| seconds)
}

/// From the start of the process to the first byte of `/metrics`, on the demo.
pub(crate) fn cold_start(rows: &mut Vec<Row>) {
    eprintln!("# cold start");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    let seconds = median((0..7).map(|_| {
        let mut served = Served::start(&exporter(), None, |port, _| {
            vec![
                format!("--web.listen-address=127.0.0.1:{port}"),
                format!("--source.manifests={}", demo.display()),
            ]
        });
        served.until(&mut Client::default(), "/metrics", |_, scrape| {
            scrape.status == 200
        })
    }));
    let bound = median((0..7).map(|_| run(&exporter(), &["--version"]).unwrap().0));
    rows.push(
        Row::new(
            "cold start to the first byte of /metrics, the demo's manifests",
            Unit::Seconds,
            seconds,
        )
        .bound("start and end of the process alone", bound),
    );
}

fn empty() -> Ledger {
    let mut ledger = Ledger::new(
        Arc::new(Catalogue::shipped()),
        Settings::new(World::Cluster, NEWEST),
    );
    ledger.advance(1_790_000_000);
    Resource::ALL
        .into_iter()
        .for_each(|r| ledger.apply(Change::RelistBegin(r)));
    ledger
}

fn judged(ledger: &mut Ledger) -> f64 {
    let end = || {
        Resource::ALL
            .into_iter()
            .for_each(|r| ledger.apply(Change::RelistEnd(r)));
        ledger.settle();
    };
    timed(end).1
}

fn put(ledger: &mut Ledger, resource: Resource, json: &str) {
    ledger.apply(Change::Upsert(slim::decode(resource, json).unwrap()));
}

/// The judgement alone: all of the full size from scratch, and graphs made to be hard.
pub(crate) fn judgement(rows: &mut Vec<Row>) {
    eprintln!("# judgement");
    let cluster = Cluster::new(Size::FULL);
    let mut ledger = empty();
    let mut text = Vec::new();
    let mut decoding = 0.0;
    for resource in Resource::ALL {
        for slot in 0..cluster.count(resource) {
            text.clear();
            cluster.object(resource, slot, Edition::default(), &mut text);
            let json = std::str::from_utf8(&text).unwrap();
            let (object, seconds) = timed(|| slim::decode(resource, json).unwrap());
            decoding += seconds;
            ledger.apply(Change::Upsert(object));
        }
    }
    let first = judged(&mut ledger);
    let (differences, check) = timed(|| ledger.selfcheck());
    assert_eq!(
        differences, 0,
        "the incremental state is what an evaluation from scratch gives"
    );
    rows.push(
        Row::new("full evaluation at full size", Unit::Seconds, first)
            .bound("its objects decoded", decoding),
    );
    rows.push(Row::new(
        "self-check at full size: all of it from scratch, and compared",
        Unit::Seconds,
        check,
    ));
    drop(ledger);
    for (what, links) in [
        (
            "a chain of 5,000 accounts, each asking for a token of the next",
            (0..5_000).map(|k| (k, k + 1)).collect::<Vec<_>>(),
        ),
        (
            "a ring of 5,000",
            (0..5_000).map(|k| (k, (k + 1) % 5_000)).collect(),
        ),
        (
            "150 in full mesh, 22,350 edges",
            (0..150)
                .flat_map(|a| (0..150).filter(move |&b| a != b).map(move |b| (a, b)))
                .collect(),
        ),
    ] {
        let (whole, cut) = graph(&links);
        rows.push(Row::new(
            format!("fixpoint on {what}: from scratch"),
            Unit::Seconds,
            whole,
        ));
        rows.push(Row::new(
            "and its only support taken away",
            Unit::Seconds,
            cut,
        ));
    }
}

/// Accounts that can become each other by these links; the last one is cluster-admin, for as long as the binding is
/// there.
fn graph(links: &[(usize, usize)]) -> (f64, f64) {
    let mut ledger = empty();
    put(
        &mut ledger,
        Resource::Namespaces,
        r#"{"metadata":{"name":"n","uid":"n"}}"#,
    );
    let accounts = links.iter().map(|&(a, b)| a.max(b)).max().unwrap() + 1;
    for k in 0..accounts {
        put(
            &mut ledger,
            Resource::ServiceAccounts,
            &format!(r#"{{"metadata":{{"name":"a{k}","namespace":"n","uid":"a{k}"}}}}"#),
        );
    }
    for &(from, to) in links {
        put(
            &mut ledger,
            Resource::Roles,
            &format!(
                r#"{{"metadata":{{"name":"r{from}-{to}","namespace":"n","uid":"r{from}-{to}"}},"rules":[{{"apiGroups":[""],"resources":["serviceaccounts/token"],"verbs":["create"],"resourceNames":["a{to}"]}}]}}"#
            ),
        );
        put(
            &mut ledger,
            Resource::RoleBindings,
            &format!(
                r#"{{"metadata":{{"name":"b{from}-{to}","namespace":"n","uid":"b{from}-{to}"}},"roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r{from}-{to}"}},"subjects":[{{"kind":"ServiceAccount","name":"a{from}","namespace":"n"}}]}}"#
            ),
        );
    }
    put(
        &mut ledger,
        Resource::ClusterRoles,
        r#"{"metadata":{"name":"all","uid":"all"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#,
    );
    put(
        &mut ledger,
        Resource::ClusterRoleBindings,
        &format!(
            r#"{{"metadata":{{"name":"support","uid":"support"}},"roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"all"}},"subjects":[{{"kind":"ServiceAccount","name":"a{}","namespace":"n"}}]}}"#,
            accounts - 1
        ),
    );
    let whole = judged(&mut ledger);
    let support = ObjectRef {
        resource: Resource::ClusterRoleBindings,
        namespace: "".into(),
        name: "support".into(),
    };
    let cut = || {
        ledger.apply(Change::Delete(support));
        ledger.settle();
    };
    let (_, cut) = timed(cut);
    (whole, cut)
}

/// A single object decoded; the least that an event costs.
pub(crate) fn decode_one(resource: Resource) -> f64 {
    let cluster = Cluster::new(Size::of_pods(1_000));
    let mut text = Vec::new();
    cluster.object(resource, 200, Edition::default(), &mut text);
    let json = std::str::from_utf8(&text).unwrap();
    median((0..101).map(|_| timed(|| -> Object { slim::decode(resource, json).unwrap() }).1))
}
