//! Who is let in: web-config files as Prometheus' exporters take them.

use crate::command::{Server, demo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rbac_exporter::export::door::Door;
use rbac_exporter::export::http::{Ask, Limits, Listener, Reply, Site, serve};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A hash of `secret` at the lowest cost that there is.
fn cheap() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

struct Pages;

impl Site for Pages {
    fn health(&self, path: &str, _: &str) -> Option<Reply> {
        (path == "/-/healthy").then(|| Reply::text(200, "alive\n"))
    }

    fn reply(&self, ask: &Ask<'_>) -> Reply {
        match ask.path {
            "/large" => Reply::text(200, vec![b'x'; LARGE]),
            _ => Reply::text(200, "inside\n"),
        }
    }
}

/// Larger than what the buffers of kernel and TLS take.
const LARGE: usize = 16 << 20;

/// A server behind a door, with its files.
struct House {
    dir: TempDir,
    at: SocketAddr,
    authority: CertifiedIssuer<'static, KeyPair>,
    _stop: oneshot::Sender<()>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate with these names and its key, PEM.
fn certificate(by: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> (String, String) {
    let mut params = CertificateParams::default();
    for name in names {
        let san = match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names.push(san);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

impl House {
    /// Serves behind the web-config, beside which lie `server.crt`, `server.key` and `ca.crt`.
    fn open(web_config: &str) -> House {
        House::with(web_config, Limits::default())
    }

    fn with(web_config: &str, limits: Limits) -> House {
        let dir = TempDir::new().unwrap();
        let authority = authority("authority");
        let (certificate, key) = certificate(&authority, &["localhost"]);
        fs::write(dir.path().join("server.crt"), certificate).unwrap();
        fs::write(dir.path().join("server.key"), key).unwrap();
        fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        let file = dir.path().join("web.yml");
        fs::write(&file, web_config).unwrap();
        let door = Arc::new(Door::new(Some(&file), None).unwrap());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let following = door.clone();
        tokio::spawn(async move { following.follow().await });
        tokio::spawn(serve(
            vec![listener],
            Arc::new(Pages),
            door,
            limits,
            async {
                let _ = stopped.await;
            },
        ));
        House {
            dir,
            at,
            authority,
            _stop: stop,
        }
    }

    fn write(&self, name: &str, text: &str) {
        // As an editor does it: never half a file under the name.
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// A TLS connection that trusts the house's authority, with a certificate of its own or without.
    async fn tls(
        &self,
        own: Option<(String, String)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_to(self.at, own, versions).await
    }

    /// The same to another server with the house's certificates.
    async fn tls_to(
        &self,
        at: SocketAddr,
        own: Option<(String, String)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, TcpStream::connect(at).await?).await
    }
}

/// What comes back on a connection: status, and everything as text. Status 0 when it was cut.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return (0, String::new());
    }
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
        }
        let text = String::from_utf8_lossy(&got);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if length.is_some_and(|n| body.len() >= n.parse().unwrap()) {
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&got).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or(0), text)
}

fn basic(user: &str, password: &str) -> String {
    let pair = BASE64.encode(format!("{user}:{password}"));
    format!("authorization: Basic {pair}\r\n")
}

async fn status(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> u16 {
    ask(stream, path, "").await.0
}

const TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";

#[tokio::test]
async fn tls_from_the_version_that_is_asked_for() {
    let house = House::open(TLS);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = house.tls(None, &[version]).await.unwrap();
        assert_eq!(status(&mut stream, "/metrics").await, 200);
        assert_eq!(
            status(&mut stream, "/-/healthy").await,
            200,
            "the connection is kept"
        );
    }
    let mut plain = house.plain().await;
    assert_eq!(
        status(&mut plain, "/metrics").await,
        0,
        "no plain HTTP behind TLS"
    );

    let house = House::open(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS13}",
    );
    assert!(house.tls(None, &[&rustls::version::TLS12]).await.is_err());
    let mut stream = house.tls(None, &[&rustls::version::TLS13]).await.unwrap();
    assert_eq!(status(&mut stream, "/metrics").await, 200);

    let house = House::open(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, max_version: TLS12, \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256], curve_preferences: [CurveP384]}",
    );
    let stream = house.tls(None, rustls::ALL_VERSIONS).await.unwrap();
    let (_, session) = stream.get_ref();
    let suite = session.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(
        format!("{suite:?}"),
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    );
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(format!("{group:?}"), "secp384r1");
}

/// The first message of a handshake.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(RootCertStore::empty());
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::new(config.with_no_client_auth());
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Reads until the server closes, by an end or a reset.
async fn closed(mut stream: impl AsyncRead + Unpin) -> usize {
    let mut buffer = vec![0; 1 << 16];
    let mut taken = 0;
    let end = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            taken += count;
        }
    };
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, end).await.expect("not cut");
    taken
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_and_makes_way() {
    let head = Duration::from_millis(400);
    let limits = Limits {
        head,
        ..Limits::default()
    };
    let house = House::with(TLS, limits);
    let hello = hello();
    // nothing, half of the first message, and all of it without a second
    for begun in [0, hello.len() / 2, hello.len()] {
        let start = Instant::now();
        let mut stream = house.plain().await;
        stream.write_all(&hello[..begun]).await.unwrap();
        closed(stream).await;
        assert!(start.elapsed() >= head, "{:?}", start.elapsed());
    }
    // dripping does not prolong it
    let start = Instant::now();
    let (read, mut write) = house.plain().await.into_split();
    let dripping = tokio::spawn(async move {
        for byte in hello {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    closed(read).await;
    let took = start.elapsed();
    assert!(took >= head && took < 20 * head, "{took:?}");
    dripping.abort();

    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let house = House::with(TLS, limits);
    let silent = house.plain().await;
    let mut kept = house.tls(None, rustls::ALL_VERSIONS).await.unwrap();
    assert_eq!(status(&mut kept, "/metrics").await, 200);
    let mut new = house.tls(None, rustls::ALL_VERSIONS).await.unwrap();
    assert_eq!(status(&mut new, "/metrics").await, 200);
    closed(silent).await;
    assert_eq!(
        status(&mut kept, "/metrics").await,
        200,
        "it was not the stalest"
    );
}

#[tokio::test]
async fn a_response_not_taken_is_cut_through_tls_too() {
    let response = Duration::from_millis(600);
    let limits = Limits {
        response,
        ..Limits::default()
    };
    let house = House::with(TLS, limits);
    let mut stream = house.tls(None, rustls::ALL_VERSIONS).await.unwrap();
    let ask = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    tokio::time::sleep(response + Duration::from_millis(300)).await;
    let taken = closed(stream).await;
    assert!(taken < LARGE, "{taken}");
    // who takes it has it
    let mut stream = house.tls(None, rustls::ALL_VERSIONS).await.unwrap();
    let (got, text) = ask_large(&mut stream).await;
    assert_eq!((got, text), (200, LARGE));
}

/// The status and how much there was of the body.
async fn ask_large(stream: &mut TlsStream<TcpStream>) -> (u16, usize) {
    let ask = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    let end = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&got[9..12]).unwrap();
    (status.parse().unwrap(), got.len() - end - 4)
}

/// The first line of the log that holds `part`.
fn first(server: &Server, part: &str) -> String {
    let log = server.log();
    let line = log.lines().find(|line| line.contains(part));
    line.unwrap_or_default().to_owned()
}

/// Every refusal of a web-config has its status and one line of the log, which tells who, where and why,
/// and no password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_a_status_and_a_line() {
    let house = House::open("");
    let file = house.dir.path().join("web.yml");
    let flags = ["--web.config.file", file.to_str().unwrap()];
    let of = |text: &str| {
        house.write("web.yml", text);
        let server = Server::with(Path::new(demo()), &flags);
        (server.address().parse::<SocketAddr>().unwrap(), server)
    };
    let line = |server: &Server, reason: &str, more: &str| {
        let reason = match reason.contains(' ') {
            true => format!("reason=\"{reason}\""),
            false => format!("reason={reason}"),
        };
        let start = Instant::now();
        while server.said(&reason) == 0 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.said(&reason), 1, "{reason}: {}", server.log());
        let said = first(server, &reason);
        assert!(said.contains("msg=\"request refused\""), "{said}");
        assert!(said.contains("client=127.0.0.1:"), "{said}");
        assert!(said.contains(more), "{said}");
    };

    // --- users, rate, heads
    let (at, server) = of(&format!("basic_auth_users: {{alice: '{}'}}", cheap()));
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(status(&mut stream, "/api/v1/report").await, 401);
    line(&server, "no user and password", "path=/api/v1/report");
    let wrong = basic("alice", "hunter2");
    for _ in 0..3 {
        let (got, text) = ask(&mut stream, "/metrics", &wrong).await;
        assert_eq!(got, 401);
        assert!(text.contains("www-authenticate: Basic"), "{text}");
    }
    line(&server, "wrong user or password", "detail=alice");
    for path in [
        "//metrics",
        "/-/healthy/../metrics",
        "/%6detrics",
        "/-/healthy%00",
    ] {
        assert_eq!(status(&mut stream, path).await, 401, "{path}");
    }
    let large = format!("x-large: {}\r\n", "a".repeat(32 << 10));
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut stream, "/metrics", &large).await.0, 431);
    line(&server, "head of the request too large", "");
    assert_eq!(server.said("hunter2") + server.said(&cheap()[..7]), 0);
    drop(server);

    let (at, server) = of("rate_limit: {interval: 1h, burst: 1}");
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(status(&mut stream, "/metrics").await, 200);
    assert_eq!(status(&mut stream, "/metrics").await, 429);
    line(&server, "rate limit", "path=/metrics");
    drop(server);
}

/// The same of client certificates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_certificates_have_a_line() {
    let house = House::open("");
    let file = house.dir.path().join("web.yml");
    house.write(
        "web.yml",
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
         client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus]}",
    );
    let server = Server::listening(
        Path::new(demo()),
        &["--web.config.file", file.to_str().unwrap()],
    );
    let at: SocketAddr = server.address().parse().unwrap();
    let versions = rustls::ALL_VERSIONS;
    let own = certificate(&house.authority, &["prometheus"]);
    let mut stream = house.tls_to(at, Some(own), versions).await.unwrap();
    // it reads its input before it answers
    while status(&mut stream, "/metrics").await == 503 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(&mut stream, "/metrics").await, 200);
    assert_eq!(server.said("request refused"), 0);

    let mut stream = house.tls_to(at, None, versions).await.unwrap();
    assert_eq!(status(&mut stream, "/metrics").await, 401);
    let reason = "reason=\"no client certificate\"";
    server.until(Duration::from_secs(5), |s| s.said(reason) > 0);

    // Whoever shows a wrong one is refused by TLS itself, before there is a request to answer.
    let foreign = authority("foreign");
    let wrong = [
        certificate(&foreign, &["prometheus"]),
        certificate(&house.authority, &["other"]),
    ];
    for wrong in wrong {
        let got = match house.tls_to(at, Some(wrong), versions).await {
            Ok(mut stream) => status(&mut stream, "/metrics").await,
            Err(_) => 0,
        };
        assert_eq!(got, 0);
    }
    let reason = "reason=\"TLS handshake failed\"";
    server.until(Duration::from_secs(5), |s| s.said(reason) > 0);
    let said = first(&server, reason);
    // said once in ten seconds, and told why and who
    assert_eq!(server.said(reason), 1);
    assert!(said.contains("detail=\"invalid peer certificate"), "{said}");
    assert!(said.contains("client=127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn client_certificates() {
    let files = "cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt";
    let foreign = authority("foreign");
    let versions = rustls::ALL_VERSIONS;
    for (kind, without, foreigners) in [
        ("RequireAndVerifyClientCert", 401, 0),
        ("VerifyClientCertIfGiven", 200, 0),
        ("RequireAnyClientCert", 401, 200),
        ("RequestClientCert", 200, 200),
    ] {
        let house = House::open(&format!(
            "tls_server_config: {{{files}, client_auth_type: {kind}}}"
        ));
        let own = certificate(&house.authority, &["prometheus"]);
        let mut stream = house.tls(Some(own), versions).await.unwrap();
        assert_eq!(status(&mut stream, "/metrics").await, 200, "{kind}");
        let mut stream = house.tls(None, versions).await.unwrap();
        assert_eq!(
            status(&mut stream, "/metrics").await,
            without,
            "{kind}, without"
        );
        let mut stream = house.tls(None, versions).await.unwrap();
        assert_eq!(
            status(&mut stream, "/-/healthy").await,
            200,
            "{kind}, a probe"
        );
        let wrong = certificate(&foreign, &["prometheus"]);
        let got = match house.tls(Some(wrong), versions).await {
            Ok(mut stream) => status(&mut stream, "/metrics").await,
            Err(_) => 0,
        };
        assert_eq!(got, foreigners, "{kind}, of another authority");
    }

    let house = House::open(&format!(
        "tls_server_config: {{{files}, client_auth_type: RequireAndVerifyClientCert, \
         client_allowed_sans: [prometheus, 192.0.2.7, 'spiffe://x/prometheus']}}"
    ));
    for (names, expected) in [
        (&["prometheus"][..], 200),
        (&["other", "prometheus"], 200),
        (&["192.0.2.7"], 200),
        (&["spiffe://x/prometheus"], 200),
        (&["other"], 0),
        (&["*.prometheus"], 0),
        (&["192.0.2.8"], 0),
        (&["spiffe://x/other"], 0),
        (&[], 0),
    ] {
        let own = certificate(&house.authority, names);
        let got = match house.tls(Some(own), versions).await {
            Ok(mut stream) => status(&mut stream, "/metrics").await,
            Err(_) => 0,
        };
        assert_eq!(got, expected, "{names:?}");
    }
}

#[tokio::test]
async fn users_and_their_passwords() {
    let house = House::open(&format!(
        "basic_auth_users: {{alice: '{}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny, \
         Strict-Transport-Security: max-age=1}}}}",
        cheap()
    ));
    let mut stream = house.plain().await;
    for (headers, expected) in [
        (String::new(), 401),
        (basic("alice", "secret"), 200),
        (basic("alice", "secret"), 200),
        (basic("alice", "wrong"), 401),
        (basic("alice", ""), 401),
        (basic("bob", "secret"), 401),
        (basic("", ""), 401),
        ("authorization: Basic !!!\r\n".to_owned(), 401),
        (basic("alice", "secret").replace("Basic", "Bearer"), 401),
    ] {
        for path in [
            "/metrics",
            "/",
            "/api/v1/report",
            "/-/healthy/..",
            "/-/healthy%2f",
            "//-/healthy",
        ] {
            let (got, text) = ask(&mut stream, path, &headers).await;
            assert_eq!(got, expected, "{path} {headers}");
            assert_eq!(
                text.contains("www-authenticate: Basic"),
                got == 401,
                "{text}"
            );
            assert!(text.contains("x-frame-options: deny"), "{text}");
            assert!(
                text.contains("strict-transport-security: max-age=1"),
                "{text}"
            );
        }
        let (got, _) = ask(&mut stream, "/-/healthy", &headers).await;
        assert_eq!(got, 200);
    }
}

#[tokio::test]
async fn the_rate_that_is_set() {
    let house = House::open("rate_limit: {interval: 1h, burst: 3}");
    let mut stream = house.plain().await;
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(status(&mut stream, "/metrics").await);
    }
    assert_eq!(got, [200, 200, 200, 429, 429]);
    assert_eq!(status(&mut stream, "/-/healthy").await, 200);
}

/// Asks until the answer is `expected`.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !check().await {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn files_are_read_again_and_no_scrape_is_lost() {
    let house = House::open(TLS);
    let versions = rustls::ALL_VERSIONS;
    let served = async |house: &House| {
        let stream = house.tls(None, versions).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
    };
    let mut kept = house.tls(None, versions).await.unwrap();
    let before = served(&house).await.unwrap();

    // First only the certificate, which then does not fit the key: the pair before stays.
    let (certificate, key) = certificate(&house.authority, &["localhost"]);
    house.write("server.crt", &certificate);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(served(&house).await.unwrap(), before);
    house.write("server.key", &key);
    let new = CertificateDer::from_pem_slice(certificate.as_bytes())
        .unwrap()
        .to_vec();
    until("the new certificate is served", async || {
        assert_eq!(
            status(&mut kept, "/metrics").await,
            200,
            "the old connection"
        );
        let mut fresh = house.tls(None, versions).await.unwrap();
        assert_eq!(
            status(&mut fresh, "/metrics").await,
            200,
            "a new connection"
        );
        served(&house).await.unwrap() == new
    })
    .await;

    // A broken file, then none, then a user.
    house.write("web.yml", "tls_server_config: {cert_fil: server.crt}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(served(&house).await.unwrap(), new);
    fs::remove_file(house.dir.path().join("web.yml")).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(served(&house).await.unwrap(), new);
    house.write(
        "web.yml",
        &format!("{TLS}basic_auth_users: {{alice: '{}'}}", cheap()),
    );
    until("users are asked", async || {
        status(&mut kept, "/metrics").await == 401
    })
    .await;
    let (got, _) = ask(&mut kept, "/metrics", &basic("alice", "secret")).await;
    assert_eq!(got, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_do_not_hold_up_those_who_know() {
    // the cost that the documentation of the exporter-toolkit suggests
    let hash = bcrypt::hash("secret", 10).unwrap();
    let house = Arc::new(House::open(&format!(
        "basic_auth_users: {{alice: '{hash}'}}"
    )));
    let mut scraper = house.plain().await;
    let right = basic("alice", "secret");
    assert_eq!(ask(&mut scraper, "/metrics", &right).await.0, 200);
    let guessing: Vec<_> = (0..32)
        .map(|guesser| {
            let house = Arc::clone(&house);
            tokio::spawn(async move {
                let mut stream = house.plain().await;
                let mut got = [0, 0];
                for n in 0..15 {
                    let wrong = basic("alice", &format!("{guesser}-{n}"));
                    match ask(&mut stream, "/metrics", &wrong).await.0 {
                        401 => got[0] += 1,
                        429 => got[1] += 1,
                        other => panic!("{other}"),
                    }
                }
                got
            })
        })
        .collect();
    let mut took = Vec::new();
    while !guessing.iter().all(tokio::task::JoinHandle::is_finished) {
        let start = Instant::now();
        assert_eq!(ask(&mut scraper, "/metrics", &right).await.0, 200);
        took.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort();
    let mut sum = [0, 0];
    for guesser in guessing {
        let [wrong, busy] = guesser.await.unwrap();
        sum = [sum[0] + wrong, sum[1] + busy];
    }
    println!(
        "{} wrong passwords compared, {} turned away; {} scrapes meanwhile, p50 {:.1?}, p99 {:.1?}",
        sum[0],
        sum[1],
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    assert_eq!(sum[0] + sum[1], 480);
    assert!(sum[1] > 0, "nobody was turned away");
}

/// What is said of a web-config that lies in a directory with the usual files.
fn complaint(text: &str) -> Result<(), String> {
    let dir = TempDir::new().unwrap();
    let authority = authority("authority");
    let (certificate, key) = certificate(&authority, &["localhost"]);
    fs::write(dir.path().join("server.crt"), &certificate).unwrap();
    fs::write(dir.path().join("server.key"), &key).unwrap();
    fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
    fs::write(
        dir.path().join("other.key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let file = dir.path().join("web.yml");
    fs::write(&file, text).unwrap();
    let place = format!("{}/", dir.path().display());
    let said = Door::new(Some(&file), None).map(|_| ());
    said.map_err(|error| error.to_string().replace(&place, ""))
}

#[test]
fn what_cannot_be_used_is_refused_with_a_sentence() {
    let tls = |rest: &str| {
        format!("tls_server_config: {{cert_file: server.crt, key_file: server.key, {rest}}}")
    };
    for (text, expected) in [
        (
            "tls_server_config: {cert_file: server.crt}".to_owned(),
            "missing one of key or key_file",
        ),
        (
            "tls_server_config: {key_file: server.key}".to_owned(),
            "missing one of cert or cert_file",
        ),
        (
            "tls_server_config: {cert_file: gone, key_file: server.key}".to_owned(),
            "failed to read cert_file (gone): No such file",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: other.key}".to_owned(),
            "failed to load X509KeyPair",
        ),
        (
            "tls_server_config: {cert_file: empty, key_file: server.key}".to_owned(),
            "there is no certificate in cert or cert_file",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: empty}".to_owned(),
            "there is no private key",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: \"-----BEGIN\\nMIIB\"}"
                .to_owned(),
            "key_file: names a file; the text itself goes into key",
        ),
        (
            tls("min_version: TLS10"),
            "min_version: TLS10 cannot be spoken here, only TLS12 and TLS13",
        ),
        (tls("min_version: TLS14"), "unknown TLS version: \"TLS14\""),
        (
            tls("min_version: TLS13, max_version: TLS12"),
            "min_version is above max_version",
        ),
        (
            tls("cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]"),
            "cannot be chosen here; these can: TLS_ECDHE",
        ),
        (
            tls("cipher_suites: [TLS_FOO]"),
            "unknown cipher: \"TLS_FOO\"",
        ),
        (
            tls("curve_preferences: [CurveP521]"),
            "cannot be had here; these can: X25519",
        ),
        (tls("curve_preferences: [CurveP257]"), "unknown curve"),
        (
            tls("client_auth_type: Perhaps"),
            "invalid ClientAuth: \"Perhaps\"",
        ),
        (
            tls("client_ca_file: ca.crt"),
            "client CA's have been configured without a Client Auth Policy",
        ),
        (
            tls("client_auth_type: RequireAndVerifyClientCert"),
            "needs client_ca_file or client_ca",
        ),
        (
            tls("client_auth_type: RequireAndVerifyClientCert, client_ca_file: empty"),
            "there is no certificate in client_ca",
        ),
        (
            tls("client_allowed_sans: [a]"),
            "client_allowed_sans requires client_auth_type",
        ),
        (
            tls("client_auth_type: RequireAnyClientCert, client_allowed_sans: [a@b.example]"),
            "is an e-mail address",
        ),
        (tls("client_auth_typ: NoClientCert"), "client_auth_typ"),
        ("tls_server_confg: {}".to_owned(), "tls_server_confg"),
        (
            "basic_auth_users: {alice: secret}".to_owned(),
            "basic_auth_users: \"alice\": not a bcrypt hash",
        ),
        ("basic_auth_users: [alice]".to_owned(), "line 1"),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}".to_owned(),
            "Expected one of: [\"deny\", \"sameorigin\"], but got: \"allow\"",
        ),
        (
            "http_server_config: {headers: {X-Other: a}}".to_owned(),
            "HTTP header \"X-Other\" can not be configured",
        ),
        (
            "rate_limit: {interval: often, burst: 1}".to_owned(),
            "rate_limit.interval: \"often\" is no duration",
        ),
        ("tls_server_config: [".to_owned(), "line 1"),
        (
            "basic_auth_users: {}\nbasic_auth_users: {}".to_owned(),
            "basic_auth_users",
        ),
    ] {
        let said = complaint(&text).expect_err(&text);
        assert!(
            said.starts_with("web.yml: ") && said.contains(expected),
            "{text}: {said}"
        );
    }
    // A password that was not hashed is not repeated in a log.
    let said = complaint("basic_auth_users: {alice: hunter2}").unwrap_err();
    assert!(!said.contains("hunter2"), "{said}");
    // Nor a hash or a key that stands in the wrong place.
    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";
    const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
    for text in [
        format!("basic_auth_users: {{'alice:{HASH}': x}}"),
        format!("basic_auth_users: {{'{HASH}': alice}}"),
        format!("rate_limit: {{burst: '{HASH}'}}"),
        format!("rate_limit: {{interval: '{HASH}'}}"),
        format!("tls_server_config: '{KEY}'"),
        format!("tls_server_config: {{cert_file: server.crt, key_file: \"{KEY}\\n{KEY}\"}}"),
        format!("http_server_config: {{headers: {{'{HASH}': x}}}}"),
        format!("http_server_config: {{headers: {{X-Frame-Options: '{HASH}'}}}}"),
    ] {
        let said = complaint(&text).expect_err(&text);
        assert!(!said.contains(HASH) && !said.contains(KEY), "{said}");
    }
    let both =
        complaint("tls_server_config: {client_auth_type: Perhaps}\nrate_limit: {interval: x}");
    assert_eq!(
        both.unwrap_err().lines().count(),
        4,
        "everything that is wrong"
    );
}

#[test]
fn what_exporters_take_is_taken() {
    let inline = |name: &str, file: &str| {
        let text = fs::read_to_string(file).unwrap();
        let lines: String = text.lines().map(|l| format!("    {l}\n")).collect();
        format!("  {name}: |\n{lines}")
    };
    let dir = TempDir::new().unwrap();
    let made = authority("inline");
    let (certificate, key) = certificate(&made, &["localhost"]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(Path::new(&path("c")), certificate).unwrap();
    fs::write(Path::new(&path("k")), key).unwrap();
    let text = format!(
        "tls_server_config:\n{}{}",
        inline("cert", &path("c")),
        inline("key", &path("k"))
    );
    for text in [
        "",
        "{}",
        "tls_server_config: {}",
        "basic_auth_users:\n  # nobody yet\n",
        "http_server_config: {http2: true}",
        "http_server_config: {http2: false, headers: {Content-Security-Policy: '', X-XSS-Protection: '1'}}",
        "rate_limit: {interval: 0, burst: 0}",
        "tls_server_config: {cert_file: server.crt, key_file: server.key, prefer_server_cipher_suites: false}",
        &text,
    ] {
        complaint(text).unwrap_or_else(|said| panic!("{text}: {said}"));
    }
}
