//! Checks that need Rust alone.
