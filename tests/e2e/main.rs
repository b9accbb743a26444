//! Checks that need the real servers: `make e2e` builds them and runs these.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and what they measure is printed"
)]

#[path = "../blocks.rs"]
mod blocks;
mod harness;
#[path = "../table.rs"]
mod table;

/// Risks that somebody answers for.
mod acceptance;
/// From a grant to the page.
mod alerting;
/// What we call dangerous, done; and with one piece less, refused.
mod attacks;
/// Clients that are slow, broken, greedy or many.
mod crowds;
/// What is printed to be run, run.
mod cut;
/// What the panels ask is answered, by one cluster and by many.
mod dashboards;
/// What a fresh cluster is judged as, and what one edit of it is.
mod default_cluster;
/// The chart and the manifests.
mod deploy;
/// A diff with a live cluster on the left.
mod diff;
/// What the documents tell people to run, run.
mod documents;
/// Who is let in.
mod door;
/// Servers that die or are slow.
mod faults;
/// What many clusters cost at the centre.
mod fleet;
/// Two clusters in one place, and one of them gone.
mod gone;
/// Changes, from kubectl to `/metrics`.
mod live;
/// Which alert holds which back.
mod muted;
/// Scrapes while lists are slow, beside kube-state-metrics.
mod partial;
/// The evaluator against the authoriser.
mod reviews;
/// promtool and amtool on the alert rules.
mod rules;
/// A real Prometheus reads what we write.
mod scraped;
/// The harness itself, without the exporter.
mod servers;
/// Since when a subject holds its priority, by the times of real objects.
mod since;
/// Changes without end, and servers that die under them.
mod soak;
/// What the benchmarks measure with.
mod synthetic;
/// What one sees, from a grant to its end: `make tour`.
mod tour;
/// Proxies, names and half-open connections on the way to the API server.
mod ways;
