//! Checks that need the real servers: `make e2e` builds them and runs these.

mod harness;

/// The harness itself, without the exporter.
mod servers;

/// The evaluator against the authoriser.
mod reviews;
