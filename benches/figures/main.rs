//! What it costs to run: `make bench` measures the binary as it is shipped, beside what a user would pick instead,
//! and prints one table; `make bench-churn` ten minutes of rollouts at full size. Nothing here asserts a figure.
//!
//! `cargo bench --bench figures -- serve` starts the stand-in server on a synthetic cluster and prints a kubeconfig
//! for it; `-- manifests` writes such a cluster as YAML.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and may stop at what cannot happen"
)]

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../../tests/e2e/harness/mod.rs"]
#[allow(dead_code, reason = "only its processes and ports are needed here")]
mod harness;
mod live;
mod measure;
mod offline;
mod peers;
mod real;
mod record;

mod table;

use cluster::standin::{Churn, Standin};
use cluster::{Cluster, Size, manifests};
use rbac_exporter::object::Resource;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use table::Row;

const USAGE: &str = "\
[all] [--only PARTS] [--write]
    every figure, or those of some parts: scan,start,judgement,middle,growth,marginal,scrapes,events,server;
    with --write they go into docs/benchmarks.md and README.md
churn [--minutes N] [--write]
    rollouts at full size, 10 minutes of them
serve [--pods N] [--namespaces N] [--bindings N] [--roles N] [--port N] [--churn EVENTS-A-SECOND] [--edits ROLES-A-SECOND]
    the stand-in on a synthetic cluster, until it is interrupted
manifests [--pods N] [--bindings N] [--roles N] [--namespaces N] [--read]
    such a cluster as YAML: as people write it, or with --read as kubectl prints it";

/// The arguments behind a command, as `--name value`.
struct Flags(Vec<String>);

impl Flags {
    fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|flag| flag.strip_prefix("--") == Some(name))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let at = self
            .0
            .iter()
            .position(|flag| flag.strip_prefix("--") == Some(name));
        at.map(|at| self.0[at + 1].as_str())
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.text(name)
            .map_or(default, |text| text.parse().unwrap())
    }

    fn size(&self) -> Size {
        let size = Size::of_pods(self.number("pods", Size::FULL.pods));
        Size {
            bindings: self.number("bindings", size.bindings),
            roles: self.number("roles", size.roles),
            namespaces: self.number("namespaces", size.namespaces),
            ..size
        }
    }
}

fn main() {
    // Cargo adds a flag of its own.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let command = args.next();
    let flags = Flags(args.collect());
    match command.as_deref() {
        None | Some("all") => all(flags.text("only").unwrap_or(PARTS), flags.has("write")),
        Some("churn") => {
            let when = record::circumstances();
            let mut rows = Vec::new();
            let minutes = flags.number("minutes", 10) as u64;
            live::churn(&mut rows, Duration::from_secs(60 * minutes));
            let text = format!("{when}\n\n{}", table::markdown(&rows));
            if flags.has("write") {
                record::write(DOCUMENT, "churn", &text);
            }
            print!("{text}");
        }
        Some("serve") => serve(&flags),
        Some("manifests") => {
            let life = if flags.has("read") {
                manifests::Life::Read
            } else {
                manifests::Life::Written
            };
            let cluster = Cluster::new(flags.size());
            let out = &mut BufWriter::new(io::stdout().lock());
            manifests::write(&cluster, &Resource::ALL, life, out).unwrap();
        }
        _ => println!("{USAGE}"),
    }
}

const PARTS: &str = "scan,start,judgement,middle,growth,marginal,scrapes,events,server";

const DOCUMENT: &str = "docs/benchmarks.md";

fn all(parts: &str, write: bool) {
    let when = record::circumstances();
    let peer = peers::Peer::find();
    let mut rows: Vec<Row> = Vec::new();
    let mut sizes = String::new();
    for part in parts.split(',') {
        match part {
            "scan" => offline::scan(&mut rows),
            "start" => offline::cold_start(&mut rows),
            "judgement" => offline::judgement(&mut rows),
            "middle" => live::middle(&mut rows, peer.as_ref()),
            "growth" => sizes = live::growth(&mut rows),
            "marginal" => live::marginal(&mut rows, peer.as_ref()),
            "server" => real::server(&mut rows, peer.as_ref()),
            "scrapes" => live::scrapes(&mut rows, peer.as_ref()),
            "events" => live::events(&mut rows),
            other => panic!("no such part: {other}; there are {PARTS}"),
        }
        // What there is, in case the rest takes too long for somebody.
        eprintln!("{}", table::markdown(&rows));
    }
    let text = format!("{when}\n\n{}", table::markdown(&rows));
    if write {
        record::write(DOCUMENT, "figures", &text);
        record::write(DOCUMENT, "sizes", &sizes);
        record::write("README.md", "figures", &record::readme(&rows));
    }
    println!("{text}\n{sizes}");
}

fn serve(flags: &Flags) {
    let cluster = Arc::new(Cluster::new(flags.size()));
    let standin = Standin::start(cluster.clone(), flags.number("port", 0) as u16);
    println!("{}", standin.kubeconfig());
    let rate = flags.number("churn", 0) as f64;
    let mut churn = Churn::new(&cluster);
    let (edits, begun) = (flags.number("edits", 0) as f64, Instant::now());
    let mut edited = 0;
    loop {
        sleep(Duration::from_millis(20));
        churn.keep_up(&standin, rate);
        while (edited as f64) < begun.elapsed().as_secs_f64() * edits {
            standin.edit(Resource::Roles, cluster.role_to_edit(edited));
            edited += 1;
        }
    }
}
