//! The cluster as files: what people keep in git, and what `kubectl get -o yaml` prints.

use super::{Cluster, Edition};
use rbac_exporter::object::Resource;
use serde_json::Value;
use std::io::{self, Write};

/// In which of its two lives an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Before it was applied: what a person or a chart wrote, nothing that the server adds.
    Written,
    /// As `kubectl get -o yaml` prints it: a List, with status and what admission added, without `managedFields`.
    Read,
}

/// Writes all objects of these resources as YAML, and says how many.
pub(crate) fn write(
    cluster: &Cluster,
    resources: &[Resource],
    life: Life,
    out: &mut impl Write,
) -> io::Result<usize> {
    let mut count = 0;
    let mut json = Vec::new();
    if life == Life::Read {
        writeln!(out, "apiVersion: v1\nitems:")?;
    }
    for &resource in resources {
        for slot in 0..cluster.count(resource) {
            json.clear();
            cluster.object(resource, slot, Edition::default(), &mut json);
            let mut object: Value = serde_json::from_slice(&json)?;
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            if life == Life::Written {
                unapply(&mut object);
            }
            let text = serde_yaml::to_string(&object).map_err(io::Error::other)?;
            match life {
                Life::Written => write!(out, "---\n{text}")?,
                Life::Read => {
                    for (at, line) in text.lines().enumerate() {
                        let lead = if at == 0 { "- " } else { "  " };
                        writeln!(out, "{lead}{line}")?;
                    }
                }
            }
            count += 1;
        }
    }
    if life == Life::Read {
        writeln!(out, "kind: List\nmetadata:\n  resourceVersion: ''")?;
    }
    Ok(count)
}

/// Takes away what the server and its admission added.
pub(crate) fn unapply(object: &mut Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    object.remove("status");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "generateName",
            "ownerReferences",
            "managedFields",
        ] {
            metadata.remove(field);
        }
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in [
        "nodeName",
        "serviceAccount",
        "priority",
        "preemptionPolicy",
        "schedulerName",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "dnsPolicy",
    ] {
        spec.remove(field);
    }
    let injected = |value: &Value| {
        value["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("kube-api-access-"))
    };
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| !injected(volume));
    }
    for containers in ["initContainers", "containers"] {
        let containers = spec.get_mut(containers).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(mounts) = container
                .get_mut("volumeMounts")
                .and_then(Value::as_array_mut)
            {
                mounts.retain(|mount| !injected(mount));
            }
        }
    }
}
