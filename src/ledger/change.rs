//! What sources tell the ledger. Nothing else leaves a source, so the state of the watches travels
//! the same way as the objects and a snapshot always holds both as of one moment.

use crate::object::{Object, Resource};
use std::collections::BTreeMap;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Resource.
    pub resource: Resource,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One message from a source.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is as given, whether it was known or not. Clears a [`Change::Bad`] for the same name.
    Upsert(Object),
    /// The object is gone. Unknown names are ignored.
    Delete(ObjectRef),
    /// The object exists but could not be decoded: its last good row stays and is not swept by a
    /// relist that names it. `complete` is 0 while there is one.
    Bad {
        /// Which object; a name that could not be read is empty.
        object: ObjectRef,
        /// Why, in one sentence.
        message: String,
    },
    /// A full list begins: whatever is not named before the matching [`Change::RelistEnd`] is gone then.
    /// A second `RelistBegin` starts the marking over; nothing is lost meanwhile.
    RelistBegin(Resource),
    /// The full list is complete. The first one makes the resource synced.
    RelistEnd(Resource),
    /// Something happened to the watch of a resource.
    Watch {
        /// Which.
        resource: Resource,
        /// What.
        event: WatchEvent,
        /// When, Unix seconds.
        at: i64,
    },
    /// The server's version, `1.37.2`; `None` when it could not be read (the oldest supported is assumed).
    Version(Option<String>),
    /// What the manifests source could not read or understand; replaces what it said before.
    Problems(Vec<Problem>),
    /// Objects of other kinds by `apiVersion/kind` (manifests); replaces what it said before.
    Skipped(BTreeMap<String, u64>),
}

/// What a watch reports of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The server was heard from: an event, a bookmark, an opened watch, a page of a list.
    Activity,
    /// Everything was listed, but may not be watched: it was heard from, and what is known grows old all
    /// the same.
    Polled,
    /// An event (added, modified, deleted) arrived.
    Event,
    /// The watch was opened anew after it ended, for whatever reason.
    Restart,
    /// A request or stream failed.
    Fault {
        /// The word in the label `reason`.
        reason: FaultReason,
        /// The error in one line.
        message: String,
    },
    /// The API server refused list or watch (403), told after the [`WatchEvent::Fault`] that counts it;
    /// cleared by the next [`WatchEvent::Activity`].
    Forbidden {
        /// The server's message.
        message: String,
    },
}

/// Why a request or stream failed; the closed set of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultReason {
    /// No connection, TLS failure, connection cut.
    Transport,
    /// A deadline passed without an answer.
    Timeout,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 410, by any route.
    Expired,
    /// 429
    Throttled,
    /// Any other status from the server.
    Server,
    /// A frame that is no JSON, or an object that does not decode.
    Decode,
    /// A watch that closed at once without a word.
    Short,
}

impl FaultReason {
    /// All of them.
    pub const ALL: [FaultReason; 9] = [
        FaultReason::Transport,
        FaultReason::Timeout,
        FaultReason::Unauthorized,
        FaultReason::Forbidden,
        FaultReason::Expired,
        FaultReason::Throttled,
        FaultReason::Server,
        FaultReason::Decode,
        FaultReason::Short,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultReason::Transport => "transport",
            FaultReason::Timeout => "timeout",
            FaultReason::Unauthorized => "unauthorized",
            FaultReason::Forbidden => "forbidden",
            FaultReason::Expired => "expired",
            FaultReason::Throttled => "throttled",
            FaultReason::Server => "server",
            FaultReason::Decode => "decode",
            FaultReason::Short => "short",
        }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something could not be read, so the judgement may be too low: `complete` is false.
    Error,
    /// Worth knowing; everything was read.
    Warning,
}

/// An entry of `problems` in the report (contract §9).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// File, when it comes from one.
    pub file: Option<String>,
    /// Document in the file, from 1.
    pub document: Option<u32>,
    /// Line in the file, from 1.
    pub line: Option<u32>,
    /// Kind of the object concerned.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// One sentence that names the field and says what to do.
    pub message: String,
}
