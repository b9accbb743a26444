//! The parameters of a request: what stands behind `?`, against what a path knows. All that is wrong is
//! told at once.

use crate::spelling::nearest;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Something wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// The parameter, as sent.
    pub(super) parameter: String,
    /// What is wrong, and what is wanted.
    pub(super) detail: String,
}

/// See the module. Parameters are taken by name; [`Params::finish`] finds those that nobody took.
#[derive(Debug)]
pub(super) struct Params<'a> {
    given: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl<'a> Params<'a> {
    /// All that is given.
    pub(super) fn new(query: &'a str) -> Params<'a> {
        Params {
            given: form_urlencoded::parse(query.as_bytes()).collect(),
            known: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// As a form of a page sends them: a field left empty is none.
    pub(super) fn of_form(query: &'a str) -> Params<'a> {
        let mut params = Params::new(query);
        params.given.retain(|(_, value)| !value.is_empty());
        params
    }

    /// Notes something wrong.
    pub(super) fn fault(&mut self, parameter: &str, detail: String) {
        let parameter = parameter.to_owned();
        self.faults.push(Fault { parameter, detail });
    }

    /// The value as it is.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = self.given.iter().filter(|(n, _)| n == name);
        let first = values.next().map(|(_, value)| value.to_string());
        if values.next().is_some() {
            self.fault(name, "is given more than once".to_owned());
        }
        first
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == value);
        if found.is_none() {
            let names = words.iter().map(|(word, _)| *word);
            self.fault(name, not_among(&value, names));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Some of these words, with commas between them.
    pub(super) fn words<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Vec<T> {
        let mut out = Vec::new();
        for value in self.text(name).iter().flat_map(|list| list.split(',')) {
            match words.iter().find(|(word, _)| *word == value) {
                Some((_, meaning)) => out.push(*meaning),
                None => {
                    let names = words.iter().map(|(word, _)| *word);
                    self.fault(name, not_among(value, names));
                }
            }
        }
        out
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.word(name, &[("true", true), ("false", false)])
    }

    /// A whole number.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let value = self.text(name)?;
        let number = value.parse().ok().filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            let wanted = match *high {
                usize::MAX => format!("of {low} or more"),
                high => format!("from {low} to {high}"),
            };
            self.fault(name, format!("{value:?} is no whole number {wanted}"));
        }
        number
    }

    /// A value that `read` understands; the fault says what it does not.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.text(name)?;
        match read(&value) {
            Ok(meaning) => Some(meaning),
            Err(detail) => {
                self.fault(name, detail);
                None
            }
        }
    }

    /// What was wrong, parameters that nobody took included.
    pub(super) fn finish(mut self) -> Result<(), Vec<Fault>> {
        let mut unknown: Vec<String> = self
            .given
            .iter()
            .map(|(name, _)| name.to_string())
            .filter(|name| !self.known.contains(&name.as_str()))
            .collect();
        unknown.dedup();
        for name in unknown {
            let detail = match nearest(&name, self.known.iter().copied()) {
                Some(near) => format!("is unknown; did you mean {near}?"),
                None if self.known.is_empty() => "is unknown; none is known here".to_owned(),
                None => format!("is unknown; known are {}", self.known.join(", ")),
            };
            self.fault(&name, detail);
        }
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults)
        }
    }
}

/// Says that a value is none of the words, and which it probably should be.
pub(super) fn not_among<'w>(value: &str, words: impl Iterator<Item = &'w str> + Clone) -> String {
    let mut out = format!("{value:?} is unknown; ");
    // writing to a string does not fail
    let _ = match nearest(value, words.clone()) {
        Some(near) => write!(out, "did you mean {near}?"),
        None => write!(out, "write one of {}", words.collect::<Vec<_>>().join(", ")),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(params: Params<'_>) -> Vec<String> {
        let faults = params.finish().err().unwrap_or_default();
        let line = |f: Fault| format!("{} {}", f.parameter, f.detail);
        faults.into_iter().map(line).collect()
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut p = Params::new(
            "kind=usr&priority=high,hihg&limit=0&limt=3&a=1&a=2&flag=yes&xyzzy=%3Cb%3E",
        );
        let kinds = [("User", 0), ("Group", 1)];
        let levels = [("high", 3), ("low", 1)];
        assert_eq!(p.word("kind", &kinds), None);
        assert_eq!(p.words("priority", &levels), [3]);
        assert_eq!(p.number("limit", 1..=1000), None);
        assert_eq!(p.number("offset", 0..=usize::MAX), None);
        assert_eq!(p.flag("flag"), None);
        assert_eq!(p.text("a").as_deref(), Some("1"));
        assert_eq!(
            faults(p),
            [
                "kind \"usr\" is unknown; did you mean User?",
                "priority \"hihg\" is unknown; did you mean high?",
                "limit \"0\" is no whole number from 1 to 1000",
                "flag \"yes\" is unknown; write one of true, false",
                "a is given more than once",
                "limt is unknown; did you mean limit?",
                "xyzzy is unknown; known are kind, priority, limit, offset, flag, a",
            ]
        );
    }

    #[test]
    fn values_are_decoded_and_forms_leave_fields_empty() {
        let mut p = Params::new("namespace=&text=a%2Fb+c%26");
        assert_eq!(p.text("namespace").as_deref(), Some(""));
        assert_eq!(p.text("text").as_deref(), Some("a/b c&"));
        assert!(p.finish().is_ok());
        let mut p = Params::of_form("namespace=&text=a");
        assert_eq!(p.text("namespace"), None);
        assert_eq!(faults(p), ["text is unknown; known are namespace"]);
        assert_eq!(
            faults(Params::new("a=1")),
            ["a is unknown; none is known here"]
        );
    }
}
