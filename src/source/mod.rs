//! Where objects come from: a live cluster, or manifests.

mod fields;
pub mod manifests;
pub mod slim;
pub mod yaml;
