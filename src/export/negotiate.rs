//! Which form a scrape is answered in, and the two conversions that takes. Pure functions: bytes and
//! header values in, bytes and header values out.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::io::{self, BufWriter, IntoInnerError, Write};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4, which every scraper reads; the answer to a request without `Accept`.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// How a scraper wants names outside `[a-zA-Z0-9_:]` written. No name here is outside, so every
/// scheme yields the same bytes; naming the one asked for tells Prometheus 3 that it was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// `allow-utf-8`
    AllowUtf8,
    /// `underscores`
    Underscores,
    /// `dots`
    Dots,
    /// `values`
    Values,
}

/// What [`exposition`] settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exposition {
    /// The format.
    pub format: Format,
    /// The escaping scheme the chosen media range asked for, if any.
    pub escaping: Option<Escaping>,
}

impl Exposition {
    /// The `Content-Type` to answer with.
    pub fn content_type(self) -> &'static str {
        macro_rules! with_escaping {
            ($base:literal) => {
                match self.escaping {
                    None => $base,
                    Some(Escaping::AllowUtf8) => concat!($base, "; escaping=allow-utf-8"),
                    Some(Escaping::Underscores) => concat!($base, "; escaping=underscores"),
                    Some(Escaping::Dots) => concat!($base, "; escaping=dots"),
                    Some(Escaping::Values) => concat!($base, "; escaping=values"),
                }
            };
        }
        match self.format {
            Format::Text => with_escaping!("text/plain; version=0.0.4; charset=utf-8"),
            Format::OpenMetrics => {
                with_escaping!("application/openmetrics-text; version=1.0.0; charset=utf-8")
            }
        }
    }
}

/// How closely a media range names a format; a closer one overrides a wider one, whatever their q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Anything,
    Type,
    Subtype,
    Version,
}

/// What the `Accept` header says of one format.
#[derive(Clone, Copy)]
struct Offer {
    closeness: Closeness,
    /// Thousandths.
    q: u16,
    escaping: Option<Escaping>,
}

/// Chooses the exposition for an `Accept` header.
///
/// The higher q wins; then the format named more closely; then text, so that `*/*` gets what every
/// scraper reads. A header that admits neither gets text as well: to a monitoring system a readable
/// answer of the wrong type is worth more than a 406.
pub fn exposition(accept: Option<&str>) -> Exposition {
    let mut text: Option<Offer> = None;
    let mut open_metrics: Option<Offer> = None;
    for range in split_unquoted(accept.unwrap_or_default(), ',') {
        let Some(range) = MediaRange::parse(range) else {
            continue;
        };
        for (format, slot) in [
            (Format::Text, &mut text),
            (Format::OpenMetrics, &mut open_metrics),
        ] {
            let Some(closeness) = range.closeness_to(format) else {
                continue;
            };
            if slot.is_none_or(|known| closeness > known.closeness) {
                *slot = Some(Offer {
                    closeness,
                    q: range.q,
                    escaping: range.escaping,
                });
            }
        }
    }
    let rank = |offer: Offer| (offer.q, offer.closeness);
    match (text, open_metrics) {
        (text, Some(offer)) if offer.q > 0 && text.is_none_or(|t| rank(offer) > rank(t)) => {
            Exposition {
                format: Format::OpenMetrics,
                escaping: offer.escaping,
            }
        }
        (Some(offer), _) if offer.q > 0 => Exposition {
            format: Format::Text,
            escaping: offer.escaping,
        },
        _ => Exposition {
            format: Format::Text,
            escaping: None,
        },
    }
}

struct MediaRange<'a> {
    main: &'a str,
    sub: &'a str,
    version: Option<&'a str>,
    q: u16,
    escaping: Option<Escaping>,
}

impl<'a> MediaRange<'a> {
    /// `None` for what is no media range, or one whose q cannot be read.
    fn parse(range: &'a str) -> Option<Self> {
        let mut parts = split_unquoted(range, ';');
        let (main, sub) = parts.next()?.trim().split_once('/')?;
        let mut parsed = MediaRange {
            main,
            sub,
            version: None,
            q: 1000,
            escaping: None,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                parsed.q = thousandths(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                parsed.version = Some(value);
            } else if name.eq_ignore_ascii_case("escaping") {
                parsed.escaping = match value {
                    "allow-utf-8" => Some(Escaping::AllowUtf8),
                    "underscores" => Some(Escaping::Underscores),
                    "dots" => Some(Escaping::Dots),
                    "values" => Some(Escaping::Values),
                    _ => None,
                };
            }
        }
        Some(parsed)
    }

    /// `None` when the range does not cover the format. `text/plain;version=1.0.0` is another format
    /// (UTF-8 names) and does not cover 0.0.4, nor OpenMetrics 0.0.1 the 1.0.0 written here.
    fn closeness_to(&self, format: Format) -> Option<Closeness> {
        let (main, sub, version) = match format {
            Format::Text => ("text", "plain", "0.0.4"),
            Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        };
        if self.main == "*" && self.sub == "*" {
            return Some(Closeness::Anything);
        }
        if !self.main.eq_ignore_ascii_case(main) {
            return None;
        }
        if self.sub == "*" {
            return Some(Closeness::Type);
        }
        if !self.sub.eq_ignore_ascii_case(sub) {
            return None;
        }
        match self.version {
            None => Some(Closeness::Subtype),
            Some(asked) if asked == version => Some(Closeness::Version),
            Some(_) => None,
        }
    }
}

/// Whether an `Accept-Encoding` header asks for gzip, and does not like it less than plain bytes.
///
/// Without the header nothing is encoded: a scraper that did not ask may not be able to read it.
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for coding in accept_encoding.unwrap_or_default().split(',') {
        let mut parts = coding.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let mut q = Some(1000);
        for part in parts {
            if let Some((key, value)) = part.split_once('=')
                && key.trim().eq_ignore_ascii_case("q")
            {
                q = thousandths(value.trim());
            }
        }
        let Some(q) = q else { continue };
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            gzip = gzip.max(Some(q));
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(q);
        } else if name == "*" {
            any = Some(q);
        }
    }
    let q = gzip.or(any).unwrap_or(0);
    q > 0 && q >= identity.unwrap_or(0)
}

/// Compresses at level 1: an exposition repeats itself so much that this already takes most of it
/// away, and higher levels cost several times the time for what is left.
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut packer = Packer::default();
    packer.write_all(bytes).expect("a Vec takes every write");
    packer.finish().0
}

/// Compresses what is written to it, at level 1 too. Gathered first: JSON is written by the comma, and
/// each call of the encoder costs a thousand times that.
#[derive(Debug)]
pub struct Packer {
    encoder: BufWriter<GzEncoder<Vec<u8>>>,
    length: u64,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer {
            encoder: BufWriter::with_capacity(
                32 * 1024,
                GzEncoder::new(Vec::new(), Compression::fast()),
            ),
            length: 0,
        }
    }
}

impl Packer {
    /// The gzip member, and the length of what is in it.
    pub fn finish(self) -> (Bytes, u64) {
        let encoder = self.encoder.into_inner();
        let packed = encoder.map_err(IntoInnerError::into_error);
        let packed = packed.and_then(GzEncoder::finish);
        (packed.expect("a Vec takes every write").into(), self.length)
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Derives text 0.0.4 from the OpenMetrics that prometheus-client writes.
///
/// OpenMetrics heads a counter with the family name, text 0.0.4 with the name of its samples, so
/// `# HELP` and `# TYPE` of counters get `_total`; raw, every counter reads as untyped and without
/// help. `# UNIT` and `# EOF` are unknown to text and go. All else is the same in both for the types
/// exported here (counter, gauge, histogram) and is copied byte for byte.
///
/// A line is a header only where it begins as one: label values cannot begin a line, since newlines
/// in them are escaped, and help texts stand behind `# HELP name `.
pub fn open_metrics_to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 64);
    let mut lines = open_metrics.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type follows on the next line and decides on the name in this one.
            match (
                rest.split_once(' '),
                lines.peek().and_then(|next| counter(next)),
            ) {
                (Some((name, help)), Some(counter)) if name == counter => {
                    ["# HELP ", name, "_total ", help]
                        .into_iter()
                        .for_each(|piece| text.push_str(piece));
                }
                _ => text.push_str(line),
            }
        } else if let Some(name) = counter(line) {
            ["# TYPE ", name, "_total counter\n"]
                .into_iter()
                .for_each(|piece| text.push_str(piece));
        } else if !line.starts_with("# UNIT ") && line.trim_end() != "# EOF" {
            text.push_str(line);
        }
    }
    text
}

/// The family that a `# TYPE … counter` line heads.
fn counter(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?
        .trim_end_matches('\n')
        .strip_suffix(" counter")
}

/// A q-value in thousandths; `None` when it is none.
fn thousandths(q: &str) -> Option<u16> {
    let q: f32 = q.parse().ok()?;
    // Between 0 and 1000 the conversion is exact; NaN is outside the range.
    (0.0..=1.0)
        .contains(&q)
        .then(|| (q * 1000.0).round() as u16)
}

/// Splits at a separator that is not inside a quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    #[test]
    fn accept_headers_of_real_scrapers() {
        for (client, accept, expected) in [
            (
                "Prometheus 2.42",
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OPEN_METRICS.to_owned(),
            ),
            (
                "Prometheus 3.5",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                format!("{OPEN_METRICS}; escaping=allow-utf-8"),
            ),
            (
                "Prometheus 3 told to use legacy names",
                "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                format!("{OPEN_METRICS}; escaping=underscores"),
            ),
            (
                "Prometheus 3 told to prefer text",
                "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.2",
                TEXT.to_owned(),
            ),
            (
                "Prometheus asking for protobuf first",
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                TEXT.to_owned(),
            ),
            ("curl", "*/*", TEXT.to_owned()),
            (
                "Firefox",
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                TEXT.to_owned(),
            ),
            (
                "VictoriaMetrics",
                "text/plain;version=0.0.4;q=1,*/*;q=0.1",
                TEXT.to_owned(),
            ),
        ] {
            assert_eq!(
                exposition(Some(accept)).content_type(),
                expected,
                "{client}"
            );
        }
        assert_eq!(exposition(None).content_type(), TEXT);
    }

    #[test]
    fn accept_by_the_letter() {
        use Format::{OpenMetrics, Text};
        for (accept, expected) in [
            ("", Text),
            (" , ,", Text),
            ("nonsense", Text),
            ("application/json", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=1.0.0", OpenMetrics),
            (
                "application/openmetrics-text; version=\"1.0.0\"",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=0.0.1", Text),
            ("application/openmetrics-text;version=2.0.0", Text),
            ("application/*", OpenMetrics),
            ("text/*", Text),
            ("application/*;q=0.5, text/*;q=0.4", OpenMetrics),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0, */*", Text),
            ("text/plain;q=0, */*", OpenMetrics),
            ("text/plain;q=0, application/openmetrics-text;q=0", Text),
            // The closer range decides for its format, in either order.
            ("*/*;q=1, application/openmetrics-text;q=0.5", Text),
            ("application/openmetrics-text;q=0.5, */*;q=1", Text),
            ("text/plain;q=0.1, */*;q=0.2", OpenMetrics),
            // Equal q: the one named, not the one covered.
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/openmetrics-text, text/plain", Text),
            (
                "application/openmetrics-text;version=1.0.0, text/plain",
                OpenMetrics,
            ),
            // What cannot be read asks for nothing.
            ("application/openmetrics-text;q=high", Text),
            ("application/openmetrics-text;q=2", Text),
            ("application/openmetrics-text;q=-1", Text),
            ("application/openmetrics-text;q=NaN", Text),
            // Separators inside quotes are text.
            (
                "text/plain;note=\"a,application/openmetrics-text;q=1\\\",b\";q=0.5",
                Text,
            ),
        ] {
            assert_eq!(exposition(Some(accept)).format, expected, "{accept}");
        }
        let unknown = exposition(Some("application/openmetrics-text;escaping=rot13"));
        assert_eq!(unknown.content_type(), OPEN_METRICS);
    }

    #[test]
    fn gzip_only_for_those_who_ask() {
        for (header, expected) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("GZIP;q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("identity, *;q=0.5", false),
            ("identity;q=1, gzip;q=0.5", false),
            ("identity;q=0, gzip;q=0.5", true),
            ("zstd, br", false),
            ("gzipped", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(Some(header)), expected, "{header:?}");
        }
        assert!(!accepts_gzip(None));
    }

    #[test]
    fn gzip_gives_back_what_it_got() {
        for plain in [Vec::new(), b"rbac_subjects{kind=\"User\"} 1\n".repeat(5000)] {
            let packed = gzip(&plain);
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked, plain);
        }
    }

    #[test]
    fn text_differs_from_open_metrics_in_counter_headers_unit_and_eof_alone() {
        let open_metrics = "\
# HELP rbac_subjects Subjects.
# TYPE rbac_subjects gauge
rbac_subjects{namespace=\"a\",kind=\"User\"} 1
# HELP rbac_subject_escalations Rises. # TYPE rbac_subjects counter
# TYPE rbac_subject_escalations counter
rbac_subject_escalations_total{namespace=\"\",priority=\"high\"} 0
# HELP process_cpu_seconds CPU.
# TYPE process_cpu_seconds counter
# UNIT process_cpu_seconds seconds
process_cpu_seconds_total 1.5
# HELP empty_help 
# TYPE empty_help counter
empty_help_total 2
# HELP took_seconds Time.
# TYPE took_seconds histogram
# UNIT took_seconds seconds
took_seconds_bucket{le=\"+Inf\"} 0
took_seconds_count 0
# EOF
";
        let text = "\
# HELP rbac_subjects Subjects.
# TYPE rbac_subjects gauge
rbac_subjects{namespace=\"a\",kind=\"User\"} 1
# HELP rbac_subject_escalations_total Rises. # TYPE rbac_subjects counter
# TYPE rbac_subject_escalations_total counter
rbac_subject_escalations_total{namespace=\"\",priority=\"high\"} 0
# HELP process_cpu_seconds_total CPU.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# HELP empty_help_total 
# TYPE empty_help_total counter
empty_help_total 2
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{le=\"+Inf\"} 0
took_seconds_count 0
";
        assert_eq!(open_metrics_to_text(open_metrics), text);
        assert_eq!(open_metrics_to_text(""), "");
        assert_eq!(open_metrics_to_text("# EOF"), "");
    }

    /// Through prometheus-client itself, so that a release which writes its headers otherwise shows.
    #[test]
    fn hostile_labels_and_helps_pass_untouched() {
        use prometheus_client::{
            encoding::text::encode,
            metrics::{counter::Counter, family::Family, gauge::Gauge},
            registry::{Registry, Unit},
        };
        let hostile = [
            "\n# EOF\n",
            "\n# TYPE victim counter\n",
            "x\n# HELP victim Help.\n# TYPE victim counter\n# UNIT victim seconds\nvictim_total 1",
            "\" counter\n# EOF",
            "\\\n# EOF",
            "\r# EOF\r",
            "# UNIT a b",
            " counter",
            "\u{2028}# EOF\u{85}",
        ];
        let mut registry = Registry::default();
        let gauge = Family::<Vec<(String, String)>, Gauge>::default();
        let counter = Family::<Vec<(String, String)>, Counter>::default();
        for value in hostile {
            let labels = vec![("name".to_owned(), value.to_owned())];
            gauge.get_or_create_owned(&labels).set(7);
            counter.get_or_create_owned(&labels).inc();
        }
        registry.register("holding", "Looks like # TYPE holding counter", gauge);
        registry.register_with_unit("spent", "Ends in # EOF counter", Unit::Seconds, counter);
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &registry).unwrap();
        let text = open_metrics_to_text(&open_metrics);

        let samples = |all: &str| -> Vec<String> {
            all.split('\n')
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(samples(&text), samples(&open_metrics));
        assert_eq!(samples(&text).len(), 2 * hostile.len() + 1);
        let headers: Vec<_> = text
            .split('\n')
            .filter(|line| line.starts_with('#'))
            .collect();
        assert_eq!(
            headers,
            [
                "# HELP holding Looks like # TYPE holding counter.",
                "# TYPE holding gauge",
                "# HELP spent_seconds_total Ends in # EOF counter.",
                "# TYPE spent_seconds_total counter",
            ]
        );
    }
}
