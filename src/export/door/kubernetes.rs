//! Kubernetes' own authentication: whose token is it, and may that one read this path?

use super::basic::key;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// A future that can be stored.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// Who a token belongs to, as TokenReview says (`authentication.k8s.io/v1` UserInfo).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub user: String,
    /// Id, may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Asks the API server. An error means that it could not be asked, and lets nobody in.
pub trait Reviewer: Send + Sync + 'static {
    /// TokenReview; nothing for a token that is not valid.
    fn who(&self, token: String) -> Answer<Option<Identity>>;

    /// SubjectAccessReview of `get` on a non-resource path.
    fn may(&self, who: Arc<Identity>, path: String) -> Answer<bool>;
}

/// How long a yes is believed: a token or right that is revoked is good for so much longer.
const YES: Duration = Duration::from_secs(60);
/// How long a no is believed: a right that is granted takes so long to be seen.
const NO: Duration = Duration::from_secs(10);
/// Answers kept of each kind.
const KEPT: usize = 4096;
/// Questions asked at the same time.
const AT_ONCE: usize = 8;
/// Time for the answer, waiting for a turn included.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its owner may read the path.
    Allowed,
    /// The token is not valid.
    Unknown,
    /// Its owner, by name, may not.
    Forbidden(String),
    /// The API server could not be asked, and why.
    Unasked(String),
}

/// A reviewer whose answers are kept for a moment, so that a scrape costs no question.
pub(super) struct Reviews {
    reviewer: Arc<dyn Reviewer>,
    /// The path that everybody must be allowed who is allowed any other: every cluster lets whoever
    /// is authenticated `get` `/api/*` (ClusterRole system:discovery), ours included.
    always: String,
    turns: Semaphore,
    tokens: Mutex<Kept<[u8; 32], Option<Arc<Identity>>>>,
    rights: Mutex<Kept<[u8; 32], bool>>,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reviews")
    }
}

impl Reviews {
    pub(super) fn new(reviewer: Arc<dyn Reviewer>, always: &str) -> Reviews {
        Reviews {
            reviewer,
            always: always.to_owned(),
            turns: Semaphore::new(AT_ONCE),
            tokens: Mutex::default(),
            rights: Mutex::default(),
        }
    }

    /// May the owner of the token read the path? Tokens are kept as hashes.
    pub(super) async fn check(&self, token: &str, path: &str) -> Verdict {
        match timeout(PATIENCE, self.ask(token, path)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(why)) => Verdict::Unasked(why),
            Err(_) => Verdict::Unasked(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn ask(&self, token: &str, path: &str) -> Result<Verdict, String> {
        let token_key = key(&[token]);
        let known = lock(&self.tokens).get(&token_key);
        let who = match known {
            Some(who) => who,
            None => {
                let _turn = self.turns.acquire().await.map_err(|e| e.to_string())?;
                let who = self.reviewer.who(token.to_owned()).await?.map(Arc::new);
                let good = if who.is_some() { YES } else { NO };
                lock(&self.tokens).put(token_key, who.clone(), good);
                who
            }
        };
        let Some(who) = who else {
            return Ok(Verdict::Unknown);
        };
        for path in [self.always.as_str(), path] {
            if !self.may(token, &who, path).await? {
                return Ok(Verdict::Forbidden(who.user.clone()));
            }
        }
        Ok(Verdict::Allowed)
    }

    async fn may(&self, token: &str, who: &Arc<Identity>, path: &str) -> Result<bool, String> {
        let key = key(&[token, path]);
        let known = lock(&self.rights).get(&key);
        if let Some(may) = known {
            return Ok(may);
        }
        let _turn = self.turns.acquire().await.map_err(|e| e.to_string())?;
        let may = self.reviewer.may(who.clone(), path.to_owned()).await?;
        lock(&self.rights).put(key, may, if may { YES } else { NO });
        Ok(may)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers with the moment until which they are believed; never more than [`KEPT`].
struct Kept<K, V>(HashMap<K, (Instant, V)>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Kept(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let (until, value) = self.0.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    fn put(&mut self, key: K, value: V, good: Duration) {
        let now = Instant::now();
        if self.0.len() >= KEPT {
            self.0.retain(|_, (until, _)| *until > now);
        }
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(key, (now + good, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Knows the token `good`, whose owner may read `/metrics`; counts what it is asked.
    #[derive(Default)]
    struct Fake {
        who: AtomicUsize,
        may: AtomicUsize,
        down: bool,
    }

    impl Reviewer for Fake {
        fn who(&self, token: String) -> Answer<Option<Identity>> {
            self.who.fetch_add(1, Ordering::Relaxed);
            let down = self.down;
            Box::pin(async move {
                if down {
                    return Err("connection refused".to_owned());
                }
                let user = "prometheus".to_owned();
                Ok((token == "good").then(|| Identity {
                    user,
                    ..Identity::default()
                }))
            })
        }

        fn may(&self, _: Arc<Identity>, path: String) -> Answer<bool> {
            self.may.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Ok(path == "/metrics") })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_moment() {
        let fake = Arc::new(Fake::default());
        let reviews = Reviews::new(fake.clone(), "/metrics");
        let asked = || {
            (
                fake.who.load(Ordering::Relaxed),
                fake.may.load(Ordering::Relaxed),
            )
        };
        for _ in 0..3 {
            assert_eq!(reviews.check("good", "/metrics").await, Verdict::Allowed);
        }
        assert_eq!(asked(), (1, 1));
        let forbidden = Verdict::Forbidden("prometheus".into());
        assert_eq!(reviews.check("good", "/api/v1/report").await, forbidden);
        assert_eq!(asked(), (1, 2));
        assert_eq!(reviews.check("bad", "/metrics").await, Verdict::Unknown);
        assert_eq!(reviews.check("bad", "/metrics").await, Verdict::Unknown);
        assert_eq!(asked(), (2, 2));
        tokio::time::advance(NO + Duration::from_secs(1)).await;
        assert_eq!(reviews.check("bad", "/metrics").await, Verdict::Unknown);
        assert_eq!(reviews.check("good", "/metrics").await, Verdict::Allowed);
        assert_eq!(asked(), (3, 2));
        tokio::time::advance(YES).await;
        assert_eq!(reviews.check("good", "/metrics").await, Verdict::Allowed);
        assert_eq!(asked(), (4, 3));
    }

    #[tokio::test]
    async fn what_everybody_may_read_of_an_api_server_is_not_enough() {
        struct Discovery;
        impl Reviewer for Discovery {
            fn who(&self, _: String) -> Answer<Option<Identity>> {
                Box::pin(async { Ok(Some(Identity::default())) })
            }
            fn may(&self, _: Arc<Identity>, path: String) -> Answer<bool> {
                Box::pin(async move { Ok(path.starts_with("/api/")) })
            }
        }
        let reviews = Reviews::new(Arc::new(Discovery), "/metrics");
        let verdict = reviews.check("a", "/api/v1/report").await;
        assert_eq!(verdict, Verdict::Forbidden(String::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_comes_in_when_the_server_cannot_be_asked() {
        let fake = Fake {
            down: true,
            ..Fake::default()
        };
        let reviews = Reviews::new(Arc::new(fake), "/metrics");
        let verdict = reviews.check("good", "/metrics").await;
        assert_eq!(verdict, Verdict::Unasked("connection refused".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let reviews = Reviews::new(Arc::new(Fake::default()), "/metrics");
        for i in 0..3 * KEPT {
            reviews.check(&format!("bad {i}"), "/metrics").await;
        }
        assert!(lock(&reviews.tokens).0.len() <= KEPT);
    }
}
