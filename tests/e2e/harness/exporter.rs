//! The exporter under test.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::exposition::Samples;
use super::http::{self, Answer};
use super::process::{Finished, Process, image_environment, run, temporary_directory};
use super::{eventually, free_port, repository};

/// The binary, deaf to the cluster and the settings of whoever runs the tests: the one that was built
/// with them, or another one, such as a release, that `RBAC_EXPORTER_BINARY` names.
fn binary() -> Command {
    let named = std::env::var_os("RBAC_EXPORTER_BINARY");
    let mut command = Command::new(named.unwrap_or(env!("CARGO_BIN_EXE_rbac-exporter").into()));
    command.env_clear().envs(image_environment());
    command.envs(std::env::vars_os().filter(|(key, _)| key == "PATH" || key == "RUST_BACKTRACE"));
    command
}

/// Runs a command of the binary to its end.
pub(crate) fn run_binary(args: &[impl AsRef<OsStr>], input: &str) -> Finished {
    run(binary().args(args), input)
}

/// Runs a command of the binary on a cluster.
pub(crate) fn run_on(kubeconfig: &Path, args: &[&str], input: &str) -> Finished {
    run(binary().args(args).env("KUBECONFIG", kubeconfig), input)
}

/// Judges a cluster as it is now, and gives the report.
#[track_caller]
pub(crate) fn scan(kubeconfig: &Path) -> Value {
    let finished = run_on(kubeconfig, &["scan", "--output", "json"], "");
    assert_eq!(finished.code, 0, "scan: {}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("the report is JSON")
}

/// The demo's manifests in a directory of their own, to be changed.
pub(crate) fn copy_of_demo() -> TempDir {
    let dir = temporary_directory();
    for file in fs::read_dir(repository("deploy/demo")).unwrap() {
        let from = file.unwrap().path();
        if from.extension().is_some_and(|e| e == "yaml") {
            fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// A running exporter.
#[derive(Debug)]
pub(crate) struct Exporter {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Exporter {
    /// Starts it and returns at once.
    pub(crate) fn launch(args: &[impl AsRef<OsStr>], kubeconfig: Option<&Path>) -> Self {
        Self::launch_on(free_port(), args, kubeconfig)
    }

    /// Starts it on a port that is known beforehand, so that a flag can name it.
    pub(crate) fn launch_on(
        port: u16,
        args: &[impl AsRef<OsStr>],
        kubeconfig: Option<&Path>,
    ) -> Self {
        let dir = temporary_directory();
        let mut command = binary();
        command
            .args(args)
            .arg("--web.listen-address")
            .arg(format!("127.0.0.1:{port}"));
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let process = Process::start("rbac-exporter", &mut command, dir.path());
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(args: &[impl AsRef<OsStr>], kubeconfig: Option<&Path>) -> Self {
        let mut exporter = Self::launch(args, kubeconfig);
        exporter.await_ready(Duration::from_secs(20));
        exporter
    }

    /// Starts it on a cluster.
    pub(crate) fn watch(kubeconfig: &Path) -> Self {
        Self::start(&[] as &[&str], Some(kubeconfig))
    }

    /// Waits for `/-/ready`.
    pub(crate) fn await_ready(&mut self, within: Duration) {
        let port = self.port;
        let process = &mut self.process;
        eventually("the exporter is ready", within, || {
            process.check_alive();
            match http::get(port, "/-/ready", &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", process.log_tail())),
            }
        });
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// GET, which must be answered.
    #[track_caller]
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::get(self.port, path, headers)
            .unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.process.log_tail()))
    }

    /// One scrape of the text format.
    #[track_caller]
    pub(crate) fn scrape(&self) -> Samples {
        let answer = self.get("/metrics", &[]);
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        Samples::parse(answer.text())
    }

    /// The report.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        let answer = self.get("/api/v1/report", &[]);
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        serde_json::from_slice(&answer.body).expect("the report is JSON")
    }

    /// The report's entry of a subject.
    #[track_caller]
    pub(crate) fn subject(&self, kind: &str, namespace: &str, name: &str) -> Value {
        find(&self.report()["subjects"], kind, namespace, name)
            .unwrap_or_else(|| panic!("no subject {kind} {namespace}/{name} in the report"))
    }
}

/// The entry of an array of the report that has this identity.
pub(crate) fn find(entries: &Value, kind: &str, namespace: &str, name: &str) -> Option<Value> {
    entries
        .as_array()
        .expect("an array")
        .iter()
        .find(|entry| {
            entry["kind"] == kind && entry["namespace"] == namespace && entry["name"] == name
        })
        .cloned()
}
