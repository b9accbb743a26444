//! A part of the ledger that a moment of it shares.
//!
//! Whoever needs the whole ledger as it stands, and for long, takes a clone: that is a count of each
//! part and no copy. The writer goes on at once, and copies a part when it first changes it while
//! somebody still has it: a few milliseconds for the largest one, once, instead of the whole time that
//! the other takes. Nothing is copied where nobody asks.

use std::ops::{Deref, DerefMut};
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
}
