//! The cluster in a real API server: written into its etcd, as nobody could ask the server itself for old times,
//! `managedFields` and a status.

use super::{Cluster, Edition};
use rbac_exporter::object::Resource;
use serde_json::Value;

/// Gives every object that a server does not create by itself to `put`, with its place below `/registry/`.
pub(crate) fn objects(cluster: &Cluster, mut put: impl FnMut(&str, &Value)) {
    let mut text = Vec::new();
    for resource in Resource::ALL {
        for slot in cluster.shipped(resource)..cluster.count(resource) {
            text.clear();
            cluster.object(resource, slot, Edition::default(), &mut text);
            let mut object: Value = serde_json::from_slice(&text).unwrap();
            // etcd's own revision takes its place.
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.remove("resourceVersion");
            let name = metadata["name"].as_str().unwrap();
            let place = match metadata.get("namespace").and_then(Value::as_str) {
                Some(namespace) => format!("{}/{namespace}/{name}", resource.plural()),
                None => format!("{}/{name}", resource.plural()),
            };
            put(&place, &object);
        }
    }
}
