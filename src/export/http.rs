//! A small HTTP/1.1 server for machines and a few people, and its limits.
//!
//! It knows nothing of what it serves: a [`Site`] answers. What it adds is that no client can harm
//! another one. Every connection is always in one phase, each phase but the computation has a
//! deadline, and when there are too many connections the one that has been of least use is closed
//! for the new one: a scraper or a probe that does connect, gets in.
//!
//! The deadlines are kept here and not by hyper: its header timeout runs between requests too, so
//! that a short one against slow headers would close the connection of every scraper at rest.

use super::door::{Caller, Door};
use bytes::{Buf as _, Bytes, buf::Reader};
use flate2::read::GzDecoder;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io::{self, Read as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::{Pin, pin},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;

// === what is served

/// A request, as far as a [`Site`] needs to know it. It is GET or HEAD and its body is unread.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The path as sent, percent-encoding included.
    pub path: &'a str,
    /// What stands behind `?`, as sent; empty when there is none.
    pub query: &'a str,
    /// `Accept`, several joined by commas.
    pub accept: Option<&'a str>,
    /// `Accept-Encoding`, several joined by commas.
    pub accept_encoding: Option<&'a str>,
}

/// An answer. The server adds `Content-Length`, `Date`, `X-Content-Type-Options: nosniff` and
/// `Cache-Control: no-store`, and leaves the body out for HEAD.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `Content-Type`
    pub content_type: &'static str,
    /// `Content-Encoding`, when the body is encoded.
    pub encoding: Option<&'static str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Content,
}

/// The body of a [`Reply`].
#[derive(Clone, Debug)]
pub enum Content {
    /// Sent one after the other: what several answers have in common is not copied for each.
    Parts(Vec<Bytes>),
    /// One gzip member that is sent unpacked: a large text is never whole in memory, and nothing but
    /// the packed bytes is held for a client that takes its time.
    Unpacked {
        /// The gzip member.
        packed: Bytes,
        /// Length of what is in it.
        length: u64,
    },
}

impl Content {
    /// Bytes to be sent.
    fn length(&self) -> u64 {
        match self {
            Content::Parts(parts) => parts.iter().map(|part| part.len() as u64).sum(),
            Content::Unpacked { length, .. } => *length,
        }
    }
}

impl Reply {
    /// A reply without further headers.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            content_type,
            encoding: None,
            headers: Vec::new(),
            body: Content::Parts(vec![body.into()]),
        }
    }

    /// A reply in plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Reply {
        Reply::new(status, "text/plain; charset=utf-8", body)
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Says that the reply depends on `Accept` and `Accept-Encoding`.
    #[must_use]
    pub fn negotiated(self) -> Reply {
        self.with_header("vary", "Accept, Accept-Encoding")
    }
}

/// What a server serves.
pub trait Site: Send + Sync + 'static {
    /// Answers the health endpoints; `None` for every other path. Runs on the event loop, so that
    /// a probe is answered however busy the rest is: it must be cheap and must not block.
    fn health(&self, path: &str, query: &str) -> Option<Reply>;

    /// Answers everything else. Runs off the event loop and may compute.
    fn reply(&self, ask: &Ask<'_>) -> Reply;

    /// Where a request for this path waits for its turn.
    fn line(&self, _path: &str) -> Line {
        Line::Computed
    }
}

/// Requests wait in line with their like: neither a scrape nor a page must wait for somebody's forty
/// reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The answer is at hand.
    AtHand,
    /// It is computed, and soon done.
    Computed,
    /// It takes long, and memory meanwhile: one at a time.
    Long,
}

/// How much the server lets clients have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; a further one replaces the one without progress for longest.
    pub connections: usize,
    /// [`Site::reply`] running at the same time; as many again for what is at hand, and one more for
    /// what takes long.
    pub computations: usize,
    /// How long a request may wait for one of these before it is answered 503.
    pub queue: Duration,
    /// Time for a request's line and headers, from the first byte, or from the connection's start.
    pub head: Duration,
    /// Size of a request's line and headers; beyond, 431.
    pub head_bytes: usize,
    /// Size of a request's body, which is ignored; beyond, or when it is not announced, 413.
    pub body_bytes: u64,
    /// Time for the client to take a whole response.
    pub response: Duration,
    /// Rest between two requests. Longer than any sensible scrape interval.
    pub idle: Duration,
    /// Time for the responses in flight after shutdown was asked for.
    pub drain: Duration,
    /// Pause after the system refused a new connection, out of descriptors or memory.
    pub accept_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 512,
            computations: 4,
            queue: Duration::from_secs(10),
            head: Duration::from_secs(5),
            head_bytes: 16 * 1024,
            body_bytes: 16 * 1024,
            response: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(10),
            accept_pause: Duration::from_millis(100),
        }
    }
}

// === listening

/// Value of `--web.listen-address`: `:7222`, `127.0.0.1:7222`, `[::1]:7222`, `0.0.0.0:7222`. Port 0
/// lets the system choose. Host names are refused: what they stand for can change, and what is
/// listened on must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Every address of the host, IPv6 and IPv4; IPv4 alone where there is no IPv6.
    Everywhere(u16),
    /// One address.
    At(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let address = match text.strip_prefix(':') {
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().map(ListenAddress::Everywhere).ok()
            }
            Some(_) => None,
            None => text.parse().map(ListenAddress::At).ok(),
        };
        address.ok_or_else(|| ListenError::Syntax(text.to_owned()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Everywhere(port) => write!(f, ":{port}"),
            ListenAddress::At(address) => address.fmt(f),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not an address.
    #[error(
        "{0:?} is no address to listen on; write :PORT, IPV4:PORT or [IPV6]:PORT, a name such as localhost as 127.0.0.1"
    )]
    Syntax(String),
    /// Taken.
    #[error("cannot listen on {0}: the port is in use; stop what uses it or choose another port")]
    InUse(ListenAddress),
    /// Not allowed.
    #[error(
        "cannot listen on {0}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, choose a higher one"
    )]
    Denied(ListenAddress),
    /// Foreign.
    #[error("cannot listen on {0}: this host does not have that address; `:PORT` means all it has")]
    NotHere(ListenAddress),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(ListenAddress, #[source] io::Error),
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Starts listening. Needs the runtime's context.
    pub fn bind(address: ListenAddress) -> Result<Listener, ListenError> {
        let bound = match address {
            ListenAddress::Everywhere(port) => {
                let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                listen(v6).or_else(|error| match error.kind() {
                    // Both mean that somebody has the port; the detour would only blur it.
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                    _ => listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
                })
            }
            ListenAddress::At(at) => listen(at),
        };
        bound
            .and_then(|socket| {
                Ok(Listener {
                    address: socket.local_addr()?,
                    socket,
                })
            })
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => ListenError::InUse(address),
                io::ErrorKind::PermissionDenied => ListenError::Denied(address),
                io::ErrorKind::AddrNotAvailable => ListenError::NotHere(address),
                _ => ListenError::Other(address, error),
            })
    }

    /// The address in use, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Without it a restart fails for as long as connections of the old process are in TIME_WAIT.
    // On Windows the option means something else: sharing the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

// === serving

/// Serves until `shutdown` completes; then stops listening, closes connections at rest, and lets
/// responses in flight finish within [`Limits::drain`]. Returns how many had to be cut.
///
/// A computation that was still running then is left to end by itself, since nothing can stop it.
pub async fn serve<S: Site>(
    listeners: Vec<Listener>,
    site: Arc<S>,
    door: Arc<Door>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let (stop, stopping) = watch::channel(false);
    // Each connection holds a sender: when the channel ends, all of them have.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let server = Arc::new(Server {
        site,
        door,
        slots_at_hand: Arc::new(Semaphore::new(limits.computations.max(1))),
        slots: Arc::new(Semaphore::new(limits.computations.max(1))),
        slot_long: Arc::new(Semaphore::new(1)),
        limits,
        connections: Mutex::default(),
    });

    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (server, stopping, open) = (Arc::clone(&server), stopping.clone(), open.clone());
        accepting.spawn(accept(listener, server, stopping, open));
    }
    shutdown.await;

    accepting.shutdown().await;
    drop(open);
    stop.send_replace(true);
    if timeout(server.limits.drain, all_closed.recv())
        .await
        .is_ok()
    {
        return 0;
    }
    let cut: Vec<Arc<Pulse>> = lock(&server.connections)
        .pulses
        .drain()
        .map(|(_, pulse)| pulse)
        .collect();
    for pulse in &cut {
        pulse.evicted.notify_one();
    }
    all_closed.recv().await;
    cut.len()
}

struct Server<S> {
    site: Arc<S>,
    door: Arc<Door>,
    limits: Limits,
    slots_at_hand: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    slot_long: Arc<Semaphore>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    pulses: HashMap<u64, Arc<Pulse>>,
}

impl Connections {
    /// Closes the connection without progress for longest; one that waits for us only if all do: for a
    /// computation, or to be looked at, when hundreds come at once.
    fn evict(&mut self) {
        let stalest = self.pulses.iter().min_by_key(|(_, pulse)| {
            let state = lock(&pulse.state);
            let ours = state.unheeded || state.phase == Phase::Computing;
            (ours, state.progress)
        });
        if let Some(id) = stalest.map(|(id, _)| *id)
            && let Some(pulse) = self.pulses.remove(&id)
        {
            pulse.evicted.notify_one();
        }
    }
}

/// Accepts connections for as long as it is polled.
async fn accept<S: Site>(
    listener: Listener,
    server: Arc<Server<S>>,
    stopping: watch::Receiver<bool>,
    open: mpsc::Sender<Infallible>,
) {
    /// A state that lasts would otherwise fill the log at ten lines a second.
    const SILENCE: Duration = Duration::from_secs(60);
    let mut warned: Option<Instant> = None;
    loop {
        match listener.socket.accept().await {
            Ok((stream, address)) => {
                let (id, pulse) = {
                    let mut connections = lock(&server.connections);
                    while connections.pulses.len() >= server.limits.connections.max(1) {
                        connections.evict();
                    }
                    let id = connections.next;
                    connections.next += 1;
                    let pulse = Arc::new(Pulse::new());
                    connections.pulses.insert(id, Arc::clone(&pulse));
                    (id, pulse)
                };
                let (server, stopping, open) =
                    (Arc::clone(&server), stopping.clone(), open.clone());
                tokio::spawn(async move {
                    receive(&server, stream, address, &pulse, stopping).await;
                    lock(&server.connections).pulses.remove(&id);
                    drop(open);
                });
            }
            // These concern the one client that is gone already.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= SILENCE) {
                    warned = Some(Instant::now());
                    tracing::warn!(
                        address = %listener.address,
                        %error,
                        "cannot accept connections; trying on, and closing the least used ones"
                    );
                }
                // Out of descriptors: the newest client is served at the cost of the stalest, as at
                // the limit of connections. Without the pause the loop would spin.
                lock(&server.connections).evict();
                sleep(server.limits.accept_pause).await;
            }
        }
    }
}

/// Why a connection ended.
enum End {
    /// hyper is done with it.
    Over,
    /// A deadline passed, or it had to make way.
    Cut,
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Client {
    address: SocketAddr,
    /// It showed a certificate that TLS has nothing against.
    certificate: bool,
}

/// Takes up one connection, with TLS where that is asked for.
async fn receive<S: Site>(
    server: &Arc<Server<S>>,
    stream: TcpStream,
    address: SocketAddr,
    pulse: &Arc<Pulse>,
    stopping: watch::Receiver<bool>,
) {
    // Responses are written whole; waiting to fill a segment only delays their last one.
    let _ = stream.set_nodelay(true);
    let stream = Watched {
        stream,
        pulse: Arc::clone(pulse),
    };
    let mut client = Client {
        address,
        certificate: false,
    };
    let Some(tls) = server.door.tls() else {
        return converse(server, stream, client, pulse, stopping).await;
    };
    // The handshake is the beginning of the first head: it has its time, and makes way like one.
    let shaken = tokio::select! {
        shaken = timeout(server.limits.head, TlsAcceptor::from(tls).accept(stream)) => shaken,
        () = pulse.evicted.notified() => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            client.certificate = stream.get_ref().1.peer_certificates().is_some();
            converse(server, stream, client, pulse, stopping).await;
        }
        Ok(Err(error)) => {
            let reason = "TLS handshake failed";
            server.door.note(reason, &error.to_string(), address, "");
        }
        Err(_) => {}
    }
}

/// Serves one connection to its end.
async fn converse<S: Site>(
    server: &Arc<Server<S>>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    pulse: &Arc<Pulse>,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = &server.limits;
    let service = service_fn(|request| answer(server, client, pulse, request));
    // Half-closed connections count as closed, so that the place in the queue of a scrape that
    // timed out is free at once.
    let mut conn = pin!(
        http1::Builder::new()
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.head_bytes.max(8192))
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut evicted = pin!(pulse.evicted.notified());
    let mut stopping = pin!(stopping.wait_for(|stop| *stop));
    let mut told = false;
    let mut alarm: Pin<&mut Sleep> = pin!(sleep_until(Instant::now() + limits.head));

    let over = |over: hyper::Result<()>| {
        if over.is_err_and(|error| error.is_parse_too_large()) {
            let reason = "head of the request too large";
            server.door.note(reason, "", client.address, "");
        }
    };
    let end = poll_fn(|cx| {
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            conn.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = conn.as_mut().poll(cx) {
            over(ended);
            return Poll::Ready(End::Over);
        }
        if evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        // Phases change only while the connection is polled, so what it says now holds until this
        // task is woken again.
        let Some(deadline) = lock(&pulse.state).deadline(limits) else {
            return Poll::Pending;
        };
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        ready!(alarm.as_mut().poll(cx));
        // A client that stays after its refusal is left; hyper then says what that was for.
        let closing = {
            let mut state = lock(&pulse.state);
            state.unread &= state.phase != Phase::Closing;
            state.phase == Phase::Closing
        };
        if closing && let Poll::Ready(ended) = conn.as_mut().poll(cx) {
            over(ended);
        }
        Poll::Ready(End::Cut)
    })
    .await;
    if let End::Cut = end {
        lock(&pulse.state).reset = true;
    }
}

// === the state of a connection

/// What a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client sends a request's head.
    Head,
    /// The site computes.
    Computing,
    /// The client takes the response.
    Response,
    /// Nothing, between two requests.
    Idle,
    /// The end was sent; waiting for the client's.
    Closing,
}

/// How a connection fares; written by its task, read when one has to make way.
struct Pulse {
    state: Mutex<State>,
    evicted: Notify,
}

struct State {
    phase: Phase,
    since: Instant,
    /// When a response last moved or the phase changed. Bytes of a head do not count: dripping them
    /// in is how one would make a useless connection look alive.
    progress: Instant,
    /// Nobody has looked yet whether the client has said something.
    unheeded: bool,
    /// The request's body was left in the socket.
    unread: bool,
    /// hyper has not been given all of the response: that it has flushed does not end it.
    more: bool,
    /// Close with a reset: whatever the client has not taken is thrown away.
    reset: bool,
}

/// How long to wait for a client to notice that it was refused, see [`Watched::poll_shutdown`].
const CLOSING: Duration = Duration::from_secs(1);

impl Pulse {
    fn new() -> Pulse {
        let now = Instant::now();
        Pulse {
            state: Mutex::new(State {
                phase: Phase::Head,
                since: now,
                progress: now,
                unheeded: true,
                unread: false,
                more: false,
                reset: false,
            }),
            evicted: Notify::new(),
        }
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        self.phase = phase;
        self.since = now;
        self.progress = now;
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match self.phase {
            Phase::Head => Some(self.since + limits.head),
            Phase::Computing => None,
            Phase::Response => Some(self.since + limits.response),
            Phase::Idle => Some(self.since + limits.idle),
            Phase::Closing => Some(self.since + CLOSING),
        }
    }
}

/// A lock whose holders cannot leave it half-changed: a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that keeps its [`Pulse`].
struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Watched {
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = result {
            lock(&self.pulse.state).progress = Instant::now();
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        lock(&self.pulse.state).unheeded = false;
        ready!(read)?;
        if buf.filled().len() > before {
            let mut state = lock(&self.pulse.state);
            if state.phase == Phase::Idle {
                state.enter(Phase::Head);
            }
            // Until a request is recognised in them, bytes read are part of one that may go wrong.
            state.unread |= state.phase == Phase::Head;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write: the response is with the kernel, if its body has
    /// given its last piece, of which it tells itself. The next request hyper takes up only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let mut state = lock(&self.pulse.state);
        if state.phase == Phase::Response && !state.more {
            state.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// A socket closed with bytes unread is reset, and the reset overtakes the refusal that explains
    /// it. So after a refusal the rest is read and thrown away for a moment, until the client has
    /// read why and closes.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if lock(&self.pulse.state).phase != Phase::Closing {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            lock(&self.pulse.state).enter(Phase::Closing);
        }
        if !lock(&self.pulse.state).unread {
            return Poll::Ready(Ok(()));
        }
        let mut bin = [0; 4096];
        // A few at a time, so that a client that sends without end does not keep the thread.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut bin);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if lock(&self.pulse.state).reset {
            // Else the kernel would go on offering what is left to a client that does not take it.
            let _ = self.stream.set_zero_linger();
        }
    }
}

// === answering

async fn answer<S: Site>(
    server: &Server<S>,
    client: Client,
    pulse: &Arc<Pulse>,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Infallible> {
    let has_body = !request.body().is_end_stream();
    {
        let mut state = lock(&pulse.state);
        state.enter(Phase::Computing);
        state.unread = has_body;
    }
    let reply = if request
        .body()
        .size_hint()
        .upper()
        .is_none_or(|n| n > server.limits.body_bytes)
    {
        Reply::text(413, "Requests have no body here.\n")
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        Reply::text(405, "Only GET and HEAD are served.\n").with_header("allow", "GET, HEAD")
    } else if let Some(reply) = server.site.health(
        request.uri().path(),
        request.uri().query().unwrap_or_default(),
    ) {
        reply
    } else {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let caller = Caller {
            address: client.address,
            path: request.uri().path(),
            authorization: authorization.and_then(|value| value.to_str().ok()),
            certificate: client.certificate,
        };
        match server.door.admit(&caller).await {
            Ok(()) => compute(server, &request).await,
            Err(refusal) => refusal,
        }
    };
    let mut response = response(reply).map(|content| Sent::new(content, pulse));
    for (name, value) in server.door.headers() {
        // what the file sets goes before what a page would set
        if let (Ok(name), Ok(value)) = (
            header::HeaderName::from_bytes(name.as_bytes()),
            header::HeaderValue::from_str(&value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    if has_body {
        // What is left unread stands where the next request would begin.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    let mut state = lock(&pulse.state);
    state.enter(Phase::Response);
    // the body of an answer to HEAD is never asked for a piece
    state.more = *request.method() != Method::HEAD && !response.body().is_end_stream();
    drop(state);
    Ok(response)
}

/// Has the site compute, when its turn comes.
async fn compute<S: Site>(server: &Server<S>, request: &Request<Incoming>) -> Reply {
    let slots = match server.site.line(request.uri().path()) {
        Line::AtHand => &server.slots_at_hand,
        Line::Computed => &server.slots,
        Line::Long => &server.slot_long,
    };
    let slot = Arc::clone(slots).acquire_owned();
    let Ok(Ok(slot)) = timeout(server.limits.queue, slot).await else {
        return Reply::text(503, "Too many requests are being computed; try again.\n")
            .with_header("retry-after", "5");
    };
    let site = Arc::clone(&server.site);
    let uri = request.uri().clone();
    let accept = joined(request, header::ACCEPT);
    let accept_encoding = joined(request, header::ACCEPT_ENCODING);
    let computed = tokio::task::spawn_blocking(move || {
        // Held by the computation and not by the request, which can be gone before its end.
        let _slot = slot;
        site.reply(&Ask {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            accept: accept.as_deref(),
            accept_encoding: accept_encoding.as_deref(),
        })
    });
    computed.await.unwrap_or_else(|error| {
        tracing::error!(path = request.uri().path(), %error, "a request could not be computed");
        Reply::text(500, "Internal error; the log has the details.\n")
    })
}

/// Bytes unpacked at a time.
const PIECE: usize = 64 * 1024;

/// A body on its way.
struct Sent {
    rest: Rest,
    left: u64,
    pulse: Arc<Pulse>,
}

enum Rest {
    Parts(vec::IntoIter<Bytes>),
    /// Unpacked piece by piece, as the connection takes them.
    Packed(Box<GzDecoder<Reader<Bytes>>>),
}

impl Sent {
    fn new(content: Content, pulse: &Arc<Pulse>) -> Sent {
        let left = content.length();
        let rest = match content {
            Content::Parts(parts) => Rest::Parts(parts.into_iter()),
            Content::Unpacked { packed, .. } => {
                Rest::Packed(Box::new(GzDecoder::new(packed.reader())))
            }
        };
        let pulse = Arc::clone(pulse);
        Sent { rest, left, pulse }
    }

    fn piece(&mut self) -> io::Result<Bytes> {
        match &mut self.rest {
            Rest::Parts(parts) => Ok(parts.find(|part| !part.is_empty()).unwrap_or_default()),
            Rest::Packed(unpacked) => {
                let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; most];
                unpacked.read_exact(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        let piece = body.piece()?;
        body.left -= piece.len() as u64;
        if body.left == 0 {
            lock(&body.pulse.state).more = false;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A header's values as one list, which is what several lines of it mean.
fn joined(request: &Request<Incoming>, name: header::HeaderName) -> Option<String> {
    let values: Vec<&str> = request
        .headers()
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn response(reply: Reply) -> Response<Content> {
    let mut builder = Response::builder()
        .status(reply.status)
        .header(header::CONTENT_TYPE, reply.content_type)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CACHE_CONTROL, "no-store");
    // hyper would add it, but not to every answer to HEAD.
    if !matches!(reply.status, 204 | 304) {
        builder = builder.header(header::CONTENT_LENGTH, reply.body.length());
    }
    if let Some(encoding) = reply.encoding {
        builder = builder.header(header::CONTENT_ENCODING, encoding);
    }
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(reply.body).unwrap_or_else(|error| {
        tracing::error!(%error, "a reply has a header that cannot be sent");
        let mut response = Response::new(Content::Parts(Vec::new()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_flags_spell_them() {
        for text in [
            ":7222",
            ":0",
            "127.0.0.1:0",
            "[::1]:9100",
            "0.0.0.0:7222",
            "[::]:80",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":",
            "7222",
            ":65536",
            ":+1",
            ":-1",
            "localhost:7222",
            "::1:9100",
            "[::1]",
            "1.2.3.4",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} is no address")),
                "{error}"
            );
        }
    }

    #[test]
    fn each_phase_has_its_deadline() {
        let limits = Limits::default();
        let pulse = Pulse::new();
        let mut state = lock(&pulse.state);
        assert_eq!(state.deadline(&limits), Some(state.since + limits.head));
        state.enter(Phase::Computing);
        assert_eq!(state.deadline(&limits), None);
        state.enter(Phase::Response);
        assert_eq!(state.deadline(&limits), Some(state.since + limits.response));
        state.enter(Phase::Idle);
        assert_eq!(state.deadline(&limits), Some(state.since + limits.idle));
    }

    #[test]
    fn the_stalest_makes_way_and_computations_last() {
        let mut connections = Connections::default();
        let start = Instant::now();
        for (id, phase, age) in [
            (0, Phase::Computing, 9),
            (1, Phase::Idle, 3),
            (2, Phase::Response, 5),
            (3, Phase::Computing, 1),
            (4, Phase::Head, 4),
            (5, Phase::Head, 8),
        ] {
            let pulse = Pulse::new();
            let mut state = lock(&pulse.state);
            state.phase = phase;
            state.unheeded = id == 5;
            state.progress = start + Duration::from_secs(10 - age);
            drop(state);
            connections.pulses.insert(id, Arc::new(pulse));
        }
        let mut order = Vec::new();
        while !connections.pulses.is_empty() {
            let before: Vec<u64> = connections.pulses.keys().copied().collect();
            connections.evict();
            order.extend(
                before
                    .into_iter()
                    .filter(|id| !connections.pulses.contains_key(id)),
            );
        }
        assert_eq!(order, [2, 4, 1, 0, 5, 3]);
        connections.evict();
    }

    #[test]
    fn a_reply_that_cannot_be_sent_is_a_500() {
        for reply in [
            Reply::text(42, ""),
            Reply::text(200, "").with_header("bad name", ""),
            Reply::text(200, "").with_header("x", "a\r\nset-cookie: b"),
        ] {
            assert_eq!(response(reply).status(), 500);
        }
    }
}
