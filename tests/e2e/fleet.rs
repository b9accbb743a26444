//! What a fleet costs: exporters, the Prometheus beside each, and one that all of these write to.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::dashboards::big_cluster;
use crate::harness::exporter::Exporter;
use crate::harness::exposition::Samples;
use crate::harness::process::temporary_directory;
use crate::harness::prometheus::Prometheus;
use crate::harness::{eventually, http, repository};

const CLUSTERS: usize = 6;
const NAMESPACES: usize = 100;

/// The sum of one of Prometheus' own metrics.
fn own(prometheus: &Prometheus, name: &str) -> f64 {
    let answer = http::get(prometheus.port(), "/metrics", &[]).unwrap();
    Samples::parse(answer.text()).sum(name, &[])
}

/// Every figure of docs/fleet.md under "What it costs" is printed here. What is asserted is what must
/// not depend on the machine: that a cluster more costs what the first did.
#[test]
fn what_many_clusters_cost() {
    let dir = temporary_directory();
    let file = dir.path().join("cluster.yaml");
    fs::write(&file, big_cluster(NAMESPACES)).unwrap();
    let start = || Exporter::start(&["--source.manifests".as_ref(), file.as_os_str()], None);
    let exporters: Vec<Exporter> = (0..CLUSTERS).map(|_| start()).collect();

    let flags = ["--web.enable-remote-write-receiver"];
    let rules = repository("alerts/rules/*.yaml");
    let central = Prometheus::configured(
        &json!({
            "global": {"evaluation_interval": "5s"},
            "rule_files": [rules],
        }),
        &flags,
    );
    let empty = own(&central, "process_resident_memory_bytes");
    let url = format!("http://127.0.0.1:{}/api/v1/write", central.port());
    let edge = |(i, exporter): (usize, &Exporter)| {
        let config = json!({
            "global": {
                "scrape_interval": "2s", "scrape_timeout": "2s",
                "external_labels": {"cluster": format!("cluster-{i}")},
            },
            "scrape_configs": [{
                "job_name": "rbac-exporter", "honor_labels": true,
                "static_configs": [{"targets": [format!("127.0.0.1:{}", exporter.port())]}],
            }],
            "remote_write": [{"url": url, "queue_config": {"batch_send_deadline": "500ms"}}],
        });
        Prometheus::configured(&config, &[])
    };
    let edges: Vec<Prometheus> = exporters.iter().enumerate().map(edge).collect();
    let scrapes = |edge: &Prometheus| {
        let seen = edge.query("count_over_time(up[1h])");
        seen.first().map_or(0.0, |(_, scrapes)| *scrapes)
    };
    let scraped = |wanted: f64| {
        eventually("each is scraped", Duration::from_secs(120), || {
            let least = edges.iter().map(scrapes).fold(f64::MAX, f64::min);
            match least >= wanted {
                true => Ok(()),
                false => Err(format!("{least} of {wanted} scrapes")),
            }
        });
    };
    // what Prometheus writes of its own scrape comes with it: up, scrape_duration_seconds, …
    scraped(3.0);
    let sent = |edge: &Prometheus| own(edge, "prometheus_remote_storage_bytes_total");
    let before: Vec<(f64, f64)> = edges.iter().map(|e| (sent(e), scrapes(e))).collect();
    scraped(12.0);
    let per_scrape = edges.iter().zip(&before).map(|(edge, (bytes, seen))| {
        let seen = scrapes(edge) - seen;
        (sent(edge) - bytes) / seen
    });
    let sent_each = per_scrape.sum::<f64>() / CLUSTERS as f64;

    let metrics = exporters[0].get("/metrics", &[]).body.len();
    let zipped = exporters[0].get("/metrics", &[("accept-encoding", "gzip")]);
    let zipped = zipped.body.len();
    let series = central.query(r#"count by (cluster) ({job="rbac-exporter", instance!=""})"#);
    let counts: Vec<f64> = series.iter().map(|(_, n)| *n).collect();
    assert_eq!(counts.len(), CLUSTERS, "{series:?}");
    let (least, most) = (
        counts.iter().copied().fold(f64::MAX, f64::min),
        counts.iter().copied().fold(0.0, f64::max),
    );
    // those whose labels tell of the process may differ
    assert!(
        most - least <= 5.0,
        "equal clusters, {least} to {most} series"
    );
    let head = own(&central, "prometheus_tsdb_head_series");
    let of_rules = head - counts.iter().sum::<f64>();
    let evaluated = own(&central, "prometheus_rule_group_last_duration_seconds");
    let failed = own(&central, "prometheus_rule_evaluation_failures_total");
    assert!(failed.abs() < 0.5, "{failed} evaluations failed");
    let full = own(&central, "process_resident_memory_bytes");
    let named = "rbac_risky_subject_since_timestamp_seconds";
    let named = exporters[0].scrape().select(named, &[]).count();

    println!(
        "{CLUSTERS} clusters of {NAMESPACES} namespaces, {named} of their subjects by name\n\
         | figure | each cluster |\n|---|---|\n\
         | a scrape, plain and gzip | {metrics} and {zipped} bytes |\n\
         | series at the centre | {least:.0} |\n\
         | series that the rules add | {:.0} |\n\
         | remote-write for a scrape | {sent_each:.0} bytes |\n\
         | all rules once, at the centre | {:.1} ms |\n\
         | memory of the central Prometheus | {:.1} MB |",
        of_rules / CLUSTERS as f64,
        evaluated * 1e3 / CLUSTERS as f64,
        (full - empty) / 1e6 / CLUSTERS as f64,
    );
}
