//! Clients that are slow, broken, greedy or many; and beside them the watch, the scrape and the memory.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::harness::exporter::Exporter;
use crate::harness::process::temporary_directory;
use crate::harness::world::World;

/// More than the exporter has connections for.
const CROWD: usize = 1000;

/// Half of the scrapes take this at most, on machines that are busy with much else too; what they do take
/// is printed, beside what they take alone.
const GENEROUS: Duration = Duration::from_secs(2);

/// An event is in `/metrics` by then; how soon it was is printed.
const SEEN: Duration = Duration::from_secs(5);

/// How much more memory a debug build may hold at its peak than it held before anybody came.
const MARGIN: u64 = 64 << 20;

// === the exporter and those who mean well

/// An exporter, and how one speaks to it.
struct Target {
    exporter: Exporter,
    at: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    runtime: Runtime,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(
    at: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(at).await?;
    Ok(match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(config.clone());
            Box::new(connector.connect(name, stream).await?)
        }
    })
}

/// One scrape on a connection of its own; the text, or what went wrong.
async fn scrape(at: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<String, String> {
    let whole = async {
        let mut stream = connect(at, tls).await?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(Duration::from_secs(10), whole).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") && answer.contains("\nrbac_exporter_complete 1\n") {
        Ok(answer)
    } else {
        Err(answer.chars().take(300).collect())
    }
}

/// Scrapes that go on until they are asked for.
struct Scrapes {
    stop: Arc<AtomicBool>,
    took: JoinHandle<(Vec<Duration>, usize)>,
}

/// How long scrapes took, and how many were lost: a connection that is a moment older than five hundred
/// others that come at once makes way for them.
struct Took {
    count: usize,
    lost: usize,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Took {
            count,
            lost,
            p50,
            p99,
        } = self;
        write!(
            f,
            "{count} scrapes, {lost} lost, p50 {p50:.1?}, p99 {p99:.1?}"
        )
    }
}

impl Target {
    fn new(exporter: Exporter, tls: Option<Arc<ClientConfig>>) -> Target {
        Target {
            at: SocketAddr::from((Ipv4Addr::LOCALHOST, exporter.port())),
            exporter,
            tls,
            runtime: Runtime::new().unwrap(),
        }
    }

    fn scrapes(&self) -> Scrapes {
        let stop = Arc::new(AtomicBool::new(false));
        let (at, tls, stopped) = (self.at, self.tls.clone(), stop.clone());
        let took = self.runtime.spawn(async move {
            let (mut took, mut lost) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                match scrape(at, tls.as_ref()).await {
                    Ok(_) => took.push(start.elapsed()),
                    Err(why) if why.contains("reset") => lost += 1,
                    Err(why) => panic!("{why}"),
                }
                sleep(Duration::from_millis(50)).await;
            }
            (took, lost)
        });
        Scrapes { stop, took }
    }

    fn ended(&self, scrapes: Scrapes) -> Took {
        scrapes.stop.store(true, Ordering::Relaxed);
        let (mut took, lost) = self.runtime.block_on(scrapes.took).unwrap();
        took.sort_unstable();
        Took {
            count: took.len(),
            lost,
            p50: took[took.len() / 2],
            p99: took[took.len() * 99 / 100],
        }
    }

    /// Its highest resident memory so far.
    fn peak(&mut self) -> u64 {
        let status = format!("/proc/{}/status", self.exporter.process().id());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        1024 * kilobytes.unwrap().trim().parse::<u64>().unwrap()
    }

    /// Makes somebody an administrator and waits until a scrape says so.
    fn event(&self, world: &World, name: &str) -> Duration {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        world.admin().post(path, &binding).unwrap();
        let start = Instant::now();
        let series = format!("name=\"{name}\",priority=\"critical\"");
        self.runtime.block_on(async {
            while !scrape(self.at, self.tls.as_ref())
                .await
                .is_ok_and(|text| text.contains(&series))
            {
                assert!(start.elapsed() < SEEN, "{name} is not seen");
                sleep(Duration::from_millis(10)).await;
            }
        });
        start.elapsed()
    }

    /// What a crowd does to those who mean well: an event becomes visible meanwhile, scrapes are served,
    /// and memory stays below what it was at first and a margin.
    fn beside(
        &mut self,
        world: &World,
        what: &str,
        first: u64,
        crowd: impl FnOnce(&Target) -> String,
    ) {
        let scrapes = self.scrapes();
        // a stage that is over at once would prove little
        sleep_for(Duration::from_secs(1));
        let name = what.replace(' ', "-");
        let (outcome, seen) = std::thread::scope(|scope| {
            let at = &*self;
            let event = scope.spawn(move || {
                sleep_for(Duration::from_secs(1));
                at.event(world, &name)
            });
            let outcome = crowd(at);
            (outcome, event.join().unwrap())
        });
        let took = self.ended(scrapes);
        let peak = self.peak();
        println!(
            "{what}: {outcome}; {took}; an event seen after {seen:.1?}; peak memory {:.1} MB, {:+.1}",
            peak as f64 / 1e6,
            (peak - first) as f64 / 1e6,
        );
        assert!(took.p50 <= GENEROUS, "{what}: {took}");
        assert!(took.lost * 20 <= took.count, "{what}: {took}");
        assert!(
            peak <= first + MARGIN,
            "{what}: {first} bytes before, {peak} after"
        );
        self.exporter.process().check_alive();
    }
}

fn sleep_for(time: Duration) {
    std::thread::sleep(time);
}

// === those who do not

/// A client whose receive buffer is small, so that what it does not read stays with the server.
async fn reluctant(at: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(at).await
}

/// Waits until the other end has reset the connection or closed it; nothing of what it sent is read.
async fn given_up(stream: &TcpStream) {
    let closed = |stream: &TcpStream| {
        let failed = SockRef::from(stream)
            .take_error()
            .is_ok_and(|e| e.is_some());
        // sent bytes meet a reset when the other end is gone
        failed || stream.try_write(b"").is_err()
    };
    while !closed(stream) {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Each was let for as long as wanted; says how long that was.
fn all_closed(let_for: &[Duration], wanted: std::ops::Range<Duration>) -> String {
    assert!(let_for.iter().all(|d| wanted.contains(d)), "{let_for:?}");
    let (least, most) = (let_for.iter().min().unwrap(), let_for.iter().max().unwrap());
    format!(
        "{} clients closed after {least:.1?} to {most:.1?}",
        let_for.len()
    )
}

/// Asks for more than the kernel's buffers take, and takes nothing of it. How long each was let.
fn never_reading(target: &Target) -> JoinSet<Duration> {
    let mut crowd = JoinSet::new();
    for n in 0..40 {
        let at = target.at;
        let (path, times) = match n % 10 {
            0 => ("/api/v1/report", 30),
            _ => ("/metrics", 300),
        };
        crowd.spawn_on(
            async move {
                let mut stream = reluctant(at).await.unwrap();
                let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(times);
                let start = Instant::now();
                // what does not fit either is not sent in the end
                let _ = stream.write_all(ask.as_bytes()).await;
                given_up(&stream).await;
                start.elapsed()
            },
            target.runtime.handle(),
        );
    }
    crowd
}

/// Everything there is, asked for by many at once and again and again.
fn reports(target: &Target) -> String {
    let at = target.at;
    let bytes: usize = target.runtime.block_on(async {
        let mut crowd = JoinSet::new();
        for _ in 0..40 {
            crowd.spawn(async move {
                let mut bytes = 0;
                for _ in 0..3 {
                    let mut stream = TcpStream::connect(at).await.unwrap();
                    let ask =
                        b"GET /api/v1/report HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                    stream.write_all(ask).await.unwrap();
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).await.unwrap();
                    assert!(answer.starts_with(b"HTTP/1.1 200"));
                    bytes += answer.len();
                }
                bytes
            });
        }
        crowd.join_all().await.into_iter().sum()
    });
    format!("40 clients read 120 reports, {} MB", bytes >> 20)
}

/// 10,000 requests that are none, each on a connection of its own; how many were answered how.
fn broken(target: &Target) -> String {
    let long = "a".repeat(20 << 10);
    let many: String = (0..300).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let heads: Arc<Vec<Vec<u8>>> = Arc::new(
        [
            "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n: no name\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nna me: x\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nx: a\0b\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nx: a\r\n folded\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nx: bare\rreturn\r\n\r\n",
            "GET /metrics HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "GET /metrics HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "GET /metrics HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
            "GET /metrics HTTP/9.9\r\n\r\n",
            "GET  /metrics  HTTP/1.1\r\n\r\n",
            "GET /met rics HTTP/1.1\r\n\r\n",
            "G\u{e9}T /metrics HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n",
            &format!("GET /metrics HTTP/1.1\r\nx: {long}\r\n\r\n"),
            &format!("GET /{long} HTTP/1.1\r\n\r\n"),
            &format!("GET /metrics HTTP/1.1\r\n{many}\r\n"),
        ]
        .map(|head| head.as_bytes().to_vec())
        .into(),
    );
    let at = target.at;
    target.runtime.block_on(async {
        let mut crowd = JoinSet::new();
        for lane in 0..50 {
            let heads = heads.clone();
            crowd.spawn(async move {
                let mut refused = 0;
                for n in 0..200 {
                    let head = &heads[(lane * 200 + n) % heads.len()];
                    let whole = async {
                        let mut stream = TcpStream::connect(at).await.unwrap();
                        let _ = stream.write_all(head).await;
                        let mut answer = Vec::new();
                        let _ = stream.read_to_end(&mut answer).await;
                        answer
                    };
                    let answer = timeout(Duration::from_secs(10), whole).await.unwrap();
                    let good =
                        answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 505");
                    let shown = answer.escape_ascii().to_string();
                    assert!(
                        good || answer.is_empty(),
                        "{shown} to {}",
                        head.escape_ascii()
                    );
                    refused += usize::from(good);
                }
                refused
            });
        }
        let refused: usize = crowd.join_all().await.into_iter().sum();
        assert!(refused > 9000, "{refused}");
        format!("10000 broken requests, {refused} refused with a status, the others cut")
    })
}

/// Sends bodies of a gigabyte, announced, in pieces and as a header without end.
fn greedy(target: &Target) -> String {
    const GIGABYTE: usize = 1 << 30;
    let at = target.at;
    let one = |head: &'static str, piece: Vec<u8>, expected: &'static [u8]| async move {
        let start = Instant::now();
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let answer = tokio::spawn(async move {
            let mut answer = Vec::new();
            let _ = from.read_to_end(&mut answer).await;
            answer
        });
        let mut sent = 0;
        if to.write_all(head.as_bytes()).await.is_ok() {
            while sent < GIGABYTE && to.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
        }
        drop(to);
        let answer = timeout(Duration::from_secs(10), answer)
            .await
            .unwrap()
            .unwrap();
        let shown = answer.escape_ascii().to_string();
        assert!(answer.starts_with(expected), "{shown} to {head}");
        format!("{} MB in {:.1?}", sent >> 20, start.elapsed())
    };
    target.runtime.block_on(async {
        let announced = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n";
        let chunked = "GET /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        let piece = vec![b'x'; 1 << 16];
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend_from_slice(&piece);
        chunk.extend_from_slice(b"\r\n");
        let first = one(announced, piece.clone(), b"HTTP/1.1 413").await;
        let second = one(chunked, chunk, b"HTTP/1.1 413").await;
        let third = one("GET /metrics HTTP/1.1\r\nx: ", piece, b"HTTP/1.1 431").await;
        format!("a body of 1 GB announced was taken for {first}, in pieces for {second}, a header for {third}")
    })
}

/// Keeps [`CROWD`] connections busy with next to nothing for some seconds; who is closed comes again.
fn crowded<F>(target: &Target, seconds: u64, one: impl Fn(usize, SocketAddr) -> F) -> String
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let mut crowd = JoinSet::new();
    for n in 0..CROWD {
        let client = one(n, target.at);
        let come = async move {
            // one after the other, as many as the exporter has connections for in a second and a half
            sleep(Duration::from_millis(3 * n as u64)).await;
            client.await
        };
        crowd.spawn_on(come, target.runtime.handle());
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut again = 0;
    target.runtime.block_on(async {
        while let Ok(Some(_)) = timeout(
            until.saturating_duration_since(Instant::now()),
            crowd.join_next(),
        )
        .await
        {
            again += 1;
            let client = one(again, target.at);
            crowd.spawn(async move {
                sleep(Duration::from_secs(1)).await;
                client.await
            });
        }
    });
    format!("{CROWD} clients for {seconds} s, {again} times one was closed and came again")
}

/// A client that drips its head in, or that asks and does not take the answer.
async fn slow(n: usize, at: SocketAddr) -> std::io::Result<()> {
    let mut stream = reluctant(at).await?;
    if n.is_multiple_of(2) {
        stream
            .write_all(
                "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
                    .repeat(50)
                    .as_bytes(),
            )
            .await?;
        given_up(&stream).await;
        return Ok(());
    }
    for byte in b"GET /metrics HTTP/1.1\r\nx: "
        .iter()
        .chain(std::iter::repeat(&b'x'))
    {
        stream.write_all(&[*byte]).await?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

#[test]
fn clients_that_mean_no_good_cost_the_others_nothing() {
    let world = World::bare();
    let exporter = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    let mut target = Target::new(exporter, None);
    let alone = target.scrapes();
    sleep_for(Duration::from_secs(2));
    println!("alone: {}", target.ended(alone));
    let first = target.peak();

    let greedy_ones = never_reading(&target);
    target.beside(&world, "broken headers", first, broken);
    target.beside(&world, "bodies without end", first, greedy);
    target.beside(&world, "answers never read", first, |target| {
        let let_for = target.runtime.block_on(greedy_ones.join_all());
        // the first answers fit into the kernel's buffers; the time is that of the one that does not
        all_closed(&let_for, Duration::from_secs(29)..Duration::from_secs(60))
    });
    target.beside(&world, "many reports", first, reports);
    target.beside(&world, "slow clients", first, |target| {
        crowded(target, 15, slow)
    });
}

// === the same before TLS has begun

/// The first message of a handshake.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Begins a handshake, by nothing, by half of its first message or by all of it, and does not go on.
async fn unfinished(n: usize, at: SocketAddr, hello: Arc<Vec<u8>>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at).await?;
    let begun = [0, hello.len() / 2, hello.len()][n % 3];
    stream.write_all(&hello[..begun]).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Certificate and web-config in a directory, and who trusts them.
fn over_tls(dir: &Path) -> Arc<ClientConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    let web_config = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n";
    fs::write(dir.join("web.yaml"), web_config).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn handshakes_that_never_end_cost_the_others_nothing() {
    let world = World::bare();
    let dir = temporary_directory();
    let config = over_tls(dir.path());
    let web = dir.path().join("web.yaml");
    let args = ["--web.config.file", web.to_str().unwrap()];
    let kubeconfig = world.exporter_kubeconfig(world.port());
    let exporter = Exporter::launch(&args, Some(&kubeconfig));
    let mut target = Target::new(exporter, Some(config.clone()));
    let start = Instant::now();
    while target
        .runtime
        .block_on(scrape(target.at, Some(&config)))
        .is_err()
    {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            target.exporter.process().log()
        );
        sleep_for(Duration::from_millis(50));
    }
    let alone = target.scrapes();
    sleep_for(Duration::from_secs(2));
    println!("alone: {}", target.ended(alone));
    let first = target.peak();

    let hello = Arc::new(hello(&config));
    let begun = hello.clone();
    target.beside(&world, "unfinished handshakes", first, |target| {
        let let_for: Vec<Duration> = target.runtime.block_on(async {
            let mut few = JoinSet::new();
            for n in 0..200 {
                let (at, hello) = (target.at, begun.clone());
                few.spawn(async move {
                    let start = Instant::now();
                    // the end is a reset where something was sent that was not read
                    let _ = unfinished(n, at, hello).await;
                    start.elapsed()
                });
            }
            few.join_all().await
        });
        all_closed(
            &let_for,
            Duration::from_millis(4900)..Duration::from_secs(9),
        )
    });
    target.beside(&world, "a crowd that shakes no hands", first, |target| {
        crowded(target, 15, |n, at| unfinished(n, at, hello.clone()))
    });
}
