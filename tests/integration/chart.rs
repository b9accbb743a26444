//! What can be said of the chart without helm: its README tells every value, its schema knows every key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Writes the README's table instead of comparing it.
const WRITE: &str = "RBAC_EXPORTER_WRITE_MANIFESTS";

fn chart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/helm/rbac-exporter")
        .join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(chart(file)).unwrap()
}

/// Every key of `values.yaml` that has a comment above it: path and comment, in order.
fn described(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(text) = line.strip_prefix("# ") {
            comment = Some(text.to_owned());
            continue;
        }
        let key = line.split(':').next().unwrap_or_default();
        let is_key = line.contains(':') && !key.is_empty() && !key.starts_with('-');
        if is_key {
            parents.retain(|(depth, _)| *depth < indent);
            parents.push((indent, key.to_owned()));
            let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).collect();
            if let Some(comment) = comment.take() {
                out.push((path.join("."), comment));
            }
        }
        comment = None;
    }
    out
}

/// The leaves that the chart's own schema has, an object without properties being one.
fn leaves(schema: &Value, path: &str, out: &mut Vec<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (key, below) in properties {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(below, &path, out);
            }
        }
        None => out.push(path.to_owned()),
    }
}

fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(values, |value, key| value.get(key))
}

#[test]
fn every_value_is_described_and_in_the_schema() {
    let text = read("values.yaml");
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let described: BTreeMap<String, String> = described(&text).into_iter().collect();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut known = Vec::new();
    leaves(&schema, "", &mut known);
    // helm itself puts `global` there; the kinds of a container's resources are Kubernetes' own
    known.retain(|path| path != "global" && !path.starts_with("resources."));
    for path in &known {
        assert!(at(&values, path).is_some(), "{path} has no default");
        assert!(
            described.contains_key(path),
            "{path} has no comment above it"
        );
    }
    for path in described.keys() {
        let below = format!("{path}.");
        assert!(
            path == "resources" || known.iter().any(|k| k == path || k.starts_with(&below)),
            "{path} is not in the schema"
        );
    }
}

#[test]
fn the_readme_has_the_values_as_they_are() {
    let text = read("values.yaml");
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let mut table = "| value | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for (path, comment) in described(&text)
        .into_iter()
        .skip_while(|(p, _)| p.is_empty())
    {
        let default = at(&values, &path).map(Value::to_string).unwrap_or_default();
        let comment = comment.replace('|', "\\|");
        table += &format!("| `{path}` | `{default}` | {comment} |\n");
    }
    let readme = read("README.md");
    let (start, end) = ("<!-- values -->\n", "<!-- end of values -->");
    let from = readme.find(start).expect("a mark for the table") + start.len();
    let to = readme.find(end).expect("a mark behind the table");
    let wanted = format!("{}{table}{}", &readme[..from], &readme[to..]);
    if std::env::var_os(WRITE).is_some() {
        fs::write(chart("README.md"), &wanted).unwrap();
    }
    assert!(
        read("README.md") == wanted,
        "the table of values is not that of values.yaml: run `make manifests`"
    );
}
