use crate::{bounded, told};
use rbac_exporter::export::door::Door;
use rbac_exporter::export::http::{Ask, Limits, Listener, Reply, Site, serve};
use serde_yaml::Value as Yaml;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Reads a web-config file, and opens the door that it asks for.
///
/// - What is refused is told with the name of the file, and without a hash of a password or a line of a key.
/// - Where another reading finds users, the door lets nobody in who shows no password.
/// - Where it finds a certificate, the door speaks TLS.
/// - What was taken is taken again.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = FILES.path().join("web.yaml");
    fs::write(&file, text).expect("a file");
    let door = bounded(data, 400, || Door::new(Some(&file), None));
    let door = match door {
        Err(error) => {
            let said = error.to_string();
            told(&said);
            assert!(said.contains("web.yaml"), "{said}");
            // the name of a file is said when it cannot be read
            let (said, files): (Vec<&str>, Vec<&str>) = said
                .lines()
                .partition(|line| !line.contains("failed to read "));
            let said = said.join("\n");
            for line in files {
                told(line);
            }
            let secret = secrets(text).find(|secret| said.contains(*secret));
            assert_eq!(secret, None, "{said}");
            return;
        }
        Ok(door) => door,
    };
    assert!(
        Door::new(Some(&file), None).is_ok(),
        "taken once and not twice"
    );
    if text.contains('&') {
        return; // where the name of an anchor ends, readers of YAML do not agree
    }
    let Ok(Some(tree)) = serde_yaml::from_str::<Option<Yaml>>(text) else {
        return;
    };
    let of = |block: &str, key: &str| {
        let value = tree.get(block)?.get(key)?.as_str()?;
        (!value.is_empty()).then_some(())
    };
    let certificate = of("tls_server_config", "cert_file").or(of("tls_server_config", "cert"));
    assert!(
        door.tls().is_some() || certificate.is_none(),
        "no TLS is spoken"
    );
    let users = tree.get("basic_auth_users").and_then(Yaml::as_mapping);
    if users.is_some_and(|users| !users.is_empty()) && door.tls().is_none() {
        let answer = ask(door);
        let status = answer.get(9..12).unwrap_or_default();
        assert!(matches!(status, "401" | "429"), "{answer}");
    }
}

/// What must not be told: words as long as hashes of passwords and lines of keys, which have no
/// underscore. What stands before a colon is a name.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || "\"',{}[]".contains(c));
    words.filter(|word| {
        word.len() >= 40 && !word.contains([':', '_']) && word.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// A directory with the certificates that the corpus names.
static FILES: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("names");
    let certificate = params.self_signed(&key).expect("a certificate");
    for (name, text) in [
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
});

struct Nothing;

impl Site for Nothing {
    fn health(&self, _: &str, _: &str) -> Option<Reply> {
        None
    }

    fn reply(&self, _: &Ask<'_>) -> Reply {
        Reply::text(200, "in")
    }
}

/// Asks for a page behind the door without a password.
fn ask(door: Door) -> String {
    let _inside = RUNTIME.enter();
    let local = SocketAddr::from(([127, 0, 0, 1], 0)).to_string();
    let listener = Listener::bind(local.parse().expect("an address")).expect("a port");
    let address = listener.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = RUNTIME.spawn(serve(
        vec![listener],
        Arc::new(Nothing),
        Arc::new(door),
        Limits::default(),
        async { stopped.await.unwrap_or_default() },
    ));
    let mut stream = TcpStream::connect(address).expect("the server");
    let patience = Some(Duration::from_secs(5));
    stream.set_read_timeout(patience).expect("a socket");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("the server");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    drop(stop);
    RUNTIME.block_on(served).expect("an end");
    answer
}
