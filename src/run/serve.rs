//! `serve`: sources → channel → writer → snapshot → HTTP, and an orderly end.

use super::{Exit, Failure, config, world};
use crate::cli::{ConfigArgs, Detail, ServeArgs, SourceArgs};
use crate::clock;
use crate::export::http::{self, Limits, ListenAddress, Listener};
use crate::export::metrics::{Refused, Work};
use crate::export::site::{Pages, Shared};
use crate::ledger::{Change, Policy, SelfCheck, Snapshot, WatchEvent};
use crate::object::Resource;
use crate::risk::{Priority, Status};
use crate::source::cluster::{self, Cluster};
use crate::source::manifests::Manifests;
use crate::source::slim;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How often manifests are looked at. ConfigMap updates swap a symlink, which change notifications
/// miss again and again; comparing contents does not.
const REREAD: Duration = Duration::from_secs(5);

/// The writer takes a turn this often even when nothing happens: acceptances end at their second.
const TURN: Duration = Duration::from_secs(1);

/// A batch is settled at the latest after this many changes: one batch must not hold readers up for long.
const BATCH: usize = 512;

/// What comes within this time of the first change of a batch belongs to it: drivers take several in one go, and
/// of changes each costs less the more there are.
const GATHER: Duration = Duration::from_millis(2);

/// While the drivers do not rest, the writer does, for this time from the beginning of a batch: nobody scrapes more
/// often.
const PAUSE: Duration = Duration::from_millis(40);

/// Whoever sends more than this in such a time is in a hurry, and is not held up by a pause.
const HURRY: usize = world::QUEUE / 2;

/// Time between readiness falling and the end of listening, for load balancers and scrapers to notice.
const GRACE: Duration = Duration::from_millis(500);

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::World(format!("the async runtime cannot start: {e}")))
}

pub(super) fn run(source: &SourceArgs, args: ServeArgs) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(source, args));
    runtime.shutdown_background();
    ended
}

/// Where changes come from.
enum Feed {
    Manifests(Manifests),
    Cluster(cluster::Access),
}

async fn serve(source: &SourceArgs, args: ServeArgs) -> Result<Exit, Failure> {
    let ServeArgs {
        listen,
        telemetry_path,
        external_url,
        detail,
        detail_limit,
        web_config,
        auth,
    } = args;
    let details = Details {
        detail: detail.map(|Detail(priorities)| priorities),
        limit: detail_limit,
    };
    let listen = if listen.is_empty() {
        vec![ListenAddress::Everywhere(7222)]
    } else {
        listen
    };
    let telemetry_path = telemetry_path.unwrap_or_else(|| "/metrics".into());
    let external_url = external_url.unwrap_or_default();
    // signals first: one that comes while the rest starts must not be lost
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Failure::World(format!("SIGTERM cannot be handled: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::World(format!("SIGINT cannot be handled: {e}")))?;
    let hangup = signal(SignalKind::hangup())
        .map_err(|e| Failure::World(format!("SIGHUP cannot be handled: {e}")))?;
    let (reading, config) = config::load(&source.config);
    let config = config.map_err(Failure::Configuration)?;
    let listeners = listen
        .into_iter()
        .map(Listener::bind)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::Usage(e.to_string()))?;
    let policy = details.over(config::policy(config));
    let ledger = world::configured(source, policy);
    let options = world::options(&ledger);
    let shared = Arc::new(Shared::new(ledger));
    shared.work.reconfigured(clock::now());
    let (policies, decided) = mpsc::channel(1);
    let files = source.config.clone();
    let named = files.file.iter().chain(&files.templates);
    let named = named.map(|path| path.to_string_lossy().into_owned());
    // nothing else sets it
    let _ = shared.work.config_files.set(named.collect());
    tokio::spawn(follow_config(
        files,
        reading,
        details,
        shared.work.clone(),
        policies,
        hangup,
    ));
    let feed = match &source.manifests {
        Some(path) => Feed::Manifests(world::manifests(path)?),
        None => {
            // a credential plugin may take any time, or never come back
            let connected = tokio::select! {
                connected = cluster::connect(source.context.as_deref()) => connected,
                _ = terminate.recv() => return Ok(Exit::Done),
                _ = interrupt.recv() => return Ok(Exit::Done),
            };
            Feed::Cluster(connected.map_err(|e| Failure::Usage(e.to_string()))?)
        }
    };
    let access = match &feed {
        Feed::Manifests(_) => None,
        Feed::Cluster(access) => Some(access),
    };
    let door = Arc::new(super::door::door(
        web_config.as_deref(),
        auth,
        access,
        &telemetry_path,
    )?);
    let (changes, incoming) = mpsc::channel(world::QUEUE);
    let (running, shutdown) = watch::channel(false);
    let url = match listeners.first() {
        Some(listener) if external_url.is_empty() => {
            reachable(listener.local_addr(), door.tls().is_some())
        }
        _ => external_url.clone(),
    };
    let mut feeding = match feed {
        Feed::Manifests(manifests) => {
            tokio::spawn(follow_manifests(manifests, changes, shutdown.clone()))
        }
        Feed::Cluster(access) => tokio::spawn(async move {
            let driven = Cluster::apart(access, slim::decode, changes, shutdown, options);
            if let Err(error) = driven.await {
                tracing::error!(%error, "the thread of the watches cannot start");
            }
        }),
    };
    // on a thread of its own: a batch may take long, and nobody is to be answered behind it
    let written = write(shared.clone(), incoming, decided, url);
    let runtime = tokio::runtime::Handle::current();
    let mut writing = tokio::task::spawn_blocking(move || runtime.block_on(written));
    let about = super::about(external_url);
    for listener in &listeners {
        tracing::info!(address = %listener.local_addr(), "listening");
    }
    let pages = Arc::new(Pages::new(shared.clone(), about, telemetry_path));
    let (stop, stopped) = oneshot::channel::<()>();
    let keeping = door.clone();
    tokio::spawn(async move { keeping.follow().await });
    let serving = http::serve(listeners, pages, door, Limits::default(), async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving);
    let exit = tokio::select! {
        biased;
        _ = terminate.recv() => Exit::Done,
        _ = interrupt.recv() => Exit::Done,
        // a vital task that ends by itself must not leave a live-looking exporter behind
        ended = &mut feeding => {
            tracing::error!(?ended, "the source ended by itself");
            Exit::Incomplete
        }
        ended = &mut writing => {
            tracing::error!(?ended, "the writer ended by itself");
            Exit::Incomplete
        }
    };
    shared.stopping.store(true, Ordering::Relaxed);
    tracing::info!("shutting down");
    if exit == Exit::Done {
        // a second signal ends it at once
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            _ = terminate.recv() => return Ok(exit),
            _ = interrupt.recv() => return Ok(exit),
        }
    }
    running.send_replace(true);
    drop(stop);
    tokio::select! {
        cut = serving => {
            if let Ok(cut) = cut && cut > 0 {
                tracing::warn!(connections = cut, "connections were cut at the end");
            }
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(exit)
}

/// An address that a browser on this machine can open.
fn reachable(address: std::net::SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    if address.ip().is_unspecified() {
        return format!("{scheme}://localhost:{}/", address.port());
    }
    format!("{scheme}://{address}/")
}

/// How often the evaluation from scratch is held against the incremental state.
const SELFCHECK: Duration = Duration::from_secs(3600);

/// Rows that are checked while the writer waits: a millisecond or two of work, far below what a change
/// may take to be visible.
const SELFCHECK_ROWS: usize = 32;

/// Runs the self-check right after the first sync and then hourly, beside everything else. It holds the
/// ledger for reading for a few rows at a time and leaves it alone in between for as long again, so that
/// neither the writer nor scrapes notice.
async fn selfcheck(shared: Arc<Shared>) {
    let mut every = interval(SELFCHECK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let of = shared.clone();
        let check = tokio::task::spawn_blocking(move || {
            let mut check = SelfCheck::default();
            loop {
                let began = Instant::now();
                let ledger = of.ledger.read().unwrap_or_else(PoisonError::into_inner);
                let done = check.step(&ledger, SELFCHECK_ROWS);
                drop(ledger);
                if let Some(differences) = done {
                    return differences;
                }
                std::thread::sleep(began.elapsed());
            }
        });
        let Ok(differences) = check.await else { return };
        if differences > 0 {
            tracing::error!(
                differences,
                "the self-check found differences; please report them"
            );
        }
        shared
            .work
            .selfcheck_differences
            .store(differences, Ordering::Relaxed);
        let now = u64::try_from(clock::now()).unwrap_or_default();
        shared.work.selfcheck_last_run.store(now, Ordering::Relaxed);
    }
}

/// Pods come apart from everything else: what a pod brings about is no event of RBAC (contract §5), so
/// the two are settled one after the other. The order within each resource stays.
fn of_pods(change: &Change) -> bool {
    let resource = match change {
        Change::Upsert(object) => object.resource(),
        Change::Delete(object) | Change::Bad { object, .. } => object.resource,
        Change::RelistBegin(resource) | Change::RelistEnd(resource) => *resource,
        Change::Watch { resource, .. } => *resource,
        Change::Version(_) | Change::Problems(_) | Change::Skipped(_) => return false,
    };
    resource == Resource::Pods
}

/// The one writer: takes what is there, settles it, publishes.
async fn write(
    shared: Arc<Shared>,
    mut incoming: mpsc::Receiver<Change>,
    mut decided: mpsc::Receiver<Policy>,
    url: String,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut turn = interval(TURN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut announced = false;
    loop {
        let mut policy = None;
        tokio::select! {
            biased;
            Some(new) = decided.recv() => policy = Some(new),
            n = incoming.recv_many(&mut batch, BATCH) => {
                if n == 0 {
                    return;
                }
                std::thread::sleep(GATHER);
                let free = BATCH - batch.len();
                batch.extend(std::iter::from_fn(|| incoming.try_recv().ok()).take(free));
            }
            _ = turn.tick() => {}
        }
        let reconfigured = policy.is_some();
        shared.turn.store(clock::now(), Ordering::Relaxed);
        // of an event a driver sends two changes
        let rests = (2 * cluster::MANY..HURRY).contains(&batch.len());
        let (pods, others): (Vec<Change>, Vec<Change>) = batch.drain(..).partition(of_pods);
        let begun = Instant::now();
        let mut moved = false;
        let settled = {
            let mut ledger = shared
                .ledger
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            ledger.advance(clock::now());
            if let Some(policy) = policy {
                ledger.reconfigure(policy);
            }
            // what a configuration brings about, or the time of day, is no event of RBAC, either
            for part in [Vec::new(), others, pods] {
                part.into_iter().for_each(|change| ledger.apply(change));
                // before the first full list nothing is shown, so nothing need be judged
                let begun = Instant::now();
                if ledger.synced() && ledger.settle() {
                    moved = true;
                    shared
                        .work
                        .evaluation
                        .observe(begun.elapsed().as_secs_f64());
                }
            }
            ledger.snapshot()
        };
        if settled.synced && !announced {
            announced = true;
            announce(&settled, &url);
            tokio::spawn(selfcheck(shared.clone()));
        }
        shared.snapshot.store(Arc::new(settled));
        if reconfigured {
            shared.work.reconfigured(clock::now());
        }
        // this thread has nothing else to do, and sleeps through what comes meanwhile
        if moved && rests {
            std::thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
        }
    }
}

/// Says once what there is and where to look.
fn announce(snapshot: &Snapshot, url: &str) {
    let open = |priority: Priority| {
        let of = |levels: &crate::ledger::ByLevel| {
            u64::from(levels[priority as usize][Status::Open as usize])
        };
        let blocks = snapshot.judged.namespaces.iter();
        blocks
            .flat_map(|(_, b)| b.risky_subjects.iter().map(of))
            .sum::<u64>()
    };
    tracing::info!(
        critical = open(Priority::Critical),
        high = open(Priority::High),
        medium = open(Priority::Medium),
        low = open(Priority::Low),
        complete = snapshot.complete,
        page = url,
        "ready: open subjects by priority; the page links to the metrics and to the report that explains each"
    );
}

/// How often the configuration is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The `--metrics` flags, which win over the configuration.
#[derive(Clone, Debug)]
struct Details {
    detail: Option<Vec<Priority>>,
    limit: Option<usize>,
}

impl Details {
    fn over(&self, mut policy: Policy) -> Policy {
        if let Some(detail) = &self.detail {
            policy.detail.clone_from(detail);
        }
        policy.detail_limit = self.limit.unwrap_or(policy.detail_limit);
        policy
    }
}

/// Loads the configuration again when its files hold something else, or on SIGHUP. One that has faults
/// leaves the old one in force, says so once, and shows in the metrics.
async fn follow_config(
    files: ConfigArgs,
    mut taken: config::Reading,
    details: Details,
    work: Arc<Work>,
    policies: mpsc::Sender<Policy>,
    mut hangup: Signal,
) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = taken.clone();
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            _ = look.tick() => false,
        };
        if !asked {
            let before = taken.clone();
            let now = tokio::task::spawn_blocking(move || before.again()).await;
            let Ok(now) = now else { return };
            // a file that is being written looks different the next time
            let settled = now == seen;
            seen = now;
            if seen == taken || !settled {
                continue;
            }
        }
        let args = files.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&args)).await;
        let Ok((reading, loaded)) = loaded else {
            return;
        };
        taken = reading;
        seen = taken.clone();
        match loaded {
            Ok(config) => {
                let policy = details.over(config::policy(config));
                tracing::info!(
                    ruleset = policy.catalogue.ruleset,
                    rules = policy.catalogue.rules.len(),
                    accepted = policy.accepted.len(),
                    "configuration loaded"
                );
                if policies.send(policy).await.is_err() {
                    return;
                }
            }
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(fault, "configuration");
                }
                tracing::error!(
                    faults = faults.len(),
                    "the new configuration is not used; the old one stays in force"
                );
                let at = clock::now();
                work.refuse(Some(Refused { at, faults }));
            }
        }
    }
}

/// Reads manifests again whenever they change.
async fn follow_manifests(
    mut manifests: Manifests,
    changes: mpsc::Sender<Change>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let changes = manifests.changes();
            (manifests, changes)
        });
        let Ok((back, read)) = read.await else { return };
        manifests = back;
        match read {
            Ok(read) => {
                if failing {
                    tracing::info!("manifests can be read again");
                    failing = false;
                }
                // read, changed or not: that is the activity of this source
                let at = clock::now();
                let heard = Resource::ALL.into_iter().map(|resource| Change::Watch {
                    resource,
                    event: WatchEvent::Activity,
                    at,
                });
                for change in read.into_iter().flatten().chain(heard) {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) if !failing => {
                tracing::warn!(%error, "manifests cannot be read; what they held last stays");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(REREAD) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}
