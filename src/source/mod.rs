//! Where objects come from: a live cluster, or manifests.

pub mod cluster;
mod decode_error;

pub use decode_error::DecodeError;
