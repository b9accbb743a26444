//! The words of the judgement.

use serde::{Deserialize, Serialize};

/// How much a finding is worth (catalogue C.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Priority {
    /// Nothing in the catalogue.
    #[default]
    None,
    /// Small or latent.
    Low,
    /// Part of a namespace, or denial of service cluster-wide.
    Medium,
    /// An ordinary namespace, or a cluster-wide safeguard.
    High,
    /// Cluster-admin in effect.
    Critical,
}

impl Priority {
    /// All of them, rising.
    pub const ALL: [Priority; 5] = [
        Priority::None,
        Priority::Low,
        Priority::Medium,
        Priority::High,
        Priority::Critical,
    ];

    /// The four that make a subject risky, rising.
    pub const RISKY: [Priority; 4] = [
        Priority::Low,
        Priority::Medium,
        Priority::High,
        Priority::Critical,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::None => "none",
            Priority::Low => "low",
            Priority::Medium => "medium",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }

    /// From the label value.
    pub fn parse(text: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// Whether somebody answers for a risk (contract §3, §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// Nobody: it counts.
    #[default]
    Open,
    /// Listed in the configuration with reason, owner and expiry.
    Accepted,
    /// One of the (role, subject) pairs that every cluster has, with no more power than it has there.
    Builtin,
}

impl Status {
    /// All of them; an earlier one beats a later one at equal priority.
    pub const ALL: [Status; 3] = [Status::Open, Status::Accepted, Status::Builtin];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Accepted => "accepted",
            Status::Builtin => "builtin",
        }
    }
}
