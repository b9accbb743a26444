//! A real Alertmanager with our example of a configuration, and what it sends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, temporary_directory};
use super::{eventually, free_port, http, parts, repository};

/// An alert in a notification.
#[derive(Clone, Debug)]
pub(crate) struct Notified {
    /// `/pages` or `/tickets`.
    pub(crate) receiver: String,
    /// `firing` or `resolved`.
    pub(crate) status: String,
    /// As Alertmanager has it: labels, annotations, startsAt and more.
    pub(crate) alert: Value,
}

impl Notified {
    /// A label, or nothing.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.alert["labels"][name].as_str().unwrap_or_default()
    }

    /// An annotation, or nothing.
    pub(crate) fn annotation(&self, name: &str) -> &str {
        self.alert["annotations"][name].as_str().unwrap_or_default()
    }
}

/// A running Alertmanager and the webhook behind it.
#[derive(Debug)]
pub(crate) struct Alertmanager {
    _process: Process,
    port: u16,
    received: Arc<Mutex<Vec<Notified>>>,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts one. It waits less than in the example before it sends, and is the same otherwise.
    pub(crate) fn start() -> Self {
        let received = Arc::default();
        let webhook = listen(Arc::clone(&received));
        let example = fs::read_to_string(repository("alerts/alertmanager.example.yaml")).unwrap();
        let mut config = example;
        for (from, to) in [
            ("127.0.0.1:9095", format!("127.0.0.1:{webhook}").as_str()),
            ("group_wait: 30s", "group_wait: 2s"),
            ("group_wait: 15s", "group_wait: 2s"),
            ("group_interval: 5m", "group_interval: 2s"),
        ] {
            assert!(config.contains(from), "the example has no {from}");
            config = config.replace(from, to);
        }
        let dir = temporary_directory();
        let file = dir.path().join("alertmanager.yaml");
        fs::write(&file, config).unwrap();
        let port = free_port();
        let mut process = Process::start(
            "alertmanager",
            Command::new(parts::alertmanager("alertmanager"))
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.path={}",
                    dir.path().join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address="),
            dir.path(),
        );
        eventually("alertmanager is ready", Duration::from_secs(30), || {
            process.check_alive();
            match http::get(port, "/-/ready", &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                _ => Err(process.log_tail()),
            }
        });
        Self {
            _process: process,
            port,
            received,
            _dir: dir,
        }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Tells it of alerts, as Prometheus does.
    pub(crate) fn post(&self, alerts: &Value) {
        let answer = http::post(self.port, "/api/v2/alerts", &alerts.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Every alert of every notification so far, in their order.
    pub(crate) fn received(&self) -> Vec<Notified> {
        self.received.lock().unwrap().clone()
    }
}

/// A webhook for the life of the test binary.
fn listen(received: Arc<Mutex<Vec<Notified>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let received = Arc::clone(&received);
            // Alertmanager keeps its connections; one that breaks is for it to open anew.
            thread::spawn(move || while take(&client, &received).is_some() {});
        }
    });
    port
}

/// One notification: the head up to the empty line, then as many bytes as it says.
fn take(mut client: &TcpStream, received: &Mutex<Vec<Notified>>) -> Option<()> {
    let mut input = BufReader::new(client);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let receiver = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        input.read_line(&mut line).ok()?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let alerts = body["alerts"].as_array()?.iter().map(|alert| Notified {
        receiver: receiver.clone(),
        status: alert["status"].as_str().unwrap_or_default().to_owned(),
        alert: alert.clone(),
    });
    received.lock().unwrap().extend(alerts);
    client
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .ok()
}
