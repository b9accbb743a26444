//! Man-in-the-middle servers: one that slows a connection down, one that changes what is asked for, proxies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::caller;

/// Passes bytes on to a port, slowly on the way back until it is told otherwise.
///
/// It knows nothing of TLS or HTTP, so what it delays is what a slow network delays.
#[derive(Debug)]
pub(crate) struct SlowRelay {
    port: u16,
    slow: Arc<AtomicBool>,
}

impl SlowRelay {
    /// Bytes that pass at once, and the pause after them: an answer of 100 kB takes a second.
    const PIECE: usize = 2048;
    const PAUSE: Duration = Duration::from_millis(20);

    /// Listens before it returns.
    pub(crate) fn start(to: u16) -> Self {
        let slow = Arc::new(AtomicBool::new(true));
        let relay_slow = Arc::clone(&slow);
        let port = serve(move |client| tunnel(client, to, Some(&relay_slow)));
        Self { port, slow }
    }

    /// Where to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on bytes pass at once.
    pub(crate) fn full_speed(&self) {
        self.slow.store(false, Ordering::Relaxed);
    }
}

/// Passes bytes on to a port in both directions.
fn tunnel(client: TcpStream, to: u16, slow: Option<&AtomicBool>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pump(from_client, to_server, None));
    pump(server, client, slow);
    Ok(())
}

/// Passes bytes on from a listener to a port, for the life of the test binary.
pub(crate) fn pass_on(listener: TcpListener, to: u16) {
    serve_on(listener, move |client| tunnel(client, to, None));
}

/// Copies until either side ends; then both hear of it, as they would without us.
fn pump(mut from: TcpStream, mut to: TcpStream, slow: Option<&AtomicBool>) {
    let mut buffer = [0; 64 * 1024];
    loop {
        let is_slow = slow.is_some_and(|slow| slow.load(Ordering::Relaxed));
        let room = if is_slow {
            SlowRelay::PIECE
        } else {
            buffer.len()
        };
        match from.read(&mut buffer[..room]) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => {}
            _ => break,
        }
        if is_slow {
            thread::sleep(SlowRelay::PAUSE);
        }
    }
    // Either may be closed by now, which is what is wanted.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// Passes HTTP requests on to a port, asking for the text format whatever the client asked for.
///
/// Prometheus 2.42 always prefers OpenMetrics; this is how a real one comes to read the other.
pub(crate) fn start_text_relay(to: u16) -> u16 {
    serve(move |mut client| {
        let mut request = String::new();
        let mut lines = BufReader::new(client.try_clone()?);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let name = line
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            match name.as_str() {
                // One request a connection keeps this free of the length of answers.
                "accept" => request.push_str("Accept: text/plain;version=0.0.4\r\n"),
                "connection" => {}
                "\r\n" => break,
                _ => request.push_str(&line),
            }
        }
        request.push_str("Connection: close\r\n\r\n");
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
        server.write_all(request.as_bytes())?;
        io::copy(&mut server, &mut client)?;
        Ok(())
    })
}

/// What a proxy was asked for, one entry a connection.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// An HTTP proxy that tunnels to a port, whatever host it is asked for, and tells which ones were.
pub(crate) fn start_proxy(to: u16) -> (u16, Asked) {
    let asked = Asked::default();
    let hosts = Arc::clone(&asked);
    let port = serve(move |mut client| {
        // Byte by byte, as what follows the empty line is not ours.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&head)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        hosts.lock().unwrap().push(line);
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        tunnel(client, to, None)
    });
    (port, asked)
}

/// A SOCKS5 proxy, RFC 1928, without authentication, that tunnels to a port, whatever name it is asked for.
pub(crate) fn start_socks(to: u16) -> (u16, Asked) {
    let asked = Asked::default();
    let hosts = Arc::clone(&asked);
    let port = serve(move |mut client| {
        let mut two = [0; 2];
        client.read_exact(&mut two)?;
        client.read_exact(&mut vec![0; usize::from(two[1])])?;
        client.write_all(&[5, 0])?;
        // version, CONNECT, reserved, a name follows, its length
        let mut head = [0; 5];
        client.read_exact(&mut head)?;
        let mut name = vec![0; usize::from(head[4])];
        client.read_exact(&mut name)?;
        let mut port = [0; 2];
        client.read_exact(&mut port)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let asked = format!("{:?} {name}:{}", &head[..4], u16::from_be_bytes(port));
        hosts.lock().unwrap().push(asked);
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        tunnel(client, to, None)
    });
    (port, asked)
}

/// TLS in front of a port, with a certificate of its own for these names; the port and the certificate.
pub(crate) fn start_tls(to: u16, names: &[&str]) -> (u16, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = caller::runtime();
    let port = serve(move |client| {
        client.set_nonblocking(true)?;
        runtime.block_on(async {
            let client = acceptor.accept(tokio::net::TcpStream::from_std(client)?);
            let mut client = client.await?;
            let mut server = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            Ok(())
        })
    });
    (port, own.cert.pem())
}

/// Serves each connection on a thread of its own, for the life of the test binary.
fn serve(handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    serve_on(listener, handle);
    port
}

fn serve_on(
    listener: TcpListener,
    handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) {
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            // A connection that breaks is for the two ends to notice.
            thread::spawn(move || drop(handle(client)));
        }
    });
}
