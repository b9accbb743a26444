//! The ledger: slim interned rows of everything the judgement needs, one writer, incremental.

mod change;

pub use change::{Change, FaultReason, ObjectRef, Problem, Severity, WatchEvent};
