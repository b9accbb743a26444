//! Changes without end, and servers that die under them: in the end the exporter that was there all the
//! time says what one says that has just begun, has grown no larger, and has counted every error.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};

use crate::harness::caller::{Caller, Refusal};
use crate::harness::eventually;
use crate::harness::exporter::{Exporter, scan};
use crate::harness::exposition::Samples;
use crate::harness::process::Process;
use crate::harness::world::World;
use crate::table::recovered;

const GROUP: &str = "rbac.authorization.k8s.io";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const WRITERS: u64 = 4;
const SPACES: u64 = 8;
/// Names of each kind in a namespace, and of each cluster-scoped kind.
const NAMES: u64 = 12;
/// Accounts of a namespace that pods run as.
const CARRIERS: u64 = 3;

/// How long, how hard.
#[derive(Clone, Copy, Debug)]
struct Plan {
    time: Duration,
    /// Changes a second that are tried.
    rate: f64,
    disturbances: u32,
}

#[test]
fn a_short_soak_ends_where_a_fresh_scan_does() {
    let outcome = soak(Plan {
        time: Duration::from_secs(35),
        rate: 60.0,
        disturbances: 5,
    });
    assert!(outcome.api_restarts >= 4, "{outcome:?}");
    assert_eq!(outcome.restores, 1, "{outcome:?}");
    assert!(outcome.changes >= 500, "{outcome:?}");
}

/// `make soak`; `RBAC_EXPORTER_SOAK_SECONDS`, `_RATE` (changes a second) and `_DISTURBANCES` change it.
#[test]
#[ignore = "takes 22 minutes: make soak"]
fn a_long_soak_ends_where_a_fresh_scan_does() {
    let number = |name: &str, default: f64| {
        let text = env::var(format!("RBAC_EXPORTER_SOAK_{name}"));
        text.map_or(default, |t| t.parse().expect("a number"))
    };
    let outcome = soak(Plan {
        time: Duration::from_secs_f64(number("SECONDS", 1320.0)),
        rate: number("RATE", 220.0),
        disturbances: number("DISTURBANCES", 28.0) as u32,
    });
    assert!(outcome.api_restarts >= 20, "{outcome:?}");
    assert!(outcome.restores >= 5, "{outcome:?}");
    assert!(outcome.changes >= 100_000, "{outcome:?}");
}

/// What happened.
#[derive(Debug, Default)]
struct Outcome {
    changes: u64,
    api_restarts: u32,
    etcd_restarts: u32,
    restores: u32,
}

// === the world

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn space(number: u64) -> String {
    format!("soak-{number}")
}

fn rules(dice: &mut Dice) -> Value {
    let (verb, resource) = match dice.roll(7) {
        0 => ("*", "*"),
        1 => ("list", "secrets"),
        2 => ("create", "pods"),
        3 => ("create", "pods/exec"),
        4 => ("create", "serviceaccounts/token"),
        5 => ("impersonate", "serviceaccounts"),
        _ => ("get", "pods"),
    };
    json!([{"apiGroups": [""], "resources": [resource], "verbs": [verb]}])
}

fn subjects(dice: &mut Dice) -> Value {
    let mut subjects = Vec::new();
    for _ in 0..=dice.roll(2) {
        let name = format!("n{}", dice.roll(NAMES));
        subjects.push(match dice.roll(4) {
            0 => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            1 => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            2 => json!({"kind": "ServiceAccount", "namespace": space(dice.roll(SPACES)),
                        "name": format!("carrier-{}", dice.roll(CARRIERS))}),
            _ => json!({"kind": "ServiceAccount", "namespace": space(dice.roll(SPACES)), "name": name}),
        });
    }
    json!(subjects)
}

fn pod(name: &str, carrier: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "serviceAccountName": format!("carrier-{carrier}"),
            "containers": [{"name": "main", "image": "example.invalid/main:1"}],
        },
    })
}

/// What is there all the time: namespaces, a subject that must never be out of sight, and for every
/// account that pods run as one pod that stays. Without that an account whose last pod went shortly
/// before the end would still be reached in the exporter, for the ten minutes of its grace, and not in
/// a scan.
fn furnish(world: &World) {
    let mut items = vec![
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding",
               "metadata": {"name": "canary"},
               "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
               "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "canary"}]}),
    ];
    for number in 0..SPACES {
        let namespace = space(number);
        items.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
        for carrier in 0..CARRIERS {
            let name = format!("carrier-{carrier}");
            items.push(json!({"apiVersion": "v1", "kind": "ServiceAccount",
                              "metadata": {"name": name, "namespace": namespace}}));
            let mut anchor = pod(&format!("anchor-{carrier}"), carrier);
            anchor["metadata"]["namespace"] = namespace.clone().into();
            items.push(anchor);
        }
    }
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
}

// === changes

/// Makes one change of its own part of the names; tells whether the server took it.
fn change(admin: &Caller, dice: &mut Dice, writer: u64) -> Result<bool, String> {
    let namespace = space(dice.roll(SPACES / WRITERS) * WRITERS + writer);
    let number = dice.roll(NAMES / WRITERS) * WRITERS + writer;
    let here = format!("/api/v1/namespaces/{namespace}");
    let rbac_here = format!("{RBAC}/namespaces/{namespace}");
    let anyone = dice.roll(NAMES);
    let name = |number: u64| format!("n{number}");
    // What an object is called decides what its reference is to: that cannot be changed.
    let reference = |number: u64| {
        let kind = if number.is_multiple_of(2) {
            "Role"
        } else {
            "ClusterRole"
        };
        json!({"apiGroup": GROUP, "kind": kind, "name": name(number)})
    };
    let (collection, name, object, patch) = match dice.roll(10) {
        0 => {
            let rules = rules(dice);
            let patch = json!({"rules": rules});
            (
                format!("{RBAC}/clusterroles"),
                name(number),
                patch.clone(),
                patch,
            )
        }
        1 | 2 => {
            let patch = json!({"rules": rules(dice)});
            (
                format!("{rbac_here}/roles"),
                name(anyone),
                patch.clone(),
                patch,
            )
        }
        3 => {
            let patch = json!({"subjects": subjects(dice)});
            let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name(number)});
            let object = json!({"subjects": patch["subjects"], "roleRef": role});
            (
                format!("{RBAC}/clusterrolebindings"),
                name(number),
                object,
                patch,
            )
        }
        4 | 5 => {
            let patch = json!({"subjects": subjects(dice)});
            let object = json!({"subjects": patch["subjects"], "roleRef": reference(anyone)});
            (
                format!("{rbac_here}/rolebindings"),
                name(anyone),
                object,
                patch,
            )
        }
        6 => {
            let label = json!({"metadata": {"labels": {"turn": dice.roll(1000).to_string()}}});
            (
                format!("{here}/serviceaccounts"),
                name(anyone),
                json!({}),
                label,
            )
        }
        7 => {
            let level = ["baseline", "privileged"][dice.roll(2) as usize];
            let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": level}}});
            let path = format!("/api/v1/namespaces/{namespace}");
            return Ok(admin.try_merge(&path, &label)?.is_ok());
        }
        _ => {
            let name = format!("p{anyone}");
            if dice.roll(2) == 0 {
                let phase = ["Running", "Succeeded"][dice.roll(2) as usize];
                let path = format!("{here}/pods/{name}/status");
                let patch = json!({"status": {"phase": phase}});
                return Ok(admin.try_merge(&path, &patch)?.is_ok());
            }
            let label = json!({"metadata": {"labels": {"turn": dice.roll(1000).to_string()}}});
            (
                format!("{here}/pods"),
                name.clone(),
                pod(&name, anyone % CARRIERS),
                label,
            )
        }
    };
    let path = format!("{collection}/{name}");
    let changed = match dice.roll(3) {
        0 => admin.try_delete(&path)?,
        _ => admin.try_merge(&path, &patch)?,
    };
    match changed {
        Ok(_) => Ok(true),
        Err(Refusal { status: 404, .. }) => {
            let mut object = object;
            object["metadata"]["name"] = name.into();
            Ok(admin.try_post(&collection, &object)?.is_ok())
        }
        Err(_) => Ok(false),
    }
}

/// Makes changes at a rate until it is told to stop.
fn churn(admin: &Caller, writer: u64, rate: f64, made: &AtomicU64, stop: &AtomicBool) {
    let mut dice = Dice(writer + 1);
    let every = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match change(admin, &mut dice, writer) {
            Ok(true) => drop(made.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(_) => sleep(Duration::from_millis(100)),
        }
        due += every;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => sleep(early),
            // What an outage cost is not caught up with.
            None => due = Instant::now(),
        }
    }
}

// === the exporter meanwhile

/// What the process takes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    rss_kb: u64,
    /// Without the pages of the binary that were run so far.
    own_kb: u64,
    descriptors: usize,
    tasks: usize,
}

impl Taken {
    fn by(process: &Process) -> Taken {
        let proc = Path::new("/proc").join(process.id().to_string());
        let count = |what: &str| fs::read_dir(proc.join(what)).unwrap().count();
        Taken {
            rss_kb: process.memory("VmRSS"),
            own_kb: process.memory("RssAnon"),
            descriptors: count("fd"),
            tasks: count("task"),
        }
    }
}

/// Scrapes once a second; the canary must be in every answer.
fn look(exporter: &Exporter, stop: &AtomicBool) -> u64 {
    let mut scrapes = 0;
    while !stop.load(Ordering::Relaxed) {
        let samples = exporter.scrape();
        let canary = [
            ("kind", "User"),
            ("name", "canary"),
            ("priority", "critical"),
        ];
        let seen = samples.select("rbac_risky_subject_since_timestamp_seconds", &canary);
        assert_eq!(seen.count(), 1, "the canary is out of sight");
        scrapes += 1;
        sleep(Duration::from_secs(1));
    }
    scrapes
}

/// One of the ways in which servers fail; the fifth restores what the fourth kept.
fn disturb(world: &mut World, number: u32, outcome: &mut Outcome) {
    match number % 5 {
        0 => world.kill_api_server(),
        1 => {
            world.kill_etcd();
            sleep(Duration::from_secs(1));
            world.start_etcd();
            outcome.etcd_restarts += 1;
            return;
        }
        kind => {
            world.kill_api_server();
            world.kill_etcd();
            match kind {
                2 => world.back_up_etcd(&format!("backup-{number}")),
                // Two disturbances old.
                4 => {
                    world.restore_etcd(&format!("backup-{}", number - 2));
                    outcome.restores += 1;
                }
                _ => {}
            }
            world.start_etcd();
            outcome.etcd_restarts += 1;
        }
    }
    world.start_api_server();
    outcome.api_restarts += 1;
}

/// The report without the times that a watcher stamps.
fn unstamped(mut report: Value) -> Value {
    for subject in report["subjects"].as_array_mut().expect("an array") {
        subject["since"] = Value::Null;
    }
    report
}

/// Where two reports differ, a line each, not too many.
fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let keys = ours.as_object().expect("an object").keys();
    for key in keys {
        let (a, b) = (&ours[key], &theirs[key]);
        if a == b {
            continue;
        }
        let empty = Vec::new();
        let a_items = a.as_array().unwrap_or(&empty);
        let b_items = b.as_array().unwrap_or(&empty);
        let mut only = |from: &[Value], to: &[Value], whose: &str| {
            for item in from.iter().filter(|i| !to.contains(i)).take(3) {
                lines.push(format!("{key}, {whose}: {item}"));
            }
        };
        only(a_items, b_items, "the watcher's");
        only(b_items, a_items, "the scan's");
        if a_items.is_empty() && b_items.is_empty() {
            lines.push(format!("{key}: {a} against {b}"));
        }
    }
    lines
}

fn soak(plan: Plan) -> Outcome {
    let mut world = World::bare();
    eventually("the namespaces are there", Duration::from_secs(10), || {
        let answer = world.try_kubectl(&["get", "namespace", "default"], "");
        (answer.code == 0).then_some(()).ok_or(answer.stderr)
    });
    furnish(&world);
    let kubeconfig = world.exporter_kubeconfig(world.port());
    let admin = world.admin();
    let (made, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // As many objects as there will be at the end, so that sizes can be compared.
    let mut dice = Dice(99);
    for _ in 0..plan.rate as u64 * 10 {
        let writer = dice.roll(WRITERS);
        change(&admin, &mut dice, writer).expect("the server is there");
    }

    let mut exporter = Exporter::watch(&kubeconfig);
    exporter.scrape();
    exporter.report();
    let first = Taken::by(exporter.process());
    let log_of = |exporter: &mut Exporter| exporter.process().log();
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let scrapes = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (admin, made, stop) = (&admin, &made, &stop);
            let rate = plan.rate / WRITERS as f64;
            scope.spawn(move || churn(admin, writer, rate, made, stop));
        }
        let looking = scope.spawn(|| look(&exporter, &stop));
        let pause = plan.time / (plan.disturbances + 1);
        for number in 0..plan.disturbances {
            let due = pause * (number + 1);
            sleep(due.saturating_sub(start.elapsed()));
            disturb(&mut world, number, &mut outcome);
            if looking.is_finished() {
                break;
            }
        }
        sleep(plan.time.saturating_sub(start.elapsed()));
        stop.store(true, Ordering::Relaxed);
        looking.join().expect("every scrape was whole")
    });
    outcome.changes = made.load(Ordering::Relaxed);
    let lasted = start.elapsed();

    let (_, took) = eventually(
        "the watcher says what a fresh scan says",
        Duration::from_secs(90),
        || {
            let ours = unstamped(exporter.report());
            let theirs = unstamped(scan(&kubeconfig));
            let lines = differences(&ours, &theirs);
            lines.is_empty().then_some(()).ok_or(lines.join("\n"))
        },
    );
    recovered("all of them under churn", took);
    // Threads that read credentials or computed an answer end after ten seconds without work; then it is
    // asked for the same as at first.
    sleep(Duration::from_secs(11));
    let end: Samples = exporter.scrape();
    exporter.report();
    let last = Taken::by(exporter.process());
    let log = log_of(&mut exporter);
    let errors = end.sum("rbac_exporter_watch_errors_total", &[]);
    let restarts = end.sum("rbac_exporter_watch_restarts_total", &[]);
    let events = end.sum("rbac_exporter_watch_events_total", &[]);
    let count = |level: &str| log.lines().filter(|line| line.contains(level)).count();
    let (warnings, mistakes) = (count("level=warn"), count("level=error"));
    let mut text = String::new();
    let _ = write!(
        text,
        "soak of {:.0} s: {} changes, {events} events seen, {} restarts of the API server, {} of etcd, \
         {} restores of an older state; {scrapes} scrapes, each with the canary; equal to a fresh scan \
         {took:.1?} after the last change; RSS {} kB at first, {} kB at last ({:.2}), of it {} and {} kB of its own; descriptors {} and {}, \
         tasks {} and {}; {errors} errors counted, {restarts} watches reopened, {warnings} warnings and \
         {mistakes} errors logged",
        lasted.as_secs_f64(),
        outcome.changes,
        outcome.api_restarts,
        outcome.etcd_restarts,
        outcome.restores,
        first.rss_kb,
        last.rss_kb,
        last.rss_kb as f64 / first.rss_kb as f64,
        first.own_kb,
        last.own_kb,
        first.descriptors,
        last.descriptors,
        first.tasks,
        last.tasks,
    );
    println!("{text}");
    assert!(
        last.rss_kb * 10 <= first.rss_kb * 11,
        "it has grown: {text}"
    );
    // A watch each, and a connection that waits in the pool for the next request.
    assert!(
        last.descriptors <= first.descriptors + 3,
        "descriptors leak: {text}"
    );
    assert_eq!(last.tasks, first.tasks, "threads leak: {text}");
    assert!(errors > 0.0, "nothing went wrong: {text}");
    assert!(
        warnings + mistakes <= errors as usize,
        "an error was logged that no metric has: {text}\n{log}"
    );
    outcome
}
