//! Starts real servers on loopback, talks to them, and leaves nothing behind.

pub(crate) mod alertmanager;
pub(crate) mod cable;
pub(crate) mod caller;
pub(crate) mod exporter;
pub(crate) mod exposition;
pub(crate) mod http;
pub(crate) mod old;
pub(crate) mod parts;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod relay;
pub(crate) mod world;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long one change may take from the API server's answer to `/metrics`.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A loopback port that was free a moment ago and that no other call of this process was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("loopback has a free port")
            .port();
        if given.insert(port) {
            return port;
        }
    }
}

/// Asks `check` until it is content, and says how long that took.
///
/// # Panics
///
/// With the last complaint, once `within` has passed.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return (value, start.elapsed()),
            Err(complaint) if start.elapsed() > within => {
                panic!("{what}: not within {within:?}: {complaint}")
            }
            // Short against SOON, long against the cost of a scrape.
            Err(_) => sleep(Duration::from_millis(5)),
        }
    }
}
