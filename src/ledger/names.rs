//! Names as numbers. Rows hold a [`Sym`]; the text lives here once.
//!
//! Each costs its bytes in one long text, eight bytes for where they are and a slot of five in the index. An
//! allocation of its own, in a map that holds the text again as its key, would cost three times as much. Those of
//! pods are nine of ten, and are kept as [stem and tail](super::pod_name).
//!
//! Namespaces, accounts and pods come and go for months, so names are collected: when the table has
//! grown well past what was in use last time, the ledger marks what its rows still name and the rest
//! is freed. Counting references in every row would be exact and easy to get wrong.

use super::table::make_room;
use crate::rbac::Bits;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A name in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sym(u32);

impl Sym {
    /// The empty string: the namespace of cluster-scoped things, users and groups.
    pub(crate) const EMPTY: Sym = Sym(0);
    /// `*`: the scope of what holds everywhere.
    pub(crate) const STAR: Sym = Sym(1);
}

type Hasher = foldhash::fast::RandomState;

/// Where a text lies in [`Names::texts`].
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// Of a number that is to be given out again.
    const FREE: Span = Span {
        at: u32::MAX,
        len: 0,
    };

    fn of(self, texts: &str) -> &str {
        let at = self.at as usize;
        &texts[at..at + self.len as usize]
    }
}

/// The table of names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// All texts, one behind the other.
    texts: String,
    spans: Vec<Span>,
    index: HashTable<u32>,
    hasher: Hasher,
    free: Vec<u32>,
    live_last: usize,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Names {
            texts: String::new(),
            spans: Vec::new(),
            index: HashTable::new(),
            hasher: Hasher::default(),
            free: Vec::new(),
            live_last: 0,
        };
        names.intern("");
        names.intern("*");
        names
    }
}

impl Names {
    /// The number of a text, given out if it is new.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.get(text) {
            return sym;
        }
        let number = |n: usize| u32::try_from(n).expect("names take less than 4 GiB");
        let span = Span {
            at: number(self.texts.len()),
            len: number(text.len()),
        };
        if self.texts.capacity() - self.texts.len() < text.len() {
            self.texts.reserve_exact(text.len() + self.texts.len() / 16);
        }
        self.texts.push_str(text);
        let at = match self.free.pop() {
            Some(at) => {
                self.spans[at as usize] = span;
                at
            }
            None => {
                make_room(&mut self.spans);
                self.spans.push(span);
                number(self.spans.len() - 1)
            }
        };
        let hash = self.hasher.hash_one(text);
        let (texts, spans, hasher) = (&self.texts, &self.spans, &self.hasher);
        self.index.insert_unique(hash, at, |at| {
            hasher.hash_one(spans[*at as usize].of(texts))
        });
        Sym(at)
    }

    /// The number of a text, if it has one.
    pub(crate) fn get(&self, text: &str) -> Option<Sym> {
        let hash = self.hasher.hash_one(text);
        let found = self
            .index
            .find(hash, |at| self.spans[*at as usize].of(&self.texts) == text);
        found.map(|at| Sym(*at))
    }

    /// The text of a number.
    pub(crate) fn text(&self, sym: Sym) -> &str {
        self.spans[sym.0 as usize].of(&self.texts)
    }

    /// The text of a number, for whoever outlives the table.
    pub(crate) fn shared(&self, sym: Sym) -> Arc<str> {
        Arc::from(self.text(sym))
    }

    /// Is it time to collect? A quarter more than was in use is little memory, and seldom enough: pods
    /// of a whole cluster are replaced in hours.
    pub(crate) fn crowded(&self) -> bool {
        self.index.len() > self.live_last + self.live_last / 4 + 4096
    }

    /// Frees every name that `mark` does not name.
    pub(crate) fn collect(&mut self, mark: impl FnOnce(&mut dyn FnMut(Sym))) {
        let mut live = Bits::new(self.spans.len());
        live.insert(0);
        live.insert(1);
        mark(&mut |sym| live.insert(sym.0 as usize));
        self.index.retain(|at| live.contains(*at as usize));
        let mut stays: Vec<u32> = Vec::with_capacity(self.index.len());
        for at in 0..self.spans.len() {
            if live.contains(at) {
                stays.push(at as u32);
            } else if self.spans[at].at != Span::FREE.at {
                self.spans[at] = Span::FREE;
                self.free.push(at as u32);
            }
        }
        // what stays moves together where it lies: no second copy
        stays.sort_unstable_by_key(|at| self.spans[*at as usize].at);
        let mut bytes = std::mem::take(&mut self.texts).into_bytes();
        let mut end = 0;
        for at in stays {
            let span = &mut self.spans[at as usize];
            let from = span.at as usize;
            bytes.copy_within(from..from + span.len as usize, end);
            span.at = end as u32;
            end += span.len as usize;
        }
        bytes.truncate(end);
        self.texts = String::from_utf8(bytes).expect("whole texts were moved");
        self.live_last = self.index.len();
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_what_nobody_names() {
        let mut names = Names::default();
        assert_eq!(
            (names.intern(""), names.intern("*")),
            (Sym::EMPTY, Sym::STAR)
        );
        let (a, b) = (names.intern("a"), names.intern("b"));
        assert_eq!(names.intern("a"), a);
        names.collect(|mark| mark(b));
        assert_eq!(
            (names.get("a"), names.get("b"), names.len()),
            (None, Some(b), 3)
        );
        let c = names.intern("c");
        assert_eq!(c, a, "the slot is used again");
        assert_eq!(names.text(c), "c");
    }

    /// Names come and go in any order; whoever is still named keeps number and text.
    #[test]
    fn numbers_and_texts_stay_through_collections() {
        let mut names = Names::default();
        let mut held: std::collections::BTreeMap<String, Sym> = Default::default();
        for round in 0..40_usize {
            for i in 0..200_usize {
                let text = format!("{}-{}", "ä".repeat(i % 7), (round * 37 + i * i) % 900);
                let sym = names.intern(&text);
                assert_eq!(*held.entry(text).or_insert(sym), sym);
            }
            held.retain(|_, sym| !(sym.0 as usize + round).is_multiple_of(3));
            names.collect(|mark| held.values().for_each(|sym| mark(*sym)));
            assert_eq!(names.len(), held.len() + 2);
            for (text, sym) in &held {
                assert_eq!(
                    (names.get(text), names.text(*sym)),
                    (Some(*sym), text.as_str())
                );
            }
            let bytes: usize = held.keys().map(String::len).sum();
            assert_eq!(
                names.texts.len(),
                bytes + "*".len(),
                "nothing of what is gone"
            );
        }
    }
}
