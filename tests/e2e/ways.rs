//! What lies between the exporter and the API server: proxies, other names, connections that die in silence.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faults::{WATCHED, populate, risky_users, sees_a_new_user};
use crate::harness::cable::Cable;
use crate::harness::eventually;
use crate::harness::exporter::{Exporter, run_on, scan};
use crate::harness::relay::{start_proxy, start_socks, start_tls};
use crate::harness::world::World;
use crate::table::recovered;

/// The name that the API server's own certificate has besides its addresses.
const SERVED_AS: &str = "kubernetes.default.svc";

/// `proxy-url` and `tls-server-name`: the name that is asked for exists nowhere, and the certificate is
/// for another one.
#[test]
fn a_cluster_behind_a_proxy_is_reached_under_another_name() {
    let world = World::shared();
    let direct = fs::read_to_string(world.exporter_kubeconfig(world.port())).unwrap();
    let (http, asked_http) = start_proxy(world.port());
    let (socks, asked_socks) = start_socks(world.port());
    // As Go's transport has it, what is said of the cluster's TLS holds for the proxy's too.
    let (https, certificate) = start_tls(http, &[SERVED_AS]);
    let path = world.path().join("proxied.kubeconfig");
    let through = |proxy: String, authorities: Option<String>| {
        let mut config: Value = serde_json::from_str(&direct).unwrap();
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = "https://cluster.invalid:6443".into();
        cluster["proxy-url"] = proxy.into();
        cluster["tls-server-name"] = SERVED_AS.into();
        if let Some(authorities) = authorities {
            let file = world.path().join("proxied.crt");
            fs::write(&file, authorities).unwrap();
            cluster["certificate-authority"] = file.to_string_lossy().into();
        }
        fs::write(&path, config.to_string()).unwrap();
    };
    let authority: Value = serde_json::from_str(&direct).unwrap();
    let authority = authority["clusters"][0]["cluster"]["certificate-authority"].clone();
    let authority = fs::read_to_string(authority.as_str().unwrap()).unwrap();

    let tunnelled = "CONNECT cluster.invalid:6443 HTTP/1.1";
    let named = "[5, 1, 0, 3] cluster.invalid:6443";
    for (proxy, authorities, asked, line) in [
        (
            format!("http://127.0.0.1:{http}"),
            None,
            &asked_http,
            tunnelled,
        ),
        (
            format!("socks5://127.0.0.1:{socks}"),
            None,
            &asked_socks,
            named,
        ),
        (
            format!("https://127.0.0.1:{https}"),
            Some(authority + &certificate),
            &asked_http,
            tunnelled,
        ),
    ] {
        asked.lock().unwrap().clear();
        through(proxy.clone(), authorities);
        assert_eq!(scan(&path)["complete"], true, "{proxy}");
        let asked = asked.lock().unwrap();
        assert!(!asked.is_empty(), "{proxy} was passed by");
        assert!(
            asked.iter().all(|asked| asked == line),
            "{proxy}: {asked:?}"
        );
    }

    // What is not spoken is refused before anybody is asked for anything.
    through(format!("socks4://127.0.0.1:{socks}"), None);
    let refused = run_on(&path, &["scan"], "");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let said = "cannot make a client for https://cluster.invalid:6443";
    assert!(
        refused.stderr.contains(said) && refused.stderr.contains("socks4"),
        "{}",
        refused.stderr
    );
}

/// A link that loses every packet: neither end hears anything, and nothing is closed.
#[test]
fn a_connection_whose_packets_vanish_is_found_within_a_minute() {
    let world = World::bare();
    populate(&world);
    let cable = match Cable::to(world.port()) {
        Ok(cable) => cable,
        Err(why) => {
            println!(
                "SKIPPED, half-open connections: no network namespace can be made here: {why}"
            );
            return;
        }
    };
    let direct = fs::read_to_string(world.exporter_kubeconfig(world.port())).unwrap();
    let mut config: Value = serde_json::from_str(&direct).unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster["server"] = format!("https://{}", cable.end()).into();
    cluster["tls-server-name"] = SERVED_AS.into();
    let path = world.path().join("cable.kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    let exporter = Exporter::watch(&path);
    assert_eq!(risky_users(&exporter.scrape()), 20.0);
    // The streams are at rest.
    sleep(Duration::from_secs(2));
    let errors = |resource: &str| {
        let labels = [("resource", resource)];
        let samples = exporter.scrape();
        assert_eq!(risky_users(&samples), 20.0);
        samples.sum("rbac_exporter_watch_errors_total", &labels)
    };
    for resource in WATCHED {
        assert_eq!(errors(resource), 0.0, "{resource}");
    }

    cable.cut();
    let cut = Instant::now();
    for resource in WATCHED {
        let left = Duration::from_secs(60).saturating_sub(cut.elapsed());
        eventually("the silence is noticed", left, || {
            sleep(Duration::from_millis(50));
            (errors(resource) > 0.0)
                .then_some(())
                .ok_or(resource.to_owned())
        });
    }
    println!(
        "every packet lost: noticed by all seven after {:.1?}",
        cut.elapsed()
    );

    cable.mend();
    let took = sees_a_new_user(&world, &exporter, "mended", Duration::from_secs(90));
    recovered("half-open connection", took);
}
