//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential backoff with jitter over the whole range: a wait lies between the shortest one and
/// a ceiling that doubles from try to try up to the longest one.
#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new(shortest: Duration, longest: Duration) -> Backoff {
        Backoff {
            shortest,
            longest,
            ceiling: shortest,
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        self.ceiling = self.ceiling.saturating_mul(2).min(self.longest);
        between(self.shortest, self.ceiling)
    }

    pub(super) fn reset(&mut self) {
        self.ceiling = self.shortest;
    }
}

/// A random duration between the two; the first when they are the wrong way round.
pub(super) fn between(from: Duration, to: Duration) -> Duration {
    from + to.saturating_sub(from).mul_f64(random())
}

/// A random number in `0.0..1.0`, good for jitter and nothing else: every `RandomState` has other
/// keys, so the hash of nothing differs each time.
fn random() -> f64 {
    const BITS: u32 = f64::MANTISSA_DIGITS;
    let bits = RandomState::new().hash_one(()) >> (u64::BITS - BITS);
    bits as f64 / (1_u64 << BITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_never_vanish() {
        let (shortest, longest) = (Duration::from_millis(500), Duration::from_secs(30));
        for _ in 0..200 {
            let mut backoff = Backoff::new(shortest, longest);
            let mut ceiling = shortest;
            for _ in 0..12 {
                ceiling = (ceiling * 2).min(longest);
                let wait = backoff.next();
                assert!(
                    wait >= shortest && wait <= ceiling,
                    "{wait:?} of {ceiling:?}"
                );
            }
            backoff.reset();
            assert!(backoff.next() <= shortest * 2);
        }
    }

    #[test]
    fn jitter_spreads_over_the_range() {
        let waits: Vec<f64> = (0..2000).map(|_| random()).collect();
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            let hits = waits
                .iter()
                .filter(|w| (low..low + 0.1).contains(*w))
                .count();
            assert!(hits > 100, "{hits} of 2000 in the tenth from {low}");
        }
    }
}
