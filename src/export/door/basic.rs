//! Basic authentication against bcrypt hashes, without letting anybody burn the processor.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

/// A hash of nothing, compared for users that there are not: else the time would tell who is one.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";

/// Answers kept, right ones and wrong ones; a full table begins anew.
const KEPT: usize = 1024;

/// Comparisons that may wait for the one that runs; further ones are turned away.
const WAITING: usize = 8;

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// The password is that of the user.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Too many wrong ones are being looked at to look at this one.
    Busy,
}

/// Compares passwords, one at a time and off the event loop. What it found it keeps, by a hash of user,
/// password and stored hash, so that scrapes do not compute and a changed password counts at once.
#[derive(Debug)]
pub(super) struct Logins {
    /// The one comparison.
    one: Semaphore,
    /// Places in front of it.
    queue: Semaphore,
    known: Mutex<HashMap<[u8; 32], bool>>,
}

impl Default for Logins {
    fn default() -> Logins {
        Logins {
            one: Semaphore::new(1),
            queue: Semaphore::new(WAITING),
            known: Mutex::default(),
        }
    }
}

impl Logins {
    /// Is it the user's password?
    pub(super) async fn check(
        &self,
        users: &BTreeMap<String, String>,
        user: &str,
        password: &str,
    ) -> Login {
        let stored = users.get(user);
        let hash = stored.map_or(NOBODY, String::as_str).to_owned();
        let key = key(&[user, password, &hash]);
        let login = |right: bool| {
            if right && stored.is_some() {
                Login::Right
            } else {
                Login::Wrong
            }
        };
        if let Some(right) = self.known(&key) {
            return login(right);
        }
        let Ok(_place) = self.queue.try_acquire() else {
            return Login::Busy;
        };
        let Ok(_turn) = self.one.acquire().await else {
            return Login::Busy;
        };
        // whoever waited for the same password has the answer now
        if let Some(right) = self.known(&key) {
            return login(right);
        }
        let password = password.to_owned();
        let compared =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let right = compared.await.unwrap_or(false);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            // the right ones stay: it is the wrong ones that somebody can make at will
            known.retain(|_, right| *right);
        }
        if known.len() < KEPT {
            known.insert(key, right);
        }
        login(right)
    }

    fn known(&self, key: &[u8; 32]) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).copied()
    }
}

/// One hash over several texts, each with its length in front so that none can run into the next.
pub(super) fn key(texts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}
