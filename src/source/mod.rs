//! Where objects come from: a live cluster, or manifests.
