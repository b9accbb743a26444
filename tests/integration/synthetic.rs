//! The synthetic cluster of the benchmarks is a cluster: every object decodes, refers to what exists, and is as
//! large as real ones are. Figures measured on anything less would say little.

#[path = "../../benches/cluster/mod.rs"]
#[allow(dead_code, reason = "benchmarks use more of it than its test does")]
mod cluster;

use cluster::{Cluster, Edition, Size};
use rbac_exporter::object::Resource;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const SIZE: Size = Size {
    pods: 3_000,
    bindings: 1_200,
    roles: 600,
    namespaces: 80,
};

fn objects(cluster: &Cluster, resource: Resource) -> Vec<(Value, usize)> {
    let mut text = Vec::new();
    (0..cluster.count(resource))
        .map(|slot| {
            text.clear();
            cluster.object(resource, slot, Edition::default(), &mut text);
            let object = serde_json::from_slice(&text);
            let readable = || format!("{resource:?} {slot}: {}", String::from_utf8_lossy(&text));
            (
                object.unwrap_or_else(|e| panic!("{e}: {}", readable())),
                text.len(),
            )
        })
        .collect()
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

#[test]
fn no_two_objects_have_one_name_or_uid_and_all_refer_to_what_exists() {
    let cluster = Cluster::new(SIZE);
    let mut all: BTreeMap<Resource, BTreeSet<(String, String)>> = BTreeMap::new();
    for resource in Resource::ALL {
        let objects = objects(&cluster, resource);
        let keys: BTreeSet<_> = objects.iter().map(|(object, _)| key(object)).collect();
        assert_eq!(keys.len(), objects.len(), "{resource:?}");
        let uids = objects.iter().map(|(object, _)| &object["metadata"]["uid"]);
        let uids: BTreeSet<String> = uids.map(Value::to_string).collect();
        assert_eq!(uids.len(), objects.len(), "{resource:?}");
        all.insert(resource, keys);
    }
    let exists = |resource: Resource, namespace: &str, name: &str| {
        all[&resource].contains(&(namespace.to_owned(), name.to_owned()))
    };
    for resource in [Resource::ClusterRoleBindings, Resource::RoleBindings] {
        for (binding, _) in objects(&cluster, resource) {
            let (namespace, _) = key(&binding);
            let role = binding["roleRef"]["name"].as_str().unwrap();
            let found = match binding["roleRef"]["kind"].as_str().unwrap() {
                "ClusterRole" => exists(Resource::ClusterRoles, "", role),
                _ => exists(Resource::Roles, &namespace, role),
            };
            assert!(found, "{binding}");
            for subject in binding["subjects"].as_array().unwrap() {
                let (namespace, name) = (&subject["namespace"], &subject["name"]);
                assert!(
                    subject["kind"] != "ServiceAccount"
                        || exists(
                            Resource::ServiceAccounts,
                            namespace.as_str().unwrap(),
                            name.as_str().unwrap()
                        ),
                    "{binding}"
                );
            }
        }
    }
    for (pod, _) in objects(&cluster, Resource::Pods) {
        let (namespace, _) = key(&pod);
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        assert!(
            exists(Resource::ServiceAccounts, &namespace, account),
            "{pod}"
        );
        assert!(exists(Resource::Namespaces, "", &namespace), "{pod}");
    }
}

#[test]
fn pods_are_as_large_as_real_ones_and_a_few_namespaces_hold_most() {
    let cluster = Cluster::new(SIZE);
    let pods = objects(&cluster, Resource::Pods);
    let sizes: Vec<usize> = pods.iter().map(|(_, size)| *size).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((8_000..12_000).contains(&mean), "{mean} bytes a pod");
    // Those with a mesh's proxy are the largest, as they are in life.
    let all = sizes.iter().min()..sizes.iter().max();
    assert!(
        all.start >= Some(&5_000) && all.end < Some(&16_000),
        "{all:?}"
    );
    let mut spaces: BTreeMap<String, usize> = BTreeMap::new();
    for (pod, _) in &pods {
        *spaces.entry(key(pod).0).or_default() += 1;
    }
    let mut counts: Vec<usize> = spaces.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let eighth: usize = counts.iter().take(SIZE.namespaces / 8).sum();
    assert!(eighth * 10 > pods.len() * 4, "{counts:?}");
}

#[test]
fn another_edition_of_a_pod_is_another_pod_of_the_same_workload() {
    let cluster = Cluster::new(SIZE);
    let read = |number| {
        let mut text = Vec::new();
        let edition = Edition {
            number,
            ..Edition::default()
        };
        let slot = 1_000;
        cluster.object(Resource::Pods, slot, edition, &mut text);
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    let (before, after) = (read(0), read(1));
    assert_ne!(before["metadata"]["name"], after["metadata"]["name"]);
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(
        before["metadata"]["ownerReferences"],
        after["metadata"]["ownerReferences"]
    );
    assert_eq!(read(0), before, "the same in every run");
}
