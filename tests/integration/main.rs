//! Checks that need Rust alone.

mod manifests;
