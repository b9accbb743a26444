//! Each cluster has an exporter and a Prometheus that knows the cluster's name; one place gets all of it, with the rules
//! as they are and an Alertmanager.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::alerting::asked_for;
use crate::harness::alertmanager::Alertmanager;
use crate::harness::eventually;
use crate::harness::exporter::{Exporter, copy_of_demo};
use crate::harness::old::{now, rfc3339};
use crate::harness::prometheus::{Prometheus, Setup};

/// From a change to the webhook.
const ARRIVES: Duration = Duration::from_secs(60);

/// How long nothing may come after the last page.
const QUIET: Duration = Duration::from_secs(7);

/// What all clusters report to.
struct Centre {
    alertmanager: Alertmanager,
    prometheus: Prometheus,
}

/// A cluster like the demo's, and the Prometheus beside it.
struct Cluster {
    manifests: TempDir,
    exporter: Option<Exporter>,
    beside: Option<Prometheus>,
}

impl Centre {
    fn start(history: String) -> Self {
        let alertmanager = Alertmanager::start();
        // What is not sent any more is forgotten after seconds instead of five minutes.
        let flags = vec![
            "--web.enable-remote-write-receiver",
            "--query.lookback-delta=10s",
        ];
        let prometheus = Prometheus::with(Setup {
            rules: Some(alertmanager.port()),
            flags,
            history,
            ..Setup::default()
        });
        Self {
            alertmanager,
            prometheus,
        }
    }

    /// Clusters in which an alert is in this state, each with the number of its alerts.
    fn alerts(&self, alert: &str, state: &str) -> Vec<String> {
        let query =
            format!("count by (cluster) (ALERTS{{alertname=\"{alert}\",alertstate=\"{state}\"}})");
        let found = self.prometheus.query(&query);
        let mut clusters: Vec<_> = found
            .iter()
            .map(|(labels, count)| {
                format!("{}:{count}", labels["cluster"].as_str().unwrap_or_default())
            })
            .collect();
        clusters.sort();
        clusters
    }

    fn await_alerts(&self, alert: &str, state: &str, expected: &[&str]) {
        eventually(alert, ARRIVES, || {
            let found = self.alerts(alert, state);
            (found == expected)
                .then_some(())
                .ok_or_else(|| format!("{found:?}"))
        });
    }

    /// How often each page came: cluster, alert and name.
    fn pages(&self) -> BTreeMap<String, usize> {
        let mut pages = BTreeMap::new();
        for page in self.alertmanager.received() {
            if page.receiver == "/pages" && page.status == "firing" {
                let parts = ["cluster", "alertname", "name"].map(|label| page.label(label));
                *pages.entry(parts.join(" ").trim().to_owned()).or_default() += 1;
            }
        }
        pages
    }

    /// These pages come, each once, and no other.
    fn await_pages(&self, within: Duration, expected: &[&str]) {
        let mut expected: BTreeMap<String, usize> = expected
            .iter()
            .map(|page| ((*page).to_owned(), 1))
            .collect();
        // the demo's status page is open to the world, and says so once a cluster
        let clusters =
            ["east", "west"].map(|c| format!("{c} RBACEveryoneAccess system:unauthenticated"));
        eventually("the pages come", within, || {
            let mut pages = self.pages();
            pages.retain(|page, _| !clusters.contains(page));
            let all = expected.keys().all(|page| pages.contains_key(page));
            all.then_some(()).ok_or_else(|| format!("{pages:?}"))
        });
        sleep(QUIET);
        let pages = self.pages();
        for page in clusters.iter().filter(|page| pages.contains_key(*page)) {
            expected.insert(page.clone(), 1);
        }
        assert_eq!(pages, expected);
    }
}

impl Cluster {
    fn start(name: &'static str, centre: &Centre) -> Self {
        let manifests = copy_of_demo();
        let url = format!("https://rbac.{name}.example");
        let at = manifests.path().to_str().unwrap();
        let exporter = Exporter::start(
            &["--source.manifests", at, "--web.external-url", &url],
            None,
        );
        let beside = Prometheus::with(Setup {
            jobs: vec![("rbac-exporter", vec![exporter.port()])],
            cluster: Some(name),
            remote_write: Some(centre.prometheus.port()),
            ..Setup::default()
        });
        Self {
            manifests,
            exporter: Some(exporter),
            beside: Some(beside),
        }
    }

    /// Binds a user to cluster-admin, now.
    fn grant(&self, user: &str) {
        let rbac = "rbac.authorization.k8s.io";
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": user, "creationTimestamp": rfc3339(now())},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
        });
        let file = self.manifests.path().join(format!("99-{user}.json"));
        fs::write(file, binding.to_string()).unwrap();
    }
}

#[test]
fn two_clusters_in_one_place_and_one_of_them_gone() {
    let centre = Centre::start(String::new());
    let mut west = Cluster::start("west", &centre);
    let east = Cluster::start("east", &centre);
    let open = "RBACCriticalSubjectOpen";
    // the twelve of the demo, in each cluster
    centre.await_alerts(open, "firing", &["east:12", "west:12"]);
    // before the first samples came it had seen nothing at all
    centre.await_alerts("RBACExporterDown", "pending", &[]);
    centre.await_pages(ARRIVES, &[]);

    // --- one page, of the cluster that it is about, leading to the exporter of that cluster
    west.grant("mallory");
    centre.await_pages(ARRIVES, &["west RBACNewCriticalSubject mallory"]);
    let all = centre.alertmanager.received();
    let page = all.iter().find(|n| n.label("name") == "mallory").unwrap();
    let summary = "User \"mallory\" can now take over cluster west";
    assert_eq!(page.annotation("summary"), summary);
    let link = "https://rbac.west.example/subject?kind=User&namespace=&name=mallory";
    assert_eq!(page.annotation("subject_url"), link);

    // --- the exporter alone, and then all that was in that cluster
    west.exporter = None;
    centre.await_alerts("RBACExporterDown", "pending", &["west:1"]);
    west.beside = None;
    eventually("the cluster is gone", ARRIVES, || {
        let left = centre.prometheus.query("up{cluster=\"west\"}");
        left.is_empty()
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    });
    sleep(Duration::from_secs(3));
    assert_eq!(centre.alerts("RBACExporterDown", "pending"), ["west:1"]);
    // its subjects are not forgotten at once, and those of the other are what they were
    assert_eq!(centre.alerts(open, "firing"), ["east:12", "west:12"]);

    // --- a page goes on in the cluster that is left
    east.grant("mallory");
    let mut pages = vec![
        "east RBACNewCriticalSubject mallory",
        "west RBACNewCriticalSubject mallory",
    ];
    centre.await_pages(ARRIVES, &pages);
    if asked_for() == "all" {
        pages.push("west RBACExporterDown");
        centre.await_pages(Duration::from_secs(17 * 60), &pages);
        assert_eq!(centre.alerts("RBACExporterDown", "firing"), ["west:1"]);
        assert_eq!(centre.alerts(open, "firing"), ["east:12", "west:12"]);
    }
}

/// What the centre remembers: that the cluster reported an hour ago, was away for the last twenty minutes, and since when
/// the alert has been waiting. A Prometheus that is restarted takes that up, so nobody here waits for a quarter of an hour.
fn gone_for_twenty_minutes(cluster: &str) -> String {
    let since = now() - 20 * 60;
    let mut text = "# TYPE up gauge\n".to_owned();
    let target = format!("cluster=\"{cluster}\",instance=\"192.0.2.7:7222\",job=\"rbac-exporter\"");
    for at in (since - 40 * 60..since).step_by(60) {
        writeln!(text, "up{{{target}}} 1 {at}").unwrap();
    }
    text.push_str("# TYPE ALERTS_FOR_STATE gauge\n");
    let alert = format!("alertname=\"RBACExporterDown\",cluster=\"{cluster}\",severity=\"page\"");
    for at in (since..now() - 5).step_by(60) {
        writeln!(text, "ALERTS_FOR_STATE{{{alert}}} {since} {at}").unwrap();
    }
    text
}

#[test]
fn a_cluster_that_is_gone_for_long_pages_and_the_others_go_on() {
    let centre = Centre::start(gone_for_twenty_minutes("west"));
    let east = Cluster::start("east", &centre);
    let (down, open) = ("RBACExporterDown", "RBACCriticalSubjectOpen");
    centre.await_alerts(down, "firing", &["west:1"]);
    centre.await_alerts(open, "firing", &["east:12"]);
    centre.await_pages(ARRIVES, &["west RBACExporterDown"]);
    let all = centre.alertmanager.received();
    let page = all.iter().find(|n| n.label("alertname") == down).unwrap();
    let summary = "Nobody watches RBAC in cluster west";
    assert_eq!(page.annotation("summary"), summary);

    // --- it mutes nothing, here or there
    east.grant("mallory");
    let pages = [
        "east RBACNewCriticalSubject mallory",
        "west RBACExporterDown",
    ];
    centre.await_pages(ARRIVES, &pages);
    let tickets = centre.alertmanager.received();
    let mut tickets = tickets.iter().filter(|n| n.receiver == "/tickets");
    assert!(tickets.all(|n| n.label("cluster") == "east"));

    // --- it comes back
    let _west = Cluster::start("west", &centre);
    centre.await_alerts(down, "firing", &[]);
    centre.await_alerts(open, "firing", &["east:12", "west:12"]);
    centre.await_pages(ARRIVES, &pages);
}
