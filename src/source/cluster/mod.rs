//! The live cluster: one list-and-watch driver for each of the seven resources.
//!
//! # What a driver promises
//!
//! **Requests.** Only `list` and `watch` on its resource, cluster-wide, and for the whole cluster
//! `GET /version`. Lists are paged and never served from the watch cache
//! (`resourceVersion=0` would make the server ignore the limit).
//!
//! **Completeness.** [`Change::RelistBegin`] is sent when the first page of a full list is there,
//! [`Change::RelistEnd`] when the last one was handed on; between them every object the server
//! listed is named, by [`Change::Upsert`] or [`Change::Bad`]. A list that fails on its way is begun
//! again with another `RelistBegin`, so nothing may be swept before `RelistEnd`. From the version of
//! the list on the watch continues without a gap: when it ends it resumes from the last version it
//! saw, and when that version is refused (410 as a status, as an event or on a continue token; other
//! answers that amount to it), or a server that was away comes back with a state older than ours,
//! everything is listed anew. So it is when the watch ended before its time or on a fault and the last
//! word is older than [`Options::longest_gap`] by the time of the next try: the server may have been
//! restored from a backup meanwhile, and once its versions have passed ours it would deliver another
//! history from ours on without a sign. These lists are paged like the first one, and spread by the
//! jitter of the waits, which have grown with the outage. An answer without a version is no list,
//! however well it parses.
//!
//! **Order.** Per resource as the server has it; none between resources.
//!
//! **Duplicates.** An object may be named again unchanged: by a relist, or when a resumed watch
//! repeats what came just before it broke. Only the last word counts.
//!
//! **Deletions.** [`Change::Delete`] when the watch says so. What was deleted during a gap that the
//! watch could not bridge is not named by the relist, that is all; an object deleted and made again
//! under its name during it is an `Upsert` with another uid.
//!
//! **Odd objects.** Objects are decoded one by one. One that does not decode becomes `Bad`, counted
//! as a fault of reason `decode`, and nothing else is lost.
//!
//! **Age.** [`WatchEvent::Activity`](crate::ledger::WatchEvent::Activity) is sent on every contact, at most once in
//! [`Options::activity_every`]. The server sends bookmarks about once a minute once it has begun to;
//! a stream without a word for [`Options::bookmark_silence`] is given up from its first bookmark on,
//! and before that after the time the server was asked to end it. A peer that vanished without a word
//! is found by TCP keepalive within a minute; one whose kernel answers while its process hangs, within
//! 90 s on a busy resource and within five minutes on a quiet one.
//!
//! **States.** A resource is not synced, synced, stale (synced, and nothing was heard of it for longer
//! than a watch may be silent), forbidden or faulty; metrics, `/-/ready?verbose` and the page tell which.
//!
//! **Rights.** Whoever may `list` and not `watch` a resource is served by a list a minute. Tokens, client
//! certificates and authorities are read again by [`Access`] when the old ones are refused, without a restart.
//!
//! **Faults.** Each failed request or stream is one [`Fault`](crate::ledger::WatchEvent::Fault); one that was refused with
//! 403 is followed by [`Forbidden`](crate::ledger::WatchEvent::Forbidden). Then the driver waits: exponentially longer with
//! jitter, as long as the server asked if that is more, and from the shortest wait again only after
//! a stream lived for [`Options::healthy_after`]. A stream that ends young never leads to another
//! request at once, so no server or proxy can make the driver spin. What is known stays as it is
//! meanwhile; faults of one resource touch no other.
//!
//! **Logs.** One line when a resource is first complete, when faults begin, when it is forbidden and
//! when it has recovered; none per retry.
//!
//! **Backpressure.** The channel is bounded; while it is full nothing is read, and no deadline runs.
//!
//! **Pace.** [`Cluster::apart`] takes an event after a time without any at once, and those that follow it together,
//! [`PAUSE`] later.

mod backoff;
mod client;
mod own_token;
mod pace;
mod reviews;
mod watch;
mod wire;

pub use client::{Access, ConnectError, connect, connect_with};
pub use own_token::own_audiences;
pub use pace::{MANY, PAUSE};
pub use reviews::{TokenOwner, may_get_path, owner_of_token};

use crate::ledger::{Change, FaultReason, WatchState};
use crate::object::{Object, Resource};
use crate::source::DecodeError;
use backoff::{Backoff, between};
use pace::Pace;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch as signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wire::Failure;

/// Makes an object of the text of one.
pub type Decode = fn(Resource, &str) -> Result<Object, DecodeError>;

/// The measures of the drivers. The defaults are right for a cluster; tests shorten them.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to watch.
    pub resources: Vec<Resource>,
    /// Objects on a page of a list. Halved, down to 10, when one is cut off by its deadline or too large.
    pub page_size: u32,
    /// About as long as a page of a list should be, in bytes: large objects come fewer at a time. What a page
    /// takes is the most that a list costs in memory.
    pub page_bytes: usize,
    /// For one page of a list, body included.
    pub list_deadline: Duration,
    /// For the headers of a watch, and for the version.
    pub open_deadline: Duration,
    /// Shortest time after which the server is asked to end a watch.
    pub watch_shortest: Duration,
    /// Longest such time. Below the five minutes at which proxies like to cut.
    pub watch_longest: Duration,
    /// How much longer than asked a silent stream is waited for.
    pub watch_grace: Duration,
    /// How long a stream that had bookmarks may be silent.
    pub bookmark_silence: Duration,
    /// A watch that broke is resumed if the server's last word is no older than this; otherwise everything
    /// is listed anew. Shorter than etcd and an API server can be stopped, restored, started and written to
    /// until they have passed our version.
    pub longest_gap: Duration,
    /// A stream that lived this long ends a time of faults.
    pub healthy_after: Duration,
    /// Shortest wait after a fault.
    pub backoff_shortest: Duration,
    /// Longest wait after a fault.
    pub backoff_longest: Duration,
    /// Shortest wait after a 403. Rights are granted by people, but right after its start an API
    /// server refuses for seconds what it will allow.
    pub forbidden_shortest: Duration,
    /// Longest wait after a 403.
    pub forbidden_longest: Duration,
    /// `Retry-After` is obeyed up to this.
    pub retry_after_longest: Duration,
    /// Longest frame of a watch in bytes. etcd holds 1.5 MB; this is for what is no API server.
    pub frame_limit: usize,
    /// Longest page of a list in bytes. Pages of large objects are halved until they fit.
    pub page_limit: usize,
    /// `Activity` is sent at most this often for each resource.
    pub activity_every: Duration,
    /// The drivers start spread over this time.
    pub start_within: Duration,
    /// The version is re-read at most this often.
    pub version_every: Duration,
    /// The client is made anew at most this often.
    pub renew_every: Duration,
    /// A resource that may be listed but not watched is listed this often, or a little less.
    pub poll_every: Duration,
    /// An outage that lasts this long is told a second time, louder.
    pub stale_after: Duration,
    /// Of objects that cannot be read one is named in the log this often, for each resource.
    pub bad_every: Duration,
    /// Watch after the list; otherwise the driver ends with it.
    pub watch: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            resources: Resource::ALL.to_vec(),
            page_size: 250,
            page_bytes: 2 << 20,
            list_deadline: Duration::from_secs(60),
            open_deadline: Duration::from_secs(15),
            watch_shortest: Duration::from_secs(240),
            watch_longest: Duration::from_secs(290),
            watch_grace: Duration::from_secs(5),
            bookmark_silence: Duration::from_secs(90),
            longest_gap: Duration::from_secs(2),
            healthy_after: Duration::from_secs(10),
            backoff_shortest: Duration::from_millis(500),
            backoff_longest: Duration::from_secs(30),
            forbidden_shortest: Duration::from_secs(2),
            forbidden_longest: Duration::from_secs(60),
            retry_after_longest: Duration::from_secs(300),
            frame_limit: 32 << 20,
            page_limit: 128 << 20,
            activity_every: Duration::from_secs(1),
            start_within: Duration::from_millis(250),
            version_every: Duration::from_secs(10),
            renew_every: Duration::from_secs(30),
            poll_every: Duration::from_secs(60),
            stale_after: Duration::from_secs(WatchState::STALE_AFTER.unsigned_abs()),
            bad_every: Duration::from_secs(60),
            watch: true,
        }
    }
}

/// The running drivers. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster {
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts the drivers. They end when the receiver of `changes` is gone, or when `shutdown`
    /// becomes true or its sender is gone.
    pub fn start(
        access: &Access,
        decode: Decode,
        changes: &mpsc::Sender<Change>,
        shutdown: &signal::Receiver<bool>,
        options: Options,
    ) -> Cluster {
        let pace = Arc::default();
        Cluster::paced(access, decode, changes, shutdown, options, pace)
    }

    /// Drives on a thread of its own, which rests for [`PAUSE`] between changes, until the drivers have ended.
    ///
    /// # Panics
    ///
    /// When a driver did.
    pub async fn apart(
        access: Access,
        decode: Decode,
        changes: mpsc::Sender<Change>,
        shutdown: signal::Receiver<bool>,
        options: Options,
    ) -> std::io::Result<()> {
        let driving = tokio::task::spawn_blocking(move || {
            let pace = Arc::new(Pace::default());
            let runtime = Pace::runtime(pace.clone())?;
            runtime.block_on(async {
                let cluster = Cluster::paced(&access, decode, &changes, &shutdown, options, pace);
                drop(changes);
                cluster.stopped().await;
            });
            runtime.shutdown_background();
            Ok(())
        });
        match driving.await {
            Ok(ended) => ended,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    fn paced(
        access: &Access,
        decode: Decode,
        changes: &mpsc::Sender<Change>,
        shutdown: &signal::Receiver<bool>,
        options: Options,
        pace: Arc<Pace>,
    ) -> Cluster {
        let options = Arc::new(options);
        let bells = Arc::new(Bells {
            pace,
            ..Bells::default()
        });
        let mut tasks = JoinSet::new();
        for &resource in &options.resources {
            let driver = watch::Driver::new(
                resource,
                access.clone(),
                decode,
                changes.clone(),
                options.clone(),
                bells.clone(),
            );
            tasks.spawn(until_closed(
                changes.clone(),
                shutdown.clone(),
                driver.run(),
            ));
        }
        let renewal = renew(access.clone(), options.clone(), bells.clone());
        tasks.spawn(until_closed(changes.clone(), shutdown.clone(), renewal));
        let version = follow_version(access.clone(), changes.clone(), options, bells);
        tasks.spawn(until_closed(changes.clone(), shutdown.clone(), version));
        Cluster { tasks }
    }

    /// Waits until all drivers have ended. A panic in one of them is passed on: a source that is
    /// dead must not look like a cluster at rest.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Runs a task until nobody listens any more. The tasks hold nothing that would have to be put down
/// in order, so each is dropped where it stands.
async fn until_closed(
    changes: mpsc::Sender<Change>,
    mut shutdown: signal::Receiver<bool>,
    task: impl Future<Output = ()>,
) {
    tokio::select! {
        biased;
        _ = shutdown.wait_for(|&stop| stop) => {}
        () = changes.closed() => {}
        () = task => {}
    }
}

/// Sends; when nobody listens any more it waits to be dropped by [`until_closed`], which spares
/// every caller a way out of its own.
async fn send(changes: &mpsc::Sender<Change>, change: Change) {
    if changes.send(change).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What the drivers tell the tasks beside them.
#[derive(Debug, Default)]
struct Bells {
    pace: Arc<Pace>,
    /// The server is heard from again.
    reconnected: Notify,
    /// Credentials, certificates or the address may no longer be good.
    doubted: Notify,
}

/// Makes the client anew whenever a driver doubts it: a token, a client certificate or an authority that
/// was replaced on disk or has expired, a plugin that makes them. One line when that begins to fail and
/// none per try.
async fn renew(access: Access, options: Arc<Options>, bells: Arc<Bells>) {
    let mut failing = false;
    loop {
        bells.doubted.notified().await;
        match access.renew().await {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "credentials cannot be renewed, going on with the last ones");
            }
            Err(_) => {}
        }
        // a doubt that comes meanwhile is kept
        sleep(options.renew_every).await;
    }
}

/// Reads the server's version at the start and after each outage. A server that refuses to tell is
/// not asked again before the next one; one that cannot be reached is, and the last answer stands.
async fn follow_version(
    access: Access,
    changes: mpsc::Sender<Change>,
    options: Arc<Options>,
    bells: Arc<Bells>,
) {
    let mut backoff = Backoff::new(options.backoff_shortest, options.backoff_longest);
    loop {
        let client = access.client();
        let answer = timeout(options.open_deadline, wire::version(&client)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Failure::timeout("no answer", options.open_deadline)));
        match answer {
            Ok(version) => send(&changes, Change::Version(version)).await,
            Err(Failure { refused: true, .. }) => send(&changes, Change::Version(None)).await,
            Err(failure) => {
                sleep(pause(&mut backoff, &failure, &options)).await;
                continue;
            }
        }
        backoff.reset();
        bells.reconnected.notified().await;
        sleep(between(options.version_every / 2, options.version_every)).await;
    }
}

/// How long to wait after a failure: as the backoff has it, or as the server asked if that is more.
/// Many clients are told the same time to come back, hence the jitter on it.
fn pause(backoff: &mut Backoff, failure: &Failure, options: &Options) -> Duration {
    let asked = failure.retry_after.unwrap_or_default();
    let asked = asked.min(options.retry_after_longest);
    backoff.next().max(between(asked, asked.mul_f64(1.1)))
}

/// Reasons after which a server may come back as another one.
fn is_outage(reason: FaultReason) -> bool {
    use FaultReason::{Server, Timeout, Transport, Unauthorized};
    matches!(reason, Transport | Timeout | Server | Unauthorized)
}
