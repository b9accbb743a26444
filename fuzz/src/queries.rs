use crate::bounded;
use arbitrary::Unstructured;
use flate2::read::GzDecoder;
use html5gum::{Token, Tokenizer};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use rbac_exporter::export::http::{Ask, Content, Reply, Site};
use rbac_exporter::export::metrics::About;
use rbac_exporter::export::site::{Pages, Shared};
use rbac_exporter::ledger::{Ledger, Policy, Settings, World};
use rbac_exporter::rbac::NEWEST;
use rbac_exporter::risk::Catalogue;
use rbac_exporter::source::manifests::{Limits, Manifests};
use serde_json::Value;
use std::io::Read as _;
use std::sync::{Arc, LazyLock};

/// Asks for a path with a query. The first byte chooses the headers, the rest is a request target.
///
/// - The answer has a status that there is, headers that can be sent, the length that it says.
/// - Packed and plain it is the same.
/// - JSON is JSON; an error of the API says its status and why; a list is as long as it says, and the page
///   after it is the one that it names.
/// - A page for people has none of the elements and attributes by which markup acts.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(choice) = input.arbitrary::<u8>() else {
        return;
    };
    let Ok(target) = std::str::from_utf8(input.take_rest()) else {
        return;
    };
    // what hyper takes for a target is all that can come
    let Ok(uri) = target.parse::<Uri>() else {
        return;
    };
    let accept = [
        None,
        Some("application/openmetrics-text"),
        Some("text/html;q=0.1, */*"),
        Some(";;q=,"),
    ];
    let accept = accept[usize::from(choice & 3)];
    let ask = |accept_encoding| Ask {
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        accept,
        accept_encoding,
    };
    if let Some(reply) = SITE.health(uri.path(), uri.query().unwrap_or_default()) {
        sent(&reply);
        assert!(matches!(reply.status, 200 | 503));
        return;
    }
    // the whole report of the demo, and the page, are the same for every input
    let reply = bounded(&[0; 64 << 10], 100, || SITE.reply(&ask(None)));
    let text = sent(&reply);
    assert!(
        matches!(reply.status, 200 | 400 | 404),
        "{} to {target}",
        reply.status
    );
    if uri.path() != METRICS {
        let packed = SITE.reply(&ask(Some("gzip")));
        assert_eq!(sent(&packed), text, "{target}");
        assert_eq!(packed.status, reply.status);
    }
    match reply.content_type {
        "application/json" => json(&uri, &value(&text)),
        "application/problem+json" => {
            let problem = value(&text);
            assert_eq!(problem["status"], reply.status);
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(!detail.is_empty());
        }
        "text/html; charset=utf-8" => html(&text),
        _ => {}
    }
}

const METRICS: &str = "/metrics";

/// Judges the demo cluster, which takes longer than any input.
pub fn ready() {
    LazyLock::force(&SITE);
}

/// The demo cluster.
static SITE: LazyLock<Pages> = LazyLock::new(demo);

/// Serves the demo cluster of `deploy/demo`.
pub(crate) fn demo() -> Pages {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/demo");
    let mut manifests = Manifests::open(path, Limits::default()).expect("the demo");
    let policy = Policy::from(Arc::new(Catalogue::shipped()));
    let mut ledger = Ledger::new(policy, Settings::new(World::Manifests, NEWEST));
    ledger.advance(1_800_000_000);
    let changes = manifests.changes().expect("the demo").expect("changes");
    changes.into_iter().for_each(|change| ledger.apply(change));
    ledger.settle();
    let about = About {
        version: "0".to_owned(),
        revision: "0".to_owned(),
        external_url: String::new(),
    };
    Pages::new(Arc::new(Shared::new(ledger)), about, METRICS.to_owned())
}

/// The body as a client has it in the end.
fn sent(reply: &Reply) -> Vec<u8> {
    for (name, value) in &reply.headers {
        HeaderName::from_bytes(name.as_bytes()).expect("a name");
        HeaderValue::from_str(value).expect("a value");
    }
    let unpack = |packed: &[u8]| {
        let mut out = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut out).expect("gzip");
        out
    };
    match &reply.body {
        Content::Parts(parts) if reply.encoding.is_none() => parts.concat(),
        Content::Parts(parts) => unpack(&parts.concat()),
        Content::Unpacked { packed, length } => {
            assert_eq!(reply.encoding, None);
            let out = unpack(packed);
            assert_eq!(out.len() as u64, *length);
            out
        }
    }
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

fn json(uri: &Uri, answer: &Value) {
    let Some(total) = answer.get("total").and_then(Value::as_u64) else {
        return;
    };
    let number = |key: &str| answer[key].as_u64().expect("a number");
    let items = |answer: &Value| {
        let lists = ["subjects", "pods", "roles", "bindings", "rules"];
        let list = lists.iter().find_map(|list| answer.get(list)?.as_array());
        list.expect("a list").len() as u64
    };
    let (offset, limit) = (number("offset"), number("limit"));
    let rest = total.saturating_sub(offset);
    assert_eq!(items(answer), rest.min(limit), "{uri}");
    let next = answer["next"].as_str();
    assert_eq!(next.is_some(), rest > limit, "{uri}");
    if let Some(next) = next {
        assert!(next.starts_with('?'), "{next}");
        let ask = Ask {
            path: uri.path(),
            query: &next[1..],
            accept: None,
            accept_encoding: None,
        };
        let after = SITE.reply(&ask);
        assert_eq!(after.status, 200, "{next}");
        let after = value(&sent(&after));
        assert_eq!(after["offset"], offset + limit, "{next}");
        assert_eq!(after["total"], total, "{next}");
    }
}

/// Reads a page by the tokenizer of the HTML standard.
fn html(text: &[u8]) {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let odd = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert_eq!(text.chars().find(|c| odd(*c)), None);
    let mut styles = 0;
    for token in Tokenizer::new(text) {
        let Ok(token) = token;
        let Token::StartTag(tag) = token else {
            continue;
        };
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        let acts = [
            "script", "iframe", "object", "embed", "img", "svg", "base", "math", "template",
        ];
        assert!(!acts.contains(&name.as_str()), "<{name}>");
        styles += usize::from(name == "style");
        for (key, value) in &tag.attributes {
            let key = String::from_utf8_lossy(key);
            let value = String::from_utf8_lossy(value);
            assert!(
                !key.starts_with("on") && key != "style" && key != "src",
                "{name} {key}"
            );
            if matches!(&*key, "href" | "action") && name != "link" {
                // in the page, or to a text about what is told
                let scheme = value.split_once(':').map(|(scheme, _)| scheme);
                let relative = scheme.is_none_or(|s| s.contains(['/', '?', '#']));
                assert!(relative || value.starts_with("https://"), "{value}");
            }
        }
    }
    assert_eq!(styles, 1, "one style sheet, ours");
}
