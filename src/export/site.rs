//! What the server serves: routes, and the state they read.

use super::api;
use super::http::{Ask, Content, Line, Reply, Site};
use super::metrics::{About, Work};
use super::negotiate::{accepts_gzip, exposition};
use super::page;
use super::render::Renderer;
use crate::clock;
use crate::ledger::{Ledger, Snapshot, WatchState};
use crate::object::Resource;
use arc_swap::ArcSwap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// What the writer shares with readers.
#[derive(Debug)]
pub struct Shared {
    /// The whole ledger, for reports. The writer holds it while it settles a batch.
    pub ledger: RwLock<Ledger>,
    /// What is exported; scrapes read nothing else, so they never wait for the writer.
    pub snapshot: ArcSwap<Snapshot>,
    /// When the writer last took a turn, Unix seconds.
    pub turn: AtomicI64,
    /// The process is about to end.
    pub stopping: AtomicBool,
    /// What the exporter observes of its own work.
    pub work: Arc<Work>,
}

/// Without a turn for this long the writer counts as stuck.
const STUCK_AFTER: i64 = 60;

impl Shared {
    /// Around a ledger.
    pub fn new(ledger: Ledger) -> Shared {
        Shared {
            snapshot: ArcSwap::from_pointee(ledger.snapshot()),
            ledger: RwLock::new(ledger),
            turn: AtomicI64::new(clock::now()),
            stopping: AtomicBool::new(false),
            work: Arc::default(),
        }
    }
}

/// The routes.
#[derive(Debug)]
pub struct Pages {
    shared: Arc<Shared>,
    renderer: Renderer,
    telemetry_path: String,
    version: String,
}

impl Pages {
    /// The pages of a running exporter.
    pub fn new(shared: Arc<Shared>, about: About, telemetry_path: String) -> Pages {
        let version = about.version.clone();
        Pages {
            renderer: Renderer::new(about, shared.work.clone()),
            shared,
            telemetry_path,
            version,
        }
    }

    /// The state of every resource, one a line.
    fn states(snapshot: &Snapshot) -> String {
        let mut out = String::new();
        let now = clock::now();
        for (resource, watch, objects, _) in &snapshot.watches {
            let fault = watch
                .fault
                .as_ref()
                .map(|f| format!(": {f}"))
                .unwrap_or_default();
            let fault = super::report::printable(&fault);
            let _ = writeln!(
                out,
                "{}: {}, {objects} objects{fault}",
                resource.plural(),
                watch.word(now)
            );
        }
        let hopeless =
            |(resource, watch, ..): &(Resource, WatchState, u64, u64)| watch.hopeless(*resource);
        if let Some(why) = snapshot.watches.iter().find_map(hopeless) {
            let _ = writeln!(out, "{}", super::report::printable(&why));
        }
        if snapshot.without_pods {
            out.push_str("pods: left out (--allow-partial pods)\n");
        }
        out
    }

    fn ready(&self, verbose: bool) -> Reply {
        let snapshot = self.shared.snapshot.load();
        let stopping = self.shared.stopping.load(Ordering::Relaxed);
        let (status, word) = match (stopping, snapshot.synced) {
            (true, _) => (503, "shutting down\n"),
            (false, true) => (200, "ready\n"),
            (false, false) => (503, "not ready: not every resource has been listed yet\n"),
        };
        let mut body = word.to_owned();
        if verbose || status != 200 {
            body += &Pages::states(&snapshot);
        }
        Reply::text(status, body)
    }

    fn healthy(&self) -> Reply {
        let age = clock::now() - self.shared.turn.load(Ordering::Relaxed);
        if age <= STUCK_AFTER {
            return Reply::text(200, "healthy\n");
        }
        Reply::text(
            503,
            format!("the writer has not taken a turn for {age} s\n"),
        )
    }

    fn metrics(&self, ask: &Ask<'_>, snapshot: &Arc<Snapshot>) -> Reply {
        let chosen = exposition(ask.accept);
        let compressed = accepts_gzip(ask.accept_encoding);
        let body = self.renderer.metrics(snapshot, chosen.format, compressed);
        let mut reply = Reply::new(200, chosen.content_type(), "").negotiated();
        reply.body = Content::Parts(body);
        reply.encoding = compressed.then_some("gzip");
        reply
    }

    /// The ledger between two settled batches.
    fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.shared
            .ledger
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The page for people, if the path is one of it.
    fn page(&self, ask: &Ask<'_>, snapshot: &Snapshot) -> Option<Reply> {
        let site = page::Site {
            version: &self.version,
            telemetry_path: &self.telemetry_path,
            snapshot,
            work: &self.shared.work,
            now: clock::now(),
        };
        page::answer(&site, &self.ledger(), ask)
    }
}

impl Site for Pages {
    fn health(&self, path: &str, query: &str) -> Option<Reply> {
        match path {
            "/-/ready" | "/readyz" => {
                // `?verbose` as the API server takes it: alone, or with any value
                let named = |part: &str| part.split('=').next() == Some("verbose");
                Some(self.ready(query.split('&').any(named)))
            }
            "/-/healthy" | "/livez" | "/healthz" => Some(self.healthy()),
            _ => None,
        }
    }

    fn reply(&self, ask: &Ask<'_>) -> Reply {
        let snapshot = self.shared.snapshot.load_full();
        if !snapshot.synced {
            if ask.path.starts_with(api::ROOT) {
                return api::unavailable(&snapshot).with_header("retry-after", "5");
            }
            let body = format!(
                "not every resource has been listed yet; nothing is shown before, as it would be too low\n{}",
                Pages::states(&snapshot)
            );
            return Reply::text(503, body).with_header("retry-after", "5");
        }
        match ask.path {
            path if path == self.telemetry_path => self.metrics(ask, &snapshot),
            // of one moment, and the writer goes on meanwhile
            path if api::takes_long(path) => {
                let moment = self.ledger().clone();
                api::answer(&moment, ask)
            }
            path if path.starts_with(api::ROOT) => api::answer(&self.ledger(), ask),
            _ => self
                .page(ask, &snapshot)
                .unwrap_or_else(|| Reply::text(404, "not found; see / for what there is\n")),
        }
    }

    fn line(&self, path: &str) -> Line {
        if path == self.telemetry_path {
            Line::AtHand
        } else if api::takes_long(path) {
            Line::Long
        } else {
            Line::Computed
        }
    }
}
