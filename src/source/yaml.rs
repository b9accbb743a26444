//! Streams of YAML and JSON documents; the only place that knows serde_yaml.
//!
//! serde_yaml gives up a whole stream at the first syntax error and knows no positions across
//! documents, so the stream is split into documents first and each is parsed on its own. The same
//! is done with the items of a `List`. It also lets the last of two equal keys of a map win
//! silently; structs refuse them, and `expand` does too.

use super::slim::{Fault, Notation, charge, json_fault, within};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, BufRead};

/// One document of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Number in the stream, from 1.
    pub number: u32,
    /// Line on which its content begins, from 1.
    pub line: u32,
    /// Line on which its text begins, from 1; comments and blank lines may stand before the content.
    pub text_line: u32,
    /// What it holds.
    pub body: Body,
}

/// The text of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// YAML that has not been parsed yet.
    Yaml(String),
    /// One JSON value, well-formed but not decoded.
    Json(String),
    /// It cannot be parsed at all. [`Document::line`] is where it goes wrong.
    Broken(String),
}

impl Body {
    /// The text, or what is said of it.
    pub fn text(&self) -> &str {
        let (Body::Yaml(text) | Body::Json(text) | Body::Broken(text)) = self;
        text
    }
}

/// Splits a stream into documents, holding one at a time. Documents without content (empty, or
/// comments alone) are left out but counted as YAML counts them.
///
/// The documents of a JSON stream are its values.
#[derive(Debug)]
pub struct Documents<R> {
    reader: R,
    /// Lines read so far.
    lines: u32,
    number: u32,
    /// A `---` line with content after it, which begins the next document.
    carried: Option<Vec<u8>>,
    /// The next text follows a `---`, so it is a document even when empty.
    opened: bool,
    ended: bool,
    ready: VecDeque<Document>,
}

impl<R: BufRead> Documents<R> {
    /// Documents of a stream.
    pub fn new(reader: R) -> Self {
        Documents {
            reader,
            lines: 0,
            number: 0,
            carried: None,
            opened: false,
            ended: false,
            ready: VecDeque::new(),
        }
    }

    /// Reads up to the next separator.
    fn chunk(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        let mut first = self.lines.saturating_add(1);
        if let Some(line) = self.carried.take() {
            first = self.lines;
            text = line;
        }
        let mut open_next = false;
        loop {
            let start = text.len();
            if self.reader.read_until(b'\n', &mut text)? == 0 {
                self.ended = true;
                break;
            }
            self.lines = self.lines.saturating_add(1);
            if self.lines == 1 && text.starts_with("\u{feff}".as_bytes()) {
                text.drain(..3);
            }
            match marker(&text[start..]) {
                None => {}
                Some(Marker::End) => {
                    text.truncate(start);
                    break;
                }
                Some(Marker::Start { content }) => {
                    if content {
                        self.carried = Some(text.split_off(start));
                    }
                    text.truncate(start);
                    open_next = true;
                    break;
                }
            }
        }
        let opened = std::mem::replace(&mut self.opened, open_next);
        self.document(text, first, opened);
        Ok(())
    }

    fn document(&mut self, text: Vec<u8>, text_line: u32, opened: bool) {
        let Some(skipped) = blank_lines(&text) else {
            self.number += u32::from(opened);
            return;
        };
        let line = text_line.saturating_add(skipped);
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = text_line.saturating_add(line_breaks(valid));
                self.push(
                    line,
                    text_line,
                    Body::Broken("it is not UTF-8; save the file as UTF-8".to_owned()),
                );
                return;
            }
        };
        let content = text.lines().nth(skipped as usize).unwrap_or_default();
        if content.trim_start().starts_with(['{', '[']) {
            self.json(text, text_line);
        } else {
            self.push(line, text_line, Body::Yaml(text));
        }
    }

    /// Values of a JSON stream. A YAML flow mapping looks the same at first.
    fn json(&mut self, text: String, text_line: u32) {
        /// Beyond it a text that begins like JSON is taken for JSON: parsing it twice costs more
        /// than the better error is worth.
        const LARGEST_FLOW: usize = 1 << 20;
        let mut from = 0;
        loop {
            let rest = &text[from..];
            let lead = rest.len() - rest.trim_start().len();
            if lead == rest.len() {
                return;
            }
            from += lead;
            let rest = &text[from..];
            let line = text_line.saturating_add(line_breaks(&text.as_bytes()[..from]));
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
            match values.next() {
                Some(Ok(value)) => {
                    let value = value.get().to_owned();
                    from += values.byte_offset();
                    self.push(line, line, Body::Json(value));
                }
                Some(Err(error)) => {
                    let flow = self.ready.is_empty()
                        && (!quoted_key(rest)
                            || text.len() <= LARGEST_FLOW
                                && Yaml(&text).parse::<IgnoredAny>().is_ok());
                    if flow {
                        self.push(line, text_line, Body::Yaml(text));
                        return;
                    }
                    let fault = json_fault(rest, &error);
                    let at = line.saturating_add(fault.line.unwrap_or(1).saturating_sub(1));
                    self.push(at, line, Body::Broken(fault.message));
                    // Values of a stream begin at the left margin, and nothing inside one does.
                    match rest.find("\n{") {
                        Some(next) => from += next + 1,
                        None => return,
                    }
                }
                None => return,
            }
        }
    }

    fn push(&mut self, line: u32, text_line: u32, body: Body) {
        self.number = self.number.saturating_add(1);
        self.ready.push_back(Document {
            number: self.number,
            line,
            text_line,
            body,
        });
    }
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = io::Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Some(Ok(document));
            }
            if self.ended && self.carried.is_none() {
                return None;
            }
            if let Err(error) = self.chunk() {
                self.ended = true;
                self.carried = None;
                return Some(Err(error));
            }
        }
    }
}

enum Marker {
    /// `...`
    End,
    /// `---`, with or without the beginning of the document on the same line.
    Start { content: bool },
}

/// Whether a line separates documents. YAML forbids these at the left margin of anything else,
/// block scalars and quoted strings included.
fn marker(line: &[u8]) -> Option<Marker> {
    let (mark, rest) = line.split_at_checked(3)?;
    let marks = mark == b"..." || mark == b"---";
    if !marks || rest.first().is_some_and(|b| !b.is_ascii_whitespace()) {
        return None;
    }
    let mut parts = parts(rest);
    let beside = parts.next().unwrap_or_default().trim_ascii();
    let behind = parts.any(has_content);
    match mark {
        // what comes behind is for the parser to complain of
        b"..." => (!behind).then_some(Marker::End),
        b"---" => Some(Marker::Start {
            content: behind || !beside.is_empty() && beside[0] != b'#',
        }),
        _ => None,
    }
}

/// The lines that YAML finds in a line that ends with a line feed: a carriage return alone ends one too, and so do
/// U+0085, U+2028 and U+2029. Nothing may hide behind them in what looks like a comment.
fn parts(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BREAKS: [&[u8]; 4] = [b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9"];
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let ends = |at: &usize| BREAKS.iter().any(|mark| line[*at..].starts_with(mark));
        let Some(end) = (0..line.len()).find(ends) else {
            return rest.take();
        };
        let mark = BREAKS.iter().find(|mark| line[end..].starts_with(mark));
        rest = Some(&line[end + mark.map_or(0, |mark| mark.len())..]);
        Some(&line[..end])
    })
}

/// A line that is not blank, a comment or a directive.
fn has_content(line: &[u8]) -> bool {
    let content = line.trim_ascii();
    !content.is_empty() && content[0] != b'#' && line[0] != b'%'
}

/// How many lines without content (blank, comments, directives) come first; `None` when there are
/// no others.
fn blank_lines(text: &[u8]) -> Option<u32> {
    let mut lines = text.split(|b| *b == b'\n');
    let first = lines.position(|line| parts(line).any(has_content))?;
    Some(u32::try_from(first).unwrap_or(u32::MAX))
}

/// Begins like an object of JSON, whose keys are quoted.
fn quoted_key(text: &str) -> bool {
    let inside = text.trim_start_matches(['{', '[']).trim_start();
    inside.starts_with(['"', '}', ']'])
}

/// Number of line breaks, for line numbers.
pub(crate) fn line_breaks(text: &[u8]) -> u32 {
    let count = text.iter().filter(|b| **b == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// YAML text of one document.
pub(crate) struct Yaml<'a>(pub(crate) &'a str);

impl Notation for Yaml<'_> {
    fn seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Fault> {
        yaml_seed(self.0, seed)
    }
}

/// Reads one YAML document as a struct; the error names the field and, when known, the line.
///
/// # Errors
/// One sentence: what is wrong and where in the text.
pub fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    yaml_seed(text, std::marker::PhantomData::<T>).map_err(|fault| match fault.line {
        Some(line) => format!("line {line} of the document: {}", fault.message),
        None => fault.message,
    })
}

/// Reads a YAML text with a seed.
pub(crate) fn yaml_seed<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> Result<S::Value, Fault> {
    if nested_deeply(text) {
        return Err(Fault {
            message: format!("it is nested more than {DEEPEST} deep"),
            line: None,
        });
    }
    // Four times its length is more than hand-written anchors save.
    let allowance = 4 * text.len() as u64 + (1 << 20);
    within(allowance, || {
        seed.deserialize(serde_yaml::Deserializer::from_str(text))
    })
    .map_err(|error| {
        let fault = fault(&error);
        // The end of a text without a line feed stands on a line of its own for the parser.
        let last = line_breaks(text.as_bytes()).saturating_add(1);
        Fault {
            line: fault.line.map(|line| line.min(last)),
            ..fault
        }
    })
}

/// Brackets within each other, as far as a text is parsed at all.
const DEEPEST: u32 = 1000;

/// Whether brackets nest deeper than [`DEEPEST`], counted without regard to quotes: what opens a
/// thousand more than it closes is no manifest. The parser needs time in the square of that depth
/// before it could refuse it.
fn nested_deeply(text: &str) -> bool {
    let mut depth = 0_u32;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

fn fault(error: &serde_yaml::Error) -> Fault {
    let line = error.location().map(|place| place.line());
    let mut message = error.to_string();
    if let Some(place) = error.location() {
        let place = format!(" at line {} column {}", place.line(), place.column());
        if let Some(rest) = message.strip_suffix(&place) {
            message.truncate(rest.len());
        }
    }
    // Without a mark of its own an error stands at the very beginning.
    let line = line.and_then(|line| u32::try_from(line).ok());
    Fault { message, line }
}

/// Adds `offset` to the line numbers that messages of the parser mention (`at line 3 column 5`).
pub(crate) fn shift_lines(message: &str, offset: u32) -> String {
    const MARK: &str = " at line ";
    let mut out = String::with_capacity(message.len() + 8);
    let mut rest = message;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match after[..digits].parse::<u32>() {
            Ok(line) if after[digits..].starts_with(" column ") => {
                out.push_str(&line.saturating_add(offset).to_string());
            }
            _ => out.push_str(&after[..digits]),
        }
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

/// Whether a text may hold merge keys (`<<: *defaults`), which kubectl applies and serde_yaml
/// passes over.
pub(crate) fn merges(text: &str) -> bool {
    text.match_indices("<<").any(|(at, mark)| {
        text[at + mark.len()..]
            .trim_start_matches(['"', '\''])
            .trim_start_matches([' ', '\t'])
            .starts_with(':')
    })
}

/// Writes a text out as JSON, with aliases repeated and merge keys applied.
pub(crate) fn expand(text: &str) -> Result<String, Fault> {
    json(&Yaml(text).parse::<Tree>()?)
}

/// The `items` of a JSON list, each with its offset.
pub(crate) fn json_items(text: &str) -> Result<Vec<(usize, &str)>, Fault> {
    #[derive(Deserialize)]
    struct Items<'a> {
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
    }
    let list: Items<'_> = serde_json::from_str(text).map_err(|error| json_fault(text, &error))?;
    let items = list.items.unwrap_or_default().into_iter().map(|item| {
        // Borrowed from the text, so the distance of the two addresses is the offset.
        let item = item.get();
        (item.as_ptr().addr() - text.as_ptr().addr(), item)
    });
    Ok(items.collect())
}

/// The `items` of a list, each written out as JSON.
pub(crate) fn expand_items(text: &str) -> Result<Vec<String>, Fault> {
    let Tree::Map(mut list) = Yaml(text).parse::<Tree>()? else {
        return Ok(Vec::new());
    };
    match list.remove("items") {
        Some(Tree::List(items)) => items.iter().map(json).collect(),
        _ => Ok(Vec::new()),
    }
}

fn json(tree: &Tree) -> Result<String, Fault> {
    serde_json::to_string(tree).map_err(|error| Fault {
        message: error.to_string(),
        line: None,
    })
}

/// Any value, with duplicate keys refused.
#[derive(Clone, Debug)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Null => to.serialize_unit(),
            Tree::Bool(value) => to.serialize_bool(*value),
            Tree::Int(value) => to.serialize_i64(*value),
            Tree::Unsigned(value) => to.serialize_u64(*value),
            Tree::Float(value) => to.serialize_f64(*value),
            Tree::Text(value) => to.serialize_str(value),
            Tree::List(items) => to.collect_seq(items),
            Tree::Map(entries) => to.collect_map(entries),
        }
    }
}

impl Tree {
    /// As a key: what kubectl makes of it in JSON.
    fn into_key<E: de::Error>(self) -> Result<String, E> {
        match self {
            Tree::Text(text) => Ok(text),
            Tree::Null => Ok("null".to_owned()),
            Tree::Bool(value) => Ok(value.to_string()),
            Tree::Int(value) => Ok(value.to_string()),
            Tree::Unsigned(value) => Ok(value.to_string()),
            Tree::Float(value) => Ok(value.to_string()),
            Tree::List(_) | Tree::Map(_) => Err(E::custom("a key must be a string")),
        }
    }
}

/// Adds the entries behind a merge key; what is there already stays.
fn merge<E: de::Error>(into: &mut BTreeMap<String, Tree>, from: Tree) -> Result<(), E> {
    match from {
        Tree::Map(entries) => {
            for (key, value) in entries {
                into.entry(key).or_insert(value);
            }
            Ok(())
        }
        Tree::List(maps) => maps.into_iter().try_for_each(|map| match map {
            Tree::Map(_) => merge(into, map),
            _ => Err(E::custom("a merge key takes mappings")),
        }),
        _ => Err(E::custom("a merge key takes mappings")),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value without tags")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Unsigned(value))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
                charge(text.len())?;
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    charge(1)?;
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = BTreeMap::new();
                let mut merged = None;
                while let Some(key) = map.next_key::<Tree>()? {
                    charge(1)?;
                    let key = key.into_key()?;
                    let twice = if key == "<<" {
                        merged.replace(map.next_value()?).is_some()
                    } else {
                        let value = map.next_value()?;
                        entries.insert(key.clone(), value).is_some()
                    };
                    if twice {
                        return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
                    }
                }
                if let Some(from) = merged {
                    merge(&mut entries, from)?;
                }
                Ok(Tree::Map(entries))
            }
        }
        from.deserialize_any(Seen)
    }
}

/// A `List` taken apart by its layout, without parsing it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListText {
    /// The text without the items, with the same number of lines.
    pub(crate) head: String,
    /// Each item as a document of its own, with the number of lines before it.
    pub(crate) items: Vec<(u32, String)>,
}

/// Takes a list apart when it is laid out as kubectl prints it: an `items:` line, and then items
/// that begin with a dash at one indentation. So an item that cannot be parsed costs nothing but
/// itself, and each has its line. Other layouts give `None`.
pub(crate) fn split_list(text: &str) -> Option<ListText> {
    if !text.contains("items:") {
        return None;
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let odd = |line: &&str| {
        line.bytes().any(|b| matches!(b, b'\r' | 0xc2 | 0xe2))
            && parts(line.trim_end().as_bytes()).nth(1).is_some()
    };
    if lines.iter().any(odd) {
        return None;
    }
    let margin = lines.iter().find_map(|line| indentation(line))?;
    let at_margin = |line: &str, key: &str| {
        indentation(line) == Some(margin) && line.trim_start().starts_with(key)
    };
    let is_list = lines.iter().any(|line| {
        let kind = line.trim().strip_prefix("kind:").unwrap_or_default();
        let kind = kind.split(" #").next().unwrap_or_default();
        at_margin(line, "kind:") && kind.trim().trim_matches(['"', '\'']).ends_with("List")
    });
    let start = lines.iter().position(|line| {
        let rest = line.trim().strip_prefix("items:").unwrap_or("x").trim();
        at_margin(line, "items:") && (rest.is_empty() || rest.starts_with('#'))
    })? + 1;
    let dash = lines[start..].iter().find_map(|line| indentation(line))?;
    let begins = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix('-')
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    if !is_list || dash < margin {
        return None;
    }
    let mut items: Vec<(u32, String)> = Vec::new();
    let mut end = lines.len();
    for (index, line) in lines.iter().enumerate().skip(start) {
        match indentation(line) {
            Some(indent) if indent == dash && begins(line) => {
                // The dash becomes a blank: the item is then a mapping, with its columns kept.
                let item = line.replacen('-', " ", 1);
                items.push((u32::try_from(index).unwrap_or(u32::MAX), item));
                continue;
            }
            Some(indent) if indent <= dash => {
                end = index;
                break;
            }
            _ => {}
        }
        match items.last_mut() {
            Some((_, item)) => item.push_str(line),
            None if indentation(line).is_some() => return None,
            None => {}
        }
    }
    if items.is_empty() {
        return None;
    }
    let mut head = String::new();
    for (index, line) in lines.iter().enumerate() {
        head.push_str(match (start..end).contains(&index) {
            false => line,
            true if line.ends_with('\n') => "\n",
            true => "",
        });
    }
    Some(ListText { head, items })
}

/// Indentation of a line, `None` when it is blank or a comment.
fn indentation(line: &str) -> Option<usize> {
    let content = line.trim_start_matches(' ');
    let rest = content.trim_start();
    (!rest.is_empty() && !rest.starts_with('#') && !line.starts_with('%'))
        .then(|| line.len() - content.len())
}

/// Kind, namespace and name as the layout suggests them, for the report of a document that cannot
/// be parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) kind: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

/// Looks for `kind:` at the margin and for `name:` and `namespace:` in `metadata:`.
pub(crate) fn guess(text: &str) -> Guess {
    fn value(line: &str, key: &str) -> Option<String> {
        let value = line.trim().strip_prefix(key)?;
        let value = value.split(" #").next()?.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    }
    let mut guess = Guess::default();
    let mut margin = None;
    // Indentation of the entries of `metadata`, once inside.
    let mut inside: Option<Option<usize>> = None;
    for line in text.lines() {
        let Some(indent) = indentation(line) else {
            continue;
        };
        let margin = *margin.get_or_insert(indent);
        if indent <= margin {
            inside = line.trim_start().starts_with("metadata:").then_some(None);
            if guess.kind.is_none() {
                guess.kind = value(line, "kind:");
            }
        } else if let Some(entries) = &mut inside
            && *entries.get_or_insert(indent) == indent
        {
            guess.name = guess.name.or_else(|| value(line, "name:"));
            guess.namespace = guess.namespace.or_else(|| value(line, "namespace:"));
        }
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<(u32, u32, String)> {
        Documents::new(text.as_bytes())
            .map(|document| {
                let document = document.unwrap();
                let body = match document.body {
                    Body::Yaml(text) => format!("yaml {}", text.trim()),
                    Body::Json(text) => format!("json {text}"),
                    Body::Broken(message) => format!("broken {message}"),
                };
                (document.number, document.line, body)
            })
            .collect()
    }

    fn check(text: &str, expected: &[(u32, u32, &str)]) {
        let found = documents(text);
        let found: Vec<_> = found.iter().map(|(n, l, b)| (*n, *l, b.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn documents_are_split_at_separators_alone() {
        check("", &[]);
        check("# nothing\n\n---\n---\n# still nothing\n", &[]);
        check("a: 1", &[(1, 1, "yaml a: 1")]);
        check(
            "---\na: 1\n---\nb: 2\n",
            &[(1, 2, "yaml a: 1"), (2, 4, "yaml b: 2")],
        );
        check(
            "a: 1\n---\n---\nb: 2",
            &[(1, 1, "yaml a: 1"), (3, 4, "yaml b: 2")],
        );
        check(
            "\u{feff}# lead\r\na: 1\r\n--- # comment\r\nb: 2\r\n...\r\n",
            &[(1, 2, "yaml # lead\r\na: 1"), (2, 4, "yaml b: 2")],
        );
        check("%YAML 1.2\n---\na: 1\n", &[(1, 3, "yaml a: 1")]);
        check(
            "a: 1\n...\nb: 2\n",
            &[(1, 1, "yaml a: 1"), (2, 3, "yaml b: 2")],
        );
        check("a: |\n  ---\n  x\n", &[(1, 1, "yaml a: |\n  ---\n  x")]);
        check("---a: 1\n", &[(1, 1, "yaml ---a: 1")]);
        check(
            "a: 1\n--- {b: 2}\n---\nc: 3",
            &[
                (1, 1, "yaml a: 1"),
                (2, 2, "yaml --- {b: 2}"),
                (3, 4, "yaml c: 3"),
            ],
        );
        check("--- {b: 2}", &[(1, 1, "yaml --- {b: 2}")]);
    }

    #[test]
    fn values_of_a_json_stream_are_documents() {
        check(
            "{\"a\": 1}\n\n{\n \"b\": 2}{\"c\":3}\n",
            &[
                (1, 1, "json {\"a\": 1}"),
                (2, 3, "json {\n \"b\": 2}"),
                (3, 4, "json {\"c\":3}"),
            ],
        );
        check("{a: 1}\n", &[(1, 1, "yaml {a: 1}")]);
        let found = documents("{\"a\": 1}\n{\"b\": \n{\"c\": 3}\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].2.starts_with("broken"), "{found:?}");
        assert_eq!(found[2], (3, 3, "json {\"c\": 3}".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_text_cost_one_document() {
        let found: Vec<_> = Documents::new(&b"a: 1\n---\nb:\n  \xff\n---\nc: 3\n"[..])
            .map(|document| document.unwrap())
            .collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[1].number, found[1].line), (2, 4));
        assert!(matches!(found[1].body, Body::Broken(_)));
    }

    #[test]
    fn lists_are_taken_apart_by_their_layout() {
        let list = split_list(
            "apiVersion: v1\nitems:\n- a: |\n    - x\n# c\n  b: 2\n\n-\n  c: 3\nkind: List\n",
        )
        .unwrap();
        assert_eq!(
            list.head,
            "apiVersion: v1\nitems:\n\n\n\n\n\n\n\nkind: List\n"
        );
        assert_eq!(
            list.items,
            [
                (2, "  a: |\n    - x\n# c\n  b: 2\n\n".to_owned()),
                (7, " \n  c: 3\n".to_owned()),
            ]
        );
        let indented =
            split_list("kind: 'RoleList' # x\nitems: # y\n  - a: 1\n  - b: 2\n").unwrap();
        assert_eq!(indented.items.len(), 2);
        let unended = split_list("kind: List\nitems:\n- a: 1").unwrap();
        assert_eq!(unended.head, "kind: List\nitems:\n");
        for other in [
            "kind: Role\nitems:\n- a: 1\n",
            "kind: List\nitems: [a, b]\n",
            "kind: List\nitems:\n  a: 1\n",
            "kind: List\nitems:\n",
            "kind: List\n",
        ] {
            assert_eq!(split_list(other), None, "{other:?}");
        }
    }

    #[test]
    fn expansion_applies_merge_keys_and_refuses_duplicates() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: [*x]\n1: true\n";
        assert!(merges(text));
        assert_eq!(
            expand(text).unwrap(),
            r#"{"1":true,"x":{"a":1,"b":2},"y":{"a":1,"b":3},"z":[{"a":1,"b":2}]}"#
        );
        assert!(
            expand("a: 1\na: 2\n")
                .unwrap_err()
                .message
                .contains("duplicate key")
        );
        assert!(!merges("cat <<EOF"));
    }

    #[test]
    fn what_aliases_repeat_is_bounded() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let name = |level: u8| char::from(b'a' + level);
            let alias = format!("*{}", name(level - 1));
            let aliases = vec![alias; 10].join(", ");
            text.push_str(&format!("{0}: &{0} [{aliases}]\n", name(level)));
        }
        assert!(expand(&text).is_err());
        let long = "x".repeat(100_000);
        let text = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 10_000].join(", "));
        let error = expand(&text).unwrap_err();
        assert!(error.message.contains("aliases repeat"), "{error:?}");
        assert!(expand(&"[".repeat(10_000)).is_err());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(expand(&deep).is_err());
    }

    #[test]
    fn line_numbers_in_messages_are_shifted() {
        assert_eq!(
            shift_lines(
                "did not find at line 3 column 5, while at line x at line 9",
                10
            ),
            "did not find at line 13 column 5, while at line x at line 9"
        );
    }

    #[test]
    fn a_broken_document_still_shows_its_name() {
        let text = "# c\nkind: \"Role\" # x\nmetadata:\n  labels:\n    name: no\n  name: r\n  namespace: 'n'\nrules: [\n";
        let found = guess(text);
        assert_eq!(found.kind.as_deref(), Some("Role"));
        assert_eq!(found.name.as_deref(), Some("r"));
        assert_eq!(found.namespace.as_deref(), Some("n"));
    }
}
