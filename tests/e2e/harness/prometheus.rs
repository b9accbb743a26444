//! A real Prometheus and its promtool.

use std::fs;
use std::process::Command;
use std::time::Duration;

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
        let dir = temporary_directory();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": jobs.iter().map(|(job, port)| json!({
                "job_name": job,
                "honor_labels": true,
                "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
            })).collect::<Vec<_>>(),
        });
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
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
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

    /// What an instant query gives: labels and value of each series.
    #[track_caller]
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let encoded: String = expression
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let answer = http::get(self.port, &format!("/api/v1/query?query={encoded}"), &[]).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).expect("the query API writes JSON");
        assert_eq!(body["status"], "success", "{expression}: {body}");
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
