//! A part of the ledger that a moment of it shares.
//!
//! Whoever needs the whole ledger as it stands, and for long, takes a clone: that is a count of each
//! part and no copy. The writer goes on at once, and copies a part when it first changes it while
//! somebody still has it, of long lists a chunk: a few milliseconds for the largest one, once, instead of
//! the whole time that the other takes. Nothing is copied where nobody asks.

use super::names::{Names, Sym};
use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Piece<T>(Arc<T>);

impl<T> Clone for Piece<T> {
    fn clone(&self) -> Piece<T> {
        Piece(Arc::clone(&self.0))
    }
}

impl<T> Deref for Piece<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Piece<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Piece<T> {
    fn from(part: T) -> Piece<T> {
        Piece(Arc::new(part))
    }
}

impl Piece<Names> {
    /// See [`Names::intern`]. A name that is known already changes nothing.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        let known = self.get(text);
        known.unwrap_or_else(|| Arc::make_mut(&mut self.0).intern(text))
    }
}

/// Rows of a chunk.
const CHUNK: usize = 256;

/// A list of which a change copies one chunk. It has room for one chunk at most that nothing fills.
#[derive(Clone, Debug)]
pub(crate) struct Chunks<T>(Vec<Piece<Vec<T>>>);

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub(crate) fn len(&self) -> usize {
        match self.0.last() {
            Some(last) => (self.0.len() - 1) * CHUNK + last.len(),
            None => 0,
        }
    }

    /// From a place on.
    pub(crate) fn iter_from(&self, first: usize) -> impl Iterator<Item = &T> {
        let chunks = self.0.iter().skip(first / CHUNK);
        chunks.flat_map(|chunk| chunk.iter()).skip(first % CHUNK)
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at / CHUNK][at % CHUNK]
    }
}

impl<T: Clone> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.0[at / CHUNK][at % CHUNK]
    }
}

impl<T: Clone> Chunks<T> {
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.0.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(item),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.0.push(chunk.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_stays_as_it_was_and_nothing_is_copied_for_nobody() {
        let mut list = Piece::from(vec![1, 2]);
        let place = list.as_ptr();
        list[0] = 3;
        assert_eq!(list.as_ptr(), place, "nobody else has it");
        let moment = list.clone();
        assert_eq!(moment.as_ptr(), place);
        list[0] = 4;
        assert_eq!((moment[0], list[0]), (3, 4));
    }

    #[test]
    fn a_list_in_chunks_is_a_list() {
        let mut chunks = Chunks::default();
        for i in 0..3 * CHUNK + 7 {
            assert_eq!((chunks.len(), chunks.get(i)), (i, None));
            chunks.push(i);
        }
        let moment = chunks.clone();
        if let Some(item) = chunks.get_mut(CHUNK) {
            *item = 0;
        }
        assert_eq!(
            (chunks.get(CHUNK), moment.get(CHUNK)),
            (Some(&0), Some(&CHUNK))
        );
        for first in [
            0,
            1,
            CHUNK,
            CHUNK + 1,
            3 * CHUNK + 6,
            3 * CHUNK + 7,
            9 * CHUNK,
        ] {
            let got: Vec<usize> = moment.iter_from(first).copied().collect();
            assert_eq!(got, Vec::from_iter(first..3 * CHUNK + 7));
        }
    }
}
