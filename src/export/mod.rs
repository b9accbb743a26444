//! What goes out: metrics, HTTP, reports.

pub mod http;
pub mod negotiate;
pub mod process;
