//! rbac-exporter tells who could take a Kubernetes cluster over.
//!
//! Data flows one way:
//!
//! ```text
//!  cluster (list/watch) ─┐                                         ┌─ /metrics
//!                        ├─> Change ─> ledger ─> assess ─> Snapshot ┼─ report, page
//!  manifests ────────────┘   (one writer, incremental)              └─ scan, can-i
//! ```
//!
//! - [`object`]: the slim objects, the vocabulary of all other layers
//! - [`rbac`]: what RBAC means (pure)
//! - [`risk`]: what is dangerous (pure)
//! - [`config`]: what users decide, from text with positions (pure); [`located`] is how it is read
//! - [`ledger`]: rows, incremental judgement, snapshots (pure)
//! - [`compare`]: two judged worlds side by side (pure)
//! - [`source`]: where objects come from: a live cluster, manifests
//! - [`export`]: what goes out: metrics, HTTP, reports
//! - [`run`]: wiring, one file a command; [`cli`]: the flags
//! - [`log`]: what the process says of itself on stderr
//!
//! `object`, `rbac`, `risk`, `config`, `ledger` and `compare` know nothing of I/O, and `source` and
//! `export` nothing of each other; a test holds them to it.

pub mod cli;
mod clock;
pub mod compare;
pub mod config;
pub mod export;
pub mod ledger;
pub mod located;
pub mod log;
pub mod object;
pub mod rbac;
pub mod risk;
pub mod run;
mod side_by_side;
pub mod source;
mod spelling;
