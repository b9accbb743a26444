//! What goes over the wire: a page of a list, the frames of a watch, the server's version, and how
//! each of them can fail. Nothing here waits longer than the network does; deadlines are the caller's.
//!
//! The requests are made through [`Client::send`], below kube's typed calls, because those hide what
//! the driver needs (the `Retry-After` header, bookmarks, the text of one object among others) and
//! log the whole body of a list that does not decode.

use crate::ledger::FaultReason;
use crate::object::Resource;
use hyper::body::{Body as _, Buf};
use hyper::header::{ACCEPT, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use kube::client::{AuthError, Body, Client};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

/// An error answer longer than this is some proxy's page; its beginning says as much.
const ERROR_BODY_LIMIT: usize = 64 << 10;
/// Longest message passed on. The API server's own are far shorter.
const MESSAGE_LIMIT: usize = 400;
/// A reader that held a large frame gives the memory back down to this.
const READER_KEEPS: usize = 256 << 10;

/// Why a request or stream failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: FaultReason,
    /// One line.
    pub(super) message: String,
    /// What the server asked for.
    pub(super) retry_after: Option<Duration>,
    /// The server will not watch from the version it was given.
    pub(super) stale: bool,
    /// The stream broke on its content, so that the same version may break it again.
    pub(super) broken: bool,
    /// The answer was larger than allowed.
    pub(super) oversize: bool,
    /// The server answered, and will say the same next time (4xx but 401, 408 and 429).
    pub(super) refused: bool,
}

impl Failure {
    pub(super) fn new(reason: FaultReason, message: impl Into<String>) -> Failure {
        Failure {
            reason,
            message: one_line(&message.into()),
            retry_after: None,
            stale: false,
            broken: false,
            oversize: false,
            refused: false,
        }
    }

    /// A deadline passed.
    pub(super) fn timeout(what: &str, deadline: Duration) -> Failure {
        let seconds = deadline.as_secs_f64();
        Failure::new(FaultReason::Timeout, format!("{what} for {seconds:.1} s"))
    }

    /// A stream broke on its content.
    pub(super) fn broken(message: impl Into<String>) -> Failure {
        Failure {
            broken: true,
            ..Failure::new(FaultReason::Decode, message)
        }
    }

    fn oversize(what: &str, limit: usize) -> Failure {
        Failure {
            oversize: true,
            ..Failure::broken(format!("{what} is longer than {} KiB", limit >> 10))
        }
    }

    fn client(error: &kube::Error) -> Failure {
        // kube's own words around the two that matter say nothing.
        let cause: &dyn Error = match error {
            kube::Error::Service(cause) => cause.as_ref(),
            kube::Error::HyperError(cause) => cause,
            other => other,
        };
        let credentials = cause.is::<AuthError>() || matches!(error, kube::Error::Auth(_));
        let reason = if credentials {
            FaultReason::Unauthorized
        } else {
            FaultReason::Transport
        };
        Failure::new(reason, chain(cause))
    }

    /// From the Status object of an answer or of an ERROR event.
    fn status(status: &Status, code: u16) -> Failure {
        let said = status.message.as_deref().unwrap_or_default();
        let word = status.reason.as_deref().unwrap_or_default();
        let expired = code == 410 || matches!(word, "Expired" | "Gone");
        let reason = match code {
            _ if expired => FaultReason::Expired,
            401 => FaultReason::Unauthorized,
            403 => FaultReason::Forbidden,
            429 => FaultReason::Throttled,
            _ => FaultReason::Server,
        };
        let message = match (said, word) {
            ("", "") => format!("the server answered {code}"),
            ("", word) => format!("the server answered {code} {word}"),
            (said, _) => format!("the server answered {code}: {said}"),
        };
        // A server whose state was rolled back does not expire a version of its future but waits
        // for it and then says so with 504.
        let future = code == 504 && said.contains("Too large resource version");
        Failure {
            retry_after: status
                .details
                .as_ref()
                .and_then(|d| d.retry_after_seconds)
                .filter(|&s| s > 0)
                .map(Duration::from_secs),
            stale: expired || future || matches!(code, 400 | 404 | 422),
            refused: (400..500).contains(&code) && !matches!(code, 401 | 408 | 429),
            ..Failure::new(reason, message)
        }
    }
}

/// The fields of a `metav1.Status` that matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: Option<String>,
    reason: Option<String>,
    code: Option<u16>,
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
}

/// Sends a request and passes success on.
async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
    let mut request = request.map(Body::from);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    let response = client.send(request).await;
    let response = response.map_err(|e| Failure::client(&e))?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let (head, mut body) = response.into_parts();
    let mut text = Vec::new();
    // What was read of an error before it got too long or broke off is still worth showing.
    let _ = collect(&mut body, &mut text, ERROR_BODY_LIMIT).await;
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| Status {
        message: Some(String::from_utf8_lossy(&text).into_owned()),
        ..Status::default()
    });
    let mut failure = Failure::status(&status, head.status.as_u16());
    let header = head.headers.get(RETRY_AFTER);
    if let Some(seconds) = header.and_then(|v| v.to_str().ok()?.trim().parse().ok()) {
        failure.retry_after = Some(Duration::from_secs(seconds));
    }
    Err(failure)
}

/// The next data of a body; `None` at its end. Cancelling it loses nothing.
async fn chunk(body: &mut Body) -> Result<Option<bytes::Bytes>, Failure> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::client(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn collect(body: &mut Body, into: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    while let Some(data) = chunk(body).await? {
        if into.len() + data.remaining() > limit {
            return Err(Failure::oversize("the answer", limit));
        }
        into.extend_from_slice(&data);
    }
    Ok(())
}

/// Sends a request and reads the whole answer into `into`, which is reused from page to page. When it
/// fails, what had come of the answer is there.
pub(super) async fn fetch(
    client: &Client,
    request: Request<Vec<u8>>,
    into: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Failure> {
    into.clear();
    let response = send(client, request).await?;
    collect(&mut response.into_body(), into, limit).await
}

/// Bytes as text; those that are no UTF-8 become U+FFFD. That they all are is found out four times faster than
/// which are not.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// One page of a list, its objects as text.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) version: String,
    pub(super) next: Option<String>,
    pub(super) items: Vec<&'a RawValue>,
}

impl<'a> Page<'a> {
    /// Reads a page of a list of a resource.
    pub(super) fn parse(text: &'a str, resource: Resource) -> Result<Page<'a>, Failure> {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(default)]
            kind: Option<String>,
            metadata: ListMeta,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMeta {
            resource_version: Option<String>,
            #[serde(default)]
            r#continue: Option<String>,
        }
        let list: List<'_> = serde_json::from_str(text).map_err(|e| {
            Failure::new(FaultReason::Decode, format!("the answer is no list: {e}"))
        })?;
        let expected = format!("{}List", resource.kind());
        if let Some(kind) = list.kind.filter(|kind| *kind != expected) {
            return Err(Failure::new(
                FaultReason::Decode,
                format!("the answer is a {kind} where a {expected} was asked for"),
            ));
        }
        let version = list.metadata.resource_version.filter(|v| !v.is_empty());
        // Any JSON object looks like an empty list, and an empty list deletes everything.
        let version = version.ok_or_else(|| {
            Failure::new(
                FaultReason::Decode,
                "the answer is no list: it has no resourceVersion",
            )
        })?;
        Ok(Page {
            version,
            next: list.metadata.r#continue.filter(|c| !c.is_empty()),
            items: list.items.unwrap_or_default(),
        })
    }
}

/// An event of a watch, its object as text.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// ADDED or MODIFIED
    Applied(&'a str),
    /// DELETED
    Deleted(&'a str),
    /// BOOKMARK
    Bookmark(&'a str),
    /// A type that is not known, or an empty line.
    Other,
}

impl<'a> Event<'a> {
    /// The object of an event that came or changed, where the frame is written as API servers write it. It is one
    /// if it decodes: what its end is need not be looked for before.
    pub(super) fn applied(text: &'a str) -> Option<&'a str> {
        let added = || text.strip_prefix(r#"{"type":"ADDED","object":"#);
        let text = text.strip_prefix(r#"{"type":"MODIFIED","object":"#);
        text.or_else(added)?.trim_ascii_end().strip_suffix('}')
    }

    /// Reads a frame; an ERROR event is a failure.
    pub(super) fn parse(text: &'a str) -> Result<Event<'a>, Failure> {
        #[derive(Deserialize)]
        struct Frame<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
            #[serde(borrow, default)]
            object: Option<&'a RawValue>,
        }
        if text.trim_ascii().is_empty() {
            return Ok(Event::Other);
        }
        let frame: Frame<'_> = serde_json::from_str(text)
            .map_err(|e| Failure::broken(format!("a frame is no event: {e}")))?;
        let object = || {
            frame.object.map(RawValue::get).ok_or_else(|| {
                Failure::broken(format!("an event of type {} has no object", frame.r#type))
            })
        };
        match &*frame.r#type {
            "ADDED" | "MODIFIED" => Ok(Event::Applied(object()?)),
            "DELETED" => Ok(Event::Deleted(object()?)),
            "BOOKMARK" => Ok(Event::Bookmark(object()?)),
            "ERROR" => {
                let status: Status = serde_json::from_str(object()?).unwrap_or_default();
                let failure = Failure::status(&status, status.code.unwrap_or(500));
                let content = failure.reason == FaultReason::Server;
                Err(Failure {
                    broken: content,
                    ..failure
                })
            }
            _ => Ok(Event::Other),
        }
    }
}

/// What tells objects apart, read from one that may be odd in every other respect.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) resource_version: Option<String>,
    /// Not of the metadata but of the object.
    pub(super) kind: Option<String>,
}

impl Identity {
    /// Reads no further than it must: what API servers write begins with it, and managedFields and the whole
    /// specification follow. Nothing where what was read makes no sense.
    pub(super) fn of(object: &str) -> Identity {
        let mut identity = Identity::default();
        let mut from = serde_json::Deserializer::from_str(object);
        let read = from.deserialize_map(Outer(&mut identity));
        match read {
            // what is left unread is an error to the deserializer
            Err(_) if !identity.is_whole() => Identity::default(),
            _ => identity,
        }
    }

    fn is_whole(&self) -> bool {
        let parts = [
            &self.namespace,
            &self.name,
            &self.resource_version,
            &self.kind,
        ];
        parts.iter().all(|part| part.is_some())
    }
}

/// Fills an identity from an object.
struct Outer<'a>(&'a mut Identity);

/// Fills it from the metadata of one.
struct Inner<'a>(&'a mut Identity);

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while !self.0.is_whole()
            && let Some(key) = map.next_key::<Cow<'de, str>>()?
        {
            match &*key {
                "kind" => self.0.kind = map.next_value()?,
                "metadata" => map.next_value_seed(Inner(self.0))?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Inner<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while !self.0.is_whole()
            && let Some(key) = map.next_key::<Cow<'de, str>>()?
        {
            match &*key {
                "namespace" => self.0.namespace = map.next_value()?,
                "name" => self.0.name = map.next_value()?,
                "resourceVersion" => self.0.resource_version = map.next_value()?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

/// The lines of a watch.
pub(super) struct Frames {
    body: Body,
    buffer: Vec<u8>,
    /// Start of what was not handed out yet.
    start: usize,
    /// Up to here there is no line feed.
    searched: usize,
    limit: usize,
}

impl Frames {
    /// Opens the stream.
    pub(super) async fn open(
        client: &Client,
        request: Request<Vec<u8>>,
        limit: usize,
    ) -> Result<Frames, Failure> {
        Ok(Frames {
            body: send(client, request).await?.into_body(),
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            limit,
        })
    }

    /// Waits for the next whole line and says where it is; `None` when the stream ended between two
    /// lines. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Range<usize>>, Failure> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(length) = fresh.iter().position(|&b| b == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched - self.start > self.limit {
                return Err(Failure::oversize("a frame", self.limit));
            }
            let Some(data) = chunk(&mut self.body).await? else {
                return match &self.buffer[self.start..] {
                    [] => Ok(None),
                    _ => Err(Failure::new(
                        FaultReason::Transport,
                        "the stream ended in the middle of a frame",
                    )),
                };
            };
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            if self.buffer.capacity() > READER_KEEPS && self.buffer.len() < READER_KEEPS / 4 {
                self.buffer.shrink_to(READER_KEEPS);
            }
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The text of a line. Bytes that are no UTF-8 become U+FFFD, as in every other decoder of the
    /// API, so that they spoil one string and not the stream.
    pub(super) fn text(&self, line: Range<usize>) -> Cow<'_, str> {
        text(&self.buffer[line])
    }
}

/// The server's version, such as `1.37.2`; `None` when what it says cannot be read.
pub(super) async fn version(client: &Client) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        git_version: String,
    }
    let request = Request::get("/version")
        .body(Vec::new())
        .map_err(|e| Failure::new(FaultReason::Transport, e.to_string()))?;
    let mut text = Vec::new();
    fetch(client, request, &mut text, ERROR_BODY_LIMIT).await?;
    Ok(serde_json::from_slice::<Info>(&text)
        .ok()
        .and_then(|info| plain_version(&info.git_version)))
}

/// `v1.33.1+k3s1`, `v1.31.2-gke.100`: what distributions append says nothing about RBAC.
fn plain_version(text: &str) -> Option<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let plain = &text[..end.unwrap_or(text.len())];
    let parts: Vec<&str> = plain.split('.').collect();
    (parts.len() >= 2 && parts.iter().all(|p| !p.is_empty())).then(|| plain.to_owned())
}

/// An error with its causes; the outermost alone is often "client error (Connect)".
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// One line of bounded length without control characters, fit for logs and labels.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MESSAGE_LIMIT));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MESSAGE_LIMIT {
            let cut = (0..=MESSAGE_LIMIT)
                .rev()
                .find(|&i| line.is_char_boundary(i));
            line.truncate(cut.unwrap_or_default());
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_list_with_a_version() {
        let parse = |text| Page::parse(text, Resource::Pods);
        let page = parse(r#"{"metadata":{"resourceVersion":"7","continue":"x"},"items":[1,{}]}"#);
        let page = page.unwrap();
        assert_eq!(
            (page.version.as_str(), page.next.as_deref()),
            ("7", Some("x"))
        );
        assert_eq!(page.items[0].get(), "1");
        let empty = parse(r#"{"metadata":{"resourceVersion":"7","continue":""},"items":null}"#);
        let empty = empty.unwrap();
        assert!(empty.items.is_empty() && empty.next.is_none());
        for odd in [
            "{}",
            r#"{"metadata":{}}"#,
            r#"{"kind":"Status","metadata":{}}"#,
            r#"{"metadata":{"resourceVersion":""},"items":[]}"#,
            "<html>",
            "",
        ] {
            assert_eq!(parse(odd).unwrap_err().reason, FaultReason::Decode, "{odd}");
        }
    }

    #[test]
    fn an_identity_is_read_no_further_than_it_goes() {
        let of = |text| {
            let of = Identity::of(text);
            [of.kind, of.namespace, of.name, of.resource_version].map(Option::unwrap_or_default)
        };
        let whole = ["Pod", "n", "a", "7"];
        for text in [
            r#"{"kind":"Pod","metadata":{"name":"a","namespace":"n","resourceVersion":"7","#,
            r#"{"metadata":{"resourceVersion":"7","name":"a","labels":{"name":"b"},"namespace":"n"},"spec":[{}],"kind":"Pod","#,
            r#"{"metadata":{"n\u0061me":"a","namespace":"n","resourceVersion":"7"},"kind":"Pod"}"#,
        ] {
            assert_eq!(of(text), whole, "{text}");
        }
        assert_eq!(
            of(r#"{"kind":"ClusterRole","metadata":{"name":"a","namespace":null}}"#),
            ["ClusterRole", "", "a", ""]
        );
        // of what makes no sense not a part
        for text in [
            r#"{"kind":"Pod","metadata":{"name":"a","namespace":7,"resourceVersion":"7"}}"#,
            r#"{"kind":"Pod","metadata":{"name":"a"}"#,
            r#"{"kind":"Pod","metadata":["a"]}"#,
            "7",
        ] {
            assert_eq!(of(text), [""; 4], "{text}");
        }
    }

    #[test]
    fn what_api_servers_write_is_told_by_its_beginning() {
        let of = Event::applied;
        assert_eq!(
            of(r#"{"type":"ADDED","object":{"a":{}}}"#),
            Some(r#"{"a":{}}"#)
        );
        assert_eq!(of("{\"type\":\"MODIFIED\",\"object\":{}}\r"), Some("{}"));
        for other in [
            r#"{"type":"DELETED","object":{}}"#,
            r#"{"type":"ADDED", "object":{}}"#,
            r#"{"object":{},"type":"ADDED"}"#,
            r#"{"type":"ADDED","object":{"#,
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn events_are_told_apart_and_errors_are_failures() {
        let parse = Event::parse;
        assert!(matches!(
            parse(r#"{"type":"ADDED","object":{}}"#),
            Ok(Event::Applied(_))
        ));
        assert!(matches!(
            parse(r#"{"object":{},"type":"MODIFIED"}"#),
            Ok(Event::Applied(_))
        ));
        assert!(matches!(
            parse(r#"{"type":"DELETED","object":{}}"#),
            Ok(Event::Deleted(_))
        ));
        assert!(matches!(
            parse(r#"{"type":"BOOKMARK","object":{}}"#),
            Ok(Event::Bookmark(_))
        ));
        assert!(matches!(parse(r#"{"type":"PROGRESS"}"#), Ok(Event::Other)));
        assert!(matches!(parse("\r"), Ok(Event::Other)));
        for odd in ["{", "<html>", r#"{"type":"ADDED"}"#, r#"{"object":{}}"#] {
            assert!(parse(odd).unwrap_err().broken, "{odd}");
        }
        let gone = parse(r#"{"type":"ERROR","object":{"code":410,"message":"old"}}"#).unwrap_err();
        assert!(gone.stale && !gone.broken && gone.reason == FaultReason::Expired);
        let odd = parse(r#"{"type":"ERROR","object":{"message":"decoding failed"}}"#).unwrap_err();
        assert!(odd.broken && !odd.stale && odd.reason == FaultReason::Server);
        let slow = r#"{"type":"ERROR","object":{"code":429,"details":{"retryAfterSeconds":3}}}"#;
        let slow = parse(slow).unwrap_err();
        assert_eq!(slow.reason, FaultReason::Throttled);
        assert_eq!(slow.retry_after, Some(Duration::from_secs(3)));
    }

    #[test]
    fn versions_lose_what_distributions_append() {
        for (given, plain) in [
            ("v1.37.2", Some("1.37.2")),
            ("v1.33.1+k3s1", Some("1.33.1")),
            ("v1.31.2-gke.100", Some("1.31.2")),
            ("1.30", Some("1.30")),
            ("v1", None),
            ("v1.", None),
            ("", None),
            ("master", None),
        ] {
            assert_eq!(plain_version(given).as_deref(), plain, "{given}");
        }
    }

    #[test]
    fn messages_are_one_bounded_line() {
        assert_eq!(one_line(" a\n\tb\u{1b}[31mc \r\n"), "a b [31mc");
        let long = one_line(&"é".repeat(1000));
        assert!(long.len() <= MESSAGE_LIMIT + '…'.len_utf8() && long.ends_with('…'));
    }
}
