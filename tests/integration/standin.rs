//! A stand-in for the API server: lists, watches and `/version` of the seven resources on a real
//! loopback socket, with faults on command.
//!
//! What it does without faults is what the real one does: lists are paged from a snapshot, a watch
//! replays what happened since its version and then goes on, a version older than the last
//! [`Standin::compact`] is answered with 410. Objects are JSON and are not looked into beyond their
//! metadata. It ignores `timeoutSeconds`: streams end when a test ends them.

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use rbac_exporter::object::Resource;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// HTTP method.
    pub(crate) method: String,
    /// Path without query.
    pub(crate) path: String,
    /// Query, decoded.
    pub(crate) query: BTreeMap<String, String>,
    /// `User-Agent`
    pub(crate) agent: String,
    /// When it came.
    pub(crate) at: Instant,
    /// What it asks for, when that is something the stand-in serves.
    pub(crate) asks: Option<Asks>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// The first page of a list.
    List(Resource),
    /// A further page.
    Continue(Resource),
    /// A watch.
    Watch(Resource),
    /// `/version`
    Version,
}

/// What goes wrong instead of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status with a Status object.
    Status(u16),
    /// The same with `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// 200 with this text as the whole body.
    Text(String),
    /// 200 with this text, then the connection is cut.
    Cut(String),
    /// 200 with this text, then nothing.
    Stall(String),
    /// No answer at all.
    Hang,
    /// The connection is closed instead of an answer.
    Drop,
    /// The right answer, later.
    Slow(Duration),
    /// 200 with this text, a byte at a time with this pause between.
    Drip(String, Duration),
}

/// Which requests a fault is for.
pub(crate) type Matches = fn(Asks) -> bool;

struct Planned {
    matches: Matches,
    fault: Fault,
    /// `None`: until [`Standin::heal`].
    left: Option<usize>,
}

type Chunks = mpsc::UnboundedSender<io::Result<Bytes>>;
type Key = (String, String);

#[derive(Default)]
struct State {
    version: u64,
    compacted: u64,
    git_version: String,
    objects: HashMap<Resource, BTreeMap<Key, Value>>,
    log: Vec<(u64, Resource, String)>,
    snapshots: HashMap<String, (u64, VecDeque<Value>)>,
    watches: HashMap<Resource, Vec<Chunks>>,
    faults: Vec<Planned>,
    /// The only token that is taken, if there is one.
    token: Option<String>,
    seen: Vec<Seen>,
}

/// The stand-in. Dropping it stops it.
pub(crate) struct Standin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: Option<JoinHandle<()>>,
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Standin {
    /// Starts it empty, at resource version 1000.
    pub(crate) async fn start() -> Standin {
        let state = State {
            version: 1000,
            git_version: "v1.37.2".to_owned(),
            ..State::default()
        };
        let mut standin = Standin {
            address: ([127, 0, 0, 1], 0).into(),
            state: Arc::new(Mutex::new(state)),
            server: None,
        };
        standin.resume().await;
        standin
    }

    /// Listens again on the same port after [`Standin::stop`].
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.server = Some(tokio::spawn(serve(listener, self.state.clone())));
    }

    /// Stops listening and cuts all connections.
    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
        self.lock().watches.clear();
    }

    /// URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client for it, made as the exporter makes its own.
    pub(crate) fn client(&self) -> Client {
        let config = Config::new(self.url().parse().unwrap());
        rbac_exporter::source::cluster::connect_with(config).unwrap()
    }

    /// A client that calls it without a network, for tests with a clock of their own.
    pub(crate) fn direct(&self) -> Client {
        let state = self.state.clone();
        let service = tower::service_fn(move |request| respond(state.clone(), request));
        Client::new(service, "default")
    }

    /// A kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&json!({"token": "standin"}))
    }

    /// A kubeconfig with another user entry.
    pub(crate) fn kubeconfig_of(&self, user: &Value) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "standin",
            "clusters": [{"name": "standin", "cluster": {"server": self.url()}}],
            "contexts": [{"name": "standin", "context": {"cluster": "standin", "user": "standin"}}],
            "users": [{"name": "standin", "user": user}],
        })
        .to_string()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === Objects ===

    /// Creates or replaces an object. `apiVersion`, `kind` and `metadata.resourceVersion` are filled in.
    pub(crate) fn put(&self, resource: Resource, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let key = complete(resource, &mut object, version);
        let objects = state.objects.entry(resource).or_default();
        let event = match objects.insert(key, object.clone()) {
            None => "ADDED",
            Some(_) => "MODIFIED",
        };
        state.tell(resource, event, &object);
    }

    /// Deletes an object.
    pub(crate) fn remove(&self, resource: Resource, namespace: &str, name: &str) {
        let mut state = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let gone = state.objects.entry(resource).or_default().remove(&key);
        if let Some(mut object) = gone {
            state.version += 1;
            complete(resource, &mut object, state.version);
            state.tell(resource, "DELETED", &object);
        }
    }

    /// Namespaces and names of what there is.
    pub(crate) fn names(&self, resource: Resource) -> Vec<(String, String)> {
        let state = self.lock();
        let objects = state.objects.get(&resource);
        objects.map_or_else(Vec::new, |o| o.keys().cloned().collect())
    }

    /// The current resource version.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Raises the version, as what happens to other resources does.
    pub(crate) fn advance(&self, by: u64) {
        self.lock().version += by;
    }

    /// Takes the version back, as a restored backup does; what the log had after it is forgotten.
    pub(crate) fn roll_back(&self, to: u64) {
        let mut state = self.lock();
        state.version = to;
        state.compacted = state.compacted.min(to);
        state.log.retain(|&(at, ..)| at <= to);
    }

    /// What happened so far can be watched no more, and lists cannot be continued.
    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.version;
        state.log.clear();
        state.snapshots.clear();
    }

    /// What `/version` says.
    pub(crate) fn set_git_version(&self, version: &str) {
        self.lock().git_version = version.to_owned();
    }

    // === Streams ===

    /// Number of open watches of a resource.
    pub(crate) fn watches(&self, resource: Resource) -> usize {
        let mut state = self.lock();
        let watches = state.watches.entry(resource).or_default();
        watches.retain(|watch| !watch.is_closed());
        watches.len()
    }

    /// Sends a bookmark with the current version to the open watches.
    pub(crate) fn bookmark(&self, resource: Resource) {
        let version = self.version().to_string();
        let object = json!({"kind": resource.kind(), "metadata": {"resourceVersion": version}});
        self.send(
            resource,
            &(json!({"type": "BOOKMARK", "object": object}).to_string() + "\n"),
        );
    }

    /// Sends any text to the open watches as it is, without a line feed.
    pub(crate) fn send(&self, resource: Resource, text: &str) {
        self.send_bytes(resource, text.as_bytes());
    }

    /// Sends any bytes to the open watches.
    pub(crate) fn send_bytes(&self, resource: Resource, bytes: &[u8]) {
        for watch in self.lock().watches.entry(resource).or_default() {
            let _ = watch.send(Ok(Bytes::copy_from_slice(bytes)));
        }
    }

    /// Ends the open watches well.
    pub(crate) fn close(&self, resource: Resource) {
        self.lock().watches.remove(&resource);
    }

    /// Cuts the connections of the open watches.
    pub(crate) fn cut(&self, resource: Resource) {
        for watch in self.lock().watches.remove(&resource).unwrap_or_default() {
            let _ = watch.send(Err(io::ErrorKind::ConnectionReset.into()));
        }
    }

    // === Faults ===

    /// The next matching requests meet this fault. Faults planned first go first.
    pub(crate) fn fail(&self, times: usize, matches: Matches, fault: Fault) {
        let left = Some(times);
        self.lock().faults.push(Planned {
            matches,
            fault,
            left,
        });
    }

    /// All matching requests meet this fault until [`Standin::heal`].
    pub(crate) fn break_down(&self, matches: Matches, fault: Fault) {
        self.lock().faults.push(Planned {
            matches,
            fault,
            left: None,
        });
    }

    /// From now on only this token is taken; connections stay.
    pub(crate) fn require_token(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    /// Takes all planned faults back.
    pub(crate) fn heal(&self) {
        self.lock().faults.clear();
    }

    // === Requests ===

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests so far ask for this.
    pub(crate) fn count(&self, matches: Matches) -> usize {
        let state = self.lock();
        let asked = state.seen.iter().filter_map(|seen| seen.asks);
        asked.filter(|&asks| matches(asks)).count()
    }
}

impl State {
    fn tell(&mut self, resource: Resource, event: &str, object: &Value) {
        let frame = json!({"type": event, "object": object}).to_string() + "\n";
        for watch in self.watches.entry(resource).or_default() {
            let _ = watch.send(Ok(Bytes::from(frame.clone())));
        }
        self.log.push((self.version, resource, frame));
    }

    fn fault(&mut self, asks: Asks) -> Option<Fault> {
        let index = self.faults.iter().position(|p| (p.matches)(asks))?;
        let planned = &mut self.faults[index];
        let fault = planned.fault.clone();
        if let Some(left) = &mut planned.left {
            *left -= 1;
            if *left == 0 {
                self.faults.remove(index);
            }
        }
        Some(fault)
    }

    fn list(&mut self, resource: Resource, query: &BTreeMap<String, String>) -> Response<Chunked> {
        let (version, mut items) = match query.get("continue") {
            None => {
                let objects = self.objects.get(&resource);
                let items = objects.map_or_else(VecDeque::new, |o| o.values().cloned().collect());
                (self.version, items)
            }
            Some(token) => match self.snapshots.get(token) {
                Some(snapshot) => snapshot.clone(),
                None => return status(410, None),
            },
        };
        let limit = query
            .get("limit")
            .map_or(usize::MAX, |l| l.parse().unwrap());
        let rest = items.split_off(limit.min(items.len()));
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if !rest.is_empty() {
            let token = format!("{}+{version}-{}/{limit}", resource.plural(), rest.len());
            metadata["continue"] = token.clone().into();
            self.snapshots.insert(token, (version, rest));
        }
        // Items of a list carry neither kind nor apiVersion.
        for item in &mut items {
            if let Some(item) = item.as_object_mut() {
                item.remove("kind");
                item.remove("apiVersion");
            }
        }
        let kind = format!("{}List", resource.kind());
        answer(
            &json!({"kind": kind, "apiVersion": api_version(resource), "metadata": metadata, "items": items}),
        )
    }

    fn watch(&mut self, resource: Resource, query: &BTreeMap<String, String>) -> Response<Chunked> {
        let from: u64 = query["resourceVersion"].parse().unwrap();
        if from < self.compacted {
            return status(410, None);
        }
        let (watch, body) = mpsc::unbounded_channel();
        for (_, _, frame) in self
            .log
            .iter()
            .filter(|(at, r, _)| *at > from && *r == resource)
        {
            let _ = watch.send(Ok(Bytes::from(frame.clone())));
        }
        self.watches.entry(resource).or_default().push(watch);
        Response::new(Chunked(body))
    }
}

/// The least object of a resource that a decoder takes; add to it what a test needs.
pub(crate) fn object(resource: Resource, namespace: &str, name: &str) -> Value {
    let uid = format!("{}-{namespace}-{name}", resource.plural());
    let mut object = json!({"metadata": {
        "name": name, "uid": uid, "creationTimestamp": "2026-01-02T03:04:05Z",
    }});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let group = "rbac.authorization.k8s.io";
    match resource {
        Resource::ClusterRoles | Resource::Roles => object["rules"] = json!([]),
        Resource::ClusterRoleBindings | Resource::RoleBindings => {
            object["roleRef"] = json!({"apiGroup": group, "kind": "ClusterRole", "name": "view"});
        }
        Resource::Pods => {
            object["spec"] =
                json!({"containers": [{"name": "main"}], "serviceAccountName": "default"});
            object["status"] = json!({"phase": "Running"});
        }
        Resource::ServiceAccounts | Resource::Namespaces => {}
    }
    object
}

fn api_version(resource: Resource) -> &'static str {
    match resource {
        Resource::ServiceAccounts | Resource::Pods | Resource::Namespaces => "v1",
        _ => "rbac.authorization.k8s.io/v1",
    }
}

fn complete(resource: Resource, object: &mut Value, version: u64) -> Key {
    object["kind"] = resource.kind().into();
    object["apiVersion"] = api_version(resource).into();
    let metadata = &mut object["metadata"];
    metadata["resourceVersion"] = version.to_string().into();
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

// === HTTP ===

/// A body sent in pieces as they come.
struct Chunked(mpsc::UnboundedReceiver<io::Result<Bytes>>);

impl Body for Chunked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map_ok(Frame::data)
    }
}

/// A body of one piece; with `Some(true)` it is then cut, with `Some(false)` it never ends.
fn text(text: String, then: Option<bool>) -> Response<Chunked> {
    let (chunks, body) = mpsc::unbounded_channel();
    if !text.is_empty() {
        let _ = chunks.send(Ok(Bytes::from(text)));
    }
    match then {
        Some(true) => {
            // A moment later, or hyper would drop what was not yet written.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = chunks.send(Err(io::ErrorKind::ConnectionReset.into()));
            });
        }
        Some(false) => {
            tokio::spawn(async move { chunks.closed().await });
        }
        None => {}
    }
    Response::new(Chunked(body))
}

fn answer(value: &Value) -> Response<Chunked> {
    text(value.to_string(), None)
}

fn status(code: u16, retry_after: Option<u64>) -> Response<Chunked> {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => (
            "Forbidden",
            "it is forbidden: User \"system:anonymous\" cannot list it",
        ),
        410 => ("Expired", "too old resource version"),
        429 => (
            "TooManyRequests",
            "the server has received too many requests",
        ),
        _ => ("InternalError", "an error on the server"),
    };
    let mut response = answer(&json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code,
    }));
    *response.status_mut() = code.try_into().unwrap();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| respond(state.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn respond<B>(
    state: Arc<Mutex<State>>,
    request: Request<B>,
) -> Result<Response<Chunked>, io::Error> {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let path = request.uri().path().to_owned();
    let query = parse_query(request.uri().query().unwrap_or_default());
    let asks = asks(&path, &query);
    let agent = request.headers().get("user-agent");
    let seen = Seen {
        method: request.method().to_string(),
        path,
        query: query.clone(),
        agent: agent.map_or_else(String::new, |a| a.to_str().unwrap().to_owned()),
        at: Instant::now(),
        asks,
    };
    let token = request.headers().get("authorization");
    let token = token.and_then(|t| t.to_str().ok()?.strip_prefix("Bearer "));
    let fault = {
        let mut state = lock();
        state.seen.push(seen);
        if state.token.is_some() && state.token.as_deref() != token {
            return Ok(status(401, None));
        }
        asks.and_then(|asks| state.fault(asks))
    };
    match fault {
        None => {}
        Some(Fault::Status(code)) => return Ok(status(code, None)),
        Some(Fault::RetryAfter(code, seconds)) => return Ok(status(code, Some(seconds))),
        Some(Fault::Text(body)) => return Ok(text(body, None)),
        Some(Fault::Cut(body)) => return Ok(text(body, Some(true))),
        Some(Fault::Stall(body)) => return Ok(text(body, Some(false))),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Drop) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Drip(body, every)) => {
            let (chunks, answer) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                for byte in body.into_bytes() {
                    tokio::time::sleep(every).await;
                    if chunks.send(Ok(Bytes::from(vec![byte]))).is_err() {
                        return;
                    }
                }
            });
            return Ok(Response::new(Chunked(answer)));
        }
    }
    let mut state = lock();
    Ok(match asks {
        None => status(404, None),
        Some(Asks::Version) => answer(&json!({"gitVersion": state.git_version})),
        Some(Asks::Watch(resource)) => state.watch(resource, &query),
        Some(Asks::List(resource) | Asks::Continue(resource)) => state.list(resource, &query),
    })
}

fn asks(path: &str, query: &BTreeMap<String, String>) -> Option<Asks> {
    if path == "/version" {
        return Some(Asks::Version);
    }
    let serves = |r: &Resource| match api_version(*r) {
        "v1" => path == format!("/api/v1/{}", r.plural()),
        group => path == format!("/apis/{group}/{}", r.plural()),
    };
    let resource = Resource::ALL.into_iter().find(serves)?;
    Some(if query.contains_key("watch") {
        Asks::Watch(resource)
    } else if query.contains_key("continue") {
        Asks::Continue(resource)
    } else {
        Asks::List(resource)
    })
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(k, v)| (k.to_owned(), percent_decode(v)))
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
