//! Checks that need Rust alone.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions; what helps them is no different"
)]

#[path = "../blocks.rs"]
mod blocks;
#[path = "../table.rs"]
mod table;

mod accept;
mod alerts;
mod api;
mod browse;
mod cases;
mod chart;
mod command;
mod config;
mod cut;
mod dashboards;
mod diffs;
mod documents;
mod door;
mod explain;
mod families;
mod faults;
mod followed;
mod generated;
mod hostile;
mod http;
mod incremental;
mod layers;
mod manifests;
mod page;
mod places;
mod promql;
mod questions;
mod reference;
mod sarif;
mod scans;
mod schema;
mod standin;
mod synthetic;
mod terminal;
mod watch;
