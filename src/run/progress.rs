//! A bar on standard error while something takes long. Only on a terminal: a pipe or a log file gets
//! nothing of it, and whatever is done in less than a moment draws nothing either.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What takes less is not worth a word.
const MOMENT: Duration = Duration::from_millis(400);
/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);
/// Cells of the bar.
const CELLS: usize = 20;
/// To the start of the line, and erase it.
const ERASE: &str = "\r\u{1b}[2K";

#[derive(Debug, Default)]
struct State {
    line: Mutex<String>,
    /// The line is old.
    wanted: AtomicBool,
    over: Mutex<bool>,
    ended: Condvar,
}

/// A running bar; gone when dropped.
#[derive(Debug)]
pub(super) struct Progress {
    drawn: Option<(Arc<State>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to draw if standard error is a terminal.
    pub(super) fn start() -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { drawn: None };
        }
        let state = Arc::new(State::default());
        let theirs = state.clone();
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || draw(&theirs));
        Progress {
            // without a thread there is no bar, and nothing else is missing
            drawn: thread.ok().map(|thread| (state, thread)),
        }
    }

    /// What is done of how much, and in words. Asked for a few times a second at most, however often
    /// it is called.
    pub(super) fn show(&self, what: impl FnOnce() -> (usize, usize, String)) {
        let Some((state, _)) = &self.drawn else {
            return;
        };
        if state.wanted.swap(false, Ordering::Relaxed) {
            let (done, of, words) = what();
            let full = (done * CELLS)
                .checked_div(of)
                .unwrap_or_default()
                .min(CELLS);
            let bar: String = (0..CELLS)
                .map(|i| if i < full { '#' } else { '.' })
                .collect();
            *state.line.lock().unwrap_or_else(PoisonError::into_inner) = format!("[{bar}] {words}");
        }
    }
}

fn draw(state: &State) {
    let mut wait = MOMENT;
    let mut drawn = false;
    state.wanted.store(true, Ordering::Relaxed);
    let mut over = state.over.lock().unwrap_or_else(PoisonError::into_inner);
    while !*over {
        over = match state.ended.wait_timeout(over, wait) {
            Ok((over, _)) => over,
            Err(poisoned) => poisoned.into_inner().0,
        };
        if *over {
            break;
        }
        wait = TICK;
        let line = state
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if !line.is_empty() {
            drawn = true;
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "{ERASE}{line}").and_then(|()| stderr.flush());
        }
        state.wanted.store(true, Ordering::Relaxed);
    }
    if drawn {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{ERASE}").and_then(|()| stderr.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((state, thread)) = self.drawn.take() {
            *state.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            state.ended.notify_all();
            let _ = thread.join();
        }
    }
}
