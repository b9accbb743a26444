//! Making a ledger of a source.

use super::progress::Progress;
use super::{Failure, config};
use crate::cli::{Partial, SourceArgs};
use crate::clock;
use crate::export::listing::number;
use crate::ledger::{Change, Ledger, ObjectRef, Policy, Settings, World};
use crate::object::{Object, Resource};
use crate::rbac::OLDEST;
use crate::source::manifests::{Limits, Manifests, ReadError};
use crate::source::{cluster, slim};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Changes that wait for the writer; beyond, sources wait. The writer is faster than any of them; thousands
/// of decoded objects would be megabytes that nothing gains by.
pub(super) const QUEUE: usize = 256;

/// Edges through pods outlive the last pod by this much, so that rollouts do not make priorities flap
/// (catalogue C.3). Seconds.
const POD_GRACE: i64 = 600;

/// How long a command waits for a cluster to be listed.
const PATIENCE: Duration = Duration::from_secs(300);

/// An empty ledger for the source, with the configuration of the flags.
pub(super) fn ledger(source: &SourceArgs) -> Result<Ledger, Failure> {
    let config = config::required(&source.config)?;
    Ok(configured(source, config::policy(config)))
}

/// An empty ledger for the source.
pub(super) fn configured(source: &SourceArgs, policy: Policy) -> Ledger {
    let settings = match source.manifests {
        Some(_) => Settings::new(World::Manifests, source.kubernetes_version),
        None => {
            let mut settings = Settings::new(World::Cluster, OLDEST);
            settings.audiences_of_own_token(cluster::own_audiences(source.context.as_deref()));
            settings.pod_grace = POD_GRACE;
            settings.without_pods = source.allow_partial == Some(Partial::Pods);
            settings
        }
    };
    Ledger::new(policy, settings)
}

/// The drivers that feed the ledger.
pub(super) fn options(ledger: &Ledger) -> cluster::Options {
    cluster::Options {
        resources: ledger.watched().collect(),
        ..cluster::Options::default()
    }
}

/// The manifests of `--source.manifests`.
pub(super) fn manifests(path: &str) -> Result<Manifests, Failure> {
    Manifests::open(path, Limits::default()).map_err(|e| read_failure(&e))
}

/// Everything that manifests hold, as changes.
pub(super) fn read(manifests: Manifests) -> Result<Vec<Change>, Failure> {
    let progress = Progress::start();
    let mut manifests = manifests.watched_by(move |read| {
        progress.show(|| {
            let done = usize::try_from(read.bytes).unwrap_or(usize::MAX);
            let files = usize::try_from(read.files).unwrap_or(usize::MAX);
            let words = format!("{} read, {} MiB", number(files, "file"), read.bytes >> 20);
            (done, usize::try_from(read.of).unwrap_or_default(), words)
        });
    });
    let changes = manifests.changes().map_err(|e| read_failure(&e))?;
    Ok(changes.into_iter().flatten().collect())
}

pub(super) fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::Missing(_) => Failure::Usage(error.to_string()),
        ReadError::Unreadable { .. } => Failure::World(error.to_string()),
    }
}

/// The objects that changes leave behind, for commands that look at them beside their judgement.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<(Resource, String, String), Object>);

impl Objects {
    /// Takes one change in.
    pub(super) fn see(&mut self, change: &Change) {
        match change {
            Change::Upsert(object) => {
                let meta = object.meta();
                let name = (object.resource(), meta.namespace.clone(), meta.name.clone());
                self.0.insert(name, object.clone());
            }
            Change::Delete(ObjectRef {
                resource,
                namespace,
                name,
            }) => {
                let name = (*resource, namespace.clone(), name.clone());
                self.0.remove(&name);
            }
            // all that are still there follow
            Change::RelistBegin(resource) => self.0.retain(|name, _| name.0 != *resource),
            _ => {}
        }
    }

    /// By resource, namespace and name.
    pub(super) fn into_vec(self) -> Vec<Object> {
        self.0.into_values().collect()
    }
}

/// The ledger after these changes.
pub(super) fn judge(mut ledger: Ledger, changes: impl IntoIterator<Item = Change>) -> Ledger {
    ledger.advance(clock::now());
    changes.into_iter().for_each(|c| ledger.apply(c));
    ledger.settle();
    ledger
}

/// The ledger of the source as it is now, for commands that look once.
pub(super) fn gather(source: &SourceArgs) -> Result<Ledger, Failure> {
    gather_with(source, &mut |_| {})
}

/// The same, for somebody who wants to see every change too.
pub(super) fn gather_with(
    source: &SourceArgs,
    seen: &mut dyn FnMut(&Change),
) -> Result<Ledger, Failure> {
    let ledger = ledger(source)?;
    if let Some(path) = &source.manifests {
        let changes = read(manifests(path)?)?;
        return Ok(judge(ledger, changes.into_iter().inspect(seen)));
    }
    let runtime = super::serve::runtime()?;
    let gathered = runtime.block_on(gather_cluster(source, ledger, seen));
    runtime.shutdown_background();
    gathered
}

async fn gather_cluster(
    source: &SourceArgs,
    mut ledger: Ledger,
    seen: &mut dyn FnMut(&Change),
) -> Result<Ledger, Failure> {
    let access = cluster::connect(source.context.as_deref())
        .await
        .map_err(|e| Failure::Usage(e.to_string()))?;
    let (changes, mut incoming) = mpsc::channel(QUEUE);
    let (_running, shutdown) = watch::channel(false);
    let options = cluster::Options {
        watch: false,
        ..options(&ledger)
    };
    let drivers = cluster::Cluster::start(&access, slim::decode, &changes, &shutdown, options);
    drop(changes);
    let progress = Progress::start();
    let mut objects = 0usize;
    let listed = async {
        let mut version = false;
        while let Some(change) = incoming.recv().await {
            version |= matches!(change, Change::Version(_));
            // first the time of day: which times of an object are believed depends on it
            ledger.advance(clock::now());
            seen(&change);
            objects += usize::from(matches!(change, Change::Upsert(_)));
            ledger.apply(change);
            progress.show(|| {
                let all = ledger.watched().count();
                let done = ledger.watched().filter(|r| ledger.watch(*r).synced).count();
                let words = format!("{done} of {all} resources listed, {objects} objects");
                (done, all, words)
            });
            let hopeless = |r| ledger.watch(r).hopeless(r);
            if let Some(why) = ledger.watched().find_map(hopeless) {
                return Err(Failure::World(why));
            }
            if ledger.synced() && version {
                break;
            }
        }
        Ok(())
    };
    let outcome = tokio::time::timeout(PATIENCE, listed).await;
    drop(drivers);
    match outcome {
        Ok(outcome) => outcome?,
        Err(_) => {
            let waiting: Vec<String> = ledger
                .watched()
                .filter(|r| !ledger.watch(*r).synced)
                .map(|r| {
                    let fault = ledger.watch(r).fault.clone();
                    format!(
                        "{} ({})",
                        r.plural(),
                        fault.unwrap_or_else(|| "no answer".into())
                    )
                })
                .collect();
            return Err(Failure::World(format!(
                "the cluster could not be listed within {} s: {}",
                PATIENCE.as_secs(),
                waiting.join(", ")
            )));
        }
    }
    ledger.settle();
    Ok(ledger)
}
