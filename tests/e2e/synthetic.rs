//! The objects that the benchmarks measure with are what a real API server serves: it is given one of each kind and
//! shape, and hands out every field of it again, and none besides.

#[path = "../../benches/cluster/mod.rs"]
#[allow(dead_code, reason = "benchmarks use more of it than its test does")]
mod cluster;

use std::collections::BTreeSet;

use cluster::{Cluster, Edition, Size, etcd};
use rbac_exporter::object::Resource;
use serde_json::Value;

use crate::harness::world::World;

#[test]
fn a_real_server_serves_the_same_objects() {
    let world = World::bare();
    let cluster = Cluster::new(Size::of_pods(600));
    let mut written = Vec::new();
    let mut kinds = BTreeSet::new();
    etcd::objects(&cluster, |place, object| {
        // Of every shape of pods, and of every other resource, a few.
        let owner = &object["metadata"]["ownerReferences"][0]["kind"];
        let containers = object["spec"]["containers"].as_array().map_or(0, Vec::len);
        let volumes = object["spec"]["volumes"].as_array().map_or(0, Vec::len);
        let kind = format!("{} {owner} {containers} {volumes}", object["kind"]);
        if kinds.insert(kind) {
            written.push((place.to_owned(), object.clone()));
        }
    });
    assert!(written.len() >= 12, "{kinds:?}");
    for (place, object) in written {
        world.write_into_etcd(&place, &object);
        let resource = place.split('/').next().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str();
        let root = match object["apiVersion"].as_str().unwrap() {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let path = match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{resource}/{name}"),
            None => format!("{root}/{resource}/{name}"),
        };
        let mut served: Value =
            serde_json::from_str(&world.kubectl(&["get", "--raw", &path], "")).unwrap();
        served["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        let mut differences = Vec::new();
        compare(&object, &served, &path, &mut differences);
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

/// Where two values differ, as people can read it.
fn compare(ours: &Value, served: &Value, at: &str, out: &mut Vec<String>) {
    match (ours, served) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&ours[key], &served[key], &format!("{at}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{at}[{i}]"), out);
            }
        }
        _ if ours != served => out.push(format!("{at}: {ours} is served as {served}")),
        _ => {}
    }
}

#[test]
fn it_lists_them_in_as_many_bytes() {
    let world = World::bare();
    let cluster = Cluster::new(Size::of_pods(300));
    etcd::objects(&cluster, |place, object| {
        world.write_into_etcd(place, object);
    });
    let list = world.kubectl(&["get", "--raw", "/api/v1/pods"], "");
    let mut ours = Vec::new();
    for slot in 0..cluster.count(Resource::Pods) {
        cluster.item(Resource::Pods, slot, Edition::default(), &mut ours);
    }
    // But for the digits of the resource versions, the separators and the head of the list.
    let difference = list.len().abs_diff(ours.len());
    assert!(
        difference < 10 * cluster.count(Resource::Pods),
        "{} and {}",
        list.len(),
        ours.len()
    );
}
