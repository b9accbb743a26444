//! Where objects come from: a live cluster, or manifests.

pub mod cluster;
mod fields;
pub mod manifests;
pub mod slim;
pub mod yaml;

pub use slim::DecodeError;
