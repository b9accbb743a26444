//! The middle sizes on a real API server, over TLS, with its paging and its serialisation; and for the peer, its
//! protobuf.

use crate::cluster::{Cluster, Size, etcd};
use crate::harness::world::World;
use crate::live::whole;
use crate::measure::{Client, median, watch};
use crate::peers::Peer;
use crate::table::{Row, Unit, thousands};
use std::fs;

/// Sync and memory with 1,000 and 10,000 pods.
pub(crate) fn server(rows: &mut Vec<Row>, peer: Option<&Peer>) {
    for pods in [1_000, 10_000] {
        let size = Size::of_pods(pods);
        eprintln!("# real API server, {size:?}");
        let cluster = Cluster::new(size);
        let world = World::bare();
        etcd::objects(&cluster, |place, object| {
            world.write_into_etcd(place, object);
        });
        let kubeconfig = fs::read_to_string(world.admin_kubeconfig()).unwrap();
        let (mut seconds, mut cpu, mut peak) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut served = watch(&kubeconfig);
            let mut client = Client::default();
            seconds.push(served.until(&mut client, "/metrics", |client, scrape| {
                scrape.status == 200 && whole(client, size)
            }));
            cpu.push(served.cpu());
            client.get(served.port, "/metrics", true).unwrap();
            peak.push(served.peak());
        }
        let other = peer.map(|peer| peer.on(&kubeconfig, &cluster));
        let name = "kube-state-metrics";
        let what = format!("{} pods on a real API server", thousands(pods));
        for (figure, unit, ours, other) in [
            (
                "sync",
                Unit::Seconds,
                seconds,
                other.as_ref().map(|o| o.seconds),
            ),
            (
                "CPU to sync",
                Unit::Seconds,
                cpu,
                other.as_ref().map(|o| o.cpu),
            ),
            ("VmHWM", Unit::Bytes, peak, other.as_ref().map(|o| o.peak)),
        ] {
            rows.push(Row::new(format!("{figure}, {what}"), unit, median(ours)).peer(name, other));
        }
    }
}
