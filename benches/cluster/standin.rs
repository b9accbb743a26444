//! A stand-in for the API server that is large: lists, watches and `/version` of a [`Cluster`] over real sockets.
//!
//! Objects are written when they are asked for, so that 1.4 GB of pods need no memory here. Lists are paged by
//! `limit` and `continue`, and served whole at `resourceVersion=0`, as the real server does; a watch replays what
//! happened since its version, streams the initial state when it is asked to, has bookmarks, and ends after
//! `timeoutSeconds`. What a page shows is newer than the version it carries when something changes during a list;
//! the watch from that version says so once more, and lists and watches are consistent in the end.
//!
//! The stand-in of `tests/integration`, for clusters of a few objects, is the one with faults on command.

use super::{Cluster, Edition, Stage, api_version};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rbac_exporter::object::Resource;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Events are kept for late watches up to so many bytes.
const LOG_LIMIT: usize = 32 << 20;
/// Events in a watch's queue before it is cut off as too slow, as the real server does.
const QUEUE: usize = 100_000;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

struct Watch {
    id: u64,
    resource: Resource,
    frames: mpsc::Sender<Bytes>,
}

struct State {
    version: u64,
    compacted: u64,
    slots: HashMap<Resource, Vec<Option<Edition>>>,
    /// Objects beside the cluster's, as items of a list.
    extra: Vec<(Resource, String, String)>,
    log: VecDeque<(u64, Resource, Bytes)>,
    logged: usize,
    watches: Vec<Watch>,
    watched: u64,
    /// A page of a list takes this much longer.
    slow: Duration,
}

struct Shared {
    cluster: Arc<Cluster>,
    state: Mutex<State>,
    lists: AtomicU64,
}

/// The stand-in. Dropping it stops it.
pub(crate) struct Standin {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Standin {
    /// Serves a cluster on a loopback port; 0 takes a free one.
    pub(crate) fn start(cluster: Arc<Cluster>, port: u16) -> Standin {
        let first = Edition {
            version: 1_000,
            ..Edition::default()
        };
        let slots = Resource::ALL
            .into_iter()
            .map(|resource| (resource, vec![Some(first); cluster.count(resource)]))
            .collect();
        let shared = Arc::new(Shared {
            cluster,
            state: Mutex::new(State {
                version: 1_000,
                compacted: 0,
                slots,
                extra: Vec::new(),
                log: VecDeque::new(),
                logged: 0,
                watches: Vec::new(),
                watched: 0,
                slow: Duration::ZERO,
            }),
            lists: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, shared.clone()));
        runtime.spawn(bookmarks(shared.clone()));
        Standin {
            shared,
            address,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a resource is listed.
    pub(crate) fn path(resource: Resource) -> String {
        let root = match api_version(resource) {
            "v1" => "/api/v1",
            _ => "/apis/rbac.authorization.k8s.io/v1",
        };
        format!("{root}/{}", resource.plural())
    }

    /// A kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "standin",
            "clusters": [{"name": "standin", "cluster": {"server": server}}],
            "contexts": [{"name": "standin", "context": {"cluster": "standin", "user": "standin"}}],
            "users": [{"name": "standin", "user": {"token": "standin"}}],
        })
        .to_string()
    }

    /// Pages of lists that were served so far.
    pub(crate) fn pages(&self) -> u64 {
        self.shared.lists.load(Ordering::Relaxed)
    }

    /// From now on every page of a list takes this much longer.
    pub(crate) fn slow_lists(&self, by: Duration) {
        self.shared.lock().slow = by;
    }

    /// Every watch is told that its version is gone (410), and nothing can be resumed: everything is listed anew.
    pub(crate) fn expire(&self) {
        let mut state = self.shared.lock();
        state.version += 1;
        state.compacted = state.version;
        state.log.clear();
        state.logged = 0;
        let frame = Bytes::from_static(b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n");
        for watch in state.watches.drain(..) {
            let _ = watch.frames.try_send(frame.clone());
        }
    }

    /// Creates the next self of a pod, or changes it, or deletes the one before; see [`Churn`].
    fn pod(&self, slot: usize, event: &str, number: u32, stage: Stage) {
        let mut state = self.shared.lock();
        state.version += 1;
        let edition = Edition {
            number,
            version: state.version,
            stage,
        };
        let known = &mut state.slots.get_mut(&Resource::Pods).unwrap()[slot];
        if known.is_none_or(|known| known.number <= number) {
            *known = Some(edition);
        }
        self.shared
            .tell(&mut state, Resource::Pods, event, slot, edition);
    }

    /// Gives a role other rules, or creates a binding anew with other times: the next edition of any object.
    pub(crate) fn edit(&self, resource: Resource, slot: usize) {
        let mut state = self.shared.lock();
        state.version += 1;
        let version = state.version;
        let known = &mut state.slots.get_mut(&resource).unwrap()[slot];
        let event = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let mut edition = known.unwrap_or_default();
        edition.number += 1;
        edition.version = version;
        *known = Some(edition);
        self.shared.tell(&mut state, resource, event, slot, edition);
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, resource: Resource, slot: usize) {
        let mut state = self.shared.lock();
        state.version += 1;
        let version = state.version;
        let known = state.slots.get_mut(&resource).unwrap()[slot].take();
        if let Some(mut edition) = known {
            edition.version = version;
            self.shared
                .tell(&mut state, resource, "DELETED", slot, edition);
        }
    }

    /// Creates an object that is not of the cluster, or deletes it. `rest` is what follows the metadata.
    pub(crate) fn extra(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        rest: &str,
        there: bool,
    ) {
        let mut state = self.shared.lock();
        state.version += 1;
        let scope = match namespace {
            "" => String::new(),
            namespace => format!("\"namespace\":\"{namespace}\","),
        };
        let item = format!(
            r#"{{"metadata":{{"name":"{name}",{scope}"uid":"extra-{name}","resourceVersion":"{}","creationTimestamp":"2025-06-01T00:00:00Z"}}{rest}}}"#,
            state.version
        );
        let key = format!("{namespace}/{name}");
        state
            .extra
            .retain(|(known, at, _)| (*known, at.as_str()) != (resource, key.as_str()));
        let event = if there { "ADDED" } else { "DELETED" };
        let mut frame = format!(
            "{{\"type\":\"{event}\",\"object\":{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
            resource.kind(),
            api_version(resource)
        );
        frame.push_str(&item[1..]);
        frame.push_str("}\n");
        if there {
            state.extra.push((resource, key, item));
        }
        self.shared.send(&mut state, resource, &frame.into());
    }
}

/// Changes without end: pod by pod the old one goes and a new one comes, is placed and runs, five events each; and
/// with every hundredth of them a binding is taken away or comes back.
#[derive(Debug)]
pub(crate) struct Churn {
    pods: usize,
    /// The first binding that is not the server's own, and how many there are.
    bindings: (usize, usize),
    /// Pods alone: no binding comes or goes beside them.
    pub(crate) pods_alone: bool,
    numbers: HashMap<usize, u32>,
    step: usize,
    begun: Instant,
}

impl Churn {
    /// Of any pods of the cluster, from now on.
    pub(crate) fn new(cluster: &Cluster) -> Churn {
        let own = cluster.shipped(Resource::RoleBindings);
        Churn {
            pods: cluster.size.pods,
            bindings: (own, cluster.count(Resource::RoleBindings) - own),
            pods_alone: false,
            numbers: HashMap::new(),
            step: 0,
            begun: Instant::now(),
        }
    }

    /// Does what is due by now at so many pod events a second.
    pub(crate) fn keep_up(&mut self, standin: &Standin, rate: f64) {
        let due = self.begun.elapsed().as_secs_f64() * rate;
        while (self.step as f64) < due {
            self.step(standin);
        }
    }

    /// The next event.
    pub(crate) fn step(&mut self, standin: &Standin) {
        // A stride that meets every pod once before any twice.
        let slot = self.step / 5 * 7_919 % self.pods;
        let number = *self.numbers.entry(slot).or_default();
        match self.step % 5 {
            0 => standin.pod(slot, "MODIFIED", number, Stage::Leaving),
            1 => standin.pod(slot, "DELETED", number, Stage::Leaving),
            2 => standin.pod(slot, "ADDED", number + 1, Stage::Pending),
            3 => standin.pod(slot, "MODIFIED", number + 1, Stage::Placed),
            _ => {
                standin.pod(slot, "MODIFIED", number + 1, Stage::Settled);
                self.numbers.insert(slot, number + 1);
            }
        }
        let (own, bindings) = self.bindings;
        let binding = own + self.step / 200 * 31 % bindings;
        match self.step % 200 {
            _ if self.pods_alone => {}
            0 => standin.delete(Resource::RoleBindings, binding),
            100 => standin.edit(Resource::RoleBindings, binding),
            _ => {}
        }
        self.step += 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(
        &self,
        state: &mut State,
        resource: Resource,
        event: &str,
        slot: usize,
        edition: Edition,
    ) {
        let mut frame = Vec::with_capacity(16 << 10);
        self.frame(resource, event, slot, edition, &mut frame);
        self.send(state, resource, &frame.into());
    }

    fn frame(
        &self,
        resource: Resource,
        event: &str,
        slot: usize,
        edition: Edition,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(format!("{{\"type\":\"{event}\",\"object\":").as_bytes());
        self.cluster.object(resource, slot, edition, out);
        out.extend_from_slice(b"}\n");
    }

    fn send(&self, state: &mut State, resource: Resource, frame: &Bytes) {
        state.logged += frame.len();
        state
            .log
            .push_back((state.version, resource, frame.clone()));
        while state.logged > LOG_LIMIT {
            if let Some((version, _, frame)) = state.log.pop_front() {
                state.compacted = version;
                state.logged -= frame.len();
            }
        }
        state.watches.retain(|watch| {
            watch.resource != resource || watch.frames.try_send(frame.clone()).is_ok()
        });
    }

    /// One page from a slot on, and the slot where the next one begins.
    fn page(&self, resource: Resource, from: usize, limit: usize, version: Option<u64>) -> Vec<u8> {
        let (version, slots, extra, next) = {
            let state = self.lock();
            let all = &state.slots[&resource];
            let until = from.saturating_add(limit).min(all.len());
            // Objects beside the cluster's come with the last page.
            let last = until == all.len();
            let extra: Vec<String> = state
                .extra
                .iter()
                .filter(|(of, ..)| last && *of == resource)
                .map(|(.., item)| item.clone())
                .collect();
            (
                version.unwrap_or(state.version),
                all[from..until].to_vec(),
                extra,
                (!last).then_some(until),
            )
        };
        let each = if resource == Resource::Pods {
            10 << 10
        } else {
            2 << 10
        };
        let mut out = Vec::with_capacity(slots.len() * each);
        let (kind, api) = (resource.kind(), api_version(resource));
        out.extend_from_slice(format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api}\",\"metadata\":{{\"resourceVersion\":\"{version}\"").as_bytes());
        if let Some(next) = next {
            let left = self.cluster.count(resource) - next;
            out.extend_from_slice(
                format!(",\"continue\":\"{version}.{next}\",\"remainingItemCount\":{left}")
                    .as_bytes(),
            );
        }
        out.extend_from_slice(b"},\"items\":[");
        let begin = out.len();
        for (slot, edition) in (from..).zip(slots) {
            let Some(edition) = edition else { continue };
            if out.len() > begin {
                out.push(b',');
            }
            self.cluster.item(resource, slot, edition, &mut out);
        }
        for item in extra {
            if out.len() > begin {
                out.push(b',');
            }
            out.extend_from_slice(item.as_bytes());
        }
        out.extend_from_slice(b"]}");
        self.lists.fetch_add(1, Ordering::Relaxed);
        out
    }

    /// Opens a watch from a version; with `initial` it is told first what there is.
    async fn watch(
        self: Arc<Shared>,
        resource: Resource,
        from: Option<u64>,
        initial: bool,
        life: Duration,
    ) -> Response<Answer> {
        let (frames, answer) = mpsc::channel(QUEUE);
        if !initial && from.is_some_and(|from| from < self.lock().compacted) {
            return status(410, "Expired", "too old resource version");
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let from = if initial {
                let (version, slots) = {
                    let state = shared.lock();
                    (state.version, state.slots[&resource].clone())
                };
                let mut chunk = Vec::new();
                for (slot, edition) in slots.into_iter().enumerate() {
                    let Some(edition) = edition else { continue };
                    shared.frame(resource, "ADDED", slot, edition, &mut chunk);
                    if chunk.len() > 128 << 10 {
                        if frames
                            .send(std::mem::take(&mut chunk).into())
                            .await
                            .is_err()
                        {
                            return;
                        }
                        while frames.max_capacity() - frames.capacity() > 8 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
                let (kind, api) = (resource.kind(), api_version(resource));
                chunk.extend_from_slice(format!("{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"{api}\",\"metadata\":{{\"resourceVersion\":\"{version}\",\"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n").as_bytes());
                let _ = frames.send(chunk.into()).await;
                version
            } else {
                from.unwrap_or(u64::MAX)
            };
            let id = {
                let mut state = shared.lock();
                for (_, _, frame) in state
                    .log
                    .iter()
                    .filter(|(at, of, _)| *at > from && *of == resource)
                {
                    let _ = frames.try_send(frame.clone());
                }
                state.watched += 1;
                let id = state.watched;
                state.watches.push(Watch {
                    id,
                    resource,
                    frames,
                });
                id
            };
            tokio::time::sleep(life).await;
            shared.lock().watches.retain(|watch| watch.id != id);
        });
        answer_with(Answer::Stream(answer))
    }
}

async fn bookmarks(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(BOOKMARK_EVERY).await;
        let state = shared.lock();
        for watch in &state.watches {
            let (kind, api, version) = (
                watch.resource.kind(),
                api_version(watch.resource),
                state.version,
            );
            let frame = format!(
                "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"{api}\",\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n"
            );
            let _ = watch.frames.try_send(frame.into());
        }
    }
}

/// A body of one piece, or of frames as they come.
enum Answer {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Answer::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Stream(frames) => frames
                .poll_recv(cx)
                .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Answer::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Answer::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

fn answer_with(answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn status(code: u16, reason: &str, message: &str) -> Response<Answer> {
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code,
    });
    let mut response = answer_with(Answer::Whole(Some(text.to_string().into())));
    *response.status_mut() = code.try_into().unwrap();
    response
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(shared.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    let query: HashMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let resource = Resource::ALL
        .into_iter()
        .find(|&resource| path == Standin::path(resource));
    let Some(resource) = resource else {
        return Ok(match path {
            "/version" => answer_with(Answer::Whole(Some(
                json!({"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
                    .to_string()
                    .into(),
            ))),
            "/livez" | "/readyz" | "/healthz" => answer_with(Answer::Whole(Some("ok".into()))),
            _ => status(404, "NotFound", "the stand-in serves no such path"),
        });
    };
    let version = query
        .get("resourceVersion")
        .and_then(|version| version.parse::<u64>().ok());
    if matches!(query.get("watch").map(String::as_str), Some("1" | "true")) {
        let initial = query
            .get("sendInitialEvents")
            .is_some_and(|wanted| wanted == "true");
        let life = query
            .get("timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok());
        let life = Duration::from_secs(life.unwrap_or(3_600));
        return Ok(shared
            .watch(
                resource,
                version.filter(|version| *version > 0),
                initial,
                life,
            )
            .await);
    }
    let slow = shared.lock().slow;
    if !slow.is_zero() {
        tokio::time::sleep(slow).await;
    }
    let limit = match (query.get("limit"), version) {
        // From its cache the server gives everything, whatever the limit.
        (_, Some(0)) | (None, _) => usize::MAX,
        (Some(limit), _) => limit.parse().unwrap_or(usize::MAX),
    };
    let (from, version) = match query
        .get("continue")
        .and_then(|token| token.split_once('.'))
    {
        Some((version, slot)) => (slot.parse().unwrap_or_default(), version.parse().ok()),
        None => (0, None),
    };
    if version.is_some_and(|version| version < shared.lock().compacted) {
        return Ok(status(410, "Expired", "the continue token is too old"));
    }
    let page = shared.page(resource, from, limit, version);
    Ok(answer_with(Answer::Whole(Some(page.into()))))
}
