//! Checks that need Rust alone.

mod cases;
mod http;
mod manifests;
