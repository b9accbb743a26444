//! Reads the text format (and OpenMetrics, which differs only in what is ignored here).

use std::collections::BTreeMap;
use std::fmt;

/// A series: name and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    /// Metric name.
    pub(crate) name: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.name, self.labels)
    }
}

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(BTreeMap<Series, f64>);

impl Samples {
    /// Reads a whole exposition.
    ///
    /// # Panics
    ///
    /// When a line is none of the format, or a series comes twice.
    pub(crate) fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (series, value) =
                parse_line(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
            assert!(
                samples.insert(series, value).is_none(),
                "a series comes twice: {line}"
            );
        }
        Self(samples)
    }

    /// All samples of a name whose labels include `labels`.
    pub(crate) fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a Series, f64)> {
        self.0
            .iter()
            .map(|(series, value)| (series, *value))
            .filter(move |(series, _)| {
                series.name == name
                    && labels.iter().all(|(key, value)| {
                        series.labels.get(*key).is_some_and(|have| have == value)
                    })
            })
    }

    /// The sum over [`Samples::select`]; 0 when there is none, as series of value 0 may be absent.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|(_, value)| value).sum()
    }

    /// What says something about the cluster rather than about the exporter or its process.
    pub(crate) fn judgement(&self) -> Self {
        let about_cluster =
            |name: &str| name.starts_with("rbac_") && !name.starts_with("rbac_exporter_");
        Self(
            self.0
                .iter()
                .filter(|(series, _)| about_cluster(&series.name))
                .map(|(series, value)| (series.clone(), *value))
                .collect(),
        )
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `other` has otherwise, one line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (series, value) in &self.0 {
            match other.0.get(series) {
                Some(there) if there == value => {}
                Some(there) => lines.push(format!("{series}: {value} against {there}")),
                None => lines.push(format!("{series}: {value} against none")),
            }
        }
        for (series, value) in &other.0 {
            if !self.0.contains_key(series) {
                lines.push(format!("{series}: none against {value}"));
            }
        }
        lines
    }
}

fn parse_line(line: &str) -> Option<(Series, f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = parse_value(after)?;
            labels.insert(key.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((
        Series {
            name: name.to_owned(),
            labels,
        },
        value,
    ))
}

/// A label value up to its closing quote, and what follows that.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                _ => return None,
            },
            _ => value.push(c),
        }
    }
    None
}

#[test]
fn reads_labels_with_quotes_commas_and_newlines() {
    let text = "# TYPE a gauge\na{x=\"1\",y=\"q\\\"}\\\\,\\n\"} 2.5 1700000000\nb 3\nc_bucket{le=\"+Inf\"} +Inf # {} 1\n";
    let samples = Samples::parse(text);
    assert_eq!(samples.len(), 3);
    assert_eq!(samples.sum("a", &[("y", "q\"}\\,\n")]), 2.5);
    assert_eq!(samples.sum("b", &[]), 3.0);
    assert_eq!(samples.sum("c_bucket", &[("le", "+Inf")]), f64::INFINITY);
}

#[test]
#[should_panic(expected = "comes twice")]
fn refuses_a_series_that_comes_twice() {
    Samples::parse("a{x=\"1\"} 1\na{x=\"1\"} 2\n");
}
