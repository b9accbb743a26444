//! What goes out: metrics, HTTP, reports.

mod api;
pub mod diff;
pub mod door;
pub mod http;
mod markdown;
pub mod metrics;
pub mod negotiate;
mod page;
mod params;
pub mod process;
pub mod render;
pub mod report;
pub mod rules;
pub mod site;
