//! What it costs to run: `make bench` measures the binary as it is shipped and prints one table.
//!
//! `cargo bench --bench figures -- serve` starts the stand-in server on a synthetic cluster and prints a kubeconfig
//! for it; `-- manifests` writes such a cluster as YAML.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and may stop at what cannot happen"
)]

#[path = "../cluster/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod cluster;

use cluster::standin::{Churn, Standin};
use cluster::{Cluster, Size, manifests};
use rbac_exporter::object::Resource;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const USAGE: &str = "\
serve [--pods N] [--namespaces N] [--bindings N] [--roles N] [--port N] [--churn EVENTS-A-SECOND]
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

    fn number(&self, name: &str, default: usize) -> usize {
        let at = self
            .0
            .iter()
            .position(|flag| flag.strip_prefix("--") == Some(name));
        at.map_or(default, |at| self.0[at + 1].parse().unwrap())
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

fn serve(flags: &Flags) {
    let cluster = Arc::new(Cluster::new(flags.size()));
    let standin = Standin::start(cluster.clone(), flags.number("port", 0) as u16);
    println!("{}", standin.kubeconfig());
    let rate = flags.number("churn", 0);
    let mut churn = Churn::new(&cluster);
    let begun = Instant::now();
    let mut done = 0;
    loop {
        sleep(Duration::from_millis(20));
        while (done as f64) < begun.elapsed().as_secs_f64() * rate as f64 {
            churn.step(&standin);
            done += 1;
        }
    }
}
