//! Names of pods, which nobody chooses: a stem that all pods of a template have, and a few characters that
//! tell one from the next.
//!
//! Nine of ten names of a cluster are those of pods. Kept whole, each would cost its bytes, where they lie and a
//! slot in an index, some 40 bytes; as stem and [tail](Tail) it takes four beside the stem, which its siblings have
//! too, and a pod that replaces another brings no new name.

use super::names::{Names, Sym};
use super::piece::Piece;
use std::cmp::Ordering;
use std::fmt;

/// What comes behind the stem. One text has one tail and no other, so names are equal where these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tail(u32);

/// The characters of which the API server makes up five, k8s.io/apimachinery `pkg/util/rand`.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// That many of them, `pkg/storage/names`.
const LENGTH: usize = 5;
/// Marks the ordinal of a StatefulSet's pod; the number is in the bits below.
const ORDINAL: u32 = 1 << 31;

impl Tail {
    /// Nothing: the stem is the whole name.
    const NONE: Tail = Tail(0);

    /// Of the text behind the last hyphen.
    fn read(text: &str) -> Option<Tail> {
        let digit = |c| LETTERS.iter().position(|l| *l == c).map(|at| at as u32);
        if text.len() == LENGTH
            && let Some(number) = text
                .bytes()
                .try_fold(0, |number, c| Some(number * 27 + digit(c)?))
        {
            return Some(Tail(number + 1));
        }
        let decimal = text == "0" || (!text.starts_with('0') && text.len() <= 9);
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let number: u32 = text.parse().ok().filter(|_| decimal && digits)?;
        Some(Tail(ORDINAL | number))
    }

    /// Hyphen and text, as long as the second value says; nothing for [`Tail::NONE`].
    fn written(self) -> ([u8; 10], usize) {
        let mut text = [b'-'; 10];
        let digits = |mut number: u32, letters: &[u8], into: &mut [u8]| {
            for place in into.iter_mut().rev() {
                *place = letters[number as usize % letters.len()];
                number /= letters.len() as u32;
            }
        };
        let length = match self {
            Tail::NONE => return (text, 0),
            Tail(ordinal) if ordinal & ORDINAL != 0 => {
                let number = ordinal & !ORDINAL;
                let length = number.checked_ilog10().unwrap_or_default() as usize + 1;
                digits(number, b"0123456789", &mut text[1..=length]);
                length
            }
            Tail(made_up) => {
                digits(made_up - 1, LETTERS, &mut text[1..=LENGTH]);
                LENGTH
            }
        };
        (text, length + 1)
    }
}

/// The name of a pod, or of whatever stands where a pod's may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodName {
    stem: Sym,
    tail: Tail,
}

impl PodName {
    /// Of something that is no pod: never taken apart.
    pub(crate) fn whole(name: Sym) -> PodName {
        let tail = Tail::NONE;
        PodName { stem: name, tail }
    }

    /// What of it is kept in [`Names`].
    pub(crate) fn stem(self) -> Sym {
        self.stem
    }

    /// As text, in two parts.
    pub(crate) fn text(self, names: &Names) -> PodText<'_> {
        let (tail, length) = self.tail.written();
        PodText {
            stem: names.text(self.stem),
            tail,
            length,
        }
    }
}

/// Stem and tail of a text.
fn parts(text: &str) -> (&str, Tail) {
    let cut = text.rsplit_once('-');
    let read = cut.and_then(|(stem, tail)| Some((stem, Tail::read(tail)?)));
    read.unwrap_or((text, Tail::NONE))
}

impl Names {
    /// The name of a pod, if its stem has a number.
    pub(crate) fn pod(&self, text: &str) -> Option<PodName> {
        let (stem, tail) = parts(text);
        self.get(stem).map(|stem| PodName { stem, tail })
    }
}

impl Piece<Names> {
    /// The name of a pod; its stem is given a number if it is new.
    pub(crate) fn intern_pod(&mut self, text: &str) -> PodName {
        let (stem, tail) = parts(text);
        let stem = self.intern(stem);
        PodName { stem, tail }
    }
}

/// The text of a pod's name. Ordered and compared as the whole text is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodText<'a> {
    stem: &'a str,
    tail: [u8; 10],
    length: usize,
}

impl PodText<'_> {
    fn tail(&self) -> &str {
        std::str::from_utf8(&self.tail[..self.length]).unwrap_or_default()
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.stem.bytes().chain(self.tail().bytes())
    }
}

impl fmt::Display for PodText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, self.tail())
    }
}

impl PartialEq<str> for PodText<'_> {
    fn eq(&self, text: &str) -> bool {
        let rest = text.strip_prefix(self.stem);
        rest.is_some_and(|rest| rest == self.tail())
    }
}

impl PartialEq for PodText<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PodText<'_> {}

impl PartialOrd for PodText<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PodText<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.stem == other.stem {
            self.tail().cmp(other.tail())
        } else {
            self.bytes().cmp(other.bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 24] = [
        "",
        "-",
        "-0",
        "-bcdfg",
        "a",
        "a-",
        "a-0",
        "a-00",
        "a-01",
        "a-10",
        "a-9",
        "a-22456",
        "a-13579",
        "a-999999999",
        "a-1000000000",
        "a-4294967296",
        "a-bcdfg",
        "a-99999",
        "a-bcdfa",
        "a-bcdfgh",
        "a--bcdfg",
        "a-+1",
        "web-7d4b9c5f8-x2x9z",
        "ä-bcdfö",
    ];

    /// A name reads as it was written, and two are equal or ordered as their texts are.
    #[test]
    fn a_name_is_its_text() {
        let mut names = Piece::<Names>::default();
        let all = TEXTS.map(|text| (text, names.intern_pod(text)));
        for (text, name) in all {
            assert_eq!(name.text(&names).to_string(), text);
            assert_eq!(names.pod(text), Some(name));
            for (other, of_other) in all {
                let (one, two) = (name.text(&names), of_other.text(&names));
                assert_eq!(one.cmp(&two), text.cmp(other), "{text} {other}");
                assert_eq!(name == of_other, text == other, "{text} {other}");
                assert_eq!(one == *other, text == other, "{text} {other}");
            }
        }
        assert_eq!(names.pod("b-bcdfg"), None, "nobody has this stem");
    }

    /// Replicas and those that replace them have one stem.
    #[test]
    fn what_is_made_up_takes_no_room() {
        let mut names = Piece::<Names>::default();
        names.intern_pod("web-7d4b9c5f8-x2x9z");
        let before = names.len();
        for text in ["web-7d4b9c5f8-bcdfg", "web-7d4b9c5f8-99999", "db-0", "db-1"] {
            names.intern_pod(text);
        }
        assert_eq!(names.len(), before + 1, "db is new");
    }

    proptest::proptest! {
        /// Whatever somebody calls a pod.
        #[test]
        fn any_name_is_its_text(texts in proptest::collection::vec("[a0-9bz-]{0,9}|\\PC{0,9}", 2..9)) {
            let mut names = Piece::<Names>::default();
            let all: Vec<PodName> = texts.iter().map(|text| names.intern_pod(text)).collect();
            for (text, name) in texts.iter().zip(&all) {
                assert_eq!(name.text(&names).to_string(), *text);
                for (other, of_other) in texts.iter().zip(&all) {
                    assert_eq!(name.text(&names).cmp(&of_other.text(&names)), text.cmp(other));
                    assert_eq!(name == of_other, text == other);
                }
            }
        }
    }
}
