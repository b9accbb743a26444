//! Names as numbers. Rows hold a [`Sym`]; the text lives here once.
//!
//! Namespaces, accounts and pods come and go for months, so names are collected: when the table has
//! grown well past what was in use last time, the ledger marks what its rows still name and the rest
//! is freed. Counting references in every row would be exact and easy to get wrong.

use crate::rbac::Bits;
use std::collections::HashMap;
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

/// The table of names.
#[derive(Debug)]
pub(crate) struct Names {
    texts: Vec<Option<Arc<str>>>,
    index: HashMap<Arc<str>, Sym, Hasher>,
    free: Vec<u32>,
    live_last: usize,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Names {
            texts: Vec::new(),
            index: HashMap::default(),
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
        if let Some(sym) = self.index.get(text) {
            return *sym;
        }
        let text: Arc<str> = Arc::from(text);
        let sym = match self.free.pop() {
            Some(at) => {
                self.texts[at as usize] = Some(text.clone());
                Sym(at)
            }
            None => {
                self.texts.push(Some(text.clone()));
                Sym(self.texts.len() as u32 - 1)
            }
        };
        self.index.insert(text, sym);
        sym
    }

    /// The number of a text, if it has one.
    pub(crate) fn get(&self, text: &str) -> Option<Sym> {
        self.index.get(text).copied()
    }

    /// The text of a number.
    pub(crate) fn text(&self, sym: Sym) -> &Arc<str> {
        self.texts[sym.0 as usize]
            .as_ref()
            .expect("rows name only what they keep alive")
    }

    /// Is it time to collect?
    pub(crate) fn crowded(&self) -> bool {
        self.index.len() > 2 * self.live_last + 4096
    }

    /// Frees every name that `mark` does not name.
    pub(crate) fn collect(&mut self, mark: impl FnOnce(&mut dyn FnMut(Sym))) {
        let mut live = Bits::new(self.texts.len());
        live.insert(0);
        live.insert(1);
        mark(&mut |sym| live.insert(sym.0 as usize));
        for (i, slot) in self.texts.iter_mut().enumerate() {
            if !live.contains(i)
                && let Some(text) = slot.take()
            {
                self.index.remove(&text);
                self.free.push(i as u32);
            }
        }
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
        assert_eq!(&**names.text(c), "c");
    }
}
