//! The ledger at full size: what the first judgement and single events cost. `make bench` prints a table.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark may stop at what cannot happen"
)]

mod world;

use rbac_exporter::export::process::Process;
use rbac_exporter::ledger::{Change, Ledger, ObjectRef};
use rbac_exporter::object::{Object, Resource};
use std::time::{Duration, Instant};
use world::{FULL, Size, binding, fill, pod, role, rule};

/// Two smaller clusters, to see what grows.
const SMALL: Size = Size {
    pods: 1_000,
    bindings: 500,
    roles: 300,
    namespaces: 50,
};
const MIDDLING: Size = Size {
    pods: 20_000,
    bindings: 5_000,
    roles: 2_500,
    namespaces: 500,
};

/// Median of several runs of one event with its settling.
fn event(ledger: &mut Ledger, n: usize, mut change: impl FnMut(usize) -> Vec<Change>) -> Duration {
    let mut times: Vec<Duration> = (0..n)
        .map(|i| {
            let changes = change(i);
            let begun = Instant::now();
            changes.into_iter().for_each(|c| ledger.apply(c));
            ledger.settle();
            ledger.snapshot();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    println!(
        "{:>7} {:>8} {:>6} {:>6} | {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} | {:>8}",
        "pods",
        "bindings",
        "roles",
        "ns",
        "first",
        "pod",
        "role",
        "label",
        "binding",
        "check",
        "VmHWM"
    );
    for size in [SMALL, MIDDLING, FULL] {
        let Size {
            pods,
            bindings,
            roles,
            namespaces,
        } = size;
        let (mut ledger, first) = fill(size);
        let pod_event = event(&mut ledger, 101, |i| {
            let gone = pod(i, namespaces, 0);
            let object = ObjectRef {
                resource: Resource::Pods,
                namespace: gone.meta().namespace.clone(),
                name: gone.meta().name.clone(),
            };
            vec![
                Change::Upsert(pod(i, namespaces, 1)),
                Change::Delete(object),
            ]
        });
        let role_event = event(&mut ledger, 101, |i| {
            let mut edited = role(4 * i + 1, namespaces);
            edited.rules.push(rule(&["create"], "", &["pods"]));
            vec![Change::Upsert(Object::Role(edited))]
        });
        let label_event = event(&mut ledger, 101, |i| {
            vec![Change::Upsert(Object::Role(role(4 * i + 2, namespaces)))]
        });
        let binding_event = event(&mut ledger, 101, |i| {
            let mut new = binding(i * 13, roles, namespaces);
            new.meta.name = format!("new-{i}");
            vec![Change::Upsert(Object::Binding(new))]
        });
        let begun = Instant::now();
        let differences = ledger.selfcheck();
        let check = begun.elapsed();
        assert_eq!(
            differences, 0,
            "the incremental state is what an evaluation from scratch gives"
        );
        let peak = Process::read().peak_resident_bytes.unwrap_or_default();
        println!(
            "{pods:>7} {bindings:>8} {roles:>6} {namespaces:>6} | {first:>9.1?} {pod_event:>9.1?} {role_event:>9.1?} {label_event:>9.1?} {binding_event:>9.1?} {check:>9.1?} | {:>5} MB",
            peak >> 20
        );
    }
}
