//! The body of `/metrics`.
//!
//! RBAC changes rarely and is scraped often, so the judgement is written, and compressed, when it is
//! first asked for after a change, and kept. The exporter's own families change with every scrape; they
//! are small, and follow as a second part. A gzip stream may consist of several members (RFC 1952 §2.2),
//! so the compressed parts are put one behind the other too.

use super::metrics::{self, About, Work};
use super::negotiate::{Format, gzip, open_metrics_to_text};
use crate::ledger::Snapshot;
use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Ends an OpenMetrics exposition.
const END: &str = "# EOF\n";

/// Written parts of one generation, by format.
#[derive(Debug, Default)]
struct Kept {
    generation: Option<u64>,
    open_metrics: Option<Bytes>,
    text: Option<Bytes>,
    open_metrics_gzip: Option<Bytes>,
    text_gzip: Option<Bytes>,
}

/// Writes `/metrics` and keeps what did not change.
#[derive(Debug)]
pub struct Renderer {
    about: Arc<About>,
    work: Arc<Work>,
    kept: Mutex<Kept>,
}

impl Renderer {
    /// With what does not come from the ledger.
    pub fn new(about: About, work: Arc<Work>) -> Renderer {
        Renderer {
            about: Arc::new(about),
            work,
            kept: Mutex::default(),
        }
    }

    /// What `/metrics` answers.
    pub fn metrics(&self, snapshot: &Arc<Snapshot>, format: Format, compressed: bool) -> Bytes {
        let first = self.judgement(snapshot, format, compressed);
        let mut second = metrics::health(snapshot, &self.about, &self.work);
        second = match format {
            Format::OpenMetrics => second + END,
            Format::Text => open_metrics_to_text(&second),
        };
        let second = if compressed {
            gzip(second.as_bytes())
        } else {
            Bytes::from(second.into_bytes())
        };
        let mut body = BytesMut::with_capacity(first.len() + second.len());
        body.extend_from_slice(&first);
        body.extend_from_slice(&second);
        body.freeze()
    }

    fn judgement(&self, snapshot: &Arc<Snapshot>, format: Format, compressed: bool) -> Bytes {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != Some(snapshot.generation) {
            *kept = Kept {
                generation: Some(snapshot.generation),
                ..Kept::default()
            };
        }
        let kept = &mut *kept;
        let open_metrics = kept
            .open_metrics
            .get_or_insert_with(|| Bytes::from(metrics::judgement(snapshot).into_bytes()));
        let plain = match format {
            Format::OpenMetrics => &*open_metrics,
            Format::Text => kept.text.get_or_insert_with(|| {
                let open = std::str::from_utf8(open_metrics).unwrap_or_default();
                Bytes::from(open_metrics_to_text(open).into_bytes())
            }),
        };
        if !compressed {
            return plain.clone();
        }
        let slot = match format {
            Format::OpenMetrics => &mut kept.open_metrics_gzip,
            Format::Text => &mut kept.text_gzip,
        };
        slot.get_or_insert_with(|| gzip(plain)).clone()
    }
}
