//! What is known of the watch of each resource.

use super::change::{FaultReason, WatchEvent};
use std::collections::BTreeMap;

/// The watch of one resource, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchState {
    /// A full list was taken in once.
    pub synced: bool,
    /// When the server was last heard from, Unix seconds; 0 for never.
    pub last_activity: i64,
    /// Events (added, modified, deleted) taken in.
    pub events: u64,
    /// Times the watch was opened anew.
    pub restarts: u64,
    /// Failures by reason, in the order of [`FaultReason::ALL`].
    pub errors: [u64; FaultReason::ALL.len()],
    /// The API server refuses list or watch.
    pub forbidden: bool,
    /// The last failure; cleared by the next activity.
    pub fault: Option<String>,
    /// Objects that do not decode, by namespace and name, each with the reason.
    pub bad: BTreeMap<(String, String), String>,
}

impl WatchState {
    pub(crate) fn note(&mut self, event: &WatchEvent, at: i64) {
        match event {
            WatchEvent::Activity => self.alive(at),
            WatchEvent::Event => {
                self.alive(at);
                self.events += 1;
            }
            WatchEvent::Restart => self.restarts += 1,
            WatchEvent::Fault { reason, message } => {
                self.errors[*reason as usize] += 1;
                self.fault = Some(message.clone());
            }
            WatchEvent::Forbidden { message } => {
                self.forbidden = true;
                self.fault = Some(message.clone());
            }
        }
    }

    fn alive(&mut self, at: i64) {
        self.last_activity = self.last_activity.max(at);
        self.forbidden = false;
        self.fault = None;
    }

    /// One word for the state, as it stands in a 503 and in `/-/ready?verbose`.
    pub fn word(&self) -> &'static str {
        match (
            self.synced,
            self.forbidden,
            &self.fault,
            self.bad.is_empty(),
        ) {
            (_, true, ..) => "forbidden",
            (false, ..) => "not synced",
            (true, _, Some(_), _) => "faulty",
            (true, _, None, false) => "synced, some objects unreadable",
            (true, _, None, true) => "synced",
        }
    }
}
