//! A real Prometheus and its promtool.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Finished, Process, run, temporary_directory};
use super::{eventually, free_port, http, parts};

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes each port every half second as the job of that name.
    pub(crate) fn start(jobs: &[(&str, u16)]) -> Self {
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": jobs.iter().map(|(job, port)| json!({
                "job_name": job,
                "honor_labels": true,
                "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
            })).collect::<Vec<_>>(),
        });
        Self::configured(&config, &[])
    }

    /// Starts one with a configuration and flags of its own.
    pub(crate) fn configured(config: &Value, flags: &[&str]) -> Self {
        let dir = temporary_directory();
        let config_file = dir.path().join("prometheus.yml");
        fs::write(&config_file, config.to_string()).unwrap();
        let port = free_port();
        let mut process = Process::start(
            "prometheus",
            Command::new(parts::prometheus("prometheus"))
                .arg(format!("--config.file={}", config_file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    dir.path().join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(flags),
            dir.path(),
        );
        eventually("prometheus is ready", Duration::from_secs(30), || {
            process.check_alive();
            match http::get(port, "/-/ready", &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                _ => Err(process.log_tail()),
            }
        });
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// What an instant query gives: labels and value of each series.
    #[track_caller]
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let body = self.ask("query", &[("query", expression)]);
        let series = body["data"]["result"].as_array().expect("a vector").iter();
        series
            .map(|entry| {
                let value = entry["value"][1]
                    .as_str()
                    .and_then(|value| value.parse().ok());
                (entry["metric"].clone(), value.expect("a number"))
            })
            .collect()
    }

    /// How many series a query over the last `seconds` in 120 steps gives.
    #[track_caller]
    pub(crate) fn query_range(&self, expression: &str, seconds: f64) -> usize {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs_f64();
        let (start, end) = ((now - seconds).to_string(), now.to_string());
        let step = (seconds / 120.0).to_string();
        let asked = [
            ("query", expression),
            ("start", &start),
            ("end", &end),
            ("step", &step),
        ];
        let body = self.ask("query_range", &asked);
        body["data"]["result"].as_array().expect("a matrix").len()
    }

    #[track_caller]
    fn ask(&self, what: &str, asked: &[(&str, &str)]) -> Value {
        let encode = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect()
        };
        let asked: Vec<String> = asked
            .iter()
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        let path = format!("/api/v1/{what}?{}", asked.join("&"));
        let answer = http::get(self.port, &path, &[]).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).expect("the query API writes JSON");
        assert_eq!(body["status"], "success", "{asked:?}: {body}");
        body
    }

    /// The targets as Prometheus sees them.
    pub(crate) fn targets(&self) -> Vec<Value> {
        let answer = http::get(self.port, "/api/v1/targets?state=active", &[]).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["data"]["activeTargets"]
            .as_array()
            .expect("an array")
            .clone()
    }

    /// What it complained of.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.process
            .log()
            .lines()
            .filter(|line| {
                ["level=warn", "level=error"]
                    .iter()
                    .any(|level| line.to_lowercase().contains(level))
            })
            .map(str::to_owned)
            .collect()
    }
}

/// `promtool check metrics` of an exposition.
pub(crate) fn check_metrics(exposition: &str) -> Finished {
    run(
        Command::new(parts::prometheus("promtool")).args(["check", "metrics"]),
        exposition,
    )
}
