//! What the process says of itself: one subscriber, on stderr, since stdout belongs to reports.
//!
//! The flags are the only way to set it. `RUST_LOG` is not read: in a shell or a pod it is usually
//! meant for some other program, and a log that an inherited variable has silenced is noticed on the
//! day it is needed.

use clap::ValueEnum;
use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::{LevelFilter, ParseError, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// Value of `--log.level`: one of five words, or a filter such as `info,kube_client=debug`.
///
/// A word is the level of the exporter. At `debug` and `trace` libraries are held one step quieter;
/// below, the API client to errors: it reports every failed request, and so does the exporter, with
/// the reason and what follows from it. A filter is taken as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    fn directives(&self) -> &str {
        match self.0.as_str() {
            "warn" => "warn,kube_client=error,kube_client::client::builder=off",
            "info" => "info,kube_client=error,kube_client::client::builder=off",
            "debug" => "info,rbac_exporter=debug,kube_client::client::builder=off",
            "trace" => "debug,rbac_exporter=trace",
            other => other,
        }
    }

    fn filter(&self) -> Result<Targets, ParseError> {
        self.directives().parse()
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        LogLevel("info".to_owned())
    }
}

impl FromStr for LogLevel {
    type Err = LogError;

    fn from_str(level: &str) -> Result<Self, LogError> {
        let level = LogLevel(level.trim().to_owned());
        // A single bare word is a level; a filter would take any other for the name of a module,
        // and `--log.level=infos` would silence everything.
        let word = level.0.chars().all(|c| c.is_ascii_alphanumeric());
        let known = ["error", "warn", "info", "debug", "trace", "off"].contains(&level.0.as_str());
        if word && !known {
            return Err(LogError::Level {
                level: level.0,
                reason: "it is none of error, warn, info, debug, trace".to_owned(),
            });
        }
        if level.0.split(',').any(|part| part.trim().starts_with('=')) {
            return Err(LogError::Level {
                level: level.0,
                reason: "a level stands for no module".to_owned(),
            });
        }
        match level.filter() {
            Ok(_) => Ok(level),
            Err(error) => Err(LogError::Level {
                level: level.0,
                reason: error.to_string(),
            }),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Value of `--log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `ts=… level=info msg="…" key=value`, one event a line.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level does not parse.
    #[error(
        "log level {level:?} is not valid: {reason}; give a level, or a filter such as info,kube_client=debug"
    )]
    Level {
        /// As given.
        level: String,
        /// Why.
        reason: String,
    },
    /// A subscriber is there already.
    #[error("logging is set up already")]
    Twice,
}

/// Sets logging up for the whole process; once.
pub fn init(level: &LogLevel, format: LogFormat) -> Result<(), LogError> {
    // https://no-color.org: present and not empty.
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = io::stderr().is_terminal() && !refused;
    let subscriber = subscriber(level, format, ansi, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(
    level: &LogLevel,
    format: LogFormat,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = level.filter().map_err(|error| LogError::Level {
        level: level.0.clone(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(writer)
        // On a failed write the library would report to stderr, which is what just failed, and panic.
        .log_internal_errors(false);
    Ok(match format {
        LogFormat::Logfmt => {
            let lines = builder.with_ansi(ansi).event_format(Logfmt);
            Box::new(lines.finish().with(filter))
        }
        LogFormat::Json => Box::new(
            builder
                .with_ansi(false)
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .finish()
                .with(filter),
        ),
    })
}

/// Writes events as logfmt, the form of the Prometheus family.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let (name, colour) = match *meta.level() {
            Level::ERROR => ("error", 31),
            Level::WARN => ("warn", 33),
            Level::INFO => ("info", 32),
            Level::DEBUG => ("debug", 34),
            Level::TRACE => ("trace", 35),
        };
        writer.write_str("ts=")?;
        SystemTime.format_time(&mut writer)?;
        if writer.has_ansi_escapes() {
            write!(writer, " level=\x1b[{colour}m{name}\x1b[0m")?;
        } else {
            write!(writer, " level={name}")?;
        }
        write!(writer, " target={}", meta.target())?;
        let mut fields = Fields {
            writer: &mut writer,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        writer.write_char('\n')
    }
}

/// Appends ` key=value` for each field.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    fn put(&mut self, field: &Field, value: &str) {
        if self.result.is_err() {
            return;
        }
        let name = match field.name() {
            "message" => "msg",
            name => name.strip_prefix("r#").unwrap_or(name),
        };
        // Values come from the cluster as well. Whatever could end a line, a value or a terminal's
        // good behaviour is escaped.
        let plain = |c: char| c.is_alphanumeric() || "-_./:+@,*()[]%".contains(c);
        self.result = if !value.is_empty() && value.chars().all(plain) {
            write!(self.writer, " {name}={value}")
        } else {
            write!(self.writer, " {name}={value:?}")
        };
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `f` logs.
    fn logged(level: &str, format: LogFormat, ansi: bool, f: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(&level.parse().unwrap(), format, ansi, move || {
            writer.clone()
        })
        .unwrap();
        tracing::subscriber::with_default(subscriber, f);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    fn without_time(line: &str) -> &str {
        line.strip_prefix("ts=20")
            .unwrap()
            .split_once(' ')
            .unwrap()
            .1
    }

    #[test]
    fn logfmt_quotes_what_could_mislead() {
        let line = logged("info", LogFormat::Logfmt, false, || {
            tracing::info!(
                target: "t",
                name = "a b\" level=error\n\u{1b}[31m",
                resource = %"clusterroles/x",
                pods = 3,
                ok = true,
                empty = "",
                r#type = "User",
                "watch restarted"
            );
        });
        assert_eq!(
            without_time(&line),
            "level=info target=t msg=\"watch restarted\" \
             name=\"a b\\\" level=error\\n\\u{1b}[31m\" resource=clusterroles/x pods=3 ok=true \
             empty=\"\" type=User\n"
        );
    }

    #[test]
    fn colour_only_when_told() {
        let say = || tracing::warn!(target: "t", "x");
        assert!(logged("info", LogFormat::Logfmt, true, say).contains("\u{1b}[33mwarn\u{1b}[0m"));
        assert!(!logged("info", LogFormat::Logfmt, false, say).contains('\u{1b}'));
        assert!(!logged("info", LogFormat::Json, true, say).contains('\u{1b}'));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let page = logged("info", LogFormat::Json, false, || {
            tracing::info!(target: "t", name = "a\nb", "first");
            tracing::error!(target: "t", "second");
        });
        let events: Vec<serde_json::Value> = page
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["message"], "first");
        assert_eq!(events[0]["name"], "a\nb");
        assert_eq!(events[0]["level"], "INFO");
        assert_eq!(events[1]["level"], "ERROR");
    }

    #[test]
    fn levels_hold_libraries_quieter() {
        let say = || {
            tracing::warn!(target: "kube_client::client", "library");
            tracing::debug!(target: "hyper", "library");
            tracing::debug!(target: "rbac_exporter::source", "own");
            tracing::info!(target: "rbac_exporter", "own");
        };
        let count = |level: &str| {
            let page = logged(level, LogFormat::Logfmt, false, say);
            (
                page.matches("msg=library").count(),
                page.matches("msg=own").count(),
            )
        };
        assert_eq!(count("error"), (0, 0));
        assert_eq!(count("warn"), (0, 0));
        assert_eq!(count("info"), (0, 1));
        assert_eq!(count("debug"), (1, 2));
        assert_eq!(count("trace"), (2, 2));
        assert_eq!(count("off"), (0, 0));
        assert_eq!(count("off,hyper=debug"), (1, 0));
    }

    #[test]
    fn a_level_that_is_none_is_refused_in_one_sentence() {
        for level in ["infos", "", "INFO2", "info,=,", "info,kube_client=loud"] {
            let error = level.parse::<LogLevel>().unwrap_err().to_string();
            assert!(error.starts_with("log level \""), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(LogLevel::default().to_string(), "info");
        assert_eq!(LogFormat::from_str("json", true), Ok(LogFormat::Json));
    }
}
