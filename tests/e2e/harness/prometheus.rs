//! A real Prometheus and its promtool.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Finished, Process, run, temporary_directory};
use super::{eventually, free_port, http, parts, repository};

/// How one is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Jobs, each with the ports it scrapes.
    pub(crate) jobs: Vec<(&'static str, Vec<u16>)>,
    /// Evaluates the files of `alerts/rules`, every second, and tells the Alertmanager on this port.
    pub(crate) rules: Option<u16>,
    /// The external label `cluster`.
    pub(crate) cluster: Option<&'static str>,
    /// Sends all it has to the Prometheus on this port.
    pub(crate) remote_write: Option<u16>,
    /// Further flags.
    pub(crate) flags: Vec<&'static str>,
    /// What it remembers from before its start, as OpenMetrics.
    pub(crate) history: String,
}

/// Series and their values.
pub(crate) type State = Vec<(String, f64)>;

/// A history, a sample a minute: each state from its moment to that of the next, the last to the end. Counters grow from
/// nothing to what they are.
pub(crate) fn history_of(states: &[(i64, State)], end: i64) -> String {
    let start = states.first().expect("a state").0;
    let counts = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        let ends = ["_total", "_bucket", "_count", "_sum"];
        !name.contains(':') && ends.iter().any(|end| name.ends_with(end))
    };
    let mut text = String::new();
    for at in (start..end).step_by(60) {
        let (_, state) = states.iter().rfind(|(from, _)| *from <= at).expect("one");
        let share = (at - start) as f64 / (end - start) as f64;
        for (series, value) in state {
            let value = if counts(series) {
                value * share
            } else {
                *value
            };
            writeln!(text, "{series} {value} {at}").expect("a String takes all");
        }
    }
    text
}

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    port: u16,
    setup: Setup,
    flags: Vec<String>,
    dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes each port as the job of that name, twice a second.
    pub(crate) fn start(jobs: &[(&'static str, u16)]) -> Self {
        Self::with(Setup {
            jobs: jobs.iter().map(|(job, port)| (*job, vec![*port])).collect(),
            ..Setup::default()
        })
    }

    /// Starts one.
    pub(crate) fn with(setup: Setup) -> Self {
        let dir = temporary_directory();
        remember(dir.path(), &setup.history);
        let flags: Vec<String> = setup.flags.iter().map(|flag| (*flag).to_owned()).collect();
        let config = config_of(&setup);
        Self::launch(dir, &config, flags, setup)
    }

    /// Starts one with a configuration and flags of its own.
    pub(crate) fn configured(config: &Value, flags: &[&str]) -> Self {
        Self::remembering(config, flags, "")
    }

    /// The same with what it remembers from before its start, as OpenMetrics.
    pub(crate) fn remembering(config: &Value, flags: &[&str], history: &str) -> Self {
        let dir = temporary_directory();
        remember(dir.path(), history);
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::launch(dir, config, flags, Setup::default())
    }

    fn launch(dir: TempDir, config: &Value, flags: Vec<String>, setup: Setup) -> Self {
        fs::write(dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = free_port();
        let process = launch(dir.path(), port, &flags);
        let mut prometheus = Self {
            process,
            port,
            setup,
            flags,
            dir,
        };
        prometheus.await_ready();
        prometheus
    }

    fn await_ready(&mut self) {
        let port = self.port;
        let process = &mut self.process;
        eventually("prometheus is ready", Duration::from_secs(30), || {
            process.check_alive();
            match http::get(port, "/-/ready", &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                _ => Err(process.log_tail()),
            }
        });
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it in good order and starts it again on what it stored.
    pub(crate) fn restart(&mut self) {
        self.process.terminate(Duration::from_secs(20));
        self.process = launch(self.dir.path(), self.port, &self.flags);
        self.await_ready();
    }

    /// Scrapes other ports from now on, under the first job's name.
    pub(crate) fn retarget(&mut self, ports: &[u16]) {
        self.setup.jobs[0].1 = ports.to_vec();
        let config = config_of(&self.setup);
        fs::write(self.dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        let answer = http::post(self.port, "/-/reload", "").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
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

    /// How many series a query over the last `seconds` in 120 steps gives, and how many steps the longest has.
    #[track_caller]
    pub(crate) fn query_range(&self, expression: &str, seconds: f64) -> (usize, usize) {
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
        let series = body["data"]["result"].as_array().expect("a matrix");
        let steps = |one: &Value| one["values"].as_array().expect("samples").len();
        (series.len(), series.iter().map(steps).max().unwrap_or(0))
    }

    /// Every series that it knows now, recorded ones and its own among them, as it is written, and its value.
    pub(crate) fn everything(&self) -> State {
        let all = "/federate?match[]=%7B__name__%3D~%22.%2B%22%7D";
        let answer = http::get(self.port, all, &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines = answer.text().lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let mut parts = line.rsplitn(3, ' ');
                let value = parts.nth(1).and_then(|value| value.parse().ok());
                let series = parts.next().expect("a series").to_owned();
                (series, value.expect("a number"))
            })
            .collect()
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

fn config_of(setup: &Setup) -> Value {
    let targets = |ports: &[u16]| -> Vec<String> {
        ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect()
    };
    // Often enough for tests that do not wait long; the durations in the rules stay what they are.
    let every = if setup.rules.is_some() { "1s" } else { "500ms" };
    let mut config = json!({
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "1s"},
        "scrape_configs": setup.jobs.iter().map(|(job, ports)| json!({
            "job_name": job,
            "honor_labels": true,
            "static_configs": [{"targets": targets(ports)}],
        })).collect::<Vec<_>>(),
    });
    if let Some(cluster) = setup.cluster {
        config["global"]["external_labels"] = json!({"cluster": cluster});
    }
    if let Some(alertmanager) = setup.rules {
        config["rule_files"] = json!([repository("alerts/rules/*.yaml")]);
        let targets = targets(&[alertmanager]);
        config["alerting"] = json!({"alertmanagers": [{"static_configs": [{"targets": targets}]}]});
    }
    if let Some(port) = setup.remote_write {
        let url = format!("http://127.0.0.1:{port}/api/v1/write");
        config["remote_write"] =
            json!([{"url": url, "queue_config": {"batch_send_deadline": "500ms"}}]);
    }
    config
}

/// Writes blocks that a Prometheus in `dir` will find.
fn remember(dir: &Path, history: &str) {
    if history.is_empty() {
        return;
    }
    let file = dir.join("history.txt");
    fs::write(&file, format!("{history}# EOF\n")).unwrap();
    let done = run(
        Command::new(parts::prometheus("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &dir.join("data")]),
        "",
    );
    assert_eq!(done.code, 0, "{done:?}");
}

fn launch(dir: &Path, port: u16, flags: &[String]) -> Process {
    let file = |flag: &str, name: &str| format!("{flag}={}", dir.join(name).display());
    Process::start(
        "prometheus",
        Command::new(parts::prometheus("prometheus"))
            .arg(file("--config.file", "prometheus.yml"))
            .arg(file("--storage.tsdb.path", "data"))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-lifecycle")
            .args(flags),
        dir,
    )
}

/// `promtool check metrics` of an exposition.
pub(crate) fn check_metrics(exposition: &str) -> Finished {
    run(
        Command::new(parts::prometheus("promtool")).args(["check", "metrics"]),
        exposition,
    )
}
