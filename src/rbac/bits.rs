//! A bit set sized when the vocabulary is made: users add permissions, so no fixed integer would do.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits(Box<[u64]>);

impl Bits {
    /// An empty set for numbers below `len`.
    pub fn new(len: usize) -> Bits {
        Bits(vec![0; len.div_ceil(64)].into_boxed_slice())
    }

    /// The set of all numbers below `len`.
    pub fn full(len: usize) -> Bits {
        let mut bits = Bits::new(len);
        for i in 0..len {
            bits.insert(i);
        }
        bits
    }

    /// Adds `i`, which must be below the length given to [`Bits::new`].
    pub fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Takes `i` out.
    pub fn remove(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    /// Is `i` in the set?
    pub fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|w| w & (1 << (i % 64)) != 0)
    }

    /// Adds everything in `other`.
    pub fn union(&mut self, other: &Bits) {
        for (a, b) in self.0.iter_mut().zip(other.0.iter()) {
            *a |= b;
        }
    }

    /// Keeps what is in `other` too.
    pub fn intersect(&mut self, other: &Bits) {
        for (a, b) in self.0.iter_mut().zip(other.0.iter()) {
            *a &= b;
        }
    }

    /// Have the two anything in common?
    pub fn meets(&self, other: &Bits) -> bool {
        self.0.iter().zip(other.0.iter()).any(|(a, b)| a & b != 0)
    }

    /// Nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The numbers in it, rising.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, w)| {
            let mut left = *w;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                Some(i * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_set() {
        let mut a = Bits::new(130);
        for i in [0, 63, 64, 129] {
            a.insert(i);
        }
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        a.remove(63);
        assert!(!a.contains(63) && a.contains(129) && !a.contains(1000));
        let mut b = Bits::new(130);
        assert!(b.is_empty() && !a.meets(&b));
        b.insert(64);
        assert!(a.meets(&b));
        a.intersect(&b);
        assert_eq!(a, b);
        a.union(&Bits::full(3));
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 1, 2, 64]);
    }
}
