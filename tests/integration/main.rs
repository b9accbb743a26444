//! Checks that need Rust alone.

mod http;
