//! A real Prometheus reads both formats, and promtool finds nothing to say.

use std::time::Duration;

use crate::harness::exporter::{Exporter, run_on};
use crate::harness::prometheus::{Prometheus, check_metrics};
use crate::harness::world::World;
use crate::harness::{eventually, relay, repository};

/// What Prometheus 2.42 asks with.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

fn demo() -> Exporter {
    let demo = repository("deploy/demo");
    Exporter::start(&["--source.manifests".as_ref(), demo.as_os_str()], None)
}

#[test]
fn prometheus_scrapes_text_and_openmetrics() {
    let exporter = demo();
    let openmetrics = exporter.get("/metrics", &[("Accept", ACCEPT)]);
    let content_type = openmetrics.header("content-type");
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    let text = exporter.get("/metrics", &[]);
    let content_type = text.header("content-type");
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );

    let relay = relay::start_text_relay(exporter.port());
    let prometheus = Prometheus::start(&[("openmetrics", exporter.port()), ("text", relay)]);
    for job in ["openmetrics", "text"] {
        eventually("it is scraped", Duration::from_secs(20), || {
            let scrapes = prometheus.query(&format!("count_over_time(up{{job=\"{job}\"}}[1m])"));
            let count = scrapes.first().map_or(0.0, |(_, count)| *count);
            if count >= 4.0 {
                Ok(())
            } else {
                Err(format!("{count} scrapes"))
            }
        });
        let up = prometheus.query(&format!("min_over_time(up{{job=\"{job}\"}}[1m])"));
        assert_eq!(up.first().map(|(_, up)| *up), Some(1.0), "{job}");
    }
    for target in prometheus.targets() {
        assert_eq!(
            (&target["health"], &target["lastError"]),
            (&"up".into(), &"".into())
        );
    }

    // Both formats say the same about the cluster.
    let judged = "{__name__=~\"rbac_.*\", __name__!~\"rbac_exporter_.*\", job=";
    let read = |job: &str| {
        let mut series: Vec<_> = prometheus
            .query(&format!("{judged}\"{job}\"}}"))
            .into_iter()
            .map(|(mut labels, value)| {
                let labels_map = labels.as_object_mut().expect("labels are an object");
                labels_map.retain(|key, _| key != "job" && key != "instance");
                format!("{labels} {value}")
            })
            .collect();
        series.sort();
        series
    };
    let (from_openmetrics, from_text) = (read("openmetrics"), read("text"));
    assert!(!from_text.is_empty());
    assert_eq!(from_openmetrics, from_text);
    println!(
        "{} series about the demo, the same in both formats",
        from_text.len()
    );
    let complaints = prometheus.complaints();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn promtool_has_nothing_to_say() {
    let world = World::shared();
    let live = Exporter::watch(&world.exporter_kubeconfig(world.port()));
    for (what, exporter) in [("the demo", demo()), ("a live cluster", live)] {
        let checked = check_metrics(exporter.get("/metrics", &[]).text());
        assert_eq!(checked.code, 0, "{what}: {checked:?}");
        assert_eq!(checked.stdout + &checked.stderr, "", "{what}");
    }
    let once = run_on(world.admin_kubeconfig(), &["scan", "-o", "prometheus"], "");
    assert_eq!(once.code, 0, "{}", once.stderr);
    let checked = check_metrics(&once.stdout);
    assert_eq!(
        (checked.code, checked.stdout + &checked.stderr),
        (0, String::new())
    );
}
