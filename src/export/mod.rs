//! What goes out: metrics, HTTP, reports.

pub mod diff;
pub mod http;
mod markdown;
pub mod metrics;
pub mod negotiate;
pub mod process;
pub mod render;
pub mod report;
pub mod site;
