use crate::queries::demo;
use rbac_exporter::export::door::Door;
use rbac_exporter::export::http::{Limits, Listener, serve};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Sends bytes over a socket to the server of the demo cluster, behind the end of a head so that there is
/// something to answer. The first byte says after how many of them there is a pause.
///
/// - There is an answer, and not for want of the rest of a head.
/// - It begins as one of HTTP/1.1 does, with a status that there is, and has its headers and no more of a
///   body than it announces.
/// - The next client is served.
pub fn run(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else {
        return;
    };
    SERVER.runtime.block_on(async {
        let answer = timeout(PATIENCE, exchange(*cut, bytes)).await;
        let answer = answer.expect("an answer in time");
        checked(&answer);
        let next = timeout(PATIENCE, exchange(0, b"GET /nothing HTTP/1.1")).await;
        let next = next.expect("an answer in time");
        assert!(next.starts_with(b"HTTP/1.1 404"), "{}", next.escape_ascii());
    });
}

/// For one answer; below the time for a head, so that what ends by that is seen to have none.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the server, which takes longer than any input.
pub fn ready() {
    LazyLock::force(&SERVER);
}

struct Server {
    runtime: Runtime,
    address: SocketAddr,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let address = {
        let _inside = runtime.enter();
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = listener.local_addr();
        let site = Arc::new(demo());
        let door = Arc::new(Door::open());
        let limits = Limits {
            head: 3 * PATIENCE,
            ..Limits::default()
        };
        runtime.spawn(serve(
            vec![listener],
            site,
            door,
            limits,
            std::future::pending(),
        ));
        address
    };
    Server { runtime, address }
});

async fn exchange(cut: u8, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SERVER.address)
        .await
        .expect("the server");
    // without it the ports of this machine are used up after some seconds
    stream.set_zero_linger().expect("a socket");
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let (line, rest) = bytes.split_at(line.len());
    let mut all = line.to_vec();
    // an empty line before a request is passed over, and with it there would be nothing to answer
    if line.trim_ascii().is_empty() {
        all.extend_from_slice(b"-");
    }
    all.extend_from_slice(b"\r\nconnection: close\r\n");
    all.extend_from_slice(rest.trim_ascii_start());
    all.extend_from_slice(b"\r\n\r\n");
    let (first, second) = all.split_at(usize::from(cut).min(all.len()));
    // the server may have refused by then
    if stream.write_all(first).await.is_ok() && !second.is_empty() {
        if !first.is_empty() {
            tokio::task::yield_now().await;
        }
        let _ = stream.write_all(second).await;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return answer,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
        if whole(&answer) {
            return answer;
        }
    }
}

/// Head and body of an answer.
fn parts(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
    Some((head, &answer[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else {
        return false;
    };
    let length = header(head, "content-length").and_then(|n| n.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

fn checked(answer: &[u8]) {
    let shown = || answer[..answer.len().min(300)].escape_ascii().to_string();
    let (head, body) = parts(answer).unwrap_or_else(|| panic!("no answer: {}", shown()));
    let version = head.starts_with("HTTP/1.1 ") || head.starts_with("HTTP/1.0 ");
    assert!(version, "{}", shown());
    let status = head.get(9..12).unwrap_or_default();
    let known = [
        "200", "400", "404", "405", "413", "414", "431", "503", "505",
    ];
    assert!(known.contains(&status), "{}", shown());
    let length: Option<usize> = header(head, "content-length").and_then(|n| n.parse().ok());
    if let Some(length) = length {
        // less of it is what an answer to HEAD has
        assert!(body.len() <= length, "{}", shown());
    }
    // what hyper refuses by itself has nothing but its status
    if !matches!(status, "400" | "414" | "431" | "505") {
        assert_eq!(
            header(head, "x-content-type-options"),
            Some("nosniff"),
            "{}",
            shown()
        );
        assert_eq!(
            header(head, "cache-control"),
            Some("no-store"),
            "{}",
            shown()
        );
    }
}
