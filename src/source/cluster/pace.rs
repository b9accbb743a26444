//! When the thread of the drivers rests.
//!
//! Pods change all the time, and one alone is dear: a thread that was asleep finds all caches cold, and pays for a
//! pod several times what it costs among others. So the drivers of a cluster at rest have a thread of their own. When it
//! has handed on what there was of events it sleeps for [`PAUSE`] before it waits for more; what comes meanwhile
//! lies in the kernel, wakes nobody, and is taken in one go.
//!
//! Nothing is held up for it that is not an event among events: after a time without any the next one is taken
//! at once, lists are read without a rest, and so are streams in which so much comes that it might not fit where it
//! would lie. An API server that cannot write to one watch makes all others wait (`cacher.go`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long the thread of the drivers sleeps when it has handed on events of watches.
pub const PAUSE: Duration = Duration::from_millis(60);

/// More events than this in one go, and there is no rest: so many pods, of 8 kB, fill the smallest buffer that a
/// connection has.
pub const MANY: usize = 16;

/// Nor for so long after.
const AWAKE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Events since the thread last rested or found nothing to do.
    events: usize,
    /// Lists on their way.
    lists: usize,
    /// No rest before.
    awake_until: Option<Instant>,
}

impl State {
    /// How long to rest, now that nothing is left to do.
    fn rest(&mut self, now: Instant) -> Duration {
        let events = std::mem::take(&mut self.events);
        if events > MANY {
            self.awake_until = Some(now + AWAKE);
        }
        let awake = self.awake_until.is_some_and(|until| now < until);
        if events == 0 || self.lists > 0 || awake {
            return Duration::ZERO;
        }
        PAUSE
    }
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of a watch was handed on.
    pub(super) fn event(&self) {
        self.state().events += 1;
    }

    /// A list is on its way until the answer is dropped.
    pub(super) fn list(&self) -> List<'_> {
        self.state().lists += 1;
        List(self)
    }

    /// Runs what it is given on the thread that asks, at this pace.
    pub(super) fn runtime(this: std::sync::Arc<Pace>) -> std::io::Result<Runtime> {
        let rest = move || {
            let rest = this.state().rest(Instant::now());
            if !rest.is_zero() {
                std::thread::sleep(rest);
            }
        };
        Builder::new_current_thread()
            .enable_all()
            .on_thread_park(rest)
            .build()
    }
}

/// See [`Pace::list`].
pub(super) struct List<'a>(&'a Pace);

impl Drop for List<'_> {
    fn drop(&mut self) {
        self.0.state().lists -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_after_a_few_events_and_after_nothing_else() {
        let pace = Pace::default();
        let at = Instant::now();
        let rest = |now| pace.state().rest(now);
        assert_eq!(rest(at), Duration::ZERO);
        pace.event();
        assert_eq!(rest(at), PAUSE);
        assert_eq!(rest(at), Duration::ZERO);

        pace.event();
        let list = pace.list();
        assert_eq!(rest(at), Duration::ZERO);
        drop(list);
        pace.event();
        assert_eq!(rest(at), PAUSE);

        (0..=MANY).for_each(|_| pace.event());
        assert_eq!(rest(at), Duration::ZERO);
        pace.event();
        assert_eq!(rest(at + AWAKE / 2), Duration::ZERO);
        pace.event();
        assert_eq!(rest(at + AWAKE), PAUSE);
    }
}
