//! The driver of one resource: list, watch, and what to do when either fails.
//!
//! The contract it keeps is in the [module's documentation](super). A turn of [`Driver::run`] lists
//! if there is no version to watch from and then follows one stream to its end; every failure ends
//! the turn, is reported and waited for in one place, and leaves behind only what the next turn needs.

use super::backoff::{Backoff, between};
use super::wire::{self, Event, Failure, Frames, Identity, Page};
use super::{Access, Bells, Decode, Options, is_outage, pause, send};
use crate::ledger::{Change, FaultReason, ObjectRef, WatchEvent};
use crate::object::{Object, Resource};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use kube::core::Resource as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Pages are not halved below this.
const SMALLEST_PAGE: u32 = 10;

/// Follows one resource.
pub(super) struct Driver {
    resource: Resource,
    access: Access,
    requests: Request,
    decode: Decode,
    changes: mpsc::Sender<Change>,
    options: Arc<Options>,
    bells: Arc<Bells>,

    /// Where to watch from; without one everything is listed.
    version: Option<String>,
    /// The version at which a stream last broke on its content. A stream that breaks there again
    /// will do so for ever, so the version is given up.
    broke_at: Option<String>,
    /// The server may have been replaced by one with an older state since the version was seen.
    doubt: bool,
    /// When the server last said anything of this resource.
    heard_at: Instant,
    /// The server was out of reach since it was last heard from.
    away: bool,
    page_size: u32,
    faults: Backoff,
    refusals: Backoff,

    born: Instant,
    /// When everything was last listed.
    listed: Option<Instant>,
    watched_once: bool,
    /// The last watch was refused, so that a list says nothing of whether it still is.
    refused: bool,
    /// When an unreadable object was last named in the log, and how many were not since.
    named: Option<Instant>,
    unnamed: usize,
    /// When `Activity` was last sent; `None` makes the next contact count at once.
    reported: Option<Instant>,
    outage: Option<Outage>,
}

/// A time of faults, from the first one until a stream is healthy again.
struct Outage {
    since: Instant,
    fault_logged: bool,
    forbidden_logged: bool,
    stale_logged: bool,
}

impl Driver {
    pub(super) fn new(
        resource: Resource,
        access: Access,
        decode: Decode,
        changes: mpsc::Sender<Change>,
        options: Arc<Options>,
        bells: Arc<Bells>,
    ) -> Driver {
        Driver {
            resource,
            access,
            requests: Request::new(path(resource)),
            decode,
            changes,
            bells,
            version: None,
            broke_at: None,
            doubt: false,
            heard_at: Instant::now(),
            away: false,
            page_size: options.page_size,
            faults: Backoff::new(options.backoff_shortest, options.backoff_longest),
            refusals: Backoff::new(options.forbidden_shortest, options.forbidden_longest),
            born: Instant::now(),
            listed: None,
            watched_once: false,
            refused: false,
            named: None,
            unnamed: 0,
            reported: None,
            outage: None,
            options,
        }
    }

    /// Drives until it is dropped, or without watches until everything is listed.
    pub(super) async fn run(mut self) {
        sleep(between(Duration::ZERO, self.options.start_within)).await;
        while self.options.watch || self.listed.is_none() {
            if let Err(failure) = self.turn().await {
                self.failed(failure).await;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        if self.doubt {
            self.compare().await?;
        }
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list().await?,
        };
        if !self.options.watch {
            return Ok(());
        }
        self.follow(&version).await
    }

    // === List ===

    /// Lists everything and returns the version of the list.
    async fn list(&mut self) -> Result<String, Failure> {
        let bells = self.bells.clone();
        let _on_its_way = bells.pace.list();
        let mut answer = Vec::new();
        let mut objects = 0_usize;
        let mut version = None;
        let mut next: Option<String> = None;
        let mut fits = u32::MAX;
        loop {
            let page = self.page(next.as_deref(), self.page_size.min(fits), &mut answer);
            if let Err(failure) = page.await {
                let slow = failure.reason == FaultReason::Timeout && !answer.is_empty();
                if slow || failure.oversize {
                    self.page_size = (self.page_size / 2).max(SMALLEST_PAGE.min(self.page_size));
                }
                return Err(failure);
            }
            let text = wire::text(&answer);
            let page = Page::parse(&text, self.resource)?;
            if version.is_none() {
                self.send(Change::RelistBegin(self.resource)).await;
            }
            // All pages have the version of the first; were they to differ, the oldest one would be
            // right, since a watch from it repeats what the others had already.
            let _ = version.get_or_insert(page.version);
            for item in &page.items {
                self.apply(item.get(), None).await;
            }
            objects += page.items.len();
            let each = answer.len() / page.items.len().max(1);
            let enough = self.options.page_bytes / each.max(1);
            fits = u32::try_from(enough).unwrap_or(u32::MAX).max(SMALLEST_PAGE);
            if page.next.is_some() && page.next == next {
                return Err(Failure::new(
                    FaultReason::Server,
                    "the list does not advance: a page names itself as the next one",
                ));
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        self.send(Change::RelistEnd(self.resource)).await;
        self.page_size = self.page_size.saturating_mul(2).min(self.options.page_size);
        if self.listed.replace(Instant::now()).is_none() {
            let seconds = self.born.elapsed().as_secs_f64();
            tracing::info!(
                resource = self.resource.plural(),
                objects,
                seconds,
                "synced"
            );
        }
        // There is always one: the loop ends after a page, and a page without a version is a failure.
        let version = version.unwrap_or_default();
        self.version = Some(version.clone());
        self.broke_at = None;
        Ok(version)
    }

    /// Reads one page into `answer`.
    async fn page(
        &mut self,
        next: Option<&str>,
        limit: u32,
        answer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let params = ListParams {
            limit: Some(limit),
            continue_token: next.map(str::to_owned),
            ..ListParams::default()
        };
        let request = self.requests.list(&params).map_err(|e| unbuilt(&e))?;
        let deadline = self.options.list_deadline;
        let client = self.access.client();
        let fetched = wire::fetch(&client, request, answer, self.options.page_limit);
        match timeout(deadline, fetched).await {
            Ok(fetched) => fetched?,
            Err(_) => {
                return Err(Failure::timeout(
                    "a page of the list did not come",
                    deadline,
                ));
            }
        }
        self.heard().await;
        Ok(())
    }

    /// Makes sure that the server still has the history that our version is from. One that was
    /// restored from a backup has an older state, and a watch from a version of its future is no
    /// error: it is silent until that version is reached and then leaves out all that happened before.
    /// Once its versions have passed ours again nothing that it says tells the two histories apart, so
    /// no gap is bridged in which it could have been stopped, restored, started and written to.
    /// After a shorter one the versions decide. They are opaque in general but comparable integers for
    /// the resources of the API server itself; what is no integer is not compared.
    async fn compare(&mut self) -> Result<(), Failure> {
        if self.heard_at.elapsed() > self.options.longest_gap {
            self.version = None;
        } else if let Some(ours) = self.version.as_deref().and_then(|v| v.parse::<u64>().ok()) {
            let mut answer = Vec::new();
            self.page(None, 1, &mut answer).await?;
            let text = wire::text(&answer);
            let theirs = Page::parse(&text, self.resource)?.version.parse::<u64>();
            if theirs.is_ok_and(|theirs| theirs < ours) {
                self.version = None;
            }
        }
        self.doubt = false;
        Ok(())
    }

    // === Watch ===

    /// Opens a watch and follows it to its end.
    async fn follow(&mut self, version: &str) -> Result<(), Failure> {
        let options = self.options.clone();
        let asked = between(options.watch_shortest, options.watch_longest);
        let seconds = asked.as_secs_f64().ceil() as u32;
        let params = WatchParams {
            timeout: Some(seconds),
            ..WatchParams::default()
        };
        let request = self
            .requests
            .watch(&params, version)
            .map_err(|e| unbuilt(&e))?;
        let client = self.access.client();
        let opening = Frames::open(&client, request, options.frame_limit);
        let mut frames = match timeout(options.open_deadline, opening).await {
            Ok(Ok(frames)) => frames,
            Ok(Err(failure)) => {
                self.refused = failure.reason == FaultReason::Forbidden;
                let old = self
                    .listed
                    .is_some_and(|at| at.elapsed() >= options.poll_every);
                if failure.stale || (self.refused && old) {
                    self.version = None;
                }
                return Err(failure);
            }
            Err(_) => return Err(Failure::timeout("no watch opened", options.open_deadline)),
        };

        let opened = Instant::now();
        if std::mem::take(&mut self.refused) {
            // that it is allowed again must not wait until the next word is due
            self.reported = None;
        }
        self.heard().await;
        if self.watched_once {
            self.watch(WatchEvent::Restart).await;
        }
        self.watched_once = true;

        let ended = self.drain(&mut frames, opened, asked).await;
        let lived = opened.elapsed();
        match ended {
            Err(failure) => {
                let again = self.broke_at.is_some() && self.broke_at == self.version;
                if failure.broken && !again {
                    self.broke_at.clone_from(&self.version);
                } else if failure.broken || failure.stale {
                    self.version = None;
                }
                Err(failure)
            }
            Ok(spoke) => {
                // Servers that shut down in order end their streams well, before their time.
                self.doubt = lived + Duration::from_secs(1) < asked;
                if !self.doubt {
                    self.heard_at = Instant::now();
                }
                if lived >= options.healthy_after {
                    Ok(())
                } else if spoke {
                    sleep(self.faults.next()).await;
                    Ok(())
                } else {
                    let message = "the watch closed at once without a word";
                    Err(Failure::new(FaultReason::Short, message))
                }
            }
        }
    }

    /// Reads a stream to its end and tells whether anything came.
    async fn drain(
        &mut self,
        frames: &mut Frames,
        opened: Instant,
        asked: Duration,
    ) -> Result<bool, Failure> {
        let options = self.options.clone();
        let healthy_at = opened + options.healthy_after;
        let patient = asked + options.watch_grace;
        let mut bookmarks = false;
        let mut spoke = false;
        let mut healthy = false;
        let mut heard = opened;
        loop {
            if !healthy && Instant::now() >= healthy_at {
                healthy = true;
                self.recovered();
            }
            let silence = if bookmarks {
                options.bookmark_silence.min(patient)
            } else {
                patient
            };
            let dead_at = heard + silence;
            let wake_at = if healthy {
                dead_at
            } else {
                dead_at.min(healthy_at)
            };
            let line = match timeout_at(wake_at, frames.next()).await {
                Err(_) if wake_at < dead_at => continue,
                Err(_) => return Err(Failure::timeout("the watch was silent", silence)),
                Ok(Err(failure)) => return Err(failure),
                Ok(Ok(None)) => return Ok(spoke),
                Ok(Ok(Some(line))) => line,
            };
            bookmarks |= self.event(&frames.text(line)).await?;
            spoke = true;
            // Not earlier: the time the channel was full is not the server's silence.
            heard = Instant::now();
        }
    }

    /// Hands on one event and tells whether it was a bookmark.
    async fn event(&mut self, text: &str) -> Result<bool, Failure> {
        self.bells.pace.event();
        if let Some(object) = Event::applied(text) {
            let identity = Identity::of(object);
            if let Ok(decoded) = self.decode(object, identity.kind.as_deref()) {
                self.heard().await;
                self.send(Change::Upsert(decoded)).await;
                self.told(identity.resource_version).await;
                return Ok(false);
            }
        }
        let event = Event::parse(text)?;
        self.heard().await;
        let (object, bookmark) = match event {
            Event::Other => return Ok(false),
            Event::Bookmark(object) => (object, true),
            Event::Applied(object) | Event::Deleted(object) => (object, false),
        };
        let identity = Identity::of(object);
        let version = identity.resource_version.clone();
        match event {
            Event::Applied(object) => self.apply(object, Some(identity)).await,
            Event::Deleted(_) => {
                let object = self.name(identity);
                if object.name.is_empty() {
                    // Something is gone and nobody says what: only a list can tell.
                    self.version = None;
                    let message = "a deleted object has no name";
                    return Err(Failure::new(FaultReason::Decode, message));
                }
                self.send(Change::Delete(object)).await;
            }
            Event::Bookmark(_) | Event::Other => {}
        }
        match bookmark {
            true => self.went_on(version),
            false => self.told(version).await,
        }
        Ok(bookmark)
    }

    /// An event was handed on.
    async fn told(&mut self, version: Option<String>) {
        self.watch(WatchEvent::Event).await;
        self.went_on(version);
    }

    /// After the object was handed on. Without a version the last one stands, and a watch that resumes from it
    /// repeats this event.
    fn went_on(&mut self, version: Option<String>) {
        if let Some(version) = version.filter(|v| !v.is_empty()) {
            self.version = Some(version);
        }
    }

    // === Objects ===

    /// An object of the resource, said to be of this kind.
    fn decode(&self, object: &str, kind: Option<&str>) -> Result<Object, String> {
        let plural = self.resource.plural();
        if let Some(kind) = kind.filter(|kind| *kind != self.resource.kind()) {
            return Err(format!("an object of kind {kind} came among {plural}"));
        }
        let decoded = (self.decode)(self.resource, object).map_err(|error| error.message)?;
        match decoded.resource() {
            resource if resource == self.resource => Ok(decoded),
            other => Err(format!(
                "an object of {} came among {plural}",
                other.plural()
            )),
        }
    }

    /// Hands on one object, decoded or bad.
    async fn apply(&mut self, object: &str, identity: Option<Identity>) {
        let kind = identity.as_ref().and_then(|i| i.kind.as_deref());
        let error = match self.decode(object, kind) {
            Ok(decoded) => return self.send(Change::Upsert(decoded)).await,
            Err(error) => error,
        };
        let identity = identity.unwrap_or_else(|| Identity::of(object));
        let failure = Failure::new(FaultReason::Decode, error);
        let object = self.name(identity);
        self.complain(&object, &failure.message);
        self.send(Change::Bad {
            object,
            message: failure.message.clone(),
        })
        .await;
        self.watch(WatchEvent::Fault {
            reason: failure.reason,
            message: failure.message,
        })
        .await;
    }

    /// Names an object that cannot be read in the log, unless one was named a moment ago: there may be
    /// as many as there are objects. All are counted and in the report.
    fn complain(&mut self, object: &ObjectRef, error: &str) {
        let due = self
            .named
            .is_none_or(|at| at.elapsed() >= self.options.bad_every);
        if !due {
            self.unnamed += 1;
            return;
        }
        self.named = Some(Instant::now());
        let unnamed = std::mem::take(&mut self.unnamed);
        tracing::warn!(
            resource = self.resource.plural(),
            namespace = object.namespace,
            name = object.name,
            error,
            unnamed,
            "unreadable object"
        );
    }

    fn name(&self, identity: Identity) -> ObjectRef {
        ObjectRef {
            resource: self.resource,
            namespace: identity.namespace.unwrap_or_default(),
            name: identity.name.unwrap_or_default(),
        }
    }

    // === State ===

    /// The server was heard from.
    async fn heard(&mut self) {
        self.heard_at = Instant::now();
        if std::mem::take(&mut self.away) {
            self.bells.reconnected.notify_one();
        }
        let due = self
            .reported
            .is_none_or(|at| at.elapsed() >= self.options.activity_every);
        if due {
            self.reported = Some(Instant::now());
            let event = if self.refused {
                WatchEvent::Polled
            } else {
                WatchEvent::Activity
            };
            self.watch(event).await;
        }
    }

    /// A stream lived long enough to end a time of faults.
    fn recovered(&mut self) {
        self.faults.reset();
        self.refusals.reset();
        if let Some(outage) = self.outage.take() {
            let seconds = outage.since.elapsed().as_secs_f64();
            tracing::info!(resource = self.resource.plural(), seconds, "recovered");
        }
    }

    /// Reports a failure and waits before the next try.
    async fn failed(&mut self, failure: Failure) {
        let Failure {
            reason, message, ..
        } = &failure;
        let forbidden = *reason == FaultReason::Forbidden;
        let resource = self.resource.plural();
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: Instant::now(),
            fault_logged: false,
            forbidden_logged: false,
            stale_logged: false,
        });
        if forbidden && !std::mem::replace(&mut outage.forbidden_logged, true) {
            tracing::error!(
                resource,
                error = message,
                "forbidden; rights in single namespaces are not enough"
            );
        } else if !forbidden && !std::mem::replace(&mut outage.fault_logged, true) {
            tracing::warn!(
                resource,
                reason = reason.as_str(),
                error = message,
                "interrupted, retrying"
            );
        }
        let lasting = outage.since.elapsed() >= self.options.stale_after;
        if lasting && !std::mem::replace(&mut outage.stale_logged, true) {
            let seconds = outage.since.elapsed().as_secs_f64();
            tracing::error!(
                resource,
                seconds,
                error = message,
                "stale: what is known stays as it was"
            );
        }

        self.watch(WatchEvent::Fault {
            reason: *reason,
            message: message.clone(),
        })
        .await;
        if forbidden {
            let message = message.clone();
            self.watch(WatchEvent::Forbidden { message }).await;
        }
        self.reported = None;
        if matches!(reason, FaultReason::Unauthorized | FaultReason::Transport) {
            self.bells.doubted.notify_one();
        }
        if is_outage(*reason) {
            self.away = true;
            self.doubt = true;
        }
        let backoff = if forbidden {
            &mut self.refusals
        } else {
            &mut self.faults
        };
        sleep(pause(backoff, &failure, &self.options)).await;
    }

    async fn watch(&self, event: WatchEvent) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.send(Change::Watch {
            resource: self.resource,
            event,
            at: now.map_or(0, |now| now.as_secs().cast_signed()),
        })
        .await;
    }

    async fn send(&self, change: Change) {
        send(&self.changes, change).await;
    }
}

/// Only a malformed path or number could make it fail, and there is neither.
fn unbuilt(error: &kube::core::request::Error) -> Failure {
    Failure::new(FaultReason::Transport, wire::chain(error))
}

/// The URL path of a resource in the whole cluster.
fn path(resource: Resource) -> String {
    match resource {
        Resource::ClusterRoles => ClusterRole::url_path(&(), None),
        Resource::Roles => Role::url_path(&(), None),
        Resource::ClusterRoleBindings => ClusterRoleBinding::url_path(&(), None),
        Resource::RoleBindings => RoleBinding::url_path(&(), None),
        Resource::ServiceAccounts => ServiceAccount::url_path(&(), None),
        Resource::Pods => Pod::url_path(&(), None),
        Resource::Namespaces => Namespace::url_path(&(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_api_servers() {
        for resource in Resource::ALL {
            let group = match resource {
                Resource::ServiceAccounts | Resource::Pods | Resource::Namespaces => "/api/v1",
                _ => "/apis/rbac.authorization.k8s.io/v1",
            };
            assert_eq!(path(resource), format!("{group}/{}", resource.plural()));
        }
    }
}
