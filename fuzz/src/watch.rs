use crate::{bounded, one_line};
use arbitrary::Unstructured;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use rbac_exporter::ledger::{Change, FaultReason, ObjectRef, WatchEvent};
use rbac_exporter::object::{Object, Resource};
use rbac_exporter::source::cluster::{Access, Cluster, Options};
use rbac_exporter::source::slim::decode;
use serde_json::Value;
use serde_json::value::RawValue;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

/// Longest frame and page that the driver is allowed here.
const LIMIT: usize = 4096;

/// Feeds a driver with a list and a stream from a server that says anything. The first bytes choose the
/// resource, which of the two the rest is, and where it is cut into chunks; the rest is the text.
///
/// - Cut anywhere, it is the same as in one piece.
/// - A stream gives what serde_json finds in its lines, up to the first that breaks it.
/// - A page gives what serde_json finds in it; what is no list begins and ends none.
/// - An endless line is given up, in the memory of what is allowed.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok([choice, cuts]) = input.arbitrary::<[u8; 2]>() else {
        return;
    };
    let Ok(cuts) = (0..cuts % 8)
        .map(|_| input.arbitrary::<u16>())
        .collect::<Result<Vec<_>, _>>()
    else {
        return;
    };
    let text = input.take_rest();
    let resource = Resource::ALL[usize::from(choice >> 1) % Resource::ALL.len()];
    let listed = choice & 1 == 1;
    let (whole, cut) = bounded(text, 300, || {
        let whole = drive(resource, listed, vec![Bytes::copy_from_slice(text)]);
        let cut = (!cuts.is_empty()).then(|| drive(resource, listed, chunks(text, &cuts)));
        (whole, cut)
    });
    if let Some(cut) = cut {
        // within one chunk an endless line may end beyond the limit that cuts it in pieces
        if longest_line(text) <= LIMIT {
            assert_eq!(whole, cut, "cut at {cuts:?}");
        }
    }
    for heard in &whole {
        if let Heard::Bad(_, message) | Heard::Fault(_, message) = heard {
            one_line(message);
            assert!(message.len() < 700, "{message}");
        }
    }
    if listed {
        page(resource, text, &whole);
    } else if longest_line(text) <= LIMIT {
        frames(resource, text, &whole);
    }
}

fn longest_line(text: &[u8]) -> usize {
    text.split(|b| *b == b'\n')
        .map(<[u8]>::len)
        .max()
        .unwrap_or_default()
}

fn chunks(text: &[u8], cuts: &[u16]) -> Vec<Bytes> {
    let mut at: Vec<usize> = cuts
        .iter()
        .map(|c| usize::from(*c) % (text.len() + 1))
        .collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|w| Bytes::copy_from_slice(&text[w[0]..w[1]]))
        .collect()
}

/// What the driver told, less when it was.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Begin,
    End,
    Upsert(Box<Object>),
    Delete(ObjectRef),
    Bad(ObjectRef, String),
    Event,
    Fault(FaultReason, String),
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
});

type Pieces = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

fn pieces(chunks: Vec<Bytes>) -> Response<StreamBody<Pieces>> {
    let frames: Vec<_> = chunks.into_iter().map(|c| Ok(Frame::data(c))).collect();
    Response::new(StreamBody::new(stream::iter(frames)))
}

/// Runs a driver against a server that answers the first list or the first watch with `chunks`, until the
/// driver asks again.
fn drive(resource: Resource, listed: bool, chunks: Vec<Bytes>) -> Vec<Heard> {
    let (asked_again, mut again) = mpsc::channel::<()>(1);
    let chunks = Arc::new(chunks);
    let turn = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().to_string();
        let (chunks, turn, asked_again) = (chunks.clone(), turn.clone(), asked_again.clone());
        async move {
            let answer = |text: String| pieces(vec![Bytes::from(text)]);
            if path.starts_with("/version") {
                return Ok::<_, Infallible>(answer(r#"{"gitVersion":"v1.37.2"}"#.to_owned()));
            }
            let watches = path.contains("watch=true");
            if !listed && !watches && turn.load(Ordering::Relaxed) == 0 {
                return Ok(answer(
                    r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#.to_owned(),
                ));
            }
            if watches != listed && turn.fetch_add(1, Ordering::Relaxed) == 0 {
                return Ok(pieces(chunks.to_vec()));
            }
            let _ = asked_again.send(()).await;
            std::future::pending().await
        }
    });
    let options = Options {
        resources: vec![resource],
        start_within: Duration::ZERO,
        frame_limit: LIMIT,
        page_limit: 16 * LIMIT,
        ..Options::default()
    };
    let mut out = Vec::new();
    RUNTIME.block_on(async {
        let (changes, mut incoming) = mpsc::channel(64);
        let (_running, shutdown) = watch::channel(false);
        let access = Access::fixed(Client::new(service, "default"));
        let cluster = Cluster::start(&access, decode, &changes, &shutdown, options);
        drop(changes);
        loop {
            let change = tokio::select! {
                biased;
                change = incoming.recv() => change.expect("the driver goes on"),
                _ = again.recv() => break,
            };
            out.extend(heard(change));
        }
        drop(cluster);
    });
    out
}

fn heard(change: Change) -> Option<Heard> {
    Some(match change {
        Change::RelistBegin(_) => Heard::Begin,
        Change::RelistEnd(_) => Heard::End,
        Change::Upsert(object) => Heard::Upsert(Box::new(object)),
        Change::Delete(object) => Heard::Delete(object),
        Change::Bad { object, message } => Heard::Bad(object, message),
        Change::Watch {
            event: WatchEvent::Event,
            ..
        } => Heard::Event,
        Change::Watch {
            event: WatchEvent::Fault { reason, message },
            ..
        } => Heard::Fault(reason, message),
        _ => return None,
    })
}

/// Holds what came of a stream to another reading of its lines.
fn frames(resource: Resource, text: &[u8], heard: &[Heard]) {
    let text = String::from_utf8_lossy(text);
    let mut heard = heard.iter().skip_while(|h| **h != Heard::End).skip(1);
    let mut rest = &*text;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Some((word, object)) = event(line) else {
            // what is no event ends the stream with a fault
            assert!(matches!(heard.next(), Some(Heard::Fault(..))), "{line}");
            return;
        };
        match (word.as_str(), object) {
            ("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR", None) => {
                assert!(matches!(heard.next(), Some(Heard::Fault(..))), "{line}");
                return;
            }
            ("ADDED" | "MODIFIED", Some(object)) => {
                match heard.next() {
                    Some(Heard::Upsert(ours)) => {
                        assert_eq!(decode(resource, &object).as_ref(), Ok(&**ours), "{line}");
                    }
                    Some(Heard::Bad(..)) => {
                        assert!(odd(resource, &object), "{line}");
                        assert!(matches!(heard.next(), Some(Heard::Fault(..))), "{line}");
                    }
                    other => panic!("{other:?} of {line}"),
                }
                assert_eq!(heard.next(), Some(&Heard::Event), "{line}");
            }
            ("DELETED", Some(object)) => match heard.next() {
                Some(Heard::Delete(gone)) => {
                    let object: Value = serde_json::from_str(&object).expect("read before");
                    if object.is_object() {
                        assert_eq!(object["metadata"]["name"], gone.name.as_str(), "{line}");
                    }
                    assert_eq!(gone.resource, resource);
                    assert_eq!(heard.next(), Some(&Heard::Event), "{line}");
                }
                Some(Heard::Fault(..)) => return,
                other => panic!("{other:?} of {line}"),
            },
            ("ERROR", Some(_)) => {
                assert!(matches!(heard.next(), Some(Heard::Fault(..))), "{line}");
                return;
            }
            _ => {}
        }
    }
    // what was not ended by a line feed is not applied
    let last = heard.next();
    let quiet = matches!(
        last,
        None | Some(Heard::Fault(FaultReason::Transport | FaultReason::Short, _))
    );
    assert!(quiet, "{last:?} of a line that is not whole");
}

/// The type of an event and the text of its object; `None` when the line is none. Keys are looked at one by
/// one, as a key that is there twice breaks an event.
fn event(line: &str) -> Option<(String, Option<String>)> {
    let mut keys = Vec::new();
    serde_json::from_str::<Keys<'_>>(line)
        .ok()?
        .0
        .into_iter()
        .for_each(|(k, v)| keys.push((k, v)));
    let of = |name: &str| {
        keys.iter()
            .filter(|(k, _)| k == name)
            .map(|(_, v)| v.get())
            .collect::<Vec<_>>()
    };
    let (words, objects) = (of("type"), of("object"));
    let [word] = words[..] else { return None };
    let word: String = serde_json::from_str(word).ok()?;
    match objects[..] {
        [] | ["null"] => Some((word, None)),
        [object] => Some((word, Some(object.to_owned()))),
        _ => None,
    }
}

/// An object of JSON with each key as often as it is there.
struct Keys<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Keys<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> serde::de::Visitor<'de> for Seen {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(Keys(out))
            }
        }
        from.deserialize_map(Seen)
    }
}

/// Does not decode, or says of itself that it is another kind.
fn odd(resource: Resource, object: &str) -> bool {
    let kind = serde_json::from_str::<Value>(object).ok();
    let kind = kind.and_then(|o| o.get("kind")?.as_str().map(str::to_owned));
    let found = decode(resource, object);
    found.is_err()
        || found.is_ok_and(|o| o.resource() != resource)
        || kind.is_some_and(|kind| kind != resource.kind())
}

/// Holds what came of a page to another reading of it.
fn page(resource: Resource, text: &[u8], heard: &[Heard]) {
    let text = String::from_utf8_lossy(text);
    let list: Option<Value> = serde_json::from_str(&text).ok();
    let begun = heard.contains(&Heard::Begin);
    let ended = heard.contains(&Heard::End);
    let Some(list) = list.filter(|_| text.len() <= 16 * LIMIT) else {
        assert!(!begun, "{text} is no list");
        return;
    };
    let version = list
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str);
    if list.is_object() && begun {
        assert!(
            version.is_some_and(|v| !v.is_empty()),
            "a list without a version"
        );
        let kind = format!("{}List", resource.kind());
        let other = list
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|k| k != kind);
        assert!(!other, "a list of something else");
        let items = list.get("items").and_then(Value::as_array);
        let told = heard.iter();
        let told = told
            .filter(|h| matches!(h, Heard::Upsert(_) | Heard::Bad(..)))
            .count();
        assert_eq!(told, items.map_or(0, Vec::len), "{text}");
        let goes_on = list.pointer("/metadata/continue").and_then(Value::as_str);
        assert_eq!(ended, goes_on.is_none_or(str::is_empty), "{text}");
    }
    if !begun {
        assert!(
            !ended && heard.iter().all(|h| matches!(h, Heard::Fault(..))),
            "{heard:?}"
        );
    }
}
