use crate::{bounded, lines, one_line};
use rbac_exporter::ledger::Severity;
use rbac_exporter::object::{Object, Resource};
use rbac_exporter::source::manifests::{Reading, parse};
use rbac_exporter::source::slim::decode;
use serde::Deserialize as _;
use serde_json::{Value as Json, json};
use serde_yaml::Value as Yaml;
use std::collections::BTreeMap;

/// How the stream is called.
const FILE: &str = "fuzz.yaml";

/// Reads a stream of documents, and holds it to what serde_yaml makes of the whole of it:
///
/// - every problem names the file, and a line and a document that there are;
/// - a stream that is no YAML has an error; so has one whose bytes are no text;
/// - every object that the other reading finds is there and the same, or an error names its document;
/// - no object is there that the other reading does not find;
/// - the same documents as JSON give the same.
pub fn run(data: &[u8]) {
    let reading = bounded(data, 400, || parse(FILE, data));
    let most = lines(data);
    for problem in &reading.problems {
        one_line(&problem.message);
        assert_eq!(problem.file.as_deref(), Some(FILE));
        if let Some(line) = problem.line {
            assert!((1..=most).contains(&line), "{problem:?}");
        }
        if problem.document.is_none() {
            assert_eq!(problem.line, None, "{problem:?}");
        }
    }
    let mut keys: Vec<_> = reading.objects.iter().map(key).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "an object is there twice");
    for object in &reading.objects {
        let origin = object.meta().origin.as_ref().expect("an origin");
        assert_eq!(&*origin.file, FILE);
        assert!((1..=most).contains(&origin.line), "{origin:?}");
    }
    let sound = !reading
        .problems
        .iter()
        .any(|p| p.severity == Severity::Error);
    // the other reading takes the mark for a column of the first line
    let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let Ok(text) = std::str::from_utf8(data) else {
        // a document of comments alone is passed over whatever is in it, and so are one beside its mark and
        // directives
        let content = |line: &[u8]| {
            let unmarked = line.strip_prefix(b"---").unwrap_or(line);
            !matches!(unmarked.trim_ascii().first(), None | Some(b'#' | b'%'))
        };
        let odd = |line: &[u8]| std::str::from_utf8(line).is_err() && content(line);
        let data = with_line_feeds(data);
        let tells = data.split(|b| *b == b'\n').any(odd);
        assert!(!sound || !tells, "bytes that are no text are passed over");
        return;
    };
    match documents(text) {
        Documents::NotYaml => {
            // a stream of JSON values is none of YAML, and ours all the same
            let json = serde_json::Deserializer::from_str(text);
            let json = json.into_iter::<Json>().all(|value| value.is_ok());
            let comments = text
                .lines()
                .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
            assert!(
                !sound || json || comments || has_marks(text),
                "no YAML, and nothing said"
            );
        }
        Documents::Beyond => {}
        Documents::These(documents) => compare(&reading, sound, &documents),
    }
}

/// With a line feed for each break that YAML knows.
fn with_line_feeds(mut data: &[u8]) -> Vec<u8> {
    let breaks = ["\r", "\u{85}", "\u{2028}", "\u{2029}"].map(str::as_bytes);
    let mut out = Vec::with_capacity(data.len());
    while let Some(first) = data.first() {
        let mark = breaks.iter().find(|mark| data.starts_with(mark));
        out.push(if mark.is_some() { b'\n' } else { *first });
        data = &data[mark.map_or(1, |mark| mark.len())..];
    }
    out
}

/// What the other reading makes of a stream.
enum Documents {
    /// It does not parse.
    NotYaml,
    /// It parses into something that JSON has no words for, or that two readings may take for two things.
    Beyond,
    /// Its documents.
    These(Vec<Json>),
}

/// Signs of the splitting that is done by lines here and by the grammar there.
fn has_marks(text: &str) -> bool {
    text.contains("---") || text.contains("...") || text.contains('%')
}

fn documents(text: &str) -> Documents {
    let depth = text.bytes().filter(|b| matches!(b, b'[' | b'{')).count();
    if depth > 1000 {
        return Documents::Beyond;
    }
    let syntax = |text| {
        serde_yaml::Deserializer::from_str(text)
            .all(|document| serde::de::IgnoredAny::deserialize(document).is_ok())
    };
    if !syntax(text) {
        return Documents::NotYaml;
    }
    let mut out = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let Ok(mut value) = Yaml::deserialize(document) else {
            return Documents::Beyond;
        };
        if text.contains("<<") && value.apply_merge().is_err() || !plain(&value) {
            return Documents::Beyond;
        }
        match serde_json::to_value(&value) {
            Ok(value) => out.push(value),
            Err(_) => return Documents::Beyond,
        }
    }
    Documents::These(out)
}

/// Nothing but what JSON has, with keys that are text.
fn plain(value: &Yaml) -> bool {
    match value {
        Yaml::Tagged(_) => false,
        Yaml::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Yaml::Sequence(items) => items.iter().all(plain),
        Yaml::Mapping(pairs) => pairs.iter().all(|(k, v)| k.is_string() && plain(v)),
        Yaml::Null | Yaml::Bool(_) | Yaml::String(_) => true,
    }
}

type Key = (Resource, String, String);

fn key(object: &Object) -> Key {
    let meta = object.meta();
    (object.resource(), meta.namespace.clone(), meta.name.clone())
}

/// An object that the other reading found.
struct Found {
    document: u32,
    resource: Resource,
    object: Result<Object, String>,
}

fn compare(reading: &Reading, sound: bool, documents: &[Json]) {
    let mut found = Vec::new();
    let mut beyond = false;
    for (index, document) in documents.iter().enumerate() {
        let number = u32::try_from(index).expect("few documents") + 1;
        leaves(
            document,
            None,
            0,
            &mut |leaf, resource| {
                let object = decode(resource, &leaf.to_string()).map_err(|e| e.message);
                found.push(Found {
                    document: number,
                    resource,
                    object,
                });
            },
            &mut beyond,
        );
    }
    let mut times: BTreeMap<Key, usize> = BTreeMap::new();
    for object in found.iter().filter_map(|f| f.object.as_ref().ok()) {
        *times.entry(key(object)).or_default() += 1;
    }
    let ours: BTreeMap<Key, &Object> = reading.objects.iter().map(|o| (key(o), o)).collect();
    for Found {
        document,
        resource,
        object,
    } in &found
    {
        let errors = || {
            let errors = reading.problems.iter();
            let mut errors = errors.filter(|p| p.severity == Severity::Error);
            errors.any(|p| p.document.is_none_or(|d| d == *document))
        };
        match object {
            Err(why) => assert!(
                errors(),
                "a {} in document {document} that cannot be read ({why}) is passed over",
                resource.kind()
            ),
            // of a pod that nobody has admitted it says what admission would make of it
            Ok(Object::Pod(_)) => {}
            Ok(object) => match ours.get(&key(object)) {
                None => assert!(errors(), "{object:?} of document {document} is lost"),
                Some(same) if times[&key(object)] == 1 => {
                    let mut same = (*same).clone();
                    same.meta_mut().origin = None;
                    assert_eq!(same, *object);
                }
                Some(_) => {}
            },
        }
    }
    if !beyond {
        let invented = reading
            .objects
            .iter()
            .find(|object| !matches!(object, Object::Pod(_)) && !times.contains_key(&key(object)));
        // one that cannot be read in whole has been read in part only where an error says so
        assert!(invented.is_none() || !sound, "{invented:?} is invented");
    }
    if sound {
        again_as_json(reading, documents);
    }
}

/// The objects of a document, those in lists included, that are one of ours by apiVersion and kind.
fn leaves(
    value: &Json,
    typed: Option<(&str, &str)>,
    depth: u32,
    each: &mut dyn FnMut(&Json, Resource),
    beyond: &mut bool,
) {
    let text = |key: &str| value.get(key).and_then(Json::as_str);
    let (version, kind) = (
        text("apiVersion").or(typed.map(|t| t.0)),
        text("kind").or(typed.map(|t| t.1)),
    );
    let Some(kind) = kind else { return };
    // a list need not say its version: what is in it says its own
    if let Some(singular) = kind.strip_suffix("List") {
        let typed = text("apiVersion").filter(|_| !singular.is_empty());
        let typed = typed.map(|version| (version, singular));
        match value.get("items") {
            Some(Json::Array(items)) if depth < 8 => {
                for item in items {
                    leaves(item, typed, depth + 1, each, beyond);
                }
                return;
            }
            Some(Json::Null) => return,
            Some(Json::Array(_)) => *beyond = true,
            _ => {}
        }
    }
    let resource = Resource::ALL.into_iter().find(|r| r.kind() == kind);
    let (Some(version), Some(resource)) = (version, resource) else {
        return;
    };
    let core = matches!(
        resource,
        Resource::ServiceAccounts | Resource::Pods | Resource::Namespaces
    );
    let group = if core {
        "v1"
    } else {
        "rbac.authorization.k8s.io/v1"
    };
    if version != group {
        // an older version of it may be read too
        *beyond = true;
        return;
    }
    let mut leaf = value.clone();
    let cluster = matches!(
        resource,
        Resource::ClusterRoles | Resource::ClusterRoleBindings | Resource::Namespaces
    );
    if !cluster {
        let metadata = leaf.get_mut("metadata").and_then(Json::as_object_mut);
        if let Some(metadata) = metadata {
            let namespace = metadata.entry("namespace").or_insert(Json::Null);
            if namespace.is_null() || namespace == "" {
                *namespace = json!("default");
            }
        }
    }
    each(&leaf, resource);
}

/// Writes the documents as JSON, one a line, and reads them.
fn again_as_json(reading: &Reading, documents: &[Json]) {
    let text: String = documents
        .iter()
        .filter(|d| d.is_object())
        .map(|d| format!("{d}\n"))
        .collect();
    let again = parse(FILE, text.as_bytes());
    let bare = |reading: &Reading| {
        let mut objects = reading.objects.clone();
        objects.iter_mut().for_each(|o| o.meta_mut().origin = None);
        objects
    };
    assert_eq!(bare(reading), bare(&again), "{text}");
    assert_eq!(reading.skipped, again.skipped, "{text}");
}
