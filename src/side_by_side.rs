//! Work on many things at once, with results in the order of the things.
//!
//! For what takes long and is asked for once: a scan. A server leaves the other cores to its neighbours, but for
//! the few pages that somebody would wait for.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What `work` makes of each `turn` things, on as many threads as there are cores. Each thread has a state of
/// its own, made by `state`. On the caller's thread alone when there are not two turns.
///
/// Turns should be small against the whole: threads take the next when they are done with one, so that
/// the last to end does not keep the others waiting.
///
/// A panic of `work` goes on in the caller.
pub(crate) fn side_by_side<T: Sync, S, R: Send>(
    things: &[T],
    turn: NonZeroUsize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &[T]) -> R + Sync,
) -> Vec<R> {
    let turns: Vec<&[T]> = things.chunks(turn.get()).collect();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.min(turns.len());
    if threads < 2 {
        let mut state = state();
        return turns.iter().map(|turn| work(&mut state, turn)).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = state();
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(turn) = turns.get(at) else {
                return done;
            };
            done.push((at, work(&mut state, turn)));
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let done = threads.into_iter().map(|thread| thread.join());
        done.flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Both at once, or one after the other when there is no thread to be had. A panic goes on in the caller.
pub(crate) fn both<A: Send, B>(one: impl Fn() -> A + Sync, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, &one);
        let other = other();
        let one = match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => one(),
        };
        (one, other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_everything_is_worked_on_once() {
        for count in [0, 1, 7, 8, 1000] {
            let things: Vec<u32> = (0..count).collect();
            let turn = NonZeroUsize::new(7).unwrap();
            let turns = side_by_side(&things, turn, || 0, |_, turn| turn.to_vec());
            assert_eq!(turns.concat(), things);
        }
    }

    #[test]
    fn both_are_done() {
        assert_eq!(both(|| 1, || "two"), (1, "two"));
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_panic_goes_on() {
        let turn = NonZeroUsize::MIN;
        side_by_side(
            &[1, 2, 3],
            turn,
            || (),
            |(), turn| {
                assert_ne!(turn, [3], "the third");
            },
        );
    }
}
