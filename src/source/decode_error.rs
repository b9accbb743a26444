//! Why one object could not be decoded.

/// An object that could not be decoded, with as much of its identity as could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Why, in one sentence.
    pub message: String,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `metadata.name`
    pub name: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: Option<String>,
}
