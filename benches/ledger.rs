//! The ledger at three sizes: what the first judgement and single events cost, with warm caches and with cold ones.
//! `make bench-ledger` prints a table.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod world;

use rbac_exporter::export::process::Process;
use rbac_exporter::ledger::{Change, Ledger, ObjectRef};
use rbac_exporter::object::{Binding, Meta, Object, RoleRef, ServiceAccount, Subject};
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

/// What happens to a cluster, for the ith time.
type Event = fn(Size, usize) -> Change;

const EVENTS: [(&str, Event); 9] = [
    ("pod comes", |size, i| {
        Change::Upsert(pod(i, size.namespaces, 1))
    }),
    ("pod goes", |size, i| gone(&pod(i, size.namespaces, 0))),
    ("account comes", |size, i| {
        Change::Upsert(account(i, size.namespaces))
    }),
    ("account goes", |size, i| gone(&account(i, size.namespaces))),
    ("user bound", |size, i| {
        Change::Upsert(to_a_user(i, size.namespaces))
    }),
    ("user gone", |size, i| gone(&to_a_user(i, size.namespaces))),
    ("account bound", |size, i| {
        let mut new = binding(i * 13, size.roles, size.namespaces);
        new.meta.name = format!("new-{i}");
        Change::Upsert(Object::Binding(new))
    }),
    ("role edited", |size, i| {
        let mut edited = role(4 * i + 1, size.namespaces);
        edited.rules.push(rule(&["create"], "", &["pods"]));
        Change::Upsert(Object::Role(edited))
    }),
    ("role labelled", |size, i| {
        Change::Upsert(Object::Role(role(4 * i + 2, size.namespaces)))
    }),
];

fn gone(object: &Object) -> Change {
    Change::Delete(ObjectRef {
        resource: object.resource(),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone(),
    })
}

fn named(namespaces: usize, name: String) -> Meta {
    Meta {
        namespace: format!("ns-{}", 3 % namespaces),
        name,
        created: Some(1_700_000_000),
        ..Meta::default()
    }
}

fn account(i: usize, namespaces: usize) -> Object {
    Object::ServiceAccount(ServiceAccount {
        meta: named(namespaces, format!("new-{i}")),
        ..ServiceAccount::default()
    })
}

/// A user that nothing else names, who may read in one namespace.
fn to_a_user(i: usize, namespaces: usize) -> Object {
    Object::Binding(Binding {
        meta: named(namespaces, format!("user-{i}")),
        role: RoleRef {
            cluster: true,
            name: role(8, namespaces).meta.name,
        },
        subjects: vec![Subject::User {
            name: format!("new-{i}"),
        }],
        ..Binding::default()
    })
}

/// Median of several runs of one event with its settling, in a thread that has just done it, or that has done
/// something else in between which left nothing in a cache.
fn event(ledger: &mut Ledger, size: Size, change: Event, from: usize, cold: bool) -> Duration {
    let mut other = vec![0_u8; if cold { 128 << 20 } else { 0 }];
    let mut times: Vec<Duration> = (from..from + 51)
        .map(|i| {
            let change = change(size, i);
            other.iter_mut().step_by(64).for_each(|byte| *byte ^= 1);
            let begun = Instant::now();
            ledger.apply(change);
            ledger.settle();
            ledger.snapshot();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for size in [SMALL, MIDDLING, FULL] {
        let (mut ledger, first) = fill(size);
        let mut cells = vec![
            ("pods".to_owned(), size.pods.to_string()),
            ("bindings".to_owned(), size.bindings.to_string()),
            ("roles".to_owned(), size.roles.to_string()),
            ("namespaces".to_owned(), size.namespaces.to_string()),
            ("first judgement".to_owned(), format!("{first:.1?}")),
        ];
        for (what, change) in EVENTS {
            let [warm, cold] = [(0, false), (51, true)].map(|(from, cold)| {
                format!("{:.1?}", event(&mut ledger, size, change, from, cold))
            });
            cells.push((what.to_owned(), format!("{warm}, cold {cold}")));
        }
        let begun = Instant::now();
        let differences = ledger.selfcheck();
        cells.push(("self-check".to_owned(), format!("{:.1?}", begun.elapsed())));
        assert_eq!(
            differences, 0,
            "the incremental state is what an evaluation from scratch gives"
        );
        let peak = Process::read().peak_resident_bytes.unwrap_or_default();
        cells.push(("VmHWM".to_owned(), format!("{} MB", peak >> 20)));
        if rows.is_empty() {
            rows = cells.iter().map(|(what, _)| vec![what.clone()]).collect();
        }
        for (row, (_, cell)) in rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }
    for row in rows {
        print!("{:<16}", row[0]);
        row[1..].iter().for_each(|cell| print!("{cell:>26}"));
        println!();
    }
}
