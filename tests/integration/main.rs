//! Checks that need Rust alone.

mod cases;
