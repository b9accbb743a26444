//! What is known of the watch of each resource.

use super::change::{FaultReason, WatchEvent};
use crate::object::Resource;
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
            WatchEvent::Polled => self.last_activity = self.last_activity.max(at),
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

    /// Without a word for this long a resource is stale, seconds. A watch without bookmarks is reopened
    /// sooner.
    pub const STALE_AFTER: i64 = 300;

    /// One word for the state at a moment, as it stands in a 503 and in `/-/ready?verbose`.
    pub fn word(&self, now: i64) -> &'static str {
        let stale = now - self.last_activity > WatchState::STALE_AFTER;
        match (self.synced, &self.fault, self.bad.is_empty()) {
            _ if self.forbidden => "forbidden",
            (false, ..) => "not synced",
            _ if stale => "stale",
            (true, Some(_), _) => "faulty",
            (true, None, false) => "synced, some objects unreadable",
            (true, None, true) => "synced",
        }
    }

    /// Why nothing will ever be seen with the rights there are, and what to do; `None` while there is
    /// hope.
    pub fn hopeless(&self, resource: Resource) -> Option<String> {
        let why = self.fault.as_deref().unwrap_or_default();
        (self.forbidden && !self.synced).then(|| {
            format!(
                "{} may not be listed cluster-wide: {why}; rights in single namespaces are not enough, \
                 bind the ClusterRole of deploy/manifests/base to this user",
                resource.plural()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> WatchEvent {
        WatchEvent::Fault {
            reason: FaultReason::Transport,
            message: "refused".into(),
        }
    }

    #[test]
    fn each_state_has_its_word() {
        let mut watch = WatchState::default();
        assert_eq!(watch.word(1000), "not synced");
        watch.note(&WatchEvent::Activity, 1000);
        watch.synced = true;
        assert_eq!(watch.word(1000), "synced");
        watch.note(&fault(), 1001);
        assert_eq!(watch.word(1300), "faulty");
        assert_eq!(watch.word(1301), "stale");
        watch.note(&WatchEvent::Event, 1400);
        assert_eq!(watch.word(1400), "synced");
        assert_eq!(watch.word(1701), "stale", "nobody said that it failed");
        let message = "no".to_owned();
        watch.note(&WatchEvent::Forbidden { message }, 1701);
        assert_eq!(watch.word(1701), "forbidden");
        watch.note(&WatchEvent::Polled, 1750);
        assert_eq!((watch.word(1750), watch.last_activity), ("forbidden", 1750));
        assert_eq!(watch.hopeless(Resource::Pods), None, "it was seen once");
        watch.note(&WatchEvent::Activity, 1800);
        watch.bad.insert(<_>::default(), "odd".into());
        assert_eq!(watch.word(1800), "synced, some objects unreadable");
    }
}
