//! Checks that need Rust alone.

mod cases;
mod generated;
mod http;
mod incremental;
mod layers;
mod manifests;
mod places;
