//! What goes out: metrics, HTTP, reports.
