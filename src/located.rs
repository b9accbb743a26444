//! YAML that knows its lines, and faults that say where (pure).
//!
//! A text is read into a tree first, with every key as often as it stands there, and judged after, so
//! that all faults are told at once. Parsing straight into structs would end at the first, and the
//! last of two equal keys would win without a word. The only place that knows serde-saphyr.

use crate::spelling::nearest;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Spanned};
use std::fmt;
use std::sync::Arc;

/// A word that a mapping may have, and what the reference says of it.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// `long`, or `long|short` for two spellings of one.
    pub word: &'static str,
    /// What it takes, in Markdown.
    pub value: &'static str,
    /// What it does, in Markdown.
    pub meaning: &'static str,
}

/// The words alone: that is all that a parser keeps of them.
pub(crate) const fn words<const N: usize>(keys: &[Word; N]) -> [&'static str; N] {
    let mut out = [""; N];
    let mut i = 0;
    while i < N {
        out[i] = keys[i].word;
        i += 1;
    }
    out
}

/// A value and the line it stands on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line of its first character; of the alias where it is one.
    pub line: u32,
    /// What stands there.
    pub value: Value,
}

/// A key and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its line.
    pub line: u32,
    /// The key.
    pub text: String,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Pairs in their order; keys may repeat.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What it is, for messages.
    fn described(&self) -> String {
        match self {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the truth value {b}"),
            Value::Integer(n) => format!("the number {n}"),
            Value::Float(n) => format!("the number {n}"),
            Value::Text(text) => format!("the text {text:?}"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<Value>::deserialize(deserializer)?;
        let line = line(referenced.line());
        Ok(Node { line, value })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<String>::deserialize(deserializer)?;
        Ok(Key {
            line: line(referenced.line()),
            text: value,
        })
    }
}

fn line(of: u64) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX).max(1)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // beyond what any field takes, and told so by the field
        Ok(Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = from.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = from.next_entry()? {
            pairs.push(pair);
        }
        Ok(Value::Map(pairs))
    }
}

/// Something wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Path of the field, such as `rules[2].any`; empty for the whole text.
    pub field: String,
    /// What is wrong, and what is wanted.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Reads one document.
///
/// # Errors
/// What the parser cannot get past; nothing behind it can be judged.
pub fn parse(text: &str, file: &Arc<str>) -> Result<Node, Fault> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        with_snippet: false,
    };
    let fault = |at: u32, message: String| Fault {
        file: file.clone(),
        line: at,
        field: String::new(),
        message,
    };
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(Node {
            value: Value::Null, ..
        }) => Err(fault(1, "holds nothing".into())),
        Ok(node) => Ok(node),
        Err(error) => {
            let at = error.location().map_or(1, |l| line(l.line()));
            if matches!(error, serde_saphyr::Error::MultipleDocuments { .. }) {
                return Err(fault(at, "holds more than one document".into()));
            }
            let said = error.without_snippet().to_string();
            // one sentence, with the place in front only
            let said = said.lines().next().unwrap_or_default();
            let said = match said.rfind(" at line ") {
                Some(end) => &said[..end],
                None => said,
            };
            Err(fault(at, format!("is no YAML that can be read: {said}")))
        }
    }
}

/// A node with its path from the root.
#[derive(Clone, Debug)]
pub struct Field<'n> {
    /// Such as `accepted[0].expires`.
    pub path: String,
    /// The node.
    pub node: &'n Node,
}

impl<'n> Field<'n> {
    /// The whole text.
    pub fn root(node: &'n Node) -> Field<'n> {
        Field {
            path: String::new(),
            node,
        }
    }

    fn below(&self, key: &str, node: &'n Node) -> Field<'n> {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Field { path, node }
    }
}

/// The fields of a mapping, by their words.
#[derive(Clone, Debug)]
pub struct Fields<'n> {
    of: Field<'n>,
    fields: Vec<(&'static str, Field<'n>)>,
    /// Words that an unknown key was probably meant to be; what is wrong there has been said.
    meant: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The field, if it is there.
    pub fn get(&self, word: &str) -> Option<&Field<'n>> {
        self.fields.iter().find(|(w, _)| *w == word).map(|(_, f)| f)
    }

    /// The field; a fault if it is missing.
    pub fn need(&self, word: &str, faults: &mut Faults) -> Option<&Field<'n>> {
        self.need_all(&[word], faults);
        self.get(word)
    }

    /// One fault for all that are missing.
    pub fn need_all(&self, words: &[&str], faults: &mut Faults) {
        let there = |word: &str| self.get(word).is_some() || self.meant.contains(&word);
        let missing: Vec<&str> = words.iter().copied().filter(|w| !there(w)).collect();
        match missing.as_slice() {
            [] => {}
            [one] => faults.at(&self.of, format!("{one} is missing")),
            more => faults.at(&self.of, format!("{} are missing", more.join(", "))),
        }
    }

    /// Words of the fields that are there, as the caller spelt them.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|(word, _)| *word)
    }
}

/// The faults of one text, found in any order.
#[derive(Debug)]
pub struct Faults {
    file: Arc<str>,
    found: Vec<Fault>,
}

impl Faults {
    /// None yet.
    pub fn new(file: Arc<str>) -> Faults {
        Faults {
            file,
            found: Vec::new(),
        }
    }

    /// Name of the text.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Nothing found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, by line.
    pub fn sorted(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|f| f.line);
        self.found
    }

    /// Adds one at a field.
    pub fn at(&mut self, field: &Field<'_>, message: String) {
        self.on(field.node.line, &field.path, message);
    }

    /// Adds one at a line.
    pub fn on(&mut self, line: u32, path: &str, message: String) {
        self.found.push(Fault {
            file: self.file.clone(),
            line,
            field: path.to_owned(),
            message,
        });
    }

    fn wants(&mut self, field: &Field<'_>, what: &str) {
        let message = format!("wants {what}, not {}", field.node.value.described());
        self.at(field, message);
    }

    /// The fields of a mapping that may have these and no others. `long|short` are two spellings of
    /// one; the long one names it.
    pub fn map<'n>(&mut self, field: &Field<'n>, words: &[&'static str]) -> Option<Fields<'n>> {
        let Value::Map(pairs) = &field.node.value else {
            let all: Vec<&str> = words.iter().map(|w| long(w)).collect();
            self.wants(field, &format!("a mapping with {}", all.join(", ")));
            return None;
        };
        let mut fields: Vec<(&'static str, Field<'n>)> = Vec::with_capacity(pairs.len());
        let mut first: Vec<(&'static str, u32)> = Vec::new();
        let mut meant = Vec::new();
        for (key, node) in pairs {
            let Some(word) = words.iter().find(|w| w.split('|').any(|s| s == key.text)) else {
                let among = || words.iter().map(|w| long(w));
                meant.extend(nearest(&key.text, among()));
                self.on(key.line, &field.path, unknown("key", &key.text, among()));
                continue;
            };
            let word = long(word);
            let below = field.below(word, node);
            if let Some((_, line)) = first.iter().find(|(w, _)| *w == word) {
                let message = format!("is given twice; the first is on line {line}");
                self.on(key.line, &below.path, message);
                continue;
            }
            first.push((word, key.line));
            fields.push((word, below));
        }
        Some(Fields {
            of: field.clone(),
            fields,
            meant,
        })
    }

    /// The entries of a list.
    pub fn list<'n>(&mut self, field: &Field<'n>) -> Option<Vec<Field<'n>>> {
        match &field.node.value {
            Value::List(list) => Some(entries(field, list)),
            Value::Null => {
                self.at(field, "is empty; write [] or leave the key out".into());
                None
            }
            _ => {
                self.wants(field, "a list");
                None
            }
        }
    }

    /// A text that is not blank.
    pub fn text<'n>(&mut self, field: &Field<'n>) -> Option<&'n str> {
        match &field.node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.at(field, "is empty".into());
                None
            }
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                let message = format!("is {}; put it in quotes", field.node.value.described());
                self.at(field, message);
                None
            }
            _ => {
                self.wants(field, "text");
                None
            }
        }
    }

    /// The texts of a list; what is none, or blank, is a fault.
    pub fn texts<'n>(&mut self, field: &Field<'n>) -> Vec<(Field<'n>, &'n str)> {
        let mut out = Vec::new();
        for entry in self.list(field).unwrap_or_default() {
            if let Some(text) = self.text(&entry) {
                out.push((entry, text));
            }
        }
        out
    }

    /// The same of a list that must not be empty.
    pub fn some_texts<'n>(&mut self, field: &Field<'n>) -> Vec<(Field<'n>, &'n str)> {
        if matches!(&field.node.value, Value::List(list) if list.is_empty()) {
            self.at(field, "is an empty list".into());
        }
        self.texts(field)
    }

    /// `true` or `false`.
    pub fn truth(&mut self, field: &Field<'_>) -> Option<bool> {
        match field.node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wants(field, "true or false");
                None
            }
        }
    }

    /// A whole number in a range.
    pub fn number(
        &mut self,
        field: &Field<'_>,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        match field.node.value {
            Value::Integer(n) if range.contains(&n) => Some(n),
            _ => {
                let what = format!("a whole number from {} to {}", range.start(), range.end());
                self.wants(field, &what);
                None
            }
        }
    }
}

fn long(word: &'static str) -> &'static str {
    word.split_once('|').map_or(word, |(long, _)| long)
}

/// The entries of a list, with their paths.
pub fn entries<'n>(field: &Field<'n>, list: &'n [Node]) -> Vec<Field<'n>> {
    let path = &field.path;
    list.iter()
        .enumerate()
        .map(|(i, node)| Field {
            path: format!("{path}[{i}]"),
            node,
        })
        .collect()
}

/// Most words that a message lists.
const LISTED: usize = 14;

/// `"hihg" is none of …; did you mean …?`, as far as it helps.
pub fn unknown<'w>(what: &str, given: &str, words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<&str> = words.collect();
    let mut out = format!("{given:?} is no known {what}");
    match nearest(given, words.iter().copied()) {
        Some(near) => {
            out.push_str(&format!("; did you mean {near:?}?"));
        }
        None if words.len() <= LISTED => {
            out.push_str(&format!("; known are {}", words.join(", ")));
        }
        None => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        parse(text, &Arc::from("t.yaml")).unwrap()
    }

    #[test]
    fn lines_of_keys_values_aliases_and_repeated_keys() {
        let root = tree("a: 1\n\nb: &x [p, 'on']\na:\n  c: *x\n");
        let Value::Map(pairs) = &root.value else {
            panic!("{root:?}")
        };
        let at: Vec<(&str, u32, u32)> = pairs
            .iter()
            .map(|(k, n)| (k.text.as_str(), k.line, n.line))
            .collect();
        assert_eq!(at, [("a", 1, 1), ("b", 3, 3), ("a", 4, 5)]);
        let Value::Map(inner) = &pairs[2].1.value else {
            panic!()
        };
        assert_eq!(inner[0].1.line, 5);
        let Value::List(list) = &inner[0].1.value else {
            panic!()
        };
        assert_eq!(list[1].value, Value::Text("on".into()));
    }

    #[test]
    fn what_cannot_be_parsed_says_where() {
        for (text, line, part) in [
            ("", 1, "holds nothing"),
            ("# a\n", 1, "holds nothing"),
            ("a: [\n", 1, "no YAML"),
            ("a: 1\n b: 2\n", 2, "no YAML"),
            ("a: 1\n---\nb: 2\n", 3, "more than one"),
        ] {
            let fault = parse(text, &Arc::from("t.yaml")).unwrap_err();
            assert!(fault.to_string().contains(part), "{text:?}: {fault}");
            assert_eq!(fault.line, line, "{text:?}: {fault}");
            assert!(!fault.to_string().contains('\n'), "{fault}");
        }
    }
}
