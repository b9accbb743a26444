//! What a user would pick instead, on the same stand-in in the same run.

use crate::cluster::standin::Standin;
use crate::cluster::{Cluster, Size};
use crate::measure::{Client, Served, median, peer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// kube-state-metrics.
pub(crate) struct Peer(PathBuf);

/// Its families nearest to what we say, seven of them.
const FAMILIES: &str = "kube_pod_info,kube_pod_service_account,kube_role_info,kube_clusterrole_info,kube_rolebinding_info,kube_clusterrolebinding_info,kube_serviceaccount_info";

/// A sync of it.
pub(crate) struct Synced {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) peak: f64,
}

/// Scrapes of it.
pub(crate) struct Scrapes {
    pub(crate) series: f64,
    pub(crate) plain: f64,
    pub(crate) gzip: f64,
}

impl Peer {
    /// Looks for it, and says aloud when it is not there.
    pub(crate) fn find() -> Option<Peer> {
        let found = peer(&["kube-state-metrics"]).map(Peer);
        if found.is_none() {
            eprintln!(
                "# SKIPPED: kube-state-metrics is neither on PATH nor in target/tools, so its column stays empty"
            );
        }
        found
    }

    /// One sync of the seven families of a cluster that some server has.
    pub(crate) fn on(&self, kubeconfig: &str, cluster: &Cluster) -> Synced {
        let mut served = self.start(kubeconfig, true);
        let mut client = Client::default();
        let seconds = served.until(&mut client, "/metrics", |client, scrape| {
            scrape.status == 200 && whole(client, cluster)
        });
        let cpu = served.cpu();
        client.get(served.port, "/metrics", true).unwrap();
        Synced {
            seconds,
            cpu,
            peak: served.peak(),
        }
    }

    fn start(&self, kubeconfig: &str, few: bool) -> Served {
        let args = |port: u16, file: &Path| {
            let mut args = vec![
                format!("--kubeconfig={}", file.display()),
                "--host=127.0.0.1".to_owned(),
                format!("--port={port}"),
                "--telemetry-host=127.0.0.1".to_owned(),
                format!("--telemetry-port={}", crate::harness::free_port()),
                "--enable-gzip-encoding".to_owned(),
                "--resources=pods,namespaces,serviceaccounts,roles,clusterroles,rolebindings,clusterrolebindings".to_owned(),
            ];
            if few {
                args.push(format!("--metric-allowlist={FAMILIES}"));
            }
            args
        };
        Served::start(&self.0, Some(kubeconfig), args)
    }
}

fn whole(client: &Client, cluster: &Cluster) -> bool {
    use rbac_exporter::object::Resource::{ClusterRoles, Pods, RoleBindings, Roles};
    let families = [
        (Pods, "kube_pod_info"),
        (Roles, "kube_role_info"),
        (RoleBindings, "kube_rolebinding_info"),
        (ClusterRoles, "kube_clusterrole_info"),
    ];
    families
        .iter()
        .all(|&(resource, family)| client.sum(family, "") >= cluster.count(resource) as f64)
}

fn started(
    peer: &Peer,
    size: Size,
    few: bool,
    slow: Duration,
) -> (Served, Client, Standin, Arc<Cluster>, f64, usize) {
    let cluster = Arc::new(Cluster::new(size));
    let standin = Standin::start(cluster.clone(), 0);
    standin.slow_lists(slow);
    let mut served = peer.start(&standin.kubeconfig(), few);
    let mut client = Client::default();
    let mut partial = 0;
    let seconds = served.until(&mut client, "/metrics", |client, scrape| {
        let all = scrape.status == 200 && whole(client, &cluster);
        partial += usize::from(scrape.status == 200 && !all);
        all
    });
    (served, client, standin, cluster, seconds, partial)
}

/// The seven families of a cluster, from the start to the first scrape that has everything.
pub(crate) fn sync(peer: &Peer, size: Size) -> Synced {
    let runs: Vec<Synced> = (0..3)
        .map(|_| {
            let (served, mut client, _standin, _, seconds, _) =
                started(peer, size, true, Duration::ZERO);
            let cpu = served.cpu();
            for _ in 0..3 {
                client.get(served.port, "/metrics", true).unwrap();
            }
            Synced {
                seconds,
                cpu,
                peak: served.peak(),
            }
        })
        .collect();
    Synced {
        seconds: median(runs.iter().map(|run| run.seconds)),
        cpu: median(runs.iter().map(|run| run.cpu)),
        peak: median(runs.iter().map(|run| run.peak)),
    }
}

/// Resident memory with two families of each pod, some seconds after the start.
pub(crate) fn memory(peer: &Peer, size: Size) -> f64 {
    let (served, mut client, _standin, ..) = started(peer, size, true, Duration::ZERO);
    client.get(served.port, "/metrics", true).unwrap();
    sleep(Duration::from_secs(3));
    served.resident()
}

/// Partial scrapes while it starts, and while it lists everything anew.
pub(crate) fn partial(peer: &Peer, size: Size, slow: Duration) -> (usize, usize) {
    let (served, mut client, standin, cluster, _, at_start) = started(peer, size, true, slow);
    standin.expire();
    let begun = Instant::now();
    let mut again = 0;
    while begun.elapsed() < Duration::from_secs(15) {
        client.get(served.port, "/metrics", true).unwrap();
        again += usize::from(!whole(&client, &cluster));
    }
    (at_start, again)
}

/// About 100,000 series of all its families.
pub(crate) fn scrapes(peer: &Peer) -> Scrapes {
    let size = Size {
        pods: 1_600,
        bindings: 400,
        roles: 200,
        namespaces: 40,
    };
    let (served, mut client, _standin, ..) = started(peer, size, false, Duration::ZERO);
    let series = client.series() as f64;
    let mut seconds = |gzip: bool| {
        median((0..21).map(|_| client.get(served.port, "/metrics", gzip).unwrap().seconds))
    };
    Scrapes {
        series,
        plain: seconds(false),
        gzip: seconds(true),
    }
}
