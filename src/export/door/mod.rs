//! Who may come in, and over what: TLS and users of a web-config file, or Kubernetes' own answer.
//!
//! The health endpoints are in front of the door; everything else is behind it. What the door reads
//! from files it reads again when they change; a version that cannot be used leaves the one before.

mod basic;
mod config;
mod kubernetes;
mod tls;

pub use config::WebConfigError;
pub use kubernetes::{Answer, Identity, Reviewer};

use super::http::Reply;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use basic::{Login, Logins};
use config::{ClientAuth, Rate, WebConfig};
use kubernetes::{Reviews, Verdict};
use rustls::ServerConfig;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// For so long a refusal of the same kind is counted and not logged again.
const SILENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Door {
    file: Option<PathBuf>,
    current: ArcSwap<Current>,
    logins: Logins,
    reviews: Option<Reviews>,
    refused: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

/// What is in force.
#[derive(Debug, Default)]
struct Current {
    tls: Option<Arc<ServerConfig>>,
    certificate: bool,
    headers: Vec<(&'static str, String)>,
    users: BTreeMap<String, String>,
    bucket: Option<Bucket>,
    seen: Vec<(PathBuf, Option<Mark>)>,
}

/// What tells one version of a file from the next, through links too.
type Mark = (Option<SystemTime>, u64, u64);

/// A request at the door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// From where.
    pub(super) address: SocketAddr,
    /// The path as sent.
    pub(super) path: &'a str,
    /// `Authorization`
    pub(super) authorization: Option<&'a str>,
    /// The connection showed a client certificate, which TLS has looked at.
    pub(super) certificate: bool,
}

/// Why somebody is not let in.
struct Refusal {
    reason: &'static str,
    reply: Reply,
    detail: String,
}

impl Door {
    /// No door at all.
    pub fn open() -> Door {
        Door {
            file: None,
            current: ArcSwap::default(),
            logins: Logins::default(),
            reviews: None,
            refused: Mutex::default(),
        }
    }

    /// A door as a web-config file and `--web.auth` ask for it. Beside the reviewer stands the path
    /// that whoever may read any other must be allowed too.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, or that it has users although the API server is to be asked.
    pub fn new(
        file: Option<&Path>,
        reviewer: Option<(Arc<dyn Reviewer>, &str)>,
    ) -> Result<Door, WebConfigError> {
        let mut door = Door::open();
        door.reviews = reviewer.map(|(reviewer, always)| Reviews::new(reviewer, always));
        door.file = file.map(Path::to_owned);
        if let Some(file) = file {
            door.current.store(Arc::new(door.read(file)?));
        }
        Ok(door)
    }

    fn read(&self, file: &Path) -> Result<Current, WebConfigError> {
        let error = |what| WebConfigError {
            file: file.display().to_string(),
            what,
        };
        let config = WebConfig::read(file)?;
        if self.reviews.is_some() && !config.users.is_empty() {
            return Err(error(
                "basic_auth_users and --web.auth=kubernetes are two ways to ask the same; leave one out"
                    .to_owned(),
            ));
        }
        let tls = config.tls.as_ref().map(tls::server).transpose();
        let seen = config.files.into_iter().map(|f| (mark(&f), f));
        Ok(Current {
            certificate: config.tls.as_ref().is_some_and(|tls| {
                matches!(
                    tls.client_auth,
                    ClientAuth::RequireAny | ClientAuth::RequireAndVerify
                )
            }),
            tls: tls.map_err(error)?,
            headers: config.headers,
            users: config.users,
            bucket: config.rate.map(Bucket::new),
            seen: seen.map(|(mark, file)| (file, mark)).collect(),
        })
    }

    /// TLS for the next connection; plain HTTP without.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.current.load().tls.clone()
    }

    /// Headers for every response.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        self.current.load().headers.clone()
    }

    /// Reads the files again whenever they change. Never ends when there are some.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return };
        let mut complaint = String::new();
        let mut tried = Vec::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let current = self.current.load_full();
            let now: Vec<_> = current
                .seen
                .iter()
                .map(|(f, _)| (f.clone(), mark(f)))
                .collect();
            if now == current.seen || now == tried {
                continue;
            }
            match self.read(file) {
                Ok(read) => {
                    // what a later look finds different was changed while it was read
                    self.current.store(Arc::new(read));
                    tracing::info!(file = %file.display(), "web-config read again");
                    complaint.clear();
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != complaint {
                        tracing::error!(%error, "web-config cannot be used; the one before stays");
                        complaint = error;
                    }
                    tried = now;
                }
            }
        }
    }

    /// Lets in, or gives the reply that says why not.
    pub(super) async fn admit(&self, caller: &Caller<'_>) -> Result<(), Reply> {
        self.judge(caller).await.map_err(|refusal| {
            self.note(refusal.reason, &refusal.detail, caller.address, caller.path);
            refusal.reply
        })
    }

    async fn judge(&self, caller: &Caller<'_>) -> Result<(), Refusal> {
        let current = self.current.load_full();
        if current.bucket.as_ref().is_some_and(|bucket| !bucket.take()) {
            return Err(Refusal {
                reason: "rate limit",
                reply: Reply::text(429, "Too Many Requests\n").with_header("retry-after", "1"),
                detail: String::new(),
            });
        }
        if current.certificate && !caller.certificate {
            return Err(Refusal {
                reason: "no client certificate",
                reply: Reply::text(401, "A client certificate is required.\n"),
                detail: String::new(),
            });
        }
        if !current.users.is_empty() {
            return self.user(&current.users, caller).await;
        }
        match &self.reviews {
            Some(reviews) => token(reviews, caller).await,
            None => Ok(()),
        }
    }

    async fn user(
        &self,
        users: &BTreeMap<String, String>,
        caller: &Caller<'_>,
    ) -> Result<(), Refusal> {
        let unauthorized = |reason, detail| Refusal {
            reason,
            reply: Reply::text(401, "Unauthorized\n").with_header("www-authenticate", "Basic"),
            detail,
        };
        let Some((user, password)) = credentials(caller.authorization) else {
            return Err(unauthorized("no user and password", String::new()));
        };
        match self.logins.check(users, &user, &password).await {
            Login::Right => Ok(()),
            Login::Wrong => Err(unauthorized("wrong user or password", user)),
            Login::Busy => Err(Refusal {
                reason: "too many passwords to compare",
                reply: Reply::text(429, "Too many passwords are being compared; try again.\n")
                    .with_header("retry-after", "1"),
                detail: user,
            }),
        }
    }

    /// Says who was refused, the first time and then with how many since, for each reason.
    pub(super) fn note(&self, reason: &'static str, detail: &str, address: SocketAddr, path: &str) {
        let more = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match refused.get_mut(reason) {
                Some((at, more)) if now.duration_since(*at) < SILENCE => {
                    *more += 1;
                    return;
                }
                Some((at, more)) => {
                    *at = now;
                    std::mem::take(more)
                }
                None => {
                    refused.insert(reason, (now, 0));
                    0
                }
            }
        };
        tracing::warn!(reason, detail, client = %address, path, more, "request refused");
    }
}

async fn token(reviews: &Reviews, caller: &Caller<'_>) -> Result<(), Refusal> {
    let unauthorized = |reason| Refusal {
        reason,
        reply: Reply::text(401, "Unauthorized\n").with_header("www-authenticate", "Bearer"),
        detail: String::new(),
    };
    let Some(token) = scheme(caller.authorization, "Bearer") else {
        return Err(unauthorized("no token"));
    };
    match reviews.check(token, caller.path).await {
        Verdict::Allowed => Ok(()),
        Verdict::Unknown => Err(unauthorized("token not valid")),
        Verdict::Forbidden(user) => Err(Refusal {
            reason: "not allowed",
            reply: Reply::text(
                403,
                "Forbidden: RBAC does not let this token's owner `get` this path.\n",
            ),
            detail: user,
        }),
        Verdict::Unasked(why) => Err(Refusal {
            reason: "the API server could not be asked",
            reply: Reply::text(503, "The API server could not be asked about this token.\n")
                .with_header("retry-after", "5"),
            detail: why,
        }),
    }
}

/// What follows the scheme of an `Authorization` header (RFC 9110: schemes know no case).
fn scheme<'a>(authorization: Option<&'a str>, scheme: &str) -> Option<&'a str> {
    let (found, rest) = authorization?.split_once(' ')?;
    let rest = rest.trim();
    (found.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

/// User and password of basic authentication (RFC 7617).
fn credentials(authorization: Option<&str>) -> Option<(String, String)> {
    let text = BASE64.decode(scheme(authorization, "Basic")?).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn mark(file: &Path) -> Option<Mark> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(file).ok()?;
    Some((meta.modified().ok(), meta.len(), meta.ino()))
}

/// `rate_limit`: a bucket that fills by one each interval and holds `burst`.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// The moment at which it will be full; in the past when it is.
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: Rate) -> Bucket {
        Bucket {
            rate,
            full_at: Mutex::new(Instant::now()),
        }
    }

    fn take(&self) -> bool {
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let after = (*full_at).max(now) + self.rate.interval;
        let fits = after - now <= self.rate.interval * self.rate.burst;
        if fits {
            *full_at = after;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_one_each_interval() {
        let bucket = Bucket::new(Rate {
            interval: Duration::from_secs(1),
            burst: 2,
        });
        assert_eq!(
            [bucket.take(), bucket.take(), bucket.take()],
            [true, true, false]
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([bucket.take(), bucket.take()], [true, false]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            [bucket.take(), bucket.take(), bucket.take()],
            [true, true, false]
        );
    }

    #[test]
    fn credentials_as_clients_send_them() {
        let of = |text: &str| credentials(Some(text));
        let pair = |u: &str, p: &str| Some((u.to_owned(), p.to_owned()));
        assert_eq!(of("Basic YTpi"), pair("a", "b"));
        assert_eq!(of("bAsIc YTpiOmM="), pair("a", "b:c"));
        for text in [
            "Basic",
            "Basic ",
            "Basic ???",
            "Basic YWI=",
            "Bearer YTpi",
            "YTpi",
            "Basic /w==",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(credentials(None), None);
    }
}
