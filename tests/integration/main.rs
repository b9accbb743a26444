//! Checks that need Rust alone.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions; what helps them is no different"
)]

mod cases;
mod command;
mod families;
mod followed;
mod generated;
mod http;
mod incremental;
mod layers;
mod manifests;
mod places;
mod questions;
mod standin;
mod watch;
