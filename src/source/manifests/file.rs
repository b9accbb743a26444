//! One file: its documents, what they hold and what is wrong with them.

use super::kinds::{Class, LIST, classify};
use crate::ledger::{Problem, Severity};
use crate::object::Origin;
use crate::side_by_side::side_by_side;
use crate::source::fields;
use crate::source::slim::{Block, Content, Fault, Head, Notation, Notes, Wanted, clean, json_seed};
use crate::source::yaml::{
    Body, Document, Documents, Guess, Yaml, expand, expand_items, guess, json_items, line_breaks,
    merges, shift_lines, split_list, yaml_seed,
};
use serde::de::DeserializeSeed;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Where kubectl puts an object that names no namespace, unless told otherwise.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Lists within lists, as far as anybody writes them.
const DEEPEST_LIST: u32 = 8;

/// More problems of one file say nothing new.
const MOST_PROBLEMS: usize = 1000;

/// Bytes of documents that are parsed side by side; what is read and not parsed yet is held in memory.
const SIDE_BY_SIDE: usize = 4 << 20;

/// Documents or items that a thread takes at a time. Fewer than two turns are not worth a thread.
const TURN: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Names an object or template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One object or template.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) origin: Origin,
    pub(super) content: Content,
}

/// What could not be read, so that an earlier reading may stand in for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    /// Something whose name is not known.
    pub(super) unnamed: bool,
    pub(super) named: BTreeSet<Key>,
}

/// A file as read.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) broken: Broken,
}

impl Parsed {
    /// Takes over from an earlier reading what this one could not read.
    pub(super) fn keep(&mut self, earlier: Parsed) {
        let given: BTreeSet<&Key> = self.entries.iter().map(|entry| &entry.key).collect();
        let broken = &self.broken;
        let kept: Vec<Entry> = earlier
            .entries
            .into_iter()
            .filter(|entry| broken.unnamed || broken.named.contains(&entry.key))
            .filter(|entry| !given.contains(&entry.key))
            .collect();
        self.entries.extend(kept);
    }
}

/// Reads a file to its end; objects without a namespace go to `namespace`. Whatever goes wrong is among
/// the problems.
pub(super) fn read(name: &str, namespace: &str, reader: impl BufRead) -> Parsed {
    let mut file = File {
        name: Arc::from(name),
        namespace: Arc::from(namespace),
        document: 0,
        more: 0,
        forked: false,
        out: Parsed::default(),
    };
    let mut documents = Documents::new(reader);
    loop {
        let mut size = 0;
        let mut batch = Vec::new();
        let mut failed = None;
        while size < SIDE_BY_SIDE {
            match documents.next() {
                Some(Ok(document)) => {
                    size += size_of::<Document>() + document.body.text().len();
                    batch.push(document);
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        let ended = size < SIDE_BY_SIDE && failed.is_none();
        file.side_by_side(&batch, File::document);
        if ended {
            break;
        }
        if let Some(error) = failed {
            file.document = 0;
            let message = format!("the file cannot be read: {error}");
            file.broken(None, None, &Who::default(), &message);
        }
    }
    if file.more > 0 {
        let message = format!(
            "{} more problems in this file; correct the first ones",
            file.more
        );
        let problem = file.problem(Severity::Error, None, &Who::default(), &message);
        file.out.problems.push(problem);
    }
    file.out
}

/// A file that could not be opened or is refused.
pub(super) fn unreadable(name: &str, message: &str) -> Parsed {
    Parsed {
        problems: vec![Problem {
            severity: Severity::Error,
            file: Some(name.to_owned()),
            document: None,
            line: None,
            kind: None,
            namespace: None,
            name: None,
            message: clean(message),
        }],
        broken: Broken {
            unnamed: true,
            named: BTreeSet::new(),
        },
        ..Parsed::default()
    }
}

/// The object that a problem concerns, as far as it is known.
#[derive(Clone, Debug, Default)]
struct Who {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl From<Guess> for Who {
    fn from(guess: Guess) -> Self {
        Who {
            kind: guess.kind,
            namespace: guess.namespace,
            name: guess.name,
        }
    }
}

/// The text of one object, and where it stands.
struct Item<'a> {
    text: &'a str,
    json: bool,
    /// Lines of the file before the text; `None` when the text was written out anew, so that its
    /// lines are not those of the file.
    before: Option<u32>,
    /// Line of the object.
    line: u32,
}

impl Notation for Item<'_> {
    fn seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Fault> {
        let read = if self.json {
            json_seed(self.text, seed)
        } else {
            yaml_seed(self.text, seed)
        };
        read.map_err(|fault| self.place(fault))
    }
}

impl Item<'_> {
    /// A fault of the text with lines of the file.
    fn place(&self, fault: Fault) -> Fault {
        match self.before {
            Some(before) => Fault {
                message: shift_lines(&fault.message, before),
                line: fault.line.map(|line| line.saturating_add(before)),
            },
            None => Fault {
                line: None,
                ..fault
            },
        }
    }
}

struct File {
    name: Arc<str>,
    /// Of objects that name none.
    namespace: Arc<str>,
    document: u32,
    /// Problems left out.
    more: usize,
    /// Part of another one, on a thread of its own.
    forked: bool,
    out: Parsed,
}

/// apiVersion and kind that the items of a typed list leave out.
type Typed<'a> = Option<(&'a str, &'a str)>;

impl File {
    /// Reads many documents or items on all cores: parsing YAML is most of what reading takes.
    fn side_by_side<T: Sync>(&mut self, parts: &[T], read: impl Fn(&mut File, &T) + Sync) {
        if self.forked || parts.len() < 2 * TURN.get() {
            return parts.iter().for_each(|part| read(self, part));
        }
        let fork = || self.fork();
        let forks = side_by_side(
            parts,
            TURN,
            || (),
            |(), turn| {
                let mut fork = fork();
                turn.iter().for_each(|part| read(&mut fork, part));
                fork
            },
        );
        for fork in forks {
            self.join(fork);
        }
    }

    /// Nothing of the same document.
    fn fork(&self) -> File {
        File {
            name: Arc::clone(&self.name),
            namespace: Arc::clone(&self.namespace),
            document: self.document,
            more: 0,
            forked: true,
            out: Parsed::default(),
        }
    }

    /// Takes what a fork has read.
    fn join(&mut self, fork: File) {
        let Parsed {
            entries,
            problems,
            skipped,
            broken,
        } = fork.out;
        self.out.entries.extend(entries);
        self.more += fork.more;
        for problem in problems {
            self.keep(problem);
        }
        for (kind, count) in skipped {
            *self.out.skipped.entry(kind).or_default() += count;
        }
        self.out.broken.unnamed |= broken.unnamed;
        self.out.broken.named.extend(broken.named);
    }

    fn document(&mut self, document: &Document) {
        self.document = document.number;
        let (text, json) = match &document.body {
            Body::Yaml(text) => (text, false),
            Body::Json(text) => (text, true),
            Body::Broken(message) => {
                let message = format!("the document cannot be read: {message}");
                return self.broken(Some(document.line), None, &Who::default(), &message);
            }
        };
        let item = Item {
            text,
            json,
            before: Some(document.text_line.saturating_sub(1)),
            line: document.line,
        };
        self.item(&item, None, 0);
    }

    fn item(&mut self, item: &Item<'_>, typed: Typed<'_>, depth: u32) {
        if item.json {
            return self.object(item, typed, depth);
        }
        if let Some(list) = split_list(item.text) {
            let head = Item {
                text: &list.head,
                ..*item
            };
            match head.parse::<Option<Block<Head>>>() {
                Ok(head) => {
                    let Block(head) = head.unwrap_or_default();
                    return self.laid_out_list(item, &head, &list.items, depth);
                }
                // The items are likely sound, and say of themselves what they are.
                Err(fault) => {
                    self.fault(item, &fault, &guess(&list.head).into());
                    return self.texts(item, &list.items, None, depth);
                }
            }
        }
        if merges(item.text) {
            return match expand(item.text) {
                Ok(text) => {
                    let item = Item {
                        text: &text,
                        json: true,
                        before: None,
                        line: item.line,
                    };
                    self.object(&item, typed, depth);
                }
                Err(fault) => self.fault(item, &item.place(fault), &guess(item.text).into()),
            };
        }
        self.object(item, typed, depth);
    }

    fn object(&mut self, item: &Item<'_>, typed: Typed<'_>, depth: u32) {
        let head = match item.parse::<Option<Block<Head>>>() {
            Ok(Some(Block(head))) => head,
            Ok(None) => return,
            Err(fault) => return self.fault(item, &fault, &guess(item.text).into()),
        };
        let (typed_version, typed_kind) = typed.unzip();
        let kind = head.kind.0.as_deref().or(typed_kind);
        let api_version = head.api_version.0.as_deref().or(typed_version);
        let metadata = &head.metadata.0;
        let mut who = Who {
            kind: kind.map(str::to_owned),
            namespace: metadata.namespace.0.clone(),
            name: metadata.name.0.clone(),
        };
        // its items say what they are, whether it says its own version or not
        if head.items.0.is_some() && kind.is_some_and(|kind| kind.ends_with(LIST)) {
            if item.json {
                return self.json_list(item, &head, depth);
            }
            // A layout that cannot be taken apart line by line.
            return match expand_items(item.text) {
                Ok(items) => {
                    let items: Vec<_> = items.into_iter().map(|text| (item.line, text)).collect();
                    let typed = self.typed(item, &head);
                    self.written_out(&items, typed, depth);
                }
                Err(fault) => self.fault(item, &item.place(fault), &who),
            };
        }
        let (Some(kind), Some(api_version)) = (kind, api_version) else {
            if kind.is_none() && api_version.is_none() && who.name.is_none() {
                let message = "it is no Kubernetes object, for it has neither apiVersion nor kind, and was passed over";
                return self.warn(item.line, &who, message);
            }
            let missing = if kind.is_none() { "kind" } else { "apiVersion" };
            let message =
                format!("{missing} is missing or no string, so the object is not judged; add it");
            return self.broken(Some(item.line), None, &who, &message);
        };
        if kind == LIST {
            let message = "items is missing or no list; add it";
            return self.broken(Some(item.line), None, &who, message);
        }
        match classify(api_version, kind) {
            Class::Other => {
                let key = clean(&format!("{api_version}/{kind}"));
                *self.out.skipped.entry(key).or_default() += 1;
            }
            Class::Wrong { message, meant } => {
                let key = meant.and_then(|wanted| self.key(wanted, &who));
                self.broken(Some(item.line), key, &who, &message);
            }
            Class::Read(wanted, old) => {
                if let Some(message) = old {
                    self.warn(item.line, &who, &message);
                }
                if wanted.namespaced() {
                    who.namespace
                        .get_or_insert_with(|| self.namespace.to_string());
                } else {
                    who.namespace = None;
                }
                self.read(item, wanted, &who);
            }
        }
    }

    fn read(&mut self, item: &Item<'_>, wanted: Wanted, who: &Who) {
        let mut notes = Notes::kept();
        let mut content = match wanted.read(item, Some(&self.namespace), &mut notes) {
            Ok(content) => content,
            Err(fault) => {
                let line = fault.line.unwrap_or(item.line);
                let message = format!(
                    "{}; the object is not judged until that is corrected",
                    fault.message
                );
                return self.broken(Some(line), self.key(wanted, who), who, &message);
            }
        };
        for note in notes.take() {
            self.warn(item.line, who, &note);
        }
        if let Wanted::Resource(resource) = wanted {
            match fields::unknown(resource, item) {
                Ok(unknown) => {
                    for message in unknown {
                        self.warn(item.line, who, &message);
                    }
                }
                Err(fault) => self.warn(item.line, who, &fault.message),
            }
        }
        let origin = Origin {
            file: Arc::clone(&self.name),
            document: self.document,
            line: item.line,
        };
        let meta = match &mut content {
            Content::Object(object) => object.meta_mut(),
            Content::Template(template) => &mut template.meta,
        };
        meta.origin = Some(origin.clone());
        let key = Key {
            kind: wanted.kind(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        };
        self.out.entries.push(Entry {
            key,
            origin,
            content,
        });
    }

    /// apiVersion and kind of the items of a typed list; reports a list that is only a page.
    fn typed<'a>(&mut self, item: &Item<'_>, list: &'a Head) -> Typed<'a> {
        let kind = list.kind.0.as_deref()?;
        if list
            .metadata
            .0
            .r#continue
            .0
            .as_deref()
            .is_some_and(|token| !token.is_empty())
        {
            let who = Who {
                kind: Some(kind.to_owned()),
                ..Who::default()
            };
            let message =
                "metadata.continue is set, so the list is one page of several; fetch all of it";
            self.push(Severity::Error, Some(item.line), &who, message);
        }
        let api_version = list.api_version.0.as_deref()?;
        let kind = kind.strip_suffix(LIST)?;
        (!kind.is_empty()).then_some((api_version, kind))
    }

    fn json_list(&mut self, item: &Item<'_>, head: &Head, depth: u32) {
        let items = match json_items(item.text) {
            Ok(items) => items,
            Err(fault) => return self.fault(item, &item.place(fault), &Who::default()),
        };
        let typed = self.typed(item, head);
        if self.too_deep(item, depth) {
            return;
        }
        let (mut lines, mut from) = (0, 0);
        for (at, text) in items {
            lines += line_breaks(&item.text.as_bytes()[from..at]);
            from = at;
            let before = item.before.map(|before| before.saturating_add(lines));
            let item = Item {
                text,
                json: true,
                before,
                line: before.map_or(item.line, |before| before.saturating_add(1)),
            };
            self.object(&item, typed, depth + 1);
        }
    }

    fn laid_out_list(&mut self, item: &Item<'_>, head: &Head, items: &[(u32, String)], depth: u32) {
        let typed = self.typed(item, head);
        // An alias in one item may name an anchor in another.
        if item.text.contains('&') && item.text.contains('*') {
            let sound = |text: &String| Yaml(text).parse::<serde::de::IgnoredAny>().is_ok();
            if !items.iter().all(|(_, text)| sound(text))
                && let Ok(whole) = expand_items(item.text)
            {
                let lines = items.iter().map(|(lines, _)| self.line_of(item, *lines));
                let items = lines.chain(std::iter::repeat(item.line)).zip(whole);
                let items: Vec<_> = items.collect();
                return self.written_out(&items, typed, depth);
            }
        }
        self.texts(item, items, typed, depth);
    }

    fn line_of(&self, list: &Item<'_>, lines: u32) -> u32 {
        let before = list.before.unwrap_or_default();
        before.saturating_add(lines).saturating_add(1)
    }

    /// Items that are texts of the file.
    fn texts(&mut self, list: &Item<'_>, items: &[(u32, String)], typed: Typed<'_>, depth: u32) {
        if self.too_deep(list, depth) {
            return;
        }
        self.side_by_side(items, |file, (lines, text)| {
            let item = Item {
                text,
                json: false,
                before: list.before.map(|before| before.saturating_add(*lines)),
                line: file.line_of(list, *lines),
            };
            file.item(&item, typed, depth + 1);
        });
    }

    /// Items that were written out as JSON, with their lines.
    fn written_out(&mut self, items: &[(u32, String)], typed: Typed<'_>, depth: u32) {
        for (line, text) in items {
            let item = Item {
                text,
                json: true,
                before: None,
                line: *line,
            };
            if self.too_deep(&item, depth) {
                return;
            }
            self.object(&item, typed, depth + 1);
        }
    }

    fn too_deep(&mut self, list: &Item<'_>, depth: u32) -> bool {
        let deep = depth >= DEEPEST_LIST;
        if deep {
            let message =
                format!("lists lie more than {DEEPEST_LIST} deep in each other; unpack them");
            self.broken(Some(list.line), None, &Who::default(), &message);
        }
        deep
    }

    fn fault(&mut self, item: &Item<'_>, fault: &Fault, who: &Who) {
        let message = format!("the document cannot be read: {}", fault.message);
        self.broken(Some(fault.line.unwrap_or(item.line)), None, who, &message);
    }

    /// An error: something is missing from the judgement, by this name if it is known.
    fn broken(&mut self, line: Option<u32>, key: Option<Key>, who: &Who, message: &str) {
        match key {
            Some(key) => {
                self.out.broken.named.insert(key);
            }
            None => self.out.broken.unnamed = true,
        }
        self.push(Severity::Error, line, who, message);
    }

    fn warn(&mut self, line: u32, who: &Who, message: &str) {
        self.push(Severity::Warning, Some(line), who, message);
    }

    fn push(&mut self, severity: Severity, line: Option<u32>, who: &Who, message: &str) {
        let problem = self.problem(severity, line, who, message);
        self.keep(problem);
    }

    fn keep(&mut self, problem: Problem) {
        if self.out.problems.len() < MOST_PROBLEMS {
            self.out.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn problem(&self, severity: Severity, line: Option<u32>, who: &Who, message: &str) -> Problem {
        Problem {
            severity,
            file: Some(self.name.to_string()),
            document: (self.document > 0).then_some(self.document),
            line,
            kind: who.kind.clone(),
            namespace: who.namespace.clone(),
            name: who.name.clone(),
            message: clean(message),
        }
    }

    /// What an object is called that could not be read.
    fn key(&self, wanted: Wanted, who: &Who) -> Option<Key> {
        let namespace = who.namespace.as_deref().unwrap_or(&self.namespace);
        let namespace = if wanted.namespaced() { namespace } else { "" };
        Some(Key {
            kind: wanted.kind(),
            namespace: namespace.to_owned(),
            name: who.name.clone()?,
        })
    }
}
