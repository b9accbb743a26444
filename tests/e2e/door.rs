//! Who reads the attack map: the API server's own answer, and a real Prometheus over TLS.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{CertificateParams, KeyPair, SigningKey};
use serde_json::{Value, json};

use crate::deploy::{objects, rendered};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::prometheus::Prometheus;
use crate::harness::world::World;

/// The values that a cluster with an own authority for its monitoring would set.
const CLOSED: &str = "web.auth=kubernetes,web.tls=true,web.configSecret=rbac-exporter-web,\
                      prometheusOperator.serviceMonitor.enabled=true";

/// Installs what the chart renders with these values, less what needs an operator, and gives the
/// rendered objects.
fn install(world: &World, values: &str) -> Vec<Value> {
    let all: Vec<Value> = rendered(values)
        .into_values()
        .flat_map(|text| objects(&text))
        .collect();
    for kind in [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ] {
        for object in all.iter().filter(|object| object["kind"] == kind) {
            world.apply(object);
        }
    }
    all
}

fn token(world: &World, name: &str) -> String {
    let token = world.kubectl(&["create", "token", name, "-n", "monitoring"], "");
    token.trim().to_owned()
}

/// Accounts beside the exporter: one that was made a reader, one that was not.
fn readers(world: &World) {
    world.kubectl(&["create", "namespace", "monitoring"], "");
    for name in ["prometheus", "stranger", "gone"] {
        world.kubectl(&["create", "serviceaccount", name, "-n", "monitoring"], "");
    }
    let bind = [
        "create",
        "clusterrolebinding",
        "prometheus-reads-rbac-exporter",
        "--clusterrole=rbac-exporter:reader",
        "--serviceaccount=monitoring:prometheus",
    ];
    world.kubectl(&bind, "");
}

/// The token as it would be long after it has expired: signed anew with the server's own key.
fn expired(world: &World, token: &str) -> String {
    let mut parts = token.split('.');
    let (head, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
    for (claim, seconds) in [("iat", 7200), ("nbf", 7200), ("exp", 7200)] {
        claims[claim] = json!(claims[claim].as_i64().unwrap() - seconds);
    }
    let signed = format!("{head}.{}", BASE64.encode(claims.to_string()));
    let key = fs::read_to_string(world.path().join("accounts.key")).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let der = key.sign(signed.as_bytes()).unwrap();
    // ECDSA signs in ASN.1: a sequence of two integers; a token has them side by side, 32 bytes each.
    let mut raw = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (length, integer) = (rest[1] as usize, &rest[2..]);
        let number = &integer[..length];
        let number = &number[number.len().saturating_sub(32)..];
        raw.extend(vec![0; 32 - number.len()]);
        raw.extend(number);
        rest = &integer[length..];
    }
    format!("{signed}.{}", BASE64.encode(raw))
}

#[test]
fn the_api_server_says_who_may_read() {
    let mut world = World::with_controllers();
    install(&world, "web.auth=kubernetes");
    readers(&world);
    let kubeconfig = world.account_kubeconfig("rbac-exporter", "rbac-exporter", world.port());
    let mut exporter = Exporter::start(&["--web.auth", "kubernetes"], Some(&kubeconfig));
    let status = |token: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        exporter.get(path, headers).status
    };

    let (prometheus, stranger, gone) = (
        token(&world, "prometheus"),
        token(&world, "stranger"),
        token(&world, "gone"),
    );
    world.kubectl(
        &["delete", "serviceaccount", "gone", "-n", "monitoring"],
        "",
    );
    let old = expired(&world, &prometheus);
    let mut forged = prometheus.clone();
    forged.truncate(prometheus.len() - 4);
    for (what, token, expected) in [
        ("no token", "", 401),
        ("nonsense", "nonsense", 401),
        ("a cut one", &forged, 401),
        ("an expired one", &old, 401),
        ("one of a deleted account", &gone, 401),
        ("one without the right", &stranger, 403),
        ("one with it", &prometheus, 200),
    ] {
        for path in ["/metrics", "/", "/api/v1/report", "/api/v1/subjects"] {
            assert_eq!(status(token, path), expected, "{what} on {path}");
        }
        // Ways around the path that is asked about lead nowhere either.
        for path in [
            "/-/healthy/../metrics",
            "//metrics",
            "/%6detrics",
            "/metrics/",
            "/-/healthy%00/metrics",
        ] {
            let got = status(token, path);
            assert!(
                got == expected.max(401) || (expected == 200 && [403, 404].contains(&got)),
                "{what} on {path}: {got}"
            );
        }
        for path in ["/-/healthy", "/-/ready", "/livez", "/healthz", "/readyz"] {
            assert_eq!(status(token, path), 200, "{what} on {path}");
        }
    }

    // Closed to new ones while the server cannot be asked; whoever was let in a moment ago still is.
    let another = token(&world, "prometheus");
    world.kill_api_server();
    let headers = format!("Bearer {another}");
    let answer = exporter.get("/metrics", &[("Authorization", headers.as_str())]);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let headers = format!("Bearer {prometheus}");
    let answer = exporter.get("/metrics", &[("Authorization", headers.as_str())]);
    assert_eq!(answer.status, 200);
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    let log = exporter.process().log();
    for reason in [
        "no token",
        "token not valid",
        "not allowed",
        "the API server could not be asked",
    ] {
        assert!(
            log.contains(&format!("reason=\"{reason}\"")),
            "{reason}: {log}"
        );
    }
    assert!(
        !log.contains(&prometheus) && !log.contains(&another),
        "a token is in the log"
    );
}

/// The scrape configuration that the Prometheus Operator would make of the ServiceMonitor, for one
/// target on loopback.
fn scrape_config(monitor: &Value, port: u16, dir: &Path) -> Value {
    let endpoint = &monitor["spec"]["endpoints"][0];
    json!({
        "job_name": "rbac-exporter",
        "honor_labels": endpoint["honorLabels"],
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "scheme": endpoint["scheme"],
        "tls_config": {
            "ca_file": dir.join("ca.crt"),
            "server_name": endpoint["tlsConfig"]["serverName"],
        },
        "authorization": {"credentials_file": dir.join("token")},
        "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
    })
}

#[test]
fn the_rendered_deployment_runs_and_is_scraped_over_tls() {
    for world in [World::with_controllers(), World::oldest()] {
        let values = format!(
            "{CLOSED},prometheusOperator.serviceMonitor.tlsConfig.serverName=rbac-exporter"
        );
        let all = install(&world, &values);
        readers(&world);
        let of_kind = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();

        // The Secret that the values name, where the kubelet would mount it.
        let dir = world.path().join("web");
        fs::create_dir(&dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["rbac-exporter".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(dir.join("ca.crt"), certificate.pem()).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(dir.join("token"), token(&world, "prometheus")).unwrap();
        let web_config = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n";
        fs::write(dir.join("web-config.yaml"), web_config).unwrap();

        let container = &of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0];
        let mounted = format!("{}/", dir.display());
        let args: Vec<String> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| {
                arg.as_str()
                    .unwrap()
                    .replace("/etc/rbac-exporter/web/", &mounted)
            })
            // the harness chooses a free port
            .filter(|arg| !arg.starts_with("--web.listen-address"))
            .collect();
        assert!(
            args.iter().any(|arg| arg.contains("--web.config.file")),
            "{args:?}"
        );
        let kubeconfig = world.account_kubeconfig("rbac-exporter", "rbac-exporter", world.port());
        let mut exporter = Exporter::launch(&args, Some(&kubeconfig));
        let monitor = of_kind("ServiceMonitor");
        let prometheus = Prometheus::configured(
            &json!({
                "scrape_configs": [scrape_config(monitor, exporter.port(), &dir)],
            }),
            &[],
        );
        eventually("it is scraped over TLS", Duration::from_secs(30), || {
            exporter.process().check_alive();
            match prometheus.query("up{job=\"rbac-exporter\"} == 1").len() {
                1 => Ok(()),
                _ => Err(format!(
                    "{:?}\n{}",
                    prometheus.targets(),
                    exporter.process().log_tail()
                )),
            }
        });
        eventually(
            "its own account is there and is nobody",
            Duration::from_secs(10),
            || {
                let accounts = "rbac_subjects{namespace=\"rbac-exporter\",kind=\"ServiceAccount\"}";
                let risky = "sum(rbac_risky_subjects{namespace=\"rbac-exporter\"})";
                let seen = (prometheus.query(accounts), prometheus.query(risky));
                let value = |series: &[(Value, f64)]| series.first().map(|(_, value)| *value);
                match (value(&seen.0), value(&seen.1)) {
                    (Some(1.0..), Some(0.0)) => Ok(()),
                    _ => Err(format!("{seen:?}")),
                }
            },
        );
    }
}
