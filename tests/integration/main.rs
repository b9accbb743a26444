//! Checks that need Rust alone.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions; what helps them is no different"
)]

mod alerts;
mod api;
mod cases;
mod command;
mod config;
mod cut;
mod diffs;
mod door;
mod families;
mod followed;
mod generated;
mod http;
mod incremental;
mod layers;
mod manifests;
mod page;
mod places;
mod promql;
mod questions;
mod schema;
mod standin;
mod watch;
