//! What goes out: metrics, HTTP, reports.

pub mod acceptance;
mod api;
pub mod diff;
pub mod door;
pub mod explain;
pub mod http;
mod kubectl;
pub mod listing;
mod markdown;
pub mod metrics;
pub mod negotiate;
mod page;
mod params;
pub mod process;
pub mod render;
pub mod report;
pub mod rules;
pub mod sarif;
mod sentence;
pub mod site;
pub mod terminal;
pub mod who_can;
