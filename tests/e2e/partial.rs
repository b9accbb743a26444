//! Scrapes while lists take seconds: ours and, where `PATH` has it, those of kube-state-metrics beside it, on
//! the same API server through the same slow network. A scrape is partial when it is an answer of 200 that
//! shows neither what there was before nor what there is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::json;
use tempfile::TempDir;

use crate::faults::populate;
use crate::harness::exporter::Exporter;
use crate::harness::process::{Process, temporary_directory};
use crate::harness::relay::SlowRelay;
use crate::harness::world::World;
use crate::harness::{eventually, free_port, http, parts};

const PODS: usize = 600;
const EVERY: Duration = Duration::from_millis(10);

/// What a scrape says of the cluster, in an order of its own.
type View = Vec<String>;

/// What was scraped in a phase: how often each view came, and how often there was none.
#[derive(Default)]
struct Scraped {
    views: BTreeMap<View, usize>,
    refused: usize,
    took: Duration,
}

impl Scraped {
    fn partial(&self, whole: &[&View]) -> usize {
        let odd = self.views.iter().filter(|(view, _)| !whole.contains(view));
        odd.map(|(_, times)| times).sum()
    }

    fn scrapes(&self) -> usize {
        self.refused + self.views.values().sum::<usize>()
    }
}

/// One scrape with gzip; nothing where the server says that it has nothing yet, or does not listen.
fn view(port: u16) -> Option<View> {
    let answer = http::get(port, "/metrics", &[("Accept-Encoding", "gzip")]).ok()?;
    if answer.status != 200 {
        return None;
    }
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    GzDecoder::new(&answer.body[..])
        .read_to_string(&mut text)
        .unwrap();
    let of_the_cluster = |line: &&str| {
        let ours = line.starts_with("rbac_") && !line.starts_with("rbac_exporter_");
        ours || line.starts_with("kube_")
    };
    let mut lines: View = text
        .lines()
        .filter(of_the_cluster)
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    Some(lines)
}

/// Scrapes without end.
fn scrape(port: u16, stop: &AtomicBool) -> Scraped {
    let mut scraped = Scraped::default();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match view(port) {
            Some(view) => *scraped.views.entry(view).or_default() += 1,
            None => scraped.refused += 1,
        }
        sleep(EVERY);
    }
    scraped.took = start.elapsed();
    scraped
}

/// kube-state-metrics for the resources that are watched here.
struct KubeStateMetrics {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl KubeStateMetrics {
    fn start(program: &Path, kubeconfig: &Path) -> Self {
        let (port, dir) = (free_port(), temporary_directory());
        let mut command = Command::new(program);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--port={port}"))
            .arg(format!("--telemetry-port={}", free_port()))
            .args([
                "--host=127.0.0.1",
                "--telemetry-host=127.0.0.1",
                "--enable-gzip-encoding",
            ])
            .arg(format!("--resources={}", crate::faults::WATCHED.join(",")));
        Self {
            process: Process::start("kube-state-metrics", &mut command, dir.path()),
            port,
            _dir: dir,
        }
    }
}

/// Both servers at once, while `act` runs and until both say of the cluster what `whole` takes.
fn phase(ports: &[u16], act: impl FnOnce(), whole: impl Fn(&View) -> bool) -> Vec<Scraped> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraping: Vec<_> = ports
            .iter()
            .map(|&port| {
                scope.spawn({
                    let stop = &stop;
                    move || scrape(port, stop)
                })
            })
            .collect();
        act();
        for &port in ports {
            eventually("everything is told", Duration::from_secs(120), || {
                sleep(Duration::from_millis(200));
                let view = view(port).unwrap_or_default();
                whole(&view)
                    .then_some(())
                    .ok_or(format!("{} series", view.len()))
            });
        }
        sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        scraping
            .into_iter()
            .map(|scraping| scraping.join().expect("every answer is one"))
            .collect()
    })
}

fn fill(world: &World) {
    populate(world);
    let admin = world.admin();
    for number in 0..PODS {
        // Of no use to who compresses.
        let noise: String = (0..20)
            .map(|i: u64| {
                format!(
                    "{:016x}",
                    (i + 1 + 20 * number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                )
            })
            .collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod-{number}"), "namespace": "default", "annotations": {"noise": noise}},
            "spec": {"serviceAccountName": "worker",
                     "containers": [{"name": "main", "image": "example.invalid/worker:1"}]},
        });
        admin.post("/api/v1/namespaces/default/pods", &pod).unwrap();
    }
}

#[test]
fn no_scrape_is_partial_while_lists_are_slow() {
    let mut world = World::bare();
    fill(&world);
    let relay = SlowRelay::start(world.port());
    let kubeconfig = world.exporter_kubeconfig(relay.port());
    let program: Option<PathBuf> = parts::on_path_if_there("kube-state-metrics");
    if program.is_none() {
        println!(
            "SKIPPED, the comparison: kube-state-metrics is not on PATH (go install k8s.io/kube-state-metrics/v2@v2.20.0)"
        );
    }

    let mut exporter = Exporter::launch(&["serve"], Some(&kubeconfig));
    let mut theirs = program.map(|program| KubeStateMetrics::start(&program, &kubeconfig));
    let mut ports = vec![exporter.port()];
    ports.extend(theirs.as_ref().map(|theirs| theirs.port));
    let count =
        |view: &View, family: &str| view.iter().filter(|line| line.starts_with(family)).count();
    let all_pods = |pods: usize| {
        move |view: &View| {
            let of_theirs = count(view, "kube_pod_info{") == pods
                && count(view, "kube_rolebinding_info{") >= 20
                && count(view, "kube_clusterrolebinding_info{") > 0;
            of_theirs
                || view.iter().any(|line| {
                    line.starts_with("rbac_pods") && line.ends_with(&format!(" {pods}"))
                })
        }
    };
    let at_start = phase(&ports, || {}, all_pods(PODS + 1));
    let before: Vec<View> = ports.iter().map(|&port| view(port).unwrap()).collect();

    // Nobody watches while the server forgets.
    let at_relist = phase(
        &ports,
        || {
            exporter.process().signal("STOP");
            if let Some(theirs) = &theirs {
                theirs.process.signal("STOP");
            }
            // Of what neither watches, so that the new server's history begins after what they have seen.
            world.kubectl(&["create", "configmap", "later", "-n", "default"], "");
            world.kill_api_server();
            world.start_api_server();
            world.kubectl(&["delete", "pod", "pod-7", "-n", "default", "--force"], "");
            world.compact_etcd();
            exporter.process().signal("CONT");
            if let Some(theirs) = &theirs {
                theirs.process.signal("CONT");
            }
        },
        all_pods(PODS),
    );
    let after: Vec<View> = ports.iter().map(|&port| view(port).unwrap()).collect();

    let peaks = [
        Some(exporter.process().memory("VmHWM")),
        theirs.as_mut().map(|theirs| theirs.process.memory("VmHWM")),
    ];
    for (index, (name, peak)) in ["rbac-exporter", "kube-state-metrics"]
        .into_iter()
        .zip(peaks.into_iter().flatten())
        .enumerate()
    {
        let start = at_start[index].partial(&[&before[index]]);
        let relist = at_relist[index].partial(&[&before[index], &after[index]]);
        println!(
            "{name}: partial scrapes at start {start} of {} in {:.1?}, at the relist {relist} of {} in {:.1?}, VmHWM {peak} kB",
            at_start[index].scrapes(),
            at_start[index].took,
            at_relist[index].scrapes(),
            at_relist[index].took,
        );
        if index == 0 {
            assert_eq!((start, relist), (0, 0));
            assert!(at_start[0].refused > 50, "the list was not slow");
        }
    }
}
