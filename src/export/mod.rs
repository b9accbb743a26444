//! What goes out: metrics, HTTP, reports.

pub mod http;
pub mod metrics;
pub mod negotiate;
pub mod process;
pub mod render;
pub mod report;
pub mod site;
