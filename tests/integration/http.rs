//! The limits of the HTTP server, each on real sockets, each with a limit short enough to wait for.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use bytes::Bytes;
use rbac_exporter::export::door::Door;
use rbac_exporter::export::http::{
    Ask, Content, Limits, Line, ListenAddress, ListenError, Listener, Reply, Site, serve,
};
use rbac_exporter::export::negotiate::gzip;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// No single wait of a test lasts longer; what does not happen by then does not happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger than what the kernel's socket buffers take.
const LARGE: usize = 64 << 20;

/// A site with a path for each thing that can be slow, large or wrong.
#[derive(Default)]
struct Sample {
    gate: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    entered: AtomicUsize,
    large: std::sync::OnceLock<Bytes>,
    packed: std::sync::OnceLock<Bytes>,
}

fn unpacked(packed: Bytes, length: usize) -> Reply {
    let mut reply = Reply::text(200, "");
    reply.body = Content::Unpacked {
        packed,
        length: length as u64,
    };
    reply
}

/// An answer in parts, of which some are empty and some are more than the server buffers.
fn parts() -> Reply {
    let mut reply = Reply::text(200, "");
    let lengths = [0, 100_000, 1, 0, 70_000, 0];
    let part = |(n, length)| Bytes::from(vec![b'a' + n; length]);
    reply.body = Content::Parts((0..).zip(lengths).map(part).collect());
    reply
}

impl Sample {
    fn open(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn packed(&self) -> &Bytes {
        self.packed.get_or_init(|| gzip(&vec![0; LARGE]))
    }

    async fn wait_inside(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.inside.load(Ordering::SeqCst) < count {
            assert!(
                Instant::now() < deadline,
                "never {count} computations at once"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Site for Sample {
    fn health(&self, path: &str, _query: &str) -> Option<Reply> {
        (path == "/-/healthy").then(|| Reply::text(200, "healthy\n"))
    }

    fn reply(&self, ask: &Ask<'_>) -> Reply {
        match ask.path {
            "/ask" => Reply::text(200, format!("{ask:?}")).negotiated(),
            "/gated" | "/long" => {
                self.entered.fetch_add(1, Ordering::SeqCst);
                let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
                self.most_inside.fetch_max(inside, Ordering::SeqCst);
                // Not for ever, or a test that fails with the gate shut hangs.
                let gate = self.gate.lock().unwrap();
                drop(
                    self.opened
                        .wait_timeout_while(gate, PATIENCE, |open| !*open)
                        .unwrap(),
                );
                self.inside.fetch_sub(1, Ordering::SeqCst);
                Reply::text(200, "through\n")
            }
            "/large" => Reply::text(
                200,
                self.large
                    .get_or_init(|| Bytes::from(vec![b'x'; LARGE]))
                    .clone(),
            ),
            "/unpacked" => unpacked(self.packed().clone(), LARGE),
            "/little" => unpacked(gzip(&[b'x'; 200_000]), 200_000),
            "/parts" => parts(),
            "/empty" => Reply::text(200, ""),
            "/gzip" => Reply {
                encoding: Some("gzip"),
                ..Reply::text(200, "packed")
            },
            "/panic" => panic!("asked for"),
            path => Reply::text(404, format!("no {path}\n")),
        }
    }

    fn line(&self, path: &str) -> Line {
        match path {
            "/little" => Line::AtHand,
            "/long" => Line::Long,
            _ => Line::Computed,
        }
    }
}

/// A running server.
struct Running {
    at: SocketAddr,
    site: Arc<Sample>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<usize>,
}

impl Running {
    fn start(limits: Limits) -> Running {
        Running::listen("127.0.0.1:0", limits)
    }

    fn listen(address: &str, limits: Limits) -> Running {
        let listener = Listener::bind(address.parse().unwrap()).unwrap();
        let at = listener.local_addr();
        assert_ne!(at.port(), 0);
        let site = Arc::new(Sample::default());
        let (stop, stopped) = oneshot::channel();
        let door = Arc::new(Door::open());
        let served = tokio::spawn(serve(
            vec![listener],
            Arc::clone(&site),
            door,
            limits,
            async {
                let _ = stopped.await;
            },
        ));
        Running {
            at,
            site,
            stop,
            served,
        }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.at).await
    }

    /// One request on a connection of its own.
    async fn get(&self, path: &str) -> Answer {
        let mut client = self.connect().await;
        client
            .send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        client.answer().await
    }
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    async fn connect(at: SocketAddr) -> Client {
        Client {
            stream: TcpStream::connect(at).await.unwrap(),
            read: Vec::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `enough` says how much of what has arrived to take.
    async fn take(&mut self, enough: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        timeout(PATIENCE, async {
            loop {
                if let Some(end) = enough(&self.read) {
                    return self.read.drain(..end).collect();
                }
                let count = self.stream.read_buf(&mut self.read).await.unwrap();
                assert_ne!(
                    count,
                    0,
                    "closed after {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        })
        .await
        .expect("no answer")
    }

    async fn head(&mut self) -> Answer {
        let head = self
            .take(|read| {
                read.windows(4)
                    .position(|w| w == b"\r\n\r\n")
                    .map(|i| i + 4)
            })
            .await;
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head,
            body: Vec::new(),
        }
    }

    async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        answer.body = self
            .take(|read| (read.len() >= length).then_some(length))
            .await;
        answer
    }

    /// Waits for the server to close, in whichever way, and returns what came before.
    async fn closed(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        timeout(PATIENCE, async {
            while let Ok(1..) = self.stream.read_buf(&mut rest).await {}
        })
        .await
        .expect("not closed");
        rest
    }

    async fn is_open(&mut self) -> bool {
        self.send("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        self.answer().await.status == 200
    }
}

#[tokio::test]
async fn answers_carry_the_standard_headers() {
    let server = Running::start(Limits::default());
    for path in ["/-/healthy", "/ask", "/empty", "/nowhere"] {
        let answer = server.get(path).await;
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{path}"
        );
        assert!(answer.header("date").is_some(), "{path}");
        assert_eq!(answer.head.matches("content-length").count(), 1, "{path}");
    }
    assert_eq!(
        server.get("/ask").await.header("vary"),
        Some("Accept, Accept-Encoding")
    );
    assert_eq!(
        server.get("/gzip").await.header("content-encoding"),
        Some("gzip")
    );
    assert_eq!(server.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn the_site_is_asked_what_was_sent() {
    let server = Running::start(Limits::default());
    let mut client = server.connect().await;
    client
        .send(
            "GET /ask?who=a%20b&x HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n\
             Accept: */*;q=0.1\r\naccept-encoding: gzip\r\n\r\n",
        )
        .await;
    let asked = Ask {
        path: "/ask",
        query: "who=a%20b&x",
        accept: Some("text/plain, */*;q=0.1"),
        accept_encoding: Some("gzip"),
    };
    assert_eq!(client.answer().await.text(), format!("{asked:?}"));
    client
        .send("GET http://elsewhere/ask HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let asked = Ask {
        path: "/ask",
        query: "",
        accept: None,
        accept_encoding: None,
    };
    assert_eq!(client.answer().await.text(), format!("{asked:?}"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Running::start(Limits::default());
    for path in [
        "/-/healthy",
        "/gzip",
        "/empty",
        "/large",
        "/unpacked",
        "/parts",
        "/nowhere",
    ] {
        let mut client = server.connect().await;
        client
            .send(&format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let head = client.head().await;
        // The next answer begins right behind it.
        client
            .send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let get = client.answer().await;
        let without_date = |answer: &Answer| -> Vec<String> {
            answer
                .head
                .lines()
                .filter(|l| !l.starts_with("date"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(without_date(&head), without_date(&get), "{path}");
        assert_eq!(
            head.header("content-length"),
            Some(get.body.len().to_string().as_str())
        );
    }
}

#[tokio::test]
async fn other_methods_are_405() {
    let server = Running::start(Limits::default());
    for request in [
        "POST /ask",
        "DELETE /-/healthy",
        "OPTIONS *",
        "CONNECT a:1",
        "FROB /",
    ] {
        let mut client = server.connect().await;
        client
            .send(&format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD")),
            "{request}"
        );
    }
}

#[tokio::test]
async fn garbage_is_400() {
    let server = Running::start(Limits::default());
    for request in [
        "\u{16}\u{3}\u{1} hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        assert_eq!(client.answer().await.status, 400, "{request:?}");
        assert_eq!(client.closed().await, b"");
    }
}

#[tokio::test]
async fn a_large_head_is_431() {
    let server = Running::start(Limits {
        head_bytes: 2000,
        ..Limits::default()
    });
    for (sent, status) in [(1000, 404), (2500, 431), (100_000, 431)] {
        let mut client = server.connect().await;
        let padding = "x".repeat(sent);
        // Past the limit the client may be refused while it still sends.
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {padding}\r\n\r\n");
        let _ = client.stream.write_all(request.as_bytes()).await;
        assert_eq!(client.answer().await.status, status, "{sent}");
    }
    let mut client = server.connect().await;
    client
        .send(&format!(
            "GET /{} HTTP/1.1\r\nhost: x\r\n\r\n",
            "x".repeat(5000)
        ))
        .await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn bodies_are_ignored_or_refused() {
    let server = Running::start(Limits {
        body_bytes: 100,
        ..Limits::default()
    });
    for (request, status) in [
        (
            "GET /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
            200,
        ),
        (
            "GET /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n",
            200,
        ),
        (
            "GET /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n",
            200,
        ),
        (
            "POST /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
            405,
        ),
        (
            "GET /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 101\r\n\r\n",
            413,
        ),
        (
            "GET /-/healthy HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\n",
            413,
        ),
        (
            "GET /ask HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
            413,
        ),
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close")),
            "{request}"
        );
        drop(client.stream.shutdown().await);
        assert_eq!(client.closed().await, b"", "{request}");
    }

    // A client that sends all before it reads still learns why it was refused: nothing is reset.
    let mut client = server.connect().await;
    client
        .send("POST /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n")
        .await;
    for _ in 0..30 {
        client.send(&"x".repeat(10_000)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_follows_a_body_is_no_request() {
    let server = Running::start(Limits::default());
    let mut client = server.connect().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    client
        .send(&format!(
            "GET /ask HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{smuggled}{smuggled}",
            smuggled.len()
        ))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn connections_are_kept_and_requests_pipelined() {
    let server = Running::start(Limits {
        head: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut client = server.connect().await;
    assert!(client.is_open().await);
    // A rest longer than the time for a head does no harm.
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(client.is_open().await);
    let requests: String = (0..20)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nhost: x\r\n\r\n"))
        .collect();
    client.send(&requests).await;
    for i in 0..20 {
        assert_eq!(client.answer().await.text(), format!("no /{i}\n"));
    }
    client
        .send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let limit = Duration::from_millis(300);
    let server = Running::start(Limits {
        head: limit,
        ..Limits::default()
    });

    // One that sends nothing, one that drips, and one that drips on a connection that was fine.
    let start = Instant::now();
    let mut silent = server.connect().await;
    assert_eq!(silent.closed().await, b"");
    let took = start.elapsed();
    assert!((limit..PATIENCE / 2).contains(&took), "{took:?}");

    for kept in [false, true] {
        let mut client = server.connect().await;
        if kept {
            assert!(client.is_open().await);
        }
        let start = Instant::now();
        let mut drips = "GET / HTTP/1.1\r\nhost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".chars();
        loop {
            let drip = drips.next().expect("never cut").to_string();
            if client.stream.write_all(drip.as_bytes()).await.is_err() {
                break;
            }
            if let Ok(Ok(0) | Err(_)) = timeout(
                Duration::from_millis(20),
                client.stream.read_buf(&mut client.read),
            )
            .await
            {
                break;
            }
        }
        assert!(start.elapsed() >= limit, "{kept}");
        assert_eq!(client.read, b"");
    }
}

#[tokio::test]
async fn rest_between_requests_ends() {
    let server = Running::start(Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut client = server.connect().await;
    assert!(client.is_open().await);
    let start = Instant::now();
    assert_eq!(client.closed().await, b"");
    assert!(start.elapsed() >= Duration::from_millis(150));
}

/// A client whose receive buffer is small, so that what it does not read stays with the server.
async fn reluctant(at: SocketAddr, path: &str, requests: usize) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Client {
        stream: socket.connect(at).await.unwrap(),
        read: Vec::new(),
    };
    client
        .send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(requests))
        .await;
    client
}

#[tokio::test]
async fn a_response_not_taken_is_cut() {
    // Long enough that whoever does take it gets all of it on a busy machine too.
    let limit = Duration::from_secs(1);
    let server = Running::start(Limits {
        response: limit,
        ..Limits::default()
    });
    server.site.packed();
    for (path, pipelined) in [
        ("/large", 1),
        ("/large", 3),
        ("/unpacked", 1),
        ("/unpacked", 3),
    ] {
        let mut client = reluctant(server.at, path, pipelined).await;
        tokio::time::sleep(limit + Duration::from_millis(200)).await;
        // What was under way is thrown away with a reset, not offered for ever.
        let mut taken = 0;
        let end = timeout(PATIENCE, async {
            let mut chunk = vec![0; 65536];
            loop {
                match client.stream.read(&mut chunk).await {
                    Ok(0) => break Ok(taken),
                    Ok(count) => taken += count,
                    Err(error) => break Err(error.kind()),
                }
            }
        })
        .await
        .expect("not cut");
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
        assert!(taken < LARGE, "{taken}");
    }
    // One that takes it in time gets all of it, and can ask again.
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body.len(), LARGE);
    // What is unpacked on the way has an end too, after which the connection is at rest.
    client.send("GET /little HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.body, [b'x'; 200_000]);
    client.send("GET /parts HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let Content::Parts(parts) = parts().body else {
        panic!("it is in parts");
    };
    assert!(client.answer().await.body == parts.concat());
    tokio::time::sleep(limit + Duration::from_millis(200)).await;
    assert!(client.is_open().await);
    client.send("GET /empty HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn at_the_limit_the_stalest_connection_makes_way() {
    let server = Running::start(Limits {
        connections: 3,
        ..Limits::default()
    });
    let mut computing = server.connect().await;
    computing
        .send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    server.site.wait_inside(1).await;
    let mut stale = server.connect().await;
    assert!(stale.is_open().await);
    let mut fresh = server.connect().await;
    assert!(fresh.is_open().await);

    // Idle for longest goes first; one that waits for the site, though older, stays.
    let mut new = server.connect().await;
    assert!(new.is_open().await);
    assert_eq!(stale.closed().await, b"");
    assert!(fresh.is_open().await);
    let mut newer = server.connect().await;
    assert!(newer.is_open().await);
    assert_eq!(new.closed().await, b"");

    server.site.open();
    assert_eq!(computing.answer().await.text(), "through\n");
}

#[tokio::test]
async fn a_client_that_takes_its_response_is_not_stale() {
    let server = Running::start(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut taking = reluctant(server.at, "/large", 1).await;
    taking.head().await;
    let mut idle = server.connect().await;
    assert!(idle.is_open().await);
    let taken = taking
        .take(|read| (read.len() >= LARGE / 4).then_some(read.len()))
        .await
        .len();

    let mut new = server.connect().await;
    assert!(new.is_open().await);
    assert_eq!(idle.closed().await, b"");
    taking
        .take(|read| (taken + read.len() >= LARGE).then_some(read.len()))
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_costs_nothing() {
    let server = Running::start(Limits {
        computations: 1,
        ..Limits::default()
    });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
        server.site.wait_inside(1).await;
        clients.push(client);
    }
    // Its end has to be read before the gate opens; a health answer shows that the loop went round.
    clients.truncate(1);
    for _ in 0..10 {
        assert_eq!(server.get("/-/healthy").await.status, 200);
    }
    server.site.open();
    // The queue is served in order, so whoever still stood in it went first.
    assert_eq!(server.get("/ask").await.status, 200);
    assert_eq!(server.site.entered.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn slow_clients_do_not_keep_a_scrape_out() {
    let server = Running::start(Limits {
        connections: 64,
        ..Limits::default()
    });
    let mut crowd = Vec::new();
    for i in 0..300 {
        if i % 2 == 0 {
            crowd.push(reluctant(server.at, "/large", 1).await);
        } else {
            let mut client = server.connect().await;
            client.send("GET / HT").await;
            crowd.push(client);
        }
        if i % 50 == 0 {
            assert_eq!(server.get("/ask").await.status, 200);
        }
    }
    assert_eq!(server.get("/ask").await.status, 200);
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn computations_are_bounded_and_health_is_not() {
    let limits = Limits {
        computations: 2,
        queue: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Running::start(limits);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
        clients.push(client);
    }
    server.site.wait_inside(2).await;

    assert_eq!(server.get("/-/healthy").await.status, 200);
    let refused = server.get("/gated").await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("5"))
    );
    // What is at hand stands in no line with them.
    assert_eq!(server.get("/little").await.status, 200);

    // A client that left still occupies its place: the computation goes on.
    drop(clients.pop());
    assert_eq!(server.get("/gated").await.status, 503);

    server.site.open();
    assert_eq!(clients[0].answer().await.text(), "through\n");
    assert_eq!(server.get("/gated").await.text(), "through\n");
    assert_eq!(server.site.most_inside.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_takes_long_holds_up_its_like_alone() {
    let server = Running::start(Limits {
        queue: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut client = server.connect().await;
    client.send("GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.site.wait_inside(1).await;
    assert_eq!(server.get("/long").await.status, 503);
    assert_eq!(server.get("/ask").await.status, 200);
    assert_eq!(server.get("/little").await.status, 200);
    server.site.open();
    assert_eq!(client.answer().await.text(), "through\n");
}

#[tokio::test]
async fn a_panic_is_a_500() {
    let server = Running::start(Limits {
        computations: 1,
        ..Limits::default()
    });
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 500);
    client.send("GET /ask HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight() {
    let server = Running::start(Limits::default());
    let mut untouched = server.connect().await;
    let mut idle = server.connect().await;
    assert!(idle.is_open().await);
    let mut busy = server.connect().await;
    busy.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.site.wait_inside(1).await;

    server.stop.send(()).unwrap();
    assert_eq!(idle.closed().await, b"");
    assert_eq!(untouched.closed().await, b"");
    assert!(TcpStream::connect(server.at).await.is_err());
    assert!(!server.served.is_finished());

    server.site.open();
    let answer = busy.answer().await;
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("through\n", Some("close"))
    );
    assert_eq!(busy.closed().await, b"");
    assert_eq!(timeout(PATIENCE, server.served).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = Running::start(Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut busy = server.connect().await;
    busy.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.site.wait_inside(1).await;
    let slow = reluctant(server.at, "/large", 1).await;
    let mut head = vec![0; 8];
    timeout(PATIENCE, slow.stream.readable())
        .await
        .unwrap()
        .unwrap();
    assert!(slow.stream.try_read(&mut head).is_ok());

    server.stop.send(()).unwrap();
    assert_eq!(timeout(PATIENCE, server.served).await.unwrap().unwrap(), 2);
    assert_eq!(busy.closed().await, b"");
    server.site.open();
}

#[tokio::test]
async fn everywhere_means_both_families() {
    let server = Running::listen(":0", Limits::default());
    let port = server.at.port();
    let mut v4 = Client::connect(([127, 0, 0, 1], port).into()).await;
    assert!(v4.is_open().await);
    // Where the host has no IPv6 the server is on IPv4 alone, and says so by its address.
    if server.at.is_ipv6() {
        let mut v6 = Client::connect(format!("[::1]:{port}").parse().unwrap()).await;
        assert!(v6.is_open().await);
    }
}

#[tokio::test]
async fn one_server_listens_on_several_addresses() {
    let listeners: Vec<Listener> = ["127.0.0.1:0", "127.0.0.1:0"]
        .map(|address| Listener::bind(address.parse().unwrap()).unwrap())
        .into();
    let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
    let (stop, stopped) = oneshot::channel::<()>();
    let site = Arc::new(Sample::default());
    let door = Arc::new(Door::open());
    let served = tokio::spawn(serve(listeners, site, door, Limits::default(), async {
        let _ = stopped.await;
    }));
    for at in addresses {
        assert!(Client::connect(at).await.is_open().await);
    }
    stop.send(()).unwrap();
    assert_eq!(timeout(PATIENCE, served).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn addresses_that_cannot_be_listened_on() {
    let taken = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = taken.local_addr().port();
    for address in [
        ListenAddress::At(taken.local_addr()),
        ListenAddress::Everywhere(port),
    ] {
        let error = Listener::bind(address).unwrap_err();
        assert!(matches!(error, ListenError::InUse(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the port is in use; stop what uses it or choose another port"
            )
        );
    }
    // TEST-NET-1 belongs to nobody.
    let error = Listener::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, ListenError::NotHere(_)), "{error:?}");
}

/// Runs itself anew with few descriptors, since the limit holds for a whole process.
#[test]
#[cfg(unix)]
fn out_of_descriptors_the_server_goes_on() {
    const INSIDE: &str = "RBAC_EXPORTER_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                "ulimit -n 40 && exec \"$0\" --exact \"$1\" --nocapture",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg("http::out_of_descriptors_the_server_goes_on")
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{log}"
        );
        assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");
        return;
    }

    rbac_exporter::log::init(&"warn".parse().unwrap(), Default::default()).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let limits = Limits {
                accept_pause: Duration::from_millis(10),
                ..Limits::default()
            };
            let server = Running::start(limits);
            let mut first = server.connect().await;
            assert!(first.is_open().await);
            // Clients' descriptors count as well; the kernel connects those that are not accepted.
            let mut crowd = Vec::new();
            while let Ok(stream) = TcpStream::connect(server.at).await {
                crowd.push(stream);
            }
            // The stalest connection was given up to serve a newer one.
            assert_eq!(first.closed().await, b"");
            drop((first, crowd));
            assert_eq!(server.get("/ask").await.status, 200);
            server.stop.send(()).unwrap();
            server.served.await.unwrap();
        });
}
