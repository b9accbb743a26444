//! Every path that people and scripts ask, at full size: 150,000 pods, 20,000 bindings and 10,000 roles in
//! 2,000 namespaces. A page shows as much as it does of a small cluster, whatever is asked, and whoever
//! takes the whole report costs no memory for it. In a process of its own, so that its peak of memory is
//! that of the answers. `make face` prints what each takes, and how long the writer of the watches took
//! for a change meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop at what cannot happen, and prints its figures"
)]

#[path = "../benches/world/mod.rs"]
mod world;

use rbac_exporter::export::door::Door;
use rbac_exporter::export::http::{self, Limits, ListenAddress, Listener};
use rbac_exporter::export::metrics::About;
use rbac_exporter::export::process::Process;
use rbac_exporter::export::site::{Pages, Shared};
use rbac_exporter::ledger::Change;
use rbac_exporter::object::Object;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What came back. Of a long body no more than the beginning is kept: the memory that is measured is the
/// server's.
struct Answer {
    status: u16,
    beginning: Vec<u8>,
    bytes: usize,
    first_byte: Duration,
    whole: Duration,
}

/// A page is at most this long, and so much of a body is kept.
const PAGE: usize = 100_000;

fn ask(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    let begun = Instant::now();
    stream.write_all(ask.as_bytes()).unwrap();
    let mut kept = vec![0];
    stream.read_exact(&mut kept).unwrap();
    let first_byte = begun.elapsed();
    let mut received = 1;
    let mut piece = [0; 64 * 1024];
    loop {
        let n = stream.read(&mut piece).unwrap();
        if n == 0 {
            break;
        }
        received += n;
        // with room for a list of a thousand
        if kept.len() < 32 * PAGE {
            kept.extend_from_slice(&piece[..n]);
        }
    }
    let whole = begun.elapsed();
    let end = kept.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(kept[..end].to_vec()).unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        bytes: received - end,
        beginning: kept.split_off(end),
        first_byte,
        whole,
    }
}

/// A list of the API; entries are counted and not kept.
#[derive(Deserialize)]
struct Page {
    total: usize,
    #[serde(
        alias = "subjects",
        alias = "pods",
        alias = "roles",
        alias = "bindings",
        alias = "rules"
    )]
    entries: Vec<IgnoredAny>,
}

/// A server of the whole, and a thread that writes into the ledger as the writer does: fifty times a
/// second a pod has moved to another node.
struct Served {
    address: SocketAddr,
    waited: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    writer: Option<std::thread::JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start() -> Served {
        let (ledger, _) = world::fill(world::FULL);
        let shared = Arc::new(Shared::new(ledger));
        let about = About {
            version: "test".into(),
            revision: "test".into(),
            external_url: String::new(),
        };
        let pages = Arc::new(Pages::new(shared.clone(), about, "/metrics".into()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        let listener = Listener::bind(ListenAddress::At(([127, 0, 0, 1], 0).into())).unwrap();
        let address = listener.local_addr();
        runtime.spawn(http::serve(
            vec![listener],
            pages,
            Arc::new(Door::open()),
            // without optimisation four reports, one after the other, take longer than anybody waits
            Limits {
                queue: Duration::from_secs(300),
                ..Limits::default()
            },
            std::future::pending(),
        ));
        drop(inside);
        let (waited, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let writer = std::thread::spawn({
            let (waited, over) = (waited.clone(), over.clone());
            move || {
                let mut moved = 0;
                while !over.load(Ordering::Relaxed) {
                    moved += 1;
                    let Object::Pod(mut pod) = world::pod(7, world::FULL.namespaces, 0) else {
                        unreachable!("it is one");
                    };
                    pod.node = format!("node-{}", moved % 2);
                    let begun = Instant::now();
                    let mut ledger = shared.ledger.write().unwrap();
                    ledger.apply(Change::Upsert(Object::Pod(pod)));
                    ledger.settle();
                    drop(ledger);
                    let micros = begun.elapsed().as_micros() as u64;
                    waited.fetch_max(micros, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Served {
            address,
            waited,
            over,
            writer: Some(writer),
            _runtime: runtime,
        }
    }

    /// The answer with the median time, after its line of figures.
    fn measured(&self, path: &str, headers: &str) -> Answer {
        // without optimisation the figures mean nothing
        const RUNS: usize = if cfg!(debug_assertions) { 1 } else { 5 };
        self.waited.store(0, Ordering::Relaxed);
        let mut answers: Vec<Answer> = (0..RUNS)
            .map(|_| ask(self.address, path, headers))
            .collect();
        answers.sort_by_key(|a| a.first_byte);
        let middle = answers.swap_remove(RUNS / 2);
        let packed = if headers.is_empty() { "" } else { " (gzip)" };
        println!(
            "{:>10.1?} {:>10.1?} {:>10.1?} {:>11} {:>5} MB  {} {path}{packed}",
            middle.first_byte,
            middle.whole,
            Duration::from_micros(self.waited.load(Ordering::Relaxed)),
            middle.bytes,
            peak() >> 20,
            middle.status,
        );
        middle
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.writer.take().map(std::thread::JoinHandle::join);
    }
}

fn peak() -> u64 {
    Process::read().peak_resident_bytes.unwrap_or_default()
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// Pages for people: status and path.
const PAGES: [(u16, &str); 22] = [
    (200, "/"),
    (400, "/?x=1"),
    (200, "/namespaces"),
    (200, "/namespaces?limit=100&offset=1900"),
    (200, "/subjects"),
    (200, "/subjects?limit=100"),
    (400, "/subjects?limit=101"),
    (200, "/subjects?limit=100&offset=23000&sort=since"),
    (200, "/subjects?offset=18446744073709551615"),
    (200, "/subjects?priority=critical&status=open"),
    (
        200,
        "/subjects?text=7%2Fsa-1&namespace=ns-7&kind=ServiceAccount",
    ),
    (200, "/subjects?rule=pod-create&sort=name"),
    (200, "/subject?kind=ServiceAccount&namespace=ns-4&name=sa-4"),
    (200, "/subject?kind=ServiceAccount&namespace=ns-0&name=sa-0"),
    (404, "/subject?kind=User&name=nobody"),
    (404, "/subject?kind=User&name=nobody~0123abcd"),
    (200, "/pods"),
    (200, "/pods?limit=100&text=app-1"),
    (200, "/pods?by=pod&limit=100&sort=name&offset=149000"),
    (200, "/pods?priority=critical&has=token&namespace=ns-4"),
    (400, "/pods?has=x&by=y"),
    (200, "/rules"),
];

/// Lists of the API: path behind its root, entries at most.
const LISTS: [(&str, usize); 19] = [
    ("subjects", 100),
    ("subjects?limit=1000&sort=priority", 1000),
    ("subjects?limit=1000&offset=23500&sort=since", 500),
    ("subjects?priority=critical,high&status=open&text=NS-7", 100),
    ("subjects?text=no+such+name", 0),
    ("pods", 100),
    ("pods?limit=1000&sort=priority&offset=149500", 500),
    ("pods?namespace=ns-4&has=token&live=true", 100),
    ("pods?workload=app-7&workload_kind=Deployment", 100),
    ("pods?node=node-1&serviceaccount=sa-7", 100),
    ("pods?text=9%2Fapp&sort=priority&offset=9000", 100),
    ("pods?text=%00%F0%9F%92%A3%2F%2F%2F", 0),
    ("roles", 100),
    ("roles?limit=1000&priority=critical", 1000),
    ("roles?bound=false&wildcard=true", 100),
    ("bindings", 100),
    ("bindings?limit=1000&sort=priority", 1000),
    ("bindings?subject=sa:ns-4/sa-4&dangling=false", 100),
    ("rules?limit=1000", 1000),
];

/// What the API refuses: status, path.
const REFUSED: [(u16, &str); 12] = [
    (400, "subjects?limit=1001"),
    (400, "subjects?limit=1000&offset=-1"),
    (400, "pods?sort=since"),
    (400, "roles?bound=maybe"),
    (400, "bindings?subject=sa-4"),
    (400, "report?limit=1"),
    (404, "subjects/ServiceAccount/ns-4/nobody"),
    (404, "everything"),
    (400, "summary?x=1"),
    (400, "rules?rule=secrets-lits"),
    (400, "who-can?verb=get"),
    (400, "who-can?verb=get&resource=pods&path=%2F"),
];

/// Bytes of one entry of a list, at most.
const ENTRY: usize = 3_000;

#[test]
fn what_an_answer_costs_does_not_grow_with_the_cluster() {
    let served = &Served::start();
    let before = peak();
    println!(
        "{:>10} {:>10} {:>10} {:>11} {:>8}",
        "first byte", "whole", "writer", "bytes", "VmHWM"
    );
    for (status, path) in PAGES {
        let answer = served.measured(path, GZIP);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.bytes <= PAGE / 4, "{path}: {} packed", answer.bytes);
        let answer = served.measured(path, "");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.bytes <= PAGE, "{path}: {}", answer.bytes);
    }
    for (path, most) in LISTS {
        let answer = served.measured(&format!("/api/v1/{path}"), "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.bytes <= 500 + most * ENTRY,
            "{path}: {}",
            answer.bytes
        );
        let page: Page = serde_json::from_slice(&answer.beginning).unwrap();
        let shown = page.entries.len();
        assert!(shown <= most && shown <= page.total, "{path}: {shown}");
    }
    for (status, path) in REFUSED {
        let answer = served.measured(&format!("/api/v1/{path}"), "");
        assert_eq!(answer.status, status, "{path}");
        let problem: Value = serde_json::from_slice(&answer.beginning).unwrap();
        assert_eq!(problem["status"], status, "{path}: {problem}");
        assert!(answer.bytes <= 2_000, "{path}: {}", answer.bytes);
    }
    for path in [
        "summary",
        "subjects/ServiceAccount/ns-4/sa-4",
        "who-can?verb=get&resource=secrets&namespace=ns-7",
    ] {
        let answer = served.measured(&format!("/api/v1/{path}"), "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.bytes <= PAGE, "{path}: {}", answer.bytes);
    }
    // one entry a subject and namespace: as long as the answer, and no longer
    let path = "/api/v1/who-can?verb=list&resource=secrets&anywhere=true";
    let answer = served.measured(path, "");
    assert_eq!(answer.status, 200);
    assert!(answer.bytes <= 20_000 * ENTRY / 4, "{}", answer.bytes);

    // the one answer that has everything: never whole in memory, not for several at a time, either
    let report = "/api/v1/report";
    let plain = &served.measured(report, "");
    assert_eq!(plain.status, 200);
    assert!(plain.bytes > 40_000_000, "{}", plain.bytes);
    let change = Duration::from_micros(served.waited.load(Ordering::Relaxed));
    assert!(change < plain.whole / 2, "{change:?} of {:?}", plain.whole);
    // they stand in a line of their own, so that a page is there meanwhile
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let page = ask(served.address, "/subjects", "");
            assert_eq!(page.status, 200);
            assert!(page.whole < plain.whole, "{:?}", page.whole);
        });
        for headers in [GZIP, ""] {
            scope.spawn(move || {
                let answer = ask(served.address, report, headers);
                assert_eq!(answer.status, 200);
                match headers {
                    "" => assert_eq!(answer.bytes, plain.bytes),
                    _ => assert!(answer.bytes < plain.bytes / 10, "{}", answer.bytes),
                }
            });
        }
    });
    let more = peak() - before;
    println!(
        "at most {} MB more than before the first request",
        more >> 20
    );
    // of three reports, their clients and what the writer copied: less than one of them
    assert!(more < plain.bytes as u64, "{more}");
}
